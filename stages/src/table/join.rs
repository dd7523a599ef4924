//! `join`: puts the rows of two stages together that have equal values.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat_batches, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use crate::keys::{self, KeyColumns};
use crate::units::{ColumnName, ColumnNames};
use crate::{
    BuildContext, Done, Dropped, Global, Inputs, Kind, Outputs, Port, RangeIn, Route, RowRef, ShardIn, Stage, StageConfig, StageError,
    Step, TableSpec, Tables, Verdict,
};

/// Puts the rows of `left` together with the rows of `right` whose key columns hold equal values: `from: {left: pages, right: sites}`.
///
/// Rows come out in the order of `left`, those with the same left row in the order of `right`, with the columns of `left` and then those of
/// `right` without its key columns. Values are compared exactly (numbers bit by bit, texts byte by byte); null equals nothing, not even null.
/// Key columns must have one type on both sides. A left row that meets several right ones comes out several times, with the same `id`.
///
/// Reasons: `no_match` for left rows without a right one (`inner`, `semi`), `matched` for those with one (`anti`). A left row that meets more
/// than `max_matches` right rows is rejected. Right rows that meet none are not reported: `right` is looked up in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// The columns that must be equal.
    pub on: ColumnNames,
    /// Their names on the right side, in the same order, where they are other ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub right_on: Option<ColumnNames>,
    /// Which rows come out.
    #[serde(default)]
    pub how: How,
    /// What is added to the name of a right column where the left side has a column of that name.
    #[serde(default = "default_suffix")]
    pub suffix: String,
    /// How many right rows a left one may meet: a key that many rows share on both sides would multiply the table.
    #[serde(default = "default_max_matches")]
    pub max_matches: NonZeroU32,
}

/// Which rows come out of a join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum How {
    /// Pairs of a left row and a right row.
    #[default]
    Inner,
    /// The same, and left rows without a right one, with nulls in its place.
    Left,
    /// The same, and behind all others right rows without a left one, in their order; `id` and key columns are then those of the right row.
    Full,
    /// Left rows that have a right one, each once, without its columns.
    Semi,
    /// Left rows that have none.
    Anti,
}

impl How {
    fn is_filter(self) -> bool {
        matches!(self, Self::Semi | Self::Anti)
    }
}

fn default_suffix() -> String {
    "_right".to_owned()
}

fn default_max_matches() -> NonZeroU32 {
    const { NonZeroU32::new(1000).expect("1000 is not 0") }
}

const LEFT: Port = Port::new("left");
const RIGHT: Port = Port::new("right");

impl StageConfig for JoinConfig {
    const NAME: &'static str = "join";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::OneOrNamed;
    const EXAMPLE: &'static str = "{use: join, from: {left: pages, right: sites}, on: [source]}";
    const TAGS: bool = true;

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let sides = self.sides(cx)?;
        let outputs = Outputs::new(Arc::clone(&sides.output));
        Ok(match self.how {
            How::Semi | How::Anti => outputs.with_dropped(&sides.left)?,
            // A left row without a right one has no columns of the right side.
            How::Inner => outputs.with_dropped(&sides.left)?.dropped_apart(),
            How::Left | How::Full => outputs,
        })
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::Global(Box::new(Join { how: self.how, max_matches: self.max_matches.get(), sides: self.sides(cx)? })))
    }
}

/// The two inputs and what becomes of them.
struct Sides {
    left: SchemaRef,
    right: SchemaRef,
    left_keys: KeyColumns,
    right_keys: KeyColumns,
    /// The right columns that come out.
    right_columns: Vec<usize>,
    /// For each left column, the right one that stands in for it where there is no left row.
    stand_ins: Vec<Option<usize>>,
    output: SchemaRef,
    /// What a right row takes along: its row, then the columns that come out.
    found: SchemaRef,
}

