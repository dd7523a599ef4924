//! What there is to do: which stages run fused, what is stored where, and what each piece of work depends on.

use std::collections::{BTreeMap, BTreeSet};

use datasets::WriteSettings;
use stages::{Port, Stage};

use crate::fingerprint::Fingerprint;
use crate::graph::{Checkpoints, DroppedRows, Edge, Graph};

/// How the stages of a graph are run.
#[derive(Debug)]
pub struct Plan {
    /// The units, each after those it reads.
    pub units: Vec<Unit>,
    /// What is stored, by (stage, port).
    pub stored: BTreeMap<Edge, Stored>,
    /// Stages that take part: all, or with `--to` those that the target needs.
    pub active: BTreeSet<usize>,
    /// What each stage's rows depend on besides the bytes of the inputs.
    pub fingerprints: BTreeMap<usize, Fingerprint>,
}

/// What is stored of one output of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// For the stages that read it.
    pub checkpoint: bool,
    /// For people: the folder it is published in and how it is written.
    pub publish: Option<(String, WriteSettings)>,
}

/// Stages whose work is done together and stored at the end.
#[derive(Debug)]
pub struct Unit {
    /// The stage whose output the unit stores.
    pub root: usize,
    /// How its work is cut into tasks.
    pub work: Work,
}

/// How a unit's work is cut into tasks.
#[derive(Debug)]
pub enum Work {
    /// A task for each split or stored shard at the start of each leg.
    Legs(Vec<Leg>),
    /// The program of a global stage.
    Program,
}

/// A way from something stored, or from a source, through row-local stages to the unit's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Where the rows come from.
    pub start: Start,
    /// The stages they pass, the root last; empty if the root is the source itself.
    pub path: Vec<usize>,
}

/// Where the rows of a leg come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A source: a task for each of its splits.
    Source(usize),
    /// A stored output: a task for each of its shards.
    Stored(Edge),
}

impl Plan {
    /// Plans a graph; with `to`, only that stage and what it needs.
    pub fn new(graph: &Graph, to: Option<usize>) -> Self {
        let active = active_nodes(graph, to);
        let readers = readers(graph, &active);
        let roots: BTreeSet<usize> = active.iter().copied().filter(|&node| is_root(graph, node, &readers)).collect();
        let stored = stored_outputs(graph, &active, &roots, &readers, to);
        let units = roots.iter().map(|&root| Unit { root, work: work_of(graph, root, &roots) }).collect();
        let fingerprints = fingerprints(graph, &active);
        Self { units, stored, active, fingerprints }
    }

    /// The stages that a unit runs.
    pub fn nodes_of(&self, unit: &Unit) -> BTreeSet<usize> {
        match &unit.work {
            Work::Program => BTreeSet::from([unit.root]),
            Work::Legs(legs) => legs
                .iter()
                .flat_map(|leg| {
                    let source = if let Start::Source(node) = leg.start { Some(node) } else { None };
                    source.into_iter().chain(leg.path.iter().copied())
                })
                .collect(),
        }
    }

    /// The stored outputs a unit reads.
    pub fn reads_of(graph: &Graph, unit: &Unit) -> BTreeSet<Edge> {
        match &unit.work {
            Work::Program => graph.nodes[unit.root].inputs.iter().flat_map(|input| input.from.clone()).collect(),
            Work::Legs(legs) => legs
                .iter()
                .filter_map(|leg| match &leg.start {
                    Start::Stored(edge) => Some(edge.clone()),
                    Start::Source(_) => None,
                })
                .collect(),
        }
    }
}

fn active_nodes(graph: &Graph, to: Option<usize>) -> BTreeSet<usize> {
    let Some(target) = to else { return (0..graph.nodes.len()).collect() };
    let mut active = BTreeSet::new();
    let mut open = vec![target];
    while let Some(node) = open.pop() {
        if active.insert(node) {
            open.extend(graph.nodes[node].inputs.iter().flat_map(|input| input.from.iter().map(|edge| edge.node)));
        }
    }
    active
}

/// Who reads each output: (reader, its port).
type Readers = BTreeMap<Edge, Vec<usize>>;

fn readers(graph: &Graph, active: &BTreeSet<usize>) -> Readers {
    let mut readers = Readers::new();
    for &node in active {
        for edge in graph.nodes[node].inputs.iter().flat_map(|input| &input.from) {
            readers.entry(edge.clone()).or_default().push(node);
        }
    }
    readers
}

/// A stage ends a unit unless its one reader, of its main output, is a row-local stage that can run in the same task.
fn is_root(graph: &Graph, node: usize, readers: &Readers) -> bool {
    let of_node: Vec<(&Edge, &Vec<usize>)> = readers.iter().filter(|(edge, _)| edge.node == node).collect();
    let fuses = match of_node.as_slice() {
        [(edge, reader)] => {
            edge.port == Port::OUT && reader.len() == 1 && matches!(graph.nodes[reader[0]].stage, Stage::RowLocal(_) | Stage::RowAsync(_))
        }
        _ => false,
    };
    // What was asked for over the network is stored, so that an edit after it asks nobody again.
    !fuses || graph.nodes[node].keep || matches!(graph.nodes[node].stage, Stage::Global(_) | Stage::RowAsync(_))
}

