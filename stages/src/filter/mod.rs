//! Stages that keep or drop a row by what it is.

mod filter_length;
mod filter_text;

pub use filter_length::FilterLengthConfig;
pub use filter_text::FilterTextConfig;
