//! Builds the stages in order: schemas on every edge, settings read by serde, inputs looked up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datasets::{DataError, WriteSettings};
use schemas::{ColumnSpec, SchemaError};
use serde_json::Value as Json;
use stages::llm::{LlmName, Llms};
use stages::registry::{AnyConfig, StageSpec};
use stages::{BuildContext, Outputs, Port, Source, Stage, StageError};

use super::draft::{Draft, Reference, max_rejected};
use super::node::{Node as Tree, Value};
use super::output::{could_match_inside, input_path, real};
use super::problem::{Place, Problem, Sources, did_you_mean, quoted};
use super::room;
use crate::device::LazyDevice;
use crate::expect::{BOUNDS, Bound};
use crate::graph::{AskedModel, DroppedRows, Edge, MaxRejected, Node, NodeInput, OnFail};
use crate::inputs::hash_file;

/// What all stages are built with.
pub(crate) struct Builder<'a> {
    pub(crate) base_dir: &'a Path,
    pub(crate) seed: u64,
    pub(crate) output: Option<&'a Path>,
    pub(crate) write: &'a Json,
    pub(crate) max_rejected: MaxRejected,
    pub(crate) dropped: DroppedRows,
    pub(crate) sources: &'a Sources,
    pub(crate) device: &'a LazyDevice<'a>,
    /// The models that stages may ask.
    pub(crate) llms: &'a Llms,
    /// Only so many rows of what a stage makes.
    pub(crate) limit: Option<u64>,
}

