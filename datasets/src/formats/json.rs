//! JSON records straight into columns: no tree of values in between, no allocation for a record.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cells::{Cells, Data, Misfit};
use super::json_flat::FlatRecords;

/// Why a record was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotTaken {
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
}

/// Adds one record to `columns`, a struct's cells; leaves them as they were if it does not fit. Of a key that is there twice the last value
/// counts, as in every common reader, but a record of which one of the values does not fit is damaged, whichever it is. A missing field is null.
pub(crate) fn push_record(columns: &mut Cells, flat: &mut FlatRecords, line: &[u8]) -> Result<(), NotTaken> {
    let rows = columns.len();
    let text = simdutf8::compat::from_utf8(line)
        .map_err(|error| NotTaken { reason: "invalid_utf8", detail: format!("no UTF-8 at byte {} of the line", error.valid_up_to()) })?;
    if flat.push(columns, text) {
        return Ok(());
    }
    columns.truncate(rows);
    push_any_record(columns, text)
}

/// [`push_record`] for any record.
pub(super) fn push_any_record(columns: &mut Cells, text: &str) -> Result<(), NotTaken> {
    let rows = columns.len();
    let mut misfit = Misfit::default();
    let mut written = Written::of(columns, text);
    let readable = written.readable();
    let mut deserializer = serde_json::Deserializer::from_str(readable.as_deref().unwrap_or(text));
    let record = Record(Cell { cells: columns, misfit: &mut misfit, written: &mut written });
    let read = deserializer.deserialize_any(record).and_then(|()| deserializer.end());
    read.map_err(|error| {
        columns.truncate(rows);
        if misfit.detail.is_empty() {
            let reason = if error.is_data() { "wrong_type" } else { "invalid_json" };
            return NotTaken { reason, detail: error.to_string() };
        }
        misfit.path.reverse();
        NotTaken { reason: "wrong_type", detail: format!("`{}`: {}", misfit.path.join("."), misfit.detail) }
    })
}

/// The text of a record, which goes along with the parser: what that makes of a number has forgotten its digits, and there is nothing for
/// `1e400`. Whoever is given a key or a value that is no list or object takes it from here, too.
pub(super) struct Written<'t> {
    /// What the parser has not come to; `None` where no column would keep it.
    rest: Option<&'t str>,
    /// Whether the parser gets something else in place of numbers that are too large for it.
    has_large: bool,
}

impl<'t> Written<'t> {
    pub(super) fn of(columns: &Cells, text: &'t str) -> Self {
        Self { rest: columns.takes_json.then_some(text), has_large: false }
    }

    /// The next text, number, truth value or null, as it is written.
    fn scalar(&mut self) -> Option<&'t str> {
        let text = self.rest?;
        let bytes = text.as_bytes();
        let is_scalar = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let start = bytes.iter().position(|byte| *byte == b'"' || is_scalar(byte)).unwrap_or(bytes.len());
        let end = match bytes.get(start) {
            Some(b'"') => end_of_string(bytes, start + 1),
            _ => start + bytes[start..].iter().take_while(|byte| is_scalar(byte)).count(),
        };
        self.rest = Some(&text[end..]);
        (start < end).then(|| &text[start..end])
    }

    /// Passes over the value of the key that was taken last.
    fn pass_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(text) = self.rest {
            let bytes = text.as_bytes();
            let Some(next) = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b':' | b',')) else { return };
            match bytes[next] {
                bracket @ (b'[' | b'{' | b']' | b'}') => {
                    depth = if matches!(bracket, b'[' | b'{') { depth + 1 } else { depth.saturating_sub(1) };
                    self.rest = Some(&text[next + 1..]);
                }
                _ if self.scalar().is_none() => return, // no JSON, as the parser will say
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// The text as the parser can read it, if that is another: zeros stand for numbers that are too large for it.
    fn readable(&mut self) -> Option<String> {
        let text = self.rest?;
        let mut all = Written { rest: Some(text), has_large: false };
        let mut readable = None;
        while let Some(scalar) = all.scalar() {
            if is_too_large(scalar) {
                let end = text.len() - all.rest.map_or(0, str::len);
                let zeros = format!("0.{:0<1$}", "", scalar.len() - 2);
                readable.get_or_insert_with(|| text.to_owned()).replace_range(end - scalar.len()..end, &zeros);
            }
        }
        self.has_large = readable.is_some();
        readable
    }
}

/// Where the string ends whose first character stands at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Whether it is a number larger than any `f64`.
fn is_too_large(scalar: &str) -> bool {
    let is_number = scalar.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let may_be = is_number && (scalar.len() > 300 || scalar.bytes().any(|byte| matches!(byte, b'e' | b'E')));
    may_be && scalar.len() > 2 && scalar.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// A whole record: only an object will do.
struct Record<'a, 't>(Cell<'a, 't>);

impl<'de> Visitor<'de> for Record<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record, that is a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        self.0.visit_map(map)
    }
}

pub(super) struct Cell<'a, 't> {
    pub(super) cells: &'a mut Cells,
    pub(super) misfit: &'a mut Misfit,
    pub(super) written: &'a mut Written<'t>,
}

