//! What the machine does to a run: odd files, full disks, missing rights, other runs, clocks, and pipeline files that mean harm.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::harness::{Project, Said, differences, said};
use crate::resume::tiny;

const ROW: &str = "{\"id\": \"1\", \"text\": \"a\"}\n";

const READ_IN: &str = "{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: in}}}";

/// What a call told the person, without the line breaks of a narrow terminal.
fn told(said: &Said) -> String {
    said.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// Runs, and checks the exit code and a part of what is said.
fn refused(project: &Project, code: i32, wanted: &str) {
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(code), "{said:#?}");
    assert!(told(&said).contains(wanted), "wanted {wanted}: {said:#?}");
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let project = Project::with(&READ_IN.replace("path: in", "path: rows.jsonl"));
    fs::create_dir(project.path("rows.jsonl")).expect("made");
    refused(&project, 2, "no file matches *.jsonl, *.ndjson, *.json in folder");
    fs::remove_dir(project.path("rows.jsonl")).expect("removed");
    let made = Command::new("mkfifo").arg(project.path("rows.jsonl")).status().expect("mkfifo");
    assert!(made.success());
    refused(&project, 2, "rows.jsonl is a pipe or a device");
    for (address, wanted) in
        [("gs://bucket/rows.jsonl", "`gs://` is not supported"), ("https://example.org/*.jsonl", "`https://` is not supported")]
    {
        project.write("pipeline.yaml", READ_IN.replace("path: in", &format!("path: \"{address}\"")));
        refused(&project, 2, wanted);
    }
    project.write("in/a.jsonl", ROW);
    project.write("pipeline.yaml", READ_IN.replace("output: out", "output: \"gs://bucket/out\""));
    refused(&project, 2, "`gs://` is not supported");
    project.write("pipeline.yaml", READ_IN.replace("output: out", "output: in/a.jsonl"));
    refused(&project, 2, "in/a.jsonl");
    let said = project.call(&["run", "in"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(told(&said).contains("it is a folder"), "{said:#?}");
}

#[test]
fn what_lies_beside_the_inputs_may_be_closed() {
    let project = Project::with(&READ_IN.replace("path: in", "path: \"in/*.jsonl\""));
    project.write("in/a.jsonl", ROW);
    project.write("in/lost+found/b.jsonl", ROW);
    fs::create_dir(project.path("out")).expect("made");
    allow(&project.path("out"), 0o777);
    allow(&project.path("in/lost+found"), 0o000);
    let run = |project: &Project| said(stranger(project).args(["run", "pipeline.yaml"]).output().expect("the command starts"));
    let open = run(&project);
    project.write("pipeline.yaml", READ_IN.replace("path: in", "path: \"in/**/*.jsonl\""));
    let closed = run(&project);
    allow(&project.path("in/lost+found"), 0o755);
    assert_eq!(open.code, Some(0), "{open:#?}");
    assert_eq!(closed.code, Some(2), "it may hold a file that is wanted: {closed:#?}");
}

#[test]
fn messages_that_find_no_room_stop_nothing_and_data_that_find_none_are_told_of() {
    let project = Project::with(READ_IN);
    project.write("in/a.jsonl", ROW);
    let full = || fs::File::options().write(true).open("/dev/full").expect("a device that is full");
    let quiet = project.command().args(["run", "pipeline.yaml"]).stderr(full()).output().expect("the command starts");
    assert_eq!(quiet.status.code(), Some(0));
    assert_eq!(project.count("out/rows"), 1);
    for args in [&["stages"][..], &["status", "out"], &["plan", "pipeline.yaml"]] {
        let said = said(project.command().args(args).stdout(full()).stderr(Stdio::piped()).output().expect("the command starts"));
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(told(&said).contains("can't write to standard output"), "{said:#?}");
    }
}

#[test]
fn loops_of_links_end() {
    let project = Project::with(READ_IN);
    project.write("in/deep/a.jsonl", ROW);
    symlink(project.path("in"), project.path("in/deep/up")).expect("linked");
    symlink("self", project.path("in/self")).expect("linked");
    symlink("nowhere", project.path("in/dangling")).expect("linked");
    for path in ["in", "\"in/**/*.jsonl\""] {
        project.write("pipeline.yaml", READ_IN.replace("path: in", &format!("path: {path}")));
        project.run(&[]);
        assert_eq!(project.count("out/rows"), 1, "{path}");
    }
    symlink("b.jsonl", project.path("in/b.jsonl")).expect("linked");
    refused(&project, 2, "in/b.jsonl: Too many levels of symbolic links");
    fs::remove_file(project.path("in/b.jsonl")).expect("removed");
    symlink("gone", project.path("in/b.jsonl")).expect("linked");
    refused(&project, 2, "in/b.jsonl: No such file or directory");
    fs::remove_file(project.path("in/b.jsonl")).expect("removed");
    symlink("loop", project.path("loop")).expect("linked");
    project.write("pipeline.yaml", READ_IN.replace("output: out", "output: loop"));
    refused(&project, 2, "/loop is no folder");
}

#[test]
fn names_that_are_no_utf_8_are_read_and_remembered_as_they_are() {
    let project = Project::with(READ_IN);
    fs::create_dir(project.path("in")).expect("made");
    let odd = project.path("in").join(OsStr::from_bytes(b"\xff\xfe%.jsonl"));
    fs::write(&odd, format!("{{\"text\": \"a\"}}\n{ROW}{{\n")).expect("written");
    project.run(&[]);
    assert_eq!(project.column("out/rows", "id"), ["rows/%FF%FE%25.jsonl@0", "1"].map(|id| Some(id.to_owned())));
    assert_eq!(project.column("out/rejected/rows", "file"), [Some("%FF%FE%25.jsonl".to_owned())]);
    let again = project.run(&[]);
    assert!(again.stderr.contains("nothing to do"), "{again:#?}");
    fs::write(&odd, ROW).expect("written");
    project.run(&[]);
    assert_eq!(project.count("out/rows"), 1);
    // The pipeline file, and the folder that it lies in.
    let folder = project.path("").join(OsStr::from_bytes(b"\xc0 folder"));
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("rows.jsonl"), ROW).expect("written");
    let file = folder.join(OsStr::from_bytes(b"\xc1.yaml"));
    fs::write(&file, READ_IN.replace("path: in", "path: rows.jsonl")).expect("written");
    for _ in 0..2 {
        let said = said(project.command().arg("run").arg(&file).output().expect("the command starts"));
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    assert!(folder.join("out/rows/part-00000.parquet").exists());
}

#[test]
fn folders_where_the_run_keeps_its_files_are_told_of_or_make_room() {
    let undisturbed = tiny();
    undisturbed.run(&[]);
    let expected = undisturbed.files("out");
    let kept: Vec<String> = expected.keys().filter(|name| name.starts_with(".pipeline/")).cloned().collect();
    let of = |part: &str| kept.iter().find(|name| name.contains(part)).expect(part).clone();
    for name in [".pipeline/inputs.json".to_owned(), of("/done/"), of("/published/")] {
        let project = tiny();
        project.run(&[]);
        fs::remove_file(project.path("out").join(&name)).expect("it was there");
        fs::create_dir(project.path("out").join(&name)).expect("made");
        project.run(&[]);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "{name}");
    }
    let project = tiny();
    project.write("out/.pipeline/inputs.json/mine.txt", "mine");
    refused(&project, 1, "inputs.json is a folder with something in it, where a file of the run belongs; move it away");
    assert_eq!(fs::read(project.path("out/.pipeline/inputs.json/mine.txt")).expect("still there"), b"mine");
    for (name, wanted) in [(".pipeline/lock", "Is a directory"), (".pipeline", "Not a directory"), (".pipeline/done", "Not a directory")] {
        let project = tiny();
        if name == ".pipeline/lock" {
            fs::create_dir_all(project.path("out").join(name)).expect("made");
        } else {
            project.write(&format!("out/{name}"), "");
        }
        refused(&project, 1, wanted);
    }
}

/// Garbage in place of what a run remembers is as if it were not there, and never a wrong row.
#[test]
fn garbage_in_marks_and_memories_is_made_again() {
    let undisturbed = tiny();
    undisturbed.run(&["--shard-rows", "16"]);
    let expected = undisturbed.files("out");
    let garbage: [&[u8]; 6] = [b"", b"{", b"null", b"[]", b"{\"files\": 5, \"task\": [], \"tables\": {}}", b"\xff\0\xff"];
    for garbage in garbage {
        let project = tiny();
        project.run(&["--shard-rows", "16"]);
        for folder in ["done", "published"] {
            for entry in fs::read_dir(project.path("out/.pipeline").join(folder)).expect("marks") {
                fs::write(entry.expect("an entry").path(), garbage).expect("changed");
            }
        }
        for name in [".pipeline/inputs.json", ".pipeline/progress.json", "run.json"] {
            project.write(&format!("out/{name}"), garbage);
        }
        for args in [&["status", "out"][..], &["report", "out"], &["trace", "out", "1"]] {
            let said = project.call(args);
            assert!(matches!(said.code, Some(0..=2)), "{said:#?}");
        }
        project.run(&["--shard-rows", "16"]);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "{garbage:?}");
    }
    // Blocks of a table that lie outside of their file.
    let project = tiny();
    project.run(&["--shard-rows", "16"]);
    let mut changed = 0;
    for entry in fs::read_dir(project.path("out/.pipeline/done")).expect("marks") {
        let path = entry.expect("an entry").path();
        let mut mark: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("a mark");
        for block in
            mark["tables"].as_array_mut().expect("tables").iter_mut().flat_map(|table| table["blocks"].as_array_mut().expect("blocks"))
        {
            block["end"] = u64::MAX.into();
            changed += 1;
        }
        fs::write(&path, mark.to_string()).expect("changed");
    }
    assert!(changed > 0);
    fs::write(project.path("pipeline.yaml"), crate::resume::TINY.replace("keep: true", "keep: false")).expect("edited");
    project.run(&["--shard-rows", "16"]);
    assert_eq!(project.count("out/split"), undisturbed.count("out/split"));
}

