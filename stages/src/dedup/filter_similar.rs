//! `filter_similar`: keeps, of the questions of one group, those that are not too similar to a better one.

mod across;
mod greedy;
mod program;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

use arrow::datatypes::{DataType, Schema};
use schemars::JsonSchema;
use schemas::{ColumnSpec, SchemaError, document};
use serde::{Deserialize, Serialize};

use self::across::Finder;
use self::program::FilterSimilar;
use crate::keys::{KeyColumns, plain};
use crate::units::{ColumnName, ColumnNames, Fraction};
use crate::{BuildContext, Inputs, Kind, Measure, Outputs, Stage, StageConfig, StageError};

/// Keeps, of the questions of one group, those that are not too similar to a better one, up to a quota.
///
/// The rows of a group are taken one by one, best `rank` first, and of equal rank in the order they came in. A row is kept unless it is too similar
/// to one that is kept already, or there are as many as `quota` says. How similar a row is to a kept one is its ROUGE-L: `precision` is the share of
/// its tokens that stand in the kept one in the same order, `f1` twice the common tokens over those of both. Two values are never rounded before they
/// are compared.
///
/// Tokens are runs of letters and digits in lower case; in scripts without spaces between words each character is one. For English that is what
/// the Python package `rouge-score` does without its stemmer. A text without tokens has a similarity of 0 to every other.
///
/// A row whose text is null is kept: it is compared with nothing, and counts for no quota. A text of over 64 KiB is rejected: `too_long`. Rows
/// whose group is null are one group.
///
/// Reasons: `similar`, with the similarity to the most similar of the kept rows (of equally similar ones the first kept), `max_similarity`, and the
/// `id` of that row in `duplicate_of`; `over_quota`, with how many of the group are kept and the quota; with `across` also `similar_across`.
///
/// A group has to fit in memory. The time grows with the square of the rows that are kept of one, but rare words tell most pairs apart.
///
/// Source: Quan, *Automatically generating numerous context-driven SFT data for LLMs across diverse granularity*, arXiv 2405.16579, section 3.2.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterSimilarConfig {
    /// The column that is compared.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// The columns whose values make a group, or `all`: then all rows are one.
    #[serde(default)]
    pub group: Group,
    /// The column that says which rows are better: of numbers or times. By default the order in which the rows come in. Rows without a value, or
    /// with NaN, come last.
    #[serde(default)]
    pub rank: Option<ColumnName>,
    /// Which values of `rank` come first.
    #[serde(default)]
    pub order: RankOrder,
    /// How similar two questions are.
    #[serde(default)]
    pub measure: RougeMeasure,
    /// With `measure: precision` a row is kept only if its similarity to each kept row is below this, as in the paper; with `measure: f1` it may be
    /// equal to it, as in the code that was published with the paper.
    #[serde(default = "default_max_similarity")]
    pub max_similarity: Fraction,
    /// Most rows that are kept of a group: a number, or a column of whole numbers. With a column, a row is kept only while fewer rows of its group are
    /// kept than the column says in that row; null sets no limit, and a negative number is 0.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// Whether rows are also compared with those of other groups, before anything else.
    #[serde(default)]
    pub across: Option<Across>,
}

/// What makes a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Group {
    /// All rows are one group.
    All(AllRows),
    /// Equal values of these columns.
    Columns(ColumnNames),
}

/// The word that makes all rows one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AllRows {
    /// All rows.
    All,
}

impl Default for Group {
    fn default() -> Self {
        Self::Columns(ColumnNames::one(ColumnName::new("root_id")))
    }
}

/// Which values of a rank come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RankOrder {
    /// The largest: of scores.
    #[default]
    Descending,
    /// The smallest: of places.
    Ascending,
}

/// How similar a row is to one that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RougeMeasure {
    /// The share of the row's tokens that stand in the kept row in the same order.
    #[default]
    Precision,
    /// Twice the common tokens over the tokens of both.
    F1,
}

/// Most rows that are kept of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Quota {
    /// So many.
    Rows(u32),
    /// As many as this column says.
    Column(ColumnName),
}

