//! Cutting matches out of a text.

use std::ops::Range;

use super::matches::merged;
use crate::Dropped;
use crate::units::Chars;

/// How a text is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scissors {
    /// Characters on either side of a match that go with it.
    pub(super) window: Chars,
    /// Fewest characters of a piece that is kept.
    pub(super) min_piece: Chars,
    /// Most pieces of a text that is kept.
    pub(super) max_pieces: usize,
}

/// So far white space is looked for, so that no word is cut in two; a text without any is cut between characters.
const TO_SPACE_CHARS: usize = 40;

impl Scissors {
    /// What is left of `text` between `matches`, which are in order: pieces without white space at their ends, none empty.
    pub(super) fn pieces(self, text: &str, matches: &[Range<usize>]) -> Vec<Range<usize>> {
        let window = usize::try_from(self.window.get()).unwrap_or(usize::MAX);
        let gone = merged(matches.iter().map(|of| before(text, of.start, window)..behind(text, of.end, window)));
        let starts = std::iter::once(0).chain(gone.iter().map(|gone| gone.end));
        let ends = gone.iter().map(|gone| gone.start).chain([text.len()]);
        let trimmed = |(start, end): (usize, usize)| {
            let start = end - text[start..end].trim_start().len();
            start..start + text[start..end].trim_end().len()
        };
        starts.zip(ends).map(trimmed).filter(|piece| !piece.is_empty()).collect()
    }

    /// The text made of its pieces.
    pub(super) fn join(self, text: &str, pieces: &[Range<usize>]) -> Result<String, Dropped> {
        if pieces.len() > self.max_pieces {
            return Err(Dropped::measured("too_many_pieces", pieces.len() as f64, self.max_pieces as f64));
        }
        let chars = |piece: &Range<usize>| Chars::of(&text[piece.clone()]);
        let left: Vec<&str> = pieces.iter().filter(|piece| chars(piece) >= self.min_piece).map(|piece| &text[piece.clone()]).collect();
        if left.is_empty() {
            let longest = pieces.iter().map(chars).max().unwrap_or(Chars::new(0));
            return Err(Dropped::measured("no_piece_left", longest.get() as f64, self.min_piece.get() as f64));
        }
        Ok(left.join("\n\n"))
    }
}

/// Where what is cut out begins, of a match that begins at `at`.
fn before(text: &str, at: usize, window: usize) -> usize {
    let Some(edge) = window.checked_sub(1) else { return at };
    let Some((start, _)) = text[..at].char_indices().rev().nth(edge) else { return 0 };
    if is_between_words(text, start) {
        return start;
    }
    let mut near = text[..start].char_indices().rev();
    match near.by_ref().take(TO_SPACE_CHARS).find(|(_, character)| character.is_whitespace()) {
        Some((space, _)) => space,
        None if near.next().is_none() => 0,
        None => start,
    }
}

/// Where it ends, of a match that ends at `at`.
fn behind(text: &str, at: usize, window: usize) -> usize {
    if window == 0 {
        return at;
    }
    let Some((end, _)) = text[at..].char_indices().nth(window) else { return text.len() };
    let end = at + end;
    if is_between_words(text, end) {
        return end;
    }
    let mut near = text[end..].char_indices();
    match near.by_ref().take(TO_SPACE_CHARS).find(|(_, character)| character.is_whitespace()) {
        Some((space, _)) => end + space,
        None if near.next().is_none() => text.len(),
        None => end,
    }
}

fn is_between_words(text: &str, at: usize) -> bool {
    text[..at].ends_with(char::is_whitespace) || text[at..].starts_with(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(window: u64, text: &'t str, found: &str) -> Vec<&'t str> {
        let scissors = Scissors { window: Chars::new(window), min_piece: Chars::new(1), max_pieces: 10 };
        let matches: Vec<_> = text.match_indices(found).map(|(at, found)| at..at + found.len()).collect();
        scissors.pieces(text, &matches).into_iter().map(|piece| &text[piece]).collect()
    }

    #[test]
    fn a_window_goes_on_to_white_space() {
        assert_eq!(pieces(0, "aa XX bb XX", "XX"), ["aa", "bb"]);
        assert_eq!(pieces(1, "aa bb XX cc dd", "XX"), ["aa bb", "cc dd"]);
        assert_eq!(pieces(2, "aa bb XX cc dd", "XX"), ["aa", "dd"]);
        assert_eq!(pieces(3, "aa bb XX cc dd", "XX"), ["aa", "dd"]);
        assert_eq!(pieces(4, "aa bb XX cc dd", "XX"), ["aa", "dd"]);
        assert_eq!(pieces(5, "aa bb XX cc dd", "XX"), Vec::<&str>::new());
        assert_eq!(pieces(3, "éé日本XX日本語ああ", "XX"), Vec::<&str>::new());
        let long = "日".repeat(100);
        assert_eq!(pieces(3, &format!("{long}XX{long}"), "XX"), ["日".repeat(97), "日".repeat(97)]);
        // Two windows that meet are one.
        assert_eq!(pieces(3, "aaaa bb XX c XX dd ee", "XX"), ["aaaa", "ee"]);
        assert_eq!(pieces(9, "XX", "XX"), Vec::<&str>::new());
    }

    #[test]
    fn short_pieces_go_and_many_are_too_many() {
        let scissors = |min_piece: u64, max_pieces: usize| Scissors { window: Chars::new(0), min_piece: Chars::new(min_piece), max_pieces };
        let text = "aé X bcd X e";
        let pieces = [0..3, 6..9, 12..13];
        assert_eq!(scissors(2, 3).join(text, &pieces), Ok("aé\n\nbcd".to_owned()));
        assert_eq!(scissors(3, 3).join(text, &pieces), Ok("bcd".to_owned()));
        assert_eq!(scissors(4, 3).join(text, &pieces), Err(Dropped::measured("no_piece_left", 3.0, 4.0)));
        assert_eq!(scissors(2, 2).join(text, &pieces), Err(Dropped::measured("too_many_pieces", 3.0, 2.0)));
        assert_eq!(scissors(0, 2).join("X", &[]), Err(Dropped::measured("no_piece_left", 0.0, 0.0)));
    }
}
