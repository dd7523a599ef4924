//! Reads safetensors files: tensors of floats, as `f32`.
//!
//! A file is untrusted: nothing is made room for that it does not hold, and every number in its header is held against its length. Stricter than
//! the library that the format comes from, which takes the last of two tensors of one name.
//!
//! Source: Hugging Face, *safetensors*, the section "Format" of its readme: eight bytes with the header's length, the header in JSON, and the
//! tensors' bytes, without gaps.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Why a file is no safetensors file that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file can't be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It ends before its header does.
    #[error("this is no safetensors file: its header would take {wanted} bytes, and the file has {has}")]
    HeaderLength {
        /// Bytes that its first eight bytes say, and those eight.
        wanted: u64,
        /// Bytes of the file.
        has: u64,
    },
    /// The header is longer than any real one.
    #[error("its header would take {wanted} bytes, wanted at most {MOST_HEADER_BYTES}")]
    LongHeader {
        /// Bytes of the header.
        wanted: u64,
    },
    /// The header is not what a header is.
    #[error("its header is not as wanted: {problem}")]
    Header {
        /// What was wanted and what was found.
        problem: String,
    },
    /// Numbers of another type than floats.
    #[error("tensor `{tensor}` is of {found}, wanted F16, BF16, F32 or F64")]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type, as the file says.
        found: String,
    },
    /// The bytes of a tensor are not as many as its shape wants.
    #[error("tensor `{tensor}` of shape {shape:?} wants {wanted} bytes, and its place in the file has {has}")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// The bytes that the shape wants, or that there is no such number.
        wanted: String,
        /// The bytes from its first to its last.
        has: u64,
    },
    /// Tensors overlap, leave a gap, or lie outside.
    #[error("tensor `{tensor}` lies at bytes {from} to {to} of the tensors, wanted it to begin at {wanted}, where the one before it ends")]
    Place {
        /// The tensor.
        tensor: String,
        /// Its first byte.
        from: u64,
        /// The byte behind its last.
        to: u64,
        /// Where it should begin.
        wanted: u64,
    },
    /// The tensors are not as long as the file.
    #[error("its tensors take {wanted} bytes, and the file has {has} for them")]
    Length {
        /// Bytes of all tensors.
        wanted: u64,
        /// Bytes of the file behind the header.
        has: u64,
    },
    /// A number that is infinite or none.
    #[error("tensor `{tensor}` has {found} at {at:?}, wanted finite numbers of 32 bits")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Where in it.
        at: Vec<u64>,
        /// The number.
        found: f64,
    },
}

/// Enough for a hundred thousand tensors.
const MOST_HEADER_BYTES: u64 = 16 << 20;

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How many numbers it has along each axis, the last the closest together.
    pub shape: Vec<u64>,
    /// Its numbers; all finite.
    pub numbers: Vec<f32>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Safetensors {
    /// The texts under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, sorted by name.
    pub tensors: Vec<Tensor>,
}

#[derive(Debug, Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
        let mut header = Header::default();
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(M::Error::custom("`__metadata__` is there twice"));
                }
                header.metadata = map.next_value()?;
            } else {
                let entry = map.next_value()?;
                if header.tensors.insert(name.clone(), entry).is_some() {
                    return Err(M::Error::custom(format_args!("tensor `{name}` is there twice")));
                }
            }
        }
        Ok(header)
    }
}

#[derive(Debug, Clone, Copy)]
enum Number {
    F16,
    Bf16,
    F32,
    F64,
}

impl Number {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F32" => Self::F32,
            "F64" => Self::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn of(self, bytes: &[u8]) -> f64 {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
        let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        match (self, word(bytes)) {
            (Self::F16, word) => <Float16Type as ArrowPrimitiveType>::Native::from_bits(u16::try_from(word).unwrap_or(0)).to_f64(),
            (Self::Bf16, word) => f64::from(f32::from_bits(low(word) << 16)),
            (Self::F32, word) => f64::from(f32::from_bits(low(word))),
            (Self::F64, word) => f64::from_bits(word),
        }
    }
}

