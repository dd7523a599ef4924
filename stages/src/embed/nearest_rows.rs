//! `nearest_rows`: the rows whose vectors are nearest to each row's.

use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, Float32Array, Float32Builder, ListArray, RecordBatch, StringArray,
    StringBuilder, StructArray, UInt32Array, UInt64Array, UInt64Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use gpu::cpu::cosine_topk::{Nearest, Neighbour, UnitRows};
use gpu::cpu::gemm::Rows;
use gpu::kernels::cosine_topk::cosine_topk;
use gpu::{Device, Ran};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::VectorColumn;
use crate::units::{ColumnName, Fraction};
use crate::{
    BuildContext, Done, Global, Inputs, Kind, Measure, Outputs, Port, RangeIn, Route, RowRef, ShardIn, Stage, StageConfig, StageError,
    Step, TableSpec, Tables, add_columns,
};

/// Adds to each row the rows whose vectors are nearest to its own by cosine similarity: their ids and similarities, the nearest first.
///
/// Every row is held against every other, so the result is exact, and the time grows with the square of the rows: on one core with AVX-512, a
/// million vectors of 384 take about an hour. Memory does not grow with the rows: the table is gone through in blocks. A row is never its own
/// neighbour, but rows with equal vectors are neighbours. Of equal similarities, the row that comes first in the table is the nearer.
///
/// A row whose vector has no direction has no neighbours, is no row's neighbour, and its list is null: the vector is null or all zeros, or
/// one of its numbers is null, infinite or not a number. A row with a direction that has no neighbour within `min_similarity` has an empty list.
/// Similarities are `f32`, within 2e-6 of the exact ones for vectors of a few hundred numbers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NearestRowsConfig {
    /// The column of vectors: a list of one length of 16, 32 or 64-bit floats. They need not be of length 1.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// Most neighbours of a row, 1 to 128.
    #[serde(default = "default_k")]
    pub k: NonZeroU32,
    /// Least cosine similarity of a neighbour, up to rounding (2e-6); no bound if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_similarity: Option<Fraction>,
    /// What the column of neighbours is called.
    #[serde(default = "default_neighbours_column")]
    pub neighbours_column: ColumnName,
}

fn default_column() -> ColumnName {
    ColumnName::new("embedding")
}

fn default_k() -> NonZeroU32 {
    NonZeroU32::new(10).expect("not zero")
}

fn default_neighbours_column() -> ColumnName {
    ColumnName::new("neighbours")
}

/// A shard of 65,536 rows that gives so many neighbours each fills some 500 MB.
const MOST_NEIGHBOURS: u32 = 128;

fn item_field() -> Field {
    let fields = vec![Field::new("id", DataType::Utf8, true), Field::new("similarity", DataType::Float32, false)];
    Field::new_list_field(DataType::Struct(Fields::from(fields)), false)
}

fn neighbours_column() -> Column<ListArray> {
    Column::new("neighbours", DataType::List(Arc::new(item_field())), "nearest rows by cosine similarity, the nearest first")
}

impl StageConfig for NearestRowsConfig {
    const NAME: &'static str = "nearest_rows";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: nearest_rows, from: vectors, k: 3, min_similarity: 0.5}";
    const USES_DEVICE: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        vec![neighbours_column().named(self.neighbours_column.as_str()).spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        VectorColumn::try_new(cx.input()?, &self.column)?;
        if self.k.get() > MOST_NEIGHBOURS {
            return Err(StageError::setting("k", format!("wanted 1 to {MOST_NEIGHBOURS}, found {}", self.k)));
        }
        Ok(Outputs::new(add_columns(cx.input()?, &self.adds())?))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let vectors = VectorColumn::try_new(cx.input()?, &self.column)?;
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest")]
        let least = self.min_similarity.map_or(-1.0, |least| (least.get() - ROUNDING) as f32);
        let k = self.k.get() as usize;
        Ok(Stage::Global(Box::new(NearestRows {
            width: vectors.depth().max(FLOATS_PER_NEIGHBOUR * k),
            vectors,
            k,
            least,
            device: cx.device.clone(),
            output,
            nearest: Measure::new("nearest_similarity", "cosine similarity to the nearest row"),
        })))
    }
}

