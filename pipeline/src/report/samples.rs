//! Run records for tests: one like those of real runs, and some that are not.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stages::llm::{LlmBudget, LlmFigures, Price, Spent};
use stages::{Beside, Bin, Keeps, Measured, Subject};
use xxhash_rust::xxh3::xxh3_64;

use crate::record::{LlmRecord, Machine, Profile, Published, PublishedPart, RunRecord, Sample, StageRecord, StageTotals, TaskCounts};

/// What [`hostile`] plants in every string.
pub(crate) const PLANTED: &str =
    "<script>alert(1)</script><img src=x onerror=\"alert(2)\">x\"'>&amp;\u{0}\u{1b}[31m\u{202e}\u{2066}\u{7f}\r``` ]]>";

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

pub(crate) fn row(id: &str, text: &str, source: &str) -> Sample {
    Sample {
        order: xxh3_64(id.as_bytes()),
        id: id.to_owned(),
        values: vec![
            ("text".to_owned(), text.to_owned()),
            ("url".to_owned(), format!("https://{source}/{}", id.len())),
            ("source".to_owned(), source.to_owned()),
        ],
        drop_value: None,
        drop_threshold: None,
        duplicate_of: None,
    }
}

/// A bell of lengths about `2^middle`.
fn lengths(rows: u64, middle: f64, width: f64, from: u8) -> BTreeMap<u8, u64> {
    let weight = |k: u8| (-((f64::from(k) - middle) / width).powi(2)).exp();
    let total: f64 = (from..18).map(weight).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers made up for a test")]
    let rows_at = |k: u8| (rows as f64 * weight(k) / total) as u64;
    (from..18).map(|k| (k, rows_at(k))).filter(|(_, n)| *n > 0).collect()
}

fn published(folder: &str, rows: u64) -> Published {
    let n = rows / 100_000 + 1;
    let parts = (0..n).map(|k| PublishedPart { name: format!("part-{k:05}.parquet"), rows: rows / n, bytes: rows / n * 1210 }).collect();
    Published { folder: folder.to_owned(), rows, parts }
}

struct Of<'s> {
    id: &'s str,
    stage_type: &'s str,
    from: &'s [&'s str],
    settings: Value,
    rows_in: u64,
    rows_out: &'s [(&'s str, u64)],
    dropped: &'s [(&'s str, u64)],
    rejected: &'s [(&'s str, u64)],
    busy_seconds: f64,
    peak_bytes: u64,
}

fn stage(of: Of<'_>) -> StageRecord {
    let out = counts(of.rows_out).get("out").copied().unwrap_or_default();
    StageRecord {
        id: of.id.to_owned(),
        stage_type: of.stage_type.to_owned(),
        version: 1,
        fingerprint: format!("{:032x}", u128::from(xxh3_64(of.id.as_bytes())) << 40),
        settings: of.settings,
        files: Vec::new(),
        inputs: if of.from.is_empty() { Vec::new() } else { vec![("from".to_owned(), of.from.iter().map(|&id| id.to_owned()).collect())] },
        notes: Vec::new(),
        views: Vec::new(),
        tags: false,
        makes: false,
        totals: StageTotals {
            rows_in: of.rows_in,
            rows_out: counts(of.rows_out),
            bytes_out: out * 2900,
            nulls: BTreeMap::new(),
            dropped: counts(of.dropped),
            tagged: BTreeMap::new(),
            rejected: counts(of.rejected),
            counted: BTreeMap::new(),
            figures: BTreeMap::new(),
            measured: BTreeMap::new(),
            ran_on: BTreeMap::new(),
            busy_seconds: of.busy_seconds,
            waited_seconds: 0.0,
            peak_bytes: of.peak_bytes,
            profile: Profile::default(),
        },
        published: Vec::new(),
    }
}

