//! Images as files.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::settings::{Encoding, Format};
use crate::StageError;

impl Encoding {
    /// What the file of an image ends with; nothing if there is none.
    pub(super) fn extension(self) -> Option<&'static str> {
        match self.format {
            Format::Jpeg => Some("jpg"),
            Format::Webp => Some("webp"),
            Format::Png => Some("png"),
            Format::Raw => None,
        }
    }

    /// The file of an image of `[side][side][3]`.
    pub(super) fn encode(self, rgb: Vec<u8>, side: u32) -> Result<Vec<u8>, StageError> {
        let mut file = Vec::with_capacity(usize::try_from(self.bytes(side)).unwrap_or(0));
        let colours = ExtendedColorType::Rgb8;
        let written = match self.format {
            Format::Raw => return Ok(rgb),
            Format::Jpeg => JpegEncoder::new_with_quality(&mut file, self.quality.get()).write_image(&rgb, side, side, colours),
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
