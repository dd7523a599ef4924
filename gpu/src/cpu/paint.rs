//! Pastes a fractal into a picture: turned, resized, coloured, and with a note of which instance each pixel shows.
//!
//! Levels are resized, and coloured afterwards: nothing is mixed with the black around a fractal, so no dark fringe is pasted with it.
//!
//! Source: Anderson and Farrell, *Improving Fractal Pre-training*, WACV 2022, and its code (`training/datamodule/datasets/generator.py`), which colours
//! first; bilinear sampling at the centres of pixels as OpenCV does it.

/// How a fractal is turned: first transposed, then its rows put upside down, then its columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orientation {
    /// Rows and columns change places.
    pub transpose: bool,
    /// The last row comes first.
    pub flip_rows: bool,
    /// The last column comes first.
    pub flip_columns: bool,
}

/// Where a fractal is pasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The side it is resized to.
    pub size: usize,
    /// Column of its left edge; may be outside.
    pub x: i32,
    /// Row of its upper edge; may be outside.
    pub y: i32,
    /// How it is turned.
    pub orientation: Orientation,
}

/// Parts of a pixel that a place between two pixels is counted in.
const PARTS: u32 = 128;

/// The two neighbours that a pixel of the resized fractal is mixed of, and how many of 128 parts are of the second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    parts: u32,
}

