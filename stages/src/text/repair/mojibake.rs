//! Mojibake: text in UTF-8 that was read as if it were in a single-byte character set.
//!
//! What looks like it is told by which characters stand side by side; it is then written back to bytes in the first character set that has all of
//! its characters, and these bytes are read as UTF-8.
//!
//! Source: ftfy 6.1.1 (Robyn Speer), `badness`, `chardata` and `fixes`; the rules and their order are the same, so that texts come out the same.

use std::str;

use super::MOST_ROUNDS;
use super::chars::{
    BAD, BOX, C1, CHARSETS, COMMON, CURRENCY, END, FACE, FIRST_CHARSET, FIRST_OF_2, FIRST_OF_3, FIRST_OF_4, FOLLOWS, FOLLOWS_ONLY, KINDS,
    LOWER, LOWER_ACCENTED, NUMERIC, START, Signs, Table, UPPER, UPPER_ACCENTED,
};
use super::charsets::{Charset, LOST, of_c1};

/// A text as characters and their signs.
#[derive(Debug, Default)]
pub(super) struct Characters {
    characters: Vec<char>,
    signs: Vec<Signs>,
    /// The signs of any of them.
    pub(super) any: Signs,
    /// The signs of all of them.
    all: Signs,
}

impl Characters {
    /// Takes in a text in the place of the last.
    pub(super) fn read(&mut self, text: &str, table: &Table) {
        self.characters.clear();
        self.characters.extend(text.chars());
        self.signs.clear();
        self.signs.extend(self.characters.iter().map(|character| table.signs(*character)));
        (self.any, self.all) = self.signs.iter().fold((0, Signs::MAX), |(any, all), signs| (any | signs, all & signs));
    }

    fn of(characters: &[char], signs: &[Signs]) -> Self {
        let (any, all) = signs.iter().fold((0, Signs::MAX), |(any, all), signs| (any | signs, all & signs));
        Self { characters: characters.to_vec(), signs: signs.to_vec(), any, all }
    }

    /// Whether it looks like mojibake.
    pub(super) fn is_bad(&self) -> bool {
        self.any & KINDS != 0 && is_bad(&self.characters, &self.signs)
    }
}

const WIDE: Signs = LOWER_ACCENTED | UPPER_ACCENTED | BOX | START | END | CURRENCY | NUMERIC;

/// Whether characters stand side by side that hardly ever do in texts that were read well.
///
/// Source: ftfy 6.1.1, `badness.BADNESS_RE`.
fn is_bad(characters: &[char], signs: &[Signs]) -> bool {
    let text = Pair { characters, signs };
    signs.iter().enumerate().any(|(at, own)| own & KINDS != 0 && text.is_bad_at(at, *own))
}

/// Characters with their signs; beyond the ends there is a character without signs.
struct Pair<'a> {
    characters: &'a [char],
    signs: &'a [Signs],
}

