//! `answer_queries`: answers questions from the text they are about, as conversations to fine-tune on.

mod overlap;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::BoxFuture;
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document, llm, sft};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::asking::{self, Asking, Temperature, Tries};
use super::prompt::NoPrompt;
use super::structured::dig::without_thoughts;
use super::{AnswerField, AnswerFields, AnswerSchema, AskError, LlmName, Message, Provenance, Role, count};
use crate::units::{Chars, ColumnName, Fraction};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, Port, RowAsync, Stage, StageConfig, StageError, Verdict};

/// Answers the question of each row from the context of the same row, and makes a conversation of both: `messages`, as `datasets` loads them and chat trainers read them.
///
/// The model sees the context, the question and the principles; the conversation has the question and the answer alone, so that what is trained knows the
/// matter without the text. `number_overlap` and `entity_overlap` say how much of the answer stands in the context or the question: the
/// share of its numbers (by value: `1,000` is `1000`), and of its names (runs of words with capital letters that no sentence begins with; none
/// in scripts without them). They are null where the answer has none. `min_number_overlap` and `min_entity_overlap` drop rows with less:
/// `low_number_overlap` and `low_entity_overlap`, with the share and the bound.
///
/// The row keeps its columns. Its `model`, `prompt_hash` and `answer_keys` are those of the answer; those of an earlier stage, which asked the question, become
/// `question_model`, `question_prompt_hash` and `question_answer_keys`. An answer that is empty, was cut off or can't be read is asked for again as in `ask_llm`, and its row rejected
/// in the end: `unusable_answer`, `answer_cut`. Rows with a null or empty question or context are rejected: `no_question`, `no_context`;
/// `prompt_too_long` too.
///
/// Source: Quan, *Automatically Generating Numerous Context-Driven SFT Data for LLMs across Diverse Granularity* (arXiv 2405.16579), section 3.3,
/// without the choice of examples by a judge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerQueriesConfig {
    /// Who answers: an entry of `llms`.
    pub llm: LlmName,
    /// The column of the questions.
    #[serde(default = "default_question")]
    pub question: ColumnName,
    /// The column of the texts that the questions are about.
    #[serde(default = "default_context")]
    pub context: ColumnName,
    /// What an answer is held to.
    #[serde(default = "default_principles")]
    pub principles: Vec<String>,
    /// A file of good answers that are shown to the model first, relative to the pipeline file: JSON lines with `context`, `question` and `answer`. Five to
    /// ten are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples_file: Option<String>,
    /// Whether the model thinks in writing before it answers. Only the answer is kept.
    #[serde(default)]
    pub reasoning: bool,
    /// A turn of the role `system` that each conversation begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_message: Option<String>,
    /// Whether the context's column stays.
    #[serde(default = "yes")]
    pub keep_context: bool,
    /// Least share of an answer's numbers that the context or the question has; rows with less are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_number_overlap: Option<Fraction>,
    /// Least share of an answer's names that the context or the question has; rows with less are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_entity_overlap: Option<Fraction>,
    /// How much chance decides, from 0 to 2; the endpoint's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// Share of the probability that is drawn from; the endpoint's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Fraction>,
    /// Most tokens of an answer.
    #[serde(default = "asking::default_max_tokens")]
    pub max_tokens: NonZeroU32,
    /// Times that is asked until an answer can be used.
    #[serde(default = "asking::default_tries")]
    pub tries: Tries,
    /// Most characters of a prompt; a row with a longer one is rejected and not asked about.
    #[serde(default = "asking::default_max_prompt_chars")]
    pub max_prompt_chars: Chars,
}

fn default_question() -> ColumnName {
    ColumnName::new("question")
}

fn default_context() -> ColumnName {
    ColumnName::new("context")
}

fn yes() -> bool {
    true
}

/// Source: the three principles of the paper's section 3.3, in our words.
fn default_principles() -> Vec<String> {
    [
        "Be accurate: say what the context says, and nothing that it does not support.",
        "Answer as a helpful person would who knows the matter: in whole sentences, to the point, and without a word about a context or a text.",
        "Be decent: nothing that harms, insults or breaks the law.",
    ]
    .map(str::to_owned)
    .to_vec()
}

