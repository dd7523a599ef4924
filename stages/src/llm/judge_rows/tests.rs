use std::sync::{Arc, Mutex};

use schemas::dropped;
use serde_json::json;

use super::*;
use crate::llm::Ask;
use crate::testing::{self, Balance};

fn texts(texts: &[Option<&str>]) -> RecordBatch {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec())])
}

fn pairs(rows: &[(Option<&str>, Option<&str>)]) -> RecordBatch {
    let ids: Vec<String> = (0..rows.len()).map(|row| format!("d{row}")).collect();
    let (a, b) = rows.iter().copied().unzip();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("one", a), ("other", b)])
}

/// The text of a request's last turn.
fn question(ask: &Ask) -> &str {
    match ask.messages.last().map(|message| message.content.as_slice()) {
        Some([Part::Text(text)]) => text,
        _ => "",
    }
}

fn rubric() -> Value {
    json!([{"name": "useful", "description": "what a reader learns"}, {"name": "clear", "description": "how it reads", "min": 0, "max": 10}])
}

#[test]
fn it_keeps_the_contract() {
    let prompt = "{{ text }} {{ source or '' }}";
    for settings in [
        json!({"llm": "x", "prompt": prompt, "rubric": [{"name": "good", "description": "whether it is"}], "reason": false}),
        json!({"llm": "x", "prompt": prompt, "rubric": rubric(), "votes": 2, "min_score": {"clear": 4}, "min_agreement": 0.5}),
        json!({"llm": "x", "pair": {"a": "text", "b": "url"}, "rubric": "Which is better?", "min_agreement": 0.9}),
    ] {
        let got = testing::check_contract::<JudgeRowsConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
        let reasons = ["null_in_prompt", "empty_prompt"];
        assert!(got.rejected.iter().all(|row| reasons.contains(&row.reason)), "{:?}", got.rejected);
    }
}

