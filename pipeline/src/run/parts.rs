//! Runs of stages that make rows of nothing, in parts: the same bytes on any number of threads, wherever they were killed, whoever did a part.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use gpu::DeviceClass;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Job, Options, RunError, Show, estimate, run, survey, survey_for_workers, work};
use crate::file::{LoadOptions, Problems, load_with};
use crate::graph::Graph;
use crate::plan::own_fingerprint;
use crate::record::{FELL_BACK, RunRecord};
use crate::test_stages::MAKERS;

const MADE: &str = "  made: {use: make_rows, rows: 1000, parts: 7}\n";

fn load(folder: &Path, stages: &str, options: &LoadOptions) -> Result<Graph, Problems> {
    let text = format!("version: 1\nname: t\nseed: 5\noutput: out\nstages:\n{stages}");
    load_with(&folder.join("pipeline.yaml"), &text, options, MAKERS)
}

fn graph(folder: &Path, stages: &str) -> Graph {
    load(folder, stages, &LoadOptions::default()).unwrap_or_else(|problems| panic!("{:?}", problems.lines()))
}

fn options() -> Options {
    Options { threads: 1, memory: 1 << 30, shard_rows: 64, show: Show::Nothing, ..Options::default() }
}

fn go(folder: &Path, stages: &str, options: &Options) -> RunRecord {
    let (result, record) = run(graph(folder, stages), options);
    result.unwrap_or_else(|error| panic!("{error}"));
    *record.expect("a run that ended has a record")
}

/// The published parts by name, with their bytes.
fn parts(output: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let folders = std::fs::read_dir(output).expect("an output").map(|entry| entry.expect("an entry").path());
    for folder in folders.filter(|path| path.is_dir() && !path.ends_with(".pipeline")) {
        for file in std::fs::read_dir(&folder).expect("a folder") {
            let file = file.expect("an entry").path();
            let name = file.strip_prefix(output).expect("inside").to_string_lossy().into_owned();
            if file.is_file() {
                found.insert(name, std::fs::read(&file).expect("read"));
            }
        }
    }
    found
}

fn numbers(output: &Path, stage: &str) -> Vec<i64> {
    let read = |bytes: Vec<u8>| {
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).expect("Parquet").build().expect("a reader");
        batches.flat_map(|batch| {
            let batch = batch.expect("a batch");
            batch.column_by_name("n").expect("n").as_primitive::<Int64Type>().values().to_vec()
        })
    };
    parts(output).into_iter().filter(|(name, _)| name.starts_with(&format!("{stage}/"))).flat_map(|(_, bytes)| read(bytes)).collect()
}

#[test]
fn rows_stand_in_the_order_of_the_parts_whoever_makes_them() {
    let stages = format!("{MADE}  unique: {{use: dedup_exact, from: made, keep: true}}\n");
    let one = tempfile::tempdir().expect("a folder");
    let record = go(one.path(), &stages, &options());
    assert_eq!(numbers(&one.path().join("out"), "unique"), (0..1000).collect::<Vec<_>>());
    let (made, unique) = (&record.stages[0], &record.stages[1]);
    // As of a source, its rows are those that it gave.
    assert_eq!((made.totals.rows_in, made.totals.rows_through("out"), unique.totals.rows_in), (1000, 1000, 1000));
    assert!(made.makes && made.is_source() && !unique.makes && record.device.is_none());
    for (threads, batch_rows) in [(3, 7), (8, 4096)] {
        let other = tempfile::tempdir().expect("a folder");
        go(other.path(), &stages, &Options { threads, batch_rows, memory: 4 << 30, ..options() });
        assert!(parts(&other.path().join("out")) == parts(&one.path().join("out")), "{threads} threads");
    }
    // Parts after a step that drew something for all of them.
    let drawn = tempfile::tempdir().expect("a folder");
    go(drawn.path(), "  made: {use: make_rows, rows: 20, parts: 3, draws: true}\n", &options());
    assert_eq!(numbers(&drawn.path().join("out"), "made"), (1000..1020).collect::<Vec<_>>());
}

