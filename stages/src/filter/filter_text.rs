//! `filter_text`: drops texts by published sets of rules, and says by which.

mod c4;
mod lines;
mod ngrams;
mod rules;
mod scan;
mod settings;
mod stats;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use self::c4::REMOVED;
use self::rules::Plan;
use self::scan::Scan;
use self::settings::{C4, Fineweb, GopherQuality, GopherRepetition, Limit, RuleSet, SlimpajamaShort};
use self::stats::{Stat, Stats};
use crate::stage::add_columns;
use crate::text::splitter::WordRules;
use crate::units::ColumnName;
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Outputs, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Drops texts by sets of rules that others have published and made training data with.
///
/// `rules` lists the sets in the order in which they decide; within a set, rules decide in the published order. Each set has a setting of its own name,
/// in which a threshold can be moved or switched off:
/// `rules: [gopher_quality, c4]` and `gopher_quality: {min_words: 30, max_hash_ratio: off}`. A rule that is off costs nothing.
///
/// A dropped row's reason is the name of the setting that decided, with the number found and the threshold: `min_words`, 12, 50. Other reasons are
/// `lorem_ipsum` and `curly_bracket` of C4, `empty` where the text has no line for a rule to judge, and `no_text` where it is null. A number equal to its
/// threshold passes.
///
/// `c4` removes lines too: sets behind it in `rules` judge what is left, and that is what a row that passes holds. A row that is dropped keeps its text.
/// How many lines went, and why, is in `run.json` under `c4_removed_lines`.
///
/// With the same words, each set decides as datatrove 0.10.1 does (`tests/compare/filters`). datatrove counts the words of spaCy, to which each
/// punctuation mark is a word, so that its `min_alphabetic_words` alone drops 55 % of a mix of mails, manuals, web pages and source code: that is
/// `words: spacy_en`. By default punctuation does not count.
///
/// FineWeb is `rules: [gopher_repetition, gopher_quality, c4, fineweb]` with `c4: {terminal_punctuation: false}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterTextConfig {
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// The sets of rules, the one that decides first in front.
    #[schemars(length(min = 1))]
    pub rules: Vec<RuleSet>,
    /// What a word is.
    #[serde(default)]
    pub words: WordRules,
    /// Thresholds of `gopher_quality`. Source: Rae et al. 2021, arXiv:2112.11446, §A.1.1.
    #[serde(default)]
    pub gopher_quality: GopherQuality,
    /// Thresholds of `gopher_repetition`. Source: the same, table A1. A repetition is every occurrence but the first; shares of characters are of all
    /// characters of the text.
    #[serde(default)]
    pub gopher_repetition: GopherRepetition,
    /// Rules of `c4`; each line is held against them in this order. The paper's list of bad words is not among them. Source: Raffel et al., JMLR 21, 2020,
    /// §2.2, and the code that made C4.
    #[serde(default)]
    pub c4: C4,
    /// Thresholds of `fineweb`; lines of white space alone do not count. Source: Penedo et al. 2024, arXiv:2406.17557, §3.6, with the numbers of the code.
    #[serde(default)]
    pub fineweb: Fineweb,
    /// The rule of `slimpajama_short`: lower case, no ASCII punctuation, each run of white space one space. Source: Soboleva et al. 2023, and the code.
    #[serde(default)]
    pub slimpajama_short: SlimpajamaShort,
    /// Keeps the numbers that rules decide by as columns, of kept and dropped rows: `true` for those of all rules that are on, or a list of names. A
    /// threshold can then be moved later without going through the texts again. Null where the text is.
    #[serde(default)]
    pub stats: KeepStats,
}

/// Which statistics are kept as columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum KeepStats {
    /// All or none.
    All(bool),
    /// These.
    Some(Vec<Stat>),
}

