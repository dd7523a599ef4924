//! What a word is: the ways of cutting a text into words that filters can be told to use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spacy_en::SpacyEn;
use super::unicode::{is_in, is_letter, is_punctuation};
use super::words::{Words, utf8};
use crate::units::Chars;

/// How a text is cut into words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum WordRules {
    /// By the rules of Unicode (UAX #29) between white space; punctuation does not count.
    #[default]
    Uax29,
    /// At white space; punctuation belongs to the word it stands at.
    Whitespace,
    /// As spaCy's English tokenizer does, which datatrove counts words by. Each punctuation mark is a word.
    SpacyEn,
}

/// Cuts texts into words; buffers are used again for the next.
#[derive(Debug)]
pub(crate) enum Splitter {
    Uax29(Words),
    Whitespace,
    SpacyEn(SpacyEn),
}

impl Splitter {
    pub(crate) fn new(rules: WordRules) -> Self {
        match rules {
            WordRules::Uax29 => Self::Uax29(Words::default()),
            WordRules::Whitespace => Self::Whitespace,
            WordRules::SpacyEn => Self::SpacyEn(SpacyEn::default()),
        }
    }

    /// Calls `found` with each word of `text` in order. Words are not empty, and neither begin nor end with white space.
    #[inline]
    pub(crate) fn cut(&mut self, text: &str, mut found: impl FnMut(&[u8])) {
        match self {
            Self::Uax29(words) => words.cut(text.as_bytes(), |piece, starts, ends| {
                starts.iter().zip(ends).for_each(|(start, end)| found(&piece[*start..*end]));
            }),
            Self::Whitespace => cut_at_white_space(text.as_bytes(), found),
            Self::SpacyEn(spacy) => spacy.cut(text, |token| found(&text.as_bytes()[token])),
        }
    }

    /// How many sentences a line has. One ends with a word, cut at white space, that ends with a mark of [`TERMINAL`], whatever quotation marks and
    /// brackets close behind it; what stands behind the last is one too. With spaCy's words, sentences are those of spaCy's sentencizer.
    pub(crate) fn count_sentences(&mut self, line: &str) -> u64 {
        if let Self::SpacyEn(spacy) = self {
            return spacy_sentences(spacy, line);
        }
        let (mut ended, mut is_open) = (0, false);
        cut_at_white_space(line.as_bytes(), |word| {
            let word = utf8(word).trim_end_matches(CLOSING);
            match word.chars().next_back() {
                Some(last) if is_in(&TERMINAL, last) => {
                    ended += 1;
                    is_open = false;
                }
                Some(_) => is_open = true,
                None => {}
            }
        });
        ended + u64::from(is_open)
    }
}

/// How many sentences spaCy's sentencizer finds: behind a mark that ends sentences, the next token that is no punctuation begins one. White space
/// between tokens is a token, unless it is a single space.
///
/// Source: <https://spacy.io/api/sentencizer>, spaCy 3.8. A line without a token is a sentence too, as datatrove counts.
fn spacy_sentences(spacy: &mut SpacyEn, line: &str) -> u64 {
    let (mut sentences, mut is_ended, mut end) = (1, false, 0);
    let mut begin = |is_ended: &mut bool| {
        sentences += u64::from(*is_ended);
        *is_ended = false;
    };
    spacy.cut(line, |token| {
        if !matches!(&line[end..token.start], "" | " ") {
            begin(&mut is_ended);
        }
        end = token.end;
        let token = &line[token];
        let mut characters = token.chars();
        let is_end = characters.next().is_some_and(|only| characters.as_str().is_empty() && is_spacy_end(only));
        if is_end {
            is_ended = true;
        } else if !token.chars().all(is_punctuation) {
            begin(&mut is_ended);
        }
    });
    if !matches!(&line[end..], "" | " ") {
        begin(&mut is_ended);
    }
    sentences
}

