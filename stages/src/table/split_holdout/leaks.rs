//! The program that keeps what is held out from being trained on: held-out texts and others meet by their hashes and by the bands of their
//! signatures, pairs are compared in full, and rows that say what a held-out one says are dropped.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use schemas::{Column, document};

use super::{HOLDOUT, SplitHoldout};
use crate::dedup::{Bands, Shingler, Shingles, Signer, band_keys, jaccard};
use crate::keys::{Change, KeyColumns, KeyHasher};
use crate::{Done, Dropped, Global, Measure, Port, RangeIn, Route, RowRef, ShardIn, StageError, Step, TableSpec, Tables, Verdict};

/// Of each text and side, the first row of each shard.
const TEXTS: &str = "texts";
/// To every other row to train on with that text: which one is the first.
const REPEATS: &str = "repeats";
/// To the first row of a text that is held out too: the id of the held-out row.
const EQUAL: &str = "equal";
/// Of each text (but for what shingles leave out) and side, the first row of each shard, in each of its bands.
const BANDS: &str = "bands";
/// As `REPEATS`, for the texts in `BANDS`.
const ALIKE: &str = "alike";
/// To a held-out row: a row that it shares a band with.
const CANDIDATES: &str = "candidates";
/// To the rows that a held-out one is compared with, once for all of a shard: its shingles.
const SHINGLES: &str = "shingles";

/// In a band with very many texts a row is compared with at least so many held-out ones, …
const COMPARED: usize = 64;
/// … and with more where all of them together are no more than so many pairs.
const PAIRS: usize = 100_000;

pub(super) struct Leaks {
    pub(super) split: SplitHoldout,
    pub(super) column: Column<StringArray>,
    pub(super) texts: KeyColumns,
    pub(super) change: Option<Change>,
    pub(super) near: Option<Near>,
}

/// How near-duplicates are found.
pub(super) struct Near {
    pub(super) threshold: f64,
    pub(super) shingler: Shingler,
    pub(super) signer: Signer,
    pub(super) bands: Bands,
    pub(super) similarity: Measure,
}

impl Global for Leaks {
    fn tables(&self) -> Vec<TableSpec> {
        let row = |name, schema| TableSpec::new(name, schema, Route::Row(Port::FROM));
        vec![
            TableSpec::new(TEXTS, texts_schema(), Route::Key),
            row(REPEATS, first_schema()),
            row(EQUAL, equal_schema()),
            TableSpec::new(BANDS, bands_schema(), Route::Key),
            row(ALIKE, first_schema()),
            row(CANDIDATES, candidates_schema()),
            row(SHINGLES, shingles_schema()),
        ]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let sign = Step::shards("sign", Port::FROM).writes(&[TEXTS, REPEATS]);
        let drop = Step::shards("drop", Port::FROM).mail(REPEATS).mail(EQUAL).emits();
        let meet = Step::ranges("meet", &[TEXTS]).writes(&[EQUAL]);
        let steps = if self.near.is_some() {
            vec![
                sign.writes(&[BANDS, ALIKE]),
                meet,
                Step::ranges("meet_in_bands", &[BANDS]).writes(&[CANDIDATES]),
                Step::shards("fetch", Port::FROM).mail(CANDIDATES).writes(&[SHINGLES]),
                drop.mail(ALIKE).mail(SHINGLES),
            ]
        } else {
            vec![sign, meet, drop]
        };
        steps.into_iter().nth(done.steps())
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        match step.name {
            "sign" => self.sign(shard, out),
            "fetch" => self.fetch(shard, out),
            _ => self.drop_rows(shard, out),
        }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        if step.name == "meet" { Self::meet(range, out) } else { Self::meet_in_bands(range, out) }
    }
}

