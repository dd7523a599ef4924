//! How much of a text is in runs of words that it has several times.
//!
//! Words are numbered in the order of their first occurrence, then pairs of numbers that follow each other, then pairs of those: the number of `n`
//! words in a row and that of the `n` words one further on say which `n + 1` words these are. Where `n` words stand once, `n + 1` that begin there
//! or one word before do too. So each step looks only at the places that the one before found more than once, and most texts are done with after
//! a few short steps. Numbers stand for runs exactly; only words are told apart by hashes, of 64 bits.

/// Finds runs of words; buffers are used again for the next text.
#[derive(Debug, Default)]
pub(super) struct Ngrams {
    /// Of each word of the text, in order.
    pub(super) hashes: Vec<u64>,
    /// Characters of all words before each word, and at the end of all.
    pub(super) before: Vec<u32>,
    /// For each key at the place of its hash, or the next that is free, where it stands first in `keys`.
    slots: Vec<u32>,
    places: Vec<u32>,
    keys: Vec<u64>,
    numbers: Vec<u32>,
    counts: Vec<u32>,
    seen: Vec<bool>,
}

const FREE: u32 = u32::MAX;

/// Characters in repeated runs of words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Repeated {
    /// In all occurrences of the commonest 2, 3 and 4 words, the spaces between them counted. Of several as common, those that come first.
    pub(super) top: [u64; 3],
    /// In 5 to 10 words that stand before, taken from the front, none counted twice.
    pub(super) duplicate: [u64; 6],
}

/// Buffers for more words than this are given back after the text.
const MOST_WORDS_KEPT: usize = 1 << 18;

impl Ngrams {
    /// Forgets the words of the last text.
    pub(super) fn clear(&mut self) {
        if self.hashes.capacity() > MOST_WORDS_KEPT {
            *self = Self::default();
        }
        self.hashes.clear();
        self.before.clear();
        self.before.push(0);
    }

    /// Of the words in `hashes` and `before`, runs of up to `longest`.
    #[expect(clippy::cast_possible_truncation, reason = "a text has less than 2^32 words")]
    pub(super) fn repeated(&mut self, longest: usize) -> Repeated {
        let mut repeated = Repeated::default();
        let n_words = self.hashes.len();
        for n in 2..=longest.min(4).min(n_words) {
            repeated.top[n - 2] = self.chars(0, n) + n as u64 - 1; // until a run is found twice, the first is the commonest
        }
        self.places.clear();
        self.places.extend(0..n_words as u32);
        self.keys.clear();
        self.keys.extend_from_slice(&self.hashes);
        for n in 1..=longest.min(n_words) {
            self.number();
            if let (2..=4, Some((first, count))) = (n, self.commonest()) {
                repeated.top[n - 2] = (self.chars(first, n) + n as u64 - 1) * u64::from(count);
            }
            self.keep_repeated();
            if self.places.is_empty() {
                break;
            }
            if (5..=10).contains(&n) {
                repeated.duplicate[n - 5] = self.duplicates(n);
            }
            self.pair();
        }
        repeated
    }

    /// Characters of `n` words from word `first` on.
    fn chars(&self, first: usize, n: usize) -> u64 {
        u64::from(self.before[first + n] - self.before[first])
    }

