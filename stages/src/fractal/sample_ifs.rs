//! `sample_ifs`: draws iterated function systems, each the class of the fractals that are made of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use gpu::cpu::counter_rng::Draws;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document, fractal};
use serde::{Deserialize, Serialize};

use super::codes::MAX_MAPS;
use super::draw::place;
use super::ifs::{
    Density, Map, Parts, draw_freely, draw_parts, expands, key_of, sigma_factor, stream, values_by_rejection, values_in_sequence,
};
use super::settings::check_whole;
use crate::units::Fraction;
use crate::{BuildContext, Inputs, Kind, Makes, Outputs, Rejection, RowSink, Source, Split, Stage, StageConfig, StageError};

/// Draws iterated function systems (IFS): a few affine maps each, whose attractor is a fractal. Each system is a class; `render_fractals` and `compose_fractals`
/// make images of them.
///
/// Maps are drawn by their singular values, so that every system converges, with a sum (the sigma-factor) in a band in which attractors have texture: below it they
/// are dust, above it blobs. Source: Anderson and Farrell, Improving Fractal Pre-training, WACV 2022. Or, with `search: fractaldb`, all numbers are drawn at random
/// until an attractor covers a fifth of its picture. Source: Kataoka et al., Pre-training without Natural Images, ACCV 2020.
///
/// A system depends on the run's seed, the stage's id, its number and these settings, not on `classes`: more classes add systems and change none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleIfsConfig {
    /// How many systems.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub classes: u32,
    /// How many maps a system has, each number as likely as any other; 2 to 4, with `search: fractaldb` 2 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<Maps>,
    /// How systems are found.
    #[serde(default)]
    pub search: Search,
    /// How singular values are drawn; for `search: svd`.
    #[serde(default)]
    pub method: Method,
    /// The band of the sigma-factor; for `search: svd`.
    #[serde(default)]
    pub sigma: SigmaBand,
    /// Greatest shift of a map along each axis; for `search: svd`.
    #[serde(default = "default_translation")]
    pub translation: f64,
    /// Least share of its picture that an attractor covers; systems below it are drawn again, up to 10,000 times. Nothing is asked if absent, with
    /// `search: fractaldb` 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_density: Option<Fraction>,
    /// Whether to measure that share where nothing asks for it, for the column `density`.
    #[serde(default)]
    pub density: bool,
}

/// How many maps a system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Maps {
    /// The fewest.
    pub min: u8,
    /// The most.
    pub max: u8,
}

/// How systems are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Search {
    /// By drawing singular values, angles and shifts: nothing has to be tried twice.
    #[default]
    Svd,
    /// By trying: six numbers from -1 to 1 for each map, until the points stay and cover enough.
    Fractaldb,
}

/// How singular values are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Method {
    /// One map after the other, each within what the others leave.
    #[default]
    Sequential,
    /// All at once, each choice as likely as any other: drawn until one fits, up to 1,000 times.
    Rejection,
}

/// The band of the sigma-factor of `n` maps: from `min + per_map * n` to `max + per_map * n`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct SigmaBand {
    /// Where it begins.
    pub min: f64,
    /// Where it ends.
    pub max: f64,
    /// What each map adds to both.
    #[serde(default = "half")]
    pub per_map: f64,
}

fn half() -> f64 {
    0.5
}

impl Default for SigmaBand {
    /// From `(5 + n) / 2` to `(6 + n) / 2`.
    fn default() -> Self {
        Self { min: 2.5, max: 3.0, per_map: half() }
    }
}

impl SigmaBand {
    fn of(self, n: u8) -> [f64; 2] {
        [self.min, self.max].map(|bound| bound + self.per_map * f64::from(n))
    }
}

fn default_translation() -> f64 {
    1.0
}

/// The least share that the search of `FractalDB` asks for.
const FRACTALDB_DENSITY: f64 = 0.2;

/// Greatest shift that may be asked for: far from what 32 bits hold, whatever the maps make of it.
const MAX_TRANSLATION: f64 = 1e6;

/// Most systems that are tried for one.
const TRIES: u32 = 10_000;

/// Systems of a split, and of one that has to look at each.
const SPLIT_SYSTEMS: [u32; 2] = [16_384, 256];

impl StageConfig for SampleIfsConfig {
    const NAME: &'static str = "sample_ifs";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Source;
    const INPUTS: Inputs = Inputs::None;
    const EXAMPLE: &'static str = "{use: sample_ifs, classes: 1000}";

    fn adds(&self) -> Vec<ColumnSpec> {
        std::iter::once(document::ID.spec()).chain(fractal::code_columns()).collect()
    }

