//! `decontaminate`: finds texts that hold examples of benchmarks.

mod benchmarks;
mod cut;
mod index;
mod matches;
mod words;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use self::benchmarks::Benchmark;
use self::cut::Scissors;
use self::index::{Builder, Hit, Index, Scanner};
use self::matches::{Matches, merged};
use self::words::WordUnit;
use crate::stage::add_columns;
use crate::units::{Chars, ColumnName, Fraction};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Finds texts that hold examples of benchmarks, and drops them, cuts the examples out, or says so in columns.
///
/// Each example is cut into runs of `ngram` words, without case, punctuation and white space, and the same runs are looked for in every text. How
/// much of an example a text holds is the share of the example's different n-grams that stand in it; a text that holds more than `max_share`
/// of any example is contaminated. With `max_share: 0` one n-gram is enough. An example of fewer words than `ngram` is looked for as a whole,
/// unless it has fewer than `min_words` too: the note of `check` says how many there are of those. Matches are exact: the words themselves are
/// compared, not hashes alone. Text is not normalized otherwise: letters that are composed in two ways are different ones. A null text holds
/// nothing.
///
/// Reasons: `contaminated`, with the greatest share of an example that the text holds; with `action: cut`, `too_many_pieces`, with their
/// number, and `no_piece_left`, with the characters of the longest. The output `matches` has a row for each example and each contaminated text
/// that holds it, of the examples that it holds most of the 20 first: their benchmark and name, the share, the bytes of the text (as it came) where the
/// longest match stands, and its first 200 characters. The report counts the contaminated texts of each benchmark.
///
/// Not as elsewhere: GPT-3 took runs of 13 words (of 8 where examples are short), words by white space, and passed over n-grams that are in over ten
/// documents of the corpus. datatrove takes runs of 12 tokens, by default those that reach into an example's answer, by 64-bit hashes, and drops a
/// document with any.
///
/// Source: Brown and others, *Language Models are Few-Shot Learners*, 2020, appendix C, for 13 words, the 200 characters on either side, pieces of
/// 200 and ten pieces.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecontaminateConfig {
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// The benchmarks: for each `path`, and where needed `columns`, `id`, `name` and `split`.
    pub against: Vec<Benchmark>,
    /// Words of an n-gram.
    #[serde(default = "default_ngram")]
    pub ngram: NonZeroU32,
    /// Fewest words of an example that is looked for as a whole, as it has fewer than `ngram`; longer ones are always looked for.
    #[serde(default = "default_min_words")]
    pub min_words: NonZeroU32,
    /// What a word is.
    #[serde(default)]
    pub words: WordUnit,
    /// The greatest share of an example's n-grams that a text may hold.
    #[serde(default = "default_max_share")]
    pub max_share: Fraction,
    /// What becomes of contaminated texts.
    #[serde(default)]
    pub action: Action,
    /// With `action: cut`: so many characters on either side of a match are cut out with it, and on from there to the next white space.
    #[serde(default = "default_chars")]
    pub window_chars: Chars,
    /// With `action: cut`: pieces of the text with fewer characters are cut out too.
    #[serde(default = "default_chars")]
    pub min_piece_chars: Chars,
    /// With `action: cut`: a text that falls into more pieces is dropped. Short ones count.
    #[serde(default = "default_max_pieces")]
    pub max_pieces: NonZeroU32,
}

/// What becomes of a contaminated text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Action {
    /// Its row is dropped.
    #[default]
    Drop,
    /// What matches is cut out; the pieces that are left are joined by a blank line.
    Cut,
    /// Nothing: `contaminated`, `contamination` (the greatest share) and `contaminated_by` (benchmark and example) are added to all rows.
    Tag,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

const fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

fn default_ngram() -> NonZeroU32 {
    const { number(13) }
}

fn default_min_words() -> NonZeroU32 {
    const { number(8) }
}

fn default_max_share() -> Fraction {
    Fraction::new(0.0).expect("0 is a fraction")
}

