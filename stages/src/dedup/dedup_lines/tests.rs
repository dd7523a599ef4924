use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use proptest::prelude::*;
use schemas::dropped;
use serde_json::{Value, json};

use super::*;
use crate::testing::{self, Balance, CUTS, Cut, Outcome};
use crate::{ReadJsonlConfig, ReadTextConfig};

fn rows(texts: &[Option<&str>]) -> RecordBatch {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    let sources = texts.iter().enumerate().map(|(row, _)| Some(if row % 2 == 0 { "even" } else { "odd" }));
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec()), ("source", sources.collect())])
}

/// With the rows counted that the contract counts for stages without further outputs.
fn checked(settings: &Value, input: &RecordBatch) -> Outcome {
    let got = testing::check_contract::<DedupLinesConfig>(settings.clone(), input, Balance::Free);
    assert_eq!(got.rows().num_rows() + got.dropped().num_rows(), input.num_rows());
    got
}

/// What is left of short texts, by id.
fn left(mut settings: Value, texts: &[&str]) -> Vec<String> {
    let settings_map = settings.as_object_mut().expect("settings");
    settings_map.entry("min_chars").or_insert(json!(1));
    settings_map.entry("min_left_chars").or_insert(json!(0));
    let input = rows(&texts.iter().map(|text| Some(*text)).collect::<Vec<_>>());
    let got = checked(&settings, &input);
    assert_eq!(got.dropped().num_rows(), 0);
    testing::column(got.rows(), "text")
}

#[test]
fn it_keeps_the_contract() {
    checked(&json!({"add_columns": true, "max_removed": 0.4}), &testing::sample());
    checked(&json!({"unit": "paragraphs", "normalize": "casefold", "scope": "local", "survivor": "none"}), &testing::sample());
}

#[test]
fn the_first_occurrence_stays() {
    assert_eq!(left(json!({}), &["a\nb\na", "b\nc", "c\na\nd\n"]), ["a\nb", "c", "d\n"]);
}

#[test]
fn none_stays_of_what_more_texts_hold_than_may() {
    let texts = ["a\nb\nc", "b\nc\nd", "c\nd\ne\ne"];
    assert_eq!(left(json!({"survivor": "none"}), &texts), ["a", "", "e"]);
    assert_eq!(left(json!({"survivor": "none", "max_documents": 2}), &texts), ["a\nb", "b\nd", "d\ne"]);
    assert_eq!(left(json!({"survivor": "none", "max_documents": 3}), &texts), ["a\nb\nc", "b\nc\nd", "c\nd\ne"]);
    assert_eq!(left(json!({"survivor": "first", "max_documents": 2}), &texts), ["a\nb\nc", "b\nd", "d\ne"]);
}

#[test]
fn repeats_in_one_text_stay_when_asked() {
    let texts = ["a\nb\na", "a\nc\nc"];
    assert_eq!(left(json!({"repeats_within": false}), &texts), ["a\nb\na", "c\nc"]);
    assert_eq!(left(json!({"repeats_within": false, "survivor": "none"}), &texts), ["b", "c\nc"]);
    // However often one text holds a line, that is one text.
    assert_eq!(left(json!({"repeats_within": false, "max_documents": 2, "survivor": "none"}), &texts), texts);
}

#[test]
fn short_and_blank_lines_are_never_counted() {
    let texts = ["日本語\n\n  ab \n", "日本語\n\n  ab \nabc"];
    assert_eq!(left(json!({"min_chars": 3}), &texts), ["日本語\n\n  ab \n", "\n  ab \nabc"]);
    assert_eq!(left(json!({"min_chars": 4}), &texts), texts);
    assert_eq!(left(json!({"min_chars": 2}), &texts), ["日本語\n\n  ab \n", "\nabc"]);
    assert_eq!(left(json!({"min_chars": 0}), &texts), ["日本語\n\n  ab \n", "\nabc"]);
}

#[test]
fn lines_are_compared_as_asked_and_stay_as_they_are() {
    let texts = ["A  b", "a b", "A b\t", "A b"];
    assert_eq!(left(json!({"normalize": "none"}), &texts), texts);
    assert_eq!(left(json!({}), &texts), ["A  b", "a b", "", ""]);
    assert_eq!(left(json!({"normalize": "casefold"}), &texts), ["A  b", "", "", ""]);
}

