//! YAML text as a tree of nodes, each with its place.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MessageFormatter, NonFiniteFloatPolicy, Options, Spanned, UserMessageFormatter};

use super::problem::{Place, Problem};

/// A pipeline file is written by hand; more than this is something else, given by mistake.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Characters of what the parser says that are shown.
const MAX_MESSAGE: usize = 200;

/// Deepest nesting of lists and mappings. The parser takes up to 40 KiB of stack a level, and a thread may have no more than 2 MiB.
const MAX_DEPTH: usize = 24;

/// A value of the file and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) value: Value,
    /// Where it stands; of a block list or mapping, its first entry's line.
    pub(crate) place: Place,
    /// Whether a string was written without quotes: `${X}` there may become a number.
    pub(crate) plain: bool,
}

/// The value of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// A text whose variables could not be expanded: reported already, so any check passes it, and its stage is not built.
    Broken,
}

/// A key of a mapping and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl Node {
    /// Where an error about what stands at `path` below it (`a.b`, `a[1].b`) is shown, as near as there is something; `own` is the place of
    /// its key.
    pub(crate) fn place_of<'n>(&'n self, own: &'n Place, path: &str) -> &'n Place {
        let (mut node, mut place) = (self, own);
        // `a[1].b` is `b` of the second item of `a`.
        for part in path.split(['.', '[']) {
            let item = part.strip_suffix(']').and_then(|index| node.items().get(index.parse::<usize>().ok()?));
            let Some((key_place, value)) =
                item.map(|item| (&item.place, item)).or_else(|| node.entry(part).map(|(key, value)| (&key.place, value)))
            else {
                break;
            };
            place = if value.place.span.is_empty() { key_place } else { &value.place };
            node = value;
        }
        place
    }

    /// The entries of a mapping; none if it is something else.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none if it is something else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The value under `key` of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// The key and the value under `key` of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Key, Node)> {
        self.entries().iter().find(|(name, _)| name.name == key)
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What the value is, for a message: `text "abc"`, `the number 3`.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Null | Value::Broken => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::String(text) => format!("text {}", short(text)),
            Value::List(items) if items.is_empty() => "an empty list".to_owned(),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) if entries.is_empty() => "an empty mapping".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// Whether a part of it could not be expanded.
    pub(crate) fn is_broken(&self) -> bool {
        match &self.value {
            Value::Broken => true,
            Value::List(items) => items.iter().any(Node::is_broken),
            Value::Map(entries) => entries.iter().any(|(_, node)| node.is_broken()),
            _ => false,
        }
    }

    /// The value as JSON.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null | Value::Broken => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => Json::from(*value as f64),
            },
            Value::Float(value) => Json::from(*value),
            Value::String(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect(),
        }
    }
}

/// `text` in quotes, cut to what fits in a message.
pub(crate) fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Reads YAML text. `source` and `offset` tell where it stands, see [`Place`].
///
/// # Errors
/// The first thing that is no YAML, or every key that stands twice.
pub(crate) fn parse(text: &str, source: usize, offset: usize) -> Result<Node, Vec<Problem>> {
    if text.len() > MAX_BYTES {
        return Err(vec![Problem::new(format!("a pipeline file may not be larger than {} MiB", MAX_BYTES >> 20))]);
    }
    let read = serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options());
    let raw = read.map_err(|error| vec![yaml_problem(&error, text, source, offset)])?;
    let mut problems = Vec::new();
    let node = Placer { text, source, offset, problems: &mut problems }.node(raw, 0..text.len());
    if problems.is_empty() { Ok(node) } else { Err(problems) }
}

/// The scalar that `text` is when it stands without quotes.
pub(crate) fn plain_scalar(text: &str) -> Value {
    let might_be_typed = text.len() < 40 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-~".contains(&byte));
    if text.trim().is_empty() {
        return Value::Null;
    }
    if !might_be_typed {
        return Value::String(text.to_owned());
    }
    match serde_saphyr::from_str_with_options::<Raw>(text, options()) {
        Ok(Raw::Null) => Value::Null,
        Ok(Raw::Bool(value)) => Value::Bool(value),
        Ok(Raw::Int(value)) => Value::Int(value),
        Ok(Raw::Float(value)) => Value::Float(value),
        _ => Value::String(text.to_owned()),
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // Found by `Placer`, which knows both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // YAML 1.2: `no` is a language, `0755` and `1_000` are texts.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        with_snippet: false,
    }
}

