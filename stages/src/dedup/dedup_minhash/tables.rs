//! The tables of the program, and the rows in them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, ListArray, PrimitiveArray, RecordBatch, StringArray,
    UInt8Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type};

use crate::dedup::components::{Fate, Node, link_columns, link_fields, read_links as read_link_ends};
use crate::{Port, Route, RowRef, StageError, TableSpec, Tables};

/// A row of each band of each text; of equal texts of a shard only the first.
pub(super) const BANDS: &str = "bands";
/// How many rows each shard has.
pub(super) const ROWS: &str = "rows";
/// The sources of each shard and their rows.
pub(super) const SOURCES: &str = "sources";
/// Links between equal texts of one shard.
pub(super) const EQUAL_IN_SHARD: &str = "equal_in_shard";
/// Links that the buckets show: equal texts, or all that met if pairs are not verified.
pub(super) const MET: &str = "met";
/// Pairs to be compared, to the second row of each.
pub(super) const CANDIDATES: &str = "candidates";
/// To a row whose shingles a shard wants.
pub(super) const WANTED: &str = "wanted";
/// A row's shingles, to the shards that want them.
pub(super) const SHINGLES: &str = "shingles";
/// Pairs that are alike enough.
pub(super) const VERIFIED: &str = "verified";
/// Every pair that was compared, to its bucket.
pub(super) const COMPARED: &str = "compared";
/// How many pairs were not alike enough; a row for each task that saw some.
pub(super) const FAILED: &str = "failed";
/// As `CANDIDATES`, `WANTED`, `SHINGLES` and `VERIFIED`, for the pairs that a bucket's first row does not decide.
pub(super) const CANDIDATES_AGAIN: &str = "candidates_again";
/// See `CANDIDATES_AGAIN`.
pub(super) const WANTED_AGAIN: &str = "wanted_again";
/// See `CANDIDATES_AGAIN`.
pub(super) const SHINGLES_AGAIN: &str = "shingles_again";
/// See `CANDIDATES_AGAIN`.
pub(super) const VERIFIED_AGAIN: &str = "verified_again";
/// What became of each row of a cluster.
pub(super) const FATES: &str = "fates";
/// How many rows each source would lose, at each threshold that is looked at.
pub(super) const LOSSES: &str = "losses";
/// Links, to the later row of each.
pub(super) const TIES: &str = "ties";
/// To a row whose id others want.
pub(super) const ASKED: &str = "asked";
/// Ids, to the rows that wanted them.
pub(super) const NAMES: &str = "names";

/// All tables that links are in.
pub(super) const LINKS: &[&str] = &[EQUAL_IN_SHARD, MET, VERIFIED, VERIFIED_AGAIN];

pub(super) fn specs() -> Vec<TableSpec> {
    let row = |name, schema| TableSpec::new(name, schema, Route::Row(Port::FROM));
    let key = |name, schema| TableSpec::new(name, schema, Route::Key);
    let whole = |name, schema| TableSpec::new(name, schema, Route::Whole);
    vec![
        key(BANDS, bands_schema()),
        whole(ROWS, count_schema()),
        key(SOURCES, sources_schema()),
        key(EQUAL_IN_SHARD, links_schema()),
        key(MET, links_schema()),
        row(CANDIDATES, candidates_schema()),
        row(WANTED, ref_schema(&[])),
        row(SHINGLES, shingles_schema()),
        key(VERIFIED, links_schema()),
        key(COMPARED, compared_schema()),
        whole(FAILED, count_schema()),
        row(CANDIDATES_AGAIN, candidates_schema()),
        row(WANTED_AGAIN, ref_schema(&[])),
        row(SHINGLES_AGAIN, shingles_schema()),
        key(VERIFIED_AGAIN, links_schema()),
        row(FATES, fates_schema()),
        key(LOSSES, losses_schema()),
        row(TIES, ties_schema()),
        row(ASKED, ref_schema(&[])),
        row(NAMES, ref_schema(&[Field::new("id", DataType::Utf8, true)])),
    ]
}

/// A row of the input, with what decides whether it survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) at: RowRef,
    /// Bytes of its text.
    pub(super) length: u32,
    /// Hash of its source; 0 if it has none.
    pub(super) source: u64,
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect::<Vec<_>>()))
}

pub(super) fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, false)))
}

/// Lists without nulls, from all their values and the length of each.
pub(super) fn lists<T: ArrowPrimitiveType>(values: Vec<T::Native>, lengths: Vec<usize>) -> ArrayRef {
    let values = PrimitiveArray::<T>::new(ScalarBuffer::from(values), None);
    let item = Arc::new(Field::new_list_field(T::DATA_TYPE, false));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), Arc::new(values), None))
}