#[test]
fn paragraphs_are_compared_as_a_whole() {
    let settings = json!({"unit": "paragraphs"});
    assert_eq!(left(settings, &["a\nb\n\nc", "a\n\nb\n\na\n b\n\nc\n", "\nd\n\n\n\nc\n\ne"]), ["a\nb\n\nc", "a\n\nb\n", "\nd\n\n\n\ne"]);
}

#[test]
fn local_scope_leaves_other_sources_alone() {
    assert_eq!(left(json!({"scope": "local"}), &["a", "a", "a\nb", "b"]), ["a", "a", "b", "b"]);
    let error = testing::refusal::<DedupLinesConfig>(json!({"scope": "local", "source_column": "site"}), &[(Port::FROM, rows(&[]))]);
    assert!(error.contains("`site`"), "{error}");
}

#[test]
fn a_text_that_loses_too_much_is_dropped_as_it_came() {
    // Of five characters, `\nab` are three.
    let input = rows(&[Some("ab"), Some("c\nab"), Some("cd\nab"), Some("cde\nab"), None, Some("")]);
    let got = checked(&json!({"min_chars": 2, "max_removed": 0.6, "add_columns": true}), &input);
    assert_eq!(testing::column(got.rows(), "id"), ["d0", "d2", "d3", "d4", "d5"]);
    assert_eq!(testing::column(got.rows(), "text"), ["ab", "cd", "cde", "", ""]);
    assert_eq!(testing::column(got.rows(), "removed_lines"), ["0", "1", "1", "", "0"]);
    assert_eq!(testing::column(got.rows(), "removed_share"), ["0.0", "0.6", "0.5", "", "0.0"]);
    assert_eq!(testing::column(got.dropped(), "text"), ["c\nab"]);
    assert_eq!(testing::column(got.dropped(), dropped::REASON.name()), ["too_much_removed"]);
    assert_eq!(dropped::VALUE.of(got.dropped()).value(0).to_bits(), 0.75_f64.to_bits());
    assert_eq!(dropped::THRESHOLD.of(got.dropped()).value(0).to_bits(), 0.6_f64.to_bits());
    let share = &got.measured["removed_share"];
    assert_eq!((share.counts(), share.bounds[0].beyond), ([4, 1], 1));
}

#[test]
fn a_text_with_too_little_left_is_dropped_but_not_one_that_came_short() {
    let input = rows(&[Some("abcd"), Some(" xyz \nabcd"), Some("xy\nabcd"), Some("ab"), Some("abcd\n\n")]);
    let got = checked(&json!({"min_chars": 4, "min_left_chars": 3}), &input);
    assert_eq!(testing::column(got.rows(), "text"), ["abcd", " xyz ", "ab"]);
    assert_eq!(testing::column(got.dropped(), "id"), ["d2", "d4"]);
    assert_eq!(testing::column(got.dropped(), dropped::REASON.name()), ["too_short", "too_short"]);
    assert_eq!(testing::column(got.dropped(), dropped::VALUE.name()), ["2.0", "0.0"]);
}

#[test]
fn what_was_removed_is_listed_with_its_place() {
    let input = rows(&[Some("é a\nb c"), Some("x\r\né  a\r\nb c"), Some("é a\né a")]);
    let got = checked(&json!({"min_chars": 3}), &input);
    let removed = got.port(&removed::PORT);
    assert_eq!(testing::column(removed, "id"), ["d1", "d1", "d2", "d2"]);
    assert_eq!(testing::column(removed, "removed"), ["é  a", "b c", "é a", "é a"]);
    assert_eq!(testing::column(removed, "number"), ["1", "2", "0", "1"]);
    assert_eq!(testing::column(removed, "start"), ["3", "10", "0", "5"]);
    assert_eq!(testing::column(removed, "end"), ["8", "13", "4", "9"]);
    assert_eq!(testing::column(removed, "documents"), ["3", "2", "3", "3"]);
    assert_eq!(testing::column(removed, "occurrences"), ["4", "2", "4", "4"]);
}

