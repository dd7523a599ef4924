//! The coordinator: knows which units are ready, hands their tasks to the pool, and moves on as they finish.

mod ending;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use stages::{Port, Stage};
use time::OffsetDateTime;

use super::again::ReadAgain;
use super::asked::LlmSnapshot;
use super::asking::Asking;
use super::cache::ShardCache;
use super::context::Context;
use super::finish::{conclude, sweep};
use super::lock::Lock;
use super::log::{About, Level, RunLog};
use super::pool::Pool;
use super::progress::{Display, Progress, Snapshot};
use super::tasks::{ProgramState, Shards, Task, leg_tasks};
use super::{BASE_BYTES, Options, RunError, TASK_BYTES, publish};
use crate::fingerprint::Fingerprint;
use crate::graph::{Edge, Graph};
use crate::inputs::InputHashes;
use crate::marks::{self, DoneMark, Form, FoundMarks};
use crate::plan::{Plan, Unit, Work};
use crate::recipe::Recipe;
use crate::record::{Published, RunRecord, StageTotals, TaskCounts};
use crate::store::{Store, StoreError};

/// Runs a pipeline to its end.
///
/// # Errors
/// What stopped it. What was finished stays, and the next run goes on from there. The record of a run that began is there either way.
pub fn run(graph: Graph, options: &Options) -> (Result<(), RunError>, Option<Box<RunRecord>>) {
    let started = (Instant::now(), OffsetDateTime::now_utc());
    let (mut engine, threads, lock) = match Engine::start(graph, options, started.1) {
        Ok(started) => started,
        Err(error) => return (Err(error), None),
    };
    let log = Arc::clone(&engine.cx.log);
    let display = Display::start(Arc::clone(&engine.cx.progress), engine.cx.store.clone(), options.show, {
        let mut told = BTreeMap::new();
        move |snapshot: &Snapshot| {
            log_troubles(&log, &snapshot.llms, &mut told);
            log.flush();
        }
    });
    // Dropped in whatever way this ends, which ends what serves models.
    let (mut result, asking) = match Asking::begin(&engine.cx, options) {
        Ok(asking) => (engine.work(), Some(asking)),
        Err(error) => (Err(error), None),
    };
    engine.cx.pool.close();
    for thread in threads {
        if thread.join().is_err() {
            result = result.and(Err(RunError::Internal("a worker thread died".to_owned())));
        }
    }
    drop(asking);
    drop(display);
    let (result, record) = conclude(&engine, result, options, started);
    drop(lock);
    (result, Some(Box::new(record)))
}

/// Logs what goes wrong with models, when it first does and when it is something else.
fn log_troubles(log: &RunLog, llms: &[LlmSnapshot], told: &mut BTreeMap<String, String>) {
    for llm in llms {
        let Some(trouble) = &llm.trouble else { continue };
        if told.get(&llm.name) != Some(trouble) {
            log.line(Level::Warn, About::RUN, format!("model `{}`: last failure: {trouble}", llm.name));
            told.insert(llm.name.clone(), trouble.clone());
        }
    }
}

/// Tasks of a unit that wait for each slot: enough for no slot to wait for the coordinator.
const QUEUED_A_SLOT: usize = 8;

type Report = (usize, usize, Result<DoneMark, RunError>);

/// A run under way.
pub(super) struct Engine {
    /// What tasks know.
    pub cx: Arc<Context>,
    /// How far each unit has come.
    pub units: Vec<UnitState>,
    /// Checkpoints of finished units, by output.
    shards: Shards,
    inputs: InputHashes,
    /// The marks that were there at the start, where they were all read at once.
    pub(super) found: Option<FoundMarks>,
    reports: (Sender<Report>, Receiver<Report>),
    in_flight: usize,
    /// Tasks of this run.
    pub tasks: TaskCounts,
    runtime: Option<tokio::runtime::Runtime>,
}

