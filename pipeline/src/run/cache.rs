//! Checkpoints kept in memory beside the disk, where there is memory that no task needs: what is read several times is read from there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::RunError;
use crate::ipc::decode_checkpoint;
use crate::marks::StoredFile;
use crate::store::Store;

/// Shards in memory. What is in it changes how fast a run is, never what it gives.
#[derive(Debug, Default)]
pub(super) struct ShardCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Most bytes it may hold.
    limit: u64,
    bytes: u64,
    /// By path.
    shards: BTreeMap<String, (u64, Shard)>,
}

#[derive(Debug, Clone)]
enum Shard {
    /// As it was stored; nobody has read it yet.
    Stored(Bytes),
    Rows(Vec<RecordBatch>),
}

impl ShardCache {
    /// Holds no more than `limit` bytes from now on.
    pub(super) fn limit(&self, limit: u64) {
        let mut state = self.lock();
        state.limit = limit;
        while state.bytes > limit
            && let Some((_, (bytes, _))) = state.shards.pop_last()
        {
            state.bytes -= bytes;
        }
    }

    /// Keeps a checkpoint that was just stored, if there is room. Shards are read from first to last again and again, so what is there stays.
    pub(super) fn keep(&self, path: &str, bytes: &Bytes) {
        if path.ends_with(".arrow") {
            self.insert(path, bytes.len() as u64, Shard::Stored(bytes.clone()));
        }
    }

    /// Forgets checkpoints that nobody reads any more.
    pub(super) fn forget<'f>(&self, files: impl Iterator<Item = &'f StoredFile>) {
        let mut state = self.lock();
        for file in files {
            if let Some((bytes, _)) = state.shards.remove(&file.path) {
                state.bytes -= bytes;
            }
        }
    }

    /// The rows of a checkpoint, from memory or from the disk.
    ///
    /// # Errors
    /// What the storage says, or a file that is not what was written.
    pub(super) fn read(&self, store: &Store, file: &StoredFile) -> Result<Vec<RecordBatch>, RunError> {
        let found = self.lock().shards.get(&file.path).map(|(_, shard)| shard.clone());
        let (bytes, was_kept) = match found {
            Some(Shard::Rows(rows)) => return Ok(rows),
            Some(Shard::Stored(bytes)) => (bytes, true),
            None => (store.get_checked(&file.path, file.hash)?, false),
        };
        let rows = decode_checkpoint(&file.path, bytes)?;
        if was_kept {
            if let Some((_, shard)) = self.lock().shards.get_mut(&file.path) {
                *shard = Shard::Rows(rows.clone());
            }
        } else if file.path.ends_with(".arrow") {
            self.insert(&file.path, file.bytes, Shard::Rows(rows.clone()));
        }
        Ok(rows)
    }

    fn insert(&self, path: &str, bytes: u64, shard: Shard) {
        let mut state = self.lock();
        if state.bytes + bytes <= state.limit && !state.shards.contains_key(path) {
            state.bytes += bytes;
            state.shards.insert(path.to_owned(), (bytes, shard));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, UInt64Array};

    use super::*;
    use crate::ipc::IpcPart;
    use crate::marks::Form;
    use crate::store::hash_bytes;
    use crate::store::tests::store;

    #[test]
    fn it_holds_no_more_than_it_may_and_gives_what_was_stored() {
        let (_folder, _runtime, store) = store();
        let cache = ShardCache::default();
        let files: Vec<StoredFile> = (0..4_u64)
            .map(|number| {
                let values: ArrayRef = Arc::new(UInt64Array::from(vec![number; 100]));
                let batch = RecordBatch::try_from_iter([("n", values)]).unwrap();
                let mut part = IpcPart::try_new(&batch.schema()).unwrap();
                part.write(&batch).unwrap();
                let bytes = Bytes::from(part.finish().unwrap());
                if number == 0 {
                    cache.limit(bytes.len() as u64 * 2);
                }
                let path = format!("{number}.arrow");
                let file = StoredFile {
                    stage: String::new(),
                    port: String::new(),
                    form: Form::Checkpoint,
                    path: path.clone(),
                    rows: 100,
                    bytes: bytes.len() as u64,
                    data_bytes: 800,
                    hash: hash_bytes(&bytes),
                };
                cache.keep(&path, &bytes);
                store.put(&path, bytes).unwrap();
                file
            })
            .collect();
        let kept = || cache.lock().shards.keys().cloned().collect::<Vec<_>>();
        assert_eq!(kept(), ["0.arrow", "1.arrow"]);
        let read = |file: &StoredFile| cache.read(&store, file).unwrap();
        for _ in 0..2 {
            for (file, number) in files.iter().zip(0_u64..) {
                let values: ArrayRef = Arc::new(UInt64Array::from(vec![number; 100]));
                assert_eq!(read(file), [RecordBatch::try_from_iter([("n", values)]).unwrap()]);
            }
        }
        // What is kept is not read from the disk any more.
        store.delete("0.arrow").unwrap();
        read(&files[0]);
        cache.forget(files[..1].iter());
        assert!(cache.read(&store, &files[0]).is_err());
        read(&files[3]);
        assert_eq!(kept(), ["1.arrow", "3.arrow"]);
        cache.limit(files[0].bytes);
        assert_eq!((kept().len(), cache.lock().bytes), (1, files[0].bytes));
        cache.limit(0);
        assert_eq!((kept().len(), cache.lock().bytes), (0, 0));
    }
}