/// Runs `script` where it may mount what nobody else sees; `None`, with a word why, where that is not allowed.
fn unshared(project: &Project, script: &str) -> Option<Said> {
    if !Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI has to be allowed to mount");
        eprintln!("skipped: no right to mount a small disk");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_pipeline")]).current_dir(project.path("")).env("NO_COLOR", "1");
    Some(said(command.output().expect("unshare starts")))
}

#[test]
fn a_full_disk_stops_the_run_and_room_lets_it_go_on() {
    let project = tiny();
    let noise = |n: u64| {
        (0..8).map(|part| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&[n, part].map(u64::to_le_bytes).concat()))).collect::<String>()
    };
    let rows: Vec<String> = (0..20_000).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"{}\"}}\n", noise(n))).collect();
    project.write("rows.jsonl", rows.concat());
    let undisturbed = Project::with(&fs::read_to_string(project.path("pipeline.yaml")).expect("read"));
    undisturbed.write("rows.jsonl", rows.concat());
    undisturbed.run(&[]);
    fs::create_dir(project.path("out")).expect("made");
    // 1 MB does not hold the first checkpoint, 5 MB not all of them.
    let script = "mount -t tmpfs -o size=16k tmpfs out || exit 99
        for size in 1m 5m 200m; do
            mount -o remount,size=$size out || exit 99
            $1 run pipeline.yaml; echo code $?
        done
        $1 run pipeline.yaml; echo code $?
        cp -a out kept";
    let Some(said) = unshared(&project, script) else { return };
    assert_eq!(said.stdout, "code 1\ncode 1\ncode 0\ncode 0\n", "{said:#?}");
    assert!(told(&said).contains("No space left on device (os error 28)"), "{said:#?}");
    assert!(told(&said).contains("`pipeline run pipeline.yaml` goes on where this stopped"), "{said:#?}");
    assert!(said.stderr.contains("nothing to do"), "{said:#?}");
    assert_eq!(differences(&project.files("kept"), &undisturbed.files("out")), [""; 0]);
}