/// How rows are compared with those of other groups.
///
/// A row is dropped (`similar_across`) if a row of another group that comes before it, by rank and then in the order of the input, is as alike as
/// `jaccard_threshold` says: shared shingles over all of both, a shingle being `ngram` words in a row. It makes no difference what becomes of that
/// other row.
///
/// MinHash finds the pairs, and each is compared in full, so that no row is dropped that is less alike. A pair right at the threshold is missed with
/// a chance of 2 %, a more similar one with less. Equal texts are never missed, however many there are. Of different texts that MinHash takes to be
/// alike all at once, each is compared with the first 256 in rank alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Across {
    /// How alike two texts must be.
    #[serde(default = "default_jaccard_threshold")]
    pub jaccard_threshold: Fraction,
    /// Words of a shingle.
    #[serde(default = "default_ngram")]
    pub ngram: NonZeroU32,
}

fn default_column() -> ColumnName {
    ColumnName::new("question")
}

fn default_max_similarity() -> Fraction {
    Fraction::new(0.7).expect("0.7 is a fraction")
}

fn default_jaccard_threshold() -> Fraction {
    Fraction::new(0.8).expect("0.8 is a fraction")
}

fn default_ngram() -> NonZeroU32 {
    const { NonZeroU32::new(2).expect("2 is not zero") }
}

impl StageConfig for FilterSimilarConfig {
    const NAME: &'static str = "filter_similar";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: filter_similar, from: ranked, column: text, group: [source], rank: score, quota: 14}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::ID.spec(), document::TEXT.named(self.column.as_str()).spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        self.group(input)?;
        self.rank(input)?;
        self.quota_column(input)?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let input = cx.input()?;
        let across = match &self.across {
            None => None,
            Some(across) if across.jaccard_threshold.get() > 0.0 => Some(Finder::new(across, cx.seed)),
            Some(_) => {
                let problem = "wanted a number above 0, found 0: all rows are as alike as that";
                return Err(StageError::setting("across.jaccard_threshold", problem));
            }
        };
        let max = self.max_similarity.get();
        let similarity = match self.measure {
            RougeMeasure::Precision => {
                // What is equal to the bound is not kept.
                Measure::new("similarity", "ROUGE-L precision against the most similar row that is kept of the group")
                    .at_most("max_similarity", max.next_down())
            }
            RougeMeasure::F1 => {
                Measure::new("similarity", "ROUGE-L F1 with the most similar row that is kept of the group").at_most("max_similarity", max)
            }
        };
        Ok(Stage::Global(Box::new(FilterSimilar {
            group: self.group(input)?,
            rank: self.rank(input)?,
            quota_column: self.quota_column(input)?,
            across,
            similarity,
            config: self.clone(),
        })))
    }
}

impl FilterSimilarConfig {
    /// The columns that make a group; `None` if all rows are one.
    fn group(&self, input: &Schema) -> Result<Option<KeyColumns>, StageError> {
        match &self.group {
            Group::All(AllRows::All) => Ok(None),
            Group::Columns(names) => match KeyColumns::try_new(input, names.iter().map(ColumnName::as_str), "group") {
                // Most often it is the default that names it.
                Err(StageError::Schema(error)) => Err(StageError::setting("group", error.to_string())
                    .with_help("name the columns that make a group; with `group: all` all rows are one")),
                other => other.map(Some),
            },
        }
    }

    /// Where the column of ranks stands.
    fn rank(&self, input: &Schema) -> Result<Option<usize>, StageError> {
        let is_rank = |data_type: &DataType| data_type.is_numeric() || data_type.is_temporal();
        self.rank.as_ref().map(|name| column_of(input, name, "rank", is_rank, "a column of numbers or times")).transpose()
    }

    /// Where the column of quotas stands.
    fn quota_column(&self, input: &Schema) -> Result<Option<usize>, StageError> {
        match &self.quota {
            None | Some(Quota::Rows(_)) => Ok(None),
            Some(Quota::Column(name)) => {
                column_of(input, name, "quota", DataType::is_integer, "a column of whole numbers, or a number").map(Some)
            }
        }
    }
}

fn column_of(
    input: &Schema,
    name: &ColumnName,
    setting: &str,
    fits: impl Fn(&DataType) -> bool,
    wanted: &str,
) -> Result<usize, StageError> {
    let column = input.index_of(name.as_str()).map_err(|_| SchemaError::missing(name.as_str(), input))?;
    let data_type = input.field(column).data_type();
    if fits(&plain(data_type)) {
        return Ok(column);
    }
    Err(StageError::setting(setting, format!("wanted {wanted}, found `{name}: {data_type}`")))
}
