//! Where a text is cut: at sentences, in a sentence that is too long at words, in a word that is too long at graphemes.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::text::tokenizer::TextTokenizer;

/// What is counted.
pub(crate) enum Unit {
    Characters,
    Words,
    Sentences,
    Tokens(Box<TextTokenizer>),
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// In the unit.
    pub(crate) size: u64,
}

/// Cuts texts.
pub(crate) struct Chunker {
    pub(crate) unit: Unit,
    /// Most units of a chunk.
    pub(crate) max: u64,
    /// Most units of it that are of the chunk before; at most half of `max`.
    pub(crate) overlap: u64,
}

impl Chunker {
    /// The chunks of a text, in order; none of an empty one.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub(crate) fn cut(&self, text: &str) -> Result<Vec<Chunk>, String> {
        self.cut_at(text, sentence_ends(text), &[])
    }

    /// The chunks of a text whose sentences end at `sentences`, the text's end among them. One that does not fit is cut at the last of `clauses`
    /// that lets a chunk be half full at least, and only then at words.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub(crate) fn cut_at(&self, text: &str, sentences: Vec<usize>, clauses: &[usize]) -> Result<Vec<Chunk>, String> {
        let mut cuts = Cuts::new(text, &self.unit, sentences, clauses)?;
        let mut chunks: Vec<Chunk> = Vec::new();
        // Where the next chunk begins, and what it has to go beyond.
        let (mut start, mut reached) = (0, 0);
        while reached < text.len() {
            let chunk = self.next(&mut cuts, start, reached)?;
            reached = chunk.end;
            start = if self.overlap == 0 || reached == text.len() { reached } else { cuts.overlap(chunk.start, reached, self.overlap) };
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// The chunk that begins at `start` or, where it must, later, and goes beyond `reached`.
    fn next(&self, cuts: &mut Cuts<'_>, start: usize, reached: usize) -> Result<Chunk, String> {
        let mut start = start;
        let mut most = self.max;
        loop {
            let (from, end) = cuts.end(start, reached, most);
            start = from;
            let Unit::Tokens(tokenizer) = &self.unit else { return Ok(Chunk { start, end, size: cuts.size(start..end) }) };
            // Where tokens of the whole text begin is only a good guess: a chunk by itself may have others at its ends.
            let size = tokenizer.count(&cuts.text[start..end], false)?;
            if size <= self.max || (start == reached && cuts.is_one_grapheme(start..end)) {
                return Ok(Chunk { start, end, size });
            }
            let fewer = most.saturating_sub((size - self.max).min((most / 2).max(1)));
            match (most, start == reached) {
                (0, false) => (start, most) = (reached, self.max),
                (0, true) => {
                    let end = cuts.grapheme_end(start);
                    return Ok(Chunk { start, end, size: tokenizer.count(&cuts.text[start..end], false)? });
                }
                // At least the last part has to go.
                _ => most = fewer.min(cuts.size(start..end).saturating_sub(1)),
            }
        }
    }
}

/// A text, and where it can be cut.
struct Cuts<'t> {
    text: &'t str,
    ruler: Ruler,
    /// Where graphemes begin, a bit for each byte; none where each byte is one, but for what ends a line.
    graphemes: Option<Vec<u64>>,
    /// Where sentences end.
    sentences: Vec<usize>,
    /// Where a sentence that is too long is cut first.
    clauses: &'t [usize],
    /// The sentence that was last looked into, and where it can be cut.
    inside: (Range<usize>, Inside),
}

/// Where a sentence can be cut.
#[derive(Default)]
struct Inside {
    /// Behind white space.
    spaces: Vec<usize>,
    /// Between words, and what stands between words.
    words: Vec<usize>,
}

/// How many units there are before each place of a text.
enum Ruler {
    /// Each byte is a unit.
    Bytes,
    /// Characters before each 256th byte.
    Characters(Vec<u64>),
    /// Where units begin.
    Starts(Vec<usize>),
}

const STRIDE: usize = 256;

