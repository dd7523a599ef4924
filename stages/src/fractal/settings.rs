//! Settings that the stages which make images share.

use std::num::NonZeroU8;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::StageError;
use crate::units::Fraction;

/// Least side of an image.
pub(super) const MIN_SIDE: u32 = 16;
/// Greatest side of an image: a renderer's buffers of it are a third of what a task may use.
pub(super) const MAX_SIDE: u32 = 2048;
/// Most points of a fractal.
pub(super) const MAX_POINTS: u32 = 10_000_000;
/// Most images of a stage.
pub(super) const MAX_IMAGES: u64 = 1_000_000_000;

/// Numbers from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Range {
    /// Numbers from `min` to `max`.
    pub const fn new(min: f64, max: f64) -> Self {
        Self { min, max }
    }

    /// Checks that it is a range, and within `low` and `high`.
    pub(super) fn check(self, setting: &str, low: f64, high: f64) -> Result<(), StageError> {
        if low <= self.min && self.min <= self.max && self.max <= high {
            return Ok(());
        }
        let Self { min, max } = self;
        Err(StageError::setting(setting, format!("wanted {low} <= `min` <= `max` <= {high}, found {min} and {max}")))
    }
}

/// How the maps of a system are changed for one image of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Jitter {
    /// Not at all.
    None,
    /// The six numbers of one map are multiplied by a number from 0.8 to 1.1.
    #[default]
    Scale,
    /// One number of each map is multiplied by 1 - 2k, 1 - k, 1, 1 + k or 1 + 2k, the same for all maps; k is given: `{fractaldb: 0.1}`.
    Fractaldb(Fraction),
    /// The singular vectors of one side of one map are turned by up to half a radian, or the map is shifted by up to half a unit along each axis.
    Svd,
    /// The singular values of one map are rescaled so that the sigma-factor is anywhere in its band.
    SingularValues,
}

impl Jitter {
    pub(super) fn none() -> Self {
        Self::None
    }
}

/// How images are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Format {
    /// JPEG, with losses that `quality` sets; below 95, colours have half the resolution of brightness, as is usual.
    #[default]
    Jpeg,
    /// `WebP` without losses.
    Webp,
    /// PNG, packed fast.
    Png,
    /// Not encoded: a column `pixels` of `height * width * 3` bytes in the place of `image`.
    Raw,
}

/// How many colours a fractal has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Colours {
    /// Hue by the number of points, from a hue that is drawn, with one saturation and one brightness that are drawn.
    #[default]
    Hue,
    /// The same with hues as the original has them, for comparison: whole numbers to 255 on a scale that ends at 180, so that two fifths of all hues are twice
    /// as frequent. Of the background too.
    #[serde(rename = "hue_8bit")]
    Hue8bit,
    /// One grey, 127 of 255.
    Grey,
}

/// What is behind the fractals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Behind {
    /// Clouds in colours that are drawn, by the diamond-square algorithm.
    #[default]
    Plasma,
    /// Nothing.
    Black,
}

/// What is put in the place of each point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StampKind {
    /// One of the 511 patterns of 3 x 3 pixels, drawn for each fractal.
    #[default]
    Random,
    /// One pixel.
    Dot,
}

/// How the number of points on a pixel is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Shades {
    /// In proportion to the highest.
    #[default]
    Graded,
    /// Not at all: pixels are on or off.
    Binary,
}

/// How often and how much images are blurred.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Blur {
    /// Share of the images that are blurred.
    pub chance: Fraction,
    /// Standard deviation of the 3 x 3 Gaussian, pixels.
    #[serde(default = "default_sigma")]
    pub sigma: Range,
}

fn default_sigma() -> Range {
    Range::new(0.5, 1.0)
}

impl Default for Blur {
    fn default() -> Self {
        Self { chance: half(), sigma: default_sigma() }
    }
}

impl Blur {
    pub(super) fn check(&self) -> Result<(), StageError> {
        self.sigma.check("blur.sigma", 0.01, 100.0)
    }
}

fn half() -> Fraction {
    Fraction::new(0.5).expect("a fraction")
}

pub(super) fn default_side() -> u32 {
    224
}

