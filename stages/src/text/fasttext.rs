//! Reads fastText's supervised models, plain (`.bin`) and quantised (`.ftz`), and labels texts with them as fastText does.
//!
//! Source: fastText 0.9.2 (Bojanowski, Grave, Joulin, Mikolov), the format that its `saveModel` writes; Joulin et al., *FastText.zip: Compressing text
//! classification models*, 2016.

use std::io::Read;

/// Why a file is no model that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file can't be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Its first bytes are not those of a model.
    #[error("this is no fastText model: it begins with {found:#x}, a model with 0x2f4f16ba")]
    Magic {
        /// The first four bytes.
        found: i32,
    },
    /// It ends too early, or a size in it is a lie.
    #[error("{what} would take {wanted} bytes, and the file has {left} left")]
    Short {
        /// What was to be read.
        what: &'static str,
        /// How many bytes it would take.
        wanted: u64,
        /// How many there are.
        left: u64,
    },
    /// A value that no model has.
    #[error("{what} is {found}, wanted {wanted}")]
    Value {
        /// What it is.
        what: &'static str,
        /// Its value.
        found: i64,
        /// What would do.
        wanted: String,
    },
}

type Result<T> = std::result::Result<T, ModelError>;

fn value<T>(what: &'static str, found: impl Into<i64>, wanted: impl Into<String>) -> Result<T> {
    Err(ModelError::Value { what, found: found.into(), wanted: wanted.into() })
}

/// A file of known length: nothing is made room for that it can't hold.
struct Source<R> {
    bytes: R,
    left: u64,
}

impl<R: Read> Source<R> {
    fn claim(&mut self, what: &'static str, wanted: u64) -> Result<()> {
        self.left = self.left.checked_sub(wanted).ok_or(ModelError::Short { what, wanted, left: self.left })?;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        self.claim(what, N as u64)?;
        let mut bytes = [0; N];
        self.bytes.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn i32(&mut self, what: &'static str) -> Result<i32> {
        self.array(what).map(i32::from_le_bytes)
    }

    fn i64(&mut self, what: &'static str) -> Result<i64> {
        self.array(what).map(i64::from_le_bytes)
    }

    fn bool(&mut self, what: &'static str) -> Result<bool> {
        match self.array(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => value(what, other, "0 or 1"),
        }
    }

    /// A number of things, each of at least `each` bytes, for which the file has room.
    fn count(&mut self, what: &'static str, n: i64, each: u64) -> Result<usize> {
        let Ok(count) = u64::try_from(n) else { return value(what, n, "0 or more") };
        let wanted = count.saturating_mul(each);
        if wanted > self.left {
            return Err(ModelError::Short { what, wanted, left: self.left });
        }
        usize::try_from(count).or_else(|_| value(what, n, "a number that fits into memory"))
    }

    fn bytes(&mut self, what: &'static str, n: usize) -> Result<Vec<u8>> {
        self.claim(what, n as u64)?;
        let mut bytes = vec![0; n];
        self.bytes.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn floats(&mut self, what: &'static str, n: usize) -> Result<Vec<f32>> {
        self.claim(what, (n as u64).saturating_mul(4))?;
        let mut floats = Vec::with_capacity(n);
        let mut buffer = vec![0; 1 << 16];
        while floats.len() < n {
            let part = &mut buffer[..(4 * (n - floats.len())).min(1 << 16)];
            self.bytes.read_exact(part)?;
            floats.extend(part.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)));
        }
        Ok(floats)
    }

    /// Adds bytes up to a 0 to `out`.
    fn text(&mut self, what: &'static str, out: &mut Vec<u8>) -> Result<()> {
        loop {
            match self.array(what)? {
                [0] => return Ok(()),
                [byte] => out.push(byte),
            }
        }
    }
}

/// How a model was trained, as far as it matters to what it says.
#[derive(Debug, Clone, Copy)]
struct Args {
    dim: usize,
    word_ngrams: usize,
    loss: Loss,
    bucket: u32,
    min_n: usize,
    max_n: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    HierarchicalSoftmax,
    Softmax,
    /// Each label for itself: negative sampling, or one against all.
    Logistic,
}

/// No n-gram of a real model is longer, and no vector has more numbers; what goes beyond would only take time.
const MOST_LETTERS: i32 = 1 << 10;
const MOST_DIMENSIONS: i32 = 1 << 16;

