//! Killed at any moment, a run goes on where it was, and ends with the same bytes and nothing left over.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Project, differences, said};
use crate::samples::{SMALL, curate};

/// Small, but with every kind of side effect: sources, a chain, a global stage, mail, publishing, clearing away.
pub(crate) const TINY: &str = "
version: 1
name: tiny
seed: 5
output: out
stages:
  rows:   {use: read_jsonl, path: rows.jsonl, columns: {id: string, text: string}}
  long:   {use: filter_length, from: rows, min_chars: 7}
  unique: {use: dedup_exact, from: long, keep: true}
  split:  {use: split_holdout, from: unique, fraction: 0.5}
";

/// Rows of which no copy is made, since they can be read from the source again.
const DIRECT: &str = "
version: 1
name: direct
output: out
stages:
  rows:   {use: read_jsonl, path: rows.jsonl, columns: {id: string, text: string}}
  unique: {use: dedup_exact, from: rows}
";

pub(crate) fn tiny() -> Project {
    with_rows(TINY)
}

fn with_rows(file: &str) -> Project {
    let project = Project::with(file);
    let rows: Vec<String> = (0..60).map(|n| format!(r#"{{"id": "{n}", "text": "text {}"}}"#, n * n % 200)).collect();
    project.write("rows.jsonl", rows.join("\n") + "\n{\"id\": \"bad\", \"text\": 7}\n");
    project
}

#[test]
fn every_crash_point_once() {
    let points = crash_everywhere(TINY, &["split", "split.holdout", "dropped/unique", "rejected/rows"]);
    assert!(points > 30, "only {points} crash points");
}

#[test]
fn every_crash_point_once_where_rows_are_read_again() {
    let points = crash_everywhere(DIRECT, &["unique", "dropped/unique", "rejected/rows"]);
    assert!(points > 15, "only {points} crash points");
}

/// Crashes a run at each point where it can, and goes on; the number of points.
fn crash_everywhere(file: &str, folders: &[&str]) -> usize {
    let undisturbed = with_rows(file);
    let args: &[&str] = &["--shard-rows", "16", "--threads", "1"];
    undisturbed.run(args);
    let expected = undisturbed.files("out");
    assert!(folders.iter().all(|name| undisturbed.count(&format!("out/{name}")) > 0));
    let mut points = 0;
    for k in 1.. {
        let project = with_rows(file);
        let crash = k.to_string();
        let crashed = project.call(&[&["run", "pipeline.yaml", "--crash-at", &crash], args].concat());
        if crashed.code == Some(0) {
            break;
        }
        assert_eq!(crashed.code, None, "point {k} kills the process: {crashed:#?}");
        project.run(args);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after crash point {k}");
        points += 1;
    }
    points
}

#[test]
fn a_crash_while_an_edited_run_replaces_its_output_leaves_no_mixture() {
    let edit = |project: &Project| project.write("pipeline.yaml", TINY.replace("min_chars: 7", "min_chars: 8"));
    let undisturbed = tiny();
    let args: &[&str] = &["--shard-rows", "16", "--threads", "1"];
    edit(&undisturbed);
    undisturbed.run(args);
    let expected = undisturbed.files("out");
    for k in (1..).step_by(3) {
        let project = tiny();
        project.run(args);
        edit(&project);
        let crash = k.to_string();
        let crashed = project.call(&[&["run", "pipeline.yaml", "--crash-at", &crash], args].concat());
        project.run(args);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after crash point {k}");
        if crashed.code == Some(0) {
            break;
        }
    }
}

#[test]
fn an_edit_that_died_while_publishing_and_was_taken_back_leaves_nothing_of_itself() {
    // Parts of equal length with other contents: nothing but the folder's mark can tell them apart.
    let yaml = "
version: 1
name: tags
output: out
write: {format: jsonl}
stages:
  rows: {use: read_jsonl, path: rows.jsonl}
  tags: {use: sql, from: rows, statement: \"SELECT id, 'a' AS tag FROM input\"}
";
    let project = Project::with(yaml);
    project.write("rows.jsonl", "{\"id\": \"1\", \"text\": \"one\"}\n");
    project.run(&[]);
    let expected = project.files("out");
    for k in 1.. {
        project.write("pipeline.yaml", yaml.replace("'a'", "'b'"));
        let crash = k.to_string();
        let crashed = project.call(&["run", "pipeline.yaml", "--crash-at", &crash]);
        project.write("pipeline.yaml", yaml);
        project.run(&[]);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after crash point {k}");
        if crashed.code == Some(0) {
            assert!(k > 5, "only {k} crash points");
            break;
        }
    }
}

/// `GRANARY_KILLS=100` for the long version.
#[test]
fn killed_at_random_moments_it_ends_with_the_same_bytes() {
    let kills: u32 = std::env::var("GRANARY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let undisturbed = curate();
    let started = std::time::Instant::now();
    undisturbed.run(SMALL);
    let takes = started.elapsed();
    let expected = undisturbed.files("out");
    let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(std::process::id());
    let mut project = curate();
    let (mut killed, mut finished) = (0, 0);
    while killed < kills {
        random = random.wrapping_mul(0xD129_0D3D_5A5B_8C4F).rotate_left(17) ^ 0x1234_5678_9ABC_DEF1;
        let moment = takes.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64 * 0.8);
        let mut run = project.start(SMALL);
        let ended = wait_at_most(&mut run, moment);
        if ended {
            assert_eq!(said(run.wait_with_output().expect("it ended")).code, Some(0));
            assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after {killed} kills");
            finished += 1;
            project = curate();
        } else {
            run.kill().expect("killed");
            said(run.wait_with_output().expect("it ended"));
            killed += 1;
        }
    }
    project.run(SMALL);
    assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after {killed} kills");
    eprintln!("{killed} kills, {} runs brought to their end", finished + 1);
}

/// Waits for a process, at most so long; whether it ended.
fn wait_at_most(run: &mut std::process::Child, time: Duration) -> bool {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        if run.try_wait().expect("a child").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2)); // the moment of the kill is what is being tested
    }
    run.try_wait().expect("a child").is_some()
}

#[test]
fn ctrl_c_ends_tidily_and_says_how_to_go_on() {
    let project = curate();
    let mut run = project.command();
    let mut run = run
        .args(["run", "pipeline.yaml", "--json"])
        .args(SMALL)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // The first progress line says that work is under way.
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(run.stdout.as_mut().expect("piped")), &mut line).expect("a line");
    let killed = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let said = said(run.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(130), "{said:#?}");
    assert!(said.stderr.contains("`pipeline run pipeline.yaml` goes on where this stopped"), "{said:#?}");
    project.run(SMALL);
    let undisturbed = curate();
    undisturbed.run(SMALL);
    assert_eq!(differences(&project.files("out"), &undisturbed.files("out")), [""; 0]);
}
