//! Stages that keep one row of several that say the same.

mod dedup_exact;

pub use dedup_exact::DedupExactConfig;
