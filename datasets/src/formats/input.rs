//! Opening a file, decompressed where its name says so.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::remote::is_remote;
use crate::{DataError, ReadAt};

/// Bytes that this process has read of inputs, as they lie on disk.
static READ: AtomicU64 = AtomicU64::new(0);

/// Bytes that this process has read of text inputs so far, as they lie on disk: what tells how far a reader of a compressed file has come. They
/// are read some hundred KB at a time.
pub fn input_bytes_read() -> u64 {
    READ.load(Ordering::Relaxed)
}

/// A file whose bytes are counted.
pub(super) struct Counted(pub(super) Box<dyn Read + Send>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        READ.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Bytes of compressed input that are read at a time.
const BUFFER: usize = 256 << 10;

/// The (decompressed) bytes of a file, and whether an error in them is damage of the file rather than the system's.
pub(crate) struct Input {
    bytes: Box<dyn Read + Send>,
    compressed: bool,
    /// The damage that was met: decoders may go on with an end of file, as if nothing had been lost.
    damage: Option<(io::ErrorKind, String)>,
}

impl Input {
    fn of(bytes: impl Read + Send + 'static, compressed: bool) -> Self {
        Self { bytes: Box::new(bytes), compressed, damage: None }
    }

    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let opening = |source| DataError::Io { doing: "open", path: path.to_owned(), source };
        let file = ReadAt::open(path).map_err(opening)?;
        let is_empty = file.bytes() == 0;
        let file = file.reader(0, file.bytes());
        let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        Ok(match extension.as_deref().and_then(|extension| extension.to_str()) {
            Some("gz" | "zst") if is_empty => Self::of(io::empty(), true),
            Some("gz") => Self::of(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, Counted(file))), true),
            Some("zst") => {
                Self::of(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, Counted(file))).map_err(opening)?, true)
            }
            _ => Self::of(Counted(file), false),
        })
    }

    /// The bytes of a plain file from `start` on, most of them before `until`.
    pub(crate) fn open_at(path: &Path, start: u64, until: u64) -> Result<Self, DataError> {
        let opening = |source| DataError::Io { doing: "open", path: path.to_owned(), source };
        Ok(Self::of(Counted(ReadAt::open(path).map_err(opening)?.reader(start, until)), false))
    }

    /// Whether `error` says that the file's contents are damaged; else the system failed, and another try may succeed.
    pub(crate) fn is_damage(&self, error: &io::Error) -> bool {
        self.compressed && error.raw_os_error().is_none() && !is_remote(error)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((kind, problem)) = &self.damage {
            return Err(io::Error::new(*kind, problem.clone()));
        }
        loop {
            match self.bytes.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.is_damage(&error) {
                        self.damage = Some((error.kind(), error.to_string()));
                    }
                    return Err(error);
                }
                read => return read,
            }
        }
    }
}
