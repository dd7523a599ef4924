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
/// counts, as in every common reader; a missing field is null.
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
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_any(Record { cells: columns, misfit: &mut misfit }).and_then(|()| deserializer.end());
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

/// A whole record: only an object will do.
struct Record<'a> {
    cells: &'a mut Cells,
    misfit: &'a mut Misfit,
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record, that is a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        Cell { cells: self.cells, misfit: self.misfit }.visit_map(map)
    }
}

pub(super) struct Cell<'a> {
    pub(super) cells: &'a mut Cells,
    pub(super) misfit: &'a mut Misfit,
}

impl Cell<'_> {
    fn done<E: Error>(self, pushed: Result<(), String>) -> Result<(), E> {
        pushed.map_err(|detail| {
            self.misfit.detail = detail;
            E::custom("a value does not fit")
        })
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cells.column_type())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.cells.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let pushed = self.cells.push_bool(value);
        self.done(pushed)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let pushed = self.cells.push_i64(value);
        self.done(pushed)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let pushed = self.cells.push_u64(value);
        self.done(pushed)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let pushed = self.cells.push_f64(value);
        self.done(pushed)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let pushed = self.cells.push_str(value);
        self.done(pushed)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        match &mut self.cells.data {
            Data::List { items, .. } => {
                while seq.next_element_seed(Cell { cells: &mut *items, misfit: &mut *self.misfit })?.is_some() {}
                let pushed = self.cells.end_list();
                self.done(pushed)
            }
            Data::Json(bytes) => {
                JsonText { out: &mut bytes.bytes }.visit_seq(seq)?;
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
                    let Some(place) = place else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    expected = place + 1;
                    let cells = &mut members.cells[place];
                    cells.truncate(row);
                    if let Err(error) = map.next_value_seed(Cell { cells, misfit: &mut *self.misfit }) {
                        self.misfit.path.push(members.name(place).to_owned());
                        return Err(error);
                    }
                }
                members.end_record(row);
                self.cells.valid.push(true);
                Ok(())
            }
            Data::Json(bytes) => {
                JsonText { out: &mut bytes.bytes }.visit_map(map)?;
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

impl Cell<'_> {
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
struct JsonText<'a> {
    out: &'a mut Vec<u8>,
}

impl JsonText<'_> {
    fn write<E: Error>(self, value: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(self.out, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for JsonText<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonText<'_> {
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
        self.write(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.write(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.write(value)
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
            if seq.next_element_seed(JsonText { out: &mut *self.out })?.is_none() {
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
            if map.next_key_seed(JsonText { out: &mut *self.out })?.is_none() {
                self.out.truncate(before);
                self.out.push(b'}');
                return Ok(());
            }
            self.out.push(b':');
            map.next_value_seed(JsonText { out: &mut *self.out })?;
        }
    }
}
