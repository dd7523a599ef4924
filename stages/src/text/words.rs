//! Words by the rules of Unicode (UAX #29), many times faster than by the whole of them where a text is of common alphabets.
//!
//! What a byte is to the rules is found for 64 of them at once (`wide.rs`), as masks of a bit for each. On masks, a rule is a shift and an `and`: a
//! full stop is inside a word where the bits before and after it say "digit". Words begin and end where the mask of what is inside words changes;
//! no branch depends on how long a word is. Characters that are not ASCII are put into the masks one by one. What stands between white space with
//! a character that is not known here is cut by the whole of the rules.

#![expect(clippy::inline_always, reason = "a task has to be compiled anew inside the function for wider registers")]

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::wide::{Block, Task, run};

/// What a character that is not ASCII is to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `ALetter`.
    Letter,
    /// `Numeric`.
    Digit,
    /// `Extend` or `Format`: belongs to the character before.
    Mark,
    /// `MidLetter`: inside a word between two letters.
    MidLetter,
    /// `MidNum`: inside a word between two digits.
    MidDigit,
    /// `MidNumLet`: inside a word between two letters, or two digits.
    Mid,
    /// No rule names it: a word ends before and after it.
    Other,
    /// Rules that are not applied here: the whole of them are.
    Unknown,
}

/// Finds the words of texts; buffers are used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Words {
    blocks: Vec<Block>,
    /// For each block, which bytes are inside words.
    inside: Vec<u64>,
    /// For each block, at which bytes words begin, and before which they end.
    edges: Vec<(u64, u64)>,
    /// Characters that are not ASCII and may be inside a word.
    mids: Vec<(Range<usize>, Class)>,
    /// Parts between white space that have an unknown character.
    unknown: Vec<Range<usize>>,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

/// Texts are cut in pieces of so many bytes, so that what is known of a piece stays in the nearest cache.
const PIECE: usize = 1 << 14;

impl Words {
    /// Calls `piece` for each piece of `text`, which is UTF-8, with where in it the words begin that have a letter or a digit, and where they end.
    /// Words do not go across ASCII white space.
    ///
    /// Source: Unicode Standard Annex #29, *Unicode text segmentation*, rules `WB4` to `WB13b`; the others concern characters that are `Unknown`
    /// here.
    pub(crate) fn cut(&mut self, text: &[u8], mut piece: impl FnMut(&[u8], &[usize], &[usize])) {
        let mut rest = text;
        while !rest.is_empty() {
            let of_piece;
            (of_piece, rest) = rest.split_at(piece_length(rest));
            let n_words = run(Cut { words: self, text: of_piece });
            piece(of_piece, &self.starts[..n_words], &self.ends[..n_words]);
        }
    }
}

/// The last white space within a piece; with none the next one.
fn piece_length(text: &[u8]) -> usize {
    let Some(first) = text.get(..PIECE) else { return text.len() };
    let next = || text.iter().skip(PIECE).position(|byte| is_space(*byte)).map(|at| PIECE + at);
    first.iter().rposition(|byte| is_space(*byte)).filter(|at| *at > 0).or_else(next).unwrap_or(text.len())
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

/// Finds the words of a piece, and says how many there are.
struct Cut<'a> {
    words: &'a mut Words,
    text: &'a [u8],
}

impl Task for Cut<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self, block: impl Fn(&[u8; 64]) -> Block) -> usize {
        let Self { words, text } = self;
        words.classify(text, block);
        words.join(text);
        words.find_edges(text);
        words.list()
    }
}

impl Words {
    /// What each byte is. There is a block more than whole ones, though it be of nothing: a word may end where the text does.
    #[inline(always)]
    fn classify(&mut self, text: &[u8], block: impl Fn(&[u8; 64]) -> Block) {
        let (whole, rest) = text.as_chunks::<64>();
        self.blocks.clear();
        self.blocks.extend(whole.iter().map(&block));
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        self.blocks.push(block(&last));
        self.mids.clear();
        self.unknown.clear();
        let mut known_to = 0;
        for number in 0..self.blocks.len() {
            let mut leads = self.blocks[number].lead;
            // Letters of two bytes, which nearly all of them are, by a table.
            let mut pairs = 0_u64;
            while leads != 0 {
                let offset = leads.trailing_zeros();
                leads &= leads - 1;
                let at = number * 64 + offset as usize;
                let (first, second) = (text[at], text.get(at + 1).copied().unwrap_or(0));
                let is_letter = (LETTERS[usize::from(first & 0x3F)] >> (second & 0x3F)) & 1;
                pairs |= is_letter << offset;
                if is_letter == 0 && at >= known_to {
                    self.put_letters(number, pairs);
                    known_to = self.classify_one(text, at);
                }
            }
            self.put_letters(number, pairs);
        }
    }