impl Builder<'_> {
    /// Builds what can be built of `drafts`, in `order`. What is missing in the result has its problem in `problems`, or reads something
    /// that has.
    pub(crate) fn build(&self, drafts: &[Draft<'_>], order: &[usize], problems: &mut Vec<Problem>) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        // Where a draft is among the nodes.
        let mut built: Vec<Option<usize>> = vec![None; drafts.len()];
        for index in order {
            let draft = &drafts[*index];
            if let Some(node) = self.stage(draft, &built, &nodes, problems) {
                built[*index] = Some(nodes.len());
                nodes.push(node);
            }
        }
        self.check_places(drafts, problems);
        nodes
    }

    /// Checks that what stages add to is theirs alone, and no part of the output.
    fn check_places(&self, drafts: &[Draft<'_>], problems: &mut Vec<Problem>) {
        let mut taken: Vec<(PathBuf, &Place)> = Vec::new();
        for draft in drafts {
            for name in draft.spec.map_or(&[][..], |spec| spec.places) {
                let Some(value) = draft.node.get(name) else { continue };
                let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { continue };
                let path = input_path(self.base_dir, text);
                let whose = draft.whose();
                if self.output.is_some_and(|output| path.starts_with(real(output))) {
                    let problem = Problem::new(format!("{whose}: `{name}` lies in the output folder, and has to outlive it"));
                    problems.push(problem.at(&value.place, "inside the output").help("name a folder beside the output".to_owned()));
                } else if let Some((_, first)) = taken.iter().find(|(other, _)| *other == path) {
                    let problem =
                        Problem::new(format!("{whose} adds to what another stage adds to, so that neither sees what the other adds"));
                    let help = format!("give each a `{name}` of its own, or let one stage read both: `from: [a, b]`");
                    problems.push(problem.at(&value.place, "the same place").also_at(first, "named here first").help(help));
                } else {
                    taken.push((path, &value.place));
                }
            }
        }
    }

    fn stage(&self, draft: &Draft<'_>, built: &[Option<usize>], nodes: &[Node], problems: &mut Vec<Problem>) -> Option<Node> {
        let spec = draft.spec?;
        // Its settings are read even when its inputs failed: their problems are its own.
        let config = config(draft, spec, problems);
        check_bounds(draft, problems);
        let inputs = self.inputs(draft, built, nodes, problems)?;
        let config = config?;
        let schemas = inputs.iter().map(|input| (input.port.clone(), Arc::clone(&input.schema))).collect();
        let mut cx = BuildContext::new(&draft.id, self.base_dir, self.seed, schemas);
        // With a limit fewer come than a setting is meant for.
        cx.input_rows = if self.limit.is_some() { None } else { rows_that_come(&inputs, nodes) };
        cx.llms = self.llms.clone();
        let before = problems.len();
        for input in &inputs {
            problems.extend(config.reads().iter().filter_map(|column| column_problem(draft, input, column)));
        }
        if problems.len() > before {
            return None;
        }
        let own = config.outputs(&cx).map_err(|error| problems.push(self.stage_problem(draft, error))).ok()?;
        // The stage gives what it always gives; what tags are made of is behind it.
        cx.outputs = Some(own.clone());
        let outputs = tagged(draft, own).map_err(|problem| problems.push(problem)).ok();
        if let Some(outputs) = &outputs {
            check_expected_columns(draft, outputs, problems);
        }
        if spec.uses_device {
            match self.device.get() {
                Ok(device) => cx.device = device,
                Err(error) => {
                    let problem = error.map(|error| {
                        Problem::new(format!("{} runs kernels: {}", draft.whose(), error.problem))
                            .at(&draft.place, "needs a device")
                            .help(error.help)
                    });
                    problems.extend(problem);
                    return None;
                }
            }
        }
        let built = config.build(&cx).and_then(|stage| Ok((stage, config.settings()?, hashes(config.files(&cx)?)?)));
        let model = |(setting, name): (&'static str, &LlmName)| {
            Some(AskedModel { setting, name: name.0.clone(), identity: self.llms.get(&name.0)?.identity().to_owned() })
        };
        let models = config.llms().into_iter().filter_map(model).collect();
        let (stage, settings, files) = built.map_err(|error| problems.push(self.stage_problem(draft, error))).ok()?;
        if let Stage::Source(source) = &stage
            && let Some(problem) = self.input_problem(draft, source.as_ref())
        {
            problems.push(problem);
        }
        let makes = config.makes(&cx).map(|makes| room::within(makes, self.limit));
        if let (Some(makes), Some(output)) = (&makes, self.output)
            && let Some((problem, help)) = room::too_much(makes, output)
        {
            let place = draft.setting_place(makes.setting);
            problems.push(Problem::new(format!("{}: {problem}", draft.whose())).at(place, format!("`{}`", makes.setting)).help(help));
        }
        let outputs = outputs?;
        let expect = draft.node.get("expect").and_then(|expect| serde_json::from_value(expect.to_json()).ok()).unwrap_or_default();
        Some(Node {
            id: draft.id.clone(),
            spec,
            settings,
            files,
            models,
            inputs: inputs.into_iter().map(|input| NodeInput { port: input.port, from: input.edges }).collect(),
            outputs,
            stage,
            makes,
            keep: draft.node.get("keep").is_some_and(|keep| keep.value == Value::Bool(true)),
            write: write_settings(self.write, draft.node.get("write")),
            max_rejected: max_rejected(draft.node, self.max_rejected, "").unwrap_or(self.max_rejected),
            expect,
            dropped: draft.node.get("dropped").and_then(|mode| serde_json::from_value(mode.to_json()).ok()).unwrap_or(self.dropped),
            notes: cx.take_notes(),
        })
    }

    /// The schema of each input port; `None` if one of them is not known.
    fn inputs(&self, draft: &Draft<'_>, built: &[Option<usize>], nodes: &[Node], problems: &mut Vec<Problem>) -> Option<Vec<Input>> {
        let mut inputs = Vec::new();
        let mut complete = true;
        for (port, references) in &draft.from {
            let mut edges: Vec<Edge> = Vec::new();
            let mut schemas: Vec<(&Reference, &SchemaRef)> = Vec::new();
            for reference in references {
                let Some(node) = built[reference.stage] else {
                    complete = false;
                    continue;
                };
                if let Some(schema) = nodes[node].outputs.get(&reference.port) {
                    edges.push(Edge { node, port: reference.port.clone() });
                    schemas.push((reference, schema));
                } else {
                    problems.push(port_problem(draft, &nodes[node], reference));
                    complete = false;
                }
            }
            let names: Vec<String> = schemas.iter().map(|(reference, _)| self.sources.text(&reference.place).to_owned()).collect();
            match concatenated(draft, &schemas, &names) {
                Ok(Some(schema)) => {
                    let place = schemas.first().map_or(&draft.place, |(reference, _)| &reference.place).clone();
                    inputs.push(Input { port: port.clone(), edges, schema, place });
                }
                Ok(None) => complete = false,
                Err(problem) => {
                    problems.push(problem);
                    complete = false;
                }
            }
        }
        complete.then_some(inputs)
    }

    /// What a stage said against its settings or its input, at its place.
    fn stage_problem(&self, draft: &Draft<'_>, error: StageError) -> Problem {
        let whose = draft.whose();
        match error {
            StageError::Setting { setting, problem, help } => {
                let place = draft.setting_place(&setting);
                Problem::new(format!("{whose}: {problem}")).at(place, format!("`{setting}`")).help(help.or_else(|| draft.spec.map(manual)))
            }
            StageError::Data(DataError::Setting { setting, problem }) => {
                Problem::new(format!("{whose}: {problem}")).at(draft.setting_place(setting), format!("`{setting}`"))
            }
            StageError::Schema(error) => {
                let help = match &error {
                    SchemaError::Clash { column } => {
                        Some(format!("rename or remove `{column}` before this stage, with `sql` for instance"))
                    }
                    _ => None,
                };
                Problem::new(format!("{whose} {error}")).at(draft.setting_place("from"), "its input").help(help)
            }
            StageError::Data(DataError::NoMatch { pattern, nearest }) => {
                let problem = Problem::new(format!("{whose} finds no input: no file matches {pattern}"));
                let near = nearest.map(|name| format!("did you mean {name}?"));
                let help =
                    near.unwrap_or_else(|| format!("relative paths begin at the pipeline file's folder, {}", self.base_dir.display()));
                problem.at(self.path_place(draft, Path::new(&pattern)), "no such file").help(help)
            }
            error => {
                let path = match &error {
                    StageError::Input { path, .. } | StageError::Data(DataError::Io { path, .. } | DataError::Format { path, .. }) => {
                        Some(path)
                    }
                    _ => None,
                };
                let place = path.map_or(&draft.place, |path| self.path_place(draft, path));
                Problem::new(format!("{whose}: {error}")).at(place, "here")
            }
        }
    }

    /// The setting that names `path`: a text that is this path, else the setting `path`, else the stage's id.
    fn path_place<'d>(&self, draft: &'d Draft<'_>, path: &Path) -> &'d Place {
        let names = |text: &str| Path::new(text) == path || self.base_dir.join(text) == path || real(&self.base_dir.join(text)) == path;
        find_text(draft.node, &names).unwrap_or_else(|| draft.setting_place("path"))
    }

    /// What is wrong with the files of a source: none there, or mixed with the output.
    fn input_problem(&self, draft: &Draft<'_>, source: &dyn Source) -> Option<Problem> {
        let splits = match source.splits() {
            Ok(splits) => splits,
            Err(error) => return Some(self.stage_problem(draft, error)),
        };
        let output = real(self.output?);
        let inside = |path: &PathBuf| real(path).starts_with(&output);
        // One file of each folder tells as much as all of them.
        let mut folders = std::collections::BTreeSet::new();
        let mut files = splits.iter().flat_map(|split| &split.files).map(|file| &file.path);
        let nested = files.find(|path| folders.insert(path.parent().map(Path::to_owned)) && inside(path));
        let help = "let `output` name a folder that no stage reads from".to_owned();
        if let Some(path) = nested {
            let problem = Problem::new(format!("{} reads {}, which lies in the output folder", draft.whose(), path.display()));
            return Some(problem.at(self.path_place(draft, path), "inside the output").help(help));
        }
        let text = texts(draft.node.get("path")?).find(|(text, _)| could_match_inside(&input_path(self.base_dir, text), &output));
        text.map(|(text, place)| {
            let problem = Problem::new(format!("{} would read the output of this pipeline: {text} reaches into it", draft.whose()));
            problem.at(place, format!("the output is {}", output.display())).help(help)
        })
    }
}

/// The content hashes of files, with their names.
fn hashes(files: Vec<(String, PathBuf)>) -> Result<Vec<(String, String)>, StageError> {
    let hash = |(name, path): (String, PathBuf)| match hash_file(&path) {
        Ok(hash) => Ok((name, hash)),
        Err(error) => Err(StageError::Input { problem: error.to_string(), path }),
    };
    files.into_iter().map(hash).collect()
}

/// Reads the settings of a stage. Of one that failed its schema, the settings that passed are still read, for what serde finds in them.
fn config(draft: &Draft<'_>, spec: &'static StageSpec, problems: &mut Vec<Problem>) -> Option<Box<dyn AnyConfig>> {
    let settings = draft.settings();
    let error = match spec.parse(settings.clone()) {
        Ok(config) if draft.connected && !draft.node.is_broken() => return Some(config),
        Ok(_) => return None,
        Err(error) => error,
    };
    // Serde does not say where. Read alone, a setting with a wrong value is refused for that value, before the others are missed.
    let mut found = !draft.sound;
    for name in &draft.valid {
        let alone = Json::Object([((*name).to_owned(), settings[*name].clone())].into_iter().collect());
        if let Err(error) = spec.parse(alone)
            && !error.to_string().starts_with("missing field")
        {
            let problem = Problem::new(format!("{}: `{name}` can't be used: {error}", draft.whose()));
            problems.push(problem.at(draft.setting_place(name), "here").help(manual(spec)));
            found = true;
        }
    }
    if !found {
        let problem = Problem::new(format!("{} can't read its settings: {error}", draft.whose()));
        problems.push(problem.at(&draft.place, "here").help(manual(spec)));
    }
    None
}

/// What leaves a stage: what it gives, or with `on_fail: tag` all of its rows, tagged.
fn tagged(draft: &Draft<'_>, outputs: Outputs) -> Result<Outputs, Problem> {
    let is_tag = |value: &Tree| serde_json::from_value(value.to_json()).ok() == Some(OnFail::Tag);
    let entry = draft.node.entry("on_fail").filter(|(_, value)| is_tag(value) && draft.spec.is_some_and(|spec| spec.tags));
    let Some((on_fail, _)) = entry else { return Ok(outputs) };
    let whose = draft.whose();
    if let Some((dropped, _)) = draft.node.entry("dropped") {
        let problem = Problem::new(format!("{whose} drops no row: with `on_fail: tag` all stay, so `dropped` has no meaning"));
        return Err(problem
            .at(&dropped.place, "of rows that are dropped")
            .also_at(&on_fail.place, "none is")
            .help("remove one of them".to_owned()));
    }
    if !outputs.can_tag() {
        let (why, help) = match outputs.get(&Port::DROPPED) {
            Some(_) => (
                "what it drops, as it is set here, has no place among the rows it gives",
                format!("read them by `from: {}.dropped`", draft.id),
            ),
            None => (
                "as it is set here, it drops none",
                format!("`pipeline stages {}` says when it drops rows", draft.spec.map_or("", |spec| spec.name)),
            ),
        };
        return Err(Problem::new(format!("{whose} can't tag rows: {why}")).at(&on_fail.place, "no row to tag").help(help));
    }
    outputs.tagged(&draft.id).map_err(|error| {
        let help = "the columns are called by the stage's id: choose another id, or rename the column before this stage".to_owned();
        Problem::new(format!("{whose} {error}")).at(&on_fail.place, "adds what the stage says of each row").help(help)
    })
}

/// Checks the bounds of `expect`. Its shape was checked against the schema.
fn check_bounds(draft: &Draft<'_>, problems: &mut Vec<Problem>) {
    for (key, value) in draft.node.get("expect").map(Tree::entries).unwrap_or_default() {
        let text = value.as_str().filter(|_| BOUNDS.contains(&key.name.as_str()));
        let problem = |why: &str| Problem::new(format!("{}: `{}`: {why}", draft.whose(), key.name));
        match text.map(|text| Bound::try_from(text.to_owned())) {
            Some(Err(error)) => problems.push(problem(&error).at(&value.place, "no bound")),
            Some(Ok(bound)) => {
                let pointless = bound.pointless(&key.name);
                problems.extend(pointless.map(|(why, help)| problem(why).at(&value.place, "says nothing").help(help)));
            }
            None => {}
        }
    }
}

/// Checks that a stage with these outputs gives the columns of which `expect` says something.
fn check_expected_columns(draft: &Draft<'_>, outputs: &Outputs, problems: &mut Vec<Problem>) {
    let (Some(node), Some(schema)) = (draft.node.get("expect"), outputs.get(&Port::OUT)) else { return };
    for column in node.get("not_null").into_iter().flat_map(Tree::items) {
        let Some(name) = column.as_str().filter(|name| schema.field_with_name(name).is_err()) else { continue };
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let help = did_you_mean(name, names.clone()).unwrap_or_else(|| format!("it has {}", quoted(names)));
        let problem = Problem::new(format!("{} expects something of `{name}`, a column it does not give", draft.whose()));
        problems.push(problem.at(&column.place, "no such column").help(help));
    }
}

/// One input port, resolved.
struct Input {
    port: Port,
    edges: Vec<Edge>,
    schema: SchemaRef,
    /// Where the file names what it reads.
    place: Place,
}

fn manual(spec: &'static StageSpec) -> String {
    format!("`pipeline stages {}` explains its settings", spec.name)
}

fn port_problem(draft: &Draft<'_>, node: &Node, reference: &Reference) -> Problem {
    let ports: Vec<&str> = node.outputs.iter().map(|(port, _)| port.as_str()).collect();
    let id = &node.id;
    let near = did_you_mean(reference.port.as_str(), ports.iter().copied());
    let has = format!("`{id}` ({}) has {}", node.spec.name, quoted(ports.iter().copied()));
    let help = if reference.port == Port::REJECTED {
        format!("what was rejected is kept under `rejected/{id}`; no stage reads it")
    } else if reference.port == Port::DROPPED && node.outputs.is_tagged() {
        let [reason, ..] = schemas::dropped::tags(id);
        format!("`{id}` has `on_fail: tag`: read `{id}`, in which `{}` says why it would have dropped a row", reason.name)
    } else {
        near.map_or(has.clone(), |near| format!("{near} {has}"))
    };
    let problem = Problem::new(format!("{} reads `{id}.{}`, an output that `{id}` does not have", draft.whose(), reference.port));
    problem.at(&reference.place, "no such output").help(help)
}

fn column_problem(draft: &Draft<'_>, input: &Input, column: &ColumnSpec) -> Option<Problem> {
    let error = column.check(&input.schema).err()?;
    let names = || input.schema.fields().iter().map(|field| field.name().as_str());
    let help = match input.schema.field_with_name(&column.name) {
        Ok(field) => format!("`{}` is there as {}; `sql` can cast it", column.name, field.data_type()),
        Err(_) => did_you_mean(&column.name, names()).unwrap_or_else(|| format!("`{}` is {}", column.name, column.description)),
    };
    let problem = Problem::new(format!("{} {error}", draft.whose()));
    Some(problem.at(&input.place, format!("has no `{}: {}`", column.name, column.data_type)).help(help))
}

/// How many rows come in at most, where all stages before say how many they make.
fn rows_that_come(inputs: &[Input], nodes: &[Node]) -> Option<u64> {
    let made = |edge: &Edge| nodes[edge.node].makes.as_ref().filter(|_| edge.port == Port::OUT).map(|makes| makes.rows);
    let edges = inputs.iter().flat_map(|input| &input.edges);
    edges.map(made).try_fold(0, |sum: u64, rows| Some(sum.saturating_add(rows?))).filter(|_| !inputs.is_empty())
}

/// The schema of inputs read one after the other: same names and types in the same order; a column may hold nulls if it may in one of them.
fn concatenated(draft: &Draft<'_>, schemas: &[(&Reference, &SchemaRef)], names: &[String]) -> Result<Option<SchemaRef>, Problem> {
    let Some(((first_reference, first), rest)) = schemas.split_first() else { return Ok(None) };
    let mut fields: Vec<Arc<Field>> = first.fields().iter().cloned().collect();
    for ((reference, schema), name) in rest.iter().zip(names.iter().skip(1)) {
        let agree = schema.fields().len() == fields.len()
            && schema.fields().iter().zip(&fields).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        if !agree {
            let problem = Problem::new(format!("{} reads one after the other what has different columns", draft.whose()));
            let first_name = names.first().map_or("", String::as_str);
            let help = format!("`{first_name}` has {}\n`{name}` has {}\n`sql` makes them agree", columns(first), columns(schema));
            return Err(problem
                .at(&reference.place, differences(schema, &fields))
                .also_at(&first_reference.place, "the columns it must have".to_owned())
                .help(help));
        }
        for (field, other) in fields.iter_mut().zip(schema.fields()) {
            if other.is_nullable() && !field.is_nullable() {
                *field = Arc::new(field.as_ref().clone().with_nullable(true));
            }
        }
    }
    Ok(Some(Arc::new(Schema::new_with_metadata(fields, first.metadata().clone()))))
}

fn differences(schema: &Schema, wanted: &[Arc<Field>]) -> String {
    let lacks = wanted.iter().find(|field| schema.field_with_name(field.name()).is_err());
    let other = wanted.iter().find(|field| schema.field_with_name(field.name()).is_ok_and(|found| found.data_type() != field.data_type()));
    let more = schema.fields().iter().find(|field| !wanted.iter().any(|wanted| wanted.name() == field.name()));
    match (lacks, other, more) {
        (Some(field), _, _) => format!("has no `{}`", field.name()),
        (None, Some(field), _) => format!("`{}` has another type", field.name()),
        (None, None, Some(field)) => format!("has `{}` too", field.name()),
        (None, None, None) => "has them in another order".to_owned(),
    }
}

/// The columns of a schema as messages show them.
fn columns(schema: &Schema) -> String {
    if schema.fields().is_empty() {
        return "no columns".to_owned();
    }
    schema.fields().iter().map(|field| format!("`{}: {}`", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}

/// How a stage's output is written: its own `write` over that of the file. Both were checked against their schema.
fn write_settings(file: &Json, own: Option<&Tree>) -> WriteSettings {
    let mut merged = file.as_object().cloned().unwrap_or_default();
    if let Some(Json::Object(own)) = own.map(Tree::to_json) {
        merged.extend(own);
    }
    serde_json::from_value(Json::Object(merged)).unwrap_or_default()
}

/// The texts of a setting: itself, or the items of a list.
fn texts(node: &Tree) -> Box<dyn Iterator<Item = (&str, &Place)> + '_> {
    match &node.value {
        Value::String(text) => Box::new(std::iter::once((text.as_str(), &node.place))),
        Value::List(items) => Box::new(items.iter().flat_map(texts)),
        _ => Box::new(std::iter::empty()),
    }
}

fn find_text<'n>(node: &'n Tree, wanted: &dyn Fn(&str) -> bool) -> Option<&'n Place> {
    match &node.value {
        Value::String(text) => wanted(text).then_some(&node.place),
        Value::List(items) => items.iter().find_map(|item| find_text(item, wanted)),
        Value::Map(entries) => entries.iter().find_map(|(_, value)| find_text(value, wanted)),
        _ => None,
    }
}
