//! Words by the rules of Unicode (UAX #29), several times faster than by the whole of them where a text is of common alphabets.

use unicode_segmentation::UnicodeSegmentation;

/// What a character is to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `ALetter`.
    Letter,
    /// `Numeric`.
    Digit,
    /// `ExtendNumLet`: joins what stands on either side.
    Joiner,
    /// `MidLetter`: inside a word between two letters.
    MidLetter,
    /// `MidNum`: inside a word between two digits.
    MidDigit,
    /// `MidNumLet`: both.
    Mid,
    /// No rule names it: a word ends before and after it.
    Other,
    /// Rules that are not applied here: the whole of them are.
    Unknown,
}

/// Calls `word` for each word of `text` that has a letter or a digit. Words do not go across ASCII white space.
///
/// Source: Unicode Standard Annex #29, *Unicode text segmentation*, rules `WB5` to `WB13b`; the others concern characters that are `Unknown` here.
pub(super) fn words(text: &str, mut word: impl FnMut(&str)) {
    let mut at = 0;
    while let Some(start) = common(text, at, &mut word) {
        // From the last place that is surely a boundary to the next white space.
        let length = text.as_bytes()[start..].iter().position(|byte| is_space(*byte)).unwrap_or(text.len() - start);
        at = start + length;
        text[start..at].unicode_words().for_each(&mut word);
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

/// Does the words from `at` on. Where it meets a character it does not know, says from where on nothing is done.
fn common(text: &str, mut at: usize, word: &mut impl FnMut(&str)) -> Option<usize> {
    let bytes = text.as_bytes();
    // Where the word under way begins, what its last character is, and whether it has a letter or a digit.
    let mut open: Option<(usize, Class, bool)> = None;
    while at < bytes.len() {
        if bytes[at].is_ascii_alphanumeric() {
            // Most words are nothing else, with a space behind.
            let end = at + alphanumeric_bytes(&bytes[at..]);
            let begin = open.map_or(at, |(begin, ..)| begin);
            if bytes.get(end) == Some(&b' ') {
                word(&text[begin..end]);
                (open, at) = (None, end + 1);
            } else {
                open = Some((begin, ASCII[usize::from(bytes[end - 1])], true));
                at = end;
            }
            continue;
        }
        let (class, length) = class_at(text, at);
        match (class, open) {
            (Class::Unknown, _) => return Some(open.map_or(at, |(begin, ..)| begin)),
            (Class::Letter | Class::Digit, _) => open = Some((open.map_or(at, |(begin, ..)| begin), class, true)),
            (Class::Joiner, None) => open = Some((at, class, false)),
            (Class::Joiner, Some((begin, _, has))) => open = Some((begin, class, has)),
            (Class::MidLetter | Class::MidDigit | Class::Mid, Some((begin, last, _))) => {
                let (next, _) = class_at(text, at + length);
                let joins = match (last, next) {
                    (_, Class::Unknown) => return Some(begin),
                    (Class::Letter, Class::Letter) => class != Class::MidDigit,
                    (Class::Digit, Class::Digit) => class != Class::MidLetter,
                    _ => false,
                };
                if !joins {
                    close(text, &mut open, at, word);
                }
            }
            (Class::Other, Some(_)) => close(text, &mut open, at, word),
            (Class::MidLetter | Class::MidDigit | Class::Mid | Class::Other, None) => {}
        }
        // What follows may belong to this one: a combining mark. But white space always ends what is before it.
        if open.is_none() && !is_space(bytes[at]) && class_at(text, at + length).0 == Class::Unknown {
            return Some(at);
        }
        at += length;
    }
    close(text, &mut open, at, word);
    None
}

/// How many of the first bytes are ASCII letters and digits; eight are looked at together.
fn alphanumeric_bytes(bytes: &[u8]) -> usize {
    const fn every(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let (blocks, rest) = bytes.as_chunks::<8>();
    for (number, block) in blocks.iter().enumerate() {
        let block = u64::from_le_bytes(*block);
        // The upper bit of each byte: whether it is at least the first of a range, and not past its last.
        let low = block & every(0x7F);
        let lower = low | every(0x20);
        let letter = (lower + every(0x80 - b'a')) & !(lower + every(0x7F - b'z'));
        let digit = (low + every(0x80 - b'0')) & !(low + every(0x7F - b'9'));
        let other = !(letter | digit) | block;
        if other & every(0x80) != 0 {
            return number * 8 + (other & every(0x80)).trailing_zeros() as usize / 8;
        }
    }
    blocks.len() * 8 + rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

fn close(text: &str, open: &mut Option<(usize, Class, bool)>, at: usize, word: &mut impl FnMut(&str)) {
    if let Some((begin, _, has)) = open.take()
        && has
    {
        word(&text[begin..at]);
    }
}

/// The class of the character at `at`, and its length; `Other` at the end.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for every character that is no letter")]
fn class_at(text: &str, at: usize) -> (Class, usize) {
    match text.as_bytes().get(at) {
        None => (Class::Other, 0),
        Some(byte) if byte.is_ascii() => (ASCII[usize::from(*byte)], 1),
        Some(_) => text[at..].chars().next().map_or((Class::Other, 0), |character| (class_of(character), character.len_utf8())),
    }
}

const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'_' => Class::Joiner,
            b':' => Class::MidLetter,
            b',' | b';' => Class::MidDigit,
            b'.' | b'\'' => Class::Mid,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// The class of a character that is not ASCII.
fn class_of(character: char) -> Class {
    match character {
        // Latin, Greek, Cyrillic, Armenian, Arabic, Georgian, Latin and Greek with several marks, Hangul.
        '\u{C0}'..='\u{D6}'
        | '\u{D8}'..='\u{F6}'
        | '\u{F8}'..='\u{2AF}'
        | '\u{388}'..='\u{38A}'
        | '\u{38E}'..='\u{3A1}'
        | '\u{3A3}'..='\u{3F5}'
        | '\u{3F7}'..='\u{481}'
        | '\u{48A}'..='\u{52F}'
        | '\u{531}'..='\u{556}'
        | '\u{561}'..='\u{587}'
        | '\u{620}'..='\u{64A}'
        | '\u{671}'..='\u{6D3}'
        | '\u{10D0}'..='\u{10FA}'
        | '\u{1E00}'..='\u{1F15}'
        | '\u{AC00}'..='\u{D7A3}' => Class::Letter,
        '\u{B7}' => Class::MidLetter,
        '\u{2018}' | '\u{2019}' => Class::Mid,
        // Signs of Latin-1, dashes, quotation marks, an ellipsis, the euro.
        '\u{A0}'..='\u{A8}'
        | '\u{AB}'
        | '\u{AC}'
        | '\u{AF}'..='\u{B1}'
        | '\u{B4}'
        | '\u{B6}'
        | '\u{BB}'
        | '\u{BF}'
        | '\u{D7}'
        | '\u{F7}'
        | '\u{2010}'..='\u{2015}'
        | '\u{201A}'..='\u{201F}'
        | '\u{2020}'..='\u{2022}'
        | '\u{2026}'
        | '\u{20AC}' => Class::Other,
        _ => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words(text, |word| found.push(word.to_owned()));
        found
    }

    /// The rules as they stand, between white space.
    fn rules(text: &str) -> Vec<String> {
        text.split(|character: char| character.is_ascii_whitespace() || character == '\u{B}')
            .flat_map(|part| part.unicode_words().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn every_character_of_a_class_does_as_the_rules_say() {
        let around = ["", "a", "1", "_", ".", ":", ",", "é", "日", "\u{301}", "\u{200D}", "'", "😀", " ", "ש"];
        let mut wrong = Vec::new();
        for character in (0..=0xFFFF).filter_map(char::from_u32) {
            let class = if character.is_ascii() { ASCII[character as usize] } else { class_of(character) };
            if class == Class::Unknown {
                continue;
            }
            for before in around {
                for after in around {
                    for text in [
                        format!("{before}{character}{after}"),
                        format!("a{before}{character}{after}1"),
                        format!("1{character}{character}{after}a"),
                    ] {
                        if ours(&text) != rules(&text) {
                            wrong.push((character, class, text));
                        }
                    }
                }
            }
        }
        wrong.dedup_by_key(|(character, ..)| *character);
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn letters_and_digits_are_found_eight_at_a_time() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut bytes = [b'z', b'A', b'0', b'9', b'a', b'Z', b'm', b'5'].repeat(3);
                bytes[place] = byte;
                let expected = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                assert_eq!(alphanumeric_bytes(&bytes), expected, "{byte} at {place}");
            }
        }
        assert_eq!(alphanumeric_bytes(b""), 0);
    }

    #[test]
    fn words_of_many_scripts_are_those_of_the_rules() {
        let text = "The cat's 3.14 can't e.g. 1,000;2 x:y __init__ a_b “naïve” — Größe’s l’été Привет, κόσμε! 日本語 テスト שלום״ה 👩‍👩‍👦 e\u{301}a 🇩🇪🇫🇷 ไทย foo\u{200D}bar";
        assert_eq!(ours(text), rules(text));
        assert_eq!(ours("The cat's 3.14"), ["The", "cat's", "3.14"]);
        assert_eq!(ours(" _ __ -"), Vec::<String>::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_text_has_the_words_of_the_rules(text in "[a-c1-2_.:,;'’‘ \n\u{B}éЖ日ア\u{301}\u{200D}ש\"·—😀🇩-]{0,24}|\\PC{0,20}") {
            prop_assert_eq!(ours(&text), rules(&text));
        }
    }
}
