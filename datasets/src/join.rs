//! Joining consecutive finished parts into one file, without decoding a row.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use crate::sink::CREATED_BY;
use crate::{DataError, WriteFormat};

/// Writes the rows of `parts`, in order, into one file; gives their number.
///
/// Parquet row groups are copied as they are, with page index and bloom filters; JSON Lines and zstd frames are put end to end. Parts
/// without rows leave nothing behind: there is no empty row group. No parts at all is an error, as there is no schema then.
///
/// # Errors
/// [`DataError`] if a part cannot be read, is damaged, or has another schema than the first.
pub fn join_parts(format: WriteFormat, parts: &[PathBuf], into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    match format {
        WriteFormat::Parquet => join_parquet(parts, into),
        WriteFormat::Jsonl => parts.iter().map(|part| copy_lines(part, into)).sum(),
        WriteFormat::JsonlZst => parts.iter().map(|part| copy_frames(part, into)).sum(),
    }
}

fn join_parquet(parts: &[PathBuf], into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    let Some(first) = parts.first() else {
        return Err(DataError::Setting { setting: "parts", problem: "there are no parts to join".to_owned() });
    };
    let (_, head) = open_parquet(first)?;
    let file = head.file_metadata();
    let properties = WriterProperties::builder()
        .set_created_by(file.created_by().unwrap_or(CREATED_BY).to_owned())
        .set_key_value_metadata(file.key_value_metadata().cloned())
        .build();
    let mut writer = SerializedFileWriter::new(into, file.schema_descr().root_schema_ptr(), Arc::new(properties))?;
    let mut rows = 0;
    for part in parts {
        let (input, metadata) = open_parquet(part)?;
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

fn open_parquet(path: &Path) -> Result<(File, ParquetMetaData), DataError> {
    let file = open(path)?;
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&file)
        .map_err(|error| damaged(path, &error.to_string()))?;
    Ok((file, metadata))
}

fn damaged(path: &Path, problem: &str) -> DataError {
    DataError::Format { path: path.to_owned(), format: "Parquet", problem: problem.to_owned() }
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|source| DataError::Io { doing: "open", path: path.to_owned(), source })
}

fn copy_lines(path: &Path, into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    let mut input = BufReader::with_capacity(1 << 20, open(path)?);
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
fn copy_frames(path: &Path, into: &mut (dyn Write + Send)) -> Result<u64, DataError> {
    let reading = |source| DataError::Io { doing: "read", path: path.to_owned(), source };
    let mut decoder = BufReader::with_capacity(1 << 20, zstd::stream::read::Decoder::new(open(path)?).map_err(reading)?);
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
    std::io::copy(&mut open(path)?, into).map_err(writing)?;
    Ok(rows)
}
