//! What may be spent: held before a request is sent, so that a limit is never passed, and booked when it is known.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{LlmBudget, Spent};

/// Why a request may not be sent any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Short {
    /// What is used up.
    pub(super) problem: String,
    /// What to do.
    pub(super) help: String,
}

/// The budget of one entry of `llms`.
pub(super) struct Budget {
    name: String,
    limits: LlmBudget,
    state: Mutex<State>,
}

struct State {
    /// What is known to be spent.
    spent: Spent,
    /// What requests under way may cost.
    held: Spent,
    /// How many those are.
    holders: u64,
    line: VecDeque<Waiting>,
}

struct Waiting {
    most: Spent,
    give: oneshot::Sender<Result<Held, Short>>,
}

/// What one request may cost. Dropped, all of it counts as spent: nobody knows whether it was.
pub(super) struct Held {
    budget: Arc<Budget>,
    most: Spent,
    is_settled: bool,
}

impl Budget {
    /// Of which so much is spent already.
    pub(super) fn new(name: &str, limits: &LlmBudget, spent: Spent) -> Arc<Self> {
        let state = State { spent, held: Spent::default(), holders: 0, line: VecDeque::new() };
        Arc::new(Self { name: name.to_owned(), limits: limits.clone(), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is any limit.
    pub(super) fn limits(&self) -> bool {
        self.limits != LlmBudget::default()
    }

    /// What does not fit if so much is spent `with` a request that may need `most`.
    pub(super) fn short_of(&self, with: Spent, most: Spent) -> Option<Short> {
        self.short(minus(with, most), most)
    }

    /// What is known to be spent.
    pub(super) fn spent(&self) -> Spent {
        self.state().spent
    }

    /// Holds what a request may cost; waits while others are under way that may cost less than they hold.
    ///
    /// # Errors
    /// It does not fit.
    pub(super) async fn hold(self: &Arc<Self>, most: Spent) -> Result<Held, Short> {
        if !self.limits() {
            let mut state = self.state();
            state.held = state.held.plus(most);
            state.holders += 1;
            return Ok(Held { budget: Arc::clone(self), most, is_settled: false });
        }
        let (give, given) = oneshot::channel();
        self.state().line.push_back(Waiting { most, give });
        self.let_in();
        match given.await {
            Ok(held) => held,
            Err(_) => Err(Short { problem: format!("the budget of `{}` is gone", self.name), help: String::new() }),
        }
    }

    /// Lets those go on that need not wait any more, in the order in which they came.
    fn let_in(self: &Arc<Self>) {
        let mut let_in = Vec::new();
        {
            let mut state = self.state();
            while let Some(first) = state.line.front() {
                let most = first.most;
                if first.give.is_closed() {
                    state.line.pop_front();
                    continue;
                }
                let verdict = match self.short(state.spent.plus(state.held), most) {
                    None => {
                        state.held = state.held.plus(most);
                        state.holders += 1;
                        Ok(Held { budget: Arc::clone(self), most, is_settled: false })
                    }
                    // Even if those under way cost nothing.
                    Some(short) if state.holders == 0 => Err(short),
                    Some(_) => match self.short(state.spent, most) {
                        Some(short) => Err(short),
                        None => break,
                    },
                };
                let Some(first) = state.line.pop_front() else { break };
                let_in.push((first.give, verdict));
            }
        }
        for (give, verdict) in let_in {
            if let Err(Ok(held)) = give.send(verdict) {
                // Who waited went away, and sent nothing.
                held.settle(Spent::default());
            }
        }
    }

    /// What does not fit when `most` is added to what is `taken`.
    fn short(&self, taken: Spent, most: Spent) -> Option<Short> {
        let name = &self.name;
        let short = |setting: &str, limit: &str, spent: String, needs: String| Short {
            problem: format!(
                "the budget of `{name}` is used up: `{setting}` is {limit}, {spent} spent, and the next request may need {needs}"
            ),
            help: format!("raise `llms.{name}.budget.{setting}` and run again"),
        };
        if let Some(limit) = self.limits.max_requests.filter(|limit| taken.requests.saturating_add(most.requests) > *limit) {
            return Some(short("max_requests", &limit.to_string(), is_or_are(taken.requests), most.requests.to_string()));
        }
        if let Some(limit) = self.limits.max_tokens.filter(|limit| taken.tokens.saturating_add(most.tokens) > *limit) {
            return Some(short("max_tokens", &limit.to_string(), is_or_are(taken.tokens), most.tokens.to_string()));
        }
        // Sums of fractions are a little beside: a limit that fits exactly is not passed by that.
        if let Some(limit) = self.limits.max_cost.filter(|limit| taken.cost + most.cost > limit * (1.0 + 1e-9)) {
            return Some(short("max_cost", &limit.to_string(), format!("{:.4} are", taken.cost), format!("{:.4}", most.cost)));
        }
        None
    }
}

fn is_or_are(count: u64) -> String {
    format!("{count} {}", if count == 1 { "is" } else { "are" })
}

impl Held {
    /// Books what it cost.
    pub(super) fn settle(mut self, spent: Spent) {
        self.book(spent);
    }

    fn book(&mut self, spent: Spent) {
        self.is_settled = true;
        {
            let mut state = self.budget.state();
            state.held = minus(state.held, self.most);
            state.holders -= 1;
            state.spent = state.spent.plus(spent);
        }
        self.budget.let_in();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_settled {
            self.book(self.most);
        }
    }
}

fn minus(a: Spent, b: Spent) -> Spent {
    Spent { requests: a.requests.saturating_sub(b.requests), tokens: a.tokens.saturating_sub(b.tokens), cost: (a.cost - b.cost).max(0.0) }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn tokens(tokens: u64) -> Spent {
        Spent { requests: 1, tokens, cost: 0.0 }
    }

    fn budget(max_tokens: u64, spent: u64) -> Arc<Budget> {
        Budget::new("m", &LlmBudget { max_tokens: Some(max_tokens), ..LlmBudget::default() }, tokens(spent))
    }

    #[test]
    fn what_fits_exactly_may_be_sent_and_one_more_may_not() {
        let budget = budget(100, 40);
        let held = budget.hold(tokens(60)).now_or_never().expect("at once").expect("fits");
        held.settle(tokens(60));
        let short = budget.hold(tokens(1)).now_or_never().expect("at once").err().expect("too much");
        let problem = "the budget of `m` is used up: `max_tokens` is 100, 100 are spent, and the next request may need 1";
        let help = "raise `llms.m.budget.max_tokens` and run again";
        assert_eq!(short, Short { problem: problem.to_owned(), help: help.to_owned() });
    }

    #[test]
    fn one_that_may_fit_later_waits_and_those_behind_it_too() {
        let budget = budget(100, 0);
        let held = budget.hold(tokens(70)).now_or_never().expect("at once").expect("fits");
        let mut second = Box::pin(budget.hold(tokens(40)));
        assert!((&mut second).now_or_never().is_none(), "30 are left");
        let mut third = Box::pin(budget.hold(tokens(10)));
        assert!((&mut third).now_or_never().is_none(), "it stands behind");
        held.settle(tokens(60));
        let second = second.now_or_never().expect("at once").expect("40 are left");
        assert!((&mut third).now_or_never().is_none());
        second.settle(tokens(5));
        assert!(third.now_or_never().expect("at once").is_ok());
    }

    #[test]
    fn what_can_never_fit_is_told_at_once() {
        let budget = budget(100, 50);
        let _held = budget.hold(tokens(10)).now_or_never().expect("at once").expect("fits");
        assert!(budget.hold(tokens(51)).now_or_never().expect("at once").is_err(), "though another may give back some");
    }

    #[test]
    fn what_nobody_settled_counts_in_full() {
        let budget = budget(100, 0);
        drop(budget.hold(tokens(60)).now_or_never().expect("at once").expect("fits"));
        assert_eq!(budget.spent().tokens, 60);
        // One that was let in and went away before it knew sent nothing.
        let held = budget.hold(tokens(40)).now_or_never().expect("at once").expect("fits");
        let mut waits = Box::pin(budget.hold(tokens(10)));
        assert!((&mut waits).now_or_never().is_none());
        drop(waits);
        held.settle(tokens(0));
        assert_eq!((budget.spent().tokens, budget.state().holders), (60, 0));
    }

    #[test]
    fn requests_and_cost_are_limits_too() {
        let limits = LlmBudget { max_requests: Some(1), ..LlmBudget::default() };
        let budget = Budget::new("m", &limits, Spent::default());
        budget.hold(tokens(1)).now_or_never().expect("at once").expect("fits").settle(tokens(1));
        let short = budget.hold(tokens(1)).now_or_never().expect("at once").err().expect("too much");
        assert!(short.problem.contains("`max_requests` is 1, 1 is spent"), "{short:?}");
        let limits = LlmBudget { max_cost: Some(0.3), ..LlmBudget::default() };
        let budget = Budget::new("m", &limits, Spent { cost: 0.1 + 0.1, ..Spent::default() });
        let cost = |cost: f64| Spent { cost, ..Spent::default() };
        budget.hold(cost(0.1)).now_or_never().expect("at once").expect("fits").settle(cost(0.1));
        assert!(budget.hold(cost(0.001)).now_or_never().expect("at once").is_err());
    }
}
