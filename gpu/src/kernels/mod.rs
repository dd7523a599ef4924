//! The host side of the kernels, a file each: buffers, dispatch, read-back, and the tests that hold shader and twin to each other.
//!
//! How to add one: [`crate::Gpu`]'s module says it.

pub mod chaos_game;
pub mod cosine_topk;
pub mod gemm;
pub mod heads;
#[cfg(test)]
mod random_words;
