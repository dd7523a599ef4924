//! An exact number of rows drawn at random, of all or of each stratum: the program behind `sample_rows` with `count`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};

use super::reorder::push_row;
use crate::keys::{self, Draw, KeyColumns};
use crate::{Done, Dropped, Global, Port, RangeIn, Route, RowRef, ShardIn, StageError, Step, TableSpec, Tables, Verdict, WholeIn};

/// The rows that can be in the sample, by stratum, lot and place: of each shard the `count` first ones of a stratum.
const DRAWN: &str = "drawn";
/// How many rows of each stratum each shard has.
const SIZES: &str = "sizes";
/// How many rows each stratum gives.
const QUOTAS: &str = "quotas";
/// The last stratum of each range, which may go on in the next, and how many rows of it the range has.
const TAILS: &str = "tails";
/// To each row of the sample.
const SAMPLED: &str = "sampled";

pub(super) struct SampleCount {
    pub(super) input: SchemaRef,
    pub(super) count: u64,
    pub(super) strata: Option<KeyColumns>,
    pub(super) is_proportional: bool,
    pub(super) draw: Draw,
}

impl Global for SampleCount {
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(DRAWN, drawn_schema(), Route::Order),
            TableSpec::new(SIZES, strata_schema(), Route::Whole),
            TableSpec::new(QUOTAS, strata_schema(), Route::Whole),
            TableSpec::new(TAILS, tails_schema(), Route::Whole),
            TableSpec::new(SAMPLED, sampled_schema(), Route::Row(Port::FROM)),
        ]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let draw = Step::shards("draw", Port::FROM);
        let select = Step::ranges("select", &[DRAWN]).whole(TAILS).writes(&[SAMPLED]);
        let step = match (done.steps(), self.is_proportional) {
            (0, false) => draw.writes(&[DRAWN]),
            (0, true) => draw.writes(&[DRAWN, SIZES]),
            (1, true) => Step::once("allocate", &[SIZES], Vec::new()).writes(&[QUOTAS]),
            (1, false) | (2, true) => Step::ranges("count", &[DRAWN]).writes(&[TAILS]),
            (2, false) => select,
            (3, true) => select.whole(QUOTAS),
            (3, false) | (4, true) => Step::shards("keep", Port::FROM).mail(SAMPLED).emits(),
            _ => return None,
        };
        Some(step)
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        if step.emits { self.keep(shard, out) } else { self.draw(shard, out) }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let drawn = range.take(DRAWN)?.batch;
        let strata = drawn.column(0).as_binary::<i32>();
        if step.name == "count" {
            let Some(last) = strata.len().checked_sub(1) else { return Ok(()) };
            let tail = (0..strata.len()).rev().take_while(|&row| strata.value(row) == strata.value(last)).count() as u64;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt32Array::from(vec![range.index])),
                Arc::new(BinaryArray::from_vec(vec![strata.value(last)])),
                Arc::new(UInt64Array::from(vec![tail])),
            ];
            return out.whole(TAILS, RecordBatch::try_new(tails_schema(), columns)?);
        }

        let quotas = range.whole.get(QUOTAS);
        let tails = range.whole.get(TAILS).ok_or_else(|| StageError::Internal("no `tails` was asked for".to_owned()))?;
        let shards = drawn.column(1).as_primitive::<UInt32Type>().values();
        let rows = drawn.column(2).as_primitive::<UInt32Type>().values();
        let (mut to, mut ranks) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < strata.len() {
            let stratum = strata.value(start);
            let end = (start..strata.len()).find(|&row| strata.value(row) != stratum).unwrap_or(strata.len());
            let before = if start == 0 { rows_before(tails, range.index, stratum) } else { 0 };
            let quota = quotas.map_or(self.count, |quotas| quota_of(quotas, stratum));
            for (rank, at) in (before..quota).zip(start..end) {
                to.push(RowRef { shard: shards[at], row: rows[at] });
                ranks.push(rank);
            }
            start = end;
        }
        out.mail(SAMPLED, &to, RecordBatch::try_new(sampled_schema(), vec![Arc::new(UInt64Array::from(ranks))])?)
    }

    fn once(&self, _step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        let sizes = all.tables.remove(SIZES).ok_or_else(|| StageError::Internal("no `sizes` was asked for".to_owned()))?.batch;
        let (strata, numbers) = (sizes.column(0).as_binary::<i32>(), sizes.column(1).as_primitive::<UInt64Type>().values());
        let mut by_stratum: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (row, size) in numbers.iter().enumerate() {
            *by_stratum.entry(strata.value(row)).or_default() += size;
        }
        let quotas = allocate(self.count, &by_stratum.values().copied().collect::<Vec<_>>());
        let columns: Vec<ArrayRef> = vec![Arc::new(BinaryArray::from_iter_values(by_stratum.keys())), Arc::new(UInt64Array::from(quotas))];
        out.whole(QUOTAS, RecordBatch::try_new(strata_schema(), columns)?)
    }
}

