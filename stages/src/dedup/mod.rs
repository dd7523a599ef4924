//! Stages that keep one row of several that say the same.

mod components;
mod dedup_exact;
mod minhash;

pub use dedup_exact::DedupExactConfig;
