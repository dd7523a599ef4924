//! `render_fractaldb`: makes the images of `FractalDB`.

use gpu::cpu::chaos_game::{Orbit, weights};
use gpu::cpu::colour::Colour;
use gpu::cpu::counter_rng::Draws;
use gpu::cpu::paint::Orientation;
use gpu::fractal::{Background, ImageJob, Instance, Rendered, Stamp};
use schemars::JsonSchema;
use schemas::ColumnSpec;
use serde::{Deserialize, Serialize};

use super::codes::Codes;
use super::draw::place;
use super::ifs::{VARIANTS, key_of, single, stream, variant, window_with_margin};
use super::program::{self, Paint, Planned, Program, Recipe, RowForm};
use super::render_fractals::of_system;
use super::settings::{Encoding, Format, MAX_POINTS, MAX_SIDE, MIN_SIDE, check_only, check_whole, default_quality};
use crate::units::Fraction;
use crate::{BuildContext, Inputs, Kind, Makes, Outputs, Port, Stage, StageConfig, StageError};

/// Makes the images of `FractalDB` of the systems that come in: grey fractals on black, for comparison with `render_fractals`.
///
/// Of each system there are 25 variants (the system itself, and each of its six numbers times 1 - 2k, 1 - k, 1 + k and 1 + 2k in all maps), each `repetitions` times with
/// other stamps, each of these as it is, upside down, mirrored and both: 1,000 images with 10 repetitions. All images of a system have the same choice of
/// maps for each point, and each point has a stamp of its own. Source: Kataoka et al., Pre-training without Natural Images, ACCV 2020, and its code.
///
/// Use it behind `sample_ifs` with `search: fractaldb`. Images stand in the order of variant, repetition, flip; the number within the class is behind the `#` of the
/// id. Systems are rejected as by `render_fractals`. A variant whose points go away so fast that nothing can be drawn is dropped, with the reason `blank`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenderFractaldbConfig {
    /// How far the numbers of a variant are from those of the system: the k above.
    #[serde(default = "default_step")]
    pub step: Fraction,
    /// How often each variant is drawn.
    #[serde(default = "default_repetitions")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub repetitions: u32,
    /// Side of the images, pixels.
    #[serde(default = "default_side")]
    #[schemars(range(min = 16, max = 2048))]
    pub side_px: u32,
    /// Points of each fractal.
    #[serde(default = "default_points")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: u32,
    /// How images are written.
    #[serde(default = "default_format")]
    pub format: Format,
    /// Quality of JPEG, 1 to 100.
    #[serde(default = "default_quality")]
    #[schemars(range(min = 1, max = 100))]
    pub quality: u8,
    /// Numbers (column `index`) of the images to make; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<u64>>,
}

fn default_step() -> Fraction {
    Fraction::new(0.4).expect("a fraction")
}

fn default_repetitions() -> u32 {
    10
}

fn default_side() -> u32 {
    362
}

fn default_points() -> u32 {
    200_000
}

fn default_format() -> Format {
    Format::Png
}

/// Pixels on each side that nothing is drawn on but what a stamp reaches.
const MARGIN: u32 = 6;
/// The grey of a fractal.
const GREY: u8 = 127;
/// As it is, upside down, mirrored, both.
const FLIPS: u64 = 4;

impl StageConfig for RenderFractaldbConfig {
    const NAME: &'static str = "render_fractaldb";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: render_fractaldb, from: codes, repetitions: 1, side_px: 32, points: 1000}";
    const USES_DEVICE: bool = true;

    fn adds(&self) -> Vec<ColumnSpec> {
        program::columns(FORM, self.format)
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        check_whole("repetitions", self.repetitions.into(), 1, 1_000_000)?;
        check_whole("side_px", self.side_px.into(), MIN_SIDE.into(), MAX_SIDE.into())?;
        check_whole("points", self.points.into(), 1, MAX_POINTS.into())?;
        Encoding::try_new(self.format, self.quality)?;
        check_only(self.only.as_deref(), cx.input_rows.map(|rows| rows.saturating_mul(self.images_per_class())))?;
        let outputs = program::outputs(cx, FORM, self.format)?;
        let rows = outputs.get(&Port::OUT).cloned().ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        Ok(outputs.with_dropped(&rows)?.dropped_apart())
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        Ok(Stage::Global(Box::new(Program {
            recipe: RenderFractaldb { config: self.clone(), key: key_of(cx.seed, &cx.stage_id) },
            device: cx.device.clone(),
            side: self.side_px,
            encoding: Encoding::try_new(self.format, self.quality)?,
            form: FORM,
            only: self.only.clone(),
            min_density: 0.0,
            redraws: 0,
            drops_blank: true,
            schema: schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?,
        })))
    }

    fn makes(&self, cx: &BuildContext) -> Option<Makes> {
        let encoding = Encoding::try_new(self.format, self.quality).ok()?;
        program::makes_of_each(cx, self.images_per_class(), "repetitions", self.only.as_deref(), self.side_px, encoding)
    }
}

impl RenderFractaldbConfig {
    fn images_per_class(&self) -> u64 {
        VARIANTS * FLIPS * u64::from(self.repetitions)
    }
}

const FORM: RowForm = RowForm { many: false, instances: false, min_visible: 0.0 };

struct RenderFractaldb {
    config: RenderFractaldbConfig,
    key: u64,
}

impl Recipe for RenderFractaldb {
    fn images(&self, codes: u64) -> Option<u64> {
        codes.checked_mul(self.config.images_per_class())
    }

    fn setting(&self) -> &'static str {
        "repetitions"
    }

    fn plan(&self, index: u64, codes: &Codes, _: &[u32], _: &[u8]) -> Option<Planned> {
        let config = &self.config;
        let (at, number) = (usize::try_from(index / self.config.images_per_class()).ok()?, index % self.config.images_per_class());
        let code = codes.get(at)?;
        let (key, name) = of_system(self.key, &code, at);
        let (drawing, flip) = (number / FLIPS, number % FLIPS);
        let mut stamps = Draws::new(key, [u32::try_from(drawing).ok()?, 0, place::DRAWING]);
        // Maps are chosen as often as the system's own areas say, not the variant's.
        let weights = weights(&single(&code.maps));
        let maps = single(&variant(&code.maps, drawing / u64::from(config.repetitions), config.step.get()));
        let instance = Instance {
            orbit: Orbit {
                maps,
                weights,
                stream: stream(key, [0; 2]),
                points: config.points,
                window: window_with_margin(config.side_px, MARGIN),
            },
            drawn_side: config.side_px,
            stamp: Stamp::Each([stamps.word(), stamps.word()]),
            is_graded: false,
            colour: Colour::Grey(GREY),
            size: config.side_px,
            x: 0,
            y: 0,
            orientation: Orientation { transpose: false, flip_rows: flip & 1 == 1, flip_columns: flip & 2 == 2 },
        };
        let job = ImageJob { side: config.side_px, background: Background::Flat([0; 3]), instances: vec![instance], blur: None };
        Some(Planned { id: format!("{name}#{number}"), job, paints: vec![Paint { label: code.label, hsv: None }] })
    }

    fn failed(&self, _: &Planned, rendered: &Rendered) -> Vec<usize> {
        if rendered.pixels.iter().all(|pixels| *pixels > 0) { Vec::new() } else { vec![0] }
    }
}
