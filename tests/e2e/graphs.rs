//! Graphs made at random: whatever shape they have, rows end where a model of a few lines says, and the same bytes come out however often
//! the run is killed and whatever it is run with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::harness::{Project, differences};

/// xorshift: the same graphs every time, so that one that fails can be looked at.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("less than a usize")
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

/// Ids and texts of rows, in order.
type Rows = Vec<(String, String)>;

/// A graph as text, and what its outputs hold by the model; for stages whose choice is a hash, what two outputs hold together.
struct Made {
    yaml: String,
    /// By published folder.
    expected: BTreeMap<String, Rows>,
    /// Two published folders and the rows that are in just one of them.
    halves: Vec<([String; 2], Rows)>,
}

fn make(random: &mut Random, inputs: &[(&str, Rows)]) -> Made {
    let mut yaml = "version: 1\nname: random\nseed: 3\noutput: out\nstages:\n".to_owned();
    // What can be read: by reference, the rows. Halves are never read again: the model does not know them.
    let mut open: Vec<(String, Rows)> = Vec::new();
    let (mut read, mut kept, mut halves) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut dropped = BTreeMap::new();
    // What has more columns than `id` and `text`: what was tagged, and what passed a filter behind dropped or tagged rows.
    let mut wide: BTreeSet<String> = BTreeSet::new();
    for (name, rows) in inputs {
        let _ = writeln!(yaml, "  {name}: {{use: read_jsonl, path: '{name}.jsonl', columns: {{id: string, text: string}}}}");
        open.push(((*name).to_owned(), rows.clone()));
    }
    for n in 0..3 + random.below(8) {
        let mut from: Vec<(String, Rows)> = Vec::new();
        let only_plain = random.below(3) == 0;
        for _ in 0..=random.below(3) / 2 {
            let is_plain = |name: &str| !name.contains('.') && !wide.contains(name);
            let plain: Vec<&(String, Rows)> = open.iter().filter(|(name, _)| is_plain(name)).collect();
            let side: Vec<&(String, Rows)> = open.iter().filter(|(name, _)| !is_plain(name)).collect();
            let chosen = if side.is_empty() || only_plain || !from.is_empty() { random.pick(&plain) } else { random.pick(&side) };
            // A list needs equal columns, and what was dropped or tagged has more of them.
            if from.is_empty() || (is_plain(&from[0].0) && from[0].0 != chosen.0) {
                from.push((*chosen).clone());
            }
        }
        let id = format!("s{n}");
        let names: Vec<&str> = from.iter().map(|(name, _)| name.as_str()).collect();
        let list = if names.len() == 1 { names[0].to_owned() } else { format!("[{}]", names.join(", ")) };
        let rows: Rows = from.iter().flat_map(|(_, rows)| rows.clone()).collect();
        let is_wide = names[0].contains('.') || wide.contains(names[0]);
        read.extend(names.iter().map(|name| (*name).to_owned()));
        let keep = if random.below(4) == 0 { ", keep: true" } else { "" };
        let kind = random.below(5);
        let tags = kind < 2 && random.below(3) == 0;
        if tags || (is_wide && kind < 2) {
            wide.insert(id.clone());
        }
        match kind {
            0 | 1 if tags => {
                // Nothing leaves, whatever the stage would have decided.
                let _ = match kind {
                    0 => writeln!(yaml, "  {id}: {{use: filter_length, from: {list}, min_chars: 8{keep}, on_fail: tag}}"),
                    _ => writeln!(yaml, "  {id}: {{use: dedup_exact, from: {list}{keep}, on_fail: tag}}"),
                };
                open.push((id.clone(), rows));
            }
            0 => {
                let min = 6 + random.below(4);
                let _ = writeln!(yaml, "  {id}: {{use: filter_length, from: {list}, min_chars: {min}{keep}}}");
                let (long, short): (Rows, Rows) = rows.into_iter().partition(|(_, text)| text.len() >= min);
                open.push((id.clone(), long));
                dropped.insert(id.clone(), short.clone());
                open.push((format!("{id}.dropped"), short));
            }
            1 => {
                let _ = writeln!(yaml, "  {id}: {{use: dedup_exact, from: {list}{keep}}}");
                let mut seen = BTreeSet::new();
                let (first, again): (Rows, Rows) = rows.into_iter().partition(|(_, text)| seen.insert(text.clone()));
                open.push((id.clone(), first));
                dropped.insert(id.clone(), again.clone());
                open.push((format!("{id}.dropped"), again));
            }
            2 => {
                let _ = writeln!(yaml, "  {id}: {{use: split_holdout, from: {list}, fraction: 0.4}}");
                halves.push(([id.clone(), format!("{id}.holdout")], rows));
                continue;
            }
            3 => {
                let length = 6 + random.below(4);
                let _ = writeln!(
                    yaml,
                    "  {id}: {{use: sql, from: {list}{keep}, statement: 'SELECT id, text FROM input WHERE length(text) <> {length}'}}"
                );
                open.push((id.clone(), rows.into_iter().filter(|(_, text)| text.len() != length).collect()));
            }
            _ => {
                let _ = writeln!(
                    yaml,
                    "  {id}: {{use: sql, from: {list}{keep}, statement: 'SELECT id, text FROM input ORDER BY text DESC, id'}}"
                );
                let mut sorted = rows;
                sorted.sort_by(|(id_a, text_a), (id_b, text_b)| text_b.cmp(text_a).then(id_a.cmp(id_b)));
                open.push((id.clone(), sorted));
            }
        }
        if !keep.is_empty() {
            kept.insert(id);
        }
    }
    let mut expected: BTreeMap<String, Rows> =
        open.into_iter().filter(|(name, _)| !name.contains('.') && (kept.contains(name) || !read.contains(name))).collect();
    expected.extend(dropped.into_iter().map(|(id, rows)| (format!("dropped/{id}"), rows)));
    Made { yaml, expected, halves }
}

