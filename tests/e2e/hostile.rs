//! What hostile data and careless files do: told in a rejection or an error, never a panic, never rows lost in silence.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, UInt64Type};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::harness::{Project, Said};

/// What was rejected by the stage `rows`: file, offset, reason, detail.
fn rejected(project: &Project) -> Vec<(String, u64, String, String)> {
    if !project.path("out/rejected/rows").exists() {
        return Vec::new();
    }
    let of_batch = |batch: RecordBatch| {
        let text = |name: &str, row: usize| batch.column_by_name(name).expect(name).as_string::<i32>().value(row).to_owned();
        let offsets = batch.column_by_name("offset").expect("offset").as_primitive::<UInt64Type>().clone();
        (0..batch.num_rows())
            .map(|row| (text("file", row), offsets.value(row), text("reason", row), text("detail", row)))
            .collect::<Vec<_>>()
    };
    project.rows("out/rejected/rows").into_iter().flat_map(of_batch).collect()
}

/// A project that reads `in` by a stage `rows` with these settings.
fn reading(settings: &str) -> Project {
    Project::with(&format!("{{version: 1, name: t, output: out, stages: {{rows: {{path: in, {settings}}}}}}}"))
}

fn run(project: &Project) -> Said {
    project.call(&["run", "pipeline.yaml"])
}

/// What a call told the person, without the line breaks of a narrow terminal.
fn told(said: &Said) -> String {
    said.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// As many lines of JSON, each of another length of text.
fn lines(n: usize) -> Vec<u8> {
    (0..n).flat_map(|n| format!("{{\"id\": \"{n}\", \"text\": \"some text {}\"}}\n", n * n).into_bytes()).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.include_checksum(true).and_then(|()| encoder.write_all(bytes)).expect("compressed"); // as the command does
    encoder.finish().expect("compressed")
}

/// The bytes with some in the middle changed.
fn scarred(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16].fill(0xA5);
    bytes
}

#[test]
fn a_damaged_compressed_file_gives_what_came_before_and_says_where_it_breaks_off() {
    let text = lines(20_000);
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() * 2 / 3].to_vec();
    let mut wrong_sum = gz(&text);
    let end = wrong_sum.len();
    wrong_sum[end - 8] ^= 1;
    let cases = [
        ("b.jsonl.gz", cut(gz(&text)), "incomplete deflate stream"),
        ("b.jsonl.gz", wrong_sum, "checksum"),
        ("b.jsonl.gz", gz(&text)[..5].to_vec(), "unexpected end of file"),
        ("b.jsonl.gz", text.clone(), "invalid gzip header"),
        ("b.jsonl.gz", [gz(&text), b"no second member".to_vec()].concat(), "invalid gzip header"),
        ("b.jsonl.zst", cut(zst(&text)), "incomplete frame"),
        ("b.jsonl.zst", zst(&text)[..4].to_vec(), "incomplete frame"),
        ("b.jsonl.zst", text.clone(), "Unknown frame descriptor"),
    ];
    for (name, bytes, problem) in cases {
        let project = reading("use: read_jsonl, columns: {id: string, text: string}");
        project.write("in/a.jsonl", lines(100));
        project.write(&format!("in/{name}"), bytes);
        let said = project.run(&[]);
        let bad = rejected(&project);
        let [(file, offset, reason, detail)] = bad.as_slice() else { panic!("{name}: {bad:?}") };
        assert_eq!((file.as_str(), reason.as_str()), (name, "damaged_file"));
        assert!(detail.starts_with("nothing can be read from here on: ") && detail.contains(problem), "{name}: {detail}");
        let warning = format!("WARNING: {name} can't be read from {offset} on");
        assert!(said.stderr.contains(&warning), "{warning}: {said:#?}");
        let offset = usize::try_from(*offset).expect("in the text");
        let before = text[..offset].split(|byte| *byte == b'\n').count() - 1;
        assert!(offset == 0 || text[offset - 1] == b'\n', "{name}: a line begins at {offset}");
        assert_eq!(project.count("out/rows"), 100 + before, "{name}: every line before {offset}");
    }
}

