//! The log that each run leaves in its output.

use std::fs;
use std::process::Stdio;

use crate::harness::{Project, said};
use crate::resume::tiny;

impl Project {
    /// The lines of the latest log, without their times: level, stage, task, text.
    fn log(&self) -> Vec<[String; 4]> {
        let status: serde_json::Value = serde_json::from_str(&self.call(&["status", "out", "--json"]).stdout).expect("JSON");
        let text = fs::read_to_string(self.path(status["log"].as_str().expect("a log"))).expect("it is there");
        assert!(text.ends_with('\n'), "{text}");
        let line = |line: &str| {
            let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            let [time, rest @ ..] = <[String; 5]>::try_from(fields).unwrap_or_else(|fields| panic!("{fields:?}"));
            assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{time}");
            rest
        };
        text.lines().map(line).collect()
    }
}

fn has(log: &[[String; 4]], wanted: [&str; 4]) -> bool {
    log.iter().any(|line| line.iter().zip(wanted).all(|(field, wanted)| field.contains(wanted)))
}

#[test]
fn a_run_says_what_it_was_told_what_it_did_and_how_it_ended() {
    let project = tiny();
    let run = project.command().args(["run", "pipeline.yaml", "--threads", "1"]).env("SECRET_OF_MINE", "swordfish").output();
    assert_eq!(said(run.expect("the command starts")).code, Some(0));
    let log = project.log();
    for wanted in [
        ["info", "-", "-", "run pipeline.yaml --threads 1"],
        ["info", "-", "-", "pipeline `tiny`, seed 5, 1 tasks at once"],
        ["info", "long", "-", r#"filter_length 1: {"column":"text","min_chars":7"#],
        ["info", "unique", "unique hash: shard 0", "begun"],
        ["info", "long", "rows split 0 to long", " s: 61 rows in, 1 rejected, "],
        ["warn", "rows", "-", "rejected rows/rows.jsonl@"],
        ["info", "split", "-", "split.holdout: "],
        ["info", "rows", "-", "61 rows in, 60 out, 0 dropped, 1 rejected"],
        ["info", "-", "-", "done after "],
    ] {
        assert!(has(&log, wanted), "{wanted:?} in {log:#?}");
    }
    assert!(!log.iter().flatten().any(|field| field.contains("swordfish")), "{log:#?}");
    assert!(project.call(&["status", "out"]).stdout.contains("log  out/.pipeline/logs/20"));
    project.run(&[]);
    assert_eq!(fs::read_dir(project.path("out/.pipeline/logs")).expect("logs").count(), 2);
    assert!(has(&project.log(), ["info", "unique", "-", "1 of 1 tasks were done before"]));
    // It is nobody's work and nobody's business.
    let before = project.files("out");
    project.call(&["clean", "out"]);
    project.run(&[]);
    assert_eq!(crate::harness::differences(&project.files("out"), &before), [""; 0]);
}

#[test]
fn an_error_stands_there_with_all_that_it_came_from() {
    let project = tiny();
    project.write("rows.jsonl", "{\"id\": \"1\", \"text\": 7}\n".repeat(30));
    assert_eq!(project.call(&["run", "pipeline.yaml"]).code, Some(3));
    let log = project.log();
    assert!(has(&log, ["error", "-", "-", "stage `rows` rejected 30 of 30 rows"]), "{log:#?}");
    assert!(has(&log, ["info", "-", "-", "stopped after "]), "{log:#?}");
    assert_eq!(log.iter().filter(|line| line[3].starts_with("rejected ")).count(), 3, "a sample: {log:#?}");
    // What stands in the way of a run before it begins.
    project.write("out/split/mine.txt", "mine");
    assert_eq!(project.call(&["run", "pipeline.yaml"]).code, Some(1));
    assert!(has(&project.log(), ["error", "-", "-", "holds mine.txt"]));
}

#[test]
fn what_was_written_before_a_kill_stays() {
    let project = tiny();
    let waits = "stages:\n  wait: {use: command, from: rows, run: [sh, wait.sh], adds: {x: int64}}\n";
    let yaml = fs::read_to_string(project.path("pipeline.yaml")).expect("the file");
    project.write("pipeline.yaml", yaml.replace("stages:\n", waits));
    project.write("wait.sh", "while read -r line; do sleep 100; done\n");
    let mut run = project.command();
    let mut run = run.args(["run", "pipeline.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let begun = |project: &Project| {
        let logs = fs::read_dir(project.path("out/.pipeline/logs")).into_iter().flatten().flatten();
        logs.filter_map(|entry| fs::read_to_string(entry.path()).ok()).any(|text| text.contains("\tbegun\n"))
    };
    while !begun(&project) {
        assert!(run.try_wait().expect("a child").is_none(), "it waits");
        std::thread::yield_now();
    }
    run.kill().expect("killed");
    said(run.wait_with_output().expect("it ended"));
    assert!(has(&project.log(), ["info", "-", "-", "pipeline `tiny`"]));
    assert!(project.call(&["status", "out"]).stdout.contains("not finished"));
}

#[test]
fn a_run_goes_on_without_a_log() {
    let project = tiny();
    project.run(&[]);
    let expected = project.files("out");
    fs::remove_dir_all(project.path("out")).expect("removed");
    project.write("out/.pipeline/logs", "in the way");
    let run = project.run(&[]);
    assert_eq!(run.stderr.matches("the log of this run can't be written, and the run goes on without").count(), 1, "{run:#?}");
    fs::remove_file(project.path("out/.pipeline/logs")).expect("still there");
    assert_eq!(crate::harness::differences(&project.files("out"), &expected), [""; 0]);
}
