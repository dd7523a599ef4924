//! Trees against scripted models.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::future::BoxFuture;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::llm::{Answer, Answerer, Ask, AskError, LlmFigures, LlmSettings, Llms, Part, Role, Script};
use crate::testing::{self, Balance, CUTS, Outcome};

/// What the last turn of a request says.
fn last(ask: &Ask) -> String {
    ask.messages.last().map(said).unwrap_or_default()
}

fn said(message: &crate::llm::Message) -> String {
    message.content.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "" }).collect()
}

/// A question, and a split in the middle: of numbered parts, or of words.
fn halving(ask: &Ask) -> String {
    let text = last(ask);
    let question = format!("What is said of {}?", text.chars().take(12).collect::<String>().replace(['"', '\n'], " "));
    let wants = |field: &str| ask.schema.as_ref().is_some_and(|schema| schema.schema["properties"].get(field).is_some());
    if wants("split_after") {
        let parts = text.lines().count();
        return json!({"question": question, "split_after": parts / 2}).to_string();
    }
    if wants("context_1") {
        let words: Vec<&str> = text.split(' ').collect();
        let (first, second) = words.split_at(words.len() / 2);
        return json!({"question": question, "context_1": first.join(" "), "context_2": second.join(" ")}).to_string();
    }
    json!({"question": question}).to_string()
}

fn script(of: impl Fn(&Ask) -> String + Send + Sync + 'static) -> Script {
    Box::new(move |ask| Ok(of(ask)))
}

fn documents(texts: &[&str]) -> RecordBatch {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.iter().map(|text| Some(*text)).collect())])
}

fn settings(more: Value) -> Value {
    let mut settings = json!({"llm": "local", "min_paragraph_chars": 0});
    for (name, value) in more.as_object().expect("settings") {
        settings[name] = value.clone();
    }
    settings
}

fn run(more: Value, texts: &[&str], of: impl Fn(&Ask) -> String + Send + Sync + 'static) -> Outcome {
    testing::run_scripted::<SplitContextConfig>(settings(more), &documents(texts), script(of))
}

fn column(outcome: &Outcome, name: &str) -> Vec<String> {
    testing::column(outcome.rows(), name)
}

