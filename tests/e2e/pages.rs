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

#[test]
fn rows_become_a_page_that_hostile_data_cannot_leave() {
    let project = filtered();
    let hostile = "<script>alert(1)</script>\u{202e}\u{0}<img src=x onerror=alert(2)>";
    let rows = [
        json!({"id": "chat", "messages": [{"role": "user", "content": "سلام"}, {"role": "assistant", "content": hostile}]}),
        json!({"id": hostile, "url": "javascript:alert(3)", "text": "x".repeat(10 << 20)}),
        json!({"id": "link", "url": "https://example.org/a?b=1&c=2"}),
    ];
    project.write("chat.jsonl", rows.map(|row| row.to_string()).join("\n"));
    let said = project.call(&["inspect", "chat.jsonl", "--html", "page.html"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:#?}");
    let page = std::fs::read_to_string(project.path("page.html")).expect("a page");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    assert!(page.contains("Content-Security-Policy") && !page.contains("<script") && !page.contains("<img"));
    for wanted in [
        "<div class=\"turn user\">",
        "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩␀",
        "cut: the first 40,000 of 10,485,760 characters",
        "<a href=\"https://example.org/a?b=1&amp;c=2\" rel=\"noreferrer noopener nofollow\"",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("href=\"javascript"));
    assert!(!project.call(&["inspect", "chat.jsonl", "--html", "chat.jsonl"]).stderr.is_empty());
    assert_eq!(project.call(&["inspect", "chat.jsonl", "--html", "chat.jsonl"]).code, Some(2));

    // Of an output: everything in it, dropped and rejected rows with their reasons.
    project.write("rows.jsonl", "{\"id\": \"a\", \"text\": \"short\"}\n{no json\n");
    project.run(&[]);
    let said = project.call(&["inspect", "out", "--html", "-"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for wanted in
        ["dropped: <b><bdi>too_short</bdi></b> · 5 &lt; 20", "<h3><bdi>rows.jsonl@29</bdi></h3>", "<article class=\"row rejected\">"]
    {
        assert!(said.stdout.contains(wanted), "{wanted}: {said:#?}");
    }
}

#[test]
fn two_runs_are_compared_and_the_other_one_is_left_alone() {
    let project = filtered();
    project.run(&[]);
    std::fs::rename(project.path("out"), project.path("old")).expect("moved");
    let old = project.files("old");
    project.run(&["--threads", "1"]);
    let said = project.call(&["report", "out", "--diff", "old"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("\nequal: recipe, settings, versions, every count, and files to the byte\n"), "{said:#?}");

    project.write("pipeline.yaml", FILTERED.replace("min_chars: 20", "min_chars: 18"));
    project.run(&[]);
    let said = project.call(&["report", "out", "--diff", "old"]);
    let told: Vec<&str> = said.stdout.lines().take_while(|line| !line.starts_with("time ")).collect();
    assert_eq!(
        told,
        [
            "before  old",
            "now     out",
            "4 differences",
            "  recipe: 1 line new, 1 gone",
            "  long: min_chars 20 → 18",
            "  long: rows out 71 → 73, +2 (+2.8 %)",
            "  long: dropped as too_short 20 → 18, −2 (−10.0 %)",
        ],
        "{said:#?}"
    );
    let page = std::fs::read_to_string(project.path("out/report-diff.html")).expect("a page");
    for wanted in ["min_chars: 18", "<small class=\"up\">+2 (+2.8 %)</small>", "before: min_chars 20</text>", "min_chars 18</text>"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert_eq!(project.files("old"), old);
    assert_eq!(project.call(&["report", "out", "--diff", "nowhere"]).code, Some(1));
    assert_eq!(project.call(&["report", "out", "--output", "a.html"]).code, Some(2));
    // A rerun that does nothing takes the page for no part of the output, and no reader is disturbed.
    assert!(project.run(&[]).stderr.contains("nothing to do"));
}
