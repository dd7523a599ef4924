//! What a person sees while a run works: bars on a terminal, plain lines in a log, or JSON lines for programs.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use stages::llm::Llms;

use super::asked::{self, LlmSnapshot, Watch};
use crate::record::StageTotals;
use crate::store::Store;

/// Where the state of a run is kept for `pipeline status`.
pub const FILE: &str = ".pipeline/progress.json";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Bars if stderr is a terminal, else lines.
    Auto,
    /// JSON lines on stdout.
    Json,
    /// Nothing.
    Nothing,
}

/// Counts of a run, from all its tasks.
pub struct Progress {
    started: Instant,
    stages: Vec<Counts>,
    tasks_reused: AtomicU64,
    tasks_done: AtomicU64,
    device: Option<String>,
    llms: Watch,
}

/// Counts of one stage.
#[derive(Default)]
struct Counts {
    id: String,
    stage_type: String,
    /// Whether its speed is told by the rows that leave it: those that it makes.
    makes: bool,
    active: AtomicBool,
    came_in: AtomicU64,
    went_out: AtomicU64,
    dropped: AtomicU64,
    tagged: AtomicU64,
    rejected: AtomicU64,
    tasks: AtomicU64,
    tasks_done: AtomicU64,
    finished: AtomicBool,
    /// Reused tasks' rows, which say nothing about speed.
    old_rows: AtomicU64,
    /// Milliseconds after the start when its first row moved in this run, plus one; 0 = not yet.
    first: AtomicU64,
}

/// The state of a run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Seconds since the run started.
    pub seconds: f64,
    /// Tasks done by this run and found done.
    pub tasks_done: u64,
    /// See `tasks_done`.
    pub tasks_reused: u64,
    /// What kernels run on, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The stages in order.
    pub stages: Vec<StageSnapshot>,
    /// The models that are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub llms: Vec<LlmSnapshot>,
}

/// The state of one stage at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSnapshot {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "use")]
    pub stage_type: String,
    /// Whether it is done.
    pub done: bool,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that left.
    pub rows_out: u64,
    /// Rows dropped.
    pub dropped: u64,
    /// Rows tagged; they are among those that left.
    #[serde(default)]
    pub tagged: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Tasks of the unit it works in, as far as known.
    pub tasks: u64,
    /// Of those, done.
    pub tasks_done: u64,
    /// Rows a second since its first row of this run.
    pub rows_per_second: f64,
    /// Seconds left, by the share of tasks done, where that can be said.
    pub eta_seconds: Option<f64>,
}

impl Progress {
    /// Counts for stages given as (id, type, whether it makes rows of its own), what their kernels run on, and the models that they ask.
    pub fn new(stages: impl Iterator<Item = (String, String, bool)>, device: Option<String>, llms: Llms) -> Self {
        let stages = stages.map(|(id, stage_type, makes)| Counts { id, stage_type, makes, ..Counts::default() }).collect();
        Self {
            started: Instant::now(),
            stages,
            tasks_reused: AtomicU64::new(0),
            tasks_done: AtomicU64::new(0),
            device,
            llms: Watch::new(llms),
        }
    }

    /// Counts rows that came into a stage.
    pub fn came_in(&self, node: usize, rows: u64) {
        self.stages[node].came_in.fetch_add(rows, Ordering::Relaxed);
        self.begins(node);
    }

