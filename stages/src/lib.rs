//! The stages of a pipeline: the traits they implement, the one table that registers them, and every stage, one file each.

mod command;
mod dedup;
mod embed;
mod error;
mod filter;
mod fractal;
mod keys;
pub mod llm;
pub mod polars_bridge;
mod read;
pub mod reference;
pub mod registry;
mod score;
mod stage;
mod table;
#[doc(hidden)]
pub mod testing;
mod text;
pub mod units;

pub use command::{CommandConfig, interrupt_programs};
pub use dedup::{DedupExactConfig, DedupLinesConfig, DedupMinhashConfig, FilterSimilarConfig};
pub use embed::NearestRowsConfig;
pub use error::StageError;
pub use filter::{DecontaminateConfig, FilterLengthConfig, FilterTextConfig, FilterUrlConfig, UrlList, UrlListFiles, WithoutUrl};
pub use fractal::{ComposeFractalsConfig, RenderFractaldbConfig, RenderFractalsConfig, SampleIfsConfig};
pub use llm::SplitContextConfig;
pub use llm::{AnswerQueriesConfig, AskLlmConfig, JudgeRowsConfig};
pub use read::{ReadCsvConfig, ReadJsonlConfig, ReadParquetConfig, ReadTextConfig, ReadWarcConfig};
pub use score::{HeadActivation, ScoreHeadsConfig, safetensors};
pub use stage::*;
pub use table::{
    ConcatConfig, GroupByConfig, JoinConfig, MixSourcesConfig, PackSequencesConfig, SampleRowsConfig, ShuffleConfig, SortRowsConfig,
    SplitHoldoutConfig, SqlConfig,
};
pub use text::{
    ChunkTextConfig, CountTokensConfig, ExtractTextConfig, IdentifyLanguageConfig, NormalizeTextConfig, ScrubPiiConfig, fasttext,
};
