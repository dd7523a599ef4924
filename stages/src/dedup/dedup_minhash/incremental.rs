//! Runs one after the other with one index, held against what `docs/incremental.md` says is kept, by comparing every pair.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, UInt64Type};
use serde_json::{Value, json};

use super::{CLUSTERS, DedupMinhashConfig, EDGES};
use crate::dedup::minhash::exam::{documents, works};
use crate::dedup::minhash::shingle::{ShingleUnit, Shingler, Shingles, jaccard, mix};
use crate::testing::{self, Built, CUTS, Cut, Outcome};
use crate::{Port, StageError};

/// A row: its id, text and source.
type Row = (String, String, String);

/// So many bands of one row that every pair worth a look shares one.
fn settings(index: &Path) -> Value {
    json!({"bands": 40, "rows": 1, "jaccard_threshold": 0.7, "index": index.to_str().unwrap()})
}

fn with(mut settings: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

fn batch(rows: &[Row]) -> RecordBatch {
    testing::strings(&[
        ("id", rows.iter().map(|row| Some(row.0.as_str())).collect()),
        ("text", rows.iter().map(|row| Some(row.1.as_str())).collect()),
        ("source", rows.iter().map(|row| Some(row.2.as_str())).collect()),
    ])
}

/// Texts whose ids are their first letters.
fn rows(texts: &[(&str, &str)]) -> Vec<Row> {
    texts.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned(), "s".to_owned())).collect()
}

fn built(settings: &Value) -> Result<Built, StageError> {
    testing::build::<DedupMinhashConfig>(settings.clone(), vec![(Port::FROM, batch(&[]).schema())])
}

/// One run, which adds what it keeps.
fn add(settings: &Value, rows: &[Row], cut: Cut) -> Result<Outcome, StageError> {
    let built = built(settings)?;
    let outcome = testing::run_stage(&built, &[(Port::FROM, batch(rows))], cut)?;
    testing::publish(&built)?;
    Ok(outcome)
}

fn run(settings: &Value, rows: &[Row]) -> Outcome {
    add(settings, rows, CUTS[0]).unwrap_or_else(|error| panic!("{error}"))
}

fn kept(outcome: &Outcome) -> Vec<String> {
    testing::column(outcome.rows(), "id")
}

fn duplicates(outcome: &Outcome) -> BTreeMap<String, String> {
    let dropped = outcome.dropped();
    testing::column(dropped, "id").into_iter().zip(testing::column(dropped, "duplicate_of")).collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(row, kept)| ((*row).to_owned(), (*kept).to_owned())).collect()
}

fn set(text: &str, unit: ShingleUnit, n: usize) -> Vec<u64> {
    let mut cut = Shingles::default();
    Shingler { unit, n }.cut(text, &mut cut);
    cut.set()
}

fn words(seed: u64, n: u64) -> Vec<String> {
    (0..n).map(|word| format!("w{:x}", mix(mix(seed).wrapping_add(word)) >> 40)).collect()
}

/// `words` with those at some places replaced.
fn changed(words: &[String], at: &[usize], seed: u64) -> Vec<String> {
    words.iter().enumerate().map(|(place, word)| if at.contains(&place) { format!("x{seed}y{place}") } else { word.clone() }).collect()
}

/// What an index holds, by comparing every pair: ids, sources and shingles in the order in which they were added.
#[derive(Default)]
struct Truth {
    indexed: Vec<(String, String, Vec<u64>)>,
}

