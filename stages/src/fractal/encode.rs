//! Images as files.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::jpeg::JpegEncoder;
use super::settings::{Encoding, Format};
use crate::StageError;

/// Makes files of images.
pub(super) struct Encoder {
    encoding: Encoding,
    jpeg: JpegEncoder,
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        Self { encoding, jpeg: JpegEncoder::new(encoding.quality.get()) }
    }

    /// What the file of an image ends with; nothing if there is none.
    pub(super) fn extension(&self) -> Option<&'static str> {
        match self.encoding.format {
            Format::Jpeg => Some("jpg"),
            Format::Webp => Some("webp"),
            Format::Png => Some("png"),
            Format::Raw => None,
        }
    }

    /// The file of an image of `[side][side][3]`.
    pub(super) fn encode(&mut self, rgb: Vec<u8>, side: u32) -> Result<Vec<u8>, StageError> {
        let mut file = Vec::with_capacity(usize::try_from(self.encoding.bytes(side)).unwrap_or(0));
        let colours = ExtendedColorType::Rgb8;
        let written = match self.encoding.format {
            Format::Raw => return Ok(rgb),
            Format::Jpeg => {
                let side = u16::try_from(side).map_err(|_| StageError::Internal(format!("a JPEG of {side} pixels")))?;
                self.jpeg.encode(&rgb, side, &mut file);
                Ok(())
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
