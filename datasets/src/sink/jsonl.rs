//! JSON Lines parts.
//!
//! One object a line with every column in order. A null, a NaN and an infinity are `null` (JSON has no other word for them); binary is
//! base64; timestamps, dates and times are RFC 3339 text (a year that does not fit four digits has a sign), durations ISO 8601; decimals are text, so that no digit is lost.

use std::io::Write;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch, make_array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

use bytes::Bytes;

use super::{Part, PartWriter};
use crate::{DataError, base64};

/// Bytes of text that are handed on at a time: to the compressor, or to be taken. They fit a processor's cache.
const BLOCK: usize = 256 << 10;

/// Writes one JSON Lines file into memory.
pub(crate) struct JsonlPart {
    /// What is finished and not taken, where it is not compressed.
    chunks: Vec<Bytes>,
    /// Bytes that were taken.
    taken: usize,
    text: Vec<u8>,
    encoder: Option<zstd::stream::write::Encoder<'static, Vec<u8>>>,
    rows: u64,
}

impl JsonlPart {
    pub(crate) fn try_new(level: Option<i32>) -> Result<Self, DataError> {
        let encoder = match level {
            None => None,
            Some(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).map_err(compressing)?;
                encoder.include_checksum(true).map_err(compressing)?;
                Some(encoder)
            }
        };
        Ok(Self { chunks: Vec::new(), taken: 0, text: Vec::new(), encoder, rows: 0 })
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let columns = batch
            .schema()
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| Ok((key(field.name(), "{")?, key(field.name(), ",")?, Cells::try_new(column)?)))
            .collect::<Result<Vec<_>, DataError>>()?;
        for row in 0..batch.num_rows() {
            if columns.is_empty() {
                self.text.push(b'{');
            }
            for (index, (first, later, cells)) in columns.iter().enumerate() {
                self.text.extend_from_slice(if index == 0 { first } else { later });
                cells.write(row, &mut self.text)?;
            }
            self.text.extend_from_slice(b"}\n");
            if self.text.len() >= BLOCK {
                self.compress()?;
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn compress(&mut self) -> Result<(), DataError> {
        if let Some(encoder) = &mut self.encoder {
            encoder.write_all(&self.text).map_err(compressing)?;
            self.text.clear();
        } else {
            // The next one will be about as long.
            let text = std::mem::replace(&mut self.text, Vec::with_capacity(BLOCK + BLOCK / 8));
            self.chunks.push(Bytes::from(text));
        }
        Ok(())
    }
}

impl PartWriter for JsonlPart {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.encode(batch)
    }

    fn take_chunks(&mut self) -> Vec<Bytes> {
        self.taken += self.chunks.iter().map(Bytes::len).sum::<usize>();
        std::mem::take(&mut self.chunks)
    }

    fn finish(mut self: Box<Self>) -> Result<Part, DataError> {
        if !self.text.is_empty() {
            self.compress()?;
        }
        if let Some(encoder) = self.encoder {
            self.chunks.push(Bytes::from(encoder.finish().map_err(compressing)?));
        }
        Ok(Part { chunks: self.chunks, rows: self.rows })
    }

    fn bytes_written(&self) -> usize {
        let finished: usize = self.chunks.iter().map(Bytes::len).sum();
        self.encoder.as_ref().map_or(self.taken + finished + self.text.len(), |encoder| encoder.get_ref().len())
    }
}

fn compressing(source: std::io::Error) -> DataError {
    DataError::Io { doing: "compress", path: "part.jsonl.zst".into(), source }
}

fn key(name: &str, before: &str) -> Result<Vec<u8>, DataError> {
    let mut text = before.as_bytes().to_vec();
    write_string(name, &mut text)?;
    text.push(b':');
    Ok(text)
}

/// Writes a JSON string: as `serde_json` does, but what needs no escape is found and copied by the stretch.
#[expect(clippy::unnecessary_wraps, reason = "one of the arms of `write_leaf`")]
fn write_string(value: &str, out: &mut Vec<u8>) -> Result<(), DataError> {
    out.reserve(value.len() + 2);
    out.push(b'"');
    let mut rest = value.as_bytes();
    // Line feeds are common; the others make it worth while to look for each of them.
    let has_controls = rest.iter().fold(0, |found, &byte| found | (u8::from(byte < 0x20) & u8::from(byte != b'\n'))) != 0;
    loop {
        let plain = if has_controls { plain_bytes(rest) } else { memchr::memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len()) };
        out.extend_from_slice(&rest[..plain]);
        let Some(&byte) = rest.get(plain) else { break };
        rest = &rest[plain + 1..];
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
    Ok(())
}

