//! What the program does with an index: meets its rows, compares with them, and adds those that it keeps.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};

use super::program::{DedupMinhash, PAIRS, PAIRS_A_ROW, PAIRS_OF_RANGE, ROUNDING};
use super::tables::{BANDS, Candidate, FateRow, Member, Pair, Tie, band_of, list, lists, read_bands};
use super::texts::Texts;
use crate::dedup::components::sorted;
use crate::dedup::index::{BandPiece, BandsWriter, Index, Place, RowPiece, RowsWriter, SHORT_BITS, Seen, is_indexed, short};
use crate::dedup::minhash::shingle::{Shingles, jaccard, sort_hashes};
use crate::{RangeIn, Route, RowRef, ShardRows, StageError, TableSpec, Tables, WholeIn};

/// Which rows of each shard are added.
pub(super) const ADDED: &str = "added";
/// The files of rows that were written.
pub(super) const ROW_PIECES: &str = "row_pieces";
/// The files of band keys that were written.
pub(super) const BAND_PIECES: &str = "band_pieces";

/// Most pairs that wait for the shingles of their indexed rows.
const PENDING: usize = 8_192;

/// Most indexed rows of a bucket that are held, besides those with the text of a new one: no row is compared with more of them.
const HELD: usize = if cfg!(test) { 100 } else { PAIRS };

/// Bytes of shingles that are held at once: of the rows of pending pairs, and of indexed rows.
const SHINGLES_AT_ONCE: usize = 16 << 20;

pub(super) fn specs() -> Vec<TableSpec> {
    let whole = |name, schema| TableSpec::new(name, schema, Route::Whole);
    vec![whole(ADDED, added_schema()), whole(ROW_PIECES, row_pieces_schema()), whole(BAND_PIECES, band_pieces_schema())]
}

/// An indexed row as an end of a link. Neither length nor source decide anything of it.
fn indexed_member(at: RowRef) -> Member {
    Member { at, length: 0, source: 0 }
}

/// The indexed rows that the keys of a range meet.
pub(super) struct MetIndexed {
    /// The first of the equal keys, the row, its text; in order.
    rows: Vec<(usize, RowRef, u64)>,
    /// Where the next bucket begins among them.
    at: usize,
    n_pairs: usize,
    /// Pairs of buckets with too many rows.
    pub(super) left_out: u64,
}

impl MetIndexed {
    /// `texts` are those of the rows that have the keys.
    pub(super) fn of(seen: &Seen, keys: &[u128], texts: impl Iterator<Item = u64>) -> Result<Self, StageError> {
        let mut met = Self { rows: Vec::new(), at: 0, n_pairs: 0, left_out: 0 };
        // Equal texts are linked in the first band: there the first indexed row of each text is held, however many others there are.
        let mut unmet: HashSet<(usize, u64)> = HashSet::new();
        let mut first = 0;
        for (at, text) in texts.enumerate() {
            first = if keys[first] == keys[at] { first } else { at };
            if band_of(keys[at]) == 0 {
                unmet.insert((first, text));
            }
        }
        let mut in_bucket: HashMap<usize, usize> = HashMap::new();
        seen.meet(keys, |at, row, text| {
            let is_first = unmet.remove(&(at, text));
            let n = in_bucket.entry(at).or_default();
            if is_first || (*n < HELD && met.rows.len() < 2 * PAIRS_OF_RANGE) {
                *n += 1;
                met.rows.push((at, row, text));
            } else {
                met.left_out += 1;
            }
        })?;
        met.rows.sort_unstable();
        Ok(met)
    }

    /// The indexed rows of the bucket whose keys begin at `start`. Buckets are asked for in order.
    fn bucket(&mut self, start: usize) -> std::ops::Range<usize> {
        while self.rows.get(self.at).is_some_and(|row| row.0 < start) {
            self.at += 1;
        }
        let from = self.at;
        while self.rows.get(self.at).is_some_and(|row| row.0 == start) {
            self.at += 1;
        }
        from..self.at
    }

