//! WARC and ARC: what crawlers keep of the web, record by record.

mod charset;
mod digest;
mod http;
mod record;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int32Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use schemars::JsonSchema;
use schemas::Column;
use serde::{Deserialize, Serialize};

use self::digest::Digest;
use self::http::Unpacked;
use self::record::{Item, Record, Records, header};
use super::jsonl::{BATCH_BAD, BATCH_BYTES};
use super::{BadRecord, Chunk, FilePart, Reader};
use crate::DataError;

/// How WARC and ARC files end.
pub const EXTENSIONS: &[&str] = &["warc", "arc"];

/// Text of one row over which its column's offsets could run out.
const MAX_TEXT: usize = 1 << 30;

/// A type of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordType {
    /// What a server answered; every record of an ARC file.
    Response,
    /// What was fetched without HTTP, or made for the archive.
    Resource,
    /// What a request was answered by, in another form; the texts of Common Crawl's WET files.
    Conversion,
    /// What was asked of a server.
    Request,
    /// What is said of another record; Common Crawl's WAT files.
    Metadata,
    /// An answer that was the same as before, without its content.
    Revisit,
    /// What is said of the file.
    Warcinfo,
}

impl RecordType {
    fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Resource => "resource",
            Self::Conversion => "conversion",
            Self::Request => "request",
            Self::Metadata => "metadata",
            Self::Revisit => "revisit",
            Self::Warcinfo => "warcinfo",
        }
    }
}

/// Which columns hold the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarcContent {
    /// `html`: text.
    #[default]
    Text,
    /// `content`: bytes.
    Bytes,
    /// Both.
    Both,
}

/// How WARC files are read.
#[derive(Debug, Clone)]
pub struct WarcOptions {
    /// The records that become rows; others are counted.
    pub record_types: Vec<RecordType>,
    /// The media types that become rows, in lower case; all if `None`. Others are counted.
    pub media_types: Option<Vec<String>>,
    /// The columns of the payload.
    pub content: WarcContent,
    /// Whether there are columns of all header lines.
    pub headers: bool,
    /// Whether digests are computed and held against what records say.
    pub check_digests: bool,
    /// Longest record, and longest payload when its codings are undone.
    pub max_record_bytes: u64,
    /// Rows of a batch.
    pub batch_rows: usize,
}

const DATE: Column<TimestampMicrosecondArray> = Column::new("date", DataType::Null, "when it was fetched");
const URL: Column<StringArray> = Column::new("url", DataType::Utf8, "address it was fetched from");
const RECORD_TYPE: Column<StringArray> = Column::new("record_type", DataType::Utf8, "WARC-Type: response, resource, conversion, …");
const RECORD_ID: Column<StringArray> = Column::new("record_id", DataType::Utf8, "WARC-Record-ID without its brackets");
const STATUS: Column<Int32Array> = Column::new("status", DataType::Int32, "HTTP status");
const MIME: Column<StringArray> = Column::new("mime", DataType::Utf8, "media type as declared, without its parameters");
const CHARSET: Column<StringArray> = Column::new("charset", DataType::Utf8, "encoding the text was read as");
const PAYLOAD_DIGEST: Column<StringArray> = Column::new("payload_digest", DataType::Utf8, "WARC-Payload-Digest as the record says it");
const TRUNCATED: Column<StringArray> = Column::new("truncated", DataType::Utf8, "why the crawler kept only the beginning: length, time, …");
const WARC_OFFSET: Column<Int64Array> =
    Column::new("warc_offset", DataType::Int64, "where the record begins in its file as it lies on disk, as CDX indexes name it");
const CONTENT: Column<BinaryArray> = Column::new("content", DataType::Binary, "payload, its transfer and content codings undone");
const HTML: Column<StringArray> = Column::new("html", DataType::Utf8, "payload as text, if it is text: the markup of a page");

const WARC_HEADERS: &str = "warc_headers";
const HTTP_HEADERS: &str = "http_headers";

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("name", DataType::Utf8, true), Field::new("value", DataType::Utf8, true)])
}