    /// Says that a stage is at work, though nothing may have come in.
    pub fn begins(&self, node: usize) {
        let first = &self.stages[node].first;
        if first.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
            let _ = first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Counts rows that left a stage.
    pub fn went_out(&self, node: usize, rows: u64) {
        self.stages[node].went_out.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts rows a stage dropped.
    pub fn dropped(&self, node: usize, rows: u64) {
        self.stages[node].dropped.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts rows a stage tagged.
    pub fn tagged(&self, node: usize, rows: u64) {
        self.stages[node].tagged.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts rows a stage rejected.
    pub fn rejected(&self, node: usize, rows: u64) {
        self.stages[node].rejected.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts tasks that a stage is known to have.
    pub fn more_tasks(&self, node: usize, tasks: u64) {
        self.stages[node].tasks.fetch_add(tasks, Ordering::Relaxed);
        self.stages[node].active.store(true, Ordering::Relaxed);
    }

    /// Counts a finished task of the stages `nodes`.
    pub fn task_done(&self, nodes: impl Iterator<Item = usize>, reused: bool) {
        (if reused { &self.tasks_reused } else { &self.tasks_done }).fetch_add(1, Ordering::Relaxed);
        for node in nodes {
            self.stages[node].tasks_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what a task found done had counted.
    pub fn reuse(&self, node: usize, totals: &StageTotals) {
        let counts = &self.stages[node];
        counts.came_in.fetch_add(totals.rows_in, Ordering::Relaxed);
        let given = totals.rows_out.get("out").copied().unwrap_or(0);
        counts.old_rows.fetch_add(if counts.makes { given } else { totals.rows_in }, Ordering::Relaxed);
        self.went_out(node, given);
        self.dropped(node, totals.dropped.values().sum());
        self.tagged(node, totals.tagged.values().sum());
        self.rejected(node, totals.rejected.values().sum());
    }

    /// Says that a stage is done.
    pub fn finish(&self, node: usize) {
        self.stages[node].finished.store(true, Ordering::Relaxed);
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        let seconds = self.started.elapsed().as_secs_f64();
        let stages = self.stages.iter().map(|counts| {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let first = load(&counts.first);
            let active = if first == 0 { 0.0 } else { (seconds - (first - 1) as f64 / 1000.0).max(0.001) };
            let moved = if counts.makes { &counts.went_out } else { &counts.came_in };
            let new_rows = load(moved).saturating_sub(load(&counts.old_rows));
            let (tasks, tasks_done, done) = (load(&counts.tasks), load(&counts.tasks_done), counts.finished.load(Ordering::Relaxed));
            let eta =
                (!done && tasks_done > 0 && active > 0.0).then(|| active / tasks_done as f64 * tasks.saturating_sub(tasks_done) as f64);
            StageSnapshot {
                id: counts.id.clone(),
                stage_type: counts.stage_type.clone(),
                done,
                rows_in: load(&counts.came_in),
                rows_out: load(&counts.went_out),
                dropped: load(&counts.dropped),
                tagged: load(&counts.tagged),
                rejected: load(&counts.rejected),
                tasks,
                tasks_done,
                rows_per_second: if active > 0.0 { new_rows as f64 / active } else { 0.0 },
                eta_seconds: eta,
            }
        });
        Snapshot {
            seconds,
            tasks_done: self.tasks_done.load(Ordering::Relaxed),
            tasks_reused: self.tasks_reused.load(Ordering::Relaxed),
            device: self.device.clone(),
            stages: stages.collect(),
            llms: self.llms.snapshot(seconds),
        }
    }
}

/// Shows progress until it is told to stop.
pub struct Display {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts showing; does `each_second`, too, with the state then.
    pub fn start(progress: Arc<Progress>, store: Store, show: Show, each_second: impl FnMut(&Snapshot) + Send + 'static) -> Self {
        let mut each_second = each_second;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut view = View::new(&progress, show);
            let mut saved = Instant::now();
            // On object storage each write is paid for.
            let every = Duration::from_secs(if store.is_remote() { 10 } else { 1 });
            let (flag, changed) = &*stopped;
            let mut guard = flag.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let ends = *guard;
                let snapshot = progress.snapshot();
                view.show(&snapshot, ends);
                if ends || saved.elapsed() >= every {
                    saved = Instant::now();
                    each_second(&snapshot);
                    // It only informs: a full disk is reported by the writes that matter.
                    let _ = serde_json::to_vec(&snapshot).map(|bytes| store.put_volatile(FILE, &bytes));
                }
                if ends {
                    return;
                }
                guard = changed.wait_timeout(guard, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum View {
    Bars { _all: MultiProgress, bars: BTreeMap<String, ProgressBar>, llms: BTreeMap<String, ProgressBar> },
    Lines { shown: Instant, finished: Vec<bool>, told: Vec<String> },
    Json { shown: Option<Instant> },
    Nothing,
}

impl View {
    fn new(progress: &Progress, show: Show) -> Self {
        match show {
            Show::Nothing => Self::Nothing,
            Show::Json => Self::Json { shown: None },
            Show::Auto if !std::io::stderr().is_terminal() => {
                Self::Lines { shown: Instant::now(), finished: vec![false; progress.stages.len()], told: Vec::new() }
            }
            Show::Auto => {
                let all = MultiProgress::new();
                let names: Vec<String> = progress.llms.snapshot(0.0).into_iter().map(|llm| llm.name).collect();
                let ids = progress.stages.iter().map(|stage| &stage.id).chain(&names);
                let width = ids.map(|id| id.chars().count()).max().unwrap_or(0);
                let style = ProgressStyle::with_template(&format!("{{prefix:>{width}}} {{bar:24.cyan/dim}} {{msg}}"))
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("━╸─");
                let bar = |counts: &Counts| {
                    let bar = all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(counts.id.clone()));
                    bar.set_message("waiting");
                    (counts.id.clone(), bar)
                };
                let bars = progress.stages.iter().map(bar).collect();
                let style =
                    ProgressStyle::with_template(&format!("{{prefix:>{width}}} {{msg}}")).unwrap_or_else(|_| ProgressStyle::default_bar());
                let line = |name: String| (name.clone(), all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(name)));
                let llms = names.into_iter().map(line).collect();
                Self::Bars { _all: all, bars, llms }
            }
        }
    }

    fn show(&mut self, snapshot: &Snapshot, last: bool) {
        match self {
            Self::Nothing => {}
            Self::Json { shown } => {
                if last || shown.is_none_or(|shown| shown.elapsed() >= Duration::from_secs(1)) {
                    *shown = Some(Instant::now());
                    let event = serde_json::json!({"event": "progress", "progress": snapshot});
                    let _ = writeln!(std::io::stdout(), "{event}");
                }
            }
            Self::Lines { shown, finished, told } => {
                let due = shown.elapsed() >= Duration::from_secs(10);
                for (stage, finished) in snapshot.stages.iter().zip(finished) {
                    let ends = stage.done && !*finished;
                    if ends || (due && !stage.done && stage.rows_in > 0) {
                        *finished = stage.done;
                        let _ = writeln!(std::io::stderr(), "{:>7.1}s  {}: {}", snapshot.seconds, stage.id, describe(stage));
                    }
                }
                if due || last {
                    // Of models it is told what is new.
                    let lines = snapshot.llms.iter().map(|llm| format!("{}: {}", llm.name, asked::describe(llm)));
                    for line in lines.filter(|line| !told.contains(line)).collect::<Vec<_>>() {
                        let _ = writeln!(std::io::stderr(), "{:>7.1}s  {line}", snapshot.seconds);
                        told.push(line);
                    }
                    told.drain(..told.len().saturating_sub(snapshot.llms.len()));
                }
                if due {
                    *shown = Instant::now();
                }
            }
            Self::Bars { bars, llms, .. } => {
                for llm in &snapshot.llms {
                    let Some(line) = llms.get(&llm.name) else { continue };
                    let message = asked::describe(llm);
                    if last { line.abandon_with_message(message) } else { line.set_message(message) }
                }
                for stage in &snapshot.stages {
                    let Some(bar) = bars.get(&stage.id).filter(|bar| !bar.is_finished()) else { continue };
                    bar.set_length(stage.tasks.max(1));
                    bar.set_position(if stage.done { stage.tasks.max(1) } else { stage.tasks_done });
                    let message = if stage.tasks == 0 && !stage.done { "waiting".to_owned() } else { describe(stage) };
                    if stage.done {
                        bar.finish_with_message(message);
                    } else if last {
                        bar.abandon_with_message(message);
                    } else {
                        bar.set_message(message);
                    }
                }
            }
        }
    }
}

fn describe(stage: &StageSnapshot) -> String {
    let mut text = format!("{} rows", grouped(stage.rows_out));
    if stage.tagged > 0 {
        text += &format!(", {} of them tagged", grouped(stage.tagged));
    }
    if stage.dropped > 0 {
        text += &format!(", {} dropped", grouped(stage.dropped));
    }
    if stage.rejected > 0 {
        text += &format!(", {} rejected", grouped(stage.rejected));
    }
    if stage.rows_per_second >= 1.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of rows that were counted")]
        let rate = stage.rows_per_second.round() as u64;
        text += &format!(" · {}/s", grouped(rate));
    }
    if let Some(eta) = stage.eta_seconds.filter(|eta| *eta >= 1.0) {
        text += &format!(" · {} left", duration(eta));
    }
    if stage.done {
        text += " ✓";
    }
    text
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time span for people.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