    /// Takes the texts of a bucket that the index has from `texts`, linked to their indexed rows, and pairs the others with the bucket's
    /// indexed rows: they are to be compared, or with `verify` false are linked.
    ///
    /// A text that is indexed already stands for nothing: what is like it is like its indexed row, and meets that.
    pub(super) fn meet(
        &mut self,
        start: usize,
        key: u128,
        verify: bool,
        texts: &mut Vec<(Member, u64)>,
        links: &mut Vec<Pair>,
        mut compare: impl FnMut(RowRef, Candidate),
    ) {
        let bucket = self.bucket(start);
        let Some(&(_, first, _)) = self.rows[bucket.clone()].first() else { return };
        let indexed = &self.rows[bucket];
        // The first indexed row of each text. Looked up only.
        let mut known: HashMap<u64, RowRef> = HashMap::with_capacity(indexed.len());
        for (_, row, text) in indexed {
            known.entry(*text).or_insert(*row);
        }
        texts.retain(|(member, text)| {
            let Some(row) = known.get(text) else { return true };
            // Equal texts meet in every band; once is enough.
            if band_of(key) == 0 {
                links.push(Pair { a: indexed_member(*row), b: *member, similarity: Some(1.0), equal: true, bands: Vec::new() });
            }
            false
        });
        let mut others: Vec<RowRef> = known.into_values().collect();
        others.sort_unstable();
        let mut seen = HashSet::with_capacity(texts.len());
        let distinct: Vec<Member> = texts.iter().filter(|(_, text)| seen.insert(*text)).map(|(member, _)| *member).collect();
        if !verify {
            // One link is as good as many where nothing is compared.
            links.extend(distinct.iter().map(|member| Pair {
                a: indexed_member(first),
                b: *member,
                similarity: None,
                equal: false,
                bands: vec![band_of(key)],
            }));
            return;
        }
        let n_rows = distinct.len().max(1);
        let most = (PAIRS / n_rows).max(PAIRS_A_ROW).min(PAIRS_OF_RANGE.saturating_sub(self.n_pairs) / n_rows);
        self.left_out += (others.len().saturating_sub(most) * distinct.len()) as u64;
        others.truncate(most);
        self.n_pairs += others.len() * distinct.len();
        distinct.iter().for_each(|member| others.iter().for_each(|other| compare(member.at, (*other, key))));
    }
}

/// Pairs of a row and an indexed one that are to be compared.
pub(super) struct IndexedPairs {
    seen: Arc<Seen>,
    threshold: f64,
    /// Rows with their shingles, as the index has them.
    rows: Vec<(Member, Vec<u64>)>,
    /// The indexed row, the place of the other in `rows`, the bands in which they met.
    pairs: Vec<(RowRef, usize, Vec<u16>)>,
    n_shingles: usize,
}

impl IndexedPairs {
    pub(super) fn new(seen: Arc<Seen>, threshold: f64) -> Self {
        Self { seen, threshold, rows: Vec::new(), pairs: Vec::new(), n_shingles: 0 }
    }

    /// Takes in a row that is to be compared; `set` are its shingles.
    pub(super) fn row(&mut self, row: Member, set: &[u64]) {
        let mut kept: Vec<u64> = set.iter().map(|shingle| short(*shingle)).collect();
        kept.dedup();
        self.n_shingles += kept.len();
        self.rows.push((row, kept));
    }

    /// Takes in a pair of the row that came last.
    pub(super) fn pair(&mut self, other: RowRef, bands: Vec<u16>) {
        self.pairs.push((other, self.rows.len().saturating_sub(1), bands));
    }

    /// Whether there is so much that it should be compared now.
    pub(super) fn is_full(&self) -> bool {
        self.pairs.len() >= PENDING || self.n_shingles * 8 >= SHINGLES_AT_ONCE
    }

