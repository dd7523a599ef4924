use std::sync::{Arc, Mutex};

use schemas::dropped;

use super::*;
use crate::llm::{Ask, Part};
use crate::testing::{self, Balance};

const CONTEXT: &str = "The Eiffel Tower in Paris was opened in 1889. It is 330 metres tall.";

fn rows(rows: &[(Option<&str>, Option<&str>)]) -> RecordBatch {
    let ids: Vec<String> = (0..rows.len()).map(|row| format!("q{row}")).collect();
    let (question, context) = rows.iter().copied().unzip();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("question", question), ("context", context)])
}

fn said(ask: &Ask) -> Vec<(&'static str, String)> {
    let text = |message: &Message| match message.content.as_slice() {
        [Part::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    };
    ask.messages.iter().map(|message| (message.role.as_str(), text(message))).collect()
}

#[test]
fn it_keeps_the_contract() {
    for settings in [
        json!({"llm": "x"}),
        json!({"llm": "x", "reasoning": true, "keep_context": false, "system_message": "Be brief."}),
        json!({"llm": "x", "min_number_overlap": 0.5, "min_entity_overlap": 1, "max_tokens": 20}),
        json!({"llm": "x", "question": "url", "context": "text"}),
    ] {
        let input = if settings.get("question").is_some() { testing::sample() } else { testing::questions() };
        let got = testing::check_contract::<AnswerQueriesConfig>(settings, &input, Balance::KeptOrDropped);
        assert!(got.rejected.iter().all(|row| ["no_question", "no_context"].contains(&row.reason)), "{:?}", got.rejected);
        assert!(got.rows().num_rows() > 2);
    }
}

#[test]
fn an_answer_becomes_a_conversation_without_its_context() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Arc::clone(&seen);
    let got = testing::run_scripted::<AnswerQueriesConfig>(
        json!({"llm": "local", "system_message": "Be brief.", "keep_context": false}),
        &rows(&[(Some("How tall is it?"), Some(CONTEXT))]),
        Box::new(move |ask| {
            script.lock().unwrap().push(ask.clone());
            Ok("<think>330?</think>\n The Eiffel Tower is 330 metres tall, as Gustave Eiffel wanted; 300 were planned.\n".to_owned())
        }),
    );
    let schema = got.rows().schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(columns, ["id", "question", "messages", "number_overlap", "entity_overlap", "model", "prompt_hash", "answer_keys"]);
    assert_eq!(schema.field(2).data_type(), sft::messages().field().data_type());
    let answer = "The Eiffel Tower is 330 metres tall, as Gustave Eiffel wanted; 300 were planned.";
    let messages =
        format!("[{{role: system, content: Be brief.}}, {{role: user, content: How tall is it?}}, {{role: assistant, content: {answer}}}]");
    assert_eq!(testing::column(got.rows(), "messages"), [messages]);
    // 330 stands in the context, 300 does not; so do the tower and its builder.
    assert_eq!(
        (testing::column(got.rows(), "number_overlap"), testing::column(got.rows(), "entity_overlap")),
        (vec!["0.5".to_owned()], vec!["0.5".to_owned()])
    );
    let seen = seen.lock().unwrap();
    insta::assert_snapshot!(said(&seen[0])[0].1, @"
    You answer a question from a context that you are given. Keep to these principles:
    1. Be accurate: say what the context says, and nothing that it does not support.
    2. Answer as a helpful person would who knows the matter: in whole sentences, to the point, and without a word about a context or a text.
    3. Be decent: nothing that harms, insults or breaks the law.
    ");
    assert_eq!(said(&seen[0])[1], ("user", format!("Context:\n{CONTEXT}\n\nQuestion:\nHow tall is it?")));
    assert_eq!((seen[0].messages.len(), seen[0].stand_in.as_str()), (2, CONTEXT));
}

#[test]
fn reasoning_is_asked_for_and_left_out() {
    let script = |ask: &Ask| {
        let asked = said(ask);
        assert!(asked[1].1.contains("\"reasoning\": a text (what the context says of the question, step by step)"), "{}", asked[1].1);
        assert!(ask.schema.is_some());
        Ok("{\"reasoning\": \"It says 330.\", \"answer\": \"330 metres.\"}".to_owned())
    };
    let got = testing::run_scripted::<AnswerQueriesConfig>(
        json!({"llm": "l", "reasoning": true}),
        &rows(&[(Some("q"), Some(CONTEXT))]),
        Box::new(script),
    );
    assert_eq!(testing::column(got.rows(), "messages"), ["[{role: user, content: q}, {role: assistant, content: 330 metres.}]"]);
    assert_eq!(testing::column(got.rows(), "context"), [CONTEXT]);
}

#[test]
fn an_answer_with_too_little_of_its_context_drops_its_row() {
    let settings = json!({"llm": "local", "min_number_overlap": 0.5, "min_entity_overlap": 0.5});
    let questions =
        ["It is 330 and 331.", "It is 330, 331 and 332.", "he saw Paris and London", "he saw Paris, London and Rome", "none of it"];
    let input: Vec<_> = questions.iter().map(|_| (Some("q"), Some(CONTEXT))).collect();
    let replies = Mutex::new(questions.into_iter());
    let script = move |_: &Ask| Ok(replies.lock().unwrap().next().expect("a reply").to_owned());
    let got = testing::run_scripted::<AnswerQueriesConfig>(settings, &rows(&input), Box::new(script));
    assert_eq!(testing::column(got.rows(), "id"), ["q0", "q2", "q4"]);
    assert_eq!(
        (testing::column(got.rows(), "number_overlap"), testing::column(got.rows(), "entity_overlap")),
        (vec!["0.5".into(), String::new(), String::new()], vec![String::new(), "0.5".into(), String::new()])
    );
    let dropped = got.dropped();
    assert_eq!(testing::column(dropped, dropped::REASON.name()), ["low_number_overlap", "low_entity_overlap"]);
    assert_eq!(dropped::VALUE.of(dropped).iter().flatten().collect::<Vec<_>>(), [1.0 / 3.0; 2]);
    assert_eq!(dropped::THRESHOLD.of(dropped).iter().flatten().collect::<Vec<_>>(), [0.5; 2]);
    assert_eq!((got.measured["number_overlap"].counts(), got.measured["entity_overlap"].bounds[0].beyond), ([1, 1], 1));
}

#[test]
fn the_provenance_of_the_question_stays_beside_that_of_the_answer() {
    let input = testing::strings(&[
        ("id", vec![Some("a")]),
        ("question", vec![Some("q")]),
        ("context", vec![Some("c")]),
        ("model", vec![Some("asker")]),
        ("prompt_hash", vec![Some("h")]),
    ]);
    let got = testing::run_scripted::<AnswerQueriesConfig>(json!({"llm": "l"}), &input, Box::new(|_| Ok("An answer.".to_owned())));
    let names: Vec<String> = got.rows().schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[3..5], ["question_model", "question_prompt_hash"]);
    assert_eq!(
        (testing::column(got.rows(), "question_model"), testing::column(got.rows(), "model")),
        (vec!["asker".to_owned()], vec!["scripted".to_owned()])
    );
}