const TEXTS: [&str; 5] = [
    "The tide tables for the western harbour were first printed in 1832, and the clerk who set them in type is said to have corrected the Admiralty twice. What survives of his ledger shows the moon's age beside every entry, in a hand that never hurries.\n\nA second column, added later, gives the hour at which the ferry was late.",
    "To proof the dough overnight, keep it between 4 and 6 °C; above that the crust comes out pale and the crumb tears. Flour the cloth, not the dough.",
    "Photosynthesis in C4 plants separates carbon fixation from the Calvin cycle in space: mesophyll cells fix CO2 into oxaloacetate, bundle-sheath cells release it again. Maize and sugar cane do it this way.",
    "في البداية كان هناك نص قصير من اليمين إلى اليسار، ثم جاءت الترجمة.",
    "She had been told the archive closed at five, so at four she asked for the box that nobody asks for.",
];

/// What `dedup_minhash` counts, as of [`web`]: 104,122 of 282,236 rows removed at 0.80, and a band too crowded to compare all its pairs.
fn near_figures() -> BTreeMap<String, BTreeMap<String, u64>> {
    let sizes: [(u64, u64); 13] = [
        (2, 33_614),
        (3, 13_120),
        (4, 2904),
        (5, 1610),
        (6, 1022),
        (8, 611),
        (11, 388),
        (16, 209),
        (24, 120),
        (40, 61),
        (97, 22),
        (310, 6),
        (1204, 3),
    ];
    let sources: [(&str, u64, [u64; 4]); 7] = [
        ("blogs.example.org", 120_110, [61_220, 55_002, 44_870, 30_114]),
        ("wiki.example.net", 101_004, [20_004, 17_230, 13_110, 8209]),
        ("forum.example.com", 30_377, [17_377, 15_044, 11_680, 7123]),
        ("press.example.com", 15_909, [4209, 3877, 3160, 2044]),
        ("books", 14_116, [1035, 871, 640, 311]),
        ("(none)", 520, [197, 150, 101, 61]),
        ("(small ones)", 200, [80, 71, 52, 30]),
    ];
    let removed = sources
        .iter()
        .flat_map(|(source, _, at)| ["0.80", "0.85", "0.90", "0.95"].iter().zip(at).map(move |(t, n)| (format!("{t} {source}"), *n)));
    BTreeMap::from([
        ("cluster_size".to_owned(), sizes.iter().map(|(size, n)| (size.to_string(), *n)).collect()),
        ("not_compared".to_owned(), counts(&[("pairs", 18_204)])),
        ("removed_at".to_owned(), removed.collect()),
        ("rows_of_source".to_owned(), sources.iter().map(|(source, rows, _)| ((*source).to_owned(), *rows)).collect()),
    ])
}

/// The pairs that `dedup_minhash` compared, as of [`web`].
fn similarity() -> Measured {
    let compared = [6, 48, 311, 1904, 7220, 18_114, 31_020, 40_877, 38_102, 35_990, 31_207, 24_480, 16_331, 3120];
    let mut bins: BTreeMap<Bin, [u64; 2]> = BTreeMap::new();
    for (twentieth, pairs) in (7_u32..).zip(compared) {
        let from = f64::from(twentieth) / 20.0;
        // Half of each in the lower half, but for those that are all alike.
        for (at, n) in [(from, pairs / 2), (if twentieth < 20 { from + 0.025 } else { from }, pairs - pairs / 2)] {
            bins.entry(Bin::of(at)).or_default()[usize::from(from < 0.8)] += n;
        }
    }
    Measured {
        what: "Jaccard similarity".to_owned(),
        of: Subject::Pairs,
        bins,
        range: Some([0.35, 1.0]),
        bounds: vec![Beside {
            setting: "jaccard_threshold".to_owned(),
            keeps: Keeps::AtLeast,
            at: 0.8,
            beyond: 137_602,
            widened: [27_114, 36_490],
            tightened: [24_080, 45_117],
        }],
        ..Measured::default()
    }
}

