//! `count_tokens`: how many tokens a text is for a model.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, UInt32Builder, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::tokenizer::TextTokenizer;
use crate::units::ColumnName;
use crate::{BuildContext, Emit, Inputs, Kind, Port, RowLocal, Stage, StageConfig, StageError};

/// Adds the number of tokens of each text, as a model's tokenizer makes them; null where the text is.
///
/// The tokenizer is a `tokenizer.json`, as models on Hugging Face have one; its content is part of what a run depends on. What the file says
/// about cutting texts and filling them up does not count. Texts that contain a special token's name (`</s>`) have that token, as they do in
/// Python. A text of over 256 KiB is tokenized in pieces, cut before white space where there is any, which can make a few tokens more. A text
/// that the tokenizer fails on is rejected.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountTokensConfig {
    /// The tokenizer's file, relative to the pipeline file.
    pub tokenizer: String,
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// What the column with the number of tokens is called.
    #[serde(default = "default_tokens_column")]
    pub tokens_column: ColumnName,
    /// What a column with the tokens themselves, as numbers, is called; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids_column: Option<ColumnName>,
    /// Whether the tokens count that the tokenizer puts around a text, such as `<s>`.
    #[serde(default)]
    pub special_tokens: bool,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn default_tokens_column() -> ColumnName {
    ColumnName::new("n_tokens")
}

const TOKENS: Column<UInt64Array> = Column::new("n_tokens", DataType::UInt64, "tokens of the text");

impl StageConfig for CountTokensConfig {
    const NAME: &'static str = "count_tokens";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: count_tokens, from: pages, tokenizer: tokenizer.json}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        let ids = self.ids_column.as_ref().map(|name| ColumnSpec {
            name: name.to_string(),
            data_type: DataType::List(Arc::new(Field::new_list_field(DataType::UInt32, true))),
            nullable: true,
            description: "tokens of the text, as numbers".to_owned(),
        });
        std::iter::once(TOKENS.named(self.tokens_column.as_str()).spec()).chain(ids).collect()
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let tokenizer = TextTokenizer::read(&cx.base_dir, &self.tokenizer)?;
        Ok(Stage::RowLocal(Box::new(CountTokens { config: self.clone(), tokenizer, output })))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        Ok(vec![(self.tokenizer.clone(), cx.base_dir.join(&self.tokenizer))])
    }
}

struct CountTokens {
    config: CountTokensConfig,
    tokenizer: TextTokenizer,
    output: SchemaRef,
}

