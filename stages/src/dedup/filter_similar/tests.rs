use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;
use schemas::dropped;
use serde_json::{Value, json};

use super::*;
use crate::Port;
use crate::dedup::{Shingler, Shingles, jaccard};
use crate::llm::{RougeL, Tokens};
use crate::testing::{self, Balance, Outcome};

/// Root, score, quota, question.
type Row<'a> = (Option<i64>, Option<f64>, Option<i64>, Option<&'a str>);

fn rows(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("id", Arc::new(StringArray::from_iter_values((0..rows.len()).map(|row| format!("q{row}")))), true),
        ("root_id", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()), true),
        ("score", Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>()), true),
        ("n", Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()), true),
        ("question", Arc::new(rows.iter().map(|row| row.3).collect::<StringArray>()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn one_root(questions: &[&str]) -> RecordBatch {
    rows(&questions.iter().map(|question| (Some(1), None, None, Some(*question))).collect::<Vec<_>>())
}

fn checked(settings: Value, input: &RecordBatch) -> Outcome {
    testing::check_contract::<FilterSimilarConfig>(settings, input, Balance::KeptOrDropped)
}

fn kept(outcome: &Outcome) -> Vec<String> {
    testing::column(outcome.rows(), "id")
}

/// `id reason value/threshold of` of each dropped row.
fn dropped(outcome: &Outcome) -> Vec<String> {
    let [reason, value, threshold, of] = dropped::columns().map(|column| testing::column(outcome.dropped(), &column.name));
    let id = testing::column(outcome.dropped(), "id");
    (0..id.len())
        .map(|row| format!("{} {} {}/{} {}", id[row], reason[row], value[row], threshold[row], of[row]).trim().to_owned())
        .collect()
}

#[test]
fn it_keeps_the_contract() {
    for settings in [
        json!({"column": "text", "group": ["source"], "rank": "score", "quota": 4, "max_similarity": 0.9}),
        json!({"column": "text", "group": ["source"], "rank": "score", "order": "ascending", "measure": "f1", "quota": "words"}),
        json!({"column": "text", "group": "all"}),
        json!({"column": "text", "group": ["source", "words"], "across": {}, "rank": "words"}),
        json!({"column": "text", "group": ["source"], "across": {"jaccard_threshold": 0.5, "ngram": 1}, "max_similarity": 0, "quota": 3}),
    ] {
        checked(settings, &testing::sample());
    }
}

#[test]
fn a_question_that_says_what_a_kept_one_says_is_dropped() {
    let input = rows(&[
        (Some(1), None, None, Some("What is the capital of France?")),
        (Some(1), None, None, Some("Which river flows through Paris?")),
        (Some(1), None, None, Some("What is the capital of Spain?")),
        (Some(2), None, None, Some("What is the capital of France?")),
        (Some(1), None, None, Some("Which river flows through the north of Paris?")),
    ]);
    let got = checked(json!({}), &input);
    assert_eq!(kept(&got), ["q0", "q1", "q3", "q4"]);
    assert_eq!(dropped(&got), ["q2 similar 0.8333333333333334/0.7 q0"]);
    // F1 of q4 with q1 is 2 * 5 / 13, over 0.7.
    let got = checked(json!({"measure": "f1"}), &input);
    assert_eq!(dropped(&got), ["q2 similar 0.8333333333333334/0.7 q0", "q4 similar 0.7692307692307693/0.7 q1"]);
}

#[test]
fn the_best_rank_is_kept_and_rows_without_one_come_last() {
    let same = Some("What is the capital of France?");
    let input = rows(&[
        (Some(1), None, None, same),
        (Some(1), Some(f64::NAN), None, same),
        (Some(1), Some(-0.0), None, same),
        (Some(1), Some(0.0), None, same),
        (Some(1), Some(0.5), None, same),
        (Some(1), Some(-2.0), None, same),
    ]);
    for (settings, best) in [
        (json!({"rank": "score"}), "q4"),
        (json!({"rank": "score", "order": "ascending"}), "q5"),
        (json!({}), "q0"),
        (json!({"rank": "n"}), "q0"),
    ] {
        assert_eq!(kept(&checked(settings, &input)), [best]);
    }
    assert_eq!(kept(&checked(json!({"rank": "score"}), &input.slice(0, 4))), ["q2"]);
    assert_eq!(kept(&checked(json!({"rank": "score"}), &input.slice(0, 2))), ["q0"]);
}

#[test]
fn ranks_are_compared_by_value_whatever_their_type() {
    let same = Some("the same");
    let numbers: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX - 1, u64::MAX, 3]));
    let mut input = rows(&[(Some(1), None, None, same); 3]);
    let schema = RecordBatch::try_from_iter([("place", Arc::clone(&numbers))]).expect("a column").schema();
    let fields = input.schema().fields().iter().chain(schema.fields()).cloned().collect::<Vec<_>>();
    let columns = input.columns().iter().cloned().chain([numbers]).collect();
    input = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length");
    assert_eq!(kept(&checked(json!({"rank": "place"}), &input)), ["q1"]);
    assert_eq!(kept(&checked(json!({"rank": "place", "order": "ascending"}), &input)), ["q2"]);
}

