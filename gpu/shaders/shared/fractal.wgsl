// What the shaders of fractal images know of a batch. Host side: src/kernels/fractal.rs.

struct FractalBatch {
    images: u32,
    instances: u32,
}

// A fractal of an image.
struct Instance {
    // Where its counts begin, of (side + 2 * margin) squared, and its sums, of side squared.
    counts_at: u32,
    sums_at: u32,
    side: u32,
    margin: u32,
    // Key of the stamps of its points, if each has one.
    key: vec2<u32>,
    // The stamp of all points, or EACH.
    stamp: u32,
    is_graded: u32,
    // The side it is resized to, and where it is pasted.
    size: u32,
    x: i32,
    y: i32,
    // 1: transposed, 2: rows upside down, 4: columns.
    turns: u32,
}

const EACH: u32 = 0x200u;

struct Image {
    // Key of its plasma.
    key: vec2<u32>,
    first_instance: u32,
    instances: u32,
    side: u32,
    // Colour behind the fractals, if there is no plasma.
    flat: u32,
    is_plasma: u32,
    // Doublings of the plasma, and where its heights begin.
    doublings: u32,
    heights_at: u32,
    // Where its picture begins, and the same in units of four pixels.
    picture_at: u32,
    packed_at: u32,
    // Parts of 256 that the blur takes of each neighbour.
    parts: u32,
}

// Doublings that an image may have.
const MOST_DOUBLINGS: u32 = 15u;
// Colours of a palette of levels, and of one of heights.
const LEVEL_COLOURS: u32 = 256u;
const HEIGHT_COLOURS: u32 = 1280u;
