//! How rows leave a stage: kept, sent to another port, dropped with a reason, or rejected.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use gpu::Ran;
use schemas::{document, dropped};

use super::measure::{Measure, Measured, Tally};
use crate::{Outputs, Port, StageError};

/// What a stage decides about one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The row goes on.
    Keep,
    /// The row goes to the `dropped` output.
    Drop(Dropped),
}

/// Why a row is dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropped {
    /// The reason, in `snake_case`.
    pub reason: &'static str,
    /// The measured value that decided.
    pub value: Option<f64>,
    /// The threshold it was held against.
    pub threshold: Option<f64>,
    /// The `id` of the kept row that this one duplicates.
    pub duplicate_of: Option<String>,
}

impl Dropped {
    /// A reason with the value and the threshold behind it.
    pub fn measured(reason: &'static str, value: f64, threshold: f64) -> Self {
        Self { reason, value: Some(value), threshold: Some(threshold), duplicate_of: None }
    }
}

/// A row, or a part of a file, that could not be read or processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The row's id, where it has one.
    pub id: Option<String>,
    /// The file it comes from, as ids name it.
    pub file: Option<String>,
    /// Byte offset in the (decompressed) file where it begins, or its row number in a format that has rows.
    pub offset: Option<u64>,
    /// The reason, in `snake_case`.
    pub reason: &'static str,
    /// What was wanted and what was found.
    pub detail: String,
}

/// Collects what leaves a stage while it processes a batch or a shard.
#[derive(Debug)]
pub struct Emit {
    outputs: Outputs,
    batches: Vec<(Port, RecordBatch)>,
    rejections: Vec<Rejection>,
    dropped: BTreeMap<&'static str, u64>,
    figures: Figures,
    tallies: Vec<Tally>,
    /// What other collectors had observed.
    taken_over: BTreeMap<&'static str, Measured>,
    ran: Option<Ran>,
}

/// Counts a stage makes for the report: of each figure, by name.
pub type Figures = BTreeMap<&'static str, BTreeMap<String, u64>>;

impl Emit {
    /// An empty collector for a stage with these outputs.
    pub fn new(outputs: Outputs) -> Self {
        Self {
            outputs,
            batches: Vec::new(),
            rejections: Vec::new(),
            dropped: BTreeMap::new(),
            figures: Figures::new(),
            tallies: Vec::new(),
            taken_over: BTreeMap::new(),
            ran: None,
        }
    }

    /// Gives rows to the main output.
    ///
    /// # Errors
    /// [`StageError::Internal`] if they do not have its schema.
    pub fn rows(&mut self, batch: RecordBatch) -> Result<(), StageError> {
        self.to(Port::OUT, batch)
    }

