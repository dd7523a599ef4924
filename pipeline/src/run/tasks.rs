//! What a unit of the plan is cut into, and what each task depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use stages::{Begin, Begun, Done, Port, Split, Stage, Step, StepKind};

use super::added;
use super::again::SourceSplit;
use super::context::Context;
use super::exchange::{KeyRange, RANGE_BYTES, bytes_in, cut_ranges};
use super::legs::{run_source, run_stored};
use super::program::{StepPart, StepTask, Written, program, run_step};
use super::{RunError, SHARD_ROWS, TASK_BYTES};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::graph::{DroppedRows, Edge};
use crate::inputs::{InputHashes, Seen};
use crate::marks::{DoneMark, StoredFile, TableFile};
use crate::plan::{Leg, Start, own_fingerprint};

/// A piece of work that can be done alone and again.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// What it depends on.
    pub fingerprint: Fingerprint,
    /// What it is, for people.
    pub label: String,
    /// Slots it takes.
    pub weight: usize,
    /// What it does.
    pub work: TaskWork,
}

/// What a task does.
#[derive(Debug, Clone)]
pub(super) enum TaskWork {
    /// Reads splits of a source.
    Source {
        /// The source.
        source: usize,
        /// The stages the rows pass.
        path: Vec<usize>,
        /// The splits.
        splits: Vec<Split>,
        /// Their files, as they were when their contents were hashed.
        files: Vec<Arc<Seen>>,
    },
    /// Reads a stored shard.
    Stored {
        /// The stages the rows pass.
        path: Vec<usize>,
        /// The shard.
        file: StoredFile,
        /// Which of its rows, if not all.
        some: Option<Range<u64>>,
    },
    /// Does a part of a step of a global stage.
    Step(Box<StepTask>),
}

impl Task {
    /// The stage it is done for: the last one that its rows pass.
    pub(super) fn root(&self) -> usize {
        match &self.work {
            TaskWork::Source { source, path, .. } => path.last().copied().unwrap_or(*source),
            TaskWork::Stored { path, .. } => path.last().copied().unwrap_or_default(),
            TaskWork::Step(step) => step.node,
        }
    }

    /// Does the task and leaves its mark.
    ///
    /// # Errors
    /// What stops the run.
    pub(super) fn run(&self, cx: &Arc<Context>) -> Result<DoneMark, RunError> {
        cx.check_interrupted()?;
        let finished = match &self.work {
            TaskWork::Source { source, path, splits, files } => {
                let finished = run_source(cx, &self.fingerprint, *source, path, splits)?;
                // If what was read is not what the fingerprint says, there is no mark.
                SourceSplit::check(files)?;
                finished
            }
            TaskWork::Stored { path, file, some } => run_stored(cx, &self.fingerprint, path, file, some.as_ref())?,
            TaskWork::Step(step) => {
                let mark = run_step(cx, &self.fingerprint, self.label.clone(), step)?;
                self.leave(cx, &mark)?;
                return Ok(mark);
            }
        };
        let mark = DoneMark { task: self.label.clone(), files: finished.files, tables: Vec::new(), totals: finished.totals };
        self.leave(cx, &mark)?;
        Ok(mark)
    }

    /// Leaves the mark, unless what was made would be gone with this process.
    fn leave(&self, cx: &Context, mark: &DoneMark) -> Result<(), RunError> {
        if !mark.files.iter().any(|file| cx.cache.alone_has(&file.path)) {
            mark.leave(&cx.store, &self.fingerprint)?;
        }
        Ok(())
    }
}

/// The stored shards of outputs, in order.
pub(super) type Shards = BTreeMap<Edge, Vec<StoredFile>>;

/// The tasks of a unit's legs.
///
/// # Errors
/// A source that cannot list its splits, or an input that cannot be read.
pub(super) fn leg_tasks(cx: &Context, legs: &[Leg], shards: &Shards, inputs: &mut InputHashes) -> Result<Vec<Task>, RunError> {
    let mut tasks = Vec::new();
    for leg in legs {
        let mut base = Fingerprint::of("leg task");
        match &leg.start {
            Start::Source(source) => {
                add_node(cx, &mut base, *source);
                if cx.shard_rows_of(&leg.path) < cx.shard_rows {
                    base.number(cx.shard_rows_of(&leg.path));
                }
                leg.path.iter().for_each(|&node| add_node(cx, &mut base, node));
                tasks.extend(source_tasks(cx, &base, *source, &leg.path, inputs)?);
            }
            Start::Stored(edge) => {
                leg.path.iter().for_each(|&node| add_node(cx, &mut base, node));
                let most = cx.shard_rows_of(&leg.path);
                if most < cx.shard_rows {
                    base.number(most);
                }
                for (index, file) in shards.get(edge).into_iter().flatten().enumerate() {
                    let pieces = if most < cx.shard_rows { file.rows.div_ceil(most).max(1) } else { 1 };
                    for piece in 0..pieces {
                        let some = (pieces > 1).then(|| piece * most..file.rows.min((piece + 1) * most));
                        let mut hasher = base.clone();
                        hasher.add(&file.path);
                        let mut label = format!("{} shard {index}", cx.graph.nodes[edge.node].id);
                        if let Some(some) = &some {
                            hasher.number(some.start).number(some.end);
                            label += &format!(" rows {} to {}", some.start, some.end);
                        }
                        label += &format!(" to {}", end_of(cx, &leg.path));
                        let work = TaskWork::Stored { path: leg.path.clone(), file: file.clone(), some };
                        tasks.push(Task { fingerprint: hasher.finish(), label, weight: 1, work });
                    }
                }
            }
        }
    }
    Ok(tasks)
}