fn default_chars() -> Chars {
    Chars::new(200)
}

fn default_max_pieces() -> NonZeroU32 {
    const { number(10) }
}

/// An n-gram of more words is no n-gram any more, and each text would be held in memory by as many.
const MAX_NGRAM: u32 = 100;

const CONTAMINATED: Column<BooleanArray> = Column::new("contaminated", DataType::Boolean, "whether the text holds too much of an example");
const CONTAMINATION: Column<Float64Array> =
    Column::new("contamination", DataType::Float64, "the greatest share of an example's n-grams that the text holds");
const CONTAMINATED_BY: Column<StringArray> =
    Column::new("contaminated_by", DataType::Utf8, "the example that the text holds most of: benchmark/example");

impl StageConfig for DecontaminateConfig {
    const NAME: &'static str = "decontaminate";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: decontaminate, from: pages, against: [{path: ../datasets/samples/human-eval/problems.jsonl, columns: [prompt, canonical_solution], id: task_id, name: human_eval}]}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec(), document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        match self.action {
            Action::Tag => vec![CONTAMINATED.spec(), CONTAMINATION.spec(), CONTAMINATED_BY.spec()],
            Action::Drop | Action::Cut => Vec::new(),
        }
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        let outputs = Outputs::new(add_columns(input, &self.adds())?);
        let outputs = if self.action == Action::Tag { outputs } else { outputs.with_dropped(input)? };
        Ok(outputs.with(matches::PORT, Matches::schema()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        if self.ngram.get() > MAX_NGRAM {
            return Err(StageError::setting("ngram", format!("wanted at most {MAX_NGRAM} words, found {}", self.ngram)));
        }
        let share = Measure::new("contamination", "greatest share of an example's n-grams that the text holds");
        let (benchmarks, index) = self.index(cx)?;
        Ok(Stage::RowLocal(Box::new(Decontaminate {
            output: add_columns(cx.input()?, &self.adds())?,
            share: if self.action == Action::Drop { share.at_most("max_share", self.max_share.get()) } else { share },
            pieces: Measure::new("pieces", "pieces that a contaminated text falls into")
                .at_most("max_pieces", self.max_pieces.get().into()),
            scissors: Scissors { window: self.window_chars, min_piece: self.min_piece_chars, max_pieces: self.max_pieces.get() as usize },
            config: self.clone(),
            benchmarks,
            index,
        })))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        let mut files = Vec::new();
        for benchmark in &self.against {
            let of_benchmark = benchmark.files(&cx.base_dir)?;
            let name = benchmark.name(&of_benchmark);
            files.extend(of_benchmark.into_iter().map(|file| (format!("{name}: {}", file.name), file.path)));
        }
        Ok(files)
    }
}

impl DecontaminateConfig {
    /// The names of the benchmarks, and their n-grams.
    fn index(&self, cx: &BuildContext) -> Result<(Vec<String>, Index), StageError> {
        if self.against.is_empty() {
            return Err(StageError::setting("against", "an empty list of benchmarks"));
        }
        let mut builder = Builder::new(self.words, self.ngram.get() as usize, self.min_words.min(self.ngram).get() as usize);
        let mut names: Vec<String> = Vec::new();
        let mut notes = Vec::new();
        for (number, benchmark) in (0..).zip(&self.against) {
            let files = benchmark.files(&cx.base_dir)?;
            let name = benchmark.name(&files);
            if names.contains(&name) {
                let problem = format!("two benchmarks are called `{name}`");
                return Err(StageError::setting("against", problem).with_help("give one of them a `name`"));
            }
            let size = benchmark.read(number, &files, &mut builder)?;
            if size.examples == size.too_short {
                let least = self.min_words.min(self.ngram);
                let problem = format!("of {} examples of `{name}` none has {least} words or more", size.examples);
                return Err(StageError::setting("against", problem).with_help("`min_words` says how many an example must have"));
            }
            let too_short = match size.too_short {
                0 => String::new(),
                n => format!(" ({n} with fewer than {} words are not looked for)", self.min_words.min(self.ngram)),
            };
            notes.push(format!("{} of {name}{too_short}", size.examples));
            names.push(name);
        }
        let index = builder.finish().ok_or_else(|| StageError::setting("against", "over 2^32 n-grams"))?;
        cx.note(format!("examples to look for: {}; {} different n-grams", notes.join(", "), index.n_grams()));
        Ok((names, index))
    }
}

