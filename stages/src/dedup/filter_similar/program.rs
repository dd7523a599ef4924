//! The program: rows meet by group, and are told what became of them. With `across` they meet by bucket first.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt32Array, UInt64Array,
    new_null_array,
};
use arrow::compute::{SortOptions, cast, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type};
use arrow::row::{RowConverter, SortField};
use schemas::document;

use super::across::{Buffers, Finder};
use super::greedy::{Candidate, Outcome, choose};
use super::{FilterSimilarConfig, Quota, RankOrder};
use crate::keys::{KeyColumns, KeyHasher, plain};
use crate::{
    Done, Dropped, Global, Keyed, MailIn, Measure, Port, RangeIn, Route, RowRef, ShardIn, ShardRows, StageError, Step, TableSpec, Tables,
    Verdict,
};

/// Each text once for each of its bands, by bucket.
const SIGNED: &str = "signed";
/// To each row that was compared with one of another group before it: how alike the most alike is, once for each bucket.
const ALIKE: &str = "alike";
/// The rows that are not dropped by then, by group.
const GROUPED: &str = "grouped";
/// To each row but the first of a group: what became of it in the group.
const OUTCOMES: &str = "outcomes";

/// Longer texts are no questions, and one of them would take as long as thousands.
const MOST_BYTES: usize = 64 << 10;

const SIMILARITY_ACROSS: Measure =
    Measure::new("similarity_across", "Jaccard similarity to the most similar row of another group that it was compared with");

pub(super) struct FilterSimilar {
    pub(super) config: FilterSimilarConfig,
    pub(super) group: Option<KeyColumns>,
    pub(super) rank: Option<usize>,
    pub(super) quota_column: Option<usize>,
    pub(super) across: Option<Finder>,
    pub(super) similarity: Measure,
}

impl Global for FilterSimilar {
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(SIGNED, signed_schema(), Route::Key),
            TableSpec::new(ALIKE, alike_schema(), Route::Row(Port::FROM)),
            TableSpec::new(GROUPED, grouped_schema(), Route::Key),
            TableSpec::new(OUTCOMES, outcomes_schema(), Route::Row(Port::FROM)),
        ]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let mail = |step: Step| if self.across.is_some() { step.mail(ALIKE) } else { step };
        match done.steps() + if self.across.is_some() { 0 } else { 2 } {
            0 => Some(Step::shards("sign", Port::FROM).writes(&[SIGNED])),
            1 => Some(Step::ranges("compare", &[SIGNED]).writes(&[ALIKE])),
            2 => Some(mail(Step::shards("group", Port::FROM)).writes(&[GROUPED])),
            3 => Some(Step::ranges("choose", &[GROUPED]).writes(&[OUTCOMES])),
            4 => Some(mail(Step::shards("drop", Port::FROM)).mail(OUTCOMES).emits()),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        match (step.name, &self.across) {
            ("sign", Some(finder)) => self.sign(finder, &shard.shard, out),
            ("group", _) => self.group(shard, out),
            _ => self.drop(shard, out),
        }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        match (step.name, &self.across) {
            ("compare", Some(finder)) => compare(finder, &range.take(SIGNED)?, out),
            _ => self.choose(&range.take(GROUPED)?, out),
        }
    }
}

/// The rows of a shard that have a text which can be compared: batch by batch, with the number of the batch's first row.
fn comparable(texts: &StringArray, first: usize) -> impl Iterator<Item = (usize, u32, &str)> {
    let rows = texts.iter().enumerate().filter_map(|(at, text)| text.filter(|text| text.len() <= MOST_BYTES).map(|text| (at, text)));
    rows.map(move |(at, text)| (at, u32::try_from(first + at).expect("a shard holds fewer rows"), text))
}

