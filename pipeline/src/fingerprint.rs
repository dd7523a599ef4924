//! Fingerprints: what a piece of work depends on, as one hash. Equal fingerprint, equal result.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The hash of everything a piece of work depends on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Starts a fingerprint of one kind of thing; different kinds never collide.
    pub fn of(kind: &str) -> Hasher {
        let mut hasher = Hasher(blake3::Hasher::new());
        hasher.add(kind);
        hasher
    }

    /// A fingerprint as [`Fingerprint::as_str`] gives it; `None` if `text` is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// The fingerprint as 32 hexadecimal digits, fit for a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects what a fingerprint depends on.
#[derive(Clone)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Adds a text; its length goes in too, so that neighbours never run together.
    pub fn add(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Adds another fingerprint.
    pub fn fingerprint(&mut self, other: &Fingerprint) -> &mut Self {
        self.add(other.as_str())
    }

    /// The fingerprint.
    pub fn finish(&self) -> Fingerprint {
        Fingerprint(self.0.finalize().to_hex()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_do_not_run_together() {
        let of = |a: &str, b: &str| Fingerprint::of("test").add(a).add(b).finish();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_eq!(of("ab", "c"), of("ab", "c"));
        assert_ne!(of("ab", "c"), Fingerprint::of("other").add("ab").add("c").finish());
    }
}
