//! The log of a run: a text file in the output, for whoever asks afterwards what happened and when.
//!
//! A line is time, level, stage, task, and what happened, with tabs between; a line that is about no stage or no task has `-` there. Lines
//! are gathered in memory, and written once a second and when something goes wrong; a run that is killed keeps what was written by then. What
//! cannot be written stops no run: the person is told once, and the rest is not logged.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stages::Rejection;
use time::OffsetDateTime;

use crate::show;
use crate::store::{Store, StoreError};

/// Where the logs lie, relative to the output.
pub const FOLDER: &str = ".pipeline/logs";

/// Logs that are kept, that of the latest run among them.
const KEPT: usize = 10;

/// Lines are written when there are so many bytes of them, whatever the time.
const BUFFER_BYTES: usize = 64 << 10;

/// Rejections of one stage for one reason that are told of; all are in `rejected/`, and counted.
const TOLD_REJECTIONS: u64 = 3;

/// Time between two writes of a log on object storage.
const BETWEEN_OBJECTS: Duration = Duration::from_secs(30);

/// Longest text of a line, in characters: what is wrong with a row may hold the whole row.
const MAX_CHARS: usize = 2000;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Info,
    /// Not as it should be, and the run goes on.
    Warn,
    /// What stopped the run.
    Error,
}

/// What a line is about, where it is not about the whole run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    /// A stage, by id.
    pub stage: Option<&'a str>,
    /// A task, by label.
    pub task: Option<&'a str>,
}

impl<'a> About<'a> {
    /// The whole run.
    pub(super) const RUN: Self = Self { stage: None, task: None };

    /// A stage.
    pub(super) fn stage(id: &'a str) -> Self {
        Self { stage: Some(id), task: None }
    }
}

/// The log of a run; silent until it is opened.
#[derive(Debug, Default)]
pub(super) struct RunLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    to: Option<WriteTo>,
    lines: String,
    /// Rejections that there were, by stage and reason.
    rejections: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

/// Where lines go.
#[derive(Debug)]
enum WriteTo {
    File(File),
    /// Objects are written whole, so that all of the log is written each time, and less often.
    Object {
        store: Store,
        path: String,
        text: String,
        written: Instant,
    },
}

impl WriteTo {
    fn write(&mut self, lines: &str, now: bool) -> Result<(), String> {
        match self {
            Self::File(file) => file.write_all(lines.as_bytes()).map_err(|error| error.to_string()),
            Self::Object { store, path, text, written } => {
                text.push_str(lines);
                if !now && written.elapsed() < BETWEEN_OBJECTS {
                    return Ok(());
                }
                *written = Instant::now();
                store.put_volatile(path, text.as_bytes()).map_err(|error| error.to_string())
            }
        }
    }
}

impl RunLog {
    /// Begins a log in an output, named by the time, and removes the oldest ones there.
    pub(super) fn open(&self, store: &Store, now: OffsetDateTime) {
        let begun = if store.is_remote() {
            begin_object(store, now).map_err(|error| error.to_string())
        } else {
            begin(&store.path_of(FOLDER), now).map(WriteTo::File).map_err(|error| error.to_string())
        };
        match begun {
            Ok(to) => self.lock().to = Some(to),
            Err(error) => give_up(&format!("{}: {error}", store.path_of(FOLDER).display())),
        }
    }

