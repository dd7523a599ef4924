//! `pipeline plan`: what is done and what is to do.

use std::fmt::Write;

use stages::{Port, Stage};

use super::run::{Resources, RunFailure};
use super::{Exit, FileArgs};
use crate::graph::Graph;
use crate::run::{Options, Todo, todo};

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
    /// Print the stages as a Mermaid flow chart
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
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
    let options = Options { to: args.to.clone(), ..args.resources.options() };
    let slots = options.slots().map_err(|error| RunFailure::new(error, &args.file.file))?;
    let (graph, units) = todo(graph, &options).map_err(|error| RunFailure::new(error, &args.file.file))?;
    let text = if args.json { json(&graph, &units, slots) } else { table(&graph, &units, slots) };
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

fn json(graph: &Graph, units: &[Todo], slots: usize) -> String {
    let units: Vec<_> = units
        .iter()
        .map(|unit| serde_json::json!({"stages": unit.stages, "tasks_done": unit.done, "tasks_left": unit.left, "all_steps_known": unit.known}))
        .collect();
    format!("{:#}\n", serde_json::json!({"name": graph.name, "output": graph.output, "tasks_at_once": slots, "units": units}))
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
