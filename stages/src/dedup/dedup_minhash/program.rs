//! The program: sign and meet in buckets, compare in full, connect, drop.
//!
//! In a bucket each row is compared with the first one. That decides all rows that are like the first; for those that are not, the pairs
//! among them and with the others are compared too, but for those that the distances to the first row rule out: `1 - Jaccard` is a metric, so
//! two rows whose distances to a third differ by more than the threshold allows cannot be alike.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use schemas::document;
use xxhash_rust::xxh3::xxh3_128;

use super::tables::{
    ASKED, BANDS, CANDIDATES, CANDIDATES_AGAIN, COMPARED, Candidate, EQUAL_IN_SHARD, FAILED, FATES, FateRow, InBand, MET, Member, NAMES,
    SHINGLES, SHINGLES_AGAIN, SOURCES, Sent, VERIFIED, VERIFIED_AGAIN, Wanted, read_asked, read_bands, read_candidates, read_fates,
    read_names, read_pairs, read_shingles, read_sources, specs, write_asked, write_bands, write_candidates, write_failed, write_fates,
    write_names, write_pairs, write_shingles, write_sources,
};
use super::{CLUSTERS, DedupMinhashConfig, Scheme, Survivor, clusters_schema};
use crate::dedup::components::{Fate, Link, fates};
use crate::dedup::dedup_exact::Scope;
use crate::dedup::minhash::bands::Bands;
use crate::dedup::minhash::shingle::{Shingler, Shingles, jaccard};
use crate::dedup::minhash::signature::band_keys;
use crate::{
    Done, Dropped, Global, Port, RangeIn, RowRef, ShardIn, ShardRows, StageError, Step, TableSpec, Tables, TablesIn, Verdict, WholeIn,
};

/// Most pairs of one bucket that are compared besides those with its first row.
const MOST_PAIRS: usize = 4_000_000;

/// Guards look away below this many rows.
const GUARDED_ROWS: u64 = 1_000;

/// Slack for sums of rounded similarities.
const ROUNDING: f64 = 1e-9;

pub(super) struct DedupMinhash {
    pub(super) config: DedupMinhashConfig,
    pub(super) input: SchemaRef,
    pub(super) shingler: Shingler,
    pub(super) scheme: Scheme,
    pub(super) bands: Bands,
    pub(super) verify: bool,
    pub(super) priority: HashMap<String, u32>,
}

impl Global for DedupMinhash {
    fn tables(&self) -> Vec<TableSpec> {
        specs()
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let again = done.rows(FAILED) > 0;
        let mut steps = vec![
            Step::shards("sign", Port::FROM).writes(&[BANDS, SOURCES, EQUAL_IN_SHARD]),
            Step::ranges("meet", &[BANDS]).writes(&[MET, CANDIDATES]),
        ];
        if self.verify {
            steps.push(Step::shards("fetch", Port::FROM).mail(CANDIDATES).writes(&[SHINGLES]));
            steps.push(Step::shards("compare", Port::FROM).mail(SHINGLES).writes(&[VERIFIED, COMPARED, FAILED]));
            if again {
                steps.push(Step::ranges("meet_again", &[COMPARED]).writes(&[CANDIDATES_AGAIN]));
                steps.push(Step::shards("fetch_again", Port::FROM).mail(CANDIDATES_AGAIN).writes(&[SHINGLES_AGAIN]));
                steps.push(Step::shards("compare_again", Port::FROM).mail(SHINGLES_AGAIN).writes(&[VERIFIED_AGAIN]));
            }
        }
        let links = [EQUAL_IN_SHARD, MET, VERIFIED, VERIFIED_AGAIN];
        steps.push(Step::once("connect", &links, Vec::new()).whole(SOURCES).writes(&[FATES, ASKED]));
        steps.push(Step::shards("name", Port::FROM).mail(ASKED).writes(&[NAMES]));
        steps.push(Step::shards("drop", Port::FROM).mail(FATES).mail(NAMES).emits());
        steps.into_iter().nth(done.steps())
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        match step.name {
            "sign" => self.sign(&shard.shard, out),
            "fetch" => self.fetch(shard, CANDIDATES, SHINGLES, out),
            "fetch_again" => self.fetch(shard, CANDIDATES_AGAIN, SHINGLES_AGAIN, out),
            "compare" => self.compare(shard, SHINGLES, VERIFIED, out),
            "compare_again" => self.compare(shard, SHINGLES_AGAIN, VERIFIED_AGAIN, out),
            "name" => self.name(shard, out),
            _ => self.drop_rows(shard, out),
        }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        if step.name == "meet" { self.meet(range, out) } else { self.meet_again(range, out) }
    }