struct Decontaminate {
    config: DecontaminateConfig,
    output: SchemaRef,
    benchmarks: Vec<String>,
    index: Index,
    share: Measure,
    pieces: Measure,
    scissors: Scissors,
}

/// How much of an example a text holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    example: u32,
    n_grams: u32,
    share: f64,
}

/// What is found in a text.
#[derive(Default)]
struct Findings {
    /// Its n-grams, each once.
    grams: Vec<u32>,
    /// For each example of all, how many of its n-grams it holds; 0 but while it is looked at.
    counts: Vec<u32>,
    /// The examples of which it holds any, those first that it holds most of.
    held: Vec<Held>,
}

impl RowLocal for Decontaminate {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let texts = document::TEXT.named(self.config.column.as_str()).try_of(&batch)?;
        let ids = document::ID.try_of(&batch)?;
        let mut scanner = Scanner::new(&self.index);
        let mut findings = Findings { counts: vec![0; self.index.examples.len()], ..Findings::default() };
        let mut matches = Matches::default();
        let mut verdicts = Vec::with_capacity(batch.num_rows());
        // What each text holds most of; for `action: tag`.
        let mut most: Vec<Option<Held>> = Vec::with_capacity(batch.num_rows());
        // Rows whose text is another now.
        let mut changed: Vec<(usize, String)> = Vec::new();
        for (row, (text, id)) in texts.iter().zip(ids).enumerate() {
            let Some(text) = text else {
                verdicts.push(Verdict::Keep);
                most.push(None);
                continue;
            };
            let hits = scanner.scan(text);
            findings.weigh(&self.index, hits);
            let worst = findings.held.first().copied();
            let share = worst.map_or(0.0, |worst| worst.share);
            let is_contaminated = worst.is_some() && share > self.config.max_share.get();
            let verdict = if is_contaminated {
                self.report(id, text, hits, &findings, &mut matches, out)?;
                match self.config.action {
                    Action::Tag => Verdict::Keep,
                    Action::Drop => Verdict::Drop(Dropped::measured("contaminated", share, self.config.max_share.get())),
                    Action::Cut => match self.cut(text, hits, &findings, out) {
                        Ok(left) => {
                            changed.push((row, left));
                            Verdict::Keep
                        }
                        Err(why) => Verdict::Drop(why),
                    },
                }
            } else {
                Verdict::Keep
            };
            out.observe(&self.share, share, verdict == Verdict::Keep);
            verdicts.push(verdict);
            most.push(worst);
        }
        out.to(matches::PORT, matches.take()?)?;
        let mut columns = batch.columns().to_vec();
        if !changed.is_empty() {
            columns[batch.schema_ref().index_of(self.config.column.as_str())?] = replaced(texts, changed);
        }
        if self.config.action == Action::Tag {
            let is_over = |held: &Held| held.share > self.config.max_share.get();
            let of_texts = || texts.iter().zip(&most);
            let contaminated = of_texts().map(|(text, held)| text.map(|_| held.as_ref().is_some_and(is_over)));
            let share = of_texts().map(|(text, held)| text.map(|_| held.map_or(0.0, |held| held.share)));
            columns.push(Arc::new(contaminated.collect::<BooleanArray>()));
            columns.push(Arc::new(share.collect::<Float64Array>()));
            columns.push(Arc::new(most.iter().map(|held| held.filter(is_over).map(|held| self.name_of(held))).collect::<StringArray>()));
        }
        let leave = RecordBatch::try_new(Arc::clone(&self.output), columns)?;
        if self.config.action == Action::Tag { out.rows(leave) } else { out.split_changed(&batch, &leave, verdicts) }
    }
}

