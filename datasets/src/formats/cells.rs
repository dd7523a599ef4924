//! Columns under construction: plain vectors that can be cut back, so that a record that fails half-way leaves nothing behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Date32Type, Field, Fields, TimestampMicrosecondType};

use super::types::{ColumnType, arrow_fields};
use crate::DataError;
use crate::base64;

/// Names of unknown fields that are counted one by one; more than these are counted under `…`.
const MAX_UNKNOWN: usize = 1000;

/// Why a value does not fit into its column.
#[derive(Debug, Default)]
pub(crate) struct Misfit {
    /// Names from the value up to the record.
    pub(crate) path: Vec<String>,
    /// What was wanted and what was found; empty if nothing went wrong.
    pub(crate) detail: String,
}

/// One column, or one part of a nested one.
pub(crate) struct Cells {
    pub(crate) valid: Vec<bool>,
    pub(crate) data: Data,
    /// Whether a part of it takes any value as JSON.
    pub(crate) takes_json: bool,
    column_type: ColumnType,
}

pub(crate) enum Data {
    Bool(Vec<bool>),
    Int { values: Vec<i64>, min: i64, max: i64 },
    UInt { values: Vec<u64>, max: u64 },
    Float { values: Vec<f64>, single: bool },
    Text(Bytes),
    Json(Bytes),
    Binary(Bytes),
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    List { offsets: Vec<i32>, items: Box<Cells> },
    Struct(Members),
}

/// Values of varying length, end to end.
pub(crate) struct Bytes {
    offsets: Vec<i32>,
    pub(crate) bytes: Vec<u8>,
}

/// The fields of a struct.
pub(crate) struct Members {
    pub(crate) cells: Vec<Cells>,
    names: Vec<String>,
    index: HashMap<String, usize>,
    /// Fields that records have and the struct has not.
    unknown: BTreeMap<String, u64>,
    /// Places of the fields that the last record lacked.
    pub(crate) lacking: Vec<usize>,
}

impl Bytes {
    fn new() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }

    /// Ends the value that was appended to `bytes`; false if the column has grown past 2 GiB.
    pub(crate) fn end_value(&mut self) -> bool {
        match i32::try_from(self.bytes.len()) {
            Ok(end) => {
                self.offsets.push(end);
                true
            }
            Err(_) => false,
        }
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let end = self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        self.bytes.truncate(end);
    }

    /// The values; the next batch will be about as long. What was kept free is given back, since batches may be kept.
    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        let next =
            Self { offsets: Vec::with_capacity(self.offsets.len()), bytes: Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16) };
        let mut taken = std::mem::replace(self, next);
        self.offsets.push(0);
        taken.offsets.shrink_to_fit();
        taken.bytes.shrink_to_fit();
        (OffsetBuffer::new(taken.offsets.into()), taken.bytes)
    }
}

impl Members {
    /// The place of field `name`; `expected` is where it stands if records have the fields in order.
    pub(crate) fn find(&self, name: &str, expected: usize) -> Option<usize> {
        match self.names.get(expected) {
            Some(there) if there == name => Some(expected),
            _ => self.index.get(name).copied(),
        }
    }

    /// Ends the record of row `row`: the fields that it lacks are null.
    pub(crate) fn end_record(&mut self, row: usize) {
        self.lacking.clear();
        for (place, cells) in self.cells.iter_mut().enumerate() {
            if cells.len() == row {
                cells.push_null();
                self.lacking.push(place);
            }
        }
    }

    pub(crate) fn name(&self, place: usize) -> &str {
        self.names.get(place).map_or("", String::as_str)
    }

    pub(crate) fn count_unknown(&mut self, name: &str) {
        if let Some(count) = self.unknown.get_mut(name) {
            *count += 1;
        } else {
            let name = if self.unknown.len() < MAX_UNKNOWN { name } else { "…" };
            *self.unknown.entry(name.to_owned()).or_default() += 1;
        }
    }
}