/// 500 characters: 16 sentences of 30 or 31, with a space between two.
fn sixteen() -> String {
    let sentences = (1..=16).map(|number| format!("Row {number:02} of this text says {}.", if number % 3 == 0 { "aaaaa" } else { "aaaa" }));
    sentences.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_root_of_500_characters_has_31_nodes() {
    let text = sixteen();
    assert_eq!(text.chars().count(), 500);
    let got = run(json!({}), &[&text], halving);
    assert_eq!(got.rows().num_rows(), 31);
    let paths = column(&got, "node_path");
    // Level by level, from left to right.
    assert_eq!(paths[..7], ["", "0", "1", "00", "01", "10", "11"]);
    assert!(paths.iter().map(String::len).is_sorted());
    let depths = column(&got, "depth");
    let of_depth = |depth: &str| depths.iter().filter(|of| *of == depth).count();
    assert_eq!(["0", "1", "2", "3", "4"].map(of_depth), [1, 2, 4, 8, 16]);
    assert_eq!(column(&got, "stop").iter().filter(|stop| *stop == "leaf").count(), 16);
    assert_eq!(column(&got, "stop").iter().filter(|stop| stop.is_empty()).count(), 15);
    assert_eq!(column(&got, "quota"), ["14"; 31]);
    assert_eq!(column(&got, "tree"), ["0"; 31]);
    assert_eq!(column(&got, "root_id"), ["d0#0"; 31]);
    assert_eq!(column(&got, "parent_id"), ["d0"; 31]);
    assert_eq!(column(&got, "id")[..3], ["d0#0.0", "d0#0.0.0", "d0#0.0.1"]);
    assert_eq!((column(&got, "span_start")[2].as_str(), column(&got, "span_end")[2].as_str()), ("250", "500"));
    assert_eq!(column(&got, "context")[0], text);
    assert_eq!(column(&got, "context")[30], "Row 16 of this text says aaaa.");
    assert_eq!(column(&got, "model")[0], "scripted");
    assert_eq!(got.figures["answers"], BTreeMap::from([("any".to_owned(), 31)]));
    assert_eq!(got.figures["questions"]["depth 04"], 16);
    assert_eq!(got.figures["nodes"], BTreeMap::from([("divided".to_owned(), 15), ("leaf".to_owned(), 16)]));
    assert_eq!(got.figures["trees"]["grown"], 1);
    assert_eq!(got.figures["roots"]["quota_met"], 1);
    assert_eq!(got.figures["characters"], BTreeMap::from([("in roots".to_owned(), 500)]));
}

#[test]
fn a_root_of_500_characters_that_is_written_anew_has_31_nodes_too() {
    // 100 words of 4 letters: 50, 25, 12 or 13, 6 or 7, 3 or 4.
    let text = format!("{}.", (0..100).map(|number| format!("w{number:03}")).collect::<Vec<_>>().join(" "));
    assert_eq!(text.len(), 500);
    let got = run(json!({"split": "rewrite"}), &[&text], halving);
    assert_eq!(got.rows().num_rows(), 31);
    let depths = column(&got, "depth");
    assert_eq!(depths.iter().filter(|depth| *depth == "4").count(), 16);
    // What is written anew stands nowhere.
    assert_eq!(got.rows().column_by_name("span_start").expect("a column").null_count(), 30);
    assert_eq!(got.measured["split_precision"].counts(), [31, 0]);
}

#[test]
fn twenty_characters_are_not_asked_about_and_one_more_is() {
    let got = run(json!({"max_trees": 1}), &["This has twenty char", "This has twenty1 char", "日本語"], halving);
    assert_eq!(column(&got, "context"), ["This has twenty1 char"]);
    assert_eq!(column(&got, "stop"), ["leaf"]);
    assert_eq!(testing::column(got.dropped(), "drop_reason"), ["too_short", "too_short"]);
    assert_eq!(testing::column(got.dropped(), "drop_value"), ["20.0", "3.0"]);
    assert_eq!(testing::column(got.dropped(), "drop_threshold"), ["20.0", "20.0"]);
    // A half of 21 characters is a node, one of 20 is not.
    let got = run(json!({"max_trees": 1}), &["Twenty characters so. One more than twenty."], halving);
    assert_eq!(column(&got, "context"), ["Twenty characters so. One more than twenty.", "Twenty characters so.", "One more than twenty."]);
    let got = run(json!({"min_chars": 21, "max_trees": 1}), &["Twenty characters so. One more than twenty."], halving);
    assert_eq!(column(&got, "context").len(), 1);
}

#[test]
fn documents_that_give_nothing_say_why() {
    let punctuation = "?! ".repeat(50);
    let short = "x".repeat(100);
    let input = testing::strings(&[
        ("id", vec![Some("a"), Some("b"), Some("c"), Some("d"), Some("e"), None]),
        ("text", vec![None, Some(" \n "), Some(&punctuation), Some(&short), Some("ok"), Some("A text that is long enough to ask about.")]),
    ]);
    let got = testing::run_scripted::<SplitContextConfig>(json!({"llm": "local"}), &input, script(halving));
    assert_eq!(got.rows().num_rows(), 0);
    assert_eq!(testing::column(got.dropped(), "id"), ["a", "b", "c", "d", "e"]);
    assert_eq!(testing::column(got.dropped(), "drop_reason"), ["no_text", "no_text", "no_letters", "too_short", "too_short"]);
    assert_eq!(testing::column(got.dropped(), "drop_value"), ["", "", "", "100.0", "2.0"]);
    assert_eq!((got.rejected.len(), got.rejected[0].reason), (1, "no_id"));
    assert_eq!(got.figures["characters"], BTreeMap::from([("in short paragraphs".to_owned(), 102), ("without letters".to_owned(), 149)]));
}

#[test]
fn quotas_follow_the_length_and_are_one_at_least() {
    // One question a tree: as many trees as questions.
    let trees = |chars: usize, more: Value| {
        let mut more = settings(more);
        more["max_depth"] = json!(0);
        more["max_trees"] = json!(100);
        more["size"] = json!({"chars": 1000});
        let text = format!("{}.", "a".repeat(chars - 1));
        let got = run(more, &[&text], halving);
        let quota = column(&got, "quota")[0].clone();
        assert_eq!(column(&got, "stop")[0], "no_border");
        (quota, got.rows().num_rows())
    };
    assert_eq!(trees(34, json!({})), ("1".to_owned(), 2));
    assert_eq!(trees(34, json!({"min_quota": 0})), ("0".to_owned(), 1));
    assert_eq!(trees(69, json!({"over_generate": 1})), ("1".to_owned(), 2));
    assert_eq!(trees(70, json!({"over_generate": 1})), ("2".to_owned(), 3));
    // More than 16.1.
    assert_eq!(trees(500, json!({})), ("14".to_owned(), 17));
    // More than 23, which is 22.999 to a computer.
    assert_eq!(trees(700, json!({})), ("20".to_owned(), 24));
    assert_eq!(trees(500, json!({"chars_per_question": 50, "over_generate": 0})), ("10".to_owned(), 1));
}

#[test]
fn a_model_that_never_answers_well_is_not_asked_for_ever() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let garbage = move |_: &Ask| {
        counter.fetch_add(1, Ordering::Relaxed);
        "I don't know.".to_owned()
    };
    let got = run(json!({}), &[&sixteen()], garbage);
    assert_eq!(asked.load(Ordering::Relaxed), 4 * 8);
    assert_eq!(got.rows().num_rows(), 0);
    assert_eq!(got.rejected.len(), 8);
    assert_eq!((got.rejected[0].id.as_deref(), got.rejected[7].id.as_deref()), (Some("d0#0.0"), Some("d0#0.7")));
    assert_eq!(got.rejected[0].reason, "unusable_answer");
    assert_eq!(
        got.rejected[0].detail,
        "wanted a JSON object, found none in the text that begins with \"I don't know.\"; asked 4 times; the last answer: I don't know."
    );
    assert_eq!(got.figures["answers"]["any"], 32);
    assert_eq!(got.figures["asked_again"]["any"], 24);
    assert_eq!(got.figures["roots"]["quota_missed"], 1);
    assert_eq!(got.figures["nodes"]["unusable_answer"], 8);
}

