//! What `group_by` makes of a group's rows: the functions, and the setting that names them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt64Type};
use arrow::row::{RowConverter, SortField};
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};
use schemas::SchemaError;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::StageError;
use crate::keys::{self, KeyColumns};
use crate::units::ColumnName;

/// New columns, each with the function and the column it is made of, in the order written: `{n: count, tokens: sum(n_tokens)}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aggregates(Vec<(ColumnName, Aggregate)>);

impl Aggregates {
    /// The new columns in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ColumnName, &Aggregate)> {
        self.0.iter().map(|(name, aggregate)| (name, aggregate))
    }
}

impl Serialize for Aggregates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, aggregate) in &self.0 {
            map.serialize_entry(name, &aggregate.to_string())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Aggregates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AggregatesVisitor)
    }
}

struct AggregatesVisitor;

impl<'de> Visitor<'de> for AggregatesVisitor {
    type Value = Aggregates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of new columns, each to a function: `{n: count, tokens: sum(n_tokens)}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Aggregates, A::Error> {
        let mut aggregates: Vec<(ColumnName, Aggregate)> = Vec::new();
        while let Some((name, text)) = map.next_entry::<ColumnName, String>()? {
            let aggregate = Aggregate::parse(&text).ok_or_else(|| A::Error::invalid_value(Unexpected::Str(&text), &WANTED))?;
            if aggregates.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(format!("wanted each new column once, found `{name}` twice")));
            }
            aggregates.push((name, aggregate));
        }
        Ok(Aggregates(aggregates))
    }
}

const WANTED: &str =
    "`count`, or a function of a column: count(…), sum(…), mean(…), min(…), max(…), first(…), last(…), n_unique(…) or list(…)";

impl JsonSchema for Aggregates {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Aggregates".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaOf {
        json_schema!({"type": "object", "additionalProperties": {"type": "string", "minLength": 1}})
    }
}

/// A function of a group's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Aggregate {
    /// How many rows.
    Rows,
    /// A function of a column.
    Of(Function, ColumnName),
}

/// A function of one column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    First,
    Last,
    NUnique,
    List,
}

const FUNCTIONS: [(&str, Function); 9] = [
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("mean", Function::Mean),
    ("min", Function::Min),
    ("max", Function::Max),
    ("first", Function::First),
    ("last", Function::Last),
    ("n_unique", Function::NUnique),
    ("list", Function::List),
];

impl Aggregate {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "count" {
            return Some(Self::Rows);
        }
        let (name, column) = text.strip_suffix(')')?.split_once('(')?;
        let (_, function) = FUNCTIONS.iter().find(|(known, _)| *known == name.trim())?;
        let column = column.trim();
        (!column.is_empty()).then(|| Self::Of(*function, ColumnName::owned(column)))
    }

    /// The column it reads.
    pub(super) fn column(&self) -> Option<&ColumnName> {
        match self {
            Self::Rows => None,
            Self::Of(_, column) => Some(column),
        }
    }

    /// The type of the new column.
    ///
    /// # Errors
    /// A column that is not there, or that the function cannot work on.
    pub(super) fn output(&self, name: &ColumnName, input: &Schema) -> Result<DataType, StageError> {
        let Self::Of(function, column) = self else { return Ok(DataType::UInt64) };
        let field = input.field_with_name(column.as_str()).map_err(|_| SchemaError::missing(column.as_str(), input))?;
        let data_type = field.data_type();
        let number = || match data_type {
            data_type if data_type.is_unsigned_integer() => Some(DataType::UInt64),
            data_type if data_type.is_signed_integer() => Some(DataType::Int64),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
            _ => None,
        };
        let comparable = || RowConverter::supports_fields(&[SortField::new(data_type.clone())]);
        let output = match function {
            Function::Count => Some(DataType::UInt64),
            Function::Sum => number(),
            Function::Mean => number().map(|_| DataType::Float64),
            Function::Min | Function::Max => comparable().then(|| data_type.clone()),
            Function::First | Function::Last => Some(data_type.clone()),
            Function::NUnique => comparable().then_some(DataType::UInt64),
            Function::List => Some(DataType::List(Arc::new(Field::new("item", data_type.clone(), true)))),
        };
        let setting = format!("aggregates.{name}");
        output.ok_or_else(|| {
            let wanted =
                if matches!(function, Function::Sum | Function::Mean) { "a column of numbers" } else { "a column that can be compared" };
            StageError::setting(setting, format!("wanted {wanted} in `{self}`, found `{column}: {data_type}`"))
        })
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows => f.write_str("count"),
            Self::Of(function, column) => {
                let name = FUNCTIONS.iter().find(|(_, known)| known == function).map_or("", |(name, _)| name);
                write!(f, "{name}({column})")
            }
        }
    }
}

/// Which rows belong to which group; groups are numbered from 0.
pub(super) struct Groups {
    /// The group of each row.
    pub(super) of_row: Vec<usize>,
    /// The first row of each group.
    pub(super) first: Vec<u32>,
}

/// What a function made of each group.
pub(super) struct Made {
    /// A value a group.
    pub(super) values: ArrayRef,
    /// Groups that have none because their sum is past 64 bits, with the sum.
    pub(super) too_large: Vec<(usize, i128)>,
}

impl From<ArrayRef> for Made {
    fn from(values: ArrayRef) -> Self {
        Self { values, too_large: Vec::new() }
    }
}

impl Aggregate {
    /// The new column's values.
    ///
    /// # Errors
    /// What Arrow says of the rows.
    pub(super) fn make(&self, rows: &RecordBatch, groups: &Groups) -> Result<Made, StageError> {
        let Self::Of(function, name) = self else {
            return Ok(counts(groups, |_| true).into());
        };
        let column =
            rows.column_by_name(name.as_str()).ok_or_else(|| StageError::Internal(format!("the rows of a group lack `{name}`")))?;
        let logical_nulls = column.logical_nulls();
        let is_valid = |row: usize| logical_nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let n = groups.first.len();
        Ok(match function {
            Function::Count => counts(groups, is_valid).into(),
            Function::Sum if column.data_type().is_integer() => return sums(column, groups),
            Function::Sum => {
                let sums = float_sums(column, groups)?;
                let sums: Float64Array = sums.iter().map(|(sum, n)| (*n > 0).then_some(*sum)).collect();
                (Arc::new(sums) as ArrayRef).into()
            }
            Function::Mean => {
                let sums: Vec<(f64, u64)> = if column.data_type().is_integer() {
                    integer_sums(column, groups)?.into_iter().map(|(sum, n)| (sum as f64, n)).collect()
                } else {
                    float_sums(column, groups)?
                };
                let means: Float64Array = sums.iter().map(|(sum, n)| (*n > 0).then(|| sum / *n as f64)).collect();
                (Arc::new(means) as ArrayRef).into()
            }
            Function::Min | Function::Max => {
                let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
                let values = converter.convert_columns(std::slice::from_ref(column))?;
                let mut best: Vec<Option<u32>> = vec![None; n];
                for ((&group, row), index) in groups.of_row.iter().zip(0..).zip(0_u32..) {
                    let is_better = |other: u32| {
                        let (value, other) = (values.row(row), values.row(other as usize));
                        if *function == Function::Min { value < other } else { value > other }
                    };
                    if is_valid(row) && best[group].is_none_or(is_better) {
                        best[group] = Some(index);
                    }
                }
                take(column, &UInt32Array::from(best), None)?.into()
            }
            Function::First => take(column, &UInt32Array::from(groups.first.clone()), None)?.into(),
            Function::Last => {
                let mut last = groups.first.clone();
                groups.of_row.iter().zip(0_u32..).for_each(|(&group, row)| last[group] = row);
                take(column, &UInt32Array::from(last), None)?.into()
            }
            Function::NUnique => {
                let encoded = KeyColumns::try_new(&rows.schema(), [name.as_str()], "aggregates")?.encode(rows, None)?;
                let mut seen: Vec<(usize, u128)> = Vec::new();
                let mut bytes = Vec::new();
                for (row, &group) in groups.of_row.iter().enumerate().filter(|(row, _)| is_valid(*row)) {
                    bytes.clear();
                    encoded.write(row, &mut bytes);
                    seen.push((group, keys::key(&bytes)));
                }
                seen.sort_unstable();
                seen.dedup();
                let mut numbers = vec![0_u64; n];
                seen.iter().for_each(|(group, _)| numbers[*group] += 1);
                (Arc::new(UInt64Array::from(numbers)) as ArrayRef).into()
            }
            Function::List => {
                let mut order: Vec<u32> = (0_u32..).take(groups.of_row.len()).collect();
                order.sort_by_key(|&row| groups.of_row[row as usize]);
                let mut lengths = vec![0_usize; n];
                groups.of_row.iter().for_each(|&group| lengths[group] += 1);
                let values = take(column, &UInt32Array::from(order), None)?;
                if i32::try_from(values.len()).is_err() {
                    return Err(StageError::Internal(format!("lists of over 2^31 values of `{name}` in one range")));
                }
                let item = Arc::new(Field::new("item", column.data_type().clone(), true));
                (Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None)?) as ArrayRef).into()
            }
        })
    }
}

fn counts(groups: &Groups, counts: impl Fn(usize) -> bool) -> ArrayRef {
    let mut numbers = vec![0_u64; groups.first.len()];
    groups.of_row.iter().enumerate().filter(|(row, _)| counts(*row)).for_each(|(_, &group)| numbers[group] += 1);
    Arc::new(UInt64Array::from(numbers))
}

fn sums(column: &ArrayRef, groups: &Groups) -> Result<Made, StageError> {
    let sums = integer_sums(column, groups)?;
    let fits = |sum: i128| if column.data_type().is_unsigned_integer() { u64::try_from(sum).is_ok() } else { i64::try_from(sum).is_ok() };
    let too_large = sums.iter().enumerate().filter(|(_, (sum, _))| !fits(*sum)).map(|(group, (sum, _))| (group, *sum)).collect();
    let some = sums.into_iter().map(|(sum, n)| (n > 0).then_some(sum));
    let values: ArrayRef = if column.data_type().is_unsigned_integer() {
        Arc::new(some.map(|sum| sum.and_then(|sum| u64::try_from(sum).ok())).collect::<UInt64Array>())
    } else {
        Arc::new(some.map(|sum| sum.and_then(|sum| i64::try_from(sum).ok())).collect::<Int64Array>())
    };
    Ok(Made { values, too_large })
}

/// Sum and number of the values of each group. Sums of 64-bit integers do not reach the end of 128 bits.
fn integer_sums(column: &ArrayRef, groups: &Groups) -> Result<Vec<(i128, u64)>, StageError> {
    let mut sums = vec![(0_i128, 0_u64); groups.first.len()];
    let mut add = |group: usize, value: i128| {
        sums[group].0 += value;
        sums[group].1 += 1;
    };
    if column.data_type().is_unsigned_integer() {
        let values = cast(column, &DataType::UInt64)?;
        let values = values.as_primitive::<UInt64Type>().iter();
        groups
            .of_row
            .iter()
            .zip(values)
            .filter_map(|(&group, value)| Some((group, value?)))
            .for_each(|(group, value)| add(group, value.into()));
    } else {
        let values = cast(column, &DataType::Int64)?;
        let values = values.as_primitive::<Int64Type>().iter();
        groups
            .of_row
            .iter()
            .zip(values)
            .filter_map(|(&group, value)| Some((group, value?)))
            .for_each(|(group, value)| add(group, value.into()));
    }
    Ok(sums)
}

/// Sum and number of the values of each group, added in the order of the rows.
fn float_sums(column: &ArrayRef, groups: &Groups) -> Result<Vec<(f64, u64)>, StageError> {
    let mut sums = vec![(0.0, 0_u64); groups.first.len()];
    let values = cast(column, &DataType::Float64)?;
    for (&group, value) in groups.of_row.iter().zip(values.as_primitive::<Float64Type>()) {
        if let Some(value) = value {
            sums[group].0 += value;
            sums[group].1 += 1;
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_are_written_as_they_are_read() {
        let written = json!({"n": "count", "m": "count(x)", "s": "sum(n tokens)", "u": "n_unique(a(b))"});
        let read: Aggregates =
            serde_json::from_value(json!({"n": " count", "m": "count( x )", "s": "sum(n tokens)", "u": "n_unique(a(b))"}))
                .expect("functions");
        assert_eq!(serde_json::to_value(&read).expect("written"), written);
        assert!(read.iter().map(|(name, _)| name.as_str()).eq(["n", "m", "s", "u"]));
    }

    #[test]
    fn what_is_no_function_is_refused() {
        for text in ["", "sum", "sum()", "sum(x", "median(x)", "count(x) + 1"] {
            let error = serde_json::from_value::<Aggregates>(json!({"n": text})).expect_err("no function").to_string();
            assert_eq!(error, format!("invalid value: string \"{text}\", expected {WANTED}"));
        }
    }
}
