//! The language data: sets of characters, units, and exceptions, which `tables.txt` lists.

use std::collections::HashMap;

/// What the rules know of a character; bits of a mask.
pub(super) type Class = u16;

/// White space as Python has it: U+001C to U+001F are, too.
pub(super) const SPACE: Class = 1;
/// A letter of the scripts that spaCy lists.
pub(super) const ALPHA: Class = 1 << 1;
/// A small letter, or one of a script without cases.
pub(super) const LOWER: Class = 1 << 2;
/// A capital letter, or one of a script without cases.
pub(super) const UPPER: Class = 1 << 3;
/// A quotation mark, or a bracket that serves as one.
pub(super) const QUOTE: Class = 1 << 4;
/// A symbol or an emoji: a token wherever it stands.
pub(super) const ICON: Class = 1 << 5;
/// Cut off as a prefix, whatever follows.
pub(super) const PREFIX: Class = 1 << 6;
/// Cut off as a suffix, whatever is before it.
pub(super) const SUFFIX: Class = 1 << 7;
/// A full stop behind it may be cut off.
pub(super) const BEFORE_DOT: Class = 1 << 8;
/// The last character of a unit or a currency.
pub(super) const UNIT_END: Class = 1 << 9;
/// An ASCII digit.
pub(super) const DIGIT: Class = 1 << 10;
/// Of ASCII: neither a letter nor a digit nor white space. Of others: one that a rule names for more than being a letter.
pub(super) const MARK: Class = 1 << 11;

const BLOCK: usize = 128;

/// All that the rules look up.
pub(super) struct Tables {
    /// Of the ASCII characters.
    pub(super) ascii: [Class; 128],
    /// For each 128 characters, which of `blocks` has their classes.
    index: Vec<u16>,
    blocks: Vec<[Class; BLOCK]>,
    /// The first digits of all tens, ascending.
    zeros: Vec<u32>,
    /// First and last characters of ranges, ascending, of letters to Rust that are none to Python.
    not_word: Vec<(u32, u32)>,
    /// What is cut off behind a digit, and of how many characters the longest is.
    units: Vec<&'static str>,
    longest_unit: usize,
    words: Words,
    /// Nodes of the tree of sequences of pieces that exceptions are made of; the first is the root.
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Sorted by piece.
    next: Vec<(Piece, u32)>,
    is_end: bool,
}

/// The number of a token that occurs in what an exception looks like when it is cut by the other rules; 0 is none of them.
pub(super) type Piece = u16;

/// What is known of a string.
#[derive(Debug, Default, Clone)]
pub(super) struct Word {
    text: Vec<u8>,
    /// The lengths of the tokens of an exception; empty if it is none.
    pub(super) parts: Vec<u8>,
    pub(super) piece: Piece,
}

/// A table of strings by their bytes.
struct Words {
    words: Vec<Word>,
    /// Places in `words`, plus one; by hash, the next one where it is taken.
    slots: Vec<u16>,
    /// For each first byte, which lengths there are.
    lengths: Vec<u64>,
}

