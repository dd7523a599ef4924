//! One field of an answer: its type, its bounds, and what an answer's value is held against.

use std::fmt;

use arrow::datatypes::DataType;
use datasets::formats::ColumnType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::dig::cut;

/// A field of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerField {
    pub(super) column_type: ColumnType,
    /// The texts that a text, or an item of a list of texts, can be; any if empty.
    pub(super) one_of: Vec<String>,
    /// The least number.
    pub(super) min: Option<f64>,
    /// The greatest number.
    pub(super) max: Option<f64>,
    pub(super) nullable: bool,
    pub(super) description: Option<String>,
}

impl AnswerField {
    /// A field of any value of a type.
    pub fn of(column_type: ColumnType) -> Self {
        Self { column_type, one_of: Vec::new(), min: None, max: None, nullable: false, description: None }
    }

    /// A field of any text.
    pub fn text() -> Self {
        Self::of(ColumnType::Text)
    }

    /// A field of one of these texts.
    pub fn one_of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Self { one_of: texts.into_iter().map(str::to_owned).collect(), ..Self::text() }
    }

    /// A field of numbers from `min` to `max`, as `data_type`.
    pub fn number(data_type: DataType, min: f64, max: f64) -> Self {
        Self { min: Some(min), max: Some(max), ..Self::of(ColumnType::Plain(data_type)) }
    }

    /// A field of a list of values of this one.
    #[must_use]
    pub fn list(self) -> Self {
        Self { column_type: ColumnType::List(Box::new(self.column_type.clone())), ..self }
    }

    /// The same with what it means, for the prompt and the schema.
    #[must_use]
    pub fn described(self, description: &str) -> Self {
        Self { description: Some(description.to_owned()), ..self }
    }

    /// What is wanted, for people and for models.
    pub(super) fn wanted(&self) -> String {
        let wanted = self.wanted_of(&self.column_type);
        if self.nullable { format!("{wanted}, or null") } else { wanted }
    }

    fn wanted_of(&self, column_type: &ColumnType) -> String {
        match column_type {
            ColumnType::Text if !self.one_of.is_empty() => {
                format!("one of {}", self.one_of.iter().map(|text| Value::from(text.as_str()).to_string()).collect::<Vec<_>>().join(", "))
            }
            ColumnType::Text => "a text".to_owned(),
            ColumnType::Json => "any JSON".to_owned(),
            ColumnType::Plain(DataType::Boolean) => "true or false".to_owned(),
            ColumnType::Plain(DataType::Date32) => "a date such as \"2024-05-31\"".to_owned(),
            ColumnType::Plain(DataType::Timestamp(..)) => "a time such as \"2024-05-31T12:00:00Z\"".to_owned(),
            ColumnType::Plain(data_type) => {
                let number = if data_type.is_integer() { "a whole number" } else { "a number" };
                let (min, max) = (self.min.map(|min| min.to_string()), self.max.map(|max| max.to_string()));
                match (min, max) {
                    (Some(min), Some(max)) => format!("{number} from {min} to {max}"),
                    (Some(min), None) => format!("{number}, at least {min}"),
                    (None, Some(max)) => format!("{number}, at most {max}"),
                    (None, None) => number.to_owned(),
                }
            }
            ColumnType::List(item) => format!("a list, each item {}", self.wanted_of(item)),
            ColumnType::Struct(fields) => {
                let field = |(name, field): &(String, ColumnType)| format!("{}: {}", Value::from(name.as_str()), self.wanted_of(field));
                format!("an object of {}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Its JSON Schema.
    pub(super) fn schema(&self) -> Value {
        let mut schema = self.schema_of(&self.column_type);
        if self.nullable {
            let own = schema["type"].take();
            schema["type"] = json!([own, "null"]);
            if let Some(texts) = schema.get_mut("enum").and_then(Value::as_array_mut) {
                texts.push(Value::Null);
            }
        }
        if let Some(description) = &self.description {
            schema["description"] = description.as_str().into();
        }
        schema
    }

    fn schema_of(&self, column_type: &ColumnType) -> Value {
        match column_type {
            ColumnType::Text if !self.one_of.is_empty() => json!({"type": "string", "enum": self.one_of}),
            ColumnType::Plain(DataType::Boolean) => json!({"type": "boolean"}),
            ColumnType::Plain(DataType::Date32) => json!({"type": "string", "format": "date"}),
            ColumnType::Plain(DataType::Timestamp(..)) => json!({"type": "string", "format": "date-time"}),
            ColumnType::Plain(data_type) => {
                let mut schema = json!({"type": if data_type.is_integer() { "integer" } else { "number" }});
                for (bound, at) in [("minimum", self.min), ("maximum", self.max)] {
                    if let Some(at) = at {
                        schema[bound] = if data_type.is_integer() && whole(at).is_some() { json!(whole(at)) } else { at.into() };
                    }
                }
                schema
            }
            ColumnType::List(item) => json!({"type": "array", "items": self.schema_of(item)}),
            ColumnType::Struct(fields) => {
                let properties: Map<String, Value> = fields.iter().map(|(name, field)| (name.clone(), self.schema_of(field))).collect();
                let required: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }
            ColumnType::Text | ColumnType::Json => json!({"type": "string"}),
        }
    }

    /// Holds a value against the field, and says what is wrong; a whole number that is written as 3.0 becomes 3.
    pub(super) fn check(&self, path: &str, value: &mut Value, problems: &mut Vec<String>) {
        if !(self.nullable && value.is_null()) {
            self.check_of(&self.column_type, path, value, problems);
        }
    }

    fn check_of(&self, column_type: &ColumnType, path: &str, value: &mut Value, problems: &mut Vec<String>) {
        let fits = match (column_type, &mut *value) {
            (ColumnType::Text, Value::String(text)) => self.one_of.is_empty() || self.one_of.contains(text),
            (ColumnType::Plain(DataType::Boolean), Value::Bool(_))
            | (ColumnType::Plain(DataType::Date32 | DataType::Timestamp(..)), Value::String(_)) => true,
            (ColumnType::Plain(data_type), Value::Number(number)) if data_type.is_numeric() => {
                if data_type.is_integer()
                    && let Some(number) = number.as_f64().filter(|_| number.is_f64()).and_then(whole)
                {
                    *value = number.into();
                }
                self.is_within(data_type, value)
            }
            (ColumnType::List(item), Value::Array(items)) => {
                for (at, value) in items.iter_mut().enumerate() {
                    self.check_of(item, &format!("{path}[{at}]"), value, problems);
                }
                true
            }
            (ColumnType::Struct(fields), Value::Object(found)) => {
                for (name, field) in fields {
                    match found.get_mut(name) {
                        Some(value) => self.check_of(field, &format!("{path}.{name}"), value, problems),
                        None => problems.push(format!(
                            "{path}: wanted {}, found no {}",
                            self.wanted_of(column_type),
                            Value::from(name.as_str())
                        )),
                    }
                }
                if let Some(more) = found.keys().find(|name| fields.iter().all(|(field, _)| field != *name)) {
                    problems.push(format!("{path}: wanted {}, found {} too", self.wanted_of(column_type), Value::from(cut(more, 60))));
                }
                true
            }
            _ => false,
        };
        if !fits {
            let wanted = if path.ends_with(']') || path.contains('.') { self.wanted_of(column_type) } else { self.wanted() };
            problems.push(format!("{path}: wanted {wanted}, found {}", found(value)));
        }
    }

    fn is_within(&self, data_type: &DataType, value: &Value) -> bool {
        let Some(number) = value.as_f64() else { return false };
        let is_of_type = !data_type.is_integer() || value.is_i64() || value.is_u64();
        is_of_type && self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
    }

    /// A value as an answer may have it.
    pub(super) fn stand_in(&self) -> Value {
        self.stand_in_of(&self.column_type)
    }

    fn stand_in_of(&self, column_type: &ColumnType) -> Value {
        match column_type {
            ColumnType::Text if !self.one_of.is_empty() => self.one_of[0].as_str().into(),
            ColumnType::Plain(DataType::Boolean) => true.into(),
            ColumnType::Plain(DataType::Date32) => "2024-05-31".into(),
            ColumnType::Plain(DataType::Timestamp(..)) => "2024-05-31T12:00:00Z".into(),
            ColumnType::Plain(data_type) => {
                let number = 3_f64.clamp(self.min.unwrap_or(f64::MIN), self.max.unwrap_or(f64::MAX).max(self.min.unwrap_or(f64::MIN)));
                match whole(if data_type.is_integer() { number.ceil() } else { number }) {
                    Some(number) => number.into(),
                    None => number.into(),
                }
            }
            ColumnType::List(item) => vec![self.stand_in_of(item); 3].into(),
            ColumnType::Struct(fields) => {
                Value::Object(fields.iter().map(|(name, field)| (name.clone(), self.stand_in_of(field))).collect())
            }
            ColumnType::Text | ColumnType::Json => STAND_IN.into(),
        }
    }
}

/// About as long as a field of an answer is.
const STAND_IN: &str = "A sentence or two of the length that a field of an answer has, give or take some words.";

/// The whole number that a number is.
#[expect(clippy::cast_possible_truncation, reason = "only where nothing is lost")]
fn whole(number: f64) -> Option<i64> {
    // Beyond 2^53 a number of 64 bits stands for several whole ones.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// What an answer has in place of what was wanted.
fn found(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("the text {}", Value::from(cut(text, 60))),
        other => other.to_string(),
    }
}

/// The long form of a field in a pipeline file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Written {
    /// Its type; `string` if absent.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    column_type: Option<String>,
    /// The texts that it, or an item of its list, can be.
    #[serde(rename = "enum", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    one_of: Option<Vec<String>>,
    /// Least number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    /// Greatest number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    /// Whether the answer may be null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    nullable: bool,
    /// What it means: the model is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl TryFrom<Written> for AnswerField {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let column_type = written.column_type.as_deref().map_or(Ok(ColumnType::Text), parse)?;
        let inner = innermost(&column_type);
        if let Some(texts) = &written.one_of {
            if texts.is_empty() || texts.iter().enumerate().any(|(at, text)| texts[..at].contains(text)) {
                return Err("`enum` wants one or more texts, each once".to_owned());
            }
            if *inner != ColumnType::Text {
                return Err(format!("`enum` is for string and list<string>, found {column_type}"));
            }
        }
        let is_number = matches!(inner, ColumnType::Plain(data_type) if data_type.is_numeric());
        if (written.min.is_some() || written.max.is_some()) && !is_number {
            return Err(format!("`min` and `max` are for numbers, found {column_type}"));
        }
        if let (Some(min), Some(max)) = (written.min, written.max)
            && min > max
        {
            return Err(format!("wanted `max` at least `min`, which is {min}, found {max}"));
        }
        let Written { min, max, nullable, description, .. } = written;
        Ok(Self { column_type, one_of: written.one_of.unwrap_or_default(), min, max, nullable, description })
    }
}

impl Serialize for AnswerField {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            column_type: Some(self.column_type.to_string()),
            one_of: (!self.one_of.is_empty()).then(|| self.one_of.clone()),
            min: self.min,
            max: self.max,
            nullable: self.nullable,
            description: self.description.clone(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AnswerField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = AnswerField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type such as string, float32 or list<string>, a list of the texts it can be, or {type: …, min: …, max: …}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AnswerField, E> {
                parse(text).map(AnswerField::of).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnswerField, A::Error> {
                let mut one_of = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    one_of.push(text);
                }
                let written = Written { column_type: None, one_of: Some(one_of), min: None, max: None, nullable: false, description: None };
                AnswerField::try_from(written).map_err(A::Error::custom)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<AnswerField, M::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                AnswerField::try_from(written).map_err(M::Error::custom)
            }
        }
        deserializer.deserialize_any(Node)
    }
}

