//! An output on object storage: whole objects, conditional writes, no folders.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datasets::remote::{Address, io_error, objects_below, runtime};
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use tokio::io::AsyncWriteExt;

/// Bytes from which on an object is sent in parts of this size.
const PART: usize = 8 << 20;

/// Parts of one object that are on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Requests at once where many objects are wanted.
const REQUESTS: usize = 32;

/// The objects of an output, by names relative to it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    runtime: tokio::runtime::Handle,
}

type Answer<T> = object_store::Result<T>;

fn key(name: &str) -> Answer<Key> {
    Key::parse(name).map_err(Into::into)
}

impl Bucket {
    pub(super) fn open(address: &Address) -> io::Result<Self> {
        Ok(Self { objects: objects_below(address)?, runtime: runtime()? })
    }

    pub(super) fn put(&self, name: &str, pieces: Vec<Bytes>, mode: PutMode) -> Answer<Option<UpdateVersion>> {
        let key = key(name)?;
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        if bytes > PART && mode == PutMode::Overwrite {
            let mut writer = self.begin(name)?;
            for piece in pieces {
                writer.write(piece)?;
            }
            return writer.finish().map(|()| None);
        }
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.runtime.block_on(self.objects.put_opts(&key, pieces.into_iter().collect::<PutPayload>(), options))?;
        Ok(Some(put.into()))
    }

    pub(super) fn begin(&self, name: &str) -> Answer<BucketWriter> {
        let writer = BufWriter::with_capacity(Arc::clone(&self.objects), key(name)?, PART).with_max_concurrency(PARTS_IN_FLIGHT);
        Ok(BucketWriter { writer, runtime: self.runtime.clone(), finished: false })
    }

