//! `command`: a program of the user's own over the rows.

mod ask;
mod ipc;
mod jsonl;
mod judge;
mod process;
mod session;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datasets::DataError;
use datasets::formats::{ColumnType, Columns, list_inputs};
use schemars::JsonSchema;
use schemas::{ColumnSpec, SchemaError, document};
use serde::{Deserialize, Serialize};

pub use self::process::interrupt_programs;

use self::ask::{Programs, Work};
use self::judge::{Judge, about_dropping};
pub(crate) use self::process::Program;
use self::session::Protocol;
use crate::read::RecordBytes;
use crate::units::ColumnNames;
use crate::{BuildContext, Emit, Inputs, Kind, Outputs, Port, RowLocal, Stage, StageConfig, StageError};

/// Runs a program of your own over the rows: it reads rows from stdin and writes an answer for each to stdout, in the same order.
///
/// With `format: jsonl` a row is a line of JSON and so is its answer: `{"id": "a", "score": 0.5}`. With `format: arrow` both are Arrow IPC streams,
/// and each record batch is answered by one with as many rows. An answer holds the columns of `adds`, and `id` if that was sent, so that no
/// answer is taken for another row's; other fields are passed over. With `drops`, an answer whose `drop_reason` is one of those drops its row; it
/// needs no other column, and may have the numbers behind it as `drop_value` and `drop_threshold`. The program has to flush what it wrote after
/// every answer (`arrow`: batch), must treat each row on its own, write nothing else to stdout, and end with exit code 0 when its input ends.
///
/// It is started in the pipeline file's folder, without a shell, once for each task that runs at a time, with `GRANARY_STAGE` (this stage's id) and
/// `GRANARY_SEED` (the run's seed) in its environment and, so that Python flushes by itself, `PYTHONUNBUFFERED=1`. A program that dies, hangs or
/// writes something else is started again, and the batch is halved until the row that does it is alone in a process of its own. That row is
/// rejected: `command_died`, `command_timed_out`, `no_answer`, `answer_too_long`, `no_json`, `no_arrow`, `wrong_number`, `wrong_row` or
/// `extra_output`, with the end of stderr. So is a row whose answer can't be used: `wrong_type`, `missing_column`, `unknown_reason`,
/// `invalid_json` or `invalid_utf8`. A program that fails with nothing to read, or on row after row, stops the run.
///
/// The rows are made again when `run`, another setting, or the content of a file among the arguments or in `files` changes. Modules that a
/// script imports are not known: name them in `files`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program and its arguments, such as `[python3, score.py]`. The program is a file, relative to the pipeline file, or found in `PATH`.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// The columns that answers add, and their types, such as `{score: float32, labels: list<string>}`.
    #[serde(default)]
    pub adds: Option<Columns>,
    /// Columns of the input that do not leave the stage. One that `adds` names too is replaced, at its place.
    #[serde(default)]
    pub removes: Option<ColumnNames>,
    /// The reasons for which an answer may drop its row, such as `[toxic, off_topic]`; none if absent.
    #[serde(default)]
    pub drops: Option<DropReasons>,
    /// The columns that are sent; all if absent.
    #[serde(default)]
    pub columns: Option<ColumnNames>,
    /// How rows are sent and answered.
    #[serde(default)]
    pub format: Format,
    /// Most rows that are sent before the answers are read: with `arrow`, the rows of a record batch. Fewer where the stage before gives fewer.
    #[serde(default)]
    pub batch_rows: BatchRows,
    /// Longest time to wait for the answers to a batch, the start of the program included.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: NonZeroU32,
    /// Most bytes of answers to a batch. A batch with more is halved, a row with more is rejected.
    #[serde(default)]
    pub max_answer_bytes: RecordBytes,
    /// Most copies of the program that run at a time, for one that needs much memory or a device; as many as tasks if absent.
    #[serde(default, skip_serializing)]
    pub max_processes: Option<NonZeroU32>,
    /// More files that its answers depend on: paths or globs (`lib/**/*.py`), relative to the pipeline file.
    #[serde(default)]
    pub files: Vec<String>,
}

