//! What texts are made of: words and characters, found sixty-four bytes at a time.

mod extract_text;
pub(crate) mod lower;
mod page;
pub(crate) mod wide;
pub(crate) mod words;

pub use extract_text::ExtractTextConfig;
