//! `split_holdout`: sets a share of the rows aside, whole groups at a time.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::keys::{Draw, KeyColumns};
use crate::units::{ColumnName, Fraction};
use crate::{BuildContext, Emit, Inputs, Kind, Outputs, Port, RowLocal, Stage, StageConfig, StageError};

/// Splits rows in two: those to train on (`from: id`) and those held out (`from: id.holdout`).
///
/// Rows with one value of `column` are always on the same side, so nothing of a held-out group is trained on; rows where it is null count as
/// one group. The draw depends on the run's seed, the stage's id and the group alone. About `fraction` of the groups are held out, not exactly.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitHoldoutConfig {
    /// Share of the groups to hold out: 0 to 1.
    pub fraction: Fraction,
    /// The column whose values are the groups: a book, a site, a sequence. By default each id is its own group.
    #[serde(default = "default_column")]
    pub column: ColumnName,
}

fn default_column() -> ColumnName {
    ColumnName::new("id")
}

const HOLDOUT: Port = Port::new("holdout");

impl StageConfig for SplitHoldoutConfig {
    const NAME: &'static str = "split_holdout";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: split_holdout, from: pages, column: source, fraction: 0.05}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        KeyColumns::try_new(input, [self.column.as_str()], "column")?;
        Ok(Outputs::new(input.clone()).with(HOLDOUT, input.clone()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let group = KeyColumns::try_new(cx.input()?, [self.column.as_str()], "column")?;
        Ok(Stage::RowLocal(Box::new(SplitHoldout { fraction: self.fraction, draw: Draw::new(cx.seed, &cx.stage_id, group) })))
    }
}

struct SplitHoldout {
    fraction: Fraction,
    draw: Draw,
}

impl RowLocal for SplitHoldout {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let held: BooleanArray = self.draw.draw(&batch)?.into_iter().map(|drawn| Some(drawn < self.fraction.get())).collect();
        out.rows(filter_record_batch(&batch, &not(&held)?)?)?;
        out.to(HOLDOUT, filter_record_batch(&batch, &held)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::testing::{self, Balance};

    #[test]
    fn it_keeps_the_contract() {
        testing::check_contract::<SplitHoldoutConfig>(json!({"fraction": 0.4}), &testing::sample(), Balance::KeptOrDropped);
    }

    #[test]
    fn a_group_is_never_on_both_sides() {
        let config = json!({"fraction": 0.5, "column": "url"});
        let got = testing::run::<SplitHoldoutConfig>(config, &[(Port::FROM, testing::sample())]);
        let groups = |rows: &RecordBatch| testing::column(rows, "url").into_iter().collect::<BTreeSet<_>>();
        let (train, holdout) = (groups(got.rows()), groups(got.port(&HOLDOUT)));
        assert!(!train.is_empty() && !holdout.is_empty());
        assert_eq!(train.intersection(&holdout).count(), 0);
    }

    #[test]
    fn a_column_that_is_not_there_is_named() {
        let error = testing::refusal::<SplitHoldoutConfig>(json!({"fraction": 0.5, "column": "book"}), &[(Port::FROM, testing::sample())]);
        assert!(error.starts_with("needs column `book`, but the input has `id: Utf8`"), "{error}");
    }
}
