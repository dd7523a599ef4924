//! `dedup_minhash`: keeps one row of each cluster of near-duplicates, every link between them verified.

mod decided;
#[cfg(test)]
mod incremental;
mod indexed;
mod program;
mod tables;
mod texts;
mod views;

use std::collections::HashMap;
use std::num::NonZeroU32;

use arrow::datatypes::DataType;
use datasets::remote::Address;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use self::program::{DedupMinhash, source_hash};
use self::views::{Clusters, Decisions, Edges};
use super::index::{Index, Settings};
use super::minhash::bands::Bands;
use super::minhash::shingle::{ShingleUnit, Shingler};
use super::minhash::signature::{Datasketch, Signer};
use crate::stage::add_columns;
use crate::units::{ColumnName, Fraction};
use crate::{BuildContext, Inputs, Kind, Measure, Outputs, Port, Stage, StageConfig, StageError};

/// The rows of clusters: which row hangs on which.
pub(super) const CLUSTERS: Port = Port::new("clusters");

/// The links between rows.
pub(super) const EDGES: Port = Port::new("edges");

/// Keeps one row of each cluster of near-duplicates, and drops the others.
///
/// Texts are cut into shingles; two texts are as alike as their sets of shingles are (Jaccard similarity: shared shingles over all of both).
/// MinHash finds pairs that may be alike without comparing every text with every other, and each pair it finds is then compared in full: with
/// `verify: jaccard`, no row is dropped unless a chain of pairs of at least `jaccard_threshold` leads from it to the row that is kept. What is
/// kept depends on the rows alone, not on threads, memory or the order of files.
///
/// A row without text, or whose text has no word, is never a duplicate.
///
/// Reason: `near_duplicate`, with the similarity to the next row of the chain as value, and the `id` of the row kept in `duplicate_of`. The
/// output `clusters` holds every row of every cluster, with the row it hangs on; the output `edges` every pair that links two rows, but of
/// equal texts only those with the row that is kept of them.
///
/// With `scope: both` nothing is dropped: six columns say of each row whether it would be kept among all rows and among those of its source, in
/// place of which row it goes (`global_kept`, `global_duplicate_of`, `global_cluster_size`, and the same for `local`).
///
/// Source: Broder, *On the resemblance and containment of documents*, 1997; Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, §3.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupMinhashConfig {
    /// The column that is compared.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// Published settings for all that is not set here: shingles, bands, and whether pairs are verified.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// What a shingle is made of; by default words.
    #[serde(default)]
    pub shingle: Option<ShingleUnit>,
    /// How many units a shingle has; by default 5.
    #[serde(default)]
    pub ngram: Option<NonZeroU32>,
    /// How alike two texts must be to be duplicates.
    #[serde(default = "default_threshold")]
    pub jaccard_threshold: Fraction,
    /// Most values a signature may have where `bands` and `rows` are not set.
    #[serde(default = "default_permutations")]
    pub permutations: NonZeroU32,
    /// Bands of the signature; with `rows`. By default the bands that find a pair right at `jaccard_threshold` with a chance of 98 %.
    #[serde(default)]
    pub bands: Option<NonZeroU32>,
    /// Signature values in a band.
    #[serde(default)]
    pub rows: Option<NonZeroU32>,
    /// Whether pairs that MinHash finds are compared in full.
    #[serde(default)]
    pub verify: Option<Verify>,
    /// Whether rows of different sources can be duplicates of each other.
    #[serde(default)]
    pub scope: MinhashScope,
    /// The column that says which source a row is from. Needed for `scope: local`, `scope: both` and `source_priority`.
    #[serde(default = "default_source_column")]
    pub source_column: ColumnName,
    /// Sources whose rows are kept rather than others', best first. Sources not listed come last, all alike.
    #[serde(default)]
    pub source_priority: Vec<String>,
    /// Which row of a cluster is kept, among those of the best source.
    #[serde(default)]
    pub survivor: Survivor,
    /// A folder or an address (`s3://…`) with what earlier runs kept; made by the first run. The rows are compared with those too, which always
    /// survive, and those that are kept are added. Each month then costs the month. Not with `scope: both`. What exactly is kept, and what happens
    /// if a run is repeated, killed, or meets another one: `docs/incremental.md`.
    #[serde(default)]
    pub index: Option<String>,
    /// The run stops, before anything is dropped, if one cluster holds a larger share of all rows (and over 1,000 of them).
    #[serde(default = "default_max_cluster")]
    pub max_cluster: Fraction,
    /// The run stops, before anything is dropped, if a source would lose a larger share of its rows (and over 1,000 of them).
    #[serde(default = "default_max_source_loss")]
    pub max_source_loss: Fraction,
}

