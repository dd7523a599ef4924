//! What the rows that leave a stage look like, made row by row: any cut into batches or tasks, merged in any order, gives the same profile.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use schemas::{document, dropped};
use xxhash_rust::xxh3::xxh3_64;

use crate::record::{Profile, Sample};
use crate::show;

/// The column whose values are counted.
const SOURCE: &str = "source";

/// Characters of a value that a sample shows.
const SNIPPET_CHARS: usize = 300;

/// Columns that a sample shows.
const MAX_COLUMNS: usize = 40;

/// Characters of a `source` value that tell it from others.
const SOURCE_CHARS: usize = 200;

/// Makes a [`Profile`] of what leaves a stage.
#[derive(Debug, Default)]
pub struct Profiler {
    profile: Profile,
    last_source: LastSource,
}

impl Profiler {
    /// A profile of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in rows that leave through `out`.
    pub fn kept(&mut self, batch: &RecordBatch) {
        self.lengths(batch);
        self.sources(batch);
        let orders = Orders::new(batch);
        let columns = shown_columns(batch, false);
        for row in 0..batch.num_rows() {
            let order = orders.of(row);
            if is_wanted(&self.profile.kept, Profile::KEPT_SAMPLES, order) {
                insert(&mut self.profile.kept, Profile::KEPT_SAMPLES, sample(batch, &columns, row, order));
            }
        }
    }

    /// Takes in rows that leave through `dropped`: the row's own columns, then the reason.
    pub fn dropped(&mut self, batch: &RecordBatch) {
        let Ok(reasons) = dropped::REASON.try_of(batch) else { return };
        let orders = Orders::new(batch);
        let columns = shown_columns(batch, true);
        for row in 0..batch.num_rows() {
            let order = orders.of(row);
            let reason = if reasons.is_valid(row) { reasons.value(row) } else { "" };
            let samples = match self.profile.dropped.get_mut(reason) {
                Some(samples) => samples,
                None => self.profile.dropped.entry(reason.to_owned()).or_default(),
            };
            if is_wanted(samples, Profile::DROPPED_SAMPLES, order) {
                let mut sample = sample(batch, &columns, row, order);
                let number =
                    |values: &arrow::array::Float64Array| values.is_valid(row).then(|| values.value(row)).filter(|v| v.is_finite());
                sample.drop_value = dropped::VALUE.try_of(batch).ok().and_then(number);
                sample.drop_threshold = dropped::THRESHOLD.try_of(batch).ok().and_then(number);
                sample.duplicate_of =
                    dropped::DUPLICATE_OF.try_of(batch).ok().and_then(|ids| show::text_at(ids, row)).map(|id| show::cut(id, SNIPPET_CHARS));
                insert(samples, Profile::DROPPED_SAMPLES, sample);
            }
        }
    }

    /// The profile of all rows taken in.
    pub fn finish(self) -> Profile {
        self.profile
    }

    fn lengths(&mut self, batch: &RecordBatch) {
        let Some(texts) = batch.column_by_name(document::TEXT.name()).and_then(|texts| texts.as_string_opt::<i32>()) else { return };
        for text in texts.iter().flatten() {
            let chars = count_chars(text);
            let k = u8::try_from(chars.max(1).ilog2()).unwrap_or(u8::MAX);
            *self.profile.lengths.entry(k).or_default() += 1;
        }
    }

    fn sources(&mut self, batch: &RecordBatch) {
        let Some(sources) = batch.column_by_name(SOURCE).and_then(|sources| sources.as_string_opt::<i32>()) else { return };
        for source in sources {
            let source = source.unwrap_or("(none)");
            let source = source.char_indices().nth(SOURCE_CHARS).map_or(source, |(end, _)| &source[..end]);
            add_source(&mut self.profile.sources, &mut self.last_source, source, 1);
        }
    }
}

/// Characters of a text; as `chars().count()`, in a form that compilers turn into vector code.
fn count_chars(text: &str) -> usize {
    // Bytes that do not go on with a character begin one; 255 of them fit a byte.
    let begin = |bytes: &[u8]| bytes.iter().map(|&byte| u8::from(byte & 0xC0 != 0x80)).sum::<u8>();
    text.as_bytes().chunks(240).map(|bytes| usize::from(begin(bytes))).sum()
}

