//! Connected components of rows that duplicate each other, and how each hangs on its survivor.
//!
//! [`Connecting`] is the part of a program that brings all links of a component together: by union-find in one task when the links are few,
//! else by rounds over key ranges, so that memory sets no bound. [`fates`] then decides one component, or several, from their links.
//! Which of the two ways was taken cannot be seen in the result.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt8Array, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type, UInt32Type};

use super::minhash::shingle::mix;
use crate::{Done, Keyed, RangeIn, Route, RowRef, StageError, Step, TableSpec, Tables, WholeIn};

/// A row in one of several graphs over the same rows, which are connected in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    /// Which graph.
    pub(crate) graph: u8,
    /// The row.
    pub(crate) row: RowRef,
}

impl Node {
    /// Where tables of route `Key` hold what concerns this node; two nodes never have one key.
    pub(crate) fn key(self) -> u128 {
        let packed = (u64::from(self.row.shard) << 32) | u64::from(self.row.row);
        (u128::from(mix(packed.wrapping_add(u64::from(self.graph).wrapping_mul(0xD1B5_4A32_D192_ED03)))) << 64) | u128::from(packed)
    }

    /// The row that a key stands for.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of 64 bits")]
    fn row_of(key: u128) -> RowRef {
        RowRef { shard: (key >> 32) as u32, row: key as u32 }
    }
}

/// Columns every table of links begins with; a row stands under the key of its `a`.
pub(crate) fn link_fields() -> Vec<Field> {
    let numbers = ["a_shard", "a_row", "b_shard", "b_row"].map(|name| Field::new(name, DataType::UInt32, false));
    std::iter::once(Field::new("graph", DataType::UInt8, false)).chain(numbers).collect()
}

/// Values of [`link_fields`].
pub(crate) fn link_columns(links: impl Iterator<Item = (u8, RowRef, RowRef)> + Clone) -> Vec<ArrayRef> {
    let numbers = |number: fn((u8, RowRef, RowRef)) -> u32| Arc::new(links.clone().map(number).collect::<UInt32Array>()) as ArrayRef;
    vec![
        Arc::new(links.clone().map(|(graph, ..)| graph).collect::<UInt8Array>()),
        numbers(|(_, a, _)| a.shard),
        numbers(|(_, a, _)| a.row),
        numbers(|(.., b)| b.shard),
        numbers(|(.., b)| b.row),
    ]
}

/// The links of rows whose first columns are [`link_fields`].
pub(crate) fn read_links(batch: &RecordBatch) -> impl Iterator<Item = (Node, Node)> {
    let graph = batch.column(0).as_primitive::<UInt8Type>().values();
    let number = |column: usize| batch.column(column).as_primitive::<UInt32Type>().values();
    let (a_shard, a_row, b_shard, b_row) = (number(1), number(2), number(3), number(4));
    (0..batch.num_rows()).map(move |at| {
        let node = |shard, row| Node { graph: graph[at], row: RowRef { shard, row } };
        (node(a_shard[at], a_row[at]), node(b_shard[at], b_row[at]))
    })
}

/// A node's neighbours.
const EDGES: &str = "edges";
/// A node's lesser neighbours.
const LESSER: &str = "lesser_edges";
/// Rows say that the last half round of each kind changed something.
const LARGE_CHANGED: &str = "large_changed";
/// See `LARGE_CHANGED`.
const SMALL_CHANGED: &str = "small_changed";
/// All links, those of a component under one key.
pub(crate) const CONNECTED: &str = "connected";

/// The step instead of further rounds.
const GIVE_UP: &str = "give_up";

/// Half rounds after which a program that does not come to an end is wrong. A graph of n rows takes some log² n.
const MOST_HALVES: usize = 400;

/// The steps that bring the links of each component together in the table [`CONNECTED`].
///
/// Over [`Done::at_once`] links it takes rounds of the large-star and the small-star operation: each node ties its neighbours to the least of
/// them, first the greater ones, then the lesser ones, until every component is a star around its least row. Source: Kiveris, Lattanzi,
/// Mirrokni, Rastogi, Vassilvitskii, *Connected components in `MapReduce` and beyond*, 2014.
pub(crate) struct Connecting {
    /// Tables of links, of route `Key`, all with columns `links`.
    pub(crate) tables: &'static [&'static str],
    /// Their columns.
    pub(crate) links: SchemaRef,
}

