//! `dedup_lines`: takes lines or paragraphs out of texts that say what other texts say.

mod by_key;
mod pieces;
mod removal;
mod removed;

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use self::by_key::ByKey;
use self::pieces::LineUnit;
use self::removal::Removal;
use self::removed::Removed;
use super::dedup_exact::{Normalize, Scope};
use crate::keys::{Change, KeyColumns, KeyHasher};
use crate::stage::add_columns;
use crate::units::{Chars, ColumnName, Fraction};
use crate::{
    BuildContext, Done, Global, Inputs, Kind, Measure, Outputs, Port, RangeIn, Route, RowRef, ShardIn, ShardRows, Stage, StageConfig,
    StageError, Step, TableSpec, Tables,
};

/// Takes lines or paragraphs out of texts that other texts hold too: menus, notices, and what is copied from page to page.
///
/// A line is *common* if it stands in more than `max_documents` texts. Of a common line, its first occurrence in the order of the rows is kept, or
/// none (`survivor`). With `repeats_within`, any other line that one text holds several times is kept once in it. So by default all occurrences but
/// the first go, wherever they are; `{max_documents: 10, survivor: none}` takes out boilerplate and leaves all else. Lines with fewer than `min_chars`
/// characters and blank ones are never counted and always stay. Lines are compared by a 128-bit hash (xxh3).
///
/// What stays is not changed: every line keeps its own break, so no two are glued together, and a text that ended with a line break still
/// does. A text that is null or loses nothing stays as it is. If a text is dropped, the lines that it held first are not given back to others.
///
/// Reasons: `too_much_removed`, with the share of the text's characters that was removed; `too_short`, with the characters left, white space at
/// the ends not counted. Dropped rows have their text as it came. The output `removed` holds every occurrence that was taken out: the `id` of
/// its row, its place in the text as it came (bytes, and which line or paragraph, from 0), the text itself, and in how many texts it stands how
/// often.
///
/// Not as elsewhere: CCNet's paper takes out every occurrence, short lines too, among the lines of one shard, lower-cased, digits and
/// punctuation levelled (`survivor: none`, `min_chars: 1`, `normalize: casefold` come closest); its one-pass code keeps the first. datatrove removes
/// runs of three sentences but the first, by 64-bit hashes, and drops what is left with 50 words or fewer.
///
/// Source: Wenzek and others, *CCNet: Extracting High Quality Monolingual Datasets from Web Crawl Data*, 2020, section 3.1.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupLinesConfig {
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// What is compared.
    #[serde(default)]
    pub unit: LineUnit,
    /// Fewest characters of a line or paragraph that is counted, white space at its ends left out.
    #[serde(default = "default_min_chars")]
    pub min_chars: Chars,
    /// What is done to a line or paragraph before it is compared; what stays of the text is as it was.
    #[serde(default = "default_normalize")]
    pub normalize: Normalize,
    /// Whether lines are compared with those of other sources.
    #[serde(default)]
    pub scope: Scope,
    /// The column that says which source a row is from; for `scope: local`.
    #[serde(default = "default_source_column")]
    pub source_column: ColumnName,
    /// Most texts that may hold a line; in more it is common.
    #[serde(default = "default_max_documents")]
    pub max_documents: NonZeroU32,
    /// What stays of a common line.
    #[serde(default)]
    pub survivor: KeepLine,
    /// Whether a line that stands several times in one text is kept once in it, though it is not common.
    #[serde(default = "default_repeats_within")]
    pub repeats_within: bool,
    /// The greatest share of its characters that a text may lose; a text that loses more is dropped. No limit if absent.
    #[serde(default)]
    pub max_removed: Option<Fraction>,
    /// Fewest characters that must be left of a text that lost some; with fewer it is dropped.
    #[serde(default = "default_min_left_chars")]
    pub min_left_chars: Chars,
    /// Whether to add the columns `removed_lines`, how many lines or paragraphs a text lost, and `removed_share`, the share of its characters.
    #[serde(default)]
    pub add_columns: bool,
}

/// What stays of a line that is common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeepLine {
    /// The first occurrence in the order of the rows; without `repeats_within`, all those in the first text.
    #[default]
    First,
    /// Nothing.
    None,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn default_min_chars() -> Chars {
    Chars::new(20)
}

fn default_normalize() -> Normalize {
    Normalize::Whitespace
}

fn default_source_column() -> ColumnName {
    ColumnName::new("source")
}

fn default_max_documents() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn default_repeats_within() -> bool {
    true
}

