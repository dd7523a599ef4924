//! `pack_sequences`: puts token sequences together so that they fill a model's context.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, SchemaError};
use serde::{Deserialize, Serialize};

use super::first_fit::FirstFit;
use crate::units::ColumnName;
use crate::{
    BuildContext, Done, Dropped, Emit, Global, Inputs, Keyed, Kind, Measure, Outputs, Port, RangeIn, Route, RowRef, ShardIn, Stage,
    StageConfig, StageError, Step, TableSpec, Tables, WholeIn,
};

/// Packs rows into bins of `context_length` tokens, so that a trainer wastes little on padding.
///
/// A row's length is its number in `column`; no row is cut. Rows are placed longest first, each into the first bin that has room for it (first-fit
/// decreasing: at most 11/9 of the fewest bins possible, and 6/9 of a bin); of equally long rows the first comes first. Rows leave bin by
/// bin, each bin's rows in the order they stand in it, with the bin's number in `bin`, dense from 0, and the tokens before the row in
/// `bin_offset`. A trainer's sample is the rows of one `bin`, one after the other. Separators between rows must be part of the lengths.
///
/// Early bins hold the longest rows, so a trainer should draw bins in random order; a `shuffle` behind this stage would tear them apart.
///
/// Reasons: `too_long_for_context`, with the length and `context_length`; `no_tokens` for a length of 0. A row whose length is null or
/// negative is rejected.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackSequencesConfig {
    /// Tokens a bin holds.
    pub context_length: NonZeroU32,
    /// The column with each row's number of tokens; any integer type.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// Which rows can be in one bin.
    #[serde(default)]
    pub scope: PackScope,
}

/// Which rows can be in one bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PackScope {
    /// All. Takes memory for some 60 bytes a row, in one task.
    #[default]
    Global,
    /// Those of one shard of the input (at most 65,536 rows): a few more bins, but any number of rows, and rows that stood near each other
    /// stay so. How the rows lie in files then matters.
    Shard,
}

fn default_column() -> ColumnName {
    ColumnName::new("n_tokens")
}

const BIN: Column<UInt64Array> = Column::new("bin", DataType::UInt64, "bin that the row is packed into");
const BIN_OFFSET: Column<UInt32Array> = Column::new("bin_offset", DataType::UInt32, "tokens before the row in its bin");

impl StageConfig for PackSequencesConfig {
    const NAME: &'static str = "pack_sequences";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: pack_sequences, from: pages, column: words, context_length: 24}";

    fn adds(&self) -> Vec<ColumnSpec> {
        vec![BIN.spec(), BIN_OFFSET.spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        self.column(input)?;
        // A row without a bin has no place in the order of the bins.
        Ok(Outputs::new(crate::add_columns(input, &self.adds())?).with_dropped(input)?.dropped_apart())
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?.clone();
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let column = self.column(&input)?;
        let capacity = self.context_length.get();
        let tokens = Measure::new("tokens", "tokens of the row").at_most("context_length", f64::from(capacity));
        let pack = Pack { name: self.column.to_string(), column, capacity, tokens, input, output };
        Ok(Stage::Global(match self.scope {
            PackScope::Global => Box::new(PackAll(pack)),
            PackScope::Shard => Box::new(PackShards(pack)),
        }))
    }
}

impl PackSequencesConfig {
    fn column(&self, input: &Schema) -> Result<usize, StageError> {
        let name = self.column.as_str();
        let column = input.index_of(name).map_err(|_| SchemaError::missing(format!("{name}: a type of integer"), input))?;
        match input.field(column).data_type() {
            data_type if data_type.is_integer() => Ok(column),
            other => Err(StageError::setting("column", format!("wanted a column of whole numbers, found `{name}: {other}`"))),
        }
    }
}

/// What both scopes do alike.
struct Pack {
    name: String,
    column: usize,
    capacity: u32,
    tokens: Measure,
    input: SchemaRef,
    output: SchemaRef,
}

/// Where a row is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    bin: u64,
    offset: u32,
}

