//! The fast way for the records that most files are made of: one object of texts, numbers and truth values. Texts go straight into their
//! column. Whatever else a record holds, and whatever may be wrong with it, is left to the full reader.

use serde::de::DeserializeSeed;

use super::cells::{Cells, Data, Members, Misfit};
use super::json::{Cell, Written};

/// Records that go the full way after one that had to.
const PAUSE: u32 = 64;

/// Whether records are tried the fast way: where they have to go the full way after all, most others of the file will too.
#[derive(Debug, Default)]
pub(crate) struct FlatRecords {
    pause: u32,
}

impl FlatRecords {
    /// Adds a record to `columns`, a struct's cells. `false` if it has to go the full way; then cells may be left half-done.
    pub(crate) fn push(&mut self, columns: &mut Cells, record: &str) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        let row = columns.len();
        let Data::Struct(members) = &mut columns.data else { return false };
        let pushed = push_members(members, row, record.as_bytes()).is_some();
        if pushed {
            columns.valid.push(true);
        } else {
            self.pause = PAUSE;
        }
        pushed
    }
}

/// `None` for anything but `{"known": "text", "other": 1.5}` with each key once.
fn push_members(members: &mut Members, row: usize, record: &[u8]) -> Option<()> {
    // Strings may hold no control characters, and between tokens they are rare.
    if record.iter().copied().fold(u8::MAX, u8::min) < 0x20 {
        return None;
    }
    let mut rest = token(record, b'{')?;
    let mut expected = 0;
    loop {
        let key = token(rest, b'"')?;
        let length = memchr::memchr2(b'"', b'\\', key)?;
        let place = members.find(std::str::from_utf8(&key[..length]).ok()?, expected)?;
        expected = place + 1;
        let value = skip_spaces(token(token(&key[length..], b'"')?, b':')?);
        let cells = members.cells.get_mut(place)?;
        if cells.len() != row {
            return None; // the key is there twice
        }
        rest = match (value.split_first()?, &mut cells.data) {
            ((b'"', text), Data::Text(bytes) | Data::Json(bytes)) => {
                let rest = push_text(&mut bytes.bytes, text)?;
                if !bytes.end_value() {
                    return None;
                }
                cells.valid.push(true);
                rest
            }
            ((b'"' | b'{' | b'[', _), _) => return None,
            _ => {
                let length = value.iter().position(|byte| matches!(byte, b',' | b'}' | b' '))?;
                let mut misfit = Misfit::default();
                let text = std::str::from_utf8(&value[..length]).ok()?;
                let mut scalar = serde_json::Deserializer::from_str(text);
                let mut written = Written::of(cells, text);
                Cell { cells, misfit: &mut misfit, written: &mut written }.deserialize(&mut scalar).ok()?;
                scalar.end().ok()?;
                &value[length..]
            }
        };
        rest = match skip_spaces(rest).split_first()? {
            (b',', rest) => rest,
            (b'}', rest) if skip_spaces(rest).is_empty() => break,
            _ => return None,
        };
    }
    members.end_record(row);
    Some(())
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

/// What follows `wanted` and the spaces before it.
fn token(text: &[u8], wanted: u8) -> Option<&[u8]> {
    skip_spaces(text).split_first().filter(|(first, _)| **first == wanted).map(|(_, rest)| rest)
}

/// Appends the string that `text` begins with, whose opening quote is read; what follows its closing one.
fn push_text<'t>(out: &mut Vec<u8>, mut text: &'t [u8]) -> Option<&'t [u8]> {
    loop {
        let plain = memchr::memchr2(b'"', b'\\', text)?;
        out.extend_from_slice(&text[..plain]);
        if text[plain] == b'"' {
            return Some(&text[plain + 1..]);
        }
        let escaped = *text.get(plain + 1)?;
        text = &text[plain + 2..];
        out.push(match escaped {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 0x08,
            b'f' => 0x0C,
            b'"' | b'\\' | b'/' => escaped,
            b'u' => {
                let character = char::from_u32(hex(text)?)?; // halves of surrogate pairs go the full way
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                text = &text[4..];
                continue;
            }
            _ => return None,
        });
    }
}

