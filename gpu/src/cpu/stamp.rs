//! A 3x3 stamp in the place of each point: applied once to the counts of points, which gives what stamping point by point would.
//!
//! Source: Anderson and Farrell, *Improving Fractal Pre-training*, WACV 2022, and its code (patch rendering); for a stamp a point, Kataoka et
//! al., *Pre-training without Natural Images*, ACCV 2020, and its code.

use super::counter_rng::philox;

/// The stamp of one pixel: points as they are.
pub const DOT: u32 = 1 << 4;
/// All nine pixels.
pub const FULL: u32 = 0x1FF;
/// First word of the counters that stamps of single points are drawn with.
pub const STAMP_DRAWS: u32 = 0x7374_6D70;

/// What lies under the stamp, summed: bit `3 * (1 + down) + 1 + right` of `mask` moves a pixel's count `down` rows and `right` columns.
///
/// `counts` is `[side + 2 * margin]` squared, `sums` is `[side]` squared: points that fell beside the picture reach into it from a margin of 1.
///
/// # Panics
/// If the slices are not as long as that.
pub fn stamp(counts: &[u32], margin: usize, mask: u32, side: usize, sums: &mut [u32]) {
    let wide = side + 2 * margin;
    assert!(counts.len() == wide * wide && sums.len() == side * side, "counts and sums of one picture");
    for (row, sums) in sums.chunks_exact_mut(side).enumerate() {
        sums.fill(0);
        for bit in (0..9).filter(|bit| mask >> bit & 1 == 1) {
            // The row whose points are moved here; both are one too great, so that they do not pass below zero.
            let (from, right) = (row + margin + 2 - bit / 3, bit % 3);
            if from == 0 || from > wide {
                continue;
            }
            let counts = &counts[(from - 1) * wide..from * wide];
            let first = margin + 2 - right;
            // Without a margin, one column at an edge has nothing to its side.
            let (skip, first) = if first == 0 { (1, 0) } else { (0, first - 1) };
            for (sum, count) in sums[skip..].iter_mut().zip(&counts[first..]) {
                *sum += count;
            }
        }
    }
}

/// Whether a pixel lies under any stamp, where each point has one of its own, drawn from the 511 that are not empty: 0 or 1.
///
/// The stamps of a pixel's points are a function of `key` and its place. Of more than [`MOST_STAMPS`] points on a pixel, the others are not looked at: the
/// nine cells are covered by then but for odds of 2 in 10^9.
///
/// # Panics
/// As [`stamp`].
pub fn stamp_each(counts: &[u32], margin: usize, key: [u32; 2], side: usize, covered: &mut [u32]) {
    let wide = side + 2 * margin;
    assert!(counts.len() == wide * wide && covered.len() == side * side, "counts and cover of one picture");
    covered.fill(0);
    for (place, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let mask = union(key, u32::try_from(place).expect("a side below 2^16"), count);
        let (row, column) = (place / wide, place % wide);
        for bit in (0..9).filter(|bit| mask >> bit & 1 == 1) {
            let (to_row, to_column) = ((row + bit / 3).wrapping_sub(1 + margin), (column + bit % 3).wrapping_sub(1 + margin));
            if to_row < side && to_column < side {
                covered[to_row * side + to_column] = 1;
            }
        }
    }
}

/// Most points of a pixel that have a stamp of their own.
pub const MOST_STAMPS: u32 = 32;

/// All cells that the stamps of the points of one pixel cover.
fn union(key: [u32; 2], place: u32, count: u32) -> u32 {
    let (mut mask, count) = (0, count.min(MOST_STAMPS));
    for block in 0..count.div_ceil(8) {
        let words = philox(key, [STAMP_DRAWS, place, block, 0]);
        for lane in 0..(count - block * 8).min(8) {
            let half = words[(lane / 2) as usize] >> (16 * (lane % 2)) & 0xFFFF;
            mask |= 1 + ((half * 511) >> 16);
        }
        if mask == FULL {
            break;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::counter_rng::Draws;

    /// Random points on a picture of 9 with its margin of 1, and the counts of them.
    fn points(seed: u64) -> (Vec<(usize, usize)>, Vec<u32>) {
        let mut draws = Draws::new(seed, [0; 3]);
        let points: Vec<_> = (0..60).map(|_| (draws.below(11) as usize, draws.below(11) as usize)).collect();
        let mut counts = vec![0; 121];
        points.iter().for_each(|(row, column)| counts[row * 11 + column] += 1);
        (points, counts)
    }

    #[test]
    fn a_stamp_on_the_counts_is_a_stamp_on_each_point() {
        for seed in 0..512 {
            let (points, counts) = points(seed);
            let mask = u32::try_from(seed).unwrap();
            let mut want = vec![0; 81];
            for (row, column) in points {
                for cell in (0..9).filter(|cell| mask >> cell & 1 == 1) {
                    let (row, column) = (row + cell / 3, column + cell % 3);
                    if (2..11).contains(&row) && (2..11).contains(&column) {
                        want[(row - 2) * 9 + column - 2] += 1;
                    }
                }
            }
            let mut got = vec![7; 81];
            stamp(&counts, 1, mask, 9, &mut got);
            assert_eq!(got, want, "mask {mask:b}");
            // Without a margin, what is beside the picture is not there.
            let inner: Vec<u32> = (1..10).flat_map(|row| counts[row * 11 + 1..row * 11 + 10].to_vec()).collect();
            let mut alone = counts.clone();
            (0..121).filter(|at| at / 11 % 10 == 0 || at % 11 % 10 == 0).for_each(|at| alone[at] = 0);
            let (mut with, mut without) = (vec![0; 81], vec![0; 81]);
            stamp(&alone, 1, mask, 9, &mut with);
            stamp(&inner, 0, mask, 9, &mut without);
            assert_eq!(with, without, "mask {mask:b}");
        }
    }

    #[test]
    fn a_dot_leaves_points_where_they_are() {
        let (_, counts) = points(1);
        let mut sums = vec![0; 121];
        stamp(&counts, 0, DOT, 11, &mut sums);
        assert_eq!(sums, counts);
    }

    #[test]
    fn stamps_of_single_points_are_never_empty_and_any_of_511() {
        let mut seen = std::collections::BTreeSet::new();
        for place in 0..10_000 {
            let mask = union([3, 4], place, 1);
            assert!((1..=511).contains(&mask));
            seen.insert(mask);
        }
        assert_eq!(seen.len(), 511);
        // With n points, a cell is empty with the chance (255 / 511)^n: of 90,000 cells with 3 points, 11,184 with a deviation of about 100.
        let empty: u32 = (0..10_000).map(|place| 9 - union([5, 6], place, 3).count_ones()).sum();
        assert!((10_700..11_700).contains(&empty), "{empty}");
        assert_eq!(union([5, 6], 0, u32::MAX), FULL);
    }

    #[test]
    fn single_stamps_cover_what_is_under_them() {
        let mut counts = vec![0; 121];
        (counts[0], counts[60]) = (1, 1);
        let mut covered = vec![9; 81];
        stamp_each(&counts, 1, [1, 2], 9, &mut covered);
        let (corner, middle) = (union([1, 2], 0, 1), union([1, 2], 60, 1));
        for (at, &covered) in covered.iter().enumerate() {
            let (row, column) = (at / 9, at % 9);
            let of_middle = (3..6).contains(&row) && (3..6).contains(&column) && middle >> ((row - 3) * 3 + column - 3) & 1 == 1;
            let of_corner = at == 0 && corner >> 8 & 1 == 1;
            assert_eq!(covered, u32::from(of_middle || of_corner), "row {row}, column {column}");
        }
    }
}
