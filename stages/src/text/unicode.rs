//! Characters as Python's `str` methods class them, which the published filters are written with.

/// Whether Python's `str.isspace` says so: Unicode's white space, and the four separators of ASCII.
#[inline]
pub(crate) fn is_space(character: char) -> bool {
    matches!(character, '\t'..='\r' | '\x1C'..='\x20') || (!character.is_ascii() && character.is_whitespace())
}

/// Whether Python's `str.isalpha` says so: a letter by its general category. [`char::is_alphabetic`] takes vowel signs and Roman numerals too.
pub(crate) fn is_letter(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphabetic();
    }
    character.is_alphabetic() && !is_in(&ALPHABETIC_ONLY, character)
}

/// Whether it is a decimal digit of any script (general category `Nd`).
pub(crate) fn is_decimal_digit(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_digit();
    }
    let code = u32::from(character);
    let next = ZEROS.partition_point(|zero| *zero <= code);
    next > 0 && code - ZEROS[next - 1] < 10
}

/// Whether a character lies in one of the ranges, which are in order.
pub(crate) fn is_in(ranges: &[(u32, u32)], character: char) -> bool {
    let code = u32::from(character);
    let next = ranges.partition_point(|(first, _)| *first <= code);
    next > 0 && code <= ranges[next - 1].1
}

/// `text` without the white space around it, as Python's `str.strip` has it.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Calls `line` for each line of `text`, as Python's `str.splitlines` has them: line feeds, carriage returns, form feeds and Unicode's line and
/// paragraph separators end a line. What follows the last end, if nothing, is no line.
pub(crate) fn split_lines<'a>(text: &'a str, mut line: impl FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let rest = if has_other_breaks(text) {
        let (mut start, mut at) = (0, 0);
        while at < bytes.len() {
            let length = break_length(&bytes[at..]);
            if length > 0 {
                line(&text[start..at]);
                start = at + length;
            }
            at += length.max(1);
        }
        start
    } else {
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            line(&text[start..at]);
            start = at + 1;
        }
        start
    };
    if rest < text.len() {
        line(&text[rest..]);
    }
}

/// Whether anything but line feeds ends lines.
fn has_other_breaks(text: &str) -> bool {
    let is_break = |byte: u8| (byte.wrapping_sub(0x0B) < 3) | (byte.wrapping_sub(0x1C) < 3);
    let of_ascii = text.as_bytes().chunks(64).any(|bytes| bytes.iter().fold(false, |any, byte| any | is_break(*byte)));
    of_ascii || (!text.is_ascii() && ["\u{85}", "\u{2028}", "\u{2029}"].iter().any(|end| text.contains(end)))
}

/// Bytes of the end of line that the text begins with; 0 if it begins with none.
fn break_length(text: &[u8]) -> usize {
    match text {
        [b'\r', b'\n', ..] | [0xC2, 0x85, ..] => 2,
        [b'\n'..=b'\r' | 0x1C..=0x1E, ..] => 1,
        [0xE2, 0x80, 0xA8 | 0xA9, ..] => 3,
        _ => 0,
    }
}