impl FilterSimilar {
    fn texts<'a>(&self, batch: &'a RecordBatch) -> Result<&'a StringArray, StageError> {
        Ok(document::TEXT.named(self.config.column.as_str()).try_of(batch)?)
    }

    fn sign(&self, finder: &Finder, shard: &ShardRows, out: &mut Tables) -> Result<(), StageError> {
        let (mut buffers, mut keys, mut first) = (Buffers::default(), Vec::new(), 0);
        for batch in &shard.batches {
            let (groups, ranks, ids) = (self.groups(batch)?, self.ranks(batch)?, document::ID.try_of(batch)?);
            let (mut buckets, mut rows, mut from, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (at, row, text) in comparable(self.texts(batch)?, first) {
                finder.buckets(text, &mut buffers, &mut keys);
                for key in &keys {
                    buckets.push(*key);
                    rows.push(row);
                    from.push(at);
                    texts.push(text);
                }
            }
            first += batch.num_rows();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt32Array::from(rows)),
                Arc::new(from.iter().map(|at| half(groups[*at])).collect::<UInt64Array>()),
                Arc::new(from.iter().map(|at| Some(ranks.value(*at))).collect::<BinaryArray>()),
                Arc::new(from.iter().map(|at| ids.is_valid(*at).then(|| ids.value(*at))).collect::<StringArray>()),
                Arc::new(StringArray::from(texts)),
            ];
            out.keyed(SIGNED, buckets, RecordBatch::try_new(signed_schema(), columns)?)?;
        }
        Ok(())
    }

    fn group(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let alike = self.alike(shard)?;
        let mut first = 0;
        for batch in &shard.shard.batches {
            let groups = self.groups(batch)?;
            let at: Vec<(usize, u32)> = comparable(self.texts(batch)?, first)
                .filter(|(_, row, _)| !alike.as_ref().is_some_and(|alike| alike.drops(*row)))
                .map(|(at, row, _)| (at, row))
                .collect();
            first += batch.num_rows();
            let quotas: ArrayRef = match (self.quota_column, &self.config.quota) {
                (Some(column), _) => {
                    let column = batch.column(column);
                    cast(&cast(column, &plain(column.data_type()))?, &DataType::Int64)?
                }
                (None, Some(Quota::Rows(rows))) => Arc::new(Int64Array::from_value(i64::from(*rows), batch.num_rows())),
                (None, _) => new_null_array(&DataType::Int64, batch.num_rows()),
            };
            let ranks: ArrayRef = Arc::new(self.ranks(batch)?);
            let texts: ArrayRef = Arc::new(self.texts(batch)?.clone());
            let ids: ArrayRef = Arc::new(document::ID.try_of(batch)?.clone());
            let numbers: ArrayRef = Arc::new((0..batch.num_rows() as u64).map(|_| 0).collect::<UInt32Array>());
            let all = RecordBatch::try_new(grouped_schema(), vec![numbers, ranks, quotas, ids, texts])?;
            let sent = take_record_batch(&all, &at.iter().map(|(at, _)| *at as u64).collect::<UInt64Array>())?;
            let mut columns = sent.columns().to_vec();
            columns[0] = Arc::new(at.iter().map(|(_, row)| *row).collect::<UInt32Array>());
            let keys = at.iter().map(|(at, _)| groups[*at]).collect();
            out.keyed(GROUPED, keys, RecordBatch::try_new(grouped_schema(), columns)?)?;
        }
        Ok(())
    }

    fn choose(&self, table: &Keyed, out: &mut Tables) -> Result<(), StageError> {
        let columns = table.batch.columns();
        let (row, rank) = (columns[0].as_primitive::<UInt32Type>(), columns[1].as_binary::<i32>());
        let (quota, id, text) = (columns[2].as_primitive::<Int64Type>(), columns[3].as_string::<i32>(), columns[4].as_string::<i32>());
        let quota = |at: usize| quota.is_valid(at).then(|| u64::try_from(quota.value(at)).unwrap_or(0));
        let mut told = Told::default();
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let mut order: Vec<usize> = (start..start + group.len()).collect();
            start += group.len();
            order.sort_by_key(|at| rank.value(*at)); // stable: then in the order of the input
            let candidates = order.iter().map(|at| Candidate { text: text.value(*at), quota: quota(*at) });
            let outcomes = choose(candidates, self.config.measure, self.config.max_similarity.get());
            for (at, outcome) in order.iter().zip(outcomes) {
                let to = RowRef { shard: table.origins[*at].shard, row: row.value(*at) };
                let id = |candidate: usize| Some(order[candidate]).filter(|at| id.is_valid(*at)).map(|at| id.value(at));
                match outcome {
                    Outcome::Kept(None) => {}
                    Outcome::Kept(Some(nearest)) => told.push(to, KEPT, nearest.similarity, None, None),
                    Outcome::Similar(nearest) => told.push(to, SIMILAR, nearest.similarity, None, id(nearest.candidate)),
                    Outcome::OverQuota { kept, quota } => told.push(to, OVER_QUOTA, kept as f64, Some(quota as f64), None),
                }
            }
        }
        told.send(out)
    }

    fn drop(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let (alike, told) = (self.alike(shard)?, shard.take_mail(OUTCOMES)?);
        let mut verdicts = vec![Verdict::Keep; shard.shard.n_rows()];
        let columns = told.batch.columns();
        let (kind, value) = (columns[0].as_primitive::<UInt8Type>(), columns[1].as_primitive::<Float64Type>());
        let (threshold, of) = (columns[2].as_primitive::<Float64Type>(), columns[3].as_string::<i32>());
        for (at, &row) in told.rows.iter().enumerate() {
            let dropped = |reason: &'static str, threshold: f64| {
                let of = of.is_valid(at).then(|| of.value(at).to_owned());
                Verdict::Drop(Dropped { duplicate_of: of, ..Dropped::measured(reason, value.value(at), threshold) })
            };
            let verdict = match kind.value(at) {
                KEPT => Verdict::Keep,
                SIMILAR => dropped("similar", self.config.max_similarity.get()),
                _ => dropped("over_quota", threshold.value(at)),
            };
            if kind.value(at) != OVER_QUOTA {
                out.emit().observe(&self.similarity, value.value(at), verdict == Verdict::Keep);
            }
            *verdict_of(&mut verdicts, row)? = verdict;
        }
        if let (Some(alike), Some(finder)) = (alike, &self.across) {
            // What is equal to the bound is not kept.
            let measure = SIMILARITY_ACROSS.at_most("across.jaccard_threshold", finder.threshold.next_down());
            for (row, similarity, of) in alike.best {
                let verdict = verdict_of(&mut verdicts, row)?;
                if similarity >= finder.threshold {
                    *verdict =
                        Verdict::Drop(Dropped { duplicate_of: of, ..Dropped::measured("similar_across", similarity, finder.threshold) });
                }
                out.emit().observe(&measure, similarity, *verdict == Verdict::Keep);
            }
        }
        let mut verdicts = verdicts.into_iter();
        for batch in shard.shard.batches.drain(..) {
            let verdicts: Vec<Verdict> = verdicts.by_ref().take(batch.num_rows()).collect();
            self.emit(&batch, verdicts, out)?;
        }
        Ok(())
    }

    /// Rejects rows whose text is too long, and gives each of the others where it goes.
    fn emit(&self, batch: &RecordBatch, verdicts: Vec<Verdict>, out: &mut Tables) -> Result<(), StageError> {
        let texts = self.texts(batch)?;
        let fits: Vec<bool> = texts.iter().map(|text| text.is_none_or(|text| text.len() <= MOST_BYTES)).collect();
        if fits.iter().all(|fits| *fits) {
            return out.emit().split(batch, verdicts);
        }
        for (row, _) in fits.iter().enumerate().filter(|(_, fits)| !**fits) {
            let detail =
                format!("wanted a text of at most {MOST_BYTES} bytes in `{}`, found {}", self.config.column, texts.value(row).len());
            out.emit().reject_row(batch, row, "too_long", detail);
        }
        let verdicts: Vec<Verdict> = verdicts.into_iter().zip(&fits).filter(|(_, fits)| **fits).map(|(verdict, _)| verdict).collect();
        out.emit().split(&filter_record_batch(batch, &fits.into())?, verdicts)
    }

    /// The key of each row's group.
    fn groups(&self, batch: &RecordBatch) -> Result<Vec<u128>, StageError> {
        let mut hasher = KeyHasher::default();
        match &self.group {
            None => Ok(vec![hasher.finish(); batch.num_rows()]),
            Some(columns) => {
                let keys = columns.encode(batch, None)?;
                let key = |row: usize| {
                    hasher.add(&keys, row);
                    hasher.finish()
                };
                Ok((0..batch.num_rows()).map(key).collect())
            }
        }
    }

    /// Byte strings that stand in the order of the ranks, the best first; all equal if there is no rank.
    fn ranks(&self, batch: &RecordBatch) -> Result<BinaryArray, StageError> {
        let Some(column) = self.rank else { return Ok(vec![Some([].as_slice()); batch.num_rows()].into()) };
        let values = batch.column(column);
        let values = cast(values, &plain(values.data_type()))?;
        let values: ArrayRef = if values.data_type().is_floating() {
            let numbers = cast(&values, &DataType::Float64)?;
            // NaN is no rank, and -0 is 0.
            let numbers = numbers.as_primitive::<Float64Type>().iter();
            Arc::new(numbers.map(|number| number.filter(|number| !number.is_nan()).map(|number| number + 0.0)).collect::<Float64Array>())
        } else {
            values
        };
        let options = SortOptions { descending: self.config.order == RankOrder::Descending, nulls_first: false };
        let rows = RowConverter::new(vec![SortField::new_with_options(values.data_type().clone(), options)])?.convert_columns(&[values])?;
        Ok(rows.iter().map(|row| Some(row.data().to_vec())).collect())
    }

    /// What the rows of a shard were told of other groups; `None` if they were not compared.
    fn alike(&self, shard: &mut ShardIn) -> Result<Option<Alike>, StageError> {
        let Some(finder) = &self.across else { return Ok(None) };
        Ok(Some(Alike::of(&shard.take_mail(ALIKE)?, finder.threshold)))
    }
}

