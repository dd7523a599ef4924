//! Iterated function systems: how their maps are drawn, and how they are changed a little.
//!
//! Source: Anderson and Farrell, *Improving Fractal Pre-training*, WACV 2022, and its code github.com/catalys1/fractal-pretraining
//! (`fractals/ifs.py`, `training/datamodule/datasets/generator.py`); for the search and the variants of `FractalDB`, Kataoka et al.,
//! *Pre-training without Natural Images*, ACCV 2020, and its code github.com/hirokatsukataoka16/FractalDB-Pretrained-ResNet-PyTorch.

use gpu::cpu::chaos_game::{Orbit, Window, chaos_game, weights};
use gpu::cpu::counter_rng::Draws;
use xxhash_rust::xxh3::xxh3_64;

use super::settings::Jitter;

/// A map, `a b e c d f`: `x' = a x + b y + e`, `y' = c x + d y + f`.
pub(super) type Map = [f64; 6];

/// The key of all draws of a stage.
pub(super) fn key_of(seed: u64, stage_id: &str) -> u64 {
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend_from_slice(stage_id.as_bytes());
    xxh3_64(&bytes)
}

/// The singular values of a map, the greater one first.
pub(super) fn singular_values(map: &Map) -> [f64; 2] {
    let [a, b, _, c, d, _] = *map;
    let (turning, mirroring) = ((a + d).hypot(c - b) / 2.0, (a - d).hypot(b + c) / 2.0);
    [turning + mirroring, (turning - mirroring).abs()]
}

/// The sigma-factor of a system: of all maps, the greater singular value and twice the lesser one.
pub(super) fn sigma_factor(maps: &[Map]) -> f64 {
    maps.iter().map(singular_values).map(|[s1, s2]| s1 + 2.0 * s2).sum()
}

/// A map in parts: `R(theta) diag(sign_u) diag(s1, s2) R(phi) diag(sign_v)`, and a shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parts {
    pub theta: f64,
    pub phi: f64,
    pub s1: f64,
    pub s2: f64,
    pub sign_u: [i8; 2],
    pub sign_v: [i8; 2],
    pub shift: [f64; 2],
}

impl Parts {
    /// The map.
    pub(super) fn map(&self) -> Map {
        let (left, right) = (rotation(self.theta), rotation(self.phi));
        let [u1, u2] = [f64::from(self.sign_u[0]) * self.s1, f64::from(self.sign_u[1]) * self.s2];
        let [v1, v2] = self.sign_v.map(f64::from);
        let element = |row: usize, column: usize| {
            let sign = if column == 0 { v1 } else { v2 };
            (left[row][0] * u1 * right[0][column] + left[row][1] * u2 * right[1][column]) * sign
        };
        [element(0, 0), element(0, 1), self.shift[0], element(1, 0), element(1, 1), self.shift[1]]
    }
}

fn rotation(angle: f64) -> [[f64; 2]; 2] {
    let (sin, cos) = angle.sin_cos();
    [[cos, -sin], [sin, cos]]
}

/// Singular values of `n` maps with `sum(s1 + 2 s2) = alpha` and `0 <= s2 <= s1 <= 1`, one map after the other; `between(low, high)` draws. An `alpha` that no maps
/// have, below 0 or above `3 n`, is taken as the nearest that they can have.
pub(super) fn values_in_sequence(n: usize, alpha: f64, mut between: impl FnMut(f64, f64) -> f64) -> Vec<[f64; 2]> {
    let alpha = alpha.clamp(0.0, 3.0 * n as f64);
    // What is left for this map and those after it, and the least that this one has to take of it.
    let (mut left, mut least) = (alpha, alpha - 3.0 * n as f64 + 3.0);
    // Bounds can pass each other by a rounding.
    let mut draw = |low: f64, high: f64| between(low.min(high), high).min(high);
    let mut values = Vec::with_capacity(n);
    for _ in 1..n {
        let s1 = draw((least / 3.0).max(0.0), left.min(1.0));
        (left, least) = (left - s1, least - s1);
        let s2 = draw((least / 2.0).max(0.0), s1.min(left / 2.0));
        (left, least) = (left - 2.0 * s2, least - 2.0 * s2 + 3.0);
        values.push([s1, s2]);
    }
    let s2 = draw(((left - 1.0) / 2.0).max(0.0), left / 3.0);
    values.push([(left - 2.0 * s2).min(1.0), s2]);
    values
}

