//! `read_parquet`: reads Parquet.

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use datasets::formats::{ParquetReader, extensions, parquet_plan, parquet_schema};
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use super::{Ids, Paths, can_be_id, drain, parts, placed, splits};
use crate::{BuildContext, Inputs, Kind, Outputs, RowSink, Source, Split, Stage, StageConfig, StageError};

/// Reads Parquet files with the same columns.
///
/// Every row has an `id`: the column named by `id`, else the input's own `id` (listed in `columns` or not), else `<stage>/<file>@<row number>`. Text, bytes and lists get
/// 32-bit offsets, dictionaries are unpacked. Where a row group is damaged, each of its rows from there on is rejected with its number; a file
/// whose footer can't be read is one rejection, and as nobody knows how many rows it held, the run warns of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadParquetConfig {
    /// A file, a folder or a glob (`data/*.parquet`), or a list of them; relative to the pipeline file, or addresses (`s3://…`, `hf://datasets/…`).
    pub path: Paths,
    /// The columns to read, in this order; all if absent. The others are not read from disk.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// The column to make `id` of; text or whole numbers. Rows where it is null get file and row number.
    #[serde(default)]
    pub id: Option<String>,
}

impl ReadParquetConfig {
    fn schema(&self, cx: &BuildContext) -> Result<(SchemaRef, Vec<String>), StageError> {
        if let Some(columns) = &self.columns {
            if columns.is_empty() {
                return Err(StageError::setting("columns", "an empty list of columns").with_help("leave it out to read all"));
            }
            if let Some(twice) = columns.iter().enumerate().find_map(|(index, name)| columns[..index].contains(name).then_some(name)) {
                return Err(StageError::setting("columns", format!("column `{twice}` is there twice")));
            }
        }
        let files = self.path.files(&cx.base_dir, extensions::PARQUET)?;
        if let (Some(columns), None) = (&self.columns, &self.id) {
            let id = document::ID.name().to_owned();
            let is_listed = columns.contains(&id);
            let with_id: Vec<String> = columns.iter().cloned().chain([id]).collect();
            // The input's own id names its rows though it is not listed, where all files have one that can.
            if !is_listed
                && let Ok((schema, notes)) = parquet_schema(&files, Some(&with_id))
                && can_be_id(schema.field(columns.len()).data_type())
            {
                return Ok((schema, notes));
            }
        }
        parquet_schema(&files, self.columns.as_deref()).map_err(placed)
    }
}

impl StageConfig for ReadParquetConfig {
    const NAME: &'static str = "read_parquet";
    const VERSION: u32 = 2;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: read_parquet, path: data/shards, columns: [text, url], id: url}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let (schema, notes) = self.schema(cx)?;
        let ids = Ids::try_new(cx, &schema, self.id.as_deref())?;
        for note in notes {
            cx.note(note);
        }
        Ok(Outputs::new(ids.schema))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let (schema, _) = self.schema(cx)?;
        let ids = Ids::try_new(cx, &schema, self.id.as_deref())?;
        Ok(Stage::Source(Box::new(ReadParquet { path: self.path.clone(), base_dir: cx.base_dir.clone(), schema, ids })))
    }
}

struct ReadParquet {
    path: Paths,
    base_dir: PathBuf,
    schema: SchemaRef,
    ids: Ids,
}

impl Source for ReadParquet {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        let files = self.path.files(&self.base_dir, extensions::PARQUET)?;
        Ok(splits(parquet_plan(&files).map_err(placed)?))
    }

    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError> {
        drain(ParquetReader::new(parts(split), self.schema.clone(), out.batch_rows()), &self.ids, out)
    }
}
