//! One pass over a text for all that its rules want to know.

use xxhash_rust::xxh3::xxh3_64;

use super::c4::Cleaned;
use super::lines::{self, Seen};
use super::ngrams::Ngrams;
use super::rules::Judge;
use super::stats::{Stat, StatSet, Stats};
use crate::text::splitter::{Made, Splitter, WordRules};
use crate::units::Chars;

/// Buffers for one text at a time.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) splitter: Splitter,
    pub(super) cleaned: Cleaned,
    /// Lines of the text read last that are not blank, where they were counted.
    pub(super) n_lines: u64,
    ngrams: Ngrams,
    seen: Seen,
    /// Which stop words the text has.
    stop_words: Vec<bool>,
}

/// Statistics that words have to be looked at for.
const OF_WORDS: [Stat; 6] =
    [Stat::NWords, Stat::MeanWordLength, Stat::HashRatio, Stat::EllipsisRatio, Stat::AlphabeticWords, Stat::NewlinesPerWord];

/// Statistics of runs of words: the words, and for each the longest that it needs.
const OF_NGRAMS: [(Stat, usize); 9] = [
    (Stat::Top2Gram, 2),
    (Stat::Top3Gram, 3),
    (Stat::Top4Gram, 4),
    (Stat::Duplicate5Grams, 5),
    (Stat::Duplicate6Grams, 6),
    (Stat::Duplicate7Grams, 7),
    (Stat::Duplicate8Grams, 8),
    (Stat::Duplicate9Grams, 9),
    (Stat::Duplicate10Grams, 10),
];

/// What words came to.
#[derive(Debug, Default)]
struct Counts {
    words: u64,
    not_of_symbols: u64,
    their_chars: u64,
    alphabetic: u64,
    stop_words: u64,
}

impl Scan {
    pub(super) fn new(words: WordRules) -> Self {
        Self {
            splitter: Splitter::new(words),
            cleaned: Cleaned::default(),
            n_lines: 0,
            ngrams: Ngrams::default(),
            seen: Seen::default(),
            stop_words: Vec::new(),
        }
    }

    /// Finds what `judge` wants to know of `text`, or of what C4 left of it.
    pub(super) fn read(&mut self, text: &str, is_cleaned: bool, judge: &Judge, stats: &mut Stats) {
        let Self { splitter, cleaned, n_lines, ngrams, seen, stop_words } = self;
        let text = if is_cleaned { cleaned.text() } else { text };
        let wanted = judge.wanted;
        let chars = Chars::of(text).get();
        if wanted.has_any_of(&[Stat::DuplicateParagraphs, Stat::DuplicateParagraphChars, Stat::DuplicateLines, Stat::DuplicateLineChars]) {
            lines::duplicates(text, chars.max(1) as f64, wanted, seen, stats);
        }
        if wanted.has_any_of(&[Stat::BulletLines, Stat::EllipsisLines]) {
            lines::bullets(text, stats);
        }
        let newlines = if judge.counts_lines { lines::newlines(text) } else { 0 };
        if judge.counts_lines {
            *n_lines = lines::fineweb(text, chars, newlines, judge.short_line_chars, wanted, seen, stats);
        }
        let longest = OF_NGRAMS.iter().filter(|(stat, _)| wanted.contains(*stat)).map(|(_, n)| *n).max();
        if longest.is_some() || wanted.has_any_of(&OF_WORDS) || wanted.contains(Stat::NStopWords) {
            let counts = read_words(text, splitter, longest.map(|_| &mut *ngrams), &judge.stop_words, stop_words);
            counts.write(text, newlines, wanted, stats);
        }
        if let Some(longest) = longest {
            let repeated = ngrams.repeated(longest);
            let chars = chars.max(1) as f64;
            let found = repeated.top.iter().chain(&repeated.duplicate);
            for ((stat, _), repeated) in OF_NGRAMS.iter().zip(found) {
                stats.set(*stat, *repeated as f64 / chars);
            }
        }
        if wanted.contains(Stat::NCleanChars) {
            stats.set(Stat::NCleanChars, lines::clean_chars(text) as f64);
        }
    }
}

