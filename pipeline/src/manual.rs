//! What `pipeline stages` prints: the catalogue, and a manual page made of a stage's JSON Schema.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;
use schemas::{ColumnSpec, document, dropped};
use serde_json::{Map, Value as Json};
use stages::registry::{AnyConfig, StageSpec};
use stages::{BuildContext, Inputs, Kind, Outputs, Port};

use crate::file::{example_settings, number_text, stage_schema, wanted};

/// Columns of text a page may take.
const WIDTH: usize = 100;

/// The stage types, one a line.
pub fn catalogue(stages: &[StageSpec]) -> String {
    let width = stages.iter().map(|spec| spec.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for spec in stages {
        let schema = spec.schema().to_value();
        let summary = first_paragraph(description(&schema));
        _ = writeln!(text, "{:width$}  {:6}  {summary}", spec.name, kind(spec));
    }
    text.push_str("\n`pipeline stages TYPE` explains one.\n");
    text
}

/// What is said of stages with kernels.
const KERNELS: &str = "It has kernels: they run on what `--device` says, by default on a GPU if there is one. Numbers with a fraction are equal on one \
                       class of device, and near on the other.";

/// The manual page of a stage type.
pub fn page(spec: &StageSpec) -> String {
    let schema = stage_schema(spec);
    let mut text = format!("{} ({}, version {})\n\n", spec.name, kind_in_words(spec), spec.version);
    text.push_str(&wrapped(description(&schema), 0));
    text.push_str("\nSettings\n");
    let own = spec.schema().to_value();
    if own["properties"].as_object().is_none_or(Map::is_empty) {
        text.push_str("  none\n");
    }
    settings(&mut text, &schema, &own, 2, 4);
    let input = match spec.inputs {
        Inputs::None if spec.kind == Kind::Source => "  none: it is a source\n",
        Inputs::None => "  none: it makes its rows\n",
        Inputs::One => "  `from: id`, or `from: [id, id]` to read one after the other\n",
        Inputs::OneOrNamed => "  `from: id`, or `from: {name: id, other: id}` for several by name\n",
    };
    _ = write!(text, "\nInput\n{input}");
    if let Some(config) = example_settings(spec.example).and_then(|settings| spec.parse(settings).ok()) {
        columns(&mut text, "Columns read", &config.reads());
        columns(&mut text, "Columns added", &config.adds());
        if let Some(outputs) = outputs(spec, config.as_ref()) {
            text.push_str("\nOutputs\n");
            for (port, _) in outputs.iter() {
                _ = writeln!(text, "  {}", port_in_words(port));
            }
        }
    }
    _ = write!(text, "\nExample\n  {}: {}\n", stage_id(spec.kind), spec.example);
    if spec.uses_device {
        text.push('\n');
        text.push_str(&wrapped(KERNELS, 0));
    }
    text.push_str("\nEvery stage also takes `keep`, `write`, `max_rejected`, `expect` and `dropped`.\n");
    if spec.tags {
        let [reason, ..] = dropped::tags("<id>");
        text.push_str(&wrapped(
            &format!(
                "With `on_fail: tag` the rows that it decides against stay among the others, and `{}` and its like say why.",
                reason.name
            ),
            0,
        ));
    }
    text
}

/// The settings of an object's schema, each with what it wants, its default and its description; nested ones below.
fn settings(text: &mut String, root: &Json, schema: &Json, indent: usize, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let target = follow(root, property);
        let wants = property.as_object().map(|property| wanted(root, property, 16)).unwrap_or_default();
        let default = match property.get("default").or_else(|| target.get("default")) {
            _ if required.contains(&name.as_str()) => "; required".to_owned(),
            None | Some(Json::Null) => "; optional".to_owned(),
            Some(Json::String(default)) => format!("; default {default}"),
            Some(default) => format!("; default {}", number_text(default)),
        };
        let head = if wants.is_empty() { default.trim_start_matches("; ").to_owned() } else { format!("{wants}{default}") };
        text.push_str(&wrapped(&format!("{name}: {head}"), indent));
        let about = if description(property).is_empty() { description(target) } else { description(property) };
        text.push_str(&wrapped(about, indent + 4));
        let variants = target.get("oneOf").or_else(|| target.get("anyOf")).and_then(Json::as_array);
        for variant in variants.into_iter().flatten() {
            if let Some(value) = variant["const"].as_str().filter(|_| !description(variant).is_empty()) {
                text.push_str(&wrapped(&format!("`{value}`: {}", description(variant)), indent + 4));
            }
        }
        for inner in [Some(target), target.get("items").map(|items| follow(root, items))].into_iter().flatten() {
            settings(text, root, inner, indent + 4, depth);
        }
    }
}