    /// Adds letters of two bytes that begin in a block.
    #[inline(always)]
    fn put_letters(&mut self, number: usize, pairs: u64) {
        self.blocks[number].letter |= pairs | (pairs << 1);
        if pairs >> 63 == 1 {
            self.blocks[number + 1].letter |= 1;
        }
    }

    /// What the character at `at` is. Gives the place to go on from.
    #[inline(never)]
    fn classify_one(&mut self, text: &[u8], at: usize) -> usize {
        let (character, length) = character_at(text, at);
        let (class, end) = (class_of(character), at + length);
        // A mark is what it belongs to; what it does behind anything but a letter or a digit is rare enough to be left to the whole of the rules.
        let is_behind = |of: fn(&Block) -> u64| at > 0 && is_at(&self.blocks, at - 1, of);
        let class = match class {
            Class::Mark if is_behind(|block| block.letter) => Class::Letter,
            Class::Mark if is_behind(|block| block.digit) => Class::Digit,
            class => class,
        };
        match class {
            Class::Letter => (at..end).for_each(|at| self.blocks[at / 64].letter |= 1 << (at % 64)),
            Class::Digit => (at..end).for_each(|at| self.blocks[at / 64].digit |= 1 << (at % 64)),
            Class::MidLetter | Class::MidDigit | Class::Mid => self.mids.push((at..end, class)),
            Class::Other => {}
            Class::Mark | Class::Unknown => {
                let start = text[..at].iter().rposition(|byte| is_space(*byte)).map_or(0, |space| space + 1);
                let end = text[at..].iter().position(|byte| is_space(*byte)).map_or(text.len(), |space| at + space);
                self.unknown.push(start..end);
                return end;
            }
        }
        end
    }

    /// Which bytes are inside words.
    #[inline(always)]
    fn join(&mut self, text: &[u8]) {
        // What is true of the byte before, and of the byte after.
        let before = |this: u64, last: u64| (this << 1) | (last >> 63);
        let after = |this: u64, next: u64| (this >> 1) | (next << 63);
        let (mut last, mut joiners) = (Block::default(), 0);
        self.inside.clear();
        let nexts = self.blocks[1..].iter().copied().chain([Block::default()]);
        self.inside.extend(self.blocks.iter().zip(nexts).map(|(this, next)| {
            let letters = this.mid_letter & before(this.letter, last.letter) & after(this.letter, next.letter);
            let digits = this.mid_digit & before(this.digit, last.digit) & after(this.digit, next.digit);
            last = *this;
            joiners |= this.joiner;
            this.letter | this.digit | this.joiner | letters | digits
        }));
        for (mid, class) in &self.mids {
            let between =
                |of: fn(&Block) -> u64| mid.start > 0 && is_at(&self.blocks, mid.start - 1, of) && is_at(&self.blocks, mid.end, of);
            let (of_letters, of_digits) = (*class != Class::MidDigit, *class != Class::MidLetter);
            if (of_letters && between(|block| block.letter)) || (of_digits && between(|block| block.digit)) {
                mid.clone().for_each(|at| self.inside[at / 64] |= 1 << (at % 64));
            }
        }
        if joiners != 0 {
            self.drop_joiners(text);
        }
    }

    /// Takes away words that have neither a letter nor a digit: rows of `_`.
    fn drop_joiners(&mut self, text: &[u8]) {
        let mut last = 0;
        for number in 0..self.blocks.len() {
            let inside = self.inside[number];
            let mut starts = self.blocks[number].joiner & !((inside << 1) | last);
            last = inside >> 63;
            while starts != 0 {
                let start = number * 64 + starts.trailing_zeros() as usize;
                starts &= starts - 1;
                let end = start + text[start..].iter().take_while(|byte| **byte == b'_').count();
                if (self.inside[end / 64] >> (end % 64)) & 1 == 0 {
                    (start..end).for_each(|at| self.inside[at / 64] &= !(1 << (at % 64)));
                }
            }
        }
    }

    /// Where words begin and end.
    #[inline(always)]
    fn find_edges(&mut self, text: &[u8]) {
        for part in &self.unknown {
            for number in part.start / 64..=part.end / 64 {
                let from = part.start.saturating_sub(number * 64);
                let before_end = 1_u64.checked_shl((part.end - number * 64).try_into().unwrap_or(64)).map_or(u64::MAX, |bit| bit - 1);
                self.inside[number] &= !((u64::MAX << from) & before_end);
            }
        }
        let mut last = 0;
        self.edges.clear();
        self.edges.extend(self.inside.iter().map(|inside| {
            let before = (inside << 1) | last;
            last = inside >> 63;
            (inside & !before, before & !inside)
        }));
        for part in &self.unknown {
            for (at, word) in utf8(&text[part.clone()]).unicode_word_indices() {
                let (start, end) = (part.start + at, part.start + at + word.len());
                self.edges[start / 64].0 |= 1 << (start % 64);
                self.edges[end / 64].1 |= 1 << (end % 64);
            }
        }
    }

