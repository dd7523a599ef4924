//! What asking models came to so far, for people who watch: how many answers, how fast, at what cost.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stages::llm::{LlmBudget, LlmFigures, Llms, Spent};

use super::progress::grouped;
use crate::show::{cut, visible_line};

/// Speeds are those of the last so many seconds.
const SECONDS: f64 = 10.0;

/// Characters of what went wrong that are shown.
const TROUBLE_CHARS: usize = 150;

/// A model at one moment of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlmSnapshot {
    /// Its name in `llms`.
    pub name: String,
    /// Answers of the endpoint a second, lately.
    pub answers_per_second: f64,
    /// Tokens a second, of requests and answers, lately.
    pub tokens_per_second: f64,
    /// Whether tokens have a price.
    pub has_price: bool,
    /// Share of the budget that is left, of the part of it of which the least is; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_left: Option<f64>,
    /// What went wrong with the last request, if none was answered since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What the requests of this run came to, and what the output has spent in all its runs.
    #[serde(flatten)]
    pub figures: LlmFigures,
}

/// Watches the models of a run.
#[derive(Debug, Default)]
pub(super) struct Watch {
    llms: Llms,
    /// Answers and tokens of each model at a few moments, in seconds, the latest last.
    past: Mutex<VecDeque<Moment>>,
}

/// Seconds since the beginning, and the answers and tokens of each model by then.
type Moment = (f64, Vec<(u64, u64)>);

impl Watch {
    /// Watches these.
    pub(super) fn new(llms: Llms) -> Self {
        Self { llms, past: Mutex::default() }
    }

    /// How they stand so many seconds after the beginning.
    pub(super) fn snapshot(&self, seconds: f64) -> Vec<LlmSnapshot> {
        let trouble = |llm: &stages::llm::Llm| llm.trouble().map(|text| cut(&visible_line(&text), TROUBLE_CHARS));
        let all: Vec<_> = self.llms.iter().map(|(name, llm)| (name, llm.settings(), trouble(llm), llm.figures())).collect();
        if all.is_empty() {
            return Vec::new();
        }
        let now: Vec<(u64, u64)> =
            all.iter().map(|(.., figures)| (figures.answers, figures.prompt_tokens.saturating_add(figures.completion_tokens))).collect();
        let rates = self.rates(seconds, &now);
        let both = all.into_iter().zip(rates);
        let snapshots = both.map(|((name, settings, trouble, figures), (answers, tokens))| LlmSnapshot {
            name: name.to_owned(),
            answers_per_second: answers,
            tokens_per_second: tokens,
            has_price: settings.price.is_some(),
            budget_left: budget_left(&settings.budget, &figures.spent),
            trouble,
            figures,
        });
        snapshots.collect()
    }

    fn rates(&self, seconds: f64, now: &[(u64, u64)]) -> Vec<(f64, f64)> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        // One moment before the time that counts stays, so that all of it is covered.
        while past.get(1).is_some_and(|(time, _)| *time <= seconds - SECONDS) {
            past.pop_front();
        }
        past.push_back((seconds, now.to_vec()));
        let Some((since, then)) = past.front() else { return Vec::new() };
        let span = (seconds - since).max(0.001);
        let rate = |((answers, tokens), (answers_then, tokens_then)): (&(u64, u64), &(u64, u64))| {
            (answers.saturating_sub(*answers_then) as f64 / span, tokens.saturating_sub(*tokens_then) as f64 / span)
        };
        now.iter().zip(then).map(rate).collect()
    }
}

/// Share of a budget that is left, of the part of it of which the least is.
pub(crate) fn budget_left(budget: &LlmBudget, spent: &Spent) -> Option<f64> {
    let left = |most: Option<f64>, spent: f64| most.map(|most| if most > 0.0 { (1.0 - spent / most).max(0.0) } else { 0.0 });
    let requests = left(budget.max_requests.map(|most| most as f64), spent.requests as f64);
    let tokens = left(budget.max_tokens.map(|most| most as f64), spent.tokens as f64);
    let cost = left(budget.max_cost, spent.cost);
    [requests, tokens, cost].into_iter().flatten().reduce(f64::min)
}

/// A price with as many digits as tell something.
pub(crate) fn money(cost: f64) -> String {
    match cost.abs() {
        cost if cost > 0.0 && cost < 0.01 => format!("{cost:.5}"),
        cost if cost < 1.0 => format!("{cost:.3}"),
        _ => format!("{cost:.2}"),
    }
}

/// A model in one line.
pub(crate) fn describe(llm: &LlmSnapshot) -> String {
    let figures = &llm.figures;
    let mut parts = vec![format!("{} answers", grouped(figures.answers.saturating_add(figures.stored)))];
    if figures.stored > 0 {
        parts.push(format!("{} from store", grouped(figures.stored)));
    }
    if llm.answers_per_second >= 0.05 {
        parts.push(format!("{}/s", rate(llm.answers_per_second)));
    }
    if llm.tokens_per_second >= 0.5 {
        parts.push(format!("{} tokens/s", rate(llm.tokens_per_second)));
    }
    for (count, what) in [(figures.in_flight, "in flight"), (figures.retries, "sent again"), (figures.throttled, "throttled")] {
        if count > 0 {
            parts.push(format!("{} {what}", grouped(count)));
        }
    }
    if llm.has_price {
        parts.push(format!("cost {}", money(figures.spent.cost.max(figures.cost))));
    }
    if let Some(left) = llm.budget_left {
        parts.push(format!("{:.0} % of the budget left", (left * 100.0).floor()));
    }
    if let Some(trouble) = &llm.trouble {
        // Once more: a snapshot may be read from a file.
        parts.push(format!("last failure: {}", cut(&visible_line(trouble), TROUBLE_CHARS)));
    }
    parts.join(" · ")
}

