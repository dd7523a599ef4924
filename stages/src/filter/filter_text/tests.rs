use std::collections::BTreeMap;

use schemas::dropped;
use serde_json::{Value, json};

use super::*;
use crate::Port;
use crate::testing::{self, Balance, Outcome};

fn texts(texts: &[Option<&str>]) -> RecordBatch {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec())])
}

fn run(settings: Value, given: &[&str]) -> Outcome {
    let given: Vec<Option<&str>> = given.iter().copied().map(Some).collect();
    testing::run::<FilterTextConfig>(settings, &[(Port::FROM, texts(&given))])
}

/// Why a text is dropped by one set of rules, with value and threshold; nothing if it passes.
fn why_with(set: &str, settings: Value, text: &str) -> Option<(String, Option<f64>, Option<f64>)> {
    let outcome = run(json!({"rules": [set], "words": "whitespace", set: settings}), &[text]);
    let dropped = outcome.dropped();
    (dropped.num_rows() > 0).then(|| {
        let (values, thresholds) = (dropped::VALUE.of(dropped), dropped::THRESHOLD.of(dropped));
        (testing::column(dropped, "drop_reason").remove(0), values.iter().next().flatten(), thresholds.iter().next().flatten())
    })
}

/// A rule alone, all others of its set being off: at the bound the text passes, one past it the text is dropped for it.
fn bound(set: &str, name: &str, limit: Value, at: (&str, f64), past: (&str, f64)) {
    let mut settings: serde_json::Map<String, Value> = names_of(set)
        .into_iter()
        .filter(|name| name.starts_with("min_") || name.starts_with("max_"))
        .map(|name| (name, json!("off")))
        .collect();
    assert!(settings.insert(name.to_owned(), limit.clone()).is_some(), "no setting `{name}`");
    let threshold = limit.as_f64().expect("a number");
    let strict = if name.starts_with("max_") { threshold.next_down() } else { threshold.next_up() };
    assert_eq!(why_with(set, settings.clone().into(), at.0), None, "{name} at its bound");
    assert_eq!(
        why_with(set, settings.clone().into(), past.0),
        Some((name.to_owned(), Some(past.1), Some(threshold))),
        "{name} past its bound"
    );
    // The text at the bound is at it, and not somewhere before.
    if limit.is_f64() && !at.1.is_nan() {
        settings.insert(name.to_owned(), json!(strict));
        assert_eq!(why_with(set, settings.into(), at.0), Some((name.to_owned(), Some(at.1), Some(strict))), "{name} just past its bound");
    }
}

fn names_of(set: &str) -> Vec<String> {
    let of = |settings: Value| settings.as_object().expect("settings").keys().cloned().collect();
    match set {
        "gopher_quality" => of(json!(GopherQuality::default())),
        "gopher_repetition" => of(json!(GopherRepetition::default())),
        "c4" => of(json!(C4::default())),
        "fineweb" => of(json!(Fineweb::default())),
        _ => of(json!(SlimpajamaShort::default())),
    }
}

#[test]
fn it_keeps_the_contract() {
    let all = ["gopher_repetition", "gopher_quality", "slimpajama_short", "c4", "fineweb"];
    testing::check_contract::<FilterTextConfig>(json!({"rules": all}), &testing::sample(), Balance::KeptOrDropped);
    let mild = json!({
        "rules": all, "stats": true,
        "gopher_quality": {"min_words": 5, "min_stop_words": "off"}, "gopher_repetition": {"max_top_2_gram": "off", "max_top_3_gram": 0.9, "max_top_4_gram": "off"},
        "c4": {"min_sentences": 1}, "slimpajama_short": {"min_clean_chars": 20, "exempt_sources": ["web"]}, "fineweb": {"max_short_lines": "off"},
    });
    let got = testing::check_contract::<FilterTextConfig>(mild, &testing::sample(), Balance::KeptOrDropped);
    assert!(got.rows().num_rows() > 0 && got.dropped().num_rows() > 0);
}

