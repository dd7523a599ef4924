//! Texts put right as ftfy does: what was misread, entities, ligatures, widths, quotes, line breaks, control characters.

mod chars;
mod charsets;
mod entities;
mod mojibake;

use std::borrow::Cow;

use memchr::memchr;

use super::forms::{Form, Normalizer};
use chars::{BREAK, C1, CONTROL, LIGATURE, QUOTE, Signs, WIDTH, common_width, parts};
use charsets::of_c1;
use mojibake::{Characters, Mojibake};

/// Kinds of repairs, a bit for each.
pub(crate) type Repairs = u16;

pub(crate) const ENTITIES: Repairs = 1;
pub(crate) const MOJIBAKE: Repairs = 1 << 1;
pub(crate) const C1_CONTROLS: Repairs = 1 << 2;
pub(crate) const LIGATURES: Repairs = 1 << 3;
pub(crate) const WIDTHS: Repairs = 1 << 4;
pub(crate) const QUOTES: Repairs = 1 << 5;
pub(crate) const BREAKS: Repairs = 1 << 6;
pub(crate) const ESCAPES: Repairs = 1 << 7;
pub(crate) const CONTROLS: Repairs = 1 << 8;
pub(crate) const COMPOSED: Repairs = 1 << 9;

/// How often a line is gone over at most until nothing changes any more: each time takes off a layer, and no text comes with so many. Without a
/// bound, as in ftfy, a megabyte of `&amp;amp;amp;…` takes minutes.
const MOST_ROUNDS: usize = 32;

/// Longer lines are cut, as ftfy does.
///
/// Source: ftfy 6.1.1, `TextFixerConfig.max_decode_length`.
const LONGEST_LINE: usize = 1_000_000;

/// Puts texts right.
#[derive(Debug)]
pub(crate) struct Repairer {
    on: Repairs,
    /// The signs of characters that are put right one by one.
    simple: Signs,
    mojibake: Mojibake,
    form: Normalizer,
}

/// Buffers that are used again for the next text.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    characters: Characters,
}

impl Repairer {
    /// With the repairs of `on`.
    pub(crate) fn new(on: Repairs) -> Self {
        let each = [(C1_CONTROLS, C1), (LIGATURES, LIGATURE), (WIDTHS, WIDTH), (QUOTES, QUOTE), (BREAKS, BREAK), (CONTROLS, CONTROL)];
        let simple = each.iter().filter(|(repair, _)| on & repair != 0).fold(0, |simple, (_, signs)| simple | signs);
        Self { on, simple, mojibake: Mojibake::new(), form: Normalizer::new(Form::Nfc) }
    }

