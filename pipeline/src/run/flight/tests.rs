//! Runs with a stage that waits for each row.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::*;
use crate::file::{LoadOptions, load_with};
use crate::graph::Graph;
use crate::record::RunRecord;
use crate::run::{Options, Show, run};
use crate::test_stages::{MAKERS, Seen, seen};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A pipeline of `rows` rows that are made in `parts` parts, and of one stage that waits, with these settings.
fn graph(folder: &Path, (rows, parts): (u32, u32), settings: &str) -> Graph {
    let text = format!(
        "version: 1\nname: t\noutput: out\nmax_rejected: 0.5\nstages:\n  made: {{use: make_rows, rows: {rows}, parts: {parts}}}\n  asked: {{use: ask_slowly, from: made, {settings}}}\n"
    );
    load_with(&folder.join("pipeline.yaml"), &text, &LoadOptions::default(), MAKERS)
        .unwrap_or_else(|problems| panic!("{:?}", problems.lines()))
}

fn options(threads: usize) -> Options {
    Options { threads, memory: 4 << 30, shard_rows: 64, show: Show::Nothing, ..Options::default() }
}

fn go(folder: &Path, rows: (u32, u32), settings: &str, options: &Options) -> (Result<(), RunError>, RunRecord) {
    let (result, record) = run(graph(folder, rows, settings), options);
    (result, *record.expect("the run began"))
}

/// All that is published under `asked` and `rejected`, with its bytes.
fn published(output: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["asked", "rejected/asked"].map(|name| output.join(name)).iter().filter(|folder| folder.exists()) {
        for file in std::fs::read_dir(folder).expect("a folder") {
            let file = file.expect("an entry").path();
            let name = file.strip_prefix(output).expect("inside").to_string_lossy().into_owned();
            found.insert(name, std::fs::read(&file).expect("read"));
        }
    }
    found
}

fn numbers(output: &Path) -> Vec<i64> {
    let read = |bytes: Vec<u8>| {
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).expect("Parquet").build().expect("a reader");
        batches.flat_map(|batch| batch.expect("a batch").column_by_name("n").expect("n").as_primitive::<Int64Type>().values().to_vec())
    };
    published(output).into_iter().filter(|(name, _)| name.starts_with("asked/")).flat_map(|(_, bytes)| read(bytes)).collect()
}

#[test]
fn whatever_rows_take_they_leave_in_order_and_as_the_same_bytes() {
    let mut first: Option<BTreeMap<String, Vec<u8>>> = None;
    for (index, (most_ms, window, threads, batch_rows)) in
        [(0, 1, 1, 4096), (8, 7, 1, 13), (8, 64, 4, 1), (40, 1000, 8, 4096), (3, 5, 3, 100)].into_iter().enumerate()
    {
        let folder = folder();
        let settings = format!("seen: order{index}, most_ms: {most_ms}, window: {window}, rejects: 10, times: 2");
        let options = Options { batch_rows, ..options(threads) };
        let (result, record) = go(folder.path(), (500, 7), &settings, &options);
        result.unwrap_or_else(|error| panic!("{error}"));
        let output = folder.path().join("out");
        let expected: Vec<i64> = (0..500).filter(|n| n % 10 != 0).flat_map(|n| [n, n]).collect();
        assert_eq!(numbers(&output), expected, "{settings}");
        let totals = &record.stages[1].totals;
        assert_eq!((totals.rows_in, totals.rows_through("out"), totals.rejected["refused"]), (500, 900, 50));
        let published = published(&output);
        assert_eq!(published.len(), 2, "rows and rejected ones");
        assert!(*first.get_or_insert_with(|| published.clone()) == published, "{settings}");
    }
}

#[test]
fn as_many_rows_are_under_way_as_the_window_holds_and_no_more() {
    for (name, window) in [("window1", 1), ("window5", 5), ("window60", 60)] {
        let folder = folder();
        go(folder.path(), (300, 1), &format!("seen: {name}, most_ms: 20, window: {window}"), &options(1)).0.expect("it runs");
        let Seen { begun, ended, most_at_once, .. } = seen(name, |seen| seen.clone());
        assert_eq!((begun, ended, most_at_once), (300, 300, window), "{name}");
    }
    // Nor more than so many bytes: of rows of about 35 bytes some 470 in 16 KiB, whatever the window.
    let folder = folder();
    let options = Options { shard_rows: 5000, ..options(1) };
    go(folder.path(), (2000, 1), "seen: bytes, most_ms: 50, window: 5000", &options).0.expect("it runs");
    let most = seen("bytes", |seen| seen.most_at_once);
    assert!((350..600).contains(&most), "{most}");
}

