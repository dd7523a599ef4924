//! `examples/augcon.yaml`: with recorded answers, so that it runs anywhere, and against its model where that is installed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int16Type;
use serde_json::{Value, json};

use crate::harness::{Project, Said, asset, differences, repository, said};
use crate::readers::read;

/// Runs the example into `out` of the project, with its answers in `answers`.
fn run(project: &Project, args: &[&str]) -> Said {
    let folder = project.path("");
    let set = [format!("output={}", folder.join("out").display()), format!("answers={}", folder.join("answers").display())];
    let mut command = project.command();
    command.arg("run").arg(repository().join("examples/augcon.yaml")).args(["--set", &set[0], "--set", &set[1]]).args(args);
    // Where the model is fetched to, or nowhere.
    command.env("LLM", std::env::var_os("GRANARY_LLM").unwrap_or_else(|| repository().join(".assets/llm").into()));
    said(command.output().expect("the command starts"))
}

/// With a copy of the answers that were recorded.
fn recorded() -> Project {
    let project = Project::new();
    fs::create_dir(project.path("answers")).expect("made");
    for entry in fs::read_dir(repository().join("examples/augcon.answers")).expect("recorded answers: tests/record-answers makes them") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, project.path("answers").join(path.file_name().expect("a name"))).expect("copied");
    }
    project
}

fn texts(project: &Project, folder: &str, column: &str) -> Vec<String> {
    project.column(folder, column).into_iter().map(Option::unwrap_or_default).collect()
}

#[test]
fn recorded_answers_make_conversations_without_the_model() {
    let project = recorded();
    let said = run(&project, &["--offline-llm"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let record = project.record("out");
    // Nobody was asked.
    let asked = &record["llms"]["local"];
    assert_eq!((&asked["answers"], asked["stored"].as_u64() > Some(20)), (&json!(0), true), "{asked}");

    // Each passage has a tree: its root is all of the passage, and each context is a part of the article, word for word.
    let articles: Vec<Value> = fs::read_to_string(repository().join("datasets/samples/articles/articles.jsonl"))
        .expect("the articles")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let text_of = |id: &str| {
        let article = articles.iter().find(|article| article["id"] == id).unwrap_or_else(|| panic!("an article {id}"));
        article["text"].as_str().expect("a text").to_owned()
    };
    let (parents, contexts) = (texts(&project, "out/sft", "parent_id"), texts(&project, "out/sft", "context"));
    assert!(contexts.len() >= 12, "{} questions", contexts.len());
    for (parent, context) in parents.iter().zip(&contexts) {
        assert!(text_of(parent).contains(context.as_str()), "{parent}: {context}");
    }
    for article in &articles {
        let of_it = parents.iter().filter(|parent| article["id"] == parent.as_str()).count();
        assert!(of_it >= 3, "{of_it} of {}", article["id"]);
    }
    let depths: Vec<i16> = project
        .rows("out/sft")
        .iter()
        .flat_map(|batch| batch.column_by_name("depth").expect("a depth").as_primitive::<Int16Type>().values().to_vec())
        .collect();
    assert_eq!((depths.iter().min(), depths.iter().max()), (Some(&0), Some(&3)));

    // The report draws a tree and says what it took.
    let report = fs::read_to_string(project.path("out/report.html")).expect("a report");
    for wanted in ["smollm2-135m-instruct", "tokens", &contexts[0][..20]] {
        assert!(report.contains(wanted), "{wanted} in the report");
    }

    // Every row is a conversation to those who train on it.
    if let Some(found) = read(&project) {
        assert_eq!(found["chats"]["sft"], json!(project.count("out/sft")));
        assert_eq!(found["datasets"]["sft"], json!({"train": project.count("out/sft")}));
        assert_eq!(found["types"]["sft"]["messages"], "List({'role': Value('string'), 'content': Value('string')})");
    }

    // The same again, and byte for byte.
    let other = recorded();
    assert_eq!(run(&other, &["--offline-llm", "--threads", "1"]).code, Some(0));
    assert_eq!(differences(&other.files("out"), &project.files("out")), [""; 0]);
}

/// One short article, one tree of three nodes at most, and their answers. The model lies in the project's folder, so that what serves it is told from
/// any other program by its command line.
fn live(model: &Path, command: &str) -> Project {
    let project = Project::new();
    std::os::unix::fs::symlink(model, project.path("llm")).expect("a link to the model");
    fs::copy(repository().join("examples/serve_llm.py"), project.path("serve_llm.py")).expect("copied");
    project.write("articles.jsonl", json!({"id": "bridge", "text": ARTICLE}).to_string() + "\n");
    project.write("pipeline.yaml", LIVE.replace("COMMAND", command));
    project
}

const ARTICLE: &str = "The bridge over the harbour was opened in 1932, after eight years of work. It carries eight lanes of cars and two railway \
                       tracks. On a hot day its arch rises by eighteen centimetres, because the steel grows longer.";

const LIVE: &str = "
version: 1
name: live
output: out
answers: answers
max_rejected: 1.0
stages:
  articles: {use: read_jsonl, path: articles.jsonl}
  tree: {use: split_context, from: articles, llm: local, max_depth: 1, max_trees: 1, max_tokens: 64, temperature: 0.4, keep: true}
  sft:  {use: answer_queries, from: tree, llm: local, max_tokens: 32}
llms:
  local: {command: COMMAND, model: smollm2-135m-instruct, max_in_flight: 2}
";

const SERVE: &str = "[python3, serve_llm.py, llm/SmolLM2-135M-Instruct.Q4_1.gguf, \"{port}\"]";

/// The processes that serve the model of a project.
fn serving(project: &Project) -> Vec<String> {
    let here = project.path("").canonicalize().expect("a folder");
    let is_ours = |pid: &str| {
        let of = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        // A dead process has no command line, and a running one its folder.
        String::from_utf8_lossy(&of("cmdline")).contains("serve_llm.py")
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == here)
    };
    let entries = fs::read_dir("/proc").expect("a list of processes");
    let pids = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && is_ours(name)).collect()
}

