//! What a nightly job leans on: expectations that stop a run before it publishes, and how much is written of what was dropped.

use arrow::array::AsArray;

use crate::harness::{Project, differences};

const GATED: &str = "
version: 1
name: gated
output: out
stages:
  rows: {use: read_jsonl, path: rows.jsonl, columns: {id: string, text: string, url: string}, keep: true}
  long: {use: filter_length, from: rows, min_chars: 4, EXPECT}
  next: {use: shuffle, from: long}
";

fn gated(expect: &str) -> Project {
    let project = Project::with(&GATED.replace("EXPECT", expect));
    let row = |n: usize| {
        let url = if n == 17 { "null".to_owned() } else { format!("\"u{n}\"") };
        format!(r#"{{"id": "{n}", "text": "{}", "url": {url}}}"#, "x".repeat(n % 10))
    };
    project.write("rows.jsonl", (0..100).map(row).collect::<Vec<_>>().join("\n"));
    project
}

#[test]
fn what_is_expected_is_checked_before_anything_is_published() {
    let project = gated("expect: {rows: \">= 60\", not_null: [text], dropped_share: \"<= 40%\"}");
    project.run(&[]);
    let before = project.files("out/next");
    // What holds no more stops the run; what was published stays as it is.
    project.write("pipeline.yaml", GATED.replace("EXPECT", "expect: {rows: \"> 60\", not_null: [url, text], dropped_share: \"< 0.4\"}"));
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    let text = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
    for unmet in [
        "stage `long` is not as expected",
        "`rows: > 60` is wanted, 60 leave it",
        "`not_null: url` is wanted, 1 of 60 rows have none",
        "`dropped_share: < 0.4` is wanted, it is 0.4000, 40 of 100 rows",
    ] {
        assert!(text.contains(unmet), "{unmet}: {text}");
    }
    assert_eq!(differences(&project.files("out/next"), &before), [""; 0]);
    // Who reads by the record finds yesterday's parts.
    let record = project.record("out");
    let next = record["stages"].as_array().unwrap().iter().find(|stage| stage["id"] == "next").unwrap();
    assert_eq!((&next["published"][0]["folder"], &next["published"][0]["rows"]), (&"next".into(), &60.into()), "{next}");
    let said = project.call(&["status", "out"]);
    assert!(said.stdout.contains("stopped: stage `long` is not as expected"), "{said:#?}");
    // An expectation is no part of what rows depend on: taken back, there is nothing to do.
    project.write("pipeline.yaml", GATED.replace("EXPECT", "min_chars: 4").replace("min_chars: 4, min_chars: 4", "min_chars: 4"));
    assert!(project.run(&[]).stderr.contains("nothing to do"));
}

#[test]
fn in_a_first_run_nothing_of_the_stage_is_published_but_what_it_dropped() {
    let project = gated("expect: {rows: \"== 61\"}");
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert_eq!((project.path("out/next").exists(), project.count("out/dropped/long")), (false, 40));
    // A part of the rows can't be as many.
    let said = project.call(&["run", "pipeline.yaml", "--limit", "20"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
}

#[test]
fn wrong_expectations_are_told_at_their_place() {
    let cases = [
        (
            "expect: {rows: \"=> 5\", not_null: [txet]}",
            ["a bound is `<`, `<=`, `==`, `>=` or `>` and a number", "`txet`, a column it does not give", "did you mean `text`?"],
        ),
        (
            "expect: {droped_share: \"< 5\", not_null: text}",
            ["no setting `expect.droped_share`", "did you mean `dropped_share`?", "`expect.not_null` must be a list"],
        ),
    ];
    for (expect, problems) in cases {
        let said = gated(expect).call(&["check", "pipeline.yaml"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        let text = said.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        for problem in problems {
            assert!(text.contains(problem), "{problem}: {text}");
        }
    }
}

#[test]
fn of_dropped_rows_all_or_their_ids_or_nothing_is_written() {
    let columns = |mode: &str| {
        let project = gated(&format!("dropped: {mode}"));
        project.run(&[]);
        if !project.path("out/dropped").exists() {
            return Vec::new();
        }
        let batch = project.rows("out/dropped/long").remove(0);
        assert_eq!(batch.column_by_name("id").unwrap().as_string::<i32>().value(1), "1");
        batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    let why = ["drop_reason", "drop_value", "drop_threshold", "duplicate_of"];
    assert_eq!(columns("rows"), [&["id", "text", "url"][..], &why].concat());
    assert_eq!(columns("ids"), [&["id"][..], &why].concat());
    assert_eq!(columns("none"), [""; 0]);

    // The setting at the top is for all stages, and going back writes what was not written.
    let project = gated("min_chars: 4");
    let file = GATED.replace(", EXPECT", "");
    project.write("pipeline.yaml", file.replace("output: out", "output: out\ndropped: none"));
    let said = project.run(&[]);
    assert!(!project.path("out/dropped").exists() && said.stderr.contains("40 dropped"), "{said:#?}");
    project.write("pipeline.yaml", &file);
    project.run(&[]);
    assert_eq!(project.count("out/dropped/long"), 40);
    project.write("pipeline.yaml", file.replace("output: out", "output: out\ndropped: none"));
    project.run(&[]);
    assert!(!project.path("out/dropped").exists(), "what is not wanted any more goes");
}