#[test]
fn a_score_is_the_middle_of_the_votes_and_a_low_one_drops_its_row() {
    let settings = json!({
        "llm": "local", "rubric": rubric(), "votes": 3, "temperature": 1, "min_score": {"useful": 3, "clear": 5}, "min_agreement": 0.75,
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Arc::clone(&seen);
    let got = testing::run_scripted::<JudgeRowsConfig>(
        settings,
        &texts(&[Some("good"), Some("bound"), Some("dull"), Some("dark"), Some("disputed"), None]),
        Box::new(move |ask| {
            script.lock().unwrap().push((question(ask).to_owned(), ask.draw));
            let vote = usize::try_from(ask.draw / 64).unwrap();
            let (useful, clear) = match question(ask) {
                text if text.contains("good") => ([4, 5, 2], [10, 10, 5]),
                text if text.contains("bound") => ([3, 3, 3], [5, 5, 5]),
                text if text.contains("dull") => ([2, 2, 5], [9, 9, 9]),
                text if text.contains("dark") => ([5, 5, 5], [4, 4, 4]),
                _ => ([5, 5, 1], [10, 0, 10]),
            };
            Ok(json!({"reason": format!(" vote {vote} "), "useful": useful[vote], "clear": clear[vote]}).to_string())
        }),
    );
    let column = |name: &str| testing::column(got.rows(), name);
    // `good`: pairs are 1/4, 2/4, 3/4 and 0, 1/2, 1/2 apart: 1 - 2.5 / 6 is below 0.75.
    assert_eq!((column("id"), column("useful"), column("clear")), (vec!["d1".to_owned()], vec!["3.0".to_owned()], vec!["5.0".to_owned()]));
    assert_eq!((column("agreement"), column("judge_reason")), (vec!["1.0".to_owned()], vec!["vote 0".to_owned()]));
    assert_eq!(column("answer_keys")[0].split(", ").count(), 3);
    let dropped = got.dropped();
    assert_eq!(testing::column(dropped, "id"), ["d0", "d2", "d3", "d4"]);
    assert_eq!(testing::column(dropped, dropped::REASON.name()), ["low_agreement", "low_useful", "low_clear", "low_agreement"]);
    let values: Vec<f64> = dropped::VALUE.of(dropped).iter().flatten().collect();
    // `disputed`: (0, 1, 1) and (1, 0, 1) apart: 1 - 4 / 6.
    assert!(values.iter().zip([1.0 - 2.5 / 6.0, 2.0, 4.0, 1.0 - 4.0 / 6.0]).all(|(got, want)| (got - want).abs() < 1e-9), "{values:?}");
    assert_eq!(dropped::THRESHOLD.of(dropped).iter().flatten().collect::<Vec<_>>(), [0.75, 3.0, 5.0, 0.75]);
    assert_eq!(got.rejected.iter().map(|row| row.reason).collect::<Vec<_>>(), ["null_in_prompt"]);
    let useful = &got.measured["useful"];
    assert_eq!(
        (useful.bounds[0].setting.as_str(), useful.bounds[0].at, useful.bounds[0].beyond, useful.counts()),
        ("min_score.useful", 3.0, 1, [1, 4])
    );
    assert_eq!(got.measured["agreement"].bounds[0].beyond, 2);
    let seen = seen.lock().unwrap();
    let mut draws: Vec<u32> = seen.iter().filter(|(text, _)| text.contains("good")).map(|(_, draw)| *draw).collect();
    draws.sort_unstable();
    assert_eq!(draws, [0, 64, 128]);
    insta::assert_snapshot!(seen[0].0, @r#"
    <text>
    good
    </text>

    Judge by each of the criteria below.

    Answer with one JSON object and nothing else. Its fields:
    - "reason": a text (in one sentence)
    - "useful": a whole number from 1 to 5 (what a reader learns)
    - "clear": a whole number from 0 to 10 (how it reads)
    "#);
}

#[test]
fn a_text_is_a_rubric_with_one_score() {
    let settings = json!({"llm": "local", "rubric": "Is it kind?", "prompt": "{{ text }}"});
    let script = |ask: &Ask| {
        if question(ask).contains("Judge by this rubric:\nIs it kind?") {
            Ok("{\"reason\": \"so\", \"score\": 4}".to_owned())
        } else {
            Err(String::new())
        }
    };
    let got = testing::run_scripted::<JudgeRowsConfig>(settings, &texts(&[Some("x")]), Box::new(script));
    let names: Vec<String> = got.rows().schema().fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
    assert_eq!(names[2..5], ["score: Float32", "agreement: Float32", "judge_reason: Utf8"]);
    assert_eq!(
        (testing::column(got.rows(), "score"), testing::column(got.rows(), "agreement")),
        (vec!["4.0".to_owned()], vec![String::new()])
    );
}

#[test]
fn a_row_needs_more_than_half_of_its_votes() {
    let settings = json!({"llm": "local", "rubric": "Good?", "votes": 3, "tries": 2, "reason": false});
    // One vote of `one` and two of `two` stay without a score.
    let script = |ask: &Ask| {
        let bad = if ask.messages.iter().any(|message| format!("{message:?}").contains("two")) { 2 } else { 1 };
        Ok(if ask.draw / 64 < bad { "{\"score\": \"high\"}" } else { "{\"score\": 3}" }.to_owned())
    };
    let got = testing::run_scripted::<JudgeRowsConfig>(settings, &texts(&[Some("one"), Some("two")]), Box::new(script));
    assert_eq!(
        (testing::column(got.rows(), "id"), testing::column(got.rows(), "agreement")),
        (vec!["d0".to_owned()], vec!["1.0".to_owned()])
    );
    let [rejected] = got.rejected.as_slice() else { panic!("{:?}", got.rejected) };
    assert_eq!((rejected.id.as_deref(), rejected.reason), (Some("d1"), "unusable_answer"));
    let said = "1 of 3 votes can be used: \"score\": wanted a whole number from 1 to 5, found the text \"high\"; asked 2 times; the last answer: {\"score\": \"high\"}";
    assert_eq!(rejected.detail, said);
    assert_eq!((got.figures["answers"]["any"], got.figures["asked_again"]["any"]), (9, 3));
}

#[test]
fn a_pair_is_judged_in_both_orders() {
    let settings = json!({
        "llm": "local", "rubric": "Which is more helpful?", "pair": {"a": "one", "b": "other"}, "votes": 2, "reason": false, "min_agreement": 0.5,
    });
    let input = pairs(&[
        (Some("good"), Some("bad")),
        (Some("bad"), Some("good")),
        (Some("same"), Some("same, too")),
        (Some("biased"), Some("biased, too")),
        (Some("fickle"), Some("other")),
        (None, Some("x")),
        (Some("{{ second }}"), Some("good")),
    ]);
    let script = |ask: &Ask| {
        let text = question(ask);
        let (first, second) = text.split_once("</first>").expect("two texts");
        Ok(if first.contains("biased") {
            "**First.**"
        } else if text.contains("fickle") {
            // Both orders of the first vote are for a, of the second for b.
            if (ask.draw < 128) == first.contains("fickle") { "first" } else { "second" }
        } else if first.contains("good") {
            "{\"winner\": \"first\"}"
        } else if second.contains("good") {
            "{\"winner\": \"second\"}"
        } else {
            "tie"
        }
        .to_owned())
    };
    let got = testing::run_scripted::<JudgeRowsConfig>(settings, &input, Box::new(script));
    let column = |name: &str| testing::column(got.rows(), name);
    assert_eq!(
        (column("id"), column("winner")),
        (["d0", "d1", "d2", "d6"].map(str::to_owned).to_vec(), ["a", "b", "tie", "b"].map(str::to_owned).to_vec())
    );
    assert_eq!(column("agreement"), ["1.0"; 4]);
    assert_eq!(testing::column(got.dropped(), "id"), ["d3", "d4"]);
    assert_eq!(testing::column(got.dropped(), dropped::REASON.name()), ["low_agreement"; 2]);
    let swaps: Vec<_> = got.figures["position_swaps"].iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(swaps, [("both orders agree", 10), ("first in both orders", 2)]);
    assert_eq!(got.figures["answers"]["any"], 24);
    assert_eq!(got.rejected[0].detail, "`one` is null");
    // What a cell holds is no template.
    assert_eq!(got.rejected.len(), 1);
}

#[test]
fn a_word_inside_an_answer_is_no_verdict() {
    let settings = json!({"llm": "local", "rubric": "Better?", "pair": {"a": "one", "b": "other"}, "tries": 1});
    let got = testing::run_scripted::<JudgeRowsConfig>(
        settings,
        &pairs(&[(Some("x"), Some("y"))]),
        Box::new(|_| Ok("It is not first.".to_owned())),
    );
    assert_eq!(got.rejected[0].reason, "unusable_answer");
    assert!(
        got.rejected[0].detail.contains("wanted a JSON object, found none in the text that begins with \"It is not first.\""),
        "{}",
        got.rejected[0].detail
    );
}

#[test]
fn settings_that_can_not_work_are_refused() {
    let input = [(Port::FROM, testing::strings(&[("id", vec![None]), ("text", vec![None]), ("other", vec![None])]))];
    let with = |more: Value| {
        let mut settings = json!({"llm": "local", "rubric": rubric()});
        settings.as_object_mut().expect("settings").extend(more.as_object().expect("settings").clone());
        testing::refusal::<JudgeRowsConfig>(settings, &input)
    };
    let named = |name: &str| json!({"rubric": [{"name": name, "description": "x"}]});
    assert_eq!(with(named("text")), "rubric: adds column `text`, which the input already has");
    assert_eq!(with(named("model")), "rubric: `model` is a column that the stage adds by itself; wanted another name");
    assert!(
        with(json!({"rubric": [{"name": "a", "description": "x", "min": 3, "max": 3}]}))
            .contains("criterion `a`: wanted `max` above `min`, which is 3, found 3")
    );
    assert!(with(json!({"rubric": " "})).contains("found an empty text"));
    assert!(with(json!({"rubric": []})).contains("wanted one or more criteria"));
    assert_eq!(
        with(json!({"min_score": {"usefull": 2}})),
        "min_score.usefull: wanted a criterion of `rubric`, which has `useful`, `clear`; found `usefull`"
    );
    assert_eq!(with(json!({"min_score": {"useful": 6}})), "min_score.useful: wanted a score from 1 to 5, found 6");
    assert_eq!(with(json!({"min_agreement": 0.5})), "min_agreement: one vote agrees with nobody; wanted `votes` of 2 or more");
    let pair = json!({"a": "text", "b": "other"});
    assert_eq!(
        with(json!({"pair": pair, "min_score": {"useful": 2}})),
        "min_score: pairs get no scores; wanted `min_agreement`, or no `pair`"
    );
    assert_eq!(
        with(json!({"pair": pair, "prompt": "{{ first }}"})),
        "prompt: a template for `pair` shows both, as `{{ first }}` and `{{ second }}`; this one lacks `second`"
    );
    assert!(with(json!({"pair": {"a": "text", "b": "none"}})).starts_with("needs column `none: Utf8`"));
    assert!(with(json!({"prompt": "{{ txt }}"})).starts_with("prompt: the template uses `txt`"));
}
