//! What a run leaves behind about itself: `run.json`, and what the report and the card are made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stages::Measured;
use stages::llm::{Llm, LlmBudget, LlmFigures, Price};

use crate::device::DeviceRecord;
use crate::profile::{add, add_counts};

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of the program.
    pub granary: String,
    /// The pipeline's name.
    pub name: String,
    /// File name of the pipeline file.
    pub file: String,
    /// Its text.
    pub recipe: String,
    /// The run's seed.
    pub seed: u64,
    /// `done`, `failed`, `stopped` or `interrupted`.
    pub state: String,
    /// Why, when the state is not `done`.
    pub error: Option<String>,
    /// When this run started; RFC 3339, UTC.
    pub started: String,
    /// How long this run took.
    pub wall_seconds: f64,
    /// CPU time of this run, all threads.
    pub cpu_seconds: f64,
    /// Most memory the process held.
    pub peak_memory_bytes: u64,
    /// Tasks done by this run, and tasks found done by an earlier one.
    pub tasks: TaskCounts,
    /// Worker threads.
    pub threads: usize,
    /// The memory it was told to keep to.
    pub memory_bytes: u64,
    /// The machine: cores, operating system, processor.
    pub machine: Machine,
    /// What kernels ran on; none where no stage has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceRecord>,
    /// The folder where the answers of models are kept; none where no stage asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// The models that were asked, by their name in `llms`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub llms: BTreeMap<String, LlmRecord>,
    /// The stages, each after what it reads.
    pub stages: Vec<StageRecord>,
}

/// A model that a run asked, and what this run's requests came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlmRecord {
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// What tells one state of it from another, where the name does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What its answers depend on besides the request.
    pub identity: String,
    /// What tokens cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// What the output may spend.
    #[serde(default)]
    pub budget: LlmBudget,
    /// What is not as one would want it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the requests of this run came to, and what the output has spent in all its runs.
    #[serde(flatten)]
    pub figures: LlmFigures,
}

impl LlmRecord {
    /// The record of a model, as it stands.
    pub fn of(llm: &Llm) -> Self {
        let settings = llm.settings();
        Self {
            model: settings.model.clone(),
            revision: settings.revision.clone(),
            identity: llm.identity().to_owned(),
            price: settings.price,
            budget: settings.budget.clone(),
            warnings: settings.warnings(),
            figures: llm.figures(),
        }
    }
}

/// In [`StageTotals::ran_on`]: on a GPU, and where that failed (the device was lost, say) on the processor.
pub const FELL_BACK: &str = "fell_back";

/// How many tasks a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Done by this run.
    pub done: u64,
    /// Found done.
    pub reused: u64,
}

/// The machine a run was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Logical processors.
    pub cores: usize,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
}

/// One stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "use")]
    pub stage_type: String,
    /// Its type's version.
    pub version: u32,
    /// Its fingerprint: what its rows depend on.
    pub fingerprint: String,
    /// Every setting with its value.
    pub settings: Value,
    /// Files besides its inputs that its rows depend on: name and content hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<(String, String)>,
    /// What feeds it: port, then `id` or `id.port`.
    pub inputs: Vec<(String, Vec<String>)>,
    /// What was found out while building it.
    pub notes: Vec<String>,
    /// Ports whose rows are a view of the stage's rows, not a share of them: they have other columns than `out`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<String>,
    /// Whether rows that it decides against stay among the others: `on_fail: tag`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tags: bool,
    /// Whether it makes rows of its own: their ids begin with its id, as those of a source do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub makes: bool,
    /// Counts, times and profile over all its tasks.
    #[serde(flatten)]
    pub totals: StageTotals,
    /// What it published, by output folder (`sft`, `split.holdout`, `dropped/clean`, `rejected/pages`).
    pub published: Vec<Published>,
}

/// Counts, times and profile of a stage: of one task in a done mark, of all in `run.json`. Everything in it can be added up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StageTotals {
    /// Rows that came in; for a source, rows read and rejected.
    pub rows_in: u64,
    /// Rows that left, by port (`out`, `dropped`, …).
    pub rows_out: BTreeMap<String, u64>,
    /// Bytes of the rows that left through `out`, in memory.
    pub bytes_out: u64,
    /// Nulls in columns of the rows that left through `out`; columns without one are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nulls: BTreeMap<String, u64>,
    /// Rows dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Rows that the stage decided against and that went on with the others, by reason: those of `on_fail: tag`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged: BTreeMap<String, u64>,
    /// Rows rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// What was met and is no rejection: what, then the name it is about, then how often (`field_not_in_schema`, say).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counted: BTreeMap<String, BTreeMap<String, u64>>,
    /// What the stage counts of what it does, for the report: figure, then name, then count (`cluster_size`, say).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, BTreeMap<String, u64>>,
    /// The numbers it decided by, over all rows it saw, against the bounds it held them to: by name (`chars`, say).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, Measured>,
    /// Of a stage with kernels, its shards by what they ran on: `cpu`, `gpu`, or [`FELL_BACK`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ran_on: BTreeMap<String, u64>,
    /// Time spent in the stage's own code, summed over threads.
    pub busy_seconds: f64,
    /// Time in which its tasks did nothing but wait for those that it asks over the network, summed over tasks.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub waited_seconds: f64,
    /// Most bytes of rows that came into one of its tasks.
    pub peak_bytes: u64,
    /// What its rows look like.
    pub profile: Profile,
}

