//! The entries of `llms` in a pipeline file.

mod check;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An OpenAI-compatible endpoint: which model, where, and how hard it may be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmSettings {
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// Tells answers of one state of the model from those of another, where its name does not: a date, a hash, what you like.
    pub revision: Option<String>,
    /// URL of the API, up to `/v1`; several that serve the same model share the work.
    pub endpoint: Option<Endpoints>,
    /// A program that serves the model on this machine, with its arguments, instead of `endpoint`: started when the first answer is needed,
    /// ended with the run. `{port}` in an argument is the port it must listen on, on 127.0.0.1.
    pub command: Option<Vec<String>>,
    /// Seconds that `command` may take until it answers.
    #[serde(default = "seconds_120")]
    pub start_timeout_seconds: NonZeroU32,
    /// Name of the environment variable that holds the key. The key itself is never written anywhere.
    pub api_key_env: Option<String>,
    /// Further headers, each with the name of the environment variable that holds its value.
    #[serde(default)]
    pub headers_env: BTreeMap<String, String>,
    /// Fields that every request has besides those that stages set; answers depend on them.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Whether requests carry a `seed` that follows from the draw: then a server that knows it answers the same again.
    #[serde(default)]
    pub send_seed: bool,
    /// How the endpoint is told that an answer must be JSON of a certain form.
    #[serde(default)]
    pub structured_output: StructuredOutput,
    /// What the endpoint calls the most tokens that an answer may have.
    #[serde(default)]
    pub limit_field: LimitField,
    /// Requests under way at once, at most, at each URL. When the endpoint says that it is too much, fewer are sent, and then more again.
    #[serde(default = "in_flight_16")]
    pub max_in_flight: NonZeroU32,
    /// Requests sent a minute, at most.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens sent and asked for a minute, at most.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Seconds that a request may take until its whole answer is there.
    #[serde(default = "seconds_600")]
    pub timeout_seconds: NonZeroU32,
    /// Seconds that a connection may take.
    #[serde(default = "seconds_10")]
    pub connect_timeout_seconds: NonZeroU32,
    /// Times that one request is sent, at most, while others are answered.
    #[serde(default = "times_8")]
    pub max_attempts: NonZeroU32,
    /// Seconds without a single answer after which a failing endpoint counts as dead, and the run stops: it goes on when run again.
    #[serde(default = "seconds_600")]
    pub give_up_after_seconds: NonZeroU32,
    /// The same for an endpoint that says that it is asked too often.
    #[serde(default = "seconds_7200")]
    pub throttled_for_seconds: NonZeroU32,
    /// Bytes an answer may have.
    #[serde(default = "bytes_16_mib")]
    pub max_answer_bytes: NonZeroU64,
    /// What this output may cost, in all its runs. The run stops before it would be passed, and goes on when it is raised.
    #[serde(default)]
    pub budget: LlmBudget,
    /// What tokens cost.
    pub price: Option<Price>,
}

impl LlmSettings {
    /// The defaults, with a model's name.
    pub fn of_model(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            revision: None,
            endpoint: None,
            command: None,
            start_timeout_seconds: seconds_120(),
            api_key_env: None,
            headers_env: BTreeMap::new(),
            extra: Map::new(),
            send_seed: false,
            structured_output: StructuredOutput::default(),
            limit_field: LimitField::default(),
            max_in_flight: in_flight_16(),
            requests_per_minute: None,
            tokens_per_minute: None,
            timeout_seconds: seconds_600(),
            connect_timeout_seconds: seconds_10(),
            max_attempts: times_8(),
            give_up_after_seconds: seconds_600(),
            throttled_for_seconds: seconds_7200(),
            max_answer_bytes: bytes_16_mib(),
            budget: LlmBudget::default(),
            price: None,
        }
    }

    /// What answers depend on besides the request: the model, its revision, and `extra`.
    pub fn identity(&self) -> String {
        serde_json::json!([self.model, self.revision, self.extra]).to_string()
    }
}

/// One URL, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Endpoints {
    /// One.
    One(String),
    /// Several that serve the same model.
    Several(Vec<String>),
}

impl Endpoints {
    /// The URLs.
    pub fn urls(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Several(urls) => urls,
        }
    }
}

/// How an endpoint is told that an answer must be JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// `response_format` with the JSON Schema: vLLM, llama.cpp, `SGLang`, `OpenAI`.
    #[default]
    JsonSchema,
    /// `response_format` of type `json_object`: the prompt says the form, the endpoint that it is JSON.
    JsonObject,
    /// Nothing: the prompt alone says it.
    Prompt,
}

/// What an endpoint calls the most tokens that an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitField {
    /// What nearly all know.
    #[default]
    MaxTokens,
    /// What newer models of `OpenAI` want.
    MaxCompletionTokens,
}

/// What may be spent. What an output spent counts over all its runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmBudget {
    /// Requests, each time one is sent.
    pub max_requests: Option<u64>,
    /// Tokens, of requests and answers.
    pub max_tokens: Option<u64>,
    /// Cost, in the currency of `price`.
    pub max_cost: Option<f64>,
}

/// What tokens cost, in a currency of your choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// A million tokens of requests.
    pub prompt: f64,
    /// A million tokens of answers.
    pub completion: f64,
}

impl Price {
    /// What so many tokens cost.
    pub fn of(&self, prompt: u64, completion: u64) -> f64 {
        (self.prompt * prompt as f64 + self.completion * completion as f64) / 1e6
    }
}

/// The name of an entry of `llms`: what stages call the model that they ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LlmName(pub String);

impl JsonSchema for LlmName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "LlmName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

fn number(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

fn seconds_10() -> NonZeroU32 {
    number(10)
}

fn seconds_120() -> NonZeroU32 {
    number(120)
}

fn seconds_600() -> NonZeroU32 {
    number(600)
}

fn seconds_7200() -> NonZeroU32 {
    number(7200)
}

fn times_8() -> NonZeroU32 {
    number(8)
}

fn in_flight_16() -> NonZeroU32 {
    number(16)
}

fn bytes_16_mib() -> NonZeroU64 {
    NonZeroU64::new(16 << 20).unwrap_or(NonZeroU64::MIN)
}
