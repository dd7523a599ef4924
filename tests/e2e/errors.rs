//! What a person does wrong, and what they are told.

use crate::harness::Project;
use crate::samples::curate;

const ROWS: &str = "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl, columns: {text: string}}}}";

#[test]
fn too_many_rejected_rows_stop_the_run_with_3_and_can_be_looked_at() {
    let project = Project::with(ROWS);
    let rows: Vec<String> = (0..100).map(|n| if n % 5 == 0 { "{broken".to_owned() } else { format!(r#"{{"text": "{n}"}}"#) }).collect();
    project.write("rows.jsonl", rows.join("\n"));
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(said.stderr.contains("stage `rows` rejected 20 of 100 rows"), "{said:#?}");
    assert!(!project.path("out/rows").exists(), "nothing is published");
    assert_eq!(project.count("out/rejected/rows"), 20);
    let said = project.call(&["status", "out"]);
    assert!(said.stdout.contains("stopped: stage `rows` rejected 20 of 100 rows"), "{said:#?}");
    // Allowed, the run goes on without doing anything again.
    project.write("pipeline.yaml", ROWS.replace("output: out", "output: out, max_rejected: 0.5"));
    let said = project.run(&[]);
    assert!(said.stderr.contains("nothing to do"), "{said:#?}");
    assert_eq!(project.count("out/rows"), 80);
}

#[test]
fn a_second_run_on_one_output_is_refused() {
    let project = curate();
    project.run(&[]);
    let lock = std::fs::File::open(project.path("out/.pipeline/lock")).expect("the lock");
    lock.lock().expect("locked");
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.stderr.contains("another run"), "{said:#?}");
    let said = project.call(&["status", "out"]);
    assert!(said.stdout.contains("running"), "{said:#?}");
}

#[test]
fn files_of_others_are_never_written_over() {
    let project = curate();
    project.write("out/notes.txt", "mine");
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.stderr.contains("notes.txt"), "{said:#?}");
    std::fs::remove_dir_all(project.path("out")).expect("removed");
    project.run(&[]);
    project.write("out/split/notes.txt", "mine");
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.stderr.contains("notes.txt"), "{said:#?}");
    assert_eq!(std::fs::read(project.path("out/split/notes.txt")).expect("still there"), b"mine");
}

#[test]
fn too_little_memory_is_refused_before_anything_is_done() {
    let project = curate();
    let said = project.call(&["run", "pipeline.yaml", "--memory", "64MiB"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("do not hold one task"), "{said:#?}");
    assert!(!project.path("out").exists());
    let said = project.call(&["run", "pipeline.yaml", "--memory", "lots"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("512MiB"), "{said:#?}");
}

#[test]
fn an_unknown_target_and_a_wrong_file_end_with_2() {
    let project = curate();
    assert_eq!(project.call(&["run", "pipeline.yaml", "--to", "nowhere"]).code, Some(2));
    assert_eq!(project.call(&["run", "missing.yaml"]).code, Some(2));
    assert_eq!(project.call(&["run"]).code, Some(2));
    project.write("pipeline.yaml", "version: 1\nname: t\nstages:\n  rows: {use: read_jsnol, path: rows.jsonl}\n");
    let said = project.call(&["check", "pipeline.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("did you mean `read_jsonl`"), "{said:#?}");
}

#[test]
fn plan_looks_and_leaves_nothing() {
    let project = curate();
    let said = project.call(&["plan", "pipeline.yaml"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("unknown"), "{said:#?}");
    assert!(!project.path("out").exists());
    project.run(&[]);
    let said = project.call(&["plan", "pipeline.yaml"]);
    assert!(said.stdout.contains("all done"), "{said:#?}");
    let said = project.call(&["plan", "pipeline.yaml", "--mermaid"]);
    assert!(said.stdout.starts_with("flowchart TD\n") && said.stdout.contains("unique"), "{said:#?}");
}

#[test]
fn near_duplicates_hang_on_a_row_that_was_kept() {
    let project = curate();
    project.run(&[]);
    let ids = project.column("out/near", "id");
    let (dropped, of) = (project.column("out/dropped/near", "id"), project.column("out/dropped/near", "duplicate_of"));
    let record = project.record("out");
    let near = record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == "near").expect("near");
    assert_eq!(near["views"], serde_json::json!(["clusters", "edges"]), "its clusters show rows that are counted elsewhere");
    assert!(dropped.len() > 10, "{} near-duplicates", dropped.len());
    for (id, of) in dropped.iter().zip(&of) {
        assert!(!ids.contains(id) && ids.contains(of), "{id:?} of {of:?}");
    }
    let said = project.call(&["trace", "out", dropped[0].as_deref().expect("an id")]);
    let kept = of[0].as_deref().expect("an id");
    assert!(
        said.stdout.contains("What links it to the row that is kept, by near:\n") && said.stdout.contains(", met in bands ["),
        "{said:#?}"
    );
    assert!(said.stdout.contains("near_duplicate: 0.") && said.stdout.contains(&format!("a duplicate of {kept}")), "{said:#?}");
}

#[test]
fn trace_tells_the_life_of_a_row() {
    let project = curate();
    project.run(&[]);
    let id = project.column("out/dropped/unique", "id")[0].clone().expect("an id");
    let kept = project.column("out/dropped/unique", "duplicate_of")[0].clone().expect("an id");
    let said = project.call(&["trace", "out", &id]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.contains("duplicate") && said.stdout.contains(&kept), "{said:#?}");
    assert_eq!(project.call(&["trace", "out", "no such row"]).code, Some(1));
}

#[test]
fn a_tokenizer_that_contradicts_itself_is_an_error_and_no_panic() {
    let counted = "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl, columns: {text: string}}, \
                   n: {use: count_tokens, from: rows, tokenizer: tokenizer.json}}}";
    let project = Project::with(counted);
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/tokenizer.json");
    let file = std::fs::read_to_string(whole).expect("a tokenizer").replace("\"id\": \"<s>\"", "\"id\": \"<nowhere>\"");
    project.write("tokenizer.json", file);
    project.write("rows.jsonl", "{\"text\": \"a\"}\n");
    let said = project.call(&["check", "pipeline.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("contradicts") && !said.stderr.contains("panicked"), "{said:#?}");
}
