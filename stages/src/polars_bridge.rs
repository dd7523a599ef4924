//! The one place where tables cross between arrow and polars, by the Arrow C data interface.
//!
//! Into polars, columns keep their values and take the nearest type that polars was built with: dictionaries become their values, `Float16`
//! becomes `Float32`, `UInt8` and `UInt16` become `UInt32`. Out of polars, texts, bytes and lists come with 32-bit offsets again, in batches of
//! at most [`MAX_ROWS`] rows.

use std::mem::{align_of, size_of};
use std::sync::Arc;

use arrow::array::{ArrayRef, NullArray, RecordBatch, RecordBatchOptions, UInt64Array, make_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use polars::prelude::{Column, CompatLevel, DataFrame, DataType as PolarsType, PolarsError, Series, TimeZone};
use polars_arrow::array::ArrayRef as PolarsArray;
use polars_arrow::datatypes::Field as PolarsField;
use polars_arrow::ffi as polars_ffi;

/// Most rows of a batch that comes out of polars.
pub const MAX_ROWS: usize = 8192;
/// Most bytes of a batch that comes out of polars, unless one row has more.
pub const MAX_BYTES: u64 = 32 << 20;

/// A table could not cross.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// Polars has no such type.
    #[error("column `{column}: {data_type}` has a type that SQL can't work with")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// Polars refused.
    #[error("{0}")]
    Polars(#[from] PolarsError),
    /// Arrow refused.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// Polars gave up in the middle.
    #[error("polars failed: {0}")]
    Panic(String),
}

/// Runs code that calls polars, which panics where its build lacks a feature.
///
/// # Errors
/// What `work` says, or that it panicked.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, BridgeError>) -> Result<T, BridgeError> {
    datasets::catch_quietly(work).unwrap_or_else(|message| Err(BridgeError::Panic(message)))
}

/// Batches of one schema as a polars table. Copies nothing that has a type both know.
///
/// # Errors
/// [`BridgeError::Type`] for a type that polars does not know.
pub fn to_polars(schema: &Schema, batches: &[RecordBatch]) -> Result<DataFrame, BridgeError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let target = polars_type(field.data_type())
            .ok_or_else(|| BridgeError::Type { column: field.name().clone(), data_type: field.data_type().to_string() })?;
        let mut chunks = Vec::with_capacity(batches.len().max(1));
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            chunks.push(array_to_polars(batch.column(at), &target)?);
        }
        if chunks.is_empty() {
            chunks.push(array_to_polars(&arrow::array::new_empty_array(&target), &target)?);
        }
        let series = guarded(|| Ok(Series::from_arrow_chunks(field.name().as_str().into(), chunks)?))?;
        columns.push(Column::from(series));
    }
    let height = batches.iter().map(RecordBatch::num_rows).sum();
    Ok(DataFrame::new(height, columns)?)
}

/// The columns of a polars table as Arrow fields, all nullable, as [`from_polars`] gives them.
///
/// # Errors
/// A type that arrow does not know.
pub fn schema_of(frame: &DataFrame) -> Result<SchemaRef, BridgeError> {
    let fields = frame.columns().iter().map(|column| {
        let field = PolarsField::new(column.name().clone(), column.dtype().to_arrow(CompatLevel::oldest()), true);
        let data_type = DataType::try_from(&schema_to_arrow(polars_ffi::export_field_to_c(&field)))?;
        Ok(Field::new(column.name().as_str(), plain_type(&data_type), true))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Result<Fields, ArrowError>>()?)))
}