/// How alike rows are to rows of other groups.
struct Alike {
    threshold: f64,
    /// Row, similarity to the most similar row, and that row's id; by row.
    best: Vec<(u32, f64, Option<String>)>,
}

impl Alike {
    fn of(mail: &MailIn, threshold: f64) -> Self {
        let columns = mail.batch.columns();
        let (similarity, of) = (columns[0].as_primitive::<Float64Type>(), columns[1].as_string::<i32>());
        let mut best: Vec<(u32, f64, usize)> = Vec::new();
        for (at, row) in mail.rows.iter().enumerate() {
            match best.last_mut().filter(|last| last.0 == *row) {
                Some(last) if last.1 >= similarity.value(at) => {}
                Some(last) => *last = (*row, similarity.value(at), at),
                None => best.push((*row, similarity.value(at), at)),
            }
        }
        let id = |at: usize| of.is_valid(at).then(|| of.value(at).to_owned());
        Self { threshold, best: best.into_iter().map(|(row, similarity, at)| (row, similarity, id(at))).collect() }
    }

    fn drops(&self, row: u32) -> bool {
        self.best.binary_search_by_key(&row, |best| best.0).is_ok_and(|at| self.best[at].1 >= self.threshold)
    }
}

fn compare(finder: &Finder, table: &Keyed, out: &mut Tables) -> Result<(), StageError> {
    let ids = table.batch.column(3).as_string::<i32>();
    let (mut to, mut similarities, mut of) = (Vec::new(), Vec::new(), Vec::new());
    finder.compare(table, |found| {
        to.push(found.to);
        similarities.push(found.similarity);
        of.push(ids.is_valid(found.at).then(|| ids.value(found.at)));
    });
    let columns: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(similarities)), Arc::new(StringArray::from(of))];
    out.mail(ALIKE, &to, RecordBatch::try_new(alike_schema(), columns)?)
}

