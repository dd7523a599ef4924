//! A request to a model, the answer, and the key that an answer is stored by.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::StageError;

/// A request: all that the answer depends on, and nothing of how it is sent.
#[derive(Debug, Clone, Serialize)]
pub struct Ask {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// How much chance decides; the endpoint's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Share of the probability that is drawn from; the endpoint's default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Texts at which the answer ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// What the answer must be, if it is to be JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Arc<AnswerSchema>>,
    /// Tells askings of the same request from each other: 0 for the first, counted up by who wants another answer. Sending the same asking
    /// again, because the line broke, keeps it.
    #[serde(skip)]
    pub draw: u32,
    /// What an answer may look like: what `plan` goes on with, which asks nobody. Its length tells how many tokens are expected.
    #[serde(skip)]
    pub stand_in: String,
}

impl Ask {
    /// A request with these messages, and `max_tokens` for the answer.
    pub fn new(messages: Vec<Message>, max_tokens: u32) -> Self {
        Self { messages, temperature: None, top_p: None, max_tokens, stop: Vec::new(), schema: None, draw: 0, stand_in: String::new() }
    }

    /// The key of its answer by the model `identity`.
    pub fn key(&self, identity: &str) -> AnswerKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(identity.as_bytes());
        hasher.update(&[0]);
        // Fields in the order of the struct, images by their hash: equal requests make equal bytes.
        hasher.update(&serde_json::to_vec(self).unwrap_or_default());
        hasher.update(&self.draw.to_le_bytes());
        AnswerKey(hasher.finalize().as_bytes()[..16].try_into().unwrap_or_default())
    }

    /// Bytes of all its texts.
    pub fn text_bytes(&self) -> usize {
        let parts = self.messages.iter().flat_map(|message| &message.content);
        parts.map(|part| if let Part::Text(text) = part { text.len() } else { 0 }).sum()
    }

    /// Its images.
    pub fn images(&self) -> usize {
        self.messages.iter().flat_map(|message| &message.content).filter(|part| matches!(part, Part::Image(_))).count()
    }
}

/// What the answer must be: a JSON Schema, and what it is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerSchema {
    /// Letters, digits and `_`.
    pub name: String,
    /// The schema.
    pub schema: Value,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// Whose turn it is.
    pub role: Role,
    /// What is said.
    pub content: Vec<Part>,
}

impl Message {
    /// A turn that is text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, content: vec![Part::Text(text.into())] }
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the model is told to be.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture; a key knows it by its hash.
    Image(Arc<Image>),
}

/// An encoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// What they are: `image/png`.
    pub media_type: &'static str,
}

impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(blake3::hash(&self.bytes).to_hex().as_str())
    }
}

/// What an answer is stored by: a hash of (model and revision, request, draw).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerKey(pub [u8; 16]);

impl fmt::Display for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerKey({self})")
    }
}

impl AnswerKey {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }
}

/// Tokens that an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Of the request.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Whether the endpoint did not say, and these are guessed from lengths.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guessed: bool,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the endpoint, now.
    Endpoint,
    /// From the store: it was paid for before.
    Stored,
    /// From nobody: it only shows what an answer may look like.
    StandIn,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Whether it ends because `max_tokens` was reached.
    pub cut: bool,
    /// Tokens it took, whoever paid for them and when.
    pub usage: Usage,
    /// What it is stored by.
    pub key: AnswerKey,
    /// Where it comes from.
    pub origin: Origin,
}

/// An answer that could be used, and those before it that could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<T> {
    /// What was read from the answer.
    pub value: T,
    /// The answer it was read from.
    pub answer: Answer,
    /// All answers that were asked for, the used one last.
    pub all: Vec<Answer>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// This request gets none, others may: its row is rejected.
    Refused {
        /// The reason, in `snake_case`.
        reason: &'static str,
        /// What happened, with the raw answer if there was one.
        detail: String,
        /// The answers that were paid for and could not be used.
        answers: Vec<Answer>,
    },
    /// The run ends.
    Stop(StageError),
}

impl AskError {
    /// A request that gets no answer.
    pub fn refused(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused { reason, detail: detail.into(), answers: Vec::new() }
    }
}

impl From<StageError> for AskError {
    fn from(error: StageError) -> Self {
        Self::Stop(error)
    }
}