/// Ranges without letters that hold all characters which have the property `Alphabetic` and are no letters by their general category.
///
/// Source: Unicode Character Database 14.0, `DerivedCoreProperties.txt` and `extracted/DerivedGeneralCategory.txt`.
#[rustfmt::skip]
const ALPHABETIC_ONLY: [(u32, u32); 167] = [
    (0x345, 0x36F), (0x5B0, 0x5C7), (0x610, 0x61A), (0x64B, 0x65F), (0x670, 0x670), (0x6D6, 0x6E4), (0x6E7, 0x6ED), (0x711, 0x711),
    (0x730, 0x73F), (0x7A6, 0x7B0), (0x816, 0x817), (0x81B, 0x823), (0x825, 0x827), (0x829, 0x82C), (0x8D4, 0x903), (0x93A, 0x93B),
    (0x93E, 0x94F), (0x955, 0x957), (0x962, 0x963), (0x981, 0x983), (0x9BE, 0x9CC), (0x9D7, 0x9D7), (0x9E2, 0x9E3), (0xA01, 0xA03),
    (0xA3E, 0xA51), (0xA70, 0xA71), (0xA75, 0xA83), (0xABE, 0xACC), (0xAE2, 0xAE3), (0xAFA, 0xB03), (0xB3E, 0xB57), (0xB62, 0xB63),
    (0xB82, 0xB82), (0xBBE, 0xBCC), (0xBD7, 0xC04), (0xC3E, 0xC56), (0xC62, 0xC63), (0xC81, 0xC83), (0xCBE, 0xCD6), (0xCE2, 0xCE3),
    (0xD00, 0xD03), (0xD3E, 0xD4C), (0xD57, 0xD57), (0xD62, 0xD63), (0xD81, 0xD83), (0xDCF, 0xDF3), (0xE31, 0xE31), (0xE34, 0xE3A),
    (0xE4D, 0xE4D), (0xEB1, 0xEB1), (0xEB4, 0xEBC), (0xECD, 0xECD), (0xF71, 0xF83), (0xF8D, 0xFBC), (0x102B, 0x103E), (0x1056, 0x1059),
    (0x105E, 0x1060), (0x1062, 0x1064), (0x1067, 0x106D), (0x1071, 0x1074), (0x1082, 0x108D), (0x108F, 0x109D), (0x16EE, 0x16F0),
    (0x1712, 0x1713), (0x1732, 0x1733), (0x1752, 0x1753), (0x1772, 0x1773), (0x17B6, 0x17C8), (0x1885, 0x1886), (0x18A9, 0x18A9),
    (0x1920, 0x1938), (0x1A17, 0x1A1B), (0x1A55, 0x1A74), (0x1ABF, 0x1B04), (0x1B35, 0x1B43), (0x1B80, 0x1B82), (0x1BA1, 0x1BAD),
    (0x1BE7, 0x1BF1), (0x1C24, 0x1C36), (0x1DD3, 0x1DF4), (0x2160, 0x2182), (0x2185, 0x24E9), (0x2DE0, 0x2DFF), (0x3007, 0x3029),
    (0x3038, 0x303A), (0xA674, 0xA67B), (0xA69E, 0xA69F), (0xA6E6, 0xA6EF), (0xA802, 0xA802), (0xA80B, 0xA80B), (0xA823, 0xA827),
    (0xA880, 0xA881), (0xA8B4, 0xA8C5), (0xA8FF, 0xA8FF), (0xA926, 0xA92A), (0xA947, 0xA952), (0xA980, 0xA983), (0xA9B4, 0xA9BF),
    (0xA9E5, 0xA9E5), (0xAA29, 0xAA36), (0xAA43, 0xAA43), (0xAA4C, 0xAA4D), (0xAA7B, 0xAA7D), (0xAAB0, 0xAAB0), (0xAAB2, 0xAAB4),
    (0xAAB7, 0xAAB8), (0xAABE, 0xAABE), (0xAAEB, 0xAAEF), (0xAAF5, 0xAAF5), (0xABE3, 0xABEA), (0xFB1E, 0xFB1E), (0x10140, 0x10174),
    (0x10341, 0x10341), (0x1034A, 0x1034A), (0x10376, 0x1037A), (0x103D1, 0x103D5), (0x10A01, 0x10A0F), (0x10D24, 0x10D27),
    (0x10EAB, 0x10EAC), (0x11000, 0x11002), (0x11038, 0x11045), (0x11073, 0x11074), (0x11080, 0x11082), (0x110B0, 0x110C2),
    (0x11100, 0x11102), (0x11127, 0x11132), (0x11145, 0x11146), (0x11180, 0x11182), (0x111B3, 0x111BF), (0x111CE, 0x111CF),
    (0x1122C, 0x1123E), (0x112DF, 0x11303), (0x1133E, 0x1134C), (0x11357, 0x11357), (0x11362, 0x11363), (0x11435, 0x11445),
    (0x114B0, 0x114C1), (0x115AF, 0x115BE), (0x115DC, 0x115DD), (0x11630, 0x11640), (0x116AB, 0x116B5), (0x1171D, 0x1172A),
    (0x1182C, 0x11838), (0x11930, 0x1193C), (0x11940, 0x11940), (0x11942, 0x11942), (0x119D1, 0x119DF), (0x119E4, 0x119E4),
    (0x11A01, 0x11A0A), (0x11A35, 0x11A39), (0x11A3B, 0x11A3E), (0x11A51, 0x11A5B), (0x11A8A, 0x11A97), (0x11C2F, 0x11C3E),
    (0x11C92, 0x11CB6), (0x11D31, 0x11D43), (0x11D47, 0x11D47), (0x11D8A, 0x11D96), (0x11EF3, 0x11EF6), (0x12400, 0x1246E),
    (0x16F4F, 0x16F4F), (0x16F51, 0x16F92), (0x16FF0, 0x16FF1), (0x1BC9E, 0x1BC9E), (0x1E000, 0x1E02A), (0x1E947, 0x1E947),
    (0x1F130, 0x1F189),
];

