//! The command line: arguments in, exit code out; no logic.
//!
//! A command is a file here with `Args` and `execute(args) -> miette::Result<Exit>`, a variant of [`Command`] and an arm of [`execute`].

pub mod check;
pub mod clean;
pub mod completions;
pub mod devices;
pub mod init;
pub mod inspect;
pub mod plan;
pub mod report;
pub mod run;
pub mod stages;
pub mod status;
pub mod trace;
pub mod worker;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use datasets::remote::Address;
use gpu::DeviceChoice;
use miette::{Diagnostic, IntoDiagnostic, WrapErr};

use crate::device::DeviceWish;
use crate::file::{Env, LoadOptions, Problems, load};
use crate::graph::Graph;

/// Turns raw data into training data: one file says what happens, one command does it.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, propagate_version = true, disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline file, or go on where an earlier run stopped
    Run(run::Args),
    /// Check a pipeline file: everything that can be known before work starts, all problems at once
    Check(check::Args),
    /// Show what is done and what is to do
    Plan(plan::Args),
    /// Show how a running or stopped job stands
    Status(status::Args),
    /// Show rows as a person wants to see them, in the terminal or as a page
    Inspect(inspect::Args),
    /// Tell the life of one row: where it was read, what it passed, why it is gone
    Trace(trace::Args),
    /// Write report.html again from run.json, or compare two runs
    Report(report::Args),
    /// Do tasks of a plan: what a cluster calls
    Worker(worker::Args),
    /// Remove checkpoints; what was published stays
    Clean(clean::Args),
    /// List the stage types, or explain one
    Stages(stages::Args),
    /// List the GPUs of this machine and their limits
    Devices(devices::Args),
    /// Write a commented pipeline file to start from
    Init(init::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It failed.
    Failed,
    /// The command line or the pipeline file is wrong.
    Usage,
    /// More rows were rejected than allowed; nothing downstream was published.
    Rejected,
    /// A budget that is used up or a dead endpoint stopped it tidily; a rerun goes on.
    Stopped,
    /// The person stopped it; a rerun goes on.
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Rejected => 3,
            Exit::Stopped => 4,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Something wrong with the command line that clap can't know; ends the program with [`Exit::Usage`].
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct UsageError {
    /// What was wanted and what was found.
    pub message: String,
    /// The next step.
    #[help]
    pub help: Option<String>,
}

/// The pipeline file a command works on.
#[derive(Debug, clap::Args)]
pub struct FileArgs {
    /// The pipeline file
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Change a value of the file: `--set stages.unique.scope=local`; may be given several times
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// What stages with kernels run them on: `auto`, a GPU if there is one; `cpu`; `gpu`; or an adapter, by a part of its name
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
}

/// Reads `--device`.
///
/// # Errors
/// An empty name, which every adapter's would contain.
pub fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    match text.trim().parse() {
        Ok(DeviceChoice::Named(name)) if name.is_empty() => Err("wanted auto, cpu, gpu or the name of an adapter".to_owned()),
        Ok(choice) => Ok(choice),
    }
}

impl FileArgs {
    /// Reads, checks and builds the file, for a run of so many rows of each source if there is a limit; `asks`: models are going to be asked, so
    /// that their keys must be there.
    ///
    /// # Errors
    /// All that is wrong with it, as a [`Problems`].
    pub fn load(&self, limit: Option<u64>, asks: bool) -> miette::Result<Graph> {
        let device = DeviceWish { choice: self.device.clone(), planned: None };
        let keys: Option<Env> = if asks { Some(Box::new(|name| std::env::var(name).ok())) } else { None };
        Ok(load(&self.file, &LoadOptions { sets: self.sets.clone(), device, limit, keys, ..LoadOptions::default() })?)
    }
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, to be shown to the person; [`exit_of`] gives its exit code.
pub fn execute(cli: Cli) -> miette::Result<Exit> {
    match cli.command {
        Command::Run(args) => run::execute(args),
        Command::Check(args) => check::execute(args),
        Command::Plan(args) => plan::execute(args),
        Command::Status(args) => status::execute(args),
        Command::Inspect(args) => inspect::execute(args),
        Command::Trace(args) => trace::execute(args),
        Command::Report(args) => report::execute(args),
        Command::Worker(args) => worker::execute(args),
        Command::Clean(args) => clean::execute(args),
        Command::Stages(args) => stages::execute(args),
        Command::Devices(args) => devices::execute(args),
        Command::Init(args) => init::execute(args),
        Command::Completions(args) => completions::execute(args),
    }
}

/// The exit code of an error.
pub fn exit_of(error: &miette::Report) -> Exit {
    if let Some(failure) = error.downcast_ref::<run::RunFailure>() {
        failure.exit()
    } else if error.is::<Problems>() || error.is::<UsageError>() {
        Exit::Usage
    } else {
        Exit::Failed
    }
}

/// Refuses to write a page over anything but a page.
pub(crate) fn check_page_name(flag: &str, path: &Path) -> Result<(), UsageError> {
    let is_page = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"));
    if is_page {
        return Ok(());
    }
    let message = format!("`{flag}` wants the name of a page to write, found `{}`", path.display());
    Err(UsageError { message, help: Some("the name of a page ends in .html".to_owned()) })
}

/// Writes a page beside its final name first: one that someone has open is never half a page.
///
/// # Errors
/// It can't be written.
pub(crate) fn write_whole(path: &Path, page: &str) -> miette::Result<()> {
    if let Some(address) = Address::of(path) {
        let written = crate::store::write(&address, page.to_owned().into());
        return written.into_diagnostic().wrap_err_with(|| format!("can't write {address}"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let written = std::fs::write(&temporary, page).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.into_diagnostic().wrap_err_with(|| format!("can't write {}", path.display()))
}

/// Writes `text` to stdout. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Stdout can't be written: a full disk, say.
pub fn print(text: &str) -> miette::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).into_diagnostic().wrap_err("can't write to standard output"),
        _ => Ok(()),
    }
}
