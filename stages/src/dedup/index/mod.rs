//! The index of `dedup_minhash`: band keys and shingles of the rows that earlier runs kept. `docs/incremental.md` says why it is as it is.
//!
//! A segment for each run that added rows; a manifest names them. Nothing of a segment counts before the manifest is swapped for one that
//! names it, which is the last thing before the run's rows are published.

mod manifest;
mod segment;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datasets::{Folder, Known};

pub(super) use self::manifest::Settings;
use self::manifest::{Manifest, SegmentEntry};
pub(super) use self::segment::{BandPiece, BandsWriter, Place, RowPiece, RowsWriter, SHORT_BITS, short};
use self::segment::{Segment, SegmentFile};
use crate::{Begin, Begun, RowRef, StageError};

/// The manifest.
const MANIFEST: &str = "index.json";

/// Where segments lie.
const SEGMENTS: &str = "segments";

/// What a segment says of itself.
const SEGMENT: &str = "segment.json";

/// More segments are refused: each is read by each key range.
const MOST_SEGMENTS: usize = 10_000;

/// Marks the shard of a row that is in the index; the rest of the number is the segment's place among those that the run looks at.
const INDEXED: u32 = 1 << 31;

/// Whether a row is one of the index.
pub(super) fn is_indexed(row: RowRef) -> bool {
    row.shard >= INDEXED
}

/// The index that a stage was given.
#[derive(Debug)]
pub(super) struct Index {
    folder: Folder,
    settings: Settings,
    /// What the run looks at, once it has begun.
    seen: Mutex<Option<Arc<Seen>>>,
}

/// What a run looks at, and what it adds.
#[derive(Debug)]
pub(super) struct Seen {
    folder: Folder,
    /// The segments, in the order in which they were added.
    entries: Vec<SegmentEntry>,
    opened: OnceLock<Vec<Segment>>,
    /// The run's plan.
    plan: String,
    /// The folder of the segment that the run adds; `None` if it adds none, or did already.
    writes: Option<String>,
    /// Plans that the output added before, whose place this one takes.
    earlier: Vec<String>,
}

impl Index {
    /// Opens the index at `path`, which need not be there, and checks that it was made with `settings`; with it, what it holds, for people.
    ///
    /// # Errors
    /// At the setting `index`: what the system says, a damaged manifest, other settings.
    pub(super) fn open(path: &Path, settings: Settings) -> Result<(Self, String), StageError> {
        let wrong = |problem: String| StageError::setting("index", problem);
        let folder = Folder::open(path).map_err(|error| wrong(format!("can't use {} as an index: {error}", path.display())))?;
        let index = Self { folder, settings, seen: Mutex::default() };
        let manifest = index.manifest().map_err(|error| {
            wrong(error.to_string())
                .with_help("name the folder of an index, or one that is not there yet; a damaged index begins anew elsewhere")
        })?;
        let told = match &manifest {
            None => format!("index {}: there is none yet; this run begins it", path.display()),
            Some((manifest, _)) => {
                let differs = manifest.settings.differences(&index.settings);
                if !differs.is_empty() {
                    let problem = format!("the index {} was made with {}", path.display(), differs.join(", and "));
                    let help = "set the stage (and the file's `seed`) as the index was made, or name another index";
                    return Err(wrong(problem).with_help(help));
                }
                let (rows, bytes) = (manifest.rows(), manifest.bytes());
                let segments = manifest.segments.len();
                format!("index {}: rows: {rows}, segments: {segments}, {} MB", path.display(), bytes.div_ceil(1_000_000))
            }
        };
        Ok((index, told))
    }

    fn manifest(&self) -> Result<Option<(Manifest, Known)>, StageError> {
        let read = self.folder.get(MANIFEST).map_err(|error| trouble(&self.folder, MANIFEST, &error))?;
        let Some(known) = read else { return Ok(None) };
        let manifest = Manifest::parse(&known.bytes).map_err(|problem| damaged(&self.folder, MANIFEST, &problem))?;
        if manifest.segments.len() > MOST_SEGMENTS {
            return Err(damaged(&self.folder, MANIFEST, &format!("it names over {MOST_SEGMENTS} segments")));
        }
        Ok(Some((manifest, known)))
    }

