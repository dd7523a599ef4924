//! The files of benchmarks, and the examples in them.

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datasets::formats::{
    ColumnType, Columns, CsvOptions, CsvReader, FilePart, InputFile, InvalidUtf8, JsonlReader, ParquetReader, Reader, TextOptions,
    TextReader, TextSplit, extensions, list_inputs, parquet_schema,
};
use datasets::remote::Address;
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use super::index::Builder;
use crate::StageError;
use crate::read::Paths;
use crate::units::{ColumnName, ColumnNames};

/// A benchmark: files of examples, and which of their columns are looked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Benchmark {
    /// A file, a folder or a glob, or a list of them, on this machine: JSON Lines, Parquet, CSV or text, plain or compressed (`.gz`, `.zst`).
    pub path: Paths,
    /// The columns that make an example's text, in this order, a line break between them. Lists and numbers count as they are written.
    /// Files of text have the one column `text`.
    #[serde(default = "default_columns")]
    pub columns: ColumnNames,
    /// The column that names examples; by default they are named by file and row, from 0.
    #[serde(default)]
    pub id: Option<ColumnName>,
    /// What the benchmark is called in outputs and the report; by default as its first file, without what stands behind the first dot.
    #[serde(default)]
    pub name: Option<String>,
    /// What an example is in a file of text.
    #[serde(default = "default_split")]
    pub split: TextSplit,
}

fn default_columns() -> ColumnNames {
    ColumnNames::one(ColumnName::new("text"))
}

fn default_split() -> TextSplit {
    TextSplit::Lines
}

/// Longest record of a benchmark.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// What has been found in a benchmark.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) examples: usize,
    /// Of those, how many have too few words.
    pub(super) too_short: usize,
}

fn wrong(problem: impl std::fmt::Display) -> StageError {
    StageError::setting("against", problem.to_string())
}

impl Benchmark {
    /// The files, in order.
    pub(super) fn files(&self, base_dir: &Path) -> Result<Vec<InputFile>, StageError> {
        let all: Vec<&str> = [extensions::JSONL, extensions::PARQUET, extensions::CSV, extensions::TEXT].concat();
        let patterns = self.path.list();
        if patterns.is_empty() {
            return Err(wrong("an empty list of paths"));
        }
        let files = list_inputs(base_dir, patterns, &all).map_err(wrong)?;
        match files.iter().find(|file| Address::of(&file.path).is_some()) {
            Some(file) => Err(wrong(format!("{} is not on this machine, and a benchmark has to be", file.path.display()))),
            None if files.is_empty() => Err(wrong(format!("no file matches {}", patterns.join(", ")))),
            None => Ok(files),
        }
    }

    /// What it is called.
    pub(super) fn name(&self, files: &[InputFile]) -> String {
        let of_file = |file: &InputFile| {
            let name = file.name.rsplit('/').next().unwrap_or_default();
            name.split('.').find(|part| !part.is_empty()).unwrap_or(name).to_owned()
        };
        self.name.clone().unwrap_or_else(|| files.first().map(of_file).unwrap_or_default())
    }

    /// Adds every example to an index.
    pub(super) fn read(&self, number: u32, files: &[InputFile], builder: &mut Builder) -> Result<Size, StageError> {
        let mut size = Size::default();
        // Whether each column has held anything, and then the one of names.
        let mut is_there = vec![false; self.columns.iter().count()];
        let mut has_names = self.id.is_none();
        for file in files {
            let mut reader = self.reader(file)?;
            let (mut row, mut has_text) = (0_u64, false);
            while let Some(chunk) = reader.next_chunk().map_err(wrong)? {
                if let Some(bad) = chunk.bad.first() {
                    // Half a benchmark would look like a clean corpus.
                    let problem = format!("at {}: {} ({})", bad.offset, bad.detail, bad.reason);
                    return Err(StageError::Input { path: file.path.clone(), problem });
                }
                let column = |name: &ColumnName| {
                    let found = chunk.rows.column_by_name(name.as_str());
                    found.ok_or_else(|| wrong(format!("{} has no column `{name}`", file.path.display())))
                };
                let texts = self.columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                let ids = self.id.as_ref().map(column).transpose()?;
                for in_chunk in 0..chunk.rows.num_rows() {
                    let mut text = String::new();
                    for (values, is_there) in texts.iter().zip(&mut is_there).filter(|(values, _)| values.is_valid(in_chunk)) {
                        (*is_there, has_text) = (true, true);
                        if !text.is_empty() {
                            text.push('\n');
                        }
                        write_value(values, in_chunk, &mut text)?;
                    }
                    let mut name = String::new();
                    match ids.filter(|ids| ids.is_valid(in_chunk)) {
                        Some(ids) => {
                            has_names = true;
                            write_value(ids, in_chunk, &mut name)?;
                        }
                        None => name = format!("{}@{row}", file.name),
                    }
                    let is_long_enough = builder.add(number, name, &text).ok_or_else(|| wrong("over 2^32 n-grams"))?;
                    size.examples += 1;
                    size.too_short += usize::from(!is_long_enough);
                    row += 1;
                }
            }
            if row > 0 && !has_text && files.len() > 1 {
                let names = self.columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(wrong(format!("no example of {} has anything in {names}", file.path.display()))
                    .with_help("files with other columns are another benchmark: give them an item of their own"));
            }
        }
        let missing = self.columns.iter().zip(&is_there).find(|(_, is_there)| !**is_there);
        if let Some((name, _)) = missing.filter(|_| size.examples > 0) {
            return Err(wrong(format!("no example of {} has anything in `{name}`", self.path.list().join(", ")))
                .with_help("name the columns of the benchmark with `columns`"));
        }
        if let Some(id) = self.id.as_ref().filter(|_| !has_names && size.examples > 0) {
            return Err(wrong(format!("no example of {} has anything in `{id}`", self.path.list().join(", ")))
                .with_help("name the column that names examples with `id`, or leave it out"));
        }
        Ok(size)
    }