impl Leaks {
    fn sign(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mut texts = FirstRows::default();
        let mut alike = FirstRows::default();
        let (mut keys, mut rows, mut held, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut bands = InBands::default();
        let (mut hasher, mut shingles, mut signature) = (KeyHasher::default(), Shingles::default(), Vec::new());
        let mut row = 0_u32;
        for batch in shard.shard.batches.drain(..) {
            let is_held = self.split.held(&batch)?;
            let of_batch = self.texts.encode(&batch, self.change)?;
            let id = document::ID.try_of(&batch)?;
            for (at, text) in self.column.try_of(&batch)?.iter().enumerate() {
                let here = row;
                row = row.checked_add(1).ok_or_else(|| StageError::Internal("a shard of over 2^32 rows".to_owned()))?;
                let Some(text) = text else { continue };
                let side = is_held.value(at);
                hasher.add(&of_batch, at);
                let key = hasher.finish();
                if !texts.is_first(key, side, here) {
                    continue;
                }
                keys.push(key);
                rows.push(here);
                held.push(side);
                ids.push((side && id.is_valid(at)).then(|| id.value(at).to_owned()));
                let Some(near) = &self.near else { continue };
                near.shingler.cut(text, &mut shingles);
                if shingles.hashes.is_empty() || !alike.is_first(u128::from(shingles.text), side, here) {
                    continue;
                }
                near.signer.sign(&shingles.hashes, &mut signature);
                for key in band_keys(&signature, near.bands) {
                    bands.keys.push(key);
                    bands.rows.push(here);
                    bands.held.push(side);
                    bands.texts.push(shingles.text);
                }
            }
        }
        let index = shard.shard.index;
        let columns: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(rows)), Arc::new(BooleanArray::from(held)), Arc::new(StringArray::from(ids))];
        out.keyed(TEXTS, keys, RecordBatch::try_new(texts_schema(), columns)?)?;
        texts.write(REPEATS, index, out)?;
        if self.near.is_some() {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt32Array::from(bands.rows)),
                Arc::new(BooleanArray::from(bands.held)),
                Arc::new(UInt64Array::from(bands.texts)),
            ];
            out.keyed(BANDS, bands.keys, RecordBatch::try_new(bands_schema(), columns)?)?;
            alike.write(ALIKE, index, out)?;
        }
        Ok(())
    }

    /// Tells rows that their text is held out.
    fn meet(range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(TEXTS)?;
        let rows = table.batch.column(0).as_primitive::<UInt32Type>().values();
        let (held, ids) = (table.batch.column(1).as_boolean(), table.batch.column(2).as_string::<i32>());
        let (mut to, mut of) = (Vec::new(), Vec::new());
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let all = start..start + group.len();
            start = all.end;
            // Shards stand in order, so the first is the first of all rows.
            let Some(first) = all.clone().find(|&at| held.value(at)) else { continue };
            for at in all.filter(|&at| !held.value(at)) {
                to.push(RowRef { shard: table.origins[at].shard, row: rows[at] });
                of.push(ids.is_valid(first).then(|| ids.value(first)));
            }
        }
        out.mail(EQUAL, &to, RecordBatch::try_new(equal_schema(), vec![Arc::new(StringArray::from(of))])?)
    }

    /// Tells held-out rows which others they share a band with.
    fn meet_in_bands(range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(BANDS)?;
        let rows = table.batch.column(0).as_primitive::<UInt32Type>().values();
        let (held, texts) = (table.batch.column(1).as_boolean(), table.batch.column(2).as_primitive::<UInt64Type>().values());
        // The held-out row, and the other.
        let mut pairs: Vec<(RowRef, RowRef)> = Vec::new();
        let (mut start, mut left_out) = (0, 0);
        for group in table.keys.chunk_by(|a, b| a == b) {
            let all = start..start + group.len();
            start = all.end;
            let at_row = |at: usize| RowRef { shard: table.origins[at].shard, row: rows[at] };
            // Of each text, as many rows as shards have it; what is compared must not depend on how many those are.
            let mut held_out: Vec<(u64, RowRef)> = Vec::new();
            let mut others: BTreeMap<u64, Vec<RowRef>> = BTreeMap::new();
            // Looked up only.
            let mut known: HashMap<u64, usize> = HashMap::new();
            for at in all {
                if !held.value(at) {
                    others.entry(texts[at]).or_default().push(at_row(at));
                } else if let Entry::Vacant(new) = known.entry(texts[at]) {
                    new.insert(held_out.len());
                    held_out.push((texts[at], at_row(at)));
                }
            }
            if held_out.is_empty() || others.is_empty() {
                continue;
            }
            let most = (PAIRS / others.len()).max(COMPARED).min(held_out.len());
            for (text, others) in &others {
                let equal = known.get(text).filter(|place| **place >= most);
                let with = held_out[..most].iter().chain(equal.map(|place| &held_out[*place]));
                pairs.extend(with.flat_map(|(_, held)| others.iter().map(move |other| (*held, *other))));
                left_out += (held_out.len() - most) as u64;
            }
        }
        if left_out > 0 {
            out.emit().count("not_compared", "pairs", left_out);
        }
        pairs.sort_unstable();
        pairs.dedup();
        let (to, others): (Vec<RowRef>, Vec<RowRef>) = pairs.into_iter().unzip();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(others.iter().map(|other| other.shard).collect::<UInt32Array>()),
            Arc::new(others.iter().map(|other| other.row).collect::<UInt32Array>()),
        ];
        out.mail(CANDIDATES, &to, RecordBatch::try_new(candidates_schema(), columns)?)
    }

    /// Sends the shingles of held-out rows to the shards of those they are compared with.
    fn fetch(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let near = self.near.as_ref().ok_or_else(|| StageError::Internal("a step for near-duplicates only".to_owned()))?;
        let mail = shard.take_mail(CANDIDATES)?;
        let [shards, rows] = [0, 1].map(|column| mail.batch.column(column).as_primitive::<UInt32Type>().values());
        let (ids, texts) = (shard.shard.ids()?, Texts::of(&self.column, &shard.shard.batches)?);
        let mut sent = Sent::default();
        let mut shingles = Shingles::default();
        let mut start = 0;
        for of_row in mail.rows.chunk_by(|a, b| a == b) {
            let held = of_row[0];
            let mut others: Vec<(u32, u32)> = (start..start + of_row.len()).map(|at| (shards[at], rows[at])).collect();
            start += of_row.len();
            others.sort_unstable();
            others.dedup();
            near.shingler.cut(texts.get(held)?, &mut shingles);
            let set = shingles.set();
            for of_shard in others.chunk_by(|a, b| a.0 == b.0) {
                sent.to.push(RowRef { shard: of_shard[0].0, row: of_shard[0].1 });
                sent.of.push(RowRef { shard: shard.shard.index, row: held });
                sent.ids.push(ids.get(held).map(str::to_owned));
                sent.sets.extend_from_slice(&set);
                sent.set_lengths.push(set.len());
                sent.rows.extend(of_shard.iter().map(|(_, row)| *row));
                sent.row_lengths.push(of_shard.len());
            }
        }
        sent.write(out)
    }

    fn drop_rows(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mut leaks: Vec<Option<Dropped>> = vec![None; shard.shard.n_rows()];
        if self.near.is_some() {
            self.compare(shard, &mut leaks, out)?;
            repeat(&shard.take_mail(ALIKE)?, &mut leaks)?;
        }
        let mail = shard.take_mail(EQUAL)?;
        for (row, id) in mail.rows.iter().zip(mail.batch.column(0).as_string::<i32>()) {
            let leak = Dropped { reason: "in_holdout", value: None, threshold: None, duplicate_of: id.map(str::to_owned) };
            *leak_of(&mut leaks, *row)? = Some(leak);
        }
        repeat(&shard.take_mail(REPEATS)?, &mut leaks)?;
        let mut leaks = leaks.into_iter();
        for batch in shard.shard.batches.drain(..) {
            let held = self.split.held(&batch)?;
            let of_batch = leaks.by_ref().take(batch.num_rows());
            let to_train_on = of_batch.zip(held.values()).filter(|(_, is_held)| !is_held);
            let verdicts: Vec<Verdict> = to_train_on.map(|(leak, _)| leak.map_or(Verdict::Keep, Verdict::Drop)).collect();
            out.emit().split(&filter_record_batch(&batch, &not(&held)?)?, verdicts)?;
            out.emit().to(HOLDOUT, filter_record_batch(&batch, &held)?)?;
        }
        Ok(())
    }

    /// Compares rows with the held-out ones whose shingles came.
    fn compare(&self, shard: &mut ShardIn, leaks: &mut [Option<Dropped>], out: &mut Tables) -> Result<(), StageError> {
        let Some(near) = &self.near else { return Ok(()) };
        let mail = shard.take_mail(SHINGLES)?.batch;
        let [of_shards, of_rows] = [0, 1].map(|column| mail.column(column).as_primitive::<UInt32Type>().values());
        let (ids, texts) = (mail.column(2).as_string::<i32>(), Texts::of(&self.column, &shard.shard.batches)?);
        // A row, the held-out row, and where its shingles are.
        let mut pairs: Vec<(u32, RowRef, usize)> = Vec::new();
        for at in 0..mail.num_rows() {
            let held = RowRef { shard: of_shards[at], row: of_rows[at] };
            let rows = mail.column(4).as_list::<i32>().value(at);
            pairs.extend(rows.as_primitive::<UInt32Type>().values().iter().map(|row| (*row, held, at)));
        }
        pairs.sort_unstable();
        let mut shingles = Shingles::default();
        let sets = mail.column(3).as_list::<i32>();
        for of_row in pairs.chunk_by(|a, b| a.0 == b.0) {
            near.shingler.cut(texts.get(of_row[0].0)?, &mut shingles);
            let set = shingles.set();
            let mut closest: Option<(f64, usize)> = None;
            for (_, _, at) in of_row {
                let similarity = jaccard(sets.value(*at).as_primitive::<UInt64Type>().values(), &set);
                out.emit().observe(&near.similarity, similarity, similarity >= near.threshold);
                // Of equally close ones the first.
                if closest.is_none_or(|(most, _)| similarity > most) {
                    closest = Some((similarity, *at));
                }
            }
            if let Some((similarity, at)) = closest.filter(|(similarity, _)| *similarity >= near.threshold) {
                let duplicate_of = ids.is_valid(at).then(|| ids.value(at).to_owned());
                *leak_of(leaks, of_row[0].0)? =
                    Some(Dropped { duplicate_of, ..Dropped::measured("near_holdout", similarity, near.threshold) });
            }
        }
        Ok(())
    }
}

