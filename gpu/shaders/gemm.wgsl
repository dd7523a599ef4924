// Products of rows: out = a · bᵀ, and layers: out = activation(a · bᵀ + bias). Dispatch: one workgroup for each tile of TILE x TILE numbers of
// `out`, along the width first. A number is summed up in the order of the depth, whatever its place, so its bits do not depend on it.
// Twin: src/cpu/gemm.rs.
#import activation
#import grid

// Lanes of a workgroup along each side of the tile; each makes EACH x EACH numbers of it, SIDE apart. At most 16: `a_tile` holds no more.
override SIDE: u32 = 16u;
const EACH: u32 = 4u;
// Depth of what is held at once.
const DEEP: u32 = 16u;

struct Product {
    rows: u32,
    width: u32,
    depth: u32,
    // Where the first row begins, and from one row to the next.
    a_start: u32,
    a_stride: u32,
    b_stride: u32,
    out_start: u32,
    out_stride: u32,
}

@group(0) @binding(0) var<uniform> shape: Product;
@group(0) @binding(1) var<storage, read> a: array<f32>;               // [rows][a_stride]
@group(0) @binding(2) var<storage, read> b: array<f32>;               // [width][b_stride]
@group(0) @binding(3) var<storage, read> bias: array<f32>;            // [width]
@group(0) @binding(4) var<storage, read> activations: array<u32>;     // [width]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;       // [rows][out_stride]

var<workgroup> a_tile: array<f32, 1024>;  // [DEEP][SIDE * EACH]
var<workgroup> b_tile: array<f32, 1024>;

var<private> sums: array<vec4<f32>, 4>;  // [EACH][EACH]

// Sums up the numbers of a lane: those of rows `first.y + SIDE * i` and columns `first.x + SIDE * j`.
fn sum_up(corner: vec2<u32>, lane: vec2<u32>) {
    let tile = SIDE * EACH;
    let number = lane.y * SIDE + lane.x;
    for (var i = 0u; i < EACH; i++) {
        sums[i] = vec4<f32>();
    }
    for (var start = 0u; start < shape.depth; start += DEEP) {
        for (var at = number; at < tile * DEEP; at += SIDE * SIDE) {
            let row = at / DEEP;
            let deep = at % DEEP;
            let depth = start + deep;
            var left = 0.0;
            var right = 0.0;
            if depth < shape.depth {
                if corner.y + row < shape.rows {
                    left = a[shape.a_start + (corner.y + row) * shape.a_stride + depth];
                }
                if corner.x + row < shape.width {
                    right = b[(corner.x + row) * shape.b_stride + depth];
                }
            }
            a_tile[deep * tile + row] = left;
            b_tile[deep * tile + row] = right;
        }
        workgroupBarrier();
        for (var deep = 0u; deep < DEEP; deep++) {
            let line = deep * tile;
            let right = vec4<f32>(
                b_tile[line + lane.x],
                b_tile[line + lane.x + SIDE],
                b_tile[line + lane.x + 2u * SIDE],
                b_tile[line + lane.x + 3u * SIDE],
            );
            for (var i = 0u; i < EACH; i++) {
                sums[i] = fma(vec4<f32>(a_tile[line + lane.y + i * SIDE]), right, sums[i]);
            }
        }
        workgroupBarrier();
    }
}

// Row and column of the first number of a workgroup's tile, as (column, row).
fn corner_of(group: vec3<u32>, groups: vec3<u32>) -> vec2<u32> {
    let tile = SIDE * EACH;
    let columns = (shape.width + tile - 1u) / tile;
    let number = group_number(group, groups);
    return vec2<u32>(number % columns, number / columns) * tile;
}

@compute @workgroup_size(SIDE, SIDE)
fn product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let corner = corner_of(group, groups);
    sum_up(corner, lane.xy);
    for (var i = 0u; i < EACH; i++) {
        for (var j = 0u; j < EACH; j++) {
            let row = corner.y + lane.y + i * SIDE;
            let column = corner.x + lane.x + j * SIDE;
            if row < shape.rows && column < shape.width {
                out[shape.out_start + row * shape.out_stride + column] = sums[i][j];
            }
        }
    }
}

@compute @workgroup_size(SIDE, SIDE)
fn layer(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let corner = corner_of(group, groups);
    sum_up(corner, lane.xy);
    for (var i = 0u; i < EACH; i++) {
        for (var j = 0u; j < EACH; j++) {
            let row = corner.y + lane.y + i * SIDE;
            let column = corner.x + lane.x + j * SIDE;
            if row < shape.rows && column < shape.width {
                out[shape.out_start + row * shape.out_stride + column] = activate(activations[column], sums[i][j] + bias[column]);
            }
        }
    }
}