impl<'t> Cuts<'t> {
    fn new(text: &'t str, unit: &Unit, mut sentences: Vec<usize>, clauses: &'t [usize]) -> Result<Self, String> {
        let graphemes = (!text.is_ascii()).then(|| {
            let mut bits = vec![0_u64; text.len() / 64 + 1];
            text.grapheme_indices(true).for_each(|(at, _)| bits[at / 64] |= 1 << (at % 64));
            bits[text.len() / 64] |= 1 << (text.len() % 64);
            bits
        });
        let mut cuts = Self { text, ruler: Ruler::Bytes, graphemes, sentences: Vec::new(), clauses, inside: (0..0, Inside::default()) };
        sentences.retain(|&at| cuts.is_grapheme(at));
        cuts.ruler = match unit {
            Unit::Characters if cuts.graphemes.is_none() => Ruler::Bytes,
            Unit::Characters => {
                let mut before = 0;
                let strides = text.as_bytes().chunks(STRIDE).map(|bytes| {
                    let here = before;
                    before += characters(bytes);
                    here
                });
                Ruler::Characters(strides.collect())
            }
            Unit::Words => Ruler::Starts(text.unicode_word_indices().map(|(at, _)| at).collect()),
            Unit::Sentences => Ruler::Starts(std::iter::once(0).chain(sentences.iter().copied().filter(|&at| at < text.len())).collect()),
            Unit::Tokens(tokenizer) => Ruler::Starts(tokenizer.starts(text)?),
        };
        cuts.sentences = sentences;
        Ok(cuts)
    }

    fn is_grapheme(&self, at: usize) -> bool {
        match &self.graphemes {
            Some(bits) => (bits[at / 64] >> (at % 64)) & 1 == 1,
            None => at == 0 || at >= self.text.len() || self.text.as_bytes()[at - 1..=at] != *b"\r\n",
        }
    }

    /// Where the grapheme ends that begins at `at`.
    fn grapheme_end(&self, at: usize) -> usize {
        (at + 1..self.text.len()).find(|&at| self.is_grapheme(at)).unwrap_or(self.text.len())
    }

    fn is_one_grapheme(&self, part: Range<usize>) -> bool {
        self.grapheme_end(part.start) >= part.end
    }

    /// Units before a place.
    fn before(&self, at: usize) -> u64 {
        match &self.ruler {
            Ruler::Bytes => at as u64,
            Ruler::Characters(strides) => {
                let stride = (at / STRIDE).min(strides.len().saturating_sub(1));
                strides.get(stride).copied().unwrap_or(0) + characters(&self.text.as_bytes()[stride * STRIDE..at])
            }
            Ruler::Starts(starts) => starts.partition_point(|&start| start < at) as u64,
        }
    }

    fn size(&self, part: Range<usize>) -> u64 {
        self.before(part.end) - self.before(part.start)
    }

    /// The last of `ends` that is beyond `reached` and up to which there are at most `most` units from `start`.
    fn last_within(&self, ends: &[usize], start: usize, reached: usize, most: u64) -> Option<usize> {
        let from = ends.partition_point(|&end| end <= reached);
        let to = from + ends[from..].partition_point(|&end| self.size(start..end) <= most);
        (to > from).then(|| ends[to - 1])
    }

    /// Where a chunk of at most `most` units ends that begins at `start` or, where an overlap has to give way, at `reached`; and where it begins.
    fn end(&mut self, start: usize, reached: usize, most: u64) -> (usize, usize) {
        for start in [start, reached] {
            if let Some(end) = self.last_within(&self.sentences, start, reached, most) {
                return (start, end);
            }
        }
        if let Some(end) = self.last_within(self.clauses, reached, reached, most).filter(|&end| self.size(reached..end) * 2 >= most) {
            return (reached, end);
        }
        // Of sentences that are never cut, one is enough.
        let sentence = self.sentences.partition_point(|&end| end <= reached);
        let begin = sentence.checked_sub(1).map_or(0, |before| self.sentences[before]);
        let stop = self.sentences.get(sentence).copied().unwrap_or(self.text.len());
        if self.inside.0 != (begin..stop) {
            self.inside = (begin..stop, self.inside(begin..stop));
        }
        for places in [&self.inside.1.spaces, &self.inside.1.words] {
            for start in [start, reached] {
                if let Some(end) = self.last_within(places, start, reached, most) {
                    return (start, end);
                }
            }
        }
        // A word that is too long: as many graphemes as fit, and one of them though it does not.
        let mut end = self.grapheme_end(reached);
        if self.size(reached..end) > most {
            return (reached, end);
        }
        let start = if self.size(start..end) > most { reached } else { start };
        loop {
            let next = self.grapheme_end(end);
            if end == self.text.len() || self.size(start..next) > most {
                return (start, end);
            }
            end = next;
        }
    }

