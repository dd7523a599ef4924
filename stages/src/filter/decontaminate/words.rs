//! Words as two texts share them, whatever their case, white space and punctuation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::text::lower::lower_case;
use crate::text::words::Words;

/// What a word is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum WordUnit {
    /// Words by the rules of Unicode (UAX #29): `f(a,b)` is three, and each Chinese character is one.
    #[default]
    Unicode,
    /// What stands between white space, letters and digits alone: `f(a,b)` is one. As GPT-3 was filtered.
    Whitespace,
}

/// A word of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// Its first byte.
    pub(super) start: usize,
    /// The byte behind its last.
    pub(super) end: usize,
    /// Of its normal form.
    pub(super) hash: u64,
}

/// Finds words; buffers are used again for the next text.
#[derive(Default)]
pub(super) struct Cutter {
    words: Words,
    /// A piece of the text, its ASCII letters in lower case: so each word stands where it did.
    ascii: Vec<u8>,
    normal: Vec<u8>,
    found: Vec<Word>,
}

/// Words by white space are handed on by so many.
const AT_A_TIME: usize = 2048;

impl Cutter {
    /// Calls `take` with the words of `text`, some at a time, in order.
    pub(super) fn cut(&mut self, unit: WordUnit, text: &str, take: impl FnMut(&[Word])) {
        match unit {
            WordUnit::Unicode => self.cut_unicode(text, take),
            WordUnit::Whitespace => self.cut_whitespace(text, take),
        }
    }

    fn cut_unicode(&mut self, text: &str, mut take: impl FnMut(&[Word])) {
        let Self { words, ascii, normal, found } = self;
        let mut before = 0;
        words.cut(text.as_bytes(), |piece, starts, ends| {
            ascii.clear();
            ascii.extend_from_slice(piece);
            ascii.make_ascii_lowercase();
            let is_ascii = piece.is_ascii();
            found.clear();
            found.extend(starts.iter().zip(ends).map(|(start, end)| {
                let bytes = &ascii[*start..*end];
                let hash = if is_ascii || bytes.is_ascii() {
                    xxh3_64(bytes)
                } else {
                    normal.clear();
                    write_lower(&text[before + start..before + end], normal);
                    xxh3_64(normal)
                };
                Word { start: before + start, end: before + end, hash }
            }));
            before += piece.len();
            take(found);
        });
    }

    fn cut_whitespace(&mut self, text: &str, mut take: impl FnMut(&[Word])) {
        let Self { normal, found, .. } = self;
        found.clear();
        let mut at = 0;
        while at < text.len() {
            // A token, and in it what is left of it.
            normal.clear();
            let (mut start, mut end) = (at, at);
            let mut rest = text[at..].char_indices();
            let next = loop {
                let Some((offset, character)) = rest.next() else { break text.len() };
                if character.is_whitespace() {
                    break at + offset + character.len_utf8();
                }
                let length = normal.len();
                write_alphanumeric(character, normal);
                if normal.len() > length {
                    start = if length == 0 { at + offset } else { start };
                    end = at + offset + character.len_utf8();
                }
            };
            if !normal.is_empty() {
                found.push(Word { start, end, hash: xxh3_64(normal) });
            }
            at = next;
            if found.len() == AT_A_TIME {
                take(found);
                found.clear();
            }
        }
        take(found);
        found.clear();
    }
}

impl WordUnit {
    /// Writes the normal form of a word, as it stands in a text, behind what `out` holds.
    pub(super) fn write_normal(self, word: &str, out: &mut Vec<u8>) {
        match self {
            Self::Unicode => write_lower(word, out),
            Self::Whitespace => word.chars().for_each(|character| write_alphanumeric(character, out)),
        }
    }
}

fn write_lower(word: &str, out: &mut Vec<u8>) {
    lower_case(word, out);
}

fn write_alphanumeric(character: char, out: &mut Vec<u8>) {
    if character.is_ascii() {
        if character.is_ascii_alphanumeric() {
            out.extend(u8::try_from(character.to_ascii_lowercase()));
        }
    } else if character.is_alphanumeric() {
        let mut utf8 = [0; 4];
        character.to_lowercase().for_each(|lower| out.extend_from_slice(lower.encode_utf8(&mut utf8).as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_segmentation::UnicodeSegmentation;

    use super::*;

    /// Each word as it stands and its normal form, whose hash is checked.
    fn words(unit: WordUnit, text: &str) -> Vec<(String, String)> {
        let (mut cutter, mut found) = (Cutter::default(), Vec::new());
        cutter.cut(unit, "first another text", |_| ());
        cutter.cut(unit, text, |words| found.extend_from_slice(words));
        let word = |word: &Word| {
            let (raw, mut normal) = (&text[word.start..word.end], Vec::new());
            unit.write_normal(raw, &mut normal);
            assert_eq!(word.hash, xxh3_64(&normal), "{raw:?}");
            (raw.to_owned(), String::from_utf8(normal).expect("UTF-8"))
        };
        found.iter().map(word).collect()
    }

    fn normal(unit: WordUnit, text: &str) -> Vec<String> {
        words(unit, text).into_iter().map(|(_, normal)| normal).collect()
    }

    #[test]
    fn case_white_space_and_punctuation_make_no_difference() {
        assert_eq!(normal(WordUnit::Unicode, "Def F(a,b): -- ÉT\u{130} 日本 ??"), ["def", "f", "a", "b", "éti\u{307}", "日", "本"]);
        assert_eq!(
            normal(WordUnit::Whitespace, " Def  F(a,b):\n--\tÉT\u{130}! 日本\u{3000}?? x"),
            ["def", "fab", "éti\u{307}", "日本", "x"]
        );
        assert_eq!(words(WordUnit::Whitespace, "(\"a-b\")")[0].0, "a-b");
        assert_eq!(normal(WordUnit::Unicode, ""), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_rules_in_lower_case(text in "[a-cA-C1_.,' \nÉéЖ日İK\u{301}😀]{0,40}|\\PC{0,20}") {
            let by_rules: Vec<String> = text
                .split(|character: char| character.is_ascii_whitespace() || character == '\u{B}')
                .flat_map(|part| part.unicode_words().collect::<Vec<_>>())
                .map(|word| word.chars().flat_map(char::to_lowercase).collect())
                .collect();
            prop_assert_eq!(normal(WordUnit::Unicode, &text), by_rules);
            let by_space: Vec<String> = text
                .split_whitespace()
                .map(|token| token.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>())
                .filter(|word| !word.is_empty())
                .collect();
            prop_assert_eq!(normal(WordUnit::Whitespace, &text), by_space);
        }
    }
}
