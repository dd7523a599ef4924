//! Words as spaCy's English tokenizer cuts them (3.8, `spacy.blank("en")`), which is what datatrove's English filters count.
//!
//! A text is cut at white space. From what stands between, prefixes and suffixes are taken off until what is left is an exception (`don't`, `e.g.`,
//! `:-)`), or has none; that is cut at infixes, unless it reads as a URL. In the end exceptions that were cut, as `Mr.` is in `wait...Mr.`, are put
//! together again wherever their tokens stand side by side. `spacy_en/tables.txt` holds the sets of characters and the exceptions;
//! `spacy_en/make_tables.py` writes it from an installed spaCy.
//!
//! Tokens of white space are not given, as datatrove drops them: it strips tokens and keeps what is not empty, and no other token has white space
//! in it. Texts of any length are taken; spaCy refuses those of 2³⁰ characters.
//!
//! What differs: where spaCy stumbles over the token `IS_ALPHA`, as it does from the second time on, datatrove takes it out of the whole text. Here
//! it is a word. In a URL's scheme (`abc://`), letters that Unicode got after the version that `tables.txt` names are letters, too.
//!
//! `tests/compare/words` holds the words against spaCy's. Last done with spaCy 3.8.18 and datatrove 0.10.0, on 12,354 files (e-mail, speeches, novels,
//! manuals in 26 languages, HTML, Rust, Python, C, licences, change logs; 84 MB, 14.3 million words) and 300,000 generated strings: one file
//! differs, which has `IS_ALPHA` in it.
//!
//! Source: the algorithm as `spacy/tokenizer.pyx` documents it, <https://spacy.io/usage/linguistic-features#how-tokenizer-works>; the data
//! `spacy/lang/{char_classes,punctuation,tokenizer_exceptions}.py` and `spacy/lang/en`, MIT licence.

mod tables;
mod url;

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::LazyLock;

use super::words::character_at;
use tables::{ALPHA, BEFORE_DOT, Class, DIGIT, ICON, LOWER, MARK, PREFIX, Piece, QUOTE, SPACE, SUFFIX, Tables, UNIT_END, UPPER};

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables::new(sequence));

/// Finds spaCy's English tokens; buffers are used again for the next text.
#[derive(Debug, Default)]
pub(crate) struct SpacyEn {
    /// Where the suffixes of a chunk begin, the last one first.
    suffixes: Vec<usize>,
    pending: Pending,
}

/// Tokens that may be parts of exceptions, side by side or with one space between.
#[derive(Debug, Default)]
struct Pending {
    tokens: Vec<(Range<usize>, Piece)>,
    /// Which of them are sequences that exceptions look like.
    spans: Vec<Range<usize>>,
    is_taken: Vec<bool>,
}

impl SpacyEn {
    /// Calls `found` with the bytes of each token of `text`, in order.
    pub(crate) fn cut(&mut self, text: &str, mut found: impl FnMut(Range<usize>)) {
        let tables = &*TABLES;
        let Self { suffixes, pending } = self;
        let mut at = 0;
        loop {
            let start = skip_spaces(tables, text, at);
            // Anything but a single space is a token between.
            if text.as_bytes()[at..start] != *b" " || start == text.len() {
                pending.flush(tables, text, &mut found);
            }
            if start == text.len() {
                return;
            }
            let (end, seen) = chunk_end(tables, text, start);
            // Letters alone, which most are, are cut by exceptions only, and few of them are known at all.
            if seen & (MARK | DIGIT) != 0 {
                cut_chunk(tables, suffixes, text, start..end, seen, &mut |token| pending.take(tables, text, token, &mut found));
            } else if tables.word(&text.as_bytes()[start..end]).is_none() {
                pending.flush(tables, text, &mut found);
                found(start..end);
            } else if !give_parts(tables, text, start..end, &mut |token| pending.take(tables, text, token, &mut found)) {
                pending.take(tables, text, start..end, &mut found);
            }
            at = end;
        }
    }
}