#[test]
fn a_compressed_file_that_is_damaged_in_the_middle_is_told_of() {
    // What stands between the damage and the place where the decoder notices it may read as anything.
    for (name, bytes) in [("b.jsonl.gz", scarred(&gz(&lines(20_000)))), ("b.jsonl.zst", scarred(&zst(&lines(20_000))))] {
        let project = reading("max_rejected: 1.0, use: read_jsonl, columns: {id: string, text: string}");
        project.write(&format!("in/{name}"), bytes);
        let said = project.run(&[]);
        let bad = rejected(&project);
        let (file, offset, reason, _) = bad.last().expect("a rejection");
        assert_eq!((file.as_str(), reason.as_str()), (name, "damaged_file"));
        assert!(said.stderr.contains(&format!("WARNING: {name} can't be read from {offset} on")), "{said:#?}");
    }
}

#[test]
fn a_run_that_can_read_nothing_stops_instead_of_publishing_nothing() {
    for (settings, name) in [("use: read_jsonl, columns: {text: string}", "a.jsonl.gz"), ("use: read_text, split: lines", "a.txt.gz")] {
        let project = reading(settings);
        project.write(&format!("in/{name}"), "no gzip");
        let said = run(&project);
        assert_eq!(said.code, Some(3), "{said:#?}");
        assert!(said.stderr.contains("rejected 1 of 1 rows") && said.stderr.contains("`damaged_file`"), "{said:#?}");
        assert!(!project.path("out/rows").exists());
    }
    let project = reading("use: read_csv");
    project.write("in/a.csv.gz", "no gzip");
    let said = run(&project);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(told(&said).contains("a.csv.gz is no readable CSV file: it is damaged: "), "{said:#?}");
}

/// Parquet of `rows` rows with ids `<first>`, …, not compressed, ten row groups, several pages each.
fn parquet(first: usize, rows: usize) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((first..first + rows).map(|n| n.to_string())));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("text {}", n * n))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).expect("two columns");
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows / 10))
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(rows / 50)
        .set_write_batch_size(rows / 100)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a plain schema");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("written")
}

#[test]
fn a_damaged_parquet_page_rejects_every_row_that_is_lost_with_it() {
    let (good, mut bad) = (parquet(0, 1000), parquet(1000, 1000));
    // The length of a text in the middle of the file: no page after it in its row group can be believed.
    let place = bad.windows(9).position(|bytes| bytes == b"text 1936").expect("row 44") - 4;
    bad[place..place + 4].fill(0xFF);
    let project = reading("use: read_parquet");
    project.write("in/a.parquet", &good);
    project.write("in/b.parquet", &bad);
    let said = run(&project);
    assert_eq!(said.code, Some(3), "{said:#?}");
    let lost = rejected(&project);
    assert!(said.stderr.contains(&format!("rejected {} of 2000 rows", lost.len())), "{said:#?}");
    assert!(said.stderr.contains("`damaged_row_group`"), "{said:#?}");
    assert_eq!(lost.iter().map(|row| row.1).collect::<Vec<_>>(), (44..100).collect::<Vec<u64>>());
    assert!(lost.iter().all(|(file, _, reason, _)| file == "b.parquet" && reason == "damaged_row_group"), "{lost:?}");
    assert!(lost[0].3.starts_with("the rows of its row group from here on can't be read: "), "{:?}", lost[0]);
    assert_eq!(lost[1].3, "lost with row 44");
    // Which rows are lost depends on nothing else.
    let allowed = "{version: 1, name: t, output: out, max_rejected: 0.1, stages: {rows: {use: read_parquet, path: in}}}";
    project.write("pipeline.yaml", allowed);
    for batch_rows in ["1", "7", "1000"] {
        project.run(&["--fresh", "--batch-rows", batch_rows]);
        assert_eq!(rejected(&project), lost);
        assert_eq!(project.count("out/rows"), 1944);
    }
}

