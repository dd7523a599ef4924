//! The program: what each source has, what it gives, where the part of a last pass ends, and the rows of the mix.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::compute::{cast, interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use schemas::{Column, document};

use super::quota::{Demand, NoMix, Passes, Supply, is_within, quotas};
use super::{MOST_EPOCHS, MOST_INPUTS, MixOrder, MixUnit, SOURCE};
use crate::keys::{self, Draw};
use crate::stage::add_columns;
use crate::{Done, Dropped, Global, Port, RangeIn, Route, RowRef, ShardIn, StageError, Step, StepKind, TableSpec, Tables, WholeIn};

/// Passes that one reading of an input gives, so that a task holds a shard's rows only so many times.
const AT_A_TIME: u64 = 4;

/// Names of tables, of which each input has its own: a step reads of each table only what the last one wrote.
struct Names {
    /// What each source has, by shard.
    sizes: Vec<String>,
    /// Rows that can be in the part of a last pass.
    drawn: Vec<String>,
    /// Rows of the mix, of so many passes at a time.
    mixed: Vec<Vec<String>>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let of = |what: &str| (0..MOST_INPUTS).map(|input| format!("{what}_{input}")).collect();
    let groups = |input: usize| (0..MOST_EPOCHS.div_ceil(AT_A_TIME)).map(|group| format!("mixed_{input}_{group}")).collect();
    Names { sizes: of("sizes"), drawn: of("drawn"), mixed: (0..MOST_INPUTS).map(groups).collect() }
});

/// What each source gives.
const QUOTAS: &str = "quotas";
/// A row for each source that gives a part of a pass.
const PARTS: &str = "parts";
/// A row for each reading that the passes take.
const READINGS: &str = "readings";
/// How much each source has in each range.
const SUMS: &str = "sums";
/// In each range, the last row of each source that is in its part of a pass.
const CUTS: &str = "cuts";

/// An input, and the source it is, if its rows are of one.
pub(super) struct Input {
    pub(super) port: Port,
    pub(super) source: Option<usize>,
}

/// What a row counts for.
pub(super) enum Size {
    Rows,
    Tokens(usize),
    Characters(Column<StringArray>),
    Bytes(Column<StringArray>),
}

pub(super) struct Mix {
    pub(super) inputs: Vec<Input>,
    pub(super) by: Option<usize>,
    pub(super) names: Vec<String>,
    pub(super) demand: Demand,
    /// The setting that says what is wanted.
    pub(super) demanded_at: &'static str,
    pub(super) unit: MixUnit,
    pub(super) size: Size,
    pub(super) order: MixOrder,
    pub(super) draw: Draw,
    pub(super) input: SchemaRef,
    pub(super) output: SchemaRef,
}

/// The rows of a batch, which has the columns of the mix's input.
struct Facts {
    /// Number of the source; `None` where it has no name.
    sources: Vec<Option<usize>>,
    /// What each counts for; `None` where that is not known.
    sizes: Vec<Option<u64>>,
}

