//! Keys of rows: a canonical encoding of some columns' values, and hashes of it.
//!
//! The encoding depends on the values alone: not on the batch a row stands in, nor on slicing, dictionaries or offset widths.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::row::{RowConverter, Rows, SortField};
use schemas::SchemaError;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use crate::StageError;

const NULL: u8 = 0;
const VALUE: u8 = 1;

/// Columns whose values make a row's key.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumns {
    columns: Vec<usize>,
}

/// How the text of a key column is changed before it is compared; writes the changed text behind what is there.
pub(crate) type Change = fn(&str, &mut Vec<u8>);

impl KeyColumns {
    /// The columns of `schema` called `names`.
    ///
    /// # Errors
    /// [`SchemaError`] if there is no such column; a [`StageError::Setting`] at `setting` if its type cannot be compared.
    pub(crate) fn try_new<'n>(schema: &Schema, names: impl IntoIterator<Item = &'n str>, setting: &str) -> Result<Self, StageError> {
        let mut columns = Vec::new();
        for name in names {
            let column = schema.index_of(name).map_err(|_| SchemaError::missing(name, schema))?;
            let data_type = schema.field(column).data_type();
            if !is_text(data_type) && !RowConverter::supports_fields(&[SortField::new(plain(data_type))]) {
                return Err(StageError::setting(setting, format!("values of `{name}: {data_type}` can't be compared"))
                    .with_help("name a column of texts, numbers, times, or lists or structs of them"));
            }
            columns.push(column);
        }
        Ok(Self { columns })
    }

    /// Makes the rows of `batch` ready to be encoded.
    pub(crate) fn encode(&self, batch: &RecordBatch, change: Option<Change>) -> Result<KeyBatch, StageError> {
        let columns = self.columns.iter().map(|&column| Encoded::try_new(batch.column(column), change)).collect::<Result<_, _>>()?;
        Ok(KeyBatch { columns })
    }
}

/// The key columns of one batch.
pub(crate) struct KeyBatch {
    columns: Vec<Encoded>,
}

impl KeyBatch {
    /// Whether every key column is null in `row`.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.columns.iter().all(|column| column.array.is_null(row))
    }

    /// Whether any key column is null in `row`.
    pub(crate) fn has_null(&self, row: usize) -> bool {
        self.columns.iter().any(|column| column.array.is_null(row))
    }

    /// Writes the encoding of `row` behind what is in `bytes`; no two different lists of values have the same.
    pub(crate) fn write(&self, row: usize, bytes: &mut Vec<u8>) {
        for column in &self.columns {
            column.write(row, bytes);
        }
    }
}

struct Encoded {
    array: ArrayRef,
    change: Option<Change>,
    /// For columns that are no text or bytes.
    rows: Option<Rows>,
}

impl Encoded {
    fn try_new(array: &ArrayRef, change: Option<Change>) -> Result<Self, StageError> {
        let data_type = plain(array.data_type());
        let array = if *array.data_type() == data_type { Arc::clone(array) } else { cast(array, &data_type)? };
        let rows = match data_type {
            DataType::Utf8 | DataType::Binary => None,
            _ => Some(RowConverter::new(vec![SortField::new(data_type)])?.convert_columns(&[Arc::clone(&array)])?),
        };
        Ok(Self { array, change, rows })
    }

    /// The value of `row`, if that is what is encoded.
    fn as_it_is(&self, row: usize) -> Option<&[u8]> {
        if self.array.is_null(row) || self.change.is_some() {
            return None;
        }
        match self.array.data_type() {
            DataType::Utf8 => Some(self.array.as_string::<i32>().value(row).as_bytes()),
            DataType::Binary => Some(self.array.as_binary::<i32>().value(row)),
            _ => None,
        }
    }

