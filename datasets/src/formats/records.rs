//! JSON objects that come one by one from somewhere else than a file.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::cells::{Cells, Data};
use super::columns::Columns;
use super::json::push_record;
use super::json_flat::FlatRecords;
use super::types::ColumnType;
use crate::DataError;

/// Why a line was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The reason, in `snake_case`: `invalid_utf8`, `invalid_json` or `wrong_type`.
    pub reason: &'static str,
    /// What was wanted and what was found.
    pub detail: String,
}

/// Collects JSON objects, a line each, into columns. Fields that are no column are passed over.
pub struct JsonRecords {
    cells: Cells,
    flat: FlatRecords,
    schema: SchemaRef,
}

impl JsonRecords {
    /// No records yet.
    pub fn new(columns: &Columns) -> Self {
        let cells = Cells::new(&ColumnType::Struct(columns.0.clone()));
        Self { cells, flat: FlatRecords::default(), schema: columns.schema() }
    }

    /// Adds one record; a field that it lacks is null. What does not fit leaves nothing behind.
    ///
    /// # Errors
    /// [`BadLine`].
    pub fn push(&mut self, line: &[u8]) -> Result<(), BadLine> {
        push_record(&mut self.cells, &mut self.flat, line).map_err(|bad| BadLine { reason: bad.reason, detail: bad.detail })
    }

    /// The columns that the last record lacked, by their place among the columns; a field that is there and null is not lacking.
    pub fn lacking(&self) -> &[usize] {
        match &self.cells.data {
            Data::Struct(members) => &members.lacking,
            _ => &[],
        }
    }

    /// The records as rows; leaves none.
    ///
    /// # Errors
    /// What Arrow says.
    pub fn take(&mut self) -> Result<RecordBatch, DataError> {
        if self.cells.len() == 0 {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), self.cells.take_columns()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_lacks_is_told_from_one_that_is_null() {
        let columns: Columns = serde_json::from_str(r#"{"a": "int64", "b": "string", "c": "list<int8>"}"#).unwrap();
        let mut records = JsonRecords::new(&columns);
        records.push(br#"{"a": 1, "b": null, "more": {}}"#).unwrap();
        assert_eq!(records.lacking(), [2]);
        let bad = records.push(br#"{"a": 1, "c": [300]}"#).unwrap_err();
        assert_eq!((bad.reason, bad.detail.as_str()), ("wrong_type", "`c`: wanted int8, found 300"));
        records.push(br#"{"c": [], "b": "x", "a": null}"#).unwrap();
        assert_eq!(records.lacking(), [0; 0]);
        let rows = records.take().unwrap();
        assert_eq!((rows.num_rows(), rows.column(0).null_count(), rows.column(2).null_count()), (2, 1, 1));
        assert_eq!(records.take().unwrap().num_rows(), 0);
    }
}
