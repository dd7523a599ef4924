//! What `plan --sample` says, held against what is known of the corpus.

use std::fmt::Write;

use serde_json::Value;

use crate::harness::Project;

const YAML: &str = "
version: 1
name: estimated
seed: 3
output: out
stages:
  rows:   {use: read_jsonl, path: \"rows/*.jsonl\", columns: {id: string, text: string}}
  long:   {use: filter_length, from: rows, min_chars: 100, keep: true}
  unique: {use: dedup_exact, from: long}
  split:  {use: split_holdout, from: unique, fraction: 0.5}
";

/// Files of so many rows; of every four rows one is too short, and rows get longer from file to file.
fn project(files: usize, rows: usize) -> Project {
    let project = Project::with(YAML);
    for file in 0..files {
        let mut text = String::new();
        for row in 0..rows {
            let words = if row % 4 == 0 { 5 } else { 40 + file * 10 + row % 7 };
            let _ = writeln!(text, "{{\"id\": \"{file}-{row}\", \"text\": \"{}\"}}", "word ".repeat(words));
        }
        project.write(&format!("rows/{file}.jsonl"), text);
    }
    project
}

fn estimate(project: &Project, more: &[&str]) -> Value {
    let said = project.call(&[&["plan", "pipeline.yaml", "--json"], more].concat());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:#?}");
    assert!(!project.path("out").exists(), "nothing is written");
    serde_json::from_str::<Value>(&said.stdout).expect("JSON")["estimate"].take()
}

fn stage<'v>(estimate: &'v Value, id: &str) -> &'v Value {
    estimate["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect(id)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_sample_of_a_large_corpus_comes_near_what_is_in_it() {
    let (files, rows) = (6, 40_000);
    let project = project(files, rows);
    let sampled = estimate(&project, &["--sample", "2000"]);
    for (id, truth) in [("rows", files * rows), ("long", files * rows / 4 * 3)] {
        let (amount, truth) = (&stage(&sampled, id)["rows_out"], truth as f64);
        assert!(number(&amount["low"]) <= truth && truth <= number(&amount["high"]), "{id}: {truth}, {amount}");
        assert!((number(&amount["likely"]) / truth - 1.0).abs() < 0.15, "{id}: {truth}, {amount}");
        assert!(number(&amount["high"]) < 2.0 * truth, "{id}: {amount}");
    }
    // The sizes of files are known.
    let bytes: u64 = (0..files).map(|file| project.path(&format!("rows/{file}.jsonl")).metadata().expect("a file").len()).sum();
    assert_eq!(stage(&sampled, "rows")["input_bytes"], bytes);
    // After a stage that needs to see all rows there is a range.
    let out = &stage(&sampled, "split")["rows_out"];
    assert!(out["low"] == 0.0 && out["likely"].is_null() && number(&out["high"]) > 1000.0, "{out}");
    let unique = &stage(&sampled, "unique")["task_seconds"];
    assert!(number(&unique["low"]) > 0.0 && unique["high"].is_null(), "{unique}");
    // Repeated words are compressed to hardly anything, so that what a part takes by itself would count for most, were it taken for each row.
    project.run(&[]);
    let part = |folder: &str| {
        let files = std::fs::read_dir(project.path(folder)).expect(folder);
        files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).sum::<u64>() as f64
    };
    let kept = part("out/long") + part("out/dropped/long");
    let output = &stage(&sampled, "long")["output_bytes"];
    assert!(kept / 2.0 < number(&output["likely"]) && number(&output["likely"]) < kept * 2.0, "{kept}: {output}");
}

#[test]
fn a_corpus_that_is_read_to_its_end_is_known() {
    let project = project(2, 400);
    let all = estimate(&project, &["--sample", "100000"]);
    for (id, truth) in [("rows", 800.0), ("long", 600.0)] {
        assert_eq!(stage(&all, id)["rows_out"], serde_json::json!({"low": truth, "high": truth, "likely": truth}), "{id}");
    }
    assert_eq!(stage(&all, "unique")["rows_out"]["high"], 600.0);
    // Counted to the end, but few of them looked at.
    let some = estimate(&project, &["--sample", "100"]);
    assert_eq!(stage(&some, "long")["rows_in"], serde_json::json!({"low": 800.0, "high": 800.0, "likely": 800.0}));
    assert!(number(&stage(&some, "long")["rows_out"]["low"]) < 600.0);
    let limited = estimate(&project, &["--sample", "100", "--limit", "50"]);
    assert_eq!(stage(&limited, "rows")["rows_out"]["likely"], 50.0);
}

#[test]
fn people_are_told_what_is_known_and_what_is_wrong() {
    let project = project(2, 400);
    let said = project.call(&["plan", "pipeline.yaml", "--sample", "1000", "--threads", "3", "--memory", "600MiB"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let line = |id: &str| said.stdout.lines().rev().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("{id} in {}", said.stdout));
    assert!(line("rows ").contains(" 800 "), "{}", said.stdout);
    assert!(line("unique ").contains(" ≤ 600 ") && line("unique ").contains('≥'), "{}", said.stdout);
    assert!(said.stdout.contains("600 MiB of memory hold 1 task at once; 1.1 GiB would hold one for each of 3 threads"), "{}", said.stdout);
    assert!(line("disk ").contains(" are free"), "{}", said.stdout);
    let none = project.call(&["plan", "pipeline.yaml", "--sample", "10", "--memory", "100MiB"]);
    assert!(none.code == Some(2) && none.stderr.contains("do not hold one task"), "{none:#?}");
    let much = project.call(&["plan", "pipeline.yaml", "--sample", "10", "--memory", "900TiB"]);
    assert!(much.stdout.contains("it may use 900 TiB of memory, and the machine has"), "{}", much.stdout);
    assert!(!project.path("out").exists());
}
