//! Endpoints of language models: what is asked, how it is sent, what is kept of the answers, and the stages that ask.

mod answer_queries;
mod ask;
mod ask_llm;
mod asking;
mod client;
mod count;
mod figures;
mod judge_rows;
mod picture;
mod prompt;
mod provenance;
mod settings;
mod structured;

pub use answer_queries::AnswerQueriesConfig;
pub use ask::{Answer, AnswerKey, AnswerSchema, Ask, AskError, Asked, Image, Message, Origin, Part, Role, Usage};
pub use ask_llm::{AskLlmConfig, OnUnusable};
pub use asking::{Draws, Temperature, Times, Tries};
pub use client::{Answerer, Llm, LlmSession, Llms, Script};
pub use count::count;
pub use figures::{LlmFigures, Spent};
pub use judge_rows::{Combine, Criterion, JudgeRowsConfig, Pair, Rubric, Votes};
pub use prompt::{FewShot, NoPrompt, Prompt, Template};
pub use provenance::{Provenance, extend, kept, with_provenance};
pub use settings::{Endpoints, LlmBudget, LlmName, LlmSettings, Price, StructuredOutput};
pub use structured::{AnswerField, AnswerFields};
