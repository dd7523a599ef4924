//! `split_context`: questions about a text at every size, from the whole of a passage down to its clauses.

mod borders;
mod prompt;
mod read;
mod roots;
#[cfg(test)]
mod tests;
mod tree;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use futures::{FutureExt, stream};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, describe, document, llm, query};
use serde::{Deserialize, Serialize};

use self::prompt::{NodePrompt, own_template};
use self::roots::{Cut, Cutter, Root};
use self::tree::{Context, DRAWS_OF_A_TREE, Failure, Grower, Grown, Node, Question};
use super::{Llm, LlmName, Provenance, count};
use crate::text::cut::{Chunker, Unit};
use crate::text::tokenizer::TextTokenizer;
use crate::units::{Chars, ColumnName, ColumnNames, Fraction};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, Port, Rejection, RowAsync, Stage, StageConfig, StageError};

/// Asks a model for questions about each document: about whole passages, their halves, the halves of those, and so on down to clauses.
///
/// A document is cut into roots: paragraphs, and of each as many sentences as fit into `size`. On each root grows a tree. Its nodes are asked about in
/// one request each: for a question about the node's text, and for where the text is divided in two. The halves are the next nodes, until they have
/// `min_chars` or fewer. Every question becomes a row, with its node's text as `context`. A root is to have one question for each
/// `chars_per_question` characters; more trees are grown on it, with other draws, until there are `over_generate` times as many. Which of them are
/// kept is for the stages behind this one: `quota` says how many are wanted of each `root_id`.
///
/// With `split: spans` the model gives the number of a sentence (or of a clause, in a node of one sentence), so that every context is a part of the
/// document, word for word, from `span_start` to `span_end`. With `split: rewrite` it writes both halves anew, so that each can be read by itself, and
/// what it writes is tested: each half must be shorter than the whole, and `min_precision` of their words must stand in it in the same order.
///
/// A node whose answers can't be used, in `tries` askings, is rejected (`unusable_answer`) with the last raw answer; the rest of its tree goes on.
/// Documents without text (`no_text`), whose paragraphs are all too short (`too_short`), or that have no letter or digit (`no_letters`) are dropped.
/// What is left out of others is counted for the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitContextConfig {
    /// The entry of `llms` that is asked.
    pub llm: LlmName,
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// What stands between paragraphs.
    #[serde(default)]
    pub paragraphs: ParagraphsAt,
    /// Paragraphs of so many characters or fewer are left out: headings, captions, menus.
    #[serde(default = "default_min_paragraph_chars")]
    pub min_paragraph_chars: Chars,
    /// Most characters of a root, or most tokens.
    #[serde(default)]
    pub size: RootSize,
    /// Parts of so many characters or fewer are not asked about.
    #[serde(default = "default_min_chars")]
    pub min_chars: Chars,
    /// How a text is divided in two.
    #[serde(default)]
    pub split: SplitBy,
    /// The form of the answers.
    #[serde(default)]
    pub answers: AnswerForm,
    /// Share of the words of two written halves that must stand in the text in the same order (ROUGE-L precision); for `split: rewrite`.
    #[serde(default = "default_min_precision")]
    pub min_precision: Fraction,
    /// Share of the words of the text that must stand in its two written halves in the same order (ROUGE-L recall); for `split: rewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_recall: Option<Fraction>,
    /// A root is to have one question for so many characters.
    #[serde(default = "default_chars_per_question")]
    pub chars_per_question: NonZeroU64,
    /// Fewest questions that a root is to have, however short it is.
    #[serde(default = "default_min_quota")]
    pub min_quota: u32,
    /// Trees are grown on a root until there are more questions than so many times its quota.
    #[serde(default = "default_over_generate")]
    pub over_generate: f64,
    /// Most trees of a root.
    #[serde(default = "default_max_trees")]
    pub max_trees: NonZeroU32,
    /// Most halvings between a root and a node.
    #[serde(default = "default_max_depth")]
    pub max_depth: u32,
    /// Most nodes of a tree that are asked about.
    #[serde(default = "default_max_nodes")]
    pub max_nodes: NonZeroU32,
    /// A minijinja template of what is asked, in a file, relative to the pipeline file. `{{ system }}`, `{{ user }}` and `{{ assistant }}` begin turns;
    /// `{{ text }}` is the node's text; `{{ wants }}` is `question`, `number` (then `{{ parts }}` holds its numbered parts) or `halves`; `{{ form }}`
    /// is the value of `answers`, `{{ language }}` `en` or `zh`; `{{ examples }}` have a `text`, `parts` and an `answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Worked examples that are shown: 0 to 3, the short ones first. Small models follow a short prompt better.
    #[serde(default = "default_examples")]
    pub examples: u32,
    /// The language of prompt and examples.
    #[serde(default)]
    pub language: LanguageChoice,
    /// How much chance decides.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// Share of the probability that is drawn from; the endpoint's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Fraction>,
    /// Most tokens of an answer.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: NonZeroU32,
    /// Times that a node is asked about, at most, until an answer can be used.
    #[serde(default = "default_tries")]
    pub tries: NonZeroU32,
    /// Columns of the document that its questions have too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carry: Option<ColumnNames>,
    /// Whether rows have the text of their root as `root_text`.
    #[serde(default)]
    pub root_text: bool,
}

