// Pictures: of each pixel, the colour of the first fractal that covers it, else that of the background. A pixel is a colour and, in the highest byte,
// its owner. Dispatch: x = pixels, y = images (`cover`: instances), both in strides.
// Twin: src/cpu/paint.rs.
#import fractal
#import levels

// Parts of a pixel that a place between two pixels is counted in.
const PARTS: u32 = 128u;
// Heights below the first colour, and heights to a colour.
const LOWEST_HEIGHT: i32 = -512;
const HEIGHT_SHIFT: u32 = 3u;

@group(0) @binding(0) var<uniform> batch: FractalBatch;
@group(0) @binding(1) var<storage, read> images: array<Image>;              // [images]
@group(0) @binding(2) var<storage, read> instances: array<Instance>;        // [instances]
@group(0) @binding(3) var<storage, read> sums: array<u32>;                  // each instance's own
@group(0) @binding(4) var<storage, read> highest: array<u32>;               // [instances]
@group(0) @binding(5) var<storage, read> palettes: array<u32>;              // [instances][LEVEL_COLOURS], [images][HEIGHT_COLOURS]
@group(0) @binding(6) var<storage, read> heights: array<i32>;               // each image's own
@group(0) @binding(7) var<storage, read_write> pictures: array<u32>;        // each image's own
@group(0) @binding(8) var<storage, read_write> pixels: array<atomic<u32>>;  // [instances], zero before

override GROUP: u32 = 256u;
var<workgroup> covered: atomic<u32>;

struct Tap {
    first: u32,
    second: u32,
    parts: u32,
}

// The two neighbours that pixel `at` of `size` is mixed of, from `side` pixels, and how many parts are of the second.
fn tap(at: u32, size: u32, side: u32) -> Tap {
    let centre = (2u * at + 1u) * side;
    let place = select(0u, centre - size, centre > size);
    let first = min(place / (2u * size), side - 1u);
    return Tap(first, min(first + 1u, side - 1u), place % (2u * size) * PARTS / (2u * size));
}

// Level of a fractal's pixel as it is drawn.
fn drawn_level(index: u32, row: u32, column: u32) -> u32 {
    let side = instances[index].side;
    let is_transposed = (instances[index].turns & 1u) != 0u;
    let at = select(row * side + column, column * side + row, is_transposed);
    return level_of(sums[instances[index].sums_at + at], highest[index], instances[index].is_graded != 0u);
}

// Level of a pixel of a fractal as it is pasted.
fn pasted_level(index: u32, row: u32, column: u32) -> u32 {
    let size = instances[index].size;
    let turns = instances[index].turns;
    let down = tap(select(row, size - 1u - row, (turns & 2u) != 0u), size, instances[index].side);
    let across = tap(select(column, size - 1u - column, (turns & 4u) != 0u), size, instances[index].side);
    var level = 0u;
    var cover = 0u;
    for (var corner = 0u; corner < 4u; corner++) {
        let is_lower = corner >= 2u;
        let is_right = corner % 2u == 1u;
        let parts = select(PARTS - down.parts, down.parts, is_lower) * select(PARTS - across.parts, across.parts, is_right);
        if parts > 0u {
            let one = drawn_level(index, select(down.first, down.second, is_lower), select(across.first, across.second, is_right));
            level += one * parts;
            cover += min(one, 1u) * parts;
        }
    }
    if cover == 0u {
        return 0u;
    }
    return (level + cover / 2u) / cover;
}

@compute @workgroup_size(GROUP)
fn paint(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = group.y; i < batch.images; i += groups.y) {
        let image = images[i];
        for (var pixel = id.x; pixel < image.side * image.side; pixel += groups.x * GROUP) {
            let row = pixel / image.side;
            let column = pixel % image.side;
            var colour = image.flat;
            var owner = 0u;
            // From the front to the back.
            for (var nth = image.instances; nth > 0u && owner == 0u; nth--) {
                let index = image.first_instance + nth - 1u;
                let size = i32(instances[index].size);
                let from_row = i32(row) - instances[index].y;
                let from_column = i32(column) - instances[index].x;
                if from_row >= 0 && from_row < size && from_column >= 0 && from_column < size {
                    let level = pasted_level(index, u32(from_row), u32(from_column));
                    if level > 0u {
                        colour = palettes[index * LEVEL_COLOURS + level];
                        owner = nth;
                    }
                }
            }
            if owner == 0u && image.is_plasma != 0u {
                let height = heights[image.heights_at + row * ((1u << image.doublings) + 1u) + column];
                let entry = u32(clamp((height >> HEIGHT_SHIFT) - LOWEST_HEIGHT, 0, i32(HEIGHT_COLOURS) - 1));
                colour = palettes[batch.instances * LEVEL_COLOURS + i * HEIGHT_COLOURS + entry];
            }
            pictures[image.picture_at + pixel] = (colour & 0xFFFFFFu) | (owner << 24u);
        }
    }
}

// How many pixels each fractal has by itself.
@compute @workgroup_size(GROUP)
fn cover(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = group.y; i < batch.instances; i += groups.y) {
        if lane == 0u {
            atomicStore(&covered, 0u);
        }
        workgroupBarrier();
        let size = instances[i].size;
        var own = 0u;
        for (var pixel = id.x; pixel < size * size; pixel += groups.x * GROUP) {
            own += min(pasted_level(i, pixel / size, pixel % size), 1u);
        }
        atomicAdd(&covered, own);
        workgroupBarrier();
        if lane == 0u {
            atomicAdd(&pixels[i], atomicLoad(&covered));
        }
    }
}
