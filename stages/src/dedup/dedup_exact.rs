//! `dedup_exact`: keeps one row of all that say the same, letter for letter.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use crate::keys::{Change, KeyColumns, KeyHasher};
use crate::units::{ColumnName, ColumnNames};
use crate::{
    BuildContext, Dropped, Global, Inputs, Kind, Outputs, Port, RangeIn, Route, RowRef, ShardIn, Stage, StageConfig, StageError, Step,
    TableSpec, Tables, Verdict,
};

/// Keeps one row of all whose `columns` hold the same values, and drops the others.
///
/// The row kept is the first in the order of the rows, or the first of the source that `source_priority` prefers. Rows are compared by a
/// 128-bit hash (xxh3) of their values: among ten billion different rows, the chance that any two are taken for one is below 1e-18.
/// Null equals null, but a row whose every column is null says nothing and is never a duplicate. Numbers are compared bit by bit.
///
/// Reason: `duplicate`, with the `id` of the row kept in `duplicate_of`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupExactConfig {
    /// The columns that are compared. Any type of text, number, time, list or struct.
    #[serde(default = "default_columns")]
    pub columns: ColumnNames,
    /// What is done to texts before they are compared; the rows themselves stay as they are.
    #[serde(default)]
    pub normalize: Normalize,
    /// Whether rows of different sources can be duplicates of each other.
    #[serde(default)]
    pub scope: Scope,
    /// The column that says which source a row is from; for `scope: local` and `source_priority`.
    #[serde(default = "default_source_column")]
    pub source_column: ColumnName,
    /// Sources whose rows are kept rather than others', best first. Sources not listed come last, all alike.
    #[serde(default)]
    pub source_priority: Vec<String>,
}

/// What is done to texts before they are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Normalize {
    /// Nothing: every byte counts.
    #[default]
    None,
    /// Each run of Unicode white space counts as one space; none counts at the ends.
    Whitespace,
    /// The same, and upper and lower case count as equal: each character is taken to upper case and back to lower case by Unicode's full
    /// mappings, so `STRASSE` equals `Straße`. Accents count, and so does how they are composed.
    Casefold,
}

/// Among which rows duplicates are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Scope {
    /// Among all rows.
    #[default]
    Global,
    /// Among the rows with one value of `source_column`.
    Local,
}

fn default_columns() -> ColumnNames {
    ColumnNames::one(ColumnName::new("text"))
}

fn default_source_column() -> ColumnName {
    ColumnName::new("source")
}

impl StageConfig for DedupExactConfig {
    const NAME: &'static str = "dedup_exact";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: dedup_exact, from: pages, normalize: whitespace}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        let mut columns = vec![document::ID.spec()];
        if !self.source_priority.is_empty() && self.source_column.as_str() != document::ID.name() {
            columns.push(self.source().spec());
        }
        columns
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        self.key_columns(input)?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let (columns, source) = self.key_columns(cx.input()?)?;
        let mut priority = HashMap::new();
        for (rank, name) in self.source_priority.iter().enumerate() {
            let rank = u32::try_from(rank).map_err(|_| StageError::setting("source_priority", "more than 2^32 sources"))?;
            if priority.insert(name.clone(), rank).is_some() {
                return Err(StageError::setting("source_priority", format!("wanted each source once, found `{name}` twice")));
            }
        }
        Ok(Stage::Global(Box::new(DedupExact { config: self.clone(), columns, source, priority })))
    }
}

impl DedupExactConfig {
    fn source(&self) -> schemas::Column<StringArray> {
        schemas::Column::new("source", DataType::Utf8, "where the row comes from").named(self.source_column.as_str())
    }

    /// The columns that are compared, and the source column where only rows of one source are.
    fn key_columns(&self, input: &Schema) -> Result<(KeyColumns, Option<KeyColumns>), StageError> {
        let columns = KeyColumns::try_new(input, self.columns.iter().map(ColumnName::as_str), "columns")?;
        let source = match self.scope {
            Scope::Global => None,
            Scope::Local => Some(KeyColumns::try_new(input, [self.source_column.as_str()], "source_column")?),
        };
        Ok((columns, source))
    }
}

