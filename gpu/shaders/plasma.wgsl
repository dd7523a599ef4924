// Heights of backgrounds by the diamond-square algorithm. Dispatch: one workgroup for each image.
// Twin: src/cpu/plasma.rs.
#import counter_rng
#import fractal
#import grid

const PLASMA_DRAWS: u32 = 0x706C736Du;
// Rows of a level whose random words are made once: those of pictures up to 512 pixels across.
const ROWS: u32 = 257u;

@group(0) @binding(0) var<uniform> batch: FractalBatch;
@group(0) @binding(1) var<storage, read> images: array<Image>;              // [images]
@group(0) @binding(2) var<storage, read> moves: array<i32>;                 // [images][MOST_DOUBLINGS]
@group(0) @binding(3) var<storage, read_write> heights: array<i32>;         // each image's own, of 2^doublings + 1 squared

override GROUP: u32 = 256u;
var<workgroup> row_words: array<vec4<u32>, ROWS>;

fn words_of(key: vec2<u32>, row: u32, level: u32) -> vec4<u32> {
    return philox(key, vec4<u32>(row, level, 0u, PLASMA_DRAWS));
}

// A number from -by / 2 to below by / 2: a mix of 16 bits for a column, from the word of its row.
fn moved(word: u32, column: u32, by: i32) -> i32 {
    var x = (column * ((word >> 16u) | 1u) + word) & 0xFFFFu;
    x ^= x >> 8u;
    x = (x * 0x88B5u) & 0xFFFFu;
    x ^= x >> 7u;
    x = (x * 0xDB2Du) & 0xFFFFu;
    x ^= x >> 9u;
    // As a signed number of 16 bits.
    let random = (i32(x) ^ 0x8000) - 0x8000;
    return (random * by) >> 16u;
}

// The words of a row of a level: those that were kept, if there is room for all of the level.
fn row_word(key: vec2<u32>, row: u32, level: u32) -> vec4<u32> {
    if (1u << (level - 1u)) < ROWS {
        return row_words[row];
    }
    return words_of(key, row, level);
}

// The mean of the four around an edge, moved. Past a border comes the opposite one.
fn set_edge(image: Image, row: u32, column: u32, step: u32, by: i32) {
    let last = 1u << image.doublings;
    let size = last + 1u;
    let above = select(last - step, row - step, row > 0u);
    let below = select(step, row + step, row < last);
    let left = select(last - step, column - step, column > 0u);
    let right = select(step, column + step, column < last);
    let line = image.heights_at + row * size;
    let sum = heights[image.heights_at + above * size + column] + heights[image.heights_at + below * size + column]
        + heights[line + left] + heights[line + right];
    heights[line + column] = (sum >> 2u) + by;
}

@compute @workgroup_size(GROUP)
fn plasma(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row_of_batch = group_number(group, groups);
    if row_of_batch >= batch.images {
        return;
    }
    let image = images[row_of_batch];
    if image.is_plasma == 0u {
        return;
    }
    let base = image.heights_at;
    let last = 1u << image.doublings;
    let size = last + 1u;
    if lane < 4u {
        let corner = words_of(image.key, 0u, 0u)[lane] >> 21u;
        heights[base + (lane / 2u) * last * size + (lane % 2u) * last] = i32(corner);
    }
    for (var level = 1u; level <= image.doublings; level++) {
        let by = moves[row_of_batch * MOST_DOUBLINGS + level - 1u];
        let cells = 1u << (level - 1u);
        let step = last >> level;
        // Nobody reads the words of the level before, and all heights of it are there.
        storageBarrier();
        workgroupBarrier();
        if cells < ROWS {
            for (var row = lane; row <= cells; row += GROUP) {
                row_words[row] = words_of(image.key, row, level);
            }
        }
        workgroupBarrier();
        for (var middle = lane; middle < cells * cells; middle += GROUP) {
            let cell_row = middle >> (level - 1u);
            let cell_column = middle & (cells - 1u);
            let at = base + (2u * cell_row + 1u) * step * size + (2u * cell_column + 1u) * step;
            let sum = heights[at - step * size - step] + heights[at - step * size + step]
                + heights[at + step * size - step] + heights[at + step * size + step];
            heights[at] = (sum >> 2u) + moved(row_word(image.key, cell_row, level).x, cell_column, by);
        }
        storageBarrier();
        workgroupBarrier();
        // Edges across: lines of `cells`, one more of them than that.
        for (var edge = lane; edge < (cells + 1u) * cells; edge += GROUP) {
            let cell_row = edge >> (level - 1u);
            let cell_column = edge & (cells - 1u);
            let word = row_word(image.key, cell_row, level).y;
            set_edge(image, 2u * cell_row * step, (2u * cell_column + 1u) * step, step, moved(word, cell_column, by));
        }
        // Edges down: `cells` lines of them, each with one more than that, which come last.
        for (var edge = lane; edge < cells * (cells + 1u); edge += GROUP) {
            let is_last = edge >= cells * cells;
            let cell_row = select(edge >> (level - 1u), edge - cells * cells, is_last);
            let cell_column = select(edge & (cells - 1u), cells, is_last);
            let word = row_word(image.key, cell_row, level).z;
            set_edge(image, (2u * cell_row + 1u) * step, 2u * cell_column * step, step, moved(word, cell_column, by));
        }
    }
}
