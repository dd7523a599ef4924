//! Tables of global programs on their way between tasks: written sorted, in blocks that can be read alone; read by key range.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use stages::{Keyed, RowRef, StageError, TablePart, TableSpec};

use super::RunError;
use crate::ipc::{IpcPart, decode};
use crate::marks::{Block, TableFile};
use crate::store::{Store, hash_bytes};

/// A block holds at most this many rows …
const BLOCK_ROWS: usize = 8_192;

/// … and about this many bytes.
const BLOCK_BYTES: u64 = 1 << 20;

/// A key range is cut so that its rows take about this many bytes. Not a setting: rows that leave a range step are stored range by range.
pub(super) const RANGE_BYTES: u64 = 32 << 20;

/// A range of keys: from `from` on, up to but without `to`; `None` is open. Keys are byte strings; 128-bit keys in big-endian order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct KeyRange {
    /// First key.
    pub from: Option<Vec<u8>>,
    /// One past the last key.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// The keys of one shard's rows.
    pub(super) fn of_shard(shard: u32) -> Self {
        let key = |shard: u32| (u128::from(shard) << 96).to_be_bytes().to_vec();
        Self { from: Some(key(shard)), to: shard.checked_add(1).map(key) }
    }
}

/// Sorts what a task wrote to one table and stores it at `path`. `None` if it wrote no row.
///
/// # Errors
/// What Arrow says of the rows, or the storage.
pub(super) fn write_table(store: &Store, spec: &TableSpec, path: &str, parts: Vec<TablePart>) -> Result<Option<TableFile>, RunError> {
    let mut object = None;
    let (rows, blocks) = encode_table(spec, parts, |block| {
        let object = match &mut object {
            Some(object) => object,
            None => object.insert(store.begin(path)?),
        };
        Ok(object.write(block)?)
    })?;
    let Some(object) = object else { return Ok(None) };
    let (bytes, _) = object.finish()?;
    Ok(Some(TableFile { table: spec.name.to_owned(), path: path.to_owned(), rows, bytes, blocks }))
}

/// Sorts what a task wrote to one table and gives it to `write`, block by block; how many rows there are, and the blocks.
///
/// Keys can be as long as the rows, so nothing is held twice for longer than it takes: rows and keys are brought into one piece one after the
/// other, put in order block by block, and a block is written before the next one is made.
///
/// # Errors
/// What Arrow says of the rows, or what `write` says.
pub(super) fn encode_table(
    spec: &TableSpec,
    parts: Vec<TablePart>,
    mut write: impl FnMut(&[u8]) -> Result<(), RunError>,
) -> Result<(u64, Vec<Block>), RunError> {
    let (table, order) = sorted(spec, parts)?;
    let sizes = schemas::row_bytes(&table);
    let (mut bytes, mut blocks) = (0, Vec::new());
    let mut start = 0;
    while start < order.len() {
        let (mut end, mut data_bytes) = (start, 0);
        while end < order.len() && end - start < BLOCK_ROWS && (end == start || data_bytes < BLOCK_BYTES) {
            data_bytes += sizes[order[end] as usize];
            end += 1;
        }
        let block = take_record_batch(&table, &UInt32Array::from(order[start..end].to_vec()))?;
        let mut part = IpcPart::try_new(&block.schema())?;
        part.write(&block)?;
        let encoded = part.finish()?.concat();
        let length = encoded.len() as u64;
        let (hash, first) = (hash_bytes(&encoded), hex(key_at(block.column(0), 0)));
        blocks.push(Block { start: bytes, end: bytes + length, data_bytes, hash, first });
        write(&encoded)?;
        bytes += length;
        start = end;
    }
    Ok((order.len() as u64, blocks))
}

