//! What an edit re-runs, told from the done marks: from the nearest checkpoint, and no more.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use crate::harness::Project;
use crate::samples::{SMALL, curate};

/// The tasks that the last run did: those whose marks were not there before.
fn new_tasks(project: &Project, run: impl FnOnce()) -> BTreeSet<String> {
    let before = project.marks("out");
    run();
    let after = project.marks("out");
    after.into_iter().filter(|(name, (_, time))| before.get(name).is_none_or(|(_, old)| old != time)).map(|(_, (task, _))| task).collect()
}

fn edit(project: &Project, from: &str, to: &str) {
    let text = fs::read_to_string(project.path("pipeline.yaml")).expect("the pipeline");
    assert!(text.contains(from), "{from}");
    project.write("pipeline.yaml", text.replace(from, to));
}

/// The stages that tasks are of, by the words their labels begin and end with.
fn touches(tasks: &BTreeSet<String>, stage: &str) -> bool {
    tasks.iter().any(|task| task.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == stage))
}

#[test]
fn nothing_changed_nothing_done() {
    let project = curate();
    project.run(SMALL);
    for args in [&[][..], &["--threads", "1"], &["--threads", "8", "--memory", "4GiB"], &["--batch-rows", "7"]] {
        let tasks = new_tasks(&project, || {
            let said = project.run(&[SMALL, args].concat());
            assert!(said.stderr.contains("nothing to do"), "{said:#?}");
        });
        assert_eq!(tasks, BTreeSet::new(), "{args:?}");
    }
}

#[test]
fn spelling_out_a_default_or_reordering_settings_does_nothing() {
    let project = curate();
    project.run(SMALL);
    edit(
        &project,
        "{use: dedup_exact, from: long, normalize: casefold}",
        "{normalize: casefold, scope: global, use: dedup_exact, from: long}",
    );
    assert_eq!(new_tasks(&project, || drop(project.run(SMALL))), BTreeSet::new());
}

#[test]
fn an_edit_goes_on_from_the_nearest_checkpoint() {
    let project = curate();
    project.run(SMALL);
    // `sample` and `split` run fused after the stored output of `unique`.
    edit(&project, "fraction: 0.8", "fraction: 0.7");
    let tasks = new_tasks(&project, || drop(project.run(SMALL)));
    assert!(!tasks.is_empty() && tasks.iter().all(|task| task.starts_with("unique shard ") && task.ends_with(" to split")), "{tasks:?}");
    // `unique` reads the stored output of `long`, and all that reads `unique` follows it.
    edit(&project, "normalize: casefold", "normalize: none");
    let tasks = new_tasks(&project, || drop(project.run(SMALL)));
    assert!(!touches(&tasks, "docs") && !touches(&tasks, "long") && touches(&tasks, "split") && touches(&tasks, "counts"), "{tasks:?}");
    // What is fused with the sources starts from them, each source alone.
    edit(&project, "SELECT id, text, 'speeches' AS source", "SELECT id, text, 'addresses' AS source");
    let tasks = new_tasks(&project, || drop(project.run(SMALL)));
    assert!(touches(&tasks, "speeches") && !touches(&tasks, "docs") && !touches(&tasks, "novel"), "{tasks:?}");
}

#[test]
fn an_edited_run_ends_as_a_fresh_one_would() {
    let project = curate();
    project.run(SMALL);
    edit(&project, "min_chars: 20", "min_chars: 30");
    project.run(SMALL);
    let fresh = curate();
    edit(&fresh, "min_chars: 20", "min_chars: 30");
    fresh.run(SMALL);
    assert_eq!(crate::harness::differences(&project.files("out"), &fresh.files("out")), [""; 0]);
    fresh.run(&[SMALL, &["--fresh"]].concat());
    assert_eq!(crate::harness::differences(&project.files("out"), &fresh.files("out")), [""; 0]);
}

#[test]
fn an_output_without_rows_gets_the_columns_of_an_edited_stage() {
    let columns = |project: &Project| {
        let names = |batch: arrow::array::RecordBatch| batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let file = fs::File::open(project.path("out/none/part-00000.parquet")).expect("a part");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1).expect("Parquet");
        names(arrow::array::RecordBatch::new_empty(arrow::array::RecordBatchReader::schema(&reader)))
    };
    let project = Project::with(
        "
version: 1
name: t
output: out
stages:
  rows: {use: read_jsonl, path: a.jsonl}
  short: {use: filter_length, from: rows, max_chars: 1}
  none: {use: sql, from: short, statement: 'SELECT id, text FROM input'}
",
    );
    project.write("a.jsonl", "{\"id\": \"1\", \"text\": \"some text\"}\n");
    project.run(&[]);
    assert_eq!(columns(&project), ["id", "text"]);
    edit(&project, "SELECT id, text", "SELECT id, text AS body");
    project.run(&[]);
    assert_eq!(columns(&project), ["id", "body"]);
    assert!(project.run(&[]).stderr.contains("nothing to do"));
}

