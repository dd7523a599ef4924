//! Stages that work on rows as rows: SQL, samples, splits, concatenation.

mod concat;
mod sample_rows;
mod split_holdout;
mod sql;

pub use concat::ConcatConfig;
pub use sample_rows::SampleRowsConfig;
pub use split_holdout::SplitHoldoutConfig;
pub use sql::SqlConfig;
