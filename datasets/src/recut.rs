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

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn rows(texts: &[Option<String>]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("t", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new_list("l", Field::new("item", DataType::Int64, true), true),
        ]);
        let lists = texts.iter().map(|text| text.as_ref().map(|text| text.bytes().map(|byte| Some(i64::from(byte))).collect::<Vec<_>>()));
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()),
            Arc::new((0..texts.len()).map(|n| i64::try_from(n).ok()).collect::<Int64Array>()),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
        ];
        RecordBatch::try_new(schema.into(), columns).unwrap()
    }

    fn recut(whole: &RecordBatch, size: usize, max_rows: usize, max_bytes: u64) -> Vec<RecordBatch> {
        let mut recut = Recut::with_limits(whole.schema(), max_rows, max_bytes);
        let mut all = Vec::new();
        for start in (0..whole.num_rows()).step_by(size) {
            all.extend(recut.push(&whole.slice(start, size.min(whole.num_rows() - start))).unwrap());
        }
        all.extend(recut.finish().unwrap());
        all
    }

    #[test]
    fn batches_end_at_rows_and_at_bytes() {
        // Of each row: text 4 + length, number 8, list 4 + 8 a letter; "ab" is 6 + 8 + 20 = 34 bytes, "abcdefgh" 12 + 8 + 68 = 88.
        let texts: Vec<Option<String>> = ["ab", "ab", "ab", "abcdefgh", "ab", "ab"].iter().map(|text| Some((*text).to_owned())).collect();
        let sizes =
            |max_rows, max_bytes| recut(&rows(&texts), 4, max_rows, max_bytes).iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
        assert_eq!(sizes(4, 1000), [4, 2]);
        assert_eq!(sizes(3, 1000), [3, 3]);
        assert_eq!(sizes(99, 70), [2, 1, 1, 2]);
        assert_eq!(sizes(99, 1), [1; 6]);
    }

    #[test]
    fn a_batch_of_another_schema_is_refused() {
        let whole = rows(&[None]);
        let other = whole.project(&[1, 0, 2]).unwrap();
        assert!(Recut::new(whole.schema()).push(&other).is_err());
    }

    #[test]
    fn a_batch_holds_its_own_rows_and_no_others() {
        let texts: Vec<Option<String>> = (0..10_000).map(|n| Some(format!("text {n} and a little more"))).collect();
        let whole = rows(&texts);
        let last = recut(&whole, 10_000, 8192, u64::MAX).pop().unwrap();
        assert_eq!(last.num_rows(), 10_000 - 8192);
        assert!(last.get_array_memory_size() < whole.get_array_memory_size() / 4, "{}", last.get_array_memory_size());
        assert_eq!(last, whole.slice(8192, 10_000 - 8192));
    }

    proptest! {
        #[test]
        fn batching_makes_no_difference(texts in proptest::collection::vec(proptest::option::of("[a-z]{0,12}"), 0..60), max_rows in 1_usize..20, max_bytes in 1_u64..400) {
            let whole = rows(&texts);
            let expected = recut(&whole, 1000, max_rows, max_bytes);
            prop_assert_eq!(&recut(&whole, 1, max_rows, max_bytes), &expected);
            prop_assert_eq!(&recut(&whole, 7, max_rows, max_bytes), &expected);
            prop_assert_eq!(expected.iter().map(RecordBatch::num_rows).sum::<usize>(), texts.len());
        }
    }
}