impl Global for Mix {
    fn tables(&self) -> Vec<TableSpec> {
        let whole = |name, schema| TableSpec::new(name, schema, Route::Whole);
        let mut tables = vec![
            whole(QUOTAS, quotas_schema()),
            whole(PARTS, number_schema()),
            whole(READINGS, number_schema()),
            whole(SUMS, sums_schema()),
            whole(CUTS, cuts_schema()),
        ];
        for input in 0..self.inputs.len() {
            tables.push(whole(NAMES.sizes[input].as_str(), sizes_schema()));
            tables.push(TableSpec::new(NAMES.drawn[input].as_str(), drawn_schema(), Route::Order));
            let mixed = NAMES.mixed[input].iter().take(self.most_readings());
            tables.extend(mixed.map(|name| TableSpec::new(name.as_str(), Arc::clone(&self.output), Route::Key)));
        }
        tables
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let inputs = || self.inputs.iter().map(|input| input.port.clone());
        let of = |names: &'static [String]| names.iter().take(self.inputs.len()).map(String::as_str).collect::<Vec<_>>();
        let (sizes, drawn) = (of(&NAMES.sizes), of(&NAMES.drawn));
        let mut steps: Vec<Step> =
            inputs().zip(sizes.iter().copied()).map(|(port, sizes)| Step::shards("measure", port).writes(&[sizes])).collect();
        steps.push(Step::once("share_out", &sizes, Vec::new()).writes(&[QUOTAS, PARTS, READINGS]));
        if done.steps() < steps.len() {
            return steps.into_iter().nth(done.steps());
        }
        let has_parts = done.rows(PARTS) > 0;
        if has_parts {
            steps
                .extend(inputs().zip(drawn.iter().copied()).map(|(port, drawn)| Step::shards("draw", port).whole(QUOTAS).writes(&[drawn])));
            steps.push(Step::ranges("sum", &drawn).writes(&[SUMS]));
            steps.push(Step::ranges("cut", &drawn).whole(QUOTAS).whole(SUMS).writes(&[CUTS]));
        }
        let n_readings = match self.order {
            // A row's repeats stand behind it, so one reading gives them all.
            MixOrder::Input => 1,
            _ => usize::try_from(done.rows(READINGS)).unwrap_or(usize::MAX).min(self.most_readings()),
        };
        let mut mixed: Vec<&'static str> = Vec::new();
        for (input, port) in inputs().enumerate() {
            for (reading, table) in NAMES.mixed[input].iter().map(String::as_str).take(n_readings).enumerate() {
                let step = Step::shards(if reading == 0 { "mix" } else { "mix_again" }, port.clone()).whole(QUOTAS).emits();
                let step = if has_parts { step.whole(CUTS) } else { step };
                steps.push(if self.order == MixOrder::Input { step } else { step.writes(&[table]) });
                mixed.push(table);
            }
        }
        if self.order != MixOrder::Input {
            steps.push(Step::ranges("order", &mixed).emits());
        }
        steps.into_iter().nth(done.steps())
    }

    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let StepKind::Shards { port } = &step.kind else {
            return Err(StageError::Internal(format!("step `{}` is not over shards", step.name)));
        };
        let input = self.inputs.iter().position(|input| input.port == *port);
        let input = input.ok_or_else(|| StageError::Internal(format!("the mix has no input `{port}`")))?;
        match step.name {
            "measure" => self.measure(input, shard, out),
            "draw" => self.draw(input, shard, out),
            _ => self.mix(input, step, shard, out),
        }
    }

    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        match step.name {
            "sum" => Self::sum(range, out),
            "cut" => Self::cut(range, out),
            _ => Self::put_in_order(range, out),
        }
    }

    fn once(&self, _step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        let mut supply = vec![Supply::default(); self.names.len()];
        for table in all.tables.values() {
            let [sources, rows, units] = [0, 1, 2].map(|column| u64s(&table.batch, column));
            for ((source, rows), units) in sources.iter().zip(rows).zip(units) {
                let of_source = usize::try_from(*source).ok().and_then(|source| supply.get_mut(source));
                let of_source = of_source.ok_or_else(|| StageError::Internal(format!("the mix has no source {source}")))?;
                of_source.rows += rows;
                of_source.units = of_source.units.saturating_add(*units);
            }
        }
        let quotas = quotas(&self.demand, &supply).map_err(|why| self.no_mix(&why, &supply))?;
        for ((name, quota), supply) in self.names.iter().zip(&quotas).zip(&supply) {
            out.emit().count("mix_wanted", name, quota.wanted);
            out.emit().count("mix_available", name, supply.units);
            out.emit().count("mix_available_rows", name, supply.rows);
        }
        let passes: Vec<Passes> = quotas.iter().zip(&supply).map(|(quota, supply)| Passes::of(quota.given, *supply)).collect();
        let numbers = |numbers: Vec<u64>| Arc::new(UInt64Array::from(numbers)) as ArrayRef;
        let columns = vec![
            numbers(passes.iter().map(|passes| passes.whole).collect()),
            numbers(passes.iter().map(|passes| passes.rest).collect()),
            numbers(supply.iter().map(|supply| supply.units).collect()),
        ];
        out.whole(QUOTAS, RecordBatch::try_new(quotas_schema(), columns)?)?;
        let parts = passes.iter().filter(|passes| passes.rest > 0).map(|passes| passes.rest).collect();
        out.whole(PARTS, RecordBatch::try_new(number_schema(), vec![numbers(parts)])?)?;
        let most = passes.iter().map(|passes| passes.whole + u64::from(passes.rest > 0)).max().unwrap_or(0);
        let readings = (0..most.div_ceil(AT_A_TIME).max(1)).collect();
        out.whole(READINGS, RecordBatch::try_new(number_schema(), vec![numbers(readings)])?)
    }
}