impl Profile {
    /// Values of `source` that are counted one by one.
    pub const MAX_SOURCES: usize = 200;
    /// The rest of them.
    pub const OTHER_SOURCES: &str = "…";
    /// Rows shown of those kept.
    pub const KEPT_SAMPLES: usize = 5;
    /// Rows shown for each reason.
    pub const DROPPED_SAMPLES: usize = 3;

    /// Adds the profile of other rows. The order of merging makes no difference.
    pub fn merge(&mut self, other: Profile) {
        for (k, n) in other.lengths {
            add(self.lengths.entry(k).or_default(), n);
        }
        let mut last = None;
        for (source, n) in other.sources {
            add_source(&mut self.sources, &mut last, &source, n);
        }
        for sample in other.kept {
            insert(&mut self.kept, Profile::KEPT_SAMPLES, sample);
        }
        for (reason, samples) in other.dropped {
            let mine = self.dropped.entry(reason).or_default();
            for sample in samples {
                insert(mine, Profile::DROPPED_SAMPLES, sample);
            }
        }
    }
}

/// The counted source of the largest hash, once there are as many as are counted one by one: the next to go.
type LastSource = Option<(u64, String)>;

/// Counts rows of a source. Which values are counted one by one when there are too many is decided by hash, not by who came first or
/// who is largest: one of the 200 smallest hashes of all is among the smallest of any part too, so it is never lost from a part.
fn add_source(sources: &mut BTreeMap<String, u64>, last: &mut LastSource, source: &str, n: u64) {
    if let Some(rows) = sources.get_mut(source) {
        add(rows, n);
        return;
    }
    let hash = xxh3_64(source.as_bytes());
    if source != Profile::OTHER_SOURCES {
        let named = sources.len() - usize::from(sources.contains_key(Profile::OTHER_SOURCES));
        if last.is_none() && named >= Profile::MAX_SOURCES {
            let counted = sources.keys().filter(|name| *name != Profile::OTHER_SOURCES);
            *last = counted.map(|name| (xxh3_64(name.as_bytes()), name.clone())).max();
        }
        if let Some((last_hash, last_name)) = last.as_ref() {
            let rows = if (hash, source) > (*last_hash, last_name.as_str()) { Some(n) } else { sources.remove(last_name) };
            add(sources.entry(Profile::OTHER_SOURCES.to_owned()).or_default(), rows.unwrap_or_default());
            if sources.contains_key(last_name) {
                return;
            }
            *last = None;
        }
    }
    sources.insert(source.to_owned(), n);
}

pub(crate) fn add(total: &mut u64, n: u64) {
    *total = total.saturating_add(n);
}

/// The hash of each row's id; of the row itself where there is no id.
enum Orders {
    Ids(Vec<u64>),
    None,
}

impl Orders {
    fn new(batch: &RecordBatch) -> Self {
        if let Some(ids) = batch.column_by_name(document::ID.name()).and_then(|ids| ids.as_string_opt::<i32>()) {
            return Self::Ids(ids.iter().map(|id| xxh3_64(id.unwrap_or_default().as_bytes())).collect());
        }
        let reasons = dropped::columns();
        let is_key = |data_type: &DataType| {
            data_type.is_primitive() || matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Boolean)
        };
        let (fields, columns): (Vec<_>, Vec<_>) = batch
            .schema_ref()
            .fields()
            .iter()
            .zip(batch.columns())
            .filter(|(field, _)| is_key(field.data_type()) && !reasons.iter().any(|reason| reason.name == *field.name()))
            .map(|(field, column)| (SortField::new(field.data_type().clone()), std::sync::Arc::clone(column)))
            .unzip();
        if columns.is_empty() {
            return Self::None;
        }
        let rows = RowConverter::new(fields).and_then(|converter| converter.convert_columns(&columns));
        rows.map_or(Self::None, |rows| Self::Ids(rows.iter().map(|row| xxh3_64(row.as_ref())).collect()))
    }

    fn of(&self, row: usize) -> u64 {
        match self {
            Self::Ids(orders) => orders.get(row).copied().unwrap_or_default(),
            Self::None => 0,
        }
    }
}

/// Whether a row of this hash may be among the `max` smallest.
fn is_wanted(samples: &[Sample], max: usize, order: u64) -> bool {
    samples.len() < max || samples.last().is_some_and(|last| order <= last.order)
}

