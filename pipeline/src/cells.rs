//! Values of any type as trees of a few kinds, bounded however large the value is: what a page draws.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use serde_json::Value;

use crate::rows::FromValue;
use crate::show;

/// Characters kept of the texts of one value.
const MAX_CHARS: usize = 40_000;

/// Parts kept of one value: items, fields, and theirs.
const MAX_PARTS: usize = 4000;

/// Items kept of one list.
const MAX_ITEMS: usize = 200;

/// Lists and structs within each other.
const MAX_DEPTH: usize = 24;

/// Bytes kept of an image.
pub(crate) const MAX_IMAGE_BYTES: usize = 4 << 20;

/// Bytes kept of what is no image; of a column's own value as many as of an image, for it may be one's pixels.
const MAX_BYTES: usize = 24;

/// Characters kept of the masks of one value, besides those of its texts: they are drawn, not read.
const MAX_MASK_CHARS: usize = 1 << 20;

/// What a mask is called, as COCO writes it.
pub(crate) const MASK: [&str; 2] = ["size", "counts"];

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// None.
    Null,
    /// A text; not yet [`show::visible`].
    Text {
        /// Its beginning.
        text: String,
        /// Characters of the whole.
        chars: usize,
    },
    /// A number, a date, a truth value: as it prints.
    Plain(String),
    /// Bytes that are no image known here.
    Bytes {
        /// The first of them.
        first: Vec<u8>,
        /// How many there are.
        len: usize,
    },
    /// An image that browsers draw.
    Image {
        /// Its format.
        format: ImageFormat,
        /// All its bytes; none where they are more than [`MAX_IMAGE_BYTES`].
        bytes: Vec<u8>,
        /// How many there are.
        len: usize,
    },
    /// A list.
    List {
        /// Its first items.
        items: Vec<Cell>,
        /// How many there are.
        len: usize,
    },
    /// A struct, or an object.
    Struct(Vec<(String, Cell)>),
    /// What was left out, for there was too much of it.
    Omitted,
}

/// A format that all browsers draw and that cannot hold a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageFormat {
    Jpeg,
    Png,
    Webp,
    Gif,
}

impl ImageFormat {
    /// The format of these bytes, by how they begin.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            _ => None,
        }
    }

    /// Its name, which is its media type's too, in upper case.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WEBP",
            Self::Gif => "GIF",
        }
    }
}

/// What may yet be kept of a value.
struct Room {
    chars: usize,
    mask_chars: usize,
    parts: usize,
}

impl Room {
    fn new() -> Self {
        Self { chars: MAX_CHARS, mask_chars: MAX_MASK_CHARS, parts: MAX_PARTS }
    }

    /// Takes the room of a part; false if there is none.
    fn part(&mut self) -> bool {
        let has_room = self.parts > 0;
        self.parts = self.parts.saturating_sub(1);
        has_room
    }

    fn text(&mut self, text: &str) -> Cell {
        // Counting is cheap; what is kept is cut.
        let chars = text.chars().count();
        let kept: String = text.chars().take(self.chars).collect();
        self.chars -= chars.min(self.chars);
        Cell::Text { text: kept, chars }
    }

    /// The value of a field of these, in the room of masks if it is the runs of one.
    fn field(&mut self, names: &[&str], name: &str, of: impl FnOnce(&mut Self) -> Cell) -> Cell {
        let is_runs = name == MASK[1] && names == MASK;
        if is_runs {
            std::mem::swap(&mut self.chars, &mut self.mask_chars);
        }
        let value = of(self);
        if is_runs {
            std::mem::swap(&mut self.chars, &mut self.mask_chars);
        }
        value
    }

