//! One plan gives the same bytes, whatever it is run with.

use crate::harness::{Project, differences};
use crate::samples::{SMALL, curate};

#[test]
fn threads_memory_and_batches_change_no_byte() {
    let plain = curate();
    plain.run(SMALL);
    let expected = plain.files("out");
    assert!(expected.len() > 100, "many small tasks: {}", expected.len());
    let ways: &[&[&str]] = &[
        &["--threads", "1"],
        &["--threads", "2"],
        &["--threads", "8"],
        &["--memory", "512MiB"],
        &["--memory", "4GiB", "--threads", "8"],
        &["--batch-rows", "1"],
        &["--batch-rows", "1000", "--threads", "8"],
    ];
    for way in ways {
        let project = curate();
        project.run(&[SMALL, way].concat());
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "{way:?}");
    }
}

#[test]
fn rows_with_ids_of_their_own_make_the_same_table_in_one_file_or_in_fifty() {
    let rows: Vec<String> = (0..5000)
        .map(|n| format!(r#"{{"id": "row-{n}", "text": "text number {} of the collection", "group": {}}}"#, n % 3100, n % 17))
        .collect();
    let yaml = "
version: 1
name: files
seed: 3
output: out
stages:
  rows:   {use: read_jsonl, path: 'in/*.jsonl'}
  long:   {use: filter_length, from: rows, min_chars: 33}
  unique: {use: dedup_exact, from: long}
  sample: {use: sample_rows, from: unique, fraction: 0.7}
  split:  {use: split_holdout, from: sample, fraction: 0.3}
";
    let hashes = |n_files: usize, args: &[&str]| {
        let project = Project::with(yaml);
        for (file, rows) in rows.chunks(rows.len() / n_files).enumerate() {
            project.write(&format!("in/{file:03}.jsonl"), rows.join("\n") + "\n");
        }
        project.run(args);
        ["out/split", "out/split.holdout", "out/dropped/long", "out/dropped/unique", "out/dropped/sample"]
            .map(|folder| project.table_hash(folder))
    };
    let one = hashes(1, &[]);
    assert_eq!(hashes(50, &[]), one);
    assert_eq!(hashes(50, SMALL), one);
}

#[test]
fn rejected_rows_fall_into_the_same_places_however_batches_fall() {
    let rows: Vec<String> =
        (0..500).map(|n| if n % 7 == 3 { "{".to_owned() } else { format!(r#"{{"id": "{n}", "text": "text {n}"}}"#) }).collect();
    let run = |args: &[&str]| {
        let project = Project::with(
            "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: in.jsonl, max_rejected: 0.5}, long: {use: filter_length, from: rows}}}",
        );
        project.write("in.jsonl", rows.join("\n") + "\n");
        project.run(args);
        assert_eq!(project.count("out/rejected/rows"), 71);
        project.files("out")
    };
    let expected = run(&["--shard-rows", "16"]);
    for batch_rows in ["1", "5", "100"] {
        let files = run(&["--shard-rows", "16", "--batch-rows", batch_rows]);
        assert_eq!(differences(&files, &expected), [""; 0], "batches of {batch_rows}");
    }
}
