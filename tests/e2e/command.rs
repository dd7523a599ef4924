//! Programs of the user's own: what they answer, how they fail, and that none of them stays behind.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Int64Type};

use crate::harness::{Project, differences, repository, said};

const YAML: &str = "
version: 1
name: own
seed: 5
output: out
max_rejected: 0.2
stages:
  rows:  {use: read_jsonl, path: rows.jsonl, columns: {id: string, text: string}}
  score: {use: command, from: rows, run: [python3, own.py], adds: {words: int64, half: float32}, drops: [empty], batch_rows: 8, timeout_seconds: 3}
";

/// Answers every row, except those whose text asks for something else. Leaves its process id.
const PROGRAM: &str = r#"
import json, os, sys, time

os.makedirs("pids", exist_ok=True)
open(f"pids/{os.getpid()}", "w").close()
for line in sys.stdin:
    row = json.loads(line)
    text = row["text"]
    answer = {"id": row["id"], "words": len(text.split()), "half": len(text) / 2}
    if text == "die":
        print("can't read", row["id"], file=sys.stderr)
        os._exit(3)
    elif text == "raise":
        raise ValueError(text)
    elif text == "hang":
        time.sleep(1000)
    elif text == "garbage":
        print("now at", row["id"])
    elif text == "type":
        answer["words"] = "many"
    elif text == "lacks":
        del answer["half"]
    elif text == "silent":
        continue
    elif text == "huge":
        answer["more"] = "x" * 70_000_000
    elif text == "":
        answer = {"id": row["id"], "drop_reason": "empty", "drop_value": 0, "drop_threshold": 1}
    print(json.dumps(answer))
"#;

fn rows(texts: &[(usize, &str)], n: usize) -> String {
    let text =
        |row: usize| texts.iter().find(|(at, _)| *at == row).map_or_else(|| format!("row number {row}"), |(_, text)| (*text).to_owned());
    (0..n).map(|row| format!("{}\n", serde_json::json!({"id": format!("r{row}"), "text": text(row)}))).collect()
}

fn project(texts: &[(usize, &str)], n: usize) -> Project {
    let project = Project::with(YAML);
    project.write("own.py", PROGRAM);
    project.write("rows.jsonl", rows(texts, n));
    project
}

