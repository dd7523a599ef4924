//! `group_by`: one row for each value of some columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, filter, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use super::aggregate::{Aggregate, Aggregates, Groups};
use super::reorder::push_row;
use crate::keys::{self, KeyColumns};
use crate::units::{ColumnName, ColumnNames};
use crate::{
    BuildContext, Done, Global, Inputs, Keyed, Kind, Outputs, Port, RangeIn, Rejection, Route, ShardIn, Stage, StageConfig, StageError,
    Step, TableSpec, Tables,
};

/// Makes one row of all rows that have the same values in the columns `by`.
///
/// It has those columns, then the new ones. Groups come out in the order in which their first rows came in. Null equals null here; numbers are
/// compared bit by bit. Functions: `count` (rows), `count(x)` (values that are not null), `sum(x)` and `mean(x)` of numbers, `min(x)`,
/// `max(x)`, `first(x)`, `last(x)`, `n_unique(x)`, `list(x)`. Nulls are skipped, and of nothing but nulls the result is null; `first`, `last`
/// and `list` take them as they are. Sums of integers have 64 bits: a group that needs more is rejected with reason `sum_too_large`. Sums
/// of other numbers are added in the order of the rows.
///
/// Rows need an `id`: where the result has no such column it is added, `<stage>/<hash of the group's values>`. All rows of one group are in
/// memory together, with the columns that are named here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupByConfig {
    /// The columns whose values make a group.
    pub by: ColumnNames,
    /// New columns and what they are made of: `{n: count, tokens: sum(n_tokens), best: max(score)}`. None gives each group once.
    #[serde(default)]
    pub aggregates: Aggregates,
}

impl StageConfig for GroupByConfig {
    const NAME: &'static str = "group_by";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: group_by, from: pages, by: [source], aggregates: {pages: count, words: sum(words)}}";

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        Ok(Outputs::new(self.prepared(cx)?.output))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::Global(Box::new(self.prepared(cx)?)))
    }
}

impl GroupByConfig {
    fn prepared(&self, cx: &BuildContext) -> Result<GroupBy, StageError> {
        let input = cx.input()?;
        let by = || self.by.iter().map(ColumnName::as_str);
        KeyColumns::try_new(input, by(), "by")?;
        let mut fields: Vec<Field> = Vec::new();
        for name in by() {
            fields.push(input.field_with_name(name)?.clone());
        }
        let mut aggregates = Vec::new();
        for (name, aggregate) in self.aggregates.iter() {
            let data_type = aggregate.output(name, input)?;
            if by().any(|by| by == name.as_str()) {
                return Err(StageError::setting(
                    format!("aggregates.{name}"),
                    format!("wanted a new column, found `{name}`, which is in `by`"),
                ));
            }
            fields.push(Field::new(name.as_str(), data_type, true));
            aggregates.push(aggregate.clone());
        }
        let id = fields.iter().find(|field| field.name() == document::ID.name());
        let adds_id = match id.map(Field::data_type) {
            None => true,
            Some(DataType::Utf8) => false,
            Some(other) => return Err(StageError::setting("aggregates", format!("wanted `id: Utf8` in the result, found `id: {other}`"))),
        };
        if adds_id {
            fields.insert(0, document::ID.field());
        }

        let read = |name: &str| by().any(|by| by == name) || aggregates.iter().any(|of| of.column().is_some_and(|of| of.as_str() == name));
        let columns: Vec<usize> = (0..input.fields().len()).filter(|&column| read(input.field(column).name())).collect();
        let rows: SchemaRef = Arc::new(input.project(&columns)?);
        Ok(GroupBy {
            stage_id: cx.stage_id.clone(),
            by: KeyColumns::try_new(&rows, by(), "by")?,
            by_columns: by().map(|name| rows.index_of(name)).collect::<Result<_, _>>()?,
            aggregates,
            input: Arc::clone(input),
            columns,
            rows,
            adds_id,
            output: Arc::new(Schema::new(fields)),
        })
    }
}

/// The rows' columns that are read, by a hash of their group.
const ROWS: &str = "rows";
/// The groups, by the place of their first row.
const GROUPS: &str = "groups";

