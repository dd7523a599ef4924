//! The dataset card: `README.md` of an output folder. Its front matter makes `load_dataset(output, "<stage>")` work.
//!
//! Nothing in it differs between two runs of one plan: no times, no machine, no paths outside the output.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::datatypes::{Schema, SchemaRef};
use serde_json::Value;

use crate::graph::Graph;
use crate::record::{Published, RunRecord};
use crate::report::is_output;
use crate::show::{self, count};

/// The schema of every folder that a graph's stages may publish rows in: `sft`, `sft.holdout`.
pub fn schemas_of(graph: &Graph) -> BTreeMap<String, SchemaRef> {
    let mut schemas = BTreeMap::new();
    for node in &graph.nodes {
        for (port, schema) in node.outputs.iter() {
            let folder = if port.as_str() == "out" { node.id.clone() } else { format!("{}.{port}", node.id) };
            schemas.insert(folder, SchemaRef::clone(schema));
        }
    }
    schemas
}

/// One configuration of the data set: what `load_dataset` takes as its second argument.
struct Config<'r> {
    name: String,
    stage: &'r str,
    /// Split, folder.
    splits: Vec<(String, &'r Published)>,
}

/// The card of a run; `schemas` as [`schemas_of`] gives them, by published folder.
pub fn render(record: &RunRecord, schemas: &BTreeMap<String, SchemaRef>) -> String {
    let configs = configs(record, schemas);
    let mut out = String::new();
    write_front_matter(record, &configs, &mut out);
    let _ = write!(
        out,
        "\n# {}\n\nMade by Granary {} from {}, seed {}.\n",
        text(&record.name),
        text(&record.granary),
        code(&record.file),
        record.seed
    );
    write_configs(record, &configs, schemas, &mut out);
    write_removals(record, &mut out);
    out.push_str("\n## Stages\n\n| stage | type | version | fingerprint |\n|---|---|--:|---|\n");
    for stage in &record.stages {
        let _ = writeln!(out, "| {} | {} | {} | {} |", code(&stage.id), code(&stage.stage_type), stage.version, code(&stage.fingerprint));
    }
    let recipe = show::visible(&record.recipe.replace("\r\n", "\n"));
    let fence = fence(&recipe, 3);
    let _ = write!(out, "\n## Recipe\n\n{fence}yaml\n{}\n{fence}\n", recipe.trim_end_matches('\n'));
    out
}

fn configs<'r>(record: &'r RunRecord, schemas: &BTreeMap<String, SchemaRef>) -> Vec<Config<'r>> {
    let mut configs: Vec<Config<'r>> = Vec::new();
    for stage in &record.stages {
        let first = configs.len();
        // `datasets` refuses to load a split without rows, and with it the whole configuration.
        let is_shown = |published: &&Published| is_output(&published.folder) && published.rows > 0;
        let mut folders: Vec<&Published> = stage.published.iter().filter(is_shown).collect();
        folders.sort_by_key(|published| published.folder != stage.id); // the main port first: the others may be its splits
        for published in folders {
            let port = published.folder.strip_prefix(stage.id.as_str()).and_then(|rest| rest.strip_prefix('.'));
            let Some(port) = port else {
                let splits = vec![("train".to_owned(), published)];
                configs.push(Config { name: published.folder.clone(), stage: &stage.id, splits });
                continue;
            };
            // All splits of a configuration have the same columns.
            let same = match (schemas.get(&stage.id), schemas.get(&published.folder)) {
                (Some(out), Some(other)) => has_same_columns(out, other),
                _ => port == "holdout",
            };
            let split: String = port.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            match configs.get_mut(first) {
                Some(config) if same && config.name == stage.id && split != "train" => config.splits.push((split, published)),
                _ if same && split == "holdout" => {
                    configs.push(Config { name: stage.id.clone(), stage: &stage.id, splits: vec![(split, published)] });
                }
                _ => {
                    configs.push(Config {
                        name: published.folder.clone(),
                        stage: &stage.id,
                        splits: vec![("train".to_owned(), published)],
                    });
                }
            }
        }
    }
    configs
}

