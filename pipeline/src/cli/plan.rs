//! `pipeline plan`: what is done and what is to do.

use std::fmt::Write as _;
use std::io::Write as _;

use stages::{Port, Stage};

use super::run::{Resources, RunFailure};
use super::{Exit, FileArgs};
use crate::graph::Graph;
use crate::run::asked::money;
use crate::run::progress::{duration, grouped};
use crate::run::{Amount, AsksEstimate, Estimate, Options, Survey, Todo, estimate, survey, survey_for_workers};
use crate::show;
use crate::show_graph::makes_text;

/// Arguments of `pipeline plan`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    resources: Resources,
    /// Plan only this stage and what it needs
    #[arg(long, value_name = "STAGE")]
    to: Option<String>,
    /// Plan a run that reads only the first ROWS rows of each source, and writes to <output>.limitROWS
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Estimate rows, bytes, time and disk from so many rows of each source; they go through the stages that treat each row alone, programs
    /// of yours among them
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["tasks", "mermaid"], value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// List the tasks that can be done now, a name and what it is on each line, and leave in the output what `pipeline worker` needs
    #[arg(long)]
    tasks: bool,
    /// With `--tasks`: workers are to ask no model anything
    #[arg(long, requires = "tasks")]
    offline_llm: bool,
    /// Print the stages as a Mermaid flow chart
    #[arg(long, conflicts_with_all = ["json", "tasks"])]
    mermaid: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Rows a shard has at most (changes where parts are cut)
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "ROWS", hide = true, default_value_t = crate::run::SHARD_ROWS, value_parser = clap::value_parser!(u64).range(1..))]
    shard_rows: u64,
}

/// Shows a plan.
///
/// # Errors
/// A wrong file, or an output that cannot be read.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let graph = args.file.load(args.limit, false)?;
    if args.mermaid {
        super::print(&mermaid(&graph))?;
        return Ok(Exit::Done);
    }
    let options = Options {
        to: args.to.clone(),
        device: args.file.device.clone(),
        limit: args.limit,
        offline_llm: args.offline_llm,
        #[cfg(debug_assertions)]
        shard_rows: args.shard_rows,
        ..args.resources.options()
    };
    let failure = |error| RunFailure::new(error, &args.file.file);
    let slots = options.slots().map_err(failure)?;
    let estimate = args.sample.map(|rows| estimate(&graph, &options, rows)).transpose().map_err(failure)?;
    let survey = if args.tasks { survey_for_workers(graph, &options) } else { survey(graph, &options) }.map_err(failure)?;
    if args.tasks && survey.ready.is_empty() {
        let _ = writeln!(std::io::stderr(), "all tasks are done; `pipeline run {}` publishes", args.file.file.display());
    }
    let text = match (args.json, args.tasks) {
        (true, tasks) => json(&survey, slots, tasks, estimate.as_ref()),
        (false, true) => survey.ready.iter().map(|task| format!("{}\t{}\n", task.name, task.label)).collect(),
        (false, false) => table(&survey.graph, &survey.units, slots) + &estimate.as_ref().map(estimate_table).unwrap_or_default(),
    };
    super::print(&text)?;
    Ok(Exit::Done)
}

fn table(graph: &Graph, units: &[Todo], slots: usize) -> String {
    let rows: Vec<(String, &Todo)> = units.iter().map(|unit| (unit.stages.join(" → "), unit)).collect();
    let width = rows.iter().map(|(stages, _)| stages.chars().count()).max().unwrap_or(0).max("stages".len());
    let mut text = format!(
        "{} → {}, {slots} tasks at once\n\n{:<width$}  {:>7}  {:>7}\n",
        graph.name,
        graph.output.display(),
        "stages",
        "done",
        "to do"
    );
    for (stages, unit) in rows {
        let left = match (unit.known, unit.left) {
            (true, left) => left.to_string(),
            (false, 0) => "unknown".to_owned(),
            (false, left) => format!("{left} +"),
        };
        let _ = writeln!(text, "{stages:<width$}  {:>7}  {left:>7}", unit.done);
    }
    for node in &graph.nodes {
        let _ = node.makes.iter().try_for_each(|makes| writeln!(text, "\n{} makes {}", node.id, makes_text(makes)));
    }
    if let Some(device) = &graph.device {
        let _ = writeln!(text, "\nkernels run on {device}");
    }
    if units.iter().any(|unit| !unit.known) {
        text += "\nunknown: how many tasks there are depends on the rows of the stages before\n";
    } else if units.iter().all(|unit| unit.left == 0) {
        text += "\nall done\n";
    }
    text
}

