//! The segment that this process writes, made when there is something to write, and the thread that puts answers on the disk.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::Spent;
use super::index::{ENDING, Index};
use super::ledger::Books;
use super::record::{self, Booking, Kind, PREAMBLE};
use super::{AnswersError, now_ms};

/// From one waiting for the disk to the next. It takes a core 0.2 ms: at 1,280 answers a second, each at once took 75 µs of a core an answer,
/// and with this pause 50.
const PAUSE: Duration = Duration::from_millis(10);

/// Ending of a segment's name before others see it.
pub(super) const UNDER_WAY: &str = ".new";

/// Who holds it may reserve.
const TURNS: &str = ".turn.lock";

/// As good as higher levels on texts of this length, in half the time.
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<io::Result<zstd::bulk::Compressor<'static>>> = RefCell::new(zstd::bulk::Compressor::new(LEVEL));
}

/// An answer to keep.
pub(super) struct New<'j> {
    pub(super) key: [u8; 16],
    pub(super) json: &'j [u8],
    /// The reservation it resolves; 0 for none.
    pub(super) receipt: u64,
    pub(super) names: Arc<[u8]>,
    pub(super) spent: Spent,
}

/// What is told when an answer is on the disk.
type Kept = oneshot::Receiver<Result<(), AnswersError>>;

/// An answer that is written and waits for the disk.
struct Job {
    key: [u8; 16],
    receipt: u64,
    names: Arc<[u8]>,
    spent: Spent,
    written: Written,
    done: oneshot::Sender<Result<(), AnswersError>>,
}

impl Job {
    fn booking(&self) -> Booking<'_> {
        Booking { receipt: self.receipt, spent: self.spent, names: &self.names }
    }
}

/// What writes. Dropping it waits until all that was sent is on the disk.
pub(super) struct Writer {
    own: Arc<Own>,
    thread: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

/// Ends a turn when it is dropped.
pub(super) struct Turn<'w>(MutexGuard<'w, Option<File>>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(File::unlock);
    }
}

/// The segment that this process writes.
struct Own {
    index: Arc<Index>,
    segment: Mutex<Segment>,
    books: Mutex<Books>,
    /// The file by which processes take turns at reserving, once it is needed.
    turns: Mutex<Option<File>>,
    /// Held while the disk is waited for.
    syncing: Mutex<()>,
    /// Reservations made so far.
    receipts: AtomicU64,
    /// Answers handed in, and times that the disk was waited for.
    sent: AtomicU64,
    syncs: AtomicU64,
}

enum Segment {
    /// Nothing was written yet.
    None,
    Open {
        file: Arc<File>,
        path: PathBuf,
        number: usize,
        bytes: u64,
    },
    /// Writing failed: what came after would stand behind a hole, or the system has forgotten that it failed.
    Broken(AnswersError),
}

/// Where something was written.
struct Written {
    file: Arc<File>,
    path: PathBuf,
    number: usize,
    start: u64,
}

/// What is said when the thread that writes is gone.
pub(super) fn stopped(folder: &Path) -> AnswersError {
    AnswersError::io("write", folder, io::Error::other("what writes it has ended"))
}

impl Writer {
    pub(super) fn new(index: Arc<Index>) -> Self {
        let own = Own {
            index,
            segment: Mutex::new(Segment::None),
            books: Mutex::default(),
            turns: Mutex::default(),
            syncing: Mutex::default(),
            receipts: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        };
        Self { own: Arc::new(own), thread: Mutex::default() }
    }

