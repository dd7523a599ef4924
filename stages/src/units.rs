//! Checked setting types: a value that cannot work fails while the pipeline file is read, and the error says what was wanted and what was found.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A share of a whole: a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Fraction(f64);

impl Fraction {
    /// The fraction `value`, if it is one.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FractionVisitor)
    }
}

struct FractionVisitor;

impl Visitor<'_> for FractionVisitor {
    type Value = Fraction;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 1")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Fraction, E> {
        Fraction::new(value).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Fraction, E> {
        match value {
            0 => Ok(Fraction(0.0)),
            1 => Ok(Fraction(1.0)),
            other => Err(E::invalid_value(Unexpected::Unsigned(other), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Fraction, E> {
        match value {
            0 => Ok(Fraction(0.0)),
            1 => Ok(Fraction(1.0)),
            other => Err(E::invalid_value(Unexpected::Signed(other), &self)),
        }
    }
}

impl JsonSchema for Fraction {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Fraction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

/// A number of characters: Unicode scalar values, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Chars(u64);

impl Chars {
    /// A number of characters.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The characters of `text`.
    pub fn of(text: &str) -> Self {
        // Every character has exactly one byte that does not continue another; this loop is vectorised, `chars().count()` less so.
        Self(text.as_bytes().chunks(1 << 16).map(first_bytes).sum())
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

fn first_bytes(bytes: &[u8]) -> u64 {
    bytes.chunks(255).map(|chunk| u64::from(chunk.iter().map(|&byte| u8::from(byte & 0xC0 != 0x80)).sum::<u8>())).sum()
}

impl<'de> Deserialize<'de> for Chars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CharsVisitor)
    }
}

struct CharsVisitor;

impl Visitor<'_> for CharsVisitor {
    type Value = Chars;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of characters, 0 or more")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Chars, E> {
        Ok(Chars(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Chars, E> {
        u64::try_from(value).map(Chars).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }
}

impl JsonSchema for Chars {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Chars".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0})
    }
}

/// The name of a column: any text but the empty one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ColumnName(Cow<'static, str>);

impl ColumnName {
    /// A name known at compile time.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A name that was checked not to be empty.
    pub(crate) fn owned(name: &str) -> Self {
        Self(Cow::Owned(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ColumnName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColumnNameVisitor)
    }
}

struct ColumnNameVisitor;

impl Visitor<'_> for ColumnNameVisitor {
    type Value = ColumnName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<ColumnName, E> {
        if name.is_empty() { Err(E::invalid_value(Unexpected::Str(name), &self)) } else { Ok(ColumnName(Cow::Owned(name.to_owned()))) }
    }
}

impl JsonSchema for ColumnName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ColumnName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

/// Names of columns: at least one, each once, in the order written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ColumnNames(Vec<ColumnName>);

impl ColumnNames {
    /// One column.
    pub fn one(name: ColumnName) -> Self {
        Self(vec![name])
    }

    /// The names in the order written.
    pub fn iter(&self) -> impl Iterator<Item = &ColumnName> {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for ColumnNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColumnNamesVisitor)
    }
}

struct ColumnNamesVisitor;

impl<'de> Visitor<'de> for ColumnNamesVisitor {
    type Value = ColumnNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of one or more columns, each once")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ColumnNames, A::Error> {
        let mut names: Vec<ColumnName> = Vec::new();
        while let Some(name) = seq.next_element::<ColumnName>()? {
            if names.contains(&name) {
                return Err(A::Error::invalid_value(Unexpected::Other(&format!("`{name}` twice")), &self));
            }
            names.push(name);
        }
        if names.is_empty() {
            return Err(A::Error::invalid_value(Unexpected::Other("an empty list"), &self));
        }
        Ok(ColumnNames(names))
    }
}

impl JsonSchema for ColumnNames {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ColumnNames".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": true})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn refusal<T: DeserializeOwned + fmt::Debug>(value: Value) -> String {
        serde_json::from_value::<T>(value).expect_err("a bad value").to_string()
    }

    #[test]
    fn a_fraction_is_from_0_to_1() {
        for good in [json!(0), json!(1), json!(0.25), json!(1.0)] {
            let fraction: Fraction = serde_json::from_value(good.clone()).expect("a fraction");
            assert_eq!(Some(fraction.get()), good.as_f64());
        }
        assert_eq!(refusal::<Fraction>(json!(1.5)), "invalid value: floating point `1.5`, expected a number from 0 to 1");
        assert_eq!(refusal::<Fraction>(json!(2)), "invalid value: integer `2`, expected a number from 0 to 1");
        assert_eq!(refusal::<Fraction>(json!("half")), "invalid type: string \"half\", expected a number from 0 to 1");
        assert_eq!(Fraction::new(f64::NAN), None);
    }

    #[test]
    fn a_count_of_characters_is_whole_and_not_negative() {
        assert_eq!(refusal::<Chars>(json!(-1)), "invalid value: integer `-1`, expected a whole number of characters, 0 or more");
        assert_eq!(refusal::<Chars>(json!(1.5)), "invalid type: floating point `1.5`, expected a whole number of characters, 0 or more");
    }

    #[test]
    fn columns_are_named_once_and_at_least_one() {
        assert_eq!(refusal::<ColumnName>(json!("")), "invalid value: string \"\", expected the name of a column");
        assert_eq!(refusal::<ColumnNames>(json!([])), "invalid value: an empty list, expected a list of one or more columns, each once");
        assert_eq!(
            refusal::<ColumnNames>(json!(["a", "b", "a"])),
            "invalid value: `a` twice, expected a list of one or more columns, each once"
        );
    }

    #[test]
    fn characters_are_not_bytes() {
        assert_eq!(Chars::of("").get(), 0);
        assert_eq!(Chars::of("naïve 日本 😀").get(), 10);
    }

    proptest! {
        #[test]
        fn counting_first_bytes_counts_characters(text in "\\PC{0,600}") {
            prop_assert_eq!(Chars::of(&text).get(), text.chars().count() as u64);
        }
    }
}
