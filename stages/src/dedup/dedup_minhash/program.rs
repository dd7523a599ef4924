//! The program: sign and meet in buckets, compare in full, connect, decide, drop.
//!
//! In a bucket each row is compared with the first one. That decides all rows that are like the first; for those that are not, the pairs
//! among them and with the others are compared too, but for those that the distances to the first row rule out: `1 - Jaccard` is a metric, so
//! two rows whose distances to a third differ by more than the threshold allows cannot be alike.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::decided::Decided;
use super::indexed::{self, ADDED, BAND_PIECES, IndexedPairs, MetIndexed, ROW_PIECES};
use super::tables::{
    ASKED, BAND_BITS, BANDS, CANDIDATES, CANDIDATES_AGAIN, COMPARED, Candidate, Compared, EQUAL_IN_SHARD, FAILED, FATES, FateRow, GLOBAL,
    InBand, LINKS, LOCAL, LOSSES, MET, Member, NAMES, Pair, ROWS, SHINGLES, SHINGLES_AGAIN, SOURCES, Sent, TIES, Tie, VERIFIED,
    VERIFIED_AGAIN, WANTED, WANTED_AGAIN, band_of, links_schema, read_asked, read_bands, read_candidates, read_compared, read_count,
    read_fates, read_links, read_losses, read_names, read_sent, read_sources, read_ties, source_key, specs, write_asked, write_bands,
    write_candidates, write_compared, write_count, write_fates, write_links, write_losses, write_names, write_sources, write_ties,
};
use super::texts::Texts;
use super::views::{Clusters, Decisions, Edges};
use super::{CLUSTERS, DedupMinhashConfig, EDGES, MinhashScope, Scheme, Survivor};
use crate::dedup::components::{CONNECTED, Connecting, Fate, losers, sorted};
use crate::dedup::index::{Index, is_indexed};
use crate::dedup::minhash::bands::Bands;
use crate::dedup::minhash::shingle::{Shingler, Shingles, jaccard};
use crate::dedup::minhash::signature::band_keys;
use crate::{
    Begin, Begun, Done, Global, Measure, Port, RangeIn, RowRef, ShardIn, ShardRows, StageError, Step, TableSpec, Tables, Verdict, WholeIn,
};

/// In place of the number of a threshold: what a source loses to its own rows, with `scope: both`.
const LOCAL_LOSS: u8 = u8::MAX;

/// Most pairs of a bucket that are compared besides those with its first row: this many, or …
pub(super) const PAIRS: usize = 100_000;

/// … this many for each of its rows; and …
pub(super) const PAIRS_A_ROW: usize = 64;

/// … no more than this many in a range, which fit one task.
pub(super) const PAIRS_OF_RANGE: usize = 2_000_000;

/// Guards look away below this many rows.
const GUARDED_ROWS: u64 = 1_000;

/// A source with a smaller share of all rows is not shown by name.
const SHOWN_SHARE: f64 = 0.002;

/// Slack for sums of rounded similarities.
pub(super) const ROUNDING: f64 = 1e-9;

pub(super) struct DedupMinhash {
    pub(super) config: DedupMinhashConfig,
    pub(super) output: SchemaRef,
    pub(super) shingler: Shingler,
    pub(super) scheme: Scheme,
    pub(super) bands: Bands,
    pub(super) verify: bool,
    /// Whether the input has the column that names sources.
    pub(super) has_source: bool,
    /// Rank of each source by its hash; others come last.
    pub(super) priority: HashMap<u64, u32>,
    /// How alike the pairs are that are compared.
    pub(super) similarity: Measure,
    /// The threshold, then those at which the removal is shown too.
    pub(super) thresholds: Vec<f64>,
    /// What earlier runs kept.
    pub(super) index: Option<Index>,
}

/// The hash by which a source is known.
pub(super) fn source_hash(source: Option<&str>) -> u64 {
    source.map_or(0, |source| xxh3_64(source.as_bytes()))
}

