//! Re-cutting: whatever sizes batches arrive in, they leave in sizes that depend on the rows alone.

use std::sync::Arc;

use arrow::array::{MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use schemas::row_bytes;

use crate::DataError;

/// Turns batches of any size into batches whose borders depend on the rows alone, and whose buffers hold those rows and no others.
///
/// A batch ends before the row that would take it over `max_rows` or over `max_bytes` (as [`schemas::row_bytes`] counts); a row larger than
/// `max_bytes` is a batch of its own.
#[derive(Debug)]
pub struct Recut {
    schema: SchemaRef,
    max_rows: usize,
    max_bytes: u64,
    pending: Vec<RecordBatch>,
    rows: usize,
    bytes: u64,
}

impl Recut {
    /// Most rows of a batch.
    pub const MAX_ROWS: usize = 8192;
    /// Most bytes of a batch of more than one row.
    pub const MAX_BYTES: u64 = 32 << 20;

    /// Cuts at [`Recut::MAX_ROWS`] and [`Recut::MAX_BYTES`].
    pub fn new(schema: SchemaRef) -> Self {
        Self::with_limits(schema, Self::MAX_ROWS, Self::MAX_BYTES)
    }

    /// Cuts at limits of the caller's; a limit of zero counts as one row.
    pub fn with_limits(schema: SchemaRef, max_rows: usize, max_bytes: u64) -> Self {
        Self { schema, max_rows: max_rows.max(1), max_bytes, pending: Vec::new(), rows: 0, bytes: 0 }
    }

    /// The schema of what goes in and out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes rows; gives the batches that are full.
    ///
    /// # Errors
    /// [`DataError::Arrow`] if the columns are not those of the schema.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, DataError> {
        // MutableArrayData panics on arrays of different types.
        let same = batch.num_columns() == self.schema.fields().len()
            && batch.columns().iter().zip(self.schema.fields()).all(|(column, field)| column.data_type() == field.data_type());
        if !same {
            let problem = format!("columns {:?} where {:?} were declared", batch.schema().fields(), self.schema.fields());
            return Err(ArrowError::SchemaError(problem).into());
        }
        let mut full = Vec::new();
        let mut start = 0;
        for (row, row_bytes) in row_bytes(batch).into_iter().enumerate() {
            let would_be_over = self.rows > 0 && self.bytes.saturating_add(row_bytes) > self.max_bytes;
            if self.rows == self.max_rows || would_be_over {
                self.keep(batch, start, row);
                start = row;
                full.extend(self.finish()?);
            }
            self.rows += 1;
            self.bytes = self.bytes.saturating_add(row_bytes);
        }
        self.keep(batch, start, batch.num_rows());
        if self.rows == self.max_rows {
            full.extend(self.finish()?);
        }
        Ok(full)
    }

    /// Gives the rows that are left, if any.
    ///
    /// # Errors
    /// [`DataError::Arrow`] if the columns are not those of the schema.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, DataError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pending);
        if rows == 0 {
            return Ok(None);
        }
        copy_rows(&self.schema, &pieces, rows).map(Some)
    }

    fn keep(&mut self, batch: &RecordBatch, start: usize, end: usize) {
        if end > start {
            self.pending.push(batch.slice(start, end - start));
        }
    }
}

/// All rows of `pieces` in one batch with buffers of its own. `concat_batches` gives one piece back as it is, with the buffers it shares.
pub(crate) fn copy_rows(schema: &SchemaRef, pieces: &[RecordBatch], rows: usize) -> Result<RecordBatch, DataError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for column in 0..schema.fields().len() {
        let data = pieces
            .iter()
            .map(|piece| piece.columns().get(column).map(|array| array.to_data()))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| ArrowError::SchemaError(format!("a batch with fewer columns than {schema:?}")))?;
        let mut copy = MutableArrayData::try_new(data.iter().collect(), false, rows)?;
        for (index, piece) in data.iter().enumerate() {
            copy.try_extend(index, 0, piece.len())?;
        }
        columns.push(make_array(copy.freeze()));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
