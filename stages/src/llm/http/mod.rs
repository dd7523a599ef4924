//! One request to one URL: what is sent, how long it may take, and what the reply means.

mod gate;
mod pace;
mod secret;
mod wire;

use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use url::{Host, Url};

use super::LlmSettings;
use super::answers::StoredAnswer;
use super::ask::Usage;

pub(super) use gate::{Gate, Permit, Standing};
pub(super) use secret::Secrets;
pub(super) use wire::{RESERVED, body};

/// How long a connection is kept that nobody uses: servers in Python close theirs after five seconds, and what is sent at that moment is lost.
const IDLE: Duration = Duration::from_secs(4);
/// Bytes of a reply that is no answer.
const MOST_ERROR: usize = 64 << 10;

/// What came of sending a request once.
pub(super) enum Reply {
    /// An answer, and the tokens if it said them.
    Answer(StoredAnswer, Option<Usage>),
    /// It was asked too often.
    Throttled {
        /// How long it says to wait.
        wait: Option<Duration>,
        said: String,
    },
    /// No answer; the next time may be better.
    Failed {
        said: String,
        wait: Option<Duration>,
        bill: Bill,
        /// It has too much to do.
        overloaded: bool,
    },
    /// It will never answer this request.
    Refused(String),
    /// It will answer no request.
    Dead(Dead),
}

/// What an attempt without an answer may have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bill {
    /// It never reached the server.
    Nothing,
    /// The server did no work for it.
    Request,
    /// Nobody knows: all that it could cost.
    Everything,
}

/// Why an endpoint answers nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dead {
    /// The key is wrong.
    Unauthorized(String),
    /// There is no money left.
    NoQuota(String),
    /// There is no such path or model.
    NotFound(String),
    /// It is elsewhere.
    Moved(String),
    /// It is not who it says it is.
    Untrusted(String),
}

/// Sends requests.
pub(super) struct Transport {
    client: Client,
    /// For this machine: never through a proxy.
    loopback: Client,
    settings: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    timeout: Duration,
    most_bytes: usize,
}

impl Transport {
    /// With the limits of `settings` and the headers of `secrets`.
    ///
    /// # Errors
    /// If there is no way to connect from here.
    pub(super) fn new(settings: &LlmSettings, secrets: &Secrets) -> Result<Self, String> {
        // Without one, the first client panics.
        datasets::remote::install_cryptography();
        let mut headers: HeaderMap = secrets.headers().clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let client = |loopback: bool| {
            let builder = Client::builder()
                .user_agent(concat!("granary/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers.clone())
                .connect_timeout(Duration::from_secs(settings.connect_timeout_seconds.get().into()))
                .pool_idle_timeout(IDLE)
                .redirect(reqwest::redirect::Policy::none())
                // What is sent again is decided where it is paid for.
                .retry(reqwest::retry::never())
                .no_gzip();
            let builder = if loopback { builder.no_proxy() } else { builder };
            builder.build().map_err(|error| secrets.scrub(&causes(&error)).into_owned())
        };
        let limits = Limits {
            timeout: Duration::from_secs(settings.timeout_seconds.get().into()),
            most_bytes: usize::try_from(settings.max_answer_bytes.get()).unwrap_or(usize::MAX),
        };
        Ok(Self { client: client(false)?, loopback: client(true)?, settings: limits })
    }

    /// Sends a request to `url` (`…/chat/completions`).
    pub(super) async fn send(&self, url: &Url, body: Bytes) -> Reply {
        match tokio::time::timeout(self.settings.timeout, self.exchange(url, body)).await {
            Ok(reply) => reply,
            Err(_) => failed(format!("no whole answer within {} s", self.settings.timeout.as_secs()), Bill::Everything),
        }
    }

    async fn exchange(&self, url: &Url, body: Bytes) -> Reply {
        let client = if is_loopback(url) { &self.loopback } else { &self.client };
        let mut response = match client.post(url.clone()).body(body).send().await {
            Ok(response) => response,
            Err(error) => {
                let bill = if error.is_connect() { Bill::Nothing } else { Bill::Everything };
                let said = causes(&error.without_url());
                // Time does not heal it.
                return if said.contains("invalid peer certificate") { Reply::Dead(Dead::Untrusted(said)) } else { failed(said, bill) };
            }
        };
        let status = response.status();
        let most = if status.is_success() { self.settings.most_bytes } else { MOST_ERROR.min(self.settings.most_bytes) };
        let body = match read(&mut response, most).await {
            Ok(body) => body,
            Err(_) if !status.is_success() => Vec::new(),
            Err(said) => return failed(said, Bill::Everything),
        };
        meaning(status, response.headers(), &body)
    }

    /// The status of a GET, if there is one.
    pub(super) async fn probe(&self, url: Url, within: Duration) -> Option<StatusCode> {
        let client = if is_loopback(&url) { &self.loopback } else { &self.client };
        let request = client.get(url).timeout(within).send().await;
        request.ok().map(|response| response.status())
    }
}

fn failed(said: String, bill: Bill) -> Reply {
    Reply::Failed { said, wait: None, bill, overloaded: false }
}

/// The body of a response, if it has no more than `most` bytes.
async fn read(response: &mut Response, most: usize) -> Result<Vec<u8>, String> {
    let expected = response.content_length().and_then(|length| usize::try_from(length).ok());
    if expected.is_some_and(|length| length > most) {
        return Err(too_long(most));
    }
    let mut body = Vec::with_capacity(expected.unwrap_or(0).min(64 << 10));
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) => {
                if body.len() + chunk.len() > most {
                    return Err(too_long(most));
                }
                body.extend_from_slice(&chunk);
            }
            Err(error) => return Err(format!("its answer broke off after {} bytes: {}", body.len(), causes(&error.without_url()))),
        }
    }
}

