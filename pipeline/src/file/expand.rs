//! `${NAME}` and `${NAME:-default}` in the scalars of a tree.

use std::collections::BTreeSet;

use super::node::{Node, Value, plain_scalar};
use super::problem::{Place, Problem, Sources};

/// Where the values of variables come from.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands the variables of every text in the tree, but for the secret ones, which are refused: what is expanded is written down in many places.
/// A text that can't be expanded becomes [`Value::Broken`].
pub(crate) fn expand(node: &mut Node, env: Lookup<'_>, secret: &BTreeSet<String>, sources: &Sources, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| expand(item, env, secret, sources, problems)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| expand(value, env, secret, sources, problems)),
        Value::String(text) if text.contains("${") => match expand_text(text, env, secret) {
            Ok(Expanded { text, whole }) => node.value = if whole && node.plain { plain_scalar(&text) } else { Value::String(text) },
            Err(wrong) => {
                problems.push(wrong.problem(&node.place, sources));
                node.value = Value::Broken;
            }
        },
        _ => {}
    }
}

struct Expanded {
    text: String,
    /// Whether the text was one variable and nothing else.
    whole: bool,
}

/// Why a variable can't be expanded.
struct Wrong {
    /// The part of the text that is wrong.
    part: String,
    message: String,
    help: String,
}

impl Wrong {
    fn problem(self, node: &Place, sources: &Sources) -> Problem {
        // The part stands in the source as it is, unless escapes or line folding hide it.
        let start = sources.text(node).find(&self.part);
        let place = start.map_or_else(
            || node.clone(),
            |start| Place::new(node.source, node.span.start + start..node.span.start + start + self.part.len()),
        );
        Problem::new(self.message).at(&place, "here").help(self.help)
    }
}

/// A text with its variables expanded, where it can be.
pub(crate) fn expanded(text: &str, env: Lookup<'_>) -> Option<String> {
    expand_text(text, env, &BTreeSet::new()).ok().map(|expanded| expanded.text)
}

fn expand_text(text: &str, env: Lookup<'_>, secret: &BTreeSet<String>) -> Result<Expanded, Wrong> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    let mut whole = false;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // `$${` is a `${` that stays.
            expanded.push_str(&rest[..at - 1]);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = inside.find('}') else {
            return Err(Wrong {
                part: rest[at..].to_owned(),
                message: "a `${` is not closed".to_owned(),
                help: "write `${NAME}` or `${NAME:-default}`; `$${` is a `${` that stays as it is".to_owned(),
            });
        };
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let part = &rest[at..=at + 2 + end];
        if secret.contains(name) {
            return Err(Wrong {
                part: part.to_owned(),
                message: format!("the variable `{name}` holds a key of `llms`, and would be written down with what it is put into"),
                help: "a key is only named, in `api_key_env` or `headers_env`; take another variable here".to_owned(),
            });
        }
        let value = lookup(part, name, default, env)?;
        expanded.push_str(&value);
        whole = part.len() == text.len();
        rest = &inside[end + 1..];
    }
    expanded.push_str(rest);
    Ok(Expanded { text: expanded, whole })
}

fn lookup(part: &str, name: &str, default: Option<&str>, env: Lookup<'_>) -> Result<String, Wrong> {
    let is_name =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(Wrong {
            part: part.to_owned(),
            message: format!("`{}` names no variable", part.escape_debug()),
            help: "a name has letters, digits and `_`: `${NAME}` or `${NAME:-default}`; `$${` is a `${` that stays as it is".to_owned(),
        });
    }
    // As in a shell, `:-` also replaces an empty value.
    match (env(name).filter(|value| default.is_none() || !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Wrong {
            part: part.to_owned(),
            message: format!("the variable `{name}` is not set"),
            help: format!("set it (`{name}=… pipeline …`), or give a default: `${{{name}:-default}}`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "N" => Some("12".to_owned()),
            "DIR" => Some("/data".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand_text(text, &env, &BTreeSet::new()).map(|expanded| expanded.text).map_err(|wrong| wrong.message)
    }

    #[test]
    fn variables_are_replaced_by_their_values() {
        assert_eq!(expanded("${DIR}/a-${N}.jsonl").as_deref(), Ok("/data/a-12.jsonl"));
        assert_eq!(expanded("${EMPTY}").as_deref(), Ok(""));
    }

    #[test]
    fn a_default_stands_in_for_an_unset_or_empty_variable() {
        assert_eq!(expanded("${NO:-a b}").as_deref(), Ok("a b"));
        assert_eq!(expanded("${EMPTY:-x}").as_deref(), Ok("x"));
        assert_eq!(expanded("${N:-x}").as_deref(), Ok("12"));
        assert_eq!(expanded("${NO:-}").as_deref(), Ok(""));
    }

    #[test]
    fn a_doubled_dollar_keeps_the_braces() {
        assert_eq!(expanded("$${N} $N {N} $").as_deref(), Ok("${N} $N {N} $"));
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        let env = |_: &str| Some("${N}".to_owned());
        assert_eq!(expand_text("${A}", &env, &BTreeSet::new()).map(|expanded| expanded.text).ok().as_deref(), Some("${N}"));
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        assert_eq!(expanded("${NO}"), Err("the variable `NO` is not set".to_owned()));
        assert_eq!(expanded("${N"), Err("a `${` is not closed".to_owned()));
        assert_eq!(expanded("${}"), Err("`${}` names no variable".to_owned()));
        assert_eq!(expanded("${a-b}"), Err("`${a-b}` names no variable".to_owned()));
    }
}
