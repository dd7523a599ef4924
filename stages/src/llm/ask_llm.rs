//! `ask_llm`: asks a language model about each row, and adds what it answers.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use futures::future::{BoxFuture, join_all};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document, llm};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::asking::{self, Asking, Draws, Temperature, Tries};
use super::prompt::{self, FewShot, NoPrompt, Prompt};
use super::{
    Answer, AnswerField, AnswerFields, AnswerSchema, AskError, Asked, LlmName, Message, Part, Provenance, count, extend, picture,
    with_provenance,
};
use crate::units::{Chars, ColumnName, ColumnNames, Fraction};
use crate::{BuildContext, Emit, Inputs, Kind, Outputs, Port, Rejection, RowAsync, Stage, StageConfig, StageError};

/// Asks a language model about each row, and adds what it answers as columns.
///
/// `prompt` is a minijinja template over the row's columns: `{{ text }}` is the text of a column, `{{ meta.title }}` a field of a struct,
/// `{{ text[:1000] }}` its first characters, `{% for tag in tags %}…{% endfor %}` goes over a list. A name that is no column, or no field of its struct, is an error before anything is asked. What a cell holds is never read as
/// a template. A null that would be printed rejects its row (`null_in_prompt`), since a model takes the word for an answer: the template can
/// ask `{% if source %}`, or write `{{ source or "" }}`.
///
/// With `adds` the answer is a JSON object of these fields: the endpoint is told so by a schema, the prompt by a sentence behind it, and each
/// field becomes a column of its type. Without, the answer is any text, and becomes the column `answer` without the white space around it. An answer that can't be used (no JSON, a
/// wrong field, nothing, one that was cut off at `max_tokens`) is shown to the model with what is wrong, and asked for again, `tries` times in
/// all; then the row is rejected: `unusable_answer` or `answer_cut`, with the last answer. Rows without a prompt are rejected before they are
/// asked about: `null_in_prompt`, `empty_prompt`, `prompt_too_long`, `prompt_failed`, `no_image`, `unknown_image`, `image_too_large`.
///
/// With `draws` each row is answered so many times, and leaves as so many rows: `parent#0`, `parent#1`, … as `id`, with `draw` and `parent_id`.
/// Each row also has `model`, `prompt_hash` and `answer_keys`, in place of those of an earlier stage: `inspect` shows what was said.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskLlmConfig {
    /// Who is asked: an entry of `llms`.
    pub llm: LlmName,
    /// What the model is told to be; a template as `prompt` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What is asked: a template over the row's columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A file that holds the template instead, relative to the pipeline file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_file: Option<String>,
    /// Questions with their answers that are shown to the model first; no templates.
    #[serde(default)]
    pub examples: Vec<FewShot>,
    /// Columns of images that are sent before the text, in this order: `struct<bytes, path>` as `datasets` writes them, or bytes. PNG, JPEG, GIF or WebP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ColumnNames>,
    /// Most bytes of an image's file; a row with a larger one is rejected.
    #[serde(default = "default_max_image_bytes")]
    pub max_image_bytes: NonZeroU64,
    /// The fields of the answer, which become columns, such as `{label: [spam, ham], score: {type: float32, min: 0, max: 1}, tags: list<string>}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adds: Option<AnswerFields>,
    /// The column that an answer without fields becomes; `answer` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_column: Option<ColumnName>,
    /// How much chance decides, from 0 to 2; the endpoint's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// Share of the probability that is drawn from; the endpoint's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Fraction>,
    /// Most tokens of an answer.
    #[serde(default = "asking::default_max_tokens")]
    pub max_tokens: NonZeroU32,
    /// Texts at which an answer ends.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Whether an answer without fields that was cut off at `max_tokens` is taken as it is.
    #[serde(default)]
    pub allow_cut: bool,
    /// Times that is asked until an answer can be used.
    #[serde(default = "asking::default_tries")]
    pub tries: Tries,
    /// Answers for each row. Each is a row of its own where there are several.
    #[serde(default = "one_draw")]
    pub draws: Draws,
    /// What becomes of a row without a usable answer.
    #[serde(default)]
    pub on_unusable: OnUnusable,
    /// Most characters of a prompt; a row with a longer one is rejected and not asked about.
    #[serde(default = "asking::default_max_prompt_chars")]
    pub max_prompt_chars: Chars,
}

/// What becomes of a row without a usable answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnUnusable {
    /// It is rejected, with the last answer.
    #[default]
    Reject,
    /// It goes on with nulls for the answer.
    Keep,
}

fn default_max_image_bytes() -> NonZeroU64 {
    NonZeroU64::new(10 << 20).unwrap_or(NonZeroU64::MIN)
}

fn one_draw() -> Draws {
    Draws::new(1)
}