/// How far a unit has come.
#[derive(Default)]
pub(super) struct UnitState {
    begun: bool,
    /// Whether all its tasks are done.
    pub finished: bool,
    /// Whether its steps follow from what is done: then not all are known before.
    pub program: bool,
    state: ProgramState,
    /// The tasks of the step under way; those that were handed out or are done are not kept.
    tasks: Vec<Option<Task>>,
    marks: Vec<Option<DoneMark>>,
    /// Tasks to do, of the step under way.
    pub left: usize,
    /// Of its tasks, the first that may be still to be handed out.
    next: usize,
    /// Tasks that were handed out and are not done.
    handed_out: usize,
    /// Counts of the step under way.
    step_totals: BTreeMap<String, StageTotals>,
    /// Tasks that were found done.
    pub found: u64,
    n_steps: usize,
    /// Every task it had, in order.
    pub all_tasks: Vec<Fingerprint>,
    /// Those of them that see what earlier runs left, and leave something for later ones.
    seeing: Vec<Fingerprint>,
    /// How often those were done again, as what they had left was gone.
    n_redone: usize,
    /// Those that this run did.
    made: Vec<Fingerprint>,
    /// Those with rows that were rejected because a model could not be asked: another time it may be.
    unasked: Vec<Fingerprint>,
    /// The marks of all its steps that gave rows, in order.
    pub outputs: Vec<DoneMark>,
    /// Counts of its stages.
    pub totals: BTreeMap<String, StageTotals>,
    /// What it published.
    pub published: Vec<(usize, Published)>,
}

impl Engine {
    /// Opens the output `output`, and plans; does and writes nothing.
    ///
    /// # Errors
    /// An output that cannot be opened, too little memory, or a stage to run to that is not there.
    pub(super) fn look(
        graph: Graph,
        options: &Options,
        output: &std::path::Path,
    ) -> Result<(Self, Vec<std::thread::JoinHandle<()>>), RunError> {
        let slots = options.slots()?;
        let to = match &options.to {
            Some(id) => Some(graph.nodes.iter().position(|node| node.id == *id).ok_or_else(|| RunError::NoStage(id.clone()))?),
            None => None,
        };
        let plan = Plan::new(&graph, to);
        let runtime = storage_runtime()?;
        let store = Store::open(output, runtime.handle().clone(), options.crash_at)?;
        let inputs = InputHashes::load(&store)?;
        let asks = |name: &str| plan.active.iter().flat_map(|&node| &graph.nodes[node].models).any(|model| model.name == name);
        let llms = graph.llms.only(asks);
        let device = graph.device.as_ref().map(ToString::to_string);
        let progress = Progress::new(
            graph.nodes.iter().map(|node| (node.id.clone(), node.spec.name.to_owned(), node.makes_rows())),
            device,
            llms.clone(),
        );
        let (pool, threads) = Pool::start(slots);
        let memory_slots = usize::try_from(options.memory.saturating_sub(BASE_BYTES) / TASK_BYTES).unwrap_or(usize::MAX);
        let units = plan
            .units
            .iter()
            .map(|unit| UnitState {
                program: matches!(unit.work, Work::Program),
                state: ProgramState::new(options.shard_rows),
                ..UnitState::default()
            })
            .collect();
        let cx = Context {
            graph: Arc::new(graph),
            plan,
            store,
            cache: ShardCache::default(),
            read_again: ReadAgain::default(),
            pool,
            progress: Arc::new(progress),
            log: Arc::default(),
            interrupted: Arc::clone(&options.interrupted),
            llms,
            ending: AtomicBool::new(false),
            runtime: runtime.handle().clone(),
            batch_rows: options.batch_rows.max(1),
            shard_rows: options.shard_rows,
            limit: options.limit,
            memory_slots,
        };
        let engine = Self {
            cx: Arc::new(cx),
            units,
            shards: Shards::new(),
            inputs,
            found: None,
            reports: channel(),
            in_flight: 0,
            tasks: TaskCounts::default(),
            runtime: Some(runtime),
        };
        Ok((engine, threads))
    }