/// What a stage published in one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The folder, relative to the output.
    pub folder: String,
    /// Rows in all parts.
    pub rows: u64,
    /// The files, in order: name, rows, bytes.
    pub parts: Vec<PublishedPart>,
}

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPart {
    /// File name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What the rows that leave a stage look like; made row by row, so it adds up and does not depend on batches or tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Profile {
    /// How many texts have a length of `2^k .. 2^(k+1)` characters: `k` to count (`k` = 0 also holds the empty ones). Empty if there is no `text`.
    #[serde(with = "number_keys")]
    pub lengths: BTreeMap<u8, u64>,
    /// Rows by the value of column `source`, up to [`Profile::MAX_SOURCES`] values; the rest under `…`. Empty if there is no such column.
    pub sources: BTreeMap<String, u64>,
    /// A few rows that were kept, chosen by hash of their id.
    pub kept: Vec<Sample>,
    /// A few rows for each reason they were dropped or tagged for.
    pub dropped: BTreeMap<String, Vec<Sample>>,
}

/// One row shown to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Hash of the id: the smallest ones are chosen.
    pub order: u64,
    /// The row's id.
    pub id: String,
    /// Columns and their values as text, each cut to a few hundred characters.
    pub values: Vec<(String, String)>,
    /// For a dropped row: the measured value, the threshold, and the row it duplicates.
    pub drop_value: Option<f64>,
    /// See `drop_value`.
    pub drop_threshold: Option<f64>,
    /// See `drop_value`.
    pub duplicate_of: Option<String>,
}

/// Numbers as keys of a JSON object. By itself serde writes them but cannot read them back inside a flattened struct, as
/// [`StageTotals`] is in a [`StageRecord`].
mod number_keys {
    use std::collections::BTreeMap;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<u8, u64>, serializer: S) -> Result<S::Ok, S::Error> {
        map.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u8, u64>, D::Error> {
        let map = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let number = |key: String| key.parse().map_err(|_| D::Error::custom(format!("key `{key}` is no number from 0 to 255")));
        map.into_iter().map(|(key, n)| Ok((number(key)?, n))).collect()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_nothing(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// Why there is no record to read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum RecordError {
    /// The folder holds no `run.json`.
    #[error("{} has no run.json", .output.display())]
    #[diagnostic(help("give the output folder of a run; run.json is written when the run ends"))]
    Missing {
        /// The folder.
        output: PathBuf,
    },
    /// It cannot be read.
    #[error("can't read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no record.
    #[error("{} is no run record", .path.display())]
    #[diagnostic(help("`pipeline run FILE` writes it again; work that is done is not repeated"))]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        source: serde_json::Error,
    },
}

impl RunRecord {
    /// Reads `run.json` in `output`.
    ///
    /// # Errors
    /// If it is not there, or is no record.
    pub fn read(output: &Path) -> Result<Self, RecordError> {
        let path = output.join("run.json");
        match crate::store::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| RecordError::Format { path, source }),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Err(RecordError::Missing { output: output.to_owned() })
            }
            Err(source) => Err(RecordError::Io { path, source }),
        }
    }

    /// Whether another stage reads something of `id`.
    pub fn is_read(&self, id: &str) -> bool {
        self.stages.iter().any(|stage| stage.reads().any(|(_, from, _)| from == id))
    }
}

impl StageRecord {
    /// What feeds it: port, stage id, and that stage's port.
    pub fn reads(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.inputs.iter().flat_map(|(port, froms)| {
            froms.iter().map(move |from| match from.split_once('.') {
                Some((id, out)) => (port.as_str(), id, out),
                None => (port.as_str(), from.as_str(), "out"),
            })
        })
    }

    /// Rows that left it for others or for the output: through every port but what it decided against and what only shows its rows.
    pub fn rows_given(&self) -> u64 {
        let is_given = |port: &String| port != "dropped" && port != "rejected" && !self.views.contains(port);
        self.totals.rows_out.iter().filter(|(port, _)| is_given(port)).fold(0u64, |sum, (_, n)| sum.saturating_add(*n))
    }

    /// Whether nothing feeds it.
    pub fn is_source(&self) -> bool {
        self.reads().next().is_none()
    }
}

/// Why rows are rejected where a model could not be asked, which may be otherwise another time.
const UNASKED: [&str; 2] = ["request_refused", "request_failed"];

