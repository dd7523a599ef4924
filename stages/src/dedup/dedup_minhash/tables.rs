//! The tables of the program, and the rows in them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, RecordBatch, StringArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt8Type, UInt32Type, UInt64Type};

use crate::{Port, Route, RowRef, StageError, TableSpec};

/// A row of each band of each text; of equal texts of a shard only the first.
pub(super) const BANDS: &str = "bands";
/// The sources of each shard and their rows.
pub(super) const SOURCES: &str = "sources";
/// Links between equal texts of one shard.
pub(super) const EQUAL_IN_SHARD: &str = "equal_in_shard";
/// Links that the buckets show: equal texts, or all that met if pairs are not verified.
pub(super) const MET: &str = "met";
/// Pairs to be compared, to the first row of each.
pub(super) const CANDIDATES: &str = "candidates";
/// A row's shingles, to the shards of the rows it is compared with.
pub(super) const SHINGLES: &str = "shingles";
/// Pairs that are alike enough.
pub(super) const VERIFIED: &str = "verified";
/// Every pair that was compared, to its bucket.
pub(super) const COMPARED: &str = "compared";
/// How many pairs were not alike enough; a row for each task that saw some.
pub(super) const FAILED: &str = "failed";
/// As `CANDIDATES`, `SHINGLES` and `VERIFIED`, for the pairs that a bucket's first row does not decide.
pub(super) const CANDIDATES_AGAIN: &str = "candidates_again";
/// See `CANDIDATES_AGAIN`.
pub(super) const SHINGLES_AGAIN: &str = "shingles_again";
/// See `CANDIDATES_AGAIN`.
pub(super) const VERIFIED_AGAIN: &str = "verified_again";
/// What became of each row of a cluster.
pub(super) const FATES: &str = "fates";
/// To a row whose id others want.
pub(super) const ASKED: &str = "asked";
/// Ids, to the rows that wanted them.
pub(super) const NAMES: &str = "names";

pub(super) fn specs() -> Vec<TableSpec> {
    let row = |name, schema| TableSpec::new(name, schema, Route::Row(Port::FROM));
    let whole = |name, schema| TableSpec::new(name, schema, Route::Whole);
    vec![
        TableSpec::new(BANDS, bands_schema(), Route::Key),
        whole(SOURCES, sources_schema()),
        whole(EQUAL_IN_SHARD, pairs_schema()),
        whole(MET, pairs_schema()),
        row(CANDIDATES, candidates_schema()),
        row(SHINGLES, shingles_schema()),
        whole(VERIFIED, pairs_schema()),
        TableSpec::new(COMPARED, pairs_schema(), Route::Key),
        whole(FAILED, failed_schema()),
        row(CANDIDATES_AGAIN, candidates_schema()),
        row(SHINGLES_AGAIN, shingles_schema()),
        whole(VERIFIED_AGAIN, pairs_schema()),
        row(FATES, fates_schema()),
        row(ASKED, asked_schema()),
        row(NAMES, names_schema()),
    ]
}

/// A row of the input, with what decides whether it survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) at: RowRef,
    /// Bytes of its text.
    pub(super) length: u64,
    /// Number of its source among those of its shard, in the order they first appear there.
    pub(super) source: u32,
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect::<Vec<_>>()))
}

fn bands_schema() -> SchemaRef {
    schema(&[
        ("row", DataType::UInt32),
        ("length", DataType::UInt64),
        ("source", DataType::UInt32),
        ("text", DataType::UInt64),
        ("band", DataType::UInt32),
    ])
}

/// A text in a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct InBand {
    pub(super) row: u32,
    pub(super) length: u64,
    pub(super) source: u32,
    /// Equal for equal texts.
    pub(super) text: u64,
    pub(super) band: u32,
}

pub(super) fn write_bands(rows: &[InBand]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.row).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|row| row.length).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.source).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|row| row.text).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.band).collect::<UInt32Array>()),
    ];
    Ok(RecordBatch::try_new(bands_schema(), columns)?)
}

pub(super) fn read_bands(batch: &RecordBatch) -> Vec<InBand> {
    let (row, length, source, text, band) = (u32s(batch, 0), u64s(batch, 1), u32s(batch, 2), u64s(batch, 3), u32s(batch, 4));
    (0..batch.num_rows())
        .map(|at| InBand { row: row[at], length: length[at], source: source[at], text: text[at], band: band[at] })
        .collect()
}