impl Mix {
    /// Readings of the inputs that the most passes take.
    fn most_readings(&self) -> usize {
        let most = match &self.demand {
            Demand::Epochs(epochs) => epochs,
            Demand::Shares { max_epochs, .. } => max_epochs,
        };
        let most = most.iter().copied().fold(1.0, f64::max);
        (1..NAMES.mixed[0].len()).find(|readings| *readings as f64 * AT_A_TIME as f64 >= most).unwrap_or(NAMES.mixed[0].len())
    }

    fn no_mix(&self, why: &NoMix, supply: &[Supply]) -> StageError {
        let unit = match self.unit {
            MixUnit::Rows => "rows",
            MixUnit::Tokens => "tokens",
            MixUnit::Characters => "characters",
            MixUnit::Bytes => "bytes",
        };
        match why {
            NoMix::Empty(sources) => {
                let names: Vec<String> = sources.iter().map(|&source| format!("`{}`", self.names[source])).collect();
                let what = if sources.iter().all(|&source| supply[source].rows == 0) { "rows" } else { unit };
                let problem = format!("`{}` wants something of sources that have no {what}: {}", self.demanded_at, names.join(", "));
                StageError::setting(self.demanded_at, problem).with_help("0 leaves a source out")
            }
            NoMix::Short(sources) => {
                let each = sources.iter().map(|&(source, epochs)| {
                    let has = supply[source].units;
                    format!("`{}`, which has {has} {unit}, would be taken {:.2} times", self.names[source], (epochs * 100.0).ceil() / 100.0)
                });
                StageError::Guard {
                    problem: format!("the budget is too large: {}", each.collect::<Vec<_>>().join("; ")),
                    setting: "max_epochs",
                }
            }
        }
    }

