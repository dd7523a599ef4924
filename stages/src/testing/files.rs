//! Rows of real files, for tests that take real texts through a stage.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use serde_json::json;

use super::build;
use crate::{Rejection, RowSink, Stage, StageConfig, StageError};

struct Taken(Vec<RecordBatch>);

impl RowSink for Taken {
    fn batch_rows(&self) -> usize {
        1000
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError> {
        self.0.push(batch);
        Ok(ControlFlow::Continue(()))
    }

    fn reject(&mut self, rejection: Rejection) {
        panic!("{rejection:?}");
    }
}

/// Where the bundled samples called `files` lie.
pub fn samples(files: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/samples").join(files)
}

/// All rows that a source gives of the files at `path`.
///
/// # Panics
/// If it is no source, or can't read them all.
pub fn read_all<C: StageConfig>(path: &Path) -> Vec<RecordBatch> {
    let built = build::<C>(json!({"path": path}), Vec::new()).expect("files");
    let Stage::Source(source) = built.stage else { panic!("{} is a source", C::NAME) };
    let mut taken = Taken(Vec::new());
    for split in source.splits().expect("files") {
        source.read(&split, &mut taken).expect("files");
    }
    taken.0
}
