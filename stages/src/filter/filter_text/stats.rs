//! The statistics that rules decide by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::RuleSet;

macro_rules! stats {
    ($($stat:ident $name:literal $set:ident $is_count:literal $what:literal,)*) => {
        /// A number that a rule holds against its threshold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[schemars(inline)]
        pub enum Stat {
            $(#[doc = $what] #[serde(rename = $name)] $stat,)*
        }

        impl Stat {
            /// All of them, in the order of their rules.
            pub(super) const ALL: [Self; [$($name,)*].len()] = [$(Self::$stat,)*];

            /// Its name: of the column, and of the measure.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$stat => $name,)* }
            }

            /// What it is, with its unit.
            pub(super) fn what(self) -> &'static str {
                match self { $(Self::$stat => $what,)* }
            }

            /// The set whose rules use it.
            pub(super) fn set(self) -> RuleSet {
                match self { $(Self::$stat => RuleSet::$set,)* }
            }

            /// Whether it is a whole number.
            pub(super) fn is_count(self) -> bool {
                match self { $(Self::$stat => $is_count,)* }
            }
        }
    };
}

stats! {
    NWords "n_words" GopherQuality true "words that are not of symbols alone",
    MeanWordLength "mean_word_length" GopherQuality false "mean length of words that are not of symbols alone, in characters",
    HashRatio "hash_ratio" GopherQuality false "# signs a word",
    EllipsisRatio "ellipsis_ratio" GopherQuality false "ellipses a word",
    BulletLines "bullet_lines" GopherQuality false "share of lines that begin with a bullet",
    EllipsisLines "ellipsis_lines" GopherQuality false "share of lines that end with an ellipsis",
    AlphabeticWords "alphabetic_words" GopherQuality false "share of words with a letter",
    NStopWords "n_stop_words" GopherQuality true "different stop words",
    DuplicateParagraphs "duplicate_paragraphs" GopherRepetition false "share of paragraphs that repeat one before",
    DuplicateParagraphChars "duplicate_paragraph_chars" GopherRepetition false "share of characters in paragraphs that repeat one before",
    DuplicateLines "duplicate_lines" GopherRepetition false "share of lines that repeat one before",
    DuplicateLineChars "duplicate_line_chars" GopherRepetition false "share of characters in lines that repeat one before",
    Top2Gram "top_2_gram" GopherRepetition false "share of characters in the commonest 2 words in a row",
    Top3Gram "top_3_gram" GopherRepetition false "share of characters in the commonest 3 words in a row",
    Top4Gram "top_4_gram" GopherRepetition false "share of characters in the commonest 4 words in a row",
    Duplicate5Grams "duplicate_5_grams" GopherRepetition false "share of characters in 5 words in a row that stand before",
    Duplicate6Grams "duplicate_6_grams" GopherRepetition false "share of characters in 6 words in a row that stand before",
    Duplicate7Grams "duplicate_7_grams" GopherRepetition false "share of characters in 7 words in a row that stand before",
    Duplicate8Grams "duplicate_8_grams" GopherRepetition false "share of characters in 8 words in a row that stand before",
    Duplicate9Grams "duplicate_9_grams" GopherRepetition false "share of characters in 9 words in a row that stand before",
    Duplicate10Grams "duplicate_10_grams" GopherRepetition false "share of characters in 10 words in a row that stand before",
    KeptLines "kept_lines" C4 false "share of lines that C4's rules keep",
    NSentences "n_sentences" C4 true "sentences of the lines that C4's rules keep",
    PunctuatedLines "punctuated_lines" Fineweb false "share of lines that end with a mark which ends sentences",
    ShortLines "short_lines" Fineweb false "share of short lines",
    RepeatedLineChars "repeated_line_chars" Fineweb false "share of characters in lines that repeat one before, line feeds aside",
    NewlinesPerWord "newlines_per_word" Fineweb false "line feeds a word",
    NCleanChars "n_clean_chars" SlimpajamaShort true "characters of the cleaned text",
}

/// Some of the statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StatSet(u64);

impl StatSet {
    pub(super) const ALL: Self = Self(u64::MAX);

    pub(super) fn insert(&mut self, stat: Stat) {
        self.0 |= 1 << stat as u64;
    }

    pub(super) fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn contains(self, stat: Stat) -> bool {
        (self.0 >> stat as u64) & 1 == 1
    }

    pub(super) fn has_any_of(self, stats: &[Stat]) -> bool {
        stats.iter().any(|stat| self.contains(*stat))
    }
}

/// The statistics of one text; NaN where one was not asked for or the text did not come so far.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    numbers: [f64; Stat::ALL.len()],
    /// Those that the step at hand may write: what an earlier one found, of the text as it was then, stays.
    open: StatSet,
}

impl Stats {
    pub(super) const NONE: Self = Self { numbers: [f64::NAN; Stat::ALL.len()], open: StatSet::ALL };

    /// Takes no others from now on.
    pub(super) fn take_only(&mut self, wanted: StatSet) {
        self.open = wanted;
    }

    pub(super) fn get(&self, stat: Stat) -> f64 {
        self.numbers[stat as usize]
    }

    pub(super) fn set(&mut self, stat: Stat, number: f64) {
        if self.open.contains(stat) {
            self.numbers[stat as usize] = number;
        }
    }
}
