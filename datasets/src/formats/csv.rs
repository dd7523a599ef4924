//! CSV, with or without a header.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use csv::{ByteRecord, ReaderBuilder};

use super::cells::{Cells, Data};
use super::columns::Columns;
use super::infer::FieldTypes;
use super::input::Input;
use super::jsonl::{BATCH_BAD, BATCH_BYTES, Inferred};
use super::types::ColumnType;
use super::{BadRecord, Chunk, FilePart, InputFile, Reader};
use crate::DataError;

/// How files of comma-separated values end.
pub const EXTENSIONS: &[&str] = &["csv", "tsv"];
/// Records that types are inferred from.
const SAMPLE_RECORDS: usize = 2000;

/// How CSV is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvOptions {
    /// What stands between fields.
    pub delimiter: u8,
    /// What a field with delimiters or line ends in it stands between; doubled, it stands for itself.
    pub quote: u8,
    /// Whether the first record of each file names the columns; else they are `column_1`, `column_2`, …
    pub header: bool,
    /// Longest record.
    pub max_record_bytes: u64,
}

/// The columns of the first records of `files`; every file has to have them.
///
/// # Errors
/// [`DataError::Format`] for a header with a name twice, or without one of the columns; [`DataError::Setting`] on `columns` if there is no
/// record at all.
pub fn csv_schema(files: &[InputFile], options: &CsvOptions) -> Result<Inferred, DataError> {
    let mut columns: Vec<(String, FieldTypes)> = Vec::new();
    let mut records = 0;
    for file in files {
        let part = FilePart { path: file.path.clone(), name: file.name.clone(), start: 0, end: file.bytes };
        let mut open = OpenFile::open(&part, options)?;
        let Some(names) = open.names(&part, options)? else { continue };
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let place = columns.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
                columns.push((name, FieldTypes::default()));
                columns.len() - 1
            });
            places.push(place);
        }
        while records < SAMPLE_RECORDS && matches!(open.read(options), Ok(true)) {
            records += 1;
            for (place, field) in places.iter().zip(open.record.iter()) {
                columns[*place].1.add(&String::from_utf8_lossy(field));
            }
        }
        if records >= SAMPLE_RECORDS {
            break;
        }
    }
    let wanted: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    check_headers(files, &wanted, options)?;
    if columns.is_empty() {
        let problem = "the files hold no record to infer columns from; write them out, such as columns: {text: string}".to_owned();
        return Err(DataError::Setting { setting: "columns", problem });
    }
    if let [(name, _)] = columns.as_slice()
        && let Some(written) = other_delimiter(std::slice::from_ref(name))
    {
        let problem =
            format!("the header is one field, `{name}`; is `delimiter: {written}` meant? If not, write the column out under `columns`");
        return Err(DataError::Setting { setting: "delimiter", problem });
    }
    let columns = columns.into_iter().map(|(name, types)| (name, types.column_type())).collect();
    Ok(Inferred { columns: Columns(columns), records })
}

/// Looks at the first record of every file, so that one without a column of `wanted` is told of before any work is done.
///
/// # Errors
/// [`DataError::Format`] for the first such file, or one whose header can't be read.
pub fn check_headers(files: &[InputFile], wanted: &[&str], options: &CsvOptions) -> Result<(), DataError> {
    for file in files {
        let part = FilePart { path: file.path.clone(), name: file.name.clone(), start: 0, end: file.bytes };
        if let Some(names) = OpenFile::open(&part, options)?.names(&part, options)? {
            has_columns(&part, &names, wanted.iter().copied())?;
        }
    }
    Ok(())
}

fn has_columns<'a>(part: &FilePart, names: &[String], mut wanted: impl Iterator<Item = &'a str>) -> Result<(), DataError> {
    let there: HashSet<&str> = names.iter().map(String::as_str).collect();
    let Some(missing) = wanted.find(|name| !there.contains(name)) else { return Ok(()) };
    let meant = other_delimiter(names).map(|written| format!("; is `delimiter: {written}` meant?"));
    let problem = format!("it has no column `{missing}`, only {}{}", quoted(names), meant.unwrap_or_default());
    Err(DataError::Format { path: part.path.clone(), format: "CSV", problem })
}

/// What seems to stand between the names of a header that is one field, as a pipeline file writes it.
fn other_delimiter(names: &[String]) -> Option<&'static str> {
    let [name] = names else { return None };
    [(';', "\";\""), ('\t', "\"\\t\""), ('|', "\"|\""), (',', "\",\"")]
        .into_iter()
        .find(|(delimiter, _)| name.contains(*delimiter))
        .map(|(_, written)| written)
}

