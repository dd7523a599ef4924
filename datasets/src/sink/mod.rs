//! Writing parts: rows in, the bytes of one file out. The same rows make the same bytes, however they were batched.

mod features;
mod jsonl;
mod parquet;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

pub(crate) use parquet::CREATED_BY;

use crate::{DataError, WriteFormat, WriteSettings};

/// A finished part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The file, but for what was taken before, in pieces: large ones are not moved about to lie end to end.
    pub chunks: Vec<Bytes>,
    /// Its rows.
    pub rows: u64,
}

impl Part {
    /// The file in one piece.
    pub fn into_bytes(self) -> Vec<u8> {
        self.chunks.concat()
    }
}

/// Writes one part into memory, to be taken from there.
pub trait PartWriter: Send {
    /// Adds rows.
    ///
    /// # Errors
    /// [`DataError`] if the rows are not of the writer's schema or cannot be encoded.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError>;

    /// The next bytes of the file, as far as they are done: what is taken need not be kept until the part ends.
    fn take_chunks(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    /// Ends the part.
    ///
    /// # Errors
    /// [`DataError`] if what is left cannot be encoded.
    fn finish(self: Box<Self>) -> Result<Part, DataError>;

    /// Bytes of the file so far; what is not yet encoded does not count.
    fn bytes_written(&self) -> usize;
}

/// A writer of one part.
///
/// # Errors
/// [`DataError`] if the format cannot hold the schema.
pub fn part_writer(schema: &SchemaRef, settings: &WriteSettings) -> Result<Box<dyn PartWriter>, DataError> {
    Ok(match settings.format {
        WriteFormat::Parquet => Box::new(parquet::ParquetPart::try_new(schema, settings)?),
        WriteFormat::Jsonl => Box::new(jsonl::JsonlPart::try_new(None)?),
        WriteFormat::JsonlZst => Box::new(jsonl::JsonlPart::try_new(Some(settings.level()))?),
    })
}

/// A part with no rows: what a data set of none consists of, so that its columns can be read.
///
/// # Errors
/// [`DataError`] if the format cannot hold the schema.
pub fn empty_part(schema: &SchemaRef, settings: &WriteSettings) -> Result<Part, DataError> {
    part_writer(schema, settings)?.finish()
}
