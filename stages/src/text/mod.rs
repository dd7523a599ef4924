//! What texts are made of: words and characters, found sixty-four bytes at a time; and the stages that change or label them.

pub mod fasttext;
mod forms;
mod identify_language;
pub(crate) mod lower;
pub(crate) mod spacy_en;
pub(crate) mod splitter;
pub(crate) mod unicode;
mod normalize_text;
mod pii;
mod repair;
#[cfg_attr(not(test), expect(dead_code, reason = "for filters that count words as datatrove does"))]
pub(crate) mod spacy_en;
mod scrub_pii;
pub(crate) mod wide;
pub(crate) mod words;

pub use identify_language::IdentifyLanguageConfig;
pub use normalize_text::NormalizeTextConfig;
pub use scrub_pii::ScrubPiiConfig;