/// Published settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Preset {
    /// FineWeb's: 5 words, 14 bands of 8 rows. Its own tokenizer and hash are not reproduced.
    Fineweb,
    /// SlimPajama's: 13 characters, 9 bands of 13 rows, not verified; signatures equal to the published code's bit for bit.
    Slimpajama,
}

/// Whether pairs are compared in full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Verify {
    /// Each pair's Jaccard similarity is computed from all shingles of both texts.
    #[default]
    Jaccard,
    /// A shared band is enough: what most tools do, for the sake of comparison.
    None,
}

/// Which rows can be duplicates of each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MinhashScope {
    /// All.
    #[default]
    Global,
    /// Those of one source; rows without a source count as one.
    Local,
    /// Both are worked out, from the same signatures, and written to columns. Nothing is dropped, and no guard stops the run.
    Both,
}

/// Which row of a cluster is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Survivor {
    /// The first in the order of the rows.
    #[default]
    First,
    /// The one with the longest text; of equally long ones the first.
    Longest,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn default_source_column() -> ColumnName {
    ColumnName::new("source")
}

fn default_threshold() -> Fraction {
    Fraction::new(0.8).expect("0.8 is a fraction")
}

fn default_max_cluster() -> Fraction {
    Fraction::new(0.2).expect("0.2 is a fraction")
}

fn default_max_source_loss() -> Fraction {
    Fraction::new(0.9).expect("0.9 is a fraction")
}

fn default_permutations() -> NonZeroU32 {
    const { NonZeroU32::new(128).expect("128 is not zero") }
}

impl StageConfig for DedupMinhashConfig {
    const NAME: &'static str = "dedup_minhash";
    const VERSION: u32 = 3;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: dedup_minhash, from: pages, jaccard_threshold: 0.8}";
    const TAGS: bool = true;
    const PLACES: &'static [&'static str] = &["index"];

    fn reads(&self) -> Vec<ColumnSpec> {
        let mut columns = vec![document::ID.spec(), document::TEXT.named(self.column.as_str()).spec()];
        if self.needs_source() {
            columns.push(document::TEXT.named(self.source_column.as_str()).spec());
        }
        columns
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        let both = self.scope == MinhashScope::Both;
        let outputs = if both {
            Outputs::new(add_columns(input, &Decisions::columns())?)
        } else {
            Outputs::new(input.clone()).with_dropped(input)?
        };
        Ok(outputs.with(CLUSTERS, Clusters::schema(both)).with(EDGES, Edges::schema()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let mut priority = HashMap::new();
        for (rank, name) in (0_u32..).zip(&self.source_priority) {
            if priority.insert(source_hash(Some(name)), rank).is_some() {
                return Err(StageError::setting("source_priority", format!("wanted each source once, found `{name}` twice")));
            }
        }
        let bands = self.bands()?;
        let shingler = self.shingler();
        let scheme = if self.preset == Some(Preset::Slimpajama) {
            Scheme::Slimpajama(Datasketch::new(bands.n_hashes()), shingler.n)
        } else {
            Scheme::Fast(Signer::new(bands.n_hashes(), cx.seed))
        };
        let input = cx.input()?;
        let output = if self.scope == MinhashScope::Both { add_columns(input, &Decisions::columns())? } else { input.clone() };
        let verify = self.verify() == Verify::Jaccard;
        Ok(Stage::Global(Box::new(DedupMinhash {
            verify,
            has_source: input.field_with_name(self.source_column.as_str()).is_ok_and(|field| *field.data_type() == DataType::Utf8),
            similarity: Measure::new("similarity", "Jaccard similarity")
                .of_pairs()
                .at_least("jaccard_threshold", self.jaccard_threshold.get()),
            thresholds: self.thresholds(bands, verify),
            index: self.index(cx, bands)?,
            config: self.clone(),
            output,
            shingler,
            scheme,
            bands,
            priority,
        })))
    }
}

/// Raised when a text gets other shingles, another signature or other band keys than before: an index made before cannot be used then.
const HASHES: u32 = 1;

/// A value of a setting as it stands in a pipeline file.
fn text_of(value: &impl Serialize) -> Result<String, StageError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        other => Err(StageError::Internal(format!("a setting is no text: {other:?}"))),
    }
}

