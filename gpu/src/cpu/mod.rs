//! The CPU twins of the kernels, a file each: the reference that shaders are held to, and what runs where there is no GPU.

pub mod blur;
pub mod chaos_game;
#[cfg(target_arch = "x86_64")]
mod chaos_game_simd;
pub mod colour;
pub mod cosine_topk;
pub mod counter_rng;
pub mod gemm;
pub mod heads;
pub mod levels;
pub mod paint;
pub mod plasma;
pub mod stamp;