    /// Gives rows to `port`.
    ///
    /// # Errors
    /// [`StageError::Internal`] if the stage has no such port or the rows do not have its schema.
    pub fn to(&mut self, port: Port, batch: RecordBatch) -> Result<(), StageError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let schema =
            self.outputs.get(&port).ok_or_else(|| StageError::Internal(format!("rows for `{port}`, which the stage does not declare")))?;
        let batch = if port == Port::OUT && self.outputs.is_tagged() { with_tags(batch, schema)? } else { batch };
        let same = schema.fields().len() == batch.num_columns()
            && schema.fields().iter().zip(batch.schema().fields()).all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        if !same {
            return Err(StageError::Internal(format!(
                "rows for `{port}` have columns {:?}, declared are {:?}",
                batch.schema().fields(),
                schema.fields()
            )));
        }
        let batch = RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?;
        self.batches.push((port, batch));
        Ok(())
    }

    /// Gives each row of `batch` to the main output or, with its reason, to `dropped`. One verdict a row, in order.
    ///
    /// # Errors
    /// [`StageError::Internal`] if the verdicts are not as many as the rows.
    pub fn split(&mut self, batch: &RecordBatch, verdicts: impl IntoIterator<Item = Verdict>) -> Result<(), StageError> {
        self.split_changed(batch, batch, verdicts)
    }

    /// [`Emit::split`] of a stage that changes its rows: `came` as they came in and `leave` as they would leave, as many of the same rows.
    ///
    /// # Errors
    /// As [`Emit::split`].
    pub fn split_changed(
        &mut self,
        came: &RecordBatch,
        leave: &RecordBatch,
        verdicts: impl IntoIterator<Item = Verdict>,
    ) -> Result<(), StageError> {
        let mut keep = Vec::with_capacity(came.num_rows());
        let (mut rows, mut dropped) = (Vec::new(), Vec::new());
        for verdict in verdicts {
            match verdict {
                Verdict::Keep => keep.push(true),
                Verdict::Drop(why) => {
                    rows.push(u32::try_from(keep.len()).map_err(|_| StageError::Internal("a batch of over 2^32 rows".to_owned()))?);
                    dropped.push(why);
                    keep.push(false);
                }
            }
        }
        if keep.len() != came.num_rows() || keep.len() != leave.num_rows() {
            let (came, leave) = (came.num_rows(), leave.num_rows());
            return Err(StageError::Internal(format!("{} verdicts for {came} rows that came and {leave} that leave", keep.len())));
        }
        if rows.is_empty() {
            return self.rows(leave.clone());
        }
        if self.outputs.is_tagged() {
            return self.tag_rows(leave, &rows, &dropped);
        }
        self.rows(filter_record_batch(leave, &BooleanArray::from(keep))?)?;
        self.drop_rows(&take_record_batch(came, &UInt32Array::from(rows))?, &dropped)
    }

    /// [`Emit::split`] for rows in several batches; one verdict a row of all of them.
    ///
    /// # Errors
    /// As [`Emit::split`].
    pub fn split_all(&mut self, batches: impl IntoIterator<Item = RecordBatch>, verdicts: Vec<Verdict>) -> Result<(), StageError> {
        let mut verdicts = verdicts.into_iter();
        batches.into_iter().try_for_each(|batch| self.split(&batch, verdicts.by_ref().take(batch.num_rows())))
    }

    /// Gives all rows of `batch` to `dropped`; one reason a row. For a stage of [`Outputs::dropped_apart`]; others use [`Emit::split`].
    ///
    /// # Errors
    /// [`StageError::Internal`] if the reasons are not as many as the rows.
    pub fn drop_rows(&mut self, batch: &RecordBatch, reasons: &[Dropped]) -> Result<(), StageError> {
        if reasons.len() != batch.num_rows() {
            return Err(StageError::Internal(format!("{} reasons for {} rows", reasons.len(), batch.num_rows())));
        }
        self.count_dropped(reasons);
        let schema = self
            .outputs
            .get(&Port::DROPPED)
            .ok_or_else(|| StageError::Internal("rows dropped by a stage that declares no `dropped`".to_owned()))?;
        let earlier = dropped::columns();
        let is_earlier = |name: &str| earlier.iter().any(|reason| reason.name == name);
        let own = batch.schema_ref().fields().iter().zip(batch.columns()).filter(|(field, _)| !is_earlier(field.name()));
        let columns = own.map(|(_, column)| Arc::clone(column)).chain(verdict_columns(&reasons.iter().map(Some).collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(Arc::clone(schema), columns.collect())?;
        self.to(Port::DROPPED, batch)
    }

    /// Gives all rows of `batch` to the main output, those at `rows` with why they would be dropped.
    fn tag_rows(&mut self, batch: &RecordBatch, rows: &[u32], reasons: &[Dropped]) -> Result<(), StageError> {
        self.count_dropped(reasons);
        let mut of_row = vec![None; batch.num_rows()];
        for (row, why) in rows.iter().zip(reasons) {
            of_row[*row as usize] = Some(why);
        }
        let schema = self.outputs.get(&Port::OUT).ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let columns = batch.columns().iter().cloned().chain(verdict_columns(&of_row));
        let batch = RecordBatch::try_new(Arc::clone(schema), columns.collect())?;
        self.to(Port::OUT, batch)
    }

    fn count_dropped(&mut self, reasons: &[Dropped]) {
        for why in reasons {
            *self.dropped.entry(why.reason).or_default() += 1;
        }
    }

    /// Takes a row that could not be processed out of the stream. It is counted against `max_rejected` and kept under `rejected/`.
    pub fn reject(&mut self, rejection: Rejection) {
        self.rejections.push(rejection);
    }

    /// Rejects row `row` of `batch`, with its id.
    pub fn reject_row(&mut self, batch: &RecordBatch, row: usize, reason: &'static str, detail: impl Into<String>) {
        let ids = batch.column_by_name(document::ID.name()).and_then(|ids| ids.as_string_opt::<i32>());
        let id = ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row).to_owned());
        self.reject(Rejection { id, file: None, offset: None, reason, detail: detail.into() });
    }

    /// Adds to a count that the report shows: of `figure`, under `name`.
    pub fn count(&mut self, figure: &'static str, name: &str, n: u64) {
        let counts = self.figures.entry(figure).or_default();
        match counts.get_mut(name) {
            Some(count) => *count = count.saturating_add(n),
            None => drop(counts.insert(name.to_owned(), n)),
        }
    }

    /// Takes in the number that decided about one row, or about one pair of rows: the report draws all of them against the measure's bounds.
    /// `kept` is what became of the row in the end, whichever number decided. Called once for each number, also of rows that are kept.
    pub fn observe(&mut self, measure: &Measure, number: f64, kept: bool) {
        let known = self.tallies.iter().position(|tally| tally.is_of(measure));
        let at = known.unwrap_or_else(|| {
            self.tallies.push(Tally::new(measure));
            self.tallies.len() - 1
        });
        self.tallies[at].take(number, kept);
    }

    /// Says where kernels ran that this batch or task needed. The run counts it, and tells where the processor stepped in for a GPU.
    pub fn ran(&mut self, ran: &Ran) {
        let is_more = match (&self.ran, ran) {
            (None, _) | (Some(Ran::Cpu), Ran::Gpu) => true,
            (Some(before), ran) => matches!(ran, Ran::FellBack(_)) && !matches!(before, Ran::FellBack(_)),
        };
        if is_more {
            self.ran = Some(ran.clone());
        }
    }

    /// Where kernels ran since the last call, if any did: on a GPU if one of them did, and if it failed once, why.
    pub fn take_ran(&mut self) -> Option<Ran> {
        self.ran.take()
    }

    /// Takes over all that `later` holds, behind what is here.
    pub fn append(&mut self, mut later: Emit) {
        self.batches.append(&mut later.batches);
        self.rejections.append(&mut later.rejections);
        for (reason, n) in std::mem::take(&mut later.dropped) {
            *self.dropped.entry(reason).or_default() += n;
        }
        for (figure, counts) in later.take_figures() {
            let own = self.figures.entry(figure).or_default();
            for (name, n) in counts {
                let count = own.entry(name).or_default();
                *count = count.saturating_add(n);
            }
        }
        for (name, measured) in later.take_measured() {
            self.taken_over.entry(name).or_default().merge(measured);
        }
        if let Some(ran) = &later.ran {
            self.ran(ran);
        }
    }

    /// Makes one batch of those of a port that follow each other: what was given row by row costs as little as what was given in batches.
    ///
    /// # Errors
    /// What arrow says.
    pub fn join_batches(&mut self) -> Result<(), StageError> {
        let mut joined: Vec<(Port, RecordBatch)> = Vec::new();
        let mut open: Vec<RecordBatch> = Vec::new();
        let mut batches = std::mem::take(&mut self.batches).into_iter().peekable();
        while let Some((port, batch)) = batches.next() {
            open.push(batch);
            if batches.peek().is_none_or(|(next, _)| *next != port) {
                joined.push((port, concat_batches(&open[0].schema(), &open)?));
                open.clear();
            }
        }
        self.batches = joined;
        Ok(())
    }

    /// Cuts what was given to the main output since the last [`Emit::take_batches`] to its first `rows` rows; how many are left.
    pub fn cut(&mut self, rows: u64) -> u64 {
        let mut left = rows;
        for (_, batch) in self.batches.iter_mut().filter(|(port, _)| *port == Port::OUT) {
            *batch = batch.slice(0, batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX)));
            left -= batch.num_rows() as u64;
        }
        self.batches.retain(|(_, batch)| batch.num_rows() > 0);
        rows - left
    }

    /// What was observed since the last call, by measure; leaves nothing.
    pub fn take_measured(&mut self) -> BTreeMap<&'static str, Measured> {
        let mut measured = std::mem::take(&mut self.taken_over);
        for (name, own) in self.tallies.iter_mut().filter_map(Tally::finish) {
            measured.entry(name).or_default().merge(own);
        }
        measured
    }

    /// What was counted since the last call; leaves nothing.
    pub fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    /// What was given since the last call, in order; leaves nothing.
    pub fn take_batches(&mut self) -> Vec<(Port, RecordBatch)> {
        std::mem::take(&mut self.batches)
    }

    /// What was rejected since the last call; leaves nothing.
    pub fn take_rejections(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.rejections)
    }

    /// Rows dropped or tagged so far, by reason.
    pub fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }
}

/// The columns of [`dropped::columns`] for rows with these reasons; null where there is none.
fn verdict_columns(reasons: &[Option<&Dropped>]) -> [ArrayRef; 4] {
    let of_each = || reasons.iter().copied();
    [
        Arc::new(of_each().map(|why| why.map(|why| why.reason)).collect::<StringArray>()),
        Arc::new(of_each().map(|why| why?.value).collect::<Float64Array>()),
        Arc::new(of_each().map(|why| why?.threshold).collect::<Float64Array>()),
        Arc::new(of_each().map(|why| why?.duplicate_of.as_deref()).collect::<StringArray>()),
    ]
}

/// Rows of the main output of a stage that tags: with columns that say that they passed, unless they have them.
fn with_tags(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, StageError> {
    let own = batch.num_columns();
    if own + dropped::columns().len() != schema.fields().len() {
        return Ok(batch);
    }
    let passed = schema.fields()[own..].iter().map(|field| new_null_array(field.data_type(), batch.num_rows()));
    let fields = batch.schema_ref().fields().iter().chain(&schema.fields()[own..]).cloned().collect::<Vec<_>>();
    let columns = batch.columns().iter().cloned().chain(passed).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
