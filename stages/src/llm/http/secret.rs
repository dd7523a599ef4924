//! Keys: read from the environment when a run begins, sent in headers, and taken out of every text that comes from outside.

use std::borrow::Cow;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::StageError;
use crate::llm::LlmSettings;

/// Stands where a secret stood.
const HIDDEN: &str = "***";

/// Shorter values are no secrets, and stand in half of all texts.
const SHORTEST: usize = 4;

/// Shorter values stay in what models answer: `none`, `test` and `EMPTY` stand for a key where none is needed, and are words besides.
const SHORTEST_IN_ANSWERS: usize = 12;

/// A value that nobody sees. There is no way to print it: it is sent, and compared with.
struct Secret(String);

/// What an endpoint is told so that it answers.
#[derive(Default)]
pub(crate) struct Secrets {
    headers: HeaderMap,
    /// What is taken out of texts, the longest first.
    hidden: Vec<Secret>,
}

impl Secrets {
    /// Reads the variables that `settings` name.
    ///
    /// # Errors
    /// A variable that is not set, or that no header can hold; the value is not in it.
    pub(crate) fn read(settings: &LlmSettings, variable: impl Fn(&str) -> Option<String>) -> Result<Self, StageError> {
        let mut secrets = Self::default();
        if let Some(name) = &settings.api_key_env {
            let key = value(name, "api_key_env", &variable)?;
            secrets.add(AUTHORIZATION, &format!("Bearer {key}"), name, "api_key_env")?;
            secrets.hide(&key);
        }
        for (header, name) in &settings.headers_env {
            let setting = format!("headers_env.{header}");
            let value = value(name, &setting, &variable)?;
            let header = HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| StageError::setting(&setting, format!("`{}` is no name of a header", header.escape_debug())))?;
            secrets.add(header, &value, name, &setting)?;
            secrets.hide(&value);
            // `Bearer …`, `Basic …`: the word behind is the secret.
            value.split_whitespace().filter(|word| word.len() >= 8).for_each(|word| secrets.hide(word));
        }
        secrets.hidden.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
        Ok(secrets)
    }

    fn add(&mut self, header: HeaderName, value: &str, name: &str, setting: &str) -> Result<(), StageError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            StageError::setting(setting, format!("the value of the environment variable `{name}` has characters that no header can have"))
        })?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(())
    }

    fn hide(&mut self, value: &str) {
        if value.len() >= SHORTEST && self.hidden.iter().all(|secret| secret.0 != value) {
            self.hidden.push(Secret(value.to_owned()));
        }
    }

    /// The headers that every request has.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The text without the secrets.
    pub(crate) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.without(text, SHORTEST)
    }

    /// An answer without the secrets that can't be there by chance: an answer is data.
    pub(crate) fn scrub_answer<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.without(text, SHORTEST_IN_ANSWERS)
    }

    fn without<'a>(&self, text: &'a str, shortest: usize) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for Secret(secret) in self.hidden.iter().filter(|secret| secret.0.len() >= shortest) {
            if memchr::memmem::find(text.as_bytes(), secret.as_bytes()).is_some() {
                text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
            }
        }
        text
    }
}

/// What stands in a variable, without the line's end that files bring along.
fn value(name: &str, setting: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, StageError> {
    match variable(name).map(|value| value.trim().to_owned()) {
        Some(value) if !value.is_empty() => Ok(value),
        found => {
            let how = if found.is_some() { "empty" } else { "not set" };
            Err(StageError::setting(setting, format!("the environment variable `{}` is {how}", name.escape_debug()))
                .with_help("set it before the run, or use stored answers only with `--offline-llm`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LlmSettings {
        let headers_env = [("x-team".to_owned(), "TEAM".to_owned())].into();
        LlmSettings { api_key_env: Some("KEY".to_owned()), headers_env, ..LlmSettings::of_model("m") }
    }

    fn variable(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("sk-planted-1\n".to_owned()),
            "TEAM" => Some("Basic cGxhbnRlZA==".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_key_is_a_header_that_cannot_be_printed() {
        let secrets = Secrets::read(&settings(), variable).expect("both are there");
        assert_eq!(secrets.headers()[AUTHORIZATION], "Bearer sk-planted-1");
        assert_eq!(secrets.headers()["x-team"], "Basic cGxhbnRlZA==");
        let shown = format!("{:?}", secrets.headers());
        assert!(!shown.contains("planted") && !shown.contains("cGxh"), "{shown}");
    }

    #[test]
    fn texts_from_outside_lose_the_secrets() {
        let secrets = Secrets::read(&settings(), variable).expect("both are there");
        let text = "no key sk-planted-1, sk-planted-1x nor cGxhbnRlZA== of Basic cGxhbnRlZA==";
        assert_eq!(secrets.scrub(text), "no key ***, ***x nor *** of ***");
        assert!(matches!(secrets.scrub("nothing"), Cow::Borrowed(_)));
        assert_eq!(secrets.scrub_answer(text), secrets.scrub(text));
    }

    #[test]
    fn a_word_that_stands_for_a_key_stays_in_answers() {
        let secrets =
            Secrets::read(&LlmSettings { api_key_env: Some("KEY".to_owned()), ..LlmSettings::of_model("m") }, |_| Some("test".to_owned()));
        let secrets = secrets.expect("it is there");
        assert_eq!(secrets.scrub_answer("This is a test."), "This is a test.");
        assert_eq!(secrets.scrub("it said: test"), "it said: ***");
    }

    #[test]
    fn a_variable_that_is_missing_or_can_be_no_header_is_named() {
        let error = |variable: fn(&str) -> Option<String>| Secrets::read(&settings(), variable).err().expect("an error").to_string();
        assert_eq!(error(|_| None), "the environment variable `KEY` is not set");
        assert_eq!(error(|_| Some(" ".to_owned())), "the environment variable `KEY` is empty");
        let unsayable = error(|_| Some("a\u{1}secret".to_owned()));
        assert_eq!(unsayable, "the value of the environment variable `KEY` has characters that no header can have");
    }
}
