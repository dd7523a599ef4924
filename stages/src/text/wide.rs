//! Sixty-four bytes of text at a time: what each of them is to the rules of words, by whatever registers the processor has.

/// What the bytes of a block are, a bit for each, the lowest for the first. Bytes that are not ASCII are nothing but `lead`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// ASCII letters.
    pub(crate) letter: u64,
    /// ASCII digits.
    pub(crate) digit: u64,
    /// `_`.
    pub(crate) joiner: u64,
    /// `:`, `.`, `'`: inside a word between two letters.
    pub(crate) mid_letter: u64,
    /// `,`, `;`, `.`, `'`: inside a word between two digits.
    pub(crate) mid_digit: u64,
    /// First bytes of characters that are not ASCII.
    pub(crate) lead: u64,
}

/// Work on blocks that is compiled once for each kind of processor.
pub(crate) trait Task {
    type Output;

    /// Does it; `block` finds what bytes are. To be `#[inline(always)]`, so that it is compiled anew inside the function for wider registers.
    fn run(self, block: impl Fn(&[u8; 64]) -> Block) -> Self::Output;
}

/// What there is code for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processor {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Any,
}

/// Does a task by the widest registers there are.
pub(crate) fn run<T: Task>(task: T) -> T::Output {
    run_on(Processor::best(), task)
}

impl Processor {
    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("bmi1") || !is_x86_feature_detected!("bmi2") {
            Self::Any
        } else if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
            Self::Avx512
        } else {
            Self::Avx2
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Self {
        Self::Any
    }

    /// Those that this one can stand in for, itself among them.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        match Self::best() {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => vec![Self::Avx512, Self::Avx2, Self::Any],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => vec![Self::Avx2, Self::Any],
            Self::Any => vec![Self::Any],
        }
    }
}

/// Does a task by the code for `processor`, which has to be one that [`Processor::best`] found or can stand in for.
pub(crate) fn run_on<T: Task>(processor: Processor, task: T) -> T::Output {
    match processor {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "the processor was asked whether it has what the function is compiled for")]
        Processor::Avx512 => unsafe { x86::avx512(task) },
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "the processor was asked whether it has what the function is compiled for")]
        Processor::Avx2 => unsafe { x86::avx2(task) },
        Processor::Any => task.run(plain),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
        _mm256_sub_epi8, _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512, _mm512_or_si512, _mm512_set1_epi8,
        _mm512_sub_epi8,
    };

    use super::{Block, Task};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(crate) fn avx512<T: Task>(task: T) -> T::Output {
        task.run(|bytes| block_of_64(bytes))
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(crate) fn avx2<T: Task>(task: T) -> T::Output {
        task.run(|bytes| block_of_32s(bytes))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn block_of_64(bytes: &[u8; 64]) -> Block {
        #[expect(unsafe_code, reason = "64 bytes are there")]
        let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        let is = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte.cast_signed()));
        let first = |bytes, first: u8, n| {
            let offset = _mm512_sub_epi8(bytes, _mm512_set1_epi8(first.cast_signed()));
            _mm512_cmplt_epu8_mask(offset, _mm512_set1_epi8(n))
        };
        let mid = is(b'.') | is(b'\'');
        Block {
            letter: first(_mm512_or_si512(bytes, _mm512_set1_epi8(0x20)), b'a', 26),
            digit: first(bytes, b'0', 10),
            joiner: is(b'_'),
            mid_letter: mid | is(b':'),
            mid_digit: mid | is(b',') | is(b';'),
            lead: first(bytes, 0xC0, 64),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn block_of_32s(bytes: &[u8; 64]) -> Block {
        #[expect(unsafe_code, reason = "twice 32 bytes are there")]
        let halves = unsafe { [_mm256_loadu_si256(bytes.as_ptr().cast()), _mm256_loadu_si256(bytes.as_ptr().add(32).cast())] };
        // The upper bit of each byte.
        let bits = |of: [__m256i; 2]| {
            let [low, high] = of.map(|of| u64::from(_mm256_movemask_epi8(of).cast_unsigned()));
            low | (high << 32)
        };
        let is = |byte: u8| halves.map(|half| _mm256_cmpeq_epi8(half, _mm256_set1_epi8(byte.cast_signed())));
        let either = |a: [__m256i; 2], b: [__m256i; 2]| [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])];
        let first = |bytes: [__m256i; 2], first: u8, n: i8| {
            bytes.map(|bytes| {
                let offset = _mm256_sub_epi8(bytes, _mm256_set1_epi8(first.cast_signed()));
                // No more than the last of them: there is no other comparison without signs.
                _mm256_cmpeq_epi8(_mm256_min_epu8(offset, _mm256_set1_epi8(n - 1)), offset)
            })
        };
        let folded = halves.map(|half| _mm256_or_si256(half, _mm256_set1_epi8(0x20)));
        let mid = either(is(b'.'), is(b'\''));
        Block {
            letter: bits(first(folded, b'a', 26)),
            digit: bits(first(halves, b'0', 10)),
            joiner: bits(is(b'_')),
            mid_letter: bits(either(mid, is(b':'))),
            mid_digit: bits(either(mid, either(is(b','), is(b';')))),
            lead: bits(first(halves, 0xC0, 64)),
        }
    }
}