/// The lengths that `filter_length` measured, as of [`web`]: a bell on a log scale, a few empty texts, and a hump of cookie banners.
fn chars() -> Measured {
    let mut measured = Measured { what: "characters of the text".to_owned(), range: Some([0.0, 412_009.0]), ..Measured::default() };
    let weight = |at: f64, middle: f64, width: f64| (-((at.log2() - middle) / width).powi(2)).exp();
    // Short, right, long: what the stage of `web` decided.
    for (from, to, rows, side) in [(1.0, 200.0, 121_078_u64, 1), (200.0, 100_000.0, 268_120, 0), (100_000.0, 412_009.0, 8411, 1)] {
        let mut ats = Vec::new();
        let mut at = from;
        while at < to {
            ats.push(at);
            at = Bin::of(at).to();
        }
        let weight = |at: &f64| 1.6 * weight(*at, 6.1, 0.7) + weight(*at, 9.6, 3.4) - 0.2 * weight(*at, 9.6, 0.2);
        let all: f64 = ats.iter().map(weight).sum();
        let mut left = rows;
        for at in &ats {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers made up for a test")]
            let n = ((weight(at) / all * rows as f64) as u64).min(left);
            left -= n;
            measured.bins.entry(Bin::of(*at)).or_default()[side] += n;
        }
        measured.bins.entry(Bin::of(from.max(2.0))).or_default()[side] += left;
    }
    measured.bins.insert(Bin::of(0.0), [0, 312]);
    let beside = |setting: &str, keeps, at, beyond, widened, tightened| Beside {
        setting: setting.to_owned(),
        keeps,
        at,
        beyond,
        widened,
        tightened,
    };
    measured.bounds = vec![
        beside("min_chars", Keeps::AtLeast, 200.0, 121_390, [2310, 4690], [2408, 4905]),
        beside("max_chars", Keeps::AtMost, 100_000.0, 8411, [401, 812], [517, 1090]),
    ];
    measured
}

