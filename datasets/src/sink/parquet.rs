//! Parquet parts.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{CdcOptions, EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use schemas::{document, row_bytes};

use super::features::{huggingface, media};
use super::{Part, PartWriter};
use crate::{Compression, DataError, Recut, WriteSettings};

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
    properties: WriterPropertiesBuilder,
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
        let codec = match settings.compression {
            Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(settings.level())?),
            Compression::Lz4 => Codec::LZ4_RAW,
            Compression::None => Codec::UNCOMPRESSED,
        };
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(codec)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(None)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), features)]));
        let has_id = schema.field_with_name(document::ID.name()).is_ok_and(|field| !field.data_type().is_nested());
        if has_id {
            properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(document::ID.name()), true);
        }
        let chunked = properties.clone().set_content_defined_chunking(Some(CdcOptions::default())).build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&file_schema), Some(chunked))?;
        let recut = Recut::new(Arc::clone(schema));
        Ok(Self { recut, writer, schema: file_schema, properties, limits, group_rows: 0, group_bytes: 0, rows: 0 })
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
        let bytes = Bytes::from(self.writer.into_inner()?);
        let bytes = match self.rows {
            0 => bytes,
            _ => without_empty_pages(bytes, &self.schema, self.properties)?,
        };
        Ok(Part { chunks: vec![bytes], rows: self.rows })
    }

    fn bytes_written(&self) -> usize {
        self.writer.bytes_written()
    }
}

/// The part, written once more with pages of fixed size if it has a page without values.
///
/// Content-defined chunking (parquet 60.1, `ContentDefinedChunker::calculate`) ends a page before the first row of a row group if that row's
/// value ends a chunk, as any over 1 MiB does, and so leaves an empty page. Arrow's C++ reader, which pyarrow and `datasets` are, takes an
/// empty page for the end of the column and finds no row at all.
fn without_empty_pages(bytes: Bytes, schema: &SchemaRef, properties: WriterPropertiesBuilder) -> Result<Bytes, DataError> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&bytes, options)?;
    if !has_empty_page(metadata.metadata()) {
        return Ok(bytes);
    }
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties.build()))?;
    for group in 0..metadata.metadata().num_row_groups() {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone()).with_row_groups(vec![group]);
        for batch in reader.build()? {
            writer.write(&RecordBatch::try_new(Arc::clone(schema), batch?.columns().to_vec())?)?;
        }
        writer.flush()?;
    }
    Ok(writer.into_inner()?.into())
}

/// Whether two pages of a column begin at the same row: a new page begins at a new row, so the first of them is empty.
fn has_empty_page(metadata: &ParquetMetaData) -> bool {
    let Some(index) = metadata.page_index() else { return false };
    let columns = metadata.row_groups().iter().enumerate();
    let mut pages = columns.flat_map(|(group, row_group)| (0..row_group.num_columns()).filter_map(move |at| index.offset_index(group, at)));
    pages.any(|pages| pages.page_locations().windows(2).any(|pair| pair[0].first_row_index == pair[1].first_row_index))
}