    /// Writes an answer, which outlives the process then; what it gives tells when it outlives the machine.
    pub(super) fn write(&self, new: New<'_>) -> Result<Kept, AnswersError> {
        let failed = |error| AnswersError::io("write", self.own.index.folder(), error);
        let body = COMPRESSOR.with_borrow_mut(|compressor| match compressor {
            Ok(compressor) => compressor.compress(new.json),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
        let body = body.map_err(failed)?;
        if body.len() > record::MAX_BODY {
            return Err(AnswersError::TooLarge { bytes: body.len() });
        }
        let New { key, json, receipt, names, spent } = new;
        let mut bytes = Vec::with_capacity(body.len() + 256);
        record::push(&mut bytes, Kind::Answer, key, &Booking { receipt, spent, names: &names }.to_meta(), &body, json.len());
        let written = self.own.append(&bytes)?;
        let (done, kept) = oneshot::channel();
        self.send(Job { key, receipt, names, spent, written, done })?;
        Ok(kept)
    }

    fn send(&self, job: Job) -> Result<(), AnswersError> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (sender, jobs) = mpsc::channel();
            let own = Arc::clone(&self.own);
            let run = move || own.run(&jobs);
            let spawned = std::thread::Builder::new().name("answers".to_owned()).spawn(run);
            *thread = Some((sender, spawned.map_err(|error| AnswersError::io("write", self.own.index.folder(), error))?));
        }
        match &*thread {
            Some((sender, _)) => {
                sender.send(job).map_err(|_| stopped(self.own.index.folder()))?;
                self.own.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            None => Err(stopped(self.own.index.folder())),
        }
    }

    /// Waits until no other thread and no other process has its turn.
    pub(super) fn turn(&self) -> Result<Turn<'_>, AnswersError> {
        let mut turns = self.own.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.is_none() {
            let path = self.own.index.folder().join(TURNS);
            make_folder(self.own.index.folder())?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            *turns = Some(file.map_err(|error| AnswersError::io("write", &path, error))?);
        }
        // Where files can't be locked, the threads of this process still take turns.
        let _ = turns.as_ref().map(File::lock);
        Ok(Turn(turns))
    }

    /// Writes a reservation; gives its number.
    pub(super) fn reserve(&self, names: &[u8], most: Spent) -> Result<u64, AnswersError> {
        let number = self.own.receipts.fetch_add(1, Ordering::Relaxed) + 1;
        self.own.note(Kind::Reservation, Booking { receipt: number, spent: most, names })?;
        Ok(number)
    }

    /// Writes what a reservation came to.
    pub(super) fn settle(&self, receipt: u64, names: &[u8], spent: Spent) -> Result<(), AnswersError> {
        self.own.note(Kind::Settlement, Booking { receipt, spent, names })
    }

    /// What this process booked to `names`, open reservations in full.
    pub(super) fn total(&self, names: &[u8]) -> Spent {
        self.own.books().total(names)
    }

    #[cfg(test)]
    pub(super) fn sent(&self) -> u64 {
        self.own.sent.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.own.syncs.load(Ordering::Relaxed)
    }

