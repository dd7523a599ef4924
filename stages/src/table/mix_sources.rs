//! `mix_sources`: a training mixture of sources by weight, to a budget, with whole passes and an exact part of one.

mod program;
mod quota;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::array::{StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use schemas::{Column, ColumnSpec, SchemaError, document};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use self::program::{Input, Mix, Size};
use self::quota::Demand;
use crate::keys::{Draw, KeyColumns, plain};
use crate::stage::add_columns;
use crate::units::ColumnName;
use crate::{BuildContext, Inputs, Kind, Outputs, Port, Stage, StageConfig, StageError};

/// Makes a training mixture: of each source as much as its weight says, up to a budget.
///
/// Sources are named inputs (`from: {web: pages, code: repos}`, all with the same columns) or, with one input, the values of the column `by`.
/// Every source has a weight by name. Weights are proportions: 7 and 3 mean the same as 0.7 and 0.3. With `budget` the mix has so many rows,
/// tokens, characters or bytes (`unit`), shared out by weight; without one it is as large as the shares allow with no source taken more than
/// `max_epochs` times. `epochs` says instead how many passes each source gives.
///
/// Nothing is drawn with replacement. A source that gives more than it has is taken whole, again and again, and in the last pass a part of it:
/// rows in the order of a number drawn from the run's seed, the stage's id and the row's `id`, up to where the sum is closest to what is left,
/// so a budget in rows is met exactly, one in tokens within half a row of each source. A larger mix holds every row of a smaller one.
///
/// Adds `mix_source` (the source's name), `mix_epoch` (the pass, from 0) and the row's own id in `parent_id`; when it is taken again its `id`
/// becomes `parent#1`, `parent#2` and so on. What is not taken is dropped, with its source: `not_in_mix`, with the number drawn;
/// `no_source` where `by` is null. A source without rows stops the run, unless none has any. A row without a number of tokens is rejected; one without text has no characters. The mix that was
/// reached is in the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixSourcesConfig {
    /// Weight of each source, by its name; 0 leaves a source out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, Amount>,
    /// In place of weights: how many passes over each source, 1.5 being all of it and then half of it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, Amount>,
    /// In place of weights: a published mixture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<MixPreset>,
    /// What a preset's sources (`common_crawl`, `c4`, `github`, `book`, `arxiv`, `wikipedia`, `stackexchange`) are called here, where they have
    /// other names: `{common_crawl: RedPajamaCommonCrawl}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preset_names: BTreeMap<String, String>,
    /// How much the mix has, in `unit`. For weights and presets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<NonZeroU64>,
    /// What budget, shares and parts of a pass are measured in.
    #[serde(default)]
    pub unit: MixUnit,
    /// With one input: the column whose values are the sources. By default `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<ColumnName>,
    /// The column with each row's number of tokens, any integer type; for `unit: tokens`.
    #[serde(default = "default_tokens_column")]
    pub tokens_column: ColumnName,
    /// The column whose characters or bytes are counted; for `unit: characters` and `bytes`.
    #[serde(default = "default_text_column")]
    pub text_column: ColumnName,
    /// How often a source may be taken, at most 256; 1 is once, no row twice. Up to 4, repeated rows were found to be nearly as good as fresh ones.
    /// Source: Muennighoff et al., *Scaling Data-Constrained Language Models*, 2023.
    #[serde(default = "default_max_epochs")]
    pub max_epochs: Amount,
    /// The same for single sources, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_epochs_of: BTreeMap<String, Amount>,
    /// What happens when a source has less than its share of the budget, taken `max_epochs` times.
    #[serde(default)]
    pub when_short: Short,
    /// How the rows of the mix stand.
    #[serde(default)]
    pub order: MixOrder,
    /// What the column with the ids that rows came with is called.
    #[serde(default = "default_parent_column")]
    pub parent_column: ColumnName,
}

/// A published mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MixPreset {
    /// SlimPajama-DC's first: `CommonCrawl` alone.
    #[serde(rename = "slimpajama_dc_1")]
    SlimpajamaDc1,
    /// SlimPajama-DC's sixth, which is SlimPajama as it is: `CommonCrawl` 52.2 %, C4 26.7 %, GitHub 5.2 %, books 4.2 %, arXiv 4.6 %,
    /// Wikipedia 3.8 %, `StackExchange` 3.3 % of the tokens.
    #[serde(rename = "slimpajama_dc_6")]
    SlimpajamaDc6,
}