#[test]
fn a_parquet_file_with_a_damaged_footer_is_rejected_beside_others_and_refused_alone() {
    let good = parquet(0, 1000);
    let footer = good.len() - 8;
    let length = u32::from_le_bytes(good[footer..footer + 4].try_into().expect("four bytes")) as usize;
    let changed = |from: usize, bytes: &[u8]| [&good[..from], bytes, &good[from + bytes.len()..]].concat();
    let cases = [
        ("cut", good[..good.len() / 2].to_vec()),
        ("footer", changed(footer - length / 2, &[0xFF; 40])),
        ("footer's length", changed(footer, &[0xFF, 0xFF, 0xFF, 0x7F])),
        ("magic", changed(footer + 4, b"PAR0")),
        ("empty", Vec::new()),
        ("something else", lines(10)),
    ];
    for (case, bytes) in cases {
        let project = reading("use: read_parquet");
        project.write("in/b.parquet", bytes);
        let said = run(&project);
        assert_eq!(said.code, Some(2), "{case}: {said:#?}");
        assert!(said.stderr.contains("b.parquet is no readable Parquet file"), "{case}: {said:#?}");
        project.write("in/a.parquet", &good);
        let said = project.run(&[]);
        assert!(said.stderr.contains("b.parquet is no readable Parquet file") && said.stderr.contains("it will be rejected"), "{said:#?}");
        assert!(said.stderr.contains("WARNING: b.parquet can't be read from 0 on"), "{case}: {said:#?}");
        let bad = rejected(&project);
        assert_eq!((bad.len(), bad[0].0.as_str(), bad[0].2.as_str()), (1, "b.parquet", "damaged_file"), "{case}: {bad:?}");
        assert_eq!(project.count("out/rows"), 1000);
    }
}

/// Peak memory of the last run.
fn peak(project: &Project) -> u64 {
    project.record("out")["peak_memory_bytes"].as_u64().expect("a number")
}

#[test]
fn a_line_of_100_mb_is_rejected_with_its_offset_and_never_held() {
    for columns in ["", "columns: {id: string, text: string}, "] {
        let project = reading(&format!("{columns}use: read_jsonl, max_record_bytes: 1000000"));
        project.write("in/a.jsonl", "{\"id\": \"1\", \"text\": \"a\"}\n{\"id\": \"2\", \"text\": \"");
        let mut file = fs::File::options().write(true).open(project.path("in/a.jsonl")).expect("opened");
        file.seek(SeekFrom::Start(100_000_000)).expect("a hole"); // which reads as NUL
        file.write_all(b"\"}\n{\"id\": \"3\", \"text\": \"c\"}\n").expect("written");
        project.run(&[]);
        let bad = rejected(&project);
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!((bad[0].1, bad[0].2.as_str()), (25, "record_too_long"));
        assert_eq!(bad[0].3, "99999977 bytes, max_record_bytes is 1000000");
        assert_eq!(project.column("out/rows", "id"), ["1", "3"].map(|id| Some(id.to_owned())));
        assert!(peak(&project) < 150_000_000, "{}", peak(&project));
    }
}

#[test]
fn rows_of_tens_of_megabytes_pass_within_the_memory() {
    let project = Project::with(
        "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl}, unique: {use: dedup_exact, from: rows}}}",
    );
    let rows: Vec<String> = (0..4).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"{n}{}\"}}\n", "long ".repeat(6_000_000))).collect();
    project.write("rows.jsonl", rows.concat());
    project.run(&["--memory", "512MiB"]);
    assert_eq!(project.count("out/unique"), 4);
    assert!(peak(&project) < (512 << 20) + 150_000_000, "{}", peak(&project));
}

