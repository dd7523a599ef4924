//! Which rows are as alike as rows of other groups that come before them.

use std::collections::HashMap;

use arrow::array::AsArray;
use arrow::datatypes::{UInt32Type, UInt64Type};

use super::Across;
use crate::dedup::{Bands, ShingleUnit, Shingler, Shingles, Signer, band_keys, jaccard};
use crate::{Keyed, RowRef};

/// Finds rows of different groups that may be alike, and compares them.
pub(super) struct Finder {
    pub(super) threshold: f64,
    shingler: Shingler,
    signer: Signer,
    bands: Bands,
}

/// Different texts of one bucket that a text is compared with: enough for all that are alike by chance, and few enough for texts that share what
/// their whole signature comes from.
const MOST_COMPARED: usize = 256;

/// What is used again for the next text.
#[derive(Default)]
pub(super) struct Buffers {
    shingles: Shingles,
    signature: Vec<u32>,
}

/// The best match that a row has in a bucket.
pub(super) struct Match {
    pub(super) to: RowRef,
    pub(super) similarity: f64,
    /// Its place in the table.
    pub(super) at: usize,
}

impl Finder {
    pub(super) fn new(across: &Across, seed: u64) -> Self {
        let threshold = across.jaccard_threshold.get();
        let bands = Bands::for_threshold(threshold, 128);
        let shingler = Shingler { unit: ShingleUnit::Words, n: across.ngram.get() as usize };
        Self { threshold, shingler, signer: Signer::new(bands.n_hashes(), seed), bands }
    }

    /// The buckets of a text; none if it has no word.
    pub(super) fn buckets(&self, text: &str, buffers: &mut Buffers, keys: &mut Vec<u128>) {
        keys.clear();
        self.shingler.cut(text, &mut buffers.shingles);
        if !buffers.shingles.hashes.is_empty() {
            self.signer.sign(&buffers.shingles.hashes, &mut buffers.signature);
            keys.extend(band_keys(&buffers.signature, self.bands));
        }
    }

    /// For each row of each bucket the row of another group before it that is most like it, if it is compared with any. Of equally alike ones the first.
    pub(super) fn compare(&self, table: &Keyed, mut found: impl FnMut(Match)) {
        let mut start = 0;
        for bucket in table.keys.chunk_by(|a, b| a == b) {
            let rows = start..start + bucket.len();
            start = rows.end;
            self.compare_bucket(table, rows, &mut found);
        }
    }

    fn compare_bucket(&self, table: &Keyed, rows: std::ops::Range<usize>, found: &mut impl FnMut(Match)) {
        let columns = table.batch.columns();
        let (row, group) = (columns[0].as_primitive::<UInt32Type>(), columns[1].as_primitive::<UInt64Type>());
        let (rank, text) = (columns[2].as_binary::<i32>(), columns[4].as_string::<i32>());
        if rows.clone().all(|at| group.value(at) == group.value(rows.start)) {
            return;
        }
        let mut order: Vec<usize> = rows.collect();
        order.sort_by_key(|at| rank.value(*at)); // stable: then in the order of the input
        let mut shingles = Shingles::default();
        // The different sets of shingles, and of each the first row and the first of another group: every other row meets one of them. Which set a
        // text has is looked up only.
        let mut sets: Vec<(Vec<u64>, [Option<usize>; 2])> = Vec::new();
        let mut known: HashMap<Vec<u64>, usize> = HashMap::new();
        for at in order {
            self.shingler.cut(text.value(at), &mut shingles);
            let set = shingles.set();
            let own = known.get(&set).copied();
            let other_group = |(_, first): &(Vec<u64>, [Option<usize>; 2])| {
                first.iter().flatten().copied().find(|first| group.value(*first) != group.value(at))
            };
            let best = own.and_then(|own| other_group(&sets[own])).map(|equal| (1.0, equal)).or_else(|| {
                let others = sets.iter().take(MOST_COMPARED).filter_map(|other| Some((jaccard(&set, &other.0), other_group(other)?)));
                others.reduce(|best, other| if best.0 >= other.0 { best } else { other })
            });
            if let Some((similarity, first)) = best {
                found(Match { to: RowRef { shard: table.origins[at].shard, row: row.value(at) }, similarity, at: first });
            }
            if let Some(own) = own {
                let [first, second] = &mut sets[own].1;
                if second.is_none() && first.is_some_and(|first| group.value(first) != group.value(at)) {
                    *second = Some(at);
                }
            } else {
                known.insert(set.clone(), sets.len());
                sets.push((set, [Some(at), None]));
            }
        }
    }
}
