//! Two runs against each other: what differs between their `run.json`s, as a short text and as a page.

mod lines;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::record::{RunRecord, StageRecord};
use crate::show::{self, count};
use lines::Line;

/// Findings that the text on the terminal lists.
const MAX_TOLD: usize = 40;

/// A run, and the folder it lies in, as the person named it.
#[derive(Debug, Clone, Copy)]
pub struct Run<'r> {
    /// The folder.
    pub folder: &'r str,
    /// Its record.
    pub record: &'r RunRecord,
}

/// What differs between an earlier run and another.
#[derive(Debug)]
pub struct Diff<'r> {
    before: Run<'r>,
    now: Run<'r>,
    recipe: Vec<Line<'r>>,
    stages: Vec<Pair<'r>>,
    findings: Vec<String>,
}

/// A stage in both runs, or in one of them.
#[derive(Debug)]
struct Pair<'r> {
    before: Option<&'r StageRecord>,
    now: Option<&'r StageRecord>,
    /// Where in the settings, with both values as JSON.
    settings: Vec<Changed>,
}

/// A value that is not the same in both runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Changed {
    what: String,
    before: Option<String>,
    now: Option<String>,
}

/// A count in both runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    before: u64,
    now: u64,
}

impl Counts {
    fn differ(self) -> bool {
        self.before != self.now
    }

    /// `+1,204 (+3.1 %)`; `=` where nothing changed.
    fn change(self) -> String {
        self.change_as(count)
    }

    fn change_as(self, text: fn(u64) -> String) -> String {
        if !self.differ() {
            return "=".to_owned();
        }
        let sign = if self.now > self.before { '+' } else { '−' };
        let by = self.now.abs_diff(self.before);
        if self.before == 0 { format!("{sign}{}", text(by)) } else { format!("{sign}{} ({sign}{})", text(by), share_of(by, self.before)) }
    }
}

/// A change in per cent; of many times the whole in so many times.
fn share_of(by: u64, whole: u64) -> String {
    if by / 10 >= whole { format!("{} ×", show::number((by as f64 / whole as f64).round())) } else { show::share(by, whole) }
}

impl<'r> Pair<'r> {
    fn either(&self) -> Option<&'r StageRecord> {
        self.now.or(self.before)
    }

    fn id(&self) -> &'r str {
        self.either().map_or("", |stage| stage.id.as_str())
    }

    fn counts(&self, of: impl Fn(&StageRecord) -> u64) -> Counts {
        let of = |stage: Option<&StageRecord>| stage.map_or(0, &of);
        Counts { before: of(self.before), now: of(self.now) }
    }

    /// Counts by name, in the order of names.
    fn named(&self, of: impl Fn(&StageRecord) -> &BTreeMap<String, u64>) -> BTreeMap<&'r str, Counts> {
        let mut all: BTreeMap<&'r str, Counts> = BTreeMap::new();
        for (name, n) in self.before.into_iter().flat_map(|stage| of_static(stage, &of)) {
            all.entry(name).or_default().before = *n;
        }
        for (name, n) in self.now.into_iter().flat_map(|stage| of_static(stage, &of)) {
            all.entry(name).or_default().now = *n;
        }
        all
    }

    /// Files, rows and bytes of each folder.
    fn folders(&self) -> BTreeMap<&'r str, [Counts; 3]> {
        let mut all: BTreeMap<&'r str, [Counts; 3]> = BTreeMap::new();
        let sizes = |stage: &'r StageRecord| {
            stage.published.iter().map(|published| {
                let bytes = published.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.bytes));
                (published.folder.as_str(), [published.parts.len() as u64, published.rows, bytes])
            })
        };
        for (folder, sizes) in self.before.into_iter().flat_map(sizes) {
            all.entry(folder).or_default().iter_mut().zip(sizes).for_each(|(counts, n)| counts.before = n);
        }
        for (folder, sizes) in self.now.into_iter().flat_map(sizes) {
            all.entry(folder).or_default().iter_mut().zip(sizes).for_each(|(counts, n)| counts.now = n);
        }
        all
    }

    /// Whether the stage's rows, as far as the record tells, differ in any way that its counts do not say.
    fn has_other_rows(&self) -> bool {
        let (Some(before), Some(now)) = (self.before, self.now) else { return false };
        let (a, b) = (&before.totals, &now.totals);
        a.profile != b.profile
            || a.measured != b.measured
            || a.nulls != b.nulls
            || a.counted != b.counted
            || a.bytes_out != b.bytes_out
            || before.published != now.published
    }
}

