//! The exam of the method: what signatures, bands and the stage find, held against comparing every pair, on real texts.
//!
//! The texts are passages of the bundled samples, from four words to some thousand, and edited copies of them: words replaced, sentences
//! dropped or moved, other text before and after, cut off. Similarities so spread over all of 0 to 1. Everything is fixed by seeds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::OnceLock;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, UInt64Type};
use serde_json::{Value, json};

use super::bands::Bands;
use super::shingle::{ShingleUnit, Shingler, Shingles, jaccard, mix};
use super::signature::{Datasketch, Signer, band_keys};
use crate::testing::{self, Built, CUTS, Cut, Outcome};
use crate::{BuildContext, DedupMinhashConfig, Port, ReadCsvConfig, ReadJsonlConfig, ReadTextConfig, StageConfig};

const WORDS: Shingler = Shingler { unit: ShingleUnit::Words, n: 5 };
/// The other unit that goes by words, where many runs are made.
const WHITESPACE: Shingler = Shingler { unit: ShingleUnit::Whitespace, n: 5 };
const CHARACTERS: Shingler = Shingler { unit: ShingleUnit::Characters, n: 13 };
const FINEWEB: Bands = Bands { bands: 14, rows: 8 };
const SLIMPAJAMA: Bands = Bands { bands: 9, rows: 13 };
const N_DOCS: usize = 3000;
const N_SEEDS: u64 = 10;

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(1)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below a usize")
    }

    /// From `low` to `high`, each factor as likely as every other.
    fn spread(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    fn chance(&mut self, share: f64) -> bool {
        (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < share
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        (1..items.len()).for_each(|at| items.swap(at, self.below(at + 1)));
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of words, rounded down")]
fn whole(number: f64) -> usize {
    number as usize
}

/// Words, as they stand between white space, of each of the samples.
pub(in crate::dedup) type Works = Vec<&'static [&'static str]>;

pub(in crate::dedup) fn works() -> Works {
    static WORKS: OnceLock<Vec<Vec<&'static str>>> = OnceLock::new();
    fn read<C: StageConfig>(files: &str) -> Vec<&'static str> {
        let rows = testing::read_all::<C>(&testing::samples(files));
        let texts = rows.iter().flat_map(|rows| testing::column(rows, "text")).collect::<Vec<_>>().join("\n");
        Box::leak(texts.into_boxed_str()).split_whitespace().collect()
    }
    let works = WORKS.get_or_init(|| {
        vec![
            read::<ReadTextConfig>("moby-dick/*.txt"),
            read::<ReadCsvConfig>("state-of-the-union/*.csv.gz"),
            read::<ReadJsonlConfig>("python-docs/*.jsonl.gz"),
        ]
    });
    works.iter().map(Vec::as_slice).collect()
}

fn passage(random: &mut Random, works: &Works, n_words: usize) -> Vec<&'static str> {
    let mut at = random.below(works.iter().map(|work| work.len()).sum());
    for work in works {
        if at < work.len() {
            let n_words = n_words.clamp(1, work.len());
            let start = at.min(work.len() - n_words);
            return work[start..start + n_words].to_vec();
        }
        at -= work.len();
    }
    unreachable!("a place below the sum of all lengths")
}