    /// Where the chunk after that from `start` to `end` begins, which is to have the last `overlap` units of it or fewer.
    fn overlap(&self, start: usize, end: usize, overlap: u64) -> usize {
        // A chunk has to begin later than the one before, or it would be that again.
        let first_within = |cuts: &[usize]| {
            let from = cuts.partition_point(|&at| at <= start);
            let to = from + cuts[from..].partition_point(|&at| at < end);
            cuts[from..to].iter().copied().find(|&at| self.size(at..end) <= overlap)
        };
        if let Some(at) = first_within(&self.sentences) {
            return at;
        }
        let last = self.sentences[..self.sentences.partition_point(|&at| at < end)].last().map_or(start, |&at| at.max(start));
        let inside = self.inside(last..end);
        first_within(&inside.spaces).or_else(|| first_within(&inside.words)).unwrap_or(end)
    }

    fn inside(&self, part: Range<usize>) -> Inside {
        let mut inside = Inside::default();
        let mut is_behind_space = false;
        for (at, word) in self.text[part.clone()].split_word_bound_indices() {
            let (at, is_space) = (part.start + at, word.starts_with(char::is_whitespace));
            if at > part.start && self.is_grapheme(at) {
                inside.words.push(at);
                if is_behind_space && !is_space {
                    inside.spaces.push(at);
                }
            }
            is_behind_space = is_space;
        }
        inside.words.push(part.end);
        inside.spaces.push(part.end);
        inside
    }
}

fn characters(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte & 0xC0 != 0x80)).sum()
}

/// Characters without a letter or a digit of which so many are a part by themselves: the rule that looks for the letter after a full stop looks
/// anew from each bracket and each space behind it, which takes time by the square of them.
const RUN: usize = 64;

