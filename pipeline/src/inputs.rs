//! What the input files hold, by hash; a file that only changed its time is the same input.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use datasets::remote::{Address, RemoteFile};
use rayon::prelude::*;
use serde::{Deserialize, Serialize, Serializer};

use crate::store::{Store, StoreError};

const FILE: &str = ".pipeline/inputs.json";

/// A file modified less than this long ago may be written again without its time moving, so its content is hashed every time.
const YOUNG: Duration = Duration::from_secs(2);

/// Content hashes of input files, remembered with what tells that a file is unchanged.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct InputHashes {
    #[serde(serialize_with = "with_names")]
    files: BTreeMap<PathBuf, Known>,
    #[serde(skip)]
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    modified_ns: i64,
    inode: u64,
    hash: String,
    /// Whether the file was young when it was hashed.
    young: bool,
}

/// JSON has no words for a name that is no UTF-8; such a file is read again by the next run.
fn with_names<S: Serializer>(files: &BTreeMap<PathBuf, Known>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().filter(|(path, _)| path.to_str().is_some()))
}

impl Known {
    fn stamp(&self) -> Stamp {
        Stamp { size: self.size, modified_ns: self.modified_ns, inode: self.inode }
    }
}

impl InputHashes {
    /// What an earlier run remembered; nothing if there was none or it is unreadable.
    ///
    /// # Errors
    /// What the storage says.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let found = store.get(FILE)?;
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Remembers for the next run, if anything changed.
    ///
    /// # Errors
    /// What the storage says.
    pub fn save(&mut self, store: &Store) -> Result<(), StoreError> {
        if std::mem::take(&mut self.changed) {
            let bytes = serde_json::to_vec(self).expect("a map of plain values serializes");
            store.put(FILE, Bytes::from(bytes))?;
        }
        Ok(())
    }

    /// Makes sure that the hashes of these files are known; reads only those that are new, changed or young.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn learn(&mut self, paths: &[PathBuf]) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let found: Vec<(PathBuf, Known)> = paths
            .par_iter()
            .map(|path| look(path, self.files.get(path), now).map(|known| (path.clone(), known)))
            .collect::<Result<_, _>>()?;
        for (path, known) in found {
            if self.files.get(&path) != Some(&known) {
                self.changed = true;
                self.files.insert(path, known);
            }
        }
        Ok(())
    }

    /// The content hash of a file that was learnt.
    pub fn get(&self, path: &Path) -> Option<&str> {
        self.files.get(path).map(|known| known.hash.as_str())
    }

    /// The stamp of a file when it was learnt.
    pub fn stamp(&self, path: &Path) -> Option<Stamp> {
        self.files.get(path).map(Known::stamp)
    }
}

/// What tells that a file is the one that was looked at before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified_ns: i64,
    inode: u64,
}

impl Stamp {
    /// The stamp of a file as it is now.
    ///
    /// # Errors
    /// A file that is not there any more.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { doing: "look at", path: path.to_owned(), source };
        if let Some(address) = Address::of(path) {
            return Ok(look_there(&address).map_err(io)?.stamp());
        }
        Ok(Self::of_meta(&std::fs::metadata(path).map_err(io)?))
    }

    fn of_meta(meta: &std::fs::Metadata) -> Self {
        let modified_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Self { size: meta.len(), modified_ns, inode: meta.ino() }
    }
}

/// An object is known by its entity tag, which storage gives without its bytes being read: another one in its place has another tag.
fn look_there(address: &Address) -> std::io::Result<Known> {
    let file = RemoteFile::open(address)?;
    let hash = format!("{}:{}", file.bytes(), file.tag().unwrap_or_default());
    let inode = xxhash_rust::xxh3::xxh3_64(hash.as_bytes());
    Ok(Known { size: file.bytes(), modified_ns: 0, inode, hash, young: false })
}

fn look(path: &Path, known: Option<&Known>, now: SystemTime) -> Result<Known, StoreError> {
    let io = |source| StoreError::Io { doing: "read", path: path.to_owned(), source };
    if let Some(address) = Address::of(path) {
        return look_there(&address).map_err(io);
    }
    let meta = std::fs::metadata(path).map_err(io)?;
    let stamp = Stamp::of_meta(&meta);
    let young = meta.modified().is_ok_and(|modified| now.duration_since(modified).unwrap_or_default() < YOUNG);
    if let Some(known) = known
        && !known.young
        && !young
        && known.stamp() == stamp
    {
        return Ok(known.clone());
    }
    let hash = hash_file(path).map_err(io)?;
    let Stamp { size, modified_ns, inode } = stamp;
    Ok(Known { size, modified_ns, inode, hash, young })
}

/// The content hash of a file, as 32 hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn hash_file(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:032x}", hasher.digest128())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_file_keeps_its_hash_and_a_changed_one_does_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.txt");
        let old = SystemTime::now() - Duration::from_secs(100);
        let write = |text: &str, seconds_ago: u64| {
            std::fs::write(&path, text).expect("written");
            let file = std::fs::File::options().append(true).open(&path).expect("opened");
            file.set_modified(old + Duration::from_secs(seconds_ago)).expect("time set");
        };
        let mut hashes = InputHashes::default();
        write("one", 0);
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        let first = hashes.get(&path).expect("known").to_owned();
        write("one", 10);
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        assert_eq!(hashes.get(&path), Some(first.as_str()));
        write("two", 20);
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        assert_ne!(hashes.get(&path), Some(first.as_str()));
    }

    #[test]
    fn a_young_file_is_hashed_again_though_its_time_stands_still() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "one").expect("written");
        let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
        let mut hashes = InputHashes::default();
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        let first = hashes.get(&path).expect("known").to_owned();
        std::fs::write(&path, "two").expect("written");
        std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(modified)).expect("time set back");
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        assert_ne!(hashes.get(&path), Some(first.as_str()));
    }
}
