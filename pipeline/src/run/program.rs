//! Tasks of global stages: what a step needs is read, the stage's code is called, what it gives is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use stages::{
    Global, MailIn, PartIn, Port, RangeIn, Route, ShardIn, ShardRows, Stage, StageError, Step, StepKind, TableSpec, Tables, WholeIn,
};

use super::RunError;
use super::again::rows_of;
use super::context::Context;
use super::exchange::{KeyRange, read_range, write_table};
use super::outputs::Outputs;
use crate::fingerprint::Fingerprint;
use crate::marks::{DoneMark, StoredFile, TableFile, data_of};

/// What was written to one table: the files in the order of the tasks that wrote them, each with its task's number.
pub(super) type Written = Arc<Vec<(u32, TableFile)>>;

/// One task of one step.
#[derive(Debug, Clone)]
pub(super) struct StepTask {
    /// The stage.
    pub node: usize,
    /// The step; shared by its tasks, of which there may be very many.
    pub step: Arc<Step>,
    /// Which part of it.
    pub part: StepPart,
    /// The tables the step reads.
    pub tables: Arc<BTreeMap<&'static str, Written>>,
    /// The ports that no step has read before: their rows are counted as having come in.
    pub counts: Arc<[Port]>,
}

/// What one task of a step works over.
#[derive(Debug, Clone)]
pub(super) enum StepPart {
    /// A shard of an input port.
    Shard(u32, Box<StoredFile>),
    /// A key range.
    Range(u32, KeyRange),
    /// A part, by its number.
    Part(u32),
    /// Of so many parts the first ones, until they gave as many rows as are wanted of the stage.
    FirstParts(u32),
    /// Everything: the shards of the ports the step names.
    Once(Vec<(Port, Vec<StoredFile>)>),
}

/// The program of a stage.
///
/// # Errors
/// [`StageError::Internal`] if the stage is of another kind.
pub(super) fn program(cx: &Context, node: usize) -> Result<&dyn Global, RunError> {
    match &cx.graph.nodes[node].stage {
        Stage::Global(global) => Ok(global.as_ref()),
        _ => Err(StageError::Internal(format!("stage `{}` has no program", cx.graph.nodes[node].id)).into()),
    }
}

/// Runs a task.
///
/// # Errors
/// What stops the run.
pub(super) fn run_step(cx: &Arc<Context>, fingerprint: &Fingerprint, label: String, task: &StepTask) -> Result<DoneMark, RunError> {
    cx.check_interrupted()?;
    let global = program(cx, task.node)?;
    let specs = global.tables();
    let mut outputs = Outputs::new(cx, fingerprint, 0);
    let mut out = Tables::new(specs.clone(), cx.graph.nodes[task.node].outputs.clone());
    let whole = read_whole(cx, &specs, task)?;
    let stage_error = |error| cx.stage_error(task.node, error);
    let makes = task.step.emits && cx.graph.nodes[task.node].inputs.is_empty();
    if makes {
        cx.progress.begins(task.node);
    }
    let mut busy = Duration::ZERO;
    let started;
    match &task.part {
        StepPart::Shard(index, file) => {
            let shard = read_shard(cx, *index, file)?;
            let mut mail = BTreeMap::new();
            for &table in &task.step.mail {
                mail.insert(table, read_mail(cx, spec_of(&specs, table)?, task, *index)?);
            }
            if !task.counts.is_empty() {
                outputs.came_in(task.node, file.rows, file.data_bytes);
            }
            started = Instant::now();
            global.shard(&task.step, &mut ShardIn { shard, mail, whole }, &mut out).map_err(stage_error)?;
        }
        StepPart::Range(index, range) => {
            let StepKind::Ranges { tables: names } = &task.step.kind else { return Err(wrong_part(&task.step)) };
            let tables = read_tables(cx, &specs, task, names, range)?;
            started = Instant::now();
            global.range(&task.step, &mut RangeIn { index: *index, tables, whole }, &mut out).map_err(stage_error)?;
        }
        StepPart::Part(index) => {
            started = Instant::now();
            global.part(&task.step, &mut PartIn { index: *index, wanted: u64::MAX, whole }, &mut out).map_err(stage_error)?;
        }
        StepPart::FirstParts(n) => {
            let mut left = cx.limit.unwrap_or(u64::MAX);
            for index in 0..*n {
                cx.check_interrupted()?;
                let began = Instant::now();
                let mut part = PartIn { index, wanted: left, whole: whole.clone() };
                global.part(&task.step, &mut part, &mut out).map_err(stage_error)?;
                busy += began.elapsed();
                left -= out.emit().cut(left);
                outputs.take(task.node, out.emit())?;
                if left == 0 {
                    break;
                }
            }
            started = Instant::now();
        }
        StepPart::Once(files) => {
            let StepKind::Once { tables: names, .. } = &task.step.kind else { return Err(wrong_part(&task.step)) };
            let tables = read_tables(cx, &specs, task, names, &KeyRange::default())?;
            let mut ports = Vec::new();
            for (port, files) in files {
                let mut shards = Vec::new();
                for (index, file) in (0_u32..).zip(files) {
                    shards.push(read_shard(cx, index, file)?);
                    if task.counts.contains(port) {
                        outputs.came_in(task.node, file.rows, file.data_bytes);
                    }
                }
                ports.push((port.clone(), shards));
            }
            started = Instant::now();
            global.once(&task.step, &mut WholeIn { tables, ports, whole }, &mut out).map_err(stage_error)?;
        }
    }
    busy += started.elapsed();
    let (mut written, mut emit) = out.into_parts();
    outputs.take(task.node, &mut emit)?;
    outputs.was_busy(task.node, busy);
    if makes {
        outputs.count_made(task.node);
    }
    let mut tables = Vec::new();
    for &name in &task.step.writes {
        let Some(parts) = written.remove(name) else { continue };
        let path = format!("{}/{name}.table", data_of(fingerprint));
        tables.extend(write_table(&cx.store, spec_of(&specs, name)?, &path, parts)?);
    }
    if let Some((name, _)) = written.first_key_value() {
        return Err(StageError::Internal(format!("step `{}` wrote table `{name}` without declaring it", task.step.name)).into());
    }
    let finished = outputs.finish()?;
    if !task.step.emits && !finished.files.is_empty() {
        return Err(StageError::Internal(format!("step `{}` gave rows or rejections without declaring it", task.step.name)).into());
    }
    Ok(DoneMark { task: label, files: finished.files, tables, totals: finished.totals })
}

