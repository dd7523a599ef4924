//! JSON Lines: one object a line.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::cells::Cells;
use super::columns::Columns;
use super::infer::JsonColumns;
use super::json::push_record;
use super::json_flat::FlatRecords;
use super::lines::{Line, Lines};
use super::types::ColumnType;
use super::{BadRecord, Chunk, FilePart, InputFile, Reader};
use crate::DataError;

/// How files of JSON lines end.
pub const EXTENSIONS: &[&str] = &["jsonl", "ndjson", "json"];
/// Records that types are inferred from.
const SAMPLE_RECORDS: usize = 2000;
/// Bytes that types are inferred from.
const SAMPLE_BYTES: usize = 64 << 20;
/// Bytes of text after which a batch ends.
pub(super) const BATCH_BYTES: usize = 16 << 20;
/// Bad records after which a batch ends, so that they do not pile up.
pub(super) const BATCH_BAD: usize = 1000;

/// Columns that were inferred, and from how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inferred {
    /// The columns.
    pub columns: Columns,
    /// Records that were looked at.
    pub records: usize,
}

impl Inferred {
    /// What is told to the person.
    pub fn note(&self) -> String {
        format!("columns inferred from the first {} records: {}", self.records, self.columns)
    }
}

/// The columns of the first records of `files`.
///
/// # Errors
/// [`DataError::Format`] for a file that is one JSON array or no JSON; [`DataError::Setting`] on `columns` if there is no record at all.
pub fn jsonl_schema(files: &[InputFile], max_record_bytes: u64) -> Result<Inferred, DataError> {
    let mut sample = JsonColumns::default();
    let (mut records, mut bytes) = (0, 0);
    let mut first_bad: Option<DataError> = None;
    'files: for file in files {
        let part = FilePart { path: file.path.clone(), name: file.name.clone(), start: 0, end: file.bytes };
        let mut lines = Lines::open(&part, file.name.as_str().into(), max_record_bytes)?;
        loop {
            if records >= SAMPLE_RECORDS || bytes >= SAMPLE_BYTES {
                break 'files;
            }
            let problem = match lines.next_line()? {
                Line::End => break,
                Line::Damaged(offset, problem) => format!("it is damaged at byte {offset}: {problem}"),
                Line::TooLong(offset, length) => {
                    bytes = SAMPLE_BYTES; // enough was read
                    format!("the record at byte {offset} has {length} bytes")
                }
                Line::Text(_, line) if line.trim_ascii().is_empty() => {
                    bytes += line.len() + 1;
                    continue;
                }
                Line::Text(offset, line) => {
                    bytes += line.len();
                    match serde_json::from_slice(line) {
                        Ok(record) => {
                            sample.add(record);
                            records += 1;
                            continue;
                        }
                        Err(_) if offset <= 3 && line.trim_ascii_start().starts_with(b"[") => {
                            let problem = "it is a JSON array; wanted is one object a line (`jq -c '.[]' FILE` makes that)".to_owned();
                            return Err(DataError::Format { path: file.path.clone(), format: "JSON Lines", problem });
                        }
                        Err(error) => format!("the line at byte {offset}: {error}"),
                    }
                }
            };
            first_bad.get_or_insert(DataError::Format { path: file.path.clone(), format: "JSON Lines", problem });
        }
    }
    let columns = sample.columns();
    match first_bad {
        Some(problem) if columns.is_empty() => Err(problem),
        None if columns.is_empty() => Err(DataError::Setting {
            setting: "columns",
            problem: "the files hold no record to infer columns from; write them out, such as columns: {text: string}".to_owned(),
        }),
        _ => Ok(Inferred { columns: Columns(columns), records }),
    }
}

/// Reads parts of files of JSON lines.
pub struct JsonlReader {
    parts: VecDeque<FilePart>,
    lines: Option<Lines>,
    schema: SchemaRef,
    cells: Cells,
    flat: FlatRecords,
    max_record_bytes: u64,
    batch_rows: usize,
}

