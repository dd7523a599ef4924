//! What texts are made of: words and characters, found sixty-four bytes at a time.

pub(crate) mod lower;
pub(crate) mod spacy_en;
pub(crate) mod splitter;
pub(crate) mod unicode;
pub(crate) mod wide;
pub(crate) mod words;