fn too_long(most: usize) -> String {
    format!("its answer has more than {most} bytes (`max_answer_bytes`)")
}

/// What a whole reply means.
fn meaning(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Reply {
    if status.is_success() {
        return match wire::read_answer(body) {
            Ok((answer, usage)) => Reply::Answer(answer, usage),
            Err(said) => failed(said, Bill::Everything),
        };
    }
    let words = wire::said(body);
    let said = if words.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {words}") };
    let wait = wait(headers, SystemTime::now());
    match status.as_u16() {
        429 if wire::code(body).is_some() => Reply::Dead(Dead::NoQuota(said)),
        402 => Reply::Dead(Dead::NoQuota(said)),
        429 => Reply::Throttled { wait, said },
        401 | 403 => Reply::Dead(Dead::Unauthorized(said)),
        404 => Reply::Dead(Dead::NotFound(said)),
        300..400 => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            Reply::Dead(Dead::Moved(format!("{said}, to {to}")))
        }
        // 529: what Anthropic says for 503.
        503 | 529 => Reply::Failed { said, wait, bill: Bill::Request, overloaded: true },
        408 | 409 | 425 | 500.. => Reply::Failed { said, wait, bill: Bill::Request, overloaded: false },
        400..500 => Reply::Refused(said),
        _ => Reply::Failed { said, wait, bill: Bill::Everything, overloaded: false },
    }
}

