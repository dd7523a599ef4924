//! `read_jsonl`: reads JSON Lines.

use std::path::PathBuf;

use datasets::formats::{Columns, JsonlReader, RANGE_BYTES, extensions, jsonl_schema, plan_files};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ids, Paths, RecordBytes, drain, is_cheap_to_read, parts, placed, splits, with_own_id};
use crate::{BuildContext, Inputs, Kind, Outputs, RowSink, Source, Split, Stage, StageConfig, StageError};

/// Reads files of one JSON object a line: `.jsonl`, `.ndjson`, `.json`, plain or compressed (`.gz`, `.zst`).
///
/// Every row has an `id`: the column named by `id`, else the input's own `id` (listed in `columns` or not), else `<stage>/<file>@<byte offset>`. A field that a record
/// lacks is null; of a key that is there twice, the last value counts, and all of them have to fit. A line that is no JSON object, or holds a value that does not fit its
/// column, is rejected with its offset. A compressed file that is damaged is read up to there: the rest is one rejection, and as nobody knows how
/// many rows it held, the run warns of it. Without `columns`, names and types come from the first 2000 records; fields that turn up later are
/// counted and named, and their rows kept without them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadJsonlConfig {
    /// A file, a folder or a glob (`data/**/*.jsonl.zst`), or a list of them; relative to the pipeline file, or addresses (`s3://…`, `hf://datasets/…`).
    pub path: Paths,
    /// The columns to read and their types, such as `{text: string, n: int64, tags: list<string>}`. `json` takes any value as text,
    /// numbers with every digit that they are written with. Inferred if absent.
    #[serde(default)]
    pub columns: Option<Columns>,
    /// The column to make `id` of; text or whole numbers. Rows where it is null get file and offset.
    #[serde(default)]
    pub id: Option<String>,
    /// Longest line in bytes; longer ones are rejected.
    #[serde(default)]
    pub max_record_bytes: RecordBytes,
}

impl ReadJsonlConfig {
    fn columns(&self, cx: &BuildContext) -> Result<(Columns, Option<String>), StageError> {
        let files = self.path.files(&cx.base_dir, extensions::JSONL)?;
        if let Some(columns) = &self.columns {
            return Ok((with_own_id(columns, self.id.as_deref()), None));
        }
        let inferred = jsonl_schema(&files, self.max_record_bytes.into()).map_err(placed)?;
        let note = inferred.note();
        Ok((inferred.columns, Some(note)))
    }
}

impl StageConfig for ReadJsonlConfig {
    const NAME: &'static str = "read_jsonl";
    const VERSION: u32 = 2;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: read_jsonl, path: \"data/pages/*.jsonl.zst\", columns: {text: string, url: string}, id: url}";

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
        Ok(Stage::Source(Box::new(ReadJsonl { config: self.clone(), base_dir: cx.base_dir.clone(), columns, ids })))
    }
}

struct ReadJsonl {
    config: ReadJsonlConfig,
    base_dir: PathBuf,
    columns: Columns,
    ids: Ids,
}

impl Source for ReadJsonl {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        let files = self.config.path.files(&self.base_dir, extensions::JSONL)?;
        Ok(splits(plan_files(&files, Some(RANGE_BYTES))))
    }

    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError> {
        let reader = JsonlReader::new(parts(split), &self.columns, self.config.max_record_bytes.into(), out.batch_rows());
        drain(reader, &self.ids, out)
    }

    fn reads_again(&self, split: &Split) -> bool {
        split.files.iter().all(|file| is_cheap_to_read(&file.path))
    }
}