#[test]
fn both_measures_are_held_to_their_bound() {
    // Of ten tokens 6, 7 and 8 in common with a row of ten.
    let text = |common: usize| (0..10).map(|n| if n < common { format!("w{n} ") } else { format!("x{common}y{n} ") }).collect::<String>();
    for (common, precision, f1) in [(6, true, true), (7, false, true), (8, false, false)] {
        let input = one_root(&[&text(10), &text(common)]);
        for (measure, is_kept) in [("precision", precision), ("f1", f1)] {
            let got = checked(json!({"measure": measure}), &input);
            assert_eq!(kept(&got).len() == 2, is_kept, "{common} by {measure}");
            let measured = &got.measured["similarity"];
            assert_eq!(measured.counts(), if is_kept { [1, 0] } else { [0, 1] });
            assert_eq!(measured.bounds[0].beyond, u64::from(!is_kept), "{common} by {measure}");
        }
    }
    // The threshold is the number that is written: 0.7, and not the next one.
    let input = one_root(&[&text(10), &text(7)]);
    assert_eq!(kept(&checked(json!({"max_similarity": 0.700_000_000_000_000_1}), &input)).len(), 2);
    assert_eq!(kept(&checked(json!({"measure": "f1", "max_similarity": 0.699_999_999_999_999_9}), &input)).len(), 1);
}

#[test]
fn the_quota_is_filled_if_there_are_enough() {
    let questions: Vec<String> = (0..9).map(|n| format!("a{n} b{n} c{n}")).collect();
    let of =
        |quota: Option<i64>| rows(&questions.iter().map(|question| (Some(1), None, quota, Some(question.as_str()))).collect::<Vec<_>>());
    for (settings, quota, n) in [
        (json!({"quota": 4}), None, 4),
        (json!({"quota": "n"}), Some(4), 4),
        (json!({"quota": 0}), None, 0),
        (json!({"quota": "n"}), Some(-3), 0),
        (json!({"quota": 9}), None, 9),
        (json!({"quota": 8}), None, 8),
        (json!({"quota": 10}), None, 9),
        (json!({"quota": "n"}), None, 9),
    ] {
        let got = checked(settings.clone(), &of(quota));
        assert_eq!(kept(&got).len(), n, "{settings}");
        let last = dropped(&got).last().cloned();
        assert_eq!(last, (n < 9).then(|| format!("q8 over_quota {n}.0/{n}.0")), "{settings}");
    }
    // Each row by its own number.
    let quotas = [3, 1, 2, 9];
    let input =
        rows(&quotas.iter().zip(&questions).map(|(n, question)| (Some(1), None, Some(*n), Some(question.as_str()))).collect::<Vec<_>>());
    let got = checked(json!({"quota": "n"}), &input);
    assert_eq!(kept(&got), ["q0", "q2", "q3"]);
    assert_eq!(dropped(&got), ["q1 over_quota 1.0/1.0"]);
    // What is dropped for being similar does not use it up.
    let input = one_root(&["a b c", "a b c d", "e f", "g h"]);
    let got = checked(json!({"quota": 2}), &input);
    assert_eq!(
        (kept(&got), dropped(&got)),
        (vec!["q0".into(), "q2".into()], vec!["q1 similar 0.75/0.7 q0".into(), "q3 over_quota 2.0/2.0".into()])
    );
}

