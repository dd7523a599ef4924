//! HTTP messages as crawlers store them: header lines, chunks, content codings.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use memchr::memchr;

/// Codings that may lie around each other.
const MAX_CODINGS: usize = 5;

/// A response or a request.
pub(super) struct Message<'b> {
    /// The status of a response, if it is a number.
    pub(super) status: Option<i32>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: &'b [u8],
    /// Lines among the headers that have no colon.
    pub(super) malformed: u64,
}

/// Reads a block of `application/http`; `None` if it begins with no status or request line. A status without its text will do, and header
/// lines without a colon are passed over.
pub(super) fn message(block: &[u8]) -> Option<Message<'_>> {
    let (first, mut rest) = line(block);
    let text = String::from_utf8_lossy(first);
    let mut words = text.split_ascii_whitespace();
    let is_version = |word: &str| word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("HTTP/"));
    let status = match words.next()? {
        word if is_version(word) || word == "ICY" => words.next().and_then(|status| status.parse().ok()),
        method if method.bytes().all(|byte| byte.is_ascii_uppercase()) && words.last().is_some_and(is_version) => None,
        _ => return None,
    };
    let (mut headers, mut malformed) = (Vec::<(String, String)>::new(), 0);
    while !rest.is_empty() {
        let (one, after) = line(rest);
        rest = after;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
        match memchr(b':', one) {
            _ if one.trim_ascii().is_empty() => break,
            _ if one[0] == b' ' || one[0] == b'\t' => match headers.last_mut() {
                Some((_, value)) => {
                    if !value.is_empty() {
                        value.push(' ');
                    }
                    value.push_str(&text(one));
                }
                None => malformed += 1,
            },
            Some(colon) => headers.push((text(&one[..colon]), text(&one[colon + 1..]))),
            None => malformed += 1,
        }
    }
    Some(Message { status, headers, body: rest, malformed })
}

/// A line without its end, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'\n', bytes) {
        Some(end) => (bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// What chunks hold, and whether the last one is there; `None` if the bytes do not begin with one, however they were declared.
pub(super) fn unchunk(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut whole = Vec::new();
    let mut rest = bytes;
    loop {
        let (first, after) = line(rest);
        let is_line = first.len() < rest.len();
        let size = first.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(size).ok().filter(|size| size.len() <= 16 && !size.starts_with('+'));
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|_| is_line) else {
            // Behind whole chunks stands something else, or nothing.
            return (rest.len() < bytes.len()).then_some((whole, false));
        };
        if size == 0 {
            return Some((whole, true));
        }
        if size > after.len() {
            whole.extend_from_slice(after);
            return Some((whole, false));
        }
        whole.extend_from_slice(&after[..size]);
        rest = &after[size..];
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest);
    }
}

/// Content without its codings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unpacked<'b> {
    /// It is whole. The codings that are not known and were left.
    Whole(Cow<'b, [u8]>, Vec<String>),
    /// It breaks off, or is damaged, behind these bytes.
    Cut(Vec<u8>, String),
    /// It is over the limit.
    TooLong,
}

/// Undoes content codings (`gzip, br`), the last one first. Bytes that are not coded as is said of them are left as they are.
pub(super) fn unpack<'b>(codings: &str, bytes: Cow<'b, [u8]>, max_bytes: u64) -> Unpacked<'b> {
    let mut content = bytes;
    let mut unknown = Vec::new();
    let codings: Vec<String> =
        codings.split(',').map(|coding| coding.trim().to_ascii_lowercase()).filter(|coding| !coding.is_empty()).collect();
    for coding in codings.iter().rev().take(MAX_CODINGS) {
        let decoded = match coding.as_str() {
            "identity" => continue,
            "gzip" | "x-gzip" => {
                if !content.starts_with(b"\x1F\x8B") {
                    continue;
                }
                gunzip(&content, max_bytes)
            }
            "deflate" => inflate(&content, max_bytes),
            "br" => {
                let decoded = read(brotli_decompressor::Decompressor::new(&content[..], 4096), max_bytes);
                if matches!(&decoded, Decoded::Cut(got, _) if got.is_empty()) && std::str::from_utf8(&content).is_ok() {
                    continue;
                }
                decoded
            }
            "zstd" => {
                if !content.starts_with(b"\x28\xB5\x2F\xFD") {
                    continue;
                }
                match zstd::stream::read::Decoder::with_buffer(&content[..]) {
                    Ok(decoder) => read(decoder, max_bytes),
                    Err(error) => Decoded::Cut(Vec::new(), error.to_string()),
                }
            }
            other => {
                unknown.push(other.to_owned());
                continue;
            }
        };
        match decoded {
            Decoded::Whole(bytes) => content = Cow::Owned(bytes),
            Decoded::Cut(bytes, problem) => return Unpacked::Cut(bytes, format!("{coding}: {problem}")),
            Decoded::TooLong => return Unpacked::TooLong,
            Decoded::Other => {}
        }
    }
    Unpacked::Whole(content, unknown)
}

enum Decoded {
    Whole(Vec<u8>),
    Cut(Vec<u8>, String),
    TooLong,
    /// The bytes are not coded.
    Other,
}

fn read(decoder: impl Read, max_bytes: u64) -> Decoded {
    let mut bytes = Vec::new();
    let got = decoder.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    match got {
        _ if bytes.len() as u64 > max_bytes => Decoded::TooLong,
        Ok(_) => Decoded::Whole(bytes),
        Err(error) => Decoded::Cut(bytes, error.to_string()),
    }
}

