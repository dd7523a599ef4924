//! Stages that move rows between shards: the real command gives the same tables, however its work is cut.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};

use crate::harness::{Project, differences};

const N_ROWS: u64 = 600;

const YAML: &str = "
version: 1
name: tables
seed: 5
output: out
stages:
  docs:    {use: read_jsonl, path: 'docs/*.jsonl'}
  sites:   {use: read_jsonl, path: sites.jsonl}
  mixed:   {use: shuffle, from: docs, keep: true}
  sorted:  {use: sort_rows, from: mixed, by: [{column: n_tokens, order: descending}, site, id], keep: true}
  owned:   {use: join, from: {left: docs, right: sites}, on: [site], keep: true}
  all:     {use: join, from: {left: docs, right: sites}, on: [site], how: full, keep: true}
  unknown: {use: join, from: {left: docs, right: sites}, on: [site], how: anti}
  totals:  {use: group_by, from: mixed, by: [site], aggregates: {n: count, tokens: sum(n_tokens), ids: list(id)}, keep: true}
  ninety:  {use: sample_rows, from: mixed, count: 90, keep: true}
  each:    {use: sample_rows, from: docs, count: 7, by: site, keep: true}
  shares:  {use: sample_rows, from: docs, count: 100, by: site, allocation: proportional, keep: true}
  packed:  {use: pack_sequences, from: mixed, context_length: 500, keep: true}
  near:    {use: pack_sequences, from: docs, context_length: 500, scope: shard, keep: true}
";

const TABLES: [&str; 10] = ["mixed", "sorted", "owned", "all", "unknown", "totals", "ninety", "each", "shares", "packed"];

/// Site and number of tokens of a document.
fn doc(n: u64) -> (Option<String>, u64) {
    let site = n * n % 23;
    ((n % 50 != 49).then(|| format!("site{site}")), 1 + n * 7919 % 530)
}

fn project(n_files: u64) -> Project {
    let project = Project::with(YAML);
    for file in 0..n_files {
        let rows = (file * N_ROWS / n_files)..((file + 1) * N_ROWS / n_files);
        let line = |n: u64| {
            let (site, n_tokens) = doc(n);
            serde_json::json!({"id": format!("doc{n}"), "site": site, "n_tokens": n_tokens}).to_string() + "\n"
        };
        project.write(&format!("docs/{file:02}.jsonl"), rows.map(line).collect::<String>());
    }
    let sites = (0..20).flat_map(|site| (0..=site % 3).map(move |owner| (site, owner)));
    let line =
        |(site, owner)| format!("{{\"id\": \"s{site}.{owner}\", \"site\": \"site{site}\", \"owner\": \"owner {owner} of {site}\"}}\n");
    project.write("sites.jsonl", sites.map(line).collect::<String>());
    project
}

fn texts(project: &Project, folder: &str, column: &str) -> Vec<String> {
    project.column(folder, column).into_iter().map(Option::unwrap_or_default).collect()
}

fn numbers(project: &Project, folder: &str, column: &str) -> Vec<u64> {
    let of_batch = |batch: RecordBatch| {
        let column = batch.column_by_name(column).expect("the column");
        let number = |row: usize| {
            assert!(column.is_valid(row));
            match column.data_type() {
                arrow::datatypes::DataType::UInt32 => u64::from(column.as_primitive::<UInt32Type>().value(row)),
                arrow::datatypes::DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row),
                _ => u64::try_from(column.as_primitive::<Int64Type>().value(row)).expect("not negative"),
            }
        };
        (0..batch.num_rows()).map(number).collect::<Vec<_>>()
    };
    project.rows(folder).into_iter().flat_map(of_batch).collect()
}

#[test]
fn tables_are_the_same_however_the_work_is_cut() {
    let hashes = |n_files: u64, args: &[&str]| {
        let project = project(n_files);
        project.run(args);
        let mut hashes: BTreeMap<String, u64> =
            TABLES.iter().map(|table| ((*table).to_owned(), project.table_hash(&format!("out/{table}")))).collect();
        for dropped in ["owned", "unknown", "ninety", "each", "shares", "packed"] {
            hashes.insert(format!("{dropped}.dropped"), project.table_hash(&format!("out/dropped/{dropped}")));
        }
        hashes
    };
    let whole = hashes(1, &[]);
    assert_eq!(hashes(1, &["--shard-rows", "50"]), whole);
    assert_eq!(hashes(1, &["--shard-rows", "7", "--batch-rows", "3"]), whole);
    assert_eq!(hashes(12, &["--shard-rows", "50"]), whole);
}

#[test]
fn one_plan_gives_the_same_bytes_for_any_threads_and_memory() {
    let files = |args: &[&str]| {
        let project = project(3);
        project.run(&[&["--shard-rows", "50"], args].concat());
        project.files("out")
    };
    let expected = files(&[]);
    for way in [&["--threads", "1"][..], &["--threads", "8", "--memory", "4GiB"], &["--memory", "512MiB", "--batch-rows", "1"]] {
        // How much memory there is decides of which shards a copy is made, but nothing of what is published.
        let published = |name: &String| !name.starts_with(".pipeline/");
        let differences: Vec<String> = differences(&files(way), &expected).into_iter().filter(published).collect();
        assert_eq!(differences, [""; 0], "{way:?}");
    }
}