impl JoinConfig {
    fn sides(&self, cx: &BuildContext) -> Result<Sides, StageError> {
        let input = |port: &Port| cx.inputs.iter().find(|(name, _)| name == port).map(|(_, schema)| Arc::clone(schema));
        let (Some(left), Some(right), 2) = (input(&LEFT), input(&RIGHT), cx.inputs.len()) else {
            let found: Vec<String> = cx.inputs.iter().map(|(port, _)| format!("`{port}`")).collect();
            return Err(StageError::setting("from", format!("wanted the inputs `left` and `right`, found {}", found.join(", ")))
                .with_help("name both: `from: {left: pages, right: sites}`"));
        };
        let left_on: Vec<&str> = self.on.iter().map(ColumnName::as_str).collect();
        let right_on: Vec<&str> = self.right_on.as_ref().unwrap_or(&self.on).iter().map(ColumnName::as_str).collect();
        if left_on.len() != right_on.len() {
            let (wanted, found) = (left_on.len(), right_on.len());
            return Err(StageError::setting("right_on", format!("wanted as many columns as in `on`, {wanted}, found {found}")));
        }
        let left_keys = KeyColumns::try_new(&left, left_on.iter().copied(), "on")?;
        let right_setting = if self.right_on.is_some() { "right_on" } else { "on" };
        let right_keys = KeyColumns::try_new(&right, right_on.iter().copied(), right_setting)?;
        let mut stand_ins = vec![None; left.fields().len()];
        for (l, r) in left_on.iter().zip(&right_on) {
            let (at_left, at_right) = (left.index_of(l)?, right.index_of(r)?);
            let (a, b) = (left.field(at_left).data_type(), right.field(at_right).data_type());
            if keys::plain(a) != keys::plain(b) {
                return Err(StageError::setting(right_setting, format!("`{l}: {a}` of `left` and `{r}: {b}` of `right` differ in type"))
                    .with_help("a `sql` stage before this one can CAST one of them"));
            }
            stand_ins[at_left] = Some(at_right);
        }
        let is_id =
            |schema: &Schema| schema.index_of(document::ID.name()).ok().filter(|&at| *schema.field(at).data_type() == DataType::Utf8);
        if let (Some(at_left), Some(at_right)) = (is_id(&left), is_id(&right)) {
            stand_ins[at_left] = stand_ins[at_left].or(Some(at_right));
        }

        let right_columns: Vec<usize> = if self.how.is_filter() {
            Vec::new()
        } else {
            (0..right.fields().len()).filter(|&column| !right_on.contains(&right.field(column).name().as_str())).collect()
        };
        let left_may_lack = self.how == How::Full;
        let right_may_lack = matches!(self.how, How::Left | How::Full);
        let mut fields: Vec<Field> = Vec::new();
        for field in left.fields() {
            fields.push(field.as_ref().clone().with_nullable(field.is_nullable() || left_may_lack));
        }
        let mut found = vec![Field::new("row", DataType::UInt32, false)];
        for &column in &right_columns {
            let field = right.field(column);
            found.push(field.clone());
            let mut name = field.name().clone();
            if left.index_of(&name).is_ok() {
                name.push_str(&self.suffix);
            }
            if fields.iter().any(|other| *other.name() == name) {
                return Err(StageError::setting(
                    "suffix",
                    format!("column `{}` of `right` would be the second one called `{name}`", field.name()),
                )
                .with_help("choose another suffix"));
            }
            fields.push(field.clone().with_name(name).with_nullable(field.is_nullable() || right_may_lack));
        }
        let output = Arc::new(Schema::new_with_metadata(fields, left.metadata().clone()));
        let found = Arc::new(Schema::new(found));
        Ok(Sides { left, right, left_keys, right_keys, right_columns, stand_ins, output, found })
    }
}

/// Of each key, one row of each left shard.
const WANTED: &str = "wanted";
/// The right rows; for semi and anti joins of each key one row of each right shard.
const OFFERED: &str = "offered";
/// To the one left row of a shard with a key: the right rows with it, up to one more than are allowed.
const FOUND: &str = "found";
/// To right rows that met no left row.
const LEFT_OVER: &str = "left_over";

