//! `pipeline clean`: removes checkpoints and done marks; what was published stays.

use std::path::PathBuf;

use miette::IntoDiagnostic;

use super::Exit;
use super::run::{RunFailure, check_output};

/// Arguments of `pipeline clean`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output folder of a run
    #[arg(value_hint = clap::ValueHint::DirPath)]
    output: PathBuf,
}

/// Removes checkpoints.
///
/// # Errors
/// A folder that is no output of a run, or one that a run works on.
pub fn execute(args: Args) -> miette::Result<Exit> {
    check_output(&args.output)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().into_diagnostic()?;
    let freed = crate::run::clean(&args.output, runtime.handle().clone()).map_err(|error| RunFailure::new(error, &args.output))?;
    super::print(&format!(
        "removed checkpoints, {:.1} MB; published data stays, and the next run starts from the sources\n",
        freed as f64 / 1e6
    ))?;
    Ok(Exit::Done)
}
