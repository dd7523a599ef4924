//! Answers that are JSON objects with declared fields: what the endpoint is told, how an answer is read, and what is wrong with it.

pub(super) mod dig;
mod field;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datasets::formats::{Columns, JsonRecords};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use schemas::ColumnSpec;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

pub use self::field::AnswerField;

use super::AnswerSchema;
use crate::StageError;

/// The fields of an answer, in order: each once, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerFields(Vec<(String, AnswerField)>);

impl AnswerFields {
    /// These.
    pub fn new(fields: impl IntoIterator<Item = (impl Into<String>, AnswerField)>) -> Self {
        Self(fields.into_iter().map(|(name, field)| (name.into(), field)).collect())
    }

    /// The fields with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AnswerField)> {
        self.0.iter().map(|(name, field)| (name.as_str(), field))
    }

    /// The columns that the fields become.
    pub fn specs(&self) -> Vec<ColumnSpec> {
        let spec = |(name, field): (&str, &AnswerField)| ColumnSpec {
            name: name.to_owned(),
            data_type: field.column_type.arrow(),
            nullable: true,
            description: field.description.clone().unwrap_or_else(|| "what the model answered".to_owned()),
        };
        self.iter().map(spec).collect()
    }

    /// The JSON Schema of an answer, in the strict form: every field is there, and no other.
    pub fn schema(&self) -> Value {
        let properties: Map<String, Value> = self.iter().map(|(name, field)| (name.to_owned(), field.schema())).collect();
        let required: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    /// The schema as a request has it.
    pub fn answer_schema(&self, name: &str) -> Arc<AnswerSchema> {
        Arc::new(AnswerSchema { name: name.to_owned(), schema: self.schema() })
    }

    /// What the prompt says of the form: not every endpoint holds a model to a schema, and none tells it what the fields mean.
    pub fn instruction(&self) -> String {
        let mut text = "Answer with one JSON object and nothing else. Its fields:".to_owned();
        for (name, field) in self.iter() {
            text.push_str(&format!("\n- {}: {}", Value::from(name), field.wanted()));
            if let Some(description) = &field.description {
                text.push_str(&format!(" ({description})"));
            }
        }
        text
    }

    /// The values of an answer, in the order of the fields: the text itself, what stands in a code fence, or the first object in prose.
    ///
    /// # Errors
    /// What is wrong with it, for the model to read: where the JSON breaks, or which field is not as wanted.
    pub fn read(&self, answer: &str) -> Result<Vec<Value>, String> {
        let mut found = dig::object(answer)?;
        let mut problems = Vec::new();
        let mut values = Vec::with_capacity(self.0.len());
        for (name, field) in self.iter() {
            let Some(at) = found.iter().position(|(key, _)| key == name) else {
                problems.push(format!("the field {} is missing, which is {}", Value::from(name), field.wanted()));
                continue;
            };
            let (key, mut value) = found.swap_remove(at);
            field.check(&Value::from(key).to_string(), &mut value, &mut problems);
            values.push(value);
        }
        for (key, _) in &found {
            problems.push(format!("the field {} is not one of those asked for", Value::from(dig::cut(key, 60))));
        }
        if problems.is_empty() {
            // Dates and the widths of numbers: what columns say.
            self.records([&values])?;
            return Ok(values);
        }
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(format!("{}{more}", problems.join("; ")))
    }

    /// The columns of rows that [`AnswerFields::read`] gave; `None` is a row of nulls.
    ///
    /// # Errors
    /// [`StageError::Internal`] if the values are no such rows.
    pub fn columns<'v>(&self, rows: impl IntoIterator<Item = Option<&'v Vec<Value>>>) -> Result<RecordBatch, StageError> {
        let nulls = vec![Value::Null; self.0.len()];
        self.records(rows.into_iter().map(|row| row.unwrap_or(&nulls))).map_err(StageError::Internal)
    }

    fn records<'v>(&self, rows: impl IntoIterator<Item = &'v Vec<Value>>) -> Result<RecordBatch, String> {
        let columns = self.iter().map(|(name, field)| (name.to_owned(), field.column_type.clone())).collect();
        let mut records = JsonRecords::new(&Columns(columns));
        for values in rows {
            let record: Map<String, Value> = self.iter().map(|(name, _)| name.to_owned()).zip(values.iter().cloned()).collect();
            let line = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
            records.push(&line).map_err(|bad| bad.detail)?;
        }
        records.take().map_err(|error| error.to_string())
    }

    /// An answer as it may look, for a plan.
    pub fn stand_in(&self) -> String {
        Value::Object(self.iter().map(|(name, field)| (name.to_owned(), field.stand_in())).collect()).to_string()
    }
}

/// Problems with one answer that are told: the first ones are enough to mend it.
const MAX_PROBLEMS: usize = 5;

impl Serialize for AnswerFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for AnswerFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = AnswerFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of field names to types, such as {label: [spam, ham], score: {type: float32, min: 0, max: 1}}")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<AnswerFields, M::Error> {
                let mut fields: Vec<(String, AnswerField)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.is_empty() {
                        return Err(M::Error::custom("a field has a name"));
                    }
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(M::Error::custom(format!("field `{name}` is there twice")));
                    }
                    let field = map.next_value().map_err(|error| M::Error::custom(format!("field `{name}`: {error}")))?;
                    fields.push((name, field));
                }
                if fields.is_empty() {
                    return Err(M::Error::custom("wants at least one field; leave it out for an answer that is any text"));
                }
                Ok(AnswerFields(fields))
            }
        }
        deserializer.deserialize_map(Named)
    }
}

impl JsonSchema for AnswerFields {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnswerFields".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let field = AnswerField::json_schema(generator);
        json_schema!({"type": "object", "minProperties": 1, "additionalProperties": field})
    }
}

#[cfg(test)]
mod tests;
