//! Tasks of a leg: read one split or stored shard, take its rows through the fused stages, store what leaves.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use stages::{Emit, Rejection, RowSink, Split, Stage, StageError};

use super::RunError;
use super::again::rows_of;
use super::context::Context;
use super::engine::guarded;
use super::flight::Flight;
use super::outputs::{Finished, Outputs, ShardCutter};
use super::pool::Piece;
use crate::fingerprint::Fingerprint;
use crate::marks::StoredFile;

/// Runs a task that reads stored rows, all of a shard or some.
///
/// # Errors
/// What stops the run.
pub(super) fn run_stored(
    cx: &Arc<Context>,
    task: &Fingerprint,
    path: &[usize],
    file: &StoredFile,
    some: Option<&Range<u64>>,
) -> Result<Finished, RunError> {
    let batches = rows_of(cx, file)?;
    let batches = match some {
        Some(some) => some_of(&batches, some),
        None => batches,
    };
    process_shard(cx, task, 0, path, From::Stored, batches)
}

/// These of the rows of `batches`.
fn some_of(batches: &[RecordBatch], some: &Range<u64>) -> Vec<RecordBatch> {
    let mut before = 0;
    let mut rows = Vec::new();
    for batch in batches {
        let of_batch = before..before + batch.num_rows() as u64;
        let (start, end) = (some.start.max(of_batch.start), some.end.min(of_batch.end));
        if start < end {
            #[expect(clippy::cast_possible_truncation, reason = "less than the rows of a batch")]
            rows.push(batch.slice((start - before) as usize, (end - start) as usize));
        }
        before = of_batch.end;
    }
    rows
}

/// Runs a task that reads splits of a source, one after the other: one split, or all of them when only so many rows are wanted.
///
/// # Errors
/// What stops the run.
pub(super) fn run_source(
    cx: &Arc<Context>,
    task: &Fingerprint,
    source: usize,
    path: &[usize],
    splits: &[Split],
) -> Result<Finished, RunError> {
    let Stage::Source(reader) = &cx.graph.nodes[source].stage else {
        return Err(StageError::Internal(format!("stage `{}` is no source", cx.graph.nodes[source].id)).into());
    };
    let mut sink = ShardSink {
        cx: Arc::clone(cx),
        task: task.clone(),
        source,
        reads_again: cx.read_again.knows(task),
        path: Arc::from(path),
        left: cx.limit.unwrap_or(u64::MAX),
        cutter: ShardCutter::new(cx.shard_rows_of(path)),
        open: Vec::new(),
        rejected: Vec::new(),
        stored_rejected: Vec::new(),
        n_shards: 0,
        pieces: VecDeque::new(),
        finished: Vec::new(),
        failed: None,
        inside: Duration::ZERO,
        counted: BTreeMap::new(),
    };
    let started = Instant::now();
    for split in splits {
        if sink.left == 0 {
            break;
        }
        let read = reader.read(split, &mut sink);
        // An error further on reaches the reader as "stop"; it is the one to report.
        sink.failed.take().map_or(Ok(()), Err)?;
        read.map_err(|error| cx.stage_error(source, error))?;
    }
    let busy = started.elapsed().saturating_sub(sink.inside);
    let counted = std::mem::take(&mut sink.counted);
    let mut finished = sink.finish()?;
    let totals = finished.totals.entry(cx.graph.nodes[source].id.clone()).or_default();
    totals.busy_seconds += busy.as_secs_f64();
    totals.counted = counted;
    Ok(finished)
}

/// Gathers a source's rows into shards; whole shards are processed by slots that have nothing to do, or here.
struct ShardSink {
    cx: Arc<Context>,
    task: Fingerprint,
    source: usize,
    reads_again: bool,
    path: Arc<[usize]>,
    left: u64,
    cutter: ShardCutter,
    open: Vec<RecordBatch>,
    rejected: Vec<Rejection>,
    stored_rejected: Vec<Finished>,
    n_shards: usize,
    pieces: VecDeque<Piece<Result<Finished, RunError>>>,
    finished: Vec<Finished>,
    failed: Option<RunError>,
    /// Time spent on shards by the thread that reads.
    inside: Duration,
    counted: BTreeMap<String, BTreeMap<String, u64>>,
}