impl Global for DedupMinhash {
    fn tables(&self) -> Vec<TableSpec> {
        let mut tables = specs();
        tables.extend(indexed::specs());
        tables.extend(connecting().specs());
        tables
    }

    fn begin(&self, begin: &Begin<'_>) -> Result<Option<Begun>, StageError> {
        self.index.as_ref().map(|index| index.begin(begin)).transpose()
    }

    fn publish(&self, pass: &dyn Fn()) -> Result<(), StageError> {
        self.index.as_ref().map_or(Ok(()), |index| index.publish(pass))
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let mut steps = vec![
            Step::shards("sign", Port::FROM).writes(&[BANDS, ROWS, SOURCES, EQUAL_IN_SHARD]),
            Step::ranges("meet", &[BANDS]).writes(&[MET, CANDIDATES]),
        ];
        if self.verify {
            steps.push(Step::shards("ask", Port::FROM).mail(CANDIDATES).writes(&[WANTED]));
            steps.push(Step::shards("fetch", Port::FROM).mail(WANTED).writes(&[SHINGLES]));
            steps.push(Step::shards("compare", Port::FROM).mail(CANDIDATES).mail(SHINGLES).writes(&[VERIFIED, COMPARED, FAILED]));
            if done.rows(FAILED) > 0 {
                steps.push(Step::ranges("meet_again", &[COMPARED]).writes(&[CANDIDATES_AGAIN]));
                steps.push(Step::shards("ask_again", Port::FROM).mail(CANDIDATES_AGAIN).writes(&[WANTED_AGAIN]));
                steps.push(Step::shards("fetch_again", Port::FROM).mail(WANTED_AGAIN).writes(&[SHINGLES_AGAIN]));
                let compare = Step::shards("compare_again", Port::FROM).mail(CANDIDATES_AGAIN).mail(SHINGLES_AGAIN);
                steps.push(compare.writes(&[VERIFIED_AGAIN]));
            }
        }
        if done.steps() >= steps.len() {
            steps.extend(connecting().steps(done));
        }
        steps.push(Step::ranges("decide", &[CONNECTED]).whole(ROWS).writes(&[FATES, LOSSES, TIES, ASKED]));
        steps.push(Step::ranges("weigh", &[SOURCES, LOSSES]).whole(ROWS));
        steps.push(Step::shards("name", Port::FROM).mail(ASKED).writes(&[NAMES]));
        let drop = Step::shards("drop", Port::FROM).mail(FATES).mail(TIES).mail(NAMES).emits();
        if self.index.is_none() {
            steps.push(drop);
            return steps.into_iter().nth(done.steps());
        }
        steps.push(drop.writes(&[ADDED, ROW_PIECES]));
        steps.push(Step::ranges("add", &[BANDS]).whole(ADDED).writes(&[BAND_PIECES]));
        steps.push(Step::once("describe", &[ROW_PIECES, BAND_PIECES], Vec::new()));
        // Signatures are the same whatever is indexed; all that comes after them is not.
        let step = steps.into_iter().nth(done.steps());
        step.map(|step| if step.name == "sign" { step } else { step.sees() })
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        match step.name {
            "sign" => self.sign(&shard.shard, out),
            "ask" => Self::ask(shard, CANDIDATES, WANTED, out),
            "ask_again" => Self::ask(shard, CANDIDATES_AGAIN, WANTED_AGAIN, out),
            "fetch" => self.fetch(shard, WANTED, SHINGLES, out),
            "fetch_again" => self.fetch(shard, WANTED_AGAIN, SHINGLES_AGAIN, out),
            "compare" => self.compare(shard, CANDIDATES, SHINGLES, VERIFIED, out),
            "compare_again" => self.compare(shard, CANDIDATES_AGAIN, SHINGLES_AGAIN, VERIFIED_AGAIN, out),
            "name" => Self::name(shard, out),
            _ => self.drop_rows(shard, out),
        }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        match step.name {
            "meet" => self.meet(range, out),
            "meet_again" => self.meet_again(range, out),
            "decide" => self.decide(range, out),
            "weigh" => self.weigh(range, out),
            "add" => self.add_bands(range, out),
            _ if connecting().range(step, range, out)? => Ok(()),
            other => Err(StageError::Internal(format!("no step `{other}` over ranges"))),
        }
    }