impl Default for KeepStats {
    fn default() -> Self {
        Self::All(false)
    }
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

impl StageConfig for FilterTextConfig {
    const NAME: &'static str = "filter_text";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str =
        "{use: filter_text, from: pages, rules: [gopher_quality, c4], gopher_quality: {min_words: 8, min_stop_words: 1}}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        let mut columns = vec![document::TEXT.named(self.column.as_str()).spec()];
        if let Some(source) = self.source() {
            columns.push(source.spec());
        }
        columns
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        let of = |stat: &Stat| ColumnSpec {
            name: stat.name().to_owned(),
            data_type: if stat.is_count() { DataType::Int64 } else { DataType::Float64 },
            nullable: true,
            description: stat.what().to_owned(),
        };
        self.kept_stats().iter().map(of).collect()
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        self.check()?;
        let out = add_columns(cx.input()?, &self.adds())?;
        Ok(Outputs::new(Arc::clone(&out)).with_dropped(&out)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        self.check()?;
        let stats = self.kept_stats();
        let schema = add_columns(cx.input()?, &self.adds())?;
        let plan = Plan::new(self, &stats);
        Ok(Stage::RowLocal(Box::new(FilterText { config: self.clone(), plan, stats, schema, scans: Mutex::default() })))
    }
}

impl FilterTextConfig {
    /// The column of sources, if it is read.
    fn source(&self) -> Option<Column<StringArray>> {
        let short = &self.slimpajama_short;
        let is_read = self.rules.contains(&RuleSet::SlimpajamaShort) && !short.exempt_sources.is_empty();
        is_read.then(|| Column::new("source", DataType::Utf8, "where the row is from").named(short.source_column.as_str()))
    }

    /// The statistics that become columns, in the order of their rules or as listed.
    fn kept_stats(&self) -> Vec<Stat> {
        match &self.stats {
            KeepStats::All(false) => Vec::new(),
            KeepStats::All(true) => Plan::decided_by(self),
            KeepStats::Some(stats) => stats.clone(),
        }
    }

    fn check(&self) -> Result<(), StageError> {
        if self.rules.is_empty() {
            return Err(StageError::setting("rules", "wanted at least one set of rules, found an empty list"));
        }
        if let Some(twice) = twice(&self.rules) {
            return Err(StageError::setting("rules", format!("wanted each set once, found `{}` twice", twice.name())));
        }
        let changed = [
            (RuleSet::GopherQuality, self.gopher_quality != GopherQuality::default()),
            (RuleSet::GopherRepetition, self.gopher_repetition != GopherRepetition::default()),
            (RuleSet::C4, self.c4 != C4::default()),
            (RuleSet::Fineweb, self.fineweb != Fineweb::default()),
            (RuleSet::SlimpajamaShort, self.slimpajama_short != SlimpajamaShort::default()),
        ];
        if let Some((set, _)) = changed.into_iter().find(|(set, is_changed)| *is_changed && !self.rules.contains(set)) {
            let name = set.name();
            return Err(StageError::setting(name, format!("wanted with `{name}` in `rules`, which has {}", listed(&self.rules))));
        }
        let quality = &self.gopher_quality;
        not_above("gopher_quality.max_words", quality.max_words, "gopher_quality.min_words", quality.min_words)?;
        let (least, most) = ("gopher_quality.min_mean_word_length", "gopher_quality.max_mean_word_length");
        not_above(most, quality.max_mean_word_length, least, quality.min_mean_word_length)?;
        if let Limit::At(wanted) = quality.min_stop_words {
            let n = quality.stop_words.len();
            if let Some(twice) = twice(&quality.stop_words) {
                return Err(StageError::setting("gopher_quality.stop_words", format!("wanted each word once, found `{twice}` twice")));
            }
            if wanted > n as u64 {
                return Err(StageError::setting(
                    "gopher_quality.min_stop_words",
                    format!("wanted at most the number of `stop_words`, which is {n}, found {wanted}"),
                ));
            }
        }
        if let KeepStats::Some(stats) = &self.stats {
            if let Some(twice) = twice(stats) {
                return Err(StageError::setting("stats", format!("wanted each statistic once, found `{}` twice", twice.name())));
            }
            if let Some(other) = stats.iter().find(|stat| !self.rules.contains(&stat.set())) {
                let (name, set) = (other.name(), other.set().name());
                return Err(StageError::setting("stats", format!("`{name}` wants `{set}` in `rules`, which has {}", listed(&self.rules))));
            }
        }
        Ok(())
    }
}

fn twice<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter().enumerate().find(|(at, one)| all[..*at].contains(one)).map(|(_, one)| one)
}

fn listed(rules: &[RuleSet]) -> String {
    rules.iter().map(|set| format!("`{}`", set.name())).collect::<Vec<_>>().join(", ")
}