impl SampleCount {
    fn draw(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let index = shard.shard.index;
        // Hash of the stratum, lot, row.
        let mut drawn: Vec<(u128, u128, u32)> = Vec::new();
        let mut row = 0_u32;
        let mut bytes = Vec::new();
        for batch in &shard.shard.batches {
            let strata = self.strata.as_ref().map(|strata| strata.encode(batch, None)).transpose()?;
            for (in_batch, lot) in self.draw.lots(batch)?.into_iter().enumerate() {
                bytes.clear();
                if let Some(strata) = &strata {
                    strata.write(in_batch, &mut bytes);
                }
                drawn.push((keys::key(&bytes), lot, row));
                row = row.checked_add(1).ok_or_else(|| StageError::Internal("a shard of over 2^32 rows".to_owned()))?;
            }
        }
        drawn.sort_unstable();

        let most = usize::try_from(self.count).unwrap_or(usize::MAX);
        let mut first: Vec<(u128, u128, u32)> = Vec::new();
        let (mut strata, mut sizes) = (Vec::new(), Vec::new());
        for of_stratum in drawn.chunk_by(|a, b| a.0 == b.0) {
            first.extend(&of_stratum[..of_stratum.len().min(most)]);
            strata.push(of_stratum[0].0.to_be_bytes());
            sizes.push(of_stratum.len() as u64);
        }
        let places: BinaryArray = first
            .iter()
            .map(|&(stratum, lot, row)| {
                let mut place = [stratum.to_be_bytes(), lot.to_be_bytes()].concat();
                push_row(&mut place, RowRef { shard: index, row });
                Some(place)
            })
            .collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BinaryArray::from_iter_values(first.iter().map(|(stratum, ..)| stratum.to_be_bytes()))),
            Arc::new(UInt32Array::from_iter_values(std::iter::repeat_n(index, first.len()))),
            Arc::new(UInt32Array::from_iter_values(first.iter().map(|(.., row)| *row))),
        ];
        out.ordered(DRAWN, places, RecordBatch::try_new(drawn_schema(), columns)?)?;
        if self.is_proportional {
            let columns: Vec<ArrayRef> = vec![Arc::new(BinaryArray::from_iter_values(strata)), Arc::new(UInt64Array::from(sizes))];
            out.whole(SIZES, RecordBatch::try_new(strata_schema(), columns)?)?;
        }
        Ok(())
    }

    fn keep(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let sampled = shard.take_mail(SAMPLED)?.rows;
        let rows = concat_batches(&self.input, &shard.shard.batches)?;
        shard.shard.batches.clear();
        let mut sampled = sampled.into_iter().peekable();
        let verdicts = (0_u32..).zip(self.draw.lots(&rows)?).map(|(row, lot)| {
            if sampled.next_if_eq(&row).is_some() {
                return Verdict::Keep;
            }
            let drawn = keys::share_of(u64::try_from(lot >> 64).unwrap_or(u64::MAX));
            Verdict::Drop(Dropped { reason: "not_sampled", value: Some(drawn), threshold: None, duplicate_of: None })
        });
        out.emit().split(&rows, verdicts)
    }
}

/// How many rows of `stratum`, the first of range `index`, the ranges before have.
fn rows_before(tails: &RecordBatch, index: u32, stratum: &[u8]) -> u64 {
    let ranges = tails.column(0).as_primitive::<UInt32Type>().values();
    let (strata, rows) = (tails.column(1).as_binary::<i32>(), tails.column(2).as_primitive::<UInt64Type>().values());
    (0..tails.num_rows()).filter(|&at| ranges[at] < index && strata.value(at) == stratum).map(|at| rows[at]).sum()
}

