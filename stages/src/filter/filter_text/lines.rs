//! What the lines and paragraphs of a text say of it.

use memchr::{memchr_iter, memmem};
use xxhash_rust::xxh3::xxh3_64;

use super::stats::{Stat, StatSet, Stats};
use crate::text::splitter::TERMINAL;
use crate::text::unicode::{is_in, is_space, split_lines, strip};
use crate::units::Chars;

/// Hashes of parts of a text; the buffer is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Seen {
    slots: Vec<u64>,
    n: usize,
}

const SLOTS: usize = 1 << 10;

/// Parts of a text that repeat one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Repeats {
    parts: u64,
    repeated: u64,
    chars: u64,
}

impl Seen {
    fn clear(&mut self) {
        self.slots.truncate(SLOTS);
        self.slots.fill(0);
        self.slots.resize(SLOTS, 0);
        self.n = 0;
    }

    /// Whether it is the first of its hash.
    fn insert(&mut self, hash: u64) -> bool {
        if self.n * 2 >= self.slots.len() {
            let slots = std::mem::take(&mut self.slots);
            self.slots.resize(slots.len() * 4, 0);
            for hash in slots.into_iter().filter(|hash| *hash != 0) {
                self.place(hash);
            }
        }
        let is_new = self.place(hash.max(1));
        self.n += usize::from(is_new);
        is_new
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower bits of a hash are as good as all")]
    fn place(&mut self, hash: u64) -> bool {
        let last = self.slots.len() - 1;
        let mut at = hash as usize & last;
        loop {
            match self.slots[at] {
                0 => {
                    self.slots[at] = hash;
                    return true;
                }
                found if found == hash => return false,
                _ => at = (at + 1) & last,
            }
        }
    }

    fn repeats<'a>(&mut self, parts: impl Iterator<Item = &'a str>) -> Repeats {
        self.clear();
        let mut repeats = Repeats::default();
        for part in parts {
            repeats.parts += 1;
            if !self.insert(xxh3_64(part.as_bytes())) {
                repeats.repeated += 1;
                repeats.chars += Chars::of(part).get();
            }
        }
        repeats
    }
}

/// The parts of `text` between two and more line feeds, or one and more.
fn between_line_feeds(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let run = memmem::Finder::new(&b"\n\n"[..least]);
    std::iter::from_fn(move || {
        let text = rest?;
        match run.find(text.as_bytes()) {
            None => rest.take(),
            Some(at) => {
                rest = Some(text[at..].trim_start_matches('\n'));
                Some(&text[..at])
            }
        }
    })
}

/// Gopher's repetition of lines and paragraphs.
pub(super) fn duplicates(text: &str, chars: f64, wanted: StatSet, seen: &mut Seen, stats: &mut Stats) {
    if wanted.has_any_of(&[Stat::DuplicateParagraphs, Stat::DuplicateParagraphChars]) {
        let found = seen.repeats(between_line_feeds(strip(text), 2));
        stats.set(Stat::DuplicateParagraphs, found.repeated as f64 / found.parts as f64);
        stats.set(Stat::DuplicateParagraphChars, found.chars as f64 / chars);
    }
    if wanted.has_any_of(&[Stat::DuplicateLines, Stat::DuplicateLineChars]) {
        // An empty part before the first line feed and one behind the last are lines of their own, in datatrove and so here.
        let found = seen.repeats(between_line_feeds(text, 1));
        stats.set(Stat::DuplicateLines, found.repeated as f64 / found.parts as f64);
        stats.set(Stat::DuplicateLineChars, found.chars as f64 / chars);
    }
}

/// Gopher's bullets and ellipses.
pub(super) fn bullets(text: &str, stats: &mut Stats) {
    let (mut lines, mut bullets, mut ellipses) = (0_u64, 0_u64, 0_u64);
    split_lines(text, |line| {
        let (start, end) = (line.trim_start_matches(is_space), line.trim_end_matches(is_space));
        lines += 1;
        bullets += u64::from(start.starts_with(['\u{2022}', '-']));
        ellipses += u64::from(end.ends_with("...") || end.ends_with('\u{2026}'));
    });
    let lines = lines.max(1) as f64;
    stats.set(Stat::BulletLines, bullets as f64 / lines);
    stats.set(Stat::EllipsisLines, ellipses as f64 / lines);
}

