//! Joining consecutive finished parts into one file, without decoding a row.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use crate::sink::CREATED_BY;
use crate::{DataError, ReadAt, WriteFormat};

/// Writes the rows of `parts`, in order, into one file; gives their number.
///
/// Parquet row groups are copied as they are, with page index and bloom filters; JSON Lines and zstd frames are put end to end. Parts
/// without rows leave nothing behind: there is no empty row group. No parts at all is an error, as there is no schema then.
///
/// # Errors
/// [`DataError`] if a part cannot be read, is damaged, or has another schema than the first.
pub fn join_parts(format: WriteFormat, parts: &[PathBuf], open: &Open<'_>, into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    match format {
        WriteFormat::Parquet => join_parquet(parts, open, into),
        WriteFormat::Jsonl => parts.iter().map(|part| copy_lines(part, open, into)).sum(),
        WriteFormat::JsonlZst => parts.iter().map(|part| copy_frames(part, open, into)).sum(),
    }
}

/// How a part is opened: by its path, or from wherever it is kept.
pub type Open<'a> = dyn Fn(&Path) -> std::io::Result<ReadAt> + 'a;

fn join_parquet(parts: &[PathBuf], open: &Open<'_>, into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    let Some(first) = parts.first() else {
        return Err(DataError::Setting { setting: "parts", problem: "there are no parts to join".to_owned() });
    };
    let (_, head) = open_parquet(first, open)?;
    let file = head.file_metadata();
    let properties = WriterProperties::builder()
        .set_created_by(file.created_by().unwrap_or(CREATED_BY).to_owned())
        .set_key_value_metadata(file.key_value_metadata().cloned())
        .build();
    let mut writer = SerializedFileWriter::new(into, file.schema_descr().root_schema_ptr(), Arc::new(properties))?;
    let mut rows = 0;
    for part in parts {
        let (input, metadata) = open_parquet(part, open)?;
        if metadata.file_metadata().schema() != file.schema() {
            let problem = format!("its columns are not those of {}, which it would be joined with", first.display());
            return Err(DataError::Format { path: part.clone(), format: "Parquet", problem });
        }
        let index = metadata.page_index();
        for (group_number, group) in metadata.row_groups().iter().enumerate() {
            let group_rows = u64::try_from(group.num_rows()).map_err(|_| damaged(part, "a row group with fewer than no rows"))?;
            if group_rows == 0 {
                continue;
            }
            let mut copy = writer.next_row_group()?;
            for (column_number, column) in group.columns().iter().enumerate() {
                let bytes = u64::try_from(column.compressed_size()).map_err(|_| damaged(part, "a column chunk of negative size"))?;
                let close = ColumnCloseResult {
                    bytes_written: bytes,
                    rows_written: group_rows,
                    metadata: column.clone(),
                    bloom_filter: Sbbf::read_from_column_chunk(column, &input)?,
                    column_index: index.and_then(|index| index.column_index(group_number, column_number)).cloned(),
                    offset_index: index.and_then(|index| index.offset_index(group_number, column_number)).cloned(),
                };
                copy.append_column(&input, close)?;
            }
            copy.close()?;
            rows += group_rows;
        }
    }
    writer.close()?;
    Ok(rows)
}

fn open_parquet(path: &Path, open: &Open<'_>) -> Result<(ReadAt, ParquetMetaData), DataError> {
    let file = opened(path, open)?;
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&file)
        .map_err(|error| damaged(path, &error.to_string()))?;
    Ok((file, metadata))
}

fn damaged(path: &Path, problem: &str) -> DataError {
    DataError::Format { path: path.to_owned(), format: "Parquet", problem: problem.to_owned() }
}

fn opened(path: &Path, open: &Open<'_>) -> Result<ReadAt, DataError> {
    open(path).map_err(|source| DataError::Io { doing: "open", path: path.to_owned(), source })
}

fn whole(path: &Path, open: &Open<'_>) -> Result<Box<dyn Read + Send>, DataError> {
    let file = opened(path, open)?;
    Ok(file.reader(0, file.bytes()))
}

fn copy_lines(path: &Path, open: &Open<'_>, into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    let mut input = BufReader::with_capacity(1 << 20, whole(path, open)?);
    let mut rows = 0;
    loop {
        let block = input.fill_buf().map_err(|source| DataError::Io { doing: "read", path: path.to_owned(), source })?;
        if block.is_empty() {
            return Ok(rows);
        }
        rows += memchr::memchr_iter(b'\n', block).count() as u64;
        into.write_all(block).map_err(|source| DataError::Io { doing: "write what is joined from", path: path.to_owned(), source })?;
        let read = block.len();
        input.consume(read);
    }
}

