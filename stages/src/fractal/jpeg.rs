//! A JPEG encoder: baseline, with the tables of the standard's annex K.
//!
//! Images that are made are encoded one by one, and an encoder that is written for reading takes longer for it than all that was done to make them. This one
//! works on eight columns of a block at a time, which compilers turn into vector operations, and gives the same bytes on every processor.
//!
//! Source: ITU-T T.81 (1992), annexes B, F and K; Arai, Agui, Nakajima, *A fast DCT-SQ scheme for images*, 1988, as told in Pennebaker, Mitchell, *JPEG*, 1993, fig. 4-8;
//! scaling of tables by quality and colours as in the Independent JPEG Group's libjpeg and JFIF 1.02.

/// A number for each of eight columns.
type Row = [f32; 8];
type Block = [Row; 8];

/// Encodes images of one quality. Keeps its buffers from one to the next.
#[derive(Debug)]
pub(super) struct JpegEncoder {
    /// Whether colours have half the resolution of brightness.
    half: bool,
    /// Quantisation of brightness and colours: in the file's order, and what coefficients are multiplied by.
    tables: [([u8; 64], Block); 2],
    codes: [Codes; 4],
    planes: [Vec<f32>; 3],
    halves: [Vec<f32>; 2],
}

impl JpegEncoder {
    /// Of quality 1 to 100. From 95 on, colours keep their full resolution.
    pub(super) fn new(quality: u8) -> Self {
        let codes = [(&BITS_Y_DC, &DC[..]), (&BITS_Y_AC, &Y_AC[..]), (&BITS_C_DC, &DC[..]), (&BITS_C_AC, &C_AC[..])];
        Self {
            half: quality < 95,
            tables: [&QUANT_Y, &QUANT_C].map(|table| scaled(table, quality)),
            codes: codes.map(|(bits, values)| Codes::new(bits, values)),
            planes: Default::default(),
            halves: Default::default(),
        }
    }

    /// Writes the file of an image of `[side][side][3]` behind what is in `file`; a side of 1 to 65,535.
    pub(super) fn encode(&mut self, rgb: &[u8], side: u16, file: &mut Vec<u8>) {
        self.headers(side, file);
        let side = usize::from(side);
        let unit = if self.half { 16 } else { 8 };
        let wide = side.div_ceil(unit) * unit;
        self.fill_planes(rgb, side, wide);
        let [y, blue, red] = &self.planes;
        let (chroma, chroma_wide) = if self.half {
            for (half, plane) in self.halves.iter_mut().zip([blue, red]) {
                halve(plane, wide, half);
            }
            (self.halves.each_ref(), wide / 2)
        } else {
            ([blue, red], wide)
        };
        let mut bits = Bits { file, word: 0, free: 64 };
        let mut before = [0; 3];
        let [of_y, of_chroma] = [(&self.tables[0].1, &self.codes[..2]), (&self.tables[1].1, &self.codes[2..])];
        let blocks = unit / 8;
        for row in (0..wide).step_by(unit) {
            for column in (0..wide).step_by(unit) {
                for at in 0..blocks * blocks {
                    let (row, column) = (row + at / blocks * 8, column + at % blocks * 8);
                    bits.block(&quantised(y, wide, row, column, of_y.0), &mut before[0], of_y.1);
                }
                let (row, column) = (row / blocks, column / blocks);
                for (plane, before) in chroma.iter().zip(&mut before[1..]) {
                    bits.block(&quantised(plane, chroma_wide, row, column, of_chroma.0), before, of_chroma.1);
                }
            }
        }
        bits.finish();
        file.extend([0xFF, 0xD9]);
    }

    fn headers(&self, side: u16, file: &mut Vec<u8>) {
        file.extend([0xFF, 0xD8]);
        let [high, low] = side.to_be_bytes();
        let mut segment = |marker: u8, parts: &[&[u8]]| {
            let length = u16::try_from(2 + parts.iter().map(|part| part.len()).sum::<usize>()).expect("short headers");
            file.extend([0xFF, marker]);
            file.extend(length.to_be_bytes());
            parts.iter().for_each(|part| file.extend_from_slice(part));
        };
        segment(0xE0, &[b"JFIF\0", &[1, 1, 0, 0, 1, 0, 1, 0, 0]]);
        let [(y, _), (c, _)] = &self.tables;
        segment(0xDB, &[&[0], y, &[1], c]);
        let sampling = if self.half { 0x22 } else { 0x11 };
        segment(0xC0, &[&[8, high, low, high, low, 3, 1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1]]);
        segment(0xC4, &[&[0x00], &BITS_Y_DC, &DC, &[0x10], &BITS_Y_AC, &Y_AC, &[0x01], &BITS_C_DC, &DC, &[0x11], &BITS_C_AC, &C_AC]);
        segment(0xDA, &[&[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]]);
    }