impl Pack {
    /// The lengths of rows; null where there is none.
    fn lengths(&self, batch: &RecordBatch) -> Result<UInt64Array, StageError> {
        // A cast gives null for a negative number.
        Ok(cast(batch.column(self.column), &DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
    }

    /// The length of a row that can be packed.
    fn fits(&self, length: Option<u64>) -> Option<u32> {
        length.and_then(|length| u32::try_from(length).ok()).filter(|length| (1..=self.capacity).contains(length))
    }

    /// Measures all rows, and gives those that cannot be packed to `dropped`, or rejects them.
    fn turn_away(&self, rows: &RecordBatch, lengths: &UInt64Array, out: &mut Emit) -> Result<(), StageError> {
        let (mut at, mut reasons) = (Vec::new(), Vec::new());
        for (row, length) in (0_u32..).zip(lengths) {
            if let Some(tokens) = length {
                out.observe(&self.tokens, tokens as f64, self.fits(length).is_some());
            }
            let why = match length {
                Some(0) => Dropped::measured("no_tokens", 0.0, 1.0),
                Some(length) if self.fits(Some(length)).is_none() => {
                    Dropped::measured("too_long_for_context", length as f64, f64::from(self.capacity))
                }
                Some(_) => continue,
                None => {
                    let index = usize::try_from(row).map_err(|_| StageError::Internal("a row past the address space".to_owned()))?;
                    let column = rows.column(self.column);
                    let found =
                        if column.is_null(index) { "null".to_owned() } else { arrow::util::display::array_value_to_string(column, index)? };
                    out.reject_row(rows, index, "no_length", format!("wanted a number of tokens in `{}`, found {found}", self.name));
                    continue;
                }
            };
            at.push(row);
            reasons.push(why);
        }
        if at.is_empty() { Ok(()) } else { out.drop_rows(&take_record_batch(rows, &UInt32Array::from(at))?, &reasons) }
    }

    /// Rows with their places, as they leave the stage.
    fn placed(&self, rows: &RecordBatch, places: &[Place]) -> Result<RecordBatch, StageError> {
        let bins: ArrayRef = Arc::new(places.iter().map(|place| place.bin).collect::<UInt64Array>());
        let offsets: ArrayRef = Arc::new(places.iter().map(|place| place.offset).collect::<UInt32Array>());
        let columns = rows.columns().iter().cloned().chain([bins, offsets]).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// Packs lengths that stand in descending order; the places and how many bins there are.
fn first_fit_decreasing(capacity: u32, lengths: &[u32]) -> Result<(Vec<Place>, u64), StageError> {
    let total = lengths.iter().map(|&length| u64::from(length)).sum();
    let mut bins = FirstFit::new(capacity, lengths.len(), total);
    let place = |&length| {
        let (bin, offset) = bins.place(length).ok_or_else(|| StageError::Internal(format!("no bin has room for {length} tokens")))?;
        Ok(Place { bin: bin as u64, offset })
    };
    let places = lengths.iter().map(place).collect::<Result<_, StageError>>()?;
    Ok((places, bins.n_bins() as u64))
}

/// The length of each row that can be packed, the longest first.
const LENGTHS: &str = "lengths";
/// To each of them: its place.
const PLACES: &str = "places";
/// The rows with their places, by bin.
const PACKED: &str = "packed";

struct PackAll(Pack);

impl Global for PackAll {
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(LENGTHS, lengths_schema(), Route::Order),
            TableSpec::new(PLACES, places_schema(), Route::Row(Port::FROM)),
            TableSpec::new(PACKED, Arc::clone(&self.0.output), Route::Order),
        ]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("measure", Port::FROM).writes(&[LENGTHS])),
            1 => Some(Step::once("pack", &[LENGTHS], Vec::new()).writes(&[PLACES])),
            2 => Some(Step::shards("place", Port::FROM).mail(PLACES).writes(&[PACKED]).emits()),
            3 => Some(Step::ranges("order", &[PACKED]).emits()),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        if step.emits { self.place(shard, out) } else { self.measure(shard, out) }
    }

    fn once(&self, _step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = all.tables.remove(LENGTHS).ok_or_else(|| StageError::Internal("no `lengths` was asked for".to_owned()))?;
        let Keyed { origins, batch, .. } = table;
        let (places, _) = first_fit_decreasing(self.0.capacity, batch.column(0).as_primitive::<UInt32Type>().values())?;
        let rows = batch.column(1).as_primitive::<UInt32Type>().values();
        let to: Vec<RowRef> = origins.iter().zip(rows).map(|(origin, &row)| RowRef { shard: origin.shard, row }).collect();
        drop((origins, batch));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(places.iter().map(|place| place.bin).collect::<UInt64Array>()),
            Arc::new(places.iter().map(|place| place.offset).collect::<UInt32Array>()),
        ];
        out.mail(PLACES, &to, RecordBatch::try_new(places_schema(), columns)?)
    }