    /// Lists the places that bits stand for; the starts and the ends are in the same order.
    #[inline(always)]
    fn list(&mut self) -> usize {
        let n_words: usize = self.edges.iter().map(|(starts, _)| starts.count_ones() as usize).sum();
        if self.starts.len() < n_words + 64 {
            self.starts.resize(n_words + 64, 0);
            self.ends.resize(n_words + 64, 0);
        }
        let (mut n_starts, mut n_ends) = (0, 0);
        for (number, (starts, ends)) in self.edges.iter().enumerate() {
            n_starts += places(*starts, number * 64, &mut self.starts[n_starts..]);
            n_ends += places(*ends, number * 64, &mut self.ends[n_ends..]);
        }
        n_words
    }
}

/// Whether a byte is marked in the masks `of` blocks.
fn is_at(blocks: &[Block], at: usize, of: fn(&Block) -> u64) -> bool {
    (of(&blocks[at / 64]) >> (at % 64)) & 1 == 1
}

/// Writes the places of the bits, and how many there are. There has to be room for 64: eight are written at a time whether there are so many or
/// not, since a loop that ends with the last bit is guessed wrong at each block.
#[inline(always)]
fn places(mut bits: u64, base: usize, to: &mut [usize]) -> usize {
    let n = bits.count_ones() as usize;
    let room = to.first_chunk_mut::<64>().expect("room for 64 more was made");
    for (group, eight) in room.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for place in eight {
            *place = base + bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
        }
        if n <= group * 8 + 8 {
            break;
        }
    }
    n
}

/// The character that begins at `at`, which is not ASCII, and its length. Faster than having the bytes checked, which are those of a text.
#[inline]
pub(crate) fn character_at(text: &[u8], at: usize) -> (char, usize) {
    let bits = |offset: usize| u32::from(text[at + offset] & 0x3F);
    let (code, length) = match text[at] {
        first @ 0..0xE0 => ((u32::from(first & 0x1F) << 6) | bits(1), 2),
        first @ 0xE0..0xF0 => ((u32::from(first & 0x0F) << 12) | (bits(1) << 6) | bits(2), 3),
        first => ((u32::from(first & 0x07) << 18) | (bits(1) << 12) | (bits(2) << 6) | bits(3), 4),
    };
    (char::from_u32(code).expect("a text is UTF-8"), length)
}

/// Part of a text, cut at white space or around characters.
pub(crate) fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a text is UTF-8, and white space is no part of a character")
}

/// Which characters of two bytes are letters: for each first byte's lower six bits, a bit for each second byte's.
const LETTERS: [u64; 64] = {
    let mut letters = [0; 64];
    let mut code = 0x80;
    while code < 0x800 {
        if let Some(character) = char::from_u32(code)
            && matches!(class_of(character), Class::Letter)
        {
            letters[(code >> 6) as usize] |= 1 << (code & 0x3F);
        }
        code += 1;
    }
    letters
};