    /// Adds a line. One that tells of something wrong is written at once, and all before it.
    pub(super) fn line(&self, level: Level, about: About<'_>, text: impl Display) {
        let mut state = self.lock();
        if state.to.is_none() {
            return;
        }
        let level_name = match level {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let field = |name: Option<&str>| name.map_or_else(|| "-".to_owned(), show::visible_line);
        let (stage, task) = (field(about.stage), field(about.task));
        let text = show::visible_line(&show::cut(&text.to_string(), MAX_CHARS));
        let time = time_of(OffsetDateTime::now_utc(), ':');
        // Writing to a text cannot fail.
        let _ = writeln!(state.lines, "{time}\t{level_name}\t{stage}\t{task}\t{text}");
        if level != Level::Info || state.lines.len() >= BUFFER_BYTES {
            state.write(level == Level::Error);
        }
    }

    /// Adds lines for the first few rejections of each reason.
    pub(super) fn rejected(&self, stage: &str, rejections: &[Rejection]) {
        for rejection in self.first_of(stage, rejections) {
            let mut text = format!("rejected {}", rejection.id.as_deref().unwrap_or("a row without an id"));
            if let (Some(file), Some(offset)) = (&rejection.file, rejection.offset)
                && !text.ends_with(&format!("/{file}@{offset}"))
            {
                let _ = write!(text, " ({file}@{offset})");
            }
            let _ = write!(text, ": {}: {}", rejection.reason, rejection.detail);
            self.line(Level::Warn, About::stage(stage), text);
        }
    }

    /// Those of which the like was not told of before.
    fn first_of<'r>(&self, stage: &str, rejections: &'r [Rejection]) -> Vec<&'r Rejection> {
        let mut state = self.lock();
        if state.to.is_none() {
            return Vec::new();
        }
        let told = state.rejections.entry(stage.to_owned()).or_default();
        let is_first = |rejection: &&Rejection| {
            let told = told.entry(rejection.reason).or_default();
            *told += 1;
            *told <= TOLD_REJECTIONS
        };
        rejections.iter().filter(is_first).collect()
    }

    /// Adds a line for an error, with what it came from.
    pub(super) fn error(&self, error: &(dyn std::error::Error + 'static)) {
        self.line(Level::Error, About::RUN, chain(error));
    }

    /// Writes what was gathered; where each time is dear, not each time.
    pub(super) fn flush(&self) {
        self.lock().write(false);
    }

    /// Writes all of it: nothing more comes.
    pub(super) fn end(&self) {
        self.lock().write(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, now: bool) {
        let lines = std::mem::take(&mut self.lines);
        if let Some(to) = &mut self.to
            && let Err(error) = to.write(&lines, now)
        {
            give_up(&error);
            self.to = None;
        }
    }
}

fn give_up(problem: &str) {
    tracing::warn!("the log of this run can't be written, and the run goes on without: {problem}");
}

/// An error and what it came from, as far as its own text does not say it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let further = error.to_string();
        if !text.contains(&further) {
            let _ = write!(text, ": {further}");
        }
        source = error.source();
    }
    text
}

/// The latest log of an output, if it has one.
pub fn latest(output: &Path) -> Option<PathBuf> {
    let folder = output.join(FOLDER);
    names(crate::store::children(&folder).ok()?.into_iter().filter_map(|name| name.into_string().ok())).pop().map(|name| folder.join(name))
}

