//! `pipeline init [TEMPLATE]`: a commented pipeline file to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::cli::{Exit, UsageError, print};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the file does
    #[arg(value_enum, default_value_t = Template::Text)]
    template: Template,
    /// The file to write; `-` prints it
    #[arg(long, short, value_name = "FILE", default_value = "pipeline.yaml", value_hint = clap::ValueHint::FilePath)]
    output: PathBuf,
}

/// What there is to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Read, filter, remove duplicates, hold some rows out
    Text,
    /// Merge two sources and keep one copy of each text
    Dedup,
    /// Ask a model for questions about texts, and keep those that differ
    Llm,
}

impl Template {
    /// The file's text.
    pub const fn text(self) -> &'static str {
        match self {
            Template::Text => include_str!("templates/text.yaml"),
            Template::Dedup => include_str!("templates/dedup.yaml"),
            Template::Llm => include_str!("templates/llm.yaml"),
        }
    }
}

/// Writes the file, if there is none.
///
/// # Errors
/// The file exists, or can't be written.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let text = args.template.text();
    if args.output == Path::new("-") {
        print(text)?;
        return Ok(Exit::Done);
    }
    let file = args.output.display();
    let written = OpenOptions::new().write(true).create_new(true).open(&args.output).and_then(|mut new| new.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            tracing::info!("wrote {file}: edit its paths, then `pipeline check {file}`");
            Ok(Exit::Done)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let help = Some("it stays as it is; `--output OTHER.yaml` writes another file".to_owned());
            Err(UsageError { message: format!("{file} exists already"), help }.into())
        }
        Err(error) => Err(UsageError { message: format!("can't write {file}: {error}"), help: None }.into()),
    }
}

#[cfg(test)]
mod tests {
    use stages::Kind;
    use stages::registry::STAGES;

    use super::*;
    use crate::file::{LoadOptions, load};

    #[test]
    fn every_template_is_a_pipeline_that_loads() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(folder.path().join("data/more")).expect("a folder in it");
        for file in ["data/a.jsonl", "data/more/b.jsonl"] {
            std::fs::write(folder.path().join(file), "{\"id\": \"1\", \"text\": \"some text\", \"source\": \"web\"}\n")
                .expect("a file in it");
        }
        for template in Template::value_variants() {
            let path = folder.path().join("pipeline.yaml");
            std::fs::write(&path, template.text()).expect("the folder is there");
            let problems = load(&path, &LoadOptions::default()).err().map(|problems| problems.lines()).unwrap_or_default();
            // Nothing else is wrong with it while the table has no source.
            let no_source = STAGES.iter().all(|spec| spec.kind != Kind::Source);
            let wrong = problems.iter().filter(|line| !(no_source && line.ends_with("which is no stage type")));
            assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{template:?}");
        }
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("pipeline.yaml");
        let again = || execute(Args { template: Template::Text, output: output.clone() });
        assert_eq!(again().ok(), Some(Exit::Done));
        std::fs::write(&output, "mine").expect("the folder is there");
        let error = again().expect_err("it exists");
        assert_eq!(error.to_string(), format!("{} exists already", output.display()));
        assert_eq!(crate::cli::exit_of(&error), Exit::Usage);
        assert_eq!(std::fs::read_to_string(&output).ok().as_deref(), Some("mine"));
    }
}
