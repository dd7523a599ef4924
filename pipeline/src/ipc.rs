//! Checkpoints and spilled tables: plain Arrow IPC streams, or Parquet where disk is scarcer than time.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::graph::Checkpoints;

/// Collects batches into one IPC stream in memory.
pub struct IpcPart {
    writer: StreamWriter<Vec<u8>>,
}

impl IpcPart {
    /// An empty stream.
    ///
    /// # Errors
    /// A schema that IPC cannot carry.
    pub fn try_new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self { writer: StreamWriter::try_new(Vec::new(), schema)? })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.writer.write(batch)
    }

    /// The stream's bytes.
    ///
    /// # Errors
    /// What Arrow says.
    pub fn finish(mut self) -> Result<Vec<u8>, ArrowError> {
        self.writer.finish()?;
        self.writer.into_inner()
    }
}

/// The batches of a stream; they point into `bytes`.
///
/// # Errors
/// Bytes that are no IPC stream, or one that was cut off.
pub fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(bytes);
    let mut batches = Vec::new();
    while !buffer.is_empty() {
        batches.extend(decoder.decode(&mut buffer)?);
    }
    decoder.finish()?;
    Ok(batches)
}

/// Collects batches into one checkpoint in memory.
pub enum CheckpointPart {
    /// A plain IPC stream.
    Fast(Box<IpcPart>),
    /// Parquet, zstd level 1.
    Small(Box<ArrowWriter<Vec<u8>>>),
}

impl CheckpointPart {
    /// An empty checkpoint.
    ///
    /// # Errors
    /// A schema that the format cannot carry.
    pub fn try_new(mode: Checkpoints, schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(match mode {
            Checkpoints::Fast | Checkpoints::Discard => Self::Fast(Box::new(IpcPart::try_new(schema)?)),
            Checkpoints::Small => {
                let level = ZstdLevel::try_new(1).expect("level 1 exists");
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                Self::Small(Box::new(ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties))?))
            }
        })
    }

    /// The ending of its file name.
    pub fn extension(mode: Checkpoints) -> &'static str {
        match mode {
            Checkpoints::Fast | Checkpoints::Discard => "arrow",
            Checkpoints::Small => "parquet",
        }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        match self {
            Self::Fast(part) => part.write(batch),
            Self::Small(writer) => Ok(writer.write(batch)?),
        }
    }

    /// The checkpoint's bytes.
    ///
    /// # Errors
    /// What the format says.
    pub fn finish(self) -> Result<Vec<u8>, ArrowError> {
        match self {
            Self::Fast(part) => part.finish(),
            Self::Small(writer) => Ok(writer.into_inner()?),
        }
    }
}

/// The batches of a checkpoint named `path`.
///
/// # Errors
/// Bytes that are no checkpoint.
pub fn decode_checkpoint(path: &str, bytes: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
    if path.ends_with(".parquet") { ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?.collect() } else { decode(bytes) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn a_stream_comes_back_and_a_cut_one_is_an_error() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")]));
        let batch = RecordBatch::try_from_iter([("t", texts)]).expect("one column");
        let mut part = IpcPart::try_new(&batch.schema()).expect("a plain schema");
        part.write(&batch).expect("written");
        part.write(&batch.slice(1, 2)).expect("written");
        let bytes = part.finish().expect("finished");
        assert_eq!(decode(bytes.clone().into()).expect("whole"), [batch.clone(), batch.slice(1, 2)]);
        assert!(decode(bytes[..bytes.len() / 2].to_vec().into()).is_err());
    }
}
