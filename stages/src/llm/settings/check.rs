//! What can be wrong with an entry of `llms`, all of it at once.

use reqwest::header::HeaderName;
use url::Url;

use super::{Endpoints, LlmSettings};
use crate::StageError;
use crate::llm::http::{RESERVED, is_loopback};

/// What parameters of a URL are called that hold secrets.
const SECRET: [&str; 7] = ["key", "token", "secret", "password", "passwd", "sig", "credential"];

/// Headers that say how a request is sent.
const OURS: [&str; 7] = ["accept", "connection", "content-length", "content-type", "host", "transfer-encoding", "user-agent"];

impl LlmSettings {
    /// What is wrong with them: each with its setting, as `budget.max_cost`.
    pub fn problems(&self) -> Vec<StageError> {
        let mut problems = Vec::new();
        if self.model.trim().is_empty() {
            problems.push(StageError::setting("model", "wanted the model's name as the endpoint knows it, found nothing"));
        }
        match (&self.endpoint, &self.command) {
            (None, None) => problems.push(
                StageError::setting(
                    "",
                    "wanted `endpoint`, the URL of a server, or `command`, a program that serves the model; found neither",
                )
                .with_help("for a server on this machine: `endpoint: \"http://127.0.0.1:8080/v1\"`"),
            ),
            (Some(_), Some(_)) => {
                let problem = "wanted `endpoint` or `command`, found both";
                let help = "take `endpoint` out: what `command` starts is asked at 127.0.0.1, on the port that it is given";
                problems.push(StageError::setting("endpoint", problem).with_help(help));
            }
            (Some(endpoint), None) => check_urls(endpoint, &mut problems),
            (None, Some(command)) => check_command(command, &mut problems),
        }
        self.check_fields(&mut problems);
        self.check_money(&mut problems);
        problems
    }

    fn check_fields(&self, problems: &mut Vec<StageError>) {
        for name in self.extra.keys() {
            if RESERVED.contains(&name.as_str()) && (name != "seed" || self.send_seed) {
                let help = match name.as_str() {
                    "stream" | "stream_options" => "take it out: whole answers are waited for",
                    "n" => "take it out: every request has one answer, and stages ask as often as they want",
                    "seed" => "take it out, or take `send_seed` out",
                    "response_format" => "take it out: `structured_output` says how an endpoint is told of JSON",
                    "model" => "name it in `model`",
                    "max_completion_tokens" => "write `limit_field: max_completion_tokens` instead: the number is the stage's",
                    _ => "take it out: the stages that ask set it",
                };
                problems.push(StageError::setting(format!("extra.{name}"), format!("`extra` can't set `{name}`")).with_help(help));
            }
        }
        for header in self.headers_env.keys() {
            let setting = format!("headers_env.{header}");
            match HeaderName::from_bytes(header.as_bytes()) {
                Err(_) => problems.push(StageError::setting(setting, format!("`{}` is no name of a header", header.escape_debug()))),
                Ok(name) if OURS.contains(&name.as_str()) => {
                    problems.push(StageError::setting(setting, format!("`headers_env` can't set `{name}`")));
                }
                Ok(name) if name == "authorization" && self.api_key_env.is_some() => {
                    let help = "take one of them out: `api_key_env` is sent as `Authorization: Bearer …`";
                    problems.push(StageError::setting(setting, "`api_key_env` sets `authorization` too").with_help(help));
                }
                Ok(_) => {}
            }
        }
    }

    fn check_money(&self, problems: &mut Vec<StageError>) {
        let mut is_money = |setting: &str, value: f64| {
            let is_right = value.is_finite() && value >= 0.0;
            if !is_right {
                problems.push(StageError::setting(setting, format!("wanted 0 or more, found {value}")));
            }
            is_right
        };
        let mut is_free = false;
        if let Some(price) = self.price {
            let is_right = is_money("price.prompt", price.prompt) & is_money("price.completion", price.completion);
            is_free = is_right && price.prompt == 0.0 && price.completion == 0.0;
        }
        if let Some(max_cost) = self.budget.max_cost {
            is_money("budget.max_cost", max_cost);
            let problem = match self.price {
                None => "`max_cost` holds nothing back without `price`, which says what tokens cost",
                Some(_) if is_free => "`max_cost` holds nothing back: all prices are 0",
                Some(_) => return,
            };
            let help = "say what a million tokens cost, as `price: {prompt: 0.5, completion: 1.5}`, or limit `max_tokens`";
            problems.push(StageError::setting("budget.max_cost", problem).with_help(help));
        }
    }

    /// What is right and yet not as one would want it: for people to read.
    pub fn warnings(&self) -> Vec<String> {
        let urls = self.endpoint.as_ref().map_or(&[][..], Endpoints::urls).iter();
        let in_the_clear = urls.filter(|url| Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url)));
        let what = if self.api_key_env.is_some() || !self.headers_env.is_empty() {
            "what is asked and answered, and the key,"
        } else {
            "what is asked and answered"
        };
        in_the_clear
            .map(|url| format!("{url} is plain http: {what} can be read by whoever stands on the way; take https if there is any"))
            .collect()
    }
}

