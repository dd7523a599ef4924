// The best k of each row of similarities. Dispatch: one workgroup for each row. The k-th best is found byte by byte of its bits, by counting, so no
// list is kept; then all that are better are taken, and of those that are as good the first ones.
// Twin: src/cpu/cosine_topk.rs; the similarities are products by gemm.wgsl.
#import grid

override GROUP: u32 = 256u;
const MOST_LANES: u32 = 256u;

struct Selection {
    rows: u32,
    candidates: u32,
    k: u32,
    // Nothing below is taken.
    least: f32,
}

@group(0) @binding(0) var<uniform> selection: Selection;
@group(0) @binding(1) var<storage, read> similarities: array<f32>;          // [rows][candidates]
@group(0) @binding(2) var<storage, read> own: array<u32>;                   // [rows]: which candidate the row itself is; none if beyond
@group(0) @binding(3) var<storage, read_write> found: array<vec2<u32>>;     // [rows][k]: candidate, bits of its similarity; in any order
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;          // [rows]: how many were found

var<workgroup> bins: array<atomic<u32>, 256>;
// Digit, how many are still wanted.
var<workgroup> choice: vec2<u32>;
// Better ones in the low half, as good ones in the high half.
var<workgroup> before: array<u32, MOST_LANES>;

fn similarity_of(row: u32, candidate: u32) -> f32 {
    // Rounding takes some sums a little beyond.
    return clamp(similarities[row * selection.candidates + candidate], -1.0, 1.0);
}

// In the order of similarities; 0 for what is not to be taken.
fn key_of(row: u32, candidate: u32) -> u32 {
    let similarity = similarity_of(row, candidate);
    if candidate == own[row] || similarity < selection.least {
        return 0u;
    }
    let bits = bitcast<u32>(similarity);
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

@compute @workgroup_size(GROUP)
fn select_best(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_number(group, groups);
    if row >= selection.rows {
        return;
    }
    // The k-th best key, from its highest byte down; `wanted` is how many of those with the bytes so far are wanted.
    var threshold = 0u;
    var known = 0u;
    var wanted = selection.k;
    for (var byte = 0u; byte < 4u; byte++) {
        let shift = 24u - 8u * byte;
        for (var bin = lane; bin < 256u; bin += GROUP) {
            atomicStore(&bins[bin], 0u);
        }
        workgroupBarrier();
        for (var candidate = lane; candidate < selection.candidates; candidate += GROUP) {
            let key = key_of(row, candidate);
            if (key & known) == threshold {
                atomicAdd(&bins[(key >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var left = wanted;
            var digit = 255u;
            loop {
                let n = atomicLoad(&bins[digit]);
                if digit == 0u || n >= left {
                    break;
                }
                left -= n;
                digit -= 1u;
            }
            choice = vec2<u32>(digit, left);
        }
        let chosen = workgroupUniformLoad(&choice);
        threshold |= chosen.x << shift;
        known |= 255u << shift;
        wanted = chosen.y;
    }
    // With fewer than k that may be taken, the threshold is 0, and all that is better is taken.
    let better_in_all = selection.k - wanted;
    var better = 0u;
    var equal = 0u;
    for (var start = 0u; start < selection.candidates; start += GROUP) {
        let candidate = start + lane;
        var key = 0u;
        if candidate < selection.candidates {
            key = key_of(row, candidate);
        }
        let is_better = key > threshold;
        let is_equal = key == threshold && key != 0u;
        let mine = u32(is_better) | (u32(is_equal) << 16u);
        before[lane] = mine;
        workgroupBarrier();
        for (var step = 1u; step < GROUP; step *= 2u) {
            var sum = before[lane];
            if lane >= step {
                sum += before[lane - step];
            }
            workgroupBarrier();
            before[lane] = sum;
            workgroupBarrier();
        }
        let upto = before[lane];
        let all = before[GROUP - 1u];
        let better_before = better + ((upto - mine) & 0xFFFFu);
        let equal_before = equal + ((upto - mine) >> 16u);
        if is_better {
            found[row * selection.k + better_before] = vec2<u32>(candidate, bitcast<u32>(similarity_of(row, candidate)));
        }
        if is_equal && equal_before < wanted {
            found[row * selection.k + better_in_all + equal_before] = vec2<u32>(candidate, bitcast<u32>(similarity_of(row, candidate)));
        }
        better += all & 0xFFFFu;
        equal += all >> 16u;
        workgroupBarrier();
    }
    if lane == 0u {
        counts[row] = better + min(equal, wanted);
    }
}
