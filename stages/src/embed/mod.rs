//! Stages that work on vectors.

mod nearest_rows;
pub(crate) mod vectors;

pub use nearest_rows::NearestRowsConfig;

pub(crate) use vectors::VectorColumn;
