//! Devices: which one is taken, what is said where there is none, and that nobody asks a driver who needs no device.

use crate::harness::Project;

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
