use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::testing;

fn fields(settings: Value) -> AnswerFields {
    serde_json::from_value(settings).expect("fields")
}

fn refusal(settings: Value) -> String {
    serde_json::from_value::<AnswerFields>(settings).expect_err("no fields").to_string()
}

fn judged() -> AnswerFields {
    fields(json!({
        "label": ["spam", "ham"],
        "score": {"type": "number", "min": 0, "max": 10},
        "count": {"type": "int8", "nullable": true, "description": "how many"},
        "tags": "list<string>",
    }))
}

const GOOD: &str = r#"{"label": "ham", "score": 7.5, "count": null, "tags": ["a", "b"]}"#;

#[test]
fn fields_read_in_a_short_and_a_long_form_and_write_the_long_one() {
    let written = serde_json::to_value(judged()).unwrap();
    assert_eq!(
        written,
        json!({
            "label": {"type": "string", "enum": ["spam", "ham"]},
            "score": {"type": "float64", "min": 0.0, "max": 10.0},
            "count": {"type": "int8", "nullable": true, "description": "how many"},
            "tags": {"type": "list<string>"},
        })
    );
    assert_eq!(fields(written), judged());
    let types = fields(json!({"a": "integer", "b": "boolean", "c": "list<number>", "d": "struct<q: string, n: int64>", "e": "date"}));
    let types: Vec<String> = types.iter().map(|(_, field)| field.column_type.to_string()).collect();
    assert_eq!(types, ["int64", "bool", "list<float64>", "struct<q: string, n: int64>", "date"]);
}

#[test]
fn fields_that_can_not_work_are_refused() {
    assert_eq!(refusal(json!({})), "wants at least one field; leave it out for an answer that is any text");
    assert_eq!(refusal(json!({"a": []})), "field `a`: `enum` wants one or more texts, each once");
    assert_eq!(refusal(json!({"a": {"type": "int8", "enum": ["x"]}})), "field `a`: `enum` is for string and list<string>, found int8");
    assert_eq!(refusal(json!({"a": {"min": 1}})), "field `a`: `min` and `max` are for numbers, found string");
    assert_eq!(refusal(json!({"a": {"type": "int8", "min": 2, "max": 1}})), "field `a`: wanted `max` at least `min`, which is 2, found 1");
    assert!(refusal(json!({"a": "strng"})).starts_with("field `a`: `strng` is no type: "));
    assert!(refusal(json!({"a": "list<json>"})).starts_with("field `a`: `json` is no type that a model answers in"));
    assert!(refusal(json!({"a": {"typ": "string"}})).contains("unknown field `typ`"));
}