    fn range(&self, _step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        // The table is sorted by bin alone, so that no bin lies in two ranges.
        let rows = range.take(PACKED)?.batch;
        let (bins, offsets) = (BIN.try_of(&rows)?.values(), BIN_OFFSET.try_of(&rows)?.values());
        let n_rows = u32::try_from(rows.num_rows()).map_err(|_| StageError::Internal("a range of over 2^32 rows".to_owned()))?;
        let mut order: Vec<u32> = (0..n_rows).collect();
        order.sort_unstable_by_key(|&row| (bins[row as usize], offsets[row as usize]));
        out.emit().rows(take_record_batch(&rows, &UInt32Array::from(order))?)
    }
}

impl PackAll {
    fn measure(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let (mut lengths, mut rows) = (Vec::new(), Vec::new());
        let mut row = 0_u32;
        for batch in &shard.shard.batches {
            for length in &self.0.lengths(batch)? {
                if let Some(length) = self.0.fits(length) {
                    lengths.push(length);
                    rows.push(row);
                }
                row = row.checked_add(1).ok_or_else(|| StageError::Internal("a shard of over 2^32 rows".to_owned()))?;
            }
        }
        let keys = BinaryArray::from_iter_values(lengths.iter().map(|length| (u32::MAX - length).to_be_bytes()));
        let columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(lengths)), Arc::new(UInt32Array::from(rows))];
        out.ordered(LENGTHS, keys, RecordBatch::try_new(lengths_schema(), columns)?)
    }

    fn place(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(PLACES)?;
        let rows = concat_batches(&self.0.input, &shard.shard.batches)?;
        shard.shard.batches.clear();
        self.0.turn_away(&rows, &self.0.lengths(&rows)?, out.emit())?;
        let bins = mail.batch.column(0).as_primitive::<UInt64Type>().values();
        let offsets = mail.batch.column(1).as_primitive::<UInt32Type>().values();
        let places: Vec<Place> = bins.iter().zip(offsets).map(|(&bin, &offset)| Place { bin, offset }).collect();
        let keys = BinaryArray::from_iter_values(bins.iter().map(|bin| bin.to_be_bytes()));
        let packed = take_record_batch(&rows, &UInt32Array::from(mail.rows))?;
        out.ordered(PACKED, keys, self.0.placed(&packed, &places)?)
    }
}

/// How many bins each shard has.
const BINS: &str = "bins";

struct PackShards(Pack);

