//! The CPU twins of the kernels, a file each: the reference that shaders are held to, and what runs where there is no GPU.

pub mod chaos_game;
pub mod counter_rng;
