//! What every task of a run needs to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stages::llm::Llms;
use stages::{Stage, StageError};

use super::again::ReadAgain;
use super::cache::ShardCache;
use super::log::RunLog;
use super::pool::Pool;
use super::progress::Progress;
use super::{ASKED_SHARD_ROWS, RunError};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::store::Store;

/// What every task of a run needs to know.
pub(super) struct Context {
    /// The pipeline.
    pub graph: Arc<Graph>,
    /// How it is run.
    pub plan: Plan,
    /// Where everything goes.
    pub store: Store,
    /// Checkpoints in memory.
    pub cache: ShardCache,
    /// Where those come from of which there is no copy.
    pub read_again: ReadAgain,
    /// Who does the tasks.
    pub pool: Arc<Pool>,
    /// What the person sees meanwhile.
    pub progress: Arc<Progress>,
    /// What is told of it afterwards.
    pub log: Arc<RunLog>,
    /// Whether the run is to end before it is done.
    pub interrupted: Arc<AtomicBool>,
    /// The models that stages of the run ask.
    pub llms: Llms,
    /// Whether something stopped the run, and what is under way only ends: requests that are not sent yet are not sent any more.
    pub ending: AtomicBool,
    /// What waiting for the network is done on.
    pub runtime: tokio::runtime::Handle,
    /// Rows a batch has inside a task; changes speed, never results.
    pub batch_rows: usize,
    /// Only so many rows of each source.
    pub limit: Option<u64>,
    /// Rows a shard has at most.
    pub shard_rows: u64,
    /// How many tasks' worth of memory there is; may be more than there are threads.
    pub memory_slots: usize,
}

impl Context {
    /// Rows that a shard has at most whose rows pass these stages.
    pub(super) fn shard_rows_of(&self, path: &[usize]) -> u64 {
        let asks = path.iter().any(|&node| matches!(self.graph.nodes[node].stage, Stage::RowAsync(_)));
        if asks { self.shard_rows.min(ASKED_SHARD_ROWS) } else { self.shard_rows }
    }

    /// An error of a stage's own, with the stage's id.
    pub(super) fn stage_error(&self, node: usize, source: StageError) -> RunError {
        if matches!(source, StageError::Interrupted) {
            return RunError::Interrupted;
        }
        let stage = self.graph.nodes[node].id.clone();
        match source {
            StageError::Stopped { problem, help } => RunError::Stopped { stage, problem, help },
            source => RunError::Stage { stage, source },
        }
    }

    /// An error if the run is to end.
    ///
    /// # Errors
    /// [`RunError::Interrupted`].
    pub(super) fn check_interrupted(&self) -> Result<(), RunError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(RunError::Interrupted) } else { Ok(()) }
    }

    /// An error if the run is to end, or does already: then nobody is asked for more.
    ///
    /// # Errors
    /// [`RunError::Interrupted`]: the task ends before it is done.
    pub(super) fn check_going_on(&self) -> Result<(), RunError> {
        if self.ending.load(Ordering::Relaxed) { Err(RunError::Interrupted) } else { self.check_interrupted() }
    }
}