/// What serde makes of a node.
#[derive(Debug)]
enum Raw {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let depth = DEPTH.get();
        // The parser's own limit counts an alias as one level, whatever it stands for.
        if depth > MAX_DEPTH {
            return Err(serde::de::Error::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        DEPTH.set(depth + 1);
        let raw = deserializer.deserialize_any(RawVisitor);
        DEPTH.set(depth);
        raw
    }
}

thread_local! {
    /// How deep in the document this thread is; an `impl Deserialize` has no other way to know.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

/// Turns what serde read into nodes with places, and finds keys that stand twice.
struct Placer<'a> {
    text: &'a str,
    source: usize,
    offset: usize,
    problems: &'a mut Vec<Problem>,
}

impl Placer<'_> {
    fn node(&mut self, raw: Spanned<Raw>, around: Range<usize>) -> Node {
        let span = span_of(raw.defined, self.text).or_else(|| span_of(raw.referenced, self.text)).unwrap_or(around);
        let plain = self.is_plain(&span);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(value),
            Raw::Float(value) => Value::Float(value),
            Raw::String(text) => Value::String(text),
            Raw::List(items) => Value::List(items.into_iter().map(|item| self.node(item, span.clone())).collect()),
            Raw::Map(entries) => Value::Map(self.entries(entries, &span)),
        };
        Node { value, place: self.place(span), plain }
    }

    fn entries(&mut self, entries: Vec<(Spanned<String>, Spanned<Raw>)>, around: &Range<usize>) -> Vec<(Key, Node)> {
        let mut places = std::collections::HashMap::new();
        let mut all = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let span = span_of(name.defined, self.text).unwrap_or_else(|| around.clone());
            let place = self.place(span.clone());
            let node = self.node(value, span);
            if let Some(first) = places.get(&name.value) {
                let problem = Problem::new(format!("key `{}` stands twice", name.value.escape_debug()));
                self.problems
                    .push(problem.at(&place, "the second").also_at(first, "the first").help("rename or remove one of them".to_owned()));
            } else {
                places.insert(name.value.clone(), place.clone());
                all.push((Key { name: name.value, place }, node));
            }
        }
        all
    }

    /// Whether a scalar at `span` was written without quotes and not as a block (`|`, `>`).
    fn is_plain(&self, span: &Range<usize>) -> bool {
        let before = &self.text[..span.start];
        let (head, indent) = before.rsplit_once('\n').unwrap_or(("", before));
        let in_block = indent.trim().is_empty() && head.split_whitespace().next_back().is_some_and(|last| last.starts_with(['|', '>']));
        !in_block && !self.text[span.clone()].starts_with(['"', '\''])
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.source, span.start + self.offset..span.end + self.offset)
    }
}

/// The bytes of a location that lie on its first line; `None` if it is unknown.
fn span_of(location: Location, text: &str) -> Option<Range<usize>> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let len = usize::try_from(location.span().byte_len()?).ok()?;
    let covered = text.get(start..start.checked_add(len)?.min(text.len()))?;
    let line = covered.lines().next().unwrap_or_default().trim_end();
    Some(start..start + line.len())
}

fn yaml_problem(error: &Error, text: &str, source: usize, offset: usize) -> Problem {
    let mut error = error.without_snippet();
    while let Error::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    let at =
        error.location().map_or(text.len()..text.len(), |location| span_of(location, text).unwrap_or_else(|| point_of(location, text)));
    let what = match error {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::AliasReplayLimitExceeded { max_total_replayed_events, .. } => {
            format!("its aliases (`*name`) stand for more than {max_total_replayed_events} values")
        }
        error => match UserMessageFormatter.format_message(error) {
            // The scanner's own limit, which is the same, for `[` and `{`.
            message if message == "recursion limit exceeded" => too_deep(),
            // It may quote a value, which may be of any length.
            message => message.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect(),
        },
    };
    let place = Place::new(source, at.start + offset..at.end + offset);
    let whose = if source == 0 { "the file" } else { "the value of --set" };
    Problem::new(format!("{whose} is no valid YAML: {what}")).at(&place, "here").help(hint(error, text, at.start))
}

fn too_deep() -> String {
    format!("lists and mappings are nested deeper than {MAX_DEPTH} levels")
}

/// The character at a location of which only line and column are known. What was found missing at the end is shown after the last word.
fn point_of(location: Location, text: &str) -> Range<usize> {
    let (Ok(line), Ok(column)) = (usize::try_from(location.line()), usize::try_from(location.column())) else { return 0..0 };
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let skipped: usize = text[start..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let at = start + skipped;
    match text[at..].chars().next() {
        Some(c) if !matches!(c, '\r' | '\n') => at..at + c.len_utf8(),
        _ => {
            let end = text[..at].trim_end().len();
            end..end
        }
    }
}

/// What the reader probably did.
fn hint(error: &Error, text: &str, at: usize) -> Option<String> {
    if matches!(error, Error::MultipleDocuments { .. }) {
        return Some("a pipeline file is one document: split it into two files, or remove the `---`".to_owned());
    }
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let line = &text[start..end];
    if has_bare_variable(line) {
        return Some("quote it: inside `{…}` and `[…]`, YAML reads the braces of `${NAME}` itself, so write \"${NAME}\"".to_owned());
    }
    if line[..at - start].trim().is_empty() && line.contains('\t') {
        return Some("indent with spaces: YAML does not allow tabs there".to_owned());
    }
    None
}

/// Whether `line` has a `${` outside quotes.
fn has_bare_variable(line: &str) -> bool {
    let mut quote = None;
    let mut before = ' ';
    for c in line.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '{') if before == '$' => return true,
            _ => {}
        }
        before = c;
    }
    false
}