#[test]
fn rows_are_sorted_by_long_texts_within_the_memory() {
    let project = Project::with(
        "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl}, sorted: {use: sort_rows, from: rows, by: [text]}}}",
    );
    let filler = "a text as long as its key ".repeat(115);
    let rows: Vec<String> =
        (0..50_000_u64).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"{:05}{filler}\"}}\n", n * 7919 % 50_000)).collect();
    project.write("rows.jsonl", rows.concat());
    project.run(&["--memory", "448MiB"]);
    let texts = project.column("out/sorted", "text");
    assert!(texts.len() == 50_000 && texts.is_sorted());
    assert!(peak(&project) < (448 << 20) + 150_000_000, "{}", peak(&project));
}

#[test]
fn bombs_burst_where_they_stand() {
    let zeros = vec![0; 1 << 20];
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let mut zst = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    for _ in 0..300 {
        gz.write_all(&zeros).expect("compressed");
        zst.write_all(&zeros).expect("compressed");
    }
    let project = reading("columns: {text: string}, use: read_jsonl, max_record_bytes: 1000000");
    project.write("in/a.jsonl", "{\"text\": \"a\"}\n");
    project.write("in/b.jsonl.gz", gz.finish().expect("compressed"));
    project.write("in/c.jsonl.zst", zst.finish().expect("compressed"));
    project.run(&[]);
    let told: Vec<_> = rejected(&project).into_iter().map(|(file, offset, reason, _)| format!("{file}@{offset} {reason}")).collect();
    assert_eq!(told, ["b.jsonl.gz@0 record_too_long", "c.jsonl.zst@0 record_too_long"]);
    assert!(peak(&project) < 150_000_000, "{}", peak(&project));
    // A zip file is no JSON, whatever is in it.
    let project = reading("use: read_jsonl, columns: {text: string}");
    project.write("in/a.jsonl", [b"PK\x03\x04\x14\0\0\0\x08\0".as_slice(), &scarred(&zeros)].concat());
    assert_eq!(run(&project).code, Some(3));
    assert_eq!(rejected(&project)[0].2, "invalid_utf8");
}

#[test]
fn a_text_that_parquet_repeats_in_every_row_stays_within_the_memory() {
    let project = reading("use: read_parquet");
    let text = "x".repeat(250_000);
    let keys: DictionaryArray<Int32Type> = std::iter::repeat_n(text.as_str(), 4096).collect();
    let texts: ArrayRef = Arc::new(keys);
    let batch = RecordBatch::try_from_iter([("text", texts)]).expect("a column");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a plain schema");
    writer.write(&batch).expect("written");
    let bytes = writer.into_inner().expect("written");
    assert!(bytes.len() < 2_000_000, "{}", bytes.len());
    project.write("in/a.parquet", bytes);
    project.write("pipeline.yaml", "{version: 1, name: t, output: out, stages: {rows: {use: read_parquet, path: in}, none: {use: filter_length, from: rows, max_chars: 5}}}");
    project.run(&["--memory", "512MiB"]);
    assert_eq!(project.count("out/dropped/none"), 4096);
    assert!(peak(&project) < (512 << 20) + 150_000_000, "{}", peak(&project));
}