    fn once(&self, step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        if step.name == "describe" {
            return self.describe(all);
        }
        connecting().once(step, all, out)
    }
}

fn connecting() -> Connecting {
    Connecting { tables: LINKS, links: links_schema() }
}

impl DedupMinhash {
    fn is_local(&self) -> bool {
        self.config.scope == MinhashScope::Local
    }

    /// What rows must have in common besides their text to stand for each other.
    pub(super) fn scope_of(&self, source: u64) -> u64 {
        if self.config.scope == MinhashScope::Global { 0 } else { source }
    }

    /// Whether a later one of equal texts can be the better one.
    pub(super) fn prefers(&self) -> bool {
        !self.priority.is_empty() || self.config.survivor == Survivor::Longest
    }

    fn is_both(&self) -> bool {
        self.config.scope == MinhashScope::Both
    }

    fn links(&self, table: &'static str, pairs: &[Pair], out: &mut Tables) -> Result<(), StageError> {
        write_links(table, pairs, self.is_both(), out)
    }

    fn sign(&self, shard: &ShardRows, out: &mut Tables) -> Result<(), StageError> {
        let texts = Texts::of(self, shard)?;
        let (mut shingles, mut signature, mut buffer) = (Shingles::default(), Vec::new(), String::new());
        let (mut rows, mut keys, mut equal) = (Vec::new(), Vec::new(), Vec::new());
        // The first row of each text and, where it matters, source. Looked up only.
        let mut first: HashMap<(u64, u64), Member> = HashMap::new();
        for (row, text) in texts.rows() {
            let at = RowRef { shard: shard.index, row: u32::try_from(row).map_err(|_| too_many("rows in a shard"))? };
            let member = texts.member_with(at, text);
            self.shingler.cut(text, &mut shingles);
            if shingles.hashes.is_empty() {
                continue;
            }
            let scope = self.scope_of(member.source);
            if let Some(equal_to) = first.get(&(shingles.text, scope)) {
                equal.push(Pair { a: *equal_to, b: member, similarity: Some(1.0), equal: true, bands: Vec::new() });
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
            let salt = if self.is_local() { source_salt(member.source) } else { 0 };
            for (band, key) in (0_u128..).zip(band_keys(&signature, self.bands)) {
                keys.push(((key ^ salt) & !BAND_BITS) | band);
                rows.push(InBand { row: member.at.row, length: member.length, source: member.source, text: shingles.text });
            }
        }
        out.keyed(BANDS, keys, write_bands(&rows)?)?;
        out.whole(ROWS, write_count(texts.n_rows() as u64)?)?;
        let (keys, sources): (Vec<u128>, Vec<_>) = texts.sources.into_iter().map(|(hash, source)| (source_key(hash), source)).unzip();
        out.keyed(SOURCES, keys, write_sources(&sources)?)?;
        self.links(EQUAL_IN_SHARD, &equal, out)
    }

    fn meet(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(BANDS)?;
        let rows = read_bands(&table.batch);
        let mut met = Met { verify: self.verify, links: Vec::new(), to: Vec::new(), candidates: Vec::new() };
        let seen = self.seen()?.filter(|seen| !seen.is_empty());
        let texts = || rows.iter().map(|row| row.text);
        let mut met_indexed = seen.map(|seen| MetIndexed::of(&seen, &table.keys, texts())).transpose()?;
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let bucket = start..start + group.len();
            start = bucket.end;
            if bucket.len() < 2 && met_indexed.is_none() {
                continue;
            }
            let first = bucket.start;
            let mut texts: Vec<(Member, u64)> = bucket
                .map(|at| {
                    let at_row = RowRef { shard: table.origins[at].shard, row: rows[at].row };
                    (Member { at: at_row, length: rows[at].length, source: rows[at].source }, rows[at].text)
                })
                .collect();
            if let Some(indexed) = &mut met_indexed {
                let Met { links, to, candidates, .. } = &mut met;
                indexed.meet(first, group[0], self.verify, &mut texts, links, |row, candidate| {
                    to.push(row);
                    candidates.push(candidate);
                });
                if texts.len() < 2 {
                    continue;
                }
            }
            met.bucket(group[0], &texts);
            if self.is_both() {
                // The rows of each source meet once more among themselves; but for those of the first one's, which are compared with it already,
                // if none was left out for a row of another source that says the same.
                let mut by_source: BTreeMap<u64, Vec<(Member, u64)>> = BTreeMap::new();
                let mut first: HashMap<u64, u64> = HashMap::new();
                let head = texts[0].0.source;
                let mut is_done = true;
                for (member, text) in &texts {
                    by_source.entry(member.source).or_default().push((*member, *text));
                    is_done &= *first.entry(*text).or_insert(member.source) == member.source || member.source != head;
                }
                if is_done {
                    by_source.remove(&head);
                }
                for (source, of_source) in by_source.iter().filter(|(_, of_source)| of_source.len() > 1) {
                    met.bucket(group[0] ^ source_salt(*source), of_source);
                }
            }
        }
        if let Some(left_out) = met_indexed.map(|indexed| indexed.left_out).filter(|left_out| *left_out > 0) {
            out.emit().count("not_compared", "pairs", left_out);
        }
        self.links(MET, &met.links, out)?;
        out.mail(CANDIDATES, &met.to, write_candidates(&met.candidates)?)
    }

