//! Stages that need to have seen every row: short programs of steps over named, routed tables.
//!
//! The engine owns sorting, spilling, exchange, checkpoints and parallelism. A program says which tables there are, which step comes next,
//! and what a step does with one shard, one key range, or everything.

use std::collections::BTreeMap;

use arrow::array::{Array, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use schemas::document;

use crate::{Emit, Outputs, Port, StageError};

/// A row's identity inside the engine: which shard of a stage's input, which row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    /// The shard's number, dense from 0 in the order of the rows.
    pub shard: u32,
    /// The row's number in the shard.
    pub row: u32,
}

impl RowRef {
    /// The reference as a sort key: by shard, then row.
    pub fn key(self) -> u128 {
        (u128::from(self.shard) << 96) | (u128::from(self.row) << 64)
    }
}

/// How the rows of a table find the tasks that read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// By a 128-bit hash: rows with one key meet in one range. Keys must be spread evenly over the 128 bits.
    Key,
    /// By order of byte strings: a global sort.
    Order,
    /// To the shard of the input port that owns the row.
    Row(Port),
    /// To everyone; read whole, so size-limited.
    Whole,
}

/// A table of a program.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Its name, unique in the program.
    pub name: &'static str,
    /// The columns of its rows. Key and origin are the engine's and not among them.
    pub schema: SchemaRef,
    /// Its route.
    pub route: Route,
}

impl TableSpec {
    /// A table.
    pub fn new(name: &'static str, schema: SchemaRef, route: Route) -> Self {
        Self { name, schema, route }
    }
}

/// What a step works over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// One task for each shard of an input port; calls [`Global::shard`].
    Shards {
        /// The port.
        port: Port,
    },
    /// One task for each key range, the tables cut at the same keys; calls [`Global::range`].
    Ranges {
        /// The tables, all of one route, `Key` or `Order`.
        tables: Vec<&'static str>,
    },
    /// Tasks numbered from 0, for rows that are made and not read; calls [`Global::part`].
    Parts {
        /// How many.
        n: u32,
    },
    /// One task that sees whole tables and ports; calls [`Global::once`]. Refused before it starts if they are over the memory budget.
    Once {
        /// Tables of any route; read in (key, origin) order.
        tables: Vec<&'static str>,
        /// Input ports, read whole.
        ports: Vec<Port>,
    },
}

/// One step of a program.
///
/// Of each table it reads, a step sees what the last finished step that declared to write it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, for progress and for `shard`, `range` and `once` to tell steps apart.
    pub name: &'static str,
    /// What it works over.
    pub kind: StepKind,
    /// Tables routed to rows that a `Shards` step receives.
    pub mail: Vec<&'static str>,
    /// `Whole` tables it receives.
    pub whole: Vec<&'static str>,
    /// Tables it writes.
    pub writes: Vec<&'static str>,
    /// Whether it gives rows to the stage's outputs.
    pub emits: bool,
    /// Whether it depends on what [`Global::begin`] saw.
    pub sees: bool,
}

impl Step {
    fn new(name: &'static str, kind: StepKind) -> Self {
        Self { name, kind, mail: Vec::new(), whole: Vec::new(), writes: Vec::new(), emits: false, sees: false }
    }

    /// A step over the shards of an input port.
    pub fn shards(name: &'static str, port: Port) -> Self {
        Self::new(name, StepKind::Shards { port })
    }

    /// A step over the key ranges of tables.
    pub fn ranges(name: &'static str, tables: &[&'static str]) -> Self {
        Self::new(name, StepKind::Ranges { tables: tables.to_vec() })
    }

    /// Most parts of a step: a run keeps about two kilobytes of each in memory.
    pub const MOST_PARTS: u32 = 1 << 20;

    /// A step of `n` tasks that are told apart by their number alone: each makes its own share of the rows. A part should take a second or
    /// more, and hold no more rows than a shard; there are at most [`Step::MOST_PARTS`].
    pub fn parts(name: &'static str, n: u32) -> Self {
        Self::new(name, StepKind::Parts { n })
    }

    /// A step that sees whole tables and ports.
    pub fn once(name: &'static str, tables: &[&'static str], ports: Vec<Port>) -> Self {
        Self::new(name, StepKind::Once { tables: tables.to_vec(), ports })
    }

    /// The same step, receiving a table routed to its rows.
    #[must_use]
    pub fn mail(mut self, table: &'static str) -> Self {
        self.mail.push(table);
        self
    }

    /// The same step, receiving a broadcast table.
    #[must_use]
    pub fn whole(mut self, table: &'static str) -> Self {
        self.whole.push(table);
        self
    }

    /// The same step, writing tables.
    #[must_use]
    pub fn writes(mut self, tables: &[&'static str]) -> Self {
        self.writes.extend(tables);
        self
    }

    /// The same step, giving rows to the stage's outputs.
    #[must_use]
    pub fn emits(mut self) -> Self {
        self.emits = true;
        self
    }

    /// The same step, depending on what [`Global::begin`] saw.
    #[must_use]
    pub fn sees(mut self) -> Self {
        self.sees = true;
        self
    }
}

