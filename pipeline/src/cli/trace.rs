//! `pipeline trace OUTPUT ID`: the life of one row.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use schemas::{ColumnSpec, document, dropped};
use unicode_width::UnicodeWidthStr;

use crate::cli::Exit;
use crate::cli::inspect::{cut_to, pad, say, values_text};
use crate::record::{RunRecord, StageRecord};
use crate::rows::{self, Query, ReadError, Row};
use crate::show;

/// Ids that are looked at for ones like an id that is not there.
const MAX_IDS: usize = 50_000;

/// Places a repeated id is looked up in, each folder.
const MAX_PLACES: usize = 20;

/// Characters of a value that are read.
const MAX_CHARS: usize = 2000;

/// Tells where a row came from, what each stage decided and why, and where it ended.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The output folder of a run.
    pub output: PathBuf,
    /// The row's id, as `inspect` shows it.
    pub id: String,
}

/// Runs the command.
///
/// # Errors
/// If the folder holds no record of a run.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let record = RunRecord::read(&args.output)?;
    let tracer = Tracer::new(&args.output, &record);
    let (text, is_found) = tracer.tell(&args.id);
    for problem in tracer.problems.borrow().iter() {
        tracing::warn!("{}", show::visible_line(problem));
    }
    say(&mut std::io::stdout().lock(), &text)?;
    Ok(if is_found { Exit::Done } else { Exit::Failed })
}

/// Where rows of a stage are kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    /// `out`, or another port that gives rows.
    Given(String),
    Dropped,
    Rejected,
}

/// A row found on disk.
#[derive(Debug)]
struct Place {
    port: Port,
    /// Folder and file, relative to the output.
    file: String,
    row: Row,
}

/// How sure it is that a row came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    No,
    Maybe,
    Yes,
}

/// What became of a row at each stage.
struct Life {
    /// Where it was found, by stage.
    places: Vec<Vec<Place>>,
    /// Whether it came into the stage.
    came: Vec<Sure>,
    /// Whether it left the stage for another one.
    left: Vec<Sure>,
    /// The stage that made it of nothing, or of rows with other ids.
    made_by: Option<usize>,
}

impl Life {
    fn is_found(&self) -> bool {
        self.places.iter().any(|places| !places.is_empty())
    }
}

struct Tracer<'r> {
    record: &'r RunRecord,
    /// Files by stage: what it may hold, the folder's name, the file.
    stored: Vec<Vec<(Port, String, Vec<PathBuf>)>>,
    index: BTreeMap<&'r str, usize>,
    problems: std::cell::RefCell<Vec<String>>,
}

impl<'r> Tracer<'r> {
    fn new(output: &'r Path, record: &'r RunRecord) -> Self {
        let mut index = BTreeMap::new();
        for (i, stage) in record.stages.iter().enumerate() {
            index.entry(stage.id.as_str()).or_insert(i);
        }
        let stored = record.stages.iter().map(|stage| stored(output, stage)).collect();
        Self { record, stored, index, problems: std::cell::RefCell::default() }
    }

    /// Whether the rows of a port of a stage are on disk, so that a row that is not there did not leave through it.
    fn keeps(&self, stage: usize, port: &str) -> bool {
        port == "dropped" || self.stored[stage].iter().any(|(kept, _, _)| matches!(kept, Port::Given(name) if name == port))
    }

    fn look_up(&self, id: &str) -> Vec<Vec<Place>> {
        (0..self.stored.len()).map(|stage| self.look_up_in(stage, id)).collect()
    }

