//! Devices: which one is taken, what is said where there is none, and that nobody asks a driver who needs no device.

use crate::harness::{Project, said};

const NO_KERNELS: &str = "
version: 1
name: plain
output: out
stages:
  rows:   {use: read_jsonl, path: rows.jsonl}
  unique: {use: dedup_exact, from: rows}
";

fn plain() -> Project {
    let project = Project::with(NO_KERNELS);
    project.write("rows.jsonl", "{\"id\": \"1\", \"text\": \"one\"}\n");
    project
}

#[test]
fn no_driver_is_asked_where_no_stage_has_kernels() {
    let project = plain();
    // A name that no adapter has is an error only if somebody looks for it.
    for command in ["check", "plan", "run"] {
        let said = project.call(&[command, "pipeline.yaml", "--device", "no such adapter"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert!(!said.stderr.contains("XDG_RUNTIME_DIR"), "{said:#?}");
    }
    let record = project.record("out");
    assert!(record.get("device").is_none());
    assert!(!std::fs::read_to_string(project.path("out/.pipeline/plan.json")).expect("a plan").contains("device"));
}

#[test]
fn a_device_without_a_name_is_refused() {
    let said = plain().call(&["run", "pipeline.yaml", "--device", ""]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("wanted auto, cpu, gpu or the name of an adapter"), "{said:#?}");
}

#[test]
fn the_list_says_which_device_is_taken() {
    let project = Project::new();
    let (text, json) = (project.call(&["devices"]), project.call(&["devices", "--json"]));
    let adapters: Vec<serde_json::Value> = serde_json::from_str(&json.stdout).expect("JSON");
    let taken: Vec<&str> =
        adapters.iter().filter(|adapter| adapter["auto"] == true).filter_map(|adapter| adapter["name"].as_str()).collect();
    let is_gpu = |adapter: &&serde_json::Value| adapter["kind"] != "software";
    let first = adapters.iter().find(is_gpu).and_then(|adapter| adapter["name"].as_str());
    assert_eq!(taken, first.into_iter().collect::<Vec<_>>());
    let wanted = format!("\n`--device auto` takes {}\n", first.unwrap_or("the processor"));
    assert!(text.stdout.ends_with(&wanted), "{text:#?}");
}

const FRACTALS: &str = "
version: 1
name: fractals
seed: 7
output: out
stages:
  systems: {use: sample_ifs, classes: 20, keep: true}
  images:  {use: compose_fractals, from: systems, images: 300, side_px: 64, points: 2000}
  again:   {use: dedup_exact, from: systems, columns: [id]}
";

/// The adapters: GPUs, and programs on the processor.
fn adapters(project: &Project) -> (Vec<String>, Vec<String>) {
    let json = project.call(&["devices", "--json"]);
    let all: Vec<serde_json::Value> = serde_json::from_str(&json.stdout).expect("JSON");
    let (software, gpus): (Vec<_>, Vec<_>) = all.into_iter().partition(|adapter| adapter["kind"] == "software");
    let names = |all: Vec<serde_json::Value>| all.iter().filter_map(|adapter| adapter["name"].as_str().map(str::to_owned)).collect();
    (names(gpus), names(software))
}

/// A program on the processor that stands for a GPU; `None`, with a word why, where there is none.
fn software(project: &Project) -> Option<String> {
    let name = adapters(project).1.into_iter().next();
    if name.is_none() {
        assert!(std::env::var_os("GPU_TESTS").is_none_or(|tests| tests != "require"), "no adapter");
        eprintln!("skipped: no software adapter");
    }
    name
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_is() {
    let project = Project::with(FRACTALS);
    let (gpus, software) = adapters(&project);
    for command in ["check", "plan", "run"] {
        let said = project.call(&[command, "pipeline.yaml", "--device", "GeForce 256"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        let flat = flat(&said.stderr);
        assert!(flat.contains("no adapter is called `GeForce 256`") && flat.contains("`pipeline devices`"), "{flat}");
        assert!(gpus.iter().chain(&software).all(|name| flat.contains(name.split_whitespace().next().unwrap_or_default())), "{flat}");
        assert_eq!(said.stderr.matches("GeForce 256").count(), 1, "it is said once: {said:#?}");
    }
    assert!(!project.path("out").exists());
    if !gpus.is_empty() {
        eprintln!("skipped: there is a GPU");
        return;
    }
    // A program on the processor counts as no GPU.
    let said = project.call(&["run", "pipeline.yaml", "--device", "gpu"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("there is no GPU") && said.stderr.contains("--device cpu"), "{said:#?}");
    project.run(&[]);
    assert_eq!(project.record("out")["device"], serde_json::json!({"class": "cpu"}));
}

#[test]
fn a_software_adapter_is_taken_by_its_name_and_the_class_decides_what_is_done_again() {
    let project = Project::with(FRACTALS);
    let Some(name) = software(&project) else { return };
    project.run(&["--device", "cpu"]);
    let on_cpu = project.record("out");
    assert_eq!(stage(&on_cpu, "images")["ran_on"], serde_json::json!({"cpu": tasks_of(&on_cpu)}));
    assert!(stage(&on_cpu, "systems")["ran_on"].is_null() && stage(&on_cpu, "again")["ran_on"].is_null());
    // What has no kernels is not done again.
    project.run(&["--device", &name]);
    let on_gpu = project.record("out");
    assert_eq!((&on_gpu["device"]["class"], &on_gpu["device"]["adapter"]), (&"gpu".into(), &name.as_str().into()));
    assert!(on_gpu["device"]["backend"].is_string() && on_gpu["device"]["driver"].is_string(), "{on_gpu}");
    let fingerprint = |record: &serde_json::Value, id: &str| stage(record, id)["fingerprint"].clone();
    for id in ["systems", "again"] {
        assert_eq!(fingerprint(&on_gpu, id), fingerprint(&on_cpu, id), "{id}");
    }
    assert_ne!(fingerprint(&on_gpu, "images"), fingerprint(&on_cpu, "images"));
    assert!(on_gpu["tasks"]["reused"].as_u64() > Some(0) && on_gpu["tasks"]["done"].as_u64() > Some(0));
    let status = project.call(&["status", "out"]);
    assert!(status.stdout.contains(&format!("device  {name} (")), "{status:#?}");
    assert!(std::fs::read_to_string(project.path("out/report.html")).expect("a report").contains("<dt>Device</dt><dd>"));
    let again = project.run(&["--device", &name]);
    assert!(again.stderr.contains("nothing to do"), "{again:#?}");
}

#[test]
fn a_worker_takes_the_class_that_was_planned_with() {
    let project = Project::with(FRACTALS);
    let Some(name) = software(&project) else { return };
    let ready = |device: &str| {
        let said = project.call(&["plan", "pipeline.yaml", "--tasks", "--device", device]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        said.stdout.lines().next().and_then(|line| line.split_once('\t')).map(|(task, _)| task.to_owned()).expect("a task")
    };
    let task = ready(&name);
    let refused = project.call(&["worker", "out", &task, "--device", "cpu"]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(flat(&refused.stderr).contains("the plan's tasks are for a GPU, and this would do them on the processor"), "{refused:#?}");
    // It knows the adapter's name from the plan.
    assert_eq!(project.call(&["worker", "out", &task]).code, Some(0));
    let task = ready("cpu");
    let refused = project.call(&["worker", "out", &task, "--device", &name]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(flat(&refused.stderr).contains("are for the processor"), "{refused:#?}");
}

#[test]
fn a_device_that_is_lost_in_mid_run_is_stepped_in_for_and_told() {
    let project = Project::with(FRACTALS);
    let Some(name) = software(&project) else { return };
    let run = project.command().args(["run", "pipeline.yaml", "--device", &name]).env("GRANARY_LOSE_DEVICE_AFTER", "2").output();
    let said = said(run.expect("the command starts"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stderr.contains("  images: WARNING: the GPU failed: the processor made "), "{said:#?}");
    let record = project.record("out");
    let ran_on = &stage(&record, "images")["ran_on"];
    assert!(ran_on["fell_back"].as_u64() > Some(0), "{ran_on}");
    assert_eq!(project.count("out/images"), 300);
    assert!(std::fs::read_to_string(project.path("out/report.html")).expect("a report").contains("the processor where that failed"));
    let report = project.call(&["status", "out"]);
    assert_eq!(report.code, Some(0));
}

fn stage<'r>(record: &'r serde_json::Value, id: &str) -> &'r serde_json::Value {
    record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect("the stage")
}

/// Tasks of `images`: one reads the systems, the others make images.
fn tasks_of(record: &serde_json::Value) -> u64 {
    stage(record, "images")["ran_on"].as_object().expect("counts").values().filter_map(serde_json::Value::as_u64).sum()
}

/// A message without the line breaks of the terminal.
fn flat(message: &str) -> String {
    message.replace(['\n', '│'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}
