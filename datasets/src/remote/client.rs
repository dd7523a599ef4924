//! Clients of object storage, one a bucket or data set, and the runtime their connections live in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::address::{Address, Scheme};
use super::hub::Hub;

/// How long one request is tried again for, before its error counts.
const RETRY_FOR: Duration = Duration::from_mins(1);

/// Objects of one bucket or data set, and where those of a data set are listed.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) hub: Option<Arc<Hub>>,
}

/// The runtime in which connections to storage live. Only waiting is done there.
///
/// # Errors
/// If the system has no threads left.
pub fn runtime() -> std::io::Result<tokio::runtime::Handle> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("storage").enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| runtime).handle().clone())
}

/// Waits for what storage answers.
pub(crate) fn wait<T>(answer: impl Future<Output = object_store::Result<T>>) -> std::io::Result<T> {
    runtime()?.block_on(answer).map_err(super::io_error)
}

static CLIENTS: Mutex<BTreeMap<(Scheme, String), Client>> = Mutex::new(BTreeMap::new());

/// The client for an address; made at the first call.
///
/// # Errors
/// Settings of the environment that cannot work, or a data set that is not there.
pub(crate) fn client(address: &Address) -> std::io::Result<Client> {
    let key = (address.scheme, address.container.clone());
    if let Some(client) = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(client.clone());
    }
    install_cryptography();
    let made = match address.scheme {
        Scheme::S3 => Client { objects: Arc::new(bucket(&address.container)?), hub: None },
        Scheme::Hub => {
            let hub = Hub::open(&address.container)?;
            Client { objects: hub.objects()?, hub: Some(Arc::new(hub)) }
        }
    };
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
    Ok(made)
}

/// Takes `objects` for the bucket of an address, instead of connecting to one: any store there is a client for.
pub fn provide(address: &Address, objects: Arc<dyn ObjectStore>) {
    let client = Client { objects, hub: None };
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).insert((address.scheme, address.container.clone()), client);
}

/// Objects below an address that can be written to, their names relative to it.
///
/// # Errors
/// As [`client`]; an address of a place that is only read.
pub fn objects_below(address: &Address) -> std::io::Result<Arc<dyn ObjectStore>> {
    let objects = client(address)?.objects;
    if address.key.is_empty() {
        return Ok(objects);
    }
    Ok(Arc::new(object_store::prefix::PrefixStore::new(objects, address.key.as_str())))
}

/// TLS asks for its cryptography by process; a provider that is there already stays.
pub fn install_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: 12, retry_timeout: RETRY_FOR }
}

/// A bucket, with what the environment says as other tools read it: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
/// `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_SKIP_SIGNATURE` and so on; without a key there, that of `AWS_PROFILE` in `~/.aws/credentials`.
fn bucket(name: &str) -> std::io::Result<impl ObjectStore> {
    let mut builder = from_environment(std::env::vars_os()).with_bucket_name(name).with_retry(retry());
    let is_set = |key| builder.get_config_value(&key).is_some();
    let has_key = is_set(AmazonS3ConfigKey::AccessKeyId);
    let region = is_set(AmazonS3ConfigKey::Region) || is_set(AmazonS3ConfigKey::DefaultRegion);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint).or(builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    endpoint.as_deref().map_or(Ok(()), check_endpoint)?;
    match endpoint.filter(|endpoint| endpoint.starts_with("http://")) {
        Some(endpoint) if is_loopback(&endpoint) => builder = builder.with_config(allow_http, "true"),
        Some(endpoint) if builder.get_config_value(&allow_http).as_deref() != Some("true") => {
            let problem =
                format!("{endpoint} is plain http, where rows and signatures can be read on their way; AWS_ALLOW_HTTP=true allows it");
            return Err(std::io::Error::other(problem));
        }
        _ => {}
    }
    let profile = profile();
    let said = |key: &str| profile.get(key).cloned();
    if !has_key && let (Some(id), Some(secret)) = (said("aws_access_key_id"), said("aws_secret_access_key")) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = said("aws_session_token") {
            builder = builder.with_token(token);
        }
    }
    let others =
        [AmazonS3ConfigKey::AccessKeyId, AmazonS3ConfigKey::WebIdentityTokenFile, AmazonS3ConfigKey::ContainerCredentialsRelativeUri];
    let is_known = others.iter().any(|key| builder.get_config_value(key).is_some());
    if !is_known && builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).as_deref() != Some("true") {
        // The machine itself is asked for credentials; outside a data centre nobody answers.
        builder = builder.with_retry(RetryConfig { retry_timeout: Duration::from_secs(5), max_retries: 2, ..retry() });
    }
    if !region && let Some(region) = said("region") {
        builder = builder.with_region(region);
    }
    builder.build().map_err(super::io_error)
}