/// Tries of [`values_by_rejection`].
const TRIES: usize = 1000;

/// The same, each choice as likely as any other; `unit()` draws from 0 to 1. `None` if none of 1,000 tries fits.
pub(super) fn values_by_rejection(n: usize, alpha: f64, mut unit: impl FnMut() -> f64) -> Option<Vec<[f64; 2]>> {
    let alpha = alpha.clamp(0.0, 3.0 * n as f64);
    for _ in 0..TRIES {
        let mut values: Vec<[f64; 2]> = (1..n)
            .map(|_| {
                let (a, b) = (unit(), unit());
                [a.max(b), a.min(b)]
            })
            .collect();
        let s1 = unit();
        let s2 = (alpha - s1 - values.iter().map(|[s1, s2]| s1 + 2.0 * s2).sum::<f64>()) / 2.0;
        if (0.0..=s1).contains(&s2) {
            values.push([s1, s2]);
            return Some(values);
        }
    }
    None
}

/// The angles, signs and shift of a map with these singular values.
pub(super) fn draw_parts(draws: &mut Draws, [s1, s2]: [f64; 2], translation: f64) -> Parts {
    use std::f64::consts::PI;
    let (theta, phi) = (draws.between(-PI, PI), draws.between(-PI, PI));
    let signs = draws.word();
    let sign = |bit: u32| if signs >> bit & 1 == 1 { 1 } else { -1 };
    let shift = [draws.between(-translation, translation), draws.between(-translation, translation)];
    Parts { theta, phi, s1, s2, sign_u: [sign(0), sign(1)], sign_v: [sign(2), sign(3)], shift }
}

/// Maps whose six numbers are drawn from -1 to 1: the search of `FractalDB`, which does not ask whether they contract.
pub(super) fn draw_freely(draws: &mut Draws, n: usize) -> Vec<Map> {
    (0..n).map(|_| [(); 6].map(|()| draws.between(-1.0, 1.0))).collect()
}

/// How far from the origin a point may go before its system counts as one that expands.
const FAR: f64 = 1e9;
/// Steps that are looked at for it.
const STEPS: usize = 2000;

/// Whether the points of a system go away without end; seen from 2,000 steps of a chaos game.
pub(super) fn expands(maps: &[Map]) -> bool {
    // Maps that contract cannot, and most do.
    if maps.iter().all(|map| singular_values(map)[0] < 1.0) {
        return false;
    }
    let weights = weights(&single(maps));
    let mut draws = Draws::new(0, [0; 3]);
    let (mut x, mut y) = (0.0_f64, 0.0_f64);
    for _ in 0..STEPS {
        let word = draws.word();
        let map = weights.iter().position(|weight| word < *weight).unwrap_or(maps.len() - 1);
        let [a, b, e, c, d, f] = maps[map];
        (x, y) = (a * x + b * y + e, c * x + d * y + f);
        if !(x.abs() < FAR && y.abs() < FAR) {
            return true;
        }
    }
    false
}

/// The maps as kernels have them.
#[expect(clippy::cast_possible_truncation, reason = "kernels work in f32")]
pub(super) fn single(maps: &[Map]) -> Vec<[f32; 6]> {
    maps.iter().map(|map| map.map(|value| value as f32)).collect()
}

/// The random stream of an orbit.
pub(super) fn stream(key: u64, place: [u32; 2]) -> [u32; 4] {
    let [low, high] = halves(key);
    [low, high, place[0], place[1]]
}

