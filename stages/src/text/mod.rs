//! What texts are made of: words and characters, found sixty-four bytes at a time; and the stages that change or label them.

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
pub(crate) mod unicode;
pub(crate) mod wide;
pub(crate) mod words;

pub use extract_text::ExtractTextConfig;
pub use identify_language::IdentifyLanguageConfig;
pub use normalize_text::NormalizeTextConfig;
pub use scrub_pii::ScrubPiiConfig;