/// Where sentences end, the text's end among them.
pub(crate) fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut find = |part: Range<usize>| {
        let from = part.start;
        ends.extend(text[part].split_sentence_bound_indices().map(|(at, sentence)| from + at + sentence.len()));
    };
    // What was looked through, and where the run began that is going on.
    let (mut done, mut run, mut length) = (0, 0, 0);
    for (at, character) in text.char_indices().chain([(text.len(), 'a')]) {
        let is_in_run = !character.is_alphanumeric();
        if !is_in_run && length >= RUN && at > run {
            find(done..run);
            // The run is looked through in parts, and so is not one sentence.
            let mut from = run;
            while from < at {
                let to = text.floor_char_boundary((from + RUN * 4).min(at)).max(from + 1);
                let to = (to..=at).find(|&to| text.is_char_boundary(to)).unwrap_or(at);
                find(from..to);
                from = to;
            }
            done = at;
        }
        if is_in_run {
            if length == 0 {
                run = at;
            }
            length += 1;
        } else {
            length = 0;
        }
    }
    find(done..text.len());
    ends
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::text::tokenizer::tests::example;

    fn cut(unit: Unit, max: u64, overlap: u64, text: &str) -> Vec<&str> {
        let chunks = Chunker { unit, max, overlap }.cut(text).expect("chunks");
        chunks.iter().map(|chunk| &text[chunk.start..chunk.end]).collect()
    }

    #[test]
    fn sentences_go_together_as_long_as_they_fit() {
        let text = "One two. Three four five. Six.";
        assert_eq!(cut(Unit::Words, 5, 0, text), ["One two. Three four five. ", "Six."]);
        assert_eq!(cut(Unit::Words, 4, 0, text), ["One two. ", "Three four five. Six."]);
        assert_eq!(cut(Unit::Words, 6, 0, text), [text]);
        assert_eq!(cut(Unit::Sentences, 2, 0, text), ["One two. Three four five. ", "Six."]);
        assert_eq!(cut(Unit::Characters, 30, 0, text), [text]);
        assert_eq!(cut(Unit::Characters, 29, 0, text), ["One two. Three four five. ", "Six."]);
        assert_eq!(cut(Unit::Characters, 9, 0, text), ["One two. ", "Three ", "four ", "five. ", "Six."]);
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut_at_words_and_a_word_at_graphemes() {
        assert_eq!(cut(Unit::Characters, 8, 0, "a bc def ghijklmnopq r."), ["a bc ", "def ", "ghijklmn", "opq r."]);
        // A family is seven characters and is never cut, and so is a letter with its mark.
        assert_eq!(cut(Unit::Characters, 3, 0, "👨‍👩‍👧‍👦ab"), ["👨‍👩‍👧‍👦", "ab"]);
        assert_eq!(cut(Unit::Characters, 3, 0, "e\u{301}e\u{301}e\u{301}"), ["e\u{301}", "e\u{301}", "e\u{301}"]);
        assert_eq!(cut(Unit::Characters, 1, 0, "a\r\nb"), ["a", "\r\n", "b"]);
        assert_eq!(cut(Unit::Characters, 2, 0, "日本語"), ["日本", "語"]);
        assert_eq!(cut(Unit::Sentences, 1, 0, "a b c d e f g. H"), ["a b c d e f g. ", "H"]);
        assert!(cut(Unit::Characters, 5, 0, "").is_empty());
    }

    #[test]
    fn an_overlap_is_whole_sentences_or_words_and_gives_way() {
        let text = "One two. Three four. Five six. Seven eight.";
        assert_eq!(cut(Unit::Words, 4, 2, text), ["One two. Three four. ", "Three four. Five six. ", "Five six. Seven eight."]);
        // One word is less than a sentence.
        assert_eq!(cut(Unit::Words, 4, 1, "a b c d e f g."), ["a b c d ", "d e f g."]);
        // With "two." before it the next sentence would not fit.
        assert_eq!(cut(Unit::Words, 3, 1, "One two. Three four five. Six."), ["One two. ", "Three four five. ", "five. Six."]);
    }

    /// Texts that have made such code slow: no text of them may take more than a moment.
    #[test]
    fn hostile_texts_take_time_in_proportion() {
        let parts = [
            "word ",
            "a",
            " ",
            ")",
            "日本語",
            "👨‍👩‍👧",
            "🇩🇪",
            "\u{301}",
            "!?.",
            "\n",
            "\r\n",
            "ا",
            "a'",
            "1,",
            ". ",
            "\u{200D}",
            "ก\u{0E33}",
            "1 ",
        ];
        for part in parts {
            let text = format!("A.{}b", part.repeat(300_000 / part.len()));
            for (unit, max, overlap) in [(Unit::Characters, 1000, 100), (Unit::Words, 50, 25), (Unit::Tokens(Box::new(example())), 500, 50)]
            {
                let start = Instant::now();
                let chunks = Chunker { unit, max, overlap }.cut(&text).expect("chunks");
                assert!(start.elapsed() < Duration::from_secs(20), "{part:?}: {:?}", start.elapsed());
                assert_eq!(chunks.last().map(|chunk| chunk.end), Some(text.len()));
            }
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "a",
            "word",
            " ",
            "  ",
            ". ",
            "! ",
            "?",
            "\n",
            "\r\n",
            "日本語",
            "。",
            "e\u{301}",
            "👨‍👩‍👧",
            "🇩🇪",
            "🇫",
            "ก\u{0E33}",
            "שלום",
            "\u{600}1",
            "don't",
            "3.14",
            "\u{200D}",
            ")",
            "\u{1100}\u{1161}",
            "supercalifragilistic",
            "Mr. ",
            "\u{0}",
            "\u{FEFF}",
        ]);
        prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn chunks_are_parts_of_the_text_and_all_of_it(text in texts(), max in 1_u64..30, half in 0_u64..15, which in 0_usize..4) {
            let unit = || match which {
                0 => Unit::Characters,
                1 => Unit::Words,
                2 => Unit::Sentences,
                _ => Unit::Tokens(Box::new(example())),
            };
            let overlap = half.min(max / 2);
            let cuts = Cuts::new(&text, &unit(), sentence_ends(&text), &[]).expect("cuts");
            let graphemes: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
            for overlap in [0, overlap] {
                let chunks = Chunker { unit: unit(), max, overlap }.cut(&text).expect("chunks");
                prop_assert_eq!(chunks.is_empty(), text.is_empty());
                let mut reached = 0;
                for (number, chunk) in chunks.iter().enumerate() {
                    prop_assert!(chunk.start <= reached && chunk.end > reached, "{:?}", chunks);
                    prop_assert!(graphemes.binary_search(&chunk.start).is_ok() && graphemes.binary_search(&chunk.end).is_ok());
                    let part = &text[chunk.start..chunk.end];
                    let size = match which {
                        0 => part.chars().count() as u64,
                        3 => example().count(part, false).expect("a count"),
                        _ => cuts.size(chunk.start..chunk.end),
                    };
                    prop_assert_eq!(chunk.size, size);
                    prop_assert!(size <= max || part.graphemes(true).count() == 1 || (which == 2 && max == 0), "{:?} of {}", part, size);
                    if number > 0 {
                        prop_assert!(chunk.start > chunks[number - 1].start);
                        prop_assert!(cuts.size(chunk.start..reached) <= overlap);
                    }
                    if overlap == 0 {
                        prop_assert_eq!(chunk.start, reached);
                    }
                    reached = chunk.end;
                }
                prop_assert_eq!(reached, text.len());
            }
        }

        #[test]
        fn sentences_are_those_of_the_rules(text in texts()) {
            let rules: Vec<usize> = text.split_sentence_bound_indices().map(|(at, sentence)| at + sentence.len()).collect();
            prop_assert_eq!(sentence_ends(&text), rules);
        }
    }
}