/// How far a similarity may be from the exact one: so much below `min_similarity` is not below it, or equal vectors would not be neighbours at 1.
const ROUNDING: f64 = 2e-6;

/// Every vector with a direction, scaled to length 1, in the order of the rows.
const VECTORS: &str = "vectors";
/// How many of them each shard has.
const COUNTS: &str = "counts";
/// The block of vectors that all are held against next.
const BLOCK: &str = "block";
/// The best neighbours of each row among the blocks so far.
const NEAREST: &str = "nearest";
/// To each row: its neighbours.
const NEIGHBOURS: &str = "neighbours";

/// Bytes of vectors of a block: one is held by every task, beside its own vectors, which are as many. Tests take small ones, so that there are
/// several.
const BLOCK_BYTES: usize = if cfg!(test) { 512 } else { 32 << 20 };

/// Key ranges are cut by what is read, and a range's neighbours may be more than its vectors. So vectors are filled up to as many numbers a neighbour,
/// and what is written is in proportion to what is read.
const FLOATS_PER_NEIGHBOUR: usize = 4;

struct NearestRows {
    vectors: VectorColumn,
    /// Numbers of a vector as it is stored, those it is filled up with included.
    width: usize,
    k: usize,
    least: f32,
    device: Device,
    output: SchemaRef,
    nearest: Measure,
}

impl Global for NearestRows {
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(VECTORS, self.vectors_schema(), Route::Order),
            TableSpec::new(COUNTS, counts_schema(), Route::Whole),
            TableSpec::new(BLOCK, self.vectors_schema(), Route::Whole),
            TableSpec::new(NEAREST, nearest_schema(), Route::Order),
            TableSpec::new(NEIGHBOURS, neighbours_schema(), Route::Row(Port::FROM)),
        ]
    }

    /// Scale the vectors; put up the first block; then hold all vectors against the block, and put up the next; and give every row its list.
    fn next(&self, done: &Done) -> Option<Step> {
        let finished = done.steps();
        if finished == 0 {
            return Some(Step::shards("scale", Port::FROM).writes(&[VECTORS, COUNTS]));
        }
        let blocks = usize::try_from(done.rows(VECTORS)).unwrap_or(usize::MAX).div_ceil(self.block_rows());
        let offer = Step::ranges("offer", &[VECTORS]).whole(COUNTS).writes(&[BLOCK]);
        let compare = Step::ranges("compare", &[VECTORS, NEAREST]).whole(BLOCK);
        let attach = Step::shards("attach", Port::FROM).mail(NEIGHBOURS).emits();
        match finished {
            1 if blocks == 0 => Some(attach),
            1 => Some(offer),
            finished if finished < blocks + 1 => Some(compare.whole(COUNTS).writes(&[NEAREST, BLOCK])),
            finished if finished == blocks + 1 && blocks > 0 => Some(compare.writes(&[NEIGHBOURS])),
            finished if finished == blocks + 2 && blocks > 0 => Some(attach),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        if step.emits { self.attach(shard, out) } else { self.scale(shard, out) }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let vectors = range.take(VECTORS)?.batch;
        let whole = |table: &str| {
            range.whole.get(table).ok_or_else(|| StageError::Internal(format!("step `{}` does not see table `{table}`", step.name)))
        };
        let mut start = 0;
        if step.whole.contains(&BLOCK) {
            let block = whole(BLOCK)?.clone();
            if let Some(last) = block.num_rows().checked_sub(1)
                && step.writes.contains(&BLOCK)
            {
                start = Places::new(whole(COUNTS)?).of(&block, last) + 1;
            }
            let before = range.tables.remove(NEAREST).map(|table| table.batch);
            let (lists, ran) = self.compare(&vectors, &block, before.as_ref().filter(|before| before.num_rows() > 0))?;
            out.emit().ran(&ran);
            if step.writes.contains(&NEAREST) {
                let numbers = numbers_of(&vectors);
                let keys = BinaryArray::from_iter_values(numbers.values().iter().map(|number| number.to_be_bytes()));
                out.ordered(NEAREST, keys, lists.into_batch(numbers)?)?;
            } else {
                let to: Vec<RowRef> = numbers_of(&vectors).values().iter().map(|number| row_ref(*number)).collect();
                out.mail(NEIGHBOURS, &to, lists.into_mail()?)?;
            }
        }
        if step.writes.contains(&BLOCK) {
            let places = Places::new(whole(COUNTS)?);
            let end = start + self.block_rows() as u64;
            // Places ascend with the rows.
            let first = partition(vectors.num_rows(), |row| places.of(&vectors, row) < start);
            let last = partition(vectors.num_rows(), |row| places.of(&vectors, row) < end);
            out.whole(BLOCK, vectors.slice(first, last - first))?;
        }
        Ok(())
    }
}