    /// Brightness and colours, each a square of `wide`, the last row and column repeated.
    fn fill_planes(&mut self, rgb: &[u8], side: usize, wide: usize) {
        self.planes.iter_mut().for_each(|plane| plane.resize(wide * wide, 0.0));
        let [y, blue, red] = &mut self.planes;
        for row in 0..wide {
            let line = &rgb[row.min(side - 1) * side * 3..][..side * 3];
            let [y, blue, red] = [&mut *y, &mut *blue, &mut *red].map(|plane| &mut plane[row * wide..][..wide]);
            for (((rgb, y), blue), red) in line.chunks_exact(3).zip(&mut *y).zip(&mut *blue).zip(&mut *red) {
                let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f32::from);
                *y = 0.299 * r + 0.587 * g + 0.114 * b - 128.0;
                *blue = -0.168_736 * r - 0.331_264 * g + 0.5 * b;
                *red = 0.5 * r - 0.418_688 * g - 0.081_312 * b;
            }
            for plane in [y, blue, red] {
                let last = plane[side - 1];
                plane[side..].fill(last);
            }
        }
    }
}

/// A plane of half the side: means of four.
fn halve(plane: &[f32], wide: usize, half: &mut Vec<f32>) {
    half.clear();
    for rows in plane.chunks_exact(2 * wide) {
        let (upper, lower) = rows.split_at(wide);
        half.extend(
            upper.chunks_exact(2).zip(lower.chunks_exact(2)).map(|(upper, lower)| (upper[0] + upper[1] + lower[0] + lower[1]) * 0.25),
        );
    }
}

/// The coefficients of a block, rounded; element `[column][row]`, as the transform leaves them.
fn quantised(plane: &[f32], wide: usize, row: usize, column: usize, factors: &Block) -> [i16; 64] {
    let mut block: Block = [[0.0; 8]; 8];
    for (at, line) in block.iter_mut().enumerate() {
        line.copy_from_slice(&plane[(row + at) * wide + column..][..8]);
    }
    transform(&mut block);
    let mut turned: Block = [[0.0; 8]; 8];
    for (row, line) in block.iter().enumerate() {
        for (column, value) in line.iter().enumerate() {
            turned[column][row] = *value;
        }
    }
    transform(&mut turned);
    let mut rounded = [0; 64];
    for ((to, line), factors) in rounded.chunks_exact_mut(8).zip(&turned).zip(factors) {
        for ((to, value), factor) in to.iter_mut().zip(line).zip(factors) {
            *to = nearest(value * factor);
        }
    }
    rounded
}

/// Rounded to the nearest, ties up. By adding a number so large that the last bit of a float is worth one.
fn nearest(value: f32) -> i16 {
    const ONES: f32 = 12_582_912.0; // 1.5 * 2^23
    #[expect(clippy::cast_possible_truncation, reason = "coefficients are below 2^15")]
    let rounded = ((value + ONES).to_bits() as i32).wrapping_sub(ONES.to_bits() as i32) as i16;
    rounded
}

