//! The pipeline file: YAML text becomes a tree of nodes with places, the tree is checked as a whole, and the graph is built from it.

mod build;
mod draft;
mod expand;
mod models;
mod node;
mod output;
mod problem;
mod room;
mod schema;
mod set;
#[cfg(test)]
mod tests;
mod validate;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stages::registry::{STAGES, StageSpec};

pub(crate) use problem::nearest;
pub use problem::{Problem, Problems};
pub(crate) use schema::stage_schema;
pub(crate) use validate::{number_text, wanted};

use crate::device::{DeviceWish, LazyDevice};
use crate::graph::{Checkpoints, Graph, MaxRejected};
use build::Builder;
use models::Models;
use node::{MAX_BYTES, Node, Value};
use problem::{Place, Sources};
use validate::Validator;

/// What the command line says about reading a pipeline file.
pub struct LoadOptions {
    /// The `--set a.b.c=value` arguments, in order.
    pub sets: Vec<String>,
    /// Where `${NAME}` gets its value; by default from the environment.
    pub env: Env,
    /// What stages that run kernels run them on; opened if there is such a stage.
    pub device: DeviceWish,
    /// Only so many rows of each source are read, and made by stages that make rows.
    pub limit: Option<u64>,
    /// Where the keys of models are looked up, if they are going to be asked: then those must be there, and answers must have a place.
    pub keys: Option<Env>,
}

/// The value of a variable, if it is set.
pub type Env = Box<dyn Fn(&str) -> Option<String>>;

impl Default for LoadOptions {
    fn default() -> Self {
        Self { sets: Vec::new(), env: Box::new(|name| std::env::var(name).ok()), device: DeviceWish::default(), limit: None, keys: None }
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions").field("sets", &self.sets).finish_non_exhaustive()
    }
}

/// Reads, checks and builds the pipeline file at `path`.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Graph, Problems> {
    let text = read(path).map_err(|problem| {
        let nothing = Arc::new(Sources::new(path, "", &[]));
        Problems::new(path, &nothing, vec![problem])
    })?;
    load_text(path, &text, options)
}

/// Checks and builds a pipeline file that was read before; `path` is where it lies.
///
/// # Errors
/// All that is wrong with it.
pub fn load_text(path: &Path, text: &str, options: &LoadOptions) -> Result<Graph, Problems> {
    load_with(path, text, options, STAGES)
}

/// The JSON Schema of a pipeline file, for editors.
pub fn file_schema() -> serde_json::Value {
    schema::file_schema(STAGES)
}

/// The settings of a stage written in flow style: an `EXAMPLE` of the table.
pub(crate) fn example_settings(example: &str) -> Option<serde_json::Value> {
    let node = node::parse(example, 0, 0).ok()?;
    let settings = node.entries().iter().filter(|(key, _)| !schema::COMMON.contains(&key.name.as_str()));
    Some(settings.map(|(key, value)| (key.name.clone(), value.to_json())).collect())
}

/// The same with another table of stage types.
pub(crate) fn load_with(path: &Path, text: &str, options: &LoadOptions, table: &'static [StageSpec]) -> Result<Graph, Problems> {
    let sources = Arc::new(Sources::new(path, text, &options.sets));
    let mut problems = Vec::new();
    let file = File { path, text, options, table, sources: &sources, variables: RefCell::default(), hidden: RefCell::default() };
    let graph = file.graph(&mut problems);
    match graph {
        Some(graph) if problems.is_empty() => Ok(graph),
        _ => {
            let problems = problems.into_iter().map(|problem| problem.without(models::secrets_in)).collect();
            Err(Problems::new(path, &Arc::new(sources.without(&file.hidden.take(), models::secrets_in)), problems))
        }
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let wrong = |why: &dyn fmt::Display| Problem::new(format!("can't read the pipeline file {}: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| {
        let hint = (error.kind() == std::io::ErrorKind::NotFound).then(|| "`pipeline init` writes one to start from".to_owned());
        wrong(&error).help(hint)
    })?;
    if metadata.is_dir() {
        return Err(wrong(&"it is a folder"));
    }
    // Pipes and devices do not say how much they hold, and some never end.
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| wrong(&error))?;
    if bytes.len() > MAX_BYTES {
        return Err(wrong(&format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        let at = error.utf8_error().valid_up_to();
        wrong(&format!("byte {at}, in line {line}, is not UTF-8")).help("save it as UTF-8".to_owned())
    })
}

/// One file on its way to a graph.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    options: &'a LoadOptions,
    table: &'static [StageSpec],
    sources: &'a Sources,
    /// The variables it names, and what they were.
    variables: RefCell<BTreeMap<String, String>>,
    /// Where secrets stand that nobody is shown.
    hidden: RefCell<Vec<Place>>,
}