    fn outputs(&self, _cx: &BuildContext) -> Result<Outputs, StageError> {
        check_whole("classes", self.classes.into(), 1, 100_000_000)?;
        let Maps { min, max } = self.maps();
        if !(1 <= min && min <= max && usize::from(max) <= MAX_MAPS) {
            return Err(StageError::setting("maps", format!("wanted 1 <= `min` <= `max` <= {MAX_MAPS}, found {min} and {max}")));
        }
        for n in [min, max].into_iter().filter(|_| self.search == Search::Svd) {
            let ([low, high], most) = (self.sigma.of(n), 3.0 * f64::from(n));
            if !(0.0 <= low && low <= high && high <= most) {
                let found = format!("found {low} to {high}");
                return Err(StageError::setting("sigma", format!("wanted a band from 0 to {most} for systems of {n} maps, {found}"))
                    .with_help("no singular value is above 1, so that n maps have a sigma-factor of 3 n at most"));
            }
        }
        if !(0.0..=MAX_TRANSLATION).contains(&self.translation) {
            return Err(StageError::setting(
                "translation",
                format!("wanted a number from 0 to {MAX_TRANSLATION}, found {}", self.translation),
            ));
        }
        let fields: Vec<Field> = self.adds().iter().map(ColumnSpec::field).collect();
        Ok(Outputs::new(Arc::new(Schema::new(fields))))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let schema = cx.outputs()?.get(&crate::Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let key = key_of(cx.seed, &cx.stage_id);
        Ok(Stage::Source(Box::new(SampleIfs { config: self.clone(), stage_id: cx.stage_id.clone(), key, schema })))
    }

    fn makes(&self, _cx: &BuildContext) -> Option<Makes> {
        let rows = u64::from(self.classes);
        Some(Makes { rows, bytes: rows * SYSTEM_BYTES, what: "systems of maps".to_owned(), setting: "classes" })
    }
}

/// Bytes of a system on the disk, about: numbers drawn at random do not pack.
const SYSTEM_BYTES: u64 = 400;

impl SampleIfsConfig {
    fn maps(&self) -> Maps {
        self.maps.unwrap_or(Maps { min: 2, max: if self.search == Search::Fractaldb { 7 } else { 4 } })
    }

    fn min_density(&self) -> f64 {
        let default = if self.search == Search::Fractaldb { FRACTALDB_DENSITY } else { 0.0 };
        self.min_density.map_or(default, Fraction::get)
    }

    fn looks_at_each(&self) -> bool {
        self.density || self.min_density() > 0.0
    }
}

struct SampleIfs {
    config: SampleIfsConfig,
    stage_id: String,
    key: u64,
    schema: SchemaRef,
}

/// A system as it was drawn.
#[derive(Debug, Clone, PartialEq)]
struct System {
    number: u32,
    maps: Vec<Map>,
    /// What its maps were made of, where they were.
    parts: Option<Vec<Parts>>,
    density: Option<f64>,
}

impl Source for SampleIfs {
    fn splits(&self) -> Result<Vec<Split>, StageError> {
        let step = SPLIT_SYSTEMS[usize::from(self.config.looks_at_each())];
        let ends = |from: u32| from.saturating_add(step).min(self.config.classes);
        let splits = (0..self.config.classes).step_by(step as usize).map(|from| Split {
            files: Vec::new(),
            identity: format!("{from}..{}", ends(from)),
            bytes: u64::from(ends(from) - from) * SYSTEM_BYTES,
        });
        Ok(splits.collect())
    }

