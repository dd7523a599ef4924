//! The settings of a stage: how it is named, what it reads and gives, how it is built.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use schemars::JsonSchema;
use schemas::{ColumnSpec, SchemaError, dropped};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::llm::{LlmName, Llms};
use crate::{Stage, StageError};

/// A named way in or out of a stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(Cow<'static, str>);

impl Port {
    /// The input of a stage that has one.
    pub const FROM: Port = Port::new("from");
    /// The rows a stage gives: what `from: id` means.
    pub const OUT: Port = Port::new("out");
    /// The rows a stage decided against: `from: id.dropped`.
    pub const DROPPED: Port = Port::new("dropped");
    /// What could not be read or processed. Not readable by other stages.
    pub const REJECTED: Port = Port::new("rejected");

    /// A port known at compile time.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A port that the pipeline file names.
    pub fn named(name: &str) -> Self {
        Self(Cow::Owned(name.to_owned()))
    }

    /// The port's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of stage a config builds, for the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has no input.
    Source,
    /// Works row by row.
    RowLocal,
    /// Works row by row, and asks others over the network.
    RowAsync,
    /// Needs to have seen every row.
    Global,
}

/// How a stage is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// By nothing: a source.
    None,
    /// By `from: id`, or a list of ids, which is their concatenation.
    One,
    /// By `from: id` (then the port is called `from`), or by a mapping of names of the user's choice to ids.
    OneOrNamed,
}

/// The schemas that leave a stage: `out` first, then its other ports. `dropped` stands here when the stage drops rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    ports: Vec<(Port, SchemaRef)>,
    verdicts: Verdicts,
}

/// What can become of rows that a stage decides against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdicts {
    /// They leave, if there are any: as they are, they have no place among the rows of `out`.
    Apart,
    /// They leave, but could stay in their place.
    InPlace,
    /// They stay in their place, with the columns of [`dropped::tags`].
    Tagged,
}

impl Outputs {
    /// Outputs with the main port alone.
    pub fn new(out: SchemaRef) -> Self {
        Self { ports: vec![(Port::OUT, out)], verdicts: Verdicts::Apart }
    }

    /// The same with one more port.
    #[must_use]
    pub fn with(mut self, port: Port, schema: SchemaRef) -> Self {
        self.ports.push((port, schema));
        self
    }

    /// The same with a `dropped` port: the columns of `input`, then the reasons. Where the input is itself what another stage dropped, the
    /// reasons of this stage stand in the place of the earlier ones.
    ///
    /// The stage gives its rows through [`Emit::split`](crate::Emit::split) and its like, so that a user can have them all in `out`, tagged.
    ///
    /// # Errors
    /// [`SchemaError::Clash`] if the input already has a column of that name that is not another stage's reason.
    pub fn with_dropped(self, input: &Schema) -> Result<Self, SchemaError> {
        let reasons = dropped::columns();
        let is_earlier = |field: &Field| reasons.iter().any(|reason| reason.field() == *field);
        let fields: Vec<_> = input.fields().iter().filter(|field| !is_earlier(field)).cloned().collect();
        let schema = add_columns(&Schema::new_with_metadata(fields, input.metadata().clone()), &reasons)?;
        Ok(Self { verdicts: Verdicts::InPlace, ..self.with(Port::DROPPED, schema) })
    }

    /// The same of a stage whose dropped rows have no place among those of `out`: they can't be tagged, and may leave through
    /// [`Emit::drop_rows`](crate::Emit::drop_rows).
    #[must_use]
    pub fn dropped_apart(self) -> Self {
        Self { verdicts: Verdicts::Apart, ..self }
    }

    /// Whether rows that the stage decides against could stay in `out`.
    pub fn can_tag(&self) -> bool {
        self.verdicts == Verdicts::InPlace
    }

