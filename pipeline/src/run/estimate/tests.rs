//! What is told of models before anybody is asked.

use super::*;
use crate::file::{LoadOptions, load_with};
use crate::run::Show;
use crate::test_stages::MAKERS;

fn told(stages: &str, llm: &str, options: &Options, rows: u64) -> Estimate {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("version: 1\nname: t\nstages:\n{stages}llms: {{local: {{model: m, {llm}}}}}\n");
    let graph = load_with(&folder.path().join("t.yaml"), &text, &LoadOptions::default(), MAKERS)
        .unwrap_or_else(|problems| panic!("{:?}", problems.lines()));
    let told = estimate(&graph, options, rows).expect("an estimate");
    assert!(!folder.path().join("out").exists(), "nothing is written");
    told
}

fn options() -> Options {
    Options { threads: 1, memory: 1 << 30, show: Show::Nothing, ..Options::default() }
}

const STAGES: &str =
    "  made: {use: make_rows, rows: 1000, parts: 1}\n  asked: {use: ask_slowly, from: made, seen: plan, window: 2, llm: local}\n";

#[test]
fn requests_and_tokens_are_those_of_the_stand_ins() {
    let told = told(STAGES, "endpoint: \"http://127.0.0.1:1/v1\", price: {prompt: 2, completion: 10}", &options(), 5000);
    let asks = &told.stages[1].asks[0];
    assert_eq!((asks.llm.as_str(), told.stages[0].asks.len()), ("local", 0));
    // All rows were made, so all requests are known; of each the stand-in has 40 bytes and the longest answer 50 tokens.
    assert_eq!((asks.calls.likely, asks.calls.low, asks.calls.high), (Some(1000.0), 1000.0, Some(1000.0)));
    assert_eq!((asks.completion_tokens.likely, asks.completion_tokens.high), (Some(10_000.0), Some(50_000.0)));
    // Texts of `word ` 0 to 6 times and a number: about 13 bytes, which are 3 or 4 tokens, and 4 of the turn.
    let prompt = asks.prompt_tokens.likely.expect("counted");
    assert!((6500.0..9500.0).contains(&prompt), "{prompt}");
    let cost = asks.cost.expect("it has a price");
    assert!((cost.likely.expect("counted") - (2.0 * prompt + 10.0 * 10_000.0) / 1e6).abs() < 1e-9);
    assert!((cost.high.expect("counted") - (2.0 * prompt + 10.0 * 50_000.0) / 1e6).abs() < 1e-9);
    assert!(told.stages[1].task_seconds.high.is_none(), "how long others take, nobody knows");
    assert_eq!((told.llms.len(), told.llms[0].calls.likely), (1, Some(1000.0)));
    let json = serde_json::json!(told);
    assert_eq!((&json["llms"][0]["calls"]["likely"], &json["stages"][1]["asks"][0]["llm"]), (&1000.0.into(), &"local".into()));
}

#[test]
fn what_passes_a_budget_is_told() {
    let notes = |budget: &str, options: &Options| {
        let llm = format!("endpoint: \"http://127.0.0.1:1/v1\", price: {{prompt: 2, completion: 10}}, budget: {{{budget}}}");
        let notes = told(STAGES, &llm, options, 5000).notes;
        notes.into_iter().filter(|note| note.contains("budget")).collect::<Vec<_>>()
    };
    assert_eq!(notes("max_requests: 1000, max_tokens: 100000, max_cost: 1", &options()), [""; 0]);
    assert_eq!(
        notes("max_requests: 999", &options()),
        ["about 1,000 pass `llms.local.budget.max_requests`, 999: the run stops there, and goes on when it is raised"]
    );
    let may = notes("max_cost: 0.2", &options());
    assert!(
        may.len() == 1 && may[0].starts_with("it may take up to 0.51") && may[0].contains("`llms.local.budget.max_cost`, 0.200"),
        "{may:?}"
    );
    assert_eq!(notes("max_requests: 999", &Options { limit: Some(10), ..options() }), [""; 0]);
}

#[test]
fn after_a_stage_that_sees_all_rows_it_is_no_more_than_so_many() {
    let stages = STAGES.replace("from: made, seen", "from: once, seen") + "  once: {use: dedup_exact, from: made}\n";
    let estimate = told(&stages, "endpoint: \"http://127.0.0.1:1/v1\"", &options(), 5000);
    let asks = &estimate.stages.iter().find(|stage| stage.id == "asked").expect("it is there").asks[0];
    assert_eq!((asks.calls.likely, asks.calls.high, asks.cost), (None, Some(1000.0), None));
    // Two stages that ask one model are added up.
    let twice = format!("{STAGES}  again: {{use: ask_slowly, from: made, seen: plan, window: 2, llm: local}}\n");
    let estimate = told(&twice, "endpoint: \"http://127.0.0.1:1/v1\"", &options(), 5000);
    assert_eq!((estimate.llms.len(), estimate.llms[0].calls.likely), (1, Some(2000.0)));
}

#[test]
fn a_plan_asks_nobody_and_starts_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("it can wait");
    let port = listener.local_addr().expect("an address").port();
    told(STAGES, &format!("endpoint: \"http://127.0.0.1:{port}/v1\""), &options(), 50);
    assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "somebody came");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("started");
    told(STAGES, &format!("command: [touch, \"{}\", \"{{port}}\"]", file.display()), &options(), 50);
    assert!(!file.exists());
}

#[test]
fn sampled_rows_that_a_stage_rejects_are_told_of() {
    let rejects = |every: &str| {
        let stages = format!("{},{every} llm: local}}\n", STAGES.trim_end().trim_end_matches(" llm: local}").trim_end_matches(','));
        told(&stages, "endpoint: \"http://127.0.0.1:1/v1\"", &options(), 5000).notes
    };
    let notes = rejects(" rejects: 1,");
    assert!(
        notes.iter().any(|note| note.starts_with("`asked` rejected 1,000 of 1,000 sampled rows, 1,000 of them as `refused`: row ")),
        "{notes:?}"
    );
    assert!(rejects("").iter().all(|note| !note.contains("rejected")));
}