#[test]
fn no_parts_are_no_rows_of_the_columns_that_were_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = go(folder.path(), "  made: {use: make_rows, rows: 0, parts: 0}\n", &options());
    assert_eq!((record.tasks.done, record.stages[0].published[0].rows), (0, 0));
    assert_eq!(numbers(&folder.path().join("out"), "made"), [0_i64; 0]);
    assert_eq!(parts(&folder.path().join("out")).len(), 1);
    // Neither do more parts than rows.
    go(folder.path(), "  made: {use: make_rows, rows: 2, parts: 5}\n", &options());
    assert_eq!(numbers(&folder.path().join("out"), "made"), [0, 1]);
}

const CRASHED: &str = "  made: {use: make_rows, rows: 200, parts: 5, draws: true, rejects: 3}\n  unique: {use: dedup_exact, from: made}\n";

/// Not a test by itself: the process that dies in the next one.
#[test]
fn dies_where_it_is_told() {
    let (Some(folder), Some(at)) = (std::env::var_os("PARTS_FOLDER"), std::env::var("PARTS_CRASH_AT").ok()) else { return };
    let options = Options { crash_at: at.parse().ok(), ..options() };
    drop(run(load(Path::new(&folder), &format!("{CRASHED}max_rejected: 0.5\n"), &LoadOptions::default()).expect("it loads"), &options));
}

#[test]
fn killed_at_any_point_it_ends_with_the_same_bytes() {
    let stages = format!("{CRASHED}max_rejected: 0.5\n");
    let calm = tempfile::tempdir().expect("a folder");
    go(calm.path(), &stages, &options());
    let expected = parts(&calm.path().join("out"));
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["unique/part-00000.parquet"]);
    let mut points = 0;
    for at in 1.. {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child
            .args(["--exact", "run::parts::dies_where_it_is_told"])
            .env("PARTS_FOLDER", folder.path())
            .env("PARTS_CRASH_AT", at.to_string());
        if child.output().expect("it starts").status.success() {
            break;
        }
        points += 1;
        let record = go(folder.path(), &stages, &options());
        assert!(parts(&folder.path().join("out")) == expected, "killed at {at}");
        assert_eq!((record.stages[0].totals.rows_in, record.stages[0].totals.rejected_rows()), (200, 14), "killed at {at}");
    }
    assert!(points > 30, "only {points} points");
}

#[test]
fn a_limit_makes_the_first_rows_alone() {
    for (limit, parts) in [(1, 7), (142, 7), (143, 7), (999, 7), (1000, 7), (5000, 7), (3, 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let stages = format!("  made: {{use: make_rows, rows: 1000, parts: {parts}}}\n");
        let record = go(folder.path(), &stages, &Options { limit: Some(limit), ..options() });
        let wanted = i64::try_from(limit.min(1000)).expect("few");
        assert_eq!(numbers(&folder.path().join(format!("out.limit{limit}")), "made"), (0..wanted).collect::<Vec<_>>(), "{limit}");
        assert_eq!(record.tasks.done, 1);
        // It is not what a run without a limit does.
        let record = go(folder.path(), &stages, &options());
        assert_eq!((record.tasks.reused, record.tasks.done), (0, parts));
    }
}

#[test]
fn a_plan_knows_how_many_tasks_and_a_sample_how_many_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = |stages: &str| survey(graph(folder.path(), stages), &options()).expect("a plan");
    let told = |survey: &super::Survey| survey.units.iter().map(|unit| (unit.done, unit.left, unit.known)).collect::<Vec<_>>();
    let made = plan(MADE);
    assert_eq!(told(&made), [(0, 7, true)]);
    assert_eq!(made.ready[6].label, "made make: part 6");
    // The first step decides nothing here, but a program could ask what it wrote.
    assert_eq!(told(&plan("  made: {use: make_rows, rows: 9, parts: 3, draws: true}\n")), [(0, 1, false)]);
    assert_eq!(told(&plan("  made: {use: make_rows, rows: 0, parts: 0}\n")), [(0, 0, true)]);

    let sample = |stages: &str, rows| estimate(&graph(folder.path(), stages), &options(), rows).expect("an estimate").stages[0].clone();
    // A part that is made to its end tells how many rows the others make.
    let whole = sample(MADE, 1000);
    assert!(whole.rows_out.low < 1000.0 && whole.rows_out.high.is_some_and(|high| high > 990.0), "{whole:?}");
    assert!(whole.output_bytes.likely.is_some_and(|bytes| bytes > 0.0) && whole.task_seconds.high.is_some());
    // One that is not, does not; but the settings may.
    assert_eq!(sample(MADE, 10).rows_out.high, None);
    let said = sample("  made: {use: make_rows, rows: 1000000, parts: 7, each_bytes: 20}\n", 10);
    assert!(said.rows_out.is_known() && said.rows_out.low > 999_999.0, "{said:?}");
    let drawn = sample("  made: {use: make_rows, rows: 1000, parts: 7, each_bytes: 20, draws: true}\n", 10);
    assert!(drawn.rows_out.is_known() && drawn.output_bytes.likely == Some(20_000.0), "{drawn:?}");
    assert_eq!(sample("  made: {use: make_rows, rows: 0, parts: 0}\n", 10).rows_out.high, Some(0.0));
}

