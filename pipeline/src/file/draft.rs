//! The stages as the file has them: ids, types, what each reads. Nothing is built yet.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value as Json;
use stages::registry::StageSpec;
use stages::{Inputs, Kind, Port};

use super::node::{Node, Value};
use super::problem::{Place, Problem, did_you_mean, quoted};
use super::schema::{COMMON, stage_schema};
use super::validate::Validator;
use crate::graph::MaxRejected;

/// One stage of the file, checked by itself.
pub(crate) struct Draft<'n> {
    pub(crate) id: String,
    /// Where its id stands.
    pub(crate) place: Place,
    pub(crate) node: &'n Node,
    /// Its type, if the file names one that exists.
    pub(crate) spec: Option<&'static StageSpec>,
    /// What feeds it, by port.
    pub(crate) from: Vec<(Port, Vec<Reference>)>,
    /// Names of the settings that are as the type's schema wants them.
    pub(crate) valid: Vec<&'n str>,
    /// Whether it may be built, if only to tell more of what is wrong: false where `from` names what is not there.
    pub(crate) connected: bool,
    /// Whether nothing is wrong with it so far.
    pub(crate) sound: bool,
}

/// A place in `from` that names an output of a stage.
pub(crate) struct Reference {
    /// Index of the stage among the drafts.
    pub(crate) stage: usize,
    pub(crate) port: Port,
    pub(crate) place: Place,
}

/// The ids of all stages, in the order of the file.
struct Ids {
    all: Vec<String>,
    by_name: HashMap<String, usize>,
}

impl Ids {
    fn new(all: Vec<String>) -> Self {
        let by_name = all.iter().enumerate().map(|(index, id)| (id.clone(), index)).collect();
        Self { all, by_name }
    }

    fn others(&self, draft: &Draft<'_>) -> Vec<&str> {
        self.all.iter().map(String::as_str).filter(|id| *id != draft.id).collect()
    }
}

impl Draft<'_> {
    /// How the stage is called in messages.
    pub(crate) fn whose(&self) -> String {
        match self.spec {
            Some(spec) => format!("stage `{}` ({})", self.id, spec.name),
            None => format!("stage `{}`", self.id),
        }
    }

    /// The settings of its type, as JSON.
    pub(crate) fn settings(&self) -> Json {
        let entries = self.node.entries().iter().filter(|(key, _)| !COMMON.contains(&key.name.as_str()));
        entries.map(|(key, node)| (key.name.clone(), node.to_json())).collect()
    }

    /// Where an error about setting `path` (`a.b`, `a[1].b` for a nested one) is shown: at its value, else at the stage's id.
    pub(crate) fn setting_place(&self, path: &str) -> &Place {
        self.node.place_of(&self.place, path)
    }
}

/// Reads the stages, checks each against its type's schema, and resolves what each reads.
pub(crate) fn drafts<'n>(stages: &'n Node, table: &'static [StageSpec], problems: &mut Vec<Problem>) -> Vec<Draft<'n>> {
    let mut drafts: Vec<Draft<'n>> = Vec::new();
    let mut schemas: HashMap<&str, Json> = HashMap::new();
    for (key, node) in stages.entries() {
        let mut draft = Draft {
            id: key.name.clone(),
            place: key.place.clone(),
            node,
            spec: None,
            from: Vec::new(),
            valid: Vec::new(),
            connected: true,
            sound: true,
        };
        let before = problems.len();
        problems.extend(id_problem(&draft));
        match stage_type(&draft, table) {
            Ok(spec) => {
                draft.spec = Some(spec);
                let schema = schemas.entry(spec.name).or_insert_with(|| stage_schema(spec));
                draft.valid = check_settings(&draft, spec, schema, problems);
                problems.extend(on_fail_problem(&draft, spec, table));
            }
            Err(problem) => problems.extend(problem),
        }
        draft.sound = draft.spec.is_some() && problems.len() == before && !node.is_broken();
        drafts.push(draft);
    }
    let ids = Ids::new(drafts.iter().map(|draft| draft.id.clone()).collect());
    for draft in &mut drafts {
        let before = problems.len();
        draft.from = references(draft, &ids, problems);
        draft.connected = problems.len() == before;
        draft.sound &= draft.connected;
    }
    drafts
}

/// Longest id: file systems hold names of 255 bytes, and the names of outputs are added to it.
const MAX_ID: usize = 100;

