//! Sources: stages that read files. What they share is here: which files, which `id`, how rows and rejections leave.

mod read_csv;
mod read_jsonl;
mod read_parquet;
mod read_text;
mod read_warc;

pub use read_csv::ReadCsvConfig;
pub use read_jsonl::ReadJsonlConfig;
pub use read_parquet::ReadParquetConfig;
pub use read_text::ReadTextConfig;
pub use read_warc::ReadWarcConfig;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datasets::DataError;
use datasets::formats::{Chunk, ColumnType, Columns, FilePart, InputFile, Reader, list_inputs};
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use crate::{BuildContext, Rejection, RowSink, Split, SplitFile, StageError};

/// One path or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One path.
    One(String),
    /// Several, read in this order.
    Several(Vec<String>),
}

impl Paths {
    pub(crate) fn list(&self) -> &[String] {
        match self {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths,
        }
    }

    /// The files they mean.
    fn files(&self, cx_dir: &std::path::Path, extensions: &[&str]) -> Result<Vec<InputFile>, StageError> {
        if self.list().is_empty() {
            return Err(StageError::setting("path", "an empty list of paths"));
        }
        list_inputs(cx_dir, self.list(), extensions).map_err(placed)
    }
}

/// A number of bytes of at least one: `max_record_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64", into = "u64")]
#[schemars(with = "u64", extend("minimum" = 1, "maximum" = RecordBytes::MAX))]
pub struct RecordBytes(u64);

impl RecordBytes {
    /// The longest that can be asked for: a batch of such records stays within 32-bit offsets.
    const MAX: u64 = 1 << 30;
}

impl Default for RecordBytes {
    fn default() -> Self {
        Self(64 << 20)
    }
}

impl TryFrom<u64> for RecordBytes {
    type Error = String;

    fn try_from(bytes: u64) -> Result<Self, String> {
        if (1..=Self::MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(format!("a record may be allowed 1 to {} bytes, not {bytes}", Self::MAX))
        }
    }
}

impl From<RecordBytes> for u64 {
    fn from(bytes: RecordBytes) -> u64 {
        bytes.0
    }
}

/// The setting that an error of the readers is about, so that it is shown there.
fn placed(error: DataError) -> StageError {
    match error {
        DataError::Setting { setting, problem } => StageError::setting(setting, problem),
        error @ (DataError::NoMatch { .. } | DataError::Io { .. } | DataError::Format { .. }) => {
            StageError::setting("path", error.to_string())
        }
        other => other.into(),
    }
}

/// `columns` and with them the input's own `id`, which names its rows though it is not listed, unless another column is to.
fn with_own_id(columns: &Columns, named: Option<&str>) -> Columns {
    let id = document::ID;
    let mut columns = columns.clone();
    if named.is_none() && columns.0.iter().all(|(name, _)| name != id.name()) {
        columns.0.push((id.name().to_owned(), ColumnType::Json));
    }
    columns
}

/// Whether values of a type can name rows.
fn can_be_id(data_type: &DataType) -> bool {
    *data_type == DataType::Utf8 || data_type.is_integer()
}

/// Where the `id` of a row comes from, and what leaves a source: `id` first, then the input's columns.
#[derive(Debug, Clone)]
struct Ids {
    stage_id: String,
    /// The column of the input it is taken from.
    column: Option<usize>,
    /// The input's columns that follow it.
    others: Vec<usize>,
    schema: SchemaRef,
}