fn rate(rate: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of what was counted")]
    if rate < 10.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::BoxFuture;
    use stages::llm::{Answer, Answerer, Ask, AskError, Llm, LlmSettings};

    use super::*;

    #[test]
    fn the_tightest_part_of_a_budget_is_told() {
        let spent = Spent { requests: 25, tokens: 900, cost: 0.5 };
        let budget = |max_requests, max_tokens, max_cost| LlmBudget { max_requests, max_tokens, max_cost };
        assert_eq!(budget_left(&budget(None, None, None), &spent), None);
        assert_eq!(budget_left(&budget(Some(100), None, Some(10.0)), &spent), Some(0.75));
        assert!(budget_left(&budget(Some(100), Some(1000), None), &spent).is_some_and(|left| (left - 0.1).abs() < 1e-9));
        assert_eq!(budget_left(&budget(Some(10), None, None), &spent), Some(0.0));
        assert_eq!(budget_left(&budget(Some(0), None, None), &spent), Some(0.0));
    }

    #[test]
    fn speeds_are_those_of_the_last_seconds() {
        let watch = Watch::default();
        assert_eq!(watch.rates(0.0, &[(0, 0)]), [(0.0, 0.0)]);
        assert_eq!(watch.rates(5.0, &[(50, 500)]), [(10.0, 100.0)]);
        assert_eq!(watch.rates(10.0, &[(50, 500)]), [(5.0, 50.0)]);
        // What was before ten seconds does not count any more.
        assert_eq!(watch.rates(20.0, &[(60, 500)]), [(1.0, 0.0)]);
        assert_eq!(watch.rates(100.0, &[(60, 500)]), [(0.0, 0.0)]);
    }

    #[test]
    fn a_line_says_what_there_is_to_say() {
        let mut llm = LlmSnapshot {
            name: "local".to_owned(),
            answers_per_second: 0.0,
            tokens_per_second: 0.0,
            has_price: false,
            budget_left: None,
            trouble: None,
            figures: LlmFigures::default(),
        };
        assert_eq!(describe(&llm), "0 answers");
        let spent = Spent { requests: 1300, tokens: 5, cost: 1.2 };
        llm.figures = LlmFigures { answers: 1203, stored: 200, in_flight: 16, retries: 3, throttled: 2, cost: 0.7, spent, ..llm.figures };
        (llm.answers_per_second, llm.tokens_per_second, llm.has_price, llm.budget_left) = (12.34, 1840.4, true, Some(0.769));
        insta::assert_snapshot!(describe(&llm), @"1,403 answers · 200 from store · 12/s · 1,840 tokens/s · 16 in flight · 3 sent again · 2 throttled · cost 1.20 · 76 % of the budget left");
        llm = LlmSnapshot { figures: LlmFigures { retries: 7, ..LlmFigures::default() }, has_price: false, budget_left: None, ..llm };
        (llm.answers_per_second, llm.tokens_per_second) = (0.0, 0.0);
        llm.trouble = Some(format!("http://h/v1: \u{1b}[2Jrefused\n{}", "x".repeat(500)));
        let told = describe(&llm);
        assert!(told.starts_with("0 answers · 7 sent again · last failure: http://h/v1: ␛[2Jrefused⏎xxx"), "{told}");
        assert!(told.chars().count() < 200, "{told}");
    }

    #[test]
    fn what_goes_wrong_is_told_until_there_is_an_answer() {
        struct Fails(Arc<Mutex<Option<String>>>);
        impl Answerer for Fails {
            fn answer<'a>(&'a self, _: &'a Llm, _: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
                Box::pin(async { Err(AskError::refused("request_failed", "never")) })
            }
            fn figures(&self) -> LlmFigures {
                LlmFigures::default()
            }
            fn trouble(&self) -> Option<String> {
                self.0.lock().unwrap().clone()
            }
        }
        let says = Arc::new(Mutex::new(Some("http://h/v1: status 500".to_owned())));
        let llms = Llms::new([("l".to_owned(), LlmSettings::of_model("m"))]);
        llms.get("l").unwrap().answer_by(Box::new(Fails(Arc::clone(&says))));
        let watch = Watch::new(llms);
        assert_eq!(watch.snapshot(1.0)[0].trouble.as_deref(), Some("http://h/v1: status 500"));
        *says.lock().unwrap() = None;
        let well = watch.snapshot(2.0);
        assert_eq!(well[0].trouble, None);
        assert!(!serde_json::to_string(&well).unwrap().contains("trouble"));
    }
}