/// Whether spaCy's sentencizer takes a character for the end of a sentence: those of [`TERMINAL`] but for some that datatrove added.
fn is_spacy_end(character: char) -> bool {
    is_in(&TERMINAL, character) && !is_in(&NOT_SPACY, character)
}

/// Source: `Sentencizer.default_punct_chars` of spaCy 3.8.18.
#[rustfmt::skip]
const NOT_SPACY: [(u32, u32); 15] = [
    (0x61D, 0x61E), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x17D4, 0x17D6), (0x17D9, 0x17DA), (0x1B7D, 0x1B7E), (0x2E53, 0x2E54),
    (0x10F55, 0x10F59), (0x10F86, 0x10F89), (0x11944, 0x11944), (0x11946, 0x11946), (0x11EF7, 0x11EF8), (0x11F43, 0x11F44),
    (0x16E98, 0x16E98),
];

/// What may close a sentence behind the mark that ends it.
const CLOSING: [char; 11] = ['"', '\'', ')', ']', '}', '\u{201D}', '\u{2019}', '»', '」', '』', '）'];

/// Calls `found` for whatever stands between white space, as Python's `str.split` cuts.
#[inline]
pub(crate) fn cut_at_white_space(text: &[u8], mut found: impl FnMut(&[u8])) {
    let mut at = 0;
    loop {
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            match space_length(rest) {
                0 => break,
                length => at += length,
            }
        }
        if at >= text.len() {
            return;
        }
        let start = at;
        while at < text.len() && (IS_IN_WORD[usize::from(text[at])] || space_length(&text[at..]) == 0) {
            at += 1;
        }
        found(&text[start..at]);
    }
}

/// Bytes that are no white space, and that no white space begins with.
const IS_IN_WORD: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 256 {
        if matches!(byte, 0x09..=0x0D | 0x1C..=0x20 | 0xC2 | 0xE1 | 0xE2 | 0xE3) {
            table[byte] = false;
        }
        byte += 1;
    }
    table
};