fn rows_of(project: &Project, folder: &str) -> Rows {
    if !project.path("out").join(folder).exists() {
        return Vec::new();
    }
    let column = |name: &str| project.column(&format!("out/{folder}"), name).into_iter().map(|text| text.expect("no nulls"));
    column("id").zip(column("text")).collect()
}

fn check(project: &Project, made: &Made) {
    for (folder, rows) in &made.expected {
        assert_eq!(rows_of(project, folder), *rows, "{folder} of\n{}", made.yaml);
    }
    for (folders, rows) in &made.halves {
        let mut both: Rows = folders.iter().flat_map(|folder| rows_of(project, folder)).collect();
        let mut rows = rows.clone();
        both.sort();
        rows.sort();
        assert_eq!(both, rows, "{folders:?} of\n{}", made.yaml);
    }
}

/// `GRANARY_GRAPHS=100` for the long version.
#[test]
fn random_graphs_do_what_the_model_says_and_survive_kills() {
    let graphs: u64 = std::env::var("GRANARY_GRAPHS").ok().and_then(|graphs| graphs.parse().ok()).unwrap_or(6);
    let rows = |name: &str, n: usize, step: usize| -> Rows {
        (0..n).map(|n| (format!("{name}{n}"), format!("text {}", n * n * step % 1100))).collect()
    };
    let inputs = [("a", rows("a", 90, 7)), ("b", rows("b", 40, 3)), ("c", Rows::new())];
    for seed in 1..=graphs {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let made = make(&mut random, &inputs);
        let project = || {
            let project = Project::with(&made.yaml);
            for (name, rows) in &inputs {
                let lines: String = rows.iter().map(|(id, text)| format!("{{\"id\": \"{id}\", \"text\": \"{text}\"}}\n")).collect();
                project.write(&format!("{name}.jsonl"), lines);
            }
            project
        };
        for shard_rows in ["1", "7", "400"] {
            let undisturbed = project();
            let started = std::time::Instant::now();
            undisturbed.run(&["--shard-rows", shard_rows, "--threads", "2"]);
            let takes = started.elapsed();
            check(&undisturbed, &made);
            let expected = undisturbed.files("out");
            let killed = project();
            for threads in ["1", "8", "2"] {
                let args = ["--shard-rows", shard_rows, "--threads", threads];
                let mut run = killed.start(&args);
                std::thread::sleep(takes.mul_f64(random.below(90) as f64 / 100.0)); // the moment of the kill is what is being tested
                run.kill().expect("killed");
                crate::harness::said(run.wait_with_output().expect("it ended"));
            }
            killed.run(&["--shard-rows", shard_rows, "--threads", "8"]);
            assert_eq!(differences(&killed.files("out"), &expected), [""; 0], "seed {seed}, shards of {shard_rows} rows:\n{}", made.yaml);
        }
    }
}
