//! Where a text may be divided: behind sentences, behind clauses, between words.

use std::ops::Range;

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::text::cut::sentence_ends;
use crate::units::Chars;

/// Characters that a part has at least before it counts as one: `Yes.` belongs to the sentence behind it.
const LEAST_PART: u64 = 8;

/// Places in a text, bytes from its beginning, in order.
#[derive(Debug, Default)]
pub(super) struct Borders {
    sentences: Vec<usize>,
    clauses: Vec<usize>,
}

impl Borders {
    /// Where sentences and clauses of a paragraph end that begins at `offset` of its document: places are those of the document.
    pub(super) fn new(mut sentences: Vec<usize>, mut clauses: Vec<usize>, offset: usize) -> Self {
        for ends in [&mut sentences, &mut clauses] {
            ends.iter_mut().for_each(|end| *end += offset);
        }
        Self { sentences, clauses }
    }

    /// Those of a whole text.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self::new(sentences(text), clauses(text), 0)
    }

    /// Those within a part of the document.
    pub(super) fn within(&self, part: &Range<usize>) -> Self {
        let inside = |ends: &[usize]| {
            let from = ends.partition_point(|&end| end <= part.start);
            let to = ends.partition_point(|&end| end < part.end);
            ends[from..to.max(from)].to_vec()
        };
        Self { sentences: inside(&self.sentences), clauses: inside(&self.clauses) }
    }

    /// Where the part `node` of `text` may be divided in two: behind a sentence or, where it is one, behind a clause; where that is one too, between
    /// the words nearest to its middle. Nothing where it has no such place.
    pub(super) fn choices(&self, text: &str, node: &Range<usize>) -> Vec<usize> {
        let inside = self.within(node);
        for ends in [inside.sentences, inside.clauses] {
            let ends = of_some_length(text, node, ends);
            if !ends.is_empty() {
                return ends;
            }
        }
        between_words(&text[node.clone()]).map(|at| node.start + at).into_iter().collect()
    }
}

/// Those of `ends` between parts that are long enough to count as one.
fn of_some_length(text: &str, node: &Range<usize>, ends: Vec<usize>) -> Vec<usize> {
    let is_short = |part: Range<usize>| Chars::of(text[part].trim()).get() < LEAST_PART;
    let mut kept: Vec<usize> = Vec::with_capacity(ends.len());
    let mut start = node.start;
    for end in ends {
        if !is_short(start..end) {
            kept.push(end);
            start = end;
        }
    }
    if kept.last().is_some_and(|&last| is_short(last..node.end)) {
        kept.pop();
    }
    kept
}

/// Where sentences end by the rules of Unicode (UAX #29), the text's end among them; but not behind `Dr.`, `e.g.` or `J.`
pub(super) fn sentences(text: &str) -> Vec<usize> {
    let mut ends = sentence_ends(text);
    ends.retain(|&end| end == text.len() || (!is_abbreviated(&text[..end]) && is_grapheme(text, end)));
    ends
}

/// Words that end with a full stop and seldom a sentence with them.
const ABBREVIATIONS: [&str; 42] = [
    "Adm", "Apr", "Aug", "Brig", "Capt", "Cmdr", "Col", "Dec", "Dr", "Eq", "Feb", "Fig", "Figs", "Gen", "Gov", "Hon", "Jan", "Lt", "Maj",
    "Mr", "Mrs", "Ms", "Mt", "Nos", "Nov", "Oct", "Prof", "Rep", "Rev", "Sec", "Sen", "Sept", "Sgt", "St", "Vol", "al", "approx", "cf",
    "pp", "resp", "viz", "vs",
];

/// Whether what ends here is an abbreviation or an initial.
fn is_abbreviated(before: &str) -> bool {
    // No abbreviation is longer, and the whole of a long text would be looked through for each of its full stops.
    let before = before.trim_end();
    let before = &before[before.ceil_char_boundary(before.len().saturating_sub(24))..];
    let Some(word) = before.strip_suffix('.') else { return false };
    let word = word.rsplit(char::is_whitespace).next().unwrap_or(word).trim_start_matches(OPENING);
    let is_letter = |part: &str| {
        let mut characters = part.chars();
        characters.next().is_some_and(|letter| letter.is_uppercase() || letter.is_lowercase()) && characters.next().is_none()
    };
    ABBREVIATIONS.binary_search(&word).is_ok() || word.split('.').all(is_letter)
}

const OPENING: [char; 8] = ['(', '[', '{', '"', '\'', '“', '‘', '«'];

/// What closes behind a mark and belongs to what stands before it.
const CLOSING: [char; 14] = [')', ']', '}', '"', '\'', '”', '’', '»', '」', '』', '）', '》', '〉', '】'];

/// Where clauses end: behind a comma and its like, with what closes there. `1,000`, `12:30` and `a—b` are seen for what they are: the first two are
/// no borders.
pub(super) fn clauses(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut before = '\0';
    let mut characters = text.char_indices().peekable();
    while let Some((_, character)) = characters.next() {
        let ends_alone = matches!(character, '—' | '，' | '；' | '：' | '、' | '…');
        let ends_before_space =
            matches!(character, ',' | ';' | ':' | '\u{60C}' | '\u{61B}') || (character == '–' && before.is_whitespace());
        before = character;
        if !ends_alone && !ends_before_space {
            continue;
        }
        while let Some((_, closing)) = characters.next_if(|(_, next)| CLOSING.contains(next) || (ends_alone && *next == character)) {
            before = closing;
        }
        let mut is_spaced = false;
        while let Some((_, space)) = characters.next_if(|(_, next)| next.is_whitespace()) {
            is_spaced = true;
            before = space;
        }
        let Some(&(next, following)) = characters.peek() else { break };
        if (ends_alone || is_spaced || stands_without_spaces(following)) && is_grapheme(text, next) {
            ends.push(next);
        }
    }
    ends
}

