//! `sort_rows`: puts the rows in the order of some columns.

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, SortField};
use schemars::JsonSchema;
use schemas::SchemaError;
use serde::{Deserialize, Serialize};

use super::reorder::{Reorder, RowKeys};
use crate::units::ColumnName;
use crate::{BuildContext, Inputs, Kind, Outputs, Stage, StageConfig, StageError};

/// Sorts all rows by the values of columns.
///
/// Where the first column's values are equal the second decides, and so on; rows that are equal in all of them keep the order they came in.
/// Texts are compared byte by byte (for UTF-8 that is the order of the characters' numbers: `Z` before `a`), numbers by value, `-0.0` before
/// `0.0`, `NaN` after all other numbers, `false` before `true`, lists item by item. The table may be larger than memory. No row is changed, added or dropped.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SortRowsConfig {
    /// The columns, the one that decides first in front: `by: [source, {column: score, order: descending}]`.
    #[schemars(with = "Vec<SortBy>", length(min = 1))]
    pub by: Vec<SortColumn>,
}

/// A column to sort by, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "SortBy")]
#[schemars(with = "SortBy")]
pub struct SortColumn {
    column: ColumnName,
    order: Order,
    nulls: Nulls,
}

/// As the pipeline file has it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum SortBy {
    /// The column, ascending, nulls last.
    Name(ColumnName),
    /// The column and how.
    Column(Described),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Described {
    /// The column.
    column: ColumnName,
    /// Which values come first.
    #[serde(default)]
    order: Order,
    /// Where rows without a value stand, whichever the order is.
    #[serde(default)]
    nulls: Nulls,
}

impl From<SortBy> for SortColumn {
    fn from(by: SortBy) -> Self {
        match by {
            SortBy::Name(column) => Self { column, order: Order::default(), nulls: Nulls::default() },
            SortBy::Column(Described { column, order, nulls }) => Self { column, order, nulls },
        }
    }
}

/// Which values come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Order {
    /// The smallest.
    #[default]
    Ascending,
    /// The largest.
    Descending,
}

/// Where rows without a value stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Nulls {
    /// Before all others.
    First,
    /// After all others.
    #[default]
    Last,
}