    fn write(&self, row: usize, bytes: &mut Vec<u8>) {
        if self.array.is_null(row) {
            bytes.push(NULL);
            return;
        }
        bytes.push(VALUE);
        let at = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        match (&self.rows, self.array.data_type(), self.change) {
            (Some(rows), ..) => bytes.extend_from_slice(rows.row(row).as_ref()),
            (None, DataType::Utf8, Some(change)) => change(self.array.as_string::<i32>().value(row), bytes),
            (None, DataType::Utf8, None) => bytes.extend_from_slice(self.array.as_string::<i32>().value(row).as_bytes()),
            (None, ..) => bytes.extend_from_slice(self.array.as_binary::<i32>().value(row)),
        }
        let length = (bytes.len() - at - 8) as u64;
        bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(plain(data_type), DataType::Utf8 | DataType::Binary)
}

/// The type that values are encoded as: dictionaries and other widths of text make no difference.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        DataType::List(item) | DataType::LargeList(item) => {
            DataType::List(Arc::new(Field::new(item.name(), plain(item.data_type()), true)))
        }
        other => other.clone(),
    }
}

/// The 128-bit key of an encoding.
pub(crate) fn key(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// Makes the [`key`] of what [`KeyBatch::write`] writes, without writing long values anywhere.
#[derive(Default)]
pub(crate) struct KeyHasher {
    bytes: Vec<u8>,
    /// What was hashed already is not in `bytes`.
    hasher: Xxh3,
    has_begun: bool,
}

impl KeyHasher {
    /// Shorter values are gathered first.
    const LONG: usize = 512;

    /// Adds the encoding of `row`.
    pub(crate) fn add(&mut self, keys: &KeyBatch, row: usize) {
        for column in &keys.columns {
            match column.as_it_is(row) {
                Some(value) if value.len() >= Self::LONG => {
                    self.bytes.push(VALUE);
                    self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
                    self.hasher.update(&self.bytes);
                    self.bytes.clear();
                    self.hasher.update(value);
                    self.has_begun = true;
                }
                _ => column.write(row, &mut self.bytes),
            }
        }
    }

    /// The key of all that was added since the last call.
    pub(crate) fn finish(&mut self) -> u128 {
        let key = if self.has_begun {
            self.hasher.update(&self.bytes);
            let key = self.hasher.digest128();
            self.hasher.reset();
            self.has_begun = false;
            key
        } else {
            key(&self.bytes)
        };
        self.bytes.clear();
        key
    }
}

/// Draws a number from 0 to 1 (never 1) for each row: by the run's seed, the stage, and the row's key, and by nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    prefix: Vec<u8>,
    columns: KeyColumns,
}

impl Draw {
    /// Draws of the stage `stage_id` in a run with this seed.
    pub(crate) fn new(seed: u64, stage_id: &str, columns: KeyColumns) -> Self {
        let mut prefix = seed.to_le_bytes().to_vec();
        prefix.extend_from_slice(&(stage_id.len() as u64).to_le_bytes());
        prefix.extend_from_slice(stage_id.as_bytes());
        Self { prefix, columns }
    }

    /// The number of each row; `[n_rows]`.
    pub(crate) fn draw(&self, batch: &RecordBatch) -> Result<Vec<f64>, StageError> {
        self.each(batch, |bytes| share_of(xxh3_64(bytes)))
    }

    /// A lot of 128 bits for each row, so wide that different rows draw different ones; `[n_rows]`.
    pub(crate) fn lots(&self, batch: &RecordBatch) -> Result<Vec<u128>, StageError> {
        self.each(batch, xxh3_128)
    }

    fn each<T>(&self, batch: &RecordBatch, hash: impl Fn(&[u8]) -> T) -> Result<Vec<T>, StageError> {
        let keys = self.columns.encode(batch, None)?;
        let mut bytes = self.prefix.clone();
        let mut drawn = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            bytes.truncate(self.prefix.len());
            keys.write(row, &mut bytes);
            drawn.push(hash(&bytes));
        }
        Ok(drawn)
    }
}

