//! Columns of vectors: lists of one length, of floats of any width.

use arrow::array::{Array, AsArray, FixedSizeListArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float16Type, Float32Type, Float64Type, Schema};
use schemas::SchemaError;

use crate::StageError;
use crate::units::ColumnName;

/// A column of vectors.
#[derive(Debug, Clone)]
pub(crate) struct VectorColumn {
    name: String,
    depth: usize,
}

impl VectorColumn {
    /// The column that the setting `column` names.
    ///
    /// # Errors
    /// There is no such column, or it is no list of one length of floats.
    pub(crate) fn try_new(input: &Schema, name: &ColumnName) -> Result<Self, StageError> {
        let wanted = || SchemaError::missing(format!("{name}: FixedSizeList of Float16, Float32 or Float64"), input);
        let field = input.field_with_name(name.as_str()).map_err(|_| wanted())?;
        let DataType::FixedSizeList(item, depth) = field.data_type() else {
            let is_list = matches!(field.data_type(), DataType::List(item) | DataType::LargeList(item) if is_float(item));
            let Some(help) = is_list
                .then_some("vectors of one length are a list of that length: an Arrow file or a Parquet file with Arrow's schema says so")
            else {
                return Err(wanted().into());
            };
            let problem = format!("wanted lists of one length, `FixedSizeList`, found `{name}: {}`, lists of any", field.data_type());
            return Err(StageError::setting("column", problem).with_help(help));
        };
        match usize::try_from(*depth) {
            Ok(depth) if depth > 0 && is_float(item) => Ok(Self { name: name.to_string(), depth }),
            _ => Err(wanted().into()),
        }
    }

    /// Numbers of a vector.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The vectors of a batch.
    ///
    /// # Errors
    /// [`StageError::Internal`] if it has not the column that was checked.
    pub(crate) fn of<'b>(&self, batch: &'b RecordBatch) -> Result<Vectors<'b>, StageError> {
        let list = batch.column_by_name(&self.name).and_then(|column| column.as_fixed_size_list_opt());
        let list = list.filter(|list| usize::try_from(list.value_length()) == Ok(self.depth));
        let list = list.ok_or_else(|| StageError::Internal(format!("column `{}` changed its type", self.name)))?;
        let numbers = match list.value_type() {
            DataType::Float16 => Numbers::F16(list.values().as_primitive::<Float16Type>().values()),
            DataType::Float32 => Numbers::F32(list.values().as_primitive::<Float32Type>().values()),
            DataType::Float64 => Numbers::F64(list.values().as_primitive::<Float64Type>().values()),
            other => return Err(StageError::Internal(format!("column `{}` is a list of {other}", self.name))),
        };
        Ok(Vectors { list, numbers, depth: self.depth })
    }
}