/// A polars table as batches of at most [`MAX_ROWS`] rows and about [`MAX_BYTES`] bytes; no batch if it has no rows.
///
/// # Errors
/// A type that arrow does not know, or one value of over 2 GiB.
pub fn from_polars(frame: DataFrame) -> Result<Vec<RecordBatch>, BridgeError> {
    let schema = schema_of(&frame)?;
    let height = frame.height();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for column in frame.into_columns() {
        let field = PolarsField::new(column.name().clone(), column.dtype().to_arrow(CompatLevel::oldest()), true);
        if *column.dtype() == PolarsType::Null {
            // Polars exports a buffer that a column of nothing but nulls must not have.
            columns.push(Arc::new(NullArray::new(height)));
            continue;
        }
        let array = guarded(|| Ok(column.rechunk_to_arrow(CompatLevel::oldest())))?;
        columns.push(array_from_polars(array, &field)?);
    }

    let wide_fields: Fields =
        schema.fields().iter().zip(&columns).map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(height));
    let wide = RecordBatch::try_new_with_options(Arc::new(Schema::new(wide_fields)), columns, &options)?;
    let bytes = schemas::row_bytes(&wide);
    let mut batches = Vec::new();
    let mut start = 0;
    while start < height {
        let mut end = start + 1;
        let mut size = bytes[start];
        while end < height && end - start < MAX_ROWS && size + bytes[end] <= MAX_BYTES {
            size += bytes[end];
            end += 1;
        }
        batches.push(narrow(&wide, &schema, start..end)?);
        start = end;
    }
    Ok(batches)
}

/// Some rows with the types of `schema`.
fn narrow(wide: &RecordBatch, schema: &SchemaRef, rows: std::ops::Range<usize>) -> Result<RecordBatch, BridgeError> {
    // `take` and not `slice`: a slice's offsets count from the start of the whole column, which may be past what 32 bits hold.
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let rows = UInt64Array::from_iter_values(rows.map(|row| row as u64));
    let columns = wide.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(&take(column, &rows, None)?, field.data_type())).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The type a column has in polars; `None` if polars cannot hold it. Fields inside lists and structs lose their metadata, which polars would
/// take for its own.
fn polars_type(data_type: &DataType) -> Option<DataType> {
    let item = |field: &FieldRef| Some(Arc::new(Field::new("item", polars_type(field.data_type())?, true)));
    Some(match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Decimal128(..) => data_type.clone(),
        DataType::Timestamp(_, zone) => {
            TimeZone::opt_try_new(zone.as_deref()).ok()?;
            data_type.clone()
        }
        DataType::UInt8 | DataType::UInt16 => DataType::UInt32,
        DataType::Float16 => DataType::Float32,
        DataType::Utf8View => DataType::LargeUtf8,
        DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::LargeBinary,
        DataType::Dictionary(_, values) => polars_type(values)?,
        DataType::List(field) => DataType::List(item(field)?),
        DataType::LargeList(field) => DataType::LargeList(item(field)?),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field)?, *size),
        DataType::Struct(fields) if !fields.is_empty() => {
            let fields = fields.iter().map(|field| Some(Field::new(field.name(), polars_type(field.data_type())?, true)));
            DataType::Struct(fields.collect::<Option<Fields>>()?)
        }
        _ => return None,
    })
}

/// The type a column has outside polars: 32-bit offsets, no dictionaries.
fn plain_type(data_type: &DataType) -> DataType {
    let item = |field: &FieldRef| Arc::new(Field::new("item", plain_type(field.data_type()), true));
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::List(field) | DataType::LargeList(field) => DataType::List(item(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field), *size),
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| Field::new(field.name(), plain_type(field.data_type()), true));
            DataType::Struct(fields.collect())
        }
        other => other.clone(),
    }
}

// Both crates lay these structs out as the C data interface says. A change of either that breaks this does not compile.
const _: () = assert!(size_of::<FFI_ArrowArray>() == size_of::<polars_ffi::ArrowArray>());
const _: () = assert!(align_of::<FFI_ArrowArray>() == align_of::<polars_ffi::ArrowArray>());
const _: () = assert!(size_of::<FFI_ArrowSchema>() == size_of::<polars_ffi::ArrowSchema>());
const _: () = assert!(align_of::<FFI_ArrowSchema>() == align_of::<polars_ffi::ArrowSchema>());

