//! What is drawn by chance for an image: colours, stamps, backgrounds, turns.
//!
//! Source: the ranges of Anderson and Farrell's code, github.com/catalys1/fractal-pretraining (`fractals/ifs.py`, `fractals/diamondsquare.py`,
//! `training/datamodule/datasets/generator.py`).

use gpu::cpu::colour::{Colour, HeightColours, Hues};
use gpu::cpu::counter_rng::Draws;
use gpu::cpu::paint::Orientation;
use gpu::cpu::stamp;
use gpu::fractal::{Background, Stamp};

use super::settings::{Behind, Blur, Colours, StampKind};

/// Places of draws, so that no two things are drawn from one: the last word of a counter.
pub(super) mod place {
    /// Numbers of a system.
    pub(in super::super) const SYSTEM: u32 = 1;
    /// What an image is made of.
    pub(in super::super) const IMAGE: u32 = 2;
    /// What one fractal of several is.
    pub(in super::super) const INSTANCE: u32 = 3;
    /// How a fractal is drawn: changes when it is drawn again.
    pub(in super::super) const DRAWING: u32 = 4;
}

/// A number in a range, as kernels have it.
#[expect(clippy::cast_possible_truncation, reason = "kernels work in f32")]
pub(super) fn between(draws: &mut Draws, low: f64, high: f64) -> f32 {
    draws.between(low, high) as f32
}

fn hues(colours: Colours) -> Hues {
    if colours == Colours::Hue8bit { Hues::Bytes } else { Hues::Turns }
}

/// The colours of a fractal, and hue, saturation and value for its row.
pub(super) fn colour(draws: &mut Draws, colours: Colours) -> (Colour, Option<[f32; 3]>) {
    if colours == Colours::Grey {
        return (Colour::Grey(127), None);
    }
    let [hue, saturation, value] = [between(draws, 0.0, 1.0), between(draws, 0.3, 1.0), between(draws, 0.5, 1.0)];
    (Colour::Hue { hue, saturation, value, hues: hues(colours) }, Some([hue, saturation, value]))
}

/// A stamp, never an empty one: the original draws one of 512, and the image of the empty one is blank.
pub(super) fn stamp(draws: &mut Draws, kind: StampKind) -> Stamp {
    Stamp::Mask(match kind {
        StampKind::Random => 1 + draws.below(stamp::FULL),
        StampKind::Dot => stamp::DOT,
    })
}

/// What is behind the fractals.
pub(super) fn background(draws: &mut Draws, behind: Behind, colours: Colours) -> Background {
    if behind == Behind::Black {
        return Background::Flat([0; 3]);
    }
    let key = [draws.word(), draws.word()];
    let decay = between(draws, 0.4, 0.8);
    let mut pair = |scale: [f64; 2], shift: [f64; 2]| [between(draws, scale[0], scale[1]), between(draws, shift[0], shift[1])];
    let colours = HeightColours {
        hue: pair([0.25, 1.0], [0.0, 1.0]),
        saturation: pair([0.1, 0.3], [0.4, 0.6]),
        value: pair([0.3, 0.6], [0.4, 0.6]),
        hues: hues(colours),
    };
    Background::Plasma { key, decay, colours }
}

/// How a fractal is turned: each of three ways with the chance of a half.
pub(super) fn orientation(draws: &mut Draws, flips: bool) -> Orientation {
    let word = draws.word();
    let bit = |at: u32| flips && word >> at & 1 == 1;
    Orientation { transpose: bit(0), flip_rows: bit(1), flip_columns: bit(2) }
}

/// The blur of an image, if it is blurred.
pub(super) fn blur(draws: &mut Draws, blur: Blur) -> Option<f32> {
    let (is_blurred, sigma) = (draws.chance(blur.chance.get()), between(draws, blur.sigma.min, blur.sigma.max));
    is_blurred.then_some(sigma)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// In the released code one image in 512 has an empty stamp, and shows nothing.
    #[test]
    fn no_stamp_is_empty_and_all_others_are_drawn() {
        let mut draws = Draws::new(1, [0; 3]);
        let masks: BTreeSet<u32> = (0..20_000)
            .map(|_| match stamp(&mut draws, StampKind::Random) {
                Stamp::Mask(mask) => mask,
                Stamp::Each(_) => panic!("one stamp"),
            })
            .collect();
        assert!(masks.into_iter().eq(1..512));
    }

    #[test]
    fn numbers_are_drawn_from_the_ranges_of_the_original() {
        let mut draws = Draws::new(2, [0; 3]);
        let (mut turned, mut blurred) = ([0; 3], 0);
        for _ in 0..2000 {
            let (_, hsv) = colour(&mut draws, Colours::Hue);
            let [hue, saturation, value] = hsv.expect("a colour");
            assert!((0.0..=1.0).contains(&hue) && (0.3..=1.0).contains(&saturation) && (0.5..=1.0).contains(&value));
            let Background::Plasma { decay, colours, .. } = background(&mut draws, Behind::Plasma, Colours::Hue) else { panic!("plasma") };
            let within = |[scale, shift]: [f32; 2], scales: [f32; 2], shifts: [f32; 2]| {
                (scales[0]..=scales[1]).contains(&scale) && (shifts[0]..=shifts[1]).contains(&shift)
            };
            assert!((0.4..=0.8).contains(&decay) && within(colours.hue, [0.25, 1.0], [0.0, 1.0]));
            assert!(within(colours.saturation, [0.1, 0.3], [0.4, 0.6]) && within(colours.value, [0.3, 0.6], [0.4, 0.6]));
            let Orientation { transpose, flip_rows, flip_columns } = orientation(&mut draws, true);
            [transpose, flip_rows, flip_columns].into_iter().zip(&mut turned).for_each(|(is, n)| *n += u32::from(is));
            blurred += u32::from(blur(&mut draws, Blur::default()).is_some_and(|sigma| (0.5..=1.0).contains(&sigma)));
        }
        // Each with a half: 1,000 with a deviation of 22.
        assert!(turned.iter().chain([&blurred]).all(|n| (890..1110).contains(n)), "{turned:?} {blurred}");
        assert_eq!(orientation(&mut draws, false), Orientation::default());
        let of = |chance| Blur { chance: crate::units::Fraction::new(chance).expect("a fraction"), ..Blur::default() };
        assert!((0..100).all(|_| blur(&mut draws, of(0.0)).is_none() && blur(&mut draws, of(1.0)).is_some()));
        assert_eq!(background(&mut draws, Behind::Black, Colours::Hue), Background::Flat([0; 3]));
    }
}