/// The columns with their descriptions, the hashes of the models that made them, and no other metadata: what else a reader left there (field numbers
/// of another file) is wrong here.
fn described(fields: &Fields) -> Fields {
    fields
        .iter()
        .map(|field| {
            let ours = ["description", schemas::MODEL_HASH];
            let kept = field.metadata().iter().filter(|(key, _)| ours.contains(&key.as_str()));
            let plain = Field::new(field.name(), field.data_type().clone(), field.is_nullable());
            plain.with_metadata(kept.map(|(key, text)| (key.clone(), text.clone())).collect::<HashMap<String, String>>())
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

#[cfg(test)]
mod tests {
    use arrow::array::{Array, BinaryArray, StringArray, StructArray};
    use parquet::bloom_filter::Sbbf;
    use proptest::prelude::*;

    use super::*;
    use crate::sink::{empty_part, part_writer};

    fn documents(texts: &[String]) -> RecordBatch {
        let ids: StringArray = (0..texts.len()).map(|n| Some(format!("d{n}"))).collect();
        let texts: StringArray = texts.iter().map(|text| Some(text.as_str())).collect();
        let schema = Schema::new(vec![document::ID.field(), document::TEXT.field()]);
        RecordBatch::try_new(schema.into(), vec![Arc::new(ids), Arc::new(texts)]).unwrap()
    }

    fn write(batch: &RecordBatch, size: usize, limits: GroupLimits) -> Part {
        let mut writer = ParquetPart::with_limits(&batch.schema(), &WriteSettings::default(), limits).unwrap();
        for start in (0..batch.num_rows()).step_by(size) {
            writer.write(&batch.slice(start, size.min(batch.num_rows() - start))).unwrap();
        }
        Box::new(writer).finish().unwrap()
    }

    fn group_rows(part: &Part) -> Vec<i64> {
        let bytes = Bytes::from(part.clone().into_bytes());
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).unwrap();
        metadata.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect()
    }

    use parquet::file::metadata::RowGroupMetaData;

    #[test]
    fn row_groups_end_at_rows_and_at_arrow_bytes() {
        let batch = documents(&vec!["x".repeat(90); 250]); // a row is 4 + 2..4 + 4 + 90 bytes
        assert_eq!(group_rows(&write(&batch, 250, GroupLimits { rows: 100, bytes: u64::MAX })), [100, 100, 50]);
        let by_bytes = group_rows(&write(&batch, 250, GroupLimits { rows: 1000, bytes: 10_000 }));
        // d0..d9 are 100 bytes each, d10..d99 101, then 102: 1000 + 89 * 101 = 9989 is the last sum within 10,000.
        assert_eq!(by_bytes, [99, 98, 53]);
    }

    #[test]
    fn images_stand_in_groups_of_at_most_a_hundred() {
        let fields = Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)]);
        let bytes = BinaryArray::from_iter_values((0..150).map(|n| vec![n; 3]));
        let paths: StringArray = (0..150).map(|_| None::<&str>).collect();
        let images: Arc<dyn Array> = Arc::new(StructArray::new(fields, vec![Arc::new(bytes), Arc::new(paths)], None));
        let batch = RecordBatch::try_from_iter([("image", images)]).unwrap();
        let mut writer = part_writer(&batch.schema(), &WriteSettings::default()).unwrap();
        writer.write(&batch).unwrap();
        assert_eq!(group_rows(&writer.finish().unwrap()), [100, 50]);
    }

    #[test]
    fn a_column_tells_its_description_and_its_model_and_nothing_else() {
        let told = HashMap::from(["description", schemas::MODEL_HASH].map(|key| (key.to_owned(), format!("the {key}"))));
        let left = ("PARQUET:field_id".to_owned(), "7".to_owned());
        let with = |metadata: HashMap<String, String>| Field::new("score", DataType::Float32, true).with_metadata(metadata);
        let field = with(told.clone().into_iter().chain([left]).collect());
        assert_eq!(described(&Fields::from(vec![field, with(HashMap::new())])), Fields::from(vec![with(told), with(HashMap::new())]));
    }

    #[test]
    fn a_file_has_features_descriptions_page_index_and_a_filter_on_id() {
        let batch = documents(&["one".to_owned(), "two".to_owned()]);
        let part = write(&batch, 1, GroupLimits { rows: 10, bytes: 1000 });
        let bytes = Bytes::from(part.into_bytes());
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&bytes, options).unwrap();
        let schema = metadata.schema();
        assert!(schema.metadata().get("huggingface").unwrap().starts_with(r#"{"info":{"features":{"id":{"dtype":"string""#));
        assert_eq!(schema.field(1).metadata().get("description").unwrap(), "text of the document");
        let group = metadata.metadata().row_group(0);
        let filter = Sbbf::read_from_column_chunk(group.column(0), &bytes).unwrap().unwrap();
        assert!(filter.check(&"d1") && !filter.check(&"d2"));
        assert!(Sbbf::read_from_column_chunk(group.column(1), &bytes).unwrap().is_none());
        assert_eq!(metadata.metadata().file_metadata().created_by(), Some("granary"));
        assert_eq!(group.column(0).compression(), Codec::ZSTD(ZstdLevel::default()));
    }

    #[test]
    fn every_compression_holds_the_same_rows() {
        let texts: Vec<String> = (0..3000).map(|n| format!("text {n} and text again")).collect();
        let batch = documents(&texts);
        for (compression, codec) in [(Compression::Lz4, Codec::LZ4_RAW), (Compression::None, Codec::UNCOMPRESSED)] {
            let mut part = ParquetPart::try_new(&batch.schema(), &WriteSettings { compression, ..WriteSettings::default() }).unwrap();
            part.write(&batch).unwrap();
            let bytes = Bytes::from(Box::new(part).finish().unwrap().into_bytes());
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().with_batch_size(texts.len());
            assert_eq!(reader.metadata().row_group(0).column(1).compression(), codec);
            let rows = reader.build().unwrap().next().unwrap().unwrap();
            assert_eq!(rows.columns(), batch.columns());
        }
    }

    #[test]
    fn a_long_first_value_leaves_no_empty_page_that_pyarrow_stops_at() {
        let texts: Vec<String> = ["a", "b", "c"].iter().map(|letter| letter.repeat(2 << 20)).collect();
        let batch = documents(&texts);
        let limits = GroupLimits { rows: 2, bytes: u64::MAX };
        let part = write(&batch, 3, limits);
        assert_eq!(group_rows(&part), [2, 1]);
        let bytes = Bytes::from(part.clone().into_bytes());
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        assert!(!has_empty_page(ArrowReaderMetadata::load(&bytes, options).unwrap().metadata()));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let read = arrow::compute::concat_batches(&batch.schema(), &reader.map(Result::unwrap).collect::<Vec<_>>()).unwrap();
        assert_eq!(read.columns(), batch.columns());
        assert!(write(&batch, 1, limits) == part);
    }

    #[test]
    fn an_empty_part_has_the_columns_and_no_row_group() {
        let schema = documents(&[]).schema();
        let part = empty_part(&schema, &WriteSettings::default()).unwrap();
        assert_eq!(group_rows(&part), [0_i64; 0]);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(part.into_bytes())).unwrap();
        assert_eq!(reader.schema().fields(), schema.fields());
    }

    #[test]
    fn a_struct_without_fields_is_refused_by_name() {
        let schema = Schema::new(vec![Field::new("m", DataType::Struct(vec![Field::new_struct("e", Fields::empty(), true)].into()), true)]);
        let error = part_writer(&schema.into(), &WriteSettings::default()).err().unwrap().to_string();
        assert_eq!(error, "Parquet can't hold column `m.e`: it is a struct without fields");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn batching_makes_no_difference_to_the_bytes(texts in proptest::collection::vec("[a-z ]{0,40}", 1..300)) {
            let batch = documents(&texts);
            let limits = GroupLimits { rows: 97, bytes: 3000 };
            let expected = write(&batch, 1000, limits);
            prop_assert!(write(&batch, 1, limits) == expected);
            prop_assert!(write(&batch, 7, limits) == expected);
        }
    }
}