impl Cell<'_, '_> {
    fn done<E: Error>(self, pushed: Result<(), String>) -> Result<(), E> {
        pushed.map_err(|detail| {
            self.misfit.detail = detail;
            E::custom("a value does not fit")
        })
    }

    /// Adds a number: as it is written where any value is taken, else as it was read.
    fn number<E: Error>(self, push: impl FnOnce(&mut Cells) -> Result<(), String>) -> Result<(), E> {
        let pushed = match self.written.scalar() {
            Some(written) if matches!(self.cells.data, Data::Json(_)) => self.cells.push_json(written.as_bytes()),
            Some(written) if self.written.has_large && is_too_large(written) => {
                let found: String = written.chars().take(60).collect();
                Err(self.cells.misfit("").replace("\"\"", &found))
            }
            _ => push(self.cells),
        };
        self.done(pushed)
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cells.column_type())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.written.scalar();
        self.cells.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.written.scalar();
        let pushed = self.cells.push_bool(value);
        self.done(pushed)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(|cells| cells.push_i64(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.number(|cells| cells.push_u64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.number(|cells| cells.push_f64(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.written.scalar();
        let pushed = self.cells.push_str(value);
        self.done(pushed)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        match &mut self.cells.data {
            Data::List { items, .. } => {
                while seq.next_element_seed(Cell { cells: &mut *items, misfit: &mut *self.misfit, written: &mut *self.written })?.is_some()
                {
                }
                let pushed = self.cells.end_list();
                self.done(pushed)
            }
            Data::Json(bytes) => {
                JsonText { out: &mut bytes.bytes, written: &mut *self.written }.visit_seq(seq)?;
                let fits = bytes.end_value();
                self.end_json(fits)
            }
            _ => {
                let found = self.cells.misfit("").replace("\"\"", "a list");
                self.done(Err(found))
            }
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let row = self.cells.len();
        match &mut self.cells.data {
            Data::Struct(members) => {
                let mut expected = 0;
                while let Some(place) = map.next_key_seed(Key { members: &mut *members, expected })? {
                    self.written.scalar();
                    let Some(place) = place else {
                        self.written.pass_value();
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    expected = place + 1;
                    let cells = &mut members.cells[place];
                    cells.truncate(row);
                    if let Err(error) = map.next_value_seed(Cell { cells, misfit: &mut *self.misfit, written: &mut *self.written }) {
                        self.misfit.path.push(members.name(place).to_owned());
                        return Err(error);
                    }
                }
                members.end_record(row);
                self.cells.valid.push(true);
                Ok(())
            }
            Data::Json(bytes) => {
                JsonText { out: &mut bytes.bytes, written: &mut *self.written }.visit_map(map)?;
                let fits = bytes.end_value();
                self.end_json(fits)
            }
            _ => {
                let found = self.cells.misfit("").replace("\"\"", "an object");
                self.done(Err(found))
            }
        }
    }
}

impl Cell<'_, '_> {
    fn end_json<E: Error>(self, fits: bool) -> Result<(), E> {
        if fits {
            self.cells.valid.push(true);
        }
        self.done(if fits { Ok(()) } else { Err("more than 2 GiB of values in one batch".to_owned()) })
    }
}

/// A key, as the place of its column.
struct Key<'a> {
    members: &'a mut super::cells::Members,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let place = self.members.find(name, self.expected);
        if place.is_none() {
            self.members.count_unknown(name);
        }
        Ok(place)
    }
}

/// Any value, written as compact JSON.
struct JsonText<'a, 't> {
    out: &'a mut Vec<u8>,
    written: &'a mut Written<'t>,
}

impl JsonText<'_, '_> {
    fn number<E: Error>(self, value: impl serde::Serialize) -> Result<(), E> {
        match self.written.scalar() {
            Some(written) => {
                self.out.extend_from_slice(written.as_bytes());
                Ok(())
            }
            None => write(self.out, value),
        }
    }

    fn write<E: Error>(self, value: impl serde::Serialize) -> Result<(), E> {
        self.written.scalar();
        write(self.out, value)
    }
}

impl<'de> DeserializeSeed<'de> for JsonText<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonText<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.write(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.number(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.number(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.write(value)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        self.out.push(b'[');
        let start = self.out.len();
        loop {
            let before = self.out.len();
            if before > start {
                self.out.push(b',');
            }
            if seq.next_element_seed(JsonText { out: &mut *self.out, written: &mut *self.written })?.is_none() {
                self.out.truncate(before);
                self.out.push(b']');
                return Ok(());
            }
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        self.out.push(b'{');
        let start = self.out.len();
        loop {
            let before = self.out.len();
            if before > start {
                self.out.push(b',');
            }
            if map.next_key_seed(JsonText { out: &mut *self.out, written: &mut *self.written })?.is_none() {
                self.out.truncate(before);
                self.out.push(b'}');
                return Ok(());
            }
            self.out.push(b':');
            map.next_value_seed(JsonText { out: &mut *self.out, written: &mut *self.written })?;
        }
    }
}

fn write<E: Error>(out: &mut Vec<u8>, value: impl serde::Serialize) -> Result<(), E> {
    serde_json::to_writer(out, &value).map_err(E::custom)
}
