use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::Array;
use schemas::dropped;
use serde_json::{Value, json};
use tempfile::TempDir;
use unicode_segmentation::UnicodeSegmentation;

use super::*;
use crate::testing::{self, Balance, Outcome};
use crate::{Port, ReadJsonlConfig, ReadTextConfig};

fn rows(texts: &[Option<&str>]) -> RecordBatch {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec())])
}

/// A file of text, an example a line; and what is told of it.
fn file(lines: &[&str]) -> (TempDir, Value) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("set.txt");
    fs::write(&path, lines.join("\n")).expect("it can be written");
    (dir, json!([{"path": path}]))
}

/// With more settings than `against`.
fn with(against: &Value, more: Value) -> Value {
    let mut settings = more;
    settings.as_object_mut().expect("settings").insert("against".to_owned(), against.clone());
    settings
}

/// Keeps the contract, of which the rows of `matches` are no part.
fn checked(settings: &Value, input: &RecordBatch) -> Outcome {
    let got = testing::check_contract::<DecontaminateConfig>(settings.clone(), input, Balance::Free);
    let n_dropped = if settings["action"] == "tag" { 0 } else { got.dropped().num_rows() };
    assert_eq!(got.rows().num_rows() + n_dropped, input.num_rows());
    got
}

/// `id: reason, value, threshold` of each dropped row.
fn dropped_rows(got: &Outcome) -> Vec<String> {
    let rows = got.dropped();
    let columns = ["id", dropped::REASON.name(), dropped::VALUE.name(), dropped::THRESHOLD.name()].map(|name| testing::column(rows, name));
    (0..rows.num_rows()).map(|row| format!("{}: {}, {}, {}", columns[0][row], columns[1][row], columns[2][row], columns[3][row])).collect()
}

#[test]
fn it_keeps_the_contract() {
    let (_dir, against) = file(&["the quick brown fox jumps over the lazy dog"]);
    for action in ["drop", "cut", "tag"] {
        let settings = with(&against, json!({"action": action, "ngram": 5, "min_words": 3, "window_chars": 3, "min_piece_chars": 2}));
        let got = checked(&settings, &testing::sample());
        assert!(got.port(&matches::PORT).num_rows() > 5, "{action}");
    }
}

#[test]
fn what_is_at_the_threshold_is_kept() {
    // Eight n-grams; the text has four of them, one twice.
    let (_dir, against) = file(&["a b c d e f g h i j"]);
    let input = rows(&[Some("A, b c-d e: F! x a b c"), Some("b c x a b"), None, Some("")]);
    let run = |max_share: f64| checked(&with(&against, json!({"ngram": 3, "min_words": 3, "max_share": max_share})), &input);
    let got = run(0.5);
    assert_eq!(dropped_rows(&got), Vec::<String>::new());
    assert_eq!(got.port(&matches::PORT).num_rows(), 0);
    let share = &got.measured["contamination"];
    assert_eq!((share.counts(), share.range), ([3, 0], Some([0.0, 0.5])));
    let got = run(0.49);
    assert_eq!(dropped_rows(&got), ["d0: contaminated, 0.5, 0.49"]);
    assert_eq!(got.measured["contamination"].bounds[0].beyond, 1);
    assert_eq!(got.figures["contaminated"], BTreeMap::from([("set".to_owned(), 1)]));
    let found = got.port(&matches::PORT);
    let columns = ["id", "benchmark", "example", "share", "n_grams", "n_matches", "start", "end", "match"];
    let expected = ["d0", "set", "set.txt@0", "0.5", "4", "2", "0", "13", "A, b c-d e: F"];
    assert_eq!(columns.map(|name| testing::column(found, name)[0].clone()), expected);
    // No n-gram at all is no contamination, though nothing is allowed.
    assert_eq!(dropped_rows(&run(0.0)), ["d0: contaminated, 0.5, 0.0"]);
}

