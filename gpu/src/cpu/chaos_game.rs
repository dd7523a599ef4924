//! Counts of the points of a chaos game, pixel by pixel: the picture of an iterated function system (IFS) before it is coloured.
//!
//! What is computed here is the definition; SIMD and shader do the same. An orbit is split over [`LANES`] lanes, each a chaos game of its own.
//! Lane `i` starts where map `i mod n_maps` has its start ([`starts`]), takes [`WARM_UP`] steps that nobody sees, and then makes points `i`, `i + 64`,
//! `i + 128`, …. Its random words are those of a xorshift32 generator that Philox seeds, so that a lane's stream is a function of the orbit's
//! `stream` and the lane alone. Coordinates are `f32`; products and sums are rounded one by one (never fused), so that twins can be bit-equal.
//!
//! Source: Barnsley, *Fractals Everywhere*, ch. 3 (the random iteration algorithm); Anderson and Farrell, *Improving Fractal Pre-training*, WACV
//! 2022, and its code github.com/catalys1/fractal-pretraining, `fractals/ifs.py` (choice of maps by area, first point, pixels of a point); Marsaglia,
//! *Xorshift RNGs*, J. Stat. Software 8(14), 2003, §3.1 (shifts 13, 17, 5).

use super::counter_rng::philox;

/// Lanes an orbit is split over.
pub const LANES: usize = 64;
/// Steps of a lane before its first point.
pub const WARM_UP: u32 = 20;
/// A xorshift generator stays at zero for ever, so a lane that is seeded with it takes this instead.
const NO_ZERO: u32 = 0x9E37_79B9;
/// Last word of the counters that lanes are seeded with: `stream` of an orbit may serve for other draws too.
pub(crate) const SEED_DRAWS: u32 = 0x6C61_6E65;

/// One orbit to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Orbit {
    /// The maps, each `a b e c d f`: `x' = a x + b y + e`, `y' = c x + d y + f`. None make no points.
    pub maps: Vec<[f32; 6]>,
    /// Cumulative probability of each map, in `2^-32`: the first map whose weight is above the random word is taken, and the last one where none is. In
    /// ascending order, one for each map ([`weights`]).
    pub weights: Vec<u32>,
    /// Key (two words) and place (two words) of its random numbers.
    pub stream: [u32; 4],
    /// How many points.
    pub points: u32,
    /// What part of the plane is drawn.
    pub window: Window,
}

/// The part of the plane that is drawn, in shares of the extent of the orbit's own points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// How far the centre is moved, along `x` and `y`.
    pub shift: [f32; 2],
    /// By what the extent is multiplied, along `x` and `y`.
    pub scale: [f32; 2],
}

impl Default for Window {
    /// All points and no more.
    fn default() -> Self {
        Self { shift: [0.0; 2], scale: [1.0; 2] }
    }
}

/// How many points of an orbit fell on each pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Rows, and columns.
    pub side: u32,
    /// `[side * side]`, row by row. `x` grows downwards, `y` to the right.
    pub counts: Vec<u32>,
    /// What was drawn: least `x`, least `y`, greatest `x`, greatest `y`. All zero if no point is finite.
    pub region: [f32; 4],
}

/// Draws each orbit on `side * side` pixels.
///
/// Points that are not finite are skipped, as are those outside the window. As in the original, a coordinate is cut to a whole pixel towards zero,
/// so that points up to one pixel outside the low edges fall on them.
///
/// # Panics
/// If an orbit has fewer weights than maps.
pub fn chaos_game(orbits: &[Orbit], side: u32) -> Vec<Histogram> {
    WAYS.iter().find_map(|(_, way)| way(orbits, side)).unwrap_or_else(|| chaos_game_plain(orbits, side))
}

/// A way to draw; nothing where the processor lacks what it needs.
pub type Way = fn(&[Orbit], u32) -> Option<Vec<Histogram>>;

