//! A pipeline file, checked and built: stages in an order in which each comes after what it reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use stages::llm::Llms;
use stages::registry::StageSpec;
use stages::{Makes, Outputs, Port, Stage};

use crate::device::DeviceRecord;
use crate::expect::Expect;

/// A pipeline, ready to be planned.
pub struct Graph {
    /// The pipeline's name.
    pub name: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// The file's text, as written (nothing expanded, so it holds no secret that the file does not).
    pub text: String,
    /// What the command line changed in it: the `--set` arguments, in order.
    pub sets: Vec<String>,
    /// The variables that the text names and that were set, with their values.
    pub variables: BTreeMap<String, String>,
    /// The run's seed.
    pub seed: u64,
    /// The output folder, absolute.
    pub output: PathBuf,
    /// How checkpoints are kept.
    pub checkpoints: Checkpoints,
    /// What kernels run on; none where no stage has any, and then no driver was asked.
    pub device: Option<DeviceRecord>,
    /// The models that stages ask.
    pub llms: Llms,
    /// The folder where their answers are kept, absolute.
    pub answers: PathBuf,
    /// What is worth knowing of the file and wrong in no stage.
    pub notes: Vec<String>,
    /// The stages, each after what it reads; otherwise in the order of the file.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The models that stages do ask.
    pub fn asked(&self) -> Llms {
        self.llms.only(|name| self.nodes.iter().any(|node| node.models.iter().any(|model| model.name == name)))
    }
}

/// One stage of a graph.
pub struct Node {
    /// The stage's id: its key in the file.
    pub id: String,
    /// Its type.
    pub spec: &'static StageSpec,
    /// Every setting with its value, defaults included, for fingerprints, `run.json` and the report.
    pub settings: Value,
    /// Files besides its inputs that its rows depend on: name and content hash.
    pub files: Vec<(String, String)>,
    /// Models it asks.
    pub models: Vec<AskedModel>,
    /// What feeds it, by port; empty for a source.
    pub inputs: Vec<NodeInput>,
    /// Schemas of what leaves it; [`Outputs::is_tagged`] where rows that it decides against stay.
    pub outputs: Outputs,
    /// The stage.
    pub stage: Stage,
    /// How much it is going to make, where its settings say so.
    pub makes: Option<Makes>,
    /// Whether its output is written though another stage reads it.
    pub keep: bool,
    /// How its output is written.
    pub write: datasets::WriteSettings,
    /// How many rows may be rejected before the run stops.
    pub max_rejected: MaxRejected,
    /// What must hold of its rows before they are published.
    pub expect: Expect,
    /// What is written of the rows it drops.
    pub dropped: DroppedRows,
    /// What building it found out.
    pub notes: Vec<String>,
}

/// A model that a stage asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedModel {
    /// The setting that names it.
    pub setting: &'static str,
    /// Its name in `llms`.
    pub name: String,
    /// What its answers depend on.
    pub identity: String,
}

impl Node {
    /// Whether it makes rows of its own, and does not only pass on what it is given.
    pub fn makes_rows(&self) -> bool {
        self.makes.is_some() || (self.inputs.is_empty() && matches!(self.stage, Stage::Global(_)))
    }
}

/// One input port of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInput {
    /// The port.
    pub port: Port,
    /// What is concatenated into it, in order.
    pub from: Vec<Edge>,
}

/// An output of a stage that another reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Index into [`Graph::nodes`].
    pub node: usize,
    /// Which of its outputs.
    pub port: Port,
}

/// How checkpoints are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoints {
    /// Plain Arrow IPC: several times faster to write and to read than Parquet.
    #[default]
    Fast,
    /// Parquet, zstd level 1.
    Small,
    /// In memory as far as it goes, else Arrow IPC that is removed when the run is done: the fastest, but a run that was killed and a later
    /// edit start from the sources.
    Discard,
}

/// What is written of the rows that a stage drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DroppedRows {
    /// All of each row, and why.
    #[default]
    Rows,
    /// The `id` of each row, and why.
    Ids,
    /// Nothing; they are only counted.
    None,
}

/// What a stage does with the rows that it decides against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// They leave: `from: id.dropped`, and `dropped/<id>/` in the output.
    #[default]
    Drop,
    /// They stay in their place among the others, and all rows get the columns `<id>_drop_reason`, `<id>_drop_value`,
    /// `<id>_drop_threshold` and `<id>_duplicate_of`, which are null in rows that pass.
    Tag,
}

/// How many of a stage's rows may be rejected: a share of the rows it saw, but at least 10 rows, unless that is all of them.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct MaxRejected {
    /// Share of the rows, 0 to 1.
    pub share: f64,
}

impl Default for MaxRejected {
    fn default() -> Self {
        Self { share: 0.001 }
    }
}

impl MaxRejected {
    /// Whether `rejected` of `rows` is more than allowed.
    pub fn is_exceeded(self, rejected: u64, rows: u64) -> bool {
        (rejected > 10 || rejected >= rows) && rejected as f64 > self.share * rows as f64
    }
}