impl StageConfig for SortRowsConfig {
    const NAME: &'static str = "sort_rows";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: sort_rows, from: pages, by: [source, {column: score, order: descending}]}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        self.columns(cx.input()?)?;
        Ok(Outputs::new(cx.input()?.clone()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?.clone();
        let keys = self.columns(&input)?;
        Ok(Stage::Global(Box::new(Reorder { input, keys })))
    }
}

impl SortRowsConfig {
    fn columns(&self, input: &Schema) -> Result<Columns, StageError> {
        if self.by.is_empty() {
            return Err(StageError::setting("by", "wanted one or more columns, found an empty list"));
        }
        let mut columns = Columns { columns: Vec::new(), fields: Vec::new() };
        for by in &self.by {
            let name = by.column.as_str();
            let column = input.index_of(name).map_err(|_| SchemaError::missing(name, input))?;
            if columns.columns.contains(&column) {
                return Err(StageError::setting("by", format!("wanted each column once, found `{name}` twice")));
            }
            let data_type = input.field(column).data_type();
            let options = SortOptions { descending: by.order == Order::Descending, nulls_first: by.nulls == Nulls::First };
            let field = SortField::new_with_options(data_type.clone(), options);
            if !RowConverter::supports_fields(std::slice::from_ref(&field)) {
                return Err(StageError::setting("by", format!("values of `{name}: {data_type}` have no order"))
                    .with_help("name a column of texts, numbers, times, or lists or structs of them"));
            }
            columns.columns.push(column);
            columns.fields.push(field);
        }
        Ok(columns)
    }
}

struct Columns {
    columns: Vec<usize>,
    fields: Vec<SortField>,
}

impl RowKeys for Columns {
    fn keys(&self, batch: &RecordBatch, each: &mut dyn FnMut(&[u8])) -> Result<(), StageError> {
        let converter = RowConverter::new(self.fields.clone())?;
        let columns: Vec<_> = self.columns.iter().map(|&column| batch.column(column).clone()).collect();
        converter.convert_columns(&columns)?.iter().for_each(|row| each(row.as_ref()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Port;
    use crate::testing::{self, Balance, Cut};

    fn table(rows: &[(Option<&str>, Option<f64>)]) -> RecordBatch {
        let text: ArrayRef = Arc::new(rows.iter().map(|(text, _)| *text).collect::<StringArray>());
        let x: ArrayRef = Arc::new(rows.iter().map(|(_, x)| *x).collect::<Float64Array>());
        let n: ArrayRef = Arc::new(Int32Array::from_iter_values(0..i32::try_from(rows.len()).expect("few rows")));
        RecordBatch::try_from_iter_with_nullable([("t", text, true), ("x", x, true), ("n", n, true)]).expect("columns of one length")
    }

    fn order(by: serde_json::Value, rows: &[(Option<&str>, Option<f64>)], cut: Cut) -> Vec<usize> {
        let got = testing::run_cut::<SortRowsConfig>(json!({"by": by}), &[(Port::FROM, table(rows))], cut);
        testing::column(got.rows(), "n").iter().map(|n| n.parse().expect("a number")).collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        let by = json!(["source", {"column": "tags", "order": "descending"}, {"column": "score", "nulls": "first"}]);
        testing::check_contract::<SortRowsConfig>(json!({"by": by}), &testing::sample(), Balance::KeptOrDropped);
    }

    #[test]
    fn order_and_nulls_are_as_asked() {
        let rows = [(Some("b"), Some(1.0)), (None, Some(f64::NAN)), (Some("a"), None), (Some("B"), Some(-2.0)), (Some("ab"), Some(0.0))];
        let order = |by| order(by, &rows, testing::CUTS[0]);
        assert_eq!(order(json!(["t"])), [3, 2, 4, 0, 1]);
        assert_eq!(order(json!([{"column": "t", "nulls": "first"}])), [1, 3, 2, 4, 0]);
        assert_eq!(order(json!([{"column": "t", "order": "descending"}])), [0, 4, 2, 3, 1]);
        assert_eq!(order(json!([{"column": "x", "order": "descending", "nulls": "first"}])), [2, 1, 0, 4, 3]);
        assert_eq!(order(json!(["x"])), [3, 4, 0, 1, 2]);
    }

    #[test]
    fn writing_the_defaults_out_changes_no_setting() {
        let written = |by| {
            let config: SortRowsConfig = serde_json::from_value(json!({"by": by})).expect("settings");
            serde_json::to_value(config).expect("written")
        };
        assert_eq!(written(json!(["t"])), written(json!([{"column": "t", "order": "ascending", "nulls": "last"}])));
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refusal = |by| testing::refusal::<SortRowsConfig>(json!({"by": by}), &[(Port::FROM, testing::sample())]);
        assert_eq!(refusal(json!([])), "by: wanted one or more columns, found an empty list");
        assert_eq!(refusal(json!(["source", {"column": "source"}])), "by: wanted each column once, found `source` twice");
        assert!(refusal(json!(["page"])).starts_with("needs column `page`, but the input has"), "{}", refusal(json!(["page"])));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_stable_sort(
            rows in prop::collection::vec((prop::option::of("[ab]{0,2}"), prop::option::of(-2_i8..3)), 0..80),
            shard_rows in 1_usize..40,
            ranges in 1_usize..6,
        ) {
            let rows: Vec<(Option<&str>, Option<f64>)> = rows.iter().map(|(t, x)| (t.as_deref(), x.map(f64::from))).collect();
            let mut expected: Vec<usize> = (0..rows.len()).collect();
            // Descending numbers, nulls last; then texts, nulls first, which is how `Option` compares.
            expected.sort_by(|&a, &b| {
                let (x, y) = (rows[a].1.unwrap_or(f64::NEG_INFINITY), rows[b].1.unwrap_or(f64::NEG_INFINITY));
                y.total_cmp(&x).then(rows[a].0.cmp(&rows[b].0))
            });
            let by = json!([{"column": "x", "order": "descending"}, {"column": "t", "nulls": "first"}]);
            prop_assert_eq!(order(by, &rows, Cut { batch_rows: 3, shard_rows, ranges }), expected);
        }
    }
}