fn end_of<'c>(cx: &'c Context, path: &[usize]) -> &'c str {
    path.last().map_or("its output", |&node| cx.graph.nodes[node].id.as_str())
}

/// Adds what a stage does and what is stored of it.
fn add_node(cx: &Context, hasher: &mut Hasher, node: usize) {
    hasher.fingerprint(&own_fingerprint(&cx.graph, node)).number(cx.shard_rows);
    let from = Edge { node, port: Port::named("") };
    for (edge, stored) in cx.plan.stored.range(from..).take_while(|(edge, _)| edge.node == node) {
        hasher.add(edge.port.as_str());
        if stored.checkpoint {
            hasher.add(crate::ipc::CheckpointPart::extension(cx.graph.checkpoints));
        }
        if let Some((_, settings)) = &stored.publish {
            hasher.add(serde_json::to_string(settings).expect("settings that were read serialize"));
            if edge.port == Port::DROPPED && cx.graph.nodes[node].dropped == DroppedRows::Ids {
                hasher.add("ids");
            }
        }
    }
}

fn source_tasks(cx: &Context, base: &Hasher, source: usize, path: &[usize], inputs: &mut InputHashes) -> Result<Vec<Task>, RunError> {
    let node = &cx.graph.nodes[source];
    let Stage::Source(reader) = &node.stage else {
        return Err(RunError::Internal(format!("stage `{}` is no source", node.id)));
    };
    let splits = reader.splits().map_err(|error| cx.stage_error(source, error))?;
    let mut paths: Vec<PathBuf> = splits.iter().flat_map(|split| split.files.iter().map(|file| file.path.clone())).collect();
    paths.sort();
    paths.dedup();
    inputs.learn(&paths)?;
    let add_split = |hasher: &mut Hasher, split: &Split, inputs: &InputHashes| {
        hasher.add(&split.identity);
        for file in &split.files {
            hasher.add(&file.name).add(inputs.get(&file.path).unwrap_or_default()).number(file.start).number(file.end);
        }
    };
    let mut task = |label: String, splits: Vec<Split>| -> Task {
        let mut hasher = base.clone();
        hasher.number(cx.limit.map_or(0, |limit| limit + 1));
        splits.iter().for_each(|split| add_split(&mut hasher, split, inputs));
        let files: Vec<_> = splits.iter().flat_map(|split| &split.files).filter_map(|file| inputs.seen(&file.path)).collect();
        let fingerprint = hasher.finish();
        if path.is_empty()
            && let [split] = splits.as_slice()
            && reader.reads_again(split)
        {
            cx.read_again.learn(&fingerprint, SourceSplit { source, split: split.clone(), files: files.clone() });
        }
        let work = TaskWork::Source { source, path: path.to_vec(), splits, files };
        Task { fingerprint, label, weight: 1, work }
    };
    if cx.limit.is_some() {
        // Which rows come first is known only by reading in order.
        return Ok(vec![task(format!("{} to {}", node.id, end_of(cx, path)), splits)]);
    }
    let label = |index: usize| format!("{} split {index} to {}", node.id, end_of(cx, path));
    Ok(splits.into_iter().enumerate().map(|(index, split)| task(label(index), vec![split])).collect())
}

/// How far a program has come.
#[derive(Debug, Default)]
pub(super) struct ProgramState {
    /// The finished steps.
    pub done: Done,
    /// What the last step that declared to write a table wrote.
    pub tables: BTreeMap<&'static str, Written>,
    /// The step under way.
    pub step: Option<Arc<Step>>,
    /// The ports whose rows a step has counted.
    pub counted: BTreeSet<Port>,
    /// Whether the program was told that it begins.
    pub has_begun: bool,
    /// What it said to that.
    pub begun: Option<Begun>,
}