    /// Decides what the run looks at.
    pub(super) fn begin(&self, begin: &Begin<'_>) -> Result<Begun, StageError> {
        let mut entries = self.manifest()?.map(|(manifest, _)| manifest.segments).unwrap_or_default();
        // Of this plan may be another output's segment too, where neither has rows; then this output's earlier rows still have to go.
        let earlier: Vec<String> = begin.earlier.iter().filter(|plan| *plan != begin.plan).cloned().collect();
        remove_last(&mut entries, &earlier);
        // Nobody decided anything against a segment without rows.
        if let Some(at) = entries.iter().position(|entry| entry.rows > 0 && earlier.contains(&entry.plan)) {
            let later = entries.len() - at - 1;
            let problem = format!(
                "this output has added rows to the index before, from other input or with other settings, and {later} later segments were \
                 decided against them; write to another output, or begin another index"
            );
            return Err(StageError::Index { path: self.folder.path().to_owned(), problem });
        }
        let own = entries.iter().position(|entry| entry.plan == begin.plan);
        if let Some(own) = own {
            entries.truncate(own); // a repetition looks at what the first run looked at
        }
        let mut state = blake3::Hasher::new();
        for entry in &entries {
            state.update(entry.hash.as_bytes());
        }
        let state = state.finalize().to_hex()[..16].to_owned();
        let writes = (begin.adds && own.is_none()).then(|| format!("{SEGMENTS}/{}-{state}", begin.plan));
        let seen = Seen { folder: self.folder.clone(), entries, opened: OnceLock::new(), plan: begin.plan.to_owned(), writes, earlier };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(seen));
        Ok(Begun { seen: state, adds: begin.adds.then(|| begin.plan.to_owned()) })
    }

    /// What the run looks at.
    pub(super) fn seen(&self) -> Result<Arc<Seen>, StageError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone().ok_or_else(|| StageError::Internal("the index was asked before the run began".to_owned()))
    }

    /// Adds what the run wrote; does nothing if that was done before. `pass` is called after each thing that is seen from outside.
    pub(super) fn publish(&self, pass: &dyn Fn()) -> Result<(), StageError> {
        let seen = self.seen()?;
        let index = |problem: String| StageError::Index { path: self.folder.path().to_owned(), problem };
        let (manifest, known) = match self.manifest()? {
            Some((manifest, known)) => (manifest, Some(known)),
            None => (Manifest::new(self.settings.clone()), None),
        };
        let is_own = |entry: &SegmentEntry| entry.plan == seen.plan;
        let mut left = manifest.segments;
        let n_before = left.len();
        remove_last(&mut left, &seen.earlier);
        let is_added = left.iter().any(is_own);
        if !is_added || left.len() < n_before {
            let grown = || {
                index(
                    "another run has added rows since this one looked, so that what it decided does not hold any more; run again, and only what \
                     depends on the index is done anew"
                        .to_owned(),
                )
            };
            if !is_added {
                let Some(folder) = &seen.writes else {
                    return Err(index("its own segment was there when the run began, and is gone".to_owned()));
                };
                if left != seen.entries {
                    return Err(grown());
                }
                if left.len() >= MOST_SEGMENTS {
                    return Err(index(format!("it has {MOST_SEGMENTS} segments, and more are refused; begin another index")));
                }
                left.push(self.own_entry(&seen, folder)?);
            }
            let text = Manifest { settings: self.settings.clone(), segments: left.clone() }.text()?;
            let swapped = self.folder.swap(MANIFEST, known.as_ref(), text.as_bytes());
            if !swapped.map_err(|error| trouble(&self.folder, MANIFEST, &error))? {
                // Another process that does the same plan, or this one's own request whose answer was lost.
                left = self.manifest()?.map(|(manifest, _)| manifest.segments).unwrap_or_default();
                if !left.iter().any(is_own) {
                    return Err(grown());
                }
            }
            pass();
        }
        self.clear_away(&seen, &left, pass)
    }

    fn own_entry(&self, seen: &Seen, folder: &str) -> Result<SegmentEntry, StageError> {
        let name = format!("{folder}/{SEGMENT}");
        let read = self.folder.get(&name).map_err(|error| trouble(&self.folder, &name, &error))?;
        let Some(known) = read else { return Err(undone(damaged(&self.folder, &name, "it is gone"))) };
        let file = SegmentFile::parse(&known.bytes).map_err(|problem| undone(damaged(&self.folder, &name, &problem)))?;
        let hash = blake3::hash(&known.bytes).to_hex().to_string();
        let entry = SegmentEntry { plan: seen.plan.clone(), folder: folder.to_owned(), hash, rows: file.n_rows(), bytes: file.bytes() };
        Segment::open(&self.folder, &entry, 0).map_err(undone)?; // all of it is there
        Ok(entry)
    }

    /// Removes what other attempts of this plan wrote, and what this plan took the place of.
    fn clear_away(&self, seen: &Seen, entries: &[SegmentEntry], pass: &dyn Fn()) -> Result<(), StageError> {
        let named: BTreeSet<&str> = entries.iter().map(|entry| entry.folder.as_str()).collect();
        let plans: Vec<&String> = seen.earlier.iter().chain([&seen.plan]).filter(|plan| !plan.is_empty()).collect();
        let folders = self.folder.folders(SEGMENTS).map_err(|error| trouble(&self.folder, SEGMENTS, &error))?;
        for folder in folders.into_iter().filter(|folder| plans.iter().any(|plan| folder.starts_with(plan.as_str()))) {
            let folder = format!("{SEGMENTS}/{folder}");
            if !named.contains(folder.as_str()) {
                self.folder.remove(&folder).map_err(|error| trouble(&self.folder, &folder, &error))?;
                pass();
            }
        }
        Ok(())
    }
}