    fn read(&self, split: &Split, out: &mut dyn RowSink) -> Result<(), StageError> {
        let range = split.identity.split_once("..").and_then(|(from, to)| Some(from.parse::<u32>().ok()?..to.parse::<u32>().ok()?));
        let range = range.ok_or_else(|| StageError::Internal(format!("a split called `{}`", split.identity)))?;
        let numbers: Vec<u32> = range.collect();
        for numbers in numbers.chunks(out.batch_rows().max(1)) {
            let mut systems = Vec::with_capacity(numbers.len());
            for &number in numbers {
                match self.system(number) {
                    Ok(system) => systems.push(system),
                    Err(detail) => {
                        let id = Some(self.id(number));
                        out.reject(Rejection { id, file: None, offset: Some(number.into()), reason: "no_system_found", detail });
                    }
                }
            }
            if !systems.is_empty() && out.rows(self.rows(&systems)?)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn reads_again(&self, _split: &Split) -> bool {
        !self.config.looks_at_each()
    }
}

impl SampleIfs {
    fn id(&self, number: u32) -> String {
        format!("{}/{number}", self.stage_id)
    }

    /// The system of this number: the first that is good enough, of as many as it takes.
    fn system(&self, number: u32) -> Result<System, String> {
        let (config, is_free) = (&self.config, self.config.search == Search::Fractaldb);
        let how = if is_free { Density::FRACTALDB } else { Density::SVD };
        for attempt in 0..TRIES {
            let mut draws = Draws::new(self.key, [number, attempt, place::SYSTEM]);
            let Maps { min, max } = config.maps();
            let n = usize::from(min) + draws.below(u32::from(max - min) + 1) as usize;
            let (maps, parts) = if is_free {
                let maps = draw_freely(&mut draws, n);
                if expands(&maps) {
                    continue;
                }
                (maps, None)
            } else {
                let parts = self.parts(&mut draws, n).ok_or_else(|| {
                    let [low, high] = config.sigma.of(u8::try_from(n).unwrap_or(u8::MAX));
                    format!("wanted singular values of {n} maps with a sigma-factor from {low} to {high}, found none by rejection; `method: sequential` finds some")
                })?;
                (parts.iter().map(Parts::map).collect(), Some(parts))
            };
            let density = config.looks_at_each().then(|| how.of(&maps, stream(self.key, [number, attempt])));
            if density.is_none_or(|density| density >= config.min_density()) {
                return Ok(System { number, maps, parts, density });
            }
        }
        Err(format!("wanted a system that covers at least {} of its picture, found none in {TRIES}", config.min_density()))
    }

    fn parts(&self, draws: &mut Draws, n: usize) -> Option<Vec<Parts>> {
        let [low, high] = self.config.sigma.of(u8::try_from(n).unwrap_or(u8::MAX));
        let alpha = draws.between(low, high);
        let values = match self.config.method {
            Method::Sequential => values_in_sequence(n, alpha, |low, high| draws.between(low, high)),
            Method::Rejection => values_by_rejection(n, alpha, || draws.unit())?,
        };
        Some(values.into_iter().map(|values| draw_parts(draws, values, self.config.translation)).collect())
    }

    #[expect(clippy::cast_possible_truncation, reason = "a share, in 32 bits")]
    fn rows(&self, systems: &[System]) -> Result<RecordBatch, StageError> {
        let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let lengths = || OffsetBuffer::from_lengths(systems.iter().map(|system| system.maps.len()));
        let numbers: ArrayRef = Arc::new(systems.iter().flat_map(|system| system.maps.iter().flatten().copied()).collect::<Float64Array>());
        let DataType::List(item) = fractal::maps().field().data_type().clone() else {
            return Err(StageError::Internal("`maps` is no list".to_owned()));
        };
        let maps = ListArray::try_new(item.clone(), lengths(), fixed(item.data_type(), numbers)?, None)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(systems.iter().map(|system| Some(self.id(system.number))).collect::<StringArray>()),
            Arc::new(systems.iter().map(|system| whole(system.number)).collect::<Int32Array>()),
            Arc::new(systems.iter().map(|system| i8::try_from(system.maps.len()).unwrap_or(i8::MAX)).collect::<Int8Array>()),
            Arc::new(maps),
            svd(systems)?,
            Arc::new(systems.iter().map(|system| sigma_factor(&system.maps)).collect::<Float64Array>()),
            Arc::new(systems.iter().map(|system| system.density.map(|density| density as f32)).collect::<Float32Array>()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// What the maps of systems were made of; null where they were not.
fn svd(systems: &[System]) -> Result<ArrayRef, StageError> {
    let fields = fractal::svd_fields();
    let parts: Vec<&Parts> = systems.iter().flat_map(|system| system.parts.iter().flatten()).collect();
    let numbers = |of: fn(&Parts) -> f64| -> ArrayRef { Arc::new(parts.iter().map(|parts| of(parts)).collect::<Float64Array>()) };
    let signs = |of: fn(&Parts) -> [i8; 2]| -> Result<ArrayRef, StageError> {
        let values: ArrayRef = Arc::new(parts.iter().flat_map(|parts| of(parts)).collect::<Int8Array>());
        fixed(fields[4].data_type(), values)
    };
    let columns = vec![
        numbers(|parts| parts.theta),
        numbers(|parts| parts.phi),
        numbers(|parts| parts.s1),
        numbers(|parts| parts.s2),
        signs(|parts| parts.sign_u)?,
        signs(|parts| parts.sign_v)?,
    ];
    let items: ArrayRef = Arc::new(StructArray::try_new(fields.clone(), columns, None)?);
    let DataType::List(item) = fractal::svd().field().data_type().clone() else {
        return Err(StageError::Internal("`svd` is no list".to_owned()));
    };
    let lengths = OffsetBuffer::from_lengths(systems.iter().map(|system| system.parts.as_ref().map_or(0, Vec::len)));
    let nulls = NullBuffer::from(systems.iter().map(|system| system.parts.is_some()).collect::<Vec<_>>());
    Ok(Arc::new(ListArray::try_new(item, lengths, items, Some(nulls))?))
}

fn fixed(data_type: &DataType, values: ArrayRef) -> Result<ArrayRef, StageError> {
    let DataType::FixedSizeList(item, n) = data_type else { return Err(StageError::Internal(format!("{data_type} is no list"))) };
    Ok(Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *n, values, None)?))
}