#[test]
fn a_short_example_is_found_as_a_whole_and_a_very_short_one_not_at_all() {
    let (_dir, against) = file(&["one two three four five six", "one two three", "four five"]);
    let settings = with(&against, json!({"ngram": 5, "min_words": 3}));
    let input = rows(&[Some("One. Two. Three!"), Some("one two four five"), Some("two three four five six")]);
    let got = checked(&settings, &input);
    assert_eq!(dropped_rows(&got), ["d0: contaminated, 1.0, 0.0", "d2: contaminated, 0.5, 0.0"]);
    assert_eq!(testing::column(got.port(&matches::PORT), "example"), ["set.txt@1", "set.txt@0"]);
    // `min_words` is at most `ngram`.
    let got = checked(&with(&against, json!({"ngram": 2, "min_words": 9})), &input);
    assert_eq!(got.dropped().num_rows(), 3);
}

#[test]
fn tags_say_how_much_and_of_what() {
    let (_dir, against) = file(&["a b c d", "b c d e f"]);
    let settings = with(&against, json!({"ngram": 2, "min_words": 2, "action": "tag", "max_share": 0.5}));
    let got = checked(&settings, &rows(&[Some("b c d e"), Some("a b x"), None, Some("x"), Some("a b c d")]));
    assert_eq!(testing::column(got.rows(), "contaminated"), ["true", "false", "", "false", "true"]);
    let shares = [3.0 / 4.0, 1.0 / 3.0, f64::NAN, 0.0, 1.0];
    let column = CONTAMINATION.of(got.rows());
    assert!(column.iter().zip(shares).all(|(found, expected)| found.is_none_or(|found| found.to_bits() == expected.to_bits())));
    assert!(column.is_null(2) && column.null_count() == 1);
    assert_eq!(testing::column(got.rows(), "contaminated_by"), ["set/set.txt@1", "", "", "", "set/set.txt@0"]);
    // Both examples of the first text are over; the better one is listed first.
    assert_eq!(testing::column(got.port(&matches::PORT), "example"), ["set.txt@1", "set.txt@0", "set.txt@0"]);
}

#[test]
fn a_match_is_cut_out_with_a_window_around_it() {
    let (_dir, against) = file(&["one two three four"]);
    let settings = |more: Value| {
        let mut all = json!({"ngram": 4, "min_words": 4, "action": "cut", "window_chars": 4, "min_piece_chars": 3, "max_pieces": 3});
        all.as_object_mut().expect("settings").extend(more.as_object().expect("settings").clone());
        with(&against, all)
    };
    let input = rows(&[
        Some("alpha beta ONE, two\nthree four gamma delta epsilon"),
        Some("one two three four"),
        Some("aaaa bbbb one two three four cccc dddd one two three four eeee ffff"),
        Some("untouched  text\n"),
        Some("x one two three four y"),
    ]);
    let got = checked(&settings(json!({})), &input);
    assert_eq!(testing::column(got.rows(), "text"), ["alpha\n\ndelta epsilon", "aaaa\n\nffff", "untouched  text\n"]);
    assert_eq!(dropped_rows(&got), ["d1: no_piece_left, 0.0, 3.0", "d4: no_piece_left, 0.0, 3.0"]);
    assert_eq!(testing::column(got.dropped(), "text")[0], "one two three four");
    let got = checked(&settings(json!({"window_chars": 0, "max_pieces": 2})), &input);
    assert_eq!(dropped_rows(&got)[1], "d2: too_many_pieces, 3.0, 2.0");
    assert_eq!(dropped_rows(&got)[2], "d4: no_piece_left, 1.0, 3.0");
    let got = checked(&settings(json!({"window_chars": 0, "min_piece_chars": 1})), &input);
    assert_eq!(testing::column(got.rows(), "text")[1..], ["aaaa bbbb\n\ncccc dddd\n\neeee ffff", "untouched  text\n", "x\n\ny"]);
    assert_eq!(got.measured["pieces"].counts(), [3, 1]);
}

