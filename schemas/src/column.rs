//! A column: its name, its type and its array, so that no stage looks one up by string.

use std::borrow::Cow;
use std::marker::PhantomData;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

/// A column that code reads or writes: name, Arrow type, and the array type `A` it has in memory.
#[derive(Debug)]
pub struct Column<A> {
    name: Cow<'static, str>,
    data_type: DataType,
    description: &'static str,
    array: PhantomData<fn() -> A>,
}

impl<A: Array + 'static> Column<A> {
    /// A column known at compile time. `A` must be the array of `data_type`.
    pub const fn new(name: &'static str, data_type: DataType, description: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), data_type, description, array: PhantomData }
    }

    /// The same column under a name that the user chose.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { name: Cow::Owned(name.to_owned()), data_type: self.data_type.clone(), description: self.description, array: PhantomData }
    }

    /// The column's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a stage declares when it reads or adds this column; nullable.
    pub fn spec(&self) -> ColumnSpec {
        ColumnSpec {
            name: self.name.to_string(),
            data_type: self.data_type.clone(),
            nullable: true,
            description: self.description.to_owned(),
        }
    }

    /// The column as an Arrow field, its description in the field's metadata.
    pub fn field(&self) -> Field {
        self.spec().field()
    }

    /// This column of `batch`.
    ///
    /// # Panics
    /// If the batch has no such column. The engine checks every stage's `reads()` against its input before the first row moves.
    pub fn of<'b>(&self, batch: &'b RecordBatch) -> &'b A {
        self.try_of(batch).expect("the engine checked reads() against the input schema")
    }

    /// This column of `batch`.
    ///
    /// # Errors
    /// [`SchemaError`] if the batch lacks the column or holds it with another type.
    pub fn try_of<'b>(&self, batch: &'b RecordBatch) -> Result<&'b A, SchemaError> {
        batch
            .column_by_name(&self.name)
            .and_then(|column| column.as_any().downcast_ref::<A>())
            .ok_or_else(|| self.spec().missing_from(&batch.schema()))
    }
}

/// What a stage says of a column it reads or adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The column's name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: DataType,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// One line for the reader of a catalogue or a data set.
    pub description: String,
}

impl ColumnSpec {
    /// The column as an Arrow field, its description in the field's metadata.
    pub fn field(&self) -> Field {
        describe(Field::new(&self.name, self.data_type.clone(), self.nullable), &self.description)
    }

    /// Checks that `schema` has this column with this type.
    ///
    /// # Errors
    /// [`SchemaError`] that names what was wanted and what the schema has.
    pub fn check(&self, schema: &Schema) -> Result<(), SchemaError> {
        match schema.field_with_name(&self.name) {
            Ok(field) if field.data_type() == &self.data_type => Ok(()),
            _ => Err(self.missing_from(schema)),
        }
    }

    fn missing_from(&self, schema: &Schema) -> SchemaError {
        SchemaError::missing(format!("{}: {}", self.name, self.data_type), schema)
    }
}

/// The key of a column's metadata under which the BLAKE3 hash of the model stands that made it.
pub const MODEL_HASH: &str = "model_hash";

/// `field` with a description in its metadata, under the key that readers of the output find it by.
pub fn describe(field: Field, description: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert("description".to_owned(), description.to_owned());
    field.with_metadata(metadata)
}

fn columns_of(schema: &Schema) -> String {
    if schema.fields().is_empty() {
        return "no columns".to_owned();
    }
    schema.fields().iter().map(|field| format!("`{}: {}`", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}

/// A table does not have the columns that were asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A column is missing, or has another type.
    #[error("needs column `{wanted}`, but the input has {found}")]
    Column {
        /// `name: Type` of the column.
        wanted: String,
        /// The columns that are there.
        found: String,
    },
    /// A column would be there twice.
    #[error("adds column `{column}`, which the input already has")]
    Clash {
        /// The column's name.
        column: String,
    },
}

impl SchemaError {
    /// `schema` has no column `wanted`: a name where any type would do, else `name: Type`.
    pub fn missing(wanted: impl Into<String>, schema: &Schema) -> Self {
        Self::Column { wanted: wanted.into(), found: columns_of(schema) }
    }
}