impl Pair<'_> {
    fn character(&self, at: usize) -> char {
        self.characters.get(at).copied().unwrap_or('\0')
    }

    fn signs(&self, at: usize) -> Signs {
        self.signs.get(at).copied().unwrap_or(0)
    }

    /// Whether what is bad has its first character that is not ASCII at `at`, where `a` are the signs of that one.
    fn is_bad_at(&self, at: usize, a: Signs) -> bool {
        let (b, c) = (self.signs(at + 1), self.signs(at + 2));
        let first = self.character(at);
        // Letters of Greek and Cyrillic among their like, which most characters are.
        if a & KINDS & !(LOWER | UPPER) == 0 && (b | c) & KINDS & !(LOWER | UPPER) == 0 {
            return match first {
                'в' => self.character(at + 1) == 'Ђ',
                'Г' => self.is_cyrillic_twice(at),
                _ => false,
            };
        }
        let before = if at == 0 { '\0' } else { self.character(at - 1) };
        let is = |signs: Signs, of: Signs| signs & of != 0;
        is(a, C1)
            || (is(a, BAD | WIDE) && is(b, BAD))
            || (is(a, BAD) && is(b, WIDE))
            || (is(a, LOWER | UPPER) && is(b, BAD) && before.is_ascii_alphabetic())
            || (is(a, LOWER_ACCENTED | LOWER | BOX | END | CURRENCY | NUMERIC) && is(b, UPPER_ACCENTED))
            || (is(a, BOX | END | CURRENCY | NUMERIC) && is(b, LOWER_ACCENTED))
            || (is(a, LOWER_ACCENTED | BOX | END) && is(b, CURRENCY))
            || (is(a, UPPER_ACCENTED) && is(b, CURRENCY) && is_space(before))
            || (is(a, UPPER_ACCENTED | BOX) && is(b, NUMERIC))
            || (is(a, LOWER_ACCENTED | UPPER_ACCENTED | BOX | CURRENCY | END) && is(b, START) && is(c, NUMERIC))
            || (is(a, LOWER_ACCENTED | UPPER_ACCENTED | CURRENCY | NUMERIC | BOX) && is(b, END) && is(c, START))
            || (is(a, CURRENCY | NUMERIC | BOX) && is(b, START))
            || (is(a, UPPER_ACCENTED) && is(b, START | CURRENCY) && before.is_ascii_lowercase())
            || (is(a, BOX) && is(b, FACE | END))
            || (is(a, LOWER_ACCENTED | UPPER_ACCENTED | CURRENCY | NUMERIC | START | END) && is(b, BOX))
            || (is(a, LOWER_ACCENTED | UPPER_ACCENTED) && is(b, END) && is_word(self.character(at + 2)))
            || self.is_known_sequence(at, before, first, b)
    }

    /// Sequences of characters that their kinds do not tell.
    fn is_known_sequence(&self, at: usize, before: char, first: char, b: Signs) -> bool {
        let second = self.character(at + 1);
        let is = |signs: Signs, of: Signs| signs & of != 0;
        match first {
            'Œ' | 'œ' => at + 1 < self.characters.len() && !second.is_ascii_alphabetic(),
            'Â' | 'Ã' | 'Î' | 'Ð' => {
                // Windows-1252 of letters with accents, and of a no-break space that became a common one.
                "€Šš¢£Ÿž\u{a0}\u{ad}°·–—´".contains(second)
                    || is(b, START | END)
                    || (matches!(first, 'Â' | 'Ã') && second == ' ' && self.is_alone(at, before))
                    || (first == 'Â' && self.is_spaced(at, before))
            }
            '×' => matches!(second, '²' | '³'),
            // Arabic in Windows-1252.
            'Ø' | 'Ù' => self.is_arabic_part(at + 1) && matches!(self.character(at + 2), 'Ø' | 'Ù') && self.is_arabic_part(at + 3),
            // Scripts of South Asia in Windows-1252.
            'à' => "²µ¹¼½¾".contains(second),
            // Mac Roman.
            '√' => "±∂†≠®™´≤≥¥µø".contains(second),
            '≈' => "°¢".contains(second),
            '‚' => match second {
                'Ä' => "ìîïòôúùû†°¢π".contains(self.character(at + 2)),
                'â' | 'ó' => "àäê°".contains(self.character(at + 2)),
                _ => false,
            },
            // Windows-1251.
            'в' => second == 'Ђ',
            'В' | 'Г' | 'Р' | 'С' => {
                ((is(b, C1 | BAD | START | END | CURRENCY) || matches!(second, '°' | 'µ'))
                    && matches!(self.character(at + 2), 'В' | 'Г' | 'Р' | 'С'))
                    || self.is_cyrillic_twice(at)
            }
            // Windows-1253.
            'β' => second == '€' && "™\u{a0}Ά\u{ad}®°".contains(self.character(at + 2)),
            'Β' | 'Γ' | 'Ξ' | 'Ο' => {
                (is(b, C1 | BAD | START | END | CURRENCY) || second == '°') && matches!(self.character(at + 2), 'Β' | 'Γ' | 'Ξ' | 'Ο')
            }
            _ => false,
        }
    }

    /// Whether a capital with an accent at `at`, before a space, is at the start or behind a small letter, with or without space.
    fn is_alone(&self, at: usize, before: char) -> bool {
        let behind_space = || at >= 2 && is_space(before) && self.character(at - 2).is_ascii_lowercase();
        at == 0 || before.is_ascii_lowercase() || behind_space()
    }

    /// Whether what is before it ends a word or a sentence, and what is behind it is a space or stands at the edge of one.
    fn is_spaced(&self, at: usize, before: char) -> bool {
        let is_end = |place: usize| self.signs(place) & END != 0;
        let ends = at > 0 && (before.is_ascii_lowercase() || matches!(before, '.' | ',' | '?' | '!') || is_end(at - 1));
        ends && (self.character(at + 1) == ' ' || self.signs(at + 1) & (START | END) != 0)
    }

    fn is_arabic_part(&self, at: usize) -> bool {
        self.signs(at) & (COMMON | CURRENCY | BAD | NUMERIC | START) != 0 || "ŸŠ®°µ»".contains(self.character(at))
    }

    /// Windows-1251 over Latin-1 over Windows-1252.
    fn is_cyrillic_twice(&self, at: usize) -> bool {
        let Some(seven) = self.characters.get(at..at + 7) else { return false };
        seven[..5] == ['Г', 'ў', 'В', 'Ђ', 'В'] && seven[5] != '\n' && (seven[6].is_ascii_alphabetic() || seven[6] == ' ')
    }
}

