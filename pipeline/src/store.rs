//! Everything the engine leaves on disk goes through here: one place for atomic writes, conditional creates, hashes and crash points.
//!
//! Objects are written whole: an object exists complete or not at all, which holds on a local disk and on object storage alike. Paths are
//! relative to the output and use `/`.

mod bucket;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datasets::ReadAt;
use datasets::remote::Address;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use xxhash_rust::xxh3::Xxh3;

use bucket::{Bucket, BucketWriter};
pub use bucket::{Kind, children, kind, read, write, write_problem};
pub use object_store::UpdateVersion as Version;

/// The output of a run.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    place: Place,
    crash: Arc<CrashPoint>,
    /// What this process wrote that can be made again.
    written: Arc<Mutex<HashSet<String>>>,
    /// Whether the output was taken over by another run.
    lost: Arc<AtomicBool>,
}

/// Where an output lies.
#[derive(Debug, Clone)]
enum Place {
    /// On this machine.
    Folder {
        /// For what can be made again, and is checked by length and hash when it is read.
        scratch: Arc<dyn ObjectStore>,
        /// For what readers of the output see: on disk before it counts as written.
        durable: Arc<dyn ObjectStore>,
        runtime: tokio::runtime::Handle,
    },
    /// On object storage.
    Bucket(Bucket),
}

/// What went wrong with an object of the output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The storage refused an operation.
    #[error("can't {doing} {path}: {source}")]
    Storage {
        /// What was being done.
        doing: &'static str,
        /// The object, relative to the output.
        path: String,
        /// What the storage said.
        source: Box<object_store::Error>,
    },
    /// The file system refused an operation.
    #[error("can't {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder stands where an object belongs.
    #[error("{} is a folder with something in it, where a file of the run belongs; move it away", .path.display())]
    InTheWay {
        /// The folder.
        path: PathBuf,
    },
    /// Another run took the output over.
    #[error("another run works on this output now, and nothing more is written to it: this one did not renew its lease in time")]
    Lost,
    /// An object is not what was written.
    #[error("{path} is damaged: {problem}; run again, and it is made anew")]
    Damaged {
        /// The object, relative to the output.
        path: String,
        /// What was found.
        problem: String,
    },
}

/// Where a test stops the program dead: after the `at`-th side effect.
#[derive(Debug, Default)]
struct CrashPoint {
    at: Option<u64>,
    passed: AtomicU64,
}

impl CrashPoint {
    fn pass(&self) {
        let passed = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == Some(passed) {
            std::process::abort();
        }
    }
}

impl Store {
    /// Opens the output `root`, an address or a folder, which is made. `crash_at` stops the program dead after so many side effects; for
    /// tests.
    ///
    /// # Errors
    /// If the folder cannot be made or is no folder; settings of object storage that cannot work.
    pub fn open(root: &Path, runtime: tokio::runtime::Handle, crash_at: Option<u64>) -> Result<Self, StoreError> {
        let place = if let Some(address) = Address::of(root) {
            let bucket = Bucket::open(&address).map_err(|source| StoreError::Io { doing: "open", path: root.to_owned(), source })?;
            Place::Bucket(bucket)
        } else {
            std::fs::create_dir_all(root).map_err(|source| StoreError::Io { doing: "make", path: root.to_owned(), source })?;
            let local = || LocalFileSystem::new_with_prefix(root).map_err(|source| storage("open", ".", source));
            let scratch = Arc::new(local()?.with_automatic_cleanup(true));
            let durable = Arc::new(local()?.with_automatic_cleanup(true).with_fsync(true));
            Place::Folder { scratch, durable, runtime }
        };
        let crash = Arc::new(CrashPoint { at: crash_at, passed: AtomicU64::new(0) });
        Ok(Self { root: root.to_owned(), place, crash, written: Arc::default(), lost: Arc::default() })
    }

