use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use schemas::dropped;
use serde_json::{Value, json};

use super::*;
use crate::testing::{self, Balance, CUTS, Cut, Outcome};

/// Settings of a shell script that answers; `$line` of a `while read` loop is a row.
fn sh(script: &str, more: Value) -> Value {
    let mut settings = json!({"run": ["sh", "-c", script], "timeout_seconds": 20});
    settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    settings
}

/// Adds `n` to each row that it echoes.
const ECHO: &str = r#"sed -u 's/}$/,"n":1}/'"#;

/// A loop that answers each row by `answer`, where `$id` is the row's.
fn each(answer: &str) -> String {
    format!(r#"while IFS= read -r line; do id=${{line#*\"id\":\"}}; id=${{id%%\"*}}; {answer}; done"#)
}

fn ids(n: usize) -> RecordBatch {
    let ids: Vec<String> = (0..n).map(|row| format!("r{row}")).collect();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect())])
}

fn run(settings: Value, n: usize) -> Outcome {
    testing::run::<CommandConfig>(settings, &[(Port::FROM, ids(n))])
}

fn fails(settings: Value, n: usize) -> String {
    let input = [(Port::FROM, ids(n))];
    let built = testing::build::<CommandConfig>(settings, vec![(Port::FROM, input[0].1.schema())]).expect("it builds");
    let ran = testing::run_stage(&built, &input, CUTS[0]).and_then(|_| testing::finish(&built));
    ran.expect_err("the stage stops").to_string()
}

fn rejected(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome.rejected.iter().map(|rejection| (rejection.id.as_deref().unwrap_or_default(), rejection.reason)).collect()
}

#[test]
fn it_keeps_the_contract() {
    let script = each(
        r#"case $id in
            *3) echo '{"id":"'$id'","drop_reason":"odd","drop_value":3,"drop_threshold":2.5}';;
            *5) echo '{"id":"'$id'","n":"five"}';;
            *7) exit 7;;
            *) echo '{"id":"'$id'","n":1.0,"more":[]}';;
        esac"#,
    );
    let settings = sh(&script, json!({"adds": {"n": "int8"}, "drops": ["odd"], "columns": ["id"], "batch_rows": 7}));
    let got = testing::check_contract::<CommandConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
    assert_eq!((got.rows().num_rows(), got.dropped().num_rows()), (28, 4));
    assert_eq!(testing::column(got.rows(), "n"), ["1"; 28]);
    let expected: Vec<(&str, &str)> = [["doc-05", "wrong_type"], ["doc-07", "command_died"]].map(|[id, why]| (id, why)).to_vec();
    assert_eq!(rejected(&got)[..2], expected);
    assert_eq!(got.rejected[1].detail, "ended with exit code 7; it wrote nothing to stderr");
    let dropped = got.dropped();
    assert_eq!(testing::column(dropped, dropped::REASON.name()), ["odd"; 4]);
    assert_eq!(
        (testing::column(dropped, "drop_value")[0].as_str(), testing::column(dropped, "drop_threshold")[0].as_str()),
        ("3.0", "2.5")
    );
}