fn sources_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("shard", DataType::UInt32, false),
        Field::new("number", DataType::UInt32, false),
        Field::new("source", DataType::Utf8, true),
        Field::new("rows", DataType::UInt64, false),
    ]))
}

/// Sources of one shard, in the order they first appear, with their rows.
pub(super) fn write_sources(shard: u32, sources: &[(Option<String>, u64)]) -> Result<RecordBatch, StageError> {
    let n = u32::try_from(sources.len()).map_err(|_| StageError::Internal("over 2^32 sources in a shard".to_owned()))?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from(vec![shard; sources.len()])),
        Arc::new(UInt32Array::from_iter_values(0..n)),
        Arc::new(sources.iter().map(|(name, _)| name.as_deref()).collect::<StringArray>()),
        Arc::new(sources.iter().map(|(_, rows)| *rows).collect::<UInt64Array>()),
    ];
    Ok(RecordBatch::try_new(sources_schema(), columns)?)
}

/// (shard, number in the shard, source, rows).
pub(super) fn read_sources(batch: &RecordBatch) -> Vec<(u32, u32, Option<String>, u64)> {
    let (shard, number, rows) = (u32s(batch, 0), u32s(batch, 1), u64s(batch, 3));
    (0..batch.num_rows()).map(|at| (shard[at], number[at], text(batch, 2, at), rows[at])).collect()
}

fn pairs_schema() -> SchemaRef {
    let mut fields = Vec::new();
    for end in ["a", "b"] {
        for (name, data_type) in
            [("shard", DataType::UInt32), ("row", DataType::UInt32), ("length", DataType::UInt64), ("source", DataType::UInt32)]
        {
            fields.push(Field::new(format!("{end}_{name}"), data_type, false));
        }
    }
    fields.push(Field::new("similarity", DataType::Float64, true));
    Arc::new(Schema::new(fields))
}

/// Two rows, and how alike they are if that was computed.
pub(super) type Pair = (Member, Member, Option<f64>);

pub(super) fn write_pairs(pairs: &[Pair]) -> Result<RecordBatch, StageError> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for end in [|pair: &Pair| pair.0, |pair: &Pair| pair.1] {
        columns.push(Arc::new(pairs.iter().map(|pair| end(pair).at.shard).collect::<UInt32Array>()));
        columns.push(Arc::new(pairs.iter().map(|pair| end(pair).at.row).collect::<UInt32Array>()));
        columns.push(Arc::new(pairs.iter().map(|pair| end(pair).length).collect::<UInt64Array>()));
        columns.push(Arc::new(pairs.iter().map(|pair| end(pair).source).collect::<UInt32Array>()));
    }
    columns.push(Arc::new(pairs.iter().map(|pair| pair.2).collect::<Float64Array>()));
    Ok(RecordBatch::try_new(pairs_schema(), columns)?)
}

pub(super) fn read_pairs(batch: &RecordBatch) -> Vec<Pair> {
    let similarity = batch.column(8).as_primitive::<Float64Type>();
    let member = |first: usize, at: usize| Member {
        at: RowRef { shard: u32s(batch, first)[at], row: u32s(batch, first + 1)[at] },
        length: u64s(batch, first + 2)[at],
        source: u32s(batch, first + 3)[at],
    };
    (0..batch.num_rows()).map(|at| (member(0, at), member(4, at), similarity.is_valid(at).then(|| similarity.value(at)))).collect()
}

fn candidates_schema() -> SchemaRef {
    schema(&[("shard", DataType::UInt32), ("row", DataType::UInt32), ("high", DataType::UInt64), ("low", DataType::UInt64)])
}

/// The other row of a pair, and the bucket they met in.
pub(super) type Candidate = (RowRef, u128);