fn json(survey: &Survey, slots: usize, tasks: bool, estimate: Option<&Estimate>) -> String {
    let units: Vec<_> = survey
        .units
        .iter()
        .map(|unit| serde_json::json!({"stages": unit.stages, "tasks_done": unit.done, "tasks_left": unit.left, "all_steps_known": unit.known}))
        .collect();
    let graph = &survey.graph;
    let mut plan = serde_json::json!({"name": graph.name, "output": graph.output, "tasks_at_once": slots, "units": units});
    if let Some(device) = &graph.device {
        plan["device"] = serde_json::json!(device);
    }
    for (node, makes) in graph.nodes.iter().filter_map(|node| Some((node, node.makes.as_ref()?))) {
        plan["makes"][&node.id] = serde_json::json!({"rows": makes.rows, "bytes": makes.bytes, "what": makes.what});
    }
    if tasks {
        plan["tasks"] = serde_json::json!(survey.ready);
    }
    if let Some(estimate) = estimate {
        plan["estimate"] = serde_json::json!(estimate);
    }
    format!("{plan:#}\n")
}

/// What a run from the beginning takes, by stage.
fn estimate_table(estimate: &Estimate) -> String {
    let count = |amount: Amount| about(amount, |rows| grouped(whole(rows)));
    let size = |amount: Amount| about(amount, |bytes| show::bytes(whole(bytes)));
    let mut rows = vec![["stage", "rows in", "rows out", "bytes out", "task time", ".pipeline", "output"].map(str::to_owned).to_vec()];
    for stage in &estimate.stages {
        let rows_in = stage.input_bytes.map_or_else(|| count(stage.rows_in), show::bytes);
        let (out, bytes, time) = (count(stage.rows_out), size(stage.bytes_out), span(stage.task_seconds));
        rows.push(vec![stage.id.clone(), rows_in, out, bytes, time, size(stage.checkpoint_bytes), size(stage.output_bytes)]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut text = "\na run from the beginning\n\n".to_owned();
    for row in rows {
        let _ = write!(text, "{:<width$}", row[0], width = widths[0]);
        row.iter().zip(widths).skip(1).for_each(|(cell, width)| _ = write!(text, "  {cell:>width$}"));
        text.push('\n');
    }
    text += "\n~ by the sample; ≤ of at most so many rows; ≥ what its first step takes; ? depends on all rows together\n\n";
    // Object storage does not say.
    let free = estimate.free_bytes.map(|free| format!("; {} are free", show::bytes(free))).unwrap_or_default();
    let (tasks, wall, disk) = (span(estimate.task_seconds), span(estimate.wall_seconds), size(estimate.disk_bytes));
    let _ =
        writeln!(text, "time     {tasks} by the clock, one task after the other; with these tasks at once {wall}\ndisk     {disk}{free}");
    for note in &estimate.notes {
        let _ = writeln!(text, "note     {note}");
    }
    text + &asks_table(estimate)
}

/// What stages ask models, and what it costs.
fn asks_table(estimate: &Estimate) -> String {
    if estimate.llms.is_empty() {
        return String::new();
    }
    let of_stages = estimate.stages.iter().flat_map(|stage| stage.asks.iter().map(|asks| (stage.id.as_str(), asks)));
    let of_stages: Vec<(&str, &AsksEstimate)> = of_stages.collect();
    // The sum of one is that one.
    let sums =
        estimate.llms.iter().filter(|llm| of_stages.iter().filter(|(_, asks)| asks.llm == llm.llm).count() > 1).map(|llm| ("all", llm));
    let mut rows = vec![["asks", "model", "requests", "tokens in", "tokens out", "cost"].map(str::to_owned)];
    for (stage, asks) in of_stages.iter().copied().chain(sums) {
        let count = |amount: Amount| likely_and_most(amount, &|number| grouped(whole(number)));
        let cost = asks.cost.map_or_else(|| "no price".to_owned(), |cost| likely_and_most(cost, &money));
        let [calls, prompt, completion] = [asks.calls, asks.prompt_tokens, asks.completion_tokens].map(count);
        rows.push([stage.to_owned(), asks.llm.clone(), calls, prompt, completion, cost]);
    }
    let mut widths = [0; 6];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut text = "\n".to_owned();
    for row in rows {
        let [stage, model, rest @ ..] = &row;
        let _ = write!(text, "{stage:<0$}  {model:<1$}", widths[0], widths[1]);
        rest.iter().zip(&widths[2..]).for_each(|(cell, width)| _ = write!(text, "  {cell:>width$}"));
        text.push('\n');
    }
    text + "\nnobody was asked: ~ with stand-ins for answers, all of them right at once; ≤ with answers as long as `max_tokens` allows, asked for as\n\
            often as `tries` allows; a token is taken for four bytes. Answers that are stored cost nothing, and are counted all the same\n"
}

/// What is likely, and what it is at most.
fn likely_and_most(amount: Amount, text: &dyn Fn(f64) -> String) -> String {
    match (amount.likely, amount.high) {
        _ if amount.is_known() => text(amount.low),
        (Some(likely), Some(high)) => format!("~{} ≤ {}", text(likely), text(high)),
        (None, Some(high)) => format!("≤ {}", text(high)),
        _ => "?".to_owned(),
    }
}

fn about(amount: Amount, text: impl Fn(f64) -> String) -> String {
    match amount {
        known if known.is_known() => text(known.low),
        Amount { likely: Some(likely), .. } => format!("~{}", text(likely)),
        Amount { low, high: Some(high), .. } if low > 0.0 => format!("{} – {}", text(low), text(high)),
        Amount { high: Some(high), .. } => format!("≤ {}", text(high)),
        Amount { low, .. } if low > 0.0 => format!("≥ {}", text(low)),
        _ => "?".to_owned(),
    }
}

/// A time, as the range it is.
fn span(seconds: Amount) -> String {
    match seconds.high {
        Some(high) if high < 0.1 => "< 0.1 s".to_owned(),
        Some(high) if !seconds.is_known() => format!("{} – {}", duration(seconds.low), duration(high)),
        _ => about(seconds, duration),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an amount of something, rounded; too large ones saturate")]
fn whole(amount: f64) -> u64 {
    amount.round() as u64
}

fn mermaid(graph: &Graph) -> String {
    let mut text = "flowchart TD\n".to_owned();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (open, close) = match node.stage {
            Stage::Source(_) => ("([", "])"),
            Stage::RowLocal(_) | Stage::RowAsync(_) => ("[", "]"),
            Stage::Global(_) => ("[[", "]]"),
        };
        let _ = writeln!(text, "  s{index}{open}\"{}<br/><small>{}</small>\"{close}", node.id, node.spec.name);
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            for edge in &input.from {
                let mut labels = Vec::new();
                if edge.port != Port::OUT {
                    labels.push(edge.port.to_string());
                }
                if input.port != Port::FROM {
                    labels.push(format!("as {}", input.port));
                }
                let label = if labels.is_empty() { String::new() } else { format!("|\"{}\"|", labels.join(" ").replace('"', "#quot;")) };
                let _ = writeln!(text, "  s{} -->{label} s{index}", edge.node);
            }
        }
    }
    text
}