/// How many of the first rows are so; those that are come first.
fn partition(n: usize, is_so: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low.midpoint(high);
        if is_so(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// A row's number: the shard above, the row in it below. In the order of the rows.
fn number_of(row: RowRef) -> u64 {
    (u64::from(row.shard) << 32) | u64::from(row.row)
}

fn row_ref(number: u64) -> RowRef {
    let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).expect("masked");
    RowRef { shard: half(number >> 32), row: half(number) }
}

/// The numbers of the rows of `vectors`, `block` and `nearest`.
fn numbers_of(batch: &RecordBatch) -> &UInt64Array {
    batch.column(0).as_primitive()
}

/// Which vector of all each one is.
struct Places {
    /// Shards that have vectors, and how many stand before each.
    before: Vec<(u32, u64)>,
}

impl Places {
    fn new(counts: &RecordBatch) -> Self {
        let (shards, counts) = (counts.column(0).as_primitive::<UInt32Type>(), counts.column(1).as_primitive::<UInt32Type>());
        let mut all: Vec<(u32, u64)> = shards.values().iter().copied().zip(counts.values().iter().map(|n| u64::from(*n))).collect();
        all.sort_unstable();
        let mut sum = 0;
        for (_, n) in &mut all {
            sum += std::mem::replace(n, sum);
        }
        Self { before: all }
    }

    /// The place of a row of `vectors` or `block`.
    fn of(&self, batch: &RecordBatch, row: usize) -> u64 {
        let shard = row_ref(numbers_of(batch).value(row)).shard;
        let before = self.before.binary_search_by_key(&shard, |(shard, _)| *shard).map_or(0, |at| self.before[at].1);
        before + u64::from(batch.column(1).as_primitive::<UInt32Type>().value(row))
    }
}

impl NearestRows {
    fn block_rows(&self) -> usize {
        (BLOCK_BYTES / (size_of::<f32>() * self.width)).max(1)
    }

    fn vector_field(&self) -> Result<(Arc<Field>, i32), StageError> {
        let width = i32::try_from(self.width).map_err(|_| StageError::Internal("vectors of over 2^31 numbers".to_owned()))?;
        Ok((Arc::new(Field::new_list_field(DataType::Float32, false)), width))
    }

    fn vectors_schema(&self) -> SchemaRef {
        let (item, width) = self.vector_field().expect("a list's length is a 32-bit number");
        Arc::new(Schema::new(vec![
            Field::new("number", DataType::UInt64, false),
            // Among the vectors of its shard.
            Field::new("ordinal", DataType::UInt32, false),
            Field::new("id", DataType::Utf8, true),
            Field::new("vector", DataType::FixedSizeList(item, width), false),
        ]))
    }

    fn scale(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let index = shard.shard.index;
        let (mut row, mut ordinal) = (0_u32, 0_u32);
        for batch in &shard.shard.batches {
            let (all_ids, vectors) = (document::ID.try_of(batch)?, self.vectors.of(batch)?);
            let (mut numbers, mut ordinals, mut floats) = (Vec::new(), Vec::new(), Vec::<f32>::new());
            let mut ids = StringBuilder::new();
            for in_batch in 0..vectors.len() {
                let start = floats.len();
                floats.resize(start + self.width, 0.0);
                if vectors.copy_unit(in_batch, &mut floats[start..start + self.vectors.depth()]) {
                    numbers.push(number_of(RowRef { shard: index, row }));
                    ordinals.push(ordinal);
                    ids.append_option(all_ids.is_valid(in_batch).then(|| all_ids.value(in_batch)));
                    ordinal += 1;
                } else {
                    floats.truncate(start);
                }
                row = row.checked_add(1).ok_or_else(|| StageError::Internal("a shard of over 2^32 rows".to_owned()))?;
            }
            let keys = BinaryArray::from_iter_values(numbers.iter().map(|number: &u64| number.to_be_bytes()));
            let (item, width) = self.vector_field()?;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from(numbers)),
                Arc::new(UInt32Array::from(ordinals)),
                Arc::new(ids.finish()),
                Arc::new(FixedSizeListArray::try_new(item, width, Arc::new(Float32Array::from(floats)), None)?),
            ];
            out.ordered(VECTORS, keys, RecordBatch::try_new(self.vectors_schema(), columns)?)?;
        }
        if ordinal > 0 {
            let columns: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(vec![index])), Arc::new(UInt32Array::from(vec![ordinal]))];
            out.whole(COUNTS, RecordBatch::try_new(counts_schema(), columns)?)?;
        }
        Ok(())
    }

    /// The best neighbours of `vectors` among `block` and those of the blocks before; and where they were looked for.
    fn compare(&self, vectors: &RecordBatch, block: &RecordBatch, before: Option<&RecordBatch>) -> Result<(Lists, Ran), StageError> {
        let mut nearest = Nearest::new(vectors.num_rows(), self.k, self.least);
        let before = before.map(Before::new).transpose()?;
        if let Some(before) = &before {
            if before.rows != *numbers_of(vectors) {
                return Err(StageError::Internal("neighbours of other rows than the range's".to_owned()));
            }
            for row in 0..vectors.num_rows() {
                before.of(row).for_each(|at| {
                    nearest.add(row, Neighbour { similarity: before.similarities.value(at), number: before.numbers.value(at) });
                });
            }
        }
        let ran = cosine_topk(&self.device, self.unit_rows(vectors), self.unit_rows(block), &mut nearest);

        let (numbers, ids) = (numbers_of(block).values(), block.column(2).as_string::<i32>());
        let mut lists = Lists::default();
        for (row, found) in nearest.into_lists().into_iter().enumerate() {
            for Neighbour { similarity, number } in found {
                let in_block = numbers.binary_search(&number).ok().map(|at| (ids, at));
                let was_before = || {
                    before.as_ref().and_then(|before| Some((&before.ids, before.of(row).find(|at| before.numbers.value(*at) == number)?)))
                };
                let (ids, at) = in_block
                    .or_else(was_before)
                    .ok_or_else(|| StageError::Internal(format!("a neighbour {number} that nobody offered")))?;
                lists.push(number, ids.is_valid(at).then(|| ids.value(at)), similarity);
            }
            lists.end();
        }
        Ok((lists, ran))
    }

    /// The vectors of rows of `vectors` or `block`, without what they are filled up with.
    fn unit_rows<'b>(&self, batch: &'b RecordBatch) -> UnitRows<'b> {
        let list = batch.column(3).as_fixed_size_list();
        let floats = list.values().as_primitive::<Float32Type>().values();
        UnitRows { rows: Rows::new(floats, batch.num_rows(), self.vectors.depth(), self.width), numbers: numbers_of(batch).values() }
    }

    fn attach(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(NEIGHBOURS)?;
        let lists = mail.batch.column(0);
        let (mut row, mut at) = (0_u32, 0_usize);
        for batch in shard.shard.batches.drain(..) {
            let mut of_row: Vec<Option<u64>> = Vec::with_capacity(batch.num_rows());
            for _ in 0..batch.num_rows() {
                let is_told = mail.rows.get(at) == Some(&row);
                of_row.push(is_told.then_some(at as u64));
                at += usize::from(is_told);
                row += 1;
            }
            let own = take(lists, &UInt64Array::from(of_row), None)?;
            let list = own.as_list::<i32>();
            let similarities = list.values().as_struct().column(1).as_primitive::<Float32Type>();
            for offsets in list.value_offsets().windows(2) {
                if let (Ok(first), true) = (usize::try_from(offsets[0]), offsets[0] < offsets[1]) {
                    out.emit().observe(&self.nearest, f64::from(similarities.value(first)), true);
                }
            }
            let columns = batch.columns().iter().cloned().chain(std::iter::once(own)).collect();
            out.emit().rows(RecordBatch::try_new(Arc::clone(&self.output), columns)?)?;
        }
        if at != mail.rows.len() {
            return Err(StageError::Internal(format!("neighbours for row {:?}, which the shard does not have", mail.rows.get(at))));
        }
        Ok(())
    }
}

