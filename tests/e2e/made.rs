//! Rows that are made of nothing: any number of threads, limits, workers and kills make the same images.

use crate::harness::{Project, differences};

/// More images than one task makes.
const IMAGES: &str = "
version: 1
name: images
seed: 3
output: out
stages:
  systems: {use: sample_ifs, classes: 5}
  images:  {use: compose_fractals, from: systems, images: 2100, side_px: 16, points: 100, format: png}
  unique:  {use: dedup_exact, from: images, columns: [id], keep: true}
";

fn ids(project: &Project, folder: &str) -> Vec<String> {
    project.column(folder, "id").into_iter().flatten().collect()
}

#[test]
fn threads_and_batches_change_no_byte_and_a_limit_makes_the_first_images() {
    let one = Project::with(IMAGES);
    one.run(&["--threads", "1"]);
    let wanted: Vec<String> = (0..2100).map(|n| format!("images/{n}")).collect();
    let made = ids(&one, "out/unique");
    let rejected = one.count("out/rejected/images");
    assert_eq!(made.len() + rejected, 2100);
    assert_eq!(
        made,
        wanted.iter().filter(|id| made.binary_search(id).is_ok() || made.contains(id)).cloned().collect::<Vec<_>>(),
        "in order"
    );
    let other = Project::with(IMAGES);
    other.run(&["--threads", "4", "--batch-rows", "7"]);
    assert_eq!(differences(&one.files("out"), &other.files("out")), [""; 0]);
    // Five systems are the first five.
    one.run(&["--limit", "1100"]);
    assert_eq!(ids(&one, "out.limit1100/unique"), made[..1100]);
    let record = one.record("out.limit1100");
    assert_eq!(record["stages"][1]["rows_out"]["out"], 1100);
}

#[test]
fn killed_at_any_point_it_goes_on_with_the_same_bytes() {
    let calm = Project::with(IMAGES);
    calm.run(&["--threads", "1"]);
    let expected = calm.files("out");
    let mut points = 0;
    for k in (1..).step_by(7) {
        let project = Project::with(IMAGES);
        let crashed = project.call(&["run", "pipeline.yaml", "--threads", "1", "--crash-at", &k.to_string()]);
        if crashed.code == Some(0) {
            break;
        }
        assert_eq!(crashed.code, None, "point {k} kills the process: {crashed:#?}");
        project.run(&["--threads", "1"]);
        assert_eq!(differences(&project.files("out"), &expected), [""; 0], "after crash point {k}");
        points += 1;
    }
    assert!(points > 4, "only {points} points");
}

#[test]
fn a_plan_counts_the_parts_and_a_worker_makes_one() {
    let project = Project::with(IMAGES);
    let next = || -> Vec<(String, String)> {
        let said = project.call(&["plan", "pipeline.yaml", "--tasks"]);
        assert_eq!(said.code, Some(0), "{said:#?}");
        said.stdout.lines().filter_map(|line| line.split_once('\t')).map(|(name, label)| (name.to_owned(), label.to_owned())).collect()
    };
    for _ in 0..2 {
        let (name, _) = next().remove(0);
        assert_eq!(project.call(&["worker", "out", &name]).code, Some(0));
    }
    let parts = next();
    let labels: Vec<&str> = parts.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(labels, ["images make: part 0", "images make: part 1", "images make: part 2"]);
    // No step comes after it, whatever it makes.
    let plan: serde_json::Value = serde_json::from_str(&project.call(&["plan", "pipeline.yaml", "--json"]).stdout).expect("JSON");
    assert_eq!((&plan["units"][1]["tasks_left"], &plan["units"][1]["all_steps_known"]), (&3.into(), &true.into()));
    assert_eq!(plan["makes"]["images"]["rows"], 2100);
    assert_eq!(project.call(&["worker", "out", &parts[1].0]).code, Some(0));
    project.run(&[]);
    assert_eq!(project.record("out")["tasks"]["reused"], 3);
}

#[test]
fn a_sample_tells_how_long_the_images_take_and_what_they_weigh() {
    let project = Project::with(IMAGES);
    let said = project.call(&["plan", "pipeline.yaml", "--sample", "30", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let images = &plan["estimate"]["stages"][1];
    assert_eq!((&images["rows_out"]["low"], &images["rows_out"]["high"]), (&2100.0.into(), &2100.0.into()));
    assert!(images["task_seconds"]["likely"].as_f64() > Some(0.0) && images["bytes_out"]["likely"].as_f64() > Some(100_000.0), "{images}");
}

#[test]
fn what_cannot_fit_is_refused_before_anything_is_done() {
    let project = Project::with(&IMAGES.replace("images: 2100, side_px: 16", "images: 1000000000, side_px: 2048"));
    for command in ["check", "plan", "run"] {
        let said = project.call(&[command, "pipeline.yaml"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.stderr.contains("10^9 images") && said.stderr.contains("PiB") && said.stderr.contains(" free"), "{said:#?}");
    }
    assert!(!project.path("out").exists());
}
