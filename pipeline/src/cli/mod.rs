//! The command line: arguments in, exit code out.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Done,
    /// It failed.
    Failed,
    /// The command line or the file is wrong.
    Usage,
    /// More rows were rejected than allowed.
    TooManyRejected,
    /// Stopped tidily; a rerun goes on.
    Stopped,
    /// Interrupted; a rerun goes on.
    Interrupted,
}

pub mod inspect;
pub mod report;
pub mod trace;