/// The rows of all parts with their keys and positions, and the order in which they are stored.
fn sorted(spec: &TableSpec, parts: Vec<TablePart>) -> Result<(RecordBatch, Vec<u32>), RunError> {
    let mut batches = Vec::new();
    let mut hashed: Vec<u128> = Vec::new();
    let mut ordered: Vec<BinaryArray> = Vec::new();
    for part in parts {
        match part {
            TablePart::Hashed(keys, batch) => {
                hashed.extend(keys);
                batches.push(batch);
            }
            TablePart::Ordered(keys, batch) => {
                ordered.push(keys);
                batches.push(batch);
            }
            TablePart::Whole(batch) => batches.push(batch),
        }
    }
    let rows = concat_batches(&spec.schema, &batches)?;
    drop(batches);
    let n_rows =
        u32::try_from(rows.num_rows()).map_err(|_| StageError::Internal(format!("over 2^32 rows of table `{}` in one task", spec.name)))?;
    let mut order: Vec<u32> = (0..n_rows).collect();
    let keys: ArrayRef = if !hashed.is_empty() {
        let mut places: Vec<(u128, u32)> = hashed.iter().copied().zip(0..).collect();
        places.sort_unstable();
        order.clear();
        order.extend(places.iter().map(|(_, row)| *row));
        drop(places);
        let keys: Vec<u8> = hashed.iter().flat_map(|key| key.to_be_bytes()).collect();
        std::sync::Arc::new(FixedSizeBinaryArray::try_new(16, keys.into(), None)?)
    } else if !ordered.is_empty() {
        let all = concat(&ordered.iter().map(|keys| keys as &dyn Array).collect::<Vec<_>>())?;
        drop(ordered);
        let keys: &BinaryArray = all.as_any().downcast_ref().expect("binary arrays concatenate to one");
        order.sort_unstable_by(|&a, &b| keys.value(a as usize).cmp(keys.value(b as usize)).then(a.cmp(&b)));
        all
    } else {
        std::sync::Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(b"", rows.num_rows())))
    };
    let positions = std::sync::Arc::new(UInt32Array::from_iter_values(0..n_rows)) as ArrayRef;
    let schema = stored_schema(&spec.schema, keys.data_type());
    let columns = [keys, positions].into_iter().chain(rows.columns().iter().cloned()).collect();
    Ok((RecordBatch::try_new(schema, columns)?, order))
}

fn stored_schema(rows: &Schema, key: &DataType) -> SchemaRef {
    let added = [Field::new("_key", key.clone(), false), Field::new("_position", DataType::UInt32, false)];
    let fields = added.into_iter().map(std::sync::Arc::new).chain(rows.fields().iter().cloned());
    std::sync::Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn key_at(keys: &ArrayRef, row: usize) -> &[u8] {
    let any = keys.as_any();
    match any.downcast_ref::<FixedSizeBinaryArray>() {
        Some(keys) => keys.value(row),
        None => any.downcast_ref::<BinaryArray>().map_or(&[], |keys| keys.value(row)),
    }
}

/// Where to cut the keys of tables so that each range is of about `range_bytes`; from the stored rows alone.
pub(super) fn cut_ranges(files: &[&TableFile], hashed: bool, range_bytes: u64) -> Vec<KeyRange> {
    let total: u64 = files.iter().flat_map(|file| &file.blocks).map(|block| block.data_bytes).sum();
    let n_ranges = total.div_ceil(range_bytes).max(1);
    let mut cuts: Vec<Vec<u8>> = Vec::new();
    if hashed {
        let width = u128::MAX / u128::from(n_ranges);
        cuts.extend((1..n_ranges).map(|range| (width * u128::from(range)).to_be_bytes().to_vec()));
    } else {
        let mut samples: Vec<(Vec<u8>, u64)> =
            files.iter().flat_map(|file| &file.blocks).map(|block| (unhex(&block.first), block.data_bytes)).collect();
        samples.sort();
        let mut before = 0;
        for (key, bytes) in samples {
            if before >= range_bytes * (cuts.len() as u64 + 1) && cuts.last() != Some(&key) {
                cuts.push(key);
            }
            before += bytes;
        }
    }
    let from = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
    let to = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
    from.zip(to).map(|(from, to)| KeyRange { from, to }).collect()
}

/// Bytes in memory of the blocks that hold keys of `range`.
pub(super) fn bytes_in(files: &[&TableFile], range: &KeyRange) -> u64 {
    files.iter().flat_map(|file| blocks_in(file, range)).map(|block| block.data_bytes).sum()
}

/// Keys are held against the hexadecimal ones of the blocks, which sort alike.
fn blocks_in<'f>(file: &'f TableFile, range: &KeyRange) -> &'f [Block] {
    // Keys of a block lie between its first one and that of the next block, which may be the same.
    let start = range.from.as_deref().map(hex).map_or(0, |from| file.blocks.partition_point(|block| block.first < from).saturating_sub(1));
    let end = range.to.as_deref().map(hex).map_or(file.blocks.len(), |to| file.blocks.partition_point(|block| block.first < to));
    &file.blocks[start..end.max(start)]
}

