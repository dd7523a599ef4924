//! The n-grams of benchmarks, and where they stand in a text.
//!
//! An n-gram is known by a hash that rolls from word to word: multiply, add the word that comes, take away the one that leaves. A table of
//! bits, small enough for a near cache, answers for nearly all n-grams of a clean text that they are no benchmark's; a hash that is known is
//! held against the benchmark's words themselves, so that no collision is ever taken for a match.

use super::words::{Cutter, Word, WordUnit};

/// An example of a benchmark.
#[derive(Debug)]
pub(super) struct Example {
    /// Which benchmark it is of.
    pub(super) benchmark: u32,
    /// Its name in it.
    pub(super) name: String,
    /// How many different n-grams it has.
    pub(super) n_grams: u32,
    /// Its words in their normal form, one behind the other, …
    words: Vec<u8>,
    /// … and where each ends.
    ends: Vec<u32>,
}

impl Example {
    fn word(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.words[start as usize..self.ends[at] as usize]
    }
}

/// An n-gram that some examples have.
#[derive(Debug)]
struct Gram {
    hash: u64,
    /// The first of them, and the word of it that the n-gram begins with.
    example: u32,
    at: u32,
    n_words: u32,
    /// Where its examples begin in `Index::holders`.
    holders: u32,
}

/// N-grams of one length: examples shorter than `ngram` are looked for as a whole.
#[derive(Debug, Clone, Copy)]
struct Width {
    n_words: usize,
    /// What the word that leaves is multiplied by.
    leaves: u64,
}

/// A multiplier without small structure; odd, so that nothing is lost by multiplying. It is 2^64 over the golden ratio.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

impl Width {
    fn new(n_words: usize) -> Self {
        Self { n_words, leaves: (0..n_words).fold(1, |power: u64, _| power.wrapping_mul(MULTIPLIER)) }
    }

    /// The hash of the n-gram before, with a word that comes and perhaps one that leaves.
    fn roll(self, hash: u64, comes: u64, leaves: u64) -> u64 {
        hash.wrapping_mul(MULTIPLIER).wrapping_add(comes).wrapping_sub(leaves.wrapping_mul(self.leaves))
    }

    /// Spreads a rolled hash over all bits, otherwise for each length.
    fn spread(self, hash: u64) -> u64 {
        let mixed = (hash ^ self.leaves ^ (hash >> 32)).wrapping_mul(MULTIPLIER);
        mixed ^ (mixed >> 29)
    }
}

/// The n-grams of all benchmarks.
#[derive(Debug)]
pub(super) struct Index {
    unit: WordUnit,
    pub(super) examples: Vec<Example>,
    widths: Vec<Width>,
    grams: Vec<Gram>,
    /// The examples of each n-gram, in order.
    holders: Vec<u32>,
    /// A power of two of places in `grams`, or `NONE`.
    slots: Vec<u32>,
    /// A power of two of bits; set where a hash may be known.
    bits: Vec<u64>,
    /// How far a hash is shifted to the right to be the number of a bit.
    shift: u32,
}

const NONE: u32 = u32::MAX;

/// Bits for each n-gram: of hashes that are not known, one in seventeen goes on to the table.
const BITS_EACH: usize = 16;

/// Builds an [`Index`].
pub(super) struct Builder {
    unit: WordUnit,
    ngram: usize,
    min_words: usize,
    cutter: Cutter,
    examples: Vec<Example>,
    /// Hash, example, first word.
    grams: Vec<(u64, u32, u32)>,
    widths: Vec<Width>,
}

impl Builder {
    pub(super) fn new(unit: WordUnit, ngram: usize, min_words: usize) -> Self {
        Self { unit, ngram, min_words, cutter: Cutter::default(), examples: Vec::new(), grams: Vec::new(), widths: Vec::new() }
    }