impl Truth {
    /// What is kept of `rows`, and of the others the rows that they may be duplicates of.
    fn add(&mut self, rows: &[Row], threshold: f64, local: bool) -> (Vec<String>, BTreeMap<String, BTreeSet<String>>) {
        let sets: Vec<Vec<u64>> = rows.iter().map(|row| set(&row.1, ShingleUnit::Words, 5)).collect();
        let alike = |a: &[u64], b: &[u64]| jaccard(a, b) >= threshold;
        let mut label: Vec<usize> = (0..rows.len()).collect();
        for a in 0..rows.len() {
            for b in a + 1..rows.len() {
                if (!local || rows[a].2 == rows[b].2) && alike(&sets[a], &sets[b]) {
                    let (keep, gone) = (label[a].min(label[b]), label[a].max(label[b]));
                    label.iter_mut().filter(|label| **label == gone).for_each(|label| *label = keep);
                }
            }
        }
        let mut old: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            let linked = self.indexed.iter().filter(|(_, source, set)| (!local || *source == row.2) && alike(&sets[at], set));
            old.entry(label[at]).or_default().extend(linked.map(|(id, ..)| id.clone()));
        }
        let (mut kept, mut dropped) = (Vec::new(), BTreeMap::new());
        for (at, row) in rows.iter().enumerate() {
            let old = &old[&label[at]];
            if old.is_empty() && label[at] == at {
                kept.push(row.0.clone());
                if !sets[at].is_empty() {
                    self.indexed.push((row.0.clone(), row.2.clone(), sets[at].clone()));
                }
            } else {
                let of = if old.is_empty() { [rows[label[at]].0.clone()].into() } else { old.clone() };
                dropped.insert(row.0.clone(), of);
            }
        }
        (kept, dropped)
    }
}

/// Passages of the samples and edited copies of them, in three batches across which families lie.
fn months(seed: u64) -> Vec<Vec<Row>> {
    let texts = documents(seed, &works(), 750, 250.0);
    let row = |(at, text): (usize, &String)| (format!("d{at}"), text.clone(), ["p", "q", "r"][at * at % 3].to_owned());
    texts.iter().enumerate().map(row).collect::<Vec<_>>().chunks(250).map(<[Row]>::to_vec).collect()
}

#[test]
fn what_is_kept_is_what_comparing_every_pair_keeps() {
    for (scope, seed) in [("global", 1), ("local", 2)] {
        let place = tempfile::tempdir().unwrap();
        let cuts = [CUTS[0], Cut { batch_rows: 7, shard_rows: 40, ranges: 5 }, Cut { batch_rows: 50, shard_rows: 1, ranges: 3 }];
        let index = |cut: usize| with(settings(&place.path().join(format!("index{cut}"))), &json!({"scope": scope}));
        let (mut truth, mut indexed) = (Truth::default(), 0);
        for month in months(seed) {
            let outcome = add(&index(0), &month, cuts[0]).unwrap_or_else(|error| panic!("{error}"));
            let (expected, of) = truth.add(&month, 0.7, scope == "local");
            assert_eq!(kept(&outcome), expected);
            for (row, kept) in duplicates(&outcome) {
                assert!(of[&row].contains(&kept), "{row} of {kept}, wanted one of {:?}", of[&row]);
                indexed += usize::from(month.iter().all(|(id, ..)| *id != kept));
            }
            for (number, cut) in cuts.iter().enumerate().skip(1) {
                let other = add(&index(number), &month, *cut).unwrap_or_else(|error| panic!("{error}"));
                for port in [Port::OUT, Port::DROPPED, CLUSTERS, EDGES] {
                    assert_eq!(other.port(&port), outcome.port(&port), "{port} when cut as {cut:?}");
                }
            }
        }
        assert!(indexed > 50, "{indexed} duplicates of indexed rows");
    }
}

