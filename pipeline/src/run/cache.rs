//! Checkpoints kept in memory beside the disk, where there is memory that no task needs: what is read several times is read from there.
//! Where a run is not to be gone on with, they are in memory instead of on disk, until the memory is needed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use super::RunError;
use crate::ipc::{IpcPart, decode_checkpoint};
use crate::marks::{Form, StoredFile};
use crate::store::{Store, hash_pieces};

/// Shards in memory. What is in it changes how fast a run is, never what it gives.
#[derive(Debug, Default)]
pub(super) struct ShardCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Most bytes it may hold.
    limit: u64,
    /// What it holds, and what was reserved.
    bytes: u64,
    /// By path.
    shards: BTreeMap<String, Shard>,
}

#[derive(Debug)]
struct Shard {
    bytes: u64,
    rows: Option<Vec<RecordBatch>>,
    home: Home,
}

/// Where the rows of a shard are besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// On disk.
    Disk,
    /// On disk since they had to leave the memory; the hash of their file.
    Moved(u64),
    /// In the source.
    Source,
    /// Nowhere.
    Nowhere,
}

/// Room that was set aside for a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room(u64);

impl ShardCache {
    /// Holds no more than `limit` bytes from now on. What is nowhere else goes to the disk.
    ///
    /// # Errors
    /// What the storage says.
    pub(super) fn limit(&self, store: &Store, limit: u64) -> Result<(), RunError> {
        let mut state = self.lock();
        state.limit = limit;
        let paths: Vec<String> = state.shards.iter().filter(|(_, shard)| shard.rows.is_some()).map(|(path, _)| path.clone()).collect();
        for path in paths.into_iter().rev() {
            if state.bytes <= limit {
                break;
            }
            let Some(shard) = state.shards.remove(&path) else { continue };
            state.bytes -= shard.bytes;
            if let (Home::Nowhere, Some(rows)) = (shard.home, shard.rows) {
                let hash = write(store, &path, &rows)?;
                state.shards.insert(path, Shard { bytes: 0, rows: None, home: Home::Moved(hash) });
            }
        }
        Ok(())
    }

