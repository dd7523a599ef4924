//! `read_text`: reads plain text.

use std::path::PathBuf;

use datasets::formats::{InvalidUtf8, RANGE_BYTES, TextOptions, TextReader, TextSplit, extensions, plan_files};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ids, Paths, RecordBytes, drain, is_cheap_to_read, parts, splits};
use crate::{BuildContext, Inputs, Kind, Outputs, RowSink, Source, Split, Stage, StageConfig, StageError};

/// Reads text files as documents with `id` and `text`: `.txt`, `.text`, `.md`, plain or compressed (`.gz`, `.zst`).
///
/// A document is a file, a paragraph or a line; its `id` is `<stage>/<file>@<byte offset>`. Blank lines are no documents. A compressed file that is
/// damaged is read up to there: the rest is one rejection, and as nobody knows how many documents it held, the run warns of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadTextConfig {
    /// A file, a folder or a glob (`books/**/*.txt`), or a list of them; relative to the pipeline file, or addresses (`s3://…`, `hf://datasets/…`).
    pub path: Paths,
    /// What a document is.
    #[serde(default)]
    pub split: TextSplit,
    /// What happens to bytes that are no UTF-8.
    #[serde(default)]
    pub invalid_utf8: InvalidUtf8,
    /// Longest document in bytes; longer ones are rejected.
    #[serde(default)]
    pub max_record_bytes: RecordBytes,
}

impl StageConfig for ReadTextConfig {
    const NAME: &'static str = "read_text";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: read_text, path: \"books/**/*.txt\", split: paragraphs}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        self.path.files(&cx.base_dir, extensions::TEXT)?;
        Ok(Outputs::new(Ids::try_new(cx, &TextReader::schema(), None)?.schema))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let ids = Ids::try_new(cx, &TextReader::schema(), None)?;
        Ok(Stage::Source(Box::new(ReadText { config: self.clone(), base_dir: cx.base_dir.clone(), ids })))
    }
}

struct ReadText {
    config: ReadTextConfig,
    base_dir: PathBuf,
    ids: Ids,
}

impl Source for ReadText {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        let files = self.config.path.files(&self.base_dir, extensions::TEXT)?;
        Ok(splits(plan_files(&files, (self.config.split == TextSplit::Lines).then_some(RANGE_BYTES))))
    }

    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError> {
        let options = TextOptions {
            split: self.config.split,
            invalid_utf8: self.config.invalid_utf8,
            max_record_bytes: self.config.max_record_bytes.into(),
            batch_rows: out.batch_rows(),
        };
        drain(TextReader::new(parts(split), options), &self.ids, out)
    }

    fn reads_again(&self, split: &Split) -> bool {
        self.config.split == TextSplit::Lines && split.files.iter().all(|file| is_cheap_to_read(&file.path))
    }
}