/// The band a bucket belongs to: its key ends with it, so that all but the last bits are spread evenly.
pub(super) fn band_of(bucket: u128) -> u16 {
    u16::try_from(bucket & BAND_BITS).expect("12 bits")
}

/// The bits of a bucket's key that name the band.
pub(super) const BAND_BITS: u128 = 0xFFF;

fn bands_schema() -> SchemaRef {
    schema(&[("row", DataType::UInt32), ("length", DataType::UInt32), ("source", DataType::UInt64), ("text", DataType::UInt64)])
}

/// A text in a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct InBand {
    pub(super) row: u32,
    pub(super) length: u32,
    pub(super) source: u64,
    /// Equal for equal texts.
    pub(super) text: u64,
}

pub(super) fn write_bands(rows: &[InBand]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.row).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|row| row.length).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|row| row.source).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.text).collect::<UInt64Array>()),
    ];
    Ok(RecordBatch::try_new(bands_schema(), columns)?)
}

pub(super) fn read_bands(batch: &RecordBatch) -> Vec<InBand> {
    let (row, length, source, text) = (u32s(batch, 0), u32s(batch, 1), u64s(batch, 2), u64s(batch, 3));
    (0..batch.num_rows()).map(|at| InBand { row: row[at], length: length[at], source: source[at], text: text[at] }).collect()
}

fn count_schema() -> SchemaRef {
    schema(&[("count", DataType::UInt64)])
}

pub(super) fn write_count(count: u64) -> Result<RecordBatch, StageError> {
    Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![count]))])?)
}

pub(super) fn read_count(batch: Option<&RecordBatch>) -> u64 {
    batch.map_or(0, |batch| u64s(batch, 0).iter().sum())
}

fn sources_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("source", DataType::Utf8, true), Field::new("rows", DataType::UInt64, false)]))
}

/// Where a source stands in tables of route `Key`.
pub(super) fn source_key(source: u64) -> u128 {
    (u128::from(source) << 64) | u128::from(source)
}

pub(super) fn write_sources(sources: &[(Option<String>, u64)]) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(sources.iter().map(|(name, _)| name.as_deref()).collect::<StringArray>()),
        Arc::new(sources.iter().map(|(_, rows)| *rows).collect::<UInt64Array>()),
    ];
    Ok(RecordBatch::try_new(sources_schema(), columns)?)
}

/// (source, rows).
pub(super) fn read_sources(batch: &RecordBatch) -> impl Iterator<Item = (Option<&str>, u64)> {
    batch.column(0).as_string::<i32>().iter().zip(u64s(batch, 1).iter().copied())
}

fn losses_schema() -> SchemaRef {
    schema(&[("threshold", DataType::UInt8), ("removed", DataType::UInt64)])
}

/// (number of the threshold among those looked at, rows).
pub(super) fn write_losses(losses: impl Iterator<Item = (u8, u64)> + Clone) -> Result<RecordBatch, StageError> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(losses.clone().map(|(threshold, _)| threshold).collect::<UInt8Array>()),
        Arc::new(losses.map(|(_, removed)| removed).collect::<UInt64Array>()),
    ];
    Ok(RecordBatch::try_new(losses_schema(), columns)?)
}

pub(super) fn read_losses(batch: &RecordBatch) -> impl Iterator<Item = (u8, u64)> {
    u8s(batch, 0).iter().copied().zip(u64s(batch, 1).iter().copied())
}

pub(super) fn links_schema() -> SchemaRef {
    let mut fields = link_fields();
    fields.extend([
        Field::new("a_length", DataType::UInt32, false),
        Field::new("a_source", DataType::UInt64, false),
        Field::new("b_length", DataType::UInt32, false),
        Field::new("b_source", DataType::UInt64, false),
        Field::new("similarity", DataType::Float64, true),
        Field::new("equal", DataType::Boolean, false),
        Field::new("bands", list(DataType::UInt16), false),
    ]);
    Arc::new(Schema::new(fields))
}

/// Two rows that duplicate each other.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) a: Member,
    pub(super) b: Member,
    /// How alike they are, if that was computed.
    pub(super) similarity: Option<f64>,
    /// Whether their texts are equal.
    pub(super) equal: bool,
    /// Bands in which they were found; none for equal texts, which share all.
    pub(super) bands: Vec<u16>,
}