/// What has been finished of a program.
#[derive(Debug, Clone)]
pub struct Done {
    steps: Vec<BTreeMap<&'static str, u64>>,
    at_once: u64,
}

impl Default for Done {
    fn default() -> Self {
        Self::new(Self::AT_ONCE)
    }
}

impl Done {
    /// Rows of some hundred bytes that fit one task, whatever memory a run was given: so it is no setting.
    pub const AT_ONCE: u64 = 1 << 20;

    /// Nothing is finished yet.
    pub fn new(at_once: u64) -> Self {
        Self { steps: Vec::new(), at_once }
    }

    /// Most rows a program should give to a `Once` step; with more it takes another way to the same result. Tests make it small.
    pub fn at_once(&self) -> u64 {
        self.at_once
    }

    /// How many finished steps declared to write `table`.
    pub fn times(&self, table: &str) -> usize {
        self.steps.iter().filter(|step| step.contains_key(table)).count()
    }

    /// How many steps are finished.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Rows that the last step that declared to write `table` wrote; 0 if none did.
    pub fn rows(&self, table: &str) -> u64 {
        self.steps.iter().rev().find_map(|step| step.get(table)).copied().unwrap_or(0)
    }

    /// Records a finished step: for each table it declared to write, the rows it wrote.
    pub fn finish(&mut self, written: BTreeMap<&'static str, u64>) {
        self.steps.push(written);
    }
}

/// What a program is told before its first step.
#[derive(Debug)]
pub struct Begin<'a> {
    /// The hash of all that its rows depend on so far: settings, seed, the rows that it reads.
    pub plan: &'a str,
    /// What programs of this stage added before, of this output: their plans.
    pub earlier: &'a [String],
    /// Whether the run may add to what outlives it.
    pub adds: bool,
}

/// What a program says to that.
#[derive(Debug, PartialEq, Eq)]
pub struct Begun {
    /// What it saw of what outlives runs; part of what its steps depend on that say so.
    pub seen: String,
    /// The plan, if [`Global::publish`] adds something.
    pub adds: Option<String>,
}

/// A stage that needs to have seen every row.
pub trait Global: Send + Sync {
    /// The tables of the program.
    fn tables(&self) -> Vec<TableSpec>;

    /// Told before the first step: a stage that uses what earlier runs left decides here what of it this run sees, and says so. `None` if it
    /// uses nothing of the kind. Called again with the same plan, by any process, it says the same as long as nobody adds anything.
    ///
    /// # Errors
    /// Only what makes the whole run wrong.
    fn begin(&self, begin: &Begin<'_>) -> Result<Option<Begun>, StageError> {
        let _ = begin;
        Ok(None)
    }

    /// Told when all steps are done and the rows are about to be published: what the program leaves for later runs becomes final. Does nothing
    /// if that was done before. Calls `pass` after each thing that is seen from outside.
    ///
    /// # Errors
    /// What makes the whole run wrong: nothing is published then.
    fn publish(&self, pass: &dyn Fn()) -> Result<(), StageError> {
        let _ = pass;
        Ok(())
    }

    /// The next step, or `None` when the program is finished. A pure function of the finished steps and their counts.
    fn next(&self, done: &Done) -> Option<Step>;

    /// Does a `Shards` step for one shard: its rows in order, and the mail addressed to it.
    ///
    /// # Errors
    /// Only what makes the whole run wrong.
    fn shard(&self, step: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let _ = (shard, out);
        Err(no_such_step(step))
    }

    /// Does a `Ranges` step for one key range: each table's rows sorted by (key, origin).
    ///
    /// # Errors
    /// Only what makes the whole run wrong.
    fn range(&self, step: &Step, range: &mut RangeIn, out: &mut Tables) -> Result<(), StageError> {
        let _ = (range, out);
        Err(no_such_step(step))
    }