/// How many `#` a text has.
pub(super) fn hash_signs(text: &str) -> u64 {
    memchr_iter(b'#', text.as_bytes()).count() as u64
}

/// How many line feeds a text has.
pub(super) fn newlines(text: &str) -> u64 {
    memchr_iter(b'\n', text.as_bytes()).count() as u64
}

/// How many ellipses a text has.
pub(super) fn ellipses(text: &str) -> u64 {
    let count = |what: &str| memmem::find_iter(text.as_bytes(), what).count() as u64;
    count("...") + if text.is_ascii() { 0 } else { count("\u{2026}") }
}

/// FineWeb's rules of lines. Gives the number of lines that are not blank.
pub(super) fn fineweb(text: &str, chars: u64, newlines: u64, short: u64, wanted: StatSet, seen: &mut Seen, stats: &mut Stats) -> u64 {
    let lines = || text.split('\n').filter(|line| line.contains(|character| !is_space(character)));
    let (mut n, mut punctuated, mut n_short) = (0_u64, 0_u64, 0_u64);
    for line in lines() {
        n += 1;
        punctuated += u64::from(line.chars().next_back().is_some_and(|last| is_in(&TERMINAL, last)));
        n_short += u64::from(line.len() as u64 / 4 <= short && Chars::of(line).get() <= short);
    }
    let of_all = |lines: u64| if n == 0 { 0.0 } else { lines as f64 / n as f64 };
    stats.set(Stat::PunctuatedLines, of_all(punctuated));
    stats.set(Stat::ShortLines, of_all(n_short));
    if wanted.contains(Stat::RepeatedLineChars) {
        let found = seen.repeats(lines());
        stats.set(Stat::RepeatedLineChars, found.chars as f64 / (chars - newlines).max(1) as f64);
    }
    n
}

/// The characters of a text once it is in lower case, without ASCII punctuation, and with a space for each run of white space inside it.
pub(super) fn clean_chars(text: &str) -> u64 {
    let (mut chars, mut is_parted) = (0, false);
    let mut add = |count: u64, is_parted: &mut bool| {
        chars += count + u64::from(*is_parted && chars > 0);
        *is_parted = false;
    };
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii() {
            at += 1;
            if matches!(byte, 0x09..=0x0D | 0x1C..=0x20) {
                is_parted = true;
            } else if !byte.is_ascii_punctuation() {
                add(1, &mut is_parted);
            }
            continue;
        }
        let (character, length) = crate::text::words::character_at(bytes, at);
        at += length;
        if is_space(character) {
            is_parted = true;
        } else {
            add(character.to_lowercase().len() as u64, &mut is_parted);
        }
    }
    chars
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_lie_between_runs_of_line_feeds() {
        let parts = |text, least| between_line_feeds(text, least).collect::<Vec<_>>();
        // As Python's `re.split` gives them.
        assert_eq!(parts("a\nb\n\nc\n\n\n\nd", 2), ["a\nb", "c", "d"]);
        assert_eq!(parts("\na\n\nb\n", 1), ["", "a", "b", ""]);
        assert_eq!(parts("", 1), [""]);
        assert_eq!(parts("\n\n", 2), ["", ""]);
    }

    #[test]
    fn cleaning_leaves_letters_and_single_spaces() {
        assert_eq!(clean_chars("Hello,  World! 12"), 14); // "hello world 12", from the published code
        assert_eq!(clean_chars(" a - b\u{A0}\u{3000}c. "), 5); // "a b c"
        assert_eq!(clean_chars("…\u{201C}"), 2); // no ASCII punctuation
        assert_eq!(clean_chars("İ"), 2); // its lower case is two characters
        assert_eq!(clean_chars(" .,\n"), 0);
    }

    #[test]
    fn ellipses_are_counted_without_overlap() {
        assert_eq!(ellipses("...... a.. b…… ....."), 5);
        assert_eq!(ellipses("......."), 2);
    }

    proptest! {
        #[test]
        fn the_set_of_hashes_is_a_set(hashes in prop::collection::vec(prop_oneof![0_u64..500, any::<u64>()], 0..3000)) {
            let (mut seen, mut known) = (Seen::default(), HashSet::new());
            seen.clear();
            for hash in hashes {
                prop_assert_eq!(seen.insert(hash), known.insert(hash.max(1)));
            }
        }
    }
}