    fn once(&self, _step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        self.connect(&mut all.tables, all.whole.get(SOURCES), out)
    }
}

/// The texts and sources of a shard, by row.
struct Texts {
    texts: Vec<StringArray>,
    /// Number of each row's source, in the order sources first appear; `[n_rows]`, empty if sources do not matter.
    source: Vec<u32>,
    sources: Vec<(Option<String>, u64)>,
    /// First row of each batch.
    starts: Vec<usize>,
}

impl Texts {
    fn of(config: &DedupMinhashConfig, shard: &ShardRows) -> Result<Self, StageError> {
        let column = document::TEXT.named(config.column.as_str());
        let mut read = Self { texts: Vec::new(), source: Vec::new(), sources: Vec::new(), starts: Vec::new() };
        let mut numbers: HashMap<Option<String>, u32> = HashMap::new();
        let mut n_rows = 0;
        for batch in &shard.batches {
            read.texts.push(column.try_of(batch)?.clone());
            read.starts.push(n_rows);
            n_rows += batch.num_rows();
            if !config.needs_source() {
                continue;
            }
            for name in document::TEXT.named(config.source_column.as_str()).try_of(batch)? {
                let next = u32::try_from(numbers.len()).map_err(|_| too_many("sources in a shard"))?;
                let number = *numbers.entry(name.map(str::to_owned)).or_insert(next);
                if number == next {
                    read.sources.push((name.map(str::to_owned), 0));
                }
                read.sources[number as usize].1 += 1;
                read.source.push(number);
            }
        }
        if !config.needs_source() {
            read.sources.push((None, n_rows as u64));
        }
        Ok(read)
    }

    fn rows(&self) -> impl Iterator<Item = (usize, &str)> {
        let texts = self.texts.iter().zip(&self.starts);
        texts.flat_map(|(texts, start)| texts.iter().enumerate().filter_map(move |(at, text)| Some((start + at, text?))))
    }

    fn text(&self, row: u32) -> Result<&str, StageError> {
        let row = row as usize;
        let batch = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        let found = self.texts.get(batch).filter(|texts| row - self.starts[batch] < texts.len());
        Ok(found
            .ok_or_else(|| StageError::Internal(format!("mail for row {row}, which the shard does not have")))?
            .value(row - self.starts[batch]))
    }

    fn source(&self, row: usize) -> u32 {
        self.source.get(row).copied().unwrap_or(0)
    }

    fn member(&self, at: RowRef) -> Result<Member, StageError> {
        Ok(Member { at, length: self.text(at.row)?.len() as u64, source: self.source(at.row as usize) })
    }
}

