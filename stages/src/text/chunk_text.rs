//! `chunk_text`: cuts documents into chunks that fit a model, at sentences where it can.

pub(crate) mod cut;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use self::cut::{Chunk, Chunker, Unit};
use super::tokenizer::TextTokenizer;
use crate::units::ColumnName;
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Outputs, Port, RowLocal, Stage, StageConfig, StageError};

/// Cuts each text into chunks of at most `max` tokens, characters, words or sentences; each chunk is a row of its own.
///
/// A chunk ends where a sentence ends (UAX #29), and holds as many sentences as fit. A sentence that does not fit by itself is cut behind white
/// space, or between words where there is none, and a word that does not fit between graphemes (what a person sees as one character); a
/// grapheme is never cut, even one that is larger than `max`. White space belongs to the sentence before it. With `overlap` a chunk begins with the last sentences of the one before that
/// have at most so many units, or with its last words where no sentence is short enough; where the next sentence then does not fit, the
/// overlap gives way. Chunks are parts of the text, byte for byte, and without overlap they are all of it.
///
/// A chunk has the columns of its document, with the chunk as text and `parent#0`, `parent#1`, … as `id`, and `parent_id`, `chunk_start` and
/// `chunk_end` (bytes of the text), and `chunk_size` (units). Large columns should be dropped before, since every chunk has them. Tokens are
/// counted of the chunk by itself, without special tokens. Documents with a null or empty text are dropped: `no_text`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChunkTextConfig {
    /// Most units a chunk may have.
    pub max: NonZeroU32,
    /// What is counted.
    #[serde(default)]
    pub unit: ChunkUnit,
    /// The tokenizer's file, relative to the pipeline file; for `unit: tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Most units that a chunk may have in common with the one before: at most half of `max`.
    #[serde(default)]
    pub overlap: u32,
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
}

/// What is counted of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ChunkUnit {
    /// Characters (Unicode scalar values).
    #[default]
    Characters,
    /// Words by the rules of Unicode (UAX #29) that have a letter or a digit.
    Words,
    /// Sentences by the rules of Unicode (UAX #29); these are never cut.
    Sentences,
    /// Tokens of `tokenizer`.
    Tokens,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

const PARENT: Column<StringArray> = Column::new("parent_id", DataType::Utf8, "id of the document that the chunk is of");
const START: Column<UInt64Array> = Column::new("chunk_start", DataType::UInt64, "byte of the document's text at which the chunk begins");
const END: Column<UInt64Array> = Column::new("chunk_end", DataType::UInt64, "byte of the document's text behind the chunk's last");
const SIZE: Column<UInt32Array> = Column::new("chunk_size", DataType::UInt32, "units of the chunk: tokens, characters, words or sentences");

/// Chunks leave in batches of at most so many, …
const ROWS: usize = 1024;
/// … and of about so many bytes of text.
const BYTES: usize = 8 << 20;

impl StageConfig for ChunkTextConfig {
    const NAME: &'static str = "chunk_text";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: chunk_text, from: pages, unit: tokens, max: 16, tokenizer: tokenizer.json}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec(), document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        vec![PARENT.spec(), START.spec(), END.spec(), SIZE.spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        let max = self.max.get();
        if self.overlap > max / 2 {
            return Err(StageError::setting(
                "overlap",
                format!("wanted at most half of `max`, which is {}, found {}", max / 2, self.overlap),
            ));
        }
        match (self.unit, &self.tokenizer) {
            (ChunkUnit::Tokens, None) => {
                return Err(StageError::setting("tokenizer", "wanted a tokenizer's file with `unit: tokens`, found none"));
            }
            (ChunkUnit::Tokens, Some(_)) | (_, None) => {}
            (_, Some(name)) => {
                return Err(StageError::setting("tokenizer", format!("found `{name}`, which is for `unit: tokens`")));
            }
        }
        if self.column.as_str() == document::ID.name() {
            return Err(StageError::setting("column", "wanted a column of texts, found the one of ids"));
        }
        Ok(Outputs::new(crate::stage::add_columns(input, &self.adds())?).with_dropped(input)?.dropped_apart())
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let unit = match (self.unit, &self.tokenizer) {
            (ChunkUnit::Tokens, Some(name)) => Unit::Tokens(Box::new(TextTokenizer::read(&cx.base_dir, name)?)),
            (ChunkUnit::Words, _) => Unit::Words,
            (ChunkUnit::Sentences, _) => Unit::Sentences,
            (ChunkUnit::Characters | ChunkUnit::Tokens, _) => Unit::Characters,
        };
        Ok(Stage::RowLocal(Box::new(ChunkText {
            chunker: Chunker { unit, max: u64::from(self.max.get()), overlap: u64::from(self.overlap) },
            id: input.index_of(document::ID.name())?,
            text: input.index_of(self.column.as_str())?,
            column: document::TEXT.named(self.column.as_str()),
            output,
        })))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        Ok(self.tokenizer.iter().map(|name| (name.clone(), cx.base_dir.join(name))).collect())
    }
}

struct ChunkText {
    chunker: Chunker,
    id: usize,
    text: usize,
    column: Column<StringArray>,
    output: SchemaRef,
}

