//! The one way from a stage to a model: `Llm::ask`. Who answers is decided when a run begins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;

use super::live::{Live, Store};
use super::{Answer, Ask, AskError, Asked, LlmFigures, LlmName, LlmSettings, Message, Origin, Role, Usage};
use crate::{BuildContext, StageError};

/// The models of a pipeline, by their name in `llms`.
#[derive(Debug, Clone, Default)]
pub struct Llms {
    entries: Arc<BTreeMap<String, Arc<Llm>>>,
    /// Whether any name is one: for stages that are built without a pipeline.
    any: Option<Arc<Llm>>,
}

impl Llms {
    /// These.
    pub fn new(entries: impl IntoIterator<Item = (String, LlmSettings)>) -> Self {
        let llm = |(name, settings): (String, LlmSettings)| (name.clone(), Arc::new(Llm::new(&name, settings)));
        Self { entries: Arc::new(entries.into_iter().map(llm).collect()), any: None }
    }

    /// One that answers to every name, by `script`.
    pub fn scripted(script: Script) -> Self {
        let llm = Llm::new("any", LlmSettings::of_model("scripted"));
        llm.answer_by(Box::new(Scripted { script, stored: AtomicU64::new(0) }));
        Self { entries: Arc::default(), any: Some(Arc::new(llm)) }
    }

    /// One that answers to every name, with the stand-ins of the requests.
    pub fn stand_ins() -> Self {
        Self::scripted(Box::new(|ask| Ok(ask.stand_in.clone())))
    }

    /// The model called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Llm>> {
        self.entries.get(name).or(self.any.as_ref())
    }

    /// Those of them that are called so; they are shared, not made again.
    #[must_use]
    pub fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let wanted = self.entries.iter().filter(|(name, _)| is_wanted(name)).map(|(name, llm)| (name.clone(), Arc::clone(llm)));
        Self { entries: Arc::new(wanted.collect()), any: self.any.clone() }
    }

    /// Makes them ready to be asked. Nothing is opened, connected or started before the first is.
    ///
    /// # Errors
    /// What makes the whole run wrong: a key that is not there, say.
    pub fn open(&self, session: &LlmSession) -> Result<(), StageError> {
        let store = Store::of(session);
        self.iter().try_for_each(|(_, llm)| llm.open_with(session, &store))
    }

    /// Ends what was started for them.
    pub fn close(&self) {
        self.iter().for_each(|(_, llm)| llm.close());
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Llm>)> {
        self.entries.iter().map(|(name, llm)| (name.as_str(), llm))
    }
}

impl BuildContext {
    /// The model that the setting `setting` names.
    ///
    /// # Errors
    /// [`StageError::Setting`] if there is none.
    pub fn llm(&self, setting: &str, name: &LlmName) -> Result<Arc<Llm>, StageError> {
        if let Some(llm) = self.llms.get(&name.0) {
            return Ok(Arc::clone(llm));
        }
        let names: Vec<String> = self.llms.iter().map(|(name, _)| format!("`{name}`")).collect();
        let help = if names.is_empty() {
            format!("add `llms: {{{}: {{endpoint: \"http://127.0.0.1:8080/v1\", model: …}}}}` beside `stages`", name.0.escape_debug())
        } else {
            format!("`llms` has {}", names.join(", "))
        };
        Err(StageError::setting(setting, format!("`llms` has no entry `{}`", name.0.escape_debug())).with_help(help))
    }
}

/// How a run asks.
#[derive(Debug, Clone)]
pub struct LlmSession {
    /// The folder where answers are kept.
    pub answers: PathBuf,
    /// What the spending is booked to: one name for one output.
    pub account: String,
    /// Whether stored answers are all there are.
    pub offline: bool,
    /// Where programs that serve models run, and what their relative paths are relative to.
    pub base_dir: PathBuf,
    /// Where what those programs write is kept.
    pub logs: Option<PathBuf>,
    /// What requests run on.
    pub runtime: tokio::runtime::Handle,
    /// Set from outside to end the run before it is done.
    pub interrupted: Arc<AtomicBool>,
}

/// Whoever answers.
pub trait Answerer: Send + Sync {
    /// Answers a request.
    fn answer<'a>(&'a self, llm: &'a Llm, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>>;
    /// What the requests came to.
    fn figures(&self) -> LlmFigures;
    /// What went wrong with the last request, if none was answered since; nothing of it is secret.
    fn trouble(&self) -> Option<String> {
        None
    }
    /// Ends what was started for it; called once, after the last answer.
    fn close(&self) {}
}

/// A model that a pipeline names.
pub struct Llm {
    name: String,
    settings: LlmSettings,
    identity: String,
    answerer: OnceLock<Box<dyn Answerer>>,
}

