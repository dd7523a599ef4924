//! `pipeline stages [TYPE]`: the catalogue, and the manual page of one stage type.

use stages::registry::STAGES;

use crate::cli::{Exit, UsageError, print};
use crate::file::{file_schema, nearest};
use crate::manual;

/// Arguments of `stages`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stage type to explain; all are listed if it is absent
    #[arg(value_name = "TYPE", conflicts_with = "json_schema")]
    stage_type: Option<String>,
    /// Print the JSON Schema of a pipeline file, for editors
    #[arg(long)]
    json_schema: bool,
}

/// Prints the catalogue, a manual page, or the schema.
///
/// # Errors
/// There is no such stage type.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let text = match args.stage_type.as_deref() {
        None if args.json_schema => format!("{:#}\n", file_schema()),
        None => manual::catalogue(STAGES),
        Some(name) => manual::page(stages::registry::find(name).ok_or_else(|| unknown(name))?),
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn unknown(name: &str) -> UsageError {
    let near = nearest(name, STAGES.iter().map(|spec| spec.name)).map(|near| format!("did you mean `{near}`? "));
    let help = format!("{}`pipeline stages` lists them all", near.unwrap_or_default());
    UsageError { message: format!("there is no stage type `{}`", name.escape_debug()), help: Some(help) }
}
