//! Contract checks that every stage's tests call, and a small runner that needs no engine.
//!
//! Everything here panics where a check fails: it is for tests, of this crate and of others.

pub mod endpoint;
mod files;
mod tables;

pub use files::{read_all, samples};
pub use tables::{codes, example_inputs, maps, questions, sample, strings, vectors};

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, is_null, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::array_value_to_string;
use futures::StreamExt;
use schemas::dropped;
use serde_json::{Value, json};

use crate::llm::{Llms, Script};
use crate::{
    Begin, BuildContext, Done, Emit, Figures, Global, Keyed, MailIn, Measured, Outputs, PartIn, Port, RangeIn, Rejection, Route, RowRef,
    ShardIn, ShardRows, Stage, StageConfig, StageError, Step, StepKind, Subject, TablePart, TableSpec, Tables, TablesIn, WholeIn,
};

/// How the runner cuts what a stage gets.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Rows of a shard, for Global stages.
    pub shard_rows: usize,
    /// Key ranges, for Global stages.
    pub ranges: usize,
}

/// Cuts that must all give the same rows.
pub const CUTS: [Cut; 9] = [
    Cut { batch_rows: 1000, shard_rows: 1000, ranges: 1 },
    Cut { batch_rows: 7, shard_rows: 1000, ranges: 2 },
    Cut { batch_rows: 1, shard_rows: 1000, ranges: 7 },
    Cut { batch_rows: 1000, shard_rows: 3, ranges: 1 },
    Cut { batch_rows: 7, shard_rows: 3, ranges: 2 },
    Cut { batch_rows: 1, shard_rows: 3, ranges: 7 },
    Cut { batch_rows: 1000, shard_rows: 1, ranges: 1 },
    Cut { batch_rows: 1000, shard_rows: 1, ranges: 2 },
    Cut { batch_rows: 1000, shard_rows: 1, ranges: 7 },
];

/// Whether a stage's rows add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Rows in = rows out of all ports + rejected: the stage neither splits nor joins rows.
    KeptOrDropped,
    /// The stage makes as many rows as it likes.
    Free,
}

/// What a stage gave.
#[derive(Debug)]
pub struct Outcome {
    ports: BTreeMap<Port, RecordBatch>,
    /// What it rejected.
    pub rejected: Vec<Rejection>,
    /// Rows it dropped, by reason.
    pub drop_reasons: BTreeMap<&'static str, u64>,
    /// The numbers it decided by.
    pub measured: BTreeMap<&'static str, Measured>,
    /// What it counted for the report.
    pub figures: Figures,
    /// Rows that a Global program wrote to each table, all steps together.
    pub table_rows: BTreeMap<&'static str, u64>,
}

impl Outcome {
    /// The rows of the main port.
    pub fn rows(&self) -> &RecordBatch {
        self.port(&Port::OUT)
    }

    /// The rows dropped.
    pub fn dropped(&self) -> &RecordBatch {
        self.port(&Port::DROPPED)
    }

    /// The rows of `port`.
    ///
    /// # Panics
    /// If the stage declares no such port.
    pub fn port(&self, port: &Port) -> &RecordBatch {
        self.ports.get(port).unwrap_or_else(|| panic!("the stage declares no port `{port}`"))
    }
}

/// A stage and what it declares.
pub struct Built {
    /// The stage.
    pub stage: Stage,
    /// Its outputs.
    pub outputs: Outputs,
}

/// Reads settings, checks `reads()` and `outputs()` against inputs, and builds the stage, as the engine does.
///
/// # Errors
/// What the settings or the stage say is wrong.
pub fn build<C: StageConfig>(settings: Value, inputs: Vec<(Port, SchemaRef)>) -> Result<Built, StageError> {
    build_with::<C>(settings, inputs, Llms::stand_ins())
}

/// [`build`] with models to ask.
///
/// # Errors
/// As [`build`].
pub fn build_with<C: StageConfig>(settings: Value, inputs: Vec<(Port, SchemaRef)>, llms: Llms) -> Result<Built, StageError> {
    let config: C = serde_json::from_value(settings).map_err(|error| StageError::setting("(settings)", error.to_string()))?;
    for (_, schema) in &inputs {
        for column in config.reads() {
            column.check(schema)?;
        }
    }
    let mut cx = BuildContext::new(C::NAME, Path::new("."), 7, inputs);
    cx.llms = llms;
    let outputs = config.outputs(&cx)?;
    cx.outputs = Some(outputs.clone());
    Ok(Built { stage: config.build(&cx)?, outputs })
}

