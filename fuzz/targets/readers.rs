//! Readers of files that anyone may have written: rows and rejections, never a panic, and no line unaccounted for.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datasets::formats::{
    BadRecord, Columns, CsvOptions, CsvReader, FilePart, InputFile, InvalidUtf8, JsonlReader, ParquetReader, Reader, RecordType,
    TextOptions, TextReader, TextSplit, WarcContent, WarcOptions, WarcReader, csv_schema, jsonl_schema, parquet_plan, parquet_schema,
    plan_files, warc_schema,
};

/// Longest record; shorter than the longest input, so that both sides of it are met.
const MAX_RECORD: u64 = 512;

/// A file with some bytes in it; gone with the value.
struct File(InputFile);

impl File {
    fn new(bytes: &[u8], extension: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("granary-fuzz-{}-{}.{extension}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let memory = PathBuf::from("/dev/shm");
        let path = if memory.is_dir() { memory } else { std::env::temp_dir() }.join(name);
        fs::write(&path, bytes).expect("a temporary file");
        Self(InputFile { path, name: "f".to_owned(), bytes: bytes.len() as u64 })
    }

    fn part(&self, start: u64, end: u64) -> FilePart {
        FilePart { path: self.0.path.clone(), name: self.0.name.clone(), start, end }
    }

    fn whole(&self) -> Vec<FilePart> {
        vec![self.part(0, self.0.bytes)]
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0.path);
    }
}

/// Rows, their offsets, and what was rejected.
type Read = (RecordBatch, Vec<u64>, Vec<BadRecord>);

fn drain(mut reader: impl Reader, schema: &SchemaRef) -> Read {
    let (mut batches, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(chunk) = reader.next_chunk().expect("an error in a file is a rejection") {
        assert_eq!(chunk.rows.num_rows(), chunk.positions.offsets.len());
        assert!(chunk.rows.num_rows() > 0 || !chunk.bad.is_empty() || offsets.is_empty(), "a chunk of nothing");
        offsets.extend(chunk.positions.offsets);
        bad.extend(chunk.bad);
        batches.push(chunk.rows);
    }
    reader.unknown_fields();
    (concat_batches(schema, &batches).expect("batches of one schema"), offsets, bad)
}

/// First byte: how the rest is compressed.
fn compression(data: &[u8]) -> (&'static str, &[u8]) {
    let Some((first, rest)) = data.split_first() else { return ("", data) };
    (["", ".gz", ".zst", ""][usize::from(first % 4)], rest)
}

fn columns() -> Columns {
    serde_json::from_str(
        r#"{"id": "string", "text": "string", "n": "int64", "b": "int8", "u": "uint64", "f": "float64", "h": "float32", "t": "bool",
            "day": "date", "at": "timestamp", "raw": "binary", "any": "json", "tags": "list<string>", "deep": "list<list<int32>>",
            "m": "list<struct<role: string, content: string>>", "s": "struct<x: struct<y: int16>>"}"#,
    )
    .expect("columns")
}

/// JSON lines. Each line that is not blank is a row or a rejection; how the file is cut makes no difference.
pub fn jsonl(data: &[u8]) {
    let (compression, text) = compression(data);
    let file = File::new(text, &format!("jsonl{compression}"));
    let columns = columns();
    let read = |parts, batch_rows| drain(JsonlReader::new(parts, &columns, MAX_RECORD, batch_rows), &columns.schema());
    let whole = read(file.whole(), 1000);
    assert_eq!(whole, read(file.whole(), 1));
    if compression.is_empty() {
        let lines = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).split(|byte| *byte == b'\n');
        let wanted = lines.filter(|line| line.len() as u64 > MAX_RECORD || !line.trim_ascii().is_empty()).count();
        assert_eq!(whole.1.len() + whole.2.len(), wanted);
        let offsets: BTreeSet<u64> = whole.1.iter().copied().chain(whole.2.iter().map(|bad| bad.offset)).collect();
        assert_eq!(offsets.len(), wanted, "two of one offset");
        let cut = u64::from(data.first().copied().unwrap_or(0)) * file.0.bytes / 256;
        assert_eq!(whole, read(vec![file.part(0, cut), file.part(cut, file.0.bytes)], 7));
        plan_files(std::slice::from_ref(&file.0), Some(16));
    }
    if let Ok(inferred) = jsonl_schema(std::slice::from_ref(&file.0), MAX_RECORD) {
        drain(JsonlReader::new(file.whole(), &inferred.columns, MAX_RECORD, 1000), &inferred.columns.schema());
    }
}