pub(super) fn write_candidates(candidates: &[Candidate]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(candidates.iter().map(|(other, _)| other.shard).collect::<UInt32Array>()),
        Arc::new(candidates.iter().map(|(other, _)| other.row).collect::<UInt32Array>()),
        Arc::new(candidates.iter().map(|(_, bucket)| high(*bucket)).collect::<UInt64Array>()),
        Arc::new(candidates.iter().map(|(_, bucket)| low(*bucket)).collect::<UInt64Array>()),
    ];
    Ok(RecordBatch::try_new(candidates_schema(), columns)?)
}

pub(super) fn read_candidates(batch: &RecordBatch) -> Vec<Candidate> {
    let (shard, row, high, low) = (u32s(batch, 0), u32s(batch, 1), u64s(batch, 2), u64s(batch, 3));
    (0..batch.num_rows()).map(|at| (RowRef { shard: shard[at], row: row[at] }, join(high[at], low[at]))).collect()
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, false)))
}

fn shingles_schema() -> SchemaRef {
    schema(&[
        ("shard", DataType::UInt32),
        ("row", DataType::UInt32),
        ("length", DataType::UInt64),
        ("source", DataType::UInt32),
        ("set", list(DataType::UInt64)),
        ("other", list(DataType::UInt32)),
        ("high", list(DataType::UInt64)),
        ("low", list(DataType::UInt64)),
    ])
}

/// A row's shingles, and the rows of the receiving shard it is compared with, each with the bucket they met in.
pub(super) struct Sent {
    pub(super) from: Member,
    pub(super) set: Vec<u64>,
    pub(super) others: Vec<(u32, u128)>,
}

pub(super) fn write_shingles(sent: &[Sent]) -> Result<RecordBatch, StageError> {
    fn lists<T, A: FromIterator<T> + Array + 'static>(item: DataType, lists: impl Iterator<Item = Vec<T>>) -> ArrayRef {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for list in lists {
            ends.push(list.len());
            all.extend(list);
        }
        let offsets = OffsetBuffer::from_lengths(ends);
        Arc::new(ListArray::new(Arc::new(Field::new_list_field(item, false)), offsets, Arc::new(all.into_iter().collect::<A>()), None))
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(sent.iter().map(|row| row.from.at.shard).collect::<UInt32Array>()),
        Arc::new(sent.iter().map(|row| row.from.at.row).collect::<UInt32Array>()),
        Arc::new(sent.iter().map(|row| row.from.length).collect::<UInt64Array>()),
        Arc::new(sent.iter().map(|row| row.from.source).collect::<UInt32Array>()),
        lists::<u64, UInt64Array>(DataType::UInt64, sent.iter().map(|row| row.set.clone())),
        lists::<u32, UInt32Array>(DataType::UInt32, sent.iter().map(|row| row.others.iter().map(|(other, _)| *other).collect())),
        lists::<u64, UInt64Array>(DataType::UInt64, sent.iter().map(|row| row.others.iter().map(|(_, bucket)| high(*bucket)).collect())),
        lists::<u64, UInt64Array>(DataType::UInt64, sent.iter().map(|row| row.others.iter().map(|(_, bucket)| low(*bucket)).collect())),
    ];
    Ok(RecordBatch::try_new(shingles_schema(), columns)?)
}

pub(super) fn read_shingles(batch: &RecordBatch, at: usize) -> Sent {
    let from = Member {
        at: RowRef { shard: u32s(batch, 0)[at], row: u32s(batch, 1)[at] },
        length: u64s(batch, 2)[at],
        source: u32s(batch, 3)[at],
    };
    let list = |column: usize| batch.column(column).as_list::<i32>().value(at);
    let (set, other, high, low) = (list(4), list(5), list(6), list(7));
    let numbers = |list: &ArrayRef| list.as_primitive::<UInt64Type>().values().to_vec();
    let buckets = numbers(&high).into_iter().zip(numbers(&low)).map(|(high, low)| join(high, low)).collect::<Vec<_>>();
    let others = other.as_primitive::<UInt32Type>().values().iter().copied().zip(buckets);
    Sent { from, set: numbers(&set), others: others.collect() }
}

fn failed_schema() -> SchemaRef {
    schema(&[("pairs", DataType::UInt64)])
}

pub(super) fn write_failed(pairs: u64) -> Result<RecordBatch, StageError> {
    Ok(RecordBatch::try_new(failed_schema(), vec![Arc::new(UInt64Array::from(vec![pairs]))])?)
}

