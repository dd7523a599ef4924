//! [`super::chaos_game`] with AVX2 or AVX-512: the same picture bit for bit, fifteen to twenty-five times as fast.
//!
//! A vector holds as many lanes of the orbit, and four of them are stepped at a time, so that one's latency hides the others'. The maps' numbers
//! are looked up in vectors by permutation. The points are made twice, for their bounds and for their pixels: to keep them took as long, and 8
//! bytes a point. Counting into bytes that carry over did not pay (224 by 224 words are at home in the second cache), nor did loops of their own
//! for each number of maps.
//!
//! No closure here has a vector instruction in it: a closure that is handed to a function of the standard library has not the features of the
//! function it is written in, and each of its instructions becomes a call.
#![expect(unsafe_code, reason = "vector instructions; each is called only where the processor has it")]
#![expect(clippy::inline_always, reason = "what is not inlined has not the instructions")]

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512i, _CMP_GT_OQ, _CMP_LT_OQ, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_blendv_epi8,
    _mm256_castps_si256, _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_cvttps_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps,
    _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi32, _mm256_permutevar8x32_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _mm256_xor_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_cmp_ps_mask, _mm512_cmpge_epu32_mask, _mm512_cvttps_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_add_epi32,
    _mm512_mask_mov_epi32, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_permutexvar_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
    _mm512_xor_si512,
};

use super::chaos_game::{Frame, Histogram, LANES, Lane, Orbit, WARM_UP, draw_plain, starts};

/// Vectors that are stepped at a time.
const ABREAST: usize = 4;
/// Most pixels across: their number must be an `i32`.
const MOST_SIDE: u32 = 1 << 15;

/// The pictures by AVX2, if the processor has it.
pub(crate) fn avx2(orbits: &[Orbit], side: u32) -> Option<Vec<Histogram>> {
    // SAFETY: the processor has AVX2.
    is_x86_feature_detected!("avx2").then(|| orbits.iter().map(|orbit| unsafe { draw_avx2(orbit, side) }).collect())
}

/// The pictures by AVX-512, if the processor has it.
pub(crate) fn avx512(orbits: &[Orbit], side: u32) -> Option<Vec<Histogram>> {
    // SAFETY: the processor has the foundation of AVX-512.
    is_x86_feature_detected!("avx512f").then(|| orbits.iter().map(|orbit| unsafe { draw_avx512(orbit, side) }).collect())
}

#[target_feature(enable = "avx2")]
fn draw_avx2(orbit: &Orbit, side: u32) -> Histogram {
    // SAFETY: this function has the instructions.
    unsafe { draw::<Avx2>(orbit, side) }
}

#[target_feature(enable = "avx512f")]
fn draw_avx512(orbit: &Orbit, side: u32) -> Histogram {
    // SAFETY: this function has the instructions.
    unsafe { draw::<Avx512>(orbit, side) }
}

/// What a vector can do. Each method must be called only where the processor has the instructions, and slices must have `WIDTH` numbers.
trait Vector {
    /// Numbers of a vector, and most maps that can be looked up.
    const WIDTH: usize;
    type Float: Copy;
    type Word: Copy;

