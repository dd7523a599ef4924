//! `pipeline status`: a running or stopped job, from another terminal.

use std::fmt::Write;
use std::path::PathBuf;

use super::Exit;
use super::run::check_output;
use crate::record::RunRecord;
use crate::run::asked::describe;
use crate::run::lock::Lock;
use crate::run::log::latest;
use crate::run::progress::{self, Snapshot, duration, grouped};

/// Arguments of `pipeline status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output folder of a run
    #[arg(value_hint = clap::ValueHint::DirPath)]
    output: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Shows how a job stands.
///
/// # Errors
/// A folder that is no output of a run.
pub fn execute(args: Args) -> miette::Result<Exit> {
    check_output(&args.output)?;
    let holder = Lock::holder(&args.output);
    let read = |name: &str| crate::store::read(&args.output.join(name)).ok();
    let snapshot = read(progress::FILE).and_then(|bytes| serde_json::from_slice::<Snapshot>(&bytes).ok());
    let record = read("run.json").and_then(|bytes| serde_json::from_slice::<RunRecord>(&bytes).ok());
    let state = match (&holder, &record) {
        (Some(process), _) => format!("running (process {process})"),
        (None, Some(record)) => match &record.error {
            Some(error) => format!("{}: {error}", record.state),
            None => record.state.clone(),
        },
        (None, None) => "not finished, and no run works on it; running it again goes on".to_owned(),
    };
    let log = latest(&args.output);
    let text = if args.json {
        let status = serde_json::json!({"state": state, "running": holder.is_some(), "progress": snapshot, "log": log});
        format!("{status:#}\n")
    } else {
        let llms = snapshot.as_ref().map(|snapshot| snapshot.llms.clone()).unwrap_or_default();
        let device = snapshot.as_ref().and_then(|snapshot| snapshot.device.clone());
        let mut text = format!("{}: {}\n", args.output.display(), crate::show::visible(&state));
        if let Some(snapshot) = snapshot {
            let _ = writeln!(
                text,
                "{} tasks done, {} found done, after {}\n",
                snapshot.tasks_done,
                snapshot.tasks_reused,
                duration(snapshot.seconds)
            );
            let width = snapshot.stages.iter().map(|stage| stage.id.chars().count()).max().unwrap_or(0).max("stage".len());
            let _ =
                writeln!(text, "{:<width$}  {:>12}  {:>12}  {:>10}  {:>10}  tasks", "stage", "rows in", "rows out", "dropped", "rejected");
            for stage in &snapshot.stages {
                let (rows_in, rows_out) = (grouped(stage.rows_in), grouped(stage.rows_out));
                let (dropped, rejected) = (grouped(stage.dropped), grouped(stage.rejected));
                let tagged = if stage.tagged > 0 { format!(", {} rows tagged", grouped(stage.tagged)) } else { String::new() };
                let tasks = if stage.done { "done".to_owned() } else { format!("{} of {}", stage.tasks_done, stage.tasks) };
                let _ =
                    writeln!(text, "{:<width$}  {rows_in:>12}  {rows_out:>12}  {dropped:>10}  {rejected:>10}  {tasks}{tagged}", stage.id);
            }
        }
        for llm in &llms {
            let _ = writeln!(text, "{}model {}: {}", if llm.name == llms[0].name { "\n" } else { "" }, llm.name, describe(llm));
        }
        if let Some(device) = device {
            let _ = writeln!(text, "\ndevice  {}", crate::show::visible_line(&device));
        }
        if let Some(log) = log {
            let _ = writeln!(text, "\nlog  {}", log.display());
        }
        text
    };
    super::print(&text)?;
    Ok(Exit::Done)
}