fn header_field(name: &str, description: &str) -> Field {
    let item = Field::new_list_field(DataType::Struct(header_fields()), true);
    schemas::describe(Field::new(name, DataType::List(Arc::new(item)), true), description)
}

/// The columns that records are read into.
pub fn warc_schema(content: WarcContent, headers: bool) -> SchemaRef {
    let date = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields =
        vec![URL.field(), DATE.field().with_data_type(date), RECORD_TYPE.field(), RECORD_ID.field(), STATUS.field(), MIME.field()];
    if content != WarcContent::Bytes {
        fields.push(CHARSET.field());
    }
    fields.extend([PAYLOAD_DIGEST.field(), TRUNCATED.field(), WARC_OFFSET.field()]);
    if headers {
        fields.push(header_field(WARC_HEADERS, "header lines of the record, in order"));
        fields.push(header_field(HTTP_HEADERS, "header lines of the HTTP message, in order"));
    }
    if content != WarcContent::Text {
        fields.push(CONTENT.field());
    }
    if content != WarcContent::Bytes {
        fields.push(HTML.field());
    }
    Schema::new(fields).into()
}

/// Reads WARC and ARC files.
pub struct WarcReader {
    parts: VecDeque<FilePart>,
    open: Option<(Arc<str>, Records)>,
    options: WarcOptions,
    schema: SchemaRef,
    rows: Rows,
    counts: BTreeMap<(&'static str, String), u64>,
}

impl WarcReader {
    /// A reader of `parts`, each a whole file.
    pub fn new(parts: Vec<FilePart>, options: WarcOptions) -> Self {
        let schema = warc_schema(options.content, options.headers);
        Self { parts: parts.into(), open: None, options, schema, rows: Rows::default(), counts: BTreeMap::new() }
    }

    fn count(&mut self, what: &'static str, name: &str) {
        *self.counts.entry((what, name.to_owned())).or_default() += 1;
    }

    /// Reads one item; how many bytes it came to, or `None` at the end of a file.
    fn one(&mut self, file: &Arc<str>, records: &mut Records, chunk: &mut Chunk) -> Result<Option<usize>, DataError> {
        let types = &self.options.record_types;
        let is_wanted = |kind: &str| types.iter().any(|wanted| wanted.name() == kind);
        match records.next(is_wanted)? {
            Item::End => Ok(None),
            Item::PassedOver(kind) => {
                self.count("record_of_other_type", &kind);
                Ok(Some(0))
            }
            Item::Bad { offset, reason, detail, rest_is_lost } => {
                chunk.bad.push(BadRecord { file: Arc::clone(file), offset, reason, detail, rest_is_lost });
                Ok(Some(0))
            }
            Item::Record(record) if !is_wanted(&record.kind) => {
                self.count("record_of_other_type", &record.kind);
                Ok(Some(0))
            }
            Item::Record(record) => {
                let block = records.block(&record);
                match self.take(&record, block) {
                    Ok(Taken::Row) => chunk.positions.push(file, record.offset),
                    Ok(Taken::OtherMediaType(media_type)) => self.count("record_of_other_media_type", &media_type),
                    Err((reason, detail)) => {
                        let offset = record.offset;
                        chunk.bad.push(BadRecord { file: Arc::clone(file), offset, reason, detail, rest_is_lost: false });
                    }
                }
                Ok(Some(block.len()))
            }
        }
    }