impl ProgramState {
    /// A program of which nothing is done.
    pub(super) fn new(shard_rows: u64) -> Self {
        Self { done: Done::new((Done::AT_ONCE / SHARD_ROWS * shard_rows).max(1)), ..Self::default() }
    }

    /// Begins the next step; its tasks, or `None` when the program is finished.
    ///
    /// # Errors
    /// A step that cannot fit in memory.
    pub(super) fn next_tasks(&mut self, cx: &Context, node: usize, shards: &Shards) -> Result<Option<Vec<Task>>, RunError> {
        if !self.has_begun {
            self.begun = begin(cx, node, shards)?;
            self.has_begun = true;
        }
        self.step = program(cx, node)?.next(&self.done).map(Arc::new);
        let Some(step) = self.step.clone() else { return Ok(None) };
        let mut base = Fingerprint::of("step task");
        if step.emits {
            add_node(cx, &mut base, node);
        } else {
            base.fingerprint(&own_fingerprint(&cx.graph, node)).number(cx.shard_rows);
        }
        base.number(self.done.steps() as u64).add(step.name);
        if let Some(begun) = self.begun.as_ref().filter(|_| step.sees) {
            base.add("seen").add(&begun.seen);
        }
        let mut tables = BTreeMap::new();
        let read = match &step.kind {
            StepKind::Shards { .. } | StepKind::Parts { .. } => &[][..],
            StepKind::Ranges { tables } | StepKind::Once { tables, .. } => tables.as_slice(),
        };
        for &name in read.iter().chain(&step.mail).chain(&step.whole) {
            let written = self.tables.get(name).cloned().unwrap_or_default();
            base.add(name).number(written.len() as u64);
            for (task, file) in written.iter() {
                base.number(u64::from(*task)).add(&file.path);
            }
            tables.insert(name, written);
        }
        let ports = match &step.kind {
            StepKind::Shards { port } => std::slice::from_ref(port),
            StepKind::Ranges { .. } | StepKind::Parts { .. } => &[],
            StepKind::Once { ports, .. } => ports.as_slice(),
        };
        let tables = Arc::new(tables);
        let counts: Arc<[Port]> = ports.iter().filter(|port| self.counted.insert((*port).clone())).cloned().collect();
        let id = &cx.graph.nodes[node].id;
        let task = |fingerprint: Fingerprint, label: String, weight: usize, part: StepPart| {
            let work = TaskWork::Step(Box::new(StepTask {
                node,
                step: Arc::clone(&step),
                part,
                tables: Arc::clone(&tables),
                counts: Arc::clone(&counts),
            }));
            Task { fingerprint, label: format!("{id} {}: {label}", step.name), weight, work }
        };
        let over = |needs: u64| RunError::OverBudget {
            stage: id.clone(),
            step: step.name.to_owned(),
            needs,
            has: cx.memory_slots as u64 * TASK_BYTES,
        };
        let tasks = match &step.kind {
            StepKind::Shards { port } => {
                let files = port_shards(cx, node, port, shards);
                let bytes = |name: &str, range: &KeyRange| {
                    let files: Vec<&TableFile> =
                        tables.get(name).into_iter().flat_map(|written| written.iter().map(|(_, file)| file)).collect();
                    bytes_in(&files, range)
                };
                let whole: u64 = step.whole.iter().map(|name| bytes(name, &KeyRange::default())).sum();
                let all = (0_u32..).zip(files).map(|(index, file)| {
                    let fingerprint = base.clone().number(u64::from(index)).add(&file.path).finish();
                    let mail: u64 = step.mail.iter().map(|name| bytes(name, &KeyRange::of_shard(index))).sum();
                    // What is sent to a shard cannot be cut, so a task that gets much of it has the memory to itself.
                    let weight = weight(cx, file.data_bytes + 2 * (mail + whole)).unwrap_or(cx.memory_slots);
                    task(fingerprint, format!("shard {index}"), weight, StepPart::Shard(index, Box::new(file)))
                });
                all.collect()
            }
            StepKind::Ranges { tables: names } => {
                let files: Vec<_> =
                    names.iter().filter_map(|name| tables.get(name)).flat_map(|written| written.iter().map(|(_, file)| file)).collect();
                let hashed = program(cx, node)?.tables().iter().any(|spec| names.contains(&spec.name) && spec.route == stages::Route::Key);
                let ranges: Vec<KeyRange> = if files.is_empty() {
                    Vec::new()
                } else {
                    cut_ranges(&files, hashed, (RANGE_BYTES / SHARD_ROWS * cx.shard_rows).max(1))
                };
                let mut all = Vec::new();
                for (index, range) in (0_u32..).zip(ranges) {
                    let fingerprint = base.clone().number(u64::from(index)).add(format!("{range:?}")).finish();
                    let weight = weight(cx, bytes_in(&files, &range) * 3).map_err(over)?;
                    all.push(task(fingerprint, format!("range {index}"), weight, StepPart::Range(index, range)));
                }
                all
            }
            StepKind::Parts { n } => {
                if *n > Step::MOST_PARTS {
                    return Err(RunError::TooManyParts { stage: id.clone(), step: step.name.to_owned(), parts: *n });
                }
                let written = |name: &&'static str| tables.get(name).into_iter().flat_map(|written| written.iter().map(|(_, file)| file));
                let whole = bytes_in(&step.whole.iter().flat_map(written).collect::<Vec<_>>(), &KeyRange::default());
                let weight = weight(cx, 2 * whole).map_err(over)?;
                if let Some(limit) = cx.limit.filter(|_| step.emits && *n > 0) {
                    // Which rows come first is known only by making them in order.
                    base.add("limit").number(limit);
                    vec![task(base.finish(), format!("the first of {n} parts"), weight, StepPart::FirstParts(*n))]
                } else {
                    let part = |index: u32| {
                        let fingerprint = base.clone().number(u64::from(index)).finish();
                        task(fingerprint, format!("part {index}"), weight, StepPart::Part(index))
                    };
                    (0..*n).map(part).collect()
                }
            }
            StepKind::Once { ports, .. } => {
                let files: Vec<(Port, Vec<StoredFile>)> =
                    ports.iter().map(|port| (port.clone(), port_shards(cx, node, port, shards))).collect();
                let mut bytes: u64 = tables.values().flat_map(|written| written.iter().map(|(_, file)| file.bytes)).sum();
                for (port, files) in &files {
                    base.add(port.as_str());
                    for file in files {
                        base.add(&file.path);
                        bytes += file.data_bytes;
                    }
                }
                let weight = weight(cx, bytes * 3).map_err(over)?;
                vec![task(base.finish(), "everything".to_owned(), weight, StepPart::Once(files))]
            }
        };
        Ok(Some(tasks))
    }

