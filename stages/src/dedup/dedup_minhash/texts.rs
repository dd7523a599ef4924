//! The texts of a shard, with the sources they are from.

use std::collections::BTreeMap;

use arrow::array::StringArray;
use schemas::document;

use super::program::{DedupMinhash, source_hash};
use super::tables::Member;
use crate::{RowRef, ShardRows, StageError};

/// The texts and sources of a shard, by row.
pub(super) struct Texts {
    texts: Vec<StringArray>,
    /// Hash of each row's source; empty if sources do not matter.
    source: Vec<u64>,
    /// Names of the sources and how many rows each has.
    pub(super) sources: BTreeMap<u64, (Option<String>, u64)>,
    /// First row of each batch, and the number of all rows.
    starts: Vec<usize>,
}

impl Texts {
    pub(super) fn of(stage: &DedupMinhash, shard: &ShardRows) -> Result<Self, StageError> {
        let column = document::TEXT.named(stage.config.column.as_str());
        let mut read = Self { texts: Vec::new(), source: Vec::new(), sources: BTreeMap::new(), starts: vec![0] };
        for batch in &shard.batches {
            read.texts.push(column.try_of(batch)?.clone());
            read.starts.push(read.n_rows() + batch.num_rows());
            if stage.has_source {
                for name in document::TEXT.named(stage.config.source_column.as_str()).try_of(batch)? {
                    let hash = source_hash(name);
                    read.sources.entry(hash).or_insert_with(|| (name.map(str::to_owned), 0)).1 += 1;
                    read.source.push(hash);
                }
            }
        }
        if !stage.has_source {
            read.sources.insert(source_hash(None), (None, read.n_rows() as u64));
        }
        Ok(read)
    }

    pub(super) fn n_rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, &str)> {
        let texts = self.texts.iter().zip(&self.starts);
        texts.flat_map(|(texts, start)| texts.iter().enumerate().filter_map(move |(at, text)| Some((start + at, text?))))
    }

    pub(super) fn text(&self, row: u32) -> Result<&str, StageError> {
        let row = row as usize;
        if row >= self.n_rows() {
            return Err(StageError::Internal(format!("mail for row {row}, which the shard does not have")));
        }
        let batch = self.starts.partition_point(|start| *start <= row) - 1;
        Ok(self.texts[batch].value(row - self.starts[batch]))
    }

    pub(super) fn member(&self, at: RowRef) -> Result<Member, StageError> {
        Ok(self.member_with(at, self.text(at.row)?))
    }

    pub(super) fn member_with(&self, at: RowRef, text: &str) -> Member {
        let source = self.source.get(at.row as usize).copied().unwrap_or(0);
        Member { at, length: u32::try_from(text.len()).unwrap_or(u32::MAX), source }
    }
}
