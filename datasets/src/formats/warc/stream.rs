//! The bytes of a WARC or ARC file as if it were not compressed, with the places where gzip members or zstd frames begin, and where damage is.
//! What is damaged ends a segment of the file; the next segment begins with the next member that holds a record.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use memchr::memmem;
use zstd::stream::read::Decoder as ZstDecoder;

use super::super::input::Counted;
use super::record::begins_record;
use crate::{DataError, ReadAt};

/// Bytes that are read at a time.
const BLOCK: usize = 256 << 10;
/// Longest dictionary of a zstd file.
const DICTIONARY: usize = 16 << 20;
const GZIP: &[u8] = b"\x1F\x8B\x08";
const ZSTD: &[u8] = b"\x28\xB5\x2F\xFD";
/// What frames that hold no data begin with, but for four bits.
const ZSTD_SKIPPED: &[u8] = b"\x2A\x4D\x18";
/// The frame that holds the dictionary of all others.
///
/// Source: IIPC, *The WARC file format with Zstandard compression*, 1.0.
const ZSTD_DICTIONARY: &[u8] = b"\x5D\x2A\x4D\x18";

/// Why no more bytes come for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The file is at its end.
    File,
    /// It is damaged here.
    Damage(String),
    /// The last member was whole, but what follows is none.
    NoMember,
}

/// A file as it lies on disk, read on from any place.
struct Raw {
    file: ReadAt,
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    next: usize,
    filled: usize,
    /// Offset in the file of `buffer[0]`.
    first: u64,
    /// An error of the system's; what a decoder makes of it is no damage.
    failed: Option<io::Error>,
}

impl Raw {
    fn open(path: &Path) -> io::Result<Self> {
        let file = ReadAt::open(path)?;
        let reader = Box::new(Counted(file.reader(0, file.bytes())));
        Ok(Self { file, reader, buffer: vec![0; BLOCK], next: 0, filled: 0, first: 0, failed: None })
    }

    fn at(&self) -> u64 {
        self.first + self.next as u64
    }

    fn seek(&mut self, to: u64) {
        if let Ok(next) = usize::try_from(to.wrapping_sub(self.first))
            && next <= self.filled
        {
            self.next = next;
            return;
        }
        self.reader = Box::new(Counted(self.file.reader(to, self.file.bytes())));
        (self.next, self.filled, self.first) = (0, 0, to);
    }

    /// Up to `most` of the next bytes, fewer only at the end of the file.
    fn peek(&mut self, most: usize) -> io::Result<&[u8]> {
        while self.filled - self.next < most {
            if self.next > 0 && self.filled == self.buffer.len() {
                self.buffer.copy_within(self.next..self.filled, 0);
                self.first += self.next as u64;
                self.filled -= self.next;
                self.next = 0;
            }
            if self.filled == self.buffer.len() {
                break;
            }
            match self.reader.read(&mut self.buffer[self.filled..]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(io::Error::new(error.kind(), error.to_string()));
                    return Err(error);
                }
            }
        }
        Ok(&self.buffer[self.next..self.filled.min(self.next + most)])
    }

    /// Goes on to where `magic` stands; whether it does.
    fn find(&mut self, magic: &[u8]) -> io::Result<bool> {
        let finder = memmem::Finder::new(magic);
        loop {
            let bytes = self.peek(BLOCK / 2)?;
            let length = bytes.len();
            if let Some(found) = finder.find(bytes) {
                self.next += found;
                return Ok(true);
            }
            if length < BLOCK / 2 {
                self.next += length;
                return Ok(false);
            }
            self.next += length - magic.len();
        }
    }

    /// A few bytes of elsewhere.
    fn bytes_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut cursor = self.file.cursor(at);
        let mut read = 0;
        while read < bytes.len() {
            match cursor.read(&mut bytes[read..])? {
                0 => break,
                n => read += n,
            }
        }
        Ok(read)
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.next == self.filled {
            self.first += self.next as u64;
            (self.next, self.filled) = (0, 0);
        }
        self.peek(1)?;
        Ok(&self.buffer[self.next..self.filled])
    }

    fn consume(&mut self, length: usize) {
        self.next += length;
    }
}

/// How a file is compressed.
enum Packing {
    Plain,
    Gzip,
    Zstd { dictionary: Vec<u8> },
}

