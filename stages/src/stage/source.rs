//! Where rows come from.

use std::ops::ControlFlow;
use std::path::PathBuf;

use arrow::array::RecordBatch;

use crate::{Rejection, StageError};

/// A stage with no input: it lists splits and reads one at a time.
pub trait Source: Send + Sync {
    /// What there is to read, in a fixed order; cheap. Many small files share a split; a large plain file is several.
    ///
    /// # Errors
    /// An input that does not exist or cannot be listed.
    fn splits(&self) -> Result<Vec<Split>, StageError>;

    /// Reads one split, its rows in a fixed order, into `out`; stops when `out` says so.
    ///
    /// # Errors
    /// Only what makes the whole run wrong. What can't be read of a file is rejected through `out` with its offset.
    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError>;

    /// Whether reading the split again takes about as long as reading a copy of its rows would: then the engine makes no copy on disk, and
    /// reads again what it can't keep in memory. Plain text files are such; what has to be decompressed is not.
    fn reads_again(&self, split: &Split) -> bool {
        let _ = split;
        false
    }
}

/// Where a source puts its rows.
pub trait RowSink {
    /// Rows a batch should have; the engine re-cuts what leaves, so this changes speed, never results.
    fn batch_rows(&self) -> usize;

    /// Takes rows of the source's output schema. `Break` means that no more are wanted.
    ///
    /// # Errors
    /// What happened to the rows further on.
    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError>;

    /// Takes what could not be read.
    fn reject(&mut self, rejection: Rejection);

    /// Takes a count of something that was met and is no rejection: `what` in `snake_case`, the `name` it is about, and how often. A field
    /// that records have and the columns have not is `field_not_in_schema`; the place from which on nothing of a file could be read, however
    /// many rows that is, is `rest_of_file_lost`. Counts of splits add up.
    fn count(&mut self, what: &'static str, name: &str, times: u64) {
        let _ = (what, name, times);
    }
}

/// A part of a source that one task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The files or parts of files it reads; the engine adds their contents' hashes to the split's identity. Empty for a generator.
    pub files: Vec<SplitFile>,
    /// What else tells this split from the others: a range of seeds, of row groups; empty where the files say it all.
    pub identity: String,
    /// Bytes it is expected to read, for estimates and for the order of work.
    pub bytes: u64,
}

/// A file, or a part of one, that a split reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFile {
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Its name relative to what the user wrote, with `/`: what ids are made of.
    pub name: String,
    /// First byte that belongs to the split.
    pub start: u64,
    /// One past the last byte that belongs to it; the file's length for a whole file. A record belongs to where it begins.
    pub end: u64,
}