/// How signatures are made.
pub(super) enum Scheme {
    /// From the shingles' hashes.
    Fast(Signer),
    /// As the published SlimPajama code makes them, with grams of so many characters.
    Slimpajama(Datasketch, usize),
}

impl DedupMinhashConfig {
    fn needs_source(&self) -> bool {
        self.scope != MinhashScope::Global || !self.source_priority.is_empty()
    }

    /// The threshold, then higher ones at which the bands find nine of ten pairs, so that what would be removed there can be told.
    fn thresholds(&self, bands: Bands, verify: bool) -> Vec<f64> {
        let own = self.jaccard_threshold.get();
        let higher = (1..20).map(|twentieth| f64::from(twentieth) / 20.0).filter(|at| verify && *at > own + 0.01);
        std::iter::once(own).chain(higher.filter(|at| bands.share_a_band(*at) >= 0.9)).collect()
    }

    /// Opens the index, and tells of it.
    fn index(&self, cx: &BuildContext, bands: Bands) -> Result<Option<Index>, StageError> {
        let Some(place) = &self.index else { return Ok(None) };
        if place.is_empty() {
            return Err(StageError::setting("index", "wanted a folder or an address, found an empty text"));
        }
        if self.scope == MinhashScope::Both {
            let problem = "wanted no index with `scope: both`, which drops nothing: there is nothing to add to it";
            return Err(StageError::setting("index", problem));
        }
        let path = match Address::parse(place) {
            Some(Ok(address)) => address.to_string().into(),
            Some(Err(problem)) => return Err(StageError::setting("index", problem)),
            None => cx.base_dir.join(place),
        };
        let shingler = self.shingler();
        let is_slimpajama = self.preset == Some(Preset::Slimpajama);
        let settings = Settings {
            hashes: HASHES,
            signatures: if is_slimpajama { "slimpajama" } else { "granary" }.to_owned(),
            shingle: text_of(&shingler.unit)?,
            ngram: shingler.n,
            bands: bands.bands,
            rows: bands.rows,
            seed: (!is_slimpajama).then_some(cx.seed),
            scope: text_of(&self.scope)?,
            verify: text_of(&self.verify())?,
        };
        let (index, told) = Index::open(&path, settings)?;
        cx.note(told);
        Ok(Some(index))
    }

    fn verify(&self) -> Verify {
        let preset = if self.preset == Some(Preset::Slimpajama) { Verify::None } else { Verify::Jaccard };
        self.verify.unwrap_or(preset)
    }

    fn shingler(&self) -> Shingler {
        let (unit, n) = match self.preset {
            Some(Preset::Slimpajama) => (ShingleUnit::Characters, 13),
            Some(Preset::Fineweb) | None => (ShingleUnit::Words, 5),
        };
        Shingler { unit: self.shingle.unwrap_or(unit), n: self.ngram.map_or(n, |n| n.get() as usize) }
    }