    /// A batch of an input, its columns as those of the mix stand.
    fn as_input(&self, batch: &RecordBatch) -> Result<RecordBatch, StageError> {
        let column = |field: &Arc<Field>| {
            let column = batch.column_by_name(field.name());
            column.cloned().ok_or_else(|| StageError::Internal(format!("an input lacks `{}`", field.name())))
        };
        let columns = self.input.fields().iter().map(column).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.input), columns)?)
    }

    fn facts(&self, input: usize, batch: &RecordBatch) -> Result<Facts, StageError> {
        let n_rows = batch.num_rows();
        let sources = match self.by {
            None => vec![self.inputs[input].source; n_rows],
            Some(by) => {
                let values = cast(batch.column(by), &DataType::Utf8)?;
                let known: HashMap<&str, usize> = self.names.iter().map(String::as_str).zip(0..).collect();
                let source = |name: Option<&str>| {
                    let Some(name) = name else { return Ok(None) };
                    known.get(name).copied().map(Some).ok_or_else(|| {
                        let (setting, column) = (self.demanded_at, self.input.field(by).name());
                        let problem = format!("rows have `{name}` in `{column}`, of which `{setting}` says nothing");
                        StageError::setting(setting, problem).with_help("0 leaves a source out")
                    })
                };
                values.as_string::<i32>().iter().map(source).collect::<Result<_, _>>()?
            }
        };
        let sizes = match &self.size {
            Size::Rows => vec![Some(1); n_rows],
            // A cast gives null for a negative number.
            Size::Tokens(column) => cast(batch.column(*column), &DataType::UInt64)?.as_primitive::<UInt64Type>().iter().collect(),
            Size::Characters(text) => {
                let chars = |text: Option<&str>| Some(text.map_or(0, |text| crate::units::Chars::of(text).get()));
                text.try_of(batch)?.iter().map(chars).collect()
            }
            Size::Bytes(text) => text.try_of(batch)?.iter().map(|text| Some(text.map_or(0, |text| text.len() as u64))).collect(),
        };
        Ok(Facts { sources, sizes })
    }

    fn measure(&self, input: usize, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let mut supply = vec![Supply::default(); self.names.len()];
        for batch in shard.shard.batches.drain(..) {
            let facts = self.facts(input, &self.as_input(&batch)?)?;
            for (source, size) in facts.sources.into_iter().zip(facts.sizes) {
                if let (Some(source), Some(size)) = (source, size) {
                    supply[source].rows += 1;
                    supply[source].units = supply[source].units.saturating_add(size);
                }
            }
        }
        let found = || (0_u64..).zip(&supply).filter(|(_, supply)| supply.rows > 0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(found().map(|(source, _)| source).collect::<UInt64Array>()),
            Arc::new(found().map(|(_, supply)| supply.rows).collect::<UInt64Array>()),
            Arc::new(found().map(|(_, supply)| supply.units).collect::<UInt64Array>()),
        ];
        out.whole(NAMES.sizes[input].as_str(), RecordBatch::try_new(sizes_schema(), columns)?)
    }

    /// Of each source that gives a part of a pass, the rows of this shard that can be in it.
    fn draw(&self, input: usize, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let quotas = Quotas::read(&shard.whole)?;
        // Source, place, size.
        let mut drawn: Vec<(u32, [u8; PLACE], u64)> = Vec::new();
        let mut at = RowRef { shard: shard.shard.index, row: 0 };
        for batch in shard.shard.batches.drain(..) {
            let batch = self.as_input(&batch)?;
            let (facts, lots) = (self.facts(input, &batch)?, self.draw.lots(&batch)?);
            for ((source, size), lot) in facts.sources.into_iter().zip(facts.sizes).zip(lots) {
                if let (Some(source), Some(size)) = (source, size)
                    && quotas.passes(source).rest > 0
                {
                    drawn.push((u32::try_from(source).map_err(|_| too_many("sources"))?, place(lot, at), size));
                }
                at.row = at.row.checked_add(1).ok_or_else(|| too_many("rows in a shard"))?;
            }
        }
        drawn.sort_unstable();
        let mut first: Vec<(u32, [u8; PLACE], u64)> = Vec::new();
        for of_source in drawn.chunk_by(|a, b| a.0 == b.0) {
            // What the shard's own rows before it make too much of, all rows before it do.
            let rest = quotas.passes(of_source[0].0 as usize).rest;
            let mut before = 0_u64;
            let within = of_source.iter().take_while(|(.., size)| {
                let is_in = is_within(rest, before, *size);
                before = before.saturating_add(*size);
                is_in
            });
            // The first that is not says that the part ends there, whatever other shards have behind it.
            first.extend(&of_source[..of_source.len().min(within.count() + 1)]);
        }
        let keys: BinaryArray = first.iter().map(|(source, place, _)| Some([&source.to_be_bytes()[..], place].concat())).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(first.iter().map(|(source, ..)| *source).collect::<UInt32Array>()),
            Arc::new(BinaryArray::from_iter_values(first.iter().map(|(_, place, _)| place))),
            Arc::new(first.iter().map(|(.., size)| *size).collect::<UInt64Array>()),
        ];
        out.ordered(NAMES.drawn[input].as_str(), keys, RecordBatch::try_new(drawn_schema(), columns)?)
    }

    fn sum(range: &RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let (mut sources, mut sums) = (Vec::new(), Vec::new());
        for table in range.tables.values() {
            let sizes = u64s(&table.batch, 2);
            let mut at = 0;
            for of_source in table.batch.column(0).as_primitive::<UInt32Type>().values().chunk_by(|a, b| a == b) {
                sources.push(of_source[0]);
                sums.push(sizes[at..at + of_source.len()].iter().fold(0_u64, |sum, size| sum.saturating_add(*size)));
                at += of_source.len();
            }
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![range.index; sources.len()])),
            Arc::new(UInt32Array::from(sources)),
            Arc::new(UInt64Array::from(sums)),
        ];
        out.whole(SUMS, RecordBatch::try_new(sums_schema(), columns)?)
    }

    fn cut(range: &RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let quotas = Quotas::read(&range.whole)?;
        let sums = range.whole.get(SUMS).ok_or_else(|| StageError::Internal("no `sums` was asked for".to_owned()))?;
        let [in_range, of_source] = [0, 1].map(|column| sums.column(column).as_primitive::<UInt32Type>().values());
        let mut cuts: Vec<(u32, &[u8])> = Vec::new();
        for table in range.tables.values() {
            let (places, sizes) = (table.batch.column(1).as_binary::<i32>(), u64s(&table.batch, 2));
            let mut at = 0;
            for rows in table.batch.column(0).as_primitive::<UInt32Type>().values().chunk_by(|a, b| a == b) {
                let source = rows[0];
                let rest = quotas.passes(source as usize).rest;
                let earlier = (0..sums.num_rows()).filter(|&sum| of_source[sum] == source && in_range[sum] < range.index);
                let mut before = earlier.fold(0_u64, |before, sum| before.saturating_add(u64s(sums, 2)[sum]));
                let within = sizes[at..at + rows.len()].iter().take_while(|size| {
                    let is_in = is_within(rest, before, **size);
                    before = before.saturating_add(**size);
                    is_in
                });
                cuts.extend(within.count().checked_sub(1).map(|last| (source, places.value(at + last))));
                at += rows.len();
            }
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(cuts.iter().map(|(source, _)| *source).collect::<UInt32Array>()),
            Arc::new(BinaryArray::from_iter_values(cuts.iter().map(|(_, place)| place))),
        ];
        out.whole(CUTS, RecordBatch::try_new(cuts_schema(), columns)?)
    }

    fn mix(&self, input: usize, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let quotas = Quotas::read(&shard.whole)?;
        let cuts = shard.whole.get(CUTS).map(read_cuts);
        let table = step.writes.first().copied();
        let reading = match table.and_then(|table| NAMES.mixed[input].iter().position(|name| name == table)) {
            Some(reading) => reading as u64,
            None => 0,
        };
        let mut at = RowRef { shard: shard.shard.index, row: 0 };
        let mut given = vec![(0_u64, 0_u64); self.names.len()];
        let with_source = add_columns(&self.input, &[SOURCE.spec()])?;
        for batch in shard.shard.batches.drain(..) {
            let batch = self.as_input(&batch)?;
            let (facts, lots) = (self.facts(input, &batch)?, self.draw.lots(&batch)?);
            // Row of the batch and pass, in the order of passes.
            let mut taken: Vec<(u64, u32)> = Vec::new();
            let (mut dropped, mut reasons) = (Vec::new(), Vec::new());
            for (row, lot) in (0_u32..).zip(&lots) {
                let index = row as usize;
                let here = at;
                at.row = at.row.checked_add(1).ok_or_else(|| too_many("rows in a shard"))?;
                let Some(source) = facts.sources[index] else {
                    dropped.push(row);
                    reasons.push(Dropped { reason: "no_source", value: None, threshold: None, duplicate_of: None });
                    continue;
                };
                let Some(size) = facts.sizes[index] else {
                    if reading == 0 {
                        let detail = format!("wanted a number of tokens from 0 for a row of `{}`, found none", self.names[source]);
                        out.emit().reject_row(&batch, index, "no_tokens", detail);
                    }
                    continue;
                };
                let passes = quotas.passes(source);
                let cut = cuts.as_ref().and_then(|cuts| cuts.get(&source));
                let is_in_part = passes.rest > 0 && cut.is_some_and(|cut| place(*lot, here)[..] <= cut[..]);
                let times = passes.whole + u64::from(is_in_part);
                let first = reading * AT_A_TIME;
                let last = if table.is_some() { times.min(first + AT_A_TIME) } else { times };
                taken.extend((first..last).map(|pass| (pass, row)));
                let n_taken = last.saturating_sub(first);
                given[source].0 += n_taken;
                given[source].1 = given[source].1.saturating_add(size.saturating_mul(n_taken));
                if times == 0 {
                    dropped.push(row);
                    let drawn = keys::share_of(u64::try_from(lot >> 64).unwrap_or(u64::MAX));
                    reasons.push(Dropped { reason: "not_in_mix", value: Some(drawn), threshold: None, duplicate_of: None });
                }
            }
            if reading == 0 && !dropped.is_empty() {
                let sources: StringArray =
                    dropped.iter().map(|&row| facts.sources[row as usize].map(|source| self.names[source].as_str())).collect();
                let mut columns = take_record_batch(&batch, &UInt32Array::from(dropped))?.columns().to_vec();
                columns.push(Arc::new(sources));
                out.emit().drop_rows(&RecordBatch::try_new(Arc::clone(&with_source), columns)?, &reasons)?;
            }
            let Some(table) = table else {
                out.emit().rows(self.taken(&batch, &facts, &taken)?)?;
                continue;
            };
            taken.sort_unstable();
            for of_pass in taken.chunk_by(|a, b| a.0 == b.0) {
                let key = |(pass, row): &(u64, u32)| {
                    let source = facts.sources[*row as usize].unwrap_or(0);
                    quotas.position(self.order, source, *pass, lots[*row as usize])
                };
                out.keyed(table, of_pass.iter().map(key).collect(), self.taken(&batch, &facts, of_pass)?)?;
            }
        }
        for (name, (rows, units)) in self.names.iter().zip(given) {
            out.emit().count("mix_rows", name, rows);
            out.emit().count("mix_units", name, units);
        }
        Ok(())
    }

    /// Rows of a batch as they leave: passes and rows.
    fn taken(&self, batch: &RecordBatch, facts: &Facts, taken: &[(u64, u32)]) -> Result<RecordBatch, StageError> {
        let rows = take_record_batch(batch, &taken.iter().map(|(_, row)| *row).collect::<UInt32Array>())?;
        let parents = document::ID.try_of(&rows)?.clone();
        let ids: StringArray = taken
            .iter()
            .zip(&parents)
            .map(|((pass, _), id)| id.map(|id| if *pass == 0 { id.to_owned() } else { format!("{id}#{pass}") }))
            .collect();
        let sources: StringArray =
            taken.iter().map(|(_, row)| facts.sources[*row as usize].map(|source| self.names[source].as_str())).collect();
        let epochs: UInt32Array = taken.iter().map(|(pass, _)| u32::try_from(*pass).ok()).collect();
        let mut columns = rows.columns().to_vec();
        columns[self.input.index_of(document::ID.name())?] = Arc::new(ids);
        columns.extend([Arc::new(sources) as ArrayRef, Arc::new(epochs), Arc::new(parents)]);
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }

    fn put_in_order(range: &RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let tables: Vec<_> = range.tables.values().collect();
        let mut order: Vec<(u128, usize, usize)> = Vec::new();
        for (number, table) in tables.iter().enumerate() {
            order.extend(table.keys.iter().enumerate().map(|(row, key)| (*key, number, row)));
        }
        order.sort_unstable();
        let batches: Vec<&RecordBatch> = tables.iter().map(|table| &table.batch).collect();
        let places: Vec<(usize, usize)> = order.into_iter().map(|(_, table, row)| (table, row)).collect();
        for places in places.chunks(8192) {
            out.emit().rows(interleave_record_batch(&batches, places)?)?;
        }
        Ok(())
    }
}

