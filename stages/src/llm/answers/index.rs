//! Where each answer is, and what other segments than one's own come to.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::super::{AnswerKey, Spent};
use super::AnswersError;
use super::ledger::{Books, Totals};
use super::record::{Booking, HEAD, Head, Kind};
use super::scan::{Scanned, scan};

/// What other processes wrote is looked for no more often.
const REFRESH: Duration = Duration::from_secs(1);

/// Segments that are kept open: a process may open some hundred files only.
const MAX_OPEN: usize = 128;

/// Bytes that are read of a record before its length is known: most are shorter.
const FIRST_READ: usize = 4 << 10;

/// Bits of a place in a segment; the rest is the segment's number.
const OFFSET_BITS: u32 = 44;

/// Ending of a segment's name.
pub(super) const ENDING: &str = ".seg";

/// Segment and offset in one number: a million answers take 50 MB so.
fn place(segment: usize, offset: u64) -> u64 {
    ((segment as u64) << OFFSET_BITS) | offset
}

fn segment_of(place: u64) -> usize {
    usize::try_from(place >> OFFSET_BITS).unwrap_or(usize::MAX)
}

fn offset_of(place: u64) -> u64 {
    place & ((1 << OFFSET_BITS) - 1)
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks_exact(8) {
            self.0 ^= u64::from_le_bytes(eight.try_into().unwrap_or_default());
        }
    }

    fn write_usize(&mut self, _len: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A segment that was read.
pub(super) struct Segment {
    pub(super) name: String,
    /// None where too many are open: it is opened for each reading.
    file: Option<Arc<File>>,
    /// Whether this process writes it.
    is_own: bool,
    /// Whether its writer had ended before it was read: it grows no more.
    pub(super) is_done: bool,
    /// Whether damage was found in it, and said.
    is_damaged: bool,
    /// Bytes that were read.
    pub(super) scanned: u64,
    pub(super) books: Books,
}

#[derive(Default)]
struct State {
    places: HashMap<[u8; 16], u64, BuildHasherDefault<KeyHasher>>,
    /// By their numbers; none where another stands for it.
    segments: Vec<Option<Segment>>,
    /// Names of segments that are read, and of those that others stand for.
    known: BTreeSet<String>,
    /// Names of segments that others stand for.
    replaced: BTreeSet<String>,
    /// What the segments of others come to.
    totals: Totals,
}

/// The segments of a folder.
pub(super) struct Index {
    folder: PathBuf,
    state: RwLock<State>,
    /// When others' segments were looked at last.
    refreshed: Mutex<Option<Instant>>,
}

/// What is new in a segment.
#[derive(Default)]
struct News {
    places: Vec<([u8; 16], u64)>,
    replaces: Vec<String>,
    scanned: Scanned,
}

/// Reads what a segment has from `from` on.
fn news(file: &File, from: u64, books: &mut Books) -> io::Result<News> {
    let mut news = News::default();
    let mut replaces = Vec::new();
    news.scanned = scan(file, from, &mut |at, head, meta| match head.kind {
        Some(Kind::Replaces) => {
            let names = std::str::from_utf8(meta.unwrap_or_default()).unwrap_or_default();
            replaces.extend(names.lines().filter(|name| is_segment_name(name)).map(str::to_owned));
        }
        Some(kind) => {
            if kind == Kind::Answer && at < 1 << OFFSET_BITS {
                news.places.push((head.key, at));
            }
            if let Some(booking) = meta.and_then(Booking::parse) {
                books.book(kind, booking);
            }
        }
        None => {}
    })?;
    news.replaces = replaces;
    Ok(news)
}

/// Whether this is the name of a segment, and not a way out of the folder.
fn is_segment_name(name: &str) -> bool {
    name.ends_with(ENDING) && !name.starts_with('.') && !name.contains(['/', '\\', '\n'])
}

/// Names of the segments in a folder, oldest first; none if there is no folder yet.
pub(super) fn list(folder: &Path) -> Result<Vec<String>, AnswersError> {
    let failed = |error| AnswersError::io("read", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && is_segment_name(&name)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether the writer of a segment has ended. If that cannot be told, it has not.
fn has_ended(file: &File) -> bool {
    let has_ended = file.try_lock_shared().is_ok();
    if has_ended {
        let _ = file.unlock();
    }
    has_ended
}

impl Index {
    /// Reads the heads of all records in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, AnswersError> {
        let index = Self { folder: folder.to_owned(), state: RwLock::default(), refreshed: Mutex::default() };
        index.refresh_now()?;
        Ok(index)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn refreshed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.refreshed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others' segments be looked at again before a second is over.
    #[cfg(test)]
    pub(super) fn forget_refresh(&self) {
        *self.refreshed() = None;
    }

    pub(super) fn len(&self) -> usize {
        self.state().places.len()
    }

    pub(super) fn keys(&self) -> Vec<AnswerKey> {
        let mut keys: Vec<AnswerKey> = self.state().places.keys().map(|key| AnswerKey(*key)).collect();
        keys.sort_unstable();
        keys
    }

    /// What is booked to `names` in the segments of others.
    pub(super) fn total(&self, names: &[u8]) -> Spent {
        self.state().totals.get(names).copied().unwrap_or_default()
    }

    /// Calls `each` with every segment of others that is read.
    pub(super) fn each_segment(&self, each: &mut dyn FnMut(usize, &Segment)) {
        for (number, segment) in self.state().segments.iter().enumerate() {
            if let Some(segment) = segment.as_ref().filter(|segment| !segment.is_own) {
                each(number, segment);
            }
        }
    }

    /// Names of segments that others stand for.
    pub(super) fn replaced(&self) -> BTreeSet<String> {
        self.state().replaced.clone()
    }

    /// Keys, segments and places in them of all answers, as they lie.
    pub(super) fn places(&self) -> Vec<([u8; 16], usize, u64)> {
        let mut places: Vec<_> = self.state().places.iter().map(|(key, place)| (*key, segment_of(*place), offset_of(*place))).collect();
        places.sort_unstable_by_key(|(_, segment, offset)| (*segment, *offset));
        places
    }

    /// Has the segment of this name never read as one of others.
    pub(super) fn add_name(&self, name: &str) {
        self.state_mut().known.insert(name.to_owned());
    }

    /// Takes up the segment that this process writes; gives its number.
    pub(super) fn add_own(&self, name: String, file: Arc<File>) -> usize {
        let mut state = self.state_mut();
        let segment =
            Segment { name, file: Some(file), is_own: true, is_done: false, is_damaged: false, scanned: 0, books: Books::default() };
        state.segments.push(Some(segment));
        state.segments.len() - 1
    }

    /// Takes up answers of the segment that this process writes.
    pub(super) fn insert(&self, segment: usize, answers: impl Iterator<Item = ([u8; 16], u64)>) {
        let mut state = self.state_mut();
        for (key, offset) in answers {
            state.places.insert(key, place(segment, offset));
        }
    }

    /// Looks at what other processes wrote, if nobody did within the last second. What goes wrong is said when it is wanted.
    pub(super) fn refresh_if_due(&self) {
        let Ok(mut refreshed) = self.refreshed.try_lock() else { return };
        if refreshed.is_none_or(|last| last.elapsed() >= REFRESH)
            && let Err(error) = self.refresh(&mut refreshed)
        {
            tracing::warn!("{error}");
        }
    }

    /// Looks at what other processes wrote.
    pub(super) fn refresh_now(&self) -> Result<(), AnswersError> {
        self.refresh(&mut self.refreshed())
    }

    fn refresh(&self, refreshed: &mut Option<Instant>) -> Result<(), AnswersError> {
        let mut is_changed = self.grow()?;
        // What vanishes between being listed and being read was joined into a segment that stands in the next list.
        loop {
            let names = list(&self.folder)?;
            let mut is_new = false;
            for name in names {
                if !self.state().known.contains(&name) && self.add(name)? {
                    is_new = true;
                }
            }
            if !is_new {
                break;
            }
            is_changed = true;
        }
        if is_changed {
            let mut totals = Totals::new();
            let mut state = self.state_mut();
            for segment in state.segments.iter().flatten() {
                segment.books.add_to(&mut totals);
            }
            state.totals = totals;
        }
        *refreshed = Some(Instant::now());
        Ok(())
    }

    /// Reads on in the segments of others that may have grown; whether any had.
    fn grow(&self) -> Result<bool, AnswersError> {
        let is_growing = |segment: &Segment| !segment.is_own && !segment.is_done;
        let growing: Vec<usize> = {
            let state = self.state();
            (0..state.segments.len()).filter(|number| state.segments[*number].as_ref().is_some_and(is_growing)).collect()
        };
        let mut is_changed = false;
        for number in growing {
            let Some((file, path)) = self.file(number) else { continue };
            let failed = |error| AnswersError::io("read", &path, error);
            // First whether it can grow, then what it has: the other way round, what comes between would be missed.
            let is_done = has_ended(&file);
            let length = file.metadata().map_err(failed)?.len();
            let (mut books, scanned) = {
                let mut state = self.state_mut();
                let Some(segment) = state.segments[number].as_mut() else { continue };
                if length <= segment.scanned {
                    segment.is_done = is_done;
                    continue;
                }
                // If reading fails, it begins anew.
                (std::mem::take(&mut segment.books), std::mem::take(&mut segment.scanned))
            };
            let news = news(&file, scanned, &mut books).map_err(failed)?;
            is_changed = true;
            let mut state = self.state_mut();
            if let Some(segment) = state.segments[number].as_mut() {
                segment.books = books;
                segment.scanned = news.scanned.end;
                segment.is_done = is_done;
                if news.scanned.gaps > 0 && !std::mem::replace(&mut segment.is_damaged, true) {
                    warn_of_damage(&path);
                }
            }
            state.places.extend(news.places.into_iter().map(|(key, offset)| (key, place(number, offset))));
        }
        Ok(is_changed)
    }

    /// Reads a segment that is new; false if it is not there any more.
    fn add(&self, name: String) -> Result<bool, AnswersError> {
        let path = self.folder.join(&name);
        let failed = |error| AnswersError::io("read", &path, error);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let is_done = has_ended(&file);
        let mut books = Books::default();
        let news = news(&file, 0, &mut books).map_err(failed)?;
        let is_damaged = news.scanned.gaps > 0;
        if is_damaged {
            warn_of_damage(&path);
        }
        let mut state = self.state_mut();
        let number = state.segments.len();
        let file = (state.segments.iter().flatten().filter(|segment| segment.file.is_some()).count() < MAX_OPEN).then(|| Arc::new(file));
        state.known.insert(name.clone());
        state.segments.push(Some(Segment { name, file, is_own: false, is_done, is_damaged, scanned: news.scanned.end, books }));
        state.places.reserve(news.places.len());
        state.places.extend(news.places.into_iter().map(|(key, offset)| (key, place(number, offset))));
        for name in news.replaces {
            for segment in &mut state.segments {
                if segment.as_ref().is_some_and(|segment| segment.name == name && !segment.is_own) {
                    *segment = None;
                }
            }
            state.known.insert(name.clone());
            state.replaced.insert(name);
        }
        Ok(true)
    }

    /// A segment's file and its path.
    fn file(&self, number: usize) -> Option<(Arc<File>, PathBuf)> {
        let (file, path) = {
            let state = self.state();
            let segment = state.segments.get(number)?.as_ref()?;
            (segment.file.clone(), self.folder.join(&segment.name))
        };
        match file {
            Some(file) => Some((file, path)),
            None => File::open(&path).ok().map(|file| (Arc::new(file), path)),
        }
    }

    /// The answer of a key, if it is there and whole.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &AnswerKey) -> Result<Option<T>, AnswersError> {
        let find = || self.state().places.get(&key.0).copied();
        let mut found = find();
        if found.is_none() {
            self.refresh_if_due();
            found = find();
        }
        let Some(place) = found else { return Ok(None) };
        let (segment, offset) = (segment_of(place), offset_of(place));
        let mut file = self.file(segment).map(|(file, path)| (file, path, offset));
        if file.is_none() {
            // Another process has joined it with others.
            self.refresh_now()?;
            file = find().and_then(|place| self.file(segment_of(place)).map(|(file, path)| (file, path, offset_of(place))));
        }
        let Some((file, path, offset)) = file else { return Ok(None) };
        match read_record(&file, offset, &key.0).and_then(|(head, body)| unpack(&head, &body)) {
            Ok(json) => match serde_json::from_slice(&json) {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => tracing::warn!("the answer {key} in {} can't be read, and counts as not there: {error}", path.display()),
            },
            Err(error) => tracing::warn!("the answer {key} in {} can't be read, and counts as not there: {error}", path.display()),
        }
        Ok(None)
    }

    /// The record of a key at a place in a segment: its head, and its body as it is kept.
    pub(super) fn record(&self, segment: usize, offset: u64, key: &[u8; 16]) -> Option<(Head, Vec<u8>)> {
        let (file, _) = self.file(segment)?;
        read_record(&file, offset, key).ok()
    }
}

fn warn_of_damage(path: &Path) {
    tracing::warn!(
        "{} is damaged: what can be read of it is used, and other answers that it had may be asked for, and paid for, again",
        path.display()
    );
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "it is damaged")
}

fn read_record(file: &File, offset: u64, key: &[u8; 16]) -> io::Result<(Head, Vec<u8>)> {
    let mut bytes = vec![0; FIRST_READ];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    let head = Head::parse(&bytes).filter(|head| head.kind == Some(Kind::Answer) && head.key == *key).ok_or_else(damaged)?;
    let length = usize::try_from(head.len()).map_err(|_| damaged())?;
    if length > filled {
        // The file is as long as it says: so nothing is allocated that is not there.
        if offset.saturating_add(head.len()) > file.metadata()?.len() {
            return Err(damaged());
        }
        bytes.resize(length, 0);
        file.read_exact_at(&mut bytes[filled..], offset + filled as u64)?;
    }
    bytes.truncate(length);
    bytes.drain(..HEAD + head.meta_len);
    if head.is_body(&bytes) { Ok((head, bytes)) } else { Err(damaged()) }
}

fn unpack(head: &Head, body: &[u8]) -> io::Result<Vec<u8>> {
    if head.raw_len > super::record::MAX_BODY {
        return Err(damaged());
    }
    zstd::bulk::decompress(body, head.raw_len)
}
