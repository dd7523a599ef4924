//! ROUGE-L: how much of one text stands in another in the same order.
//!
//! Source: Lin, *ROUGE: a package for automatic evaluation of summaries*, 2004, section 3. Tokens of English are those of the Python package
//! `rouge-score` (Google) without its stemmer.

use unicode_normalization::char::is_combining_mark;
use xxhash_rust::xxh3::xxh3_64;

/// The tokens of a text, in lower case.
///
/// A token is a run of letters and digits; all else separates. Marks belong to the letter before them. In scripts without spaces between words
/// (Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer) and in Korean, whose words carry their endings, each character with its marks is a
/// token. Nothing is normalised: `é` in one character and in two are different tokens.
///
/// A text with no letter, digit or mark beyond ASCII has exactly the tokens of `rouge-score`, to which all others separate tokens. (The code of
/// arXiv 2405.16579, from which `filter_similar` is, has words found by jieba first.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens one behind the other.
    text: String,
    /// Where in it each ends.
    ends: Vec<usize>,
}

/// What the last character was that is not followed by a separator yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Word,
    /// A character that is a token by itself.
    Character,
}

impl Tokens {
    /// The tokens of `text`.
    pub fn of(text: &str) -> Self {
        let mut tokens = Self::default();
        tokens.add(text);
        tokens
    }

    /// Adds the tokens of `text` behind those that are there; none goes across.
    pub fn add(&mut self, text: &str) {
        self.text.reserve(text.len());
        let mut open = Open::Nothing;
        for character in text.chars() {
            if character.is_ascii() {
                let class = if character.is_ascii_alphanumeric() { Class::Letter } else { Class::Other };
                self.take(character.to_ascii_lowercase(), class, &mut open);
            } else {
                character.to_lowercase().for_each(|lower| self.take(lower, class_of(lower), &mut open));
            }
        }
        self.take(' ', Class::Other, &mut open);
    }

    fn take(&mut self, character: char, class: Class, open: &mut Open) {
        let goes_on = match class {
            Class::Letter => *open == Open::Word,
            Class::Mark => *open != Open::Nothing,
            Class::Alone | Class::Other => false,
        };
        if !goes_on && *open != Open::Nothing {
            self.ends.push(self.text.len());
        }
        *open = match class {
            Class::Letter => Open::Word,
            Class::Alone => Open::Character,
            Class::Mark => *open,
            Class::Other => Open::Nothing,
        };
        if *open != Open::Nothing {
            self.text.push(character);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the text has neither a letter nor a digit.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The tokens in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// What a character is to the tokens.
#[derive(Clone, Copy)]
enum Class {
    Letter,
    Mark,
    /// A token by itself.
    Alone,
    Other,
}

fn class_of(character: char) -> Class {
    match character {
        // The later parts of a Korean syllable that is written in its parts.
        '\u{1160}'..='\u{11FF}' | '\u{D7B0}'..='\u{D7FF}' => Class::Mark,
        // They choose among glyphs, of digits too: `1` as an emoji.
        '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}' => Class::Other,
        _ if is_combining_mark(character) => Class::Mark,
        _ if !character.is_alphanumeric() => Class::Other,
        // Thai, Lao, Tibetan, Burmese; first parts of Korean syllables; Khmer; from the radicals over kana, ideographs and syllables to
        // compatibility ideographs; narrow kana and Korean letters; old kana; ideographs of the planes beyond.
        '\u{E00}'..='\u{109F}'
        | '\u{1100}'..='\u{115F}'
        | '\u{1780}'..='\u{17FF}'
        | '\u{2E80}'..='\u{A4CF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FF66}'..='\u{FFDC}'
        | '\u{1AFF0}'..='\u{1B2FF}'
        | '\u{20000}'..='\u{3FFFF}' => Class::Alone,
        _ => Class::Letter,
    }
}

/// ROUGE-L of a candidate against a reference. All three are 0 if either has no token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RougeL {
    /// Share of the candidate's tokens that stand in the reference in the same order.
    pub precision: f64,
    /// Share of the reference's tokens that stand in the candidate in the same order.
    pub recall: f64,
    /// The harmonic mean of both: twice the common tokens over those of both texts.
    pub f1: f64,
}

impl RougeL {
    /// Compares whole texts, each as one sequence.
    pub fn of(candidate: &Tokens, reference: &Tokens) -> Self {
        Self::of_common(lcs(candidate, reference), candidate.len(), reference.len())
    }

    /// Of texts with so many tokens, and so many in common.
    pub(crate) fn of_common(common: usize, candidate: usize, reference: usize) -> Self {
        let share = |of: usize| if of == 0 { 0.0 } else { common as f64 / of as f64 };
        let f1 = if common == 0 { 0.0 } else { (2 * common) as f64 / (candidate + reference) as f64 };
        Self { precision: share(candidate), recall: share(reference), f1 }
    }
}

/// Length of the longest common subsequence: the most tokens that stand in both texts in the same order.
///
/// The time is that of the product of both lengths over 64, after what is equal at both ends and what stands in one text alone is left out; the
/// memory that of their sum.
pub fn lcs(a: &Tokens, b: &Tokens) -> usize {
    let mut vocabulary = Vocabulary::default();
    let mut numbers = |tokens: &Tokens| tokens.iter().map(|token| vocabulary.number(token)).collect::<Vec<u32>>();
    let (a, b) = (numbers(a), numbers(b));
    Lcs::default().of(&a, &b)
}

/// Numbers for tokens, from 0 in the order in which they are met. Equal numbers are equal tokens: hashes only say where to look.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    /// The tokens one behind the other.
    text: String,
    /// Where in it each ends.
    ends: Vec<usize>,
    hashes: Vec<u64>,
    /// Numbers plus one by hash, 0 where there is none; at most half of them are taken.
    slots: Vec<u32>,
}

impl Vocabulary {
    /// How many different tokens it has met.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of a token.
    pub(crate) fn number(&mut self, token: &str) -> u32 {
        if self.slots.len() <= 2 * self.len() {
            self.grow();
        }
        let hash = xxh3_64(token.as_bytes());
        let mut slot = self.slot(hash);
        while let Some(number) = self.slots[slot].checked_sub(1) {
            if self.hashes[number as usize] == hash && self.token(number as usize) == token {
                return number;
            }
            slot = (slot + 1) % self.slots.len();
        }
        let number = u32::try_from(self.len()).expect("a batch holds below 2^31 bytes");
        self.slots[slot] = number + 1;
        self.hashes.push(hash);
        self.text.push_str(token);
        self.ends.push(self.text.len());
        number
    }