const NUMBER_OVERLAP: Column<Float32Array> =
    Column::new("number_overlap", DataType::Float32, "share of the answer's numbers that the context or the question has");
const ENTITY_OVERLAP: Column<Float32Array> =
    Column::new("entity_overlap", DataType::Float32, "share of the answer's names that the context or the question has");

/// An answer that is shown to the model.
#[derive(Debug, Serialize, Deserialize)]
struct Example {
    context: String,
    question: String,
    answer: String,
}

/// Lines of a file of examples, at most: each is sent with every question.
const MAX_EXAMPLES: usize = 50;

/// Characters of the context that stand for an answer in a plan.
const STAND_IN_CHARS: usize = 300;

impl AnswerQueriesConfig {
    fn added() -> [ColumnSpec; 3] {
        [sft::messages().spec(), NUMBER_OVERLAP.spec(), ENTITY_OVERLAP.spec()]
    }

    /// The columns of the input that stay, by their place.
    fn kept(&self, input: &Schema) -> Vec<usize> {
        let is_gone = |field: &Field| !self.keep_context && field.name() == self.context.as_str();
        (0..input.fields().len()).filter(|column| !is_gone(input.field(*column))).collect()
    }

    /// What the model is told to be.
    fn system(&self) -> String {
        let mut text = "You answer a question from a context that you are given.".to_owned();
        if !self.principles.is_empty() {
            text.push_str(" Keep to these principles:");
            (1..).zip(&self.principles).for_each(|(number, principle)| text.push_str(&format!("\n{number}. {principle}")));
        }
        text
    }

    fn examples(&self, base_dir: &Path) -> Result<Vec<Example>, StageError> {
        let Some(file) = &self.examples_file else { return Ok(Vec::new()) };
        let path = base_dir.join(file);
        let wrong = |problem: String| StageError::setting("examples_file", format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(format!("can't be read: {error}")))?;
        let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines();
        let lines = (1..).zip(lines).filter(|(_, line): &(usize, &str)| !line.trim().is_empty());
        let read = |(number, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|error| wrong(format!("line {number}: wanted JSON with `context`, `question` and `answer`, found {error}")))
        };
        let examples: Vec<Example> = lines.take(MAX_EXAMPLES + 1).map(read).collect::<Result<_, _>>()?;
        match examples.len() {
            0 => Err(wrong("wanted one or more lines, found none".to_owned())),
            n if n > MAX_EXAMPLES => {
                Err(wrong(format!("wanted at most {MAX_EXAMPLES} lines, which are sent with every question, found more")))
            }
            _ => Ok(examples),
        }
    }
}