/// Keeps the `max` smallest of `samples` and `sample`, one an id.
fn insert(samples: &mut Vec<Sample>, max: usize, sample: Sample) {
    if let Some(same) = samples.iter_mut().find(|other| other.order == sample.order && other.id == sample.id) {
        if by_order(&sample, same) == Ordering::Less {
            *same = sample;
        }
        return;
    }
    let at = samples.partition_point(|other| by_order(other, &sample) == Ordering::Less);
    if at < max {
        samples.insert(at, sample);
        samples.truncate(max);
    }
}

fn by_order(a: &Sample, b: &Sample) -> Ordering {
    let number = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.is_some().cmp(&b.is_some()),
    };
    (a.order, &a.id)
        .cmp(&(b.order, &b.id))
        .then_with(|| a.values.cmp(&b.values))
        .then_with(|| number(a.drop_value, b.drop_value))
        .then_with(|| number(a.drop_threshold, b.drop_threshold))
        .then_with(|| a.duplicate_of.cmp(&b.duplicate_of))
}

/// The columns that samples show: not the id, which stands above them, and not the reasons.
fn shown_columns(batch: &RecordBatch, dropped: bool) -> Vec<usize> {
    let reasons = if dropped { dropped::columns().map(|column| column.name).to_vec() } else { Vec::new() };
    let is_shown = |name: &String| name != document::ID.name() && !reasons.contains(name);
    let schema = batch.schema_ref();
    (0..batch.num_columns()).filter(|&i| is_shown(schema.field(i).name())).take(MAX_COLUMNS).collect()
}

fn sample(batch: &RecordBatch, columns: &[usize], row: usize, order: u64) -> Sample {
    let schema = batch.schema_ref();
    let values = columns.iter().map(|&i| (schema.field(i).name().clone(), show::cell(batch.column(i), row, SNIPPET_CHARS))).collect();
    let id = batch.column_by_name(document::ID.name()).map(|ids| show::cell(ids, row, SNIPPET_CHARS)).unwrap_or_default();
    Sample { order, id, values, drop_value: None, drop_threshold: None, duplicate_of: None }
}

