// Pictures blurred, as bytes: red, green, blue of each pixel, and its owner. Dispatch: x = pixels / 4, y = images, both in strides.
// Twin: src/cpu/blur.rs.
#import fractal

@group(0) @binding(0) var<uniform> batch: FractalBatch;
@group(0) @binding(1) var<storage, read> images: array<Image>;          // [images]
@group(0) @binding(2) var<storage, read> pictures: array<u32>;          // each image's own
@group(0) @binding(3) var<storage, read_write> colours: array<u32>;     // each image's own, three words for four pixels
@group(0) @binding(4) var<storage, read_write> owners: array<u32>;      // each image's own, a word for four pixels

override GROUP: u32 = 256u;

fn channels(word: u32) -> vec3<u32> {
    return vec3<u32>(word & 0xFFu, (word >> 8u) & 0xFFu, (word >> 16u) & 0xFFu);
}

// Three pixels mixed, the outer ones with `parts` of 256 each.
fn mix_three(before: vec3<u32>, own: vec3<u32>, after: vec3<u32>, parts: u32) -> vec3<u32> {
    return ((before + after) * parts + own * (256u - 2u * parts) + vec3<u32>(128u)) >> vec3<u32>(8u);
}

// Past an edge comes the pixel inside of it.
fn before(at: u32) -> u32 {
    return select(1u, at - 1u, at > 0u);
}

fn after(at: u32, side: u32) -> u32 {
    return select(side - 2u, at + 1u, at + 1u < side);
}

// A pixel of a row that is blurred along itself.
fn along(image: Image, row: u32, column: u32) -> vec3<u32> {
    let line = image.picture_at + row * image.side;
    return mix_three(
        channels(pictures[line + before(column)]),
        channels(pictures[line + column]),
        channels(pictures[line + after(column, image.side)]),
        image.parts,
    );
}

@compute @workgroup_size(GROUP)
fn blur(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    for (var i = group.y; i < batch.images; i += groups.y) {
        let image = images[i];
        let pixels = image.side * image.side;
        for (var four = id.x; four * 4u < pixels; four += groups.x * GROUP) {
            var bytes: array<vec3<u32>, 4>;
            var owner = 0u;
            for (var nth = 0u; nth < 4u; nth++) {
                let pixel = four * 4u + nth;
                if pixel < pixels {
                    let row = pixel / image.side;
                    let column = pixel % image.side;
                    bytes[nth] = channels(pictures[image.picture_at + pixel]);
                    if image.parts > 0u {
                        bytes[nth] = mix_three(
                            along(image, before(row), column),
                            along(image, row, column),
                            along(image, after(row, image.side), column),
                            image.parts,
                        );
                    }
                    owner |= (pictures[image.picture_at + pixel] >> 24u) << (8u * nth);
                }
            }
            let at = image.packed_at + four;
            owners[at] = owner;
            colours[3u * at] = bytes[0].x | (bytes[0].y << 8u) | (bytes[0].z << 16u) | (bytes[1].x << 24u);
            colours[3u * at + 1u] = bytes[1].y | (bytes[1].z << 8u) | (bytes[2].x << 16u) | (bytes[2].y << 24u);
            colours[3u * at + 2u] = bytes[2].z | (bytes[3].x << 8u) | (bytes[3].y << 16u) | (bytes[3].z << 24u);
        }
    }
}