/// The schema that a `$ref`, or an optional one, leads to.
fn follow<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let mut schema = schema;
    for _ in 0..16 {
        let target = schema["$ref"].as_str().and_then(|target| root.pointer(target.trim_start_matches('#')));
        let optional = || {
            let mut all = schema["anyOf"].as_array()?.iter().filter(|one| one["type"] != "null");
            all.next().filter(|_| all.next().is_none())
        };
        match target.or_else(optional) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

fn columns(text: &mut String, title: &str, columns: &[ColumnSpec]) {
    if columns.is_empty() {
        return;
    }
    _ = write!(text, "\n{title}\n");
    for column in columns {
        let about = if column.description.is_empty() { String::new() } else { format!(": {}", column.description) };
        text.push_str(&wrapped(&format!("{} ({}){about}", column.name, column.data_type), 2));
    }
}

/// The outputs of the example, where they can be told without its files.
fn outputs(spec: &StageSpec, config: &dyn AnyConfig) -> Option<Outputs> {
    let inputs = if spec.inputs == Inputs::None {
        Vec::new()
    } else {
        let mut columns = config.reads();
        // Columns that an example may name.
        for known in [document::ID.spec(), document::TEXT.spec(), document::TEXT.named("source").spec()] {
            if columns.iter().all(|column| column.name != known.name) {
                columns.push(known);
            }
        }
        let schema = Schema::new(columns.iter().map(ColumnSpec::field).collect::<Vec<_>>());
        vec![(Port::FROM, Arc::new(schema))]
    };
    config.outputs(&BuildContext::new("example", Path::new("."), 0, inputs)).ok()
}

fn port_in_words(port: &Port) -> String {
    let id = format!("`from: id.{port}`");
    match port {
        port if *port == Port::OUT => "out: the rows, `from: id`".to_owned(),
        port if *port == Port::DROPPED => format!("dropped: the rows decided against, with reason, value and threshold, {id}"),
        port => format!("{port}: {id}"),
    }
}

fn kind(spec: &StageSpec) -> &'static str {
    match spec.kind {
        Kind::Global if spec.inputs == Inputs::None => "source",
        Kind::Source => "source",
        Kind::RowLocal => "row",
        Kind::RowAsync => "asks",
        Kind::Global => "global",
    }
}

fn kind_in_words(spec: &StageSpec) -> &'static str {
    match spec.kind {
        Kind::Global if spec.inputs == Inputs::None => "makes its rows",
        Kind::Source => "source",
        Kind::RowLocal => "works row by row",
        Kind::RowAsync => "works row by row, and asks over the network",
        Kind::Global => "needs to have seen all rows",
    }
}

fn stage_id(kind: Kind) -> &'static str {
    if kind == Kind::Source { "pages" } else { "next" }
}

fn description(schema: &Json) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` in lines of at most [`WIDTH`] characters, indented; empty lines part paragraphs.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    for (index, paragraph) in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).enumerate() {
        if index > 0 {
            lines.push('\n');
        }
        let mut length = 0;
        for word in paragraph.split_whitespace() {
            let needs = word.chars().count();
            if length > 0 && length + 1 + needs > WIDTH {
                lines.push('\n');
                length = 0;
            }
            if length == 0 {
                lines.push_str(&" ".repeat(indent));
                length = indent;
            } else {
                lines.push(' ');
                length += 1;
            }
            lines.push_str(word);
            length += needs;
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_stages::TABLE;

    #[test]
    fn the_catalogue_has_a_line_for_each_type() {
        insta::assert_snapshot!(catalogue(TABLE), @r"
    join_all   global  Sees all rows.
    keep_long  row     Keeps long texts.
    read_rows  source  Reads rows from a file that must be there.

    `pipeline stages TYPE` explains one.
    ");
    }

    #[test]
    fn a_page_explains_settings_columns_and_outputs() {
        insta::assert_snapshot!(page(&TABLE[1]), @r"
    keep_long (works row by row, version 1)

    Keeps long texts.

    Settings
      min_chars: a whole number, 0 or more; required
          Fewest characters.
      share: a number from 0 to 1; default 0
          Share of the rows.
      unit: one of `chars`, `bytes`; default chars
          What is counted.
          `chars`: Unicode scalar values.
          `bytes`: Bytes of UTF-8.
      word: text; optional
          A word without spaces.
      spaces: true or false; default false
          Whether white space counts.

    Input
      `from: id`, or `from: [id, id]` to read one after the other

    Columns read
      text (Utf8): text of the document

    Outputs
      out: the rows, `from: id`
      dropped: the rows decided against, with reason, value and threshold, `from: id.dropped`

    Example
      next: {use: keep_long, from: rows, min_chars: 1}

    Every stage also takes `keep`, `write`, `max_rejected`, `expect` and `dropped`.
    With `on_fail: tag` the rows that it decides against stay among the others, and `<id>_drop_reason`
    and its like say why.
    ");
    }

    #[test]
    fn nested_settings_stand_below_theirs() {
        insta::assert_snapshot!(page(&TABLE[2]), @r#"
    read_rows (source, version 1)

    Reads rows from a file that must be there.

    Settings
      path: text; required
          The file.
      columns: a list, each item a mapping; default [{"name":"text","type":"text"}]
          Columns and their types.
          name: text; required
              Its name.
          type: one of `text`, `number`; default text
              Its type.
              `text`: Characters.
              `number`: Whole numbers.

    Input
      none: it is a source

    Outputs
      out: the rows, `from: id`

    Example
      pages: {use: read_rows, path: a.txt}

    Every stage also takes `keep`, `write`, `max_rejected`, `expect` and `dropped`.
    "#);
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with("    word")), "{text}");
        assert_eq!(text.matches("word").count(), 40);
        assert_eq!(wrapped("a\nb\n\nc", 1), " a b\n\n c\n");
        assert_eq!(wrapped("", 1), "");
    }
}