impl JsonSchema for AnswerField {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnswerField".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = Written::json_schema(generator);
        json_schema!({
            "description": "A type: string, bool, int8 to int64, uint8 to uint64, float32, float64, date, timestamp, list<TYPE>, struct<NAME: TYPE, …>; a list of the texts that it can be; or a mapping of `type`, `enum`, `min`, `max`, `nullable`, `description`.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, long],
        })
    }
}

/// A type by its name: those of columns, and the words that JSON Schema has for some of them.
fn parse(text: &str) -> Result<ColumnType, String> {
    let text = text.trim();
    let plain = match text {
        "integer" => Some(DataType::Int64),
        "number" => Some(DataType::Float64),
        "boolean" => Some(DataType::Boolean),
        _ => None,
    };
    if let Some(data_type) = plain {
        return Ok(ColumnType::Plain(data_type));
    }
    if let Some(item) = text.strip_prefix("list<").and_then(|rest| rest.strip_suffix('>'))
        && let Ok(item) = parse(item)
    {
        return Ok(ColumnType::List(Box::new(item)));
    }
    let column_type: ColumnType = text.parse().map_err(|error: datasets::formats::TypeError| error.to_string())?;
    match unanswerable(&column_type) {
        Some(part) => {
            Err(format!("`{part}` is no type that a model answers in; wanted string, bool, a number, date, timestamp, list or struct"))
        }
        None => Ok(column_type),
    }
}

fn unanswerable(column_type: &ColumnType) -> Option<&ColumnType> {
    match column_type {
        ColumnType::Json | ColumnType::Plain(DataType::Binary) => Some(column_type),
        ColumnType::List(item) => unanswerable(item),
        ColumnType::Struct(fields) => fields.iter().find_map(|(_, field)| unanswerable(field)),
        ColumnType::Text | ColumnType::Plain(_) => None,
    }
}

fn innermost(column_type: &ColumnType) -> &ColumnType {
    match column_type {
        ColumnType::List(item) => innermost(item),
        other => other,
    }
}
