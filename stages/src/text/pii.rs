//! Finds e-mail addresses, IP addresses, phone numbers, IBANs and card numbers.
//!
//! A text is gone through once, from one digit, `@` or `:` to the next. Each scanner looks at a bounded stretch of what is around its anchor, or at one
//! that no other anchor of its kind shares, so that no text takes more than its length.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pii {
    Email,
    Ip,
    Ipv6,
    Phone,
    Iban,
    Card,
}

/// What is looked for.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finder {
    pub(crate) emails: bool,
    pub(crate) ips: bool,
    /// Only addresses that can be reached from anywhere.
    pub(crate) public_ips_only: bool,
    pub(crate) phones: bool,
    pub(crate) ibans: bool,
    pub(crate) cards: bool,
}

impl Finder {
    /// What there is in `text`, in order; nothing overlaps.
    pub(crate) fn find(self, text: &str, found: &mut Vec<(Pii, Range<usize>)>) {
        found.clear();
        let bytes = text.as_bytes();
        // Where the next anchor may be, and before which nothing may begin.
        let (mut from, mut free) = (0, 0);
        while let Some(at) = next_anchor(bytes, from) {
            let hit = match bytes[at] {
                b'@' => self.email(text, at, free),
                b':' => self.ipv6(bytes, at, free),
                _ => self.number(bytes, at, free),
            };
            match hit {
                Some((kind, range)) => {
                    (from, free) = (range.end.max(at + 1), range.end);
                    found.push((kind, range));
                }
                None if bytes[at].is_ascii_digit() => from = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
                None => from = at + 1,
            }
        }
    }

    fn email(self, text: &str, at: usize, free: usize) -> Option<(Pii, Range<usize>)> {
        if !self.emails {
            return None;
        }
        let start = local_part(text, at, free)?;
        let end = domain(text, at + 1)?;
        Some((Pii::Email, start..end))
    }

    /// What begins with the digits at `at`.
    fn number(self, text: &[u8], at: usize, free: usize) -> Option<(Pii, Range<usize>)> {
        let iban = || if self.ibans { iban(text, at, free) } else { None };
        let card = || if self.cards { card(text, at) } else { None };
        let ip = || if self.ips { ipv4(text, at, self.public_ips_only) } else { None };
        let phone = || if self.phones { phone(text, at, free) } else { None };
        iban()
            .map(|range| (Pii::Iban, range))
            .or_else(|| card().map(|range| (Pii::Card, range)))
            .or_else(|| ip().map(|range| (Pii::Ip, range)))
            .or_else(|| phone().map(|range| (Pii::Phone, range)))
    }

    /// The address of which the colon at `at` is the first.
    fn ipv6(self, text: &[u8], at: usize, free: usize) -> Option<(Pii, Range<usize>)> {
        if !self.ips {
            return None;
        }
        let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
        let n_before = text[free..at].iter().rev().take(5).take_while(|byte| is_hex(byte)).count();
        if n_before > 4 {
            return None;
        }
        let start = at - n_before;
        let window = &text[start..text.len().min(start + 46)];
        let length = window.iter().take_while(|byte| is_hex(byte) || matches!(byte, b':' | b'.')).count();
        // The colon or full stop of a sentence; but `::` can end an address.
        let own = &window[..length];
        let own = own.strip_suffix(b".").unwrap_or(own);
        let own = if own.ends_with(b":") && !own.ends_with(b"::") { &own[..own.len() - 1] } else { own };
        if own.iter().filter(|byte| **byte == b':').count() < 2 || !own.iter().any(u8::is_ascii_digit) {
            return None;
        }
        let end = start + own.len();
        let goes_on = |at: usize| is_word_at(text, at) || byte_at(text, at) == b':';
        if is_word_before(text, start) || byte_before(text, start) == b':' || goes_on(end + usize::from(byte_at(text, end) == b':')) {
            return None;
        }
        let address: Ipv6Addr = str::from_utf8(own).ok()?.parse().ok()?;
        // `::` alone, and short things such as `1::2`, are more often code than addresses.
        let groups = own.split(|byte| *byte == b':').filter(|group| !group.is_empty()).count();
        let is_sure = groups >= 3 || address.is_loopback() || n_before == 4;
        (is_sure && (!self.public_ips_only || is_public_v6(address))).then_some((Pii::Ipv6, start..end))
    }
}