    /// Holds up all waiting for the disk until what it gives is dropped.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized {
        self.own.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all that is written from now on go to `file`.
    #[cfg(test)]
    pub(super) fn write_to(&self, file: File) {
        if let Segment::Open { file: to, .. } = &mut *self.own.segment() {
            *to = Arc::new(file);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = thread {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Own {
    fn segment(&self) -> MutexGuard<'_, Segment> {
        self.segment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record that is a booking alone.
    fn note(&self, kind: Kind, booking: Booking<'_>) -> Result<(), AnswersError> {
        let mut bytes = Vec::with_capacity(128);
        record::push(&mut bytes, kind, [0; 16], &booking.to_meta(), &[], 0);
        self.append(&bytes)?;
        self.books().book(kind, booking);
        Ok(())
    }

    /// Adds to the segment, which is made if there is none. The disk is not waited for.
    fn append(&self, bytes: &[u8]) -> Result<Written, AnswersError> {
        let mut segment = self.segment();
        if matches!(*segment, Segment::None) {
            // What kept it from being made may go away: it is tried again.
            let new = NewSegment::begin(self.index.folder())?;
            let name = new.name.clone();
            // Before others see it, so that it is never taken for one of theirs.
            self.index.add_name(&name);
            let (file, path) = new.publish()?;
            let file = Arc::new(file);
            let number = self.index.add_own(name, Arc::clone(&file));
            *segment = Segment::Open { file, path, number, bytes: PREAMBLE.len() as u64 };
        }
        let failed = match &mut *segment {
            Segment::None => return Err(stopped(self.index.folder())),
            Segment::Broken(error) => return Err(error.clone()),
            Segment::Open { file, path, number, bytes: length } => match file.write_all_at(bytes, *length) {
                Ok(()) => {
                    let written = Written { file: Arc::clone(file), path: path.clone(), number: *number, start: *length };
                    *length += bytes.len() as u64;
                    return Ok(written);
                }
                Err(error) => {
                    // Half a record would be passed over anyway.
                    let _ = file.set_len(*length);
                    AnswersError::io("write", path, error)
                }
            },
        };
        *segment = Segment::Broken(failed.clone());
        Err(failed)
    }

    /// Waits until what was written is on the disk.
    fn sync(&self, written: &Written) -> Result<(), AnswersError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let failed = match written.file.sync_data().and_then(|()| written.file.metadata()) {
            Ok(metadata) if metadata.nlink() > 0 => return Ok(()),
            Ok(_) => AnswersError::Removed { path: written.path.clone() },
            Err(error) => AnswersError::io("write", &written.path, error),
        };
        // After a failure the system may take for written what is not.
        *self.segment() = Segment::Broken(failed.clone());
        Err(failed)
    }

    /// Waits for the disk as long as there are answers to come, once for all that wait by then, and tells them.
    fn run(&self, jobs: &Receiver<Job>) {
        let mut last: Option<Instant> = None;
        while let Ok(first) = jobs.recv() {
            // A lone answer goes at once; of many, those that come meanwhile go along.
            if let Some(left) = last.and_then(|last| PAUSE.checked_sub(last.elapsed())) {
                std::thread::sleep(left);
            }
            last = Some(Instant::now());
            let mut batch = vec![first];
            batch.extend(jobs.try_iter());
            self.keep(batch);
        }
    }

    /// Waits for the disk, and tells all who wait.
    fn keep(&self, batch: Vec<Job>) {
        // A process has one segment.
        let Some(Job { written, .. }) = batch.last() else { return };
        let synced = self.sync(written);
        if synced.is_ok() {
            let mut books = self.books();
            batch.iter().for_each(|job| books.book(Kind::Answer, job.booking()));
            self.index.insert(written.number, batch.iter().map(|job| (job.key, job.written.start)));
        }
        for job in batch {
            // Whoever waited may have been ended meanwhile.
            let _ = job.done.send(synced.clone());
        }
    }
}

/// A segment under way: not seen by others before it is published.
pub(super) struct NewSegment {
    pub(super) file: File,
    pub(super) name: String,
    pub(super) path: PathBuf,
    hidden: PathBuf,
}

impl NewSegment {
    /// Begins a segment in `folder`, which is made if it is not there. As long as the file is open, its writer counts as alive.
    pub(super) fn begin(folder: &Path) -> Result<Self, AnswersError> {
        make_folder(folder)?;
        let random = RandomState::new().build_hasher().finish();
        let name = format!("{:014}-{}-{random:016x}{ENDING}", now_ms(), std::process::id());
        let hidden = folder.join(format!(".{name}{UNDER_WAY}"));
        let failed = |error| AnswersError::io("write", &hidden, error);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&hidden).map_err(failed)?;
        // Where files can't be locked, nobody can tell that a writer has ended, and all count as alive.
        let _ = file.try_lock();
        let written = file.write_all_at(PREAMBLE, 0).map_err(failed);
        let new = Self { path: folder.join(&name), file, name, hidden };
        match written {
            Ok(()) => Ok(new),
            Err(error) => Err(new.removed(error)),
        }
    }

    /// Takes it back, because of `error`.
    pub(super) fn removed(self, error: AnswersError) -> AnswersError {
        let _ = fs::remove_file(&self.hidden);
        error
    }

    /// Lets others see it; it is on the disk then, with all that was written to it.
    pub(super) fn publish(self) -> Result<(File, PathBuf), AnswersError> {
        let published = self.file.sync_all().and_then(|()| fs::rename(&self.hidden, &self.path)).and_then(|()| sync_folder_of(&self.path));
        match published {
            Ok(()) => Ok((self.file, self.path)),
            Err(error) => {
                let error = AnswersError::io("write", &self.path, error);
                Err(self.removed(error))
            }
        }
    }
}

/// Makes a folder so that it is there after a power cut, too.
fn make_folder(folder: &Path) -> Result<(), AnswersError> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let made = fs::create_dir_all(folder).and_then(|()| missing.into_iter().try_for_each(sync_folder_of));
    made.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => AnswersError::NotAFolder { path: folder.to_owned() },
        _ => AnswersError::io("write", folder, error),
    })
}

/// Puts the entry of `path` in its folder on the disk.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