impl Ids {
    /// `named`: the column that the user says is the id.
    fn try_new(cx: &BuildContext, input: &Schema, named: Option<&str>) -> Result<Self, StageError> {
        let id_column = document::ID;
        let id = id_column.name();
        let own = input.index_of(id).ok();
        let column = match named {
            None => own,
            Some(name) => {
                let there = input.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
                let column = input
                    .index_of(name)
                    .map_err(|_| StageError::setting("id", format!("there is no column `{name}` to make ids of, only {there}")))?;
                if own.is_some_and(|own| own != column) {
                    let problem = format!("`{name}` would become `{id}`, but the input has a column `{id}` of its own");
                    return Err(StageError::setting("id", problem).with_help("list the other columns under `columns`, or leave `id` out"));
                }
                Some(column)
            }
        };
        if let Some(column) = column {
            let field = input.field(column);
            if !can_be_id(field.data_type()) {
                let problem = format!("column `{}` is {}; an id is text or a whole number", field.name(), field.data_type());
                let setting = if named.is_some() { "id" } else { "columns" };
                return Err(
                    StageError::setting(setting, problem).with_help("name another column with `id`, or leave this one out of `columns`")
                );
            }
        }
        let others: Vec<usize> = (0..input.fields().len()).filter(|index| Some(*index) != own).collect();
        let text_field = document::TEXT.field();
        let mut fields = vec![document::ID.field()];
        for index in &others {
            let field = input.field(*index);
            let text = field.name() == text_field.name() && field.data_type() == text_field.data_type() && field.metadata().is_empty();
            fields.push(if text { text_field.clone() } else { field.clone() });
        }
        Ok(Self { stage_id: cx.stage_id.clone(), column, others, schema: Schema::new(fields).into() })
    }

