//! `compose_fractals`: makes images of several fractals each, with boxes and masks.

use gpu::cpu::chaos_game::{Orbit, Window, weights};
use gpu::cpu::counter_rng::Draws;
use gpu::fractal::{ImageJob, Instance, Rendered};
use schemars::JsonSchema;
use schemas::ColumnSpec;
use serde::{Deserialize, Serialize};

use super::codes::Codes;
use super::draw::{background, blur, colour, orientation, place, stamp};
use super::ifs::{jittered, key_of, single, stream};
use super::program::{self, Paint, Planned, Program, Recipe, RowForm};
use super::settings::{
    Behind, Blur, Colours, Encoding, Format, Jitter, MAX_POINTS, MAX_SIDE, MIN_SIDE, Range, Shades, StampKind, check_only, check_whole,
    default_min_density, default_points, default_quality, default_redraws, default_side, yes,
};
use crate::units::Fraction;
use crate::{BuildContext, Inputs, Kind, Makes, Outputs, Port, Stage, StageConfig, StageError};

/// Makes images of several fractals each, of classes drawn from the systems that come in: a data set for multi-label classification, detection and segmentation.
///
/// Each image has a background and on it some fractals (`instances`), drawn at half the image's side, turned, resized, coloured and pasted anywhere, later ones over
/// earlier ones. `labels` holds their classes, with repeats; `instances` box, mask (COCO) and drawing of each that can be seen. Source: Anderson and Farrell,
/// Improving Fractal Pre-training, WACV 2022, whose labels ignore what is covered; `min_visible` leaves out what can hardly be seen.
///
/// Systems come from `sample_ifs`, or from any table with a column `maps`, and are rejected as by `render_fractals`. An image depends on the run's seed, the stage's id, its
/// number, the systems and these settings alone: `only` makes any of them again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComposeFractalsConfig {
    /// How many images.
    #[schemars(range(min = 1))]
    pub images: u64,
    /// How many fractals are on an image.
    #[serde(default)]
    pub instances: Count,
    /// Side of a fractal's square, as a share of the image's side.
    #[serde(default = "default_size")]
    pub size: Range,
    /// Least share of a fractal's own pixels that can be seen, neither covered nor outside the image, for it to be in `labels` and `instances`. With 0, `labels` holds
    /// all.
    #[serde(default = "none")]
    pub min_visible: Fraction,
    /// Side of the images, pixels.
    #[serde(default = "default_side")]
    #[schemars(range(min = 16, max = 2048))]
    pub side_px: u32,
    /// Points of each fractal.
    #[serde(default = "default_points")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: u32,
    /// How a system is changed for each fractal.
    #[serde(default = "Jitter::none")]
    pub jitter: Jitter,
    /// Whether each fractal is transposed, put upside down and mirrored, each with the chance of a half.
    #[serde(default = "yes")]
    pub flips: bool,
    /// What is put in the place of each point.
    #[serde(default)]
    pub stamp: StampKind,
    /// How the number of points on a pixel is shown.
    #[serde(default)]
    pub shades: Shades,
    /// The colours of fractals and background.
    #[serde(default)]
    pub colours: Colours,
    /// What is behind the fractals.
    #[serde(default)]
    pub background: Behind,
    /// How often and how much images are blurred.
    #[serde(default)]
    pub blur: Blur,
    /// How images are written.
    #[serde(default)]
    pub format: Format,
    /// Quality of JPEG, 1 to 100.
    #[serde(default = "default_quality")]
    #[schemars(range(min = 1, max = 100))]
    pub quality: u8,
    /// Least share of its own square that a fractal covers; with less it is drawn again. A system whose attractor covers less is rejected.
    #[serde(default = "default_min_density")]
    pub min_density: Fraction,
    /// How often a fractal is drawn again.
    #[serde(default = "default_redraws")]
    pub redraws: u8,
    /// Numbers (column `index`) of the images to make; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<u64>>,
}

/// How many fractals are on an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Count {
    /// The fewest.
    pub min: u8,
    /// The most.
    pub max: u8,
    /// How often each number from `min` to `max` is drawn, in proportion to these weights; all alike if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
}

impl Default for Count {
    fn default() -> Self {
        Self { min: 1, max: 5, weights: None }
    }
}

/// Most fractals on an image.
const MAX_INSTANCES: u8 = 64;

impl Count {
    fn check(&self) -> Result<(), StageError> {
        let Self { min, max, weights } = self;
        if !(1 <= *min && min <= max && *max <= MAX_INSTANCES) {
            return Err(StageError::setting("instances", format!("wanted 1 <= `min` <= `max` <= {MAX_INSTANCES}, found {min} and {max}")));
        }
        let Some(weights) = weights else { return Ok(()) };
        let n = usize::from(max - min) + 1;
        let is_good = weights.len() == n && weights.iter().all(|weight| *weight >= 0.0) && weights.iter().sum::<f64>().is_normal();
        if is_good {
            return Ok(());
        }
        let wanted =
            format!("wanted {n} weights, one for each number from {min} to {max}, none below 0, with a sum that is a number above 0");
        Err(StageError::setting("instances.weights", format!("{wanted}, found {weights:?}")))
    }

    fn draw(&self, draws: &mut Draws) -> u8 {
        let Some(weights) = &self.weights else {
            return self.min + u8::try_from(draws.below(u32::from(self.max - self.min) + 1)).unwrap_or(0);
        };
        let mut left = draws.unit() * weights.iter().sum::<f64>();
        for (n, weight) in (self.min..).zip(weights) {
            if left < *weight {
                return n;
            }
            left -= weight;
        }
        // Rounding: the last number that is drawn at all.
        (self.min..=self.max).zip(weights).filter(|(_, weight)| **weight > 0.0).fold(self.max, |_, (n, _)| n)
    }
}