/// The lower and the upper half.
#[expect(clippy::cast_possible_truncation, reason = "halves")]
pub(super) fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// How a system is looked at to see how dense it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Density {
    pub side: u32,
    pub points: u32,
    /// Pixels on each side that nothing is drawn on.
    pub margin: u32,
}

impl Density {
    /// As the released code of Anderson and Farrell does it.
    pub(super) const SVD: Self = Self { side: 256, points: 50_000, margin: 0 };
    /// As the search of `FractalDB` does it.
    pub(super) const FRACTALDB: Self = Self { side: 512, points: 100_000, margin: 6 };

    /// The share of pixels that some point falls on.
    pub(super) fn of(&self, maps: &[Map], stream: [u32; 4]) -> f64 {
        let maps = single(maps);
        let orbit =
            Orbit { weights: weights(&maps), maps, stream, points: self.points, window: window_with_margin(self.side, self.margin) };
        let drawn = chaos_game(std::slice::from_ref(&orbit), self.side);
        let counts = drawn.iter().flat_map(|drawn| &drawn.counts);
        counts.filter(|count| **count > 0).count() as f64 / f64::from(self.side * self.side)
    }
}

/// The window that leaves so many pixels free on each side.
pub(super) fn window_with_margin(side: u32, margin: u32) -> Window {
    let side = side as f32 - 1.0;
    Window { shift: [0.0; 2], scale: [side / (side - 2.0 * margin as f32); 2] }
}

/// Tries of a jitter before the system is left as it is.
const JITTER_TRIES: usize = 4;

/// The maps changed a little; as they are if each of four tries would make a map stretch a direction that stretched none, or stretch more than before.
pub(super) fn jittered(maps: &[Map], jitter: Jitter, draws: &mut Draws) -> Vec<Map> {
    if jitter == Jitter::None || maps.is_empty() {
        return maps.to_vec();
    }
    for _ in 0..JITTER_TRIES {
        let changed = changed(maps.to_vec(), jitter, draws);
        let greatest = |map: &Map| singular_values(map)[0];
        if changed.iter().zip(maps).all(|(map, before)| greatest(map) <= greatest(before).max(1.0)) {
            return changed;
        }
    }
    maps.to_vec()
}

fn changed(mut maps: Vec<Map>, jitter: Jitter, draws: &mut Draws) -> Vec<Map> {
    let one = |draws: &mut Draws, n: usize| draws.below(u32::try_from(n).unwrap_or(u32::MAX)) as usize;
    let n = maps.len();
    match jitter {
        Jitter::None => {}
        Jitter::Scale => {
            let (map, factor) = (one(draws, n), draws.between(0.8, 1.1));
            maps[map].iter_mut().for_each(|value| *value *= factor);
        }
        Jitter::Fractaldb(step) => {
            let step = step.get();
            // One factor for all maps, as in the original.
            let factor = 1.0 + step * (f64::from(draws.below(5)) - 2.0);
            for map in &mut maps {
                map[one(draws, 6)] *= factor;
            }
        }
        Jitter::Svd => {
            let map = &mut maps[one(draws, n)];
            match draws.below(3) {
                // The singular vectors of one side turned: A = U S V becomes R U S V, or U S R V, which is U S V turned from the right.
                0 => *map = turned(*map, draws.between(-0.5, 0.5), true),
                1 => *map = turned(*map, draws.between(-0.5, 0.5), false),
                _ => {
                    map[2] += draws.between(-0.5, 0.5);
                    map[5] += draws.between(-0.5, 0.5);
                }
            }
        }
        Jitter::SingularValues => {
            let map = one(draws, n);
            let [s1, s2] = singular_values(&maps[map]);
            let own = s1 + 2.0 * s2;
            let others = sigma_factor(&maps) - own;
            let low = f64::midpoint(5.0, n as f64);
            let sum = draws.between((low - others).max(0.0), (low + 0.5 - others).max(0.0));
            if own > 0.0 {
                [0, 1, 3, 4].into_iter().for_each(|at| maps[map][at] *= sum / own);
            }
        }
    }
    maps
}

