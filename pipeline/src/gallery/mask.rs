//! Masks as COCO writes them, read and drawn: whatever stands in a file, the answer is a mask or a word why there is none.
//!
//! Source: COCO API, `common/maskApi.c` (`rleFrString`), <https://github.com/cocodataset/cocoapi>.

use std::fmt::Write as _;

use super::bytes::{self, push_base64};

/// Longest side, and most pixels, of a mask that is drawn.
const MAX_SIDE: i64 = 16_384;
const MAX_PIXELS: i64 = 1 << 24;

/// Digits of five bits that a number may have: more do not fit.
const MAX_DIGITS: u32 = 12;

/// A mask: runs of covered pixels, numbered down the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) height: u32,
    pub(crate) width: u32,
    /// Where each run begins and ends; none is empty.
    runs: Vec<(u32, u32)>,
}

impl Mask {
    /// Reads a mask of `size` (height, width) from run lengths in COCO's compressed text.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn read(size: [i64; 2], counts: &str) -> Result<Self, String> {
        let [height, width] = size;
        if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) || height * width > MAX_PIXELS {
            return Err(format!("a size of {height} × {width}"));
        }
        let (mut runs, mut end, mut earlier, mut is_covered) = (Vec::new(), 0_i64, [0_i64; 2], false);
        let (mut value, mut digits, mut n) = (0_i64, 0, 0_u32);
        for byte in counts.bytes() {
            let bits = byte.checked_sub(48).filter(|bits| *bits < 64).ok_or("a character that is none of a mask")?;
            if digits == MAX_DIGITS {
                return Err("a run that is too long".to_owned());
            }
            value |= i64::from(bits & 31) << (5 * digits);
            digits += 1;
            if bits & 32 != 0 {
                continue;
            }
            if bits & 16 != 0 {
                value |= -1 << (5 * digits);
            }
            // From the fourth number on, what stands there is the difference to the last but one.
            let length = if n > 2 { value.checked_add(earlier[0]) } else { Some(value) };
            let length = length.filter(|length| (0..=height * width).contains(length)).ok_or("a run of no length that can be")?;
            earlier = [earlier[1], length];
            if end + length > height * width {
                return Err(format!("runs beyond its {height} × {width} pixels"));
            }
            if is_covered && length > 0 {
                runs.push((narrow(end), narrow(end + length)));
            }
            end += length;
            is_covered = !is_covered;
            (value, digits, n) = (0, 0, n.saturating_add(1));
        }
        if digits > 0 {
            return Err("a number that is cut off".to_owned());
        }
        if end != height * width {
            return Err(format!("runs of {end} pixels, not of {height} × {width}"));
        }
        Ok(Self { height: narrow(height), width: narrow(width), runs })
    }

    /// Covered pixels.
    pub(crate) fn area(&self) -> u64 {
        self.runs.iter().map(|(from, to)| u64::from(to - from)).sum()
    }

    /// Each run within one column: column, first row, rows.
    fn columns(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let height = self.height;
        self.runs.iter().flat_map(move |&(from, to)| {
            (from / height..=(to - 1) / height).map(move |column| {
                let (first, last) = (from.max(column * height), to.min((column + 1) * height));
                (column, first - column * height, last - first)
            })
        })
    }

    /// The mask as an element of an SVG whose units are its pixels: lines, or a small image where that is shorter.
    pub(crate) fn svg(&self, colour: [u8; 3]) -> String {
        if self.runs.is_empty() {
            return String::new();
        }
        let image = self.image(colour);
        let mut path = "<path class=\"mask\" d=\"".to_owned();
        for (column, row, rows) in self.columns() {
            let _ = write!(path, "M{column}.5 {row}v{rows}");
            if path.len() > image.len() {
                return image;
            }
        }
        path.push_str("\"/>");
        path
    }

    fn image(&self, colour: [u8; 3]) -> String {
        let stride = self.width.div_ceil(8) as usize;
        let mut rows = vec![0_u8; stride * self.height as usize];
        for (column, row, n) in self.columns() {
            let (byte, bit) = ((column / 8) as usize, 0x80 >> (column % 8));
            (row..row + n).for_each(|row| rows[row as usize * stride + byte] |= bit);
        }
        let png = bytes::png(self.width, self.height, bytes::Colours::Mask(colour), &rows);
        let mut image = format!(
            "<image class=\"mask\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" href=\"data:image/png;base64,",
            self.width, self.height
        );
        push_base64(&png, &mut image);
        image.push_str("\"/>");
        image
    }
}