    /// What leaves stage `id` when rows it decides against stay in `out`: `out` has the columns of [`dropped::tags`] too, and there is no
    /// `dropped`. Rows of such a stage are what it gives to an [`Emit`](crate::Emit) of these outputs; the stage itself knows nothing of it.
    ///
    /// # Errors
    /// [`SchemaError::Clash`] if `out` already has a column of that name.
    pub fn tagged(mut self, id: &str) -> Result<Self, SchemaError> {
        self.ports.retain(|(port, _)| *port != Port::DROPPED);
        for (_, schema) in self.ports.iter_mut().filter(|(port, _)| *port == Port::OUT) {
            *schema = add_columns(schema, &dropped::tags(id))?;
        }
        Ok(Self { verdicts: Verdicts::Tagged, ..self })
    }

    /// Whether rows that the stage decides against stay in `out`.
    pub fn is_tagged(&self) -> bool {
        self.verdicts == Verdicts::Tagged
    }

    /// Of rows of `out`, those that are tagged, as `dropped` would have given them; `None` if there are none.
    ///
    /// # Errors
    /// What arrow says.
    pub fn tagged_rows(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
        let reasons = dropped::columns();
        let Some(first) = batch.num_columns().checked_sub(reasons.len()).filter(|_| self.is_tagged()) else { return Ok(None) };
        if batch.column(first).null_count() == batch.num_rows() {
            return Ok(None);
        }
        let rows = filter_record_batch(batch, &is_not_null(batch.column(first))?)?;
        let is_earlier = |field: &Field| reasons.iter().any(|reason| reason.name == *field.name());
        let own = rows.schema_ref().fields().iter().zip(rows.columns()).take(first).filter(|(field, _)| !is_earlier(field));
        let tags = reasons.iter().zip(&rows.columns()[first..]);
        let columns = own.map(|(field, column)| (field.name(), column)).chain(tags.map(|(reason, column)| (&reason.name, column)));
        RecordBatch::try_from_iter(columns.map(|(name, column)| (name, Arc::clone(column)))).map(Some)
    }

    /// The schema of `port`.
    pub fn get(&self, port: &Port) -> Option<&SchemaRef> {
        self.ports.iter().find(|(name, _)| name == port).map(|(_, schema)| schema)
    }

    /// All ports in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Port, &SchemaRef)> {
        self.ports.iter().map(|(port, schema)| (port, schema))
    }
}

/// `schema` with columns added at its end.
///
/// # Errors
/// [`SchemaError::Clash`] if it already has a column of that name.
pub(crate) fn add_columns(schema: &Schema, added: &[ColumnSpec]) -> Result<SchemaRef, SchemaError> {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    for column in added {
        if fields.iter().any(|field| *field.name() == column.name) {
            return Err(SchemaError::Clash { column: column.name.clone() });
        }
        fields.push(Field::into(column.field()));
    }
    Ok(Schema::new_with_metadata(fields, schema.metadata().clone()).into())
}

/// Where and among what a stage is built.
#[derive(Debug)]
pub struct BuildContext {
    /// The stage's id in the pipeline file.
    pub stage_id: String,
    /// What relative paths are relative to: the pipeline file's folder.
    pub base_dir: PathBuf,
    /// The run's seed.
    pub seed: u64,
    /// Schema of each input port, in the order of the file; empty for a source.
    pub inputs: Vec<(Port, SchemaRef)>,
    /// How many rows come in, where the stages before say it; `None` if they don't.
    pub input_rows: Option<u64>,
    /// What kernels run on.
    pub device: gpu::Device,
    /// The models that can be asked.
    pub llms: Llms,
    /// What `StageConfig::outputs` gave; present when `build` is called.
    pub outputs: Option<Outputs>,
    notes: RefCell<Vec<String>>,
}

impl BuildContext {
    /// A context with no notes.
    pub fn new(stage_id: &str, base_dir: &Path, seed: u64, inputs: Vec<(Port, SchemaRef)>) -> Self {
        Self {
            stage_id: stage_id.to_owned(),
            base_dir: base_dir.to_owned(),
            seed,
            inputs,
            input_rows: None,
            device: gpu::Device::cpu(),
            llms: Llms::default(),
            outputs: None,
            notes: RefCell::default(),
        }
    }