    fn bands(&self) -> Result<Bands, StageError> {
        const MOST: u32 = 4096;
        let bands = match (self.bands, self.rows, self.preset) {
            (Some(bands), Some(rows), _) => Bands { bands: bands.get(), rows: rows.get() },
            (Some(_), None, _) => return Err(StageError::setting("bands", "wanted `rows` too: the two go together")),
            (None, Some(_), _) => return Err(StageError::setting("rows", "wanted `bands` too: the two go together")),
            (None, None, Some(Preset::Fineweb)) => Bands { bands: 14, rows: 8 },
            (None, None, Some(Preset::Slimpajama)) => Bands { bands: 9, rows: 13 },
            (None, None, None) if self.permutations.get() <= MOST => {
                Bands::for_threshold(self.jaccard_threshold.get(), self.permutations.get())
            }
            (None, None, None) => {
                return Err(StageError::setting("permutations", format!("wanted at most {MOST} values, found {}", self.permutations)));
            }
        };
        if u64::from(bands.bands) * u64::from(bands.rows) > u64::from(MOST) {
            let problem = format!("wanted `bands` × `rows` of at most {MOST}, found {} × {}", bands.bands, bands.rows);
            return Err(StageError::setting("bands", problem));
        }
        Ok(bands)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::Float64Type;
    use serde_json::{Value, json};

    use super::*;
    use crate::dedup::minhash::shingle::{Shingles, jaccard, mix};
    use crate::testing::{self, Balance, Outcome};

    fn rows(rows: &[(&str, Option<&str>, &str)]) -> RecordBatch {
        testing::strings(&[
            ("id", rows.iter().map(|row| Some(row.0)).collect()),
            ("text", rows.iter().map(|row| row.1).collect()),
            ("source", rows.iter().map(|row| Some(row.2)).collect()),
        ])
    }

    fn dedup(settings: Value, input: &RecordBatch) -> Outcome {
        // `clusters` is a view of the rows, not a share of them.
        let outcome = testing::check_contract::<DedupMinhashConfig>(settings, input, Balance::Free);
        assert_eq!(outcome.rows().num_rows() + outcome.dropped().num_rows(), input.num_rows());
        outcome
    }

    /// Words drawn from a large vocabulary, so that shingles of different texts never meet by chance.
    fn words(seed: u64, n: usize) -> Vec<String> {
        (0..n as u64).map(|word| format!("w{:x}", mix(mix(seed).wrapping_add(word)) >> 40)).collect()
    }

    /// `text` with some words replaced.
    fn changed(text: &[String], every: usize, seed: u64) -> Vec<String> {
        let fresh = words(seed, text.len());
        text.iter().zip(fresh).enumerate().map(|(at, (old, new))| if at % every == every / 2 { new } else { old.clone() }).collect()
    }

    /// Families of texts with graded similarities, and texts of their own.
    fn corpus(seed: u64) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for family in 0..60_u64 {
            let base = words(seed * 1000 + family, 120);
            texts.push(base.join(" "));
            for (member, every) in [(1, 200), (2, 60), (3, 45), (4, 30), (5, 22), (6, 15)] {
                if (family + member) % 3 != 0 {
                    texts.push(changed(&base, every, seed * 77_777 + family * 10 + member).join(" "));
                }
            }
            if family % 4 == 0 {
                texts.push(base.join("  ").to_uppercase() + "!");
            }
        }
        (0..).map(|n: u32| format!("r{n}")).zip(texts).collect()
    }

    fn batch(texts: &[(String, String)]) -> RecordBatch {
        rows(&texts.iter().map(|(id, text)| (id.as_str(), Some(text.as_str()), "s")).collect::<Vec<_>>())
    }

    /// The true components: every pair compared.
    fn truth(texts: &[(String, String)], threshold: f64) -> BTreeMap<String, String> {
        let mut cut = Shingles::default();
        let mut set = |text: &str| {
            Shingler { unit: ShingleUnit::Words, n: 5 }.cut(text, &mut cut);
            cut.set()
        };
        let sets: Vec<Vec<u64>> = texts.iter().map(|(_, text)| set(text)).collect();
        let mut label: Vec<usize> = (0..texts.len()).collect();
        for a in 0..texts.len() {
            for b in a + 1..texts.len() {
                if label[a] != label[b] && jaccard(&sets[a], &sets[b]) >= threshold {
                    let (keep, gone) = (label[a].min(label[b]), label[a].max(label[b]));
                    label.iter_mut().filter(|label| **label == gone).for_each(|label| *label = keep);
                }
            }
        }
        label.into_iter().enumerate().map(|(at, label)| (texts[at].0.clone(), texts[label].0.clone())).collect()
    }

    fn duplicates(outcome: &Outcome) -> BTreeMap<String, String> {
        let dropped = outcome.dropped();
        testing::column(dropped, "id").into_iter().zip(testing::column(dropped, "duplicate_of")).collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        dedup(json!({}), &testing::sample());
        dedup(json!({"preset": "slimpajama"}), &testing::sample());
    }

    #[test]
    fn clusters_are_those_of_comparing_every_pair() {
        let mut missed = 0;
        for seed in 0..4 {
            let texts = corpus(seed);
            let found = duplicates(&dedup(json!({"jaccard_threshold": 0.7}), &batch(&texts)));
            let truth = truth(&texts, 0.7);
            for (id, survivor) in &truth {
                match found.get(id) {
                    Some(of) => assert_eq!(of, survivor, "{id} is in another cluster than its true one"),
                    None if id == survivor => {}
                    None => missed += 1,
                }
            }
            assert!(found.len() > 60, "{} found", found.len());
        }
        // Each link at or above the threshold is found with a chance of 98 %, and most rows have several.
        assert!(missed <= 12, "{missed} duplicates missed");
    }

