//! The end of a run: parts, card, record and report, and nothing left over.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use stages::Port;
use stages::llm::LlmFigures;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::asked::money;
use super::context::Context;
use super::engine::Engine;
use super::lock::Lock;
use super::log::{About, Level, RunLog};
use super::progress::grouped;
use super::{Options, RunError, publish, usage};
use crate::graph::Edge;
use crate::marks::{self, DoneMark, Form, StoredFile};
use crate::plan::Unit;
use crate::record::{LlmRecord, Machine, Published, RunRecord, StageRecord};
use crate::report::FromRows;
use crate::store::Store;
use crate::{card, report};

/// Where the record of a run lies.
pub(super) const RECORD: &str = "run.json";

/// Publishes what a finished unit made, of the ports that are `wanted`; by stage.
///
/// # Errors
/// What the storage or a format says.
pub(super) fn publish_unit(
    cx: &Context,
    unit: &Unit,
    outputs: &[DoneMark],
    wanted: impl Fn(&Port) -> bool,
) -> Result<Vec<(usize, Published)>, RunError> {
    let mut all = Vec::new();
    for node in cx.plan.nodes_of(unit) {
        let stage = &cx.graph.nodes[node];
        let edges = cx.plan.stored.range(Edge { node, port: Port::named("") }..).take_while(|(edge, _)| edge.node == node);
        for (edge, stored) in edges.filter(|(edge, _)| wanted(&edge.port)) {
            let Some((folder, settings)) = &stored.publish else { continue };
            let is_of = |file: &&StoredFile| file.form == Form::Part && file.stage == stage.id && file.port == edge.port.as_str();
            let pieces: Vec<StoredFile> = outputs.iter().flat_map(|mark| &mark.files).filter(is_of).cloned().collect();
            let schema = stage.outputs.get(&edge.port);
            let empty =
                schema.map(|schema| move || -> Result<Vec<u8>, RunError> { Ok(datasets::empty_part(schema, settings)?.into_bytes()) });
            // A stage that dropped or rejected nothing has no such folder; an output that came out empty still has its columns.
            let side = [Port::DROPPED, Port::REJECTED].contains(&edge.port);
            let empty = empty.as_ref().filter(|_| !side).map(|empty| empty as &dyn Fn() -> Result<Vec<u8>, RunError>);
            let published = publish::publish(&cx.store, folder, settings, &pieces, empty)?;
            if !published.parts.is_empty() {
                all.push((node, published));
            }
        }
    }
    Ok(all)
}

/// Writes card, record and report, and clears away what is left over.
pub(super) fn conclude(
    engine: &Engine,
    result: Result<(), RunError>,
    options: &Options,
    started: (Instant, OffsetDateTime),
) -> (Result<(), RunError>, RunRecord) {
    let mut record = record_of(engine, options, started);
    let finished = result.and_then(|()| {
        let store = &engine.cx.store;
        if options.to.is_none() {
            let folders = engine.cx.plan.stored.values().filter_map(|stored| stored.publish.as_ref().map(|(folder, _)| folder.clone()));
            publish::remove_stale(store, &folders.collect::<Vec<_>>())?;
            engine.sweep(!crate::plan::discards(&engine.cx.graph))?;
        }
        let schemas = card::schemas_of(&engine.cx.graph);
        store.put_durable("README.md", Bytes::from(card::render(&record, &schemas)))?;
        Ok(())
    });
    match &finished {
        Ok(()) => "done".clone_into(&mut record.state),
        Err(error) => {
            let state = match error {
                RunError::Interrupted => "interrupted",
                RunError::TooManyRejected { .. } | RunError::Unexpected { .. } | RunError::Stopped { .. } => "stopped",
                _ => "failed",
            };
            state.clone_into(&mut record.state);
            record.error = Some(error.to_string());
            still_published(&engine.cx.store, &mut record);
        }
    }
    record.wall_seconds = started.0.elapsed().as_secs_f64();
    record.cpu_seconds = usage::cpu_seconds();
    record.peak_memory_bytes = usage::peak_memory_bytes();
    log_end(&engine.cx.log, &record, finished.as_ref().err());
    // An output that was taken away in mid-run is not made again just to say so: the next run would take it for somebody else's folder.
    let is_there = Lock::is_held(&engine.cx.store);
    // Only of an output that is done, and only where columns can be pictures or trees: storage is asked for nothing else.
    let may_have = |schema: &arrow::datatypes::SchemaRef| {
        let is_binary = |field: &arrow::datatypes::FieldRef| field.data_type().to_string().contains("Binary");
        schema.fields().iter().any(is_binary) || report::trees::are_nodes(schema.fields().iter().map(|field| field.name().as_str()))
    };
    let may_have = engine.cx.graph.nodes.iter().any(|node| node.outputs.iter().any(|(_, schema)| may_have(schema)));
    let rows = if finished.is_ok() && may_have { FromRows::of_output(engine.cx.store.root(), &record) } else { FromRows::default() };
    let written = if finished.is_ok() || is_there { write_record(&engine.cx.store, &record, &rows) } else { Ok(()) };
    (finished.and(written), record)
}

