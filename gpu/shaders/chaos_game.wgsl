// Counts of the points of chaos games, pixel by pixel. Dispatch: one workgroup for each orbit, one lane of it for each lane of the orbit.
// Twin: src/cpu/chaos_game.rs.
#import counter_rng
#import grid

const LANES: u32 = 64u;
const WARM_UP: u32 = 20u;
// In place of a seed of zero.
const NO_ZERO: u32 = 0x9E3779B9u;
const SEED_DRAWS: u32 = 0x6C616E65u;
// Steps of all lanes after which no pixel can have more points than 16 bits count: 64 * 1023 < 2^16.
const ROUND: u32 = 1023u;
const GREATEST: f32 = 3.40282347e38;

struct Game {
    orbits: u32,
}

struct Orbit {
    stream: vec4<u32>,
    shift: vec2<f32>,
    scale: vec2<f32>,
    first_map: u32,
    maps: u32,
    points: u32,
    // Pixels across, where its counts begin, and which region is its own.
    side: u32,
    counts_at: u32,
    region_at: u32,
}

// a b e c, then d f and where the lanes of this map start.
struct Map {
    abec: vec4<f32>,
    df: vec2<f32>,
    start: vec2<f32>,
}

@group(0) @binding(0) var<uniform> game: Game;
@group(0) @binding(1) var<storage, read> orbits: array<Orbit>;               // [orbits]
@group(0) @binding(2) var<storage, read> maps: array<Map>;                   // [maps of all orbits]
@group(0) @binding(3) var<storage, read> weights: array<u32>;                // [maps of all orbits]
@group(0) @binding(4) var<storage, read_write> regions: array<vec4<f32>>;    // one of each orbit
@group(0) @binding(5) var<storage, read_write> counts: array<atomic<u32>>;   // each orbit's own, of side squared
@group(0) @binding(6) var<storage, read_write> streams: array<vec2<u32>>;    // [orbits][LANES]

// Half as many words as pixels: two counts to a word.
override WORDS: u32 = 1u;
var<workgroup> pairs: array<atomic<u32>, WORDS>;
// Least x, least y, greatest x, greatest y of each lane's points.
var<workgroup> bounds: array<vec4<f32>, LANES>;

var<private> place: vec2<f32>;
var<private> state: u32;

fn xorshift(word: u32) -> u32 {
    var x = word;
    x ^= x << 13u;
    x ^= x >> 17u;
    x ^= x << 5u;
    return x;
}

fn seed(orbit: Orbit, lane: u32) -> u32 {
    let word = philox(orbit.stream.xy, vec4<u32>(lane / 4u, orbit.stream.zw, SEED_DRAWS))[lane % 4u];
    return select(word, NO_ZERO, word == 0u);
}

fn step(orbit: Orbit) {
    state = xorshift(state);
    var map = orbit.first_map;
    let last = orbit.first_map + orbit.maps - 1u;
    while map < last && state >= weights[map] {
        map++;
    }
    let abec = maps[map].abec;
    let df = maps[map].df;
    place = vec2<f32>(abec.x * place.x + abec.y * place.y + abec.z, abec.w * place.x + df.x * place.y + df.y);
}

// Puts a lane where its first point follows.
fn begin(orbit: Orbit, lane: u32) {
    state = seed(orbit, lane);
    place = maps[orbit.first_map + lane % orbit.maps].start;
    for (var i = 0u; i < WARM_UP; i++) {
        step(orbit);
    }
}

fn steps_of(orbit: Orbit, lane: u32) -> u32 {
    return orbit.points / LANES + select(0u, 1u, lane < orbit.points % LANES);
}

fn is_finite(point: vec2<f32>) -> bool {
    // By its bits: drivers may take for granted that no float is infinite.
    return all((bitcast<vec2<u32>>(point) & vec2<u32>(0x7F800000u)) != vec2<u32>(0x7F800000u));
}

// The window on the points of all lanes: its region, which lane 0 writes. All lanes of a workgroup call it.
fn region_of(orbit: Orbit, lane: u32) -> vec4<f32> {
    var own = vec4<f32>(GREATEST, GREATEST, -GREATEST, -GREATEST);
    if orbit.maps > 0u {
        begin(orbit, lane);
        let steps = steps_of(orbit, lane);
        for (var i = 0u; i < steps; i++) {
            step(orbit);
            if is_finite(place) {
                own = vec4<f32>(min(own.xy, place), max(own.zw, place));
            }
        }
    }
    bounds[lane] = own;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = bounds[lane + half];
            bounds[lane] = vec4<f32>(min(bounds[lane].xy, other.xy), max(bounds[lane].zw, other.zw));
        }
    }
    workgroupBarrier();
    let all_points = bounds[0];
    var region = vec4<f32>(0.0);
    if all_points.x <= all_points.z {
        let x = axis(all_points.x, all_points.z, orbit.shift.x, orbit.scale.x);
        let y = axis(all_points.y, all_points.w, orbit.shift.y, orbit.scale.y);
        region = vec4<f32>(x.x, y.x, x.y, y.y);
    }
    if lane == 0u {
        regions[orbit.region_at] = region;
    }
    return region;
}

