//! What a character may be a sign of.

use unicode_normalization::UnicodeNormalization;

use super::charsets::Charset;

/// Signs of a character; a bit for each.
pub(super) type Signs = u32;

// Kinds of characters that texts in UTF-8 are made of when they are read as another character set.
//
// Source: ftfy 6.1.1, `badness.MOJIBAKE_CATEGORIES`.
pub(super) const COMMON: Signs = 1;
pub(super) const C1: Signs = 1 << 1;
pub(super) const BAD: Signs = 1 << 2;
pub(super) const CURRENCY: Signs = 1 << 3;
pub(super) const START: Signs = 1 << 4;
pub(super) const END: Signs = 1 << 5;
pub(super) const NUMERIC: Signs = 1 << 6;
pub(super) const FACE: Signs = 1 << 7;
pub(super) const UPPER_ACCENTED: Signs = 1 << 8;
pub(super) const LOWER_ACCENTED: Signs = 1 << 9;
pub(super) const UPPER: Signs = 1 << 10;
pub(super) const LOWER: Signs = 1 << 11;
pub(super) const BOX: Signs = 1 << 12;
/// All of these.
pub(super) const KINDS: Signs = (1 << 13) - 1;

// What bytes of UTF-8 look like when they are read as another character set.
//
// Source: ftfy 6.1.1, `chardata.UTF8_CLUES`.
pub(super) const FIRST_OF_2: Signs = 1 << 13;
pub(super) const FIRST_OF_3: Signs = 1 << 14;
pub(super) const FIRST_OF_4: Signs = 1 << 15;
pub(super) const FOLLOWS: Signs = 1 << 16;
/// Follows, and hardly ever stands for itself.
pub(super) const FOLLOWS_ONLY: Signs = 1 << 17;

/// The first of nine bits: in which of [`Charset::all`] the character is.
pub(super) const FIRST_CHARSET: u32 = 18;
pub(super) const CHARSETS: Signs = 0x1FF << FIRST_CHARSET;

// What is put right character by character.
pub(super) const LIGATURE: Signs = 1 << 27;
pub(super) const WIDTH: Signs = 1 << 28;
pub(super) const QUOTE: Signs = 1 << 29;
pub(super) const BREAK: Signs = 1 << 30;
pub(super) const CONTROL: Signs = 1 << 31;

type Members = (Signs, &'static str, &'static [(char, char)]);

const MEMBERS: &[Members] = &[
    (COMMON, "\u{a0}\u{ad}´·–—―’…", &[]),
    (C1, "", &[('\u{80}', '\u{9f}')]),
    (BAD, "¤¦§¨ª¬¯¶¸ºƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}", &[]),
    (CURRENCY, "¢£¥₧€", &[]),
    (START, "¡©«¿΄΅‘‚“„•‹\u{f8ff}", &[]),
    (END, "®»˝”›™", &[]),
    (NUMERIC, "±²³µ¹¼½¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥", &[]),
    (FACE, "°ÙÚÛÜŐ", &[('Ò', 'Ö'), ('ò', 'ö'), ('ø', 'ü')]),
    (UPPER_ACCENTED, "ØÜÝĂĄĆČĎĐĘĚĞİĹĽŁŃŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ", &[('À', 'Ñ')]),
    (LOWER_ACCENTED, "üăąćčďđęěğĺľłœŕśşšťźżžґﬁﬂ", &[('ß', 'ñ')]),
    (UPPER, "ÞΆΈΉΊΌΎΏ", &[('Α', 'Ϋ'), ('Ё', 'Я')]),
    (LOWER, "", &[('ά', 'ω'), ('а', 'џ')]),
    (BOX, "│┌┐┘├┤┬┼▀▄█▌▐░▒▓", &[('═', '╬')]),
    (FIRST_OF_2, "ĂĆČĎĐĘĚĞİĹŃŇŐŘŞŢŮŰ", &[('Â', 'ß'), ('Β', 'Ρ'), ('Σ', 'ί'), ('В', 'Я')]),
    (FIRST_OF_3, "ăćčďęěĺŕ", &[('à', 'ï'), ('ΰ', 'ο'), ('а', 'п')]),
    (FIRST_OF_4, "ðóđğπσру", &[]),
    (FOLLOWS, " –—―‘’‚“”„…", &[]),
    (FOLLOWS | FOLLOWS_ONLY, "ĄąĽľŁłŒœŚśŞşŠšŤťƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЎЏўџҐґ†‡•‰‹›€№™", &[('\u{80}', '¿'), ('Ÿ', 'ž'), ('Ё', 'Ќ'), ('ё', 'ќ')]),
    // Source for these: ftfy 6.1.1, `chardata`.
    (QUOTE, "\u{2bc}", &[('\u{2018}', '\u{201b}'), ('\u{201c}', '\u{201f}')]),
    (BREAK, "\r\u{85}\u{2028}\u{2029}", &[]),
    (CONTROL, "\u{b}\u{7f}\u{feff}", &[('\0', '\u{8}'), ('\u{e}', '\u{1f}'), ('\u{206a}', '\u{206f}'), ('\u{fff9}', '\u{fffc}')]),
];