fn leak_of(leaks: &mut [Option<Dropped>], row: u32) -> Result<&mut Option<Dropped>, StageError> {
    leaks.get_mut(row as usize).ok_or_else(|| no_such_row(row))
}

fn no_such_row(row: u32) -> StageError {
    StageError::Internal(format!("mail for row {row}, which the shard does not have"))
}

/// What becomes of the first row of a text becomes of the others.
fn repeat(mail: &crate::MailIn, leaks: &mut [Option<Dropped>]) -> Result<(), StageError> {
    for (row, first) in mail.rows.iter().zip(mail.batch.column(0).as_primitive::<UInt32Type>().values()) {
        let leak = leak_of(leaks, *first)?.clone();
        if leak.is_some() {
            *leak_of(leaks, *row)? = leak;
        }
    }
    Ok(())
}

/// The first row of each text on either side, and the others to train on.
#[derive(Default)]
struct FirstRows {
    /// Looked up only.
    first: HashMap<(u128, bool), u32>,
    /// Row, and the first row with its text.
    repeats: Vec<(u32, u32)>,
}

impl FirstRows {
    fn is_first(&mut self, key: u128, is_held: bool, row: u32) -> bool {
        let first = *self.first.entry((key, is_held)).or_insert(row);
        if first != row && !is_held {
            self.repeats.push((row, first));
        }
        first == row
    }