#[test]
fn only_what_is_of_too_much_of_an_example_is_cut_out() {
    let (_dir, against) = file(&["a b c d e f g h", "q r s"]);
    let settings = json!({"ngram": 3, "min_words": 3, "action": "cut", "window_chars": 0, "min_piece_chars": 0, "max_share": 0.3});
    let got = checked(&with(&against, settings), &rows(&[Some("a b c 1 q r s 2"), Some("a b c 3")]));
    assert_eq!(testing::column(got.rows(), "text"), ["a b c 1\n\n2", "a b c 3"]);
}

#[test]
fn every_format_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("it can be written");
    write(
        "a.jsonl",
        b"{\"q\": \"one two three\", \"o\": [\"four\", \"five\"], \"n\": 7}\n{\"q\": null, \"o\": [\"six seven eight nine\"], \"n\": 8}\n",
    );
    write("b.csv", b"q,o\n\"one, two\",three alpha beta\n");
    write("c.tsv", b"q\to\none two\tthree gamma delta\n");
    write("d.txt", b"first line here too\n\nsecond line\nhere as well\n");
    let quick: ArrayRef = Arc::new(StringArray::from(vec!["the quick"]));
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![3]));
    let rows_of = RecordBatch::try_from_iter([("q", quick), ("o", Arc::clone(&numbers)), ("id", numbers)]).expect("rows");
    let mut writer = datasets::part_writer(&rows_of.schema(), &datasets::WriteSettings::default()).expect("a writer");
    writer.write(&rows_of).expect("rows");
    write("e.parquet", &writer.finish().expect("a file").into_bytes()[..]);
    let path = |name: &str| dir.path().join(name);
    let against = json!([
        {"path": path("a.jsonl"), "columns": ["q", "o"], "id": "n"},
        {"path": [path("b.csv"), path("c.tsv")], "columns": ["q", "o"], "id": "q", "name": "tables"},
        {"path": path("d.txt"), "split": "paragraphs"},
        {"path": path("e.parquet"), "columns": ["q", "o"]},
    ]);
    let settings = with(&against, json!({"ngram": 20, "min_words": 3, "action": "tag"}));
    let input = rows(&[
        Some("one two three four five"),
        Some("six seven eight nine"),
        Some("one two three alpha beta"),
        Some("one two three gamma delta"),
        Some("second line here as well"),
        Some("the quick 3"),
        Some("first line here"),
    ]);
    let got = checked(&settings, &input);
    let by = ["a/7", "a/8", "tables/one, two", "tables/one two", "d/d.txt@1", "e/e.parquet@0", ""];
    assert_eq!(testing::column(got.rows(), "contaminated_by"), by);
    let config: DecontaminateConfig = serde_json::from_value(settings).expect("settings");
    let cx = BuildContext::new("it", Path::new("."), 7, vec![(Port::FROM, input.schema())]);
    let names: Vec<String> = config.files(&cx).expect("files").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a: a.jsonl", "tables: b.csv", "tables: c.tsv", "d: d.txt", "e: e.parquet"]);
}

