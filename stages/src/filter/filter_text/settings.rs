//! The settings of each set of rules.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{ColumnName, Fraction};

/// A published set of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RuleSet {
    /// Gopher's rules of quality: length, words, symbols, bullets, stop words.
    GopherQuality,
    /// Gopher's rules against repetition: of lines, paragraphs and runs of words.
    GopherRepetition,
    /// C4's: removes lines, then drops what has too few sentences left.
    C4,
    /// FineWeb's own rules: punctuation, short lines, repeated lines, lists.
    Fineweb,
    /// SlimPajama's: drops what is short once punctuation is left out.
    SlimpajamaShort,
}

impl RuleSet {
    /// Its name in `rules`, and the setting that holds its own.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GopherQuality => "gopher_quality",
            Self::GopherRepetition => "gopher_repetition",
            Self::C4 => "c4",
            Self::Fineweb => "fineweb",
            Self::SlimpajamaShort => "slimpajama_short",
        }
    }
}

/// A threshold that a rule can do without: `off` switches the rule off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit<T> {
    /// The rule holds texts against it.
    At(T),
    /// There is no such rule.
    Off,
}

const OFF: &str = "off";

impl<T: Serialize> Serialize for Limit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(threshold) => threshold.serialize(serializer),
            Self::Off => serializer.serialize_str(OFF),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) if text == OFF => Ok(Self::Off),
            other => T::deserialize(other).map(Self::At).map_err(|error| D::Error::custom(format!("{error}, or `off`"))),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Limit<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<T>(), {"const": OFF}]})
    }
}

/// A number, 0 or more.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Ratio(f64);

impl Ratio {
    /// The number.
    pub(super) fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if number >= 0.0 && number.is_finite() {
            Ok(Self(number))
        } else {
            Err(D::Error::custom(format!("`{number}` is not a number, 0 or more")))
        }
    }
}

impl JsonSchema for Ratio {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ratio".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0})
    }
}

/// A threshold as a number.
pub(super) trait Threshold {
    fn number(self) -> f64;
}

impl Threshold for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Threshold for Ratio {
    fn number(self) -> f64 {
        self.get()
    }
}

impl Threshold for Fraction {
    fn number(self) -> f64 {
        self.get()
    }
}

impl<T> Limit<T> {
    /// The threshold, if there is one.
    pub(super) fn threshold(self) -> Option<T> {
        match self {
            Self::At(threshold) => Some(threshold),
            Self::Off => None,
        }
    }
}

fn share(value: f64) -> Limit<Fraction> {
    Limit::At(Fraction::new(value).expect("a share of a paper's is one"))
}

fn ratio(value: f64) -> Limit<Ratio> {
    Limit::At(Ratio(value))
}

/// Thresholds of Gopher's rules of quality, in the order in which they decide.
///
/// Source: Rae et al., *Scaling language models: methods, analysis & insights from training Gopher*, 2021, arXiv:2112.11446, §A.1.1; what the paper
/// leaves open (which characters are symbols, what a bullet is) is as in datatrove 0.10.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct GopherQuality {
    /// Fewest words; those of symbols alone do not count.
    pub min_words: Limit<u64>,
    /// Most words; those of symbols alone do not count.
    pub max_words: Limit<u64>,
    /// Least mean length of a word, in characters; words of symbols alone do not count.
    pub min_mean_word_length: Limit<Ratio>,
    /// Greatest mean length of a word, in characters.
    pub max_mean_word_length: Limit<Ratio>,
    /// Most `#` a word.
    pub max_hash_ratio: Limit<Ratio>,
    /// Most ellipses (`...` and `…`) a word.
    pub max_ellipsis_ratio: Limit<Ratio>,
    /// Greatest share of lines that begin with `•` or `-`.
    pub max_bullet_lines: Limit<Fraction>,
    /// Greatest share of lines that end with an ellipsis.
    pub max_ellipsis_lines: Limit<Fraction>,
    /// Least share of words with a letter. With `words: spacy_en` or `whitespace`, punctuation marks can be words.
    pub min_alphabetic_words: Limit<Fraction>,
    /// Fewest different stop words.
    pub min_stop_words: Limit<u64>,
    /// The stop words, written as they have to stand in the text. By default the paper's, which are English.
    pub stop_words: Vec<String>,
}