impl Connecting {
    /// Its tables; to be among the program's.
    pub(crate) fn specs(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(EDGES, edges_schema(), Route::Key),
            TableSpec::new(LESSER, edges_schema(), Route::Key),
            TableSpec::new(LARGE_CHANGED, changed_schema(), Route::Whole),
            TableSpec::new(SMALL_CHANGED, changed_schema(), Route::Whole),
            TableSpec::new(CONNECTED, Arc::clone(&self.links), Route::Key),
        ]
    }

    /// Its steps so far and the one after them; the links are written.
    pub(crate) fn steps(&self, done: &Done) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.tables.iter().map(|table| done.rows(table)).sum::<u64>() <= done.at_once() {
            steps.push(Step::once("connect", self.tables, Vec::new()).writes(&[EDGES]));
        } else {
            steps.push(Step::ranges("spread", self.tables).writes(&[EDGES]));
            let halves = done.times(LARGE_CHANGED) + done.times(SMALL_CHANGED);
            let is_stable = halves > 1 && done.rows(LARGE_CHANGED) == 0 && done.rows(SMALL_CHANGED) == 0;
            let half = |number: usize| match number % 2 {
                _ if number >= MOST_HALVES => Step::once(GIVE_UP, &[], Vec::new()),
                0 => Step::ranges("large_star", &[EDGES]).writes(&[LESSER, LARGE_CHANGED]),
                _ => Step::ranges("small_star", &[LESSER]).writes(&[EDGES, SMALL_CHANGED]),
            };
            steps.extend((0..halves + usize::from(!is_stable)).map(half));
        }
        let all: Vec<&'static str> = std::iter::once(EDGES).chain(self.tables.iter().copied()).collect();
        steps.push(Step::ranges("label", &all).writes(&[CONNECTED]));
        steps
    }

    /// Does a `Ranges` step if it is one of these.
    pub(crate) fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<bool, StageError> {
        match step.name {
            "spread" => {
                let mut edges = Vec::new();
                for table in self.tables {
                    edges.extend(read_links(&range.take(table)?.batch).filter(|(a, b)| a != b).flat_map(|(a, b)| [(a, b), (b, a)]));
                }
                write_edges(EDGES, edges, out)?;
            }
            "large_star" => {
                let (mut edges, mut changed) = (Vec::new(), 0);
                for of_node in read_edges(&range.take(EDGES)?).chunk_by(|a, b| a.0 == b.0) {
                    let (node, least) = (of_node[0].0, of_node[0].1.min(of_node[0].0));
                    let n_before = edges.len();
                    edges.extend(of_node.iter().filter(|(_, other)| *other > node).map(|(_, other)| (*other, least)));
                    changed += u64::from(least != node && edges.len() > n_before);
                }
                write_edges(LESSER, edges, out)?;
                write_changed(LARGE_CHANGED, changed, out)?;
            }
            "small_star" => {
                let (mut edges, mut changed) = (Vec::new(), 0);
                for of_node in read_edges(&range.take(LESSER)?).chunk_by(|a, b| a.0 == b.0) {
                    let (node, least) = of_node[0];
                    let tied = of_node[1..].iter().map(|(_, lesser)| *lesser).chain(std::iter::once(node));
                    edges.extend(tied.flat_map(|tied| [(tied, least), (least, tied)]));
                    changed += u64::from(of_node.len() > 1);
                }
                write_edges(EDGES, edges, out)?;
                write_changed(SMALL_CHANGED, changed, out)?;
            }
            "label" => self.label(range, out)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Does a `Once` step: ties every node to the least of its component.
    pub(crate) fn once(&self, step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        if step.name == GIVE_UP {
            return Err(StageError::Internal(format!("the components of the links did not settle in {MOST_HALVES} steps")));
        }
        let mut links: Vec<(Node, Node)> = Vec::new();
        for table in self.tables {
            let table = all.tables.remove(table).ok_or_else(|| StageError::Internal(format!("table `{table}` was not given")))?;
            links.extend(read_links(&table.batch));
        }
        let nodes = sorted(links.iter().flat_map(|(a, b)| [*a, *b]).collect());
        let mut sets = UnionFind::new(nodes.len());
        for (a, b) in &links {
            sets.union(position(&nodes, a), position(&nodes, b));
        }
        drop(links);
        // The least of each set comes first.
        let mut least: Vec<Option<Node>> = vec![None; nodes.len()];
        let mut edges = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            match &mut least[sets.find(at)] {
                Some(least) => edges.push((*node, *least)),
                none => *none = Some(*node),
            }
        }
        write_edges(EDGES, edges, out)
    }

    /// Moves each link under the key of the least row of its component.
    fn label(&self, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        // A node has one lesser neighbour now, unless it is itself the least of its component.
        let mut labels = read_edges(&range.take(EDGES)?);
        labels.retain(|(node, other)| other < node);
        for table in self.tables {
            let links = range.take(table)?;
            let label = |node: Node| labels.binary_search_by_key(&node.key(), |(of, _)| of.key()).map_or(node, |at| labels[at].1);
            let keys = read_links(&links.batch).map(|(a, _)| label(a).key()).collect();
            out.keyed(CONNECTED, keys, links.batch)?;
        }
        Ok(())
    }
}