    /// Numbers the keys: `numbers` of each place, `counts` of each number.
    #[expect(clippy::cast_possible_truncation, reason = "the upper bits of a product fit, and a text has less than 2^32 words")]
    fn number(&mut self) {
        let Self { slots, keys, numbers, counts, .. } = self;
        // Of a very long text memory counts, and of others time.
        let wanted = if keys.len() > MOST_WORDS_KEPT { keys.len() / 4 * 5 } else { keys.len() * 2 };
        let bits = wanted.next_power_of_two().trailing_zeros().max(4);
        let (size, shift) = (1 << bits, 64 - bits);
        if slots.len() < size {
            slots.resize(size, FREE);
        }
        let slots = &mut slots[..size];
        slots.fill(FREE);
        numbers.clear();
        counts.clear();
        for key in &*keys {
            let mut at = ((key ^ (key >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize;
            let number = loop {
                let first = slots[at];
                if first == FREE {
                    slots[at] = numbers.len() as u32;
                    counts.push(0);
                    break counts.len() as u32 - 1;
                }
                if keys[first as usize] == *key {
                    break numbers[first as usize];
                }
                at = (at + 1) & (size - 1);
            };
            counts[number as usize] += 1;
            numbers.push(number);
        }
    }

    /// Where the run that stands there most often stands first, and how often, if any stands there more than once.
    fn commonest(&self) -> Option<(usize, u32)> {
        let most = self.counts.iter().copied().max().filter(|most| *most > 1)?;
        // Numbers are in the order of first occurrences.
        let number = self.counts.iter().position(|count| *count == most)?;
        let at = self.numbers.iter().position(|of| *of as usize == number)?;
        Some((self.places[at] as usize, most))
    }

    /// Leaves the places whose run stands in several.
    fn keep_repeated(&mut self) {
        let Self { places, numbers, counts, .. } = self;
        let mut kept = 0;
        for at in 0..places.len() {
            let number = numbers[at];
            (places[kept], numbers[kept]) = (places[at], number);
            kept += usize::from(counts[number as usize] > 1);
        }
        places.truncate(kept);
        numbers.truncate(kept);
    }

    /// Characters of runs that stand before.
    fn duplicates(&mut self, n: usize) -> u64 {
        self.seen.clear();
        self.seen.resize(self.counts.len(), false);
        let (mut chars, mut next) = (0, 0);
        for (place, number) in self.places.iter().zip(&self.numbers) {
            let place = *place as usize;
            if place < next {
                continue;
            }
            if std::mem::replace(&mut self.seen[*number as usize], true) {
                chars += self.chars(place, n);
                next = place + n;
            }
        }
        chars
    }

    /// Makes keys of runs of one word more.
    fn pair(&mut self) {
        let Self { places, numbers, keys, .. } = self;
        keys.clear();
        for at in 1..places.len() {
            let (place, next) = (places[at - 1], places[at]);
            if next == place + 1 {
                places[keys.len()] = place;
                keys.push((u64::from(numbers[at - 1]) << 32) | u64::from(numbers[at]));
            }
        }
        places.truncate(keys.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn ours(words: &[&str], longest: usize) -> Repeated {
        let mut ngrams = Ngrams::default();
        // What is left of a text before is in no one's way.
        for words in [&["x", "y", "x", "y"][..], words] {
            ngrams.clear();
            for word in words {
                ngrams.hashes.push(xxh3_64(word.as_bytes()));
                ngrams.before.push(ngrams.before.last().unwrap() + u32::try_from(word.chars().count()).unwrap());
            }
            ngrams.repeated(longest);
        }
        ngrams.repeated(longest)
    }

    /// As the definitions have it.
    fn plain(words: &[&str]) -> Repeated {
        let mut repeated = Repeated::default();
        for n in 2..=4 {
            let mut counts: HashMap<Vec<&str>, (usize, usize)> = HashMap::new();
            for (at, gram) in words.windows(n).enumerate() {
                counts.entry(gram.to_vec()).or_insert((0, at)).0 += 1;
            }
            let top = counts.iter().max_by_key(|(_, (count, first))| (*count, std::cmp::Reverse(*first)));
            repeated.top[n - 2] = top.map_or(0, |(gram, (count, _))| gram.join(" ").chars().count() * count) as u64;
        }
        for n in 5..=10 {
            let (mut at, mut seen) = (0, HashSet::new());
            while at + n <= words.len() {
                if seen.insert(&words[at..at + n]) {
                    at += 1;
                } else {
                    repeated.duplicate[n - 5] += words[at..at + n].concat().chars().count() as u64;
                    at += n;
                }
            }
        }
        repeated
    }

    #[test]
    fn the_commonest_of_equals_is_the_first() {
        let words: Vec<&str> = "aa b c aa b d é f d é f".split(' ').collect();
        // `aa b`, `d é` and `é f` stand twice, and of three words `d é f`; of four words none, so that the first are the commonest.
        assert_eq!(ours(&words, 10).top, [8, 10, 9]);
        assert_eq!(ours(&words, 10), plain(&words));
    }

    #[test]
    fn repeated_runs_do_not_overlap() {
        // Of 12 equal words, five from the second on were seen (at the first); after those, five more; one is left.
        let words = ["ab"; 12];
        assert_eq!(ours(&words, 10).duplicate, [20, 12, 14, 16, 18, 20]);
        assert_eq!(ours(&words, 10).top, [11 * 5, 10 * 8, 9 * 11]);
        assert_eq!(ours(&words, 4).duplicate, [0; 6]);
        assert_eq!(ours(&[], 10), Repeated::default());
        assert_eq!(ours(&["a", "b"], 10), Repeated { top: [3, 0, 0], duplicate: [0; 6] });
    }

    #[test]
    fn a_word_is_not_two() {
        assert_eq!(ours(&["ab", "c", "a", "bc"], 10).top, [4, 6, 9]);
    }

    #[test]
    fn a_long_text_takes_some_bytes_a_word() {
        let n = 600_000_u32;
        let words = (0..n).map(|word| u64::from(word % 400_000).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut ngrams = Ngrams { hashes: words.collect(), before: (0..=n).collect(), ..Ngrams::default() };
        // The last 200,000 words are the first ones again.
        assert_eq!(ngrams.repeated(5).duplicate[0], 200_000);
        assert!(size_of_val(&*ngrams.slots) <= 8 * n as usize, "{} places", ngrams.slots.len());
    }

    proptest! {
        #[test]
        fn short_cuts_give_what_the_definitions_do(words in prop::collection::vec("a|bb|ccc|d|é", 0..80), many in prop::collection::vec("[a-f]{1,2}", 0..120)) {
            for words in [words, many] {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                prop_assert_eq!(ours(&words, 10), plain(&words));
            }
        }
    }
}