impl StageConfig for AnswerQueriesConfig {
    const NAME: &'static str = "answer_queries";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowAsync;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: answer_queries, from: questions, llm: local, min_number_overlap: 0.5}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        [&self.question, &self.context].map(|column| document::TEXT.named(column.as_str()).spec()).to_vec()
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        Self::added().into_iter().chain(llm::provenance()).collect()
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        if self.question == self.context {
            return Err(StageError::setting(
                "context",
                format!("wanted another column than `question`, found `{}` for both", self.context),
            ));
        }
        let kept = input.project(&self.kept(input))?;
        let earlier = llm::provenance();
        let renamed = |field: &Arc<Field>| {
            if earlier.iter().any(|column| column.name == *field.name()) {
                Arc::new(field.as_ref().clone().with_name(format!("question_{}", field.name())))
            } else {
                Arc::clone(field)
            }
        };
        let fields: Vec<Arc<Field>> = kept.fields().iter().map(renamed).collect();
        if let Some(twice) = fields.iter().enumerate().find(|(at, field)| fields[..*at].iter().any(|other| other.name() == field.name())) {
            return Err(schemas::SchemaError::Clash { column: twice.1.name().clone() }.into());
        }
        let kept = Schema::new_with_metadata(fields, input.metadata().clone());
        let outputs = Outputs::new(crate::stage::add_columns(&kept, &self.adds())?);
        let drops = self.min_number_overlap.is_some() || self.min_entity_overlap.is_some();
        Ok(if drops { outputs.with_dropped(input)? } else { outputs })
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let asking = Asking {
            llm: cx.llm("llm", &self.llm)?,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            stop: Vec::new(),
            tries: self.tries,
            max_prompt_chars: self.max_prompt_chars,
        };
        let form = self.reasoning.then(|| {
            AnswerFields::new([
                ("reasoning", AnswerField::text().described("what the context says of the question, step by step")),
                ("answer", AnswerField::text().described("the answer alone")),
            ])
        });
        let examples = self.examples(&cx.base_dir)?;
        let mut opening = vec![Message::text(Role::System, self.system())];
        for example in &examples {
            // Thoughts that were not thought would be a bad example of them.
            let answer = match form {
                Some(_) => json!({"reasoning": "The context says it.", "answer": example.answer}).to_string(),
                None => example.answer.clone(),
            };
            opening.push(Message::text(Role::User, asked(&example.context, &example.question)));
            opening.push(Message::text(Role::Assistant, answer));
        }
        let told = form.as_ref().map(AnswerFields::instruction);
        let provenance = Provenance::new(&asking.llm, &(&opening, asked("", ""), &told, asking.shape()))?;
        let bounded = |measure: Measure, setting, bound: Option<Fraction>| match bound {
            Some(least) => measure.at_least(setting, least.get()),
            None => measure,
        };
        let numbers = Measure::new("number_overlap", "share of the answer's numbers that the context or the question has");
        let entities = Measure::new("entity_overlap", "share of the answer's names that the context or the question has");
        let kept = self.kept(input);
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        Ok(Stage::RowAsync(Box::new(AnswerQueries {
            asking,
            opening,
            schema_of_answer: form.as_ref().map(|form| form.answer_schema("answer")),
            form,
            told,
            question: self.question.clone(),
            context: self.context.clone(),
            system_message: self.system_message.clone(),
            kept,
            bounds: [
                (bounded(numbers, "min_number_overlap", self.min_number_overlap), "low_number_overlap", self.min_number_overlap),
                (bounded(entities, "min_entity_overlap", self.min_entity_overlap), "low_entity_overlap", self.min_entity_overlap),
            ],
            provenance,
            schema,
        })))
    }

    fn llms(&self) -> Vec<(&'static str, &LlmName)> {
        vec![("llm", &self.llm)]
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        Ok(self.examples_file.iter().map(|file| (file.clone(), cx.base_dir.join(file))).collect())
    }
}

/// A question as the model sees it.
fn asked(context: &str, question: &str) -> String {
    format!("Context:\n{context}\n\nQuestion:\n{question}")
}

struct AnswerQueries {
    asking: Asking,
    /// What stands before a row's question: the principles and the examples.
    opening: Vec<Message>,
    form: Option<AnswerFields>,
    schema_of_answer: Option<Arc<AnswerSchema>>,
    told: Option<String>,
    question: ColumnName,
    context: ColumnName,
    system_message: Option<String>,
    kept: Vec<usize>,
    /// Of numbers and of names: the measure, the reason to drop, and the least share.
    bounds: [(Measure, &'static str, Option<Fraction>); 2],
    provenance: Provenance,
    schema: SchemaRef,
}

impl RowAsync for AnswerQueries {
    fn window(&self) -> usize {
        self.asking.llm.window()
    }

    fn process<'a>(&'a self, row: RecordBatch, out: &'a mut Emit) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            let cells =
                cell(&row, &self.question, "no_question").and_then(|question| Ok((question, cell(&row, &self.context, "no_context")?)));
            let prepared = cells.and_then(|(question, context)| Ok((question, context, self.messages(question, context)?)));
            let (question, context, messages) = match prepared {
                Ok(prepared) => prepared,
                Err(no) => {
                    out.reject_row(&row, 0, no.reason, no.detail);
                    return Ok(());
                }
            };
            let ask = self.asking.ask(messages, self.schema_of_answer.as_ref(), &self.stand_in(context), 0);
            let asked = match self.asking.until(ask, self.form.is_some(), |answer| self.read(answer)).await {
                Ok(asked) => asked,
                Err(AskError::Stop(stop)) => return Err(stop),
                Err(AskError::Refused { reason, detail, answers }) => {
                    count(out, &self.asking.llm, &answers);
                    out.reject_row(&row, 0, reason, detail);
                    return Ok(());
                }
            };
            count(out, &self.asking.llm, &asked.all);
            let sources = [context, question];
            let shares = [overlap::numbers(&asked.value, &sources), overlap::entities(&asked.value, &sources)];
            let verdict = self.verdict(shares);
            for ((measure, ..), share) in self.bounds.iter().zip(shares) {
                if let Some(share) = share {
                    out.observe(measure, share, verdict == Verdict::Keep);
                }
            }
            let mut columns: Vec<ArrayRef> = self.kept.iter().map(|column| Arc::clone(row.column(*column))).collect();
            columns.push(Arc::new(conversation(self.system_message.as_deref(), question, &asked.value)?));
            columns.extend(shares.map(|share| Arc::new(single(share)) as ArrayRef));
            columns.extend(self.provenance.columns([asked.all.as_slice()]));
            let leaves = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
            out.split_changed(&row, &leaves, [verdict])
        })
    }
}

