//! What a run's requests to one endpoint came to.

use serde::{Deserialize, Serialize};

/// Counts of one run and one entry of `llms`, up to now.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LlmFigures {
    /// Requests sent, each time one was sent.
    pub requests: u64,
    /// Requests that are under way.
    #[serde(default, skip_serializing_if = "is_none")]
    pub in_flight: u64,
    /// Answers that came from the endpoint.
    pub answers: u64,
    /// Answers that were there already.
    pub stored: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Times the endpoint said that it was asked too often.
    pub throttled: u64,
    /// Tokens of the requests that were answered in this run.
    pub prompt_tokens: u64,
    /// Tokens of the answers of this run.
    pub completion_tokens: u64,
    /// What those cost, in the currency of `price`; 0 without one.
    pub cost: f64,
    /// What the output has cost in all its runs.
    #[serde(default)]
    pub spent: Spent,
}

/// What was spent on an output, in all its runs: what budgets are held against.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Requests.
    pub requests: u64,
    /// Tokens, of requests and answers.
    pub tokens: u64,
    /// Cost.
    pub cost: f64,
}

impl Spent {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost + other.cost,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}