impl Args {
    fn read<R: Read>(source: &mut Source<R>, version: i32) -> Result<Self> {
        let what = "the settings";
        let mut numbers = [0; 12];
        for number in &mut numbers {
            *number = source.i32(what)?;
        }
        source.array::<8>(what)?; // a threshold of the training
        let [dim, _, _, _, _, word_ngrams, loss, model, bucket, min_n, max_n, _] = numbers;
        let within = |what: &'static str, number: i32, least: i32, most: i32| {
            if (least..=most).contains(&number) {
                Ok(usize::try_from(number).unwrap_or(0))
            } else {
                value(what, number, format!("{least} to {most}"))
            }
        };
        if model != 3 {
            return value("the kind of model", model, "3, a supervised one");
        }
        let loss = match loss {
            1 => Loss::HierarchicalSoftmax,
            3 => Loss::Softmax,
            2 | 4 => Loss::Logistic,
            other => return value("the loss", other, "1 to 4"),
        };
        let Ok(bucket) = u32::try_from(bucket) else { return value("the number of buckets", bucket, "0 or more") };
        let args = Self {
            dim: within("the length of a vector", dim, 1, MOST_DIMENSIONS)?,
            word_ngrams: within("the number of words of an n-gram", word_ngrams, 0, MOST_LETTERS)?,
            loss,
            bucket,
            min_n: within("the fewest letters of an n-gram", min_n, 0, MOST_LETTERS)?,
            // Supervised models of version 11 were trained without.
            max_n: if version == 11 { 0 } else { within("the most letters of an n-gram", max_n, 0, MOST_LETTERS)? },
        };
        if bucket == 0 && (args.max_n > 0 || args.word_ngrams > 1) {
            return value("the number of buckets", 0, "1 or more, for there are n-grams");
        }
        Ok(args)
    }
}

/// Words and labels. Words come first; what is beyond them are n-grams.
#[derive(Debug)]
struct Dictionary {
    /// All words, one behind the other.
    arena: Vec<u8>,
    /// Where each word ends.
    ends: Vec<usize>,
    /// Words by hash: a number plus 1, or 0.
    slots: Vec<u32>,
    labels: Vec<Label>,
    /// Which n-grams a quantised model has kept, and which rows are theirs.
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Label {
    name: String,
    count: i64,
}

/// The hash that fastText takes: FNV-1a, with bytes over 127 as negative numbers.
fn hash(hash: u32, byte: u8) -> u32 {
    (hash ^ i32::from(byte.cast_signed()).cast_unsigned()).wrapping_mul(16_777_619)
}

const EMPTY: u32 = 2_166_136_261;

fn hash_of(bytes: &[u8]) -> u32 {
    bytes.iter().fold(EMPTY, |state, byte| hash(state, *byte))
}

/// The end of a line.
const END: &[u8] = b"</s>";
const LABEL: &[u8] = b"__label__";

impl Dictionary {
    fn read<R: Read>(source: &mut Source<R>, args: &Args) -> Result<Self> {
        let n = source.i32("the number of entries")?;
        let (n_words, n_labels) = (source.i32("the number of words")?, source.i32("the number of labels")?);
        source.i64("the number of tokens")?;
        let pruned = source.i64("the number of n-grams kept")?;
        // An entry has an end, a count and a type.
        let n_entries = source.count("the entries of the dictionary", i64::from(n), 10)?;
        let n_words = source.count("the words", i64::from(n_words), 10)?;
        if n_words.checked_add(usize::try_from(n_labels).unwrap_or(usize::MAX)) != Some(n_entries) {
            return value("the number of entries", n, format!("words and labels, {n_words} and {n_labels}"));
        }
        if n_labels < 1 {
            return value("the number of labels", n_labels, "1 or more");
        }
        let mut dictionary = Self {
            arena: Vec::new(),
            ends: Vec::with_capacity(n_words),
            slots: vec![0; (2 * n_words + 1).next_power_of_two()],
            labels: Vec::new(),
            kept: None,
        };
        let mut name = Vec::new();
        let mut total = 0_i64;
        for number in 0..n_entries {
            let is_label = number >= n_words;
            let start = dictionary.arena.len();
            name.clear();
            source.text("an entry of the dictionary", if is_label { &mut name } else { &mut dictionary.arena })?;
            let count = source.i64("a count")?;
            let [kind] = source.array("the type of an entry")?;
            if kind != u8::from(is_label) {
                return value("the type of an entry", kind, "words first, then labels");
            }
            if !is_label {
                dictionary.ends.push(dictionary.arena.len());
                dictionary.insert(number, start);
                continue;
            }
            // Huffman's tree has 1e15 in the place of nodes that are not there yet.
            total = total
                .checked_add(count)
                .filter(|total| count >= 0 && *total < 1_000_000_000_000_000)
                .map_or_else(|| value("a count of a label", count, "0 to 1e15, all together"), Ok)?;
            let label = name.strip_prefix(LABEL).unwrap_or(&name);
            dictionary.labels.push(Label { name: String::from_utf8_lossy(label).into_owned(), count });
        }
        if pruned >= 0 {
            dictionary.kept = Some(Kept::read(source, pruned, args.bucket)?);
        }
        Ok(dictionary)
    }