    #[test]
    fn every_link_of_a_chain_is_verified() {
        let texts = corpus(9);
        let outcome = dedup(json!({"jaccard_threshold": 0.7}), &batch(&texts));
        let by_id: BTreeMap<&str, &str> = texts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let clusters = outcome.port(&CLUSTERS);
        let (ids, kept) = (testing::column(clusters, "id"), clusters.column_by_name("kept").unwrap().as_boolean().clone());
        let (linked, cluster) = (clusters.column_by_name("linked_to").unwrap().as_string::<i32>(), testing::column(clusters, "cluster"));
        let similarity = clusters.column_by_name("similarity").unwrap().as_primitive::<Float64Type>();
        let at: BTreeMap<&str, usize> = ids.iter().map(String::as_str).zip(0..).collect();
        let mut cut = Shingles::default();
        let mut set = |id: &str| {
            Shingler { unit: ShingleUnit::Words, n: 5 }.cut(by_id[id], &mut cut);
            cut.set()
        };
        for row in 0..ids.len() {
            if kept.value(row) {
                assert_eq!(cluster[row], ids[row]);
                continue;
            }
            let next = linked.value(row);
            let true_similarity = jaccard(&set(&ids[row]), &set(next));
            assert!(
                (true_similarity - similarity.value(row)).abs() < 1e-12 && true_similarity >= 0.7,
                "{} to {next}: {true_similarity}",
                ids[row]
            );
            let mut end = row;
            for _ in 0..ids.len() {
                end = if kept.value(end) { end } else { at[linked.value(end)] };
            }
            assert_eq!(ids[end], cluster[row], "the chain from {} ends at the row kept", ids[row]);
        }
    }

    #[test]
    fn families_that_share_half_with_a_text_do_not_merge_through_it() {
        // One band of one row: everything meets everything whose least shingle is the same, most of it in vain.
        let base = words(1, 60);
        let mut texts: Vec<String> = vec![base.join(" ")];
        // Two families that share half of their shingles with the first text, and little with each other.
        for (family, half) in [&base[..40], &base[20..]].into_iter().enumerate() {
            let tail = words(50 + family as u64, 30);
            let whole: Vec<String> = half.iter().chain(&tail).cloned().collect();
            texts.push(whole.join(" "));
            texts.push(format!("{} {}", whole.join(" "), "end"));
        }
        let texts: Vec<(String, String)> = (0..).map(|n: u32| format!("r{n}")).zip(texts).collect();
        for bands in 1..40 {
            // Enough single-row bands that both families meet the first text in some bucket.
            let found = duplicates(&dedup(json!({"bands": bands, "rows": 1, "jaccard_threshold": 0.9}), &batch(&texts)));
            for (id, of) in &found {
                assert!([("r2", "r1"), ("r4", "r3")].contains(&(id.as_str(), of.as_str())), "{id} of {of}");
            }
            if bands >= 30 {
                assert_eq!(found.len(), 2, "{bands} bands: {found:?}");
            }
        }
    }

    #[test]
    fn one_bucket_is_enough_for_rows_that_are_not_like_its_first() {
        // A single band of a single row, so that rows meet in one bucket or not at all. `b` and `c` share 66 of 67 shingles, so they meet in
        // nearly every draw; with the first text, `a`, they share 36 of 86, so in over a third of the draws it is the first of their bucket.
        let mut found = 0;
        for draw in 0..80 {
            let base = words(draw, 60);
            let whole: Vec<String> = base[..40].iter().cloned().chain(words(1000 + draw, 30)).collect();
            let texts = [base.join(" "), whole.join(" "), format!("{} end", whole.join(" "))];
            let texts: Vec<(String, String)> = ["a", "b", "c"].map(str::to_owned).into_iter().zip(texts).collect();
            let dropped = duplicates(&dedup(json!({"bands": 1, "rows": 1, "jaccard_threshold": 0.9}), &batch(&texts)));
            found += usize::from(dropped == [("c".to_owned(), "b".to_owned())].into());
        }
        assert!(found >= 74, "{found} of 80");
    }

