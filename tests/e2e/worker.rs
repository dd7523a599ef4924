//! Tasks done one by one in processes of their own, as a cluster does them: the same bytes as one run, whatever is done twice or dies.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Project, Said, differences, said};

/// A source of which rows are read again, one that is decompressed, a chain, and the programs whose steps are most different.
const EVERYTHING: &str = "
version: 1
name: everything
seed: 11
output: out
stages:
  rows:   {use: read_jsonl, path: \"rows/*.jsonl\", columns: {id: string, text: string}}
  novel:  {use: read_text, path: samples/moby-dick/*.txt, split: paragraphs}
  long:
    use: filter_length
    from: [rows, novel]
    min_chars: ${FEWEST}
  unique: {use: dedup_exact, from: long}
  near:   {use: dedup_minhash, from: unique, jaccard_threshold: 0.9}
  sorted: {use: sort_rows, from: near, by: [id]}
";

/// Few rows a shard, so that there are many tasks; what both the plan and the run are told.
const TOLD: &[&str] = &["--shard-rows", "400", "--set", "stages.near.jaccard_threshold=0.6"];

fn everything() -> Project {
    let project = Project::with(EVERYTHING);
    for file in 0..3 {
        // Of 500 rows 50 are as another is, and 50 have one word more.
        let sentence = |n: usize| format!("the {} of {} and {} by {}", n * 7 % 401, n * n % 307, n % 97, n * 3 % 503);
        let text = |n: usize| (0..6).map(|part| sentence(n % 400 * 11 + part)).collect::<Vec<_>>().join(" ");
        let more = |n: usize| if n < 450 { "" } else { " indeed" };
        let rows = (0..500).map(|n| format!("{{\"id\": \"{file}-{n}\", \"text\": \"{}{}\"}}\n", text(n), more(n)));
        project.write(&format!("rows/{file}.jsonl"), rows.collect::<String>() + "no row\n");
    }
    project
}

impl Project {
    fn plan(&self, more: &[&str]) -> Said {
        said(self.command().args(["plan", "pipeline.yaml"]).args(TOLD).args(more).env("FEWEST", "30").output().expect("the command starts"))
    }

    /// The tasks that can be done now: name and label.
    fn ready(&self) -> Vec<(String, String)> {
        let said = self.plan(&["--tasks"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        let task = |line: &str| line.split_once('\t').map(|(name, label)| (name.to_owned(), label.to_owned())).expect("a name and a label");
        said.stdout.lines().map(task).collect()
    }

    /// A worker that knows nothing but where the output is and which task to do.
    fn worker(&self, task: &str) -> Command {
        let mut command = self.command();
        command.current_dir("/").arg("worker").arg(self.path("out")).arg(task).args(["--threads", "1", "--memory", "512MiB"]);
        command
    }

    fn run_everything(&self) {
        let run = self.command().args(["run", "pipeline.yaml"]).args(TOLD).env("FEWEST", "30").output();
        let said = said(run.expect("the command starts"));
        assert_eq!(said.code, Some(0), "{said:#?}");
    }

    /// What readers of the output see.
    fn published(&self) -> BTreeMap<String, Vec<u8>> {
        self.files("out").into_iter().filter(|(name, _)| !name.starts_with(".pipeline/")).collect()
    }
}

fn start(mut worker: Command) -> Child {
    worker.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts")
}

fn end(worker: Child) -> Said {
    said(worker.wait_with_output().expect("it ends"))
}

#[test]
fn workers_with_each_task_given_to_two_make_the_bytes_of_one_run() {
    let project = everything();
    let (mut rounds, mut tasks) = (0, 0);
    loop {
        let ready = project.ready();
        if ready.is_empty() {
            break;
        }
        for some in ready.chunks(3) {
            let workers: Vec<Child> = some.iter().flat_map(|(name, _)| [name, name]).map(|name| start(project.worker(name))).collect();
            for worker in workers {
                let said = end(worker);
                assert_eq!(said.code, Some(0), "{said:#?}");
                assert!(said.stderr.contains("done"), "{said:#?}");
            }
        }
        (rounds, tasks) = (rounds + 1, tasks + ready.len());
        assert!(!project.path("out/sorted").exists(), "workers publish nothing");
    }
    assert!(rounds > 12 && tasks > 2 * rounds, "{tasks} tasks in {rounds} rounds");
    project.run_everything();
    assert_eq!(project.record("out")["tasks"]["done"], 0, "all was done");
    let undisturbed = everything();
    undisturbed.run_everything();
    let expected = undisturbed.published();
    for folder in ["sorted", "dropped/long", "dropped/unique", "dropped/near", "rejected/rows"] {
        assert!(undisturbed.count(&format!("out/{folder}")) > 0, "{folder}");
    }
    assert_eq!(differences(&project.published(), &expected), [""; 0]);
}

#[test]
fn workers_that_are_killed_at_random_do_no_harm() {
    let project = everything();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(std::process::id());
    let mut next = move || {
        random = random.wrapping_mul(0xD129_0D3D_5A5B_8C4F).rotate_left(17) ^ 0x1234_5678_9ABC_DEF1;
        random >> 11
    };
    let (mut died, mut tries) = (0, BTreeMap::<String, u32>::new());
    loop {
        let ready = project.ready();
        if ready.is_empty() {
            break;
        }
        for (name, _) in ready {
            let tried = tries.entry(name.clone()).or_default();
            *tried += 1;
            // One dies after its first, second, … side effect, one at any moment; from the third time on they are left alone.
            let (mut one, two) = (project.worker(&name), start(project.worker(&name)));
            if *tried < 3 {
                one.args(["--crash-at", &(1 + next() % 6).to_string()]);
                let killed = kill_after(two, Duration::from_millis(next() % 60));
                died += u32::from(end(killed).code.is_none());
            } else {
                assert_eq!(end(two).code, Some(0));
            }
            died += u32::from(end(start(one)).code.is_none());
        }
    }
    assert!(died > 20, "only {died} died");
    project.run_everything();
    let undisturbed = everything();
    undisturbed.run_everything();
    assert_eq!(differences(&project.published(), &undisturbed.published()), [""; 0], "after {died} deaths");
    let left: Vec<String> = project.files("out").into_keys().filter(|name| name.contains('#')).collect();
    assert_eq!(left, [""; 0], "the run cleared away what they left");
    eprintln!("{died} of the workers died");
}

fn kill_after(mut worker: Child, time: Duration) -> Child {
    let until = Instant::now() + time;
    while Instant::now() < until && worker.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(1)); // the moment of the kill is what is being tested
    }
    let _ = worker.kill(); // it may have ended
    worker
}

const SMALL: &str = "
version: 1
name: small
output: out
stages:
  rows:   {use: read_jsonl, path: rows.jsonl}
  unique: {use: dedup_exact, from: rows}
";

fn small() -> Project {
    let project = Project::with(SMALL);
    project.write("rows.jsonl", (0..20).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"text {}\"}}\n", n % 15)).collect::<String>());
    project
}

/// Every file of the output with the time it was written.
fn times(project: &Project) -> BTreeMap<String, std::time::SystemTime> {
    let time = |name: &String| fs::metadata(project.path("out").join(name)).and_then(|meta| meta.modified()).expect("a time");
    project.files("out").into_keys().map(|name| (name.clone(), time(&name))).collect()
}

#[test]
fn a_task_that_is_done_is_not_done_again() {
    let project = small();
    let tasks = project.call(&["plan", "pipeline.yaml", "--tasks"]);
    assert_eq!(tasks.stderr, "");
    let (name, label) = tasks.stdout.trim_end().split_once('\t').expect("one task");
    assert_eq!(label, "rows split 0 to its output");
    let first = end(start(project.worker(name)));
    assert!(first.code == Some(0) && first.stderr.starts_with("rows split 0 to its output: done after "), "{first:#?}");
    let before = times(&project);
    let again = end(start(project.worker(name)));
    assert_eq!((again.code, again.stderr), (Some(0), format!("{name} (rows split 0 to its output) was done before\n")));
    assert_eq!(times(&project), before, "nothing was written");
    // What was done is not planned again, though the plan is another one.
    project.write("pipeline.yaml", SMALL.replace("dedup_exact", "dedup_exact, normalize: casefold"));
    let plan: serde_json::Value =
        serde_json::from_str(&project.call(&["plan", "pipeline.yaml", "--tasks", "--json"]).stdout).expect("JSON");
    assert_eq!(plan["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(plan["tasks"][0]["label"], "unique hash: shard 0");
    assert_eq!(plan["units"][0]["tasks_done"], 1);
}

#[test]
fn a_task_that_cannot_be_done_now_is_refused_and_what_comes_first_is_named() {
    let project = small();
    project.run(&[]);
    let marks = project.marks("out");
    let of = |label: &str| {
        marks.iter().find(|(_, (task, _))| task == label).map(|(name, _)| name.trim_end_matches(".json").to_owned()).expect(label)
    };
    let (read, hash) = (of("rows split 0 to its output"), of("unique hash: shard 0"));
    for name in [&read, &hash] {
        fs::remove_file(project.path(&format!("out/.pipeline/done/{name}.json"))).expect("removed");
    }
    let refused = end(start(project.worker(&hash)));
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    let told = refused.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(told.contains(&format!("`{hash}` is no task that can be done now")), "{told}");
    assert!(told.contains(&format!("`{read}` (rows split 0 to its output) comes first")), "{told}");
    assert!(told.contains("--tasks` lists the tasks that can be done now"), "{told}");
    let unknown = end(start(project.worker("0/../x")));
    assert_eq!(unknown.code, Some(2), "{unknown:#?}");
    // Several at once: each in its turn would do, but none is begun if one of them cannot be.
    let both = project.call(&["worker", "out", &read, &hash]);
    assert!(both.code == Some(2) && !project.marks("out").contains_key(&format!("{read}.json")), "{both:#?}");
    assert_eq!(project.call(&["worker", "out", &read]).code, Some(0));
    assert_eq!(project.call(&["worker", "out", &read, &hash]).code, Some(0));
    assert_eq!(project.call(&["plan", "pipeline.yaml", "--tasks"]).stdout, "");
}

#[test]
fn an_output_without_a_plan_or_with_that_of_another_version_is_refused() {
    let project = small();
    let task = "0".repeat(32);
    assert_eq!(project.call(&["worker", "out", &task]).code, Some(2));
    project.run(&[]);
    let plan = fs::read_to_string(project.path("out/.pipeline/plan.json")).expect("a run leaves its plan");
    let ours = format!("\"granary\": \"{}\"", env!("CARGO_PKG_VERSION"));
    project.write("out/.pipeline/plan.json", plan.replace(&ours, "\"granary\": \"0.0.0\""));
    let refused = project.call(&["worker", "out", &task]);
    assert!(refused.code == Some(2) && refused.stderr.contains("made by version 0.0.0"), "{refused:#?}");
    for broken in ["", "{}", "\u{1}", &plan[..plan.len() / 2]] {
        project.write("out/.pipeline/plan.json", broken);
        let refused = project.call(&["worker", "out", &task]);
        assert!(refused.code == Some(2) && refused.stderr.contains("has no plan"), "{refused:#?}");
    }
}

#[test]
fn workers_and_a_run_keep_out_of_each_others_way() {
    let project = small();
    let tasks = project.call(&["plan", "pipeline.yaml", "--tasks"]).stdout;
    let name = tasks.split('\t').next().expect("a task");
    let lock = fs::File::options().write(true).open(project.path("out/.pipeline/lock")).expect("the lock");
    // As a run has it.
    lock.lock().expect("nobody has it");
    let before = times(&project);
    for refused in [end(start(project.worker(name))), project.call(&["plan", "pipeline.yaml", "--tasks"])] {
        assert!(refused.code == Some(1) && refused.stderr.contains("another run"), "{refused:#?}");
    }
    assert_eq!(times(&project), before);
    lock.unlock().expect("unlocked");
    // As a worker has it.
    lock.lock_shared().expect("nobody has it");
    project.write("out/.pipeline/data/x/y.arrow#1", "what a live worker writes");
    let refused = project.call(&["run", "pipeline.yaml"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("workers are doing tasks of"), "{refused:#?}");
    assert!(project.path("out/.pipeline/data/x/y.arrow#1").exists());
    assert_eq!(end(start(project.worker(name))).code, Some(0));
    lock.unlock().expect("unlocked");
    project.run(&[]);
    assert!(!project.path("out/.pipeline/data/x").exists() || !project.path("out/.pipeline/data/x/y.arrow#1").exists());
}

#[test]
fn what_a_run_would_keep_in_memory_workers_leave_on_disk() {
    let project = small();
    let filter = "long: {use: filter_length, from: rows, min_chars: 1}\n  unique: {use: dedup_exact, from: long}";
    let discard = SMALL.replace("output: out", "output: out\ncheckpoints: discard");
    project.write("pipeline.yaml", discard.replace("unique: {use: dedup_exact, from: rows}", filter));
    let plan = || project.call(&["plan", "pipeline.yaml", "--tasks"]).stdout;
    let mut done = 0;
    for (round, tasks) in std::iter::repeat_with(plan).take_while(|tasks| !tasks.is_empty()).enumerate() {
        assert!(round < 4, "the same again: {tasks}");
        let names: Vec<&str> = tasks.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(project.call(&[&["worker", "out"], names.as_slice()].concat()).code, Some(0));
        done += names.len() as u64;
    }
    project.run(&[]);
    assert_eq!(project.record("out")["tasks"], serde_json::json!({"done": 0, "reused": done}));
    assert!((project.count("out/unique"), project.count("out/dropped/unique")) == (15, 5));
}

#[test]
fn a_plan_goes_no_further_than_a_run_would() {
    let project = small();
    project.write("pipeline.yaml", SMALL.replace("rows.jsonl}", "rows.jsonl, expect: {rows: \">= 100\"}}"));
    let tasks = project.call(&["plan", "pipeline.yaml", "--tasks"]).stdout;
    assert_eq!(end(start(project.worker(tasks.split('\t').next().expect("a task")))).code, Some(0));
    let stopped = project.call(&["plan", "pipeline.yaml", "--tasks"]);
    assert!(stopped.code == Some(3) && stopped.stdout.is_empty(), "{stopped:#?}");
    assert_eq!(project.call(&["run", "pipeline.yaml"]).code, Some(3));
    assert_eq!(project.call(&["plan", "pipeline.yaml"]).code, Some(0), "looking is no work");
}
