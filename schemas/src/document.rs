//! `document`: one text, the record type of everything that reads or filters text.

use arrow::array::StringArray;
use arrow::datatypes::DataType;

use crate::Column;

/// The row's label: a column that the user named, else `<source stage>/<relative path>@<byte offset or row>`.
pub const ID: Column<StringArray> = Column::new("id", DataType::Utf8, "label of the row");

/// The document's text.
pub const TEXT: Column<StringArray> = Column::new("text", DataType::Utf8, "text of the document");
