//! Done marks: one small object for each finished task, saying what it stored and what it counted.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::record::StageTotals;
use crate::run::progress::grouped;
use crate::store::{Store, StoreError};

/// Where done marks lie.
pub const FOLDER: &str = ".pipeline/done";

/// Where tasks store what they make, a folder each.
pub const DATA: &str = ".pipeline/data";

/// What a finished task left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoneMark {
    /// What the task was, for people.
    pub task: String,
    /// Rows it stored, in order: first by stage and port, then as they came.
    pub files: Vec<StoredFile>,
    /// Rows it wrote to the tables of a global stage's program.
    pub tables: Vec<TableFile>,
    /// What it counted, by stage id.
    pub totals: BTreeMap<String, StageTotals>,
}

/// Rows of one output of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The stage's id.
    pub stage: String,
    /// Its port.
    pub port: String,
    /// What the file is for.
    pub form: Form,
    /// The object.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// Bytes of its rows in memory.
    pub data_bytes: u64,
    /// Hash of its contents.
    pub hash: u64,
}

/// What a stored file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// For the stages that read it.
    Checkpoint,
    /// For the stages that read it, and nowhere on disk: they were kept in memory, and where they are not any more, the source is read again.
    Source {
        /// Which of the task's shards it is.
        shard: usize,
    },
    /// A piece of a published part.
    Part,
}

/// Rows of one table of a program, sorted by (key, order of writing), in blocks that can be read alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// The table.
    pub table: String,
    /// The object.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
}

/// A part of a table file: an Arrow IPC stream of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Bytes of its rows in memory.
    pub data_bytes: u64,
    /// Hash of its contents.
    pub hash: u64,
    /// Its first key, in hexadecimal.
    pub first: String,
}

impl TableFile {
    /// Whether its blocks lie one behind the other, as they were written: they are read by what stands here.
    fn is_sound(&self) -> bool {
        let mut end = 0;
        self.blocks.iter().all(|block| block.start == std::mem::replace(&mut end, block.end) && block.start <= block.end)
            && end == self.bytes
    }
}

impl DoneMark {
    /// The mark of a finished task; `None` if it is not finished, or if what it stored is not there any more.
    ///
    /// # Errors
    /// What the storage says.
    pub fn find(store: &Store, task: &Fingerprint) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = store.get(&path_of(task))? else { return Ok(None) };
        Self::of(&bytes, |path| store.size(path))
    }

    /// The mark with this text, if all that it says is stored is so, as `size` has it.
    fn of(bytes: &[u8], mut size: impl FnMut(&str) -> Result<Option<u64>, StoreError>) -> Result<Option<Self>, StoreError> {
        let Ok(mark) = serde_json::from_slice::<Self>(bytes) else { return Ok(None) }; // cut off by a power loss
        if !mark.tables.iter().all(TableFile::is_sound) {
            return Ok(None);
        }
        let on_disk = mark.files.iter().filter(|file| !matches!(file.form, Form::Source { .. }));
        let stored = on_disk.map(|file| (&file.path, file.bytes)).chain(mark.tables.iter().map(|file| (&file.path, file.bytes)));
        for (path, bytes) in stored {
            if size(path)? != Some(bytes) {
                return Ok(None);
            }
        }
        Ok(Some(mark))
    }

    /// How much it was, for people.
    pub fn summary(&self) -> String {
        let rows = self.totals.values().map(|totals| totals.rows_in).max().unwrap_or(0);
        let bytes: u64 = self.files.iter().map(|file| file.bytes).chain(self.tables.iter().map(|file| file.bytes)).sum();
        let rejected: u64 = self.totals.values().flat_map(|totals| totals.rejected.values()).sum();
        let rejected = if rejected > 0 { format!(", {} rejected", grouped(rejected)) } else { String::new() };
        format!("{} rows in{rejected}, {} bytes stored", grouped(rows), grouped(bytes))
    }

    /// Leaves the mark. Another process that did the same task may have been first; its mark says the same.
    ///
    /// # Errors
    /// What the storage says.
    pub fn leave(&self, store: &Store, task: &Fingerprint) -> Result<(), StoreError> {
        let bytes = Bytes::from(serde_json::to_vec(self).expect("a struct of plain values serializes"));
        let path = path_of(task);
        if !store.create(&path, bytes.clone())? && Self::find(store, task)?.is_none() {
            // What stands there was cut off, or speaks of files that are gone.
            store.put(&path, bytes)?;
        }
        Ok(())
    }
}

/// The marks that were there when a run began, where asking for one after the other would take a while: on object storage.
#[derive(Debug, Default)]
pub struct FoundMarks {
    marks: BTreeMap<String, Bytes>,
    sizes: BTreeMap<String, u64>,
}

impl FoundMarks {
    /// Reads them all; `None` on a disk, which is asked when one is wanted.
    ///
    /// # Errors
    /// What the storage says.
    pub fn look(store: &Store) -> Result<Option<Self>, StoreError> {
        if !store.is_remote() {
            return Ok(None);
        }
        let names = store.list(FOLDER)?;
        let texts = store.get_all(&names)?;
        let marks: BTreeMap<String, Bytes> = names.into_iter().zip(texts).filter_map(|(name, text)| Some((name, text?))).collect();
        let sizes = if marks.is_empty() { BTreeMap::new() } else { store.list_sizes(DATA)?.into_iter().collect() };
        Ok(Some(Self { marks, sizes }))
    }

    /// The mark of a task, as [`DoneMark::find`] has it.
    ///
    /// # Errors
    /// None; what is not there, or not as the mark says, is no mark.
    pub fn take(&mut self, task: &Fingerprint) -> Result<Option<DoneMark>, StoreError> {
        let Some(bytes) = self.marks.remove(&path_of(task)) else { return Ok(None) };
        DoneMark::of(&bytes, |path| Ok(self.sizes.get(path).copied()))
    }
}

/// Forgets the task that made an object, so that the next run does it again; nothing if no task made it.
///
/// # Errors
/// What the storage says.
pub fn forget_maker(store: &Store, object: &str) -> Result<(), StoreError> {
    let maker = object.strip_prefix(DATA).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('/'));
    maker.map_or(Ok(()), |(task, _)| store.delete(&format!("{FOLDER}/{task}.json")))
}

/// Where the mark of a task lies.
pub fn path_of(task: &Fingerprint) -> String {
    format!("{FOLDER}/{task}.json")
}

/// The folder in which a task stores what it makes.
pub fn data_of(task: &Fingerprint) -> String {
    format!("{DATA}/{task}")
}