    #[test]
    fn equal_texts_need_no_band_and_a_text_without_words_no_twin() {
        let input = rows(&[
            ("a", Some("One two, three."), "x"),
            ("b", Some("one  TWO three"), "y"),
            ("c", Some(" ... "), "x"),
            ("d", Some("!!"), "y"),
            ("e", None, "x"),
            ("f", None, "x"),
        ]);
        assert_eq!(duplicates(&dedup(json!({}), &input)), [("b".to_owned(), "a".to_owned())].into());
        assert_eq!(duplicates(&dedup(json!({"scope": "local"}), &input)), BTreeMap::new());
        assert_eq!(duplicates(&dedup(json!({"source_priority": ["y"]}), &input)), [("a".to_owned(), "b".to_owned())].into());
        assert_eq!(duplicates(&dedup(json!({"survivor": "longest"}), &input)), [("b".to_owned(), "a".to_owned())].into());
    }

    #[test]
    fn local_scope_is_global_scope_of_each_source() {
        let texts = corpus(5);
        let sources = |at: usize| ["p", "q", "r"][at % 3];
        let all =
            rows(&texts.iter().enumerate().map(|(at, (id, text))| (id.as_str(), Some(text.as_str()), sources(at))).collect::<Vec<_>>());
        let local = duplicates(&dedup(json!({"scope": "local"}), &all));
        let mut each = BTreeMap::new();
        for source in 0..3 {
            let part: Vec<_> = texts.iter().enumerate().filter(|(at, _)| at % 3 == source).map(|(_, text)| text.clone()).collect();
            each.extend(duplicates(&dedup(json!({}), &batch(&part))));
        }
        assert_eq!(local, each);
        assert!(!local.is_empty());
    }

    #[test]
    fn both_scopes_from_one_pass_are_those_of_two_runs() {
        let texts = corpus(6);
        // Families go across the sources in many ways; some texts are equal across them.
        let all = rows(
            &texts
                .iter()
                .enumerate()
                .map(|(at, (id, text))| (id.as_str(), Some(text.as_str()), ["p", "q", "r"][at * at % 3]))
                .collect::<Vec<_>>(),
        );
        for verify in ["jaccard", "none"] {
            let settings = |scope: &str| json!({"scope": scope, "verify": verify, "jaccard_threshold": 0.7});
            let both = testing::check_contract::<DedupMinhashConfig>(settings("both"), &all, Balance::Free);
            let (global, local) = (duplicates(&dedup(settings("global"), &all)), duplicates(&dedup(settings("local"), &all)));
            assert!(global.len() > local.len() && !local.is_empty());
            let column = |name: &str| testing::column(both.rows(), name);
            for (scope, expected) in [("global", &global), ("local", &local)] {
                let found = column("id").into_iter().zip(column(&format!("{scope}_duplicate_of"))).filter(|(_, of)| !of.is_empty());
                assert_eq!(&found.collect::<BTreeMap<_, _>>(), expected, "{scope}, verify: {verify}");
                let kept = column(&format!("{scope}_kept")).iter().filter(|kept| *kept == "true").count();
                assert_eq!(kept + expected.len(), texts.len());
            }
            // The report tells both, source by source.
            let lost: u64 = both.figures["removed_local"].values().sum();
            assert_eq!(lost, local.len() as u64);
            assert!(both.figures["removed_at"].iter().filter(|(what, _)| what.starts_with("0.70 ")).map(|(_, n)| n).sum::<u64>() > lost);
            let size = |id: &str| column("global_cluster_size")[column("id").iter().position(|other| other == id).unwrap()].clone();
            let of = global.values().next().unwrap();
            assert_eq!(size(of), (global.values().filter(|other| *other == of).count() + 1).to_string());
        }
    }

    #[test]
    fn a_row_whose_text_another_source_has_first_meets_the_rows_of_its_own() {
        let base = words(3, 30);
        let (whole, part) = (base.join(" "), base[..28].join(" "));
        let input =
            rows(&[("a", Some(whole.as_str()), "d"), ("b", Some(part.as_str()), "e"), ("c", Some(format!("{part}.").as_str()), "d")]);
        let settings = json!({"jaccard_threshold": 0.8, "bands": 200, "rows": 1, "scope": "both"});
        let both = testing::check_contract::<DedupMinhashConfig>(settings, &input, Balance::Free);
        assert_eq!(testing::column(both.rows(), "local_duplicate_of"), ["", "", "a"]);
        assert_eq!(testing::column(both.rows(), "local_cluster_size"), ["2", "1", "2"]);
        assert_eq!(testing::column(both.rows(), "global_duplicate_of"), ["", "a", "a"]);
    }