    /// The schema of the one input of a stage that has one.
    ///
    /// # Errors
    /// [`StageError::Internal`] if there is none: the graph was not checked.
    pub fn input(&self) -> Result<&SchemaRef, StageError> {
        match self.inputs.as_slice() {
            [(_, schema)] => Ok(schema),
            other => Err(StageError::Internal(format!("stage `{}` was built with {} inputs, not one", self.stage_id, other.len()))),
        }
    }

    /// What `StageConfig::outputs` gave for this stage.
    ///
    /// # Errors
    /// [`StageError::Internal`] if it was not asked before.
    pub fn outputs(&self) -> Result<&Outputs, StageError> {
        self.outputs
            .as_ref()
            .ok_or_else(|| StageError::Internal(format!("stage `{}` was built before its outputs were known", self.stage_id)))
    }

    /// Tells the user something found while building (a schema that was inferred, say); `check` and `run` show it.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// The notes so far; leaves none.
    pub fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }
}

/// How much a stage is going to make, where its settings say so: what is made of nothing, or many times from few rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Makes {
    /// Rows that leave through its main output.
    pub rows: u64,
    /// Bytes that they take on the disk, about. Whoever multiplies saturates.
    pub bytes: u64,
    /// What the rows are, for people: `images of 224 x 224 as jpeg`.
    pub what: String,
    /// The setting that says how many.
    pub setting: &'static str,
}

/// The settings of one stage type: a struct that serde reads from the pipeline file and that says how the stage is built.
///
/// The struct's doc comments are the manual that `pipeline stages <type>` shows. `Serialize` writes every setting, defaults included: that
/// text is part of the fingerprint, so spelling out a default re-runs nothing.
pub trait StageConfig: DeserializeOwned + Serialize + JsonSchema + Clone + Send + Sync + 'static {
    /// The stage's `use` in a pipeline file; `snake_case`, verb first.
    const NAME: &'static str;
    /// Raised when the same input would give other rows; a golden test notices a forgotten one.
    const VERSION: u32;
    /// What kind of stage this builds.
    const KIND: Kind;
    /// How it is fed.
    const INPUTS: Inputs;
    /// One stage of a pipeline file, in flow style, that builds.
    const EXAMPLE: &'static str;
    /// Whether it runs kernels: then the class of the device is part of the fingerprint, and its float columns are equal on one class only.
    const USES_DEVICE: bool = false;
    /// Whether there are settings with which [`Outputs::can_tag`]: then the stage takes `on_fail`.
    const TAGS: bool = false;

    /// Settings that only say where something lies: no row depends on them, so they are no part of the fingerprint.
    const PLACES: &'static [&'static str] = &[];

    /// The columns it reads; checked against the input of every port before anything runs.
    fn reads(&self) -> Vec<ColumnSpec> {
        Vec::new()
    }

    /// The columns it adds to its input.
    fn adds(&self) -> Vec<ColumnSpec> {
        Vec::new()
    }

    /// The schemas that leave it: by default `out` alone, the input's columns and then `adds()`. A source reads its files' schema here.
    ///
    /// # Errors
    /// A setting or an input that cannot work.
    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        Ok(Outputs::new(add_columns(cx.input()?, &self.adds())?))
    }

    /// Makes the stage. `cx.outputs()` holds what `outputs` gave.
    ///
    /// # Errors
    /// A setting or an input that cannot work.
    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError>;

    /// How much it is going to make, if its settings say so: what cannot fit where it goes is refused before it starts.
    fn makes(&self, _cx: &BuildContext) -> Option<Makes> {
        None
    }

    /// The models it asks, by the settings that name them: what their answers depend on becomes part of the fingerprint.
    fn llms(&self) -> Vec<(&'static str, &LlmName)> {
        Vec::new()
    }

    /// Files besides its inputs that its rows depend on (a program, a list of words), each with the name that it has in `run.json`. Their
    /// content becomes part of the fingerprint.
    ///
    /// # Errors
    /// A file that is not there.
    fn files(&self, _cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        Ok(Vec::new())
    }
}
