//! Three small stage types that tests of the file, the manual and `check` are made with: a source, a filter, a global one.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};
use stages::registry::StageSpec;
use stages::{
    BuildContext, Done, Emit, Global, Inputs, Kind, Outputs, RowLocal, RowSink, Source, Split, SplitFile, Stage, StageConfig, StageError,
    Step, TableSpec,
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