/// The error of a stage that does not build, as `setting: problem` or as the error's own text.
///
/// # Panics
/// If it builds.
pub fn refusal<C: StageConfig>(settings: Value, inputs: &[(Port, RecordBatch)]) -> String {
    let schemas = inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect();
    match build::<C>(settings, schemas) {
        Ok(_) => panic!("the stage builds"),
        Err(StageError::Setting { setting, problem, .. }) => format!("{setting}: {problem}"),
        Err(other) => other.to_string(),
    }
}

/// Runs a stage that is no source over whole inputs.
///
/// # Panics
/// If it does not build or run.
pub fn run<C: StageConfig>(settings: Value, inputs: &[(Port, RecordBatch)]) -> Outcome {
    run_cut::<C>(settings, inputs, CUTS[0])
}

/// Runs a stage that is no source, its inputs cut as `cut` says.
///
/// # Panics
/// If it does not build or run.
pub fn run_cut<C: StageConfig>(settings: Value, inputs: &[(Port, RecordBatch)], cut: Cut) -> Outcome {
    let schemas = inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect();
    let built = build::<C>(settings, schemas).unwrap_or_else(|error| panic!("`{}` does not build: {error}", C::NAME));
    let outcome = run_stage(&built, inputs, cut).unwrap_or_else(|error| panic!("`{}` fails: {error}", C::NAME));
    finish(&built).unwrap_or_else(|error| panic!("`{}` ends badly: {error}", C::NAME));
    outcome
}

/// Runs a stage that asks a model, which answers by `script`.
///
/// # Panics
/// If it does not build or run.
pub fn run_scripted<C: StageConfig>(settings: Value, input: &RecordBatch, script: Script) -> Outcome {
    let built = build_with::<C>(settings, vec![(Port::FROM, input.schema())], Llms::scripted(script))
        .unwrap_or_else(|error| panic!("`{}` does not build: {error}", C::NAME));
    run_stage(&built, &[(Port::FROM, input.clone())], CUTS[0]).unwrap_or_else(|error| panic!("`{}` fails: {error}", C::NAME))
}

/// Lets a program that has run make final what it leaves for later runs.
///
/// # Errors
/// What the stage says.
pub fn publish(built: &Built) -> Result<(), StageError> {
    if let Stage::Global(stage) = &built.stage { stage.publish(&|| {}) } else { Ok(()) }
}

/// Tells a stage that it has seen all rows.
///
/// # Errors
/// What the stage says.
pub fn finish(built: &Built) -> Result<(), StageError> {
    if let Stage::RowLocal(stage) = &built.stage { stage.finish() } else { Ok(()) }
}

/// Runs a built stage that is no source.
///
/// # Errors
/// What the stage says.
///
/// # Panics
/// If the stage breaks the contract.
pub fn run_stage(built: &Built, inputs: &[(Port, RecordBatch)], cut: Cut) -> Result<Outcome, StageError> {
    let mut outcome = Collected::new(&built.outputs);
    let mut table_rows = BTreeMap::new();
    match &built.stage {
        Stage::Source(_) => panic!("a source has no input to run over"),
        Stage::RowLocal(stage) => {
            let [(_, rows)] = inputs else { panic!("a RowLocal stage has one input") };
            // One collector for all batches, as one for each batch: a stage must not care.
            for batch in batches(rows, cut.batch_rows) {
                let mut emit = Emit::new(built.outputs.clone());
                stage.process(batch, &mut emit)?;
                outcome.take(emit);
            }
        }
        Stage::RowAsync(stage) => {
            let [(_, rows)] = inputs else { panic!("a RowAsync stage has one input") };
            let rows = (0..rows.num_rows()).map(|row| async move {
                let mut emit = Emit::new(built.outputs.clone());
                stage.process(rows.slice(row, 1), &mut emit).await.map(|()| emit)
            });
            // As in the engine: many rows are under way, and leave in the order of the input.
            let window = stage.window().min(cut.batch_rows).max(1);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let emits: Vec<Result<Emit, StageError>> = runtime.block_on(futures::stream::iter(rows).buffered(window).collect());
            for emit in emits {
                outcome.take(emit?);
            }
        }
        Stage::Global(stage) => table_rows = run_global(stage.as_ref(), &built.outputs, inputs, cut, &mut outcome)?,
    }
    Ok(Outcome {
        ports: outcome.rows()?,
        rejected: outcome.rejected,
        drop_reasons: outcome.drop_reasons,
        measured: outcome.measured,
        figures: outcome.figures,
        table_rows,
    })
}

