//! Arrow schemas of the record types, and the column constants that stages read and write them by.
//!
//! Nothing here reads a file or runs a stage: this crate is what the others agree on.

mod column;
pub mod document;
pub mod dropped;
pub mod fractal;
pub mod llm;
pub mod query;
pub mod sft;
mod size;

pub use column::{Column, ColumnSpec, MODEL_HASH, SchemaError, describe};
pub use size::{batch_bytes, row_bytes};
