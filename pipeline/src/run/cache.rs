//! Checkpoints kept in memory beside the disk, where there is memory that no task needs: what is read several times is read from there.
//! Where a run is not to be gone on with, they are in memory instead of on disk, until the memory is needed.

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
    shards: BTreeMap<String, Shard>,
}

#[derive(Debug)]
struct Shard {
    bytes: u64,
    /// As it was stored, as long as nobody has read it, or where it is not on disk.
    stored: Option<Vec<Bytes>>,
    /// The rows, once somebody has read it.
    rows: Option<Vec<RecordBatch>>,
    on_disk: bool,
}

impl ShardCache {
    /// Holds no more than `limit` bytes from now on. What is nowhere else goes to the disk.
    ///
    /// # Errors
    /// What the storage says.
    pub(super) fn limit(&self, store: &Store, limit: u64) -> Result<(), RunError> {
        let mut state = self.lock();
        state.limit = limit;
        while state.bytes > limit
            && let Some((path, shard)) = state.shards.pop_last()
        {
            state.bytes -= shard.bytes;
            if let Some(pieces) = shard.stored.filter(|_| !shard.on_disk) {
                store.put_pieces(&path, pieces)?;
            }
        }
        Ok(())
    }

    /// Stores a checkpoint, and keeps it in memory if there is room; with `instead`, then in memory alone. Shards are read from first to last
    /// again and again, so what is there stays.
    ///
    /// # Errors
    /// What the storage says.
    pub(super) fn store(&self, store: &Store, path: &str, pieces: Vec<Bytes>, instead: bool) -> Result<(), RunError> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let has_room = {
            let mut state = self.lock();
            let has_room = path.ends_with(".arrow") && state.bytes + bytes <= state.limit;
            if has_room {
                let shard = Shard { bytes, stored: Some(pieces.clone()), rows: None, on_disk: !instead };
                state.bytes += shard.bytes;
                if let Some(before) = state.shards.insert(path.to_owned(), shard) {
                    state.bytes -= before.bytes;
                }
            }
            has_room
        };
        if has_room && instead { Ok(()) } else { Ok(store.put_pieces(path, pieces)?) }
    }

    /// Whether a checkpoint is nowhere but here.
    pub(super) fn alone_has(&self, path: &str) -> bool {
        self.lock().shards.get(path).is_some_and(|shard| !shard.on_disk)
    }

    /// Forgets checkpoints that nobody reads any more.
    pub(super) fn forget<'f>(&self, files: impl Iterator<Item = &'f StoredFile>) {
        let mut state = self.lock();
        for file in files {
            if let Some(shard) = state.shards.remove(&file.path) {
                state.bytes -= shard.bytes;
            }
        }
    }

    /// The rows of a checkpoint, from memory or from the disk.
    ///
    /// # Errors
    /// What the storage says, or a file that is not what was written.
    pub(super) fn read(&self, store: &Store, file: &StoredFile) -> Result<Vec<RecordBatch>, RunError> {
        let kept = match self.lock().shards.get(&file.path) {
            Some(Shard { rows: Some(rows), .. }) => return Ok(rows.clone()),
            Some(shard) => shard.stored.clone(),
            None => None,
        };
        let pieces = match kept {
            Some(pieces) => pieces,
            None => vec![store.get_checked(&file.path, file.hash)?],
        };
        let rows = decode_checkpoint(&file.path, pieces)?;
        let mut state = self.lock();
        if let Some(shard) = state.shards.get_mut(&file.path) {
            // The rows point into the bytes.
            shard.stored = shard.stored.take().filter(|_| !shard.on_disk);
            shard.rows = Some(rows.clone());
        } else if file.path.ends_with(".arrow") && state.bytes + file.bytes <= state.limit {
            state.bytes += file.bytes;
            state.shards.insert(file.path.clone(), Shard { bytes: file.bytes, stored: None, rows: Some(rows.clone()), on_disk: true });
        }
        Ok(rows)
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
                let bytes = Bytes::from(part.finish().unwrap().concat());
                if number == 0 {
                    cache.limit(&store, bytes.len() as u64 * 2).unwrap();
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
                cache.store(&store, &path, vec![bytes], false).unwrap();
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
        cache.limit(&store, files[0].bytes).unwrap();
        assert_eq!((kept().len(), cache.lock().bytes), (1, files[0].bytes));
        cache.limit(&store, 0).unwrap();
        assert_eq!((kept().len(), cache.lock().bytes), (0, 0));

        // In memory alone, until there is no room.
        let bytes = store.get_checked("1.arrow", files[1].hash).unwrap();
        store.delete("1.arrow").unwrap();
        cache.limit(&store, bytes.len() as u64).unwrap();
        cache.store(&store, "1.arrow", vec![bytes.clone()], true).unwrap();
        assert!(cache.alone_has("1.arrow") && store.size("1.arrow").unwrap().is_none());
        let rows = read(&files[1]);
        cache.store(&store, "4.arrow", vec![bytes], true).unwrap();
        assert!(!cache.alone_has("4.arrow") && store.size("4.arrow").unwrap().is_some());
        cache.limit(&store, 0).unwrap();
        assert!(!cache.alone_has("1.arrow"));
        assert_eq!(read(&files[1]), rows);
    }
}