    fn look_up_in(&self, stage: usize, id: &str) -> Vec<Place> {
        let key = document::ID;
        let query = Query { filter: Some((key.name(), id)), columns: None, max_chars: MAX_CHARS };
        let find = |(port, folder, files): &(Port, String, Vec<PathBuf>), source: &str| {
            let mut places = Vec::new();
            // What could not be read has no id yet, but the place that its id would name.
            let rest = if *port == Port::Rejected { id.strip_prefix(source).and_then(|rest| rest.strip_prefix('/')) } else { None };
            let place = rest.and_then(|rest| rest.rsplit_once('@'));
            for file in files {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let mut take = |query: Query<'_>, is_wanted: &dyn Fn(&Row) -> bool| {
                    let flow = rows::scan(file, query, &mut |row| {
                        if is_wanted(&row) {
                            places.push(Place { port: port.clone(), file: format!("{folder}/{name}"), row });
                        }
                        if places.len() < MAX_PLACES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    });
                    match flow {
                        // A stage may give rows that have no id: counts, say.
                        Ok(_) | Err(ReadError::Column { .. }) => {}
                        Err(error) => self.problem(&error),
                    }
                };
                take(query, &|_| true);
                if let Some((file, offset)) = place {
                    let is_place = |row: &Row| row.get("offset") == Some(offset) && row.get(key.name()) == Some("null");
                    take(Query { filter: Some(("file", file)), ..query }, &is_place);
                }
            }
            places
        };
        self.stored[stage].iter().flat_map(|folder| find(folder, &self.record.stages[stage].id)).collect()
    }

    fn problem(&self, error: &ReadError) {
        let mut problems = self.problems.borrow_mut();
        let text = error.to_string();
        if !problems.contains(&text) {
            problems.push(text);
        }
    }

    /// Looks a row up and works out what is not on disk from what is.
    fn life(&self, id: &str) -> Life {
        let places = self.look_up(id);
        let n = self.record.stages.len();
        let found = |i: usize| !places[i].is_empty();
        let mut came: Vec<Sure> = (0..n).map(|i| if found(i) { Sure::Yes } else { Sure::No }).collect();
        let mut left = vec![Sure::No; n];
        let from_source = self.source_of(id);
        let is_made_here = |i: usize| from_source == Some(i) && self.record.stages[i].makes;
        // From the last stage back: a row that came in left one of the stages before.
        for i in (0..n).rev() {
            // What it was made of has other ids.
            if came[i] == Sure::No || is_made_here(i) {
                continue;
            }
            let stage = &self.record.stages[i];
            let may_be = |(_, from, port): (&str, &str, &str)| {
                let j = *self.index.get(from).filter(|&&j| j < i)?;
                let is_kept_elsewhere = self.keeps(j, port) && !places[j].iter().any(|place| is_port(&place.port, port));
                let is_other_source = self.record.stages[j].is_source() && from_source.is_some_and(|source| source != j);
                (!is_kept_elsewhere && !is_other_source).then_some(j)
            };
            let mut before: Vec<usize> = stage.reads().filter_map(may_be).collect();
            before.sort_unstable();
            before.dedup();
            // Where it was found, it certainly is; the others are only needed if it was found in none.
            let certain: Vec<usize> = before.iter().copied().filter(|&j| found(j) || self.leads_from(from_source, j)).collect();
            let (before, sure) = match (certain.is_empty(), before.len()) {
                (false, _) => (certain, came[i]),
                (true, 1) => (before, came[i]),
                (true, _) => (before, Sure::Maybe),
            };
            for j in before {
                came[j] = came[j].max(sure);
                left[j] = left[j].max(sure);
            }
        }
        Life { places, came, left, made_by: from_source.filter(|&i| is_made_here(i)) }
    }

    /// The source whose name the id begins with: ids that no column gives are `<source>/<file>@<place>`, or `<stage>/<number>` of rows that a
    /// stage made.
    fn source_of(&self, id: &str) -> Option<usize> {
        let (source, _) = id.split_once('/')?;
        self.index.get(source).copied().filter(|&i| self.record.stages[i].is_source() || self.record.stages[i].makes)
    }

    /// Whether `stage` is that source or reads of it, and of no other source.
    fn leads_from(&self, source: Option<usize>, stage: usize) -> bool {
        let Some(source) = source else { return false };
        let (mut todo, mut seen) = (vec![stage], vec![false; self.record.stages.len()]);
        let mut leads = false;
        while let Some(i) = todo.pop() {
            if std::mem::replace(&mut seen[i], true) {
                continue;
            }
            leads |= i == source;
            todo.extend(self.record.stages[i].reads().filter_map(|(_, from, _)| self.index.get(from).copied()).filter(|&j| j < i));
        }
        leads
    }

    /// The story of a row, and whether there is one.
    fn tell(&self, id: &str) -> (String, bool) {
        let life = self.life(id);
        let shown = show::visible_line(id);
        if !life.is_found() {
            return (self.tell_unknown(id), false);
        }
        let mut out = format!("{shown}\n\n");
        let id_width = self.record.stages.iter().map(|stage| show::visible_line(&stage.id).width()).max().unwrap_or(0).min(24);
        let type_width = self.record.stages.iter().map(|stage| show::visible_line(&stage.stage_type).width()).max().unwrap_or(0).min(24);
        let mut duplicates = Vec::new();
        for (i, stage) in self.record.stages.iter().enumerate() {
            let head = format!(
                "  {}  {}  ",
                pad(&cut_to(&show::visible_line(&stage.id), 24), id_width),
                pad(&cut_to(&show::visible_line(&stage.stage_type), 24), type_width)
            );
            let lines = self.lines(&life, i);
            for (k, line) in lines.iter().enumerate() {
                let head = if k == 0 { head.clone() } else { " ".repeat(head.width()) };
                let _ = writeln!(out, "{}", format!("{head}{line}").trim_end());
            }
            let verdicts = life.places[i].iter().filter_map(|place| Verdict::of_place(place, stage));
            duplicates.extend(verdicts.filter_map(|verdict| verdict.duplicate_of.map(ToOwned::to_owned)));
        }
        for chain in (0..self.record.stages.len()).filter_map(|i| self.chain(&life, i)) {
            let _ = write!(out, "\n{chain}");
        }
        duplicates.dedup();
        for kept in duplicates.iter().filter(|kept| kept.as_str() != id).take(MAX_PLACES) {
            let of_kept = self.life(kept);
            let has_index = |stage: &StageRecord| stage.settings.get("index").is_some_and(|index| !index.is_null());
            let ending = if !of_kept.is_found() && self.record.stages.iter().any(has_index) {
                "not of this run; an earlier one kept it, and added it to the index".to_owned()
            } else {
                self.ending(&of_kept)
            };
            let _ = writeln!(out, "\nThe row it duplicates, {}: {ending}", show::visible_line(kept));
        }
        // The row itself rather than what a stage says about it.
        let is_view = |i: usize, place: &Place| matches!(&place.port, Port::Given(port) if self.record.stages[i].views.contains(port));
        let rows = life.places.iter().enumerate().flat_map(|(i, places)| places.iter().map(move |place| (i, place)));
        let rows = rows.filter(|(_, place)| place.port != Port::Rejected);
        if let Some((_, place)) = rows.min_by_key(|(i, place)| is_view(*i, place)) {
            let reasons = dropped::columns().map(|column| column.name);
            let values: Vec<_> =
                place.row.values.iter().filter(|(name, _)| !reasons.contains(name) && name != document::ID.name()).cloned().collect();
            if !values.is_empty() {
                let _ = write!(out, "\nThe row, as in {}:\n{}", show::visible_line(&place.file), values_text(&values, 100, 3));
            }
        }
        if let Some((parent, _)) = id.rsplit_once('#') {
            let _ = writeln!(out, "\nIt was made of {}, which has a life of its own.", show::visible_line(parent));
        }
        (out, true)
    }

    /// What is said of one stage.
    fn lines(&self, life: &Life, i: usize) -> Vec<String> {
        let stage = &self.record.stages[i];
        let mut lines: Vec<String> = life.places[i].iter().map(|place| told(place, stage)).collect();
        let has_given = life.places[i].iter().any(|place| matches!(place.port, Port::Given(_)));
        let has_ended = life.places[i].iter().any(|place| !matches!(place.port, Port::Given(_)));
        if !has_given && !has_ended {
            // What a stage tagged is told by what comes after it, where its own rows are not kept.
            let tagged = life.places[i..].iter().flatten().filter(|place| place.port != Port::Rejected);
            let tagged = tagged.filter(|_| stage.tags).find_map(|place| Verdict::of(&place.row, dropped::tags(&stage.id)));
            lines.push(match (life.left[i], stage.is_source()) {
                (left, false) if left > Sure::No && tagged.is_some() => {
                    format!("tagged {}", tagged.map(|verdict| verdict.because()).unwrap_or_default())
                }
                (Sure::Yes, _) if life.made_by == Some(i) => "made".to_owned(),
                (Sure::Yes, true) => "read".to_owned(),
                (Sure::Maybe, true) => "may have been read here".to_owned(),
                (Sure::Yes, false) => "kept".to_owned(),
                (Sure::Maybe, false) => "may have come through here".to_owned(),
                (Sure::No, _) => self.absence(life, i),
            });
        } else if !has_given && life.left[i] == Sure::Yes && life.places[i].iter().all(|place| place.port == Port::Dropped) {
            let is_read_on =
                self.record.stages.iter().enumerate().any(|(k, reader)| {
                    life.came[k] > Sure::No && reader.reads().any(|(_, from, port)| from == stage.id && port == "dropped")
                });
            if is_read_on {
                lines.push("and went on as a dropped row, which another stage reads".to_owned());
            }
        }
        lines
    }

    /// The links by which a row of a cluster hangs on the one that is kept, where the stage keeps its clusters.
    fn chain(&self, life: &Life, i: usize) -> Option<String> {
        let link = |places: &[Place]| {
            let place = places
                .iter()
                .find(|place| place.row.get("linked_to").is_some_and(|next| next != "null") && place.row.get("scope") != Some("local"))?;
            let value = |column: &str| place.row.get(column).filter(|value| *value != "null").map(show::visible_line);
            let next = place.row.get("linked_to")?.to_owned();
            let how = match (value("similarity").and_then(|similarity| similarity.parse::<f64>().ok()), value("bands")) {
                (Some(similarity), Some(bands)) => format!("Jaccard similarity {similarity:.3}, met in bands {}", show::cut(&bands, 60)),
                (None, Some(bands)) => format!("not compared, met in bands {}", show::cut(&bands, 60)),
                _ => return None,
            };
            Some((next, how))
        };
        let (mut next, mut how) = link(&life.places[i])?;
        let mut out = format!("What links it to the row that is kept, by {}:\n", show::visible_line(&self.record.stages[i].id));
        for step in 0..=MAX_PLACES {
            let _ = writeln!(out, "  {}{}: {how}", if step == 0 { "" } else { "then " }, show::visible_line(&next));
            if step == MAX_PLACES {
                let _ = writeln!(out, "  and further links, which {}.clusters holds", show::visible_line(&self.record.stages[i].id));
                break;
            }
            match link(&self.look_up_in(i, &next)) {
                Some((further, further_how)) => (next, how) = (further, further_how),
                None => break,
            }
        }
        Some(out)
    }

    /// Why a row is not there.
    fn absence(&self, life: &Life, i: usize) -> String {
        let stage = &self.record.stages[i];
        let gave = |(_, from, port): (&str, &str, &str)| {
            self.index.get(from).filter(|&&j| j < i).is_some_and(|&j| {
                life.places[j].iter().any(|place| is_port(&place.port, port))
                    || (port == "out" && life.left[j] == Sure::Yes && !self.keeps(j, port) && life.places[j].is_empty())
            })
        };
        if !stage.is_source() && stage.reads().any(gave) {
            if self.keeps(i, "out") {
                "came in; no row with this id came out".to_owned()
            } else {
                "came in; what came out is not kept, and it was not seen after that".to_owned()
            }
        } else {
            "not seen".to_owned()
        }
    }

    /// How a life ended, in a line.
    fn ending(&self, life: &Life) -> String {
        let last = self.record.stages.iter().enumerate().rev().find_map(|(i, stage)| life.places[i].first().map(|place| (place, stage)));
        match last {
            Some((place, stage)) => format!("{} by {}", told(place, stage), show::visible_line(&stage.id)),
            None => "not found in the output".to_owned(),
        }
    }

    fn tell_unknown(&self, id: &str) -> String {
        let shown = show::visible_line(id);
        let mut out = format!("No row with id {shown} is in the output, and none was dropped or rejected.\n");
        let near = self.near(id);
        if !near.is_empty() {
            out.push_str("Did you mean one of these?\n");
            for id in near {
                let _ = writeln!(out, "  {}", show::visible_line(&id));
            }
        }
        let hidden: Vec<String> = self
            .record
            .stages
            .iter()
            .enumerate()
            .filter(|(i, stage)| !self.record.is_read(&stage.id) && !self.keeps(*i, "out"))
            .map(|(_, stage)| show::visible_line(&stage.id))
            .collect();
        if !hidden.is_empty() {
            let _ = writeln!(
                out,
                "The run is {}: what left {} is not published yet.",
                show::visible_line(&self.record.state),
                hidden.join(", ")
            );
        }
        out
    }

    /// Ids like `id` among the first of the output's.
    fn near(&self, id: &str) -> Vec<String> {
        let columns = [document::ID.name().to_owned()];
        let query = Query { filter: None, columns: Some(&columns), max_chars: 400 };
        let mut ids: Vec<String> = Vec::new();
        for stage in &self.record.stages {
            let profile = &stage.totals.profile;
            ids.extend(profile.kept.iter().chain(profile.dropped.values().flatten()).map(|sample| sample.id.clone()));
        }
        for file in self.stored.iter().flatten().flat_map(|(_, _, files)| files) {
            let flow = rows::scan(file, query, &mut |row| {
                ids.extend(row.values.into_iter().map(|(_, id)| id));
                if ids.len() < MAX_IDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if matches!(flow, Ok(ControlFlow::Break(()))) {
                break;
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let likeness = |other: &str| {
            if other.contains(id) || id.contains(other) { 1.0 } else { strsim::jaro_winkler(&show::cut(id, 200), &show::cut(other, 200)) }
        };
        let mut near: Vec<(f64, String)> = ids
            .into_iter()
            .filter(|other| !other.is_empty())
            .map(|other| (likeness(&other), other))
            .filter(|(likeness, _)| *likeness > 0.85)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        near.truncate(3);
        near.into_iter().map(|(_, id)| id).collect()
    }
}

/// The folders of a stage that are on disk. Ids of a record that was tampered with lead nowhere outside the output.
fn stored(output: &Path, stage: &StageRecord) -> Vec<(Port, String, Vec<PathBuf>)> {
    let is_plain = |name: &str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    if !is_plain(&stage.id) {
        return Vec::new();
    }
    let mut folders = vec![(Port::Given("out".to_owned()), stage.id.clone())];
    let ports = stage.published.iter().filter_map(|published| published.folder.strip_prefix(stage.id.as_str())?.strip_prefix('.'));
    let ports =
        ports.chain(stage.totals.rows_out.keys().map(String::as_str)).filter(|port| !matches!(*port, "out" | "dropped" | "rejected"));
    let mut ports: Vec<&str> = ports.collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let folder = format!("{}.{port}", stage.id);
        if is_plain(&folder) {
            folders.push((Port::Given(port.to_owned()), folder));
        }
    }
    folders.push((Port::Dropped, format!("dropped/{}", stage.id)));
    folders.push((Port::Rejected, format!("rejected/{}", stage.id)));
    let with_files = |(port, folder): (Port, String)| {
        let files = rows::files_in(&output.join(&folder)).ok().filter(|files| !files.is_empty())?;
        Some((port, folder, files))
    };
    folders.into_iter().filter_map(with_files).collect()
}

fn is_port(place: &Port, port: &str) -> bool {
    match place {
        Port::Given(name) => name == port,
        Port::Dropped => port == "dropped",
        Port::Rejected => false,
    }
}

/// What a stage said against a row: the columns behind `prefix`.
struct Verdict<'r> {
    reason: &'r str,
    value: Option<f64>,
    threshold: Option<f64>,
    duplicate_of: Option<&'r str>,
}

impl<'r> Verdict<'r> {
    /// The verdict that a row carries, if there is one, in columns of these names.
    fn of(row: &'r Row, [reason, value, threshold, duplicate_of]: [ColumnSpec; 4]) -> Option<Self> {
        let text = |column: &ColumnSpec| row.get(&column.name).filter(|value| *value != "null");
        let number = |column: &ColumnSpec| text(column)?.parse().ok();
        Some(Self { reason: text(&reason)?, value: number(&value), threshold: number(&threshold), duplicate_of: text(&duplicate_of) })
    }

    /// The verdict of `stage` on a row that was found, in its own output or in that of a stage after it.
    fn of_place(place: &'r Place, stage: &StageRecord) -> Option<Self> {
        match place.port {
            Port::Dropped => Self::of(&place.row, dropped::columns()),
            Port::Given(_) => Self::of(&place.row, dropped::tags(&stage.id)).filter(|_| stage.tags),
            Port::Rejected => None,
        }
    }

    fn because(&self) -> String {
        let mut out = format!("because {}", show::visible_line(self.reason));
        if let Some(against) = show::against(self.value, self.threshold) {
            let _ = write!(out, ": {against}");
        }
        if let Some(kept) = self.duplicate_of {
            let _ = write!(out, ", a duplicate of {}", show::visible_line(kept));
        }
        out
    }
}

/// What is said of a row that was found.
fn told(place: &Place, stage: &StageRecord) -> String {
    let at = format!("({}, row {})", show::visible_line(&place.file), show::count(place.row.number));
    let value = |column: &str| place.row.get(column).filter(|value| *value != "null").map(show::visible_line);
    match &place.port {
        Port::Given(port) => {
            let how = match (stage.makes, stage.is_source()) {
                (true, _) => "made",
                (false, true) => "read",
                (false, false) => "kept",
            };
            if stage.views.contains(port) {
                return format!("shown in {} {at}", show::visible_line(port));
            }
            if let Some(verdict) = Verdict::of_place(place, stage) {
                return format!("tagged {} {at}", verdict.because());
            }
            if port == "out" { format!("{how} {at}") } else { format!("{how} as {} {at}", show::visible_line(port)) }
        }
        Port::Dropped => {
            let why = Verdict::of_place(place, stage).map_or_else(|| "because of no reason given".to_owned(), |verdict| verdict.because());
            format!("dropped {why} {at}")
        }
        Port::Rejected => {
            let mut out = format!("rejected because {}", value("reason").unwrap_or_else(|| "of no reason given".to_owned()));
            if let Some(detail) = value("detail") {
                let _ = write!(out, ": {}", show::cut(&detail, 200));
            }
            if let Some(file) = value("file") {
                let _ = write!(out, ", in {file}");
                if let Some(offset) = value("offset") {
                    let _ = write!(out, " at {offset}");
                }
            }
            format!("{out} {at}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};

    use super::*;
    use crate::report::samples;
    use crate::rows::tests::write_parquet;

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn documents(ids: &[&str]) -> RecordBatch {
        let ids: Vec<_> = ids.iter().map(|id| Some(*id)).collect();
        let bodies: Vec<String> = ids.iter().map(|id| format!("Text of {}.", id.unwrap_or_default())).collect();
        let bodies: Vec<_> = bodies.iter().map(|body| Some(body.as_str())).collect();
        RecordBatch::try_from_iter_with_nullable([("id", texts(&ids), true), ("text", texts(&bodies), true)]).unwrap()
    }

    type Drop<'s> = (&'s str, &'s str, Option<f64>, Option<f64>, Option<&'s str>);

    fn dropped_rows(rows: &[Drop<'_>]) -> RecordBatch {
        let numbers = |f: &dyn Fn(&Drop<'_>) -> Option<f64>| Arc::new(rows.iter().map(f).collect::<Float64Array>()) as ArrayRef;
        let base = documents(&rows.iter().map(|row| row.0).collect::<Vec<_>>());
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::clone(base.column(0)), true),
            ("text", Arc::clone(base.column(1)), true),
            ("drop_reason", texts(&rows.iter().map(|row| Some(row.1)).collect::<Vec<_>>()), true),
            ("drop_value", numbers(&|row| row.2), true),
            ("drop_threshold", numbers(&|row| row.3), true),
            ("duplicate_of", texts(&rows.iter().map(|row| row.4).collect::<Vec<_>>()), true),
        ])
        .unwrap()
    }

    /// The files of the run that [`samples::web`] is the record of: `pages` → `clean` → `all` ← `books`; `unique` → `sft`, `per_source`.
    fn output(bloom: bool) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let write = |path: &str, batch: RecordBatch| write_parquet(&out.join(path), &batch, bloom);
        write("sft/part-00000.parquet", documents(&["pages/a.jsonl@0", "books@311"]));
        write("sft/part-00001.parquet", documents(&["named"]));
        write("sft.holdout/part-00000.parquet", documents(&["pages/a.jsonl@900"]));
        write("per_source/part-00000.parquet", RecordBatch::try_from_iter([("source", texts(&[Some("wiki")]))]).unwrap());
        write("dropped/clean/part-00000.parquet", dropped_rows(&[("pages/a.jsonl@120", "too_short", Some(12.0), Some(200.0), None)]));
        write(
            "dropped/unique/part-00000.parquet",
            dropped_rows(&[
                ("pages/a.jsonl@440", "near_duplicate", Some(0.914), Some(0.8), Some("pages/a.jsonl@0")),
                ("books@12", "duplicate", None, None, Some("pages/a.jsonl@120")),
                ("books@13", "duplicate", None, None, Some("lost")),
            ]),
        );
        let rejected = RecordBatch::try_from_iter_with_nullable([
            ("id", texts(&[Some("pages/a.jsonl@77"), None]), true),
            ("file", texts(&[Some("a.jsonl"), Some("sub/b.jsonl")]), true),
            ("offset", Arc::new(UInt64Array::from(vec![77, 5120])) as ArrayRef, true),
            ("reason", texts(&[Some("bad_json"), Some("invalid_utf8")]), true),
            ("detail", texts(&[Some("wanted `,`, found \u{1b}[2J"), Some("byte 3")]), true),
        ])
        .unwrap();
        write("rejected/pages/part-00000.parquet", rejected);
        folder
    }

    fn trace(folder: &Path, record: &RunRecord, id: &str) -> (String, bool) {
        let tracer = Tracer::new(folder, record);
        let told = tracer.tell(id);
        assert!(tracer.problems.borrow().is_empty(), "{:?}", tracer.problems);
        told
    }

    #[test]
    fn a_kept_row_is_followed_from_its_source_to_the_output() {
        for bloom in [true, false] {
            let folder = output(bloom);
            let (text, is_found) = trace(folder.path(), &samples::web(), "pages/a.jsonl@0");
            assert!(is_found);
            insta::allow_duplicates! {
                insta::assert_snapshot!(text, @r#"
        pages/a.jsonl@0

          pages       read_jsonl     read
          books       read_parquet   not seen
          clean       filter_length  kept
          all         concat         kept
          unique      dedup_minhash  kept
          sft         split_holdout  kept (sft/part-00000.parquet, row 0)
          per_source  sql            came in; no row with this id came out

        The row, as in sft/part-00000.parquet:
          text  Text of pages/a.jsonl@0.
        "#);
            }
        }
    }

    #[test]
    fn a_dropped_row_is_told_with_value_and_threshold() {
        let folder = output(true);
        insta::assert_snapshot!(trace(folder.path(), &samples::web(), "pages/a.jsonl@120").0, @r#"
        pages/a.jsonl@120

          pages       read_jsonl     read
          books       read_parquet   not seen
          clean       filter_length  dropped because too_short: 12 < 200 (dropped/clean/part-00000.parquet, row 0)
          all         concat         not seen
          unique      dedup_minhash  not seen
          sft         split_holdout  not seen
          per_source  sql            not seen

        The row, as in dropped/clean/part-00000.parquet:
          text  Text of pages/a.jsonl@120.
        "#);
    }

    #[test]
    fn a_duplicate_is_told_with_the_row_it_duplicates() {
        let folder = output(true);
        insta::assert_snapshot!(trace(folder.path(), &samples::web(), "pages/a.jsonl@440").0, @r#"
        pages/a.jsonl@440

          pages       read_jsonl     read
          books       read_parquet   not seen
          clean       filter_length  kept
          all         concat         kept
          unique      dedup_minhash  dropped because near_duplicate: 0.914 > 0.8, a duplicate of pages/a.jsonl@0 (dropped/unique/part-00000.parquet, row 0)
          sft         split_holdout  not seen
          per_source  sql            not seen

        The row it duplicates, pages/a.jsonl@0: kept (sft/part-00000.parquet, row 0) by sft

        The row, as in dropped/unique/part-00000.parquet:
          text  Text of pages/a.jsonl@440.
        "#);
        let (text, _) = trace(folder.path(), &samples::web(), "books@12");
        assert!(text.contains("The row it duplicates, pages/a.jsonl@120: dropped because too_short: 12 < 200"), "{text}");
        let (text, _) = trace(folder.path(), &samples::web(), "books@13");
        assert!(text.contains("The row it duplicates, lost: not found in the output"), "{text}");
    }

    #[test]
    fn a_rejected_row_is_told_with_its_place_and_nothing_acts_on_the_terminal() {
        let folder = output(true);
        insta::assert_snapshot!(trace(folder.path(), &samples::web(), "pages/a.jsonl@77").0, @r#"
        pages/a.jsonl@77

          pages       read_jsonl     rejected because bad_json: wanted `,`, found ␛[2J, in a.jsonl at 77 (rejected/pages/part-00000.parquet, row 0)
          books       read_parquet   not seen
          clean       filter_length  not seen
          all         concat         not seen
          unique      dedup_minhash  not seen
          sft         split_holdout  not seen
          per_source  sql            not seen
        "#);
    }

    #[test]
    fn what_could_not_be_read_is_found_by_its_place() {
        let folder = output(true);
        let (text, _) = trace(folder.path(), &samples::web(), "pages/sub/b.jsonl@5120");
        assert!(text.contains("rejected because invalid_utf8: byte 3, in sub/b.jsonl at 5120"), "{text}");
        assert!(!trace(folder.path(), &samples::web(), "pages/sub/b.jsonl@5121").1);
        assert!(!trace(folder.path(), &samples::web(), "books/sub/b.jsonl@5120").1);
    }

    #[test]
    fn an_id_that_says_nothing_of_its_source_may_be_of_either() {
        let folder = output(true);
        let (text, _) = trace(folder.path(), &samples::web(), "named");
        insta::assert_snapshot!(text.lines().skip(2).take(4).collect::<Vec<_>>().join("\n"), @r#"
        pages       read_jsonl     may have been read here
        books       read_parquet   may have been read here
        clean       filter_length  may have come through here
        all         concat         kept
        "#);
        let (text, _) = trace(folder.path(), &samples::web(), "pages/a.jsonl@900");
        assert!(text.contains("kept as holdout (sft.holdout/part-00000.parquet, row 0)"), "{text}");
    }

    #[test]
    fn an_unknown_id_is_said_so_with_ids_like_it() {
        let folder = output(true);
        let (text, is_found) = trace(folder.path(), &samples::web(), "pages/a.jsonl@44");
        assert!(!is_found);
        insta::assert_snapshot!(text, @r#"
        No row with id pages/a.jsonl@44 is in the output, and none was dropped or rejected.
        Did you mean one of these?
          pages/a.jsonl@440
          pages/a.jsonl@0
          pages/a.jsonl@77
        "#);
        assert!(trace(folder.path(), &samples::web(), "l@44").0.contains("  pages/a.jsonl@440\n"));
        let mut value = serde_json::to_value(samples::web()).unwrap();
        value["state"] = "interrupted".into();
        std::fs::write(folder.path().join("run.json"), value.to_string()).unwrap();
        let args = |id: &str| Args { output: folder.path().to_owned(), id: id.to_owned() };
        assert_eq!(execute(args("zzz")).unwrap(), Exit::Failed);
        assert_eq!(execute(args("books@311")).unwrap(), Exit::Done);
    }

    #[test]
    fn a_row_that_a_stage_made_is_told_from_there_on() {
        let folder = output(true);
        let mut record = samples::web();
        // `all` makes its rows, of `clean` and `books`.
        record.stages[3].makes = true;
        write_parquet(&folder.path().join("sft/part-00002.parquet"), &documents(&["all/7"]), true);
        let (text, _) = trace(folder.path(), &record, "all/7");
        insta::assert_snapshot!(text.lines().skip(2).take(6).collect::<Vec<_>>().join("\n"), @r"
        pages       read_jsonl     not seen
        books       read_parquet   not seen
        clean       filter_length  not seen
        all         concat         made
        unique      dedup_minhash  kept
        sft         split_holdout  kept (sft/part-00002.parquet, row 0)
        ");
    }

    #[test]
    fn rows_in_json_lines_are_found_too() {
        let folder = output(true);
        std::fs::remove_dir_all(folder.path().join("sft")).unwrap();
        std::fs::create_dir_all(folder.path().join("sft")).unwrap();
        let lines = "{\"id\":\"x\",\"text\":\"t\"}\n{\"id\":\"y\",\"text\":\"u\"}\n";
        std::fs::write(folder.path().join("sft/part-00000.jsonl.zst"), zstd::encode_all(lines.as_bytes(), 1).unwrap()).unwrap();
        let (text, _) = trace(folder.path(), &samples::web(), "y");
        assert!(text.contains("kept (sft/part-00000.jsonl.zst, row 1)"), "{text}");
    }

    #[test]
    fn a_damaged_file_is_named_and_the_rest_is_told() {
        let folder = output(true);
        std::fs::write(folder.path().join("dropped/unique/part-00000.parquet"), b"PAR1 and no more").unwrap();
        let record = samples::web();
        let tracer = Tracer::new(folder.path(), &record);
        assert!(tracer.tell("pages/a.jsonl@0").1);
        assert!(tracer.problems.borrow()[0].contains("dropped/unique/part-00000.parquet is no readable Parquet file"));
    }

    #[test]
    fn a_record_that_was_tampered_with_leads_nowhere() {
        let folder = output(true);
        let outside = tempfile::tempdir().unwrap();
        write_parquet(&outside.path().join("part-00000.parquet"), &documents(&["secret"]), true);
        let mut record = samples::web();
        let beside = format!("sft/../../{}", outside.path().file_name().unwrap().to_str().unwrap());
        for (stage, id) in record.stages.iter_mut().zip([outside.path().to_str().unwrap(), "../x", "..", "", ".", beside.as_str(), "sft"]) {
            stage.id = id.to_owned();
            stage.inputs = vec![("from".to_owned(), vec!["sft".to_owned(), "..".to_owned(), String::new()])];
        }
        assert!(!trace(folder.path(), &record, "secret").1);
        assert!(trace(folder.path(), &record, "books@311").1);
        assert!(!trace(folder.path(), &samples::hostile(), samples::PLANTED).1);
    }
}
