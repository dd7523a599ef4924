//! The characters of a page's bytes: as its mark, its server, itself or a guess says.

use chardetng::EncodingDetector;
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Bytes of a page that are looked through for its own word on its encoding.
///
/// Source: WHATWG HTML, "prescan a byte stream": the first 1024. Pages that say it later are common, and browsers that looked no further guess.
const PRESCAN: usize = 4096;
/// Bytes of a page that a guess is made of.
const GUESS: usize = 256 << 10;

/// The text of `bytes`, and the name of the encoding they were read as. A declared encoding that the bytes contradict is passed over.
///
/// `declared`: what the server says; `host`: where the page comes from, whose top-level domain makes a guess better.
pub(super) fn decode(bytes: &[u8], declared: Option<&str>, host: Option<&str>) -> (String, &'static str) {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return read(&bytes[mark..], encoding);
    }
    let declared = declared.and_then(|label| Encoding::for_label(label.as_bytes()));
    // A page that can say so in ASCII is not UTF-16, whatever it says.
    let own = || own_word(&bytes[..bytes.len().min(PRESCAN)]).map(|encoding| if is_wide(encoding) { UTF_8 } else { encoding });
    for encoding in [declared, own()].into_iter().flatten() {
        if fits(bytes, encoding) {
            return read(bytes, encoding);
        }
    }
    if std::str::from_utf8(bytes).is_ok() {
        return read(bytes, UTF_8);
    }
    // A few bad bytes in a page of UTF-8 are bad bytes.
    if is_mostly_utf8(bytes) {
        return read(bytes, UTF_8);
    }
    let domain = host
        .and_then(|host| host.rsplit('.').next())
        .filter(|domain| domain.len() >= 2 && domain.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let domain = domain.map(str::to_ascii_lowercase);
    let mut detector = EncodingDetector::new(chardetng::Iso2022JpDetection::Allow);
    detector.feed(&bytes[..bytes.len().min(GUESS)], bytes.len() <= GUESS);
    read(bytes, detector.guess(domain.as_deref().map(str::as_bytes), chardetng::Utf8Detection::Deny))
}

fn read(bytes: &[u8], encoding: &'static Encoding) -> (String, &'static str) {
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    (text.into_owned(), encoding.name())
}

fn is_wide(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

/// Whether the bytes may be of that encoding.
fn fits(bytes: &[u8], encoding: &'static Encoding) -> bool {
    if encoding == UTF_8 {
        return std::str::from_utf8(bytes).is_ok();
    }
    if is_wide(encoding) {
        // ASCII read as UTF-16 is Chinese without an error.
        let zeros = bytes.iter().take(PRESCAN).filter(|byte| **byte == 0).count();
        return zeros * 8 >= bytes.len().min(PRESCAN);
    }
    // Every byte is a character there, so nothing contradicts; text that is well-formed UTF-8 beyond ASCII does.
    if encoding.is_single_byte() {
        return bytes.is_ascii() || !is_mostly_utf8(bytes);
    }
    encoding.decode_without_bom_handling_and_without_replacement(bytes).is_some()
}

/// Whether sequences of several bytes that are UTF-8 outnumber bytes that are not ten to one.
fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().bytes().filter(|byte| *byte >= 0xC0).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    good >= bad * 10
}

/// What a page says of its encoding: `<meta charset=…>`, `<meta http-equiv content="…charset=…">`, `<?xml encoding="…"?>`.
fn own_word(bytes: &[u8]) -> Option<&'static Encoding> {
    let lower = bytes.to_ascii_lowercase();
    for at in memchr::memchr_iter(b'<', &lower) {
        let tag = &lower[at..];
        let (ends, key): (&[u8], &[u8]) = if tag.starts_with(b"<meta") {
            (b">", b"charset")
        } else if tag.starts_with(b"<?xml") {
            (b">", b"encoding")
        } else {
            continue;
        };
        let tag = memchr::memmem::find(tag, ends).map_or(tag, |end| &tag[..end]);
        let Some(found) = memchr::memmem::find(tag, key) else { continue };
        let value = tag[found + key.len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b"=") else { continue };
        let value = value.trim_ascii_start();
        let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
        let label: &[u8] = value.split(|byte| b"\"' ;/>\t\r\n".contains(byte)).next().unwrap_or_default();
        if let Some(encoding) = Encoding::for_label(label) {
            return Some(encoding);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_then_the_page_then_a_guess() {
        let page = |bytes: &[u8], declared| decode(bytes, declared, Some("example.ru"));
        let russian = "Привет, это страница о погоде в Москве и области";
        let (koi8, ..) = encoding_rs::KOI8_R.encode(russian);
        let (cp1251, ..) = encoding_rs::WINDOWS_1251.encode(russian);
        assert_eq!(page(&koi8, Some("koi8-r")), (russian.to_owned(), "KOI8-R"));
        let meta = [b"<html><META http-equiv=content-type content=\"text/html; charset = windows-1251\">".as_slice(), &cp1251].concat();
        assert!(page(&meta, None).0.ends_with(russian));
        assert!(page(&meta, Some("no-such-set")).0.ends_with(russian));
        assert_eq!(page(&cp1251, None), (russian.to_owned(), "windows-1251"));
        assert_eq!(page(&[b"<?xml version='1.0' encoding='koi8-r'?>".as_slice(), &koi8].concat(), None).1, "KOI8-R");
        assert_eq!(page(b"plain", Some("iso-8859-1")), ("plain".to_owned(), "windows-1252"));
        let (sjis, ..) = encoding_rs::SHIFT_JIS.encode("これは日本語の文章です。文字コードを調べます。");
        assert_eq!(decode(&sjis, None, Some("example.jp")).1, "Shift_JIS");
    }

    #[test]
    fn a_declaration_that_the_bytes_contradict_is_passed_over() {
        let page = |bytes: &[u8], declared| decode(bytes, Some(declared), None);
        assert_eq!(page("naïve".as_bytes(), "iso-8859-1"), ("naïve".to_owned(), "UTF-8"));
        let french = "Une façade où l'été a été très long, déjà vu à la forêt";
        let (latin, ..) = encoding_rs::WINDOWS_1252.encode(french);
        assert_eq!(page(&latin, "utf-8").0, french);
        assert_eq!(page(b"<p>no wide text", "utf-16le").0, "<p>no wide text");
        assert_eq!(page(b"\xEF\xBB\xBFna\xC3\xAFve", "koi8-r"), ("naïve".to_owned(), "UTF-8"));
        assert_eq!(page(b"\xFF\xFEh\0i\0", "utf-8"), ("hi".to_owned(), "UTF-16LE"));
        let mut text = "größer und schöner, fährt über Öl".repeat(10).into_bytes();
        text.push(0xFF);
        assert_eq!(page(&text, "utf-8").1, "UTF-8");
        assert_eq!(page(b"", "utf-8"), (String::new(), "UTF-8"));
        assert_eq!(page(b"\0\0\xFF<meta charset=", "x").0.len(), 18);
    }
}