#[test]
fn clusters_and_edges_lead_to_indexed_rows() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place.path().join("index"));
    let months = months(3);
    let mut texts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut old: Vec<String> = Vec::new();
    let mut chains = 0;
    for month in &months {
        texts.extend(month.iter().map(|row| (row.0.clone(), set(&row.1, ShingleUnit::Words, 5))));
        let outcome = run(&settings, month);
        let clusters = outcome.port(&CLUSTERS);
        let column = |name: &str| testing::column(clusters, name);
        let (ids, cluster, next) = (column("id"), column("cluster"), column("linked_to"));
        let sizes = clusters.column_by_name("size").unwrap().as_primitive::<UInt64Type>();
        let similarity = clusters.column_by_name("similarity").unwrap().as_primitive::<Float64Type>();
        assert!(ids.iter().all(|id| !old.contains(id)), "indexed rows have no row of their own");
        let duplicates = duplicates(&outcome);
        for at in 0..ids.len() {
            let members = cluster.iter().filter(|other| **other == cluster[at]).count() + usize::from(old.contains(&cluster[at]));
            assert_eq!(sizes.value(at), members as u64, "{} in {}", ids[at], cluster[at]);
            if next[at].is_empty() {
                continue;
            }
            assert_eq!(duplicates[&ids[at]], cluster[at]);
            let alike = jaccard(&texts[&ids[at]], &texts[&next[at]]);
            assert!(alike >= 0.7 && (alike - similarity.value(at)).abs() < 1e-9, "{} to {}: {alike}", ids[at], next[at]);
            if old.contains(&next[at]) {
                // Of the indexed rows that it is like, the one it is most like; the one added first.
                let best = old.iter().map(|id| (id, jaccard(&texts[&ids[at]], &texts[id]))).rev().max_by(|a, b| a.1.total_cmp(&b.1));
                assert_eq!(best.map(|best| best.0), Some(&next[at]));
                assert_eq!(cluster[at], next[at]);
            } else {
                let there = ids.iter().position(|id| *id == next[at]).unwrap();
                assert_eq!(cluster[there], cluster[at]);
                chains += usize::from(old.contains(&cluster[at]));
            }
        }
        let edges = outcome.port(&EDGES);
        for (a, b) in testing::column(edges, "a").iter().zip(testing::column(edges, "b")) {
            assert!(!old.contains(&b) && jaccard(&texts[a], &texts[&b]) >= 0.7, "{a} – {b}");
        }
        old.extend(kept(&outcome).into_iter().filter(|id| !texts[id].is_empty()));
    }
    assert!(chains > 3, "{chains} rows hang on an indexed one by another");
}

#[test]
fn a_chain_to_an_indexed_row_is_followed_and_dropped_rows_are_not_indexed() {
    let base = words(1, 120);
    let near = changed(&base, &[20], 1);
    let far = changed(&near, &[50, 80], 2);
    let row = |id: &str, words: &[String]| (id.to_owned(), words.join(" "), "s".to_owned());
    let place = tempfile::tempdir().unwrap();
    let index = |name: &str| with(settings(&place.path().join(name)), &json!({"jaccard_threshold": 0.8}));
    // Both at once: the one hangs on the indexed row by the other.
    assert_eq!(kept(&run(&index("a"), &[row("old", &base)])), ["old"]);
    let both = run(&index("a"), &[row("far", &far), row("near", &near)]);
    assert_eq!(duplicates(&both), pairs(&[("far", "old"), ("near", "old")]));
    assert_eq!(testing::column(both.port(&CLUSTERS), "linked_to"), ["near", "old"]);
    assert_eq!(testing::column(both.port(&CLUSTERS), "size"), ["3", "3"]);
    // One after the other: what it is like was dropped, and nothing like it was kept.
    run(&index("b"), &[row("old", &base)]);
    assert_eq!(duplicates(&run(&index("b"), &[row("near", &near)])), pairs(&[("near", "old")]));
    assert_eq!(kept(&run(&index("b"), &[row("far", &far)])), ["far"]);
}

#[test]
fn of_two_indexed_rows_the_nearer_counts_and_of_equally_near_ones_the_earlier() {
    let base = words(2, 120);
    let row = |id: &str, at: &[usize]| (id.to_owned(), changed(&base, at, 3).join(" "), "s".to_owned());
    for turned in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let index = with(settings(&place.path().join("index")), &json!({"jaccard_threshold": 0.8}));
        // 0.71 like each other, and 0.84 like the row between them.
        let (first, second) = (row("a", &[20, 40]), row("b", &[80, 100]));
        let [first, second] = if turned { [second, first] } else { [first, second] };
        run(&index, std::slice::from_ref(&first));
        assert_eq!(kept(&run(&index, std::slice::from_ref(&second))), std::slice::from_ref(&second.0));
        let between = run(&index, &[row("c", &[]), row("d", &[80])]);
        // The second one is nearer to `b`, whichever was added first.
        assert_eq!(duplicates(&between), pairs(&[("c", &first.0), ("d", "b")]));
        let edges = between.port(&EDGES);
        let linked: Vec<_> = testing::column(edges, "a").into_iter().zip(testing::column(edges, "b")).collect();
        assert!(linked.contains(&("a".to_owned(), "c".to_owned())) && linked.contains(&("b".to_owned(), "c".to_owned())), "{linked:?}");
    }
}