impl fmt::Debug for Llm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Llm").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Llm {
    /// The model called `name`; nobody answers yet.
    pub fn new(name: &str, settings: LlmSettings) -> Self {
        Self { name: name.to_owned(), identity: settings.identity(), settings, answerer: OnceLock::new() }
    }

    /// Its name in `llms`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its settings.
    pub fn settings(&self) -> &LlmSettings {
        &self.settings
    }

    /// What its answers depend on besides the request; part of the fingerprint of stages that ask it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Rows that a stage which asks it has under way at once: enough that those which take long hold up nobody.
    pub fn window(&self) -> usize {
        let urls = self.settings.endpoint.as_ref().map_or(1, |endpoint| endpoint.urls().len().max(1));
        let at_once = usize::try_from(self.settings.max_in_flight.get()).unwrap_or(usize::MAX).saturating_mul(urls);
        at_once.saturating_mul(4).clamp(16, 8192)
    }

    /// Decides who answers; the first decision holds.
    pub fn answer_by(&self, answerer: Box<dyn Answerer>) {
        // Set twice only by a run that is planned again, which wants the same.
        let _ = self.answerer.set(answerer);
    }

    /// Makes it ready to be asked: as [`Llms::open`], which lets all models share the answers that are stored.
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, session: &LlmSession) -> Result<(), StageError> {
        self.open_with(session, &Store::of(session))
    }

    fn open_with(&self, session: &LlmSession, store: &Arc<Store>) -> Result<(), StageError> {
        if self.answerer.get().is_none() {
            self.answer_by(Box::new(Live::new(&self.name, &self.settings, session, Arc::clone(store))?));
        }
        Ok(())
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(&self, ask: &Ask) -> Result<Answer, AskError> {
        let Some(answerer) = self.answerer.get() else {
            return Err(StageError::Internal(format!("the model `{}` was asked before the run began", self.name)).into());
        };
        answerer.answer(self, ask).await
    }

    /// Asks until `read` can use the answer, `tries` times at most. An answer that it can't use is shown to the model, with what was wrong.
    ///
    /// # Errors
    /// [`AskError`]; `unusable_answer` with the last raw answer.
    pub async fn ask_until<T: Send>(
        &self,
        mut ask: Ask,
        tries: u32,
        mut read: impl FnMut(&Answer) -> Result<T, String> + Send,
    ) -> Result<Asked<T>, AskError> {
        let opening = ask.messages.len();
        let mut all = Vec::new();
        loop {
            let answer = match self.ask(&ask).await {
                Ok(answer) => answer,
                Err(AskError::Refused { reason, detail, mut answers }) => {
                    all.append(&mut answers);
                    return Err(AskError::Refused { reason, detail, answers: all });
                }
                Err(stop) => return Err(stop),
            };
            let wrong = match read(&answer) {
                Ok(value) => {
                    all.push(answer.clone());
                    return Ok(Asked { value, answer, all });
                }
                Err(wrong) => wrong,
            };
            all.push(answer.clone());
            if all.len() as u64 >= u64::from(tries.max(1)) {
                let detail = format!("{wrong}; asked {} times; the last answer: {}", all.len(), answer.text);
                return Err(AskError::Refused { reason: "unusable_answer", detail, answers: all });
            }
            // The last answer alone is shown: a conversation of failures only grows.
            ask.messages.truncate(opening);
            let shown = if answer.text.is_empty() { "(nothing)".to_owned() } else { head(&answer.text, 4000) };
            ask.messages.push(Message::text(Role::Assistant, shown));
            ask.messages
                .push(Message::text(Role::User, format!("That can't be used: {wrong}. Answer again, in the form that was asked for.")));
            ask.draw += 1;
        }
    }

    /// What was asked so far.
    pub fn figures(&self) -> LlmFigures {
        self.answerer.get().map(|answerer| answerer.figures()).unwrap_or_default()
    }

    /// What went wrong with the last request, if none was answered since.
    pub fn trouble(&self) -> Option<String> {
        self.answerer.get()?.trouble()
    }

    /// Ends what was started for it.
    pub fn close(&self) {
        if let Some(answerer) = self.answerer.get() {
            answerer.close();
        }
    }
}

/// The first characters of a text, so many bytes at most.
fn head(text: &str, bytes: usize) -> String {
    if text.len() <= bytes { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(bytes)]) }
}

/// What a scripted model says to a request; an error refuses it, with the text as its detail.
pub type Script = Box<dyn Fn(&Ask) -> Result<String, String> + Send + Sync>;

struct Scripted {
    script: Script,
    stored: AtomicU64,
}

impl Answerer for Scripted {
    fn answer<'a>(&'a self, llm: &'a Llm, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
        Box::pin(async move {
            let text = (self.script)(ask).map_err(|detail| AskError::refused("request_refused", detail))?;
            self.stored.fetch_add(1, Ordering::Relaxed);
            let usage = Usage { prompt_tokens: tokens(ask.text_bytes()), completion_tokens: tokens(text.len()), guessed: true };
            Ok(Answer { text, cut: false, usage, key: ask.key(&llm.identity), origin: Origin::StandIn })
        })
    }

    fn figures(&self) -> LlmFigures {
        LlmFigures { stored: self.stored.load(Ordering::Relaxed), ..LlmFigures::default() }
    }
}

/// Tokens of a text of so many bytes, about.
fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}
