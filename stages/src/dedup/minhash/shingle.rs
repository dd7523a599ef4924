//! Shingles: the overlapping pieces of a text whose set stands for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::words::words;

/// What a shingle is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ShingleUnit {
    /// Words by the rules of Unicode (UAX #29) between white space, in lower case; punctuation does not count.
    #[default]
    Words,
    /// Whatever stands between white space, in lower case, punctuation and all.
    Whitespace,
    /// Characters, in lower case, without ASCII punctuation, each run of white space being one space.
    Characters,
}

/// Cuts texts into shingles of `n` units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shingler {
    pub(crate) unit: ShingleUnit,
    pub(crate) n: usize,
}

/// The shingles of one text; buffers are used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Shingles {
    /// Hash of each shingle, in the order of the text; repeated ones stand several times. `[n_shingles]`
    pub(crate) hashes: Vec<u64>,
    /// Hash of all units in order: equal texts, but for what does not count, have equal ones.
    pub(crate) text: u64,
    lower: String,
    units: Vec<u64>,
    bytes: Vec<u8>,
}

/// An odd number with its bits well mixed; the base of the rolling hash.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

impl Shingler {
    /// Cuts `text`. A text with fewer than `n` units is one shingle; one without any has none.
    pub(crate) fn cut(self, text: &str, shingles: &mut Shingles) {
        let Shingles { hashes, text: whole, lower, units, bytes } = shingles;
        hashes.clear();
        units.clear();
        lower.clear();
        match self.unit {
            ShingleUnit::Words => {
                lower_case(text, lower);
                words(lower, |word| units.push(word_hash(word.as_bytes())));
            }
            ShingleUnit::Whitespace => {
                lower_case(text, lower);
                units.extend(lower.split_whitespace().map(|word| word_hash(word.as_bytes())));
            }
            ShingleUnit::Characters => {
                clean(text, lower);
                units.extend(lower.chars().map(|character| mix(u64::from(character))));
            }
        }
        bytes.clear();
        for unit in &*units {
            bytes.extend_from_slice(&unit.to_le_bytes());
        }
        *whole = xxh3_64(bytes);
        if units.is_empty() {
            return;
        }
        let n = self.n.clamp(1, units.len());
        // A polynomial over the units' hashes, modulo 2^64: the next shingle's from the last one's.
        let highest = (1..n).fold(1_u64, |power, _| power.wrapping_mul(BASE));
        let mut rolling = units[..n].iter().fold(0_u64, |sum, unit| sum.wrapping_mul(BASE).wrapping_add(*unit));
        hashes.push(mix(rolling));
        for at in n..units.len() {
            rolling = rolling.wrapping_sub(units[at - n].wrapping_mul(highest)).wrapping_mul(BASE).wrapping_add(units[at]);
            hashes.push(mix(rolling));
        }
    }
}

impl Shingles {
    /// The set of shingles: sorted, each once.
    pub(crate) fn set(&self) -> Vec<u64> {
        let mut set = self.hashes.clone();
        set.sort_unstable();
        set.dedup();
        set
    }
}

/// Jaccard similarity of two sorted sets; 0 if both are empty.
pub(crate) fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut both) = (0, 0, 0_usize);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        both += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let either = a.len() + b.len() - both;
    if either == 0 { 0.0 } else { both as f64 / either as f64 }
}

/// SlimPajama's cleaning: lower case, no ASCII punctuation, no white space at the ends, each run of it one space.
///
/// Source: Cerebras modelzoo 2.10, slimpajama preprocessing, `clean`.
pub(crate) fn clean(text: &str, out: &mut String) {
    out.clear();
    let mut gap = false;
    for character in text.chars().flat_map(char::to_lowercase).filter(|character| !character.is_ascii_punctuation()) {
        if character.is_whitespace() {
            gap = !out.is_empty();
        } else {
            if std::mem::take(&mut gap) {
                out.push(' ');
            }
            out.push(character);
        }
    }
}

fn lower_case(text: &str, out: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        // ASCII by the stretch, the rest by the character.
        let n_ascii = ascii_bytes(rest.as_bytes());
        let start = out.len();
        out.push_str(&rest[..n_ascii]);
        out[start..].make_ascii_lowercase();
        rest = &rest[n_ascii..];
        if let Some(character) = rest.chars().next() {
            match one_lower_case(character) {
                Some(lower) => out.push(lower),
                None => out.extend(character.to_lowercase()),
            }
            rest = &rest[character.len_utf8()..];
        }
    }
}