/// The ways to draw, the fastest first. All draw the same.
#[cfg(target_arch = "x86_64")]
pub const WAYS: [(&str, Way); 3] = [
    ("avx512", super::chaos_game_simd::avx512),
    ("avx2", super::chaos_game_simd::avx2),
    ("plain", |orbits, side| Some(chaos_game_plain(orbits, side))),
];

/// The ways to draw, the fastest first. All draw the same.
#[cfg(not(target_arch = "x86_64"))]
pub const WAYS: [(&str, Way); 1] = [("plain", |orbits, side| Some(chaos_game_plain(orbits, side)))];

/// [`chaos_game`], written for reading.
///
/// # Panics
/// If an orbit has fewer weights than maps.
pub fn chaos_game_plain(orbits: &[Orbit], side: u32) -> Vec<Histogram> {
    orbits.iter().map(|orbit| draw_plain(orbit, side)).collect()
}

pub(crate) fn draw_plain(orbit: &Orbit, side: u32) -> Histogram {
    let mut bounds = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
    each_point(orbit, |x, y| {
        bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x), bounds[3].max(y)];
    });
    let frame = Frame::new(bounds, orbit.window, side);
    let mut counts = vec![0; side as usize * side as usize];
    if side > 0 {
        each_point(orbit, |x, y| {
            if let Some(pixel) = frame.pixel(x, y) {
                counts[pixel] += 1;
            }
        });
    }
    Histogram { side, counts, region: frame.region }
}

/// Hands over each finite point, lane after lane: no result depends on their order.
fn each_point(orbit: &Orbit, mut point: impl FnMut(f32, f32)) {
    assert!(orbit.weights.len() >= orbit.maps.len(), "a weight for each map");
    debug_assert!(orbit.weights.is_sorted(), "weights in ascending order");
    if orbit.maps.is_empty() {
        return;
    }
    let starts = starts(orbit);
    for index in 0..LANES {
        let mut lane = Lane::new(orbit, &starts, index);
        for _ in 0..WARM_UP {
            lane.step(orbit);
        }
        for _ in (index..orbit.points as usize).step_by(LANES) {
            lane.step(orbit);
            if lane.x.is_finite() && lane.y.is_finite() {
                point(lane.x, lane.y);
            }
        }
    }
}

/// A lane: where it is, and the state of its generator.
pub(crate) struct Lane {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) state: u32,
}

impl Lane {
    pub(crate) fn new(orbit: &Orbit, starts: &[[f32; 2]], index: usize) -> Self {
        let [x, y] = starts[index % starts.len()];
        Self { x, y, state: lane_seed(orbit.stream, index) }
    }

    #[inline]
    pub(crate) fn step(&mut self, orbit: &Orbit) {
        self.state = xorshift(self.state);
        let last = orbit.maps.len() - 1;
        let map = orbit.weights[..last].iter().position(|&weight| self.state < weight).unwrap_or(last);
        let [a, b, e, c, d, f] = orbit.maps[map];
        (self.x, self.y) = (a * self.x + b * self.y + e, c * self.x + d * self.y + f);
    }
}

/// Steps of the orbit that lanes start from.
const PILOT: usize = 256;
/// An orbit that is so far from the origin does not come back.
const FAR: f32 = 1e9;

/// Where lanes start, one place for each map: points of an orbit of 256 steps and more, from the fixed point of the map that is chosen most often. That of a
/// map itself if that orbit goes away without end.
///
/// The fixed point of a map that is hardly ever chosen is on the attractor, but far from where points are. Where maps contract slowly, 20 steps do not lead
/// back: lanes that start there make the extent too large, and the picture of 2 systems in 100 too sparse (against 5 in 1,000 in the original).
pub(crate) fn starts(orbit: &Orbit) -> Vec<[f32; 2]> {
    let share = |map: usize| orbit.weights[map] - map.checked_sub(1).map_or(0, |before| orbit.weights[before].min(orbit.weights[map]));
    let Some(likely) = (0..orbit.maps.len()).rev().max_by_key(|&map| share(map)) else { return Vec::new() };
    let mut pilot = Lane::new(orbit, &[fixed_point(&orbit.maps[likely])], LANES);
    for _ in 0..PILOT {
        pilot.step(orbit);
    }
    let mut start = |map: &[f32; 6]| {
        pilot.step(orbit);
        if pilot.x.abs() < FAR && pilot.y.abs() < FAR { [pilot.x, pilot.y] } else { fixed_point(map) }
    };
    orbit.maps.iter().map(&mut start).collect()
}

