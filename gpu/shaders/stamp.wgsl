// Sums of the counts that lie under a stamp, and the highest of each fractal. Dispatch: x = pixels, y = instances, both in strides.
// Twin: src/cpu/stamp.rs.
#import counter_rng
#import fractal

const STAMP_DRAWS: u32 = 0x73746D70u;
const FULL: u32 = 0x1FFu;
const MOST_STAMPS: u32 = 32u;

@group(0) @binding(0) var<uniform> batch: FractalBatch;
@group(0) @binding(1) var<storage, read> instances: array<Instance>;          // [instances]
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;            // each instance's own
@group(0) @binding(3) var<storage, read_write> sums: array<u32>;              // each instance's own
@group(0) @binding(4) var<storage, read_write> highest: array<atomic<u32>>;   // [instances], zero before

override GROUP: u32 = 256u;
var<workgroup> group_highest: atomic<u32>;

// All cells that the stamps of the points of one pixel cover.
fn all_stamps(key: vec2<u32>, place: u32, count: u32) -> u32 {
    var mask = 0u;
    let points = min(count, MOST_STAMPS);
    for (var block = 0u; block * 8u < points; block++) {
        let words = philox(key, vec4<u32>(STAMP_DRAWS, place, block, 0u));
        for (var lane = 0u; lane < min(points - block * 8u, 8u); lane++) {
            let half = (words[lane / 2u] >> (16u * (lane % 2u))) & 0xFFFFu;
            mask |= 1u + ((half * 511u) >> 16u);
        }
    }
    return mask;
}

// Puts in the place of each count what the stamps of its points cover, where each point has one.
@compute @workgroup_size(GROUP)
fn stamps_of_points(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = group.y; i < batch.instances; i += groups.y) {
        let instance = instances[i];
        let wide = instance.side + 2u * instance.margin;
        if instance.stamp == EACH {
            for (var place = id.x; place < wide * wide; place += groups.x * GROUP) {
                let at = instance.counts_at + place;
                counts[at] = all_stamps(instance.key, place, counts[at]);
            }
        }
    }
}

@compute @workgroup_size(GROUP)
fn stamp(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = group.y; i < batch.instances; i += groups.y) {
        if lane == 0u {
            atomicStore(&group_highest, 0u);
        }
        workgroupBarrier();
        let instance = instances[i];
        let wide = instance.side + 2u * instance.margin;
        var own_highest = 0u;
        for (var pixel = id.x; pixel < instance.side * instance.side; pixel += groups.x * GROUP) {
            // One row and column further than that of the counts above and left of it, so that neither passes below zero.
            let row = pixel / instance.side + instance.margin + 2u;
            let column = pixel % instance.side + instance.margin + 2u;
            var sum = 0u;
            for (var bit = 0u; bit < 9u; bit++) {
                let from_row = row - bit / 3u;
                let from_column = column - bit % 3u;
                if from_row > 0u && from_row <= wide && from_column > 0u && from_column <= wide {
                    let count = counts[instance.counts_at + (from_row - 1u) * wide + from_column - 1u];
                    if instance.stamp == EACH {
                        sum |= (count >> bit) & 1u;
                    } else {
                        sum += count * ((instance.stamp >> bit) & 1u);
                    }
                }
            }
            sums[instance.sums_at + pixel] = sum;
            own_highest = max(own_highest, sum);
        }
        atomicMax(&group_highest, own_highest);
        workgroupBarrier();
        if lane == 0u {
            atomicMax(&highest[i], atomicLoad(&group_highest));
        }
    }
}