#[test]
fn a_node_without_an_answer_leaves_the_rest_of_its_tree() {
    let right_half = |ask: &Ask| if last(ask).starts_with("[1] Row 09") { "?".to_owned() } else { halving(ask) };
    let got = run(json!({"max_trees": 1}), &[&sixteen()], right_half);
    assert_eq!(got.rows().num_rows(), 16);
    assert!(column(&got, "node_path").iter().all(|path| !path.starts_with('1')));
    assert_eq!((got.rejected.len(), got.rejected[0].id.as_deref()), (1, Some("d0#0.0.1")));
    // What is refused for good is not asked about in another tree.
    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let refuse: Script = Box::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Err("too long".to_owned())
    });
    let got = testing::run_scripted::<SplitContextConfig>(settings(json!({})), &documents(&[&sixteen()]), refuse);
    assert_eq!((got.rejected.len(), got.rejected[0].reason, refused.load(Ordering::Relaxed)), (1, "request_refused", 1));
}

#[test]
fn every_tree_of_a_root_draws_anew_and_asks_the_same() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let first_is_bad = move |ask: &Ask| {
        log.lock().expect("a log").push((ask.draw, ask.key("m"), ask.messages.len()));
        if ask.draw.is_multiple_of(DRAWS_OF_A_TREE) { "no".to_owned() } else { halving(ask) }
    };
    let got = run(json!({"max_depth": 0, "max_trees": 3}), &[&sixteen()], first_is_bad);
    assert_eq!(column(&got, "tree"), ["0", "1", "2"]);
    assert_eq!(column(&got, "id"), ["d0#0.0", "d0#0.1", "d0#0.2"]);
    let asked = asked.lock().expect("a log");
    assert_eq!(asked.iter().map(|(draw, ..)| *draw).collect::<Vec<_>>(), [0, 1, 1000, 1001, 2000, 2001]);
    let mut keys: Vec<_> = asked.iter().map(|(_, key, _)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 6);
    // The keys of a row are all that were asked, the used one last.
    let expected = format!("[{}, {}]", asked[0].1, asked[1].1);
    let llms = column(&got, "answer_keys");
    assert_eq!(llms[0].matches(',').count(), 1);
    assert_eq!(llms[0].len(), expected.len());
    // Two messages more: what could not be used, and why.
    assert_eq!((asked[0].2 + 2, asked[2].2), (asked[1].2, asked[0].2));
}