/// The first state of a lane's generator.
pub(crate) fn lane_seed(stream: [u32; 4], lane: usize) -> u32 {
    let block = u32::try_from(lane / 4).expect("64 lanes");
    match philox([stream[0], stream[1]], [block, stream[2], stream[3], SEED_DRAWS])[lane % 4] {
        0 => NO_ZERO,
        seed => seed,
    }
}

/// The next state of a lane's generator, which is also its next random word.
#[inline]
pub(crate) fn xorshift(mut state: u32) -> u32 {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    state
}

/// Where a map leaves a point as it is; the origin if there is no such point or no single one.
#[expect(clippy::cast_possible_truncation, reason = "coordinates are f32")]
pub(crate) fn fixed_point(map: &[f32; 6]) -> [f32; 2] {
    let [a, b, e, c, d, f] = map.map(f64::from);
    let determinant = (1.0 - a) * (1.0 - d) - b * c;
    let point = [((1.0 - d) * e + b * f) / determinant, ((1.0 - a) * f + c * e) / determinant].map(|value| value as f32);
    if point.iter().all(|value| value.is_finite()) { point } else { [0.0; 2] }
}

/// The cumulative weights that choose a map in proportion to the area it keeps, `|a d - b c|`; all alike if none keeps any (or one keeps
/// infinitely much).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32, and Rust's casts saturate")]
pub fn weights(maps: &[[f32; 6]]) -> Vec<u32> {
    let mut areas: Vec<f64> = maps.iter().map(|map| map.map(f64::from)).map(|[a, b, _, c, d, _]| (a * d - b * c).abs()).collect();
    if !(areas.iter().sum::<f64>() > 0.0 && areas.iter().all(|area| area.is_finite())) {
        areas.fill(1.0);
    }
    let total: f64 = areas.iter().sum();
    let mut sum = 0.0;
    let mut weights: Vec<u32> = areas
        .iter()
        .map(|area| {
            sum += area;
            (sum / total * 4_294_967_296.0) as u32
        })
        .collect();
    if let Some(last) = weights.last_mut() {
        *last = u32::MAX;
    }
    weights
}

/// From points to pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Least `x`, least `y`, greatest `x`, greatest `y`.
    pub(crate) region: [f32; 4],
    /// Pixels to a unit of length.
    pub(crate) factor: [f32; 2],
    side: u32,
}

impl Frame {
    /// The frame of a window on points within these bounds.
    pub(crate) fn new(bounds: [f32; 4], window: Window, side: u32) -> Self {
        let [x0, y0, x1, y1] = bounds;
        if x0 > x1 {
            return Self { region: [0.0; 4], factor: [1.0; 2], side };
        }
        let (x, y) = (axis(x0, x1, window.shift[0], window.scale[0]), axis(y0, y1, window.shift[1], window.scale[1]));
        let factor = |[low, high]: [f32; 2]| {
            let span = high - low;
            (side as f32 - 1.0) / if span == 0.0 { 1.0 } else { span }
        };
        Self { region: [x[0], y[0], x[1], y[1]], factor: [factor(x), factor(y)], side }
    }

    /// The pixel of a point, if it is inside.
    #[inline]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between -1 and the side, and cut towards zero")]
    pub(crate) fn pixel(&self, x: f32, y: f32) -> Option<usize> {
        let (row, column) = ((x - self.region[0]) * self.factor[0], (y - self.region[1]) * self.factor[1]);
        let side = self.side as f32;
        (row > -1.0 && row < side && column > -1.0 && column < side).then(|| row as usize * self.side as usize + column as usize)
    }
}

