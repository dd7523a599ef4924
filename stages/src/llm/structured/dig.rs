//! The JSON object in an answer that has prose around it, in one pass.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Braces in prose at which an object is looked for.
const MAX_STARTS: usize = 1000;

/// The fields of the first object in an answer. What a model thought aloud before it answered is passed over.
///
/// An object that begins like one and breaks is the answer, and its error is told: nothing is mended, and no object inside it is taken for it.
pub(in crate::llm) fn object(answer: &str) -> Result<Vec<(String, Value)>, String> {
    let text = without_thoughts(answer);
    let mut from = fence(text).unwrap_or(0);
    let mut first_problem = None;
    for _ in 0..MAX_STARTS {
        let Some(start) = text[from..].find('{').map(|at| from + at) else { break };
        let candidate = &text[start..];
        let mut values = serde_json::Deserializer::from_str(candidate).into_iter::<Object>();
        match values.next() {
            Some(Ok(object)) => return Ok(object.0),
            Some(Err(error)) => {
                let at = offset(candidate, &error);
                let problem = problem(candidate, at, &error);
                let begins_like_one = candidate[1..].trim_start().starts_with(['"', '\'', '}']);
                if begins_like_one || error.is_data() {
                    return Err(problem);
                }
                first_problem.get_or_insert(problem);
                // Behind what was read, so that all together is read once.
                from = start + at.max(1);
            }
            None => break,
        }
    }
    Err(first_problem.unwrap_or_else(|| nothing(text)))
}

/// An answer without the thoughts that some models write before it.
pub(crate) fn without_thoughts(answer: &str) -> &str {
    let text = answer.trim_start();
    match text.strip_prefix("<think>") {
        Some(thoughts) => thoughts.split_once("</think>").map_or(text, |(_, answer)| answer),
        None => answer,
    }
}

/// The first characters of a text.
pub(super) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Where the first code fence begins that holds an object.
fn fence(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(fence) = text[from..].find("```").map(|at| from + at + 3) {
        let line = text[fence..].split('\n').next().unwrap_or_default();
        let inside = fence + line.find('{').unwrap_or(line.len());
        if text[inside..].trim_start().starts_with('{') {
            return Some(inside);
        }
        from = fence;
    }
    None
}

/// The byte at which the JSON breaks.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    text.floor_char_boundary((before + error.column().saturating_sub(1)).min(text.len()))
}

fn problem(text: &str, at: usize, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    if error.is_eof() {
        return format!("the JSON ends before it is complete ({said})");
    }
    if error.is_data() {
        return said.to_owned();
    }
    let rest = text[at..].trim_start();
    let hint = match rest.chars().next() {
        Some('\'') => ": names and texts stand in double quotes, here is a single one",
        Some('}' | ']') if said == "trailing comma" => ": the comma before it is one too many",
        _ => "",
    };
    format!("the JSON breaks before `{}` ({said}){hint}", cut(rest.lines().next().unwrap_or_default(), 40))
}

fn nothing(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "wanted a JSON object, found nothing".to_owned();
    }
    format!("wanted a JSON object, found none in the text that begins with {}", Value::from(cut(text, 60)))
}

/// An object whose fields are each there once.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(M::Error::custom(format!("the field {} is there twice", Value::from(cut(&name, 60)))));
                    }
                    if fields.len() >= MAX_FIELDS {
                        return Err(M::Error::custom(format!("the object has more than {MAX_FIELDS} fields")));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Fields of an answer at most: each is held against those before it.
const MAX_FIELDS: usize = 1000;
