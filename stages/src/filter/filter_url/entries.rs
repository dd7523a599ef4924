//! What the lines of lists mean, and what they are kept as.

use aho_corasick::AhoCorasick;
use xxhash_rust::xxh3::xxh3_64;

use super::address::{Address, write_letters};

/// A set of strings by their hashes: eight bytes each, and 512 KiB. That one of a million takes another string for its own has a chance of
/// one in 10¹³.
#[derive(Debug, Default)]
pub(super) struct HashedSet {
    /// Sorted.
    hashes: Vec<u64>,
    /// Where the hashes begin that have each value in their upper 16 bits, and where all end.
    starts: Vec<u32>,
}

impl HashedSet {
    pub(super) fn new(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.shrink_to_fit();
        let starts = (0..=1_u64 << 16).map(|upper| hashes.partition_point(|hash| hash >> 48 < upper));
        let starts = starts.map(|start| u32::try_from(start).expect("fewer entries than 2^32")).collect();
        Self { hashes, starts }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        let hash = hash(text);
        let upper = usize::try_from(hash >> 48).expect("16 bits");
        let Some([start, end]) = self.starts.get(upper..upper + 2) else { return false };
        self.hashes[*start as usize..*end as usize].binary_search(&hash).is_ok()
    }
}

pub(super) fn hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// The hash of a domain as a line of a list has it: `example.com`, `.example.com`, `*.example.com`, `http://example.com/`, or a line of a `hosts`
/// file, `0.0.0.0 example.com`.
pub(super) fn domain(line: &str) -> Result<u64, String> {
    let mut fields = line.split_whitespace().take_while(|field| !field.starts_with('#'));
    let ((Some(name), None, _) | (Some("0.0.0.0" | "127.0.0.1" | "::1" | "::"), Some(name), None)) =
        (fields.next(), fields.next(), fields.next())
    else {
        return Err(format!("wanted one domain, found `{line}`"));
    };
    let name = name.strip_prefix("*.").unwrap_or(name);
    let name = name.strip_prefix('.').unwrap_or(name);
    if is_written_as_hosts_are(name) {
        return Ok(hash(name));
    }
    match Address::parse(name) {
        Some(address) if address.is_host_alone() => Ok(hash(address.host())),
        Some(_) => Err(format!("wanted a domain, found `{name}`, which is a page's URL or has a port")),
        // Lists have names that no URL can have; they match none.
        None if !name.contains(['/', ':', '@']) => Ok(hash(name)),
        None => Err(format!("wanted a domain, found `{name}`")),
    }
}

/// Whether a name is one that stays as it is, as nearly all are: reading a million of others takes a second more.
fn is_written_as_hosts_are(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_'));
    let top = name.rsplit('.').next().unwrap_or_default();
    is_plain && top.starts_with(|first: char| first.is_ascii_lowercase()) && !name.starts_with('.')
}

/// The hash of a page's URL, with or without its scheme.
pub(super) fn page(line: &str, page: &mut String) -> u64 {
    match Address::parse(line) {
        Some(address) => address.write_page(page),
        // Matches what is written like it, and cannot be read either.
        None => line.clone_into(page),
    }
    hash(page)
}

/// A word as it is looked for: in small letters.
pub(super) fn word(line: &str) -> Result<String, String> {
    let mut word = String::new();
    write_letters(line, &mut word);
    if word.chars().all(char::is_alphanumeric) {
        Ok(word)
    } else {
        Err(format!("wanted one word of letters and digits, found `{line}`: it would never be found between two others"))
    }
}

/// A part of a word or of several as it is looked for: in small letters, without what is neither a letter nor a digit.
pub(super) fn substring(line: &str) -> Result<String, String> {
    let mut letters = String::new();
    write_letters(line, &mut letters);
    letters.retain(char::is_alphanumeric);
    if letters.is_empty() { Err(format!("wanted letters or digits, found `{line}`")) } else { Ok(letters) }
}

/// Strings that are looked for in others, all at once.
#[derive(Debug)]
pub(super) struct Substrings(AhoCorasick);

impl Substrings {
    pub(super) fn try_new(mut substrings: Vec<String>) -> Result<Option<Self>, String> {
        substrings.sort();
        substrings.dedup();
        if substrings.is_empty() {
            return Ok(None);
        }
        AhoCorasick::new(substrings).map(|all| Some(Self(all))).map_err(|error| error.to_string())
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_read_as_lists_have_them() {
        for same in [
            "example.com",
            "Example.COM",
            ".example.com",
            "*.example.com",
            "example.com.",
            "http://example.com/",
            "0.0.0.0 example.com # ads",
            "127.0.0.1\texample.com",
        ] {
            assert_eq!(domain(same), Ok(hash("example.com")), "{same}");
        }
        assert_eq!(domain("bücher.example"), Ok(hash("xn--bcher-kva.example")));
        assert_eq!(domain("192.168.1.1"), Ok(hash("192.168.1.1")));
        assert_eq!(domain("0x7f.1"), Ok(hash("127.0.0.1")));
        assert_eq!(domain("[::1]"), Ok(hash("[::1]")));
        assert_eq!(domain("a_b.example"), Ok(hash("a_b.example")));
        assert_eq!(domain("xn--a.example"), Ok(hash("xn--a.example"))); // no IDNA name
        for (bad, problem) in [
            ("example.com/a", "wanted a domain, found `example.com/a`, which is a page's URL or has a port"),
            ("example.com:81", "wanted a domain, found `example.com:81`, which is a page's URL or has a port"),
            ("a.example b.example", "wanted one domain, found `a.example b.example`"),
            ("http://", "wanted a domain, found `http://`"),
        ] {
            assert_eq!(domain(bad), Err(problem.to_owned()));
        }
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let names: Vec<String> = (0..10_000).map(|number| format!("{number}.example")).collect();
        let set = HashedSet::new(names.iter().step_by(2).map(|name| hash(name)).chain([hash("0.example")]).collect());
        assert!(names.iter().enumerate().all(|(number, name)| set.contains(name) == (number % 2 == 0)));
        assert_eq!((set.hashes.len(), set.is_empty()), (5_000, false));
        assert!(!HashedSet::default().contains("") && !HashedSet::new(Vec::new()).contains("a"));
    }
}
