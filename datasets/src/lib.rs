//! Where rows come from and go to: file formats, and the bundled samples.

mod error;
mod write;

pub use error::DataError;
pub use write::{WriteFormat, WriteSettings};
