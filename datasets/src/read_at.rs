//! A file of this machine or of object storage, read at any place.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::remote::{Address, RemoteFile};

/// A file to be read at any place; clones share it.
#[derive(Debug, Clone)]
pub enum ReadAt {
    /// A file of this machine, and its length.
    Local(Arc<File>, u64),
    /// An object.
    Remote(RemoteFile),
    /// Bytes that are here already.
    Memory(Bytes),
}

impl ReadAt {
    /// Opens the file at a path or an address.
    ///
    /// # Errors
    /// What the system or storage says.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(address) = Address::of(path) {
            return Ok(Self::Remote(RemoteFile::open(&address)?));
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self::Local(Arc::new(file), bytes))
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Local(_, bytes) => *bytes,
            Self::Remote(file) => file.bytes(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Its bytes from `start` on; of an object, few of those past `until` are fetched.
    pub fn reader(&self, start: u64, until: u64) -> Box<dyn Read + Send> {
        match self {
            Self::Remote(file) => Box::new(file.reader(start, until)),
            Self::Local(..) | Self::Memory(_) => Box::new(self.cursor(start)),
        }
    }

    /// A place in it, for one who goes back and forth; nothing is fetched ahead.
    pub fn cursor(&self, at: u64) -> Cursor {
        Cursor { file: self.clone(), at }
    }

    /// What kept it from being read, where that is no sign of damage.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Local(..) | Self::Memory(_) => None,
            Self::Remote(file) => file.trouble(),
        }
    }
}

fn rest(bytes: &Bytes, start: u64) -> Bytes {
    bytes.slice(usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len())..)
}

impl Length for ReadAt {
    fn len(&self) -> u64 {
        self.bytes()
    }
}

impl ChunkReader for ReadAt {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(self.cursor(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let short = |there: usize| ParquetError::EOF(format!("wanted {length} bytes, {there} are there"));
        match self {
            Self::Local(..) => {
                let mut bytes = Vec::with_capacity(length);
                let read = self.cursor(start).take(length as u64).read_to_end(&mut bytes)?;
                if read == length { Ok(bytes.into()) } else { Err(short(read)) }
            }
            Self::Remote(file) => Ok(file.range(start..start.saturating_add(length as u64))?),
            Self::Memory(bytes) => {
                let rest = rest(bytes, start);
                if rest.len() < length { Err(short(rest.len())) } else { Ok(rest.slice(..length)) }
            }
        }
    }
}

/// A place in a file, to read on from; others read the file elsewhere at the same time.
#[derive(Debug, Clone)]
pub struct Cursor {
    file: ReadAt,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &self.file {
            ReadAt::Local(file, _) => file.read_at(buffer, self.at)?,
            ReadAt::Remote(file) => {
                let end = self.at.saturating_add(buffer.len() as u64).min(file.bytes());
                let bytes = file.range(self.at.min(end)..end)?;
                buffer[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }
            ReadAt::Memory(bytes) => {
                let rest = rest(bytes, self.at);
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                length
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.bytes().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_bytes_are_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        for file in [ReadAt::open(&path).unwrap(), ReadAt::Memory(bytes.clone().into())] {
            assert_eq!(file.bytes(), 100_000);
            assert_eq!(file.get_bytes(5, 7).unwrap(), bytes[5..12]);
            assert!(file.get_bytes(99_999, 2).is_err());
            assert!(file.get_bytes(200_000, 1).is_err());
            let mut read = Vec::new();
            file.reader(70_000, 0).read_to_end(&mut read).unwrap();
            assert!(read == bytes[70_000..]);
            let (mut here, mut there) = (file.cursor(0), file.cursor(50_000));
            let (mut a, mut b) = ([0; 3], [0; 3]);
            for round in 0..3 {
                here.read_exact(&mut a).unwrap();
                there.read_exact(&mut b).unwrap();
                assert_eq!((&a[..], &b[..]), (&bytes[round * 3..][..3], &bytes[50_000 + round * 3..][..3]));
            }
            assert_eq!(here.seek(SeekFrom::End(-1)).unwrap(), 99_999);
            assert_eq!(here.read(&mut a).unwrap(), 1);
            assert_eq!(here.read(&mut a).unwrap(), 0);
            assert!(here.seek(SeekFrom::Current(-200_000)).is_err());
        }
    }
}