impl DedupMinhash {
    fn sign(&self, shard: &ShardRows, out: &mut Tables) -> Result<(), StageError> {
        let texts = Texts::of(&self.config, shard)?;
        let (mut shingles, mut signature, mut buffer) = (Shingles::default(), Vec::new(), String::new());
        let (mut rows, mut keys, mut equal) = (Vec::new(), Vec::new(), Vec::new());
        // The first row of each text and, where rows of other sources are no duplicates, source. Looked up only.
        let mut first: HashMap<(u64, u32), Member> = HashMap::new();
        for (row, text) in texts.rows() {
            let member = Member {
                at: RowRef { shard: shard.index, row: u32::try_from(row).map_err(|_| too_many("rows in a shard"))? },
                length: text.len() as u64,
                source: texts.source(row),
            };
            self.shingler.cut(text, &mut shingles);
            if shingles.hashes.is_empty() {
                continue;
            }
            let scope = if self.config.scope == Scope::Local { member.source } else { 0 };
            if let Some(equal_to) = first.get(&(shingles.text, scope)) {
                equal.push((*equal_to, member, Some(1.0)));
                continue;
            }
            match &self.scheme {
                Scheme::Fast(signer) => signer.sign(&shingles.hashes, &mut signature),
                Scheme::Slimpajama(datasketch, width) => datasketch.sign(text, *width, &mut buffer, &mut signature),
            }
            if signature.iter().all(|value| *value == u32::MAX) {
                continue; // too short to have a gram; the published code takes all such texts for duplicates of each other
            }
            first.insert((shingles.text, scope), member);
            let salt = match (self.config.scope, &texts.sources[member.source as usize].0) {
                (Scope::Local, Some(source)) => xxh3_128(source.as_bytes()),
                _ => 0,
            };
            for (band, key) in (0_u32..).zip(band_keys(&signature, self.bands)) {
                keys.push(key ^ salt);
                rows.push(InBand { row: member.at.row, length: member.length, source: member.source, text: shingles.text, band });
            }
        }
        out.keyed(BANDS, keys, write_bands(&rows)?)?;
        out.whole(SOURCES, write_sources(shard.index, &texts.sources)?)?;
        out.whole(EQUAL_IN_SHARD, write_pairs(&equal)?)
    }

    fn meet(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(BANDS)?;
        let rows = read_bands(&table.batch);
        let (mut met, mut to, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let bucket = start..start + group.len();
            start = bucket.end;
            if bucket.len() < 2 {
                continue;
            }
            let member = |at: usize| Member {
                at: RowRef { shard: table.origins[at].shard, row: rows[at].row },
                length: rows[at].length,
                source: rows[at].source,
            };
            let head = bucket.start;
            // By text: its first row in the bucket. Looked up only.
            let mut first: HashMap<u64, usize> = HashMap::from([(rows[head].text, head)]);
            for at in bucket.skip(1) {
                if let Some(&equal_to) = first.get(&rows[at].text) {
                    // Equal texts meet in every band; once is enough.
                    if rows[at].band == 0 {
                        met.push((member(equal_to), member(at), Some(1.0)));
                    }
                    continue;
                }
                first.insert(rows[at].text, at);
                if self.verify {
                    to.push(member(head).at);
                    candidates.push((member(at).at, group[0]));
                } else {
                    met.push((member(head), member(at), None));
                }
            }
        }
        out.whole(MET, write_pairs(&met)?)?;
        out.mail(CANDIDATES, &to, write_candidates(&candidates)?)
    }

    /// Sends each row's shingles once to every shard that has rows to compare it with.
    fn fetch(&self, shard: &mut ShardIn, candidates: &str, shingles_to: &'static str, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(candidates)?;
        let pairs = read_candidates(&mail.batch);
        let texts = Texts::of(&self.config, &shard.shard)?;
        let (mut to, mut sent) = (Vec::new(), Vec::new());
        let mut cut = Shingles::default();
        let mut start = 0;
        for group in mail.rows.chunk_by(|a, b| a == b) {
            let mut others: Vec<(RowRef, u128)> = pairs[start..start + group.len()].to_vec();
            start += group.len();
            others.sort_unstable();
            others.dedup();
            let from = texts.member(RowRef { shard: shard.shard.index, row: group[0] })?;
            self.shingler.cut(texts.text(group[0])?, &mut cut);
            let set = cut.set();
            for of_shard in others.chunk_by(|a, b| a.0.shard == b.0.shard) {
                to.push(of_shard[0].0);
                sent.push(Sent { from, set: set.clone(), others: of_shard.iter().map(|(other, bucket)| (other.row, *bucket)).collect() });
            }
        }
        out.mail(shingles_to, &to, write_shingles(&sent)?)
    }

