//! Endpoints of language models: what is asked, how it is sent, what is kept of the answers, and the stages that ask.

mod answer_queries;
mod answers;
mod ask;
mod ask_llm;
mod asking;
mod budget;
mod client;
mod count;
mod figures;
mod http;
mod judge_rows;
mod live;
mod picture;
mod prompt;
mod provenance;
mod rouge;
mod served;
mod settings;
mod split_context;
mod structured;

pub use answer_queries::AnswerQueriesConfig;
pub use answers::{Answers, AnswersError, Receipt, StoredAnswer, Transcript};
pub use ask::{Answer, AnswerKey, AnswerSchema, Ask, AskError, Asked, Image, Message, Origin, Part, Role, Usage};
pub use ask_llm::{AskLlmConfig, OnUnusable};
pub use asking::{Draws, Temperature, Times, Tries};
pub use client::{Answerer, Llm, LlmSession, Llms, Script};
pub use count::count;
pub use figures::{LlmFigures, Spent};
pub use judge_rows::{Combine, Criterion, JudgeRowsConfig, Pair, Rubric, Votes};
pub use prompt::{FewShot, NoPrompt, Prompt, Template};
pub use provenance::{Provenance, extend, kept, with_provenance};
pub(crate) use rouge::{Lcs, Vocabulary};
pub use rouge::{RougeL, Tokens, lcs};
pub use settings::{Endpoints, LimitField, LlmBudget, LlmName, LlmSettings, Price, StructuredOutput};
pub use split_context::SplitContextConfig;
pub use structured::{AnswerField, AnswerFields};
