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
    /// How hard zstd tries, 1 to 22: higher is smaller and slower.
    #[serde(default)]
    #[schemars(range(min = 1, max = 22))]
    pub level: Level,
    /// How Parquet is compressed: `zstd` is smallest, `lz4` some three times faster to write, `none` for what is compressed already.
    #[serde(default)]
    pub compression: Compression,
}

impl WriteSettings {
    /// Parquet for what is looked at now and then, and removed: not compressed. LZ4 makes texts a third smaller, and took
    /// a tenth of a run that removes exact duplicates.
    pub fn quick() -> Self {
        Self { compression: Compression::None, ..Self::default() }
    }

    /// The zstd level as a number.
    pub fn level(&self) -> i32 {
        i32::from(self.level.0)
    }
}

/// A zstd level, 1 to 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
#[schemars(with = "u8")]
pub struct Level(u8);

impl Default for Level {
    /// zstd's own default.
    fn default() -> Self {
        Self(3)
    }
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, String> {
        if (1..=22).contains(&level) { Ok(Self(level)) } else { Err(format!("a zstd level is 1 to 22, not {level}")) }
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> u8 {
        level.0
    }
}

/// How Parquet is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// zstd, at `level`.
    #[default]
    Zstd,
    /// LZ4 (`LZ4_RAW`).
    Lz4,
    /// Not at all.
    None,
}

/// File formats of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WriteFormat {
    /// Parquet.
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

impl WriteFormat {
    /// How files of the format end, without the dot: `part-00000.<extension>`.
    pub fn extension(self) -> &'static str {
        match self {
            WriteFormat::Parquet => "parquet",
            WriteFormat::Jsonl => "jsonl",
            WriteFormat::JsonlZst => "jsonl.zst",
        }
    }
}