    fn token(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
    fn slot(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        self.slots = vec![0; (self.slots.len() * 2).max(64)];
        for (number, hash) in (1..).zip(&self.hashes) {
            let mut slot = self.slot(*hash);
            while self.slots[slot] > 0 {
                slot = (slot + 1) % self.slots.len();
            }
            self.slots[slot] = number;
        }
    }
}

/// Finds lengths of longest common subsequences; buffers are used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Lcs {
    /// For each token, where in a block of 64 tokens of one text it stands; 0 between calls.
    masks: Vec<u64>,
    a: Vec<u32>,
    b: Vec<u32>,
    /// For each token of the other text, whether the block before carries into this one: a bit each.
    carries: Vec<u64>,
    /// As `masks`, for each block of the text that is held; 0 while none is.
    held: Vec<u64>,
    /// Masks of a block of that text.
    n_tokens: usize,
}

/// A held text has at most so many blocks of 64 tokens, since each takes a mask for every token that there is.
const MOST_BLOCKS: usize = 8;

impl Lcs {
    /// Of tokens by their numbers in one [`Vocabulary`].
    pub(crate) fn of(&mut self, a: &[u32], b: &[u32]) -> usize {
        let first = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (a, b) = (&a[first..], &b[first..]);
        let last = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
        first + last + self.between(&a[..a.len() - last], &b[..b.len() - last])
    }

    /// Makes a text ready to be compared with many by [`Lcs::with_held`], until [`Lcs::release`]. Of the vocabulary there are `n_tokens` so far.
    pub(crate) fn hold(&mut self, a: &[u32], n_tokens: usize) {
        if a.len() > 64 * MOST_BLOCKS {
            return;
        }
        self.n_tokens = n_tokens;
        let n_masks = n_tokens * a.len().div_ceil(64).max(1);
        if self.held.len() < n_masks {
            self.held.resize(n_masks, 0);
        }
        for (place, token) in a.iter().enumerate() {
            self.held[place / 64 * n_tokens + *token as usize] |= 1 << (place % 64);
        }
    }

