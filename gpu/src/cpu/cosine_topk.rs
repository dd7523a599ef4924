//! The nearest rows by cosine similarity: tiles of similarities, of which each query keeps its best.
//!
//! Rows are scaled to length 1 once ([`unit`]), so that a similarity is a sum of products, taken in the order of [`super::gemm`]: a pair has the
//! same bits wherever it is computed, and both ways round. Ties go to the lower number, so that no cut of the rows changes what is found. Of
//! what is stored, nothing grows with queries times candidates.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::gemm::{Rows, dot, product};

/// Queries and candidates of a tile: its similarities stay in the second-level cache.
const QUERIES: usize = 256;
const CANDIDATES: usize = 512;
/// Similarities that are held against the bar together.
const LANES: usize = 16;

/// Scales a row to length 1 into `out`; false, and zeros, if it has no direction: all zeros, or a number that is infinite or none.
///
/// Lengths are taken in `f64` of numbers that are scaled by the greatest, so that neither overflows.
///
/// # Panics
/// If `out` is of another length.
pub fn unit(row: impl Iterator<Item = f64> + Clone, out: &mut [f32]) -> bool {
    let greatest = row.clone().fold(0.0_f64, |greatest, x| if x.abs() <= greatest { greatest } else { x.abs() });
    if !(greatest > 0.0 && greatest.is_finite()) || row.clone().any(|x| !x.is_finite()) {
        out.fill(0.0);
        return false;
    }
    let length = row.clone().map(|x| (x / greatest) * (x / greatest)).sum::<f64>().sqrt();
    let mut n = 0;
    for (x, scaled) in row.zip(out.iter_mut()) {
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest")]
        let near = (x / greatest / length) as f32;
        *scaled = near;
        n += 1;
    }
    assert_eq!(n, out.len(), "numbers of a row");
    true
}

/// A row that is near another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The cosine of the angle between the two, -1 to 1.
    pub similarity: f32,
    /// Its number.
    pub number: u64,
}

impl Eq for Neighbour {}

