//! MinHash signatures alone, as `dedup_minhash` makes them. usage: signatures FILES; prints CPU-seconds and the bytes of text that were signed.

use std::io::{BufRead, BufReader, Write};

use stages::testing::MinhashSignatures;

/// Seconds this thread has had of a processor.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says how long a thread ran");
    stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}

fn main() {
    let mut texts: Vec<String> = Vec::new();
    for path in std::env::args().skip(1) {
        for line in BufReader::new(std::fs::File::open(path).expect("a file")).lines() {
            let document: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
            texts.extend(document["text"].as_str().map(str::to_owned));
        }
    }
    let mut signatures = MinhashSignatures::new(112, 5);
    let before = cpu();
    let sum = texts.iter().fold(0_u32, |sum, text| signatures.of(text).iter().fold(sum, |sum, value| sum ^ value));
    let seconds = cpu() - before;
    std::hint::black_box(sum);
    let bytes: usize = texts.iter().map(String::len).sum();
    writeln!(std::io::stdout(), "{seconds} {bytes}").expect("stdout");
}