/// Source: Rae et al. 2021, §A.1.1.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

impl Default for GopherQuality {
    fn default() -> Self {
        Self {
            min_words: Limit::At(50),
            max_words: Limit::At(100_000),
            min_mean_word_length: ratio(3.0),
            max_mean_word_length: ratio(10.0),
            max_hash_ratio: ratio(0.1),
            max_ellipsis_ratio: ratio(0.1),
            max_bullet_lines: share(0.9),
            max_ellipsis_lines: share(0.3),
            min_alphabetic_words: share(0.8),
            min_stop_words: Limit::At(2),
            stop_words: STOP_WORDS.map(str::to_owned).to_vec(),
        }
    }
}

/// Thresholds of Gopher's rules against repetition, in the order in which they decide. A repetition is every occurrence but the first. Shares of
/// characters are of all characters of the text.
///
/// Source: Rae et al. 2021, arXiv:2112.11446, table A1; the order, and how overlapping runs of words are counted, as in datatrove 0.10.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct GopherRepetition {
    /// Greatest share of paragraphs that repeat one before; paragraphs are parted by empty lines.
    pub max_duplicate_paragraphs: Limit<Fraction>,
    /// Greatest share of characters in paragraphs that repeat one before.
    pub max_duplicate_paragraph_chars: Limit<Fraction>,
    /// Greatest share of lines that repeat one before; empty lines do not count.
    pub max_duplicate_lines: Limit<Fraction>,
    /// Greatest share of characters in lines that repeat one before.
    pub max_duplicate_line_chars: Limit<Fraction>,
    /// Greatest share of characters in all occurrences of the commonest two words in a row, the space between them counted.
    pub max_top_2_gram: Limit<Fraction>,
    /// The same of three words in a row.
    pub max_top_3_gram: Limit<Fraction>,
    /// The same of four words in a row.
    pub max_top_4_gram: Limit<Fraction>,
    /// Greatest share of characters in five words in a row that stand before in the text, none counted twice.
    pub max_duplicate_5_grams: Limit<Fraction>,
    /// The same of six words in a row.
    pub max_duplicate_6_grams: Limit<Fraction>,
    /// The same of seven words in a row.
    pub max_duplicate_7_grams: Limit<Fraction>,
    /// The same of eight words in a row.
    pub max_duplicate_8_grams: Limit<Fraction>,
    /// The same of nine words in a row.
    pub max_duplicate_9_grams: Limit<Fraction>,
    /// The same of ten words in a row.
    pub max_duplicate_10_grams: Limit<Fraction>,
}

impl Default for GopherRepetition {
    fn default() -> Self {
        Self {
            max_duplicate_paragraphs: share(0.3),
            max_duplicate_paragraph_chars: share(0.2),
            max_duplicate_lines: share(0.3),
            max_duplicate_line_chars: share(0.2),
            max_top_2_gram: share(0.2),
            max_top_3_gram: share(0.18),
            max_top_4_gram: share(0.16),
            max_duplicate_5_grams: share(0.15),
            max_duplicate_6_grams: share(0.14),
            max_duplicate_7_grams: share(0.13),
            max_duplicate_8_grams: share(0.12),
            max_duplicate_9_grams: share(0.11),
            max_duplicate_10_grams: share(0.10),
        }
    }
}