fn check_urls(endpoint: &Endpoints, problems: &mut Vec<StageError>) {
    let urls = endpoint.urls();
    if urls.is_empty() {
        problems.push(StageError::setting("endpoint", "wanted one URL or several, found an empty list"));
    }
    for (place, url) in urls.iter().enumerate() {
        let setting = if matches!(endpoint, Endpoints::One(_)) { "endpoint".to_owned() } else { format!("endpoint[{place}]") };
        if let Some(error) = check_url(&setting, url) {
            problems.push(error);
        } else if urls[..place].contains(url) {
            problems.push(StageError::setting(setting, format!("{url} stands there twice")));
        }
    }
}

/// What is wrong with a URL. One that holds a secret is not shown.
fn check_url(setting: &str, text: &str) -> Option<StageError> {
    let example = "such as `http://127.0.0.1:8080/v1`";
    let url = match Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => url,
        // `user:password@host` without a scheme is no URL, and still a secret.
        _ if text.contains('@') => return Some(StageError::setting(setting, format!("wanted a URL with http or https, {example}"))),
        _ => {
            return Some(StageError::setting(
                setting,
                format!("wanted a URL with http or https, {example}; found `{}`", text.escape_debug()),
            ));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        let help =
            "put it into a variable, and name that in `api_key_env` or `headers_env`; a secret that stood in a file should be changed";
        return Some(StageError::setting(setting, "the URL holds a user's name or password, which is not shown here").with_help(help));
    }
    let is_secret = |name: &str| SECRET.iter().any(|secret| name.to_ascii_lowercase().contains(secret));
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| is_secret(name)) {
        let help =
            "put it into a variable, and name that in `api_key_env` or `headers_env`; a secret that stood in a file should be changed";
        return Some(
            StageError::setting(setting, format!("the URL's parameter `{name}` holds a secret, which is not shown here")).with_help(help),
        );
    }
    if url.fragment().is_some() {
        return Some(StageError::setting(setting, format!("`{text}` has a part behind `#`, which is never sent")));
    }
    if url.path().trim_end_matches('/').ends_with("/chat/completions") {
        let help = format!("end it before `/chat/completions`, {example}");
        return Some(StageError::setting(setting, format!("`{text}` names a request, not where the API begins")).with_help(help));
    }
    None
}

