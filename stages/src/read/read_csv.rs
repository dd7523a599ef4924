//! `read_csv`: reads comma-separated values.

use std::path::PathBuf;

use datasets::formats::{Columns, CsvOptions, CsvReader, check_headers, csv_schema, extensions, plan_files};
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use super::{Ids, Paths, RecordBytes, drain, parts, placed, splits, with_own_id};
use crate::{BuildContext, Inputs, Kind, Outputs, RowSink, Source, Split, Stage, StageConfig, StageError};

/// Reads files of comma-separated values: `.csv`, `.tsv`, plain or compressed (`.gz`, `.zst`).
///
/// Every row has an `id`: the column named by `id`, else the input's own `id` (listed in `columns` or not), else `<stage>/<file>@<byte offset>`. Quoted fields may hold
/// line ends. An empty field is null. A record with too many or too few fields, or a field that does not fit its column, is rejected with its
/// offset. A quote that is never closed, a record that is too long or a damaged file loses the rest of the file: one rejection, and as nobody knows
/// how many rows that is, the run warns of it. Columns are found by their names in each file's header; a file that lacks one stops the run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadCsvConfig {
    /// A file, a folder or a glob (`data/*.csv`), or a list of them; relative to the pipeline file, or addresses (`s3://…`, `hf://datasets/…`).
    pub path: Paths,
    /// The columns to read and their types, such as `{text: string, n: int64}`. Inferred from the first 2000 records if absent.
    #[serde(default)]
    pub columns: Option<Columns>,
    /// The column to make `id` of; text or whole numbers. Rows where it is null get file and offset.
    #[serde(default)]
    pub id: Option<String>,
    /// Longest record in bytes; a longer one is rejected with the rest of its file.
    #[serde(default)]
    pub max_record_bytes: RecordBytes,
    /// What stands between fields; `"\t"` for tabs.
    #[serde(default = "comma")]
    pub delimiter: OneByte,
    /// What a field stands between that holds delimiters or line ends; doubled, it stands for itself.
    #[serde(default = "quote")]
    pub quote: OneByte,
    /// Whether the first record of each file names the columns; else they are `column_1`, `column_2`, …
    #[serde(default = "yes")]
    pub header: bool,
}

/// One ASCII character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "char", into = "char")]
#[schemars(with = "char")]
pub struct OneByte(u8);

impl TryFrom<char> for OneByte {
    type Error = String;

    fn try_from(character: char) -> Result<Self, String> {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() && byte != b'\n' && byte != b'\r' => Ok(Self(byte)),
            _ => Err(format!("wants one ASCII character that is no line end, not {character:?}")),
        }
    }
}

impl From<OneByte> for char {
    fn from(byte: OneByte) -> char {
        byte.0.into()
    }
}

fn comma() -> OneByte {
    OneByte(b',')
}

fn quote() -> OneByte {
    OneByte(b'"')
}

fn yes() -> bool {
    true
}

impl ReadCsvConfig {
    fn options(&self) -> Result<CsvOptions, StageError> {
        if self.delimiter == self.quote {
            return Err(StageError::setting("quote", format!("delimiter and quote are both {:?}", char::from(self.quote))));
        }
        Ok(CsvOptions {
            delimiter: self.delimiter.0,
            quote: self.quote.0,
            header: self.header,
            max_record_bytes: self.max_record_bytes.into(),
        })
    }

    fn columns(&self, cx: &BuildContext) -> Result<(Columns, Option<String>), StageError> {
        let options = self.options()?;
        let files = self.path.files(&cx.base_dir, extensions::CSV)?;
        if let Some(columns) = &self.columns {
            let wanted: Vec<&str> = columns.0.iter().map(|(name, _)| name.as_str()).collect();
            check_headers(&files, &wanted, &options).map_err(placed)?;
            let id_column = document::ID;
            let has_id = check_headers(&files, &[id_column.name()], &options).is_ok();
            return Ok((if has_id { with_own_id(columns, self.id.as_deref()) } else { columns.clone() }, None));
        }
        let inferred = csv_schema(&files, &options).map_err(placed)?;
        let note = inferred.note();
        Ok((inferred.columns, Some(note)))
    }
}

impl StageConfig for ReadCsvConfig {
    const NAME: &'static str = "read_csv";
    const VERSION: u32 = 2;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: read_csv, path: data/reviews.csv, columns: {text: string, stars: int64}}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let (columns, note) = self.columns(cx)?;
        let ids = Ids::try_new(cx, &columns.schema(), self.id.as_deref())?;
        if let Some(note) = note {
            cx.note(note);
        }
        Ok(Outputs::new(ids.schema))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let (columns, _) = self.columns(cx)?;
        let ids = Ids::try_new(cx, &columns.schema(), self.id.as_deref())?;
        let options = self.options()?;
        Ok(Stage::Source(Box::new(ReadCsv { config: self.clone(), base_dir: cx.base_dir.clone(), columns, options, ids })))
    }
}

struct ReadCsv {
    config: ReadCsvConfig,
    base_dir: PathBuf,
    columns: Columns,
    options: CsvOptions,
    ids: Ids,
}

impl Source for ReadCsv {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        let files = self.config.path.files(&self.base_dir, extensions::CSV)?;
        Ok(splits(plan_files(&files, None))) // a quoted field may hold line ends: no file can be entered in the middle
    }

    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError> {
        drain(CsvReader::new(parts(split), &self.columns, self.options, out.batch_rows()), &self.ids, out)
    }
}