impl RowSink for ShardSink {
    fn batch_rows(&self) -> usize {
        self.cx.batch_rows
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError> {
        if self.failed.is_some() {
            return Ok(ControlFlow::Break(()));
        }
        let batch = batch.slice(0, batch.num_rows().min(usize::try_from(self.left).unwrap_or(usize::MAX)));
        self.left -= batch.num_rows() as u64;
        for (piece, ends) in self.cutter.cut(&batch) {
            if piece.num_rows() > 0 {
                self.open.push(piece);
            }
            if ends && let Err(error) = self.close_shard() {
                self.failed = Some(error);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn reject(&mut self, rejection: Rejection) {
        if self.failed.is_some() {
            return; // nobody will see it, and a reader that only rejects can't be told to stop
        }
        self.rejected.push(rejection);
        if self.rejected.len() as u64 >= self.cx.shard_rows
            && let Err(error) = self.store_rejected()
        {
            self.failed = Some(error);
        }
    }

    fn count(&mut self, what: &'static str, name: &str, times: u64) {
        *self.counted.entry(what.to_owned()).or_default().entry(name.to_owned()).or_default() += times;
    }
}

impl ShardSink {
    fn close_shard(&mut self) -> Result<(), RunError> {
        let started = Instant::now();
        let closed = self.hand_over_shard();
        self.inside += started.elapsed();
        closed
    }

    fn hand_over_shard(&mut self) -> Result<(), RunError> {
        self.cx.check_interrupted()?;
        let (cx, task, path) = (Arc::clone(&self.cx), self.task.clone(), Arc::clone(&self.path));
        let from = From::Source { node: self.source, reads_again: self.reads_again };
        let (batches, part) = (std::mem::take(&mut self.open), self.n_shards);
        self.n_shards += 1;
        let pool = Arc::clone(&self.cx.pool);
        let process = move || process_shard(&cx, &task, part, &path, from, batches);
        self.pieces.push_back(pool.share(move || guarded("a shard", process)));
        while self.pieces.front().is_some_and(Piece::is_done) {
            self.join_first()?;
        }
        Ok(())
    }

    /// Rejections are cut by themselves: which rows they come between depends on the reader's batches.
    fn store_rejected(&mut self) -> Result<(), RunError> {
        self.cx.check_interrupted()?;
        let rejected = std::mem::take(&mut self.rejected);
        let mut outputs = Outputs::new(&self.cx, &self.task, self.stored_rejected.len());
        outputs.came_in(self.source, rejected.len() as u64, 0);
        outputs.reject(self.source, &rejected)?;
        self.stored_rejected.push(outputs.finish()?);
        Ok(())
    }

    fn join_first(&mut self) -> Result<(), RunError> {
        if let Some(done) = self.pieces.pop_front().and_then(Piece::join) {
            self.finished.push(done?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Finished, RunError> {
        if !self.open.is_empty() {
            self.close_shard()?;
        }
        if !self.rejected.is_empty() {
            self.store_rejected()?;
        }
        while !self.pieces.is_empty() {
            self.join_first()?;
        }
        self.finished.append(&mut self.stored_rejected);
        Ok(Finished::concat(self.finished))
    }
}

/// Where the rows of a shard come from.
#[derive(Clone, Copy)]
enum From {
    Stored,
    Source { node: usize, reads_again: bool },
}

/// Takes the rows of one shard through the stages of `path`.
fn process_shard(
    cx: &Arc<Context>,
    task: &Fingerprint,
    part: usize,
    path: &[usize],
    from: From,
    batches: Vec<RecordBatch>,
) -> Result<Finished, RunError> {
    let mut outputs = Outputs::new(cx, task, part);
    let mut emits: Vec<Emit> = path.iter().map(|&node| Emit::new(cx.graph.nodes[node].outputs.clone())).collect();
    let mut source_emit = None;
    if let From::Source { node, reads_again } = from {
        if reads_again {
            outputs = outputs.read_again(node);
        }
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        let bytes = batches.iter().map(schemas::batch_bytes).sum();
        outputs.came_in(node, rows, bytes);
        source_emit = Some((node, Emit::new(cx.graph.nodes[node].outputs.clone())));
    }
    let mut flight = path.last().and_then(|&node| Flight::of(cx, node));
    'rows: for batch in batches {
        for start in (0..batch.num_rows()).step_by(cx.batch_rows) {
            match &mut flight {
                None => cx.check_interrupted()?,
                Some(flight) => {
                    if let Err(ends) = cx.check_going_on() {
                        flight.end(ends); // when those under way have landed
                        break 'rows;
                    }
                }
            }
            let batch = batch.slice(start, cx.batch_rows.min(batch.num_rows() - start));
            match &mut source_emit {
                None => pass_on(cx, &mut outputs, &mut emits, flight.as_mut(), path, batch)?,
                Some((node, emit)) => {
                    emit.rows(batch).map_err(|error| cx.stage_error(*node, error))?;
                    for batch in outputs.take(*node, emit)? {
                        pass_on(cx, &mut outputs, &mut emits, flight.as_mut(), path, batch)?;
                    }
                }
            }
        }
    }
    if let (Some(flight), Some(emit)) = (flight, emits.last_mut()) {
        flight.land(&mut outputs, emit)?;
    }
    outputs.finish()
}

fn pass_on(
    cx: &Context,
    outputs: &mut Outputs,
    emits: &mut [Emit],
    mut flight: Option<&mut Flight>,
    path: &[usize],
    batch: RecordBatch,
) -> Result<(), RunError> {
    let ([node, path_rest @ ..], [emit, emits_rest @ ..]) = (path, emits) else { return Ok(()) };
    if path_rest.is_empty()
        && let Some(flight) = flight.as_deref_mut()
    {
        return flight.board(&batch, outputs, emit);
    }
    let Stage::RowLocal(stage) = &cx.graph.nodes[*node].stage else {
        return Err(StageError::Internal(format!("stage `{}` does not work row by row", cx.graph.nodes[*node].id)).into());
    };
    outputs.came_in(*node, batch.num_rows() as u64, schemas::batch_bytes(&batch));
    let started = Instant::now();
    stage.process(batch, emit).map_err(|error| cx.stage_error(*node, error))?;
    outputs.was_busy(*node, started.elapsed());
    for batch in outputs.take(*node, emit)? {
        pass_on(cx, outputs, emits_rest, flight.as_deref_mut(), path_rest, batch)?;
    }
    Ok(())
}
