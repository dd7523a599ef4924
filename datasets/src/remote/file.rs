//! An object read like a file: front to back with the next bytes on their way, or at any place.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::task::JoinHandle;

use super::address::{Address, Scheme};
use super::client::{client, runtime, wait};

/// Bytes of the first request of a reader; each further one asks for twice as many, up to [`LARGEST`].
const FIRST: u64 = 256 << 10;
const LARGEST: u64 = 8 << 20;

/// Bytes of a piece that is fetched for the sake of a few of them.
const PIECE: u64 = 1 << 20;

/// Most bytes of pieces that are kept.
const KEPT: u64 = 32 << 20;

/// Ranges that are this near to each other are one request.
const NEAR: u64 = 64 << 10;

/// Requests for one file at once.
const REQUESTS: usize = 4;

/// An object as it was when it was opened. Should another take its place, reading fails.
#[derive(Clone)]
pub struct RemoteFile {
    objects: Arc<dyn ObjectStore>,
    key: Key,
    path: PathBuf,
    bytes: u64,
    /// What tells this object from another of the same name.
    tag: Option<String>,
    /// Whether requests say what tag they want; what a revision names never changes.
    pinned: bool,
    held: Arc<Mutex<Held>>,
    trouble: Arc<Mutex<Option<String>>>,
}

/// Bytes that were fetched and may be wanted again.
#[derive(Default)]
struct Held {
    /// Asked for ahead by [`RemoteFile::hold`].
    ahead: Vec<(u64, Bytes)>,
    /// Pieces by their number, the one used last at the end.
    pieces: VecDeque<(u64, Bytes)>,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl RemoteFile {
    /// Opens the object at an address.
    ///
    /// # Errors
    /// What storage says; there is no such object.
    pub fn open(address: &Address) -> io::Result<Self> {
        let objects = client(address)?.objects;
        Self::of(objects, &address.key, PathBuf::from(address.to_string()), address.scheme == Scheme::S3)
    }

    fn of(objects: Arc<dyn ObjectStore>, key: &str, path: PathBuf, pinned: bool) -> io::Result<Self> {
        let key = Key::parse(key).map_err(io::Error::other)?;
        let ObjectMeta { size, e_tag, .. } = wait(objects.head(&key))?;
        let (held, trouble) = (Arc::default(), Arc::default());
        Ok(Self { objects, key, path, bytes: size, tag: e_tag, pinned, held, trouble })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What tells it from another object of the same name: its entity tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// What last kept it from being read: what looks like damage of the file may be that of a connection.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads from `start` on. Few requests go past `until`, though what is there can be read.
    pub fn reader(&self, start: u64, until: u64) -> RemoteReader {
        RemoteReader { file: self.clone(), at: start, until, ready: Bytes::new(), coming: None, step: FIRST }
    }

    /// Fetches ranges that will be asked for soon; what was held before is let go. Nothing is held if they come to over `most` bytes.
    ///
    /// # Errors
    /// What storage says.
    pub fn hold(&self, ranges: &[Range<u64>], most: u64) -> io::Result<()> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).ahead.clear();
        let inside = |range: &&Range<u64>| range.start < range.end && range.end <= self.bytes;
        let ranges = joined(ranges.iter().filter(inside).cloned().collect());
        if ranges.iter().map(|range| range.end - range.start).sum::<u64>() > most {
            return Ok(());
        }
        let requests: Vec<_> = ranges.iter().map(|range| self.get(range.clone())).collect();
        let fetched: Vec<Bytes> = self.note(wait(futures::stream::iter(requests).buffered(REQUESTS).try_collect()))?;
        let ahead = ranges.iter().map(|range| range.start).zip(fetched).collect();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).ahead = ahead;
        Ok(())
    }

    /// The bytes of a range, all of which the object has.
    ///
    /// # Errors
    /// What storage says; a range past its end.
    pub fn range(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        if range.end > self.bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("wanted bytes up to {}, there are {}", range.end, self.bytes),
            ));
        }
        if let Some(held) = self.held_ahead(&range) {
            return Ok(held);
        }
        if range.end - range.start > PIECE {
            return self.note(wait(self.get(range)));
        }
        let (first, last) = (range.start / PIECE, (range.end - 1) / PIECE);
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
        for number in first..=last {
            let piece = self.piece(number)?;
            let place = |at: u64| usize::try_from(at.clamp(number * PIECE, (number + 1) * PIECE) - number * PIECE).unwrap_or_default();
            let part = piece.slice(place(range.start)..place(range.end));
            if first == last {
                return Ok(part);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.into())
    }

    fn held_ahead(&self, range: &Range<u64>) -> Option<Bytes> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.ahead.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(range.start.checked_sub(*start)?).ok()?;
            let to = usize::try_from(range.end.checked_sub(*start)?).ok()?;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        })
    }

    fn piece(&self, number: u64) -> io::Result<Bytes> {
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = held.pieces.iter().position(|(found, _)| *found == number)
                && let Some(found) = held.pieces.remove(place)
            {
                held.pieces.push_back(found.clone());
                return Ok(found.1);
            }
        }
        let range = number * PIECE..((number + 1) * PIECE).min(self.bytes);
        let bytes = self.note(wait(self.get(range)))?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.pieces.push_back((number, bytes.clone()));
        while held.pieces.len() as u64 * PIECE > KEPT {
            held.pieces.pop_front();
        }
        Ok(bytes)
    }

    /// One request, which owns all it needs.
    fn get(&self, range: Range<u64>) -> impl Future<Output = object_store::Result<Bytes>> + Send + use<> {
        let (objects, key) = (Arc::clone(&self.objects), self.key.clone());
        let if_match = self.tag.clone().filter(|_| self.pinned);
        async move {
            let wanted = range.end - range.start;
            let options = GetOptions { if_match, range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
            let bytes = objects.get_opts(&key, options).await?.bytes().await?;
            if bytes.len() as u64 == wanted {
                return Ok(bytes);
            }
            let source = format!("wanted {wanted} bytes, {} came", bytes.len()).into();
            Err(object_store::Error::Generic { store: "storage", source })
        }
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        result
    }
}