/// The first 53 bits of a hash as a number from 0 to 1 (never 1).
pub(crate) fn share_of(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Float64Array, Int32Array, LargeStringArray, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn encodings(columns: Vec<(&str, ArrayRef)>) -> Vec<Vec<u8>> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let batch = RecordBatch::try_from_iter(columns.clone()).expect("columns of one length");
        let keys = KeyColumns::try_new(&batch.schema(), names, "columns").expect("columns that can be compared");
        let keys = keys.encode(&batch, None).expect("an encoding");
        (0..batch.num_rows())
            .map(|row| {
                let mut bytes = Vec::new();
                keys.write(row, &mut bytes);
                bytes
            })
            .collect()
    }

    #[test]
    fn a_key_is_that_of_the_encoding_however_long_the_values() {
        let texts =
            |from: usize| Arc::new((from..from + 40).map(|n| (n % 7 > 0).then(|| "é".repeat(n * 11))).collect::<StringArray>()) as ArrayRef;
        let bytes = Arc::new((0..40).map(|n| Some(vec![7_u8; n * 31])).collect::<arrow::array::BinaryArray>()) as ArrayRef;
        let columns =
            vec![("a", texts(0)), ("n", Arc::new(Int32Array::from_iter_values(0..40)) as ArrayRef), ("b", bytes), ("c", texts(20))];
        let batch = RecordBatch::try_from_iter(columns.clone()).expect("columns of one length");
        let keys = KeyColumns::try_new(&batch.schema(), ["a", "n", "b", "c"], "columns").expect("columns that can be compared");
        let change: Change = |text, bytes| bytes.extend(text.bytes().rev());
        for change in [None, Some(change)] {
            let keys = keys.encode(&batch, change).expect("an encoding");
            let mut hasher = KeyHasher::default();
            for row in 0..batch.num_rows() {
                let mut encoding = Vec::new();
                keys.write(row, &mut encoding);
                hasher.add(&keys, row);
                assert_eq!(hasher.finish(), key(&encoding), "row {row}");
            }
        }
    }

    #[test]
    fn values_cannot_run_into_each_other() {
        let left: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), Some("a"), None, Some("")]));
        let right: ArrayRef = Arc::new(StringArray::from(vec![Some("c"), Some("bc"), Some(""), None]));
        let mut keys = encodings(vec![("left", left), ("right", right)]);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn a_dictionary_and_another_width_make_no_difference() {
        let plain = encodings(vec![("a", Arc::new(StringArray::from(vec!["x", "y", "x"])))]);
        assert_eq!(plain, encodings(vec![("a", Arc::new(LargeStringArray::from(vec!["x", "y", "x"])))]));
        let dictionary: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
        assert_eq!(plain, encodings(vec![("a", Arc::new(dictionary))]));
    }

    #[test]
    fn a_row_has_the_same_key_in_a_slice() {
        let all: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        assert_eq!(encodings(vec![("a", Arc::clone(&all))])[2..], encodings(vec![("a", all.slice(2, 1))]));
    }

    #[test]
    fn draws_are_spread_evenly_and_differ_by_seed_and_stage() {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..10_000).map(|n| format!("doc{n}"))));
        let batch = RecordBatch::try_from_iter([("id", ids)]).expect("one column");
        let columns = KeyColumns::try_new(&batch.schema(), ["id"], "column").expect("a text column");
        let drawn = Draw::new(7, "sample", columns.clone()).draw(&batch).expect("draws");
        // 10,000 draws, standard deviation of the count below 0.25: 43. Six of them: once in a billion.
        let below = Float64Array::from(drawn.clone()).iter().flatten().filter(|x| *x < 0.25).count();
        assert!((2500 - 260..2500 + 260).contains(&below), "{below} of 10,000 are below 0.25");
        assert_ne!(drawn, Draw::new(8, "sample", columns.clone()).draw(&batch).expect("draws"));
        assert_ne!(drawn, Draw::new(7, "holdup", columns).draw(&batch).expect("draws"));
    }
}