    fn start(graph: Graph, options: &Options, started: OffsetDateTime) -> Result<(Self, Vec<std::thread::JoinHandle<()>>, Lock), RunError> {
        let output = options.output_of(&graph.output);
        refuse_foreign_output(&output)?;
        let recipe = Recipe::of(&graph, options);
        let (mut engine, threads) = Self::look(graph, options, &output)?;
        let prepare = || {
            let lock = Lock::take(&engine.cx.store, &options.interrupted)?;
            engine.cx.log.open(&engine.cx.store, started);
            engine.log_start(options);
            if options.fresh {
                super::finish::forget(&engine.cx.store)?;
            } else {
                recipe.refuse_other(&engine.cx.store)?;
            }
            engine.cx.store.remove_torn_writes()?;
            for stored in engine.cx.plan.stored.values() {
                if let Some((folder, _)) = &stored.publish {
                    publish::check_folder(&engine.cx.store, folder)?;
                }
            }
            recipe.save(&engine.cx.store)?;
            Ok(lock)
        };
        let prepared = prepare().and_then(|lock| Ok((lock, FoundMarks::look(&engine.cx.store)?)));
        match prepared {
            Ok((lock, found)) => {
                engine.found = found;
                Ok((engine, threads, lock))
            }
            Err(error) => {
                engine.cx.pool.close();
                engine.cx.log.error(&error);
                Err(error)
            }
        }
    }

    /// Tells with what the run begins. The environment is not told: secrets are there.
    fn log_start(&self, options: &Options) {
        let (graph, log) = (&self.cx.graph, &self.cx.log);
        let info = |text: String| log.line(Level::Info, About::RUN, text);
        info(format!("granary {}: {}", env!("CARGO_PKG_VERSION"), options.command_line));
        let (memory, slots) = (options.memory / 1_000_000, self.cx.pool.slots());
        info(format!("pipeline `{}`, seed {}, {slots} tasks at once, {memory} MB of memory", graph.name, graph.seed));
        if let Some(device) = &graph.device {
            info(format!("kernels run on {device}"));
        }
        graph.notes.iter().for_each(|note| log.line(Level::Warn, About::RUN, note));
        for node in self.cx.plan.active.iter().map(|&node| &graph.nodes[node]) {
            let about = About::stage(&node.id);
            log.line(Level::Info, about, format!("{} {}: {}", node.spec.name, node.spec.version, node.settings));
            node.notes.iter().for_each(|note| log.line(Level::Info, about, note));
        }
        log.flush();
    }

    fn work(&mut self) -> Result<(), RunError> {
        if let Err(error) = self.begin_ready() {
            self.abandon();
            return Err(self.forget_damaged(error));
        }
        while self.in_flight > 0 {
            let (unit, task, result) = self.reports.1.recv().map_err(|_| RunError::Internal("the workers are gone".to_owned()))?;
            self.in_flight -= 1;
            let moved = result.and_then(|mark| self.task_done(unit, task, mark, false)).and_then(|()| self.begin_ready());
            if let Err(error) = moved {
                self.abandon();
                return Err(self.forget_damaged(error));
            }
        }
        match self.units.iter().position(|unit| !unit.finished) {
            None => Ok(()),
            Some(unit) => Err(RunError::Internal(format!("unit {unit} was never ready"))),
        }
    }

    /// Forgets what nobody has begun, and waits for the rest: its results are kept.
    fn abandon(&mut self) {
        self.cx.ending.store(true, Ordering::Relaxed);
        self.in_flight -= self.cx.pool.clear();
        while self.in_flight > 0
            && let Ok((_, _, result)) = self.reports.1.recv()
        {
            self.in_flight -= 1;
            if let Err(error) = result {
                self.forget_damaged(error); // what stopped the run was another error
            }
        }
    }

    /// What is found damaged is made again by the next run.
    fn forget_damaged(&self, error: RunError) -> RunError {
        let RunError::Store(StoreError::Damaged { path, .. }) = &error else { return error };
        marks::forget_maker(&self.cx.store, path).map_or_else(RunError::from, |()| error)
    }

    /// Whether all that the unit reads is there.
    pub(super) fn is_ready(&self, unit: usize) -> bool {
        let reads = Plan::reads_of(&self.cx.graph, &self.cx.plan.units[unit]);
        let stored_by = |edge: &Edge| self.cx.plan.units.iter().position(|unit| unit.root == edge.node);
        reads.iter().all(|edge| stored_by(edge).is_some_and(|unit| self.units[unit].finished))
    }

    fn begin_ready(&mut self) -> Result<(), RunError> {
        // Units come after what they read, so one that is found done makes later ones ready in the same pass.
        for unit in 0..self.units.len() {
            if !self.units[unit].begun && self.is_ready(unit) {
                self.begin(unit)?;
                self.advance(unit)?;
            }
        }
        self.inputs.save(&self.cx.store)?;
        Ok(())
    }