fn edges_schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt32, false);
    Arc::new(Schema::new(vec![Field::new("graph", DataType::UInt8, false), number("other_shard"), number("other_row")]))
}

fn write_edges(table: &'static str, edges: Vec<(Node, Node)>, out: &mut Tables) -> Result<(), StageError> {
    let edges = sorted(edges);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(edges.iter().map(|(node, _)| node.graph).collect::<UInt8Array>()),
        Arc::new(edges.iter().map(|(_, other)| other.row.shard).collect::<UInt32Array>()),
        Arc::new(edges.iter().map(|(_, other)| other.row.row).collect::<UInt32Array>()),
    ];
    out.keyed(table, edges.iter().map(|(node, _)| node.key()).collect(), RecordBatch::try_new(edges_schema(), columns)?)
}

/// Each node with each of its neighbours once, by the node's key, then the neighbour.
fn read_edges(table: &Keyed) -> Vec<(Node, Node)> {
    let graph = table.batch.column(0).as_primitive::<UInt8Type>().values();
    let number = |column: usize| table.batch.column(column).as_primitive::<UInt32Type>().values();
    let (shard, row) = (number(1), number(2));
    let other = |at: usize| Node { graph: graph[at], row: RowRef { shard: shard[at], row: row[at] } };
    let mut edges: Vec<(Node, Node)> = Vec::with_capacity(table.keys.len());
    let mut start = 0;
    for group in table.keys.chunk_by(|a, b| a == b) {
        let of_node = edges.len();
        edges.extend((start..start + group.len()).map(|at| (Node { graph: graph[at], row: Node::row_of(group[0]) }, other(at))));
        start += group.len();
        edges[of_node..].sort_unstable();
    }
    edges.dedup();
    edges
}

fn changed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("nodes", DataType::UInt64, false)]))
}

fn write_changed(table: &'static str, nodes: u64, out: &mut Tables) -> Result<(), StageError> {
    if nodes == 0 {
        return Ok(());
    }
    out.whole(table, RecordBatch::try_new(changed_schema(), vec![Arc::new(UInt64Array::from(vec![nodes]))])?)
}

/// A link between two rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// One row.
    pub(crate) a: RowRef,
    /// The other.
    pub(crate) b: RowRef,
    /// Of two links that serve as well, the stronger one is taken.
    pub(crate) strength: f64,
}

/// What became of one row of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// The row.
    pub(crate) row: RowRef,
    /// The row of its component that is kept; itself for that one.
    pub(crate) survivor: RowRef,
    /// The row it is linked to on a shortest way to the survivor; itself for the survivor.
    pub(crate) next: RowRef,
    /// Which of the links leads to `next`; `None` for the survivor.
    pub(crate) link: Option<u32>,
    /// Rows of its component.
    pub(crate) size: u32,
}