    #[test]
    fn edges_are_the_links_of_the_clusters_and_hold_their_bands() {
        let texts = corpus(7);
        let outcome = dedup(json!({"jaccard_threshold": 0.7, "bands": 12, "rows": 4}), &batch(&texts));
        let (edges, clusters) = (outcome.port(&EDGES), outcome.port(&CLUSTERS));
        let pair = |a: &String, b: &String| {
            if a[1..].parse::<u32>().unwrap() < b[1..].parse().unwrap() { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
        };
        let rest =
            |rows: &RecordBatch| testing::column(rows, "similarity").into_iter().zip(testing::column(rows, "bands")).collect::<Vec<_>>();
        let edges: BTreeMap<_, _> =
            testing::column(edges, "a").iter().zip(&testing::column(edges, "b")).map(|(a, b)| pair(a, b)).zip(rest(edges)).collect();
        let linked = testing::column(clusters, "id").into_iter().zip(testing::column(clusters, "linked_to")).zip(rest(clusters));
        let linked: Vec<_> = linked.filter(|((_, next), _)| !next.is_empty()).collect();
        assert!(linked.iter().all(|((id, next), rest)| edges.get(&pair(id, next)) == Some(rest)), "{linked:?} of {edges:?}");
        assert!(edges.len() >= linked.len() && linked.len() > 60);
        // An equal text shares all bands, another one those in which it met the first of its bucket.
        assert!(edges.values().any(|(similarity, bands)| similarity == "1.0" && bands == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"));
        assert!(edges.values().all(|(_, bands)| bands.len() > 2 && bands.as_str() <= "[9]"), "{edges:?}");
    }

    #[test]
    fn without_verification_a_shared_band_is_enough() {
        let texts = corpus(3);
        let found: BTreeSet<String> =
            duplicates(&dedup(json!({"verify": "none", "jaccard_threshold": 0.7}), &batch(&texts))).into_keys().collect();
        let verified: BTreeSet<String> = duplicates(&dedup(json!({"jaccard_threshold": 0.7}), &batch(&texts))).into_keys().collect();
        assert!(verified.is_subset(&found) && found.len() > verified.len(), "{} and {}", found.len(), verified.len());
    }

    #[test]
    fn a_guard_stops_the_run_and_names_what_it_found() {
        let texts: Vec<(String, String)> = (0..1500).map(|n| (format!("r{n}"), "the same page not found text".to_owned())).collect();
        let refused = |settings: Value| {
            let built = testing::build::<DedupMinhashConfig>(settings, vec![(Port::FROM, batch(&texts).schema())]).unwrap();
            testing::run_stage(&built, &[(Port::FROM, batch(&texts))], testing::CUTS[0]).map(drop).map_err(|error| error.to_string())
        };
        let error = refused(json!({})).unwrap_err();
        assert!(error.contains("one cluster holds 1500 of 1500 rows") && error.contains("raise `max_cluster`"), "{error}");
        let error = refused(json!({"max_cluster": 1.0})).unwrap_err();
        assert!(error.contains("source `s` would lose 1499 of its 1500 rows") && error.contains("raise `max_source_loss`"), "{error}");
        refused(json!({"max_cluster": 1.0, "max_source_loss": 1.0})).unwrap();
        refused(json!({"scope": "both"})).unwrap();
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let input = [(Port::FROM, testing::sample())];
        let refused = |settings: Value| testing::refusal::<DedupMinhashConfig>(settings, &input);
        assert!(refused(json!({"bands": 9})).contains("wanted `rows` too"), "{}", refused(json!({"bands": 9})));
        assert!(refused(json!({"rows": 9})).contains("wanted `bands` too"));
        assert!(refused(json!({"bands": 9000, "rows": 9})).contains("found 9000 × 9"));
        assert!(refused(json!({"permutations": 5000})).contains("wanted at most 4096 values"));
        assert!(refused(json!({"source_priority": ["a", "a"]})).contains("found `a` twice"));
    }
}
