//! One run at a time on one output.
//!
//! On this machine that is a lock of the system, which lets go of it when the process ends, however it ends. Object storage has none: there
//! a run holds a *lease*, an object that it writes anew every few seconds by conditional writes. A lease whose version does not move for a
//! while, by the clock of whoever waits, is a dead run's, and is taken over; a run that can't renew its own in time writes nothing more.
//! That it moves once says nothing: what a run asked for just before it died may be done after.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::RunError;
use crate::store::{self, Store, StoreError, Version};

/// Held while a run works on an output.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holding it is what locks")] Held);

#[derive(Debug)]
enum Held {
    File(#[expect(dead_code, reason = "holding the open file is what holds the lock")] File),
    Lease(#[expect(dead_code, reason = "dropping it ends the renewals")] Lease),
    Nothing,
}

const FILE: &str = ".pipeline/lock";
const LEASE: &str = ".pipeline/lease.json";

/// How often a lease is seen to move before the run that has it counts as alive. A run has one renewal under way at a time, and storage may
/// do that one after the run died.
const ALIVE: u32 = 2;

/// How long a lease stands without being renewed.
const STANDS: Duration = Duration::from_mins(1);

impl Lock {
    /// Takes the lock of an output. On object storage this waits until it is known whether the run that has the lease is alive.
    ///
    /// # Errors
    /// [`RunError::Locked`] if another process has it; [`RunError::Interrupted`] while it waits.
    pub fn take(store: &Store, interrupted: &AtomicBool) -> Result<Self, RunError> {
        if store.is_remote() {
            return Lease::take(store, stands(), interrupted).map(Held::Lease).map(Self);
        }
        let path = store.path_of(FILE);
        let io = |source| StoreError::Io { doing: "lock", path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            // Whoever shares it keeps nobody else from sharing it.
            Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
                return Err(RunError::WorkersAtWork { output: store.root().to_owned() });
            }
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(RunError::Locked { output: store.root().to_owned(), process: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io(error).into()),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(io)?;
        Ok(Self(Held::File(file)))
    }

    /// Shares the lock of an output with other workers. While one of them has it, no run begins; while a run has it, no worker does.
    ///
    /// On object storage workers hold nothing: they do not begin while a run is alive, and a run is begun when they are done.
    ///
    /// # Errors
    /// [`RunError::Locked`] if a run has it.
    pub fn share(store: &Store) -> Result<Self, RunError> {
        if store.is_remote() {
            return Lease::wait_until_free(store, &AtomicBool::new(false)).map(|_| Self(Held::Nothing));
        }
        let path = store.path_of(FILE);
        let io = |source| StoreError::Io { doing: "lock", path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Self(Held::File(file))),
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                Err(RunError::Locked { output: store.root().to_owned(), process: holder.trim().to_owned() })
            }
            Err(TryLockError::Error(error)) => Err(io(error).into()),
        }
    }

    /// The process that works on an output, if one does. On object storage: that has a lease it did not give back, dead or alive.
    pub fn holder(root: &Path) -> Option<String> {
        if datasets::remote::Address::of(root).is_some() {
            let lease: LeaseText = serde_json::from_slice(&store::read(&root.join(LEASE)).ok()?).ok()?;
            return (!lease.released).then_some(lease.holder);
        }
        let path = root.join(FILE);
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned()),
            _ => None,
        }
    }

    /// Whether what holds the lock of an output is still there, and not taken away with all the rest.
    pub(super) fn is_held(store: &Store) -> bool {
        if store.is_remote() {
            return matches!(store.size(LEASE), Ok(Some(_)));
        }
        store.path_of(".pipeline").is_dir()
    }
}