#[test]
fn caps_on_depth_and_nodes_are_said() {
    let got = run(json!({"max_depth": 2, "max_trees": 1}), &[&sixteen()], halving);
    assert_eq!(got.rows().num_rows(), 7);
    assert_eq!(column(&got, "stop")[2..4], ["", "max_depth"]);
    for (most, rows, stopped) in [(1, 1, 1), (2, 1, 1), (3, 3, 2), (4, 3, 2), (6, 5, 3), (7, 7, 4)] {
        let got = run(json!({"max_nodes": most, "max_trees": 1}), &[&sixteen()], halving);
        assert_eq!(got.rows().num_rows(), rows, "{most}");
        assert_eq!(column(&got, "stop").iter().filter(|stop| *stop == "max_nodes").count(), stopped, "{most}");
    }
}

/// Answers with these halves to the root, and with a question to what comes of it.
fn writes(first: &'static str, second: &'static str) -> impl Fn(&Ask) -> String + Send + Sync {
    move |ask| {
        if ask.schema.as_ref().is_some_and(|schema| schema.name == "question_and_halves") {
            json!({"question": "What is counted?", "context_1": first, "context_2": second}).to_string()
        } else {
            halving(ask)
        }
    }
}

#[test]
fn what_is_invented_has_no_children() {
    let whole = "One two three four five six seven eight nine ten eleven twelve.";
    let got = |more: Value, first, second| {
        let mut more = settings(more);
        more["split"] = json!("rewrite");
        more["max_depth"] = json!(1);
        more["max_trees"] = json!(1);
        let got = run(more, &[whole], writes(first, second));
        (got.rows().num_rows(), column(&got, "stop")[0].clone())
    };
    // 7 of 10 words are the text's: a share of 0.7 is enough.
    let (first, second) = ("one two three four xx", "five six seven yyyyy zz");
    assert_eq!(got(json!({}), first, second), (3, String::new()));
    assert_eq!(got(json!({"min_precision": 0.71}), first, second), (1, "hallucination".to_owned()));
    assert_eq!(got(json!({}), first, "five six yyyyy yyyyy zz"), (1, "hallucination".to_owned()));
    // 7 of the 12 words of the text.
    assert_eq!(got(json!({"min_recall": 0.58}), first, second), (3, String::new()));
    assert_eq!(got(json!({"min_recall": 0.59}), first, second), (1, "hallucination".to_owned()));
    // In another order they are not the text's.
    assert_eq!(got(json!({}), "seven eight nine ten eleven", "one two three four five"), (1, "hallucination".to_owned()));
    assert_eq!(got(json!({}), whole, "one two three four"), (1, "not_shorter".to_owned()));
    assert_eq!(got(json!({}), "one two", "one two three four five six seven eight nine ten eleven xxxxxxx"), (1, "not_shorter".to_owned()));
    // Both halves too short to be asked about.
    assert_eq!(got(json!({}), "one two three", "four five six"), (1, "leaf".to_owned()));
    // One of them.
    assert_eq!(got(json!({}), "one two three", "four five six seven eight"), (2, String::new()));
}