impl Words {
    fn new(mut words: Vec<Word>) -> Self {
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let mut slots = vec![0; (words.len() * 4).next_power_of_two().max(1)];
        let mut lengths = vec![0; 256];
        for (number, word) in (1..).zip(&words) {
            let mut at = hash(&word.text) & (slots.len() - 1);
            while slots[at] != 0 {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = number;
            lengths[usize::from(word.text[0])] |= 1 << word.text.len();
        }
        Self { words, slots, lengths }
    }

    #[inline]
    fn get(&self, text: &[u8]) -> Option<&Word> {
        let first = *text.first()?;
        if text.len() > 63 || (self.lengths[usize::from(first)] >> text.len()) & 1 == 0 {
            return None;
        }
        let mut at = hash(text) & (self.slots.len() - 1);
        loop {
            let word = &self.words[usize::from(self.slots[at].checked_sub(1)?)];
            if word.text == text {
                return Some(word);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// A hash of the length and at most eight bytes of either end: as good as of all of them, for what is in the table.
#[inline]
fn hash(text: &[u8]) -> usize {
    let word = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| u64::from_le_bytes(*bytes));
    let half = |bytes: Option<&[u8; 4]>| bytes.map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
    let ends = word(text.first_chunk()).zip(word(text.last_chunk())).or_else(|| half(text.first_chunk()).zip(half(text.last_chunk())));
    let (first, last) = ends.unwrap_or_else(|| (text.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)), 0));
    let mixed = (first ^ last.rotate_left(29) ^ text.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(mixed >> 40).expect("24 bits")
}

impl Tables {
    /// The tables of `tables.txt`, with the tree of sequences that `cut` gives for each exception when there are no exceptions: none if it is
    /// one token as it is.
    pub(super) fn new(cut: impl Fn(&Tables, &str) -> Option<Vec<String>>) -> Self {
        let sections = sections();
        let list = |name: &str| sections.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut tables = Self {
            ascii: [0; 128],
            index: Vec::new(),
            blocks: Vec::new(),
            zeros: list("zero").iter().map(|zero| hexadecimal(zero)).collect(),
            not_word: list("not_word").iter().map(|range| ends(range)).collect(),
            units: [list("currency"), list("unit")].concat(),
            longest_unit: 0,
            words: Words::new(Vec::new()),
            nodes: Vec::new(),
        };
        tables.longest_unit = tables.units.iter().map(|unit| unit.chars().count()).max().unwrap_or(0);
        tables.classify(list);
        tables.add_exceptions(list("exception"), cut);
        tables
    }

    fn classify<'a>(&mut self, list: impl Fn(&str) -> &'a [&'static str]) {
        let mut classes = vec![0; 0x11_0000];
        let sets = [
            ("lower", LOWER | ALPHA | BEFORE_DOT),
            ("upper", UPPER | ALPHA),
            ("other_alpha", ALPHA),
            ("quote", QUOTE | MARK),
            ("icon", ICON | PREFIX | SUFFIX | MARK),
            ("prefix", PREFIX | MARK),
            ("suffix", SUFFIX | MARK),
            ("before_dot", BEFORE_DOT),
        ];
        for (name, bits) in sets {
            list(name).iter().flat_map(|range| characters(range)).for_each(|code| classes[code] |= bits);
        }
        for code in 0..128_u8 {
            let class: &mut Class = &mut classes[usize::from(code)];
            *class |= match code {
                b'\t'..=b'\r' | 0x1C..=b' ' => SPACE,
                b'0'..=b'9' => DIGIT | BEFORE_DOT,
                b'A'..=b'Z' | b'a'..=b'z' => 0,
                _ => MARK,
            };
        }
        for code in [0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000].into_iter().chain(0x2000..=0x200A) {
            classes[code] |= SPACE;
        }
        for end in self.units.iter().filter_map(|unit| unit.chars().next_back()) {
            classes[end as usize] |= UNIT_END;
        }
        self.ascii.copy_from_slice(&classes[..128]);
        let mut known: HashMap<&[Class], u16> = HashMap::new();
        for block in classes.as_chunks::<BLOCK>().0 {
            let number = *known.entry(block).or_insert_with(|| {
                self.blocks.push(*block);
                u16::try_from(self.blocks.len() - 1).expect("fewer blocks than 2^16")
            });
            self.index.push(number);
        }
    }

    fn add_exceptions(&mut self, list: &[&str], cut: impl Fn(&Tables, &str) -> Option<Vec<String>>) {
        // Those with an apostrophe are exceptions with a typographic one, too.
        let curly = list.iter().filter(|exception| exception.contains('\'')).map(|exception| exception.replace('\'', "’"));
        let mut words: HashMap<String, Word> = HashMap::new();
        let mut sequences = Vec::new();
        for exception in list.iter().map(|exception| (*exception).to_owned()).chain(curly) {
            let parts = exception.split('~').map(|part| u8::try_from(part.len()).expect("short")).collect();
            let text = exception.replace('~', "");
            let sequence = cut(self, &text);
            let word = Word { text: text.clone().into_bytes(), parts, piece: 0 };
            // A sequence of one token is the exception itself.
            debug_assert!(sequence.as_ref().is_none_or(|sequence| sequence.len() > 1 || word.parts.len() == 1), "{text}");
            sequences.extend(sequence.filter(|sequence| sequence.len() > 1));
            words.insert(text, word);
        }
        sequences.sort();
        self.nodes = vec![Node::default()];
        let mut pieces = 0;
        for sequence in sequences {
            let mut node = 0;
            for text in sequence {
                let word = words.entry(text.clone()).or_insert_with(|| Word { text: text.into_bytes(), ..Word::default() });
                if word.piece == 0 {
                    pieces += 1;
                    word.piece = pieces;
                }
                node = self.add_node(node, word.piece);
            }
            self.nodes[node].is_end = true;
        }
        self.words = Words::new(words.into_values().collect());
    }

    fn add_node(&mut self, of: usize, piece: Piece) -> usize {
        let new = u32::try_from(self.nodes.len()).expect("few exceptions");
        match self.nodes[of].next.binary_search_by_key(&piece, |(piece, _)| *piece) {
            Ok(at) => self.nodes[of].next[at].1 as usize,
            Err(at) => {
                self.nodes[of].next.insert(at, (piece, new));
                self.nodes.push(Node::default());
                new as usize
            }
        }
    }

    /// The class of a character.
    #[inline]
    pub(super) fn class(&self, character: char) -> Class {
        let code = character as usize;
        self.blocks[usize::from(self.index[code / BLOCK])][code % BLOCK]
    }

    /// The node below `node` for `piece`, and whether a sequence ends there. The root is 0.
    pub(super) fn step(&self, node: u32, piece: Piece) -> Option<(u32, bool)> {
        let next = &self.nodes[node as usize].next;
        let at = next.binary_search_by_key(&piece, |(piece, _)| *piece).ok()?;
        Some((next[at].1, self.nodes[next[at].1 as usize].is_end))
    }

    /// What is known of a string.
    #[inline]
    pub(super) fn word(&self, text: &[u8]) -> Option<&Word> {
        self.words.get(text)
    }

    /// The bytes of the unit or currency that is all that stands behind the last ASCII digit of a text.
    pub(super) fn unit_length(&self, text: &str) -> Option<usize> {
        let digit = text.char_indices().rev().take(self.longest_unit + 1).find(|(_, character)| character.is_ascii_digit())?;
        let unit = &text[digit.0 + 1..];
        self.units.contains(&unit).then_some(unit.len())
    }

    /// Whether a character may be in a word, as Python's regular expressions have it (`\w`).
    pub(super) fn is_word(&self, character: char) -> bool {
        let code = character as u32;
        let place = self.not_word.partition_point(|(_, last)| *last < code);
        let is_listed = self.not_word.get(place).is_some_and(|(first, _)| *first <= code);
        character == '_' || (character.is_alphanumeric() && !is_listed)
    }

    /// Whether a character is a digit of a decimal system of any script.
    pub(super) fn is_decimal(&self, character: char) -> bool {
        let code = character as u32;
        let above = self.zeros.partition_point(|zero| *zero <= code);
        above > 0 && code - self.zeros[above - 1] < 10
    }
}

fn sections() -> HashMap<&'static str, Vec<&'static str>> {
    let mut sections: HashMap<_, Vec<_>> = HashMap::new();
    let mut name = "";
    // A section begins with its name in brackets, behind an empty line; exceptions have brackets, too.
    let mut is_head = false;
    for line in include_str!("tables.txt").lines().skip_while(|line| line.starts_with('#')) {
        if is_head {
            name = line.trim_matches(['[', ']']);
        } else {
            sections.entry(name).or_default().extend(line.split(' ').filter(|item| !item.is_empty()));
        }
        is_head = line.is_empty();
    }
    sections
}

fn hexadecimal(code: &str) -> u32 {
    u32::from_str_radix(code, 16).expect("tables.txt has hexadecimal numbers")
}

/// The characters of `41`, `41-5A` or `100-136/2`.
fn characters(range: &str) -> impl Iterator<Item = usize> {
    let (range, step) = range.split_once('/').map_or((range, 1), |(range, _)| (range, 2));
    let (first, last) = ends(range);
    (first as usize..=last as usize).step_by(step)
}

/// The first and the last character of a range.
fn ends(range: &str) -> (u32, u32) {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    (hexadecimal(first), hexadecimal(last))
}
