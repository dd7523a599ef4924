//! Bytes of images: how large they are, and images made of pixels.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use crate::cells::ImageFormat;

/// Width and height, as an image says in its head.
pub(crate) fn size(format: ImageFormat, bytes: &[u8]) -> Option<(u32, u32)> {
    let at = |from: usize, n: usize| bytes.get(from..from + n);
    let big = |from: usize, n: usize| Some(at(from, n)?.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)));
    let little = |from: usize, n: usize| Some(at(from, n)?.iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)));
    let size = match format {
        // IHDR is the first chunk.
        ImageFormat::Png => (big(16, 4)?, big(20, 4)?),
        ImageFormat::Gif => (little(6, 2)?, little(8, 2)?),
        ImageFormat::Webp => match at(12, 4)? {
            b"VP8X" => (little(24, 3)? + 1, little(27, 3)? + 1),
            b"VP8L" => (little(21, 4)? % (1 << 14) + 1, (little(21, 4)? >> 14) % (1 << 14) + 1),
            _ => (little(26, 2)? & 0x3fff, little(28, 2)? & 0x3fff),
        },
        ImageFormat::Jpeg => {
            let mut from = 2;
            loop {
                match at(from, 2)? {
                    // Fill bytes, and markers that stand alone.
                    [0xff, 0xff] => from += 1,
                    [0xff, 0x01 | 0xd0..=0xd8] => from += 2,
                    [0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf] => break (big(from + 7, 2)?, big(from + 5, 2)?),
                    [0xff, _] => from += 2 + usize::try_from(big(from + 2, 2)?.max(2)).ok()?,
                    _ => return None,
                }
            }
        }
    };
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// What the bytes of a row of pixels are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colours {
    /// One byte a pixel.
    Grey,
    /// Three.
    Rgb,
    /// Four.
    Rgba,
    /// A bit a pixel: nothing, or this colour.
    Mask([u8; 3]),
}

/// An image of pixels, row by row.
///
/// Source: PNG specification, third edition.
pub(crate) fn png(width: u32, height: u32, colours: Colours, pixels: &[u8]) -> Vec<u8> {
    let (depth, kind, stride) = match colours {
        Colours::Grey => (8, 0, width as usize),
        Colours::Rgb => (8, 2, width as usize * 3),
        Colours::Rgba => (8, 6, width as usize * 4),
        Colours::Mask(_) => (1, 3, width.div_ceil(8) as usize),
    };
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, kind, 0, 0, 0]].concat();
    push_chunk(*b"IHDR", &head, &mut out);
    if let Colours::Mask([red, green, blue]) = colours {
        push_chunk(*b"PLTE", &[0, 0, 0, red, green, blue], &mut out);
        push_chunk(*b"tRNS", &[0], &mut out);
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks(stride.max(1)) {
        // Writing to memory does not fail. No row is filtered.
        _ = packed.write_all(&[0]).and_then(|()| packed.write_all(row));
    }
    push_chunk(*b"IDAT", &packed.finish().unwrap_or_default(), &mut out);
    push_chunk(*b"IEND", &[], &mut out);
    out
}

fn push_chunk(name: [u8; 4], data: &[u8], out: &mut Vec<u8>) {
    let mut sum = Crc::new();
    sum.update(&name);
    sum.update(data);
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(name);
    out.extend(data);
    out.extend(sum.sum().to_be_bytes());
}

/// Source: RFC 4648, section 4.
pub(crate) fn push_base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_rfc_4648_has_them() {
        let of = |bytes: &str| {
            let mut out = String::new();
            push_base64(bytes.as_bytes(), &mut out);
            out
        };
        assert_eq!(
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(of),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]
        );
    }

    #[test]
    fn a_picture_says_how_large_it_is() {
        let made = png(7, 300, Colours::Grey, &[0; 2100]);
        assert_eq!(size(ImageFormat::Png, &made), Some((7, 300)));
        assert_eq!(size(ImageFormat::Gif, b"GIF89a\x0a\x00\x01\x02rest"), Some((10, 513)));
        // A JPEG's head: start, an APP0 of 4 bytes, a fill byte, a frame of 8 bits, 2 rows of 3 pixels.
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x0b\x08\x00\x02\x00\x03\x01";
        assert_eq!(size(ImageFormat::Jpeg, jpeg), Some((3, 2)));
        let webp = |kind: &[u8; 4], rest: &[u8]| [&b"RIFF\0\0\0\0WEBP"[..], kind, &[0; 4], rest].concat();
        assert_eq!(size(ImageFormat::Webp, &webp(b"VP8X", &[0, 0, 0, 0, 9, 0, 0, 19, 0, 0])), Some((10, 20)));
        assert_eq!(size(ImageFormat::Webp, &webp(b"VP8 ", &[0, 0, 0, 0x9d, 1, 0x2a, 10, 0, 20, 0])), Some((10, 20)));
        // Widths less one in 14 bits each: 9 and 19.
        let bits = (9_u32 | 19 << 14).to_le_bytes();
        assert_eq!(size(ImageFormat::Webp, &webp(b"VP8L", &[&[0x2f][..], &bits].concat())), Some((10, 20)));
        for n in 0..jpeg.len() {
            for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Webp, ImageFormat::Gif] {
                assert!(size(format, &jpeg[..n]).is_none_or(|(width, _)| width > 0));
            }
        }
        assert_eq!(size(ImageFormat::Jpeg, b"\xff\xd8\xff\xe0\x00\x00"), None);
    }
}