fn fates_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("kept", DataType::Boolean, false),
        Field::new("size", DataType::UInt64, false),
        Field::new("similarity", DataType::Float64, true),
    ]))
}

/// Whether the row is kept, the size of its cluster, how alike it is to the next row of the chain.
pub(super) type FateRow = (bool, u64, Option<f64>);

pub(super) fn write_fates(fates: &[FateRow]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(fates.iter().map(|(kept, ..)| Some(*kept)).collect::<BooleanArray>()),
        Arc::new(fates.iter().map(|(_, size, _)| *size).collect::<UInt64Array>()),
        Arc::new(fates.iter().map(|(.., similarity)| *similarity).collect::<Float64Array>()),
    ];
    Ok(RecordBatch::try_new(fates_schema(), columns)?)
}

pub(super) fn read_fates(batch: &RecordBatch) -> Vec<FateRow> {
    let (kept, size, similarity) = (batch.column(0).as_boolean(), u64s(batch, 1), batch.column(2).as_primitive::<Float64Type>());
    (0..batch.num_rows()).map(|at| (kept.value(at), size[at], similarity.is_valid(at).then(|| similarity.value(at)))).collect()
}

/// Which of a row's two names is asked for: that of the survivor, that of the next row, or one row is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted(pub(super) u8);

impl Wanted {
    pub(super) const SURVIVOR: Self = Self(1);
    pub(super) const NEXT: Self = Self(2);
    pub(super) const BOTH: Self = Self(3);

    pub(super) fn is_survivor(self) -> bool {
        self.0 & 1 != 0
    }

    pub(super) fn is_next(self) -> bool {
        self.0 & 2 != 0
    }
}

fn asked_schema() -> SchemaRef {
    schema(&[("shard", DataType::UInt32), ("row", DataType::UInt32), ("wanted", DataType::UInt8)])
}

pub(super) fn write_asked(asked: &[(RowRef, Wanted)]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(asked.iter().map(|(by, _)| by.shard).collect::<UInt32Array>()),
        Arc::new(asked.iter().map(|(by, _)| by.row).collect::<UInt32Array>()),
        Arc::new(asked.iter().map(|(_, wanted)| wanted.0).collect::<UInt8Array>()),
    ];
    Ok(RecordBatch::try_new(asked_schema(), columns)?)
}

pub(super) fn read_asked(batch: &RecordBatch) -> Vec<(RowRef, Wanted)> {
    let (shard, row, wanted) = (u32s(batch, 0), u32s(batch, 1), batch.column(2).as_primitive::<UInt8Type>().values());
    (0..batch.num_rows()).map(|at| (RowRef { shard: shard[at], row: row[at] }, Wanted(wanted[at]))).collect()
}

fn names_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("wanted", DataType::UInt8, false), Field::new("id", DataType::Utf8, true)]))
}

pub(super) fn write_names(names: &[(Wanted, Option<String>)]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(names.iter().map(|(wanted, _)| wanted.0).collect::<UInt8Array>()),
        Arc::new(names.iter().map(|(_, id)| id.as_deref()).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(names_schema(), columns)?)
}

pub(super) fn read_names(batch: &RecordBatch) -> Vec<(Wanted, Option<String>)> {
    let wanted = batch.column(0).as_primitive::<UInt8Type>().values();
    (0..batch.num_rows()).map(|at| (Wanted(wanted[at]), text(batch, 1, at))).collect()
}

fn u32s(batch: &RecordBatch, column: usize) -> &ScalarBuffer<u32> {
    batch.column(column).as_primitive::<UInt32Type>().values()
}

fn u64s(batch: &RecordBatch, column: usize) -> &ScalarBuffer<u64> {
    batch.column(column).as_primitive::<UInt64Type>().values()
}

fn text(batch: &RecordBatch, column: usize, at: usize) -> Option<String> {
    let texts = batch.column(column).as_string::<i32>();
    texts.is_valid(at).then(|| texts.value(at).to_owned())
}

fn high(key: u128) -> u64 {
    (key >> 64) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a 128-bit key")]
fn low(key: u128) -> u64 {
    key as u64
}

fn join(high: u64, low: u64) -> u128 {
    (u128::from(high) << 64) | u128::from(low)
}
