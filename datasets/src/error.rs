//! What can go wrong with files.

use std::path::PathBuf;

/// Why a file, or a set of files, cannot be read or written at all. A bad record is no error: it is rejected with its offset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be opened, read or written.
    #[error("can't {doing} {path}: {source}")]
    Io {
        /// What was being done: `open`, `read`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's contents are not of its format.
    #[error("{path} is no readable {format} file: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
        /// What was found.
        problem: String,
    },
    /// No file matches.
    #[error("no file matches {pattern}{}", .nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    NoMatch {
        /// The pattern, made absolute.
        pattern: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// A setting of a reader or writer cannot work.
    #[error("{problem}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What was wanted and what was found.
        problem: String,
    },
    /// Arrow refused an operation.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// Parquet refused an operation.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
}