/// What stands between paragraphs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ParagraphsAt {
    /// The end of a line.
    #[default]
    Lines,
    /// A blank line: for texts whose lines are broken at a width.
    BlankLines,
}

/// The most that a root may have: one of `chars` and `tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct RootSize {
    /// Most characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chars: Option<NonZeroU32>,
    /// Most tokens of `tokenizer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<NonZeroU32>,
    /// The tokenizer's file, relative to the pipeline file; for `tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

impl Default for RootSize {
    // Source: `max_length` of the code of arXiv 2405.16579.
    fn default() -> Self {
        Self { chars: NonZeroU32::new(500), tokens: None, tokenizer: None }
    }
}

/// How a text is divided in two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SplitBy {
    /// The model says behind which sentence or clause: both halves are the text's own.
    #[default]
    Spans,
    /// The model writes both halves anew, as in the paper.
    Rewrite,
}

/// The form of the answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AnswerForm {
    /// JSON of a schema.
    #[default]
    Json,
    /// Lines that begin with `Question:`, `Split after:`, `Context 1:`, `Context 2:`; for models that are bad at JSON.
    Labels,
}

/// The language of prompt and examples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LanguageChoice {
    /// Chinese for documents that are written in it, else English. Questions are asked for in the language of the text.
    #[default]
    Auto,
    /// English.
    En,
    /// Chinese.
    Zh,
}

/// A language that there are prompts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Language {
    En,
    Zh,
}

// Sources of the numbers, where not said otherwise: the code of arXiv 2405.16579 (github.com/quanshr/AugCon), and section 3 of the paper.

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn default_min_paragraph_chars() -> Chars {
    Chars::new(100)
}

/// The code stops at 20 characters, the paper below them.
fn default_min_chars() -> Chars {
    Chars::new(20)
}

/// Of the paper alone: the code has no such test.
fn default_min_precision() -> Fraction {
    Fraction::new(0.7).expect("it is one")
}

fn default_chars_per_question() -> NonZeroU64 {
    NonZeroU64::new(35).unwrap_or(NonZeroU64::MIN)
}

/// Ours: with none, roots under 35 characters would be asked about and nothing of them wanted.
fn default_min_quota() -> u32 {
    1
}

fn default_over_generate() -> f64 {
    1.15
}

/// Ours: the code goes on for ever where a model never gives an answer that can be used.
fn default_max_trees() -> NonZeroU32 {
    NonZeroU32::new(8).unwrap_or(NonZeroU32::MIN)
}

/// Ours: 500 characters take four halvings.
fn default_max_depth() -> u32 {
    16
}

/// Ours: 500 characters in halves are 31 nodes.
fn default_max_nodes() -> NonZeroU32 {
    NonZeroU32::new(127).unwrap_or(NonZeroU32::MIN)
}

/// Ours: the paper's three take more than a thousand tokens.
fn default_examples() -> u32 {
    2
}

fn default_temperature() -> f64 {
    0.85
}

fn default_max_tokens() -> NonZeroU32 {
    NonZeroU32::new(1024).unwrap_or(NonZeroU32::MIN)
}

