//! Single-byte character sets, as texts in UTF-8 are found to have been read with.

/// A single-byte character set whose lower half is ASCII.
#[derive(Debug)]
pub(super) struct Charset {
    /// What bytes 0x80 to 0xFF stand for. Bytes that the standard gives no character stand for the control character of their number, as
    /// browsers have it.
    upper: &'static str,
    /// Whether byte 0x1A stands for U+FFFD: a character set with bytes of no meaning, of which other programs make U+FFFD.
    pub(super) is_sloppy: bool,
    /// Characters of the upper half with their bytes, sorted.
    bytes: Vec<(char, u8)>,
}

/// Stands for a byte that was lost.
pub(super) const LOST: u8 = 0x1A;

impl Charset {
    fn new(upper: &'static str, is_sloppy: bool) -> Self {
        let mut bytes: Vec<(char, u8)> = upper.chars().zip(0x80..=0xFF).collect();
        bytes.sort_unstable();
        Self { upper, is_sloppy, bytes }
    }

    /// The character sets that are tried, in this order.
    ///
    /// Source: ftfy 6.1.1, `chardata.CHARMAP_ENCODINGS`; the tables are those of the Unicode Consortium.
    pub(super) fn all() -> [Self; 9] {
        [
            Self::new(LATIN_1, false),
            Self::new(WINDOWS_1252, true),
            Self::new(WINDOWS_1251, true),
            Self::new(WINDOWS_1250, true),
            Self::new(WINDOWS_1253, true),
            Self::new(WINDOWS_1254, true),
            Self::new(ISO_8859_2, false),
            Self::new(MAC_ROMAN, false),
            Self::new(CP437, false),
        ]
    }

    /// Every character it has that is not ASCII.
    pub(super) fn characters(&self) -> impl Iterator<Item = char> {
        self.upper.chars().chain(self.is_sloppy.then_some('\u{fffd}'))
    }

    /// The byte of a character.
    pub(super) fn byte(&self, character: char) -> Option<u8> {
        match u8::try_from(character) {
            Ok(LOST) if self.is_sloppy => None,
            Ok(byte) if byte.is_ascii() => Some(byte),
            _ if character == '\u{fffd}' && self.is_sloppy => Some(LOST),
            _ => self.bytes.binary_search_by_key(&character, |(character, _)| *character).ok().map(|at| self.bytes[at].1),
        }
    }
}

/// What browsers make of a C1 control character: the character of that byte in Windows-1252.
pub(super) fn of_c1(character: char) -> char {
    let Some(at) = u32::from(character).checked_sub(0x80).filter(|at| *at < 0x20) else { return character };
    C1[at as usize]
}

const LATIN_1: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\
    \u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1252: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\
    \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\
    \u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\
    \u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}΅Ά£¤¥¦§¨©\u{aa}«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ\u{d2}ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ\u{ff}";
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\
    \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
const ISO_8859_2: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\
    \u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const MAC_ROMAN: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
    ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
const CP437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The lower half of the upper half of [`WINDOWS_1252`].
const C1: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–',
    '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_character_for_each_byte() {
        for charset in Charset::all() {
            let upper: Vec<char> = charset.upper.chars().collect();
            assert_eq!(upper.len(), 128, "{}", charset.upper);
            assert!(charset.bytes.windows(2).all(|pair| pair[0].0 != pair[1].0), "{}", charset.upper);
            for (byte, character) in (0x80..=0xFF).zip(upper) {
                assert_eq!(charset.byte(character), Some(byte));
            }
        }
        assert!(WINDOWS_1252.chars().take(32).eq(C1));
    }

    #[test]
    fn a_lost_byte_stands_where_bytes_have_no_meaning() {
        let [latin, windows, ..] = Charset::all();
        assert_eq!((latin.byte('\u{fffd}'), windows.byte('\u{fffd}')), (None, Some(LOST)));
        assert_eq!((latin.byte('\u{1a}'), windows.byte('\u{1a}')), (Some(LOST), None));
        assert_eq!((windows.byte('€'), latin.byte('€'), windows.byte('a'), windows.byte('日')), (Some(0x80), None, Some(b'a'), None));
    }
}
