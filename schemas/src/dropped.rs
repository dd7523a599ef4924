//! Why a row was dropped: the columns that a stage's `dropped` output has after those of the row itself, or, where the stage tags rows instead
//! of dropping them, its main output.

use arrow::array::{Float64Array, StringArray};
use arrow::datatypes::DataType;

use crate::{Column, ColumnSpec};

/// The reason, in `snake_case`.
pub const REASON: Column<StringArray> = Column::new("drop_reason", DataType::Utf8, "why the stage dropped the row");

/// The measured value that decided.
pub const VALUE: Column<Float64Array> = Column::new("drop_value", DataType::Float64, "the value that decided");

/// The threshold it was held against.
pub const THRESHOLD: Column<Float64Array> = Column::new("drop_threshold", DataType::Float64, "the threshold it was held against");

/// The `id` of the kept row that this one duplicates.
pub const DUPLICATE_OF: Column<StringArray> = Column::new("duplicate_of", DataType::Utf8, "id of the kept row that this row duplicates");

/// All columns that a `dropped` output adds.
pub fn columns() -> [ColumnSpec; 4] {
    [REASON.spec(), VALUE.spec(), THRESHOLD.spec(), DUPLICATE_OF.spec()]
}

/// All columns that stage `id` adds to its rows when it tags those it decides against: as [`columns`], each with the id before its name, so
/// that several stages in a row can tag, and flat, so that a trainer, pandas or SQL filters on them as on any column. Null in a row that passes.
pub fn tags(id: &str) -> [ColumnSpec; 4] {
    columns().map(|column| ColumnSpec {
        name: format!("{id}_{}", column.name),
        description: format!("{}, as `{id}` tagged it; null where it passed", column.description),
        ..column
    })
}