    /// An object and its version.
    pub(super) fn get(&self, name: &str) -> Answer<Option<(Bytes, UpdateVersion)>> {
        let key = key(name)?;
        self.runtime.block_on(async {
            match self.objects.get(&key).await {
                Ok(found) => {
                    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                    Ok(Some((found.bytes().await?, version)))
                }
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Many objects, those that are there, in the order of `names`.
    pub(super) fn get_all(&self, names: &[String]) -> Answer<Vec<Option<Bytes>>> {
        let get = |name: String| async move {
            match self.objects.get(&key(&name)?).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let requests: Vec<_> = names.iter().cloned().map(get).collect();
        self.runtime.block_on(futures::stream::iter(requests).buffered(REQUESTS).try_collect())
    }

    pub(super) fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Answer<Vec<Bytes>> {
        self.runtime.block_on(self.objects.get_ranges(&key(name)?, ranges))
    }

    pub(super) fn size(&self, name: &str) -> Answer<Option<u64>> {
        match self.runtime.block_on(self.objects.head(&key(name)?)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects below `prefix` and their lengths.
    pub(super) fn list(&self, prefix: &str) -> Answer<Vec<(String, u64)>> {
        let prefix = key(prefix)?;
        let list = self.objects.list(Some(&prefix)).map_ok(|meta| (meta.location.to_string(), meta.size));
        self.runtime.block_on(list.try_collect())
    }

    /// The names right below `prefix`, of objects and of folders.
    pub(super) fn children(&self, prefix: &str) -> Answer<Vec<String>> {
        let found = self.runtime.block_on(self.objects.list_with_delimiter(Some(&key(prefix)?)))?;
        let folders = found.common_prefixes.iter().filter_map(Key::filename);
        let objects = found.objects.iter().filter_map(|meta| meta.location.filename());
        Ok(folders.chain(objects).map(str::to_owned).collect())
    }

    pub(super) fn delete(&self, name: &str) -> Answer<()> {
        match self.runtime.block_on(self.objects.delete(&key(name)?)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes many objects, with few requests where the storage can.
    pub(super) fn delete_all(&self, names: Vec<String>) -> Answer<()> {
        let keys: Vec<Answer<Key>> = names.iter().map(|name| key(name)).collect();
        let deleted = self.objects.delete_stream(futures::stream::iter(keys).boxed());
        let seen = deleted.map(|deleted| match deleted {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        });
        self.runtime.block_on(seen.try_collect())
    }

    pub(super) fn copy(&self, from: &str, to: &str) -> Answer<()> {
        self.runtime.block_on(self.objects.copy(&key(from)?, &key(to)?))
    }
}

/// An object on its way; what is not finished is never seen.
pub(super) struct BucketWriter {
    writer: BufWriter,
    runtime: tokio::runtime::Handle,
    finished: bool,
}

impl BucketWriter {
    pub(super) fn write(&mut self, bytes: Bytes) -> Answer<()> {
        self.runtime.block_on(self.writer.put(bytes))
    }

    pub(super) fn finish(mut self) -> Answer<()> {
        self.finished = true;
        self.runtime.block_on(self.writer.shutdown()).map_err(of_io)
    }
}

impl Drop for BucketWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.runtime.block_on(self.writer.abort()); // what was sent of it is nowhere to be seen, whether this succeeds or not
        }
    }
}

fn of_io(error: io::Error) -> object_store::Error {
    match error.downcast::<object_store::Error>() {
        Ok(error) => error,
        Err(error) => object_store::Error::Generic { store: "storage", source: error.into() },
    }
}

/// Why nothing can be written to an output on object storage, if so: tried with an object that is gone again.
pub fn write_problem(address: &Address) -> Option<String> {
    if !address.is_writable() {
        return Some("data sets of the hub are only read; write to a folder or to `s3://…`".to_owned());
    }
    let name = format!(".granary-write-test-{}", std::process::id());
    let tried = Bucket::open(address).and_then(|bucket| {
        let create = || bucket.put(&name, vec![Bytes::from_static(b"x")], PutMode::Create);
        bucket.delete(&name).and_then(|()| create()).map_err(io_error)?;
        let again = create();
        bucket.delete(&name).map_err(io_error)?;
        match again {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Ok(_) => Err(io::Error::other("it does not honour conditional writes (If-None-Match), so two runs could not be told apart")),
            Err(error) => Err(io_error(error)),
        }
    });
    tried.err().map(|error| error.to_string())
}

/// The object at a path that is an address, or the file at one that is not.
///
/// # Errors
/// What storage or the system says.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let Some(address) = Address::of(path) else { return std::fs::read(path) };
    let (folder, name) = address.parent().ok_or(io::ErrorKind::NotFound)?;
    match Bucket::open(&folder)?.get(name).map_err(io_error)? {
        Some((bytes, _)) => Ok(bytes.into()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such object")),
    }
}

/// Whether something lies at a path or an address, and whether that is a folder.
///
/// # Errors
/// What storage says; of this machine nothing, what can't be looked at is not there.
pub fn kind(path: &Path) -> io::Result<Option<Kind>> {
    let Some(address) = Address::of(path) else {
        let found = std::fs::metadata(path).ok();
        return Ok(found.map(|found| if found.is_dir() { Kind::Folder } else { Kind::File }));
    };
    if let Some((folder, name)) = address.parent()
        && Bucket::open(&folder)?.size(name).map_err(io_error)?.is_some()
    {
        return Ok(Some(Kind::File));
    }
    match children(path) {
        Ok(_) => Ok(Some(Kind::Folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file, or an object.
    File,
    /// A folder; on object storage, what has objects below it.
    Folder,
}

/// Writes an object at an address, in the place of what was there.
///
/// # Errors
/// What storage says.
pub fn write(address: &Address, bytes: Bytes) -> io::Result<()> {
    let (folder, name) = address.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Bucket::open(&folder)?.put(name, vec![bytes], PutMode::Overwrite).map(drop).map_err(io_error)
}

/// The files and folders right in a folder, on object storage or not; in no order.
///
/// # Errors
/// What storage or the system says; object storage has no folders, so that one with nothing in it is not there.
pub fn children(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let Some(address) = Address::of(path) else {
        return std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect();
    };
    let names = Bucket::open(&address)?.children("").map_err(io_error)?;
    if names.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is nothing there"));
    }
    Ok(names.into_iter().map(Into::into).collect())
}