#[test]
fn each_threshold_of_gopher_quality_holds_at_its_bound() {
    let bound = |name: &str, limit: Value, at: (&str, f64), past: (&str, f64)| bound("gopher_quality", name, limit, at, past);
    let words = |n: usize| vec!["word"; n].join(" ");
    bound("min_words", json!(50), (&words(50), 50.0), (&words(49), 49.0));
    bound("min_words", json!(2), ("a -- b", 2.0), ("a -- ?!", 1.0)); // words of symbols do not count
    bound("max_words", json!(100_000), (&words(100_000), 1e5), (&words(100_001), 100_001.0));
    bound("min_mean_word_length", json!(3.0), ("ab abcd --", 3.0), ("ab ab abcd", 8.0 / 3.0));
    bound("max_mean_word_length", json!(10.0), ("éééééééééé", 10.0), ("ééééééééééé", 11.0));
    bound("max_hash_ratio", json!(0.1), ("#a a a a a a a a a a", 0.1), ("##a a a a a a a a a a", 0.2));
    bound("max_ellipsis_ratio", json!(0.1), ("a... a a a a a a a a a", 0.1), ("a... a… a a a a a a a a", 0.2));
    bound("max_bullet_lines", json!(0.5), ("- a\nb", 0.5), ("- a\n \u{2022} b\nc", 2.0 / 3.0));
    bound("max_ellipsis_lines", json!(0.5), ("a...\nb", 0.5), ("a... \r\nb…\nc", 2.0 / 3.0));
    bound("min_alphabetic_words", json!(0.5), ("a 1", 0.5), ("a 1 -", 1.0 / 3.0));
    bound("min_stop_words", json!(2), ("the end of it", 2.0), ("the the The", 1.0));
}

#[test]
fn each_threshold_of_gopher_repetition_holds_at_its_bound() {
    let bound = |name: &str, limit: Value, at: (&str, f64), past: (&str, f64)| bound("gopher_repetition", name, limit, at, past);
    bound("max_duplicate_paragraphs", json!(0.5), ("a\n\na", 0.5), ("a\n\na\n\n\na\n", 2.0 / 3.0));
    bound("max_duplicate_paragraph_chars", json!(0.25), ("a\n\na", 0.25), ("aa\n\naa", 2.0 / 6.0));
    bound("max_duplicate_lines", json!(0.5), ("a\na", 0.5), ("a\na\n\na", 2.0 / 3.0));
    bound("max_duplicate_line_chars", json!(0.25), ("b\nb\n", 0.25), ("bb\nbb", 0.4));
    // `a b` twice: 3 characters each, of 12.
    bound("max_top_2_gram", json!(0.5), ("a b cc a b d", 0.5), ("a b c a b d", 6.0 / 11.0));
    bound("max_top_3_gram", json!(0.5), ("a b c dddddddd a b c", 0.5), ("a b c ddd a b c", 10.0 / 15.0));
    bound("max_top_4_gram", json!(0.5), ("a b c d eeeeeeeeeeee a b c d", 0.5), ("a b c d e a b c d", 14.0 / 17.0));
    for n in 5_u32..=10 {
        let run: Vec<String> = ('a'..).take(n as usize).map(|letter| letter.to_string()).collect();
        let (run, name) = (run.join(" "), format!("max_duplicate_{n}_grams"));
        // n characters of 2 (2n - 1) + 2 + rest are 0.2 of all where the rest is n.
        let text = |rest: u32| format!("{run} {} {run}", "-".repeat(rest as usize));
        let share = |rest: u32| f64::from(n) / f64::from(4 * n + rest);
        bound(&name, json!(0.2), (&text(n), share(n)), (&text(n - 1), share(n - 1)));
    }
}

#[test]
fn each_threshold_of_fineweb_holds_at_its_bound() {
    let bound = |name: &str, limit: Value, at: (&str, f64), past: (&str, f64)| bound("fineweb", name, limit, at, past);
    bound("min_punctuated_lines", json!(0.5), ("a.\nb\n \n", 0.5), ("a.\nb\nc. ", 1.0 / 3.0));
    let (short, long) = ("é".repeat(30), "é".repeat(31));
    bound("max_short_lines", json!(0.5), (&format!("{short}\n{long}"), 0.5), (&format!("{short}\n{long}\na"), 2.0 / 3.0));
    bound("max_repeated_line_chars", json!(0.25), ("a\nb\na\nc", 0.25), ("aa\naa\nb", 0.4));
    bound("max_newlines_per_word", json!(0.5), ("a\nb", 0.5), ("a\n\nb\nc", 1.0));
}