fn axis(low: f32, high: f32, shift: f32, scale: f32) -> vec2<f32> {
    if shift == 0.0 && scale == 1.0 {
        return vec2<f32>(low, high);
    }
    let span = high - low;
    let centre = (low + high) * 0.5 + shift * span;
    let half = span * scale * 0.5;
    return vec2<f32>(centre - half, centre + half);
}

// Pixels to a unit of length.
fn factor_of(orbit: Orbit, region: vec4<f32>) -> vec2<f32> {
    let span = region.zw - region.xy;
    return vec2<f32>(f32(orbit.side) - 1.0) / select(span, vec2<f32>(1.0), span == vec2<f32>(0.0));
}

// The pixel of a point, or one past all pixels.
fn pixel_of(orbit: Orbit, point: vec2<f32>, region: vec4<f32>, factor: vec2<f32>) -> u32 {
    let at = (point - region.xy) * factor;
    let side = f32(orbit.side);
    if is_finite(point) && at.x > -1.0 && at.x < side && at.y > -1.0 && at.y < side {
        return u32(max(at.x, 0.0)) * orbit.side + u32(max(at.y, 0.0));
    }
    return orbit.side * orbit.side;
}

// Counts in the workgroup's own memory, two to a word, and adds them up before 16 bits are full.
@compute @workgroup_size(LANES)
fn count_shared(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_number(group, groups);
    if row >= game.orbits {
        return;
    }
    let orbit = orbits[row];
    let region = region_of(orbit, lane);
    let factor = factor_of(orbit, region);
    let pixels = orbit.side * orbit.side;
    for (var word = lane; word < WORDS; word += LANES) {
        atomicStore(&pairs[word], 0u);
    }
    if orbit.maps > 0u {
        begin(orbit, lane);
    }
    let steps = select(0u, steps_of(orbit, lane), orbit.maps > 0u);
    // Lane 0 has the most steps. There is a round even if there are no points: it writes zeros.
    let most = max(1u, (orbit.points + LANES - 1u) / LANES);
    for (var first = 0u; first < most; first += ROUND) {
        workgroupBarrier();
        for (var i = first; i < min(first + ROUND, steps); i++) {
            step(orbit);
            let pixel = pixel_of(orbit, place, region, factor);
            if pixel < pixels {
                atomicAdd(&pairs[pixel / 2u], select(1u, 0x10000u, pixel % 2u == 1u));
            }
        }
        workgroupBarrier();
        for (var word = lane; word < WORDS; word += LANES) {
            let pair = atomicExchange(&pairs[word], 0u);
            // Words are as many as the largest orbit of the dispatch needs.
            if 2u * word >= pixels {
                continue;
            }
            let pixel = orbit.counts_at + 2u * word;
            add(pixel, pair & 0xFFFFu, first);
            if 2u * word + 1u < pixels {
                add(pixel + 1u, pair >> 16u, first);
            }
        }
    }
}

// No other lane has this pixel, and what was there before the first round is of no account.
fn add(pixel: u32, count: u32, round: u32) {
    if round == 0u {
        atomicStore(&counts[pixel], count);
    } else if count > 0u {
        atomicAdd(&counts[pixel], count);
    }
}

// Counts in the device's memory, which is zero before.
@compute @workgroup_size(LANES)
fn count_global(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_number(group, groups);
    if row >= game.orbits {
        return;
    }
    let orbit = orbits[row];
    let region = region_of(orbit, lane);
    let factor = factor_of(orbit, region);
    let pixels = orbit.side * orbit.side;
    if orbit.maps > 0u {
        begin(orbit, lane);
        let steps = steps_of(orbit, lane);
        for (var i = 0u; i < steps; i++) {
            step(orbit);
            let pixel = pixel_of(orbit, place, region, factor);
            if pixel < pixels {
                atomicAdd(&counts[orbit.counts_at + pixel], 1u);
            }
        }
    }
}

// For tests: the seed of each lane, and its generator after all its steps.
@compute @workgroup_size(LANES)
fn lane_streams(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_number(group, groups);
    if row >= game.orbits {
        return;
    }
    let orbit = orbits[row];
    let first = seed(orbit, lane);
    state = first;
    for (var i = 0u; i < WARM_UP + steps_of(orbit, lane); i++) {
        state = xorshift(state);
    }
    streams[row * LANES + lane] = vec2<u32>(first, state);
}
