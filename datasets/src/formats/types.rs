//! Types of columns as a pipeline file writes them: `string`, `int64`, `list<string>`, `struct<role: string, content: string>`, …

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// The type of a column that is read from text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    Text,
    /// Text that holds any JSON value: a string as it is, anything else as JSON.
    Json,
    /// A number, a truth value, bytes, a date or a time: `Boolean`, `Int*`, `UInt*`, `Float32`, `Float64`, `Binary`, `Date32` or
    /// `Timestamp(Microsecond, UTC)`.
    Plain(DataType),
    /// A list of one type.
    List(Box<ColumnType>),
    /// Named fields.
    Struct(Vec<(String, ColumnType)>),
}

impl ColumnType {
    /// The Arrow type of the column.
    pub fn arrow(&self) -> DataType {
        match self {
            ColumnType::Text | ColumnType::Json => DataType::Utf8,
            ColumnType::Plain(data_type) => data_type.clone(),
            ColumnType::List(item) => DataType::List(Arc::new(Field::new("item", item.arrow(), true))),
            ColumnType::Struct(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }
}

pub(crate) fn arrow_fields(fields: &[(String, ColumnType)]) -> Fields {
    fields.iter().map(|(name, column_type)| Field::new(name, column_type.arrow(), true)).collect()
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Text => f.write_str("string"),
            ColumnType::Json => f.write_str("json"),
            ColumnType::Plain(data_type) => match PLAIN.iter().find(|(_, plain)| plain() == *data_type) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "{data_type}"),
            },
            ColumnType::List(item) => write!(f, "list<{item}>"),
            ColumnType::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    write!(f, "{}{name}: {field}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str(">")
            }
        }
    }
}

type PlainType = (&'static str, fn() -> DataType);

static PLAIN: [PlainType; 15] = [
    ("bool", || DataType::Boolean),
    ("int8", || DataType::Int8),
    ("int16", || DataType::Int16),
    ("int32", || DataType::Int32),
    ("int64", || DataType::Int64),
    ("uint8", || DataType::UInt8),
    ("uint16", || DataType::UInt16),
    ("uint32", || DataType::UInt32),
    ("uint64", || DataType::UInt64),
    ("float32", || DataType::Float32),
    ("float64", || DataType::Float64),
    ("binary", || DataType::Binary),
    ("date", || DataType::Date32),
    ("timestamp", || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ("bytes", || DataType::Binary),
];

/// A type name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no type: {problem}; types are string, bool, int8 to int64, uint8 to uint64, float32, float64, binary, date, timestamp, json, list<TYPE> and struct<NAME: TYPE, …>"
)]
pub struct TypeError {
    /// What was to be read.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Deepest nesting of a type; deeper ones are `json`.
pub(crate) const MAX_DEPTH: usize = 16;

impl std::str::FromStr for ColumnType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let mut parser = Parser { text, rest: text.trim() };
        let column_type = parser.column_type(0)?;
        if parser.rest.is_empty() { Ok(column_type) } else { Err(parser.error(format!("`{}` is too much", parser.rest))) }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn error(&self, problem: impl Into<String>) -> TypeError {
        TypeError { text: self.text.to_owned(), problem: problem.into() }
    }

    fn word(&mut self, stops: &[char]) -> &'a str {
        let end = self.rest.find(stops).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.trim()
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), TypeError> {
        if self.take(wanted) {
            return Ok(());
        }
        let found = self.rest.chars().next().map_or("its end".to_owned(), |c| format!("`{c}`"));
        Err(self.error(format!("wanted `{wanted}`, found {found}")))
    }

    fn column_type(&mut self, depth: usize) -> Result<ColumnType, TypeError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} levels; `json` takes what is deeper")));
        }
        let word = self.word(&['<', '>', ',', ':']);
        match word.to_ascii_lowercase().as_str() {
            "" => Err(self.error("a type is missing")),
            "string" | "text" | "str" | "utf8" => Ok(ColumnType::Text),
            "json" => Ok(ColumnType::Json),
            "list" => {
                self.expect('<')?;
                let item = self.column_type(depth + 1)?;
                self.expect('>')?;
                Ok(ColumnType::List(Box::new(item)))
            }
            "struct" => {
                self.expect('<')?;
                let mut fields: Vec<(String, ColumnType)> = Vec::new();
                loop {
                    let name = self.word(&['<', '>', ',', ':']).to_owned();
                    if name.is_empty() {
                        return Err(self.error("a struct has fields, each with a name"));
                    }
                    if fields.iter().any(|(other, _)| *other == name) {
                        return Err(self.error(format!("field `{name}` is there twice")));
                    }
                    self.expect(':')?;
                    fields.push((name, self.column_type(depth + 1)?));
                    if !self.take(',') {
                        break;
                    }
                }
                self.expect('>')?;
                Ok(ColumnType::Struct(fields))
            }
            name => match PLAIN.iter().find(|(plain, _)| *plain == name) {
                Some((_, data_type)) => Ok(ColumnType::Plain(data_type())),
                None => Err(self.error(match nearest(name) {
                    Some(near) => format!("`{word}` is not known, did you mean `{near}`?"),
                    None => format!("`{word}` is not known"),
                })),
            },
        }
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    match name {
        "int" | "integer" | "long" | "i64" => Some("int64"),
        "float" | "double" | "f64" | "number" => Some("float64"),
        "boolean" => Some("bool"),
        "array" | "sequence" => Some("list<TYPE>"),
        "object" | "dict" | "map" => Some("struct<NAME: TYPE>"),
        "datetime" | "time" => Some("timestamp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_reads_as_it_is_written() {
        for text in ["string", "int64", "list<struct<role: string, content: json>>", "struct<a: list<list<float32>>, b: timestamp>", "bool"]
        {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        assert_eq!(" List < int8 > ".parse::<ColumnType>().unwrap().to_string(), "list<int8>");
    }

    #[test]
    fn what_is_wrong_with_a_type_is_said() {
        let problem = |text: &str| text.parse::<ColumnType>().unwrap_err().problem;
        assert_eq!(problem("integer"), "`integer` is not known, did you mean `int64`?");
        assert_eq!(problem("list<string"), "wanted `>`, found its end");
        assert_eq!(problem("list"), "wanted `<`, found its end");
        assert_eq!(problem("struct<>"), "a struct has fields, each with a name");
        assert_eq!(problem("struct<a: bool, a: bool>"), "field `a` is there twice");
        assert_eq!(problem("bool, bool"), "`, bool` is too much");
        assert_eq!(problem(&"list<".repeat(100_000)), "more than 16 levels; `json` takes what is deeper");
    }
}