/// The class of a character that is not ASCII.
const fn class_of(character: char) -> Class {
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
        // Arabic and Persian digits.
        '\u{660}'..='\u{669}' | '\u{6F0}'..='\u{6F9}' => Class::Digit,
        // Accents, Arabic vowels, the mark between Persian letters that are not to be joined, marks of direction.
        '\u{300}'..='\u{36F}' | '\u{64B}'..='\u{65F}' | '\u{670}' | '\u{200C}' | '\u{200E}' | '\u{200F}' => Class::Mark,
        '\u{B7}' => Class::MidLetter,
        // The Arabic comma.
        '\u{60C}' => Class::MidDigit,
        '\u{2018}' | '\u{2019}' => Class::Mid,
        // Signs of Latin-1, the Arabic semicolon and question mark, dashes, quotation marks, an ellipsis, the euro, arrows, mathematics.
        '\u{A0}'..='\u{A9}'
        | '\u{AB}'
        | '\u{AC}'
        | '\u{AE}'..='\u{B1}'
        | '\u{B4}'
        | '\u{B6}'
        | '\u{BB}'
        | '\u{BF}'
        | '\u{D7}'
        | '\u{F7}'
        | '\u{61B}'
        | '\u{61F}'
        | '\u{2010}'..='\u{2015}'
        | '\u{201A}'..='\u{201F}'
        | '\u{2020}'..='\u{2022}'
        | '\u{2026}'
        | '\u{20AC}'
        | '\u{2122}'
        | '\u{2190}'..='\u{22FF}' => Class::Other,
        _ => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::wide::{Processor, run_on};

    fn ours(text: &str) -> Vec<String> {
        let (mut words, mut found) = (Words::default(), Vec::new());
        words.cut(text.as_bytes(), |text, starts, ends| {
            found.extend(starts.iter().zip(ends).map(|(start, end)| utf8(&text[*start..*end]).to_owned()));
        });
        found
    }

    /// As one piece.
    fn ours_on(processor: Processor, text: &str) -> Vec<String> {
        let mut words = Words::default();
        let n_words = run_on(processor, Cut { words: &mut words, text: text.as_bytes() });
        words.starts.iter().zip(&words.ends).take(n_words).map(|(start, end)| text[*start..*end].to_owned()).collect()
    }

    /// The rules as they stand, between white space.
    fn rules(text: &str) -> Vec<String> {
        text.split(|character: char| character.is_ascii_whitespace() || character == '\u{B}')
            .flat_map(|part| part.unicode_words().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn every_character_of_a_class_does_as_the_rules_say() {
        let around = ["", "a", "1", "_", ".", ":", ",", "é", "日", "\u{301}", "\u{200D}", "'", "😀", " ", "ש", "٣", "\u{64B}"];
        let mut wrong = Vec::new();
        for character in (0..=0xFFFF).filter_map(char::from_u32) {
            if !character.is_ascii() && class_of(character) == Class::Unknown {
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
                            wrong.push((character, text));
                        }
                    }
                }
            }
        }
        wrong.dedup_by_key(|(character, ..)| *character);
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn words_of_many_scripts_are_those_of_the_rules() {
        let text = "The cat's 3.14 can't e.g. 1,000;2 x:y __init__ a_b “naïve” — Größe’s l’été Привет, κόσμε! 日本語 テスト שלום״ה 👩‍👩‍👦 e\u{301}a 🇩🇪🇫🇷 ไทย foo\u{200D}bar";
        assert_eq!(ours(text), rules(text));
        assert_eq!(ours("The cat's 3.14"), ["The", "cat's", "3.14"]);
        assert_eq!(ours(" _ __ -"), Vec::<String>::new());
    }

    #[test]
    fn words_across_the_ends_of_blocks_are_whole() {
        let texts = [
            "a.b",
            "1,2",
            "1.a",
            "a..b",
            "é’é",
            "1’1",
            "a·b",
            "1·1",
            "__",
            "_a_",
            "__ a",
            "aé",
            "Жé’",
            "日本",
            "a日 b",
            "각각",
            "a\u{301}b c",
            "x'",
        ];
        for text in texts {
            for (before, after) in (0..130).flat_map(|before| [0, 1, 61, 64].map(|after| (before, after))) {
                // White space and words that the text is part of or is not.
                for (left, right) in [(" ", " "), ("b", "b"), ("_", "_"), ("ж", ".")] {
                    let text = format!("{}{text}{}", left.repeat(before), right.repeat(after));
                    for processor in Processor::all() {
                        assert_eq!(ours_on(processor, &text), rules(&text), "{processor:?}: {text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn pieces_are_cut_at_white_space() {
        let text = ["Größe’s 3.14 __init__ 日本語 a_b: ", "\u{301}é, ", "x"].concat().repeat(2000);
        assert!(text.len() > 4 * PIECE);
        assert_eq!(ours(&text), rules(&text));
        // No white space in a piece, but at its first byte; none at all.
        let long = format!("{} {}", "ab-".repeat(PIECE), "cd-".repeat(PIECE));
        for text in [&long[..], &long[3 * PIECE..], &long[..3 * PIECE]] {
            assert_eq!(ours(text), rules(text));
        }
        assert_eq!(piece_length(long.as_bytes()), 3 * PIECE);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_text_has_the_words_of_the_rules(text in "[a-c1-2_.:,;'’‘ \n\u{B}éЖ日ア\u{301}\u{200C}\u{200D}ש\"·—😀🇩٣،ب\u{64B}-]{0,24}|\\PC{0,20}") {
            prop_assert_eq!(ours(&text), rules(&text));
        }

        #[test]
        fn every_processor_finds_the_same_words(text in "[a-c1-2_.:,;'’‘ \n\u{B}éЖ日ア각\u{301}ש·—😀٣،]{0,300}|[a-z1-9,.’ éЖ_\u{301}٣،]{0,300}") {
            for processor in Processor::all() {
                prop_assert_eq!(ours_on(processor, &text), rules(&text));
            }
        }
    }
}
