//! Images of fractals, to train on without a photograph: systems are drawn, and images of their attractors made, with exact labels, boxes and masks.

mod codes;
mod compose_fractals;
mod draw;
mod encode;
mod ifs;
mod program;
mod render_fractaldb;
mod render_fractals;
mod rle;
mod sample_ifs;
mod settings;
#[cfg(test)]
mod tests;

pub use compose_fractals::ComposeFractalsConfig;
pub use render_fractaldb::RenderFractaldbConfig;
pub use render_fractals::RenderFractalsConfig;
pub use sample_ifs::SampleIfsConfig;
