//! What answers mean for their rows: kept with new columns, dropped with a reason, or rejected.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use datasets::formats::ColumnType;
use schemas::dropped;

use super::Cell;
use super::session::{Answers, Bad};
use crate::{Dropped, Emit, StageError, Verdict};

/// The fields of an answer that say why its row is dropped; the `dropped` output has them as columns.
pub(super) fn about_dropping() -> [(String, ColumnType); 3] {
    let number = ColumnType::Plain(DataType::Float64);
    let [reason, value, threshold] = [dropped::REASON.spec(), dropped::VALUE.spec(), dropped::THRESHOLD.spec()].map(|column| column.name);
    [(reason, ColumnType::Json), (value, number.clone()), (threshold, number)]
}

/// Reads answers: the columns that are added, then `id` if it was sent, then the three about dropping if rows may be dropped.
#[derive(Debug)]
pub(super) struct Judge {
    /// How many columns are added.
    pub(super) adds: usize,
    /// All columns of an answer.
    pub(super) names: Vec<String>,
    /// Where `id` stands among the columns that are sent.
    pub(super) id: Option<usize>,
    /// For what a row may be dropped; empty if it may not.
    pub(super) reasons: Vec<&'static str>,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// One a row.
    outcomes: Vec<Outcome>,
    /// The added columns of those that are not rejected; null where an answer that drops its row has none.
    added: Vec<RecordBatch>,
}

#[derive(Debug)]
enum Outcome {
    Keep,
    Drop(Dropped),
    Reject(Bad),
}

impl Judge {
    /// What the answers to the first of `rows` say, as many as there are.
    ///
    /// # Errors
    /// An answer to another row: then none of them can be trusted.
    pub(super) fn judge(&self, rows: &RecordBatch, answers: &Answers) -> Result<Result<Judged, Bad>, StageError> {
        let ids = self.id.map(|column| (rows.column(column).as_string::<i32>(), answers.rows.column(self.adds).as_string::<i32>()));
        let about = |place: usize| answers.rows.column(self.adds + usize::from(self.id.is_some()) + place);
        let drops = (!self.reasons.is_empty())
            .then(|| (about(0).as_string::<i32>(), about(1).as_primitive::<Float64Type>(), about(2).as_primitive::<Float64Type>()));
        let mut outcomes = Vec::with_capacity(answers.each.len());
        let mut keep = Vec::with_capacity(answers.rows.num_rows());
        for (row, each) in answers.each.iter().enumerate() {
            let lacking = match each {
                Ok(lacking) => lacking,
                Err(bad) => {
                    outcomes.push(Outcome::Reject(bad.clone()));
                    continue;
                }
            };
            let answer = keep.len();
            let lacks_id = ids.is_some() && lacking.contains(&self.adds);
            if let Some((asked, answered)) = ids
                && !lacks_id
                && value(asked, row) != value(answered, answer)
            {
                let shown = |id: Option<&str>| id.map_or_else(|| "null".to_owned(), |id| format!("`{id}`"));
                let detail = format!(
                    "answer {} has id {}, wanted was {}: answers must come in the order of the rows, one each, and nothing else to stdout",
                    row + 1,
                    shown(value(answered, answer)),
                    shown(value(asked, row))
                );
                return Ok(Err(Bad { reason: "wrong_row", detail }));
            }
            let outcome = self.outcome(answer, lacking, lacks_id, drops);
            keep.push(!matches!(outcome, Outcome::Reject(_)));
            outcomes.push(outcome);
        }
        let added = answers.rows.project(&(0..self.adds).collect::<Vec<_>>())?;
        let added = if keep.contains(&false) { filter_record_batch(&added, &BooleanArray::from(keep))? } else { added };
        Ok(Ok(Judged { outcomes, added: vec![added] }))
    }