/// The lower case of a character of the commonest alphabets, and of the signs between them, without a search in the table of all.
fn one_lower_case(character: char) -> Option<char> {
    let code = u32::from(character);
    match code {
        0xC0..=0xD6 | 0xD8..=0xDE | 0x391..=0x3A1 | 0x3A3..=0x3AB | 0x410..=0x42F => char::from_u32(code + 0x20),
        0x400..=0x40F => char::from_u32(code + 0x50),
        0x80..=0xBF
        | 0xD7
        | 0xDF..=0xFF
        | 0x3AC..=0x3CE
        | 0x430..=0x45F
        | 0x590..=0x109F
        | 0x2000..=0x20CF
        | 0x3000..=0xA63F
        | 0xAC00..=0xD7A3 => Some(character),
        _ => None,
    }
}

/// The hash of a word: different for all of up to eight bytes.
#[inline]
fn word_hash(word: &[u8]) -> u64 {
    let length = word.len() as u64;
    let packed = match (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        (Some(first), Some(last)) if word.len() <= 8 => {
            (u64::from(u32::from_le_bytes(*first)) << 32) | u64::from(u32::from_le_bytes(*last))
        }
        (Some(_), Some(_)) => return xxh3_64(word),
        _ => word.iter().fold(0, |packed, byte| (packed << 8) | u64::from(*byte)),
    };
    mix(packed ^ length.wrapping_mul(BASE))
}

/// Bytes before the first one that is not ASCII.
fn ascii_bytes(bytes: &[u8]) -> usize {
    let whole = bytes.as_chunks::<32>().0.iter().take_while(|block| block.is_ascii()).count() * 32;
    whole + bytes[whole..].iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len() - whole)
}

/// Spreads a number's bits over all of it.
///
/// Source: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014 (the finalizer of `SplitMix64`).
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(unit: ShingleUnit, n: usize, text: &str) -> Vec<u64> {
        let mut shingles = Shingles::default();
        Shingler { unit, n }.cut(text, &mut shingles);
        shingles.set()
    }

    #[test]
    fn lower_case_is_that_of_unicode() {
        let every: String = (0..=0x0010_FFFF).filter_map(char::from_u32).collect();
        let mut lower = String::new();
        lower_case(&every, &mut lower);
        assert!(lower.chars().eq(every.chars().flat_map(char::to_lowercase)));
    }

    #[test]
    fn different_words_have_different_hashes() {
        let mut words: Vec<String> =
            ["", "a", "aa", "aaa", "aaaa", "aaaaa", "aaaaaa", "aaaaaaa", "aaaaaaaa", "aaaaaaaaa"].map(String::from).to_vec();
        for at in 1..12 {
            words.extend((0..at).map(|place| format!("{}b{}", "a".repeat(place), "a".repeat(at - place - 1))));
        }
        let hashes: BTreeSet<u64> = words.iter().map(|word| word_hash(word.as_bytes())).collect();
        assert_eq!(hashes.len(), words.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn words_count_and_punctuation_does_not() {
        let of = |text: &str| set(ShingleUnit::Words, 2, text);
        assert_eq!(of("The cat, sat."), of("the  CAT sat"));
        assert_ne!(of("the cat sat"), of("cat the sat"));
        assert_eq!(of("a b c d").len(), 3);
        assert_eq!(of("one").len(), 1);
        assert_eq!(of(" ... ").len(), 0);
        assert_ne!(set(ShingleUnit::Whitespace, 2, "the cat, sat"), set(ShingleUnit::Whitespace, 2, "the cat sat"));
    }

    #[test]
    fn cleaning_is_slimpajamas() {
        let mut out = String::new();
        clean("  Hello,  World! 12 ", &mut out);
        assert_eq!(out, "hello world 12");
        assert_eq!(set(ShingleUnit::Characters, 13, "Hello,  World! 12").len(), 2);
    }

    #[test]
    fn similarity_is_that_of_the_sets() {
        assert!((jaccard(&[1, 2, 3], &[2, 3, 4]) - 0.5).abs() < 1e-12);
        assert!((jaccard(&[1], &[1]) - 1.0).abs() < 1e-12);
        assert!(jaccard(&[], &[]) < 1e-12 && jaccard(&[], &[1]) < 1e-12);
    }

    proptest! {
        #[test]
        fn rolling_over_a_text_gives_the_shingles_of_its_parts(words in prop::collection::vec("[a-c]{1,2}", 1..30), n in 1_usize..7) {
            let mut expected = BTreeSet::new();
            for window in words.windows(n.min(words.len())) {
                expected.extend(set(ShingleUnit::Words, n, &window.join(" ")));
            }
            prop_assert_eq!(set(ShingleUnit::Words, n, &words.join(" ")), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