    fn rows(&self, chunk: &Chunk) -> Result<RecordBatch, StageError> {
        let own = match self.column {
            None => None,
            Some(column) => Some(cast(chunk.rows.column(column), &DataType::Utf8)?),
        };
        let id: ArrayRef = match own {
            Some(own) if own.null_count() == 0 => own,
            own => {
                let own = own.as_ref().map(AsArray::as_string::<i32>);
                let mut ids = StringBuilder::with_capacity(chunk.rows.num_rows(), chunk.rows.num_rows() * 32);
                for (row, (file, offset)) in chunk.positions.iter().enumerate() {
                    match own {
                        Some(own) if own.is_valid(row) => ids.append_value(own.value(row)),
                        _ => {
                            use std::fmt::Write;
                            write!(ids, "{}/{file}@{offset}", self.stage_id)
                                .map_err(|_| StageError::Internal("an id that can't be written".to_owned()))?;
                            ids.append_value("");
                        }
                    }
                }
                Arc::new(ids.finish())
            }
        };
        let columns = std::iter::once(id).chain(self.others.iter().map(|index| Arc::clone(chunk.rows.column(*index)))).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Whether a file is read as fast as a copy of its rows would be: neither packed nor far away.
fn is_cheap_to_read(path: &std::path::Path) -> bool {
    !datasets::formats::is_compressed(path) && datasets::remote::Address::of(path).is_none()
}

/// Splits of parts of files.
fn splits(groups: Vec<Vec<FilePart>>) -> Vec<Split> {
    groups
        .into_iter()
        .map(|parts| Split {
            bytes: parts.iter().map(|part| part.end - part.start).sum(),
            identity: String::new(),
            files: parts.into_iter().map(|part| SplitFile { path: part.path, name: part.name, start: part.start, end: part.end }).collect(),
        })
        .collect()
}

/// The parts of files of a split.
fn parts(split: &Split) -> Vec<FilePart> {
    split.files.iter().map(|file| FilePart { path: file.path.clone(), name: file.name.clone(), start: file.start, end: file.end }).collect()
}

/// Moves what `reader` reads into `out`.
fn drain(mut reader: impl Reader, ids: &Ids, out: &mut dyn RowSink) -> Result<(), StageError> {
    while let Some(chunk) = reader.next_chunk()? {
        let rows = if chunk.rows.num_rows() > 0 { Some(ids.rows(&chunk)?) } else { None };
        for bad in chunk.bad {
            if bad.rest_is_lost {
                out.count("rest_of_file_lost", &format!("{}@{}", bad.file, bad.offset), 1);
            }
            out.reject(Rejection {
                id: Some(format!("{}/{}@{}", ids.stage_id, bad.file, bad.offset)),
                file: Some(bad.file.to_string()),
                offset: Some(bad.offset),
                reason: bad.reason,
                detail: bad.detail,
            });
        }
        if let Some(rows) = rows
            && out.rows(rows)?.is_break()
        {
            break;
        }
    }
    for (field, records) in reader.unknown_fields() {
        out.count("field_not_in_schema", &field, records);
    }
    for ((what, name), times) in reader.counts() {
        out.count(what, &name, times);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::registry;
    use crate::{Port, Stage};

    #[derive(Default)]
    struct Taken {
        rows: Vec<RecordBatch>,
        rejections: Vec<Rejection>,
        counts: Vec<String>,
        batch_rows: usize,
    }

    impl RowSink for Taken {
        fn batch_rows(&self) -> usize {
            self.batch_rows
        }

        fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError> {
            self.rows.push(batch);
            Ok(ControlFlow::Continue(()))
        }

        fn reject(&mut self, rejection: Rejection) {
            self.rejections.push(rejection);
        }

        fn count(&mut self, what: &'static str, name: &str, times: u64) {
            self.counts.push(format!("{what} {name} {times}"));
        }
    }

    fn outputs(dir: &Path, name: &str, settings: serde_json::Value) -> Result<(BuildContext, Box<dyn registry::AnyConfig>), StageError> {
        let config = registry::find(name).unwrap().parse(settings).unwrap();
        let mut cx = BuildContext::new("pages", dir, 1, Vec::new());
        cx.outputs = Some(config.outputs(&cx)?);
        Ok((cx, config))
    }

    fn run(dir: &Path, name: &str, settings: serde_json::Value, batch_rows: usize) -> (RecordBatch, Taken, Vec<String>) {
        let (cx, config) = outputs(dir, name, settings).unwrap();
        let schema = Arc::clone(cx.outputs().unwrap().get(&Port::OUT).unwrap());
        let Stage::Source(source) = config.build(&cx).unwrap() else { panic!("{name} is no source") };
        let mut taken = Taken { batch_rows, ..Taken::default() };
        for split in source.splits().unwrap() {
            source.read(&split, &mut taken).unwrap();
        }
        assert!(taken.rows.iter().all(|batch| batch.schema() == schema && batch.num_rows() > 0));
        (arrow::compute::concat_batches(&schema, &taken.rows).unwrap(), taken, cx.take_notes())
    }

    fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
        batch.column_by_name(column).unwrap().as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    #[test]
    fn ids_come_from_the_named_column_the_own_one_or_the_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("a.jsonl"),
            "{\"n\": 5, \"text\": \"x\"}\n{\"text\": \"y\", \"late\": 1}\n{\"n\": 5, \"text\": 1}\n",
        )
        .unwrap();
        let columns = json!({"n": "int64", "text": "string"});
        for batch_rows in [1, 7, 1000] {
            let (rows, taken, _) = run(dir.path(), "read_jsonl", json!({"path": "*.jsonl", "columns": columns}), batch_rows);
            assert_eq!(texts(&rows, "id"), ["pages/a.jsonl@0", "pages/a.jsonl@22"]);
            assert_eq!(taken.counts, ["field_not_in_schema late 1"]);
            let rejected = &taken.rejections[0];
            assert_eq!((rejected.id.as_deref(), rejected.offset, rejected.reason), (Some("pages/a.jsonl@47"), Some(47), "wrong_type"));
            let (rows, ..) = run(dir.path(), "read_jsonl", json!({"path": ".", "columns": columns, "id": "n"}), batch_rows);
            assert_eq!(texts(&rows, "id"), ["5", "pages/a.jsonl@22"]);
            let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(names, ["id", "n", "text"]);
        }
        std::fs::write(dir.path().join("b.jsonl"), "{\"text\": \"x\", \"id\": 7}\n").unwrap();
        let (rows, _, notes) = run(dir.path(), "read_jsonl", json!({"path": ["b.jsonl"]}), 10);
        assert_eq!((texts(&rows, "id"), rows.num_columns()), (vec!["7".to_owned()], 2));
        assert_eq!(notes, ["columns inferred from the first 1 records: {text: string, id: int64}"]);
    }

    #[test]
    fn the_other_formats_give_ids_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.csv"), "text,n\nx,1\ny,2\n").unwrap();
        std::fs::write(dir.path().join("a.txt"), "one\n\ntwo\n").unwrap();
        let (rows, ..) = run(dir.path(), "read_csv", json!({"path": "a.csv"}), 10);
        assert_eq!(
            (texts(&rows, "id"), texts(&rows, "text")),
            (vec!["pages/a.csv@7".to_owned(), "pages/a.csv@11".to_owned()], vec!["x".to_owned(), "y".to_owned()])
        );
        let (rows, ..) = run(dir.path(), "read_text", json!({"path": "*.txt", "split": "paragraphs"}), 10);
        assert_eq!(
            (texts(&rows, "id"), texts(&rows, "text")),
            (vec!["pages/a.txt@0".to_owned(), "pages/a.txt@5".to_owned()], vec!["one".to_owned(), "two".to_owned()])
        );
        let mut writer = datasets::part_writer(&rows.schema(), &datasets::WriteSettings::default()).unwrap();
        writer.write(&rows).unwrap();
        std::fs::write(dir.path().join("a.parquet"), writer.finish().unwrap().into_bytes()).unwrap();
        let (again, ..) = run(dir.path(), "read_parquet", json!({"path": "a.parquet"}), 1);
        assert_eq!(again, rows);
        let (named, ..) = run(dir.path(), "read_parquet", json!({"path": "a.parquet", "columns": ["text"], "id": "text"}), 1);
        assert_eq!(texts(&named, "id"), ["one", "two"]);
    }

