//! MinHash: how alike two texts are, told from small signatures; and what decides which texts are compared at all.

pub(super) mod bands;
#[cfg(test)]
mod exam;
pub(super) mod shingle;
pub(super) mod signature;
mod words;