enum Inner {
    /// Not compressed, or between members.
    Raw(Box<Raw>),
    Gzip(Box<GzDecoder<Raw>>),
    Zstd(Box<ZstDecoder<'static, Raw>>),
    /// Only while one takes the place of another.
    Nothing,
}

impl Inner {
    fn into_raw(self) -> io::Result<Raw> {
        match self {
            Self::Raw(raw) => Ok(*raw),
            Self::Gzip(decoder) => Ok(decoder.into_inner()),
            Self::Zstd(decoder) => Ok(decoder.finish()),
            Self::Nothing => Err(io::Error::other("a file that is read by nobody")),
        }
    }
}

/// The unpacked bytes of one file.
pub(super) struct Stream {
    path: PathBuf,
    inner: Inner,
    packing: Packing,
    /// Unread bytes are `buffer[start..filled]`.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Offset of `buffer[start]` among all unpacked bytes.
    offset: u64,
    /// Where members begin, from the last one before what is unread: among the unpacked bytes, and in the file.
    members: VecDeque<(u64, u64)>,
    ended: Option<Ended>,
    /// Whether its records begin as those of ARC files do.
    is_arc: bool,
    /// Where the next member is looked for, should this one be damaged.
    resume: u64,
    /// Bytes of the file that were read and then read again for the sake of damage, and how many may be.
    again: u64,
    most_again: u64,
}

impl Stream {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |doing: &'static str| move |source| DataError::Io { doing, path: path.to_owned(), source };
        let mut raw = Raw::open(path).map_err(failed("open"))?;
        let most_again = raw.file.bytes().saturating_mul(8).saturating_add(64 << 20);
        let magic = raw.peek(4).map_err(failed("read"))?;
        let packing = if magic.starts_with(&GZIP[..2]) {
            Packing::Gzip
        } else if magic.starts_with(ZSTD) || magic.ends_with(ZSTD_SKIPPED) {
            Packing::Zstd { dictionary: Vec::new() }
        } else {
            Packing::Plain
        };
        let mut stream = Self {
            path: path.to_owned(),
            inner: Inner::Raw(Box::new(raw)),
            packing,
            buffer: vec![0; 2 * BLOCK],
            start: 0,
            filled: 0,
            offset: 0,
            members: VecDeque::new(),
            ended: None,
            is_arc: false,
            resume: 0,
            again: 0,
            most_again,
        };
        if !matches!(stream.packing, Packing::Plain) {
            stream.next_member()?;
        }
        Ok(stream)
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::Io { doing: "read", path: self.path.clone(), source }
    }

    pub(super) fn set_arc(&mut self, is_arc: bool) {
        self.is_arc = is_arc;
    }