fn is_float(item: &Field) -> bool {
    matches!(item.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// The vectors of one batch.
#[derive(Debug)]
pub(crate) struct Vectors<'b> {
    list: &'b FixedSizeListArray,
    numbers: Numbers<'b>,
    depth: usize,
}

#[derive(Debug)]
enum Numbers<'b> {
    F16(&'b [<Float16Type as ArrowPrimitiveType>::Native]),
    F32(&'b [f32]),
    F64(&'b [f64]),
}

impl Vectors<'_> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    fn start(&self, row: usize) -> Option<usize> {
        let start = self.list.is_valid(row).then_some(row * self.depth)?;
        let values = self.list.values();
        let has_nulls = values.null_count() > 0 && (start..start + self.depth).any(|at| values.is_null(at));
        (!has_nulls).then_some(start)
    }

    /// A row's numbers, rounded to `f32`, into `out`. False, and zeros, if the row is null, or one of its numbers is null, infinite or none.
    ///
    /// # Panics
    /// If `out` is of another length.
    pub(crate) fn copy_finite(&self, row: usize, out: &mut [f32]) -> bool {
        assert_eq!(out.len(), self.depth, "numbers of a vector");
        let Some(start) = self.start(row) else {
            out.fill(0.0);
            return false;
        };
        let of = start..start + self.depth;
        match self.numbers {
            Numbers::F16(all) => out.iter_mut().zip(&all[of]).for_each(|(out, x)| *out = x.to_f32()),
            Numbers::F32(all) => out.copy_from_slice(&all[of]),
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest; what is too large becomes infinite and is found")]
            Numbers::F64(all) => out.iter_mut().zip(&all[of]).for_each(|(out, x)| *out = *x as f32),
        }
        // Compiled for several numbers at once, which `all` is not.
        let finite = out.iter().fold(true, |all, x| all & x.is_finite());
        if !finite {
            out.fill(0.0);
        }
        finite
    }

    /// A row scaled to length 1 into `out`. False if it has no direction: it is null or all zeros, or one of its numbers is null, infinite or none.
    ///
    /// # Panics
    /// If `out` is of another length.
    pub(crate) fn copy_unit(&self, row: usize, out: &mut [f32]) -> bool {
        let Some(start) = self.start(row) else { return false };
        let of = start..start + self.depth;
        match self.numbers {
            Numbers::F16(all) => gpu::cpu::cosine_topk::unit(all[of].iter().map(|x| x.to_f64()), out),
            Numbers::F32(all) => gpu::cpu::cosine_topk::unit(all[of].iter().map(|x| f64::from(*x)), out),
            Numbers::F64(all) => gpu::cpu::cosine_topk::unit(all[of].iter().copied(), out),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float16Array, Float32Array, Float64Array, StringArray};
    use arrow::buffer::NullBuffer;

    use super::*;

    /// Ids `r0`, `r1`, … and vectors; `None` is a null vector.
    pub(crate) fn table(item: &DataType, rows: &[Option<Vec<Option<f64>>>]) -> RecordBatch {
        let depth = rows.iter().flatten().next().map_or(2, Vec::len);
        let ids = StringArray::from_iter_values((0..rows.len()).map(|row| format!("r{row}")));
        let numbers: Vec<Option<f64>> = rows.iter().flat_map(|row| row.clone().unwrap_or_else(|| vec![Some(0.0); depth])).collect();
        #[expect(clippy::cast_possible_truncation, reason = "a test's numbers")]
        let values: ArrayRef = match item {
            DataType::Float16 => {
                let half = <Float16Type as ArrowPrimitiveType>::Native::from_f64;
                Arc::new(numbers.iter().map(|x| x.map(half)).collect::<Float16Array>())
            }
            DataType::Float32 => Arc::new(numbers.iter().map(|x| x.map(|x| x as f32)).collect::<Float32Array>()),
            _ => Arc::new(numbers.iter().copied().collect::<Float64Array>()),
        };
        let field = Arc::new(Field::new_list_field(item.clone(), true));
        let nulls = NullBuffer::from(rows.iter().map(Option::is_some).collect::<Vec<_>>());
        let list = FixedSizeListArray::new(field, i32::try_from(depth).unwrap(), values, Some(nulls));
        let columns: [(&str, ArrayRef, bool); 2] = [("id", Arc::new(ids), true), ("embedding", Arc::new(list), true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn rows_are_read_whatever_the_width_of_their_numbers() {
        let rows = [Some(vec![Some(3.0), Some(-4.0)]), None, Some(vec![Some(1.0), None]), Some(vec![Some(f64::NAN), Some(1.0)])];
        for item in [DataType::Float16, DataType::Float32, DataType::Float64] {
            // Cut out of a larger batch: offsets count.
            let batch = table(&item, &[&[Some(vec![Some(9.0), Some(9.0)])], rows.as_slice()].concat()).slice(1, 4);
            let column = VectorColumn::try_new(&batch.schema(), &ColumnName::new("embedding")).unwrap();
            let vectors = column.of(&batch).unwrap();
            assert_eq!((column.depth(), vectors.len()), (2, 4));
            let mut out = [f32::NAN; 2];
            assert!(vectors.copy_finite(0, &mut out));
            assert_eq!(out.map(f32::to_bits), [3.0_f32, -4.0].map(f32::to_bits));
            assert!(vectors.copy_unit(0, &mut out));
            assert_eq!(out.map(f32::to_bits), [0.6_f32, -0.8].map(f32::to_bits));
            for row in 1..4 {
                assert!(!vectors.copy_finite(row, &mut out) && !vectors.copy_unit(row, &mut [0.0; 2]), "{item} {row}");
                assert_eq!(out.map(f32::to_bits), [0; 2]);
            }
        }
    }

    #[test]
    fn numbers_beyond_f32_are_infinite_there_and_have_a_direction() {
        let batch = table(&DataType::Float64, &[Some(vec![Some(3e300), Some(4e300)])]);
        let column = VectorColumn::try_new(&batch.schema(), &ColumnName::new("embedding")).unwrap();
        let mut out = [0.0; 2];
        assert!(!column.of(&batch).unwrap().copy_finite(0, &mut out));
        assert!(column.of(&batch).unwrap().copy_unit(0, &mut out));
    }

    #[test]
    fn what_is_no_column_of_vectors_is_refused() {
        let refusal = |data_type: DataType| {
            let schema = Schema::new(vec![Field::new("v", data_type, true)]);
            VectorColumn::try_new(&schema, &ColumnName::new("v")).unwrap_err().to_string()
        };
        assert_eq!(refusal(DataType::Utf8), "needs column `v: FixedSizeList of Float16, Float32 or Float64`, but the input has `v: Utf8`");
        let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
        assert!(refusal(list(DataType::Float32)).starts_with("wanted lists of one length"), "{}", refusal(list(DataType::Float32)));
        assert!(refusal(list(DataType::Utf8)).starts_with("needs column"));
        let fixed = |item: DataType, depth| DataType::FixedSizeList(Arc::new(Field::new_list_field(item, true)), depth);
        assert!(refusal(fixed(DataType::Float32, 0)).starts_with("needs column"));
        assert!(refusal(fixed(DataType::Int8, 4)).starts_with("needs column"));
    }
}
