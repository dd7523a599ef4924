// Random words by counter: block i of a key is philox(key, (i, place)). Dispatch: x = blocks / 64.
// Twin: src/cpu/counter_rng.rs.
#import counter_rng
#import grid

struct RandomWords {
    key: vec2<u32>,
    blocks: u32,
    place: u32,
}

@group(0) @binding(0) var<uniform> params: RandomWords;
@group(0) @binding(1) var<storage, read_write> words: array<vec4<u32>>;  // [blocks]

override GROUP: u32 = 64u;

@compute @workgroup_size(GROUP)
fn random_words(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group_number(group, groups) * GROUP + lane;
    if block < params.blocks {
        words[block] = philox(params.key, vec4<u32>(block, params.place, 0u, 0u));
    }
}