impl Global for PackShards {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new(BINS, bins_schema(), Route::Whole)]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("count", Port::FROM).writes(&[BINS])),
            1 => Some(Step::shards("pack", Port::FROM).whole(BINS).emits()),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let index = shard.shard.index;
        let mut lengths = Vec::with_capacity(shard.shard.batches.len());
        for batch in &shard.shard.batches {
            lengths.push(self.0.lengths(batch)?);
        }
        let mut order: Vec<(Reverse<u32>, u32)> = Vec::new();
        for (row, length) in (0_u32..).zip(lengths.iter().flatten()) {
            order.extend(self.0.fits(length).map(|length| (Reverse(length), row)));
        }
        order.sort_unstable();
        let descending: Vec<u32> = order.iter().map(|(Reverse(length), _)| *length).collect();
        let (mut places, n_bins) = first_fit_decreasing(self.0.capacity, &descending)?;
        if !step.emits {
            let columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(vec![index])), Arc::new(UInt64Array::from(vec![n_bins]))];
            return out.whole(BINS, RecordBatch::try_new(bins_schema(), columns)?);
        }

        let counts = shard.whole.get(BINS).ok_or_else(|| StageError::Internal("no `bins` was asked for".to_owned()))?;
        let before = arrow::compute::kernels::cmp::lt(counts.column(0), &UInt32Array::new_scalar(index))?;
        let before: u64 = filter_record_batch(counts, &before)?.column(1).as_primitive::<UInt64Type>().values().iter().sum();
        places.iter_mut().for_each(|place| place.bin += before);
        let rows = concat_batches(&self.0.input, &shard.shard.batches)?;
        shard.shard.batches.clear();
        self.0.turn_away(&rows, &self.0.lengths(&rows)?, out.emit())?;
        let mut packed: Vec<(Place, u32)> = places.into_iter().zip(order.into_iter().map(|(_, row)| row)).collect();
        packed.sort_unstable();
        let (places, at): (Vec<Place>, Vec<u32>) = packed.into_iter().unzip();
        out.emit().rows(self.0.placed(&take_record_batch(&rows, &UInt32Array::from(at))?, &places)?)
    }
}

fn lengths_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("length", DataType::UInt32, false), Field::new("row", DataType::UInt32, false)]))
}

fn places_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("bin", DataType::UInt64, false), Field::new("offset", DataType::UInt32, false)]))
}