/// One axis of a window.
#[expect(clippy::float_cmp, reason = "only exactly the whole is the whole")]
fn axis(low: f32, high: f32, shift: f32, scale: f32) -> [f32; 2] {
    // The window that shows all is exactly the bounds, whatever rounding would make of them. Zero is added so that no result is -0: which zero is the
    // lesser one depends on the order of points.
    if shift == 0.0 && scale == 1.0 {
        return [low + 0.0, high + 0.0];
    }
    let (span, centre) = (high - low, (low + high) * 0.5);
    let (centre, half) = (centre + shift * span, span * scale * 0.5);
    [centre - half + 0.0, centre + half + 0.0]
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact")]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn orbit(maps: &[[f32; 6]], points: u32) -> Orbit {
        Orbit { maps: maps.to_vec(), weights: weights(maps), stream: [1, 2, 3, 4], points, window: Window::default() }
    }

    /// Three maps to half the size.
    pub(crate) const SIERPINSKI: [[f32; 6]; 3] =
        [[0.5, 0.0, 0.0, 0.0, 0.5, 0.0], [0.5, 0.0, 0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5, 0.5]];

    #[test]
    fn maps_are_chosen_by_the_area_they_keep() {
        assert_eq!(weights(&SIERPINSKI), [0x5555_5555, 0xAAAA_AAAA, u32::MAX]);
        // Areas 0.25 (mirrored) and 0.75.
        assert_eq!(weights(&[[-0.5, 0.0, 0.0, 0.0, 0.5, 0.0], [0.75, 0.0, 1.0, 0.0, 1.0, 0.0]]), [0x4000_0000, u32::MAX]);
        let flat = [[0.5, 0.0, 0.0, 0.0, 0.0, 0.0]; 2];
        assert_eq!(weights(&flat), [0x8000_0000, u32::MAX]);
        assert_eq!(weights(&[[f32::INFINITY; 6], [1.0; 6]]), [0x8000_0000, u32::MAX]);
        assert!(weights(&[]).is_empty());
    }

    #[test]
    fn a_fixed_point_stays_where_it_is() {
        let map = [0.5, -0.25, 1.0, 0.125, 0.75, -2.0];
        let [x, y] = fixed_point(&map);
        assert!((0.5 * x - 0.25 * y + 1.0 - x).abs() < 1e-5 && (0.125 * x + 0.75 * y - 2.0 - y).abs() < 1e-5, "{x} {y}");
        assert_eq!(fixed_point(&[1.0, 0.0, 3.0, 0.0, 1.0, 0.0]), [0.0; 2], "a shift has none");
    }

    #[test]
    fn the_gasket_has_its_holes_and_equal_thirds() {
        // 128 pixels to the unit, so that pixel 64 begins at a half.
        let drawn = &chaos_game_plain(&[orbit(&SIERPINSKI, 100_000)], 129)[0];
        // The attractor's extent is the unit square; the corners are reached but for what 1,500 steps leave out.
        assert!(
            drawn.region[..2].iter().all(|low| (0.0..0.001).contains(low))
                && drawn.region[2..].iter().all(|high| (0.999..=1.0).contains(high))
        );
        assert_eq!(drawn.counts.iter().sum::<u32>(), 100_000, "no point is outside its own bounds");
        let quarter = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| -> u32 {
            rows.flat_map(|row| columns.clone().map(move |column| row * 129 + column)).map(|pixel| drawn.counts[pixel]).sum()
        };
        for share in [quarter(0..64, 0..64), quarter(64..129, 0..64), quarter(0..64, 64..129)] {
            // A third of 100,000 with a standard deviation of 149, and what the greatest coordinates, a bit below 1, move over the middle.
            assert!((33_333 - 2000..33_333 + 2000).contains(&share), "{share}");
        }
        // x + y <= 1 on the gasket: the fourth quarter has its corner at most.
        assert_eq!(quarter(66..129, 66..129), 0);
    }

    #[test]
    fn one_map_is_one_pixel_and_no_points_are_none() {
        let one = [[0.5, 0.0, 1.0, 0.0, 0.5, 1.0]];
        let drawn = &chaos_game_plain(&[orbit(&one, 1000)], 8)[0];
        // All points are the fixed point (2, 2): no extent, so pixel (0, 0).
        assert_eq!((drawn.counts[0], drawn.region), (1000, [2.0; 4]));
        let none = &chaos_game_plain(&[orbit(&one, 0), orbit(&[], 10)], 8);
        assert!(none.iter().all(|drawn| drawn.counts == [0; 64] && drawn.region == [0.0; 4]));
        assert!(chaos_game_plain(&[], 8).is_empty());
    }

    #[test]
    fn points_that_are_not_finite_are_skipped() {
        // Doubles at every step: past f32 after some 128 steps.
        let bursting = [[2.0, 0.0, 1.0, 0.0, 0.5, 0.0], [2.0, 0.0, 2.0, 0.0, 0.5, 1.0]];
        let drawn = &chaos_game_plain(&[orbit(&bursting, 64 * 200)], 8)[0];
        assert!(drawn.region.iter().all(|edge| edge.is_finite()) || drawn.counts.iter().all(|&count| count == 0), "{drawn:?}");
        assert!(drawn.counts.iter().sum::<u32>() < 64 * 128);
    }

    #[test]
    fn a_window_moves_and_stretches_the_region() {
        let whole = &chaos_game_plain(&[orbit(&SIERPINSKI, 10_000)], 64)[0];
        let window = Window { shift: [0.25, 0.0], scale: [1.0, 2.0] };
        let moved = &chaos_game_plain(&[Orbit { window, ..orbit(&SIERPINSKI, 10_000) }], 64)[0];
        let (width, height) = (whole.region[2] - whole.region[0], whole.region[3] - whole.region[1]);
        let want = [
            whole.region[0] + 0.25 * width,
            whole.region[1] - 0.5 * height,
            whole.region[2] + 0.25 * width,
            whole.region[3] + 0.5 * height,
        ];
        assert!(moved.region.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-5), "{:?} {want:?}", moved.region);
        // The picture takes the middle half of the columns; the upper quarter of it is cut off.
        assert!(moved.counts.chunks(64).all(|row| row[..15].iter().chain(&row[49..]).all(|&count| count == 0)));
        assert!(moved.counts.iter().sum::<u32>() < 10_000);
    }

    #[test]
    fn lanes_have_streams_of_their_own() {
        let seeds: Vec<u32> = (0..LANES).map(|lane| lane_seed([1, 2, 3, 4], lane)).collect();
        assert_eq!(seeds[5], philox([1, 2], [1, 3, 4, SEED_DRAWS])[1]);
        assert_eq!(seeds.iter().collect::<std::collections::BTreeSet<_>>().len(), LANES);
        assert_eq!(xorshift(1), 270_369, "the first number of xorshift32 seeded with 1");
    }

    #[test]
    fn choices_that_follow_each_other_are_independent() {
        // Pairs of choices among four, over all lanes: 16 cells of 6,250 each. Chi-square with 15 degrees is above 45 with odds of 1 in 13,000.
        let mut pairs = [0_f64; 16];
        for lane in 0..LANES {
            let mut state = lane_seed([9, 8, 7, 6], lane);
            for _ in 0..1562 {
                let first = state >> 30;
                state = xorshift(state);
                pairs[(first * 4 + (state >> 30)) as usize] += 1.0;
            }
        }
        let want = pairs.iter().sum::<f64>() / 16.0;
        let chi_square: f64 = pairs.iter().map(|count| (count - want).powi(2) / want).sum();
        assert!(chi_square < 45.0, "{chi_square} {pairs:?}");
    }
}
