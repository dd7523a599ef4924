//! C4's rules: which lines of a text stay, and whether what is left is a text.

use memchr::memmem::{Finder, find};

use super::settings::C4;
use super::stats::{Stat, Stats};
use crate::text::lower::lower_case;
use crate::text::splitter::{Splitter, cut_at_white_space, utf8_chars};
use crate::text::unicode::{is_decimal_digit, split_lines, strip};

/// Source: `POLICY_SUBSTRINGS` of datatrove 0.10.1, after `c4_utils.py` of `tensorflow_datasets`.
const POLICIES: [&str; 6] = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];
const LOREM: &str = "lorem ipsum";
const JAVASCRIPT: &str = "javascript";

/// Why lines are removed: the names under which they are counted.
pub(super) const REMOVED: [&str; 5] = ["too_long_word", "no_terminal_punctuation", "too_few_words", "javascript", "policy"];

#[derive(Debug, Clone, Copy)]
enum Line {
    Removed(usize),
    LoremIpsum,
    CurlyBracket,
    Kept,
}

/// C4's rules, with what they search for.
#[derive(Debug)]
pub(super) struct Cleaner {
    settings: C4,
    max_word_chars: u64,
    min_line_words: u64,
    /// Whether sentences are counted.
    counts: bool,
    /// Whether texts that are dropped are gone through to their end.
    thorough: bool,
    phrases: Vec<Finder<'static>>,
}

/// Buffers and what came of a text.
#[derive(Debug, Default)]
pub(super) struct Cleaned {
    /// The lines that stay.
    text: String,
    /// Lines removed so far, by [`REMOVED`].
    pub(super) removed: [u64; REMOVED.len()],
    whole: Vec<u8>,
    lower: Vec<u8>,
    line: String,
}

impl Cleaned {
    /// The text that is left.
    pub(super) fn text(&self) -> &str {
        strip(&self.text)
    }

    /// Gives back buffers that a very long text has left.
    pub(super) fn shrink(&mut self) {
        const KEPT: usize = 1 << 22;
        self.text.clear();
        self.text.shrink_to(KEPT);
        self.line.clear();
        self.line.shrink_to(KEPT);
        for buffer in [&mut self.whole, &mut self.lower] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
    }
}

impl Cleaner {
    pub(super) fn new(settings: C4, counts: bool, thorough: bool) -> Self {
        let mut phrases = Vec::new();
        phrases.extend(settings.drop_lorem_ipsum.then_some(LOREM));
        phrases.extend(settings.remove_javascript_lines.then_some(JAVASCRIPT));
        phrases.extend(settings.remove_policy_lines.then_some(POLICIES).into_iter().flatten());
        Self {
            max_word_chars: settings.max_word_chars.threshold().unwrap_or(u64::MAX),
            min_line_words: settings.min_line_words.threshold().unwrap_or(0),
            counts,
            thorough,
            phrases: phrases.into_iter().map(Finder::new).collect(),
            settings,
        }
    }

    /// Cleans `text` into `cleaned`. Gives the reason if a line drops the whole text.
    pub(super) fn clean(&self, text: &str, splitter: &mut Splitter, cleaned: &mut Cleaned, stats: &mut Stats) -> Option<&'static str> {
        cleaned.text.clear();
        cleaned.whole.clear();
        lower_case(text, &mut cleaned.whole);
        let may_have_phrases = self.phrases.iter().any(|phrase| phrase.find(&cleaned.whole).is_some());
        let (mut lines, mut kept, mut sentences, mut reason) = (0_u64, 0_u64, 0, None);
        split_lines(text, |line| {
            if reason.is_some() && !self.thorough {
                return;
            }
            lines += 1;
            let Cleaned { text: left, removed, lower, line: buffer, .. } = &mut *cleaned;
            let mut line = strip(line);
            let fate = match self.count_words(line) {
                None => Line::Removed(0),
                Some(n_words) => {
                    let is_changed = self.settings.remove_citations && remove_citations(line, buffer);
                    if is_changed {
                        line = buffer.as_str();
                    }
                    self.fate(line, n_words, may_have_phrases || is_changed, lower)
                }
            };
            match fate {
                Line::Removed(why) => removed[why] += 1,
                Line::LoremIpsum => reason = reason.or(Some("lorem_ipsum")),
                Line::CurlyBracket => reason = reason.or(Some("curly_bracket")),
                Line::Kept => {
                    if self.counts {
                        sentences += splitter.count_sentences(line);
                    }
                    if kept > 0 {
                        left.push('\n');
                    }
                    left.push_str(line);
                    kept += 1;
                }
            }
        });
        stats.set(Stat::KeptLines, kept as f64 / lines.max(1) as f64);
        if self.counts && (reason.is_none() || self.thorough) {
            stats.set(Stat::NSentences, sentences as f64);
        }
        reason
    }

    /// How many words a line has; nothing if one is too long.
    fn count_words(&self, line: &str) -> Option<u64> {
        let (mut n_words, mut too_long) = (0, false);
        cut_at_white_space(line.as_bytes(), |word| {
            n_words += 1;
            too_long |= word.len() as u64 > self.max_word_chars && utf8_chars(word) > self.max_word_chars;
        });
        (!too_long).then_some(n_words)
    }

    /// What becomes of a line whose words are not too long. The order is datatrove's.
    fn fate(&self, line: &str, n_words: u64, may_have_phrases: bool, lower: &mut Vec<u8>) -> Line {
        if self.settings.terminal_punctuation && (!line.ends_with(['.', '?', '!', '"', '\'']) || line.ends_with("...")) {
            return Line::Removed(1);
        }
        if n_words < self.min_line_words {
            return Line::Removed(2);
        }
        let has_curly = self.settings.drop_curly_brackets && line.contains('{');
        if !may_have_phrases {
            return if has_curly { Line::CurlyBracket } else { Line::Kept };
        }
        lower.clear();
        lower_case(line, lower);
        let says = |is_on: bool, phrase: &str| is_on && find(lower, phrase.as_bytes()).is_some();
        if says(self.settings.drop_lorem_ipsum, LOREM) {
            Line::LoremIpsum
        } else if says(self.settings.remove_javascript_lines, JAVASCRIPT) {
            Line::Removed(3)
        } else if has_curly {
            Line::CurlyBracket
        } else if POLICIES.iter().any(|policy| says(self.settings.remove_policy_lines, policy)) {
            Line::Removed(4)
        } else {
            Line::Kept
        }
    }
}