/// How rows are sent to a program and answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Format {
    /// A JSON object a line.
    #[default]
    Jsonl,
    /// An Arrow IPC stream, a record batch for each batch of rows.
    Arrow,
}

fn default_timeout() -> NonZeroU32 {
    NonZeroU32::new(300).expect("300 is not 0")
}

/// A number of rows from 1 to 8192.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32", into = "u32")]
#[schemars(with = "u32", inline, extend("minimum" = 1, "maximum" = 8192))]
pub struct BatchRows(u32);

impl Default for BatchRows {
    fn default() -> Self {
        Self(256)
    }
}

impl TryFrom<u32> for BatchRows {
    type Error = String;

    fn try_from(rows: u32) -> Result<Self, String> {
        if (1..=8192).contains(&rows) { Ok(Self(rows)) } else { Err(format!("a batch has 1 to 8192 rows, not {rows}")) }
    }
}

impl From<BatchRows> for u32 {
    fn from(rows: BatchRows) -> u32 {
        rows.0
    }
}

/// Reasons to drop a row: at least one, each once, in `snake_case`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>", inline, extend("minItems" = 1, "uniqueItems" = true))]
pub struct DropReasons(Vec<String>);

impl TryFrom<Vec<String>> for DropReasons {
    type Error = String;

    fn try_from(reasons: Vec<String>) -> Result<Self, String> {
        let is_plain = |reason: &String| {
            reason.starts_with(|first: char| first.is_ascii_lowercase())
                && reason.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        if let Some(odd) = reasons.iter().find(|reason| !is_plain(reason)) {
            return Err(format!("a reason is written in small letters, digits and `_`, such as `off_topic`; found `{odd}`"));
        }
        if reasons.is_empty() || reasons.iter().collect::<BTreeSet<_>>().len() < reasons.len() {
            return Err("wanted one or more reasons, each once".to_owned());
        }
        Ok(Self(reasons))
    }
}

impl From<DropReasons> for Vec<String> {
    fn from(reasons: DropReasons) -> Vec<String> {
        reasons.0
    }
}

impl StageConfig for CommandConfig {
    const NAME: &'static str = "command";
    const VERSION: u32 = 2;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: command, from: pages, run: [python3, score.py], adds: {loudness: float32}, drops: [shouting]}";
    const TAGS: bool = true;