    fn word(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.arena[start..self.ends[number]]
    }

    /// The slot of a word, or the free one where it would be.
    fn slot(&self, word: &[u8], hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while self.slots[slot] != 0 && self.word(self.slots[slot] as usize - 1) != word {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn insert(&mut self, number: usize, start: usize) {
        let word = &self.arena[start..];
        let slot = self.slot(word, hash_of(word));
        self.slots[slot] = u32::try_from(number + 1).unwrap_or(0); // numbers are of 31 bits
    }

    fn find(&self, word: &[u8], hash: u32) -> Option<u32> {
        self.slots[self.slot(word, hash)].checked_sub(1)
    }

    fn row_of_bucket(&self, bucket: u32) -> Option<u32> {
        let row = self.kept.as_ref().map_or(Some(bucket), |kept| kept.get(bucket))?;
        u32::try_from(self.ends.len()).ok()?.checked_add(row)
    }
}

/// Rows by bucket: keys and values in one table of open addresses.
#[derive(Debug)]
struct Kept {
    slots: Vec<(u32, u32)>,
    rows: u32,
}

const FREE: u32 = u32::MAX;

impl Kept {
    fn read<R: Read>(source: &mut Source<R>, n: i64, bucket: u32) -> Result<Self> {
        let n = source.count("the n-grams kept", n, 8)?;
        let mut kept = Self { slots: vec![(FREE, 0); (2 * n + 1).next_power_of_two()], rows: 0 };
        for _ in 0..n {
            let (from, to) = (source.i32("an n-gram kept")?, source.i32("an n-gram kept")?);
            let Some(from) = u32::try_from(from).ok().filter(|from| *from < bucket) else {
                return value("an n-gram kept", from, format!("0 to {bucket}"));
            };
            let Ok(to) = u32::try_from(to) else { return value("the row of an n-gram", to, "0 or more") };
            let slot = kept.slot(from);
            kept.slots[slot] = (from, to);
            kept.rows = kept.rows.max(to.saturating_add(1));
        }
        Ok(kept)
    }

    fn slot(&self, key: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (key.wrapping_mul(0x9E37_79B1) >> 7) as usize & mask;
        while self.slots[slot].0 != FREE && self.slots[slot].0 != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn get(&self, key: u32) -> Option<u32> {
        let (found, row) = self.slots[self.slot(key)];
        (found == key).then_some(row)
    }
}

/// Rows of numbers.
#[derive(Debug)]
enum Matrix {
    Dense { rows: usize, dim: usize, numbers: Vec<f32> },
    Quantised { rows: usize, codes: Vec<u8>, quantiser: Quantiser, norms: Option<(Vec<u8>, Quantiser)> },
}

impl Matrix {
    fn read<R: Read>(source: &mut Source<R>, is_quantised: bool, what: &'static str, dim: usize) -> Result<Self> {
        let has_norms = if is_quantised { source.bool("whether rows have norms")? } else { false };
        let (rows, columns) = (source.i64(what)?, source.i64(what)?);
        if usize::try_from(columns) != Ok(dim) {
            return value("the length of a row", columns, format!("{dim}, the length of a vector"));
        }
        if !is_quantised {
            let rows = source.count(what, rows, 4 * dim as u64)?;
            return Ok(Self::Dense { rows, dim, numbers: source.floats(what, rows * dim)? });
        }
        let rows = source.count(what, rows, 1)?;
        let size = source.i32(what)?;
        let size = source.count(what, i64::from(size), 1)?;
        let codes = source.bytes(what, size)?;
        let quantiser = Quantiser::read(source, dim)?;
        if rows.checked_mul(quantiser.parts) != Some(size) {
            return value(
                "the number of codes",
                i64::try_from(size).unwrap_or(i64::MAX),
                format!("{} for each of {rows} rows", quantiser.parts),
            );
        }
        let norms = if has_norms { Some((source.bytes(what, rows)?, Quantiser::read(source, 1)?)) } else { None };
        Ok(Self::Quantised { rows, codes, quantiser, norms })
    }

    fn rows(&self) -> usize {
        match self {
            Self::Dense { rows, .. } | Self::Quantised { rows, .. } => *rows,
        }
    }

    /// Calls `part` with where a part of a row begins, its numbers, and what they are multiplied by.
    fn row(&self, row: usize, mut part: impl FnMut(usize, &[f32], f32)) {
        match self {
            Self::Dense { dim, numbers, .. } => part(0, &numbers[row * dim..(row + 1) * dim], 1.0),
            Self::Quantised { codes, quantiser, norms, .. } => {
                let norm = norms.as_ref().map_or(1.0, |(codes, quantiser)| quantiser.centroid(0, codes[row])[0]);
                let codes = &codes[row * quantiser.parts..(row + 1) * quantiser.parts];
                for (number, code) in codes.iter().enumerate() {
                    part(number * quantiser.part_len, quantiser.centroid(number, *code), norm);
                }
            }
        }
    }

    fn add_to(&self, row: usize, sum: &mut [f32]) {
        self.row(row, |start, numbers, norm| {
            sum[start..start + numbers.len()].iter_mut().zip(numbers).for_each(|(sum, number)| *sum += norm * number);
        });
    }

    fn dot(&self, row: usize, vector: &[f32]) -> f32 {
        let mut dot = 0.0;
        let mut factor = 1.0;
        self.row(row, |start, numbers, norm| {
            factor = norm;
            vector[start..start + numbers.len()].iter().zip(numbers).for_each(|(a, b)| dot += a * b);
        });
        dot * factor
    }
}

/// 256 stretches of numbers for each part of a row.
#[derive(Debug)]
struct Quantiser {
    parts: usize,
    part_len: usize,
    last_len: usize,
    centroids: Vec<f32>,
}

const CENTROIDS: usize = 256;

impl Quantiser {
    fn read<R: Read>(source: &mut Source<R>, dim: usize) -> Result<Self> {
        let what = "a quantiser";
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = source.i32(what)?;
        }
        let [own_dim, parts, part_len, last_len] = numbers.map(|number| usize::try_from(number).unwrap_or(0));
        let covered = parts.checked_sub(1).and_then(|whole| whole.checked_mul(part_len)).and_then(|whole| whole.checked_add(last_len));
        if own_dim != dim || covered != Some(dim) || part_len == 0 || last_len == 0 || last_len > part_len {
            return value(
                "the length of what a quantiser covers",
                numbers[0],
                format!("{dim} numbers in parts of one length, the last perhaps shorter"),
            );
        }
        Ok(Self { parts, part_len, last_len, centroids: source.floats(what, dim * CENTROIDS)? })
    }

    fn centroid(&self, part: usize, code: u8) -> &[f32] {
        let len = if part + 1 == self.parts { self.last_len } else { self.part_len };
        let start = part * CENTROIDS * self.part_len + usize::from(code) * len;
        &self.centroids[start..start + len]
    }
}

/// A supervised model.
#[derive(Debug)]
pub struct FastText {
    args: Args,
    dictionary: Dictionary,
    input: Matrix,
    output: Matrix,
    /// Huffman's tree of the labels: children of each inner node.
    tree: Vec<[usize; 2]>,
}

/// Buffers that are used again for the next text.
#[derive(Debug, Default)]
pub struct Scratch {
    rows: Vec<u32>,
    words: Vec<u32>,
    /// A word between `<` and `>`.
    word: Vec<u8>,
    hidden: Vec<f32>,
    scores: Vec<(f32, usize)>,
    nodes: Vec<(f32, usize)>,
}

const MAGIC: i32 = 793_712_314;

impl FastText {
    /// Reads a model of `length` bytes.
    ///
    /// # Errors
    /// It can't be read, is no model, or says of itself what can't be; nothing is allocated that the file does not hold.
    pub fn read(bytes: impl Read, length: u64) -> Result<Self> {
        let mut source = Source { bytes, left: length };
        let magic = source.i32("the first bytes")?;
        if magic != MAGIC {
            return Err(ModelError::Magic { found: magic });
        }
        let version = source.i32("the version")?;
        if !matches!(version, 11 | 12) {
            return value("the version of the format", version, "11 or 12");
        }
        let args = Args::read(&mut source, version)?;
        let dictionary = Dictionary::read(&mut source, &args)?;
        let is_quantised = source.bool("whether the model is quantised")?;
        let input = Matrix::read(&mut source, is_quantised, "the vectors of words", args.dim)?;
        let is_output_quantised = source.bool("whether the output is quantised")?;
        let output = Matrix::read(&mut source, is_quantised && is_output_quantised, "the vectors of labels", args.dim)?;
        let beyond = match &dictionary.kept {
            Some(kept) => kept.rows,
            None => args.bucket,
        };
        let (has, wants) = (input.rows() as u64, dictionary.ends.len() as u64 + u64::from(beyond));
        if has < wants {
            return value(
                "the number of vectors of words",
                i64::try_from(has).unwrap_or(i64::MAX),
                format!("{wants}, for words and n-grams"),
            );
        }
        let n_labels = dictionary.labels.len();
        if output.rows() < n_labels {
            return value(
                "the number of vectors of labels",
                i64::try_from(output.rows()).unwrap_or(i64::MAX),
                format!("{n_labels}, one for each label"),
            );
        }
        let tree = if args.loss == Loss::HierarchicalSoftmax { huffman(&dictionary.labels) } else { Vec::new() };
        Ok(Self { args, dictionary, input, output, tree })
    }

    /// The names of the labels, without `__label__`.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.dictionary.labels.iter().map(|label| label.name.as_str())
    }

    /// Name of a label.
    pub fn label(&self, label: usize) -> &str {
        &self.dictionary.labels[label].name
    }

    /// The `k` most probable labels of the words of `text`, the most probable first, as `predict` of fastText has them for one line: line breaks are
    /// spaces. Empty if the model has nothing to go by. Probabilities are those of fastText, which are up to 0.00001 too large.
    pub fn predict<'s>(&self, text: &str, k: usize, scratch: &'s mut Scratch) -> &'s [(f32, usize)] {
        self.rows(text.as_bytes(), scratch);
        scratch.scores.clear();
        if scratch.rows.is_empty() || k == 0 {
            return &scratch.scores;
        }
        scratch.hidden.clear();
        scratch.hidden.resize(self.args.dim, 0.0);
        scratch.rows.iter().for_each(|row| self.input.add_to(*row as usize, &mut scratch.hidden));
        let share = 1.0 / scratch.rows.len() as f32;
        scratch.hidden.iter_mut().for_each(|number| *number *= share);
        match self.args.loss {
            Loss::HierarchicalSoftmax => self.descend(k, scratch),
            Loss::Softmax | Loss::Logistic => self.score(k, scratch),
        }
        scratch.scores.iter_mut().for_each(|(score, _)| *score = score.exp());
        &scratch.scores
    }