/// Goes through the words of a text once.
fn read_words(text: &str, splitter: &mut Splitter, ngrams: Option<&mut Ngrams>, known: &StopWords, found: &mut Vec<bool>) -> Counts {
    found.clear();
    found.resize(known.words.len(), false);
    let mut counts = Counts::default();
    let mut count = |word: &[u8]| {
        let made = Made::of(word);
        counts.words += 1;
        counts.alphabetic += u64::from(made.is_alphabetic);
        counts.not_of_symbols += u64::from(!made.of_symbols);
        counts.their_chars += if made.of_symbols { 0 } else { u64::from(made.chars) };
        if let Some(number) = known.find(word) {
            counts.stop_words += u64::from(!std::mem::replace(&mut found[number], true));
        }
        made.chars
    };
    match ngrams {
        None => splitter.cut(text, |word| {
            count(word);
        }),
        Some(ngrams) => {
            ngrams.clear();
            let mut before = 0;
            splitter.cut(text, |word| {
                before += count(word);
                ngrams.hashes.push(xxh3_64(word));
                ngrams.before.push(before);
            });
        }
    }
    counts
}

impl Counts {
    /// Where there are no words, ratios are those of one.
    fn write(&self, text: &str, newlines: u64, wanted: StatSet, stats: &mut Stats) {
        let per_word = |count: u64| count as f64 / self.words.max(1) as f64;
        stats.set(Stat::NWords, self.not_of_symbols as f64);
        stats.set(Stat::MeanWordLength, self.their_chars as f64 / self.not_of_symbols.max(1) as f64);
        stats.set(Stat::AlphabeticWords, per_word(self.alphabetic));
        stats.set(Stat::NewlinesPerWord, per_word(newlines));
        stats.set(Stat::NStopWords, self.stop_words as f64);
        if wanted.contains(Stat::HashRatio) {
            stats.set(Stat::HashRatio, per_word(lines::hash_signs(text)));
        }
        if wanted.contains(Stat::EllipsisRatio) {
            stats.set(Stat::EllipsisRatio, per_word(lines::ellipses(text)));
        }
    }
}

/// Words to be found among those of texts.
#[derive(Debug, Default)]
pub(super) struct StopWords {
    words: Vec<Box<[u8]>>,
    /// For each first byte, which lengths there are, a bit for each; the last for all longer ones. `[256]`
    lengths: Vec<u32>,
    /// Numbers of words by hash, more than half of them [`StopWords::NONE`].
    slots: Vec<u32>,
}

impl StopWords {
    const NONE: u32 = u32::MAX;

    /// Of words that are no two equal.
    #[expect(clippy::cast_possible_truncation, reason = "a list of words in a pipeline file is short")]
    pub(super) fn new(words: &[String]) -> Self {
        let mut stop_words =
            Self { words: Vec::new(), lengths: vec![0; 256], slots: vec![Self::NONE; (words.len() * 4).next_power_of_two()] };
        for word in words.iter().map(String::as_bytes).filter(|word| !word.is_empty()) {
            stop_words.lengths[usize::from(word[0])] |= bit_of(word);
            let free = stop_words.slot(word);
            stop_words.slots[free] = stop_words.words.len() as u32;
            stop_words.words.push(word.into());
        }
        stop_words
    }

    /// The number of a stop word.
    #[inline]
    fn find(&self, word: &[u8]) -> Option<usize> {
        let lengths = self.lengths.get(usize::from(*word.first()?))?;
        if lengths & bit_of(word) == 0 {
            return None;
        }
        let found = self.slots[self.slot(word)];
        (found != Self::NONE).then_some(found as usize)
    }

    /// Where a word is, or would be.
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits of a hash are as good as all")]
    fn slot(&self, word: &[u8]) -> usize {
        let last = self.slots.len() - 1;
        let mut at = xxh3_64(word) as usize & last;
        while self.slots[at] != Self::NONE && *self.words[self.slots[at] as usize] != *word {
            at = (at + 1) & last;
        }
        at
    }
}

fn bit_of(word: &[u8]) -> u32 {
    1 << word.len().min(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_found_and_no_others() {
        let list: Vec<String> =
            (0..500).map(|number| format!("w{number}")).chain(["the".to_owned(), "日本".to_owned(), "x".repeat(40)]).collect();
        let stop_words = StopWords::new(&list);
        for (number, word) in list.iter().enumerate() {
            assert_eq!(stop_words.find(word.as_bytes()), Some(number));
        }
        for other in ["The", "th", "then", "w500", "w1000", "日", "日木", &"x".repeat(41), &"x".repeat(39)] {
            assert_eq!(stop_words.find(other.as_bytes()), None, "{other}");
        }
        assert_eq!(StopWords::default().find(b"the"), None);
    }
}
