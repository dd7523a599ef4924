//! What the stages that ask have in common: the settings of a request, how often it is made, and what becomes of an answer that was cut.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::prompt::NoPrompt;
use super::{AnswerSchema, Ask, AskError, Asked, Llm, Message, Part};
use crate::units::{Chars, Fraction};

/// How much chance decides about an answer: 0 to 2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64", inline, extend("minimum" = 0, "maximum" = 2))]
pub struct Temperature(f64);

impl TryFrom<f64> for Temperature {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=2.0).contains(&value) { Ok(Self(value)) } else { Err(format!("wanted a number from 0 to 2, found {value}")) }
    }
}

impl From<Temperature> for f64 {
    fn from(temperature: Temperature) -> f64 {
        temperature.0
    }
}

/// A small number of times: 1 to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Times<const MOST: u32>(u32);

impl<const MOST: u32> Times<MOST> {
    /// So many, which is at most `MOST`.
    pub(crate) const fn new(times: u32) -> Self {
        assert!(times >= 1 && times <= MOST, "checked by who wrote it");
        Self(times)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const MOST: u32> TryFrom<u32> for Times<MOST> {
    type Error = String;

    fn try_from(times: u32) -> Result<Self, String> {
        if (1..=MOST).contains(&times) { Ok(Self(times)) } else { Err(format!("wanted a number from 1 to {MOST}, found {times}")) }
    }
}

impl<const MOST: u32> From<Times<MOST>> for u32 {
    fn from(times: Times<MOST>) -> u32 {
        times.0
    }
}

impl<const MOST: u32> fmt::Display for Times<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MOST: u32> JsonSchema for Times<MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Times{MOST}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "integer", "minimum": 1, "maximum": MOST})
    }
}

/// Times that a request is made until its answer can be used.
pub type Tries = Times<20>;

/// Answers to one request.
pub type Draws = Times<1000>;

/// Draws of one request lie so far apart that no asking again gets to those of the next: the tries of each are fewer.
const APART: u32 = 64;

pub(crate) fn default_tries() -> Tries {
    Tries::new(3)
}

pub(crate) fn default_max_tokens() -> NonZeroU32 {
    NonZeroU32::new(1024).unwrap_or(NonZeroU32::MIN)
}

/// About 100,000 tokens of English.
pub(crate) fn default_max_prompt_chars() -> Chars {
    Chars::new(400_000)
}

/// The settings of a request, and who is asked.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) llm: Arc<Llm>,
    pub(crate) temperature: Option<Temperature>,
    pub(crate) top_p: Option<Fraction>,
    pub(crate) max_tokens: NonZeroU32,
    pub(crate) stop: Vec<String>,
    pub(crate) tries: Tries,
    pub(crate) max_prompt_chars: Chars,
}

impl Asking {
    /// What of it shapes the answers.
    pub(crate) fn shape(&self) -> Value {
        json!({"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens, "stop": self.stop})
    }

    /// The request for answer number `draw` to a conversation.
    pub(crate) fn ask(&self, messages: Vec<Message>, schema: Option<&Arc<AnswerSchema>>, stand_in: &str, draw: u32) -> Ask {
        let mut ask = Ask::new(messages, self.max_tokens.get());
        ask.temperature = self.temperature.map(f64::from);
        ask.top_p = self.top_p.map(Fraction::get);
        ask.stop.clone_from(&self.stop);
        ask.schema = schema.map(Arc::clone);
        stand_in.clone_into(&mut ask.stand_in);
        ask.draw = draw.saturating_mul(APART);
        ask
    }

    /// Asks until `read` can use the answer. One that was cut off counts only where `cut_is_fine`.
    ///
    /// # Errors
    /// [`AskError`]: `answer_cut` where the last answer was cut off, `unusable_answer` where `read` could not use it.
    pub(crate) async fn until<T: Send>(
        &self,
        ask: Ask,
        cut_is_fine: bool,
        mut read: impl FnMut(&str) -> Result<T, String> + Send,
    ) -> Result<Asked<T>, AskError> {
        let max_tokens = self.max_tokens;
        let mut was_cut = false;
        let asked = self.llm.ask_until(ask, self.tries.get(), |answer| {
            was_cut = answer.cut;
            match read(&answer.text) {
                Ok(value) if cut_is_fine || !answer.cut => Ok(value),
                Ok(_) => Err(format!("it was cut off after {max_tokens} tokens, and has to be shorter")),
                Err(wrong) if answer.cut => Err(format!("{wrong}; it was cut off after {max_tokens} tokens, and has to be shorter")),
                Err(wrong) => Err(wrong),
            }
        });
        match asked.await {
            Err(AskError::Refused { reason: "unusable_answer", detail, answers }) if was_cut => {
                Err(AskError::Refused { reason: "answer_cut", detail, answers })
            }
            other => other,
        }
    }

    /// Whether a conversation is short enough to be sent.
    ///
    /// # Errors
    /// [`NoPrompt`] if it is not.
    pub(crate) fn check_length(&self, messages: &[Message]) -> Result<(), NoPrompt> {
        let parts = messages.iter().flat_map(|message| &message.content);
        let chars: u64 = parts.map(|part| if let Part::Text(text) = part { Chars::of(text).get() } else { 0 }).sum();
        if chars > self.max_prompt_chars.get() {
            let most = self.max_prompt_chars.get();
            return Err(NoPrompt::new("prompt_too_long", format!("wanted at most `max_prompt_chars`, which is {most}, found {chars}")));
        }
        Ok(())
    }
}

/// Puts a text behind the last text of a conversation.
pub(crate) fn add_text(messages: &mut [Message], text: &str) {
    if let Some(Part::Text(last)) = messages.last_mut().and_then(|message| message.content.last_mut()) {
        last.push_str("\n\n");
        last.push_str(text);
    }
}

/// A text of the length that answers of at most so many tokens may have, for a plan: a paragraph.
pub(crate) fn stand_in_text(max_tokens: NonZeroU32) -> String {
    const PARAGRAPH: &str = "This stands where an answer would be. It has the length of a paragraph of plain text, since that is what most \
        prompts are answered with, and the tokens of it are counted as those of an answer. Where a prompt asks for a word or for a page, what \
        is projected from it is too much or too little, and a run over some rows tells more.";
    let most = usize::try_from(max_tokens.get()).unwrap_or(usize::MAX).saturating_mul(3);
    PARAGRAPH[..PARAGRAPH.len().min(most)].to_owned()
}