impl Tap {
    /// Of pixel `at` of `size`, from `side` pixels. Whole numbers, so that every device gives the same.
    fn new(at: usize, size: usize, side: usize) -> Self {
        // (at + 1/2) * side / size - 1/2, in 2 * size parts; at the edges, that of the outermost centre.
        let place = ((2 * at + 1) * side).saturating_sub(size);
        let first = (place / (2 * size)).min(side - 1);
        let parts = place % (2 * size) * PARTS as usize / (2 * size);
        Self { first, second: (first + 1).min(side - 1), parts: u32::try_from(parts).expect("below 128") }
    }
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub struct Scratch {
    turned: Vec<u8>,
    columns: Vec<Tap>,
    weighted: Vec<[u16; 2]>,
}

/// Pastes a fractal of `[side * side]` levels into a picture of `[width * width]` colours, over what is there, and writes `owner` to the owners of the pixels
/// it covers. How many pixels it has by itself: without what is cut off at the edges of the picture.
///
/// A pixel is covered if any of the up to four pixels it is mixed of is. Its level is their weighted mean, those that are empty left out.
///
/// # Panics
/// If the slices are not as long as that.
#[expect(clippy::too_many_arguments, reason = "plain inputs, as the shader has them")]
#[expect(clippy::cast_possible_truncation, reason = "parts are at most 128")]
pub fn paint(
    levels: &[u8],
    side: usize,
    place: Place,
    palette: &[u32; 256],
    owner: u8,
    width: usize,
    picture: &mut [u32],
    owners: &mut [u8],
    scratch: &mut Scratch,
) -> u32 {
    assert!(levels.len() == side * side && picture.len() == width * width && owners.len() == picture.len(), "squares");
    let Scratch { turned, columns, weighted } = scratch;
    let Place { size, x, y, orientation } = place;
    let levels = if orientation.transpose {
        turned.resize(levels.len(), 0);
        transpose(levels, side, turned);
        turned.as_slice()
    } else {
        levels
    };
    let turn = |at: usize, flip: bool| if flip { size - 1 - at } else { at };
    columns.clear();
    columns.extend((0..size).map(|column| Tap::new(turn(column, orientation.flip_columns), size, side)));
    let seen =
        |from: i32| (usize::try_from(-from).unwrap_or(0).min(size), usize::try_from(width as i64 - i64::from(from)).unwrap_or(0).min(size));
    let ((left, right), (top, bottom)) = (seen(x), seen(y));
    let mut pixels = 0;
    if size == side {
        return paint_as_is(levels, place, (left..right, top..bottom), palette, owner, width, picture, owners);
    }
    for row in 0..size {
        let tap = Tap::new(turn(row, orientation.flip_rows), size, side);
        // The two rows mixed: parts of the level, and parts of what is covered.
        let (first, second) = (&levels[tap.first * side..][..side], &levels[tap.second * side..][..side]);
        weighted.clear();
        let (of_second, of_first) = (tap.parts as u16, (PARTS - tap.parts) as u16);
        weighted.extend(first.iter().zip(second).map(|(&first, &second)| {
            let (first, second) = (u16::from(first), u16::from(second));
            [first * of_first + second * of_second, first.min(1) * of_first + second.min(1) * of_second]
        }));
        let level_at = |tap: &Tap| {
            const ALL: u32 = PARTS * PARTS;
            let ([level, cover], [next_level, next_cover]) = (weighted[tap.first].map(u32::from), weighted[tap.second].map(u32::from));
            let cover = cover * (PARTS - tap.parts) + next_cover * tap.parts;
            let level = level * (PARTS - tap.parts) + next_level * tap.parts;
            match cover {
                ALL => (level + ALL / 2) / ALL,
                cover => (level + cover / 2).checked_div(cover).unwrap_or(0),
            }
        };
        let is_seen = (top..bottom).contains(&row);
        if !is_seen || left >= right {
            pixels += columns.iter().map(|tap| level_at(tap).min(1)).sum::<u32>();
            continue;
        }
        pixels += columns[..left].iter().chain(&columns[right..]).map(|tap| level_at(tap).min(1)).sum::<u32>();
        let to =
            usize::try_from(i64::from(y) + row as i64).expect("seen") * width + usize::try_from(i64::from(x) + left as i64).expect("seen");
        let (picture, owners) = (&mut picture[to..][..right - left], &mut owners[to..][..right - left]);
        for ((tap, pixel), of) in columns[left..right].iter().zip(picture).zip(owners) {
            let level = level_at(tap);
            if level > 0 {
                *pixel = palette[level as usize];
                *of = owner;
                pixels += 1;
            }
        }
    }
    pixels
}

/// [`paint`] where nothing is resized: what it would do, with one pixel in the place of four.
#[expect(clippy::too_many_arguments, reason = "a part of `paint`")]
fn paint_as_is(
    levels: &[u8],
    place: Place,
    (columns, rows): (std::ops::Range<usize>, std::ops::Range<usize>),
    palette: &[u32; 256],
    owner: u8,
    width: usize,
    picture: &mut [u32],
    owners: &mut [u8],
) -> u32 {
    let Place { size, x, y, orientation } = place;
    let at = |from: i32, by: usize| usize::try_from(i64::from(from) + by as i64).expect("seen");
    for row in rows.filter(|_| !columns.is_empty()) {
        let from = if orientation.flip_rows { size - 1 - row } else { row };
        let line = &levels[from * size..][..size];
        let to = at(y, row) * width + at(x, columns.start);
        let seen = picture[to..][..columns.len()].iter_mut().zip(&mut owners[to..][..columns.len()]);
        let set = |((pixel, of), &level): ((&mut u32, &mut u8), &u8)| {
            *pixel = if level > 0 { palette[level as usize] } else { *pixel };
            *of = if level > 0 { owner } else { *of };
        };
        if orientation.flip_columns {
            seen.zip(line[size - columns.end..size - columns.start].iter().rev()).for_each(set);
        } else {
            seen.zip(&line[columns.clone()]).for_each(set);
        }
    }
    levels.chunks(1 << 16).map(|part| part.iter().map(|&level| u32::from(level.min(1))).sum::<u32>()).sum()
}

fn transpose(levels: &[u8], side: usize, to: &mut [u8]) {
    const BLOCK: usize = 16;
    for rows in (0..side).step_by(BLOCK) {
        for columns in (0..side).step_by(BLOCK) {
            for row in rows..(rows + BLOCK).min(side) {
                for column in columns..(columns + BLOCK).min(side) {
                    to[column * side + row] = levels[row * side + column];
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::cpu::counter_rng::Draws;

    const COLOURS: [u32; 256] = {
        let mut palette = [0; 256];
        let mut level = 0;
        while level < 256 {
            palette[level] = level as u32;
            level += 1;
        }
        palette
    };

    fn painted(levels: &[u8], side: usize, place: Place, width: usize) -> (Vec<u32>, Vec<u8>, u32) {
        let (mut picture, mut owners) = (vec![1000; width * width], vec![9; width * width]);
        let pixels = paint(levels, side, place, &COLOURS, 3, width, &mut picture, &mut owners, &mut Scratch::default());
        (picture, owners, pixels)
    }

    fn at(size: usize) -> Place {
        Place { size, x: 0, y: 0, orientation: Orientation::default() }
    }

    /// Values of OpenCV 4 (`resize`, `INTER_LINEAR`, 8 bits); ours has 128 parts in the place of its 2048, so it may be a level away.
    #[test]
    fn where_all_is_covered_it_is_bilinear() {
        let levels: Vec<u8> = (1..26).map(|level| level * 10).collect();
        let smaller = [30, 46, 63, 113, 130, 147, 196, 213, 230];
        let larger: [u32; 24] = [10, 14, 21, 27, 33, 39, 46, 50, 32, 36, 42, 49, 55, 61, 67, 72, 63, 67, 74, 80, 86, 92, 99, 103];
        for (size, want) in [(3, &smaller[..]), (8, &larger[..])] {
            let (picture, owners, pixels) = painted(&levels, 5, at(size), size);
            assert!(picture.iter().zip(want).all(|(got, want)| got.abs_diff(*want) <= 1), "{picture:?}");
            assert!(owners.iter().all(|owner| *owner == 3) && pixels as usize == size * size);
        }
    }

    #[test]
    fn nothing_is_mixed_with_the_emptiness_around_a_fractal() {
        let mut levels = vec![0; 49];
        [16, 17, 18, 24, 25, 31].into_iter().for_each(|at| levels[at] = 200);
        for size in [3, 5, 7, 10, 40] {
            let (picture, owners, pixels) = painted(&levels, 7, at(size), size);
            assert!(picture.iter().all(|colour| *colour == 200 || *colour == 1000), "{size}: {picture:?}");
            assert_eq!(picture.iter().filter(|colour| **colour == 200).count(), pixels as usize);
            assert_eq!(owners.iter().filter(|owner| **owner == 3).count(), pixels as usize);
            assert!(pixels > 0 && pixels < (size * size) as u32);
        }
    }

    #[test]
    fn a_fractal_is_transposed_and_then_turned_over() {
        // 1 2
        // 3 4
        let levels = [1, 2, 3, 4];
        let turned = |transpose, flip_rows, flip_columns| {
            painted(&levels, 2, Place { orientation: Orientation { transpose, flip_rows, flip_columns }, ..at(2) }, 2).0
        };
        assert_eq!(turned(false, false, false), [1, 2, 3, 4]);
        assert_eq!(turned(true, false, false), [1, 3, 2, 4]);
        assert_eq!(turned(false, true, false), [3, 4, 1, 2]);
        assert_eq!(turned(false, false, true), [2, 1, 4, 3]);
        assert_eq!(turned(true, true, false), [2, 4, 1, 3]);
        assert_eq!(turned(true, true, true), [4, 2, 3, 1]);
    }

    #[test]
    fn what_is_cut_off_is_the_rest_of_the_whole() {
        let mut draws = Draws::new(1, [0; 3]);
        for case in 0..400 {
            let (side, width) = (1 + draws.below(40) as usize, 1 + draws.below(50) as usize);
            // Every other time nothing is resized: another way through the code.
            let size = if case % 2 == 0 { side } else { 1 + draws.below(60) as usize };
            let levels: Vec<u8> = (0..side * side).map(|_| if draws.chance(0.5) { 0 } else { 1 + draws.below(255) as u8 }).collect();
            let bit = |draws: &mut Draws| draws.chance(0.5);
            let orientation = Orientation { transpose: bit(&mut draws), flip_rows: bit(&mut draws), flip_columns: bit(&mut draws) };
            let (whole, _, pixels) = painted(&levels, side, Place { orientation, ..at(size) }, size);
            let mut from = || i32::try_from(draws.below(140)).unwrap() - 70;
            let (x, y) = (from(), from());
            let (part, owners, same) = painted(&levels, side, Place { size, x, y, orientation }, width);
            assert_eq!(same, pixels, "what it has by itself");
            assert_eq!(pixels as usize, whole.iter().filter(|colour| **colour != 1000).count());
            for row in 0..width {
                for column in 0..width {
                    let inside = |at: usize, from: i32| usize::try_from(at as i64 - i64::from(from)).ok().filter(|at| *at < size);
                    let want = inside(row, y).zip(inside(column, x)).map_or(1000, |(row, column)| whole[row * size + column]);
                    let owner = if want == 1000 { 9 } else { 3 };
                    assert_eq!((part[row * width + column], owners[row * width + column]), (want, owner), "case {case}");
                }
            }
        }
    }
}
