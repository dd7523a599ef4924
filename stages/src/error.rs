//! What can go wrong in a stage, before or during a run.

use std::path::PathBuf;

use arrow::error::ArrowError;
use schemas::SchemaError;

/// Why a stage cannot be built, or cannot go on. A row that cannot be processed is no error: it is rejected, see [`crate::Emit::reject`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// A setting has a value that cannot work.
    #[error("{problem}")]
    Setting {
        /// The setting's name, `a.b` for a nested one; the error is shown at its place in the pipeline file.
        setting: String,
        /// What was wanted and what was found.
        problem: String,
        /// The next step for the reader.
        help: Option<String>,
    },
    /// A column is missing or has another type.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An input cannot be read at all.
    #[error("can't read {path}: {problem}")]
    Input {
        /// The file or pattern.
        path: PathBuf,
        /// What happened, with the offset where it is known.
        problem: String,
    },
    /// A format could not be read or written.
    #[error(transparent)]
    Data(#[from] datasets::DataError),
    /// A step needs more memory than the run may use.
    #[error("{what} needs about {needs} bytes of memory, the run may use {has}")]
    OverBudget {
        /// What is too large.
        what: String,
        /// Bytes it would take.
        needs: u64,
        /// Bytes there are.
        has: u64,
    },
    /// A guard that the user set found something that should not be.
    #[error("{problem}; nothing was dropped. If that is right, raise `{setting}`")]
    Guard {
        /// What was found.
        problem: String,
        /// The setting that allows it.
        setting: &'static str,
    },
    /// A program of the user's cannot be used.
    #[error("`{run}` {problem}")]
    Program {
        /// The program and its arguments.
        run: String,
        /// What is wrong with it, and the end of what it wrote to stderr.
        problem: String,
    },
    /// What earlier runs left for this one cannot be used, or not any more.
    #[error("{}: {problem}", .path.display())]
    Index {
        /// The index, or the file of it.
        path: PathBuf,
        /// What was found, and the next step.
        problem: String,
    },
    /// What finished tasks left for later runs is not there any more: they have to be done again.
    #[error("{}: {problem}; it was written by tasks that are done, and is needed now", .path.display())]
    Undone {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The run ends tidily before it is done, and goes on where it stopped when it is run again.
    #[error("{problem}")]
    Stopped {
        /// Why.
        problem: String,
        /// What to do before it is run again.
        help: String,
    },
    /// The endpoint of a model answers nobody, and will not the next time: its key or its URL is wrong, say.
    #[error("{problem}; {help}")]
    Endpoint {
        /// What it said.
        problem: String,
        /// The next step.
        help: String,
    },
    /// A person ended the run.
    #[error("interrupted")]
    Interrupted,
    /// Arrow refused an operation on the rows.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A bug of ours.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

/// What a program wrote last, to stand behind what is said of it.
pub(crate) fn last_words(said: &str) -> String {
    if said.is_empty() { "; it wrote nothing to stderr".to_owned() } else { format!("; the end of what it wrote to stderr:\n{said}") }
}

impl StageError {
    /// A setting whose value cannot work.
    pub fn setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { setting: setting.into(), problem: problem.into(), help: None }
    }

    /// The same error with a next step for the reader.
    #[must_use]
    pub fn with_help(mut self, text: impl Into<String>) -> Self {
        if let Self::Setting { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }
}