/// Bytes before the first one that JSON wants escaped.
fn plain_bytes(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let blocks = bytes.as_chunks::<32>().0;
    // No early exit inside a block, so that it is looked at as a whole.
    let clear = blocks.iter().take_while(|block| !block.iter().fold(false, |any, byte| any | is_special(byte))).count() * 32;
    clear + bytes[clear..].iter().position(is_special).unwrap_or(bytes.len() - clear)
}

fn write_json(value: impl serde::Serialize, out: &mut Vec<u8>) -> Result<(), DataError> {
    serde_json::to_writer(out, &value).map_err(|error| ArrowError::JsonError(error.to_string()).into())
}

/// The values of one array, ready to be written.
struct Cells {
    array: ArrayRef,
    inside: Inside,
}

enum Inside {
    /// Numbers, text, bytes: straight from the array.
    Leaf,
    /// Written by arrow's formatter, in quotes.
    Formatted,
    List(Box<Cells>),
    Struct(Vec<(Vec<u8>, Vec<u8>, Cells)>),
}

impl Cells {
    fn try_new(array: &ArrayRef) -> Result<Self, DataError> {
        let inside = match array.data_type() {
            DataType::List(_) => Inside::List(Box::new(Self::try_new(array.as_list::<i32>().values())?)),
            DataType::LargeList(_) => Inside::List(Box::new(Self::try_new(array.as_list::<i64>().values())?)),
            DataType::FixedSizeList(_, _) => Inside::List(Box::new(Self::try_new(array.as_fixed_size_list().values())?)),
            DataType::Map(_, _) => {
                let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
                Inside::List(Box::new(Self::try_new(&entries)?))
            }
            DataType::Struct(fields) => Inside::Struct(
                fields
                    .iter()
                    .zip(array.as_struct().columns())
                    .map(|(field, column)| Ok((key(field.name(), "{")?, key(field.name(), ",")?, Self::try_new(column)?)))
                    .collect::<Result<_, DataError>>()?,
            ),
            DataType::Dictionary(_, values) => return Self::try_new(&cast(array, values)?),
            // Zone names need a database of them that is not built in; the moment is the same in UTC.
            DataType::Timestamp(unit, Some(zone)) if zone.parse::<Tz>().is_err() => {
                let utc = DataType::Timestamp(*unit, Some("+00:00".into()));
                return Self::try_new(&make_array(array.to_data().into_builder().data_type(utc).build()?));
            }
            other if is_leaf(other) => Inside::Leaf,
            _ => {
                ArrayFormatter::try_new(array.as_ref(), &options())?; // fails here, and not at the first row
                Inside::Formatted
            }
        };
        Ok(Self { array: Arc::clone(array), inside })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), DataError> {
        if self.array.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &self.inside {
            Inside::Leaf => write_leaf(self.array.as_ref(), row, out),
            Inside::Formatted => {
                let text = ArrayFormatter::try_new(self.array.as_ref(), &options())?.value(row).try_to_string();
                write_string(&text.or_else(|error| far_date(self.array.as_ref(), row).ok_or(error))?, out)
            }
            Inside::List(items) => {
                let (start, end) = match self.array.data_type() {
                    DataType::List(_) => item_range(self.array.as_list::<i32>().value_offsets(), row),
                    DataType::LargeList(_) => item_range(self.array.as_list::<i64>().value_offsets(), row),
                    DataType::Map(_, _) => item_range(self.array.as_map().value_offsets(), row),
                    _ => {
                        let size = usize::try_from(self.array.as_fixed_size_list().value_length()).unwrap_or(0);
                        (row * size, (row + 1) * size)
                    }
                };
                out.push(b'[');
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    items.write(item, out)?;
                }
                out.push(b']');
                Ok(())
            }
            Inside::Struct(columns) => {
                if columns.is_empty() {
                    out.push(b'{');
                }
                for (index, (first, later, cells)) in columns.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { first } else { later });
                    cells.write(row, out)?;
                }
                out.push(b'}');
                Ok(())
            }
        }
    }
}