    /// Adds a record to the rows.
    fn take(&mut self, record: &Record, block: &[u8]) -> Result<Taken, (&'static str, String)> {
        if let Some(segment) = record.header("WARC-Segment-Number") {
            return Err(("segmented_record", format!("it is segment {segment} of a record, and segments are not joined")));
        }
        let declared = record.header("Content-Type").unwrap_or_default();
        let is_http = media_type(declared).is_some_and(|(mime, _)| mime == "application/http");
        let is_message = matches!(record.kind.as_str(), "response" | "request" | "revisit");
        let message = if is_http || is_message { http::message(block) } else { None };
        if is_http && is_message && message.is_none() && !block.is_empty() {
            return Err(("no_http_status", "its type is application/http, but it begins with no HTTP/… line".to_owned()));
        }
        let stored = message.as_ref().map_or(block, |message| message.body);
        let http_headers: &[(String, String)] = message.as_ref().map_or(&[], |message| &message.headers);
        let content_type = if message.is_some() { header(http_headers, "Content-Type") } else { Some(declared) };
        let (mime, charset) = content_type.and_then(media_type).map_or((None, None), |(mime, charset)| (Some(mime), charset));
        if let Some(wanted) = &self.options.media_types
            && !mime.as_ref().is_some_and(|mime| wanted.contains(mime))
        {
            return Ok(Taken::OtherMediaType(mime.unwrap_or_else(|| "none".to_owned())));
        }
        let truncated = record.header("WARC-Truncated");
        let mut body = Cow::Borrowed(stored);
        let transfer = header(http_headers, "Transfer-Encoding").unwrap_or_default().to_ascii_lowercase();
        if transfer.contains("chunked") && !stored.is_empty() {
            match http::unchunk(stored) {
                None => self.count("not_chunked_as_declared", &record.kind),
                Some((whole, is_whole)) => {
                    if !is_whole {
                        self.count("chunks_without_end", &record.kind);
                    }
                    body = Cow::Owned(whole);
                }
            }
        }
        if self.options.check_digests {
            self.check(record, "WARC-Block-Digest", &[block])?;
            let is_revisit = record.kind == "revisit"; // whose payload is elsewhere
            // Archives disagree on whether chunks are part of the payload.
            if !is_revisit {
                self.check(record, "WARC-Payload-Digest", &[stored, &body])?;
            }
        }
        let max = self.options.max_record_bytes;
        let codings = header(http_headers, "Content-Encoding").unwrap_or_default();
        let codings = if transfer.contains("gzip") { format!("{codings}, gzip") } else { codings.to_owned() };
        let body = match http::unpack(&codings, body, max) {
            Unpacked::Whole(body, unknown) => {
                unknown.iter().for_each(|coding| self.count("unknown_content_encoding", coding));
                body
            }
            Unpacked::Cut(body, _) if truncated.is_some() && !body.is_empty() => Cow::Owned(body),
            Unpacked::Cut(body, problem) => return Err(("damaged_content", format!("{problem}, after {} bytes", body.len()))),
            Unpacked::TooLong => return Err(("content_too_long", format!("unpacked over {max} bytes, which is max_record_bytes"))),
        };
        let url = record.header("WARC-Target-URI").map(|url| url.strip_prefix('<').and_then(|url| url.strip_suffix('>')).unwrap_or(url));
        let is_text = is_text(mime.as_deref(), &body);
        let text =
            (self.options.content != WarcContent::Bytes && is_text).then(|| charset::decode(&body, charset.as_deref(), url.and_then(host)));
        if text.as_ref().is_some_and(|(text, _)| text.len() > MAX_TEXT) {
            return Err(("content_too_long", format!("over {MAX_TEXT} bytes of text")));
        }
        let date = record.header("WARC-Date").and_then(|date| {
            let micros = micros(date);
            if micros.is_none() {
                self.count("bad_date", &record.kind);
            }
            micros
        });
        for _ in 0..message.as_ref().map_or(0, |message| message.malformed) {
            self.count("http_header_without_colon", &record.kind);
        }

        let rows = &mut self.rows;
        rows.url.append_option(url);
        rows.date.append_option(date);
        rows.record_type.append_value(&record.kind);
        rows.record_id.append_option(record.header("WARC-Record-ID").map(|id| id.trim_start_matches('<').trim_end_matches('>')));
        rows.status.append_option(message.as_ref().and_then(|message| message.status));
        rows.mime.append_option(mime);
        rows.charset.append_option(text.as_ref().map(|(_, charset)| *charset));
        rows.payload_digest.append_option(record.header("WARC-Payload-Digest"));
        rows.truncated.append_option(truncated);
        rows.warc_offset.append_value(i64::try_from(record.place).unwrap_or(i64::MAX));
        if self.options.headers {
            append_headers(&mut rows.warc_headers, Some(&record.headers));
            append_headers(&mut rows.http_headers, message.as_ref().map(|_| http_headers));
        }
        if self.options.content != WarcContent::Text {
            rows.content.append_value(&body);
        }
        rows.html.append_option(text.map(|(text, _)| text));
        Ok(Taken::Row)
    }

