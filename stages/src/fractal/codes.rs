//! IFS codes as a stage reads them: from any table with a column `maps`, checked row by row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Schema, SchemaRef};
use schemas::{SchemaError, document, fractal};

use super::ifs::{Density, Map, expands, single, stream};
use crate::{Emit, Measure, StageError};

/// Most maps of a system.
pub(super) const MAX_MAPS: usize = 32;

const IS_GOOD: &str = "is_good";

/// The table of a program that holds the codes: one row for each that came, also those that were rejected, so that places stay.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(document::ID.name(), DataType::Utf8, true),
        Field::new(fractal::LABEL.name(), DataType::Int32, true),
        Field::new(fractal::maps().name(), list_of_lists(), true),
        Field::new(IS_GOOD, DataType::Boolean, false),
    ]))
}

fn list_of_lists() -> DataType {
    let item = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
    item(item(DataType::Float64))
}

/// Checks that codes can be read from a table with these columns.
pub(super) fn check(schema: &Schema) -> Result<(), StageError> {
    let is_list = |data_type: &DataType| match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type().clone()),
        _ => None,
    };
    if let Ok(field) = schema.field_with_name(fractal::LABEL.name())
        && !field.data_type().is_integer()
    {
        return Err(SchemaError::missing("label: Int32", schema).into());
    }
    let maps = fractal::maps();
    let numbers = schema.field_with_name(maps.name()).ok().and_then(|field| is_list(field.data_type())).and_then(|map| is_list(&map));
    match numbers {
        Some(DataType::Float64 | DataType::Float32) => Ok(()),
        _ => Err(SchemaError::missing("maps: List(List(Float64))", schema).into()),
    }
}

/// Why a code cannot be drawn: a reason, and what was wanted and found.
type Refusal = (&'static str, String);

/// How much of its picture a system covers.
pub(super) fn density_measure(min_density: f64) -> Measure {
    Measure::new("density", "share of its picture that a system's attractor covers").at_least("min_density", min_density)
}

/// Checks each code of some rows, rejects those that cannot be drawn, and gives the rows of the table of codes.
pub(super) fn read(batch: &RecordBatch, min_density: f64, density: &Measure, out: &mut Emit) -> Result<RecordBatch, StageError> {
    let n = batch.num_rows();
    let name = fractal::maps();
    let maps = batch.column_by_name(name.name()).ok_or_else(|| SchemaError::missing("maps: List(List(Float64))", &batch.schema()))?;
    let maps = cast(maps, &list_of_lists())?;
    let column = |name: &str, data_type: DataType| -> Result<ArrayRef, StageError> {
        match batch.column_by_name(name) {
            Some(column) if arrow::compute::can_cast_types(column.data_type(), &data_type) => Ok(cast(column, &data_type)?),
            _ => Ok(arrow::array::new_null_array(&data_type, n)),
        }
    };
    let (has_labels, labels) = (batch.column_by_name(fractal::LABEL.name()).is_some(), column(fractal::LABEL.name(), DataType::Int32)?);
    let labelled = |row: usize| {
        let wrong = || ("wrong_label", "wanted a whole number of 32 bits as `label`, found another one or null".to_owned());
        if has_labels && labels.is_null(row) { Err(wrong()) } else { Ok(()) }
    };
    let mut is_good = Vec::with_capacity(n);
    for row in 0..n {
        let maps = labelled(row).and_then(|()| maps_of(maps.as_list(), row));
        let checked = maps.and_then(|maps| drawable(&maps, min_density, density, out));
        is_good.push(checked.is_ok());
        if let Err((reason, detail)) = checked {
            out.reject_row(batch, row, reason, detail);
        }
    }
    let columns = vec![column(document::ID.name(), DataType::Utf8)?, labels, maps, Arc::new(BooleanArray::from(is_good))];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn maps_of(column: &ListArray, row: usize) -> Result<Vec<Map>, Refusal> {
    if column.is_null(row) || column.value_length(row) == 0 {
        return Err(("no_maps", "wanted at least one map, found none".to_owned()));
    }
    let maps = column.value(row);
    if maps.len() > MAX_MAPS {
        return Err(("too_many_maps", format!("wanted at most {MAX_MAPS} maps, found {}", maps.len())));
    }
    let maps: &ListArray = maps.as_list();
    let one = |at: usize| -> Result<Map, Refusal> {
        let wrong = |found: String| ("wrong_map", format!("wanted six numbers (a b e c d f) of map {at}, found {found}"));
        if maps.is_null(at) {
            return Err(wrong("null".to_owned()));
        }
        let numbers = maps.value(at);
        if numbers.null_count() > 0 {
            return Err(wrong("a null among them".to_owned()));
        }
        let numbers = numbers.as_primitive::<Float64Type>().values();
        Map::try_from(&numbers[..]).map_err(|_| wrong(format!("{} numbers", numbers.len())))
    };
    (0..maps.len()).map(one).collect()
}

/// Whether a system can be drawn, and is worth it.
fn drawable(maps: &[Map], min_density: f64, measure: &Measure, out: &mut Emit) -> Result<(), Refusal> {
    if let Some((at, map)) = single(maps).iter().enumerate().find(|(_, map)| !map.iter().all(|value| value.is_finite())) {
        return Err(("not_finite", format!("wanted finite numbers, found {:?} in map {at} ({map:?} in 32 bits)", maps[at])));
    }
    if expands(maps) {
        return Err(("expands", "wanted points that stay, found that they go further away with each step".to_owned()));
    }
    if min_density > 0.0 {
        let density = Density::SVD.of(maps, stream(0, [0; 2]));
        out.observe(measure, density, density >= min_density);
        if density < min_density {
            return Err((
                "too_sparse",
                format!("wanted an attractor on at least {min_density} of its picture's pixels, found {density:.5}"),
            ));
        }
    }
    Ok(())
}

/// A system to draw.
#[derive(Debug, Clone)]
pub(super) struct Code {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Its class.
    pub label: i32,
    /// Its maps.
    pub maps: Vec<Map>,
}

/// The table of codes.
#[derive(Debug)]
pub(super) struct Codes {
    ids: StringArray,
    labels: Int32Array,
    maps: ListArray,
    is_good: BooleanArray,
}

impl Codes {
    pub(super) fn new(table: &RecordBatch) -> Result<Self, StageError> {
        let column = |at: usize| -> &ArrayRef { table.column(at) };
        if table.schema().fields() != schema().fields() {
            return Err(StageError::Internal("the table of codes has other columns".to_owned()));
        }
        Ok(Self {
            ids: column(0).as_string().clone(),
            labels: column(1).as_primitive::<Int32Type>().clone(),
            maps: column(2).as_list().clone(),
            is_good: column(3).as_boolean().clone(),
        })
    }

    /// How many there are, also of those that cannot be drawn.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The places of those that can be drawn.
    pub(super) fn good(&self) -> Vec<u32> {
        (0..).zip(self.is_good.iter()).filter(|(_, is_good)| *is_good == Some(true)).map(|(place, _)| place).collect()
    }

    /// The code at a place, if it can be drawn. Where the table has no label for it, the class is the place.
    pub(super) fn get(&self, place: usize) -> Option<Code> {
        if place >= self.len() || !self.is_good.value(place) {
            return None;
        }
        Some(Code {
            id: self.ids.is_valid(place).then(|| self.ids.value(place).to_owned()),
            label: if self.labels.is_valid(place) { self.labels.value(place) } else { i32::try_from(place).unwrap_or(i32::MAX) },
            maps: maps_of(&self.maps, place).ok()?,
        })
    }
}
