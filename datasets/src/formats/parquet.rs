//! Parquet: row groups in, batches of normal types out.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;

use super::{BadRecord, Chunk, FilePart, InputFile, RANGE_BYTES, Reader};
use crate::DataError;

/// How Parquet files end.
pub const EXTENSIONS: &[&str] = &["parquet"];
/// Bytes of decoded rows that a batch is aimed at.
const BATCH_BYTES: u64 = 32 << 20;

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
    input: File,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// Row groups to read, and the number of the first row of each.
    groups: VecDeque<(usize, u64)>,
    /// The row group that is being read, and the number of the row that comes next.
    rows: Option<(ParquetRecordBatchReader, u64)>,
}

impl ParquetReader {
    /// A reader of the columns of `schema` (as [`parquet_schema`] gave it) in `parts`.
    pub fn new(parts: Vec<FilePart>, schema: SchemaRef, batch_rows: usize) -> Self {
        Self { parts: parts.into(), open: None, schema, batch_rows: batch_rows.max(1) }
    }

    fn open_next(&self, part: &FilePart, chunk: &mut Chunk) -> Result<Option<OpenFile>, DataError> {
        let file: Arc<str> = part.name.as_str().into();
        let mut reject = |reason, detail| chunk.bad.push(BadRecord { file: Arc::clone(&file), offset: 0, reason, detail });
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
        let length = input.metadata().map_err(|source| DataError::Io { doing: "open", path: part.path.clone(), source })?.len();
        let mut groups = VecDeque::new();
        let mut row = 0_u64;
        for (number, group) in metadata.metadata().row_groups().iter().enumerate() {
            if (part.start..part.end).contains(&first_byte(group, length)) {
                groups.push_back((number, row));
            }
            row = row.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0));
        }
        Ok(Some(OpenFile { file, input, metadata, mask, groups, rows: None }))
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
            let mut reject = |row, problem: &str| {
                let detail = format!("the rows of its row group from here on can't be read: {problem}");
                chunk.bad.push(BadRecord { file: Arc::clone(&open.file), offset: row, reason: "damaged_row_group", detail });
            };
            let Some((rows, row)) = &mut open.rows else {
                let Some((group, row)) = open.groups.pop_front() else {
                    self.open = None;
                    continue;
                };
                match open.start(group, self.batch_rows) {
                    Ok(rows) => open.rows = Some((rows, row)),
                    Err(problem) => {
                        reject(row, &problem);
                        return Ok(Some(chunk));
                    }
                }
                continue;
            };
            let first = *row;
            let batch = caught(|| rows.next().transpose().map_err(|error| error.to_string())).and_then(|batch| {
                batch.map(|batch| caught(|| normal_batch(&self.schema, &batch).map_err(|error| error.to_string()))).transpose()
            });
            match batch {
                Ok(Some(batch)) => {
                    *row += batch.num_rows() as u64;
                    for number in first..*row {
                        chunk.positions.push(&open.file, number);
                    }
                    chunk.rows = batch;
                    return Ok(Some(chunk));
                }
                Ok(None) => open.rows = None,
                Err(problem) => {
                    reject(first, &problem);
                    open.rows = None;
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

impl OpenFile {
    fn start(&self, group: usize, batch_rows: usize) -> Result<ParquetRecordBatchReader, String> {
        let input = self.input.try_clone().map_err(|error| error.to_string())?;
        let row_group = self.metadata.metadata().row_group(group);
        let rows = u64::try_from(row_group.num_rows()).map_err(|_| "it has fewer than no rows".to_owned())?;
        let row_bytes = decoded_bytes(row_group).checked_div(rows).unwrap_or(0).max(1);
        let fitting = usize::try_from(BATCH_BYTES / row_bytes).unwrap_or(usize::MAX).clamp(1, batch_rows);
        caught(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(input, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(self.mask.clone())
                .with_batch_size(fitting)
                .build()
                .map_err(|error| error.to_string())
        })
    }
}

/// Runs a decoder on bytes that anyone may have written: should it panic, that is the file's problem and not the run's.
fn caught<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let problem = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("the decoder failed: {}", problem.unwrap_or("no reason given")))
    })
}

fn open(path: &Path) -> Result<(File, ArrowReaderMetadata), DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { doing: "open", path: path.to_owned(), source })?;
    let metadata = caught(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| error.to_string()))
        .map_err(|problem| DataError::Format { path: path.to_owned(), format: "Parquet", problem })?;
    Ok((file, metadata))
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

/// The type that the program uses in place of `data_type`: 32-bit offsets, no dictionaries, no views.
fn normal_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
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