impl Pending {
    #[inline]
    fn take(&mut self, tables: &Tables, text: &str, token: Range<usize>, found: &mut impl FnMut(Range<usize>)) {
        match tables.word(&text.as_bytes()[token.clone()]).map_or(0, |word| word.piece) {
            0 => {
                self.flush(tables, text, found);
                found(token);
            }
            piece => self.tokens.push((token, piece)),
        }
    }

    /// Gives the tokens, with exceptions put together that were cut.
    #[inline]
    fn flush(&mut self, tables: &Tables, text: &str, found: &mut impl FnMut(Range<usize>)) {
        if self.tokens.len() > 1 {
            self.join(tables, text, found);
        } else if let Some((token, _)) = self.tokens.pop() {
            found(token);
        }
    }

    fn join(&mut self, tables: &Tables, text: &str, found: &mut impl FnMut(Range<usize>)) {
        self.spans.clear();
        for start in 0..self.tokens.len() {
            let mut node = 0;
            for (end, (_, piece)) in self.tokens.iter().enumerate().skip(start) {
                let Some((next, is_end)) = tables.step(node, *piece) else { break };
                self.spans.extend(is_end.then_some(start..end + 1));
                node = next;
            }
        }
        // The longest first, then the first. One that is not taken is still in the way of others, and so is one that has a space in it and is no
        // exception for that.
        self.spans.sort_unstable_by_key(|span| (Reverse(span.len()), span.start));
        self.is_taken.clear();
        self.is_taken.resize(self.tokens.len(), false);
        let is_taken = &mut self.is_taken;
        self.spans.retain(|span| {
            let is_free = !is_taken[span.start] && !is_taken[span.end - 1];
            is_taken[span.clone()].fill(true);
            is_free
        });
        self.spans.sort_unstable_by_key(|span| span.start);
        let mut at = 0;
        for span in &self.spans {
            self.tokens[at..span.start].iter().for_each(|(token, _)| found(token.clone()));
            let tokens = &self.tokens[span.clone()];
            let all = tokens[0].0.start..tokens[tokens.len() - 1].0.end;
            // With a space in it, it is no exception.
            if !give_parts(tables, text, all, found) {
                tokens.iter().for_each(|(token, _)| found(token.clone()));
            }
            at = span.end;
        }
        self.tokens[at..].iter().for_each(|(token, _)| found(token.clone()));
        self.tokens.clear();
    }
}

/// Where white space ends.
#[inline]
fn skip_spaces(tables: &Tables, text: &str, mut at: usize) -> usize {
    while let Some((class, length)) = class_at(tables, text, at) {
        if class & SPACE == 0 {
            break;
        }
        at += length;
    }
    at
}

/// Where the next white space begins, and all that is true of a character before it.
#[inline]
fn chunk_end(tables: &Tables, text: &str, mut at: usize) -> (usize, Class) {
    let mut seen = 0;
    while let Some((class, length)) = class_at(tables, text, at) {
        if class & SPACE != 0 {
            break;
        }
        seen |= class;
        at += length;
    }
    (at, seen)
}

/// The class and the length of the character at `at`.
#[inline]
fn class_at(tables: &Tables, text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        return Some((tables.ascii[usize::from(byte)], 1));
    }
    let (character, length) = character_at(text.as_bytes(), at);
    Some((tables.class(character), length))
}

/// What the first character of a text is, 0 if there is none.
#[inline]
fn first_class(tables: &Tables, text: &str) -> Class {
    class_at(tables, text, 0).map_or(0, |(class, _)| class)
}

/// What the last character of a text is, 0 if there is none.
#[inline]
fn last_class(tables: &Tables, text: &str) -> Class {
    text.chars().next_back().map_or(0, |character| tables.class(character))
}