/// The best row of each text in each shard, by the text's hash. A shard sends one row a text, so that a text which half of all rows share
/// makes no range larger than the number of shards.
const BEST: &str = "best";
/// To every other row of a text in a shard: which row of the shard is its best.
const REPEATS: &str = "repeats";
/// To the best row of a text in a shard that another shard's row beat: the id of that row.
const BEATEN: &str = "beaten";

struct DedupExact {
    config: DedupExactConfig,
    columns: KeyColumns,
    source: Option<KeyColumns>,
    priority: HashMap<String, u32>,
}

impl Global for DedupExact {
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(BEST, best_schema(), Route::Key),
            TableSpec::new(REPEATS, repeats_schema(), Route::Row(Port::FROM)),
            TableSpec::new(BEATEN, beaten_schema(), Route::Row(Port::FROM)),
        ]
    }

    fn next(&self, done: &crate::Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("hash", Port::FROM).writes(&[BEST, REPEATS])),
            1 => Some(Step::ranges("compare", &[BEST]).writes(&[BEATEN])),
            2 => Some(Step::shards("drop", Port::FROM).mail(REPEATS).mail(BEATEN).emits()),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        if step.emits { Self::drop_repeats(shard, out) } else { self.hash(shard, out) }
    }

    fn range(&self, _step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(BEST)?;
        let row = table.batch.column(0).as_primitive::<UInt32Type>().values();
        let rank = table.batch.column(1).as_primitive::<UInt32Type>().values();
        let id = table.batch.column(2).as_string::<i32>();
        let (mut to, mut kept_ids) = (Vec::new(), Vec::new());
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let rows = start..start + group.len();
            start = rows.end;
            // The shards' best rows stand in shard order, so the first of the best rank is the first of all rows.
            let Some(best) = rows.clone().min_by_key(|&at| (rank[at], table.origins[at].shard)) else { continue };
            for at in rows.filter(|&at| at != best) {
                to.push(RowRef { shard: table.origins[at].shard, row: row[at] });
                kept_ids.push(id.is_valid(best).then(|| id.value(best)));
            }
        }
        let batch = RecordBatch::try_new(beaten_schema(), vec![Arc::new(StringArray::from(kept_ids))])?;
        out.mail(BEATEN, &to, batch)
    }
}

impl DedupExact {
    fn hash(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let index = shard.shard.index;
        // By key: where the text's best row so far stands in `best`. Looked up only, never iterated.
        let mut seen: HashMap<u128, usize> = HashMap::new();
        let mut best: Vec<Best> = Vec::new();
        // Row of each repeat, and where its text stands in `best`.
        let mut repeats: Vec<(u32, usize)> = Vec::new();
        let mut ids: Vec<StringArray> = Vec::new();
        let mut hasher = KeyHasher::default();
        let mut row = 0_u32;
        for (at, batch) in shard.shard.batches.iter().enumerate() {
            ids.push(document::ID.try_of(batch)?.clone());
            let keys = self.columns.encode(batch, self.config.normalize.change())?;
            let source = self.source.as_ref().map(|source| source.encode(batch, None)).transpose()?;
            let sources = if self.priority.is_empty() { None } else { Some(self.config.source().try_of(batch)?.clone()) };
            for in_batch in 0..batch.num_rows() {
                if !keys.is_null(in_batch) {
                    hasher.add(&keys, in_batch);
                    if let Some(source) = &source {
                        hasher.add(source, in_batch);
                    }
                    let key = hasher.finish();
                    let rank = sources.as_ref().map_or(0, |sources| self.rank(sources, in_batch));
                    let found = Best { key, row, rank, batch: at, in_batch };
                    match seen.entry(key) {
                        Entry::Vacant(entry) => {
                            entry.insert(best.len());
                            best.push(found);
                        }
                        Entry::Occupied(entry) => {
                            let text = *entry.get();
                            if rank < best[text].rank {
                                repeats.push((best[text].row, text));
                                best[text] = found;
                            } else {
                                repeats.push((row, text));
                            }
                        }
                    }
                }
                row = row.checked_add(1).ok_or_else(|| StageError::Internal("a shard of over 2^32 rows".to_owned()))?;
            }
        }

        let id = |best: &Best| ids[best.batch].is_valid(best.in_batch).then(|| ids[best.batch].value(best.in_batch));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(best.iter().map(|best| best.row).collect::<UInt32Array>()),
            Arc::new(best.iter().map(|best| best.rank).collect::<UInt32Array>()),
            Arc::new(best.iter().map(id).collect::<StringArray>()),
        ];
        out.keyed(BEST, best.iter().map(|best| best.key).collect(), RecordBatch::try_new(best_schema(), columns)?)?;

