//! Stages that score rows.

pub mod safetensors;
mod score_heads;

pub use score_heads::{HeadActivation, ScoreHeadsConfig};
