//! `pipeline report OUTPUT`: writes report.html again.

use std::path::PathBuf;

use miette::{Context, IntoDiagnostic};

use crate::cli::Exit;
use crate::record::RunRecord;
use crate::report;

/// Writes `report.html` again from `run.json`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output folder of a run.
    pub output: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If there is no record to read, or the page cannot be written.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let record = RunRecord::read(&args.output)?;
    let page = report::render(&record);
    // Beside its final name first: a page that someone has open is never half a page.
    let path = args.output.join("report.html");
    let temporary = args.output.join(".report.html.tmp");
    std::fs::write(&temporary, page)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .into_diagnostic()
        .wrap_err_with(|| format!("can't write {}", path.display()))?;
    tracing::info!("wrote {}", path.display());
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn the_page_is_written_again_from_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let args = || Args { output: folder.path().to_owned() };
        let error = execute(args()).unwrap_err();
        assert!(error.to_string().ends_with("has no run.json"), "{error}");
        std::fs::write(folder.path().join("run.json"), serde_json::to_vec(&samples::web()).unwrap()).unwrap();
        assert_eq!(execute(args()).unwrap(), Exit::Done);
        assert_eq!(std::fs::read_to_string(folder.path().join("report.html")).unwrap(), report::render(&samples::web()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
