//! What texts are made of: words and characters, found sixty-four bytes at a time; and the stages that change or label them.
//! Texts: what they are made of, found sixty-four bytes at a time, and stages that count and cut them.

mod chunk_text;
mod count_tokens;
mod extract_text;
pub mod fasttext;
mod forms;
mod identify_language;
pub(crate) mod lower;
mod normalize_text;
mod page;
mod pii;
mod repair;
mod scrub_pii;
pub(crate) mod spacy_en;
pub(crate) mod splitter;
pub(crate) mod tokenizer;
pub(crate) mod unicode;
pub(crate) mod wide;
pub(crate) mod words;

pub use chunk_text::ChunkTextConfig;
pub(crate) use chunk_text::cut;
pub use count_tokens::CountTokensConfig;
pub use extract_text::ExtractTextConfig;
pub use identify_language::IdentifyLanguageConfig;
pub use normalize_text::NormalizeTextConfig;
pub use scrub_pii::ScrubPiiConfig;