/// The cosine transform down each column, without the factors that quantisation takes care of.
fn transform(block: &mut Block) {
    let add = |a: Row, b: Row| -> Row { std::array::from_fn(|at| a[at] + b[at]) };
    let less = |a: Row, b: Row| -> Row { std::array::from_fn(|at| a[at] - b[at]) };
    let times = |a: Row, factor: f32| -> Row { a.map(|value| value * factor) };
    let [d0, d1, d2, d3, d4, d5, d6, d7] = *block;
    let (s07, s16, s25, s34) = (add(d0, d7), add(d1, d6), add(d2, d5), add(d3, d4));
    let (l07, l16, l25, l34) = (less(d0, d7), less(d1, d6), less(d2, d5), less(d3, d4));
    let (outer, inner) = (add(s07, s34), add(s16, s25));
    let (outer_less, inner_less) = (less(s07, s34), less(s16, s25));
    let middle = times(add(inner_less, outer_less), 0.707_106_77);
    let (a, b, c) = (add(l34, l25), add(l25, l16), add(l16, l07));
    let z5 = times(less(a, c), 0.382_683_43);
    let (z2, z4, z3) = (add(times(a, 0.541_196_1), z5), add(times(c, 1.306_563), z5), times(b, 0.707_106_77));
    let (z11, z13) = (add(l07, z3), less(l07, z3));
    *block = [
        add(outer, inner),
        add(z11, z4),
        add(outer_less, middle),
        less(z13, z2),
        less(outer, inner),
        add(z13, z2),
        less(outer_less, middle),
        less(z11, z4),
    ];
}

/// A table of the standard for a quality; and what coefficients are multiplied by: element `[column][row]`.
#[expect(clippy::cast_possible_truncation, reason = "factors are f32")]
fn scaled(table: &[u8; 64], quality: u8) -> ([u8; 64], Block) {
    let quality = u32::from(quality.clamp(1, 100));
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    let steps = table.map(|step| u8::try_from(((u32::from(step) * scale + 50) / 100).clamp(1, 255)).expect("clamped"));
    let factor = |k: usize| if k == 0 { 1.0 } else { (k as f64 * std::f64::consts::PI / 16.0).cos() * std::f64::consts::SQRT_2 };
    let mut factors = [[0.0; 8]; 8];
    for (at, step) in ZIGZAG.iter().zip(steps) {
        let (row, column) = (usize::from(*at) / 8, usize::from(*at) % 8);
        factors[column][row] = (1.0 / (8.0 * f64::from(step) * factor(row) * factor(column))) as f32;
    }
    (steps, factors)
}

/// Codes of a Huffman table: bits and how many, by value.
#[derive(Debug)]
struct Codes([(u16, u8); 256]);

impl Codes {
    fn new(bits: &[u8; 16], values: &[u8]) -> Self {
        let (mut codes, mut code, mut at) = ([(0, 0); 256], 0, 0);
        for (length, count) in (1_u8..).zip(bits) {
            for value in &values[at..at + usize::from(*count)] {
                codes[usize::from(*value)] = (code, length);
                code += 1;
            }
            at += usize::from(*count);
            code <<= 1;
        }
        Self(codes)
    }
}

/// Bits on their way to a file.
struct Bits<'f> {
    file: &'f mut Vec<u8>,
    word: u64,
    free: u32,
}

impl Bits<'_> {
    #[inline]
    fn put(&mut self, bits: u32, n: u32) {
        if n > self.free {
            // What fits, a full word out, and the rest begins the next.
            let rest = n - self.free;
            self.word |= u64::from(bits) >> rest;
            self.flush();
            self.word = u64::from(bits) << (64 - rest);
            self.free = 64 - rest;
        } else {
            self.free -= n;
            self.word |= u64::from(bits) << self.free;
        }
    }

    /// Writes a full word; after each byte of ones a byte of zeros, as the file's markers begin with it.
    fn flush(&mut self) {
        let bytes = self.word.to_be_bytes();
        if bytes.contains(&0xFF) {
            for byte in bytes {
                self.file.push(byte);
                if byte == 0xFF {
                    self.file.push(0);
                }
            }
        } else {
            self.file.extend(bytes);
        }
    }

    fn finish(&mut self) {
        // The last byte is filled with ones.
        let n = 8 - (64 - self.free) % 8;
        if n < 8 {
            self.put((1 << n) - 1, n);
        }
        for byte in &self.word.to_be_bytes()[..(64 - self.free) as usize / 8] {
            self.file.push(*byte);
            if *byte == 0xFF {
                self.file.push(0);
            }
        }
    }

    /// A block: the difference of its mean to the last one's, then what is not zero in the file's order, with the zeros before it.
    fn block(&mut self, block: &[i16; 64], before: &mut i16, codes: &[Codes]) {
        let [of_mean, of_rest] = codes else { return };
        let mean = block[0];
        self.number(i32::from(mean) - i32::from(*before), 0, of_mean);
        *before = mean;
        let mut zeros = 0;
        for at in &TURNED[1..] {
            let value = block[usize::from(*at)];
            if value == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 {
                let (bits, n) = of_rest.0[0xF0];
                self.put(bits.into(), n.into());
                zeros -= 16;
            }
            self.number(value.into(), zeros, of_rest);
            zeros = 0;
        }
        if zeros > 0 {
            let (bits, n) = of_rest.0[0];
            self.put(bits.into(), n.into());
        }
    }

    /// A number: a code of the zeros before it and its length, then its bits; those of a negative one less one.
    #[inline]
    fn number(&mut self, value: i32, zeros: usize, codes: &Codes) {
        let length = 32 - value.unsigned_abs().leading_zeros();
        let (bits, n) = codes.0[zeros << 4 | length as usize];
        let own = (value + (value >> 31)).cast_unsigned() & ((1 << length) - 1);
        self.put(u32::from(bits) << length | own, u32::from(n) + length);
    }
}