fn check_command(command: &[String], problems: &mut Vec<StageError>) {
    match command {
        [] => problems.push(StageError::setting("command", "wanted a program and its arguments, found an empty list")),
        [program, ..] if program.trim().is_empty() => {
            problems.push(StageError::setting("command", "wanted a program and its arguments, found no name of a program"));
        }
        [_, arguments @ ..] if !arguments.iter().any(|argument| argument.contains("{port}")) => {
            let problem = "no argument has `{port}`, the port that the program must listen on";
            problems.push(
                StageError::setting("command", problem).with_help("for llama.cpp: `[llama-server, -m, model.gguf, --port, \"{port}\"]`"),
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(settings: serde_json::Value) -> Vec<String> {
        let settings: LlmSettings = serde_json::from_value(settings).expect("settings");
        let shown = |error: StageError| match error {
            StageError::Setting { setting, problem, .. } => format!("{setting}: {problem}"),
            error => error.to_string(),
        };
        settings.problems().into_iter().map(shown).collect()
    }

    fn of_url(url: &str) -> Vec<String> {
        problems(json!({"model": "m", "endpoint": url}))
    }

    #[test]
    fn what_is_right_is_let_be() {
        assert!(of_url("http://127.0.0.1:8080/v1").is_empty());
        assert!(of_url("https://x.example.com/openai/deployments/m?api-version=2024-10-21").is_empty());
        assert!(problems(json!({"model": "m", "endpoint": ["https://a.example.com/v1", "https://b.example.com/v1"]})).is_empty());
        assert!(problems(json!({"model": "m", "command": ["serve", "--port={port}"], "extra": {"seed": 1, "min_p": 0.1}})).is_empty());
        let money =
            json!({"model": "m", "endpoint": "http://[::1]/v1", "budget": {"max_cost": 1.5}, "price": {"prompt": 0, "completion": 2}});
        assert!(problems(money).is_empty());
    }

    #[test]
    fn one_of_endpoint_and_command_is_wanted() {
        let neither = problems(json!({"model": " "}));
        assert_eq!(neither.len(), 2, "{neither:?}");
        assert!(neither[0].starts_with("model: ") && neither[1].ends_with("found neither"), "{neither:?}");
        let both = problems(json!({"model": "m", "endpoint": "http://127.0.0.1", "command": ["x", "{port}"]}));
        assert_eq!(both, ["endpoint: wanted `endpoint` or `command`, found both"]);
        assert_eq!(problems(json!({"model": "m", "endpoint": []})), ["endpoint: wanted one URL or several, found an empty list"]);
        let none = "command: wanted a program and its arguments, found an empty list";
        assert_eq!(problems(json!({"model": "m", "command": []})), [none]);
        let no_port = "command: no argument has `{port}`, the port that the program must listen on";
        assert_eq!(problems(json!({"model": "m", "command": ["serve", "--port", "8080"]})), [no_port]);
    }

    #[test]
    fn a_url_is_whole_and_holds_no_secret() {
        for (url, wanted) in [
            ("127.0.0.1:8080", "found `127.0.0.1:8080`"),
            ("ftp://example.com", "found `ftp://example.com`"),
            ("", "found ``"),
            ("http://", "found `http://`"),
            ("https://me:planted@example.com/v1", "a user's name or password"),
            ("me:planted@example.com/v1", "wanted a URL"),
            ("https://example.com/v1?api_key=planted", "the URL's parameter `api_key` holds a secret"),
            ("https://example.com/v1?Access-Token=planted", "the URL's parameter `Access-Token` holds a secret"),
            ("https://example.com/v1#x", "behind `#`"),
            ("https://example.com/v1/chat/completions", "names a request"),
        ] {
            let found = of_url(url);
            assert!(found.len() == 1 && found[0].contains(wanted) && !found[0].contains("planted"), "{url}: {found:?}");
        }
        let twice = problems(json!({"model": "m", "endpoint": ["http://127.0.0.1/v1", "http://127.0.0.1/v1"]}));
        assert_eq!(twice, ["endpoint[1]: http://127.0.0.1/v1 stands there twice"]);
    }

    #[test]
    fn fields_that_stages_set_are_not_set_beside_them() {
        let of = |extra: serde_json::Value| problems(json!({"model": "m", "endpoint": "http://127.0.0.1", "extra": extra}));
        for name in RESERVED.iter().filter(|name| **name != "seed") {
            assert_eq!(of(json!({*name: 1})), [format!("extra.{name}: `extra` can't set `{name}`")]);
        }
        let seed = problems(json!({"model": "m", "endpoint": "http://127.0.0.1", "extra": {"seed": 1}, "send_seed": true}));
        assert_eq!(seed, ["extra.seed: `extra` can't set `seed`"]);
        let headers = |headers: serde_json::Value| {
            problems(json!({"model": "m", "endpoint": "http://127.0.0.1", "headers_env": headers, "api_key_env": "KEY"}))
        };
        assert_eq!(headers(json!({"x y": "V"})), ["headers_env.x y: `x y` is no name of a header"]);
        assert_eq!(headers(json!({"Host": "V"})), ["headers_env.Host: `headers_env` can't set `host`"]);
        assert_eq!(headers(json!({"Authorization": "V"})), ["headers_env.Authorization: `api_key_env` sets `authorization` too"]);
        assert!(headers(json!({"x-api-key": "V"})).is_empty());
    }

    #[test]
    fn money_can_be_counted() {
        let of = |prompt: f64, max_cost: f64| {
            let price = super::super::Price { prompt, completion: 0.0 };
            let mut settings = LlmSettings { price: Some(price), ..LlmSettings::of_model("m") };
            settings.endpoint = Some(Endpoints::One("http://127.0.0.1".to_owned()));
            settings.budget.max_cost = Some(max_cost);
            settings.problems().iter().map(StageError::to_string).collect::<Vec<_>>()
        };
        assert!(of(1.0, 0.0).is_empty());
        assert_eq!(of(-1.0, 1.0), ["wanted 0 or more, found -1"]);
        assert_eq!(of(1.0, f64::NAN), ["wanted 0 or more, found NaN"]);
        assert_eq!(of(f64::INFINITY, -1.0), ["wanted 0 or more, found inf", "wanted 0 or more, found -1"]);
        assert_eq!(of(0.0, 1.0), ["`max_cost` holds nothing back: all prices are 0"]);
        let free = problems(json!({"model": "m", "endpoint": "http://127.0.0.1", "budget": {"max_cost": 1}}));
        assert_eq!(free, ["budget.max_cost: `max_cost` holds nothing back without `price`, which says what tokens cost"]);
    }

    #[test]
    fn plain_http_is_warned_of_beyond_this_machine() {
        let of = |url: &str| LlmSettings { endpoint: Some(Endpoints::One(url.to_owned())), ..LlmSettings::of_model("m") }.warnings();
        assert!(of("http://127.0.0.1:8080/v1").is_empty() && of("http://localhost/v1").is_empty() && of("https://example.com").is_empty());
        let warned = of("http://10.0.0.5:8000/v1");
        assert!(
            warned.len() == 1 && warned[0].starts_with("http://10.0.0.5:8000/v1 is plain http: what is asked and answered can be"),
            "{warned:?}"
        );
    }
}