#[test]
fn indexed_rows_win_whatever_is_preferred() {
    let place = tempfile::tempdir().unwrap();
    let of = |id: &str, text: &str, source: &str| (id.to_owned(), text.to_owned(), source.to_owned());
    let index = with(settings(&place.path().join("index")), &json!({"source_priority": ["best"], "survivor": "longest"}));
    // The one that is kept is not the first of its text in the shard, whose band keys were written.
    let first = run(&index, &[of("a", "one two three", "worst"), of("b", "One, two,   three!", "best"), of("n", " . ", "best")]);
    assert_eq!(kept(&first), ["b", "n"]);
    let next = run(&index, &[of("c", "one two three", "best"), of("d", "One,   two,    three ...", "best"), of("m", "?", "best")]);
    assert_eq!(duplicates(&next), pairs(&[("c", "b"), ("d", "b")]));
    assert_eq!(kept(&next), ["m"], "a text without words is never a duplicate");
    let measured = testing::column(next.dropped(), "drop_value");
    assert_eq!(measured, ["1.0", "1.0"]);
}

#[test]
fn sources_are_kept_apart_where_they_are_to_be() {
    let of = |id: &str, text: &str, source: &str| (id.to_owned(), text.to_owned(), source.to_owned());
    let place = tempfile::tempdir().unwrap();
    let index = with(settings(&place.path().join("index")), &json!({"scope": "local"}));
    run(&index, &[of("a", "one two three", "x"), of("b", "one two three", "y")]);
    let next = run(&index, &[of("c", "One two three", "y"), of("d", "one two three", "z"), of("e", "one two three", "x")]);
    assert_eq!(duplicates(&next), pairs(&[("c", "b"), ("e", "a")]));
}

#[test]
fn without_verification_a_band_in_common_is_enough() {
    for more in [json!({"verify": "none"}), json!({"preset": "slimpajama", "bands": 40, "rows": 1})] {
        let place = tempfile::tempdir().unwrap();
        let index = with(settings(&place.path().join("index")), &more);
        let base = words(4, 120);
        let half = [&base[..60], &words(5, 60)].concat();
        let texts = [("old", base.join(" ")), ("half", half.join(" ")), ("equal", base.join("  ")), ("other", words(6, 99).join(" "))];
        let row = |at: usize| (texts[at].0.to_owned(), texts[at].1.clone(), "s".to_owned());
        run(&index, &[row(0)]);
        let next = run(&index, &[row(1), row(2), row(3)]);
        assert_eq!(duplicates(&next), pairs(&[("half", "old"), ("equal", "old")]), "{more}");
        assert_eq!(testing::column(next.dropped(), "drop_value"), ["", "1.0"], "{more}");
    }
}

#[test]
fn a_repeated_run_decides_as_it_did_and_adds_nothing() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place.path().join("index"));
    let months = months(4);
    let first: Vec<Outcome> = months.iter().map(|month| run(&settings, month)).collect();
    let before = files(&place.path().join("index"));
    assert_eq!(before.keys().filter(|name| name.ends_with("segment.json")).count(), 3);
    for (month, first) in months.iter().zip(&first) {
        let again = run(&settings, month);
        assert_eq!((again.rows(), again.dropped()), (first.rows(), first.dropped()));
    }
    assert_eq!(files(&place.path().join("index")), before);
}

#[test]
fn of_two_runs_at_once_the_slower_one_is_told_and_decides_anew() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(&place.path().join("index"));
    let months = months(5);
    run(&settings, &months[0]);
    let (one, other) = (built(&settings).unwrap(), built(&settings).unwrap());
    testing::run_stage(&one, &[(Port::FROM, batch(&months[1]))], CUTS[0]).unwrap();
    testing::run_stage(&other, &[(Port::FROM, batch(&months[2]))], CUTS[0]).unwrap();
    testing::publish(&one).unwrap();
    let error = testing::publish(&other).unwrap_err().to_string();
    assert!(error.contains("another run has added rows since this one looked") && error.contains("run again"), "{error}");
    let again = run(&settings, &months[2]);
    let mut truth = Truth::default();
    months[..2].iter().for_each(|month| drop(truth.add(month, 0.7, false)));
    assert_eq!(kept(&again), truth.add(&months[2], 0.7, false).0);
    let index = files(&place.path().join("index"));
    assert_eq!(index.keys().filter(|name| name.ends_with("segment.json")).count(), 3, "what the slower one wrote first is gone");
}

