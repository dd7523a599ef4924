//! Plasma: the heights of a background, by the diamond-square algorithm.
//!
//! Source: Fournier, Fussell, Carpenter, *Computer rendering of stochastic models*, CACM 25(6), 1982; ranges and borders as in the code of Anderson and
//! Farrell, *Improving Fractal Pre-training*, WACV 2022 (`fractals/diamondsquare.py`).
//!
//! Heights are whole numbers, 2048 to one, so that every device gives the same. The random part of a height is a function of the key and the height's
//! place: one Philox block for each row of each level, and from that a mix of 16 bits for each column.

use super::counter_rng::philox;

/// Steps to a height of 1.
pub const UNIT: i16 = 2048;
/// Last word of the counters that heights are drawn with.
pub const PLASMA_DRAWS: u32 = 0x706C_736D;

/// How far a height of each level may be moved, from the first level on: `0.5 * exp(decay * (1 - level))`, in units of 1/4096; a level for each doubling up to
/// `side`.
///
/// `decay` is at least 0.3: with less, heights pass the range of 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "at most 2048")]
pub fn moves(decay: f32, side: usize) -> Vec<i16> {
    let levels = side.next_power_of_two().trailing_zeros();
    (0..levels).map(|level| (0.5 * 4096.0 * (-f64::from(decay) * f64::from(level)).exp()).round() as i16).collect()
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub struct Scratch {
    coarse: Vec<i16>,
    fine: Vec<i16>,
    rows: [Vec<i16>; 4],
}

/// Heights of a plasma of `2^moves.len() + 1` squared, of which the upper left `side` squared; `[side * side]`, in units of 1/2048.
///
/// Each level halves the distance between heights: first the middles of squares (the mean of the four corners, moved), then the middles of edges (the mean of
/// two corners and two middles, moved; at a border, the middle at the opposite border is the fourth).
///
/// # Panics
/// If `side` is not within the plasma, or `heights` not of its size.
pub fn plasma(key: [u32; 2], moves: &[i16], side: usize, scratch: &mut Scratch, heights: &mut [i16]) {
    assert!(side <= (1 << moves.len()) + 1 && heights.len() == side * side, "a part of the plasma");
    let Scratch { coarse, fine, rows } = scratch;
    coarse.clear();
    // The four corners: 0 to below 1.
    coarse.extend(philox(key, [0, 0, 0, PLASMA_DRAWS]).map(|word| i16::try_from(word >> 21).expect("11 bits")));
    for (level, &by) in (1_u32..).zip(moves) {
        let cells = 1_usize << (level - 1);
        let size = 2 * cells + 1;
        let is_last = level as usize == moves.len();
        let kept = if is_last { side.min(size) } else { size };
        fine.resize(kept * kept, 0);
        let out = if is_last { &mut *heights } else { &mut fine[..] };
        refine(key, level, by, coarse, kept, rows, out);
        std::mem::swap(coarse, fine);
    }
    if moves.is_empty() {
        for (to, from) in heights.chunks_exact_mut(side).zip(coarse.chunks_exact(2)) {
            to.copy_from_slice(&from[..side]);
        }
    }
}

/// One level: from `[cells + 1]` squared heights, the upper left `kept` squared of `[2 * cells + 1]` squared.
fn refine(key: [u32; 2], level: u32, by: i16, coarse: &[i16], kept: usize, rows: &mut [Vec<i16>; 4], out: &mut [i16]) {
    let cells = 1_usize << (level - 1);
    // Columns of middles that are seen. The last of all is seen too: from the first, by way of the border.
    let width = kept.div_ceil(2).min(cells);
    for row in rows.iter_mut() {
        row.resize(cells + 1, 0);
    }
    let [before, middles, across, down] = rows;
    let corners = |row: usize| &coarse[row * (cells + 1)..(row + 1) * (cells + 1)];
    // Of each row: a word for its middles, for the edges across and for the edges down.
    let words = |row: usize| philox(key, [u32::try_from(row).expect("a small picture"), level, 0, PLASMA_DRAWS]);
    let fill_middles = |row: usize, to: &mut [i16]| {
        let (upper, lower, random) = (corners(row), corners(row + 1), Columns::new(words(row)[0]));
        fill(&mut to[..width], &upper[..width], &upper[1..], &lower[..width], &lower[1..], random, by);
        let last = cells - 1;
        to[last] = mean(upper[last], upper[last + 1], lower[last], lower[last + 1]) + random.moved(last, by);
    };
    fill_middles(cells - 1, before);
    for row in 0..kept.div_ceil(2) {
        let [_, word_across, word_down, _] = words(row);
        // Below the last middles come the first ones again.
        fill_middles(row % cells, middles);
        let (upper, random) = (corners(row), Columns::new(word_across));
        fill(&mut across[..width], upper, &upper[1..], before, middles, random, by);
        interleave(upper, across, &mut out[2 * row * kept..(2 * row + 1) * kept]);
        if 2 * row + 1 < kept {
            let (lower, random) = (corners(row + 1), Columns::new(word_down));
            fill(&mut down[1..width], &upper[1..], &lower[1..], middles, &middles[1..], random.from(1), by);
            for (column, right) in [(0, 0), (cells, 0)] {
                down[column] = mean(upper[column], lower[column], middles[cells - 1], middles[right]) + random.moved(column, by);
            }
            interleave(down, middles, &mut out[(2 * row + 1) * kept..(2 * row + 2) * kept]);
        }
        std::mem::swap(before, middles);
    }
}

/// A row of means, moved. The columns of `random` are those of `to`.
fn fill(to: &mut [i16], a: &[i16], b: &[i16], c: &[i16], d: &[i16], random: Columns, by: i16) {
    let n = to.len();
    // Of one length, so that the loop is turned into vector operations.
    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
    for column in 0..n {
        to[column] = mean(a[column], b[column], c[column], d[column]) + random.moved(column, by);
    }
}

/// The mean of four heights, rounded down. Heights are below 4, so that their sum is within 16 bits.
#[inline]
fn mean(a: i16, b: i16, c: i16, d: i16) -> i16 {
    (a + b + c + d) >> 2
}

/// Evens and odds of a line, which may end with either.
fn interleave(evens: &[i16], odds: &[i16], line: &mut [i16]) {
    let last = line.len() / 2;
    for ((pair, even), odd) in line.chunks_exact_mut(2).zip(evens).zip(odds) {
        pair[0] = *even;
        pair[1] = *odd;
    }
    if let [end] = line.chunks_exact_mut(2).into_remainder() {
        *end = evens[last];
    }
}

/// The random parts of the heights of one row.
#[derive(Clone, Copy)]
struct Columns {
    start: u16,
    step: u16,
}

impl Columns {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    fn new(word: u32) -> Self {
        Self { start: word as u16, step: (word >> 16) as u16 | 1 }
    }

    /// The same, counted from `column` on.
    #[expect(clippy::cast_possible_truncation, reason = "columns are below 2^16")]
    fn from(self, column: usize) -> Self {
        Self { start: self.start.wrapping_add((column as u16).wrapping_mul(self.step)), step: self.step }
    }

    /// A number from `-by / 2` to below `by / 2`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "columns are below 2^16, and the upper half of a product")]
    fn moved(self, column: usize, by: i16) -> i16 {
        let random = mix((column as u16).wrapping_mul(self.step).wrapping_add(self.start)) as i16;
        ((i32::from(random) * i32::from(by)) >> 16) as i16
    }
}

/// A mix of 16 bits that maps no two numbers to one.
///
/// Source: C. Wellons, *hash-prospector* (2018), `hash16_xm2` with the constants 8, 88b5, 7, db2d, 9.
#[inline]
const fn mix(mut x: u16) -> u16 {
    x ^= x >> 8;
    x = x.wrapping_mul(0x88B5);
    x ^= x >> 7;
    x = x.wrapping_mul(0xDB2D);
    x ^ x >> 9
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    /// The algorithm as it is told: one square of heights, gone over again and again with half the distance.
    fn told(key: [u32; 2], moves: &[i16]) -> Vec<Vec<i16>> {
        let size = (1 << moves.len()) + 1;
        let mut heights = vec![vec![0_i16; size]; size];
        let corners = philox(key, [0, 0, 0, PLASMA_DRAWS]).map(|word| (word >> 21) as i16);
        let last = size - 1;
        (heights[0][0], heights[0][last], heights[last][0], heights[last][last]) = (corners[0], corners[1], corners[2], corners[3]);
        for (level, &by) in (1_u32..).zip(moves) {
            let step = last >> level;
            let random = |row: usize, word: usize, column: usize| {
                Columns::new(philox(key, [row as u32, level, 0, PLASMA_DRAWS])[word]).moved(column, by)
            };
            for row in (step..size).step_by(2 * step) {
                for column in (step..size).step_by(2 * step) {
                    let around = [
                        (row - step, column - step),
                        (row - step, column + step),
                        (row + step, column - step),
                        (row + step, column + step),
                    ];
                    let sum: i16 = around.iter().map(|&(row, column)| heights[row][column]).sum();
                    heights[row][column] = (sum >> 2) + random(row / (2 * step), 0, column / (2 * step));
                }
            }
            let before = |at: usize| if at > 0 { at - step } else { last - step };
            let after = |at: usize| if at < last { at + step } else { step };
            for row in (0..size).step_by(step) {
                let is_across = (row / step).is_multiple_of(2);
                for column in (if is_across { step } else { 0 }..size).step_by(2 * step) {
                    let around = [(before(row), column), (after(row), column), (row, before(column)), (row, after(column))];
                    let sum: i16 = around.iter().map(|&(row, column)| heights[row][column]).sum();
                    heights[row][column] = (sum >> 2) + random(row / (2 * step), if is_across { 1 } else { 2 }, column / (2 * step));
                }
            }
        }
        heights
    }

    #[test]
    fn levels_made_row_by_row_are_the_algorithm_as_it_is_told() {
        let mut scratch = Scratch::default();
        for (key, side) in [([1, 2], 64), ([3, 4], 65), ([3, 4], 33), ([5, 6], 40), ([7, 8], 2), ([9, 1], 3), ([1, 1], 17), ([2, 2], 224)] {
            for n_moves in [side - 1_usize, side].map(|side: usize| side.next_power_of_two().trailing_zeros() as usize) {
                let moves = &moves(0.4, 2048)[..n_moves.max(1)];
                if side > (1 << moves.len()) + 1 {
                    continue;
                }
                let mut got = vec![0; side * side];
                plasma(key, moves, side, &mut scratch, &mut got);
                let want = told(key, moves);
                for (row, got) in got.chunks(side).enumerate() {
                    assert_eq!(got, &want[row][..side], "side {side}, row {row}");
                }
            }
        }
    }

    #[test]
    fn moves_shrink_and_there_is_one_for_each_doubling() {
        assert_eq!(moves(0.4, 224).len(), 8);
        assert_eq!((moves(0.4, 256).len(), moves(0.4, 257).len()), (8, 9));
        // 2048 * exp(-0.5 * (level - 1)).
        assert_eq!(moves(0.5, 16), [2048, 1242, 753, 457]);
    }

    #[test]
    fn what_is_random_is_uniform_and_rows_are_independent() {
        let rows: Vec<Vec<f64>> = (0..400_u32)
            .map(|row| {
                (0..112)
                    .map(|column| f64::from(Columns::new(philox([1, 2], [row, 8, 0, PLASMA_DRAWS])[0]).moved(column, 2048)) / 1024.0)
                    .collect()
            })
            .collect();
        let all: Vec<f64> = rows.concat();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let square = all.iter().map(|x| x * x).sum::<f64>() / all.len() as f64;
        // Uniform from -1 to 1: mean 0 and mean square 1/3, of 44,800 numbers with deviations of 0.0027 and 0.0014.
        assert!(mean.abs() < 0.014 && (square - 1.0 / 3.0).abs() < 0.01, "{mean} {square}");
        // Correlations with the next column and the next row: 0, with a deviation of 0.0047.
        let of = |pairs: Vec<(f64, f64)>| pairs.iter().map(|(a, b)| a * b).sum::<f64>() / pairs.len() as f64 * 3.0;
        let along = of(rows.iter().flat_map(|row| row.windows(2).map(|pair| (pair[0], pair[1]))).collect());
        let down = of(rows.windows(2).flat_map(|pair| pair[0].iter().copied().zip(pair[1].iter().copied())).collect());
        assert!(along.abs() < 0.025 && down.abs() < 0.025, "{along} {down}");
    }

    #[test]
    fn heights_stay_within_the_palette() {
        use crate::cpu::colour::{HEIGHT_STEPS, HEIGHTS, LOWEST_HEIGHT};
        // The most that all moves can add up to, with the least decay.
        let most: i32 = moves(0.3, 4096).iter().map(|&by| i32::from(by) / 2).sum();
        let steps = |height: i32| height * HEIGHT_STEPS / i32::from(UNIT);
        assert!(steps(-most) >= LOWEST_HEIGHT && steps(most + i32::from(UNIT)) < LOWEST_HEIGHT + HEIGHTS as i32, "{most}");
        assert!(4 * (most + i32::from(UNIT)) < i32::from(i16::MAX), "{most}");
    }
}