/// What earlier runs published and this one did not come to is still there, and who reads by the record finds it.
fn still_published(store: &Store, record: &mut RunRecord) {
    let earlier = store.get(RECORD).ok().flatten().and_then(|bytes| serde_json::from_slice::<RunRecord>(&bytes).ok());
    for before in earlier.into_iter().flat_map(|earlier| earlier.stages) {
        if let Some(stage) = record.stages.iter_mut().find(|stage| stage.id == before.id) {
            let is_new = |published: &Published| stage.published.iter().all(|of_now| of_now.folder != published.folder);
            let kept: Vec<_> = before.published.into_iter().filter(is_new).collect();
            stage.published.extend(kept);
        }
    }
}

/// Tells how the run ended, and with what.
fn log_end(log: &RunLog, record: &RunRecord, error: Option<&RunError>) {
    for stage in &record.stages {
        let (about, totals) = (About::stage(&stage.id), &stage.totals);
        let sum = |counts: &std::collections::BTreeMap<String, u64>| grouped(counts.values().sum());
        let out = grouped(totals.rows_out.get("out").copied().unwrap_or(0));
        let (rows, dropped, rejected) = (grouped(totals.rows_in), sum(&totals.dropped), sum(&totals.rejected));
        let busy = totals.busy_seconds;
        let waited = if totals.waited_seconds > 0.0 { format!(", waited for {:.1} s", totals.waited_seconds) } else { String::new() };
        log.line(
            Level::Info,
            about,
            format!("{rows} rows in, {out} out, {dropped} dropped, {rejected} rejected, busy for {busy:.1} s{waited}"),
        );
        if totals.fell_back() > 0 {
            log.line(Level::Warn, about, format!("ran on {}", totals.ran_on_in_words().unwrap_or_default()));
        }
        for (what, names) in &totals.counted {
            names.iter().for_each(|(name, times)| log.line(Level::Warn, about, format!("{what} `{name}`: {}", grouped(*times))));
        }
    }
    for (name, llm) in &record.llms {
        let LlmFigures { requests, answers, stored, retries, throttled, prompt_tokens, completion_tokens, .. } = llm.figures;
        let spent = llm.figures.spent;
        let text = format!(
            "model `{name}`: {requests} requests, {answers} new answers, {stored} stored ones, {retries} sent again, {throttled} throttled, {prompt_tokens} + {completion_tokens} tokens; spent in all runs: {} requests, {} tokens, cost {}",
            spent.requests,
            spent.tokens,
            money(spent.cost)
        );
        log.line(Level::Info, About::RUN, text);
    }
    let crate::record::TaskCounts { done, reused } = record.tasks;
    let (wall, cpu, peak) = (record.wall_seconds, record.cpu_seconds, record.peak_memory_bytes / 1_000_000);
    let counts = format!("{} tasks done, {} done before", grouped(done), grouped(reused));
    log.line(Level::Info, About::RUN, format!("{} after {wall:.1} s: {counts}, {cpu:.1} s of CPU, peak memory {peak} MB", record.state));
    if let Some(error) = error {
        log.error(error);
    }
    log.end();
}

fn write_record(store: &Store, record: &RunRecord, rows: &FromRows) -> Result<(), RunError> {
    store.put_durable("report.html", Bytes::from(report::render_with(record, rows)))?;
    let json = serde_json::to_vec_pretty(record).map_err(|error| RunError::Internal(format!("the record does not serialize: {error}")))?;
    Ok(store.put_durable(RECORD, Bytes::from(json))?)
}