/// `GRANARY_LEASE_SECONDS`, if it is a number of at least two, else [`STANDS`].
fn stands() -> Duration {
    let said = std::env::var("GRANARY_LEASE_SECONDS").ok().and_then(|text| text.parse().ok());
    said.filter(|seconds| *seconds >= 2).map_or(STANDS, Duration::from_secs)
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseText {
    /// The run: process, machine, and a number that no other run has.
    holder: String,
    /// How often it was renewed.
    renewed: u64,
    /// Seconds after which it counts as abandoned if it does not change.
    stands: u64,
    /// Whether the run ended and gave it back.
    released: bool,
}

impl LeaseText {
    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("a struct of plain values serializes").into()
    }

    /// Puts it in the place of what `known` was; the version it has now, or `None` if something else is there. An answer that was lost on
    /// its way does not make it something else.
    fn write(&self, store: &Store, known: Option<Version>) -> Result<Option<Version>, StoreError> {
        if let Some(version) = store.exchange(LEASE, self.bytes(), known)? {
            return Ok(Some(version));
        }
        let there = store.get_version(LEASE)?;
        Ok(there.filter(|(bytes, _)| serde_json::from_slice::<Self>(bytes).is_ok_and(|there| there == *self)).map(|(_, version)| version))
    }
}

/// A lease that is renewed until it is dropped.
#[derive(Debug)]
struct Lease {
    end: Option<Sender<()>>,
    renewing: Option<JoinHandle<()>>,
}

impl Lease {
    /// Waits until it is known whether a run is alive that has the lease; the version of what stands there if none is.
    fn wait_until_free(store: &Store, interrupted: &AtomicBool) -> Result<Option<Version>, RunError> {
        let mut seen: Option<(Bytes, Instant)> = None;
        let mut moves = 0;
        loop {
            if interrupted.load(Ordering::SeqCst) {
                return Err(RunError::Interrupted);
            }
            let Some((bytes, version)) = store.get_version(LEASE)? else { return Ok(None) };
            // What no run wrote keeps none from beginning.
            let Ok(other) = serde_json::from_slice::<LeaseText>(&bytes) else { return Ok(Some(version)) };
            if other.released {
                return Ok(Some(version));
            }
            match &seen {
                None => {
                    let (holder, output, stands) = (&other.holder, store.root().display(), other.stands);
                    tracing::warn!(
                        "a run (process {holder}) has the lease of {output}; waiting up to {stands} s to see whether it is alive"
                    );
                    seen = Some((bytes, Instant::now()));
                }
                Some((last, _)) if *last != bytes => {
                    moves += 1;
                    if moves == ALIVE {
                        return Err(RunError::Locked { output: store.root().to_owned(), process: other.holder });
                    }
                    seen = Some((bytes, Instant::now()));
                }
                Some((_, since)) if since.elapsed() >= Duration::from_secs(other.stands.max(2)) => return Ok(Some(version)),
                Some(_) => {}
            }
            std::thread::sleep(Duration::from_millis(500)); // object storage tells nobody of changes
        }
    }