fn default_min_left_chars() -> Chars {
    Chars::new(1)
}

const REMOVED_LINES: Column<UInt32Array> =
    Column::new("removed_lines", DataType::UInt32, "lines or paragraphs that were taken out of the text");

const REMOVED_SHARE: Column<Float64Array> =
    Column::new("removed_share", DataType::Float64, "share of the text's characters that was taken out");

impl StageConfig for DedupLinesConfig {
    const NAME: &'static str = "dedup_lines";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: dedup_lines, from: pages, max_documents: 3, survivor: none, max_removed: 0.5}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec(), self.text().spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        if self.add_columns { vec![REMOVED_LINES.spec(), REMOVED_SHARE.spec()] } else { Vec::new() }
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        self.source(input)?;
        Ok(Outputs::new(add_columns(input, &self.adds())?).with_dropped(input)?.with(removed::PORT, Removed::schema()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let share = Measure::new("removed_share", "share of the text's characters that was taken out");
        let left = Measure::new("left_chars", "characters left of texts that lost some");
        Ok(Stage::Global(Box::new(DedupLines {
            source: self.source(input)?,
            output: add_columns(input, &self.adds())?,
            change: self.normalize.change(),
            removed_share: match self.max_removed {
                Some(max) => share.at_most("max_removed", max.get()),
                None => share,
            },
            left_chars: left.at_least("min_left_chars", self.min_left_chars.get() as f64),
            config: self.clone(),
        })))
    }
}

impl DedupLinesConfig {
    fn text(&self) -> Column<StringArray> {
        document::TEXT.named(self.column.as_str())
    }

    /// The source column where only lines of one source are compared.
    fn source(&self, input: &Schema) -> Result<Option<KeyColumns>, StageError> {
        match self.scope {
            Scope::Global => Ok(None),
            Scope::Local => KeyColumns::try_new(input, [self.source_column.as_str()], "source_column").map(Some),
        }
    }
}

/// Every line of each shard, once, by its hash: so a line that a million texts hold makes no range larger than the number of shards.
const LINES: &str = "lines";
/// To the first row that holds a line, in each of several shards that hold it: what is known of the line in all of them.
const SHARED: &str = "shared";
/// The lines with most occurrences of each range of which some are taken out.
const FREQUENT: &str = "frequent";

/// So many lines are named in the report.
const N_NAMED: usize = 12;
/// The report has this much of each.
const NAMED_CHARS: usize = 200;

struct DedupLines {
    config: DedupLinesConfig,
    source: Option<KeyColumns>,
    output: SchemaRef,
    change: Option<Change>,
    removed_share: Measure,
    left_chars: Measure,
}

/// What is known of a line of a shard.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// The first row that holds it.
    row: u32,
    /// The last row in which it was met.
    last: u32,
    documents: u32,
    occurrences: u32,
}

/// What is known of a line of all shards.
#[derive(Debug, Clone, Copy)]
struct Total {
    documents: u64,
    occurrences: u64,
    /// Whether no shard before this one holds it.
    is_first: bool,
}

impl Global for DedupLines {
    fn tables(&self) -> Vec<TableSpec> {
        vec![
            TableSpec::new(LINES, lines_schema(), Route::Key),
            TableSpec::new(SHARED, shared_schema(), Route::Row(Port::FROM)),
            TableSpec::new(FREQUENT, frequent_schema(), Route::Whole),
        ]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("count", Port::FROM).writes(&[LINES])),
            1 => Some(Step::ranges("add_up", &[LINES]).writes(&[SHARED, FREQUENT])),
            2 => Some(Step::shards("remove", Port::FROM).mail(SHARED).whole(FREQUENT).emits()),
            _ => None,
        }
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        if step.emits { self.remove(shard, out) } else { self.list(&shard.shard, out) }
    }

    fn range(&self, _step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let table = range.take(LINES)?;
        let numbers = |column: usize| table.batch.column(column).as_primitive::<UInt32Type>().values();
        let (row, documents, occurrences) = (numbers(0), numbers(1), numbers(2));
        let (mut to, mut shared, mut frequent) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for group in table.keys.chunk_by(|a, b| a == b) {
            let at = start..start + group.len();
            start = at.end;
            let sum = |of: &[u32]| of[at.clone()].iter().map(|n| u64::from(*n)).sum::<u64>();
            let total = Total { documents: sum(documents), occurrences: sum(occurrences), is_first: false };
            if !self.loses_some(total) {
                continue;
            }
            // The shards that hold it stand in their order.
            let shards = || table.origins[at.clone()].iter().map(|origin| origin.shard);
            if group.len() > 1 {
                to.extend(shards().zip(&row[at.clone()]).map(|(shard, row)| RowRef { shard, row: *row }));
                let first = at.start;
                shared.extend(at.clone().map(|at| (group[0], Total { is_first: at == first, ..total })));
            }
            frequent.push(Frequent { key: group[0], occurrences: total.occurrences, shard: table.origins[at.start].shard });
            if frequent.len() >= 2 * N_NAMED {
                most_frequent(&mut frequent);
            }
        }
        most_frequent(&mut frequent);
        out.mail(SHARED, &to, write_shared(&shared)?)?;
        out.whole(FREQUENT, write_frequent(&frequent)?)
    }
}

