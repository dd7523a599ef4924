//! First fit: each item goes into the first bin that still has room for it.

/// Bins of one capacity, all empty at first.
///
/// A tree of the most room in any bin below each node finds the first bin with room for an item in O(log bins).
pub(super) struct FirstFit {
    /// Room: of bin `b` at `leaves + b`, of the bins below node `n` at `n`.
    room: Vec<u32>,
    leaves: usize,
    capacity: u32,
    n_bins: usize,
}

impl FirstFit {
    /// Bins for `n_items` items of `total` size together, none larger than `capacity`.
    pub(super) fn new(capacity: u32, n_items: usize, total: u64) -> Self {
        // No two bins are at most half full (the second's items would have fitted into the first), so bins ≤ 2 · total / capacity + 1.
        let most = (2 * u128::from(total) / u128::from(capacity.max(1))).saturating_add(1);
        let leaves = n_items.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1).next_power_of_two();
        Self { room: vec![capacity; 2 * leaves], leaves, capacity, n_bins: 0 }
    }

    /// Puts an item into a bin: the bin, and how much was in it before. `None` if there is no room for it in any.
    pub(super) fn place(&mut self, size: u32) -> Option<(usize, u32)> {
        if self.room[1] < size {
            return None;
        }
        let mut node = 1;
        while node < self.leaves {
            node *= 2;
            if self.room[node] < size {
                node += 1;
            }
        }
        let (bin, before) = (node - self.leaves, self.capacity - self.room[node]);
        self.room[node] -= size;
        while node > 1 {
            node /= 2;
            self.room[node] = self.room[2 * node].max(self.room[2 * node + 1]);
        }
        self.n_bins = self.n_bins.max(bin + 1);
        Some((bin, before))
    }

    /// Bins with something in them.
    pub(super) fn n_bins(&self) -> usize {
        self.n_bins
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(capacity: u32, sizes: &[u32]) -> Vec<(usize, u32)> {
        let mut bins: Vec<u32> = Vec::new();
        let mut place = |size: u32| {
            let bin = bins.iter().position(|filled| capacity - filled >= size).unwrap_or(bins.len());
            if bin == bins.len() {
                bins.push(0);
            }
            bins[bin] += size;
            (bin, bins[bin] - size)
        };
        sizes.iter().map(|&size| place(size)).collect()
    }

    fn placed(capacity: u32, sizes: &[u32]) -> (Vec<(usize, u32)>, usize) {
        let mut bins = FirstFit::new(capacity, sizes.len(), sizes.iter().map(|&size| u64::from(size)).sum());
        (sizes.iter().map(|&size| bins.place(size).expect("room")).collect(), bins.n_bins())
    }

    #[test]
    fn by_hand() {
        // 7 | 6 beside nothing | 3 on 7 | 3 on 6 | 2 opens | 1 on 6 + 3
        assert_eq!(placed(10, &[7, 6, 3, 3, 2, 1]), (vec![(0, 0), (1, 0), (0, 7), (1, 6), (2, 0), (1, 9)], 3));
    }

    #[test]
    fn a_million_items_take_no_seconds() {
        let sizes: Vec<u32> = (0..1_000_000_u32).map(|n| 4096 - (n / 250)).collect();
        let started = std::time::Instant::now();
        let (_, n_bins) = placed(4096, &sizes);
        let total: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
        assert!(n_bins as u64 >= total / 4096);
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_looking_at_every_bin_finds(capacity in 1_u32..60, sizes in prop::collection::vec(1_u32..60, 0..200)) {
            let mut sizes: Vec<u32> = sizes.into_iter().map(|size| size.min(capacity)).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let expected = naive(capacity, &sizes);
            let (got, n_bins) = placed(capacity, &sizes);
            prop_assert_eq!(n_bins, expected.iter().map(|(bin, _)| bin + 1).max().unwrap_or(0));
            prop_assert_eq!(got, expected);
        }
    }
}