/// Makes a new file, and room for it.
fn begin(folder: &Path, now: OffsetDateTime) -> std::io::Result<File> {
    fs::create_dir_all(folder)?;
    let old = names(fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
    for name in too_many(&old) {
        fs::remove_file(folder.join(name))?;
    }
    File::options().append(true).create_new(true).open(folder.join(next_name(&old, now)))
}

/// The same on object storage, where it appears with its first lines.
fn begin_object(store: &Store, now: OffsetDateTime) -> Result<WriteTo, StoreError> {
    let old = names(store.children(FOLDER)?.into_iter());
    store.delete_all(too_many(&old).iter().map(|name| format!("{FOLDER}/{name}")).collect())?;
    let path = format!("{FOLDER}/{}", next_name(&old, now));
    Ok(WriteTo::Object { store: store.clone(), path, text: String::new(), written: Instant::now() })
}

/// The oldest ones, so that there is room for one more.
fn too_many(old: &[String]) -> &[String] {
    &old[..(old.len() + 1).saturating_sub(KEPT)]
}

fn next_name(old: &[String], now: OffsetDateTime) -> String {
    let mut stem = time_of(now, '-');
    // A clock may stand still, or be set back; the latest log is the last one all the same.
    if let Some(latest) = old.last().and_then(|name| name.strip_suffix(".log")).filter(|latest| **latest >= *stem) {
        let (time, number) = latest.split_once('~').unwrap_or((latest, "0"));
        stem = format!("{time}~{:03}", number.parse::<u32>().unwrap_or(0) + 1);
    }
    format!("{stem}.log")
}

/// Those that are names of logs, oldest first.
fn names(found: impl Iterator<Item = String>) -> Vec<String> {
    let is_log = |name: &String| name.strip_suffix(".log").is_some_and(|stem| stem.ends_with('Z') || stem.contains("Z~"));
    let mut names: Vec<String> = found.filter(is_log).collect();
    names.sort();
    names
}

/// A time to the millisecond, such that texts sort as times do.
fn time_of(time: OffsetDateTime, between: char) -> String {
    let (month, ms) = (u8::from(time.month()), time.millisecond());
    let (year, day, hour, minute, second) = (time.year(), time.day(), time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{between}{minute:02}{between}{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store;

    fn log(store: &Store) -> RunLog {
        let log = RunLog::default();
        log.open(store, OffsetDateTime::UNIX_EPOCH);
        log
    }

    /// The logs of an output, oldest first: names and texts.
    fn logs(store: &Store) -> Vec<(String, String)> {
        let text = |name: &String| String::from_utf8(store.get(&format!("{FOLDER}/{name}")).unwrap().unwrap().to_vec()).unwrap();
        names(store.children(FOLDER).unwrap().into_iter()).into_iter().map(|name| (name.clone(), text(&name))).collect()
    }

    #[test]
    fn the_last_ten_are_kept_and_a_clock_that_stands_still_overwrites_none() {
        let (_folder, runtime, local) = store::tests::store();
        let address = Path::new("s3://log-names/out");
        datasets::remote::provide(&datasets::remote::Address::of(address).unwrap(), Arc::new(object_store::memory::InMemory::new()));
        let remote = Store::open(address, runtime.handle().clone(), None).unwrap();
        for store in [local, remote] {
            store.put(&format!("{FOLDER}/mine.txt"), "x".into()).unwrap();
            for number in 0..13 {
                let log = log(&store);
                log.line(Level::Info, About::RUN, number);
                log.end();
            }
            let logs = logs(&store);
            assert_eq!((logs.len(), logs[0].0.as_str()), (10, "1970-01-01T00-00-00.000Z~003.log"));
            assert!((3..13).zip(&logs).all(|(number, (_, text))| text.ends_with(&format!("\tinfo\t-\t-\t{number}\n"))), "{logs:?}");
            assert!(store.get(&format!("{FOLDER}/mine.txt")).unwrap().is_some());
        }
    }

    #[test]
    fn a_line_is_a_line_whatever_stands_in_it_and_few_rejections_speak_for_all() {
        let (_folder, _runtime, store) = store::tests::store();
        let log = log(&store);
        log.line(Level::Info, About { stage: Some("a\tb"), task: Some("c\nd") }, "x\r\ny\u{1b}[2J");
        let rejection = |reason| Rejection { id: None, file: Some("f".to_owned()), offset: Some(7), reason, detail: "z".repeat(9000) };
        for _ in 0..5 {
            log.rejected("s", &[rejection("no_json"), rejection("too_long")]);
        }
        let text = logs(&store).remove(0).1;
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines[0][1..], ["info", "a b", "c⏎d", "x␍⏎y␛[2J"]);
        assert_eq!(lines.len(), 1 + 2 * 3);
        assert!(lines[1][4].starts_with("rejected a row without an id (f@7): no_json: zzz"), "{:?}", lines[1]);
        assert!(lines.iter().all(|line| line.len() == 5 && line[4].chars().count() <= MAX_CHARS + 1));
    }

    #[test]
    fn a_full_disk_ends_the_log_and_nothing_else() {
        let Ok(full) = File::options().append(true).open("/dev/full") else { return };
        let log = RunLog(Mutex::new(State { to: Some(WriteTo::File(full)), ..State::default() }));
        log.line(Level::Error, About::RUN, "one");
        assert!(log.lock().to.is_none());
        log.line(Level::Error, About::RUN, "two");
        assert!(log.lock().lines.is_empty());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("above")]
    struct Above(#[source] crate::store::StoreError);

    #[test]
    fn an_error_is_told_with_what_it_came_from_and_nothing_twice() {
        let io = std::io::Error::other(stages::StageError::Internal("deep".to_owned()));
        let error = crate::store::StoreError::Io { doing: "write", path: "x".into(), source: io };
        assert_eq!(chain(&error), error.to_string());
        let text = error.to_string();
        assert_eq!(chain(&Above(error)), format!("above: {text}"));
    }
}
