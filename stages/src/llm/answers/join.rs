//! Joins the many small segments that many runs leave.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use super::AnswersError;
use super::index::{Index, list};
use super::ledger::Totals;
use super::own::{NewSegment, UNDER_WAY, sync_folder_of};
use super::record::{self, Booking, Kind};

/// Segments of ended writers that may lie in a folder.
const MAX_SEGMENTS: usize = 64;

/// Bytes of a segment that is left as it is: the others are soon copied.
const MAX_BYTES: u64 = 64 << 20;

/// Who holds it joins; one at a time.
const LOCK: &str = ".join.lock";

/// Names in one record: it has room for a thousand.
const NAMES: usize = 500;

/// Opens a folder, and joins what is to be joined.
pub(super) fn open_joined(folder: &Path) -> Result<Index, AnswersError> {
    let index = Index::open(folder)?;
    match join(&index) {
        Ok(false) => Ok(index),
        Ok(true) => Index::open(folder),
        Err(error) => {
            tracing::warn!("the many small files of answers are not joined: {error}");
            Ok(index)
        }
    }
}

/// Joins the small segments whose writers have ended, if they are many; whether anything was changed.
fn join(index: &Index) -> Result<bool, AnswersError> {
    let folder = index.folder();
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut totals = Totals::new();
    index.each_segment(&mut |number, segment| {
        if segment.is_done && segment.scanned <= MAX_BYTES {
            joined.push((number, segment.name.clone()));
            segment.books.add_to(&mut totals);
        }
    });
    let replaced = index.replaced();
    let there = if replaced.is_empty() { Vec::new() } else { list(folder)? };
    let left: Vec<&String> = there.iter().filter(|name| replaced.contains(*name)).collect();
    let is_many = joined.len() > MAX_SEGMENTS;
    if left.is_empty() && !is_many {
        return Ok(false);
    }
    let failed = |error| AnswersError::io("write", folder, error);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // An earlier joining was ended before these were removed; what stands for them is on the disk.
    remove(folder, left.into_iter())?;
    remove_begun(folder);
    if !is_many {
        return Ok(false);
    }
    if !joined.iter().all(|(_, name)| folder.join(name).exists()) {
        return Ok(true); // another process has joined them between the reading and the lock
    }
    let new = NewSegment::begin(folder)?;
    if let Err(error) = copy(index, &joined, &totals, &new) {
        return Err(new.removed(error));
    }
    drop(new.publish()?);
    remove(folder, joined.iter().map(|(_, name)| name))?;
    Ok(true)
}

/// Writes what `joined` hold: what they came to as totals, so that it is not booked with the answers again.
fn copy(index: &Index, joined: &[(usize, String)], totals: &Totals, new: &NewSegment) -> Result<(), AnswersError> {
    let failed = |error| AnswersError::io("write", &new.path, error);
    let mut out = BufWriter::with_capacity(1 << 20, &new.file);
    let mut bytes = record::PREAMBLE.to_vec();
    for names in joined.chunks(NAMES) {
        let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        record::push(&mut bytes, Kind::Replaces, [0; 16], names.join("\n").as_bytes(), &[], 0);
    }
    for (names, spent) in totals {
        record::push(&mut bytes, Kind::Total, [0; 16], &Booking { receipt: 0, spent: *spent, names }.to_meta(), &[], 0);
    }
    for (key, segment, offset) in index.places() {
        if joined.binary_search_by_key(&segment, |(number, _)| *number).is_ok() {
            // What is damaged counts as not there, and need not be kept.
            if let Some((head, body)) = index.record(segment, offset, &key) {
                record::push(&mut bytes, Kind::Answer, key, &[], &body, head.raw_len);
            }
        }
        if bytes.len() >= 1 << 20 {
            out.write_all(&bytes).map_err(failed)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes).and_then(|()| out.flush()).map_err(failed)
}

fn remove<'n>(folder: &Path, names: impl Iterator<Item = &'n String>) -> Result<(), AnswersError> {
    let mut is_first = true;
    for name in names {
        let path = folder.join(name);
        let failed = |error| AnswersError::io("write", &path, error);
        if std::mem::take(&mut is_first) {
            // What stands for them must not vanish in a power cut that they do not survive, either.
            sync_folder_of(&path).map_err(failed)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Removes segments that were begun and never published, by writers that were ended.
fn remove_begun(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_begun = entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(UNDER_WAY));
        // Only old ones: a writer makes its file and then locks it.
        let is_old = || {
            entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_secs(3600)))
        };
        if is_begun && is_old() && fs::File::open(entry.path()).is_ok_and(|file| file.try_lock_shared().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