/// Writes `line` without `[12]`, `[]`, `[edit]` and `[citation needed]`, and says whether it had any; else `without` holds nothing of use.
fn remove_citations(line: &str, without: &mut String) -> bool {
    if !line.contains('[') {
        return false;
    }
    without.clear();
    let mut rest = line;
    while let Some(at) = rest.find('[') {
        let (before, behind) = (&rest[..at], &rest[at + 1..]);
        let behind_digits = behind.trim_start_matches(is_decimal_digit);
        let end =
            behind_digits.strip_prefix(']').or_else(|| behind.strip_prefix("edit]")).or_else(|| behind.strip_prefix("citation needed]"));
        without.push_str(before);
        if end.is_none() {
            without.push('[');
        }
        rest = end.unwrap_or(behind);
    }
    without.push_str(rest);
    without.len() != line.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::splitter::WordRules;

    fn clean(settings: C4, text: &str) -> (Option<&'static str>, String, [u64; REMOVED.len()], f64) {
        let (mut cleaned, mut stats) = (Cleaned::default(), Stats::NONE);
        let cleaner = Cleaner::new(settings, true, false);
        let reason = cleaner.clean(text, &mut Splitter::new(WordRules::Uax29), &mut cleaned, &mut stats);
        (reason, cleaned.text().to_owned(), cleaned.removed, stats.get(Stat::NSentences))
    }

    #[test]
    fn citations_go_and_other_brackets_stay() {
        let without = |line: &str| {
            let mut without = String::new();
            if remove_citations(line, &mut without) { without } else { line.to_owned() }
        };
        assert_eq!(without("A[1]b[][12] c[edit]d[citation needed]."), "Ab cd.");
        assert_eq!(without("a[٣]b"), "ab"); // Arabic digits are digits to `\d`
        assert_eq!(without("[[1]] [1 [x] [edit [Edit]"), "[] [1 [x] [edit [Edit]");
        assert_eq!(without("none"), "none");
    }

    #[test]
    fn each_rule_removes_its_lines_in_its_order() {
        let text = "This line is kept.\r\nno end\nno end...\nToo short.\n  We use JavaScript here!\nRead our Privacy Policy now.\nIt ends \"so\"\nIt says this[1].\nAs said. [2]\n";
        let (reason, left, removed, sentences) = clean(C4::default(), text);
        assert_eq!((reason, left.as_str()), (None, "This line is kept.\nIt ends \"so\"\nIt says this."));
        // `As said. [2]` ends with a space once the citation is gone: no mark ends it, as in datatrove.
        assert_eq!((removed, sentences), ([0, 3, 1, 1, 1], 3.0));

        let long = format!("A {} word.\nA {} word.", "é".repeat(1000), "é".repeat(1001));
        assert_eq!(clean(C4::default(), &long).2, [1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_drops_a_text_counts_only_in_lines_that_stay() {
        let drops = |text: &str| clean(C4::default(), text).0;
        assert_eq!(drops("Here is Lorem Ipsum text."), Some("lorem_ipsum"));
        assert_eq!(drops("lorem ipsum without an end\nThis is said."), None);
        assert_eq!(drops("Here is a { bracket."), Some("curly_bracket"));
        assert_eq!(drops("Here is javascript { code."), None); // the line goes before its bracket is looked at
        assert_eq!(drops("Our terms of use { say."), Some("curly_bracket")); // the bracket is looked at first
        assert_eq!(drops("This is Java[1]Script code."), None);
        assert_eq!(clean(C4::default(), "This is Java[1]Script code.").2, [0, 0, 0, 1, 0]);
        let off = C4 { drop_curly_brackets: false, drop_lorem_ipsum: false, ..C4::default() };
        assert_eq!(clean(off, "A { of lorem ipsum.").1, "A { of lorem ipsum.");
        // K is the sign of Kelvin, whose lower case is the letter.
        assert_eq!(clean(C4::default(), "It uses coo\u{212A}ies here.").2, [0, 0, 0, 0, 1]);
    }
}