fn default_tries() -> NonZeroU32 {
    NonZeroU32::new(4).unwrap_or(NonZeroU32::MIN)
}

/// Rows leave in batches of at most so many.
const ROWS: usize = 1024;

impl SplitContextConfig {
    /// The columns that rows have besides those that are carried.
    fn own_columns(&self) -> Vec<ColumnSpec> {
        let [parent, root, tree, path, depth, start, end, context, question, quota, stop] = query::columns();
        let mut columns = vec![document::ID.spec(), parent, root, tree, path, depth, start, end, context];
        columns.extend(self.root_text.then(|| query::ROOT_TEXT.spec()));
        columns.extend([question, quota, stop]);
        columns.extend(llm::provenance());
        columns
    }

    /// What cannot work whatever the input is.
    fn check(&self) -> Result<(), StageError> {
        let RootSize { chars, tokens, tokenizer } = &self.size;
        match (chars, tokens, tokenizer) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            (None, Some(_), None) => {
                return Err(StageError::setting("size", "wanted a tokenizer's file with `tokens`, found none")
                    .with_help("write `size: {tokens: 128, tokenizer: tokenizer.json}`"));
            }
            (_, None, Some(name)) => {
                return Err(StageError::setting("size.tokenizer", format!("found `{name}`, which is for `tokens`")));
            }
            (Some(_), Some(_), _) => return Err(StageError::setting("size", "wanted `chars` or `tokens`, found both")),
            (None, None, None) => return Err(StageError::setting("size", "wanted `chars` or `tokens`, found neither")),
        }
        let in_range = |setting: &str, number: f64, most: f64| {
            if (0.0..=most).contains(&number) {
                return Ok(());
            }
            Err(StageError::setting(setting, format!("wanted a number from 0 to {most}, found {number}")))
        };
        in_range("temperature", self.temperature, 2.0)?;
        in_range("over_generate", self.over_generate, 1000.0)?;
        let most = |setting: &str, number: u32, most: u32| {
            if number <= most { Ok(()) } else { Err(StageError::setting(setting, format!("wanted {most} at most, found {number}"))) }
        };
        most("examples", self.examples, 3)?;
        most("tries", self.tries.get(), DRAWS_OF_A_TREE)?;
        most("max_trees", self.max_trees.get(), 1_000_000)?;
        most("max_depth", self.max_depth, 1000)?;
        if self.min_recall.is_some() && self.split == SplitBy::Spans {
            return Err(StageError::setting("min_recall", "found it with `split: spans`, whose halves are always the whole text"));
        }
        Ok(())
    }

    /// The fields that are carried, by their place in the input.
    fn carried(&self, input: &Schema) -> Result<Vec<(usize, Field)>, StageError> {
        let own = self.own_columns();
        let mut carried = Vec::new();
        for name in self.carry.iter().flat_map(ColumnNames::iter) {
            let place = input.index_of(name.as_str()).map_err(|_| {
                let names: Vec<String> = input.fields().iter().map(|field| format!("`{}`", field.name())).collect();
                StageError::setting("carry", format!("the input has no column `{name}`, it has {}", names.join(", ")))
            })?;
            if own.iter().any(|column| column.name == name.as_str()) {
                return Err(StageError::setting("carry", format!("found `{name}`, which is a column of every question")));
            }
            carried.push((place, input.field(place).clone().with_nullable(true)));
        }
        Ok(carried)
    }
}

