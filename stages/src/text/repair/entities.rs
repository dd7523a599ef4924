//! HTML's character references, where they can be nothing else.

use std::sync::LazyLock;

use memchr::{memchr, memchr2};

use super::charsets::of_c1;

/// Names and the code points they stand for, sorted by name.
///
/// Source: HTML Living Standard, §13.5, *Named character references*: those that end in a semicolon.
static NAMES: LazyLock<Vec<(&str, &str)>> =
    LazyLock::new(|| include_str!("entities.txt").lines().filter_map(|line| line.split_once(' ')).collect());

/// The longest reference between `&` or `&#` and `;`.
const LONGEST: usize = 24;

/// `text` with its references replaced; `None` if there are none.
///
/// As in ftfy, only references that end in a semicolon count, and capital letters stand for small ones (`&EACUTE;`) where that name is not one of
/// its own.
///
/// Source: ftfy 6.1.1, `fixes.unescape_html`.
pub(super) fn replace(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let (mut copied, mut from) = (0, 0);
    while let Some(at) = memchr(b'&', &text.as_bytes()[from..]).map(|at| from + at) {
        from = at + 1;
        let Some(length) = reference(&text.as_bytes()[at..]) else { continue };
        let mut replacement = String::new();
        if !expand(&text[at + 1..at + length - 1], &mut replacement) {
            continue;
        }
        let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
        out.push_str(&text[copied..at]);
        out.push_str(&replacement);
        copied = at + length;
        from = copied;
    }
    out.map(|mut out| {
        out.push_str(&text[copied..]);
        out
    })
}

/// Length of what looks like a reference at the start of `text`, which begins with `&`.
fn reference(text: &[u8]) -> Option<usize> {
    let start = if text.get(1) == Some(&b'#') { 2 } else { 1 };
    let window = &text[start..text.len().min(start + LONGEST + 1)];
    let length = memchr2(b';', b'&', window).filter(|length| *length > 0)?;
    (window[length] == b';' && window[..length].iter().all(u8::is_ascii_alphanumeric)).then_some(start + length + 1)
}

/// Writes what a reference stands for, and says whether it stands for anything.
fn expand(name: &str, out: &mut String) -> bool {
    if let Some(number) = name.strip_prefix('#') {
        return expand_number(number, out);
    }
    if expand_name(name, out) {
        return true;
    }
    // In capitals. Names that begin with what browsers take without a semicolon would be cut there.
    let is_upper = name.bytes().all(|byte| !byte.is_ascii_lowercase());
    let is_cut = ["AMP", "COPY", "ETH", "GT", "LT", "QUOT", "REG", "THORN"].iter().any(|short| name.starts_with(short));
    let mut lower = String::new();
    if !is_upper || is_cut || !expand_name(&name.to_ascii_lowercase(), &mut lower) {
        return false;
    }
    out.push_str(&lower.to_uppercase());
    true
}

fn expand_name(name: &str, out: &mut String) -> bool {
    let Ok(at) = NAMES.binary_search_by_key(&name, |(name, _)| name) else { return false };
    let codes = NAMES[at].1.split(' ').filter_map(|code| u32::from_str_radix(code, 16).ok());
    out.extend(codes.filter_map(char::from_u32));
    true
}

/// Source: HTML Living Standard, §13.2.5.80, *Numeric character reference end state*; code points that are no characters stand for nothing, as in
/// Python's `html.unescape`.
fn expand_number(number: &str, out: &mut String) -> bool {
    let hexadecimal = number.strip_prefix(['x', 'X']);
    let (digits, radix) = hexadecimal.map_or((number, 10), |digits| (digits, 16));
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return false;
    }
    // More digits than a number has room for are too large in any case.
    let code =
        digits.trim_start_matches('0').chars().try_fold(0_u32, |code, digit| code.checked_mul(radix)?.checked_add(digit.to_digit(radix)?));
    match code.and_then(char::from_u32) {
        None | Some('\0') => out.push('\u{fffd}'),
        Some(';') => return false,
        Some(character @ '\u{80}'..='\u{9f}') => out.push(of_c1(character)),
        Some('\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{fdd0}'..='\u{fdef}') => {}
        Some(character) if u32::from(character) & 0xFFFE == 0xFFFE => {}
        Some(character) => out.push(character),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> String {
        replace(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn names_are_sorted_and_all_there() {
        assert_eq!(NAMES.len(), 2125);
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn references_are_replaced_where_they_end_in_a_semicolon() {
        assert_eq!(replaced("&lt;tag&gt; &Jscr;ohn &HilbertSpace;ancock &checkmark; P&eacute;rez"), "<tag> 𝒥ohn ℋancock ✓ Pérez");
        assert_eq!(replaced("P&EACUTE;REZ BUNDESSTRA&SZLIG;E &ntilde; &Ntilde; &NTILDE; &nTILDE;"), "PÉREZ BUNDESSTRASSE ñ Ñ Ñ &nTILDE;");
        assert_eq!(replaced("this&not that &amp &; &#; &#x; &&amp;& &unknown; &12;"), "this&not that &amp &; &#; &#x; &&& &unknown; &12;");
        assert_eq!(replaced("&#228;&#xE4;&#X00e4;&#0;&#x80;&#129;&#xD800;&#99999999999999;"), "äää\u{fffd}€\u{81}\u{fffd}\u{fffd}");
        // A reference to a semicolon stays, one to a control character or to no character is removed.
        assert_eq!(replaced("a&#59;b&#x3b;c&#1;d&#xFFFF;e&#12a;"), "a&#59;b&#x3b;cde&#12a;");
        assert_eq!(replaced("&LTIMES; &CounterClockwiseContourIntegral; &日;"), "&LTIMES; &CounterClockwiseContourIntegral; &日;");
        assert_eq!(replace("no & here; none"), None);
    }
}
