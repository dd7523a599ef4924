//! The lines or paragraphs of a text, and the text without some of them.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LineUnit {
    /// What ends with a line feed; carriage returns before it belong to the break.
    #[default]
    Lines,
    /// Lines between blank ones, with the breaks inside.
    Paragraphs,
}

/// A line or a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its bytes, without the line break that ends it.
    pub(super) body: Range<usize>,
    /// Where the next one begins: up to there is what stands between the two.
    pub(super) next: usize,
}

impl LineUnit {
    /// The pieces of `text` in order. Blank lines are lines, but no part of a paragraph's ends.
    pub(super) fn pieces(self, text: &str) -> Pieces<'_> {
        Pieces { unit: self, text, at: 0 }
    }
}

/// The pieces of a text; none of them is held in memory, as a text may be all line breaks.
pub(super) struct Pieces<'t> {
    unit: LineUnit,
    text: &'t str,
    /// Where the next line begins.
    at: usize,
}

impl Pieces<'_> {
    /// The line that begins at `at`; the text does not end there.
    fn line(&self, at: usize) -> Piece {
        let line = self.text[at..].split_inclusive('\n').next().unwrap_or_default();
        let body = line.strip_suffix('\n').map_or(line, |line| line.trim_end_matches('\r'));
        Piece { body: at..at + body.len(), next: at + line.len() }
    }

    fn is_blank(&self, line: &Piece) -> bool {
        self.text[line.body.clone()].trim_start().is_empty()
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.unit == LineUnit::Lines {
            let line = (self.at < self.text.len()).then(|| self.line(self.at))?;
            self.at = line.next;
            return Some(line);
        }
        let mut paragraph: Option<Piece> = None;
        let mut is_over = false;
        while self.at < self.text.len() {
            let line = self.line(self.at);
            match (self.is_blank(&line), &mut paragraph) {
                (true, None) => {}
                (true, Some(open)) => {
                    is_over = true;
                    open.next = line.next;
                }
                (false, Some(_)) if is_over => break,
                (false, Some(open)) => *open = Piece { body: open.body.start..line.body.end, next: line.next },
                (false, none) => *none = Some(line.clone()),
            }
            self.at = line.next;
        }
        paragraph
    }
}

/// Makes a text without some of its pieces, which are told one by one.
///
/// Between two that stay stands what stood behind the first of them, and the text ends as it did, so that nothing is glued together and a text
/// that ended with a line break still does. With none kept, nothing is left. As long as all are kept, nothing is copied.
pub(super) struct Rest<'t, 'o> {
    text: &'t str,
    out: &'o mut String,
    /// What stands before the first piece ends here.
    lead: Option<usize>,
    /// The last piece that was kept.
    kept: Option<Piece>,
    /// Where the bytes begin that are kept and not copied yet; they end with that piece.
    from: usize,
    /// Whether a piece behind that one is gone.
    has_gap: bool,
    is_changed: bool,
    /// Where the last piece ends.
    end: usize,
}

impl<'t, 'o> Rest<'t, 'o> {
    /// The text is made in `out`, in place of what that holds.
    pub(super) fn new(text: &'t str, out: &'o mut String) -> Self {
        out.clear();
        Self { text, out, lead: None, kept: None, from: 0, has_gap: false, is_changed: false, end: 0 }
    }

    /// The next piece, and whether it goes.
    pub(super) fn piece(&mut self, piece: &Piece, goes: bool) {
        self.lead.get_or_insert(piece.body.start);
        self.end = piece.body.end;
        if goes {
            (self.has_gap, self.is_changed) = (true, true);
            return;
        }
        if std::mem::take(&mut self.has_gap) {
            match &self.kept {
                Some(kept) => self.out.push_str(&self.text[self.from..kept.next]),
                None => self.out.push_str(&self.text[..self.lead.unwrap_or_default()]),
            }
            self.from = piece.body.start;
        }
        self.kept = Some(piece.clone());
    }