    /// Does one part of a `Parts` step.
    ///
    /// # Errors
    /// Only what makes the whole run wrong.
    fn part(&self, step: &Step, part: &mut PartIn, out: &mut Tables) -> Result<(), StageError> {
        let _ = (part, out);
        Err(no_such_step(step))
    }

    /// Does a `Once` step.
    ///
    /// # Errors
    /// Only what makes the whole run wrong.
    fn once(&self, step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        let _ = (all, out);
        Err(no_such_step(step))
    }
}

fn no_such_step(step: &Step) -> StageError {
    StageError::Internal(format!("the program has no code for step `{}` of this kind", step.name))
}

/// Rows of a routed table in (key, origin) order.
#[derive(Debug)]
pub struct Keyed {
    /// The key of each row, ascending; empty for tables of route `Order`.
    pub keys: Vec<u128>,
    /// Which task wrote each row, and as its how manieth: for a `Shards` step, the shard and the order of writing in it.
    pub origins: Vec<RowRef>,
    /// The rows.
    pub batch: RecordBatch,
}

/// Rows addressed to one shard, in (row, origin) order.
#[derive(Debug)]
pub struct MailIn {
    /// The row of the shard each is addressed to, ascending.
    pub rows: Vec<u32>,
    /// The mail.
    pub batch: RecordBatch,
}

/// The rows of one shard, in order.
#[derive(Debug)]
pub struct ShardRows {
    /// The shard's number.
    pub index: u32,
    /// Its rows, in batches of any size.
    pub batches: Vec<RecordBatch>,
}

impl ShardRows {
    /// How many rows it has.
    pub fn n_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The ids of its rows.
    ///
    /// # Errors
    /// If they have no column of ids.
    pub fn ids(&self) -> Result<Ids, StageError> {
        let (mut ids, mut starts, mut n_rows) = (Vec::new(), Vec::new(), 0);
        for batch in &self.batches {
            ids.push(document::ID.try_of(batch)?.clone());
            starts.push(n_rows);
            n_rows += batch.num_rows();
        }
        Ok(Ids { ids, starts })
    }
}

/// The ids of a shard's rows, by row.
#[derive(Debug)]
pub struct Ids {
    ids: Vec<StringArray>,
    /// First row of each array.
    starts: Vec<usize>,
}

impl Ids {
    /// The id of a row; `None` if it has none, or the shard no such row.
    pub fn get(&self, row: u32) -> Option<&str> {
        let row = row as usize;
        let array = self.starts.partition_point(|start| *start <= row).checked_sub(1)?;
        let (ids, row) = (&self.ids[array], row - self.starts[array]);
        (row < ids.len() && ids.is_valid(row)).then(|| ids.value(row))
    }
}

/// What a `Shards` step gets: one shard, and its mail.
#[derive(Debug)]
pub struct ShardIn {
    /// The shard.
    pub shard: ShardRows,
    /// The mail tables the step asked for.
    pub mail: BTreeMap<&'static str, MailIn>,
    /// The broadcast tables the step asked for.
    pub whole: BTreeMap<&'static str, RecordBatch>,
}

impl ShardIn {
    /// Takes the mail of `table`.
    ///
    /// # Errors
    /// [`StageError::Internal`] if the step did not ask for it.
    pub fn take_mail(&mut self, table: &str) -> Result<MailIn, StageError> {
        self.mail.remove(table).ok_or_else(|| StageError::Internal(format!("no mail `{table}` was asked for")))
    }
}

/// Tables a `Ranges` or `Once` step gets, by name.
pub type TablesIn = BTreeMap<&'static str, Keyed>;

/// What a `Ranges` step gets: one key range of each of its tables.
#[derive(Debug)]
pub struct RangeIn {
    /// The range's number, in key order.
    pub index: u32,
    /// The tables the step names, all cut at the same keys.
    pub tables: TablesIn,
    /// The broadcast tables the step asked for.
    pub whole: BTreeMap<&'static str, RecordBatch>,
}

impl RangeIn {
    /// Takes the rows of `table`.
    ///
    /// # Errors
    /// [`StageError::Internal`] if the step does not name it.
    pub fn take(&mut self, table: &str) -> Result<Keyed, StageError> {
        self.tables.remove(table).ok_or_else(|| StageError::Internal(format!("the step does not read table `{table}`")))
    }
}

/// What a `Parts` step gets: the number of the part.
#[derive(Debug)]
pub struct PartIn {
    /// The part's number, from 0; its rows stand before those of the next.
    pub index: u32,
    /// How many of its rows are wanted: all of them, or with `--limit` the first so many. A part may stop there; what it gives beyond is cut off.
    pub wanted: u64,
    /// The broadcast tables the step asked for.
    pub whole: BTreeMap<&'static str, RecordBatch>,
}

