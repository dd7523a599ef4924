//! Host side of `shaders/chaos_game.wgsl`.
//!
//! Where two counts to a word fit the memory that a workgroup shares (sides up to some 120 for 32 kB), points are counted there; else in the
//! device's memory.

use crate::context::Limits;
use crate::cpu::chaos_game::{Histogram, LANES, Orbit, starts};
use crate::kernels::index;
use crate::shaders::chaos_game::{COUNT_GLOBAL, COUNT_SHARED};
use crate::{Batch, Buffer, Gpu, GpuError};

/// Draws each orbit on `side * side` pixels, as [`crate::cpu::chaos_game::chaos_game`] does.
///
/// Random choices are those of the twin. Where an adapter fuses a product and a sum that the twin rounds one by one, a point may fall on the next
/// pixel: at most one in two thousand does in the tests.
///
/// # Errors
/// One picture passes the adapter's limits, or the device fails.
///
/// # Panics
/// If an orbit has fewer weights than maps.
pub fn chaos_game(gpu: &Gpu, orbits: &[Orbit], side: u32) -> Result<Vec<Histogram>, GpuError> {
    let pixels = side as usize * side as usize;
    let rows = gpu.limits().rows("the counts of an orbit (bytes)", (pixels as u64).saturating_mul(4))?;
    gpu.in_pieces(
        orbits,
        rows,
        |batch, piece| {
            let counts = batch.zeroed::<u32>(pixels * piece.len())?;
            let regions = batch.empty::<[f32; 4]>(piece.len())?;
            let drawings: Vec<_> = piece.iter().enumerate().map(|(row, orbit)| Drawing { orbit, side, counts_at: row * pixels }).collect();
            record(batch, &drawings, &counts, &regions)?;
            Ok((batch.download::<u32>(&counts, pixels * piece.len())?, batch.download::<[f32; 4]>(&regions, piece.len())?))
        },
        |(counts, regions), results, histograms| {
            let (counts, regions) = (results.get(counts)?, results.get(regions)?);
            let row = |(index, region)| Histogram { side, counts: counts[index * pixels..][..pixels].to_vec(), region };
            histograms.extend(regions.into_iter().enumerate().map(row));
            Ok(())
        },
    )
}

/// An orbit, the side it is drawn with, and where its counts begin.
pub(crate) struct Drawing<'o> {
    pub(crate) orbit: &'o Orbit,
    pub(crate) side: u32,
    pub(crate) counts_at: usize,
}

/// Records the drawing of orbits into counts, which are zero before, and regions, one for each drawing.
pub(crate) fn record(batch: &mut Batch<'_>, drawings: &[Drawing<'_>], counts: &Buffer, regions: &Buffer) -> Result<(), GpuError> {
    let limits = batch.gpu().limits().clone();
    let words = |drawing: &Drawing<'_>| shared_words(&limits, drawing.side);
    let (shared, global): (Vec<_>, Vec<_>) = (0..drawings.len()).partition(|&row| words(&drawings[row]).is_some());
    for (kernel, rows) in [(&COUNT_SHARED, shared), (&COUNT_GLOBAL, global)] {
        if rows.is_empty() {
            continue;
        }
        let Inputs { game, orbits, maps, weights } = &Inputs::new(batch, drawings, &rows)?;
        let most = rows.iter().filter_map(|&row| words(&drawings[row])).max();
        let constants: Vec<_> = most.map(|words| ("WORDS", words)).into_iter().collect();
        batch.dispatch_rows(kernel, &constants, &[game, orbits, maps, weights, regions, counts], rows.len())?;
    }
    Ok(())
}

/// Words of shared memory for two counts each, if they fit beside the lanes' bounds. In few sizes, for each makes a pipeline of its own.
fn shared_words(limits: &Limits, side: u32) -> Option<u32> {
    let words = (u64::from(side) * u64::from(side)).div_ceil(2);
    let most = u64::from(limits.max_shared_bytes).saturating_sub((LANES * size_of::<[f32; 4]>()) as u64) / 4;
    if words > 0 && words <= most { u32::try_from(words.next_power_of_two().min(most)).ok() } else { None }
}

/// What the shader reads.
struct Inputs {
    game: Buffer,
    orbits: Buffer,
    maps: Buffer,
    weights: Buffer,
}