impl StageConfig for SplitContextConfig {
    const NAME: &'static str = "split_context";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowAsync;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: split_context, from: pages, llm: local, min_paragraph_chars: 40, carry: [url]}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec(), document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        self.own_columns()
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        self.check()?;
        let input = cx.input()?;
        let own =
            self.own_columns().into_iter().map(|column| describe(Field::new(&column.name, column.data_type, true), &column.description));
        let fields: Vec<Field> = own.chain(self.carried(input)?.into_iter().map(|(_, field)| field)).collect();
        Ok(Outputs::new(Arc::new(Schema::new(fields))).with_dropped(input)?.dropped_apart())
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let llm = cx.llm("llm", &self.llm)?;
        let source = super::prompt::source(&cx.base_dir, ("prompt", None), ("prompt", self.prompt.as_deref()))?;
        let asker = |language: Language| -> Result<Asker, StageError> {
            let source = source.as_deref().unwrap_or_else(|| own_template(language));
            let prompt = NodePrompt::new(source, language, self.answers, usize::try_from(self.examples).unwrap_or(usize::MAX))?;
            let top_p = self.top_p.map(Fraction::get);
            let shape = serde_json::json!([prompt.shape(), self.split, self.temperature, top_p, self.max_tokens]);
            Ok(Asker { provenance: Provenance::new(&llm, &shape)?, prompt })
        };
        let (unit, max) = match (&self.size.tokens, &self.size.tokenizer) {
            (Some(tokens), Some(name)) => {
                let tokenizer = TextTokenizer::read(&cx.base_dir, name).map_err(|error| match error {
                    StageError::Setting { problem, help, .. } => {
                        StageError::Setting { setting: "size.tokenizer".to_owned(), problem, help }
                    }
                    other => other,
                })?;
                (Unit::Tokens(Box::new(tokenizer)), *tokens)
            }
            _ => (Unit::Characters, self.size.chars.unwrap_or(NonZeroU32::MIN)),
        };
        if self.temperature == 0.0 && self.max_trees.get() > 1 {
            cx.note("`temperature: 0` leaves nothing to chance: every tree of a root is likely to be the first one again; `max_trees: 1` grows only that");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000, as was checked")]
        let over_generate = (self.over_generate * 10_000.0).round() as u64;
        let split_precision = Measure::new("split_precision", "share of the words of both halves that the text has in the same order");
        Ok(Stage::RowAsync(Box::new(SplitContext {
            cutter: Cutter {
                chunker: Chunker { unit, max: u64::from(max.get()), overlap: 0 },
                paragraphs: self.paragraphs,
                min_paragraph_chars: self.min_paragraph_chars.get(),
                min_chars: self.min_chars.get(),
            },
            grower: Grower {
                llm: Arc::clone(&llm),
                split: self.split,
                form: self.answers,
                min_chars: self.min_chars.get(),
                max_depth: self.max_depth,
                max_nodes: self.max_nodes.get(),
                max_trees: self.max_trees.get(),
                chars_per_question: self.chars_per_question.get(),
                min_quota: u64::from(self.min_quota),
                over_generate,
                min_precision: self.min_precision.get(),
                min_recall: self.min_recall.map(Fraction::get),
                tries: self.tries.get(),
                temperature: self.temperature,
                top_p: self.top_p.map(Fraction::get),
                max_tokens: self.max_tokens.get(),
            },
            english: asker(Language::En)?,
            chinese: asker(Language::Zh)?,
            language: self.language,
            llm,
            column: document::TEXT.named(self.column.as_str()),
            carried: self.carried(input)?.into_iter().map(|(place, _)| place).collect(),
            root_text: self.root_text,
            split_precision: split_precision.at_least("min_precision", self.min_precision.get()),
            output,
        })))
    }

    fn llms(&self) -> Vec<(&'static str, &LlmName)> {
        vec![("llm", &self.llm)]
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        Ok(self.prompt.iter().chain(&self.size.tokenizer).map(|name| (name.clone(), cx.base_dir.join(name))).collect())
    }
}

struct SplitContext {
    cutter: Cutter,
    grower: Grower,
    english: Asker,
    chinese: Asker,
    language: LanguageChoice,
    llm: Arc<Llm>,
    column: Column<StringArray>,
    /// Columns of the input that rows have too.
    carried: Vec<usize>,
    root_text: bool,
    split_precision: Measure,
    output: SchemaRef,
}

/// What documents of a language are asked about with.
struct Asker {
    prompt: NodePrompt,
    provenance: Provenance,
}

impl RowAsync for SplitContext {
    fn window(&self) -> usize {
        self.llm.window()
    }