#[test]
fn each_threshold_of_c4_and_slimpajama_holds_at_its_bound() {
    bound("c4", "min_sentences", json!(2), ("It is so. It is.", 2.0), ("It is so it is.", 1.0));
    bound("slimpajama_short", "min_clean_chars", json!(5), ("a -B\u{A0}. c!", 5.0), ("a -B . !", 3.0));
    let why = |settings: Value, text: &str| why_with("c4", settings, text).map(|(reason, ..)| reason);
    assert_eq!(why(json!({"min_line_words": 3, "min_sentences": 1}), "It is so."), None);
    assert_eq!(why(json!({"min_line_words": 4, "min_sentences": 1}), "It is so."), Some("min_sentences".to_owned()));
    assert_eq!(why(json!({"max_word_chars": 3, "min_sentences": 1}), "It is so."), None);
    assert_eq!(why(json!({"max_word_chars": 2, "min_sentences": 1}), "It is so."), Some("min_sentences".to_owned()));
    assert_eq!(why(json!({"max_word_chars": 2, "min_sentences": "off"}), "It is so."), None);
}

#[test]
fn the_first_set_of_the_list_decides_and_later_ones_judge_what_c4_leaves() {
    let text = "This line stays as it is.\n- no\n- no\n- no";
    let mild = json!({"min_sentences": 1});
    let settings = |rules: &[&str]| json!({"rules": rules, "words": "whitespace", "c4": mild, "gopher_repetition": {"max_duplicate_lines": 0.3}, "fineweb": {}});
    let reason = |rules: &[&str]| testing::column(run(settings(rules), &[text]).dropped(), "drop_reason");
    assert_eq!(reason(&["gopher_repetition", "c4", "fineweb"]), ["max_duplicate_lines"]);
    assert_eq!(reason(&["fineweb", "gopher_repetition", "c4"]), ["max_short_lines"]);
    let passed = run(
        json!({"rules": ["c4", "gopher_repetition", "fineweb"], "c4": mild, "gopher_repetition": {"max_top_2_gram": "off", "max_top_3_gram": "off", "max_top_4_gram": "off"}, "fineweb": {"max_short_lines": "off"}}),
        &[text],
    );
    assert_eq!(testing::column(passed.rows(), "text"), ["This line stays as it is."]);
    // What is dropped keeps its text.
    let dropped = run(json!({"rules": ["c4"]}), &[text, "x"]);
    assert_eq!(testing::column(dropped.dropped(), "text"), [text, "x"]);
}

#[test]
fn null_and_empty_texts_have_reasons_of_their_own() {
    let reasons = |set: &str| {
        let outcome = testing::run::<FilterTextConfig>(json!({"rules": [set]}), &[(Port::FROM, texts(&[None, Some(""), Some(" \n ")]))]);
        testing::column(outcome.dropped(), "drop_reason")
    };
    assert_eq!(reasons("gopher_quality"), ["no_text", "min_words", "min_words"]);
    assert_eq!(reasons("gopher_repetition"), ["no_text", "empty", "max_duplicate_lines"]);
    assert_eq!(reasons("c4"), ["no_text", "min_sentences", "min_sentences"]);
    assert_eq!(reasons("fineweb"), ["no_text", "empty", "empty"]);
    assert_eq!(reasons("slimpajama_short"), ["no_text", "min_clean_chars", "min_clean_chars"]);
}

#[test]
fn sources_can_be_exempt_from_being_long() {
    let rows = testing::strings(&[
        ("text", vec![Some("short"), Some("short"), Some("short"), Some("")]),
        ("from", vec![Some("Books"), Some("web"), None, Some("Books")]),
    ]);
    let settings = json!({"rules": ["slimpajama_short", "fineweb"], "slimpajama_short": {"exempt_sources": ["Books"], "source_column": "from"},
        "fineweb": {"min_punctuated_lines": "off", "max_short_lines": "off"}});
    let got = testing::run::<FilterTextConfig>(settings, &[(Port::FROM, rows)]);
    assert_eq!(
        (testing::column(got.rows(), "from"), testing::column(got.dropped(), "drop_reason")),
        (vec!["Books".to_owned()], vec!["min_clean_chars".to_owned(), "min_clean_chars".to_owned(), "empty".to_owned()])
    );
}