    unsafe fn floats(from: &[f32]) -> Self::Float;
    unsafe fn words(from: &[u32]) -> Self::Word;
    unsafe fn write_floats(value: Self::Float, to: &mut [f32]);
    unsafe fn write_words(value: Self::Word, to: &mut [u32]);
    unsafe fn all(value: f32) -> Self::Float;
    unsafe fn all_words(value: u32) -> Self::Word;
    unsafe fn add(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn sub(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn min(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn max(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn xorshift(state: Self::Word) -> Self::Word;
    /// What `reached` compares with.
    unsafe fn threshold(value: u32) -> Self::Word;
    /// How many of the thresholds each word reaches.
    unsafe fn reached(word: Self::Word, thresholds: &[Self::Word]) -> Self::Word;
    /// Numbers of a table by their place.
    unsafe fn pick(table: Self::Float, places: Self::Word) -> Self::Float;
    /// `row * side + column`, cut to whole numbers; `outside` where one is not above -1 and below the side.
    unsafe fn pixels(row: Self::Float, column: Self::Float, side: Self::Float, side_words: Self::Word, outside: Self::Word) -> Self::Word;
}

/// # Safety
/// The function it becomes part of has the instructions of `V`.
#[inline(always)]
unsafe fn draw<V: Vector>(orbit: &Orbit, side: u32) -> Histogram {
    let maps = orbit.maps.len();
    if maps == 0 || maps > V::WIDTH || side == 0 || side > MOST_SIDE || orbit.weights.len() < maps {
        return draw_plain(orbit, side);
    }
    // SAFETY: as this function's.
    unsafe {
        let players = Players::<V>::new(orbit);
        let infinite = [V::all(f32::INFINITY), V::all(f32::NEG_INFINITY)];
        let mut bounds = Bounds::<V> {
            low: [infinite[0]; 2],
            high: [infinite[1]; 2],
            rest: [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
        };
        if !players.play(&mut bounds) {
            return draw_plain(orbit, side);
        }
        let frame = Frame::new(bounds.all(), orbit.window, side);
        // One more than there are pixels, for points outside: cheaper than a branch.
        let mut counts = vec![0; side as usize * side as usize + 1];
        let mut counter = Counter::<V> {
            frame,
            low: [V::all(frame.region[0]), V::all(frame.region[1])],
            factor: [V::all(frame.factor[0]), V::all(frame.factor[1])],
            side: V::all(side as f32),
            side_words: V::all_words(side),
            outside: V::all_words(side * side),
            counts: &mut counts,
        };
        players.play(&mut counter);
        counts.pop();
        Histogram { side, counts, region: frame.region }
    }
}

/// What is done with the points.
trait Sink<V: Vector> {
    /// # Safety
    /// As [`draw`].
    unsafe fn take(&mut self, x: &[V::Float; ABREAST], y: &[V::Float; ABREAST]);
    /// A point of a lane that has one more than others.
    fn take_one(&mut self, x: f32, y: f32);
}

/// The bounds of the points.
struct Bounds<V: Vector> {
    low: [V::Float; 2],
    high: [V::Float; 2],
    rest: [f32; 4],
}

impl<V: Vector> Sink<V> for Bounds<V> {
    #[inline(always)]
    unsafe fn take(&mut self, x: &[V::Float; ABREAST], y: &[V::Float; ABREAST]) {
        // SAFETY: as this function's.
        unsafe {
            for vector in 0..ABREAST {
                self.low = [V::min(self.low[0], x[vector]), V::min(self.low[1], y[vector])];
                self.high = [V::max(self.high[0], x[vector]), V::max(self.high[1], y[vector])];
            }
        }
    }

    fn take_one(&mut self, x: f32, y: f32) {
        self.rest = [self.rest[0].min(x), self.rest[1].min(y), self.rest[2].max(x), self.rest[3].max(y)];
    }
}

impl<V: Vector> Bounds<V> {
    /// Least `x`, least `y`, greatest `x`, greatest `y`.
    ///
    /// # Safety
    /// As [`draw`].
    #[inline(always)]
    unsafe fn all(&self) -> [f32; 4] {
        let mut all = self.rest;
        let mut numbers = [0.0; 16];
        for axis in 0..2 {
            // SAFETY: as this function's.
            unsafe { V::write_floats(self.low[axis], &mut numbers[..V::WIDTH]) };
            all[axis] = numbers[..V::WIDTH].iter().fold(all[axis], |least, number| least.min(*number));
            // SAFETY: as this function's.
            unsafe { V::write_floats(self.high[axis], &mut numbers[..V::WIDTH]) };
            all[axis + 2] = numbers[..V::WIDTH].iter().fold(all[axis + 2], |most, number| most.max(*number));
        }
        all
    }
}

/// The points of each pixel.
struct Counter<'c, V: Vector> {
    frame: Frame,
    low: [V::Float; 2],
    factor: [V::Float; 2],
    side: V::Float,
    side_words: V::Word,
    outside: V::Word,
    counts: &'c mut [u32],
}

impl<V: Vector> Sink<V> for Counter<'_, V> {
    #[inline(always)]
    unsafe fn take(&mut self, x: &[V::Float; ABREAST], y: &[V::Float; ABREAST]) {
        let mut places = [0; 16 * ABREAST];
        // SAFETY: as this function's; slices are cut to the width.
        unsafe {
            for vector in 0..ABREAST {
                let row = V::mul(V::sub(x[vector], self.low[0]), self.factor[0]);
                let column = V::mul(V::sub(y[vector], self.low[1]), self.factor[1]);
                V::write_words(
                    V::pixels(row, column, self.side, self.side_words, self.outside),
                    &mut places[vector * V::WIDTH..][..V::WIDTH],
                );
            }
        }
        for &place in &places[..ABREAST * V::WIDTH] {
            self.counts[place as usize] += 1;
        }
    }

    fn take_one(&mut self, x: f32, y: f32) {
        if let Some(pixel) = self.frame.pixel(x, y) {
            self.counts[pixel] += 1;
        }
    }
}

/// The lanes at their first step, and what moves them.
struct Players<'o, V: Vector> {
    orbit: &'o Orbit,
    x: [f32; LANES],
    y: [f32; LANES],
    state: [u32; LANES],
    /// A number of all maps each: `a b e c d f`.
    tables: [V::Float; 6],
    thresholds: [V::Word; 16],
}

impl<'o, V: Vector> Players<'o, V> {
    /// # Safety
    /// As [`draw`].
    #[inline(always)]
    unsafe fn new(orbit: &'o Orbit) -> Self {
        let (mut x, mut y, mut state) = ([0.0; LANES], [0.0; LANES], [0; LANES]);
        let starts = starts(orbit);
        for index in 0..LANES {
            let lane = Lane::new(orbit, &starts, index);
            (x[index], y[index], state[index]) = (lane.x, lane.y, lane.state);
        }
        let mut columns = [[0.0; 16]; 6];
        for (place, map) in orbit.maps.iter().enumerate() {
            for (column, number) in columns.iter_mut().zip(map) {
                column[place] = *number;
            }
        }
        // SAFETY: as this function's; slices are cut to the width.
        unsafe {
            let mut tables = [V::all(0.0); 6];
            for (table, column) in tables.iter_mut().zip(&columns) {
                *table = V::floats(&column[..V::WIDTH]);
            }
            let mut thresholds = [V::threshold(0); 16];
            for (threshold, weight) in thresholds.iter_mut().zip(&orbit.weights) {
                *threshold = V::threshold(*weight);
            }
            Self { orbit, x, y, state, tables, thresholds }
        }
    }

    /// Hands all points over; whether all lanes stayed with the finite numbers (none that left comes back).
    ///
    /// # Safety
    /// As [`draw`].
    #[inline(always)]
    unsafe fn play<S: Sink<V>>(&self, sink: &mut S) -> bool {
        let (mut x, mut y, mut state) = (self.x, self.y, self.state);
        let thresholds = &self.thresholds[..self.orbit.maps.len() - 1];
        // SAFETY: as this function's; slices are cut to the width.
        unsafe {
            for first in (0..LANES).step_by(ABREAST * V::WIDTH) {
                let lanes = |vector: usize| first + vector * V::WIDTH..first + (vector + 1) * V::WIDTH;
                let (mut now_x, mut now_y, mut now) = ([V::all(0.0); ABREAST], [V::all(0.0); ABREAST], [V::all_words(0); ABREAST]);
                for vector in 0..ABREAST {
                    now_x[vector] = V::floats(&x[lanes(vector)]);
                    now_y[vector] = V::floats(&y[lanes(vector)]);
                    now[vector] = V::words(&state[lanes(vector)]);
                }
                for _ in 0..WARM_UP {
                    for vector in 0..ABREAST {
                        step::<V>(&self.tables, thresholds, &mut now_x[vector], &mut now_y[vector], &mut now[vector]);
                    }
                }
                for _ in 0..self.orbit.points as usize / LANES {
                    for vector in 0..ABREAST {
                        step::<V>(&self.tables, thresholds, &mut now_x[vector], &mut now_y[vector], &mut now[vector]);
                    }
                    sink.take(&now_x, &now_y);
                }
                for vector in 0..ABREAST {
                    V::write_floats(now_x[vector], &mut x[lanes(vector)]);
                    V::write_floats(now_y[vector], &mut y[lanes(vector)]);
                    V::write_words(now[vector], &mut state[lanes(vector)]);
                }
            }
        }
        // The first lanes may have a point more.
        for index in 0..self.orbit.points as usize % LANES {
            let mut lane = Lane { x: x[index], y: y[index], state: state[index] };
            lane.step(self.orbit);
            (x[index], y[index]) = (lane.x, lane.y);
            sink.take_one(lane.x, lane.y);
        }
        x.iter().chain(&y).all(|value| value.is_finite())
    }
}

/// Moves one vector of lanes a step on.
///
/// # Safety
/// As [`draw`].
#[inline(always)]
unsafe fn step<V: Vector>(tables: &[V::Float; 6], thresholds: &[V::Word], x: &mut V::Float, y: &mut V::Float, state: &mut V::Word) {
    // SAFETY: as this function's.
    unsafe {
        *state = V::xorshift(*state);
        let map = V::reached(*state, thresholds);
        let [a, b, e, c, d, f] = tables;
        let new_x = V::add(V::add(V::mul(V::pick(*a, map), *x), V::mul(V::pick(*b, map), *y)), V::pick(*e, map));
        *y = V::add(V::add(V::mul(V::pick(*c, map), *x), V::mul(V::pick(*d, map), *y)), V::pick(*f, map));
        *x = new_x;
    }
}

/// Eight numbers.
struct Avx2;

impl Vector for Avx2 {
    const WIDTH: usize = 8;
    type Float = __m256;
    type Word = __m256i;

    #[inline(always)]
    unsafe fn floats(from: &[f32]) -> __m256 {
        debug_assert_eq!(from.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn words(from: &[u32]) -> __m256i {
        debug_assert_eq!(from.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn write_floats(value: __m256, to: &mut [f32]) {
        debug_assert_eq!(to.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    unsafe fn write_words(value: __m256i, to: &mut [u32]) {
        debug_assert_eq!(to.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    unsafe fn all(value: f32) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn all_words(value: u32) -> __m256i {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_set1_epi32(value.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn xorshift(state: __m256i) -> __m256i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let state = _mm256_xor_si256(state, _mm256_slli_epi32::<13>(state));
            let state = _mm256_xor_si256(state, _mm256_srli_epi32::<17>(state));
            _mm256_xor_si256(state, _mm256_slli_epi32::<5>(state))
        }
    }

    /// Comparisons are those of signed numbers, so the sign is turned round on both sides.
    #[inline(always)]
    unsafe fn threshold(value: u32) -> __m256i {
        // SAFETY: as `all_words`.
        unsafe { Self::all_words(value ^ 1 << 31) }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "at most 15 thresholds")]
    unsafe fn reached(word: __m256i, thresholds: &[__m256i]) -> __m256i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let word = _mm256_xor_si256(word, _mm256_set1_epi32(i32::MIN));
            let mut reached = _mm256_set1_epi32(thresholds.len() as i32);
            for threshold in thresholds {
                // A comparison that holds is -1.
                reached = _mm256_add_epi32(reached, _mm256_cmpgt_epi32(*threshold, word));
            }
            reached
        }
    }

    #[inline(always)]
    unsafe fn pick(table: __m256, places: __m256i) -> __m256 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm256_permutevar8x32_ps(table, places) }
    }

    #[inline(always)]
    unsafe fn pixels(row: __m256, column: __m256, side: __m256, side_words: __m256i, outside: __m256i) -> __m256i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let low = _mm256_set1_ps(-1.0);
            let above = _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(row, low), _mm256_cmp_ps::<_CMP_GT_OQ>(column, low));
            let below = _mm256_and_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(row, side), _mm256_cmp_ps::<_CMP_LT_OQ>(column, side));
            let place = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_cvttps_epi32(row), side_words), _mm256_cvttps_epi32(column));
            _mm256_blendv_epi8(outside, place, _mm256_castps_si256(_mm256_and_ps(above, below)))
        }
    }
}

