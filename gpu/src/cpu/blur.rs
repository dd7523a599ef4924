//! A 3x3 Gaussian blur.
//!
//! Source: OpenCV's `GaussianBlur` with a kernel of 3: weights `exp(-d^2 / 2 sigma^2)` that add up to one, mirrored at the edge without the edge
//! itself. Here in 256 parts and rounded after each direction, so that every device gives the same.

/// Parts of 256 that a pixel takes from each of its two neighbours in a line.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 85")]
pub fn neighbour_parts(sigma: f32) -> u16 {
    let weight = (-0.5 / (f64::from(sigma) * f64::from(sigma))).exp();
    (256.0 * weight / (1.0 + 2.0 * weight)).round() as u16
}

/// Blurs a picture of `[side * side]` colours; `parts` as [`neighbour_parts`] gives them.
///
/// # Panics
/// If the picture is no square of that side, or the side below 2.
pub fn blur(picture: &mut [[u8; 4]], side: usize, parts: u16, scratch: &mut Vec<u8>) {
    assert!(picture.len() == side * side && side >= 2, "a square");
    let line = 4 * side;
    scratch.resize(4 * line, 0);
    let bytes = picture.as_flattened_mut();
    // Rows blurred along themselves: the one before, this one, the next; and the sums of a line.
    let (mut before, rest) = scratch.split_at_mut(line);
    let (mut this, rest) = rest.split_at_mut(line);
    let (mut next, _) = rest.split_at_mut(line);
    along(&bytes[..line], parts, this);
    along(&bytes[line..2 * line], parts, next);
    before.copy_from_slice(next);
    for row in 0..side {
        for (((byte, &above), &own), &below) in bytes[row * line..(row + 1) * line].iter_mut().zip(&*before).zip(&*this).zip(&*next) {
            *byte = mix(above, own, below, parts);
        }
        let free = before;
        before = this;
        this = next;
        next = free;
        match row + 2 {
            ahead if ahead < side => along(&bytes[ahead * line..(ahead + 1) * line], parts, next),
            // Past the last row comes the one before it.
            _ => next.copy_from_slice(before),
        }
    }
}

/// A row of pixels of four bytes, blurred along itself.
fn along(row: &[u8], parts: u16, to: &mut [u8]) {
    let line = row.len();
    for at in 0..4 {
        to[at] = mix(row[4 + at], row[at], row[4 + at], parts);
        let end = line - 4 + at;
        to[end] = mix(row[end - 4], row[end], row[end - 4], parts);
    }
    for (((to, &left), &own), &right) in to[4..line - 4].iter_mut().zip(row).zip(&row[4..]).zip(&row[8..]) {
        *to = mix(left, own, right, parts);
    }
}

/// Three bytes mixed, the outer ones with `parts` of 256 each.
#[inline]
fn mix(before: u8, own: u8, after: u8, parts: u16) -> u8 {
    ((u16::from(before) * parts + u16::from(own) * (256 - 2 * parts) + u16::from(after) * parts + 128) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of OpenCV 4 (`GaussianBlur`, 3x3, 8 bits), which rounds once and with weights to 2^-16: so ours may be a level away.
    #[test]
    fn it_is_a_gaussian_blur() {
        let picture: [u8; 16] = [0, 10, 200, 255, 90, 30, 60, 7, 255, 255, 0, 1, 13, 77, 140, 90];
        let half = [18, 31, 157, 196, 88, 58, 63, 40, 212, 192, 40, 13, 75, 109, 107, 80];
        let one = [34, 57, 94, 122, 97, 92, 81, 78, 144, 120, 72, 42, 161, 136, 88, 53];
        for (sigma, want) in [(0.5, half), (1.0, one)] {
            let mut got: Vec<[u8; 4]> = picture.iter().map(|&byte| [byte, byte / 2, 0, 255]).collect();
            blur(&mut got, 4, neighbour_parts(sigma), &mut Vec::new());
            assert!(got.iter().zip(want).all(|(got, want): (_, u8)| got[0].abs_diff(want) <= 1), "{got:?}");
            assert!(got.iter().all(|pixel| pixel[2] == 0 && pixel[3] == 255 && pixel[1].abs_diff(pixel[0] / 2) <= 1));
        }
        assert_eq!((neighbour_parts(0.5), neighbour_parts(1.0)), (27, 70));
        assert_eq!(neighbour_parts(0.01), 0);
    }

    #[test]
    fn even_areas_stay_as_they_are() {
        for side in [2, 3, 17] {
            let mut picture = vec![[255, 1, 128, 255]; side * side];
            blur(&mut picture, side, 70, &mut Vec::new());
            assert_eq!(picture, vec![[255, 1, 128, 255]; side * side]);
        }
    }
}