struct Join {
    how: How,
    max_matches: u32,
    sides: Sides,
}

impl Global for Join {
    fn tables(&self) -> Vec<TableSpec> {
        let mut tables = vec![
            TableSpec::new(WANTED, wanted_schema(), Route::Key),
            TableSpec::new(OFFERED, self.offered_schema(), Route::Key),
            TableSpec::new(FOUND, Arc::clone(&self.sides.found), Route::Row(LEFT)),
        ];
        if self.how == How::Full {
            tables.push(TableSpec::new(LEFT_OVER, left_over_schema(), Route::Row(RIGHT)));
        }
        tables
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let meet = Step::ranges("meet", &[WANTED, OFFERED]).writes(&[FOUND]);
        match (done.steps(), self.how) {
            (0, _) => Some(Step::shards("want", LEFT).writes(&[WANTED])),
            (1, _) => Some(Step::shards("offer", RIGHT).writes(&[OFFERED])),
            (2, How::Full) => Some(meet.writes(&[LEFT_OVER])),
            (2, _) => Some(meet),
            (3, _) => Some(Step::shards("join", LEFT).mail(FOUND).emits()),
            (4, How::Full) => Some(Step::shards("add_right", RIGHT).mail(LEFT_OVER).emits()),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        match step.name {
            "want" => self.want(shard, out),
            "offer" => self.offer(shard, out),
            "join" if self.how.is_filter() => self.filter(shard, out),
            "join" => self.join(shard, out),
            _ => self.add_right(shard, out),
        }
    }

    fn range(&self, _step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let (wanted, offered) = (range.take(WANTED)?, range.take(OFFERED)?);
        let (wanted_values, offered_values) = (wanted.batch.column(0).as_binary::<i32>(), offered.batch.column(0).as_binary::<i32>());
        let wanted_rows = wanted.batch.column(1).as_primitive::<UInt32Type>().values();
        let offered_rows = offered.batch.column(1).as_primitive::<UInt32Type>().values();
        let most = if self.how.is_filter() { 1 } else { self.max_matches.saturating_add(1) };
        let (mut to, mut found): (Vec<RowRef>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut met = vec![false; offered.keys.len()];
        let mut start = 0;
        let mut from = 0;
        for hash in wanted.keys.chunk_by(|a, b| a == b) {
            let left = start..start + hash.len();
            start = left.end;
            from += offered.keys[from..].partition_point(|key| *key < hash[0]);
            let right = from..from + offered.keys[from..].partition_point(|key| *key == hash[0]);
            for at in left {
                let address = RowRef { shard: wanted.origins[at].shard, row: wanted_rows[at] };
                let mut matches = 0;
                // Equal hashes only say where to look.
                for row in right.clone().filter(|&row| offered_values.value(row) == wanted_values.value(at)) {
                    met[row] = true;
                    if matches < most {
                        matches += 1;
                        to.push(address);
                        found.push(index(row)?);
                    }
                }
            }
        }

        let columns: Vec<usize> = (1..offered.batch.num_columns()).collect();
        let batch = take_record_batch(&offered.batch.project(&columns)?, &UInt32Array::from(found))?;
        out.mail(FOUND, &to, RecordBatch::try_new(Arc::clone(&self.sides.found), batch.columns().to_vec())?)?;
        if self.how == How::Full {
            let left_over = met.iter().enumerate().filter(|(_, met)| !**met);
            let to: Vec<RowRef> = left_over.map(|(row, _)| RowRef { shard: offered.origins[row].shard, row: offered_rows[row] }).collect();
            let rows: ArrayRef = Arc::new(to.iter().map(|row| row.row).collect::<UInt32Array>());
            out.mail(LEFT_OVER, &to, RecordBatch::try_new(left_over_schema(), vec![rows])?)?;
        }
        Ok(())
    }
}

/// The values of each row's key columns; `None` where one is null.
fn values_of(keys: &KeyColumns, rows: &RecordBatch) -> Result<Vec<Option<Vec<u8>>>, StageError> {
    let keys = keys.encode(rows, None)?;
    let value = |row| {
        let mut bytes = Vec::new();
        keys.write(row, &mut bytes);
        bytes
    };
    Ok((0..rows.num_rows()).map(|row| (!keys.has_null(row)).then(|| value(row))).collect())
}

/// For each row, the first row with the same values; `None` where one is null.
fn first_of(values: &[Option<Vec<u8>>]) -> Result<Vec<Option<u32>>, StageError> {
    let mut first: HashMap<&[u8], u32> = HashMap::with_capacity(values.len());
    let mut of_row = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        let row = index(row)?;
        of_row.push(value.as_ref().map(|value| *first.entry(value).or_insert(row)));
    }
    Ok(of_row)
}

fn index(row: usize) -> Result<u32, StageError> {
    u32::try_from(row).map_err(|_| StageError::Internal("over 2^32 rows in one task".to_owned()))
}

/// Keys and values of the rows at `at`.
fn keys_and_values(values: &[Option<Vec<u8>>], at: &[u32]) -> (Vec<u128>, BinaryArray) {
    let of_rows = || at.iter().filter_map(|&row| values[row as usize].as_deref());
    (of_rows().map(keys::key).collect(), BinaryArray::from_iter_values(of_rows()))
}

impl Join {
    fn offered_schema(&self) -> SchemaRef {
        let mut fields = vec![Arc::new(Field::new("values", DataType::Binary, false))];
        fields.extend(self.sides.found.fields().iter().cloned());
        Arc::new(Schema::new(fields))
    }