    #[test]
    fn the_inputs_own_id_names_its_rows_though_it_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let json = "{\"text\": \"x\", \"id\": \"a\"}\n{\"id\": 18446744073709551617, \"text\": \"y\"}\n{\"text\": \"z\", \"id\": null}\n";
        std::fs::write(dir.path().join("a.jsonl"), json).unwrap();
        std::fs::write(dir.path().join("a.csv"), "id,text,n\na,x,1\nb,y,2\n").unwrap();
        std::fs::write(dir.path().join("b.csv"), "text,n\nx,1\n").unwrap();
        let columns = json!({"text": "string"});
        let ids = |name: &str, settings: serde_json::Value| {
            let (rows, taken, _) = run(dir.path(), name, settings, 10);
            assert_eq!((rows.num_columns(), taken.rejections.len()), (2, 0));
            texts(&rows, "id")
        };
        assert_eq!(ids("read_jsonl", json!({"path": "a.jsonl", "columns": columns})), ["a", "18446744073709551617", "pages/a.jsonl@67"]);
        assert_eq!(ids("read_jsonl", json!({"path": "a.jsonl", "columns": columns, "id": "text"})), ["x", "y", "z"]);
        assert_eq!(ids("read_csv", json!({"path": "a.csv", "columns": columns})), ["a", "b"]);
        assert_eq!(ids("read_csv", json!({"path": "a.csv", "columns": columns, "id": "text"})), ["x", "y"]);
        // Only a column that all files have names rows.
        assert_eq!(ids("read_csv", json!({"path": "*.csv", "columns": columns})), ["pages/a.csv@10", "pages/a.csv@16", "pages/b.csv@7"]);
        let parquet = |name: &str, id: ArrayRef| {
            let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["x", "y"]));
            let rows = RecordBatch::try_from_iter([("text", text), ("id", id)]).unwrap();
            let mut writer = datasets::part_writer(&rows.schema(), &datasets::WriteSettings::default()).unwrap();
            writer.write(&rows).unwrap();
            std::fs::write(dir.path().join(name), writer.finish().unwrap().into_bytes()).unwrap();
        };
        parquet("a.parquet", Arc::new(arrow::array::Int64Array::from(vec![7, 8])));
        parquet("b.parquet", Arc::new(arrow::array::Float64Array::from(vec![0.5, 1.5])));
        assert_eq!(ids("read_parquet", json!({"path": "a.parquet", "columns": ["text"]})), ["7", "8"]);
        assert_eq!(ids("read_parquet", json!({"path": "b.parquet", "columns": ["text"]})), ["pages/b.parquet@0", "pages/b.parquet@1"]);
    }

    #[test]
    fn web_archives_give_rows_counts_and_rejections() {
        let dir = tempfile::tempdir().unwrap();
        let record = |kind: &str, id: &str, block: &str| {
            let length = block.len();
            format!(
                "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <{id}>\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{block}\r\n\r\n"
            )
        };
        let (first, last) = (record("resource", "a", "<p>x"), record("conversion", "b", "<p>y"));
        let (asked, bad) = (record("request", "c", ""), "garbage\n");
        std::fs::write(dir.path().join("a.warc"), [first.as_str(), &asked, bad, &last].concat()).unwrap();
        let places = [0, first.len() + asked.len(), first.len() + asked.len() + bad.len()].map(|at| format!("pages/a.warc@{at}"));
        for batch_rows in [1, 7, 1000] {
            let (rows, taken, _) = run(dir.path(), "read_warc", json!({"path": "."}), batch_rows);
            assert_eq!(texts(&rows, "id"), [places[0].as_str(), &places[2]]);
            assert_eq!(texts(&rows, "html"), ["<p>x", "<p>y"]);
            assert_eq!(taken.counts, ["record_of_other_type request 1"]);
            assert_eq!((taken.rejections[0].id.as_ref(), taken.rejections[0].reason), (Some(&places[1]), "garbage"));
        }
        let settings = json!({"path": "a.warc", "id": "record_id", "content": "bytes", "record_types": ["conversion"]});
        let (rows, taken, _) = run(dir.path(), "read_warc", settings, 10);
        assert_eq!(
            (texts(&rows, "id"), taken.counts),
            (vec!["b".to_owned()], vec!["record_of_other_type request 1".to_owned(), "record_of_other_type resource 1".to_owned()])
        );
        assert!(rows.column_by_name("content").is_some() && rows.column_by_name("html").is_none());
        let error = |settings| match outputs(dir.path(), "read_warc", settings).err().unwrap() {
            StageError::Setting { setting, problem, .. } => format!("{setting}: {problem}"),
            other => panic!("{other}"),
        };
        assert_eq!(error(json!({"path": "a.warc", "record_types": []})), "record_types: an empty list of types");
        assert_eq!(error(json!({"path": "a.warc", "media_types": []})), "media_types: an empty list of types");
    }

    #[test]
    fn errors_stand_at_their_setting() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.jsonl"), "{\"id\": \"1\", \"url\": \"x\", \"f\": 0.5}\n").unwrap();
        let error = |settings| match outputs(dir.path(), "read_jsonl", settings).err().unwrap() {
            StageError::Setting { setting, problem, .. } => format!("{setting}: {problem}"),
            other => panic!("{other}"),
        };
        assert_eq!(error(json!({"path": "a.jsonl", "id": "urll"})), "id: there is no column `urll` to make ids of, only `id`, `url`, `f`");
        assert_eq!(
            error(json!({"path": "a.jsonl", "id": "url"})),
            "id: `url` would become `id`, but the input has a column `id` of its own"
        );
        assert_eq!(
            error(json!({"path": "a.jsonl", "columns": {"f": "float64"}, "id": "f"})),
            "id: column `f` is Float64; an id is text or a whole number"
        );
        assert!(error(json!({"path": "b.jsonl"})).starts_with("path: no file matches"));
        assert_eq!(error(json!({"path": []})), "path: an empty list of paths");
    }
}