impl DedupLines {
    fn is_common(&self, line: Total) -> bool {
        line.documents > u64::from(self.config.max_documents.get())
    }

    /// Whether some occurrence of a line is taken out.
    fn loses_some(&self, line: Total) -> bool {
        self.is_common(line) || (self.config.repeats_within && line.occurrences > line.documents)
    }

    /// Whether a line or paragraph is counted at all.
    fn is_counted(&self, body: &str) -> bool {
        let said = body.trim();
        let (bytes, min) = (said.len() as u64, self.config.min_chars.get());
        // A character has one to four bytes.
        bytes >= min && bytes > 0 && (bytes / 4 >= min || Chars::of(said).get() >= min)
    }

    /// Counts the lines of a shard. `place` learns of each piece of each text that is counted, in order, where it stands among them.
    fn count(&self, shard: &ShardRows, mut place: impl FnMut(u32)) -> Result<ByKey<Line>, StageError> {
        let mut lines: ByKey<Line> = ByKey::new();
        let (mut changed, mut hasher) = (Vec::new(), KeyHasher::default());
        let mut row = 0_u32;
        for batch in &shard.batches {
            let texts = self.config.text().try_of(batch)?.clone();
            let sources = self.source.as_ref().map(|source| source.encode(batch, None)).transpose()?;
            for in_batch in 0..batch.num_rows() {
                if texts.is_valid(in_batch) {
                    let text = texts.value(in_batch);
                    let salt = sources.as_ref().map_or(0, |sources| {
                        hasher.add(sources, in_batch);
                        hasher.finish()
                    });
                    for piece in self.config.unit.pieces(text) {
                        let body = &text[piece.body];
                        if !self.is_counted(body) {
                            continue;
                        }
                        let key = self.key(body, &mut changed) ^ salt;
                        let new = || Line { row, last: row, documents: 1, occurrences: 0 };
                        let at = lines.insert(key, new).ok_or_else(|| StageError::Internal("a shard of over 2^32 lines".to_owned()))?;
                        let line = lines.get_mut(at);
                        line.occurrences += 1;
                        line.documents += u32::from(line.last != row);
                        line.last = row;
                        place(at);
                    }
                }
                row = row.checked_add(1).ok_or_else(|| StageError::Internal("a shard of over 2^32 rows".to_owned()))?;
            }
        }
        Ok(lines)
    }

    fn key(&self, body: &str, changed: &mut Vec<u8>) -> u128 {
        match self.change {
            None => xxh3_128(body.as_bytes()),
            Some(change) => {
                changed.clear();
                change(body, changed);
                xxh3_128(changed)
            }
        }
    }

    fn list(&self, shard: &ShardRows, out: &mut Tables) -> Result<(), StageError> {
        let (keys, lines) = self.count(shard, |_| ())?.into_parts();
        let column = |number: fn(&Line) -> u32| Arc::new(lines.iter().map(number).collect::<UInt32Array>()) as ArrayRef;
        let columns = vec![column(|line| line.row), column(|line| line.documents), column(|line| line.occurrences)];
        out.keyed(LINES, keys, RecordBatch::try_new(lines_schema(), columns)?)
    }