/// The command as somebody who owns nothing here; as oneself where one is not root.
fn stranger(project: &Project) -> Command {
    if fs::metadata(project.path("pipeline.yaml")).expect("it is there").uid() != 0 {
        return project.command();
    }
    // Where it was built, others may not go.
    let program = project.path("command-of-others");
    if !program.exists() {
        let built = env!("CARGO_BIN_EXE_pipeline");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(|_| ())).expect("a copy of the command");
    }
    let mut command = Command::new(program);
    command.current_dir(project.path("")).stdin(Stdio::null()).env("NO_COLOR", "1").uid(65534).gid(65534);
    command
}

/// What others may do with `path`, and its owner too.
fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn what_may_not_be_read_or_written_is_told_with_its_path() {
    let project = Project::with(READ_IN);
    project.write("in/a.jsonl", ROW);
    let refused = |code: i32, wanted: &[&str]| {
        let said = said(stranger(&project).args(["run", "pipeline.yaml"]).output().expect("the command starts"));
        assert_eq!(said.code, Some(code), "{said:#?}");
        assert!(wanted.iter().all(|wanted| told(&said).contains(wanted)), "wanted {wanted:?}: {said:#?}");
    };
    allow(&project.path(""), 0o555);
    refused(2, &["can't write to the output folder", "Permission denied"]);
    allow(&project.path(""), 0o755);
    fs::create_dir(project.path("out")).expect("made");
    allow(&project.path("out"), 0o777);
    allow(&project.path("in/a.jsonl"), 0o000);
    refused(2, &["in/a.jsonl", "Permission denied"]);
    allow(&project.path("in/a.jsonl"), 0o644);
    allow(&project.path("in"), 0o000);
    refused(2, &["in", "Permission denied"]);
    allow(&project.path("in"), 0o755);
    allow(&project.path("pipeline.yaml"), 0o000);
    refused(2, &["can't read the pipeline file", "Permission denied"]);
    allow(&project.path("pipeline.yaml"), 0o644);
    let done = said(stranger(&project).args(["run", "pipeline.yaml"]).output().expect("the command starts"));
    assert_eq!(done.code, Some(0), "{done:#?}");
    // A folder of the output that became somebody else's.
    allow(&project.path("out/.pipeline/done"), 0o555);
    if fs::metadata(project.path("pipeline.yaml")).expect("it is there").uid() == 0 {
        let owned = Command::new("chown").arg("-R").arg("0:0").arg(project.path("out/.pipeline/done")).status().expect("chown");
        assert!(owned.success());
    }
    project.write("in/a.jsonl", ROW.repeat(2));
    refused(1, &[".pipeline/done", "Permission denied"]);
    allow(&project.path("out/.pipeline/done"), 0o777);
}