/// The first digit, `@` or `:` at or behind `from`.
fn next_anchor(text: &[u8], from: usize) -> Option<usize> {
    // '0' to ':' are neighbours.
    let is_anchor = |byte: u8| byte.wrapping_sub(b'0') <= b':' - b'0' || byte == b'@';
    let mut at = from;
    // In blocks, so that many bytes are looked at at once.
    while let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
        if block.iter().fold(false, |any, byte| any | is_anchor(*byte)) {
            break;
        }
        at += 32;
    }
    text.get(at..)?.iter().position(|byte| is_anchor(*byte)).map(|offset| at + offset)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether a word goes on before `at`. Characters of scripts without spaces between words do not count.
fn is_word_before(text: &[u8], at: usize) -> bool {
    let byte = byte_before(text, at);
    if byte < 0x80 {
        return is_word(byte);
    }
    let first = (at.saturating_sub(4)..at).rev().find(|place| text[*place] & 0xC0 != 0x80).unwrap_or(at);
    character(&text[first..at]).is_some_and(is_letter)
}

/// Whether a word goes on at `at`.
fn is_word_at(text: &[u8], at: usize) -> bool {
    let byte = byte_at(text, at);
    if byte < 0x80 { is_word(byte) } else { character(&text[at..text.len().min(at + 4)]).is_some_and(is_letter) }
}

/// The first character.
fn character(bytes: &[u8]) -> Option<char> {
    bytes.utf8_chunks().next()?.valid().chars().next()
}

fn byte_before(text: &[u8], at: usize) -> u8 {
    at.checked_sub(1).and_then(|before| text.get(before)).copied().unwrap_or(b' ')
}

fn byte_at(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(b' ')
}

/// Letters of alphabets whose words stand apart: a Chinese sentence is no part of the address within it.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphanumeric() || (matches!(character, '\u{c0}'..='\u{52f}') && character.is_alphanumeric())
}

/// Where the part of an address before the `@` at `at` begins.
///
/// Source: RFC 5322, §3.2.3: `atext` and dots. What separates values in addresses of web pages is left out, although it could be part of one.
fn local_part(text: &str, at: usize, free: usize) -> Option<usize> {
    const MOST: usize = 128; // RFC 5321 allows 64 bytes
    let mut start = at;
    for (place, character) in text[free..at].char_indices().rev() {
        let is_own = is_letter(character) || "!#$%'*+-=^_~.".contains(character);
        let is_double_dot = character == '.' && text.as_bytes()[free + place + 1] == b'.';
        if !is_own || is_double_dot || at - free - place > MOST {
            break;
        }
        start = free + place;
    }
    if at > 0 && text.as_bytes()[at - 1] == b'.' {
        return None;
    }
    // A value in the address of a web page: `?mail=joe@example.org`.
    if matches!(byte_before(text.as_bytes(), start), b'?' | b'&') {
        start += text[start..at].find('=').map_or(0, |name| name + 1);
    }
    // As a word, it begins with a letter, a digit or `_`.
    text[start..at].char_indices().find(|(_, character)| is_letter(*character) || *character == '_').map(|(offset, _)| start + offset)
}

/// Where the domain ends that begins at `start`: labels with dots between them, the last one of letters.
fn domain(text: &str, start: usize) -> Option<usize> {
    const MOST: usize = 255; // RFC 1035
    let rest = &text[start..];
    let mut end = 0;
    let mut dot = None;
    let mut label = 0;
    let mut good = None;
    let characters = rest.char_indices().chain([(rest.len(), ' ')]);
    for (at, character) in characters.take_while(|(at, _)| *at <= MOST) {
        if is_letter(character) || (character == '-' && at > label) {
            end = at + character.len_utf8();
            continue;
        }
        // A label ends here.
        let name = rest[label..end.max(label)].trim_end_matches('-');
        if name.is_empty() {
            break;
        }
        let is_top = dot.is_some()
            && (name.starts_with("xn--") || (name.chars().count() >= 2 && !name.contains(|c: char| c == '-' || c.is_ascii_digit())));
        if is_top {
            good = Some(start + label + name.len());
        }
        if character != '.' {
            break;
        }
        dot = Some(at);
        label = at + 1;
    }
    good
}

