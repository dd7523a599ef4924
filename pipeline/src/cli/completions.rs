//! `pipeline completions SHELL`: what the shell completes commands and options by.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Exit, print};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Stdout can't be written.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pipeline", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