impl JsonlReader {
    /// A reader of `parts` into `columns`.
    pub fn new(parts: Vec<FilePart>, columns: &Columns, max_record_bytes: u64, batch_rows: usize) -> Self {
        Self {
            parts: parts.into(),
            lines: None,
            schema: columns.schema(),
            cells: Cells::new(&ColumnType::Struct(columns.0.clone())),
            flat: FlatRecords::default(),
            max_record_bytes,
            batch_rows: batch_rows.max(1),
        }
    }
}

impl Reader for JsonlReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut chunk = Chunk::empty(&self.schema);
        let mut bytes = 0;
        while chunk.positions.offsets.len() < self.batch_rows && bytes < BATCH_BYTES && chunk.bad.len() < BATCH_BAD {
            let lines = match &mut self.lines {
                Some(lines) => lines,
                none => match self.parts.pop_front() {
                    Some(part) => none.insert(Lines::open(&part, part.name.as_str().into(), self.max_record_bytes)?),
                    None => break,
                },
            };
            let file = Arc::clone(lines.file());
            let mut reject = |offset, reason, detail| {
                chunk.bad.push(BadRecord { file: Arc::clone(&file), offset, reason, detail, rest_is_lost: reason == "damaged_file" });
            };
            match lines.next_line()? {
                Line::End => self.lines = None,
                Line::Damaged(offset, problem) => reject(offset, "damaged_file", format!("nothing can be read from here on: {problem}")),
                Line::TooLong(offset, length) => {
                    reject(offset, "record_too_long", format!("{length} bytes, max_record_bytes is {}", self.max_record_bytes));
                }
                Line::Text(_, line) if line.trim_ascii().is_empty() => {}
                Line::Text(offset, line) => {
                    bytes += line.len();
                    match push_record(&mut self.cells, &mut self.flat, line) {
                        Ok(()) => chunk.positions.push(&file, offset),
                        Err(bad) => reject(offset, bad.reason, bad.detail),
                    }
                }
            }
        }
        if chunk.positions.offsets.is_empty() && chunk.bad.is_empty() && self.lines.is_none() && self.parts.is_empty() {
            return Ok(None);
        }
        if !chunk.positions.offsets.is_empty() {
            chunk.rows = RecordBatch::try_new(Arc::clone(&self.schema), self.cells.take_columns()?)?;
        }
        Ok(Some(chunk))
    }

    fn unknown_fields(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.cells.unknown("", &mut counts);
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{Array, AsArray, StringArray};
    use arrow::datatypes::{Float64Type, Int64Type};
    use proptest::prelude::*;

    use super::*;
    use crate::{WriteFormat, WriteSettings, part_writer};

    fn columns(text: &str) -> Columns {
        serde_json::from_str(text).unwrap()
    }

    fn part(path: &Path) -> FilePart {
        let bytes = std::fs::metadata(path).unwrap().len();
        FilePart { path: path.to_owned(), name: "f".to_owned(), start: 0, end: bytes }
    }

    fn read_parts(
        parts: Vec<FilePart>,
        columns: &Columns,
        batch_rows: usize,
    ) -> (Vec<RecordBatch>, Vec<u64>, Vec<BadRecord>, BTreeMap<String, u64>) {
        let mut reader = JsonlReader::new(parts, columns, 1000, batch_rows);
        let (mut batches, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(chunk) = reader.next_chunk().unwrap() {
            assert_eq!(chunk.rows.num_rows(), chunk.positions.offsets.len());
            offsets.extend(chunk.positions.offsets);
            bad.extend(chunk.bad);
            if chunk.rows.num_rows() > 0 {
                batches.push(chunk.rows);
            }
        }
        (batches, offsets, bad, reader.unknown_fields())
    }

    fn read(text: &[u8], columns: &Columns) -> (String, Vec<u64>, Vec<String>, BTreeMap<String, u64>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        std::fs::write(&path, text).unwrap();
        let (batches, offsets, bad, unknown) = read_parts(vec![part(&path)], columns, 1000);
        let bad = bad.into_iter().map(|bad| format!("{} {}: {}", bad.offset, bad.reason, bad.detail)).collect();
        let mut writer = part_writer(&columns.schema(), &WriteSettings { format: WriteFormat::Jsonl, ..WriteSettings::default() }).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        (String::from_utf8(writer.finish().unwrap().into_bytes()).unwrap(), offsets, bad, unknown)
    }

    #[test]
    fn rows_keep_their_values_and_bad_ones_leave_nothing_behind() {
        let text = b"\xEF\xBB\xBF{\"a\": 1, \"l\": [\"x\", null], \"s\": {\"b\": true}}\r\n\
            \n\
            {\"l\": [\"y\", 5], \"a\": 2}\n\
            {\"s\": {\"b\": \"no\"}}\n\
            {\"a\": 9223372036854775808}\n\
            {\"a\": 1, \"a\": 3, \"l\": null, \"new\": [1], \"s\": {\"b\": null, \"deep\": 1}}\n\
            [1]\n\
            {\"a\": 4\n\
            {\"l\": [\"\\ud800\"]}\n\
            {\"l\": [\"\xff\"]}\n\
            {\"a\": 5.0, \"l\": []}";
        let (lines, offsets, bad, unknown) = read(text, &columns(r#"{"a": "int64", "l": "list<string>", "s": {"b": "bool"}}"#));
        let expected = [r#"{"a":1,"l":["x",null],"s":{"b":true}}"#, r#"{"a":3,"l":null,"s":{"b":null}}"#, r#"{"a":5,"l":[],"s":null}"#];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
        assert_eq!(offsets[0], 3);
        assert_eq!(
            bad.iter().map(|bad| bad.split_once(' ').unwrap().1).collect::<Vec<_>>(),
            [
                "wrong_type: `l`: wanted string, found 5",
                "wrong_type: `s.b`: wanted bool, found \"no\"",
                "wrong_type: `a`: wanted int64, found 9223372036854775808",
                "wrong_type: invalid type: sequence, expected a record, that is a JSON object at line 1 column 1",
                "invalid_json: EOF while parsing an object at line 1 column 7",
                "invalid_json: unexpected end of hex escape at line 1 column 15",
                "invalid_utf8: no UTF-8 at byte 8 of the line",
            ]
        );
        assert_eq!(unknown, BTreeMap::from([("new".to_owned(), 1), ("s.deep".to_owned(), 1)]));
    }

    #[test]
    fn json_columns_keep_any_value_as_text() {
        let text = br#"{"j": "plain"}
{"j": {"a": [1, 2.5, "x\"y", null, true], "b": {}}}
{"j": -7}
{"j": []}
{}"#;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        std::fs::write(&path, text).unwrap();
        let (batches, ..) = read_parts(vec![part(&path)], &columns(r#"{"j": "json"}"#), 100);
        let expected: StringArray =
            [Some("plain"), Some(r#"{"a":[1,2.5,"x\"y",null,true],"b":{}}"#), Some("-7"), Some("[]"), None].into_iter().collect();
        assert_eq!(batches[0].column(0).as_string::<i32>(), &expected);
    }

    /// What a record becomes in `columns`, by either way, or why it does not: the first and the last of many that are read at once.
    fn one(record: &str, of: &str) -> String {
        let (lines, _, bad, _) = read(&[record.as_bytes(), b"\n"].concat().repeat(2), &columns(of));
        if bad.is_empty() {
            let (first, last) = lines.trim_end().split_once('\n').expect("two rows");
            assert_eq!(first, last);
            first.to_owned()
        } else {
            assert!(lines.is_empty() && bad.len() == 2, "{record}: {lines} {bad:?}");
            bad[0].split_once(' ').expect("an offset").1.to_owned()
        }
    }

    #[test]
    fn numbers_in_json_columns_are_kept_as_they_are_written() {
        let of = r#"{"j": "json", "f": "float64"}"#;
        for number in ["18446744073709551616", "-0", "1.10", "1e400", "-2E+0", "123456789012345678901234567890.5"] {
            // Alone, which is the fast way, and inside of something else, behind numbers that nobody keeps.
            assert_eq!(one(&format!("{{\"j\":{number}}}"), of), format!("{{\"j\":\"{number}\",\"f\":null}}"));
            let nested = format!(r#"{{"no": [1, {{"5": 2e400}}, "6\\"], "f": 7, "j": {{"a": [{number}, "8", 9]}}}}"#);
            assert_eq!(one(&nested, of), format!(r#"{{"j":"{{\"a\":[{number},\"8\",9]}}","f":7.0}}"#));
        }
        assert_eq!(one(r#"{"j": 1, "f": -1e400}"#, of), "wrong_type: `f`: wanted float64, found -1e400");
        assert_eq!(one(r#"{"f": 1e400}"#, r#"{"f": "float64"}"#), "invalid_json: number out of range at line 1 column 11");
        // What nobody keeps may be as deep as it likes.
        let lists = "[".repeat(300) + "1, {}, 2e400, \"]\"" + &"]".repeat(300);
        assert_eq!(
            one(&format!(r#"{{"no": {lists}, "\\": {{"a": [], "b": {{}}}}, "j": [2.0], "no": null}}"#), of),
            r#"{"j":"[2.0]","f":null}"#
        );
        let deep = r#"{"l": "list<json>", "s": {"j": "json", "n": "int8"}}"#;
        assert_eq!(
            one(r#"{"l": [1.0, "2", [3.00]], "s": {"n": 4, "j": 5.0}}"#, deep),
            r#"{"l":["1.0","2","[3.00]"],"s":{"j":"5.0","n":4}}"#
        );
    }

    #[test]
    fn of_a_key_that_is_there_twice_the_last_value_counts_and_all_have_to_fit() {
        for (of, found) in [(r#"{"n": "int8"}"#, "2"), (r#"{"n": "json"}"#, "\"2\"")] {
            assert_eq!(one(r#"{"n": 1, "n": 2}"#, of), format!("{{\"n\":{found}}}"));
            assert_eq!(one(r#"{"n":1,"x":[3],"n":{},"n":2}"#, r#"{"n": "json"}"#), "{\"n\":\"2\"}");
        }
        for record in [r#"{"n": "one", "n": 2}"#, r#"{"n": 2, "n": "one"}"#] {
            assert_eq!(one(record, r#"{"n": "int8"}"#), "wrong_type: `n`: wanted int8, found \"one\"");
        }
        assert_eq!(one(r#"{"s": {"a": 1}, "s": {"b": 2}}"#, r#"{"s": {"a": "int8", "b": "int8"}}"#), r#"{"s":{"a":null,"b":2}}"#);
    }

    #[test]
    fn times_bytes_and_narrow_numbers_are_checked() {
        let text = br#"{"t": "2024-02-29T12:00:00+02:00", "d": "1970-01-02", "b": "Zm9v", "n": 127, "u": 0, "f": 1}
{"n": 128}
{"u": -1}
{"t": "yesterday"}
{"f": 1e39}"#;
        let (lines, _, bad, _) =
            read(text, &columns(r#"{"t": "timestamp", "d": "date", "b": "binary", "n": "int8", "u": "uint8", "f": "float32"}"#));
        assert_eq!(lines, "{\"t\":\"2024-02-29T10:00:00Z\",\"d\":\"1970-01-02\",\"b\":\"Zm9v\",\"n\":127,\"u\":0,\"f\":1.0}\n");
        assert_eq!(
            bad.iter().map(|bad| bad.split_once("`: ").unwrap().1).collect::<Vec<_>>(),
            ["wanted int8, found 128", "wanted uint8, found -1", "wanted timestamp, found \"yesterday\"", "wanted float32, found 1e+39"]
        );
    }

    #[test]
    fn a_record_over_the_limit_is_rejected_with_its_offset() {
        let text = [b"{\"a\": 1}\n{\"a\": ".as_slice(), &vec![b' '; 2000], b"2}\n{\"a\": 3}"].concat();
        let (_, offsets, bad, _) = read(&text, &columns(r#"{"a": "int64"}"#));
        assert_eq!(offsets, [0, 2018]);
        assert_eq!(bad, ["9 record_too_long: 2008 bytes, max_record_bytes is 1000"]);
    }

    #[test]
    fn columns_are_inferred_from_many_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (name, text) in [("a.jsonl", "{\"id\": 1, \"text\": \"x\"}\nnot json\n"), ("b.jsonl", "{\"id\": 2.5}\n"), ("c.jsonl", "")] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            files.push(InputFile { path, name: name.to_owned(), bytes: text.len() as u64 });
        }
        let inferred = jsonl_schema(&files, 1000).unwrap();
        assert_eq!(inferred.note(), "columns inferred from the first 2 records: {id: float64, text: string}");
        let error = jsonl_schema(&files[2..], 1000).unwrap_err().to_string();
        assert!(error.starts_with("the files hold no record to infer columns from"), "{error}");
        std::fs::write(&files[0].path, "[{\"a\": 1}]").unwrap();
        let error = jsonl_schema(&files, 1000).unwrap_err().to_string();
        assert!(error.contains("it is a JSON array"), "{error}");
        std::fs::write(&files[0].path, "[\n{\"a\": 1}\n]").unwrap();
        assert!(jsonl_schema(&files[..1], 1000).unwrap_err().to_string().contains("it is a JSON array"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn ranges_and_batches_make_no_difference(texts in proptest::collection::vec("[a-z\"\\\\é]{0,9}", 1..40), rows in 1_usize..9, range in 1_u64..99) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f.jsonl");
            let text: String = texts.iter().enumerate().map(|(n, text)| format!("{}\n", serde_json::json!({"t": text, "n": n, "f": n as f64 / 3.0}))).collect();
            std::fs::write(&path, &text).unwrap();
            let columns = columns(r#"{"n": "int64", "t": "string", "f": "float64"}"#);
            let length = text.len() as u64;
            let parts = (0..length).step_by(usize::try_from(range).unwrap()).map(|start| FilePart { start, end: (start + range).min(length), ..part(&path) }).collect();
            let (batches, offsets, bad, _) = read_parts(parts, &columns, rows);
            prop_assert!(bad.is_empty());
            prop_assert_eq!(offsets.len(), texts.len());
            let all = arrow::compute::concat_batches(&columns.schema(), &batches).unwrap();
            prop_assert_eq!(all.column(1).as_string::<i32>().iter().map(Option::unwrap).collect::<Vec<_>>(), texts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert!(all.column(0).as_primitive::<Int64Type>().values().iter().copied().eq(0..i64::try_from(texts.len()).unwrap()));
            let thirds = all.column(2).as_primitive::<Float64Type>();
            prop_assert!((0..texts.len()).all(|n| (thirds.value(n) - n as f64 / 3.0).abs() < 1e-12));
            for (offset, n) in offsets.iter().zip(0..) {
                let line = text[usize::try_from(*offset).unwrap()..].lines().next().unwrap();
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                prop_assert_eq!(record["n"].as_i64(), Some(n));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut cells = Cells::new(&ColumnType::Struct(columns(r#"{"a": "json", "b": "list<int64>"}"#).0));
            let _ = push_record(&mut cells, &mut FlatRecords::default(), &bytes);
            let columns = cells.take_columns().unwrap();
            prop_assert_eq!(columns[0].len(), columns[1].len());
        }
    }
}
