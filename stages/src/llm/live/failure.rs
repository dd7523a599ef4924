//! Why there is no answer, for all who wait for it, in words.

use std::time::Duration;

use url::Url;

use super::super::answers::AnswersError;
use super::super::http::Dead;
use super::super::served::NotServed;
use super::Inner;
use crate::StageError;
use crate::llm::AskError;

/// Why there is no answer, for all who wait for it.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Refused { reason: &'static str, detail: String },
    Stopped { problem: String, help: String },
    Endpoint { problem: String, help: String },
    Program { run: String, problem: String },
    Interrupted,
    Internal(String),
}

impl From<Failure> for AskError {
    fn from(failure: Failure) -> Self {
        Self::Stop(match failure {
            Failure::Refused { reason, detail } => return Self::refused(reason, detail),
            Failure::Stopped { problem, help } => StageError::Stopped { problem, help },
            Failure::Endpoint { problem, help } => StageError::Endpoint { problem, help },
            Failure::Program { run, problem } => StageError::Program { run, problem },
            Failure::Interrupted => StageError::Interrupted,
            Failure::Internal(what) => StageError::Internal(what),
        })
    }
}

impl From<AnswersError> for Failure {
    fn from(error: AnswersError) -> Self {
        Self::Stopped { problem: error.to_string(), help: error.help().to_owned() }
    }
}

impl Inner {
    /// What is said of an endpoint that was silent for so long.
    pub(super) fn gone(&self, url: &Url, said: &str, silent: Duration, setting: &str) -> Failure {
        let name = &self.name;
        let problem = format!("`{name}` gave no answer for {} s: {url}: {said}", silent.as_secs());
        let see = match &self.served {
            Some(served) => format!("see in its log what ails the program of `{}`", served.name()),
            None => "see whether the endpoint is up".to_owned(),
        };
        Failure::Stopped { problem, help: format!("{see}, or wait longer with `llms.{name}.{setting}`") }
    }

    /// What is said of an endpoint that answers nobody.
    pub(super) fn dead(&self, url: &Url, dead: &Dead) -> Failure {
        let name = &self.name;
        let problem = |said: &str| format!("`{name}` at {url}: {}", self.clean(said));
        match dead {
            Dead::Unauthorized(said) => {
                let mut variables: Vec<String> = self.settings.api_key_env.iter().map(|name| format!("`{name}`")).collect();
                variables.extend(self.settings.headers_env.values().map(|name| format!("`{name}`")));
                let help = if variables.is_empty() {
                    format!("name the environment variable that holds the key: `llms.{name}.api_key_env`")
                } else {
                    format!("see whether the environment variable {} holds a key that is right for this endpoint", variables.join(" or "))
                };
                Failure::Endpoint { problem: problem(said), help }
            }
            Dead::NoQuota(said) => Failure::Stopped {
                problem: problem(said),
                help: "there is no money left with whoever runs the endpoint: add some and run again".to_owned(),
            },
            Dead::NotFound(said) => Failure::Endpoint {
                problem: problem(said),
                help: format!(
                    "see whether `llms.{name}.endpoint` ends where the API begins, mostly in `/v1`, and `model` is one that it has"
                ),
            },
            Dead::Moved(said) => {
                Failure::Endpoint { problem: problem(said), help: format!("name the URL that answers in `llms.{name}.endpoint`") }
            }
            Dead::Untrusted(said) => Failure::Endpoint {
                problem: problem(said),
                help: "the endpoint can't prove who it is; its certificate must be signed by an authority that this machine trusts"
                    .to_owned(),
            },
        }
    }
}

pub(super) fn not_served(NotServed { run, problem, died }: NotServed) -> Failure {
    if died {
        return Failure::Stopped { problem: format!("`{run}` {problem}"), help: "mend what ended it, and run again".to_owned() };
    }
    Failure::Program { run, problem }
}