/// Letters that are one character for reasons of printing or of old character sets, and what they are made of.
///
/// Source: ftfy 6.1.1, `chardata.LIGATURES`.
const LIGATURES: [(char, &str); 22] = [
    ('Ĳ', "IJ"),
    ('ĳ', "ij"),
    ('ŉ', "ʼn"),
    ('Ǆ', "DŽ"),
    ('ǅ', "Dž"),
    ('ǆ', "dž"),
    ('Ǉ', "LJ"),
    ('ǈ', "Lj"),
    ('ǉ', "lj"),
    ('Ǌ', "NJ"),
    ('ǋ', "Nj"),
    ('ǌ', "nj"),
    ('Ǳ', "DZ"),
    ('ǲ', "Dz"),
    ('ǳ', "dz"),
    ('ﬀ', "ff"),
    ('ﬁ', "fi"),
    ('ﬂ', "fl"),
    ('ﬃ', "ffi"),
    ('ﬄ', "ffl"),
    ('ﬅ', "ſt"),
    ('ﬆ', "st"),
];

/// What a ligature is made of.
pub(super) fn parts(ligature: char) -> Option<&'static str> {
    LIGATURES.iter().find(|(character, _)| *character == ligature).map(|(_, parts)| *parts)
}

/// The common form of a full-width or half-width character, which may be another one of them.
pub(super) fn common_width(character: char) -> impl Iterator<Item = char> {
    std::iter::once(character).nfkc()
}

/// The signs of all characters up to U+FFFF; those beyond have none. Pages of 256 characters, of which few differ.
#[derive(Debug)]
pub(super) struct Table {
    page_of: [u8; 256],
    pages: Vec<[Signs; 256]>,
}

impl Table {
    pub(super) fn new(charsets: &[Charset]) -> Self {
        let mut table = Self { page_of: [0; 256], pages: vec![[0; 256]] };
        for (signs, singles, ranges) in MEMBERS {
            singles.chars().for_each(|character| table.add(character, *signs));
            ranges.iter().for_each(|(first, last)| (*first..=*last).for_each(|character| table.add(character, *signs)));
        }
        LIGATURES.iter().for_each(|(character, _)| table.add(*character, LIGATURE));
        table.add('\u{3000}', WIDTH);
        let widths = ('\u{ff01}'..'\u{fff0}').filter(|character| !common_width(*character).eq([*character]));
        widths.for_each(|character| table.add(character, WIDTH));
        for (number, charset) in charsets.iter().enumerate() {
            let signs = 1 << (FIRST_CHARSET as usize + number);
            let ascii = ('\0'..='\x7f').filter(|character| charset.byte(*character).is_some());
            ascii.chain(charset.characters()).for_each(|character| table.add(character, signs));
        }
        table
    }

    fn add(&mut self, character: char, signs: Signs) {
        let (page, at) = (character as usize >> 8, character as usize & 0xFF);
        if self.page_of[page] == 0 {
            self.page_of[page] = u8::try_from(self.pages.len()).expect("fewer pages than there are");
            self.pages.push([0; 256]);
        }
        self.pages[usize::from(self.page_of[page])][at] |= signs;
    }

    pub(super) fn signs(&self, character: char) -> Signs {
        let code = character as usize;
        self.page_of.get(code >> 8).map_or(0, |page| self.pages[usize::from(*page)][code & 0xFF])
    }
}