#[test]
fn what_cannot_fit_is_refused_at_its_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    let stages = "  made: {use: make_rows, rows: 1000000000000, parts: 7, each_bytes: 15000}\n";
    let Err(problems) = load(folder.path(), stages, &LoadOptions::default()) else { panic!("refused") };
    let line = problems.lines().remove(0);
    let said = "stage `made` (make_rows): 10^12 rows of nothing take about 13.3 PiB; ";
    assert!(line.contains(said) && line.contains(" free") && line.contains(":6:32"), "{line}");
    // A few of them do.
    let few = load(folder.path(), stages, &LoadOptions { limit: Some(100), ..LoadOptions::default() });
    let makes = few.map(|graph| graph.nodes[0].makes.clone()).ok().flatten().expect("it makes rows");
    assert_eq!((makes.rows, makes.bytes), (100, 1_500_000));
    let Err(problems) =
        load(folder.path(), "  made: {use: make_rows, rows: 18446744073709551615, parts: 7, each_bytes: 0}\n", &LoadOptions::default())
    else {
        panic!("refused")
    };
    assert!(problems.lines()[0].contains("are more than one stage makes, 4,294,967,296"), "{:?}", problems.lines());
}

#[test]
fn more_parts_than_are_kept_in_memory_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let result = run(graph(folder.path(), "  made: {use: make_rows, rows: 9, parts: 4000000000}\n"), &options()).0;
    let Err(error @ RunError::TooManyParts { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().starts_with("stage `made`, step `make`: 4,000,000,000 parts, and a run has at most 1,048,576; "), "{error}");
}

#[test]
fn a_worker_does_one_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out");
    let ready = survey_for_workers(graph(folder.path(), MADE), &options()).expect("a plan").ready;
    let wanted = [ready[5].name.clone(), ready[2].name.clone()];
    let job = Job::find(&output, &wanted).expect("a plan lies there");
    let mut done = Vec::new();
    let meanwhile = work(graph(folder.path(), MADE), &job, &options(), |label, _| done.push(label.to_owned())).expect("it can be done");
    assert_eq!((done, meanwhile.len()), (vec!["made make: part 2".to_owned(), "made make: part 5".to_owned()], 0));
    assert!(!output.join("made").exists(), "workers publish nothing");
    let record = go(folder.path(), MADE, &options());
    assert_eq!((record.tasks.reused, record.tasks.done), (2, 5));
    assert_eq!(numbers(&output, "made"), (0..1000).collect::<Vec<_>>());
}

