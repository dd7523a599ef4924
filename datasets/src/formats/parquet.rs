//! Parquet: row groups in, batches of normal types out.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type;
use parquet::column::page::PageReader;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::jsonl::BATCH_BAD;
use super::{BadRecord, Chunk, FilePart, InputFile, RANGE_BYTES, Reader};
use crate::{DataError, ReadAt, catch_quietly};

/// How Parquet files end.
pub const EXTENSIONS: &[&str] = &["parquet"];
/// Bytes of decoded rows that a batch is aimed at.
const BATCH_BYTES: u64 = 32 << 20;
/// Bytes that a batch can come to at most, should every row repeat the longest values of its columns' dictionaries.
const MOST_BATCH_BYTES: u64 = 2 * BATCH_BYTES;
/// Most bytes of a row group's columns that are fetched before they are wanted.
const MOST_HELD: u64 = 96 << 20;
/// Rows of a damaged row group that are rejected one by one; what a footer says of more than most writers put in one is not believed.
const MOST_LOST: u64 = 1 << 20;

/// The columns that `files` share, or the `wanted` ones of them in that order, and what is told to the person.
///
/// Text, bytes and lists have 32-bit offsets, dictionaries are unpacked. A file that can't be opened as Parquet is noted here and rejected
/// when it is read.
///
/// # Errors
/// [`DataError::Format`] if two files differ in their columns, or none can be read; [`DataError::Setting`] on `columns`.
pub fn parquet_schema(files: &[InputFile], wanted: Option<&[String]>) -> Result<(SchemaRef, Vec<String>), DataError> {
    let mut first: Option<(&InputFile, SchemaRef)> = None;
    let mut first_bad = None;
    let mut notes = Vec::new();
    for file in files {
        let schema = match open(&file.path) {
            Ok((_, metadata)) => project(&normal_schema(metadata.schema()), wanted, &file.path)?,
            Err(error @ DataError::Format { .. }) => {
                notes.push(format!("{error}; it will be rejected"));
                first_bad.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match &first {
            None => first = Some((file, schema)),
            Some((other, expected)) => {
                if let Some(difference) = difference(expected, &schema) {
                    let problem = format!("{difference} in {}; `columns` can leave columns out", other.path.display());
                    return Err(DataError::Format { path: file.path.clone(), format: "Parquet", problem });
                }
            }
        }
    }
    match (first, first_bad) {
        (Some((_, schema)), _) => Ok((schema, notes)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(DataError::Setting { setting: "path", problem: "there is no file to read".to_owned() }),
    }
}

/// Cuts files into parts of whole row groups, about 64 MiB decoded each; small files share a task.
///
/// # Errors
/// [`DataError::Io`] if a file can't be opened.
pub fn parquet_plan(files: &[InputFile]) -> Result<Vec<Vec<FilePart>>, DataError> {
    let mut groups: Vec<Vec<FilePart>> = Vec::new();
    let mut room = 0; // bytes that may still join the last group
    for file in files {
        let part = |start, end| FilePart { path: file.path.clone(), name: file.name.clone(), start, end };
        let metadata = match open(&file.path) {
            Ok((_, metadata)) => Some(metadata),
            Err(DataError::Format { .. }) => None,
            Err(error) => return Err(error),
        };
        let row_groups = metadata.as_ref().map_or(&[][..], |metadata| metadata.metadata().row_groups());
        let (mut start, mut bytes) = (0, 0_u64);
        let mut borders = Vec::new();
        for group in row_groups {
            let here = first_byte(group, file.bytes);
            if bytes >= RANGE_BYTES && here > start {
                borders.push((start, here));
                (start, bytes) = (here, 0);
            }
            bytes = bytes.saturating_add(decoded_bytes(group));
        }
        if borders.is_empty() && bytes <= room {
            room -= bytes;
            if let Some(group) = groups.last_mut() {
                group.push(part(0, file.bytes));
                continue;
            }
        }
        let whole = borders.is_empty();
        groups.extend(borders.into_iter().map(|(start, end)| vec![part(start, end)]));
        groups.push(vec![part(start, file.bytes)]);
        room = if whole { (RANGE_BYTES / 2).saturating_sub(bytes) } else { 0 };
    }
    Ok(groups)
}

/// Reads the row groups that begin in parts of Parquet files.
pub struct ParquetReader {
    parts: VecDeque<FilePart>,
    open: Option<OpenFile>,
    schema: SchemaRef,
    batch_rows: usize,
}

struct OpenFile {
    file: Arc<str>,
    input: ReadAt,
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// Row groups to read, and the numbers of the rows of each.
    groups: VecDeque<(usize, Range<u64>)>,
    reading: Option<Reading>,
    lost: Option<Lost>,
}

/// A row group that is being read.
struct Reading {
    group: usize,
    batches: ParquetRecordBatchReader,
    /// Number of its first row.
    first: u64,
    /// Numbers of the rows that are still to come.
    left: Range<u64>,
    /// Whether it is read row by row, to find the first one that can't be read.
    by_row: bool,
}

/// Rows of a row group that can't be read.
struct Lost {
    /// Number of the first.
    first: u64,
    /// How many there are, as the footer says.
    rows: u64,
    /// How many are rejected already.
    told: u64,
    problem: String,
}

impl ParquetReader {
    /// A reader of the columns of `schema` (as [`parquet_schema`] gave it) in `parts`.
    pub fn new(parts: Vec<FilePart>, schema: SchemaRef, batch_rows: usize) -> Self {
        Self { parts: parts.into(), open: None, schema, batch_rows: batch_rows.max(1) }
    }

    fn open_next(&self, part: &FilePart, chunk: &mut Chunk) -> Result<Option<OpenFile>, DataError> {
        let file: Arc<str> = part.name.as_str().into();
        let mut reject = |reason, detail| {
            chunk.bad.push(BadRecord { file: Arc::clone(&file), offset: 0, reason, detail, rest_is_lost: true });
        };
        let (input, metadata) = match open(&part.path) {
            Ok(open) => open,
            Err(DataError::Format { problem, .. }) => {
                reject("damaged_file", format!("nothing of the file can be read: {problem}"));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let there = normal_schema(metadata.schema());
        let names: Vec<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
        match project(&there, Some(&names), &part.path).map(|schema| difference(&self.schema, &schema)) {
            Ok(None) => {}
            Ok(Some(difference)) => {
                reject("wrong_schema", format!("{difference} in the other files"));
                return Ok(None);
            }
            Err(error) => {
                reject("wrong_schema", error.to_string());
                return Ok(None);
            }
        }
        let roots = names.iter().filter_map(|name| there.index_of(name).ok());
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let length = input.bytes();
        let mut groups = VecDeque::new();
        let mut row = 0_u64;
        for (number, group) in metadata.metadata().row_groups().iter().enumerate() {
            let end = row.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
            if (part.start..part.end).contains(&first_byte(group, length)) {
                groups.push_back((number, row..end));
            }
            row = end;
        }
        Ok(Some(OpenFile { file, input, path: part.path.clone(), metadata, mask, groups, reading: None, lost: None }))
    }
}

impl Reader for ParquetReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut chunk = Chunk::empty(&self.schema);
        loop {
            let Some(open) = &mut self.open else {
                let Some(part) = self.parts.pop_front() else { return Ok(None) };
                self.open = self.open_next(&part, &mut chunk)?;
                if chunk.bad.is_empty() {
                    continue;
                }
                return Ok(Some(chunk));
            };
            if let Some(lost) = &mut open.lost {
                while chunk.bad.len() < BATCH_BAD
                    && let Some((offset, detail)) = lost.next()
                {
                    let file = Arc::clone(&open.file);
                    chunk.bad.push(BadRecord { file, offset, reason: "damaged_row_group", detail, rest_is_lost: false });
                }
                if chunk.bad.is_empty() {
                    open.lost = None;
                    continue;
                }
                return Ok(Some(chunk));
            }
            let Some(reading) = &mut open.reading else {
                let Some((group, rows)) = open.groups.pop_front() else {
                    self.open = None;
                    continue;
                };
                match open.start(group, 0, self.batch_rows) {
                    Ok(batches) => open.reading = Some(Reading { group, batches, first: rows.start, left: rows, by_row: false }),
                    Err(problem) => open.lost = Some(open.lost(&rows, problem)?),
                }
                continue;
            };
            match reading.next(&self.schema) {
                Ok(Some(batch)) => {
                    let first = reading.left.start;
                    reading.left.start += batch.num_rows() as u64;
                    for number in first..reading.left.start {
                        chunk.positions.push(&open.file, number);
                    }
                    chunk.rows = batch;
                    return Ok(Some(chunk));
                }
                Ok(None) => open.reading = None,
                Err(problem) => {
                    let Reading { group, first, left, by_row, .. } =
                        open.reading.take().expect("it is there: its next batch was asked for");
                    // Which rows are lost must not depend on how many are read at a time.
                    let again = if by_row { Err(problem) } else { open.start(group, left.start - first, 1) };
                    match again {
                        Ok(batches) => open.reading = Some(Reading { group, batches, first, left, by_row: true }),
                        Err(problem) => open.lost = Some(open.lost(&left, problem)?),
                    }
                }
            }
        }
    }
}

impl Reading {
    fn next(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>, String> {
        let batch = caught(|| self.batches.next().transpose().map_err(|error| error.to_string()))?;
        let batch = batch.map(|batch| caught(|| normal_batch(schema, &batch).map_err(|error| error.to_string()))).transpose()?;
        let left = self.left.end - self.left.start;
        match batch.as_ref().map(|batch| batch.num_rows() as u64) {
            None if left > 0 => Err(format!("it ends {left} rows before the footer says")),
            Some(rows) if rows > left => Err("it has more rows than the footer says".to_owned()),
            _ => Ok(batch),
        }
    }
}

impl Lost {
    fn new(rows: &Range<u64>, problem: String) -> Self {
        Self { first: rows.start, rows: rows.end.saturating_sub(rows.start), told: 0, problem }
    }

    /// The number of the next lost row, and what is to be said of it; there is at least one, whatever the footer says.
    fn next(&mut self) -> Option<(u64, String)> {
        let row = self.first.saturating_add(self.told);
        let detail = match self.told {
            0 => format!("the rows of its row group from here on can't be read: {}", self.problem),
            told if told >= self.rows => return None,
            told if told < MOST_LOST => format!("lost with row {}", self.first),
            told => {
                self.told = self.rows;
                return Some((row, format!("lost with row {}, and {} more, as the footer says", self.first, self.rows - told - 1)));
            }
        };
        self.told += 1;
        Some((row, detail))
    }
}

impl OpenFile {
    /// Rows that can't be read, unless it is the way to them that failed.
    fn lost(&self, rows: &Range<u64>, problem: String) -> Result<Lost, DataError> {
        match self.input.trouble() {
            None => Ok(Lost::new(rows, problem)),
            Some(trouble) => Err(unreachable(&self.path, trouble)),
        }
    }

    /// Begins to read a row group, without its first `skipped` rows.
    fn start(&self, group: usize, skipped: u64, batch_rows: usize) -> Result<ParquetRecordBatchReader, String> {
        let input = self.input.clone();
        let row_group = self.metadata.metadata().row_group(group);
        if let ReadAt::Remote(file) = &input {
            let columns = row_group.columns().iter().enumerate().filter(|(leaf, _)| self.mask.leaf_included(*leaf));
            let range = |column: &ColumnChunkMetaData| {
                caught(|| Ok(column.byte_range())).map_or(0..0, |(start, bytes)| start..start.saturating_add(bytes))
            };
            let ranges: Vec<Range<u64>> = columns.map(|(_, column)| range(column)).collect();
            file.hold(&ranges, MOST_HELD).map_err(|error| error.to_string())?;
        }
        let rows = u64::try_from(row_group.num_rows()).map_err(|_| "it has fewer than no rows".to_owned())?;
        let row_bytes = decoded_bytes(row_group).checked_div(rows).unwrap_or(0).max(1);
        let fitting = (BATCH_BYTES / row_bytes).min(MOST_BATCH_BYTES / self.longest_row(group).max(1));
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, batch_rows);
        caught(|| {
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(self.mask.clone())
                .with_batch_size(fitting);
            if skipped > 0 {
                builder = builder.with_offset(usize::try_from(skipped).unwrap_or(usize::MAX));
            }
            builder.build().map_err(|error| error.to_string())
        })
    }
}

impl OpenFile {
    /// Bytes of the longest texts in the dictionaries of a row group, one a column: each row may repeat them, in next to no space.
    fn longest_row(&self, group: usize) -> u64 {
        let row_group = self.metadata.metadata().row_group(group);
        let columns = row_group.columns().iter().enumerate();
        let texts = columns.filter(|(leaf, column)| self.mask.leaf_included(*leaf) && column.column_type() == Type::BYTE_ARRAY);
        let longest = |column: &ColumnChunkMetaData| {
            let input = Arc::new(self.input.clone());
            let mut pages = SerializedPageReader::new(input, column, 0, None).map_err(|error| error.to_string())?;
            if !pages.peek_next_page().map_err(|error| error.to_string())?.is_some_and(|page| page.is_dict) {
                return Ok(0);
            }
            let page = pages.get_next_page().map_err(|error| error.to_string())?;
            Ok(page.map_or(0, |page| longest_value(page.buffer())))
        };
        // What can't be read is found again, and told of, where it is decoded.
        texts.map(|(_, column)| caught(|| longest(column)).unwrap_or(0)).sum()
    }
}

/// The longest of values that each stand behind their length.
fn longest_value(mut page: &[u8]) -> u64 {
    let mut longest = 0;
    while let Some((length, rest)) = page.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        longest = longest.max(u64::from(length));
        page = rest.get(length as usize..).unwrap_or_default();
    }
    longest
}

/// Runs a decoder on bytes that anyone may have written: should it panic, that is the file's problem and not the run's.
fn caught<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_quietly(decode).unwrap_or_else(|problem| Err(format!("the decoder failed: {problem}")))
}

fn open(path: &Path) -> Result<(ReadAt, ArrowReaderMetadata), DataError> {
    let file = ReadAt::open(path).map_err(|source| DataError::Io { doing: "open", path: path.to_owned(), source })?;
    let metadata = caught(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| error.to_string()));
    let metadata = metadata.map_err(|problem| match file.trouble() {
        None => DataError::Format { path: path.to_owned(), format: "Parquet", problem },
        Some(trouble) => unreachable(path, trouble),
    })?;
    Ok((file, metadata))
}