        let to: Vec<RowRef> = repeats.iter().map(|&(row, _)| RowRef { shard: index, row }).collect();
        let of: UInt32Array = repeats.iter().map(|&(_, text)| best[text].row).collect();
        out.mail(REPEATS, &to, RecordBatch::try_new(repeats_schema(), vec![Arc::new(of)])?)
    }

    fn drop_repeats(shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let (repeats, beaten) = (shard.take_mail(REPEATS)?, shard.take_mail(BEATEN)?);
        if repeats.rows.is_empty() && beaten.rows.is_empty() {
            return shard.shard.batches.drain(..).try_for_each(|batch| out.emit().rows(batch));
        }
        let ids = shard.shard.ids()?;
        let best_of = repeats.batch.column(0).as_primitive::<UInt32Type>().values();
        // Id of the row kept instead of a shard's best row, which may be that row itself.
        let kept_for = |best: u32| match beaten.rows.binary_search(&best) {
            Ok(at) => text_at(beaten.batch.column(0).as_string(), at),
            Err(_) => ids.get(best).map(str::to_owned),
        };
        let mut verdicts = vec![Verdict::Keep; shard.shard.n_rows()];
        for (&row, &best) in repeats.rows.iter().zip(best_of) {
            *verdict_of(&mut verdicts, row)? = duplicate(kept_for(best));
        }
        for &row in &beaten.rows {
            *verdict_of(&mut verdicts, row)? = duplicate(kept_for(row));
        }
        out.emit().split_all(shard.shard.batches.drain(..), verdicts)
    }

    fn rank(&self, sources: &StringArray, row: usize) -> u32 {
        let listed = if sources.is_valid(row) { self.priority.get(sources.value(row)) } else { None };
        listed.copied().unwrap_or(u32::MAX)
    }
}

struct Best {
    key: u128,
    /// Row of the shard.
    row: u32,
    /// Rank of its source; lower is better.
    rank: u32,
    batch: usize,
    in_batch: usize,
}

fn verdict_of(verdicts: &mut [Verdict], row: u32) -> Result<&mut Verdict, StageError> {
    let found = usize::try_from(row).ok().and_then(|row| verdicts.get_mut(row));
    found.ok_or_else(|| StageError::Internal(format!("mail for row {row}, which the shard does not have")))
}

fn duplicate(of: Option<String>) -> Verdict {
    Verdict::Drop(Dropped { reason: "duplicate", value: None, threshold: None, duplicate_of: of })
}

fn text_at(texts: &StringArray, row: usize) -> Option<String> {
    (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row).to_owned())
}

fn best_schema() -> SchemaRef {
    let row = Field::new("row", DataType::UInt32, false);
    let rank = Field::new("rank", DataType::UInt32, false);
    Arc::new(Schema::new(vec![row, rank, Field::new("id", DataType::Utf8, true)]))
}

fn repeats_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("best", DataType::UInt32, false)]))
}