/// Whether a character is of a script that has no spaces between words: from the CJK radicals on, and the scripts of South East Asia.
fn stands_without_spaces(character: char) -> bool {
    character >= '\u{2E80}' || matches!(character, '\u{E00}'..='\u{EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}')
}

/// Whether what a person sees as one character ends here.
fn is_grapheme(text: &str, at: usize) -> bool {
    // An error means that more of the text is wanted, and this is all of it.
    GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(true)
}

/// The place between two words that is nearest to the middle, counted in characters: behind white space, or between letters where words follow each
/// other without.
pub(super) fn between_words(text: &str) -> Option<usize> {
    let middle = Chars::of(text).get();
    let (mut best, mut passed) = (None::<(u64, usize)>, 0_u64);
    let mut previous: Option<char> = None;
    for (at, word) in text.split_word_bound_indices() {
        let first = word.chars().next();
        let is_border = previous.zip(first).is_some_and(|(previous, first)| {
            (previous.is_whitespace() && !first.is_whitespace()) || (previous.is_alphanumeric() && first.is_alphanumeric())
        });
        if is_border && is_grapheme(text, at) {
            // In half characters, so that the middle of an odd number has a place.
            let distance = (passed * 2).abs_diff(middle);
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, at));
            }
        }
        passed += Chars::of(word).get();
        previous = word.chars().next_back();
    }
    best.map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'t>(text: &'t str, ends: &[usize]) -> Vec<&'t str> {
        let mut start = 0;
        let mut parts = Vec::new();
        for &end in ends.iter().chain((ends.last() != Some(&text.len())).then_some(&text.len())) {
            parts.push(text[start..end].trim());
            start = end;
        }
        parts
    }

    #[test]
    fn the_abbreviations_are_sorted() {
        assert!(ABBREVIATIONS.is_sorted());
    }

    #[test]
    fn sentences_do_not_end_behind_abbreviations() {
        let text = "Dr. J. R. Smith (b. 1950) met Gen. Lee, e.g. in the U.S. Army. He said: “No.” Then 3.5 km on. \"Why?\" Because!";
        assert_eq!(
            parts(text, &sentences(text)),
            ["Dr. J. R. Smith (b. 1950) met Gen. Lee, e.g. in the U.S. Army.", "He said: “No.”", "Then 3.5 km on.", "\"Why?\"", "Because!"]
        );
        let text = "他说：“你好。”然后走了！真的吗？是的。End";
        assert_eq!(parts(text, &sentences(text)), ["他说：“你好。”", "然后走了！", "真的吗？", "是的。", "End"]);
        assert!(sentences("").is_empty());
    }

    #[test]
    fn clauses_end_at_marks_that_stand_for_a_pause() {
        let text = "On 1,000 days, at 12:30 (or so), it rained; see http://a.b/c: yes — really – 1990–95, he said,“no”…… 他说，你好、再见";
        assert_eq!(
            parts(text, &clauses(text)),
            [
                "On 1,000 days,",
                "at 12:30 (or so),",
                "it rained;",
                "see http://a.b/c:",
                "yes —",
                "really –",
                "1990–95,",
                "he said,“no”……",
                "他说，",
                "你好、",
                "再见"
            ]
        );
        assert!(clauses("only, ").is_empty());
        assert_eq!(parts("中文,逗号", &clauses("中文,逗号")), ["中文,", "逗号"]);
    }

    #[test]
    fn the_middle_is_between_the_words_nearest_to_it() {
        let halves = |text: &'static str| between_words(text).map(|at| text.split_at(at));
        assert_eq!(halves("one two three four"), Some(("one two ", "three four")));
        assert_eq!(halves("a supercalifragilistic"), Some(("a ", "supercalifragilistic")));
        assert_eq!(halves("日本語の文章"), Some(("日本語", "の文章")));
        for none in ["supercalifragilistic", "....................", "👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦", "", "e\u{301}e\u{301}e\u{301}", "a.b/c?d=e&f-g"]
        {
            assert_eq!(halves(none), None, "{none}");
        }
    }

    #[test]
    fn a_part_is_divided_at_the_largest_border_it_has() {
        let text = "Yes. It rained, and it snowed. No wind blew there today.";
        let borders = Borders::of(text);
        let choices = |node: Range<usize>| borders.choices(text, &node).into_iter().map(|at| &text[at..at + 3]).collect::<Vec<_>>();
        // `Yes.` is too short to be a part.
        assert_eq!(choices(0..text.len()), ["No "]);
        assert_eq!(choices(0..30), ["and"]);
        assert_eq!(choices(31..text.len()), ["the"]);
    }

    #[test]
    fn places_are_those_of_the_document() {
        let text = "xx One is here. Two is there.";
        let borders = Borders::new(sentences(&text[3..]), clauses(&text[3..]), 3);
        assert_eq!(borders.choices(text, &(3..text.len())), [16]);
    }
}
