//! What an index says of itself: how its keys were made, and its segments.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StageError;

/// Raised when the files of an index are laid out differently.
const FORMAT: u32 = 1;

/// How band keys and shingles were made: they can be compared only if made alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::dedup) struct Settings {
    /// Version of the hashes of shingles, signatures and bands.
    pub(in crate::dedup) hashes: u32,
    /// Which signatures: the stage's own, or those of a published tool.
    pub(in crate::dedup) signatures: String,
    pub(in crate::dedup) shingle: String,
    pub(in crate::dedup) ngram: usize,
    pub(in crate::dedup) bands: u32,
    pub(in crate::dedup) rows: u32,
    /// What the functions of signatures are drawn from; `None` if they are fixed.
    pub(in crate::dedup) seed: Option<u64>,
    pub(in crate::dedup) scope: String,
    /// Whether pairs are compared, so that shingles are stored.
    pub(in crate::dedup) verify: String,
}

impl Settings {
    /// What differs from `other`, the stage's, for people.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let values = |settings: &Self| match serde_json::to_value(settings) {
            Ok(Value::Object(values)) => values,
            _ => serde_json::Map::new(),
        };
        let (made, stage) = (values(self), values(other));
        let differ = made.iter().filter(|(name, value)| stage.get(*name) != Some(value));
        differ.map(|(name, value)| format!("`{name}: {value}`, the stage has {}", stage.get(name).unwrap_or(&Value::Null))).collect()
    }
}

/// A segment, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentEntry {
    /// The plan of the run that added it.
    pub(super) plan: String,
    /// Where it lies.
    pub(super) folder: String,
    /// Hash of what it says of itself.
    pub(super) hash: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// The manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) settings: Settings,
    /// In the order in which they were added.
    pub(super) segments: Vec<SegmentEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    settings: Settings,
    segments: Vec<SegmentEntry>,
    /// Hash of the above.
    hash: String,
}

impl Manifest {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, segments: Vec::new() }
    }

    pub(super) fn rows(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.rows))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.bytes))
    }

    fn hash(&self) -> Result<String, StageError> {
        let told = serde_json::to_vec(&(FORMAT, &self.settings, &self.segments));
        let told = told.map_err(|error| StageError::Internal(format!("a manifest does not serialize: {error}")))?;
        Ok(blake3::hash(&told).to_hex().to_string())
    }

    pub(super) fn text(self) -> Result<String, StageError> {
        let stored = Stored { format: FORMAT, hash: self.hash()?, settings: self.settings, segments: self.segments };
        serde_json::to_string_pretty(&stored).map_err(|error| StageError::Internal(format!("a manifest does not serialize: {error}")))
    }

    /// Reads one; what is wrong with it, for people.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format > u64::from(FORMAT) => {
                return Err(format!("it is of format {format}, this version of the program reads {FORMAT}"));
            }
            _ => {}
        }
        let stored: Stored = serde_json::from_value(value).map_err(|error| format!("it is no manifest: {error}"))?;
        let manifest = Self { settings: stored.settings, segments: stored.segments };
        let is_whole = stored.format == FORMAT && manifest.hash().is_ok_and(|hash| hash == stored.hash);
        let is_path = |entry: &SegmentEntry| entry.folder.split('/').all(|name| !name.is_empty() && name != "." && name != "..");
        if !is_whole || !manifest.segments.iter().all(is_path) {
            return Err("its contents have changed".to_owned());
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            hashes: 1,
            signatures: "granary".to_owned(),
            shingle: "words".to_owned(),
            ngram: 5,
            bands: 17,
            rows: 7,
            seed: Some(3),
            scope: "global".to_owned(),
            verify: "jaccard".to_owned(),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_not_otherwise() {
        let entry = SegmentEntry { plan: "p".into(), folder: "segments/p-s".into(), hash: "h".into(), rows: 3, bytes: 70 };
        let text = Manifest { settings: settings(), segments: vec![entry.clone()] }.text().unwrap();
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!((read.settings, read.segments), (settings(), vec![entry]));
        assert_eq!(Manifest::parse(text.replace("\"rows\": 3", "\"rows\": 4").as_bytes()).unwrap_err(), "its contents have changed");
        assert!(Manifest::parse(&text.as_bytes()[..text.len() / 2]).unwrap_err().starts_with("it is no manifest: "));
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        assert_eq!(Manifest::parse(newer.as_bytes()).unwrap_err(), "it is of format 2, this version of the program reads 1");
        let outside = SegmentEntry { plan: "p".into(), folder: "../p".into(), hash: "h".into(), rows: 3, bytes: 70 };
        let text = Manifest { settings: settings(), segments: vec![outside] }.text().unwrap();
        assert!(Manifest::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn what_differs_is_named() {
        let other = Settings { ngram: 6, seed: None, ..settings() };
        assert_eq!(settings().differences(&other), ["`ngram: 5`, the stage has 6", "`seed: 3`, the stage has null"]);
        assert!(settings().differences(&settings()).is_empty());
    }
}