    /// Compares all pairs so far, and tells `each` of those that can be alike: how alike they are.
    pub(super) fn compare(&mut self, mut each: impl FnMut(Pair, f64)) -> Result<(), StageError> {
        let (mut pairs, rows) = (std::mem::take(&mut self.pairs), std::mem::take(&mut self.rows));
        self.n_shingles = 0;
        pairs.sort_unstable();
        let mut others: Vec<RowRef> = pairs.iter().map(|pair| pair.0).collect();
        others.dedup();
        let of_row = |row: RowRef| {
            let from = pairs.partition_point(|pair| pair.0 < row);
            &pairs[from..from + pairs[from..].partition_point(|pair| pair.0 == row)]
        };
        // As alike as the smaller set is part of the larger one, at the most.
        let can_be = |a: usize, b: usize| a.min(b) as f64 >= (self.threshold - ROUNDING) * a.max(b) as f64;
        let mut places = self.seen.places(&others)?;
        if let Some(place) = places.iter().find(|place| place.n_shingles == 0) {
            return Err(self.seen.of_row(place, "it has no shingles, and rows without any are not added"));
        }
        places.retain(|place| of_row(place.row).iter().any(|pair| can_be(rows[pair.1].1.len(), place.n_shingles as usize)));
        let mut rest = places.as_slice();
        while !rest.is_empty() {
            let mut n_shingles = 0;
            let fits = |place: &&Place| {
                n_shingles += place.n_shingles as usize;
                n_shingles * 8 <= SHINGLES_AT_ONCE
            };
            let n = rest.iter().take_while(fits).count().max(1);
            self.seen.shingles(&rest[..n], |place, set| {
                for (_, row, bands) in of_row(place.row) {
                    let (row, of_row) = &rows[*row];
                    if can_be(of_row.len(), set.len()) {
                        let similarity = jaccard(set, of_row);
                        let a = indexed_member(place.row);
                        each(Pair { a, b: *row, similarity: Some(similarity), equal: false, bands: bands.clone() }, similarity);
                    }
                }
            })?;
            rest = &rest[n..];
        }
        Ok(())
    }
}

impl DedupMinhash {
    /// What the run sees of its index; `None` if it has none.
    pub(super) fn seen(&self) -> Result<Option<Arc<Seen>>, StageError> {
        self.index.as_ref().map(Index::seen).transpose()
    }

    /// The ids of the indexed rows that rows of a shard hang on or are linked to.
    pub(super) fn indexed_ids(&self, fates: &[(u32, FateRow)], ties: &[Tie]) -> Result<HashMap<RowRef, Option<String>>, StageError> {
        let Some(seen) = self.seen()? else { return Ok(HashMap::new()) };
        let named = fates.iter().flat_map(|(_, fate)| [fate.survivor, fate.next]).chain(ties.iter().map(|tie| tie.0));
        let rows = sorted(named.filter(|row| is_indexed(*row)).collect());
        let places = seen.places(&rows)?;
        Ok(rows.into_iter().zip(seen.ids(&places)?).collect())
    }

    /// Adds the rows of a shard that are kept.
    pub(super) fn add_rows(&self, shard: &ShardRows, is_kept: impl Fn(usize) -> bool, out: &mut Tables) -> Result<(), StageError> {
        let Some(seen) = self.seen()? else { return Ok(()) };
        let Some(mut writer) = RowsWriter::begin(&seen, shard.index)? else { return Ok(()) };
        let (texts, ids) = (Texts::of(self, shard)?, shard.ids()?);
        // Band keys were written for the first row of each text in the shard. It is the one that is kept, unless another is better.
        let may_move = self.prefers();
        let mut first: HashMap<(u64, u64), u32> = HashMap::new();
        let mut added = Added { shard: shard.index, kept: vec![0; texts.n_rows().div_ceil(8)], ..Added::default() };
        let (mut shingles, mut set, mut spare) = (Shingles::default(), Vec::new(), Vec::new());
        let mut n_kept = 0_u64;
        for (row, text) in texts.rows() {
            let kept = is_kept(row);
            if !kept && !may_move {
                continue;
            }
            self.shingler.cut(text, &mut shingles);
            if shingles.hashes.is_empty() {
                continue;
            }
            let number = u32::try_from(row).map_err(|_| StageError::Internal("over 2^32 rows in a shard".to_owned()))?;
            if may_move {
                let scope = self.scope_of(texts.member(RowRef { shard: shard.index, row: number })?.source);
                let first = *first.entry((shingles.text, scope)).or_insert(number);
                if kept && first != number {
                    added.from.push(first);
                    added.to.push(number);
                }
            }
            if !kept {
                continue;
            }
            added.kept[row / 8] |= 1 << (row % 8);
            n_kept += 1;
            set.clear();
            if self.verify {
                set.extend(shingles.hashes.iter().map(|shingle| short(*shingle)));
                sort_hashes(&mut set, SHORT_BITS, &mut spare);
                set.dedup();
            }
            writer.push(ids.get(number), &set)?;
        }
        if n_kept > 0 {
            out.whole(ADDED, added.write()?)?;
            out.whole(ROW_PIECES, write_row_piece(&writer.finish()?)?)?;
        }
        Ok(())
    }