#[test]
fn rows_without_a_question_or_a_usable_answer_are_rejected() {
    let long = "x".repeat(10 << 20);
    let input =
        rows(&[(None, Some("c")), (Some("q"), None), (Some(" "), Some("c")), (Some("q"), Some(&long)), (Some("{{ q }}"), Some("{% c %}"))]);
    let script = |ask: &Ask| Ok(if said(ask)[1].1.contains("{% c %}\n\nQuestion:\n{{ q }}") { " " } else { "?" }.to_owned());
    let got = testing::run_scripted::<AnswerQueriesConfig>(json!({"llm": "l"}), &input, Box::new(script));
    let reasons: Vec<_> = got.rejected.iter().map(|row| row.reason).collect();
    assert_eq!(reasons, ["no_question", "no_context", "no_question", "prompt_too_long", "unusable_answer"]);
    assert!(got.rejected[4].detail.starts_with("the answer is empty; asked 3 times"), "{}", got.rejected[4].detail);
}

#[test]
fn examples_are_shown_as_turns_and_are_part_of_the_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("good.jsonl");
    let run = |settings: serde_json::Value| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::clone(&seen);
        let reply = Box::new(move |ask: &Ask| {
            script.lock().unwrap().push(said(ask));
            Ok("{\"reasoning\": \"r\", \"answer\": \"a\"}".to_owned())
        });
        let got = testing::run_scripted::<AnswerQueriesConfig>(settings, &rows(&[(Some("q"), Some("c"))]), reply);
        let seen = seen.lock().unwrap()[0].clone();
        (seen, testing::column(got.rows(), "prompt_hash"))
    };
    std::fs::write(&path, "{\"context\": \"C\", \"question\": \"Q\", \"answer\": \"A\"}\n\n").expect("a file");
    let (seen, hash) = run(json!({"llm": "l", "examples_file": path}));
    assert_eq!(seen[1..3], [("user", "Context:\nC\n\nQuestion:\nQ".to_owned()), ("assistant", "A".to_owned())]);
    assert_ne!(run(json!({"llm": "l"})).1, hash);
    let (seen, _) = run(json!({"llm": "l", "examples_file": path, "reasoning": true}));
    assert_eq!(seen[2].1, "{\"reasoning\":\"The context says it.\",\"answer\":\"A\"}");

    let refusal = |text: &str| {
        std::fs::write(&path, text).expect("a file");
        testing::refusal::<AnswerQueriesConfig>(json!({"llm": "l", "examples_file": path}), &[(Port::FROM, testing::questions())])
    };
    assert!(
        refusal("{}\n").contains("good.jsonl: line 1: wanted JSON with `context`, `question` and `answer`, found missing field `context`")
    );
    assert!(refusal("\n").contains("wanted one or more lines, found none"));
    let config: AnswerQueriesConfig = serde_json::from_value(json!({"llm": "l", "examples_file": "good.jsonl"})).expect("settings");
    let cx = BuildContext::new("answers", folder.path(), 7, Vec::new());
    assert_eq!(config.files(&cx).expect("files"), [("good.jsonl".to_owned(), path)]);
}

#[test]
fn settings_that_can_not_work_are_refused() {
    let refusal = |settings| testing::refusal::<AnswerQueriesConfig>(settings, &[(Port::FROM, testing::questions())]);
    assert_eq!(
        refusal(json!({"llm": "l", "context": "question"})),
        "context: wanted another column than `question`, found `question` for both"
    );
    assert!(refusal(json!({"llm": "l", "context": "text"})).starts_with("needs column `text: Utf8`"));
    assert!(refusal(json!({"llm": "l", "examples_file": "no.jsonl"})).contains("can't be read"));
    assert!(refusal(json!({"llm": "l", "min_number_overlap": 2})).contains("a number from 0 to 1"));
}