fn stored_outputs(
    graph: &Graph,
    active: &BTreeSet<usize>,
    roots: &BTreeSet<usize>,
    readers: &Readers,
    to: Option<usize>,
) -> BTreeMap<Edge, Stored> {
    let mut stored = BTreeMap::new();
    for &index in active {
        let node = &graph.nodes[index];
        for (port, _) in node.outputs.iter() {
            let edge = Edge { node: index, port: port.clone() };
            let read = readers.contains_key(&edge);
            let publish = if *port == Port::DROPPED {
                (node.dropped != DroppedRows::None).then(|| (format!("dropped/{}", node.id), WriteSettings::quick()))
            } else if !read || node.keep || to == Some(index) {
                Some((folder_of(&node.id, port), node.write.clone()))
            } else {
                None
            };
            stored.insert(edge, Stored { checkpoint: read && roots.contains(&index), publish });
        }
        let rejected = Some((format!("rejected/{}", node.id), WriteSettings::quick()));
        stored.insert(Edge { node: index, port: Port::REJECTED }, Stored { checkpoint: false, publish: rejected });
    }
    stored
}

/// The folder in which an output is published: `<id>`, and `<id>.<port>` for further ports.
pub fn folder_of(id: &str, port: &Port) -> String {
    if *port == Port::OUT { id.to_owned() } else { format!("{id}.{port}") }
}

fn work_of(graph: &Graph, root: usize, roots: &BTreeSet<usize>) -> Work {
    match graph.nodes[root].stage {
        Stage::Global(_) => Work::Program,
        Stage::Source(_) => Work::Legs(vec![Leg { start: Start::Source(root), path: Vec::new() }]),
        Stage::RowLocal(_) | Stage::RowAsync(_) => {
            let mut legs = Vec::new();
            collect_legs(graph, root, roots, &mut Vec::new(), &mut legs);
            Work::Legs(legs)
        }
    }
}

/// Walks from `node` up to where its rows start; `below` are the stages after it, nearest last.
fn collect_legs(graph: &Graph, node: usize, roots: &BTreeSet<usize>, below: &mut Vec<usize>, legs: &mut Vec<Leg>) {
    below.push(node);
    let path: Vec<usize> = below.iter().rev().copied().collect();
    for edge in graph.nodes[node].inputs.iter().flat_map(|input| &input.from) {
        if roots.contains(&edge.node) {
            legs.push(Leg { start: Start::Stored(edge.clone()), path: path.clone() });
        } else if matches!(graph.nodes[edge.node].stage, Stage::Source(_)) {
            legs.push(Leg { start: Start::Source(edge.node), path: path.clone() });
        } else {
            collect_legs(graph, edge.node, roots, below, legs);
        }
    }
    below.pop();
}

/// What a stage itself adds to the fingerprint of its rows.
pub fn own_fingerprint(graph: &Graph, node: usize) -> Fingerprint {
    let stage = &graph.nodes[node];
    let mut hasher = Fingerprint::of("stage");
    let mut settings = stage.settings.clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|name, _| !stage.spec.places.contains(&name.as_str()));
    }
    hasher.add(stage.spec.name).number(u64::from(stage.spec.version)).add(&stage.id).add(canonical(&settings)).number(graph.seed);
    if let Some(device) = graph.device.as_ref().filter(|_| stage.spec.uses_device) {
        hasher.add("device").add(device.class.as_str());
    }
    for (name, hash) in &stage.files {
        hasher.add("file").add(name).add(hash);
    }
    for model in &stage.models {
        hasher.add("model").add(model.setting).add(&model.identity);
    }
    for (port, schema) in stage.outputs.iter() {
        hasher.add(port.as_str());
        for field in schema.fields() {
            hasher.add(field.name()).add(field.data_type().to_string()).number(u64::from(field.is_nullable()));
            let mut metadata: Vec<_> = field.metadata().iter().collect();
            metadata.sort();
            metadata.iter().for_each(|(key, value)| {
                hasher.add(key).add(value);
            });
        }
    }
    hasher.finish()
}

fn fingerprints(graph: &Graph, active: &BTreeSet<usize>) -> BTreeMap<usize, Fingerprint> {
    let mut fingerprints: BTreeMap<usize, Fingerprint> = BTreeMap::new();
    for &node in active {
        let mut hasher = Fingerprint::of("rows");
        hasher.fingerprint(&own_fingerprint(graph, node));
        for input in &graph.nodes[node].inputs {
            hasher.add(input.port.as_str());
            for edge in &input.from {
                hasher.fingerprint(&fingerprints[&edge.node]).add(edge.port.as_str());
            }
        }
        fingerprints.insert(node, hasher.finish());
    }
    fingerprints
}

/// A JSON value as text that does not depend on the order of its keys.
fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields: Vec<_> =
                sorted.into_iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// Whether checkpoints go when the run is done.
pub fn discards(graph: &Graph) -> bool {
    graph.checkpoints == Checkpoints::Discard
}
