//! Who may send a request now, and where: few enough at once at each URL, slow enough for what it allows a minute, and none to one that is down.
//!
//! Those that wait stand in one line. Whoever gives a permit back lets the next in; where only time helps, one timer for all does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::pace::Pace;
use crate::llm::LlmSettings;

/// Failures in a row after which a URL counts as down.
const FAILURES: u32 = 5;
/// How long nothing is sent to a URL that is down, at first; doubled with every try that fails.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Gives out permits to send.
pub(crate) struct Gate {
    state: Mutex<State>,
    runtime: Handle,
    most: f64,
    give_up: Duration,
    throttled_for: Duration,
    /// The longest that a URL is left alone, when nobody said how long: four tries at least fit in the time after which it counts as dead.
    longest_pause: Duration,
}

struct State {
    urls: Vec<Place>,
    line: VecDeque<Waiting>,
    requests: Option<Pace>,
    tokens: Option<Pace>,
    /// When the timer lets those in that wait for the time alone.
    timer: Option<Instant>,
    /// Answers up to now.
    successes: u64,
    last_success: Instant,
    /// Since when nothing but failures came, if it is so.
    failing: Option<Instant>,
    /// Since when nothing but failures and refusals for asking too often came.
    throttled: Option<Instant>,
    rng: u64,
}

/// One URL.
struct Place {
    in_flight: u32,
    /// Requests that may be under way: grows by one for each round of answers, and is halved when it was too much.
    window: f64,
    /// When it was halved last: what was sent before is no news.
    cut_at: Instant,
    /// How often it was halved since the last answer.
    cuts: u32,
    failures: u32,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    /// If it is down: how long it is left alone.
    down: Option<Duration>,
    /// Whether a request is under way that shows whether it is back.
    is_tried: bool,
}

struct Waiting {
    tokens: u64,
    avoid: Option<usize>,
    give: oneshot::Sender<Permit>,
}

/// What a failure means for the endpoint as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many answers came up to now, to anybody.
    pub(crate) successes: u64,
    /// How long no answer came, if that is long enough to give up.
    pub(crate) dead_for: Option<Duration>,
}

impl Gate {
    /// For so many URLs.
    pub(crate) fn new(settings: &LlmSettings, urls: usize, runtime: Handle) -> Arc<Self> {
        let now = Instant::now();
        let most = f64::from(settings.max_in_flight.get());
        let place =
            || Place { in_flight: 0, window: most, cut_at: now, cuts: 0, failures: 0, not_before: None, down: None, is_tried: false };
        let give_up = Duration::from_secs(settings.give_up_after_seconds.get().into());
        let state = State {
            urls: (0..urls).map(|_| place()).collect(),
            line: VecDeque::new(),
            requests: settings.requests_per_minute.map(|most| Pace::per_minute(most.get().into())),
            tokens: settings.tokens_per_minute.map(|most| Pace::per_minute(most.get() as f64)),
            timer: None,
            successes: 0,
            last_success: now,
            failing: None,
            throttled: None,
            rng: u64::from(std::process::id()) << 32 | 0x9e37_79b9,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            runtime,
            most,
            give_up,
            throttled_for: Duration::from_secs(settings.throttled_for_seconds.get().into()),
            longest_pause: LONGEST_PAUSE.min(give_up / 4),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.state().urls.iter().map(|place| u64::from(place.in_flight)).sum()
    }

    /// Answers up to now.
    pub(crate) fn successes(&self) -> u64 {
        self.state().successes
    }

    /// Waits until a request of so many tokens may be sent: behind the others, or before them if it was sent before. Another URL than `avoid` is
    /// preferred.
    pub(crate) async fn enter(self: &Arc<Self>, tokens: u64, avoid: Option<usize>, is_again: bool) -> Permit {
        loop {
            let (give, given) = oneshot::channel();
            {
                let mut state = self.state();
                let waiting = Waiting { tokens, avoid, give };
                if is_again {
                    state.line.push_front(waiting);
                } else {
                    state.line.push_back(waiting);
                }
            }
            self.let_in();
            // Nobody is ever sent away; a sender that is lost was lost with its gate.
            if let Ok(permit) = given.await {
                return permit;
            }
        }
    }

    /// Lets in who may go.
    fn let_in(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let state = &mut *state;
            let now = Instant::now();
            let Some(first) = state.line.front() else { return };
            if first.give.is_closed() {
                state.line.pop_front();
                continue;
            }
            let ready = [
                state.requests.as_ref().map(|pace| pace.ready_at(1.0)),
                state.tokens.as_ref().map(|pace| pace.ready_at(first.tokens as f64)),
            ];
            let url = match ready.into_iter().flatten().max() {
                Some(ready) if ready > now => Err(Some(ready)),
                _ => state.choose(first.avoid, now),
            };
            let url = match url {
                Ok(url) => url,
                Err(Some(at)) => {
                    self.wake_at(state, at);
                    return;
                }
                Err(None) => return,
            };
            let Some(first) = state.line.pop_front() else { return };
            if let Some(pace) = &mut state.requests {
                pace.take(1.0, now);
            }
            if let Some(pace) = &mut state.tokens {
                pace.take(first.tokens as f64, now);
            }
            let place = &mut state.urls[url];
            place.in_flight += 1;
            let tries = place.down.is_some();
            place.is_tried |= tries;
            let permit = Permit { gate: Arc::clone(self), url, began: now, tokens: first.tokens, tries };
            // Who went away meanwhile gives it back here, when the lock is free again.
            let lost = first.give.send(permit);
            if let Err(permit) = lost {
                permit.take_back(state);
            }
        }
    }

