//! Stages that keep or drop a row by what it is.

mod decontaminate;
mod filter_length;

pub use decontaminate::DecontaminateConfig;
pub use filter_length::FilterLengthConfig;
