//! Stages that keep or drop a row by what it is.

mod decontaminate;
mod filter_length;
mod filter_text;
mod filter_url;

pub use decontaminate::DecontaminateConfig;
pub use filter_length::FilterLengthConfig;
pub use filter_text::FilterTextConfig;
pub use filter_url::{FilterUrlConfig, UrlList, UrlListFiles, WithoutUrl};
