//! Random numbers that are a function of a key and a counter: any of them can be made alone, by any worker, on any device.
//!
//! Philox4x32-10. Source: Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011, §3.3; constants of table 2 and
//! of their Random123 library.

/// Rounds of the generator.
const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four random words for a counter under a key.
#[inline]
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let ([mut k0, mut k1], [mut c0, mut c1, mut c2, mut c3]) = (key, counter);
    for round in 0..ROUNDS {
        if round > 0 {
            (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
        }
        let (low0, high0) = multiply(MULTIPLIERS[0], c0);
        let (low1, high1) = multiply(MULTIPLIERS[1], c2);
        (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0);
    }
    [c0, c1, c2, c3]
}

/// Low and high word of a product.
#[expect(clippy::cast_possible_truncation, reason = "the halves of a double word")]
#[inline]
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    (product as u32, (product >> 32) as u32)
}

/// Draws in order from one place of the counter space: `[draw, place]` under a key, where `place` says whose draws they are.
#[derive(Debug, Clone)]
pub struct Draws {
    key: [u32; 2],
    place: [u32; 3],
    next: u32,
    block: [u32; 4],
}

impl Draws {
    /// The draws of a place, from the first.
    pub fn new(key: u64, place: [u32; 3]) -> Self {
        let key = [u32::try_from(key & u64::from(u32::MAX)).expect("masked"), u32::try_from(key >> 32).expect("shifted")];
        Self { key, place, next: 0, block: [0; 4] }
    }

    /// The next 32 random bits.
    pub fn word(&mut self) -> u32 {
        let lane = self.next % 4;
        if lane == 0 {
            let [a, b, c] = self.place;
            self.block = philox(self.key, [self.next / 4, a, b, c]);
        }
        self.next = self.next.wrapping_add(1);
        self.block[lane as usize]
    }

    /// The next 53 random bits as a number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        let bits = (u64::from(self.word()) << 21) | u64::from(self.word() >> 11);
        bits as f64 / (1_u64 << 53) as f64
    }

    /// A number in `[low, high)`; `low` where they are equal.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number below `n`, each as likely as the others but for `n / 2^32`; 0 if `n` is.
    pub fn below(&mut self, n: u32) -> u32 {
        multiply(self.word(), n).1
    }

    /// True with this chance.
    pub fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 library (`kat_vectors`).
    #[test]
    fn it_is_philox() {
        assert_eq!(philox([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 2], [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox([0xa409_3822, 0x299f_31d0], pi), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn draws_are_a_function_of_their_place() {
        let words = |place| {
            let mut draws = Draws::new(7, place);
            [(); 9].map(|()| draws.word())
        };
        assert_eq!(words([1, 2, 3]), words([1, 2, 3]));
        assert_ne!(words([1, 2, 3]), words([1, 2, 4]));
        assert_eq!(words([1, 2, 3])[4..8], philox([7, 0], [1, 1, 2, 3]));
        let mut draws = Draws::new(7, [0; 3]);
        let units: Vec<f64> = (0..10_000).map(|_| draws.unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        // The mean of n uniform numbers is off by more than 5 / sqrt(12 n) with odds of one in two million.
        let mean = units.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 5.0 / (12.0 * 10_000.0_f64).sqrt(), "{mean}");
        assert!((0..1000).all(|_| draws.below(5) < 5) && draws.below(0) == 0);
    }
}
