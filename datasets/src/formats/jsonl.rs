//! JSON Lines: one object a line.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::cells::Cells;
use super::columns::Columns;
use super::infer::JsonColumns;
use super::json::push_record;
use super::lines::{Line, Lines};
use super::types::ColumnType;
use super::{BadRecord, Chunk, FilePart, InputFile, Reader};
use crate::DataError;

/// How files of JSON lines end.
pub const EXTENSIONS: &[&str] = &["jsonl", "ndjson", "json"];
/// Records that types are inferred from.
const SAMPLE_RECORDS: usize = 2000;
/// Bytes that types are inferred from.
const SAMPLE_BYTES: usize = 64 << 20;
/// Bytes of text after which a batch ends.
pub(super) const BATCH_BYTES: usize = 16 << 20;
/// Bad records after which a batch ends, so that they do not pile up.
pub(super) const BATCH_BAD: usize = 1000;

/// Columns that were inferred, and from how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inferred {
    /// The columns.
    pub columns: Columns,
    /// Records that were looked at.
    pub records: usize,
}

impl Inferred {
    /// What is told to the person.
    pub fn note(&self) -> String {
        format!("columns inferred from the first {} records: {}", self.records, self.columns)
    }
}

/// The columns of the first records of `files`.
///
/// # Errors
/// [`DataError::Format`] for a file that is one JSON array or no JSON; [`DataError::Setting`] on `columns` if there is no record at all.
pub fn jsonl_schema(files: &[InputFile], max_record_bytes: u64) -> Result<Inferred, DataError> {
    let mut sample = JsonColumns::default();
    let (mut records, mut bytes) = (0, 0);
    let mut first_bad: Option<DataError> = None;
    'files: for file in files {
        let part = FilePart { path: file.path.clone(), name: file.name.clone(), start: 0, end: file.bytes };
        let mut lines = Lines::open(&part, file.name.as_str().into(), max_record_bytes)?;
        loop {
            if records >= SAMPLE_RECORDS || bytes >= SAMPLE_BYTES {
                break 'files;
            }
            let problem = match lines.next_line()? {
                Line::End => break,
                Line::Damaged(offset, problem) => format!("it is damaged at byte {offset}: {problem}"),
                Line::TooLong(offset, length) => {
                    bytes += max_record_bytes as usize;
                    format!("the record at byte {offset} has {length} bytes")
                }
                Line::Text(_, line) if line.trim_ascii().is_empty() => continue,
                Line::Text(offset, line) => {
                    bytes += line.len();
                    match serde_json::from_slice(line) {
                        Ok(record) => {
                            sample.add(record);
                            records += 1;
                            continue;
                        }
                        Err(_) if line.trim_ascii_start().starts_with(b"[") => {
                            let problem = "it is a JSON array; wanted is one object a line (`jq -c '.[]' FILE` makes that)".to_owned();
                            return Err(DataError::Format { path: file.path.clone(), format: "JSON Lines", problem });
                        }
                        Err(error) => format!("the line at byte {offset}: {error}"),
                    }
                }
            };
            first_bad.get_or_insert(DataError::Format { path: file.path.clone(), format: "JSON Lines", problem });
        }
    }
    let columns = sample.columns();
    match first_bad {
        Some(problem) if columns.is_empty() => Err(problem),
        None if columns.is_empty() => Err(DataError::Setting {
            setting: "columns",
            problem: "the files hold no record to infer columns from; write them out, such as columns: {text: string}".to_owned(),
        }),
        _ => Ok(Inferred { columns: Columns(columns), records }),
    }
}

/// Reads parts of files of JSON lines.
pub struct JsonlReader {
    parts: VecDeque<FilePart>,
    lines: Option<Lines>,
    schema: SchemaRef,
    cells: Cells,
    max_record_bytes: u64,
    batch_rows: usize,
}

impl JsonlReader {
    /// A reader of `parts` into `columns`.
    pub fn new(parts: Vec<FilePart>, columns: &Columns, max_record_bytes: u64, batch_rows: usize) -> Self {
        Self {
            parts: parts.into(),
            lines: None,
            schema: columns.schema(),
            cells: Cells::new(&ColumnType::Struct(columns.0.clone())),
            max_record_bytes,
            batch_rows: batch_rows.max(1),
        }
    }
}

impl Reader for JsonlReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut chunk = Chunk::empty(&self.schema);
        let mut bytes = 0;
        while chunk.positions.offsets.len() < self.batch_rows && bytes < BATCH_BYTES && chunk.bad.len() < BATCH_BAD {
            let lines = match &mut self.lines {
                Some(lines) => lines,
                none => match self.parts.pop_front() {
                    Some(part) => none.insert(Lines::open(&part, part.name.as_str().into(), self.max_record_bytes)?),
                    None => break,
                },
            };
            let file = Arc::clone(lines.file());
            let mut reject = |offset, reason, detail| chunk.bad.push(BadRecord { file: Arc::clone(&file), offset, reason, detail });
            match lines.next_line()? {
                Line::End => self.lines = None,
                Line::Damaged(offset, problem) => reject(offset, "damaged_file", format!("nothing can be read from here on: {problem}")),
                Line::TooLong(offset, length) => {
                    reject(offset, "record_too_long", format!("{length} bytes, max_record_bytes is {}", self.max_record_bytes));
                }
                Line::Text(offset, line) => {
                    bytes += line.len();
                    match push_record(&mut self.cells, line) {
                        Ok(()) => chunk.positions.push(&file, offset),
                        Err(_) if line.trim_ascii().is_empty() => {}
                        Err(bad) => reject(offset, bad.reason, bad.detail),
                    }
                }
            }
        }
        if chunk.positions.offsets.is_empty() && chunk.bad.is_empty() && self.lines.is_none() && self.parts.is_empty() {
            return Ok(None);
        }
        if !chunk.positions.offsets.is_empty() {
            chunk.rows = RecordBatch::try_new(Arc::clone(&self.schema), self.cells.take_columns()?)?;
        }
        Ok(Some(chunk))
    }

    fn unknown_fields(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.cells.unknown("", &mut counts);
        counts
    }
}
