//! `columns:` of a pipeline file: names and types, in order.

use std::borrow::Cow;
use std::fmt;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use schemars::{JsonSchema, Schema as JsonSchemaValue, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::ColumnType;

/// Names and types of columns, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns(pub Vec<(String, ColumnType)>);

impl Columns {
    /// The columns' Arrow schema.
    pub fn schema(&self) -> SchemaRef {
        let fields: Fields = self.0.iter().map(|(name, column_type)| Field::new(name, column_type.arrow(), true)).collect();
        Schema::new(fields).into()
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, column_type)) in self.0.iter().enumerate() {
            write!(f, "{}{name}: {column_type}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, column_type) in &self.0 {
            map.serialize_entry(name, &column_type.to_string())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_map(NamedTypes)?))
    }
}

struct NamedTypes;

impl<'de> Visitor<'de> for NamedTypes {
    type Value = Vec<(String, ColumnType)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of column names to types, such as {text: string, tags: list<string>}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields: Vec<(String, ColumnType)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(M::Error::custom(format!("column `{name}` is there twice")));
            }
            fields.push((name, map.next_value::<TypeNode>()?.0));
        }
        if fields.is_empty() {
            return Err(M::Error::custom("wants at least one column; leave it out to have the columns inferred"));
        }
        Ok(fields)
    }
}

/// A type by its name, or a struct as a mapping.
struct TypeNode(ColumnType);

impl<'de> Deserialize<'de> for TypeNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Node;
        impl<'de> Visitor<'de> for Node {
            type Value = TypeNode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type, such as string, int64 or list<string>, or a mapping of field names to types")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TypeNode, E> {
                text.parse().map(TypeNode).map_err(E::custom)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<TypeNode, M::Error> {
                Ok(TypeNode(ColumnType::Struct(NamedTypes.visit_map(map)?)))
            }
        }
        deserializer.deserialize_any(Node)
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaValue {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "object"], "description": "A type: string, bool, int8 to int64, uint8 to uint64, float32, float64, binary, date, timestamp, json, list<TYPE>, struct<NAME: TYPE, …>; or a mapping of field names to types."}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_read_as_a_mapping_and_print_the_same() {
        let columns: Columns = serde_json::from_str(r#"{"text": "string", "meta": {"n": "int64", "tags": "list<string>"}}"#).unwrap();
        assert_eq!(columns.to_string(), "{text: string, meta: struct<n: int64, tags: list<string>>}");
        let written = serde_json::to_string(&columns).unwrap();
        assert_eq!(written, r#"{"text":"string","meta":"struct<n: int64, tags: list<string>>"}"#);
        assert_eq!(serde_json::from_str::<Columns>(&written).unwrap(), columns);
    }

    #[test]
    fn a_bad_type_is_quoted() {
        let error = serde_json::from_str::<Columns>(r#"{"n": "integer"}"#).unwrap_err().to_string();
        assert!(error.starts_with("`integer` is no type: `integer` is not known, did you mean `int64`?"), "{error}");
    }
}
