//! What of a URL says where it leads: host, port, path and query, written in one way however the URL is.

use url::{Host, Url};

/// Where a URL leads, as browsers read it (WHATWG URL): the host in small letters, IDNA names in their ASCII form (`xn--…`), IPv4 addresses in
/// dotted decimals, without a full stop at its end; the port unless it is the scheme's own. Neither scheme nor user nor fragment is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    url: Url,
    /// Whether the host is a name, which has domains above it, and not an IP address.
    is_name: bool,
}

/// The most characters of a host's name.
///
/// Source: RFC 1035, section 2.3.4: 255 bytes with the length of each label before it.
const MAX_NAME: usize = 253;

impl Address {
    /// Reads a URL; one without a scheme (`example.com/a`, `//example.com/a`) is taken for one of `http`. Nothing if it has no host, or one that
    /// cannot be.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text).unwrap_or_else(|| ("http", text.strip_prefix("//").unwrap_or(text)));
        // A file's path has no host, and what is `http:///a` to a browser is an address somebody lost.
        if scheme.eq_ignore_ascii_case("file") || rest.starts_with(['/', '\\', '?', '#']) {
            return None;
        }
        // Hosts of schemes that browsers do not know are written by the same rules here.
        let known = if scheme.eq_ignore_ascii_case("https") { "https" } else { "http" };
        let url = Url::parse(&format!("{known}://{rest}")).ok()?;
        let is_name = match url.host()? {
            // Longer ones are nobody's, and would be looked up once for each of their labels.
            Host::Domain(name) if !(1..=MAX_NAME).contains(&name.trim_end_matches('.').len()) => return None,
            Host::Domain(_) => true,
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        };
        Some(Self { url, is_name })
    }

    /// The host.
    pub(super) fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.strip_suffix('.').unwrap_or(host)
    }

    /// The host, then the domains it is part of, the narrowest first: `a.b.c`, `b.c`, `c`. An IP address is part of none.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.host()), |domain| if self.is_name { Some(domain.split_once('.')?.1) } else { None })
    }

    /// Writes what two URLs of one page have in common: host, port, path and query, without a slash at the path's end.
    pub(super) fn write_page(&self, out: &mut String) {
        out.clear();
        out.push_str(self.host());
        if let Some(port) = self.url.port() {
            out.push_str(&format!(":{port}"));
        }
        out.push_str(self.url.path().trim_end_matches('/'));
        if let Some(query) = self.url.query().filter(|query| !query.is_empty()) {
            out.push('?');
            out.push_str(query);
        }
    }

    /// Writes what a person reads in it, in small letters: host, path, query and fragment with `%C3%A9` and `xn--` as the letters they stand
    /// for.
    pub(super) fn write_words(&self, out: &mut String) {
        out.clear();
        let host = self.host();
        if host.contains("xn--") {
            out.push_str(&url::quirks::domain_to_unicode(host));
        } else {
            out.push_str(host);
        }
        let parts = [Some(self.url.path()), self.url.query(), self.url.fragment()];
        for part in parts.into_iter().flatten() {
            out.push(' ');
            write_letters(part, out);
        }
    }

    /// Whether there is nothing behind the host: what a domain of a list has to be.
    pub(super) fn is_host_alone(&self) -> bool {
        self.url.port().is_none() && self.url.path() == "/" && self.url.query().is_none() && self.url.fragment().is_none()
    }
}

/// A scheme that is followed by `://`, and what is behind it.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// Writes text with its percent signs read, in small letters.
pub(super) fn write_letters(text: &str, out: &mut String) {
    if text.contains('%') || !text.is_ascii() {
        out.extend(percent_encoding::percent_decode_str(text).decode_utf8_lossy().chars().flat_map(char::to_lowercase));
    } else {
        out.extend(text.chars().map(|character| character.to_ascii_lowercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(url: &str) -> Option<String> {
        let mut page = String::new();
        Address::parse(url)?.write_page(&mut page);
        Some(page)
    }

    #[test]
    fn a_host_is_one_however_it_is_written() {
        for same in [
            "https://example.com",
            "HTTP://EXAMPLE.COM/",
            "http://example.com./",
            "http://user:pw@example.com:80/",
            "https://example.com:443",
            "example.com",
            "//example.com/",
            "ftp://example.com",
            "example.com#top",
            "http://example.com/?",
            " http://exa\tmple.com\n",
            "http://%65xample.com",
            "http://ｅｘａｍｐｌｅ.com",
            "gemini://Example.com/",
        ] {
            assert_eq!(page(same).as_deref(), Some("example.com"), "{same}");
        }
        assert_eq!(page("http://bücher.example/Ä").as_deref(), Some("xn--bcher-kva.example/%C3%84"));
        assert_eq!(page("http://BÜCHER.example:8080/").as_deref(), Some("xn--bcher-kva.example:8080"));
        assert_eq!(page("http://0x7f.1/a").as_deref(), Some("127.0.0.1/a"));
        assert_eq!(page("http://[::0001]:8080/a?b#c").as_deref(), Some("[::1]:8080/a?b"));
        assert_eq!(page("localhost:8080/a//").as_deref(), Some("localhost:8080/a"));
        assert_eq!(page("http://example.com/a/../b/").as_deref(), Some("example.com/b"));
        // The user's name is no host.
        assert_eq!(page("http://bad.example@good.example/").as_deref(), Some("good.example"));
    }

    #[test]
    fn what_leads_nowhere_is_no_address() {
        for bad in [
            "",
            " ",
            "/a/b",
            "file:///etc/passwd",
            "file://server/a",
            "http://",
            "http:///a",
            "http://a b/",
            "http://example.com:99999/",
            "https://.",
            "?q",
            "#a",
            "http://[::1",
            "data:text/html,x",
            "http://xn--a.example/",
            "http://1.2.3.4.5/",
            &"a.".repeat(128),
        ] {
            assert_eq!(page(bad), None, "{bad}");
        }
        assert!(page(&"a.".repeat(127)).is_some());
    }

    #[test]
    fn domains_are_those_a_host_is_part_of() {
        let domains = |url: &str| Address::parse(url).expect("an address").domains().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(domains("http://www.a.co.uk./x"), ["www.a.co.uk", "a.co.uk", "co.uk", "uk"]);
        assert_eq!(domains("http://10.0.0.1/x"), ["10.0.0.1"]);
        assert_eq!(domains("http://[2001:db8::1]/x"), ["[2001:db8::1]"]);
        assert_eq!(domains("localhost"), ["localhost"]);
    }

    #[test]
    fn words_are_as_a_person_reads_them() {
        let mut words = String::new();
        Address::parse("https://www.xn--bcher-kva.example/%C3%89tude_1/A+B?q=%E4%BD%A0#Top").expect("an address").write_words(&mut words);
        assert_eq!(words, "www.bücher.example /étude_1/a+b q=你 top");
    }
}
