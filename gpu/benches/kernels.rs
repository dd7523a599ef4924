//! Points, rows and bytes a second of the kernels, with their twins beside them: `cargo bench -p gpu`.
//!
//! One thread, except for a software adapter, which uses them all. `GRANARY_BENCH_ADAPTER` names the adapter to measure; without it the first GPU is
//! measured, if there is one.

use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use gpu::cpu::chaos_game::{Orbit, WAYS, Window, weights};
use gpu::cpu::colour::{Colour, HeightColours, Hues};
use gpu::cpu::counter_rng::Draws;
use gpu::cpu::paint::Orientation;
use gpu::fractal::{Background, ImageJob, Instance, Renderer, Stamp};
use gpu::{Device, DeviceChoice, Gpu};

/// As in the command: large buffers are not given back to the kernel each time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let choice = std::env::var("GRANARY_BENCH_ADAPTER").map_or(DeviceChoice::Auto, DeviceChoice::Named);
    Device::open(&choice).unwrap_or_default()
});

fn main() {
    divan::main();
}

/// Orbits as the published sampler makes them: two to four contracting maps, 100,000 points.
#[expect(clippy::cast_possible_truncation, reason = "coordinates are f32")]
fn orbits(count: u32) -> Vec<Orbit> {
    let mut draws = Draws::new(5, [0; 3]);
    (0..count)
        .map(|row| {
            let maps: Vec<[f32; 6]> = (0..2 + draws.below(3))
                .map(|_| {
                    let (theta, phi) = (draws.between(-3.1, 3.1), draws.between(-3.1, 3.1));
                    let s = [draws.between(0.6, 0.95), draws.between(0.2, 0.7)];
                    let (u, v) = ([theta.cos(), theta.sin()], [phi.cos(), phi.sin()]);
                    let a = [s[0] * u[0] * v[0] - s[1] * u[1] * v[1], -s[0] * u[0] * v[1] - s[1] * u[1] * v[0]];
                    let c = [s[0] * u[1] * v[0] + s[1] * u[0] * v[1], -s[0] * u[1] * v[1] + s[1] * u[0] * v[0]];
                    [a[0], a[1], draws.between(-1.0, 1.0), c[0], c[1], draws.between(-1.0, 1.0)].map(|value| value as f32)
                })
                .collect();
            Orbit { weights: weights(&maps), maps, stream: [1, 2, row, 3], points: 100_000, window: Window::default() }
        })
        .collect()
}

/// Points, and the bytes of the pictures.
fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, orbits: &[Orbit], side: u32) -> Bencher<'a, 'b> {
    let points: u64 = orbits.iter().map(|orbit| u64::from(orbit.points)).sum();
    bencher.counter(ItemsCount::new(points)).counter(BytesCount::new(orbits.len() * side as usize * side as usize * 4))
}

/// 16 orbits of 100,000 points on one thread of the processor.
#[divan::bench(args = WAYS.iter().flat_map(|(name, _)| [112, 224].map(|side| format!("{name} {side}"))))]
fn chaos_game_cpu(bencher: Bencher<'_, '_>, way: &str) {
    let (name, side) = way.split_once(' ').expect("as written above");
    let side: u32 = side.parse().expect("as written above");
    let Some((_, draw)) = WAYS.iter().find(|(way, _)| *way == name) else { return };
    let orbits = orbits(16);
    if draw(&orbits[..1], side).is_some() {
        counted(bencher, &orbits, side).bench_local(|| draw(&orbits, side));
    }
}

/// The sides, if there is an adapter.
fn sides() -> &'static [u32] {
    if DEVICE.gpu().is_some() { &[112, 224] } else { &[] }
}

/// More work for a GPU, which needs it to be busy.
fn rows(gpu: &Gpu) -> u32 {
    if gpu.report().is_gpu() { 256 } else { 16 }
}

/// Orbits of 100,000 points on the adapter, with upload and read-back.
#[divan::bench(args = sides())]
fn chaos_game_gpu(bencher: Bencher<'_, '_>, side: u32) {
    let gpu = DEVICE.gpu().expect("there are no sides without it");
    let orbits = orbits(rows(gpu));
    counted(bencher, &orbits, side).bench_local(|| gpu::kernels::chaos_game::chaos_game(gpu, &orbits, side).expect("the device lives"));
}

/// Images as the published renderer makes them: one fractal of 100,000 points with a stamp, graded, on a plasma, every second one blurred.
fn images(count: u32, side: u32) -> Vec<ImageJob> {
    let hue = Colour::Hue { hue: 0.3, saturation: 0.7, value: 0.9, hues: Hues::Turns };
    let colours = HeightColours { hue: [0.6, 0.1], saturation: [0.2, 0.5], value: [0.4, 0.5], hues: Hues::Turns };
    let image = |(row, orbit)| {
        let (stamp, orientation) = (Stamp::Mask(0b1_0101_0110), Orientation { transpose: true, ..Orientation::default() });
        let instance = Instance { orbit, drawn_side: side, stamp, is_graded: true, colour: hue, size: side, x: 0, y: 0, orientation };
        let background = Background::Plasma { key: [row, 7], decay: 0.6, colours };
        ImageJob { side, background, instances: vec![instance], blur: (row % 2 == 0).then_some(0.7) }
    };
    (0..).zip(orbits(count)).map(image).collect()
}

/// 16 images of 224 pixels on one thread of the processor.
#[divan::bench]
fn images_cpu(bencher: Bencher<'_, '_>) {
    let (images, mut renderer) = (images(16, 224), Renderer::new());
    bencher.counter(ItemsCount::new(images.len())).bench_local(|| renderer.render(&Device::cpu(), &images));
}

/// Images on the adapter, with upload and read-back.
#[divan::bench(args = sides())]
fn images_gpu(bencher: Bencher<'_, '_>, side: u32) {
    let gpu = DEVICE.gpu().expect("there are no sides without it");
    let (images, mut renderer) = (images(rows(gpu), side), Renderer::new());
    bencher.counter(ItemsCount::new(images.len())).bench_local(|| renderer.render(&DEVICE, &images));
}