impl Decontaminate {
    fn name_of(&self, held: Held) -> String {
        let example = &self.index.examples[held.example as usize];
        format!("{}/{}", self.benchmarks[example.benchmark as usize], example.name)
    }

    /// The examples that a text holds too much of.
    fn too_much<'f>(&self, findings: &'f Findings) -> &'f [Held] {
        let max = self.config.max_share.get();
        &findings.held[..findings.held.partition_point(|held| held.share > max)]
    }

    /// Lists the matches of a contaminated text, and counts it for each benchmark.
    fn report(
        &self,
        id: Option<&str>,
        text: &str,
        hits: &[Hit],
        findings: &Findings,
        matches: &mut Matches,
        out: &mut Emit,
    ) -> Result<(), StageError> {
        let held = self.too_much(findings);
        let mut of: Vec<u32> = held.iter().map(|held| self.index.examples[held.example as usize].benchmark).collect();
        of.sort_unstable();
        of.dedup();
        for benchmark in of {
            out.count("contaminated", &self.benchmarks[benchmark as usize], 1);
        }
        for held in held.iter().take(matches::MAX_EXAMPLES) {
            let of_example = hits.iter().filter(|hit| self.index.holders(hit.gram).binary_search(&held.example).is_ok());
            let spans = merged(of_example.map(|hit| hit.start..hit.end));
            let example = &self.index.examples[held.example as usize];
            matches.push(id, &self.benchmarks[example.benchmark as usize], example, *held, text, &spans);
        }
        if matches.is_full() { out.to(matches::PORT, matches.take()?) } else { Ok(()) }
    }

    /// What is left of a text without what it holds of examples.
    fn cut(&self, text: &str, hits: &[Hit], findings: &Findings, out: &mut Emit) -> Result<String, Dropped> {
        let held = self.too_much(findings);
        let mut examples: Vec<u32> = held.iter().map(|held| held.example).collect();
        examples.sort_unstable();
        let is_cut = |hit: &&Hit| self.index.holders(hit.gram).iter().any(|holder| examples.binary_search(holder).is_ok());
        let pieces = self.scissors.pieces(text, &merged(hits.iter().filter(is_cut).map(|hit| hit.start..hit.end)));
        let n_pieces = pieces.len() as f64;
        let left = self.scissors.join(text, &pieces);
        out.observe(&self.pieces, n_pieces, left.is_ok());
        left
    }
}

impl Findings {
    fn weigh(&mut self, index: &Index, hits: &[Hit]) {
        self.held.clear();
        self.grams.clear();
        self.grams.extend(hits.iter().map(|hit| hit.gram));
        self.grams.sort_unstable();
        self.grams.dedup();
        for holder in self.grams.iter().flat_map(|gram| index.holders(*gram)) {
            let count = &mut self.counts[*holder as usize];
            if *count == 0 {
                self.held.push(Held { example: *holder, n_grams: 0, share: 0.0 });
            }
            *count += 1;
        }
        for held in &mut self.held {
            held.n_grams = std::mem::take(&mut self.counts[held.example as usize]);
            held.share = f64::from(held.n_grams) / f64::from(index.examples[held.example as usize].n_grams);
        }
        self.held.sort_unstable_by(|a, b| b.share.total_cmp(&a.share).then(a.example.cmp(&b.example)));
    }
}

/// `texts` with others in some rows.
fn replaced(texts: &StringArray, changed: Vec<(usize, String)>) -> ArrayRef {
    let mut all = StringBuilder::with_capacity(texts.iter().len(), texts.value_data().len());
    let mut changed = changed.into_iter().peekable();
    for (row, text) in texts.iter().enumerate() {
        match changed.next_if(|(changed, _)| *changed == row) {
            Some((_, other)) => all.append_value(other),
            None => all.append_option(text),
        }
    }
    Arc::new(all.finish())
}

#[cfg(test)]
mod tests;