    fn process<'a>(&'a self, row: RecordBatch, out: &'a mut Emit) -> BoxFuture<'a, Result<(), StageError>> {
        async move {
            let (ids, texts) = (document::ID.try_of(&row)?.clone(), self.column.try_of(&row)?.clone());
            if ids.is_null(0) {
                out.reject_row(
                    &row,
                    0,
                    "no_id",
                    "wanted an id, by which the trees of one document are told from those of others, found null",
                );
                return Ok(());
            }
            let drop = |out: &mut Emit, reason| out.drop_rows(&row, &[reason]);
            let plain = |reason| Dropped { reason, value: None, threshold: None, duplicate_of: None };
            let text = if texts.is_null(0) { "" } else { texts.value(0) };
            if text.trim().is_empty() {
                return drop(out, plain("no_text"));
            }
            let cut = match self.cutter.cut(text) {
                Ok(cut) => cut,
                Err(problem) => {
                    out.reject_row(&row, 0, "not_tokenized", problem);
                    return Ok(());
                }
            };
            count_text(&cut, out);
            if cut.roots.is_empty() {
                let reason = if cut.longest_paragraph <= self.cutter.min_paragraph_chars {
                    Dropped::measured("too_short", cut.longest_paragraph as f64, self.cutter.min_paragraph_chars as f64)
                } else if cut.without_letters > 0 {
                    plain("no_letters")
                } else if cut.too_large > 0 {
                    plain("one_character")
                } else {
                    Dropped::measured("too_short", cut.longest_root as f64, self.cutter.min_chars as f64)
                };
                return drop(out, reason);
            }
            let asker = match self.language {
                LanguageChoice::En => &self.english,
                LanguageChoice::Zh => &self.chinese,
                LanguageChoice::Auto => {
                    if is_chinese(text) {
                        &self.chinese
                    } else {
                        &self.english
                    }
                }
            };
            let grown = self.grow_all(text, &cut.roots, asker).await?;
            self.give(&row, ids.value(0), text, (&cut.roots, &grown), asker, out)
        }
        .boxed()
    }
}

impl SplitContext {
    /// Grows the trees of all roots, many at once.
    async fn grow_all(&self, text: &str, roots: &[Root], asker: &Asker) -> Result<Vec<Grown>, StageError> {
        let is_stopped = AtomicBool::new(false);
        let is_stopped = &is_stopped;
        let grow = |root| {
            async move {
                // What is under way when the run ends is finished, for it is paid for; nothing new is begun.
                if is_stopped.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let grown = self.grower.grow(text, root, &asker.prompt).await;
                if grown.is_err() {
                    is_stopped.store(true, Ordering::Relaxed);
                }
                grown.map(Some)
            }
            .boxed()
        };
        let growing: Vec<BoxFuture<'_, Result<Option<Grown>, StageError>>> = roots.iter().map(grow).collect();
        let grown: Vec<Result<Option<Grown>, StageError>> = stream::iter(growing).buffered(self.llm.window()).collect().await;
        // Roots that were not begun are only found behind an error.
        let (mut all, mut error) = (Vec::with_capacity(grown.len()), None);
        for grown in grown {
            match grown {
                Ok(grown) => all.extend(grown),
                Err(stop) => error = error.or(Some(stop)),
            }
        }
        error.map_or(Ok(all), Err)
    }

    /// Gives a row for each question, and rejects nodes that have none.
    fn give(
        &self,
        row: &RecordBatch,
        id: &str,
        text: &str,
        (roots, grown): (&[Root], &[Grown]),
        asker: &Asker,
        out: &mut Emit,
    ) -> Result<(), StageError> {
        let mut rows: Vec<Asked<'_>> = Vec::new();
        for (number, (root, grown)) in roots.iter().zip(grown).enumerate() {
            out.count("roots", if grown.questions >= grown.quota { "quota_met" } else { "quota_missed" }, 1);
            out.count("trees", "grown", u64::from(grown.trees));
            for node in &grown.nodes {
                let asked = |question| Asked { number, root, quota: grown.quota, node, question };
                match &node.outcome {
                    Ok(question) => {
                        count(out, &self.llm, &question.answers);
                        out.count("questions", &format!("depth {:02}", node.path.len()), 1);
                        out.count("nodes", question.stop.unwrap_or("divided"), 1);
                        if let Some(precision) = question.precision {
                            out.observe(&self.split_precision, precision, question.stop != Some("hallucination"));
                        }
                        rows.push(asked(question));
                    }
                    Err(Failure { reason, detail, answers }) => {
                        count(out, &self.llm, answers);
                        out.count("nodes", reason, 1);
                        let id = Some(node_id(id, number, node));
                        out.reject(Rejection { id, file: None, offset: None, reason, detail: detail.clone() });
                    }
                }
            }
        }
        rows.chunks(ROWS).try_for_each(|rows| out.rows(self.batch(row, id, text, rows, asker)?))
    }

