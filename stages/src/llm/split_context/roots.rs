//! How a document is cut into roots: paragraphs, and as many of their sentences as fit.

use std::ops::Range;

use super::ParagraphsAt;
use super::borders::{Borders, clauses, sentences};
use crate::text::cut::Chunker;
use crate::units::Chars;

/// Cuts documents.
pub(super) struct Cutter {
    pub(super) chunker: Chunker,
    pub(super) paragraphs: ParagraphsAt,
    /// Paragraphs of so many characters or fewer are left out.
    pub(super) min_paragraph_chars: u64,
    /// Nodes of so many characters or fewer are not asked about.
    pub(super) min_chars: u64,
}

/// The beginning of trees: a part of a document.
#[derive(Debug)]
pub(super) struct Root {
    /// Bytes of the document.
    pub(super) part: Range<usize>,
    /// Characters of the document before it.
    pub(super) chars_before: u64,
    /// Its characters.
    pub(super) chars: u64,
    /// Where it may be divided.
    pub(super) borders: Borders,
}

/// What a document was cut into, and how many of its characters are in no root.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub(super) roots: Vec<Root>,
    pub(super) in_roots: u64,
    pub(super) in_short_paragraphs: u64,
    pub(super) in_short_roots: u64,
    pub(super) without_letters: u64,
    pub(super) too_large: u64,
    /// Characters of the longest paragraph.
    pub(super) longest_paragraph: u64,
    /// Characters of the longest part that could have been a root.
    pub(super) longest_root: u64,
}

impl Cutter {
    /// The roots of a text.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub(super) fn cut(&self, text: &str) -> Result<Cut, String> {
        let mut cut = Cut::default();
        // Characters are counted once from the beginning on.
        let (mut counted, mut before) = (0, 0);
        for paragraph in paragraphs(text, self.paragraphs) {
            let chars = Chars::of(&text[paragraph.clone()]).get();
            cut.longest_paragraph = cut.longest_paragraph.max(chars);
            if chars <= self.min_paragraph_chars {
                cut.in_short_paragraphs += chars;
                continue;
            }
            let inside = &text[paragraph.clone()];
            let (sentences, clauses) = (sentences(inside), clauses(inside));
            let chunks = self.chunker.cut_at(inside, sentences.clone(), &clauses)?;
            let borders = Borders::new(sentences, clauses, paragraph.start);
            for chunk in chunks {
                let part = trimmed(text, paragraph.start + chunk.start..paragraph.start + chunk.end);
                if part.is_empty() {
                    continue;
                }
                let chars = Chars::of(&text[part.clone()]).get();
                // Larger than the most is only what a person sees as one character.
                if chunk.size > self.chunker.max {
                    cut.too_large += chars;
                    continue;
                }
                cut.longest_root = cut.longest_root.max(chars);
                if chars <= self.min_chars {
                    cut.in_short_roots += chars;
                    continue;
                }
                if !has_letters(&text[part.clone()]) {
                    cut.without_letters += chars;
                    continue;
                }
                before += Chars::of(&text[counted..part.start]).get();
                counted = part.start;
                cut.in_roots += chars;
                cut.roots.push(Root { borders: borders.within(&part), part, chars_before: before, chars });
            }
        }
        Ok(cut)
    }
}