#[expect(unsafe_code, reason = "the C data interface is a contract between C structs")]
fn array_to_polars(array: &ArrayRef, target: &DataType) -> Result<PolarsArray, BridgeError> {
    let array = if array.data_type() == target { Arc::clone(array) } else { cast(array, target)? };
    let exported = FFI_ArrowArray::new(&array.to_data());
    let schema = FFI_ArrowSchema::try_from(target)?;
    // SAFETY: both types are `#[repr(C)]` with the fields of the C data interface in its order; the move hands over the release callback.
    let (exported, schema) = unsafe {
        (
            std::mem::transmute::<FFI_ArrowArray, polars_ffi::ArrowArray>(exported),
            std::mem::transmute::<FFI_ArrowSchema, polars_ffi::ArrowSchema>(schema),
        )
    };
    guarded(|| {
        // SAFETY: array and schema were just exported by arrow and describe each other: the array has type `target`.
        unsafe {
            let field = polars_ffi::import_field_from_c(&schema)?;
            Ok(polars_ffi::import_array_from_c(exported, field.dtype)?)
        }
    })
}

#[expect(unsafe_code, reason = "the C data interface is a contract between C structs")]
fn schema_to_arrow(schema: polars_ffi::ArrowSchema) -> FFI_ArrowSchema {
    // SAFETY: as in `array_to_polars`.
    unsafe { std::mem::transmute::<polars_ffi::ArrowSchema, FFI_ArrowSchema>(schema) }
}