#[test]
fn labels_serve_as_well_as_json() {
    let labels = |ask: &Ask| {
        assert!(ask.schema.is_none());
        let text = last(ask);
        let parts = text.lines().filter(|line| line.starts_with('[')).count();
        let split = if parts > 0 { format!("\n\n**Split after:** {}", parts / 2) } else { String::new() };
        format!("**Question:** What is it\nabout?{split}\n")
    };
    let got = run(json!({"answers": "labels"}), &[&sixteen()], labels);
    assert_eq!(got.rows().num_rows(), 31);
    assert_eq!(column(&got, "question"), ["What is it about?"; 31]);
}

#[test]
fn chinese_is_asked_about_in_chinese_and_spans_are_characters() {
    let text = "前言很短。\n港口每年冬天都会结冰，船只无法进出，商人只好等待。镇上便把新码头建在南岸，那里的暖流使水面不冻。后来铁路也修到了那里，货物可以直接装车运走。";
    let japanese = "港は毎年冬になると凍りました。そこで町は新しい埠頭を南の岸に作りました。";
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let model = move |ask: &Ask| {
        log.lock().expect("a log").push(said(&ask.messages[0]).starts_with('你'));
        halving(ask)
    };
    let got = run(json!({"min_chars": 10, "max_trees": 1}), &[text, japanese], model);
    let characters: Vec<char> = text.chars().collect();
    let rows = got.rows();
    let span = |name: &str| rows.column_by_name(name).expect("a column").as_primitive::<Int64Type>().clone();
    let (starts, ends) = (span("span_start"), span("span_end"));
    let contexts = column(&got, "context");
    let of_chinese: Vec<usize> = (0..rows.num_rows()).filter(|row| column(&got, "parent_id")[*row] == "d0").collect();
    assert!(of_chinese.len() > 5);
    for &row in &of_chinese {
        let at = |array: &arrow::array::Int64Array| usize::try_from(array.value(row)).expect("a place");
        assert_eq!(characters[at(&starts)..at(&ends)].iter().collect::<String>(), contexts[row]);
    }
    assert_eq!(starts.value(0), 6);
    assert_eq!(got.figures["characters"]["in short roots"], 5);
    let seen = seen.lock().expect("a log");
    let chinese = seen.iter().filter(|is_chinese| **is_chinese).count();
    assert_eq!((chinese, seen.len()), (of_chinese.len(), rows.num_rows()));
    // The hash tells the prompts apart.
    let hashes = column(&got, "prompt_hash");
    assert_ne!(hashes[0], hashes[rows.num_rows() - 1]);
    assert!(is_chinese("港口每年 port 结冰"));
    assert!(!is_chinese("") && !is_chinese("the port is 港口") && !is_chinese(japanese));
}

