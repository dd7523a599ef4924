//! `pipeline worker`: does tasks of a plan; what a cluster calls.

use std::io::Write;
use std::path::PathBuf;

use gpu::DeviceChoice;

use super::run::{Resources, RunFailure, check_output, end_tidily};
use super::{Exit, parse_device};
use crate::run::progress::duration;
use crate::run::{Job, NamedTask, Options, work};

/// Arguments of `pipeline worker`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output folder that `pipeline plan FILE --tasks` made
    #[arg(value_hint = clap::ValueHint::DirPath)]
    output: PathBuf,
    /// The tasks to do, by the names that `pipeline plan FILE --tasks` printed
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
    /// The adapter to run kernels on, by a part of its name, or `gpu` or `cpu`: of the class that was planned with [default: as was planned]
    #[arg(long, value_name = "DEVICE", value_parser = parse_device)]
    device: Option<DeviceChoice>,
    /// Ask no model anything: what was answered before is all there is [default: as was planned]
    #[arg(long)]
    offline_llm: bool,
    #[command(flatten)]
    resources: Resources,
    /// Stop dead after the K-th side effect
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "K", hide = true)]
    crash_at: Option<u64>,
}

/// Does tasks.
///
/// # Errors
/// An output without a plan, a task that cannot be done now, or what stopped one.
pub fn execute(args: Args) -> miette::Result<Exit> {
    check_output(&args.output)?;
    let job = Job::find(&args.output, &args.tasks).map_err(|error| RunFailure::new(error, &args.output))?;
    tell_of(&job.done);
    if job.left.is_empty() {
        return Ok(Exit::Done);
    }
    let graph = job.recipe.graph(args.device.clone(), args.offline_llm)?;
    let file = graph.file.clone();
    let options = Options {
        #[cfg(debug_assertions)]
        crash_at: args.crash_at,
        interrupted: end_tidily()?,
        offline_llm: args.offline_llm,
        ..args.resources.options()
    };
    let each = |label: &str, seconds: f64| {
        let _ = writeln!(std::io::stderr(), "{label}: done after {}", duration(seconds));
    };
    tell_of(&work(graph, &job, &options, each).map_err(|error| RunFailure::new(error, &file))?);
    Ok(Exit::Done)
}

fn tell_of(done: &[NamedTask]) {
    for NamedTask { name, label } in done {
        let _ = writeln!(std::io::stderr(), "{name} ({label}) was done before");
    }
}