/// A copy with one kind of change, little or much of it.
fn edited(random: &mut Random, works: &Works, text: &[&'static str]) -> Vec<&'static str> {
    let sentences = || text.split_inclusive(|word| word.ends_with(['.', '?', '!'])).collect::<Vec<_>>();
    let part = |share: f64| whole(share * text.len() as f64);
    let copy: Vec<&str> = match random.below(8) {
        0 | 1 => {
            let share = random.spread(0.001, 0.3);
            text.iter().map(|word| if random.chance(share) { passage(random, works, 1)[0] } else { *word }).collect()
        }
        2 => {
            let share = random.spread(0.01, 0.7);
            sentences().into_iter().filter(|_| !random.chance(share)).flatten().copied().collect()
        }
        3 => {
            let mut sentences = sentences();
            for _ in 0..random.below(1 + sentences.len()) {
                let (from, to) = (random.below(sentences.len()), random.below(sentences.len()));
                sentences.swap(from, to);
            }
            sentences.concat()
        }
        4 => {
            let header = part(random.spread(0.005, 1.5));
            [passage(random, works, header), text.to_vec()].concat()
        }
        5 => {
            // One of five, of up to 60 words, that many texts end with.
            let footer = passage(&mut Random::new(random.below(5) as u64), works, 60);
            [text, &footer[..=random.below(footer.len())]].concat()
        }
        6 => text[..text.len() - part(random.spread(0.005, 0.8))].to_vec(),
        _ => {
            let n_words = part(random.spread(0.005, 0.8));
            let start = random.below(text.len() - n_words + 1);
            [&text[..start], &passage(random, works, n_words), &text[start + n_words..]].concat()
        }
    };
    if copy.is_empty() { text.to_vec() } else { copy }
}

/// `n` texts of a few words to `longest`, in families: a passage, copies of it, copies of copies. In any order.
pub(in crate::dedup) fn documents(seed: u64, works: &Works, n: usize, longest: f64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut texts: Vec<String> = Vec::new();
    while texts.len() < n {
        let n_words = whole(random.spread(4.0, longest));
        let mut family = vec![passage(&mut random, works, n_words)];
        for _ in 0..random.below(10) {
            // Of the passage or, for chains, of any copy.
            let of = if random.chance(0.5) { 0 } else { random.below(family.len()) };
            let copy = edited(&mut random, works, &family[of]);
            family.push(copy);
        }
        texts.extend(family.iter().map(|words| if random.chance(0.05) { words.join("  ").to_uppercase() } else { words.join(" ") }));
    }
    texts.truncate(n);
    random.shuffle(&mut texts);
    texts
}

/// Texts, and all that comparing every pair of them tells.
struct Truth {
    texts: Vec<String>,
    shingles: Vec<Shingles>,
    sets: Vec<Vec<u64>>,
    /// Every pair that has a shingle in common, with its similarity.
    pairs: Vec<(usize, usize, f64)>,
}

impl Truth {
    fn new(texts: Vec<String>, shingler: Shingler) -> Self {
        let cut = |text: &String| {
            let mut shingles = Shingles::default();
            shingler.cut(text, &mut shingles);
            shingles
        };
        let shingles: Vec<Shingles> = texts.iter().map(cut).collect();
        let sets: Vec<Vec<u64>> = shingles.iter().map(Shingles::set).collect();
        // Shared shingles, counted without `jaccard`: for each shingle the texts before that have it. Looked up only.
        let mut holders: HashMap<u64, Vec<usize>> = HashMap::new();
        let (mut shared, mut pairs) = (vec![0_usize; texts.len()], Vec::new());
        for (b, set) in sets.iter().enumerate() {
            for shingle in set {
                let holders = holders.entry(*shingle).or_default();
                holders.iter().for_each(|a| shared[*a] += 1);
                holders.push(b);
            }
            for (a, both) in shared[..b].iter_mut().enumerate().filter(|(_, both)| **both > 0) {
                pairs.push((a, b, *both as f64 / (sets[a].len() + set.len() - *both) as f64));
                *both = 0;
            }
        }
        Self { texts, shingles, sets, pairs }
    }

    /// The 3,000 texts.
    fn real() -> &'static Self {
        static TRUTH: OnceLock<Truth> = OnceLock::new();
        TRUTH.get_or_init(|| Self::new(documents(0, &works(), N_DOCS, 1500.0), WORDS))
    }

    fn edges(&self, threshold: f64) -> Vec<(usize, usize, f64)> {
        self.pairs.iter().copied().filter(|(.., similarity)| *similarity >= threshold).collect()
    }

    fn components(&self, threshold: f64) -> Vec<usize> {
        components(self.texts.len(), &self.edges(threshold)).0
    }
}

/// The component of each text, named by its first one; and the edges that join them up, in the order of `edges`.
fn components(n: usize, edges: &[(usize, usize, f64)]) -> (Vec<usize>, Vec<(usize, usize, f64)>) {
    let mut component: Vec<usize> = (0..n).collect();
    let mut members: Vec<Vec<usize>> = (0..n).map(|text| vec![text]).collect();
    let mut joining = Vec::new();
    for &(a, b, similarity) in edges {
        let (keep, gone) = (component[a].min(component[b]), component[a].max(component[b]));
        if keep != gone {
            joining.push((a, b, similarity));
            let moved = std::mem::take(&mut members[gone]);
            moved.iter().for_each(|text| component[*text] = keep);
            members[keep].extend(moved);
        }
    }
    (component, joining)
}

fn stage(settings: &Value, seed: u64, input: &RecordBatch) -> Built {
    let config: DedupMinhashConfig = serde_json::from_value(settings.clone()).expect("settings that parse");
    let mut cx = BuildContext::new("near", Path::new("."), seed, vec![(Port::FROM, input.schema())]);
    let outputs = config.outputs(&cx).expect("outputs");
    cx.outputs = Some(outputs.clone());
    Built { stage: config.build(&cx).expect("it builds"), outputs }
}

/// Runs the stage over texts whose ids are their places.
fn dedup(settings: &Value, seed: u64, texts: &[String], cut: Cut) -> Outcome {
    let ids: Vec<String> = (0..texts.len()).map(|text| text.to_string()).collect();
    let input = testing::strings(&[
        ("id", ids.iter().map(|id| Some(id.as_str())).collect()),
        ("text", texts.iter().map(|text| Some(text.as_str())).collect()),
    ]);
    testing::run_stage(&stage(settings, seed, &input), &[(Port::FROM, input)], cut).expect("it runs")
}

fn numbers(rows: &RecordBatch, column: &str) -> Vec<usize> {
    testing::column(rows, column).iter().map(|id| id.parse().expect("an id")).collect()
}

/// What `clusters` says of a row.
struct Row {
    cluster: usize,
    size: u64,
    /// The next row of the chain and how alike it is said to be; `None` for the row kept.
    next: Option<(usize, f64)>,
}

fn clusters(outcome: &Outcome) -> BTreeMap<usize, Row> {
    let rows = outcome.port(&Port::named("clusters"));
    let column = |name: &str| rows.column_by_name(name).expect("the column");
    let (kept, sizes) = (column("kept").as_boolean(), column("size").as_primitive::<UInt64Type>());
    let (linked_to, similarity) = (column("linked_to").as_string::<i32>(), column("similarity").as_primitive::<Float64Type>());
    let next = |row: usize| {
        let id = linked_to.value(row).parse().expect("an id");
        (!kept.value(row)).then(|| (id, similarity.is_valid(row).then(|| similarity.value(row)).expect("a similarity")))
    };
    let row = |(row, cluster)| Row { cluster, size: sizes.value(row), next: if kept.value(row) { None } else { next(row) } };
    let ids = numbers(rows, "id");
    let found: BTreeMap<usize, Row> = ids.iter().copied().zip(numbers(rows, "cluster").into_iter().enumerate().map(row)).collect();
    assert_eq!(found.len(), ids.len(), "each row stands in `clusters` once");
    found
}

/// The component of each text as the stage found it, named by its first one.
fn found_components(n: usize, clusters: &BTreeMap<usize, Row>) -> Vec<usize> {
    let edges: Vec<_> = clusters.iter().map(|(id, row)| (*id, row.cluster, 1.0)).collect();
    components(n, &edges).0
}

/// Texts that are not in the component they should be in: the text, the component found, the true one.
fn differing(found: &[usize], truth: &[usize]) -> Vec<(usize, usize, usize)> {
    (0..).zip(found.iter().zip(truth)).filter(|(_, (found, truth))| found != truth).map(|(text, (a, b))| (text, *a, *b)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard error of the mean.
fn error(values: &[f64]) -> f64 {
    let (mean, n) = (mean(values), values.len() as f64);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt()
}

#[test]
fn texts_of_the_exam_are_varied_and_jaccard_is_counting() {
    let truth = Truth::real();
    let lengths: Vec<usize> = truth.sets.iter().map(Vec::len).collect();
    assert!(lengths.iter().filter(|n| **n < 20).count() > 300 && lengths.iter().filter(|n| **n > 1000).count() > 100, "{lengths:?}");
    let mut bins = [0; 20];
    truth.pairs.iter().for_each(|(.., similarity)| bins[whole(similarity * 20.0).min(19)] += 1);
    assert!(bins.iter().all(|pairs| *pairs >= 200), "{bins:?}");
    for &(a, b, similarity) in &truth.pairs {
        assert!((jaccard(&truth.sets[a], &truth.sets[b]) - similarity).abs() < 1e-12, "{a} and {b}: {similarity}");
    }
}

#[test]
fn no_row_is_dropped_without_a_verified_chain_to_its_survivor() {
    let texts = &Truth::real().texts;
    let ways = [
        (json!({"jaccard_threshold": 0.5}), WORDS, 0.5),
        (json!({"jaccard_threshold": 0.8}), WORDS, 0.8),
        (json!({"jaccard_threshold": 0.75, "preset": "fineweb"}), WORDS, 0.75),
        (json!({"jaccard_threshold": 0.8, "preset": "slimpajama", "verify": "jaccard"}), CHARACTERS, 0.8),
    ];
    for (settings, shingler, threshold) in ways {
        // Characters take longer.
        let texts = if shingler.unit == ShingleUnit::Words { &texts[..] } else { &texts[..400] };
        let outcome = dedup(&settings, 1, texts, Cut { batch_rows: 100, shard_rows: 700, ranges: 3 });
        let clusters = clusters(&outcome);
        let mut cut = Shingles::default();
        let mut set = |text: usize| {
            shingler.cut(&texts[text], &mut cut);
            cut.hashes.iter().copied().collect::<BTreeSet<u64>>()
        };
        let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
        for (&id, row) in &clusters {
            *sizes.entry(row.cluster).or_default() += 1;
            if let Some((next, stated)) = row.next {
                let (a, b) = (set(id), set(next));
                let similarity = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
                assert!(similarity >= threshold, "{settings}: {id} hangs on {next}, which is like it by {similarity}");
                assert!((similarity - stated).abs() < 1e-12, "{settings}: {id} to {next}: {similarity}, stated {stated}");
            }
            let (mut end, mut links) = (id, 0);
            while let Some((next, _)) = clusters[&end].next {
                (end, links) = (next, links + 1);
                assert!(links < clusters.len(), "{settings}: the chain from {id} goes round");
            }
            assert_eq!(end, row.cluster, "{settings}: the chain from {id} ends at the row kept");
        }
        assert!(clusters.values().all(|row| row.size == sizes[&row.cluster] && row.size > 1), "{settings}");
        let hanging: BTreeMap<usize, usize> =
            clusters.iter().filter(|(_, row)| row.next.is_some()).map(|(id, row)| (*id, row.cluster)).collect();
        let dropped = outcome.dropped();
        assert_eq!(numbers(dropped, "id").into_iter().zip(numbers(dropped, "duplicate_of")).collect::<BTreeMap<_, _>>(), hanging);
        let kept: Vec<usize> = (0..texts.len()).filter(|text| !hanging.contains_key(text)).collect();
        assert_eq!(numbers(outcome.rows(), "id"), kept);
        assert!(hanging.len() > texts.len() / 20, "{settings}: {} dropped", hanging.len());
    }
}

/// Pairs of one bin: how many, how many should have a bucket in common, how many have.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    pairs: f64,
    expected: f64,
    met: f64,
}

/// Twenty bins of 0.05, the last of them without equal pairs; those; and all pairs of `GRADED`, that a small difference shows.
const N_BINS: usize = 22;

/// The bins where it is open whether a pair meets.
const GRADED: std::ops::Range<usize> = 5..19;

/// Which pairs meet, by bins of their similarity. Texts without keys take no part.
fn meetings(truth: &Truth, keys: &[Vec<u128>], bands: Bands) -> [Bin; N_BINS] {
    let mut bins = [Bin::default(); N_BINS];
    let mut n_met = 0;
    for &(a, b, similarity) in truth.pairs.iter().filter(|(a, b, _)| !keys[*a].is_empty() && !keys[*b].is_empty()) {
        let met = keys[a].iter().zip(&keys[b]).any(|(a, b)| a == b);
        n_met += usize::from(met);
        let number = whole(similarity * 20.0);
        for bin in [Some(number), GRADED.contains(&number).then_some(N_BINS - 1)].into_iter().flatten() {
            bins[bin].pairs += 1.0;
            bins[bin].expected += bands.share_a_band(similarity);
            bins[bin].met += f64::from(u8::from(met));
        }
    }
    // And none meets that has nothing in common.
    let mut in_bucket: HashMap<u128, Vec<usize>> = HashMap::new();
    let mut met = HashSet::new();
    for (text, keys) in keys.iter().enumerate() {
        for key in keys {
            let bucket = in_bucket.entry(*key).or_default();
            met.extend(bucket.iter().map(|other| (*other, text)));
            bucket.push(text);
        }
    }
    assert_eq!(met.len(), n_met, "pairs that meet, and those of them that share a shingle");
    bins
}

fn fast_keys(truth: &Truth, bands: Bands, seed: u64) -> Vec<Vec<u128>> {
    let (signer, mut signature) = (Signer::new(bands.n_hashes(), seed), Vec::new());
    let keys = |shingles: &Shingles| {
        signer.sign(&shingles.hashes, &mut signature);
        if shingles.hashes.is_empty() { Vec::new() } else { band_keys(&signature, bands).collect() }
    };
    truth.shingles.iter().map(keys).collect()
}

fn slimpajama_keys(truth: &Truth) -> Vec<Vec<u128>> {
    let (datasketch, mut signature, mut buffer) = (Datasketch::new(SLIMPAJAMA.n_hashes()), Vec::new(), String::new());
    let keys = |text: &String| {
        datasketch.sign(text, CHARACTERS.n, &mut buffer, &mut signature);
        if signature[0] == u32::MAX { Vec::new() } else { band_keys(&signature, SLIMPAJAMA).collect() }
    };
    truth.texts.iter().map(keys).collect()
}

/// A tenth of each work.
fn tenth(number: u64) -> Works {
    let number = usize::try_from(number).expect("below ten");
    works().iter().map(|work| &work[number * work.len() / 10..(number + 1) * work.len() / 10]).collect()
}

#[test]
fn pairs_meet_as_often_as_the_formula_says() {
    let truth = Truth::real();
    let mut ways: Vec<(String, Vec<[Bin; N_BINS]>)> = Vec::new();
    let mut fast = |name: &str, bands: Bands| {
        let seeds = (0..N_SEEDS).map(|seed| meetings(truth, &fast_keys(truth, bands, seed), bands)).collect();
        ways.push((format!("{name} {} x {}", bands.bands, bands.rows), seeds));
    };
    fast("fineweb", FINEWEB);
    [0.7, 0.8, 0.9].iter().for_each(|threshold| fast(&format!("{threshold:?}"), Bands::for_threshold(*threshold, 128)));
    // The published functions are fixed, so the texts vary: each seed cuts them from a tenth of the samples of its own, so that no two have
    // shingles in common but by chance.
    let slimpajama = (0..N_SEEDS).map(|seed| {
        let truth = Truth::new(documents(seed, &tenth(seed), 800, 400.0), CHARACTERS);
        meetings(&truth, &slimpajama_keys(&truth), SLIMPAJAMA)
    });
    ways.push(("slimpajama 9 x 13".to_owned(), slimpajama.collect()));

    // Pairs of a bin have texts in common, so they are no independent draws; seeds are, so it is their spread that says how far the mean of
    // ten may lie off. Beyond four standard errors of nine degrees of freedom lies one bin in 320; the slack is for bins where all or none meet.
    let mut table = String::from("share of pairs that meet, expected and found with its standard error; and pairs of a seed\n");
    table += &format!("{:9}", "");
    ways.iter().for_each(|(name, _)| table += &format!(" | {name:>28}"));
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for bin in 0..N_BINS {
        let edge = |bin: usize| bin as f64 / 20.0;
        let label = match bin {
            20 => "1".to_owned(),
            21 => format!("{:.2}-{:.2}", edge(GRADED.start), edge(GRADED.end)),
            _ => format!("{:.2}-{:.2}", edge(bin), edge(bin + 1)),
        };
        table += &format!("\n{label:9}");
        for (name, seeds) in &ways {
            let seeds: Vec<Bin> = seeds.iter().map(|bins| bins[bin]).collect();
            let pairs = mean(&seeds.iter().map(|seed| seed.pairs).collect::<Vec<_>>());
            let all = |of: fn(&Bin) -> f64| seeds.iter().map(of).sum::<f64>() / (pairs * N_SEEDS as f64);
            let off: Vec<f64> = seeds.iter().map(|seed| (seed.met - seed.expected) / seed.pairs).collect();
            table += &format!(" | {:.4} {:.4}±{:.4} {pairs:>7.0}", all(|seed| seed.expected), all(|seed| seed.met), error(&off));
            if seeds.iter().all(|seed| seed.pairs >= 20.0) {
                judged += 1;
                let slack = if bin == N_BINS - 1 { 0.0 } else { 0.004 };
                if mean(&off).abs() > 4.0 * error(&off) + slack {
                    wrong.push(format!("{name}, {label}: off by {:.4} ± {:.4}", mean(&off), error(&off)));
                }
            }
        }
    }
    assert!(wrong.is_empty() && judged >= 105, "{judged} bins judged; {wrong:#?}\n{table}");
    insta::assert_snapshot!(table, @"
    share of pairs that meet, expected and found with its standard error; and pairs of a seed
              |               fineweb 14 x 8 |                   0.7 22 x 5 |                   0.8 17 x 7 |                  0.9 11 x 11 |            slimpajama 9 x 13
    0.00-0.05 | 0.0000 0.0000±0.0000   34161 | 0.0000 0.0000±0.0000   34161 | 0.0000 0.0000±0.0000   34161 | 0.0000 0.0000±0.0000   34161 | 0.0000 0.0000±0.0000   26394
    0.05-0.10 | 0.0000 0.0000±0.0000    4364 | 0.0001 0.0001±0.0000    4364 | 0.0000 0.0000±0.0000    4364 | 0.0000 0.0000±0.0000    4364 | 0.0000 0.0000±0.0000    1234
    0.10-0.15 | 0.0000 0.0000±0.0000    1987 | 0.0007 0.0011±0.0005    1987 | 0.0000 0.0000±0.0000    1987 | 0.0000 0.0000±0.0000    1987 | 0.0000 0.0000±0.0000     741
    0.15-0.20 | 0.0000 0.0000±0.0000    1591 | 0.0036 0.0028±0.0007    1591 | 0.0001 0.0001±0.0001    1591 | 0.0000 0.0000±0.0000    1591 | 0.0000 0.0000±0.0000     421
    0.20-0.25 | 0.0001 0.0000±0.0000    1112 | 0.0125 0.0144±0.0026    1112 | 0.0005 0.0002±0.0001    1112 | 0.0000 0.0000±0.0000    1112 | 0.0000 0.0000±0.0000     318
    0.25-0.30 | 0.0005 0.0002±0.0001     892 | 0.0333 0.0324±0.0042     892 | 0.0020 0.0020±0.0004     892 | 0.0000 0.0000±0.0000     892 | 0.0000 0.0000±0.0000     266
    0.30-0.35 | 0.0018 0.0016±0.0008     735 | 0.0769 0.0853±0.0073     735 | 0.0066 0.0082±0.0016     735 | 0.0001 0.0000±0.0000     735 | 0.0000 0.0000±0.0000     232
    0.35-0.40 | 0.0055 0.0063±0.0019     619 | 0.1498 0.1628±0.0102     619 | 0.0176 0.0150±0.0023     619 | 0.0002 0.0000±0.0000     619 | 0.0000 0.0000±0.0000     183
    0.40-0.45 | 0.0150 0.0232±0.0051     526 | 0.2631 0.2683±0.0157     526 | 0.0420 0.0464±0.0047     526 | 0.0009 0.0006±0.0004     526 | 0.0001 0.0000±0.0000     176
    0.45-0.50 | 0.0354 0.0407±0.0048     509 | 0.4114 0.4206±0.0072     509 | 0.0880 0.0935±0.0081     509 | 0.0031 0.0031±0.0012     509 | 0.0006 0.0000±0.0000     143
    0.50-0.55 | 0.0743 0.0660±0.0058     541 | 0.5747 0.5723±0.0071     541 | 0.1641 0.1640±0.0062     541 | 0.0087 0.0076±0.0023     541 | 0.0021 0.0007±0.0006     144
    0.55-0.60 | 0.1527 0.1539±0.0098     471 | 0.7522 0.7448±0.0083     471 | 0.2957 0.3042±0.0088     471 | 0.0245 0.0251±0.0042     471 | 0.0069 0.0030±0.0022     131
    0.60-0.65 | 0.2739 0.2818±0.0090     461 | 0.8802 0.8894±0.0097     461 | 0.4645 0.4516±0.0153     461 | 0.0594 0.0614±0.0072     461 | 0.0207 0.0347±0.0091     132
    0.65-0.70 | 0.4597 0.4777±0.0131     515 | 0.9617 0.9668±0.0047     515 | 0.6715 0.6850±0.0074     515 | 0.1381 0.1417±0.0073     515 | 0.0549 0.0545±0.0126     123
    0.70-0.75 | 0.6611 0.6674±0.0113     426 | 0.9912 0.9927±0.0023     426 | 0.8400 0.8533±0.0087     426 | 0.2729 0.2775±0.0089     426 | 0.1309 0.1602±0.0117     111
    0.75-0.80 | 0.8512 0.8579±0.0048     494 | 0.9990 0.9994±0.0004     494 | 0.9514 0.9571±0.0047     494 | 0.4942 0.4957±0.0110     494 | 0.2865 0.3101±0.0294     125
    0.80-0.85 | 0.9613 0.9647±0.0046     468 | 1.0000 1.0000±0.0000     468 | 0.9923 0.9929±0.0025     468 | 0.7495 0.7626±0.0084     468 | 0.5408 0.5100±0.0192     144
    0.85-0.90 | 0.9963 0.9963±0.0013     462 | 1.0000 1.0000±0.0000     462 | 0.9996 0.9998±0.0002     462 | 0.9390 0.9284±0.0090     462 | 0.8163 0.8412±0.0192     151
    0.90-0.95 | 0.9999 1.0000±0.0000     533 | 1.0000 1.0000±0.0000     533 | 1.0000 1.0000±0.0000     533 | 0.9956 0.9925±0.0021     533 | 0.9753 0.9711±0.0048     152
    0.95-1.00 | 1.0000 1.0000±0.0000     524 | 1.0000 1.0000±0.0000     524 | 1.0000 1.0000±0.0000     524 | 1.0000 1.0000±0.0000     524 | 0.9998 1.0000±0.0000     125
    1         | 1.0000 1.0000±0.0000    1156 | 1.0000 1.0000±0.0000    1156 | 1.0000 1.0000±0.0000    1156 | 1.0000 1.0000±0.0000    1156 | 1.0000 1.0000±0.0000     361
    0.25-0.95 | 0.3465 0.3496±0.0020    7652 | 0.5844 0.5875±0.0028    7652 | 0.4129 0.4153±0.0012    7652 | 0.2343 0.2348±0.0020    7652 | 0.1857 0.1884±0.0032    2214
    ");
}

#[test]
fn clusters_are_found_as_surely_as_their_pairs_meet() {
    let truth = Truth::new(Truth::real().texts.clone(), WHITESPACE);
    let mut table = String::new();
    let ways = [
        ("derived", 0.7, json!({"jaccard_threshold": 0.7, "shingle": "whitespace"}), Bands::for_threshold(0.7, 128)),
        ("derived", 0.8, json!({"jaccard_threshold": 0.8, "shingle": "whitespace"}), Bands::for_threshold(0.8, 128)),
        ("derived", 0.9, json!({"jaccard_threshold": 0.9, "shingle": "whitespace"}), Bands::for_threshold(0.9, 128)),
        ("fineweb", 0.75, json!({"jaccard_threshold": 0.75, "shingle": "whitespace", "preset": "fineweb"}), FINEWEB),
    ];
    for (name, threshold, settings, bands) in ways {
        let mut edges = truth.edges(threshold);
        edges.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
        let (component, joining) = components(truth.texts.len(), &edges);
        // Each cluster is held together by its strongest links; every one of them that is missed leaves at most one more row undropped.
        let chance = |edges: &[(usize, usize, f64)]| mean(&edges.iter().map(|edge| bands.share_a_band(edge.2)).collect::<Vec<_>>());
        let (implied, of_pairs, n_duplicates) = (chance(&joining), chance(&edges), joining.len());
        // The first edge of a cluster is its strongest. A cluster is lost whole only if that one is missed.
        let mut strongest: BTreeMap<usize, f64> = BTreeMap::new();
        for (a, _, similarity) in &edges {
            strongest.entry(component[*a]).or_insert(*similarity);
        }
        let missed = |cluster: &usize| 1.0 - bands.share_a_band(strongest[cluster]);
        let (mut recalls, mut lost) = (Vec::new(), Vec::new());
        for seed in 0..N_SEEDS {
            let outcome = dedup(&settings, seed, &truth.texts, CUTS[0]);
            let clusters = clusters(&outcome);
            for (id, row) in &clusters {
                assert_eq!(component[*id], component[row.cluster], "{id} and {} are in one cluster, truly or not", row.cluster);
            }
            let found: BTreeSet<usize> = clusters.keys().map(|id| component[*id]).collect();
            lost.extend(strongest.keys().copied().filter(|cluster| !found.contains(cluster)));
            recalls.push(outcome.dropped().num_rows() as f64 / n_duplicates as f64);
        }
        let (recall, slack) = (mean(&recalls), 4.0 * error(&recalls));
        table += &format!(
            "{name} {threshold}: {} x {}, {n_duplicates} duplicates in {} clusters; recall {recall:.4} ± {:.4}, implied {implied:.4}, of a pair {of_pairs:.4}; {} clusters lost whole in {N_SEEDS} runs, {:.1} expected at most\n",
            bands.bands,
            bands.rows,
            strongest.len(),
            error(&recalls),
            lost.len(),
            strongest.keys().map(missed).sum::<f64>() * N_SEEDS as f64,
        );
        assert!(recall + slack >= implied && recall + slack >= of_pairs, "{table}");
        // Which clusters are lost are coin flips, one a cluster and seed, each with at most that chance: four standard deviations.
        let most: f64 = strongest.keys().map(missed).sum::<f64>() * N_SEEDS as f64;
        assert!(lost.len() as f64 <= most + 4.0 * most.sqrt(), "{table}");
        // And none that is lost once in a million runs.
        let never: Vec<&usize> = lost.iter().filter(|cluster| missed(cluster) < 1e-6).collect();
        assert!(never.is_empty(), "{never:?} lost whole; {table}");
        if name == "derived" {
            assert!(recall >= Bands::FOUND, "{table}");
        }
    }
    insta::assert_snapshot!(table, @"
    derived 0.7: 22 x 5, 1700 duplicates in 571 clusters; recall 0.9994 ± 0.0002, implied 0.9993, of a pair 0.9989; 4 clusters lost whole in 10 runs, 1.9 expected at most
    derived 0.8: 17 x 7, 1461 duplicates in 567 clusters; recall 0.9992 ± 0.0002, implied 0.9992, of a pair 0.9988; 2 clusters lost whole in 10 runs, 1.8 expected at most
    derived 0.9: 11 x 11, 1167 duplicates in 544 clusters; recall 0.9991 ± 0.0002, implied 0.9993, of a pair 0.9989; 3 clusters lost whole in 10 runs, 1.5 expected at most
    fineweb 0.75: 14 x 8, 1587 duplicates in 568 clusters; recall 0.9846 ± 0.0011, implied 0.9840, of a pair 0.9741; 38 clusters lost whole in 10 runs, 39.2 expected at most
    ");
}

/// A passage of its own for each call, and nothing twice.
struct Passages {
    left: Vec<&'static str>,
}

impl Passages {
    fn take(&mut self, n_words: usize) -> Vec<&'static str> {
        self.left.split_off(self.left.len() - n_words)
    }
}

/// Families of graded texts: stars whose leaves are like the centre and not like each other, chains whose links are alike and nothing else
/// is, families that share half of their text with each other. `0` to `at`: how many words differ between two that are still alike.
fn graded(threshold: f64) -> Vec<String> {
    const N: usize = 150;
    // Of n shingles k are other ones: (n - k) / (n + k). A little less, as a word that changes is in five shingles.
    let k = whole(N as f64 * (1.0 - threshold) / (1.0 + threshold)) - 2;
    let edit = k - 4;
    // Only what is one word between white space.
    let is_word = |word: &&&str| word.trim_matches(|end: char| end.is_ascii_punctuation()).chars().all(char::is_alphabetic);
    let mut passages = Passages { left: works()[0].iter().filter(is_word).copied().collect() };
    let mut texts = Vec::new();
    let with = |text: &[&'static str], at: usize, new: Vec<&'static str>| [&text[..at], &new, &text[at + new.len()..]].concat();
    for _ in 0..6 {
        // A~B, A~C, B not~C; and a centre with as many leaves as have room beside each other.
        for n_leaves in [2, N / (k + 6)] {
            let centre = passages.take(N);
            texts.extend((0..n_leaves).map(|leaf| with(&centre, leaf * (k + 6), passages.take(edit))));
            texts.push(centre);
        }
        // A~B~C~D, each a window further on.
        let long = passages.take(N + 5 * k);
        texts.extend((0..5).map(|link| long[link * k..link * k + N].to_vec()));
        // Two families with one first half.
        let half = passages.take(N / 2);
        for _ in 0..2 {
            let centre = [half.clone(), passages.take(N / 2)].concat();
            texts.extend([N / 2, N - edit].map(|at| with(&centre, at, passages.take(edit))));
            texts.push(centre);
        }
    }
    texts.iter().map(|words| words.join(" ")).collect()
}

#[test]
fn graded_families_keep_every_edge_that_exists() {
    for threshold in [0.5, 0.7, 0.9] {
        let mut texts = graded(threshold);
        for seed in 0..4 {
            Random::new(seed).shuffle(&mut texts);
            let truth = Truth::new(texts.clone(), WORDS);
            let component = truth.components(threshold);
            let n_clusters = component.iter().collect::<BTreeSet<_>>().len();
            let edges = truth.edges(threshold);
            // As they were meant: some clusters, all held together by few edges, and pairs in them that are none.
            let inside = (0..texts.len()).flat_map(|b| (0..b).map(move |a| (a, b))).filter(|(a, b)| component[*a] == component[*b]).count();
            assert_eq!((n_clusters, 2 * inside > 3 * edges.len()), (30, true), "{threshold}: {} edges of {inside} pairs", edges.len());
            // Of 64 values one is equal, but for a chance of 0.5^64.
            let settings = json!({"bands": 64, "rows": 1, "jaccard_threshold": threshold});
            for cut in [CUTS[0], Cut { batch_rows: 5, shard_rows: 11, ranges: 3 }] {
                let found = found_components(texts.len(), &clusters(&dedup(&settings, seed, &texts, cut)));
                assert_eq!(differing(&found, &component), [], "threshold {threshold}, order {seed}, {cut:?}");
            }
        }
    }
}

#[test]
fn bands_that_certainly_meet_give_the_components_of_comparing_every_pair() {
    let truth = Truth::real();
    for (threshold, bands) in [(0.7, 40), (0.9, 24)] {
        let settings = json!({"bands": bands, "rows": 1, "jaccard_threshold": threshold});
        let found = found_components(N_DOCS, &clusters(&dedup(&settings, 3, &truth.texts, CUTS[0])));
        assert_eq!(differing(&found, &truth.components(threshold)), [], "{threshold}");
    }
}
