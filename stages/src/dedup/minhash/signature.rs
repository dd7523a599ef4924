//! Signatures: for each of many hash functions, the smallest value over a text's shingles. Two texts agree in a value with a chance that is
//! their Jaccard similarity.

#![expect(clippy::inline_always, reason = "a task has to be compiled anew inside the function for wider registers")]

use sha1::{Digest, Sha1};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::bands::Bands;
use super::shingle::{clean, mix};
use crate::text::wide::{Block, Task, run};

/// Hash functions of the narrowest step; signatures are padded to whole ones.
const LANES: usize = 16;

/// Makes signatures of `n` values from 64-bit shingle hashes.
///
/// Each function is `a * x + c` modulo 2^32, over the upper half of the shingle's hash, with odd `a`: multiplicative hashing, whose upper bits, which
/// decide a minimum, are universal. Half of the hash is enough, as a value has no more bits than it. Source: Dietzfelbinger, Hagerup,
/// Katajainen, Penttonen, *A reliable randomized algorithm for the closest-pair problem*, 1997.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    n: usize,
    /// Padded to whole lanes.
    a: Vec<u32>,
    c: Vec<u32>,
}

impl Signer {
    /// A signer whose functions are drawn from `seed`.
    pub(crate) fn new(n: usize, seed: u64) -> Self {
        let padded = n.next_multiple_of(LANES);
        let draw = |which: u64, index: usize| mix(mix(seed).wrapping_add(which << 32).wrapping_add(index as u64));
        #[expect(clippy::cast_possible_truncation, reason = "32 of 64 random bits are wanted")]
        let draws = |which: u64, odd: u32| (0..padded).map(|index| draw(which, index) as u32 | odd).collect();
        Self { n, a: draws(1, 1), c: draws(3, 0) }
    }

    /// Writes the signature of a text's shingle hashes; `[n]`. All `u32::MAX` if there are none.
    pub(crate) fn sign(&self, hashes: &[u64], signature: &mut Vec<u32>) {
        signature.clear();
        signature.resize(self.a.len(), u32::MAX);
        run(Sign { signer: self, hashes, signature });
        signature.truncate(self.n);
    }
}

/// Writes a padded signature.
struct Sign<'a> {
    signer: &'a Signer,
    hashes: &'a [u64],
    signature: &'a mut [u32],
}

impl Task for Sign<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self, _block: impl Fn(&[u8; 64]) -> Block) {
        let mut at = 0;
        // As many functions at a time as their constants and least values find registers; the rest by narrower steps.
        at = self.lanes::<112>(at);
        at = self.lanes::<48>(at);
        self.lanes::<LANES>(at);
    }
}

impl Sign<'_> {
    /// Whole steps of `N` functions from the one at `at` on. Gives the first of the rest.
    #[inline(always)]
    fn lanes<const N: usize>(&mut self, at: usize) -> usize {
        let (a, c) = (self.signer.a[at..].as_chunks::<N>().0, self.signer.c[at..].as_chunks::<N>().0);
        for ((a, c), signature) in a.iter().zip(c).zip(self.signature[at..].as_chunks_mut::<N>().0) {
            let mut least = [u32::MAX; N];
            for hash in self.hashes {
                let x = (hash >> 32) as u32;
                for lane in 0..N {
                    least[lane] = least[lane].min(a[lane].wrapping_mul(x).wrapping_add(c[lane]));
                }
            }
            *signature = least;
        }
        at + a.len() * N
    }
}

/// The key of each band of a signature, for meeting in a bucket: equal only for equal bands of equal number.
pub(crate) fn band_keys(signature: &[u32], bands: Bands) -> impl Iterator<Item = u128> {
    let mut bytes = Vec::with_capacity(bands.rows as usize * 4);
    signature.chunks_exact(bands.rows as usize).take(bands.bands as usize).zip(0_u64..).map(move |(band, number)| {
        bytes.clear();
        bytes.extend(band.iter().flat_map(|value| value.to_le_bytes()));
        xxh3_128_with_seed(&bytes, number)
    })
}

