//! How outputs are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a stage's output is written: `write:` in a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// The file format.
    #[serde(default)]
    pub format: WriteFormat,
}

/// File formats of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WriteFormat {
    /// Parquet, compressed with zstd.
    #[default]
    #[serde(rename = "parquet")]
    Parquet,
    /// One JSON object a line.
    #[serde(rename = "jsonl")]
    Jsonl,
    /// One JSON object a line, compressed with zstd.
    #[serde(rename = "jsonl.zst")]
    JsonlZst,
}
