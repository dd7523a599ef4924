//! Shards of which there is no copy on disk: what is not in memory any more is read from the source again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use stages::{Rejection, RowSink, Split, Stage, StageError};

use super::RunError;
use super::context::Context;
use super::outputs::ShardCutter;
use crate::fingerprint::Fingerprint;
use crate::inputs::Seen;
use crate::marks::{StoredFile, data_of};

/// What the tasks of this run read whose rows can be read again, by the folder of the task.
#[derive(Debug, Default)]
pub(super) struct ReadAgain(Mutex<BTreeMap<String, SourceSplit>>);

/// A split, and its files as they were when their contents were hashed.
#[derive(Debug, Clone)]
pub(super) struct SourceSplit {
    /// The source.
    pub source: usize,
    /// What is read.
    pub split: Split,
    /// Its files.
    pub files: Vec<Arc<Seen>>,
}

impl SourceSplit {
    /// An error if the files are not what the task's fingerprint says.
    ///
    /// # Errors
    /// [`RunError::InputChanged`].
    pub(super) fn check(files: &[Arc<Seen>]) -> Result<(), RunError> {
        match files.iter().find(|file| !file.holds()) {
            Some(file) => Err(RunError::InputChanged(file.path.clone())),
            None => Ok(()),
        }
    }
}

impl ReadAgain {
    /// Remembers what a task reads.
    pub(super) fn learn(&self, task: &Fingerprint, split: SourceSplit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(data_of(task), split);
    }

    /// Whether what the task reads can be read again.
    pub(super) fn knows(&self, task: &Fingerprint) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&data_of(task))
    }

    fn find(&self, file: &StoredFile) -> Option<SourceSplit> {
        let (folder, _) = file.path.rsplit_once('/')?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(folder).cloned()
    }
}

/// The rows of a stored shard, wherever they are.
///
/// # Errors
/// What the storage or the source says.
pub(super) fn rows_of(cx: &Context, file: &StoredFile) -> Result<Vec<RecordBatch>, RunError> {
    cx.cache.read(&cx.store, file, |shard| {
        let lost = || RunError::Internal(format!("nobody knows what `{}` was read from", file.path));
        let SourceSplit { source, split, files } = cx.read_again.find(file).ok_or_else(lost)?;
        let Stage::Source(reader) = &cx.graph.nodes[source].stage else { return Err(lost()) };
        let mut wanted =
            WantedShard { batch_rows: cx.batch_rows, cutter: ShardCutter::new(cx.shard_rows), before: shard, rows: Vec::new() };
        let read = reader.read(&split, &mut wanted);
        SourceSplit::check(&files)?;
        read.map_err(|error| cx.stage_error(source, error))?;
        if wanted.rows.iter().map(|batch| batch.num_rows() as u64).sum::<u64>() != file.rows {
            return Err(RunError::Internal(format!("`{}` was read again and is not what it was", file.path)));
        }
        Ok(wanted.rows)
    })
}

/// Takes one shard of what a source reads. What is rejected was told of when it was read first.
struct WantedShard {
    batch_rows: usize,
    cutter: ShardCutter,
    /// Shards that come before it.
    before: usize,
    rows: Vec<RecordBatch>,
}

impl RowSink for WantedShard {
    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError> {
        for (piece, ends) in self.cutter.cut(&batch) {
            if self.before == 0 && piece.num_rows() > 0 {
                self.rows.push(piece);
            }
            if ends {
                match self.before.checked_sub(1) {
                    Some(before) => self.before = before,
                    None => return Ok(ControlFlow::Break(())),
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn reject(&mut self, _: Rejection) {}
}
