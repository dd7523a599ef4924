//! Checks a tree against a JSON Schema, so that all errors are told at once, each at its place.
//!
//! Knows what schemars writes for the settings of stages. What it does not know (`pattern`, say) is left to serde, which reads the
//! settings afterwards.

use serde_json::{Map, Value as Json};

use super::node::{Node, Value, short};
use super::problem::{Place, Problem, did_you_mean, nearest, quoted};

/// What a tree is checked against.
pub(crate) struct Validator<'a> {
    /// The schema's root, for `$ref`.
    pub(crate) root: &'a Json,
    /// How the tree is called in messages: ``stage `unique` (dedup_exact)``.
    pub(crate) whose: String,
    /// Where all names are listed: a command.
    pub(crate) manual: Option<String>,
    /// Keys of the root that someone else checks.
    pub(crate) skip: &'a [&'a str],
}

/// How many `$ref` and `anyOf` may be followed without going down in the tree: a schema may not lead in a circle.
const MAX_STEPS: usize = 32;

impl Validator<'_> {
    /// All that is wrong with `node`, which stands under a key at `key`.
    pub(crate) fn check(&self, node: &Node, key: &Place) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.node(self.root, &At { node, key, path: "" }, MAX_STEPS, &mut problems);
        problems
    }

    /// Whether the value under `name` of the root is as its schema wants it, whatever is wrong with the others.
    pub(crate) fn allows(&self, name: &str, value: &Node) -> bool {
        let mut problems = Vec::new();
        let schema = &self.root["properties"][name];
        self.node(schema, &At { node: value, key: &value.place, path: name }, MAX_STEPS, &mut problems);
        schema.is_object() && problems.is_empty() && !value.is_broken()
    }

    fn node(&self, schema: &Json, at: &At<'_>, steps: usize, problems: &mut Vec<Problem>) {
        let (Some(schema), Some(steps)) = (schema.as_object(), steps.checked_sub(1)) else { return };
        if matches!(at.node.value, Value::Broken) {
            return;
        }
        if let Some(target) = schema.get("$ref").and_then(|target| self.resolve(target)) {
            self.node(target, at, steps, problems);
        }
        for all in schema.get("allOf").and_then(Json::as_array).into_iter().flatten() {
            self.node(all, at, steps, problems);
        }
        if let Some(alternatives) = alternatives(schema) {
            self.one_of(alternatives, at, steps, problems);
        }
        if let Some(wanted) = schema.get("const")
            && !same(&at.node.value, wanted)
        {
            problems.push(self.wrong(at, &json_text(wanted)));
            return;
        }
        if let Some(wanted) = schema.get("enum").and_then(Json::as_array)
            && !wanted.iter().any(|wanted| same(&at.node.value, wanted))
        {
            problems.push(self.not_among(at, &wanted.iter().collect::<Vec<_>>()));
            return;
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|name| is_type(at.node, name)) {
            problems.push(self.wrong(at, &self.wanted(schema, MAX_STEPS)));
            return;
        }
        match &at.node.value {
            Value::Int(value) => self.number(schema, *value as f64, at, problems),
            Value::Float(value) => self.number(schema, *value, at, problems),
            Value::String(text) => self.text(schema, text, at, problems),
            Value::List(items) => self.list(schema, items, at, problems),
            Value::Map(_) => self.mapping(schema, at, problems),
            Value::Null | Value::Bool(_) | Value::Broken => {}
        }
    }

    fn resolve(&self, target: &Json) -> Option<&Json> {
        self.root.pointer(target.as_str()?.strip_prefix('#')?)
    }

    fn number(&self, schema: &Map<String, Json>, value: f64, at: &At<'_>, problems: &mut Vec<Problem>) {
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        let inside = bound("minimum").is_none_or(|bound| value >= bound)
            && bound("maximum").is_none_or(|bound| value <= bound)
            && bound("exclusiveMinimum").is_none_or(|bound| value > bound)
            && bound("exclusiveMaximum").is_none_or(|bound| value < bound);
        let most = match schema.get("format").and_then(Json::as_str) {
            Some("uint32") => Some(u32::MAX),
            _ => None,
        };
        if !inside {
            problems.push(self.wrong(at, &self.wanted(schema, MAX_STEPS)));
        } else if let Some(most) = most.filter(|most| value > f64::from(*most)) {
            problems.push(self.wrong(at, &format!("a whole number of at most {most}")));
        }
    }

    fn text(&self, schema: &Map<String, Json>, text: &str, at: &At<'_>, problems: &mut Vec<Problem>) {
        let length = text.chars().count() as u64;
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
        if let Some(least) = bound("minLength").filter(|least| length < *least) {
            let wanted = if least == 1 { "a text that is not empty".to_owned() } else { format!("a text of at least {least} characters") };
            problems.push(self.wrong(at, &wanted));
        } else if let Some(most) = bound("maxLength").filter(|most| length > *most) {
            problems.push(self.wrong(at, &format!("a text of at most {most} characters")));
        }
    }

    fn list(&self, schema: &Map<String, Json>, items: &[Node], at: &At<'_>, problems: &mut Vec<Problem>) {
        let count = items.len() as u64;
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
        if let Some(least) = bound("minItems").filter(|least| count < *least) {
            problems.push(self.wrong(at, &format!("a list of at least {least}")));
        } else if let Some(most) = bound("maxItems").filter(|most| count > *most) {
            problems.push(self.wrong(at, &format!("a list of at most {most}")));
        }
        let first = schema.get("prefixItems").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| schema.get("items")) {
                let path = format!("{}[{index}]", at.path);
                self.node(schema, &At { node: item, key: &item.place, path: &path }, MAX_STEPS, problems);
            }
        }
    }

    fn mapping(&self, schema: &Map<String, Json>, at: &At<'_>, problems: &mut Vec<Problem>) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let skipped = |name: &str| at.path.is_empty() && self.skip.contains(&name);
        for (key, value) in at.node.entries() {
            let path = at.below(&key.name);
            if skipped(&key.name) {
                continue;
            }
            let below = At { node: value, key: &key.place, path: &path };
            match (properties.and_then(|properties| properties.get(&key.name)), schema.get("additionalProperties")) {
                (None, Some(Json::Bool(false))) => problems.push(self.unknown(&key.name, &path, &key.place, properties)),
                (Some(schema), _) | (None, Some(schema)) => self.node(schema, &below, MAX_STEPS, problems),
                (None, None) => {}
            }
        }
        let least = schema.get("minProperties").and_then(Json::as_u64).unwrap_or_default();
        if (at.node.entries().len() as u64) < least {
            problems.push(self.wrong(at, "a mapping that is not empty"));
        }
        // A name that is missing because it was mistyped is told once: at the typo.
        let unknown = at.node.entries().iter().filter(|(key, _)| !properties.is_some_and(|all| all.contains_key(&key.name)));
        let all_names = || properties.into_iter().flatten().map(|(name, _)| name.as_str());
        let meant: Vec<&str> = unknown.filter_map(|(key, _)| nearest(&key.name, all_names())).collect();
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if skipped(name) || at.node.get(name).is_some() || meant.contains(&name) {
                continue;
            }
            let about = properties.and_then(|properties| properties.get(name));
            let wanted = about.and_then(Json::as_object).map(|schema| self.wanted(schema, MAX_STEPS));
            let description = about.and_then(|schema| schema["description"].as_str()).and_then(|text| text.lines().next());
            let help = match (wanted.filter(|wanted| !wanted.is_empty()), description) {
                (Some(wanted), Some(description)) => Some(format!("`{name}` is {wanted}: {description}")),
                (Some(wanted), None) => Some(format!("`{name}` is {wanted}")),
                (None, description) => description.map(str::to_owned),
            };
            let problem = Problem::new(format!("{} needs `{}`", self.whose, at.below(name)));
            problems.push(problem.at(at.key, format!("`{name}` is missing")).help(help));
        }
    }

    fn one_of(&self, alternatives: &[Json], at: &At<'_>, steps: usize, problems: &mut Vec<Problem>) {
        let mut failed = Vec::new();
        for alternative in alternatives {
            let mut wrong = Vec::new();
            self.node(alternative, at, steps, &mut wrong);
            if wrong.is_empty() {
                return;
            }
            failed.push((self.follow(alternative), wrong));
        }
        // What is told is what is wrong with the alternative that was meant: the only one of the value's type, or the one with its tag.
        let mut meant: Vec<usize> = (0..failed.len()).filter(|index| is_meant(failed[*index].0, at.node)).collect();
        if meant.len() > 1 {
            meant.retain(|index| {
                let mut required = failed[*index].0["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
                required.all(|name| at.node.get(name).is_some())
            });
        }
        if let [only] = meant.as_slice() {
            problems.append(&mut failed[*only].1);
            return;
        }
        let mut values = Vec::new();
        if alternatives.iter().all(|alternative| self.values(alternative, &mut values, steps)) {
            problems.push(self.not_among(at, &values));
            return;
        }
        let mut wanted: Vec<String> = Vec::new();
        for (schema, _) in &failed {
            let one = schema.as_object().map(|schema| self.wanted(schema, steps)).unwrap_or_default();
            if !one.is_empty() && !wanted.contains(&one) && one != "nothing" {
                wanted.push(one);
            }
        }
        problems.push(self.wrong(at, &wanted.join(", or ")));
    }

    /// The schema that `$ref`s lead to.
    fn follow<'s>(&'s self, mut schema: &'s Json) -> &'s Json {
        for _ in 0..MAX_STEPS {
            match schema.get("$ref").and_then(|target| self.resolve(target)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// Collects the values that a schema of `const`s and `enum`s allows; false if it allows others.
    fn values<'s>(&'s self, schema: &'s Json, values: &mut Vec<&'s Json>, steps: usize) -> bool {
        let schema = self.follow(schema);
        if let Some(value) = schema.get("const") {
            values.push(value);
        } else if let Some(all) = schema.get("enum").and_then(Json::as_array) {
            values.extend(all);
        } else if let (Some(all), Some(steps)) = (schema.as_object().and_then(alternatives), steps.checked_sub(1)) {
            return all.iter().all(|schema| self.values(schema, values, steps));
        } else {
            return schema.get("type").is_some_and(|name| name == "null");
        }
        true
    }

    fn wrong(&self, at: &At<'_>, wanted: &str) -> Problem {
        let message = match at.path {
            "" => format!("{} must be {wanted}", self.whose),
            path => format!("{}: `{path}` must be {wanted}", self.whose),
        };
        Problem::new(message).at(at.place(), format!("found {}", at.node.found())).help(remedy(at.node, wanted))
    }

    fn not_among(&self, at: &At<'_>, wanted: &[&Json]) -> Problem {
        let texts: Vec<&str> = wanted.iter().filter_map(|wanted| wanted.as_str()).collect();
        let listed = wanted.iter().filter(|wanted| !wanted.is_null()).map(|wanted| json_text(wanted)).collect::<Vec<_>>().join(", ");
        let near = at.node.as_str().and_then(|found| did_you_mean(found, texts));
        self.wrong(at, &if wanted.len() > 1 { format!("one of {listed}") } else { listed }).help(near)
    }

    fn unknown(&self, name: &str, path: &str, place: &Place, properties: Option<&Map<String, Json>>) -> Problem {
        let names: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let near = did_you_mean(name, names.iter().copied());
        let help = match (near, &self.manual) {
            (Some(near), Some(manual)) => format!("{near} `{manual}` lists them all"),
            (None, Some(manual)) => format!("it has {}; `{manual}` explains them", quoted(names)),
            (Some(near), None) => near,
            (None, None) => format!("it has {}", quoted(names)),
        };
        let problem = Problem::new(format!("{} has no setting `{}`", self.whose, path.escape_debug()));
        problem.at(place, "unknown setting").help(help)
    }

    /// What a schema wants, in words; empty if it wants nothing that can be said.
    fn wanted(&self, schema: &Map<String, Json>, steps: usize) -> String {
        wanted(self.root, schema, steps)
    }
}

/// A node, the key it stands under, and its path from the root of what is checked.
struct At<'a> {
    node: &'a Node,
    key: &'a Place,
    path: &'a str,
}

impl At<'_> {
    /// Where an error of the value is shown: at its key, if it begins a block on the next line or is not there at all.
    fn place(&self) -> &Place {
        if self.node.place.span.is_empty() { self.key } else { &self.node.place }
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Whether the writer of `node` probably meant this alternative.
fn is_meant(schema: &Json, node: &Node) -> bool {
    let Some(schema) = schema.as_object() else { return false };
    let types = types(schema);
    if types.is_empty() || !types.iter().any(|name| is_type(node, name)) || schema.contains_key("const") {
        return false;
    }
    let tags = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    let mut tags = tags.filter_map(|(name, property)| Some((name, property.get("const")?)));
    tags.all(|(name, tag)| node.get(name).is_some_and(|found| same(&found.value, tag)))
}

fn alternatives(schema: &Map<String, Json>) -> Option<&[Json]> {
    let all = schema.get("oneOf").or_else(|| schema.get("anyOf"))?;
    all.as_array().map(Vec::as_slice)
}

fn types(schema: &Map<String, Json>) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type(node: &Node, name: &str) -> bool {
    match &node.value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Int(_) => matches!(name, "integer" | "number"),
        Value::Float(_) => name == "number",
        Value::String(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Map(_) => name == "object",
        Value::Broken => true,
    }
}

fn same(value: &Value, wanted: &Json) -> bool {
    match (value, wanted) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::Int(a), Json::Number(b)) => b.as_i128() == Some(*a),
        (Value::Float(a), Json::Number(b)) => b.as_f64().is_some_and(|b| a.total_cmp(&b).is_eq()),
        (Value::String(a), Json::String(b)) => a == b,
        _ => false,
    }
}