    /// `text` put right, line by line, and what that took.
    pub(crate) fn repair<'a>(&self, text: &'a str, buffers: &mut Buffers) -> (Cow<'a, str>, Repairs) {
        if !may_need_repair(text.as_bytes()) {
            return (Cow::Borrowed(text), 0);
        }
        let mut out = String::new();
        let (mut copied, mut start, mut did) = (0, 0, 0);
        // Where there is a `<`, the text is HTML from there on, and its entities are meant.
        let mut entities = self.on & ENTITIES != 0 && memchr(b'&', text.as_bytes()).is_some();
        while start < text.len() {
            let line = first_line(&text[start..]);
            entities = entities && memchr(b'<', line.as_bytes()).is_none();
            if may_need_repair(line.as_bytes())
                && let Some(repaired) = self.repair_line(line, entities, buffers, &mut did)
            {
                out.push_str(&text[copied..start]);
                out.push_str(&repaired);
                copied = start + line.len();
            }
            start += line.len();
        }
        if copied == 0 {
            return (Cow::Borrowed(text), 0);
        }
        out.push_str(&text[copied..]);
        (Cow::Owned(out), did)
    }

    /// A line put right; `None` if nothing is wrong with it.
    fn repair_line(&self, line: &str, entities: bool, buffers: &mut Buffers, did: &mut Repairs) -> Option<String> {
        let mut repaired: Option<String> = None;
        for _ in 0..MOST_ROUNDS {
            let Some(next) = self.round(repaired.as_deref().unwrap_or(line), entities, buffers, did) else { break };
            repaired = Some(next);
        }
        repaired.filter(|repaired| repaired != line)
    }

    /// Goes over a line once; `None` if that changes nothing.
    fn round(&self, line: &str, entities: bool, buffers: &mut Buffers, did: &mut Repairs) -> Option<String> {
        let mut text = Cow::Borrowed(line);
        let mut take = |next: Option<String>, repair: Repairs, text: &mut Cow<str>| {
            if let Some(next) = next {
                *did |= repair;
                *text = Cow::Owned(next);
            }
        };
        if entities {
            take(entities::replace(&text), ENTITIES, &mut text);
        }
        let mut any = Signs::MAX;
        if self.on & MOJIBAKE != 0 && !text.is_ascii() {
            buffers.characters.read(&text, &self.mojibake.table);
            any = buffers.characters.any;
            if buffers.characters.is_bad() {
                any = Signs::MAX;
                take(self.mojibake.repair(&text), MOJIBAKE, &mut text);
            }
        }
        // An escape sequence begins with a control character.
        if any & (self.simple | if self.on & ESCAPES != 0 { CONTROL } else { 0 }) != 0 {
            let mut repairs = 0;
            let next = self.repair_characters(&text, &mut repairs);
            take(next, repairs, &mut text);
            if self.on & ESCAPES != 0 {
                take(without_escapes(&text), ESCAPES, &mut text);
            }
            if self.on & CONTROLS != 0 {
                take(self.without_controls(&text), CONTROLS, &mut text);
            }
        }
        if self.on & COMPOSED != 0 {
            let next = self.form.normalize(&text);
            take(next, COMPOSED, &mut text);
        }
        match text {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => (text != line).then_some(text),
        }
    }

    /// Puts characters right one by one, each by all that applies to it in turn.
    fn repair_characters(&self, text: &str, did: &mut Repairs) -> Option<String> {
        let table = &self.mojibake.table;
        let wrong = self.simple & !CONTROL;
        let first = text.char_indices().find(|(_, character)| table.signs(*character) & wrong != 0)?.0;
        let mut out = String::with_capacity(text.len());
        out.push_str(&text[..first]);
        let mut rest = text[first..].chars().peekable();
        while let Some(character) = rest.next() {
            if table.signs(character) & wrong == 0 {
                out.push(character);
            } else if character == '\r' {
                // One line break of two characters.
                rest.next_if_eq(&'\n');
                out.push('\n');
                *did |= BREAKS;
            } else {
                self.repair_character(character, &mut out, did);
            }
        }
        Some(out)
    }

    fn repair_character(&self, character: char, out: &mut String, did: &mut Repairs) {
        let signs = |character: char| self.mojibake.table.signs(character) & self.simple;
        let mut push_mark = |character: char, did: &mut Repairs| {
            let (mark, repair) = match character {
                '\u{201c}'..='\u{201f}' => ('"', QUOTES),
                '\u{2bc}' | '\u{2018}'..='\u{201b}' => ('\'', QUOTES),
                '\u{85}' | '\u{2028}' | '\u{2029}' => ('\n', BREAKS),
                other => return out.push(other),
            };
            let is_on = self.on & repair != 0;
            *did |= self.on & repair;
            out.push(if is_on { mark } else { character });
        };
        let mut push_wide = |character: char, did: &mut Repairs| {
            if signs(character) & WIDTH == 0 {
                return push_mark(character, did);
            }
            *did |= WIDTHS;
            common_width(character).for_each(|character| push_mark(character, did));
        };
        let mut of = character;
        if signs(character) & C1 != 0 {
            of = of_c1(character);
            *did |= if of == character { 0 } else { C1_CONTROLS };
        }
        match parts(of).filter(|_| signs(of) & LIGATURE != 0) {
            Some(parts) => {
                *did |= LIGATURES;
                parts.chars().for_each(|character| push_wide(character, did));
            }
            None => push_wide(of, did),
        }
    }

    fn without_controls(&self, text: &str) -> Option<String> {
        let table = &self.mojibake.table;
        let is_control = |character: &char| table.signs(*character) & CONTROL != 0;
        text.chars().any(|character| is_control(&character)).then(|| text.chars().filter(|character| !is_control(character)).collect())
    }
}

/// Whether there is a byte in it that any repair is about.
fn may_need_repair(text: &[u8]) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'%' | b'\''..=b'~' | b'\t' | b'\n' | b'\x0c');
    // In blocks, so that many bytes are looked at at once.
    let (blocks, rest) = text.as_chunks::<64>();
    let is_plain_block = |block: &[u8]| block.iter().fold(true, |plain, byte| plain & is_plain(*byte));
    !(blocks.iter().all(|block| is_plain_block(block)) && is_plain_block(rest))
}

/// The first line with its end, or the first [`LONGEST_LINE`] characters of it.
fn first_line(text: &str) -> &str {
    let end = memchr(b'\n', text.as_bytes()).map_or(text.len(), |at| at + 1);
    let line = &text[..end];
    if line.len() <= LONGEST_LINE { line } else { line.char_indices().nth(LONGEST_LINE).map_or(line, |(at, _)| &line[..at]) }
}