/// SlimPajama's signatures, bit for bit: datasketch 1.5.9 over 13-character grams of the cleaned text.
///
/// A gram's hash is the first four bytes of its SHA-1, lowest first; function `i` is `((a_i * h + b_i) mod 2^64 mod (2^61 - 1)) mod 2^32`,
/// the product wrapping before the modulus; `a_i` and `b_i` are drawn in turn by NumPy's `RandomState(1)`. Source: Cerebras modelzoo 2.10 and
/// datasketch 1.5.9, `MinHash`.
#[derive(Debug, Clone)]
pub(crate) struct Datasketch {
    functions: Vec<(u64, u64)>,
}

impl Datasketch {
    const PRIME: u64 = (1 << 61) - 1;

    /// The first `n` functions of seed 1.
    pub(crate) fn new(n: usize) -> Self {
        let mut random = Mt19937::new(1);
        let draw = |random: &mut Mt19937, from: u64| from + random.below(Self::PRIME - 1 - from);
        let functions = (0..n).map(|_| (draw(&mut random, 1), draw(&mut random, 0))).collect();
        Self { functions }
    }

    /// Writes the signature of a text; `[n]`. All `u32::MAX` if it has fewer than `width` characters when cleaned.
    pub(crate) fn sign(&self, text: &str, width: usize, buffer: &mut String, signature: &mut Vec<u32>) {
        clean(text, buffer);
        signature.clear();
        signature.resize(self.functions.len(), u32::MAX);
        let ends = buffer.char_indices().map(|(at, _)| at).skip(width).chain([buffer.len()]);
        let starts = buffer.char_indices().map(|(at, _)| at);
        if buffer.chars().count() < width {
            return;
        }
        for (start, end) in starts.zip(ends) {
            let digest = Sha1::digest(&buffer.as_bytes()[start..end]);
            let hash = u64::from(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]));
            for (value, (a, b)) in signature.iter_mut().zip(&self.functions) {
                #[expect(clippy::cast_possible_truncation, reason = "the scheme takes the lower 32 bits")]
                let found = (a.wrapping_mul(hash).wrapping_add(*b) % Self::PRIME) as u32;
                *value = (*value).min(found);
            }
        }
    }
}

/// NumPy's `RandomState`: the 32-bit Mersenne Twister, seeded by one number.
///
/// Source: Matsumoto, Nishimura, *Mersenne Twister*, ACM TOMACS 8(1), 1998, and its reference initialisation of 2002.
struct Mt19937 {
    state: [u32; 624],
    at: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [0; 624];
        state[0] = seed;
        for at in 1..624_u32 {
            let before = state[at as usize - 1];
            state[at as usize] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(at);
        }
        Self { state, at: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for at in 0..624 {
                let bits = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % 624] & 0x7FFF_FFFF);
                let twist = if bits & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.state[at] = self.state[(at + 397) % 624] ^ (bits >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut value = self.state[self.at];
        self.at += 1;
        value ^= value >> 11;
        value ^= (value << 7) & 0x9D2C_5680;
        value ^= (value << 15) & 0xEFC6_0000;
        value ^ (value >> 18)
    }

