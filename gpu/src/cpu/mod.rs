//! The CPU twins of the kernels, a file each: the reference that shaders are held to, and what runs where there is no GPU.

pub mod chaos_game;
pub mod cosine_topk;
pub mod counter_rng;
pub mod gemm;
pub mod heads;