    /// The rows of the input that stand for a text.
    fn rows(&self, text: &[u8], scratch: &mut Scratch) {
        scratch.rows.clear();
        scratch.words.clear();
        let is_space = |byte: &u8| matches!(*byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0B | 0x0C | 0);
        // What follows the end of a line is another one.
        let words = text.split(is_space).filter(|word| !word.is_empty()).take_while(|word| *word != END);
        words.chain([END]).for_each(|word| self.add_word(word, scratch));
        for (at, first) in scratch.words.iter().enumerate() {
            let mut state = wide(*first);
            for next in scratch.words[at + 1..].iter().take(self.args.word_ngrams.saturating_sub(1)) {
                state = state.wrapping_mul(116_049_371).wrapping_add(wide(*next));
                let bucket = u32::try_from(state % u64::from(self.args.bucket)).unwrap_or(0);
                scratch.rows.extend(self.dictionary.row_of_bucket(bucket));
            }
        }
    }

    fn add_word(&self, word: &[u8], scratch: &mut Scratch) {
        let state = hash_of(word);
        let known = self.dictionary.find(word, state);
        // A label in a text says nothing about it.
        if known.is_none() && word.starts_with(LABEL) {
            return;
        }
        scratch.words.push(state);
        scratch.rows.extend(known);
        if word == END || self.args.max_n == 0 {
            return;
        }
        scratch.word.clear();
        scratch.word.push(b'<');
        scratch.word.extend_from_slice(word);
        scratch.word.push(b'>');
        let (word, rows) = (&scratch.word, &mut scratch.rows);
        let is_inside = |at: usize| word.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        for start in (0..word.len()).filter(|start| !is_inside(*start)) {
            let (mut end, mut state) = (start, EMPTY);
            for n in 1..=self.args.max_n {
                if end == word.len() {
                    break;
                }
                state = hash(state, word[end]);
                end += 1;
                while is_inside(end) {
                    state = hash(state, word[end]);
                    end += 1;
                }
                if n >= self.args.min_n && !(n == 1 && (start == 0 || end == word.len())) {
                    rows.extend(self.dictionary.row_of_bucket(state % self.args.bucket));
                }
            }
        }
    }

