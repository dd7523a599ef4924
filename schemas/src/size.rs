//! Bytes a row takes, computed from its values alone, so that cuts made by size fall in the same places however rows were batched.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

/// Bytes of each row: values, plus 4 for each 32-bit offset; `[n_rows]`. Does not depend on slicing or on buffers shared with other rows.
pub fn row_bytes(batch: &RecordBatch) -> Vec<u64> {
    let mut bytes = vec![0; batch.num_rows()];
    for column in batch.columns() {
        add_bytes(column.as_ref(), &mut bytes);
    }
    bytes
}

/// Bytes of all rows of `batch`, as [`row_bytes`] counts them.
pub fn batch_bytes(batch: &RecordBatch) -> u64 {
    row_bytes(batch).iter().sum()
}

fn add_bytes(array: &dyn Array, bytes: &mut [u64]) {
    match array.data_type() {
        DataType::Utf8 => add_lengths(array.as_string::<i32>().value_offsets(), bytes),
        DataType::Binary => add_lengths(array.as_binary::<i32>().value_offsets(), bytes),
        DataType::LargeUtf8 => add_lengths(array.as_string::<i64>().value_offsets(), bytes),
        DataType::LargeBinary => add_lengths(array.as_binary::<i64>().value_offsets(), bytes),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            add_items(list.value_offsets(), list.values().as_ref(), bytes);
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            add_items(list.value_offsets(), list.values().as_ref(), bytes);
        }
        DataType::FixedSizeList(_, size) => {
            let list = array.as_fixed_size_list();
            let size = i64::from(*size);
            let offsets: Vec<i64> = (0..=list.len() as i64).map(|row| row * size).collect();
            add_items(&offsets, list.values().as_ref(), bytes);
        }
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                add_bytes(column.as_ref(), bytes);
            }
        }
        other => {
            let width = other.primitive_width().unwrap_or(1) as u64;
            for row in bytes {
                *row += width;
            }
        }
    }
}

fn add_lengths<O: Copy + Into<i64>>(offsets: &[O], bytes: &mut [u64]) {
    for (row, pair) in bytes.iter_mut().zip(offsets.windows(2)) {
        *row += 4 + (pair[1].into() - pair[0].into()).unsigned_abs();
    }
}

fn add_items<O: Copy + Into<i64>>(offsets: &[O], items: &dyn Array, bytes: &mut [u64]) {
    let mut item_bytes = vec![0; items.len()];
    add_bytes(items, &mut item_bytes);
    for (row, pair) in bytes.iter_mut().zip(offsets.windows(2)) {
        let (start, end) = (usize_of(pair[0]), usize_of(pair[1]));
        *row += 4 + item_bytes[start..end].iter().sum::<u64>();
    }
}

fn usize_of(offset: impl Into<i64>) -> usize {
    usize::try_from(offset.into()).expect("Arrow offsets are not negative")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn a_slice_counts_only_its_own_rows() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("four"), None, Some("a")]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), Some(2)]), Some(vec![]), None]));
        let batch = RecordBatch::try_from_iter([("t", texts), ("n", numbers), ("l", lists)]).expect("columns of one length");
        assert_eq!(row_bytes(&batch), [8 + 8 + 20, 4 + 8 + 4, 5 + 8 + 4]);
        assert_eq!(row_bytes(&batch.slice(2, 1)), [17]);
        assert_eq!(batch_bytes(&batch), 36 + 16 + 17);
    }
}