    fn want(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let values = values_of(&self.sides.left_keys, &concat_batches(&self.sides.left, &shard.shard.batches)?)?;
        let at: Vec<u32> = (0_u32..).zip(first_of(&values)?).filter(|(row, first)| *first == Some(*row)).map(|(row, _)| row).collect();
        let (keys, values) = keys_and_values(&values, &at);
        let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(UInt32Array::from(at))];
        out.keyed(WANTED, keys, RecordBatch::try_new(wanted_schema(), columns)?)
    }

    fn offer(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let rows = concat_batches(&self.sides.right, &shard.shard.batches)?;
        shard.shard.batches.clear();
        let values = values_of(&self.sides.right_keys, &rows)?;
        let first = first_of(&values)?;
        let is_offered = |row: u32, first: Option<u32>| if self.how.is_filter() { first == Some(row) } else { first.is_some() };
        let at: Vec<u32> = (0_u32..).zip(first).filter(|(row, first)| is_offered(*row, *first)).map(|(row, _)| row).collect();
        let (keys, values) = keys_and_values(&values, &at);
        let at = UInt32Array::from(at);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(at.clone())];
        for &column in &self.sides.right_columns {
            columns.push(take(rows.column(column), &at, None)?);
        }
        out.keyed(OFFERED, keys, RecordBatch::try_new(self.offered_schema(), columns)?)
    }

    fn filter(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let found = shard.take_mail(FOUND)?.rows;
        let rows = concat_batches(&self.sides.left, &shard.shard.batches)?;
        shard.shard.batches.clear();
        let reason = if self.how == How::Semi { "no_match" } else { "matched" };
        let verdicts = first_of(&values_of(&self.sides.left_keys, &rows)?)?.into_iter().map(|first| {
            let is_matched = first.is_some_and(|first| found.binary_search(&first).is_ok());
            if is_matched == (self.how == How::Semi) { Verdict::Keep } else { Verdict::Drop(because(reason)) }
        });
        out.emit().split(&rows, verdicts)
    }

    fn join(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let found = shard.take_mail(FOUND)?;
        let rows = concat_batches(&self.sides.left, &shard.shard.batches)?;
        shard.shard.batches.clear();
        let mut matches_of: BTreeMap<u32, Range<u32>> = BTreeMap::new();
        let mut start = 0;
        for of_row in found.rows.chunk_by(|a, b| a == b) {
            let end = start + index(of_row.len())?;
            matches_of.insert(of_row[0], start..end);
            start = end;
        }

        let (mut left, mut right): (Vec<u32>, Vec<Option<u32>>) = (Vec::new(), Vec::new());
        let mut unmatched = Vec::new();
        for (row, first) in (0_u32..).zip(first_of(&values_of(&self.sides.left_keys, &rows)?)?) {
            match first.and_then(|first| matches_of.get(&first)) {
                None if self.how == How::Inner => unmatched.push(row),
                None => {
                    left.push(row);
                    right.push(None);
                }
                Some(matches) if matches.end - matches.start > self.max_matches => {
                    let detail = format!("wanted at most {} right rows (`max_matches`), found more", self.max_matches);
                    out.emit().reject_row(&rows, row as usize, "too_many_matches", detail);
                }
                Some(matches) => {
                    left.extend(std::iter::repeat_n(row, matches.len()));
                    right.extend(matches.clone().map(Some));
                }
            }
            if left.len() >= 8192 {
                self.give(&rows, &found.batch, std::mem::take(&mut left), std::mem::take(&mut right), out)?;
            }
        }
        self.give(&rows, &found.batch, left, right, out)?;
        if unmatched.is_empty() {
            return Ok(());
        }
        let reasons = vec![because("no_match"); unmatched.len()];
        out.emit().drop_rows(&take_record_batch(&rows, &UInt32Array::from(unmatched))?, &reasons)
    }

    fn give(
        &self,
        rows: &RecordBatch,
        found: &RecordBatch,
        left: Vec<u32>,
        right: Vec<Option<u32>>,
        out: &mut Tables,
    ) -> Result<(), StageError> {
        let (left, right) = (UInt32Array::from(left), UInt32Array::from(right));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.sides.output.fields().len());
        for column in rows.columns() {
            columns.push(take(column, &left, None)?);
        }
        for column in &found.columns()[1..] {
            columns.push(take(column, &right, None)?);
        }
        out.emit().rows(RecordBatch::try_new(Arc::clone(&self.sides.output), columns)?)
    }

    /// Right rows without a left one: those that met none, and those whose key has a null.
    fn add_right(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let left_over = shard.take_mail(LEFT_OVER)?.rows;
        let rows = concat_batches(&self.sides.right, &shard.shard.batches)?;
        shard.shard.batches.clear();
        let keys = self.sides.right_keys.encode(&rows, None)?;
        let mut at = Vec::new();
        for row in 0..rows.num_rows() {
            let number = index(row)?;
            if keys.has_null(row) || left_over.binary_search(&number).is_ok() {
                at.push(number);
            }
        }
        let rows = take_record_batch(&rows, &UInt32Array::from(at))?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.sides.output.fields().len());
        for (field, stand_in) in self.sides.left.fields().iter().zip(&self.sides.stand_ins) {
            columns.push(match stand_in {
                Some(column) => cast(rows.column(*column), field.data_type())?,
                None => new_null_array(field.data_type(), rows.num_rows()),
            });
        }
        columns.extend(self.sides.right_columns.iter().map(|&column| Arc::clone(rows.column(column))));
        out.emit().rows(RecordBatch::try_new(Arc::clone(&self.sides.output), columns)?)
    }
}