impl Seen {
    fn segments(&self) -> Result<&[Segment], StageError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let open = |(number, entry): (u32, &SegmentEntry)| Segment::open(&self.folder, entry, number);
        let opened = (INDEXED..).zip(&self.entries).map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(self.opened.get_or_init(|| opened))
    }

    /// Whether anything is indexed.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives `each` every indexed row that has one of `keys`, ascending: at which key (the first of equal ones), the row, the hash of its
    /// text. Segment by segment, in each by key.
    pub(super) fn meet(&self, keys: &[u128], mut each: impl FnMut(usize, RowRef, u64)) -> Result<(), StageError> {
        self.segments()?.iter().try_for_each(|segment| segment.meet(&self.folder, keys, &mut each))
    }

    /// Where rows lie, in the order of `rows`, which are ascending.
    pub(super) fn places(&self, rows: &[RowRef]) -> Result<Vec<Place>, StageError> {
        let mut places = Vec::with_capacity(rows.len());
        for of_segment in rows.chunk_by(|a, b| a.shard == b.shard) {
            self.segment(of_segment[0])?.places(&self.folder, of_segment, &mut places)?;
        }
        Ok(places)
    }

    /// The ids of rows, in the order of `places`.
    pub(super) fn ids(&self, places: &[Place]) -> Result<Vec<Option<String>>, StageError> {
        let mut ids = Vec::with_capacity(places.len());
        self.read(places, Place::id_range, |place, bytes| {
            ids.push(place.id(bytes).map_err(|problem| self.of_row(place, &problem))?);
            Ok(())
        })?;
        Ok(ids)
    }

    /// Gives `each` the shingles of rows, in the order of `places`: the upper 40 bits of their hashes, as [`short`] makes them.
    pub(super) fn shingles(&self, places: &[Place], mut each: impl FnMut(&Place, &[u64])) -> Result<(), StageError> {
        let mut set = Vec::new();
        self.read(places, Place::set_range, |place, bytes| {
            place.set(bytes, &mut set).map_err(|problem| self.of_row(place, &problem))?;
            each(place, &set);
            Ok(())
        })
    }

    fn read(
        &self,
        places: &[Place],
        range: impl Fn(&Place) -> Range<u64>,
        mut each: impl FnMut(&Place, &[u8]) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        for of_piece in places.chunk_by(|a, b| (a.row.shard, a.piece) == (b.row.shard, b.piece)) {
            let segment = self.segment(of_piece[0].row)?;
            let ranges: Vec<Range<u64>> = of_piece.iter().map(&range).collect();
            let read = segment.read(&self.folder, of_piece[0].piece, &ranges)?;
            of_piece.iter().zip(&read).try_for_each(|(place, bytes)| each(place, bytes))?;
        }
        Ok(())
    }

    fn segment(&self, row: RowRef) -> Result<&Segment, StageError> {
        let number = (row.shard ^ INDEXED) as usize;
        self.segments()?.get(number).ok_or_else(|| StageError::Internal(format!("segment {number} of the index was not opened")))
    }

    /// Says that a row of the index is not as it was written.
    pub(super) fn of_row(&self, place: &Place, problem: &str) -> StageError {
        match self.segment(place.row) {
            Ok(segment) => damaged(&self.folder, &segment.piece_name(place.piece), &format!("row {}: {problem}", place.row.row)),
            Err(error) => error,
        }
    }

    /// The file of the segment that this run adds, to be written; `None` if it adds none.
    pub(super) fn write(&self, name: &str) -> Result<Option<Writing>, StageError> {
        let Some(folder) = &self.writes else { return Ok(None) };
        let name = format!("{folder}/{name}");
        let path = self.folder.path().join(&name);
        let writer = self.folder.begin(&name).map_err(|error| Writing::error(&path, &error))?;
        Ok(Some(Writing { path, writer }))
    }

    /// Writes what the segment that this run adds says of itself.
    pub(super) fn describe(&self, rows: Vec<RowPiece>, bands: Vec<BandPiece>) -> Result<(), StageError> {
        let Some(mut writing) = self.write(SEGMENT)? else { return Ok(()) };
        writing.write(SegmentFile::new(rows, bands).text()?.as_bytes())?;
        writing.finish().map(drop)
    }
}