    /// A number from 0 to `most`, as `RandomState.randint` draws 64-bit ones: masked to the bits that `most` has, again until it fits.
    fn below(&mut self, most: u64) -> u64 {
        let mask = u64::MAX >> most.leading_zeros();
        loop {
            let value = ((u64::from(self.next()) << 32) | u64::from(self.next())) & mask;
            if value <= most {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::minhash::shingle::{ShingleUnit, Shingler, Shingles, jaccard};
    use crate::text::wide::{Processor, run_on};

    #[test]
    fn slimpajamas_golden_values_come_out_bit_for_bit() {
        // Made with datasketch 1.5.9.
        let datasketch = Datasketch::new(128);
        assert_eq!(datasketch.functions[0], (775_169_054_918_279_404, 1_758_426_461_858_698_312));
        assert_eq!(datasketch.functions[1], (2_109_959_069_025_162, 965_365_488_286_768_773));
        let (mut buffer, mut signature) = (String::new(), Vec::new());
        datasketch.sign("Hello,  World! 12", 13, &mut buffer, &mut signature);
        assert_eq!(signature[..5], [389_538_233, 440_482_771, 86_537_126, 690_678_596, 2_082_812_403]);
        datasketch.sign("too short", 13, &mut buffer, &mut signature);
        assert!(signature.iter().all(|value| *value == u32::MAX));
    }

    #[test]
    fn every_processor_gives_the_values_of_the_functions() {
        let hashes: Vec<u64> = (0..1000).map(mix).collect();
        // Whole steps of each width and what is left of them.
        for n in [1, 16, 17, 48, 112, 128, 112 + 48 + 16 + 3] {
            let signer = Signer::new(n, 7);
            for n_shingles in [0, 1, 7, 1000] {
                let value = |a: u32, c: u32, hash: &u64| (u64::from(a) * (hash >> 32) + u64::from(c)) & u64::from(u32::MAX);
                let least = |(a, c): (&u32, &u32)| hashes[..n_shingles].iter().map(|hash| value(*a, *c, hash)).min();
                let expected: Vec<u64> =
                    signer.a.iter().zip(&signer.c).take(n).map(|of| least(of).unwrap_or(u64::from(u32::MAX))).collect();
                for processor in Processor::all() {
                    let mut found = vec![u32::MAX; signer.a.len()];
                    run_on(processor, Sign { signer: &signer, hashes: &hashes[..n_shingles], signature: &mut found });
                    let found: Vec<u64> = found[..n].iter().map(|value| u64::from(*value)).collect();
                    assert_eq!(found, expected, "{processor:?}: {n} values of {n_shingles} shingles");
                }
            }
        }
    }

    #[test]
    fn values_agree_as_often_as_the_sets_do() {
        // 20,000 functions on one pair of sets of each similarity: the share that agrees has a standard deviation below 0.0036.
        for (both, each) in [(90, 5), (80, 10), (50, 25), (20, 40)] {
            let a: Vec<u64> = (0..both + each).map(mix).collect();
            let b: Vec<u64> = (0..both).chain(1000..1000 + each).map(mix).collect();
            let sorted = |set: &[u64]| {
                let mut set = set.to_vec();
                set.sort_unstable();
                set
            };
            let wanted = jaccard(&sorted(&a), &sorted(&b));
            let (signer, mut of_a, mut of_b) = (Signer::new(20_000, 3), Vec::new(), Vec::new());
            signer.sign(&a, &mut of_a);
            signer.sign(&b, &mut of_b);
            let agree = of_a.iter().zip(&of_b).filter(|(a, b)| a == b).count() as f64 / 20_000.0;
            assert!((agree - wanted).abs() < 0.015, "similarity {wanted}: {agree} of the values agree");
        }
    }

    #[test]
    fn equal_bands_have_equal_keys_and_the_number_counts() {
        let mut shingles = Shingles::default();
        Shingler { unit: ShingleUnit::Words, n: 2 }.cut("a b c d e", &mut shingles);
        let (signer, mut signature) = (Signer::new(8, 1), Vec::new());
        signer.sign(&shingles.hashes, &mut signature);
        let bands = Bands { bands: 4, rows: 2 };
        let keys: Vec<u128> = band_keys(&signature, bands).collect();
        assert_eq!(keys.len(), 4);
        signature[7] ^= 1;
        let changed: Vec<u128> = band_keys(&signature, bands).collect();
        assert_eq!(keys[..3], changed[..3]);
        assert_ne!(keys[3], changed[3]);
        assert_ne!(band_keys(&[1, 1, 1, 1], bands).next(), band_keys(&[1, 1, 1, 1], bands).nth(1));
    }
}
