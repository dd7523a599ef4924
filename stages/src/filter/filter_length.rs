//! `filter_length`: drops documents that are too short or too long to train on.

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use crate::units::{Chars, ColumnName};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Drops documents whose text has fewer than `min_chars` or more than `max_chars` characters.
///
/// Reasons: `too_short` and `too_long`, with the number of characters and the limit; `no_text` where the text is null.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterLengthConfig {
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// Fewest characters (Unicode scalar values) a text may have.
    #[serde(default = "default_min_chars")]
    pub min_chars: Chars,
    /// Most characters a text may have; no limit if absent.
    #[serde(default)]
    pub max_chars: Option<Chars>,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn default_min_chars() -> Chars {
    Chars::new(1)
}

impl StageConfig for FilterLengthConfig {
    const NAME: &'static str = "filter_length";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: filter_length, from: pages, min_chars: 200}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, _cx: &BuildContext) -> Result<Stage, StageError> {
        match self.max_chars {
            Some(max) if max < self.min_chars => Err(StageError::setting(
                "max_chars",
                format!("wanted at least `min_chars`, which is {}, found {}", self.min_chars.get(), max.get()),
            )),
            _ => Ok(Stage::RowLocal(Box::new(FilterLength::new(self.clone())))),
        }
    }
}

struct FilterLength {
    config: FilterLengthConfig,
    chars: Measure,
}

impl RowLocal for FilterLength {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let column = document::TEXT.named(self.config.column.as_str());
        let verdicts: Vec<Verdict> = column.try_of(&batch)?.iter().map(|text| self.verdict(text, out)).collect();
        out.split(&batch, verdicts)
    }
}

impl FilterLength {
    fn new(config: FilterLengthConfig) -> Self {
        let chars = Measure::new("chars", "characters of the text").at_least("min_chars", config.min_chars.get() as f64);
        let chars = match config.max_chars {
            Some(max) => chars.at_most("max_chars", max.get() as f64),
            None => chars,
        };
        Self { config, chars }
    }

    fn verdict(&self, text: Option<&str>, out: &mut Emit) -> Verdict {
        let Some(text) = text else {
            return Verdict::Drop(Dropped { reason: "no_text", value: None, threshold: None, duplicate_of: None });
        };
        let (chars, min) = (Chars::of(text), self.config.min_chars);
        let verdict = match self.config.max_chars {
            _ if chars < min => Verdict::Drop(Dropped::measured("too_short", chars.get() as f64, min.get() as f64)),
            Some(max) if chars > max => Verdict::Drop(Dropped::measured("too_long", chars.get() as f64, max.get() as f64)),
            _ => Verdict::Keep,
        };
        out.observe(&self.chars, chars.get() as f64, verdict == Verdict::Keep);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use schemas::dropped;
    use serde_json::json;

    use super::*;
    use crate::Port;
    use crate::testing::{self, Balance};

    fn texts(texts: &[Option<&str>]) -> RecordBatch {
        let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
        testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec())])
    }

    #[test]
    fn it_keeps_the_contract() {
        testing::check_contract::<FilterLengthConfig>(
            json!({"min_chars": 40, "max_chars": 60}),
            &testing::sample(),
            Balance::KeptOrDropped,
        );
    }

    #[test]
    fn limits_count_characters_and_belong_to_what_is_kept() {
        let input = texts(&[Some("日本"), Some("日本語"), Some("日本語で話"), Some("日本語で話す"), None, Some("")]);
        let got = testing::run::<FilterLengthConfig>(json!({"min_chars": 3, "max_chars": 5}), &[(Port::FROM, input)]);
        assert_eq!(testing::column(got.rows(), "id"), ["d1", "d2"]);
        let dropped = got.dropped();
        assert_eq!(testing::column(dropped, "id"), ["d0", "d3", "d4", "d5"]);
        assert_eq!(testing::column(dropped, dropped::REASON.name()), ["too_short", "too_long", "no_text", "too_short"]);
        let (values, thresholds) = (dropped::VALUE.of(dropped), dropped::THRESHOLD.of(dropped));
        assert_eq!(values.iter().collect::<Vec<_>>(), [Some(2.0), Some(6.0), None, Some(0.0)]);
        assert_eq!(thresholds.iter().collect::<Vec<_>>(), [Some(3.0), Some(5.0), None, Some(3.0)]);
        // Every text is measured, whatever became of it.
        let chars = &got.measured["chars"];
        let counts: Vec<_> = chars.bins.iter().map(|(bin, counts)| (bin.from(), *counts)).collect();
        assert_eq!(counts, [(0.0, [0, 1]), (2.0, [0, 1]), (3.0, [1, 0]), (5.0, [1, 0]), (6.0, [0, 1])]);
        let bounds: Vec<_> = chars.bounds.iter().map(|bound| (bound.setting.as_str(), bound.at, bound.beyond)).collect();
        assert_eq!(bounds, [("min_chars", 3.0, 2), ("max_chars", 5.0, 1)]);
    }

    #[test]
    fn a_maximum_below_the_minimum_is_refused() {
        let error = testing::refusal::<FilterLengthConfig>(json!({"min_chars": 10, "max_chars": 9}), &[(Port::FROM, testing::sample())]);
        assert_eq!(error, "max_chars: wanted at least `min_chars`, which is 10, found 9");
    }
}