/// Writes links to the graph of all rows, and with `local` those between rows of one source to the graph of those as well.
pub(super) fn write_links(table: &'static str, pairs: &[Pair], local: bool, out: &mut Tables) -> Result<(), StageError> {
    let both = pairs.iter().filter(|pair| local && pair.a.source == pair.b.source).map(|pair| (LOCAL, pair));
    let links: Vec<(u8, &Pair)> = pairs.iter().map(|pair| (GLOBAL, pair)).chain(both).collect();
    let pairs = || links.iter().map(|(_, pair)| *pair);
    let mut columns = link_columns(links.iter().map(|(graph, pair)| (*graph, pair.a.at, pair.b.at)));
    columns.extend([
        Arc::new(pairs().map(|pair| pair.a.length).collect::<UInt32Array>()) as ArrayRef,
        Arc::new(pairs().map(|pair| pair.a.source).collect::<UInt64Array>()),
        Arc::new(pairs().map(|pair| pair.b.length).collect::<UInt32Array>()),
        Arc::new(pairs().map(|pair| pair.b.source).collect::<UInt64Array>()),
        Arc::new(pairs().map(|pair| pair.similarity).collect::<Float64Array>()),
        Arc::new(pairs().map(|pair| Some(pair.equal)).collect::<BooleanArray>()),
        lists::<UInt16Type>(pairs().flat_map(|pair| pair.bands.iter().copied()).collect(), pairs().map(|pair| pair.bands.len()).collect()),
    ]);
    let keys = links.iter().map(|(graph, pair)| Node { graph: *graph, row: pair.a.at }.key()).collect();
    out.keyed(table, keys, RecordBatch::try_new(links_schema(), columns)?)
}

/// The graph of all links.
pub(super) const GLOBAL: u8 = 0;
/// The graph of links between rows of one source, where both are wanted.
pub(super) const LOCAL: u8 = 1;

/// The links of one graph.
pub(super) fn read_links(batch: &RecordBatch, graph: u8) -> Vec<Pair> {
    let (a_length, a_source, b_length, b_source) = (u32s(batch, 5), u64s(batch, 6), u32s(batch, 7), u64s(batch, 8));
    let (similarity, equal, bands) = (batch.column(9).as_primitive::<Float64Type>(), batch.column(10).as_boolean(), batch.column(11));
    let pair = |(at, (a, b)): (usize, (Node, Node))| Pair {
        a: Member { at: a.row, length: a_length[at], source: a_source[at] },
        b: Member { at: b.row, length: b_length[at], source: b_source[at] },
        similarity: similarity.is_valid(at).then(|| similarity.value(at)),
        equal: equal.value(at),
        bands: of_list::<UInt16Type>(bands, at).to_vec(),
    };
    read_link_ends(batch).enumerate().filter(|(_, (a, _))| a.graph == graph).map(pair).collect()
}

fn compared_schema() -> SchemaRef {
    ref_schema(&[
        Field::new("other_shard", DataType::UInt32, false),
        Field::new("other_row", DataType::UInt32, false),
        Field::new("similarity", DataType::Float64, false),
    ])
}

/// The first row of a bucket, one of the others, and how alike they are.
pub(super) type Compared = (RowRef, RowRef, f64);

pub(super) fn write_compared(pairs: &[Compared]) -> Result<RecordBatch, StageError> {
    let mut columns = ref_columns(pairs.iter().map(|pair| pair.0));
    columns.extend(ref_columns(pairs.iter().map(|pair| pair.1)));
    columns.push(Arc::new(pairs.iter().map(|pair| pair.2).collect::<Float64Array>()));
    Ok(RecordBatch::try_new(compared_schema(), columns)?)
}

pub(super) fn read_compared(batch: &RecordBatch) -> Vec<Compared> {
    let similarity = batch.column(4).as_primitive::<Float64Type>().values();
    (0..batch.num_rows()).map(|at| (ref_at(batch, 0, at), ref_at(batch, 2, at), similarity[at])).collect()
}

fn candidates_schema() -> SchemaRef {
    ref_schema(&[Field::new("high", DataType::UInt64, false), Field::new("low", DataType::UInt64, false)])
}

/// The other row of a pair, and the bucket they met in.
pub(super) type Candidate = (RowRef, u128);

pub(super) fn write_candidates(candidates: &[Candidate]) -> Result<RecordBatch, StageError> {
    let mut columns = ref_columns(candidates.iter().map(|(other, _)| *other));
    columns.push(Arc::new(candidates.iter().map(|(_, bucket)| high(*bucket)).collect::<UInt64Array>()));
    columns.push(Arc::new(candidates.iter().map(|(_, bucket)| low(*bucket)).collect::<UInt64Array>()));
    Ok(RecordBatch::try_new(candidates_schema(), columns)?)
}

