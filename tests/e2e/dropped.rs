//! `from: id.dropped`: what one stage decided against, any other can read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::harness::{Project, differences};

/// Every stage that drops rows, with settings with which it drops some.
const DROPPERS: [(&str, &str); 10] = [
    ("short", "use: filter_length, from: rows, min_chars: 7"),
    ("equal", "use: dedup_exact, from: rows"),
    ("like", "use: dedup_minhash, from: rows, max_cluster: 1.0, max_source_loss: 1.0"),
    ("half", "use: sample_rows, from: rows, fraction: 0.5"),
    ("ten", "use: sample_rows, from: rows, count: 10"),
    ("inner", "use: join, from: {left: rows, right: sites}, on: [site]"),
    ("semi", "use: join, from: {left: rows, right: sites}, on: [site], how: semi"),
    ("anti", "use: join, from: {left: rows, right: sites}, on: [site], how: anti"),
    ("packed", "use: pack_sequences, from: rows, context_length: 5, column: n"),
    ("judged", "use: command, from: rows, run: [python3, judge.py], drops: [odd], adds: {note: string}"),
];

/// Every stage that has an input, reading `{}`.
const READERS: [(&str, &str); 15] = [
    ("filter", "use: filter_length, from: {}, min_chars: 6"),
    ("exact", "use: dedup_exact, from: {}, columns: [site]"),
    ("minhash", "use: dedup_minhash, from: {}, max_cluster: 1.0, max_source_loss: 1.0"),
    ("fraction", "use: sample_rows, from: {}, fraction: 0.5"),
    ("count", "use: sample_rows, from: {}, count: 3"),
    ("joined", "use: join, from: {left: {}, right: sites}, on: [site]"),
    ("packed", "use: pack_sequences, from: {}, context_length: 9, column: n"),
    ("command", "use: command, from: {}, run: [python3, judge.py], drops: [odd], adds: {note: string}"),
    ("concat", "use: concat, from: {}"),
    ("grouped", "use: group_by, from: {}, by: [drop_reason], aggregates: {rows: count}"),
    ("shuffled", "use: shuffle, from: {}"),
    ("sorted", "use: sort_rows, from: {}, by: [drop_reason, id]"),
    ("holdout", "use: split_holdout, from: {}, fraction: 0.5"),
    ("sql", "use: sql, from: {}, statement: 'SELECT * FROM input WHERE drop_reason IS NOT NULL'"),
    ("tagged", "use: filter_length, from: {}, min_chars: 7, on_fail: tag"),
];

const HEAD: &str = "
version: 1
name: dropped
output: out
max_rejected: 100%
stages:
  rows:  {use: read_jsonl, path: rows.jsonl}
  sites: {use: read_jsonl, path: sites.jsonl}
";

fn project(file: &str) -> Project {
    let project = Project::with(file);
    let row = |n: u64| format!("{{\"id\": \"{n}\", \"text\": \"text {}\", \"site\": \"s{}\", \"n\": {}}}\n", n * n % 40, n % 6, n % 8);
    project.write("rows.jsonl", (0..60).map(row).collect::<String>());
    project.write(
        "sites.jsonl",
        (0..3).map(|n| format!("{{\"id\": \"site{n}\", \"site\": \"s{n}\", \"owner\": \"o\"}}\n")).collect::<String>(),
    );
    let judge = "import json, sys\nfor line in sys.stdin:\n    row = json.loads(line)\n    odd = int(row['id']) % 3 == 1\n    print(json.dumps({'id': row['id'], 'note': 'n', 'drop_reason': 'odd' if odd else None}))\n";
    project.write("judge.py", judge);
    project
}