    /// Holds a digest against `candidates`, one of which has to have it.
    fn check(&mut self, record: &Record, name: &str, candidates: &[&[u8]]) -> Result<(), (&'static str, String)> {
        let Some(said) = record.header(name) else { return Ok(()) };
        let Some(digest) = Digest::parse(said) else {
            self.count("digest_not_checked", said.split(':').next().unwrap_or_default());
            return Ok(());
        };
        if candidates.iter().any(|bytes| digest.is_of(bytes)) {
            return Ok(());
        }
        Err(("wrong_digest", format!("{name} is {said}, but what is there has {}", digest.same_of(candidates[0]))))
    }
}

enum Taken {
    Row,
    OtherMediaType(String),
}

impl Reader for WarcReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut chunk = Chunk::empty(&self.schema);
        let mut bytes = 0;
        let mut at_end = false;
        while chunk.positions.offsets.len() < self.options.batch_rows.max(1) && bytes < BATCH_BYTES && chunk.bad.len() < BATCH_BAD {
            if self.open.is_none()
                && let Some(part) = self.parts.pop_front()
            {
                self.open = Some((part.name.as_str().into(), Records::open(&part.path, self.options.max_record_bytes)?));
            }
            let Some((file, mut records)) = self.open.take() else {
                at_end = true;
                break;
            };
            if let Some(length) = self.one(&file, &mut records, &mut chunk)? {
                bytes += length + self.rows.unpacked_bytes();
                self.open = Some((file, records));
            }
        }
        if at_end && chunk.positions.offsets.is_empty() && chunk.bad.is_empty() {
            return Ok(None);
        }
        chunk.rows = RecordBatch::try_new(Arc::clone(&self.schema), self.rows.take(&self.schema))?;
        Ok(Some(chunk))
    }

    fn counts(&self) -> BTreeMap<(&'static str, String), u64> {
        self.counts.clone()
    }
}

/// Rows that are being made.
struct Rows {
    url: StringBuilder,
    date: TimestampMicrosecondBuilder,
    record_type: StringBuilder,
    record_id: StringBuilder,
    status: Int32Builder,
    mime: StringBuilder,
    charset: StringBuilder,
    payload_digest: StringBuilder,
    truncated: StringBuilder,
    warc_offset: Int64Builder,
    warc_headers: ListBuilder<StructBuilder>,
    http_headers: ListBuilder<StructBuilder>,
    content: BinaryBuilder,
    html: StringBuilder,
    /// Bytes of payloads that were counted already.
    counted: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let headers = || ListBuilder::new(StructBuilder::from_fields(header_fields(), 0));
        Self {
            url: StringBuilder::new(),
            date: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            record_type: StringBuilder::new(),
            record_id: StringBuilder::new(),
            status: Int32Builder::new(),
            mime: StringBuilder::new(),
            charset: StringBuilder::new(),
            payload_digest: StringBuilder::new(),
            truncated: StringBuilder::new(),
            warc_offset: Int64Builder::new(),
            warc_headers: headers(),
            http_headers: headers(),
            content: BinaryBuilder::new(),
            html: StringBuilder::new(),
            counted: 0,
        }
    }
}

impl Rows {
    /// Bytes of payloads that came since the last call.
    fn unpacked_bytes(&mut self) -> usize {
        let all = self.content.values_slice().len() + self.html.values_slice().len();
        all - std::mem::replace(&mut self.counted, all)
    }

