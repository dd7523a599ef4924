//! What a stage is: its config, its columns, and the traits that the engine runs.

mod config;
mod emit;
mod global;
mod measure;
mod source;

pub(crate) use config::add_columns;
pub use config::{BuildContext, Inputs, Kind, Makes, Outputs, Port, StageConfig};
pub use emit::{Dropped, Emit, Figures, Rejection, Verdict};
pub use global::{
    Begin, Begun, Done, Global, Ids, Keyed, MailIn, PartIn, RangeIn, Route, RowRef, ShardIn, ShardRows, Step, StepKind, TablePart,
    TableSpec, Tables, TablesIn, WholeIn,
};
pub use measure::{Beside, Bin, Keeps, Measure, Measured, Subject};
pub use source::{RowSink, Source, Split, SplitFile};

use arrow::array::RecordBatch;
use futures::future::BoxFuture;

use crate::StageError;

/// A stage ready to run.
pub enum Stage {
    /// Makes rows from files or from nothing.
    Source(Box<dyn Source>),
    /// Each row's result depends on that row alone.
    RowLocal(Box<dyn RowLocal>),
    /// The same, where the work on a row is waiting for others.
    RowAsync(Box<dyn RowAsync>),
    /// Needs to have seen every row.
    Global(Box<dyn Global>),
}

/// A stage whose result for a row depends on that row alone: batch in, batches out.
///
/// `&self`, so the engine runs copies on any thread; batches may come in any size. No state between batches.
pub trait RowLocal: Send + Sync {
    /// Processes one batch; its rows leave through `out`.
    ///
    /// # Errors
    /// Only what makes the whole run wrong. A row that cannot be processed is rejected through `out`.
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError>;

    /// Told once when all rows of a run are processed, before any of them is published: what runs beside the stage ends, and how it does is
    /// looked at. An error takes back what the stage made in this run.
    ///
    /// # Errors
    /// What makes the rows wrong that it gave.
    fn finish(&self) -> Result<(), StageError> {
        Ok(())
    }
}

/// A stage whose result for a row depends on that row alone, and whose work is waiting for others over the network: one row, one future. The
/// engine has many of them under way, and gives their rows on in the order of the input.
///
/// A future may ask many times. What it was answered is stored, so that a row which is begun again after a kill asks nobody twice.
pub trait RowAsync: Send + Sync {
    /// Rows that may be under way at once.
    fn window(&self) -> usize;

    /// Works on the one row of `row`; what becomes of it leaves through `out`.
    ///
    /// # Errors
    /// Only what ends the run: [`StageError::Stopped`] where a rerun goes on, another where the whole run is wrong. A row that cannot be
    /// processed is rejected through `out`.
    fn process<'a>(&'a self, row: RecordBatch, out: &'a mut Emit) -> BoxFuture<'a, Result<(), StageError>>;
}