#[test]
fn statistics_are_kept_of_all_rows() {
    let given = texts(&[Some("the one of it and the one of it"), None, Some("two words")]);
    let settings = json!({"rules": ["gopher_quality", "c4", "gopher_repetition"], "gopher_quality": {"min_words": 5, "min_mean_word_length": "off"}, "c4": {"min_sentences": "off"},
        "stats": ["n_words", "n_stop_words", "mean_word_length", "kept_lines", "n_sentences", "top_2_gram"]});
    let got = testing::run::<FilterTextConfig>(settings, &[(Port::FROM, given)]);
    let dropped = got.dropped();
    assert_eq!(testing::column(dropped, "drop_reason"), ["empty", "no_text", "min_words"]);
    assert_eq!(testing::column(dropped, "n_words"), ["9", "", "2"]);
    assert_eq!(testing::column(dropped, "n_stop_words"), ["3", "", "0"]);
    assert_eq!(testing::column(dropped, "mean_word_length"), [format!("{}", 23.0 / 9.0), String::new(), "4.0".to_owned()]);
    // C4 leaves nothing of these, as no mark ends them.
    assert_eq!(testing::column(dropped, "kept_lines"), ["0.0", "", "0.0"]);
    assert_eq!(testing::column(dropped, "n_sentences"), ["0", "", "0"]);
    assert_eq!(testing::column(dropped, "top_2_gram"), ["0.0", "", "0.0"]);
    // All of the rules that are on, and no others.
    let config: FilterTextConfig =
        serde_json::from_value(json!({"rules": ["fineweb"], "fineweb": {"max_short_lines": "off"}, "stats": true})).unwrap();
    assert_eq!(
        config.adds().into_iter().map(|column| column.name).collect::<Vec<_>>(),
        ["punctuated_lines", "repeated_line_chars", "newlines_per_word"]
    );
}

#[test]
fn the_report_gets_every_number_with_its_bounds() {
    let got = run(json!({"rules": ["gopher_quality"], "gopher_quality": {"min_words": 2, "max_words": 3}}), &["one", "the end of it"]);
    let words = &got.measured["n_words"];
    assert_eq!(words.counts(), [0, 2]);
    assert_eq!(
        words.bounds.iter().map(|bound| (bound.setting.as_str(), bound.at, bound.beyond)).collect::<Vec<_>>(),
        [("min_words", 2.0, 1), ("max_words", 3.0, 1)]
    );
    assert_eq!(
        got.measured.keys().copied().collect::<Vec<_>>(),
        [
            "alphabetic_words",
            "bullet_lines",
            "ellipsis_lines",
            "ellipsis_ratio",
            "hash_ratio",
            "mean_word_length",
            "n_stop_words",
            "n_words"
        ]
    );
    assert_eq!(got.drop_reasons, BTreeMap::from([("min_words", 1), ("max_words", 1)]));
}

#[test]
fn bad_settings_are_refused_where_they_stand() {
    let refusal = |settings: Value| testing::refusal::<FilterTextConfig>(settings, &[(Port::FROM, testing::sample())]);
    assert_eq!(refusal(json!({"rules": []})), "rules: wanted at least one set of rules, found an empty list");
    assert_eq!(refusal(json!({"rules": ["c4", "c4"]})), "rules: wanted each set once, found `c4` twice");
    assert_eq!(refusal(json!({"rules": ["fineweb"], "c4": {"min_sentences": 3}})), "c4: wanted with `c4` in `rules`, which has `fineweb`");
    let quality = |settings: Value| refusal(json!({"rules": ["gopher_quality"], "gopher_quality": settings}));
    assert_eq!(quality(json!({"max_words": 9})), "gopher_quality.max_words: wanted at least `min_words`, which is 50, found 9");
    assert_eq!(
        quality(json!({"min_mean_word_length": 11})),
        "gopher_quality.max_mean_word_length: wanted at least `min_mean_word_length`, which is 11.0, found 10.0"
    );
    assert_eq!(
        quality(json!({"stop_words": ["a"]})),
        "gopher_quality.min_stop_words: wanted at most the number of `stop_words`, which is 1, found 2"
    );
    assert_eq!(quality(json!({"stop_words": ["a", "b", "a"]})), "gopher_quality.stop_words: wanted each word once, found `a` twice");
    assert_eq!(
        quality(json!({"max_bullet_lines": 1.5})),
        "(settings): invalid value: floating point `1.5`, expected a number from 0 to 1, or `off`"
    );
    assert_eq!(quality(json!({"max_hash_ratio": -1})), "(settings): `-1` is not a number, 0 or more, or `off`");
    assert!(quality(json!({"max_hash_ratio": "on"})).ends_with("or `off`"));
    assert!(quality(json!({"max_hashes": 1})).starts_with("(settings): unknown field `max_hashes`"));
    assert_eq!(
        refusal(json!({"rules": ["c4"], "stats": ["n_words"]})),
        "stats: `n_words` wants `gopher_quality` in `rules`, which has `c4`"
    );
    assert_eq!(
        refusal(json!({"rules": ["c4"], "stats": ["n_sentences", "n_sentences"]})),
        "stats: wanted each statistic once, found `n_sentences` twice"
    );
}