const KEPT: u8 = 0;
const SIMILAR: u8 = 1;
const OVER_QUOTA: u8 = 2;

/// What rows are told of their group.
#[derive(Default)]
struct Told<'a> {
    to: Vec<RowRef>,
    kinds: Vec<u8>,
    values: Vec<f64>,
    thresholds: Vec<Option<f64>>,
    of: Vec<Option<&'a str>>,
}

impl<'a> Told<'a> {
    fn push(&mut self, to: RowRef, kind: u8, value: f64, threshold: Option<f64>, of: Option<&'a str>) {
        self.to.push(to);
        self.kinds.push(kind);
        self.values.push(value);
        self.thresholds.push(threshold);
        self.of.push(of);
    }

    fn send(self, out: &mut Tables) -> Result<(), StageError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from(self.kinds)),
            Arc::new(Float64Array::from(self.values)),
            Arc::new(Float64Array::from(self.thresholds)),
            Arc::new(StringArray::from(self.of)),
        ];
        out.mail(OUTCOMES, &self.to, RecordBatch::try_new(outcomes_schema(), columns)?)
    }
}

fn verdict_of(verdicts: &mut [Verdict], row: u32) -> Result<&mut Verdict, StageError> {
    let found = usize::try_from(row).ok().and_then(|row| verdicts.get_mut(row));
    found.ok_or_else(|| StageError::Internal(format!("mail for row {row}, which the shard does not have")))
}

/// Half of a group's key: groups with equal halves would not be compared, which is one pair in 2^64.
#[expect(clippy::cast_possible_truncation, reason = "half is wanted")]
fn half(key: u128) -> u64 {
    key as u64
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn signed_schema() -> SchemaRef {
    schema(&[
        ("row", DataType::UInt32, false),
        ("group", DataType::UInt64, false),
        ("rank", DataType::Binary, false),
        ("id", DataType::Utf8, true),
        ("text", DataType::Utf8, false),
    ])
}

fn alike_schema() -> SchemaRef {
    schema(&[("similarity", DataType::Float64, false), ("duplicate_of", DataType::Utf8, true)])
}

fn grouped_schema() -> SchemaRef {
    schema(&[
        ("row", DataType::UInt32, false),
        ("rank", DataType::Binary, false),
        ("quota", DataType::Int64, true),
        ("id", DataType::Utf8, true),
        // None of those that are sent is null.
        ("text", DataType::Utf8, true),
    ])
}

fn outcomes_schema() -> SchemaRef {
    schema(&[
        ("outcome", DataType::UInt8, false),
        ("value", DataType::Float64, false),
        ("threshold", DataType::Float64, true),
        ("duplicate_of", DataType::Utf8, true),
    ])
}
