//! `pipeline run`: checks, runs, resumes.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use miette::{Diagnostic, IntoDiagnostic, WrapErr};

use super::{Exit, FileArgs, UsageError};
use crate::record::{LlmRecord, RunRecord};
use crate::run::asked::money;
use crate::run::progress::{duration, grouped};
use crate::run::{Options, RunError, Show};
use crate::store::StoreError;

/// Arguments of `pipeline run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    resources: Resources,
    /// Forget what earlier runs did and start over
    #[arg(long)]
    fresh: bool,
    /// Ask no model anything: answers that are stored are all there is, and where one is missing the run stops
    #[arg(long)]
    offline_llm: bool,
    /// Run only this stage and what it needs
    #[arg(long, value_name = "STAGE")]
    to: Option<String>,
    /// Read only the first ROWS rows of each source, and write to <output>.limitROWS
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print progress as JSON lines on stdout
    #[arg(long)]
    json: bool,
    /// Rows a batch has inside a task (changes speed, never results)
    #[arg(long, value_name = "ROWS", hide = true, default_value_t = 4096, value_parser = parse_batch_rows)]
    batch_rows: usize,
    /// Rows a shard has at most (changes where parts are cut)
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "ROWS", hide = true, default_value_t = crate::run::SHARD_ROWS, value_parser = clap::value_parser!(u64).range(1..))]
    shard_rows: u64,
    /// Stop dead after the K-th side effect
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "K", hide = true)]
    crash_at: Option<u64>,
}

/// What a run may use.
#[derive(Debug, Clone, clap::Args)]
pub struct Resources {
    /// Most tasks at once [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory to keep to, such as 4GiB [default: three quarters of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,
}

impl Resources {
    /// These as options of a run.
    pub fn options(&self) -> Options {
        let default = Options::default();
        Options { threads: self.threads.map_or(default.threads, usize::from), memory: self.memory.unwrap_or(default.memory), ..default }
    }
}

fn parse_batch_rows(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&rows| rows > 0).ok_or_else(|| "wanted a number from 1 on".to_owned())
}

/// Reads a size such as `512MiB`, `4GB` or `1000000`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let wanted = || format!("wanted a size such as 512MiB, 4GB or 1000000000, found `{text}`");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wanted())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "kib" => 1 << 10,
        "m" | "mb" => 1_000_000,
        "mib" => 1 << 20,
        "g" | "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        "t" | "tb" => 1_000_000_000_000,
        "tib" => 1 << 40,
        _ => return Err(wanted()),
    };
    let bytes = number * factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wanted()) }
}

/// Runs a pipeline.
///
/// # Errors
/// What stopped it.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let graph = args.file.load(args.limit, !args.offline_llm)?;
    let interrupted = end_tidily()?;
    let options = Options {
        batch_rows: args.batch_rows,
        limit: args.limit,
        to: args.to.clone(),
        device: args.file.device.clone(),
        fresh: args.fresh,
        offline_llm: args.offline_llm,
        show: if args.json { Show::Json } else { Show::Auto },
        #[cfg(debug_assertions)]
        crash_at: args.crash_at,
        #[cfg(debug_assertions)]
        shard_rows: args.shard_rows,
        interrupted,
        command_line: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "),
        ..args.resources.options()
    };
    for node in &graph.nodes {
        for note in &node.notes {
            tracing::info!("{}: {note}", node.id);
        }
    }
    for note in &graph.notes {
        tracing::warn!("{}", crate::show::visible_line(note));
    }
    let output = options.output_of(&graph.output);
    let (result, record) = crate::run::run(graph, &options);
    if args.json
        && let Some(record) = &record
    {
        super::print(&format!("{}\n", serde_json::json!({"event": "end", "run": record})))?;
    }
    match result {
        Ok(()) => {
            if let Some(record) = record {
                let _ = writeln!(std::io::stderr(), "{}", summary(&record, &output, &args.file.file));
            }
            Ok(Exit::Done)
        }
        Err(error) => Err(RunFailure::new(error, &args.file.file).into()),
    }
}

