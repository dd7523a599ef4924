//! Whoever answers in a run: the store, and where it has nothing, the endpoint.

mod again;
mod failure;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use url::Url;

use self::failure::{Failure, not_served};
use super::answers::{Answers, AnswersError, Receipt, StoredAnswer};
use super::budget::{Budget, Held};
use super::http::{Bill, Dead, Gate, Permit, Reply, Secrets, Transport, below, body};
use super::served::Served;
use super::{Answer, AnswerKey, Answerer, Ask, AskError, Llm, LlmFigures, LlmSession, LlmSettings, Origin, Spent, Usage};
use crate::StageError;

/// Tokens that a message may take besides its text, at most: its role, and the marks around it.
const MESSAGE_TOKENS: u64 = 64;
/// Tokens that an image takes, at most; what was seen to take more counts from then on.
const IMAGE_TOKENS: u64 = 2000;
/// How often it is looked whether a person ends the run.
const LOOK: Duration = Duration::from_millis(100);
/// Failures of a request after which a small one is sent, if nobody else is answered: it shows whose fault they are.
const DOUBTS: u32 = 2;

/// How long a small request may take.
const PROBE: Duration = Duration::from_mins(1);

/// The answers of a run: opened when the first is asked for, and shared by all models.
pub(super) struct Store {
    folder: PathBuf,
    account: String,
    opened: OnceLock<Result<Answers, AnswersError>>,
}

impl Store {
    /// Where `session` keeps them.
    pub(super) fn of(session: &LlmSession) -> Arc<Self> {
        Arc::new(Self { folder: session.answers.clone(), account: session.account.clone(), opened: OnceLock::new() })
    }

    fn open(&self) -> Result<&Answers, Failure> {
        self.opened.get_or_init(|| Answers::open(&self.folder, &self.account)).as_ref().map_err(|error| error.clone().into())
    }
}

/// Answers from the store and the endpoint.
pub(super) struct Live {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    settings: LlmSettings,
    identity: String,
    offline: bool,
    runtime: Handle,
    interrupted: Arc<AtomicBool>,
    store: Arc<Store>,
    secrets: Arc<Secrets>,
    served: Option<Served>,
    /// Made when the first request is sent.
    sender: OnceLock<Result<Sender, Failure>>,
    /// What is being asked now.
    flights: Mutex<HashMap<AnswerKey, Flight>>,
    /// Why nobody is answered any more.
    ended: watch::Sender<Option<Failure>>,
    /// Whether nobody waits for answers any more.
    closed: watch::Sender<bool>,
    counts: Counts,
    /// What went wrong with the last request; nothing once one is answered.
    trouble: Mutex<Option<String>>,
}

type Flight = Shared<oneshot::Receiver<Result<Answer, Failure>>>;

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    answers: AtomicU64,
    stored: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

/// What requests are sent with.
struct Sender {
    transport: Transport,
    urls: Vec<Url>,
    gate: Arc<Gate>,
    budget: Arc<Budget>,
    /// How many times what was held for a request it took, in thousandths; at least 1,000. Then the same of the answer.
    beyond: [AtomicU64; 2],
    /// Which start of the program it was that was asked last.
    start: AtomicU32,
    probing: tokio::sync::Mutex<()>,
}

/// A request, ready to be sent.
struct Request {
    key: AnswerKey,
    body: Bytes,
    /// What is kept of it.
    kept: Value,
    /// Tokens that it has at most, and that its answer has at most.
    prompt_most: u64,
    max_tokens: u64,
    text_bytes: usize,
}

/// How sending it went up to now.
struct Tries {
    /// Failures that count: others were answered meanwhile.
    counted: u32,
    failures: u32,
    /// Answers to others that were seen.
    seen: u64,
    avoid: Option<usize>,
    is_again: bool,
}

/// A request that may be sent: its place, and what it may cost.
struct Cleared {
    permit: Permit,
    held: Held,
    /// None where nothing limits what is spent.
    receipt: Option<Receipt>,
    url: Url,
    most: Spent,
    prompt_most: u64,
}

impl Live {
    /// For the model called `name`; nothing is opened or started before it is asked.
    ///
    /// # Errors
    /// A variable with a key that is not set.
    pub(super) fn new(name: &str, settings: &LlmSettings, session: &LlmSession, store: Arc<Store>) -> Result<Self, StageError> {
        let secrets = if session.offline { Secrets::default() } else { Secrets::read(settings, |name| std::env::var(name).ok())? };
        Ok(Self::with(name, settings, session, store, secrets))
    }

