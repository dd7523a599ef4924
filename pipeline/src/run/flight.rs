//! Rows under way: those of a stage that asks over the network. Many are waited for at once; their rows leave in the order of the input.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use stages::{Emit, Stage, StageError};

use super::RunError;
use super::context::Context;
use super::outputs::Outputs;

/// How often a wait looks whether the run is to end.
const LOOK: Duration = Duration::from_millis(100);

/// How long requests that are under way may take to end when the run is interrupted: what they are answered is paid for.
const GRACE: Duration = Duration::from_secs(5);

/// Rows that were worked on are given on together: that many, so that each costs little and none waits long.
const GIVEN_TOGETHER: usize = 256;

/// Bytes of rows that are under way at once, at most, but for a single row.
const MOST_BYTES: u64 = 64 << 20;

/// The rows of one shard that are under way.
pub(super) struct Flight {
    cx: Arc<Context>,
    node: usize,
    window: usize,
    rows: FuturesOrdered<BoxFuture<'static, Landed>>,
    bytes: u64,
    /// Rows that landed and were not given on.
    waiting: usize,
    /// What ends the run: no row is begun any more, and those under way end first, for their answers are paid for.
    stopped: Option<RunError>,
}

/// A row that was worked on.
struct Landed {
    emit: Emit,
    bytes: u64,
    result: Result<(), StageError>,
}

impl Flight {
    /// For stage `node`, if it is one that asks.
    pub(super) fn of(cx: &Arc<Context>, node: usize) -> Option<Self> {
        let Stage::RowAsync(stage) = &cx.graph.nodes[node].stage else { return None };
        let window = stage.window().max(1);
        Some(Self { cx: Arc::clone(cx), node, window, rows: FuturesOrdered::new(), bytes: 0, waiting: 0, stopped: None })
    }

    /// Begins the rows of `batch`; waits for earlier ones where too many are under way.
    ///
    /// # Errors
    /// What stops the run.
    pub(super) fn board(&mut self, batch: &RecordBatch, outputs: &mut Outputs, emit: &mut Emit) -> Result<(), RunError> {
        for row in 0..batch.num_rows() {
            let row = batch.slice(row, 1);
            let bytes = schemas::row_bytes(&row).iter().sum::<u64>();
            while self.rows.len() >= self.window || (self.bytes + bytes > MOST_BYTES && !self.rows.is_empty()) {
                self.land_next(outputs, emit)?;
                if self.stopped.is_some() {
                    return self.land_all(outputs, emit);
                }
            }
            self.bytes += bytes;
            let (cx, node) = (Arc::clone(&self.cx), self.node);
            self.rows.push_back(Box::pin(async move {
                let mut emit = Emit::new(cx.graph.nodes[node].outputs.clone());
                let result = match &cx.graph.nodes[node].stage {
                    Stage::RowAsync(stage) => stage.process(row, &mut emit).await,
                    _ => Err(StageError::Internal("a stage that does not ask".to_owned())),
                };
                Landed { emit, bytes, result }
            }));
        }
        Ok(())
    }

    /// Waits for all rows.
    ///
    /// # Errors
    /// What stops the run.
    pub(super) fn land(mut self, outputs: &mut Outputs, emit: &mut Emit) -> Result<(), RunError> {
        self.land_all(outputs, emit)
    }

    fn land_all(&mut self, outputs: &mut Outputs, emit: &mut Emit) -> Result<(), RunError> {
        while !self.rows.is_empty() {
            self.land_next(outputs, emit)?;
        }
        match self.stopped.take() {
            Some(error) => Err(error),
            None => self.give_on(outputs, emit),
        }
    }

    fn land_next(&mut self, outputs: &mut Outputs, emit: &mut Emit) -> Result<(), RunError> {
        let began = Instant::now();
        let landed = self.wait();
        outputs.was_busy(self.node, began.elapsed());
        let Some(landed) = landed? else { return Ok(()) };
        self.bytes -= landed.bytes;
        match landed.result {
            // What a row gave that comes after one that stopped the run is not counted: the rerun counts it.
            Ok(()) if self.stopped.is_some() => {}
            Ok(()) => {
                emit.append(landed.emit);
                self.waiting += 1;
                if self.waiting >= GIVEN_TOGETHER {
                    self.give_on(outputs, emit)?;
                }
            }
            Err(error) => {
                let error = self.cx.stage_error(self.node, error);
                self.stopped.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// The next row that lands.
    fn wait(&mut self) -> Result<Option<Landed>, RunError> {
        let (cx, rows) = (&self.cx, &mut self.rows);
        cx.runtime.block_on(async {
            let mut look = tokio::time::interval(LOOK);
            let mut end = None;
            loop {
                tokio::select! {
                    landed = rows.next() => return Ok(landed),
                    _ = look.tick() => {
                        if cx.check_interrupted().is_err() {
                            let end = *end.get_or_insert_with(|| Instant::now() + GRACE);
                            if Instant::now() >= end {
                                return Err(RunError::Interrupted);
                            }
                        }
                    }
                }
            }
        })
    }

    fn give_on(&mut self, outputs: &mut Outputs, emit: &mut Emit) -> Result<(), RunError> {
        self.waiting = 0;
        emit.join_batches().map_err(|error| self.cx.stage_error(self.node, error))?;
        // It ends its unit: nobody in this task reads its rows.
        outputs.take(self.node, emit)?;
        Ok(())
    }
}
