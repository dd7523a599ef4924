//! A data set of the Hugging Face hub at one revision: what files it has, and where their bytes are.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::ClientOptions;
use object_store::ObjectStore;
use object_store::http::HttpBuilder;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LINK, RETRY_AFTER};
use serde::Deserialize;

use super::client::{http, is_loopback, retry, runtime};
use super::list::Entry;

/// Where the hub is, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Most answers of the listing: a thousand files each.
const MOST_PAGES: usize = 1000;

/// Tries of a request that failed by the network, by too many requests or by the server.
const TRIES: u32 = 5;

/// One data set at one commit.
#[derive(Debug)]
pub(crate) struct Hub {
    endpoint: String,
    /// `OWNER/NAME`.
    name: String,
    commit: String,
    token: Option<HeaderValue>,
    http: reqwest::Client,
    entries: OnceLock<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
}

impl Hub {
    /// Finds out which commit `OWNER/NAME@REVISION` is.
    pub(crate) fn open(container: &str) -> io::Result<Self> {
        let (name, revision) = container.split_once('@').unwrap_or((container, "main"));
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
        let mut token = token.map_err(|_| io::Error::other("HF_TOKEN has characters in it that no token has"))?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
            if endpoint.starts_with("http://") && !is_loopback(&endpoint) {
                return Err(io::Error::other(
                    "HF_ENDPOINT is plain http, and HF_TOKEN would be readable on its way; use https, or unset one",
                ));
            }
        }
        let mut hub = Self { endpoint, name: name.to_owned(), commit: String::new(), token, http: http()?, entries: OnceLock::new() };
        if is_commit(revision) {
            revision.clone_into(&mut hub.commit);
            return Ok(hub);
        }
        let url = format!("{}/api/datasets/{}/revision/{}", hub.endpoint, hub.name, revision.replace('/', "%2F"));
        let (body, _) = hub.ask(&url)?;
        let found: Revision = parse(&url, &body)?;
        if !is_commit(&found.sha) {
            return Err(io::Error::other(format!("{url} gave no commit")));
        }
        hub.commit = found.sha;
        Ok(hub)
    }

    /// `OWNER/NAME@COMMIT`, whose files never change.
    pub(crate) fn pinned(&self) -> String {
        format!("{}@{}", self.name, self.commit)
    }

    /// Its files by their paths.
    pub(crate) fn objects(&self) -> io::Result<Arc<dyn ObjectStore>> {
        let mut options = ClientOptions::new().with_allow_http(is_loopback(&self.endpoint));
        if let Some(token) = &self.token {
            options = options.with_default_headers(HeaderMap::from_iter([(AUTHORIZATION, token.clone())]));
        }
        let url = format!("{}/datasets/{}/resolve/{}", self.endpoint, self.name, self.commit);
        let built = HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retry()).build();
        Ok(Arc::new(built.map_err(super::io_error)?))
    }

    /// All its files, sorted.
    pub(crate) fn entries(&self) -> io::Result<&[Entry]> {
        if let Some(entries) = self.entries.get() {
            return Ok(entries);
        }
        let mut entries = Vec::new();
        let mut next = Some(format!("{}/api/datasets/{}/tree/{}?recursive=true", self.endpoint, self.name, self.commit));
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { break };
            let (body, more) = self.ask(&url)?;
            let nodes: Vec<Node> = parse(&url, &body)?;
            let files = nodes.into_iter().filter(|node| node.kind == "file");
            entries.extend(files.map(|node| Entry { key: node.path, bytes: node.size }));
            // A page elsewhere would be told the token.
            next = more.filter(|url| url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/')));
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(self.entries.get_or_init(|| entries))
    }

    /// The body of an answer, and where the next page is.
    fn ask(&self, url: &str) -> io::Result<(Vec<u8>, Option<String>)> {
        runtime()?.block_on(async {
            let mut wait = Duration::from_millis(200);
            for attempt in 1.. {
                let mut request = self.http.get(url);
                if let Some(token) = &self.token {
                    request = request.header(AUTHORIZATION, token.clone());
                }
                let problem = match request.send().await {
                    Ok(answer) if answer.status().is_success() => {
                        let next = next_page(answer.headers());
                        match answer.bytes().await {
                            Ok(body) => return Ok((body.to_vec(), next)),
                            Err(error) => super::with_causes(&error),
                        }
                    }
                    Ok(answer) => {
                        let status = answer.status();
                        if !(status.is_server_error() || status.as_u16() == 429) {
                            return Err(self.refused(status.as_u16()));
                        }
                        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                        wait = asked.map_or(wait, |seconds: u64| Duration::from_secs(seconds.min(60)));
                        format!("the server answers {status}")
                    }
                    Err(error) => super::with_causes(&error),
                };
                if attempt >= TRIES {
                    return Err(io::Error::other(super::RemoteError(format!("{url}: {problem}"))));
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(io::Error::other("no answer"))
        })
    }

    fn refused(&self, status: u16) -> io::Error {
        let name = &self.name;
        match status {
            401 | 403 | 404 if self.token.is_none() => io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no public data set {name} at this revision; a private or gated one wants HF_TOKEN"),
            ),
            401 | 403 => io::Error::new(io::ErrorKind::PermissionDenied, format!("HF_TOKEN may not read {name}")),
            404 => io::Error::new(io::ErrorKind::NotFound, format!("there is no data set {name} at this revision")),
            status => io::Error::other(super::RemoteError(format!("the hub answers {status} to what is asked of {name}"))),
        }
    }
}

/// Whether a revision is a commit, which never changes.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn parse<T: serde::de::DeserializeOwned>(url: &str, body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| io::Error::other(super::RemoteError(format!("{url} gave no such answer as the hub's: {error}"))))
}

/// The address in `Link: <…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.trim().strip_prefix('<')?.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_is_called_so() {
        let headers = |text: &'static str| HeaderMap::from_iter([(LINK, HeaderValue::from_static(text))]);
        assert_eq!(next_page(&headers("<https://h/a>; rel=\"prev\", <https://h/b?c=1>; rel=\"next\"")).as_deref(), Some("https://h/b?c=1"));
        assert_eq!(next_page(&headers("<https://h/a>; rel=\"prev\"")), None);
    }
}
