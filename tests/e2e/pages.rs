//! The pages that are made for people: the report's histograms, rows as a page, two runs against each other.

use serde_json::{Value, json};

use crate::harness::Project;

const FILTERED: &str = "
version: 1
name: filtered
output: out
stages:
  rows: {use: read_jsonl, path: rows.jsonl, columns: {id: string, text: string}}
  long: {use: filter_length, from: rows, min_chars: 20, max_chars: 90}
";

/// A hundred rows of 0 to 99 characters, and one without a text.
fn filtered() -> Project {
    let project = Project::with(FILTERED);
    let mut rows: Vec<String> = (0..100).map(|n| json!({"id": n.to_string(), "text": "é".repeat(n)}).to_string()).collect();
    rows.push(json!({"id": "none", "text": null}).to_string());
    project.write("rows.jsonl", rows.join("\n"));
    project
}

fn stage(record: &Value, id: &str) -> Value {
    record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect(id).clone()
}

#[test]
fn every_row_is_measured_against_the_bounds_however_the_work_is_cut() {
    let project = filtered();
    project.run(&[]);
    let measured = stage(&project.record("out"), "long")["measured"].clone();
    let chars = &measured["chars"];
    let sum = |column: &str| chars["bins"][column].as_array().expect(column).iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((sum("kept"), sum("dropped"), chars["range"].clone()), (71, 29, json!([0.0, 99.0])));
    // 19 and 18 are within 10 % of 20, and 19 within 5 %; of what is kept, 20 would go at 21, and 21 at 22.
    let bound = |place: usize| ["setting", "beyond", "widened", "tightened"].map(|key| chars["bounds"][place][key].clone());
    assert_eq!(bound(0), [json!("min_chars"), json!(20), json!([1, 2]), json!([1, 2])]);
    // 91 to 94 are within 4.5 of 90, and 91 to 99 within 9; of what is kept, 86 to 90 would go at 85.5, and 82 to 90 at 81.
    assert_eq!(bound(1), [json!("max_chars"), json!(9), json!([4, 9]), json!([5, 9])]);

    for way in [&["--batch-rows", "1", "--threads", "1"][..], &["--shard-rows", "7", "--threads", "4"]] {
        let other = filtered();
        other.run(way);
        assert_eq!(stage(&other.record("out"), "long")["measured"], measured, "{way:?}");
    }

    // The page is made of run.json alone.
    std::fs::remove_file(project.path("out/report.html")).expect("there was a report");
    assert_eq!(project.call(&["report", "out"]).code, Some(0));
    let page = std::fs::read_to_string(project.path("out/report.html")).expect("a page");
    for wanted in ["<section id=\"thresholds\">", "min_chars 20</text>", "max_chars 90</text>", "1 row was not measured"] {
        assert!(page.contains(wanted), "{wanted}");
    }
}