    fn batch(&self, row: &RecordBatch, id: &str, text: &str, rows: &[Asked<'_>], asker: &Asker) -> Result<RecordBatch, StageError> {
        let strings =
            |of: &dyn Fn(&Asked<'_>) -> String| Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>()) as ArrayRef;
        let (starts, ends): (Vec<Option<i64>>, Vec<Option<i64>>) = rows.iter().map(|row| row.span(text).unzip()).unzip();
        let int = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        let mut columns: Vec<ArrayRef> = vec![
            strings(&|row| node_id(id, row.number, row.node)),
            strings(&|_| id.to_owned()),
            strings(&|row| root_id(id, row.number)),
            Arc::new(rows.iter().map(|row| Some(int(u64::from(row.node.tree)))).collect::<Int32Array>()),
            strings(&|row| row.node.path.clone()),
            Arc::new(rows.iter().map(|row| i16::try_from(row.node.path.len()).ok()).collect::<Int16Array>()),
            Arc::new(Int64Array::from(starts)),
            Arc::new(Int64Array::from(ends)),
            strings(&|row| row.node.context.text(text).to_owned()),
        ];
        columns.extend(self.root_text.then(|| strings(&|row| text[row.root.part.clone()].to_owned())));
        columns.extend([
            strings(&|row| row.question.question.clone()),
            Arc::new(rows.iter().map(|row| Some(int(row.quota))).collect::<Int32Array>()),
            Arc::new(rows.iter().map(|row| row.question.stop).collect::<StringArray>()) as ArrayRef,
        ]);
        columns.extend(asker.provenance.columns(rows.iter().map(|row| row.question.answers.as_slice())));
        let again = UInt32Array::from(vec![0; rows.len()]);
        for &place in &self.carried {
            columns.push(take(row.column(place), &again, None)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// A question on its way out.
struct Asked<'g> {
    /// The root's number in its document.
    number: usize,
    root: &'g Root,
    quota: u64,
    node: &'g Node,
    question: &'g Question,
}

impl Asked<'_> {
    /// Characters of the document between which the context stands.
    fn span(&self, text: &str) -> Option<(i64, i64)> {
        let Context::Span(span) = &self.node.context else { return None };
        let start = self.root.chars_before + Chars::of(&text[self.root.part.start..span.start]).get();
        let end = start + Chars::of(&text[span.clone()]).get();
        Some((i64::try_from(start).ok()?, i64::try_from(end).ok()?))
    }
}

fn root_id(document: &str, root: usize) -> String {
    format!("{document}#{root}")
}

fn node_id(document: &str, root: usize, node: &Node) -> String {
    let dot = if node.path.is_empty() { "" } else { "." };
    format!("{document}#{root}.{}{dot}{}", node.tree, node.path)
}

/// Says what became of a document's characters.
fn count_text(cut: &Cut, out: &mut Emit) {
    for (name, chars) in [
        ("in roots", cut.in_roots),
        ("in short paragraphs", cut.in_short_paragraphs),
        ("in short roots", cut.in_short_roots),
        ("without letters", cut.without_letters),
        ("in one character", cut.too_large),
    ] {
        if chars > 0 {
            out.count("characters", name, chars);
        }
    }
}

/// Characters of a text that are looked at for its language.
const SEEN: usize = 1 << 14;

/// Whether a text is written in Chinese: more than half of its letters are Han, and hardly any are those that Japanese has between them.
fn is_chinese(text: &str) -> bool {
    let (mut han, mut kana, mut letters) = (0_u32, 0_u32, 0_u32);
    for character in text.chars().take(SEEN).filter(|character| character.is_alphabetic()) {
        letters += 1;
        han += u32::from(
            matches!(character, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}'),
        );
        kana += u32::from(matches!(character, '\u{3040}'..='\u{30FF}'));
    }
    han * 2 > letters && kana * 20 < han
}