    fn adds(&self) -> Vec<ColumnSpec> {
        let spec = |(name, column_type): &(String, ColumnType)| ColumnSpec {
            name: name.clone(),
            data_type: column_type.arrow(),
            nullable: true,
            description: "what the program answered".to_owned(),
        };
        self.added().map(spec).collect()
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        self.sent(input)?;
        self.check_names(input)?;
        let specs = StageConfig::adds(self);
        let field = |cell: &Cell| match cell {
            Cell::Kept(column) => Arc::clone(&input.fields()[*column]),
            Cell::Added(place) => Arc::new(specs[*place].field()),
        };
        let fields: Vec<_> = self.layout(input).iter().map(field).collect();
        let outputs = Outputs::new(Schema::new_with_metadata(fields, input.metadata().clone()).into());
        Ok(if self.drops.is_some() { outputs.with_dropped(input)? } else { outputs })
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let env = vec![("GRANARY_STAGE", cx.stage_id.clone()), ("GRANARY_SEED", cx.seed.to_string())];
        let program = Program::find(&self.run, &cx.base_dir, env).map_err(|problem| StageError::setting("run", problem))?;
        let files = StageConfig::files(self, cx)?.into_iter().map(|(_, path)| path);
        let columns = self.sent(input)?;
        let sent: SchemaRef = Arc::new(input.project(&columns)?);
        let id = sent.index_of(document::ID.name()).ok().filter(|column| sent.field(*column).data_type() == &DataType::Utf8);

        let mut answer: Vec<(String, ColumnType)> = self.added().cloned().collect();
        if id.is_some() {
            answer.push((document::ID.name().to_owned(), ColumnType::Json));
        }
        let required = answer.len();
        if self.drops.is_some() {
            answer.extend(about_dropping());
        }
        let reasons = self.drops.iter().flat_map(|reasons| &reasons.0).map(|reason| lasting(reason)).collect();
        let judge = Judge { adds: self.added().count(), names: answer.iter().map(|(name, _)| name.clone()).collect(), id, reasons };
        let max_bytes = usize::try_from(u64::from(self.max_answer_bytes)).unwrap_or(usize::MAX);
        let timeout = Duration::from_secs(self.timeout_seconds.get().into());
        let protocol = Protocol { format: self.format, sent, answer: Columns(answer), required, max_bytes, timeout };
        let layout = self.layout(input);
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let max_processes = self.max_processes.map_or(usize::MAX, |most| usize::try_from(most.get()).unwrap_or(usize::MAX));
        let programs = Programs::new(program, protocol, judge, files, max_processes);
        let batch_rows = usize::try_from(self.batch_rows.0).unwrap_or(1);
        Ok(Stage::RowLocal(Box::new(Command { programs, columns, layout, schema, batch_rows })))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for (place, argument) in self.run.iter().enumerate() {
            let path = cx.base_dir.join(argument);
            if path.is_file() {
                files.push((argument.clone(), path));
            } else if place > 0 && looks_like_a_script(argument) {
                let problem = format!("there is no file `{argument}` in the pipeline file's folder, where the program is started");
                return Err(StageError::setting("run", problem));
            }
        }
        for pattern in &self.files {
            if cx.base_dir.join(pattern).is_dir() {
                let problem = format!("`{pattern}` is a folder; wanted files, or a glob such as `{pattern}/**/*.py`");
                return Err(StageError::setting("files", problem));
            }
            let found = list_inputs(&cx.base_dir, std::slice::from_ref(pattern), &[]).map_err(|error| match error {
                DataError::Setting { problem, .. } => StageError::setting("files", problem),
                other => StageError::setting("files", other.to_string()),
            })?;
            let name = |path: &Path| path.strip_prefix(&cx.base_dir).unwrap_or(path).display().to_string();
            files.extend(found.into_iter().map(|file| (name(&file.path), file.path)));
        }
        Ok(files)
    }
}

/// A column of the output: one of the input's, or one that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Kept(usize),
    Added(usize),
}

impl CommandConfig {
    fn added(&self) -> impl Iterator<Item = &(String, ColumnType)> {
        self.adds.iter().flat_map(|columns| &columns.0)
    }

    fn removed(&self, name: &str) -> bool {
        self.removes.iter().flat_map(ColumnNames::iter).any(|removed| removed.as_str() == name)
    }

    /// The columns that are sent, by their place in the input.
    fn sent(&self, input: &Schema) -> Result<Vec<usize>, StageError> {
        match &self.columns {
            None => Ok((0..input.fields().len()).collect()),
            Some(names) => names.iter().map(|name| place_of(input, name.as_str(), "columns")).collect(),
        }
    }

    fn layout(&self, input: &Schema) -> Vec<Cell> {
        let place = |name: &str| self.added().position(|(added, _)| added == name);
        let mut layout = Vec::new();
        for (column, field) in input.fields().iter().enumerate() {
            match (self.removed(field.name()), place(field.name())) {
                (false, _) => layout.push(Cell::Kept(column)),
                (true, Some(place)) => layout.push(Cell::Added(place)),
                (true, None) => {}
            }
        }
        let replaced: Vec<Cell> = layout.clone();
        layout.extend((0..self.added().count()).map(Cell::Added).filter(|cell| !replaced.contains(cell)));
        layout
    }

