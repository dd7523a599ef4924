//! Masks as COCO writes them: lengths of runs down the columns, as compressed text.
//!
//! Source: COCO API, `common/maskApi.c` (`rleEncode`, `rleToString`), <https://github.com/cocodataset/cocoapi>.

/// What an instance shows of itself in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mask {
    /// x, y, width, height of what is covered; all 0 if nothing is.
    pub bbox: [u32; 4],
    /// Pixels.
    pub area: u32,
    /// Run lengths.
    pub counts: String,
}

/// What each of the first `n` owners has of an image of `[side * side]` owners; owner 1 first.
pub(super) fn masks(owners: &[u8], side: usize, n: usize) -> Vec<Mask> {
    let mut runs: Vec<Runs> = (0..n).map(|_| Runs::default()).collect();
    // Columns are read one after the other; all masks grow in one pass.
    let (mut last, mut from) = (0_u8, 0_u32);
    let mut at = 0_u32;
    for column in 0..side {
        for row in 0..side {
            let owner = owners[row * side + column];
            if owner != last {
                if let Some(runs) = runs.get_mut(usize::from(last).wrapping_sub(1)) {
                    runs.add(from, at);
                }
                (last, from) = (owner, at);
            }
            at += 1;
        }
    }
    if let Some(runs) = runs.get_mut(usize::from(last).wrapping_sub(1)) {
        runs.add(from, at);
    }
    let side = u32::try_from(side).unwrap_or(u32::MAX);
    runs.into_iter().map(|runs| runs.mask(at, side)).collect()
}

/// Runs of one owner, numbered down the columns: where they begin and end.
#[derive(Debug, Default)]
struct Runs(Vec<(u32, u32)>);

impl Runs {
    fn add(&mut self, from: u32, to: u32) {
        self.0.push((from, to));
    }

    fn mask(&self, pixels: u32, side: u32) -> Mask {
        let mut lengths = Vec::with_capacity(2 * self.0.len() + 1);
        let mut end = 0;
        let (mut area, mut left, mut right, mut top, mut bottom) = (0, u32::MAX, 0, u32::MAX, 0);
        for &(from, to) in &self.0 {
            lengths.extend([from - end, to - from]);
            end = to;
            area += to - from;
            let last = to - 1;
            (left, right) = (left.min(from / side), right.max(last / side));
            // A run that goes on in the next column has been at an edge.
            let (first_row, last_row) = if from / side == last / side { (from % side, last % side) } else { (0, side - 1) };
            (top, bottom) = (top.min(first_row), bottom.max(last_row));
        }
        if end < pixels {
            lengths.push(pixels - end);
        }
        let bbox = if area == 0 { [0; 4] } else { [left, top, right + 1 - left, bottom + 1 - top] };
        Mask { bbox, area, counts: compressed(&lengths) }
    }
}

/// The text of run lengths: from the fourth on, the difference to the last but one; in groups of five bits, the lowest first, each a character from `0` on.
fn compressed(lengths: &[u32]) -> String {
    let mut text = String::with_capacity(2 * lengths.len());
    for (at, &length) in lengths.iter().enumerate() {
        let before = if at > 2 { i64::from(lengths[at - 2]) } else { 0 };
        let mut rest = i64::from(length) - before;
        loop {
            let group = u8::try_from(rest & 0x1F).expect("five bits");
            rest >>= 5;
            // Done when what is left is all sign, and the sign is that of the group's upper bit.
            let is_last = if group & 0x10 == 0 { rest == 0 } else { rest == -1 };
            text.push(char::from(48 + group + if is_last { 0 } else { 0x20 }));
            if is_last {
                break;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pixels of a text, column by column.
    fn decoded(text: &str, pixels: usize) -> Vec<bool> {
        let (mut lengths, mut value, mut bits): (Vec<i64>, i64, u32) = (Vec::new(), 0, 0);
        for byte in text.bytes().map(|byte| i64::from(byte) - 48) {
            value |= (byte & 0x1F) << bits;
            bits += 5;
            if byte & 0x20 == 0 {
                if byte & 0x10 != 0 {
                    value |= -1 << bits;
                }
                let before = if lengths.len() > 2 { lengths[lengths.len() - 2] } else { 0 };
                lengths.push(value + before);
                (value, bits) = (0, 0);
            }
        }
        let mut out = Vec::with_capacity(pixels);
        for (at, length) in lengths.into_iter().enumerate() {
            out.extend((0..length).map(|_| at % 2 == 1));
        }
        out
    }

    /// Texts of pycocotools 2.0.11, `mask.encode` of these rows.
    #[test]
    fn it_is_what_pycocotools_writes() {
        let rows = ["..1.2", "111.2", ".1.12", "...11", "....."];
        let owners: Vec<u8> = rows.concat().bytes().map(|byte| if byte == b'.' { 0 } else { byte - b'0' }).collect();
        let got = masks(&owners, 5, 3);
        assert_eq!(got[0], Mask { bbox: [0, 0, 5, 4], area: 8, counts: GOLDEN_1.to_owned() });
        assert_eq!(got[1], Mask { bbox: [4, 0, 1, 3], area: 3, counts: GOLDEN_2.to_owned() });
        assert_eq!(got[2], Mask { bbox: [0; 4], area: 0, counts: GOLDEN_3.to_owned() });
        // A whole picture, and long runs.
        assert_eq!(masks(&[1; 10_000], 100, 1), [Mask { bbox: [0, 0, 100, 100], area: 10_000, counts: GOLDEN_4.to_owned() }]);
        let mut far = vec![0; 40_000];
        [5, 39_000, 39_001, 20_000, 123].into_iter().for_each(|at| far[at] = 1);
        assert_eq!(masks(&far, 200, 1)[0].counts, GOLDEN_5);
    }

    const GOLDEN_1: &str = "1141N030OOM";
    const GOLDEN_2: &str = "d032";
    const GOLDEN_3: &str = "i0";
    const GOLDEN_4: &str = "0`h9";
    const GOLDEN_5: &str = "T31n20Y30e<0c^f00hoG";

    proptest! {
        #[test]
        fn what_is_written_is_read_back(owners in proptest::collection::vec(0_u8..4, 144), side in 1_usize..13) {
            let owners = &owners[..side * side];
            for (at, mask) in masks(owners, side, 3).into_iter().enumerate() {
                let is_own = |row: usize, column: usize| usize::from(owners[row * side + column]) == at + 1;
                let want: Vec<bool> = (0..side).flat_map(|column| (0..side).map(move |row| (row, column))).map(|(row, column)| is_own(row, column)).collect();
                prop_assert_eq!(decoded(&mask.counts, side * side), want.clone());
                prop_assert_eq!(mask.area as usize, want.iter().filter(|own| **own).count());
                // The box is tight: what is outside it is not covered, and each edge is touched.
                let [x, y, width, height] = mask.bbox.map(|edge| edge as usize);
                let own: Vec<_> = (0..side).flat_map(|row| (0..side).map(move |column| (row, column))).filter(|&(row, column)| is_own(row, column)).collect();
                if let (Some(top), Some(left)) = (own.iter().map(|at| at.0).min(), own.iter().map(|at| at.1).min()) {
                    let (bottom, right) = (own.iter().map(|at| at.0).max().unwrap_or(0), own.iter().map(|at| at.1).max().unwrap_or(0));
                    prop_assert_eq!([x, y, width, height], [left, top, right + 1 - left, bottom + 1 - top]);
                } else {
                    prop_assert_eq!(mask.bbox, [0; 4]);
                }
            }
        }
    }
}
