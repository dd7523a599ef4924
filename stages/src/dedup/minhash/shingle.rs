//! Shingles: the overlapping pieces of a text whose set stands for it.

#![expect(clippy::inline_always, reason = "a task has to be compiled anew inside the function for wider registers")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::text::lower::lower_case;
use crate::text::wide::{Block, Task, run};
use crate::text::words::{Words, utf8};

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
    lower: Vec<u8>,
    clean: String,
    words: Words,
    units: Vec<u64>,
    bytes: Vec<u8>,
    spare: Vec<u64>,
}

/// An odd number with its bits well mixed; the base of the polynomials.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

impl Shingler {
    /// Cuts `text`. A text with fewer than `n` units is one shingle; one without any has none.
    pub(crate) fn cut(self, text: &str, shingles: &mut Shingles) {
        let Shingles { hashes, text: whole, lower, clean: clean_text, words, units, bytes, spare } = shingles;
        hashes.clear();
        units.clear();
        lower.clear();
        match self.unit {
            ShingleUnit::Words => {
                lower_case(text, lower);
                words.cut(lower, |text, starts, ends| {
                    units.extend(starts.iter().zip(ends).map(|(start, end)| word_hash(text, *start, *end)));
                });
            }
            ShingleUnit::Whitespace => {
                lower_case(text, lower);
                units.extend(utf8(lower).split_whitespace().map(|word| word_hash(word.as_bytes(), 0, word.len())));
            }
            ShingleUnit::Characters => {
                clean(text, clean_text);
                units.extend(clean_text.chars().map(|character| mix(u64::from(character))));
            }
        }
        bytes.resize(units.len() * 8, 0);
        for (bytes, unit) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&*units) {
            *bytes = unit.to_le_bytes();
        }
        *whole = xxh3_64(bytes);
        if units.is_empty() {
            return;
        }
        run(Join { units, n: self.n.clamp(1, units.len()), hashes, spare });
    }
}

/// Hashes every `n` units that follow each other: a polynomial over their hashes, modulo 2^64.
///
/// Two shingles that follow each other make one of twice as many units, and with one unit more a longer one; so `n` is reached in as many steps as it
/// has bits, and no shingle waits for the one before, as it would if each were rolled on from the last.
struct Join<'a> {
    units: &'a [u64],
    n: usize,
    hashes: &'a mut Vec<u64>,
    spare: &'a mut Vec<u64>,
}

impl Task for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _block: impl Fn(&[u8; 64]) -> Block) {
        let Self { units, n, hashes, spare } = self;
        hashes.clear();
        hashes.extend_from_slice(units);
        let (mut width, mut power) = (1, BASE);
        for bit in (0..n.ilog2()).rev() {
            spare.clear();
            spare.extend(hashes.iter().zip(&hashes[width..]).map(|(first, next)| first.wrapping_mul(power).wrapping_add(*next)));
            std::mem::swap(hashes, spare);
            (width, power) = (width * 2, power.wrapping_mul(power));
            if (n >> bit) & 1 == 1 {
                hashes.pop();
                for (first, next) in hashes.iter_mut().zip(&units[width..]) {
                    *first = first.wrapping_mul(BASE).wrapping_add(*next);
                }
                (width, power) = (width + 1, power.wrapping_mul(BASE));
            }
        }
        for hash in hashes {
            *hash = mix(*hash);
        }
    }
}

impl Shingles {
    /// The set of shingles: sorted, each once.
    pub(crate) fn set(&self) -> Vec<u64> {
        let mut set = self.hashes.clone();
        sort_hashes(&mut set, u64::BITS, &mut Vec::new());
        set.dedup();
        set
    }
}