/// Whether rows are rejected for this where a model could not be asked.
pub(crate) fn is_unasked(reason: &str) -> bool {
    UNASKED.contains(&reason)
}

impl StageTotals {
    /// Rows that were rejected because the endpoint of a model failed or refused, in a stage that asks one.
    pub fn unasked_rows(&self) -> u64 {
        UNASKED.iter().filter_map(|reason| self.rejected.get(*reason)).sum()
    }

    /// Adds the totals of other tasks; of the peaks the largest stays.
    pub fn merge(&mut self, other: StageTotals) {
        add(&mut self.rows_in, other.rows_in);
        add_counts(&mut self.rows_out, other.rows_out);
        add(&mut self.bytes_out, other.bytes_out);
        add_counts(&mut self.nulls, other.nulls);
        add_counts(&mut self.dropped, other.dropped);
        add_counts(&mut self.tagged, other.tagged);
        add_counts(&mut self.rejected, other.rejected);
        for (what, names) in other.counted {
            add_counts(self.counted.entry(what).or_default(), names);
        }
        for (figure, names) in other.figures {
            add_counts(self.figures.entry(figure).or_default(), names);
        }
        for (name, measured) in other.measured {
            self.measured.entry(name).or_default().merge(measured);
        }
        add_counts(&mut self.ran_on, other.ran_on);
        self.busy_seconds += other.busy_seconds;
        self.waited_seconds += other.waited_seconds;
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.profile.merge(other.profile);
    }

    /// Shards of which a GPU did not make all that it should.
    pub fn fell_back(&self) -> u64 {
        self.ran_on.get(FELL_BACK).copied().unwrap_or_default()
    }

    /// What its shards ran on, in words; nothing of a stage without kernels.
    pub fn ran_on_in_words(&self) -> Option<String> {
        let text = |(class, shards): (&String, &u64)| {
            let class = match class.as_str() {
                "cpu" => "the processor",
                "gpu" => "a GPU",
                FELL_BACK => "a GPU, and the processor where that failed",
                other => other,
            };
            format!("{class}: {}", crate::show::count(*shards))
        };
        let all: Vec<String> = self.ran_on.iter().map(text).collect();
        if all.is_empty() { None } else { Some(all.join("; ")) }
    }

    /// Rows that left through `port`.
    pub fn rows_through(&self, port: &str) -> u64 {
        self.rows_out.get(port).copied().unwrap_or_default()
    }

    /// Rows dropped, whatever the reason.
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Rows tagged, whatever the reason.
    pub fn tagged_rows(&self) -> u64 {
        self.tagged.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Rows rejected, whatever the reason.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_tasks_add_up() {
        let task = |n: u64, reason: &str| StageTotals {
            rows_in: n,
            rows_out: [("out".to_owned(), n - 1)].into(),
            bytes_out: n,
            nulls: [("url".to_owned(), n)].into(),
            dropped: [(reason.to_owned(), 1)].into(),
            tagged: [(reason.to_owned(), 2)].into(),
            rejected: BTreeMap::new(),
            counted: [("field_not_in_schema".to_owned(), [(reason.to_owned(), 1)].into())].into(),
            figures: BTreeMap::new(),
            measured: BTreeMap::new(),
            ran_on: [("gpu".to_owned(), 1)].into(),
            busy_seconds: 0.5,
            waited_seconds: 0.25,
            peak_bytes: n,
            profile: Profile::default(),
        };
        let mut totals = task(5, "too_short");
        totals.merge(task(3, "too_long"));
        totals.merge(task(2, "too_short"));
        assert_eq!((totals.rows_in, totals.rows_through("out"), totals.bytes_out, totals.peak_bytes), (10, 7, 10, 5));
        assert!((totals.busy_seconds - 1.5).abs() + (totals.waited_seconds - 0.75).abs() < 1e-9);
        assert_eq!(totals.dropped, [("too_long".to_owned(), 1), ("too_short".to_owned(), 2)].into());
        assert_eq!(totals.ran_on, [("gpu".to_owned(), 3)].into());
        assert_eq!(totals.counted["field_not_in_schema"], totals.dropped);
        assert_eq!((totals.dropped_rows(), totals.tagged_rows()), (3, 6));
        totals.merge(task(u64::MAX, "x"));
        assert_eq!(totals.rows_in, u64::MAX);
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let record = crate::report::samples::web();
        std::fs::write(folder.path().join("run.json"), serde_json::to_vec_pretty(&record).unwrap()).unwrap();
        assert_eq!(RunRecord::read(folder.path()).unwrap(), record);
    }

    #[test]
    fn a_folder_without_a_record_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(RunRecord::read(folder.path()), Err(RecordError::Missing { .. })));
        std::fs::write(folder.path().join("run.json"), "{\"name\": 3").unwrap();
        assert!(matches!(RunRecord::read(folder.path()), Err(RecordError::Format { .. })));
    }
}
