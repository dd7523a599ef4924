//! The one table of all stage types. No stage name is matched anywhere else.

use schemas::ColumnSpec;
use serde_json::Value;

use crate::read;
use crate::{BuildContext, Inputs, Kind, Outputs, Stage, StageConfig, StageError};

/// Every stage type, sorted by name.
pub static STAGES: &[StageSpec] = &[
    StageSpec::of::<read::ReadCsvConfig>(),
    StageSpec::of::<read::ReadJsonlConfig>(),
    StageSpec::of::<read::ReadParquetConfig>(),
    StageSpec::of::<read::ReadTextConfig>(),
];

/// The stage type called `name`.
pub fn find(name: &str) -> Option<&'static StageSpec> {
    STAGES.iter().find(|spec| spec.name == name)
}

/// What the table says of a stage type.
#[derive(Debug)]
pub struct StageSpec {
    /// Its `use` in a pipeline file.
    pub name: &'static str,
    /// [`StageConfig::VERSION`].
    pub version: u32,
    /// What kind of stage it is.
    pub kind: Kind,
    /// How it is fed.
    pub inputs: Inputs,
    /// One stage of a pipeline file that builds.
    pub example: &'static str,
    schema: fn() -> schemars::Schema,
    parse: fn(Value) -> Result<Box<dyn AnyConfig>, serde_json::Error>,
}

impl StageSpec {
    /// The entry of a config type.
    pub const fn of<C: StageConfig>() -> Self {
        Self {
            name: C::NAME,
            version: C::VERSION,
            kind: C::KIND,
            inputs: C::INPUTS,
            example: C::EXAMPLE,
            schema: || schemars::schema_for!(C),
            parse: |settings| Ok(Box::new(serde_json::from_value::<C>(settings)?)),
        }
    }

    /// The JSON Schema of its settings; descriptions are the manual.
    pub fn schema(&self) -> schemars::Schema {
        (self.schema)()
    }

    /// Reads settings that were checked against the schema.
    ///
    /// # Errors
    /// What serde or a checked type says of them.
    pub fn parse(&self, settings: Value) -> Result<Box<dyn AnyConfig>, serde_json::Error> {
        (self.parse)(settings)
    }
}

/// A [`StageConfig`] of any type.
pub trait AnyConfig: Send + Sync {
    /// [`StageConfig::reads`].
    fn reads(&self) -> Vec<ColumnSpec>;
    /// [`StageConfig::adds`].
    fn adds(&self) -> Vec<ColumnSpec>;
    /// [`StageConfig::outputs`].
    ///
    /// # Errors
    /// See there.
    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError>;
    /// [`StageConfig::build`].
    ///
    /// # Errors
    /// See there.
    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError>;
    /// Every setting with its value, defaults included.
    ///
    /// # Errors
    /// [`StageError::Internal`] if a config does not serialize.
    fn settings(&self) -> Result<Value, StageError>;
}

impl<C: StageConfig> AnyConfig for C {
    fn reads(&self) -> Vec<ColumnSpec> {
        StageConfig::reads(self)
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        StageConfig::adds(self)
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        StageConfig::outputs(self, cx)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        StageConfig::build(self, cx)
    }

    fn settings(&self) -> Result<Value, StageError> {
        serde_json::to_value(self).map_err(|error| StageError::Internal(format!("settings of `{}` do not serialize: {error}", C::NAME)))
    }
}