impl Inputs {
    /// Those of some of the drawings.
    fn new(batch: &mut Batch<'_>, drawings: &[Drawing<'_>], rows: &[usize]) -> Result<Self, GpuError> {
        let (mut orbits, mut maps, mut weights) = (Vec::<u32>::new(), Vec::<[f32; 8]>::new(), Vec::<u32>::new());
        for &row in rows {
            let Drawing { orbit, side, counts_at } = drawings[row];
            assert!(orbit.weights.len() >= orbit.maps.len(), "a weight for each map");
            orbits.extend(orbit.stream);
            orbits.extend(orbit.window.shift.map(f32::to_bits));
            orbits.extend(orbit.window.scale.map(f32::to_bits));
            orbits.extend([index(maps.len())?, index(orbit.maps.len())?, orbit.points, side, index(counts_at)?, index(row)?, 0, 0]);
            for (map, [x, y]) in orbit.maps.iter().zip(starts(orbit)) {
                let [a, b, e, c, d, f] = *map;
                maps.push([a, b, e, c, d, f, x, y]);
            }
            weights.extend(&orbit.weights[..orbit.maps.len()]);
        }
        Ok(Self {
            game: batch.upload(&[index(rows.len())?, 0, 0, 0])?,
            orbits: batch.upload(&orbits)?,
            maps: batch.upload(&maps)?,
            weights: batch.upload(&weights)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::chaos_game::{Window, chaos_game_plain, lane_seed, weights, xorshift};
    use crate::cpu::counter_rng::Draws;
    use crate::shaders::chaos_game::{GAME_LAYOUT, LANE_STREAMS, MAP_LAYOUT, ORBIT_LAYOUT};
    use crate::twins::{Tolerance, adapter, assert_twins, assert_twins_by, open_within};

    /// Orbits with contracting maps, two to eight of them.
    #[expect(clippy::cast_possible_truncation, reason = "coordinates are f32")]
    fn orbits(seed: u64, count: u32, points: u32) -> Vec<Orbit> {
        let mut draws = Draws::new(seed, [0; 3]);
        let mut rows = Vec::new();
        for row in 0..count {
            let maps: Vec<[f32; 6]> = (0..2 + draws.below(7))
                .map(|_| {
                    let (theta, phi) = (draws.between(-3.1, 3.1), draws.between(-3.1, 3.1));
                    let s = [draws.between(0.3, 0.95), draws.between(0.1, 0.7)];
                    let (u, v) = ([theta.cos(), theta.sin()], [phi.cos(), phi.sin()]);
                    let a = [s[0] * u[0] * v[0] - s[1] * u[1] * v[1], -s[0] * u[0] * v[1] - s[1] * u[1] * v[0]];
                    let c = [s[0] * u[1] * v[0] + s[1] * u[0] * v[1], -s[0] * u[1] * v[1] + s[1] * u[0] * v[0]];
                    [a[0], a[1], draws.between(-1.0, 1.0), c[0], c[1], draws.between(-1.0, 1.0)].map(|value| value as f32)
                })
                .collect();
            let window = if row % 2 == 0 {
                Window::default()
            } else {
                let mut both = |low, high| [draws.between(low, high) as f32, draws.between(low, high) as f32];
                Window { shift: both(-0.2, 0.2), scale: both(0.5, 2.0) }
            };
            rows.push(Orbit { weights: weights(&maps), maps, stream: [draws.word(), draws.word(), row, 7], points, window });
        }
        rows
    }

    /// Points that may fall on another pixel: one in two thousand. Measured with 60 orbits of 100,000 points at 224 pixels: 1 point a picture and 5 at
    /// most, on lavapipe and on a twin that fuses products and sums alike.
    fn same_pictures(orbits: &[Orbit]) -> impl Fn(&Vec<Histogram>, &Vec<Histogram>) -> Result<(), String> {
        let points: Vec<u32> = orbits.iter().map(|orbit| if orbit.maps.is_empty() { 0 } else { orbit.points }).collect();
        move |plain, other| {
            if (plain.len(), other.len()) != (points.len(), points.len()) {
                return Err(format!("{} pictures and {} of {}", plain.len(), other.len(), points.len()));
            }
            for (row, ((plain, other), points)) in plain.iter().zip(other).zip(&points).enumerate() {
                let side = plain.side as usize;
                let apart: u64 = plain.counts.iter().zip(&other.counts).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
                // A point that moved is missed on one pixel and too many on another.
                if apart > u64::from(2 * points.div_ceil(2000)) {
                    return Err(format!("row {row}: counts differ by {apart} with {points} points"));
                }
                let around = |counts: &[u32], row: usize, column: usize| -> u32 {
                    let rows = row.saturating_sub(1)..(row + 2).min(side);
                    rows.map(|row| counts[row * side + column.saturating_sub(1)..row * side + (column + 2).min(side)].iter().sum::<u32>())
                        .sum()
                };
                for (pixel, (a, b)) in plain.counts.iter().zip(&other.counts).enumerate() {
                    let (y, x) = (pixel / side, pixel % side);
                    let inside = y > 0 && x > 0 && y + 1 < side && x + 1 < side;
                    if inside && (*a > around(&other.counts, y, x) || *b > around(&plain.counts, y, x)) {
                        return Err(format!("row {row}: a point of pixel ({y}, {x}) moved further than to the next"));
                    }
                }
            }
            Ok(())
        }
    }

    fn check(gpu: &Gpu, case: &str, orbits: &[Orbit], side: u32) {
        let (plain, other) = (chaos_game_plain(orbits, side), chaos_game(gpu, orbits, side).unwrap());
        // The smallest change that must be seen: one pixel with more points than may move, in the last picture.
        let too_many = orbits.last().map_or(1, |orbit| 4 * orbit.points.div_ceil(2000) + 1);
        assert_twins_by(case, &plain, &other, same_pictures(orbits), |pictures| match pictures.last_mut() {
            Some(picture) => picture.counts[pixels(side) / 2] += too_many,
            None => pictures.push(Histogram { side, counts: Vec::new(), region: [0.0; 4] }),
        });
        let regions = |rows: &[Histogram]| rows.iter().flat_map(|row| row.region).collect::<Vec<_>>();
        let near = Tolerance::Share { most: 2e-6, least: 1.0, reason: "products and sums may be fused: 2.5e-7 at most was seen" };
        assert_twins(&format!("{case}: regions"), &regions(&plain), &regions(&other), near);
    }

    fn pixels(side: u32) -> usize {
        side as usize * side as usize
    }

    #[test]
    fn pictures_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        // 64 pixels across are counted in shared memory, 224 in the device's.
        assert!(shared_words(gpu.limits(), 64).is_some() && shared_words(gpu.limits(), 224).is_none(), "{:?}", gpu.limits());
        for side in [64, 224] {
            check(gpu, "none", &[], side);
            check(gpu, "one orbit", &orbits(1, 1, 10_000), side);
            check(gpu, "one lane has a point more", &orbits(2, 3, 64 * 10 + 1), side);
            let mut odd = orbits(3, 5, 1000);
            odd[1].points = 0;
            (odd[2].maps, odd[2].weights) = (odd[2].maps[..1].to_vec(), vec![u32::MAX]);
            (odd[3].maps, odd[3].weights) = (Vec::new(), Vec::new());
            check(gpu, "no points, one map, no map", &odd, side);
        }
        check(gpu, "more than 16 bits of a pixel", &one_map(150_000), 16);
        check(gpu, "an odd number of pixels", &orbits(4, 2, 5000), 33);
        check(gpu, "one pixel", &orbits(4, 2, 100), 1);
        check(gpu, "a large batch", &orbits(5, 40, 5000), 112);
        let all = orbits(9, 4, 3000);
        let (sides, mut at) = ([100, 224, 7, 100], 0);
        let mut drawings = Vec::new();
        for (orbit, side) in all.iter().zip(sides) {
            drawings.push(Drawing { orbit, side, counts_at: at });
            at += pixels(side);
        }
        let mut batch = gpu.batch("sides").unwrap();
        let (counts, regions) = (batch.zeroed::<u32>(at).unwrap(), batch.empty::<[f32; 4]>(4).unwrap());
        record(&mut batch, &drawings, &counts, &regions).unwrap();
        let counts = batch.download::<u32>(&counts, at).unwrap();
        let counts = batch.submit().unwrap().wait().unwrap().get(counts).unwrap();
        let alone: Vec<u32> = all
            .iter()
            .zip(sides)
            .flat_map(|(orbit, side)| chaos_game(gpu, std::slice::from_ref(orbit), side).unwrap().remove(0).counts)
            .collect();
        assert_eq!(counts, alone, "orbits of several sides in one batch");
    }

    fn one_map(points: u32) -> Vec<Orbit> {
        let maps = vec![[0.5, 0.1, 1.0, 0.0, 0.5, 1.0]];
        vec![Orbit { weights: weights(&maps), maps, stream: [1; 4], points, window: Window::default() }]
    }

    #[test]
    fn points_that_are_not_finite_are_skipped() {
        let Some(gpu) = adapter() else { return };
        let maps = vec![[2.0, 0.0, 1.0, 0.0, 0.5, 0.0], [2.0, 0.0, 2.0, 0.0, 0.5, 1.0]];
        let bursting = vec![Orbit { weights: weights(&maps), maps, stream: [1; 4], points: 64 * 200, window: Window::default() }];
        let (plain, other) = (chaos_game_plain(&bursting, 32), chaos_game(gpu, &bursting, 32).unwrap());
        let all = |rows: &[Histogram]| rows[0].counts.iter().sum::<u32>();
        assert!(
            all(&plain) == all(&other) && all(&plain) < 64 * 130 && other[0].region.iter().all(|edge| edge.is_finite()),
            "{}",
            all(&other)
        );
    }

    #[test]
    fn lanes_draw_the_same_words() {
        let Some(gpu) = adapter() else { return };
        let orbits = orbits(8, 5, 6500);
        let mut batch = gpu.batch("streams").unwrap();
        let drawings: Vec<_> = orbits.iter().map(|orbit| Drawing { orbit, side: 1, counts_at: 0 }).collect();
        let inputs = Inputs::new(&mut batch, &drawings, &[0, 1, 2, 3, 4]).unwrap();
        let streams = batch.empty::<[u32; 2]>(orbits.len() * LANES).unwrap();
        batch.dispatch_rows(&LANE_STREAMS, &[], &[&inputs.game, &inputs.orbits, &streams], orbits.len()).unwrap();
        let streams = batch.download::<u32>(&streams, orbits.len() * LANES * 2).unwrap();
        let streams = batch.submit().unwrap().wait().unwrap().get(streams).unwrap();
        let plain: Vec<u32> = orbits
            .iter()
            .flat_map(|orbit| (0..LANES).map(move |lane| (orbit, lane)))
            .flat_map(|(orbit, lane)| {
                let first = lane_seed(orbit.stream, lane);
                let steps = crate::cpu::chaos_game::WARM_UP as usize + (lane..orbit.points as usize).step_by(LANES).count();
                [first, (0..steps).fold(first, |state, _| xorshift(state))]
            })
            .collect();
        assert_twins("streams", &plain, &streams, Tolerance::Equal);
    }

    #[test]
    fn a_picture_is_the_same_alone_in_a_batch_and_in_pieces() {
        let Some(gpu) = adapter() else { return };
        for side in [48, 160] {
            let orbits = orbits(6, 9, 3000);
            let together = chaos_game(gpu, &orbits, side).unwrap();
            for (orbit, want) in orbits.iter().zip(&together) {
                assert_eq!(&chaos_game(gpu, std::slice::from_ref(orbit), side).unwrap()[0], want);
            }
            // Two pictures to a binding, two workgroups along a dimension.
            let limits = Limits { max_binding_bytes: 2 * 4 * pixels(side) as u64, max_workgroups: 2, ..gpu.limits().clone() };
            let Some(device) = open_within(Some(&limits)) else { return };
            assert_eq!(chaos_game(device.gpu().unwrap(), &orbits, side).unwrap(), together);
            // Not one.
            let limits = Limits { max_binding_bytes: 4 * pixels(side) as u64 - 4, ..limits };
            let device = open_within(Some(&limits)).unwrap();
            assert!(matches!(chaos_game(device.gpu().unwrap(), &orbits, side), Err(GpuError::TooLarge { .. })));
            // An orbit has 64 lanes.
            let limits = Limits { max_workgroup_lanes: 32, ..gpu.limits().clone() };
            let error = chaos_game(open_within(Some(&limits)).unwrap().gpu().unwrap(), &orbits, side).unwrap_err();
            assert_eq!(error, GpuError::TooLarge { what: "a workgroup (lanes)", wanted: 64, limit: 32 });
        }
    }

    #[test]
    fn structs_lie_where_the_host_puts_them() {
        assert_eq!((GAME_LAYOUT.bytes, GAME_LAYOUT.members), (4, &[("orbits", 0)][..]));
        let floats = [("stream", 0), ("shift", 16), ("scale", 24)];
        let words = [("first_map", 32), ("maps", 36), ("points", 40), ("side", 44), ("counts_at", 48), ("region_at", 52)];
        assert_eq!((ORBIT_LAYOUT.bytes, ORBIT_LAYOUT.members), (64, &[&floats[..], &words[..]].concat()[..]));
        assert_eq!((MAP_LAYOUT.bytes, MAP_LAYOUT.members), (32, &[("abec", 0), ("df", 16), ("start", 24)][..]));
    }
}