impl Cells {
    pub(crate) fn new(column_type: &ColumnType) -> Self {
        let data = match column_type {
            ColumnType::Text => Data::Text(Bytes::new()),
            ColumnType::Json => Data::Json(Bytes::new()),
            ColumnType::List(item) => Data::List { offsets: vec![0], items: Box::new(Self::new(item)) },
            ColumnType::Struct(fields) => Data::Struct(Members {
                cells: fields.iter().map(|(_, field)| Self::new(field)).collect(),
                names: fields.iter().map(|(name, _)| name.clone()).collect(),
                index: fields.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect(),
                unknown: BTreeMap::new(),
                lacking: Vec::new(),
            }),
            ColumnType::Plain(data_type) => plain(data_type),
        };
        let takes_json = match &data {
            Data::Json(_) => true,
            Data::List { items, .. } => items.takes_json,
            Data::Struct(members) => members.cells.iter().any(|cells| cells.takes_json),
            _ => false,
        };
        Self { valid: Vec::new(), data, takes_json, column_type: column_type.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    pub(crate) fn column_type(&self) -> &ColumnType {
        &self.column_type
    }

    /// Cuts back to the first `len` values.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
        match &mut self.data {
            Data::Bool(values) => values.truncate(len),
            Data::Int { values, .. } | Data::Timestamp(values) => values.truncate(len),
            Data::UInt { values, .. } => values.truncate(len),
            Data::Float { values, .. } => values.truncate(len),
            Data::Text(bytes) | Data::Json(bytes) | Data::Binary(bytes) => bytes.truncate(len),
            Data::Date(values) => values.truncate(len),
            Data::List { offsets, items } => {
                offsets.truncate(len + 1);
                items.truncate(offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0));
            }
            Data::Struct(members) => members.cells.iter_mut().for_each(|cells| cells.truncate(len)),
        }
    }