#[test]
fn null_is_kept_and_counts_for_no_quota() {
    let input = rows(&[
        (Some(1), None, None, None),
        (Some(1), None, None, Some("a")),
        (Some(1), None, None, None),
        (Some(1), None, None, Some("b")),
    ]);
    let got = checked(json!({"quota": 1, "across": {}}), &input);
    assert_eq!((kept(&got), dropped(&got)), (vec!["q0".into(), "q1".into(), "q2".into()], vec!["q3 over_quota 1.0/1.0".into()]));
}

#[test]
fn texts_without_tokens_are_similar_to_nothing() {
    let input = one_root(&["???", "", "???", "a", "!"]);
    assert_eq!(kept(&checked(json!({}), &input)).len(), 5);
    assert_eq!(kept(&checked(json!({"measure": "f1", "max_similarity": 0}), &input)).len(), 5);
    // Nothing is below 0.
    assert_eq!(kept(&checked(json!({"max_similarity": 0}), &input)), ["q0"]);
}

#[test]
fn rows_of_no_group_are_one_group() {
    let same = Some("the same question");
    let input = rows(&[(None, None, None, same), (None, None, None, same), (Some(1), None, None, same)]);
    assert_eq!(kept(&checked(json!({}), &input)), ["q0", "q2"]);
    assert_eq!(kept(&checked(json!({"group": "all"}), &input)), ["q0"]);
    assert_eq!(kept(&checked(json!({"group": ["root_id", "id"]}), &input)).len(), 3);
}

#[test]
fn questions_of_other_groups_are_dropped_when_asked() {
    let input = rows(&[
        (Some(1), Some(0.1), None, Some("What is the capital of France?")),
        (Some(2), Some(0.9), None, Some("What is the capital of France?!")),
        (Some(3), Some(0.5), None, Some("what is the capital of France")),
        (Some(3), Some(0.4), None, Some("Which river flows through Paris?")),
        (Some(4), Some(0.3), None, None),
    ]);
    let got = checked(json!({"rank": "score", "across": {}}), &input);
    assert_eq!(kept(&got), ["q1", "q3", "q4"]);
    assert_eq!(dropped(&got), ["q0 similar_across 1.0/0.8 q1", "q2 similar_across 1.0/0.8 q1"]);
    let got = checked(json!({"across": {}}), &input);
    assert_eq!(dropped(&got), ["q1 similar_across 1.0/0.8 q0", "q2 similar_across 1.0/0.8 q0"]);
    // In one group they are no other group's.
    let got = checked(json!({"group": "all", "across": {}}), &input);
    assert_eq!(dropped(&got), ["q1 similar 1.0/0.7 q0", "q2 similar 1.0/0.7 q0"]);
}

#[test]
fn alike_across_groups_is_held_to_its_bound() {
    // Sets of ten words, eight of them shared: 8 of 12.
    let text = |own: char| (0..8).map(|n| format!("w{n} ")).chain((0..2).map(|n| format!("{own}{n} "))).collect::<String>();
    let input = rows(&[(Some(1), None, None, Some(&text('a'))), (Some(2), None, None, Some(&text('b')))]);
    let two_thirds = 8.0 / 12.0;
    for (threshold, n) in [(two_thirds, 1), (f64::next_up(two_thirds), 2)] {
        let got = checked(json!({"across": {"jaccard_threshold": threshold, "ngram": 1}}), &input);
        assert_eq!(kept(&got).len(), n, "{threshold}");
        let measured = &got.measured["similarity_across"];
        assert_eq!((measured.counts(), measured.bounds[0].beyond), if n == 1 { ([0, 1], 1) } else { ([1, 0], 0) });
    }
}