/// What a mix is measured in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MixUnit {
    /// Rows.
    #[default]
    Rows,
    /// Tokens, as `tokens_column` says.
    Tokens,
    /// Characters (Unicode scalar values) of `text_column`.
    Characters,
    /// Bytes of `text_column` in UTF-8.
    Bytes,
}

/// What happens when a source runs dry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Short {
    /// The run stops before any row leaves, and says how often the source would have to be taken.
    #[default]
    Stop,
    /// The shares hold, and the mix is smaller than the budget.
    Shrink,
    /// The budget holds: the other sources give more, by their weights.
    Refill,
}

/// How the rows of a mix stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MixOrder {
    /// At random, every source spread evenly over the whole mix, so that any stretch of it has about the shares of all of it, and pass after
    /// pass: a row comes again when all of its source has been seen.
    #[default]
    Interleaved,
    /// At random, whichever pass a row is of.
    Shuffled,
    /// Source after source, in the order the rows came in, a repeated row behind itself. The least work.
    Input,
}

/// A weight, or a number of passes: a number from 0 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Amount(f64);

impl Amount {
    const MOST: f64 = 1e6;

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

#[derive(Clone, Copy)]
struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number from 0 to 1000000")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Amount, E> {
        if (0.0..=Amount::MOST).contains(&value) { Ok(Amount(value)) } else { Err(E::invalid_value(Unexpected::Float(value), &self)) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Amount, E> {
        self.visit_f64(value as f64).map_err(|_: E| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Amount, E> {
        self.visit_f64(value as f64).map_err(|_: E| E::invalid_value(Unexpected::Signed(value), &self))
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1_000_000})
    }
}

impl MixPreset {
    const SOURCES: [&'static str; 7] = ["common_crawl", "c4", "github", "book", "arxiv", "wikipedia", "stackexchange"];

    /// Weight of each of [`MixPreset::SOURCES`].
    ///
    /// Source: for DC-6 the token proportions of the dataset card of `cerebras/SlimPajama-627B`, of which Shen et al., *SlimPajama-DC*, 2023,
    /// say that DC-6 has them.
    const fn weights(self) -> [f64; 7] {
        match self {
            Self::SlimpajamaDc1 => [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            Self::SlimpajamaDc6 => [52.2, 26.7, 5.2, 4.2, 4.6, 3.8, 3.3],
        }
    }
}

fn default_tokens_column() -> ColumnName {
    ColumnName::new("n_tokens")
}

fn default_text_column() -> ColumnName {
    ColumnName::new("text")
}

fn default_parent_column() -> ColumnName {
    ColumnName::new("parent_id")
}

fn default_max_epochs() -> Amount {
    Amount(1.0)
}

const SOURCE: Column<StringArray> = Column::new("mix_source", DataType::Utf8, "source of the mix that the row is of");
const EPOCH: Column<UInt32Array> = Column::new("mix_epoch", DataType::UInt32, "pass over the source in which the row was taken, from 0");
const PARENT: Column<StringArray> = Column::new("parent_id", DataType::Utf8, "id of the row this one is taken from");

/// Inputs a mix can have.
const MOST_INPUTS: usize = 64;

/// Passes over a source that a mix can have.
const MOST_EPOCHS: u64 = 256;

impl StageConfig for MixSourcesConfig {
    const NAME: &'static str = "mix_sources";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::OneOrNamed;
    const EXAMPLE: &'static str = "{use: mix_sources, from: {web: pages, code: repos}, weights: {web: 0.7, code: 0.3}, budget: 50}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        vec![SOURCE.spec(), EPOCH.spec(), PARENT.named(self.parent_column.as_str()).spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = Self::input(cx)?;
        self.sources(cx)?;
        self.sizes(&input)?;
        if input.index_of(self.parent_column.as_str()).is_ok() {
            let problem = format!("the input has a column `{}` already", self.parent_column);
            return Err(StageError::setting("parent_column", problem).with_help("choose another name: `parent_column: mixed_from`"));
        }
        let dropped = add_columns(&input, &[SOURCE.spec()])?;
        Ok(Outputs::new(add_columns(&input, &self.adds())?).with_dropped(&dropped)?.dropped_apart())
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = Self::input(cx)?;
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let id = KeyColumns::try_new(&input, [document::ID.name()], "from")?;
        let (names, demand) = self.sources(cx)?;
        let by = self.by(cx)?;
        let place = |port: &Port| names.iter().position(|name| name == port.as_str());
        let inputs = cx.inputs.iter().map(|(port, _)| Input { port: port.clone(), source: if by.is_none() { place(port) } else { None } });
        Ok(Stage::Global(Box::new(Mix {
            inputs: inputs.collect(),
            by,
            demand,
            demanded_at: if self.preset.is_some() {
                "preset"
            } else if self.epochs.is_empty() {
                "weights"
            } else {
                "epochs"
            },
            unit: self.unit,
            size: self.sizes(&input)?,
            order: self.order,
            draw: Draw::new(cx.seed, &cx.stage_id, id),
            names,
            input,
            output,
        })))
    }
}

impl MixSourcesConfig {
    /// The columns of the mix: those of the first input, which the others must have too.
    fn input(cx: &BuildContext) -> Result<SchemaRef, StageError> {
        let Some(((_, first), others)) = cx.inputs.split_first() else {
            return Err(StageError::Internal(format!("stage `{}` was built without inputs", cx.stage_id)));
        };
        if cx.inputs.len() > MOST_INPUTS {
            return Err(StageError::setting("from", format!("wanted at most {MOST_INPUTS} inputs, found {}", cx.inputs.len())));
        }
        let mut fields: Vec<Field> = first.fields().iter().map(|field| field.as_ref().clone()).collect();
        for (port, schema) in others {
            for field in &mut fields {
                match schema.field_with_name(field.name()) {
                    Ok(other) if other.data_type() == field.data_type() => {
                        *field = field.clone().with_nullable(field.is_nullable() || other.is_nullable());
                    }
                    _ => {
                        let problem =
                            format!("all inputs must have the same columns, and `{port}` has no `{}: {}`", field.name(), field.data_type());
                        return Err(
                            StageError::setting("from", problem).with_help("a `sql` stage before this one can choose and CAST columns")
                        );
                    }
                }
            }
            if let Some(more) = schema.fields().iter().find(|field| first.index_of(field.name()).is_err()) {
                let problem =
                    format!("all inputs must have the same columns, and only `{port}` has `{}: {}`", more.name(), more.data_type());
                return Err(StageError::setting("from", problem).with_help("a `sql` stage before this one can choose columns"));
            }
        }
        Ok(Arc::new(Schema::new_with_metadata(fields, first.metadata().clone())))
    }