/// A date or timestamp that arrow's calendar does not reach (years beyond 262,000), as ISO 8601 with as many digits as the year takes.
fn far_date(array: &dyn Array, row: usize) -> Option<String> {
    let (unit, zone) = match array.data_type() {
        DataType::Date32 => return Some(day_text(i64::from(array.as_primitive::<Date32Type>().value(row)))),
        DataType::Date64 => (TimeUnit::Millisecond, ""),
        DataType::Timestamp(unit, zone) => (*unit, if zone.is_some() { "Z" } else { "" }),
        _ => return None,
    };
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let value = make_array(array.to_data().into_builder().data_type(DataType::Int64).build().ok()?).as_primitive::<Int64Type>().value(row);
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let digits = per_second.ilog10() as usize;
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:0digits$}") };
    Some(format!("{}T{:02}:{:02}:{:02}{fraction}{zone}", day_text(day), second / 3600, second / 60 % 60, second % 60))
}

/// The date that is so many days after 1970-01-01.
///
/// Source: Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*, `civil_from_days`.
fn day_text(days: i64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // months from March on
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:+05}-{month:02}-{day:02}")
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_duration_format(DurationFormat::ISO8601).with_display_error(false)
}

fn item_range<O: OffsetSizeTrait>(offsets: &[O], row: usize) -> (usize, usize) {
    (offsets[row].as_usize(), offsets[row + 1].as_usize())
}

