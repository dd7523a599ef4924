// From counts to grey levels. Twin: src/cpu/levels.rs.

fn level_of(count: u32, highest: u32, is_graded: bool) -> u32 {
    if count == 0u {
        return 0u;
    }
    if !is_graded {
        return 255u;
    }
    let zeros = countLeadingZeros(highest);
    let shift = select(0u, 16u - zeros, zeros < 16u);
    let factor = 0xFF000000u / (highest >> shift);
    return max(((count >> shift) * factor + (1u << 23u)) >> 24u, 1u);
}