fn refused(settings: &Value) -> String {
    testing::refusal::<DedupMinhashConfig>(settings.clone(), &[(Port::FROM, batch(&[]))])
}

#[test]
fn an_index_made_otherwise_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let index = place.path().join("index");
    run(&settings(&index), &rows(&[("a", "one two three")]));
    for (more, differs) in [
        (json!({"ngram": 6}), "`ngram: 5`, the stage has 6"),
        (json!({"shingle": "characters"}), "`shingle: \"words\"`, the stage has \"characters\""),
        (json!({"bands": 41}), "`bands: 40`, the stage has 41"),
        (json!({"rows": 2}), "`rows: 1`, the stage has 2"),
        (json!({"scope": "local"}), "`scope: \"global\"`, the stage has \"local\""),
        (json!({"verify": "none"}), "`verify: \"jaccard\"`, the stage has \"none\""),
        (json!({"preset": "slimpajama"}), "`signatures: \"granary\"`, the stage has \"slimpajama\""),
    ] {
        let error = refused(&with(settings(&index), &more));
        assert!(error.starts_with("index: the index ") && error.contains(differs), "{error}");
    }
    assert!(built(&with(settings(&index), &json!({"jaccard_threshold": 0.9}))).is_ok(), "the threshold may differ");
    let error = refused(&with(settings(&index), &json!({"scope": "both"})));
    assert_eq!(error, "index: wanted no index with `scope: both`, which drops nothing: there is nothing to add to it");
    assert!(refused(&json!({"index": ""})).starts_with("index: wanted a folder or an address"));
    assert!(refused(&json!({"index": "gs://x/y"})).starts_with("index: `gs://` is not supported"));
    std::fs::write(place.path().join("file"), "x").unwrap();
    assert!(refused(&settings(&place.path().join("file"))).starts_with("index: "));
}

/// All files below a folder, but for the lock.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if !entry.ends_with("index.lock") {
                let name = entry.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&entry).unwrap());
            }
        }
    }
    files
}

fn copy(files: &BTreeMap<String, Vec<u8>>, to: &Path) -> PathBuf {
    for (name, bytes) in files {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    to.to_owned()
}

#[test]
fn a_damaged_index_is_an_error_and_never_another_result() {
    let place = tempfile::tempdir().unwrap();
    let texts: Vec<Row> =
        documents(6, &works(), 60, 60.0).into_iter().enumerate().map(|(at, text)| (format!("d{at}"), text, "s".to_owned())).collect();
    run(&settings(&place.path().join("index")), &texts[..30]);
    let whole = files(&place.path().join("index"));
    assert_eq!(whole.len(), 4, "{:?}", whole.keys());
    let mut tries = 0;
    let mut attempt = |files: &BTreeMap<String, Vec<u8>>| {
        tries += 1;
        let folder = copy(files, &place.path().join(format!("try{tries}")));
        let outcome = add(&settings(&folder), &texts[30..], CUTS[0]);
        std::fs::remove_dir_all(folder).unwrap();
        outcome
    };
    let undisturbed = attempt(&whole).unwrap_or_else(|error| panic!("{error}"));
    assert!(undisturbed.dropped().num_rows() > 3);
    let mut refused = 0;
    for (name, bytes) in &whole {
        let mut broken: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new()), Some(bytes[..bytes.len() - 1].to_vec())];
        broken.push(Some([bytes.as_slice(), b"x"].concat()));
        broken.extend((0..40).map(|turn| {
            let mut changed = bytes.clone();
            changed[bytes.len() * turn / 40] ^= 1 << (turn % 8);
            Some(changed)
        }));
        for broken in broken {
            let mut files = whole.clone();
            files.remove(name);
            let is_gone = broken.is_none();
            if let Some(broken) = broken {
                files.insert(name.clone(), broken);
            }
            match attempt(&files) {
                Err(StageError::Index { problem, .. } | StageError::Setting { problem, .. }) => {
                    assert!(problem.contains("damaged"), "{problem}");
                    refused += 1;
                }
                Err(error) => panic!("{name}: {error}"),
                // Without a manifest there is no index; and what is not read need not be whole.
                Ok(_) if is_gone && name == "index.json" => {}
                Ok(outcome) => {
                    assert_eq!((outcome.rows(), outcome.dropped()), (undisturbed.rows(), undisturbed.dropped()), "{name}");
                }
            }
        }
    }
    assert!(refused > 100, "{refused} refused");
}