    /// The column that names the source of a row of the one input; `None` with named inputs.
    fn by(&self, cx: &BuildContext) -> Result<Option<usize>, StageError> {
        let schema = match (cx.inputs.as_slice(), &self.by) {
            ([(port, schema)], _) if *port == Port::FROM => schema,
            (_, Some(by)) => {
                return Err(StageError::setting("by", format!("found `by: {by}` with named inputs, whose names are the sources")));
            }
            (_, None) => return Ok(None),
        };
        let by = self.by.as_ref().map_or("source", ColumnName::as_str);
        let column = schema.index_of(by).map_err(|_| {
            let problem = format!("the sources are the values of a column, and the input has no `{by}`");
            StageError::setting("by", problem).with_help("name the column, or the inputs: `from: {web: pages, code: repos}`")
        })?;
        match schema.field(column).data_type() {
            data_type if plain(data_type) == DataType::Utf8 => Ok(Some(column)),
            other => Err(StageError::setting("by", format!("wanted a column of texts, found `{by}: {other}`"))),
        }
    }

    /// The names of the sources, in order, and what is wanted of them.
    fn sources(&self, cx: &BuildContext) -> Result<(Vec<String>, Demand), StageError> {
        let by = self.by(cx)?;
        let (setting, amounts) = self.amounts()?;
        let names: Vec<String> = amounts.keys().cloned().collect();
        if by.is_none() {
            let inputs: BTreeSet<&str> = cx.inputs.iter().map(|(port, _)| port.as_str()).collect();
            let listed = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let without: Vec<&str> = inputs.iter().copied().filter(|name| !amounts.contains_key(*name)).collect();
            if !without.is_empty() {
                let problem = format!("every input needs a number here, 0 leaves it out; missing: {}", listed(without));
                return Err(StageError::setting(setting, problem));
            }
            let unknown: Vec<&str> = amounts
                .iter()
                .filter(|(name, amount)| !inputs.contains(name.as_str()) && **amount > 0.0)
                .map(|(name, _)| name.as_str())
                .collect();
            if !unknown.is_empty() {
                let problem = format!("no input is called {}; the inputs are {}", listed(unknown), listed(inputs.into_iter().collect()));
                let help = if setting == "preset" {
                    "name the inputs as the preset does, or say in `preset_names` how they are called"
                } else {
                    "inputs are named in `from`"
                };
                return Err(StageError::setting(setting, problem).with_help(help));
            }
        }
        if !amounts.values().any(|amount| *amount > 0.0) {
            return Err(StageError::setting(setting, "wanted a number over 0 for at least one source"));
        }
        if let Some(unknown) = self.max_epochs_of.keys().find(|name| !amounts.contains_key(*name)) {
            return Err(StageError::setting("max_epochs_of", format!("`{unknown}` is none of the sources in `{setting}`")));
        }
        let passes = [("max_epochs", &self.max_epochs)].into_iter();
        let passes = passes.chain(self.max_epochs_of.values().map(|passes| ("max_epochs_of", passes)));
        let mut passes = passes.chain(self.epochs.values().map(|passes| ("epochs", passes)));
        if let Some((setting, many)) = passes.find(|(_, passes)| passes.get() > MOST_EPOCHS as f64) {
            return Err(StageError::setting(setting, format!("wanted at most {MOST_EPOCHS} passes, found {}", many.get())));
        }
        let amounts_of_each: Vec<f64> = amounts.values().copied().collect();
        if setting == "epochs" {
            if self.budget.is_some() {
                return Err(StageError::setting("budget", "`epochs` says how much each source gives; found a budget as well"));
            }
            if !self.max_epochs_of.is_empty() {
                return Err(StageError::setting("max_epochs_of", "`epochs` says how much each source gives, so that this does nothing"));
            }
            return Ok((names, Demand::Epochs(amounts_of_each)));
        }
        let max_epochs = names.iter().map(|name| self.max_epochs_of.get(name).unwrap_or(&self.max_epochs).get()).collect();
        let budget = self.budget.map(NonZeroU64::get);
        Ok((names, Demand::Shares { weights: amounts_of_each, budget, max_epochs, short: self.when_short }))
    }