    fn outcome(
        &self,
        answer: usize,
        lacking: &[usize],
        lacks_id: bool,
        drops: Option<(&arrow::array::StringArray, &arrow::array::Float64Array, &arrow::array::Float64Array)>,
    ) -> Outcome {
        if lacks_id {
            let detail = "the answer has no `id`; it has to repeat the row's, so that no answer is taken for another row's".to_owned();
            return Outcome::Reject(Bad { reason: "missing_column", detail });
        }
        if let Some((reasons, values, thresholds)) = drops
            && let Some(found) = value(reasons, answer)
        {
            let number = |numbers: &arrow::array::Float64Array| numbers.is_valid(answer).then(|| numbers.value(answer));
            let Some(reason) = self.reasons.iter().find(|reason| **reason == found) else {
                let wanted = self.reasons.join(", ");
                let detail = format!("`{}`: wanted null or one of {wanted}, found `{found}`", dropped::REASON.name());
                return Outcome::Reject(Bad { reason: "unknown_reason", detail });
            };
            return Outcome::Drop(Dropped { reason, value: number(values), threshold: number(thresholds), duplicate_of: None });
        }
        match lacking.iter().find(|column| **column < self.adds) {
            Some(column) => {
                let detail = format!("the answer has no `{}`; null stands for no value", self.names[*column]);
                Outcome::Reject(Bad { reason: "missing_column", detail })
            }
            None => Outcome::Keep,
        }
    }
}

fn value(texts: &arrow::array::StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

impl Judged {
    /// A row that got no answer.
    pub(super) fn reject(&mut self, bad: Bad) {
        self.outcomes.push(Outcome::Reject(bad));
    }

    /// Adds the rows that follow.
    pub(super) fn append(&mut self, more: Judged) {
        self.outcomes.extend(more.outcomes);
        self.added.extend(more.added);
    }

    pub(super) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// How many rows from `first` on were rejected, and the last of them.
    pub(super) fn rejected(&self, first: usize) -> (usize, Option<&Bad>) {
        let bad = |outcome: &'_ Outcome| -> bool { matches!(outcome, Outcome::Reject(_)) };
        let outcomes = &self.outcomes[first..];
        let last = outcomes.iter().rev().find_map(|outcome| if let Outcome::Reject(bad) = outcome { Some(bad) } else { None });
        (outcomes.iter().filter(|outcome| bad(outcome)).count(), last)
    }

    /// Bytes that the added columns take.
    pub(super) fn bytes(&self) -> u64 {
        self.added.iter().map(schemas::batch_bytes).sum()
    }

    /// Gives `batch`, the rows that this is about, to where they go.
    pub(super) fn emit(self, batch: &RecordBatch, layout: &[Cell], schema: &SchemaRef, out: &mut Emit) -> Result<(), StageError> {
        if self.outcomes.len() != batch.num_rows() {
            return Err(StageError::Internal(format!("{} answers for {} rows", self.outcomes.len(), batch.num_rows())));
        }
        let is_judged: BooleanArray = self.outcomes.iter().map(|outcome| Some(!matches!(outcome, Outcome::Reject(_)))).collect();
        let came = if is_judged.has_false() { filter_record_batch(batch, &is_judged)? } else { batch.clone() };
        let mut verdicts = Vec::with_capacity(came.num_rows());
        for (row, outcome) in self.outcomes.into_iter().enumerate() {
            match outcome {
                Outcome::Keep => verdicts.push(Verdict::Keep),
                Outcome::Drop(why) => verdicts.push(Verdict::Drop(why)),
                Outcome::Reject(bad) => out.reject_row(batch, row, bad.reason, bad.detail),
            }
        }
        let Some(first) = self.added.first() else { return Ok(()) };
        let added = concat_batches(&first.schema(), &self.added)?;
        if came.num_rows() == 0 {
            return Ok(());
        }
        let columns = layout.iter().map(|cell| match cell {
            Cell::Kept(column) => came.column(*column).clone(),
            Cell::Added(place) => added.column(*place).clone(),
        });
        let leave = RecordBatch::try_new(schema.clone(), columns.collect())?;
        out.split_changed(&came, &leave, verdicts)
    }
}