/// All members; what stands behind them is passed over, as browsers do.
fn gunzip(bytes: &[u8], max_bytes: u64) -> Decoded {
    let mut whole = Vec::new();
    let mut rest = bytes;
    loop {
        let mut decoder = GzDecoder::new(rest);
        let left = max_bytes - whole.len() as u64;
        let got = (&mut decoder).take(left.saturating_add(1)).read_to_end(&mut whole);
        if whole.len() as u64 > max_bytes {
            return Decoded::TooLong;
        }
        if let Err(error) = got {
            return Decoded::Cut(whole, problem(&error));
        }
        rest = decoder.into_inner();
        if !rest.starts_with(b"\x1F\x8B\x08") {
            return Decoded::Whole(whole);
        }
    }
}

fn problem(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof { "it breaks off".to_owned() } else { error.to_string() }
}

/// `deflate` means zlib, but some servers send what is in it alone.
fn inflate(bytes: &[u8], max_bytes: u64) -> Decoded {
    let zlib = read(ZlibDecoder::new(bytes), max_bytes);
    if !matches!(&zlib, Decoded::Cut(got, _) if got.is_empty()) {
        return zlib;
    }
    match read(DeflateDecoder::new(bytes), max_bytes) {
        Decoded::Cut(got, _) if got.is_empty() || std::str::from_utf8(bytes).is_ok() => Decoded::Other,
        raw => raw,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_needs_little_of_its_form() {
        let got = message(b"HTTP/1.0 302 \r\nLocation: x\r\n y\nno colon\r\nA:b:c\r\n\r\nbody").unwrap();
        assert_eq!((got.status, got.body, got.malformed), (Some(302), &b"body"[..], 1));
        assert_eq!(got.headers, [("Location".to_owned(), "x y".to_owned()), ("A".to_owned(), "b:c".to_owned())]);
        assert_eq!(message(b"HTTP/1.1 200").unwrap().status, Some(200));
        assert_eq!(message(b"HTTP/1.1 OK\n\n").unwrap().status, None);
        assert_eq!(message(b"GET / HTTP/1.1\nHost: a\n\n").unwrap().headers.len(), 1);
        assert!(message(b"<html>").is_none() && message(b"").is_none() && message(b"\r\n").is_none());
    }

    #[test]
    fn chunks_are_joined_if_there_are_any() {
        let joined = |bytes: &str| unchunk(bytes.as_bytes()).map(|(bytes, whole)| (String::from_utf8(bytes).unwrap(), whole));
        assert_eq!(joined("4\r\nWiki\r\nC;x=y\r\npedia in\r\n\r\n\r\n0\r\n\r\n"), Some(("Wikipedia in\r\n\r\n".to_owned(), true)));
        assert_eq!(joined("5\nabcde\n"), Some(("abcde".to_owned(), false)));
        assert_eq!(joined("9\r\nabc"), Some(("abc".to_owned(), false)));
        assert_eq!(joined("2\r\nab\r\n<p>"), Some(("ab".to_owned(), false)));
        assert_eq!((joined("<html>"), joined(""), joined("abc"), joined("+4\r\nWiki")), (None, None, None, None));
        assert_eq!(joined("ffffffffffffffff\r\nab"), Some(("ab".to_owned(), false)));
    }

    fn packed(how: &str, bytes: &[u8]) -> Vec<u8> {
        match how {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "raw" => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    fn unpacked(codings: &str, bytes: &[u8]) -> String {
        match unpack(codings, Cow::Borrowed(bytes), 1000) {
            Unpacked::Whole(bytes, unknown) => format!("{}{}", String::from_utf8_lossy(&bytes), unknown.concat()),
            Unpacked::Cut(bytes, _) => format!("cut {}", bytes.len()),
            Unpacked::TooLong => "too long".to_owned(),
        }
    }

    #[test]
    fn codings_are_undone_and_wrong_ones_are_not() {
        let gzip = packed("gzip", b"text");
        assert_eq!(unpacked("gzip", &gzip), "text");
        assert_eq!(unpacked("x-gzip", &[&gzip[..], &gzip, b"trailing"].concat()), "texttext");
        assert_eq!(unpacked("deflate", &packed("zlib", b"text")), "text");
        assert_eq!(unpacked("deflate", &packed("raw", b"text")), "text");
        assert_eq!(unpacked("zstd", &packed("zstd", b"text")), "text");
        // What the `brotli` command makes of "text".
        assert_eq!(unpacked("br", b"\x8b\x01\x80text\x03"), "text");
        assert_eq!(unpacked("gzip, GZIP", &packed("gzip", &gzip)), "text");
        for coding in ["gzip", "deflate", "br", "zstd", "identity", ""] {
            assert_eq!(unpacked(coding, b"<p>plain"), "<p>plain", "{coding}");
        }
        assert_eq!(unpacked("utf-8", b"<p>plain"), "<p>plainutf-8");
        let cut = packed("gzip", &(0..200_u8).collect::<Vec<_>>());
        assert!(unpacked("gzip", &cut[..cut.len() - 30]).starts_with("cut "));
        for how in ["gzip", "zlib", "zstd"] {
            let bomb = packed(how, &vec![0; 1_000_000]);
            assert_eq!(unpacked(if how == "zlib" { "deflate" } else { how }, &bomb), "too long");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), coding in "gzip|deflate|br|zstd") {
            unchunk(&bytes);
            message(&bytes);
            unpack(&coding, Cow::Borrowed(&bytes), 100);
        }
    }
}
