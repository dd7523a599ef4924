//! Stages that keep one row of several that say the same.

mod components;
mod dedup_exact;
mod dedup_minhash;
mod index;
mod minhash;

pub use dedup_exact::DedupExactConfig;
pub use dedup_minhash::DedupMinhashConfig;
pub(crate) use minhash::Signatures;