fn id_problem(draft: &Draft<'_>) -> Option<Problem> {
    let id = draft.id.as_str();
    let problem = Problem::new(format!("`{}` can't be a stage's id", id.escape_debug()));
    if matches!(id, "dropped" | "rejected") {
        return Some(
            problem.at(&draft.place, "taken").help("the output has a folder of that name for rows that leave the pipeline".to_owned()),
        );
    }
    if id.chars().count() > MAX_ID {
        let help = format!("an id is at most {MAX_ID} characters long: it becomes a folder of the output");
        return Some(Problem::new("a stage's id is too long").at(&draft.place, format!("{} characters", id.chars().count())).help(help));
    }
    let starts_well = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_id = starts_well && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let help = "an id begins with a letter or digit and has letters, digits, `_` and `-`: it becomes a folder of the output";
    (!is_id).then(|| problem.at(&draft.place, "not an id").help(help.to_owned()))
}

/// The stage's type, or why it has none; nothing if that was told before.
fn stage_type(draft: &Draft<'_>, table: &'static [StageSpec]) -> Result<&'static StageSpec, Option<Problem>> {
    let whose = draft.whose();
    if matches!(draft.node.value, Value::Broken) {
        return Err(None);
    }
    let Value::Map(_) = draft.node.value else {
        let place = if draft.node.place.span.is_empty() { &draft.place } else { &draft.node.place };
        let problem = Problem::new(format!("{whose} must be a mapping with `use` and settings"));
        let help = format!("write `{}: {{use: …, from: …}}`", draft.id.escape_debug());
        return Err(Some(problem.at(place, format!("found {}", draft.node.found())).help(help)));
    };
    let Some((key, named)) = draft.node.entry("use") else {
        let problem = Problem::new(format!("{whose} needs `use`: the stage's type"));
        return Err(Some(problem.at(&draft.place, "`use` is missing").help("`pipeline stages` lists all types".to_owned())));
    };
    if matches!(named.value, Value::Broken) {
        return Err(None);
    }
    let place = if named.place.span.is_empty() { &key.place } else { &named.place };
    let Some(name) = named.as_str() else {
        let problem = Problem::new(format!("{whose}: `use` must be the name of a stage type"));
        return Err(Some(problem.at(place, format!("found {}", named.found())).help("`pipeline stages` lists all types".to_owned())));
    };
    table.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let near = did_you_mean(name, table.iter().map(|spec| spec.name));
        let help =
            near.map_or_else(|| "`pipeline stages` lists all types".to_owned(), |near| format!("{near} `pipeline stages` lists all types"));
        let problem = Problem::new(format!("{whose} uses `{}`, which is no stage type", name.escape_debug()));
        Some(problem.at(place, "unknown stage type").help(help))
    })
}

/// Keys of a stage that its schema does not check; `on_fail` only where the stage does not take it.
const CHECKED_HERE: [&str; 4] = ["on_fail", "use", "from", "max_rejected"];

/// That a stage which never decides against a row has no `on_fail`.
fn on_fail_problem(draft: &Draft<'_>, spec: &StageSpec, table: &[StageSpec]) -> Option<Problem> {
    let (key, _) = draft.node.entry("on_fail").filter(|_| !spec.tags)?;
    let problem =
        Problem::new(format!("{} takes no `on_fail`: it drops no rows, or none that have a place among those it gives", draft.whose()));
    let those = table.iter().filter(|spec| spec.tags).map(|spec| spec.name);
    Some(problem.at(&key.place, "not for this stage").help(format!("the stages that take it are {}", quoted(those))))
}

/// Checks the settings of a stage; gives the names of those that are right.
fn check_settings<'n>(draft: &Draft<'n>, spec: &'static StageSpec, schema: &Json, problems: &mut Vec<Problem>) -> Vec<&'n str> {
    let validator = Validator {
        root: schema,
        whose: draft.whose(),
        manual: Some(format!("pipeline stages {}", spec.name)),
        skip: if spec.tags { &CHECKED_HERE[1..] } else { &CHECKED_HERE },
    };
    problems.extend(validator.check(draft.node, &draft.place));
    problems.extend(max_rejected(draft.node, MaxRejected::default(), &draft.whose()).err());
    let settings = draft.node.entries().iter().filter(|(key, _)| !COMMON.contains(&key.name.as_str()));
    settings.filter(|(key, value)| validator.allows(&key.name, value)).map(|(key, _)| key.name.as_str()).collect()
}