    fn array(&mut self, array: &dyn Array, row: usize, depth: usize) -> Cell {
        if !self.part() || depth > MAX_DEPTH {
            return Cell::Omitted;
        }
        if row >= array.len() || array.is_null(row) {
            return Cell::Null;
        }
        match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.text(show::text_at(array, row).unwrap_or_default()),
            DataType::Binary => bytes(array.as_binary::<i32>().value(row), depth),
            DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row), depth),
            DataType::BinaryView => bytes(array.as_binary_view().value(row), depth),
            DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(row), depth),
            DataType::Struct(fields) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                let columns = fields.iter().zip(array.as_struct().columns());
                let fields = columns.map(|(field, column)| {
                    let value = self.field(&names, field.name(), |room| room.array(column.as_ref(), row, depth + 1));
                    (field.name().clone(), value)
                });
                Cell::Struct(fields.collect())
            }
            DataType::List(_) => self.list(array.as_list::<i32>().value(row).as_ref(), depth),
            DataType::LargeList(_) => self.list(array.as_list::<i64>().value(row).as_ref(), depth),
            DataType::FixedSizeList(..) => self.list(array.as_fixed_size_list().value(row).as_ref(), depth),
            DataType::Map(..) => self.list(&array.as_map().value(row), depth),
            _ => Cell::Plain(show::cell(array, row, 400)),
        }
    }

    fn list(&mut self, items: &dyn Array, depth: usize) -> Cell {
        let kept = (0..items.len().min(MAX_ITEMS)).take_while(|_| self.parts > 0).collect::<Vec<_>>();
        Cell::List { items: kept.into_iter().map(|row| self.array(items, row, depth + 1)).collect(), len: items.len() }
    }

    fn json(&mut self, value: &Value, depth: usize) -> Cell {
        if !self.part() || depth > MAX_DEPTH {
            return Cell::Omitted;
        }
        match value {
            Value::Null => Cell::Null,
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                Cell::List { items: items.iter().take(MAX_ITEMS).map(|item| self.json(item, depth + 1)).collect(), len: items.len() }
            }
            Value::Object(fields) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                let field = |(name, value): (&String, &Value)| (name.clone(), self.field(&names, name, |room| room.json(value, depth + 1)));
                Cell::Struct(fields.iter().take(MAX_PARTS).map(field).collect())
            }
            value => Cell::Plain(value.to_string()),
        }
    }
}

fn bytes(bytes: &[u8], depth: usize) -> Cell {
    if let Some(format) = ImageFormat::of(bytes) {
        let kept = if bytes.len() <= MAX_IMAGE_BYTES { bytes } else { &[] };
        return Cell::Image { format, bytes: kept.to_vec(), len: bytes.len() };
    }
    let most = if depth <= 1 { MAX_IMAGE_BYTES } else { MAX_BYTES };
    Cell::Bytes { first: bytes[..bytes.len().min(most)].to_vec(), len: bytes.len() }
}

impl FromValue for Cell {
    fn of_array(array: &dyn Array, row: usize, _max_chars: usize) -> Self {
        Room::new().array(array, row, 0)
    }

    fn of_json(value: &Value, _max_chars: usize) -> Self {
        Room::new().json(value, 0)
    }
}