    pub(crate) fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.data {
            Data::Bool(values) => values.push(false),
            Data::Int { values, .. } | Data::Timestamp(values) => values.push(0),
            Data::UInt { values, .. } => values.push(0),
            Data::Float { values, .. } => values.push(0.0),
            Data::Text(bytes) | Data::Json(bytes) | Data::Binary(bytes) => {
                let end = bytes.offsets.last().copied().unwrap_or(0);
                bytes.offsets.push(end);
            }
            Data::Date(values) => values.push(0),
            Data::List { offsets, .. } => {
                let end = offsets.last().copied().unwrap_or(0);
                offsets.push(end);
            }
            Data::Struct(members) => members.cells.iter_mut().for_each(Cells::push_null),
        }
    }

    /// Adds a truth value; else says what was wanted and found.
    pub(crate) fn push_bool(&mut self, value: bool) -> Result<(), String> {
        match &mut self.data {
            Data::Bool(values) => values.push(value),
            Data::Json(_) => return self.push_json(if value { b"true" } else { b"false" }),
            _ => return Err(self.misfit(&value)),
        }
        self.valid.push(true);
        Ok(())
    }

    pub(crate) fn push_i64(&mut self, value: i64) -> Result<(), String> {
        match &mut self.data {
            Data::Int { values, min, max } if (*min..=*max).contains(&value) => values.push(value),
            Data::UInt { values, max } if u64::try_from(value).is_ok_and(|value| value <= *max) => values.push(value.unsigned_abs()),
            Data::Float { values, .. } => values.push(value as f64),
            Data::Json(_) => return self.push_json(value.to_string().as_bytes()),
            _ => return Err(self.misfit(&value)),
        }
        self.valid.push(true);
        Ok(())
    }

    pub(crate) fn push_u64(&mut self, value: u64) -> Result<(), String> {
        match (i64::try_from(value), &mut self.data) {
            (Ok(value), Data::Int { .. }) => return self.push_i64(value),
            (_, Data::UInt { values, max }) if value <= *max => values.push(value),
            (_, Data::Float { values, .. }) => values.push(value as f64),
            (_, Data::Json(_)) => return self.push_json(value.to_string().as_bytes()),
            _ => return Err(self.misfit(&value)),
        }
        self.valid.push(true);
        Ok(())
    }

    /// A whole number written as `3.0` fits an integer column, as long as the float is exact.
    pub(crate) fn push_f64(&mut self, value: f64) -> Result<(), String> {
        const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
        match &mut self.data {
            #[expect(clippy::cast_possible_truncation, reason = "whether it overflows is what is asked")]
            Data::Float { values, single } if !*single || (value as f32).is_finite() || !value.is_finite() => values.push(value),
            Data::Int { .. } | Data::UInt { .. } if value.fract() == 0.0 && value.abs() <= EXACT => {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
                return self.push_i64(value as i64);
            }
            Data::Json(_) => return self.push_json(serde_json::to_string(&value).map_err(|error| error.to_string())?.as_bytes()),
            _ => return Err(self.misfit(&value)),
        }
        self.valid.push(true);
        Ok(())
    }

    pub(crate) fn push_str(&mut self, value: &str) -> Result<(), String> {
        let fits = match &mut self.data {
            Data::Text(bytes) | Data::Json(bytes) => {
                bytes.bytes.extend_from_slice(value.as_bytes());
                bytes.end_value()
            }
            Data::Binary(bytes) => {
                if !base64::decode(value.as_bytes(), &mut bytes.bytes) {
                    return Err("wanted binary as base64, found other text".to_owned());
                }
                bytes.end_value()
            }
            Data::Date(values) => match Date32Type::parse(value) {
                Some(date) => {
                    values.push(date);
                    true
                }
                None => return Err(self.misfit(&value)),
            },
            Data::Timestamp(values) => match TimestampMicrosecondType::parse(value) {
                Some(time) => {
                    values.push(time);
                    true
                }
                None => return Err(self.misfit(&value)),
            },
            _ => return Err(self.misfit(&value)),
        };
        if !fits {
            return Err(TOO_MUCH.to_owned());
        }
        self.valid.push(true);
        Ok(())
    }

    /// Adds text that is no JSON: a field of a CSV file.
    pub(crate) fn push_field(&mut self, value: &str) -> Result<(), String> {
        let trimmed = value.trim();
        match &self.data {
            Data::Bool(_) => match trimmed.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "1" => self.push_bool(true),
                "false" | "f" | "no" | "0" => self.push_bool(false),
                _ => Err(self.misfit(&value)),
            },
            Data::Int { .. } | Data::UInt { .. } => match (trimmed.parse::<i64>(), trimmed.parse::<u64>()) {
                (Ok(number), _) => self.push_i64(number),
                (_, Ok(number)) => self.push_u64(number),
                _ => Err(self.misfit(&value)),
            },
            Data::Float { .. } => match trimmed.parse::<f64>() {
                Ok(number) => self.push_f64(number),
                Err(_) => Err(self.misfit(&value)),
            },
            Data::Date(_) | Data::Timestamp(_) => self.push_str(trimmed),
            _ => self.push_str(value),
        }
    }

    pub(crate) fn push_json(&mut self, text: &[u8]) -> Result<(), String> {
        let Data::Json(bytes) = &mut self.data else { return Err(self.misfit(&"")) };
        bytes.bytes.extend_from_slice(text);
        if !bytes.end_value() {
            return Err(TOO_MUCH.to_owned());
        }
        self.valid.push(true);
        Ok(())
    }

    /// Ends a list whose items were added.
    pub(crate) fn end_list(&mut self) -> Result<(), String> {
        let Data::List { offsets, items } = &mut self.data else { return Err(self.misfit(&"")) };
        offsets.push(i32::try_from(items.len()).map_err(|_| TOO_MUCH.to_owned())?);
        self.valid.push(true);
        Ok(())
    }

    /// What was wanted here, and that `found` is not it.
    pub(crate) fn misfit(&self, found: &(impl serde::Serialize + ?Sized)) -> String {
        let mut found = serde_json::to_string(found).unwrap_or_default();
        if let Some((cut, _)) = found.char_indices().nth(60) {
            found.truncate(cut);
            found.push('…');
        }
        format!("wanted {}, found {found}", self.column_type)
    }

    /// Counts of the fields that records have and the columns have not, by their path.
    pub(crate) fn unknown(&self, path: &str, counts: &mut BTreeMap<String, u64>) {
        match &self.data {
            Data::List { items, .. } => items.unknown(path, counts),
            Data::Struct(members) => {
                let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                for (name, count) in &members.unknown {
                    *counts.entry(join(name)).or_default() += count;
                }
                for (cells, name) in members.cells.iter().zip(&members.names) {
                    cells.unknown(&join(name), counts);
                }
            }
            _ => {}
        }
    }

    /// The values as an Arrow array; leaves none.
    pub(crate) fn take(&mut self) -> Result<ArrayRef, DataError> {
        let valid = std::mem::take(&mut self.valid);
        let len = valid.len();
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        let array: ArrayRef = match &mut self.data {
            Data::Bool(values) => Arc::new(BooleanArray::new(std::mem::take(values).into(), nulls)),
            Data::Int { values, .. } => Arc::new(Int64Array::new(std::mem::take(values).into(), nulls)),
            Data::UInt { values, .. } => Arc::new(UInt64Array::new(std::mem::take(values).into(), nulls)),
            Data::Float { values, .. } => Arc::new(Float64Array::new(std::mem::take(values).into(), nulls)),
            Data::Text(bytes) => {
                let (offsets, bytes) = bytes.take();
                #[expect(
                    unsafe_code,
                    reason = "every value was appended whole from a str, and checking a text again takes as long as reading it"
                )]
                let texts = unsafe { StringArray::new_unchecked(offsets, bytes.into(), nulls) };
                Arc::new(texts)
            }
            Data::Json(bytes) => {
                let (offsets, bytes) = bytes.take();
                Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?)
            }
            Data::Binary(bytes) => {
                let (offsets, bytes) = bytes.take();
                Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
            }
            Data::Date(values) => Arc::new(Date32Array::new(std::mem::take(values).into(), nulls)),
            Data::Timestamp(values) => Arc::new(TimestampMicrosecondArray::new(std::mem::take(values).into(), nulls).with_timezone("UTC")),
            Data::List { offsets, items } => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let field = Field::new("item", items.column_type.arrow(), true);
                Arc::new(ListArray::try_new(Arc::new(field), offsets, items.take()?, nulls)?)
            }
            Data::Struct(members) => {
                let fields: Fields = match &self.column_type {
                    ColumnType::Struct(fields) => arrow_fields(fields),
                    _ => Fields::empty(),
                };
                let columns = members.cells.iter_mut().map(Cells::take).collect::<Result<Vec<_>, _>>()?;
                if columns.is_empty() {
                    Arc::new(StructArray::new_empty_fields(len, nulls))
                } else {
                    Arc::new(StructArray::try_new(fields, columns, nulls)?)
                }
            }
        };
        let wanted = self.column_type.arrow();
        // Numbers are kept 64 bits wide while they come; each was checked against its range.
        Ok(if *array.data_type() == wanted { array } else { cast(&array, &wanted)? })
    }

    /// The columns of a record as arrays; leaves none.
    pub(crate) fn take_columns(&mut self) -> Result<Vec<ArrayRef>, DataError> {
        self.valid.clear();
        match &mut self.data {
            Data::Struct(members) => members.cells.iter_mut().map(Cells::take).collect(),
            _ => Ok(Vec::new()),
        }
    }
}

/// What is said when 32-bit offsets do not reach.
const TOO_MUCH: &str = "more than 2 GiB of values in one batch";

fn plain(data_type: &DataType) -> Data {
    let int = |min, max| Data::Int { values: Vec::new(), min, max };
    let uint = |max| Data::UInt { values: Vec::new(), max };
    match data_type {
        DataType::Boolean => Data::Bool(Vec::new()),
        DataType::Int8 => int(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => int(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => int(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => int(i64::MIN, i64::MAX),
        DataType::UInt8 => uint(u8::MAX.into()),
        DataType::UInt16 => uint(u16::MAX.into()),
        DataType::UInt32 => uint(u32::MAX.into()),
        DataType::UInt64 => uint(u64::MAX),
        DataType::Float32 => Data::Float { values: Vec::new(), single: true },
        DataType::Float64 => Data::Float { values: Vec::new(), single: false },
        DataType::Binary => Data::Binary(Bytes::new()),
        DataType::Date32 => Data::Date(Vec::new()),
        DataType::Timestamp(_, _) => Data::Timestamp(Vec::new()),
        _ => Data::Json(Bytes::new()),
    }
}
