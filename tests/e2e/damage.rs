//! What people, disks and file systems do to an output between runs.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use crate::harness::{Project, Said, differences};
use crate::resume::{TINY, tiny};

const ARGS: &[&str] = &["--shard-rows", "16"];

fn run(project: &Project) -> Said {
    project.call(&[&["run", "pipeline.yaml"], ARGS].concat())
}

/// Changes one byte of each file of `.pipeline/data` whose name holds `part`.
fn flip(project: &Project, part: &str) {
    let names: Vec<String> = project.files("out").into_keys().filter(|name| name.contains("/data/") && name.contains(part)).collect();
    assert!(!names.is_empty(), "{part}");
    for name in names {
        let path = project.path("out").join(name);
        let mut bytes = fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xFF;
        fs::remove_file(&path).expect("removed"); // a published part may be the same file
        fs::write(&path, bytes).expect("changed");
    }
}

/// Runs until it succeeds; each failure is one of damage, and mends something.
fn run_until_mended(project: &Project) -> usize {
    for failures in 0..100 {
        let said = run(project);
        if said.code == Some(0) {
            return failures;
        }
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.stderr.contains("damaged: ") && said.stderr.contains("run again"), "{said:#?}");
    }
    panic!("a hundred runs mend nothing");
}

#[test]
fn a_checkpoint_whose_contents_changed_is_made_again() {
    for (part, from, to) in
        [("long.out", "from: long", "from: long, normalize: whitespace"), ("unique.out.0-0.c", "fraction: 0.5", "fraction: 0.4")]
    {
        let edit = |project: &Project| project.write("pipeline.yaml", TINY.replace(from, to));
        let undisturbed = tiny();
        edit(&undisturbed);
        undisturbed.run(ARGS);
        let project = tiny();
        project.run(ARGS);
        flip(&project, part);
        edit(&project);
        assert!(run_until_mended(&project) > 0, "{part}");
        assert_eq!(differences(&project.files("out"), &undisturbed.files("out")), [""; 0], "{part}");
    }
}

#[test]
fn a_damaged_piece_is_never_published() {
    // With one shard a part is one piece; with many it is joined.
    for args in [ARGS, &[]] {
        let project = tiny();
        project.run(args);
        let expected = project.files("out");
        flip(&project, "split.out");
        fs::remove_dir_all(project.path("out/split")).expect("removed");
        let mut codes = Vec::new();
        while codes.last() != Some(&Some(0)) && codes.len() < 20 {
            codes.push(project.call(&[&["run", "pipeline.yaml"], args].concat()).code);
        }
        assert!(codes.len() > 1 && codes.last() == Some(&Some(0)), "{codes:?}");
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "{args:?}");
    }
}

#[test]
fn a_run_killed_while_it_tried_the_output_leaves_nothing_in_the_way() {
    let project = tiny();
    project.write("out/.granary-write-test-4711", "");
    project.run(ARGS);
    assert!(!project.path("out/.granary-write-test-4711").exists());
}

#[test]
fn what_lies_in_a_published_folder_is_put_right() {
    let project = tiny();
    project.run(ARGS);
    let expected = project.files("out");
    fs::write(project.path("out/split/part-00000.parquet"), "short").expect("changed");
    fs::write(project.path("out/split.holdout/part-00007.parquet"), "of an older run").expect("changed");
    fs::remove_dir_all(project.path("out/dropped")).expect("removed");
    for mark in ["dropped.unique", "unique"] {
        fs::write(project.path("out/.pipeline/published").join(format!("{mark}.json")), "garbage").expect("changed");
    }
    project.run(ARGS);
    let mut files = project.files("out");
    // It stands beside the parts until the folder is published anew.
    files.remove("split.holdout/part-00007.parquet");
    assert_eq!(differences(&files, &expected), [""; 0]);
}

#[test]
fn checkpoints_may_lie_on_another_file_system() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let undisturbed = tiny();
    let project = tiny();
    fs::create_dir(project.path("out")).expect("made");
    std::os::unix::fs::symlink(elsewhere.path(), project.path("out/.pipeline")).expect("linked");
    for one in [&undisturbed, &project] {
        one.run(&[]);
    }
    for folder in ["unique", "split", "split.holdout", "dropped", "rejected"].map(|folder| format!("out/{folder}")) {
        assert_eq!(differences(&project.files(&folder), &undisturbed.files(&folder)), [""; 0], "{folder}");
    }
}

/// Starts a run that reads `in.jsonl`, does something to the file while it is read, and waits for the end.
fn meddle(project: &Project, with: impl FnOnce(&mut fs::File)) -> Said {
    let mut run = project.start(&["--shard-rows", "2000", "--threads", "1"]);
    // The first shard is there: the reader has begun and is far from its end.
    while fs::read_dir(project.path("out/.pipeline/data")).is_err() && run.try_wait().expect("a child").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1)); // polls for a file of another process
    }
    with(&mut fs::File::options().read(true).write(true).open(project.path("in.jsonl")).expect("opened"));
    crate::harness::said(run.wait_with_output().expect("it ends"))
}

fn many_rows(text: &str) -> String {
    (0..200_000).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"{text}\"}}\n")).collect()
}

#[test]
fn an_input_that_changes_while_it_is_read_leaves_no_mark() {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: in.jsonl}}}");
    let grown: &dyn Fn(&mut fs::File) = &|file| {
        file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(b"{}\n")).expect("changed");
    };
    // Of the same size, and with the time put back.
    let edited: &dyn Fn(&mut fs::File) = &|file| {
        let modified = file.metadata().and_then(|meta| meta.modified()).expect("a time");
        file.seek(SeekFrom::End(-6)).and_then(|_| file.write_all(b"an")).expect("changed");
        file.set_modified(modified).expect("put back");
    };
    for change in [grown, edited] {
        project.write("in.jsonl", many_rows("one"));
        let said = meddle(&project, change);
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.stderr.contains("was changed while it was read"), "{said:#?}");
        assert_eq!(fs::read_dir(project.path("out/.pipeline/done")).map_or(0, Iterator::count), 0);
        fs::remove_dir_all(project.path("out")).expect("removed");
    }
    project.write("in.jsonl", many_rows("two"));
    project.run(&["--shard-rows", "2000"]);
    assert_eq!(project.column("out/rows", "text"), vec![Some("two".to_owned()); 200_000]);
}

#[test]
fn an_input_that_is_touched_while_it_is_read_is_what_it_was() {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: in.jsonl}}}");
    project.write("in.jsonl", many_rows("one"));
    let said = meddle(&project, |file| file.set_modified(std::time::SystemTime::now()).expect("touched"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(project.count("out/rows"), 200_000);
}

#[test]
fn parts_of_a_stage_that_is_no_more_go_even_if_the_run_that_wrote_them_was_killed() {
    let rename = |project: &Project| project.write("pipeline.yaml", TINY.replace("split:", "cut:"));
    let undisturbed = tiny();
    rename(&undisturbed);
    undisturbed.run(ARGS);
    let expected = undisturbed.files("out");
    for k in (1..).step_by(3) {
        let project = tiny();
        let crash = k.to_string();
        let crashed = project.call(&[&["run", "pipeline.yaml", "--threads", "1", "--crash-at", &crash], ARGS].concat());
        rename(&project);
        project.run(ARGS);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after crash point {k}");
        if crashed.code == Some(0) {
            break;
        }
    }
}
