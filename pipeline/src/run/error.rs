//! What stops a run.

use std::path::PathBuf;

use arrow::error::ArrowError;
use stages::{StageError, Step};

use super::progress::grouped;
use super::survey::NamedTask;
use crate::store::StoreError;

/// What stops a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A stage cannot go on.
    #[error("stage `{stage}`: {source}")]
    Stage {
        /// The stage's id.
        stage: String,
        /// Why.
        source: StageError,
    },
    /// A stage ended the run tidily before it was done: a budget is used up, an endpoint is dead. It goes on when run again.
    #[error("stage `{stage}`: {problem}")]
    Stopped {
        /// The stage's id.
        stage: String,
        /// Why.
        problem: String,
        /// What to do before it is run again.
        help: String,
    },
    /// The models of the run cannot be asked.
    #[error("models can't be asked: {0}")]
    Models(#[source] StageError),
    /// A stage's code outside a stage; a bug of ours.
    #[error(transparent)]
    Contract(#[from] StageError),
    /// The output cannot be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A format refused rows.
    #[error(transparent)]
    Data(#[from] datasets::DataError),
    /// An input is not what it was when the run began.
    #[error("{} was changed while it was read; run again, and what was read of it before is not used", .0.display())]
    InputChanged(PathBuf),
    /// Arrow refused rows.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// Another run works on the output.
    #[error("another run (process {process}) is working on {output}")]
    Locked {
        /// The output folder.
        output: PathBuf,
        /// The other process.
        process: String,
    },
    /// Workers do tasks of the output.
    #[error("workers are doing tasks of {output}")]
    WorkersAtWork {
        /// The output folder.
        output: PathBuf,
    },
    /// An output without the plan that workers go by.
    #[error("{output} has no plan that a worker could go by")]
    NoPlan {
        /// The output folder.
        output: PathBuf,
    },
    /// An output of another pipeline.
    #[error("{output} holds the output of another pipeline, `{name}` of {file}, which this run would replace")]
    OtherPipeline {
        /// The output folder.
        output: PathBuf,
        /// The pipeline's name.
        name: String,
        /// Its file.
        file: PathBuf,
    },
    /// A plan of another program.
    #[error("the plan was made by version {planned} of the program, and this is version {own}")]
    OtherVersion {
        /// Who made the plan.
        planned: String,
        /// Who reads it.
        own: &'static str,
    },
    /// A task that nobody can do now.
    #[error("`{task}` is no task that can be done now: {}", what_comes_first(.ready))]
    NotReady {
        /// What it was called.
        task: String,
        /// The tasks that can be done now.
        ready: Vec<NamedTask>,
    },
    /// A folder to publish in holds files of somebody else.
    #[error("{folder} holds {file}, which no run wrote, and readers of the folder would take it for data")]
    ForeignFiles {
        /// The folder.
        folder: PathBuf,
        /// One of the files.
        file: String,
    },
    /// More was rejected than allowed.
    #[error("stage `{stage}` rejected {rejected} of {rows} rows, more than `max_rejected` allows; the commonest reason is `{reason}`")]
    TooManyRejected {
        /// The stage's id.
        stage: String,
        /// Rows it rejected.
        rejected: u64,
        /// Rows it saw.
        rows: u64,
        /// The commonest reason.
        reason: String,
    },
    /// A stage's rows are not what `expect` says.
    #[error("stage `{stage}` is not as expected: {}", .unmet.join("; "))]
    Unexpected {
        /// The stage's id.
        stage: String,
        /// What does not hold.
        unmet: Vec<String>,
    },
    /// The memory does not hold one task.
    #[error("{} MB of memory do not hold one task, {} MB do", .given / 1_000_000, .needed.div_ceil(1_000_000))]
    TooLittleMemory {
        /// Bytes there may be.
        given: u64,
        /// Bytes there must be.
        needed: u64,
    },
    /// A step of a stage does not fit in the memory.
    #[error("stage `{stage}`, step `{step}`: it needs about {} MB of memory at once, the run may use {}", .needs.div_ceil(1_000_000), .has / 1_000_000)]
    OverBudget {
        /// The stage's id.
        stage: String,
        /// The step.
        step: String,
        /// Bytes it takes.
        needs: u64,
        /// Bytes there are.
        has: u64,
    },
    /// A step has more parts than are kept in memory.
    #[error("stage `{stage}`, step `{step}`: {} parts, and a run has at most {}; make fewer rows, or make them in several runs", grouped(u64::from(*.parts)), grouped(u64::from(Step::MOST_PARTS)))]
    TooManyParts {
        /// The stage's id.
        stage: String,
        /// The step.
        step: String,
        /// Its parts.
        parts: u32,
    },
    /// There is no such stage.
    #[error("there is no stage `{0}` in this pipeline")]
    NoStage(String),
    /// The person ended the run.
    #[error("interrupted")]
    Interrupted,
    /// A bug of ours.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

fn what_comes_first(ready: &[NamedTask]) -> String {
    let named = |task: &NamedTask| format!("`{}` ({})", task.name, task.label);
    match ready {
        [] => "all tasks of the plan are done, and it is none of them".to_owned(),
        [one] => format!("it is none of the plan, or {} comes first", named(one)),
        [one, rest @ ..] => format!("it is none of the plan, or others come first: {} and {} more", named(one), rest.len()),
    }
}