/// Where the coefficients of the file's order stand in a block of rows.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Where they stand in a block of columns.
const TURNED: [u8; 64] = {
    let (mut turned, mut at) = (ZIGZAG, 0);
    while at < 64 {
        turned[at] = ZIGZAG[at] % 8 * 8 + ZIGZAG[at] / 8;
        at += 1;
    }
    turned
};

/// Table K.1, in the file's order.
const QUANT_Y: [u8; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51, 56, 55,
    64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];

/// Table K.2, in the file's order.
const QUANT_C: [u8; 64] = [
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// Tables K.3 to K.6: how many codes there are of each length, and their values.
const BITS_Y_DC: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const BITS_C_DC: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const DC: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const BITS_Y_AC: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125];
const Y_AC: [u8; 162] = [
    1, 2, 3, 0, 4, 17, 5, 18, 33, 49, 65, 6, 19, 81, 97, 7, 34, 113, 20, 50, 129, 145, 161, 8, 35, 66, 177, 193, 21, 82, 209, 240, 36, 51,
    98, 114, 130, 9, 10, 22, 23, 24, 25, 26, 37, 38, 39, 40, 41, 42, 52, 53, 54, 55, 56, 57, 58, 67, 68, 69, 70, 71, 72, 73, 74, 83, 84,
    85, 86, 87, 88, 89, 90, 99, 100, 101, 102, 103, 104, 105, 106, 115, 116, 117, 118, 119, 120, 121, 122, 131, 132, 133, 134, 135, 136,
    137, 138, 146, 147, 148, 149, 150, 151, 152, 153, 154, 162, 163, 164, 165, 166, 167, 168, 169, 170, 178, 179, 180, 181, 182, 183, 184,
    185, 186, 194, 195, 196, 197, 198, 199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 225, 226, 227, 228, 229, 230, 231,
    232, 233, 234, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250,
];
const BITS_C_AC: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119];
const C_AC: [u8; 162] = [
    0, 1, 2, 3, 17, 4, 5, 33, 49, 6, 18, 65, 81, 7, 97, 113, 19, 34, 50, 129, 8, 20, 66, 145, 161, 177, 193, 9, 35, 51, 82, 240, 21, 98,
    114, 209, 10, 22, 36, 52, 225, 37, 241, 23, 24, 25, 26, 38, 39, 40, 41, 42, 53, 54, 55, 56, 57, 58, 67, 68, 69, 70, 71, 72, 73, 74, 83,
    84, 85, 86, 87, 88, 89, 90, 99, 100, 101, 102, 103, 104, 105, 106, 115, 116, 117, 118, 119, 120, 121, 122, 130, 131, 132, 133, 134,
    135, 136, 137, 138, 146, 147, 148, 149, 150, 151, 152, 153, 154, 162, 163, 164, 165, 166, 167, 168, 169, 170, 178, 179, 180, 181, 182,
    183, 184, 185, 186, 194, 195, 196, 197, 198, 199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 226, 227, 228, 229, 230,
    231, 232, 233, 234, 242, 243, 244, 245, 246, 247, 248, 249, 250,
];

#[cfg(test)]
mod tests {
    use gpu::cpu::counter_rng::Draws;

    use super::*;