/// Reads the rows of one key range of a table, sorted by (key, origin); `files` are in the order of the tasks that wrote them.
///
/// # Errors
/// What the storage says, or a file that is not what was written.
pub(super) fn read_range(store: &Store, spec: &TableSpec, files: &[(u32, &TableFile)], range: &KeyRange) -> Result<Keyed, RunError> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut tasks: Vec<u32> = Vec::new();
    for &(task, file) in files {
        let blocks = blocks_in(file, range);
        let spans: Vec<_> = blocks.iter().map(|block| block.start..block.end).collect();
        for (bytes, block) in store.get_ranges(&file.path, &spans)?.into_iter().zip(blocks) {
            if hash_bytes(&bytes) != block.hash {
                let problem = "its contents have changed".to_owned();
                return Err(crate::store::StoreError::Damaged { path: file.path.clone(), problem }.into());
            }
            for batch in decode([bytes])? {
                index(batch.num_rows())?;
                batches.push(batch);
                tasks.push(task);
            }
        }
    }
    index(batches.len())?;
    let hashed = batches.first().is_some_and(|batch| *batch.column(0).data_type() == DataType::FixedSizeBinary(16));
    let of_range = |batch: &RecordBatch| {
        let first = range.from.as_deref().map_or(0, |from| rows_below(batch.column(0), from));
        first..range.to.as_deref().map_or(batch.num_rows(), |to| rows_below(batch.column(0), to))
    };
    let (mut keys, mut origins, mut picks) = (Vec::new(), Vec::new(), Vec::new());
    if hashed {
        let mut rows: Vec<(u128, RowRef, u32, u32)> = Vec::new();
        for ((batch, &task), number) in batches.iter().zip(&tasks).zip(0_u32..) {
            let positions = positions_of(batch);
            let of_batch = (0_u32..).zip(batch.column(0).as_fixed_size_binary().value_data().as_chunks::<16>().0);
            let in_range = of_range(batch);
            rows.extend(
                of_batch
                    .take(in_range.end)
                    .skip(in_range.start)
                    .map(|(row, key)| (u128::from_be_bytes(*key), RowRef { shard: task, row: positions[row as usize] }, number, row)),
            );
        }
        // Each block is sorted, which this sort makes use of.
        rows.sort();
        for (key, origin, batch, row) in rows {
            keys.push(key);
            origins.push(origin);
            picks.push((batch as usize, row as usize));
        }
    } else {
        let mut rows: Vec<(&[u8], RowRef, usize, usize)> = Vec::new();
        for (number, (batch, &task)) in batches.iter().zip(&tasks).enumerate() {
            let (column, positions) = (batch.column(0), positions_of(batch));
            rows.extend(of_range(batch).map(|row| (key_at(column, row), RowRef { shard: task, row: positions[row] }, number, row)));
        }
        rows.sort();
        origins.extend(rows.iter().map(|row| row.1));
        picks.extend(rows.iter().map(|row| (row.2, row.3)));
    }
    let payload: Vec<RecordBatch> =
        batches.iter().map(|batch| batch.project(&(2..batch.num_columns()).collect::<Vec<_>>())).collect::<Result<_, _>>()?;
    let batch = if picks.is_empty() {
        RecordBatch::new_empty(SchemaRef::clone(&spec.schema))
    } else if spec.schema.fields().is_empty() {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(picks.len()));
        RecordBatch::try_new_with_options(SchemaRef::clone(&spec.schema), Vec::new(), &options)?
    } else {
        let merged = arrow::compute::interleave_record_batch(&payload.iter().collect::<Vec<_>>(), &picks)?;
        RecordBatch::try_new(SchemaRef::clone(&spec.schema), merged.columns().to_vec())?
    };
    Ok(Keyed { keys, origins, batch })
}

fn positions_of(batch: &RecordBatch) -> &[u32] {
    batch.column(1).as_primitive::<UInt32Type>().values()
}

/// How many of the sorted keys are below `key`.
fn rows_below(keys: &ArrayRef, key: &[u8]) -> usize {
    let (mut below, mut from) = (0, keys.len());
    while below < from {
        let middle = usize::midpoint(below, from);
        if key_at(keys, middle) < key {
            below = middle + 1;
        } else {
            from = middle;
        }
    }
    below
}

