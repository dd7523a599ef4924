//! The entries of `llms`, and the folder where answers are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use datasets::remote::Address;
use serde_json::{Map, Value as Json};
use stages::StageError;
use stages::llm::{LlmSettings, Llms};

use super::Env;
use super::expand::expanded;
use super::node::{Key, Node, Value};
use super::output::{clean, real, write_problem};
use super::problem::{Place, Problem};
use super::validate::Validator;
use crate::graph;

/// The models of a file, as far as their entries can be read.
pub(crate) struct Models<'n> {
    /// All of them. One that is wrong is among them, for stages name it and are not wrong.
    pub(crate) llms: Llms,
    /// What is not as one would want it, by model.
    warnings: BTreeMap<String, Vec<String>>,
    entries: &'n [(Key, Node)],
    /// Texts that may be secrets: nobody is shown them.
    pub(crate) hidden: Vec<Place>,
}

impl<'n> Models<'n> {
    /// Reads `llms`.
    pub(crate) fn read(root: &'n Node, problems: &mut Vec<Problem>) -> Self {
        let mut models = Self { llms: Llms::default(), warnings: BTreeMap::new(), entries: &[], hidden: Vec::new() };
        let Some((key, node)) = root.entry("llms") else { return models };
        if !matches!(node.value, Value::Map(_) | Value::Broken) {
            let place = if node.place.span.is_empty() { &key.place } else { &node.place };
            let help = "write `llms: {local: {endpoint: \"http://127.0.0.1:8080/v1\", model: …}}`".to_owned();
            problems.push(
                Problem::new("`llms` must be a mapping, from names to models").at(place, format!("found {}", node.found())).help(help),
            );
            return models;
        }
        models.entries = node.entries();
        let schema = schemars::schema_for!(LlmSettings).to_value();
        let entry = |(key, node): &(Key, Node)| (key.name.clone(), models_entry(key, node, &schema, &mut models.warnings, problems));
        models.llms = Llms::new(node.entries().iter().map(entry));
        for (key, node) in node.entries() {
            let whose = whose(&key.name);
            for (setting, value) in variables(node) {
                models.hidden.extend(secret_problem(&whose, &setting, value, problems));
            }
            models.hidden.extend(urls(node).filter(|url| url.as_str().is_some_and(holds_secret)).map(|url| url.place.clone()));
            find_secrets(node, &mut Vec::new(), &mut |path, value| {
                let problem = Problem::new(format!("{whose}: `{path}` looks like a key, which has no place in a file that others read"));
                let help = "put it into a variable, and name that: `api_key_env: NAME`, or `headers_env: {HEADER: NAME}`".to_owned();
                problems.push(problem.at(&value.place, "not shown").help(help));
                models.hidden.push(value.place.clone());
            });
        }
        models
    }

    /// Checks those that stages ask for what is needed to ask them, where `keys` knows variables; what is worth knowing of all of them.
    pub(crate) fn check(&self, nodes: &[graph::Node], complete: bool, keys: Option<&Env>, problems: &mut Vec<Problem>) -> Vec<String> {
        let asked: BTreeSet<&str> = nodes.iter().flat_map(|node| &node.models).map(|model| model.name.as_str()).collect();
        let mut notes = Vec::new();
        for (key, node) in self.entries {
            if !asked.contains(key.name.as_str()) {
                if complete {
                    notes.push(format!("{}: no stage asks it", whose(&key.name)));
                }
                continue;
            }
            notes.extend(self.warnings.get(&key.name).into_iter().flatten().map(|warning| format!("{}: {warning}", whose(&key.name))));
            let Some(keys) = keys else { continue };
            for (setting, value) in variables(node) {
                let Some(name) = value.as_str().filter(|name| !is_secret(name) && is_variable(name)) else { continue };
                if keys(name).is_none_or(|value| value.trim().is_empty()) {
                    let problem = Problem::new(format!("{}: the variable `{name}` of `{setting}` is not set", whose(&key.name)));
                    let help = format!("set it: `export {name}=…`; `run --offline-llm` asks nobody, and needs none");
                    problems.push(problem.at(&value.place, "names a variable that is not there").help(help));
                }
            }
        }
        notes
    }
}

fn whose(name: &str) -> String {
    format!("`llms.{}`", name.escape_debug())
}