/// Frames are copied as they are; they are decoded beside that, as only their text says how many rows there are.
fn copy_frames(path: &Path, open: &Open<'_>, into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    let reading = |source| DataError::Io { doing: "read", path: path.to_owned(), source };
    let mut decoder = BufReader::with_capacity(1 << 20, zstd::stream::read::Decoder::new(whole(path, open)?).map_err(reading)?);
    let mut rows = 0;
    loop {
        let block = decoder.fill_buf().map_err(reading)?;
        if block.is_empty() {
            break;
        }
        rows += memchr::memchr_iter(b'\n', block).count() as u64;
        let read = block.len();
        decoder.consume(read);
    }
    let writing = |source| DataError::Io { doing: "write what is joined from", path: path.to_owned(), source };
    std::io::copy(&mut whole(path, open)?, into).map_err(writing)?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::{WriteSettings, empty_part, part_writer};

    fn batch(range: std::ops::Range<i64>) -> RecordBatch {
        let ids: ArrayRef = Arc::new(range.clone().map(|n| Some(format!("row {n}"))).collect::<StringArray>());
        RecordBatch::try_from_iter([("id", ids), ("n", Arc::new(Int64Array::from_iter_values(range)) as ArrayRef)]).unwrap()
    }

    fn parts(format: WriteFormat) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let settings = WriteSettings { format, ..WriteSettings::default() };
        let mut paths = Vec::new();
        for (number, range) in [0..3, 3..3, 3..5000].into_iter().enumerate() {
            let mut writer = part_writer(&batch(0..0).schema(), &settings).unwrap();
            writer.write(&batch(range)).unwrap();
            paths.push(dir.path().join(format!("part-{number:05}.{}", format.extension())));
            std::fs::write(&paths[number], writer.finish().unwrap().into_bytes()).unwrap();
        }
        (dir, paths)
    }

    #[test]
    fn parquet_parts_become_one_with_all_rows_indexes_and_filters() {
        let (_dir, paths) = parts(WriteFormat::Parquet);
        let mut joined = Vec::new();
        assert_eq!(join_parts(WriteFormat::Parquet, &paths, &ReadAt::open, &mut joined).unwrap(), 5000);
        let joined = Bytes::from(joined);
        let metadata = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required).parse_and_finish(&joined).unwrap();
        assert_eq!(metadata.row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).collect::<Vec<_>>(), [3, 4997]);
        let filter = Sbbf::read_from_column_chunk(metadata.row_group(1).column(0), &joined).unwrap().unwrap();
        assert!(filter.check(&"row 4999") && !filter.check(&"row 1"));
        assert!(metadata.page_index().is_some_and(|index| index.column_index(1, 1).is_some() && index.offset_index(1, 1).is_some()));
        let reader = ParquetRecordBatchReaderBuilder::try_new(joined).unwrap();
        assert!(reader.schema().metadata().contains_key("huggingface"));
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(all.columns(), batch(0..5000).columns());
    }

    #[test]
    fn joining_empty_parts_gives_an_empty_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part-00000.parquet");
        std::fs::write(&path, empty_part(&batch(0..0).schema(), &WriteSettings::default()).unwrap().into_bytes()).unwrap();
        let mut joined = Vec::new();
        assert_eq!(join_parts(WriteFormat::Parquet, &[path.clone(), path], &ReadAt::open, &mut joined).unwrap(), 0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(joined)).unwrap();
        assert_eq!((reader.schema().fields().len(), reader.metadata().num_row_groups()), (2, 0));
    }

    #[test]
    fn lines_and_frames_are_put_end_to_end() {
        for format in [WriteFormat::Jsonl, WriteFormat::JsonlZst] {
            let (_dir, paths) = parts(format);
            let mut joined = Vec::new();
            assert_eq!(join_parts(format, &paths, &ReadAt::open, &mut joined).unwrap(), 5000);
            let text = if format == WriteFormat::Jsonl { joined } else { zstd::decode_all(joined.as_slice()).unwrap() };
            assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 5000);
            assert!(text.ends_with(b"{\"id\":\"row 4999\",\"n\":4999}\n"));
        }
    }

    #[test]
    fn a_damaged_part_is_named() {
        let (dir, paths) = parts(WriteFormat::Parquet);
        let bad = dir.path().join("part-00009.parquet");
        std::fs::write(&bad, b"PAR1 no PAR1").unwrap();
        let error = join_parts(WriteFormat::Parquet, &[paths[0].clone(), bad], &ReadAt::open, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("part-00009.parquet is no readable Parquet file"), "{error}");
    }
}