    fn compare(&self, shard: &mut ShardIn, shingles_from: &str, verified_to: &'static str, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(shingles_from)?;
        let texts = Texts::of(&self.config, &shard.shard)?;
        let threshold = self.config.jaccard_threshold.get();
        let first_time = verified_to == VERIFIED;
        let (mut verified, mut buckets, mut compared, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut cut = Shingles::default();
        let mut sets: HashMap<u32, Vec<u64>> = HashMap::new();
        for at in 0..mail.batch.num_rows() {
            let sent = read_shingles(&mail.batch, at);
            for of_row in sent.others.chunk_by(|a, b| a.0 == b.0) {
                let row = of_row[0].0;
                let other = texts.member(RowRef { shard: shard.shard.index, row })?;
                let set = match sets.entry(row) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        self.shingler.cut(texts.text(row)?, &mut cut);
                        new.insert(cut.set())
                    }
                };
                let similarity = jaccard(&sent.set, set);
                if similarity >= threshold {
                    verified.push((sent.from, other, Some(similarity)));
                } else {
                    failed += 1;
                }
                if first_time {
                    buckets.extend(of_row.iter().map(|(_, bucket)| *bucket));
                    compared.extend(of_row.iter().map(|_| (sent.from, other, Some(similarity))));
                }
            }
        }
        out.whole(verified_to, write_pairs(&verified)?)?;
        if first_time {
            out.keyed(COMPARED, buckets, write_pairs(&compared)?)?;
            if failed > 0 {
                out.whole(FAILED, write_failed(failed)?)?;
            }
        }
        Ok(())
    }

    /// In each bucket where some rows are not like the first: the pairs that may yet be alike.
    fn meet_again(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(COMPARED)?;
        let pairs = read_pairs(&table.batch);
        let threshold = self.config.jaccard_threshold.get();
        let reach = 1.0 - threshold + ROUNDING;
        let mut found: Vec<(RowRef, RowRef, u128)> = Vec::new();
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let bucket = &pairs[start..start + group.len()];
            start += group.len();
            let mut rows: Vec<(f64, RowRef)> =
                bucket.iter().map(|(_, other, similarity)| (1.0 - similarity.unwrap_or(0.0), other.at)).collect();
            rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let n_before = found.len();
            // Distances are ascending: what is too far below a row's distance stands before `nearest`.
            let mut nearest = 0;
            for (at, &(distance, row)) in rows.iter().enumerate() {
                while rows[nearest].0 + reach < distance {
                    nearest += 1;
                }
                if distance <= 1.0 - threshold {
                    continue; // like the first row; it meets those that are not when it is their turn
                }
                found.extend(rows[nearest..at].iter().map(|(_, other)| (row.min(*other), row.max(*other), group[0])));
                if found.len() - n_before > MOST_PAIRS {
                    return Err(StageError::Guard {
                        problem: format!(
                            "{} rows meet in one band though they are not alike: over {MOST_PAIRS} pairs would be compared",
                            rows.len()
                        ),
                        setting: "rows",
                    });
                }
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|(a, b, _)| (*a, *b));
        let to: Vec<RowRef> = found.iter().map(|(a, ..)| *a).collect();
        let candidates: Vec<Candidate> = found.iter().map(|(_, b, bucket)| (*b, *bucket)).collect();
        out.mail(CANDIDATES_AGAIN, &to, write_candidates(&candidates)?)
    }

    fn connect(&self, tables: &mut TablesIn, sources: Option<&RecordBatch>, out: &mut Tables) -> Result<(), StageError> {
        let mut members: BTreeMap<RowRef, Member> = BTreeMap::new();
        let (mut equal, mut links) = (Vec::new(), Vec::new());
        for name in [EQUAL_IN_SHARD, MET, VERIFIED, VERIFIED_AGAIN] {
            let Some(table) = tables.remove(name) else { continue };
            for (a, b, similarity) in read_pairs(&table.batch) {
                members.insert(a.at, a);
                members.insert(b.at, b);
                // Before anything is compared, only equal texts have a similarity.
                let is_equal = [EQUAL_IN_SHARD, MET].contains(&name) && similarity.is_some();
                (if is_equal { &mut equal } else { &mut links }).push(Link { a: a.at, b: b.at, similarity });
            }
        }
        let sources: Vec<_> = sources.map(read_sources).unwrap_or_default();
        let names: HashMap<(u32, u32), Option<&str>> =
            sources.iter().map(|(shard, number, name, _)| ((*shard, *number), name.as_deref())).collect();
        let name = |member: &Member| names.get(&(member.at.shard, member.source)).copied().flatten();
        let order = |row: RowRef| {
            let member = &members[&row];
            let rank = name(member).and_then(|name| self.priority.get(name)).copied().unwrap_or(u32::MAX);
            let length = if self.config.survivor == Survivor::Longest { member.length } else { 0 };
            (rank, std::cmp::Reverse(length), row)
        };
        // Which of several equal texts a link was found for depends on how rows lie in shards; their best row stands for all of them.
        let leaders: HashMap<RowRef, RowRef> = fates(&equal, order).into_iter().map(|fate| (fate.row, fate.survivor)).collect();
        let leader = |row: RowRef| leaders.get(&row).copied().unwrap_or(row);
        links.iter_mut().for_each(|link| (link.a, link.b) = (leader(link.a), leader(link.b)));
        links.extend(members.keys().filter(|row| leader(**row) != **row).map(|row| Link {
            a: *row,
            b: leader(*row),
            similarity: Some(1.0),
        }));
        let fates = fates(&links, order);
        drop((links, equal));
        self.guard(&fates, &sources, |row| name(&members[&row]).map(str::to_owned))?;

        let at: Vec<RowRef> = fates.iter().map(|fate| fate.row).collect();
        let rows: Vec<FateRow> = fates.iter().map(|fate| (fate.row == fate.survivor, fate.size, fate.similarity)).collect();
        out.mail(FATES, &at, write_fates(&rows)?)?;
        let (mut to, mut asked) = (Vec::new(), Vec::new());
        for fate in fates.iter().filter(|fate| fate.row != fate.survivor) {
            let both = fate.survivor == fate.next;
            to.push(fate.survivor);
            asked.push((fate.row, if both { Wanted::BOTH } else { Wanted::SURVIVOR }));
            if !both {
                to.push(fate.next);
                asked.push((fate.row, Wanted::NEXT));
            }
        }
        out.mail(ASKED, &to, write_asked(&asked)?)
    }

    /// Stops the run before anything is dropped if it would drop what no one can want dropped.
    fn guard(
        &self,
        fates: &[Fate],
        sources: &[(u32, u32, Option<String>, u64)],
        source: impl Fn(RowRef) -> Option<String>,
    ) -> Result<(), StageError> {
        let n_rows: u64 = sources.iter().map(|(.., rows)| rows).sum();
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let largest = fates.iter().max_by_key(|fate| (fate.size, std::cmp::Reverse(fate.row)));
        if let Some(largest) = largest.filter(|fate| fate.size > GUARDED_ROWS && share(fate.size, n_rows) > self.config.max_cluster.get()) {
            let survivor = largest.survivor;
            let problem = format!(
                "one cluster holds {} of {n_rows} rows; the row kept would be row {} of shard {}",
                largest.size, survivor.row, survivor.shard
            );
            return Err(StageError::Guard { problem, setting: "max_cluster" });
        }
        if !self.config.needs_source() {
            return Ok(());
        }
        let mut rows: BTreeMap<Option<String>, (u64, u64)> = BTreeMap::new();
        for (_, _, name, n) in sources {
            rows.entry(name.clone()).or_default().0 += n;
        }
        for fate in fates.iter().filter(|fate| fate.row != fate.survivor) {
            rows.entry(source(fate.row)).or_default().1 += 1;
        }
        let hit = rows.iter().find(|(_, (all, lost))| *lost > GUARDED_ROWS && share(*lost, *all) > self.config.max_source_loss.get());
        match hit {
            Some((name, (all, lost))) => {
                let name = name.as_deref().unwrap_or("without a name");
                Err(StageError::Guard {
                    problem: format!("source `{name}` would lose {lost} of its {all} rows"),
                    setting: "max_source_loss",
                })
            }
            None => Ok(()),
        }
    }

    /// Sends the ids of rows to those who asked for them.
    fn name(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(ASKED)?;
        let ids = concat_batches(&self.input, &shard.shard.batches)?;
        let ids = document::ID.try_of(&ids)?;
        let (mut to, mut names) = (Vec::new(), Vec::new());
        for (&row, (by, wanted)) in mail.rows.iter().zip(read_asked(&mail.batch)) {
            let row = row as usize;
            to.push(by);
            names.push((wanted, (row < ids.len() && ids.is_valid(row)).then(|| ids.value(row).to_owned())));
        }
        out.mail(NAMES, &to, write_names(&names)?)
    }

    fn drop_rows(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let (fates, names) = (shard.take_mail(FATES)?, shard.take_mail(NAMES)?);
        if fates.rows.is_empty() {
            return shard.shard.batches.drain(..).try_for_each(|batch| out.emit().rows(batch));
        }
        let rows = concat_batches(&self.input, &shard.shard.batches)?;
        shard.shard.batches.clear();
        let ids = document::ID.try_of(&rows)?;
        let id = |row: u32| (ids.is_valid(row as usize)).then(|| ids.value(row as usize).to_owned());
        // By row: the ids of the survivor and of the next row.
        let mut named: HashMap<u32, (Option<String>, Option<String>)> = HashMap::new();
        for (&row, (wanted, name)) in names.rows.iter().zip(read_names(&names.batch)) {
            let entry = named.entry(row).or_default();
            if wanted.is_survivor() {
                entry.0.clone_from(&name);
            }
            if wanted.is_next() {
                entry.1 = name;
            }
        }
        let mut verdicts = vec![Verdict::Keep; rows.num_rows()];
        let mut clusters = Vec::new();
        for (&row, (kept, size, similarity)) in fates.rows.iter().zip(read_fates(&fates.batch)) {
            let verdict = verdicts.get_mut(row as usize);
            let verdict = verdict.ok_or_else(|| StageError::Internal(format!("mail for row {row}, which the shard does not have")))?;
            let (survivor, next) = if kept { (id(row), None) } else { named.remove(&row).unwrap_or_default() };
            if !kept {
                let threshold = self.verify.then(|| self.config.jaccard_threshold.get());
                *verdict =
                    Verdict::Drop(Dropped { reason: "near_duplicate", value: similarity, threshold, duplicate_of: survivor.clone() });
            }
            clusters.push((id(row), survivor, size, kept, next, similarity));
        }
        let batch = RecordBatch::try_new(
            clusters_schema(),
            vec![
                std::sync::Arc::new(clusters.iter().map(|row| row.0.as_deref()).collect::<StringArray>()),
                std::sync::Arc::new(clusters.iter().map(|row| row.1.as_deref()).collect::<StringArray>()),
                std::sync::Arc::new(clusters.iter().map(|row| row.2).collect::<UInt64Array>()),
                std::sync::Arc::new(clusters.iter().map(|row| Some(row.3)).collect::<BooleanArray>()),
                std::sync::Arc::new(clusters.iter().map(|row| row.4.as_deref()).collect::<StringArray>()),
                std::sync::Arc::new(clusters.iter().map(|row| row.5).collect::<Float64Array>()),
            ],
        )?;
        out.emit().to(CLUSTERS, batch)?;
        out.emit().split(&rows, verdicts)
    }
}

fn too_many(what: &str) -> StageError {
    StageError::Internal(format!("over 2^32 {what}"))
}