    /// Adds an example; `false` if it has fewer than `min_words` words. `None` if there are 2^32 of anything.
    pub(super) fn add(&mut self, benchmark: u32, name: String, text: &str) -> Option<bool> {
        let (mut words, mut normal, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        self.cutter.cut(self.unit, text, |found| words.extend_from_slice(found));
        for word in &words {
            self.unit.write_normal(&text[word.start..word.end], &mut normal);
            ends.push(u32::try_from(normal.len()).ok()?);
        }
        if words.len() < self.min_words.max(1) {
            return Some(false);
        }
        let example = u32::try_from(self.examples.len()).ok().filter(|example| *example != NONE)?;
        let n_words = self.ngram.min(words.len());
        let width = Width::new(n_words);
        if self.widths.iter().all(|known| known.n_words != n_words) {
            self.widths.push(width);
        }
        let mut hash = 0;
        for (at, word) in words.iter().enumerate() {
            let leaves = at.checked_sub(n_words).map_or(0, |gone| words[gone].hash);
            hash = width.roll(hash, word.hash, leaves);
            if let Some(first) = (at + 1).checked_sub(n_words) {
                self.grams.push((width.spread(hash), example, u32::try_from(first).ok()?));
            }
        }
        self.examples.push(Example { benchmark, name, n_grams: 0, words: normal, ends });
        Some(true)
    }

    /// The index; `None` if there are 2^32 of anything.
    pub(super) fn finish(mut self) -> Option<Index> {
        let Self { unit, ngram, mut examples, .. } = self;
        self.grams.sort_unstable();
        self.widths.sort_unstable_by_key(|width| width.n_words);
        let (mut grams, mut holders): (Vec<Gram>, Vec<u32>) = (Vec::new(), Vec::new());
        for same_hash in self.grams.chunk_by(|a, b| a.0 == b.0) {
            // Different n-grams of one hash are all but impossible; they stand one after the other.
            let mut rest = same_hash.to_vec();
            while let Some(&(hash, example, at)) = rest.first() {
                let n_words = ngram.min(examples[example as usize].ends.len());
                let words = |&(_, example, at): &(u64, u32, u32)| {
                    let example = &examples[example as usize];
                    (0..ngram.min(example.ends.len())).map(move |n| example.word(at as usize + n))
                };
                let (same, others) = rest.iter().copied().partition::<Vec<_>, _>(|gram| words(gram).eq(words(&(hash, example, at))));
                let first_holder = u32::try_from(holders.len()).ok()?;
                let mut of_gram: Vec<u32> = same.iter().map(|gram| gram.1).collect();
                of_gram.dedup();
                for holder in &of_gram {
                    examples[*holder as usize].n_grams += 1;
                }
                holders.extend(of_gram);
                grams.push(Gram { hash, example, at, n_words: u32::try_from(n_words).ok()?, holders: first_holder });
                rest = others;
            }
        }
        u32::try_from(holders.len()).ok()?;
        u32::try_from(grams.len()).ok().filter(|n| *n != NONE)?;
        let mut slots = vec![NONE; (grams.len() * 2).next_power_of_two().max(16)];
        let n_bits = (grams.len() * BITS_EACH).next_power_of_two().max(1 << 12);
        let mut bits = vec![0_u64; n_bits / 64];
        let shift = 64 - n_bits.trailing_zeros();
        for (at, gram) in (0..).zip(&grams) {
            let mut slot = slot_of(gram.hash, slots.len());
            while slots[slot] != NONE {
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = at;
            let (word, bit) = bit_of(gram.hash, shift);
            bits[word] |= bit;
        }
        Some(Index { unit, examples, widths: self.widths, grams, holders, slots, bits, shift })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits")]
fn slot_of(hash: u64, n_slots: usize) -> usize {
    hash as usize & (n_slots - 1)
}

fn bit_of(hash: u64, shift: u32) -> (usize, u64) {
    let bit = hash >> shift;
    ((bit / 64) as usize, 1 << (bit % 64))
}

/// An n-gram of a benchmark that stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    /// Its first byte.
    pub(super) start: usize,
    /// The byte behind its last.
    pub(super) end: usize,
    /// Which n-gram.
    pub(super) gram: u32,
}

impl Index {
    /// How many different n-grams there are.
    pub(super) fn n_grams(&self) -> usize {
        self.grams.len()
    }

    /// The examples that have an n-gram, in order.
    pub(super) fn holders(&self, gram: u32) -> &[u32] {
        let at = gram as usize;
        let end = self.grams.get(at + 1).map_or(self.holders.len(), |next| next.holders as usize);
        &self.holders[self.grams[at].holders as usize..end]
    }

    /// Whether a hash may be known.
    fn may_know(&self, hash: u64) -> bool {
        let (word, bit) = bit_of(hash, self.shift);
        self.bits[word] & bit != 0
    }
}

/// Looks for the n-grams of an index in texts; buffers are used again for the next.
pub(super) struct Scanner<'a> {
    index: &'a Index,
    cutter: Cutter,
    hits: Vec<Hit>,
    window: Window,
}

/// The last words of a text, as many as the longest n-gram has, then those that come.
#[derive(Default)]
struct Window {
    words: Vec<Word>,
    /// How many of them came before.
    n_old: usize,
    /// The hash of the last n-gram of each length, of as many words as there were so far if they were fewer.
    hashes: Vec<u64>,
    normal: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(index: &'a Index) -> Self {
        Self { index, cutter: Cutter::default(), hits: Vec::new(), window: Window::default() }
    }

    /// Where n-grams of the index stand in `text`, by their first byte.
    pub(super) fn scan(&mut self, text: &str) -> &[Hit] {
        let Self { index, cutter, hits, window } = self;
        hits.clear();
        window.begin(index);
        cutter.cut(index.unit, text, |words| window.take(index, text, words, hits));
        // Those of one length come in order.
        if index.widths.len() > 1 {
            hits.sort_unstable_by_key(|hit| (hit.start, hit.end, hit.gram));
        }
        hits
    }
}

impl Window {
    fn begin(&mut self, index: &Index) {
        self.words.clear();
        self.n_old = 0;
        self.hashes.clear();
        self.hashes.resize(index.widths.len(), 0);
    }

    fn take(&mut self, index: &Index, text: &str, words: &[Word], hits: &mut Vec<Hit>) {
        self.words.extend_from_slice(words);
        for (number, width) in index.widths.iter().enumerate() {
            let n = width.n_words;
            let mut hash = self.hashes[number];
            for at in self.n_old..self.words.len() {
                let leaves = if at >= n { self.words[at - n].hash } else { 0 };
                hash = width.roll(hash, self.words[at].hash, leaves);
                let known = width.spread(hash);
                if at + 1 >= n && index.may_know(known) {
                    let ngram = &self.words[at + 1 - n..=at];
                    if let Some(gram) = find(index, known, text, ngram, &mut self.normal) {
                        hits.push(Hit { start: ngram[0].start, end: ngram[n - 1].end, gram });
                    }
                }
            }
            self.hashes[number] = hash;
        }
        let longest = index.widths.last().map_or(0, |width| width.n_words);
        let gone = self.words.len().saturating_sub(longest);
        self.words.drain(..gone);
        self.n_old = self.words.len();
    }
}

/// The n-gram of the index that has this hash and these words.
fn find(index: &Index, hash: u64, text: &str, words: &[Word], normal: &mut Vec<u8>) -> Option<u32> {
    let mut slot = slot_of(hash, index.slots.len());
    loop {
        let number = index.slots[slot];
        let gram = index.grams.get(number as usize)?;
        if gram.hash == hash && gram.n_words as usize == words.len() {
            let example = &index.examples[gram.example as usize];
            let is_same = words.iter().zip(gram.at as usize..).all(|(word, at)| {
                normal.clear();
                index.unit.write_normal(&text[word.start..word.end], normal);
                normal == example.word(at)
            });
            if is_same {
                return Some(number);
            }
        }
        slot = (slot + 1) & (index.slots.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn index(unit: WordUnit, ngram: usize, min_words: usize, examples: &[&str]) -> Index {
        let mut builder = Builder::new(unit, ngram, min_words);
        for (number, text) in examples.iter().enumerate() {
            assert!(builder.add(0, number.to_string(), text).is_some());
        }
        builder.finish().expect("few")
    }

    #[test]
    fn ngrams_are_found_at_their_bytes() {
        let index = index(WordUnit::Unicode, 3, 2, &["a b c d", "B, C! d?", "x y", "z"]);
        assert_eq!(index.examples.iter().map(|example| example.n_grams).collect::<Vec<_>>(), [2, 1, 1]);
        let mut scanner = Scanner::new(&index);
        let found = |hits: &[Hit]| hits.iter().map(|hit| (hit.start, hit.end, index.holders(hit.gram).to_vec())).collect::<Vec<_>>();
        assert_eq!(found(scanner.scan("é A-b (C) D; x, Y z")), [(3, 9, vec![0]), (5, 12, vec![0, 1]), (14, 18, vec![2])]);
        assert_eq!(found(scanner.scan("b c")), []);
        assert_eq!(found(scanner.scan("")), []);
        assert_eq!(found(scanner.scan("x y x y")), [(0, 3, vec![2]), (4, 7, vec![2])]);
    }

    #[test]
    fn an_ngram_that_an_example_repeats_counts_once() {
        let index = index(WordUnit::Unicode, 2, 2, &["a b a b a b", "b a"]);
        assert_eq!(index.examples.iter().map(|example| example.n_grams).collect::<Vec<_>>(), [2, 1]);
        let mut scanner = Scanner::new(&index);
        assert_eq!(scanner.scan("a b a").iter().map(|hit| index.holders(hit.gram)).collect::<Vec<_>>(), [&[0][..], &[0, 1]]);
    }

    #[test]
    fn a_hash_that_is_known_is_held_against_the_words() {
        let mut index = index(WordUnit::Unicode, 2, 2, &["a b"]);
        assert_eq!(Scanner::new(&index).scan("a b").len(), 1);
        // The same hash of other words.
        index.examples[0].words = b"ac".to_vec();
        assert_eq!(Scanner::new(&index).scan("a b").len(), 0);
    }

    #[test]
    fn an_ngram_goes_from_one_piece_of_a_long_text_to_the_next() {
        let example = "one two three four five six seven";
        let index = index(WordUnit::Unicode, 5, 5, &[example]);
        for before in [16_300, 16_340, 16_360, 16_370, 16_380, 33_000] {
            let text = format!("{}{example} end", "w ".repeat(before / 2));
            assert_eq!(Scanner::new(&index).scan(&text).len(), 3, "{before}");
        }
    }

    proptest! {
        #[test]
        fn every_ngram_is_found_and_no_other(
            examples in proptest::collection::vec("[abcA ]{0,16}", 1..6), text in "[abcA ]{0,60}", ngram in 1..6_usize, min_words in 1..4_usize, by_space in any::<bool>(),
        ) {
            let unit = if by_space { WordUnit::Whitespace } else { WordUnit::Unicode };
            let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
            let index = index(unit, ngram, min_words, &examples);
            let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
            let mut known: BTreeMap<Vec<String>, BTreeSet<String>> = BTreeMap::new();
            for (number, example) in examples.iter().enumerate() {
                let words = words(example);
                if words.len() >= min_words {
                    for gram in words.windows(ngram.min(words.len())) {
                        known.entry(gram.to_vec()).or_default().insert(number.to_string());
                    }
                }
            }
            let of_text = words(&text);
            let mut expected = Vec::new();
            for start in 0..of_text.len() {
                for end in start + 1..=of_text.len() {
                    if let Some(holders) = known.get(&of_text[start..end]) {
                        expected.push((of_text[start..end].to_vec(), holders.clone()));
                    }
                }
            }
            let mut scanner = Scanner::new(&index);
            let found: Vec<_> = scanner.scan(&text).iter().map(|hit| {
                let holders = index.holders(hit.gram).iter().map(|holder| index.examples[*holder as usize].name.clone()).collect();
                (words(&text[hit.start..hit.end]), holders)
            }).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.n_grams(), known.len());
        }
    }
}
