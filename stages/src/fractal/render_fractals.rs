//! `render_fractals`: makes images of one fractal each.

use gpu::cpu::chaos_game::{Orbit, Window, weights};
use gpu::cpu::counter_rng::Draws;
use gpu::fractal::{ImageJob, Instance, Rendered};
use schemars::JsonSchema;
use schemas::ColumnSpec;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codes::{Code, Codes};
use super::draw::{background, between, blur, colour, orientation, place, stamp};
use super::ifs::{jittered, key_of, single, stream};
use super::program::{self, Paint, Planned, Program, Recipe, RowForm};
use super::settings::{
    Behind, Blur, Colours, Encoding, Format, Jitter, MAX_POINTS, MAX_SIDE, MIN_SIDE, Range, Shades, StampKind, check_only, check_whole,
    default_min_density, default_points, default_quality, default_redraws, default_side, yes,
};
use crate::units::Fraction;
use crate::{BuildContext, Inputs, Kind, Makes, Outputs, Port, Stage, StageConfig, StageError};

/// Makes images of one fractal each, `images_per_class` of each system that comes in: a data set for classification.
///
/// Systems come from `sample_ifs`, or from any table with a column `maps` (of each map six numbers a b e c d f: x' = a x + b y + e, y' = c x + d y + f). The label is the column
/// `label`, or the number of the row if there is none. A system is changed a little (`jitter`), drawn by a chaos game through a window that is moved and
/// stretched, turned, coloured, put on a background, and blurred. Source: Anderson and Farrell, Improving Fractal Pre-training, WACV 2022.
///
/// An image depends on the run's seed, the stage's id, the system's id, the image's number within its class and these settings alone: `only` makes any of them
/// again. Systems that cannot be drawn are rejected: `wrong_label`, `no_maps`, `wrong_map`, `too_many_maps` (over 32), `not_finite`, `expands` (points go away
/// without end), `too_sparse`; images on which nothing is seen after `redraws` more drawings: `blank`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderFractalsConfig {
    /// How many images of each system.
    #[schemars(range(min = 1))]
    pub images_per_class: u64,
    /// Side of the images, pixels.
    #[serde(default = "default_side")]
    #[schemars(range(min = 16, max = 2048))]
    pub side_px: u32,
    /// Points of each fractal.
    #[serde(default = "default_points")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: u32,
    /// How a system is changed for each image.
    #[serde(default)]
    pub jitter: Jitter,
    /// What part of the plane is seen.
    #[serde(default)]
    pub window: WindowRange,
    /// Whether each fractal is transposed, put upside down and mirrored, each with the chance of a half.
    #[serde(default = "yes")]
    pub flips: bool,
    /// What is put in the place of each point.
    #[serde(default)]
    pub stamp: StampKind,
    /// How the number of points on a pixel is shown.
    #[serde(default)]
    pub shades: Shades,
    /// The colours of fractal and background.
    #[serde(default)]
    pub colours: Colours,
    /// What is behind the fractal.
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
    /// Whether to add a column `instances` with the fractal's box, mask and how it was drawn.
    #[serde(default)]
    pub instances: bool,
    /// Least share of the image that its fractal covers; an image with less is drawn again with other numbers. A system whose whole attractor covers less is
    /// rejected.
    #[serde(default = "default_min_density")]
    pub min_density: Fraction,
    /// How often an image is drawn again.
    #[serde(default = "default_redraws")]
    pub redraws: u8,
    /// Numbers (column `index`) of the images to make; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<u64>>,
}

/// What part of the plane is seen, in shares of the fractal's extent; drawn for each axis alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct WindowRange {
    /// How far its centre is moved, at most, either way.
    pub shift: f64,
    /// How large it is.
    pub scale: Range,
}

impl Default for WindowRange {
    fn default() -> Self {
        Self { shift: 0.2, scale: Range::new(0.5, 2.0) }
    }
}

impl StageConfig for RenderFractalsConfig {
    const NAME: &'static str = "render_fractals";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: render_fractals, from: codes, images_per_class: 2, side_px: 32, points: 2000}";
    const USES_DEVICE: bool = true;