#[test]
fn the_report_names_the_lines_with_most_occurrences() {
    // Line n stands in n texts, each of which holds it once: of 20 lines the twelve most frequent.
    let texts: Vec<String> = (0..20).map(|text| (text..20).map(|line| format!("line {line}\n")).collect()).collect();
    let input = rows(&texts.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
    let expected: BTreeMap<String, u64> = (8..20).map(|line| (format!("line {line}"), line + 1)).collect();
    for (shard_rows, ranges) in [(1, 1), (3, 4), (100, 2)] {
        let built = testing::build::<DedupLinesConfig>(json!({"min_chars": 1}), vec![(Port::FROM, input.schema())]).expect("it builds");
        let cut = Cut { batch_rows: 2, shard_rows, ranges };
        let got = testing::run_stage(&built, &[(Port::FROM, input.clone())], cut).expect("it runs");
        assert_eq!(got.figures["removed_most_often"], expected);
        // Every line but its first occurrence: 0 + 1 + … + 19.
        assert_eq!(got.figures["removed"]["lines or paragraphs"], 190);
        assert_eq!(got.figures["removed"]["texts that lost some"], 19);
    }
}

#[test]
fn a_line_of_all_rows_takes_linear_time_and_one_row_a_shard() {
    let n = 400_000;
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|row| format!("r{row}"))));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|row| format!("the same line everywhere\nown {row}"))));
    let input = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", texts, true)]).expect("a batch");
    let started = Instant::now();
    let cut = Cut { batch_rows: 8192, shard_rows: 50_000, ranges: 4 };
    let got = testing::run_cut::<DedupLinesConfig>(json!({}), &[(Port::FROM, input)], cut);
    assert_eq!(got.table_rows.get(LINES), Some(&8), "one row a shard");
    assert_eq!(got.table_rows.get(SHARED), Some(&8), "one letter a shard");
    assert_eq!(got.port(&removed::PORT).num_rows(), n - 1);
    assert_eq!(&testing::column(&got.rows().slice(0, 2), "text"), &["the same line everywhere\nown 0", "own 1"]);
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn hostile_texts_take_linear_time() {
    let long = "no break at all ".repeat(600_000);
    let breaks = "\n".repeat(1_000_000);
    let short = "ab\r\n".repeat(300_000);
    let texts = [
        &long,
        &long,
        &breaks,
        &short,
        "日本語のテキストに空白はありません。",
        "👩‍👩‍👧‍👦👩‍👩‍👧‍👦\n👩‍👩‍👧‍👦👩‍👩‍👧‍👦",
        "مرحبا بالعالم\nمرحبا بالعالم",
        "e\u{301}e\u{301}\né é",
        "!?!\n...",
        "\u{feff}\0\u{2028}\r\r\n",
    ];
    let input = rows(&texts.map(Some));
    let started = Instant::now();
    for unit in ["lines", "paragraphs"] {
        let settings = json!({"unit": unit, "min_chars": 1, "normalize": "casefold"});
        let got = testing::run::<DedupLinesConfig>(settings, &[(Port::FROM, input.clone())]);
        assert_eq!(testing::column(got.dropped(), "id"), ["d1"]);
        let text = testing::column(got.rows(), "text");
        assert_eq!(text[2 - 1], breaks);
        if unit == "lines" {
            assert_eq!((text[2].as_str(), text[5].as_str()), ("ab\r\n", "مرحبا بالعالم"));
        }
    }
    assert!(started.elapsed().as_secs() < 60);
}

// ---- Against a way that is slow and plain.

/// A text's lines or paragraphs as the plain way has them: each with whether it is one, so that what stands between is kept too.
fn plain_pieces(unit: &str, text: &str) -> Vec<String> {
    let lines = text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    if unit == "lines" {
        return lines;
    }
    let mut paragraphs: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in lines {
        if line.trim().is_empty() {
            is_open = false;
        } else if is_open {
            let last = paragraphs.last_mut().expect("an open one");
            *last = format!("{last}\n{line}");
        } else {
            paragraphs.push(line);
            is_open = true;
        }
    }
    paragraphs
}

struct Plain {
    unit: &'static str,
    min_chars: usize,
    normalize: &'static str,
    local: bool,
    max_documents: usize,
    keep: &'static str,
    repeats_within: bool,
}

impl Plain {
    fn settings(&self) -> Value {
        json!({
            "unit": self.unit, "min_chars": self.min_chars, "normalize": self.normalize, "max_documents": self.max_documents,
            "scope": if self.local { "local" } else { "global" }, "survivor": self.keep, "repeats_within": self.repeats_within,
            "min_left_chars": 0,
        })
    }

    fn name_of(&self, source: &str, piece: &str) -> Option<String> {
        if piece.trim().chars().count() < self.min_chars.max(1) {
            return None;
        }
        let said = match self.normalize {
            "none" => piece.to_owned(),
            "whitespace" => piece.split_whitespace().collect::<Vec<_>>().join(" "),
            _ => piece.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase().to_lowercase(),
        };
        Some(if self.local { format!("{source}\0{said}") } else { said })
    }

