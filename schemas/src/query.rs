//! `query`: a question about a part of a document, and where in the tree of its parts it was asked.

use arrow::array::{Int16Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;

use crate::{Column, ColumnSpec};

/// The document that the question is about.
pub const PARENT_ID: Column<StringArray> = Column::new("parent_id", DataType::Utf8, "id of the document that the question is about");

/// The part of the document that trees were grown on: `<document>#<root>`.
pub const ROOT_ID: Column<StringArray> =
    Column::new("root_id", DataType::Utf8, "part of the document that the question's tree was grown on: document#number");

/// Which of the trees of its root, from 0.
pub const TREE: Column<Int32Array> = Column::new("tree", DataType::Int32, "which of the trees of its root, from 0");

/// The way from the root to the node: `0` for each first half, `1` for each second.
pub const NODE_PATH: Column<StringArray> =
    Column::new("node_path", DataType::Utf8, "way from the root to the node: 0 for a first half, 1 for a second; the root's is empty");

/// Halvings between root and node.
pub const DEPTH: Column<Int16Array> = Column::new("depth", DataType::Int16, "halvings between the root and the node");

/// Where the context begins in the document.
pub const SPAN_START: Column<Int64Array> =
    Column::new("span_start", DataType::Int64, "character of the document at which the context begins; null where it was written anew");

/// Where the context ends in the document.
pub const SPAN_END: Column<Int64Array> =
    Column::new("span_end", DataType::Int64, "character of the document behind the context's last; null where it was written anew");

/// What the question is about, and answered by.
pub const CONTEXT: Column<StringArray> = Column::new("context", DataType::Utf8, "text that the question is about and that answers it");

/// The text of the root.
pub const ROOT_TEXT: Column<StringArray> = Column::new("root_text", DataType::Utf8, "text of the root that the context is a part of");

/// The question.
pub const QUESTION: Column<StringArray> = Column::new("question", DataType::Utf8, "question about the context");

/// How many questions of its root are wanted.
pub const QUOTA: Column<Int32Array> = Column::new("quota", DataType::Int32, "questions that are wanted of the root, of all its trees");

/// Why a node has no children.
pub const STOP: Column<StringArray> = Column::new(
    "stop",
    DataType::Utf8,
    "why the node was not divided further: leaf, no_border, max_depth, max_nodes, not_shorter, hallucination; null where it was",
);

/// All columns of a question behind its `id`, but for [`ROOT_TEXT`], which is there when wanted.
pub fn columns() -> [ColumnSpec; 11] {
    [
        PARENT_ID.spec(),
        ROOT_ID.spec(),
        TREE.spec(),
        NODE_PATH.spec(),
        DEPTH.spec(),
        SPAN_START.spec(),
        SPAN_END.spec(),
        CONTEXT.spec(),
        QUESTION.spec(),
        QUOTA.spec(),
        STOP.spec(),
    ]
}
