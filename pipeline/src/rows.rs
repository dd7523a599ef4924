//! Rows of any file a run reads or leaves, as text for a person: Parquet, Arrow IPC, JSON Lines. A look-up by value in Parquet reads
//! only the row groups whose Bloom filter and statistics allow it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use datasets::ReadAt;
use datasets::remote::Address;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use serde_json::Value;

use crate::show;

/// Longest line of a JSON Lines file.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Lines that the columns of a JSON Lines file are told from.
const SAMPLED_LINES: usize = 100;

/// Rows decoded at once where few are wanted.
const BATCH_ROWS: usize = 64;

/// Why rows cannot be shown.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub(crate) enum ReadError {
    /// A file or folder cannot be opened or read.
    #[error("can't read {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's contents are not of its format.
    #[error("{} is no readable {format} file: {problem}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What was found.
        problem: String,
    },
    /// The name's ending says nothing of the format.
    #[error("{} is no file of rows", .path.display())]
    #[diagnostic(help("files of rows end in .parquet, .arrow, .jsonl, .jsonl.zst or .jsonl.gz"))]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// A column that was asked for is not there.
    #[error("{} has no column `{column}`; it has {found}", .path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// What was wanted.
        column: String,
        /// What is there.
        found: String,
    },
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Parquet,
    Arrow,
    Jsonl,
    JsonlZst,
    JsonlGz,
}

fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let formats = [
        (".parquet", Format::Parquet),
        (".arrow", Format::Arrow),
        (".jsonl", Format::Jsonl),
        (".jsonl.zst", Format::JsonlZst),
        (".jsonl.gz", Format::JsonlGz),
    ];
    formats.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
}

/// Whether `path` is named as a file of rows.
pub(crate) fn is_data_file(path: &Path) -> bool {
    format_of(path).is_some()
}

/// The files of rows right in `folder`, by name; hidden ones are not data.
pub(crate) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let io = |source| ReadError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for name in crate::store::children(folder).map_err(io)? {
        let path = folder.join(&name);
        let is_hidden = name.to_string_lossy().starts_with(['.', '_']);
        if !is_hidden && is_data_file(&path) && (Address::of(&path).is_some() || path.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A column as a person is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnInfo {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) description: String,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<ColumnInfo>,
    /// Rows, where the file says without being read through.
    pub(crate) rows: Option<u64>,
}

/// A row; by default as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row<V = String> {
    /// Its number in the file, from 0.
    pub(crate) number: u64,
    /// Columns and values; not yet [`show::visible`].
    pub(crate) values: Vec<(String, V)>,
}

/// What the values of a row are made into.
pub(crate) trait FromValue: Sized {
    /// A cell of a table; of a text about `max_chars` characters are wanted.
    fn of_array(array: &dyn Array, row: usize, max_chars: usize) -> Self;

    /// A value of a JSON object.
    fn of_json(value: &Value, max_chars: usize) -> Self;
}

impl FromValue for String {
    fn of_array(array: &dyn Array, row: usize, max_chars: usize) -> Self {
        show::cell(array, row, max_chars)
    }

    fn of_json(value: &Value, max_chars: usize) -> Self {
        show::cut(&json_text(value), max_chars)
    }
}

/// What takes rows, and says when it has enough.
type Each<'e, V> = &'e mut dyn FnMut(Row<V>) -> ControlFlow<()>;

impl Row {
    /// The value of a column.
    pub(crate) fn get(&self, column: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == column).map(|(_, value)| value.as_str())
    }
}

/// Which rows and columns are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'q> {
    /// Rows whose column holds this text.
    pub(crate) filter: Option<(&'q str, &'q str)>,
    /// Columns; all if absent.
    pub(crate) columns: Option<&'q [String]>,
    /// Characters of a value.
    pub(crate) max_chars: usize,
}