#[test]
fn columns_are_carried_and_roots_shown_where_wanted() {
    let text = sixteen();
    let input =
        testing::strings(&[("url", vec![Some("u")]), ("id", vec![Some("a")]), ("body", vec![Some(&text)]), ("model", vec![Some("old")])]);
    let settings = json!({"llm": "local", "column": "body", "carry": ["url"], "root_text": true, "max_depth": 1, "max_trees": 1});
    let got = testing::run_scripted::<SplitContextConfig>(settings, &input, script(halving));
    assert_eq!(column(&got, "url"), ["u"; 3]);
    assert_eq!(column(&got, "root_text"), [text.as_str(); 3]);
    assert_eq!(column(&got, "model"), ["scripted"; 3]);
    let refusal = |more| testing::refusal::<SplitContextConfig>(more, &[(Port::FROM, input.clone())]);
    let with = |more: Value| {
        let mut settings = settings_of_body();
        settings.as_object_mut().expect("settings").extend(more.as_object().expect("settings").clone());
        settings
    };
    assert_eq!(refusal(with(json!({"carry": ["uri"]}))), "carry: the input has no column `uri`, it has `url`, `id`, `body`, `model`");
    assert_eq!(refusal(with(json!({"carry": ["model"]}))), "carry: found `model`, which is a column of every question");
    assert_eq!(refusal(with(json!({"size": {}}))), "size: wanted `chars` or `tokens`, found neither");
    assert_eq!(refusal(with(json!({"size": {"chars": 1, "tokens": 1}}))), "size: wanted `chars` or `tokens`, found both");
    assert_eq!(refusal(with(json!({"size": {"tokens": 1}}))), "size: wanted a tokenizer's file with `tokens`, found none");
    assert_eq!(refusal(with(json!({"size": {"chars": 1, "tokenizer": "t"}}))), "size.tokenizer: found `t`, which is for `tokens`");
    assert!(refusal(with(json!({"size": {"tokens": 1, "tokenizer": "t"}}))).starts_with("size.tokenizer: can't use `t` as a tokenizer: "));
    assert_eq!(refusal(with(json!({"temperature": -0.1}))), "temperature: wanted a number from 0 to 2, found -0.1");
    assert_eq!(refusal(with(json!({"over_generate": -1}))), "over_generate: wanted a number from 0 to 1000, found -1");
    assert_eq!(refusal(with(json!({"examples": 4}))), "examples: wanted 3 at most, found 4");
    assert_eq!(refusal(with(json!({"tries": 1001}))), "tries: wanted 1000 at most, found 1001");
    assert_eq!(
        refusal(with(json!({"min_recall": 0.5}))),
        "min_recall: found it with `split: spans`, whose halves are always the whole text"
    );
    assert!(refusal(with(json!({"prompt": "no/such/file"}))).starts_with("prompt: can't read "));
}

fn settings_of_body() -> Value {
    json!({"llm": "local", "column": "body"})
}

#[test]
fn a_prompt_of_ones_own_is_asked_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, "\u{feff}{{ system }}Be brief.{{ user }}About: {{ text }}").expect("a file");
    let model = |ask: &Ask| {
        assert_eq!(ask.messages.len(), 2);
        assert_eq!((said(&ask.messages[0]).as_str(), ask.messages[1].role), ("Be brief.", Role::User));
        assert!(said(&ask.messages[1]).starts_with("About: Row 01 of"));
        halving(ask)
    };
    let more = json!({"prompt": file, "max_depth": 0, "max_trees": 1, "temperature": 0.5, "top_p": 0.9, "max_tokens": 99});
    let got = run(more, &[&sixteen()], model);
    assert_eq!(got.rows().num_rows(), 1);
}

#[test]
fn roots_can_be_measured_in_tokens() {
    let tokenizer = crate::text::tokenizer::tests::examples().join("tokenizer.json");
    let more = json!({"size": {"tokens": 60, "tokenizer": tokenizer}, "max_depth": 0, "max_trees": 1});
    let got = run(more, &[&sixteen()], halving);
    assert!(got.rows().num_rows() > 2);
    assert_eq!(column(&got, "context").join(" "), sixteen());
    assert_eq!(column(&got, "root_id")[..2], ["d0#0", "d0#1"]);
}