    /// The output: a folder, or an address.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it lies on object storage.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Bucket(_))
    }

    /// Where `path` lies: a file of this machine, or an address.
    pub fn path_of(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Nothing is written any more: the output is another run's.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// Something was done outside of the output that a run which goes on from here has to find: a crash point.
    pub fn pass(&self) {
        self.crash.pass();
    }

    fn check_ours(&self) -> Result<(), StoreError> {
        if self.lost.load(Ordering::SeqCst) { Err(StoreError::Lost) } else { Ok(()) }
    }

    /// Writes an object that can be made again; it replaces one of the same name.
    ///
    /// # Errors
    /// What the storage says.
    pub fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_pieces(path, vec![bytes])
    }

    /// [`Store::put`] for an object in pieces.
    ///
    /// # Errors
    /// What the storage says.
    pub fn put_pieces(&self, path: &str, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        self.put_to(false, path, pieces, PutMode::Overwrite)?;
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Ok(())
    }

    /// Begins an object that can be made again, to be written bit by bit; it replaces one of the same name when it is finished.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(&self, path: &str) -> Result<ObjectWriter, StoreError> {
        self.check_ours()?;
        let to = match &self.place {
            Place::Bucket(bucket) => WriteTo::Bucket(Box::new(bucket.begin(path).map_err(|source| storage("write", path, source))?)),
            Place::Folder { .. } => self.begin_file(path)?,
        };
        Ok(ObjectWriter { store: self.clone(), path: path.to_owned(), to: Some(to), bytes: 0, hasher: Xxh3::new() })
    }

    fn begin_file(&self, path: &str) -> Result<WriteTo, StoreError> {
        let target = self.path_of(path);
        let io = |doing| {
            let path = target.clone();
            move |source| StoreError::Io { doing, path, source }
        };
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).map_err(io("make the folder of"))?;
        }
        // Another process may do the same task.
        for number in 1_u32.. {
            let staged = self.path_of(&format!("{path}#{number}"));
            match File::options().write(true).create_new(true).open(&staged) {
                Ok(file) => return Ok(WriteTo::File { target, staged: Staged(Some(staged)), file }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io("write")(error)),
            }
        }
        Err(io("write")(std::io::ErrorKind::AlreadyExists.into()))
    }

    /// Whether this process wrote the object by [`Store::put`] or [`Store::begin`].
    pub fn wrote(&self, path: &str) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Writes an object that readers of the output see; it is on disk when this returns.
    ///
    /// # Errors
    /// What the storage says.
    pub fn put_durable(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_to(true, path, vec![bytes], PutMode::Overwrite).map(drop)
    }

    /// Writes an object that readers of the output see and that may be too large for memory; its length.
    ///
    /// # Errors
    /// What the system or `write` says.
    pub fn write_durable<E: From<StoreError>>(
        &self,
        path: &str,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.check_ours().map_err(E::from)?;
        if let Place::Bucket(bucket) = &self.place {
            let sending = |source| E::from(storage("write", path, source));
            let writer = bucket.begin(path).map_err(sending)?;
            let mut counted = Counted { writer, bytes: 0, buffer: Vec::with_capacity(1 << 20) };
            write(&mut counted)?;
            counted.flush().map_err(|source| E::from(StoreError::Io { doing: "write", path: self.path_of(path), source }))?;
            let length = counted.bytes;
            self.crash.pass();
            counted.writer.finish().map_err(sending)?;
            self.crash.pass();
            return Ok(length);
        }
        let target = self.path_of(path);
        let staged = self.path_of(&format!("{path}#0")); // named like the object store's own staging files, so that it is cleaned up as they are
        let io = |doing| {
            let path = target.clone();
            move |source| E::from(StoreError::Io { doing, path, source })
        };
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).map_err(io("make the folder of"))?;
        }
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&staged).map_err(io("write"))?);
        write(&mut file)?;
        let file = file.into_inner().map_err(|error| io("write")(error.into_error()))?;
        file.sync_all().map_err(io("flush"))?;
        let length = file.metadata().map_err(io("look at"))?.len();
        self.crash.pass();
        std::fs::rename(&staged, &target).map_err(io("write"))?;
        self.crash.pass();
        Ok(length)
    }

    /// Writes an object unless there is one of that name; `false` if there was.
    ///
    /// # Errors
    /// What the storage says.
    pub fn create(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        match self.put_to(false, path, vec![bytes.clone()], PutMode::Create) {
            Ok(_) => Ok(true),
            Err(StoreError::Storage { source, .. }) if matches!(*source, object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) if self.is_remote() || self.size(path)?.is_some() => Err(error),
            // A file system without hard links has no such create; one run at a time writes here, so that looking first is as good.
            Err(_) => self.put(path, bytes).map(|()| true),
        }
    }

    /// Writes an object if it still is what it was at `known`, or if there is none where nothing was known; its version now, or `None` if it
    /// is not so. Of object storage alone.
    ///
    /// # Errors
    /// What the storage says.
    pub fn exchange(&self, path: &str, bytes: Bytes, known: Option<Version>) -> Result<Option<Version>, StoreError> {
        let mode = known.map_or(PutMode::Create, PutMode::Update);
        match self.put_to(false, path, vec![bytes], mode) {
            Ok(version) => Ok(version),
            Err(StoreError::Storage { source, .. })
                if matches!(*source, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// An object of object storage and its version; `None` if there is none.
    ///
    /// # Errors
    /// What the storage says.
    pub fn get_version(&self, path: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        match &self.place {
            Place::Bucket(bucket) => bucket.get(path).map_err(|source| storage("read", path, source)),
            Place::Folder { .. } => Ok(None),
        }
    }

    fn put_to(&self, durable: bool, path: &str, pieces: Vec<Bytes>, mode: PutMode) -> Result<Option<Version>, StoreError> {
        self.check_ours()?;
        let writing = |source| storage("write", path, source);
        let version = match &self.place {
            Place::Bucket(bucket) => bucket.put(path, pieces, mode).map_err(writing)?,
            Place::Folder { scratch, durable: synced, runtime } => {
                let local = self.path_of(path);
                if std::fs::symlink_metadata(&local).is_ok_and(|found| found.is_dir()) {
                    // An empty one is nobody's work.
                    std::fs::remove_dir(&local).map_err(|_| StoreError::InTheWay { path: local })?;
                }
                let options = PutOptions { mode, ..PutOptions::default() };
                let to = if durable { synced } else { scratch };
                let location = object(path)?;
                let put = to.put_opts(&location, pieces.into_iter().collect::<PutPayload>(), options);
                Some(runtime.block_on(put).map_err(writing)?.into())
            }
        };
        self.crash.pass();
        Ok(version)
    }

    /// Reads an object; `None` if there is none, or a folder in its place.
    ///
    /// # Errors
    /// What the storage says.
    pub fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        if self.is_remote() {
            return Ok(self.get_version(path)?.map(|(bytes, _)| bytes));
        }
        let local = self.path_of(path);
        match std::fs::read(&local) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::IsADirectory) => Ok(None),
            Err(source) => Err(StoreError::Io { doing: "read", path: local, source }),
        }
    }

    /// Reads many objects, in the order of `paths`; those that are there.
    ///
    /// # Errors
    /// What the storage says.
    pub fn get_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>, StoreError> {
        match &self.place {
            Place::Bucket(bucket) => bucket.get_all(paths).map_err(|source| storage("read", paths.first().map_or("", |path| path), source)),
            Place::Folder { .. } => paths.iter().map(|path| self.get(path)).collect(),
        }
    }

    /// Opens an object to be read at any place. One of object storage is fetched whole.
    ///
    /// # Errors
    /// What the storage says; [`StoreError::Damaged`] if it is gone.
    pub fn open_object(&self, path: &str) -> Result<ReadAt, StoreError> {
        if self.is_remote() {
            let gone = || StoreError::Damaged { path: path.to_owned(), problem: "it is gone".to_owned() };
            return Ok(ReadAt::Memory(self.get(path)?.ok_or_else(gone)?));
        }
        let local = self.path_of(path);
        ReadAt::open(&local).map_err(|source| StoreError::Io { doing: "read", path: local, source })
    }

    /// Reads an object and checks it against the hash it was written with.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is missing or not what was written.
    pub fn get_checked(&self, path: &str, hash: u64) -> Result<Bytes, StoreError> {
        let damaged = |problem: &str| StoreError::Damaged { path: path.to_owned(), problem: problem.to_owned() };
        let bytes = self.get(path)?.ok_or_else(|| damaged("it is gone"))?;
        if hash_bytes(&bytes) == hash { Ok(bytes) } else { Err(damaged("its contents have changed")) }
    }

    /// Reads parts of an object, in ascending order; those that touch are read in one go.
    ///
    /// # Errors
    /// What the system says, or [`StoreError::Damaged`] if the object ends before they do.
    pub fn get_ranges(&self, path: &str, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        if let Place::Bucket(bucket) = &self.place {
            return match bucket.get_ranges(path, ranges) {
                Ok(parts) if parts.iter().zip(ranges).all(|(part, range)| part.len() as u64 == range.end - range.start) => Ok(parts),
                Ok(_) => Err(StoreError::Damaged { path: path.to_owned(), problem: "it is cut off".to_owned() }),
                Err(object_store::Error::NotFound { .. }) => {
                    Err(StoreError::Damaged { path: path.to_owned(), problem: "it is gone".to_owned() })
                }
                Err(source) => Err(storage("read", path, source)),
            };
        }
        let local = self.path_of(path);
        let io = |source| StoreError::Io { doing: "read", path: local.clone(), source };
        let mut file = File::open(&local).map_err(io)?;
        let mut parts = Vec::with_capacity(ranges.len());
        for touching in ranges.chunk_by(|a, b| a.end == b.start) {
            let (start, end) = (touching[0].start, touching[touching.len() - 1].end);
            let mut bytes = Vec::with_capacity(usize::try_from(end - start).unwrap_or_default());
            file.seek(SeekFrom::Start(start)).and_then(|_| Read::take(&mut file, end - start).read_to_end(&mut bytes)).map_err(io)?;
            if bytes.len() as u64 != end - start {
                return Err(StoreError::Damaged { path: path.to_owned(), problem: "it is cut off".to_owned() });
            }
            let bytes = Bytes::from(bytes);
            let place = |at: u64| usize::try_from(at - start).unwrap_or_default();
            parts.extend(touching.iter().map(|range| bytes.slice(place(range.start)..place(range.end))));
        }
        Ok(parts)
    }

    /// Bytes of an object; `None` if there is none.
    ///
    /// # Errors
    /// What the storage says.
    pub fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let looked = match &self.place {
            Place::Bucket(bucket) => bucket.size(path),
            Place::Folder { scratch, runtime, .. } => match runtime.block_on(scratch.head(&object(path)?)) {
                Ok(meta) => Ok(Some(meta.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        };
        looked.map_err(|source| storage("look at", path, source))
    }

    /// All objects below `prefix`, sorted.
    ///
    /// # Errors
    /// What the storage says.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.list_sizes(prefix)?.into_iter().map(|(path, _)| path).collect())
    }

    /// All objects below `prefix` and their lengths, sorted by name.
    ///
    /// # Errors
    /// What the storage says.
    pub fn list_sizes(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let listed = match &self.place {
            Place::Bucket(bucket) => bucket.list(prefix),
            Place::Folder { scratch, runtime, .. } => {
                let list = scratch.list(Some(&object(prefix)?)).map_ok(|meta| (meta.location.to_string(), meta.size));
                runtime.block_on(list.try_collect())
            }
        };
        let mut found: Vec<(String, u64)> = listed.map_err(|source| storage("list", prefix, source))?;
        found.sort();
        Ok(found)
    }

    /// The names right in a folder of the output, of files and folders; none if it is not there.
    ///
    /// # Errors
    /// What the storage says.
    pub fn children(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        if let Place::Bucket(bucket) = &self.place {
            return bucket.children(folder).map_err(|source| storage("list", folder, source));
        }
        match children(&self.path_of(folder)) {
            Ok(names) => Ok(names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(StoreError::Io { doing: "list", path: self.path_of(folder), source }),
        }
    }

    /// Removes an object if it is there.
    ///
    /// # Errors
    /// What the storage says.
    pub fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.check_ours()?;
        let deleted = match &self.place {
            Place::Bucket(bucket) => bucket.delete(path),
            Place::Folder { scratch, runtime, .. } => match runtime.block_on(scratch.delete(&object(path)?)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            },
        };
        deleted.map_err(|source| storage("remove", path, source))?;
        self.crash.pass();
        Ok(())
    }

    /// Removes objects, those of them that are there, in order.
    ///
    /// # Errors
    /// What the storage says.
    pub fn delete_all(&self, paths: Vec<String>) -> Result<(), StoreError> {
        let Place::Bucket(bucket) = &self.place else { return paths.iter().try_for_each(|path| self.delete(path)) };
        self.check_ours()?;
        if let Some(first) = paths.first().cloned() {
            bucket.delete_all(paths).map_err(|source| storage("remove", &first, source))?;
            self.crash.pass();
        }
        Ok(())
    }

    /// Waits until an object that can be made again is on disk, too.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self, path: &str) -> Result<(), StoreError> {
        if self.is_remote() {
            return Ok(());
        }
        let local = self.path_of(path);
        File::open(&local).and_then(|file| file.sync_all()).map_err(|source| StoreError::Io { doing: "flush", path: local, source })
    }

    /// Makes `to` the same object as `from`, replacing what was there: a hard link where the file system has them, else a copy, which object
    /// storage makes by itself.
    ///
    /// # Errors
    /// What the storage says.
    pub fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.check_ours()?;
        let linked = match &self.place {
            Place::Bucket(bucket) => {
                bucket.copy(from, to).map_err(|source| storage("copy", from, source))?;
                Ok(())
            }
            // Renaming a link over another one of the same file does nothing, and would leave the staged one behind.
            Place::Folder { .. } if same_file(&self.path_of(from), &self.path_of(to)) => Ok(()),
            Place::Folder { durable, runtime, .. } => runtime.block_on(durable.copy(&object(from)?, &object(to)?)),
        };
        if linked.is_ok() {
            self.crash.pass();
            return Ok(());
        }
        let source = self.path_of(from);
        let mut bytes = File::open(&source).map_err(|error| StoreError::Io { doing: "read", path: source.clone(), source: error })?;
        self.write_durable(to, |into| {
            let copied = std::io::copy(&mut bytes, into);
            copied.map(|_| ()).map_err(|error| StoreError::Io { doing: "copy", path: source, source: error })
        })?;
        Ok(())
    }

    /// Writes a small file that only tells how things stand. No crash point: how often it is written depends on the clock.
    ///
    /// # Errors
    /// What the system says.
    pub fn put_volatile(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_ours()?;
        if let Place::Bucket(bucket) = &self.place {
            let put = bucket.put(path, vec![Bytes::copy_from_slice(bytes)], PutMode::Overwrite);
            return put.map(drop).map_err(|source| storage("write", path, source));
        }
        let target = self.path_of(path);
        let staged = target.with_extension("next");
        let written = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, &target));
        written.map_err(|source| StoreError::Io { doing: "write", path: target, source })
    }

    /// Removes what writes that were cut off left behind: the storage's own staging files. Outside `.pipeline` a name alone does not make a
    /// file one of them: people keep files of their own in an output.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_torn_writes(&self) -> Result<(), StoreError> {
        if self.is_remote() {
            return Ok(()); // what was not finished is not there
        }
        let own = self.path_of(".pipeline");
        let mut folders = vec![self.path_of("")];
        while let Some(folder) = folders.pop() {
            let io = |source| StoreError::Io { doing: "list", path: folder.clone(), source };
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(io(error)),
            };
            let is_torn = if folder.starts_with(&own) { is_staged } else { is_torn_write };
            for entry in entries {
                let entry = entry.map_err(io)?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
                if kind.is_dir() {
                    folders.push(path);
                } else if entry.file_name().to_str().is_some_and(is_torn) {
                    std::fs::remove_file(&path).map_err(|source| StoreError::Io { doing: "remove", path, source })?;
                }
            }
        }
        Ok(())
    }
}