#[test]
fn what_any_stage_drops_any_other_reads() {
    let mut yaml = HEAD.to_owned();
    for (dropper, settings) in DROPPERS {
        let _ = writeln!(yaml, "  {dropper}: {{{settings}}}");
        for (reader, settings) in READERS {
            let _ = writeln!(yaml, "  {dropper}-{reader}: {{{}}}", settings.replace("{}", &format!("{dropper}.dropped")));
        }
    }
    let project = project(&yaml);
    project.run(&["--shard-rows", "16"]);
    let record = project.record("out");
    let stages: BTreeMap<&str, &serde_json::Value> =
        record["stages"].as_array().expect("stages").iter().map(|stage| (stage["id"].as_str().expect("an id"), stage)).collect();
    for (dropper, _) in DROPPERS {
        let dropped = project.count(&format!("out/dropped/{dropper}")) as u64;
        assert!(dropped > 0, "{dropper} drops nothing");
        for (reader, _) in READERS {
            let stage = stages[format!("{dropper}-{reader}").as_str()];
            let read = stage["rows_in"].as_u64().expect("a count") - if reader == "joined" { 3 } else { 0 };
            assert_eq!(read, dropped, "{dropper}-{reader}");
            let out = stage["rows_out"].as_object().expect("counts");
            let given: u64 = ["out", "holdout", "dropped"].iter().filter_map(|port| out.get(*port)?.as_u64()).sum();
            let rejected: u64 = stage["rejected"].as_object().expect("counts").values().filter_map(serde_json::Value::as_u64).sum();
            if !["joined", "grouped"].contains(&reader) {
                assert_eq!(given + rejected, dropped, "{dropper}-{reader}");
            }
        }
        // A verdict on a dropped row stands where the first one stood; both folders have theirs.
        let reasons = project.column(&format!("out/dropped/{dropper}-exact"), "drop_reason");
        assert!(reasons.iter().all(|reason| reason.as_deref() == Some("duplicate")), "{dropper}: {reasons:?}");
        assert_eq!(project.column(&format!("out/{dropper}-sorted"), "id").len() as u64, dropped);
    }
}

const CHAIN: &str = "
version: 1
name: dropped
output: out
stages:
  rows:   {use: read_jsonl, path: rows.jsonl}
  long:   {use: filter_length, from: rows, min_chars: 7, dropped: MODE}
  unique: {use: dedup_exact, from: long, dropped: MODE}
  again:  {use: concat, from: [long.dropped, unique.dropped]}
  sorted: {use: sort_rows, from: again, by: [id]}
";

#[test]
fn a_reader_gets_whole_rows_whatever_is_written_of_them() {
    let whole = project(&CHAIN.replace("MODE", "rows"));
    whole.run(&[]);
    let expected = whole.table_hash("out/sorted");
    assert_eq!(whole.count("out/sorted"), whole.count("out/dropped/long") + whole.count("out/dropped/unique"));
    for (mode, columns) in [("ids", Some(5)), ("none", None)] {
        let project = project(&CHAIN.replace("MODE", mode));
        project.run(&["--to", "again"]);
        assert_eq!(project.count("out/again"), whole.count("out/sorted"));
        project.run(&[]);
        assert_eq!(project.table_hash("out/sorted"), expected, "{mode}");
        for stage in ["long", "unique"] {
            let folder = format!("out/dropped/{stage}");
            let written = project.path(&folder).exists().then(|| project.rows(&folder)[0].num_columns());
            assert_eq!(written, columns, "{mode} of {stage}");
        }
        // The rows are read again by a stage that comes later, though no one else sees them.
        project.write("pipeline.yaml", CHAIN.replace("MODE", mode).replace("by: [id]", "by: [text, id]"));
        project.run(&[]);
        assert_eq!(project.count("out/sorted"), whole.count("out/sorted"));
    }
}

#[test]
fn every_crash_point_once_where_dropped_rows_are_read() {
    let args: &[&str] = &["--shard-rows", "16", "--threads", "1"];
    let file = CHAIN.replace("MODE", "none");
    let undisturbed = project(&file);
    undisturbed.run(args);
    let expected = undisturbed.files("out");
    let mut points = 0;
    for k in 1.. {
        let project = project(&file);
        let crashed = project.call(&[&["run", "pipeline.yaml", "--crash-at", &k.to_string()], args].concat());
        if crashed.code == Some(0) {
            break;
        }
        assert_eq!(crashed.code, None, "point {k} kills the process: {crashed:#?}");
        project.run(args);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after crash point {k}");
        points += 1;
    }
    assert!(points > 30, "only {points} crash points");
}