    /// Asks each row that rows of this shard are compared with for its shingles, once.
    fn ask(shard: &mut ShardIn, candidates: &str, wanted: &'static str, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(candidates)?;
        let of = sorted(read_candidates(&mail.batch).into_iter().map(|(other, _)| other).filter(|other| !is_indexed(*other)).collect());
        let by = RowRef { shard: shard.shard.index, row: 0 };
        out.mail(wanted, &of, write_asked(&vec![by; of.len()])?)
    }

    /// Sends the shingles of rows to the shards that asked for them.
    fn fetch(&self, shard: &mut ShardIn, wanted: &str, shingles: &'static str, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(wanted)?;
        let texts = Texts::of(self, &shard.shard)?;
        let to: Vec<RowRef> = read_asked(&mail.batch).collect();
        let mut sent = Sent::default();
        let mut cut = Shingles::default();
        for of_row in mail.rows.chunk_by(|a, b| a == b) {
            let from = texts.member(RowRef { shard: shard.shard.index, row: of_row[0] })?;
            self.shingler.cut(texts.text(of_row[0])?, &mut cut);
            let set = cut.set();
            of_row.iter().for_each(|_| sent.push(from, &set));
        }
        out.mail(shingles, &to, sent.write()?)
    }

    fn compare(
        &self,
        shard: &mut ShardIn,
        candidates: &str,
        shingles: &str,
        verified_to: &'static str,
        out: &mut Tables,
    ) -> Result<(), StageError> {
        let (mail, shingles) = (shard.take_mail(candidates)?, shard.take_mail(shingles)?.batch);
        let pairs = read_candidates(&mail.batch);
        let texts = Texts::of(self, &shard.shard)?;
        let threshold = self.config.jaccard_threshold.get();
        let first_time = verified_to == VERIFIED;
        let sent: HashMap<RowRef, (Member, &[u64])> = (0..shingles.num_rows())
            .map(|at| {
                let (from, set) = read_sent(&shingles, at);
                (from.at, (from, set))
            })
            .collect();
        let (mut verified, mut buckets, mut compared, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut with_indexed = self.seen()?.map(|seen| IndexedPairs::new(seen, threshold));
        let mut cut = Shingles::default();
        let mut start = 0;
        for of_row in mail.rows.chunk_by(|a, b| a == b) {
            let others: Vec<Candidate> = sorted(pairs[start..start + of_row.len()].to_vec());
            start += of_row.len();
            let row = texts.member(RowRef { shard: shard.shard.index, row: of_row[0] })?;
            self.shingler.cut(texts.text(of_row[0])?, &mut cut);
            let set = cut.set();
            let (others, of_index) = others.split_at(others.partition_point(|(other, _)| !is_indexed(*other)));
            if let Some(pairs) = with_indexed.as_mut().filter(|_| !of_index.is_empty()) {
                pairs.row(row, &set);
                for met in of_index.chunk_by(|a, b| a.0 == b.0) {
                    pairs.pair(met[0].0, sorted(met.iter().map(|(_, bucket)| band_of(*bucket)).collect()));
                }
                if pairs.is_full() {
                    self.compare_indexed(pairs, &mut verified, out)?;
                }
            }
            for met in others.chunk_by(|a, b| a.0 == b.0) {
                let missing = || StageError::Internal(format!("the shingles of {:?} were not sent", met[0].0));
                let (other, of_other) = sent.get(&met[0].0).ok_or_else(missing)?;
                let similarity = jaccard(of_other, &set);
                out.emit().observe(&self.similarity, similarity, similarity >= threshold);
                if similarity >= threshold {
                    let bands = sorted(met.iter().map(|(_, bucket)| band_of(*bucket)).collect());
                    verified.push(Pair { a: *other, b: row, similarity: Some(similarity), equal: false, bands });
                } else {
                    failed += 1;
                }
                if first_time {
                    buckets.extend(met.iter().map(|(_, bucket)| *bucket));
                    compared.extend(met.iter().map(|_| (other.at, row.at, similarity)));
                }
            }
        }
        if let Some(pairs) = &mut with_indexed {
            self.compare_indexed(pairs, &mut verified, out)?;
        }
        self.links(verified_to, &verified, out)?;
        if first_time {
            out.keyed(COMPARED, buckets, write_compared(&compared)?)?;
            if failed > 0 {
                out.whole(FAILED, write_count(failed)?)?;
            }
        }
        Ok(())
    }

    /// Compares rows with indexed ones.
    fn compare_indexed(&self, pairs: &mut IndexedPairs, verified: &mut Vec<Pair>, out: &mut Tables) -> Result<(), StageError> {
        let threshold = self.config.jaccard_threshold.get();
        pairs.compare(|pair, similarity| {
            out.emit().observe(&self.similarity, similarity, similarity >= threshold);
            if similarity >= threshold {
                verified.push(pair);
            }
        })
    }

    /// In each bucket where some rows are not like the first: the pairs that may yet be alike.
    fn meet_again(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(COMPARED)?;
        let pairs = read_compared(&table.batch);
        let (mut found, mut left_out) = (Vec::new(), 0);
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            left_out += self.undecided(group[0], &pairs[start..start + group.len()], &mut found);
            start += group.len();
        }
        if left_out > 0 {
            out.emit().count("not_compared", "pairs", left_out);
        }
        let found: Vec<(RowRef, RowRef, u128)> = sorted(found);
        let to: Vec<RowRef> = found.iter().map(|(_, b, _)| *b).collect();
        let candidates: Vec<Candidate> = found.iter().map(|(a, _, bucket)| (*a, *bucket)).collect();
        out.mail(CANDIDATES_AGAIN, &to, write_candidates(&candidates)?)
    }