    fn decoded(file: &[u8]) -> (u32, Vec<u8>) {
        let image = image::load_from_memory_with_format(file, image::ImageFormat::Jpeg).expect("a JPEG").into_rgb8();
        assert_eq!(image.width(), image.height());
        (image.width(), image.into_raw())
    }

    fn encoded(rgb: &[u8], side: u16, quality: u8) -> Vec<u8> {
        let mut file = Vec::new();
        JpegEncoder::new(quality).encode(rgb, side, &mut file);
        file
    }

    fn error(a: &[u8], b: &[u8]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
    }

    /// A picture with edges and slopes.
    fn picture(side: usize) -> Vec<u8> {
        let at = |at: usize| u8::try_from(at % 256).expect("a byte");
        (0..side * side)
            .flat_map(|pixel| {
                let (row, column) = (pixel / side, pixel % side);
                if (row / 7 + column / 9) % 3 == 0 { [at(row * 5), at(column * 3), 40] } else { [at(200 + row), 90, at(column * 2)] }
            })
            .collect()
    }

    #[test]
    fn other_decoders_read_it_and_it_loses_no_more_than_other_encoders() {
        for side in [1_u16, 7, 8, 9, 16, 17, 40, 100] {
            let rgb = picture(side.into());
            for quality in [95, 100] {
                let (got_side, got) = decoded(&encoded(&rgb, side, quality));
                assert_eq!(got_side, u32::from(side));
                let mut other = Vec::new();
                let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut other, quality);
                image::ImageEncoder::write_image(encoder, &rgb, side.into(), side.into(), image::ExtendedColorType::Rgb8).expect("a file");
                let (ours, theirs) = (error(&got, &rgb), error(&decoded(&other).1, &rgb));
                assert!(ours < 1.05 * theirs + 0.3, "side {side}, quality {quality}: {ours} against {theirs}");
            }
        }
    }

    #[test]
    fn even_pictures_stay_even_and_greys_stay_sharp_where_colours_are_halved() {
        let flat = [200, 30, 90].repeat(40 * 40);
        let (_, got) = decoded(&encoded(&flat, 40, 90));
        assert!(got.iter().zip(&flat).all(|(a, b)| a.abs_diff(*b) <= 4), "{:?}", &got[..3]);
        let grey: Vec<u8> = picture(40).chunks(3).flat_map(|rgb| [rgb[0]; 3]).collect();
        let (half, full) = (decoded(&encoded(&grey, 40, 94)).1, decoded(&encoded(&grey, 40, 95)).1);
        assert!(error(&half, &grey) < 1.5 * error(&full, &grey) + 0.5);
        // Colours of single columns do not.
        let stripes: Vec<u8> = (0..40 * 40).flat_map(|at| if at % 2 == 0 { [255, 0, 0] } else { [0, 128, 0] }).collect();
        assert!(error(&decoded(&encoded(&stripes, 40, 94)).1, &stripes) > 4.0 * error(&decoded(&encoded(&stripes, 40, 95)).1, &stripes));
    }

    #[test]
    fn noise_of_any_quality_is_read_back() {
        let mut draws = Draws::new(1, [0; 3]);
        let noise: Vec<u8> = (0..48 * 48 * 3).map(|_| u8::try_from(draws.below(256)).expect("a byte")).collect();
        let extreme: Vec<u8> = noise.iter().map(|byte| if *byte < 128 { 0 } else { 255 }).collect();
        for rgb in [noise, extreme] {
            let mut last = f64::INFINITY;
            for quality in [1, 10, 49, 50, 75, 94, 95, 99, 100] {
                let error = error(&decoded(&encoded(&rgb, 48, quality)).1, &rgb);
                assert!(error < last + 3.0, "quality {quality}: {error} after {last}");
                last = error;
            }
            assert!(last < 2.0, "{last}");
        }
    }

    #[test]
    fn an_encoder_that_was_used_writes_what_a_new_one_does() {
        let mut encoder = JpegEncoder::new(80);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        encoder.encode(&picture(50), 50, &mut first);
        encoder.encode(&picture(20), 20, &mut second);
        assert_eq!(second, encoded(&picture(20), 20, 80));
        assert_eq!(&first[..3], [0xFF, 0xD8, 0xFF]);
    }
}
