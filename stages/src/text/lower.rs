//! Lower case, sixty-four bytes at a time.

#![expect(clippy::inline_always, reason = "a task has to be compiled anew inside the function for wider registers")]

use super::wide::{Block, Task, run};
use super::words::character_at;

/// Writes the lower case of `text`, character by character as [`char::to_lowercase`] has it, behind what `out` holds.
pub(crate) fn lower_case(text: &str, out: &mut Vec<u8>) {
    run(Lower { text: text.as_bytes(), out });
}

struct Lower<'a> {
    text: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl Task for Lower<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, block: impl Fn(&[u8; 64]) -> Block) {
        let Self { mut text, out } = self;
        out.reserve(text.len());
        while !text.is_empty() {
            let (bytes, n) = match text.first_chunk::<64>() {
                Some(bytes) => (*bytes, 64),
                None => (padded(text), text.len()),
            };
            let done = lower_block(text, &bytes, n, block(&bytes).lead, out);
            text = &text[done..];
        }
    }
}

fn padded(rest: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// Writes the lower case of the first `n` bytes of `text`, which a block holds, or of those up to a character whose lower case has another length or
/// that the block has not the whole of. Says of how many.
#[inline(always)]
fn lower_block(text: &[u8], bytes: &[u8; 64], n: usize, mut leads: u64, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(bytes);
    out[start..].make_ascii_lowercase();
    // The others one by one, in place as long as they are as long as they were.
    while leads != 0 {
        let at = leads.trailing_zeros() as usize;
        leads &= leads - 1;
        let (first, second) = (bytes[at], text.get(at + 1).copied().unwrap_or(0));
        if matches!(first, 0xE0 | 0xE3..=0xE9 | 0xEB..=0xED) {
            continue; // U+800 to U+FFF, to U+9FFF, to U+D7FF: Indic, Thai, Chinese, Japanese, Korean; none has cases
        }
        let lower = if first < 0xE0 { PAIRS[usize::from(first & 0x1F)][usize::from(second & 0x3F)] } else { NONE };
        if lower != NONE && at + 2 <= 64 {
            out[start + at..start + at + 2].copy_from_slice(&lower);
            continue;
        }
        let (character, length) = character_at(text, at);
        let one = one_lower_case(character).or_else(|| {
            let mut all = character.to_lowercase();
            if all.len() == 1 { all.next() } else { None }
        });
        if let Some(lower) = one.filter(|lower| lower.len_utf8() == length && at + length <= 64) {
            lower.encode_utf8(&mut out[start + at..start + at + length]);
        } else {
            // What is behind it moves, or is in the next block.
            out.truncate(start + at);
            let mut buffer = [0; 4];
            character.to_lowercase().for_each(|lower| out.extend_from_slice(lower.encode_utf8(&mut buffer).as_bytes()));
            return at + length;
        }
    }
    out.truncate(start + n);
    n
}

/// Of a character of two bytes whose lower case is not one of two bytes.
const NONE: [u8; 2] = [0; 2];

/// The lower case of the characters of two bytes, by the lower bits of both.
const PAIRS: [[[u8; 2]; 64]; 32] = {
    let mut pairs = [[NONE; 64]; 32];
    let mut code = 0x80;
    while code < 0x800 {
        if let Some(character) = char::from_u32(code)
            && let Some(lower) = one_lower_case(character)
            && lower.len_utf8() == 2
        {
            let lower = (lower as u32).to_le_bytes();
            pairs[(code >> 6) as usize][(code & 0x3F) as usize] = [0xC0 | (lower[1] << 2) | (lower[0] >> 6), 0x80 | (lower[0] & 0x3F)];
        }
        code += 1;
    }
    pairs
};

/// The lower case of a character of the commonest alphabets, and of the signs between them, without a search in the table of all.
const fn one_lower_case(character: char) -> Option<char> {
    let code = character as u32;
    match code {
        0xC0..=0xD6 | 0xD8..=0xDE | 0x391..=0x3A1 | 0x3A3..=0x3AB | 0x410..=0x42F => char::from_u32(code + 0x20),
        0x400..=0x40F => char::from_u32(code + 0x50),
        // Upper and lower case in turns.
        0x100..=0x12F | 0x132..=0x137 | 0x14A..=0x177 | 0x1E00..=0x1E95 | 0x1EA0..=0x1EFF => char::from_u32(code | 1),
        0x139..=0x148 | 0x179..=0x17E => char::from_u32(code + (code & 1)),
        0x80..=0xBF
        | 0xD7
        | 0xDF..=0xFF
        | 0x3AC..=0x3CE
        | 0x430..=0x45F
        | 0x590..=0x109F
        | 0x2000..=0x20CF
        | 0x3000..=0xA63F
        | 0xAC00..=0xD7A3 => Some(character),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::wide::{Processor, run_on};

    fn lower_on(processor: Processor, text: &str) -> String {
        let mut out = Vec::new();
        run_on(processor, Lower { text: text.as_bytes(), out: &mut out });
        String::from_utf8(out).expect("UTF-8")
    }

    fn unicode(text: &str) -> String {
        text.chars().flat_map(char::to_lowercase).collect()
    }

    #[test]
    fn lower_case_is_that_of_unicode() {
        let every: String = (0..=0x0010_FFFF).filter_map(char::from_u32).collect();
        for processor in Processor::all() {
            assert!(lower_on(processor, &every) == unicode(&every), "{processor:?}");
        }
    }

    #[test]
    fn characters_across_the_ends_of_blocks_are_lowered() {
        // Of one to four bytes; the lower case of as many bytes, of more and of fewer.
        for characters in ["A", "Ж", "Ä", "İ", "Ⱥ", "K", "ẞ", "Ḁ", "𐐀", "ÄKA", "日Ж", "ŁŻK𐐀Q"] {
            for before in 0..130 {
                for after in [0, 1, 63, 70] {
                    let text = format!("{}{characters}{}", "B".repeat(before), "Cé".repeat(after));
                    for processor in Processor::all() {
                        assert_eq!(lower_on(processor, &text), unicode(&text), "{processor:?}");
                    }
                }
            }
        }
    }
}