/// Adds up maps of counts.
pub(crate) fn add_counts(totals: &mut BTreeMap<String, u64>, others: BTreeMap<String, u64>) {
    for (name, n) in others {
        add(totals.entry(name).or_default(), n);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, UInt32Array};
    use arrow::compute::take_record_batch;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn characters_are_counted_as_the_standard_library_does(text in "(?s).{0,600}") {
            prop_assert_eq!(count_chars(&text), text.chars().count());
        }
    }

    /// Rows with some repeated ids, `n_sources` sources, three reasons.
    fn rows(n: usize, n_sources: usize) -> RecordBatch {
        let column = |f: &dyn Fn(usize) -> Option<String>| Arc::new((0..n).map(f).collect::<StringArray>()) as ArrayRef;
        let number = |f: &dyn Fn(usize) -> Option<f64>| Arc::new((0..n).map(f).collect::<Float64Array>()) as ArrayRef;
        RecordBatch::try_from_iter_with_nullable([
            ("id", column(&|i| (i % 97 != 5).then(|| format!("pages/a.jsonl@{}", i - i % 3))), true),
            ("text", column(&|i| (i % 11 != 0).then(|| "é".repeat(i * i % 700))), true),
            ("source", column(&|i| (i % 13 != 0).then(|| format!("site{}", i * 7 % n_sources))), true),
            ("drop_reason", column(&|i| Some(["too_short", "too_long", "duplicate"][i % 3].to_owned())), true),
            ("drop_value", number(&|i| Some(i as f64)), true),
            ("drop_threshold", number(&|i| (i % 2 == 0).then_some(200.0)), true),
            ("duplicate_of", column(&|i| (i % 3 == 2).then(|| format!("row{}", i / 2))), true),
        ])
        .expect("columns of one length")
    }

    fn kept_columns(batch: &RecordBatch) -> RecordBatch {
        batch.project(&[0, 1, 2]).expect("three columns")
    }

    fn profile(batches: &[RecordBatch]) -> Profile {
        let mut profiler = Profiler::new();
        for batch in batches {
            profiler.kept(&kept_columns(batch));
            profiler.dropped(batch);
        }
        profiler.finish()
    }

    fn cut_into(batch: &RecordBatch, size: usize) -> Vec<RecordBatch> {
        (0..batch.num_rows()).step_by(size).map(|at| batch.slice(at, size.min(batch.num_rows() - at))).collect()
    }

    #[test]
    fn a_profile_counts_characters_sources_and_picks_rows_by_hash() {
        let profile = profile(&[rows(20, 3)]);
        // 0 and 1 characters fall in the same bucket; two of twenty texts are null.
        assert_eq!(profile.lengths.values().sum::<u64>(), 18);
        assert_eq!(profile.lengths.get(&6), Some(&3)); // 81, 64 and 100 characters
        assert_eq!(profile.sources.get("(none)"), Some(&2));
        assert_eq!(profile.kept.len(), 5);
        assert!(profile.kept.is_sorted_by_key(|sample| sample.order));
        assert_eq!(profile.kept[0].order, xxh3_64(profile.kept[0].id.as_bytes()));
        assert_eq!(profile.kept[0].values.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["text", "source"]);
        assert_eq!(profile.dropped.keys().collect::<Vec<_>>(), ["duplicate", "too_long", "too_short"]);
        assert!(profile.dropped.values().all(|samples| samples.len() == 3));
        assert!(profile.dropped["duplicate"].iter().all(|sample| sample.duplicate_of.is_some()));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let profile = profile(&[rows(2000, 3)]);
        let longest = profile.kept.iter().chain(profile.dropped.values().flatten()).map(|s| s.values[0].1.chars().count()).max();
        assert_eq!(longest, Some(SNIPPET_CHARS + 1));
    }

    #[test]
    fn rows_without_id_text_or_source_have_a_profile() {
        let numbers: ArrayRef = Arc::new(Int64Array::from((0..50).collect::<Vec<_>>()));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
        let mut whole = Profiler::new();
        whole.kept(&batch);
        let mut cut = Profiler::new();
        for batch in cut_into(&batch, 7) {
            cut.kept(&batch);
        }
        let whole = whole.finish();
        assert_eq!(whole.kept.len(), 5);
        assert!(whole.lengths.is_empty() && whole.sources.is_empty());
        assert_eq!(whole, cut.finish());
    }

    #[test]
    fn sources_past_the_cap_are_counted_together_whoever_comes_first() {
        let batch = rows(1500, 450);
        let whole = profile(std::slice::from_ref(&batch));
        assert_eq!(whole.sources.len(), Profile::MAX_SOURCES + 1);
        assert!(whole.sources[Profile::OTHER_SOURCES] > 0);
        assert_eq!(whole.sources.values().sum::<u64>(), 1500);
    }

    #[test]
    fn counts_of_a_hostile_record_do_not_overflow() {
        let mut profile = Profile { lengths: [(3, u64::MAX)].into(), sources: [("a".to_owned(), u64::MAX)].into(), ..Profile::default() };
        profile.merge(profile.clone());
        assert_eq!((profile.lengths[&3], profile.sources["a"]), (u64::MAX, u64::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_profile_does_not_depend_on_batches_or_merge_order(
            n in 1usize..1500, n_sources in 1usize..450, order in Just((0..1500u32).collect::<Vec<_>>()).prop_shuffle(), tasks in 1usize..9,
        ) {
            let batch = rows(n, n_sources);
            let expected = profile(std::slice::from_ref(&batch));
            for size in [1, 7, 1000] {
                prop_assert_eq!(&profile(&cut_into(&batch, size)), &expected);
            }
            let shuffled = UInt32Array::from(order.into_iter().filter(|&i| (i as usize) < n).collect::<Vec<_>>());
            let shuffled = take_record_batch(&batch, &shuffled).expect("rows of the batch");
            let mut merged = Profile::default();
            for task in cut_into(&shuffled, n.div_ceil(tasks)) {
                merged.merge(profile(&cut_into(&task, 7)));
            }
            prop_assert_eq!(&merged, &expected);
            let mut reversed = Profile::default();
            for task in cut_into(&shuffled, n.div_ceil(tasks)).into_iter().rev() {
                let mut part = profile(&[task]);
                part.merge(reversed);
                reversed = part;
            }
            prop_assert_eq!(&reversed, &expected);
        }
    }
}
