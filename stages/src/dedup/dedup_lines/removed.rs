//! The output `removed`: every line or paragraph that was taken out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemas::{describe, document};

use super::Total;
use crate::{Port, StageError};

pub(super) const PORT: Port = Port::new("removed");

/// Rows that are given on at a time …
const MAX_ROWS: usize = 8192;

/// … unless their texts take more bytes.
const MAX_BYTES: usize = 8 << 20;

/// Rows of the output.
#[derive(Default)]
pub(super) struct Removed {
    id: StringBuilder,
    text: StringBuilder,
    /// Number, start, end, documents, occurrences.
    numbers: Vec<[u64; 5]>,
    bytes: usize,
}

impl Removed {
    pub(super) fn schema() -> SchemaRef {
        let number = |name: &str, what: &str| describe(Field::new(name, DataType::UInt64, false), what);
        Arc::new(Schema::new(vec![
            document::ID.field(),
            number("number", "which line or paragraph of the text it was, from 0"),
            number("start", "first byte in the text as it came"),
            number("end", "byte behind the last one"),
            describe(Field::new("removed", DataType::Utf8, false), "the line or paragraph, without the break at its end"),
            number("documents", "how many texts hold it"),
            number("occurrences", "how often it stands in all of them"),
        ]))
    }

    /// Adds the piece at `place` of `text`.
    pub(super) fn push(&mut self, id: Option<&str>, number: usize, place: Range<usize>, text: &str, total: Total) {
        self.bytes += id.map_or(0, str::len) + place.len();
        self.id.append_option(id);
        self.text.append_value(&text[place.clone()]);
        self.numbers.push([number as u64, place.start as u64, place.end as u64, total.documents, total.occurrences]);
    }

    pub(super) fn is_full(&self) -> bool {
        self.numbers.len() >= MAX_ROWS || self.bytes >= MAX_BYTES
    }

    /// The rows so far; leaves none.
    pub(super) fn take(&mut self) -> Result<RecordBatch, StageError> {
        let numbers = std::mem::take(&mut self.numbers);
        let number = |which: usize| Arc::new(numbers.iter().map(|row| row[which]).collect::<UInt64Array>()) as ArrayRef;
        self.bytes = 0;
        let (id, text) = (Arc::new(self.id.finish()), Arc::new(self.text.finish()));
        let columns: Vec<ArrayRef> = vec![id, number(0), number(1), number(2), text, number(3), number(4)];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}
