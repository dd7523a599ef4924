//! Stages that work on rows as rows: SQL, joins, groups, orders, samples, splits, concatenation.

mod aggregate;
mod concat;
mod first_fit;
mod group_by;
mod join;
mod mix_sources;
mod pack_sequences;
mod reorder;
mod sample_count;
mod sample_rows;
mod shuffle;
mod sort_rows;
mod split_holdout;
mod sql;

pub use concat::ConcatConfig;
pub use group_by::GroupByConfig;
pub use join::JoinConfig;
pub use mix_sources::MixSourcesConfig;
pub use pack_sequences::PackSequencesConfig;
pub use sample_rows::SampleRowsConfig;
pub use shuffle::ShuffleConfig;
pub use sort_rows::SortRowsConfig;
pub use split_holdout::SplitHoldoutConfig;
pub use sql::SqlConfig;
