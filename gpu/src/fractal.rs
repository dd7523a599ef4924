//! Images of fractals: what one is made of, and the renderer that makes them.
//!
//! An image is a background with fractals on it, each drawn by a chaos game on a square of its own, then stamped, brought to grey levels, turned, resized,
//! coloured and pasted, later ones over earlier ones; at last the whole may be blurred. One fractal as large as the image is an image of one label.
//!
//! Source: Anderson and Farrell, *Improving Fractal Pre-training*, WACV 2022, and its code github.com/catalys1/fractal-pretraining.

use crate::cpu::chaos_game::{Orbit, Window, chaos_game};
use crate::cpu::colour::{Colour, HEIGHTS, HeightColours, LOWEST_HEIGHT, height_palette, level_palette, rgb};
use crate::cpu::paint::{Orientation, Place, paint};
use crate::cpu::plasma::{UNIT, moves, plasma};
use crate::cpu::{blur, levels, paint, plasma, stamp};
use crate::{Device, Ran, kernels};

/// One image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageJob {
    /// Rows, and columns; at least 2.
    pub side: u32,
    /// What is behind the fractals.
    pub background: Background,
    /// The fractals in the order in which they are pasted; at most 255.
    pub instances: Vec<Instance>,
    /// Standard deviation of the blur, in pixels; none if absent.
    pub blur: Option<f32>,
}

/// What is behind the fractals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Background {
    /// One colour.
    Flat([u8; 3]),
    /// Coloured heights.
    Plasma {
        /// Key of its random numbers.
        key: [u32; 2],
        /// How fast the heights become smooth: at least 0.3.
        decay: f32,
        /// The colours of the heights.
        colours: HeightColours,
    },
}

/// What is put in the place of each point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// The same for all: the bits of a 3x3 square, row by row; [`stamp::DOT`] is the point itself.
    Mask(u32),
    /// One of its own for each point, drawn with this key; the picture is in black and white then.
    Each([u32; 2]),
}

/// One fractal of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its points.
    pub orbit: Orbit,
    /// The side of the square that it is drawn on; at least 2.
    pub drawn_side: u32,
    /// What is put in the place of each point.
    pub stamp: Stamp,
    /// Whether levels follow the number of points; else they are all alike.
    pub is_graded: bool,
    /// The colours of its levels.
    pub colour: Colour,
    /// The side that it is resized to; at least 1.
    pub size: u32,
    /// Column of its left edge in the image; may be outside.
    pub x: i32,
    /// Row of its upper edge; may be outside.
    pub y: i32,
    /// How it is turned.
    pub orientation: Orientation,
}

/// What was made of an [`ImageJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// `[side][side][3]`: red, green, blue.
    pub rgb: Vec<u8>,
    /// `[side][side]`: which instance a pixel shows, counted from 1; 0 is the background. Not blurred.
    pub owners: Vec<u8>,
    /// Of each instance, how many pixels it covers by itself: also those that others cover, and those outside the image.
    pub pixels: Vec<u32>,
}

impl Instance {
    /// Pixels on each side of it whose points reach in with their stamps.
    pub(crate) fn margin(&self) -> usize {
        usize::from(self.orbit.window != Window::default() && self.stamp != Stamp::Mask(stamp::DOT))
    }

    /// Its orbit as it is drawn, on `drawn_side + 2 * margin` pixels, and the margin. Where the window is not just what there is, points beside it can
    /// reach in with their stamps: they are drawn on a margin of one pixel.
    pub fn drawn(&self) -> (Orbit, usize) {
        let mut orbit = self.orbit.clone();
        if self.margin() == 0 {
            return (orbit, 0);
        }
        // `side` pixels are `side - 1` steps, and a pixel more on each side is two more of them.
        let side = self.drawn_side as f32;
        orbit.window.scale = orbit.window.scale.map(|scale| scale * ((side + 1.0) / (side - 1.0)));
        (orbit, 1)
    }
}

/// Makes images. Keeps its buffers from one to the next; what it makes does not depend on what it made before.
#[derive(Debug, Default)]
pub struct Renderer {
    sums: Vec<u32>,
    levels: Vec<u8>,
    heights: Vec<i16>,
    picture: Vec<[u8; 4]>,
    words: Vec<u32>,
    blurred: Vec<u8>,
    plasma: plasma::Scratch,
    paint: paint::Scratch,
}

impl Renderer {
    /// A renderer with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes each image, in order; and what it ran on.
    pub fn render(&mut self, device: &Device, jobs: &[ImageJob]) -> (Vec<Rendered>, Ran) {
        device.run(|gpu| kernels::fractal::render(gpu, jobs), || jobs.iter().map(|job| self.render_one(job)).collect())
    }

