//! What a run is going to take, told from a sample: some splits of each source are read a little way, and what is read goes through the stages
//! that treat each row alone. Nothing is written.
//!
//! What a stage makes of all rows at once cannot be told from a few of them. After such a stage amounts are ranges, from nothing to what went in,
//! if its rows look like those that went in; else they are unknown.

mod asks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datasets::WriteSettings;
use serde::Serialize;
use stages::{
    Done, Emit, Global, MailIn, PartIn, Port, Rejection, RowSink, ShardIn, ShardRows, Source, Stage, StageError, Step, StepKind, TablePart,
    Tables,
};

pub use asks::AsksEstimate;

use self::asks::{Asked, Models};
use super::amount::{Amount, LEAST_SPREAD, spread_of_mean, spread_of_times};
use super::exchange::encode_table;
use super::progress::grouped;
use super::publish::PIECE_BYTES;
use super::{BASE_BYTES, Options, RunError, SHARD_ROWS, TASK_BYTES, usage};
use crate::fingerprint::Fingerprint;
use crate::graph::{Edge, Graph};
use crate::ipc::CheckpointPart;
use crate::plan::Plan;
use crate::show;

/// Splits of a source that are read.
const SPLITS: usize = 8;

/// A split is read on until so many bytes of it were: what readers take at a time is then a small part of it.
const READ_BYTES: u64 = 4 << 20;

/// Most bytes of rows of one split that go through the stages.
const SAMPLE_BYTES: u64 = 8 << 20;

/// How far the bytes may be off that a stage expects by its settings.
const SPREAD_OF_SETTINGS: f64 = 0.5;

/// Characters of why a row was rejected that are shown.
const DETAIL_CHARS: usize = 200;

/// What is told of a stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageEstimate {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "use")]
    pub stage_type: String,
    /// For a source: bytes of its files.
    pub input_bytes: Option<u64>,
    /// Rows that come in; none for a source.
    pub rows_in: Amount,
    /// Rows that leave through its main output.
    pub rows_out: Amount,
    /// Bytes of those rows in memory.
    pub bytes_out: Amount,
    /// Time of its own and of storing what it gives, as a task takes it by the clock: a program of yours that waits takes it too.
    pub task_seconds: Amount,
    /// What it leaves for the stages that read it, for itself between its steps, and for the parts before they are published.
    pub checkpoint_bytes: Amount,
    /// What it publishes.
    pub output_bytes: Amount,
    /// What it asks models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<AsksEstimate>,
}

/// What a run is going to take, from its beginning.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    /// By stage, each after what it reads.
    pub stages: Vec<StageEstimate>,
    /// What all stages ask models, by model. Answers that are stored cost nothing, and are counted here all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub llms: Vec<AsksEstimate>,
    /// Of all stages.
    pub task_seconds: Amount,
    /// The same by as many tasks at once as there may be.
    pub wall_seconds: Amount,
    /// Of all stages, under `.pipeline` and published.
    pub disk_bytes: Amount,
    /// What the file system of the output has left, where that is known.
    pub free_bytes: Option<u64>,
    /// What is wrong with it, or could be better.
    pub notes: Vec<String>,
}

/// Rows that stand for those of an output.
#[derive(Clone)]
struct Sampled {
    /// Rows of one place of one source, and how many rows each of them stands for.
    groups: Vec<(f64, Vec<RecordBatch>)>,
    spread: f64,
    /// How many there are, where all were counted, though few of them were taken.
    counted: Option<f64>,
    /// There may be none of them after all.
    at_most: bool,
}

impl Sampled {
    fn amount(&self, of: impl Fn(&RecordBatch) -> f64) -> Amount {
        let value = self.groups.iter().map(|(weight, batches)| weight * batches.iter().map(&of).sum::<f64>()).sum();
        match (self.at_most, self.spread) {
            (true, spread) => Amount::at_most(value * (1.0 + spread)),
            (false, 0.0) => Amount::known(value),
            (false, spread) => Amount::about(value, spread),
        }
    }

    fn rows(&self) -> Amount {
        if let (Some(counted), false) = (self.counted, self.at_most) {
            return Amount::known(counted);
        }
        self.amount(|batch| batch.num_rows() as f64)
    }

