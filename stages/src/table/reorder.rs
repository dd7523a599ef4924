//! What stages share that give their rows in another order: every row goes through one sorted table.

use arrow::array::{BinaryBuilder, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::{Done, Global, Port, RangeIn, Route, RowRef, ShardIn, StageError, Step, TableSpec, Tables};

/// What decides a row's place.
pub(super) trait RowKeys: Send + Sync {
    /// Calls `each` with the key of each row of `batch`, in order. No key may be the beginning of another.
    ///
    /// # Errors
    /// What Arrow says of the rows.
    fn keys(&self, batch: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<(), StageError>;
}

/// Gives rows in the order of their keys, those with equal keys in the order they came in.
pub(super) struct Reorder<K> {
    pub(super) input: SchemaRef,
    pub(super) keys: K,
}

const ROWS: &str = "rows";

impl<K: RowKeys> Global for Reorder<K> {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new(ROWS, self.input.clone(), Route::Order)]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("key", Port::FROM).writes(&[ROWS])),
            1 => Some(Step::ranges("order", &[ROWS]).emits()),
            _ => None,
        }
    }

    fn shard(&self, _step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let index = shard.shard.index;
        let mut row = 0_u32;
        let mut place = Vec::new();
        for batch in shard.shard.batches.drain(..) {
            let mut places = BinaryBuilder::with_capacity(batch.num_rows(), batch.num_rows() * 32);
            let mut is_full = false;
            self.keys.keys(&batch, &mut |key| {
                place.clear();
                place.extend_from_slice(key);
                // Where the row stands makes every key another one, so that ranges can be cut among rows that are equal.
                push_row(&mut place, RowRef { shard: index, row });
                places.append_value(&place);
                is_full |= row == u32::MAX;
                row = row.wrapping_add(1);
            })?;
            if is_full {
                return Err(StageError::Internal("a shard of over 2^32 rows".to_owned()));
            }
            let batch = RecordBatch::try_new(self.input.clone(), batch.columns().to_vec())?;
            out.ordered(ROWS, places.finish(), batch)?;
        }
        Ok(())
    }

    fn range(&self, _step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let rows = range.take(ROWS)?;
        out.emit().rows(rows.batch)
    }
}

/// Writes a row's place behind what is in `key`: bytes that sort as rows do.
pub(super) fn push_row(key: &mut Vec<u8>, row: RowRef) {
    key.extend_from_slice(&row.shard.to_be_bytes());
    key.extend_from_slice(&row.row.to_be_bytes());
}
