//! `sample_rows`: keeps a share of the rows, drawn by the run's seed.

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use crate::keys::{Draw, KeyColumns};
use crate::units::Fraction;
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Outputs, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Keeps each row with the chance `fraction`.
///
/// The draw depends on the run's seed, the stage's id and the row's `id` alone, so a row that is kept today is kept when rows are added
/// tomorrow, and a larger fraction keeps every row that a smaller one keeps. Rows with equal ids stay together. The number of rows kept is
/// near `fraction` of all, not exactly it. Reason of the others: `not_sampled`, with the number drawn and the fraction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleRowsConfig {
    /// Share of the rows to keep: 0 to 1.
    pub fraction: Fraction,
}

impl StageConfig for SampleRowsConfig {
    const NAME: &'static str = "sample_rows";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: sample_rows, from: pages, fraction: 0.1}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let id = KeyColumns::try_new(cx.input()?, [document::ID.name()], "from")?;
        Ok(Stage::RowLocal(Box::new(SampleRows { fraction: self.fraction, draw: Draw::new(cx.seed, &cx.stage_id, id) })))
    }
}

struct SampleRows {
    fraction: Fraction,
    draw: Draw,
}

impl RowLocal for SampleRows {
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
