//! What becomes of the rows of components.

use std::collections::BTreeMap;

use super::program::DedupMinhash;
use super::tables::{Member, Pair};
use crate::dedup::components::{Fate, Link, fates, sorted};
use crate::{RowRef, StageError, Tables};

/// Components, and what becomes of their rows.
pub(super) struct Decided {
    /// The rows, in their order.
    pub(super) members: Vec<Member>,
    /// What links them, each pair once, the earlier row first, in order. Of equal texts each is linked to the one that is kept of them.
    pub(super) links: Vec<Pair>,
    pub(super) fates: Vec<Fate>,
}

impl Decided {
    pub(super) fn of(stage: &DedupMinhash, mut links: Vec<Pair>) -> Result<Self, StageError> {
        let members = sorted(links.iter().flat_map(|pair| [pair.a, pair.b]).collect());
        let member = |row: RowRef| members[members.partition_point(|member| member.at < row)];
        let order = |row: RowRef| stage.order(&member(row));
        // Which of several equal texts a link was found for depends on how rows lie in shards; their best row stands for all of them.
        let link = |pair: &Pair| Link { a: pair.a.at, b: pair.b.at, strength: pair.similarity.unwrap_or(0.0) };
        let equal = fates(&links.iter().filter(|pair| pair.equal).map(link).collect::<Vec<_>>(), order)?;
        links.retain_mut(|pair| {
            let leader = |of: Member| equal.binary_search_by_key(&of.at, |fate| fate.row).map_or(of, |at| member(equal[at].survivor));
            let (a, b) = (leader(pair.a), leader(pair.b));
            (pair.a, pair.b) = (a.min(b), a.max(b));
            !pair.equal && a.at != b.at
        });
        links.extend(equal.iter().filter(|fate| fate.row != fate.survivor).map(|fate| {
            let (a, b) = (member(fate.row.min(fate.survivor)), member(fate.row.max(fate.survivor)));
            Pair { a, b, similarity: Some(1.0), equal: true, bands: Vec::new() }
        }));
        drop(equal);
        links.sort_unstable_by(|x, y| (x.a.at, x.b.at, &x.bands).cmp(&(y.a.at, y.b.at, &y.bands)));
        links.dedup_by(|other, pair| {
            let same = (other.a.at, other.b.at) == (pair.a.at, pair.b.at);
            if same {
                pair.bands.append(&mut other.bands);
            }
            same
        });
        for pair in &mut links {
            pair.bands = sorted(std::mem::take(&mut pair.bands));
        }
        let fates = fates(&links.iter().map(link).collect::<Vec<_>>(), order)?;
        Ok(Self { members, links, fates })
    }

    pub(super) fn member(&self, row: RowRef) -> &Member {
        &self.members[self.members.partition_point(|member| member.at < row)]
    }

    /// Counts clusters by size.
    pub(super) fn count(&self, out: &mut Tables) {
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        for fate in self.fates.iter().filter(|fate| fate.row == fate.survivor) {
            *sizes.entry(fate.size).or_default() += 1;
        }
        for (size, clusters) in sizes {
            out.emit().count("cluster_size", &size.to_string(), clusters);
        }
    }
}