    fn write(self, table: &'static str, shard: u32, out: &mut Tables) -> Result<(), StageError> {
        let to: Vec<RowRef> = self.repeats.iter().map(|(row, _)| RowRef { shard, row: *row }).collect();
        let first: UInt32Array = self.repeats.iter().map(|(_, first)| *first).collect();
        out.mail(table, &to, RecordBatch::try_new(first_schema(), vec![Arc::new(first)])?)
    }
}

#[derive(Default)]
struct InBands {
    keys: Vec<u128>,
    rows: Vec<u32>,
    held: Vec<bool>,
    texts: Vec<u64>,
}

/// The texts of a shard, by row.
struct Texts {
    texts: Vec<StringArray>,
    /// First row of each array.
    starts: Vec<usize>,
}

impl Texts {
    fn of(column: &Column<StringArray>, batches: &[RecordBatch]) -> Result<Self, StageError> {
        let mut all = Self { texts: Vec::new(), starts: Vec::new() };
        let mut n_rows = 0;
        for batch in batches {
            all.texts.push(column.try_of(batch)?.clone());
            all.starts.push(n_rows);
            n_rows += batch.num_rows();
        }
        Ok(all)
    }

    fn get(&self, row: u32) -> Result<&str, StageError> {
        let at = self.starts.partition_point(|start| *start <= row as usize).checked_sub(1).ok_or_else(|| no_such_row(row))?;
        let (texts, row_of_array) = (&self.texts[at], row as usize - self.starts[at]);
        if row_of_array < texts.len() && texts.is_valid(row_of_array) { Ok(texts.value(row_of_array)) } else { Err(no_such_row(row)) }
    }
}