struct GroupBy {
    stage_id: String,
    input: SchemaRef,
    /// The columns of the input that are read.
    columns: Vec<usize>,
    /// Their schema.
    rows: SchemaRef,
    /// The group's columns among them.
    by: KeyColumns,
    by_columns: Vec<usize>,
    aggregates: Vec<Aggregate>,
    adds_id: bool,
    output: SchemaRef,
}

impl Global for GroupBy {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new(ROWS, Arc::clone(&self.rows), Route::Key), TableSpec::new(GROUPS, Arc::clone(&self.output), Route::Order)]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("hash", Port::FROM).writes(&[ROWS])),
            // Gives no rows, but rejects.
            1 => Some(Step::ranges("group", &[ROWS]).writes(&[GROUPS]).emits()),
            2 => Some(Step::ranges("order", &[GROUPS]).emits()),
            _ => None,
        }
    }

    fn shard(&self, _step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let rows = concat_batches(&self.input, &shard.shard.batches)?.project(&self.columns)?;
        shard.shard.batches.clear();
        let rows = RecordBatch::try_new(Arc::clone(&self.rows), rows.columns().to_vec())?;
        let encoded = self.by.encode(&rows, None)?;
        let mut bytes = Vec::new();
        let key = |row| {
            bytes.clear();
            encoded.write(row, &mut bytes);
            keys::key(&bytes)
        };
        let hashes = (0..rows.num_rows()).map(key).collect();
        out.keyed(ROWS, hashes, rows)
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        if step.name == "order" {
            let groups = range.take(GROUPS)?;
            return out.emit().rows(groups.batch);
        }
        let rows = range.take(ROWS)?;
        let groups = self.groups_of(&rows)?;
        let first = UInt32Array::from(groups.first.clone());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.output.fields().len());
        if self.adds_id {
            let id = |&row: &u32| Some(format!("{}/{:032x}", self.stage_id, rows.keys[row as usize]));
            columns.push(Arc::new(groups.first.iter().map(id).collect::<StringArray>()));
        }
        for &column in &self.by_columns {
            columns.push(take(rows.batch.column(column), &first, None)?);
        }
        let mut too_large: Vec<(usize, String)> = Vec::new();
        for aggregate in &self.aggregates {
            let made = aggregate.make(&rows.batch, &groups)?;
            columns.push(made.values);
            too_large
                .extend(made.too_large.into_iter().map(|(group, sum)| (group, format!("wanted a {aggregate} of 64 bits, found {sum}"))));
        }
        let places: Vec<Vec<u8>> = groups
            .first
            .iter()
            .map(|&row| {
                let mut place = Vec::new();
                push_row(&mut place, rows.origins[row as usize]);
                place
            })
            .collect();
        let places: ArrayRef = Arc::new(BinaryArray::from_iter_values(places));
        let made = RecordBatch::try_new(Arc::clone(&self.output), columns)?;
        if too_large.is_empty() {
            return out.ordered(GROUPS, places.as_binary::<i32>().clone(), made);
        }

        too_large.sort();
        too_large.dedup_by_key(|(group, _)| *group);
        let mut is_whole = vec![true; made.num_rows()];
        let ids = made.column_by_name(document::ID.name()).and_then(|ids| ids.as_string_opt::<i32>());
        for (group, detail) in too_large {
            is_whole[group] = false;
            let id = ids.filter(|ids| ids.is_valid(group)).map(|ids| ids.value(group).to_owned());
            out.emit().reject(Rejection { id, file: None, offset: None, reason: "sum_too_large", detail });
        }
        let is_whole = BooleanArray::from(is_whole);
        let places = filter(&places, &is_whole)?;
        out.ordered(GROUPS, places.as_binary::<i32>().clone(), filter_record_batch(&made, &is_whole)?)
    }
}

