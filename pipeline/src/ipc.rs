//! Checkpoints and spilled tables: plain Arrow IPC streams, or Parquet where disk is scarcer than time.

use std::io::Write;

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

/// Collects batches into one IPC stream in memory, each in a piece of its own.
pub struct IpcPart {
    writer: StreamWriter<Pieces>,
}

/// Bytes in pieces, so that they need not be moved about to lie end to end.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Pieces {
    /// Ends a piece; the next will have about `size` bytes.
    fn cut(&mut self, size: usize) {
        let open = std::mem::replace(&mut self.open, Vec::with_capacity(size));
        if !open.is_empty() {
            self.done.push(Bytes::from(open));
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.open.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl IpcPart {
    /// An empty stream.
    ///
    /// # Errors
    /// A schema that IPC cannot carry.
    pub fn try_new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        Ok(Self { writer: StreamWriter::try_new(Pieces::default(), schema)? })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        // Buffers are padded, and told of in a header.
        let overhead = 4096 + 256 * batch.num_columns();
        let size = usize::try_from(schemas::batch_bytes(batch)).unwrap_or_default();
        self.writer.get_mut().cut(size + size / 16 + overhead);
        self.writer.write(batch)
    }

    /// The stream, in pieces.
    ///
    /// # Errors
    /// What Arrow says.
    pub fn finish(mut self) -> Result<Vec<Bytes>, ArrowError> {
        self.writer.finish()?;
        let mut pieces = self.writer.into_inner()?;
        pieces.cut(0);
        Ok(pieces.done)
    }
}

/// The batches of a stream; they point into its pieces.
///
/// # Errors
/// Bytes that are no IPC stream, or one that was cut off.
pub fn decode(pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<RecordBatch>, ArrowError> {
    caught(|| {
        let mut decoder = StreamDecoder::new();
        let mut batches = Vec::new();
        for piece in pieces {
            let mut buffer = Buffer::from(piece);
            while !buffer.is_empty() {
                batches.extend(decoder.decode(&mut buffer)?);
            }
        }
        decoder.finish()?;
        Ok(batches)
    })
}

/// The decoders panic at some bytes that they did not write.
fn caught(decode: impl FnOnce() -> Result<Vec<RecordBatch>, ArrowError>) -> Result<Vec<RecordBatch>, ArrowError> {
    datasets::catch_quietly(decode).unwrap_or_else(|problem| Err(ArrowError::IpcError(format!("the decoder failed: {problem}"))))
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
    pub fn finish(self) -> Result<Vec<Bytes>, ArrowError> {
        match self {
            Self::Fast(part) => part.finish(),
            Self::Small(writer) => Ok(vec![Bytes::from(writer.into_inner()?)]),
        }
    }
}

/// The batches of a checkpoint named `path`.
///
/// # Errors
/// Bytes that are no checkpoint.
pub fn decode_checkpoint(path: &str, pieces: Vec<Bytes>) -> Result<Vec<RecordBatch>, ArrowError> {
    if path.ends_with(".parquet") {
        caught(|| ParquetRecordBatchReaderBuilder::try_new(Bytes::from(pieces.concat()))?.build()?.collect())
    } else {
        decode(pieces)
    }
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
        let whole = Bytes::from(bytes.concat());
        assert_eq!(decode(bytes.clone()).expect("in pieces"), [batch.clone(), batch.slice(1, 2)]);
        assert_eq!(decode([whole.clone()]).expect("whole"), [batch.clone(), batch.slice(1, 2)]);
        assert!(decode([whole.slice(..whole.len() / 2)]).is_err());
        // The rows point into the pieces.
        let piece = bytes[1].as_ptr_range();
        let texts = decode(bytes.clone()).expect("in pieces")[0].column(0).to_data();
        assert!(texts.buffers().iter().all(|buffer| piece.contains(&buffer.as_ptr())));
    }
}