/// What becomes of a line that is read into `id`, `text`, `n`, `f` and `any`.
const LINES: &[(&str, &[u8], &str)] = &[
    ("invalid UTF-8", b"{\"text\": \"\xff\xfe\"}", "invalid_utf8: no UTF-8 at byte 10 of the line"),
    ("UTF-8 cut off", b"{\"text\": \"\xe2\x82\"}", "invalid_utf8: no UTF-8 at byte 10 of the line"),
    ("UTF-8 too long", b"{\"text\": \"\xc0\xaf\"}", "invalid_utf8: no UTF-8 at byte 10 of the line"),
    ("a surrogate in UTF-8", b"{\"text\": \"\xed\xa0\x80\"}", "invalid_utf8: no UTF-8 at byte 10 of the line"),
    ("a lone high surrogate", br#"{"text": "\ud800"}"#, "invalid_json: unexpected end of hex escape"),
    ("a lone low surrogate", br#"{"text": "\udc00"}"#, "invalid_json: lone leading surrogate in hex escape"),
    ("surrogates the wrong way round", br#"{"text": "\udc00\ud800"}"#, "invalid_json: lone leading surrogate in hex escape"),
    ("a pair of surrogates", br#"{"text": "\ud83d\ude00"}"#, "{\"text\":\"\u{1F600}\"}"),
    ("an escaped NUL", br#"{"text": "a\u0000b"}"#, r#"{"text":"a\u0000b"}"#),
    ("a NUL", b"{\"text\": \"a\0b\"}", "invalid_json: control character"),
    ("NULs alone", b"\0\0\0", "invalid_json: expected value"),
    ("a tab in a text", b"{\"text\": \"a\tb\"}", "invalid_json: control character"),
    ("a key twice", br#"{"text": "a", "text": "b"}"#, r#"{"text":"b"}"#),
    ("a key twice, first of another type", br#"{"text": 1, "text": "b"}"#, "wrong_type: `text`: wanted string, found 1"),
    ("no text", br#"{"n": 1}"#, r#"{"n":1}"#),
    ("an unknown key", br#"{"other": {"text": 1}}"#, "{}"),
    ("text that is null", br#"{"text": null}"#, "{}"),
    ("text that is a number", br#"{"text": 5}"#, "wrong_type: `text`: wanted string, found 5"),
    ("text that is a truth", br#"{"text": true}"#, "wrong_type: `text`: wanted string, found true"),
    ("text that is a list", br#"{"text": ["a"]}"#, "wrong_type: `text`: wanted string, found a list"),
    ("text that is an object", br#"{"text": {"a": 1}}"#, "wrong_type: `text`: wanted string, found an object"),
    ("2^63", br#"{"n": 9223372036854775808}"#, "wrong_type: `n`: wanted int64, found 9223372036854775808"),
    ("2^63 - 1", br#"{"n": 9223372036854775807}"#, r#"{"n":9223372036854775807}"#),
    ("-2^63 - 1", br#"{"n": -9223372036854775809}"#, "wrong_type: `n`: wanted int64, found -9.223372036854776e+18"),
    ("a number of 30 digits", br#"{"n": 123456789012345678901234567890}"#, "wrong_type: `n`: wanted int64, found 1.2345678901234568e+29"),
    ("a fraction for a whole number", br#"{"n": 1.5}"#, "wrong_type: `n`: wanted int64, found 1.5"),
    ("1e400", br#"{"f": 1e400}"#, "wrong_type: `f`: wanted float64, found 1e400"),
    ("a tiny number", br#"{"f": 1e-400}"#, r#"{"f":0.0}"#),
    ("NaN", br#"{"f": NaN}"#, "invalid_json: expected value"),
    ("an infinity", br#"{"f": -Infinity}"#, "invalid_json: invalid number"),
    ("a list", b"[1]", "wrong_type: invalid type: sequence"),
    ("a text", b"\"a\"", "wrong_type: invalid type: string"),
    ("two objects", b"{} {}", "invalid_json: trailing characters"),
    ("half an object", b"{\"text\": \"a\"", "invalid_json: EOF while parsing an object"),
    ("a byte order mark in the middle", b"\xef\xbb\xbf{\"text\": \"a\"}", "invalid_json: expected value"),
    ("a carriage return at its end", b"{\"text\": \"a\"}\r", r#"{"text":"a"}"#),
    ("only white space", b" \t\r", ""),
];

#[test]
fn each_odd_line_is_a_row_or_a_rejection_with_its_offset() {
    let project = Project::with(
        "{version: 1, name: t, output: out, max_rejected: 1.0, write: {format: jsonl}, stages: {rows: {use: read_jsonl, path: in, columns: {id: string, text: string, n: int64, f: float64, any: json}}}}",
    );
    let deep = |open: &str, close: &str| format!("{{\"text\": \"deep\", \"any\": {}{}}}", open.repeat(100_000), close.repeat(100_000));
    let (lists, objects, unclosed) = (deep("[", "]"), deep("{\"a\":", "1}"), deep("[", ""));
    let deep = [("deep lists", &lists), ("deep objects", &objects), ("deep and never closed", &unclosed)];
    let deep = deep.map(|(name, line)| (name, line.as_bytes(), "invalid_json: recursion limit exceeded"));
    let all: Vec<_> = LINES.iter().copied().chain(deep).collect();
    let mut text = b"\xef\xbb\xbf".to_vec(); // a mark at the beginning means nothing
    let mut offsets = Vec::new();
    for (_, line, _) in &all {
        offsets.push(text.len() as u64);
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    project.write("in/a.jsonl", text);
    project.run(&[]);
    let written = fs::read_to_string(project.path("out/rows/part-00000.jsonl")).expect("rows");
    let bare = |line: &str| {
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("a row");
        let (mut row, id) = (row.clone(), row["id"].as_str().expect("an id").to_owned());
        row.remove("id");
        row.retain(|_, value| !value.is_null());
        let offset: u64 = id.rsplit_once('@').expect("an offset").1.parse().expect("a number");
        (offset, serde_json::to_string(&row).expect("text"))
    };
    let mut found: Vec<(u64, String)> = written.lines().map(bare).collect();
    found.extend(rejected(&project).into_iter().map(|(_, offset, reason, detail)| (offset, format!("{reason}: {detail}"))));
    for ((name, _, wanted), offset) in all.iter().zip(offsets) {
        let met: Vec<&str> = found.iter().filter(|(at, _)| *at == offset).map(|(_, what)| what.as_str()).collect();
        match wanted {
            &"" => assert!(met.is_empty(), "{name}: {met:?}"),
            wanted => assert!(met.len() == 1 && met[0].starts_with(wanted), "{name}: wanted {wanted}, found {met:?}"),
        }
    }
}

#[test]
fn marks_and_windows_line_ends_and_empty_files_are_no_rows() {
    let two = "{\"id\": \"1\", \"text\": \"a\"}\n{\"id\": \"2\", \"text\": \"b\"}\n";
    let cases: &[(&str, &str, &str)] = &[
        ("use: read_jsonl, columns: {id: string, text: string}", "jsonl", two),
        ("use: read_csv, columns: {id: string, text: string}", "csv", "id,text\n1,a\n2,b\n"),
        ("use: read_text, split: lines", "txt", "a\nb\n"),
    ];
    for (settings, extension, text) in cases {
        let project = reading(settings);
        project.write(&format!("in/a.{extension}"), format!("\u{feff}{}", text.replace('\n', "\r\n")));
        for empty in ["", ".gz", ".zst"] {
            project.write(&format!("in/b.{extension}{empty}"), "");
        }
        project.write(&format!("in/c.{extension}"), "\u{feff}");
        project.write(&format!("in/d.{extension}"), "\r\n\n\r\n");
        project.write(&format!("in/e.{extension}.gz"), gz(b""));
        project.run(&[]);
        assert_eq!(project.column("out/rows", "text"), ["a", "b"].map(|text| Some(text.to_owned())), "{settings}");
        assert_eq!(rejected(&project), []);
    }
    for (settings, extension) in [("use: read_jsonl", "jsonl"), ("use: read_csv", "csv")] {
        let project = reading(settings);
        project.write(&format!("in/a.{extension}"), "");
        let said = run(&project);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.stderr.contains("no record to infer columns from"), "{said:#?}");
    }
}

#[test]
fn ids_that_stand_many_times_do_no_harm() {
    let project = Project::with(
        "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl}, unique: {use: dedup_exact, from: rows}, near: {use: dedup_minhash, from: unique}}}",
    );
    let rows: Vec<String> = (0..300).map(|n| format!("{{\"id\": \"same\", \"text\": \"text {}\"}}\n", n % 100)).collect();
    project.write("rows.jsonl", rows.concat());
    project.run(&["--shard-rows", "16"]);
    assert_eq!((project.count("out/dropped/unique"), project.count("out/near") + project.count("out/dropped/near")), (200, 100));
    let said = project.call(&["trace", "out", "same"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
}

#[test]
fn a_csv_file_with_an_open_quote_and_windows_line_ends_loses_no_row_in_silence() {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_csv, path: rows.csv}}}");
    project.write("rows.csv", "id,text\r\n1,a\r\n2,b,c\r\n\r\n3,\"never closed\r\n4,d\r\n");
    let said = project.run(&[]);
    assert_eq!(project.column("out/rows", "id"), [Some("1".to_owned())]);
    assert_eq!(project.column("out/rejected/rows", "id"), [Some("rows/rows.csv@14".to_owned()), Some("rows/rows.csv@23".to_owned())]);
    assert_eq!(project.column("out/rejected/rows", "reason")[1].as_deref(), Some("quote_not_closed"));
    assert!(said.stderr.contains("WARNING: rows.csv can't be read from 23 on"), "{said:#?}");
}

#[test]
fn a_csv_file_with_another_delimiter_is_told_which() {
    let cases =
        [("id;text\n1;a\n", "delimiter: \";\""), ("id\ttext\n1\ta\n", "delimiter: \"\\t\""), ("id|text\n1|a\n", "delimiter: \"|\"")];
    for settings in ["use: read_csv", "use: read_csv, columns: {id: string, text: string}"] {
        for (text, wanted) in cases {
            let project = reading(settings);
            project.write("in/a.csv", text);
            let said = run(&project);
            assert_eq!(said.code, Some(2), "{said:#?}");
            assert!(told(&said).contains(wanted), "{wanted}: {said:#?}");
        }
    }
    let project = reading("use: read_csv, columns: {\"a;b\": string}");
    project.write("in/a.csv", "a;b\n1;2\n");
    project.run(&[]);
    assert_eq!(project.column("out/rows", "a;b"), [Some("1;2".to_owned())]);
}

#[test]
fn csv_files_of_other_columns_are_told_of_by_check() {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_csv, path: in}}}");
    project.write("in/a.csv", "id,text\n1,a\n");
    project.write("in/b.csv", "id,txt\n1,a\n");
    let said = project.call(&["check", "pipeline.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("`text`") && said.stderr.contains("`txt`"), "{said:#?}");
}

#[test]
fn dates_that_no_calendar_reaches_are_written_as_they_are() {
    let project = Project::with(
        "{version: 1, name: t, output: out, write: {format: jsonl}, stages: {rows: {use: read_jsonl, path: rows.jsonl, columns: {id: string, day: date}}}}",
    );
    project.write(
        "rows.jsonl",
        "{\"id\": \"1\", \"day\": \"-290000-01-01\"}\n{\"id\": \"2\", \"day\": \"9999-12-31\"}\n{\"id\": \"3\", \"day\": 5}\n",
    );
    project.run(&[]);
    let written = fs::read_to_string(project.path("out/rows/part-00000.jsonl")).expect("rows");
    assert_eq!(written, "{\"id\":\"1\",\"day\":\"-290000-01-01\"}\n{\"id\":\"2\",\"day\":\"9999-12-31\"}\n");
    assert_eq!(rejected(&project)[0].3, "`day`: wanted date, found 5");
    // People can look at it in Parquet too.
    project.write(
        "pipeline.yaml",
        "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl, columns: {id: string, day: date}}}}",
    );
    project.run(&[]);
    let said = project.call(&["inspect", "out/rows"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
}