/// Gives the tokens of an exception. Says whether it is one.
#[inline]
fn give_parts(tables: &Tables, text: &str, of: Range<usize>, token: &mut impl FnMut(Range<usize>)) -> bool {
    let Some(word) = tables.word(&text.as_bytes()[of.clone()]) else { return false };
    let mut start = of.start;
    for length in &word.parts {
        let end = start + usize::from(*length);
        token(start..end);
        start = end;
    }
    !word.parts.is_empty()
}

fn is_exception(tables: &Tables, text: &str) -> bool {
    tables.word(text.as_bytes()).is_some_and(|word| !word.parts.is_empty())
}

/// Cuts what stands between white space; `seen` is all that is true of a character in it.
fn cut_chunk(
    tables: &Tables,
    suffixes: &mut Vec<usize>,
    text: &str,
    chunk: Range<usize>,
    seen: Class,
    token: &mut impl FnMut(Range<usize>),
) {
    let Range { mut start, mut end } = chunk;
    suffixes.clear();
    while start < end && !is_exception(tables, &text[start..end]) {
        let prefix = prefix_length(tables, &text[start..end]);
        if prefix > 0 && is_exception(tables, &text[start + prefix..end]) {
            token(start..start + prefix);
            start += prefix;
            break;
        }
        let suffix = suffix_length(tables, &text[start + prefix..end], seen);
        if prefix + suffix == 0 {
            break;
        }
        end -= suffix;
        suffixes.extend((suffix > 0).then_some(end));
        // What is left without the suffix alone is looked at before the prefix goes.
        if suffix > 0 && is_exception(tables, &text[start..end]) {
            break;
        }
        if prefix > 0 {
            token(start..start + prefix);
            start += prefix;
        }
    }
    if start < end && !give_parts(tables, text, start..end, token) {
        cut_at_infixes(tables, text, start..end, token);
    }
    let mut ends = suffixes.iter().rev().skip(1).copied().chain([chunk.end]);
    suffixes.iter().rev().for_each(|start| token(*start..ends.next().unwrap_or(chunk.end)));
}

/// The length of what is cut off at the start of a text; 0 if nothing is.
#[inline]
fn prefix_length(tables: &Tables, text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes {
        [b'+', b'0'..=b'9', ..] => 0,
        [b'+', ..] => 1,
        [b'.', b'.', ..] => dots(bytes.iter()),
        [b'U', b'S', b'$', ..] => 3,
        [b'C' | b'A', b'$', ..] => 2,
        _ => class_at(tables, text, 0).filter(|(class, _)| class & PREFIX != 0).map_or(0, |(_, length)| length),
    }
}

/// How many full stops there are before anything else.
fn dots<'a>(bytes: impl Iterator<Item = &'a u8>) -> usize {
    bytes.take_while(|byte| **byte == b'.').count()
}

/// The length of what is cut off at the end of a text; 0 if nothing is.
#[inline]
fn suffix_length(tables: &Tables, text: &str, seen: Class) -> usize {
    let mut characters = text.chars();
    let Some(last) = characters.next_back() else { return 0 };
    let before = characters.as_str();
    let class = tables.class(last);
    match last {
        '.' => match dots(text.as_bytes().iter().rev()) {
            1 => usize::from(is_cut_before_dot(tables, before)),
            run => run,
        },
        's' | 'S' if before.ends_with('\'') => 2,
        's' | 'S' if before.ends_with('’') => '’'.len_utf8() + 1,
        '+' => usize::from(last_class(tables, before) & DIGIT != 0),
        '…' if before.ends_with('…') => 2 * last.len_utf8(),
        _ if class & SUFFIX != 0 => last.len_utf8(),
        _ if class & UNIT_END != 0 && seen & DIGIT != 0 => tables.unit_length(text).unwrap_or(0),
        _ => 0,
    }
}

/// Whether a full stop behind a text is no part of its last word: behind a small letter, a digit, punctuation, or two capitals.
fn is_cut_before_dot(tables: &Tables, text: &str) -> bool {
    let mut characters = text.chars();
    let Some(last) = characters.next_back() else { return false };
    let class = tables.class(last);
    class & BEFORE_DOT != 0
        || (class & UPPER != 0 && last_class(tables, characters.as_str()) & UPPER != 0)
        || (matches!(last, 'F' | 'C' | 'K') && characters.as_str().ends_with('°'))
}