    fn render_one(&mut self, job: &ImageJob) -> Rendered {
        let side = job.side as usize;
        self.words.resize(side * side, 0);
        self.fill_background(&job.background, side);
        let mut owners = vec![0; side * side];
        let pixels =
            (1_u8..).zip(&job.instances).map(|(owner, instance)| self.paint_instance(instance, owner, side, &mut owners)).collect();
        self.picture.clear();
        self.picture.extend(self.words.iter().map(|word| word.to_le_bytes()));
        if let Some(sigma) = job.blur {
            blur::blur(&mut self.picture, side, blur::neighbour_parts(sigma), &mut self.blurred);
        }
        let mut rgb = vec![0; 3 * side * side];
        for (to, from) in rgb.chunks_exact_mut(3).zip(&self.picture) {
            to.copy_from_slice(&from[..3]);
        }
        Rendered { rgb, owners, pixels }
    }

    fn fill_background(&mut self, background: &Background, side: usize) {
        match background {
            Background::Flat(colour) => self.words.fill(rgb(*colour)),
            Background::Plasma { key, decay, colours } => {
                let mut palette = [0; HEIGHTS];
                height_palette(colours, &mut palette);
                self.heights.resize(side * side, 0);
                plasma(*key, &moves(*decay, side), side, &mut self.plasma, &mut self.heights);
                for (word, &height) in self.words.iter_mut().zip(&self.heights) {
                    *word = palette[height_entry(height)];
                }
            }
        }
    }

    fn paint_instance(&mut self, instance: &Instance, owner: u8, side: usize, owners: &mut [u8]) -> u32 {
        let (orbit, margin) = instance.drawn();
        let drawn_side = instance.drawn_side as usize;
        let wide = instance.drawn_side + if margin == 0 { 0 } else { 2 };
        let drawn = chaos_game(std::slice::from_ref(&orbit), wide);
        let counts = drawn.first().map_or(&[][..], |drawn| &drawn.counts);
        self.sums.resize(drawn_side * drawn_side, 0);
        self.levels.resize(drawn_side * drawn_side, 0);
        match instance.stamp {
            Stamp::Mask(mask) => stamp::stamp(counts, margin, mask, drawn_side, &mut self.sums),
            Stamp::Each(key) => stamp::stamp_each(counts, margin, key, drawn_side, &mut self.sums),
        }
        if instance.is_graded {
            levels::levels(&self.sums, &mut self.levels);
        } else {
            levels::binary_levels(&self.sums, &mut self.levels);
        }
        let place = Place { size: instance.size as usize, x: instance.x, y: instance.y, orientation: instance.orientation };
        let palette = level_palette(instance.colour);
        paint(&self.levels, drawn_side, place, &palette, owner, side, &mut self.words, owners, &mut self.paint)
    }
}