/// An object that is being written; what is not finished is no object.
pub struct ObjectWriter {
    store: Store,
    path: String,
    to: Option<WriteTo>,
    bytes: u64,
    hasher: Xxh3,
}

enum WriteTo {
    File { target: PathBuf, staged: Staged, file: File },
    Bucket(Box<BucketWriter>),
}

/// The file that becomes an object when it is whole.
struct Staged(Option<PathBuf>);

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(staged) = &self.0 {
            let _ = std::fs::remove_file(staged); // else it is swept away like what a kill leaves
        }
    }
}

impl ObjectWriter {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        match &mut self.to {
            Some(WriteTo::File { file, target, .. }) => {
                file.write_all(bytes).map_err(|source| StoreError::Io { doing: "write", path: target.clone(), source })
            }
            Some(WriteTo::Bucket(writer)) => {
                writer.write(Bytes::copy_from_slice(bytes)).map_err(|source| storage("write", &self.path, source))
            }
            None => Ok(()),
        }
    }

    /// Makes it an object. Its length, and its hash as [`hash_bytes`] has it.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> Result<(u64, u64), StoreError> {
        self.store.check_ours()?;
        match self.to.take() {
            Some(WriteTo::File { target, mut staged, file }) => {
                drop(file);
                if let Some(path) = &staged.0 {
                    std::fs::rename(path, &target).map_err(|source| StoreError::Io { doing: "write", path: target, source })?;
                }
                staged.0 = None;
            }
            Some(WriteTo::Bucket(writer)) => writer.finish().map_err(|source| storage("write", &self.path, source))?,
            None => {}
        }
        self.store.written.lock().unwrap_or_else(PoisonError::into_inner).insert(self.path.clone());
        self.store.crash.pass();
        Ok((self.bytes, self.hasher.digest()))
    }
}

