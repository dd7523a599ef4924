//! Where answers are kept: for now in memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AnswerKey, Spent, Usage};
use crate::StageError;

/// Why answers cannot be read or kept.
#[derive(Debug, Clone, thiserror::Error)]
#[error("answers cannot be kept")]
pub struct AnswersError;

impl AnswersError {
    /// What to do before it is tried again.
    pub fn help(&self) -> &'static str {
        ""
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

/// A reservation.
#[derive(Debug)]
pub struct Receipt {
    most: Spent,
}

/// Answers, open. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    inner: Arc<Mutex<(HashMap<AnswerKey, StoredAnswer>, Spent)>>,
}

impl Answers {
    /// Opens them.
    pub fn open(_folder: &Path, _account: &str) -> Result<Self, AnswersError> {
        Ok(Self::default())
    }

    fn inner(&self) -> MutexGuard<'_, (HashMap<AnswerKey, StoredAnswer>, Spent)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of this key.
    pub fn get(&self, key: &AnswerKey) -> Result<Option<StoredAnswer>, AnswersError> {
        Ok(self.inner().0.get(key).cloned())
    }

    /// Keeps one.
    #[expect(clippy::unused_async, reason = "what it stands for waits for the disk")]
    pub async fn put(
        &self,
        _llm: &str,
        key: AnswerKey,
        answer: &StoredAnswer,
        _request: &Value,
        receipt: Option<Receipt>,
        spent: Spent,
    ) -> Result<(), AnswersError> {
        let mut inner = self.inner();
        inner.0.insert(key, answer.clone());
        Self::book(&mut inner.1, receipt, spent);
        Ok(())
    }

    fn book(total: &mut Spent, receipt: Option<Receipt>, spent: Spent) {
        let most = receipt.map(|receipt| receipt.most).unwrap_or_default();
        total.requests = total.requests + spent.requests - most.requests;
        total.tokens = total.tokens + spent.tokens - most.tokens;
        total.cost += spent.cost - most.cost;
    }

    /// What was spent.
    pub fn spent(&self, _llm: &str) -> Spent {
        self.inner().1
    }

    /// Notes what a request may cost.
    pub fn reserve(&self, _llm: &str, most: Spent) -> Result<Receipt, AnswersError> {
        Self::book(&mut self.inner().1, None, most);
        Ok(Receipt { most })
    }

    /// Notes what it cost.
    pub fn settle(&self, receipt: Receipt, spent: Spent) -> Result<(), AnswersError> {
        Self::book(&mut self.inner().1, Some(receipt), spent);
        Ok(())
    }
}
