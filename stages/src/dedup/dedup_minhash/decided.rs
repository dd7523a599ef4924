//! What becomes of the rows of components.

use std::collections::{BTreeMap, HashMap};

use super::program::DedupMinhash;
use super::tables::{Member, Pair};
use crate::dedup::components::{Fate, Link, fates, sorted};
use crate::dedup::index::is_indexed;
use crate::{RowRef, StageError, Tables};

/// Stands for all indexed rows at once. None of them can be lost and no link between them counts, so that rows may hang on any of them as if on
/// one; which one it is, each row's own link says.
const INDEX: RowRef = RowRef { shard: u32::MAX, row: u32::MAX };

/// Components, and what becomes of their rows.
pub(super) struct Decided {
    /// The rows, in their order; indexed ones last.
    pub(super) members: Vec<Member>,
    /// What links them, each pair once, the earlier row first, in order; an indexed row is earlier than any other. Of equal texts each is
    /// linked to the one that is kept of them.
    pub(super) links: Vec<Pair>,
    /// The fates of the rows that are not indexed.
    pub(super) fates: Vec<Fate>,
    /// For each indexed row that others hang on, how many they are, with itself.
    pub(super) indexed: BTreeMap<RowRef, u32>,
}

impl Decided {
    pub(super) fn of(stage: &DedupMinhash, mut links: Vec<Pair>) -> Result<Self, StageError> {
        let members = sorted(links.iter().flat_map(|pair| [pair.a, pair.b]).collect());
        let member = |row: RowRef| members[members.partition_point(|member| member.at < row)];
        let order = |row: RowRef| stage.order(&member(row));
        // Which of several equal texts a link was found for depends on how rows lie in shards; their best row stands for all of them.
        let link = |pair: &Pair| Link { a: pair.a.at, b: pair.b.at, strength: pair.similarity.unwrap_or(0.0) };
        let indexed_first = |row: RowRef| (!is_indexed(row), order(row));
        let equal = fates(&links.iter().filter(|pair| pair.equal).map(link).collect::<Vec<_>>(), indexed_first)?;
        links.retain_mut(|pair| {
            let leader = |of: Member| equal.binary_search_by_key(&of.at, |fate| fate.row).map_or(of, |at| member(equal[at].survivor));
            (pair.a, pair.b) = earlier_first(leader(pair.a), leader(pair.b));
            !pair.equal && pair.a.at != pair.b.at && !is_indexed(pair.b.at)
        });
        links.extend(equal.iter().filter(|fate| fate.row != fate.survivor && !is_indexed(fate.row)).map(|fate| {
            let (a, b) = earlier_first(member(fate.row), member(fate.survivor));
            Pair { a, b, similarity: Some(1.0), equal: true, bands: Vec::new() }
        }));
        drop(equal);
        links.sort_unstable_by(|x, y| (place(x.a.at), x.b.at, &x.bands).cmp(&(place(y.a.at), y.b.at, &y.bands)));
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
        // Of a row's links to the index the strongest counts; of equally strong ones that to the row added first. Looked up only.
        let mut nearest: HashMap<RowRef, (f64, u32)> = HashMap::new();
        for (number, pair) in (0_u32..).zip(&links).take_while(|(_, pair)| is_indexed(pair.a.at)) {
            let strength = link(pair).strength;
            let nearest = nearest.entry(pair.b.at).or_insert((strength, number));
            if strength > nearest.0 {
                *nearest = (strength, number);
            }
        }
        let counts = |(number, pair): &(u32, &Pair)| !is_indexed(pair.a.at) || nearest.get(&pair.b.at).is_some_and(|of| of.1 == *number);
        let counted: Vec<(u32, Link)> = (0_u32..).zip(&links).filter(counts).map(|(number, pair)| (number, spotted(link(pair)))).collect();
        let order = |row: RowRef| (row != INDEX).then(|| order(row));
        let mut found = fates(&counted.iter().map(|(_, link)| *link).collect::<Vec<_>>(), order)?;
        for fate in &mut found {
            fate.link = fate.link.map(|link| counted[link as usize].0);
        }
        drop(counted);
        found.retain(|fate| fate.row != INDEX);
        let indexed = hang(&mut found, &links);
        Ok(Self { members, links, fates: found, indexed })
    }

    pub(super) fn member(&self, row: RowRef) -> &Member {
        &self.members[self.members.partition_point(|member| member.at < row)]
    }

    /// The rows among which some are lost, in their order; all indexed ones are one.
    pub(super) fn spots(&self) -> Vec<RowRef> {
        let mut rows: Vec<RowRef> = self.members.iter().map(|member| spot(member.at)).collect();
        rows.dedup();
        rows
    }

    /// The ends of a link among [`Decided::spots`].
    pub(super) fn ends(pair: &Pair) -> (RowRef, RowRef) {
        (spot(pair.a.at), spot(pair.b.at))
    }

    /// Which of [`Decided::spots`] is kept of some: the least.
    pub(super) fn order(&self, stage: &DedupMinhash, row: RowRef) -> impl Ord {
        (row != INDEX).then(|| stage.order(self.member(row)))
    }

    /// Counts clusters by size.
    pub(super) fn count(&self, out: &mut Tables) {
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        let of_run = self.fates.iter().filter(|fate| fate.row == fate.survivor).map(|fate| fate.size);
        for size in of_run.chain(self.indexed.values().copied()) {
            *sizes.entry(size).or_default() += 1;
        }
        for (size, clusters) in sizes {
            out.emit().count("cluster_size", &size.to_string(), clusters);
        }
    }
}

/// Which row is earlier.
fn place(row: RowRef) -> (bool, RowRef) {
    (!is_indexed(row), row)
}

fn earlier_first(a: Member, b: Member) -> (Member, Member) {
    if place(a.at) <= place(b.at) { (a, b) } else { (b, a) }
}

fn spot(row: RowRef) -> RowRef {
    if is_indexed(row) { INDEX } else { row }
}

fn spotted(link: Link) -> Link {
    Link { a: spot(link.a), b: spot(link.b), ..link }
}

/// Finds the indexed row at the end of each chain that leads to the index; how many rows hang on each, with itself.
fn hang(fates: &mut [Fate], links: &[Pair]) -> BTreeMap<RowRef, u32> {
    let mut kept: Vec<Option<RowRef>> = vec![None; fates.len()];
    let mut way = Vec::new();
    for start in 0..fates.len() {
        if fates[start].survivor != INDEX {
            continue;
        }
        let mut at = start;
        let end = loop {
            if let Some(end) = kept[at] {
                break end;
            }
            way.push(at);
            let fate = &fates[at];
            if fate.next == INDEX {
                break fate.link.map_or(INDEX, |link| links[link as usize].a.at);
            }
            at = fates.partition_point(|other| other.row < fate.next);
        };
        way.drain(..).for_each(|at| kept[at] = Some(end));
    }
    let mut sizes: BTreeMap<RowRef, u32> = BTreeMap::new();
    for end in kept.iter().flatten() {
        *sizes.entry(*end).or_insert(1) += 1;
    }
    for (fate, end) in fates.iter_mut().zip(kept) {
        let Some(end) = end else { continue };
        if fate.next == INDEX {
            fate.next = fate.link.map_or(INDEX, |link| links[link as usize].a.at);
        }
        (fate.survivor, fate.size) = (end, sizes[&end]);
    }
    sizes
}