fn narrow(pixels: i64) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes run lengths as COCO's `rleToString` does.
    pub(in crate::gallery) fn write(lengths: &[i64]) -> String {
        let mut text = String::new();
        for (n, length) in lengths.iter().enumerate() {
            let mut x = if n > 2 { length - lengths[n - 2] } else { *length };
            loop {
                let bits = u8::try_from(x & 31).expect("five bits");
                x >>= 5;
                let more = if bits & 16 != 0 { x != -1 } else { x != 0 };
                text.push(char::from(48 + bits + if more { 32 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        text
    }

    #[test]
    fn a_mask_is_read_down_its_columns() {
        // 3 rows, 2 columns: the second pixel of the first column, and from the last but one of the second column on.
        let mask = Mask::read([3, 2], &write(&[1, 1, 2, 2])).expect("a mask");
        assert_eq!((mask.area(), mask.columns().collect::<Vec<_>>()), (3, vec![(0, 1, 1), (1, 1, 2)]));
        assert_eq!(mask.svg([1, 2, 3]), "<path class=\"mask\" d=\"M0.5 1v1M1.5 1v2\"/>");
        // A run that goes on in the next column.
        assert_eq!(Mask::read([2, 3], &write(&[1, 4, 1])).map(|mask| mask.columns().collect()), Ok(vec![(0, 1, 1), (1, 0, 2), (2, 0, 1)]));
        // Written by pycocotools 2.0.11: `mask.encode(np.asfortranarray(np.eye(4, dtype=np.uint8)))`.
        let eye = Mask::read([4, 4], "01400000").expect("a mask");
        assert_eq!(eye.columns().collect::<Vec<_>>(), [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1)]);
    }

    #[test]
    fn what_is_no_mask_is_said() {
        let why = |size, counts: &str| Mask::read(size, counts).expect_err("no mask");
        assert_eq!(why([2, 2], ""), "runs of 0 pixels, not of 2 × 2");
        assert_eq!(why([2, 2], &write(&[3])), "runs of 3 pixels, not of 2 × 2");
        assert_eq!(why([2, 2], &write(&[3, 2])), "runs beyond its 2 × 2 pixels");
        assert_eq!(why([2, 2], &write(&[-1])), "a run of no length that can be");
        assert_eq!(why([2, 2], "é"), "a character that is none of a mask");
        assert_eq!(why([2, 2], " "), "a character that is none of a mask");
        assert_eq!(why([2, 2], "o"), "a number that is cut off");
        assert_eq!(why([2, 2], &"o".repeat(1 << 20)), "a run that is too long");
        assert_eq!(why([0, 2], "4"), "a size of 0 × 2");
        assert_eq!(why([-1, i64::MAX], "4"), "a size of -1 × 9223372036854775807");
        assert_eq!(why([16_384, 16_384], "4"), "a size of 16384 × 16384");
        assert_eq!(why([4096, 4096], &write(&[i64::from(u32::MAX)])), "a run of no length that can be");
    }

    #[test]
    fn many_small_runs_are_an_image_and_few_long_ones_are_lines() {
        let dots: Vec<i64> = std::iter::repeat_n(1, 224 * 224).collect();
        let mask = Mask::read([224, 224], &write(&dots)).expect("a mask");
        let svg = mask.svg([255, 0, 0]);
        assert!(svg.starts_with("<image class=\"mask\" width=\"224\"") && svg.len() < 12_000, "{} bytes", svg.len());
        assert_eq!(mask.area(), 224 * 112);
        assert_eq!(Mask::read([9, 9], &write(&[81])).map(|mask| mask.svg([0; 3])), Ok(String::new()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_mask_or_an_error(height in -2_i64..40, width in 0_i64..40, counts in "[0-o]{0,60}") {
            if let Ok(mask) = Mask::read([height, width], &counts) {
                prop_assert!(mask.area() <= u64::from(mask.height) * u64::from(mask.width));
                drop(mask.svg([1, 2, 3]));
            }
        }

        #[test]
        fn what_is_written_is_read(lengths in prop::collection::vec(0_i64..50, 1..40)) {
            let pixels: i64 = lengths.iter().sum::<i64>();
            prop_assume!(pixels > 0);
            let mask = Mask::read([pixels, 1], &write(&lengths));
            let covered: i64 = lengths.iter().skip(1).step_by(2).sum();
            prop_assert_eq!(mask.map(|mask| mask.area()), Ok(u64::try_from(covered).unwrap_or(0)));
        }
    }
}
