//! The columns that say which answers a row was made of.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{Field, Schema, SchemaRef};
use schemas::{ColumnSpec, SchemaError, llm};
use serde::Serialize;

use super::{Answer, Llm};
use crate::StageError;

/// What the rows of a stage say of the model and the prompt that they were made by.
#[derive(Debug, Clone)]
pub struct Provenance {
    model: String,
    prompt_hash: String,
}

impl Provenance {
    /// Of rows that `llm` is asked for; `shape` is all that shapes what is asked: the texts of templates and examples, and settings.
    ///
    /// # Errors
    /// [`StageError::Internal`] if `shape` can't be written.
    pub fn new(llm: &Llm, shape: &impl Serialize) -> Result<Self, StageError> {
        let shape = serde_json::to_vec(shape).map_err(|error| StageError::Internal(format!("the shape of a prompt: {error}")))?;
        let settings = llm.settings();
        let model = match &settings.revision {
            Some(revision) => format!("{}@{revision}", settings.model),
            None => settings.model.clone(),
        };
        Ok(Self { model, prompt_hash: blake3::hash(&shape).to_hex()[..32].to_owned() })
    }

    /// The columns of [`llm::provenance`] for rows of which each was made of these answers, the used one last.
    pub fn columns<'a>(&self, answers: impl IntoIterator<Item = &'a [Answer]>) -> [ArrayRef; 3] {
        let mut keys = ListBuilder::new(StringBuilder::new());
        let mut rows = 0;
        for answers in answers {
            answers.iter().for_each(|answer| keys.values().append_value(answer.key.to_string()));
            keys.append(true);
            rows += 1;
        }
        let same = |text: &str| Arc::new(StringArray::from_iter_values((0..rows).map(|_| text))) as ArrayRef;
        [same(&self.model), same(&self.prompt_hash), Arc::new(keys.finish())]
    }
}

/// The columns of an input that stay where a stage adds its provenance: all but those of an earlier provenance.
pub fn kept(input: &Schema) -> Vec<usize> {
    let earlier = llm::provenance();
    let is_earlier = |field: &Field| earlier.iter().any(|column| column.name == *field.name());
    input.fields().iter().enumerate().filter(|(_, field)| !is_earlier(field)).map(|(column, _)| column).collect()
}

/// The schema of `input` with `added` and the provenance behind its columns, an earlier provenance replaced.
///
/// # Errors
/// [`SchemaError::Clash`] if the input has one of `added`.
pub fn with_provenance(input: &Schema, added: &[ColumnSpec]) -> Result<SchemaRef, SchemaError> {
    let fields = input.project(&kept(input)).unwrap_or_else(|_| input.clone());
    let added: Vec<ColumnSpec> = added.iter().cloned().chain(llm::provenance()).collect();
    crate::stage::add_columns(&fields, &added)
}

/// The columns of `row` that [`kept`] names, with `added` behind them, as a batch of `schema`.
///
/// # Errors
/// What arrow says.
pub fn extend(row: &RecordBatch, added: impl IntoIterator<Item = ArrayRef>, schema: &SchemaRef) -> Result<RecordBatch, StageError> {
    let columns = kept(row.schema_ref()).into_iter().map(|column| Arc::clone(row.column(column))).chain(added);
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}