/// What Python's `\s` is.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// What Python's `\w` is, but for a few marks.
fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// What mojibake is found and put right with.
#[derive(Debug)]
pub(super) struct Mojibake {
    charsets: [Charset; 9],
    pub(super) table: Table,
}

impl Mojibake {
    pub(super) fn new() -> Self {
        let charsets = Charset::all();
        Self { table: Table::new(&charsets), charsets }
    }

    /// `text` put right; `None` if nothing is wrong with it, or nothing can be done.
    pub(super) fn repair(&self, text: &str) -> Option<String> {
        let mut characters = Characters::default();
        characters.read(text, &self.table);
        self.repair_characters(&mut characters, MOST_ROUNDS)
    }

    /// Text may have been misread more than once. `rounds` bounds how often, and how deep it can be nested: each makes a text shorter, and nearly
    /// always by half of what is not ASCII.
    fn repair_characters(&self, characters: &mut Characters, rounds: usize) -> Option<String> {
        let mut repaired = None;
        for left in (0..rounds).rev() {
            let Some(step) = self.step(characters, left) else { break };
            characters.read(&step, &self.table);
            repaired = Some(step);
        }
        repaired
    }

    /// Puts one misreading right; gives nothing where that changes nothing.
    fn step(&self, text: &Characters, rounds: usize) -> Option<String> {
        if !text.is_bad() {
            return None;
        }
        let possible = (text.all & CHARSETS) >> FIRST_CHARSET;
        for (number, charset) in self.charsets.iter().enumerate() {
            if (possible >> number) & 1 == 0 {
                continue;
            }
            let Some(bytes) = text.characters.iter().map(|character| charset.byte(*character)).collect::<Option<Vec<u8>>>() else {
                continue;
            };
            let bytes = restore_no_break_spaces(bytes);
            let bytes = if charset.is_sloppy { replace_lost(bytes) } else { bytes };
            if let Some(decoded) = decode(bytes) {
                return (!decoded.chars().eq(text.characters.iter().copied())).then_some(decoded);
            }
        }
        if let Some(decoded) = self.decode_parts(text, rounds) {
            return Some(decoded);
        }
        let is_other = |character: &char| of_c1(*character) != *character;
        text.characters.iter().any(is_other).then(|| text.characters.iter().map(|character| of_c1(*character)).collect())
    }

    /// Puts right what looks most like UTF-8 in a text that as a whole is not; gives nothing where that changes nothing.
    fn decode_parts(&self, text: &Characters, rounds: usize) -> Option<String> {
        let (characters, signs) = (&text.characters, &text.signs);
        let mut decoded: Option<String> = None;
        let (mut copied, mut at) = (0, 0);
        while at < characters.len() {
            if signs[at] & (FIRST_OF_2 | FIRST_OF_3 | FIRST_OF_4) == 0 || (at > 0 && signs[at - 1] & FOLLOWS_ONLY != 0) {
                at += 1;
                continue;
            }
            let start = at;
            while let Some(length) = sequence(&signs[at..]) {
                at += length;
            }
            if at == start {
                at += 1;
                continue;
            }
            if at - start == characters.len() || !is_bad(&characters[start..at], &signs[start..at]) {
                continue;
            }
            let mut part = Characters::of(&characters[start..at], &signs[start..at]);
            if let Some(repaired) = self.repair_characters(&mut part, rounds) {
                let decoded = decoded.get_or_insert_default();
                decoded.extend(&characters[copied..start]);
                decoded.push_str(&repaired);
                copied = at;
            }
        }
        decoded.map(|mut decoded| {
            decoded.extend(&characters[copied..]);
            decoded
        })
    }
}