/// A web crawl becomes training text: two sources, filters, dedup, a hold-out.
pub(crate) fn web() -> RunRecord {
    let mut pages = stage(Of {
        id: "pages",
        stage_type: "read_jsonl",
        from: &[],
        settings: json!({"path": "data/pages/*.jsonl.zst", "id": null, "schema": "infer"}),
        rows_in: 398_004,
        rows_out: &[("out", 397_961)],
        dropped: &[],
        rejected: &[("bad_json", 31), ("invalid_utf8", 12)],
        busy_seconds: 38.4,
        peak_bytes: 71 << 20,
    });
    pages.notes = vec![
        "the schema was inferred over 10,000 rows: id: Utf8, text: Utf8, url: Utf8, source: Utf8".to_owned(),
        "unknown field `lang_score` in 1,204 rows was left out".to_owned(),
    ];
    pages.totals.profile.lengths = lengths(397_961, 10.2, 2.7, 0);
    pages.totals.profile.sources = counts(&[
        ("blogs.example.org", 181_220),
        ("wiki.example.net", 121_004),
        ("forum.example.com", 61_377),
        ("press.example.com", 31_909),
        ("(none)", 2451),
    ]);
    pages.totals.profile.kept = vec![
        row("pages/a-0001.jsonl.zst@18231", TEXTS[0], "wiki.example.net"),
        row("pages/a-0002.jsonl.zst@99120", TEXTS[1], "blogs.example.org"),
    ];
    pages.published = vec![published("rejected/pages", 43)];

    let mut books = stage(Of {
        id: "books",
        stage_type: "read_parquet",
        from: &[],
        settings: json!({"path": "data/books.parquet", "columns": ["id", "text", "url", "source"]}),
        rows_in: 14_116,
        rows_out: &[("out", 14_116)],
        dropped: &[],
        rejected: &[],
        busy_seconds: 2.1,
        peak_bytes: 64 << 20,
    });
    books.totals.profile.lengths = lengths(14_116, 13.0, 1.6, 6);
    books.totals.profile.sources = counts(&[("books", 14_116)]);

    let mut clean = stage(Of {
        id: "clean",
        stage_type: "filter_length",
        from: &["pages"],
        settings: json!({"min_chars": 200, "max_chars": 100_000}),
        rows_in: 397_961,
        rows_out: &[("out", 268_120), ("dropped", 129_841)],
        dropped: &[("too_short", 121_390), ("too_long", 8411), ("no_text", 40)],
        rejected: &[],
        busy_seconds: 4.8,
        peak_bytes: 44 << 20,
    });
    clean.totals.profile.lengths = lengths(268_120, 10.8, 2.1, 7);
    let short = |id: &str, text: &str, value: f64| Sample {
        drop_value: Some(value),
        drop_threshold: Some(200.0),
        ..row(id, text, "forum.example.com")
    };
    clean.totals.profile.dropped = BTreeMap::from([
        (
            "too_short".to_owned(),
            vec![
                short("pages/b-0007.jsonl.zst@4410", TEXTS[1], 146.0),
                short("pages/a-0003.jsonl.zst@0", "Home | About | Contact", 22.0),
                short("pages/a-0012.jsonl.zst@731", TEXTS[3], 66.0),
            ],
        ),
        (
            "too_long".to_owned(),
            vec![Sample {
                drop_value: Some(412_009.0),
                drop_threshold: Some(100_000.0),
                ..row("pages/c-0001.jsonl.zst@120", &TEXTS[2].repeat(2), "press.example.com")
            }],
        ),
        ("no_text".to_owned(), vec![short("pages/c-0009.jsonl.zst@77", "null", 0.0)]),
    ]);
    clean.totals.measured = [("chars".to_owned(), chars())].into();
    clean.published = vec![published("dropped/clean", 129_841)];

    let all = {
        let mut all = stage(Of {
            id: "all",
            stage_type: "concat",
            from: &["clean", "books"],
            settings: json!({}),
            rows_in: 282_236,
            rows_out: &[("out", 282_236)],
            dropped: &[],
            rejected: &[],
            busy_seconds: 0.1,
            peak_bytes: 12 << 20,
        });
        all.totals.profile.lengths = lengths(282_236, 10.9, 2.2, 6);
        all
    };

    let mut unique = stage(Of {
        id: "unique",
        stage_type: "dedup_minhash",
        from: &["all"],
        settings: json!({"scope": "global", "jaccard_threshold": 0.8, "shingle": {"unit": "word", "n": 5}, "bands": 14, "rows": 8, "survivor": ["source_priority", "order"], "source_priority": ["books", "wiki.example.net"]}),
        rows_in: 282_236,
        rows_out: &[("out", 178_114), ("dropped", 104_122)],
        dropped: &[("duplicate", 63_119), ("near_duplicate", 41_003)],
        rejected: &[],
        busy_seconds: 141.7,
        peak_bytes: 388 << 20,
    });
    unique.totals.profile.lengths = lengths(178_114, 11.1, 2.1, 6);
    unique.totals.profile.dropped = BTreeMap::from([
        (
            "near_duplicate".to_owned(),
            vec![Sample {
                drop_value: Some(0.914),
                drop_threshold: Some(0.8),
                duplicate_of: Some("pages/a-0001.jsonl.zst@18231".to_owned()),
                ..row("pages/d-0021.jsonl.zst@5522", TEXTS[0], "blogs.example.org")
            }],
        ),
        ("duplicate".to_owned(), vec![Sample { duplicate_of: Some("books@311".to_owned()), ..row("books@8120", TEXTS[4], "books") }]),
    ]);
    unique.totals.figures = near_figures();
    unique.totals.measured = [("similarity".to_owned(), similarity())].into();
    unique.published = vec![published("dropped/unique", 104_122)];

    let mut split = stage(Of {
        id: "sft",
        stage_type: "split_holdout",
        from: &["unique"],
        settings: json!({"fraction": 0.02, "group": "url"}),
        rows_in: 178_114,
        rows_out: &[("out", 174_540), ("holdout", 3574)],
        dropped: &[],
        rejected: &[],
        busy_seconds: 1.9,
        peak_bytes: 31 << 20,
    });
    split.totals.profile.lengths = lengths(174_540, 11.1, 2.1, 6);
    split.totals.profile.sources = counts(&[
        ("blogs.example.org", 70_120),
        ("wiki.example.net", 69_002),
        ("forum.example.com", 11_377),
        ("press.example.com", 10_909),
        ("(none)", 51),
        ("books", 13_081),
    ]);
    split.totals.profile.kept = TEXTS
        .iter()
        .enumerate()
        .map(|(i, text)| row(&format!("pages/a-000{i}.jsonl.zst@{}", 1000 + i * 7331), text, "wiki.example.net"))
        .collect();
    split.published = vec![published("sft", 174_540), published("sft.holdout", 3574)];

    let stats = {
        let mut stats = stage(Of {
            id: "per_source",
            stage_type: "sql",
            from: &["unique"],
            settings: json!({"query": "SELECT source, count(*) AS n\nFROM self\nGROUP BY source\nORDER BY source"}),
            rows_in: 178_114,
            rows_out: &[("out", 6)],
            dropped: &[],
            rejected: &[],
            busy_seconds: 0.7,
            peak_bytes: 9 << 20,
        });
        stats.published = vec![published("per_source", 6)];
        stats
    };
    RunRecord {
        granary: "0.1.0".to_owned(),
        name: "web-sft".to_owned(),
        file: "web.yaml".to_owned(),
        recipe: "version: 1\nname: web-sft\nseed: 7\noutput: out/web-sft\nstages:\n  pages:  {use: read_jsonl, path: \"data/pages/*.jsonl.zst\"}\n  books:  {use: read_parquet, path: data/books.parquet}\n  clean:  {use: filter_length, from: pages, min_chars: 200, max_chars: 100000}\n  all:    {use: concat, from: [clean, books]}\n  unique: {use: dedup_minhash, from: all, scope: global, jaccard_threshold: 0.8}\n  sft:    {use: split_holdout, from: unique, fraction: 0.02, group: url}\n  per_source: {use: sql, from: unique, query: \"SELECT source, count(*) AS n FROM self GROUP BY source ORDER BY source\"}\n".to_owned(),
        seed: 7,
        state: "done".to_owned(),
        error: None,
        started: "2026-03-02T21:14:09Z".to_owned(),
        wall_seconds: 61.3,
        cpu_seconds: 191.9,
        peak_memory_bytes: 1_430 << 20,
        tasks: TaskCounts { done: 91, reused: 14 },
        threads: 4,
        memory_bytes: 4 << 30,
        machine: Machine { cores: 8, os: "linux".to_owned(), arch: "x86_64".to_owned() },
        device: None,
        answers: None,
        llms: BTreeMap::new(),
        stages: vec![pages, books, clean, all, unique, split, stats],
    }
}