/// How long a server says to wait.
fn wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = |seconds: f64| (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(1e6)));
    if let Some(milliseconds) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return seconds(milliseconds / 1000.0);
    }
    let after = text(RETRY_AFTER.as_str())?;
    if let Ok(number) = after.parse::<f64>() {
        return seconds(number);
    }
    let until = httpdate::parse_http_date(after).ok()?;
    // By its own clock, if it shows it.
    let now = text(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

/// An error and all that is behind it.
fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() { "can't connect".to_owned() } else { error.to_string() };
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Whether it is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

/// Where requests to the API at `base` (up to `/v1`) go.
pub(super) fn below(base: &str, path: &str) -> Result<Url, url::ParseError> {
    let mut url = Url::parse(base)?;
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_server_says_how_long_to_wait() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let waits = |pairs: &[(&'static str, &'static str)]| wait(&headers(pairs), now).map(|wait| wait.as_millis());
        assert_eq!(waits(&[]), None);
        assert_eq!(waits(&[("retry-after", "3")]), Some(3000));
        assert_eq!(waits(&[("retry-after", "0.5")]), Some(500));
        assert_eq!(waits(&[("retry-after", "3"), ("retry-after-ms", "20")]), Some(20));
        assert_eq!(waits(&[("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT")]), Some(23_000));
        // Its own clock counts, which is two seconds behind.
        assert_eq!(waits(&[("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT"), ("date", "Sun, 06 Nov 1994 08:49:35 GMT")]), Some(25_000));
        assert_eq!(waits(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0));
        assert_eq!(waits(&[("retry-after", "soon")]), None);
        assert_eq!(waits(&[("retry-after", "-1")]), None);
        assert_eq!(waits(&[("retry-after", "NaN")]), None);
    }

    #[test]
    fn a_status_means_one_thing() {
        let means =
            |status: u16, body: &str| match meaning(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), body.as_bytes()) {
                Reply::Answer(..) => "answer".to_owned(),
                Reply::Throttled { .. } => "throttled".to_owned(),
                Reply::Failed { bill, overloaded, .. } => format!("failed {bill:?}{}", if overloaded { " overloaded" } else { "" }),
                Reply::Refused(said) => format!("refused: {said}"),
                Reply::Dead(dead) => format!("{dead:?}"),
            };
        assert_eq!(means(200, r#"{"choices": [{"message": {"content": "x"}}]}"#), "answer");
        for (status, wanted) in [
            (200, "failed Everything"),
            (204, "failed Everything"),
            (408, "failed Request"),
            (409, "failed Request"),
            (429, "throttled"),
            (500, "failed Request"),
            (502, "failed Request"),
            (503, "failed Request overloaded"),
            (529, "failed Request overloaded"),
            (599, "failed Request"),
            (400, "refused: it answered 400 Bad Request: <no>"),
            (413, "refused: it answered 413 Payload Too Large: <no>"),
            (418, "refused: it answered 418 I'm a teapot: <no>"),
            (422, "refused: it answered 422 Unprocessable Entity: <no>"),
            (401, r#"Unauthorized("it answered 401 Unauthorized: <no>")"#),
            (403, r#"Unauthorized("it answered 403 Forbidden: <no>")"#),
            (402, r#"NoQuota("it answered 402 Payment Required: <no>")"#),
            (404, r#"NotFound("it answered 404 Not Found: <no>")"#),
            (302, r#"Moved("it answered 302 Found: <no>, to nowhere")"#),
        ] {
            assert_eq!(means(status, "<no>"), wanted, "{status}");
        }
        let quota = r#"{"error": {"message": "you are out of it", "code": "insufficient_quota"}}"#;
        assert_eq!(means(429, quota), r#"NoQuota("it answered 429 Too Many Requests: you are out of it")"#);
    }

    #[test]
    fn the_path_is_put_behind_that_of_the_api() {
        for (base, wanted) in [
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1/chat/completions"),
            ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1/chat/completions"),
            ("https://example.com", "https://example.com/chat/completions"),
            ("https://example.com/a/b?api-version=1", "https://example.com/a/b/chat/completions?api-version=1"),
        ] {
            assert_eq!(below(base, "chat/completions").map(String::from).as_deref(), Ok(wanted), "{base}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_address() {
        let here = |url: &str| is_loopback(&Url::parse(url).expect("a URL"));
        for url in ["http://127.0.0.1:1/v1", "http://localhost", "http://[::1]:1", "http://127.9.9.9", "http://LOCALHOST/"] {
            assert!(here(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://127.0.0.1.example.com", "http://localhost.example.com", "https://example.com"] {
            assert!(!here(url), "{url}");
        }
    }
}