    /// The pieces that are left of each text.
    fn left(&self, texts: &[(String, String)]) -> Vec<Vec<String>> {
        let mut holders: HashMap<String, BTreeSet<usize>> = HashMap::new();
        for (row, (source, text)) in texts.iter().enumerate() {
            for name in plain_pieces(self.unit, text).iter().filter_map(|piece| self.name_of(source, piece)) {
                holders.entry(name).or_default().insert(row);
            }
        }
        let mut kept_before: BTreeSet<String> = BTreeSet::new();
        let mut all = Vec::new();
        for (row, (source, text)) in texts.iter().enumerate() {
            let mut here = BTreeSet::new();
            let mut left = Vec::new();
            for piece in plain_pieces(self.unit, text) {
                if let Some(name) = self.name_of(source, &piece) {
                    let is_common = holders[&name].len() > self.max_documents;
                    let is_repeat = !here.insert(name.clone());
                    let goes = (is_repeat && self.repeats_within) || (is_common && (self.keep == "none" || kept_before.contains(&name)));
                    if goes {
                        continue;
                    }
                }
                left.push(piece);
            }
            kept_before.extend(holders.iter().filter(|(_, of)| of.first() == Some(&row)).map(|(name, _)| name.clone()));
            all.push(left);
        }
        all
    }
}

/// Holds the stage against the plain way; how many pieces were taken out.
fn compare(texts: &[(String, String)], plain: &Plain, cuts: &[Cut]) -> usize {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    let input = testing::strings(&[
        ("id", ids.iter().map(|id| Some(id.as_str())).collect()),
        ("source", texts.iter().map(|(source, _)| Some(source.as_str())).collect()),
        ("text", texts.iter().map(|(_, text)| Some(text.as_str())).collect()),
    ]);
    let expected = plain.left(texts);
    let mut n_removed = 0;
    for cut in cuts {
        let got = testing::run_cut::<DedupLinesConfig>(plain.settings(), &[(Port::FROM, input.clone())], *cut);
        let found: Vec<Vec<String>> = testing::column(got.rows(), "text").iter().map(|text| plain_pieces(plain.unit, text)).collect();
        for ((found, expected), (_, text)) in found.iter().zip(&expected).zip(texts) {
            // The last line break of a text is no line to the stage, so a text that lost all is empty.
            let said = |pieces: &[String]| pieces.iter().filter(|piece| !piece.is_empty()).cloned().collect::<Vec<_>>();
            assert_eq!(said(found), said(expected), "{:?}, {cut:?}, of {text:.80}", plain.settings());
        }
        n_removed = got.port(&removed::PORT).num_rows();
    }
    n_removed
}

/// The pages of the Python documentation, then the chapters of Moby-Dick: source and text.
fn samples() -> Vec<(String, String)> {
    let mut pages: Vec<(String, String)> = Vec::new();
    for batch in testing::read_all::<ReadJsonlConfig>(&testing::samples("python-docs/*.jsonl.gz")) {
        for (page, text) in testing::column(&batch, "page").into_iter().zip(testing::column(&batch, "text")) {
            match pages.last_mut().filter(|(last, _)| *last == page) {
                Some((_, all)) => *all = format!("{all}\n\n{text}"),
                None => pages.push((page, text)),
            }
        }
    }
    let docs = pages.into_iter().map(|(page, text)| (page.split('/').next().unwrap_or_default().to_owned(), text));
    let chapters = testing::read_all::<ReadTextConfig>(&testing::samples("moby-dick/*.txt"))
        .into_iter()
        .flat_map(|batch| testing::column(&batch, "text"));
    docs.chain(chapters.map(|text| ("novel".to_owned(), text))).collect()
}

const EVERY: &[Plain] = &[
    Plain { unit: "lines", min_chars: 20, normalize: "whitespace", local: false, max_documents: 1, keep: "first", repeats_within: true },
    Plain { unit: "lines", min_chars: 1, normalize: "none", local: false, max_documents: 1, keep: "none", repeats_within: true },
    Plain { unit: "lines", min_chars: 5, normalize: "casefold", local: true, max_documents: 2, keep: "none", repeats_within: false },
    Plain { unit: "lines", min_chars: 10, normalize: "whitespace", local: false, max_documents: 5, keep: "first", repeats_within: false },
    Plain {
        unit: "paragraphs",
        min_chars: 1,
        normalize: "whitespace",
        local: false,
        max_documents: 1,
        keep: "first",
        repeats_within: true,
    },
    Plain { unit: "paragraphs", min_chars: 8, normalize: "casefold", local: true, max_documents: 3, keep: "none", repeats_within: true },
];

