//! The host side of the kernels, a file each: buffers, dispatch, read-back, and the tests that hold shader and twin to each other.
//!
//! How to add one: [`crate::Gpu`]'s module says it.

mod blur;
pub mod chaos_game;
pub mod cosine_topk;
pub(crate) mod fractal;
pub mod gemm;
pub mod heads;
mod paint;
mod plasma;
#[cfg(test)]
mod random_words;
mod stamp;

use crate::GpuError;

/// A place in a buffer as a shader has it.
fn index(at: usize) -> Result<u32, GpuError> {
    u32::try_from(at).map_err(|_| GpuError::TooLarge {
        what: "a batch (places in a buffer)",
        wanted: at as u64,
        limit: u64::from(u32::MAX),
    })
}