/// What a file holds, from its head or foot alone.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn describe(path: &Path) -> Result<Table, ReadError> {
    let format = format_of(path).ok_or_else(|| ReadError::Unknown { path: path.to_owned() })?;
    guarded(path, format, || match format {
        Format::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(|error| parquet_error(path, &error))?;
            let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
            Ok(Table { columns: columns_of(builder.schema()), rows })
        }
        Format::Arrow => {
            let (schema, _) = arrow_batches(path)?;
            Ok(Table { columns: columns_of(&schema), rows: None })
        }
        Format::Jsonl | Format::JsonlZst | Format::JsonlGz => describe_jsonl(path, format),
    })
}

/// Calls `each` with every row wanted, in order, until it breaks.
///
/// # Errors
/// If the file cannot be read, or lacks a column that was asked for.
pub(crate) fn scan<V: FromValue>(path: &Path, query: Query<'_>, each: Each<'_, V>) -> Result<ControlFlow<()>, ReadError> {
    let format = format_of(path).ok_or_else(|| ReadError::Unknown { path: path.to_owned() })?;
    guarded(path, format, || match format {
        Format::Parquet => scan_parquet(path, query, each),
        Format::Arrow => scan_arrow(path, query, each),
        Format::Jsonl | Format::JsonlZst | Format::JsonlGz => scan_jsonl(path, format, query, each),
    })
}

/// Calls `each` with the rows of these numbers, in order, until it breaks. Of a Parquet file nothing else is decoded.
///
/// # Errors
/// As [`scan`].
pub(crate) fn pick<V: FromValue>(
    path: &Path,
    columns: Option<&[String]>,
    numbers: &[u64],
    each: Each<'_, V>,
) -> Result<ControlFlow<()>, ReadError> {
    let format = format_of(path).ok_or_else(|| ReadError::Unknown { path: path.to_owned() })?;
    if format == Format::Parquet {
        return guarded(path, format, || pick_parquet(path, columns, numbers, each));
    }
    let Some(last) = numbers.last() else { return Ok(ControlFlow::Continue(())) };
    let query = Query { filter: None, columns, max_chars: 0 };
    let mut is_broken = ControlFlow::Continue(());
    let _ = scan(path, query, &mut |row: Row<V>| {
        let is_last = row.number >= *last;
        if numbers.binary_search(&row.number).is_ok() {
            is_broken = each(row);
        }
        if is_last || is_broken.is_break() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(is_broken)
}

fn pick_parquet<V: FromValue>(
    path: &Path,
    columns: Option<&[String]>,
    numbers: &[u64],
    each: Each<'_, V>,
) -> Result<ControlFlow<()>, ReadError> {
    let bad = |error: &ParquetError| parquet_error(path, error);
    let file = open(path)?;
    // With the page index a row costs its pages, not its row group.
    let options = ArrowReaderOptions::default().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(|error| bad(&error))?;
    let schema = Arc::clone(metadata.schema());
    let columns = wanted_columns(path, &schema, columns)?;
    let mut first_row = 0_u64;
    for group in 0..metadata.metadata().num_row_groups() {
        let rows = u64::try_from(metadata.metadata().row_group(group).num_rows()).unwrap_or(0);
        let inside = numbers.iter().filter(|number| (first_row..first_row.saturating_add(rows)).contains(number));
        let wanted: Vec<usize> = inside.filter_map(|number| usize::try_from(number - first_row).ok()).collect();
        if !wanted.is_empty() {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone()).with_batch_size(1);
            let mask = ProjectionMask::roots(reader.parquet_schema(), columns.iter().copied());
            let reader = reader.with_row_groups(vec![group]).with_projection(mask).with_row_selection(selection_of(&wanted));
            let mut numbers = wanted.iter().map(|row| first_row + *row as u64);
            for batch in reader.build().map_err(|error| bad(&error))? {
                let batch = batch.map_err(|error| arrow_error_in_parquet(path, &error))?;
                let places: Vec<usize> = columns.iter().filter_map(|&i| batch.schema_ref().index_of(schema.field(i).name()).ok()).collect();
                for row in 0..batch.num_rows() {
                    if each(row_of(&batch, &places, row, numbers.next().unwrap_or_default(), 0)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        first_row = first_row.saturating_add(rows);
    }
    Ok(ControlFlow::Continue(()))
}

/// Runs `read` so that a damaged file is an error even where a reader's own checks do not reach.
fn guarded<T>(path: &Path, format: Format, read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let format = match format {
            Format::Parquet => "Parquet",
            Format::Arrow => "Arrow",
            Format::Jsonl | Format::JsonlZst | Format::JsonlGz => "JSON Lines",
        };
        Err(ReadError::Format { path: path.to_owned(), format, problem: "it is damaged".to_owned() })
    })
}

fn open(path: &Path) -> Result<ReadAt, ReadError> {
    ReadAt::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })
}

fn parquet_error(path: &Path, error: &ParquetError) -> ReadError {
    ReadError::Format { path: path.to_owned(), format: "Parquet", problem: error.to_string() }
}

fn arrow_error(path: &Path, error: &ArrowError) -> ReadError {
    ReadError::Format { path: path.to_owned(), format: "Arrow", problem: error.to_string() }
}

fn columns_of(schema: &Schema) -> Vec<ColumnInfo> {
    let column = |field: &Arc<arrow::datatypes::Field>| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        description: field.metadata().get("description").cloned().unwrap_or_default(),
    };
    schema.fields().iter().map(column).collect()
}