fn because(reason: &'static str) -> Dropped {
    Dropped { reason, value: None, threshold: None, duplicate_of: None }
}

fn wanted_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("values", DataType::Binary, false), Field::new("row", DataType::UInt32, false)]))
}

fn left_over_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("row", DataType::UInt32, false)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance, Cut, Outcome};

    fn pages() -> RecordBatch {
        testing::strings(&[
            ("id", vec![Some("p1"), Some("p2"), Some("p3"), Some("p4"), Some("p5")]),
            ("site", vec![Some("b"), Some("a"), None, Some("c"), Some("a")]),
            ("text", vec![Some("one"), Some("two"), Some("three"), Some("four"), None]),
        ])
    }

    fn sites() -> RecordBatch {
        testing::strings(&[
            ("id", vec![Some("s1"), Some("s2"), Some("s3"), Some("s4"), Some("s5")]),
            ("site", vec![Some("a"), Some("d"), Some("b"), None, Some("a")]),
            ("owner", vec![Some("ann"), Some("dee"), Some("bob"), Some("nil"), Some("abe")]),
        ])
    }

    fn inputs(left: RecordBatch, right: RecordBatch) -> [(Port, RecordBatch); 2] {
        [(LEFT, left), (RIGHT, right)]
    }

    fn joined(how: &str) -> Outcome {
        testing::check_contract_of::<JoinConfig>(json!({"on": ["site"], "how": how}), &inputs(pages(), sites()), Balance::Free)
    }

    fn lines(rows: &RecordBatch) -> Vec<String> {
        let columns: Vec<Vec<String>> = rows.schema().fields().iter().map(|field| testing::column(rows, field.name())).collect();
        (0..rows.num_rows()).map(|row| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join("|")).collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        for how in ["inner", "left", "full", "semi", "anti"] {
            let settings = json!({"on": ["source", "words"], "how": how});
            testing::check_contract_of::<JoinConfig>(settings, &inputs(testing::sample(), testing::sample()), Balance::Free);
        }
    }

    #[test]
    fn inner_gives_pairs_in_the_order_of_left_and_then_of_right() {
        let got = joined("inner");
        let names: Vec<_> = got.rows().schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["id", "site", "text", "id_right", "owner"]);
        assert_eq!(lines(got.rows()), ["p1|b|one|s3|bob", "p2|a|two|s1|ann", "p2|a|two|s5|abe", "p5|a||s1|ann", "p5|a||s5|abe"]);
        assert_eq!(testing::column(got.dropped(), "id"), ["p3", "p4"]);
        assert_eq!(got.drop_reasons, [("no_match", 2)].into());
    }

    #[test]
    fn left_keeps_what_has_no_match() {
        let expected =
            ["p1|b|one|s3|bob", "p2|a|two|s1|ann", "p2|a|two|s5|abe", "p3||three||", "p4|c|four||", "p5|a||s1|ann", "p5|a||s5|abe"];
        assert_eq!(lines(joined("left").rows()), expected);
    }

    #[test]
    fn full_adds_right_rows_that_met_none() {
        let got = joined("full");
        assert_eq!(lines(got.rows())[7..], ["s2|d||s2|dee", "s4|||s4|nil"]);
        assert_eq!(lines(got.rows())[..7], lines(joined("left").rows()));
    }

    #[test]
    fn semi_and_anti_split_the_left_rows() {
        let (semi, anti) = (joined("semi"), joined("anti"));
        assert_eq!(lines(semi.rows()), ["p1|b|one", "p2|a|two", "p5|a|"]);
        assert_eq!(lines(anti.rows()), ["p3||three", "p4|c|four"]);
        assert_eq!(testing::column(semi.dropped(), "id"), ["p3", "p4"]);
        assert_eq!((semi.drop_reasons, anti.drop_reasons), ([("no_match", 2)].into(), [("matched", 3)].into()));
    }

    #[test]
    fn key_columns_may_have_other_names_on_the_right() {
        let right = testing::strings(&[("host", vec![Some("b")]), ("text", vec![Some("bees")])]);
        let settings = json!({"on": ["site"], "right_on": ["host"], "suffix": "_of_host"});
        let got = testing::run::<JoinConfig>(settings, &inputs(pages(), right));
        assert_eq!(testing::column(got.rows(), "text_of_host"), ["bees"]);
        assert_eq!(got.rows().num_columns(), 4);
    }

    #[test]
    fn a_key_that_would_multiply_the_table_is_rejected() {
        let got = testing::check_contract_of::<JoinConfig>(
            json!({"on": ["site"], "how": "left", "max_matches": 1}),
            &inputs(pages(), sites()),
            Balance::Free,
        );
        assert_eq!(testing::column(got.rows(), "id"), ["p1", "p3", "p4"]);
        let rejected: Vec<_> = got.rejected.iter().map(|row| (row.id.as_deref(), row.reason)).collect();
        assert_eq!(rejected, [(Some("p2"), "too_many_matches"), (Some("p5"), "too_many_matches")]);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refusal = |settings: Value, inputs: &[(Port, RecordBatch)]| testing::refusal::<JoinConfig>(settings, inputs);
        let both = inputs(testing::sample(), testing::sample());
        assert_eq!(
            refusal(json!({"on": ["source"]}), &[(Port::FROM, testing::sample())]),
            "from: wanted the inputs `left` and `right`, found `from`"
        );
        assert_eq!(
            refusal(json!({"on": ["source"], "right_on": ["source", "url"]}), &both),
            "right_on: wanted as many columns as in `on`, 1, found 2"
        );
        assert_eq!(
            refusal(json!({"on": ["source"], "right_on": ["words"]}), &both),
            "right_on: `source: Utf8` of `left` and `words: Int64` of `right` differ in type"
        );
        assert_eq!(
            refusal(json!({"on": ["source"], "suffix": ""}), &both),
            "suffix: column `id` of `right` would be the second one called `id`"
        );
        assert!(refusal(json!({"on": ["site"]}), &both).starts_with("needs column `site`"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_what_comparing_every_pair_gives(
            left in prop::collection::vec(prop::option::weighted(0.9, "[ab]{0,2}"), 0..30),
            right in prop::collection::vec(prop::option::weighted(0.9, "[ab]{0,2}"), 0..30),
            shard_rows in 1_usize..20,
            ranges in 1_usize..6,
        ) {
            let table = |side: &str, keys: &[Option<String>]| {
                let ids: Vec<String> = (0..keys.len()).map(|row| format!("{side}{row}")).collect();
                testing::strings(&[
                    ("id", ids.iter().map(|id| Some(id.as_str())).collect()),
                    ("k", keys.iter().map(Option::as_deref).collect()),
                ])
            };
            let pair = |l: usize, r: usize| left[l].is_some() && left[l] == right[r];
            let met: Vec<Vec<usize>> = (0..left.len()).map(|l| (0..right.len()).filter(|&r| pair(l, r)).collect()).collect();
            let cut = Cut { batch_rows: 3, shard_rows, ranges };
            let both = inputs(table("l", &left), table("r", &right));
            let run = |how: &str| testing::run_cut::<JoinConfig>(json!({"on": ["k"], "how": how}), &both, cut);

            let mut full: Vec<(String, String)> = Vec::new();
            for (l, met) in met.iter().enumerate() {
                full.extend(met.iter().map(|r| (format!("l{l}"), format!("r{r}"))));
                if met.is_empty() {
                    full.push((format!("l{l}"), String::new()));
                }
            }
            full.extend((0..right.len()).filter(|r| !met.iter().any(|met| met.contains(r))).map(|r| (format!("r{r}"), format!("r{r}"))));
            let pairs = |got: &Outcome| -> Vec<(String, String)> {
                testing::column(got.rows(), "id").into_iter().zip(testing::column(got.rows(), "id_right")).collect()
            };
            prop_assert_eq!(pairs(&run("full")), full.clone());
            full.retain(|(left, right)| left.starts_with('l') && !right.is_empty());
            let inner = run("inner");
            prop_assert_eq!(pairs(&inner), full);
            let semi = run("semi");
            prop_assert_eq!(semi.rows().num_rows(), met.iter().filter(|met| !met.is_empty()).count());
            prop_assert_eq!(semi.dropped(), inner.dropped());
            let anti = run("anti");
            prop_assert_eq!(testing::column(anti.rows(), "id"), testing::column(semi.dropped(), "id"));
        }
    }
}