#[test]
fn what_cannot_be_looked_for_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("a.jsonl"), "{\"text\": \"a few words\"}\n").expect("it can be written");
    fs::write(path("b.jsonl"), "{\"text\": \"one two three four five six seven eight\"}\n{\"text\n").expect("it can be written");
    fs::write(path("c.zip"), "").expect("it can be written");
    let refused = |against: Value, more: Value| {
        let error = testing::refusal::<DecontaminateConfig>(with(&against, more), &[(Port::FROM, rows(&[]))]);
        error.replace(&format!("{}/", dir.path().display()), "")
    };
    assert_eq!(refused(json!([]), json!({})), "against: an empty list of benchmarks");
    let missing = refused(json!([{"path": path("no.jsonl")}]), json!({}));
    assert!(missing.starts_with("against: no file matches no.jsonl"), "{missing}");
    assert_eq!(refused(json!([{"path": path("a.jsonl")}]), json!({})), "against: of 1 examples of `a` none has 8 words or more");
    assert_eq!(refused(json!([{"path": path("a.jsonl")}]), json!({"ngram": 101})), "ngram: wanted at most 100 words, found 101");
    let twice = json!([{"path": path("a.jsonl")}, {"path": path("a.jsonl")}]);
    assert_eq!(refused(twice, json!({"ngram": 2})), "against: two benchmarks are called `a`");
    let other = json!([{"path": path("a.jsonl"), "columns": ["text", "answer"]}]);
    assert_eq!(refused(other, json!({"ngram": 2})), "against: no example of a.jsonl has anything in `answer`");
    let named = json!([{"path": path("a.jsonl"), "id": "task"}]);
    assert_eq!(refused(named, json!({"ngram": 2})), "against: no example of a.jsonl has anything in `task`");
    fs::write(path("q.jsonl"), "{\"question\": \"a few words more\"}\n").expect("it can be written");
    fs::write(path("empty.jsonl"), "").expect("it can be written");
    let mixed = json!([{"path": [path("empty.jsonl"), path("a.jsonl"), path("q.jsonl")]}]);
    assert_eq!(refused(mixed, json!({"ngram": 2})), "against: no example of q.jsonl has anything in `text`");
    let damaged = refused(json!([{"path": path("b.jsonl")}]), json!({}));
    assert!(damaged.starts_with("can't read b.jsonl: at 52:"), "{damaged}");
    let unknown = refused(json!([{"path": path("c.zip")}]), json!({}));
    assert!(unknown.starts_with("against: c.zip has a name of none of the formats that are read"), "{unknown}");
}

#[test]
fn hostile_texts_and_benchmarks_take_linear_time() {
    // A prompt that every one of many examples begins with, and texts that are nothing else.
    let prompt = "answer the following question as well as you can and say nothing else but the answer";
    let examples: Vec<String> = (0..5000).map(|n| format!("{prompt} question {n} of many")).collect();
    let (_dir, against) = file(&examples.iter().map(String::as_str).collect::<Vec<_>>());
    let repeated = format!("{prompt} ").repeat(10_000);
    let one_word = "a".repeat(10 << 20);
    let one_line = "ab,cd;".repeat(1 << 20);
    let cjk = "这是一个没有空格的句子".repeat(20_000);
    let input = rows(&[
        Some(repeated.as_str()),
        Some(one_word.as_str()),
        Some(one_line.as_str()),
        Some(cjk.as_str()),
        Some("👩‍👩‍👧‍👦 🇩🇪🇫🇷 \u{301}\u{301}"),
        Some("مرحبا بالعالم ".repeat(20).as_str()),
        Some("!?… ---"),
        Some("\0\u{feff}"),
    ]);
    let started = Instant::now();
    for action in ["drop", "cut", "tag"] {
        for words in ["unicode", "whitespace"] {
            let settings = with(&against, json!({"action": action, "words": words}));
            let got = testing::run::<DecontaminateConfig>(settings, &[(Port::FROM, input.clone())]);
            assert_eq!(got.port(&matches::PORT).num_rows(), matches::MAX_EXAMPLES);
            assert_eq!(testing::column(got.rows(), "id").len(), if action == "tag" { 8 } else { 7 });
        }
    }
    assert!(started.elapsed().as_secs() < 60);
}

// ---- On real texts.

fn read<C: StageConfig>(path: &Path, column: &str) -> Vec<String> {
    testing::read_all::<C>(path).iter().flat_map(|rows| testing::column(rows, column)).collect()
}

/// The problems of HumanEval: the bundled ones, or all that `GRANARY_HUMAN_EVAL` names.
fn problems_path() -> PathBuf {
    std::env::var_os("GRANARY_HUMAN_EVAL").map_or_else(|| testing::samples("human-eval/problems.jsonl"), Into::into)
}

fn problems() -> Vec<String> {
    let path = problems_path();
    let prompts = read::<ReadJsonlConfig>(&path, "prompt").into_iter().zip(read::<ReadJsonlConfig>(&path, "canonical_solution"));
    prompts.map(|(prompt, solution)| format!("{prompt}\n{solution}")).collect()
}