#[test]
fn columns_are_added_replaced_and_removed_in_their_places() {
    let input = testing::strings(&[("id", vec![Some("a")]), ("text", vec![Some("x")]), ("url", vec![Some("u")]), ("last", vec![None])]);
    let script = r#"while read -r line; do echo '{"id":"a","text":["p","q"],"n":null,"got":'"$line"'}'; done"#;
    let adds =
        json!({"adds": {"n": "float32", "text": "list<string>", "got": "json"}, "removes": ["text", "url"], "columns": ["id", "last"]});
    let got = testing::run::<CommandConfig>(sh(script, adds), &[(Port::FROM, input)]);
    let names: Vec<String> = got.rows().schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "text", "last", "n", "got"]);
    assert_eq!(testing::column(got.rows(), "text"), ["[p, q]"]);
    assert_eq!(got.rows().column(3).as_primitive::<Float32Type>().iter().flatten().count(), 0);
    assert_eq!(testing::column(got.rows(), "got"), [r#"{"id":"a","last":null}"#]);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |settings: Value| testing::refusal::<CommandConfig>(settings, &[(Port::FROM, testing::sample())]);
    let with = |more: Value| refused(sh("cat", more));
    assert_eq!(with(json!({})), "run: wanted `adds` or `drops`, or the program's answers change nothing; found neither");
    assert_eq!(with(json!({"adds": {"text": "string"}})), "adds: adds column `text`, which the input already has");
    assert_eq!(with(json!({"adds": {"id": "string"}})), "adds: `id` is what a row is called by all stages; it stays");
    assert_eq!(with(json!({"adds": {"n": "int8"}, "removes": ["id"]})), "removes: `id` is what a row is called by all stages; it stays");
    assert!(with(json!({"adds": {"n": "int8"}, "columns": ["txt"]})).starts_with("columns: needs column `txt`, but the input has"));
    assert!(
        with(json!({"adds": {"drop_reason": "int8"}, "drops": ["x"]})).starts_with("adds: with `drops`, `drop_reason` in an answer is")
    );
    assert!(with(json!({"drops": ["Bad One"]})).contains("such as `off_topic`; found `Bad One`"));
    assert!(with(json!({"drops": ["a", "a"]})).contains("each once"));
    assert!(with(json!({"adds": {"n": "int8"}, "batch_rows": 0})).contains("a batch has 1 to 8192 rows, not 0"));
    let adds = json!({"n": "int8"});
    assert!(refused(json!({"run": [], "adds": adds})).starts_with("run: wanted a program"));
    assert!(refused(json!({"run": ["sh", "a\0b"], "adds": adds})).starts_with("run: item 2 holds a NUL character"));
    assert!(refused(json!({"run": ["no-such-thing"], "adds": adds})).starts_with("run: there is no program `no-such-thing` in PATH"));
    assert!(refused(json!({"run": ["sh", "score.py"], "adds": adds})).starts_with("run: there is no file `score.py`"));
    assert!(refused(json!({"run": ["sh"], "files": ["lib/*.py"], "adds": adds})).starts_with("files: "));
    assert!(refused(json!({"run": ["sh"], "files": ["src"], "adds": adds})).starts_with("files: `src` is a folder"));
}

#[test]
fn only_the_row_that_kills_it_is_rejected() {
    let script = each(r#"if [ "$id" = r41 ]; then echo "can't stand $id" >&2; kill -SEGV $$; fi; echo '{"id":"'$id'","n":1}'"#);
    let got = run(sh(&script, json!({"adds": {"n": "int8"}})), 300);
    assert_eq!(rejected(&got), [("r41", "command_died")]);
    assert_eq!(got.rejected[0].detail, "was ended by signal 11 (SIGSEGV); the end of what it wrote to stderr:\ncan't stand r41");
    let others = (0..300).filter(|row| *row != 41).map(|row| format!("r{row}"));
    assert_eq!(testing::column(got.rows(), "id"), others.collect::<Vec<_>>());
}

#[test]
fn a_program_that_ends_after_each_batch_is_started_again() {
    let got = run(sh(&format!("head -n 8 | {ECHO}"), json!({"adds": {"n": "int8"}, "batch_rows": 8})), 50);
    assert_eq!((got.rows().num_rows(), got.rejected.len()), (50, 0));
}

#[test]
fn a_row_that_hangs_is_rejected_when_its_time_is_up() {
    let script = each(r#"if [ "$id" = r5 ]; then echo waiting >&2; sleep 1000; fi; echo '{"id":"'$id'","n":1}'"#);
    let got = run(sh(&script, json!({"adds": {"n": "int8"}, "timeout_seconds": 1})), 9);
    assert_eq!(rejected(&got), [("r5", "command_timed_out")]);
    assert!(got.rejected[0].detail.starts_with("no answer within 1 s") && got.rejected[0].detail.ends_with("waiting"), "{got:?}");
    assert_eq!(got.rows().num_rows(), 8);
}

#[test]
fn a_row_that_writes_something_else_is_rejected() {
    let cases = [
        (
            r#"echo "looking at $id"; echo '{"id":"'$id'","n":1}'"#,
            "no_json",
            "line 1 of its answer is no JSON object: `looking at r5`; only",
        ),
        (r#"echo '{"id":"'$id'","n":1}'; echo done"#, "extra_output", "after its answer to a single row it wrote `done`; only"),
        (
            r#"echo '{"id":"'$id'","n":1}'; echo '{"id":"'$id'","n":1}'"#,
            "extra_output",
            "after its answer to a single row it wrote `{\"id\"",
        ),
        (r#"echo '{"id":"x","n":1}'"#, "wrong_row", "answer 1 has id `x`, wanted was `r5`: answers must come in the order"),
        (
            r#"echo '{"id":"'$id'","n":1, "m":NaN}'"#,
            "invalid_json",
            "(JSON has no NaN or Infinity; null takes their place): `{\"id\":\"r5\"",
        ),
        (r#"echo "{'id': '$id'}""#, "invalid_json", "(a Python dict is no JSON; `json.dumps` writes it as such): `{'id'"),
        (r#"printf '{"id":"\377"}\n'"#, "invalid_utf8", "no UTF-8 at byte 7 of the line"),
        (r#"echo '{"id":"'$id'","n":300}'"#, "wrong_type", "`n`: wanted int8, found 300: `{\"id\":\"r5\",\"n\":300}`"),
        (r#"echo '{"id":"'$id'"}'"#, "missing_column", "the answer has no `n`; null stands for no value"),
        (r#"echo '{"n":1}'"#, "missing_column", "the answer has no `id`; it has to repeat the row's"),
        (r#"echo '{"id":"'$id'","drop_reason":"ugly"}'"#, "unknown_reason", "`drop_reason`: wanted null or one of odd, found `ugly`"),
        (r#"printf '{"id":"%05000d","n":1}\n' 1"#, "answer_too_long", "as many as `max_answer_bytes` allows"),
        ("exec cat >/dev/null", "no_answer", "ended with exit code 0 without an answer"),
        ("exec >&-; sleep 100", "no_answer", "closed its output and went on without an answer"),
    ];
    for (answer, reason, detail) in cases {
        let script = each(&format!(r#"if [ "$id" = r5 ]; then {answer}; else echo '{{"id":"'$id'","n":1}}'; fi"#));
        let got = run(sh(&script, json!({"adds": {"n": "int8"}, "drops": ["odd"], "max_answer_bytes": 1000})), 40);
        assert_eq!(rejected(&got), [("r5", reason)], "{answer}: {got:?}");
        assert!(got.rejected[0].detail.contains(detail), "{answer}: {}", got.rejected[0].detail);
        assert_eq!(testing::column(got.rows(), "n"), ["1"; 39], "{answer}");
    }
}

#[test]
fn a_line_without_an_end_does_not_fill_the_memory() {
    let script = each(r#"if [ "$id" = r2 ]; then yes | tr -d '\n'; else echo '{"id":"'$id'","n":1}'; fi"#);
    let got = run(sh(&script, json!({"adds": {"n": "int8"}, "max_answer_bytes": 1 << 20})), 5);
    assert_eq!((rejected(&got), got.rows().num_rows()), (vec![("r2", "answer_too_long")], 4));
}

#[test]
fn a_program_that_cannot_work_stops_the_run() {
    let adds = || json!({"adds": {"n": "int8"}});
    assert_eq!(
        fails(sh("echo no module >&2; exit 1", adds()), 3),
        "`sh -c echo no module >&2; exit 1` ended with exit code 1 when it has no row to read; the end of what it wrote to stderr:\nno module"
    );
    let said = fails(sh(&format!("echo Loading; {ECHO}"), adds()), 3);
    assert!(said.ends_with("writes `Loading` before it has read a row; only answers may go to stdout, the rest to stderr"), "{said}");
    let said = fails(sh("while read -r line; do exit 4; done", adds()), 40);
    assert!(said.contains("fails on row after row (16 so far, the last of them `r15`): ended with exit code 4"), "{said}");
    let said = fails(sh("read -r line; sleep 1000", json!({"adds": {"n": "int8"}, "timeout_seconds": 1, "batch_rows": 1})), 40);
    assert!(said.contains("fails on row after row (4 so far"), "{said}");
    let said = fails(sh(&each(r#"echo '{"id":"'$id'","n":"x"}'"#), adds()), 20);
    assert!(said.contains("gave no answer that can be used to any of 20 rows; the last: `n`: wanted int8, found \"x\""), "{said}");
}

#[test]
fn a_program_that_never_answers_stops_the_run_however_small_the_batches_are() {
    let input = [(Port::FROM, ids(100))];
    let settings = sh("while read -r line; do exit 4; done", json!({"adds": {"n": "int8"}}));
    let built = testing::build::<CommandConfig>(settings, vec![(Port::FROM, input[0].1.schema())]).expect("it builds");
    let error = testing::run_stage(&built, &input, Cut { batch_rows: 3, shard_rows: 3, ranges: 1 }).expect_err("it stops").to_string();
    assert!(error.contains("fails on row after row (64 so far, the last of them `r63`)"), "{error}");
}

#[test]
fn no_more_programs_run_than_allowed_and_they_are_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("starts");
    let script = format!("echo x >> {}; {ECHO}", log.display());
    let settings = sh(&script, json!({"adds": {"n": "int8"}, "max_processes": 1, "batch_rows": 4}));
    let input = ids(64);
    let built = testing::build::<CommandConfig>(settings, vec![(Port::FROM, input.schema())]).expect("it builds");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| testing::run_stage(&built, &[(Port::FROM, input.clone())], CUTS[1]).expect("it runs"));
        }
    });
    assert_eq!(std::fs::read_to_string(log).expect("a log"), "x\n");
}

#[test]
fn the_files_it_is_made_of_are_known_and_may_not_change_under_way() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["score.sh", "words.txt", "lib/a.py", "lib/b.py", "lib/data.bin"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, format!("exec {ECHO}\n")).expect("written");
    }
    let schema = ids(1).schema();
    let mut cx = BuildContext::new("s", folder.path(), 7, vec![(Port::FROM, schema)]);
    let settings = json!({"run": ["sh", "score.sh", "--words", "words.txt"], "files": ["lib/*.py"], "adds": {"n": "int8"}});
    let config: CommandConfig = serde_json::from_value(settings).expect("settings");
    let names = StageConfig::files(&config, &cx).expect("files").into_iter().map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), ["score.sh", "words.txt", "lib/a.py", "lib/b.py"]);
    let outputs = StageConfig::outputs(&config, &cx).expect("outputs");
    cx.outputs = Some(outputs.clone());
    let stage = StageConfig::build(&config, &cx).expect("it builds");
    let built = testing::Built { stage, outputs };
    assert_eq!(testing::run_stage(&built, &[(Port::FROM, ids(3))], CUTS[0]).expect("it runs").rows().num_rows(), 3);
    // A program that is running is what it was; the next one would not be.
    std::fs::write(folder.path().join("lib/b.py"), "# other").expect("written");
    testing::run_stage(&built, &[(Port::FROM, ids(3))], CUTS[0]).expect("the first program goes on");
    let stage = StageConfig::build(&config, &cx).expect("it builds");
    let built = testing::Built { stage, outputs: built.outputs.clone() };
    std::fs::write(folder.path().join("words.txt"), "other words").expect("written");
    let error = testing::run_stage(&built, &[(Port::FROM, ids(3))], CUTS[0]).expect_err("it stops").to_string();
    assert!(error.contains("words.txt: it was changed while the run was under way"), "{error}");
}

#[test]
fn what_it_does_after_its_last_answer_counts() {
    let adds = || json!({"adds": {"n": "int8"}, "timeout_seconds": 2});
    let cases = [
        ("echo bad sum >&2; exit 3", "ended with exit code 3, after its last answer; the end of what it wrote to stderr:\nbad sum"),
        ("echo; echo done", "wrote `done`; only answers may go to stdout, one a row, after its last answer; it wrote nothing to stderr"),
        ("sleep 1000", "did not end within 2 s when its input had ended, after its last answer; it wrote nothing to stderr"),
        ("exec >&-; sleep 1000", "did not end within 2 s when its input had ended, after its last answer; it wrote nothing to stderr"),
        ("kill -SEGV $$", "was ended by signal 11 (SIGSEGV), after its last answer; it wrote nothing to stderr"),
    ];
    for (end, problem) in cases {
        let said = fails(sh(&format!("{ECHO}; {end}"), adds()), 20);
        assert!(said.ends_with(problem), "{end}: {said}");
    }
    // White space is no answer, and what ends well may take its time.
    let got = run(sh(&format!("{ECHO}; sleep 0.3; echo"), adds()), 20);
    assert_eq!((got.rows().num_rows(), got.rejected.len()), (20, 0));
}

#[test]
fn a_program_that_always_takes_as_long_as_it_may_is_given_up_soon() {
    let settings = |script: &str| sh(script, json!({"adds": {"n": "int8"}, "timeout_seconds": 1, "max_answer_bytes": 1 << 20}));
    let cases = [
        ("cat >/dev/null; sleep 1000", "no answer within 1 s"),
        ("exec >&-; sleep 1000", "closed its output and went on without an answer"),
        ("read -r line; printf %s \"${line%?}\"; sleep 1000", "no answer within 1 s; the last line that it wrote has no end"),
        ("read -r line; head -c 3000000 /dev/zero | tr '\\0' x", "more than 1048576 bytes of answers to"),
    ];
    for (script, problem) in cases {
        let started = std::time::Instant::now();
        let said = fails(settings(script), 256);
        assert!(said.contains("fails on row after row") && said.contains(problem), "{script}: {said}");
        assert!(started.elapsed() < Duration::from_secs(15), "{script}: {:?}", started.elapsed());
    }
    // It answers when its input ends, and never before.
    let said = fails(settings(&format!("lines=$(cat); echo \"$lines\" | {ECHO}")), 256);
    assert!(said.contains("answers rows alone, but fails on batch after batch: no answer within 1 s; a program has to flush"), "{said}");
}

#[test]
fn one_row_that_hangs_a_whole_batch_is_found() {
    // It reads all that is there before it answers, as with `arrow`.
    let script = r#"while IFS= read -r line; do
        lines=$line; while IFS= read -t 0.2 -r more; do lines+=$'\n'$more; done
        case $lines in *'"r5"'*) sleep 1000;; esac
        sed 's/}$/,"n":1}/' <<< "$lines"
    done"#;
    let settings = json!({"run": ["bash", "-c", script], "adds": {"n": "int8"}, "timeout_seconds": 1, "batch_rows": 16});
    let got = run(settings, 32);
    assert_eq!(rejected(&got), [("r5", "command_timed_out")], "{got:?}");
    assert_eq!(got.rows().num_rows(), 31);
}