#[test]
fn thousands_of_equal_questions_are_not_compared_with_each_other() {
    let n = 20_000;
    let input = rows(&(0..n).map(|row| (Some(row / 2), None, None, Some("What is the capital of France?"))).collect::<Vec<_>>());
    let started = std::time::Instant::now();
    let cut = testing::Cut { batch_rows: 8192, shard_rows: 65_536, ranges: 4 };
    let got = testing::run_cut::<FilterSimilarConfig>(json!({"across": {}}), &[(Port::FROM, input)], cut);
    // The second of the first group is no other group's; it is similar to the first.
    assert_eq!(kept(&got), ["q0"]);
    assert_eq!(got.drop_reasons, BTreeMap::from([("similar", 1), ("similar_across", u64::try_from(n).expect("20,000") - 2)]));
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn hostile_texts_are_kept_dropped_or_rejected() {
    let long = "word ".repeat(2_000_000);
    let just = "a".repeat(64 << 10);
    let over = "a".repeat((64 << 10) + 1);
    let input = one_root(&[
        "",
        "?!…",
        &long,
        "日本の首都はどこですか。",
        "日本の首都はどこでしたか。",
        "👩\u{200d}👩\u{200d}👧",
        "ما هي عاصمة فرنسا؟",
        "e\u{301}te\u{301}",
        "été",
        &just,
        &over,
        "\u{0}",
    ]);
    let got = checked(json!({"across": {}}), &input);
    assert_eq!(kept(&got), ["q0", "q1", "q3", "q5", "q6", "q7", "q8", "q9", "q11"]);
    // 10 of 12 characters stand in the first.
    assert_eq!(dropped(&got), ["q4 similar 0.8333333333333334/0.7 q3"]);
    let rejected: Vec<(Option<&str>, &str)> = got.rejected.iter().map(|row| (row.id.as_deref(), row.reason)).collect();
    assert_eq!(rejected, [(Some("q2"), "too_long"), (Some("q10"), "too_long")]);
    assert_eq!(got.rejected[1].detail, "wanted a text of at most 65536 bytes in `question`, found 65537");
}

#[test]
fn settings_that_cannot_work_are_refused_at_their_place() {
    let refused = |settings: Value| testing::refusal::<FilterSimilarConfig>(settings, &[(Port::FROM, rows(&[]))]);
    assert_eq!(
        refused(json!({"across": {"jaccard_threshold": 0}})),
        "across.jaccard_threshold: wanted a number above 0, found 0: all rows are as alike as that"
    );
    assert_eq!(refused(json!({"rank": "question"})), "rank: wanted a column of numbers or times, found `question: Utf8`");
    assert_eq!(refused(json!({"quota": "score"})), "quota: wanted a column of whole numbers, or a number, found `score: Float64`");
    assert!(refused(json!({"group": []})).starts_with("(settings): "));
    assert!(refused(json!({"group": "root_id"})).starts_with("(settings): "));
    assert!(refused(json!({"quota": -1})).starts_with("(settings): "));
    assert!(refused(json!({"rank": "place"})).contains("`place`"));
    let sample = testing::sample();
    let error = testing::refusal::<FilterSimilarConfig>(json!({"column": "text"}), &[(Port::FROM, sample)]);
    assert!(error.starts_with("group: ") && error.contains("`root_id`"), "{error}");
}

/// Kept ids by the plain way: every row with every row of other groups, then every row with every kept one of its group.
fn plain(input: &[(i64, Option<i64>, Option<String>)], max: f64, quota: u64, across: Option<f64>) -> Vec<String> {
    let mut order: Vec<usize> = (0..input.len()).filter(|row| input[*row].2.is_some()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(input[*row].1)); // None is the least
    let text = |row: usize| input[row].2.as_deref().unwrap_or_default();
    let set = |row: usize| {
        let mut shingles = Shingles::default();
        Shingler { unit: crate::dedup::ShingleUnit::Words, n: 2 }.cut(text(row), &mut shingles);
        shingles.set()
    };
    let mut kept: Vec<usize> = Vec::new();
    for (place, &row) in order.iter().enumerate() {
        let is_before = |other: &usize| input[*other].0 != input[row].0 && jaccard(&set(*other), &set(row)) >= across.unwrap_or(2.0);
        if across.is_some() && order[..place].iter().any(is_before) {
            continue;
        }
        let of_group: Vec<usize> = kept.iter().copied().filter(|other| input[*other].0 == input[row].0).collect();
        let of = |other: &usize| RougeL::of(&Tokens::of(text(row)), &Tokens::of(text(*other))).precision;
        if (of_group.len() as u64) < quota && of_group.iter().all(|other| of(other) < max) {
            kept.push(row);
        }
    }
    (0..input.len()).filter(|row| input[*row].2.is_none() || kept.contains(row)).map(|row| format!("q{row}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_kept_as_by_the_plain_way(
        input in proptest::collection::vec(
            (0..4_i64, proptest::option::of(0..5_i64), proptest::option::weighted(0.9, proptest::collection::vec("[a-f]", 0..7))),
            0..50,
        ),
        max in prop_oneof![Just(0.5), Just(0.7), Just(1.0)],
        quota in 0_u32..8,
        across in any::<bool>(),
    ) {
        let input: Vec<(i64, Option<i64>, Option<String>)> =
            input.into_iter().map(|(root, score, words)| (root, score, words.map(|words| words.join(" ")))).collect();
        let table = rows(&input.iter().map(|row| (Some(row.0), None, row.1, row.2.as_deref())).collect::<Vec<_>>());
        // Equal sets of shingles are always found, others by chance: so only those are looked for here.
        let mut settings = json!({"rank": "n", "max_similarity": max, "quota": quota});
        if across {
            settings["across"] = json!({"jaccard_threshold": 1.0});
        }
        let got = testing::run::<FilterSimilarConfig>(settings, &[(Port::FROM, table)]);
        prop_assert_eq!(kept(&got), plain(&input, max, u64::from(quota), across.then_some(1.0)));

        // What is kept of a group is below the threshold, each against those that are better.
        let of_kept: Vec<usize> = kept(&got).iter().map(|id| id[1..].parse().expect("a number")).collect();
        for row in &of_kept {
            for other in of_kept.iter().filter(|other| input[**other].0 == input[*row].0 && *other != row) {
                let is_better = (std::cmp::Reverse(input[*other].1), other) < (std::cmp::Reverse(input[*row].1), row);
                if let (true, Some(own), Some(others)) = (is_better, &input[*row].2, &input[*other].2) {
                    prop_assert!(RougeL::of(&Tokens::of(own), &Tokens::of(others)).precision < max);
                }
            }
        }
    }

    #[test]
    fn nothing_is_dropped_across_groups_that_is_less_alike(
        input in proptest::collection::vec((0..4_i64, proptest::collection::vec("[a-e]", 0..7)), 0..40),
        threshold in 0.3..1.0,
    ) {
        let texts: Vec<(i64, String)> = input.into_iter().map(|(root, words)| (root, words.join(" "))).collect();
        let table = rows(&texts.iter().map(|(root, text)| (Some(*root), None, None, Some(text.as_str()))).collect::<Vec<_>>());
        let settings = json!({"across": {"jaccard_threshold": threshold}, "measure": "f1", "max_similarity": 1});
        let got = testing::run::<FilterSimilarConfig>(settings, &[(Port::FROM, table)]);
        let number = |id: &String| id[1..].parse::<usize>().expect("a number");
        let set = |row: usize| {
            let mut shingles = Shingles::default();
            Shingler { unit: crate::dedup::ShingleUnit::Words, n: 2 }.cut(&texts[row].1, &mut shingles);
            shingles.set()
        };
        let (ids, of) = (testing::column(got.dropped(), "id"), testing::column(got.dropped(), dropped::DUPLICATE_OF.name()));
        for (row, of) in ids.iter().map(number).zip(of.iter().map(number)) {
            prop_assert!(of < row && texts[of].0 != texts[row].0 && jaccard(&set(of), &set(row)) >= threshold);
        }
    }
}
