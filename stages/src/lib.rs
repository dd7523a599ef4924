//! The stages of a pipeline: the traits they implement, the one table that registers them, and every stage, one file each.

mod error;
mod read;
pub mod registry;
mod stage;

pub use error::StageError;
pub use read::{ReadCsvConfig, ReadJsonlConfig, ReadParquetConfig, ReadTextConfig};
pub use stage::*;