fn record_of(engine: &Engine, options: &Options, (clock, started): (Instant, OffsetDateTime)) -> RunRecord {
    let (graph, plan) = (&engine.cx.graph, &engine.cx.plan);
    let stages = plan.active.iter().map(|&index| {
        let node = &graph.nodes[index];
        let source = |edge: &Edge| {
            let id = &graph.nodes[edge.node].id;
            if edge.port == Port::OUT { id.clone() } else { format!("{id}.{}", edge.port) }
        };
        let mut totals = crate::record::StageTotals::default();
        for unit in &engine.units {
            if let Some(of_unit) = unit.totals.get(&node.id) {
                totals.merge(of_unit.clone());
            }
        }
        StageRecord {
            id: node.id.clone(),
            stage_type: node.spec.name.to_owned(),
            version: node.spec.version,
            fingerprint: plan.fingerprints[&index].to_string(),
            settings: node.settings.clone(),
            files: node.files.clone(),
            inputs: node.inputs.iter().map(|input| (input.port.to_string(), input.from.iter().map(source).collect())).collect(),
            notes: node.notes.clone(),
            views: views_of(node),
            tags: node.outputs.is_tagged(),
            makes: node.makes_rows(),
            totals,
            published: engine
                .units
                .iter()
                .flat_map(|unit| &unit.published)
                .filter(|(of, _)| *of == index)
                .map(|(_, published)| published.clone())
                .collect(),
        }
    });
    RunRecord {
        granary: env!("CARGO_PKG_VERSION").to_owned(),
        name: graph.name.clone(),
        file: graph.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        recipe: graph.text.clone(),
        seed: graph.seed,
        state: String::new(),
        error: None,
        started: started.format(&Rfc3339).unwrap_or_default(),
        wall_seconds: clock.elapsed().as_secs_f64(),
        cpu_seconds: 0.0,
        peak_memory_bytes: 0,
        tasks: engine.tasks,
        threads: engine.cx.pool.slots(),
        memory_bytes: options.memory,
        machine: Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        },
        device: graph.device.clone(),
        answers: (engine.cx.llms.iter().next().is_some()).then(|| graph.answers.to_string_lossy().into_owned()),
        llms: engine.cx.llms.iter().map(|(name, llm)| (name.to_owned(), LlmRecord::of(llm))).collect(),
        stages: stages.collect(),
    }
}

/// Ports that give a view of a stage's rows, not a share of them.
fn views_of(node: &crate::graph::Node) -> Vec<String> {
    let out = node.outputs.get(&Port::OUT);
    let is_view = |port: &Port, schema: &arrow::datatypes::SchemaRef| *port != Port::DROPPED && Some(schema) != out;
    node.outputs.iter().filter(|(port, schema)| is_view(port, schema)).map(|(port, _)| port.to_string()).collect()
}

/// Removes marks and data of tasks other than `tasks` (mark, data folder); with `keep_data` false, the data and marks of those too.
///
/// # Errors
/// What the storage says.
pub(super) fn sweep(store: &Store, tasks: &[(String, String)], keep_data: bool) -> Result<(), RunError> {
    let marks: BTreeSet<&str> = tasks.iter().filter(|_| keep_data).map(|(mark, _)| mark.as_str()).collect();
    let folders: BTreeSet<&str> = tasks.iter().filter(|_| keep_data).map(|(_, data)| data.as_str()).collect();
    let unknown = |path: &String| !marks.contains(path.as_str());
    store.delete_all(store.list(marks::FOLDER)?.into_iter().filter(unknown).collect())?;
    let unknown = |path: &String| !path.rsplit_once('/').is_some_and(|(folder, _)| folders.contains(folder));
    Ok(store.delete_all(store.list(marks::DATA)?.into_iter().filter(unknown).collect())?)
}

/// Forgets everything earlier runs did; what they published stays until it is replaced.
///
/// # Errors
/// What the storage says.
pub(super) fn forget(store: &Store) -> Result<(), RunError> {
    sweep(store, &[], false)?;
    Ok(store.delete(".pipeline/inputs.json")?)
}