    fn bytes(&self) -> Amount {
        self.amount(|batch| schemas::batch_bytes(batch) as f64)
    }

    /// The same with other rows in the same places.
    fn with(&self, groups: Vec<(f64, Vec<RecordBatch>)>) -> Self {
        Self { groups, counted: None, ..*self }
    }

    /// Measures how long `job` takes for each group, and what bytes it makes; both for all rows that they stand for.
    fn measure<E>(&self, mut job: impl FnMut(&[RecordBatch]) -> Result<u64, E>) -> Result<(Amount, Amount), E> {
        let (mut seconds, mut bytes, mut rates) = (0.0, 0.0, Vec::new());
        for (weight, batches) in &self.groups {
            let began = Instant::now();
            bytes += weight * job(batches)? as f64;
            let took = began.elapsed().as_secs_f64();
            seconds += weight * took;
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if rows > 0 {
                rates.push(took / rows as f64);
            }
        }
        let (time, stored) = (Amount::about(seconds, spread_of_times(&rates)), Amount::about(bytes, self.spread.max(LEAST_SPREAD)));
        let bound = |amount: Amount| if self.at_most { Amount::at_most(amount.high.unwrap_or(0.0)) } else { amount };
        Ok((bound(time), bound(stored)))
    }
}

/// Estimates what a run takes from `rows` rows of each source.
///
/// # Errors
/// An input that cannot be read, or a stage that cannot go on with the rows of the sample.
pub fn estimate(graph: &Graph, options: &Options, rows: u64) -> Result<Estimate, RunError> {
    let to = match &options.to {
        Some(id) => Some(graph.nodes.iter().position(|node| node.id == *id).ok_or_else(|| RunError::NoStage(id.clone()))?),
        None => None,
    };
    let plan = Plan::new(graph, to);
    // Before anybody could be asked.
    let models = Models::stand_in(&graph.llms);
    let mut estimator = Estimator { graph, plan: &plan, options, rows, models, edges: BTreeMap::new(), notes: Vec::new() };
    let stages = plan.active.iter().map(|&node| estimator.stage(node)).collect::<Result<Vec<_>, _>>()?;
    let llms = Models::of_all(stages.iter().flat_map(|stage| &stage.asks));
    let mut notes = estimator.notes;
    notes.extend(estimator.models.passes(&llms));
    let sum = |of: fn(&StageEstimate) -> Amount| stages.iter().map(of).fold(Amount::NOTHING, Amount::plus);
    let task_seconds = sum(|stage| stage.task_seconds);
    let disk_bytes = sum(|stage| stage.checkpoint_bytes.plus(stage.output_bytes));
    let slots = options.slots()?;
    let by_slots = |seconds: f64| seconds / slots as f64;
    let wall_seconds =
        Amount { low: by_slots(task_seconds.low), high: task_seconds.high.map(by_slots), likely: task_seconds.likely.map(by_slots) };
    let available = usage::available_memory_bytes();
    if available > 0 && options.memory > available {
        notes.push(format!("it may use {} of memory, and the machine has {} left", show::bytes(options.memory), show::bytes(available)));
    }
    if slots < options.threads {
        let wanted = BASE_BYTES + options.threads as u64 * TASK_BYTES;
        let (given, threads) = (show::bytes(options.memory), options.threads);
        let tasks = if slots == 1 { "1 task".to_owned() } else { format!("{slots} tasks") };
        notes.push(format!("{given} of memory hold {tasks} at once; {} would hold one for each of {threads} threads", show::bytes(wanted)));
    }
    let free_bytes = usage::free_bytes(&options.output_of(&graph.output));
    if let Some(free) = free_bytes {
        let needs = disk_bytes.likely.unwrap_or(disk_bytes.low);
        if needs > free as f64 {
            notes.push(format!("it takes about {} of disk, and {} are free", show::bytes(whole(needs)), show::bytes(free)));
        } else if disk_bytes.high.is_some_and(|high| high > free as f64) {
            notes.push(format!("it may take more disk than is free: {}", show::bytes(free)));
        }
    }
    Ok(Estimate { stages, llms, task_seconds, wall_seconds, disk_bytes, free_bytes, notes })
}

