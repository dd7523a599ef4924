//! The store of answers: what was paid for once is never asked again, by no run and no output that shares the folder.
//!
//! A folder holds segments that only grow, each with one writer; any number of processes read and write one folder at once. What was spent,
//! and what requests under way may cost at most, stands in the same segments: a budget holds over all runs, however they end.

mod index;
mod join;
mod ledger;
mod own;
mod record;
mod scan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::index::Index;
use self::own::{New, Writer};
use super::{AnswerKey, Spent, Usage};
use crate::StageError;

/// Why answers cannot be read or kept.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AnswersError {
    /// There is a file where the folder should be.
    #[error("answers can't be kept in {}: a file stands where a folder should", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("an answer can't be kept in {}: {source}", .path.display())]
    Full {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Nothing may be written there.
    #[error("answers can't be kept in {}: {source}", .path.display())]
    NotWritable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file that answers were being added to was removed.
    #[error("answers can't be kept any more: {} was removed while it was written", .path.display())]
    Removed {
        /// The file.
        path: PathBuf,
    },
    /// An answer is larger than any can be that is kept.
    #[error("an answer with its request takes {bytes} bytes, more than can be kept")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The system refused something else.
    #[error("can't {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried: `read`, `write`.
        doing: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl AnswersError {
    /// An error of the system while `doing` (`write`) with `path`.
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let (kind, path, source) = (source.kind(), path.to_owned(), Arc::new(source));
        match kind {
            NotADirectory => Self::NotAFolder { path },
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full { path, source },
            PermissionDenied | ReadOnlyFilesystem if doing != "read" => Self::NotWritable { path, source },
            _ => Self::Io { doing, path, source },
        }
    }

    /// What to do before it is tried again.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NotAFolder { .. } => "name a folder for `answers`, or move the file away",
            Self::Full { .. } => {
                "make room on the disk and run again: every answer that was kept is used, and none of them is asked for twice"
            }
            Self::NotWritable { .. } => "name a folder for `answers` that may be written, or use stored answers only with `--offline-llm`",
            Self::Removed { .. } => "leave the folder of answers alone while it is used, and run again",
            Self::TooLarge { .. } => "lower `max_answer_bytes`, or ask with less text",
            Self::Io { .. } => "see to it that the folder of answers can be used, and run again: every answer that was kept is used",
        }
    }
}

impl From<AnswersError> for StageError {
    fn from(error: AnswersError) -> Self {
        Self::Stopped { problem: error.to_string(), help: error.help().to_owned() }
    }
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The text.
    pub text: String,
    /// Whether it ends because `max_tokens` was reached.
    #[serde(default)]
    pub cut: bool,
    /// Tokens it took.
    pub usage: Usage,
    /// The model, as the endpoint names it in its answer.
    #[serde(default)]
    pub model: Option<String>,
    /// Why it ends, in the endpoint's word.
    #[serde(default)]
    pub finish_reason: Option<String>,
}

/// What was asked, and what came.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Transcript {
    /// The request, as it was given to [`Answers::put`].
    pub request: Value,
    /// The answer.
    #[serde(flatten)]
    pub answer: StoredAnswer,
    /// When it was kept: milliseconds since 1970, UTC.
    pub when_ms: u64,
    /// The name in `llms` that it was asked under.
    pub llm: String,
    /// What it was booked to.
    pub account: String,
    /// What was booked.
    pub spent: Spent,
}

/// What is written of an answer; [`StoredAnswer`] and [`Transcript`] read it.
#[derive(Serialize)]
struct Payload<'a> {
    text: &'a str,
    cut: bool,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'a str>,
    when_ms: u64,
    llm: &'a str,
    account: &'a str,
    spent: Spent,
    request: &'a Value,
}

/// A reservation: what a request may cost at most. It counts in full until [`Answers::put`] or [`Answers::settle`] says what it cost. One
/// that is dropped counts in full for ever: nobody knows whether its request was sent.
#[derive(Debug)]
#[must_use = "it counts in full until it is settled"]
pub struct Receipt {
    number: u64,
    names: Arc<[u8]>,
}

/// A folder of answers, open. Clones share it.
#[derive(Clone)]
pub struct Answers {
    inner: Arc<Inner>,
}

struct Inner {
    account: String,
    index: Arc<Index>,
    writer: Writer,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("folder", &self.inner.index.folder()).field("account", &self.inner.account).finish_non_exhaustive()
    }
}

impl Answers {
    /// Opens the answers in `folder`, which is made when the first is kept. Spending is booked to `account`. Many small segments of runs
    /// that ended are joined.
    ///
    /// # Errors
    /// If the folder is none, or cannot be read.
    pub fn open(folder: &Path, account: &str) -> Result<Self, AnswersError> {
        let index = join::open_joined(folder)?;
        Ok(Self::of(index, account))
    }

    /// Opens the answers in `folder` to look at them; changes nothing there.
    ///
    /// # Errors
    /// If the folder is none, or cannot be read.
    pub fn view(folder: &Path) -> Result<Self, AnswersError> {
        Ok(Self::of(Index::open(folder)?, ""))
    }