#[test]
fn real_texts_lose_what_the_plain_way_takes_out() {
    let texts = samples();
    assert!(texts.len() > 60, "{} texts", texts.len());
    let cuts = [CUTS[1], CUTS[4], Cut { batch_rows: 5, shard_rows: 17, ranges: 3 }];
    for plain in EVERY {
        let n_removed = compare(&texts, plain, &cuts);
        assert!(n_removed > 20, "{n_removed} with {:?}", plain.settings());
    }
}

/// The pages of two of Debian's installation guides, which are nearly the same; `None`, with a word why, where they are not.
fn guides() -> Option<Vec<(String, String)>> {
    let folder = std::env::var_os("GRANARY_INSTALLATION_GUIDE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.assets/installation-guide"), PathBuf::from);
    let pages = |architecture: &str| folder.join(format!("usr/share/doc/installation-guide-{architecture}/en"));
    if !pages("amd64").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have the installation guides: {}", folder.display());
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("skipped: installation-guide not installed");
        }
        return None;
    }
    let mut texts = Vec::new();
    for architecture in ["amd64", "i386"] {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(pages(architecture)).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "html"));
        paths.sort();
        texts.extend(paths.iter().map(|path| (architecture.to_owned(), std::fs::read_to_string(path).expect("a page"))));
    }
    Some(texts)
}

#[test]
fn guides_lose_what_the_plain_way_takes_out() {
    let Some(texts) = guides() else { return };
    assert!(texts.len() > 150, "{} pages", texts.len());
    for plain in EVERY {
        let n_removed = compare(&texts, plain, &[CUTS[1], Cut { batch_rows: 9, shard_rows: 40, ranges: 2 }]);
        assert!(n_removed > 500, "{n_removed} with {:?}", plain.settings());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_texts_lose_what_the_plain_way_takes_out(
        texts in proptest::collection::vec("[ab \n]{0,12}", 0..14),
        unit in 0..2_usize, first in any::<bool>(), repeats_within in any::<bool>(), max_documents in 1..4_usize, local in any::<bool>(), min_chars in 0..3_usize,
    ) {
        let texts: Vec<(String, String)> = texts.into_iter().enumerate().map(|(row, text)| (format!("s{}", row % 2), text)).collect();
        let plain = Plain {
            unit: ["lines", "paragraphs"][unit], min_chars, normalize: "whitespace", local, max_documents,
            keep: if first { "first" } else { "none" }, repeats_within,
        };
        compare(&texts, &plain, &[CUTS[0], CUTS[4], CUTS[8]]);
    }

    #[test]
    fn a_second_pass_takes_nothing_out_and_an_order_only_says_which_copy_stays(
        texts in proptest::collection::vec("[abc \n]{0,10}", 0..12), unit in 0..2_usize, max_documents in 1..4, first in any::<bool>(),
    ) {
        let (unit, keep) = (["lines", "paragraphs"][unit], if first { "first" } else { "none" });
        let settings = json!({"unit": unit, "min_chars": 1, "max_documents": max_documents, "survivor": keep});
        let run = |texts: &[&str]| {
            let input = rows(&texts.iter().map(|text| Some(*text)).collect::<Vec<_>>());
            testing::run::<DedupLinesConfig>(settings.clone(), &[(Port::FROM, input)])
        };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let once = run(&texts);
        let twice = testing::run::<DedupLinesConfig>(settings.clone(), &[(Port::FROM, once.rows().clone())]);
        prop_assert_eq!(once.rows(), twice.rows());
        prop_assert_eq!(twice.port(&removed::PORT).num_rows(), 0);
        // How often each line is left is the same in any order.
        let said = |outcome: &Outcome| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for text in testing::column(outcome.rows(), "text") {
                for piece in plain_pieces(unit, &text) {
                    *counts.entry(piece.split_whitespace().collect::<Vec<_>>().join(" ")).or_default() += 1;
                }
            }
            counts.remove("");
            counts
        };
        let backwards: Vec<&str> = texts.iter().rev().copied().collect();
        prop_assert_eq!(said(&once), said(&run(&backwards)));
    }
}