    /// The one of `weights`, `epochs` and `preset` that is set, and its numbers.
    fn amounts(&self) -> Result<(&'static str, BTreeMap<String, f64>), StageError> {
        let set: Vec<&'static str> =
            [("weights", !self.weights.is_empty()), ("epochs", !self.epochs.is_empty()), ("preset", self.preset.is_some())]
                .into_iter()
                .filter_map(|(name, is_set)| is_set.then_some(name))
                .collect();
        let setting = match set.as_slice() {
            [one] => *one,
            [] => return Err(StageError::setting("weights", "wanted `weights`, `epochs` or `preset`, found none")),
            [_, more, ..] => {
                return Err(StageError::setting(
                    *more,
                    format!("wanted one of `weights`, `epochs` and `preset`, found {}", set.join(" and ")),
                ));
            }
        };
        let Some(preset) = self.preset else {
            if let Some(name) = self.preset_names.keys().next() {
                return Err(StageError::setting("preset_names", format!("found a name for `{name}` without `preset`")));
            }
            let amounts = if setting == "weights" { &self.weights } else { &self.epochs };
            return Ok((setting, amounts.iter().map(|(name, amount)| (name.clone(), amount.get())).collect()));
        };
        if let Some(unknown) = self.preset_names.keys().find(|name| !MixPreset::SOURCES.contains(&name.as_str())) {
            let problem = format!("`{unknown}` is no source of the preset; its sources are {}", MixPreset::SOURCES.join(", "));
            return Err(StageError::setting("preset_names", problem));
        }
        let mut amounts = BTreeMap::new();
        for (name, weight) in MixPreset::SOURCES.into_iter().zip(preset.weights()) {
            let name = self.preset_names.get(name).map_or(name, String::as_str);
            if amounts.insert(name.to_owned(), weight).is_some() {
                return Err(StageError::setting("preset_names", format!("two sources are called `{name}`")));
            }
        }
        Ok((setting, amounts))
    }