impl Safetensors {
    /// Reads a file of `length` bytes.
    ///
    /// # Errors
    /// It is no such file, a number in it is a lie, or its tensors are no finite floats.
    pub fn read<R: Read>(mut bytes: R, length: u64) -> Result<Self, SafetensorsError> {
        let mut first = [0; 8];
        if length < 8 {
            return Err(SafetensorsError::HeaderLength { wanted: 8, has: length });
        }
        bytes.read_exact(&mut first)?;
        let header_bytes = u64::from_le_bytes(first);
        let left = (length - 8).checked_sub(header_bytes);
        let left = left.ok_or(SafetensorsError::HeaderLength { wanted: header_bytes.saturating_add(8), has: length })?;
        if header_bytes > MOST_HEADER_BYTES {
            return Err(SafetensorsError::LongHeader { wanted: header_bytes });
        }
        // It fits: that was just checked.
        let mut header = vec![0; usize::try_from(header_bytes).unwrap_or(0)];
        bytes.read_exact(&mut header)?;
        let header: Header = serde_json::from_slice(&header).map_err(|error| SafetensorsError::Header { problem: error.to_string() })?;

        let mut entries: Vec<(String, Entry)> = header.tensors.into_iter().collect();
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        let mut numbers = Vec::new();
        for (tensor, entry) in &entries {
            let Some(number) = Number::parse(&entry.dtype) else {
                return Err(SafetensorsError::Type { tensor: tensor.clone(), found: entry.dtype.clone() });
            };
            let [from, to] = entry.data_offsets;
            if from != end || to < from {
                return Err(SafetensorsError::Place { tensor: tensor.clone(), from, to, wanted: end });
            }
            let wanted = entry.shape.iter().try_fold(number.bytes(), |bytes, along| bytes.checked_mul(*along));
            if wanted != Some(to - from) {
                let wanted = wanted.map_or_else(|| "over 2^64".to_owned(), |wanted| wanted.to_string());
                return Err(SafetensorsError::Size { tensor: tensor.clone(), shape: entry.shape.clone(), wanted, has: to - from });
            }
            numbers.push(number);
            end = to;
        }
        if end != left {
            return Err(SafetensorsError::Length { wanted: end, has: left });
        }

        let mut tensors = Vec::new();
        for ((name, entry), number) in entries.into_iter().zip(numbers) {
            let numbers = read_numbers(&mut bytes, number, entry.data_offsets[1] - entry.data_offsets[0])?;
            if let Some((at, found)) = numbers.not_finite {
                return Err(SafetensorsError::NotFinite { tensor: name, at: place_of(at, &entry.shape), found });
            }
            tensors.push(Tensor { name, shape: entry.shape, numbers: numbers.numbers });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { metadata: header.metadata, tensors })
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok().map(|at| &self.tensors[at])
    }
}

struct Numbers {
    numbers: Vec<f32>,
    /// The first number that is not finite, and what it is.
    not_finite: Option<(u64, f64)>,
}

fn read_numbers(bytes: &mut impl Read, number: Number, length: u64) -> Result<Numbers, SafetensorsError> {
    let each = usize::try_from(number.bytes()).unwrap_or(1);
    // The file has as many bytes, as was checked; it is read in parts, so that they are there once.
    let mut read = Numbers { numbers: Vec::with_capacity(usize::try_from(length).unwrap_or(0) / each), not_finite: None };
    let mut left = length;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let part = &mut buffer[..usize::try_from(left.min(1 << 16)).unwrap_or(0)];
        bytes.read_exact(part)?;
        left -= part.len() as u64;
        for bytes in part.chunks_exact(each) {
            let exact = number.of(bytes);
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest; what is too large becomes infinite and is found")]
            let near = exact as f32;
            if !near.is_finite() && read.not_finite.is_none() {
                read.not_finite = Some((read.numbers.len() as u64, exact));
            }
            read.numbers.push(near);
        }
    }
    Ok(read)
}