    fn adds(&self) -> Vec<ColumnSpec> {
        program::columns(self.form(), self.format)
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        check_whole("images_per_class", self.images_per_class, 1, u64::MAX)?;
        check_whole("side_px", self.side_px.into(), MIN_SIDE.into(), MAX_SIDE.into())?;
        check_whole("points", self.points.into(), 1, MAX_POINTS.into())?;
        self.window.scale.check("window.scale", 0.01, 100.0)?;
        if !(0.0..=100.0).contains(&self.window.shift) {
            return Err(StageError::setting("window.shift", format!("wanted a number from 0 to 100, found {}", self.window.shift)));
        }
        check_only(self.only.as_deref(), cx.input_rows.map(|rows| rows.saturating_mul(self.images_per_class)))?;
        self.blur.check()?;
        Encoding::try_new(self.format, self.quality)?;
        program::outputs(cx, self.form(), self.format)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        Ok(Stage::Global(Box::new(Program {
            recipe: RenderFractals { config: self.clone(), key: key_of(cx.seed, &cx.stage_id) },
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

    fn makes(&self, cx: &BuildContext) -> Option<Makes> {
        let encoding = Encoding::try_new(self.format, self.quality).ok()?;
        program::makes_of_each(cx, self.images_per_class, "images_per_class", self.only.as_deref(), self.side_px, encoding)
    }
}

impl RenderFractalsConfig {
    fn form(&self) -> RowForm {
        RowForm { many: false, instances: self.instances, min_visible: 0.0 }
    }
}

/// The key of the draws of one system's images, and what they are called: by its id, or if it has none its place.
pub(super) fn of_system(key: u64, code: &Code, at: usize) -> (u64, String) {
    match &code.id {
        Some(id) => (xxh3_64_with_seed(id.as_bytes(), key), id.clone()),
        None => (xxh3_64_with_seed(&(at as u64).to_le_bytes(), key), at.to_string()),
    }
}

struct RenderFractals {
    config: RenderFractalsConfig,
    key: u64,
}

impl Recipe for RenderFractals {
    fn images(&self, codes: u64) -> Option<u64> {
        codes.checked_mul(self.config.images_per_class)
    }

    fn setting(&self) -> &'static str {
        "images_per_class"
    }

    fn plan(&self, index: u64, codes: &Codes, _: &[u32], attempts: &[u8]) -> Option<Planned> {
        let config = &self.config;
        // Images of a class stand together: the class is the number over the images of a class. The released code divides by the number of classes, which is
        // right only where both are the same.
        let (at, number) = (usize::try_from(index / config.images_per_class).ok()?, index % config.images_per_class);
        let code = codes.get(at)?;
        let (key, name) = of_system(self.key, &code, at);
        let (number, attempt) = (u32::try_from(number).ok()?, u32::from(attempts.first().copied().unwrap_or(0)));
        let maps = single(&jittered(&code.maps, config.jitter, &mut Draws::new(key, [number, attempt, place::DRAWING])));
        let mut draws = Draws::new(key, [number, attempt, place::IMAGE]);
        let WindowRange { shift, scale } = config.window;
        let mut pair = |low: f64, high: f64| [between(&mut draws, low, high), between(&mut draws, low, high)];
        let window = Window { shift: pair(-shift, shift), scale: pair(scale.min, scale.max) };
        let (colour, hsv) = colour(&mut draws, config.colours);
        let instance = Instance {
            orbit: Orbit { weights: weights(&maps), maps, stream: stream(key, [number, attempt]), points: config.points, window },
            drawn_side: config.side_px,
            stamp: stamp(&mut draws, config.stamp),
            is_graded: config.shades == Shades::Graded,
            colour,
            size: config.side_px,
            x: 0,
            y: 0,
            orientation: orientation(&mut draws, config.flips),
        };
        let job = ImageJob {
            side: config.side_px,
            background: background(&mut draws, config.background, config.colours),
            instances: vec![instance],
            blur: blur(&mut draws, config.blur),
        };
        Some(Planned { id: format!("{name}#{number}"), job, paints: vec![Paint { label: code.label, hsv }] })
    }

    fn failed(&self, planned: &Planned, rendered: &Rendered) -> Vec<usize> {
        let all = f64::from(planned.job.side) * f64::from(planned.job.side);
        let is_good = rendered.pixels.iter().all(|pixels| *pixels > 0 && f64::from(*pixels) >= self.config.min_density.get() * all);
        if is_good { Vec::new() } else { vec![0] }
    }
}