fn json_text(value: &Json) -> String {
    match value {
        Json::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// What to do about a value of the wrong type, where that can be told from the value alone.
fn remedy(node: &Node, wanted: &str) -> Option<String> {
    match &node.value {
        Value::String(text)
            if wanted.starts_with("true or false") && matches!(text.to_lowercase().as_str(), "yes" | "no" | "on" | "off") =>
        {
            Some("write `true` or `false`".to_owned())
        }
        Value::String(text) if wanted.contains("number") && !node.plain && text.parse::<f64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        Value::Int(_) | Value::Float(_) | Value::Bool(_) if wanted.starts_with("text") || wanted.starts_with("a text") => {
            Some(format!("quote it: {}", short(&json_text(&node.to_json()).replace('`', ""))))
        }
        _ => None,
    }
}

/// What a schema wants, in words; empty if it wants nothing that can be said. `root` is what its `$ref`s refer to.
pub(crate) fn wanted(root: &Json, schema: &Map<String, Json>, steps: usize) -> String {
    let Some(steps) = steps.checked_sub(1) else { return String::new() };
    let target = schema.get("$ref").and_then(Json::as_str).and_then(|target| root.pointer(target.strip_prefix('#')?));
    if let Some(target) = target.and_then(Json::as_object) {
        return wanted(root, target, steps);
    }
    if let Some(value) = schema.get("const") {
        return json_text(value);
    }
    if let Some(values) = schema.get("enum").and_then(Json::as_array) {
        let values: Vec<String> = values.iter().filter(|value| !value.is_null()).map(json_text).collect();
        return if values.len() == 1 { values.concat() } else { format!("one of {}", values.join(", ")) };
    }
    if let Some(all) = alternatives(schema) {
        let mut each: Vec<String> = Vec::new();
        for one in all.iter().filter_map(Json::as_object).map(|schema| wanted(root, schema, steps)) {
            if !one.is_empty() && one != "nothing" && !each.contains(&one) {
                each.push(one);
            }
        }
        // An enum whose variants have descriptions is a list of `const`s.
        let all_quoted = each.iter().all(|one| one.starts_with('`') || one.starts_with("one of `"));
        return match each.as_slice() {
            [one] => one.clone(),
            many if all_quoted => {
                format!("one of {}", many.iter().map(|one| one.trim_start_matches("one of ")).collect::<Vec<_>>().join(", "))
            }
            many => many.join(", or "),
        };
    }
    let names = types(schema);
    let each = names.iter().filter(|name| **name != "null" || names.len() == 1).map(|name| match *name {
        "integer" => format!("a whole number{}", range(schema)),
        "number" => format!("a number{}", range(schema)),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "null" => "nothing".to_owned(),
        "object" => "a mapping".to_owned(),
        "array" => {
            let items = schema.get("items").and_then(Json::as_object).map(|items| wanted(root, items, steps)).unwrap_or_default();
            if items.is_empty() { "a list".to_owned() } else { format!("a list, each item {items}") }
        }
        other => other.to_owned(),
    });
    each.collect::<Vec<_>>().join(", or ")
}

fn range(schema: &Map<String, Json>) -> String {
    let bound = |name: &str| schema.get(name).map(number_text);
    // The bounds of a machine's integers say nothing to a reader.
    let most = bound("maximum").filter(|most| !MACHINE_BOUNDS.contains(&most.as_str()));
    match (bound("minimum"), bound("exclusiveMinimum"), most, bound("exclusiveMaximum")) {
        (Some(least), _, Some(most), _) => format!(" from {least} to {most}"),
        (Some(least), _, None, Some(below)) => format!(" from {least} to below {below}"),
        (Some(least), _, None, None) => format!(", {least} or more"),
        (None, Some(above), Some(most), _) => format!(" above {above}, up to {most}"),
        (None, Some(above), None, Some(below)) => format!(" above {above} and below {below}"),
        (None, Some(above), None, None) => format!(" above {above}"),
        (None, None, Some(most), _) => format!(", {most} or less"),
        (None, None, None, Some(below)) => format!(" below {below}"),
        (None, None, None, None) => String::new(),
    }
}

const MACHINE_BOUNDS: [&str; 4] = ["4294967295", "18446744073709551615", "2147483647", "9223372036854775807"];

/// A JSON value as text, `1.0` as `1`.
pub(crate) fn number_text(value: &Json) -> String {
    match value.as_f64() {
        Some(number) if !value.is_u64() && !value.is_i64() && number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::node::parse;
    use super::super::problem::Sources;
    use super::*;

    /// Messages and the texts they are shown at.
    fn told(schema: &Json, text: &str) -> Vec<String> {
        let node = parse(text, 0, 0).expect("the test's YAML is right");
        let validator = Validator { root: schema, whose: "it".to_owned(), manual: None, skip: &[] };
        let problems = validator.check(&node, &node.place);
        let sources = Sources::new(std::path::Path::new("x.yaml"), text, &[]);
        problems
            .iter()
            .map(|problem| format!("{} @ {}", problem.message(), problem.place().map_or("", |place| sources.text(place))))
            .collect()
    }

    #[test]
    fn of_tagged_alternatives_the_one_with_the_tag_is_told_about() {
        let schema = json!({"properties": {"score": {"oneOf": [
            {"type": "object", "properties": {"kind": {"const": "words"}, "least": {"type": "integer"}}, "required": ["kind", "least"]},
            {"type": "object", "properties": {"kind": {"const": "lines"}, "most": {"type": "integer"}}, "required": ["kind", "most"]},
        ]}}});
        assert_eq!(told(&schema, "score: {kind: lines, most: 3}"), [""; 0]);
        assert_eq!(told(&schema, "score: {kind: lines, most: x}"), ["it: `score.most` must be a whole number @ x"]);
        assert_eq!(told(&schema, "score: 7"), ["it: `score` must be a mapping @ 7"]);
    }

    #[test]
    fn of_alternatives_named_by_their_key_the_one_with_the_key_is_told_about() {
        let schema = json!({"oneOf": [
            {"const": "all"},
            {"type": "object", "properties": {"first": {"type": "integer"}}, "required": ["first"], "additionalProperties": false},
            {"type": "object", "properties": {"share": {"type": "number"}}, "required": ["share"], "additionalProperties": false},
        ]});
        assert_eq!(told(&schema, "all"), [""; 0]);
        assert_eq!(told(&schema, "{share: 0.5}"), [""; 0]);
        assert_eq!(told(&schema, "{first: x}"), ["it: `first` must be a whole number @ x"]);
        assert_eq!(told(&schema, "none"), ["it must be `all`, or a mapping @ none"]);
    }

    #[test]
    fn an_optional_value_is_told_about_as_if_it_were_not() {
        let schema = json!({
            "properties": {"unit": {"anyOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}]}, "n": {"type": ["integer", "null"], "minimum": 1}},
            "$defs": {"Unit": {"oneOf": [{"const": "chars"}, {"enum": ["bytes", "words"]}]}},
        });
        assert_eq!(told(&schema, "{unit: null, n: null}"), [""; 0]);
        assert_eq!(
            told(&schema, "{unit: byte, n: 0}"),
            ["it: `unit` must be one of `chars`, `bytes`, `words` @ byte", "it: `n` must be a whole number, 1 or more @ 0"]
        );
    }

    #[test]
    fn bounds_of_lists_texts_and_numbers_are_checked() {
        let schema = json!({"properties": {
            "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2, "maxItems": 2},
            "open": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "name": {"type": "string", "minLength": 2, "maxLength": 3},
            "n": {"type": "integer", "format": "uint32", "minimum": 1},
        }});
        assert_eq!(told(&schema, "{pair: [a, 1], open: 0.5, name: äöü}"), [""; 0]);
        assert_eq!(
            told(&schema, "{pair: [a, b], open: 0, name: ä}"),
            [
                "it: `pair[1]` must be a whole number @ b",
                "it: `open` must be a number above 0 and below 1 @ 0",
                "it: `name` must be a text of at least 2 characters @ ä"
            ]
        );
        assert_eq!(
            told(&schema, "{pair: [a], name: abcd}"),
            ["it: `pair` must be a list of at least 2 @ [", "it: `name` must be a text of at most 3 characters @ abcd"]
        );
        assert_eq!(told(&schema, "n: 4294967295"), [""; 0]);
        assert_eq!(told(&schema, "n: 4294967296"), ["it: `n` must be a whole number of at most 4294967295 @ 4294967296"]);
    }

    #[test]
    fn a_schema_that_leads_in_a_circle_ends() {
        let schema = json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/gone"}]}}});
        assert_eq!(told(&schema, "1"), [""; 0]);
    }
}