#[test]
fn hostile_texts_are_judged_like_others() {
    let all = json!(["gopher_repetition", "gopher_quality", "slimpajama_short", "c4", "fineweb"]);
    let odd = [
        "\0\u{FEFF}\u{200B}".to_owned(),
        "?!.,;:-…".repeat(50),
        "日本語のテキストには空白がありません。".repeat(500),
        "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪".repeat(300),
        "שלום עולם. مرحبا بالعالم؟ ".repeat(200),
        "e\u{301}".repeat(2000),
        "\u{301}\u{301}".to_owned(),
        "\n".repeat(10_000),
        "\r\n\r\n".repeat(5000),
        "a".to_owned(),
        "[".repeat(10_000),
        "[1".repeat(10_000),
        "{ lorem ipsum javascript".repeat(100),
    ];
    for words in ["uax29", "whitespace", "spacy_en"] {
        let outcome = run(json!({"rules": all, "words": words, "stats": true}), &odd.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(outcome.rows().num_rows() + outcome.dropped().num_rows(), odd.len());
        assert!(outcome.rejected.is_empty());
    }
}

/// Texts on which an algorithm that is not linear takes hours.
#[test]
fn long_texts_take_no_more_than_their_share() {
    let all = json!(["gopher_repetition", "gopher_quality", "slimpajama_short", "c4", "fineweb"]);
    let n = 1 << 19;
    let counted: String = (0..n / 2).map(|number| format!("{number} ")).collect();
    let big = [
        "a ".repeat(n),
        "a\n".repeat(n),
        "x".repeat(2 * n),
        "ab cd ef gh ".repeat(n / 6),
        "[1] {".repeat(n / 3),
        "... …".repeat(n / 4),
        counted,
    ];
    for words in ["uax29", "whitespace", "spacy_en"] {
        let outcome = run(json!({"rules": all, "words": words, "stats": true}), &big.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(outcome.dropped().num_rows(), big.len());
    }
}

/// What datatrove 0.10.1 decides about generated texts, its words cut at white space: `tests/compare/filters --golden` writes the file.
#[test]
fn decisions_are_those_of_datatrove() {
    let golden: Vec<Value> =
        include_str!("../../../golden/filter_text.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(golden.len() >= 290);
    let given: Vec<&str> = golden.iter().map(|row| row["text"].as_str().unwrap()).collect();
    for set in ["gopher_quality", "gopher_repetition", "c4", "fineweb"] {
        let outcome = run(json!({"rules": [set], "words": "whitespace"}), &given);
        let mut reasons = vec![None; golden.len()];
        let number = |id: &String| id[1..].parse::<usize>().unwrap();
        for (id, reason) in testing::column(outcome.dropped(), "id").iter().zip(testing::column(outcome.dropped(), "drop_reason")) {
            reasons[number(id)] = Some(reason);
        }
        for (row, reason) in golden.iter().zip(&reasons) {
            assert_eq!(row[set].as_str(), reason.as_deref(), "{set}: {:?}", row["text"]);
        }
        let left: BTreeMap<usize, String> =
            testing::column(outcome.rows(), "id").iter().map(number).zip(testing::column(outcome.rows(), "text")).collect();
        for (row, text) in left {
            let expected = &golden[row]["left"];
            assert_eq!(if set == "c4" && !expected.is_null() { expected } else { &golden[row]["text"] }, &json!(text), "{set}");
        }
        let dropped = reasons.iter().flatten().count();
        assert!(dropped > 50 && dropped < golden.len() - 50, "{set} drops {dropped} of {}", golden.len());
    }
}