pub(super) fn default_points() -> u32 {
    100_000
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn default_quality() -> u8 {
    90
}

/// Fifty pixels of 224 squared. Of 3,000 systems drawn as `sample_ifs` does it, the sparsest covered 0.003 of its picture.
pub(super) fn default_min_density() -> Fraction {
    Fraction::new(0.001).expect("a fraction")
}

pub(super) fn default_redraws() -> u8 {
    16
}

/// Checks what JSON Schema checks too, for whoever builds a stage without it.
pub(super) fn check_whole(setting: &str, value: u64, low: u64, high: u64) -> Result<(), StageError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let wanted = if high == u64::MAX { format!("of at least {low}") } else { format!("from {low} to {high}") };
    Err(StageError::setting(setting, format!("wanted a whole number {wanted}, found {value}")))
}

/// Checks the numbers of images to make: each once, and below how many there are where that is known.
pub(super) fn check_only(only: Option<&[u64]>, images: Option<u64>) -> Result<(), StageError> {
    let mut numbers = only.unwrap_or_default().to_vec();
    numbers.sort_unstable();
    if let Some((number, _)) = numbers.iter().zip(&numbers[1.min(numbers.len())..]).find(|(number, next)| number == next) {
        return Err(StageError::setting("only", format!("wanted each number once, found {number} again")));
    }
    match (numbers.last(), images) {
        (Some(last), Some(images)) if *last >= images => {
            Err(StageError::setting("only", format!("wanted numbers below {images}, which is how many images there are, found {last}")))
        }
        _ => Ok(()),
    }
}

/// How images are written, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    pub format: Format,
    pub quality: NonZeroU8,
}

impl Encoding {
    pub(super) fn try_new(format: Format, quality: u8) -> Result<Self, StageError> {
        check_whole("quality", quality.into(), 1, 100)?;
        Ok(Self { format, quality: NonZeroU8::new(quality).unwrap_or(NonZeroU8::MIN) })
    }

    /// About how many bytes an image of this side takes, for estimates and for how many images a task makes. Measured on images of 224 pixels.
    pub(super) fn bytes(self, side: u32) -> u64 {
        let hundredths = match self.format {
            // 0.18 bytes a pixel at quality 75, 0.32 at 90, 0.75 at 95, near 2 at 100.
            Format::Jpeg => match self.quality.get() {
                ..=80 => 20,
                81..=92 => 36,
                93..=96 => 80,
                97.. => 200,
            },
            Format::Webp => 175,
            Format::Png => 145,
            Format::Raw => 300,
        };
        u64::from(side) * u64::from(side) * hundredths / 100 + 200
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<(), StageError>) -> String {
        match result {
            Err(StageError::Setting { setting, problem, .. }) => format!("{setting}: {problem}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_are_in_order_and_within_bounds() {
        assert!(Range::new(0.5, 0.5).check("size", 0.5, 0.5).is_ok());
        assert_eq!(refusal(Range::new(0.6, 0.5).check("size", 0.0, 1.0)), "size: wanted 0 <= `min` <= `max` <= 1, found 0.6 and 0.5");
        assert_eq!(refusal(Range::new(0.5, 1.5).check("size", 0.0, 1.0)), "size: wanted 0 <= `min` <= `max` <= 1, found 0.5 and 1.5");
        assert!(Range::new(f64::NAN, 0.5).check("size", 0.0, 1.0).is_err());
        assert!(Range::new(0.5, f64::NAN).check("size", 0.0, 1.0).is_err());
    }

    #[test]
    fn whole_numbers_are_within_their_bounds() {
        assert!(check_whole("side_px", 16, 16, 2048).is_ok() && check_whole("side_px", 2048, 16, 2048).is_ok());
        assert_eq!(refusal(check_whole("side_px", 15, 16, 2048)), "side_px: wanted a whole number from 16 to 2048, found 15");
        assert!(check_whole("side_px", 2049, 16, 2048).is_err());
        assert!(Encoding::try_new(Format::Jpeg, 0).is_err() && Encoding::try_new(Format::Jpeg, 101).is_err());
    }

    #[test]
    fn estimates_follow_format_and_side() {
        let bytes = |format, quality| Encoding::try_new(format, quality).unwrap().bytes(224);
        assert_eq!(bytes(Format::Raw, 90), 224 * 224 * 3 + 200);
        assert!(bytes(Format::Jpeg, 75) < bytes(Format::Jpeg, 90) && bytes(Format::Jpeg, 90) < bytes(Format::Png, 90));
    }
}
