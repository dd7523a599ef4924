//! Images as files.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, SamplingFactor};

use super::settings::{Encoding, Format};
use crate::StageError;

/// From this quality on, colours of a JPEG keep their full resolution; below, they have half the resolution of brightness, as other tools have it.
const FULL_COLOURS: u8 = 95;

/// Makes files of images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoder {
    encoding: Encoding,
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding }
    }

    /// What the file of an image ends with; nothing if there is none.
    pub(super) fn extension(self) -> Option<&'static str> {
        match self.encoding.format {
            Format::Jpeg => Some("jpg"),
            Format::Webp => Some("webp"),
            Format::Png => Some("png"),
            Format::Raw => None,
        }
    }

    /// The file of an image of `[side][side][3]`.
    pub(super) fn encode(self, rgb: Vec<u8>, side: u32) -> Result<Vec<u8>, StageError> {
        let mut file = Vec::with_capacity(usize::try_from(self.encoding.bytes(side)).unwrap_or(0));
        let colours = ExtendedColorType::Rgb8;
        let written = match self.encoding.format {
            Format::Raw => return Ok(rgb),
            Format::Jpeg => {
                let wrong = |problem: String| StageError::Internal(format!("a JPEG of {side} pixels: {problem}"));
                let pixels = u16::try_from(side).map_err(|error| wrong(error.to_string()))?;
                let quality = self.encoding.quality.get();
                let mut encoder = jpeg_encoder::Encoder::new(&mut file, quality);
                encoder.set_sampling_factor(if quality < FULL_COLOURS { SamplingFactor::F_2_2 } else { SamplingFactor::F_1_1 });
                encoder.encode(&rgb, pixels, pixels, ColorType::Rgb).map_err(|error| wrong(error.to_string()))?;
                return Ok(file);
            }
            Format::Webp => WebPEncoder::new_lossless(&mut file).write_image(&rgb, side, side, colours),
            // Of the filters, the one that is fast and packs within 1 % of the best of them.
            Format::Png => {
                PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Sub).write_image(&rgb, side, side, colours)
            }
        };
        written.map_err(|error| StageError::Internal(format!("an image of {side} pixels can't be encoded: {error}")))?;
        Ok(file)
    }
}