fn has_same_columns(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields().iter().zip(b.fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
}

/// The configuration that is loaded when none is named: the largest of those that no other stage reads, of equal ones the first.
fn default_config(record: &RunRecord, configs: &[Config<'_>]) -> Option<usize> {
    let rows = |config: &Config<'_>| config.splits.iter().fold(0u64, |sum, (_, published)| sum.saturating_add(published.rows));
    let is_last = |config: &Config<'_>| config.name == config.stage && !record.is_read(config.stage);
    let by_size = |(i, config): &(usize, &Config<'_>)| (is_last(config), rows(config), std::cmp::Reverse(*i));
    configs.iter().enumerate().max_by_key(by_size).map(|(i, _)| i)
}

fn write_front_matter(record: &RunRecord, configs: &[Config<'_>], out: &mut String) {
    let _ = write!(out, "---\npretty_name: {}\n", quoted(&record.name));
    let rows = configs.iter().flat_map(|config| &config.splits).fold(0u64, |sum, (_, published)| sum.saturating_add(published.rows));
    let _ = write!(out, "size_categories:\n- {}\n", size_category(rows));
    if !configs.is_empty() {
        out.push_str("configs:\n");
    }
    let default = default_config(record, configs);
    for (i, config) in configs.iter().enumerate() {
        let _ = writeln!(out, "- config_name: {}", quoted(&config.name));
        if default == Some(i) {
            out.push_str("  default: true\n");
        }
        out.push_str("  data_files:\n");
        for (split, published) in &config.splits {
            let is_jsonl = published.parts.iter().any(|part| part.name.contains(".jsonl"));
            let path = format!("{}/{}", published.folder, if is_jsonl { "*.jsonl*" } else { "*.parquet" });
            let _ = write!(out, "  - split: {split}\n    path: {}\n", quoted(&path));
        }
    }
    out.push_str("---\n");
}

fn size_category(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        1_000_000_000..10_000_000_000 => "1B<n<10B",
        10_000_000_000..100_000_000_000 => "10B<n<100B",
        100_000_000_000..1_000_000_000_000 => "100B<n<1T",
        _ => "n>1T",
    }
}

fn write_configs(record: &RunRecord, configs: &[Config<'_>], schemas: &BTreeMap<String, SchemaRef>, out: &mut String) {
    if configs.is_empty() {
        out.push_str("\nThis run published no rows.\n");
        return;
    }
    let default = default_config(record, configs);
    out.push_str("\n| configuration | split | rows | files |\n|---|---|--:|--:|\n");
    for (i, config) in configs.iter().enumerate() {
        for (split, published) in &config.splits {
            let note = if default == Some(i) { " (default)" } else { "" };
            let _ =
                writeln!(out, "| {}{note} | {} | {} | {} |", code(&config.name), code(split), count(published.rows), published.parts.len());
        }
    }
    if let Some(config) = default.and_then(|i| configs.get(i)) {
        let load = format!(
            "from datasets import load_dataset\n\nrows = load_dataset(\"path/to/this/folder\", {})\n",
            quoted(&show::visible_line(&config.name))
        );
        let fence = fence(&load, 3);
        let _ = write!(out, "\n{fence}python\n{load}{fence}\n");
    }
    out.push_str("\n## Columns\n");
    for config in configs {
        let Some(schema) = config.splits.first().and_then(|(_, published)| schemas.get(&published.folder)) else { continue };
        let _ = write!(out, "\n### {}\n\n| column | type | description |\n|---|---|---|\n", code(&config.name));
        for field in schema.fields() {
            let description = field.metadata().get("description").map(|description| text(description)).unwrap_or_default();
            let _ = writeln!(out, "| {} | {} | {description} |", code(field.name()), code(&field.data_type().to_string()));
        }
    }
}

fn write_removals(record: &RunRecord, out: &mut String) {
    out.push_str("\n## What was removed\n\nDropped: the stage decided against the row. Rejected: it could not be read or processed.");
    let tags = record.stages.iter().any(|stage| stage.tags);
    out.push_str(if tags {
        " Tagged: the stage decided against the row, which is in its output all the same, with why in columns of the stage's name.\n\n\
         | stage | rows in | rows out | tagged | dropped | rejected |\n|---|--:|--:|---|---|---|\n"
    } else {
        "\n\n| stage | rows in | rows out | dropped | rejected |\n|---|--:|--:|---|---|\n"
    });
    for stage in &record.stages {
        let totals = &stage.totals;
        let tagged = if tags { format!("{} | ", reasons(&totals.tagged)) } else { String::new() };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {tagged}{} | {} |",
            code(&stage.id),
            count(totals.rows_in),
            count(stage.rows_given()),
            reasons(&totals.dropped),
            reasons(&totals.rejected)
        );
    }
}

fn reasons(reasons: &BTreeMap<String, u64>) -> String {
    let mut reasons: Vec<_> = reasons.iter().filter(|(_, n)| **n > 0).collect();
    reasons.sort_by_key(|(reason, n)| (std::cmp::Reverse(**n), reason.as_str()));
    if reasons.is_empty() {
        return "–".to_owned();
    }
    reasons.iter().map(|(reason, n)| format!("{} {}", count(**n), code(reason))).collect::<Vec<_>>().join(", ")
}

/// A YAML string: JSON's are YAML's too.
fn quoted(text: &str) -> String {
    Value::String(show::visible_line(text)).to_string()
}

/// A line of backticks longer than any in `text`.
fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(least.max(longest + 1))
}

/// A code span that a table cell may hold.
fn code(text: &str) -> String {
    let text = show::visible_line(text).replace('|', "\\|");
    if text.is_empty() {
        return String::new();
    }
    let fence = fence(&text, 1);
    if fence.len() > 1 || text.starts_with(' ') || text.ends_with(' ') {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

/// Plain text in Markdown, on one line.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in show::visible_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};
    use schemas::document;

    use super::*;
    use crate::record::PublishedPart;
    use crate::report::samples;

    fn schemas() -> BTreeMap<String, SchemaRef> {
        let rows: SchemaRef = Arc::new(Schema::new(vec![document::ID.field(), document::TEXT.field()]));
        let counts: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("source", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]));
        [("sft", &rows), ("sft.holdout", &rows), ("per_source", &counts)]
            .map(|(folder, schema)| (folder.to_owned(), Arc::clone(schema)))
            .into()
    }

    #[test]
    fn a_card_has_configurations_removals_columns_and_the_recipe() {
        insta::assert_snapshot!(render(&samples::web(), &schemas()), @r#"
        ---
        pretty_name: "web-sft"
        size_categories:
        - 100K<n<1M
        configs:
        - config_name: "sft"
          default: true
          data_files:
          - split: train
            path: "sft/*.parquet"
          - split: holdout
            path: "sft.holdout/*.parquet"
        - config_name: "per_source"
          data_files:
          - split: train
            path: "per_source/*.parquet"
        ---

        # web-sft

        Made by Granary 0.1.0 from `web.yaml`, seed 7.

        | configuration | split | rows | files |
        |---|---|--:|--:|
        | `sft` (default) | `train` | 174,540 | 2 |
        | `sft` (default) | `holdout` | 3,574 | 1 |
        | `per_source` | `train` | 6 | 1 |

        ```python
        from datasets import load_dataset

        rows = load_dataset("path/to/this/folder", "sft")
        ```

        ## Columns

        ### `sft`

        | column | type | description |
        |---|---|---|
        | `id` | `Utf8` | label of the row |
        | `text` | `Utf8` | text of the document |

        ### `per_source`

        | column | type | description |
        |---|---|---|
        | `source` | `Utf8` |  |
        | `n` | `Int64` |  |

        ## What was removed

        Dropped: the stage decided against the row. Rejected: it could not be read or processed.

        | stage | rows in | rows out | dropped | rejected |
        |---|--:|--:|---|---|
        | `pages` | 398,004 | 397,961 | – | 31 `bad_json`, 12 `invalid_utf8` |
        | `books` | 14,116 | 14,116 | – | – |
        | `clean` | 397,961 | 268,120 | 121,390 `too_short`, 8,411 `too_long`, 40 `no_text` | – |
        | `all` | 282,236 | 282,236 | – | – |
        | `unique` | 282,236 | 178,114 | 63,119 `duplicate`, 41,003 `near_duplicate` | – |
        | `sft` | 178,114 | 178,114 | – | – |
        | `per_source` | 178,114 | 6 | – | – |

        ## Stages

        | stage | type | version | fingerprint |
        |---|---|--:|---|
        | `pages` | `read_jsonl` | 1 | `000000c431eca19fe656c80000000000` |
        | `books` | `read_parquet` | 1 | `000000a8ed21cc21b84c630000000000` |
        | `clean` | `filter_length` | 1 | `000000fc509c1a61b9e0470000000000` |
        | `all` | `concat` | 1 | `000000513a2286f3fd3b450000000000` |
        | `unique` | `dedup_minhash` | 1 | `000000a39fa51c2c94cd540000000000` |
        | `sft` | `split_holdout` | 1 | `00000049bc1ec8181ac3b70000000000` |
        | `per_source` | `sql` | 1 | `000000bc54a9c0aa4247f70000000000` |

        ## Recipe

        ```yaml
        version: 1
        name: web-sft
        seed: 7
        output: out/web-sft
        stages:
          pages:  {use: read_jsonl, path: "data/pages/*.jsonl.zst"}
          books:  {use: read_parquet, path: data/books.parquet}
          clean:  {use: filter_length, from: pages, min_chars: 200, max_chars: 100000}
          all:    {use: concat, from: [clean, books]}
          unique: {use: dedup_minhash, from: all, scope: global, jaccard_threshold: 0.8}
          sft:    {use: split_holdout, from: unique, fraction: 0.02, group: url}
          per_source: {use: sql, from: unique, query: "SELECT source, count(*) AS n FROM self GROUP BY source ORDER BY source"}
        ```
        "#);
    }

    #[test]
    fn a_card_does_not_change_from_run_to_run() {
        let mut again = samples::web();
        again.started = "2031-01-01T00:00:00Z".to_owned();
        (again.wall_seconds, again.cpu_seconds, again.peak_memory_bytes, again.threads, again.memory_bytes) = (1.0, 2.0, 3, 64, 5);
        again.tasks = crate::record::TaskCounts { done: 0, reused: 105 };
        again.machine = crate::record::Machine { cores: 1, os: "macos".to_owned(), arch: "aarch64".to_owned() };
        for stage in &mut again.stages {
            stage.notes = vec!["read /home/someone/data".to_owned()];
            (stage.totals.busy_seconds, stage.totals.peak_bytes) = (9.0, 9);
        }
        assert_eq!(render(&again, &schemas()), render(&samples::web(), &schemas()));
    }

    #[test]
    fn a_port_with_other_columns_is_a_configuration_of_its_own() {
        let mut record = samples::web();
        let part = |name: &str| vec![PublishedPart { name: name.to_owned(), rows: 4, bytes: 100 }];
        record.stages[4].published = vec![
            Published { folder: "unique.clusters".to_owned(), rows: 4, parts: part("part-00000.jsonl.zst") },
            Published { folder: "unique.empty".to_owned(), rows: 0, parts: Vec::new() },
            Published { folder: "unique".to_owned(), rows: 4, parts: part("part-00000.parquet") },
        ];
        record.stages[5].published.reverse();
        record.stages[6].published[0].rows = 1_000_000;
        let mut schemas = schemas();
        let (rows, counts) = (SchemaRef::clone(&schemas["sft"]), SchemaRef::clone(&schemas["per_source"]));
        schemas.extend([("unique".to_owned(), rows), ("unique.clusters".to_owned(), counts)]);
        let card = render(&record, &schemas);
        for wanted in [
            "- config_name: \"unique\"\n  data_files:\n  - split: train\n    path: \"unique/*.parquet\"\n- config",
            "- config_name: \"unique.clusters\"\n  data_files:\n  - split: train\n    path: \"unique.clusters/*.jsonl*\"\n- config",
            "  - split: train\n    path: \"sft/*.parquet\"\n  - split: holdout\n",
            "- config_name: \"per_source\"\n  default: true\n",
        ] {
            assert!(card.contains(wanted), "no {wanted} in {card}");
        }
        assert!(!card.contains("unique.empty"));
        assert_eq!(card.matches("default: true").count(), 1);
    }

    #[test]
    fn nothing_in_a_name_or_a_recipe_ends_its_place_in_the_card() {
        let mut record = samples::hostile();
        record.recipe = "text: |\n  ````\n  # not a heading of the card\n".to_owned();
        let card = render(&record, &BTreeMap::new());
        assert!(card.contains("\n`````yaml\n"));
        let front = card.split("\n---\n").next().unwrap().trim_start_matches("---\n");
        let front: Value = serde_saphyr::from_str(front).unwrap();
        assert_eq!(front["pretty_name"], show::visible_line(&record.name));
        assert_eq!(front["configs"].as_array().unwrap().len(), 3);
        assert_eq!(front["configs"][0]["config_name"], show::visible_line(&record.stages[5].id));
        assert!(!card.contains(['\u{202e}', '\u{1b}', '\0']));
        for row in card.lines().filter(|line| line.starts_with("| ")) {
            let bars = row.replace("\\|", "").matches('|').count();
            assert!([4, 5, 6].contains(&bars), "{row}");
        }
        assert!(render(&samples::empty(), &BTreeMap::new()).contains("published no rows"));
    }
}