fn of_static<'r, F>(stage: &'r StageRecord, of: &F) -> &'r BTreeMap<String, u64>
where
    F: for<'s> Fn(&'s StageRecord) -> &'s BTreeMap<String, u64>,
{
    of(stage)
}

/// The values of settings that are not the same, by path: `shingle.n`.
fn changed_settings(before: &Value, now: &Value) -> Vec<Changed> {
    fn flatten<'v>(value: &'v Value, path: &str, into: &mut Vec<(String, &'v Value)>) {
        match value {
            Value::Object(fields) if !fields.is_empty() || path.is_empty() => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    flatten(value, &path, into);
                }
            }
            value => into.push((path.to_owned(), value)),
        }
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    flatten(before, "", &mut a);
    flatten(now, "", &mut b);
    let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) = (a.into_iter().collect(), b.into_iter().collect());
    let paths: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let changed = paths.into_iter().filter(|path| a.get(*path) != b.get(*path));
    let text = |value: Option<&&Value>| value.map(ToString::to_string);
    changed.map(|path| Changed { what: path.clone(), before: text(a.get(path)), now: text(b.get(path)) }).collect()
}

/// What a stage is, besides its settings: type, version, what it reads, the files it depends on.
fn changed_stage(before: &StageRecord, now: &StageRecord) -> Vec<Changed> {
    let reads = |stage: &StageRecord| {
        let port = |(port, from): &(String, Vec<String>)| {
            let from = from.join(" + ");
            if port == "from" { from } else { format!("{port}: {from}") }
        };
        stage.inputs.iter().map(port).collect::<Vec<_>>().join(", ")
    };
    let mut all = vec![
        ("use".to_owned(), Some(before.stage_type.clone()), Some(now.stage_type.clone())),
        ("version".to_owned(), Some(before.version.to_string()), Some(now.version.to_string())),
        ("from".to_owned(), Some(reads(before)), Some(reads(now))),
    ];
    let names: BTreeSet<&String> = before.files.iter().chain(&now.files).map(|(name, _)| name).collect();
    let hash = |stage: &StageRecord, name: &String| stage.files.iter().find(|(file, _)| file == name).map(|(_, hash)| hash.clone());
    all.extend(names.into_iter().map(|name| (format!("file {name}"), hash(before, name), hash(now, name))));
    all.into_iter().filter(|(_, before, now)| before != now).map(|(what, before, now)| Changed { what, before, now }).collect()
}

fn on_one_line(text: &str) -> String {
    show::visible_line(&show::cut(text, 120))
}

impl Changed {
    fn as_text(&self) -> String {
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| "–".to_owned(), on_one_line);
        format!("{} {} → {}", on_one_line(&self.what), value(&self.before), value(&self.now))
    }
}

impl<'r> Diff<'r> {
    /// What is different in `now`.
    pub fn of(before: Run<'r>, now: Run<'r>) -> Self {
        let mut stages: Vec<Pair<'r>> = Vec::new();
        for stage in &now.record.stages {
            let before = before.record.stages.iter().find(|other| other.id == stage.id);
            let mut settings = before.map_or_else(Vec::new, |before| changed_stage(before, stage));
            settings.extend(before.map_or_else(Vec::new, |before| changed_settings(&before.settings, &stage.settings)));
            stages.push(Pair { before, now: Some(stage), settings });
        }
        for stage in before.record.stages.iter().filter(|stage| now.record.stages.iter().all(|other| other.id != stage.id)) {
            stages.push(Pair { before: Some(stage), now: None, settings: Vec::new() });
        }
        let recipe = lines::diff(&before.record.recipe, &now.record.recipe);
        let mut diff = Self { before, now, recipe, stages, findings: Vec::new() };
        diff.findings = diff.find();
        diff
    }

    /// Whether all that is recorded is the same, but for the name of the folder, the machine, time and memory.
    pub fn is_equal(&self) -> bool {
        self.findings.is_empty()
    }