/// Sixteen numbers.
struct Avx512;

impl Vector for Avx512 {
    const WIDTH: usize = 16;
    type Float = __m512;
    type Word = __m512i;

    #[inline(always)]
    unsafe fn floats(from: &[f32]) -> __m512 {
        debug_assert_eq!(from.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn words(from: &[u32]) -> __m512i {
        debug_assert_eq!(from.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn write_floats(value: __m512, to: &mut [f32]) {
        debug_assert_eq!(to.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    unsafe fn write_words(value: __m512i, to: &mut [u32]) {
        debug_assert_eq!(to.len(), Self::WIDTH);
        // SAFETY: the slice is as long.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    unsafe fn all(value: f32) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn all_words(value: u32) -> __m512i {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_set1_epi32(value.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn xorshift(state: __m512i) -> __m512i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let state = _mm512_xor_si512(state, _mm512_slli_epi32::<13>(state));
            let state = _mm512_xor_si512(state, _mm512_srli_epi32::<17>(state));
            _mm512_xor_si512(state, _mm512_slli_epi32::<5>(state))
        }
    }

    #[inline(always)]
    unsafe fn threshold(value: u32) -> __m512i {
        // SAFETY: as `all_words`.
        unsafe { Self::all_words(value) }
    }

    #[inline(always)]
    unsafe fn reached(word: __m512i, thresholds: &[__m512i]) -> __m512i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let (mut reached, one) = (_mm512_setzero_si512(), _mm512_set1_epi32(1));
            for threshold in thresholds {
                reached = _mm512_mask_add_epi32(reached, _mm512_cmpge_epu32_mask(word, *threshold), reached, one);
            }
            reached
        }
    }

    #[inline(always)]
    unsafe fn pick(table: __m512, places: __m512i) -> __m512 {
        // SAFETY: the processor has the instruction.
        unsafe { _mm512_permutexvar_ps(places, table) }
    }

    #[inline(always)]
    unsafe fn pixels(row: __m512, column: __m512, side: __m512, side_words: __m512i, outside: __m512i) -> __m512i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let low = _mm512_set1_ps(-1.0);
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(row, low) & _mm512_cmp_ps_mask::<_CMP_GT_OQ>(column, low);
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(row, side) & _mm512_cmp_ps_mask::<_CMP_LT_OQ>(column, side);
            let place = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_cvttps_epi32(row), side_words), _mm512_cvttps_epi32(column));
            _mm512_mask_mov_epi32(outside, above & below, place)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::chaos_game::tests::{SIERPINSKI, orbit};
    use crate::cpu::chaos_game::{Window, chaos_game_plain, weights};
    use crate::cpu::counter_rng::Draws;
    use crate::twins::{Tolerance, assert_twins};

    #[expect(clippy::cast_possible_truncation, reason = "coordinates are f32")]
    fn random(seed: u64, maps: u32, points: u32) -> Orbit {
        let mut draws = Draws::new(seed, [0; 3]);
        let maps: Vec<[f32; 6]> =
            (0..maps).map(|_| [0.45, 0.45, 1.0, 0.45, 0.45, 1.0].map(|most| draws.between(-most, most) as f32)).collect();
        let window = Window { shift: [0.125, -0.0625], scale: [0.75, 1.5] };
        Orbit { weights: weights(&maps), maps, stream: [draws.word(), 2, 3, 4], points, window }
    }

    #[test]
    fn each_way_draws_the_plain_picture_bit_for_bit() {
        let mut orbits: Vec<Orbit> = (1..=18).map(|maps| random(u64::from(maps), maps, 4096 + maps * 13)).collect();
        orbits.extend([0, 1, 63, 64, 65, 128].map(|points| random(30, 3, points)));
        orbits.extend([orbit(&SIERPINSKI, 100_000), orbit(&[[0.5, 0.0, 1.0, 0.0, 0.5, 1.0]], 70_000), orbit(&[], 10)]);
        // Numbers of all kinds: maps that squeeze all points together, throw them far, or are no maps.
        let odd = [0.0, -0.0, 1e-40, -1e-30, 0.5, -0.99, 1.0, 3e4, -1e19, 3e38, f32::INFINITY, f32::NAN];
        let mut draws = Draws::new(77, [0; 3]);
        for case in 0..300 {
            // The last two of them in every third orbit only, which they soon end.
            let kinds = if case % 3 == 0 { 12 } else { 10 };
            let mut number = || {
                let kinds = if draws.chance(0.7) { 7 } else { kinds };
                odd[draws.below(kinds) as usize]
            };
            let maps: Vec<[f32; 6]> = (0..=case % 5).map(|_| [(); 6].map(|()| number())).collect();
            let window = if case % 2 == 0 { Window::default() } else { Window { shift: [0.0, 0.5], scale: [1.0, -1.0] } };
            orbits.push(Orbit { window, ..orbit(&maps, 130 + case) });
        }
        // Lanes that leave the finite numbers, in the last step too.
        orbits.extend(
            [64 * 200, 64 * 107, 64 * 107 + 3]
                .map(|points| orbit(&[[2.0, 0.0, 1.0, 0.0, 0.5, 0.0], [2.0, 0.0, 2.0, 0.0, 0.5, 1.0]], points)),
        );
        for side in [1, 33, 224] {
            let plain = chaos_game_plain(&orbits, side);
            for (name, other) in [("avx2", avx2(&orbits, side)), ("avx512", avx512(&orbits, side))] {
                // A processor without the instructions has nothing to compare.
                for (row, (plain, other)) in plain.iter().zip(other.iter().flatten()).enumerate() {
                    assert_twins(&format!("{name}, side {side}, orbit {row}: counts"), &plain.counts, &other.counts, Tolerance::Equal);
                    assert_twins(&format!("{name}, side {side}, orbit {row}: region"), &plain.region, &other.region, Tolerance::Equal);
                }
                assert!(other.is_none_or(|other| other.len() == plain.len()));
            }
        }
    }

    #[test]
    fn a_picture_is_the_same_alone_and_after_others() {
        let orbits: Vec<Orbit> = [3000, 10, 0, 70].into_iter().zip(1..).map(|(points, seed)| random(seed, 4, points)).collect();
        for way in [avx2, avx512] {
            for (orbit, together) in orbits.iter().zip(way(&orbits, 40).into_iter().flatten()) {
                assert_eq!(way(std::slice::from_ref(orbit), 40).unwrap(), [together]);
            }
        }
    }
}
