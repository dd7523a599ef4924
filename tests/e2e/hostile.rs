//! What hostile data and careless files do: told in a rejection or an error, never a panic, never rows lost in silence.

use crate::harness::Project;

#[test]
fn a_csv_file_with_an_open_quote_and_windows_line_ends_loses_no_row_in_silence() {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_csv, path: rows.csv}}}");
    project.write("rows.csv", "id,text\r\n1,a\r\n2,b,c\r\n\r\n3,\"never closed\r\n4,d\r\n");
    project.run(&[]);
    assert_eq!(project.column("out/rows", "id"), [Some("1".to_owned())]);
    assert_eq!(project.column("out/rejected/rows", "id"), [Some("rows/rows.csv@14".to_owned()), Some("rows/rows.csv@23".to_owned())]);
    assert_eq!(project.column("out/rejected/rows", "reason")[1].as_deref(), Some("quote_not_closed"));
}

#[test]
fn csv_files_of_other_columns_are_told_of_by_check() {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_csv, path: in}}}");
    project.write("in/a.csv", "id,text\n1,a\n");
    project.write("in/b.csv", "id,txt\n1,a\n");
    let said = project.call(&["check", "pipeline.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("`text`") && said.stderr.contains("`txt`"), "{said:#?}");
}

#[test]
fn an_id_that_no_file_system_holds_is_refused() {
    let id = "x".repeat(300);
    let project = Project::with(&format!("{{version: 1, name: t, output: out, stages: {{{id}: {{use: read_jsonl, path: rows.jsonl}}}}}}"));
    project.write("rows.jsonl", "{\"text\": \"a\"}\n");
    let said = project.call(&["check", "pipeline.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("at most 100 characters"), "{said:#?}");
}