    /// Sets aside room for a shard of at most so many bytes; `None` if there is none. Shards are read from first to last again and again, so
    /// what is there stays.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Room> {
        let mut state = self.lock();
        let fits = state.bytes + bytes <= state.limit;
        fits.then(|| {
            state.bytes += bytes;
            Room(bytes)
        })
    }

    /// Keeps a shard of `bytes` bytes in the room that was set aside for it.
    pub(super) fn keep(&self, room: Room, path: &str, rows: Vec<RecordBatch>, bytes: u64, home: Home) {
        let mut state = self.lock();
        state.bytes -= room.0;
        // One row may be larger than a shard is to be.
        if bytes > room.0 && state.bytes + bytes > state.limit && home != Home::Nowhere {
            return;
        }
        state.bytes += bytes;
        if let Some(before) = state.shards.insert(path.to_owned(), Shard { bytes, rows: Some(rows), home }) {
            state.bytes -= before.bytes;
        }
    }

    /// Whether a checkpoint is gone with this process.
    pub(super) fn alone_has(&self, path: &str) -> bool {
        self.lock().shards.get(path).is_some_and(|shard| matches!(shard.home, Home::Nowhere | Home::Moved(_)))
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

    /// The rows of a shard: from memory, from the disk, or by `read_again` from the source.
    ///
    /// # Errors
    /// What the storage or the source says, or a file that is not what was written.
    pub(super) fn read(
        &self,
        store: &Store,
        file: &StoredFile,
        read_again: impl FnOnce(usize) -> Result<Vec<RecordBatch>, RunError>,
    ) -> Result<Vec<RecordBatch>, RunError> {
        let hash = match self.lock().shards.get(&file.path) {
            Some(Shard { rows: Some(rows), .. }) => return Ok(rows.clone()),
            Some(Shard { home: Home::Moved(hash), .. }) => *hash,
            _ => file.hash,
        };
        let rows = match file.form {
            Form::Source { shard } => read_again(shard)?,
            _ => decode_checkpoint(&file.path, vec![store.get_checked(&file.path, hash)?])?,
        };
        let home = if matches!(file.form, Form::Source { .. }) { Home::Source } else { Home::Disk };
        let is_known = self.lock().shards.contains_key(&file.path);
        if !is_known && let Some(room) = self.reserve(file.data_bytes) {
            self.keep(room, &file.path, rows.clone(), file.data_bytes, home);
        }
        Ok(rows)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a shard to the disk; the hash of its file.
fn write(store: &Store, path: &str, rows: &[RecordBatch]) -> Result<u64, RunError> {
    let Some(first) = rows.first() else { return Err(RunError::Internal(format!("`{path}` is a shard without rows"))) };
    let mut part = IpcPart::try_new(&first.schema())?;
    for batch in rows {
        part.write(batch)?;
    }
    let pieces = part.finish()?;
    let hash = hash_pieces(&pieces);
    store.put_pieces(path, pieces)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, UInt64Array};

    use super::*;
    use crate::store::tests::store;

    fn rows(number: u64) -> Vec<RecordBatch> {
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![number; 100]));
        vec![RecordBatch::try_from_iter([("n", values)]).unwrap()]
    }

    /// A shard that was written to the disk, in a file of its own name.
    fn written(store: &Store, number: u64) -> StoredFile {
        let path = format!("{number}.arrow");
        let hash = write(store, &path, &rows(number)).unwrap();
        let bytes = store.size(&path).unwrap().unwrap();
        StoredFile { stage: String::new(), port: String::new(), form: Form::Checkpoint, path, rows: 100, bytes, data_bytes: 800, hash }
    }

    fn kept(cache: &ShardCache) -> Vec<String> {
        cache.lock().shards.iter().filter(|(_, shard)| shard.rows.is_some()).map(|(path, _)| path.clone()).collect()
    }

    #[test]
    fn it_holds_no_more_than_it_may_and_gives_what_was_stored() {
        let (_folder, _runtime, store) = store();
        let cache = ShardCache::default();
        let files: Vec<StoredFile> = (0..4).map(|number| written(&store, number)).collect();
        let read = |number: usize| cache.read(&store, &files[number], |_| unreachable!("none of them comes from a source"));
        cache.limit(&store, 1700).unwrap();
        for _ in 0..2 {
            for number in 0..4 {
                assert_eq!(read(number).unwrap(), rows(number as u64));
            }
        }
        assert_eq!(kept(&cache), ["0.arrow", "1.arrow"]);
        // What is kept is not read from the disk any more.
        store.delete("0.arrow").unwrap();
        read(0).unwrap();
        cache.forget(files[..1].iter());
        assert!(read(0).is_err());
        read(3).unwrap();
        assert_eq!(kept(&cache), ["1.arrow", "3.arrow"]);
        cache.limit(&store, 800).unwrap();
        assert_eq!((kept(&cache).len(), cache.lock().bytes), (1, 800));
        cache.limit(&store, 0).unwrap();
        assert_eq!((kept(&cache).len(), cache.lock().bytes), (0, 0));
    }

    #[test]
    fn room_is_set_aside_and_what_is_nowhere_else_moves_to_the_disk() {
        let (_folder, _runtime, store) = store();
        let cache = ShardCache::default();
        assert!(cache.reserve(1).is_none());
        cache.limit(&store, 2000).unwrap();
        let room = cache.reserve(1500).unwrap();
        assert!(cache.reserve(501).is_none());
        cache.keep(room, "7.arrow", rows(7), 800, Home::Nowhere);
        assert_eq!(cache.lock().bytes, 800);
        // A row may be larger than the room for its shard: it is kept only if there is no other way to have it.
        for (home, bytes) in [(Home::Source, 0), (Home::Nowhere, 1300)] {
            let room = cache.reserve(100).unwrap();
            cache.keep(room, "8.arrow", rows(8), 1300, home);
            assert_eq!(cache.lock().bytes, 800 + bytes);
        }
        assert!(cache.alone_has("7.arrow") && store.size("7.arrow").unwrap().is_none());
        cache.limit(&store, 0).unwrap();
        assert!(kept(&cache).is_empty() && cache.alone_has("7.arrow"));
        let file = StoredFile { hash: 0, ..written(&store, 7) };
        assert_eq!(cache.read(&store, &file, |_| unreachable!()).unwrap(), rows(7));
        let other = StoredFile { hash: 0, ..written(&store, 9) };
        assert!(cache.read(&store, &other, |_| unreachable!()).is_err());
    }

    #[test]
    fn what_comes_from_a_source_is_read_again_when_it_is_not_there() {
        let (_folder, _runtime, store) = store();
        let cache = ShardCache::default();
        let file = StoredFile { form: Form::Source { shard: 3 }, ..written(&store, 1) };
        let times = std::cell::Cell::new(0);
        let read = || {
            cache.read(&store, &file, |shard| {
                times.set(times.get() + 1);
                Ok(rows(shard as u64))
            })
        };
        assert_eq!(read().unwrap(), rows(3));
        cache.limit(&store, 1000).unwrap();
        assert_eq!((read().unwrap(), read().unwrap()), (rows(3), rows(3)));
        assert_eq!((times.get(), cache.alone_has("1.arrow")), (2, false));
        cache.limit(&store, 0).unwrap();
        read().unwrap();
        assert_eq!(times.get(), 3);
    }
}
