//! From counts to grey levels.

/// Level of a pixel that has the highest count.
pub const HIGHEST: u8 = 255;

/// The grey level of each count: 0 where nothing is, else from 1 to 255 in proportion to the highest count, rounded to the nearest.
///
/// In whole numbers, so that every device gives the same.
///
/// # Panics
/// If the slices are not of one length.
pub fn levels(counts: &[u32], levels: &mut [u8]) {
    assert_eq!(counts.len(), levels.len(), "a level for each count");
    let highest = counts.iter().copied().max().unwrap_or(0);
    if highest == 0 {
        return levels.fill(0);
    }
    // The upper 16 bits of counts are enough, and leave so many for the factor.
    let shift = 16_u32.saturating_sub(highest.leading_zeros());
    let factor = (u32::from(HIGHEST) << 24) / (highest >> shift);
    for (level, &count) in levels.iter_mut().zip(counts) {
        // At most 255 * 2^24, and half a level more stays below 2^32.
        *level = (((count >> shift) * factor + (1 << 23)) >> 24).max(count.min(1)) as u8;
    }
}

/// The same for pictures in black and white: the highest level wherever anything is.
///
/// # Panics
/// If the slices are not of one length.
pub fn binary_levels(counts: &[u32], levels: &mut [u8]) {
    assert_eq!(counts.len(), levels.len(), "a level for each count");
    for (level, &count) in levels.iter_mut().zip(counts) {
        *level = if count > 0 { HIGHEST } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_shares_of_the_highest_count() {
        let of = |counts: &[u32]| {
            let mut got = vec![9; counts.len()];
            levels(counts, &mut got);
            got
        };
        assert_eq!(of(&[0, 1, 2, 4]), [0, 64, 128, 255], "63.75 and 127.5 to the nearest");
        // The least that is there is seen, however much there is elsewhere.
        assert_eq!(of(&[1, 0, 1_000_000, 600_000]), [1, 0, 255, 153]);
        assert_eq!(of(&[u32::MAX, 1]), [255, 1]);
        assert_eq!(of(&[0, 0]), [0, 0]);
        assert!(of(&[]).is_empty());
        for highest in (1..5000).chain([65_535, 65_536, 99_991, 16_777_215, 16_777_216]) {
            assert_eq!(of(&[highest])[0], 255, "{highest}");
        }
        let mut got = vec![9; 3];
        binary_levels(&[0, 1, 700], &mut got);
        assert_eq!(got, [0, 255, 255]);
    }
}
