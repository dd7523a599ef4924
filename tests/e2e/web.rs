//! Web archives and pages through the real command: the archives that pywb brings, held against what warcio finds in them, and Python's
//! documentation, held against the text it was made from. `tests/run-all` fetches both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use serde_json::Value;

use crate::harness::{Project, asset, repository};

/// The archives.
fn archives() -> Option<PathBuf> {
    let folder = asset("GRANARY_WEB_ARCHIVES", "web-archives", "pywb's archives")?;
    Some(if folder.join("warcs").is_dir() { folder.join("warcs") } else { folder })
}

/// A record: file, type, url, status, declared digest.
type Found = (String, String, String, String, String);

/// What warcio finds, and the files that it gives up.
fn warcio(files: &[PathBuf]) -> Option<(Vec<Found>, BTreeSet<String>)> {
    let python = asset("GRANARY_READERS_PYTHON", "readers/bin/python", "warcio")?;
    let output = Command::new(python).arg(repository().join("tests/warc_records.py")).args(files).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut found, mut given_up) = (Vec::new(), BTreeSet::new());
    for line in String::from_utf8(output.stdout).expect("JSON").lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let text = |name: &str| match &record[name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        if record["problem"].is_string() {
            given_up.insert(text("file"));
        } else {
            let kind = text("type").replace("arc_header", "warcinfo");
            found.push((text("file"), kind, text("url").trim_matches(['<', '>']).to_owned(), text("status"), text("digest")));
        }
    }
    Some((found, given_up))
}

#[test]
fn web_archives_hold_what_warcio_finds_in_them() {
    let Some(folder) = archives() else { return };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    files.sort();
    assert_eq!(files.len(), 17);
    let Some((theirs, given_up)) = warcio(&files) else { return };

    let project = Project::with(&format!(
        "
version: 1
name: archives
output: out
stages:
  all:
    use: read_warc
    path: \"{}/*\"
    record_types: [response, resource, conversion, request, metadata, revisit, warcinfo]
    content: bytes
    check_digests: true
",
        folder.display()
    ));
    project.run(&[]);
    let printed = |name: &str| {
        let of_batch = |batch: &RecordBatch| {
            let column = Arc::clone(batch.column_by_name(name).expect("a column"));
            (0..batch.num_rows()).map(move |row| array_value_to_string(&column, row).expect("a value that prints")).collect::<Vec<_>>()
        };
        project.rows("out/all").iter().flat_map(of_batch).collect::<Vec<_>>()
    };
    let columns = ["id", "record_type", "url", "status", "payload_digest"].map(printed);
    let file_of = |id: &str| id.trim_start_matches("all/").split('@').next().unwrap_or_default().to_owned();
    let text = |column: usize, row: usize| columns[column][row].clone();
    let ours: Vec<Found> =
        (0..columns[0].len()).map(|row| (file_of(&text(0, row)), text(1, row), text(2, row), text(3, row), text(4, row))).collect();
    let rejected: Vec<String> = project.column("out/rejected/all", "id").into_iter().flatten().collect();
    let reasons: Vec<String> = project.column("out/rejected/all", "reason").into_iter().flatten().collect();
    let mut told: Vec<(String, String)> = rejected.iter().map(|id| file_of(id)).zip(reasons).collect();
    told.sort();

    // Where the two differ, and why.
    let expected = [
        // Lengths of -1 and `abc`, which warcio reads as 0.
        ("bad.arc", "no_length"),
        ("bad.arc", "no_length"),
        ("bad.arc", "no_length"),
        // A response that begins with `HTTPX/1.1`, which warcio takes.
        ("example-extra.warc", "no_http_status"),
        // A request that is three bytes longer than it says, of which warcio warns; the records behind it are read by both.
        ("example.warc", "wrong_length"),
    ];
    assert_eq!(told, expected.map(|(file, reason)| (file.to_owned(), reason.to_owned())));
    // A file in one gzip member is read here, and given up there behind its first record.
    assert_eq!(given_up, ["example-bad.warc.gz.bad".to_owned()].into());

    let count = |records: &[Found]| {
        let mut counts: BTreeMap<Found, i64> = BTreeMap::new();
        for record in records.iter().filter(|record| !given_up.contains(&record.0)) {
            // What HTTP says of requests and of what is no message is read differently by choice.
            let mut record = record.clone();
            if record.1 == "request" || record.0.contains(".arc") {
                record.3.clear();
            }
            *counts.entry(record).or_default() += 1;
        }
        counts
    };
    let (ours, theirs) = (count(&ours), count(&theirs));
    let mut differ: BTreeMap<&str, i64> = BTreeMap::new();
    for record in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let by = ours.get(record).unwrap_or(&0) - theirs.get(record).unwrap_or(&0);
        if by != 0 {
            *differ.entry(record.0.as_str()).or_default() += by;
        }
    }
    // As many as were rejected there.
    assert_eq!(differ, BTreeMap::from([("bad.arc", -3), ("example-extra.warc", -1), ("example.warc", -1)]));
    let of_type =
        |kind: &str| ours.iter().filter(|(record, _)| record.0 == "iana.warc.gz" && record.1 == kind).map(|(_, n)| n).sum::<i64>();
    assert_eq!(["warcinfo", "response", "request", "revisit"].map(of_type), [1, 48, 171, 123]);
}

