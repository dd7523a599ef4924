//! The types of columns, found by looking at some records.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use serde_json::Value;

use super::types::{ColumnType, MAX_DEPTH};

/// Most fields of a nested object; one with more is a map of its own keys, and is kept as `json`.
const MAX_FIELDS: usize = 256;

/// What was seen of one value.
#[derive(Debug, Clone, PartialEq, Default)]
enum Seen {
    #[default]
    Nothing,
    Bool,
    /// Whether one was negative, and whether one was over the largest `i64`.
    Int {
        negative: bool,
        big: bool,
    },
    Float,
    Text,
    List(Box<Seen>),
    Struct(Fields),
    /// Values that no one type holds.
    Mixed,
}

/// Fields in the order in which they were first seen.
#[derive(Debug, Clone, PartialEq, Default)]
struct Fields {
    fields: Vec<(String, Seen)>,
    places: HashMap<String, usize>,
}

impl Fields {
    fn add(&mut self, record: serde_json::Map<String, Value>, depth: usize) {
        for (name, value) in record {
            let place = *self.places.entry(name).or_insert_with_key(|name| {
                self.fields.push((name.clone(), Seen::Nothing));
                self.fields.len() - 1
            });
            self.fields[place].1.add(value, depth);
        }
    }

    fn columns(self) -> Vec<(String, ColumnType)> {
        self.fields.into_iter().map(|(name, seen)| (name, seen.column_type())).collect()
    }
}

impl Seen {
    fn add(&mut self, value: Value, depth: usize) {
        let seen = match value {
            Value::Null => return,
            Value::Bool(_) => Seen::Bool,
            Value::Number(number) if number.is_i64() => Seen::Int { negative: number.as_i64().is_some_and(|n| n < 0), big: false },
            Value::Number(number) if number.is_u64() => Seen::Int { negative: false, big: true },
            Value::Number(_) => Seen::Float,
            Value::String(_) => Seen::Text,
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => Seen::Mixed,
            Value::Array(items) => {
                let mut all = match self {
                    Seen::List(item) => std::mem::take(&mut **item),
                    _ => Seen::Nothing,
                };
                for item in items {
                    all.add(item, depth + 1);
                }
                if let Seen::List(item) = self {
                    **item = all;
                    return;
                }
                Seen::List(Box::new(all))
            }
            Value::Object(record) => {
                if let Seen::Struct(fields) = self {
                    fields.add(record, depth + 1);
                    if fields.fields.len() > MAX_FIELDS {
                        *self = Seen::Mixed;
                    }
                    return;
                }
                let mut fields = Fields::default();
                fields.add(record, depth + 1);
                if fields.fields.len() > MAX_FIELDS { Seen::Mixed } else { Seen::Struct(fields) }
            }
        };
        *self = std::mem::take(self).and(seen);
    }

    fn and(self, other: Seen) -> Seen {
        match (self, other) {
            (Seen::Nothing, seen) => seen,
            (Seen::Int { negative: a, big: b }, Seen::Int { negative: c, big: d }) => Seen::Int { negative: a | c, big: b | d },
            (Seen::Int { .. } | Seen::Float, Seen::Float) | (Seen::Float, Seen::Int { .. }) => Seen::Float,
            (a, b) if a == b => a,
            _ => Seen::Mixed,
        }
    }

    fn column_type(self) -> ColumnType {
        match self {
            Seen::Nothing | Seen::Text => ColumnType::Text,
            Seen::Bool => ColumnType::Plain(DataType::Boolean),
            Seen::Int { big: false, .. } => ColumnType::Plain(DataType::Int64),
            Seen::Int { negative: false, .. } => ColumnType::Plain(DataType::UInt64),
            Seen::Int { .. } | Seen::Mixed => ColumnType::Json,
            Seen::Float => ColumnType::Plain(DataType::Float64),
            Seen::List(item) => ColumnType::List(Box::new(item.column_type())),
            Seen::Struct(fields) if fields.fields.is_empty() => ColumnType::Json, // Parquet has no struct without fields
            Seen::Struct(fields) => ColumnType::Struct(fields.columns()),
        }
    }
}