/// Makes Ctrl-C end the tasks under way and then the program; what it sets.
///
/// # Errors
/// A system that takes no handler.
pub(super) fn end_tidily() -> miette::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            // The second time the person means it. Every finished task is on disk.
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        // What they work on is not done and will be done again, and nobody may be left behind if the person presses twice.
        stages::interrupt_programs();
        let _ = writeln!(std::io::stderr(), "\nending the tasks under way; press Ctrl-C again to stop at once");
    })
    .into_diagnostic()?;
    Ok(interrupted)
}

fn summary(record: &RunRecord, output: &Path, file: &Path) -> String {
    let mut lines = Vec::new();
    let tasks = match (record.tasks.done, record.tasks.reused) {
        (0, reused) => format!("nothing to do, all {} tasks were done before", grouped(reused)),
        (done, 0) => format!("{} tasks", grouped(done)),
        (done, reused) => format!("{} tasks, {} more were done before", grouped(done), grouped(reused)),
    };
    lines.push(format!("done in {} ({tasks}, peak memory {} MB)", duration(record.wall_seconds), record.peak_memory_bytes / 1_000_000));
    let folders: Vec<_> = record.stages.iter().flat_map(|stage| &stage.published).collect();
    let width = folders.iter().map(|published| published.folder.len()).max().unwrap_or(0);
    for published in folders {
        let bytes: u64 = published.parts.iter().map(|part| part.bytes).sum();
        lines.push(format!("  {:<width$}  {:>10} rows  {:>9.1} MB", published.folder, grouped(published.rows), bytes as f64 / 1e6));
    }
    for stage in &record.stages {
        let (fell_back, all) = (stage.totals.fell_back(), stage.totals.ran_on.values().sum());
        if fell_back > 0 {
            lines.push(format!(
                "  {}: WARNING: the GPU failed: the processor made {} of {} shards, or a part of each, and floats may differ a little; the log says why",
                stage.id,
                grouped(fell_back),
                grouped(all)
            ));
        }
        for (what, names) in &stage.totals.counted {
            for (name, times) in names {
                let name = crate::show::visible_line(name);
                lines.push(match (what.as_str(), name.rsplit_once('@')) {
                    ("rest_of_file_lost", Some((file, offset))) => format!(
                        "  {}: WARNING: {file} can't be read from {offset} on; how many rows are lost with that, nobody knows",
                        stage.id
                    ),
                    _ => format!("  {}: {what} `{name}` in {} rows", stage.id, grouped(*times)),
                });
            }
        }
    }
    for stage in record.stages.iter().filter(|_| !record.llms.is_empty()) {
        let rows = stage.totals.unasked_rows();
        if rows > 0 {
            let (rows, were) = if rows == 1 { ("1 row".to_owned(), "was") } else { (format!("{} rows", grouped(rows)), "were") };
            lines.push(format!(
                "  {rows} of `{}` {were} rejected because the endpoint failed or refused; `pipeline run {} --fresh` asks for them again, and for nothing that was answered",
                stage.id,
                file.display()
            ));
        }
    }
    for (name, llm) in &record.llms {
        lines.push(format!("  model {name}: {}", told_of(llm)));
    }
    lines.push(format!("output  {}", output.display()));
    lines.push(format!("report  {}", output.join("report.html").display()));
    lines.join("\n")
}

/// What a model was asked, and at what cost.
fn told_of(llm: &LlmRecord) -> String {
    let figures = &llm.figures;
    let mut text = format!(
        "{} new answers, {} stored ones, {} + {} tokens",
        grouped(figures.answers),
        grouped(figures.stored),
        grouped(figures.prompt_tokens),
        grouped(figures.completion_tokens)
    );
    if llm.price.is_some() {
        text += &format!(", cost {} ({} in all runs)", money(figures.cost), money(figures.spent.cost));
    }
    text
}

/// What stopped a run, with what to do about it.
#[derive(Debug, thiserror::Error, Diagnostic)]
// It may hold what a program wrote or what a row is called: nothing of that is for the terminal to obey.
#[error("{}", crate::show::visible(&.error.to_string()))]
pub struct RunFailure {
    // Not `source`: its text is this one's, and would be shown twice.
    error: RunError,
    #[help]
    help: Option<String>,
}