/// Indices of the columns wanted, in the order asked for.
fn wanted_columns(path: &Path, schema: &Schema, columns: Option<&[String]>) -> Result<Vec<usize>, ReadError> {
    let Some(columns) = columns else { return Ok((0..schema.fields().len()).collect()) };
    columns.iter().map(|column| index_of(path, schema, column)).collect()
}

fn index_of(path: &Path, schema: &Schema, column: &str) -> Result<usize, ReadError> {
    schema.fields().iter().position(|field| field.name() == column).ok_or_else(|| ReadError::Column {
        path: path.to_owned(),
        column: column.to_owned(),
        found: list(schema.fields().iter().map(|field| field.name().as_str())),
    })
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{}`", show::visible_line(name))).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn holds(array: &dyn Array, row: usize, wanted: &str) -> bool {
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => show::text_at(array, row) == Some(wanted),
        _ => show::cell(array, row, usize::MAX / 8) == wanted,
    }
}

fn row_of<V: FromValue>(batch: &RecordBatch, columns: &[usize], row: usize, number: u64, max_chars: usize) -> Row<V> {
    let schema = batch.schema_ref();
    let values = columns.iter().map(|&i| (schema.field(i).name().clone(), V::of_array(batch.column(i), row, max_chars)));
    Row { number, values: values.collect() }
}

fn scan_parquet<V: FromValue>(path: &Path, query: Query<'_>, each: Each<'_, V>) -> Result<ControlFlow<()>, ReadError> {
    let bad = |error: &ParquetError| parquet_error(path, error);
    let file = open(path)?;
    let file_bytes = file.bytes();
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()).map_err(|error| bad(&error))?;
    let schema = Arc::clone(metadata.schema());
    let columns = wanted_columns(path, &schema, query.columns)?;
    let key = query.filter.map(|(column, value)| index_of(path, &schema, column).map(|i| (i, value))).transpose()?;
    let builder = || {
        Ok::<_, ReadError>(ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone()).with_batch_size(BATCH_ROWS))
    };
    let mut first_row = 0u64;
    for group in 0..metadata.metadata().num_row_groups() {
        let group_rows = metadata.metadata().row_group(group).num_rows();
        let selection = match key {
            None => None,
            Some((key, value)) => {
                if !may_hold(&builder()?, group, schema.field(key).name(), value, file_bytes) {
                    first_row = first_row.saturating_add(u64::try_from(group_rows).unwrap_or(0));
                    continue;
                }
                let reader = builder()?.with_batch_size(8192);
                let mask = ProjectionMask::roots(reader.parquet_schema(), [key]);
                let reader = reader.with_row_groups(vec![group]).with_projection(mask).build().map_err(|error| bad(&error))?;
                let mut found = Vec::new();
                let mut at = 0;
                for batch in reader {
                    let batch = batch.map_err(|error| arrow_error_in_parquet(path, &error))?;
                    if let Some(keys) = batch.columns().first() {
                        found.extend((0..batch.num_rows()).filter(|&row| holds(keys.as_ref(), row, value)).map(|row| at + row));
                    }
                    at += batch.num_rows();
                }
                Some(found)
            }
        };
        if selection.as_ref().is_none_or(|found| !found.is_empty()) {
            let mut reader = builder()?.with_row_groups(vec![group]);
            // Only what is shown is decoded: an image column costs nothing unless asked for.
            let mask = ProjectionMask::roots(reader.parquet_schema(), columns.iter().copied());
            reader = reader.with_projection(mask);
            if let Some(found) = &selection {
                reader = reader.with_row_selection(selection_of(found));
            }
            let mut number = 0;
            for batch in reader.build().map_err(|error| bad(&error))? {
                let batch = batch.map_err(|error| arrow_error_in_parquet(path, &error))?;
                let places: Vec<usize> = columns.iter().filter_map(|&i| batch.schema_ref().index_of(schema.field(i).name()).ok()).collect();
                for row in 0..batch.num_rows() {
                    let in_group = selection.as_ref().map_or(number, |found| found.get(number).copied().unwrap_or_default());
                    number += 1;
                    if each(row_of(&batch, &places, row, first_row.saturating_add(in_group as u64), query.max_chars)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        first_row = first_row.saturating_add(u64::try_from(group_rows).unwrap_or(0));
    }
    Ok(ControlFlow::Continue(()))
}

fn arrow_error_in_parquet(path: &Path, error: &ArrowError) -> ReadError {
    ReadError::Format { path: path.to_owned(), format: "Parquet", problem: error.to_string() }
}

fn selection_of(rows: &[usize]) -> RowSelection {
    let mut selectors = Vec::with_capacity(rows.len() * 2);
    let mut next = 0;
    for &row in rows {
        selectors.push(RowSelector::skip(row - next));
        selectors.push(RowSelector::select(1));
        next = row + 1;
    }
    RowSelection::from(selectors)
}

/// Whether a row group may hold `value` in a text column: by statistics, then by Bloom filter; yes if it has neither.
fn may_hold(builder: &ParquetRecordBatchReaderBuilder<ReadAt>, group: usize, column: &str, value: &str, file_bytes: u64) -> bool {
    let is_key = |path: &[String]| matches!(path, [name] if name == column);
    let Some(leaf) = builder.parquet_schema().columns().iter().position(|leaf| is_key(leaf.path().parts())) else { return true };
    let is_text = builder
        .schema()
        .field_with_name(column)
        .is_ok_and(|field| matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View));
    let row_group = builder.metadata().row_group(group);
    if !is_text || leaf >= row_group.num_columns() {
        return true;
    }
    is_in_range(row_group, leaf, value) && is_in_bloom_filter(builder, group, leaf, value, file_bytes)
}

fn is_in_range(row_group: &RowGroupMetaData, leaf: usize, value: &str) -> bool {
    let Some(statistics @ Statistics::ByteArray(range)) = row_group.column(leaf).statistics() else { return true };
    if statistics.is_min_max_deprecated() {
        return true; // written with another order of bytes
    }
    let (min, max) = (range.min_bytes_opt(), range.max_bytes_opt());
    min.is_none_or(|min| min <= value.as_bytes()) && max.is_none_or(|max| value.as_bytes() <= max)
}

fn is_in_bloom_filter(builder: &ParquetRecordBatchReaderBuilder<ReadAt>, group: usize, leaf: usize, value: &str, file_bytes: u64) -> bool {
    let column = builder.metadata().row_group(group).column(leaf);
    // A filter that cannot be in the file is damaged; without it the row group is simply read.
    let is_sound = match (column.bloom_filter_offset(), column.bloom_filter_length()) {
        (Some(offset), length) => match (u64::try_from(offset), length.map(u64::try_from)) {
            (Ok(offset), None) => offset < file_bytes,
            (Ok(offset), Some(Ok(length))) => length > 32 && offset.checked_add(length).is_some_and(|end| end <= file_bytes),
            _ => false,
        },
        (None, _) => false,
    };
    if !is_sound {
        return true;
    }
    let check =
        || builder.get_row_group_column_bloom_filter(group, leaf).ok().flatten().map(|filter| filter.check(&ByteArray::from(value)));
    catch_unwind(AssertUnwindSafe(check)).ok().flatten().unwrap_or(true)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// An Arrow IPC file or stream.
fn arrow_batches(path: &Path) -> Result<(Arc<Schema>, Batches), ReadError> {
    let bad = |error: ArrowError| arrow_error(path, &error);
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut file = open(path)?.cursor(0);
    let mut magic = [0; 6];
    let is_file = file.read_exact(&mut magic).is_ok() && &magic == b"ARROW1";
    file.rewind().map_err(io)?;
    let file = BufReader::new(file);
    if is_file {
        let reader = FileReader::try_new(file, None).map_err(bad)?;
        Ok((reader.schema(), Box::new(reader)))
    } else {
        let reader = StreamReader::try_new(file, None).map_err(bad)?;
        Ok((reader.schema(), Box::new(reader)))
    }
}

fn scan_arrow<V: FromValue>(path: &Path, query: Query<'_>, each: Each<'_, V>) -> Result<ControlFlow<()>, ReadError> {
    let (schema, batches) = arrow_batches(path)?;
    let columns = wanted_columns(path, &schema, query.columns)?;
    let key = query.filter.map(|(column, value)| index_of(path, &schema, column).map(|i| (i, value))).transpose()?;
    let mut number = 0;
    for batch in batches {
        let batch = batch.map_err(|error| arrow_error(path, &error))?;
        for row in 0..batch.num_rows() {
            let is_wanted = key.is_none_or(|(key, value)| holds(batch.column(key).as_ref(), row, value));
            if is_wanted && each(row_of(&batch, &columns, row, number, query.max_chars)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            number += 1;
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn lines_of(path: &Path, format: Format) -> Result<Box<dyn BufRead>, ReadError> {
    let file = open(path)?;
    let file = file.reader(0, file.bytes());
    Ok(match format {
        Format::JsonlZst => {
            let decoder = zstd::Decoder::new(file).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
            Box::new(BufReader::new(decoder))
        }
        Format::JsonlGz => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        _ => Box::new(BufReader::new(file)),
    })
}

/// Calls `each` with every line that is not blank: its number, and the object in it or what is wrong with it.
fn each_line(
    path: &Path,
    format: Format,
    each: &mut dyn FnMut(u64, Result<serde_json::Map<String, Value>, String>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ReadError> {
    let mut lines = lines_of(path, format)?;
    let bad = |problem: String| ReadError::Format { path: path.to_owned(), format: "JSON Lines", problem };
    let mut line = Vec::new();
    for number in 0.. {
        line.clear();
        let read = lines
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|error| bad(format!("line {}: {error}", number + 1)))?;
        if read == 0 {
            break;
        }
        if read as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
            return Err(bad(format!("line {} is longer than {}", number + 1, show::bytes(MAX_LINE_BYTES))));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object = match serde_json::from_slice(&line) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("this line holds no JSON object".to_owned()),
            Err(error) => Err(format!("this line is no JSON: {error}")),
        };
        if each(number, object).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn describe_jsonl(path: &Path, format: Format) -> Result<Table, ReadError> {
    let mut columns: Vec<ColumnInfo> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = 0;
    let flow = each_line(path, format, &mut |_, object| {
        for (name, value) in object.into_iter().flatten() {
            let data_type = json_type(&value);
            match seen.get(&name).and_then(|&i| columns.get_mut(i)) {
                None => {
                    seen.insert(name.clone(), columns.len());
                    columns.push(ColumnInfo { name, data_type: data_type.to_owned(), description: String::new() });
                }
                Some(column) if column.data_type == "null" => data_type.clone_into(&mut column.data_type),
                Some(column) if data_type != "null" && !column.data_type.split(" or ").any(|known| known == data_type) => {
                    column.data_type = format!("{} or {data_type}", column.data_type);
                }
                Some(_) => {}
            }
        }
        lines += 1;
        if lines < SAMPLED_LINES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(Table { columns, rows: flow.is_continue().then_some(lines as u64) })
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn json_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn scan_jsonl<V: FromValue>(path: &Path, format: Format, query: Query<'_>, each: Each<'_, V>) -> Result<ControlFlow<()>, ReadError> {
    each_line(path, format, &mut |number, object| {
        let object = match object {
            Ok(object) => object,
            Err(_) if query.filter.is_some() => return ControlFlow::Continue(()),
            Err(problem) => {
                return each(Row { number, values: vec![("(damaged)".to_owned(), V::of_json(&Value::String(problem), query.max_chars))] });
            }
        };
        let holds = |value: &Value, wanted: &str| value.as_str().map_or_else(|| *value == wanted, |text| text == wanted);
        let is_wanted = query.filter.is_none_or(|(column, wanted)| object.get(column).is_some_and(|value| holds(value, wanted)));
        if !is_wanted {
            return ControlFlow::Continue(());
        }
        let of = |name: &String, value: &Value| (name.clone(), V::of_json(value, query.max_chars));
        let values = match query.columns {
            None => object.iter().map(|(name, value)| of(name, value)).collect(),
            Some(columns) => columns.iter().map(|name| of(name, object.get(name).unwrap_or(&Value::Null))).collect(),
        };
        each(Row { number, values })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};
    use arrow::datatypes::Field;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    use schemas::document;

    use std::fs::File;

    use super::*;

    /// `n` rows with ids `row0`, `row1`, … in row groups of ten.
    pub(crate) fn batch(ids: &[String]) -> RecordBatch {
        let schema = Schema::new(vec![
            document::ID.field(),
            document::TEXT.field(),
            Field::new("n", DataType::Int64, true),
            Field::new("raw", DataType::Binary, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("text of {id}")))),
            Arc::new(Int64Array::from_iter_values(0..ids.len() as i64)),
            Arc::new(BinaryArray::from_iter_values(ids.iter().map(String::as_bytes))),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    pub(crate) fn write_parquet(path: &Path, batch: &RecordBatch, bloom: bool) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(10))
            .set_bloom_filter_enabled(bloom)
            .set_statistics_enabled(if bloom { EnabledStatistics::None } else { EnabledStatistics::Page })
            .build();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    pub(crate) fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("row{i:03}")).collect()
    }

    fn all(path: &Path, query: Query<'_>) -> Result<Vec<Row>, ReadError> {
        let mut rows = Vec::new();
        let _ = scan(path, query, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    const ALL: Query<'static> = Query { filter: None, columns: None, max_chars: 50 };

    #[test]
    fn a_row_is_found_with_and_without_a_bloom_filter() {
        let folder = tempfile::tempdir().unwrap();
        for bloom in [true, false] {
            let path = folder.path().join("part-00000.parquet");
            write_parquet(&path, &batch(&ids(95)), bloom);
            for i in [0, 9, 10, 57, 94] {
                let rows = all(&path, Query { filter: Some(("id", &format!("row{i:03}"))), ..ALL }).unwrap();
                assert_eq!(rows.len(), 1);
                assert_eq!((rows[0].number, rows[0].get("n")), (i, Some(i.to_string().as_str())));
            }
            assert!(all(&path, Query { filter: Some(("id", "row999")), ..ALL }).unwrap().is_empty());
            assert_eq!(all(&path, Query { filter: Some(("n", "33")), ..ALL }).unwrap()[0].number, 33);
        }
    }

    #[test]
    fn bloom_filters_and_statistics_leave_row_groups_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        for bloom in [true, false] {
            write_parquet(&path, &batch(&ids(100)), bloom);
            let builder = ParquetRecordBatchReaderBuilder::try_new(open(&path).unwrap()).unwrap();
            let size = std::fs::metadata(&path).unwrap().len();
            let groups: Vec<usize> = (0..10).filter(|&group| may_hold(&builder, group, "id", "row057", size)).collect();
            assert!(groups.contains(&5) && groups.len() <= 3, "{groups:?} with bloom {bloom}");
        }
    }

    #[test]
    fn every_row_of_a_repeated_id_is_found_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let ids: Vec<String> = "a b a c a a d e f g h a".split(' ').map(ToOwned::to_owned).collect();
        write_parquet(&path, &batch(&ids), true);
        let rows = all(&path, Query { filter: Some(("id", "a")), ..ALL }).unwrap();
        assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 2, 4, 5, 11]);
        assert!(rows.iter().all(|row| row.get("n") == Some(row.number.to_string().as_str())));
    }

    #[test]
    fn columns_come_in_the_order_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write_parquet(&path, &batch(&ids(3)), true);
        let columns = ["raw".to_owned(), "id".to_owned()];
        let rows = all(&path, Query { columns: Some(&columns), ..ALL }).unwrap();
        assert_eq!(rows[2].values, [("raw".to_owned(), "<6 bytes>".to_owned()), ("id".to_owned(), "row002".to_owned())]);
        let error = all(&path, Query { columns: Some(&["body".to_owned()]), ..ALL }).unwrap_err();
        assert!(error.to_string().ends_with("a.parquet has no column `body`; it has `id`, `text`, `n`, `raw`"), "{error}");
    }

    #[test]
    fn json_lines_are_read_plain_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let text = "{\"id\":\"a\",\"n\":1}\n\nno json\n{\"id\":\"b\",\"n\":2.5,\"tags\":[\"x\"]}\n[1]";
        let plain = folder.path().join("a.jsonl");
        std::fs::write(&plain, text).unwrap();
        let zst = folder.path().join("a.jsonl.zst");
        std::fs::write(&zst, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        let gz = folder.path().join("a.jsonl.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        for path in [plain, zst, gz] {
            let rows = all(&path, ALL).unwrap();
            assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 2, 3, 4]);
            assert_eq!(rows[2].get("tags"), Some("[\"x\"]"));
            assert!(rows[1].get("(damaged)").is_some());
            assert_eq!(all(&path, Query { filter: Some(("id", "b")), ..ALL }).unwrap().len(), 1);
            let table = describe(&path).unwrap();
            assert_eq!(table.rows, Some(4));
            assert_eq!(table.columns[1].data_type, "integer or number");
        }
    }

    #[test]
    fn arrow_files_and_streams_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let batch = batch(&ids(5));
        let path = folder.path().join("a.arrow");
        let mut writer = arrow::ipc::writer::FileWriter::try_new(File::create(&path).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        assert_eq!(all(&path, Query { filter: Some(("id", "row003")), ..ALL }).unwrap()[0].number, 3);
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(File::create(&path).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        assert_eq!(all(&path, ALL).unwrap().len(), 5);
        assert_eq!(describe(&path).unwrap().columns[0].description, "label of the row");
    }

    #[test]
    fn damaged_files_are_errors_and_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write_parquet(&path, &batch(&ids(25)), true);
        let sound = std::fs::read(&path).unwrap();
        // Every way of cutting the file short, and bytes changed one after another, most of them in the footer.
        for end in (0..sound.len()).step_by(97) {
            std::fs::write(&path, &sound[..end]).unwrap();
            assert!(all(&path, ALL).is_err(), "cut at {end}");
        }
        for at in (0..sound.len()).rev().take(700).chain((0..sound.len()).step_by(61)) {
            let mut bytes = sound.clone();
            bytes[at] ^= [0xff, 0x01, 0x80][at % 3];
            std::fs::write(&path, &bytes).unwrap();
            let _ = all(&path, ALL);
            let _ = all(&path, Query { filter: Some(("id", "row013")), ..ALL });
            let _ = describe(&path);
        }
        for name in ["a.jsonl", "a.jsonl.zst", "a.jsonl.gz", "a.arrow"] {
            let path = folder.path().join(name);
            std::fs::write(&path, &sound).unwrap();
            let _ = all(&path, ALL);
            assert!(describe(&path).is_ok() == (name == "a.jsonl"), "{name}");
        }
        assert!(matches!(describe(Path::new("a.txt")), Err(ReadError::Unknown { .. })));
        assert!(matches!(describe(Path::new("/nowhere/a.parquet")), Err(ReadError::Io { .. })));
    }
}
