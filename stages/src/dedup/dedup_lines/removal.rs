//! The last step: takes lines out of the rows of a shard, and decides what becomes of the rows.

use std::sync::Arc;

use arrow::array::{Array, Float64Array, RecordBatch, StringBuilder, UInt32Array};
use schemas::document;

use super::pieces::Rest;
use super::removed::{PORT, Removed};
use super::{DedupLines, KeepLine, Line, NAMED_CHARS, Total};
use crate::units::Chars;
use crate::{Dropped, StageError, Tables, Verdict};

/// Works through the rows of a shard in order.
pub(super) struct Removal<'a> {
    stage: &'a DedupLines,
    lines: Vec<Line>,
    totals: Vec<Total>,
    /// Lines that the report names and that no shard before this one holds, with their occurrences.
    named: Vec<(u32, u64)>,
    /// For each piece of each text that is counted, in order, which line it is.
    places: std::vec::IntoIter<u32>,
    /// For each line the last row in which it was met, counted from 1.
    met: Vec<u32>,
    row: u32,
    removed: Removed,
    counts: Counts,
}

/// What the report says of a shard.
#[derive(Default)]
struct Counts {
    texts: u64,
    pieces: u64,
    chars: u64,
}

/// What becomes of a row.
struct Fate {
    verdict: Verdict,
    n_removed: u32,
    share: f64,
}

impl<'a> Removal<'a> {
    pub(super) fn new(stage: &'a DedupLines, lines: Vec<Line>, totals: Vec<Total>, named: Vec<(u32, u64)>, places: Vec<u32>) -> Self {
        let met = vec![0; lines.len()];
        let places = places.into_iter();
        Self { stage, lines, totals, named, places, met, row: 0, removed: Removed::default(), counts: Counts::default() }
    }

    /// The next rows of the shard.
    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Tables) -> Result<(), StageError> {
        let config = &self.stage.config;
        let (texts, ids) = (config.text().try_of(batch)?.clone(), document::ID.try_of(batch)?.clone());
        let mut left = StringBuilder::with_capacity(batch.num_rows(), 0);
        let mut rest = String::new();
        let mut fates: Vec<Option<Fate>> = Vec::with_capacity(batch.num_rows());
        // Rows whose text is written to `left` in any case: from the first on that loses something.
        let mut is_changed = false;
        for (in_batch, text) in texts.iter().enumerate() {
            let fate = match text {
                None => None,
                Some(text) => {
                    let id = ids.is_valid(in_batch).then(|| ids.value(in_batch));
                    let n_removed = self.decide(id, text, &mut rest, out)?;
                    Some(if n_removed == 0 {
                        out.emit().observe(&self.stage.removed_share, 0.0, true);
                        Fate { verdict: Verdict::Keep, n_removed, share: 0.0 }
                    } else {
                        self.judge(text, &rest, n_removed, out)
                    })
                }
            };
            if !is_changed && fate.as_ref().is_some_and(|fate| fate.n_removed > 0) {
                is_changed = true;
                texts.iter().take(in_batch).for_each(|text| left.append_option(text));
            }
            if is_changed {
                let is_whole = fate.as_ref().is_none_or(|fate| fate.n_removed == 0);
                left.append_option(if is_whole { text } else { Some(rest.as_str()) });
            }
            fates.push(fate);
            self.row += 1;
        }
        let mut columns = batch.columns().to_vec();
        if is_changed {
            columns[batch.schema_ref().index_of(config.column.as_str())?] = Arc::new(left.finish());
        }
        if config.add_columns {
            columns.push(Arc::new(fates.iter().map(|fate| Some(fate.as_ref()?.n_removed)).collect::<UInt32Array>()));
            columns.push(Arc::new(fates.iter().map(|fate| Some(fate.as_ref()?.share)).collect::<Float64Array>()));
        }
        let leave = RecordBatch::try_new(Arc::clone(&self.stage.output), columns)?;
        out.emit().split_changed(batch, &leave, fates.into_iter().map(|fate| fate.map_or(Verdict::Keep, |fate| fate.verdict)))
    }

    /// Gives what was gathered of all batches.
    pub(super) fn finish(mut self, out: &mut Tables) -> Result<(), StageError> {
        let Counts { texts, pieces, chars } = self.counts;
        for (name, n) in [("texts that lost some", texts), ("lines or paragraphs", pieces), ("characters", chars)] {
            if n > 0 {
                out.emit().count("removed", name, n);
            }
        }
        out.emit().to(PORT, self.removed.take()?)
    }

    /// Takes out of a text what has to go, and lists it; says how many pieces, of which `left` holds the others if there are any.
    fn decide(&mut self, id: Option<&str>, text: &str, left: &mut String, out: &mut Tables) -> Result<u32, StageError> {
        let config = &self.stage.config;
        let met_here = self.row + 1;
        let mut n_removed = 0;
        let mut rest = Rest::new(text, left);
        for (number, piece) in config.unit.pieces(text).enumerate() {
            let body = &text[piece.body.clone()];
            if !self.stage.is_counted(body) {
                rest.piece(&piece, false);
                continue;
            }
            let missing = || StageError::Internal("a text has other lines than before".to_owned());
            let place = self.places.next().ok_or_else(missing)?;
            let at = place as usize;
            let total = self.totals[at];
            let is_repeat = std::mem::replace(&mut self.met[at], met_here) == met_here;
            let is_first_text = total.is_first && self.lines[at].row == self.row;
            let goes_as_repeat = is_repeat && config.repeats_within;
            let goes_as_common = self.stage.is_common(total) && !(config.survivor == KeepLine::First && is_first_text);
            let goes = goes_as_repeat || goes_as_common;
            rest.piece(&piece, goes);
            if goes {
                n_removed += 1;
                self.removed.push(id, number, piece.body.clone(), text, total);
                if self.removed.is_full() {
                    out.emit().to(PORT, self.removed.take()?)?;
                }
            }
            if is_first_text
                && !is_repeat
                && let Some((_, occurrences)) = self.named.iter().find(|(named, _)| *named == place)
            {
                let name: String = body.trim().chars().take(NAMED_CHARS).collect();
                out.emit().count("removed_most_often", &name, *occurrences);
            }
        }
        rest.finish();
        Ok(n_removed)
    }

    fn judge(&mut self, text: &str, rest: &str, n_removed: u32, out: &mut Tables) -> Fate {
        let config = &self.stage.config;
        let (all, stay, left) = (Chars::of(text), Chars::of(rest), Chars::of(rest.trim()));
        let lost = all.get() - stay.get();
        self.counts.texts += 1;
        self.counts.pieces += u64::from(n_removed);
        self.counts.chars += lost;
        // A piece that is counted is not empty, so the text that loses one is not either.
        let share = lost as f64 / all.get() as f64;
        let verdict = match config.max_removed {
            Some(max) if share > max.get() => Verdict::Drop(Dropped::measured("too_much_removed", share, max.get())),
            _ if left < config.min_left_chars => {
                Verdict::Drop(Dropped::measured("too_short", left.get() as f64, config.min_left_chars.get() as f64))
            }
            _ => Verdict::Keep,
        };
        out.emit().observe(&self.stage.removed_share, share, verdict == Verdict::Keep);
        out.emit().observe(&self.stage.left_chars, left.get() as f64, verdict == Verdict::Keep);
        Fate { verdict, n_removed, share }
    }
}