impl RowLocal for CountTokens {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let texts = document::TEXT.named(self.config.column.as_str());
        let special = self.config.special_tokens;
        let mut counts: Vec<Option<u64>> = Vec::with_capacity(batch.num_rows());
        let mut ids = self.config.ids_column.as_ref().map(|_| ListBuilder::new(UInt32Builder::new()));
        let mut is_kept = vec![true; batch.num_rows()];
        for (row, text) in texts.try_of(&batch)?.iter().enumerate() {
            let counted = match (text, &mut ids) {
                (None, ids) => {
                    if let Some(ids) = ids {
                        ids.append_null();
                    }
                    Ok(None)
                }
                (Some(text), None) => self.tokenizer.count(text, special).map(Some),
                (Some(text), Some(ids)) => self.tokenizer.ids(text, special).map(|found| {
                    ids.values().append_slice(&found);
                    ids.append(true);
                    Some(found.len() as u64)
                }),
            };
            match counted {
                Ok(count) => counts.push(count),
                Err(problem) => {
                    out.reject_row(&batch, row, "not_tokenized", problem);
                    is_kept[row] = false;
                }
            }
        }
        let kept = if counts.len() == batch.num_rows() { batch } else { filter_record_batch(&batch, &is_kept.into())? };
        let mut columns: Vec<ArrayRef> = kept.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(counts)));
        columns.extend(ids.map(|mut ids| Arc::new(ids.finish()) as ArrayRef));
        out.rows(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance};
    use crate::text::tokenizer::tests::examples;

    /// Texts, and what Python's tokenizers 0.22.2 makes of them.
    const PYTHON_IDS: [(&str, &str); 6] = [
        ("", "[0]"),
        ("a", "[0, 65]"),
        (
            "Rows are kept, dropped or rejected.",
            "[0, 50, 79, 87, 83, 260, 274, 221, 75, 69, 294, 12, 310, 268, 80, 80, 316, 278, 82, 221, 274, 74, 299, 277, 68, 14]",
        ),
        (" two  spaces\n\nand lines\t", "[0, 258, 87, 79, 221, 285, 80, 65, 67, 276, 199, 199, 65, 289, 221, 76, 262, 276, 198]"),
        (
            "Größe, naïveté, 日本語, 😀",
            "[0, 39, 82, 128, 115, 128, 254, 69, 12, 313, 65, 128, 108, 86, 69, 84, 128, 103, 12, 221, 163, 246, 99, 163, 251, 106, 165, 104, 253, 12, 221, 173, 254, 247, 223]",
        ),
        ("it's 12345 <s> done", "[0, 265, 7, 83, 221, 17, 18, 19, 20, 21, 221, 0, 310, 267, 69]"),
    ];

    fn settings(more: Value) -> Value {
        let mut settings = json!({"tokenizer": examples().join("tokenizer.json")});
        settings.as_object_mut().expect("a mapping").extend(more.as_object().expect("a mapping").clone());
        settings
    }

    fn counted(more: Value, texts: &[Option<&str>]) -> testing::Outcome {
        let input = testing::strings(&[("text", texts.to_vec())]);
        testing::run::<CountTokensConfig>(settings(more), &[(Port::FROM, input)])
    }

    #[test]
    fn it_keeps_the_contract() {
        testing::check_contract::<CountTokensConfig>(settings(json!({})), &testing::sample(), Balance::KeptOrDropped);
        let ids = json!({"ids_column": "ids", "tokens_column": "tokens", "special_tokens": true});
        testing::check_contract::<CountTokensConfig>(settings(ids), &testing::sample(), Balance::KeptOrDropped);
    }

    #[test]
    fn tokens_are_those_of_pythons_tokenizers() {
        let cases = PYTHON_IDS;
        let texts: Vec<Option<&str>> = cases.iter().map(|(text, _)| Some(*text)).chain([None]).collect();
        let got = counted(json!({"ids_column": "ids", "special_tokens": true}), &texts);
        let expected: Vec<String> = cases.iter().map(|(_, ids)| (*ids).to_owned()).chain([String::new()]).collect();
        assert_eq!(testing::column(got.rows(), "ids"), expected);
        let n = |ids: &str| if ids == "[]" { 0 } else { ids.split(',').count() };
        let counts: Vec<String> = cases.iter().map(|(_, ids)| n(ids).to_string()).chain([String::new()]).collect();
        assert_eq!(testing::column(got.rows(), "n_tokens"), counts);
        let without: Vec<String> = cases.iter().map(|(_, ids)| (n(ids) - 1).to_string()).chain([String::new()]).collect();
        assert_eq!(testing::column(counted(json!({}), &texts).rows(), "n_tokens"), without);
    }

    #[test]
    fn long_lines_take_time_in_proportion() {
        let long = 500_000;
        for unit in ["word ", "a", " ", "日本語", "👨‍👩‍👧", "e\u{301}", "\u{301}", "!?.", "\n", "ا"] {
            let text = unit.repeat(long / unit.len());
            let start = Instant::now();
            let got = counted(json!({}), &[Some(&text)]);
            assert_eq!((got.rows().num_rows(), got.rejected.len()), (1, 0), "{unit:?}");
            assert!(start.elapsed() < Duration::from_secs(20), "{unit:?}: {:?}", start.elapsed());
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = testing::refusal::<CountTokensConfig>(json!({"tokenizer": "nowhere.json"}), &[(Port::FROM, testing::sample())]);
        assert!(error.starts_with("tokenizer: can't use `nowhere.json` as a tokenizer: No such file"), "{error}");
    }
}