pub(super) fn read_candidates(batch: &RecordBatch) -> Vec<Candidate> {
    let (high, low) = (u64s(batch, 2), u64s(batch, 3));
    (0..batch.num_rows()).map(|at| (ref_at(batch, 0, at), join(high[at], low[at]))).collect()
}

fn shingles_schema() -> SchemaRef {
    ref_schema(&[
        Field::new("length", DataType::UInt32, false),
        Field::new("source", DataType::UInt64, false),
        Field::new("set", list(DataType::UInt64), false),
    ])
}

/// Rows with their shingles.
#[derive(Debug, Default)]
pub(super) struct Sent {
    from: Vec<Member>,
    sets: Vec<u64>,
    lengths: Vec<usize>,
}

impl Sent {
    pub(super) fn push(&mut self, from: Member, set: &[u64]) {
        self.from.push(from);
        self.sets.extend_from_slice(set);
        self.lengths.push(set.len());
    }

    pub(super) fn write(self) -> Result<RecordBatch, StageError> {
        let mut columns = ref_columns(self.from.iter().map(|from| from.at));
        columns.extend([
            Arc::new(self.from.iter().map(|from| from.length).collect::<UInt32Array>()) as ArrayRef,
            Arc::new(self.from.iter().map(|from| from.source).collect::<UInt64Array>()),
            lists::<UInt64Type>(self.sets, self.lengths),
        ]);
        Ok(RecordBatch::try_new(shingles_schema(), columns)?)
    }
}

/// What [`Sent`] holds of one row: the row and its shingles.
pub(super) fn read_sent(batch: &RecordBatch, at: usize) -> (Member, &[u64]) {
    let from = Member { at: ref_at(batch, 0, at), length: u32s(batch, 2)[at], source: u64s(batch, 3)[at] };
    (from, of_list::<UInt64Type>(batch.column(4), at))
}

fn fates_schema() -> SchemaRef {
    ref_schema(&[
        Field::new("next_shard", DataType::UInt32, false),
        Field::new("next_row", DataType::UInt32, false),
        Field::new("graph", DataType::UInt8, false),
        Field::new("size", DataType::UInt64, false),
        Field::new("similarity", DataType::Float64, true),
        Field::new("bands", list(DataType::UInt16), false),
    ])
}

/// What became of a row of a cluster.
#[derive(Debug, Clone)]
pub(super) struct FateRow {
    /// The row that is kept.
    pub(super) survivor: RowRef,
    /// The next row on the way there.
    pub(super) next: RowRef,
    /// In which graph.
    pub(super) graph: u8,
    /// Rows of the cluster.
    pub(super) size: u64,
    /// How alike it is to the next row.
    pub(super) similarity: Option<f64>,
    /// Bands in which the two were found.
    pub(super) bands: Vec<u16>,
}

/// Writes the fates of one graph's rows; `links` are what their links are numbers of.
pub(super) fn write_fates(graph: u8, fates: &[Fate], links: &[Pair]) -> Result<RecordBatch, StageError> {
    let link = |fate: &Fate| fate.link.map(|link| &links[link as usize]);
    let bands = |fate: &Fate| link(fate).map_or(&[][..], |link| &link.bands);
    let mut columns = ref_columns(fates.iter().map(|fate| fate.survivor));
    columns.extend(ref_columns(fates.iter().map(|fate| fate.next)));
    columns.extend([
        Arc::new(UInt8Array::from(vec![graph; fates.len()])) as ArrayRef,
        Arc::new(fates.iter().map(|fate| u64::from(fate.size)).collect::<UInt64Array>()),
        Arc::new(fates.iter().map(|fate| link(fate)?.similarity).collect::<Float64Array>()),
        lists::<UInt16Type>(
            fates.iter().flat_map(|fate| bands(fate).iter().copied()).collect(),
            fates.iter().map(|fate| bands(fate).len()).collect(),
        ),
    ]);
    Ok(RecordBatch::try_new(fates_schema(), columns)?)
}

pub(super) fn read_fates(batch: &RecordBatch) -> impl Iterator<Item = FateRow> {
    let (graph, size, similarity) = (u8s(batch, 4), u64s(batch, 5), batch.column(6).as_primitive::<Float64Type>());
    (0..batch.num_rows()).map(move |at| FateRow {
        survivor: ref_at(batch, 0, at),
        next: ref_at(batch, 2, at),
        graph: graph[at],
        size: size[at],
        similarity: similarity.is_valid(at).then(|| similarity.value(at)),
        bands: of_list::<UInt16Type>(batch.column(7), at).to_vec(),
    })
}