    /// Sees to it that those who wait for the time alone are let in then.
    fn wake_at(self: &Arc<Self>, state: &mut State, at: Instant) {
        if state.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        state.timer = Some(at);
        let gate = Arc::downgrade(self);
        self.runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let Some(gate) = gate.upgrade() else { return };
            {
                let mut state = gate.state();
                if state.timer == Some(at) {
                    state.timer = None;
                }
            }
            gate.let_in();
        });
    }

    /// How long a request waits that failed so many times: longer each time, and never as long as the others.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        let longest = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest_pause);
        longest.mul_f64(self.state().chance())
    }

    /// Forgets what was wrong with the only URL: what is behind it was started anew.
    pub(crate) fn forget_failures(self: &Arc<Self>) {
        for place in &mut self.state().urls {
            (place.failures, place.down, place.not_before) = (0, None, None);
        }
        self.let_in();
    }

    fn standing(&self, state: &State, now: Instant, is_throttled: bool) -> Standing {
        let (since, patience) = if is_throttled { (state.throttled, self.throttled_for) } else { (state.failing, self.give_up) };
        let dead_for = since.map(|since| now.saturating_duration_since(since)).filter(|silent| *silent >= patience);
        Standing { successes: state.successes, dead_for }
    }
}

impl State {
    /// Where a request may go, or when there may be a place; no time if that depends on those under way.
    fn choose(&self, avoid: Option<usize>, now: Instant) -> Result<usize, Option<Instant>> {
        let mut best: Option<(bool, bool, u32, usize)> = None;
        let mut soonest: Option<Instant> = None;
        for (url, place) in self.urls.iter().enumerate() {
            if f64::from(place.in_flight) >= place.window.floor() || (place.down.is_some() && place.is_tried) {
                continue;
            }
            if let Some(not_before) = place.not_before.filter(|not_before| *not_before > now) {
                soonest = Some(soonest.map_or(not_before, |soonest| soonest.min(not_before)));
                continue;
            }
            // One that may be back is tried, or it never is; then the one with the fewest under way.
            let rank = (place.down.is_none(), avoid == Some(url), place.in_flight, url);
            best = Some(best.map_or(rank, |best| best.min(rank)));
        }
        best.map(|(_, _, _, url)| url).ok_or(soonest)
    }