#[test]
fn a_touched_input_re_runs_nothing_and_a_changed_one_does() {
    let project = Project::with(
        "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: 'in/*.jsonl'}, unique: {use: dedup_exact, from: rows}}}",
    );
    project.write("in/a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
    project.write("in/b.jsonl", "{\"text\": \"two\"}\n{\"text\": \"three\"}\n");
    project.run(&[]);
    assert_eq!(project.column("out/unique", "text").len(), 3);
    let file = fs::File::options().append(true).open(project.path("in/a.jsonl")).expect("opened");
    file.set_modified(SystemTime::now() - Duration::from_hours(1)).expect("touched");
    assert_eq!(new_tasks(&project, || drop(project.run(&[]))), BTreeSet::new());
    project.write("in/a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"six\"}\n");
    file.set_modified(SystemTime::now() - Duration::from_hours(1)).expect("the same time as before");
    assert!(!new_tasks(&project, || drop(project.run(&[]))).is_empty());
    assert_eq!(project.column("out/unique", "text").len(), 4);
}

#[test]
fn a_damaged_checkpoint_is_noticed_and_made_again() {
    let project = curate();
    project.run(SMALL);
    let expected = project.files("out");
    let data = expected.keys().filter(|name| name.contains("/data/")).cloned().collect::<Vec<_>>();
    assert!(data.iter().any(|name| name.ends_with(".arrow")) && data.iter().any(|name| name.ends_with(".table")));
    for name in data.iter().step_by(data.len() / 5) {
        fs::remove_file(project.path("out").join(name)).expect("removed");
    }
    project.run(SMALL);
    assert_eq!(crate::harness::differences(&project.files("out"), &expected), [""; 0]);
    // A published part that somebody removed comes back too.
    fs::remove_file(project.path("out/split/part-00000.parquet")).expect("removed");
    project.run(SMALL);
    assert_eq!(crate::harness::differences(&project.files("out"), &expected), [""; 0]);
}

#[test]
fn checkpoints_may_be_small_or_go() {
    let (fast, small, gone) = (curate(), curate(), curate());
    fast.run(SMALL);
    for (project, mode) in [(&small, "small"), (&gone, "discard")] {
        edit(project, "output: out\n", &format!("output: out\ncheckpoints: {mode}\n"));
        project.run(SMALL);
        for folder in ["out/split", "out/split.holdout", "out/short", "out/counts", "out/dropped/unique"] {
            assert_eq!(project.table_hash(folder), fast.table_hash(folder), "{mode} {folder}");
        }
    }
    let bytes = |project: &Project| {
        project
            .files("out")
            .iter()
            .filter(|(name, _)| name.contains("/data/") && name.contains(".c."))
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>()
    };
    assert!(bytes(&small) * 2 < bytes(&fast), "{} against {}", bytes(&small), bytes(&fast));
    assert_eq!(bytes(&gone), 0);
}

#[test]
fn clean_keeps_what_was_published() {
    let project = curate();
    project.run(SMALL);
    let before = project.table_hash("out/split");
    let said = project.call(&["clean", "out"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!project.path("out/.pipeline/data").exists());
    assert_eq!(project.table_hash("out/split"), before);
    project.run(SMALL);
    assert_eq!(project.table_hash("out/split"), before);
}

#[test]
fn a_second_pipeline_does_not_replace_the_output_of_the_first_without_being_told() {
    let yaml = |name: &str| {
        format!(
            "version: 1\nname: {name}\noutput: out\nstages:\n  rows: {{use: read_jsonl, path: rows.jsonl}}\n  {name}: {{use: dedup_exact, from: rows}}\n"
        )
    };
    let project = Project::with(&yaml("first"));
    project.write("rows.jsonl", "{\"id\": \"1\", \"text\": \"one\"}\n");
    project.run(&[]);
    project.write("second.yaml", yaml("second"));
    for command in [&["run", "second.yaml"][..], &["plan", "second.yaml", "--tasks"]] {
        let said = project.call(command);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.stderr.contains("holds the output of another pipeline, `first` of ") && said.stderr.contains("--fresh"), "{said:#?}");
    }
    assert!(project.path("out/first").exists() && !project.path("out/second").exists());
    // A file that was moved, and a pipeline that was renamed in its file, go on.
    project.write("moved.yaml", yaml("first"));
    assert_eq!(project.call(&["run", "moved.yaml"]).code, Some(0));
    project.write("moved.yaml", yaml("renamed"));
    assert_eq!(project.call(&["run", "moved.yaml"]).code, Some(0));
    assert_eq!(project.call(&["run", "second.yaml", "--fresh"]).code, Some(0));
    assert!(project.path("out/second").exists() && !project.path("out/first").exists() && !project.path("out/renamed").exists());
}