/// Sends what is written to it, in pieces of some size.
struct Counted {
    writer: BucketWriter,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        if self.buffer.len() >= 1 << 20 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        if bytes.is_empty() { Ok(()) } else { self.writer.write(bytes.into()).map_err(datasets::remote::io_error) }
    }
}

/// The local object store stages a write as `<name>#<number>` before it renames.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What a kill leaves, outside `.pipeline`, of the writes of a run, and of the check whether a folder can be written to; it is no object.
pub fn is_torn_write(name: &str) -> bool {
    let is_ours = |of: &str| of.starts_with("part-") || ["README.md", "report.html", "run.json"].contains(&of);
    name.starts_with(".granary-write-test-") || is_staged(name) && name.rsplit_once('#').is_some_and(|(of, _)| is_ours(of))
}

/// [`hash_bytes`] of an object in pieces.
pub fn hash_pieces(pieces: &[Bytes]) -> u64 {
    let mut hasher = Xxh3::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.digest()
}

/// The hash that stored objects are checked by.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

fn same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

fn object(path: &str) -> Result<ObjectPath, StoreError> {
    ObjectPath::parse(path).map_err(|source| storage("name", path, source.into()))
}

fn storage(doing: &'static str, path: &str, source: object_store::Error) -> StoreError {
    StoreError::Storage { doing, path: path.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An empty store in a folder of its own.
    pub(crate) fn store() -> (tempfile::TempDir, tokio::runtime::Runtime, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let store = Store::open(folder.path(), runtime.handle().clone(), None).expect("an empty store");
        (folder, runtime, store)
    }

    #[test]
    fn a_mark_is_created_once() {
        let (_folder, _runtime, store) = store();
        assert!(store.create(".pipeline/done/a.json", Bytes::from_static(b"first")).expect("written"));
        assert!(!store.create(".pipeline/done/a.json", Bytes::from_static(b"second")).expect("seen"));
        assert_eq!(store.get(".pipeline/done/a.json").expect("read").as_deref(), Some(&b"first"[..]));
    }

    #[test]
    fn an_object_on_another_file_system_is_copied() {
        let (folder, _runtime, store) = store();
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("scratch")).expect("linked");
        store.put("scratch/piece", Bytes::from_static(b"rows")).expect("written");
        store.put("out/part", Bytes::from_static(b"old")).expect("written");
        store.copy("scratch/piece", "out/part").expect("copied");
        assert_eq!(store.get("out/part").expect("read").as_deref(), Some(&b"rows"[..]));
        assert_eq!(std::fs::read_dir(folder.path().join("out")).expect("listed").count(), 1);
        assert!(matches!(store.copy("scratch/none", "out/part"), Err(StoreError::Io { .. })));
    }

    #[test]
    fn an_object_that_is_there_is_made_the_same_again() {
        let (folder, _runtime, store) = store();
        store.put("piece", Bytes::from_static(b"rows")).expect("written");
        for _ in 0..2 {
            store.copy("piece", "out/part").expect("linked");
        }
        assert_eq!(std::fs::read_dir(folder.path().join("out")).expect("listed").count(), 1);
    }

    #[test]
    fn a_changed_object_is_noticed() {
        let (folder, _runtime, store) = store();
        store.put("x/data", Bytes::from_static(b"rows")).expect("written");
        let hash = hash_bytes(b"rows");
        assert_eq!(store.get_checked("x/data", hash).expect("whole"), "rows");
        std::fs::write(folder.path().join("x/data"), b"rowz").expect("changed");
        assert!(matches!(store.get_checked("x/data", hash), Err(StoreError::Damaged { .. })));
        assert!(matches!(store.get_checked("x/none", hash), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn staging_files_of_cut_off_writes_go() {
        let (folder, _runtime, store) = store();
        store.put("a/part-00000.parquet", Bytes::from_static(b"rows")).expect("written");
        std::fs::write(folder.path().join("a/part-00001.parquet#3"), b"ro").expect("a torn write");
        let others = ["run.json#1", ".pipeline/done/x.json#12", "notes#1", "a/C#7"];
        for name in others {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).and_then(|()| std::fs::write(path, b"ro")).expect(name);
        }
        store.remove_torn_writes().expect("cleaned");
        let is_there = |name: &&str| folder.path().join(name).exists();
        assert!(!is_there(&"a/part-00001.parquet#3"));
        assert_eq!(others.into_iter().filter(is_there).collect::<Vec<_>>(), ["notes#1", "a/C#7"], "files of people stay");
        assert!(is_there(&"a/part-00000.parquet"));
        store.delete("a/part-00000.parquet").expect("removed");
        store.delete("a/part-00000.parquet").expect("removing nothing is fine");
    }
}