#[expect(unsafe_code, reason = "the C data interface is a contract between C structs")]
fn array_from_polars(array: PolarsArray, field: &PolarsField) -> Result<ArrayRef, BridgeError> {
    let schema = schema_to_arrow(polars_ffi::export_field_to_c(field));
    // SAFETY: as in `array_to_polars`; polars exports an array of the type it says the column has.
    let array = unsafe {
        let exported = std::mem::transmute::<polars_ffi::ArrowArray, FFI_ArrowArray>(polars_ffi::export_array_to_c(array));
        from_ffi(exported, &schema)?
    };
    Ok(make_array(array))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Array, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, LargeStringArray, ListArray, StringArray,
        StringViewArray, StructArray, TimestampMillisecondArray, UInt8Array,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn round_trip(column: ArrayRef) -> ArrayRef {
        let schema = Arc::new(Schema::new(vec![Field::new("c", column.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("one column");
        let frame = to_polars(&schema, &[batch]).expect("into polars");
        let declared = schema_of(&frame).expect("a schema");
        let batches = from_polars(frame).expect("out of polars");
        Arc::clone(concat_batches(&declared, &batches).expect("one schema").column(0))
    }

    fn stays(column: ArrayRef) {
        assert_eq!(&round_trip(Arc::clone(&column)), &column);
        if column.len() > 2 {
            let slice = column.slice(1, column.len() - 2);
            assert_eq!(&round_trip(Arc::clone(&slice)), &slice);
        }
        let empty = column.slice(column.len(), 0);
        let back = round_trip(Arc::clone(&empty));
        assert_eq!((back.len(), back.data_type()), (0, empty.data_type()));
    }

    fn lists() -> ListArray {
        let rows = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2), Some(3), Some(4)]), Some(vec![None])];
        ListArray::from_iter_primitive::<Int64Type, _, _>(rows)
    }

    #[test]
    fn values_nulls_and_slices_stay() {
        stays(Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)])));
        stays(Arc::new(Float64Array::from(vec![Some(0.5), None, Some(f64::INFINITY)])));
        stays(Arc::new(BooleanArray::from((0..19).map(|n| (n % 5 != 0).then_some(n % 3 == 0)).collect::<Vec<_>>())));
        stays(Arc::new(StringArray::from(vec![Some("short"), None, Some(""), Some("longer than twelve bytes: 日本語"), Some("end")])));
        stays(Arc::new(BinaryArray::from(vec![Some(&b"\xff\x00"[..]), None, Some(b""), Some(b"thirteen bytes or more")])));
        stays(Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(-1)]).with_timezone("UTC")));
        stays(Arc::new(NullArray::new(3)));
    }

    #[test]
    fn nested_columns_stay() {
        stays(Arc::new(lists()));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("thirteen bytes or more"), Some("d"), None]));
        let fields = vec![
            (Arc::new(Field::new("text", DataType::Utf8, true)), texts),
            (Arc::new(Field::new("list", lists().data_type().clone(), true)), Arc::new(lists()) as ArrayRef),
        ];
        let structs = StructArray::from(fields);
        stays(Arc::new(structs.clone()));
        let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 2, 2, 5].into());
        let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
        stays(Arc::new(ListArray::new(item, offsets, Arc::new(structs), Some(vec![true, false, true].into()))));
    }

    #[test]
    fn wide_and_packed_types_come_back_plain() {
        let texts = vec![Some("x"), None, Some("a text of over twelve bytes"), Some("x")];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        assert_eq!(&round_trip(Arc::new(LargeStringArray::from(texts.clone()))), &plain);
        assert_eq!(&round_trip(Arc::new(StringViewArray::from(texts.clone()))), &plain);
        let dictionary: DictionaryArray<Int32Type> = texts.into_iter().collect();
        assert_eq!(&round_trip(Arc::new(dictionary.clone())), &plain);
        assert_eq!(&round_trip(Arc::new(dictionary.slice(1, 2))), &plain.slice(1, 2));
        assert_eq!(round_trip(Arc::new(UInt8Array::from(vec![7, 255]))).data_type(), &DataType::UInt32);
    }

    #[test]
    fn a_table_without_rows_keeps_its_columns() {
        let schema = Schema::new(vec![Field::new("t", DataType::Utf8, true), Field::new("l", lists().data_type().clone(), true)]);
        let frame = to_polars(&schema, &[]).expect("into polars");
        assert_eq!(*schema_of(&frame).expect("a schema"), schema);
        assert!(from_polars(frame).expect("out of polars").is_empty());
    }

    #[test]
    fn many_rows_come_back_in_batches() {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..20_000));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
        let halves = [batch.slice(0, 12_345), batch.slice(12_345, 20_000 - 12_345)];
        let batches = from_polars(to_polars(&batch.schema(), &halves).expect("into polars")).expect("out of polars");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [8192, 8192, 3616]);
        assert_eq!(concat_batches(&batches[0].schema(), &batches).expect("one schema").column(0), batch.column(0));
    }

    #[test]
    fn large_rows_come_back_in_small_batches() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..5).map(|_| "x".repeat(10 << 20))));
        let batch = RecordBatch::try_from_iter([("t", texts)]).expect("one column");
        let batches = from_polars(to_polars(&batch.schema(), &[batch]).expect("into polars")).expect("out of polars");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn a_type_that_polars_lacks_is_named() {
        let entries = Field::new(
            "entries",
            DataType::Struct(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)].into()),
            false,
        );
        let schema = Schema::new(vec![Field::new("m", DataType::Map(Arc::new(entries), false), true)]);
        let error = to_polars(&schema, &[]).expect_err("no maps in polars").to_string();
        assert!(error.starts_with("column `m: Map(") && error.ends_with("has a type that SQL can't work with"), "{error}");
        let zone =
            Schema::new(vec![Field::new("t", DataType::Timestamp(arrow::datatypes::TimeUnit::Second, Some("Nowhere".into())), true)]);
        assert!(to_polars(&zone, &[]).is_err());
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guarded::<()>(|| panic!("no such feature")).expect_err("it panicked");
        assert_eq!(error.to_string(), "polars failed: no such feature");
    }
}
