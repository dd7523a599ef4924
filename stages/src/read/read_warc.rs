//! `read_warc`: reads WARC and ARC.

use std::path::PathBuf;

use datasets::formats::{RecordType, WarcContent, WarcOptions, WarcReader, extensions, plan_files, warc_schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Ids, Paths, RecordBytes, drain, parts, splits};
use crate::{BuildContext, Inputs, Kind, Outputs, RowSink, Source, Split, Stage, StageConfig, StageError};

/// Reads what crawlers keep: WARC and ARC files, plain, gzip (a member a record, or any other way) or zstd, told by their first bytes.
///
/// A row is a record that holds a payload: `url`, `date`, `record_type`, `record_id`, `status`, `mime` (as declared), `charset`,
/// `payload_digest`, `truncated`, `warc_offset` (where CDX indexes say it is), and the payload as text in `html` or as bytes in `content`.
/// `extract_text` makes documents of them. Chunks and content encodings (gzip, deflate, br, zstd) are undone; what is declared and not so is left
/// as it is, and counted. Text is decoded by its byte order mark, else as the server says, else as the page says, unless the bytes
/// contradict that, else by a guess. `html` is null where the payload is no text: pictures, PDF.
///
/// Every row has an `id`: the column named by `id` (such as `record_id`), else `<stage>/<file>@<byte offset>`, the offset being that in the decompressed file.
///
/// Records of other types are counted by type (`record_of_other_type`). A record that is damaged is rejected with its offset, and reading goes
/// on with the next: `wrong_length` (it does not end where it says), `no_length`, `bad_header`, `truncated_record`, `damaged_file` (gzip or
/// zstd can't be unpacked), `garbage` (bytes that belong to no record), `record_too_long`, `no_http_status`, `damaged_content`,
/// `content_too_long` (unpacked it is over the limit), `segmented_record`, `wrong_digest`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadWarcConfig {
    /// A file, a folder or a glob (`crawl/*.warc.gz`), or a list of them; relative to the pipeline file, or addresses (`s3://…`, `hf://datasets/…`).
    pub path: Paths,
    /// The types of records that become rows. Texts of Common Crawl's WET files are `conversion`, its WAT files `metadata`.
    #[serde(default = "payloads")]
    pub record_types: Vec<RecordType>,
    /// The media types that become rows, such as `[text/html, application/xhtml+xml]`; all if absent. Others are counted by type
    /// (`record_of_other_media_type`) and neither unpacked nor decoded.
    #[serde(default)]
    pub media_types: Option<Vec<String>>,
    /// What is kept of the payload: `text` (column `html`), `bytes` (column `content`), or `both`.
    #[serde(default)]
    pub content: WarcContent,
    /// Whether to have all header lines, as `warc_headers` and `http_headers`: lists of `name` and `value`.
    #[serde(default)]
    pub headers: bool,
    /// Whether to compute the digests (SHA-1, SHA-256) that records say of themselves, and to reject those that are wrong.
    #[serde(default)]
    pub check_digests: bool,
    /// The column to make `id` of: `record_id` or `url`. Rows where it is null get file and offset.
    #[serde(default)]
    pub id: Option<String>,
    /// Longest record in bytes, and longest payload when it is unpacked; longer ones are rejected.
    #[serde(default)]
    pub max_record_bytes: RecordBytes,
}

fn payloads() -> Vec<RecordType> {
    vec![RecordType::Response, RecordType::Resource, RecordType::Conversion]
}

impl StageConfig for ReadWarcConfig {
    const NAME: &'static str = "read_warc";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: read_warc, path: \"crawl/*.warc.gz\", media_types: [text/html, application/xhtml+xml]}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        if self.record_types.is_empty() {
            return Err(StageError::setting("record_types", "an empty list of types").with_help("leave it out to read all payloads"));
        }
        if self.media_types.as_ref().is_some_and(Vec::is_empty) {
            return Err(StageError::setting("media_types", "an empty list of types").with_help("leave it out to read all"));
        }
        self.path.files(&cx.base_dir, extensions::WARC)?;
        Ok(Outputs::new(self.ids(cx)?.schema))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::Source(Box::new(ReadWarc { config: self.clone(), base_dir: cx.base_dir.clone(), ids: self.ids(cx)? })))
    }
}

impl ReadWarcConfig {
    fn ids(&self, cx: &BuildContext) -> Result<Ids, StageError> {
        Ids::try_new(cx, &warc_schema(self.content, self.headers), self.id.as_deref())
    }
}

struct ReadWarc {
    config: ReadWarcConfig,
    base_dir: PathBuf,
    ids: Ids,
}

impl Source for ReadWarc {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        let files = self.config.path.files(&self.base_dir, extensions::WARC)?;
        Ok(splits(plan_files(&files, None))) // a payload may hold what looks like a record: no file can be entered in the middle
    }

    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError> {
        let config = &self.config;
        let options = WarcOptions {
            record_types: config.record_types.clone(),
            media_types: config.media_types.as_ref().map(|types| types.iter().map(|name| name.trim().to_ascii_lowercase()).collect()),
            content: config.content,
            headers: config.headers,
            check_digests: config.check_digests,
            max_record_bytes: config.max_record_bytes.into(),
            batch_rows: out.batch_rows(),
        };
        drain(WarcReader::new(parts(split), options), &self.ids, out)
    }
}
