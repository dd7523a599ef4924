//! What an image of a fractal takes, step by step, on one thread of the processor: `cargo bench -p gpu --bench fractal`.
//!
//! One image of 224 pixels a time. The code of Anderson and Farrell takes 5.7 ms for a whole one: 3.3 for the points, 0.9 for stamps and levels, 0.16 for its colours
//! and 0.86 for the background.

use divan::Bencher;
use gpu::cpu::chaos_game::{Orbit, Window, chaos_game, weights};
use gpu::cpu::colour::{Colour, HEIGHTS, HeightColours, Hues, height_palette, level_palette};
use gpu::cpu::paint::{Orientation, Place};
use gpu::cpu::{blur, levels, paint, plasma, stamp};

const SIDE: usize = 224;
const PIXELS: usize = SIDE * SIDE;

/// As in the command: large buffers are not given back to the kernel each time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    divan::main();
}

/// Counts of 100,000 points of a system that covers much of its picture.
fn counts() -> Vec<u32> {
    let maps = vec![[0.5, 0.3, 0.1, -0.4, 0.6, 0.2], [0.6, -0.2, 0.5, 0.3, 0.5, -0.4], [-0.4, 0.5, -0.3, 0.2, 0.7, 0.6]];
    let orbit = Orbit { weights: weights(&maps), maps, stream: [1, 2, 3, 4], points: 100_000, window: Window::default() };
    chaos_game(&[orbit], 224).remove(0).counts
}

fn grey() -> Vec<u8> {
    let mut grey = vec![0; PIXELS];
    levels::levels(&counts(), &mut grey);
    grey
}

#[divan::bench]
fn stamps(bencher: Bencher<'_, '_>) {
    let (counts, mut sums) = (counts(), vec![0; PIXELS]);
    bencher.bench_local(|| stamp::stamp(&counts, 0, 0b1_0111_0101, SIDE, &mut sums));
}

#[divan::bench]
fn grey_levels(bencher: Bencher<'_, '_>) {
    let (counts, mut grey) = (counts(), vec![0; PIXELS]);
    bencher.bench_local(|| levels::levels(&counts, &mut grey));
}

#[divan::bench]
fn palettes(bencher: Bencher<'_, '_>) {
    let heights = HeightColours { hue: [0.7, 0.3], saturation: [0.2, 0.5], value: [0.4, 0.5], hues: Hues::Turns };
    let hue = Colour::Hue { hue: 0.3, saturation: 0.7, value: 0.9, hues: Hues::Turns };
    let mut palette = [0; HEIGHTS];
    bencher.bench_local(|| {
        height_palette(&heights, &mut palette);
        level_palette(hue)
    });
}

#[divan::bench]
fn heights_of_a_background(bencher: Bencher<'_, '_>) {
    let (mut heights, mut scratch, moves) = (vec![0; PIXELS], plasma::Scratch::default(), plasma::moves(0.6, SIDE));
    bencher.bench_local(|| plasma::plasma([1, 2], &moves, SIDE, &mut scratch, &mut heights));
}

/// As it is, transposed, and made smaller from half the side.
#[divan::bench(args = ["as it is", "transposed", "resized"])]
fn pasting(bencher: Bencher<'_, '_>, how: &str) {
    let (grey, palette) = (grey(), level_palette(Colour::Grey(127)));
    let (side, size) = if how == "resized" { (112, 84) } else { (SIDE, SIDE) };
    let place = Place { size, x: 0, y: 0, orientation: Orientation { transpose: how == "transposed", ..Orientation::default() } };
    let (mut picture, mut owners, mut scratch) = (vec![0; PIXELS], vec![0; PIXELS], paint::Scratch::default());
    bencher.bench_local(|| paint::paint(&grey[..side * side], side, place, &palette, 1, SIDE, &mut picture, &mut owners, &mut scratch));
}

#[divan::bench]
fn blurring(bencher: Bencher<'_, '_>) {
    let (mut picture, mut scratch) = (vec![[90, 30, 200, 255]; PIXELS], Vec::new());
    bencher.bench_local(|| blur::blur(&mut picture, SIDE, 40, &mut scratch));
}