fn wrong_part(step: &Step) -> RunError {
    StageError::Internal(format!("step `{}` got a task of another kind", step.name)).into()
}

fn spec_of<'s>(specs: &'s [TableSpec], name: &str) -> Result<&'s TableSpec, RunError> {
    specs.iter().find(|spec| spec.name == name).ok_or_else(|| StageError::Internal(format!("the program has no table `{name}`")).into())
}

fn files_of<'t>(task: &'t StepTask, table: &str) -> Vec<(u32, &'t TableFile)> {
    task.tables.get(table).map(|files| files.iter().map(|(task, file)| (*task, file)).collect()).unwrap_or_default()
}

fn read_shard(cx: &Context, index: u32, file: &StoredFile) -> Result<ShardRows, RunError> {
    let whole = rows_of(cx, file)?;
    let slices = |batch: RecordBatch| {
        let starts = (0..batch.num_rows()).step_by(cx.batch_rows);
        starts.map(|start| batch.slice(start, cx.batch_rows.min(batch.num_rows() - start))).collect::<Vec<_>>()
    };
    Ok(ShardRows { index, batches: whole.into_iter().flat_map(slices).collect() })
}

fn read_mail(cx: &Context, spec: &TableSpec, task: &StepTask, shard: u32) -> Result<MailIn, RunError> {
    let keyed = read_range(&cx.store, spec, &files_of(task, spec.name), &KeyRange::of_shard(shard))?;
    let row = |key: &u128| u32::try_from((key >> 64) & u128::from(u32::MAX)).expect("masked to 32 bits");
    Ok(MailIn { rows: keyed.keys.iter().map(row).collect(), batch: keyed.batch })
}

fn read_tables(
    cx: &Context,
    specs: &[TableSpec],
    task: &StepTask,
    names: &[&'static str],
    range: &KeyRange,
) -> Result<stages::TablesIn, RunError> {
    let read = |&name: &&'static str| Ok((name, read_range(&cx.store, spec_of(specs, name)?, &files_of(task, name), range)?));
    names.iter().map(read).collect()
}

fn read_whole(cx: &Context, specs: &[TableSpec], task: &StepTask) -> Result<BTreeMap<&'static str, RecordBatch>, RunError> {
    let read = |&name: &&'static str| {
        let spec = spec_of(specs, name)?;
        if spec.route != Route::Whole {
            return Err(RunError::from(StageError::Internal(format!("table `{name}` is not broadcast"))));
        }
        Ok((name, read_range(&cx.store, spec, &files_of(task, name), &KeyRange::default())?.batch))
    };
    task.step.whole.iter().map(read).collect()
}