/// A file of the segment that a run adds.
#[derive(Debug)]
pub(super) struct Writing {
    path: PathBuf,
    writer: datasets::FolderWriter,
}

impl Writing {
    fn error(path: &Path, error: &io::Error) -> StageError {
        StageError::Index { path: path.to_owned(), problem: format!("it can't be written: {error}") }
    }

    fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.writer.write(bytes).map_err(|error| Self::error(&self.path, &error))
    }

    fn finish(self) -> Result<u64, StageError> {
        let Self { path, writer } = self;
        writer.finish().map_err(|error| Self::error(&path, &error))
    }
}

/// Removes the last segments as far as they are of these plans: what takes their place, none was decided against.
fn remove_last(entries: &mut Vec<SegmentEntry>, plans: &[String]) {
    while entries.last().is_some_and(|entry| plans.contains(&entry.plan)) {
        entries.pop();
    }
}

/// What the system or storage said of a file.
fn trouble(folder: &Folder, name: &str, error: &io::Error) -> StageError {
    let problem = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the index is damaged: it is cut off".to_owned(),
        io::ErrorKind::NotFound => "the index is damaged: it is gone".to_owned(),
        _ => error.to_string(),
    };
    StageError::Index { path: folder.path().join(name), problem }
}

/// The same of what this run's own tasks wrote, perhaps long ago: it is there again when they have been done again.
fn undone(error: StageError) -> StageError {
    match error {
        StageError::Index { path, problem } => StageError::Undone { path, problem },
        error => error,
    }
}

fn damaged(folder: &Folder, name: &str, problem: &str) -> StageError {
    StageError::Index { path: folder.path().join(name), problem: format!("the index is damaged: {problem}") }
}