/// Checks what every stage must keep to, with one input: any cut gives the same rows; no rows give no rows; rows add up; columns are as
/// declared; the settings survive being written and read.
///
/// # Panics
/// If one of them does not hold.
pub fn check_contract<C: StageConfig>(settings: Value, input: &RecordBatch, balance: Balance) -> Outcome {
    check_contract_of::<C>(settings, &[(Port::FROM, input.clone())], balance)
}

/// [`check_contract`] for a stage with any number of ports.
///
/// # Panics
/// As [`check_contract`].
pub fn check_contract_of<C: StageConfig>(settings: Value, inputs: &[(Port, RecordBatch)], balance: Balance) -> Outcome {
    let config: C = serde_json::from_value(settings.clone()).expect("settings that parse");
    let written = serde_json::to_value(&config).expect("settings that serialize");
    let again: C = serde_json::from_value(written.clone()).expect("written settings that parse");
    assert_eq!(serde_json::to_value(&again).expect("settings that serialize"), written, "settings change when written and read");

    let whole = run_cut::<C>(settings.clone(), inputs, CUTS[0]);
    for cut in &CUTS[1..] {
        let got = run_cut::<C>(settings.clone(), inputs, *cut);
        assert_eq!(got.ports, whole.ports, "`{}` gives other rows when cut as {cut:?}", C::NAME);
        assert_eq!(got.rejected, whole.rejected, "`{}` rejects other rows when cut as {cut:?}", C::NAME);
        assert_eq!(got.drop_reasons, whole.drop_reasons, "`{}` drops for other reasons when cut as {cut:?}", C::NAME);
        // Which pairs are compared, of those that need not be, may depend on the cut into shards.
        let of_rows = |outcome: &Outcome| {
            outcome
                .measured
                .iter()
                .filter(|(_, measured)| measured.of == Subject::Rows)
                .map(|(name, of)| (*name, of.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(of_rows(&got), of_rows(&whole), "`{}` measures other numbers when cut as {cut:?}", C::NAME);
    }

    let n_in: usize = inputs.iter().map(|(_, rows)| rows.num_rows()).sum();
    if balance == Balance::KeptOrDropped {
        let n_out: usize = whole.ports.values().map(RecordBatch::num_rows).sum();
        assert_eq!(n_in, n_out + whole.rejected.len(), "`{}`: rows in, and rows of all ports with the rejected", C::NAME);
    }

    tagging_keeps_what_dropping_takes::<C>(&settings, inputs, &whole);

    let nothing: Vec<(Port, RecordBatch)> = inputs.iter().map(|(port, rows)| (port.clone(), rows.slice(0, 0))).collect();
    let empty = run_cut::<C>(settings.clone(), &nothing, CUTS[0]);
    if balance == Balance::KeptOrDropped {
        assert!(empty.ports.values().all(|rows| rows.num_rows() == 0), "`{}` makes rows of nothing", C::NAME);
    }
    empty_batch::<C>(settings, &nothing);
    whole
}

/// With `on_fail: tag`, for a stage that can: the rows that pass and those that do not, in one output, are those of the two outputs otherwise.
fn tagging_keeps_what_dropping_takes<C: StageConfig>(settings: &Value, inputs: &[(Port, RecordBatch)], whole: &Outcome) {
    let schemas = inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect();
    let mut tagging = build::<C>(settings.clone(), schemas).unwrap_or_else(|error| panic!("`{}` does not build: {error}", C::NAME));
    if !tagging.outputs.can_tag() {
        return;
    }
    tagging.outputs = tagging.outputs.tagged("it").expect("columns without a clash");
    assert!(C::TAGS, "`{}` can tag and does not say so", C::NAME);
    let tagged = run_stage(&tagging, inputs, CUTS[0]).unwrap_or_else(|error| panic!("`{}` fails when it tags: {error}", C::NAME));
    let rows = tagged.rows();
    assert_eq!(tagged.drop_reasons, whole.drop_reasons, "`{}` tags for other reasons than it drops for", C::NAME);
    let n_own = whole.rows().num_columns();
    let passes = is_null(rows.column(n_own)).expect("a column of reasons");
    let passed = filter_record_batch(rows, &passes).expect("rows").project(&(0..n_own).collect::<Vec<_>>()).expect("columns");
    assert_eq!(passed.columns(), whole.rows().columns(), "`{}` passes other rows when it tags", C::NAME);
    // The verdicts alone: a stage that changes its rows drops them as they came.
    let told = |rows: &RecordBatch| dropped::columns().map(|reason| column(rows, &reason.name));
    match tagging.outputs.tagged_rows(rows).expect("rows") {
        Some(others) => assert_eq!(told(&others), told(whole.dropped()), "`{}` tags other rows than it drops", C::NAME),
        None => assert_eq!(whole.dropped().num_rows(), 0, "`{}` tags no row", C::NAME),
    }
    for cut in &CUTS[1..] {
        let got = run_stage(&tagging, inputs, *cut).unwrap_or_else(|error| panic!("`{}` fails when it tags: {error}", C::NAME));
        assert_eq!(got.ports, tagged.ports, "`{}` tags other rows when cut as {cut:?}", C::NAME);
    }
}

/// A `RowLocal` stage gets a batch without rows; the runner never makes one.
fn empty_batch<C: StageConfig>(settings: Value, nothing: &[(Port, RecordBatch)]) {
    let schemas = nothing.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect();
    let built = build::<C>(settings, schemas).unwrap_or_else(|error| panic!("`{}` does not build: {error}", C::NAME));
    if let (Stage::RowLocal(stage), [(_, rows)]) = (&built.stage, nothing) {
        let mut emit = Emit::new(built.outputs.clone());
        stage.process(rows.clone(), &mut emit).unwrap_or_else(|error| panic!("`{}` fails on an empty batch: {error}", C::NAME));
        assert!(emit.take_batches().is_empty(), "`{}` makes rows of nothing", C::NAME);
    }
}

/// MinHash signatures as `dedup_minhash` makes them of words, without what it does with them.
pub struct MinhashSignatures(crate::dedup::Signatures);

impl MinhashSignatures {
    /// Of `n_hashes` values, of shingles of `ngram` words.
    pub fn new(n_hashes: usize, ngram: usize) -> Self {
        Self(crate::dedup::Signatures::new(n_hashes, ngram))
    }

    /// The signature of a text; `[n_hashes]`.
    pub fn of(&mut self, text: &str) -> &[u32] {
        self.0.of(text)
    }
}

/// The values of a column as text; null as nothing.
///
/// # Panics
/// If there is no such column.
pub fn column(rows: &RecordBatch, name: &str) -> Vec<String> {
    let column = rows.column_by_name(name).unwrap_or_else(|| panic!("no column `{name}` in {:?}", rows.schema()));
    (0..rows.num_rows()).map(|row| array_value_to_string(column, row).expect("a value that prints")).collect()
}

/// A hash of rows in their order, for golden files: of each value as it prints, so that it moves with the rows and not with Arrow's buffers.
///
/// # Panics
/// If a value does not print.
pub fn hash_rows(outcome: &Outcome) -> String {
    let mut hasher = blake3::Hasher::new();
    for (port, rows) in &outcome.ports {
        hasher.update(json!([port.as_str(), rows.num_rows()]).to_string().as_bytes());
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            hasher.update(format!("{}: {}\n", field.name(), field.data_type()).as_bytes());
            for row in 0..rows.num_rows() {
                let value = column.is_valid(row).then(|| array_value_to_string(column, row).expect("a value that prints"));
                hasher.update(json!(value).to_string().as_bytes());
            }
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

struct Collected {
    outputs: Outputs,
    batches: Vec<(Port, RecordBatch)>,
    rejected: Vec<Rejection>,
    drop_reasons: BTreeMap<&'static str, u64>,
    measured: BTreeMap<&'static str, Measured>,
    figures: Figures,
}

impl Collected {
    fn new(outputs: &Outputs) -> Self {
        Self {
            outputs: outputs.clone(),
            batches: Vec::new(),
            rejected: Vec::new(),
            drop_reasons: BTreeMap::new(),
            measured: BTreeMap::new(),
            figures: Figures::new(),
        }
    }

    fn take(&mut self, mut emit: Emit) {
        self.batches.extend(emit.take_batches());
        self.rejected.extend(emit.take_rejections());
        for (name, measured) in emit.take_measured() {
            self.measured.entry(name).or_default().merge(measured);
        }
        for (figure, counts) in emit.take_figures() {
            let of_figure = self.figures.entry(figure).or_default();
            counts.into_iter().for_each(|(name, n)| *of_figure.entry(name).or_default() += n);
        }
        for (reason, rows) in emit.dropped() {
            *self.drop_reasons.entry(reason).or_default() += rows;
        }
    }

    fn rows(&self) -> Result<BTreeMap<Port, RecordBatch>, StageError> {
        let mut ports = BTreeMap::new();
        for (port, schema) in self.outputs.iter() {
            let batches = self.batches.iter().filter(|(to, _)| to == port).map(|(_, batch)| batch);
            ports.insert(port.clone(), concat_batches(schema, batches)?);
        }
        Ok(ports)
    }
}

fn batches(rows: &RecordBatch, batch_rows: usize) -> Vec<RecordBatch> {
    (0..rows.num_rows()).step_by(batch_rows).map(|start| rows.slice(start, batch_rows.min(rows.num_rows() - start))).collect()
}

fn shards(rows: &RecordBatch, cut: Cut) -> Vec<ShardRows> {
    let shards = batches(rows, cut.shard_rows).into_iter().enumerate();
    shards.map(|(index, rows)| ShardRows { index: number(index), batches: batches(&rows, cut.batch_rows) }).collect()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("tests have few rows")
}

/// A table between two steps: its rows in (key, origin) order.
struct Stored {
    /// Big-endian, so that 128-bit keys sort as byte strings do.
    keys: Vec<Vec<u8>>,
    origins: Vec<RowRef>,
    batch: RecordBatch,
}

impl Stored {
    fn empty(schema: &SchemaRef) -> Self {
        Self { keys: Vec::new(), origins: Vec::new(), batch: RecordBatch::new_empty(Arc::clone(schema)) }
    }

    /// Rows of all tasks, in the tasks' order.
    fn sorted(schema: &SchemaRef, tasks: Vec<Vec<TablePart>>) -> Result<Self, StageError> {
        let (mut keys, mut origins, mut batches): (Vec<Vec<u8>>, Vec<RowRef>, Vec<RecordBatch>) = Default::default();
        for (task, parts) in tasks.into_iter().enumerate() {
            let mut row = 0;
            for part in parts {
                let (part_keys, batch): (Vec<Vec<u8>>, RecordBatch) = match part {
                    TablePart::Hashed(keys, batch) => (keys.into_iter().map(|key| key.to_be_bytes().to_vec()).collect(), batch),
                    TablePart::Ordered(keys, batch) => ((0..keys.len()).map(|row| keys.value(row).to_vec()).collect(), batch),
                    TablePart::Whole(batch) => (vec![Vec::new(); batch.num_rows()], batch),
                };
                keys.extend(part_keys);
                for _ in 0..batch.num_rows() {
                    origins.push(RowRef { shard: number(task), row });
                    row += 1;
                }
                batches.push(batch);
            }
        }
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[a].cmp(&keys[b]).then(origins[a].cmp(&origins[b])));
        let batch = concat_batches(schema, &batches)?;
        let batch = take_record_batch(&batch, &order.iter().map(|&row| row as u64).collect::<UInt64Array>())?;
        Ok(Self {
            keys: order.iter().map(|&row| keys[row].clone()).collect(),
            origins: order.iter().map(|&row| origins[row]).collect(),
            batch,
        })
    }

    /// Rows whose key is at least `from` and below `to`.
    fn between(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Self {
        let start = from.map_or(0, |from| self.keys.partition_point(|key| key.as_slice() < from));
        let end = to.map_or(self.keys.len(), |to| self.keys.partition_point(|key| key.as_slice() < to));
        Self {
            keys: self.keys[start..end].to_vec(),
            origins: self.origins[start..end].to_vec(),
            batch: self.batch.slice(start, end - start),
        }
    }

    fn keyed(&self, route: &Route) -> Keyed {
        let hashed = matches!(route, Route::Key | Route::Row(_));
        let keys = if hashed { self.keys.iter().map(|key| hash_of(key)).collect() } else { Vec::new() };
        Keyed { keys, origins: self.origins.clone(), batch: self.batch.clone() }
    }

    fn mail(&self, shard: u32) -> MailIn {
        let from = RowRef { shard, row: 0 }.key().to_be_bytes();
        let to = shard.checked_add(1).map(|shard| RowRef { shard, row: 0 }.key().to_be_bytes());
        let mail = self.between(Some(&from), to.as_ref().map(<[u8; 16]>::as_slice));
        let rows = mail.keys.iter().map(|key| number(usize::try_from((hash_of(key) >> 64) & 0xFFFF_FFFF).expect("32 bits"))).collect();
        MailIn { rows, batch: mail.batch }
    }
}

fn hash_of(key: &[u8]) -> u128 {
    u128::from_be_bytes(key.try_into().expect("a 128-bit key"))
}

struct Program<'a> {
    global: &'a dyn Global,
    outputs: &'a Outputs,
    specs: BTreeMap<&'static str, TableSpec>,
    tables: BTreeMap<&'static str, Stored>,
}

impl Program<'_> {
    fn spec(&self, table: &str) -> &TableSpec {
        self.specs.get(table).unwrap_or_else(|| panic!("a step names table `{table}`, which the program does not have"))
    }

    fn stored(&self, table: &str) -> Stored {
        let spec = self.spec(table);
        self.tables.get(table).map_or_else(|| Stored::empty(&spec.schema), |stored| stored.between(None, None))
    }

    fn whole(&self, step: &Step) -> BTreeMap<&'static str, RecordBatch> {
        step.whole
            .iter()
            .map(|table| {
                assert_eq!(self.spec(table).route, Route::Whole, "step `{}` broadcasts `{table}`", step.name);
                (*table, self.stored(table).batch)
            })
            .collect()
    }

    fn tables_in(&self, names: &[&'static str], from: Option<&[u8]>, to: Option<&[u8]>) -> TablesIn {
        names.iter().map(|name| (*name, self.stored(name).between(from, to).keyed(&self.spec(name).route))).collect()
    }

    /// Keys at which all tables are cut: no key stands on both sides.
    fn cuts(&self, names: &[&'static str], ranges: usize) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = names.iter().flat_map(|name| self.stored(name).keys).collect();
        keys.sort();
        keys.dedup();
        (1..ranges).filter_map(|range| keys.get(keys.len() * range / ranges).cloned()).collect()
    }

    /// Of a part of which little is wanted comes the beginning of what it would give.
    fn check_wanted(&self, step: &Step) -> Result<(), StageError> {
        let first = |wanted: u64| {
            let mut out = self.tables_out();
            self.global.part(step, &mut PartIn { index: 0, wanted, whole: self.whole(step) }, &mut out)?;
            out.emit().cut(1);
            let given = out.emit().take_batches().into_iter().find(|(port, _)| *port == Port::OUT);
            Ok::<_, StageError>(given.map(|(_, rows)| rows))
        };
        assert_eq!(first(1)?, first(u64::MAX)?, "step `{}`, part 0: the first row where one is wanted, and where all are", step.name);
        Ok(())
    }

    fn tables_out(&self) -> Tables {
        Tables::new(self.specs.values().cloned().collect(), self.outputs.clone())
    }

    fn run_step(&self, step: &Step, inputs: &[(Port, RecordBatch)], cut: Cut) -> Result<Vec<Tables>, StageError> {
        let mut tasks = Vec::new();
        match &step.kind {
            StepKind::Shards { port } => {
                for shard in shards(rows_of(inputs, port), cut) {
                    let mail = step
                        .mail
                        .iter()
                        .map(|table| {
                            assert_eq!(self.spec(table).route, Route::Row(port.clone()), "step `{}` gets mail `{table}`", step.name);
                            (*table, self.stored(table).mail(shard.index))
                        })
                        .collect();
                    let mut out = self.tables_out();
                    self.global.shard(step, &mut ShardIn { shard, mail, whole: self.whole(step) }, &mut out)?;
                    tasks.push(out);
                }
            }
            StepKind::Ranges { tables } => {
                let cuts = self.cuts(tables, cut.ranges);
                for index in 0..=cuts.len() {
                    let from = index.checked_sub(1).map(|before| cuts[before].as_slice());
                    let to = cuts.get(index).map(Vec::as_slice);
                    let mut out = self.tables_out();
                    let tables = self.tables_in(tables, from, to);
                    self.global.range(step, &mut RangeIn { index: number(index), tables, whole: self.whole(step) }, &mut out)?;
                    tasks.push(out);
                }
            }
            StepKind::Parts { n } => {
                if *n > 0 && step.emits {
                    self.check_wanted(step)?;
                }
                for index in 0..*n {
                    let mut out = self.tables_out();
                    self.global.part(step, &mut PartIn { index, wanted: u64::MAX, whole: self.whole(step) }, &mut out)?;
                    tasks.push(out);
                }
            }
            StepKind::Once { tables, ports } => {
                let ports = ports.iter().map(|port| (port.clone(), shards(rows_of(inputs, port), cut))).collect();
                let mut out = self.tables_out();
                let tables = self.tables_in(tables, None, None);
                self.global.once(step, &mut WholeIn { tables, ports, whole: self.whole(step) }, &mut out)?;
                tasks.push(out);
            }
        }
        Ok(tasks)
    }
}

fn rows_of<'a>(inputs: &'a [(Port, RecordBatch)], port: &Port) -> &'a RecordBatch {
    let found = inputs.iter().find(|(name, _)| name == port);
    &found.unwrap_or_else(|| panic!("a step reads port `{port}`, which the stage does not have")).1
}

fn run_global(
    global: &dyn Global,
    outputs: &Outputs,
    inputs: &[(Port, RecordBatch)],
    cut: Cut,
    outcome: &mut Collected,
) -> Result<BTreeMap<&'static str, u64>, StageError> {
    let mut plan = blake3::Hasher::new();
    for (port, rows) in inputs {
        for field in rows.schema().fields() {
            plan.update(format!("{port} {}: {:?}", field.name(), column(rows, field.name())).as_bytes());
        }
    }
    global.begin(&Begin { plan: &plan.finalize().to_hex()[..32], earlier: &[], adds: true })?;
    let specs: Vec<TableSpec> = global.tables();
    let n_specs = specs.len();
    let specs: BTreeMap<_, _> = specs.into_iter().map(|spec| (spec.name, spec)).collect();
    assert_eq!(specs.len(), n_specs, "two tables of the program have one name");
    let mut program = Program { global, outputs, specs, tables: BTreeMap::new() };
    // Single rows are cut off as if memory held next to nothing.
    let mut done = if cut.shard_rows == 1 { Done::new(1) } else { Done::default() };
    let mut all_rows = BTreeMap::new();
    while let Some(step) = global.next(&done) {
        assert!(done.steps() < 1000, "the program does not end");
        assert_eq!(global.next(&done), Some(step.clone()), "`next` is no pure function");
        let mut written: BTreeMap<&'static str, Vec<Vec<TablePart>>> = step.writes.iter().map(|table| (*table, Vec::new())).collect();
        for task in program.run_step(&step, inputs, cut)? {
            let (mut parts, mut emit) = task.into_parts();
            for (table, tasks) in &mut written {
                tasks.push(parts.remove(table).unwrap_or_default());
            }
            assert!(parts.is_empty(), "step `{}` writes {:?} and does not declare it", step.name, parts.keys());
            let batches = emit.take_batches();
            assert!(step.emits || batches.is_empty(), "step `{}` gives rows and does not declare it", step.name);
            outcome.batches.extend(batches);
            outcome.take(emit);
        }
        let mut rows = BTreeMap::new();
        for (table, tasks) in written {
            let stored = Stored::sorted(&program.spec(table).schema, tasks)?;
            rows.insert(table, stored.batch.num_rows() as u64);
            *all_rows.entry(table).or_default() += stored.batch.num_rows() as u64;
            program.tables.insert(table, stored);
        }
        done.finish(rows);
    }
    Ok(all_rows)
}
