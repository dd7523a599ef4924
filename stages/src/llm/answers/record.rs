//! What a segment is made of: records, each with a head that can be told from anything else, so that one is found again behind damage.
//!
//! ```text
//! mark 4 | kind 1 | 0 1 | meta bytes 2 | body bytes 4 | body bytes unpacked 4 | key 16 | CRC of meta 4 | CRC of body 4 | CRC of these 40 bytes 4
//! meta: what the ledger wants, so that opening reads no bodies
//! body: zstd of JSON
//! ```

use super::super::Spent;

/// What a segment begins with, for people who look into it. Another form would have another [`MARK`].
pub(super) const PREAMBLE: &[u8; 18] = b"granary answers 1\n";

/// Bytes of a head.
pub(super) const HEAD: usize = 44;

/// What a record begins with: no UTF-8 text holds it.
pub(super) const MARK: [u8; 4] = [0xFF, 0xA7, 0xFE, b'r'];

/// Bytes that an unpacked body may have.
pub(super) const MAX_BODY: usize = 512 << 20;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An answer, and what it took.
    Answer = 1,
    /// What a request may take that is about to be sent.
    Reservation = 2,
    /// What a request took that brought no answer.
    Settlement = 3,
    /// What other segments came to, which this one stands for.
    Total = 4,
    /// Names of segments that this one stands for.
    Replaces = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Answer, Self::Reservation, Self::Settlement, Self::Total, Self::Replaces].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// What the record says; none if a later version of the program wrote it.
    pub(super) kind: Option<Kind>,
    pub(super) meta_len: usize,
    pub(super) body_len: usize,
    /// Bytes of the body, unpacked.
    pub(super) raw_len: usize,
    pub(super) key: [u8; 16],
    meta_crc: u32,
    body_crc: u32,
}

impl Head {
    /// Reads a head, if `bytes` begin with one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD] = bytes.first_chunk()?;
        if !bytes.starts_with(&MARK) || crc32fast::hash(&bytes[..40]) != u32_at(bytes, 40) {
            return None;
        }
        Some(Self {
            kind: Kind::of(bytes[4]),
            meta_len: usize::from(u16::from_le_bytes([bytes[6], bytes[7]])),
            body_len: usize::try_from(u32_at(bytes, 8)).ok()?,
            raw_len: usize::try_from(u32_at(bytes, 12)).ok()?,
            key: bytes[16..32].try_into().ok()?,
            meta_crc: u32_at(bytes, 32),
            body_crc: u32_at(bytes, 36),
        })
    }

    /// Bytes of the record.
    pub(super) fn len(&self) -> u64 {
        (HEAD + self.meta_len) as u64 + self.body_len as u64
    }

    /// Whether these bytes are its meta.
    pub(super) fn is_meta(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.meta_len && crc32fast::hash(bytes) == self.meta_crc
    }

    /// Whether these bytes are its body.
    pub(super) fn is_body(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.body_len && crc32fast::hash(bytes) == self.body_crc
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_le_bytes(*four))
}

/// Adds a record to `out`. Lengths are those of what this program writes: `meta` under 64 KiB, `body` and `raw_len` no more than [`MAX_BODY`].
pub(super) fn push(out: &mut Vec<u8>, kind: Kind, key: [u8; 16], meta: &[u8], body: &[u8], raw_len: usize) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[kind as u8, 0]);
    out.extend_from_slice(&u16::try_from(meta.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&u32::try_from(raw_len).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&key);
    out.extend_from_slice(&crc32fast::hash(meta).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(meta);
    out.extend_from_slice(body);
}

/// Whom spending is booked to, as bytes: bytes of the account's name 2, the account, the model's name in `llms`.
pub(super) fn names(account: &str, llm: &str) -> Vec<u8> {
    let (account, llm) = (short(account), short(llm));
    let mut names = u16::try_from(account.len()).unwrap_or(0).to_le_bytes().to_vec();
    names.extend_from_slice(account.as_bytes());
    names.extend_from_slice(llm.as_bytes());
    names
}

/// Long names by their hash: a meta has room for short ones only.
fn short(name: &str) -> String {
    if name.len() <= 1024 { name.to_owned() } else { blake3::hash(name.as_bytes()).to_hex().to_string() }
}

/// What a record books.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Booking<'m> {
    /// The reservation that it makes or resolves; 0 for none. Unique in its segment.
    pub(super) receipt: u64,
    pub(super) spent: Spent,
    /// [`names`].
    pub(super) names: &'m [u8],
}