    /// Of `a`, which is held, and `b`. A question of at most 64 tokens takes a nanosecond or two for each token of the other.
    pub(crate) fn with_held(&mut self, a: &[u32], b: &[u32]) -> usize {
        if a.len() > 64 * MOST_BLOCKS {
            return self.of(a, b);
        }
        if a.len() <= 64 {
            let mut column = u64::MAX;
            for token in b {
                let mask = self.held[*token as usize];
                column = column.wrapping_add(column & mask) | (column & !mask);
            }
            // Beyond the text the bits stay 1.
            return column.count_zeros() as usize;
        }
        self.carries.clear();
        self.carries.resize(b.len().div_ceil(64), 0);
        let blocks = self.held.chunks(self.n_tokens).take(a.len().div_ceil(64));
        blocks.map(|masks| column(masks, b, &mut self.carries).count_zeros() as usize).sum()
    }

    /// Makes an end of [`Lcs::hold`].
    pub(crate) fn release(&mut self, a: &[u32]) {
        if a.len() <= 64 * MOST_BLOCKS {
            a.iter().enumerate().for_each(|(place, token)| self.held[place / 64 * self.n_tokens + *token as usize] = 0);
        }
    }

    fn between(&mut self, a: &[u32], b: &[u32]) -> usize {
        if a.is_empty() || b.is_empty() {
            return 0;
        }
        let (mut kept_a, mut kept_b) = (std::mem::take(&mut self.a), std::mem::take(&mut self.b));
        self.keep_common(a, b, &mut kept_a);
        self.keep_common(b, a, &mut kept_b);
        let common = if kept_a.len() <= kept_b.len() { self.by_blocks(&kept_a, &kept_b) } else { self.by_blocks(&kept_b, &kept_a) };
        (self.a, self.b) = (kept_a, kept_b);
        common
    }

    /// Of `these`, those that are among `others`.
    fn keep_common(&mut self, these: &[u32], others: &[u32], kept: &mut Vec<u32>) {
        let most = these.iter().chain(others).max().map_or(0, |most| *most as usize + 1);
        if self.masks.len() < most {
            self.masks.resize(most, 0);
        }
        others.iter().for_each(|token| self.masks[*token as usize] = 1);
        kept.clear();
        kept.extend(these.iter().copied().filter(|token| self.masks[*token as usize] != 0));
        others.iter().for_each(|token| self.masks[*token as usize] = 0);
    }

    fn by_blocks(&mut self, a: &[u32], b: &[u32]) -> usize {
        self.carries.clear();
        self.carries.resize(b.len().div_ceil(64), 0);
        let mut common = 0;
        for block in a.chunks(64) {
            block.iter().enumerate().for_each(|(bit, token)| self.masks[*token as usize] |= 1 << bit);
            common += column(&self.masks, b, &mut self.carries).count_zeros() as usize;
            block.iter().for_each(|token| self.masks[*token as usize] = 0);
        }
        common
    }
}

/// The last column of the table of common lengths, of a block of 64 tokens of one text: a bit for each, 0 where the length grows, and 1 beyond the
/// text.
///
/// Each column follows from the one before by an addition. It goes over all of `b` for one block, and leaves in `carries` what goes over into the
/// next block.
///
/// Source: Hyyrö, *Bit-parallel LCS-length computation revisited*, 2004, figure 3 (after Crochemore et al., 2001).
fn column(masks: &[u64], b: &[u32], carries: &mut [u64]) -> u64 {
    let mut column = u64::MAX;
    for (b, carries) in b.chunks(64).zip(carries) {
        let mut out = 0;
        for (bit, token) in b.iter().enumerate() {
            let mask = masks[*token as usize];
            let (sum, over) = column.overflowing_add(column & mask);
            let (sum, again) = sum.overflowing_add((*carries >> bit) & 1);
            out |= u64::from(over | again) << bit;
            column = sum | (column & !mask);
        }
        *carries = out;
    }
    column
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        Tokens::of(text).iter().map(str::to_owned).collect()
    }

    fn rouge(candidate: &str, reference: &str) -> RougeL {
        RougeL::of(&Tokens::of(candidate), &Tokens::of(reference))
    }

