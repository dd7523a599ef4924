//! `pipeline report OUTPUT`: writes report.html again, or a page that shows the run against another.

use std::path::PathBuf;

use crate::cli::Exit;
use crate::diff::{Diff, Run};
use crate::record::RunRecord;
use crate::report;

/// Writes `report.html` again from `run.json`; with `--diff`, shows instead what is different from another run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output folder of a run.
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// Compare with the run in this folder, as the earlier one: recipe, settings, versions, rows and reasons of every stage, numbers, time,
    /// memory, files. A short text goes to stdout, a page to `report-diff.html` in OUTPUT; nothing is written into OTHER. The exit code is 0
    /// whether they differ or not.
    #[arg(long, value_name = "OTHER", value_hint = clap::ValueHint::DirPath)]
    pub diff: Option<PathBuf>,
    /// Write the page that `--diff` makes here
    #[arg(long = "output", value_name = "FILE", requires = "diff", value_hint = clap::ValueHint::FilePath)]
    pub page: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If there is no record to read, or the page cannot be written.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let record = RunRecord::read(&args.output)?;
    if let Some(other) = &args.diff {
        let before = RunRecord::read(other)?;
        let [now_folder, before_folder] = [&args.output, other].map(|folder| folder.display().to_string());
        let diff = Diff::of(Run { folder: &before_folder, record: &before }, Run { folder: &now_folder, record: &record });
        let path = args.page.unwrap_or_else(|| args.output.join("report-diff.html"));
        super::check_page_name("--output", &path)?;
        super::write_whole(&path, &diff.page())?;
        super::print(&diff.text())?;
        tracing::info!("wrote {}", path.display());
        return Ok(Exit::Done);
    }
    let path = args.output.join("report.html");
    super::write_whole(&path, &report::render_with(&record, &report::FromRows::of_output(&args.output, &record)))?;
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
        let args = || Args { output: folder.path().to_owned(), diff: None, page: None };
        let error = execute(args()).unwrap_err();
        assert!(error.to_string().ends_with("has no run.json"), "{error}");
        std::fs::write(folder.path().join("run.json"), serde_json::to_vec(&samples::web()).unwrap()).unwrap();
        assert_eq!(execute(args()).unwrap(), Exit::Done);
        assert_eq!(std::fs::read_to_string(folder.path().join("report.html")).unwrap(), report::render(&samples::web()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_comparison_leaves_the_other_run_alone() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = ["old", "new"].map(|name| folder.path().join(name));
        for output in &outputs {
            std::fs::create_dir(output).unwrap();
            std::fs::write(output.join("run.json"), serde_json::to_vec(&samples::web()).unwrap()).unwrap();
        }
        let files = |output: &PathBuf| {
            let mut names: Vec<_> = std::fs::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let args = |page: Option<PathBuf>| Args { output: outputs[1].clone(), diff: Some(outputs[0].clone()), page };
        assert_eq!(execute(args(None)).unwrap(), Exit::Done);
        assert_eq!((files(&outputs[0]), files(&outputs[1])), (vec!["run.json".into()], vec!["report-diff.html".into(), "run.json".into()]));
        let page = folder.path().join("page.html");
        assert_eq!(execute(args(Some(page.clone()))).unwrap(), Exit::Done);
        assert!(std::fs::read_to_string(page).unwrap().contains("The two runs are equal"));
        let error = execute(args(Some(outputs[0].join("run.json")))).unwrap_err();
        assert_eq!(super::super::exit_of(&error), Exit::Usage, "{error}");
        let error = execute(Args { diff: Some(folder.path().join("none")), ..args(None) }).unwrap_err();
        assert!(error.to_string().ends_with("has no run.json"), "{error}");
    }
}