impl RowLocal for ChunkText {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let (ids, texts) = (document::ID.try_of(&batch)?.clone(), self.column.try_of(&batch)?.clone());
        let mut waiting: Vec<(u32, usize, Chunk)> = Vec::new();
        let (mut bytes, mut without) = (0, Vec::new());
        for (row, text) in (0_u32..).zip(&texts) {
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                without.push(row);
                continue;
            };
            let chunks = match self.chunker.cut(text) {
                Ok(chunks) => chunks,
                Err(problem) => {
                    out.reject_row(&batch, row as usize, "not_tokenized", problem);
                    continue;
                }
            };
            for (number, chunk) in chunks.into_iter().enumerate() {
                bytes += chunk.end - chunk.start;
                waiting.push((row, number, chunk));
                if waiting.len() >= ROWS || bytes >= BYTES {
                    self.give(&batch, &ids, &texts, &std::mem::take(&mut waiting), out)?;
                    bytes = 0;
                }
            }
        }
        self.give(&batch, &ids, &texts, &waiting, out)?;
        if !without.is_empty() {
            let reason = Dropped { reason: "no_text", value: None, threshold: None, duplicate_of: None };
            let reasons = vec![reason; without.len()];
            out.drop_rows(&take_record_batch(&batch, &UInt32Array::from(without))?, &reasons)?;
        }
        Ok(())
    }
}

impl ChunkText {
    fn give(
        &self,
        batch: &RecordBatch,
        ids: &StringArray,
        texts: &StringArray,
        chunks: &[(u32, usize, Chunk)],
        out: &mut Emit,
    ) -> Result<(), StageError> {
        if chunks.is_empty() {
            return Ok(());
        }
        // The text itself is not copied for each chunk.
        let mut others: Vec<usize> = (0..batch.num_columns()).collect();
        others.retain(|&column| column != self.text);
        let rows: UInt32Array = chunks.iter().map(|(row, ..)| *row).collect();
        let mut columns: Vec<ArrayRef> = take_record_batch(&batch.project(&others)?, &rows)?.columns().to_vec();
        let mut child = StringBuilder::new();
        let mut parents = StringBuilder::new();
        let mut cut = StringBuilder::new();
        for (row, number, chunk) in chunks {
            let row = *row as usize;
            if ids.is_valid(row) {
                child.append_value(format!("{}#{number}", ids.value(row)));
                parents.append_value(ids.value(row));
            } else {
                child.append_null();
                parents.append_null();
            }
            cut.append_value(&texts.value(row)[chunk.start..chunk.end]);
        }
        columns.insert(self.text, Arc::new(cut.finish()));
        columns[self.id] = Arc::new(child.finish());
        columns.extend([
            Arc::new(parents.finish()) as ArrayRef,
            Arc::new(chunks.iter().map(|(.., chunk)| chunk.start as u64).collect::<UInt64Array>()),
            Arc::new(chunks.iter().map(|(.., chunk)| chunk.end as u64).collect::<UInt64Array>()),
            Arc::new(chunks.iter().map(|(.., chunk)| u32::try_from(chunk.size).unwrap_or(u32::MAX)).collect::<UInt32Array>()),
        ]);
        out.rows(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance};
    use crate::text::tokenizer::tests::examples;

    fn with_tokenizer(mut settings: Value) -> Value {
        settings["tokenizer"] = json!(examples().join("tokenizer.json"));
        settings
    }

    #[test]
    fn it_keeps_the_contract() {
        for settings in [
            json!({"max": 20}),
            json!({"max": 4, "unit": "words", "overlap": 2}),
            json!({"max": 1, "unit": "sentences"}),
            with_tokenizer(json!({"max": 10, "unit": "tokens", "overlap": 5})),
        ] {
            let got = testing::check_contract::<ChunkTextConfig>(settings, &testing::sample(), Balance::Free);
            assert!(got.rows().num_rows() > testing::sample().num_rows() / 2);
            assert_eq!(got.dropped().num_rows() as u64, got.drop_reasons["no_text"]);
        }
    }

    #[test]
    fn chunks_know_where_they_come_from() {
        let input = testing::strings(&[
            ("text", vec![Some("One two. Three four. Five."), None, Some(""), Some("Six.")]),
            ("id", vec![Some("a"), Some("b"), Some("c"), None]),
        ]);
        let got = testing::run::<ChunkTextConfig>(json!({"max": 4, "unit": "words"}), &[(Port::FROM, input)]);
        let rows = got.rows();
        assert_eq!(testing::column(rows, "text"), ["One two. Three four. ", "Five.", "Six."]);
        assert_eq!(testing::column(rows, "id"), ["a#0", "a#1", ""]);
        assert_eq!(testing::column(rows, "parent_id"), ["a", "a", ""]);
        assert_eq!(testing::column(rows, "chunk_start"), ["0", "21", "0"]);
        assert_eq!(testing::column(rows, "chunk_end"), ["21", "26", "4"]);
        assert_eq!(testing::column(rows, "chunk_size"), ["4", "1", "1"]);
        assert_eq!(testing::column(got.dropped(), "id"), ["b", "c"]);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refusal = |settings| testing::refusal::<ChunkTextConfig>(settings, &[(Port::FROM, testing::sample())]);
        assert_eq!(refusal(json!({"max": 10, "overlap": 6})), "overlap: wanted at most half of `max`, which is 5, found 6");
        assert_eq!(refusal(json!({"max": 10, "unit": "tokens"})), "tokenizer: wanted a tokenizer's file with `unit: tokens`, found none");
        assert_eq!(refusal(json!({"max": 10, "tokenizer": "t.json"})), "tokenizer: found `t.json`, which is for `unit: tokens`");
        assert_eq!(refusal(json!({"max": 10, "column": "id"})), "column: wanted a column of texts, found the one of ids");
    }
}