/// The address of version 4 that begins at `at`. Versions are none: `v1.2.3.4`, `1.2.3.4.5`, `lib-1.2.3.4`, `version 1.2.3.4`.
fn ipv4(text: &[u8], at: usize, public_only: bool) -> Option<Range<usize>> {
    let end = dotted_quad(text, at)?;
    let (before, after) = (byte_before(text, at), byte_at(text, end));
    let is_range = |end: usize| {
        let length = text[..end].iter().rev().take(15).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        dotted_quad(text, end - length) == Some(end)
    };
    if is_word_before(text, at)
        || matches!(before, b'.' | b'@')
        || (before == b'-' && at >= 2 && is_word(text[at - 2]) && !is_range(at - 1))
    {
        return None;
    }
    if is_word_at(text, end) || after == b'@' || (after == b'.' && is_word(byte_at(text, end + 1))) {
        return None;
    }
    if after == b'-' && is_word(byte_at(text, end + 1)) && dotted_quad(text, end + 1).is_none() {
        return None;
    }
    if words_before(text, at).first().is_some_and(|word| VERSIONS.contains(&word.as_str())) {
        return None;
    }
    let address: Ipv4Addr = str::from_utf8(&text[at..end]).ok()?.parse().ok()?;
    (!public_only || is_public(address)).then_some(at..end)
}

/// What stands before a number that is no address.
const VERSIONS: [&str; 12] =
    ["version", "versions", "ver", "v", "release", "rel", "build", "revision", "rev", "firmware", "section", "chapter"];

/// Where four numbers up to 255 with dots between them end, without zeros in front.
fn dotted_quad(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    for part in 0..4 {
        if part > 0 {
            (byte_at(text, end) == b'.').then_some(())?;
            end += 1;
        }
        let digits = text[end..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let number = text[end..end + digits].iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
        if digits == 0 || number > 255 || (digits > 1 && text[end] == b'0') {
            return None;
        }
        end += digits;
    }
    Some(end)
}

/// Source: IANA IPv4 Special-Purpose Address Registry: what is globally reachable.
fn is_public(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let is_special = match (a, b, c) {
        (0 | 10 | 127 | 240..=255, ..)
        | (169, 254, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        | (198, 18 | 19, _)
        | (100, 64..=127, _)
        | (192, 0, 2)
        | (198, 51, 100)
        | (203, 0, 113) => true,
        (192, 0, 0) => !matches!(d, 9 | 10),
        _ => false,
    };
    !is_special
}

/// Source: IANA IPv6 Special-Purpose Address Registry; only `2000::/3` is handed out.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_documentation = (a == 0x2001 && b == 0xDB8) || (a == 0x3FFF && b < 0x1000);
    a & 0xE000 == 0x2000 && !is_documentation && !(a == 0x2001 && b < 0x200) && a != 0x2002
}

/// The last three words before `at` in its line, in small letters, the last one first; up to one with a digit.
fn words_before(text: &[u8], at: usize) -> Vec<String> {
    let line = &text[at.saturating_sub(40)..at];
    let line = line.rsplit(|byte| *byte == b'\n').next().unwrap_or(line);
    let line = String::from_utf8_lossy(line);
    let words = line.rsplit(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.take(3).take_while(|word| !word.contains(|character: char| character.is_ascii_digit())).map(str::to_lowercase).collect()
}

/// Digits from `start` on, with single separators among them.
struct Digits {
    digits: [u8; 20],
    n: usize,
    groups: [Group; 12],
    n_groups: usize,
}

#[derive(Clone, Copy, Default)]
struct Group {
    n: u8,
    /// What is before it.
    separator: u8,
    end: usize,
}

impl Digits {
    fn groups(&self) -> &[Group] {
        &self.groups[..self.n_groups]
    }

    /// All digits, if there is room for them.
    fn all(&self) -> Option<&[u8]> {
        self.digits.get(..self.n)
    }

    fn end(&self) -> usize {
        self.groups[self.n_groups - 1].end
    }
}

fn digits(text: &[u8], start: usize, is_separator: impl Fn(u8) -> bool) -> Digits {
    let mut found = Digits { digits: [0; 20], n: 0, groups: [Group { end: start, ..Group::default() }; 12], n_groups: 1 };
    let mut at = start;
    loop {
        let byte = byte_at(text, at);
        if byte.is_ascii_digit() {
            if let Some(digit) = found.digits.get_mut(found.n) {
                *digit = byte - b'0';
            } else if found.n > 2 * found.digits.len() {
                return found;
            }
            found.n += 1;
            at += 1;
            let group = &mut found.groups[found.n_groups - 1];
            (group.n, group.end) = (group.n + 1, at);
            continue;
        }
        // A separator, or a bracket with a space beside it.
        let is_wide = matches!(byte_at(text, at + 1), b' ' | b'(' | b'-') && is_separator(b'(') && byte_at(text, at + 2).is_ascii_digit();
        let next = if is_separator(byte) && byte_at(text, at + 1).is_ascii_digit() {
            at + 1
        } else if (byte == b')' || is_separator(byte)) && is_wide {
            at + 2
        } else {
            return found;
        };
        if found.n_groups == found.groups.len() || found.n == 0 {
            return found;
        }
        found.groups[found.n_groups] = Group { n: 0, separator: byte, end: next };
        found.n_groups += 1;
        at = next;
    }
}

/// Whether a number from `start` to `end` stands for itself: not part of a word, of a decimal, of a longer number, or of a path.
fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let (before, after) = (byte_before(text, start), byte_at(text, end));
    let second = |at: usize| byte_at(text, at).is_ascii_digit();
    let is_joined_before = matches!(before, b'.' | b',' | b'-' | b'/' | b':') && start >= 2 && is_word(text[start - 2]);
    let is_joined_after = matches!(after, b'.' | b',' | b'-' | b'/' | b':') && second(end + 1);
    let is_joined = is_joined_before
        || is_joined_after
        || is_word_before(text, start)
        || is_word_at(text, end)
        || matches!(before, b'@' | b'#' | b'$' | b'=' | b'%' | b'&' | b'\\')
        || matches!(after, b'@' | b'=' | b'%');
    !is_joined && !is_in_address(text, start)
}

/// Whether what is around `at`, up to white space, is the address of a web page.
fn is_in_address(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(128)..at];
    let word = before.rsplit(u8::is_ascii_whitespace).next().unwrap_or(before);
    word.windows(3).any(|three| three == b"://") || word.windows(4).any(|four| four.eq_ignore_ascii_case(b"www."))
}

