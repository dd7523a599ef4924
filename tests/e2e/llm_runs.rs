//! Runs that ask a model: what is told before, while and after, what is never asked twice, and how a run ends that may ask no more.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use stages::testing::endpoint::{Endpoint, Options, halving};

use crate::harness::{Project, Said, differences, said};

/// Three texts of eight sentences, which a tree of three levels is grown on.
const ROOTS: usize = 3;
const NODES: u64 = 7;

fn texts(project: &Project) {
    let text = |n: usize| {
        let sentence = |k: usize| format!("In the year {} the harbour master wrote {k} lines about ship number {n}.", 1800 + 17 * n + k);
        (0..8).map(sentence).collect::<Vec<_>>().join(" ")
    };
    let lines: String = (0..ROOTS).map(|n| format!("{{\"id\": \"t{n}\", \"text\": \"{}\"}}\n", text(n))).collect();
    project.write("texts.jsonl", lines);
}

/// A pipeline that grows one tree on each text; `model` are settings of the model, but for its name.
fn growing(endpoint: &Endpoint, model: &str) -> Project {
    let project = Project::new();
    texts(&project);
    project.write(
        "pipeline.yaml",
        format!(
            "
version: 1
name: t
output: out/trees
stages:
  texts: {{use: read_jsonl, path: texts.jsonl}}
  tree:  {{use: split_context, from: texts, llm: it, split: rewrite, size: {{chars: 2000}}, min_chars: 20, max_depth: 2, max_trees: 1}}
llms:
  it: {{model: scripted, endpoint: \"{}\"{model}}}
",
            endpoint.url()
        ),
    );
    project
}

fn quick() -> Endpoint {
    Endpoint::start(halving)
}

fn model(project: &Project) -> Value {
    project.record("out/trees")["llms"]["it"].clone()
}

fn words(said: &Said) -> String {
    said.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn what_was_asked_is_told_and_nothing_is_asked_twice() {
    let endpoint = quick();
    let project = growing(&endpoint, ", price: {prompt: 1, completion: 4}");
    let all = NODES * ROOTS as u64;
    let first = project.run(&[]);
    let counts = endpoint.counts();
    assert_eq!((project.count("out/trees/tree") as u64, counts.received, counts.answered), (all, all, all));
    let told = model(&project);
    assert_eq!((&told["answers"], &told["requests"], &told["stored"]), (&all.into(), &all.into(), &0.into()));
    assert_eq!(
        (told["prompt_tokens"].as_u64(), told["completion_tokens"].as_u64()),
        (Some(counts.prompt_tokens), Some(counts.completion_tokens))
    );
    let cost = (counts.prompt_tokens + 4 * counts.completion_tokens) as f64 / 1e6;
    assert!((told["cost"].as_f64().expect("a cost") - cost).abs() < 1e-9, "{told} {cost}");
    assert_eq!(told["spent"]["requests"], all);
    let record = project.record("out/trees");
    let answers = project.path("out/.answers").canonicalize().expect("answers are kept beside the output");
    assert_eq!(record["answers"].as_str(), answers.to_str());
    assert_eq!(record["stages"][1]["figures"]["answers"]["it"], all);
    assert!(record["stages"][1]["waited_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{}", record["stages"][1]);
    assert!(words(&first).contains(&format!("model it: {all} new answers, 0 stored ones")), "{first:#?}");
    // The report draws a tree and has the figures; a look from another terminal has them, too.
    let report = std::fs::read_to_string(project.path("out/trees/report.html")).expect("a report");
    assert_eq!(report.matches("<div class=\"qnode").count() as u64, NODES);
    assert!(report.contains("<section id=\"models\">") && report.contains("scripted"));
    let status = project.call(&["status", "out/trees"]);
    assert!(status.stdout.contains(&format!("model it: {all} answers")) && status.stdout.contains("cost "), "{status:#?}");
    let json: Value = serde_json::from_str(&project.call(&["status", "out/trees", "--json"]).stdout).expect("JSON");
    assert_eq!(json["progress"]["llms"][0]["answers"], all);

    let files = project.files("out/trees");
    // A rerun has nothing to do; one that starts over, or from nothing but the answers, asks nobody.
    project.run(&[]);
    assert_eq!(model(&project)["answers"], 0);
    project.run(&["--fresh"]);
    assert_eq!((endpoint.counts().received, &model(&project)["stored"]), (all, &all.into()));
    assert_eq!(differences(&files, &project.files("out/trees")), [""; 0]);
    let cleaned = project.call(&["clean", "out/trees"]);
    assert_eq!((cleaned.code, answers.is_dir()), (Some(0), true));
    std::fs::remove_dir_all(project.path("out/trees")).expect("removed");
    endpoint.stop();
    project.run(&["--offline-llm"]);
    assert_eq!(differences(&files, &project.files("out/trees")), [""; 0]);
    assert_eq!((endpoint.counts().received, &model(&project)["spent"]["requests"]), (all, &all.into()));
    // Where an answer is missing, a run without an endpoint ends tidily, and names what is missing.
    let said = project.call(&["run", "pipeline.yaml", "--offline-llm", "--set", "stages.tree.temperature=0.123"]);
    assert_eq!(said.code, Some(4), "{said:#?}");
}

#[test]
fn a_budget_is_never_passed_and_the_run_goes_on_when_it_is_raised() {
    let endpoint = quick();
    let project = growing(&endpoint, ", max_in_flight: 3, budget: {max_requests: 8}");
    let all = NODES * ROOTS as u64;
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!((said.code, endpoint.counts().received), (Some(4), 8), "{said:#?}");
    let told = words(&said);
    assert!(told.contains("stage `tree`") && told.contains("max_requests") && told.contains("goes on where this stopped"), "{said:#?}");
    assert_eq!(project.record("out/trees")["state"], "stopped");
    assert!(!project.path("out/trees/tree").exists());
    let report = std::fs::read_to_string(project.path("out/trees/report.html")).expect("a report");
    assert!(report.contains("This run is not done: stopped") && report.contains("of the budget is used"));
    let again = project.call(&["run", "pipeline.yaml"]);
    assert_eq!((again.code, endpoint.counts().received), (Some(4), 8), "{again:#?}");
    project.run(&["--set", "llms.it.budget.max_requests=100"]);
    assert_eq!((project.count("out/trees/tree") as u64, endpoint.counts().received), (all, all));
    let told = model(&project);
    assert_eq!((&told["stored"], &told["answers"], &told["spent"]["requests"]), (&8.into(), &(all - 8).into(), &all.into()));
}

#[test]
fn a_plan_tells_what_will_be_asked_and_asks_nobody() {
    let endpoint = quick();
    let project = growing(&endpoint, ", price: {prompt: 1, completion: 4}, api_key_env: NO_SUCH_KEY_IS_SET, budget: {max_requests: 3}");
    let planned = project.call(&["plan", "pipeline.yaml", "--sample", "100", "--json"]);
    assert_eq!(planned.code, Some(0), "{planned:#?}");
    let plan: Value = serde_json::from_str(&planned.stdout).expect("JSON");
    let asks = &plan["estimate"]["llms"][0];
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("{of}"));
    let calls = &asks["calls"];
    assert!(number(calls, "low") >= ROOTS as f64 && number(calls, "low") <= (NODES * ROOTS as u64) as f64, "{calls}");
    assert!(number(calls, "high") >= (NODES * ROOTS as u64) as f64, "{calls}");
    assert!(
        number(&asks["cost"], "likely") > 0.0 && number(&asks["completion_tokens"], "high") > number(&asks["completion_tokens"], "likely")
    );
    let text = project.call(&["plan", "pipeline.yaml", "--sample", "100"]).stdout;
    assert!(
        text.contains("tokens out") && text.contains("nobody was asked") && text.contains("`llms.it.budget.max_requests`, 3"),
        "{text}"
    );
    assert_eq!((endpoint.counts().received, endpoint.counts().connections), (0, 0));
    assert!(!project.path("out").exists(), "nothing is written");
}

#[test]
fn a_missing_key_and_an_open_line_are_told_before_anything_is_asked() {
    let endpoint = quick();
    let project = growing(&endpoint, ", api_key_env: NO_SUCH_KEY_IS_SET");
    for command in ["check", "run"] {
        let said = project.call(&[command, "pipeline.yaml"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(words(&said).contains("the variable `NO_SUCH_KEY_IS_SET` of `api_key_env` is not set"), "{said:#?}");
    }
    assert_eq!(endpoint.counts().connections, 0);
    let open = project
        .command()
        .args(["check", "pipeline.yaml", "--set", "llms.it.endpoint=http://models.example.com/v1"])
        .env("NO_SUCH_KEY_IS_SET", "x")
        .output();
    let open = said(open.expect("it starts"));
    assert_eq!(open.code, Some(0), "{open:#?}");
    assert!(
        open.stdout.contains("note: `llms.it`: ")
            && open.stdout.contains("model it (scripted) at http://models.example.com/v1, asked by tree"),
        "{open:#?}"
    );
    assert!(open.stdout.contains(".answers"), "{open:#?}");
    let run = project.command().args(["run", "pipeline.yaml"]).env("NO_SUCH_KEY_IS_SET", "planted-secret").output();
    assert_eq!(said(run.expect("it starts")).code, Some(0));
    for (name, bytes) in project.files("out") {
        assert!(!String::from_utf8_lossy(&bytes).contains("planted-secret"), "{name}");
    }
}

#[test]
fn an_interrupted_run_keeps_its_answers_and_goes_on() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(100), ..Options::default() }, halving);
    let project = growing(&endpoint, ", max_in_flight: 2");
    let run = project.start(&[]);
    let began = Instant::now();
    while endpoint.counts().answered < 4 {
        assert!(began.elapsed() < Duration::from_mins(1), "it asks");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).stdout(Stdio::null()).status().is_ok_and(|status| status.success()));
    let ended = said(run.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    let asked = endpoint.counts().received;
    let all = NODES * ROOTS as u64;
    assert!(asked < all, "{asked}");
    project.run(&[]);
    assert_eq!(project.count("out/trees/tree") as u64, all);
    // What was under way was waited for.
    assert_eq!(endpoint.counts().received, all);
    let calm = growing(&endpoint, "");
    calm.run(&[]);
    assert_eq!(project.table_hash("out/trees/tree"), calm.table_hash("out/trees/tree"));
}

#[test]
fn workers_ask_and_a_plan_may_say_that_they_must_not() {
    let endpoint = quick();
    let project = growing(&endpoint, "");
    let all = NODES * ROOTS as u64;
    let tasks = |more: &[&str]| {
        let planned = project.call(&[&["plan", "pipeline.yaml", "--tasks"], more].concat());
        assert_eq!(planned.code, Some(0), "{planned:#?}");
        planned.stdout.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let offline = tasks(&["--offline-llm"]);
    let said = project.call(&["worker", "out/trees", &offline[0]]);
    assert_eq!((said.code, endpoint.counts().received), (Some(4), 0), "{said:#?}");
    for task in tasks(&[]) {
        let said = project.call(&["worker", "out/trees", &task]);
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    assert_eq!(endpoint.counts().received, all);
    project.run(&[]);
    assert_eq!((project.count("out/trees/tree") as u64, endpoint.counts().received), (all, all));
    assert_eq!(project.record("out/trees")["tasks"]["done"], 0);
}

#[test]
fn a_limit_asks_about_the_first_rows_and_its_answers_serve_the_whole() {
    let endpoint = quick();
    let project = growing(&endpoint, "");
    project.run(&["--limit", "1"]);
    assert_eq!((project.count("out/trees.limit1/tree") as u64, endpoint.counts().received), (NODES, NODES));
    project.run(&[]);
    assert_eq!((project.count("out/trees/tree") as u64, endpoint.counts().received), (NODES * ROOTS as u64, NODES * ROOTS as u64));
}