fn not_above<T: PartialOrd + Copy + Serialize>(most: &str, of_most: Limit<T>, least: &str, of_least: Limit<T>) -> Result<(), StageError> {
    match (of_most, of_least) {
        (Limit::At(a), Limit::At(b)) if a < b => {
            let number = |number: T| serde_json::to_string(&number).unwrap_or_default();
            let least = least.rsplit('.').next().unwrap_or_default();
            Err(StageError::setting(most, format!("wanted at least `{least}`, which is {}, found {}", number(b), number(a))))
        }
        _ => Ok(()),
    }
}

struct FilterText {
    config: FilterTextConfig,
    plan: Plan,
    stats: Vec<Stat>,
    schema: arrow::datatypes::SchemaRef,
    /// Buffers that no batch uses at the moment.
    scans: Mutex<Vec<Scan>>,
}

impl RowLocal for FilterText {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let spare = self.scans.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scan = spare.unwrap_or_else(|| Scan::new(self.config.words));
        let done = self.judge(&batch, &mut scan, out);
        scan.cleaned.shrink();
        self.scans.lock().unwrap_or_else(PoisonError::into_inner).push(scan);
        done
    }
}

impl FilterText {
    fn judge(&self, batch: &RecordBatch, scan: &mut Scan, out: &mut Emit) -> Result<(), StageError> {
        let column = document::TEXT.named(self.config.column.as_str());
        let texts = column.try_of(batch)?;
        let sources = self.config.source().map(|source| source.try_of(batch).cloned()).transpose()?;
        let is_exempt = |row: usize| {
            let source = sources.as_ref().filter(|sources| sources.is_valid(row)).map(|sources| sources.value(row));
            source.is_some_and(|source| self.config.slimpajama_short.exempt_sources.iter().any(|exempt| exempt == source))
        };
        let mut verdicts = Vec::with_capacity(batch.num_rows());
        let mut numbers: Vec<Vec<f64>> = vec![Vec::with_capacity(batch.num_rows()); self.stats.len()];
        let mut changed = self.plan.changes_text().then(|| StringBuilder::with_capacity(texts.len(), texts.value_data().len()));
        for (row, text) in texts.iter().enumerate() {
            let mut stats = Stats::NONE;
            let why = match text {
                None => Some(Dropped { reason: "no_text", value: None, threshold: None, duplicate_of: None }),
                Some(text) => self.plan.judge(text, is_exempt(row), scan, &mut stats),
            };
            for (stat, measure) in &self.plan.measures {
                let number = stats.get(*stat);
                if !number.is_nan() {
                    out.observe(measure, number, why.is_none());
                }
            }
            for (numbers, stat) in numbers.iter_mut().zip(&self.stats) {
                numbers.push(stats.get(*stat));
            }
            if let Some(changed) = &mut changed {
                changed.append_option(text.map(|text| if why.is_none() { scan.cleaned.text() } else { text }));
            }
            verdicts.push(why.map_or(Verdict::Keep, Verdict::Drop));
        }
        for (why, lines) in REMOVED.iter().zip(std::mem::take(&mut scan.cleaned.removed)) {
            if lines > 0 {
                out.count("c4_removed_lines", why, lines);
            }
        }
        if changed.is_none() && self.stats.is_empty() {
            return out.split(batch, verdicts);
        }
        let columns = self.stats.iter().zip(numbers).map(|(stat, numbers)| column_of(*stat, numbers));
        let columns: Vec<ArrayRef> = batch.columns().iter().cloned().chain(columns).collect();
        let came = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let Some(mut changed) = changed else { return out.split(&came, verdicts) };
        let at = batch.schema_ref().index_of(self.config.column.as_str())?;
        let mut columns = came.columns().to_vec();
        columns[at] = Arc::new(changed.finish());
        let leave = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        out.split_changed(&came, &leave, verdicts)
    }
}

/// The column of a statistic; null where it is NaN.
#[expect(clippy::cast_possible_truncation, reason = "whole numbers below 2^53")]
fn column_of(stat: Stat, numbers: Vec<f64>) -> ArrayRef {
    let known = numbers.into_iter().map(|number| (!number.is_nan()).then_some(number));
    if stat.is_count() {
        Arc::new(known.map(|number| number.map(|number| number as i64)).collect::<Int64Array>())
    } else {
        Arc::new(known.collect::<Float64Array>())
    }
}

#[cfg(test)]
mod tests;