const KERNEL: &str = "  made: {use: make_rows, rows: 200, parts: 4}
  again: {use: dedup_exact, from: made}
  run: {use: run_kernel, from: again, lost_at: \"150\"}
  after: {use: dedup_exact, from: run}
";

#[test]
fn the_class_of_the_device_is_in_the_fingerprints_of_stages_with_kernels_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut graph = graph(folder.path(), KERNEL);
    let of = |graph: &Graph| (0..4).map(|node| own_fingerprint(graph, node)).collect::<Vec<_>>();
    let on_cpu = of(&graph);
    graph.device.as_mut().expect("a stage has kernels").class = DeviceClass::Gpu;
    let on_gpu = of(&graph);
    let differ: Vec<bool> = on_cpu.iter().zip(&on_gpu).map(|(a, b)| a != b).collect();
    assert_eq!(differ, [false, false, true, false]);
    graph.device.as_mut().expect("a stage has kernels").adapter = Some("another".to_owned());
    assert_eq!(of(&graph), on_gpu, "which adapter it is changes nothing");
    assert!(load(folder.path(), MADE, &LoadOptions::default()).is_ok_and(|graph| graph.device.is_none()), "no driver was asked");
}

#[test]
fn shards_for_which_the_processor_stepped_in_are_counted_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut built = graph(folder.path(), KERNEL);
    built.device.as_mut().expect("a stage has kernels").class = DeviceClass::Gpu;
    let (result, record) = run(built, &Options { shard_rows: 50, ..options() });
    assert!(result.is_ok());
    let record = record.expect("a record");
    let ran = |index: usize| record.stages[index].totals.ran_on.clone();
    assert_eq!(ran(2), [(FELL_BACK.to_owned(), 1), ("gpu".to_owned(), 3)].into());
    assert!(ran(0).is_empty() && ran(1).is_empty() && ran(3).is_empty());
    assert_eq!(record.stages[2].totals.fell_back(), 1);
    let report = std::fs::read_to_string(folder.path().join("out/report.html")).expect("a report");
    assert!(report.contains("a GPU, and the processor where that failed: 1; a GPU: 3"));
    let logs = std::fs::read_dir(folder.path().join("out/.pipeline/logs")).expect("logs").map(|log| log.expect("an entry").path());
    let logs: String = logs.map(|log| std::fs::read_to_string(log).expect("read")).collect();
    assert!(logs.contains("the processor steps in for the GPU: a test wanted it so"), "{logs}");
    // It is remembered with the task, and counted again by a run that does not do it.
    let mut again = graph(folder.path(), KERNEL);
    again.device.as_mut().expect("a stage has kernels").class = DeviceClass::Gpu;
    let (_, record) = run(again, &Options { shard_rows: 50, ..options() });
    let record = record.expect("a record");
    assert_eq!((record.tasks.done, record.stages[2].totals.fell_back()), (0, 1));
}

/// What the coordinator takes for tasks that do next to nothing: `cargo test --lib parts -- --ignored --nocapture`, with `PARTS=100000`. A second
/// call with the same `PARTS_FOLDER` finds all of them done, and has then all of them in memory and nothing else.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement says what it measured")]
fn a_hundred_thousand_parts() {
    let n: u32 = std::env::var("PARTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = std::env::var_os("PARTS_FOLDER").map_or_else(|| temporary.path().to_owned(), Into::into);
    let stages = format!("  made: {{use: make_rows, rows: {n}, parts: {n}}}\n");
    let (began, before) = (std::time::Instant::now(), super::usage::peak_memory_bytes());
    let record = go(&folder, &stages, &Options { threads: 2, ..options() });
    let each = began.elapsed().as_secs_f64() * 1e6 / f64::from(n);
    let more = (super::usage::peak_memory_bytes() - before) / 1_000_000;
    eprintln!("{n} parts, {each:.0} ms per 1000, {more} MB of memory more than before; {:?}", record.tasks);
}