/// The digit 0 of each script; the nine others follow it.
///
/// Source: Unicode Character Database 14.0, `extracted/DerivedGeneralCategory.txt`, `Nd`.
#[rustfmt::skip]
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0, 0xF20, 0x1040,
    0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0,
    0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730,
    0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140,
    0x1E2F0, 0x1E950, 0x1FBF0,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        let mut lines = Vec::new();
        split_lines(text, |line| lines.push(line));
        lines
    }

    // What is expected here is what Python 3.11 gives.

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(lines(""), [""; 0]);
        assert_eq!(lines("\n"), [""]);
        assert_eq!(lines("a\n\nb"), ["a", "", "b"]);
        assert_eq!(lines("a\r\nb\rc\n\rd\r"), ["a", "b", "c", "", "d"]);
        assert_eq!(lines("a\r\r\nb\n"), ["a", "", "b"]);
        assert_eq!(lines("a\x0Bb\x0Cc\x1Cd\x1De\x1Ef\x1Fg\u{85}h\u{2028}i\u{2029}j"), ["a", "b", "c", "d", "e", "f\x1Fg", "h", "i", "j"]);
        // Bytes of the separators inside other characters.
        assert_eq!(lines("\u{C5}\u{2085}\u{80}\nx"), ["\u{C5}\u{2085}\u{80}", "x"]);
    }

    #[test]
    fn letters_are_those_of_python() {
        for letter in ['a', 'Z', 'é', 'ª', '日', 'ש', 'あ', 'ー', 'ⁿ', '\u{1D400}', '각'] {
            assert!(is_letter(letter), "{letter}");
        }
        for other in ['1', '_', '½', 'Ⅳ', '\u{301}', '\u{93E}', '\u{E31}', '\u{345}', 'Ⓐ', '٣', '…'] {
            assert!(!is_letter(other), "{other}");
        }
    }

    #[test]
    fn spaces_and_digits_are_those_of_python() {
        let spaces: Vec<u32> = (0..=0x0010_FFFF).filter_map(char::from_u32).filter(|c| is_space(*c)).map(u32::from).collect();
        let python = [9, 10, 11, 12, 13, 28, 29, 30, 31, 32, 0x85, 0xA0, 0x1680]
            .into_iter()
            .chain(0x2000..=0x200A)
            .chain([0x2028, 0x2029, 0x202F, 0x205F, 0x3000]);
        assert_eq!(spaces, python.collect::<Vec<_>>());
        assert_eq!(('\0'..=char::MAX).filter(|c| is_decimal_digit(*c)).count(), 660);
        assert!(['0', '9', '٣', '９', '𝟘'].into_iter().all(is_decimal_digit));
        assert!(!['²', '½', '௰', 'Ⅳ', '一', '/', ':'].into_iter().any(is_decimal_digit));
    }
}
