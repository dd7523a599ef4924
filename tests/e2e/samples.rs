//! The pipeline of `tests/pipelines/curate.yaml`, as the other tests run it.

use crate::harness::{Project, repository};

/// What makes its shards so small that there are many tasks.
pub(crate) const SMALL: &[&str] = &["--shard-rows", "400"];

pub(crate) fn curate() -> Project {
    Project::with(&std::fs::read_to_string(repository().join("tests/pipelines/curate.yaml")).expect("the pipeline"))
}

#[test]
fn every_row_is_kept_dropped_or_rejected_and_the_counts_say_so() {
    let project = curate();
    project.run(&[]);
    let record = project.record("out");
    assert_eq!(record["state"], "done");
    let stage = |id: &str| record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect(id).clone();
    for id in ["long", "unique", "sample"] {
        let (rows_in, kept) = (stage(id)["rows_in"].as_u64().expect("rows"), stage(id)["rows_out"]["out"].as_u64().expect("rows"));
        let dropped = project.count(&format!("out/dropped/{id}")) as u64;
        assert!(dropped > 0 && kept > 0, "{id} drops some and keeps some");
        assert_eq!(rows_in, kept + dropped, "{id}");
        let by_reason: u64 = stage(id)["dropped"].as_object().expect("reasons").values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(by_reason, dropped, "{id}");
    }
    let (train, holdout) = (project.count("out/split"), project.count("out/split.holdout"));
    assert_eq!(stage("sample")["rows_out"]["out"].as_u64(), Some((train + holdout) as u64));
    assert!(!project.path("out/rejected").exists(), "nothing was rejected");
    // What `unique` kept has no two texts that are equal but for case and white space; it is read by three stages.
    let mut kept = project.column("out/split", "text");
    kept.extend(project.column("out/split.holdout", "text"));
    let folded: Vec<String> =
        kept.into_iter().flatten().map(|text| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(folded.iter().collect::<std::collections::HashSet<_>>().len(), folded.len());
    // Each duplicate names a row that was kept.
    let unique: std::collections::HashSet<_> =
        ["out/split", "out/split.holdout", "out/dropped/sample"].iter().flat_map(|folder| project.column(folder, "id")).collect();
    for kept in project.column("out/dropped/unique", "duplicate_of") {
        assert!(unique.contains(&kept), "{kept:?}");
    }
    assert_eq!(project.count("out/counts"), 3);
}

#[test]
fn a_limit_reads_the_first_rows_and_leaves_the_real_output_alone() {
    let project = curate();
    project.run(&["--limit", "50"]);
    assert!(!project.path("out").exists());
    let record = project.record("out.limit50");
    for id in ["docs", "novel"] {
        let stage = record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect(id);
        assert_eq!(stage["rows_out"]["out"], 50, "{id}");
    }
}

#[test]
fn a_target_runs_what_it_needs_and_no_more() {
    let project = curate();
    project.run(&["--to", "long"]);
    assert!(project.count("out/long") > 0);
    assert!(!project.path("out/split").exists());
    project.run(&[]);
    assert!(!project.path("out/long").exists(), "as part of the whole it is no output");
    assert!(project.count("out/split") > 0);
}
