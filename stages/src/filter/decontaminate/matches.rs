//! The output `matches`: which examples a contaminated text holds, and where.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringBuilder, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemas::{describe, document};

use super::Held;
use super::index::Example;
use crate::{Port, StageError};

pub(super) const PORT: Port = Port::new("matches");

/// Most examples that are listed of a text. Those of a benchmark may share much: a prompt that stands before each question, say.
pub(super) const MAX_EXAMPLES: usize = 20;

/// Most characters of a match that are shown.
const SHOWN_CHARS: usize = 200;

/// Rows that are given on at a time.
const MAX_ROWS: usize = 8192;

/// Ranges that are sorted by where they begin, as one where they overlap or touch.
pub(super) fn merged(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match all.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => all.push(range),
        }
    }
    all
}

/// Rows of the output.
#[derive(Default)]
pub(super) struct Matches {
    id: StringBuilder,
    benchmark: StringBuilder,
    example: StringBuilder,
    text: StringBuilder,
    share: Vec<f64>,
    /// N-grams found, matches, start, end.
    numbers: Vec<[u64; 4]>,
}

impl Matches {
    pub(super) fn schema() -> SchemaRef {
        let field = |name: &str, data_type: DataType, what: &str| describe(Field::new(name, data_type, false), what);
        Arc::new(Schema::new(vec![
            document::ID.field(),
            field("benchmark", DataType::Utf8, "the benchmark"),
            field("example", DataType::Utf8, "the example of it that the text holds"),
            field("share", DataType::Float64, "share of the example's different n-grams that stand in the text"),
            field("n_grams", DataType::UInt64, "how many of them do"),
            field("n_matches", DataType::UInt64, "stretches of the text that are made of them"),
            field("start", DataType::UInt64, "first byte of the longest one in the text as it came"),
            field("end", DataType::UInt64, "byte behind its last one"),
            field("match", DataType::Utf8, "its first 200 characters"),
        ]))
    }

    /// Adds what a text holds of an example, in `spans` of it.
    pub(super) fn push(&mut self, id: Option<&str>, benchmark: &str, example: &Example, held: Held, text: &str, spans: &[Range<usize>]) {
        // Of equally long ones the first.
        let longest = spans.iter().rev().max_by_key(|span| span.len()).cloned().unwrap_or(0..0);
        let shown = &text[longest.clone()];
        let end = shown.char_indices().nth(SHOWN_CHARS).map_or(shown.len(), |(end, _)| end);
        self.id.append_option(id);
        self.benchmark.append_value(benchmark);
        self.example.append_value(&example.name);
        self.text.append_value(&shown[..end]);
        self.share.push(held.share);
        self.numbers.push([held.n_grams.into(), spans.len() as u64, longest.start as u64, longest.end as u64]);
    }

    pub(super) fn is_full(&self) -> bool {
        self.share.len() >= MAX_ROWS
    }

    /// The rows so far; leaves none.
    pub(super) fn take(&mut self) -> Result<RecordBatch, StageError> {
        let numbers = std::mem::take(&mut self.numbers);
        let number = |which: usize| Arc::new(numbers.iter().map(|row| row[which]).collect::<UInt64Array>()) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.benchmark.finish()),
            Arc::new(self.example.finish()),
            Arc::new(Float64Array::from(std::mem::take(&mut self.share))),
            number(0),
            number(1),
            number(2),
            number(3),
            Arc::new(self.text.finish()),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(merged([0..3, 1..2, 3..5, 6..7].into_iter()), [0..5, 6..7]);
        assert_eq!(merged([2..9, 3..4, 8..10, 12..13].into_iter()), [2..10, 12..13]);
        assert!(merged(std::iter::empty()).is_empty());
    }
}