#[test]
fn the_schema_is_strict() {
    assert_eq!(
        judged().schema(),
        json!({
            "type": "object",
            "properties": {
                "label": {"type": "string", "enum": ["spam", "ham"]},
                "score": {"type": "number", "minimum": 0.0, "maximum": 10.0},
                "count": {"type": ["integer", "null"], "description": "how many"},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["label", "score", "count", "tags"],
            "additionalProperties": false,
        })
    );
    insta::assert_snapshot!(judged().instruction(), @r#"
    Answer with one JSON object and nothing else. Its fields:
    - "label": one of "spam", "ham"
    - "score": a number from 0 to 10
    - "count": a whole number, or null (how many)
    - "tags": a list, each item a text
    "#);
}

#[test]
fn an_answer_becomes_typed_columns() {
    let fields = judged();
    let values = fields.read(GOOD).unwrap();
    let rows = fields.columns([Some(&values), None]).unwrap();
    let types: Vec<String> = rows.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Utf8", "Float64", "Int8", "List(Utf8)"]);
    assert_eq!(testing::column(&rows, "score"), ["7.5", ""]);
    assert_eq!(testing::column(&rows, "tags"), ["[a, b]", ""]);
    assert_eq!(fields.read(&fields.stand_in()).map(|values| values.len()), Ok(4));
}

#[test]
fn an_object_is_found_in_what_models_write_around_it() {
    let fields = fields(json!({"a": "int64"}));
    for answer in [
        "{\"a\": 1}",
        "\n {\"a\": 1}\n",
        "```json\n{\"a\": 1}\n```",
        "Sure! Here it is:\n```\n{\"a\": 1}\n```\nAnything else?",
        "With {braces} and { more: the answer is {\"a\": 1}. And {\"a\": 2}.",
        "``` {\"a\": 1} ```",
        "For example {\"a\": 2, \"b\": 3} is wrong, so:\n```json\n{\"a\": 1}\n```",
        "<think>{\"a\": 9} or so</think>{\"a\": 1}",
        "{\"a\": 1.0}",
        "日本語 {\"a\": 1} 日本語",
    ] {
        assert_eq!(fields.read(answer), Ok(vec![json!(1)]), "{answer}");
    }
}

#[test]
fn what_is_wrong_is_said_precisely() {
    let problem = |answer: &str| judged().read(answer).expect_err("a bad answer");
    insta::assert_snapshot!(problem(r#"{"label": "Ham", "score": "high", "count": 300, "tags": ["a", 3]}"#), @r#""label": wanted one of "spam", "ham", found the text "Ham"; "score": wanted a number from 0 to 10, found the text "high"; "tags"[1]: wanted a text, found 3"#);
    insta::assert_snapshot!(problem(r#"{"label": "ham", "score": 7, "count": 300, "tags": []}"#), @"`count`: wanted int8, found 300");
    insta::assert_snapshot!(problem(r#"{"label": "ham", "score": 10.1, "count": 1.5, "mood": 1}"#), @r#""score": wanted a number from 0 to 10, found 10.1; "count": wanted a whole number, or null, found 1.5; the field "tags" is missing, which is a list, each item a text; the field "mood" is not one of those asked for"#);
    insta::assert_snapshot!(problem(r#"{"label": "ham", "label": "spam"}"#), @r#"the field "label" is there twice"#);
    insta::assert_snapshot!(problem("{\"label\": \"ham\", \"score\": 1,\n}"), @"the JSON breaks before `}` (trailing comma): the comma before it is one too many");
    insta::assert_snapshot!(problem("{'label': 'ham'}"), @"the JSON breaks before `'label': 'ham'}` (key must be a string): names and texts stand in double quotes, here is a single one");
    insta::assert_snapshot!(problem(r#"{"label": 'ham', "score": {"label": "ham"}}"#), @r#"the JSON breaks before `'ham', "score": {"label": "ham"}}` (expected value): names and texts stand in double quotes, here is a single one"#);
    insta::assert_snapshot!(problem(r#"{"label": "ham", "score": 1, "tags": ["a"#), @"the JSON ends before it is complete (EOF while parsing a string)");
    insta::assert_snapshot!(problem("I can't do that."), @r#"wanted a JSON object, found none in the text that begins with "I can't do that.""#);
    insta::assert_snapshot!(problem(" "), @"wanted a JSON object, found nothing");
    insta::assert_snapshot!(problem(r#"["ham"]"#), @r#"wanted a JSON object, found none in the text that begins with "[\"ham\"]""#);
    insta::assert_snapshot!(problem("{score: 1}"), @"the JSON breaks before `score: 1}` (key must be a string)");
    let deep = fields(json!({"qa": "list<struct<q: string, n: int64>>"}));
    insta::assert_snapshot!(deep.read(r#"{"qa": [{"q": "x", "n": 1}, {"q": 2, "m": 1}]}"#).unwrap_err(), @r#""qa"[1].q: wanted a text, found 2; "qa"[1]: wanted an object of "q": a text, "n": a whole number, found no "n"; "qa"[1]: wanted an object of "q": a text, "n": a whole number, found "m" too"#);
}

#[test]
fn hostile_answers_are_read_in_linear_time() {
    let fields = judged();
    let long = 10 << 20;
    for answer in [
        "{".repeat(long),
        "{\"a\":".repeat(long / 5),
        "[".repeat(long),
        format!("{{\"label\": \"{}", "x".repeat(long)),
        format!("{{\"label\": {}", "[".repeat(long)),
        "```".repeat(long / 3),
        "``` {".repeat(long / 5),
        "{x} ".repeat(long / 4),
        "{\n".repeat(long / 2),
        "<think>".repeat(long / 7),
        format!("{{{}", "\"a\": 1,".repeat(long / 7)),
        (0..long / 12).fold("{".to_owned(), |text, n| text + &format!("\"{n:06}\":1,")),
        "é{".repeat(long / 3),
    ] {
        let begun = Instant::now();
        let problem = fields.read(&answer).expect_err("no answer");
        assert!(problem.len() < 400, "{problem}");
        assert!(begun.elapsed() < Duration::from_mins(1), "{:?} for {}", begun.elapsed(), dig::cut(&answer, 10));
    }
}