/// Columns of JSON records: integers and floats together are float64, nulls alone string, values of several types `json`.
#[derive(Debug, Default)]
pub(crate) struct JsonColumns(Fields);

impl JsonColumns {
    pub(crate) fn add(&mut self, record: serde_json::Map<String, Value>) {
        self.0.add(record, 0);
    }

    pub(crate) fn columns(self) -> Vec<(String, ColumnType)> {
        self.0.columns()
    }
}

/// The type of a column of text fields: int64, float64, bool, or string. Empty fields say nothing; a number with a leading zero is no number.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent findings")]
pub(crate) struct FieldTypes {
    any: bool,
    not_int: bool,
    not_float: bool,
    not_bool: bool,
}

impl FieldTypes {
    pub(crate) fn add(&mut self, field: &str) {
        let field = field.trim();
        if field.is_empty() {
            return;
        }
        let digits = field.strip_prefix(['-', '+']).unwrap_or(field);
        let label = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
        self.any = true;
        self.not_int |= label || field.parse::<i64>().is_err();
        self.not_float |= label || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || field.parse::<f64>().is_err();
        self.not_bool |= !field.eq_ignore_ascii_case("true") && !field.eq_ignore_ascii_case("false");
    }

    pub(crate) fn column_type(self) -> ColumnType {
        match self {
            FieldTypes { any: true, not_int: false, .. } => ColumnType::Plain(DataType::Int64),
            FieldTypes { any: true, not_float: false, .. } => ColumnType::Plain(DataType::Float64),
            FieldTypes { any: true, not_bool: false, .. } => ColumnType::Plain(DataType::Boolean),
            _ => ColumnType::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Columns;
    use super::*;

    fn inferred(records: &[&str]) -> String {
        let mut columns = JsonColumns::default();
        for record in records {
            columns.add(serde_json::from_str(record).unwrap());
        }
        Columns(columns.columns()).to_string()
    }

    #[test]
    fn types_widen_over_records() {
        assert_eq!(
            inferred(&[
                r#"{"id": 1, "f": 1, "n": null, "tags": [], "s": {"a": 1}, "mixed": 5, "e": {}}"#,
                r#"{"id": 2, "f": 2.5, "n": null, "tags": ["x", null], "s": {"b": [true]}, "mixed": "x", "late": "y"}"#,
            ]),
            "{id: int64, f: float64, n: string, tags: list<string>, s: struct<a: int64, b: list<bool>>, mixed: json, e: json, late: string}"
        );
        assert_eq!(inferred(&[r#"{"a": 18446744073709551615}"#]), "{a: uint64}");
        assert_eq!(inferred(&[r#"{"a": 18446744073709551615}"#, r#"{"a": -1}"#]), "{a: json}");
        assert_eq!(inferred(&[r#"{"a": [1, {"b": 2}]}"#, r#"{"a": [[1]]}"#]), "{a: list<json>}");
    }

    #[test]
    fn an_object_of_very_many_keys_is_json() {
        let record = format!("{{\"m\": {{{}}}}}", (0..300).map(|n| format!("\"k{n}\": 1")).collect::<Vec<_>>().join(","));
        assert_eq!(inferred(&[&record]), "{m: json}");
    }

    #[test]
    fn text_fields_are_numbers_only_if_all_are() {
        let of = |fields: &[&str]| {
            let mut types = FieldTypes::default();
            fields.iter().for_each(|field| types.add(field));
            types.column_type().to_string()
        };
        assert_eq!(of(&["1", "", "-2"]), "int64");
        assert_eq!(of(&["1", "2.5", "1e3"]), "float64");
        assert_eq!(of(&["007", "8"]), "string");
        assert_eq!(of(&["true", "False"]), "bool");
        assert_eq!(of(&["nan"]), "string");
        assert_eq!(of(&[""]), "string");
    }
}
