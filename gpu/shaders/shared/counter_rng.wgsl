// Random numbers that are a function of a key and a counter: Philox4x32-10. Twin: src/cpu/counter_rng.rs.

// Low and high word of a product.
fn multiply_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    // No sum here passes 2^32: each product is at most (2^16 - 1)^2, and what is added to it is below 2^17.
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (middle >> 16u) + (other >> 16u));
}

// Four random words for a counter under a key.
fn philox(key: vec2<u32>, counter: vec4<u32>) -> vec4<u32> {
    var k = key;
    var c = counter;
    for (var round = 0u; round < 10u; round++) {
        if round > 0u {
            k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
        }
        let first = multiply_wide(0xD2511F53u, c.x);
        let second = multiply_wide(0xCD9E8D57u, c.z);
        c = vec4<u32>(second.y ^ c.y ^ k.x, second.x, first.y ^ c.w ^ k.y, first.x);
    }
    return c;
}
