//! What the input files hold, by hash; a file that only changed its time is the same input.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// What tasks read, one for all tasks that read a file.
    #[serde(skip)]
    seen: BTreeMap<PathBuf, Arc<Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    stamp: Stamp,
    hash: String,
    /// Whether the file was young when it was hashed.
    young: bool,
}

/// JSON has no words for a name that is no UTF-8; such a file is read again by the next run.
fn with_names<S: Serializer>(files: &BTreeMap<PathBuf, Known>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().filter(|(path, _)| path.to_str().is_some()))
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
                self.seen.remove(&path);
                self.files.insert(path, known);
            }
        }
        Ok(())
    }

    /// The content hash of a file that was learnt.
    pub fn get(&self, path: &Path) -> Option<&str> {
        self.files.get(path).map(|known| known.hash.as_str())
    }

    /// A file as it was when it was learnt.
    pub fn seen(&mut self, path: &Path) -> Option<Arc<Seen>> {
        let known = self.files.get(path)?;
        let seen = self
            .seen
            .entry(path.to_owned())
            .or_insert_with(|| Arc::new(Seen { path: path.to_owned(), hash: known.hash.clone(), stamp: Mutex::new(known.stamp) }));
        Some(Arc::clone(seen))
    }
}

/// A file that tasks read, as it was when its content was hashed.
#[derive(Debug)]
pub struct Seen {
    /// Where it lies.
    pub path: PathBuf,
    hash: String,
    stamp: Mutex<Stamp>,
}

impl Seen {
    /// Whether it still holds what it held. Where something was done to it, its content is hashed again, once for all that ask.
    pub fn holds(&self) -> bool {
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let is_as = |stamp: Stamp| Stamp::of(&self.path).is_ok_and(|now| now == stamp);
        if is_as(*stamp) {
            return true;
        }
        let Ok(now) = Stamp::of(&self.path) else { return false };
        let holds = hash_file(&self.path).is_ok_and(|hash| hash == self.hash) && is_as(now);
        if holds {
            *stamp = now;
        }
        holds
    }
}

/// What tells that a file is the one that was looked at before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    modified_ns: i64,
    /// When anything of it was last changed, its times included: what a program that puts `modified` back can't put back.
    #[serde(default)]
    changed_ns: i64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        match Address::of(path) {
            Some(address) => Ok(look_there(&address)?.stamp),
            None => std::fs::metadata(path).map(|meta| Self::of_meta(&meta)),
        }
    }

    fn of_meta(meta: &std::fs::Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: meta.len(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }
}

/// An object is known by its entity tag, which storage gives without its bytes being read: another one in its place has another tag.
fn look_there(address: &Address) -> std::io::Result<Known> {
    let file = RemoteFile::open(address)?;
    let hash = format!("{}:{}", file.bytes(), file.tag().unwrap_or_default());
    let inode = xxhash_rust::xxh3::xxh3_64(hash.as_bytes());
    Ok(Known { stamp: Stamp { size: file.bytes(), modified_ns: 0, changed_ns: 0, inode }, hash, young: false })
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
        && known.stamp == stamp
    {
        return Ok(known.clone());
    }
    let hash = hash_file(path).map_err(io)?;
    Ok(Known { stamp, hash, young })
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

    #[test]
    fn a_file_that_is_read_may_be_touched_and_not_edited() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "one").expect("written");
        let modified = SystemTime::now() - Duration::from_secs(100);
        let set_back = || std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(modified)).expect("a time");
        set_back();
        let mut hashes = InputHashes::default();
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        let seen = hashes.seen(&path).expect("learnt");
        assert!(seen.holds());
        std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now())).expect("touched");
        assert!(seen.holds());
        // The same size, and the time put back: only the time of the last change tells.
        std::fs::write(&path, "two").expect("written");
        set_back();
        assert!(!seen.holds());
        hashes.learn(std::slice::from_ref(&path)).expect("read");
        assert_ne!(hashes.get(&path), Some(seen.hash.as_str()), "nor does the next run take it for what it was");
        std::fs::remove_file(&path).expect("removed");
        assert!(!seen.holds());
    }
}