    fn remove(&self, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let shared = shard.take_mail(SHARED)?;
        let frequent =
            shard.whole.remove(FREQUENT).ok_or_else(|| StageError::Internal("the most frequent lines are missing".to_owned()))?;
        let mut places = Vec::new();
        let lines = self.count(&shard.shard, |at| places.push(at))?;
        let alone = |line: &Line| Total { documents: line.documents.into(), occurrences: line.occurrences.into(), is_first: true };
        let mut totals: Vec<Total> = lines.values().iter().map(alone).collect();
        for (key, total) in read_shared(&shared.batch) {
            let at = lines.find(key).ok_or_else(|| StageError::Internal("mail for a line that the shard does not hold".to_owned()))?;
            totals[at as usize] = total;
        }
        let mut named = read_frequent(&frequent);
        most_frequent(&mut named);
        let of_shard = named.iter().filter(|line| line.shard == shard.shard.index);
        let named: Vec<(u32, u64)> = of_shard.filter_map(|line| Some((lines.find(line.key)?, line.occurrences))).collect();
        let mut work = Removal::new(self, lines.into_parts().1, totals, named, places);
        for batch in shard.shard.batches.drain(..) {
            work.batch(&batch, out)?;
        }
        work.finish(out)
    }
}

/// A line of those with most occurrences.
struct Frequent {
    key: u128,
    occurrences: u64,
    /// The first that holds it.
    shard: u32,
}

/// Leaves those with most occurrences; of equally many, by the key, which is the same however the work is cut.
fn most_frequent(lines: &mut Vec<Frequent>) {
    lines.sort_unstable_by_key(|line| (Reverse(line.occurrences), line.key));
    lines.truncate(N_NAMED);
}

fn lines_schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt32, false);
    Arc::new(Schema::new(vec![number("row"), number("documents"), number("occurrences")]))
}

/// The halves of a line's key, then further columns.
fn with_key(more: Vec<Field>) -> SchemaRef {
    let halves = ["high", "low"].map(|name| Field::new(name, DataType::UInt64, false));
    Arc::new(Schema::new(halves.into_iter().chain(more).collect::<Vec<_>>()))
}

fn key_columns(keys: impl Iterator<Item = u128> + Clone) -> [ArrayRef; 2] {
    [Arc::new(keys.clone().map(|key| half(key >> 64)).collect::<UInt64Array>()), Arc::new(keys.map(half).collect::<UInt64Array>())]
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn half(key: u128) -> u64 {
    key as u64
}

fn key_at(batch: &RecordBatch, at: usize) -> u128 {
    (u128::from(u64s(batch, 0)[at]) << 64) | u128::from(u64s(batch, 1)[at])
}

fn u64s(batch: &RecordBatch, column: usize) -> &ScalarBuffer<u64> {
    batch.column(column).as_primitive::<UInt64Type>().values()
}

fn shared_schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::UInt64, false);
    with_key(vec![number("documents"), number("occurrences"), Field::new("is_first", DataType::Boolean, false)])
}

fn write_shared(shared: &[(u128, Total)]) -> Result<RecordBatch, StageError> {
    let number = |number: fn(&Total) -> u64| Arc::new(shared.iter().map(|(_, line)| number(line)).collect::<UInt64Array>()) as ArrayRef;
    let is_first: BooleanArray = shared.iter().map(|(_, line)| Some(line.is_first)).collect();
    let [high, low] = key_columns(shared.iter().map(|(key, _)| *key));
    let columns = vec![high, low, number(|line| line.documents), number(|line| line.occurrences), Arc::new(is_first)];
    Ok(RecordBatch::try_new(shared_schema(), columns)?)
}

fn read_shared(batch: &RecordBatch) -> impl Iterator<Item = (u128, Total)> {
    let (documents, occurrences, is_first) = (u64s(batch, 2), u64s(batch, 3), batch.column(4).as_boolean());
    (0..batch.num_rows()).map(move |at| {
        let total = Total { documents: documents[at], occurrences: occurrences[at], is_first: is_first.value(at) };
        (key_at(batch, at), total)
    })
}

fn frequent_schema() -> SchemaRef {
    with_key(vec![Field::new("occurrences", DataType::UInt64, false), Field::new("shard", DataType::UInt32, false)])
}

fn write_frequent(lines: &[Frequent]) -> Result<RecordBatch, StageError> {
    let [high, low] = key_columns(lines.iter().map(|line| line.key));
    let occurrences: UInt64Array = lines.iter().map(|line| line.occurrences).collect();
    let shard: UInt32Array = lines.iter().map(|line| line.shard).collect();
    Ok(RecordBatch::try_new(frequent_schema(), vec![high, low, Arc::new(occurrences), Arc::new(shard)])?)
}

fn read_frequent(batch: &RecordBatch) -> Vec<Frequent> {
    let (occurrences, shard) = (u64s(batch, 2), batch.column(3).as_primitive::<UInt32Type>().values());
    (0..batch.num_rows()).map(|at| Frequent { key: key_at(batch, at), occurrences: occurrences[at], shard: shard[at] }).collect()
}

#[cfg(test)]
mod tests;