    /// By the table of all lengths.
    fn plain(a: &[u32], b: &[u32]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for a in a {
            let mut before = 0;
            for (at, b) in b.iter().enumerate() {
                let above = row[at + 1];
                row[at + 1] = if a == b { before + 1 } else { above.max(row[at]) };
                before = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn english_is_cut_at_all_but_letters_and_digits() {
        assert_eq!(cut("Don't stop: 3.5kg, U.S.A.!"), ["don", "t", "stop", "3", "5kg", "u", "s", "a"]);
        assert_eq!(cut("a_b “c”—d\u{a0}e\u{0}f"), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(cut("..."), Vec::<String>::new());
        assert_eq!(cut(""), Vec::<String>::new());
    }

    #[test]
    fn words_of_other_alphabets_are_whole() {
        assert_eq!(cut("Naïve Ärger, ΣΑΣ; Привет!"), ["naïve", "ärger", "σασ", "привет"]);
        assert_eq!(cut("e\u{301}te\u{301} e\u{301}"), ["e\u{301}te\u{301}", "e\u{301}"]);
        assert_eq!(cut("שָׁלוֹם العَرَبِيَّة"), ["שָׁלוֹם", "العَرَبِيَّة"]);
        assert_eq!(cut("हिन्दी में"), ["हिन्दी", "में"]);
        // A mark behind nothing is nothing; an emoji separates, and of one that is a digit the digit is left.
        assert_eq!(cut(" \u{301} a 👩\u{200d}👧b 1\u{fe0f}\u{20e3}"), ["a", "b", "1"]);
    }

    #[test]
    fn where_words_have_no_spaces_a_character_is_a_token() {
        assert_eq!(cut("日本語abc、カナー。"), ["日", "本", "語", "abc", "カ", "ナ", "ー"]);
        assert_eq!(cut("x中9"), ["x", "中", "9"]);
        assert_eq!(cut("한국어 \u{1112}\u{1161}\u{11ab}\u{1100}"), ["한", "국", "어", "\u{1112}\u{1161}\u{11ab}", "\u{1100}"]);
        assert_eq!(cut("か\u{3099}き"), ["か\u{3099}", "き"]);
        assert_eq!(cut("ที่นี่"), ["ที่", "นี่"]);
        assert_eq!(cut("𠀀𠀁 ﾊﾟ Ａ１"), ["𠀀", "𠀁", "ﾊ", "ﾟ", "ａ１"]);
    }

    #[test]
    fn added_texts_are_tokens_of_their_own() {
        let mut tokens = Tokens::of("one tw");
        tokens.add("o three");
        assert_eq!(tokens.iter().collect::<Vec<_>>(), ["one", "tw", "o", "three"]);
        assert_eq!((tokens.len(), tokens.is_empty()), (4, false));
    }

    #[test]
    fn scores_are_those_of_the_paper() {
        // Lin 2004, section 3.1: S1 against S2 has 3 of 4 in order, against S3 2 of 4; S4 too.
        let reference = "police killed the gunman";
        for (candidate, share) in [("police kill the gunman", 0.75), ("the gunman kill police", 0.5), ("the gunman police killed", 0.5)] {
            assert_eq!(rouge(candidate, reference), RougeL { precision: share, recall: share, f1: share }, "{candidate}");
        }
        let of = rouge("the cat", "the old cat sat");
        assert_eq!(of, RougeL { precision: 1.0, recall: 0.5, f1: 4.0 / 6.0 });
    }

    #[test]
    fn a_text_without_tokens_has_nothing_in_common() {
        let nothing = RougeL { precision: 0.0, recall: 0.0, f1: 0.0 };
        assert_eq!([rouge("", ""), rouge("?", "a"), rouge("a", "!"), rouge("a", "b")], [nothing; 4]);
    }

    #[test]
    fn long_texts_are_compared_in_milliseconds_and_little_memory() {
        // 2,000 tokens of 50 words: nothing is left out beforehand, and 32 blocks carry.
        let text = |step: u64| (0..2000_u64).map(|n| format!("w{} ", (n * n * step + n / 7) % 50)).collect::<String>();
        let (a, b) = (Tokens::of(&text(3)), Tokens::of(&text(5)));
        let started = Instant::now();
        let common = lcs(&a, &b);
        assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
        let numbers = |tokens: &Tokens| tokens.iter().map(|token| token[1..].parse().expect("a number")).collect::<Vec<u32>>();
        assert_eq!(common, plain(&numbers(&a), &numbers(&b)));
    }

    #[test]
    fn ten_megabytes_on_one_line_are_cut_and_compared() {
        let started = Instant::now();
        let mut text = "Word word2 ".repeat(950_000);
        let one = Tokens::of(&text);
        assert_eq!(one.len(), 1_900_000);
        text.push_str("end");
        assert_eq!(lcs(&one, &Tokens::of(&text)), 1_900_000);
        assert_eq!(Tokens::of(&"日".repeat(3_400_000)).len(), 3_400_000);
        assert_eq!(Tokens::of(&"a".repeat(10_000_000)).len(), 1);
        assert_eq!(Tokens::of(&format!("a{}", "\u{301}".repeat(5_000_000))).len(), 1);
        assert_eq!(Tokens::of(&"😀".repeat(2_500_000)).len(), 0);
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    fn holds(pairs: &str) -> usize {
        let scores = |line: &Value| {
            let numbers: Vec<f64> = (2..5).filter_map(|at| line[at].as_f64()).collect();
            <[f64; 3]>::try_from(numbers).expect("three numbers")
        };
        let mut n = 0;
        for line in pairs.lines() {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let (Some(candidate), Some(reference)) = (line[0].as_str(), line[1].as_str()) else { continue };
            let ours = rouge(candidate, reference);
            let [precision, recall, f1] = scores(&line);
            // Precision and recall are one division in both; the package's F1 is several roundings off.
            let bits = |numbers: [f64; 2]| numbers.map(f64::to_bits);
            assert_eq!(bits([ours.precision, ours.recall]), bits([precision, recall]), "{candidate:?} against {reference:?}");
            assert!((ours.f1 - f1).abs() < 1e-12, "{candidate:?} against {reference:?}: {} and {f1}", ours.f1);
            n += 1;
        }
        n
    }

    #[test]
    fn scores_are_those_of_rouge_score() {
        // rouge-score 0.1.2, made by `tests/compare/rouge golden`.
        assert_eq!(holds(include_str!("rouge/golden.jsonl")), 40);
    }

    #[test]
    #[ignore = "needs a file of scores: `tests/compare/rouge exam` makes it and runs this"]
    fn scores_of_a_file_are_rouge_scores() {
        let path = std::env::var("GRANARY_ROUGE_SCORES").expect("GRANARY_ROUGE_SCORES names a file");
        let pairs = std::fs::read_to_string(path).expect("a file of scores");
        let started = Instant::now();
        assert_eq!(holds(&pairs), pairs.lines().count());
        #[expect(clippy::print_stdout, reason = "what the comparison shows")]
        {
            println!(
                "{} pairs have the scores of rouge-score; cutting and comparing them took {:?}",
                pairs.lines().count(),
                started.elapsed()
            );
        }
    }

    proptest! {
        #[test]
        fn lengths_are_those_of_the_table(
            a in proptest::collection::vec(0_u32..12, 0..300),
            b in proptest::collection::vec(0_u32..12, 0..300),
            c in proptest::collection::vec(0_u32..12, 0..5),
        ) {
            let mut finder = Lcs::default();
            for (a, b) in [(&a, &b), (&b, &a), (&a, &a), (&a, &c), (&c, &c)] {
                prop_assert_eq!(finder.of(a, b), plain(a, b));
            }
            let long: Vec<u32> = a.iter().chain(&b).copied().cycle().take(3 * a.len()).collect();
            for a in [a.as_slice(), &b[..b.len().min(64)], &long, &c] {
                finder.hold(a, 12);
                prop_assert_eq!([a, &b, &c].map(|b| finder.with_held(a, b)), [a, &b, &c].map(|b| plain(a, b)));
                finder.release(a);
            }
        }

        #[test]
        fn numbers_are_those_of_equal_tokens(words in proptest::collection::vec("[a-c]{1,4}", 0..200)) {
            let mut vocabulary = Vocabulary::default();
            let numbers: Vec<u32> = words.iter().map(|word| vocabulary.number(word)).collect();
            for (word, number) in words.iter().zip(&numbers) {
                let first = words.iter().position(|other| other == word).expect("the word itself");
                prop_assert_eq!(*number, numbers[first]);
                prop_assert_eq!(vocabulary.token(*number as usize), word);
            }
        }

        #[test]
        fn tokens_are_the_text_without_what_separates(text in "\\PC{0,40}") {
            let tokens = Tokens::of(&text);
            prop_assert!(tokens.iter().all(|token| !token.is_empty()));
            let ascii = text.chars().all(|c| c.is_ascii() || !c.is_alphanumeric() && !is_combining_mark(c));
            if ascii {
                let expected: Vec<String> = text.to_lowercase().split(|c: char| !c.is_ascii_alphanumeric())
                    .filter(|token| !token.is_empty()).map(str::to_owned).collect();
                prop_assert_eq!(cut(&text), expected);
            }
        }
    }
}
