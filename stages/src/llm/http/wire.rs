//! What is sent and what comes back, as OpenAI-compatible servers have it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::llm::answers::StoredAnswer;
use crate::llm::{Ask, LimitField, LlmSettings, Message, Part, StructuredOutput, Usage};

/// Fields of a request that `extra` may not set: stages do, or answers could not be read or paid for as they are.
pub(crate) const RESERVED: [&str; 12] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "response_format",
    "seed",
    "n",
    "stream",
    "stream_options",
];

/// More tokens than this were never used: whoever says so can't count.
const MOST_TOKENS: u64 = 1 << 32;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u32>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Serialize)]
struct ImageUrl {
    url: String,
}

impl<'a> Turn<'a> {
    fn of(message: &'a Message) -> Self {
        let content = match message.content.as_slice() {
            // What every server reads; lists of parts are for those that see.
            [Part::Text(text)] => Content::Text(text),
            parts => Content::Parts(parts.iter().map(Piece::of).collect()),
        };
        Self { role: message.role.as_str(), content }
    }
}

impl<'a> Piece<'a> {
    fn of(part: &'a Part) -> Self {
        match part {
            Part::Text(text) => Self::Text { text },
            Part::Image(image) => {
                let mut url = format!("data:{};base64,", image.media_type).into_bytes();
                datasets::base64::encode(&image.bytes, &mut url);
                Self::ImageUrl { image_url: ImageUrl { url: String::from_utf8(url).unwrap_or_default() } }
            }
        }
    }
}

/// The body of a request; `seed` is sent if there is one.
pub(crate) fn body(settings: &LlmSettings, ask: &Ask, seed: Option<u32>) -> Result<Bytes, serde_json::Error> {
    let response_format = ask.schema.as_ref().and_then(|schema| match settings.structured_output {
        StructuredOutput::JsonSchema => Some(json!({
            "type": "json_schema",
            "json_schema": {"name": schema.name, "schema": schema.schema, "strict": true},
        })),
        StructuredOutput::JsonObject => Some(json!({"type": "json_object"})),
        StructuredOutput::Prompt => None,
    });
    let limit = |field: LimitField| (settings.limit_field == field).then_some(ask.max_tokens);
    let body = Body {
        model: &settings.model,
        messages: ask.messages.iter().map(Turn::of).collect(),
        max_tokens: limit(LimitField::MaxTokens),
        max_completion_tokens: limit(LimitField::MaxCompletionTokens),
        temperature: ask.temperature,
        top_p: ask.top_p,
        stop: &ask.stop,
        response_format,
        seed,
        extra: &settings.extra,
    };
    serde_json::to_vec(&body).map(Bytes::from)
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    model: Value,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Value,
    #[serde(default)]
    refusal: Option<String>,
}

/// The answer in the body of a 2xx, without the tokens if it does not say them.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_answer(body: &[u8]) -> Result<(StoredAnswer, Option<Usage>), String> {
    let completion: Completion = match serde_json::from_slice(body) {
        Ok(completion) => completion,
        // Some servers say 200 to everything.
        Err(error) => {
            let begin = said(body);
            return Err(format!("its answer can't be read ({error}): {}", if begin.is_empty() { "it is empty" } else { &begin }));
        }
    };
    let Some(Choice { message, finish_reason }) = completion.choices.into_iter().next() else {
        return Err("its answer holds no choice".to_owned());
    };
    let mut text = match message.content {
        Value::String(text) => text,
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str().or(part.as_str())).collect(),
        _ => String::new(),
    };
    if text.is_empty() {
        text = message.refusal.unwrap_or_default();
    }
    if text.is_empty() && finish_reason.is_none() {
        return Err("its answer holds neither a text nor why it ended".to_owned());
    }
    let cut = finish_reason.as_deref() == Some("length");
    let model = completion.model.as_str().map(str::to_owned);
    let usage = usage(&completion.usage);
    Ok((StoredAnswer { text, cut, usage: usage.unwrap_or_default(), model, finish_reason }, usage))
}

fn usage(usage: &Value) -> Option<Usage> {
    let tokens = |name: &str| {
        let count = usage.get(name)?;
        count.as_u64().filter(|tokens| *tokens < MOST_TOKENS)
    };
    Some(Usage { prompt_tokens: tokens("prompt_tokens")?, completion_tokens: tokens("completion_tokens").unwrap_or(0), guessed: false })
}

/// What a server said of what went wrong, on one line, cut to 2,000 characters.
pub(crate) fn said(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => words(&value).unwrap_or_else(|| value.to_string()),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(8000)]).into_owned(),
    };
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(2000) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

fn words(value: &Value) -> Option<String> {
    for name in ["error", "message", "detail"] {
        match value.get(name) {
            Some(Value::String(text)) => return Some(text.clone()),
            Some(inner @ Value::Object(_)) => return words(inner).or_else(|| Some(inner.to_string())),
            Some(Value::Null) | None => {}
            Some(other) => return Some(other.to_string()),
        }
    }
    None
}

