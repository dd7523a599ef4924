//! Parquet parts.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{CdcOptions, EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use schemas::{document, row_bytes};

use super::features::{huggingface, media};
use super::{Part, PartWriter};
use crate::{DataError, Recut, WriteSettings};

/// Who wrote the file; without a version, which would change the bytes of equal rows.
pub(crate) const CREATED_BY: &str = "granary";

/// Where a row group ends.
#[derive(Debug, Clone, Copy)]
struct GroupLimits {
    rows: usize,
    bytes: u64,
}

/// Most bytes of a row group as Arrow counts them: a reader holds one group at a time, and its memory is what is bounded.
const GROUP_BYTES: u64 = 100_000_000;
/// Most rows of a row group. The `datasets` library and most writers stay near 10^5..10^6.
const GROUP_ROWS: usize = 1 << 20;
/// Most rows of a row group that holds images: as the `datasets` library has it, so that a viewer fetches few of them for one page.
const IMAGE_GROUP_ROWS: usize = 100;

/// Writes one Parquet file into memory.
pub(crate) struct ParquetPart {
    recut: Recut,
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    limits: GroupLimits,
    group_rows: usize,
    group_bytes: u64,
    rows: u64,
}

impl ParquetPart {
    pub(crate) fn try_new(schema: &SchemaRef, settings: &WriteSettings) -> Result<Self, DataError> {
        let images = schema.fields().iter().any(|field| media(field).is_some());
        let rows = if images { IMAGE_GROUP_ROWS } else { GROUP_ROWS };
        Self::with_limits(schema, settings, GroupLimits { rows, bytes: GROUP_BYTES })
    }

    fn with_limits(schema: &SchemaRef, settings: &WriteSettings, limits: GroupLimits) -> Result<Self, DataError> {
        if let Some(name) = schema.fields().iter().find_map(|field| empty_struct(field, field.name())) {
            return Err(DataError::Setting {
                setting: "format",
                problem: format!("Parquet can't hold column `{name}`: it is a struct without fields"),
            });
        }
        let features = huggingface(schema);
        let file_schema: SchemaRef =
            Schema::new_with_metadata(described(schema.fields()), HashMap::from([("huggingface".to_owned(), features.clone())])).into();
        let level = ZstdLevel::try_new(settings.level())?;
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_content_defined_chunking(Some(CdcOptions::default()))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(None)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), features)]));
        let has_id = schema.field_with_name(document::ID.name()).is_ok_and(|field| !field.data_type().is_nested());
        if has_id {
            properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(document::ID.name()), true);
        }
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&file_schema), Some(properties.build()))?;
        Ok(Self { recut: Recut::new(Arc::clone(schema)), writer, schema: file_schema, limits, group_rows: 0, group_bytes: 0, rows: 0 })
    }

    fn encode(&mut self, batch: RecordBatch) -> Result<(), DataError> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?;
        let mut start = 0;
        for (row, bytes) in row_bytes(&batch).into_iter().enumerate() {
            let full = self.group_rows >= self.limits.rows || self.group_bytes.saturating_add(bytes) > self.limits.bytes;
            if self.group_rows > 0 && full {
                self.writer.write(&batch.slice(start, row - start))?;
                self.writer.flush()?;
                (start, self.group_rows, self.group_bytes) = (row, 0, 0);
            }
            self.group_rows += 1;
            self.group_bytes = self.group_bytes.saturating_add(bytes);
        }
        self.writer.write(&batch.slice(start, batch.num_rows() - start))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }
}

impl PartWriter for ParquetPart {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        for batch in self.recut.push(batch)? {
            self.encode(batch)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Part, DataError> {
        if let Some(batch) = self.recut.finish()? {
            self.encode(batch)?;
        }
        Ok(Part { bytes: self.writer.into_inner()?, rows: self.rows })
    }

    fn bytes_written(&self) -> usize {
        self.writer.bytes_written()
    }
}

/// The columns with their descriptions and no other metadata: what else a reader left there (field numbers of another file) is wrong here.
fn described(fields: &Fields) -> Fields {
    fields
        .iter()
        .map(|field| {
            let plain = Field::new(field.name(), field.data_type().clone(), field.is_nullable());
            match field.metadata().get("description") {
                Some(description) => schemas::describe(plain, description),
                None => plain,
            }
        })
        .collect()
}

fn empty_struct(field: &Field, path: &str) -> Option<String> {
    match field.data_type() {
        DataType::Struct(children) if children.is_empty() => Some(path.to_owned()),
        DataType::Struct(children) => children.iter().find_map(|child| empty_struct(child, &format!("{path}.{}", child.name()))),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => empty_struct(item, path),
        _ => None,
    }
}
