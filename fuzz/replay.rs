//! Runs every target on what is kept in its corpus, and on that with bytes changed.

#![expect(clippy::print_stdout, reason = "a test says how much it tried")]

#[expect(unreachable_pub, reason = "the fuzzers use it as a library")]
#[path = "targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("answers", targets::engine::answers),
    ("csv", targets::readers::csv),
    ("jsonl", targets::readers::jsonl),
    ("parquet", targets::readers::parquet),
    ("text", targets::readers::text),
    ("languages", targets::models::languages),
    ("safetensors", targets::models::safetensors),
    ("warc", targets::readers::warc),
    ("marks", targets::engine::marks),
    ("spill", targets::engine::spill),
    ("yaml", targets::engine::yaml),
];

/// How often each kept input is changed. `FUZZ_SECONDS=600` goes on for so long: a fuzzer where libFuzzer is not to be had.
const ROUNDS: u64 = 20;

/// `SplitMix64`.
///
/// Source: Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators*, 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % (end.max(1) as u64)).expect("below a length")
    }
}

/// `kept` with a few places changed: a bit or a byte, a stretch removed, doubled, or taken from `other`.
fn mutate(kept: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = kept.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(32)).min(bytes.len());
        match random.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = b"\0\xFF\x7F\"\n,{[-9&*\\\r"[random.below(14)],
            2 if !bytes.is_empty() => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            5 => bytes.truncate(at),
            _ => {
                let from = random.below(other.len());
                let piece = other[from..(from + 1 + random.below(32)).min(other.len())].to_vec();
                bytes.splice(at..at, piece).for_each(drop);
            }
        }
    }
    bytes
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
}

fn replay(name: &str) {
    let (_, run) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
    let seconds = std::env::var("FUZZ_SECONDS").map_or(0, |seconds| seconds.parse().expect("FUZZ_SECONDS is a number"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let kept = corpus(name);
    kept.iter().for_each(|(_, bytes)| run(bytes));
    // What is tried first is the same every time.
    let mut random = Random(if seconds == 0 { 5 } else { u64::from(std::process::id()) });
    let mut rounds = 0;
    while rounds < ROUNDS || Instant::now() < until {
        for (path, bytes) in &kept {
            let changed = mutate(bytes, &kept[random.below(kept.len())].1, &mut random);
            if catch_unwind(AssertUnwindSafe(|| run(&changed))).is_err() {
                let crash = std::env::temp_dir().join(format!("granary-fuzz-{name}-{rounds}"));
                fs::write(&crash, &changed).expect("kept");
                panic!("{name}, {} changed: {}", path.display(), crash.display());
            }
        }
        rounds += 1;
    }
    println!("{name}: {} inputs", (rounds + 1) * kept.len() as u64);
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus_and_a_fuzzer() {
            assert_eq!([$(stringify!($name)),*], TARGETS.map(|(name, _)| name));
            for (name, _) in TARGETS {
                assert!(!corpus(name).is_empty(), "{name}");
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/bins/{name}.rs")).exists(), "{name}");
            }
        }
    };
}

replays!(answers, csv, jsonl, parquet, text, languages, safetensors, warc, marks, spill, yaml);