/// Reads CSV files. An empty field is null.
pub struct CsvReader {
    parts: VecDeque<FilePart>,
    open: Option<(OpenFile, Places)>,
    options: CsvOptions,
    schema: SchemaRef,
    cells: Cells,
    batch_rows: usize,
    unknown: BTreeMap<String, u64>,
}

/// Where the columns of one file go.
struct Places {
    file: Arc<str>,
    /// For each field of a record its column.
    columns: Vec<Option<usize>>,
    names: Vec<String>,
    rows: u64,
}

impl CsvReader {
    /// A reader of `parts` into `columns`.
    pub fn new(parts: Vec<FilePart>, columns: &Columns, options: CsvOptions, batch_rows: usize) -> Self {
        Self {
            parts: parts.into(),
            open: None,
            options,
            schema: columns.schema(),
            cells: Cells::new(&ColumnType::Struct(columns.0.clone())),
            batch_rows: batch_rows.max(1),
            unknown: BTreeMap::new(),
        }
    }

    fn open_next(&mut self, part: &FilePart) -> Result<(), DataError> {
        let mut open = OpenFile::open(part, &self.options)?;
        let Some(names) = open.names(part, &self.options)? else { return Ok(()) };
        let schema = &self.schema;
        has_columns(part, &names, schema.fields().iter().map(|field| field.name().as_str()))?;
        let columns = names.iter().map(|name| schema.index_of(name).ok()).collect();
        self.open = Some((open, Places { file: part.name.as_str().into(), columns, names, rows: 0 }));
        Ok(())
    }

    fn close(&mut self) {
        let Some((_, places)) = self.open.take() else { return };
        if places.rows > 0 {
            for (name, _) in places.names.iter().zip(&places.columns).filter(|(_, column)| column.is_none()) {
                *self.unknown.entry(name.clone()).or_default() += places.rows;
            }
        }
    }
}