struct Estimator<'g> {
    graph: &'g Graph,
    plan: &'g Plan,
    options: &'g Options,
    rows: u64,
    models: Models,
    /// What is known of each output; nothing of those that are not here.
    edges: BTreeMap<Edge, Sampled>,
    notes: Vec<String>,
}

impl Estimator<'_> {
    fn stage(&mut self, node: usize) -> Result<StageEstimate, RunError> {
        let stage = &self.graph.nodes[node];
        let input = if stage.inputs.is_empty() { None } else { self.input(node, None) };
        let mut estimate = StageEstimate {
            id: stage.id.clone(),
            stage_type: stage.spec.name.to_owned(),
            input_bytes: None,
            rows_in: match (&input, stage.inputs.is_empty()) {
                (Some(input), _) => input.rows(),
                (None, true) => Amount::NOTHING,
                (None, false) => Amount::UNKNOWN,
            },
            rows_out: Amount::UNKNOWN,
            bytes_out: Amount::UNKNOWN,
            task_seconds: Amount::UNKNOWN,
            checkpoint_bytes: Amount::NOTHING,
            output_bytes: Amount::NOTHING,
            asks: Vec::new(),
        };
        let mut in_memory = false;
        match (&stage.stage, input) {
            (Stage::Source(source), _) => {
                let (sampled, seconds, bytes, reads_again) = self.source(node, source.as_ref())?;
                in_memory = reads_again;
                (estimate.task_seconds, estimate.input_bytes) = (seconds, Some(bytes));
                self.edges.insert(Edge { node, port: Port::OUT }, sampled);
            }
            (Stage::RowLocal(_), Some(input)) => estimate.task_seconds = self.row_local(node, &input)?.0,
            (Stage::RowAsync(_), Some(input)) => {
                let (seconds, asked) = self.row_local(node, &input)?;
                // How long others take to answer, nobody knows.
                estimate.task_seconds = Amount::at_least(seconds.low);
                estimate.asks = self.models.of_stage(stage, Some((&asked, input.spread, input.at_most)));
            }
            (Stage::RowAsync(_), None) => estimate.asks = self.models.of_stage(stage, None),
            (Stage::Global(global), input) => {
                (estimate.task_seconds, estimate.checkpoint_bytes) = self.global(node, global.as_ref(), input)?;
            }
            (Stage::RowLocal(_), None) => {}
        }
        match (self.edges.get(&Edge { node, port: Port::OUT }), &stage.makes) {
            (_, Some(makes)) if self.is_unknown(node) => estimate.rows_out = Amount::known(makes.rows as f64),
            (Some(out), _) => (estimate.rows_out, estimate.bytes_out) = (out.rows(), out.bytes()),
            (None, _) => {}
        }
        self.stored(node, in_memory, &mut estimate)?;
        Ok(estimate)
    }

    /// Whether nothing was sampled that stands for a stage's rows.
    fn is_unknown(&self, node: usize) -> bool {
        self.edges.get(&Edge { node, port: Port::OUT }).is_none_or(|out| out.at_most)
    }

    /// All that comes into a stage, or into one port of it.
    fn input(&self, node: usize, port: Option<&Port>) -> Option<Sampled> {
        let mut all = Sampled { groups: Vec::new(), spread: 0.0, counted: Some(0.0), at_most: false };
        let ports = self.graph.nodes[node].inputs.iter().filter(|input| port.is_none_or(|port| input.port == *port));
        for edge in ports.flat_map(|input| &input.from) {
            let sampled = self.edges.get(edge)?;
            all.groups.extend(sampled.groups.iter().cloned());
            all.spread = all.spread.max(sampled.spread);
            all.counted = all.counted.zip(sampled.counted).map(|(all, some)| all + some);
            all.at_most |= sampled.at_most;
        }
        Some(all)
    }

    /// Rows of a source, the time it takes to read all of it, its bytes, and whether its rows need not be stored.
    fn source(&self, node: usize, source: &dyn Source) -> Result<(Sampled, Amount, u64, bool), RunError> {
        let stage_error = |source| RunError::Stage { stage: self.graph.nodes[node].id.clone(), source };
        let splits = source.splits().map_err(stage_error)?;
        let n_splits = splits.len().min(SPLITS);
        let total: u64 = splits.iter().map(|split| split.bytes).sum();
        // Generators read nothing; then each split is as good as another.
        let size = |bytes: u64| if total == 0 { 1.0 } else { bytes as f64 };
        let all = if total == 0 { splits.len() as f64 } else { total as f64 };
        // In each of as many equal stretches the same place, by the seed.
        let draw = self.draw(node) as usize;
        let chosen = (0..n_splits).map(|index| {
            let (start, end) = (index * splits.len() / n_splits, (index + 1) * splits.len() / n_splits);
            &splits[start + draw % (end - start)]
        });
        let mut takers = Vec::new();
        for split in chosen {
            let mut taker = Taker {
                batch_rows: self.options.batch_rows,
                wanted: self.rows.div_ceil(n_splits as u64),
                before: datasets::formats::input_bytes_read(),
                taken: Vec::new(),
                taken_rows: 0,
                taken_bytes: 0,
                rows: 0,
                stopped: false,
            };
            let began = Instant::now();
            source.read(split, &mut taker).map_err(stage_error)?;
            let read = if taker.stopped { taker.came_to().min(split.bytes) } else { split.bytes };
            takers.push((taker, size(read), began.elapsed().as_secs_f64()));
        }
        let read: f64 = takers.iter().map(|(_, read, _)| read).sum();
        let rows: f64 = takers.iter().map(|(taker, ..)| taker.rows as f64).sum();
        let taken: f64 = takers.iter().map(|(taker, ..)| taker.taken_rows as f64).sum();
        let seconds: f64 = takers.iter().map(|(.., seconds)| seconds).sum();
        let (mut is_whole, mut times, mut densities) = (takers.len() == splits.len(), Vec::new(), Vec::new());
        for (taker, read, seconds) in takers.iter().filter(|(_, read, _)| *read > 0.0) {
            is_whole &= !taker.stopped && taker.taken_rows == taker.rows;
            densities.push(taker.rows as f64 / read);
            times.push(seconds / read);
        }
        let share = if read > 0.0 { all / read } else { 1.0 };
        let counted = (takers.len() == splits.len() && takers.iter().all(|(taker, ..)| !taker.stopped)).then_some(rows);
        let spread = if is_whole { 0.0 } else { spread_of_mean(&densities) };
        let weight = if is_whole || taken == 0.0 { 1.0 } else { rows * share / taken };
        let groups = takers.into_iter().map(|(taker, ..)| (weight, taker.taken)).collect();
        let reads_again = splits.iter().all(|split| source.reads_again(split));
        let limited = self.options.limit.is_some_and(|limit| rows * share > limit as f64);
        if limited {
            return Ok((self.first_rows(groups, taken), Amount::about(0.0, 0.0), total, reads_again));
        }
        Ok((
            Sampled { groups, spread, counted, at_most: false },
            Amount::about(seconds * share, spread_of_times(&times)),
            total,
            reads_again,
        ))
    }

    /// A number by the seed, to choose what is sampled.
    fn draw(&self, node: usize) -> u32 {
        let mut hasher = Fingerprint::of("sampled splits");
        let draw = hasher.number(self.graph.seed).add(&self.graph.nodes[node].id).finish();
        u32::from_str_radix(&draw.as_str()[..8], 16).unwrap_or_default()
    }

    /// A sample that stands for the first rows alone.
    fn first_rows(&self, groups: Vec<(f64, Vec<RecordBatch>)>, taken: f64) -> Sampled {
        let weight = self.options.limit.unwrap_or(0) as f64 / taken.max(1.0);
        Sampled { groups: groups.into_iter().map(|(_, batches)| (weight, batches)).collect(), spread: 0.0, counted: None, at_most: false }
    }

    /// Takes rows through a stage; its time, and what it asked the models that it asks.
    fn row_local(&mut self, node: usize, input: &Sampled) -> Result<(Amount, Vec<Asked>), RunError> {
        let stage = &self.graph.nodes[node];
        let stage_error = |source| RunError::Stage { stage: stage.id.clone(), source };
        let mut given: BTreeMap<Port, Vec<Vec<RecordBatch>>> = BTreeMap::new();
        stage.outputs.iter().for_each(|(port, _)| _ = given.insert(port.clone(), Vec::new()));
        let mut emit = Emit::new(stage.outputs.clone());
        let mut asked = vec![Asked::default(); stage.models.len()];
        let (mut rows, mut rejected) = (0, BTreeMap::<&str, (u64, String)>::new());
        let mut weights = input.groups.iter().map(|(weight, _)| *weight);
        let (seconds, _) = input.measure(|batches| {
            let before = self.models.now(stage);
            for of_port in given.values_mut() {
                of_port.push(Vec::new());
            }
            for batch in batches {
                match &stage.stage {
                    Stage::RowLocal(code) => code.process(batch.clone(), &mut emit).map_err(stage_error)?,
                    Stage::RowAsync(code) => {
                        for row in 0..batch.num_rows() {
                            let process = code.process(batch.slice(row, 1), &mut emit);
                            futures::executor::block_on(process).map_err(stage_error)?;
                        }
                    }
                    _ => return Err(RunError::Internal(format!("`{}` does not work row by row", stage.id))),
                }
                for (port, batch) in emit.take_batches() {
                    if let Some(group) = given.get_mut(&port).and_then(|of_port| of_port.last_mut()) {
                        group.push(batch);
                    }
                }
                rows += batch.num_rows() as u64;
                for Rejection { reason, detail, .. } in emit.take_rejections() {
                    rejected.entry(reason).or_insert_with(|| (0, detail)).0 += 1;
                }
            }
            let weight = weights.next().unwrap_or_default();
            for ((asked, before), now) in asked.iter_mut().zip(before).zip(self.models.now(stage)) {
                asked.add(before, now, weight);
            }
            Ok::<u64, RunError>(0)
        })?;
        // Nobody is asked about these, so that the figures say less than the person expects.
        let most = rejected.iter().max_by_key(|(_, (rows, _))| *rows).filter(|_| !stage.models.is_empty());
        if let Some((reason, (count, detail))) = most {
            let all: u64 = rejected.values().map(|(rows, _)| rows).sum();
            let detail = show::cut(&show::visible_line(detail), DETAIL_CHARS);
            self.notes.push(format!(
                "`{}` rejected {} of {} sampled rows, {} of them as `{reason}`: {detail}",
                stage.id,
                grouped(all),
                grouped(rows),
                grouped(*count)
            ));
        }
        for (port, groups) in given {
            let weights = input.groups.iter().map(|(weight, _)| *weight);
            self.edges.insert(Edge { node, port }, input.with(weights.zip(groups).collect()));
        }
        Ok((seconds, asked))
    }

    /// What is told of a stage that needs to see all rows: its first step, if that goes over shards. Time, and bytes between its steps.
    fn global(&mut self, node: usize, global: &dyn Global, input: Option<Sampled>) -> Result<(Amount, Amount), RunError> {
        let stage = &self.graph.nodes[node];
        let stage_error = |source| RunError::Stage { stage: stage.id.clone(), source };
        let first = global.next(&Done::default());
        let mut took = (Amount::UNKNOWN, Amount::UNKNOWN);
        match first.as_ref().map(|step| (step, &step.kind)) {
            Some((step, StepKind::Shards { port })) if step.mail.is_empty() && step.whole.is_empty() => {
                if let Some(rows) = self.input(node, Some(port)) {
                    let mut tables = Broadcast::new();
                    let (seconds, bytes) = rows.measure(|batches| {
                        let mut out = Tables::new(global.tables(), stage.outputs.clone());
                        let shard = ShardRows { index: 0, batches: batches.to_vec() };
                        let mut shard = ShardIn { shard, mail: BTreeMap::<_, MailIn>::new(), whole: BTreeMap::new() };
                        global.shard(step, &mut shard, &mut out).map_err(stage_error)?;
                        let specs = global.tables();
                        let mut bytes = 0;
                        for (name, parts) in out.into_parts().0 {
                            let Some(spec) = specs.iter().find(|spec| spec.name == name) else { continue };
                            let whole =
                                parts.iter().filter_map(|part| if let TablePart::Whole(batch) = part { Some(batch.clone()) } else { None });
                            tables.entry(name).or_default().extend(whole);
                            encode_table(spec, parts, |block| {
                                bytes += block.len() as u64;
                                Ok(())
                            })?;
                        }
                        Ok::<u64, RunError>(bytes)
                    })?;
                    took = (Amount::at_least(seconds.low), Amount::at_least(bytes.low));
                    if let Some((next, n, whole)) = makes_next(global, step, tables)?.filter(|_| stage.makes.is_some()) {
                        let (made, _) = self.parts(node, global, &next, n, whole)?;
                        took = (seconds.plus(made), bytes);
                    }
                }
            }
            Some((step, StepKind::Parts { n })) if step.whole.is_empty() => {
                took = self.parts(node, global, step, *n, BTreeMap::new())?;
            }
            Some((step, StepKind::Once { ports, .. })) => {
                let held = ports.iter().filter_map(|port| Some(self.input(node, Some(port))?.bytes())).fold(Amount::NOTHING, Amount::plus);
                let (needs, has) = (held.likely.unwrap_or(held.low) * 3.0, self.options.memory.saturating_sub(BASE_BYTES));
                if needs > has as f64 {
                    let (needs, has) = (show::bytes(whole(needs)), show::bytes(has));
                    let id = &stage.id;
                    self.notes
                        .push(format!("`{id}`, step `{}`: it needs about {needs} of memory at once, the run may use {has}", step.name));
                }
            }
            _ => {}
        }
        // Rows that look like those that came in are some of them.
        let of_inputs: Vec<_> = stage.inputs.iter().flat_map(|input| &input.from).collect();
        let is_like = |edge: &&Edge| self.graph.nodes[edge.node].outputs.get(&edge.port) == stage.outputs.get(&Port::OUT);
        if stage.inputs.len() == 1
            && of_inputs.iter().all(is_like)
            && let Some(input) = input
        {
            self.edges.insert(Edge { node, port: Port::OUT }, Sampled { at_most: true, ..input });
        }
        Ok(took)
    }

    /// What is told of a step whose tasks make rows: one of its parts is made, as far as so many rows.
    fn parts(&mut self, node: usize, global: &dyn Global, step: &Step, n: u32, whole: Whole) -> Result<(Amount, Amount), RunError> {
        let stage = &self.graph.nodes[node];
        let stage_error = |source| RunError::Stage { stage: stage.id.clone(), source };
        let mut out = Tables::new(global.tables(), stage.outputs.clone());
        let began = Instant::now();
        if n > 0 {
            let mut part = PartIn { index: self.draw(node) % n, wanted: self.rows, whole };
            global.part(step, &mut part, &mut out).map_err(stage_error)?;
        }
        let seconds = began.elapsed().as_secs_f64();
        if !step.emits {
            return Ok((Amount::at_least(seconds * f64::from(n)), Amount::UNKNOWN));
        }
        let rows = out.emit().cut(self.rows) as f64;
        let mut given: BTreeMap<Port, Vec<RecordBatch>> = stage.outputs.iter().map(|(port, _)| (port.clone(), Vec::new())).collect();
        for (port, batch) in out.emit().take_batches() {
            given.entry(port).or_default().push(batch);
        }
        // A part that stopped where enough was made does not tell how long it is.
        let limit = self.options.limit.map_or(f64::INFINITY, |limit| limit as f64);
        let (all, spread) = match &stage.makes {
            Some(makes) => (makes.rows as f64, 0.0),
            None if n == 0 => (0.0, 0.0),
            None if rows < self.rows as f64 => ((rows * f64::from(n)).min(limit), if n == 1 { 0.0 } else { LEAST_SPREAD }),
            None if limit <= rows => (limit, 0.0),
            None => return Ok((Amount::at_least(seconds * f64::from(n)), Amount::NOTHING)),
        };
        let weight = if rows > 0.0 { all / rows } else { 0.0 };
        let counted = (spread == 0.0).then_some(all);
        for (port, batches) in given {
            let counted = counted.filter(|_| port == Port::OUT);
            self.edges.insert(Edge { node, port }, Sampled { groups: vec![(weight, batches)], spread, counted, at_most: false });
        }
        let times = if rows > 0.0 { Amount::about(seconds * weight, spread_of_times(&[seconds])) } else { Amount::known(0.0) };
        Ok((times, Amount::NOTHING))
    }

    /// Adds what it takes to store a stage's outputs.
    fn stored(&self, node: usize, in_memory: bool, estimate: &mut StageEstimate) -> Result<(), RunError> {
        let of_node = self.plan.stored.range(Edge { node, port: Port::named("") }..).take_while(|(edge, _)| edge.node == node);
        let is_global = matches!(self.graph.nodes[node].stage, Stage::Global(_));
        for (edge, stored) in of_node.filter(|(edge, _)| edge.port != Port::REJECTED) {
            if is_global && edge.port == Port::DROPPED {
                continue; // a row is kept or dropped, and all of them are counted as kept
            }
            let makes = self.graph.nodes[node].makes.as_ref().filter(|_| edge.port == Port::OUT && self.is_unknown(node));
            if let Some(makes) = makes {
                // What its settings say is as much as is known.
                let bytes = Amount::about(makes.bytes as f64, SPREAD_OF_SETTINGS);
                let (checkpoint, output) = (&mut estimate.checkpoint_bytes, &mut estimate.output_bytes);
                *checkpoint = if stored.checkpoint { checkpoint.plus(bytes) } else { *checkpoint };
                *output = if stored.publish.is_some() { output.plus(bytes) } else { *output };
                continue;
            }
            let Some(sampled) = self.edges.get(edge) else {
                if stored.checkpoint {
                    estimate.checkpoint_bytes = estimate.checkpoint_bytes.plus(Amount::UNKNOWN);
                }
                if stored.publish.is_some() {
                    estimate.output_bytes = estimate.output_bytes.plus(Amount::UNKNOWN);
                }
                continue;
            };
            if stored.checkpoint {
                let (seconds, bytes) = sampled.measure(|batches| self.checkpoint_of(batches))?;
                let (seconds, bytes) = if in_memory {
                    // Only as far as there is no memory for them.
                    (Amount::at_most(seconds.high.unwrap_or(0.0)), Amount::at_most(bytes.high.unwrap_or(0.0)))
                } else {
                    (seconds, bytes)
                };
                estimate.task_seconds = estimate.task_seconds.plus(seconds);
                estimate.checkpoint_bytes = estimate.checkpoint_bytes.plus(bytes);
            }
            if let Some((_, settings)) = &stored.publish {
                let (seconds, _) = sampled.measure(|batches| part_bytes(batches, settings))?;
                let bytes = published(sampled, settings)?;
                estimate.task_seconds = estimate.task_seconds.plus(seconds);
                estimate.output_bytes = estimate.output_bytes.plus(bytes);
                // Pieces that are parts by themselves are linked; small ones lie beside the parts that they were joined to.
                let (rows, all) = (sampled.rows().high.unwrap_or(0.0), bytes.high.unwrap_or(0.0));
                if rows > 0.0 && all / rows * (SHARD_ROWS as f64).min(rows) < PIECE_BYTES as f64 {
                    estimate.checkpoint_bytes = estimate.checkpoint_bytes.plus(bytes);
                }
            }
        }
        Ok(())
    }

    fn checkpoint_of(&self, batches: &[RecordBatch]) -> Result<u64, RunError> {
        let Some(first) = batches.first() else { return Ok(0) };
        let mut part = CheckpointPart::try_new(self.graph.checkpoints, &first.schema())?;
        batches.iter().try_for_each(|batch| part.write(batch))?;
        Ok(part.finish()?.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// Tables that go to everyone.
type Whole = BTreeMap<&'static str, RecordBatch>;

/// The same, as one step wrote them.
type Broadcast = BTreeMap<&'static str, Vec<RecordBatch>>;

/// The step that makes rows by what `step` wrote for everyone, if that comes next: the step, its parts, and what it gets.
fn makes_next(global: &dyn Global, step: &Step, tables: Broadcast) -> Result<Option<(Step, u32, Whole)>, RunError> {
    let mut done = Done::default();
    let rows = |table: &&'static str| tables.get(table).map_or(0, |batches| batches.iter().map(|batch| batch.num_rows() as u64).sum());
    done.finish(step.writes.iter().map(|table| (*table, rows(table))).collect());
    let Some(next) = global.next(&done) else { return Ok(None) };
    let StepKind::Parts { n } = next.kind else { return Ok(None) };
    let specs = global.tables();
    let table = |name: &&'static str| {
        let schema = specs.iter().find(|spec| spec.name == *name).map(|spec| &spec.schema);
        let schema = schema.ok_or_else(|| StageError::Internal(format!("the program has no table `{name}`")))?;
        Ok::<_, RunError>((*name, concat_batches(schema, tables.get(name).map_or(&[][..], Vec::as_slice))?))
    };
    let whole = next.whole.iter().map(table).collect::<Result<_, _>>()?;
    Ok(Some((next, n, whole)))
}

/// Bytes of a part that holds some rows.
fn part_bytes(batches: &[RecordBatch], settings: &WriteSettings) -> Result<u64, RunError> {
    let Some(first) = batches.first() else { return Ok(0) };
    let mut writer = datasets::part_writer(&first.schema(), settings)?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    let taken: usize = writer.take_chunks().iter().map(bytes::Bytes::len).sum();
    let rest: usize = writer.finish()?.chunks.iter().map(bytes::Bytes::len).sum();
    Ok((taken + rest) as u64)
}

/// Bytes of the parts of an output. What a part takes however few rows it holds (footer, dictionaries) must not be taken for each row: a row
/// takes what the second half of the sample adds to the first.
fn published(sampled: &Sampled, settings: &WriteSettings) -> Result<Amount, RunError> {
    let mut bytes = 0.0;
    for (weight, batches) in &sampled.groups {
        let all = part_bytes(batches, settings)? as f64;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let half = rows / 2;
        bytes += all;
        if half > 0 {
            let of_half = part_bytes(&first_of(batches, half), settings)? as f64;
            bytes += (weight - 1.0) * (all - of_half) / (rows - half) as f64 * rows as f64;
        }
    }
    let amount = Amount::about(bytes, sampled.spread.max(LEAST_SPREAD));
    Ok(if sampled.at_most { Amount::at_most(amount.high.unwrap_or(0.0)) } else { amount })
}

fn first_of(batches: &[RecordBatch], rows: usize) -> Vec<RecordBatch> {
    let mut left = rows;
    let first = batches.iter().map(|batch| {
        let some = batch.slice(0, batch.num_rows().min(left));
        left -= some.num_rows();
        some
    });
    first.filter(|batch| batch.num_rows() > 0).collect()
}

/// Takes the first rows of a split, and counts on until enough of it was read to tell how many there are.
struct Taker {
    batch_rows: usize,
    /// Rows to take.
    wanted: u64,
    /// What was read of inputs when it began.
    before: u64,
    taken: Vec<RecordBatch>,
    taken_rows: u64,
    taken_bytes: u64,
    rows: u64,
    stopped: bool,
}

impl Taker {
    /// Bytes of the split that were read; 0 if nobody counts them.
    fn came_to(&self) -> u64 {
        datasets::formats::input_bytes_read() - self.before
    }
}

impl RowSink for Taker {
    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError> {
        self.rows += batch.num_rows() as u64;
        let wanted = if self.taken_bytes < SAMPLE_BYTES { self.wanted - self.taken_rows } else { 0 };
        let some = batch.slice(0, batch.num_rows().min(usize::try_from(wanted).unwrap_or(usize::MAX)));
        if some.num_rows() > 0 {
            self.taken_rows += some.num_rows() as u64;
            self.taken_bytes += schemas::batch_bytes(&some);
            self.taken.push(some);
        }
        let is_enough = self.taken_rows >= self.wanted || self.taken_bytes >= SAMPLE_BYTES;
        self.stopped = is_enough && self.came_to() >= READ_BYTES;
        Ok(if self.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn reject(&mut self, _: Rejection) {}
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an amount of something, rounded; too large ones saturate")]
fn whole(amount: f64) -> u64 {
    amount.round() as u64
}