const ANSWER: ColumnName = ColumnName::new("answer");
const DRAW: Column<Int32Array> = Column::new("draw", DataType::Int32, "which of the answers to one prompt it is, from 0");
const PARENT: Column<StringArray> = Column::new("parent_id", DataType::Utf8, "id of the row that was asked about");

impl AskLlmConfig {
    /// The fields of an answer; one of any text if none are declared.
    fn fields(&self) -> AnswerFields {
        let free = || AnswerFields::new([(self.answer_column.as_ref().unwrap_or(&ANSWER).as_str(), AnswerField::text())]);
        self.adds.clone().unwrap_or_else(free)
    }

    fn draws_columns(&self) -> Vec<ColumnSpec> {
        if self.draws.get() > 1 { vec![DRAW.spec(), PARENT.spec()] } else { Vec::new() }
    }
}

impl StageConfig for AskLlmConfig {
    const NAME: &'static str = "ask_llm";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowAsync;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: ask_llm, from: pages, llm: local, prompt: \"Judge this text: {{ text or '(none)' }}\", \
         adds: {topic: string, is_spam: bool, rating: {type: int32, min: 1, max: 5}}}";

    fn adds(&self) -> Vec<ColumnSpec> {
        self.fields().specs().into_iter().chain(self.draws_columns()).chain(llm::provenance()).collect()
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        if let (Some(_), Some(column)) = (&self.adds, &self.answer_column) {
            let problem = format!("found `{column}`, which is for an answer without fields; with `adds` each field is a column");
            return Err(StageError::setting("answer_column", problem));
        }
        let setting = if self.adds.is_some() { "adds" } else { "answer_column" };
        let fields = self.fields();
        check_names(&fields, setting)?;
        for (name, _) in fields.iter() {
            if input.field_with_name(name).is_ok() {
                let error = StageError::setting(setting, format!("adds column `{name}`, which the input already has"));
                return Err(error.with_help("give it another name here, or rename the input's with `sql`"));
            }
        }
        let draws = self.draws_columns();
        if !draws.is_empty() {
            let of_id = document::ID.spec();
            of_id
                .check(input)
                .map_err(|error| StageError::setting("draws", format!("rows of several draws are told apart by `id`: {error}")))?;
            if let Some(clash) = draws.iter().find(|column| input.field_with_name(&column.name).is_ok()) {
                let error = StageError::setting("draws", format!("adds column `{}`, which the input already has", clash.name));
                return Err(error.with_help("rename the input's with `sql`"));
            }
        }
        let added: Vec<ColumnSpec> = fields.specs().into_iter().chain(draws).collect();
        Ok(Outputs::new(with_provenance(input, &added)?))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let source = prompt::source(&cx.base_dir, ("prompt", self.prompt.as_deref()), ("prompt_file", self.prompt_file.as_deref()))?;
        let Some(source) = source else {
            return Err(StageError::setting("prompt", "wanted `prompt` or `prompt_file`, found neither"));
        };
        let setting = if self.prompt.is_some() { "prompt" } else { "prompt_file" };
        let system = self.system.as_deref().map(|system| ("system", system));
        let prompt = Prompt::new(system, (setting, &source), &self.examples, input, &[])?;
        let asking = Asking {
            llm: cx.llm("llm", &self.llm)?,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            tries: self.tries,
            max_prompt_chars: self.max_prompt_chars,
        };
        let images = picture::columns(input, self.images.as_ref(), "images")?;
        let form = self.adds.as_ref().map(|fields| Form { schema: fields.answer_schema("answer"), told: fields.instruction() });
        let stand_in = self.adds.as_ref().map_or_else(|| asking::stand_in_text(self.max_tokens), AnswerFields::stand_in);
        let shape = (prompt.shape(), &self.images, &self.adds, asking.shape());
        let provenance = Provenance::new(&asking.llm, &shape)?;
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let id = input.index_of(document::ID.name()).ok();
        Ok(Stage::RowAsync(Box::new(AskLlm {
            asking,
            prompt,
            images,
            max_image_bytes: self.max_image_bytes.get(),
            form,
            stand_in,
            fields: self.fields(),
            allow_cut: self.allow_cut,
            draws: self.draws.get(),
            on_unusable: self.on_unusable,
            provenance,
            id,
            schema,
        })))
    }

    fn llms(&self) -> Vec<(&'static str, &LlmName)> {
        vec![("llm", &self.llm)]
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        Ok(self.prompt_file.iter().map(|file| (file.clone(), cx.base_dir.join(file))).collect())
    }
}

/// Refuses fields that are called as columns which the stage adds by itself.
fn check_names(fields: &AnswerFields, setting: &str) -> Result<(), StageError> {
    let own: Vec<String> =
        llm::provenance().into_iter().chain([DRAW.spec(), PARENT.spec(), document::ID.spec()]).map(|column| column.name).collect();
    match fields.iter().find(|(name, _)| own.iter().any(|own| own == name)) {
        Some((name, _)) => {
            Err(StageError::setting(setting, format!("`{name}` is a column that says where a row comes from; wanted another name")))
        }
        None => Ok(()),
    }
}

