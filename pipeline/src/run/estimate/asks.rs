//! What models are going to be asked: requests and tokens, counted while a sample goes through the stages with the stand-ins of the requests
//! for answers. Nobody is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use stages::llm::{Answer, Answerer, Ask, AskError, Llm, LlmBudget, LlmFigures, Llms, Origin, Price, Usage};

use super::super::amount::Amount;
use crate::graph::Node;
use crate::run::asked::money;
use crate::run::progress::grouped;

/// Bytes of text that are taken for a token.
const TOKEN_BYTES: usize = 4;

/// Tokens that a turn of a conversation takes besides its text.
const TURN_TOKENS: u64 = 4;

/// Tokens that a picture is taken for: servers differ, and most scale pictures to about so many.
const IMAGE_TOKENS: u64 = 1000;

/// Tokens with which an answer that cannot be used is refused.
const REFUSAL_TOKENS: u64 = 40;

/// What a stage is going to ask a model, or all stages together.
#[derive(Debug, Clone, Serialize)]
pub struct AsksEstimate {
    /// The model's name in `llms`.
    pub llm: String,
    /// Requests. Likely: each answer can be used, as the stand-ins can. At most: each is asked for as often as the stage's `tries` allow.
    pub calls: Amount,
    /// Tokens of requests. At most: with what could not be used shown again.
    pub prompt_tokens: Amount,
    /// Tokens of answers. Likely: they are as long as the stand-ins. At most: all are `max_tokens` long.
    pub completion_tokens: Amount,
    /// What that costs, where the model has a price.
    pub cost: Option<Amount>,
}

/// What requests of a sample came to, times the rows that it stands for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    calls: f64,
    prompt: f64,
    completion: f64,
    /// Tokens of answers that are all as long as they may be.
    most: f64,
}

/// Counts the requests to one model.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    prompt: AtomicU64,
    completion: AtomicU64,
    most: AtomicU64,
}

impl Counts {
    fn now(&self) -> Asked {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        Asked { calls: load(&self.calls), prompt: load(&self.prompt), completion: load(&self.completion), most: load(&self.most) }
    }
}

/// Answers with the stand-ins.
struct StandIns(Arc<Counts>);

impl Answerer for StandIns {
    fn answer<'a>(&'a self, llm: &'a Llm, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
        Box::pin(async move {
            let tokens = |bytes: usize| bytes.div_ceil(TOKEN_BYTES) as u64;
            let turns = ask.messages.len() as u64 * TURN_TOKENS;
            let prompt_tokens = tokens(ask.text_bytes()) + turns + ask.images() as u64 * IMAGE_TOKENS;
            let completion_tokens = tokens(ask.stand_in.len()).min(u64::from(ask.max_tokens));
            for (count, n) in [(&self.0.calls, 1), (&self.0.prompt, prompt_tokens), (&self.0.completion, completion_tokens)] {
                count.fetch_add(n, Ordering::Relaxed);
            }
            self.0.most.fetch_add(u64::from(ask.max_tokens), Ordering::Relaxed);
            let usage = Usage { prompt_tokens, completion_tokens, guessed: true };
            let key = ask.key(llm.identity());
            Ok(Answer { text: ask.stand_in.clone(), cut: false, usage, key, origin: Origin::StandIn })
        })
    }

    fn figures(&self) -> LlmFigures {
        LlmFigures::default()
    }
}

/// The models of a plan: all of them answer with stand-ins.
pub(super) struct Models {
    counts: BTreeMap<String, Arc<Counts>>,
    prices: BTreeMap<String, Option<Price>>,
    budgets: BTreeMap<String, LlmBudget>,
}

impl Models {
    /// Lets stand-ins answer for these.
    pub(super) fn stand_in(llms: &Llms) -> Self {
        let mut models = Self { counts: BTreeMap::new(), prices: BTreeMap::new(), budgets: BTreeMap::new() };
        for (name, llm) in llms.iter() {
            let counts = Arc::<Counts>::default();
            llm.answer_by(Box::new(StandIns(Arc::clone(&counts))));
            models.counts.insert(name.to_owned(), counts);
            models.prices.insert(name.to_owned(), llm.settings().price);
            models.budgets.insert(name.to_owned(), llm.settings().budget.clone());
        }
        models
    }

    /// What was asked so far, of the models that a stage asks.
    pub(super) fn now(&self, stage: &Node) -> Vec<Asked> {
        stage.models.iter().map(|model| self.counts.get(&model.name).map(|counts| counts.now()).unwrap_or_default()).collect()
    }

