//! `sft`: a conversation to fine-tune on, in the form that `datasets` loads and chat trainers read: a list of turns, each with a role and what
//! is said.

use arrow::array::ListArray;
use arrow::datatypes::{DataType, Field, Fields};

use crate::Column;

/// A turn's role: `system`, `user` or `assistant`.
pub const ROLE: &str = "role";

/// What is said in a turn.
pub const CONTENT: &str = "content";

/// Name of [`messages`].
pub const MESSAGES: &str = "messages";

/// The fields of a turn.
pub fn turn() -> Fields {
    [ROLE, CONTENT].iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect()
}

/// The conversation: `list<struct<role, content>>`.
pub fn messages() -> Column<ListArray> {
    let turn = Field::new("item", DataType::Struct(turn()), true);
    Column::new(MESSAGES, DataType::List(turn.into()), "the conversation: turns with a role and what is said")
}