#[test]
fn a_row_whose_length_has_changed_is_damage_and_not_another_row() {
    let base = words(7, 120);
    let row = |id: &str, words: &[String]| (id.to_owned(), words.join(" "), "s".to_owned());
    let place = tempfile::tempdir().unwrap();
    run(&settings(&place.path().join("index")), &[row("a", &base), row("b", &words(8, 120))]);
    let whole = files(&place.path().join("index"));
    let (name, bytes) = whole.iter().find(|(name, _)| name.contains("/rows-")).unwrap();
    let (records, n) = (bytes.len() - 48, bytes.len());
    // As a disk leaves what it lost: all of it, the records, the first record, the second; and another number of shingles.
    for (at, lost) in [0..n, records..n, records..records + 24, records + 24..n, records + 8..records + 9].into_iter().enumerate() {
        let mut broken = whole.clone();
        let bytes = broken.get_mut(name).unwrap();
        let length = lost.len();
        bytes[lost].iter_mut().for_each(|byte| *byte = if length == 1 { *byte / 2 } else { 0 });
        let index = copy(&broken, &place.path().join(format!("try{at}")));
        let near = [row("c", &changed(&base, &[20], 1)), row("d", &changed(&words(8, 120), &[20], 2))];
        let error = add(&settings(&index), &near, CUTS[0]).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains("the index is damaged: row ")), "{at}: {error:?}");
    }
}

#[test]
fn an_equal_text_is_found_among_any_number_of_rows_that_share_its_bucket() {
    let place = tempfile::tempdir().unwrap();
    // Two bands of one value each: for about half of the texts it is that of the word that all have.
    let index = json!({"index": place.path().join("index").to_str().unwrap(), "bands": 2, "rows": 1, "ngram": 1, "jaccard_threshold": 0.9});
    let month = |name: &str| (0..400).map(|n| (format!("{name}{n}"), format!("common w{n}"), "s".to_owned())).collect::<Vec<Row>>();
    assert_eq!(run(&index, &month("a")).rows().num_rows(), 400);
    let repeated = with(index, &json!({"max_cluster": 1.0, "max_source_loss": 1.0}));
    let found = duplicates(&run(&repeated, &month("b")));
    assert!(found == (0..400).map(|n| (format!("b{n}"), format!("a{n}"))).collect(), "{} found", found.len());
}

#[test]
fn band_keys_are_those_of_the_version_of_the_hashes() {
    // If this fails, what is in an index cannot be met any more: raise `HASHES`.
    let place = tempfile::tempdir().unwrap();
    let text = "The quick brown fox, größer than the others, jumps over 13 lazy dogs.";
    let found = [
        ("words", json!({})),
        ("characters", json!({"shingle": "characters"})),
        ("whitespace", json!({"shingle": "whitespace"})),
        ("slimpajama", json!({"preset": "slimpajama"})),
    ]
    .map(|(name, more)| {
        let index = place.path().join(name);
        run(&with(json!({"index": index.to_str().unwrap()}), &more), &rows(&[("a", text)]));
        let files = files(&index);
        let of = |start: &str| files.iter().find(|(name, _)| name.contains(start)).map(|(_, bytes)| blake3::hash(bytes).to_hex());
        format!("{name} {:.12} {:.12}", of("/bands-").unwrap(), of("/rows-").unwrap())
    });
    let expected = [
        "words 49d7b22ef121 a67245715566",
        "characters 192190ca4b6e 578006cbd9b0",
        "whitespace 69e09147cb2c d9dc77ae77a6",
        "slimpajama a95a3c59f53d cbdb3d684966",
    ];
    assert_eq!(found, expected);
}