    /// Finds the pairs of one bucket that its first row neither connects nor rules out. In a bucket with very many of them each row meets those
    /// whose distance to the first is next to its own; returns how many pairs are left out for that.
    fn undecided(&self, bucket: u128, pairs: &[Compared], found: &mut Vec<(RowRef, RowRef, u128)>) -> u64 {
        let threshold = self.config.jaccard_threshold.get();
        let reach = 1.0 - threshold + ROUNDING;
        let mut rows: Vec<(f64, RowRef)> = pairs.iter().map(|(_, other, similarity)| (1.0 - similarity, *other)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // Rows like the first one come first; they meet the others when it is the others' turn.
        let n_decided = rows.partition_point(|(distance, _)| *distance <= 1.0 - threshold);
        let n_undecided = (rows.len() - n_decided).max(1);
        let most = (PAIRS / n_undecided).max(PAIRS_A_ROW).min(PAIRS_OF_RANGE.saturating_sub(found.len()) / n_undecided);
        let (mut nearest, mut left_out) = (0, 0);
        for (at, &(distance, row)) in rows.iter().enumerate().skip(n_decided) {
            // Distances are ascending: what is too far below a row's distance stands before `nearest`.
            while rows[nearest].0 + reach < distance {
                nearest += 1;
            }
            let from = nearest.max(at.saturating_sub(most));
            left_out += (from - nearest) as u64;
            found.extend(rows[from..at].iter().map(|(_, other)| (row.min(*other), row.max(*other), bucket)));
        }
        left_out
    }

    /// Decides the components of a range: which row of each is kept, and on which row each of the others hangs.
    fn decide(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let n_rows = read_count(range.whole.get(ROWS));
        let links = range.take(CONNECTED)?.batch;
        let global = read_links(&links, GLOBAL);
        let local = if self.is_both() { read_links(&links, LOCAL) } else { Vec::new() };
        drop(links);
        // The row that wants an id, and the one whose it is.
        let mut asked: Vec<(RowRef, RowRef)> = Vec::new();
        for (graph, pairs) in [(GLOBAL, global), (LOCAL, local)] {
            let decided = Decided::of(self, pairs)?;
            if graph == GLOBAL {
                decided.count(out);
                if !self.is_both() {
                    self.guard_clusters(&decided, n_rows)?;
                }
                self.write_losses(&decided, (0_u8..).zip(self.thresholds.iter().copied()), out)?;
                let to: Vec<RowRef> = decided.links.iter().map(|pair| pair.b.at).collect();
                asked.extend(decided.links.iter().map(|pair| (pair.b.at, pair.a.at)));
                out.mail(TIES, &to, write_ties(&decided.links)?)?;
            } else {
                self.write_losses(&decided, [(LOCAL_LOSS, 0.0)].into_iter(), out)?;
            }
            let at: Vec<RowRef> = decided.fates.iter().map(|fate| fate.row).collect();
            out.mail(FATES, &at, write_fates(graph, &decided.fates, &decided.links)?)?;
            let lost = decided.fates.iter().filter(|fate| fate.row != fate.survivor);
            asked.extend(lost.flat_map(|fate| [(fate.row, fate.survivor), (fate.row, fate.next)]));
        }
        asked.retain(|(_, of)| !is_indexed(*of)); // the index knows their ids
        let (by, of): (Vec<RowRef>, Vec<RowRef>) = sorted(asked).into_iter().unzip();
        out.mail(ASKED, &of, write_asked(&by)?)
    }

    /// How many rows each source loses to these components, at each of these thresholds, under its number.
    fn write_losses(&self, decided: &Decided, thresholds: impl Iterator<Item = (u8, f64)>, out: &mut Tables) -> Result<(), StageError> {
        let mut losses: BTreeMap<(u64, u8), u64> = BTreeMap::new();
        let rows = decided.spots();
        for (number, threshold) in thresholds {
            let all = number == 0 || number == LOCAL_LOSS;
            let counts = |pair: &&Pair| all || pair.similarity.is_some_and(|similarity| similarity >= threshold);
            let links = decided.links.iter().filter(counts).map(Decided::ends);
            for row in losers(&rows, links, |row| decided.order(self, row)) {
                *losses.entry((decided.member(row).source, number)).or_default() += 1;
            }
        }
        let keys = losses.keys().map(|(source, _)| source_key(*source)).collect();
        out.keyed(LOSSES, keys, write_losses(losses.iter().map(|((_, number), removed)| (*number, *removed)))?)
    }

    /// Which of the rows of a cluster is kept: the least.
    pub(super) fn order(&self, member: &Member) -> (u32, std::cmp::Reverse<u32>, RowRef) {
        let rank = self.priority.get(&member.source).copied().unwrap_or(u32::MAX);
        let length = if self.config.survivor == Survivor::Longest { member.length } else { 0 };
        (rank, std::cmp::Reverse(length), member.at)
    }

    /// Stops the run before anything is dropped if a cluster is larger than anyone can want.
    fn guard_clusters(&self, decided: &Decided, n_rows: u64) -> Result<(), StageError> {
        // The rows of the run alone: one that is indexed is none of them.
        let n_own = |fate: &Fate| u64::from(fate.size) - u64::from(is_indexed(fate.survivor));
        let largest = decided.fates.iter().max_by_key(|fate| (n_own(fate), std::cmp::Reverse(fate.row)));
        match largest.filter(|fate| n_own(fate) > GUARDED_ROWS && share(n_own(fate), n_rows) > self.config.max_cluster.get()) {
            Some(largest) => {
                let survivor = largest.survivor;
                let kept = if is_indexed(survivor) {
                    "one of the index".to_owned()
                } else {
                    format!("row {} of shard {}", survivor.row, survivor.shard)
                };
                let problem = format!("one cluster holds {} of {n_rows} rows; the row kept would be {kept}", n_own(largest));
                Err(StageError::Guard { problem, setting: "max_cluster" })
            }
            None => Ok(()),
        }
    }

    /// Adds up what each source would lose, and stops the run before anything is dropped if it is more than anyone can want.
    fn weigh(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let n_rows = read_count(range.whole.get(ROWS));
        let (sources, losses) = (range.take(SOURCES)?, range.take(LOSSES)?);
        let mut rows: BTreeMap<u128, (Option<&str>, u64)> = BTreeMap::new();
        for (key, (name, n)) in sources.keys.iter().zip(read_sources(&sources.batch)) {
            rows.entry(*key).or_insert((name, 0)).1 += n;
        }
        let mut lost: BTreeMap<u128, BTreeMap<u8, u64>> = BTreeMap::new();
        for (key, (number, removed)) in losses.keys.iter().zip(read_losses(&losses.batch)) {
            *lost.entry(*key).or_default().entry(number).or_default() += removed;
        }
        for (key, (name, all)) in &rows {
            let lost = lost.remove(key).unwrap_or_default();
            let removed = lost.get(&0).copied().unwrap_or(0);
            let guarded = self.has_source && !self.is_both() && removed > GUARDED_ROWS;
            if guarded && share(removed, *all) > self.config.max_source_loss.get() {
                let name = name.unwrap_or("without a name");
                let problem = format!("source `{name}` would lose {removed} of its {all} rows");
                return Err(StageError::Guard { problem, setting: "max_source_loss" });
            }
            let shown = match name {
                Some(name) if share(*all, n_rows) >= SHOWN_SHARE => name,
                Some(_) => "(small ones)",
                None if self.has_source => "(none)",
                None => "all",
            };
            out.emit().count("rows_of_source", shown, *all);
            for (number, threshold) in (0_u8..).zip(&self.thresholds) {
                let what = format!("{threshold:.2} {shown}");
                out.emit().count("removed_at", &what, lost.get(&number).copied().unwrap_or(0));
            }
            if self.is_both() {
                out.emit().count("removed_local", shown, lost.get(&LOCAL_LOSS).copied().unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Sends the ids of rows to those who asked for them.
    fn name(shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mail = shard.take_mail(ASKED)?;
        let ids = shard.shard.ids()?;
        let of: Vec<RowRef> = mail.rows.iter().map(|row| RowRef { shard: shard.shard.index, row: *row }).collect();
        let to: Vec<RowRef> = read_asked(&mail.batch).collect();
        let names: StringArray = mail.rows.iter().map(|row| ids.get(*row)).collect();
        out.mail(NAMES, &to, write_names(&of, names)?)
    }

    fn drop_rows(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let (fates, ties, names) = (shard.take_mail(FATES)?, shard.take_mail(TIES)?, shard.take_mail(NAMES)?);
        if fates.rows.is_empty() && !self.is_both() {
            self.add_rows(&shard.shard, |_| true, out)?;
            return shard.shard.batches.drain(..).try_for_each(|batch| out.emit().rows(batch));
        }
        let (ids, n_rows) = (shard.shard.ids()?, shard.shard.n_rows());
        // A row's two fates come from different ranges.
        let mut of_row: Vec<(u32, FateRow)> = fates.rows.iter().copied().zip(read_fates(&fates.batch)).collect();
        of_row.sort_by_key(|(row, fate)| (*row, fate.graph));
        let links: Vec<Tie> = read_ties(&ties.batch).collect();
        let indexed = self.indexed_ids(&of_row, &links)?;
        let named = read_names(&names.rows, &names.batch);
        let name = |by: u32, of: RowRef| match indexed.get(&of) {
            Some(id) => id.as_deref(),
            None => named.get(&(by, of)).copied().flatten(),
        };
        let mut edges = Edges::default();
        for (&row, (other, similarity, found)) in ties.rows.iter().zip(links) {
            edges.push(name(row, other), ids.get(row), similarity, &found, self.bands);
        }
        out.emit().to(EDGES, edges.finish()?)?;
        let threshold = self.verify.then(|| self.config.jaccard_threshold.get());
        let (mut clusters, mut decisions) = (Clusters::default(), Decisions::new(n_rows, self.is_both()));
        for (row, fate) in of_row {
            if row as usize >= n_rows {
                return Err(StageError::Internal(format!("mail for row {row}, which the shard does not have")));
            }
            let kept = fate.survivor == RowRef { shard: shard.shard.index, row };
            let survivor = if kept { ids.get(row) } else { name(row, fate.survivor) };
            let next = if kept { None } else { name(row, fate.next) };
            decisions.set(row, kept, survivor, &fate, threshold);
            clusters.push(ids.get(row), survivor, next, kept, fate);
        }
        out.emit().to(CLUSTERS, clusters.finish(self.bands, self.is_both())?)?;
        if !self.is_both() {
            let verdicts = decisions.verdicts();
            self.add_rows(&shard.shard, |row| matches!(verdicts[row], Verdict::Keep), out)?;
            return out.emit().split_all(shard.shard.batches.drain(..), verdicts);
        }
        let batches = shard.shard.batches.drain(..);
        let (values, mut start) = (decisions.values(), 0);
        for batch in batches {
            let of_batch = values.iter().map(|values| values.slice(start, batch.num_rows()));
            let columns = batch.columns().iter().cloned().chain(of_batch).collect();
            start += batch.num_rows();
            out.emit().rows(RecordBatch::try_new(self.output.clone(), columns)?)?;
        }
        Ok(())
    }
}

/// What meets in buckets.
struct Met {
    verify: bool,
    links: Vec<Pair>,
    /// The second row of each pair that is to be compared.
    to: Vec<RowRef>,
    candidates: Vec<Candidate>,
}

impl Met {
    /// Ties each text of a bucket, a row and the hash of its text, to the first one.
    fn bucket(&mut self, key: u128, texts: &[(Member, u64)]) {
        let head = texts[0].0;
        // The first row of each text. Looked up only.
        let mut first: HashMap<u64, Member> = HashMap::from([(texts[0].1, head)]);
        for &(member, text) in &texts[1..] {
            match first.entry(text) {
                // Equal texts meet in every band; once is enough.
                Entry::Occupied(equal_to) if band_of(key) == 0 => {
                    self.links.push(Pair { a: *equal_to.get(), b: member, similarity: Some(1.0), equal: true, bands: Vec::new() });
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(new) => {
                    new.insert(member);
                    if self.verify {
                        self.to.push(member.at);
                        self.candidates.push((head.at, key));
                    } else {
                        self.links.push(Pair { a: head, b: member, similarity: None, equal: false, bands: vec![band_of(key)] });
                    }
                }
            }
        }
    }
}

/// What tells the buckets of a source from those of others; leaves the band alone.
fn source_salt(source: u64) -> u128 {
    xxh3_128(&source.to_le_bytes()) & !BAND_BITS
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn too_many(what: &str) -> StageError {
    StageError::Internal(format!("over 2^32 {what}"))
}
