//! Rows under way: those of a stage that asks over the network. Many are waited for at once; their rows leave in the order of the input.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use stages::{Emit, Stage, StageError};

use super::RunError;
use super::context::Context;
use super::engine::panic_text;
use super::outputs::Outputs;

/// How often a wait looks whether the run is to end.
const LOOK: Duration = Duration::from_millis(100);

/// How long requests that are under way may take to end when the run is interrupted: what they are answered is paid for.
const GRACE: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(5) };

/// Rows that were worked on are given on together: that many, so that each costs little, or those of so much time, so that none waits long.
/// How they fall together changes nothing of what is stored.
const GIVEN_TOGETHER: usize = 256;
const GIVEN_AFTER: Duration = Duration::from_secs(1);

/// Bytes of rows that are under way at once, at most, but for a single row.
const MOST_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 64 << 20 };

/// The rows of one shard that are under way.
pub(super) struct Flight {
    cx: Arc<Context>,
    node: usize,
    window: usize,
    rows: FuturesOrdered<BoxFuture<'static, Landed>>,
    bytes: u64,
    /// Rows that landed and were not given on.
    waiting: usize,
    given: Instant,
    /// What ends the run: no row is begun any more, and those under way end first, for their answers are paid for.
    stopped: Option<RunError>,
    /// When those under way are given up.
    deadline: Option<Instant>,
}

/// A row that was worked on.
struct Landed {
    emit: Emit,
    bytes: u64,
    /// Time in the stage's own code; what it waited for others is none of it.
    busy: Duration,
    result: Result<(), StageError>,
}

impl Flight {
    /// For stage `node`, if it is one that asks.
    pub(super) fn of(cx: &Arc<Context>, node: usize) -> Option<Self> {
        let Stage::RowAsync(stage) = &cx.graph.nodes[node].stage else { return None };
        Some(Self {
            cx: Arc::clone(cx),
            node,
            window: stage.window().max(1),
            rows: FuturesOrdered::new(),
            bytes: 0,
            waiting: 0,
            given: Instant::now(),
            stopped: None,
            deadline: None,
        })
    }

    /// Begins the rows of `batch`; waits for earlier ones where too many are under way.
    ///
    /// # Errors
    /// What stops the run, when those under way have ended.
    pub(super) fn board(&mut self, batch: &RecordBatch, outputs: &mut Outputs, emit: &mut Emit) -> Result<(), RunError> {
        for row in 0..batch.num_rows() {
            let row = batch.slice(row, 1);
            let bytes = schemas::batch_bytes(&row);
            while self.stopped.is_none() && (self.rows.len() >= self.window || (self.bytes + bytes > MOST_BYTES && !self.rows.is_empty())) {
                self.land_next(outputs, emit)?;
            }
            if self.is_to_end() {
                return self.land_all(outputs, emit);
            }
            outputs.came_in(self.node, 1, bytes);
            self.bytes += bytes;
            self.rows.push_back(work_on(Arc::clone(&self.cx), self.node, row, bytes));
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

    /// Begins no more rows, because of `error`.
    pub(super) fn end(&mut self, error: RunError) {
        self.stopped.get_or_insert(error);
    }

    /// Whether no row may be begun any more.
    fn is_to_end(&mut self) -> bool {
        if self.stopped.is_none()
            && let Err(ends) = self.cx.check_going_on()
        {
            self.stopped = Some(ends);
        }
        self.stopped.is_some()
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
        // Rows are worked on while others are waited for, and on this thread.
        let Some(landed) = landed? else { return Ok(()) };
        outputs.was_busy(self.node, landed.busy);
        outputs.has_waited(self.node, began.elapsed().as_secs_f64() - landed.busy.as_secs_f64());
        self.bytes -= landed.bytes;
        match landed.result {
            // What a row gave that comes after one that stopped the run is not counted: the rerun counts it.
            Ok(()) if self.stopped.is_some() => {}
            Ok(()) => {
                emit.append(landed.emit);
                self.waiting += 1;
                if self.waiting >= GIVEN_TOGETHER || self.given.elapsed() >= GIVEN_AFTER {
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
        let (cx, rows, deadline) = (&self.cx, &mut self.rows, &mut self.deadline);
        cx.runtime.block_on(async {
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    biased;
                    landed = rows.next() => return Ok(landed),
                    _ = look.tick() => {
                        if cx.check_interrupted().is_err() {
                            let end = *deadline.get_or_insert_with(|| Instant::now() + GRACE);
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
        (self.waiting, self.given) = (0, Instant::now());
        emit.join_batches().map_err(|error| self.cx.stage_error(self.node, error))?;
        // It ends its unit: nobody in this task reads its rows.
        outputs.take(self.node, emit)?;
        Ok(())
    }
}

/// One row and its future. A panic in it is a bug that ends the run; it must not take with it what other rows were answered.
fn work_on(cx: Arc<Context>, node: usize, row: RecordBatch, bytes: u64) -> BoxFuture<'static, Landed> {
    Box::pin(async move {
        let mut emit = Emit::new(cx.graph.nodes[node].outputs.clone());
        let mut busy = Duration::ZERO;
        let result = match &cx.graph.nodes[node].stage {
            Stage::RowAsync(stage) => {
                let emit = &mut emit;
                // Begun inside the future, so that work before the first wait is guarded and timed, too.
                let work = async move { stage.process(row, emit).await };
                let done = timed(AssertUnwindSafe(work).catch_unwind(), &mut busy).await;
                done.unwrap_or_else(|panic| Err(StageError::Internal(format!("a row: {}", panic_text(panic.as_ref())))))
            }
            _ => Err(StageError::Internal("a stage that does not ask".to_owned())),
        };
        Landed { emit, bytes, busy, result }
    })
}

/// Does `work`, and adds to `busy` the time in which it did anything.
async fn timed<F: Future>(work: F, busy: &mut Duration) -> F::Output {
    let mut work = Box::pin(work);
    std::future::poll_fn(|cx| {
        let began = Instant::now();
        let polled: Poll<F::Output> = Pin::new(&mut work).poll(cx);
        *busy += began.elapsed();
        polled
    })
    .await
}

#[cfg(test)]
mod tests;