/// Length of what looks like one character of UTF-8 at the start.
fn sequence(signs: &[Signs]) -> Option<usize> {
    let follow = |n: usize| signs.get(1..=n).is_some_and(|next| next.iter().all(|signs| signs & FOLLOWS != 0));
    let first = *signs.first()?;
    [(FIRST_OF_2, 1), (FIRST_OF_3, 2), (FIRST_OF_4, 3)].iter().find(|(of, n)| first & of != 0 && follow(*n)).map(|(_, n)| n + 1)
}

fn is_continuation(byte: u8) -> bool {
    matches!(byte, 0x80..=0xBF)
}

/// Puts no-break spaces (0xA0) where common ones stand in what is UTF-8 otherwise.
///
/// Source: ftfy 6.1.1, `fixes.restore_byte_a0`.
fn restore_no_break_spaces(mut bytes: Vec<u8>) -> Vec<u8> {
    if !(0..bytes.len()).any(|at| with_space(&bytes[at..]).is_some()) {
        return bytes;
    }
    // "Ã la" is "à la", with the space; but "Ã s", "Ãquele" are words of Portuguese.
    let is_word = |rest: &[u8]| {
        rest.starts_with(b"\xc3 ") && ![" ".as_bytes(), b"quele", b"quela", b"quilo", b"s "].iter().any(|next| rest[2..].starts_with(next))
    };
    if (0..bytes.len()).any(|at| is_word(&bytes[at..])) {
        let mut spaced = Vec::with_capacity(bytes.len() + 16);
        for at in 0..bytes.len() {
            spaced.push(bytes[at]);
            if is_word(&bytes[at..]) {
                spaced.push(0xA0);
            }
        }
        bytes = spaced;
    }
    let mut at = 0;
    while at < bytes.len() {
        let Some(length) = with_space(&bytes[at..]) else {
            at += 1;
            continue;
        };
        bytes[at..at + length].iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = 0xA0);
        at += length;
    }
    bytes
}

/// Length of a character of UTF-8 at the start, if it is one with a space in the place of 0xA0.
///
/// Source: ftfy 6.1.1, `chardata.ALTERED_UTF8_RE`.
fn with_space(bytes: &[u8]) -> Option<usize> {
    // 0x85 is an ellipsis, and 0xA0 is there already.
    let is_middle = |byte: u8| is_continuation(byte) && !matches!(byte, 0x85 | 0xA0);
    match *bytes {
        [0xC2 | 0xC3 | 0xC5 | 0xCE | 0xD0 | 0xD9, b' ', ..] => Some(2),
        [0xE2 | 0xE3, b' ', last, ..] if is_middle(last) => Some(3),
        [0xE0..=0xE3, middle, b' ', ..] if is_middle(middle) => Some(3),
        [0xF0, b' ', b, c, ..] | [0xF0, b, b' ', c, ..] | [0xF0, b, c, b' ', ..] if is_continuation(b) && is_continuation(c) => Some(4),
        _ => None,
    }
}

/// Puts U+FFFD where characters of UTF-8 have lost bytes.
fn replace_lost(bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.iter().any(|byte| matches!(*byte, LOST | b'?')) {
        return bytes;
    }
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if let Some(length) = with_lost(&bytes[at..]) {
            replaced.extend_from_slice("\u{fffd}".as_bytes());
            at += length;
        } else {
            replaced.push(bytes[at]);
            at += 1;
        }
    }
    replaced
}