impl<'m> Booking<'m> {
    /// Its meta.
    pub(super) fn to_meta(self) -> Vec<u8> {
        let mut meta = Vec::with_capacity(32 + self.names.len());
        let cost = sound(self.spent.cost);
        for number in [self.receipt, self.spent.requests, self.spent.tokens, cost.to_bits()] {
            meta.extend_from_slice(&number.to_le_bytes());
        }
        meta.extend_from_slice(self.names);
        meta
    }

    /// Reads a meta; an empty one books nothing.
    pub(super) fn parse(meta: &'m [u8]) -> Option<Self> {
        let number = |i: usize| meta.get(i * 8..).and_then(|rest| rest.first_chunk()).map(|eight| u64::from_le_bytes(*eight));
        let spent = Spent { requests: number(1)?, tokens: number(2)?, cost: sound(f64::from_bits(number(3)?)) };
        Some(Self { receipt: number(0)?, spent, names: &meta[32..] })
    }
}

/// A cost that can be added up and compared.
fn sound(cost: f64) -> f64 {
    if cost.is_finite() && cost > 0.0 { cost } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let booking = Booking { receipt: 7, spent: Spent { requests: 1, tokens: 345, cost: 0.25 }, names: &names("out/web-sft", "local") };
        let mut bytes = Vec::new();
        push(&mut bytes, Kind::Answer, [9; 16], &booking.to_meta(), b"body", 99);
        let head = Head::parse(&bytes).unwrap();
        assert_eq!((head.kind, head.key, head.raw_len, head.len()), (Some(Kind::Answer), [9; 16], 99, bytes.len() as u64));
        let (meta, body) = bytes[HEAD..].split_at(head.meta_len);
        assert!(head.is_meta(meta) && head.is_body(body) && body == b"body");
        assert_eq!(Booking::parse(meta), Some(booking));
        assert_eq!(&booking.names[2..], b"out/web-sftlocal");
        assert_eq!(Booking::parse(&[]), None);
    }

    #[test]
    fn every_changed_bit_of_a_head_is_noticed() {
        let mut bytes = Vec::new();
        push(&mut bytes, Kind::Settlement, [1; 16], b"meta", b"body", 4);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let head = Head::parse(&changed);
            assert_eq!(head.is_none(), bit / 8 < HEAD, "bit {bit}");
            if let Some(head) = head {
                assert!(!(head.is_meta(&changed[HEAD..HEAD + 4]) && head.is_body(&changed[HEAD + 4..])));
            }
        }
        for end in 0..HEAD {
            assert_eq!(Head::parse(&bytes[..end]), None);
        }
    }

    #[test]
    fn names_that_run_together_are_still_two_and_long_ones_fit() {
        assert_ne!(names("ab", "c"), names("a", "bc"));
        assert_ne!(names(&"a".repeat(100_000), "c"), names(&"a".repeat(100_001), "c"));
        assert!(names(&"a".repeat(100_000), &"b".repeat(100_000)).len() < 200);
    }

    #[test]
    fn a_cost_is_never_what_breaks_a_sum() {
        for (cost, kept) in [(f64::NAN, 0.0), (f64::INFINITY, 0.0), (-1.0, 0.0), (1.5, 1.5)] {
            let booking = Booking { receipt: 0, spent: Spent { requests: 1, tokens: 1, cost }, names: &[] };
            assert_eq!(Booking::parse(&booking.to_meta()).unwrap().spent.cost.to_bits(), f64::to_bits(kept));
        }
    }
}