    fn take(store: &Store, stands: Duration, interrupted: &AtomicBool) -> Result<Self, RunError> {
        let mut text = LeaseText { holder: this_run(), renewed: 0, stands: stands.as_secs(), released: false };
        let version = loop {
            let there = Self::wait_until_free(store, interrupted)?;
            if let Some(version) = text.write(store, there)? {
                break version;
            }
        };
        let (end, ended) = channel();
        let (store, every) = (store.clone(), stands / 6);
        let renewing = std::thread::spawn(move || {
            let (mut version, mut renewed) = (version, Instant::now());
            loop {
                let over = !matches!(ended.recv_timeout(every), Err(RecvTimeoutError::Timeout));
                text.renewed += 1;
                text.released = over;
                match text.write(&store, Some(version.clone())) {
                    Ok(Some(next)) => (version, renewed) = (next, Instant::now()),
                    Ok(None) => {
                        store.lose();
                        return;
                    }
                    // Whoever waits gives up on us a while after the last renewal; we do a good while before.
                    Err(_) if renewed.elapsed() > stands / 3 * 2 => {
                        store.lose();
                        return;
                    }
                    Err(_) => {}
                }
                if over {
                    return;
                }
            }
        });
        Ok(Self { end: Some(end), renewing: Some(renewing) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end = None;
        if let Some(renewing) = self.renewing.take() {
            let _ = renewing.join();
        }
    }
}

/// Tells this run from every other: where it is, and when it began.
fn this_run() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{} on {}, {began:x}", std::process::id(), machine.trim())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datasets::remote::{Address, provide};
    use object_store::memory::InMemory;

    use super::*;

    fn store(bucket: &str) -> (tokio::runtime::Runtime, Store) {
        let address = Address::of(Path::new(&format!("s3://{bucket}/out"))).expect("an address");
        provide(&address, Arc::new(InMemory::new()));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let store = Store::open(Path::new(&address.to_string()), runtime.handle().clone(), None).expect("opened");
        (runtime, store)
    }

    const WINDOW: Duration = Duration::from_secs(2);

    #[test]
    fn a_lease_is_one_runs_until_it_gives_it_back() {
        let (_runtime, store) = store("lease-a");
        let no = AtomicBool::new(false);
        let lease = Lease::take(&store, WINDOW, &no).expect("free");
        assert!(Lock::holder(store.root()).is_some_and(|holder| holder.starts_with(&format!("{} on ", std::process::id()))));
        assert!(matches!(Lease::take(&store, WINDOW, &no), Err(RunError::Locked { .. })));
        drop(lease);
        assert_eq!(Lock::holder(store.root()), None);
        let before = Instant::now();
        Lease::take(&store, WINDOW, &no).expect("given back");
        assert!(before.elapsed() < WINDOW, "a lease that was given back is not waited for");
    }

    #[test]
    fn a_dead_runs_lease_is_taken_over_and_the_dead_writes_no_more() {
        let (_runtime, store) = store("lease-b");
        let dead = LeaseText { holder: "1 on nowhere".to_owned(), renewed: 3, stands: 2, released: false };
        store.exchange(LEASE, dead.bytes(), None).expect("written").expect("there was none");
        let (no, yes) = (AtomicBool::new(false), AtomicBool::new(true));
        assert!(matches!(Lease::take(&store, WINDOW, &yes), Err(RunError::Interrupted)));
        let before = Instant::now();
        let _ours = Lease::take(&store, WINDOW, &no).expect("taken over");
        assert!(before.elapsed() >= WINDOW);
    }

    #[test]
    fn a_renewal_that_is_done_after_its_run_died_keeps_nobody_out() {
        let (_runtime, store) = store("lease-d");
        let mut dead = LeaseText { holder: "process 1 on nowhere".to_owned(), renewed: 3, stands: 2, released: false };
        let version = store.exchange(LEASE, dead.bytes(), None).expect("written").expect("there was none");
        let (no, (waits, waited)) = (AtomicBool::new(false), channel());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let lease = Lease::take(&store, WINDOW, &no);
                waits.send(()).expect("somebody listens");
                lease.expect("taken over")
            });
            // Whoever waits has seen the lease long before half of the time that it stands.
            assert_eq!(waited.recv_timeout(WINDOW / 2), Err(RecvTimeoutError::Timeout));
            dead.renewed += 1;
            store.exchange(LEASE, dead.bytes(), Some(version)).expect("written").expect("nobody wrote it");
            // From then on it stands as long again.
            assert_eq!(waited.recv_timeout(WINDOW / 4 * 3), Err(RecvTimeoutError::Timeout));
        });
    }

    #[test]
    fn a_run_whose_lease_was_taken_stops_writing() {
        let (_runtime, ours) = store("lease-c");
        let no = AtomicBool::new(false);
        let lease = Lease::take(&ours, WINDOW, &no).expect("free");
        let other = LeaseText { holder: "2 on nowhere".to_owned(), renewed: 0, stands: 2, released: false };
        while let Some((_, version)) = ours.get_version(LEASE).expect("read") {
            if ours.exchange(LEASE, other.bytes(), Some(version)).expect("written").is_some() {
                break;
            }
        }
        drop(lease); // its last renewal finds the other's
        assert!(matches!(ours.put("x", Bytes::from_static(b"y")), Err(StoreError::Lost)));
        assert_eq!(Lock::holder(ours.root()).as_deref(), Some("2 on nowhere"));
    }
}