fn words(text: &str) -> BTreeMap<String, usize> {
    let mut words = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    words
}

/// The harmonic mean of the share of extracted words that the source has and of the source's words that were extracted. The source's markup is
/// in it, so that nothing comes to 1.
fn f1(text: &str, source: &str) -> f64 {
    let (got, wanted) = (words(text), words(source));
    let common: usize = got.iter().map(|(word, n)| (*n).min(wanted.get(word).copied().unwrap_or(0))).sum();
    let all: usize = got.values().sum::<usize>() + wanted.values().sum::<usize>();
    2.0 * common as f64 / (all as f64).max(1.0)
}

/// The reStructuredText files under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.to_string_lossy().ends_with(".rst.txt") {
            found.push(path);
        }
    }
}

#[test]
fn the_text_of_pages_is_what_they_were_made_from() {
    let Some(folder) = asset("GRANARY_PYTHON_DOC", "python-doc/usr/share/doc/python3.11/html", "Python's documentation") else { return };
    let mut found = Vec::new();
    sources(&folder.join("_sources"), &mut found);
    let page_of = |source: &PathBuf| {
        let name = source.strip_prefix(folder.join("_sources")).expect("a source").to_string_lossy().replace(".rst.txt", ".html");
        (folder.join(&name), name.replace('/', "-"))
    };
    let mut pairs: Vec<(String, PathBuf, PathBuf)> =
        found.into_iter().map(|source| (page_of(&source), source)).map(|((page, name), source)| (name, page, source)).collect();
    pairs.retain(|(_, page, _)| page.exists());
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().step_by(12).collect();
    assert!(pairs.len() > 35, "{}", pairs.len());

    let project = Project::with(
        "
version: 1
name: pages
output: out
stages:
  pages: {use: read_text, path: \"pages/*.html\", split: files}
  text:  {use: extract_text, from: pages, column: text}
",
    );
    for (name, page, _) in &pairs {
        project.write(&format!("pages/{name}"), fs::read(page).expect("a page"));
    }
    project.run(&[]);
    let (ids, texts) = (project.column("out/text", "id"), project.column("out/text", "text"));
    let texts: BTreeMap<String, String> = ids.into_iter().flatten().zip(texts.into_iter().flatten()).collect();
    let scores: Vec<f64> = pairs
        .iter()
        .map(|(name, _, source)| {
            let text = texts.get(&format!("pages/{name}@0")).map_or("", String::as_str);
            f1(text, &String::from_utf8_lossy(&fs::read(source).expect("a source")))
        })
        .collect();
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    eprintln!("F1 of {} pages: {mean:.4}", scores.len());
    // 0.910 when this was written; a good extractor of another make, trafilatura 2.3.1, has 0.902.
    assert!(mean > 0.895, "{mean}");
}
