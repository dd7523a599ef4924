//! Small stage types that tests of the file, the manual and `check` are made with: a source, a filter, a global one; and for those of runs one
//! that makes rows of nothing, and one that has kernels.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::future::BoxFuture;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};
use stages::registry::StageSpec;
use stages::{
    BuildContext, Done, Emit, Global, Inputs, Kind, Makes, Outputs, PartIn, RowAsync, RowLocal, RowSink, Source, Split, SplitFile, Stage,
    StageConfig, StageError, Step, TableSpec, Tables, WholeIn,
};

/// Reads rows from a file that must be there.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadRowsConfig {
    /// The file.
    path: String,
    /// Columns and their types.
    #[serde(default = "text_alone")]
    columns: Vec<ColumnConfig>,
}

/// A column of the file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnConfig {
    /// Its name.
    name: String,
    /// Its type.
    #[serde(default)]
    r#type: ColumnType,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ColumnType {
    /// Characters.
    #[default]
    Text,
    /// Whole numbers.
    Number,
}

fn text_alone() -> Vec<ColumnConfig> {
    vec![ColumnConfig { name: "text".to_owned(), r#type: ColumnType::Text }]
}

struct ReadRows {
    path: PathBuf,
    name: String,
}

impl StageConfig for ReadRowsConfig {
    const NAME: &'static str = "read_rows";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: read_rows, path: a.txt}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        cx.note(format!("{} columns", self.columns.len()));
        let field = |column: &ColumnConfig| match column.r#type {
            ColumnType::Text => Field::new(&column.name, DataType::Utf8, true),
            ColumnType::Number => Field::new(&column.name, DataType::Int64, false),
        };
        Ok(Outputs::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()).into()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::Source(Box::new(ReadRows { path: cx.base_dir.join(&self.path), name: self.path.clone() })))
    }
}

impl Source for ReadRows {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        if !self.path.exists() {
            let pattern = self.path.display().to_string();
            return Err(datasets::DataError::NoMatch { pattern, nearest: None }.into());
        }
        let file = SplitFile { path: self.path.clone(), name: self.name.clone(), start: 0, end: 0 };
        Ok(vec![Split { files: vec![file], identity: String::new(), bytes: 0 }])
    }

    fn read(&self, _split: &Split, _out: &mut dyn RowSink) -> Result<(), StageError> {
        Ok(())
    }
}

/// Keeps long texts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeepLongConfig {
    /// Fewest characters.
    min_chars: u32,
    /// Share of the rows.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    share: f64,
    /// What is counted.
    #[serde(default)]
    unit: Unit,
    /// A word without spaces.
    word: Option<Word>,
    /// Whether white space counts.
    #[serde(default)]
    spaces: bool,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Unit {
    /// Unicode scalar values.
    #[default]
    Chars,
    /// Bytes of UTF-8.
    Bytes,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct Word(String);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains(' ') { Err("a word has no spaces".to_owned()) } else { Ok(Self(text)) }
    }
}

struct KeepLong;

impl StageConfig for KeepLongConfig {
    const NAME: &'static str = "keep_long";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: keep_long, from: rows, min_chars: 1}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, _cx: &BuildContext) -> Result<Stage, StageError> {
        if self.min_chars == 13 {
            return Err(StageError::setting("min_chars", "13 brings bad luck").with_help("take 12"));
        }
        Ok(Stage::RowLocal(Box::new(KeepLong)))
    }
}

impl RowLocal for KeepLong {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        out.rows(batch)
    }
}

/// Sees all rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JoinAllConfig {}

struct JoinAll;

impl StageConfig for JoinAllConfig {
    const NAME: &'static str = "join_all";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::OneOrNamed;
    const EXAMPLE: &'static str = "{use: join_all, from: rows}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        Ok(Outputs::new(cx.inputs[0].1.clone()))
    }

    fn build(&self, _cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::Global(Box::new(JoinAll)))
    }
}

impl Global for JoinAll {
    fn tables(&self) -> Vec<TableSpec> {
        Vec::new()
    }

    fn next(&self, _done: &Done) -> Option<Step> {
        None
    }
}

/// Their table.
pub(crate) static TABLE: &[StageSpec] =
    &[StageSpec::of::<JoinAllConfig>(), StageSpec::of::<KeepLongConfig>(), StageSpec::of::<ReadRowsConfig>()];

/// Makes rows of nothing, in parts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MakeRowsConfig {
    /// How many rows.
    rows: u64,
    /// In how many parts.
    parts: u32,
    /// Bytes a row is said to take; nothing is said if absent.
    each_bytes: Option<u64>,
    /// Whether it first draws a number for all rows, which all parts then get.
    #[serde(default)]
    draws: bool,
    /// The part of which every third row is rejected.
    rejects: Option<u32>,
}