impl Cell {
    /// The text of a text, or of a number.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } | Self::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// The field of a struct.
    pub(crate) fn field(&self, name: &str) -> Option<&Cell> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, ListArray, StringArray, StructArray};
    use arrow::datatypes::{Field, Int64Type};
    use serde_json::json;

    use super::*;

    fn of(array: &dyn Array) -> Cell {
        Cell::of_array(array, 0, 0)
    }

    fn text(text: &str) -> Cell {
        Cell::Text { text: text.to_owned(), chars: text.chars().count() }
    }

    #[test]
    fn values_of_files_and_of_json_are_the_same_trees() {
        let role: ArrayRef = Arc::new(StringArray::from(vec!["user"]));
        let n: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some([Some(1), None])]));
        let array = StructArray::from(vec![
            (Arc::new(Field::new("role", DataType::Utf8, true)), role),
            (Arc::new(Field::new("n", n.data_type().clone(), true)), n),
        ]);
        let wanted = Cell::Struct(vec![
            ("role".to_owned(), text("user")),
            ("n".to_owned(), Cell::List { items: vec![Cell::Plain("1".to_owned()), Cell::Null], len: 2 }),
        ]);
        assert_eq!(of(&array), wanted);
        assert_eq!(Cell::of_json(&json!({"role": "user", "n": [1, null]}), 0), wanted);
        assert_eq!(wanted.field("role").and_then(Cell::as_text), Some("user"));
    }

    fn parts(cell: &Cell) -> usize {
        if let Cell::List { items, .. } = cell { 1 + items.iter().map(parts).sum::<usize>() } else { 1 }
    }

    #[test]
    fn what_is_kept_of_a_value_is_bounded() {
        let long = of(&StringArray::from(vec!["é".repeat(10 << 20)]));
        assert!(matches!(long, Cell::Text { text, chars } if text.chars().count() == MAX_CHARS && chars == 10 << 20));
        let Cell::List { items, len } = of(&ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some((0..5000).map(Some))])) else {
            panic!("a list")
        };
        assert_eq!((items.len(), len), (MAX_ITEMS, 5000));
        // Texts of one value share the room.
        let Cell::List { items, .. } = Cell::of_json(&json!(["a".repeat(30_000), "b".repeat(30_000)]), 0) else { panic!("a list") };
        let kept: Vec<usize> = items.iter().filter_map(Cell::as_text).map(str::len).collect();
        assert_eq!(kept, [30_000, 10_000]);
        // Two hundred lists of two hundred lists of …
        let mut value = json!(1);
        for _ in 0..4 {
            value = Value::Array(vec![value; 30]);
        }
        assert!(parts(&Cell::of_json(&value, 0)) < MAX_PARTS * 32);
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert!(format!("{:?}", Cell::of_json(&deep, 0)).contains("Omitted"));
    }

    #[test]
    fn masks_have_room_of_their_own() {
        let value = json!([{"size": [4, 4], "counts": "0".repeat(100_000)}, {"counts": "0".repeat(100_000)}, "text"]);
        let Cell::List { items, .. } = Cell::of_json(&value, 0) else { panic!("a list") };
        let kept = |cell: Option<&Cell>| cell.and_then(Cell::as_text).map(str::len);
        assert_eq!(kept(items[0].field("counts")), Some(100_000));
        assert_eq!(kept(items[1].field("counts")), Some(MAX_CHARS), "that is a text");
    }

    #[test]
    fn images_are_told_by_how_they_begin() {
        let kinds = [
            (&b"\xff\xd8\xff\xe0rest"[..], Some(ImageFormat::Jpeg)),
            (b"\x89PNG\r\n\x1a\nrest", Some(ImageFormat::Png)),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", Some(ImageFormat::Webp)),
            (b"GIF89a", Some(ImageFormat::Gif)),
            (b"<svg onload=alert(1)>", None),
            (b"RIFF", None),
            (b"", None),
        ];
        for (bytes, kind) in kinds {
            assert_eq!(ImageFormat::of(bytes), kind, "{bytes:?}");
        }
        let mut large = b"\xff\xd8\xff".to_vec();
        large.resize(MAX_IMAGE_BYTES + 1, 0);
        let cell = of(&BinaryArray::from(vec![large.as_slice()]));
        assert_eq!(cell, Cell::Image { format: ImageFormat::Jpeg, bytes: Vec::new(), len: MAX_IMAGE_BYTES + 1 });
        // A column's own bytes may be pixels; those of items of a list are not.
        assert_eq!(of(&BinaryArray::from(vec![&[7_u8; 100][..]])), Cell::Bytes { first: vec![7; 100], len: 100 });
        assert_eq!(bytes(&[7_u8; 100], 2), Cell::Bytes { first: vec![7; 24], len: 100 });
        assert_eq!(of(&Int64Array::from(vec![Some(7)])), Cell::Plain("7".to_owned()));
    }
}