/// Bytes of the white space that the text begins with, as [`is_space`](super::unicode::is_space) has it; 0 if it begins with none.
#[inline]
fn space_length(text: &[u8]) -> usize {
    match text {
        [0x09..=0x0D | 0x1C..=0x20, ..] => 1,
        [0xC2, 0x85 | 0xA0, ..] => 2,
        [0xE1, 0x9A, 0x80, ..] | [0xE2, 0x80, 0x80..=0x8A | 0xA8 | 0xA9 | 0xAF, ..] | [0xE2, 0x81, 0x9F, ..] | [0xE3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

/// The characters of a word.
pub(crate) fn utf8_chars(word: &[u8]) -> u64 {
    Chars::of(utf8(word)).get()
}

/// What a word is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) chars: u32,
    /// Of punctuation and control characters alone.
    pub(crate) of_symbols: bool,
    /// It has a letter.
    pub(crate) is_alphabetic: bool,
}

const LETTER: u8 = 1;
const NO_SYMBOL: u8 = 2;
const NO_ASCII: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte {
            0x41..=0x5A | 0x61..=0x7A => LETTER | NO_SYMBOL,
            0x09 | 0x0A | 0x20 | 0x30..=0x39 => NO_SYMBOL,
            0x80.. => NO_ASCII,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

impl Made {
    /// What `word` is made of.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a text has less than 2^32 bytes")]
    pub(crate) fn of(word: &[u8]) -> Self {
        let classes = word.iter().fold(0, |classes, byte| classes | CLASSES[usize::from(*byte)]);
        if classes & NO_ASCII != 0 {
            return Self::of_any(utf8(word));
        }
        Self { chars: word.len() as u32, of_symbols: classes & NO_SYMBOL == 0, is_alphabetic: classes & LETTER != 0 }
    }

    #[inline(never)]
    #[expect(clippy::cast_possible_truncation, reason = "a text has less than 2^32 characters")]
    fn of_any(word: &str) -> Self {
        Self {
            chars: utf8_chars(word.as_bytes()) as u32,
            of_symbols: word.chars().all(is_symbol),
            is_alphabetic: word.chars().any(is_letter),
        }
    }
}

/// Whether a character makes no word.
fn is_symbol(character: char) -> bool {
    match u8::try_from(character) {
        Ok(ascii) if ascii.is_ascii() => CLASSES[usize::from(ascii)] & NO_SYMBOL == 0,
        _ => is_in(&SYMBOLS, character) || is_in(&TERMINAL, character),
    }
}

/// Marks that end sentences, of all scripts.
///
/// Source: `TERMINAL_PUNCTUATION` of datatrove 0.10.1.
#[rustfmt::skip]
pub(crate) const TERMINAL: [(u32, u32); 82] = [
    (0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4), (0x700, 0x702), (0x7F9, 0x7F9),
    (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965), (0x104A, 0x104B), (0x1362, 0x1362), (0x1367, 0x1368),
    (0x166E, 0x166E), (0x1735, 0x1736), (0x17D4, 0x17D6), (0x17D9, 0x17DA), (0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945),
    (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B), (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), (0x203C, 0x203D),
    (0x2047, 0x2049), (0x2E2E, 0x2E2E), (0x2E3C, 0x2E3C), (0x2E53, 0x2E54), (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F),
    (0xA6F3, 0xA6F3), (0xA6F7, 0xA6F7), (0xA876, 0xA877), (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F),
    (0xAAF0, 0xAAF1), (0xABEB, 0xABEB), (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E), (0xFF1F, 0xFF1F),
    (0xFF61, 0xFF61), (0x10A56, 0x10A57), (0x10F55, 0x10F59), (0x10F86, 0x10F89), (0x11047, 0x11048), (0x110BE, 0x110C1),
    (0x11141, 0x11143), (0x111C5, 0x111C6), (0x111CD, 0x111CD), (0x111DE, 0x111DF), (0x11238, 0x11239), (0x1123B, 0x1123C),
    (0x112A9, 0x112A9), (0x1144B, 0x1144C), (0x115C2, 0x115C3), (0x115C9, 0x115D7), (0x11641, 0x11642), (0x1173C, 0x1173E),
    (0x11944, 0x11944), (0x11946, 0x11946), (0x11A42, 0x11A43), (0x11A9B, 0x11A9C), (0x11C41, 0x11C42), (0x11EF7, 0x11EF8),
    (0x11F43, 0x11F44), (0x16A6E, 0x16A6F), (0x16AF5, 0x16AF5), (0x16B37, 0x16B38), (0x16B44, 0x16B44), (0x16E98, 0x16E98),
    (0x1BC9F, 0x1BC9F), (0x1DA88, 0x1DA88),
];

/// Characters besides [`TERMINAL`] that make no word: most of ASCII's punctuation (`*`, but not `\t` or `\n`), control characters, and some of others.
///
/// Source: `PUNCTUATION` of datatrove 0.10.1.
#[rustfmt::skip]
const SYMBOLS: [(u32, u32); 27] = [
    (0x0, 0x8), (0xB, 0x1F), (0x22, 0x2D), (0x2F, 0x2F), (0x3A, 0x3E), (0x40, 0x40), (0x5B, 0x60), (0x7B, 0x9F), (0xAB, 0xAB),
    (0xB4, 0xB4), (0xBB, 0xBB), (0x2013, 0x2014), (0x2019, 0x2019), (0x201C, 0x201E), (0x2026, 0x2026), (0x2236, 0x2236),
    (0x2501, 0x2501), (0x25BA, 0x25BA), (0x3001, 0x3001), (0x3008, 0x300D), (0x3010, 0x3011), (0xFF05, 0xFF05), (0xFF08, 0xFF09),
    (0xFF0C, 0xFF0C), (0xFF11, 0xFF11), (0xFF1A, 0xFF1B), (0xFF5E, 0xFF5E),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::unicode::is_space;

    fn words(rules: WordRules, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        Splitter::new(rules).cut(text, |word| found.push(utf8(word).to_owned()));
        found
    }

    #[test]
    fn each_rule_has_words_of_its_own() {
        let text = "It's 3.5 km -- “so far”\u{3000}日本";
        assert_eq!(words(WordRules::Whitespace, text), ["It's", "3.5", "km", "--", "“so", "far”", "日本"]);
        assert_eq!(words(WordRules::Uax29, text), ["It's", "3.5", "km", "so", "far", "日", "本"]);
    }

    #[test]
    fn a_word_is_made_of_letters_symbols_or_neither() {
        let of = |word: &str| {
            let made = Made::of(word.as_bytes());
            (made.chars, made.of_symbols, made.is_alphabetic)
        };
        assert_eq!(of("a-1"), (3, false, true));
        assert_eq!(of("1.5"), (3, false, false));
        assert_eq!(of("--*"), (3, true, false));
        assert_eq!(of("naïve"), (5, false, true));
        assert_eq!(of("…”"), (2, true, false));
        assert_eq!(of("。"), (1, true, false));
        assert_eq!(of("１"), (1, true, false)); // datatrove has this one digit among its punctuation
        assert_eq!(of("２"), (1, false, false));
        assert_eq!(of("•"), (1, false, false)); // but not the bullet
        assert_eq!(of("Ⅳ"), (1, false, false));
        assert_eq!(of("日本"), (2, false, true));
    }

    #[test]
    fn every_character_of_ascii_is_a_symbol_or_not_by_the_table() {
        for character in ('\0'..='\x7F').filter(|c| !is_in(&SYMBOLS, *c) && !is_in(&TERMINAL, *c)) {
            assert!(!is_symbol(character), "{character:?}");
        }
        for character in ('\0'..='\x7F').filter(|c| is_in(&SYMBOLS, *c) || is_in(&TERMINAL, *c)) {
            assert!(is_symbol(character), "{character:?}");
        }
    }

    #[test]
    fn sentences_end_at_their_marks() {
        let mut splitter = Splitter::new(WordRules::Uax29);
        let mut count = |text: &str| splitter.count_sentences(text);
        assert_eq!(count(""), 0);
        assert_eq!(count("One"), 1);
        assert_eq!(count("One. Two! Three? \"Four.\" (Five.) Six"), 6);
        assert_eq!(count("3.5 km, e.g. two"), 2);
        assert_eq!(count("。 \" '"), 1);
    }

    #[test]
    fn sentences_of_spacy_are_those_of_its_sentencizer() {
        // What is expected here is what datatrove 0.10.1 counts.
        let mut splitter = Splitter::new(WordRules::SpacyEn);
        let mut count = |text: &str| splitter.count_sentences(text);
        for (text, expected) in GOLDEN_SENTENCES {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }

    const GOLDEN_SENTENCES: [(&str, u64); 16] = [
        ("", 1),
        ("One", 1),
        ("One. Two! Three?", 3),
        ("One. \"Two.\" (Three.) Four", 4),
        ("Mr. Smith e.g. left the U.S. today. So", 2),
        ("One.  Two", 2),
        ("One.  .Two", 2),
        ("One.  ", 2),
        ("One. ", 1),
        ("One...", 1),
        ("One... two", 1),
        ("One.) - two. $ 3", 3),
        ("One?! Two", 2),
        ("日本。語。", 1),
        ("3.5 km. Then 4.", 2),
        ("។ a ។ b", 1),
    ];

    proptest! {
        #[test]
        fn white_space_is_where_python_has_it(text in "[ab.\u{1C}\u{1F}\u{85}\u{A0}\u{C2}\u{1680}\u{2003}\u{2028}\u{202F}\u{2060}\u{205F}\u{3000}\u{3001} \n]{0,40}|\\PC{0,40}") {
            let expected: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(words(WordRules::Whitespace, &text), expected);
        }
    }
}