    fn with(name: &str, settings: &LlmSettings, session: &LlmSession, store: Arc<Store>, secrets: Secrets) -> Self {
        let secrets = Arc::new(secrets);
        let served = settings
            .command
            .is_some()
            .then(|| Served::new(name, settings, session.base_dir.clone(), session.logs.as_ref(), Arc::clone(&secrets)));
        let inner = Inner {
            name: name.to_owned(),
            settings: settings.clone(),
            identity: settings.identity(),
            offline: session.offline,
            runtime: session.runtime.clone(),
            interrupted: Arc::clone(&session.interrupted),
            store,
            secrets,
            served,
            sender: OnceLock::new(),
            flights: Mutex::default(),
            ended: watch::Sender::new(None),
            closed: watch::Sender::new(false),
            counts: Counts::default(),
            trouble: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Answerer for Live {
    fn answer<'a>(&'a self, _llm: &'a Llm, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
        Box::pin(async move { self.inner.answer(ask).await.map_err(AskError::from) })
    }

    fn figures(&self) -> LlmFigures {
        self.inner.figures()
    }

    fn trouble(&self) -> Option<String> {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        self.inner.closed.send_replace(true);
        if let Some(served) = &self.inner.served {
            served.close();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    async fn answer(self: &Arc<Self>, ask: &Ask) -> Result<Answer, Failure> {
        if let Some(ended) = self.ended() {
            return Err(ended);
        }
        let key = ask.key(&self.identity);
        let answers = self.store.open().map_err(|failure| self.end(failure))?;
        if let Some(stored) = answers.get(&key).map_err(|error| self.end(error.into()))? {
            return Ok(self.stored(key, stored));
        }
        if self.offline {
            return Err(self.end(Failure::Stopped {
                problem: format!("there is no stored answer to a request to `{}`, and none is asked for with `--offline-llm`", self.name),
                help: "run without `--offline-llm` to ask for it, or name the folder of `answers` that holds it".to_owned(),
            }));
        }
        let request = self.prepare(key, ask)?;
        let (flight, is_first) = self.board(request);
        match flight.await {
            Ok(Ok(answer)) if !is_first => {
                // The same asking was under way: it is paid for once.
                self.counts.stored.fetch_add(1, Ordering::Relaxed);
                Ok(Answer { origin: Origin::Stored, ..answer })
            }
            Ok(result) => result,
            // Its task was taken down with what it ran on.
            Err(_) => Err(Failure::Interrupted),
        }
    }

    /// Sends the request, unless it is under way.
    fn board(self: &Arc<Self>, request: Request) -> (Flight, bool) {
        let mut flights = self.flights();
        let key = request.key;
        if let Some(flight) = flights.get(&key) {
            return (flight.clone(), false);
        }
        let (tell, told) = oneshot::channel();
        let flight = told.shared();
        flights.insert(key, flight.clone());
        let inner = Arc::clone(self);
        // A task of its own: whoever asks may be busy with other things, or go away, and what is under way is paid for.
        self.runtime.spawn(async move {
            let mut closed = inner.closed.subscribe();
            let result = tokio::select! {
                biased;
                () = is_true(&mut closed) => Err(Failure::Interrupted),
                result = inner.fly(&request) => result,
            };
            // Before it is told: who asks later finds it in the store.
            inner.flights().remove(&key);
            _ = tell.send(result);
        });
        (flight, true)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<AnswerKey, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, key: AnswerKey, stored: StoredAnswer) -> Answer {
        self.counts.stored.fetch_add(1, Ordering::Relaxed);
        Answer { text: stored.text, cut: stored.cut, usage: stored.usage, key, origin: Origin::Stored }
    }

    fn prepare(&self, key: AnswerKey, ask: &Ask) -> Result<Request, Failure> {
        let internal = |error: serde_json::Error| Failure::Internal(format!("a request that can't be written: {error}"));
        let seed = self.settings.send_seed.then(|| u32::from_le_bytes([key.0[0], key.0[1], key.0[2], key.0[3]]) >> 1);
        let body = body(&self.settings, ask, seed).map_err(internal)?;
        // Some servers count the schema, and what `extra` says of tools, as part of the prompt.
        let schema = ask.schema.as_ref().map_or(0, |schema| schema.schema.to_string().len() + schema.name.len());
        let extra: usize = self.settings.extra.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
        // A token has at least a byte.
        let prompt_most = (ask.text_bytes() + schema + extra) as u64
            + MESSAGE_TOKENS * (ask.messages.len() as u64 + 1)
            + IMAGE_TOKENS * ask.images() as u64;
        let kept = serde_json::to_value(ask).map_err(internal)?;
        Ok(Request { key, body, kept, prompt_most, max_tokens: ask.max_tokens.into(), text_bytes: ask.text_bytes() })
    }

    /// Gets the answer to a request, however often it has to be sent.
    async fn fly(self: &Arc<Self>, request: &Request) -> Result<Answer, Failure> {
        let answers = self.store.open()?;
        // Another may have been answered between the look into the store and the take-off.
        if let Some(stored) = answers.get(&request.key).map_err(|error| self.end(error.into()))? {
            return Ok(self.stored(request.key, stored));
        }
        let sender = self.sender()?;
        let mut tries = Tries { counted: 0, failures: 0, seen: sender.gate.successes(), avoid: None, is_again: false };
        loop {
            let cleared = self.clear(sender, answers, request, &tries).await?;
            let reply = sender.transport.send(&cleared.url, request.body.clone(), Duration::MAX).await;
            let is_sent = !matches!(reply, Reply::Failed { bill: Bill::Nothing, .. });
            self.counts.requests.fetch_add(u64::from(is_sent), Ordering::Relaxed);
            let url = cleared.url.clone();
            match reply {
                Reply::Answer(answer, usage) => return self.keep(sender, answers, request, cleared, answer, usage).await,
                Reply::Refused(said) => {
                    self.book(answers, cleared, Bill::Request)?.refused();
                    return Err(Failure::Refused { reason: "request_refused", detail: self.clean(&said) });
                }
                Reply::Dead(dead) => {
                    let bill = if matches!(dead, Dead::Untrusted(_)) { Bill::Nothing } else { Bill::Request };
                    drop(self.book(answers, cleared, bill)?);
                    return Err(self.end(self.dead(&url, &dead)));
                }
                Reply::Throttled { wait, said } => {
                    self.tell_trouble(Some((&url, &said)));
                    let standing = self.book(answers, cleared, Bill::Request)?.throttled(wait);
                    self.counts.throttled.fetch_add(1, Ordering::Relaxed);
                    if let Some(silent) = standing.dead_for {
                        return Err(self.end(self.gone(&url, &self.clean(&said), silent, "throttled_for_seconds")));
                    }
                    tries.is_again = true;
                }
                Reply::Failed { said, wait, bill, overloaded } => {
                    self.tell_trouble(Some((&url, &said)));
                    tries.avoid = Some(cleared.permit.url());
                    let standing = self.book(answers, cleared, bill)?.failed(wait, overloaded);
                    self.failed(sender, answers, &mut tries, standing, &url, &self.clean(&said)).await?;
                }
            }
            self.counts.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until a request may be sent.
    async fn clear(&self, sender: &Sender, answers: &Answers, request: &Request, tries: &Tries) -> Result<Cleared, Failure> {
        let (most, prompt_most) = self.most(sender, request);
        let permit = self.unless_ended(sender.gate.enter(most.tokens, tries.avoid, tries.is_again)).await?;
        let url = match &self.served {
            None => sender.urls.get(permit.url()).cloned().ok_or_else(|| Failure::Internal("a model without a URL".to_owned()))?,
            Some(served) => {
                let at = self.unless_ended(served.at(&sender.transport)).await?.map_err(|problem| self.end(not_served(problem)))?;
                if sender.start.swap(at.start, Ordering::Relaxed) != at.start {
                    sender.gate.forget_failures();
                }
                at.url
            }
        };
        let held = self.unless_ended(sender.budget.hold(most)).await?;
        let held = held.map_err(|short| self.end(Failure::Stopped { problem: short.problem, help: short.help }))?;
        match self.reserve(sender, answers, most) {
            Ok(receipt) => Ok(Cleared { permit, held, receipt, url, most, prompt_most }),
            Err(failure) => {
                held.settle(Spent::default());
                Err(self.end(failure))
            }
        }
    }

    /// Notes what a request may cost where that is limited: it holds for all processes that work on the output, and for the next run.
    fn reserve(&self, sender: &Sender, answers: &Answers, most: Spent) -> Result<Option<Receipt>, Failure> {
        if !sender.budget.limits() {
            return Ok(None);
        }
        if let Some(receipt) = answers.reserve_within(&self.name, most, &|with| sender.budget.short_of(with, most).is_none())? {
            return Ok(Some(receipt));
        }
        let with = answers.spent(&self.name).plus(most);
        // Another process may have given back meanwhile what did not fit: a rerun finds it.
        let (problem, help) = sender.budget.short_of(with, most).map_or_else(
            || (format!("the budget of `{}` is held by other processes", self.name), "run again when they are done".to_owned()),
            |short| (short.problem, short.help),
        );
        Err(Failure::Stopped { problem, help })
    }

    /// Notes what a request cost that brought no answer.
    fn settle(&self, answers: &Answers, receipt: Option<Receipt>, spent: Spent) -> Result<(), AnswersError> {
        let receipt = match receipt {
            Some(receipt) => receipt,
            None if spent == Spent::default() => return Ok(()),
            None => answers.reserve(&self.name, spent)?,
        };
        answers.settle(receipt, spent)
    }

    /// What a request may cost, and its tokens without those of the answer.
    fn most(&self, sender: &Sender, request: &Request) -> (Spent, u64) {
        let [prompt, answer] = &sender.beyond;
        let times = |tokens: u64, beyond: &AtomicU64| tokens.saturating_mul(beyond.load(Ordering::Relaxed)).div_ceil(1000);
        let prompt = times(request.prompt_most, prompt);
        (self.spent(prompt, times(request.max_tokens, answer)), prompt)
    }

    fn spent(&self, prompt: u64, completion: u64) -> Spent {
        let cost = self.settings.price.map_or(0.0, |price| price.of(prompt, completion));
        Spent { requests: 1, tokens: prompt.saturating_add(completion), cost }
    }

    /// Books what an attempt cost that brought no answer.
    fn book(&self, answers: &Answers, cleared: Cleared, bill: Bill) -> Result<Permit, Failure> {
        let spent = match bill {
            Bill::Nothing => Spent::default(),
            Bill::Request => Spent { requests: 1, ..Spent::default() },
            Bill::Everything => cleared.most,
        };
        let settled = self.settle(answers, cleared.receipt, spent);
        cleared.held.settle(spent);
        settled.map_err(|error| self.end(error.into()))?;
        Ok(cleared.permit)
    }

    /// Keeps an answer, and gives it back when it is safe.
    async fn keep(
        &self,
        sender: &Sender,
        answers: &Answers,
        request: &Request,
        cleared: Cleared,
        mut stored: StoredAnswer,
        said: Option<Usage>,
    ) -> Result<Answer, Failure> {
        self.tell_trouble(None);
        let Cleared { permit, held, receipt, prompt_most, .. } = cleared;
        let said_tokens = said.map(|usage| usage.prompt_tokens + usage.completion_tokens);
        let spent = match said {
            Some(usage) => {
                // An endpoint that counts otherwise, or does not end where it should, is held to what it does.
                let [prompt, answer] = &sender.beyond;
                for (took, most, beyond) in
                    [(usage.prompt_tokens, request.prompt_most, prompt), (usage.completion_tokens, request.max_tokens, answer)]
                {
                    if took > most {
                        beyond.fetch_max(took.saturating_mul(1100).div_ceil(most.max(1)), Ordering::Relaxed);
                    }
                }
                self.spent(usage.prompt_tokens, usage.completion_tokens)
            }
            // A guess may be too low, and what may be spent is never passed.
            None => self.spent(prompt_most, request.max_tokens.min(stored.text.len() as u64 + 1)),
        };
        let guess = Usage {
            prompt_tokens: (request.text_bytes as u64).div_ceil(4),
            completion_tokens: (stored.text.len() as u64).div_ceil(4),
            guessed: true,
        };
        stored.usage = said.unwrap_or(guess);
        self.scrub(&mut stored.text);
        stored.model.iter_mut().chain(&mut stored.finish_reason).for_each(|text| self.scrub(text));
        // Its place is free for the next one when it is written: a kill loses no more than have a place.
        let written = || permit.answered(said_tokens.unwrap_or(prompt_most + request.max_tokens));
        let kept = answers.put_then(&self.name, request.key, &stored, &request.kept, receipt, spent, written).await;
        held.settle(spent);
        kept.map_err(|error| self.end(error.into()))?;
        self.counts.answers.fetch_add(1, Ordering::Relaxed);
        self.counts.prompt_tokens.fetch_add(stored.usage.prompt_tokens, Ordering::Relaxed);
        self.counts.completion_tokens.fetch_add(stored.usage.completion_tokens, Ordering::Relaxed);
        Ok(Answer { text: stored.text, cut: stored.cut, usage: stored.usage, key: request.key, origin: Origin::Endpoint })
    }

    /// What requests are sent with; made when the first is.
    fn sender(self: &Arc<Self>) -> Result<&Sender, Failure> {
        self.sender.get_or_init(|| self.make_sender()).as_ref().map_err(|failure| self.end(failure.clone()))
    }

    fn make_sender(self: &Arc<Self>) -> Result<Sender, Failure> {
        let bases: &[String] = self.settings.endpoint.as_ref().map_or(&[], |endpoint| endpoint.urls());
        let urls: Result<Vec<Url>, _> = bases.iter().map(|base| below(base, "chat/completions")).collect();
        let urls = urls.map_err(|error| Failure::Internal(format!("a URL that was not checked: {error}")))?;
        if urls.is_empty() && self.served.is_none() {
            return Err(Failure::Internal(format!("`{}` has neither `endpoint` nor `command`", self.name)));
        }
        let transport = Transport::new(&self.settings, &self.secrets)
            .map_err(|problem| Failure::Endpoint { problem, help: "see whether this machine's certificates can be read".to_owned() })?;
        let spent = self.store.open()?.spent(&self.name);
        self.runtime.spawn(watch(Arc::downgrade(self)));
        Ok(Sender {
            transport,
            gate: Gate::new(&self.settings, urls.len().max(1), self.runtime.clone()),
            urls,
            budget: Budget::new(&self.name, &self.settings.budget, spent),
            beyond: [AtomicU64::new(1000), AtomicU64::new(1000)],
            start: AtomicU32::new(0),
            probing: tokio::sync::Mutex::new(()),
        })
    }

    fn ended(&self) -> Option<Failure> {
        self.ended.borrow().clone()
    }

    /// Ends the asking: for who waits now, and for who asks later.
    fn end(&self, failure: Failure) -> Failure {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(failure.clone());
            }
            is_first
        });
        failure
    }

    /// Waits for something, or until the asking ends.
    async fn unless_ended<T>(&self, wait: impl Future<Output = T>) -> Result<T, Failure> {
        let mut ended = self.ended.subscribe();
        let end = async {
            match ended.wait_for(Option::is_some).await {
                Ok(failure) => failure.clone().unwrap_or(Failure::Interrupted),
                Err(_) => Failure::Interrupted,
            }
        };
        tokio::select! {
            biased;
            failure = end => Err(failure),
            done = wait => Ok(done),
        }
    }

    fn scrub(&self, text: &mut String) {
        if let Cow::Owned(clean) = self.secrets.scrub_answer(text) {
            *text = clean;
        }
    }

    /// Remembers what went wrong with a request, or that one was answered.
    fn tell_trouble(&self, trouble: Option<(&Url, &str)>) {
        let trouble = trouble.map(|(url, said)| self.clean(&format!("{url}: {said}")));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn clean(&self, text: &str) -> String {
        self.secrets.scrub(text).into_owned()
    }

    fn figures(&self) -> LlmFigures {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let sender = self.sender.get().and_then(|sender| sender.as_ref().ok());
        let (prompt_tokens, completion_tokens) = (count(&self.counts.prompt_tokens), count(&self.counts.completion_tokens));
        let spent = match sender {
            Some(sender) => sender.budget.spent(),
            None => match self.store.opened.get() {
                Some(Ok(answers)) => answers.spent(&self.name),
                // A run that asked nothing still says what its output has cost.
                None if *self.closed.borrow() => self.store.open().map(|answers| answers.spent(&self.name)).unwrap_or_default(),
                _ => Spent::default(),
            },
        };
        LlmFigures {
            requests: count(&self.counts.requests),
            in_flight: sender.map_or(0, |sender| sender.gate.in_flight()),
            answers: count(&self.counts.answers),
            stored: count(&self.counts.stored),
            retries: count(&self.counts.retries),
            throttled: count(&self.counts.throttled),
            prompt_tokens,
            completion_tokens,
            cost: self.settings.price.map_or(0.0, |price| price.of(prompt_tokens, completion_tokens)),
            spent,
        }
    }
}

async fn is_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        // Whoever could set it is gone, and nobody waits.
        std::future::pending::<()>().await;
    }
}

/// Ends the asking when a person ends the run: the flag is set from outside, and wakes nobody.
async fn watch(inner: std::sync::Weak<Inner>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        if *inner.closed.borrow() {
            return;
        }
        if inner.interrupted.load(Ordering::Relaxed) {
            inner.end(Failure::Interrupted);
            return;
        }
    }
}