/// What each source gives, as tasks read it.
struct Quotas<'a> {
    whole: &'a [u64],
    rest: &'a [u64],
    units: &'a [u64],
}

impl<'a> Quotas<'a> {
    fn read(whole: &'a std::collections::BTreeMap<&'static str, RecordBatch>) -> Result<Self, StageError> {
        let table = whole.get(QUOTAS).ok_or_else(|| StageError::Internal("no `quotas` was asked for".to_owned()))?;
        Ok(Self { whole: u64s(table, 0), rest: u64s(table, 1), units: u64s(table, 2) })
    }

    fn passes(&self, source: usize) -> Passes {
        Passes { whole: self.whole[source], rest: self.rest[source] }
    }

    /// Where a row of a pass stands in the mix: keys in the order of the rows.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number from 0, below 1, of 2^64")]
    fn position(&self, order: MixOrder, source: usize, pass: u64, lot: u128) -> u128 {
        let hash = keys::key(&[lot.to_be_bytes(), u128::from(pass).to_be_bytes()].concat());
        if order != MixOrder::Interleaved {
            return hash;
        }
        let within = keys::share_of(u64::try_from(hash >> 64).unwrap_or(u64::MAX));
        let part = self.rest[source] as f64 / self.units[source].max(1) as f64;
        let passes = self.whole[source] as f64 + part;
        let width = if pass < self.whole[source] { 1.0 } else { part };
        let position = (pass as f64 + within * width) / passes * 2_f64.powi(64);
        (u128::from(position as u64) << 64) | (hash & u128::from(u64::MAX))
    }
}

