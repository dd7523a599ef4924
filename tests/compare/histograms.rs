//! Histograms of chaos games as the `gpu` crate draws them. usage: histograms SIDE POINTS STREAM; reads a system a line from stdin, each a list of
//! maps [a, b, e, c, d, f] in JSON, and writes the counts of each, `[side][side]`, little-endian 32 bits, to stdout.

use std::io::{BufRead, Write};

use gpu::cpu::chaos_game::{Orbit, Window, chaos_game, weights};

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|number| number.parse().expect("a number")).collect();
    let [side, points, stream] = numbers[..] else { panic!("usage: histograms SIDE POINTS STREAM") };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, line) in (0_u32..).zip(std::io::stdin().lock().lines()) {
        let maps: Vec<[f32; 6]> = serde_json::from_str(&line.expect("a line")).expect("a list of maps");
        let orbit = Orbit { weights: weights(&maps), maps, stream: [stream, number, 0, 0], points, window: Window::default() };
        let drawn = chaos_game(&[orbit], side);
        drawn[0].counts.iter().for_each(|count| out.write_all(&count.to_le_bytes()).expect("stdout"));
    }
}
