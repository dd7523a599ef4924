//! `pipeline plan`: what is done and what is to do.

use std::fmt::Write as _;
use std::io::Write as _;

use stages::{Port, Stage};

use super::run::{Resources, RunFailure};
use super::{Exit, FileArgs};
use crate::graph::Graph;
use crate::run::{Options, Survey, Todo, survey, survey_for_workers};

/// Arguments of `pipeline plan`.
#[derive(Debug, clap::Args)]
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
    /// List the tasks that can be done now, a name and what it is on each line, and leave in the output what `pipeline worker` needs
    #[arg(long)]
    tasks: bool,
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
    let graph = args.file.load()?;
    if args.mermaid {
        super::print(&mermaid(&graph))?;
        return Ok(Exit::Done);
    }
    let options = Options {
        to: args.to.clone(),
        limit: args.limit,
        #[cfg(debug_assertions)]
        shard_rows: args.shard_rows,
        ..args.resources.options()
    };
    let failure = |error| RunFailure::new(error, &args.file.file);
    let slots = options.slots().map_err(failure)?;
    let survey = if args.tasks { survey_for_workers(graph, &options) } else { survey(graph, &options) }.map_err(failure)?;
    if args.tasks && survey.ready.is_empty() {
        let _ = writeln!(std::io::stderr(), "all tasks are done; `pipeline run {}` publishes", args.file.file.display());
    }
    let text = match (args.json, args.tasks) {
        (true, tasks) => json(&survey, slots, tasks),
        (false, true) => survey.ready.iter().map(|task| format!("{}\t{}\n", task.name, task.label)).collect(),
        (false, false) => table(&survey.graph, &survey.units, slots),
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
    if units.iter().any(|unit| !unit.known) {
        text += "\nunknown: how many tasks there are depends on the rows of the stages before\n";
    } else if units.iter().all(|unit| unit.left == 0) {
        text += "\nall done\n";
    }
    text
}

fn json(survey: &Survey, slots: usize, tasks: bool) -> String {
    let units: Vec<_> = survey
        .units
        .iter()
        .map(|unit| serde_json::json!({"stages": unit.stages, "tasks_done": unit.done, "tasks_left": unit.left, "all_steps_known": unit.known}))
        .collect();
    let graph = &survey.graph;
    let mut plan = serde_json::json!({"name": graph.name, "output": graph.output, "tasks_at_once": slots, "units": units});
    if tasks {
        plan["tasks"] = serde_json::json!(survey.ready);
    }
    format!("{plan:#}\n")
}

fn mermaid(graph: &Graph) -> String {
    let mut text = "flowchart TD\n".to_owned();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (open, close) = match node.stage {
            Stage::Source(_) => ("([", "])"),
            Stage::RowLocal(_) => ("[", "]"),
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
