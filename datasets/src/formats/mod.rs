//! Readers: files of one format in, batches out, with what could not be read.

mod cells;
mod columns;
mod csv;
mod infer;
mod input;
mod inputs;
mod json;
mod json_flat;
mod jsonl;
mod lines;
pub(crate) mod names;
mod parquet;
mod plan;
mod records;
mod text;
mod types;
mod warc;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::DataError;

pub use columns::Columns;
pub use csv::{CsvOptions, CsvReader, check_headers, csv_schema};
pub use input::input_bytes_read;
pub use inputs::{InputFile, list_inputs};
pub use jsonl::{Inferred, JsonlReader, jsonl_schema};
pub use parquet::{ParquetReader, parquet_plan, parquet_schema};
pub use plan::{FilePart, RANGE_BYTES, is_compressed, plan_files};
pub use records::{BadLine, JsonRecords};
pub use text::{InvalidUtf8, TextOptions, TextReader, TextSplit};
pub use types::{ColumnType, TypeError};
pub use warc::{RecordType, WarcContent, WarcOptions, WarcReader, warc_schema};

/// How the files of each format end, without `.gz` and `.zst`.
pub mod extensions {
    pub use super::csv::EXTENSIONS as CSV;
    pub use super::jsonl::EXTENSIONS as JSONL;
    pub use super::parquet::EXTENSIONS as PARQUET;
    pub use super::text::EXTENSIONS as TEXT;
    pub use super::warc::EXTENSIONS as WARC;
}

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The file's name, as ids have it.
    pub file: Arc<str>,
    /// Byte offset in the (decompressed) file, or row number in a format that has rows.
    pub offset: u64,
    /// The reason, in `snake_case`.
    pub reason: &'static str,
    /// What was wanted and what was found.
    pub detail: String,
    /// Whether all that follows it in its file is lost with it, and nobody knows how many rows that is.
    pub rest_is_lost: bool,
}

/// Where rows come from: for each its offset or row number, and for runs of rows their file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions {
    /// First row of each run, and the file's name.
    pub files: Vec<(usize, Arc<str>)>,
    /// One a row.
    pub offsets: Vec<u64>,
}

impl Positions {
    pub(crate) fn push(&mut self, file: &Arc<str>, offset: u64) {
        if self.files.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, file)) {
            self.files.push((self.offsets.len(), Arc::clone(file)));
        }
        self.offsets.push(offset);
    }

    /// File and offset of each row, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let mut runs = self.files.iter().peekable();
        let mut file = "";
        self.offsets.iter().enumerate().map(move |(row, offset)| {
            while let Some((_, name)) = runs.next_if(|(first, _)| *first <= row) {
                file = name;
            }
            (file, *offset)
        })
    }
}

/// Some rows, in order, and what could not be read among them.
#[derive(Debug)]
pub struct Chunk {
    /// The rows; may be none.
    pub rows: RecordBatch,
    /// Where they come from.
    pub positions: Positions,
    /// What could not be read.
    pub bad: Vec<BadRecord>,
}

impl Chunk {
    fn empty(schema: &SchemaRef) -> Self {
        Self { rows: RecordBatch::new_empty(Arc::clone(schema)), positions: Positions::default(), bad: Vec::new() }
    }
}

/// Reads the parts of files of one split, in order.
pub trait Reader {
    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// [`DataError`] if the system does not let a file be read. What is wrong inside of a file is a [`BadRecord`].
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError>;

    /// Fields that records have and the schema has not, with the number of records; their rows are kept without them.
    fn unknown_fields(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// What else was met and is no row and no rejection: what, in `snake_case`, the name it is about, and how often.
    fn counts(&self) -> BTreeMap<(&'static str, String), u64> {
        BTreeMap::new()
    }
}