/// A run over so much that it is far from done when its first checkpoint lies there.
fn long_run() -> (Project, Child) {
    let project = Project::with("{version: 1, name: t, output: out, stages: {rows: {use: read_jsonl, path: rows.jsonl}}}");
    project.write("rows.jsonl", (0..200_000).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"text {n}\"}}\n")).collect::<String>());
    let mut run = project.start(&["--shard-rows", "2000", "--threads", "1"]);
    while fs::read_dir(project.path("out/.pipeline/data")).is_err() && run.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(1)); // polls for a file of another process
    }
    (project, run)
}

#[test]
fn under_nohup_a_run_goes_on_when_its_terminal_is_closed() {
    let project = Project::with(
        "
version: 1
name: t
output: out
stages:
  rows: {use: read_jsonl, path: a.jsonl, columns: {id: string, n: int64}}
  slow:
    use: command
    from: rows
    run: [sh, -c, 'touch started; while [ ! -e go ]; do sleep 0.05; done; cat']
    removes: [n]
    adds: {n: int64}
",
    );
    project.write("a.jsonl", "{\"id\": \"1\", \"n\": 1}\n");
    let mut run = Command::new("nohup");
    run.arg(project.command().get_program()).args(["run", "pipeline.yaml"]).current_dir(project.path("")).stdin(Stdio::null());
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("nohup");
    while !project.path("started").exists() && run.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(1)); // polls for a file of another process
    }
    let sent = Command::new("kill").args(["-HUP", &run.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    project.write("go", "");
    let run = said(run.wait_with_output().expect("it ends"));
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_eq!(project.count("out/slow"), 1);
}

#[test]
fn of_two_runs_on_one_output_the_second_is_refused() {
    let (project, run) = long_run();
    for args in [&["run", "pipeline.yaml"][..], &["run", "pipeline.yaml", "--fresh"]] {
        let second = project.call(args);
        assert_eq!(second.code, Some(1), "{second:#?}");
        assert!(told(&second).contains(&format!("another run (process {}) is working on", run.id())), "{second:#?}");
    }
    let first = said(run.wait_with_output().expect("it ends"));
    assert_eq!(first.code, Some(0), "{first:#?}");
    assert_eq!(project.count("out/rows"), 200_000);
}

#[test]
fn an_output_that_is_removed_in_mid_run_is_made_again() {
    let (project, run) = long_run();
    fs::rename(project.path("out"), project.path("gone")).expect("moved away"); // at once, as `rm -r` may meet what is just written
    let first = said(run.wait_with_output().expect("it ends"));
    if first.code == Some(0) {
        assert_eq!(project.count("out/rows"), 200_000, "it said that it was done");
    } else {
        assert_eq!(first.code, Some(1), "{first:#?}");
    }
    project.run(&["--shard-rows", "2000"]);
    assert_eq!(project.count("out/rows"), 200_000);
}

#[test]
fn clocks_that_jump_hide_no_change_and_make_none() {
    let day = Duration::from_hours(24);
    let epoch = SystemTime::UNIX_EPOCH;
    let times = [epoch + 40_000 * day, epoch, epoch - 10_000 * day, epoch + 200_000 * day, SystemTime::now() + day];
    let set = |path: &Path, time: SystemTime| fs::File::open(path).and_then(|file| file.set_modified(time)).expect("time set");
    let project = tiny();
    project.run(&[]);
    let expected = project.files("out");
    let rows = fs::read_to_string(project.path("rows.jsonl")).expect("read");
    for (number, time) in times.into_iter().enumerate() {
        set(&project.path("rows.jsonl"), time);
        for name in expected.keys() {
            set(&project.path("out").join(name), time);
        }
        for _ in 0..2 {
            let said = project.run(&[]);
            assert!(said.stderr.contains("nothing to do"), "{said:#?}");
        }
        // The same length at the same place, and a time that was never seen or is still to come.
        let other = rows.replacen("text 100", &format!("tex{number} 100"), 1);
        fs::write(project.path("rows.jsonl"), other).expect("changed");
        set(&project.path("rows.jsonl"), time + day);
        project.run(&[]);
        let texts = [project.column("out/split", "text"), project.column("out/split.holdout", "text")].concat();
        assert!(texts.contains(&Some(format!("tex{number} 100"))), "{texts:?}");
        fs::write(project.path("rows.jsonl"), &rows).expect("changed back");
        project.run(&[]);
    }
    assert_eq!(differences(&project.files("out"), &expected), [""; 0]);
}

#[test]
fn a_pipeline_file_that_means_harm_is_refused_in_words() {
    let bomb: String = (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    let stage = |id: &str| format!("version: 1\nname: t\noutput: out\nstages:\n  {id}: {{use: read_jsonl, path: in}}\n");
    let id = |id: &str| stage(&format!("\"{id}\""));
    let cases = [
        ("an alias bomb", format!("a0: &a0 [x]\n{bomb}"), "its aliases (`*name`) stand for more than 100000 values"),
        ("deep lists", "[".repeat(100_000), "nested deeper than 24 levels"),
        ("a tag", stage("rows").replace("name: t", "name: !include /etc/passwd"), "unsupported tag `!include`"),
        ("a tab", stage("rows").replace("  rows", "\trows"), "tabs disallowed"),
        (
            "a merge key that brings in a stranger",
            stage("rows").replace("version: 1", "<<: {version: 1, x: 1}"),
            "the file has no setting `x`",
        ),
        ("a key twice", format!("{}version: 1\n", stage("rows")), "twice"),
        ("a NUL", stage("rows").replace("name: t", "name: a\0b"), "unexpected character"),
        ("more than 4 MiB", "# \n".repeat(2 << 20), "larger than 4 MiB"),
        (
            "a huge number",
            stage("rows").replace("version: 1", &format!("version: {}", "9".repeat(10_000))),
            "the file is no valid YAML: value `9999",
        ),
        ("an id that climbs", id("../../x"), "`../../x` can't be a stage's id"),
        ("an absolute id", id("/tmp/x"), "`/tmp/x` can't be a stage's id"),
        ("an id that hides", id(".pipeline"), "`.pipeline` can't be a stage's id"),
        ("the id of a side output", id("rejected"), "`rejected` can't be a stage's id"),
        ("an empty id", id(""), "`` can't be a stage's id"),
        ("an id with a NUL", id("a\\0b"), "can't be a stage's id"),
        ("an id that no file system holds", id(&"x".repeat(300)), "at most 100 characters"),
        ("a name that climbs", stage("rows").replace("name: t\noutput: out", "name: ../../x"), "can't be a folder's name"),
    ];
    for (case, text, wanted) in cases {
        let project = Project::with(&text);
        project.write("in/a.jsonl", ROW);
        for command in ["check", "run"] {
            let said = project.call(&[command, "pipeline.yaml"]);
            assert_eq!(said.code, Some(2), "{case}: {said:#?}");
            assert!(told(&said).contains(wanted), "{case}, wanted {wanted}: {said:#?}");
            assert!(said.stderr.len() < 3000, "{case}: {said:#?}");
        }
        assert!(!project.path("out").exists(), "{case}");
    }
    // What looks odd and means no harm: a byte order mark, Windows line ends, a merge key.
    let odd = stage("rows").replace("rows: {", "rows: &rows {").replace('\n', "\r\n");
    let project = Project::with(
        &format!("\u{feff}{odd}  more: {{<<: *rows, id: text}}\r\n").replace("path: in", "path: in, columns: {text: string}"),
    );
    project.write("in/a.jsonl", ROW);
    project.run(&[]);
    assert_eq!(project.column("out/more", "id"), [Some("a".to_owned())]);
}
