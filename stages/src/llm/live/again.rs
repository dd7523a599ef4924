//! After a failure: whose fault it is, and whether and when it is tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use url::Url;

use super::super::answers::Answers;
use super::super::http::{Bill, Reply, Standing};
use super::failure::Failure;
use super::{Cleared, DOUBTS, Inner, PROBE, Sender, Tries};
use crate::llm::{Ask, Message, Role, Usage};

impl Inner {
    /// After a failure: waits before the next attempt, or gives up the request or the endpoint.
    pub(super) async fn failed(
        self: &Arc<Self>,
        sender: &Sender,
        answers: &Answers,
        tries: &mut Tries,
        standing: Standing,
        url: &Url,
        said: &str,
    ) -> Result<(), Failure> {
        tries.failures += 1;
        tries.is_again = true;
        let mut successes = standing.successes;
        if successes <= tries.seen && (tries.failures >= DOUBTS || standing.dead_for.is_some()) {
            // One is enough for all who doubt. Who is about to give up waits for it, and asks itself if it brought nothing.
            let probing = match standing.dead_for {
                Some(_) => Some(self.unless_ended(sender.probing.lock()).await?),
                None => sender.probing.try_lock().ok(),
            };
            if probing.is_some() && sender.gate.successes() <= tries.seen {
                self.unless_ended(self.probe(sender, answers)).await??;
            }
            successes = sender.gate.successes();
        }
        if successes > tries.seen {
            tries.seen = successes;
            tries.counted += 1;
        } else if let Some(silent) = standing.dead_for {
            return Err(self.end(self.gone(url, said, silent, "give_up_after_seconds")));
        }
        if tries.counted >= self.settings.max_attempts.get() {
            let detail = format!("sent {} times while others were answered; the last time: {said}", tries.failures);
            return Err(Failure::Refused { reason: "request_failed", detail });
        }
        self.unless_ended(tokio::time::sleep(sender.gate.backoff(tries.failures))).await
    }

    /// Sends a small request. If it is answered, the endpoint is well, and requests that fail are at fault themselves.
    async fn probe(self: &Arc<Self>, sender: &Sender, answers: &Answers) -> Result<(), Failure> {
        let ask = Ask::new(vec![Message::text(Role::User, "Hello")], 1);
        let request = self.prepare(ask.key(&self.identity), &ask)?;
        let tries = Tries { counted: 0, failures: 0, seen: 0, avoid: None, is_again: true };
        let cleared = self.clear(sender, answers, &request, &tries).await?;
        let (url, prompt_most) = (cleared.url.clone(), cleared.prompt_most);
        match sender.transport.send(&url, request.body, PROBE).await {
            Reply::Answer(_, usage) => {
                let usage = usage.unwrap_or(Usage { prompt_tokens: prompt_most, completion_tokens: 1, guessed: true });
                let spent = self.spent(usage.prompt_tokens, usage.completion_tokens);
                let Cleared { permit, held, receipt, .. } = cleared;
                let settled = self.settle(answers, receipt, spent);
                held.settle(spent);
                permit.answered(spent.tokens);
                settled.map_err(|error| self.end(error.into()))?;
            }
            Reply::Refused(_) => self.book(answers, cleared, Bill::Request)?.refused(),
            Reply::Throttled { wait, .. } => {
                self.book(answers, cleared, Bill::Request)?.throttled(wait);
            }
            Reply::Failed { wait, bill, overloaded, .. } => {
                self.book(answers, cleared, bill)?.failed(wait, overloaded);
            }
            Reply::Dead(dead) => {
                drop(self.book(answers, cleared, Bill::Request)?);
                return Err(self.end(self.dead(&url, &dead)));
            }
        }
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