#[test]
fn every_table_is_what_its_settings_say() {
    let project = project(2);
    project.run(&["--shard-rows", "50"]);
    let docs: Vec<String> = (0..N_ROWS).map(|n| format!("doc{n}")).collect();
    let number = |id: &str| id.trim_start_matches("doc").parse::<u64>().expect("a document");

    let mixed = texts(&project, "out/mixed", "id");
    assert_ne!(mixed, docs);
    assert_eq!(mixed.iter().collect::<BTreeSet<_>>(), docs.iter().collect());
    assert_eq!(mixed.len(), docs.len());

    let place = |id: &String| {
        let (site, n_tokens) = doc(number(id));
        (std::cmp::Reverse(n_tokens), site.is_none(), site, id.clone())
    };
    assert!(texts(&project, "out/sorted", "id").is_sorted_by_key(place));

    let n_owners = |n: u64| doc(n).0.map_or(0, |_| if n * n % 23 < 20 { 1 + n * n % 23 % 3 } else { 0 });
    let owned: Vec<String> = (0..N_ROWS).flat_map(|n| (0..n_owners(n)).map(move |_| format!("doc{n}"))).collect();
    assert_eq!(texts(&project, "out/owned", "id"), owned);
    assert_eq!(texts(&project, "out/owned", "id_right")[0], "s0.0");
    let unknown: Vec<String> = (0..N_ROWS).filter(|n| n_owners(*n) == 0).map(|n| format!("doc{n}")).collect();
    assert_eq!(texts(&project, "out/unknown", "id"), unknown);
    assert_eq!(texts(&project, "out/dropped/owned", "id"), unknown);
    let left_over = texts(&project, "out/all", "id").split_off(owned.len() + unknown.len());
    let met: BTreeSet<u64> = (0..N_ROWS).filter(|n| doc(*n).0.is_some()).map(|n| n * n % 23).collect();
    let expected: Vec<String> =
        (0..20).filter(|site| !met.contains(site)).flat_map(|site| (0..=site % 3).map(move |owner| format!("s{site}.{owner}"))).collect();
    assert!(!expected.is_empty());
    assert_eq!(left_over, expected);

    let mut tokens: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for n in 0..N_ROWS {
        let (site, n_tokens) = doc(n);
        let total = tokens.entry(site.unwrap_or_default()).or_default();
        *total = (total.0 + 1, total.1 + n_tokens);
    }
    let sums = numbers(&project, "out/totals", "n").into_iter().zip(numbers(&project, "out/totals", "tokens"));
    assert_eq!(texts(&project, "out/totals", "site").into_iter().zip(sums).collect::<BTreeMap<_, _>>(), tokens);

    assert_eq!(project.count("out/ninety"), 90);
    assert_eq!(project.count("out/shares"), 100);
    let per_site = |folder: &str| {
        texts(&project, folder, "site").into_iter().fold(BTreeMap::<String, u64>::new(), |mut sites, site| {
            *sites.entry(site).or_default() += 1;
            sites
        })
    };
    assert_eq!(per_site("out/each"), tokens.iter().map(|(site, (n, _))| (site.clone(), *n.min(&7))).collect());
    for (site, n) in per_site("out/shares") {
        assert!((n as f64 - tokens[&site].0 as f64 / 6.0).abs() < 1.0, "{site}: {n} of {}", tokens[&site].0);
    }

    let total: u64 = (0..N_ROWS).map(|n| doc(n).1).filter(|n_tokens| *n_tokens <= 500).sum();
    for (folder, most) in [("out/packed", total.div_ceil(500) * 11 / 9 + 1), ("out/near", total.div_ceil(500) * 2)] {
        let (bins, offsets) = (numbers(&project, folder, "bin"), numbers(&project, folder, "bin_offset"));
        let lengths = numbers(&project, folder, "n_tokens");
        let mut filled: BTreeMap<u64, u64> = BTreeMap::new();
        for row in 0..bins.len() {
            let filled = filled.entry(bins[row]).or_default();
            assert_eq!(*filled, offsets[row]);
            *filled += lengths[row];
        }
        assert!(bins.is_sorted() && filled.values().all(|filled| *filled <= 500));
        assert_eq!(filled.values().sum::<u64>(), total);
        assert!((filled.len() as u64) <= most, "{folder}: {} bins, {most} allowed", filled.len());
    }

    let record = project.record("out");
    let stages = record["stages"].as_array().expect("stages");
    for stage in ["mixed", "sorted", "ninety", "packed", "totals"] {
        let found = stages.iter().find(|found| found["id"] == stage).expect("the stage");
        assert_eq!(found["rows_in"], N_ROWS, "{stage}: rows are counted once, though no step over shards gives them");
    }
}