    /// Whether any piece is gone; only then is there a text in `out`.
    pub(super) fn finish(self) -> bool {
        if let Some(kept) = self.kept.filter(|_| self.is_changed) {
            self.out.push_str(&self.text[self.from..kept.body.end]);
            self.out.push_str(&self.text[self.end..]);
        }
        self.is_changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(unit: LineUnit, text: &str) -> Vec<&str> {
        let pieces = unit.pieces(text).collect::<Vec<_>>();
        assert!(pieces.windows(2).all(|two| two[0].body.end <= two[0].next && two[0].next == two[1].body.start));
        pieces.into_iter().map(|piece| &text[piece.body]).collect()
    }

    /// The text without the pieces that go.
    fn left(unit: LineUnit, text: &str, mut goes: impl FnMut(&str) -> bool) -> String {
        let mut out = "before".to_owned();
        let mut rest = Rest::new(text, &mut out);
        unit.pieces(text).for_each(|piece| rest.piece(&piece, goes(&text[piece.body.clone()])));
        if rest.finish() { out } else { text.to_owned() }
    }

    fn without(unit: LineUnit, text: &str, gone: &str) -> String {
        left(unit, text, |piece| piece == gone)
    }

    #[test]
    fn lines_end_at_both_kinds_of_breaks_and_not_at_a_lone_carriage_return() {
        assert_eq!(cut(LineUnit::Lines, "a\r\n\nb\rc\n d "), ["a", "", "b\rc", " d "]);
        assert_eq!(cut(LineUnit::Lines, "a\n"), ["a"]);
        assert_eq!(cut(LineUnit::Lines, "\n\n"), ["", ""]);
        assert_eq!(cut(LineUnit::Lines, ""), Vec::<&str>::new());
    }

    #[test]
    fn paragraphs_stand_between_blank_lines() {
        assert_eq!(cut(LineUnit::Paragraphs, "\n a\nb \n \t\n\u{a0}\nc\r\n\r\nd"), [" a\nb ", "c", "d"]);
        assert_eq!(cut(LineUnit::Paragraphs, "a\r\nb\r\n"), ["a\r\nb"]);
        assert_eq!(cut(LineUnit::Paragraphs, " \n\n"), Vec::<&str>::new());
    }

    #[test]
    fn what_is_left_is_not_glued_together_and_ends_as_the_text_did() {
        let lines = |text: &str| without(LineUnit::Lines, text, "x");
        assert_eq!(lines("a\nx\nb"), "a\nb");
        assert_eq!(lines("x\na\nb\n"), "a\nb\n");
        assert_eq!(lines("a\r\nb\nx"), "a\r\nb");
        assert_eq!(lines("a\nb\r\nx\n"), "a\nb\n");
        assert_eq!(lines("a\nb\nx\nx\n"), "a\nb\n");
        assert_eq!(lines("a\n\nx\n\nb"), "a\n\n\nb");
        assert_eq!(lines("x"), "");
        assert_eq!(lines("x\n\n"), "\n");
        assert_eq!(lines(""), "");
        let paragraphs = |text: &str| without(LineUnit::Paragraphs, text, "x");
        assert_eq!(paragraphs("\n\na\n\nx\n \nb\nc\n\n"), "\n\na\n\nb\nc\n\n");
        assert_eq!(paragraphs("a\n\n\nb\n\nx"), "a\n\n\nb");
        assert_eq!(paragraphs("x\n\na"), "a");
        assert_eq!(paragraphs("\n \n"), "\n \n");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_there_is_to_cut_again(text in "[ab \r\n]{0,40}", unit in 0..2_usize, keep in proptest::collection::vec(any::<bool>(), 40)) {
            let unit = [LineUnit::Lines, LineUnit::Paragraphs][unit];
            prop_assert_eq!(&left(unit, &text, |_| false), &text);
            let mut keeps = keep.iter();
            let found = left(unit, &text, |_| !keeps.next().expect("as many as characters"));
            // Of lines, those with something in them: a blank one at the end may be what ends the line before it.
            let said = |pieces: Vec<&str>| pieces.into_iter().filter(|body| !body.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let kept = cut(unit, &text).into_iter().zip(&keep).filter(|(_, kept)| **kept).map(|(body, _)| body);
            prop_assert_eq!(said(cut(unit, &found)), said(kept.collect()));
        }
    }
}
