//! What the readers of an output see: Hugging Face datasets, pyarrow, polars and `DuckDB` from `PyPI`, which `tests/run-all` installs.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Project, repository};
use crate::samples::curate;

/// What every reader finds in `out`; `None`, with a word why, where the readers are not installed.
pub(crate) fn read(project: &Project) -> Option<Value> {
    let python = std::env::var_os("GRANARY_READERS_PYTHON").map_or_else(|| repository().join(".assets/readers/bin/python"), Into::into);
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have the readers: {}", python.display());
        eprintln!("skipped: datasets, pyarrow, polars and duckdb not installed");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(repository().join("tests/readers.py")).arg(project.path("out"));
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", project.path("hf"));
    let output = command.output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("one JSON object"))
}

#[test]
fn every_reader_opens_the_output_with_only_the_kept_rows() {
    let project = curate();
    project.run(&[]);
    let Some(found) = read(&project) else { return };
    let (train, holdout) = (project.count("out/split"), project.count("out/split.holdout"));
    assert_eq!(found["datasets"]["split"], json!({"train": train, "holdout": holdout}));
    assert_eq!(found["datasets"]["counts"], json!({"train": 3}));
    let folders = json!({"counts": 3, "near": project.count("out/near"), "near.clusters": project.count("out/near.clusters"), "near.edges": project.count("out/near.edges"), "short": project.count("out/short"), "split": train, "split.holdout": holdout});
    for reader in ["pyarrow", "polars", "duckdb"] {
        assert_eq!(found[reader], folders, "{reader}");
    }
    assert_eq!(found["types"]["split"], json!({"id": "Value('string')", "text": "Value('string')", "source": "Value('string')"}));
}

#[test]
fn every_reader_opens_an_output_with_an_empty_part() {
    let project = Project::with(
        "
version: 1
name: t
output: out
stages:
  rows: {use: read_jsonl, path: rows.jsonl}
  none: {use: filter_length, from: rows, min_chars: 1000}
  all:  {use: split_holdout, from: rows, fraction: 0}
",
    );
    project.write("rows.jsonl", "{\"text\": \"short\", \"n\": 1, \"tags\": [\"a\"], \"meta\": {\"x\": 0.5}}\n");
    project.run(&[]);
    let Some(found) = read(&project) else { return };
    // `datasets` refuses a split without rows, so the card names only the others.
    assert_eq!(found["datasets"], json!({"all": {"train": 1}}));
    for reader in ["pyarrow", "polars", "duckdb"] {
        assert_eq!(found[reader], json!({"none": 0, "all": 1, "all.holdout": 0}), "{reader}");
    }
    let types = &found["types"]["all"];
    assert_eq!(types["n"], "Value('int64')");
    assert_eq!(types["tags"], "List(Value('string'))");
    assert_eq!(types["meta"], "{'x': Value('float64')}");
}