/// Sorts numbers that are hashes, or their upper bits: below `2^bits`, and as likely one as another.
///
/// Twice or three times as fast as a sort that compares: it deals them out by their second-highest digit and then by the highest, after which next to
/// none are out of order. Numbers that are no hashes are sorted too, at the price of that comparing sort.
pub(crate) fn sort_hashes(hashes: &mut Vec<u64>, bits: u32, spare: &mut Vec<u64>) {
    let n = hashes.len();
    if n < 64 || u32::try_from(n).is_err() {
        hashes.sort_unstable();
        return;
    }
    // With more digits the counts cost more than the hashes do.
    let digit: u32 = if n < 1024 { 8 } else { 11 };
    let (mask, low) = ((1_u64 << digit) - 1, bits.saturating_sub(2 * digit));
    #[expect(clippy::cast_possible_truncation, reason = "eleven bits at most")]
    let of = |hash: u64, place: usize| ((hash >> (low + digit * u32::from(place == 1))) & mask) as usize;
    let mut counts = [[0_u32; 1 << 11]; 2];
    for hash in &*hashes {
        counts[0][of(*hash, 0)] += 1;
        counts[1][of(*hash, 1)] += 1;
    }
    spare.clear();
    spare.resize(n, 0);
    for (place, counts) in counts.iter_mut().enumerate() {
        let mut sum = 0;
        for count in &mut counts[..1 << digit] {
            sum += std::mem::replace(count, sum);
        }
        for hash in &*hashes {
            let at = &mut counts[of(*hash, place)];
            spare[*at as usize] = *hash;
            *at += 1;
        }
        std::mem::swap(hashes, spare);
    }
    let mut moves_left = 4 * n;
    for next in 1..n {
        let hash = hashes[next];
        let mut at = next;
        while at > 0 && hashes[at - 1] > hash {
            hashes[at] = hashes[at - 1];
            at -= 1;
        }
        hashes[at] = hash;
        match moves_left.checked_sub(next - at) {
            Some(left) => moves_left = left,
            None => return hashes.sort_unstable(),
        }
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

/// The hash of the word from `start` to `end`.
///
/// Words of up to 16 bytes, nearly all, by a way without a branch: zeroes stand behind them, and their length counts. Source: rapidhash 3
/// (Nicolas De Carli, after Wang Yi's wyhash), what it does with up to 16 bytes; the first two constants here hold 0xFF, which no UTF-8 does,
/// so that no word makes a factor zero.
#[inline(always)]
fn word_hash(text: &[u8], start: usize, end: usize) -> u64 {
    let length = end - start;
    if length > 16 {
        return xxh3_64(&text[start..end]);
    }
    let bytes = text.get(start..start + 16).and_then(|bytes| bytes.first_chunk::<16>()).copied().unwrap_or_else(|| {
        let mut bytes = [0; 16];
        bytes[..length].copy_from_slice(&text[start..end]);
        bytes
    });
    let both = u128::from_le_bytes(bytes) & LENGTHS[length];
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = folded(both as u64 ^ SECRET[0], (both >> 64) as u64 ^ SECRET[1]);
    let (low, high) = folded(low ^ SECRET[2] ^ length as u64, high ^ SECRET[0]);
    low ^ high
}

const SECRET: [u64; 3] = [0xFF35_8F4D_2B81_C96B, 0xFF98_5A0E_7D1C_63A5, 0x8BB8_4B93_962E_ACC9];

/// For each length, the bytes that belong to a word.
const LENGTHS: [u128; 17] = {
    let mut masks = [0; 17];
    let mut length = 1;
    while length <= 16 {
        masks[length] = u128::MAX >> (128 - 8 * length);
        length += 1;
    }
    masks
};

/// The halves of a product.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn folded(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    (product as u64, (product >> 64) as u64)
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
    use crate::text::wide::{Processor, run_on};

    fn set(unit: ShingleUnit, n: usize, text: &str) -> Vec<u64> {
        let mut shingles = Shingles::default();
        Shingler { unit, n }.cut(text, &mut shingles);
        shingles.set()
    }

    #[test]
    fn different_words_have_different_hashes() {
        let mut words: Vec<String> =
            ["", "a", "aa", "aaa", "aaaa", "aaaaa", "aaaaaa", "aaaaaaa", "aaaaaaaa", "aaaaaaaaa"].map(String::from).to_vec();
        for at in 1..20 {
            words.extend((0..at).map(|place| format!("{}b{}", "a".repeat(place), "a".repeat(at - place - 1))));
        }
        let hashes: BTreeSet<u64> = words.iter().map(|word| word_hash(word.as_bytes(), 0, word.len())).collect();
        assert_eq!(hashes.len(), words.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn every_processor_makes_the_same_shingles() {
        let units: Vec<u64> = (0..300).map(mix).collect();
        for n in 1..=40 {
            let polynomial = |window: &[u64]| mix(window.iter().fold(0_u64, |sum, unit| sum.wrapping_mul(BASE).wrapping_add(*unit)));
            let expected: Vec<u64> = units.windows(n).map(polynomial).collect();
            for processor in Processor::all() {
                let (mut hashes, mut spare) = (Vec::new(), Vec::new());
                run_on(processor, Join { units: &units, n, hashes: &mut hashes, spare: &mut spare });
                assert_eq!(hashes, expected, "{processor:?}: {n}");
            }
        }
    }

    proptest! {
        #[test]
        fn hashes_are_sorted_whatever_they_are(n in 0_usize..3000, bits in 1_u32..=64, distinct in 1_u64..5000, stride in any::<u64>(), spread in any::<bool>()) {
            // Spread out as hashes are, or all of them close together, where the digits tell nothing.
            let number = |at: u64| if spread { mix(at.wrapping_mul(stride)) >> (64 - bits) } else { (distinct - at) & (u64::MAX >> (64 - bits)) };
            let mut hashes: Vec<u64> = (0..n as u64).map(|at| number(at % distinct)).collect();
            let mut expected = hashes.clone();
            expected.sort_unstable();
            sort_hashes(&mut hashes, bits, &mut vec![7; 3]);
            prop_assert_eq!(hashes, expected);
        }
    }

    #[test]
    fn a_words_hash_depends_on_its_bytes_alone() {
        let text = "abcdefghijklmnopqrstuvwxyz".repeat(3);
        for start in 0..text.len() {
            for end in start + 1..=text.len() {
                assert_eq!(word_hash(text.as_bytes(), start, end), word_hash(&text.as_bytes()[start..end], 0, end - start));
            }
        }
        // Zeroes stand behind a word, and are not it.
        assert_ne!(word_hash(b"a", 0, 1), word_hash(b"a\0", 0, 2));
    }

    #[test]
    fn hashes_of_words_are_spread_over_all_bits() {
        // Of 20,000 pairs of words that differ in one bit, each bit of the hashes differs in a half: a standard deviation of 71.
        let mut differ = [0_i32; 64];
        let mut random = 0;
        let mut below = |n: u64| {
            random += 1;
            usize::try_from(mix(random) % n).expect("below a usize")
        };
        for _ in 0..20_000 {
            let length = 1 + below(16);
            let mut word: [u8; 16] = std::array::from_fn(|_| u8::try_from(below(256)).expect("a byte"));
            let one = word_hash(&word[..length], 0, length);
            word[below(length as u64)] ^= 1 << below(8);
            let other = word_hash(&word[..length], 0, length);
            (0..64).for_each(|bit| differ[bit] += i32::from((one ^ other) >> bit & 1 == 1));
        }
        assert!(differ.iter().all(|n| (n - 10_000).abs() < 400), "{differ:?}");
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
        fn shingles_of_a_text_are_those_of_its_parts(words in prop::collection::vec("[a-c]{1,2}", 1..40), n in 1_usize..20) {
            let mut expected = BTreeSet::new();
            for window in words.windows(n.min(words.len())) {
                expected.extend(set(ShingleUnit::Words, n, &window.join(" ")));
            }
            prop_assert_eq!(set(ShingleUnit::Words, n, &words.join(" ")), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