/// Bytes of a [`place`].
const PLACE: usize = 24;

/// Where a row stands among those of its source: by lot, rows of one lot as they came.
fn place(lot: u128, row: RowRef) -> [u8; PLACE] {
    let mut place = [0; PLACE];
    place[..16].copy_from_slice(&lot.to_be_bytes());
    place[16..20].copy_from_slice(&row.shard.to_be_bytes());
    place[20..].copy_from_slice(&row.row.to_be_bytes());
    place
}

/// The last row of each source that is in its part of a pass.
fn read_cuts(cuts: &RecordBatch) -> HashMap<usize, Vec<u8>> {
    let mut last: HashMap<usize, Vec<u8>> = HashMap::new();
    let places = cuts.column(1).as_binary::<i32>();
    for (source, place) in cuts.column(0).as_primitive::<UInt32Type>().values().iter().zip(places.iter().flatten()) {
        let of_source = last.entry(*source as usize).or_default();
        if of_source.as_slice() < place {
            place.clone_into(of_source);
        }
    }
    last
}

fn u64s(batch: &RecordBatch, column: usize) -> &[u64] {
    batch.column(column).as_primitive::<UInt64Type>().values()
}

fn too_many(what: &str) -> StageError {
    StageError::Internal(format!("over 2^32 {what}"))
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect::<Vec<_>>()))
}

fn sizes_schema() -> SchemaRef {
    schema(&[("source", DataType::UInt64), ("rows", DataType::UInt64), ("units", DataType::UInt64)])
}

fn quotas_schema() -> SchemaRef {
    schema(&[("whole", DataType::UInt64), ("rest", DataType::UInt64), ("units", DataType::UInt64)])
}

fn number_schema() -> SchemaRef {
    schema(&[("number", DataType::UInt64)])
}

fn drawn_schema() -> SchemaRef {
    schema(&[("source", DataType::UInt32), ("place", DataType::Binary), ("size", DataType::UInt64)])
}

fn sums_schema() -> SchemaRef {
    schema(&[("range", DataType::UInt32), ("source", DataType::UInt32), ("units", DataType::UInt64)])
}

fn cuts_schema() -> SchemaRef {
    schema(&[("source", DataType::UInt32), ("place", DataType::Binary)])
}
