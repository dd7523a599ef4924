//! The CPU twins of the kernels, a file each: the reference that shaders are held to, and what runs where there is no GPU.

pub mod blur;
pub mod chaos_game;
pub mod colour;
pub mod counter_rng;
pub mod levels;
pub mod paint;
pub mod plasma;
pub mod stamp;