/// One entry; of one that is wrong only its name counts.
fn models_entry(
    key: &Key,
    node: &Node,
    schema: &Json,
    warnings: &mut BTreeMap<String, Vec<String>>,
    problems: &mut Vec<Problem>,
) -> LlmSettings {
    let (whose, before) = (whose(&key.name), problems.len());
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.name.chars().all(is_name) || !key.name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        let problem = Problem::new(format!("`{}` can't be the name of a model", key.name.escape_debug()));
        problems.push(problem.at(&key.place, "here").help("take letters, digits, `_` and `-`, a letter or digit first".to_owned()));
    }
    let validator = Validator { root: schema, whose: whose.clone(), manual: None, skip: &[] };
    problems.extend(validator.check(node, &key.place));
    let wrong = || LlmSettings::of_model("");
    if problems.len() > before || node.is_broken() {
        return wrong();
    }
    let json = node.to_json();
    let settings = match serde_json::from_value::<LlmSettings>(json.clone()) {
        Ok(settings) => settings,
        Err(error) => {
            // Serde does not say where: read alone, a setting with a wrong value is refused for that value.
            let alone = |name: &str| {
                let mut alone = Map::from_iter([("model".to_owned(), Json::from("x"))]);
                alone.insert(name.to_owned(), json[name].clone());
                serde_json::from_value::<LlmSettings>(Json::Object(alone)).err()
            };
            for (setting, _) in node.entries() {
                if let Some(error) = alone(&setting.name) {
                    let problem = Problem::new(format!("{whose}: `{}` can't be used: {error}", setting.name));
                    problems.push(problem.at(node.place_of(&key.place, &setting.name), "here"));
                }
            }
            if problems.len() == before {
                problems.push(Problem::new(format!("{whose} can't be read: {error}")).at(&key.place, "here"));
            }
            return wrong();
        }
    };
    for error in settings.problems() {
        let (setting, problem, help) = match error {
            StageError::Setting { setting, problem, help } => (setting, problem, help),
            error => (String::new(), error.to_string(), None),
        };
        let label = if setting.is_empty() { "here".to_owned() } else { format!("`{setting}`") };
        problems.push(Problem::new(format!("{whose}: {problem}")).at(node.place_of(&key.place, &setting), label).help(help));
    }
    warnings.insert(key.name.clone(), settings.warnings());
    settings
}

/// The URLs of an entry.
fn urls(node: &Node) -> impl Iterator<Item = &Node> {
    node.get("endpoint").into_iter().flat_map(|endpoint| std::iter::once(endpoint).chain(endpoint.items()))
}

/// Whether a URL names a user or a password, or has parameters, any of which may be a key; it is not shown then.
fn holds_secret(url: &str) -> bool {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let host = address.split_once("://").map_or(address, |(_, rest)| rest).split('/').next().unwrap_or_default();
    host.contains('@') || parameters.contains('=')
}

/// The variables that hold keys of models, by the file before its variables are expanded. Their names may be told, their values nowhere.
pub(crate) fn secret_variables(root: &Node, env: &dyn Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let entries = root.get("llms").map(Node::entries).unwrap_or_default();
    let named = entries.iter().flat_map(|(_, entry)| variables(entry)).filter_map(|(_, value)| value.as_str());
    named.filter_map(|text| expanded(text, env)).collect()
}

/// Where values stand that are secrets by what they are called, wherever somebody wrote them.
pub(crate) fn named_secrets(root: &Node) -> Vec<Place> {
    fn find(node: &Node, found: &mut Vec<Place>) {
        for (key, value) in node.entries() {
            match &value.value {
                Value::Map(_) | Value::List(_) => find(value, found),
                Value::Null | Value::Bool(_) | Value::Broken => {}
                _ if is_named_secret(&key.name) => found.push(value.place.clone()),
                _ => {}
            }
        }
        node.items().iter().for_each(|item| find(item, found));
    }
    let mut found = Vec::new();
    find(root, &mut found);
    found
}

/// Whether what is called so is a secret, and not the name of a variable that holds one.
fn is_named_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    !name.ends_with("_env") && ["api_key", "apikey", "authorization", "password", "secret"].iter().any(|wanted| name.contains(wanted))
}

/// Where in any text there is something that looks like a key, or the user and password of a URL.
pub(crate) fn secrets_in(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let host = &text[start..];
        let host = &host[..host.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'')).unwrap_or(host.len())];
        found.extend(host.rfind('@').map(|end| start..start + end));
    }
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut at = 0;
    for word in text.split(|c: char| !is_of_key(c)) {
        let looks_random = word.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
        if word.len() >= 12 && looks_random && BEGIN.iter().any(|begin| word.starts_with(begin)) {
            found.push(at..at + word.len());
        }
        at += word.len();
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    found
}