    /// Adds the band keys of the rows of a range that are kept.
    pub(super) fn add_bands(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let Some(seen) = self.seen()? else { return Ok(()) };
        let added = AddedRows::read(range.whole.get(ADDED))?;
        let table = range.take(BANDS)?;
        let rows = read_bands(&table.batch);
        let Some(mut writer) = BandsWriter::begin(&seen, range.index)? else { return Ok(()) };
        let (mut start, mut n_entries) = (0, 0_u64);
        let mut bucket: Vec<(u32, u64)> = Vec::new();
        for group in table.keys.chunk_by(|a, b| a == b) {
            bucket.clear();
            bucket.extend(
                (start..start + group.len())
                    .filter_map(|at| Some((added.number(RowRef { shard: table.origins[at].shard, row: rows[at].row })?, rows[at].text))),
            );
            start += group.len();
            bucket.sort_unstable();
            n_entries += bucket.len() as u64;
            bucket.iter().try_for_each(|(row, text)| writer.push(group[0], *row, *text))?;
        }
        if n_entries > 0 {
            out.whole(BAND_PIECES, write_band_piece(&writer.finish()?)?)?;
        }
        Ok(())
    }

    /// Writes down what was added.
    pub(super) fn describe(&self, all: &mut WholeIn) -> Result<(), StageError> {
        let Some(seen) = self.seen()? else { return Ok(()) };
        let mut take = |table: &str| all.tables.remove(table).ok_or_else(|| StageError::Internal(format!("table `{table}` was not given")));
        let (rows, bands) = (read_row_pieces(&take(ROW_PIECES)?.batch), read_band_pieces(&take(BAND_PIECES)?.batch));
        seen.describe(rows, bands)
    }
}

fn number_field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn added_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        number_field("shard", DataType::UInt32),
        number_field("kept", DataType::Binary),
        number_field("from", list(DataType::UInt32)),
        number_field("to", list(DataType::UInt32)),
    ]))
}

/// Which rows of a shard are added.
#[derive(Default)]
struct Added {
    shard: u32,
    /// A bit a row, lowest first.
    kept: Vec<u8>,
    /// Rows whose band keys are those of another row of the same text, …
    from: Vec<u32>,
    /// … which is the one that is added.
    to: Vec<u32>,
}

impl Added {
    fn write(self) -> Result<RecordBatch, StageError> {
        let lengths = [vec![self.from.len()], vec![self.to.len()]];
        let [from, to] = lengths;
        Ok(RecordBatch::try_new(
            added_schema(),
            vec![
                Arc::new(UInt32Array::from(vec![self.shard])),
                Arc::new(BinaryArray::from_iter_values([self.kept])),
                lists::<UInt32Type>(self.from, from),
                lists::<UInt32Type>(self.to, to),
            ],
        )?)
    }
}

/// The numbers that added rows have in their segment: counted over all shards in order.
struct AddedRows {
    shards: HashMap<u32, AddedOfShard>,
}

struct AddedOfShard {
    /// The number of its first row.
    base: u32,
    /// For each byte of `kept`, the rows before it.
    before: Vec<u32>,
    kept: Vec<u8>,
    /// The row that is added in the place of another one of the same text.
    moved: HashMap<u32, u32>,
}