    /// Whether no step comes after the one under way, as far as that is known before it is done: what a step writes may decide what comes next.
    pub(super) fn is_last(&self, cx: &Context, node: usize) -> bool {
        if self.step.as_ref().is_none_or(|step| !step.writes.is_empty()) {
            return false;
        }
        let mut done = self.done.clone();
        done.finish(BTreeMap::new());
        program(cx, node).is_ok_and(|program| program.next(&done).is_none())
    }

    /// Records the step under way as finished, from the marks of its tasks in order.
    pub(super) fn finish_step(&mut self, marks: &[DoneMark]) {
        let Some(step) = self.step.take() else { return };
        let mut counts = BTreeMap::new();
        for &table in &step.writes {
            let files = (0_u32..).zip(marks).flat_map(|(task, mark)| mark.tables.iter().map(move |file| (task, file)));
            let written: Vec<_> = files.filter(|(_, file)| file.table == table).map(|(task, file)| (task, file.clone())).collect();
            counts.insert(table, written.iter().map(|(_, file)| file.rows).sum());
            self.tables.insert(table, Arc::new(written));
        }
        self.done.finish(counts);
    }
}

/// Begins a program: it is told what its rows depend on, and says what it sees of what earlier runs left.
fn begin(cx: &Context, node: usize, shards: &Shards) -> Result<Option<Begun>, RunError> {
    let mut plan = Fingerprint::of("program");
    plan.fingerprint(&own_fingerprint(&cx.graph, node)).number(cx.shard_rows);
    for input in &cx.graph.nodes[node].inputs {
        plan.add(input.port.as_str());
        port_shards(cx, node, &input.port, shards).iter().for_each(|file| {
            plan.add(&file.path);
        });
    }
    let (plan, earlier) = (plan.finish(), added::find(&cx.store, &cx.graph.nodes[node].id)?);
    let begin = Begin { plan: plan.as_str(), earlier: &earlier, adds: cx.limit.is_none() };
    program(cx, node)?.begin(&begin).map_err(|error| cx.stage_error(node, error))
}

/// Slots a task takes that holds so many bytes.
///
/// # Errors
/// The bytes, if there are not as many slots.
fn weight(cx: &Context, bytes: u64) -> Result<usize, u64> {
    let slots = usize::try_from(bytes.div_ceil(TASK_BYTES)).unwrap_or(usize::MAX).max(1);
    if slots > cx.memory_slots { Err(bytes) } else { Ok(slots) }
}

/// The shards of an input port, in order.
fn port_shards(cx: &Context, node: usize, port: &Port, shards: &Shards) -> Vec<StoredFile> {
    let edges = cx.graph.nodes[node].inputs.iter().filter(|input| input.port == *port).flat_map(|input| &input.from);
    edges.flat_map(|edge| shards.get(edge).into_iter().flatten().cloned()).collect()
}