/// What a `Once` step gets: whole tables and ports.
#[derive(Debug)]
pub struct WholeIn {
    /// The tables the step names.
    pub tables: TablesIn,
    /// The input ports the step names, in its order: each port's shards in order.
    pub ports: Vec<(Port, Vec<ShardRows>)>,
    /// The broadcast tables the step asked for.
    pub whole: BTreeMap<&'static str, RecordBatch>,
}

/// Rows written to a table by one task, not yet sorted.
#[derive(Debug)]
pub enum TablePart {
    /// For `Key` and `Row` tables: a 128-bit key a row.
    Hashed(Vec<u128>, RecordBatch),
    /// For `Order` tables: a byte string a row.
    Ordered(BinaryArray, RecordBatch),
    /// For `Whole` tables.
    Whole(RecordBatch),
}

/// Where a step puts its rows.
#[derive(Debug)]
pub struct Tables {
    specs: Vec<TableSpec>,
    parts: BTreeMap<&'static str, Vec<TablePart>>,
    emit: Emit,
}

impl Tables {
    /// An empty collector for a program's tables and a stage's outputs.
    pub fn new(specs: Vec<TableSpec>, outputs: Outputs) -> Self {
        Self { specs, parts: BTreeMap::new(), emit: Emit::new(outputs) }
    }

    /// Writes rows to a `Key` table; one key a row.
    ///
    /// # Errors
    /// [`StageError::Internal`] if the table is unknown, has another route or other columns, or the numbers differ.
    pub fn keyed(&mut self, table: &'static str, keys: Vec<u128>, batch: RecordBatch) -> Result<(), StageError> {
        self.check(table, &batch, keys.len(), |route| *route == Route::Key)?;
        self.push(table, TablePart::Hashed(keys, batch));
        Ok(())
    }

    /// Writes rows to an `Order` table; one byte string a row.
    ///
    /// # Errors
    /// As [`Tables::keyed`].
    pub fn ordered(&mut self, table: &'static str, keys: BinaryArray, batch: RecordBatch) -> Result<(), StageError> {
        self.check(table, &batch, keys.len(), |route| *route == Route::Order)?;
        self.push(table, TablePart::Ordered(keys, batch));
        Ok(())
    }

    /// Sends rows of a `Row` table to the rows they are addressed to; one address a row.
    ///
    /// # Errors
    /// As [`Tables::keyed`].
    pub fn mail(&mut self, table: &'static str, to: &[RowRef], batch: RecordBatch) -> Result<(), StageError> {
        self.check(table, &batch, to.len(), |route| matches!(route, Route::Row(_)))?;
        self.push(table, TablePart::Hashed(to.iter().map(|row| row.key()).collect(), batch));
        Ok(())
    }

    /// Writes rows to a `Whole` table.
    ///
    /// # Errors
    /// As [`Tables::keyed`].
    pub fn whole(&mut self, table: &'static str, batch: RecordBatch) -> Result<(), StageError> {
        self.check(table, &batch, batch.num_rows(), |route| *route == Route::Whole)?;
        self.push(table, TablePart::Whole(batch));
        Ok(())
    }

    /// The stage's outputs.
    pub fn emit(&mut self) -> &mut Emit {
        &mut self.emit
    }

    /// What was written, by table, and the stage's outputs.
    pub fn into_parts(self) -> (BTreeMap<&'static str, Vec<TablePart>>, Emit) {
        (self.parts, self.emit)
    }

    fn push(&mut self, table: &'static str, part: TablePart) {
        self.parts.entry(table).or_default().push(part);
    }

    fn check(&self, table: &str, batch: &RecordBatch, keys: usize, route: impl Fn(&Route) -> bool) -> Result<(), StageError> {
        let problem = match self.specs.iter().find(|spec| spec.name == table) {
            None => "the program has no such table".to_owned(),
            Some(spec) if !route(&spec.route) => format!("its route is {:?}", spec.route),
            Some(spec) if spec.schema.fields() != batch.schema().fields() => {
                format!("its columns are {:?}, the rows have {:?}", spec.schema.fields(), batch.schema().fields())
            }
            Some(_) if keys != batch.num_rows() => format!("{keys} keys for {} rows", batch.num_rows()),
            Some(_) => return Ok(()),
        };
        Err(StageError::Internal(format!("wrong write to table `{table}`: {problem}")))
    }
}