    fn check_names(&self, input: &Schema) -> Result<(), StageError> {
        let id_column = document::ID;
        let id = id_column.name();
        for removed in self.removes.iter().flat_map(ColumnNames::iter) {
            place_of(input, removed.as_str(), "removes")?;
            if removed.as_str() == id {
                return Err(StageError::setting("removes", format!("`{id}` is what a row is called by all stages; it stays")));
            }
        }
        if self.adds.is_none() && self.drops.is_none() {
            let problem = "wanted `adds` or `drops`, or the program's answers change nothing; found neither";
            return Err(StageError::setting("run", problem));
        }
        for (name, _) in self.added() {
            if name == id {
                return Err(StageError::setting("adds", format!("`{id}` is what a row is called by all stages; it stays")));
            }
            if input.field_with_name(name).is_ok() && !self.removed(name) {
                let problem = format!("adds column `{name}`, which the input already has");
                return Err(
                    StageError::setting("adds", problem).with_help(format!("to replace it, name it in `removes` too: `removes: [{name}]`"))
                );
            }
        }
        if self.drops.is_some() {
            for (reserved, _) in about_dropping() {
                if self.added().any(|(name, _)| *name == reserved) {
                    return Err(StageError::setting("adds", format!("with `drops`, `{reserved}` in an answer is about dropping its row")));
                }
            }
        }
        Ok(())
    }
}

fn place_of(input: &Schema, name: &str, setting: &str) -> Result<usize, StageError> {
    input.index_of(name).map_err(|_| {
        let help = nearest(input, name).map(|near| format!("did you mean `{near}`?"));
        let error = StageError::setting(setting, SchemaError::missing(name, input).to_string());
        match help {
            Some(help) => error.with_help(help),
            None => error,
        }
    })
}

fn nearest<'s>(input: &'s Schema, name: &str) -> Option<&'s str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let names = input.fields().iter().map(|field| field.name().as_str());
    names.map(|other| (distance(other), other)).min().filter(|(distance, _)| *distance <= 2).map(|(_, other)| other)
}

/// Whether an argument names a script that would have to be there.
fn looks_like_a_script(argument: &str) -> bool {
    const SCRIPTS: [&str; 9] = ["py", "sh", "bash", "pl", "rb", "js", "mjs", "R", "jl"];
    let extension = Path::new(argument).extension().and_then(|extension| extension.to_str());
    !argument.starts_with('-') && !argument.contains(char::is_whitespace) && extension.is_some_and(|extension| SCRIPTS.contains(&extension))
}

/// The same text for as long as the program runs: reasons are compared and counted by reference, templates are compiled once. Pipeline files
/// hold few, so none is given back.
pub(crate) fn lasting(reason: &str) -> &'static str {
    static ALL: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get(reason) {
        return known;
    }
    let new: &'static str = Box::leak(reason.to_owned().into_boxed_str());
    all.insert(new);
    new
}

struct Command {
    programs: Programs,
    /// The columns of the input that are sent.
    columns: Vec<usize>,
    layout: Vec<Cell>,
    schema: SchemaRef,
    batch_rows: usize,
}

/// Bytes of answers after which rows leave.
const EMIT_BYTES: u64 = 16 << 20;

impl RowLocal for Command {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let sent = batch.project(&self.columns)?;
        let mut work = Work::default();
        let mut first = 0;
        for start in (0..batch.num_rows()).step_by(self.batch_rows) {
            let end = (start + self.batch_rows).min(batch.num_rows());
            self.programs.batch(&sent.slice(start, end - start), &mut work)?;
            if end == batch.num_rows() || work.judged.bytes() > EMIT_BYTES {
                std::mem::take(&mut work.judged).emit(&batch.slice(first, end - first), &self.layout, &self.schema, out)?;
                first = end;
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), StageError> {
        self.programs.finish()
    }
}

#[cfg(test)]
mod tests;
