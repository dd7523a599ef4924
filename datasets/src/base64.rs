//! Standard base64 with padding: how binary columns stand in JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` as base64.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) & 63;
            out.push(if place <= chunk.len() { ALPHABET[digit as usize] } else { b'=' });
        }
    }
}

/// Appends the bytes that `text` stands for, padded or not; false if it is no base64, and then `out` may have grown.
pub(crate) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let digits = match text {
        [start @ .., b'=', b'='] | [start @ .., b'='] if text.len().is_multiple_of(4) => start,
        other => other,
    };
    out.reserve(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut word = 0_u32;
        for byte in chunk {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return false,
            };
            word = (word << 6) | u32::from(digit);
        }
        let [_, bytes @ ..] = (word << (6 * (4 - chunk.len()))).to_be_bytes();
        match chunk.len() {
            4 => out.extend_from_slice(&bytes),
            3 => out.extend_from_slice(&bytes[..2]),
            2 => out.extend_from_slice(&bytes[..1]),
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4648_go_there_and_back() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")] {
            let (mut text, mut bytes) = (Vec::new(), Vec::new());
            encode(plain.as_bytes(), &mut text);
            assert_eq!(String::from_utf8_lossy(&text), coded);
            assert!(decode(coded.as_bytes(), &mut bytes));
            assert_eq!(bytes, plain.as_bytes());
        }
        assert!(!decode(b"Z", &mut Vec::new()));
        assert!(!decode(b"Zg==Zg==", &mut Vec::new()));
        assert!(!decode(b"Z*==", &mut Vec::new()));
    }
}