/// A file that may be sound, but can't be got at.
fn unreachable(path: &Path, trouble: String) -> DataError {
    DataError::Io { doing: "read", path: path.to_owned(), source: std::io::Error::other(trouble) }
}

/// Where a row group begins, always within the file, whatever its metadata says.
fn first_byte(group: &RowGroupMetaData, length: u64) -> u64 {
    let offset = group.columns().first().map_or(0, |column| column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()));
    u64::try_from(offset).unwrap_or(0).min(length.saturating_sub(1))
}

fn decoded_bytes(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.total_byte_size()).unwrap_or(0)
}

fn normal_batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, DataError> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch
                .column_by_name(field.name())
                .ok_or_else(|| arrow::error::ArrowError::SchemaError(format!("column `{}` is gone", field.name())))?;
            Ok(if column.data_type() == field.data_type() { Arc::clone(column) } else { cast(column, field.data_type())? })
        })
        .collect::<Result<Vec<ArrayRef>, DataError>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn normal_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let normal = normal_type(field.data_type());
            let data_type = if can_cast_types(field.data_type(), &normal) { normal } else { field.data_type().clone() };
            let plain = Field::new(field.name(), data_type, true);
            match field.metadata().get("description") {
                Some(description) => schemas::describe(plain, description),
                None => plain,
            }
        })
        .collect();
    Schema::new(fields).into()
}