/// CSV, with several delimiters and quotes.
pub fn csv(data: &[u8]) {
    let (compression, rest) = compression(data);
    let Some((&how, text)) = rest.split_first() else { return };
    let file = File::new(text, &format!("csv{compression}"));
    let options = CsvOptions {
        delimiter: b",;\t|"[usize::from(how % 4)],
        quote: b"\"'"[usize::from(how >> 2 & 1)],
        header: how & 8 == 0,
        max_record_bytes: MAX_RECORD,
    };
    let Ok(inferred) = csv_schema(std::slice::from_ref(&file.0), &options) else { return };
    let schema = inferred.columns.schema();
    let read = |batch_rows| drain(CsvReader::new(file.whole(), &inferred.columns, options, batch_rows), &schema);
    let whole = read(1000);
    assert_eq!(whole, read(1));
    let offsets: BTreeSet<u64> = whole.1.iter().copied().chain(whole.2.iter().map(|bad| bad.offset)).collect();
    assert_eq!(offsets.len(), whole.1.len() + whole.2.len(), "two of one offset");
    assert!(!compression.is_empty() || offsets.last().is_none_or(|last| *last < file.0.bytes));
}

/// Plain text, split in every way.
pub fn text(data: &[u8]) {
    let (compression, text) = compression(data);
    let file = File::new(text, &format!("txt{compression}"));
    for split in [TextSplit::Files, TextSplit::Paragraphs, TextSplit::Lines] {
        for invalid_utf8 in [InvalidUtf8::Reject, InvalidUtf8::Replace] {
            let read = |batch_rows| {
                let options = TextOptions { split, invalid_utf8, max_record_bytes: MAX_RECORD, batch_rows };
                drain(TextReader::new(file.whole(), options), &TextReader::schema())
            };
            let whole = read(1000);
            assert_eq!(whole, read(1));
            assert!(whole.2.is_empty() || invalid_utf8 == InvalidUtf8::Reject || whole.2.iter().all(|bad| bad.reason != "invalid_utf8"));
        }
    }
}

/// WARC and ARC: each record is a row, counted, or a rejection.
pub fn warc(data: &[u8]) {
    let file = File::new(data, "warc");
    let read = |batch_rows| {
        let options = WarcOptions {
            record_types: vec![RecordType::Response, RecordType::Resource],
            media_types: None,
            content: WarcContent::Both,
            headers: true,
            check_digests: true,
            max_record_bytes: MAX_RECORD,
            batch_rows,
        };
        let schema = warc_schema(WarcContent::Both, true);
        drain(WarcReader::new(file.whole(), options), &schema)
    };
    let whole = read(1000);
    assert_eq!(whole, read(1));
    let offsets: BTreeSet<u64> = whole.1.iter().copied().chain(whole.2.iter().map(|bad| bad.offset)).collect();
    assert_eq!(offsets.len(), whole.1.len() + whole.2.len(), "two of one offset");
}

/// Parquet. What can be read is the same however it is cut into batches.
pub fn parquet(data: &[u8]) {
    let file = File::new(data, "parquet");
    let files = std::slice::from_ref(&file.0);
    let Ok((schema, _)) = parquet_schema(files, None) else { return };
    let parts: Vec<FilePart> = parquet_plan(files).expect("a file that can be opened").into_iter().flatten().collect();
    let read = |batch_rows| {
        let (rows, offsets, bad) = drain(ParquetReader::new(parts.clone(), SchemaRef::clone(&schema), batch_rows), &schema);
        assert_eq!(rows.num_rows(), offsets.len());
        // The decoder's own words may differ.
        (rows, offsets, bad.into_iter().map(|bad| (bad.offset, bad.reason)).collect::<Vec<_>>())
    };
    assert_eq!(read(1000), read(3));
}
