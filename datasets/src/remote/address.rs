//! Addresses of object storage, as a person writes them.

use std::fmt;
use std::path::Path;

use object_store::path::Path as Key;

/// What an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    /// A bucket of S3 or of a server that speaks like it.
    S3,
    /// A data set of the Hugging Face hub.
    Hub,
}

/// An object or a folder on object storage: `s3://BUCKET/KEY`, or `hf://datasets/OWNER/NAME/PATH`, with `@REVISION` behind the name where
/// it is not `main`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub(crate) scheme: Scheme,
    /// The bucket, or `OWNER/NAME@REVISION`.
    pub(crate) container: String,
    /// What lies in it, without a slash at either end; a glob where a pattern is meant.
    pub(crate) key: String,
}

impl Address {
    /// What `text` says, if it is an address at all.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_scheme.then(|| Self::of_scheme(text, scheme, rest))
    }

    fn of_scheme(text: &str, scheme: &str, rest: &str) -> Result<Self, String> {
        let (scheme, container, key) = match scheme.to_ascii_lowercase().as_str() {
            "s3" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                if bucket.is_empty() || !bucket.bytes().all(is_name) {
                    return Err(format!("`{}` names no bucket; wanted `s3://BUCKET/KEY`", text.escape_debug()));
                }
                (Scheme::S3, bucket.to_owned(), key)
            }
            "hf" => {
                let parts: Vec<&str> = rest.splitn(4, '/').collect();
                let ["datasets", owner, name, key @ ..] = parts.as_slice() else {
                    let problem = format!("`{}` names no data set; wanted `hf://datasets/OWNER/NAME/PATH`", text.escape_debug());
                    return Err(problem);
                };
                let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
                let is_name = |text: &str| {
                    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) && text != ".."
                };
                let revision = revision.replace("%2F", "/").replace("%2f", "/");
                if !is_name(owner) || !is_name(name) || !revision.split('/').all(|part| is_name(part.trim_start_matches('~'))) {
                    let problem = format!("`{}` names no data set; wanted `hf://datasets/OWNER/NAME@REVISION/PATH`", text.escape_debug());
                    return Err(problem);
                }
                (Scheme::Hub, format!("{owner}/{name}@{revision}"), key.first().copied().unwrap_or_default())
            }
            other => return Err(format!("`{}://` is not supported; wanted a path, `s3://…` or `hf://datasets/…`", other.escape_debug())),
        };
        let key = key.trim_end_matches('/');
        Key::parse(key).map_err(|error| format!("`{}` is no address: {error}", text.escape_debug()))?;
        Ok(Self { scheme, container, key: key.to_owned() })
    }

    /// The address that a path carries: one that was made of an address.
    pub fn of(path: &Path) -> Option<Self> {
        Self::parse(path.to_str()?)?.ok()
    }

    /// What lies at `name` below it.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        Self { key, ..self.clone() }
    }

    /// The folder it lies in, and its name there; `None` for a whole bucket or data set.
    pub fn parent(&self) -> Option<(Self, &str)> {
        let (folder, name) = self.key.rsplit_once('/').unwrap_or(("", &self.key));
        (!name.is_empty()).then(|| (Self { key: folder.to_owned(), ..self.clone() }, name))
    }

    /// Its last name.
    pub fn file_name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// Whether `other` is this one or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        let below =
            || other.key.strip_prefix(&self.key).is_some_and(|rest| self.key.is_empty() || rest.is_empty() || rest.starts_with('/'));
        self.scheme == other.scheme && self.container == other.container && below()
    }

    /// Whether anything can be written there.
    pub fn is_writable(&self) -> bool {
        self.scheme == Scheme::S3
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, container) = match self.scheme {
            Scheme::S3 => ("s3://", self.container.clone()),
            Scheme::Hub => {
                let (name, revision) = self.container.split_once('@').unwrap_or((&self.container, "main"));
                ("hf://datasets/", format!("{name}@{}", revision.replace('/', "%2F")))
            }
        };
        write!(f, "{start}{container}")?;
        if self.key.is_empty() { Ok(()) } else { write!(f, "/{}", self.key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match Address::parse(text) {
            None => "a path".to_owned(),
            Some(Ok(address)) => address.to_string(),
            Some(Err(problem)) => problem,
        }
    }

    #[test]
    fn addresses_are_told_from_paths() {
        assert_eq!(shown("data/a.jsonl"), "a path");
        assert_eq!(shown("data/odd://a.jsonl"), "a path");
        assert_eq!(shown("s3://bucket/a/b*.jsonl"), "s3://bucket/a/b*.jsonl");
        assert_eq!(shown("s3://bucket/a/"), "s3://bucket/a");
        assert_eq!(shown("s3://bucket"), "s3://bucket");
        assert_eq!(shown("hf://datasets/owner/name/data/x.parquet"), "hf://datasets/owner/name@main/data/x.parquet");
        assert_eq!(shown("hf://datasets/owner/name@refs%2Fconvert/x"), "hf://datasets/owner/name@refs%2Fconvert/x");
    }

    #[test]
    fn what_is_no_address_is_said() {
        assert_eq!(shown("s3:///key"), "`s3:///key` names no bucket; wanted `s3://BUCKET/KEY`");
        assert_eq!(shown("gs://bucket/a"), "`gs://` is not supported; wanted a path, `s3://…` or `hf://datasets/…`");
        assert_eq!(shown("hf://squad/x"), "`hf://squad/x` names no data set; wanted `hf://datasets/OWNER/NAME/PATH`");
        assert!(shown("s3://bucket/a/../b").contains("is no address"), "{}", shown("s3://bucket/a/../b"));
        assert!(shown("hf://datasets/a/..@main/b").contains("names no data set"));
    }

    #[test]
    fn what_lies_below_is_known() {
        let address = |text: &str| Address::of(Path::new(text)).expect("an address");
        assert!(address("s3://b/out").contains(&address("s3://b/out/pages/x")));
        assert!(address("s3://b").contains(&address("s3://b/x")));
        assert!(!address("s3://b/out").contains(&address("s3://b/outer")));
        assert!(!address("s3://a/out").contains(&address("s3://b/out")));
        assert_eq!(address("s3://b/out").join("run.json").to_string(), "s3://b/out/run.json");
    }
}