fn ties_schema() -> SchemaRef {
    ref_schema(&[Field::new("similarity", DataType::Float64, true), Field::new("bands", list(DataType::UInt16), false)])
}

/// A link: the other row, how alike the two are, the bands they were found in.
pub(super) type Tie = (RowRef, Option<f64>, Vec<u16>);

/// Links, as their later row sees them.
pub(super) fn write_ties(links: &[Pair]) -> Result<RecordBatch, StageError> {
    let mut columns = ref_columns(links.iter().map(|link| link.a.at));
    columns.push(Arc::new(links.iter().map(|link| link.similarity).collect::<Float64Array>()));
    let lengths = links.iter().map(|link| link.bands.len()).collect();
    columns.push(lists::<UInt16Type>(links.iter().flat_map(|link| link.bands.iter().copied()).collect(), lengths));
    Ok(RecordBatch::try_new(ties_schema(), columns)?)
}

pub(super) fn read_ties(batch: &RecordBatch) -> impl Iterator<Item = Tie> {
    let similarity = batch.column(2).as_primitive::<Float64Type>();
    (0..batch.num_rows()).map(move |at| {
        let bands = of_list::<UInt16Type>(batch.column(3), at).to_vec();
        (ref_at(batch, 0, at), similarity.is_valid(at).then(|| similarity.value(at)), bands)
    })
}

/// Rows that want something of others, each to the row whose it is.
pub(super) fn write_asked(by: &[RowRef]) -> Result<RecordBatch, StageError> {
    Ok(RecordBatch::try_new(ref_schema(&[]), ref_columns(by.iter().copied()))?)
}

pub(super) fn read_asked(batch: &RecordBatch) -> impl Iterator<Item = RowRef> {
    (0..batch.num_rows()).map(|at| ref_at(batch, 0, at))
}

pub(super) fn write_names(of: &[RowRef], ids: StringArray) -> Result<RecordBatch, StageError> {
    let mut columns = ref_columns(of.iter().copied());
    columns.push(Arc::new(ids));
    Ok(RecordBatch::try_new(ref_schema(&[Field::new("id", DataType::Utf8, true)]), columns)?)
}

/// The ids that rows of a shard wanted: by the row that wanted it and the row whose it is.
pub(super) fn read_names<'b>(rows: &[u32], batch: &'b RecordBatch) -> HashMap<(u32, RowRef), Option<&'b str>> {
    let ids = batch.column(2).as_string::<i32>();
    rows.iter().enumerate().map(|(at, row)| ((*row, ref_at(batch, 0, at)), ids.is_valid(at).then(|| ids.value(at)))).collect()
}

/// A reference to a row, then further columns.
fn ref_schema(more: &[Field]) -> SchemaRef {
    let numbers = ["shard", "row"].map(|name| Field::new(name, DataType::UInt32, false));
    Arc::new(Schema::new(numbers.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>()))
}

fn ref_columns(rows: impl Iterator<Item = RowRef> + Clone) -> Vec<ArrayRef> {
    let number = |number: fn(RowRef) -> u32| Arc::new(rows.clone().map(number).collect::<UInt32Array>()) as ArrayRef;
    vec![number(|row| row.shard), number(|row| row.row)]
}

fn ref_at(batch: &RecordBatch, column: usize, at: usize) -> RowRef {
    RowRef { shard: u32s(batch, column)[at], row: u32s(batch, column + 1)[at] }
}

fn of_list<T: ArrowPrimitiveType>(lists: &ArrayRef, at: usize) -> &[T::Native] {
    let lists = lists.as_list::<i32>();
    let offset = |at: usize| usize::try_from(lists.value_offsets()[at]).unwrap_or_default();
    &lists.values().as_primitive::<T>().values()[offset(at)..offset(at + 1)]
}

fn u8s(batch: &RecordBatch, column: usize) -> &ScalarBuffer<u8> {
    batch.column(column).as_primitive::<UInt8Type>().values()
}

fn u32s(batch: &RecordBatch, column: usize) -> &ScalarBuffer<u32> {
    batch.column(column).as_primitive::<UInt32Type>().values()
}

fn u64s(batch: &RecordBatch, column: usize) -> &ScalarBuffer<u64> {
    batch.column(column).as_primitive::<UInt64Type>().values()
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