/// The columns of `nearest`.
struct Before {
    rows: UInt64Array,
    offsets: OffsetBuffer<i32>,
    numbers: UInt64Array,
    ids: StringArray,
    similarities: Float32Array,
}

impl Before {
    fn new(batch: &RecordBatch) -> Result<Self, StageError> {
        let list = batch.column(1).as_list::<i32>();
        let [numbers, ids, similarities] = list.values().as_struct().columns() else {
            return Err(StageError::Internal("neighbours of other columns".to_owned()));
        };
        Ok(Self {
            rows: numbers_of(batch).clone(),
            offsets: list.offsets().clone(),
            numbers: numbers.as_primitive::<UInt64Type>().clone(),
            ids: ids.as_string().clone(),
            similarities: similarities.as_primitive::<Float32Type>().clone(),
        })
    }

    /// Where a row's neighbours stand.
    fn of(&self, row: usize) -> std::ops::Range<usize> {
        let at = |row: usize| usize::try_from(self.offsets[row]).unwrap_or(0);
        at(row)..at(row + 1)
    }
}

/// Lists of neighbours, row after row.
#[derive(Default)]
struct Lists {
    numbers: UInt64Builder,
    ids: StringBuilder,
    similarities: Float32Builder,
    /// How many each row has.
    lengths: Vec<usize>,
    open: usize,
}