#[test]
fn a_real_model_grows_a_tree_and_is_gone_after_it() {
    let Some(model) = asset("GRANARY_LLM", "llm", "the small language model") else { return };
    let project = live(&model, SERVE);
    // Killed while the model is served: that ends, too.
    let mut run = project.start(&[]);
    until(|| !serving(&project).is_empty());
    run.kill().expect("killed");
    said(run.wait_with_output().expect("it ended"));
    until(|| serving(&project).is_empty());

    project.run(&[]);
    assert_eq!(serving(&project), [""; 0]);
    // What the model says is its own affair; that it was asked, and that all it said is accounted for, is ours.
    let record = project.record("out");
    let asked = &record["llms"]["local"];
    let count = |name: &str| asked[name].as_u64().unwrap_or_default();
    assert!(count("answers") + count("stored") >= 2 && count("prompt_tokens") + count("stored") > 0, "{asked}");
    let (nodes, answered) = (project.count("out/tree"), project.count("out/sft"));
    assert!((1..=3).contains(&(nodes + project.count("out/rejected/tree"))), "{record}");
    assert_eq!(answered + project.count("out/rejected/sft"), nodes);
    for context in texts(&project, "out/tree", "context") {
        assert!(ARTICLE.contains(&context), "{context}");
    }

    // Nobody is needed for what was answered.
    project.write("pipeline.yaml", LIVE.replace("COMMAND", "[\"false\", \"{port}\"]"));
    project.run(&["--fresh"]);
    assert_eq!(project.record("out")["llms"]["local"]["answers"], 0);
    assert_eq!((project.count("out/tree"), project.count("out/sft")), (nodes, answered));
}

/// Waits until something is so; a minute at most.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "waited for a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}