impl GroupBy {
    /// The groups of rows that stand by hash; those with one hash are told apart by their values.
    fn groups_of(&self, rows: &Keyed) -> Result<Groups, StageError> {
        let encoded = self.by.encode(&rows.batch, None)?;
        let n_rows = u32::try_from(rows.keys.len()).map_err(|_| StageError::Internal("over 2^32 rows in one range".to_owned()))?;
        let mut groups = Groups { of_row: Vec::with_capacity(rows.keys.len()), first: Vec::new() };
        // The groups of one hash, with their values: one, unless two lists of values have one hash.
        let mut of_hash: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut last_hash = None;
        let mut bytes = Vec::new();
        for (row, &hash) in (0..n_rows).zip(&rows.keys) {
            if last_hash != Some(hash) {
                of_hash.clear();
                last_hash = Some(hash);
            }
            bytes.clear();
            encoded.write(row as usize, &mut bytes);
            let group = if let Some((group, _)) = of_hash.iter().find(|(_, values)| *values == bytes) {
                *group
            } else {
                groups.first.push(row);
                of_hash.push((groups.first.len() - 1, bytes.clone()));
                groups.first.len() - 1
            };
            groups.of_row.push(group);
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{Float64Array, Int64Array, UInt64Array};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance, Cut, Outcome};

    fn table(rows: &[(Option<&str>, Option<i64>)]) -> RecordBatch {
        let kind: ArrayRef = Arc::new(rows.iter().map(|(kind, _)| *kind).collect::<StringArray>());
        let x: ArrayRef = Arc::new(rows.iter().map(|(_, x)| *x).collect::<Int64Array>());
        let half: ArrayRef = Arc::new(rows.iter().map(|(_, x)| x.map(|x| x as f64 / 2.0)).collect::<Float64Array>());
        RecordBatch::try_from_iter_with_nullable([("kind", kind, true), ("x", x, true), ("half", half, true)])
            .expect("columns of one length")
    }

    fn grouped(aggregates: Value, rows: &RecordBatch) -> Outcome {
        let settings = json!({"by": ["kind"], "aggregates": aggregates});
        testing::check_contract::<GroupByConfig>(settings, rows, Balance::Free)
    }

    #[test]
    fn it_keeps_the_contract() {
        let aggregates = json!({
            "n": "count", "w": "sum(words)", "s": "sum(score)", "m": "mean(score)", "a": "min(text)", "z": "max(tags)", "f": "first(id)",
            "l": "last(text)", "u": "n_unique(url)", "all": "list(id)", "c": "count(score)",
        });
        for by in [json!(["source"]), json!(["source", "words"]), json!(["tags"])] {
            testing::check_contract::<GroupByConfig>(json!({"by": by, "aggregates": aggregates}), &testing::sample(), Balance::Free);
        }
    }

    #[test]
    fn every_function_by_hand() {
        let rows = table(&[
            (Some("b"), Some(3)),
            (None, None),
            (Some("a"), Some(-1)),
            (Some("b"), None),
            (Some("b"), Some(1)),
            (None, None),
            (Some("b"), Some(3)),
        ]);
        let aggregates = json!({
            "n": "count", "c": "count(x)", "sum": "sum(x)", "halves": "sum(half)", "mean": "mean(x)", "least": "min(x)", "most": "max(half)",
            "first": "first(x)", "last": "last(x)", "kinds": "n_unique(x)", "all": "list(x)",
        });
        let got = grouped(aggregates, &rows);
        let column = |name| testing::column(got.rows(), name);
        assert_eq!(column("kind"), ["b", "", "a"]);
        assert_eq!(column("n"), ["4", "2", "1"]);
        assert_eq!(column("c"), ["3", "0", "1"]);
        assert_eq!(column("sum"), ["7", "", "-1"]);
        assert_eq!(column("halves"), ["3.5", "", "-0.5"]);
        assert_eq!(column("mean"), [(7.0_f64 / 3.0).to_string(), String::new(), "-1.0".to_owned()]);
        assert_eq!(column("least"), ["1", "", "-1"]);
        assert_eq!(column("most"), ["1.5", "", "-0.5"]);
        assert_eq!(column("first"), ["3", "", "-1"]);
        assert_eq!(column("last"), ["3", "", "-1"]);
        assert_eq!(column("kinds"), ["2", "0", "1"]);
        assert_eq!(column("all"), ["[3, , 1, 3]", "[, ]", "[-1]"]);
        let ids = column("id");
        assert!(ids.iter().all(|id| id.len() == "group_by/".len() + 32 && id.starts_with("group_by/")), "{ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn without_functions_each_group_comes_once() {
        let got = grouped(json!({}), &table(&[(Some("b"), None), (Some("a"), None), (Some("b"), None)]));
        assert_eq!(testing::column(got.rows(), "kind"), ["b", "a"]);
        assert_eq!(got.rows().num_columns(), 2);
    }

    #[test]
    fn a_column_called_id_is_the_id() {
        let rows = table(&[(Some("b"), Some(1)), (Some("a"), Some(2))]);
        let got = grouped(json!({"id": "first(kind)"}), &rows);
        assert_eq!(testing::column(got.rows(), "id"), ["b", "a"]);
        let found = testing::refusal::<GroupByConfig>(json!({"by": ["kind"], "aggregates": {"id": "count"}}), &[(Port::FROM, rows)]);
        assert_eq!(found, "aggregates: wanted `id: Utf8` in the result, found `id: UInt64`");
    }

    #[test]
    fn a_sum_past_64_bits_is_rejected_and_the_other_groups_go_on() {
        let got = grouped(
            json!({"s": "sum(x)", "m": "mean(x)"}),
            &table(&[(Some("a"), Some(i64::MAX)), (Some("b"), Some(1)), (Some("a"), Some(1)), (Some("c"), Some(i64::MIN))]),
        );
        assert_eq!(testing::column(got.rows(), "kind"), ["b", "c"]);
        assert_eq!((got.rejected.len(), got.rejected[0].reason), (1, "sum_too_large"));
        assert_eq!(got.rejected[0].detail, "wanted a sum(x) of 64 bits, found 9223372036854775808");
    }

    #[test]
    fn unsigned_sums_use_all_64_bits() {
        let x: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX - 1, 1]));
        let kind: ArrayRef = Arc::new(StringArray::from(vec!["a", "a"]));
        let rows = RecordBatch::try_from_iter([("kind", kind), ("x", x)]).expect("columns of one length");
        assert_eq!(testing::column(grouped(json!({"s": "sum(x)"}), &rows).rows(), "s"), [u64::MAX.to_string()]);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refusal = |settings| testing::refusal::<GroupByConfig>(settings, &[(Port::FROM, testing::sample())]);
        assert_eq!(
            refusal(json!({"by": ["source"], "aggregates": {"n": "sum(text)"}})),
            "aggregates.n: wanted a column of numbers in `sum(text)`, found `text: Utf8`"
        );
        assert_eq!(
            refusal(json!({"by": ["source"], "aggregates": {"source": "count"}})),
            "aggregates.source: wanted a new column, found `source`, which is in `by`"
        );
        assert!(refusal(json!({"by": ["source"], "aggregates": {"n": "sum(n_words)"}})).starts_with("needs column `n_words`"));
        assert!(refusal(json!({"by": ["site"]})).starts_with("needs column `site`"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn groups_hold_every_row_once_in_order(
            rows in prop::collection::vec((prop::option::of("[ab]{0,2}"), prop::option::of(-9_i64..9)), 0..80),
            shard_rows in 1_usize..40,
            ranges in 1_usize..6,
        ) {
            let rows: Vec<(Option<&str>, Option<i64>)> = rows.iter().map(|(kind, x)| (kind.as_deref(), *x)).collect();
            let mut groups: Vec<(Option<&str>, Vec<Option<i64>>)> = Vec::new();
            for (kind, x) in &rows {
                match groups.iter_mut().find(|(other, _)| other == kind) {
                    Some((_, values)) => values.push(*x),
                    None => groups.push((*kind, vec![*x])),
                }
            }
            let settings = json!({"by": ["kind"], "aggregates": {"n": "count", "s": "sum(x)", "l": "list(x)"}});
            let cut = Cut { batch_rows: 7, shard_rows, ranges };
            let got = testing::run_cut::<GroupByConfig>(settings, &[(Port::FROM, table(&rows))], cut);
            let text = |x: &Option<i64>| x.map_or(String::new(), |x| x.to_string());
            let of = |name| testing::column(got.rows(), name);
            prop_assert_eq!(of("n"), groups.iter().map(|(_, values)| values.len().to_string()).collect::<Vec<_>>());
            let sum = |values: &[Option<i64>]| values.iter().any(Option::is_some).then(|| values.iter().flatten().sum());
            prop_assert_eq!(of("s"), groups.iter().map(|(_, values)| text(&sum(values))).collect::<Vec<_>>());
            let list = |values: &[Option<i64>]| format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(", "));
            prop_assert_eq!(of("l"), groups.iter().map(|(_, values)| list(values)).collect::<Vec<_>>());
        }
    }
}