#[test]
fn waiting_is_not_counted_as_work() {
    let folder = folder();
    let began = Instant::now();
    let (_, record) = go(folder.path(), (200, 1), "seen: waits, most_ms: 60, window: 20", &options(1));
    let (took, totals) = (began.elapsed().as_secs_f64(), &record.stages[1].totals);
    assert!(totals.waited_seconds > 0.1 && totals.waited_seconds < took, "{} of {took}", totals.waited_seconds);
    assert!(totals.busy_seconds < totals.waited_seconds / 2.0, "{} of {}", totals.busy_seconds, totals.waited_seconds);
    let log = std::fs::read_dir(folder.path().join("out/.pipeline/logs")).expect("logs").next().expect("a log").expect("an entry").path();
    assert!(std::fs::read_to_string(log).expect("read").contains(", waited for "));
}

#[test]
fn a_row_that_stops_the_run_lets_the_others_end_and_no_more_begin() {
    let calm = folder();
    go(calm.path(), (300, 3), "seen: calm, window: 8", &options(1)).0.expect("it runs");
    for threads in [1, 3] {
        let folder = folder();
        let name = format!("stops{threads}");
        let settings = format!("seen: {name}, most_ms: 5, window: 8, stops_at: 150");
        let (result, record) = go(folder.path(), (300, 3), &settings, &options(threads));
        let Err(error) = result else { panic!("it stops") };
        assert_eq!(error.to_string(), "stage `asked`: the budget ends at 150");
        let RunError::Stopped { stage, help, .. } = &error else { panic!("{error}") };
        assert_eq!((stage.as_str(), help.as_str(), record.state.as_str()), ("asked", "raise it", "stopped"));
        assert!(record.error.is_some() && !folder.path().join("out/asked").exists());
        let Seen { begun, ended, .. } = seen(&name, |seen| seen.clone());
        assert_eq!(begun, ended, "those under way ended");
        assert!(begun < 300, "{begun}");
        // What was done is not done again, and the end is the same.
        let (result, again) = go(folder.path(), (300, 3), &format!("seen: {name}, window: 8"), &options(threads));
        result.expect("it goes on");
        assert!(again.tasks.reused >= 4, "{:?}", again.tasks);
        assert!(published(&folder.path().join("out")) == published(&calm.path().join("out")));
    }
}

#[test]
fn an_interrupted_run_waits_for_rows_under_way_but_not_for_ever() {
    for (name, hangs) in [("short", ""), ("long", ", hangs_at: 98")] {
        let folder = folder();
        let interrupted = Arc::new(AtomicBool::new(false));
        seen(name, |seen| seen.interrupt = Some(Arc::clone(&interrupted)));
        let settings = format!("seen: {name}, most_ms: 30, window: 10, interrupts_at: 100{hangs}");
        let options = Options { interrupted, ..options(2) };
        let began = Instant::now();
        let (result, record) = go(folder.path(), (300, 3), &settings, &options);
        assert!(matches!(result, Err(RunError::Interrupted)), "{result:?}");
        assert_eq!(record.state, "interrupted");
        assert!(began.elapsed() < Duration::from_secs(20));
        let Seen { begun, ended, .. } = seen(name, |seen| seen.clone());
        if hangs.is_empty() {
            assert_eq!(begun, ended);
        } else {
            assert!(ended < begun && began.elapsed() >= GRACE, "{ended} of {begun}");
        }
        assert!(begun < 300, "{begun}");
        go(folder.path(), (300, 3), &format!("seen: {name}, window: 10"), &self::options(2)).0.expect("it goes on");
        assert_eq!(numbers(&folder.path().join("out")), (0..300).collect::<Vec<_>>());
    }
}