/// Questions about parts of texts, and answers to them, from a model.
pub(crate) fn trees() -> RunRecord {
    let mut record = web();
    "augcon".clone_into(&mut record.name);
    let asked = |answers: u64, again: u64, prompt: u64, completion: u64| {
        let by_model = |n: u64| counts(&[("local", n)]);
        let mut figures = BTreeMap::from([
            ("answers".to_owned(), by_model(answers)),
            ("prompt_tokens".to_owned(), by_model(prompt)),
            ("completion_tokens".to_owned(), by_model(completion)),
        ]);
        if again > 0 {
            figures.insert("asked_again".to_owned(), by_model(again));
        }
        figures
    };
    let plain = |id: &'static str, stage_type: &'static str, from: &'static [&'static str], rows_in: u64, out: u64| {
        stage(Of {
            id,
            stage_type,
            from,
            settings: json!({}),
            rows_in,
            rows_out: &[],
            dropped: &[],
            rejected: &[],
            busy_seconds: 0.2,
            peak_bytes: 40_000,
        })
        .with_out(out)
    };
    let articles = plain("articles", "read_jsonl", &[], 3, 3);
    let mut tree = plain("tree", "split_context", &["articles"], 3, 31);
    (tree.totals.figures, tree.totals.waited_seconds) = (asked(1204, 96, 310_417, 31_004), 61.0);
    tree.totals.rejected = counts(&[("unusable_answer", 2)]);
    tree.published = vec![published("tree", 31)];
    let mut unlike = plain("unlike", "filter_similar", &["tree"], 31, 24);
    unlike.totals.dropped = counts(&[("similar", 7)]);
    unlike.published = vec![published("dropped/unlike", 7)];
    let mut sft = plain("sft", "answer_queries", &["unlike"], 24, 24);
    (sft.totals.figures, sft.totals.waited_seconds) = (asked(24, 0, 9_000, 2_400), 20.0);
    sft.published = vec![published("sft", 24)];
    record.stages = vec![articles, tree, unlike, sft];
    let figures = LlmFigures {
        requests: 1241,
        answers: 1228,
        stored: 0,
        retries: 11,
        throttled: 2,
        prompt_tokens: 319_417,
        completion_tokens: 33_404,
        cost: 0.0654,
        spent: Spent { requests: 1241, tokens: 352_821, cost: 0.0654 },
        ..LlmFigures::default()
    };
    let local = LlmRecord {
        model: "smollm2-135m-instruct".to_owned(),
        revision: Some("2025-01".to_owned()),
        identity: String::new(),
        price: Some(Price { prompt: 0.1, completion: 1.0 }),
        budget: LlmBudget { max_requests: Some(2000), max_tokens: None, max_cost: Some(5.0) },
        warnings: vec!["http://models.example/v1 is reached without TLS: whoever is between reads all".to_owned()],
        figures,
    };
    record.llms = BTreeMap::from([("local".to_owned(), local)]);
    record.answers = Some("/data/out/.answers".to_owned());
    record
}

