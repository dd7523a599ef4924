//! Texts: what they are made of, found sixty-four bytes at a time, and stages that count and cut them.

mod chunk_text;
mod count_tokens;
pub(crate) mod lower;
pub(crate) mod tokenizer;
pub(crate) mod wide;
pub(crate) mod words;

pub use chunk_text::ChunkTextConfig;
pub use count_tokens::CountTokensConfig;