fn beaten_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("duplicate_of", DataType::Utf8, true)]))
}

impl Normalize {
    /// How a text is changed; `None` if it is not.
    pub(crate) fn change(self) -> Option<Change> {
        match self {
            Self::None => None,
            Self::Whitespace => Some(join_words),
            Self::Casefold => Some(fold),
        }
    }
}

fn join_words(text: &str, out: &mut Vec<u8>) {
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word.as_bytes());
    }
}

fn fold(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    join_words(text, out);
    if out[start..].is_ascii() {
        out[start..].make_ascii_lowercase();
        return;
    }
    out.truncate(start);
    let mut utf8 = [0; 4];
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        for upper in word.chars().flat_map(upper_case) {
            for lower in upper.to_lowercase() {
                out.extend_from_slice(lower.encode_utf8(&mut utf8).as_bytes());
            }
        }
    }
}

/// Upper case, but for the dotless `ı`, which Unicode folds to itself and not to `i`.
fn upper_case(character: char) -> impl Iterator<Item = char> {
    let (dotless, other) = if character == 'ı' { (Some(character), None) } else { (None, Some(character.to_uppercase())) };
    dotless.into_iter().chain(other.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use arrow::array::Int64Array;
    use proptest::prelude::*;
    use schemas::dropped;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance, Cut};

    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

    fn rows(rows: &[Row]) -> RecordBatch {
        testing::strings(&[
            ("id", rows.iter().map(|row| Some(row.0)).collect()),
            ("text", rows.iter().map(|row| row.1).collect()),
            ("source", rows.iter().map(|row| row.2).collect()),
        ])
    }

    /// Ids kept, and `id<of` for each dropped one.
    fn dedup(settings: Value, input: &RecordBatch) -> (Vec<String>, Vec<String>) {
        testing::check_contract::<DedupExactConfig>(settings.clone(), input, Balance::KeptOrDropped);
        let got = testing::run::<DedupExactConfig>(settings, &[(Port::FROM, input.clone())]);
        let dropped = got.dropped();
        let of = testing::column(dropped, dropped::DUPLICATE_OF.name());
        let pairs = testing::column(dropped, "id").into_iter().zip(of).map(|(id, of)| format!("{id}<{of}"));
        (testing::column(got.rows(), "id"), pairs.collect())
    }

    #[test]
    fn it_keeps_the_contract() {
        testing::check_contract::<DedupExactConfig>(json!({}), &testing::sample(), Balance::KeptOrDropped);
        testing::check_contract::<DedupExactConfig>(
            json!({"columns": ["url", "tags", "score"]}),
            &testing::sample(),
            Balance::KeptOrDropped,
        );
    }

    #[test]
    fn the_first_of_equal_rows_stays() {
        let input = rows(&[("a", Some("x"), None), ("b", Some("y"), None), ("c", Some("x"), None), ("d", Some("x"), None)]);
        assert_eq!(dedup(json!({}), &input), (vec!["a".into(), "b".into()], vec!["c<a".into(), "d<a".into()]));
    }

    #[test]
    fn null_is_no_duplicate_but_the_empty_text_is() {
        let input = rows(&[("a", None, None), ("b", None, None), ("c", Some(""), None), ("d", Some(""), None)]);
        assert_eq!(dedup(json!({}), &input), (vec!["a".into(), "b".into(), "c".into()], vec!["d<c".into()]));
    }

    #[test]
    fn a_preferred_source_wins_over_an_earlier_row() {
        let input = rows(&[
            ("a", Some("x"), Some("web")),
            ("b", Some("x"), None),
            ("c", Some("x"), Some("books")),
            ("d", Some("x"), Some("books")),
            ("e", Some("x"), Some("wiki")),
        ]);
        let (kept, dropped) = dedup(json!({"source_priority": ["papers", "books", "wiki"]}), &input);
        assert_eq!(kept, ["c"]);
        assert_eq!(dropped, ["a<c", "b<c", "d<c", "e<c"]);
    }

    #[test]
    fn local_scope_leaves_other_sources_alone() {
        let input = rows(&[("a", Some("x"), Some("p")), ("b", Some("x"), Some("q")), ("c", Some("x"), Some("p")), ("d", Some("x"), None)]);
        assert_eq!(dedup(json!({"scope": "local"}), &input), (vec!["a".into(), "b".into(), "d".into()], vec!["c<a".into()]));
    }

    #[test]
    fn white_space_and_case_make_no_difference_when_asked() {
        let input = rows(&[
            ("a", Some("Die Straße"), None),
            ("b", Some("  Die\u{a0}\n Straße\t"), None),
            ("c", Some("DIE STRASSE"), None),
            ("d", Some("ΣΑΣ"), None),
            ("e", Some("σας"), None),
        ]);
        assert_eq!(dedup(json!({"normalize": "none"}), &input).1, Vec::<String>::new());
        assert_eq!(dedup(json!({"normalize": "whitespace"}), &input).1, ["b<a"]);
        assert_eq!(dedup(json!({"normalize": "casefold"}), &input).1, ["b<a", "c<a", "e<d"]);
    }

    #[test]
    fn columns_of_any_type_are_compared_together() {
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("y"), Some("x"), Some("x")]));
        let input =
            RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("n", numbers, true), ("t", texts, true)]).expect("a batch");
        assert_eq!(dedup(json!({"columns": ["n", "t"]}), &input), (vec!["a".into(), "b".into(), "c".into()], vec!["d<c".into()]));
    }

    #[test]
    fn a_million_equal_rows_take_linear_time_and_one_row_a_shard() {
        let n = 1_000_000;
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|row| format!("r{row}"))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|_| "the same")));
        let input = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", texts, true)]).expect("a batch");
        let started = Instant::now();
        let cut = Cut { batch_rows: 8192, shard_rows: 65_536, ranges: 4 };
        let got = testing::run_cut::<DedupExactConfig>(json!({}), &[(Port::FROM, input)], cut);
        assert_eq!(testing::column(got.rows(), "id"), ["r0"]);
        assert_eq!(got.dropped().num_rows(), n - 1);
        assert_eq!(got.table_rows.get(BEST), Some(&16), "one row a shard");
        assert!(started.elapsed().as_secs() < 60);
    }

    #[test]
    fn a_source_listed_twice_is_refused() {
        let settings = json!({"source_priority": ["a", "b", "a"]});
        let error = testing::refusal::<DedupExactConfig>(settings, &[(Port::FROM, rows(&[]))]);
        assert_eq!(error, "source_priority: wanted each source once, found `a` twice");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_second_pass_drops_nothing(texts in proptest::collection::vec(proptest::option::of("[abAB ]{0,3}"), 0..40)) {
            let ids: Vec<String> = (0..texts.len()).map(|row| format!("r{row}")).collect();
            let input: Vec<Row> = ids.iter().zip(&texts).map(|(id, text)| (id.as_str(), text.as_deref(), None)).collect();
            let settings = json!({"normalize": "casefold"});
            let once = testing::run::<DedupExactConfig>(settings.clone(), &[(Port::FROM, rows(&input))]);
            let twice = testing::run::<DedupExactConfig>(settings, &[(Port::FROM, once.rows().clone())]);
            prop_assert_eq!(once.rows(), twice.rows());
            let mut said: Vec<Option<String>> = texts.iter().map(|text| text.as_deref().map(|text| {
                let mut folded = Vec::new();
                fold(text, &mut folded);
                String::from_utf8(folded).expect("UTF-8 stays UTF-8")
            })).collect();
            let nulls = said.iter().filter(|text| text.is_none()).count();
            said.sort();
            said.dedup();
            prop_assert_eq!(once.rows().num_rows(), said.iter().flatten().count() + nulls);
        }
    }
}
