//! One run at a time on one output.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;

use super::RunError;
use crate::store::{Store, StoreError};

/// Held while a run works on an output; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holding the open file is what holds the lock")] File);

const FILE: &str = ".pipeline/lock";

impl Lock {
    /// Takes the lock of an output.
    ///
    /// # Errors
    /// [`RunError::Locked`] if another process has it.
    pub fn take(store: &Store) -> Result<Self, RunError> {
        let path = store.local_path(FILE);
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
        Ok(Self(file))
    }

    /// Shares the lock of an output with other workers. While one of them has it, no run begins; while a run has it, no worker does.
    ///
    /// # Errors
    /// [`RunError::Locked`] if a run has it.
    pub fn share(store: &Store) -> Result<Self, RunError> {
        let path = store.local_path(FILE);
        let io = |source| StoreError::Io { doing: "lock", path: path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                Err(RunError::Locked { output: store.root().to_owned(), process: holder.trim().to_owned() })
            }
            Err(TryLockError::Error(error)) => Err(io(error).into()),
        }
    }

    /// The process that works on an output, if one does.
    pub fn holder(root: &std::path::Path) -> Option<String> {
        let path = root.join(FILE);
        let file = File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned()),
            _ => None,
        }
    }
}
