//! The manual of a stage type and the reference of all, as Markdown: what `pipeline stages` shows and what `STAGES.md` holds.

use std::fmt::Write as _;

use schemas::{ColumnSpec, dropped};
use serde_json::Value;

use crate::registry::{AnyConfig, StageSpec};
use crate::{Inputs, Kind};

/// One stage's manual. `example` is what its EXAMPLE reads as; with it, the columns that it reads and adds are named.
pub fn manual(spec: &StageSpec, example: Option<&dyn AnyConfig>) -> String {
    let schema = spec.schema();
    let mut text = format!("## {}\n\n*{}, {}.*\n", spec.name, kind(spec.kind), inputs(spec.inputs));
    if let Some(about) = schema.get("description").and_then(Value::as_str) {
        line(&mut text, &format!("\n{about}"));
    }
    if let Some(example) = example {
        let (reads, adds) = (columns(&example.reads()), columns(&example.adds()));
        if !(reads.is_empty() && adds.is_empty()) {
            line(&mut text, &format!("\nIn the example it reads {} and adds {}.", or_nothing(&reads), or_nothing(&adds)));
        }
    }
    if spec.tags {
        let names = dropped::tags("<id>").map(|column| format!("`{}`", column.name)).join(", ");
        line(&mut text, &format!("\nTakes `on_fail: tag`: the rows it decides against then stay in their place, with why in {names}."));
    }
    let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let settings = schema.get("properties").and_then(Value::as_object);
    for (at, (name, setting)) in settings.into_iter().flatten().enumerate() {
        if at == 0 {
            line(&mut text, "\n| setting | value | default | meaning |\n|---|---|---|---|");
        }
        row(&mut text, name, setting, required.contains(&name.as_str()));
        for (inner, setting) in settings_of(setting) {
            row(&mut text, &format!("{name}.{inner}"), setting, false);
        }
    }
    line(&mut text, &format!("\n```yaml\nexample: {}\n```", spec.example));
    text
}

/// A row of the table of settings.
fn row(text: &mut String, name: &str, setting: &Value, is_required: bool) {
    let default = match setting.get("default") {
        _ if is_required => "required".to_owned(),
        None | Some(Value::Null | Value::Object(_)) => String::new(),
        Some(default) => format!("`{default}`"),
    };
    let about = setting.get("description").and_then(Value::as_str).unwrap_or_default();
    line(
        text,
        &format!("| `{name}` | {} | {} | {} |", cell(&value(setting)), cell(&default), cell(&(about.to_owned() + &choices(setting)))),
    );
}

/// The settings that a setting is made of, where each has a description and a default: a group of settings.
fn settings_of(setting: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let inner = setting.get("properties").and_then(Value::as_object);
    let is_group = |inner: &&serde_json::Map<String, Value>| inner.values().all(|setting| setting.get("default").is_some());
    inner.filter(is_group).into_iter().flatten()
}

/// The reference of several stages, in their order.
pub fn reference<'a>(stages: impl IntoIterator<Item = (&'a StageSpec, &'a dyn AnyConfig)>) -> String {
    let mut text =
        "# Stages\n\nGenerated from the code by `UPDATE_GOLDEN=1 cargo test --workspace --lib`; `pipeline stages TYPE` shows one of them.\n"
            .to_owned();
    for (spec, example) in stages {
        text.push('\n');
        text.push_str(&manual(spec, Some(example)));
    }
    text
}

fn line(text: &mut String, more: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{more}");
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "Source",
        Kind::RowLocal => "Row by row",
        Kind::RowAsync => "Row by row, over the network",
        Kind::Global => "Sees all rows",
    }
}

fn inputs(inputs: Inputs) -> &'static str {
    match inputs {
        Inputs::None => "no input",
        Inputs::One => "one input",
        Inputs::OneOrNamed => "one input or several named ones",
    }
}

fn columns(columns: &[ColumnSpec]) -> String {
    columns.iter().map(|column| format!("`{}: {}`", column.name, column.data_type)).collect::<Vec<_>>().join(", ")
}

fn or_nothing(columns: &str) -> &str {
    if columns.is_empty() { "nothing" } else { columns }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("\n\n", " ").replace('\n', " ")
}

/// What a setting may be, from its JSON Schema.
fn value(schema: &Value) -> String {
    let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)).and_then(Value::as_array);
    if let Some(alternatives) = alternatives {
        let all = alternatives.iter().filter(|schema| schema.get("type").and_then(Value::as_str) != Some("null")).map(value);
        return all.collect::<Vec<_>>().join(", ");
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{}`", constant.as_str().map_or_else(|| constant.to_string(), str::to_owned));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any"),
        _ => "any",
    };
    match (name, schema.get("minimum"), schema.get("maximum")) {
        ("array", ..) => format!("list of {}", schema.get("items").map_or_else(|| "any".to_owned(), value)),
        (name, Some(min), Some(max)) => format!("{name}, {min} to {max}"),
        (name, Some(min), None) => format!("{name}, at least {min}"),
        (name, None, Some(max)) => format!("{name}, at most {max}"),
        (name, None, None) => name.to_owned(),
    }
}

/// What each value of a setting with named values means.
fn choices(schema: &Value) -> String {
    let mut text = String::new();
    for choice in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(name), Some(about)) = (choice.get("const").and_then(Value::as_str), choice.get("description").and_then(Value::as_str))
        {
            text.push_str(" `");
            text.push_str(name);
            text.push_str("`: ");
            text.push_str(about);
        }
    }
    text
}