fn default_size() -> Range {
    Range::new(0.15, 0.6)
}

fn none() -> Fraction {
    Fraction::new(0.0).expect("a fraction")
}

impl StageConfig for ComposeFractalsConfig {
    const NAME: &'static str = "compose_fractals";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: compose_fractals, from: codes, images: 20, side_px: 64, points: 2000}";
    const USES_DEVICE: bool = true;

    fn adds(&self) -> Vec<ColumnSpec> {
        program::columns(self.form(), self.format)
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        check_whole("images", self.images, 1, u64::MAX)?;
        check_whole("side_px", self.side_px.into(), MIN_SIDE.into(), MAX_SIDE.into())?;
        check_whole("points", self.points.into(), 1, MAX_POINTS.into())?;
        self.instances.check()?;
        self.size.check("size", 1.0 / f64::from(self.side_px), 2.0)?;
        self.blur.check()?;
        Encoding::try_new(self.format, self.quality)?;
        check_only(self.only.as_deref(), Some(self.images))?;
        program::outputs(cx, self.form(), self.format)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        Ok(Stage::Global(Box::new(Program {
            recipe: ComposeFractals { config: self.clone(), key: key_of(cx.seed, &cx.stage_id), name: cx.stage_id.clone() },
            device: cx.device.clone(),
            side: self.side_px,
            encoding: Encoding::try_new(self.format, self.quality)?,
            form: self.form(),
            only: self.only.clone(),
            min_density: self.min_density.get(),
            redraws: self.redraws,
            drops_blank: false,
            schema: schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?,
        })))
    }

    fn makes(&self, _cx: &BuildContext) -> Option<Makes> {
        let images = self.only.as_ref().map_or(self.images, |only| only.len() as u64);
        Some(program::makes(images, self.side_px, Encoding::try_new(self.format, self.quality).ok()?, "images"))
    }
}

impl ComposeFractalsConfig {
    fn form(&self) -> RowForm {
        RowForm { many: true, instances: true, min_visible: self.min_visible.get() }
    }
}

struct ComposeFractals {
    config: ComposeFractalsConfig,
    key: u64,
    name: String,
}

impl Recipe for ComposeFractals {
    fn images(&self, _: u64) -> Option<u64> {
        Some(self.config.images)
    }

    fn setting(&self) -> &'static str {
        "images"
    }

    fn plan(&self, index: u64, codes: &Codes, good: &[u32], attempts: &[u8]) -> Option<Planned> {
        let config = &self.config;
        let number = u32::try_from(index).ok()?;
        let mut draws = Draws::new(self.key, [number, 0, place::IMAGE]);
        let background = background(&mut draws, config.background, config.colours);
        let blur = blur(&mut draws, config.blur);
        let n = config.instances.draw(&mut draws);
        let (mut instances, mut paints) = (Vec::new(), Vec::new());
        for at in 0..n {
            let attempt = attempts.get(usize::from(at)).copied().unwrap_or(0);
            let (instance, paint) = self.instance(number, at, attempt, codes, good)?;
            instances.push(instance);
            paints.push(paint);
        }
        let job = ImageJob { side: config.side_px, background, instances, blur };
        Some(Planned { id: format!("{}/{index}", self.name), job, paints })
    }

    fn failed(&self, planned: &Planned, rendered: &Rendered) -> Vec<usize> {
        let instances = planned.job.instances.iter().zip(&rendered.pixels).enumerate();
        let least = self.config.min_density.get();
        let is_bad = |size: u32, pixels: u32| pixels == 0 || f64::from(pixels) < least * f64::from(size) * f64::from(size);
        instances.filter(|(_, (instance, pixels))| is_bad(instance.size, **pixels)).map(|(at, _)| at).collect()
    }
}

impl ComposeFractals {
    /// Fractal `at` of an image. A class, a place and colours are its own; what changes when it is drawn again are points, stamp and jitter.
    fn instance(&self, number: u32, at: u8, attempt: u8, codes: &Codes, good: &[u32]) -> Option<(Instance, Paint)> {
        let (config, side) = (&self.config, self.config.side_px);
        let mut draws = Draws::new(self.key, [number, at.into(), place::INSTANCE]);
        let code = codes.get(*good.get(draws.below(u32::try_from(good.len()).ok()?) as usize)? as usize)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most twice the side")]
        let size = ((draws.between(config.size.min, config.size.max) * f64::from(side)) as u32).max(1);
        let half = i32::try_from(size / 2).ok()?;
        let mut edge = || Some(i32::try_from(draws.below(side)).ok()? - half);
        let (x, y) = (edge()?, edge()?);
        let orientation = orientation(&mut draws, config.flips);
        let (colour, hsv) = colour(&mut draws, config.colours);
        let drawing = u32::from(at) << 8 | u32::from(attempt);
        let mut draws = Draws::new(self.key, [number, drawing, place::DRAWING]);
        let stamp = stamp(&mut draws, config.stamp);
        let maps = single(&jittered(&code.maps, config.jitter, &mut draws));
        let orbit = Orbit {
            weights: weights(&maps),
            maps,
            stream: stream(self.key, [number, drawing]),
            points: config.points,
            window: Window::default(),
        };
        let instance =
            Instance { orbit, drawn_side: side / 2, stamp, is_graded: config.shades == Shades::Graded, colour, size, x, y, orientation };
        Some((instance, Paint { label: code.label, hsv }))
    }
}