/// The ranges in order, those near to each other as one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(NEAR) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Reads an object from one place on; the bytes after those that are being used are on their way.
pub struct RemoteReader {
    file: RemoteFile,
    /// Where the bytes that were not asked for yet begin.
    at: u64,
    until: u64,
    ready: Bytes,
    coming: Option<JoinHandle<object_store::Result<Bytes>>>,
    step: u64,
}

impl RemoteReader {
    fn ask(&mut self) -> io::Result<()> {
        if self.coming.is_some() || self.at >= self.file.bytes {
            return Ok(());
        }
        let left = if self.at < self.until { self.until - self.at } else { FIRST };
        let end = (self.at + self.step.min(left.max(1))).min(self.file.bytes);
        self.coming = Some(runtime()?.spawn(self.file.get(self.at..end)));
        (self.at, self.step) = (end, (self.step * 2).min(LARGEST));
        Ok(())
    }
}

impl Read for RemoteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            self.ask()?;
            let Some(coming) = self.coming.take() else { return Ok(0) };
            let answer = runtime()?.block_on(coming).map_err(io::Error::other)?;
            self.ready = self.file.note(answer.map_err(super::io_error))?;
            // Past the end of the part only a line's rest is wanted.
            if self.at < self.until {
                self.ask()?;
            }
        }
        let length = buffer.len().min(self.ready.len());
        buffer[..length].copy_from_slice(&self.ready.split_to(length));
        Ok(length)
    }
}

impl Drop for RemoteReader {
    fn drop(&mut self) {
        if let Some(coming) = &self.coming {
            coming.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path as Key;

    use super::*;

    fn file(bytes: &[u8]) -> (Arc<dyn ObjectStore>, RemoteFile) {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        wait(objects.put(&Key::from("a/b"), bytes.to_vec().into())).expect("written");
        let file = RemoteFile::of(Arc::clone(&objects), "a/b", "s3://x/a/b".into(), true).expect("opened");
        (objects, file)
    }

    fn bytes(length: u64) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at * 31 % 251).expect("below 251")).collect()
    }

    #[test]
    fn every_byte_comes_from_any_place() {
        for length in [0, 1, FIRST, 3 * PIECE + 17] {
            let all = bytes(length);
            let (_, file) = file(&all);
            for start in [0, 1, length / 2, length] {
                for until in [0, start, start + FIRST, length] {
                    let mut read = Vec::new();
                    file.reader(start, until).read_to_end(&mut read).expect("read");
                    assert!(read == all[usize::try_from(start.min(length)).unwrap()..], "{length} from {start} until {until}");
                }
            }
        }
    }

    #[test]
    fn ranges_are_those_of_the_object_held_or_not() {
        let all = bytes(3 * PIECE + 17);
        let (_, file) = file(&all);
        let ranges = [0..1, PIECE - 1..PIECE + 1, 5..2 * PIECE + 9, 3 * PIECE..3 * PIECE + 17, 7..7];
        for round in 0..2 {
            for range in &ranges {
                let wanted = &all[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
                assert_eq!(file.range(range.clone()).expect("read"), wanted, "{range:?}, round {round}");
            }
            file.hold(&[4..2 * PIECE + 10, 3 * PIECE..3 * PIECE + 17], KEPT).expect("held");
        }
        assert_eq!(file.range(0..3 * PIECE + 18).expect_err("past the end").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn another_object_in_its_place_is_noticed() {
        let (objects, file) = file(&bytes(2 * PIECE));
        file.range(0..10).expect("read");
        wait(objects.put(&Key::from("a/b"), bytes(2 * PIECE).into())).expect("replaced by the same bytes, with another tag");
        assert!(file.range(PIECE..PIECE + 10).expect_err("changed").to_string().contains("changed while it was read"));
        assert!(file.trouble().is_some());
        let mut read = Vec::new();
        assert!(file.reader(0, 10).read_to_end(&mut read).is_err());
    }
}