/// Cuts what has neither prefix nor suffix.
fn cut_at_infixes(tables: &Tables, text: &str, of: Range<usize>, token: &mut impl FnMut(Range<usize>)) {
    let inside = &text[of.clone()];
    let Some(mut infix) = next_infix(tables, inside, 0) else { return token(of) };
    if url::is_url(tables, inside) {
        return token(of);
    }
    // None is at the very start: all that could be are prefixes, too.
    let mut at = 0;
    loop {
        if at < infix.start {
            token(of.start + at..of.start + infix.start);
        }
        token(of.start + infix.start..of.start + infix.end);
        at = infix.end;
        match next_infix(tables, inside, at) {
            Some(next) => infix = next,
            None => break,
        }
    }
    if at < inside.len() {
        token(of.start + at..of.end);
    }
}

/// The first infix of a text at or behind `from`.
fn next_infix(tables: &Tables, text: &str, from: usize) -> Option<Range<usize>> {
    let (mut at, mut before) = (from, last_class(tables, &text[..from]));
    while let Some((class, length)) = class_at(tables, text, at) {
        if class & MARK != 0 {
            let infix = infix_length(tables, &text[at..], class, before);
            if infix > 0 {
                return Some(at..at + infix);
            }
        }
        before = class;
        at += length;
    }
    None
}

/// The length of the infix that a text begins with, behind a character of the class `before`; 0 if it begins with none.
fn infix_length(tables: &Tables, text: &str, class: Class, before: Class) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    let after_of = |length: usize| first_class(tables, &text[length..]);
    let length = first.len_utf8();
    let after = after_of(length);
    let if_so = |is_infix: bool| if is_infix { length } else { 0 };
    let is_behind_word = before & (ALPHA | DIGIT) != 0;
    match first {
        '.' => match dots(text.as_bytes().iter()) {
            1 => if_so(before & (LOWER | QUOTE) != 0 && after & (UPPER | QUOTE) != 0),
            run => run,
        },
        '…' => length,
        ',' => if_so(before & after & ALPHA != 0),
        '+' | '-' | '*' | '^' if before & DIGIT != 0 && (after & DIGIT != 0 || text[length..].starts_with('-')) => length,
        '-' | '–' | '—' | '~' if is_behind_word => {
            let longest = match first {
                '-' => 3,
                '—' => 2,
                _ => 1,
            };
            let run = text.chars().take(longest).take_while(|character| *character == first).count() * length;
            if after_of(run) & ALPHA != 0 { run } else { 0 }
        }
        ':' | '<' | '>' | '=' | '/' => if_so(is_behind_word && after & ALPHA != 0),
        _ => if_so(class & ICON != 0),
    }
}