    fn of(index: Index, account: &str) -> Self {
        let index = Arc::new(index);
        Self { inner: Arc::new(Inner { account: account.to_owned(), writer: Writer::new(Arc::clone(&index)), index }) }
    }

    /// Answers that are there.
    pub fn len(&self) -> usize {
        self.inner.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys of the answers that are there, in order.
    pub fn keys(&self) -> Vec<AnswerKey> {
        self.inner.index.keys()
    }

    /// The answer of this key. None too if what was kept of it is damaged. Answers of other processes are seen a second later at most.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn get(&self, key: &AnswerKey) -> Result<Option<StoredAnswer>, AnswersError> {
        self.inner.index.read(key)
    }

    /// What was asked and answered; as [`Answers::get`].
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn transcript(&self, key: &AnswerKey) -> Result<Option<Transcript>, AnswersError> {
        self.inner.index.read(key)
    }

    /// [`Answers::put_then`] with nothing to do between.
    ///
    /// # Errors
    /// As there.
    pub async fn put(
        &self,
        llm: &str,
        key: AnswerKey,
        answer: &StoredAnswer,
        request: &Value,
        receipt: Option<Receipt>,
        spent: Spent,
    ) -> Result<(), AnswersError> {
        self.put_then(llm, key, answer, request, receipt, spent, || {}).await
    }

    /// Keeps an answer of the model that `llms` calls `llm`; it is on the disk when this returns. `written` is called before: from then on it outlives
    /// the process, though not the machine. Books what it `spent`, and resolves the
    /// reservation of `receipt`. Of the request exactly `request` is written, so images must be in it by their hash.
    ///
    /// # Errors
    /// If it cannot be written; then nothing else can be, either.
    #[expect(clippy::too_many_arguments, reason = "each is a part of what is kept")]
    pub async fn put_then(
        &self,
        llm: &str,
        key: AnswerKey,
        answer: &StoredAnswer,
        request: &Value,
        receipt: Option<Receipt>,
        spent: Spent,
        written: impl FnOnce(),
    ) -> Result<(), AnswersError> {
        let payload = Payload {
            text: &answer.text,
            cut: answer.cut,
            usage: answer.usage,
            model: answer.model.as_deref(),
            finish_reason: answer.finish_reason.as_deref(),
            when_ms: now_ms(),
            llm,
            account: &self.inner.account,
            spent,
            request,
        };
        let folder = self.inner.index.folder();
        let json = serde_json::to_vec(&payload).map_err(|error| AnswersError::io("write", folder, error.into()))?;
        if json.len() > record::MAX_BODY {
            return Err(AnswersError::TooLarge { bytes: json.len() });
        }
        let (number, names) = match receipt {
            Some(receipt) => (receipt.number, receipt.names),
            None => (0, self.names(llm)),
        };
        // A disk that is asked to take a few kilobytes takes them into memory: that blocks nobody.
        let kept = self.inner.writer.write(New { key: key.0, json: &json, receipt: number, names, spent })?;
        written();
        // The writer answers every job that it takes; it ends only with the store.
        kept.await.unwrap_or_else(|_| Err(own::stopped(folder)))
    }

    /// What this account spent on the model that `llms` calls `llm`, in all runs. Open reservations count in full, whoever made them.
    pub fn spent(&self, llm: &str) -> Spent {
        let names = self.names(llm);
        self.inner.index.refresh_if_due();
        self.inner.index.total(&names).plus(self.inner.writer.total(&names))
    }

    /// Notes what a request may cost at most, before it is sent. What is noted outlives the process, not the machine.
    ///
    /// # Errors
    /// If it cannot be written; the request must not be sent then.
    pub fn reserve(&self, llm: &str, most: Spent) -> Result<Receipt, AnswersError> {
        let names = self.names(llm);
        let number = self.inner.writer.reserve(&names, most)?;
        Ok(Receipt { number, names })
    }

    /// Notes what a request may cost at most, if `fits` says yes to what would be spent with it then. Of all processes that ask so with this
    /// folder, one at a time is heard: together they pass no bound that each holds.
    ///
    /// # Errors
    /// As [`Answers::reserve`], or if the folder cannot be read.
    pub fn reserve_within(&self, llm: &str, most: Spent, fits: &dyn Fn(Spent) -> bool) -> Result<Option<Receipt>, AnswersError> {
        let names = self.names(llm);
        let _turn = self.inner.writer.turn()?;
        self.inner.index.refresh_now()?;
        let spent = self.inner.index.total(&names).plus(self.inner.writer.total(&names));
        if !fits(spent.plus(most)) {
            return Ok(None);
        }
        let number = self.inner.writer.reserve(&names, most)?;
        Ok(Some(Receipt { number, names }))
    }

    /// Notes what a request cost that brought no answer.
    ///
    /// # Errors
    /// If it cannot be written; then the reservation counts in full.
    pub fn settle(&self, receipt: Receipt, spent: Spent) -> Result<(), AnswersError> {
        self.inner.writer.settle(receipt.number, &receipt.names, spent)
    }

    fn names(&self, llm: &str) -> Arc<[u8]> {
        record::names(&self.inner.account, llm).into()
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
