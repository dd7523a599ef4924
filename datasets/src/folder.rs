//! A folder of this machine or of object storage, for what outlives a run: files that appear whole, and one that is swapped only if it still is
//! what it was.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use object_store::buffered::BufWriter as ObjectWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use tokio::io::AsyncWriteExt;

use crate::remote::{Address, objects_below, wait};

/// Bytes from which on an object is sent in parts of this size.
const PART: usize = 8 << 20;

/// What is held while a file of a folder is swapped.
const LOCK: &str = "index.lock";

/// How files are called until they are whole.
const UNFINISHED: &str = ".unfinished-";

/// A folder of this machine or of object storage.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    /// On object storage.
    objects: Option<Arc<dyn ObjectStore>>,
}

/// A file as it was when it was read, to be swapped for another.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its bytes.
    pub bytes: Vec<u8>,
    version: Option<UpdateVersion>,
}

impl Folder {
    /// The folder at a path or an address; it need not be there.
    ///
    /// # Errors
    /// Settings of object storage that cannot work, or a place that is only read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let objects = match Address::of(path) {
            Some(address) if !address.is_writable() => return Err(io::Error::other("data sets of the hub are only read")),
            Some(address) => Some(objects_below(&address)?),
            None => None,
        };
        Ok(Self { path: path.to_owned(), objects })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file, whole; `None` if it is not there.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn get(&self, name: &str) -> io::Result<Option<Known>> {
        let found = match &self.objects {
            Some(objects) => {
                let key = key(name)?;
                wait(async {
                    match objects.get(&key).await {
                        Ok(found) => {
                            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                            Ok(Some(Known { bytes: found.bytes().await?.into(), version: Some(version) }))
                        }
                        Err(object_store::Error::NotFound { .. }) => Ok(None),
                        Err(error) => Err(error),
                    }
                })?
            }
            None => match fs::read(self.path.join(name)) {
                Ok(bytes) => Some(Known { bytes, version: None }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        Ok(found)
    }

    /// Parts of a file, in ascending order. On object storage those that lie near each other are fetched at once.
    ///
    /// # Errors
    /// What the system or storage says; [`io::ErrorKind::UnexpectedEof`] if the file ends before they do.
    pub fn ranges(&self, name: &str, ranges: &[Range<u64>]) -> io::Result<Vec<Vec<u8>>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let length = |range: &Range<u64>| usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other);
        if let Some(objects) = &self.objects {
            let key = key(name)?;
            let parts = wait(objects.get_ranges(&key, ranges))?;
            if parts.len() != ranges.len() || parts.iter().zip(ranges).any(|(part, range)| length(range).ok() != Some(part.len())) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(parts.into_iter().map(Into::into).collect());
        }
        let file = File::open(self.path.join(name))?;
        let read = |range: &Range<u64>| {
            let mut bytes = vec![0; length(range)?];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        };
        ranges.iter().map(read).collect()
    }

    /// Begins a file, to be written bit by bit; it replaces one of the same name when it is finished.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn begin(&self, name: &str) -> io::Result<FolderWriter> {
        let to = if let Some(objects) = &self.objects {
            To::Object(Box::new(ObjectWriter::with_capacity(Arc::clone(objects), key(name)?, PART)))
        } else {
            let target = self.path.join(name);
            let staged = staged(&target)?;
            To::File { file: BufWriter::with_capacity(1 << 20, File::create(&staged)?), staged, target }
        };
        Ok(FolderWriter { to: Some(to), bytes: 0 })
    }

    /// Writes a file whole, in the place of one of the same name. It is on disk when this returns.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.begin(name)?;
        writer.write(bytes)?;
        writer.finish().map(drop)
    }

    /// Writes a file if it still is what was `known` of it, or if there is none where nothing was known; whether it was so.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn swap(&self, name: &str, known: Option<&Known>, bytes: &[u8]) -> io::Result<bool> {
        let Some(objects) = &self.objects else { return self.swap_file(name, known, bytes) };
        let mode = match known {
            None => PutMode::Create,
            Some(Known { version: Some(version), .. }) => PutMode::Update(version.clone()),
            Some(_) => return Err(io::Error::other("storage gave no version of the object")),
        };
        let (key, payload) = (key(name)?, PutPayload::from(bytes.to_vec()));
        wait(async {
            match objects.put_opts(&key, payload, PutOptions { mode, ..PutOptions::default() }).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn swap_file(&self, name: &str, known: Option<&Known>, bytes: &[u8]) -> io::Result<bool> {
        fs::create_dir_all(&self.path)?;
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path.join(LOCK))?;
        lock.lock()?;
        let now = self.get(name)?;
        if now.as_ref().map(|now| &now.bytes) != known.map(|known| &known.bytes) {
            return Ok(false);
        }
        self.put(name, bytes)?;
        File::open(&self.path)?.sync_all()?; // the rename itself
        Ok(true)
    }

    /// The files below `prefix`, a folder, with their lengths; named as [`Folder::get`] names them. Those not finished are left out.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn sizes(&self, prefix: &str) -> io::Result<BTreeMap<String, u64>> {
        if let Some(objects) = &self.objects {
            let prefix = key(prefix)?;
            let list = objects.list(Some(&prefix)).map_ok(|meta| (meta.location.to_string(), meta.size));
            return wait(list.try_collect());
        }
        let (mut found, mut open) = (BTreeMap::new(), vec![prefix.to_owned()]);
        while let Some(folder) = open.pop() {
            let entries = match fs::read_dir(self.path.join(&folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    open.push(name);
                } else if !name.contains(UNFINISHED) {
                    found.insert(name, meta.len());
                }
            }
        }
        Ok(found)
    }

    /// The folders right below `prefix`, by their last name.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn folders(&self, prefix: &str) -> io::Result<Vec<String>> {
        if let Some(objects) = &self.objects {
            let prefix = key(prefix)?;
            let found = wait(objects.list_with_delimiter(Some(&prefix)))?;
            return Ok(found.common_prefixes.iter().filter_map(Key::filename).map(str::to_owned).collect());
        }
        let entries = match fs::read_dir(self.path.join(prefix)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes a folder with all that is in it; nothing if it is not there.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn remove(&self, folder: &str) -> io::Result<()> {
        let Some(objects) = &self.objects else {
            return match fs::remove_dir_all(self.path.join(folder)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        for name in self.sizes(folder)?.keys() {
            let key = key(name)?;
            wait(objects.delete(&key))?;
        }
        Ok(())
    }
}

/// Where a file is written until it is whole; its folder is made.
fn staged(target: &Path) -> io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    // Another process may write the same file.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    Ok(target.with_file_name(format!("{UNFINISHED}{}-{number}-{name}", std::process::id())))
}

fn key(name: &str) -> io::Result<Key> {
    Key::parse(name).map_err(io::Error::other)
}

/// A file that is being written; what is not finished is no file.
#[derive(Debug)]
pub struct FolderWriter {
    to: Option<To>,
    bytes: u64,
}

#[derive(Debug)]
enum To {
    File { file: BufWriter<File>, staged: PathBuf, target: PathBuf },
    Object(Box<ObjectWriter>),
}

impl FolderWriter {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        match &mut self.to {
            Some(To::File { file, .. }) => file.write_all(bytes),
            Some(To::Object(writer)) => wait(writer.put(bytes.to_vec().into())),
            None => Ok(()),
        }
    }

    /// Makes it a file, which is on disk when this returns; its length.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn finish(mut self) -> io::Result<u64> {
        match self.to.take() {
            Some(To::File { file, staged, target }) => {
                let written = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
                if let Err(error) = written.and_then(|()| fs::rename(&staged, &target)) {
                    let _ = fs::remove_file(&staged); // it is no file of the folder either way
                    return Err(error);
                }
            }
            Some(To::Object(mut writer)) => {
                let shut = |error: io::Error| match error.downcast::<object_store::Error>() {
                    Ok(error) => error,
                    Err(error) => object_store::Error::Generic { store: "storage", source: error.into() },
                };
                wait(async { writer.shutdown().await.map_err(shut) })?;
            }
            None => {}
        }
        Ok(self.bytes)
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        match self.to.take() {
            Some(To::File { staged, .. }) => {
                let _ = fs::remove_file(staged); // what a kill leaves is no file of the folder either
            }
            Some(To::Object(mut writer)) => {
                let _ = wait(writer.abort()); // what was sent of it is nowhere to be seen
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_swapped_only_for_what_it_was() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(&place.path().join("deep/er")).expect("a folder");
        assert!(folder.get("m").expect("looked").is_none());
        assert!(folder.swap("m", None, b"one").expect("swapped"));
        assert!(!folder.swap("m", None, b"two").expect("seen"));
        let one = folder.get("m").expect("read").expect("there");
        assert!(folder.swap("m", Some(&one), b"two").expect("swapped"));
        assert!(!folder.swap("m", Some(&one), b"three").expect("seen"));
        assert_eq!(folder.get("m").expect("read").expect("there").bytes, b"two");
    }

    #[test]
    fn parts_are_read_where_they_are_and_not_past_the_end() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(place.path()).expect("a folder");
        folder.put("a/b", b"0123456789").expect("written");
        assert_eq!(folder.ranges("a/b", &[0..2, 4..4, 8..10]).expect("read"), [&b"01"[..], b"", b"89"]);
        assert_eq!(folder.ranges("a/b", std::slice::from_ref(&(8..11))).expect_err("too far").kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(folder.sizes("a").expect("listed"), [("a/b".to_owned(), 10)].into());
        assert_eq!(folder.folders("").expect("listed"), ["a"]);
        folder.remove("a").expect("removed");
        folder.remove("a").expect("removing nothing is fine");
        assert!(folder.sizes("a").expect("listed").is_empty());
    }

    #[test]
    fn what_is_not_finished_is_not_there() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(place.path()).expect("a folder");
        let mut writer = folder.begin("x/y").expect("begun");
        writer.write(b"half").expect("written");
        assert!(folder.sizes("x").expect("listed").is_empty());
        drop(writer);
        assert_eq!(fs::read_dir(place.path().join("x")).expect("listed").count(), 0);
    }
}