/// The same, eight bytes in a register.
#[inline(always)]
fn plain(bytes: &[u8; 64]) -> Block {
    const UPPER: u64 = every(0x80);
    const fn every(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let mut block = Block::default();
    for (number, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let bytes = u64::from_le_bytes(*eight);
        // In all of these the upper bit of each byte is the answer for ASCII; the sums do not go past a byte.
        let low = bytes & every(0x7F);
        let first = |bytes: u64, first: u8, last: u8| (bytes + every(0x80 - first)) & !(bytes + every(0x7F - last));
        let is = |byte: u8| !((low ^ every(byte)) + every(0x7F));
        // The upper bits side by side: each lands in the highest byte at a place of its own.
        let put = |answer: u64, of_all: &mut u64| {
            let bits = (((answer & UPPER) >> 7).wrapping_mul(0x0102_0408_1020_4080)) >> 56;
            *of_all |= bits << (number * 8);
        };
        let mid = is(b'.') | is(b'\'');
        put(first(low | every(0x20), b'a', b'z') & !bytes, &mut block.letter);
        put(first(low, b'0', b'9') & !bytes, &mut block.digit);
        put(is(b'_') & !bytes, &mut block.joiner);
        put((mid | is(b':')) & !bytes, &mut block.mid_letter);
        put((mid | is(b',') | is(b';')) & !bytes, &mut block.mid_digit);
        put(bytes & (bytes << 1), &mut block.lead);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One<'a>(&'a [u8; 64]);

    impl Task for One<'_> {
        type Output = Block;

        fn run(self, block: impl Fn(&[u8; 64]) -> Block) -> Block {
            block(self.0)
        }
    }

    #[test]
    fn every_processor_finds_the_same_in_every_byte() {
        for byte in 0..=255_u8 {
            for place in 0..64 {
                let mut bytes = [b' '; 64];
                // Neighbours that a sum must not go over to.
                bytes[(place + 1) % 64] = 0xFF;
                bytes[(place + 63) % 64] = b'z';
                bytes[place] = byte;
                let bit = |holds: fn(u8) -> bool| (0..64).filter(|at| holds(bytes[*at])).fold(0_u64, |bits, at| bits | (1 << at));
                let expected = Block {
                    letter: bit(|byte| byte.is_ascii_alphabetic()),
                    digit: bit(|byte| byte.is_ascii_digit()),
                    joiner: bit(|byte| byte == b'_'),
                    mid_letter: bit(|byte| b":.'".contains(&byte)),
                    mid_digit: bit(|byte| b",;.'".contains(&byte)),
                    lead: bit(|byte| byte >= 0xC0),
                };
                for processor in Processor::all() {
                    assert_eq!(run_on(processor, One(&bytes)), expected, "{processor:?}: {byte} at {place}");
                }
            }
        }
    }
}