    fn begin(&mut self, unit: usize) -> Result<(), RunError> {
        self.units[unit].begun = true;
        if let Work::Legs(legs) = &self.cx.plan.units[unit].work {
            let tasks = leg_tasks(&self.cx, legs, &self.shards, &mut self.inputs)?;
            self.set_tasks(unit, tasks)?;
        }
        Ok(())
    }

    /// Finds the tasks that are done; the others are left.
    fn set_tasks(&mut self, unit: usize, tasks: Vec<Task>) -> Result<(), RunError> {
        let nodes: Vec<usize> = self.cx.plan.nodes_of(&self.cx.plan.units[unit]).into_iter().collect();
        nodes.iter().for_each(|&node| self.cx.progress.more_tasks(node, tasks.len() as u64));
        let state = &mut self.units[unit];
        state.n_steps += 1;
        state.left = tasks.len();
        state.next = 0;
        state.marks = vec![None; tasks.len()];
        state.all_tasks.extend(tasks.iter().map(|task| task.fingerprint.clone()));
        if state.state.step.as_ref().is_some_and(|step| step.sees) {
            state.seeing.extend(tasks.iter().map(|task| task.fingerprint.clone()));
        }
        state.tasks = tasks.into_iter().map(Some).collect();
        let found_before = self.units[unit].found;
        for task in 0..self.units[unit].tasks.len() {
            let Some(Task { fingerprint, .. }) = &self.units[unit].tasks[task] else { continue };
            let mark = match &mut self.found {
                Some(found) => found.take(fingerprint)?,
                None => DoneMark::find(&self.cx.store, fingerprint)?,
            };
            if let Some(mark) = mark {
                self.units[unit].found += 1;
                self.record(unit, task, mark, true);
            }
        }
        let (found, all) = (self.units[unit].found - found_before, self.units[unit].tasks.len());
        if found > 0 {
            let root = &self.cx.graph.nodes[self.cx.plan.units[unit].root].id;
            self.cx.log.line(Level::Info, About::stage(root), format!("{found} of {all} tasks were done before"));
        }
        Ok(())
    }

    fn record(&mut self, unit: usize, task: usize, mut mark: DoneMark, reused: bool) {
        let nodes = self.cx.plan.nodes_of(&self.cx.plan.units[unit]);
        if reused {
            self.tasks.reused += 1;
            for &node in &nodes {
                if let Some(totals) = mark.totals.get(&self.cx.graph.nodes[node].id) {
                    self.cx.progress.reuse(node, totals);
                }
            }
        } else {
            self.tasks.done += 1;
        }
        self.cx.progress.task_done(nodes.into_iter(), reused);
        let asks = |id: &String| self.cx.graph.nodes.iter().any(|node| node.id == *id && !node.models.is_empty());
        let unasked = mark.totals.iter().any(|(id, totals)| totals.unasked_rows() > 0 && asks(id));
        let state = &mut self.units[unit];
        let of_earlier_steps = state.all_tasks.len() - state.tasks.len();
        let fingerprint = &state.all_tasks[of_earlier_steps + task];
        if unasked {
            state.unasked.push(fingerprint.clone());
        }
        if !reused {
            state.made.push(fingerprint.clone());
        }
        // Of a hundred thousand marks only what is still needed is kept: counts and the rows that are shown add up in any order.
        for (id, totals) in std::mem::take(&mut mark.totals) {
            state.step_totals.entry(id).or_default().merge(totals);
        }
        mark.task = String::new();
        state.tasks[task] = None;
        state.marks[task] = Some(mark);
        state.left -= 1;
    }

    fn task_done(&mut self, unit: usize, task: usize, mark: DoneMark, reused: bool) -> Result<(), RunError> {
        self.record(unit, task, mark, reused);
        self.units[unit].handed_out -= 1;
        if self.units[unit].left == 0 {
            return self.advance(unit);
        }
        self.hand_out(unit);
        Ok(())
    }