    /// At least 0 and less than 1. Not for results: only for when something is sent.
    fn chance(&mut self) -> f64 {
        // xorshift64.
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The right to send one request to one URL. Dropped, it is given back, and says nothing of the URL.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    url: usize,
    began: Instant,
    tokens: u64,
    /// Whether it shows whether the URL is back.
    tries: bool,
}

impl Permit {
    /// Where.
    pub(crate) fn url(&self) -> usize {
        self.url
    }

    /// An answer came, which took so many tokens.
    pub(crate) fn answered(self, tokens: u64) {
        let mut state = self.gate.state();
        let now = Instant::now();
        state.successes += 1;
        state.last_success = now;
        (state.failing, state.throttled) = (None, None);
        if let Some(pace) = &mut state.tokens {
            pace.give_back(self.tokens as f64 - tokens as f64);
        }
        let place = &mut state.urls[self.url];
        place.window = (place.window + 1.0 / place.window).min(self.gate.most);
        (place.failures, place.cuts, place.down) = (0, 0, None);
        // Dropped, it is given back.
    }

    /// The endpoint understood the request and would not answer it: it is alive.
    pub(crate) fn refused(self) {
        self.answered(0);
    }

    /// It was asked too often, and said how long to wait, or not.
    pub(crate) fn throttled(self, wait: Option<Duration>) -> Standing {
        let mut state = self.gate.state();
        let now = Instant::now();
        let since = self.began.max(state.last_success);
        state.failing = None;
        state.throttled.get_or_insert(since);
        if let Some(pace) = &mut state.tokens {
            pace.give_back(self.tokens as f64);
        }
        // It speaks: it is not down.
        let place = &mut state.urls[self.url];
        (place.failures, place.down) = (0, None);
        self.ease(&mut state, now, wait.map(|wait| wait.min(self.gate.throttled_for)));
        self.gate.standing(&state, now, true)
    }

    /// No answer came. `overloaded`: because the endpoint has too much to do.
    pub(crate) fn failed(self, wait: Option<Duration>, overloaded: bool) -> Standing {
        let mut state = self.gate.state();
        let now = Instant::now();
        let since = self.began.max(state.last_success);
        state.failing.get_or_insert(since);
        state.throttled.get_or_insert(since);
        if overloaded || wait.is_some() {
            self.ease(&mut state, now, wait.map(|wait| wait.min(self.gate.give_up)));
        }
        let jitter = 0.5 + state.chance() / 2.0;
        let place = &mut state.urls[self.url];
        place.failures += 1;
        if self.tries || (place.failures >= FAILURES && place.down.is_none()) {
            let pause = place.down.map_or(PAUSE, |pause| pause * 2).min(self.gate.longest_pause);
            place.down = Some(pause);
            place.not_before = place.not_before.max(Some(now + pause.mul_f64(jitter)));
        }
        self.gate.standing(&state, now, false)
    }

    /// Sends less to the URL: half as much, once for all requests that were under way together, and nothing for a while if that was said or if
    /// it did not help.
    fn ease(&self, state: &mut State, now: Instant, wait: Option<Duration>) {
        let jitter = 0.5 + state.chance() / 2.0;
        let place = &mut state.urls[self.url];
        let is_news = self.began >= place.cut_at;
        if is_news {
            place.window = (place.window / 2.0).max(1.0);
            place.cut_at = now;
            place.cuts += 1;
        }
        let pause = match wait {
            Some(wait) => wait,
            None if is_news && place.cuts > 1 => {
                PAUSE.saturating_mul(1 << (place.cuts - 2).min(16)).min(self.gate.longest_pause).mul_f64(jitter)
            }
            None => return,
        };
        place.not_before = place.not_before.max(Some(now + pause));
    }

    /// Gives it back under the lock, without letting anybody in.
    fn take_back(mut self, state: &mut State) {
        self.leave(state);
        // Its place is given back: dropped now, it would give back another.
        self.url = usize::MAX;
    }

    fn leave(&self, state: &mut State) {
        if let Some(place) = state.urls.get_mut(self.url) {
            place.in_flight -= 1;
            if self.tries {
                place.is_tried = false;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.url == usize::MAX {
            return;
        }
        self.leave(&mut self.gate.state());
        self.gate.let_in();
    }
}
