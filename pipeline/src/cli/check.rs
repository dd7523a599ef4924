//! `pipeline check FILE`: all that can be known before work starts.

use crate::cli::{Exit, FileArgs, print};
use crate::show_graph::summary;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
}

/// Checks the file and says what it will do.
///
/// # Errors
/// All that is wrong with the file.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let graph = args.file.load(None, true)?;
    print(&summary(&graph))?;
    Ok(Exit::Done)
}