    /// The columns of `schema`; leaves no rows.
    fn take(&mut self, schema: &Schema) -> Vec<ArrayRef> {
        self.counted = 0;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let name = field.name().as_str();
            columns.push(match name {
                _ if name == DATE.name() => Arc::new(self.date.finish()),
                _ if name == RECORD_TYPE.name() => Arc::new(self.record_type.finish()),
                _ if name == RECORD_ID.name() => Arc::new(self.record_id.finish()),
                _ if name == STATUS.name() => Arc::new(self.status.finish()),
                _ if name == MIME.name() => Arc::new(self.mime.finish()),
                _ if name == CHARSET.name() => Arc::new(self.charset.finish()),
                _ if name == PAYLOAD_DIGEST.name() => Arc::new(self.payload_digest.finish()),
                _ if name == TRUNCATED.name() => Arc::new(self.truncated.finish()),
                _ if name == WARC_OFFSET.name() => Arc::new(self.warc_offset.finish()),
                WARC_HEADERS => Arc::new(self.warc_headers.finish()),
                HTTP_HEADERS => Arc::new(self.http_headers.finish()),
                _ if name == CONTENT.name() => Arc::new(self.content.finish()),
                _ if name == HTML.name() => Arc::new(self.html.finish()),
                _ => Arc::new(self.url.finish()),
            });
        }
        // What the schema has no column for was appended all the same.
        self.charset.finish();
        self.html.finish();
        columns
    }
}

fn append_headers(list: &mut ListBuilder<StructBuilder>, headers: Option<&[(String, String)]>) {
    for (name, value) in headers.unwrap_or_default() {
        let entry = list.values();
        for (at, text) in [name, value].into_iter().enumerate() {
            if let Some(field) = entry.field_builder::<StringBuilder>(at) {
                field.append_value(text);
            }
        }
        entry.append(true);
    }
    list.append(headers.is_some());
}

/// `text/html; charset="utf-8"`: the media type in lower case, and the charset.
fn media_type(content_type: &str) -> Option<(String, Option<String>)> {
    let mut parts = content_type.split(';');
    let mime = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        name.trim().eq_ignore_ascii_case("charset").then(|| value.to_owned())
    });
    (!mime.is_empty()).then_some((mime, charset))
}

/// Whether a payload is text: by its type, and where none is declared, by having no zero bytes near its start.
fn is_text(mime: Option<&str>, body: &[u8]) -> bool {
    const TEXTS: [&str; 9] = [
        "application/xhtml+xml",
        "application/xml",
        "application/json",
        "application/javascript",
        "application/x-javascript",
        "application/ecmascript",
        "application/warc-fields",
        "application/http",
        "message/rfc822",
    ];
    let Some(mime) = mime.filter(|mime| !matches!(*mime, "application/octet-stream" | "unknown/unknown" | "no-type")) else {
        return !body.iter().take(1024).any(|byte| *byte == 0);
    };
    mime.starts_with("text/") || mime.ends_with("+xml") || mime.ends_with("+json") || TEXTS.contains(&mime)
}

/// The host of an address.
fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(host.split(':').next().unwrap_or(host).trim_end_matches('.'))
}

/// Microseconds since 1970 of `2014-01-27T17:12:38.5Z`, or of `20140127171238` as ARC files have it.
fn micros(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if !date.is_ascii() {
        return None;
    }
    let is_arc = bytes.len() == 14 && bytes.iter().all(u8::is_ascii_digit);
    let part = |at: usize, length: usize| -> Option<i64> {
        let text = date.get(at..at + length)?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
    };
    let (places, rest) = if is_arc {
        ([(0, 4), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2)], "")
    } else {
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if bytes.len() < 20 || marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
            return None;
        }
        ([(0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2)], date[19..].strip_suffix('Z')?)
    };
    let [year, month, day, hour, minute, second] = places.map(|(at, length)| part(at, length));
    let (year, month, day, hour, minute, second) = (year?, month?, day?, hour?, minute?, second?);
    let fraction = match rest.strip_prefix('.') {
        Some(digits) if (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{:0<6}", &digits[..digits.len().min(6)]).parse().ok()?
        }
        None if rest.is_empty() => 0,
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_month = usize::try_from(month).ok().and_then(|month| days.get(month.checked_sub(1)?)).copied()?;
    if day < 1 || day > in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar since 1970-01-01, years counted from March.
    //
    // Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, `days_from_civil`.
    let march_year = year - i64::from(month <= 2);
    let era = march_year.div_euclid(400);
    let year_of_era = march_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let day = era * 146_097 + day_of_era - 719_468;
    Some((((day * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction)
}