impl StageRecord {
    fn with_out(mut self, rows: u64) -> Self {
        self.totals.rows_out = counts(&[("out", rows)]);
        self
    }
}

/// Sources, unions and chains of many stages; edges that cross layers.
pub(crate) fn wide(n: usize) -> RunRecord {
    let mut record = web();
    record.stages = (0..n)
        .map(|i| {
            let ids: Vec<String> = match i {
                0 => Vec::new(),
                i if i % 9 == 4 => Vec::new(),
                i if i % 9 == 5 => vec![format!("step_{}", i - 1), format!("step_{}", i / 2), "step_0".to_owned()],
                i if i % 7 == 3 => vec![format!("step_{}.dropped", i - 2)],
                i => vec![format!("step_{}", i - 1 - usize::from(i % 4 == 2 && i > 2))],
            };
            let from: Vec<&str> = ids.iter().map(String::as_str).collect();
            let rows = 100_000 / (i as u64 + 1);
            stage(Of {
                id: &format!("step_{i}"),
                stage_type: "filter_length",
                from: &from,
                settings: json!({"n": i}),
                rows_in: rows,
                rows_out: &[("out", rows * 9 / 10), ("dropped", rows / 10)],
                dropped: if i % 2 == 1 { &[("too_short", 900), ("too_long", 70), ("odd", 3), ("even", 1)] } else { &[] },
                rejected: if i % 5 == 1 { &[("bad_json", 5)] } else { &[] },
                busy_seconds: 0.1 * i as f64,
                peak_bytes: 1 << 20,
            })
        })
        .collect();
    record
}

/// A run that failed before it published anything.
pub(crate) fn failed() -> RunRecord {
    let mut record = web();
    record.state = "failed".to_owned();
    record.error = Some(
        "stage `unique` (dedup_minhash), shard 11: can't write .pipeline/spill/unique-11.arrow: No space left on device (os error 28)"
            .to_owned(),
    );
    record.stages.truncate(5);
    record
}

/// A run without stages.
pub(crate) fn empty() -> RunRecord {
    let mut record = web();
    record.stages.clear();
    record.recipe.clear();
    record.wall_seconds = 0.0;
    record
}