/// Shingles of held-out rows, on their way.
#[derive(Default)]
struct Sent {
    to: Vec<RowRef>,
    of: Vec<RowRef>,
    ids: Vec<Option<String>>,
    sets: Vec<u64>,
    set_lengths: Vec<usize>,
    rows: Vec<u32>,
    row_lengths: Vec<usize>,
}

impl Sent {
    fn write(self, out: &mut Tables) -> Result<(), StageError> {
        let list = |item: DataType, lengths: Vec<usize>, values: ArrayRef| -> ArrayRef {
            Arc::new(ListArray::new(Arc::new(Field::new_list_field(item, false)), OffsetBuffer::from_lengths(lengths), values, None))
        };
        let sets: ArrayRef = Arc::new(UInt64Array::new(ScalarBuffer::from(self.sets), None));
        let rows: ArrayRef = Arc::new(UInt32Array::new(ScalarBuffer::from(self.rows), None));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.of.iter().map(|of| of.shard).collect::<UInt32Array>()),
            Arc::new(self.of.iter().map(|of| of.row).collect::<UInt32Array>()),
            Arc::new(StringArray::from(self.ids)),
            list(DataType::UInt64, self.set_lengths, sets),
            list(DataType::UInt32, self.row_lengths, rows),
        ];
        out.mail(SHINGLES, &self.to, RecordBatch::try_new(shingles_schema(), columns)?)
    }
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), *name == "id")).collect::<Vec<_>>()))
}

fn texts_schema() -> SchemaRef {
    schema(&[("row", DataType::UInt32), ("held", DataType::Boolean), ("id", DataType::Utf8)])
}

fn first_schema() -> SchemaRef {
    schema(&[("first", DataType::UInt32)])
}

fn equal_schema() -> SchemaRef {
    schema(&[("id", DataType::Utf8)])
}

fn bands_schema() -> SchemaRef {
    schema(&[("row", DataType::UInt32), ("held", DataType::Boolean), ("text", DataType::UInt64)])
}

fn candidates_schema() -> SchemaRef {
    schema(&[("shard", DataType::UInt32), ("row", DataType::UInt32)])
}

fn shingles_schema() -> SchemaRef {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, false)));
    schema(&[
        ("of_shard", DataType::UInt32),
        ("of_row", DataType::UInt32),
        ("id", DataType::Utf8),
        ("set", list(DataType::UInt64)),
        ("rows", list(DataType::UInt32)),
    ])
}