/// Reads `max_rejected` of `node`: a share, or a text in percent.
pub(crate) fn max_rejected(node: &Node, default: MaxRejected, whose: &str) -> Result<MaxRejected, Problem> {
    let Some((key, found)) = node.entry("max_rejected") else { return Ok(default) };
    let share = match &found.value {
        Value::Broken => return Ok(default),
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::String(text) => {
            text.trim().strip_suffix('%').and_then(|text| text.trim().parse::<f64>().ok()).map(|percent| percent / 100.0)
        }
        _ => None,
    };
    share.filter(|share| (0.0..=1.0).contains(share)).map(|share| MaxRejected { share }).ok_or_else(|| {
        let place = if found.place.span.is_empty() { &key.place } else { &found.place };
        let problem = Problem::new(format!("{whose}: `max_rejected` must be a share of the rows, from 0 to 1 or from 0% to 100%"));
        problem.at(place, format!("found {}", found.found())).help("write `0.001` or `0.1%`".to_owned())
    })
}

/// What `from` names. Every reference that can't be resolved is a problem.
fn references(draft: &Draft<'_>, ids: &Ids, problems: &mut Vec<Problem>) -> Vec<(Port, Vec<Reference>)> {
    let Some(spec) = draft.spec else {
        // Its type is unknown, so nothing is known of its ports; but ids can be looked up.
        return draft.node.get("from").map(|from| by_port(draft, from, ids, problems)).unwrap_or_default();
    };
    match (draft.node.entry("from"), spec.inputs) {
        (None, Inputs::None) => Vec::new(),
        (Some((key, _)), Inputs::None) => {
            let why = if spec.kind == Kind::Source { "is a source" } else { "makes its rows" };
            let problem = Problem::new(format!("{} {why}: it reads no stage", draft.whose()));
            problems.push(problem.at(&key.place, "`from` has no meaning here").help("remove `from`".to_owned()));
            Vec::new()
        }
        (None, _) => {
            let problem = Problem::new(format!("{} needs `from`: the stage whose rows it reads", draft.whose()));
            let others = ids.others(draft);
            let help = if others.is_empty() {
                "the file has no other stage".to_owned()
            } else {
                format!("the other stages are {}", quoted(others))
            };
            problems.push(problem.at(&draft.place, "`from` is missing").help(help));
            Vec::new()
        }
        (Some((_, from)), Inputs::One) if matches!(from.value, Value::Map(_)) => {
            let problem = Problem::new(format!("{} has one input, so `from` is an id or a list of ids", draft.whose()));
            let place = from.entries().first().map_or(&from.place, |(key, _)| &key.place);
            problems.push(problem.at(place, "found a mapping"));
            Vec::new()
        }
        (Some((_, from)), _) => by_port(draft, from, ids, problems),
    }
}

fn by_port(draft: &Draft<'_>, from: &Node, ids: &Ids, problems: &mut Vec<Problem>) -> Vec<(Port, Vec<Reference>)> {
    let Value::Map(entries) = &from.value else {
        return vec![(Port::FROM, list(draft, from, ids, problems))];
    };
    if entries.is_empty() {
        problems.push(Problem::new(format!("{}: `from` names nothing", draft.whose())).at(&from.place, "empty"));
    }
    let mut ports = Vec::new();
    for (key, node) in entries {
        let is_name = key.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            let problem = Problem::new(format!("{}: `{}` can't name an input", draft.whose(), key.name.escape_debug()));
            problems.push(problem.at(&key.place, "not a name").help("a name has letters, digits and `_`".to_owned()));
        }
        ports.push((Port::named(&key.name), list(draft, node, ids, problems)));
    }
    ports
}

fn list(draft: &Draft<'_>, from: &Node, ids: &Ids, problems: &mut Vec<Problem>) -> Vec<Reference> {
    let items = match &from.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(from),
    };
    if items.is_empty() {
        problems.push(Problem::new(format!("{}: `from` names nothing", draft.whose())).at(&from.place, "empty"));
    }
    let mut seen = BTreeSet::new();
    let mut references = Vec::new();
    for item in items {
        let place = if item.place.span.is_empty() { draft.setting_place("from") } else { &item.place };
        let text = match &item.value {
            Value::Broken => continue,
            // An id may look like a number: `from: 2024`.
            Value::Int(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => {
                let problem = Problem::new(format!("{}: `from` must name a stage", draft.whose()));
                problems
                    .push(problem.at(place, format!("found {}", item.found())).help("write `from: id`, or `from: [id, id]`".to_owned()));
                continue;
            }
        };
        let (id, port) = text.split_once('.').map_or((text.as_str(), Port::OUT), |(id, port)| (id, Port::named(port)));
        let Some(stage) = ids.by_name.get(id).copied() else {
            problems.push(unknown_stage(draft, id, ids).at(place, "no such stage"));
            continue;
        };
        if seen.insert((stage, port.clone())) {
            references.push(Reference { stage, port, place: place.clone() });
        } else {
            let problem = Problem::new(format!("{} reads `{text}` twice", draft.whose()));
            problems.push(problem.at(place, "the second").help("remove one of them: every row would be there twice".to_owned()));
        }
    }
    references
}

