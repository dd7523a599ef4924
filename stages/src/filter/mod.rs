//! Stages that keep or drop a row by what it is.

mod filter_length;

pub use filter_length::FilterLengthConfig;