impl Lists {
    fn push(&mut self, number: u64, id: Option<&str>, similarity: f32) {
        self.numbers.append_value(number);
        self.ids.append_option(id);
        self.similarities.append_value(similarity);
        self.open += 1;
    }

    fn end(&mut self) {
        self.lengths.push(std::mem::take(&mut self.open));
    }

    /// For the next block.
    fn into_batch(mut self, rows: &UInt64Array) -> Result<RecordBatch, StageError> {
        let numbers: ArrayRef = Arc::new(self.numbers.finish());
        let (ids, similarities): (ArrayRef, ArrayRef) = (Arc::new(self.ids.finish()), Arc::new(self.similarities.finish()));
        let list = list_of(&nearest_item(), self.lengths, vec![numbers, ids, similarities])?;
        Ok(RecordBatch::try_new(nearest_schema(), vec![Arc::new(rows.clone()), Arc::new(list)])?)
    }

    /// For the rows.
    fn into_mail(mut self) -> Result<RecordBatch, StageError> {
        let (ids, similarities): (ArrayRef, ArrayRef) = (Arc::new(self.ids.finish()), Arc::new(self.similarities.finish()));
        let list = list_of(&item_field(), self.lengths, vec![ids, similarities])?;
        Ok(RecordBatch::try_new(neighbours_schema(), vec![Arc::new(list)])?)
    }
}

fn list_of(item: &Field, lengths: Vec<usize>, columns: Vec<ArrayRef>) -> Result<ListArray, StageError> {
    let DataType::Struct(fields) = item.data_type() else { return Err(StageError::Internal("neighbours are structs".to_owned())) };
    let structs = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(ListArray::try_new(Arc::new(item.clone()), OffsetBuffer::from_lengths(lengths), Arc::new(structs), None)?)
}

fn counts_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("shard", DataType::UInt32, false), Field::new("vectors", DataType::UInt32, false)]))
}

fn nearest_item() -> Field {
    let fields = vec![
        Field::new("number", DataType::UInt64, false),
        Field::new("id", DataType::Utf8, true),
        Field::new("similarity", DataType::Float32, false),
    ];
    Field::new_list_field(DataType::Struct(Fields::from(fields)), false)
}

fn nearest_schema() -> SchemaRef {
    let list = DataType::List(Arc::new(nearest_item()));
    Arc::new(Schema::new(vec![Field::new("number", DataType::UInt64, false), Field::new("neighbours", list, false)]))
}

