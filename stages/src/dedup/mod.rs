//! Stages that keep one row of several that say the same.

mod components;
mod dedup_exact;
mod dedup_minhash;
mod minhash;

pub use dedup_exact::DedupExactConfig;
pub(crate) use dedup_exact::Normalize;
pub use dedup_minhash::DedupMinhashConfig;
pub(crate) use minhash::Signatures;
pub(crate) use minhash::bands::Bands;
pub(crate) use minhash::shingle::{ShingleUnit, Shingler, Shingles, jaccard};
pub(crate) use minhash::signature::{Signer, band_keys};