    /// What a stage asks, from what it asked about each group of a sample; of nothing where there is no sample.
    pub(super) fn of_stage(&self, stage: &Node, asked: Option<(&[Asked], f64, bool)>) -> Vec<AsksEstimate> {
        let tries = tries(&stage.settings) as f64;
        let mut all: Vec<AsksEstimate> = Vec::new();
        for (index, model) in stage.models.iter().enumerate() {
            if all.iter().any(|other| other.llm == model.name) {
                continue; // two settings may name one model, whose requests are counted together
            }
            let (calls, prompt_tokens, completion_tokens) = match asked {
                None => (Amount::UNKNOWN, Amount::UNKNOWN, Amount::UNKNOWN),
                Some((asked, spread, at_most)) => {
                    let Asked { calls, prompt, completion, most } = asked.get(index).copied().unwrap_or_default();
                    let shown_again = (tries - 1.0) * (prompt + most + calls * REFUSAL_TOKENS as f64);
                    let amount = |likely: f64, most: f64| range(likely, most.max(likely), spread, at_most);
                    (amount(calls, calls * tries), amount(prompt, prompt + shown_again), amount(completion, most * tries))
                }
            };
            let cost = self.prices.get(&model.name).copied().flatten().map(|price| cost(price, prompt_tokens, completion_tokens));
            all.push(AsksEstimate { llm: model.name.clone(), calls, prompt_tokens, completion_tokens, cost });
        }
        all
    }

    /// The same of all stages, by model.
    pub(super) fn of_all<'a>(stages: impl Iterator<Item = &'a AsksEstimate>) -> Vec<AsksEstimate> {
        let mut all: BTreeMap<&str, AsksEstimate> = BTreeMap::new();
        for asks in stages {
            match all.get_mut(asks.llm.as_str()) {
                None => _ = all.insert(&asks.llm, asks.clone()),
                Some(sum) => {
                    sum.calls = sum.calls.plus(asks.calls);
                    sum.prompt_tokens = sum.prompt_tokens.plus(asks.prompt_tokens);
                    sum.completion_tokens = sum.completion_tokens.plus(asks.completion_tokens);
                    sum.cost = sum.cost.zip(asks.cost).map(|(sum, cost)| sum.plus(cost));
                }
            }
        }
        all.into_values().collect()
    }

    /// What passes the budgets, in words.
    pub(super) fn passes(&self, all: &[AsksEstimate]) -> Vec<String> {
        let mut notes = Vec::new();
        for asks in all {
            let Some(budget) = self.budgets.get(&asks.llm) else { continue };
            let tokens = asks.prompt_tokens.plus(asks.completion_tokens);
            let counted = |number: f64| grouped(super::whole(number));
            let limits = [
                ("max_requests", budget.max_requests.map(|most| most as f64), Some(asks.calls)),
                ("max_tokens", budget.max_tokens.map(|most| most as f64), Some(tokens)),
                ("max_cost", budget.max_cost, asks.cost),
            ];
            for (name, most, amount) in limits {
                let (Some(most), Some(amount)) = (most, amount) else { continue };
                let text = |number: f64| if name == "max_cost" { money(number) } else { counted(number) };
                let setting = format!("`llms.{}.budget.{name}`, {}", asks.llm, text(most));
                if let Some(likely) = amount.likely.or((amount.low > most).then_some(amount.low)).filter(|likely| *likely > most) {
                    notes.push(format!("about {} pass {setting}: the run stops there, and goes on when it is raised", text(likely)));
                } else if let Some(high) = amount.high.filter(|high| *high > most) {
                    notes.push(format!(
                        "it may take up to {}, more than {setting}: it would stop there, and go on when that is raised",
                        text(high)
                    ));
                }
            }
        }
        notes
    }
}

impl Asked {
    /// Adds what was asked since `before`, for so many rows each.
    pub(super) fn add(&mut self, before: Asked, now: Asked, weight: f64) {
        self.calls += (now.calls - before.calls) * weight;
        self.prompt += (now.prompt - before.prompt) * weight;
        self.completion += (now.completion - before.completion) * weight;
        self.most += (now.most - before.most) * weight;
    }
}

/// Times that a stage asks for one answer, at most.
fn tries(settings: &Value) -> u64 {
    settings.get("tries").and_then(Value::as_u64).unwrap_or(1).max(1)
}

fn range(likely: f64, most: f64, spread: f64, at_most: bool) -> Amount {
    let high = Some(most * (1.0 + spread));
    if at_most { Amount { low: 0.0, high, likely: None } } else { Amount { low: likely / (1.0 + spread), high, likely: Some(likely) } }
}

fn cost(price: Price, prompt: Amount, completion: Amount) -> Amount {
    let of = |prompt: f64, completion: f64| (price.prompt * prompt + price.completion * completion) / 1e6;
    Amount {
        low: of(prompt.low, completion.low),
        high: prompt.high.zip(completion.high).map(|(prompt, completion)| of(prompt, completion)),
        likely: prompt.likely.zip(completion.likely).map(|(prompt, completion)| of(prompt, completion)),
    }
}