    /// What a row counts for.
    fn sizes(&self, input: &Schema) -> Result<Size, StageError> {
        match self.unit {
            MixUnit::Rows => Ok(Size::Rows),
            MixUnit::Tokens => {
                let name = self.tokens_column.as_str();
                let column = input.index_of(name).map_err(|_| {
                    let found = SchemaError::missing(format!("{name}: a type of integer"), input);
                    StageError::setting("tokens_column", found.to_string()).with_help("`count_tokens` adds such a column")
                })?;
                match input.field(column).data_type() {
                    data_type if data_type.is_integer() => Ok(Size::Tokens(column)),
                    other => {
                        Err(StageError::setting("tokens_column", format!("wanted a column of whole numbers, found `{name}: {other}`")))
                    }
                }
            }
            MixUnit::Characters | MixUnit::Bytes => {
                let text = document::TEXT.named(self.text_column.as_str());
                text.spec().check(input)?;
                Ok(if self.unit == MixUnit::Bytes { Size::Bytes(text) } else { Size::Characters(text) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::UInt32Type;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance, Cut, Outcome};

    /// Rows of a source: `n` of them, with so many tokens each.
    fn rows(source: &str, tokens: &[i64]) -> RecordBatch {
        let ids: StringArray = (0..tokens.len()).map(|row| Some(format!("{source}-{row}"))).collect();
        let sources: StringArray = tokens.iter().map(|_| Some(source)).collect();
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("id", Arc::new(ids.clone()), true),
            ("text", Arc::new(ids), true),
            ("source", Arc::new(sources), true),
            ("n_tokens", Arc::new(Int64Array::from(tokens.to_vec())), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
    }

    fn named(sources: &[(&str, usize)]) -> Vec<(Port, RecordBatch)> {
        sources.iter().map(|(name, n)| (Port::named(name), rows(name, &vec![1; *n]))).collect()
    }

    /// Rows of each source in the mix.
    fn counts(got: &Outcome) -> BTreeMap<String, usize> {
        testing::column(got.rows(), "mix_source").into_iter().fold(BTreeMap::new(), |mut counts, source| {
            *counts.entry(source).or_default() += 1;
            counts
        })
    }

    fn are(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
        counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    fn mixed(settings: Value, inputs: &[(Port, RecordBatch)]) -> BTreeMap<String, usize> {
        counts(&testing::check_contract_of::<MixSourcesConfig>(settings, inputs, Balance::Free))
    }

    #[test]
    fn it_keeps_the_contract() {
        let ports: Vec<_> = ["web", "code"].map(|name| (Port::named(name), testing::sample())).into();
        for settings in [
            json!({"weights": {"web": 0.7, "code": 0.3}, "budget": 50}),
            json!({"weights": {"web": 0.7, "code": 0.3}, "budget": 50, "order": "input"}),
            json!({"weights": {"web": 3, "code": 1}, "budget": 5000, "unit": "characters", "max_epochs": 9, "order": "shuffled"}),
            json!({"epochs": {"web": 5.5, "code": 0.25}, "unit": "tokens", "tokens_column": "words"}),
        ] {
            testing::check_contract_of::<MixSourcesConfig>(settings, &ports, Balance::Free);
        }
        let once = json!({"weights": {"web": 1, "books": 1}, "budget": 20});
        let got = testing::check_contract::<MixSourcesConfig>(once, &testing::sample(), Balance::KeptOrDropped);
        assert_eq!(counts(&got), are(&[("books", 10), ("web", 10)]));
        assert_eq!(got.drop_reasons["no_source"], 12);
    }

    #[test]
    fn a_budget_of_rows_is_met_exactly() {
        let inputs = named(&[("web", 100), ("code", 100)]);
        assert_eq!(mixed(json!({"weights": {"web": 0.7, "code": 0.3}, "budget": 90}), &inputs), are(&[("code", 27), ("web", 63)]));
        assert_eq!(mixed(json!({"weights": {"web": 2, "code": 0}, "budget": 9}), &inputs), are(&[("web", 9)]));
        // Without a budget: 100 is 0.8 of 125.
        assert_eq!(mixed(json!({"weights": {"web": 0.8, "code": 0.2}}), &inputs), are(&[("code", 25), ("web", 100)]));
    }

    #[test]
    fn a_row_comes_again_when_all_of_its_source_was_taken() {
        let inputs = named(&[("web", 10), ("book", 4)]);
        let settings = json!({"weights": {"web": 0.5, "book": 0.5}, "budget": 20, "max_epochs": 3});
        let got = testing::run::<MixSourcesConfig>(settings, &inputs);
        assert_eq!(counts(&got), are(&[("book", 10), ("web", 10)]));
        let epochs = got.rows().column_by_name("mix_epoch").expect("a column").as_primitive::<UInt32Type>().values().to_vec();
        let (ids, sources) = (testing::column(got.rows(), "id"), testing::column(got.rows(), "mix_source"));
        let parents = testing::column(got.rows(), "parent_id");
        let of_books: Vec<u32> = epochs.iter().zip(&sources).filter(|(_, source)| *source == "book").map(|(epoch, _)| *epoch).collect();
        // Two passes of four, and two rows more; one pass after the other.
        assert_eq!(of_books, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
        for ((id, parent), epoch) in ids.iter().zip(&parents).zip(&epochs) {
            assert_eq!(*id, if *epoch == 0 { parent.clone() } else { format!("{parent}#{epoch}") });
        }
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 20, "{ids:?}");
        assert_eq!(got.drop_reasons, [].into());
    }

    #[test]
    fn every_stretch_of_an_interleaved_mix_has_its_shares() {
        let inputs = named(&[("web", 4000), ("book", 300)]);
        let settings = json!({"weights": {"web": 0.75, "book": 0.25}, "budget": 4000, "max_epochs": 4});
        let got = testing::run::<MixSourcesConfig>(settings, &inputs);
        let sources = testing::column(got.rows(), "mix_source");
        for stretch in sources.chunks(1000) {
            // 250 expected, standard deviation 14 at most: six of them, once in a billion.
            let books = stretch.iter().filter(|source| *source == "book").count();
            assert!((164..=336).contains(&books), "{books}");
        }
        // And it is no rotation: neighbours are of both sources.
        assert!(sources.windows(2).filter(|pair| pair[0] != pair[1]).count() > 1000);
    }

    #[test]
    fn a_larger_mix_holds_the_smaller_one() {
        let ids = |budget: u32| -> BTreeSet<String> {
            let got = testing::run::<MixSourcesConfig>(
                json!({"weights": {"web": 1, "code": 1}, "budget": budget}),
                &named(&[("web", 50), ("code", 50)]),
            );
            testing::column(got.rows(), "id").into_iter().collect()
        };
        assert!(ids(20).is_subset(&ids(60)) && ids(20).len() == 20);
    }

    #[test]
    fn a_budget_of_tokens_is_met_within_half_a_row() {
        let inputs = [(Port::named("web"), rows("web", &[7; 40])), (Port::named("code"), rows("code", &[3; 90]))];
        // 100 of 7 is 14 rows and 2 tokens: 98. 100 of 3 is 33 rows and 1 token: 99.
        let settings = json!({"weights": {"web": 1, "code": 1}, "budget": 200, "unit": "tokens"});
        assert_eq!(mixed(settings, &inputs), are(&[("code", 33), ("web", 14)]));
        // 102 of 7 is closest to 15 rows: 105.
        let settings = json!({"weights": {"web": 1, "code": 1}, "budget": 204, "unit": "tokens"});
        assert_eq!(mixed(settings, &inputs), are(&[("code", 34), ("web", 15)]));
    }

    #[test]
    fn rows_without_a_number_of_tokens_are_rejected() {
        let input = rows("web", &[5, -1, 5]);
        let settings = json!({"weights": {"web": 1}, "unit": "tokens"});
        let got = testing::run::<MixSourcesConfig>(settings, &[(Port::FROM, input)]);
        assert_eq!((got.rows().num_rows(), got.rejected.len()), (2, 1));
        assert_eq!(got.rejected[0].reason, "no_tokens");
        assert_eq!(got.rejected[0].id.as_deref(), Some("web-1"));
    }

    #[test]
    fn epochs_say_what_each_source_gives() {
        let inputs = named(&[("web", 8), ("book", 10)]);
        assert_eq!(mixed(json!({"epochs": {"web": 0.5, "book": 2.3}}), &inputs), are(&[("book", 23), ("web", 4)]));
        // More passes than one reading gives.
        assert_eq!(mixed(json!({"epochs": {"web": 11.25, "book": 0}}), &inputs), are(&[("web", 90)]));
        let settings = json!({"epochs": {"web": 2, "book": 1}, "order": "input"});
        let got = testing::run::<MixSourcesConfig>(settings, &inputs);
        assert_eq!(testing::column(got.rows(), "id")[..4], ["web-0", "web-0#1", "web-1", "web-1#1"]);
    }

    #[test]
    fn a_preset_maps_its_sources() {
        let names = ["RedPajamaCommonCrawl", "c4", "github", "book", "arxiv", "wikipedia", "stackexchange"];
        let parts: Vec<RecordBatch> = names.iter().map(|name| rows(name, &vec![1; 600])).collect();
        let all = arrow::compute::concat_batches(&parts[0].schema(), &parts).expect("one schema");
        let settings = json!({"preset": "slimpajama_dc_6", "preset_names": {"common_crawl": "RedPajamaCommonCrawl"}, "budget": 1000});
        let got = counts(&testing::run::<MixSourcesConfig>(settings, &[(Port::FROM, all.clone())]));
        let card = [522, 267, 52, 42, 46, 38, 33];
        assert_eq!(got, are(&names.into_iter().zip(card).collect::<Vec<_>>()));
        let settings = json!({"preset": "slimpajama_dc_1", "preset_names": {"common_crawl": "RedPajamaCommonCrawl"}, "budget": 100});
        assert_eq!(counts(&testing::run::<MixSourcesConfig>(settings, &[(Port::FROM, all)])), are(&[("RedPajamaCommonCrawl", 100)]));
    }

    fn refusal(settings: Value) -> String {
        testing::refusal::<MixSourcesConfig>(settings, &named(&[("web", 3), ("code", 3)]))
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert_eq!(refusal(json!({})), "weights: wanted `weights`, `epochs` or `preset`, found none");
        assert_eq!(
            refusal(json!({"weights": {"web": 1}, "epochs": {"web": 1}})),
            "epochs: wanted one of `weights`, `epochs` and `preset`, found weights and epochs"
        );
        assert_eq!(refusal(json!({"weights": {"web": 1}})), "weights: every input needs a number here, 0 leaves it out; missing: `code`");
        assert_eq!(
            refusal(json!({"weights": {"web": 1, "code": 1, "books": 1}})),
            "weights: no input is called `books`; the inputs are `code`, `web`"
        );
        assert_eq!(refusal(json!({"weights": {"web": 0, "code": 0}})), "weights: wanted a number over 0 for at least one source");
        assert!(refusal(json!({"weights": {"web": -1, "code": 1}})).contains("expected a number from 0 to 1000000"));
        assert_eq!(
            refusal(json!({"epochs": {"web": 1, "code": 1}, "budget": 5})),
            "budget: `epochs` says how much each source gives; found a budget as well"
        );
        assert_eq!(refusal(json!({"epochs": {"web": 1, "code": 257}})), "epochs: wanted at most 256 passes, found 257");
        assert_eq!(
            refusal(json!({"weights": {"web": 1, "code": 1}, "by": "source"})),
            "by: found `by: source` with named inputs, whose names are the sources"
        );
        assert_eq!(
            refusal(json!({"weights": {"web": 1, "code": 1}, "max_epochs_of": {"book": 2}})),
            "max_epochs_of: `book` is none of the sources in `weights`"
        );
        assert_eq!(
            refusal(json!({"epochs": {"web": 1, "code": 1}, "max_epochs_of": {"code": 2}})),
            "max_epochs_of: `epochs` says how much each source gives, so that this does nothing"
        );
        assert!(refusal(json!({"preset": "slimpajama_dc_6"})).starts_with("preset: every input needs a number here"));
        assert!(
            refusal(json!({"preset": "slimpajama_dc_1", "preset_names": {"pile": "web"}})).starts_with("preset_names: `pile` is no source")
        );
        assert_eq!(
            refusal(json!({"weights": {"web": 1, "code": 1}, "unit": "tokens", "tokens_column": "text"})),
            "tokens_column: wanted a column of whole numbers, found `text: Utf8`"
        );
        assert_eq!(
            refusal(json!({"weights": {"web": 1, "code": 1}, "parent_column": "source"})),
            "parent_column: the input has a column `source` already"
        );
        let of_two = [(Port::named("web"), rows("web", &[1])), (Port::named("code"), testing::sample())];
        assert_eq!(
            testing::refusal::<MixSourcesConfig>(json!({"weights": {"web": 1, "code": 1}}), &of_two),
            "from: all inputs must have the same columns, and `code` has no `n_tokens: Int64`"
        );
        let error = testing::refusal::<MixSourcesConfig>(json!({"weights": {"web": 1}, "by": "site"}), &[(Port::FROM, testing::sample())]);
        assert_eq!(error, "by: the sources are the values of a column, and the input has no `site`");
    }

    fn failure(settings: Value, inputs: &[(Port, RecordBatch)]) -> String {
        let schemas = inputs.iter().map(|(port, rows)| (port.clone(), rows.schema())).collect();
        let built = testing::build::<MixSourcesConfig>(settings, schemas).expect("it builds");
        testing::run_stage(&built, inputs, testing::CUTS[0]).expect_err("no mix").to_string()
    }

    #[test]
    fn a_source_that_has_too_little_stops_the_run() {
        let inputs = named(&[("web", 10), ("code", 3), ("none", 0)]);
        assert_eq!(
            failure(json!({"weights": {"web": 1, "code": 1, "none": 0}, "budget": 10}), &inputs),
            "the budget is too large: `code`, which has 3 rows, would be taken 1.67 times; nothing was dropped. If that is right, raise `max_epochs`"
        );
        assert_eq!(
            failure(json!({"weights": {"web": 1, "code": 1, "none": 1}, "budget": 10}), &inputs),
            "`weights` wants something of sources that have no rows: `none`"
        );
        assert_eq!(
            failure(json!({"weights": {"web": 1}}), &[(Port::FROM, testing::sample())]),
            "rows have `books` in `source`, of which `weights` says nothing"
        );
        let short = |when: &str| mixed(json!({"weights": {"web": 1, "code": 1, "none": 0}, "budget": 10, "when_short": when}), &inputs);
        assert_eq!(short("shrink"), are(&[("code", 3), ("web", 3)]));
        assert_eq!(short("refill"), are(&[("code", 3), ("web", 7)]));
        let of_code = json!({"weights": {"web": 1, "code": 1, "none": 0}, "budget": 10, "max_epochs_of": {"code": 2}});
        assert_eq!(mixed(of_code, &inputs), are(&[("code", 5), ("web", 5)]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Against the plain way: all rows of a source in the order of their lots, again and again, until the budget is closest.
        #[test]
        fn it_is_the_plain_way(
            web in prop::collection::vec(0_i64..50, 1..40),
            book in prop::collection::vec(1_i64..50, 1..20),
            web_share in 0_u64..500,
            budget in 1_u64..3000,
            batch_rows in 1_usize..9,
            shard_rows in 1_usize..30,
            ranges in 1_usize..6,
        ) {
            // No source is wanted more often than `max_epochs` allows: the plain way knows no such bound.
            let least = web.iter().sum::<i64>().min(book.iter().sum()).unsigned_abs();
            prop_assume!(budget <= 256 * least);
            let inputs = [(Port::named("web"), rows("web", &web)), (Port::named("book"), rows("book", &book))];
            let weights = json!({"web": web_share, "book": 500 - web_share});
            let settings = json!({"weights": weights, "budget": budget, "unit": "tokens", "max_epochs": 256, "when_short": "refill"});
            let got = testing::run_cut::<MixSourcesConfig>(settings, &inputs, Cut { batch_rows, shard_rows, ranges });
            let draw = |batch: &RecordBatch| {
                let id = KeyColumns::try_new(&batch.schema(), ["id"], "from").expect("ids");
                Draw::new(7, "mix_sources", id).lots(batch).expect("lots")
            };
            let mut taken: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            let (epochs, parents) = (testing::column(got.rows(), "mix_epoch"), testing::column(got.rows(), "parent_id"));
            for (parent, epoch) in parents.into_iter().zip(epochs) {
                taken.entry(parent).or_default().push(epoch.parse().expect("a number"));
            }
            let shares = [(&inputs[0].1, &web, web_share), (&inputs[1].1, &book, 500 - web_share)];
            for (batch, tokens, share) in shares {
                let mut order: Vec<usize> = (0..tokens.len()).collect();
                let lots = draw(batch);
                order.sort_by_key(|&row| lots[row]);
                // Budgets of two sources: of halves, the one that comes first by name has the larger.
                let exact = budget as f64 * share as f64 / 500.0;
                let tie_up = if batch.num_rows() > 0 && testing::column(batch, "source")[0] == "book" { 0.5 } else { 0.499_999 };
                let mut left = (exact + tie_up).floor();
                let mut times = vec![0_usize; tokens.len()];
                let of_pass = tokens.iter().sum::<i64>() as f64;
                while left >= of_pass {
                    times.iter_mut().for_each(|times| *times += 1);
                    left -= of_pass;
                }
                if left > 0.0 {
                    for row in order {
                        let size = tokens[row] as f64;
                        // Taken where it brings the sum closer.
                        if (left - size).abs() > left {
                            break;
                        }
                        times[row] += 1;
                        left -= size;
                    }
                }
                for (id, times) in testing::column(batch, "id").into_iter().zip(times) {
                    let mut found = taken.remove(&id).unwrap_or_default();
                    found.sort_unstable();
                    prop_assert_eq!(found, (0..times).collect::<Vec<_>>(), "{}", id);
                }
            }
        }
    }
}