fn bins_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("shard", DataType::UInt32, false), Field::new("bins", DataType::UInt64, false)]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance, Cut, Outcome};

    fn table(lengths: &[Option<i64>]) -> RecordBatch {
        let id: ArrayRef = Arc::new((0..lengths.len()).map(|n| Some(n.to_string())).collect::<StringArray>());
        let length: ArrayRef = Arc::new(Int64Array::from(lengths.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("id", id, true), ("n_tokens", length, true)]).expect("columns of one length")
    }

    fn pack(settings: Value, lengths: &[Option<i64>], cut: Cut) -> Outcome {
        testing::run_cut::<PackSequencesConfig>(settings, &[(Port::FROM, table(lengths))], cut)
    }

    /// Row, bin, offset of each row that comes out.
    fn places(got: &Outcome) -> Vec<(u64, u64, u64)> {
        let numbers = |name| testing::column(got.rows(), name).into_iter().map(|n| n.parse().expect("a number")).collect::<Vec<u64>>();
        let (ids, bins, offsets) = (numbers("id"), numbers("bin"), numbers("bin_offset"));
        (0..ids.len()).map(|row| (ids[row], bins[row], offsets[row])).collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        let settings = json!({"column": "words", "context_length": 15});
        let got = testing::check_contract::<PackSequencesConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
        assert!(got.drop_reasons["too_long_for_context"] > 0 && !got.rejected.is_empty(), "{:?}", got.drop_reasons);
    }

    #[test]
    fn by_hand() {
        let lengths = [3, 6, 2, 7, 1, 3].map(Some);
        let got = pack(json!({"context_length": 10}), &lengths, testing::CUTS[0]);
        // 7 and 3 | 6, 3 and 1 | 2; of two rows of length 3, row 0 comes first.
        assert_eq!(places(&got), [(3, 0, 0), (0, 0, 7), (1, 1, 0), (5, 1, 6), (4, 1, 9), (2, 2, 0)]);
    }

    #[test]
    fn what_cannot_be_packed_is_told_apart() {
        let lengths = [Some(11), Some(0), None, Some(-1), Some(10), Some(i64::MAX)];
        for scope in ["global", "shard"] {
            let got = pack(json!({"context_length": 10, "scope": scope}), &lengths, testing::CUTS[0]);
            assert_eq!(places(&got), [(4, 0, 0)]);
            assert_eq!(got.drop_reasons, [("no_tokens", 1), ("too_long_for_context", 2)].into());
            assert_eq!(testing::column(got.dropped(), "drop_value")[..2], ["11.0", "0.0"]);
            let details: Vec<&str> = got.rejected.iter().map(|row| row.detail.as_str()).collect();
            assert_eq!(
                details,
                ["wanted a number of tokens in `n_tokens`, found null", "wanted a number of tokens in `n_tokens`, found -1"]
            );
        }
    }

    #[test]
    fn bins_of_shards_are_numbered_through() {
        let lengths = [3, 8, 9, 2, 5, 5].map(Some);
        for ranges in [1, 3] {
            let cut = Cut { batch_rows: 2, shard_rows: 3, ranges };
            // Shard 0: 9 | 8 | 3. Shard 1: 5 and 5 | 2.
            let expected = [(2, 0, 0), (1, 1, 0), (0, 2, 0), (4, 3, 0), (5, 3, 5), (3, 4, 0)];
            assert_eq!(places(&pack(json!({"context_length": 10, "scope": "shard"}), &lengths, cut)), expected);
        }
    }

    #[test]
    fn a_column_of_texts_is_refused() {
        let refusal = |settings| testing::refusal::<PackSequencesConfig>(settings, &[(Port::FROM, testing::sample())]);
        let found = refusal(json!({"context_length": 10, "column": "text"}));
        assert_eq!(found, "column: wanted a column of whole numbers, found `text: Utf8`");
        assert!(
            refusal(json!({"context_length": 10})).starts_with("needs column `n_tokens: a type of integer`, but the input has `id: Utf8`")
        );
        assert!(refusal(json!({"context_length": 0, "column": "words"})).contains("nonzero"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn tokens_in_are_tokens_out_and_no_bin_overflows(
            lengths in prop::collection::vec(1_i64..120, 0..150),
            capacity in 60_i64..120,
            shard: bool,
            shard_rows in 1_usize..80,
            ranges in 1_usize..6,
        ) {
            let rows: Vec<Option<i64>> = lengths.iter().copied().map(Some).collect();
            let scope = if shard { "shard" } else { "global" };
            let got = pack(json!({"context_length": capacity, "scope": scope}), &rows, Cut { batch_rows: 7, shard_rows, ranges });
            let places = places(&got);
            let mut filled: BTreeMap<u64, i64> = BTreeMap::new();
            for (row, bin, offset) in &places {
                let filled = filled.entry(*bin).or_default();
                prop_assert_eq!(*filled, i64::try_from(*offset).expect("small"), "rows of a bin stand one after the other");
                *filled += lengths[usize::try_from(*row).expect("small")];
                prop_assert!(*filled <= capacity);
            }
            prop_assert!(places.is_sorted_by_key(|(_, bin, offset)| (*bin, *offset)));
            prop_assert!(filled.keys().copied().eq(0..filled.len() as u64), "bins are dense");
            let fitting: Vec<i64> = lengths.iter().copied().filter(|length| *length <= capacity).collect();
            prop_assert_eq!(filled.values().sum::<i64>(), fitting.iter().sum::<i64>());
            prop_assert_eq!(places.len() + got.dropped().num_rows(), lengths.len());
            if !shard {
                let fewest = (fitting.iter().sum::<i64>() as f64 / capacity as f64).ceil();
                // First-fit leaves at most one bin half empty.
                prop_assert!(filled.len() as f64 <= 2.0 * fewest + 1.0);
            }
        }
    }
}