/// The fate of every row that occurs in a link, in the order of the rows. In each component the row of the least `order` survives.
///
/// Takes some 50 bytes for each link and for each row, at most 2^32 of them. Does not depend on the order of the links, but for the numbers by
/// which it names them.
///
/// # Errors
/// [`StageError::Internal`] if there are more.
pub(crate) fn fates<K: Ord>(links: &[Link], order: impl Fn(RowRef) -> K) -> Result<Vec<Fate>, StageError> {
    let too_many = |_| StageError::Internal("over 2^31 links in one task".to_owned());
    let n_ends = u32::try_from(links.len() * 2).map_err(too_many)?;
    let rows = sorted(links.iter().flat_map(|link| [link.a, link.b]).collect());
    let number = |row: &RowRef| u32::try_from(position(&rows, row)).map_err(too_many);
    let ends: Vec<(u32, u32)> = links.iter().map(|link| Ok((number(&link.a)?, number(&link.b)?))).collect::<Result<_, StageError>>()?;
    let mut sets = UnionFind::new(rows.len());
    // How many links each row has, then where they end among all, then where they begin.
    let mut starts = vec![0_u32; rows.len() + 1];
    for &(a, b) in &ends {
        sets.union(a as usize, b as usize);
        starts[a as usize] += 1;
        starts[b as usize] += 1;
    }
    let mut sum = 0;
    for start in &mut starts[..rows.len()] {
        sum += *start;
        *start = sum;
    }
    starts[rows.len()] = n_ends;
    // The other row, and the link.
    let mut neighbours: Vec<(u32, u32)> = vec![(0, 0); n_ends as usize];
    for (link, &(a, b)) in (0_u32..).zip(&ends) {
        for (from, to) in [(a, b), (b, a)] {
            starts[from as usize] -= 1;
            neighbours[starts[from as usize] as usize] = (to, link);
        }
    }
    drop(ends);
    let mut survivor: Vec<Option<u32>> = vec![None; rows.len()];
    let mut size = vec![0_u32; rows.len()];
    for (row, at) in (0_u32..).zip(&rows) {
        let root = sets.find(row as usize);
        size[root] += 1;
        if survivor[root].is_none_or(|best| (order(*at), *at) < (order(rows[best as usize]), rows[best as usize])) {
            survivor[root] = Some(row);
        }
    }
    // The next row on the way, and the link to it.
    let mut next: Vec<Option<(u32, Option<u32>)>> = vec![None; rows.len()];
    let mut open = VecDeque::new();
    for &first in survivor.iter().flatten() {
        next[first as usize] = Some((first, None));
        open.push_back(first);
        while let Some(at) = open.pop_front() {
            // By the order of the rows, then the stronger link, so that the way does not depend on how links came.
            let of_row = &mut neighbours[starts[at as usize] as usize..starts[at as usize + 1] as usize];
            of_row.sort_by(|(x, i), (y, j)| x.cmp(y).then(links[*j as usize].strength.total_cmp(&links[*i as usize].strength)));
            for &(other, link) in &*of_row {
                if next[other as usize].is_none() {
                    next[other as usize] = Some((at, Some(link)));
                    open.push_back(other);
                }
            }
        }
    }
    drop(neighbours);
    let fate = |(row, next): (usize, Option<(u32, Option<u32>)>)| {
        let (root, (next, link)) = (sets.find(row), next?);
        let (survivor, next) = (rows[survivor[root]? as usize], rows[next as usize]);
        Some(Fate { row: rows[row], survivor, next, link, size: size[root] })
    };
    Ok((0..rows.len()).zip(next).filter_map(fate).collect())
}

/// The rows that do not survive, with `order` as in [`fates`], if only some of the links counted.
pub(crate) fn losers<K: Ord>(rows: &[RowRef], links: impl Iterator<Item = (RowRef, RowRef)>, order: impl Fn(RowRef) -> K) -> Vec<RowRef> {
    let mut sets = UnionFind::new(rows.len());
    links.for_each(|(a, b)| sets.union(position(rows, &a), position(rows, &b)));
    let mut survivor: Vec<Option<usize>> = vec![None; rows.len()];
    for (row, at) in rows.iter().enumerate() {
        let root = sets.find(row);
        if survivor[root].is_none_or(|best| (order(*at), *at) < (order(rows[best]), rows[best])) {
            survivor[root] = Some(row);
        }
    }
    (0..rows.len()).filter(|row| survivor[sets.find(*row)] != Some(*row)).map(|row| rows[row]).collect()
}

/// The values in order, each once.
pub(crate) fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