    /// Hands out what is left of the unit's step, or goes on to the next steps until one has tasks left.
    fn advance(&mut self, unit: usize) -> Result<(), RunError> {
        self.step_over_done(unit)?;
        if self.units[unit].finished {
            self.finish_unit(unit)?;
            return Ok(());
        }
        // What tasks may come to hold is not kept for anything else.
        let heaviest = self.units[unit].tasks.iter().flatten().map(|task| task.weight).max().unwrap_or(1);
        let free = self.cx.memory_slots.saturating_sub(heaviest.max(self.cx.pool.slots()));
        self.cx.cache.limit(&self.cx.store, free as u64 * TASK_BYTES)?;
        self.hand_out(unit);
        Ok(())
    }

    /// Queues tasks of a unit: a few for each slot, for there may be a hundred thousand of them.
    fn hand_out(&mut self, unit: usize) {
        let most = self.cx.pool.slots() * QUEUED_A_SLOT;
        while self.units[unit].handed_out < most && self.units[unit].next < self.units[unit].tasks.len() {
            let (step, task) = (self.units[unit].n_steps, self.units[unit].next);
            self.units[unit].next += 1;
            if let Some(next) = self.units[unit].tasks[task].take() {
                self.units[unit].handed_out += 1;
                self.submit((unit, step, task), next);
            }
        }
    }

    fn submit(&mut self, order: super::pool::Order, task: Task) {
        let (cx, reports, (unit, _, index)) = (Arc::clone(&self.cx), self.reports.0.clone(), order);
        self.in_flight += 1;
        self.cx.pool.submit(order, task.weight, move || {
            let about = About { stage: Some(&cx.graph.nodes[task.root()].id), task: Some(&task.label) };
            cx.log.line(Level::Info, about, "begun");
            let began = Instant::now();
            let result = guarded(&task.label, || task.run(&cx));
            let took = began.elapsed().as_secs_f64();
            match &result {
                Ok(mark) => cx.log.line(Level::Info, about, format!("done in {took:.3} s: {}", mark.summary())),
                Err(RunError::Interrupted) => cx.log.line(Level::Info, about, format!("interrupted after {took:.3} s")),
                Err(error) => cx.log.line(Level::Error, about, format!("failed after {took:.3} s: {error}")),
            }
            let _ = reports.send((unit, index, result));
        });
    }

    /// Goes over steps that have nothing left to do.
    fn step_over_done(&mut self, unit: usize) -> Result<(), RunError> {
        let root = self.cx.plan.units[unit].root;
        while self.units[unit].left == 0 && !self.units[unit].finished {
            let state = &mut self.units[unit];
            let marks: Vec<DoneMark> = std::mem::take(&mut state.marks).into_iter().flatten().collect();
            let gives_rows = state.state.step.as_ref().is_none_or(|step| step.emits);
            for (id, totals) in std::mem::take(&mut state.step_totals) {
                state.totals.entry(id).or_default().merge(totals);
            }
            state.state.finish_step(&marks);
            if gives_rows {
                state.outputs.extend(marks);
            }
            let tasks = if state.program { self.units[unit].state.next_tasks(&self.cx, root, &self.shards)? } else { None };
            match tasks {
                Some(tasks) => self.set_tasks(unit, tasks)?,
                None => self.finish_state(unit),
            }
        }
        Ok(())
    }

    /// Makes the unit's checkpoints known to those who read them.
    fn finish_state(&mut self, unit: usize) {
        self.units[unit].finished = true;
        let graph = &self.cx.graph;
        for file in self.units[unit].outputs.iter().flat_map(|mark| &mark.files).filter(|file| file.form != Form::Part) {
            if let Some(node) = graph.nodes.iter().position(|node| node.id == file.stage) {
                self.shards.entry(Edge { node, port: Port::named(&file.port) }).or_default().push(file.clone());
            }
        }
    }

    /// Finds out what of a unit that is ready is done.
    ///
    /// # Errors
    /// An output or an input that cannot be read, or a step that does not fit in the memory.
    pub(super) fn look_ahead(&mut self, unit: usize) -> Result<(), RunError> {
        self.begin(unit)?;
        self.step_over_done(unit)
    }

    /// Whether the unit's step under way is known to be its last.
    pub(super) fn is_last_step(&self, unit: usize) -> bool {
        self.units[unit].state.is_last(&self.cx, self.cx.plan.units[unit].root)
    }