/// The code of an error: `insufficient_quota`.
pub(crate) fn code(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let error = value.get("error").unwrap_or(&value);
    ["code", "type"].iter().filter_map(|name| error.get(name)?.as_str()).find(|code| *code == "insufficient_quota").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::llm::{AnswerSchema, Image, Role};

    fn sent(settings: &LlmSettings, ask: &Ask, seed: Option<u32>) -> Value {
        serde_json::from_slice(&body(settings, ask, seed).expect("JSON")).expect("JSON")
    }

    #[test]
    fn a_text_is_sent_as_text_and_images_as_data() {
        let image = Part::Image(Arc::new(Image { bytes: vec![0, 1, 2, 3], media_type: "image/png" }));
        let messages = vec![
            Message::text(Role::System, "Be brief."),
            Message { role: Role::User, content: vec![Part::Text("What is it?".to_owned()), image] },
        ];
        let mut ask = Ask::new(messages, 9);
        ask.temperature = Some(0.5);
        ask.stop = vec!["---".to_owned()];
        let settings = LlmSettings { extra: Map::from_iter([("min_p".to_owned(), json!(0.1))]), ..LlmSettings::of_model("m") };
        let wanted = json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAECAw=="}},
                ]},
            ],
            "max_tokens": 9, "temperature": 0.5, "stop": ["---"], "seed": 7, "min_p": 0.1,
        });
        assert_eq!(sent(&settings, &ask, Some(7)), wanted);
    }

    #[test]
    fn a_schema_is_sent_as_the_endpoint_reads_it() {
        let mut ask = Ask::new(vec![Message::text(Role::User, "x")], 9);
        ask.schema = Some(Arc::new(AnswerSchema { name: "split".to_owned(), schema: json!({"type": "object"}) }));
        let newer = sent(&LlmSettings { limit_field: LimitField::MaxCompletionTokens, ..LlmSettings::of_model("m") }, &ask, None);
        assert_eq!((&newer["max_completion_tokens"], newer.get("max_tokens")), (&json!(ask.max_tokens), None));
        let format = |structured_output| {
            sent(&LlmSettings { structured_output, ..LlmSettings::of_model("m") }, &ask, None).get("response_format").cloned()
        };
        let schema = json!({"type": "json_schema", "json_schema": {"name": "split", "schema": {"type": "object"}, "strict": true}});
        assert_eq!(format(StructuredOutput::JsonSchema), Some(schema));
        assert_eq!(format(StructuredOutput::JsonObject), Some(json!({"type": "json_object"})));
        assert_eq!(format(StructuredOutput::Prompt), None);
    }

    #[test]
    fn answers_are_read_in_all_their_forms() {
        let read = |message: Value, finish: Value| {
            let body =
                json!({"choices": [{"message": message, "finish_reason": finish}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
            read_answer(body.to_string().as_bytes()).map(|(answer, _)| (answer.text, answer.cut))
        };
        assert_eq!(read(json!({"content": "text"}), json!("stop")), Ok(("text".to_owned(), false)));
        assert_eq!(read(json!({"content": "te"}), json!("length")), Ok(("te".to_owned(), true)));
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"]);
        assert_eq!(read(json!({"content": parts}), json!("stop")), Ok(("abc".to_owned(), false)));
        assert_eq!(read(json!({"content": null, "refusal": "No."}), json!("stop")), Ok(("No.".to_owned(), false)));
        assert_eq!(read(json!({"content": null}), json!("content_filter")), Ok((String::new(), false)));
        assert_eq!(read(json!({"content": ""}), Value::Null), Err("its answer holds neither a text nor why it ended".to_owned()));
    }

    #[test]
    fn what_is_no_answer_says_so() {
        for body in ["", "null", "[]", "<html>", r#"{"choices": []}"#, r#"{"error": {"message": "broken"}}"#, r#"{"choices": [{"message""#]
        {
            assert!(read_answer(body.as_bytes()).is_err(), "{body}");
        }
        let error = read_answer(br#"{"error": {"message": "the backend\n is gone"}}"#).expect_err("no answer");
        assert!(error.ends_with(": the backend is gone"), "{error}");
    }

    #[test]
    fn usage_that_cannot_be_is_none() {
        let read = |usage: Value| {
            let body = json!({"choices": [{"message": {"content": "x"}}], "usage": usage});
            read_answer(body.to_string().as_bytes()).expect("an answer").1.map(|usage| (usage.prompt_tokens, usage.completion_tokens))
        };
        assert_eq!(read(json!({"prompt_tokens": 3, "completion_tokens": 4})), Some((3, 4)));
        assert_eq!(read(Value::Null), None);
        assert_eq!(read(json!({"prompt_tokens": -1, "completion_tokens": 4})), None);
        assert_eq!(read(json!({"prompt_tokens": u64::MAX, "completion_tokens": 4})), None);
        assert_eq!(read(json!("many")), None);
    }

    #[test]
    fn the_words_of_a_server_are_found() {
        for body in [
            r#"{"error": {"message": "too long", "code": 400}}"#,
            r#"{"error": "too long"}"#,
            r#"{"message": "too long"}"#,
            r#"{"detail": "too long"}"#,
            "too\n\n long \u{7}",
        ] {
            assert_eq!(said(body.as_bytes()), "too long", "{body}");
        }
        assert_eq!(said(&vec![b'x'; 5000]).chars().count(), 2001);
        assert_eq!(code(br#"{"error": {"code": "insufficient_quota"}}"#).as_deref(), Some("insufficient_quota"));
        assert_eq!(code(br#"{"error": {"code": 429, "type": "rate_limit"}}"#), None);
    }
}