struct MakeRows(MakeRowsConfig, String);

/// The number that all parts get.
const DRAWN: &str = "drawn";

impl MakeRows {
    fn drawn() -> Schema {
        Schema::new(vec![Field::new("drawn", DataType::Int64, false)])
    }
}

impl StageConfig for MakeRowsConfig {
    const NAME: &'static str = "make_rows";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: make_rows, rows: 10, parts: 2}";

    fn outputs(&self, _cx: &BuildContext) -> Result<Outputs, StageError> {
        let fields = vec![document::ID.spec().field(), document::TEXT.spec().field(), Field::new("n", DataType::Int64, false)];
        Ok(Outputs::new(Schema::new(fields).into()))
    }

    fn makes(&self, _cx: &BuildContext) -> Option<Makes> {
        let bytes = self.rows.saturating_mul(self.each_bytes?);
        Some(Makes { rows: self.rows, bytes, what: "rows of nothing".to_owned(), setting: "rows" })
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::Global(Box::new(MakeRows(self.clone(), cx.stage_id.clone()))))
    }
}

impl Global for MakeRows {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new(DRAWN, Self::drawn().into(), stages::Route::Whole)]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match (self.0.draws, done.steps()) {
            (true, 0) => Some(Step::once("draw", &[], Vec::new()).writes(&[DRAWN])),
            (true, 1) => Some(Step::parts("make", self.0.parts).whole(DRAWN).emits()),
            (false, 0) => Some(Step::parts("make", self.0.parts).emits()),
            _ => None,
        }
    }

    fn once(&self, _step: &Step, _all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        out.whole(DRAWN, RecordBatch::try_new(Self::drawn().into(), vec![Arc::new(Int64Array::from(vec![1000]))])?)
    }

    fn part(&self, _step: &Step, part: &mut PartIn, out: &mut Tables) -> Result<(), StageError> {
        let drawn = part.whole.get(DRAWN).map_or(0, |rows| rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0));
        let share = |index: u32| self.0.rows * u64::from(index) / u64::from(self.0.parts);
        let (start, end) = (share(part.index), share(part.index + 1));
        // What is given beyond what is wanted is cut off.
        let end = end.min(start.saturating_add(part.wanted).saturating_add(2));
        let is_rejected = |n: &u64| self.0.rejects == Some(part.index) && n.is_multiple_of(3);
        for n in (start..end).filter(is_rejected) {
            out.emit().reject(stages::Rejection {
                id: Some(format!("{}/{n}", self.1)),
                file: None,
                offset: None,
                reason: "odd",
                detail: String::new(),
            });
        }
        let made: Vec<u64> = (start..end).filter(|n| !is_rejected(n)).collect();
        for some in made.chunks(50) {
            let ids: StringArray = some.iter().map(|n| Some(format!("{}/{n}", self.1))).collect();
            let texts: StringArray =
                some.iter().map(|n| Some("word ".repeat(usize::try_from(n * n % 7).unwrap_or(0)) + &n.to_string())).collect();
            let numbers: Int64Array = some.iter().map(|n| Some(*n as i64 + drawn)).collect();
            let schema = StageConfig::outputs(&self.0, &BuildContext::new("", "".as_ref(), 0, Vec::new()))?;
            let schema = Arc::clone(schema.get(&stages::Port::OUT).expect("it has rows"));
            out.emit().rows(RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(texts), Arc::new(numbers)])?)?;
        }
        Ok(())
    }
}

/// Has kernels, whose device is lost at some rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunKernelConfig {
    /// At rows whose text holds this.
    lost_at: Option<String>,
}

impl StageConfig for RunKernelConfig {
    const NAME: &'static str = "run_kernel";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: run_kernel, from: rows}";
    const USES_DEVICE: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.spec()]
    }

    fn build(&self, _cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::RowLocal(Box::new(RunKernel(self.lost_at.clone()))))
    }
}

struct RunKernel(Option<String>);

impl RowLocal for RunKernel {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let texts = document::TEXT.of(&batch);
        if self.0.as_ref().is_some_and(|lost| texts.iter().flatten().any(|text| text.contains(lost.as_str()))) {
            out.ran(&gpu::Ran::FellBack("a test wanted it so".to_owned()));
        }
        out.ran(&gpu::Ran::Gpu);
        out.rows(batch)
    }
}