/// The tokens of an exception were it none; nothing if no rule cuts it.
fn sequence(tables: &Tables, text: &str) -> Option<Vec<String>> {
    let is_cut = prefix_length(tables, text) + suffix_length(tables, text, DIGIT) > 0 || next_infix(tables, text, 0).is_some();
    is_cut.then(|| {
        let mut tokens = Vec::new();
        cut_chunk(tables, &mut Vec::new(), text, 0..text.len(), DIGIT, &mut |token| tokens.push(text[token].to_owned()));
        tokens
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        SpacyEn::default().cut(text, |word| words.push(&text[word]));
        words
    }

    /// Holds our words against lines of `[text, words with spaces between]`, and says how many texts there are.
    fn compare(lines: &str) -> usize {
        let mut cut = SpacyEn::default();
        for line in lines.lines() {
            let [text, expected]: [String; 2] = serde_json::from_str(line).expect("a text and its words");
            let mut words = Vec::new();
            cut.cut(&text, |word| words.push(&text[word]));
            assert_eq!(words, expected.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>(), "of {text:?}");
        }
        lines.lines().count()
    }

    #[test]
    fn words_are_spacys() {
        assert_eq!(compare(include_str!("spacy_en/golden.jsonl")), 27);
    }

    #[test]
    #[ignore = "tests/compare/words makes the file"]
    fn words_of_a_file_are_spacys() {
        let file = std::env::var("GRANARY_SPACY_WORDS").expect("tests/compare/words names the file");
        assert!(compare(&std::fs::read_to_string(file).expect("the file of tests/compare/words")) > 0);
    }

    #[test]
    #[ignore = "a measurement: GRANARY_TEXTS names a file"]
    #[expect(clippy::print_stderr, reason = "what was measured")]
    fn speed_of_words() {
        let text = std::fs::read_to_string(std::env::var("GRANARY_TEXTS").expect("GRANARY_TEXTS")).expect("a file of UTF-8");
        let (mut cut, mut n_words) = (SpacyEn::default(), 0);
        cut.cut("Warm.", |_| {});
        let start = std::time::Instant::now();
        cut.cut(&text, |_| n_words += 1);
        let took = start.elapsed().as_secs_f64();
        eprintln!("{n_words} words, {:.1} MB/s", text.len() as f64 / took / 1e6);
    }

    #[test]
    fn the_rules_by_hand() {
        // Prefixes one by one, suffixes the longest first, then what is left is looked up.
        assert_eq!(words("(\"don't\")..."), ["(", "\"", "do", "n't", "\"", ")", "..."]);
        // A unit is cut off behind a digit, and a full stop behind it again.
        assert_eq!(words("5km. km."), ["5", "km", ".", "km", "."]);
        // Two capitals before a full stop let it go, one holds it.
        assert_eq!(words("USA. A. Ab."), ["USA", ".", "A.", "Ab", "."]);
        // A URL stays whole where the same characters would be cut, and what stands around it goes.
        assert_eq!(words("(a-b.example/x-y), a-b.c/x-y"), ["(", "a-b.example/x-y", ")", ",", "a", "-", "b.c", "/", "x", "-", "y"]);
        // An exception that a prefix rule would cut is seen first, and one that was cut is put together again.
        assert_eq!(words(":-) x–Mr. : -)"), [":-)", "x", "–", "Mr.", ":", "-", ")"]);
    }

    #[test]
    fn hostile_text_takes_time_in_line_with_its_length() {
        for piece in [
            "(",
            ")",
            "a.",
            "'s",
            ":)",
            ":):",
            "it ",
            ". ",
            "@",
            "a@",
            "http://",
            "a-",
            "1:",
            "...",
            "日",
            "😀",
            "\u{301}",
            "x\u{200d}",
            "-",
            "5km",
            "\n",
            "a\t",
        ] {
            let text = piece.repeat((1 << 20) / piece.len());
            let (mut end, mut length) = (0, 0);
            SpacyEn::default().cut(&text, |word| {
                assert!(end <= word.start && word.start < word.end);
                end = word.end;
                length += word.len();
            });
            assert_eq!(length, text.chars().filter(|character| !character.is_whitespace()).map(char::len_utf8).sum::<usize>(), "{piece:?}");
        }
    }

    proptest! {
        #[test]
        fn words_are_all_of_a_text_but_its_white_space(text in "([a-zA-Z' .,:;()/@-]|\\PC|\\s|don't|:-\\)|http://|e\\.g\\.){0,60}") {
            let joined: String = words(&text).concat();
            prop_assert_eq!(joined, text.chars().filter(|character| !character.is_whitespace() && !('\x1C'..='\x1F').contains(character)).collect::<String>());
        }

        #[test]
        fn a_line_is_cut_as_if_it_stood_alone(a in "\\PC{0,30}", b in "\\PC{0,30}") {
            let both = format!("{a}\n{b}");
            prop_assert_eq!(words(&both), [words(&a), words(&b)].concat());
        }
    }
}
