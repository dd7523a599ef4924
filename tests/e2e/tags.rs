//! `on_fail: tag`: the rows that a stage decides against stay in their place, and say why.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;

use crate::harness::{Project, differences};

/// Two stages that decide, one row by row, one over all rows, and one that takes what both let pass.
fn yaml(on_fail: &str) -> String {
    format!(
        "
version: 1
name: tags
output: out
stages:
  rows:   {{use: read_jsonl, path: rows.jsonl}}
  long:   {{use: filter_length, from: rows, min_chars: 7, on_fail: {on_fail}}}
  unique: {{use: dedup_exact, from: long, on_fail: {on_fail}, keep: true}}
"
    )
}

const GOOD: &str = "  good: {use: sql, from: unique, statement: 'SELECT id, text FROM input WHERE long_drop_reason IS NULL AND unique_drop_reason IS NULL'}\n";

fn project(file: &str) -> Project {
    let project = Project::with(file);
    let rows: String = (0..200).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"text {}\"}}\n", n * n % 200)).collect();
    project.write("rows.jsonl", rows);
    project
}

fn all_rows(project: &Project, folder: &str) -> RecordBatch {
    let batches = project.rows(folder);
    concat_batches(&batches[0].schema(), &batches).expect("parts of one schema")
}

#[test]
fn rows_that_would_be_dropped_stay_in_their_place_and_say_why() {
    let tagged = project(&(yaml("tag") + GOOD));
    tagged.run(&["--shard-rows", "16"]);
    let rows = all_rows(&tagged, "out/unique");
    let schema = rows.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let tags = |id: &str| ["drop_reason", "drop_value", "drop_threshold", "duplicate_of"].map(|name| format!("{id}_{name}"));
    assert_eq!(names, [vec!["id".to_owned(), "text".to_owned()], tags("long").to_vec(), tags("unique").to_vec()].concat());

    let ids: Vec<String> = tagged.column("out/unique", "id").into_iter().flatten().collect();
    assert_eq!(ids, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    let texts = tagged.column("out/unique", "text");
    let (reasons, of) = (tagged.column("out/unique", "long_drop_reason"), tagged.column("out/unique", "unique_duplicate_of"));
    let values = rows.column_by_name("long_drop_value").expect("a column").as_primitive::<Float64Type>().clone();
    let first = |text: &Option<String>| texts.iter().position(|other| other == text).expect("itself at least").to_string();
    for row in 0..200 {
        let text = texts[row].as_deref().expect("a text");
        assert_eq!(reasons[row].as_deref(), (text.len() < 7).then_some("too_short"), "{text}");
        assert_eq!(values.is_valid(row).then(|| values.value(row)), (text.len() < 7).then_some(text.len() as f64));
        assert_eq!(of[row].clone(), Some(first(&texts[row])).filter(|first| *first != row.to_string()), "{text}");
    }

    // What passes both is what is left when both drop.
    let dropping = project(&yaml("drop"));
    dropping.run(&["--shard-rows", "16"]);
    for column in ["id", "text"] {
        assert_eq!(tagged.column("out/good", column), dropping.column("out/unique", column));
    }
    assert!(!tagged.path("out/dropped").exists());
}

#[test]
fn a_record_counts_tagged_rows_as_rows_that_went_on() {
    let project = project(&yaml("tag"));
    let said = project.run(&[]);
    let record = project.record("out");
    let stage = |id: &str| record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect(id).clone();
    let short = project.column("out/unique", "text").iter().flatten().filter(|text| text.len() < 7).count();
    assert_eq!(stage("long")["tagged"], serde_json::json!({"too_short": short}));
    assert_eq!((&stage("long")["rows_out"], &stage("long")["dropped"]), (&serde_json::json!({"out": 200}), &serde_json::json!({})));
    assert_eq!(stage("unique")["rows_in"], 200);
    let report = std::fs::read_to_string(project.path("out/report.html")).expect("a report");
    assert!(report.contains(&format!("{short} tagged</small>")) && report.contains("<b class=\"drop\">Tagged</b> by"));
    let card = std::fs::read_to_string(project.path("out/README.md")).expect("a card");
    assert!(card.contains(&format!("| `long` | 200 | 200 | {short} `too_short` | – | – |")), "{card}");
    assert!(said.stderr.contains("tagged"), "{said:#?}");
    let trace = project.call(&["trace", "out", "20"]).stdout;
    assert!(trace.contains("long    filter_length  tagged because too_short: 6 < 7"), "{trace}");
    assert!(
        trace.contains("unique  dedup_exact    tagged because duplicate, a duplicate of 0 (unique/part-00000.parquet, row 20)"),
        "{trace}"
    );
    assert!(
        trace.contains("The row it duplicates, 0: tagged because too_short") || trace.contains("The row it duplicates, 0: kept"),
        "{trace}"
    );
}

#[test]
fn tags_are_the_same_bytes_however_the_run_goes() {
    let expected = project(&yaml("tag"));
    expected.run(&["--shard-rows", "16", "--threads", "1"]);
    let other = project(&yaml("tag"));
    let crashed = other.call(&["run", "pipeline.yaml", "--shard-rows", "16", "--threads", "2", "--batch-rows", "3", "--crash-at", "9"]);
    assert_eq!(crashed.code, None, "{crashed:#?}");
    other.run(&["--shard-rows", "16", "--threads", "4", "--batch-rows", "5"]);
    assert_eq!(differences(&other.files("out"), &expected.files("out")), [""; 0]);
}

#[test]
fn a_stage_that_tags_after_all_runs_again() {
    let project = project(&yaml("drop"));
    project.run(&[]);
    assert!(project.path("out/dropped/unique").exists());
    project.write("pipeline.yaml", yaml("tag"));
    project.run(&[]);
    assert_eq!((project.count("out/unique"), project.path("out/dropped").exists()), (200, false));
    project.write("pipeline.yaml", yaml("drop"));
    project.run(&[]);
    assert_eq!(project.count("out/unique") + project.count("out/dropped/unique") + project.count("out/dropped/long"), 200);
}

#[test]
fn a_share_of_tagged_rows_is_held_against_dropped_share() {
    let project = project(
        &(yaml("tag")
            + "  short: {use: filter_length, from: rows, max_chars: 6, on_fail: tag, expect: {dropped_share: \"< 10%\", rows: \"== 200\"}}\n"),
    );
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(said.stderr.contains("`dropped_share: < 10%` is wanted"), "{said:#?}");
    assert!(!said.stderr.contains("`rows:"), "{said:#?}");
}
