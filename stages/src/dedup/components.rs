//! Connected components of rows that duplicate each other, and how each hangs on its survivor.

use std::collections::{HashMap, VecDeque};

use crate::RowRef;

/// A link between two rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// One row.
    pub(crate) a: RowRef,
    /// The other.
    pub(crate) b: RowRef,
    /// How alike they are; `None` if that was not looked at.
    pub(crate) similarity: Option<f64>,
}

/// What became of one row of a component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fate {
    /// The row.
    pub(crate) row: RowRef,
    /// The row of its component that is kept; itself for that one.
    pub(crate) survivor: RowRef,
    /// The row it is linked to on the shortest way to the survivor; itself for the survivor.
    pub(crate) next: RowRef,
    /// How alike it is to `next`.
    pub(crate) similarity: Option<f64>,
    /// Rows of its component.
    pub(crate) size: u64,
}

/// The fate of every row that occurs in a link, in the order of the rows. In each component the row of the least `order` survives.
///
/// Exact at any size; takes memory for the rows that occur, none for the others. Does not depend on the order of the links.
pub(crate) fn fates<K: Ord>(links: &[Link], order: impl Fn(RowRef) -> K) -> Vec<Fate> {
    let mut rows: Vec<RowRef> = links.iter().flat_map(|link| [link.a, link.b]).collect();
    rows.sort_unstable();
    rows.dedup();
    let index: HashMap<RowRef, usize> = rows.iter().copied().zip(0..).collect();
    let mut sets = UnionFind::new(rows.len());
    // Links from each row, as (other row, link).
    let mut neighbours: Vec<Vec<(usize, usize)>> = vec![Vec::new(); rows.len()];
    for (number, link) in links.iter().enumerate() {
        let (a, b) = (index[&link.a], index[&link.b]);
        if a != b {
            sets.union(a, b);
            neighbours[a].push((b, number));
            neighbours[b].push((a, number));
        }
    }
    let mut survivor: Vec<Option<usize>> = vec![None; rows.len()];
    let mut size = vec![0_u64; rows.len()];
    for row in 0..rows.len() {
        let root = sets.find(row);
        size[root] += 1;
        if survivor[root].is_none_or(|best| (order(rows[row]), rows[row]) < (order(rows[best]), rows[best])) {
            survivor[root] = Some(row);
        }
    }
    let mut next: Vec<Option<(usize, Option<usize>)>> = vec![None; rows.len()];
    for row in 0..rows.len() {
        let root = sets.find(row);
        let Some(start) = survivor[root].filter(|_| root == row) else { continue };
        next[start] = Some((start, None));
        let mut open = VecDeque::from([start]);
        while let Some(at) = open.pop_front() {
            // By the order of the rows, then the stronger link, so that the way does not depend on how links came.
            neighbours[at].sort_by(|(x, i), (y, j)| x.cmp(y).then(strength(&links[*j]).total_cmp(&strength(&links[*i]))));
            for &(other, link) in &neighbours[at] {
                if next[other].is_none() {
                    next[other] = Some((at, Some(link)));
                    open.push_back(other);
                }
            }
        }
    }
    let fate = |(row, next): (usize, Option<(usize, Option<usize>)>)| {
        let root = sets.find(row);
        let (next, link) = next?;
        let similarity = link.and_then(|link| links[link].similarity);
        Some(Fate { row: rows[row], survivor: rows[survivor[root]?], next: rows[next], similarity, size: size[root] })
    };
    (0..rows.len()).zip(next).filter_map(fate).collect()
}

fn strength(link: &Link) -> f64 {
    link.similarity.unwrap_or(0.0)
}

/// Disjoint sets of numbers.
struct UnionFind {
    parent: Vec<std::cell::Cell<usize>>,
    size: Vec<usize>,
}

impl UnionFind {
    fn new(n: usize) -> Self {
        Self { parent: (0..n).map(std::cell::Cell::new).collect(), size: vec![1; n] }
    }

    fn find(&self, mut at: usize) -> usize {
        while self.parent[at].get() != at {
            let parent = self.parent[at].get();
            self.parent[at].set(self.parent[parent].get());
            at = parent;
        }
        at
    }

    fn union(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        if a != b {
            let (small, large) = if self.size[a] < self.size[b] { (a, b) } else { (b, a) };
            self.parent[small].set(large);
            self.size[large] += self.size[small];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn row(row: u32) -> RowRef {
        RowRef { shard: row / 10, row: row % 10 }
    }

    fn link(a: u32, b: u32) -> Link {
        Link { a: row(a), b: row(b), similarity: Some(0.9) }
    }

    #[test]
    fn a_chain_hangs_on_its_survivor_link_by_link() {
        let fates = fates(&[link(1, 2), link(3, 2), link(3, 14), link(7, 8)], |row| row);
        let next: Vec<(RowRef, RowRef, RowRef, u64)> = fates.iter().map(|fate| (fate.row, fate.next, fate.survivor, fate.size)).collect();
        let chain = [(1, 1, 1, 4), (2, 1, 1, 4), (3, 2, 1, 4), (7, 7, 7, 2), (8, 7, 7, 2), (14, 3, 1, 4)];
        assert_eq!(next, chain.map(|(a, b, c, size)| (row(a), row(b), row(c), size)));
    }

    #[test]
    fn the_preferred_row_survives() {
        let fates = fates(&[link(1, 2), link(2, 3)], std::cmp::Reverse);
        assert!(fates.iter().all(|fate| fate.survivor == row(3)), "{fates:?}");
    }

    #[test]
    fn a_million_rows_on_one_take_linear_time() {
        let links: Vec<Link> =
            (1..1_000_000).map(|other| Link { a: row(0), b: RowRef { shard: 1, row: other }, similarity: None }).collect();
        assert!(fates(&links, |row| row).iter().all(|fate| fate.survivor == row(0) && fate.size == 1_000_000));
    }

    proptest! {
        #[test]
        fn components_are_those_of_a_flood_and_do_not_depend_on_the_order(pairs in prop::collection::vec((0_u32..30, 0_u32..30), 0..40), seed in any::<u64>()) {
            let mut links: Vec<Link> = pairs.iter().map(|(a, b)| link(*a, *b)).collect();
            let found = fates(&links, |row| row);
            // Label every row with the least it can reach.
            let mut labels: BTreeMap<RowRef, RowRef> = links.iter().flat_map(|link| [link.a, link.b]).map(|row| (row, row)).collect();
            for _ in 0..30 {
                for link in &links {
                    let least = labels[&link.a].min(labels[&link.b]);
                    labels.insert(link.a, least);
                    labels.insert(link.b, least);
                }
            }
            prop_assert_eq!(found.iter().map(|fate| (fate.row, fate.survivor)).collect::<BTreeMap<_, _>>(), labels);
            let turn = if links.is_empty() { 0 } else { usize::try_from(seed % links.len() as u64).unwrap() };
            links.rotate_left(turn);
            links.iter_mut().step_by(2).for_each(|link| std::mem::swap(&mut link.a, &mut link.b));
            prop_assert_eq!(fates(&links, |row| row), found);
        }
    }
}
