//! Reads the heads of a segment's records, and finds the next one behind damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::record::{HEAD, Head, MARK, PREAMBLE};

/// Bytes read at once where records stand close together, and where they do not.
const CHUNK: usize = 1 << 20;
const LEAP: usize = 4 << 10;

/// What takes the place, the head and the meta of a record; no meta if it is damaged.
pub(super) type Each<'e> = &'e mut dyn FnMut(u64, &Head, Option<&[u8]>);

/// What was found in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scanned {
    /// Where to go on when it has grown.
    pub(super) end: u64,
    /// Stretches that are no records, and can't be what a writer left that was stopped in the middle of one.
    pub(super) gaps: u64,
}

/// Calls `each` with every record of `file` from `from` on that is there to its end.
///
/// # Errors
/// If it cannot be read.
pub(super) fn scan(file: &File, from: u64, each: Each<'_>) -> io::Result<Scanned> {
    let mut window = Window { file, end: file.metadata()?.len(), start: 0, bytes: Vec::new() };
    let mut scanned = Scanned { end: from, ..Scanned::default() };
    // The first bytes are for people: where they are damaged, what follows may be whole.
    if from == 0 {
        if window.at(0, PREAMBLE.len())?.starts_with(PREAMBLE) {
            scanned.end = PREAMBLE.len() as u64;
        } else {
            scanned.gaps += 1;
        }
    }
    let mut at = scanned.end;
    loop {
        let Some(head) = Head::parse(window.at(at, HEAD)?) else {
            if let Some(found) = next_head(&mut window, at + 1)? {
                scanned.gaps += 1;
                at = found;
                continue;
            }
            // What a writer leaves that is stopped begins with a head, or with a part of one.
            scanned.gaps += u64::from(window.end.saturating_sub(at) >= HEAD as u64);
            return Ok(scanned);
        };
        // A whole head whose record is not there to its end: the writer was stopped, or is writing. Or a piece was cut out.
        if at.saturating_add(head.len()) > window.end {
            scanned.end = at;
            let Some(found) = next_head(&mut window, at + 1)? else { return Ok(scanned) };
            scanned.gaps += 1;
            at = found;
            continue;
        }
        let bytes = window.at(at, HEAD + head.meta_len)?;
        let meta = bytes.get(HEAD..HEAD + head.meta_len).filter(|meta| head.is_meta(meta));
        each(at, &head, meta);
        at += head.len();
        scanned.end = at;
    }
}

/// Where the next head is, from `from` on.
fn next_head(window: &mut Window<'_>, from: u64) -> io::Result<Option<u64>> {
    let finder = memchr::memmem::Finder::new(&MARK);
    let mut at = from;
    loop {
        let bytes = window.at(at, LEAP)?;
        if bytes.len() < HEAD {
            return Ok(None);
        }
        for found in finder.find_iter(bytes) {
            if Head::parse(&bytes[found..]).is_some() {
                return Ok(Some(at + found as u64));
            }
        }
        // A head that the end of these bytes cuts is met again.
        at += (bytes.len() - (HEAD - 1)) as u64;
    }
}

/// A part of a file.
struct Window<'f> {
    file: &'f File,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes at `at`, so many if the file has them, or more.
    fn at(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let held = self.start + self.bytes.len() as u64;
        if at < self.start || at + wanted as u64 > held {
            // Far from what was read last, records are large: only heads are wanted.
            let chunk = if at > held + (CHUNK / 16) as u64 { LEAP } else { CHUNK };
            let expected = chunk.max(wanted).min(left);
            self.bytes.resize(expected, 0);
            self.start = at;
            let mut filled = 0;
            while filled < self.bytes.len() {
                match self.file.read_at(&mut self.bytes[filled..], at + filled as u64) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.bytes.clear();
                        return Err(error);
                    }
                }
            }
            self.bytes.truncate(filled);
            if filled < expected {
                self.end = at + filled as u64; // it was cut meanwhile
            }
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).unwrap_or_default())
    }
}