/// How an answer with fields is asked for.
struct Form {
    schema: Arc<AnswerSchema>,
    told: String,
}

struct AskLlm {
    asking: Asking,
    prompt: Prompt,
    images: Vec<(String, usize)>,
    max_image_bytes: u64,
    /// None where the answer is any text.
    form: Option<Form>,
    stand_in: String,
    fields: AnswerFields,
    allow_cut: bool,
    draws: u32,
    on_unusable: OnUnusable,
    provenance: Provenance,
    id: Option<usize>,
    schema: SchemaRef,
}

impl RowAsync for AskLlm {
    fn window(&self) -> usize {
        self.asking.llm.window()
    }

    fn process<'a>(&'a self, row: RecordBatch, out: &'a mut Emit) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            let messages = match self.messages(&row) {
                Ok(messages) => messages,
                Err(no) => {
                    out.reject_row(&row, 0, no.reason, no.detail);
                    return Ok(());
                }
            };
            let asked = join_all((0..self.draws).map(|draw| self.answer(messages.clone(), draw))).await;
            self.give(&row, asked, out)
        })
    }
}

impl AskLlm {
    fn messages(&self, row: &RecordBatch) -> Result<Vec<Message>, NoPrompt> {
        let mut messages = self.prompt.messages(row, &[])?;
        if let Some(form) = &self.form {
            asking::add_text(&mut messages, &form.told);
        }
        self.asking.check_length(&messages)?;
        let image =
            |(name, column): &(String, usize)| picture::picture(name, row.column(*column), 0, self.max_image_bytes).map(Part::Image);
        let images: Vec<Part> = self.images.iter().map(image).collect::<Result<_, _>>()?;
        if let Some(question) = messages.last_mut() {
            question.content.splice(0..0, images);
        }
        Ok(messages)
    }

    async fn answer(&self, messages: Vec<Message>, draw: u32) -> Result<Asked<Vec<Value>>, AskError> {
        let ask = self.asking.ask(messages, self.form.as_ref().map(|form| &form.schema), &self.stand_in, draw);
        match &self.form {
            // What is whole JSON was not cut off where it matters.
            Some(_) => self.asking.until(ask, true, |answer| self.fields.read(answer)).await,
            None => self.asking.until(ask, self.allow_cut, free).await,
        }
    }

    fn give(&self, row: &RecordBatch, asked: Vec<Result<Asked<Vec<Value>>, AskError>>, out: &mut Emit) -> Result<(), StageError> {
        let id = self.id.and_then(|id| row.column(id).as_any().downcast_ref::<StringArray>()).filter(|ids| ids.is_valid(0));
        let id = id.map(|ids| ids.value(0));
        let child = |draw: usize| id.map(|id| if self.draws > 1 { format!("{id}#{draw}") } else { id.to_owned() });
        let mut draws: Vec<i32> = Vec::new();
        let mut answered: Vec<(Option<Vec<Value>>, Vec<Answer>)> = Vec::new();
        for (number, (draw, asked)) in (0_i32..).zip(asked.into_iter().enumerate()) {
            let (values, answers) = match asked {
                Ok(asked) => (Some(asked.value), asked.all),
                Err(AskError::Stop(stop)) => return Err(stop),
                Err(AskError::Refused { reason, detail, answers }) => {
                    if self.on_unusable == OnUnusable::Reject {
                        count(out, &self.asking.llm, &answers);
                        out.reject(Rejection { id: child(draw), file: None, offset: None, reason, detail });
                        continue;
                    }
                    (None, answers)
                }
            };
            count(out, &self.asking.llm, &answers);
            draws.push(number);
            answered.push((values, answers));
        }
        if answered.is_empty() {
            return Ok(());
        }
        let mut rows = take_record_batch(row, &UInt32Array::from(vec![0; answered.len()]))?;
        let mut added: Vec<ArrayRef> = self.fields.columns(answered.iter().map(|(values, _)| values.as_ref()))?.columns().to_vec();
        if self.draws > 1 {
            let mut columns = rows.columns().to_vec();
            if let Some(column) = self.id {
                let ids: StringArray = draws.iter().map(|draw| id.map(|id| format!("{id}#{draw}"))).collect();
                let parents = std::mem::replace(&mut columns[column], Arc::new(ids));
                added.extend([Arc::new(Int32Array::from(draws)) as ArrayRef, parents]);
            }
            rows = RecordBatch::try_new(rows.schema(), columns)?;
        }
        added.extend(self.provenance.columns(answered.iter().map(|(_, answers)| answers.as_slice())));
        out.rows(extend(&rows, added, &self.schema)?)
    }
}

/// The one value of an answer that is any text.
fn free(answer: &str) -> Result<Vec<Value>, String> {
    let text = answer.trim();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(vec![text.into()]) }
}

#[cfg(test)]
mod tests;