fn index(number: usize) -> Result<u32, RunError> {
    u32::try_from(number).map_err(|_| StageError::Internal("over 2^32 rows in one range".to_owned()).into())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::UInt64Array;
    use arrow::datatypes::UInt64Type;
    use proptest::prelude::*;
    use stages::Route;

    use super::*;
    use crate::store::tests::store;

    fn spec(route: Route) -> TableSpec {
        TableSpec::new("t", Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, false)])), route)
    }

    fn write(store: &Store, spec: &TableSpec, task: usize, parts: Vec<TablePart>) -> Option<TableFile> {
        write_table(store, spec, &format!("t-{task}"), parts).expect("written")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn ranges_together_are_the_table_sorted_by_key_and_origin(tasks in prop::collection::vec(prop::collection::vec(0_u8..6, 0..40), 1..5), n_ranges in 1_u8..7) {
            let (_folder, _runtime, store) = store();
            for by_order in [false, true] {
                let spec = spec(if by_order { Route::Order } else { Route::Key });
                let mut expected: Vec<(u128, u32, u32)> = Vec::new();
                let mut files = Vec::new();
                for (task, keys) in tasks.iter().enumerate() {
                    // Two writes a task, so that the order of writing spans them.
                    let keys: Vec<u128> = keys.iter().map(|key| u128::from(*key) << 125).collect();
                    let batch = |from: usize, to: usize| RecordBatch::try_new(Arc::clone(&spec.schema), vec![Arc::new(UInt64Array::from_iter_values((from..to).map(|row| (task * 1000 + row) as u64)))]).expect("a column");
                    let half = keys.len() / 2;
                    let part = |from: usize, to: usize| {
                        let keys = keys[from..to].to_vec();
                        let bytes = keys.iter().map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>();
                        if by_order { TablePart::Ordered(BinaryArray::from_iter_values(bytes), batch(from, to)) } else { TablePart::Hashed(keys, batch(from, to)) }
                    };
                    let parts = vec![part(0, half), part(half, keys.len())];
                    let number = u32::try_from(task).expect("few tasks");
                    files.extend(write(&store, &spec, task, parts).map(|file| (number, file)));
                    expected.extend((0_u32..).zip(&keys).map(|(row, key)| (*key, number, row)));
                }
                expected.sort_unstable();
                let files: Vec<(u32, &TableFile)> = files.iter().map(|(task, file)| (*task, file)).collect();
                let cut = |range: u8| (range > 0 && range < n_ranges).then(|| (u128::from(range) << 124).to_be_bytes().to_vec());
                let mut seen = Vec::new();
                for range in 0..n_ranges {
                    let keyed = read_range(&store, &spec, &files, &KeyRange { from: cut(range), to: cut(range + 1) }).expect("read");
                    let numbers = keyed.batch.column(0).as_primitive::<UInt64Type>();
                    for row in 0..keyed.batch.num_rows() {
                        prop_assert_eq!(numbers.value(row), u64::from(keyed.origins[row].shard) * 1000 + u64::from(keyed.origins[row].row));
                        seen.push((keyed.keys.get(row).copied(), keyed.origins[row].shard, keyed.origins[row].row));
                    }
                }
                let expected: Vec<_> = expected.into_iter().map(|(key, task, row)| ((!by_order).then_some(key), task, row)).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn a_large_table_is_cut_into_ranges_that_miss_nothing() {
        let (_folder, _runtime, store) = store();
        let text = "x".repeat(1000);
        let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, false)]));
        for by_order in [false, true] {
            let spec = TableSpec::new("t", Arc::clone(&schema), if by_order { Route::Order } else { Route::Key });
            let files: Vec<TableFile> = [0_u8, 1]
                .into_iter()
                .filter_map(|task| {
                    let n: u32 = 40_000;
                    let texts = arrow::array::StringArray::from_iter_values((0..n).map(|_| text.as_str()));
                    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(texts)]).expect("a column");
                    let key = |row: u32| (u128::from(row) * 2 + u128::from(task)).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
                    let part = if by_order {
                        TablePart::Ordered(BinaryArray::from_iter_values((0..n).map(|row| key(row).to_be_bytes())), batch)
                    } else {
                        TablePart::Hashed((0..n).map(key).collect(), batch)
                    };
                    write(&store, &spec, usize::from(task), vec![part])
                })
                .collect();
            let all: Vec<&TableFile> = files.iter().collect();
            let ranges = cut_ranges(&all, !by_order, RANGE_BYTES);
            assert_eq!(ranges.len(), 3);
            let numbered: Vec<(u32, &TableFile)> = (0_u32..).zip(&files).collect();
            let sizes: Vec<usize> =
                ranges.iter().map(|range| read_range(&store, &spec, &numbered, range).expect("read").batch.num_rows()).collect();
            assert_eq!(sizes.iter().sum::<usize>(), 80_000);
            assert!(sizes.iter().all(|&size| size > 10_000), "{sizes:?}");
        }
    }
}