    fn reader(&self, file: &InputFile) -> Result<Box<dyn Reader>, StageError> {
        let part = vec![FilePart { path: file.path.clone(), name: file.name.clone(), start: 0, end: file.bytes }];
        let mut wanted: Vec<String> = self.columns.iter().map(|name| name.as_str().to_owned()).collect();
        wanted.extend(self.id.iter().filter(|id| self.columns.iter().all(|name| name != *id)).map(|id| id.as_str().to_owned()));
        let columns = |column_type: ColumnType| Columns(wanted.iter().map(|name| (name.clone(), column_type.clone())).collect());
        let is_of = |ends: &[&str]| ends.iter().any(|end| extension(&file.path).eq_ignore_ascii_case(end));
        if is_of(extensions::JSONL) {
            return Ok(Box::new(JsonlReader::new(part, &columns(ColumnType::Json), MAX_RECORD_BYTES, 1024)));
        }
        if is_of(extensions::PARQUET) {
            let (schema, _) = parquet_schema(std::slice::from_ref(file), Some(&wanted)).map_err(wrong)?;
            return Ok(Box::new(ParquetReader::new(part, schema, 1024)));
        }
        if is_of(extensions::CSV) {
            let delimiter = if extension(&file.path).eq_ignore_ascii_case("tsv") { b'\t' } else { b',' };
            let options = CsvOptions { delimiter, quote: b'"', header: true, max_record_bytes: MAX_RECORD_BYTES };
            return Ok(Box::new(CsvReader::new(part, &columns(ColumnType::Text), options, 1024)));
        }
        if is_of(extensions::TEXT) {
            if wanted != [document::TEXT.name()] {
                return Err(wrong(format!("{} is text and has no column but `text`", file.path.display())));
            }
            let (split, max_record_bytes) = (self.split, MAX_RECORD_BYTES);
            let options = TextOptions { split, invalid_utf8: InvalidUtf8::Replace, max_record_bytes, batch_rows: 1024 };
            return Ok(Box::new(TextReader::new(part, options)));
        }
        let ends = [extensions::JSONL, extensions::PARQUET, extensions::CSV, extensions::TEXT].concat().join(", ");
        Err(wrong(format!("{} has a name of none of the formats that are read: {ends}, with .gz or .zst", file.path.display())))
    }
}

/// How a file's name ends, before `.gz` or `.zst`.
fn extension(path: &Path) -> String {
    let plain = if datasets::formats::is_compressed(path) { path.with_extension("") } else { PathBuf::from(path) };
    plain.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write_value(values: &ArrayRef, row: usize, out: &mut String) -> Result<(), StageError> {
    if *values.data_type() == DataType::Utf8 {
        out.push_str(values.as_string::<i32>().value(row));
    } else {
        let shown = ArrayFormatter::try_new(values.as_ref(), &FormatOptions::default())?;
        out.push_str(&shown.value(row).try_to_string()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_is_called_as_its_file_unless_it_has_a_name() {
        let file = |name: &str| InputFile { path: PathBuf::new(), name: name.to_owned(), bytes: 0 };
        let benchmark: Benchmark = serde_json::from_value(serde_json::json!({"path": "x"})).expect("settings");
        assert_eq!(benchmark.name(&[file("sets/HumanEval.jsonl.gz"), file("b.txt")]), "HumanEval");
        assert_eq!(benchmark.name(&[file(".hidden.txt")]), "hidden");
        assert_eq!(Benchmark { name: Some("it".to_owned()), ..benchmark }.name(&[file("b.txt")]), "it");
    }

    #[test]
    fn the_format_is_told_by_what_stands_before_the_packing() {
        assert_eq!(extension(Path::new("a/b.jsonl.gz")), "jsonl");
        assert_eq!(extension(Path::new("b.parquet")), "parquet");
        assert_eq!(extension(Path::new("b")), "");
    }
}