impl RunFailure {
    /// An error of a run of `file`.
    pub fn new(error: RunError, file: &Path) -> Self {
        let file = file.display();
        let help = match &error {
            RunError::Interrupted => Some(format!("`pipeline run {file}` goes on where this stopped")),
            RunError::TooManyRejected { stage, reason, .. } if crate::record::is_unasked(reason) => Some(format!(
                "nothing of `{stage}` or after it was published; `rejected/{stage}` in the output says what and why; mend the endpoint or the requests, or raise `max_rejected`; `pipeline run {file}` asks again for what was not answered"
            )),
            RunError::TooManyRejected { stage, .. } => Some(format!(
                "nothing of `{stage}` or after it was published; `rejected/{stage}` in the output says what and why; mend the input, or raise `max_rejected` and run again: what is done stays done"
            )),
            RunError::Unexpected { stage, .. } => Some(format!(
                "nothing of `{stage}` or after it was published, but for what it dropped and rejected; mend the input or change `expect`, and run again: what is done stays done"
            )),
            RunError::Stopped { help, .. } => {
                let again = format!("`pipeline run {file}` goes on where this stopped: what was answered is kept");
                Some(if help.is_empty() { again } else { format!("{help}; then {again}") })
            }
            RunError::Locked { .. } => Some("wait for it, or end it; `pipeline status OUTPUT` shows how far it is".to_owned()),
            RunError::WorkersAtWork { .. } => Some("wait until they end, or end them: what they have done stays done".to_owned()),
            RunError::NoPlan { .. } => Some("`pipeline plan FILE --tasks` leaves one there".to_owned()),
            RunError::OtherVersion { .. } => Some("plan with the version that does the tasks".to_owned()),
            RunError::NotReady { .. } => Some(format!("`pipeline plan {file} --tasks` lists the tasks that can be done now")),
            RunError::ForeignFiles { .. } => Some("name an empty or new folder as `output`, or move the file away".to_owned()),
            RunError::TooLittleMemory { .. } => Some("raise `--memory`".to_owned()),
            RunError::OverBudget { .. } => Some("raise `--memory`, or give the stage less to see at once".to_owned()),
            RunError::Store(StoreError::Damaged { .. }) => Some(format!("`pipeline run {file}` makes it again")),
            RunError::OtherPipeline { .. } => {
                Some("let `output` name another folder; with `--fresh` this pipeline's output replaces the other one".to_owned())
            }
            RunError::InputChanged(_) => Some(format!("once the input stands still, `pipeline run {file}` goes on")),
            RunError::Stage { .. } | RunError::Store(_) => {
                Some(format!("once it is mended, `pipeline run {file}` goes on where this stopped"))
            }
            _ => None,
        };
        Self { error, help }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self.error {
            RunError::Interrupted => Exit::Interrupted,
            RunError::TooManyRejected { .. } | RunError::Unexpected { .. } => Exit::Rejected,
            RunError::Stopped { .. } => Exit::Stopped,
            RunError::TooLittleMemory { .. }
            | RunError::NoStage(_)
            | RunError::NoPlan { .. }
            | RunError::OtherPipeline { .. }
            | RunError::OtherVersion { .. }
            | RunError::NotReady { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// An output folder that a command works on; refused if no run ever wrote there.
///
/// # Errors
/// [`UsageError`]; or what the storage says, which may hold an output and not show it.
pub fn check_output(output: &Path) -> miette::Result<()> {
    let there = crate::store::children(output);
    if let Err(error) = &there
        && !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
    {
        return there.map(|_| ()).into_diagnostic().wrap_err_with(|| format!("can't list {}", output.display()));
    }
    if there.as_ref().is_ok_and(|names| names.iter().any(|name| name == ".pipeline")) {
        return Ok(());
    }
    let message = if there.is_ok() || output.exists() {
        format!("{} is no output of a run", output.display())
    } else {
        format!("there is no {}", output.display())
    };
    Err(UsageError { message, help: Some("name the folder that `output:` names in the pipeline file".to_owned()) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for wrong in ["", "GiB", "12 parsecs", "-1", "1e400GB", "99999999999999999999TB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