/// Waits for each row as if somebody was asked about it, and may ask a model. What only says how long that takes, and how it ends, is no part of
/// the fingerprint.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AskSlowlyConfig {
    /// What its observations are kept under.
    #[serde(skip_serializing)]
    seen: String,
    /// Milliseconds that a row takes at most.
    #[serde(default, skip_serializing)]
    most_ms: u64,
    /// Rows under way at once.
    #[serde(skip_serializing)]
    window: usize,
    /// The row that ends the run tidily.
    #[serde(skip_serializing)]
    stops_at: Option<i64>,
    /// The row at which the person ends the run.
    #[serde(skip_serializing)]
    interrupts_at: Option<i64>,
    /// The row that is a bug.
    #[serde(skip_serializing)]
    panics_at: Option<i64>,
    /// The row that takes a minute.
    #[serde(skip_serializing)]
    hangs_at: Option<i64>,
    /// Every so many rows one is rejected.
    rejects: Option<i64>,
    /// Each row is given so many times.
    #[serde(default = "once")]
    times: usize,
    /// The model that is asked about each row, besides.
    llm: Option<stages::llm::LlmName>,
}

fn once() -> usize {
    1
}

/// What was seen of an [`AskSlowly`]; no row depends on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) begun: usize,
    pub(crate) ended: usize,
    pub(crate) most_at_once: usize,
    /// Set when the person is to end the run.
    pub(crate) interrupt: Option<Arc<AtomicBool>>,
}

static SEEN: Mutex<BTreeMap<String, Seen>> = Mutex::new(BTreeMap::new());

/// What was seen under `name`, to look at or to prepare.
pub(crate) fn seen<T>(name: &str, with: impl FnOnce(&mut Seen) -> T) -> T {
    let mut all = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    with(all.entry(name.to_owned()).or_default())
}

struct AskSlowly(AskSlowlyConfig, Option<Arc<stages::llm::Llm>>);

impl StageConfig for AskSlowlyConfig {
    const NAME: &'static str = "ask_slowly";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowAsync;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: ask_slowly, from: rows, seen: example, window: 8}";

    fn llms(&self) -> Vec<(&'static str, &stages::llm::LlmName)> {
        self.llm.iter().map(|llm| ("llm", llm)).collect()
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let llm = self.llm.as_ref().map(|llm| cx.llm("llm", llm)).transpose()?;
        Ok(Stage::RowAsync(Box::new(AskSlowly(self.clone(), llm))))
    }
}

impl RowAsync for AskSlowly {
    fn window(&self) -> usize {
        self.0.window
    }

    fn process<'a>(&'a self, row: RecordBatch, out: &'a mut Emit) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            let n = row.column_by_name("n").expect("n").as_primitive::<arrow::datatypes::Int64Type>().value(0);
            let settings = &self.0;
            let interrupt = seen(&settings.seen, |seen| {
                seen.begun += 1;
                seen.most_at_once = seen.most_at_once.max(seen.begun - seen.ended);
                seen.interrupt.clone().filter(|_| settings.interrupts_at == Some(n))
            });
            if let Some(interrupt) = interrupt {
                interrupt.store(true, Ordering::Relaxed);
            }
            assert!(settings.panics_at != Some(n), "a bug at {n}");
            if settings.most_ms > 0 {
                // Differs from call to call: no byte may depend on it.
                let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), n);
                tokio::time::sleep(Duration::from_millis(random % settings.most_ms)).await;
            }
            if settings.hangs_at == Some(n) {
                tokio::time::sleep(Duration::from_mins(1)).await;
            }
            if let Some(llm) = &self.1 {
                let text = document::TEXT.of(&row).value(0).to_owned();
                let mut ask = stages::llm::Ask::new(vec![stages::llm::Message::text(stages::llm::Role::User, text)], 50);
                ask.stand_in = "x".repeat(40);
                match llm.ask(&ask).await {
                    Ok(_) => {}
                    Err(stages::llm::AskError::Refused { reason, detail, .. }) => out.reject_row(&row, 0, reason, detail),
                    Err(stages::llm::AskError::Stop(error)) => return Err(error),
                }
            }
            seen(&settings.seen, |seen| seen.ended += 1);
            if settings.stops_at == Some(n) {
                return Err(StageError::Stopped { problem: format!("the budget ends at {n}"), help: "raise it".to_owned() });
            }
            if settings.rejects.is_some_and(|every| n % every == 0) {
                out.reject_row(&row, 0, "refused", format!("row {n}"));
                return Ok(());
            }
            (0..settings.times).try_for_each(|_| out.rows(row.clone()))
        })
    }
}

/// Types that run, beside a true one.
pub(crate) static MAKERS: &[StageSpec] = &[
    StageSpec::of::<AskSlowlyConfig>(),
    StageSpec::of::<stages::DedupExactConfig>(),
    StageSpec::of::<MakeRowsConfig>(),
    StageSpec::of::<RunKernelConfig>(),
];