/// Where a height has its colour in a palette of heights.
#[inline]
#[expect(clippy::cast_sign_loss, reason = "palettes begin below the lowest height; what did not would be far past their end")]
pub(crate) fn height_entry(height: i16) -> usize {
    let step = (i32::from(height) >> (UNIT.trailing_zeros() - crate::cpu::colour::HEIGHT_STEPS.trailing_zeros())) - LOWEST_HEIGHT;
    (step as usize).min(HEIGHTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::chaos_game::weights;
    use crate::cpu::colour::Hues;

    const SIERPINSKI: [[f32; 6]; 3] = [[0.5, 0.0, 0.0, 0.0, 0.5, 0.0], [0.5, 0.0, 0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5, 0.5]];

    fn instance(size: u32, x: i32, y: i32) -> Instance {
        let orbit = Orbit {
            maps: SIERPINSKI.to_vec(),
            weights: weights(&SIERPINSKI),
            stream: [1, 2, 3, 4],
            points: 50_000,
            window: Window::default(),
        };
        let (stamp, colour) = (Stamp::Mask(stamp::FULL), Colour::Hue { hue: 0.2, saturation: 0.8, value: 0.9, hues: Hues::Turns });
        Instance { orbit, drawn_side: 64, stamp, is_graded: true, colour, size, x, y, orientation: Orientation::default() }
    }

    fn job(instances: Vec<Instance>) -> ImageJob {
        let colours = HeightColours { hue: [0.6, 0.1], saturation: [0.2, 0.5], value: [0.4, 0.5], hues: Hues::Turns };
        ImageJob { side: 64, background: Background::Plasma { key: [5, 6], decay: 0.5, colours }, instances, blur: None }
    }

    fn render(job: &ImageJob) -> Rendered {
        Renderer::new().render(&Device::cpu(), std::slice::from_ref(job)).0.remove(0)
    }

    #[test]
    fn a_fractal_has_the_colours_of_its_counts_and_the_rest_is_background() {
        let one = instance(64, 0, 0);
        let (image, behind) = (render(&job(vec![one.clone()])), render(&job(Vec::new())));
        let counts = &chaos_game(std::slice::from_ref(&one.orbit), 64)[0].counts;
        let (mut sums, mut grey) = (vec![0; 64 * 64], vec![0; 64 * 64]);
        stamp::stamp(counts, 0, stamp::FULL, 64, &mut sums);
        levels::levels(&sums, &mut grey);
        let palette = level_palette(one.colour);
        for (at, &level) in grey.iter().enumerate() {
            let want = if level > 0 { &palette[level as usize].to_le_bytes()[..3] } else { &behind.rgb[3 * at..3 * at + 3] };
            assert_eq!((&image.rgb[3 * at..3 * at + 3], image.owners[at]), (want, u8::from(level > 0)), "pixel {at}");
        }
        assert_eq!(image.pixels, [u32::try_from(grey.iter().filter(|level| **level > 0).count()).unwrap()]);
        assert!(behind.pixels.is_empty() && behind.owners.iter().all(|owner| *owner == 0));
    }

    #[test]
    fn later_ones_are_in_front_and_pixels_are_those_of_each_alone() {
        let jobs = [job(vec![instance(40, 3, 5), instance(40, 10, 9)]), job(vec![instance(40, 3, 5)]), job(vec![instance(40, 10, 9)])];
        let (images, _) = Renderer::new().render(&Device::cpu(), &jobs);
        let [both, first, second] = &images[..] else { panic!("three images") };
        for at in 0..64 * 64 {
            let want = if second.owners[at] > 0 { 2 } else { first.owners[at] };
            assert_eq!(both.owners[at], want, "pixel {at}");
        }
        assert_eq!(both.pixels, [first.pixels[0], second.pixels[0]]);
        let outside = render(&job(vec![instance(40, -20, 50)]));
        assert_eq!(outside.pixels, first.pixels, "what is cut off counts too");
        // Buffers that were used give what new ones give.
        assert_eq!(&render(&jobs[2]), second);
    }

    #[test]
    fn a_blur_changes_colours_and_no_owners() {
        let sharp = job(vec![instance(64, 0, 0)]);
        let (blurred, sharp) = (render(&ImageJob { blur: Some(0.8), ..sharp.clone() }), render(&sharp));
        assert_eq!((blurred.owners, blurred.pixels), (sharp.owners, sharp.pixels));
        assert_ne!(blurred.rgb, sharp.rgb);
    }

    #[test]
    fn stamps_reach_in_from_beside_the_window() {
        // Twice as near as the picture is large: points lie on all sides of the window.
        let near = |stamp| {
            let mut one = instance(64, 0, 0);
            one.stamp = stamp;
            one.is_graded = false;
            one.orbit.window = Window { shift: [-0.1, -0.1], scale: [0.5, 0.5] };
            one
        };
        let dots = render(&job(vec![near(Stamp::Mask(stamp::DOT))])).owners;
        let moved = render(&job(vec![near(Stamp::Mask(1 << 8))])).owners;
        // The stamp that moves points one down and one right fills the upper row from the margin, and not from the row itself.
        let same = (1..64).flat_map(|row| (1..64).map(move |column| (row, column)));
        let differs = same.filter(|(row, column)| moved[row * 64 + column] != dots[(row - 1) * 64 + column - 1]).count();
        assert!(differs < 200, "rounding, and points that are cut down to the first row: {differs}");
        assert!(moved[..64].contains(&1), "nothing reached in");
    }

    #[test]
    fn one_stamp_a_point_and_flat_colours() {
        let mut one = instance(64, 0, 0);
        (one.stamp, one.is_graded, one.colour) = (Stamp::Each([1, 2]), false, Colour::Grey(127));
        let image = render(&ImageJob { background: Background::Flat([0; 3]), ..job(vec![one]) });
        assert!(image.rgb.chunks(3).zip(&image.owners).all(|(rgb, owner)| rgb == [127 * owner; 3]));
        assert!(image.pixels[0] > 500);
    }

    #[test]
    fn no_points_are_no_pixels() {
        let mut none = instance(30, 0, 0);
        none.orbit.points = 0;
        let image = render(&job(vec![none, instance(30, 100, 100)]));
        assert_eq!(image.pixels[0], 0);
        assert!(image.pixels[1] > 0 && image.owners.iter().all(|owner| *owner == 0));
    }
}
