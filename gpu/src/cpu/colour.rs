//! Palettes: the colour of each grey level of a fractal, and of each height of a background. Pictures are coloured by looking up.
//!
//! A colour is one word, red in the lowest byte, then green, blue and 255: what lies in memory as RGBA.
//!
//! Source: Anderson and Farrell, *Improving Fractal Pre-training*, WACV 2022, and its code (`fractals/ifs.py`, `fractals/diamondsquare.py`).

/// How hues are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hues {
    /// In turns: every hue is as likely as any other.
    Turns,
    /// In bytes that are then read on a scale that ends at 180, as the original does by way of OpenCV: hues of the first 75 of 180 come up twice as
    /// often.
    Bytes,
}

/// The colours of a fractal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Colour {
    /// Hue by level, starting at `hue` (turns, 0 to 1), with one saturation and one value (0 to 1) for all.
    Hue {
        /// Where the circle begins.
        hue: f32,
        /// Saturation.
        saturation: f32,
        /// Value, that is brightness.
        value: f32,
        /// How hues are counted.
        hues: Hues,
    },
    /// The same grey for all levels but 0.
    Grey(u8),
    /// White as bright as the level.
    Levels,
}

/// The colours of a background: each of hue (turns), saturation and value is `height * scale + shift`, heights being 0 to 1 and somewhat more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeightColours {
    /// Scale and shift of the hue.
    pub hue: [f32; 2],
    /// Scale and shift of the saturation.
    pub saturation: [f32; 2],
    /// Scale and shift of the value.
    pub value: [f32; 2],
    /// How hues are counted.
    pub hues: Hues,
}

/// One opaque colour.
pub const fn rgb([red, green, blue]: [u8; 3]) -> u32 {
    u32::from_le_bytes([red, green, blue, 255])
}

/// The colour of each level of a fractal. That of level 0 is not used: nothing is there.
#[expect(clippy::cast_possible_truncation, reason = "below 256")]
pub fn level_palette(colour: Colour) -> [u32; 256] {
    let mut palette = [0; 256];
    for (level, entry) in palette.iter_mut().enumerate() {
        *entry = match colour {
            Colour::Grey(grey) => rgb([grey; 3]),
            Colour::Levels => rgb([level as u8; 3]),
            Colour::Hue { hue, saturation, value, hues: Hues::Turns } => hsv(turn(level as f32 / 256.0 + hue), saturation, value),
            Colour::Hue { hue, saturation, value, hues: Hues::Bytes } => {
                hsv(byte_turn(level as f32 + hue * 255.0), byte(saturation * 255.0), byte(value * 255.0))
            }
        };
    }
    palette
}

/// Heights of a palette to one of height 1.
pub const HEIGHT_STEPS: i32 = 256;
/// Height of the first colour, in steps.
pub const LOWEST_HEIGHT: i32 = -2 * HEIGHT_STEPS;
/// Colours of a palette of heights: from -2 to 3.
pub const HEIGHTS: usize = 5 * 256;

/// The colour of each height.
pub fn height_palette(colours: &HeightColours, palette: &mut [u32; HEIGHTS]) {
    let HeightColours { hue, saturation, value, hues } = *colours;
    let at = |[scale, shift]: [f32; 2], height: f32| height * scale + shift;
    for (step, entry) in (LOWEST_HEIGHT..).zip(palette) {
        let height = step as f32 / HEIGHT_STEPS as f32;
        let (h, s, v) = (at(hue, height), at(saturation, height).clamp(0.0, 1.0), at(value, height).clamp(0.0, 1.0));
        *entry = match hues {
            Hues::Turns => hsv(turn(h), s, v),
            Hues::Bytes => hsv(byte_turn(h * 255.0), byte(s * 255.0), byte(v * 255.0)),
        };
    }
}

/// The part of a number of turns past the last whole one; from 0 to below 1. Turns above -16.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
fn turn(turns: f32) -> f32 {
    let turns = turns + 16.0;
    let turn = turns - (turns as i32) as f32;
    if turn >= 1.0 { 0.0 } else { turn }
}

/// A hue in bytes, cut to a whole one and read on a scale that ends at 180. Hues above -4096.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
fn byte_turn(hue: f32) -> f32 {
    let hue = ((hue + 4096.0) as i32) & 255;
    (if hue >= 180 { hue - 180 } else { hue }) as f32 / 180.0
}

/// A number of 0 to 255, cut to a whole one, as a share of 255.
#[expect(clippy::cast_possible_truncation, reason = "at most 255")]
fn byte(number: f32) -> f32 {
    (number as i32) as f32 / 255.0
}

