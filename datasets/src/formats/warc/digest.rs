//! Digests as records say them: `sha1:` and base 32, or other algorithms and base 16.

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
}

/// A digest that can be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl Digest {
    /// Of `sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ` and the like; `None` for an algorithm or a text that is not known.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(':')?;
        let (algorithm, length) = match name.to_ascii_lowercase().replace('-', "").as_str() {
            "sha1" => (Algorithm::Sha1, 20),
            "sha256" => (Algorithm::Sha256, 32),
            _ => return None,
        };
        let value = value.trim().trim_end_matches('=');
        let bytes = if value.len() == length * 2 { base16(value) } else { base32(value) };
        bytes.filter(|bytes| bytes.len() == length).map(|bytes| Self { algorithm, bytes })
    }

    /// Whether it is that of `bytes`.
    pub(super) fn is_of(&self, bytes: &[u8]) -> bool {
        self.bytes == self.digest(bytes)
    }

    /// The digest of `bytes` by the same algorithm, as text.
    pub(super) fn same_of(&self, bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let (mut text, mut bits, mut held) = (String::new(), 0_u32, 0);
        for byte in self.digest(bytes) {
            bits = bits << 8 | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
            }
        }
        if held > 0 {
            text.push(char::from(ALPHABET[(bits << (5 - held) & 31) as usize]));
        }
        text
    }

    fn digest(&self, bytes: &[u8]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::Sha1 => Sha1::digest(bytes).to_vec(),
            Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        }
    }
}

fn base16(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Source: RFC 4648, section 6.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for c in text.bytes() {
        let value = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_either_base() {
        // The digest of no bytes, as many records of redirects have it.
        let empty = Digest::parse("sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ").unwrap();
        assert!(empty.is_of(b"") && !empty.is_of(b"x"));
        assert_eq!(Digest::parse("SHA-1:da39a3ee5e6b4b0d3255bfef95601890afd80709"), Some(empty.clone()));
        assert_eq!(empty.same_of(b""), "3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ");
        let sha256 = Digest::parse("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap();
        assert!(sha256.is_of(b""));
        assert!(Digest::parse(&format!("sha256:{}", sha256.same_of(b"abc"))).unwrap().is_of(b"abc"));
        for other in ["md5:x", "sha1:short", "sha1", "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBY!"] {
            assert_eq!(Digest::parse(other), None);
        }
    }
}