/// Length of a character of UTF-8 or CESU-8 at the start, if bytes of it are lost: at most one of them as a question mark.
///
/// Source: ftfy 6.1.1, `chardata.LOSSY_UTF8_RE`.
fn with_lost(bytes: &[u8]) -> Option<usize> {
    let is_lost = |byte: u8| matches!(byte, LOST | b'?');
    let is_any = |byte: u8| byte == LOST || is_continuation(byte);
    match *bytes {
        [0xC2..=0xDF, LOST, ..] | [0xC2 | 0xC3, b'?', ..] => Some(2),
        [0xED, 0xA0..=0xAF, b, 0xED, 0xB0..=0xBF, c, ..]
            if (is_lost(b) && (is_lost(c) || is_any(c))) || ((is_lost(b) || is_any(b)) && is_lost(c)) =>
        {
            Some(6)
        }
        [0xE0..=0xEF, b, c, ..] if (is_lost(b) && is_any(c)) || (is_any(b) && is_lost(c)) => Some(3),
        [0xF0..=0xF4, b, c, d, ..]
            if (is_lost(b) && is_any(c) && is_any(d))
                || (is_any(b) && is_lost(c) && is_any(d))
                || (is_any(b) && is_any(c) && is_lost(d)) =>
        {
            Some(4)
        }
        [LOST, ..] => Some(1),
        _ => None,
    }
}

/// Reads UTF-8, or its variants: surrogate pairs in two times three bytes, and 0xC0 0x80 for 0.
fn decode(bytes: Vec<u8>) -> Option<String> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Some(text),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (good, bad) = match str::from_utf8(rest) {
            Ok(good) => (good, &[][..]),
            Err(error) => (str::from_utf8(&rest[..error.valid_up_to()]).ok()?, &rest[error.valid_up_to()..]),
        };
        text.push_str(good);
        rest = match *bad {
            [] => &[],
            [0xC0, 0x80, ..] => {
                text.push('\0');
                &bad[2..]
            }
            [0xED, a @ 0xA0..=0xAF, b @ 0x80..=0xBF, 0xED, c @ 0xB0..=0xBF, d @ 0x80..=0xBF, ..] => {
                let part = |byte: u8, mask: u8| u32::from(byte & mask);
                let code = 0x1_0000 + (part(a, 0xF) << 16) + (part(b, 0x3F) << 10) + (part(c, 0xF) << 6) + part(d, 0x3F);
                text.push(char::from_u32(code)?);
                &bad[6..]
            }
            _ => return None,
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> String {
        Mojibake::new().repair(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn what_was_read_as_another_character_set_is_read_again() {
        // By hand: ó is C3 B3, which Latin-1 reads as Ã³; — is E2 80 94, in Windows-1252 â€”.
        assert_eq!(repaired("sÃ³"), "só");
        assert_eq!(repaired("this â€” and that"), "this — and that");
        assert_eq!(repaired("РџСЂРёРІРµС‚"), "Привет"); // Windows-1251
        assert_eq!(repaired("naÃƒÂ¯ve"), "naïve"); // twice
        assert_eq!(repaired("voilÃ le travail"), "voilà le travail");
        assert_eq!(repaired("l‚Äôhumanit√©"), "l’humanité"); // Mac Roman
        assert_eq!(repaired("â€œ like this â€\u{fffd}"), "“ like this \u{fffd}");
        assert_eq!(repaired("\u{ed}\u{a0}\u{bd}\u{ed}\u{b8}\u{8d}"), "😍"); // CESU-8 as Latin-1
        // Part of a text that as a whole is in no character set.
        assert_eq!(repaired("日本 cafÃ© 語"), "日本 café 語");
        assert_eq!(repaired("日本\u{93}x\u{94}"), "日本“x”"); // C1
    }

    #[test]
    fn what_was_read_well_stays() {
        for text in [
            "",
            "plain",
            "Größe naïve déjà vu",
            "Привет, мир",
            "Ελληνικά",
            "日本語",
            "Ã",
            "à la ¡Sí! £5 «ok» ÅÄÖ",
            "(｡◕‿◕｡)",
            "¯\\_(ツ)_/¯",
        ] {
            assert_eq!(Mojibake::new().repair(text), None, "{text}");
        }
    }
}