    /// Everything that differs, the cause before what came of it, in words.
    fn find(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (before, now) = (self.before.record, self.now.record);
        for (what, a, b) in
            [("state", &before.state, &now.state), ("program", &before.granary, &now.granary), ("name", &before.name, &now.name)]
        {
            if a != b {
                found.push(format!("{what}: {} → {}", on_one_line(a), on_one_line(b)));
            }
        }
        if before.seed != now.seed {
            found.push(format!("seed: {} → {}", before.seed, now.seed));
        }
        let [gone, new] = self.recipe_changes();
        if gone + new > 0 {
            found.push(format!("recipe: {new} {} new, {gone} gone", if new == 1 { "line" } else { "lines" }));
        } else if before.recipe != now.recipe {
            found.push("recipe: ends of lines".to_owned());
        }
        for pair in &self.stages {
            let id = on_one_line(pair.id());
            let Some(_) = pair.before else {
                found.push(format!("{id}: new stage"));
                continue;
            };
            let Some(_) = pair.now else {
                found.push(format!("{id}: stage is gone"));
                continue;
            };
            found.extend(pair.settings.iter().map(|changed| format!("{id}: {}", changed.as_text())));
        }
        let ids = |record: &'r RunRecord| record.stages.iter().map(|stage| stage.id.as_str()).collect::<Vec<_>>();
        if found.is_empty() && ids(before) != ids(now) {
            found.push("order of stages".to_owned());
        }
        for pair in self.stages.iter().filter(|pair| pair.before.is_some() && pair.now.is_some()) {
            let already = found.len();
            let id = on_one_line(pair.id());
            let mut tell = |what: &str, counts: Counts| {
                if counts.differ() {
                    found.push(format!("{id}: {what} {} → {}, {}", count(counts.before), count(counts.now), counts.change()));
                }
            };
            tell("rows in", pair.counts(|stage| stage.totals.rows_in));
            tell("rows out", pair.counts(StageRecord::rows_given));
            for (reason, counts) in pair.named(|stage| &stage.totals.dropped) {
                tell(&format!("dropped as {}", on_one_line(reason)), counts);
            }
            for (reason, counts) in pair.named(|stage| &stage.totals.rejected) {
                tell(&format!("rejected as {}", on_one_line(reason)), counts);
            }
            if found.len() == already && pair.has_other_rows() {
                found.push(format!("{id}: as many rows, and not the same: sizes, columns' nulls, measured numbers or sampled rows differ"));
            }
        }
        if found.is_empty() {
            let prints =
                self.stages.iter().filter(|pair| pair.before.map(|stage| &stage.fingerprint) != pair.now.map(|stage| &stage.fingerprint));
            found.extend(prints.map(|pair| format!("{}: other columns, or they are described otherwise", on_one_line(pair.id()))));
        }
        found
    }