/// Without what tells terminals of colours and places: `ESC [`, digits and semicolons, a letter.
fn without_escapes(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let (mut copied, mut from) = (0, 0);
    let bytes = text.as_bytes();
    while let Some(at) = memchr(0x1B, &bytes[from..]).map(|at| from + at) {
        from = at + 1;
        let Some(rest) = bytes[at..].strip_prefix(b"\x1b[") else { continue };
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
        from = at + 2 + length;
        if rest.get(length).is_some_and(u8::is_ascii_alphabetic) {
            out.get_or_insert_default().push_str(&text[copied..at]);
            from += 1;
            copied = from;
        }
    }
    out.map(|mut out| {
        out.push_str(&text[copied..]);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Repairs = (1 << 10) - 1;

    fn repaired(on: Repairs, text: &str) -> (String, Repairs) {
        let (text, did) = Repairer::new(on).repair(text, &mut Buffers::default());
        (text.into_owned(), did)
    }

    #[test]
    fn each_repair_does_its_own_and_can_be_left_out() {
        // What ftfy 6.1.1 makes of them.
        let cases = [
            (ENTITIES, "P&eacute;rez &amp; Co", "Pérez & Co"),
            (MOJIBAKE, "schÃ¶n", "schön"),
            (C1_CONTROLS, "日\u{85}", "日…"),
            (LIGATURES, "ﬂuﬃeﬆ", "fluffiest"),
            (WIDTHS, "ＬＯＵＤ　Ｕﾀｰﾝ", "LOUD Uターン"),
            (QUOTES, "“here”s ‘it’", "\"here\"s 'it'"),
            (BREAKS, "a\r\nb\rc\u{2028}d", "a\nb\nc\nd"),
            (ESCAPES, "\u{1b}[36;44mblue\u{1b}[0m", "blue"),
            (CONTROLS, "\u{feff}a\0b\u{7f}c", "abc"),
            (COMPOSED, "e\u{301}", "é"),
        ];
        for (repair, from, to) in cases {
            // With all on, a lone C1 control character is taken for mojibake.
            let by = if repair == C1_CONTROLS { MOJIBAKE } else { repair };
            assert_eq!(repaired(ALL, from), (to.to_owned(), by), "{from:?}");
            assert_eq!(repaired(repair, from), (to.to_owned(), repair), "{from:?} alone");
            // What hangs together is left out together.
            let others = ALL & !(repair | if matches!(repair, C1_CONTROLS | ESCAPES) { MOJIBAKE | CONTROLS | BREAKS } else { 0 });
            assert_eq!(repaired(others, from), (from.to_owned(), 0), "{from:?} without");
        }
    }

    #[test]
    fn repairs_follow_one_another() {
        assert_eq!(repaired(ALL, "&macr;\\_(ã\u{83}\u{84})_/&macr;").0, "¯\\_(ツ)_/¯");
        assert_eq!(repaired(ALL, "Broken text&hellip; it&#x2019;s ﬂubberiﬁc!").0, "Broken text… it's flubberific!");
        assert_eq!(repaired(ALL, "ŉ ﾊﾞ").0, "'n バ");
        assert_eq!(repaired(ALL, "&amp;amp;amp;lt;").0, "<");
    }

    #[test]
    fn entities_stay_behind_the_first_tag() {
        assert_eq!(repaired(ALL, "a &amp; b\n<p> &amp; c\n&amp; d\n").0, "a & b\n<p> &amp; c\n&amp; d\n");
    }

    #[test]
    fn a_text_that_needs_nothing_is_not_copied() {
        let repairer = Repairer::new(ALL);
        for text in ["", "plain\ttext\n", "a & b", "Größe\nПривет\n日本語 😀", "<p>&amp;</p>"] {
            assert!(matches!(repairer.repair(text, &mut Buffers::default()), (Cow::Borrowed(_), 0)), "{text}");
        }
    }

    #[test]
    fn lines_without_end_take_no_more_than_their_length() {
        let repairer = Repairer::new(ALL);
        let long = [
            "&amp;amp;".to_owned() + &"amp;".repeat(500_000),
            "Ã¢".repeat(500_000) + " x",
            "\u{1b}[1".repeat(500_000),
            "&#".repeat(500_000),
        ];
        for text in long {
            assert!(!repairer.repair(&text, &mut Buffers::default()).0.is_empty());
        }
    }
}