fn neighbours_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("neighbours", DataType::List(Arc::new(item_field())), false)]))
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use gpu::cpu::counter_rng::Draws;
    use serde_json::json;

    use super::*;
    use crate::embed::vectors::tests::table;
    use crate::testing::{self, Balance, Cut};

    type Vector = Option<Vec<Option<f64>>>;

    #[expect(clippy::unnecessary_wraps, reason = "as a table has them")]
    fn vector(numbers: &[f64]) -> Vector {
        Some(numbers.iter().copied().map(Some).collect())
    }

    fn lists(rows: &RecordBatch) -> Vec<Option<Vec<(String, f32)>>> {
        let column = neighbours_column();
        let of_row = |list: Option<ArrayRef>| {
            let list = list?;
            let (ids, similarities) =
                (list.as_struct().column(0).as_string::<i32>(), list.as_struct().column(1).as_primitive::<Float32Type>());
            Some(ids.iter().zip(similarities.values()).map(|(id, near)| (id.unwrap_or("").to_owned(), *near)).collect())
        };
        column.of(rows).iter().map(of_row).collect()
    }

    fn names(rows: &RecordBatch) -> Vec<Option<Vec<String>>> {
        lists(rows).into_iter().map(|list| Some(list?.into_iter().map(|(id, _)| id).collect())).collect()
    }

    /// Clumps of near vectors, equal ones, scaled ones, and such without a direction.
    fn hard(n: usize, depth: usize) -> Vec<Vector> {
        let mut draws = Draws::new(11, [0; 3]);
        let mut rows: Vec<Vector> = Vec::new();
        for row in 0..n {
            let near = rows.get(draws.below(u32::try_from(row).unwrap().max(1)) as usize).cloned().flatten();
            let near = near.unwrap_or_else(|| vec![Some(0.1); depth]);
            let (by, scale) = if draws.chance(0.3) { (0.0, 4.0) } else { (0.2, 1.0) };
            let next = near.iter().map(|x| Some(x.unwrap_or(0.0) * scale + by * draws.between(-1.0, 1.0))).collect();
            rows.push(match row % 13 {
                5 => None,
                7 => Some(vec![Some(0.0); depth]),
                9 => Some(vec![Some(f64::NAN); depth]),
                11 => Some((0..depth).map(|at| (at > 0).then_some(1.0)).collect()),
                _ => Some(next),
            });
        }
        rows
    }

    #[test]
    fn it_keeps_the_contract() {
        for (settings, depth) in [(json!({"k": 3}), 5), (json!({"k": 1, "min_similarity": 0.9}), 2), (json!({"k": 60}), 7)] {
            let got = testing::check_contract::<NearestRowsConfig>(
                settings,
                &table(&DataType::Float32, &hard(40, depth)),
                Balance::KeptOrDropped,
            );
            assert_eq!(got.rows().num_rows(), 40);
        }
    }

    #[test]
    fn neighbours_are_the_nearest_first_and_ties_go_by_the_order_of_the_rows() {
        let rows = [
            vector(&[1.0, 0.0]),
            vector(&[0.0, 3.0]),
            vector(&[2.0, 2.0]),
            vector(&[2.0, 0.0]),
            vector(&[0.0, 0.0]),
            None,
            vector(&[-1.0, 0.0]),
            vector(&[f64::INFINITY, 0.0]),
        ];
        let input = [(Port::FROM, table(&DataType::Float64, &rows))];
        let got = testing::run::<NearestRowsConfig>(json!({"k": 2}), &input);
        let some = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        let wanted =
            [some(&["r3", "r2"]), some(&["r2", "r0"]), some(&["r0", "r1"]), some(&["r0", "r2"]), None, None, some(&["r1", "r2"]), None];
        assert_eq!(names(got.rows()), wanted);
        let near = lists(got.rows())[0].clone().unwrap();
        assert!((near[0].1 - 1.0).abs() < 1e-6 && (near[1].1 - 0.5_f32.sqrt()).abs() < 1e-6, "{near:?}");
        // 45° is a similarity of 0.707; a right angle and what is beyond are left out, and a row that then has none has an empty list.
        let got = testing::run::<NearestRowsConfig>(json!({"k": 10, "min_similarity": 0.7}), &input);
        let wanted = [some(&["r3", "r2"]), some(&["r2"]), some(&["r0", "r1", "r3"]), some(&["r0", "r2"]), None, None, some(&[]), None];
        assert_eq!(names(got.rows()), wanted);
        assert_eq!(got.measured["nearest_similarity"].counts(), [4, 0]);
    }

    #[test]
    fn equal_vectors_are_neighbours_in_the_order_of_the_rows() {
        let input = [(Port::FROM, table(&DataType::Float16, &vec![vector(&[0.1, 0.2, 0.3]); 30]))];
        for cut in testing::CUTS {
            let got = testing::run_cut::<NearestRowsConfig>(json!({"k": 2}), &input, cut);
            let names = names(got.rows());
            let some = |ids: [&str; 2]| Some(ids.map(str::to_owned).to_vec());
            assert_eq!((&names[0], &names[1], &names[29]), (&some(["r1", "r2"]), &some(["r0", "r2"]), &some(["r0", "r1"])), "{cut:?}");
        }
    }

    #[test]
    fn a_table_without_vectors_passes_through() {
        let got = testing::run::<NearestRowsConfig>(json!({}), &[(Port::FROM, table(&DataType::Float32, &[None, None]))]);
        assert_eq!(names(got.rows()), [None, None]);
        let alone = testing::run::<NearestRowsConfig>(json!({}), &[(Port::FROM, table(&DataType::Float32, &[vector(&[1.0, 2.0])]))]);
        assert_eq!(names(alone.rows()), [Some(Vec::new())]);
    }

    /// Every pair in `f64`.
    #[test]
    fn it_finds_what_brute_force_finds() {
        let (depth, k) = (24, 5);
        let rows = hard(300, depth);
        let cut = Cut { batch_rows: 50, shard_rows: 70, ranges: 3 };
        let got = testing::run_cut::<NearestRowsConfig>(json!({"k": k}), &[(Port::FROM, table(&DataType::Float64, &rows))], cut);
        let direction = |row: &Vector| {
            let row: Vec<f64> = row.as_ref()?.iter().copied().collect::<Option<_>>()?;
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            (length > 0.0 && length.is_finite()).then(|| row.iter().map(|x| x / length).collect::<Vec<f64>>())
        };
        let directions: Vec<Option<Vec<f64>>> = rows.iter().map(direction).collect();
        for (row, list) in lists(got.rows()).into_iter().enumerate() {
            let Some(own) = &directions[row] else {
                assert!(list.is_none(), "row {row} has no direction");
                continue;
            };
            let cosine = |other: &Vec<f64>| own.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
            let others = directions.iter().enumerate().filter(|(other, _)| *other != row);
            let mut all: Vec<(usize, f64)> = others.filter_map(|(other, to)| Some((other, cosine(to.as_ref()?)))).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let list = list.unwrap();
            assert_eq!(list.len(), k);
            for ((id, similarity), (_, best)) in list.iter().zip(&all) {
                let own = all.iter().find(|(other, _)| format!("r{other}") == *id).unwrap().1;
                // Of those that are as good as equal, rounding may prefer another.
                assert!((f64::from(*similarity) - own).abs() < 1e-6 && (own - best).abs() < 1e-6, "row {row}: {id} {similarity} {best}");
            }
        }
    }

    #[test]
    fn an_id_that_is_null_is_a_null_id() {
        let batch = table(&DataType::Float32, &[vector(&[1.0, 0.0]), vector(&[1.0, 0.1])]);
        let ids: ArrayRef = Arc::new(StringArray::from(vec![None, Some("b")]));
        let batch = RecordBatch::try_new(batch.schema(), vec![ids, Arc::clone(batch.column(1))]).unwrap();
        let got = testing::run::<NearestRowsConfig>(json!({}), &[(Port::FROM, batch)]);
        let column = got.rows().column_by_name("neighbours").unwrap();
        assert_eq!(array_value_to_string(column, 1).unwrap(), "[{id: , similarity: 0.9950372}]");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let input = [(Port::FROM, table(&DataType::Float32, &[vector(&[1.0])]))];
        assert_eq!(testing::refusal::<NearestRowsConfig>(json!({"k": 129}), &input), "k: wanted 1 to 128, found 129");
        let error = testing::refusal::<NearestRowsConfig>(json!({"column": "id"}), &input);
        assert!(error.starts_with("needs column `id: FixedSizeList of Float16, Float32 or Float64`, but the input has"), "{error}");
        let twice = testing::refusal::<NearestRowsConfig>(json!({"neighbours_column": "embedding"}), &input);
        assert_eq!(twice, "adds column `embedding`, which the input already has");
    }
}