    /// Lines that are gone, and new ones.
    fn recipe_changes(&self) -> [usize; 2] {
        let n = |of: fn(&Line<'_>) -> bool| self.recipe.iter().filter(|line| of(line)).count();
        [n(|line| matches!(line, Line::Gone(_))), n(|line| matches!(line, Line::New(_)))]
    }

    /// Whether the times can be held against each other: a run that found work done did not do it again.
    fn reused(&self) -> [u64; 2] {
        [self.before.record.tasks.reused, self.now.record.tasks.reused]
    }

    /// What differs, for a terminal.
    pub fn text(&self) -> String {
        let (before, now) = (self.before.record, self.now.record);
        let mut out = format!("before  {}\nnow     {}\n", on_one_line(self.before.folder), on_one_line(self.now.folder));
        if self.is_equal() {
            out.push_str("equal: recipe, settings, versions, every count, and files to the byte\n");
        } else {
            let n = self.findings.len();
            let _ = writeln!(out, "{n} {}", if n == 1 { "difference" } else { "differences" });
            for finding in self.findings.iter().take(MAX_TOLD) {
                let _ = writeln!(out, "  {finding}");
            }
            if n > MAX_TOLD {
                let _ = writeln!(out, "  … {} more, on the page", n - MAX_TOLD);
            }
        }
        let reused = if self.reused() == [0, 0] { "" } else { "; work found done is in neither" };
        let _ = writeln!(
            out,
            "time {} → {}, processor {} → {}, memory {} → {}{reused}",
            show::duration(before.wall_seconds),
            show::duration(now.wall_seconds),
            show::duration(before.cpu_seconds),
            show::duration(now.cpu_seconds),
            show::bytes(before.peak_memory_bytes),
            show::bytes(now.peak_memory_bytes),
        );
        out
    }

    /// What differs, as a page that needs nothing but itself.
    pub fn page(&self) -> String {
        page::render(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::samples;

    pub(super) fn changed() -> RunRecord {
        let mut now = samples::web();
        now.recipe = now.recipe.replace("min_chars: 200", "min_chars: 180").replace("seed: 7", "seed: 8");
        now.seed = 8;
        let clean = &mut now.stages[2];
        clean.settings["min_chars"] = json!(180);
        clean.totals.rows_out.insert("out".to_owned(), 272_810);
        clean.totals.dropped.insert("too_short".to_owned(), 116_700);
        clean.totals.dropped.remove("no_text");
        now.stages.remove(1);
        now
    }

    fn run<'r>(folder: &'r str, record: &'r RunRecord) -> Run<'r> {
        Run { folder, record }
    }

    #[test]
    fn two_runs_of_one_thing_are_equal_whatever_they_took() {
        let before = samples::web();
        let mut now = samples::web();
        now.wall_seconds *= 2.0;
        now.peak_memory_bytes *= 2;
        now.machine.cores = 64;
        now.threads = 64;
        now.started = "2027-01-01T00:00:00Z".to_owned();
        now.stages[3].totals.busy_seconds = 9.0;
        now.tasks.reused = 0;
        let diff = Diff::of(run("old", &before), run("new", &now));
        assert!(diff.is_equal(), "{:?}", diff.findings);
        insta::assert_snapshot!(diff.text(), @r"
        before  old
        now     new
        equal: recipe, settings, versions, every count, and files to the byte
        time 1 min 01 s → 2 min 03 s, processor 3 min 12 s → 3 min 12 s, memory 1.4 GiB → 2.8 GiB; work found done is in neither
        ");
    }

    #[test]
    fn what_differs_is_told_cause_first() {
        let (before, now) = (samples::web(), changed());
        insta::assert_snapshot!(Diff::of(run("old", &before), run("new", &now)).text(), @r"
        before  old
        now     new
        7 differences
          seed: 7 → 8
          recipe: 2 lines new, 2 gone
          clean: min_chars 200 → 180
          books: stage is gone
          clean: rows out 268,120 → 272,810, +4,690 (+1.7 %)
          clean: dropped as no_text 40 → 0, −40 (−100.0 %)
          clean: dropped as too_short 121,390 → 116,700, −4,690 (−3.9 %)
        time 1 min 01 s → 1 min 01 s, processor 3 min 12 s → 3 min 12 s, memory 1.4 GiB → 1.4 GiB; work found done is in neither
        ");
    }

    #[test]
    fn any_one_thing_that_differs_is_found() {
        type Change = fn(&mut RunRecord);
        let changes: [(&str, Change); 12] = [
            ("state", |run| run.state = "failed".to_owned()),
            ("program", |run| run.granary = "9.9.9".to_owned()),
            ("recipe", |run| run.recipe.push_str("# a comment\n")),
            ("unique: version 1 → 2", |run| run.stages[4].version = 2),
            ("unique: from all → clean", |run| run.stages[4].inputs[0].1 = vec!["clean".to_owned()]),
            ("unique: file words.txt – → ab12", |run| run.stages[4].files.push(("words.txt".to_owned(), "ab12".to_owned()))),
            ("unique: shingle.n 5 → 6", |run| run.stages[4].settings["shingle"]["n"] = json!(6)),
            ("clean: as many rows, and not the same", |run| run.stages[2].totals.nulls = [("url".to_owned(), 1)].into()),
            ("clean: as many rows, and not the same", |run| run.stages[2].totals.measured.clear()),
            ("sft: as many rows, and not the same", |run| run.stages[5].published[0].parts[0].bytes += 1),
            ("clean: other columns", |run| run.stages[2].fingerprint.push('x')),
            ("pages: rejected as bad_json 31 → 32, +1 (+3.2 %)", |run| {
                run.stages[0].totals.rejected.insert("bad_json".to_owned(), 32);
            }),
        ];
        for (wanted, change) in changes {
            let (before, mut now) = (samples::web(), samples::web());
            change(&mut now);
            let diff = Diff::of(run("old", &before), run("new", &now));
            assert_eq!(diff.findings.len(), 1, "{wanted}: {:?}", diff.findings);
            assert!(diff.findings[0].starts_with(wanted), "{wanted}: {:?}", diff.findings);
        }
    }

    #[test]
    fn a_change_reads_well() {
        let change = |before, now| Counts { before, now }.change();
        assert_eq!(
            [change(5, 5), change(0, 12), change(100, 50), change(1000, 1001), change(2, 5000), change(7, 0)],
            ["=", "+12", "−50 (−50.0 %)", "+1 (+0.1 %)", "+4,998 (+2499 ×)", "−7 (−100.0 %)"]
        );
    }
}