/// The quota of `stratum`; strata stand in order.
fn quota_of(quotas: &RecordBatch, stratum: &[u8]) -> u64 {
    let (strata, rows) = (quotas.column(0).as_binary::<i32>(), quotas.column(1).as_primitive::<UInt64Type>().values());
    let (mut low, mut high) = (0, strata.len());
    while low < high {
        let middle = low.midpoint(high);
        if strata.value(middle) < stratum { low = middle + 1 } else { high = middle }
    }
    if low < strata.len() && strata.value(low) == stratum { rows[low] } else { 0 }
}

/// `count` shared out by size: rounded down, then one more to the largest remainders (of equal ones to the first) until all are given.
fn allocate(count: u64, sizes: &[u64]) -> Vec<u64> {
    let total: u128 = sizes.iter().map(|&size| u128::from(size)).sum();
    if u128::from(count) >= total {
        return sizes.to_vec();
    }
    let exact: Vec<u128> = sizes.iter().map(|&size| u128::from(count) * u128::from(size)).collect();
    let mut quotas: Vec<u64> = exact.iter().map(|exact| u64::try_from(exact / total).unwrap_or(u64::MAX)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&stratum| (Reverse(exact[stratum] % total), stratum));
    let left = count - quotas.iter().sum::<u64>();
    order.into_iter().zip(0..left).for_each(|(stratum, _)| quotas[stratum] += 1);
    quotas
}

fn drawn_schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::UInt32, false);
    Arc::new(Schema::new(vec![Field::new("stratum", DataType::Binary, false), number("shard"), number("row")]))
}

fn strata_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("stratum", DataType::Binary, false), Field::new("rows", DataType::UInt64, false)]))
}

fn tails_schema() -> SchemaRef {
    let mut fields = vec![Arc::new(Field::new("range", DataType::UInt32, false))];
    fields.extend(strata_schema().fields().iter().cloned());
    Arc::new(Schema::new(fields))
}