    /// Whether the file is not compressed.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.packing, Packing::Plain)
    }

    /// What is unread and held.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.filled]
    }

    /// Offset of what is unread among all unpacked bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where a record at `offset` begins in the file itself: at its member, if it is compressed.
    pub(super) fn place(&self, offset: u64) -> u64 {
        match self.packing {
            Packing::Plain => offset,
            Packing::Gzip | Packing::Zstd { .. } => {
                let next = self.members.partition_point(|(at, _)| *at <= offset);
                next.checked_sub(1).and_then(|at| self.members.get(at)).map_or(0, |(_, place)| *place)
            }
        }
    }

    /// Why there is no more than what is held; `None` while there may be.
    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The places in what is held, from `from` to before `to`, where a member begins.
    pub(super) fn members_within(&self, from: usize, to: usize) -> impl Iterator<Item = usize> {
        let (from, to) = (self.offset + from as u64, self.offset + to as u64);
        let offset = self.offset;
        let first = self.members.partition_point(|(at, _)| *at < from);
        let within = self.members.range(first..).map(|(at, _)| *at).take_while(move |at| *at < to);
        within.filter_map(move |at| usize::try_from(at - offset).ok())
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
        while self.members.get(1).is_some_and(|(at, _)| *at <= self.offset) {
            self.members.pop_front();
        }
    }

    /// Holds at least `wanted` unread bytes, unless the file ends or is damaged before; how many it holds.
    pub(super) fn fill(&mut self, wanted: usize) -> Result<usize, DataError> {
        while self.filled - self.start < wanted && self.ended.is_none() {
            self.read_block()?;
        }
        Ok(self.filled - self.start)
    }

    fn read_block(&mut self) -> Result<(), DataError> {
        let held = self.filled - self.start;
        if self.start > self.buffer.len() / 2 || held == 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            (self.start, self.filled) = (0, held);
            if self.buffer.len() > 64 * BLOCK && held < BLOCK {
                self.buffer = Vec::from(&self.buffer[..2 * BLOCK]); // one long record is no reason to hold its space for the rest of the file
            }
        }
        if self.buffer.len() - self.filled < BLOCK {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let free = &mut self.buffer[self.filled..];
        let read = match &mut self.inner {
            Inner::Raw(raw) => raw.read(free),
            Inner::Gzip(decoder) => decoder.read(free),
            Inner::Zstd(decoder) => decoder.read(free),
            Inner::Nothing => Ok(0),
        };
        match read {
            Ok(0) if matches!(self.packing, Packing::Plain) => self.ended = Some(Ended::File),
            Ok(0) => self.next_member()?,
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let mut raw = std::mem::replace(&mut self.inner, Inner::Nothing).into_raw().map_err(|error| self.failed(error))?;
                if let Some(source) = raw.failed.take() {
                    return Err(self.failed(source));
                }
                self.again = self.again.saturating_add(raw.at().saturating_sub(self.resume));
                self.inner = Inner::Raw(Box::new(raw));
                self.ended = Some(Ended::Damage(error.to_string()));
            }
        }
        Ok(())
    }

    /// Opens the member that begins where the last one ended.
    fn next_member(&mut self) -> Result<(), DataError> {
        let mut raw = std::mem::replace(&mut self.inner, Inner::Nothing).into_raw().map_err(|error| self.failed(error))?;
        let read = self.member_at(&mut raw);
        let place = raw.at();
        match read {
            Err(source) => return Err(self.failed(raw.failed.take().unwrap_or(source))),
            Ok(Next::End) => {
                self.ended = Some(Ended::File);
                self.inner = Inner::Raw(Box::new(raw));
            }
            Ok(Next::Other) => {
                self.resume = place;
                self.ended = Some(Ended::NoMember);
                self.inner = Inner::Raw(Box::new(raw));
            }
            Ok(Next::Member) => {
                self.resume = place + 1;
                self.begin_member(self.offset + (self.filled - self.start) as u64, place);
                self.inner = self.open_member(raw)?;
            }
        }
        Ok(())
    }

    /// Of members that begin at one place, all but the last are empty.
    fn begin_member(&mut self, at: u64, place: u64) {
        match self.members.back_mut() {
            Some(last) if last.0 == at => last.1 = place,
            _ => self.members.push_back((at, place)),
        }
    }

    /// Passes over what holds no records, and says what comes then.
    fn member_at(&mut self, raw: &mut Raw) -> io::Result<Next> {
        loop {
            let at = raw.at();
            let start = raw.peek(8)?;
            match &mut self.packing {
                _ if start.is_empty() => return Ok(Next::End),
                Packing::Plain => return Ok(Next::Other),
                Packing::Gzip if start.starts_with(GZIP) => return Ok(Next::Member),
                Packing::Zstd { .. } if start.starts_with(ZSTD) => return Ok(Next::Member),
                Packing::Zstd { dictionary } if start.len() == 8 && start[1..].starts_with(ZSTD_SKIPPED) && start[0] & 0xF0 == 0x50 => {
                    let is_dictionary = start.starts_with(ZSTD_DICTIONARY) && at == 0;
                    let length = u32::from_le_bytes([start[4], start[5], start[6], start[7]]);
                    let begins = at + 8;
                    raw.seek(begins);
                    if is_dictionary {
                        let mut bytes = Vec::new();
                        let held = u64::from(length).min(DICTIONARY as u64);
                        raw.take(held).read_to_end(&mut bytes)?;
                        if bytes.starts_with(ZSTD) {
                            let mut unpacked = Vec::new();
                            // One that can't be unpacked leaves every frame damaged, which is what is told.
                            let _ = ZstDecoder::with_buffer(&bytes[..])?.take(DICTIONARY as u64).read_to_end(&mut unpacked);
                            bytes = unpacked;
                        }
                        *dictionary = bytes;
                    }
                    raw.seek(begins + u64::from(length));
                }
                // Some systems fill files up with zeros.
                _ if start.iter().all(|byte| *byte == 0) => {
                    let zeros = start.len();
                    raw.consume(zeros);
                }
                _ => return Ok(Next::Other),
            }
        }
    }

    fn open_member(&self, raw: Raw) -> Result<Inner, DataError> {
        Ok(match &self.packing {
            Packing::Plain => Inner::Raw(Box::new(raw)),
            Packing::Gzip => Inner::Gzip(Box::new(GzDecoder::new(raw))),
            Packing::Zstd { dictionary } => {
                let decoder =
                    if dictionary.is_empty() { ZstDecoder::with_buffer(raw) } else { ZstDecoder::with_dictionary(raw, dictionary) };
                Inner::Zstd(Box::new(decoder.map_err(|error| self.failed(error))?.single_frame()))
            }
        })
    }

    /// Lets go of what is left of a damaged segment and goes on with the next member that begins with a record; whether there is one.
    pub(super) fn next_segment(&mut self) -> Result<bool, DataError> {
        self.consume(self.filled - self.start);
        self.offset += 1; // what was damaged has a place of its own, though nothing of it could be unpacked
        let magic = match self.packing {
            Packing::Plain => return Ok(false),
            Packing::Gzip => GZIP,
            Packing::Zstd { .. } => ZSTD,
        };
        let mut raw = std::mem::replace(&mut self.inner, Inner::Nothing).into_raw().map_err(|error| self.failed(error))?;
        raw.seek(self.resume);
        loop {
            let found = self.again <= self.most_again && raw.find(magic).map_err(|source| self.failed(source))?;
            if !found {
                self.inner = Inner::Raw(Box::new(raw));
                self.ended = Some(Ended::File);
                return Ok(false);
            }
            let place = raw.at();
            let mut member = self.open_member(raw)?;
            let mut first = [0; 64];
            let mut held = 0;
            while held < first.len() {
                let read = match &mut member {
                    Inner::Gzip(decoder) => decoder.read(&mut first[held..]),
                    Inner::Zstd(decoder) => decoder.read(&mut first[held..]),
                    Inner::Raw(_) | Inner::Nothing => Ok(0),
                };
                match read {
                    Ok(0) => break,
                    Ok(read) => held += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            if begins_record(&first[..held], self.is_arc) {
                (self.start, self.filled) = (0, held);
                self.buffer[..held].copy_from_slice(&first[..held]);
                self.begin_member(self.offset, place);
                self.resume = place + 1;
                self.inner = member;
                self.ended = None;
                return Ok(true);
            }
            raw = member.into_raw().map_err(|error| self.failed(error))?;
            if let Some(source) = raw.failed.take() {
                return Err(self.failed(source));
            }
            self.again = self.again.saturating_add(raw.at().saturating_sub(place));
            raw.seek(place + 1);
        }
    }

    /// The bytes at `ahead` bytes from here, of a file that is not compressed; `None` where that can't be told.
    pub(super) fn look_ahead(&self, ahead: u64) -> Result<Option<Vec<u8>>, DataError> {
        let Inner::Raw(raw) = &self.inner else { return Ok(None) };
        if !matches!(self.packing, Packing::Plain) {
            return Ok(None);
        }
        let at = self.offset.saturating_add(ahead);
        if at > raw.file.bytes() {
            return Ok(None);
        }
        let mut bytes = vec![0; 16];
        let read = raw.bytes_at(at, &mut bytes).map_err(|source| self.failed(source))?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// Passes over `bytes` without holding them: up to there, to where the segment ends, or to a member that begins with a record.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), DataError> {
        let end = self.offset.saturating_add(bytes);
        if let (Packing::Plain, Inner::Raw(raw)) = (&self.packing, &mut self.inner)
            && end > self.offset + (self.filled - self.start) as u64
        {
            raw.seek(end);
            (self.start, self.filled, self.offset, self.ended) = (0, 0, end, None);
            return Ok(());
        }
        let mut from = 1; // not the member that this record began in
        loop {
            let held = self.fill(64)?;
            let left = usize::try_from(end - self.offset).unwrap_or(usize::MAX);
            let next = self.members_within(std::mem::take(&mut from), held).find(|at| begins_record(&self.unread()[*at..], self.is_arc));
            // What begins a record may not be all there yet.
            let sure = if self.ended.is_some() { held } else { held.saturating_sub(32).max(1) };
            match next {
                Some(at) if at <= left => {
                    self.consume(at);
                    return Ok(());
                }
                _ if held >= left => {
                    self.consume(left);
                    return Ok(());
                }
                _ if held == 0 => return Ok(()),
                _ => self.consume(sure.min(held)),
            }
            if self.ended.is_some() {
                return Ok(());
            }
        }
    }
}

enum Next {
    Member,
    End,
    Other,
}
