//! A graph in words, for `check`.

use std::fmt::Write;

use arrow::datatypes::Schema;

use stages::Makes;

use crate::graph::{Graph, NodeInput};
use crate::show;

/// What a pipeline will do: each stage, what it reads, the columns that leave it, and what was found out while building it.
pub fn summary(graph: &Graph) -> String {
    let mut text = String::new();
    let stages = match graph.nodes.len() {
        1 => "1 stage".to_owned(),
        many => format!("{many} stages"),
    };
    _ = writeln!(text, "{} is right: {stages}, output to {}", graph.file.display(), graph.output.display());
    for node in &graph.nodes {
        let from: Vec<String> = node.inputs.iter().map(|input| input_text(graph, input)).collect();
        let from = if from.is_empty() { String::new() } else { format!(" from {}", from.join("; ")) };
        _ = writeln!(text, "\n{} ({}){from}", node.id, node.spec.name);
        let width = node.outputs.iter().map(|(port, _)| port.as_str().len()).max().unwrap_or_default();
        for (port, schema) in node.outputs.iter() {
            _ = writeln!(text, "  {:width$}  {}", port.as_str(), columns(schema));
        }
        _ = node.makes.iter().try_for_each(|makes| writeln!(text, "  makes {}", makes_text(makes)));
        for note in &node.notes {
            _ = writeln!(text, "  note: {note}");
        }
    }
    write_models(graph, &mut text);
    text
}

/// An address without what may be secret in it.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('/').unwrap_or((rest, "")))) {
        Some((scheme, (host, path))) => format!("{scheme}://{}/{path}", host.rsplit('@').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

/// The models that stages ask, and what is worth knowing of them.
fn write_models(graph: &Graph, text: &mut String) {
    for (name, llm) in graph.asked().iter() {
        let settings = llm.settings();
        let by = match (&settings.command, &settings.endpoint) {
            (Some(command), _) => format!("served by `{}`", command.first().map_or("", String::as_str)),
            (None, Some(endpoint)) => {
                format!("at {}", endpoint.urls().iter().map(|url| without_secrets(url)).collect::<Vec<_>>().join(", "))
            }
            (None, None) => String::new(),
        };
        let asked_by: Vec<&str> =
            graph.nodes.iter().filter(|node| node.models.iter().any(|model| model.name == name)).map(|node| node.id.as_str()).collect();
        let line = format!("\nmodel {name} ({}) {by}, asked by {}", settings.model, asked_by.join(", "));
        _ = writeln!(text, "{}", show::visible(&line));
    }
    if graph.nodes.iter().any(|node| !node.models.is_empty()) {
        _ = writeln!(text, "  answers are kept in {}", graph.answers.display());
    }
    for note in &graph.notes {
        _ = writeln!(text, "note: {}", show::visible_line(note));
    }
}

/// How much a stage is going to make.
pub fn makes_text(makes: &Makes) -> String {
    format!("{} {}, about {}", show::count(makes.rows), makes.what, show::bytes(makes.bytes))
}

/// `a, b.dropped`, with the port's name before it where the file names ports.
fn input_text(graph: &Graph, input: &NodeInput) -> String {
    let from: Vec<String> = input
        .from
        .iter()
        .map(|edge| {
            let id = &graph.nodes[edge.node].id;
            if edge.port == stages::Port::OUT { id.clone() } else { format!("{id}.{}", edge.port) }
        })
        .collect();
    let from = from.join(", ");
    if input.port == stages::Port::FROM { from } else { format!("{}: {from}", input.port) }
}

fn columns(schema: &Schema) -> String {
    if schema.fields().is_empty() {
        return "no columns".to_owned();
    }
    schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{LoadOptions, load_with};
    use crate::test_stages::TABLE;

    #[test]
    fn the_summary_shows_what_flows_on_every_edge() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a.txt"), "x").expect("a file in it");
        let text = "version: 1
name: web
stages:
  rows: {use: read_rows, path: a.txt}
  long: {use: keep_long, from: rows, min_chars: 2}
  all: {use: join_all, from: {kept: long, all: [rows, long]}}
  gone: {use: join_all, from: long.dropped}
";
        let path = folder.path().join("web.yaml");
        let graph = load_with(&path, text, &LoadOptions::default(), TABLE).unwrap_or_else(|problems| panic!("{:?}", problems.lines()));
        let shown = summary(&graph).replace(&format!("{}/", folder.path().display()), "");
        insta::assert_snapshot!(shown, @r"
    web.yaml is right: 4 stages, output to out/web

    rows (read_rows)
      out  text: Utf8
      note: 1 columns

    long (keep_long) from rows
      out      text: Utf8
      dropped  text: Utf8, drop_reason: Utf8, drop_value: Float64, drop_threshold: Float64, duplicate_of: Utf8

    all (join_all) from kept: long; all: rows, long
      out  text: Utf8

    gone (join_all) from long.dropped
      out  text: Utf8, drop_reason: Utf8, drop_value: Float64, drop_threshold: Float64, duplicate_of: Utf8
    ");
    }
}