fn sampled_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("rank", DataType::UInt64, false)]))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use arrow::array::StringArray;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::SampleRowsConfig;
    use crate::testing::{self, Balance, Cut, Outcome};

    fn run(settings: Value, rows: &RecordBatch) -> Outcome {
        testing::run::<SampleRowsConfig>(settings, &[(Port::FROM, rows.clone())])
    }

    fn ids(settings: Value) -> BTreeSet<String> {
        testing::column(run(settings, &testing::sample()).rows(), "id").into_iter().collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        for settings in [
            json!({"count": 11}),
            json!({"count": 4, "by": "source"}),
            json!({"count": 9, "by": "source", "allocation": "proportional"}),
            json!({"count": 3, "by": "tags"}),
        ] {
            testing::check_contract::<SampleRowsConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
        }
    }

    #[test]
    fn the_count_is_exact_and_a_larger_sample_holds_the_smaller_one() {
        let (small, large) = (ids(json!({"count": 7})), ids(json!({"count": 23})));
        assert_eq!((small.len(), large.len(), ids(json!({"count": 1000})).len()), (7, 23, 40));
        assert!(small.is_subset(&large));
        let got = run(json!({"count": 7}), &testing::sample());
        assert_eq!(got.drop_reasons, [("not_sampled", 33)].into());
        assert!(testing::column(got.rows(), "id").is_sorted());
    }

    #[test]
    fn each_stratum_gives_as_many_as_it_has_up_to_the_count() {
        let rows = testing::strings(&[
            ("id", (0..12).map(|n| ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"].get(n).copied()).collect()),
            ("kind", [vec![Some("x"); 7], vec![Some("y"); 2], vec![None; 3]].concat()),
        ]);
        let kinds = |settings| {
            let got = run(settings, &rows);
            testing::column(got.rows(), "kind").into_iter().fold(BTreeMap::<String, u32>::new(), |mut kinds, kind| {
                *kinds.entry(kind).or_default() += 1;
                kinds
            })
        };
        let counts = |x: u32, y: u32, none: u32| -> BTreeMap<String, u32> {
            [("x".to_owned(), x), ("y".to_owned(), y), (String::new(), none)].into_iter().filter(|(_, n)| *n > 0).collect()
        };
        assert_eq!(kinds(json!({"count": 3, "by": "kind"})), counts(3, 2, 3));
        // 6 of 12: 3.5, 1 and 1.5; one is left, and 0.5 = 0.5: either of two strata has it.
        let half = kinds(json!({"count": 6, "by": "kind", "allocation": "proportional"}));
        assert!(half == counts(4, 1, 1) || half == counts(3, 1, 2), "{half:?}");
        assert_eq!(kinds(json!({"count": 12, "by": "kind", "allocation": "proportional"})), counts(7, 2, 3));
    }

    #[test]
    fn quotas_go_to_the_largest_remainders() {
        assert_eq!(allocate(10, &[70, 20, 10]), [7, 2, 1]);
        // 2.86, 2.86, 1.27: two are left for the largest remainders.
        assert_eq!(allocate(7, &[9, 9, 4]), [3, 3, 1]);
        assert_eq!(allocate(2, &[1, 1, 1, 1]), [1, 1, 0, 0]);
        assert_eq!(allocate(9, &[1, 2]), [1, 2]);
        assert_eq!(allocate(u64::MAX - 1, &[u64::MAX, 0]), [u64::MAX - 1, 0]);
        assert!(allocate(5, &[]).is_empty());
    }

    #[test]
    fn settings_that_contradict_are_refused() {
        let refusal = |settings| testing::refusal::<SampleRowsConfig>(settings, &[(Port::FROM, testing::sample())]);
        assert_eq!(refusal(json!({})), "fraction: wanted `fraction` or `count`, found neither");
        assert_eq!(refusal(json!({"fraction": 0.5, "count": 3})), "count: wanted `fraction` or `count`, found both");
        assert_eq!(refusal(json!({"fraction": 0.5, "by": "source"})), "by: strata are for `count`, found `by: source` with `fraction`");
        assert_eq!(
            refusal(json!({"count": 5, "allocation": "proportional"})),
            "allocation: wanted `by` with `allocation: proportional`, found none"
        );
        assert!(refusal(json!({"count": 5, "by": "kind"})).starts_with("needs column `kind`"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn quotas_add_up_and_no_stratum_is_off_by_one(count in 0_u64..500, sizes in prop::collection::vec(0_u64..100, 0..20)) {
            let total: u64 = sizes.iter().sum();
            let quotas = allocate(count, &sizes);
            prop_assert_eq!(quotas.iter().sum::<u64>(), count.min(total));
            for (quota, size) in quotas.iter().zip(&sizes) {
                prop_assert!(quota <= size);
                if count < total {
                    let exact = count as f64 * *size as f64 / total as f64;
                    prop_assert!((*quota as f64 - exact).abs() < 1.0, "{} of {}", quota, exact);
                }
            }
        }

        #[test]
        fn the_number_is_exact_with_ids_that_repeat(
            ids in prop::collection::vec((0_u8..6, 0_u8..3), 0..60),
            count in 1_u64..30,
            proportional: bool,
            shard_rows in 1_usize..40,
            ranges in 1_usize..8,
        ) {
            let id: ArrayRef = Arc::new(ids.iter().map(|(id, _)| Some(id.to_string())).collect::<StringArray>());
            let kind: ArrayRef = Arc::new(ids.iter().map(|(_, kind)| Some(kind.to_string())).collect::<StringArray>());
            let rows = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("kind", kind, true)]).expect("columns of one length");
            let mut settings = json!({"count": count, "by": "kind"});
            if proportional {
                settings["allocation"] = "proportional".into();
            }
            let got = testing::run_cut::<SampleRowsConfig>(settings, &[(Port::FROM, rows.clone())], Cut { batch_rows: 4, shard_rows, ranges });
            let mut sizes: HashMap<u8, u64> = HashMap::new();
            ids.iter().for_each(|(_, kind)| *sizes.entry(*kind).or_default() += 1);
            let expected: u64 = if proportional { count.min(ids.len() as u64) } else { sizes.values().map(|size| count.min(*size)).sum() };
            prop_assert_eq!(got.rows().num_rows() as u64, expected);
        }
    }
}
