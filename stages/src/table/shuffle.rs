//! `shuffle`: puts the rows in an order drawn by the run's seed.

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::reorder::{Reorder, RowKeys};
use crate::keys::{Draw, KeyColumns};
use crate::{BuildContext, Inputs, Kind, Stage, StageConfig, StageError};

/// Puts all rows in a random order: over the whole table, not within a window.
///
/// The order depends on the run's seed, the stage's id and the rows' `id` alone: the same rows, however they lie in files, come out in the
/// same order, and rows added tomorrow stand between those of today without moving them. Rows with one id come out next to each other, in the
/// order they came in; so do rows without an id. No row is changed, added or dropped.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShuffleConfig {}

impl StageConfig for ShuffleConfig {
    const NAME: &'static str = "shuffle";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: shuffle, from: pages}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec()]
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?.clone();
        let id = KeyColumns::try_new(&input, [document::ID.name()], "from")?;
        let keys = Lots(Draw::new(cx.seed, &cx.stage_id, id));
        Ok(Stage::Global(Box::new(Reorder { input, keys })))
    }
}

struct Lots(Draw);

impl RowKeys for Lots {
    fn keys(&self, batch: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<(), StageError> {
        self.0.lots(batch)?.into_iter().for_each(|lot| each(&lot.to_be_bytes()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Port;
    use crate::testing::{self, Balance, Cut};

    fn table(ids: &[Option<String>]) -> RecordBatch {
        let id: ArrayRef = Arc::new(ids.iter().cloned().collect::<StringArray>());
        let n: ArrayRef = Arc::new(Int32Array::from_iter_values(0..i32::try_from(ids.len()).expect("few rows")));
        RecordBatch::try_from_iter_with_nullable([("id", id, true), ("n", n, true)]).expect("columns of one length")
    }

    fn shuffled(rows: &RecordBatch, cut: Cut) -> Vec<(String, i32)> {
        let got = testing::run_cut::<ShuffleConfig>(json!({}), &[(Port::FROM, rows.clone())], cut);
        let numbers = testing::column(got.rows(), "n").into_iter().map(|n| n.parse().expect("a number"));
        testing::column(got.rows(), "id").into_iter().zip(numbers).collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        let got = testing::check_contract::<ShuffleConfig>(json!({}), &testing::sample(), Balance::KeptOrDropped);
        assert_ne!(got.rows(), &testing::sample());
    }

    #[test]
    fn every_place_is_as_likely_as_every_other() {
        // Mean place of the first 5,000 of 10,000 rows: 4,999.5 expected, standard deviation 29. Six of them: once in a billion.
        let ids: Vec<_> = (0..10_000).map(|n| Some(format!("doc{n}"))).collect();
        let places: Vec<usize> =
            shuffled(&table(&ids), testing::CUTS[0]).iter().enumerate().filter(|(_, (_, n))| *n < 5000).map(|(place, _)| place).collect();
        let mean = places.iter().sum::<usize>() as f64 / 5000.0;
        assert!((mean - 4999.5).abs() < 174.0, "{mean}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn ids_alone_decide_and_equal_ids_keep_their_order(
            ids in prop::collection::vec(prop::option::weighted(0.9, 0_u8..40), 0..120),
            turn in 0_usize..120,
            shard_rows in 1_usize..50,
            ranges in 1_usize..6,
        ) {
            let ids: Vec<Option<String>> = ids.into_iter().map(|id| id.map(|id| id.to_string())).collect();
            let got = shuffled(&table(&ids), Cut { batch_rows: 5, shard_rows, ranges });
            let mut numbers: Vec<i32> = got.iter().map(|(_, n)| *n).collect();
            for pair in got.windows(2) {
                prop_assert!(pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1, "{pair:?}");
            }
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..i32::try_from(ids.len()).expect("few")).collect::<Vec<_>>());
            // The same rows, standing otherwise: the same order of ids.
            let mut turned = ids.clone();
            turned.rotate_left(turn.min(ids.len()));
            let of_ids = |rows: Vec<(String, i32)>| rows.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
            prop_assert_eq!(of_ids(got), of_ids(shuffled(&table(&turned), testing::CUTS[0])));
        }
    }
}
