//! What texts are made of: words and characters, found sixty-four bytes at a time; and the stages that change or label them.

pub mod fasttext;
mod forms;
mod identify_language;
pub(crate) mod lower;
mod normalize_text;
mod pii;
mod repair;
mod scrub_pii;
pub(crate) mod spacy_en;
pub(crate) mod splitter;
pub(crate) mod unicode;
pub(crate) mod wide;
pub(crate) mod words;

pub use identify_language::IdentifyLanguageConfig;
pub use normalize_text::NormalizeTextConfig;
pub use scrub_pii::ScrubPiiConfig;