impl AnswerQueries {
    fn messages(&self, question: &str, context: &str) -> Result<Vec<Message>, NoPrompt> {
        let mut messages = self.opening.clone();
        messages.push(Message::text(Role::User, asked(context, question)));
        if let Some(told) = &self.told {
            asking::add_text(&mut messages, told);
        }
        self.asking.check_length(&messages)?;
        Ok(messages)
    }

    /// The beginning of the context: as long as an answer, and as much of it in the context as can be.
    fn stand_in(&self, context: &str) -> String {
        let most = usize::try_from(self.asking.max_tokens.get()).unwrap_or(usize::MAX).saturating_mul(3).min(STAND_IN_CHARS);
        let begin: String = context.chars().take(most).collect();
        match &self.form {
            Some(_) => json!({"reasoning": begin, "answer": begin}).to_string(),
            None => begin,
        }
    }

    fn read(&self, answer: &str) -> Result<String, String> {
        let answer = match &self.form {
            Some(form) => form.read(answer)?.last().and_then(|answer| answer.as_str().map(str::to_owned)).unwrap_or_default(),
            None => without_thoughts(answer).to_owned(),
        };
        let answer = answer.trim();
        if answer.is_empty() { Err("the answer is empty".to_owned()) } else { Ok(answer.to_owned()) }
    }

    fn verdict(&self, shares: [Option<f64>; 2]) -> Verdict {
        for ((_, reason, least), share) in self.bounds.iter().zip(shares) {
            if let (Some(least), Some(share)) = (least, share)
                && share < least.get()
            {
                return Verdict::Drop(Dropped::measured(reason, share, least.get()));
            }
        }
        Verdict::Keep
    }
}

fn cell<'r>(row: &'r RecordBatch, column: &ColumnName, reason: &'static str) -> Result<&'r str, NoPrompt> {
    let texts = row.column_by_name(column.as_str()).and_then(|texts| texts.as_any().downcast_ref::<StringArray>());
    let text = texts.filter(|texts| texts.is_valid(0)).map(|texts| texts.value(0));
    let text = text.ok_or_else(|| NoPrompt::new(reason, format!("`{column}` is null")))?;
    if text.trim().is_empty() { Err(NoPrompt::new(reason, format!("`{column}` has no text"))) } else { Ok(text) }
}

/// One row of [`sft::messages`].
fn conversation(system: Option<&str>, question: &str, answer: &str) -> Result<ListArray, StageError> {
    let turns: Vec<(Role, &str)> =
        system.map(|system| (Role::System, system)).into_iter().chain([(Role::User, question), (Role::Assistant, answer)]).collect();
    let roles: StringArray = turns.iter().map(|(role, _)| Some(role.as_str())).collect();
    let contents: StringArray = turns.iter().map(|(_, content)| Some(*content)).collect();
    let turn = StructArray::try_new(sft::turn(), vec![Arc::new(roles), Arc::new(contents)], None)?;
    let item = Arc::new(Field::new("item", DataType::Struct(sft::turn()), true));
    Ok(ListArray::try_new(item, OffsetBuffer::from_lengths([turns.len()]), Arc::new(turn), None)?)
}

#[expect(clippy::cast_possible_truncation, reason = "a share needs few digits")]
fn single(share: Option<f64>) -> Float32Array {
    Float32Array::from(vec![share.map(|share| share as f32)])
}

#[cfg(test)]
mod tests;