impl Reader for CsvReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut chunk = Chunk::empty(&self.schema);
        let mut bytes = 0;
        while chunk.positions.offsets.len() < self.batch_rows && bytes < BATCH_BYTES && chunk.bad.len() < BATCH_BAD {
            let Some((open, places)) = &mut self.open else {
                let Some(part) = self.parts.pop_front() else { break };
                self.open_next(&part)?;
                continue;
            };
            let file = Arc::clone(&places.file);
            let read = open.read(&self.options);
            let offset = open.began;
            let mut reject = |offset, reason, detail| {
                // Of other records it is known where the next one begins.
                let rest_is_lost = ["record_too_long", "quote_not_closed", "damaged_file"].contains(&reason);
                chunk.bad.push(BadRecord { file: Arc::clone(&file), offset, reason, detail, rest_is_lost });
            };
            match read {
                Ok(true) => {
                    bytes += open.record.as_slice().len();
                    match push_record(&mut self.cells, &open.record, places) {
                        Ok(()) => {
                            chunk.positions.push(&file, offset);
                            places.rows += 1;
                        }
                        Err((reason, detail)) => reject(offset, reason, detail),
                    }
                }
                Ok(false) => self.close(),
                Err(Stop::TooLong) => {
                    let limit = self.options.max_record_bytes;
                    let detail =
                        format!("over {limit} bytes, which is max_record_bytes; the rest of the file is not read (is a quote not closed?)");
                    reject(open.began, "record_too_long", detail);
                    self.close();
                }
                Err(Stop::OpenQuote) => {
                    let detail = "a quote in this record is never closed; nothing can be read from here on".to_owned();
                    reject(open.began, "quote_not_closed", detail);
                    self.close();
                }
                Err(Stop::Damaged(problem)) => {
                    reject(open.began, "damaged_file", format!("nothing can be read from here on: {problem}"));
                    self.close();
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        if chunk.positions.offsets.is_empty() && chunk.bad.is_empty() && self.open.is_none() && self.parts.is_empty() {
            return Ok(None);
        }
        if !chunk.positions.offsets.is_empty() {
            chunk.rows = RecordBatch::try_new(Arc::clone(&self.schema), self.cells.take_columns()?)?;
        }
        Ok(Some(chunk))
    }

    fn unknown_fields(&self) -> BTreeMap<String, u64> {
        self.unknown.clone()
    }
}

fn push_record(cells: &mut Cells, record: &ByteRecord, places: &Places) -> Result<(), (&'static str, String)> {
    if record.len() != places.columns.len() {
        return Err(("wrong_length", format!("{} fields where {} are wanted", record.len(), places.columns.len())));
    }
    let row = cells.len();
    let Data::Struct(members) = &mut cells.data else { return Ok(()) };
    let mut push = || {
        for ((field, column), name) in record.iter().zip(&places.columns).zip(&places.names) {
            let Some(cell) = column.and_then(|column| members.cells.get_mut(column)) else { continue };
            if field.is_empty() {
                cell.push_null();
                continue;
            }
            let text = std::str::from_utf8(field).map_err(|_| ("invalid_utf8", format!("`{name}` is no UTF-8")))?;
            cell.push_field(text).map_err(|detail| ("wrong_type", format!("`{name}`: {detail}")))?;
        }
        Ok(())
    };
    let pushed = push();
    match pushed {
        Ok(()) => cells.valid.push(true),
        Err(_) => cells.truncate(row),
    }
    pushed
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Why a file is read no further.
enum Stop {
    TooLong,
    OpenQuote,
    Damaged(String),
    Failed(DataError),
}

struct OpenFile {
    reader: csv::Reader<Limited>,
    record: ByteRecord,
    left: Arc<AtomicU64>,
    part: FilePart,
    /// The first record was read to count columns and is still to be given.
    again: bool,
    /// Where the record that is being read began.
    began: u64,
}

impl OpenFile {
    fn open(part: &FilePart, options: &CsvOptions) -> Result<Self, DataError> {
        let left = Arc::new(AtomicU64::new(0));
        let input = Limited::new(Input::open(&part.path)?, Arc::clone(&left));
        let reader =
            ReaderBuilder::new().delimiter(options.delimiter).quote(options.quote).has_headers(false).flexible(true).from_reader(input);
        Ok(Self { reader, record: ByteRecord::new(), left, part: part.clone(), again: false, began: 0 })
    }

    /// Reads a record; false at the end.
    fn read(&mut self, options: &CsvOptions) -> Result<bool, Stop> {
        if std::mem::take(&mut self.again) {
            return Ok(true);
        }
        let from = self.reader.position().byte();
        self.left.store(options.max_record_bytes.saturating_add(1 << 16), Ordering::Relaxed);
        self.reader.get_mut().find_record(from);
        let read = self.reader.read_byte_record(&mut self.record);
        let input = self.reader.get_ref();
        self.began = input.record.unwrap_or(from);
        match read {
            Ok(more) => {
                let Some(end) = input.ended.filter(|_| more) else { return Ok(more) };
                // The record that reaches into END, behind the line end, was not closed by the file's end; one that begins in it is none.
                let open = self.reader.position().byte() > end + 1;
                if self.began >= end {
                    Ok(false)
                } else if open {
                    Err(Stop::OpenQuote)
                } else {
                    Ok(true)
                }
            }
            Err(_) if self.left.load(Ordering::Relaxed) == 0 => Err(Stop::TooLong),
            Err(error) => Err(match error.into_kind() {
                csv::ErrorKind::Io(error) if input.input.is_damage(&error) => Stop::Damaged(error.to_string()),
                csv::ErrorKind::Io(source) => Stop::Failed(DataError::Io { doing: "read", path: self.part.path.clone(), source }),
                other => Stop::Damaged(format!("{other:?}")),
            }),
        }
    }

    /// The columns' names; `None` if the file is empty.
    fn names(&mut self, part: &FilePart, options: &CsvOptions) -> Result<Option<Vec<String>>, DataError> {
        let format = |problem| DataError::Format { path: part.path.clone(), format: "CSV", problem };
        match self.read(options) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(Stop::TooLong) => return Err(format(format!("its first record is over {} bytes", options.max_record_bytes))),
            Err(Stop::OpenQuote) => return Err(format("a quote in its first record is never closed".to_owned())),
            Err(Stop::Damaged(problem)) => return Err(format(format!("it is damaged: {problem}"))),
            Err(Stop::Failed(error)) => return Err(error),
        }
        if !options.header {
            self.again = true;
            return Ok(Some((1..=self.record.len()).map(|number| format!("column_{number}")).collect()));
        }
        let mut names: Vec<String> = Vec::with_capacity(self.record.len());
        let mut seen = HashMap::new();
        for (index, field) in self.record.iter().enumerate() {
            let name = std::str::from_utf8(field).map_err(|_| format("its header is no UTF-8".to_owned()))?.trim();
            let name = if name.is_empty() { format!("column_{}", index + 1) } else { name.to_owned() };
            if let Some(first) = seen.insert(name.clone(), index) {
                let problem = format!("its header names column `{name}` twice, as fields {} and {}", first + 1, index + 1);
                return Err(format(problem));
            }
            names.push(name);
        }
        Ok(Some(names))
    }
}

/// What is given behind the end of a file: ends the last record, and begins one more if no quote is open.
const END: &[u8] = b"\nx";

/// An input that gives at most so many bytes a record: an open quote must not pull a whole file into memory. It knows, too, what the CSV
/// parser does not say: where records begin, as line ends before a record belong to none, and where the file ends.
struct Limited {
    input: Input,
    left: Arc<AtomicU64>,
    /// What was given last, and its offset.
    block: Vec<u8>,
    block_at: u64,
    /// Where the record that is being read begins, if that byte was given yet.
    record: Option<u64>,
    /// Length of the file, once it was reached.
    ended: Option<u64>,
}

impl Limited {
    fn new(input: Input, left: Arc<AtomicU64>) -> Self {
        Self { input, left, block: Vec::new(), block_at: 0, record: None, ended: None }
    }

    /// Looks for the first byte of a record at or after `from`, which is in the block or right behind it.
    fn find_record(&mut self, from: u64) {
        self.record = None;
        self.look(usize::try_from(from.saturating_sub(self.block_at)).unwrap_or(usize::MAX));
    }

    fn look(&mut self, from: usize) {
        let marked = self.block_at == 0 && from == 0 && self.block.starts_with(b"\xEF\xBB\xBF");
        let from = if marked { 3 } else { from.min(self.block.len()) };
        let found = self.block[from..].iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        self.record = found.map(|found| self.block_at + (from + found) as u64);
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.block_at + self.block.len() as u64;
        let mut read = 0;
        if self.ended.is_none() {
            let left = self.left.load(Ordering::Relaxed);
            if left == 0 {
                return Err(io::Error::other("record too long"));
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            read = self.input.read(&mut buffer[..most])?;
            self.left.fetch_sub(read as u64, Ordering::Relaxed);
            if read == 0 && most > 0 {
                self.ended = Some(at);
            }
        }
        if let Some(end) = self.ended {
            let rest = &END[usize::try_from(at - end).unwrap_or(END.len()).min(END.len())..];
            read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
        }
        self.block_at = at;
        self.block.clear();
        self.block.extend_from_slice(&buffer[..read]);
        if self.record.is_none() {
            self.look(0);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    const OPTIONS: CsvOptions = CsvOptions { delimiter: b',', quote: b'"', header: true, max_record_bytes: 1000 };

    /// The rows as text, what was rejected, and the fields that no column has.
    type Found = (String, Vec<String>, BTreeMap<String, u64>);

    fn read(texts: &[&[u8]], columns: Option<&str>, options: CsvOptions) -> Result<Found, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let path = dir.path().join(format!("{number}.csv"));
            std::fs::write(&path, text).unwrap();
            files.push(InputFile { path, name: format!("{number}.csv"), bytes: text.len() as u64 });
        }
        let columns = match columns {
            Some(columns) => serde_json::from_str(columns).unwrap(),
            None => csv_schema(&files, &options)?.columns,
        };
        let parts = files.iter().map(|file| FilePart { path: file.path.clone(), name: file.name.clone(), start: 0, end: file.bytes });
        let mut reader = CsvReader::new(parts.collect(), &columns, options, 100);
        let mut rows = vec![columns.to_string()];
        let mut bad = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            let table = pretty_format_batches(std::slice::from_ref(&chunk.rows)).unwrap().to_string();
            for ((file, offset), line) in chunk.positions.iter().zip(table.lines().skip(3)) {
                rows.push(format!("{file}@{offset} {}", line.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            bad.extend(chunk.bad.into_iter().map(|bad| format!("{}@{} {}: {}", bad.file, bad.offset, bad.reason, bad.detail)));
        }
        Ok((rows.join("\n"), bad, reader.unknown_fields()))
    }

    #[test]
    fn files_are_matched_by_their_headers() {
        let (rows, bad, unknown) =
            read(&[b"a,b\n1,x\n2,\"y,\"\"z\"\"\"\n", b"b,c,a\nw,9,3\n"], Some(r#"{"a": "int64", "b": "string"}"#), OPTIONS).unwrap();
        assert_eq!(rows, "{a: int64, b: string}\n0.csv@4 | 1 | x |\n0.csv@8 | 2 | y,\"z\" |\n1.csv@6 | 3 | w |");
        assert!(bad.is_empty());
        assert_eq!(unknown, BTreeMap::from([("c".to_owned(), 1)]));
        let error = read(&[b"a\n1\n"], Some(r#"{"b": "string"}"#), OPTIONS).unwrap_err().to_string();
        assert!(error.ends_with("0.csv is no readable CSV file: it has no column `b`, only `a`"), "{error}");
    }

    #[test]
    fn bad_records_are_rejected_with_their_offset() {
        let (rows, bad, _) = read(&[b"a,b\n1,x\n2\nq,y\n3,\xff\n,z\n"], Some(r#"{"a": "int64", "b": "string"}"#), OPTIONS).unwrap();
        assert_eq!(rows, "{a: int64, b: string}\n0.csv@4 | 1 | x |\n0.csv@18 | | z |");
        assert_eq!(
            bad,
            [
                "0.csv@8 wrong_length: 1 fields where 2 are wanted",
                "0.csv@10 wrong_type: `a`: wanted int64, found \"q\"",
                "0.csv@14 invalid_utf8: `b` is no UTF-8"
            ]
        );
    }

    #[test]
    fn types_are_inferred_and_columns_without_a_header_numbered() {
        let options = CsvOptions { delimiter: b'\t', header: false, ..OPTIONS };
        let (rows, ..) = read(&[b"1\t2.5\t007\n2\t3\t008\n"], None, options).unwrap();
        assert_eq!(rows, "{column_1: int64, column_2: float64, column_3: string}\n0.csv@0 | 1 | 2.5 | 007 |\n0.csv@10 | 2 | 3.0 | 008 |");
        assert!(read(&[b"a,a\n1,2\n"], None, OPTIONS).unwrap_err().to_string().contains("names column `a` twice"));
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_fill_the_memory() {
        let text = [b"a\n1\n\"".as_slice(), &vec![b'x'; 1 << 20]].concat();
        let (rows, bad, _) = read(&[&text], Some(r#"{"a": "string"}"#), OPTIONS).unwrap();
        assert_eq!(rows, "{a: string}\n0.csv@2 | 1 |");
        assert!(bad.len() == 1 && bad[0].starts_with("0.csv@4 record_too_long: over 1000 bytes"), "{bad:?}");
    }

    #[test]
    fn offsets_are_those_of_the_record_whatever_ends_the_lines() {
        let (rows, bad, _) = read(&[b"a,b\r\n1,x\r\n\r\n2,\"y\"\r\n3\r\n4,w"], None, OPTIONS).unwrap();
        assert_eq!(rows, "{a: int64, b: string}\n0.csv@5 | 1 | x |\n0.csv@12 | 2 | y |\n0.csv@22 | 4 | w |");
        assert_eq!(bad, ["0.csv@19 wrong_length: 1 fields where 2 are wanted"]);
        let headless = CsvOptions { header: false, ..OPTIONS };
        let (rows, ..) = read(&[b"\xEF\xBB\xBF1,x\n\n\n2,y\n"], None, headless).unwrap();
        assert_eq!(rows, "{column_1: int64, column_2: string}\n0.csv@3 | 1 | x |\n0.csv@9 | 2 | y |");
    }

    #[test]
    fn a_quote_that_is_never_closed_swallows_no_rows_in_silence() {
        for end in ["", "\n", "\r\n", "\"\"", "\n\n"] {
            let text = format!("a,b\n1,x\n2,\"y\n3,z\n4,w{end}");
            let (rows, bad, _) = read(&[text.as_bytes()], None, OPTIONS).unwrap();
            assert_eq!(rows, "{a: int64, b: string}\n0.csv@4 | 1 | x |", "{end:?}");
            assert_eq!(bad, ["0.csv@8 quote_not_closed: a quote in this record is never closed; nothing can be read from here on"]);
        }
        for end in ["", "\n", "\r\n", "\n\n"] {
            let (rows, bad, _) = read(&[format!("a,b\n1,\"x\"{end}").as_bytes()], None, OPTIONS).unwrap();
            assert_eq!((rows.as_str(), bad.len()), ("{a: int64, b: string}\n0.csv@4 | 1 | x |", 0), "{end:?}");
        }
        assert!(read(&[b"\"a,b\n1,x\n"], None, OPTIONS).is_err());
    }

    #[test]
    fn a_file_without_a_column_of_the_others_is_told_of_before_the_run() {
        let error = read(&[b"a,b\n1,x\n", b"b\nx\n"], None, OPTIONS).unwrap_err().to_string();
        assert!(error.contains("1.csv is no readable CSV file: it has no column `a`, only `b`"), "{error}");
    }
}