/// The card number that begins at `at`: of a known beginning and length, in one piece or in the groups that cards have, with the right check digit.
///
/// Source: ISO/IEC 7812-1 (Luhn's check digit); the ranges are those that Visa, Mastercard, American Express, Discover, Diners Club, JCB, `UnionPay`
/// and Maestro publish.
fn card(text: &[u8], at: usize) -> Option<Range<usize>> {
    let separator = {
        let after = at + text[at..].iter().take(7).take_while(|byte| byte.is_ascii_digit()).count();
        byte_at(text, after)
    };
    let number = digits(text, at, |byte| matches!(byte, b' ' | b'-') && byte == separator);
    let own = number.all()?;
    let lengths: Vec<u8> = number.groups().iter().map(|group| group.n).collect();
    let is_grouped = matches!(lengths.as_slice(), [_] | [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4 | 5]);
    if !is_grouped || !(12..=19).contains(&own.len()) || !is_card(own) || !luhn(own) {
        return None;
    }
    stands_alone(text, at, number.end()).then_some(at..number.end())
}

fn is_card(digits: &[u8]) -> bool {
    let first = |n: usize| digits[..n].iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    let n = digits.len();
    match first(4) {
        4000..=4999 => matches!(n, 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => n == 16,
        3400..=3499 | 3700..=3799 => n == 15,
        6011 | 6440..=6599 | 6200..=6299 | 3528..=3589 => (16..=19).contains(&n),
        3000..=3059 | 3600..=3699 | 3800..=3999 => n == 14,
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => (12..=19).contains(&n),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(*digit) << (at % 2);
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

/// The IBAN whose check digits are at `at`.
///
/// Source: ISO 13616-1: two letters, two check digits, up to thirty letters and digits, remainder 1 by 97; lengths of the SWIFT IBAN registry.
fn iban(text: &[u8], at: usize, free: usize) -> Option<Range<usize>> {
    let start = at.checked_sub(2).filter(|start| *start >= free)?;
    let country = &text[start..at];
    let length = IBANS.binary_search_by_key(&country, |(country, _)| country.as_bytes()).ok().map(|at| usize::from(IBANS[at].1))?;
    if is_word_before(text, start) {
        return None;
    }
    let mut own = [0; 34];
    let (mut n, mut end) = (0, start);
    while n < length {
        let byte = byte_at(text, end);
        if byte.is_ascii_digit() || byte.is_ascii_uppercase() {
            own[n] = byte;
            n += 1;
        } else if !(matches!(byte, b' ' | b'-') && n > 0 && byte_at(text, end + 1).is_ascii_alphanumeric()) {
            return None;
        }
        end += 1;
    }
    if is_word_at(text, end) {
        return None;
    }
    let own = &own[..length];
    let moved = own[4..].iter().chain(&own[..4]);
    let remainder = moved.fold(0_u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(start..end)
}

const IBANS: [(&str, u8); 85] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VG", 24),
];

/// The phone number that begins at the digit at `at`, or at a `+` or `(` before it.
///
/// With a `+` or `00` and a country's code; or written as in North America (`(212) 555-0100`, `212-555-0100`); or of six digits and more behind a word
/// such as `phone` or `fax`.
fn phone(text: &[u8], at: usize, free: usize) -> Option<Range<usize>> {
    let is_separator = |byte: u8| matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/');
    let mut start = at;
    if byte_before(text, start) == b'(' && start > free {
        start -= 1;
    }
    let has_plus = byte_before(text, start) == b'+' && start > free;
    if has_plus {
        start -= 1;
    }
    let number = digits(text, at, is_separator);
    let has_bracket = byte_before(text, at) == b'(';
    if let Some(end) = american(&number, has_plus, has_bracket).filter(|end| stands_alone(text, start, *end)) {
        return Some(start..end);
    }
    let (own, groups, end) = (number.all()?, number.groups(), number.end());
    if !(6..=15).contains(&own.len()) || !stands_alone(text, start, end) {
        return None;
    }
    let is_international = || {
        let national = if has_plus { own } else { own.strip_prefix(&[0, 0]).unwrap_or(&[]) };
        // Behind more digits, `00` is not how a number begins but a group of a longer one.
        let is_group = byte_before(text, start) == b' ' && start >= 2 && text[start - 2].is_ascii_digit();
        has_country(national) && (8..=15).contains(&national.len()) && (has_plus || (groups.len() > 1 && !is_group))
    };
    let is_named = || !has_plus && !is_date(groups, own) && words_before(text, start).iter().any(|word| PHONES.contains(&word.as_str()));
    (is_international() || is_named()).then_some(start..end)
}

/// Where a number of North America ends: three digits, three, and four, perhaps with a 1 before; what follows behind a space is another one.
fn american(number: &Digits, has_plus: bool, has_bracket: bool) -> Option<usize> {
    let groups = number.groups();
    let (groups, digits, has_bracket) = match groups {
        [Group { n: 1, .. }, rest @ ..] if number.digits[0] == 1 => (rest, &number.digits[1..], true),
        _ if has_plus => return None,
        groups => (groups, &number.digits[..], has_bracket),
    };
    let [Group { n: 3, .. }, Group { n: 3, separator: first, .. }, Group { n: 4, separator: second, end }, ..] = groups else {
        return None;
    };
    let is_joined = match (first, second) {
        (b'-', b'-') | (b'.', b'.') => true,
        (b')', b'-' | b' ' | b'.') => has_bracket,
        _ => false,
    };
    (is_joined && digits[0] >= 2 && digits[3] >= 2).then_some(*end)
}

/// `2002-10-12` and `12.10.2002`.
fn is_date(groups: &[Group], digits: &[u8]) -> bool {
    match groups.iter().map(|group| group.n).collect::<Vec<_>>()[..] {
        [4, 2, 2] => digits[0] <= 2,
        [1 | 2, 1 | 2, 4] => true,
        _ => false,
    }
}

/// What stands before phone numbers.
const PHONES: [&str; 32] = [
    "cell",
    "cellphone",
    "cellular",
    "fax",
    "faxnummer",
    "fon",
    "handy",
    "landline",
    "mob",
    "mobil",
    "mobile",
    "pager",
    "ph",
    "phone",
    "phones",
    "tel",
    "telefax",
    "telefon",
    "telefone",
    "telefono",
    "telefoon",
    "telephone",
    "teléfono",
    "tlf",
    "tél",
    "téléphone",
    "тел",
    "телефон",
    "电话",
    "手机",
    "传真",
    "電話",
];

/// Whether digits begin with the code of a country.
///
/// Source: ITU-T E.164, list of assigned country codes.
fn has_country(digits: &[u8]) -> bool {
    let [a, b, c, ..] = *digits else { return false };
    match (a, b) {
        (9, 9) => matches!(c, 2..=6 | 8),
        // North America: ten digits more, of which the first is none of these. `+1000` and `+1200` are time zones.
        (1, _) => digits.len() == 11 && b >= 2,
        (0, _) | (2, 8) | (8, 3 | 9) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Finder = Finder { emails: true, ips: true, public_ips_only: true, phones: true, ibans: true, cards: true };

    fn found(text: &str) -> Vec<(Pii, &str)> {
        let mut found = Vec::new();
        ALL.find(text, &mut found);
        found.into_iter().map(|(kind, range)| (kind, &text[range])).collect()
    }

    fn check(kind: Pii, text: &str, wanted: &[&str]) {
        assert_eq!(found(text), wanted.iter().map(|wanted| (kind, *wanted)).collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn addresses_of_mail_are_told_from_what_looks_like_them() {
        for (text, wanted) in [
            ("write to joe.smith+x@mail.example.org.", &["joe.smith+x@mail.example.org"][..]),
            ("<mailto:a_b@x.co>, 'o'hara@x.ie'", &["a_b@x.co", "o'hara@x.ie"]),
            ("http://x.org/p?mail=joe@x.org&k=1", &["joe@x.org"]),
            ("请联系joe@x.org谢谢 müller@größe.de", &["joe@x.org", "müller@größe.de"]),
            ("a@x.org,b@x.org;c@x.org", &["a@x.org", "b@x.org", "c@x.org"]),
            ("JOE@EXAMPLE.ORG-", &["JOE@EXAMPLE.ORG"]),
            ("a@b a@b.c @b.org a@ b.org joe.@x.org a@b.1 1@2.3 user@host @decorator.call x@.org a..@x.org", &[]),
            ("a..joe@x.org and joe@x..org", &["joe@x.org"]),
        ] {
            check(Pii::Email, text, wanted);
        }
    }

    #[test]
    fn addresses_of_machines_are_told_from_versions() {
        for (text, wanted) in [
            ("from [8.8.8.8] (9.9.9.9:53), 1.1.1.0/24.", &["8.8.8.8", "9.9.9.9", "1.1.1.0"][..]),
            ("from 8.8.8.8-8.8.8.10 and host=8.8.4.4", &["8.8.8.8", "8.8.8.10", "8.8.4.4"]),
            ("10.0.0.1 127.0.0.1 192.168.1.1 172.31.0.1 100.64.0.1 203.0.113.9 255.255.255.255", &[]),
            ("v1.2.3.4 1.2.3.4.5 lib-1.2.3.4 1.2.3.4-rc1 1.2.3.4.tar version 1.2.3.4 Release: 5.0.2.0", &[]),
            ("1.2.3 1.2.3.256 01.2.3.4 1.2.3.4a 1.2.3.4@x 8.8.8.", &[]),
        ] {
            check(Pii::Ip, text, wanted);
        }
        check(
            Pii::Ipv6,
            "[2a00:1450:4001:81b::200e]:80, 2606:4700::1111. 2a00::1:",
            &["2a00:1450:4001:81b::200e", "2606:4700::1111", "2a00::1"],
        );
        check(Pii::Ipv6, "std::vec a::b 12:34:56 ::1 fe80::1 2001:db8::1 00:1a:2b:3c:4d:5e 1::2 c++::3 x2a00::1 :: :", &[]);
        let mut got = Vec::new();
        let text = "10.0.0.1 and fe80::1%eth0, ::1, 1::2";
        Finder { public_ips_only: false, ..ALL }.find(text, &mut got);
        assert_eq!(got, [(Pii::Ip, 0..8), (Pii::Ipv6, 13..20), (Pii::Ipv6, 27..30)]);
    }

    #[test]
    fn phone_numbers_are_told_from_other_numbers() {
        for (text, wanted) in [
            ("+49 30 1234567, +1 (212) 555-0100, +44 (0)20 7499 2264", &["+49 30 1234567", "+1 (212) 555-0100", "+44 (0)20 7499 2264"][..]),
            (
                "(212) 555-0100 212-555-0100 212.555.0100 1-800-555-0100",
                &["(212) 555-0100", "212-555-0100", "212.555.0100", "1-800-555-0100"],
            ),
            ("Tel.: 030/1234567 Fax 01 40 20 47 24; phone number is 555-0100", &["030/1234567", "01 40 20 47 24", "555-0100"]),
            ("+1 412-268-7090 (24 hours), +1.617.555.3444", &["+1 412-268-7090", "+1.617.555.3444"]),
            ("0049 30 1234567 电话：0816-6623109，手机13812345678。", &["0049 30 1234567", "0816-6623109", "13812345678"]),
            ("12345678 3.14159265 2002-10-12 12.10.2002 1,000,000 212 555 0100 112-555-0100 212-155-0100 212-555-0100-99", &[]),
            ("tel 2002-10-12, +999 123456789, id_212-555-0100, http://x.org/212-555-0100, 0212-555-0100, $212-555-0100", &[]),
            ("DE88 3704 0044 0532 0130 00, 5500 0049 1234 5678 9012, 1 0049 30 1234567", &[]),
            ("1+12345678 a+4930123456 at 3:36 PM +1000 8/11/02, +1200 8/11/02 phone 12345 ISBN 978-3-16-148410-0", &[]),
        ] {
            check(Pii::Phone, text, wanted);
        }
    }

    #[test]
    fn accounts_and_cards_have_the_right_check_digits() {
        // Examples of the SWIFT registry; a wrong digit; a wrong length.
        check(
            Pii::Iban,
            "DE89370400440532013000, GB29 NWBK 6016 1331 9268 19.",
            &["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19"],
        );
        check(Pii::Iban, "NO9386011117947 MT84MALT011000012345MTLCAST001S", &["NO9386011117947", "MT84MALT011000012345MTLCAST001S"]);
        check(
            Pii::Iban,
            "DE88370400440532013000 DE87370400440532013000 XDE89370400440532013000 DE8937040044053201300 XX89370400440532013000",
            &[],
        );
        // Numbers for tests that the payment networks publish.
        for good in
            ["4111111111111111", "5555 5555 5555 4444", "3782-822463-10005", "6011111111111117", "30569309025904", "2223003122003222"]
        {
            check(Pii::Card, &format!("card {good}."), &[good]);
        }
        check(
            Pii::Card,
            "4111111111111112 4111111111111116 0.4111111111111111 4111 1111 1111-1111 41111111111111111111 9111111111111110 4111-1111 1111 1111",
            &[],
        );
    }

    #[test]
    fn what_is_not_looked_for_is_not_found() {
        let text = "joe@x.org 8.8.8.8 +49 30 1234567 DE89370400440532013000 4111111111111111 2a00::1";
        assert_eq!(found(text).len(), 6);
        let none = Finder { emails: false, ips: false, public_ips_only: true, phones: false, ibans: false, cards: false };
        let mut got = vec![(Pii::Email, 0..1)];
        none.find(text, &mut got);
        assert!(got.is_empty());
    }

    #[test]
    fn long_lines_take_no_more_than_their_length() {
        for part in ["a@", "@", "1.", "1-", "a.", "@a.a-", ":", "1:", "::1", "+1 ", "(", "DE89", "4111 ", "1", "日1", "a..@"] {
            let text = part.repeat(2_000_000 / part.len());
            let mut got = Vec::new();
            ALL.find(&text, &mut got);
        }
    }

    proptest! {
        #[test]
        fn spans_are_in_order_and_between_characters(text in "([a-f0-9@:.+() é日DE-]|\\PC){0,60}") {
            let mut got = Vec::new();
            ALL.find(&text, &mut got);
            let mut free = 0;
            for (_, range) in got {
                prop_assert!(free <= range.start && range.start < range.end);
                prop_assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end));
                free = range.end;
            }
        }
    }
}
