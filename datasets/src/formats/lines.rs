//! Lines of a file, found by their line feeds; a line that is too long is passed over without being held.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::FilePart;
use super::input::Input;
use super::plan::is_compressed;
use crate::DataError;

/// Bytes that are read at a time.
const BLOCK: usize = 256 << 10;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line without its line end, and the offset it begins at.
    Text(u64, &'a [u8]),
    /// A line over the limit: its offset and length.
    TooLong(u64, u64),
    /// The file is damaged: offset of the line that it breaks off in, and what is wrong.
    Damaged(u64, String),
    /// No more lines.
    End,
}

/// The lines that begin in one part of a file.
pub(crate) struct Lines {
    input: Input,
    path: PathBuf,
    file: Arc<str>,
    max_bytes: usize,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..filled]`; no line feed is in `buffer[start..searched]`.
    start: usize,
    searched: usize,
    filled: usize,
    /// Offset in the file of `buffer[start]`.
    offset: u64,
    /// Lines that begin here or later belong to the next part.
    end: u64,
    /// Bytes of a line over the limit that are already thrown away.
    skipped: u64,
    at_end: bool,
    finished: bool,
}

impl Lines {
    pub(crate) fn open(part: &FilePart, file: Arc<str>, max_bytes: u64) -> Result<Self, DataError> {
        // A compressed file is always one part; its offsets are those of the text in it.
        let whole = part.start == 0 || is_compressed(&part.path);
        let from = if whole { 0 } else { part.start - 1 };
        let input = if whole { Input::open(&part.path)? } else { Input::open_at(&part.path, from, part.end)? };
        let end = if is_compressed(&part.path) { u64::MAX } else { part.end };
        let mut lines = Self {
            input,
            path: part.path.clone(),
            file,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            buffer: vec![0; BLOCK],
            start: 0,
            searched: 0,
            filled: 0,
            offset: from,
            end,
            skipped: 0,
            at_end: false,
            finished: false,
        };
        if whole {
            lines.skip_byte_order_mark()?;
        } else {
            // The line that the byte before the part belongs to began earlier.
            lines.next_line()?;
        }
        Ok(lines)
    }

    /// The file's name, as ids have it.
    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), DataError> {
        while self.filled < 3 && !self.at_end {
            match self.fill() {
                Ok(()) => {}
                Err(error) if self.input.is_damage(&error) => return Ok(()), // found again by next_line
                Err(source) => return Err(DataError::Io { doing: "read", path: self.path.clone(), source }),
            }
        }
        if self.buffer[..self.filled].starts_with(b"\xEF\xBB\xBF") {
            (self.start, self.searched, self.offset) = (3, 3, 3);
            if self.end > 0 {
                self.end = self.end.max(4); // the line behind the mark begins where the file does, for whoever comes next
            }
        }
        Ok(())
    }

    pub(crate) fn next_line(&mut self) -> Result<Line<'_>, DataError> {
        if self.finished || self.skipped == 0 && self.offset >= self.end {
            self.finished = true;
            return Ok(Line::End);
        }
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..self.filled]) {
                let (start, stop) = (self.start, self.searched + found);
                let (offset, skipped) = (self.offset, std::mem::take(&mut self.skipped));
                let length = skipped + (stop - start) as u64;
                self.offset += length + 1;
                (self.start, self.searched) = (stop + 1, stop + 1);
                if skipped > 0 || stop - start > self.max_bytes {
                    return Ok(Line::TooLong(offset, length));
                }
                return Ok(Line::Text(offset, without_return(&self.buffer[start..stop])));
            }
            self.searched = self.filled;
            if self.at_end {
                self.finished = true;
                let length = self.skipped + (self.filled - self.start) as u64;
                return Ok(if length == 0 {
                    Line::End
                } else if self.skipped > 0 || self.filled - self.start > self.max_bytes {
                    Line::TooLong(self.offset, length)
                } else {
                    Line::Text(self.offset, without_return(&self.buffer[self.start..self.filled]))
                });
            }
            if self.filled - self.start > self.max_bytes.saturating_add(1) {
                self.skipped += (self.filled - self.start) as u64;
                (self.start, self.searched, self.filled) = (0, 0, 0);
            }
            if let Err(error) = self.fill() {
                self.finished = true;
                if self.input.is_damage(&error) {
                    return Ok(Line::Damaged(self.offset, error.to_string()));
                }
                return Err(DataError::Io { doing: "read", path: self.path.clone(), source: error });
            }
        }
    }

    /// Reads a block behind what is unread.
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.filled < BLOCK / 2 {
            self.buffer.resize((self.buffer.len() * 2).max(BLOCK), 0);
        } else if self.buffer.len() > 16 * BLOCK && self.filled < BLOCK {
            // One long line is no reason to hold its space for the rest of the file.
            self.buffer = Vec::from(&self.buffer[..2 * BLOCK]);
        }
        let read = self.input.read(&mut self.buffer[self.filled..])?;
        self.filled += read;
        self.at_end = read == 0;
        Ok(())
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn read(path: &std::path::Path, start: u64, end: u64, max: u64) -> Vec<String> {
        let part = FilePart { path: path.to_owned(), name: "f".to_owned(), start, end };
        let mut lines = Lines::open(&part, "f".into(), max).unwrap();
        let mut all = Vec::new();
        loop {
            match lines.next_line().unwrap() {
                Line::End => return all,
                Line::Text(offset, text) => all.push(format!("{offset} {}", String::from_utf8_lossy(text))),
                Line::TooLong(offset, length) => all.push(format!("{offset} too long {length}")),
                Line::Damaged(offset, _) => all.push(format!("{offset} damaged")),
            }
        }
    }

    #[test]
    fn byte_order_mark_returns_and_long_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        std::fs::write(&path, b"\xEF\xBB\xBFab\r\n\n123456\nlast").unwrap();
        assert_eq!(read(&path, 0, 99, 5), ["3 ab", "7 ", "8 too long 6", "15 last"]);
        std::fs::write(&path, [b"a\n".as_slice(), &vec![b'x'; 3_000_000], b"\nb\n"].concat()).unwrap();
        assert_eq!(read(&path, 0, u64::MAX, 1_000_000), ["0 a", "2 too long 3000000", "3000003 b"]);
    }

    #[test]
    fn what_came_before_the_damage_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
        let zst = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        for (name, bytes) in [("f.zst", zst), ("f.gz", gz.finish().unwrap())] {
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(&path, 0, 1, 99).len(), 40_000);
            std::fs::write(&path, [bytes.as_slice(), &bytes].concat()).unwrap();
            assert_eq!(read(&path, 0, 1, 99).len(), 80_000, "two members of {name}");
            std::fs::write(&path, &bytes[..bytes.len() * 9 / 10]).unwrap();
            let cut = read(&path, 0, 1, 99);
            assert!(cut.len() > 1000, "{name}: {}", cut.len());
            let whole: u64 = cut[..cut.len() - 1].iter().map(|line| line.split_once(' ').unwrap().1.len() as u64 + 1).sum();
            assert_eq!(*cut.last().unwrap(), format!("{whole} damaged"));
        }
    }

    proptest! {
        #[test]
        fn ranges_give_every_line_once(lines in proptest::collection::vec("[a-c\r]{0,6}", 0..20), cuts in proptest::collection::vec(0_u64..100, 0..4), ended: bool, marked: bool) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f.jsonl");
            let mut text = lines.join("\n");
            if ended { text.push('\n'); }
            if marked { text.insert(0, '\u{feff}'); }
            std::fs::write(&path, &text).unwrap();
            let length = text.len() as u64;
            let mut borders: Vec<u64> = cuts.into_iter().filter(|cut| *cut < length).collect();
            borders.extend([0, length]);
            borders.sort_unstable();
            let ranges: Vec<String> = borders.windows(2).flat_map(|pair| read(&path, pair[0], pair[1], 99)).collect();
            prop_assert_eq!(ranges, read(&path, 0, length, 99));
        }
    }
}