#[test]
fn it_keeps_the_contract() {
    let sample = testing::sample();
    for more in [
        json!({"min_paragraph_chars": 10}),
        json!({"min_chars": 5, "carry": ["tags", "words"], "examples": 0}),
        json!({"min_chars": 5, "split": "rewrite", "root_text": true, "examples": 3}),
        json!({"min_chars": 3, "split": "rewrite", "answers": "labels", "language": "zh"}),
        json!({"answers": "labels", "size": {"chars": 30}, "paragraphs": "blank_lines", "max_trees": 2}),
    ] {
        let got = testing::check_contract::<SplitContextConfig>(settings(more), &sample, Balance::Free);
        assert!(got.rows().num_rows() > 30);
        assert!(got.rejected.is_empty(), "{:?}", got.rejected);
        assert!(!got.figures.contains_key("asked_again"));
    }
}

#[test]
fn stand_ins_are_as_long_as_answers_are() {
    let got = testing::run::<SplitContextConfig>(settings(json!({})), &[(Port::FROM, documents(&[&sixteen()]))]);
    assert_eq!(got.rows().num_rows(), 31);
    for question in column(&got, "question") {
        let words = question.split(' ').count();
        assert!((8..=24).contains(&words), "{question}");
    }
}

/// Answers some requests, and then ends the run.
struct EndsAfter {
    asked: AtomicUsize,
    answers: usize,
}

impl Answerer for EndsAfter {
    fn answer<'a>(&'a self, llm: &'a Llm, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
        Box::pin(async move {
            if self.asked.fetch_add(1, Ordering::Relaxed) >= self.answers {
                return Err(AskError::Stop(StageError::Stopped { problem: "the budget is spent".to_owned(), help: "raise it".to_owned() }));
            }
            let origin = crate::llm::Origin::Endpoint;
            Ok(Answer { text: halving(ask), cut: false, usage: crate::llm::Usage::default(), key: ask.key(llm.identity()), origin })
        })
    }

    fn figures(&self) -> LlmFigures {
        LlmFigures { requests: self.asked.load(Ordering::Relaxed) as u64, ..LlmFigures::default() }
    }
}

#[test]
fn a_run_that_ends_begins_no_more_roots() {
    let paragraphs = format!("{}\n", sixteen()).repeat(1000);
    let input = documents(&[&paragraphs]);
    let mut model = LlmSettings::of_model("m");
    model.max_in_flight = std::num::NonZeroU32::MIN;
    let llms = Llms::new([("local".to_owned(), model)]);
    let llm = Arc::clone(llms.get("local").expect("a model"));
    llm.answer_by(Box::new(EndsAfter { asked: AtomicUsize::new(0), answers: 40 }));
    let built = testing::build_with::<SplitContextConfig>(settings(json!({})), vec![(Port::FROM, input.schema())], llms).expect("a stage");
    let error = testing::run_stage(&built, &[(Port::FROM, input)], CUTS[0]).expect_err("it ends");
    assert!(matches!(error, StageError::Stopped { .. }));
    // 16 roots are under way at once, each with a level of two at most by then.
    assert!(llm.figures().requests < 100, "{}", llm.figures().requests);
}

/// Every context is a part of its document, with what was asked for; both halves of a node are all of it.
fn check_spans(document: &str, got: &Outcome, min_chars: usize) -> Result<(), TestCaseError> {
    let characters: Vec<char> = document.chars().collect();
    let rows = got.rows();
    let span = |name: &str| rows.column_by_name(name).expect("a column").as_primitive::<Int64Type>().clone();
    let (starts, ends) = (span("span_start"), span("span_end"));
    let place = |array: &arrow::array::Int64Array, row: usize| usize::try_from(array.value(row)).expect("a place");
    let (contexts, ids) = (column(got, "context"), column(got, "id"));
    let mut spans: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let (start, end) = (place(&starts, row), place(&ends, row));
        prop_assert_eq!(characters[start..end].iter().collect::<String>(), contexts[row].as_str());
        prop_assert!(end - start > min_chars);
        prop_assert_eq!(contexts[row].trim(), contexts[row].as_str());
        spans.insert(ids[row].clone(), (start, end));
    }
    let blank = |from: usize, to: usize| characters[from..to].iter().all(|character| character.is_whitespace());
    for (path, id) in column(got, "node_path").iter().zip(&ids) {
        let own = spans[id];
        let dot = if path.is_empty() { "." } else { "" };
        match (spans.get(&format!("{id}{dot}0")), spans.get(&format!("{id}{dot}1"))) {
            (Some(first), Some(second)) => {
                prop_assert_eq!((first.0, second.1), own);
                prop_assert!(first.1 <= second.0 && blank(first.1, second.0));
            }
            (Some(first), None) => prop_assert!(first.0 == own.0 && first.1 < own.1),
            (None, Some(second)) => prop_assert!(second.1 == own.1 && second.0 > own.0),
            (None, None) => {}
        }
    }
    Ok(())
}