fn is_leaf(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || matches!(
            data_type,
            DataType::Null
                | DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
}

fn write_leaf(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), DataError> {
    match array.data_type() {
        DataType::Utf8 => write_string(array.as_string::<i32>().value(row), out),
        DataType::LargeUtf8 => write_string(array.as_string::<i64>().value(row), out),
        DataType::Utf8View => write_string(array.as_string_view().value(row), out),
        DataType::Binary => write_base64(array.as_binary::<i32>().value(row), out),
        DataType::LargeBinary => write_base64(array.as_binary::<i64>().value(row), out),
        DataType::BinaryView => write_base64(array.as_binary_view().value(row), out),
        DataType::FixedSizeBinary(_) => write_base64(array.as_fixed_size_binary().value(row), out),
        DataType::Boolean => write_json(array.as_boolean().value(row), out),
        DataType::Int8 => write_json(array.as_primitive::<Int8Type>().value(row), out),
        DataType::Int16 => write_json(array.as_primitive::<Int16Type>().value(row), out),
        DataType::Int32 => write_json(array.as_primitive::<Int32Type>().value(row), out),
        DataType::Int64 => write_json(array.as_primitive::<Int64Type>().value(row), out),
        DataType::UInt8 => write_json(array.as_primitive::<UInt8Type>().value(row), out),
        DataType::UInt16 => write_json(array.as_primitive::<UInt16Type>().value(row), out),
        DataType::UInt32 => write_json(array.as_primitive::<UInt32Type>().value(row), out),
        DataType::UInt64 => write_json(array.as_primitive::<UInt64Type>().value(row), out),
        DataType::Float16 => write_json(array.as_primitive::<Float16Type>().value(row).to_f32(), out),
        DataType::Float32 => write_json(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => write_json(array.as_primitive::<Float64Type>().value(row), out),
        _ => write_json((), out),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of the arms of `write_leaf`")]
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DataError> {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, Date32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
        TimestampSecondArray,
    };
    use arrow::datatypes::{Field, Fields, Int64Type};

    use super::*;
    use crate::sink::{empty_part, part_writer};
    use crate::{WriteFormat, WriteSettings};

    #[test]
    fn strings_are_escaped_as_serde_json_does_it() {
        let every: String = (0..0x100).filter_map(char::from_u32).collect();
        for around in ["", "é", &"x".repeat(31), &"y".repeat(32), &"日".repeat(40)] {
            for text in
                every.chars().map(|character| format!("{around}{character}{around}")).chain([format!("{around}{every}"), around.repeat(3)])
            {
                let mut ours = Vec::new();
                write_string(&text, &mut ours).unwrap();
                assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(&text).unwrap());
            }
        }
    }

    #[test]
    fn every_type_has_its_text() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("s", Arc::new(StringArray::from(vec![Some("a\"\n\u{1F600}"), None]))),
            ("n", Arc::new(Int64Array::from(vec![i64::MIN, 7]))),
            ("f", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
            ("b", Arc::new(BinaryArray::from(vec![b"fo".as_slice(), b""]))),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("UTC"))),
            ("d", Arc::new(Date32Array::from(vec![0, -1]))),
            ("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![])]))),
            (
                "o",
                Arc::new(StructArray::new(
                    Fields::from(vec![Field::new("x", DataType::Int64, true)]),
                    vec![Arc::new(Int64Array::from(vec![1, 2]))],
                    Some(vec![true, false].into()),
                )),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = JsonlPart::try_new(None).unwrap();
        writer.write(&batch).unwrap();
        let part = Box::new(writer).finish().unwrap();
        let expected = "{\"s\":\"a\\\"\\n\u{1F600}\",\"n\":-9223372036854775808,\"f\":0.1,\"b\":\"Zm8=\",\"t\":\"1970-01-01T00:00:01.500Z\",\"d\":\"1970-01-01\",\"l\":[1,null],\"o\":{\"x\":1}}\n\
                        {\"s\":null,\"n\":7,\"f\":null,\"b\":\"\",\"t\":null,\"d\":\"1969-12-31\",\"l\":[],\"o\":null}\n";
        assert_eq!(String::from_utf8(part.clone().into_bytes()).unwrap(), expected);
        assert_eq!(part.rows, 2);
    }

    #[test]
    fn days_and_moments_beyond_the_calendar_have_their_text() {
        let zoned = TimestampMicrosecondArray::from(vec![i64::MAX, i64::MIN]).with_timezone("UTC");
        let cases: [(ArrayRef, [&str; 2]); 3] = [
            (Arc::new(zoned), ["+294247-01-10T04:00:54.775807Z", "-290308-12-21T19:59:05.224192Z"]),
            (Arc::new(Date32Array::from(vec![i32::MAX, i32::MIN])), ["+5881580-07-11", "-5877641-06-23"]),
            (
                Arc::new(TimestampSecondArray::from(vec![i64::MAX, i64::MIN])),
                ["+292277026596-12-04T15:30:07", "-292277022657-01-27T08:29:52"],
            ),
        ];
        for (array, wanted) in cases {
            let cells = Cells::try_new(&array).unwrap();
            for (row, wanted) in wanted.into_iter().enumerate() {
                let mut out = Vec::new();
                cells.write(row, &mut out).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), format!("\"{wanted}\""));
            }
        }
        // Where the calendar reaches, both say the same.
        for days in [-719_529, -719_469, -1, 0, 58, 59, 60, 18_321, 18_322, 2_932_896] {
            let text = ArrayFormatter::try_new(&Date32Array::from(vec![days]), &options()).unwrap().value(0).to_string();
            let plain = day_text(i64::from(days));
            assert_eq!(plain.strip_prefix('+').unwrap_or(&plain), text);
        }
    }

    #[test]
    fn zst_holds_the_same_lines_and_an_empty_part_is_a_whole_frame() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..5000)) as ArrayRef)]).unwrap();
        let part = |format| {
            let settings = WriteSettings { format, ..WriteSettings::default() };
            let mut writer = part_writer(&batch.schema(), &settings).unwrap();
            writer.write(&batch).unwrap();
            (writer.finish().unwrap(), empty_part(&batch.schema(), &settings).unwrap())
        };
        let ((plain, _), (packed, empty)) = (part(WriteFormat::Jsonl), part(WriteFormat::JsonlZst));
        assert_eq!(zstd::decode_all(packed.clone().into_bytes().as_slice()).unwrap(), plain.into_bytes());
        assert_eq!((packed.rows, empty.rows), (5000, 0));
        let empty = empty.into_bytes();
        assert!(!empty.is_empty() && zstd::decode_all(empty.as_slice()).unwrap().is_empty());
    }
}