#[test]
fn a_panic_in_a_row_ends_the_run_and_takes_no_other_row_with_it() {
    let folder = folder();
    let (result, record) = go(folder.path(), (300, 3), "seen: panics, most_ms: 5, window: 8, panics_at: 150", &options(2));
    let Err(error) = result else { panic!("it ends") };
    assert!(error.to_string().contains("a row: a bug at 150"), "{error}");
    assert_eq!(record.state, "failed");
    let Seen { begun, ended, .. } = seen("panics", |seen| seen.clone());
    assert_eq!(begun, ended + 1, "all but the one");
}

#[test]
fn a_limit_asks_about_the_first_rows_alone() {
    let folder = folder();
    let limited = Options { limit: Some(37), ..options(2) };
    go(folder.path(), (300, 3), "seen: limited, most_ms: 5, window: 8", &limited).0.expect("it runs");
    assert_eq!(numbers(&folder.path().join("out.limit37")), (0..37).collect::<Vec<_>>());
    assert_eq!(seen("limited", |seen| seen.begun), 37);
}

#[test]
fn shards_are_cut_small_for_it_wherever_they_come_from() {
    let folder = folder();
    let options = Options { shard_rows: 65_536, ..options(2) };
    let (result, record) = go(folder.path(), (9000, 1), "seen: cut, window: 1000", &options);
    result.expect("it runs");
    assert_eq!(numbers(&folder.path().join("out")), (0..9000).collect::<Vec<_>>());
    assert_eq!(record.tasks.done, 1 + 3, "the part that makes them, and rows 0 to 4096, 8192 and 9000");
    // Nothing of it is done again.
    assert_eq!(go(folder.path(), (9000, 1), "seen: cut, window: 10", &options).1.tasks.done, 0);
}

/// Answers, or refuses every second request; counts both.
struct Every2nd {
    refuses: bool,
    asked: Arc<std::sync::atomic::AtomicU64>,
}

impl stages::llm::Answerer for Every2nd {
    fn answer<'a>(
        &'a self,
        llm: &'a stages::llm::Llm,
        ask: &'a stages::llm::Ask,
    ) -> futures::future::BoxFuture<'a, Result<stages::llm::Answer, stages::llm::AskError>> {
        Box::pin(async move {
            let n = self.asked.fetch_add(1, Ordering::Relaxed);
            if self.refuses && n.is_multiple_of(2) {
                return Err(stages::llm::AskError::refused("request_failed", "it was down"));
            }
            let usage = stages::llm::Usage { prompt_tokens: 1, completion_tokens: 1, guessed: true };
            let key = ask.key(llm.identity());
            Ok(stages::llm::Answer { text: "x".to_owned(), cut: false, usage, key, origin: stages::llm::Origin::Endpoint })
        })
    }

    fn figures(&self) -> stages::llm::LlmFigures {
        stages::llm::LlmFigures::default()
    }
}

#[test]
fn rows_about_which_nobody_could_be_asked_are_asked_about_again_after_a_stop() {
    let folder = folder();
    let go = |refuses: bool| {
        let text = "version: 1\nname: t\noutput: out\nmax_rejected: 0.1\nstages:\n  made: {use: make_rows, rows: 300, parts: 1}\n  asked: {use: ask_slowly, from: made, seen: unasked, window: 8, llm: local}\nllms: {local: {model: m, endpoint: \"http://127.0.0.1:1/v1\"}}\n";
        let graph = load_with(&folder.path().join("p.yaml"), text, &LoadOptions::default(), MAKERS)
            .unwrap_or_else(|problems| panic!("{:?}", problems.lines()));
        let asked = Arc::default();
        graph.llms.get("local").expect("it is there").answer_by(Box::new(Every2nd { refuses, asked: Arc::clone(&asked) }));
        let (result, record) = run(graph, &options(2));
        (result, *record.expect("the run began"), asked.load(Ordering::Relaxed))
    };
    // Each time, as what was refused is nobody's last word.
    for _ in 0..2 {
        let (result, record, asked) = go(true);
        assert!(matches!(result, Err(RunError::TooManyRejected { rejected: 150, .. })), "{result:?}");
        assert_eq!((asked, record.stages[1].totals.unasked_rows()), (300, 150));
        assert!(folder.path().join("out/rejected/asked").exists());
    }
    let (result, record, asked) = go(false);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((asked, record.stages[1].totals.rejected_rows()), (300, 0));
    assert_eq!(numbers(&folder.path().join("out")).len(), 300);
    // What is done stays done.
    assert_eq!(go(false).2, 0);
}
