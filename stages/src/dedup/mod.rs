//! Stages that keep one of several rows, or lines of rows, that say the same.

mod components;
mod dedup_exact;
mod dedup_lines;
mod dedup_minhash;
mod filter_similar;
mod index;
mod minhash;

pub use dedup_exact::DedupExactConfig;
pub use dedup_lines::DedupLinesConfig;
pub use dedup_minhash::DedupMinhashConfig;
pub use filter_similar::FilterSimilarConfig;

pub(crate) use dedup_exact::Normalize;
pub(crate) use minhash::Signatures;
pub(crate) use minhash::bands::Bands;
pub(crate) use minhash::shingle::{ShingleUnit, Shingler, Shingles, jaccard};
pub(crate) use minhash::signature::{Signer, band_keys};