impl File<'_> {
    fn graph(&self, problems: &mut Vec<Problem>) -> Option<Graph> {
        let root = self.tree(problems)?;
        let start = Place::new(0, 0..0);
        let Value::Map(_) = root.value else {
            let found = if root.value == Value::Null { "the file is empty" } else { "the file must be a mapping" };
            let problem = Problem::new(format!("{found}: a pipeline needs `version`, `name` and `stages`"));
            problems.push(problem.at(&start, "").help("`pipeline init` writes one to start from".to_owned()));
            return None;
        };
        check_version(&root, problems);
        let schema = schema::top_schema();
        let validator = Validator { root: &schema, whose: "the file".to_owned(), manual: None, skip: &["version", "max_rejected", "llms"] };
        problems.extend(validator.check(&root, &start));
        let max_rejected = draft::max_rejected(&root, MaxRejected::default(), "the file").unwrap_or_else(|problem| {
            problems.push(problem);
            MaxRejected::default()
        });
        let base_dir = output::clean(self.path.parent().unwrap_or(Path::new("")));
        let name = root.get("name").and_then(Node::as_str).unwrap_or_default().to_owned();
        let output = output_folder(&root, &name, &base_dir, problems);
        let seed = root.get("seed").and_then(|seed| seed.to_json().as_u64()).unwrap_or_default();
        let write = root.get("write").map(Node::to_json).unwrap_or_default();
        let checkpoints = root.get("checkpoints").map(Node::to_json).and_then(|value| serde_json::from_value(value).ok());

        let drafts = root.get("stages").map(|stages| draft::drafts(stages, self.table, problems)).unwrap_or_default();
        let order = draft::order(&drafts, problems);
        let dropped = root.get("dropped").and_then(|mode| serde_json::from_value(mode.to_json()).ok()).unwrap_or_default();
        let sources = self.sources;
        let models = Models::read(&root, problems);
        self.hidden.replace(models.hidden.iter().cloned().chain(models::named_secrets(&root)).collect());
        let (device, limit) = (LazyDevice::new(&self.options.device), self.options.limit);
        let output_path = output.as_deref();
        let builder = Builder {
            base_dir: &base_dir,
            seed,
            output: output_path,
            write: &write,
            max_rejected,
            dropped,
            sources,
            device: &device,
            llms: &models.llms,
            limit,
        };
        let nodes = builder.build(&drafts, &order, problems);
        let notes = models.check(&nodes, nodes.len() == drafts.len(), self.options.keys.as_ref(), problems);
        let asks = nodes.iter().any(|node| !node.models.is_empty());
        let answers = models::answers_folder(&root, &base_dir, output_path, asks && self.options.keys.is_some(), problems);
        Some(Graph {
            name,
            file: self.path.to_owned(),
            text: self.text.to_owned(),
            sets: self.options.sets.clone(),
            variables: self.variables.take(),
            seed,
            output: output?,
            checkpoints: checkpoints.unwrap_or(Checkpoints::Fast),
            device: device.opened(),
            llms: models.llms,
            answers,
            notes,
            nodes,
        })
    }

    /// The file's tree, edited and expanded.
    fn tree(&self, problems: &mut Vec<Problem>) -> Option<Node> {
        let mut root = node::parse(self.text, 0, 0).map_err(|wrong| problems.extend(wrong)).ok()?;
        if let Value::Map(_) = root.value {
            for (index, set) in self.options.sets.iter().enumerate() {
                set::apply(&mut root, set, index + 1, problems);
            }
        }
        let look_up = |name: &str| {
            let value = (self.options.env)(name)?;
            self.variables.borrow_mut().insert(name.to_owned(), value.clone());
            Some(value)
        };
        let secret = models::secret_variables(&root, &*self.options.env);
        expand::expand(&mut root, &look_up, &secret, self.sources, problems);
        Some(root)
    }
}

fn check_version(root: &Node, problems: &mut Vec<Problem>) {
    match root.entry("version") {
        None => {
            let problem = Problem::new("the file needs `version`");
            problems.push(problem.at(&Place::new(0, 0..0), "").help("write `version: 1` in its first line".to_owned()));
        }
        Some((_, node)) if matches!(node.value, Value::Int(1) | Value::Broken) => {}
        Some((key, node)) => {
            let place = if node.place.span.is_empty() { &key.place } else { &node.place };
            let problem = Problem::new("this program reads version 1 of the pipeline file");
            problems.push(problem.at(place, format!("found {}", node.found())).help("write `version: 1`".to_owned()));
        }
    }
}

/// The output folder, if it can be told.
fn output_folder(root: &Node, name: &str, base_dir: &Path, problems: &mut Vec<Problem>) -> Option<PathBuf> {
    let entry = root.entry("output").or_else(|| root.entry("name"));
    let (key, node) = entry?;
    let place = if node.place.span.is_empty() { &key.place } else { &node.place };
    let text = match key.name.as_str() {
        "output" => node.as_str().filter(|text| !text.is_empty())?.to_owned(),
        _ if name.is_empty() => return None,
        _ if name.contains(['/', '\\']) || name.starts_with('.') => {
            let problem = Problem::new(format!("the name `{}` can't be a folder's name", name.escape_debug()));
            let help = "the output is `out/<name>`: choose another name, or say `output`".to_owned();
            problems.push(problem.at(place, "here").help(help));
            return None;
        }
        _ => format!("out/{name}"),
    };
    let output = output::resolve(&text, base_dir, place).map_err(|problem| problems.push(problem)).ok()?;
    if output::real(base_dir).starts_with(output::real(&output)) {
        let problem = Problem::new("the pipeline file lies in its own output folder");
        problems.push(problem.at(place, output.display().to_string()).help("name a folder of its own for the output".to_owned()));
        return None;
    }
    if let Some(why) = output::write_problem(&output) {
        let problem = Problem::new(format!("can't write to the output folder {}", output.display()));
        problems.push(problem.at(place, why).help("name a folder that you can write to".to_owned()));
        return None;
    }
    Some(output)
}
