//! MinHash: how alike two texts are, told from small signatures; and what decides which texts are compared at all.

pub(super) mod bands;
#[cfg(test)]
pub(super) mod exam;
pub(super) mod shingle;
pub(super) mod signature;

use shingle::{ShingleUnit, Shingler, Shingles};
use signature::Signer;

/// Signatures of words, text by text.
pub(crate) struct Signatures {
    shingler: Shingler,
    shingles: Shingles,
    signer: Signer,
    signature: Vec<u32>,
}

impl Signatures {
    pub(crate) fn new(n_hashes: usize, ngram: usize) -> Self {
        let shingler = Shingler { unit: ShingleUnit::Words, n: ngram };
        Self { shingler, shingles: Shingles::default(), signer: Signer::new(n_hashes, 0), signature: Vec::new() }
    }

    pub(crate) fn of(&mut self, text: &str) -> &[u32] {
        self.shingler.cut(text, &mut self.shingles);
        self.signer.sign(&self.shingles.hashes, &mut self.signature);
        &self.signature
    }
}
