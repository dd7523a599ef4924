//! The one table of all stage types. No stage name is matched anywhere else.

use std::path::PathBuf;

use schemas::ColumnSpec;
use serde_json::Value;

use crate::llm::LlmName;
use crate::{BuildContext, Inputs, Kind, Makes, Outputs, Stage, StageConfig, StageError};

/// Every stage type, sorted by name.
pub static STAGES: &[StageSpec] = &[
    StageSpec::of::<crate::AnswerQueriesConfig>(),
    StageSpec::of::<crate::AskLlmConfig>(),
    StageSpec::of::<crate::ChunkTextConfig>(),
    StageSpec::of::<crate::CommandConfig>(),
    StageSpec::of::<crate::ComposeFractalsConfig>(),
    StageSpec::of::<crate::ConcatConfig>(),
    StageSpec::of::<crate::CountTokensConfig>(),
    StageSpec::of::<crate::DecontaminateConfig>(),
    StageSpec::of::<crate::DedupExactConfig>(),
    StageSpec::of::<crate::DedupLinesConfig>(),
    StageSpec::of::<crate::DedupMinhashConfig>(),
    StageSpec::of::<crate::ExtractTextConfig>(),
    StageSpec::of::<crate::FilterLengthConfig>(),
    StageSpec::of::<crate::FilterSimilarConfig>(),
    StageSpec::of::<crate::FilterTextConfig>(),
    StageSpec::of::<crate::FilterUrlConfig>(),
    StageSpec::of::<crate::GroupByConfig>(),
    StageSpec::of::<crate::IdentifyLanguageConfig>(),
    StageSpec::of::<crate::JoinConfig>(),
    StageSpec::of::<crate::JudgeRowsConfig>(),
    StageSpec::of::<crate::MixSourcesConfig>(),
    StageSpec::of::<crate::NearestRowsConfig>(),
    StageSpec::of::<crate::NormalizeTextConfig>(),
    StageSpec::of::<crate::PackSequencesConfig>(),
    StageSpec::of::<crate::ReadCsvConfig>(),
    StageSpec::of::<crate::ReadJsonlConfig>(),
    StageSpec::of::<crate::ReadParquetConfig>(),
    StageSpec::of::<crate::ReadTextConfig>(),
    StageSpec::of::<crate::ReadWarcConfig>(),
    StageSpec::of::<crate::RenderFractaldbConfig>(),
    StageSpec::of::<crate::RenderFractalsConfig>(),
    StageSpec::of::<crate::SampleIfsConfig>(),
    StageSpec::of::<crate::SampleRowsConfig>(),
    StageSpec::of::<crate::ScoreHeadsConfig>(),
    StageSpec::of::<crate::ScrubPiiConfig>(),
    StageSpec::of::<crate::ShuffleConfig>(),
    StageSpec::of::<crate::SortRowsConfig>(),
    StageSpec::of::<crate::SplitContextConfig>(),
    StageSpec::of::<crate::SplitHoldoutConfig>(),
    StageSpec::of::<crate::SqlConfig>(),
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
    /// [`StageConfig::TAGS`].
    pub tags: bool,
    /// [`StageConfig::USES_DEVICE`].
    pub uses_device: bool,
    /// [`StageConfig::PLACES`].
    pub places: &'static [&'static str],
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
            tags: C::TAGS,
            uses_device: C::USES_DEVICE,
            places: C::PLACES,
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
    /// [`StageConfig::makes`].
    fn makes(&self, cx: &BuildContext) -> Option<Makes>;
    /// [`StageConfig::files`].
    ///
    /// # Errors
    /// See there.
    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError>;
    /// [`StageConfig::llms`].
    fn llms(&self) -> Vec<(&'static str, &LlmName)>;
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

    fn makes(&self, cx: &BuildContext) -> Option<Makes> {
        StageConfig::makes(self, cx)
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        StageConfig::files(self, cx)
    }

    fn llms(&self) -> Vec<(&'static str, &LlmName)> {
        StageConfig::llms(self)
    }

    fn settings(&self) -> Result<Value, StageError> {
        serde_json::to_value(self).map_err(|error| StageError::Internal(format!("settings of `{}` do not serialize: {error}", C::NAME)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use arrow::datatypes::SchemaRef;

    use super::*;
    use crate::llm::Llms;
    use crate::testing::{self, Built};
    use crate::{Port, reference};

    /// An EXAMPLE as the pipeline file's reader hands it on: what feeds the stage, and its settings.
    fn example(spec: &StageSpec) -> (Value, Box<dyn AnyConfig>) {
        let value: Value = serde_saphyr::from_str(spec.example).unwrap_or_else(|error| panic!("EXAMPLE of `{}`: {error}", spec.name));
        let Value::Object(mut settings) = value else { panic!("EXAMPLE of `{}` is no mapping", spec.name) };
        assert_eq!(settings.shift_remove("use"), Some(spec.name.into()), "EXAMPLE of `{}` uses another stage", spec.name);
        let from = settings.shift_remove("from").unwrap_or_default();
        assert_eq!(from.is_null(), spec.inputs == Inputs::None, "EXAMPLE of `{}`: what it is fed by", spec.name);
        let config = spec.parse(settings.into()).unwrap_or_else(|error| panic!("EXAMPLE of `{}`: {error}", spec.name));
        (from, config)
    }

    fn build(spec: &StageSpec, config: &dyn AnyConfig, inputs: Vec<(Port, SchemaRef)>) -> Built {
        for (column, (_, schema)) in config.reads().iter().zip(inputs.iter().cycle()) {
            column.check(schema).unwrap_or_else(|error| panic!("EXAMPLE of `{}` on the sample: {error}", spec.name));
        }
        let mut cx = BuildContext::new(spec.name, &crate_dir().join("../examples"), 7, inputs);
        cx.llms = Llms::stand_ins();
        let outputs = config.outputs(&cx).unwrap_or_else(|error| panic!("EXAMPLE of `{}`: {error}", spec.name));
        cx.outputs = Some(outputs.clone());
        let stage = config.build(&cx).unwrap_or_else(|error| panic!("EXAMPLE of `{}`: {error}", spec.name));
        Built { stage, outputs }
    }

    /// All stages that are fed: a source's example needs files, and its own tests make them.
    fn fed() -> impl Iterator<Item = &'static StageSpec> {
        STAGES.iter().filter(|spec| spec.kind != Kind::Source)
    }

    fn crate_dir() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn is_update() -> bool {
        std::env::var_os("UPDATE_GOLDEN").is_some()
    }

    #[test]
    fn stages_are_sorted_and_unique() {
        assert!(STAGES.is_sorted_by(|a, b| a.name < b.name), "{:?}", STAGES.iter().map(|spec| spec.name).collect::<Vec<_>>());
        assert!(STAGES.iter().all(|spec| find(spec.name).is_some_and(|found| found.name == spec.name)));
    }

    #[test]
    fn every_stage_in_the_source_is_listed() {
        fn walk(dir: &Path, names: &mut BTreeSet<String>) {
            for entry in fs::read_dir(dir).expect("the source is there") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, names);
                } else if path.file_stem().is_some_and(|stem| stem != "registry") {
                    let text = fs::read_to_string(&path).expect("a text");
                    for code in text.split("impl StageConfig for ").skip(1) {
                        let (_, rest) = code.split_once("const NAME: &'static str = \"").expect("a stage has a name");
                        let name = rest.split('"').next().expect("a name ends");
                        assert_eq!(Some(name), path.file_stem().and_then(|stem| stem.to_str()), "a stage's file has the stage's name");
                        names.insert(name.to_owned());
                    }
                }
            }
        }
        let mut names = BTreeSet::new();
        walk(&crate_dir().join("src"), &mut names);
        assert_eq!(names, STAGES.iter().map(|spec| spec.name.to_owned()).collect());
    }

    #[test]
    fn every_setting_is_described_and_unknown_ones_are_refused() {
        for spec in STAGES {
            let schema = spec.schema();
            assert!(schema.get("description").is_some(), "`{}` has no description", spec.name);
            assert_eq!(schema.get("additionalProperties"), Some(&false.into()), "`{}` takes unknown settings", spec.name);
            for (name, setting) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert!(setting.get("description").is_some(), "setting `{name}` of `{}` has no description", spec.name);
            }
        }
    }

    #[test]
    fn every_example_builds_and_runs() {
        for spec in fed() {
            let (from, config) = example(spec);
            let inputs = testing::example_inputs(spec.inputs, &from);
            let built = build(spec, config.as_ref(), inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect());
            testing::run_stage(&built, &inputs, testing::CUTS[0]).unwrap_or_else(|error| panic!("EXAMPLE of `{}`: {error}", spec.name));
        }
    }

    #[test]
    fn a_stage_that_can_tag_says_so() {
        for spec in fed() {
            let (from, config) = example(spec);
            let inputs = testing::example_inputs(spec.inputs, &from);
            let built = build(spec, config.as_ref(), inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect());
            assert!(spec.tags || !built.outputs.can_tag(), "`{}` wants `const TAGS: bool = true`", spec.name);
        }
    }

    #[test]
    fn the_reference_is_current() {
        let examples: Vec<_> = STAGES.iter().map(|spec| (spec, example(spec).1)).collect();
        let current = reference::reference(examples.iter().map(|(spec, config)| (*spec, config.as_ref())));
        let path = crate_dir().join("STAGES.md");
        if is_update() {
            fs::write(&path, &current).expect("STAGES.md can be written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == current, "STAGES.md is not what the code says: `UPDATE_GOLDEN=1 cargo test --workspace --lib` rewrites it");
    }

    /// What each stage makes of the sample, with its version: rows that change without a new version would leave a finished run's old rows
    /// in place, as nothing else in the fingerprint moved.
    #[test]
    fn rows_change_only_with_the_version() {
        let path = crate_dir().join("golden/versions.txt");
        let mut known: BTreeMap<String, (u32, String)> = BTreeMap::new();
        for line in fs::read_to_string(&path).unwrap_or_default().lines().filter(|line| !line.starts_with('#')) {
            let [name, version, hash] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{}: `{line}`", path.display()) };
            known.insert(name.to_owned(), (version.parse().expect("a version"), hash.to_owned()));
        }
        let mut current =
            "# stage, VERSION, hash of what its EXAMPLE makes of the sample; written by UPDATE_GOLDEN=1 cargo test --workspace --lib\n"
                .to_owned();
        let mut stale = Vec::new();
        for spec in fed() {
            let (from, config) = example(spec);
            let inputs = testing::example_inputs(spec.inputs, &from);
            let built = build(spec, config.as_ref(), inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect());
            let outcome = testing::run_stage(&built, &inputs, testing::CUTS[0]).expect("the example runs");
            let hash = testing::hash_rows(&outcome);
            match known.get(spec.name) {
                Some((version, old)) if *version == spec.version => {
                    assert_eq!(*old, hash, "`{}` gives other rows than version {version} did: raise its VERSION", spec.name);
                }
                _ => stale.push(spec.name),
            }
            writeln!(current, "{} {} {hash}", spec.name, spec.version).expect("a String takes text");
        }
        if is_update() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            fs::write(&path, current).expect("the golden file can be written");
        } else {
            assert!(
                stale.is_empty(),
                "new or of a new version: {stale:?}; `UPDATE_GOLDEN=1 cargo test --workspace --lib` writes them down"
            );
        }
    }
}
