//! `sample_rows`: keeps a share of the rows, or so many of them, drawn by the run's seed.

use std::num::NonZeroU64;

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::sample_count::SampleCount;
use crate::keys::{Draw, KeyColumns};
use crate::units::{ColumnName, Fraction};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Outputs, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Keeps each row with the chance `fraction`, or exactly `count` rows, drawn at random.
///
/// The draw depends on the run's seed, the stage's id and the row's `id` alone, not on how the rows lie in files, and a larger sample keeps
/// every row that a smaller one keeps (but for `allocation: proportional`, where rounding can take a row from a stratum). Rows keep their order.
///
/// With `fraction` it works row by row: a row that is kept today is kept when rows are added tomorrow, rows with equal ids stay together, and the number of rows
/// kept is near `fraction` of all, not exactly it. With `count`, exactly so many rows are kept, or all if there are fewer; of rows with one
/// id, the first ones are. Reason of the others: `not_sampled`, with the number drawn and, for `fraction`, the fraction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleRowsConfig {
    /// Share of the rows to keep: 0 to 1. Either this or `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
    /// How many rows to keep: of all, or with `by` of each stratum, or with `allocation: proportional` of all strata together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroU64>,
    /// The column whose values are the strata, each sampled on its own; rows where it is null are one stratum. For `count` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<ColumnName>,
    /// How `count` is meant when there are strata; `equal` unless said otherwise.
    #[serde(default, skip_serializing_if = "Allocation::is_default")]
    pub allocation: Allocation,
}

/// How many rows each stratum gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Allocation {
    /// `count` rows of each stratum, or all of a smaller one.
    #[default]
    Equal,
    /// `count` rows in all, of each stratum as many as its share of the rows; what rounding down leaves goes to the largest remainders.
    Proportional,
}

impl Allocation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl StageConfig for SampleRowsConfig {
    const NAME: &'static str = "sample_rows";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: sample_rows, from: pages, fraction: 0.1}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        match (self.fraction, self.count) {
            (None, None) => return Err(StageError::setting("fraction", "wanted `fraction` or `count`, found neither")),
            (Some(_), Some(_)) => return Err(StageError::setting("count", "wanted `fraction` or `count`, found both")),
            _ => {}
        }
        if let (Some(_), Some(by)) = (self.fraction, &self.by) {
            return Err(StageError::setting("by", format!("strata are for `count`, found `by: {by}` with `fraction`"))
                .with_help("with `fraction` every stratum gives about that share of its rows as it is"));
        }
        if self.by.is_none() && self.allocation == Allocation::Proportional {
            return Err(StageError::setting("allocation", "wanted `by` with `allocation: proportional`, found none"));
        }
        self.strata(cx)?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let id = KeyColumns::try_new(cx.input()?, [document::ID.name()], "from")?;
        let draw = Draw::new(cx.seed, &cx.stage_id, id);
        Ok(match (self.fraction, self.count) {
            (Some(fraction), _) => Stage::RowLocal(Box::new(SampleFraction { fraction, draw })),
            (None, Some(count)) => Stage::Global(Box::new(SampleCount {
                input: cx.input()?.clone(),
                count: count.get(),
                strata: self.strata(cx)?,
                is_proportional: self.allocation == Allocation::Proportional,
                draw,
            })),
            (None, None) => return Err(StageError::setting("fraction", "wanted `fraction` or `count`, found neither")),
        })
    }
}

impl SampleRowsConfig {
    fn strata(&self, cx: &BuildContext) -> Result<Option<KeyColumns>, StageError> {
        self.by.as_ref().map(|by| KeyColumns::try_new(cx.input()?, [by.as_str()], "by")).transpose()
    }
}

struct SampleFraction {
    fraction: Fraction,
    draw: Draw,
}

impl RowLocal for SampleFraction {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let fraction = self.fraction.get();
        let verdicts = self.draw.draw(&batch)?.into_iter().map(|drawn| {
            // A draw is never 1, so a fraction of 1 keeps everything.
            if drawn < fraction { Verdict::Keep } else { Verdict::Drop(Dropped::measured("not_sampled", drawn, fraction)) }
        });
        out.split(&batch, verdicts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::Port;
    use crate::testing::{self, Balance};

    fn kept(fraction: f64) -> BTreeSet<String> {
        let got = testing::run::<SampleRowsConfig>(json!({"fraction": fraction}), &[(Port::FROM, testing::sample())]);
        testing::column(got.rows(), "id").into_iter().collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        testing::check_contract::<SampleRowsConfig>(json!({"fraction": 0.5}), &testing::sample(), Balance::KeptOrDropped);
    }

    #[test]
    fn a_larger_sample_holds_the_smaller_one() {
        let (none, small, large, all) = (kept(0.0), kept(0.3), kept(0.6), kept(1.0));
        assert!(none.is_empty());
        assert!(small.is_subset(&large) && small.len() < large.len());
        assert_eq!(all.len(), testing::sample().num_rows());
    }
}