/// Whether there is something to ask about.
pub(super) fn has_letters(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// A part without the white space at its ends.
pub(super) fn trimmed(text: &str, part: Range<usize>) -> Range<usize> {
    let inside = &text[part.clone()];
    let start = part.start + (inside.len() - inside.trim_start().len());
    let end = part.end - (inside.len() - inside.trim_end().len());
    start..end.max(start)
}

/// The paragraphs of a text that are not blank, without the white space around them.
fn paragraphs(text: &str, at: ParagraphsAt) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive(['\n', '\r', '\u{2028}', '\u{2029}', '\u{C}', '\u{85}', '\u{B}']) {
        let line_start = end;
        end += line.len();
        // `\r\n` is one end of a line: what stands between its two is no blank line.
        let is_blank = line.trim().is_empty() && !(line == "\n" && text[..line_start].ends_with('\r'));
        match at {
            ParagraphsAt::Lines => found.push(trimmed(text, line_start..end)),
            ParagraphsAt::BlankLines if is_blank => {
                found.push(trimmed(text, start..line_start));
                start = end;
            }
            ParagraphsAt::BlankLines => {}
        }
    }
    found.push(trimmed(text, start..if at == ParagraphsAt::Lines { start } else { end }));
    found.retain(|paragraph| !paragraph.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::cut::Unit;

    fn cut(text: &str, max: u64, min_paragraph_chars: u64, min_chars: u64) -> Cut {
        let chunker = Chunker { unit: Unit::Characters, max, overlap: 0 };
        Cutter { chunker, paragraphs: ParagraphsAt::Lines, min_paragraph_chars, min_chars }.cut(text).expect("roots")
    }

    fn roots<'t>(text: &'t str, cut: &Cut) -> Vec<&'t str> {
        cut.roots.iter().map(|root| &text[root.part.clone()]).collect()
    }

    #[test]
    fn paragraphs_are_lines_or_stand_between_blank_ones() {
        let text = " a\nb\r\n\r\nc \n \n\nd";
        let of = |at| paragraphs(text, at).into_iter().map(|part| &text[part]).collect::<Vec<_>>();
        assert_eq!(of(ParagraphsAt::Lines), ["a", "b", "c", "d"]);
        assert_eq!(of(ParagraphsAt::BlankLines), ["a\nb", "c", "d"]);
        assert!(paragraphs("", ParagraphsAt::Lines).is_empty());
        assert!(paragraphs(" \n ", ParagraphsAt::BlankLines).is_empty());
    }

    #[test]
    fn a_paragraph_of_the_least_length_is_left_out_and_one_longer_is_not() {
        let text = format!("{}\n{}", "x".repeat(100), "y".repeat(101));
        let cut = cut(&text, 500, 100, 20);
        assert_eq!(roots(&text, &cut), ["y".repeat(101)]);
        assert_eq!((cut.in_short_paragraphs, cut.longest_paragraph, cut.in_roots), (100, 101, 101));
        assert_eq!(cut.roots[0].chars_before, 101);
    }

    #[test]
    fn sentences_go_together_as_long_as_they_fit() {
        let text = "Aaaa bbbb cccc. Dddd eeee ffff. Gggg hhhh iiii.";
        assert_eq!(roots(text, &cut(text, 47, 0, 0)), [text]);
        assert_eq!(roots(text, &cut(text, 46, 0, 0)), ["Aaaa bbbb cccc. Dddd eeee ffff.", "Gggg hhhh iiii."]);
        let text = "第一句话在这里。第二句话也在这里！第三句？";
        let cut = cut(text, 17, 0, 0);
        assert_eq!(roots(text, &cut), ["第一句话在这里。第二句话也在这里！", "第三句？"]);
        assert_eq!(cut.roots[1].chars_before, 17);
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut_at_clauses_and_then_at_words() {
        // Published code gives an empty chunk first where the first sentence is too long, and then all of it.
        let text = "It rained all day, and then it snowed all through the night until the morning came at last.";
        assert_eq!(
            roots(text, &cut(text, 30, 0, 0)),
            ["It rained all day,", "and then it snowed all", "through the night until the", "morning came at last."]
        );
        // A clause of less than half of what fits is no reason to stop.
        let text = "Well, it snowed all through the night.";
        assert_eq!(roots(text, &cut(text, 30, 0, 0)), ["Well, it snowed all through", "the night."]);
        let text = "x".repeat(70);
        assert_eq!(roots(&text, &cut(&text, 30, 0, 0)), ["x".repeat(30), "x".repeat(30), "x".repeat(10)]);
    }

    #[test]
    fn what_nobody_is_asked_about_is_counted() {
        let text = format!("{}\n12345678901234567890\n123456789012345678901\ne{}", "!".repeat(40), "\u{301}".repeat(60));
        let cut = cut(&text, 50, 0, 20);
        assert_eq!(roots(&text, &cut), ["123456789012345678901"]);
        assert_eq!((cut.without_letters, cut.in_short_roots, cut.too_large, cut.in_roots), (40, 20, 61, 21));
    }
}