/// Where number `at` stands in a shape.
fn place_of(mut at: u64, shape: &[u64]) -> Vec<u64> {
    let mut place: Vec<u64> = shape
        .iter()
        .rev()
        .map(|along| {
            let here = at % (*along).max(1);
            at /= (*along).max(1);
            here
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file with this header and these bytes behind it.
    pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    /// A file of `F32` tensors.
    pub(crate) fn file_of(metadata: &[(&str, &str)], tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        if !metadata.is_empty() {
            let texts = metadata.iter().map(|(key, text)| ((*key).to_owned(), (*text).into())).collect::<serde_json::Map<_, _>>();
            header.insert("__metadata__".to_owned(), texts.into());
        }
        for (name, shape, numbers) in tensors {
            let from = data.len();
            numbers.iter().for_each(|number| data.extend(number.to_le_bytes()));
            let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]});
            header.insert((*name).to_owned(), entry);
        }
        file(&serde_json::Value::from(header).to_string(), &data)
    }

    fn read(bytes: &[u8]) -> Result<Safetensors, SafetensorsError> {
        Safetensors::read(bytes, bytes.len() as u64)
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).expect_err("a file that is wrong").to_string()
    }

    #[test]
    fn tensors_of_every_float_are_read() {
        // 1.5 and -2 in each; bf16 is the upper half of f32.
        let mut data: Vec<u8> = Vec::new();
        data.extend([0x00, 0x3E, 0x00, 0xC0]);
        data.extend([0xC0, 0x3F, 0x00, 0xC0]);
        data.extend([1.5_f32, -2.0].iter().flat_map(|x| x.to_le_bytes()));
        data.extend([1.5_f64, -2.0].iter().flat_map(|x| x.to_le_bytes()));
        let header = r#"{"__metadata__": {"activation": "relu"},
            "d": {"dtype": "F64", "shape": [2], "data_offsets": [16, 32]}, "a": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]},
            "b": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [4, 8]}, "c": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
            "none": {"dtype": "F32", "shape": [0, 7], "data_offsets": [32, 32]}}   "#;
        let read = read(&file(header, &data)).unwrap();
        assert_eq!(read.metadata, BTreeMap::from([("activation".to_owned(), "relu".to_owned())]));
        let names: Vec<_> = read.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.numbers.len())).collect();
        assert_eq!(names, [("a", 2), ("b", 2), ("c", 2), ("d", 2), ("none", 0)]);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(read.get(name).unwrap().numbers, [1.5, -2.0], "{name}");
        }
        assert_eq!((read.get("b").unwrap().shape.as_slice(), read.get("e")), (&[2, 1][..], None));
        assert_eq!(read_numbers(&mut &data[8..12], Number::F32, 4).unwrap().numbers, [1.5]);
    }

    #[test]
    fn an_empty_header_is_a_file_without_tensors() {
        assert_eq!(read(&file("{}", &[])).unwrap().tensors, []);
    }

    #[test]
    fn lengths_that_lie_are_found_before_anything_is_made_room_for() {
        assert_eq!(refusal(b""), "this is no safetensors file: its header would take 8 bytes, and the file has 0");
        assert_eq!(
            refusal(b"12345678"),
            "this is no safetensors file: its header would take 4050765991979987513 bytes, and the file has 8"
        );
        assert_eq!(
            refusal(&[0xFF; 8]),
            "this is no safetensors file: its header would take 18446744073709551615 bytes, and the file has 8"
        );
        let long = (MOST_HEADER_BYTES + 1).to_le_bytes();
        let error = Safetensors::read(long.as_slice(), 1 << 40).expect_err("a long header").to_string();
        assert_eq!(error, "its header would take 16777217 bytes, wanted at most 16777216");
        // A hundred gigabytes in a small file.
        let header = r#"{"w": {"dtype": "F32", "shape": [25000000000], "data_offsets": [0, 100000000000]}}"#;
        assert_eq!(refusal(&file(header, &[0; 8])), "its tensors take 100000000000 bytes, and the file has 8 for them");
        let header = r#"{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#;
        assert_eq!(refusal(&file(header, &[0; 9])), "its tensors take 8 bytes, and the file has 9 for them");
        // A file that is cut off while it is read.
        let whole = file(header, &[0; 8]);
        let error = Safetensors::read(&whole[..whole.len() - 1], whole.len() as u64).expect_err("cut off").to_string();
        assert_eq!(error, "failed to fill whole buffer");
    }

    #[test]
    fn shapes_that_lie_are_named() {
        let with = |shape: &str, to: &str| {
            refusal(&file(&format!(r#"{{"w": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, {to}]}}}}"#), &[0; 8]))
        };
        assert_eq!(with("[3]", "8"), "tensor `w` of shape [3] wants 12 bytes, and its place in the file has 8");
        let overflow = with("[4294967296, 4294967296]", "8");
        assert_eq!(overflow, "tensor `w` of shape [4294967296, 4294967296] wants over 2^64 bytes, and its place in the file has 8");
        assert_eq!(
            with("[4611686018427387903]", "18446744073709551612"),
            "its tensors take 18446744073709551612 bytes, and the file has 8 for them"
        );
        assert!(with("[-2]", "8").starts_with("its header is not as wanted: invalid value: integer `-2`"), "{}", with("[-2]", "8"));
        assert!(with("[18446744073709551616]", "8").starts_with("its header is not as wanted: "));
        assert!(with("2", "8").starts_with("its header is not as wanted: "));
    }

    #[test]
    fn tensors_that_overlap_or_leave_gaps_are_named() {
        let with = |first: &str, second: &str| {
            let entry = |offsets: &str| format!(r#"{{"dtype": "F32", "shape": [1], "data_offsets": {offsets}}}"#);
            refusal(&file(&format!(r#"{{"a": {}, "b": {}}}"#, entry(first), entry(second)), &[0; 8]))
        };
        let place = |tensor: &str, from: u32, to: u32, wanted: u32| {
            format!(
                "tensor `{tensor}` lies at bytes {from} to {to} of the tensors, wanted it to begin at {wanted}, where the one before it ends"
            )
        };
        assert_eq!(with("[0, 4]", "[0, 4]"), place("b", 0, 4, 4));
        assert_eq!(with("[0, 4]", "[2, 6]"), place("b", 2, 6, 4));
        assert_eq!(with("[0, 4]", "[5, 9]"), place("b", 5, 9, 4));
        assert_eq!(with("[4, 8]", "[8, 12]"), place("a", 4, 8, 0));
        assert_eq!(with("[0, 4]", "[4, 0]"), place("b", 4, 0, 4));
        assert!(with("[0, 4, 8]", "[4, 8]").starts_with("its header is not as wanted: "));
    }

    #[test]
    fn headers_that_are_none_are_told() {
        for (header, wanted) in [
            ("", "EOF while parsing"),
            ("[]", "invalid type: sequence, expected tensors by name"),
            (r#"{"a": 1}"#, "invalid type: integer `1`"),
            (r#"{"a": {"dtype": "F32", "shape": [1]}}"#, "missing field `data_offsets`"),
            (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "stride": [1]}}"#, "unknown field `stride`"),
            (r#"{"a": {"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#, "duplicate field `dtype`"),
            (r#"{"__metadata__": {"n": 1}}"#, "invalid type: integer `1`, expected a string"),
            (r#"{"__metadata__": {}, "__metadata__": {}}"#, "`__metadata__` is there twice"),
            (
                r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#,
                "tensor `a` is there twice",
            ),
            ("{} x", "trailing characters"),
        ] {
            let error = refusal(&file(header, &[0; 4]));
            assert!(error.starts_with("its header is not as wanted: ") && error.contains(wanted), "{header}: {error}");
        }
        assert!(refusal(&file("{\"\u{0}", &[])).contains("control character"));
        assert!(refusal(&[&2_u64.to_le_bytes()[..], &[0xFF, 0xFE]].concat()).starts_with("its header is not as wanted: "));
        let deep = format!(r#"{{"a": {}"#, "[".repeat(100_000));
        assert!(refusal(&file(&deep, &[])).starts_with("its header is not as wanted: "));
    }

    #[test]
    fn types_and_numbers_that_are_no_weights_are_named() {
        let of = |dtype: &str, bytes: &[u8]| {
            refusal(&file(&format!(r#"{{"w": {{"dtype": "{dtype}", "shape": [1, 1], "data_offsets": [0, {}]}}}}"#, bytes.len()), bytes))
        };
        assert_eq!(of("I32", &[0; 4]), "tensor `w` is of I32, wanted F16, BF16, F32 or F64");
        assert_eq!(of("F32", &f32::NAN.to_le_bytes()), "tensor `w` has NaN at [0, 0], wanted finite numbers of 32 bits");
        assert_eq!(of("F16", &[0x00, 0x7C]), "tensor `w` has inf at [0, 0], wanted finite numbers of 32 bits");
        assert!(of("F64", &1e300_f64.to_le_bytes()).starts_with("tensor `w` has 1000"), "{}", of("F64", &1e300_f64.to_le_bytes()));
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, f32::NEG_INFINITY];
        assert_eq!(refusal(&file_of(&[], &[("w", &[2, 3], &numbers)])), "tensor `w` has -inf at [1, 2], wanted finite numbers of 32 bits");
    }
}