fn turned([a, b, e, c, d, f]: Map, angle: f64, from_left: bool) -> Map {
    let [[cos, minus_sin], [sin, _]] = rotation(angle);
    if from_left {
        [cos * a + minus_sin * c, cos * b + minus_sin * d, e, sin * a + cos * c, sin * b + cos * d, f]
    } else {
        [a * cos + b * sin, a * minus_sin + b * cos, e, c * cos + d * sin, c * minus_sin + d * cos, f]
    }
}

/// Variants of a system in `FractalDB`: the system itself, then for each of its six numbers four factors, applied in all maps.
pub(super) const VARIANTS: u64 = 25;

/// A variant; `step` is 0.4 for the factors 0.2, 0.6, 1.4, 1.8, and 0.1 for 0.8, 0.9, 1.1, 1.2.
pub(super) fn variant(maps: &[Map], variant: u64, step: f64) -> Vec<Map> {
    /// Where `FractalDB`'s `a b c d e f` stand in a map.
    const PLACES: [usize; 6] = [0, 1, 3, 4, 2, 5];
    const STEPS: [f64; 4] = [-2.0, -1.0, 1.0, 2.0];
    let mut maps = maps.to_vec();
    if let Some(at) = variant.checked_sub(1).and_then(|at| usize::try_from(at % (VARIANTS - 1)).ok()) {
        maps.iter_mut().for_each(|map| map[PLACES[at / 4]] *= 1.0 + step * STEPS[at % 4]);
    }
    maps
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is not changed is the same to the last bit")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::Fraction;

    fn middle(low: f64, high: f64) -> f64 {
        f64::midpoint(low, high)
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn singular_values_drawn_at_the_middle_are_these() {
        let values = values_in_sequence(2, 3.6, middle);
        let want = [[0.6, 0.3], [0.9, 0.75]];
        assert!(values.concat().iter().zip(want.concat()).all(|(got, want)| near(*got, want)), "{values:?}");
    }

    /// The released code compares here instead of assigning, and gives singular values above 1.
    #[test]
    fn a_sigma_factor_that_no_maps_have_is_the_nearest_they_can_have() {
        assert_eq!(values_in_sequence(2, 7.0, middle), [[1.0; 2]; 2]);
        assert_eq!(values_in_sequence(2, -1.0, middle), [[0.0; 2]; 2]);
        assert_eq!(values_by_rejection(1, 9.0, || 1.0), Some(vec![[1.0; 2]]));
        assert_eq!(values_by_rejection(2, 5.9, || 0.5), None, "1,000 tries and no more");
    }

    proptest! {
        #[test]
        fn singular_values_are_within_bounds_and_add_up(n in 1_usize..9, share in 0.0..=1.0_f64, seed: u64) {
            let alpha = share * 3.0 * n as f64;
            let mut draws = Draws::new(seed, [1; 3]);
            let values = values_in_sequence(n, alpha, |low, high| draws.between(low, high));
            let tried = values_by_rejection(n, alpha, || draws.unit());
            for values in [Some(values), tried].into_iter().flatten() {
                prop_assert_eq!(values.len(), n);
                prop_assert!(values.iter().all(|[s1, s2]| 0.0 <= *s2 && *s2 <= s1 + 1e-12 && *s1 <= 1.0), "{:?}", values);
                let sum: f64 = values.iter().map(|[s1, s2]| s1 + 2.0 * s2).sum();
                prop_assert!((sum - alpha).abs() < 1e-9, "{} for {}", sum, alpha);
            }
        }

        #[test]
        fn a_map_has_the_singular_values_it_is_made_of(seed: u64) {
            let mut draws = Draws::new(seed, [2; 3]);
            let s1 = draws.unit();
            let s2 = draws.between(0.0, s1);
            let parts = draw_parts(&mut draws, [s1, s2], 1.0);
            let map = parts.map();
            let [got1, got2] = singular_values(&map);
            prop_assert!((got1 - s1).abs() < 1e-9 && (got2 - s2).abs() < 1e-9, "{:?}", parts);
            // What it keeps of an area, with the sign of how often it mirrors.
            let mirrors: i8 = parts.sign_u.iter().chain(&parts.sign_v).product();
            prop_assert!((map[0] * map[4] - map[1] * map[3] - f64::from(mirrors) * s1 * s2).abs() < 1e-9);
            prop_assert_eq!([map[2], map[5]], parts.shift);
        }

        #[test]
        fn no_jitter_makes_a_map_that_stretches(seed: u64, n in 2_usize..5) {
            let mut draws = Draws::new(seed, [3; 3]);
            let alpha = draws.between(f64::midpoint(5.0, n as f64), f64::midpoint(6.0, n as f64));
            let values = values_in_sequence(n, alpha, |low, high| draws.between(low, high));
            let maps: Vec<Map> = values.into_iter().map(|values| draw_parts(&mut draws, values, 1.0).map()).collect();
            for jitter in jitters() {
                let changed = jittered(&maps, jitter, &mut draws);
                prop_assert_eq!(changed.len(), n);
                prop_assert!(changed.iter().all(|map| singular_values(map)[0] <= 1.0 + 1e-12), "{:?}", jitter);
            }
        }
    }

    fn jitters() -> [Jitter; 5] {
        let tenth = Fraction::new(0.1).expect("a fraction");
        [Jitter::None, Jitter::Scale, Jitter::Fractaldb(tenth), Jitter::Svd, Jitter::SingularValues]
    }

    /// Contracts by far, so that every jitter is taken.
    const SMALL: [Map; 3] = [[0.3, 0.1, 0.5, -0.1, 0.2, -0.5], [0.2, 0.0, -0.3, 0.1, 0.3, 0.4], [0.1, 0.2, 0.1, -0.2, 0.1, 0.2]];

    #[test]
    fn each_jitter_changes_what_it_says() {
        let mut draws = Draws::new(4, [0; 3]);
        for round in 0..200 {
            let [none, scaled, fractaldb, svd, _] = jitters().map(|jitter| jittered(&SMALL, jitter, &mut draws));
            assert_eq!(none, SMALL);
            let differ = |maps: &[Map]| maps.iter().zip(&SMALL).filter(|(a, b)| a != b).count();
            let at = scaled.iter().zip(&SMALL).position(|(a, b)| a != b).expect("one map is scaled");
            let factor = scaled[at][0] / SMALL[at][0];
            assert!(differ(&scaled) == 1 && (0.8..=1.1).contains(&factor), "{factor}");
            assert!(scaled[at].iter().zip(&SMALL[at]).all(|(a, b)| near(*a, factor * b)), "all six numbers, round {round}");
            let factors: Vec<f64> = fractaldb
                .iter()
                .zip(&SMALL)
                .flat_map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).map(|(a, b)| a / b).collect::<Vec<_>>())
                .collect();
            assert!(
                factors.len() <= 3 && factors.iter().all(|factor| near(*factor, factors[0])),
                "one number a map, one factor: {factors:?}"
            );
            assert!(factors.iter().all(|factor| [0.8, 0.9, 1.1, 1.2].iter().any(|known| near(*factor, *known))), "{factors:?}");
            let at = svd.iter().zip(&SMALL).position(|(a, b)| a != b).expect("one map is turned or shifted");
            let (before, after) = (singular_values(&SMALL[at]), singular_values(&svd[at]));
            assert!(differ(&svd) == 1 && before.iter().zip(after).all(|(a, b)| near(*a, b)), "singular values stay");
        }
    }

    #[test]
    fn rescaled_singular_values_bring_the_sigma_factor_into_its_band() {
        let mut draws = Draws::new(5, [0; 3]);
        let mut inside = 0;
        for _ in 0..300 {
            let values = values_in_sequence(3, draws.between(4.0, 4.5), |low, high| draws.between(low, high));
            let maps: Vec<Map> = values.into_iter().map(|values| draw_parts(&mut draws, values, 1.0).map()).collect();
            let factor = sigma_factor(&jittered(&maps, Jitter::SingularValues, &mut draws));
            assert!((4.0 - 1e-9..=4.5 + 1e-9).contains(&factor), "{factor}");
            inside += usize::from((factor - sigma_factor(&maps)).abs() > 1e-6);
        }
        assert!(inside > 200, "{inside} of 300 were changed at all");
    }

    #[test]
    fn turning_is_by_rotation() {
        // A quarter turn of a stretch along x, from either side.
        let stretch = [0.5, 0.0, 7.0, 0.0, 0.25, 8.0];
        let quarter = std::f64::consts::FRAC_PI_2;
        let left = turned(stretch, quarter, true);
        let right = turned(stretch, quarter, false);
        let is = |got: Map, want: Map| got.iter().zip(want).all(|(got, want)| near(*got, want));
        assert!(is(left, [0.0, -0.25, 7.0, 0.5, 0.0, 8.0]), "{left:?}");
        assert!(is(right, [0.0, -0.5, 7.0, 0.25, 0.0, 8.0]), "{right:?}");
    }

    #[test]
    fn systems_that_expand_are_seen_and_those_that_contract_on_the_whole_are_not() {
        assert!(expands(&[[2.0, 0.0, 1.0, 0.0, 2.0, 0.0]; 2]));
        assert!(expands(&[[f64::MAX, 0.0, 1.0, 0.0, 2.0, 0.0]]));
        assert!(!expands(&SMALL));
        // Stretches one way by a tenth and shrinks by far more in turn.
        assert!(!expands(&[[1.1, 0.0, 1.0, 0.0, 0.5, 0.0], [0.2, 0.0, 0.0, 0.0, 0.9, 0.5]]));
    }

    #[test]
    fn variants_scale_one_number_in_all_maps() {
        assert_eq!(variant(&SMALL, 0, 0.4), SMALL);
        let first = variant(&SMALL, 1, 0.4);
        assert!(first.iter().zip(&SMALL).all(|(got, map)| near(got[0], 0.2 * map[0]) && got[1..] == map[1..]));
        // The last is `f` by 1.8; the seventeenth to twentieth are `e`, which stands third in a map.
        assert!(variant(&SMALL, 24, 0.4).iter().zip(&SMALL).all(|(got, map)| near(got[5], 1.8 * map[5]) && got[..5] == map[..5]));
        assert!(variant(&SMALL, 18, 0.1).iter().zip(&SMALL).all(|(got, map)| near(got[2], 0.9 * map[2]) && got[3..] == map[3..]));
        let all: std::collections::BTreeSet<String> = (0..VARIANTS).map(|at| format!("{:?}", variant(&SMALL, at, 0.4))).collect();
        assert_eq!(all.len(), 25);
    }

    #[test]
    fn a_margin_is_left_free() {
        let square = [
            [0.5, 0.0, 0.0, 0.0, 0.5, 0.0],
            [0.5, 0.0, 0.5, 0.0, 0.5, 0.0],
            [0.5, 0.0, 0.0, 0.0, 0.5, 0.5],
            [0.5, 0.0, 0.5, 0.0, 0.5, 0.5],
        ];
        let drawn = Density { side: 32, points: 100_000, margin: 6 }.of(&square, [1, 2, 3, 4]);
        // Nineteen steps of 31 in each direction; few points are as far out as the twentieth pixel.
        assert!((19.0 * 19.0..=20.0 * 20.0).contains(&(drawn * 1024.0)), "{drawn}");
    }
}