/// C4's rules: each line is held against those for lines in this order and removed or kept; `drop_lorem_ipsum` and `drop_curly_brackets` drop the
/// whole text where a line that was kept so far has them. The paper's list of bad words is not among them.
///
/// Source: Raffel et al., *Exploring the limits of transfer learning with a unified text-to-text transformer*, JMLR 21, 2020, §2.2; the longest
/// word, citations and the phrases of policies from the code that made C4 (`tensorflow_datasets`, `c4_utils.py`); the order as in datatrove 0.10.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that a pipeline file names")]
pub struct C4 {
    /// Lines with a longer word are removed; in characters, cut at white space.
    pub max_word_chars: Limit<u64>,
    /// Takes `[1]`, `[]`, `[edit]` and `[citation needed]` out of lines.
    pub remove_citations: bool,
    /// Lines that do not end with `.`, `?`, `!`, `"` or `'`, or that end with `...`, are removed. FineWeb has this `false`.
    pub terminal_punctuation: bool,
    /// Lines with fewer words are removed; cut at white space.
    pub min_line_words: Limit<u64>,
    /// Drops texts that say "lorem ipsum".
    pub drop_lorem_ipsum: bool,
    /// Removes lines that say "javascript".
    pub remove_javascript_lines: bool,
    /// Drops texts with a `{`.
    pub drop_curly_brackets: bool,
    /// Removes lines that say "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies" or "use cookies".
    pub remove_policy_lines: bool,
    /// Fewest sentences that the lines kept have in all.
    pub min_sentences: Limit<u64>,
}

impl Default for C4 {
    fn default() -> Self {
        Self {
            max_word_chars: Limit::At(1000),
            remove_citations: true,
            terminal_punctuation: true,
            min_line_words: Limit::At(3),
            drop_lorem_ipsum: true,
            remove_javascript_lines: true,
            drop_curly_brackets: true,
            remove_policy_lines: true,
            min_sentences: Limit::At(5),
        }
    }
}

/// Thresholds of FineWeb's own rules, in the order in which they decide. Lines of white space alone do not count.
///
/// Source: Penedo et al., *The FineWeb datasets: decanting the web for the finest text data at scale*, 2024, arXiv:2406.17557, §3.6. The numbers are
/// those of the code (datatrove 0.10.1), which differ from the paper's in one: there 0.1 of the characters may stand in repeated lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct Fineweb {
    /// Least share of lines that end with a mark which ends sentences, of any script.
    pub min_punctuated_lines: Limit<Fraction>,
    /// Whether a text without any such line passes that rule all the same.
    pub allow_unpunctuated: bool,
    /// Greatest share of short lines.
    pub max_short_lines: Limit<Fraction>,
    /// Most characters that a short line has.
    pub short_line_chars: u64,
    /// Greatest share of characters in lines that repeat one before, of all but line feeds.
    pub max_repeated_line_chars: Limit<Fraction>,
    /// Most line feeds a word.
    pub max_newlines_per_word: Limit<Ratio>,
}

impl Default for Fineweb {
    fn default() -> Self {
        Self {
            min_punctuated_lines: share(0.12),
            allow_unpunctuated: false,
            max_short_lines: share(0.67),
            short_line_chars: 30,
            max_repeated_line_chars: share(0.01),
            max_newlines_per_word: ratio(0.3),
        }
    }
}

/// SlimPajama's rule for short texts: a text is put in lower case, ASCII punctuation is taken out, and each run of white space is one space.
///
/// Source: Soboleva et al., *SlimPajama: a 627B token cleaned and deduplicated version of RedPajama*, 2023, and its code (Cerebras modelzoo). The
/// description exempts books and GitHub; the code exempts no source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct SlimpajamaShort {
    /// Fewest characters that are left.
    pub min_clean_chars: Limit<u64>,
    /// Sources whose texts may be short.
    pub exempt_sources: Vec<String>,
    /// The column that says which source a row is from; read only if sources are exempt.
    pub source_column: ColumnName,
}

impl Default for SlimpajamaShort {
    fn default() -> Self {
        Self { min_clean_chars: Limit::At(200), exempt_sources: Vec::new(), source_column: ColumnName::new("source") }
    }
}