/// Where one of the sorted values stands.
fn position<T: Ord>(values: &[T], value: &T) -> usize {
    values.binary_search(value).unwrap_or_else(|at| at)
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

    use arrow::datatypes::UInt32Type;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Built, Cut, run_stage};
    use crate::{Global, Outputs, Port, ShardIn, Stage};

    fn row(row: u32) -> RowRef {
        RowRef { shard: row / 10, row: row % 10 }
    }

    fn link(a: u32, b: u32) -> Link {
        Link { a: row(a), b: row(b), strength: 0.9 }
    }

    /// Gives, of links that stand in its input as pairs of numbers, the component of each: `(graph, a, b, component)`.
    struct Connected;

    const PAIRS: &[&str] = &["pairs"];

    impl Connected {
        fn connecting() -> Connecting {
            Connecting { tables: PAIRS, links: Arc::new(Schema::new(link_fields())) }
        }

        fn schema() -> SchemaRef {
            Arc::new(Schema::new(["graph", "a", "b", "group"].map(|name| Field::new(name, DataType::UInt32, false)).to_vec()))
        }
    }

    impl Global for Connected {
        fn tables(&self) -> Vec<TableSpec> {
            let mut tables = Self::connecting().specs();
            tables.push(TableSpec::new("pairs", Self::connecting().links, Route::Key));
            tables
        }

        fn next(&self, done: &Done) -> Option<Step> {
            let mut steps = vec![Step::shards("read", Port::FROM).writes(PAIRS)];
            if done.steps() > 0 {
                steps.extend(Self::connecting().steps(done));
            }
            steps.push(Step::ranges("give", &[CONNECTED]).emits());
            steps.into_iter().nth(done.steps())
        }

        fn shard(&self, _step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
            for batch in &shard.shard.batches {
                let number = |column: usize| batch.column(column).as_primitive::<UInt32Type>().values().iter().copied();
                let links: Vec<(u8, RowRef, RowRef)> =
                    number(0).zip(number(1)).zip(number(2)).map(|((graph, a), b)| (u8::try_from(graph).unwrap(), row(a), row(b))).collect();
                let keys = links.iter().map(|(graph, a, _)| Node { graph: *graph, row: *a }.key()).collect();
                let columns = link_columns(links.iter().copied());
                out.keyed("pairs", keys, RecordBatch::try_new(Self::connecting().links, columns)?)?;
            }
            Ok(())
        }

        fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
            if Self::connecting().range(step, range, out)? {
                return Ok(());
            }
            let table = range.take(CONNECTED)?;
            let number = |row: RowRef| row.shard * 10 + row.row;
            let links: Vec<(Node, Node)> = read_links(&table.batch).collect();
            let column = |of: &dyn Fn(usize) -> u32| Arc::new((0..links.len()).map(of).collect::<UInt32Array>()) as ArrayRef;
            let columns = vec![
                column(&|at| u32::from(links[at].0.graph)),
                column(&|at| number(links[at].0.row)),
                column(&|at| number(links[at].1.row)),
                column(&|at| number(Node::row_of(table.keys[at]))),
            ];
            out.emit().rows(RecordBatch::try_new(Self::schema(), columns)?)
        }

        fn once(&self, step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
            Self::connecting().once(step, all, out)
        }
    }

    /// The component of each link as the program finds it, and how many rounds it took.
    fn connected(links: &[(u32, u32, u32)], by_rounds: bool, ranges: usize) -> (Vec<(u32, u32, u32, u32)>, u64) {
        let column = |of: fn(&(u32, u32, u32)) -> u32| Arc::new(links.iter().map(of).collect::<UInt32Array>()) as ArrayRef;
        let columns = [("graph", column(|link| link.0)), ("a", column(|link| link.1)), ("b", column(|link| link.2))];
        let input = RecordBatch::try_from_iter(columns).unwrap();
        let built = Built { stage: Stage::Global(Box::new(Connected)), outputs: Outputs::new(Connected::schema()) };
        let cut = Cut { batch_rows: 1000, shard_rows: if by_rounds { 1 } else { 1000 }, ranges };
        let outcome = run_stage(&built, &[(Port::FROM, input)], cut).unwrap();
        let number = |column: usize| outcome.rows().column(column).as_primitive::<UInt32Type>().values();
        let found = (0..outcome.rows().num_rows()).map(|at| (number(0)[at], number(1)[at], number(2)[at], number(3)[at]));
        (sorted(found.collect()), outcome.table_rows.get(LARGE_CHANGED).copied().unwrap_or(0))
    }

    /// Every row with the least it can reach.
    fn flood(links: &[(u32, u32, u32)]) -> Vec<(u32, u32, u32, u32)> {
        let mut labels: BTreeMap<(u32, u32), u32> =
            links.iter().flat_map(|(graph, a, b)| [((*graph, *a), *a), ((*graph, *b), *b)]).collect();
        loop {
            let before = labels.clone();
            for (graph, a, b) in links {
                let least = labels[&(*graph, *a)].min(labels[&(*graph, *b)]);
                labels.insert((*graph, *a), least);
                labels.insert((*graph, *b), least);
            }
            if labels == before {
                return sorted(links.iter().map(|(graph, a, b)| (*graph, *a, *b, labels[&(*graph, *a)])).collect());
            }
        }
    }

    #[test]
    fn a_long_chain_and_a_star_settle_in_a_few_rounds() {
        // A chain in an order that helps no one.
        let chain: Vec<(u32, u32, u32)> = (0..700).map(|at| (0, (at * 271) % 701, ((at + 1) * 271) % 701)).collect();
        let (found, rounds) = connected(&chain, true, 3);
        assert!(found.len() == 700 && found.iter().all(|(.., group)| *group == 0));
        assert!(rounds < 120, "{rounds} half rounds of ranges that changed something");
        let star: Vec<(u32, u32, u32)> = (1..700).map(|at| (0, at, 0)).collect();
        let (found, _) = connected(&star, true, 2);
        assert!(found.len() == 699 && found.iter().all(|(.., group)| *group == 0));
    }

    #[test]
    fn a_chain_hangs_on_its_survivor_link_by_link() {
        let links = [link(1, 2), link(3, 2), link(3, 14), link(7, 8)];
        let fates = fates(&links, |row| row).unwrap();
        let next: Vec<(RowRef, RowRef, RowRef, u32)> = fates.iter().map(|fate| (fate.row, fate.next, fate.survivor, fate.size)).collect();
        let chain = [(1, 1, 1, 4), (2, 1, 1, 4), (3, 2, 1, 4), (7, 7, 7, 2), (8, 7, 7, 2), (14, 3, 1, 4)];
        assert_eq!(next, chain.map(|(a, b, c, size)| (row(a), row(b), row(c), size)));
        assert_eq!(fates.iter().map(|fate| fate.link).collect::<Vec<_>>(), [None, Some(0), Some(1), None, Some(3), Some(2)]);
    }

    #[test]
    fn the_preferred_row_survives() {
        let fates = fates(&[link(1, 2), link(2, 3)], std::cmp::Reverse).unwrap();
        assert!(fates.iter().all(|fate| fate.survivor == row(3)), "{fates:?}");
        let rows = [row(1), row(2), row(3), row(4)];
        assert_eq!(losers(&rows, [(row(1), row(2)), (row(2), row(3))].into_iter(), std::cmp::Reverse), [row(1), row(2)]);
    }

    #[test]
    fn a_million_rows_on_one_take_linear_time() {
        let links: Vec<Link> = (1..1_000_000).map(|other| Link { a: row(0), b: RowRef { shard: 1, row: other }, strength: 0.0 }).collect();
        assert!(fates(&links, |row| row).unwrap().iter().all(|fate| fate.survivor == row(0) && fate.size == 1_000_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn both_ways_to_connect_find_what_a_flood_finds(
            pairs in prop::collection::vec((0_u32..2, 0_u32..60, 0_u32..60), 0..90), ranges in 1_usize..5,
        ) {
            let links = sorted(pairs);
            let expected = flood(&links);
            prop_assert_eq!(&connected(&links, false, ranges).0, &expected);
            prop_assert_eq!(&connected(&links, true, ranges).0, &expected);
        }

        #[test]
        fn components_are_those_of_a_flood_and_do_not_depend_on_the_order(pairs in prop::collection::vec((0_u32..30, 0_u32..30), 0..40), seed in any::<u64>()) {
            let mut links: Vec<Link> = pairs.iter().map(|(a, b)| link(*a, *b)).collect();
            let found = fates(&links, |row| row).unwrap();
            let survivors: BTreeMap<RowRef, RowRef> = found.iter().map(|fate| (fate.row, fate.survivor)).collect();
            for (_, a, b, least) in flood(&pairs.iter().map(|(a, b)| (0, *a, *b)).collect::<Vec<_>>()) {
                prop_assert_eq!((survivors[&row(a)], survivors[&row(b)]), (row(least), row(least)));
            }
            let ways = |fates: &[Fate], links: &[Link]| fates.iter().map(|fate| (fate.row, fate.survivor, fate.next, fate.size, fate.link.map(|link| sorted(vec![links[link as usize].a, links[link as usize].b])))).collect::<Vec<_>>();
            let found = ways(&found, &links);
            let turn = if links.is_empty() { 0 } else { usize::try_from(seed % links.len() as u64).unwrap() };
            links.rotate_left(turn);
            links.iter_mut().step_by(2).for_each(|link| std::mem::swap(&mut link.a, &mut link.b));
            prop_assert_eq!(ways(&fates(&links, |row| row).unwrap(), &links), found);
        }
    }
}