fn hex(text: &[u8]) -> Option<u32> {
    text.get(..4)?.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;
    use proptest::prelude::*;

    use super::super::columns::Columns;
    use super::super::json::push_any_record;
    use super::super::types::ColumnType;
    use super::*;

    fn cells() -> Cells {
        let columns: Columns =
            serde_json::from_str(r#"{"id": "string", "text": "string", "n": "int8", "f": "float32", "b": "bool", "j": "json"}"#).unwrap();
        Cells::new(&ColumnType::Struct(columns.0))
    }

    /// The records that went the fast way, and the columns, of which each record is one row or none.
    fn read(records: &[String], fast: bool) -> (Vec<bool>, Vec<ArrayRef>) {
        let mut columns = cells();
        let flat = records.iter().map(|record| {
            let rows = columns.len();
            let flat = fast && FlatRecords::default().push(&mut columns, record);
            if !flat {
                columns.truncate(rows);
                let _ = push_any_record(&mut columns, record);
            }
            flat
        });
        (flat.collect(), columns.take_columns().unwrap())
    }

    #[test]
    fn plain_records_go_the_fast_way_and_others_do_not() {
        let flat = |record: &str| read(&[record.to_owned()], true).0[0];
        for record in [
            r#"{"id":"1","text":"a\n\t\r\b\f\"\\\/ \u00e9\u65E5 é日"}"#,
            r#" { "text" : "a" , "id" : "" } "#,
            r#"{"n": -128, "f":1e3,"b":false ,"id":null}"#,
            r#"{"j": 18446744073709551616.10,"n":null}"#,
            r#"{"j": "18446744073709551616.10\n"}"#,
        ] {
            assert!(flat(record), "{record}");
            assert_eq!(read(&[record.to_owned()], true).1, read(&[record.to_owned()], false).1);
        }
        for record in [
            "",
            "{",
            "{}",
            "[]",
            "null",
            "{\"id\":\"1\"} x",
            "{\"id\":\"1\",}",
            "{\"id\":\"\t\"}",
            "{\"other\":1}",
            "{\"id\":1}",
            "{\"id\":\"1\",\"id\":\"2\"}",
            "{\"n\":128}",
            "{\"n\":01}",
            "{\"n\":}",
            "{\"f\":1e39}",
            "{\"b\":truee}",
            "{\"j\":{}}",
            "{\"j\":1e400}",
            "{\"i\\u0064\":\"1\"}",
            "{\"id\":\"\\ud83d\\ude00\"}",
            "{\"id\":\"\\ud83d\"}",
            "{\"id\":\"\\u12\"}",
            "{\"id\":\"\\u+123\"}",
            "{\"id\":\"\\x\"}",
            "{\"id\":\"1",
            "{\"id\":\"1\\",
            "{\"id\" \"1\"}",
            "{id:1}",
        ] {
            assert!(!flat(record), "{record}");
        }
    }

    #[test]
    fn after_one_that_does_not_some_are_not_tried() {
        let (mut columns, mut flat) = (cells(), FlatRecords::default());
        assert!(!flat.push(&mut columns, "{\"j\": {}}"));
        columns.truncate(0);
        let tried: Vec<bool> = (0..=PAUSE).map(|_| flat.push(&mut columns, "{\"n\": 1}")).collect();
        assert_eq!((tried.iter().filter(|tried| **tried).count(), tried.last()), (1, Some(&true)));
    }

    fn record() -> impl Strategy<Value = String> {
        let text = prop_oneof!["[a-z é日\u{1F600}/]{0,70}", r#"(\\n|\\"|\\\\|\\u00e9|\\u0000|\\ud83d|\\ude00|\\u12|\\x|x|"|\\){0,6}"#,];
        let scalar = "-?[0-9]{1,4}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|[1-9][0-9]{18,24}|true|false|null|nul|\\[1,2.50\\]|\\{\\}";
        let value = prop_oneof![3 => text.prop_map(|text| format!("\"{text}\"")), 1 => scalar];
        let member = ("id|text|n|f|b|j|other|i\\\\u0064", " ?", value, " ?|\t")
            .prop_map(|(key, before, value, after)| format!("\"{key}\"{before}:{before}{value}{after}"));
        (proptest::collection::vec(member, 0..5), "|,|x| ").prop_map(|(members, end)| format!("{{{}}}{end}", members.join(",")))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn both_ways_give_the_same(records in proptest::collection::vec(record(), 1..6)) {
            prop_assert_eq!(read(&records, true).1, read(&records, false).1);
        }
    }
}
