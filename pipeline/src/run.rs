//! Runs a plan: cuts it into tasks, finds those that are done, does the others, publishes, and says what happened.

mod added;
mod again;
mod amount;
pub(crate) mod asked;
mod asking;
mod cache;
mod context;
mod engine;
mod error;
mod estimate;
mod exchange;
#[cfg(test)]
mod faults;
mod finish;
mod flight;
mod legs;
pub mod lock;
pub mod log;
mod outputs;
#[cfg(test)]
mod parts;
mod pool;
mod program;
pub mod progress;
mod publish;
mod survey;
mod tasks;
pub mod usage;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use amount::Amount;
pub use engine::run;
pub use error::RunError;
pub use estimate::{AsksEstimate, Estimate, StageEstimate, estimate};
pub use outputs::rejected_schema;
pub use progress::Show;
pub use survey::{NamedTask, Survey, Todo, survey, survey_for_workers};
pub use worker::{Job, work};

/// Memory that the program holds besides the tasks.
const BASE_BYTES: u64 = 128 << 20;

/// Memory that one task may hold: a shard of rows, what is made of it, and what is being written.
const TASK_BYTES: u64 = 320 << 20;

/// A shard holds at most this many rows.
pub const SHARD_ROWS: u64 = 65_536;

/// The same where each row is asked about over the network: what is lost with a task is then little, and others have something to do.
const ASKED_SHARD_ROWS: u64 = 4096;

/// How a run is done. Nothing here changes a row, except `limit`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most tasks at once.
    pub threads: usize,
    /// Memory to keep to, in bytes.
    pub memory: u64,
    /// Rows a batch has inside a task.
    pub batch_rows: usize,
    /// Rows a shard has at most. Decides where parts are cut, so it is the same for everyone; tests make it small.
    pub shard_rows: u64,
    /// Read only so many rows of each source, and write to `<output>.limit<rows>`.
    pub limit: Option<u64>,
    /// Run only this stage and what it needs.
    pub to: Option<String>,
    /// The device that was asked for; the graph was built with what that came to.
    pub device: gpu::DeviceChoice,
    /// Forget what earlier runs did.
    pub fresh: bool,
    /// Ask no model anything: what was answered before is all there is.
    pub offline_llm: bool,
    /// How progress is shown.
    pub show: Show,
    /// How the run was called, for its log.
    pub command_line: String,
    /// Stop dead after so many side effects; for tests.
    pub crash_at: Option<u64>,
    /// Set from outside to end the run before it is done.
    pub interrupted: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory: (usage::available_memory_bytes() / 4 * 3).max(BASE_BYTES + TASK_BYTES),
            batch_rows: 4096,
            shard_rows: SHARD_ROWS,
            limit: None,
            to: None,
            device: gpu::DeviceChoice::Auto,
            fresh: false,
            offline_llm: false,
            show: Show::Auto,
            command_line: String::new(),
            crash_at: None,
            interrupted: Arc::default(),
        }
    }
}

impl Options {
    /// How many tasks run at once.
    ///
    /// # Errors
    /// [`RunError::TooLittleMemory`] if not even one fits.
    pub fn slots(&self) -> Result<usize, RunError> {
        let fit = self.memory.saturating_sub(BASE_BYTES) / TASK_BYTES;
        if fit == 0 {
            return Err(RunError::TooLittleMemory { given: self.memory, needed: BASE_BYTES + TASK_BYTES });
        }
        Ok(self.threads.max(1).min(usize::try_from(fit).unwrap_or(usize::MAX)))
    }

    /// The folder a run writes to.
    pub fn output_of(&self, output: &std::path::Path) -> PathBuf {
        match self.limit {
            Some(limit) => {
                let mut name = output.file_name().unwrap_or_default().to_owned();
                name.push(format!(".limit{limit}"));
                output.with_file_name(name)
            }
            None => output.to_owned(),
        }
    }
}

/// Removes the checkpoints and done marks of an output that no run works on; how many bytes that freed.
///
/// # Errors
/// An output that is in use or cannot be written.
pub fn clean(output: &std::path::Path, runtime: tokio::runtime::Handle) -> Result<u64, RunError> {
    let store = crate::store::Store::open(output, runtime, None)?;
    let _lock = lock::Lock::take(&store, &AtomicBool::new(false))?;
    let mut bytes = 0;
    for path in store.list(crate::marks::DATA)? {
        bytes += store.size(&path)?.unwrap_or(0);
    }
    finish::forget(&store)?;
    Ok(bytes)
}
