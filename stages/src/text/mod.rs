//! What texts are made of: words and characters, found sixty-four bytes at a time.

pub(crate) mod lower;
#[cfg_attr(not(test), expect(dead_code, reason = "for filters that count words as datatrove does"))]
pub(crate) mod spacy_en;
pub(crate) mod wide;
pub(crate) mod words;