/// Figures that no stage gives: counts that overflow when added, names that are no numbers, and thousands of sources.
pub(crate) fn extreme_figures() -> BTreeMap<String, BTreeMap<String, u64>> {
    let most = u64::MAX.to_string();
    let odd = [
        "",
        " ",
        "NaN",
        "inf",
        "-1",
        "1e300",
        "0",
        "1",
        "0.7",
        "0.701",
        "99999999999999999999",
        "0.70",
        "1.00",
        "2",
        &most,
        "0.00 ",
        "1.00 x",
    ];
    let counted = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), u64::MAX)).collect::<BTreeMap<_, _>>();
    let sources: BTreeMap<String, u64> = (0..3000).map(|i| (format!("source {i}"), u64::MAX - i)).collect();
    let mut removed = counted(&odd);
    removed.extend(sources.keys().enumerate().map(|(i, source)| (format!("{:.2} {source}", (i % 101) as f64 / 100.0), u64::MAX)));
    BTreeMap::from([
        ("cluster_size".to_owned(), counted(&odd)),
        ("not_compared".to_owned(), counted(&["pairs", "rows", ""])),
        ("removed_at".to_owned(), removed),
        ("rows_of_source".to_owned(), sources),
        ("empty".to_owned(), BTreeMap::new()),
        (String::new(), counted(&odd)),
    ])
}

/// Numbers that no stage gives: bins and counts at their ends, bounds that are no numbers or nowhere near.
pub(crate) fn extreme_measures() -> BTreeMap<String, Measured> {
    let bound = |at: f64| Beside {
        setting: "x".repeat(300),
        keeps: if at > 0.0 { Keeps::AtMost } else { Keeps::AtLeast },
        at,
        beyond: u64::MAX,
        widened: [u64::MAX; 2],
        tightened: [u64::MAX; 2],
    };
    let bounds: Vec<Beside> = [0.0, -0.0, 1e-300, 1e300, f64::MAX, f64::MIN, -1.0].map(bound).into();
    let of = |numbers: &[f64], of: Subject| Measured {
        what: String::new(),
        of,
        bins: numbers.iter().map(|number| (Bin::of(*number), [u64::MAX; 2])).collect(),
        not_a_number: u64::MAX,
        range: Some([f64::MIN, f64::MAX]),
        bounds: bounds.clone(),
    };
    BTreeMap::from([
        (String::new(), of(&[f64::MIN, -1.0, 0.0, 1.0, f64::MAX], Subject::Rows)),
        ("one".to_owned(), of(&[0.0], Subject::Rows)),
        ("none".to_owned(), of(&[], Subject::Rows)),
        ("positive".to_owned(), of(&[0.0, 1e-6, f64::MAX], Subject::Rows)),
        ("pairs".to_owned(), of(&[1e-6, 1.0], Subject::Pairs)),
    ])
}

/// A run with [`PLANTED`] in every string, names of fields excepted.
pub(crate) fn hostile() -> RunRecord {
    let mut value = serde_json::to_value(web()).expect("a record serializes");
    plant(&mut value, "");
    let mut record: RunRecord = serde_json::from_value(value).expect("it is still a record");
    for stage in &mut record.stages {
        // As keys of a known figure they are names; a figure of its own stands in for what no part of the page knows.
        let figures = &mut stage.totals.figures;
        if let Some(sizes) = figures.get_mut("cluster_size") {
            sizes.insert(format!("2{PLANTED}"), 2);
        }
        figures.insert(format!("odd{PLANTED}"), counts(&[(PLANTED, 3)]));
        for sample in stage.totals.profile.kept.iter_mut().chain(stage.totals.profile.dropped.values_mut().flatten()) {
            sample.values.iter_mut().for_each(|(name, _)| name.push_str(PLANTED));
        }
    }
    record
}

fn plant(value: &mut Value, key: &str) {
    match value {
        Value::String(_) if matches!(key, "of" | "keeps") => {}
        Value::String(text) => text.push_str(PLANTED),
        Value::Array(items) => items.iter_mut().for_each(|item| plant(item, key)),
        Value::Object(map) => {
            let is_data =
                matches!(key, "rows_out" | "dropped" | "rejected" | "sources" | "settings" | "removed_at" | "rows_of_source" | "measured");
            let old = std::mem::take(map);
            for (name, mut value) in old {
                plant(&mut value, &name);
                map.insert(if is_data { format!("{name}{PLANTED}") } else { name }, value);
            }
        }
        _ => {}
    }
}