    /// Logarithms of probabilities by softmax, or of each label for itself.
    fn score(&self, k: usize, scratch: &mut Scratch) {
        let Scratch { scores, hidden, .. } = scratch;
        scores.extend((0..self.dictionary.labels.len()).map(|label| (self.output.dot(label, hidden), label)));
        if self.args.loss == Loss::Softmax {
            let most = scores.iter().fold(f32::NEG_INFINITY, |most, (score, _)| most.max(*score));
            scores.iter_mut().for_each(|(score, _)| *score = (*score - most).exp());
            let sum: f32 = scores.iter().map(|(score, _)| score).sum();
            scores.iter_mut().for_each(|(score, _)| *score = log(*score / sum));
        } else {
            scores.iter_mut().for_each(|(score, _)| *score = log(stepped_sigmoid(*score)));
        }
        let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < scores.len() {
            scores.select_nth_unstable_by(k, order);
            scores.truncate(k);
        }
        scores.sort_unstable_by(order);
    }

    /// Goes down the tree of labels as long as what is there can be among the best `k`.
    fn descend(&self, k: usize, scratch: &mut Scratch) {
        let Scratch { scores, nodes, hidden, .. } = scratch;
        let n_labels = self.dictionary.labels.len();
        nodes.clear();
        nodes.push((0.0, 2 * n_labels - 2));
        while let Some((score, node)) = nodes.pop() {
            // What is less probable than fastText's own bound is left out.
            if score < log(0.0) || score.is_nan() || (scores.len() == k && score < scores[k - 1].0) {
                continue;
            }
            let Some([left, right]) = node.checked_sub(n_labels).map(|inner| self.tree[inner]) else {
                let place = scores.partition_point(|(known, _)| *known >= score);
                scores.insert(place, (score, node));
                scores.truncate(k);
                continue;
            };
            let share = sigmoid(self.output.dot(node - n_labels, hidden));
            nodes.push((score + log(share), right));
            nodes.push((score + log(1.0 - share), left));
        }
    }
}

