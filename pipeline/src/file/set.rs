//! `--set a.b.c=value`: edits of the tree from the command line.

use super::node::{Key, Node, Value, parse};
use super::problem::{Place, Problem, did_you_mean, quoted};

/// Applies `--set` number `source` (from 1) to the tree.
pub(crate) fn apply(root: &mut Node, set: &str, source: usize, problems: &mut Vec<Problem>) {
    let whole = Place::new(source, 0..set.len());
    let Some((path, text)) = set.split_once('=') else {
        let problem = Problem::new(format!("`--set {}` has no `=`", set.escape_debug()));
        problems.push(problem.at(&whole, "here").help("write `--set stages.unique.jaccard_threshold=0.7`".to_owned()));
        return;
    };
    match value(text, source, path.len() + 1) {
        Ok(value) => {
            if let Err(problem) = put(root, path, source, value) {
                problems.push(problem);
            }
        }
        Err(wrong) => problems.extend(wrong),
    }
}

/// The value of a `--set`: a YAML scalar, or a list or mapping in brackets. What is neither is the text as it stands, so that `*.jsonl`
/// needs no second pair of quotes inside those of the shell.
fn value(text: &str, source: usize, offset: usize) -> Result<Node, Vec<Problem>> {
    let must_parse = text.trim_start().starts_with(['[', '{', '"', '\'']);
    let as_text = || Node { value: Value::String(text.to_owned()), place: Place::new(source, offset..offset + text.len()), plain: true };
    match parse(text, source, offset) {
        Err(problems) if must_parse => Err(problems),
        Err(_) => Ok(as_text()),
        Ok(Node { value: Value::List(_) | Value::Map(_), .. }) if !must_parse => Ok(as_text()),
        Ok(Node { value: Value::Null, .. }) if text.trim_start().starts_with('#') => Ok(as_text()),
        Ok(node) => Ok(node),
    }
}

fn put(root: &mut Node, path: &str, source: usize, value: Node) -> Result<(), Problem> {
    let mut node = root;
    let mut start = 0;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let place = Place::new(source, start..start + part.len());
        let parent = if start == 0 { "the file" } else { &path[..start - 1] };
        let is_last = parts.peek().is_none();
        start += part.len() + 1;
        if part.is_empty() {
            let problem = Problem::new(format!("`--set {path}` has an empty name"));
            return Err(problem.at(&place, "a name is missing here"));
        }
        let found = node.found();
        node = match &mut node.value {
            Value::Map(entries) => {
                let position = match entries.iter().position(|(key, _)| key.name == part) {
                    Some(position) => position,
                    None if is_last => {
                        entries.push((Key { name: part.to_owned(), place }, value));
                        return Ok(());
                    }
                    None => {
                        let names: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
                        return Err(missing(part, parent, &names).at(&place, "not in the file"));
                    }
                };
                &mut entries[position].1
            }
            Value::List(items) => {
                let count = items.len();
                let item = part.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                item.ok_or_else(|| {
                    let problem = Problem::new(format!("`{parent}` has no item `{part}`"));
                    problem.at(&place, "not in the list").help(format!("it has {count} items, counted from 0"))
                })?
            }
            _ => {
                let problem = Problem::new(format!("`{parent}` is {found}, so it has no `{part}`"));
                return Err(problem.at(&place, "nothing to set here"));
            }
        };
    }
    *node = value;
    Ok(())
}

fn missing(part: &str, parent: &str, names: &[&str]) -> Problem {
    let parent = if parent == "the file" { parent.to_owned() } else { format!("`{parent}`") };
    let help = did_you_mean(part, names.iter().copied()).unwrap_or_else(|| match names {
        [] => "there is nothing in it".to_owned(),
        names => format!("it has {}", quoted(names.iter().copied())),
    });
    Problem::new(format!("{parent} has no `{part}`")).help(help)
}