impl Ord for Neighbour {
    /// The better is the less; none is NaN.
    fn cmp(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best neighbours so far of each query.
#[derive(Debug, Clone)]
pub struct Nearest {
    k: usize,
    least: f32,
    /// The worst on top.
    heaps: Vec<BinaryHeap<Neighbour>>,
}

impl Nearest {
    /// None yet, of `n_queries`; there will be up to `k` each, of at least `least` similarity. `least` of -1 is no bound.
    pub fn new(n_queries: usize, k: usize, least: f32) -> Self {
        Self { k, least, heaps: vec![BinaryHeap::with_capacity(k); n_queries] }
    }

    /// Most neighbours of a query.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Least similarity of a neighbour.
    pub fn least(&self) -> f32 {
        self.least
    }

    /// Takes in a neighbour of a query that was found elsewhere.
    pub fn add(&mut self, query: usize, found: Neighbour) {
        let heap = &mut self.heaps[query];
        if heap.len() < self.k {
            heap.push(found);
        } else if let Some(mut worst) = heap.peek_mut()
            && found < *worst
        {
            *worst = found;
        }
    }

    /// The neighbours of each query, best first.
    pub fn into_lists(self) -> Vec<Vec<Neighbour>> {
        self.heaps.into_iter().map(BinaryHeap::into_sorted_vec).collect()
    }

    /// What a similarity has to reach to be looked at.
    fn bar(&self, query: usize) -> f32 {
        let heap = &self.heaps[query];
        let bar = heap.peek().filter(|_| heap.len() == self.k).map_or(self.least, |worst| worst.similarity);
        // Rounding takes sums of opposite rows below -1; they count as -1.
        if bar <= -1.0 { f32::NEG_INFINITY } else { bar }
    }

    fn offer(&mut self, query: usize, similarity: f32, number: u64) {
        let similarity = similarity.clamp(-1.0, 1.0);
        if similarity >= self.least {
            self.add(query, Neighbour { similarity, number });
        }
    }
}

/// Rows of length 1 with their numbers, ascending.
#[derive(Debug, Clone, Copy)]
pub struct UnitRows<'a> {
    /// The rows.
    pub rows: Rows<'a>,
    /// The number of each. No row is its own neighbour.
    pub numbers: &'a [u64],
}

/// Looks for the nearest `candidates` of each of `queries`. One thread's work.
///
/// # Panics
/// If rows are not as many as numbers, or as deep as each other.
pub fn cosine_topk(queries: UnitRows<'_>, candidates: UnitRows<'_>, nearest: &mut Nearest) {
    check(queries, candidates, nearest);
    if nearest.k == 0 {
        return;
    }
    let mut tile = vec![0.0; QUERIES.min(queries.rows.len()) * CANDIDATES];
    for first in (0..candidates.rows.len()).step_by(CANDIDATES) {
        let n = CANDIDATES.min(candidates.rows.len() - first);
        let (others, numbers) = (candidates.rows.slice(first, n), &candidates.numbers[first..first + n]);
        for first in (0..queries.rows.len()).step_by(QUERIES) {
            let m = QUERIES.min(queries.rows.len() - first);
            product(queries.rows.slice(first, m), others, &mut tile, CANDIDATES);
            for (query, similarities) in (first..first + m).zip(tile.chunks_exact(CANDIDATES)) {
                keep_best(query, queries.numbers[query], &similarities[..n], numbers, nearest);
            }
        }
    }
}

fn check(queries: UnitRows<'_>, candidates: UnitRows<'_>, nearest: &Nearest) {
    assert_eq!(queries.rows.len(), queries.numbers.len(), "queries and their numbers");
    assert_eq!(candidates.rows.len(), candidates.numbers.len(), "candidates and their numbers");
    assert_eq!(queries.rows.depth(), candidates.rows.depth(), "the depths of queries and candidates");
    assert_eq!(queries.rows.len(), nearest.heaps.len(), "queries and their neighbours");
}

/// Takes in the similarities of one query to candidates.
#[expect(clippy::needless_bitwise_bool, reason = "compiled for several numbers at once, which a lazy operator is not")]
fn keep_best(query: usize, own: u64, similarities: &[f32], numbers: &[u64], nearest: &mut Nearest) {
    let mut bar = nearest.bar(query);
    for (similarities, numbers) in similarities.chunks(LANES).zip(numbers.chunks(LANES)) {
        // Most have none that reaches the bar.
        if !similarities.iter().fold(false, |any, similarity| any | (*similarity >= bar)) {
            continue;
        }
        for (similarity, number) in similarities.iter().zip(numbers) {
            if *similarity >= bar && *number != own {
                nearest.offer(query, *similarity, *number);
            }
        }
        bar = nearest.bar(query);
    }
}

/// The same, one pair after the other: what [`cosine_topk`] and the shader are held to.
///
/// # Panics
/// As [`cosine_topk`].
pub fn cosine_topk_plain(queries: UnitRows<'_>, candidates: UnitRows<'_>, nearest: &mut Nearest) {
    check(queries, candidates, nearest);
    for query in 0..queries.rows.len() {
        for candidate in 0..candidates.rows.len() {
            if nearest.k > 0 && queries.numbers[query] != candidates.numbers[candidate] {
                let similarity = dot(queries.rows.row(query), candidates.rows.row(candidate));
                nearest.offer(query, similarity, candidates.numbers[candidate]);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cpu::counter_rng::Draws;

    /// Rows of length 1 with their numbers.
    pub(crate) struct Table {
        depth: usize,
        pub(crate) rows: Vec<f32>,
        pub(crate) numbers: Vec<u64>,
    }

    impl Table {
        /// Rows with a direction, numbered as they come.
        pub(crate) fn new(depth: usize, rows: &[Vec<f64>]) -> Self {
            let mut table = Self { depth, rows: Vec::new(), numbers: Vec::new() };
            for (number, row) in (0..).zip(rows) {
                let mut scaled = vec![f32::NAN; depth];
                if unit(row.iter().copied(), &mut scaled) {
                    table.rows.extend(scaled);
                    table.numbers.push(number);
                }
            }
            table
        }

        pub(crate) fn rows(&self) -> UnitRows<'_> {
            UnitRows { rows: Rows::new(&self.rows, self.numbers.len(), self.depth, self.depth), numbers: &self.numbers }
        }

        pub(crate) fn part(&self, start: usize, end: usize) -> UnitRows<'_> {
            UnitRows { rows: self.rows().rows.slice(start, end - start), numbers: &self.numbers[start..end] }
        }
    }

    type Found = Vec<Vec<(u32, u64)>>;

    fn lists(nearest: Nearest) -> Found {
        let bits = |found: &Neighbour| (found.similarity.to_bits(), found.number);
        nearest.into_lists().iter().map(|list| list.iter().map(bits).collect()).collect()
    }

    fn fast(table: &Table, k: usize, least: f32) -> Found {
        let mut nearest = Nearest::new(table.numbers.len(), k, least);
        cosine_topk(table.rows(), table.rows(), &mut nearest);
        lists(nearest)
    }

    fn plain(table: &Table, k: usize, least: f32) -> Found {
        let mut nearest = Nearest::new(table.numbers.len(), k, least);
        cosine_topk_plain(table.rows(), table.rows(), &mut nearest);
        lists(nearest)
    }

    /// Rows in clumps, some of them equal, one of zeros in the middle.
    pub(crate) fn random(n: usize, depth: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut draws = Draws::new(seed, [0; 3]);
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for row in 0..n {
            let near = rows.get(draws.below(u32::try_from(row).unwrap().max(1)) as usize).cloned().unwrap_or_else(|| vec![0.0; depth]);
            let by = if row > 0 && draws.chance(0.2) { 0.0 } else { 0.3 };
            rows.push(near.iter().map(|x| x + by * draws.between(-1.0, 1.0)).collect());
        }
        if n > 2 {
            rows[n / 2].fill(0.0);
        }
        rows
    }

    #[test]
    fn a_row_is_scaled_to_length_1() {
        let mut out = [0.0; 2];
        assert!(unit([3.0, -4.0].into_iter(), &mut out));
        assert_eq!(out.map(f32::to_bits), [0.6_f32, -0.8].map(f32::to_bits));
        assert!(unit([3e300, -4e300].into_iter(), &mut out));
        assert_eq!(out.map(f32::to_bits), [0.6_f32, -0.8].map(f32::to_bits));
        assert!(unit([3e-310, -4e-310].into_iter(), &mut out));
        assert!((out[0] - 0.6).abs() < 1e-6 && (out[1] + 0.8).abs() < 1e-6, "{out:?}");
        for row in [[0.0, -0.0], [f64::NAN, 1.0], [1.0, f64::NAN], [f64::INFINITY, 1.0], [1.0, f64::NEG_INFINITY]] {
            assert!(!unit(row.into_iter(), &mut out), "{row:?}");
            assert_eq!(out.map(f32::to_bits), [0; 2]);
        }
    }

    #[test]
    fn neighbours_are_those_of_the_smallest_angle_and_never_the_row_itself() {
        let rows = [vec![1.0, 0.0], vec![0.0, 2.0], vec![3.0, 3.0], vec![-5.0, 0.0], vec![0.0, 0.0]];
        let table = Table::new(2, &rows);
        assert_eq!(table.numbers, [0, 1, 2, 3]);
        let names: Vec<Vec<u64>> = fast(&table, 2, -1.0).iter().map(|list| list.iter().map(|found| found.1).collect()).collect();
        // Row 3 is at a right angle to 1, and at 135° to 2.
        assert_eq!(names, [vec![2, 1], vec![2, 0], vec![0, 1], vec![1, 2]]);
        let all = fast(&table, 10, -1.0);
        assert_eq!(all[0].last(), Some(&((-1.0_f32).to_bits(), 3)));
        assert!(all.iter().all(|list| list.len() == 3));
        assert!(fast(&table, 0, -1.0).iter().all(Vec::is_empty));
        let near = fast(&table, 10, 0.5);
        assert_eq!(near.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 0]);
    }

    #[test]
    fn ties_go_to_the_lower_number() {
        let rows = vec![vec![1.0, 2.0, 3.0]; 100];
        let found = fast(&Table::new(3, &rows), 3, 0.0);
        let numbers = |row: usize| found[row].iter().map(|found| found.1).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(1), numbers(99)), (vec![1, 2, 3], vec![0, 2, 3], vec![0, 1, 2]));
        assert!(found.iter().flatten().all(|found| f32::from_bits(found.0) <= 1.0));
    }

    #[test]
    fn equal_and_opposite_rows_are_at_1_and_minus_1_however_sums_are_rounded() {
        let mut draws = Draws::new(4, [0; 3]);
        let mut rounded = [0, 0];
        for _ in 0..50 {
            let row: Vec<f64> = (0..300).map(|_| draws.between(-1.0, 1.0)).collect();
            let opposite = row.iter().map(|x| -x).collect();
            let table = Table::new(300, &[row.clone(), opposite, row]);
            let raw = |other| dot(table.rows().rows.row(0), table.rows().rows.row(other));
            rounded[0] += usize::from(raw(2) > 1.0);
            rounded[1] += usize::from(raw(1) < -1.0);
            let found = fast(&table, 2, -1.0);
            let near = f32::from_bits(found[0][0].0);
            assert!(found[0].len() == 2 && (1.0 - near) < 1e-6 && near <= 1.0, "{found:?}");
            assert_eq!(found[0][1], ((-near).to_bits(), 1), "{found:?}");
            // A bar of -1 keeps no opposite row of a lower number out.
            let mut nearest = Nearest::new(1, 1, -1.0);
            for other in [1, 2] {
                let candidate = UnitRows { rows: table.rows().rows.slice(1, 1), numbers: &[10 - other] };
                cosine_topk(table.part(0, 1), candidate, &mut nearest);
            }
            assert_eq!(nearest.into_lists()[0][0].number, 8);
        }
        assert!(rounded[0] > 5 && rounded[1] > 5, "{rounded:?}");
    }

    #[test]
    fn tiles_give_what_pairs_give_bit_for_bit() {
        for (n, depth) in [(0, 3), (1, 3), (2, 1), (31, 7), (33, 257), (513, 24), (1100, 20)] {
            let table = Table::new(depth, &random(n, depth, n as u64));
            for (k, least) in [(1, -1.0), (7, 0.2), (2000, 0.9)] {
                assert_eq!(fast(&table, k, least), plain(&table, k, least), "{n} rows of {depth}, k {k}, at least {least}");
            }
        }
    }

    #[test]
    fn one_number_changed_is_noticed() {
        let mut table = Table::new(24, &random(200, 24, 3));
        let before = plain(&table, 5, -1.0);
        table.rows[777] = -table.rows[777];
        assert_ne!(fast(&table, 5, -1.0), before);
    }

    #[test]
    fn any_cut_and_any_order_of_blocks_find_the_same() {
        let table = Table::new(20, &random(700, 20, 5));
        let n = table.numbers.len();
        let whole = fast(&table, 6, -1.0);
        for (size, from_the_end) in [(1, false), (37, false), (37, true), (600, true)] {
            let mut starts: Vec<usize> = (0..n).step_by(size).collect();
            if from_the_end {
                starts.reverse();
            }
            let mut nearest = Nearest::new(n, 6, -1.0);
            for start in starts {
                cosine_topk(table.rows(), table.part(start, (start + size).min(n)), &mut nearest);
            }
            assert_eq!(lists(nearest), whole, "blocks of {size}");
        }
        let mut parts = Vec::new();
        for start in (0..n).step_by(211) {
            let part = table.part(start, (start + 211).min(n));
            let mut nearest = Nearest::new(part.numbers.len(), 6, -1.0);
            cosine_topk(part, table.rows(), &mut nearest);
            parts.extend(lists(nearest));
        }
        assert_eq!(parts, whole);
    }

    /// Every pair in `f64`. Measured: 4.8e-7 apart at most; similarities are sums of 384 products of numbers rounded to 2^-24 of themselves.
    #[test]
    fn similarities_are_cosines() {
        let (n, depth, k) = (400, 384, 10);
        let rows = random(n, depth, 8);
        let table = Table::new(depth, &rows);
        let found = fast(&table, k, -1.0);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut worst = 0.0_f64;
        for (query, list) in table.numbers.iter().zip(&found) {
            let query = &rows[usize::try_from(*query).unwrap()];
            let cosine = |other: &Vec<f64>| dot(query, other) / (dot(query, query) * dot(other, other)).sqrt();
            let mut cosines: Vec<f64> = table
                .numbers
                .iter()
                .map(|other| &rows[usize::try_from(*other).unwrap()])
                .filter(|other| !std::ptr::eq(*other, query))
                .map(cosine)
                .collect();
            cosines.sort_by(|a, b| b.total_cmp(a));
            for ((bits, number), best) in list.iter().zip(&cosines) {
                let similarity = f64::from(f32::from_bits(*bits));
                worst = worst.max((similarity - cosine(&rows[usize::try_from(*number).unwrap()])).abs()).max((similarity - best).abs());
            }
        }
        assert!(worst < 1e-6, "{worst}");
    }
}