    /// Lets the stages of a unit end. What they made in this run is of no worth if one says so: it is made again.
    fn finish_stages(&self, unit: usize) -> Result<(), RunError> {
        self.end_stages(&self.cx.plan.units[unit], &self.units[unit].made)
    }

    /// The same for tasks that a worker did.
    ///
    /// # Errors
    /// What a stage says at its end.
    pub(super) fn finish_all_stages(&self, made: &[Fingerprint]) -> Result<(), RunError> {
        self.cx.plan.units.iter().try_for_each(|unit| self.end_stages(unit, made))
    }

    fn end_stages(&self, unit: &Unit, made: &[Fingerprint]) -> Result<(), RunError> {
        for node in self.cx.plan.nodes_of(unit) {
            let Stage::RowLocal(stage) = &self.cx.graph.nodes[node].stage else { continue };
            let Err(error) = stage.finish() else { continue };
            let error = self.cx.stage_error(node, error);
            if !matches!(error, RunError::Interrupted) {
                for task in made {
                    self.cx.store.delete(&marks::path_of(task))?;
                }
            }
            return Err(error);
        }
        Ok(())
    }

    /// The tasks of a unit that can be done now.
    pub(super) fn ready_tasks(&self, unit: usize) -> impl Iterator<Item = &Task> {
        let unit = &self.units[unit];
        unit.tasks.iter().flatten()
    }

    /// Does tasks that were found to be ready, and tells `each` of those that are done, with the seconds since the first began.
    ///
    /// # Errors
    /// What stopped one of them; what was done by then stays.
    pub(super) fn do_tasks(&mut self, tasks: Vec<Task>, mut each: impl FnMut(&str, f64)) -> Result<(), RunError> {
        let began = Instant::now();
        for (index, task) in tasks.into_iter().enumerate() {
            self.submit((0, 0, index), task);
        }
        while self.in_flight > 0 {
            let (_, _, result) = self.reports.1.recv().map_err(|_| RunError::Internal("the workers are gone".to_owned()))?;
            self.in_flight -= 1;
            match result {
                Ok(mark) => each(&mark.task, began.elapsed().as_secs_f64()),
                Err(error) => {
                    self.abandon();
                    return Err(self.forget_damaged(error));
                }
            }
        }
        Ok(())
    }

    /// Remembers the hashes of the inputs for those who come after.
    ///
    /// # Errors
    /// What the storage says.
    pub(super) fn save_inputs(&mut self) -> Result<(), RunError> {
        Ok(self.inputs.save(&self.cx.store)?)
    }

    /// Removes what no task of this plan made.
    ///
    /// # Errors
    /// What the storage says.
    pub(super) fn sweep(&self, keep_data: bool) -> Result<(), RunError> {
        let tasks = self.units.iter().flat_map(|unit| &unit.all_tasks);
        sweep(&self.cx.store, &tasks.map(|task| (marks::path_of(task), marks::data_of(task))).collect::<Vec<_>>(), keep_data)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A panic is a bug of ours; it must not take the other tasks' results with it.
pub(super) fn guarded<T>(what: &str, job: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| Err(RunError::Internal(format!("{what}: {}", panic_text(panic.as_ref())))))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message")
}

/// What storage runs on.
///
/// # Errors
/// A system that gives no thread.
pub(super) fn storage_runtime() -> Result<tokio::runtime::Runtime, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| RunError::Internal(format!("no runtime for storage: {error}")))
}

/// An output that holds something but was never one of ours is somebody's work.
///
/// # Errors
/// [`RunError::ForeignFiles`], or what the storage says.
pub(super) fn refuse_foreign_output(output: &std::path::Path) -> Result<(), RunError> {
    let names = match crate::store::children(output) {
        Ok(names) => names,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(()),
        Err(source) => return Err(StoreError::Io { doing: "list", path: output.to_owned(), source }.into()),
    };
    if names.iter().any(|name| name == ".pipeline") {
        return Ok(());
    }
    match names.into_iter().find(|name| !name.to_str().is_some_and(crate::store::is_torn_write)) {
        Some(file) => Err(RunError::ForeignFiles { folder: output.to_owned(), file: file.to_string_lossy().into_owned() }),
        None => Ok(()),
    }
}