impl AddedRows {
    fn read(batch: Option<&RecordBatch>) -> Result<Self, StageError> {
        let mut shards = HashMap::new();
        let Some(batch) = batch else { return Ok(Self { shards }) };
        let shard = batch.column(0).as_primitive::<UInt32Type>();
        let (kept, from, to) = (batch.column(1).as_binary::<i32>(), batch.column(2).as_list::<i32>(), batch.column(3).as_list::<i32>());
        let mut order: Vec<usize> = (0..batch.num_rows()).collect();
        order.sort_unstable_by_key(|at| shard.value(*at));
        let mut base = 0_u32;
        for at in order {
            let kept = kept.value(at).to_vec();
            let (mut before, mut n_kept) = (Vec::with_capacity(kept.len()), 0_u32);
            for byte in &kept {
                before.push(n_kept);
                n_kept += byte.count_ones();
            }
            let (from, to) = (from.value(at), to.value(at));
            let (from, to) = (from.as_primitive::<UInt32Type>(), to.as_primitive::<UInt32Type>());
            let moved = from.values().iter().copied().zip(to.values().iter().copied()).collect();
            shards.insert(shard.value(at), AddedOfShard { base, before, kept, moved });
            let too_many = || StageError::Internal("over 2^32 rows are to be indexed at once".to_owned());
            base = base.checked_add(n_kept).ok_or_else(too_many)?;
        }
        Ok(Self { shards })
    }

    /// The number of the row whose text is that of `row`, if one is added.
    fn number(&self, row: RowRef) -> Option<u32> {
        let AddedOfShard { base, before, kept, moved } = self.shards.get(&row.shard)?;
        let row = moved.get(&row.row).copied().unwrap_or(row.row) as usize;
        let (byte, bit) = (*kept.get(row / 8)?, row % 8);
        ((byte >> bit) & 1 == 1).then(|| base + before[row / 8] + (byte & ((1 << bit) - 1)).count_ones())
    }
}

fn row_pieces_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        number_field("number", DataType::UInt32),
        number_field("rows", DataType::UInt64),
        number_field("bytes", DataType::UInt64),
    ]))
}

fn write_row_piece(piece: &RowPiece) -> Result<RecordBatch, StageError> {
    Ok(RecordBatch::try_new(
        row_pieces_schema(),
        vec![
            Arc::new(UInt32Array::from(vec![piece.number])),
            Arc::new(UInt64Array::from(vec![piece.rows])),
            Arc::new(UInt64Array::from(vec![piece.bytes])),
        ],
    )?)
}

fn read_row_pieces(batch: &RecordBatch) -> Vec<RowPiece> {
    let number = batch.column(0).as_primitive::<UInt32Type>();
    let (rows, bytes) = (batch.column(1).as_primitive::<UInt64Type>(), batch.column(2).as_primitive::<UInt64Type>());
    let mut pieces: Vec<RowPiece> =
        (0..batch.num_rows()).map(|at| RowPiece { number: number.value(at), rows: rows.value(at), bytes: bytes.value(at) }).collect();
    pieces.sort_by_key(|piece| piece.number);
    pieces
}

fn band_pieces_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        number_field("number", DataType::UInt32),
        number_field("entries", DataType::UInt64),
        number_field("blocks", list(DataType::UInt64)),
    ]))
}

fn write_band_piece(piece: &BandPiece) -> Result<RecordBatch, StageError> {
    let blocks: Vec<u64> = piece.blocks.iter().flat_map(|(first, hash)| [*first, *hash]).collect();
    let length = vec![blocks.len()];
    Ok(RecordBatch::try_new(
        band_pieces_schema(),
        vec![
            Arc::new(UInt32Array::from(vec![piece.number])),
            Arc::new(UInt64Array::from(vec![piece.entries])),
            lists::<UInt64Type>(blocks, length),
        ],
    )?)
}

fn read_band_pieces(batch: &RecordBatch) -> Vec<BandPiece> {
    let number = batch.column(0).as_primitive::<UInt32Type>();
    let (entries, blocks) = (batch.column(1).as_primitive::<UInt64Type>(), batch.column(2).as_list::<i32>());
    let of_piece = |at: usize| {
        let blocks = blocks.value(at);
        blocks.as_primitive::<UInt64Type>().values().chunks_exact(2).map(|block| (block[0], block[1])).collect()
    };
    let mut pieces: Vec<BandPiece> =
        (0..batch.num_rows()).map(|at| BandPiece { number: number.value(at), entries: entries.value(at), blocks: of_piece(at) }).collect();
    pieces.sort_by_key(|piece| piece.number);
    pieces
}