#[test]
fn hostile_texts_take_time_in_proportion() {
    for part in [
        "word ",
        "a",
        " ",
        ")",
        "日本語",
        "👨‍👩‍👧",
        "🇩🇪",
        "\u{301}",
        "!?.",
        "\r\n",
        "ا",
        "שלום, ",
        "a. ",
        ". ",
        "\u{200D}",
        "ก\u{0E33}",
        "1 ",
        "e\u{301}",
        "\u{1}",
        "{{ x }}",
        ",",
        "， ",
        "。",
    ] {
        let text = format!("A.{}b", part.repeat(60_000 / part.len()));
        let start = Instant::now();
        let input = documents(&[&text]);
        let got =
            testing::run::<SplitContextConfig>(settings(json!({"max_depth": 1, "max_trees": 1, "examples": 0})), &[(Port::FROM, input)]);
        assert!(start.elapsed() < Duration::from_mins(1), "{part:?}: {:?}", start.elapsed());
        assert!(got.rejected.is_empty(), "{part:?}");
        assert_eq!(got.rows().num_rows() == 0, got.dropped().num_rows() == 1, "{part:?}");
        check_spans(&text, &got, 20).expect("spans");
    }
}

#[test]
fn a_long_line_is_many_roots() {
    for (line, roots) in [("x".repeat(1 << 20), 2098), ("word, ".repeat(1 << 17), 1580)] {
        let got = testing::run::<SplitContextConfig>(
            settings(json!({"max_depth": 0, "max_trees": 1, "examples": 0})),
            &[(Port::FROM, documents(&[&line]))],
        );
        assert_eq!(got.rows().num_rows(), roots);
        check_spans(&line, &got, 20).expect("spans");
    }
}

fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "word",
        " ",
        "  ",
        ". ",
        "! ",
        "?",
        "\n",
        "\r\n",
        "日本語",
        "。",
        "，",
        ", ",
        "; ",
        "e\u{301}",
        "👨‍👩‍👧",
        "🇩🇪",
        "ก\u{0E33}",
        "שלום",
        "don't",
        "3.14",
        "\u{200D}",
        ")",
        "supercalifragilistic",
        "Mr. ",
        "\u{0}",
        "\u{FEFF}",
        "The sentence goes on ",
        "\u{3000}",
        "—",
    ]);
    prop::collection::vec(pieces, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn halves_of_spans_are_all_of_their_node(text in texts(), cut in 1_usize..7, blank_lines: bool, min_chars in 0_usize..25) {
        let model = move |ask: &Ask| {
            let parts = last(ask).lines().count();
            json!({"question": "What is it?", "split_after": (cut % parts.max(2)).max(1).min(parts.saturating_sub(1).max(1))}).to_string()
        };
        let paragraphs = if blank_lines { "blank_lines" } else { "lines" };
        let more = json!({"min_chars": min_chars, "max_trees": 2, "examples": 0, "paragraphs": paragraphs, "size": {"chars": 120}});
        let got = run(more, &[&text], model);
        prop_assert!(got.rejected.is_empty(), "{:?}", got.rejected);
        prop_assert_eq!(got.rows().num_rows() == 0, got.dropped().num_rows() == 1);
        check_spans(&text, &got, min_chars)?;
    }
}