/// A message without the breaks and the frame that it is shown with.
fn plain(message: &str) -> String {
    message.split(|c: char| c.is_whitespace() || c == '│').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The programs that were started in a project's folder and still run, after a while in which they may notice that they should not.
fn left_behind(project: &Project) -> Vec<String> {
    let pids: Vec<String> = fs::read_dir(project.path("pids")).map_or_else(
        |_| Vec::new(),
        |entries| entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect(),
    );
    assert!(!pids.is_empty(), "no program was started");
    // A zombie waits for its parent only.
    let runs = |pid: &String| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let until = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(runs) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    pids.into_iter().filter(|pid| runs(pid)).collect()
}

#[test]
fn answers_become_columns_and_every_reason_is_told() {
    let project = project(&[(3, ""), (5, "type")], 100);
    let said = project.call(&["check", "pipeline.yaml"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    project.run(&[]);
    assert_eq!(project.count("out/score"), 98);
    let batch = &project.rows("out/score")[0];
    assert_eq!(batch.column_by_name("words").expect("words").as_primitive::<Int64Type>().value(0), 3);
    assert!((batch.column_by_name("half").expect("half").as_primitive::<Float32Type>().value(0) - 6.0).abs() < f32::EPSILON);
    assert_eq!(project.column("out/dropped/score", "drop_reason"), [Some("empty".to_owned())]);
    assert_eq!(
        project.column("out/rejected/score", "detail")[0].as_deref().map(|detail| &detail[..38]),
        Some("`words`: wanted int64, found \"many\": `")
    );
    let said = project.call(&["trace", "out", "r3"]);
    assert!(said.code == Some(0) && said.stdout.contains("empty") && said.stdout.contains("score"), "{said:#?}");
    let said = project.call(&["inspect", "out/score"]);
    assert!(said.stdout.contains("words") && said.stdout.contains("half"), "{said:#?}");
    let record = project.record("out");
    let score = record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == "score").expect("score");
    assert_eq!(
        (&score["files"][0][0], score["dropped"]["empty"].as_u64(), score["rejected"]["wrong_type"].as_u64()),
        (&"own.py".into(), Some(1), Some(1))
    );
    assert!(fs::read_to_string(project.path("out/report.html")).expect("a report").contains("own.py"));
    assert_eq!(left_behind(&project), [""; 0]);
}

#[test]
fn bad_rows_are_rejected_alone_and_the_bytes_are_the_same_however_it_runs() {
    let texts =
        [(7, "die"), (20, "raise"), (33, "hang"), (46, "garbage"), (59, "type"), (72, "lacks"), (85, "silent"), (98, "huge"), (99, "")];
    let one = project(&texts, 110);
    // One folder, which Python names in what it writes to stderr.
    one.run(&["--threads", "2", "--shard-rows", "40", "--memory", "900MiB"]);
    let two_threads = one.files("out");
    fs::remove_dir_all(one.path("out")).expect("removed");
    one.run(&["--threads", "1", "--shard-rows", "40"]);
    let reasons: Vec<Option<String>> = one.column("out/rejected/score", "reason");
    let expected =
        ["command_died", "command_died", "command_timed_out", "no_json", "wrong_type", "missing_column", "no_answer", "answer_too_long"];
    assert_eq!(reasons.iter().flatten().collect::<Vec<_>>(), expected);
    let details = one.column("out/rejected/score", "detail");
    let detail = |place: usize| details[place].as_deref().unwrap_or_default();
    assert_eq!(detail(0), "ended with exit code 3; the end of what it wrote to stderr:\ncan't read r7");
    assert!(
        detail(1).ends_with("ValueError: raise") && detail(3).contains("line 1 of its answer is no JSON object: `now at r46`"),
        "{details:?}"
    );
    let ids = one.column("out/score", "id");
    let expected = (0..110).filter(|row| !texts.iter().any(|(bad, _)| bad == row)).map(|row| Some(format!("r{row}")));
    assert_eq!(ids, expected.collect::<Vec<_>>());
    assert_eq!(differences(&one.files("out"), &two_threads), [""; 0]);
    assert_eq!(left_behind(&one), [""; 0]);
}

#[test]
fn a_program_that_can_not_work_is_an_error_and_no_heap_of_rejections() {
    let project = project(&[], 50);
    project.write("own.py", "import nonsense_that_is_not_there\n");
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let message = plain(&said.stderr);
    assert!(message.contains("stage `score`: `python3 own.py` ended with exit code 1 when it has no row to read; the end"), "{message}");
    assert!(
        message.contains("No module named 'nonsense_that_is_not_there'") && message.contains("goes on where this stopped"),
        "{message}"
    );
    project.write("own.py", PROGRAM.replace("row[\"text\"]", "row[\"txt\"]"));
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let message = plain(&said.stderr);
    assert!(message.contains("fails on row after row (16 so far") && message.contains("KeyError: 'txt'"), "{message}");
    assert!(!project.path("out/score").exists());
    // Mended, it goes on.
    project.write("own.py", PROGRAM);
    project.run(&[]);
    assert_eq!(project.count("out/score"), 50);
}

#[test]
fn what_can_be_known_is_said_before_any_work() {
    let said_of = |from: &str, to: &str| {
        let project = project(&[], 5);
        project.write("pipeline.yaml", YAML.replace(from, to));
        let said = project.call(&["run", "pipeline.yaml"]);
        assert!(said.code == Some(2) && !project.path("out").exists(), "{said:#?}");
        plain(&said.stderr)
    };
    assert!(said_of("[python3, own.py]", "[pyhton3, own.py]").contains("there is no program `pyhton3` in PATH"));
    let said = said_of("[python3, own.py]", "[python3, scripts/own.py]");
    assert!(
        said.contains("there is no file `scripts/own.py` in the pipeline file's folder") && said.contains("pipeline.yaml:9:"),
        "{said}"
    );
    let said = said_of("half: float32", "half: float23");
    assert!(said.contains("`float23` is not known"), "{said}");
    let said = said_of("adds: {words: int64", "adds: {text: string, words: int64");
    assert!(said.contains("adds column `text`, which the input already has") && said.contains("removes: [text]"), "{said}");
}

#[test]
fn an_edit_of_the_program_or_of_what_it_reads_runs_it_again() {
    let project = project(&[], 20);
    project.write("words.txt", "one");
    project.write("pipeline.yaml", YAML.replace("batch_rows: 8", "batch_rows: 8, files: [words.txt]"));
    project.run(&[]);
    let told = |project: &Project| project.run(&[]).stderr;
    assert!(told(&project).contains("nothing to do"));
    // The same text, written again.
    project.write("own.py", PROGRAM);
    assert!(told(&project).contains("nothing to do"));
    project.write("words.txt", "two");
    assert!(!told(&project).contains("nothing to do"));
    project.write("own.py", PROGRAM.replace("len(text) / 2", "7"));
    project.run(&[]);
    assert!(
        (project.rows("out/score")[0].column_by_name("half").expect("half").as_primitive::<Float32Type>().value(0) - 7.0).abs()
            < f32::EPSILON
    );
    // How many run at a time is no part of what they answer.
    project.write("pipeline.yaml", YAML.replace("batch_rows: 8", "batch_rows: 8, files: [words.txt], max_processes: 1"));
    assert!(told(&project).contains("nothing to do"));
}

#[test]
fn killed_or_interrupted_it_leaves_nobody_behind_and_ends_with_the_same_bytes() {
    let slow = PROGRAM.replace("    row = json.loads(line)\n", "    row = json.loads(line)\n    time.sleep(0.01)\n");
    let args: &[&str] = &["--threads", "2", "--shard-rows", "40", "--memory", "900MiB"];
    let undisturbed = project(&[(7, "die")], 200);
    undisturbed.write("own.py", &slow);
    undisturbed.run(args);
    let expected = undisturbed.files("out");
    let wait_for_programs = |project: &Project| {
        let until = Instant::now() + Duration::from_mins(1);
        while fs::read_dir(project.path("pids")).map_or(0, Iterator::count) < 2 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    };

    let killed = project(&[(7, "die")], 200);
    killed.write("own.py", &slow);
    let mut run = killed.start(args);
    wait_for_programs(&killed);
    run.kill().expect("killed");
    run.wait().expect("it ended");
    assert_eq!(left_behind(&killed), [""; 0], "the end of their input tells them");
    killed.run(args);
    assert_eq!(differences(&killed.files("out"), &expected), [""; 0]);

    // Even where the program hears nothing any more.
    let interrupted = project(&[(7, "die"), (30, "hang")], 200);
    interrupted.write("pipeline.yaml", YAML.replace("timeout_seconds: 3", "timeout_seconds: 1000"));
    let mut run = interrupted.command();
    let run =
        run.args(["run", "pipeline.yaml"]).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
    wait_for_programs(&interrupted);
    let started = Instant::now();
    let sent = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let said = said(run.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(130), "{said:#?}");
    assert!(started.elapsed() < Duration::from_mins(1), "{said:#?}");
    assert_eq!(left_behind(&interrupted), [""; 0]);
}

#[test]
fn the_example_runs() {
    let examples = repository().join("examples");
    let read = |name: &str| fs::read_to_string(examples.join(name)).expect(name);
    let project = Project::with(&read("own_code.yaml").replace("../datasets/samples", "samples").replace("../out/", ""));
    project.write("score.py", read("score.py"));
    project.run(&[]);
    let (kept, dropped) = (project.count("own_code/scored"), project.count("own_code/dropped/scored"));
    assert!(kept > 500 && dropped > 0, "{kept} kept, {dropped} dropped");
    assert_eq!(project.count("own_code/rejected/scored"), 0);
}

/// Where pyarrow is; `None`, with a word why, where it is not.
fn pyarrow() -> Option<PathBuf> {
    let python = std::env::var_os("GRANARY_READERS_PYTHON").map_or_else(|| repository().join(".assets/readers/bin/python"), Into::into);
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have pyarrow: {}", python.display());
        eprintln!("skipped: pyarrow not installed");
        return None;
    }
    Some(python)
}

#[test]
fn arrow_batches_are_answered_by_batches() {
    let Some(python) = pyarrow() else { return };
    let program = r#"
import os, sys
import pyarrow as pa, pyarrow.compute as pc

reader = pa.ipc.open_stream(sys.stdin.buffer)
assert reader.schema.names == ["id", "text"], reader.schema
schema = pa.schema({"id": pa.string(), "words": pa.int32(), "half": pa.float64(), "drop_reason": pa.large_string()})
with pa.ipc.new_stream(sys.stdout.buffer, schema) as writer:
    for batch in reader:
        assert batch.num_rows <= 8
        text = batch["text"]
        if "die" in text.to_pylist():
            os._exit(3)
        length = pc.utf8_length(text)
        answer = [batch["id"], length, pc.divide(pc.cast(length, pa.float64()), 2), pc.if_else(pc.equal(length, 0), "empty", None)]
        writer.write_batch(pa.record_batch([pc.cast(a, f.type) for a, f in zip(answer, schema)], schema=schema))
        sys.stdout.buffer.flush()
"#;
    let yaml = YAML
        .replace("[python3, own.py]", &format!("[{}, own.py], format: arrow", python.display()))
        .replace("timeout_seconds: 3", "timeout_seconds: 60");
    let make = || {
        let project = project(&[(13, "die"), (22, "")], 60);
        project.write("pipeline.yaml", &yaml);
        project.write("own.py", program);
        project
    };
    let (one, two) = (make(), make());
    one.run(&["--threads", "1", "--shard-rows", "25"]);
    two.run(&["--threads", "2", "--shard-rows", "25", "--memory", "900MiB"]);
    assert_eq!(one.count("out/score"), 58);
    let batch = &one.rows("out/score")[0];
    assert_eq!(batch.column_by_name("words").expect("words").as_primitive::<Int64Type>().value(0), 12);
    assert!((batch.column_by_name("half").expect("half").as_primitive::<Float32Type>().value(0) - 6.0).abs() < f32::EPSILON);
    assert_eq!(one.column("out/dropped/score", "id"), [Some("r22".to_owned())]);
    assert_eq!(one.column("out/rejected/score", "id"), [Some("r13".to_owned())]);
    assert_eq!(one.column("out/rejected/score", "reason"), [Some("command_died".to_owned())]);
    assert_eq!(differences(&one.files("out"), &two.files("out")), [""; 0]);

    let fails = |from: &str, to: &str| {
        let project = make();
        project.write("own.py", program.replace(from, to));
        let said = project.call(&["run", "pipeline.yaml"]);
        assert_eq!(said.code, Some(1), "{said:#?}");
        plain(&said.stderr)
    };
    let said = fails("\"half\": pa.float64()", "\"other\": pa.float64()");
    assert!(said.contains("answers `id`, `words`, `other`, `drop_reason`; wanted `half: Float32`"), "{said}");
    let said = fails("\"half\": pa.float64()", "\"half\": pa.string()");
    assert!(said.contains("answers `half: Utf8`; wanted `half: Float32`"), "{said}");
    let said = fails("import os, sys\n", "import os, sys\nprint(\"Loading the model\")\n");
    assert!(said.contains("its output is no Arrow IPC stream, it begins with `Loading the model"), "{said}");
}

#[test]
fn what_a_program_writes_commands_no_terminal() {
    let project = project(&[], 20);
    let good = fs::read_to_string(project.path("own.py")).expect("the program");
    project.write("own.py", good + "\nsys.exit('\\x1b]0;title\\x07\\x1b[31mred')\n");
    let run = project.call(&["run", "pipeline.yaml"]);
    let status = project.call(&["status", "out"]);
    for told in [run.stderr, status.stdout] {
        assert!(told.contains("␛]0;title␇␛[31mred") && !told.contains(['\x1b', '\x07']), "{told}");
    }
}

#[test]
fn a_program_that_fails_at_its_end_publishes_nothing_however_often_it_is_run() {
    let end = "\nimport sys\nsys.exit('the sums are wrong')\n";
    let project = project(&[], 50);
    let good = fs::read_to_string(project.path("own.py")).expect("the program");
    project.write("own.py", good.clone() + end);
    for _ in 0..2 {
        let said = project.call(&["run", "pipeline.yaml", "--shard-rows", "16"]);
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(plain(&said.stderr).contains("ended with exit code 1, after its last answer"), "{said:#?}");
        assert!(plain(&said.stderr).contains("the sums are wrong"), "{said:#?}");
        assert!(!project.path("out/score").exists());
    }
    project.write("own.py", good);
    project.run(&["--shard-rows", "16"]);
    assert!(project.count("out/score") > 0);
}