/// The settings of an entry that name variables.
fn variables(node: &Node) -> Vec<(String, &Node)> {
    let key = node.get("api_key_env").map(|value| ("api_key_env".to_owned(), value));
    let headers = node.get("headers_env").map(Node::entries).unwrap_or_default();
    key.into_iter().chain(headers.iter().map(|(key, value)| (format!("headers_env.{}", key.name), value))).collect()
}

/// Where a secret stands in place of the name of a variable.
fn secret_problem(whose: &str, setting: &str, value: &Node, problems: &mut Vec<Problem>) -> Option<Place> {
    let text = value.as_str()?;
    if !is_secret(text) && is_variable(text) {
        return None;
    }
    // What cannot be a name may be the secret itself, and is not repeated.
    let problem = Problem::new(format!(
        "{whose}: `{setting}` wants the name of a variable, and what stands there is none; it is not shown, for it may be a secret"
    ));
    let help =
        "put the secret into a variable, `export LLM_KEY=…`, and write `LLM_KEY` here; a secret that stood in a file should be changed"
            .to_owned();
    problems.push(problem.at(&value.place, "not shown").help(help));
    Some(value.place.clone())
}

/// Whether a variable may be called so.
fn is_variable(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// How the keys of well-known services begin, and what stands before a key in a header.
const BEGIN: [&str; 12] = ["sk-", "sk_", "rk_", "hf_", "gsk_", "AIza", "xai-", "r8_", "nvapi-", "Bearer ", "bearer ", "Basic "];

/// Whether a text looks like a key.
fn is_secret(text: &str) -> bool {
    let text = text.trim();
    let is_mixed = text.contains(|c: char| c.is_ascii_digit()) && text.contains(|c: char| c.is_ascii_lowercase());
    let begins = BEGIN.iter().any(|begin| text.starts_with(begin)) && text.len() >= 12;
    begins || (text.len() >= 24 && is_mixed && text.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Tells of all texts of an entry that look like keys, wherever they stand, but for those that are looked at by themselves.
fn find_secrets<'n>(node: &'n Node, path: &mut Vec<String>, tell: &mut dyn FnMut(String, &'n Node)) {
    for (key, value) in node.entries() {
        let by_itself = path.is_empty() && matches!(key.name.as_str(), "api_key_env" | "headers_env" | "revision" | "model");
        if by_itself {
            continue;
        }
        path.push(key.name.clone());
        match value.as_str() {
            Some(text) if is_secret(text) || (is_named_secret(&key.name) && !text.is_empty()) => tell(path.join("."), value),
            _ => find_secrets(value, path, tell),
        }
        path.pop();
    }
    for item in node.items() {
        match item.as_str() {
            Some(text) if is_secret(text) => tell(path.join("."), item),
            _ => find_secrets(item, path, tell),
        }
    }
}

/// The folder where answers are kept: what `answers` says, or `.answers` beside the output, or in `base_dir` for an output that is no folder
/// here. `writes` is whether there are going to be any.
pub(crate) fn answers_folder(root: &Node, base_dir: &Path, output: Option<&Path>, writes: bool, problems: &mut Vec<Problem>) -> PathBuf {
    let beside = output.filter(|output| Address::of(output).is_none()).and_then(Path::parent).unwrap_or(base_dir);
    let entry = root.entry("answers").and_then(|(key, node)| Some((key, node, node.as_str().filter(|text| !text.is_empty())?)));
    let Some((key, node, text)) = entry else {
        let folder = beside.join(".answers");
        if let Some(why) = write_problem(&folder).filter(|_| writes) {
            let problem = Problem::new(format!("can't keep the answers of models in {}: {why}", folder.display()));
            problems.push(problem.help("let `answers` name a folder that you can write to".to_owned()));
        }
        return folder;
    };
    let place = if node.place.span.is_empty() { &key.place } else { &node.place };
    if Address::parse(text).is_some() {
        let problem = Problem::new("answers are kept in a folder, where each is safe before the next is asked for");
        problems.push(problem.at(place, "found an address").help("name a folder that all who work on this output see".to_owned()));
        return beside.join(".answers");
    }
    let folder = clean(&base_dir.join(text));
    if output.is_some_and(|output| Address::of(output).is_none() && real(&folder).starts_with(real(output))) {
        let problem = Problem::new("`answers` lies in the output folder, and has to outlive it: answers were paid for");
        problems.push(problem.at(place, "inside the output").help("name a folder beside the output".to_owned()));
    } else if let Some(why) = write_problem(&folder).filter(|_| writes) {
        let problem = Problem::new(format!("can't keep the answers of models in {}", folder.display()));
        problems.push(problem.at(place, why).help("name a folder that you can write to".to_owned()));
    }
    folder
}

#[cfg(test)]
mod tests;
