//! Where an answer of a language model comes from: the columns that every stage which asks one adds.

use std::sync::Arc;

use arrow::array::{ListArray, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::{Column, ColumnSpec};

/// The model that answered, with its revision: `name` or `name@revision`.
pub const MODEL: Column<StringArray> = Column::new("model", DataType::Utf8, "model that answered, with its revision");

/// Hash of the prompt's templates and of the settings that shape what is asked.
pub const PROMPT_HASH: Column<StringArray> =
    Column::new("prompt_hash", DataType::Utf8, "hash of the prompt's templates and of the settings that shape what is asked");

/// Name of [`answer_keys`].
pub const ANSWER_KEYS: &str = "answer_keys";

/// The keys of all answers that were asked for, those that could not be used first: `inspect` finds the transcripts by them. Not null.
pub fn answer_keys() -> Column<ListArray> {
    Column::new(
        ANSWER_KEYS,
        DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        "keys of the answers asked for, the used one last; transcripts are found by them",
    )
}

/// The columns of the provenance, in order.
pub fn provenance() -> [ColumnSpec; 3] {
    [MODEL.spec(), PROMPT_HASH.spec(), answer_keys().spec()]
}
