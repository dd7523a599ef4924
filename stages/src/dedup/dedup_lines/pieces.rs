//! The lines or paragraphs of a text, and the text without some of them.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LineUnit {
    /// What ends with a line feed, or with a carriage return and a line feed.
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
    /// Lists the pieces of `text` in order, in place of what `pieces` held. Blank lines are lines, but no part of a paragraph's ends.
    pub(super) fn cut(self, text: &str, pieces: &mut Vec<Piece>) {
        pieces.clear();
        let mut at = 0;
        // Whether a blank line stands between the last paragraph and this line.
        let mut is_apart = true;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            let body = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            let line = start..start + body.len();
            match self {
                Self::Lines => pieces.push(Piece { body: line, next: at }),
                Self::Paragraphs if body.trim_start().is_empty() => {
                    is_apart = true;
                    pieces.iter_mut().next_back().into_iter().for_each(|last| last.next = at);
                }
                Self::Paragraphs => {
                    match pieces.last_mut().filter(|_| !is_apart) {
                        Some(last) => (last.body.end, last.next) = (line.end, at),
                        None => pieces.push(Piece { body: line, next: at }),
                    }
                    is_apart = false;
                }
            }
        }
    }
}

/// `text` without the pieces that are not in `kept`. Between two that stay stands what stood behind the first of them, and the text ends as it
/// did, so that nothing is glued together and a text that ended with a line break still does. With none kept, nothing is left.
pub(super) fn text_of(text: &str, pieces: &[Piece], kept: &[bool], out: &mut String) {
    out.clear();
    let Some((first, last)) = pieces.first().zip(pieces.last()) else { return out.push_str(text) };
    let mut between: Option<Range<usize>> = None;
    for (piece, _) in pieces.iter().zip(kept).filter(|(_, kept)| **kept) {
        let before = between.replace(piece.body.end..piece.next).unwrap_or(0..first.body.start);
        out.push_str(&text[before]);
        out.push_str(&text[piece.body.clone()]);
    }
    if between.is_some() {
        out.push_str(&text[last.body.end..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(unit: LineUnit, text: &str) -> Vec<&str> {
        let mut pieces = vec![Piece { body: 3..4, next: 5 }];
        unit.cut(text, &mut pieces);
        pieces.iter().map(|piece| &text[piece.body.clone()]).collect()
    }

    /// The text without the pieces that say `gone`.
    fn without(unit: LineUnit, text: &str, gone: &str) -> String {
        let (mut pieces, mut out) = (Vec::new(), "before".to_owned());
        unit.cut(text, &mut pieces);
        let kept: Vec<bool> = pieces.iter().map(|piece| &text[piece.body.clone()] != gone).collect();
        text_of(text, &pieces, &kept, &mut out);
        out
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
            let mut pieces = Vec::new();
            unit.cut(&text, &mut pieces);
            let mut left = String::new();
            text_of(&text, &pieces, &vec![true; pieces.len()], &mut left);
            prop_assert_eq!(&left, &text);
            // Of lines, those with something in them: a blank one at the end may be what ends the line before it.
            let said = |text: &str| cut(unit, text).into_iter().filter(|body| !body.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>();
            text_of(&text, &pieces, &keep[..pieces.len()], &mut left);
            let bodies = pieces.iter().zip(&keep).filter(|(_, kept)| **kept).map(|(piece, _)| text[piece.body.clone()].to_owned());
            prop_assert_eq!(said(&left), bodies.filter(|body| !body.trim().is_empty()).collect::<Vec<_>>());
        }
    }
}
