//! Months added one after the other to an index of near-duplicates, by the real command: repeated, killed, edited, refused.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{Project, Said, differences, said};

const YAML: &str = "
version: 1
name: month
seed: 5
output: out/${MONTH}
stages:
  rows:   {use: read_jsonl, path: \"${MONTH}.jsonl\", columns: {id: string, text: string}}
  unique: {use: dedup_minhash, from: rows, index: index}
";

const ARGS: &[&str] = &["--shard-rows", "48", "--threads", "1"];

/// Rows `from` to `to`; of every ten two are alike, and of every twenty one is like one of another twenty.
fn rows(month: &str, from: u32, to: u32) -> String {
    let words = |n: u32| (0..30).map(|at| format!("w{}", n.wrapping_mul(7919) % 10_007 + at * at)).collect::<Vec<_>>().join(" ");
    let text = |n: u32| match n % 20 {
        1 => words(n - 1) + " more",
        12 => words(n % 100),
        _ => words(n),
    };
    (from..to).map(|n| format!("{{\"id\": \"{month}-{n}\", \"text\": \"{}\"}}\n", text(n))).collect()
}

/// May, June and July: each has rows like some of those before.
fn project() -> Project {
    let project = Project::with(YAML);
    for (month, from, to) in [("may", 0, 120), ("june", 60, 200), ("july", 150, 260)] {
        project.write(&format!("{month}.jsonl"), rows(month, from, to));
    }
    project
}

fn month(project: &Project, month: &str, more: &[&str]) -> Said {
    let mut command = project.command();
    command.env("MONTH", month).args(["run", "pipeline.yaml"]).args(ARGS).args(more);
    said(command.output().expect("the command starts"))
}

/// What a call said, however it was broken into lines.
fn text(said: &Said) -> String {
    let words = said.stdout.split_whitespace().chain(said.stderr.split_whitespace());
    words.filter(|word| !["│", "×", "·"].contains(word)).collect::<Vec<_>>().join(" ")
}

fn check(project: &Project, more: &[&str]) -> Said {
    said(project.command().env("MONTH", "may").args(["check", "pipeline.yaml"]).args(more).output().expect("the command starts"))
}

fn run(project: &Project, name: &str) {
    let ended = month(project, name, &[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

/// The files of the index, but for the lock and what is not whole.
fn index(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let mut files = project.files("index");
    files.retain(|name, _| name != "index.lock" && !name.contains(".unfinished-"));
    files
}

fn segments(project: &Project) -> usize {
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(project.path("index/index.json")).expect("a manifest")).expect("JSON");
    manifest["segments"].as_array().expect("segments").len()
}

fn dropped(project: &Project, month: &str) -> BTreeMap<String, String> {
    let of = |column: &str| project.column(&format!("out/{month}/dropped/unique"), column).into_iter().map(Option::unwrap_or_default);
    of("id").zip(of("duplicate_of")).collect()
}

#[test]
fn months_are_added_and_a_repeated_one_does_nothing() {
    let project = project();
    let told = check(&project, &[]);
    assert!(told.code == Some(0) && text(&told).contains("there is none yet; this run begins it"), "{told:#?}");
    ["may", "june", "july"].iter().for_each(|name| run(&project, name));
    let of_june = dropped(&project, "june");
    assert_eq!(of_june["june-60"], "may-60");
    assert_eq!(of_june["june-61"], "may-60");
    assert!(of_june.values().any(|kept| kept.starts_with("june-")), "{of_june:?}");
    assert!(dropped(&project, "july").values().any(|kept| kept.starts_with("june-")));
    assert_eq!(segments(&project), 3);
    let (before, of_index) = (project.files("out"), index(&project));
    for name in ["may", "july", "june"] {
        run(&project, name);
        let tasks = &project.record(&format!("out/{name}"))["tasks"];
        assert_eq!(tasks["done"], 0, "{name}: {tasks}");
    }
    let of_run = |name: &String| name.ends_with("/run.json") || name.ends_with("/report.html") || name.contains("/.pipeline/");
    let differ: Vec<String> = differences(&project.files("out"), &before).into_iter().filter(|name| !of_run(name)).collect();
    assert_eq!(differ, [""; 0]);
    assert_eq!(differences(&index(&project), &of_index), [""; 0]);
    // Nothing is left of a month's own work, and it is done again: as before, though the index has its rows, and later ones.
    fs::remove_dir_all(project.path("out/june")).expect("removed");
    run(&project, "june");
    assert_eq!(dropped(&project, "june"), of_june);
    assert_eq!(differences(&index(&project), &of_index), [""; 0]);
    let trace = project.call(&["trace", "out/june", "june-60"]);
    assert!(trace.code == Some(0) && text(&trace).contains("a duplicate of may-60"), "{trace:#?}");
    assert!(text(&trace).contains("may-60: not of this run; an earlier one kept it, and added it to the index"), "{trace:#?}");
    let told = check(&project, &[]);
    assert!(told.code == Some(0) && text(&told).contains("segments: 3"), "{told:#?}");
    let other = check(&project, &["--set", "seed=6"]);
    assert_eq!(other.code, Some(2), "{other:#?}");
    assert!(text(&other).contains("`seed: 5`, the stage has 6") && text(&other).contains("index: index"), "{other:#?}");
}

#[test]
fn killed_at_any_moment_a_month_is_added_once() {
    let undisturbed = project();
    run(&undisturbed, "may");
    let of_may = index(&undisturbed);
    run(&undisturbed, "june");
    let (expected, of_index) = (undisturbed.files("out/june"), index(&undisturbed));
    let mut swapped = 0;
    for k in 1.. {
        let project = project();
        of_may.iter().for_each(|(name, bytes)| project.write(&format!("index/{name}"), bytes));
        let crashed = month(&project, "june", &["--crash-at", &k.to_string()]);
        if crashed.code == Some(0) {
            assert!(k > 20, "only {k} crash points");
            break;
        }
        assert_eq!(crashed.code, None, "point {k} kills the process: {crashed:#?}");
        // The index has it before the first part is there, and not the other way round.
        let is_published = project.path("out/june/unique").exists();
        assert!(segments(&project) == 2 || !is_published, "point {k}");
        swapped += usize::from(segments(&project) == 2 && !is_published);
        run(&project, "june");
        assert_eq!(differences(&project.files("out/june"), &expected), [""; 0], "after crash point {k}");
        assert_eq!(differences(&index(&project), &of_index), [""; 0], "after crash point {k}");
    }
    assert!(swapped > 0, "no kill between the swap and the first part");
}

#[test]
fn somebody_elses_month_in_between_is_seen() {
    let project = project();
    run(&project, "may");
    // Killed with much of it done, all but the last steps.
    let mut crash = 1;
    let tasks = |project: &Project| fs::read_dir(project.path("out/july/.pipeline/done")).map_or(0, Iterator::count);
    while tasks(&project) < 12 {
        crash += 3;
        fs::remove_dir_all(project.path("out/july")).ok();
        let crashed = month(&project, "july", &["--crash-at", &crash.to_string()]);
        assert_eq!(crashed.code, None, "{crashed:#?}");
    }
    assert_eq!(segments(&project), 1);
    run(&project, "june");
    run(&project, "july");
    let record = project.record("out/july");
    assert!(record["tasks"]["reused"].as_u64() > Some(3) && record["tasks"]["done"].as_u64() > Some(5), "{}", record["tasks"]);
    let undisturbed = self::project();
    ["may", "june", "july"].iter().for_each(|name| run(&undisturbed, name));
    assert_eq!(dropped(&project, "july"), dropped(&undisturbed, "july"));
    assert_eq!(differences(&index(&project), &index(&undisturbed)), [""; 0]);
}

#[test]
fn an_edited_month_takes_the_place_of_itself_unless_others_came_after_it() {
    let project = project();
    ["may", "june"].iter().for_each(|name| run(&project, name));
    project.write("june.jsonl", rows("june", 60, 210));
    run(&project, "june");
    assert_eq!(segments(&project), 2);
    let undisturbed = self::project();
    undisturbed.write("june.jsonl", rows("june", 60, 210));
    ["may", "june"].iter().for_each(|name| run(&undisturbed, name));
    assert_eq!(differences(&index(&project), &index(&undisturbed)), [""; 0]);
    assert_eq!(dropped(&project, "june"), dropped(&undisturbed, "june"));
    run(&project, "july");
    project.write("june.jsonl", rows("june", 60, 220));
    let refused = month(&project, "june", &[]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(text(&refused).contains("1 later segments were decided against them"), "{refused:#?}");
    assert_eq!(segments(&project), 3);
}

#[test]
fn a_month_that_was_empty_is_filled_though_others_came_after_it() {
    let project = project();
    run(&project, "may");
    project.write("june.jsonl", "");
    ["june", "july"].iter().for_each(|name| run(&project, name));
    assert_eq!(segments(&project), 3);
    project.write("june.jsonl", rows("june", 60, 200));
    run(&project, "june");
    let undisturbed = self::project();
    ["may", "july", "june"].iter().for_each(|name| run(&undisturbed, name));
    assert_eq!(dropped(&project, "june"), dropped(&undisturbed, "june"));
}

#[test]
fn rows_of_a_month_that_is_emptied_leave_the_index_or_stop_the_run() {
    let project = project();
    project.write("may.jsonl", "");
    ["may", "june"].iter().for_each(|name| run(&project, name));
    // Two months without rows are one plan, and still each of them answers for what it added before.
    project.write("june.jsonl", "");
    ["june", "july"].iter().for_each(|name| run(&project, name));
    let undisturbed = self::project();
    run(&undisturbed, "july");
    assert_eq!(dropped(&project, "july"), dropped(&undisturbed, "july"));
    project.write("june.jsonl", rows("june", 60, 200));
    run(&project, "june");
    project.write("july.jsonl", "");
    let refused = month(&project, "july", &[]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(text(&refused).contains("later segments were decided against them"), "{refused:#?}");
}

#[test]
fn what_was_removed_from_an_index_is_written_again() {
    let project = project();
    run(&project, "may");
    let (published, before) = (project.files("out/may/unique"), index(&project));
    fs::remove_dir_all(project.path("index")).expect("removed");
    run(&project, "may");
    assert_eq!(differences(&index(&project), &before), [""; 0]);
    assert_eq!(differences(&project.files("out/may/unique"), &published), [""; 0]);
    let record = project.record("out/may");
    assert!(record["tasks"]["done"].as_u64() > Some(3) && record["tasks"]["reused"].as_u64() > Some(3), "{}", record["tasks"]);
    assert_eq!(record["stages"][1]["rows_out"]["out"].as_u64(), Some(project.column("out/may/unique", "id").len() as u64));
}

#[test]
fn a_month_edited_back_after_a_kill_is_added() {
    let undisturbed = project();
    ["may", "june"].iter().for_each(|name| run(&undisturbed, name));
    let (expected, of_index) = (undisturbed.files("out/june/unique"), index(&undisturbed));
    for k in 1.. {
        let project = project();
        ["may", "june"].iter().for_each(|name| run(&project, name));
        project.write("june.jsonl", rows("june", 60, 210));
        let crashed = month(&project, "june", &["--crash-at", &(k * 11).to_string()]);
        project.write("june.jsonl", rows("june", 60, 200));
        run(&project, "june");
        let mut found = index(&project);
        // What the edited run left unfinished may be removed when no run is under way.
        found.retain(|name, _| of_index.contains_key(name));
        assert_eq!(differences(&found, &of_index), [""; 0], "after crash point {}", k * 11);
        assert_eq!(differences(&project.files("out/june/unique"), &expected), [""; 0], "after crash point {}", k * 11);
        if crashed.code == Some(0) {
            break;
        }
    }
}

#[test]
fn an_index_belongs_to_one_stage_and_lies_outside_of_the_output() {
    let project = project();
    let two = "  more:   {use: dedup_minhash, from: rows, index: ./index}\n";
    project.write("pipeline.yaml", format!("{YAML}{two}"));
    let refused = check(&project, &[]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(text(&refused).contains("stage `more` (dedup_minhash) adds to what another stage adds to"), "{refused:#?}");
    project.write("pipeline.yaml", YAML.replace("index: index", "index: out/may/unique/index"));
    let refused = check(&project, &[]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(text(&refused).contains("`index` lies in the output folder, and has to outlive it"), "{refused:#?}");
}

#[test]
fn what_is_not_published_is_not_added() {
    let project = project();
    run(&project, "may");
    let before = index(&project);
    // A few rows to look at.
    let limited = month(&project, "june", &["--limit", "50"]);
    assert_eq!(limited.code, Some(0), "{limited:#?}");
    assert_eq!(dropped(&project, "june.limit50")["june-60"], "may-60");
    assert_eq!(differences(&index(&project), &before), [""; 0]);
    // A gate that does not let them pass.
    project.write("pipeline.yaml", YAML.replace("index: index}", "index: index, expect: {rows: \">= 1000\"}}"));
    let refused = month(&project, "june", &[]);
    assert!(text(&refused).contains("is not as expected"), "{refused:#?}");
    assert_eq!(segments(&project), 1);
    project.write("pipeline.yaml", YAML);
    run(&project, "june");
    assert_eq!(segments(&project), 2);
    let undisturbed = self::project();
    ["may", "june"].iter().for_each(|name| run(&undisturbed, name));
    assert_eq!(differences(&index(&project), &index(&undisturbed)), [""; 0]);
}

#[test]
fn a_damaged_segment_stops_the_run_and_is_named() {
    let project = project();
    run(&project, "may");
    let name = index(&project).into_keys().find(|name| name.contains("/rows-")).expect("a file of rows");
    let path = project.path("index").join(&name);
    let bytes = fs::read(&path).expect("read");
    fs::write(&path, &bytes[..bytes.len() - 7]).expect("cut off");
    let refused = month(&project, "june", &[]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(text(&refused).contains("rows-00000: the index is damaged: it is not as long as it was written"), "{refused:#?}");
    assert!(!project.path("out/june/unique").exists());
    fs::write(&path, &bytes).expect("mended");
    run(&project, "june");
}