fn words_of(text: &str) -> Vec<String> {
    text.unicode_words().map(|word| word.chars().flat_map(char::to_lowercase).collect()).collect()
}

fn grams_of(text: &str) -> BTreeSet<Vec<String>> {
    let words = words_of(text);
    words.windows(13.min(words.len().max(1))).map(<[String]>::to_vec).collect()
}

/// What was done to a problem before it was planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    Whole,
    /// The first quarter is missing: of a very short problem no n-gram may be left.
    Part,
    Respaced,
    Capitals,
}

/// Real texts: some clean, some with a problem planted. With each the problem, if any.
fn planted() -> Vec<(String, Option<(usize, Copy)>)> {
    let novel = read::<ReadTextConfig>(&testing::samples("moby-dick/*.txt"), "text").join("\n");
    let passages: Vec<&str> = novel.split_inclusive("\n\n").collect();
    let around = |n: usize| passages.iter().cycle().skip(n * 3 % passages.len()).take(3).copied().collect::<String>();
    let mut texts: Vec<(String, Option<(usize, Copy)>)> =
        read::<ReadJsonlConfig>(&testing::samples("python-docs/library.jsonl.gz"), "text").into_iter().map(|text| (text, None)).collect();
    for (number, problem) in problems().iter().enumerate() {
        let tokens: Vec<&str> = problem.split_whitespace().collect();
        let copies = [
            (Copy::Whole, problem.clone()),
            (Copy::Part, tokens[tokens.len() / 4..].join(" ")),
            (Copy::Respaced, tokens.join(" \n\t")),
            (Copy::Capitals, problem.to_uppercase()),
        ];
        texts.extend(
            copies
                .into_iter()
                .enumerate()
                .map(|(n, (how, copy))| (format!("{}\n{copy}\n{}", around(number + n), around(number + n + 1)), Some((number, how)))),
        );
        texts.push((around(number), None));
    }
    texts
}

#[test]
fn planted_problems_are_found_and_nothing_else_as_a_plain_way_finds_them() {
    let texts = planted();
    let problems = problems();
    let input = rows(&texts.iter().map(|(text, _)| Some(text.as_str())).collect::<Vec<_>>());
    let against = json!([{"path": problems_path(), "columns": ["prompt", "canonical_solution"], "name": "human_eval"}]);
    let got = testing::run::<DecontaminateConfig>(with(&against, json!({"action": "tag"})), &[(Port::FROM, input)]);
    let known: Vec<BTreeSet<Vec<String>>> = problems.iter().map(|problem| grams_of(problem)).collect();
    let found = testing::column(got.rows(), "contaminated");
    let shares = CONTAMINATION.of(got.rows());
    let mut by_id: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let matches = got.port(&matches::PORT);
    for (id, example) in testing::column(matches, "id").into_iter().zip(testing::column(matches, "example")) {
        by_id.entry(id).or_default().insert(example.rsplit('@').next().unwrap_or_default().to_owned());
    }
    let (mut n_found, mut n_missed) = (0, 0);
    for (row, (text, problem)) in texts.iter().enumerate() {
        let grams = grams_of(text);
        let share = |known: &BTreeSet<Vec<String>>| known.intersection(&grams).count() as f64 / known.len() as f64;
        let best = known.iter().map(share).fold(0.0, f64::max);
        assert_eq!(shares.value(row).to_bits(), best.to_bits(), "text {row}, with {problem:?}");
        assert_eq!(found[row] == "true", best > 0.0, "text {row}, with {problem:?}");
        match problem {
            None => assert_eq!(found[row], "false", "text {row}: {text:.300}"),
            Some((problem, how)) if *how != Copy::Part || found[row] == "true" => {
                assert!(by_id.get(&format!("d{row}")).is_some_and(|of| of.contains(&problem.to_string())), "text {row}, with {problem}");
                n_found += 1;
            }
            Some(_) => n_missed += 1,
        }
    }
    assert!(n_missed * 50 < n_found, "{n_found} found, {n_missed} in part and not found");
    assert!(texts.len() > 2000, "{} texts", texts.len());
}
