//! Lists as a pipeline file names them: written out, or in files.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use datasets::DataError;
use datasets::formats::list_inputs;
use flate2::bufread::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BuildContext, StageError};

/// Entries of a list: written out, or in files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum UrlList {
    /// The entries.
    Entries(Vec<String>),
    /// Files that hold them.
    Files(UrlListFiles),
}

/// A list in files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlListFiles {
    /// Paths and globs of files with one entry a line.
    pub files: Vec<String>,
    /// Entries besides those of the files.
    #[serde(default)]
    pub entries: Vec<String>,
}

impl Default for UrlList {
    fn default() -> Self {
        Self::Entries(Vec::new())
    }
}

impl UrlList {
    /// The files, with the names they have in `run.json`.
    pub(super) fn files(&self, cx: &BuildContext, setting: &'static str) -> Result<Vec<(String, PathBuf)>, StageError> {
        let UrlList::Files(UrlListFiles { files: patterns, .. }) = self else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for pattern in patterns {
            if cx.base_dir.join(pattern).is_dir() {
                return Err(StageError::setting(
                    setting,
                    format!("`{pattern}` is a folder; wanted files, or a glob such as `{pattern}/*`"),
                ));
            }
            let found = list_inputs(&cx.base_dir, std::slice::from_ref(pattern), &[]).map_err(|error| match error {
                DataError::Setting { problem, .. } => StageError::setting(setting, problem),
                other => StageError::setting(setting, other.to_string()),
            })?;
            for file in found {
                if !file.path.is_file() {
                    return Err(StageError::setting(setting, format!("`{pattern}` is not on a disk; lists have to be")));
                }
                let name = file.path.strip_prefix(&cx.base_dir).unwrap_or(&file.path).display().to_string();
                files.push((name, file.path));
            }
        }
        Ok(files)
    }

    /// Calls `entry` with each entry, those of files first.
    pub(super) fn read(
        &self,
        cx: &BuildContext,
        setting: &'static str,
        mut entry: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<(), StageError> {
        for (name, path) in self.files(cx, setting)? {
            read_entries(&path, &mut entry).map_err(|problem| StageError::setting(setting, format!("`{name}`: {problem}")))?;
        }
        let (UrlList::Entries(entries) | UrlList::Files(UrlListFiles { entries, .. })) = self;
        for written in entries {
            // Taken for a URL or a word, a path would block nothing, and nobody would notice.
            if cx.base_dir.join(written).is_file() {
                return Err(StageError::setting(setting, format!("`{written}` is a file; to read it write `{{files: [{written}]}}`")));
            }
            entry(written.trim()).map_err(|problem| StageError::setting(setting, problem))?;
        }
        Ok(())
    }
}

/// Calls `entry` with each line of a file that is neither empty nor a comment (`#`), and the number it has. A file that begins as gzip's do is
/// decompressed, whatever its name.
fn read_entries(path: &Path, mut entry: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let mut reader = open(path).map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).map_err(|_| format!("line {number} is not UTF-8"))?;
        let text = if number == 1 { text.trim_start_matches('\u{FEFF}') } else { text }.trim();
        if !text.is_empty() && !text.starts_with('#') {
            entry(text).map_err(|problem| format!("line {number}: {problem}"))?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let is_gzip = file.fill_buf()?.starts_with(&[0x1F, 0x8B]);
    Ok(if is_gzip { Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file))) } else { Box::new(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_plain_and_gzipped_files() {
        use std::io::Write;
        let dir = tempfile::tempdir().expect("a folder");
        let text = "\u{FEFF}# head\r\na.example\r\n\n  b.example  \nc.example";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).expect("memory");
        for bytes in [text.as_bytes().to_vec(), gzip.finish().expect("memory")] {
            let path = dir.path().join("list");
            std::fs::write(&path, bytes).expect("written");
            let mut entries = Vec::new();
            read_entries(&path, |entry| {
                entries.push(entry.to_owned());
                Ok(())
            })
            .expect("read");
            assert_eq!(entries, ["a.example", "b.example", "c.example"]);
        }
        std::fs::write(dir.path().join("list"), b"a\n\xFF\n").expect("written");
        assert_eq!(read_entries(&dir.path().join("list"), |_| Ok(())), Err("line 2 is not UTF-8".to_owned()));
    }
}