fn wide(hash: u32) -> u64 {
    i64::from(hash.cast_signed()).cast_unsigned()
}

/// As fastText has it, so that nothing is infinite.
#[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
fn log(number: f32) -> f32 {
    (f64::from(number) + 1e-5).ln() as f32
}

fn sigmoid(number: f32) -> f32 {
    1.0 / (1.0 + (-number).exp())
}

/// The sigmoid as fastText looks it up in a table of 512 steps from -8 to 8.
fn stepped_sigmoid(number: f32) -> f32 {
    match number {
        number if number < -8.0 => 0.0,
        number if number > 8.0 => 1.0,
        number => sigmoid(((number + 8.0) * 32.0).floor() / 32.0 - 8.0),
    }
}

/// Huffman's tree: the children of each inner node, whose numbers follow those of the leaves.
fn huffman(labels: &[Label]) -> Vec<[usize; 2]> {
    let n = labels.len();
    let mut counts: Vec<i64> = labels.iter().map(|label| label.count).collect();
    let mut tree = Vec::with_capacity(n);
    // Leaves from the rarest one, inner nodes from the oldest.
    let (mut leaves, mut oldest) = (n, n);
    for _ in 1..n {
        let mut least = || {
            let is_leaf = leaves > 0 && counts.get(oldest).is_none_or(|inner| counts[leaves - 1] < *inner);
            if is_leaf {
                leaves -= 1;
                leaves
            } else {
                oldest += 1;
                oldest - 1
            }
        };
        let pair = [least(), least()];
        counts.push(counts[pair[0]] + counts[pair[1]]);
        tree.push(pair);
    }
    tree
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A model as fastText writes it.
    pub(in super::super) struct Written {
        pub(in super::super) bytes: Vec<u8>,
    }

    impl Written {
        fn i32(&mut self, number: i32) -> &mut Self {
            self.bytes.extend(number.to_le_bytes());
            self
        }

        fn i64(&mut self, number: i64) -> &mut Self {
            self.bytes.extend(number.to_le_bytes());
            self
        }

        fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
            self.bytes.extend(bytes);
            self
        }

        fn floats(&mut self, floats: &[f32]) -> &mut Self {
            floats.iter().for_each(|float| self.bytes.extend(float.to_le_bytes()));
            self
        }

        /// Magic, version, settings (of two dimensions) and dictionary.
        fn head(loss: i32, word_ngrams: i32, bucket: i32, letters: [i32; 2], words: &[&str], labels: &[(&str, i64)], pruned: i64) -> Self {
            let mut model = Self { bytes: Vec::new() };
            model.i32(MAGIC).i32(12);
            for number in [2, 5, 5, 1, 5, word_ngrams, loss, 3, bucket, letters[0], letters[1], 100] {
                model.i32(number);
            }
            model.i64(0);
            let (n_words, n_labels) = (i32::try_from(words.len()).unwrap(), i32::try_from(labels.len()).unwrap());
            model.i32(n_words + n_labels).i32(n_words).i32(n_labels).i64(100).i64(pruned);
            for word in words {
                model.bytes(word.as_bytes()).bytes(&[0]).i64(1).bytes(&[0]);
            }
            for (label, count) in labels {
                model.bytes(LABEL).bytes(label.as_bytes()).bytes(&[0]).i64(*count).bytes(&[1]);
            }
            model
        }

        fn dense(&mut self, rows: &[[f32; 2]]) -> &mut Self {
            self.bytes(&[0]).i64(i64::try_from(rows.len()).unwrap()).i64(2).floats(rows.as_flattened())
        }
    }

    /// Words `a` and `b`, of which one speaks for `en` and one for `de`.
    pub(in super::super) fn tiny(loss: i32) -> Written {
        let mut model = Written::head(loss, 1, 0, [0, 0], &["a", "b"], &[("en", 7), ("de", 5)], -1);
        model.dense(&[[1.0, 0.0], [0.0, 1.0]]).dense(&[[2.0, 0.0], [0.0, 2.0]]);
        model
    }

    fn read(bytes: &[u8]) -> Result<FastText> {
        FastText::read(bytes, bytes.len() as u64)
    }

    fn guesses(model: &FastText, text: &str, k: usize) -> Vec<(String, f32)> {
        let mut scratch = Scratch::default();
        model.predict(text, k, &mut scratch).iter().map(|(share, label)| (model.label(*label).to_owned(), *share)).collect()
    }

    fn assert_guesses(model: &FastText, text: &str, wanted: &[(&str, f32)]) {
        let got = guesses(model, text, wanted.len());
        assert_eq!(
            got.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(),
            wanted.iter().map(|(label, _)| *label).collect::<Vec<_>>()
        );
        assert!(got.iter().zip(wanted).all(|(got, wanted)| (got.1 - wanted.1).abs() < 2e-5), "{got:?}, wanted {wanted:?}");
    }

    #[test]
    fn bytes_over_127_are_hashed_as_negative_numbers() {
        // FNV-1a's own test vectors (Fowler, Noll, Vo) for ASCII; by hand beyond: 0xC3 is 0xFFFFFFC3.
        assert_eq!((hash_of(b""), hash_of(b"a"), hash_of(b"foobar")), (0x811C_9DC5, 0xE40C_292C, 0xBF9C_F968));
        assert_eq!(hash_of(b"\xc3"), (0x811C_9DC5 ^ 0xFFFF_FFC3_u32).wrapping_mul(16_777_619));
    }

    #[test]
    fn softmax_is_over_the_mean_of_the_words() {
        let model = read(&tiny(3).bytes).unwrap();
        // e^2 / (e^2 + 1), and with means of 1/3 and 2/3: 1 / (1 + e^(-2/3)).
        assert_guesses(&model, "a", &[("en", 0.880_797), ("de", 0.119_203)]);
        assert_guesses(&model, "a b\tb\nunknown __label__x", &[("de", 0.660_758), ("en", 0.339_242)]);
        assert_guesses(&model, "b </s> a a a a", &[("de", 0.880_797)]);
        assert_eq!((guesses(&model, "", 1), guesses(&model, "c d", 1), guesses(&model, "a", 0)), (vec![], vec![], vec![]));
        assert_eq!(guesses(&model, "a", 9).len(), 2);
    }

    #[test]
    fn other_losses_are_known() {
        // One against all, by the table: the sigmoid of 2 and of 0.
        assert_guesses(&read(&tiny(4).bytes).unwrap(), "a", &[("en", 0.880_797), ("de", 0.5)]);
        // The one inner node has the first row; its left child is the rarer label.
        assert_guesses(&read(&tiny(1).bytes).unwrap(), "a", &[("en", 0.880_797), ("de", 0.119_203)]);
        assert_guesses(&read(&tiny(1).bytes).unwrap(), "b", &[("de", 0.5), ("en", 0.5)]);
    }

    #[test]
    fn the_tree_joins_the_rarest_first() {
        let labels = [8, 5, 2, 1].map(|count| Label { name: String::new(), count });
        // 1 and 2 are node 4 of 3, that and 5 node 5 of 8; of equals an inner node comes first.
        assert_eq!(huffman(&labels), [[3, 2], [4, 1], [5, 0]]);
        assert!(huffman(&labels[..1]).is_empty());
    }

    #[test]
    fn letters_and_words_have_rows_of_buckets() {
        // One bucket: every n-gram is row 2. `<ab>` has `<a`, `ab`, `b>`, `<ab`, `ab>` of two and three letters.
        let mut model = Written::head(3, 2, 1, [2, 3], &["ab", "b"], &[("en", 7), ("de", 5)], -1);
        model.dense(&[[6.0, 0.0], [0.0, 6.0], [0.0, 1.0]]).dense(&[[1.0, 0.0], [0.0, 1.0]]);
        let model = read(&model.bytes).unwrap();
        let mut scratch = Scratch::default();
        model.predict("ab", 1, &mut scratch);
        // Then the pair of the word and the end of the line.
        assert_eq!(scratch.rows, [0, 2, 2, 2, 2, 2, 2]);
        model.predict("é", 1, &mut scratch);
        assert_eq!(scratch.rows, [2, 2, 2, 2], "<é, é>, <é>, and the pair");
    }

    #[test]
    fn pairs_of_words_have_buckets_of_their_own() {
        let mut model = Written::head(3, 2, 1000, [0, 0], &["a", "b"], &[("en", 1)], -1);
        model.dense(&[[0.0, 0.0]; 1002]).dense(&[[0.0, 0.0]]);
        let mut scratch = Scratch::default();
        read(&model.bytes).unwrap().predict("a b", 1, &mut scratch);
        // By a few lines of Python: (hash(a) * 116049371 + hash(b)) modulo 2^64 modulo 1000, hashes as numbers with a sign.
        assert_eq!(scratch.rows, [0, 1, 2 + 201, 2 + 848]);
    }

    /// Two centroids are used of a quantised model with norms that keeps one n-gram of three buckets.
    fn quantised() -> Written {
        let mut model = Written::head(3, 1, 3, [1, 1], &["a", "b"], &[("en", 7), ("de", 5)], 1);
        let kept = i32::try_from(hash_of(b"x") % 3).unwrap();
        model.i32(kept).i32(0);
        let mut centroids = [0.0; 512];
        centroids[..4].copy_from_slice(&[1.0, 0.0, 0.0, 1.0]);
        let mut norms = [0.0; 256];
        norms[..2].copy_from_slice(&[1.0, 3.0]);
        model.bytes(&[1, 1]).i64(3).i64(2).i32(3).bytes(&[0, 1, 1]);
        model.i32(2).i32(1).i32(2).i32(2).floats(&centroids);
        model.bytes(&[0, 1, 0]).i32(1).i32(1).i32(1).i32(1).floats(&norms);
        model.dense(&[[2.0, 0.0], [0.0, 2.0]]);
        model
    }

    #[test]
    fn quantised_rows_are_centroids_times_norms() {
        let model = read(&quantised().bytes).unwrap();
        assert_guesses(&model, "a", &[("en", 0.880_797)]);
        assert_guesses(&model, "b", &[("de", 0.997_527)]); // 1 / (1 + e^-6)
        // `x` is no word, but its one letter is an n-gram that was kept.
        assert_guesses(&model, "x", &[("de", 0.880_797)]);
        let model =
            FastText { dictionary: Dictionary { kept: Some(Kept { slots: vec![(FREE, 0)], rows: 0 }), ..model.dictionary }, ..model };
        assert!(guesses(&model, "x", 1).is_empty());
    }

    #[test]
    fn a_model_that_ends_early_is_an_error() {
        for whole in [tiny(3).bytes, quantised().bytes] {
            for length in 0..whole.len() {
                let error = read(&whole[..length]).expect_err("it is cut");
                assert!(matches!(error, ModelError::Short { .. }), "{length}: {error}");
            }
        }
        assert_eq!(
            read(b"PK\x03\x04xxxx").unwrap_err().to_string(),
            "this is no fastText model: it begins with 0x4034b50, a model with 0x2f4f16ba"
        );
        let error = read(&tiny(3).bytes[..100]).unwrap_err().to_string();
        assert!(error.ends_with("bytes, and the file has 8 left") || error.contains("would take"), "{error}");
    }

    #[test]
    fn a_model_that_lies_is_an_error_or_does_no_harm() {
        for whole in [tiny(1).bytes, tiny(3).bytes, quantised().bytes] {
            for at in 0..whole.len().min(400) {
                for byte in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut bytes = whole.clone();
                    bytes[at] = byte;
                    if let Ok(model) = read(&bytes) {
                        guesses(&model, "a b x é a", 3);
                    }
                }
            }
        }
        // Two billion words in a file of a hundred bytes.
        let mut bytes = tiny(3).bytes;
        bytes[64..68].copy_from_slice(&i32::MAX.to_le_bytes());
        assert_eq!(
            read(&bytes).unwrap_err().to_string(),
            "the entries of the dictionary would take 21474836470 bytes, and the file has 130 left"
        );
    }
}