/// The type that the program uses in place of `data_type`: 32-bit offsets, no dictionaries, no views, dates in days.
fn normal_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        // Parquet has days only: written as it is, every other reader would find whole numbers.
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, values) => normal_type(values),
        DataType::RunEndEncoded(_, values) => normal_type(values.data_type()),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(normal_item(item))
        }
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(normal_item(item), *size),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| Field::new(field.name(), normal_type(field.data_type()), true)).collect())
        }
        other => other.clone(),
    }
}

fn normal_item(item: &FieldRef) -> FieldRef {
    Arc::new(Field::new("item", normal_type(item.data_type()), true))
}

/// The wanted columns, in that order.
fn project(schema: &SchemaRef, wanted: Option<&[String]>, path: &Path) -> Result<SchemaRef, DataError> {
    let Some(wanted) = wanted else { return Ok(Arc::clone(schema)) };
    let fields = wanted
        .iter()
        .map(|name| {
            schema.field_with_name(name).cloned().map_err(|_| {
                let there = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
                DataError::Setting { setting: "columns", problem: format!("{} has no column `{name}`, only {there}", path.display()) }
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Schema::new(fields).into())
}

/// What tells `schema` from `expected`, ready to be followed by `in <the file of expected>`; the order of columns does not.
fn difference(expected: &Schema, schema: &Schema) -> Option<String> {
    for field in expected.fields() {
        match schema.field_with_name(field.name()) {
            Ok(other) if other.data_type() == field.data_type() => {}
            Ok(other) => return Some(format!("column `{}` is {}, but {}", field.name(), other.data_type(), field.data_type())),
            Err(_) => return Some(format!("it has no column `{}`, which is", field.name())),
        }
    }
    let extra = schema.fields().iter().find(|field| expected.field_with_name(field.name()).is_err())?;
    Some(format!("it has column `{}`, which is not", extra.name()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray, Date32Array, Date64Array, DictionaryArray, FixedSizeListArray, Int64Array, LargeListArray, LargeStringArray, StringArray,
        StringViewArray,
    };
    use arrow::datatypes::{Date32Type, Int32Type, Int64Type};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use proptest::prelude::*;

    use super::*;

    fn write(path: &Path, batch: &RecordBatch, group_rows: usize) -> InputFile {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        std::fs::write(path, &bytes).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        InputFile { path: path.to_owned(), name, bytes: bytes.len() as u64 }
    }

    fn mixed(rows: usize) -> RecordBatch {
        let texts: Vec<String> = (0..rows).map(|n| format!("text {n}")).collect();
        let lists = (0..rows).map(|n| Some(vec![i64::try_from(n).ok()]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("large", Arc::new(LargeStringArray::from_iter_values(&texts))),
            ("view", Arc::new(StringViewArray::from_iter_values(&texts))),
            ("dictionary", Arc::new(texts.iter().map(|text| Some(text.as_str())).collect::<DictionaryArray<Int32Type>>())),
            ("list", Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn parts(groups: Vec<Vec<FilePart>>) -> Vec<FilePart> {
        groups.into_iter().flatten().collect()
    }

    fn read(parts: Vec<FilePart>, schema: &SchemaRef) -> (usize, Vec<u64>, Vec<BadRecord>) {
        let mut reader = ParquetReader::new(parts, Arc::clone(schema), 7);
        let (mut rows, mut numbers, mut bad) = (0, Vec::new(), Vec::new());
        while let Some(chunk) = reader.next_chunk().unwrap() {
            assert_eq!(chunk.rows.schema(), *schema);
            rows += chunk.rows.num_rows();
            numbers.extend(chunk.positions.offsets);
            bad.extend(chunk.bad);
        }
        (rows, numbers, bad)
    }

    #[test]
    fn other_types_become_the_ones_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(&dir.path().join("a.parquet"), &mixed(25), 10);
        let (schema, notes) = parquet_schema(std::slice::from_ref(&file), None).unwrap();
        let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Utf8", "Utf8", "Utf8", "List(Int64)"]);
        assert!(notes.is_empty());
        let (rows, numbers, bad) = read(parts(parquet_plan(&[file]).unwrap()), &schema);
        assert_eq!((rows, bad.len()), (25, 0));
        assert_eq!(numbers, (0..25).collect::<Vec<u64>>());
    }

    #[test]
    fn dates_in_milliseconds_become_dates_in_days() {
        const DAY: i64 = 86_400_000;
        let dir = tempfile::tempdir().unwrap();
        let dates: ArrayRef = Arc::new(Date64Array::from(vec![Some(0), None, Some(-719_162 * DAY), Some(19_723 * DAY)]));
        let lists: ArrayRef =
            Arc::new(FixedSizeListArray::new(Arc::new(Field::new("item", DataType::Date64, true)), 1, Arc::clone(&dates), None));
        let batch = RecordBatch::try_from_iter([("date", dates), ("list", lists)]).unwrap();
        let file = write(&dir.path().join("a.parquet"), &batch, 10);
        let (schema, _) = parquet_schema(std::slice::from_ref(&file), None).unwrap();
        let mut reader = ParquetReader::new(parts(parquet_plan(&[file]).unwrap()), Arc::clone(&schema), 10);
        let rows = reader.next_chunk().unwrap().unwrap().rows;
        let days = Date32Array::from(vec![Some(0), None, Some(-719_162), Some(19_723)]);
        assert_eq!(rows.column(0).as_primitive::<Date32Type>(), &days);
        assert_eq!(rows.column(1).as_fixed_size_list().values().as_primitive::<Date32Type>(), &days);
    }

    #[test]
    fn columns_are_chosen_in_order_and_a_missing_one_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(&dir.path().join("a.parquet"), &mixed(3), 10);
        let wanted = ["list".to_owned(), "large".to_owned()];
        let (schema, _) = parquet_schema(std::slice::from_ref(&file), Some(&wanted)).unwrap();
        let mut reader = ParquetReader::new(parts(parquet_plan(std::slice::from_ref(&file)).unwrap()), schema, 10);
        let chunk = reader.next_chunk().unwrap().unwrap();
        assert_eq!(chunk.rows.column(1).as_string::<i32>(), &StringArray::from(vec!["text 0", "text 1", "text 2"]));
        let error = parquet_schema(&[file], Some(&["nope".to_owned()])).unwrap_err().to_string();
        assert!(error.ends_with("a.parquet has no column `nope`, only `large`, `view`, `dictionary`, `list`"), "{error}");
    }

    #[test]
    fn every_row_group_belongs_to_one_range() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(&dir.path().join("a.parquet"), &mixed(100), 10);
        let (schema, _) = parquet_schema(std::slice::from_ref(&file), None).unwrap();
        for cut in (0..=file.bytes).step_by(97) {
            let part = |start, end| FilePart { path: file.path.clone(), name: file.name.clone(), start, end };
            let (_, numbers, _) = read(vec![part(0, cut), part(cut, file.bytes)], &schema);
            assert_eq!(numbers, (0..100).collect::<Vec<u64>>(), "cut at {cut}");
        }
    }

    #[test]
    fn files_with_other_columns_are_both_named() {
        let dir = tempfile::tempdir().unwrap();
        let numbers = |name: &str| RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let a = write(&dir.path().join("a.parquet"), &numbers("x"), 10);
        let b = write(&dir.path().join("b.parquet"), &numbers("y"), 10);
        let error = parquet_schema(&[a, b], None).unwrap_err().to_string();
        assert!(
            error.contains("b.parquet is no readable Parquet file: it has no column `x`, which is in") && error.contains("a.parquet"),
            "{error}"
        );
    }

    #[test]
    fn a_cut_file_is_noted_and_rejected_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let good = write(&dir.path().join("a.parquet"), &mixed(5), 10);
        let bad = write(&dir.path().join("b.parquet"), &mixed(5), 10);
        let bytes = std::fs::read(&bad.path).unwrap();
        std::fs::write(&bad.path, &bytes[..bytes.len() / 2]).unwrap();
        let files = [good, bad];
        let (schema, notes) = parquet_schema(&files, None).unwrap();
        assert!(notes[0].contains("b.parquet is no readable Parquet file"), "{notes:?}");
        let (rows, _, bad) = read(parts(parquet_plan(&files).unwrap()), &schema);
        assert_eq!((rows, bad.len(), bad[0].reason, &*bad[0].file), (5, 1, "damaged_file", "b.parquet"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn broken_bytes_are_rejected_and_never_a_panic(at in 0.0..1.0_f64, byte: u8) {
            let dir = tempfile::tempdir().unwrap();
            let file = write(&dir.path().join("a.parquet"), &mixed(30), 10);
            let (schema, _) = parquet_schema(std::slice::from_ref(&file), None).unwrap();
            let mut bytes = std::fs::read(&file.path).unwrap();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a small file")]
            let place = (bytes.len() as f64 * at) as usize;
            bytes[place] = byte;
            std::fs::write(&file.path, &bytes).unwrap();
            let groups = parquet_plan(std::slice::from_ref(&file)).unwrap();
            let (rows, numbers, _) = read(parts(groups), &schema);
            prop_assert_eq!(rows, numbers.len());
        }
    }
}