fn unknown_stage(draft: &Draft<'_>, id: &str, ids: &Ids) -> Problem {
    let others = ids.others(draft);
    let help = did_you_mean(id, others.iter().copied()).unwrap_or_else(|| match others.as_slice() {
        [] => "the file has no other stage".to_owned(),
        others => format!("the other stages are {}", quoted(others.iter().copied())),
    });
    Problem::new(format!("{} reads `{}`, which is no stage of this file", draft.whose(), id.escape_debug())).help(help)
}

/// An order in which each stage comes after what it reads, otherwise that of the file. Stages in a cycle, and those behind one, are left out.
pub(crate) fn order(drafts: &[Draft<'_>], problems: &mut Vec<Problem>) -> Vec<usize> {
    let reads: Vec<BTreeSet<usize>> =
        drafts.iter().map(|draft| draft.from.iter().flat_map(|(_, all)| all).map(|reference| reference.stage).collect()).collect();
    let mut read_by = vec![Vec::new(); drafts.len()];
    for (stage, all) in reads.iter().enumerate() {
        for read in all {
            read_by[*read].push(stage);
        }
    }
    let mut missing: Vec<usize> = reads.iter().map(BTreeSet::len).collect();
    let mut next: BTreeSet<usize> = (0..drafts.len()).filter(|stage| missing[*stage] == 0).collect();
    let mut order = Vec::new();
    while let Some(stage) = next.pop_first() {
        order.push(stage);
        for reader in &read_by[stage] {
            missing[*reader] -= 1;
            if missing[*reader] == 0 {
                next.insert(*reader);
            }
        }
    }
    let mut left: BTreeSet<usize> = (0..drafts.len()).filter(|stage| missing[*stage] > 0).collect();
    while let Some(cycle) = find_cycle(&mut left, &reads) {
        problems.push(cycle_problem(&cycle, drafts));
        left.retain(|stage| !cycle.contains(stage));
    }
    order
}

/// A cycle among the stages `left`, in the direction of the rows; stages that are in none are removed on the way.
fn find_cycle(left: &mut BTreeSet<usize>, reads: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    loop {
        let mut path = vec![*left.first()?];
        loop {
            let last = path[path.len() - 1];
            let Some(next) = reads[last].iter().find(|read| left.contains(read)) else {
                // All it reads is in a cycle that was found, or behind one: it is in none of its own.
                left.remove(&last);
                break;
            };
            if let Some(start) = path.iter().position(|stage| stage == next) {
                let mut cycle = path.split_off(start);
                cycle.reverse();
                let first = cycle.iter().enumerate().min_by_key(|(_, stage)| **stage).map_or(0, |(at, _)| at);
                cycle.rotate_left(first);
                return Some(cycle);
            }
            path.push(*next);
        }
    }
}

fn cycle_problem(cycle: &[usize], drafts: &[Draft<'_>]) -> Problem {
    let chain: Vec<&str> = cycle.iter().chain(&cycle[..1]).map(|stage| drafts[*stage].id.as_str()).collect();
    let reference = |reader: usize, read: usize| {
        let all = drafts[reader].from.iter().flat_map(|(_, all)| all);
        all.into_iter().find(|reference| reference.stage == read).map_or(&drafts[reader].place, |reference| &reference.place)
    };
    // Rows go from each stage to the next one in the chain, and from the last to the first.
    let last = cycle[cycle.len() - 1];
    let mut problem = Problem::new(format!("the stages read each other in a circle: {}", chain.join(" -> ")));
    problem = problem.at(reference(cycle[0], last), format!("`{}` reads `{}`", drafts[cycle[0]].id, drafts[last].id));
    for pair in cycle.windows(2) {
        problem = problem.also_at(reference(pair[1], pair[0]), format!("`{}` reads `{}`", drafts[pair[1]].id, drafts[pair[0]].id));
    }
    problem.help("rows must come from a source: let one of them read something else".to_owned())
}
