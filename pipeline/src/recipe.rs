//! What a worker needs to make the plan again that a task belongs to: the pipeline file as it was read, and how it was read.
//!
//! It lies in the output, so that a worker is told nothing but the output and the task. Paths in it are those of the machine that planned:
//! inputs must be found under the same names wherever workers are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use gpu::{DeviceChoice, DeviceClass};
use serde::{Deserialize, Serialize};

use crate::device::DeviceWish;
use crate::file::{LoadOptions, Problems, load_text};
use crate::graph::Graph;
use crate::run::{Options, RunError};
use crate::store::Store;

/// Where the plan lies.
pub const FILE: &str = ".pipeline/plan.json";

/// How a graph was made, and what of the options decides which tasks there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of the program.
    granary: String,
    /// The pipeline's name.
    #[serde(default)]
    name: String,
    /// The pipeline file, absolute; it need not be there any more, but what it says about paths starts from its folder.
    file: PathBuf,
    /// Its text.
    text: String,
    /// The `--set` arguments, in order.
    sets: Vec<String>,
    /// The variables that it names and that were set. A secret is none of them: secrets are named in a file, never expanded.
    variables: BTreeMap<String, String>,
    /// Rows a shard has at most.
    shard_rows: u64,
    /// Only so many rows of each source.
    limit: Option<u64>,
    /// The stage to run to.
    to: Option<String>,
    /// Whether no model is asked anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    offline_llm: bool,
    /// What kernels run on, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<PlannedDevice>,
}

/// A device as it was planned with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PlannedDevice {
    /// As it was asked for.
    choice: String,
    /// What that came to.
    class: DeviceClass,
}

impl Recipe {
    /// The recipe of a graph.
    pub fn of(graph: &Graph, options: &Options) -> Self {
        Self {
            granary: env!("CARGO_PKG_VERSION").to_owned(),
            name: graph.name.clone(),
            file: std::path::absolute(&graph.file).unwrap_or_else(|_| graph.file.clone()),
            text: graph.text.clone(),
            sets: graph.sets.clone(),
            variables: graph.variables.clone(),
            shard_rows: options.shard_rows,
            limit: options.limit,
            to: options.to.clone(),
            offline_llm: options.offline_llm,
            device: graph.device.as_ref().map(|device| PlannedDevice { choice: options.device.to_string(), class: device.class }),
        }
    }

    /// Leaves it in the output, unless it is there. A file whose name is no UTF-8 has no recipe: JSON has no words for it.
    ///
    /// # Errors
    /// What the storage says.
    pub fn save(&self, store: &Store) -> Result<(), RunError> {
        let Ok(json) = serde_json::to_vec_pretty(self) else { return Ok(store.delete(FILE)?) };
        if store.get(FILE)?.as_deref() != Some(json.as_slice()) {
            store.put(FILE, Bytes::from(json))?;
        }
        Ok(())
    }

    /// Refuses an output that another pipeline made: one of another name, in another file. A file that was moved, or a pipeline that was renamed,
    /// is the same still.
    ///
    /// # Errors
    /// [`RunError::OtherPipeline`], or what the storage says.
    pub fn refuse_other(&self, store: &Store) -> Result<(), RunError> {
        let found = store.get(FILE)?.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        match found.filter(|other| !other.name.is_empty() && other.name != self.name && other.file != self.file) {
            None => Ok(()),
            Some(other) => Err(RunError::OtherPipeline { output: store.root().to_owned(), name: other.name, file: other.file }),
        }
    }

    /// The recipe that lies in an output.
    ///
    /// # Errors
    /// [`RunError::NoPlan`], [`RunError::OtherVersion`], or what the storage says.
    pub fn load(store: &Store) -> Result<Self, RunError> {
        let found = store.get(FILE)?.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let recipe = found.ok_or_else(|| RunError::NoPlan { output: store.root().to_owned() })?;
        if recipe.granary != env!("CARGO_PKG_VERSION") {
            return Err(RunError::OtherVersion { planned: recipe.granary, own: env!("CARGO_PKG_VERSION") });
        }
        Ok(recipe)
    }

    /// Makes the graph again, with a device that was asked for here, or else with such a one as was planned with. Models are going to be asked
    /// unless it was planned without, or `offline` says so here.
    ///
    /// # Errors
    /// What is wrong with it here: an input that this machine does not have, above all, or a device of another class.
    pub fn graph(&self, own: Option<DeviceChoice>, offline: bool) -> Result<Graph, Problems> {
        let variables = self.variables.clone();
        let planned = self.device.as_ref();
        let choice = own.or_else(|| planned?.choice.parse().ok()).unwrap_or_default();
        let options = LoadOptions {
            sets: self.sets.clone(),
            env: Box::new(move |name| variables.get(name).cloned()),
            device: DeviceWish { choice, planned: planned.map(|device| device.class) },
            limit: self.limit,
            keys: if offline || self.offline_llm { None } else { Some(Box::new(|name| std::env::var(name).ok())) },
        };
        load_text(&self.file, &self.text, &options)
    }

    /// The options of a run that decide which tasks there are, the others as they stand in `rest`.
    pub fn options(&self, rest: Options) -> Options {
        Options {
            shard_rows: self.shard_rows,
            limit: self.limit,
            to: self.to.clone(),
            offline_llm: rest.offline_llm || self.offline_llm,
            ..rest
        }
    }
}