/// The colour of a hue (in turns, 0 to below 1), a saturation and a value (0 to 1).
#[inline]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
fn hsv(hue: f32, saturation: f32, value: f32) -> u32 {
    // How far a channel is from its full value: 1 within a sixth of the circle from it, 0 from a third on, straight lines between.
    let channel = |from: f32| {
        let sixths = from + hue * 6.0;
        let sixths = if sixths >= 6.0 { sixths - 6.0 } else { sixths };
        let less = sixths.min(4.0 - sixths).clamp(0.0, 1.0);
        ((value - value * saturation * less) * 255.0 + 0.5) as i32 as u32
    };
    channel(5.0) | channel(3.0) << 8 | channel(1.0) << 16 | 0xFF00_0000
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::cpu::counter_rng::Draws;

    fn channels(colour: u32) -> [u8; 3] {
        let [red, green, blue, alpha] = colour.to_le_bytes();
        assert_eq!(alpha, 255);
        [red, green, blue]
    }

    /// Values of OpenCV 4 (`cvtColor`, `COLOR_HSV2RGB`, 8 bits), also for hues past the end of its scale.
    #[test]
    fn hues_in_bytes_are_read_as_opencv_reads_them() {
        let known: [([u8; 3], [u8; 3]); 10] = [
            ([0, 255, 255], [255, 0, 0]),
            ([30, 200, 180], [180, 180, 39]),
            ([59, 77, 128], [91, 128, 89]),
            ([90, 255, 255], [0, 255, 255]),
            ([120, 100, 200], [122, 122, 200]),
            ([150, 230, 140], [140, 14, 140]),
            ([179, 180, 250], [250, 74, 79]),
            ([180, 255, 255], [255, 0, 0]),
            ([215, 255, 255], [212, 255, 0]),
            ([255, 140, 210], [95, 210, 152]),
        ];
        for (input, want) in known {
            let [h, s, v] = input.map(f32::from);
            assert_eq!(channels(hsv(byte_turn(h), byte(s), byte(v))), want, "{input:?}");
        }
        // Level 10 with hues from 250 on wraps around to 4.
        let colour = Colour::Hue { hue: 250.0 / 255.0, saturation: 1.0, value: 1.0, hues: Hues::Bytes };
        assert_eq!(level_palette(colour)[10], hsv(4.0 / 180.0, 1.0, 1.0));
    }

    /// How many of 60 sixtieths of the circle the hues of many fractals fall on, over their mean.
    fn hues(hues: Hues) -> Vec<f64> {
        let mut counts = vec![0.0; 60];
        let mut draws = Draws::new(5, [0; 3]);
        for _ in 0..3000 {
            let hue = draws.unit() as f32;
            for colour in level_palette(Colour::Hue { hue, saturation: 1.0, value: 1.0, hues }).into_iter().skip(1).step_by(15) {
                let [r, g, b] = channels(colour).map(f64::from);
                let sixths = if r > 254.5 {
                    (g - b) / 255.0
                } else if g > 254.5 {
                    2.0 + (b - r) / 255.0
                } else {
                    4.0 + (r - g) / 255.0
                };
                counts[((sixths.rem_euclid(6.0) * 10.0 + 0.01) as usize).min(59)] += 1.0;
            }
        }
        let mean = counts.iter().sum::<f64>() / 60.0;
        counts.into_iter().map(|count| count / mean).collect()
    }

    #[test]
    fn hues_in_turns_are_all_alike_and_hues_in_bytes_are_not() {
        // 51,000 hues in 60 bins of 850: 3,000 circles are drawn, so that the deviation is below 1 / sqrt(850 / 17) = 14 %.
        let turns = hues(Hues::Turns);
        assert!(turns.iter().all(|share| (0.75..1.25).contains(share)), "{turns:?}");
        // 75 of 180 hues come up twice as often.
        let bytes = hues(Hues::Bytes);
        let (twice, once): (f64, f64) = (bytes[1..24].iter().sum(), bytes[26..49].iter().sum());
        assert!((1.8..2.2).contains(&(twice / once)), "{bytes:?}");
    }

    #[test]
    fn greys_and_heights_have_their_colours() {
        assert_eq!(channels(level_palette(Colour::Grey(127))[3]), [127; 3]);
        assert_eq!(channels(level_palette(Colour::Levels)[3]), [3; 3]);
        let mut palette = [0; HEIGHTS];
        let colours = HeightColours { hue: [0.5, 0.25], saturation: [0.0, 1.0], value: [0.5, 0.5], hues: Hues::Turns };
        height_palette(&colours, &mut palette);
        let at = |height: i32| channels(palette[(height - LOWEST_HEIGHT) as usize]);
        // Hue 1/4 at half the value; hue 1/2 with 3/4; hue 3/4 with all, and no more above that; nothing below height -1.
        assert_eq!([at(0), at(128), at(256)], [[64, 128, 0], [0, 191, 191], [128, 0, 255]]);
        assert_eq!(at(300).iter().max(), Some(&255));
        assert_eq!(at(-300), [0; 3]);
    }
}