/// What variables say of S3; one that is set to nothing is not set, as other tools have it.
fn from_environment(variables: impl Iterator<Item = (OsString, OsString)>) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str().filter(|value| !value.is_empty())) else { continue };
        if name.starts_with("AWS_")
            && let Ok(key) = name.to_ascii_lowercase().parse()
        {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// The client below takes any text for an address, and ends the program when it comes to use it.
fn check_endpoint(endpoint: &str) -> std::io::Result<()> {
    let is_address = reqwest::Url::parse(endpoint).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    if is_address {
        return Ok(());
    }
    let problem = format!("AWS_ENDPOINT_URL is `{endpoint}`; wanted an address such as https://s3.example.com or http://127.0.0.1:9000");
    Err(std::io::Error::other(problem))
}

/// Whether plain HTTP leaves no network to listen on.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|host| host.is_loopback())
}

/// What `~/.aws/config` and `~/.aws/credentials` say of `AWS_PROFILE`.
fn profile() -> BTreeMap<String, String> {
    let name = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let place = |variable: &str, file: &str| std::env::var_os(variable).map_or_else(|| home.join(".aws").join(file), PathBuf::from);
    let mut said = BTreeMap::new();
    for file in [place("AWS_CONFIG_FILE", "config"), place("AWS_SHARED_CREDENTIALS_FILE", "credentials")] {
        said.extend(section(&std::fs::read_to_string(file).unwrap_or_default(), &name));
    }
    said
}

/// The settings of one section, `[NAME]` or `[profile NAME]`.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut said = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = title.trim().trim_start_matches("profile ").trim() == name;
        } else if inside && let Some((key, value)) = line.split_once('=') {
            said.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    said
}

/// A plain client for requests that are no objects.
pub(crate) fn http() -> std::io::Result<reqwest::Client> {
    install_cryptography();
    let agent = concat!("granary/", env!("CARGO_PKG_VERSION"));
    let builder =
        reqwest::Client::builder().user_agent(agent).connect_timeout(Duration::from_secs(10)).read_timeout(Duration::from_secs(30));
    builder.build().map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for (endpoint, loopback) in [
            ("http://127.0.0.1:5000", true),
            ("http://localhost:9000/x", true),
            ("http://[::1]:9000", true),
            ("https://127.0.0.1", false),
            ("http://10.0.0.1:9000", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(endpoint), loopback, "{endpoint}");
        }
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_is_not_set() {
        let variables = [("AWS_ENDPOINT_URL", ""), ("AWS_REGION", "eu-north-1"), ("AWS_NONE_SUCH", "x"), ("REGION", "y")];
        let builder = from_environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::Endpoint), None);
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::Region).as_deref(), Some("eu-north-1"));
    }

    #[test]
    fn an_endpoint_is_a_whole_address() {
        for right in ["https://s3.example.com", "http://127.0.0.1:9000", "http://[::1]:9000/x"] {
            assert!(check_endpoint(right).is_ok(), "{right}");
        }
        for wrong in ["127.0.0.1:9000", "localhost:9000", "s3.example.com", "https://", "s3://data", "x y"] {
            assert!(check_endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_profile_is_one_section() {
        let text = "[default]\naws_access_key_id = A\n[profile work]\n# of work\naws_access_key_id=B\nregion = eu-north-1\n";
        assert_eq!(section(text, "default").get("aws_access_key_id").map(String::as_str), Some("A"));
        assert_eq!(section(text, "work").get("region").map(String::as_str), Some("eu-north-1"));
        assert!(section(text, "none").is_empty());
    }
}
