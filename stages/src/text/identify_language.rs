//! `identify_language`: says which language a text is in, and keeps those that are wanted.

use std::borrow::Cow;
use std::fs::File;
use std::io::BufReader;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Float64Builder, ListArray, RecordBatch, StringArray, StringBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::fasttext::{FastText, Scratch};
use crate::stage::add_columns;
use crate::units::{ColumnName, Fraction};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, Port, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Adds `language` and `language_confidence` to each text and, with `only` or `min_confidence`, drops the others.
///
/// With `model`, a fastText model labels the texts, as fastText itself would: `lid.176.ftz` (938 kB) and `lid.176.bin` (131 MB) of
/// <https://fasttext.cc/docs/en/language-identification.html> (CC BY-SA 3.0) know 176 languages, and any other supervised model will do; a language
/// is then what its label says (for these two ISO 639-1, or 639-3 where there is no shorter one). Line breaks count as spaces.
///
/// Without, a built-in model of 70 languages (whatlang) serves for a first look. It is wrong about two to three times as often: of the pages of
/// Debian's installation guide in 19 languages it names 95 % rightly where lid.176.ftz names 98 %, of single paragraphs 77 % to 87 %. Its languages
/// are written as those of lid.176 are: `en`, `zh`, `no` (Bokmål).
///
/// Of a text longer than `sample_bytes`, eight pieces spread evenly over it are looked at. A text without any word the model can go by has no
/// language (null).
///
/// Reasons: `language` for a language that is not among `only`, or for none, with the confidence; `language_confidence` with the confidence and
/// `min_confidence`; `no_text` where the text is null. Dropped rows have the two columns, too. The report counts the languages.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentifyLanguageConfig {
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// The file of a fastText model, relative to the pipeline file; the built-in one if absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Languages of texts that go on, as the model writes them; all if absent.
    #[serde(default)]
    pub only: Option<Vec<String>>,
    /// How sure the model has to be of the language of a text that goes on.
    #[serde(default)]
    pub min_confidence: Option<Fraction>,
    /// Adds a column `languages`: so many of the likeliest languages, each with its confidence, the likeliest first. Needs `model`.
    #[serde(default)]
    pub top_k: Option<NonZeroU32>,
    /// How many bytes of a text are looked at.
    #[serde(default = "default_sample_bytes")]
    pub sample_bytes: NonZeroU32,
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

/// Enough for either model: of 1,384 pages of Debian's installation guide in 19 languages, lid.176.ftz gives all but one the language that it gives
/// the whole of them, the built-in model all but six.
const SAMPLE_BYTES: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

fn default_sample_bytes() -> NonZeroU32 {
    SAMPLE_BYTES
}

const LANGUAGE: Column<StringArray> = Column::new("language", DataType::Utf8, "language of the text, as the model writes it");
const CONFIDENCE: Column<Float64Array> =
    Column::new("language_confidence", DataType::Float64, "how sure the model is of the language, 0 to 1");

fn guess_fields() -> Fields {
    Fields::from(vec![Field::new("language", DataType::Utf8, false), Field::new("confidence", DataType::Float64, false)])
}

fn languages_column() -> Column<ListArray> {
    let item = Field::new_list_field(DataType::Struct(guess_fields()), false);
    Column::new("languages", DataType::List(Arc::new(item)), "the likeliest languages, the likeliest first")
}

impl StageConfig for IdentifyLanguageConfig {
    const NAME: &'static str = "identify_language";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: identify_language, from: pages, only: [en, de], min_confidence: 0.5}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        let mut columns = vec![LANGUAGE.spec(), CONFIDENCE.spec()];
        columns.extend(self.top_k.map(|_| languages_column().spec()));
        columns
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let labelled = add_columns(cx.input()?, &self.adds())?;
        let outputs = Outputs::new(Arc::clone(&labelled));
        if self.filters() { Ok(outputs.with_dropped(&labelled)?) } else { Ok(outputs) }
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let model = match &self.model {
            Some(path) => Model::FastText(Box::new(open(&cx.base_dir.join(path), path)?)),
            None if self.top_k.is_some() => {
                let problem = "only a fastText model gives more than one language, found no `model`";
                return Err(StageError::setting("top_k", problem).with_help("name a `model`, or remove `top_k`"));
            }
            None => Model::BuiltIn,
        };
        for language in self.only.iter().flatten() {
            let known = model.languages();
            if !known.contains(&language.as_str()) {
                let problem = format!("the model knows no `{language}`, only {}", known.join(", "));
                return Err(StageError::setting("only", problem));
            }
        }
        let labelled = add_columns(cx.input()?, &self.adds())?;
        Ok(Stage::RowLocal(Box::new(IdentifyLanguage::new(self.clone(), model, labelled))))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        let Some(path) = &self.model else { return Ok(Vec::new()) };
        let file = cx.base_dir.join(path);
        if !file.is_file() {
            return Err(no_model(path, "there is no such file"));
        }
        Ok(vec![(path.clone(), file)])
    }
}

impl IdentifyLanguageConfig {
    fn filters(&self) -> bool {
        self.only.is_some() || self.min_confidence.is_some()
    }
}

fn no_model(path: &str, problem: &str) -> StageError {
    let help = "models of 176 languages, lid.176.ftz and lid.176.bin, are at https://fasttext.cc/docs/en/language-identification.html";
    StageError::setting("model", format!("can't use `{path}`: {problem}")).with_help(help)
}

fn open(file: &Path, path: &str) -> Result<FastText, StageError> {
    let read = || {
        let file = File::open(file)?;
        let length = file.metadata()?.len();
        FastText::read(BufReader::new(file), length)
    };
    read().map_err(|error| no_model(path, &error.to_string()))
}

enum Model {
    BuiltIn,
    FastText(Box<FastText>),
}

impl Model {
    fn languages(&self) -> Vec<&str> {
        match self {
            Self::BuiltIn => whatlang::Lang::all().iter().map(|language| short(language.code())).collect(),
            Self::FastText(model) => model.labels().collect(),
        }
    }
}

/// ISO 639-1 of the languages that the built-in model writes in ISO 639-3.
fn short(code: &'static str) -> &'static str {
    const CODES: [(&str, &str); 70] = [
        ("afr", "af"),
        ("aka", "ak"),
        ("amh", "am"),
        ("ara", "ar"),
        ("aze", "az"),
        ("bel", "be"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("cmn", "zh"),
        ("cym", "cy"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("jav", "jv"),
        ("jpn", "ja"),
        ("kan", "kn"),
        ("kat", "ka"),
        ("khm", "km"),
        ("kor", "ko"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mal", "ml"),
        ("mar", "mr"),
        ("mkd", "mk"),
        ("mya", "my"),
        ("nep", "ne"),
        ("nld", "nl"),
        ("nob", "no"),
        ("ori", "or"),
        ("pan", "pa"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("sin", "si"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("srp", "sr"),
        ("swe", "sv"),
        ("tam", "ta"),
        ("tel", "te"),
        ("tgl", "tl"),
        ("tha", "th"),
        ("tuk", "tk"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("uzb", "uz"),
        ("vie", "vi"),
        ("yid", "yi"),
        ("zul", "zu"),
    ];
    CODES.binary_search_by_key(&code, |(long, _)| long).map_or(code, |at| CODES[at].1)
}

struct IdentifyLanguage {
    config: IdentifyLanguageConfig,
    model: Model,
    schema: SchemaRef,
    confidence: Measure,
}

impl RowLocal for IdentifyLanguage {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let column = document::TEXT.named(self.config.column.as_str());
        let mut scratch = Scratch::default();
        let mut labels = Labels::default();
        let mut verdicts = Vec::with_capacity(batch.num_rows());
        for text in column.try_of(&batch)? {
            let guesses = text.map(|text| self.guess(text, &mut scratch));
            let best = guesses.as_ref().and_then(|guesses| guesses.first().copied());
            let verdict = self.verdict(text.is_some(), best);
            if let Some((language, confidence)) = best {
                out.count("language", language, 1);
                out.observe(&self.confidence, confidence, verdict == Verdict::Keep);
            }
            labels.push(best, guesses.as_deref());
            verdicts.push(verdict);
        }
        let mut columns = batch.columns().to_vec();
        columns.extend(labels.finish(self.config.top_k.is_some())?);
        let labelled = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        if self.config.filters() { out.split(&labelled, verdicts) } else { out.to(Port::OUT, labelled) }
    }
}

type Guess<'a> = (&'a str, f64);

impl IdentifyLanguage {
    fn new(config: IdentifyLanguageConfig, model: Model, schema: SchemaRef) -> Self {
        let confidence = Measure::new("language_confidence", "confidence in the language of the text");
        let confidence = match config.min_confidence {
            Some(least) => confidence.at_least("min_confidence", least.get()),
            None => confidence,
        };
        Self { config, model, schema, confidence }
    }

    /// The likeliest languages, the likeliest first.
    fn guess(&self, text: &str, scratch: &mut Scratch) -> Vec<Guess<'_>> {
        let text = sample(text, self.config.sample_bytes.get() as usize);
        match &self.model {
            Model::BuiltIn => whatlang::detect(&text).map(|found| (short(found.lang().code()), found.confidence())).into_iter().collect(),
            Model::FastText(model) => {
                let k = self.config.top_k.map_or(1, |k| usize::try_from(k.get()).unwrap_or(usize::MAX));
                let guesses = model.predict(&text, k, scratch).iter();
                guesses.map(|(confidence, label)| (model.label(*label), f64::from(*confidence).min(1.0))).collect()
            }
        }
    }

    fn verdict(&self, is_text: bool, best: Option<Guess>) -> Verdict {
        let dropped = |reason, value, threshold| Verdict::Drop(Dropped { reason, value, threshold, duplicate_of: None });
        if !self.config.filters() {
            return Verdict::Keep;
        }
        let least = self.config.min_confidence.map_or(0.0, Fraction::get);
        match best {
            _ if !is_text => dropped("no_text", None, None),
            None => dropped("language", None, None),
            Some((language, confidence)) if self.config.only.as_ref().is_some_and(|keep| !keep.iter().any(|kept| kept == language)) => {
                dropped("language", Some(confidence), None)
            }
            Some((_, confidence)) if confidence < least => dropped("language_confidence", Some(confidence), Some(least)),
            Some(_) => Verdict::Keep,
        }
    }
}

/// The columns that are added.
#[derive(Default)]
struct Labels {
    languages: StringBuilder,
    confidences: Float64Builder,
    /// Lists of guesses: how long each is, and whether there is one.
    lengths: Vec<usize>,
    is_list: Vec<bool>,
    listed: StringBuilder,
    listed_confidences: Float64Builder,
}

impl Labels {
    fn push(&mut self, best: Option<Guess>, guesses: Option<&[Guess]>) {
        self.languages.append_option(best.map(|(language, _)| language));
        self.confidences.append_option(best.map(|(_, confidence)| confidence));
        self.lengths.push(guesses.map_or(0, <[_]>::len));
        self.is_list.push(guesses.is_some());
        for (language, confidence) in guesses.into_iter().flatten() {
            self.listed.append_value(language);
            self.listed_confidences.append_value(*confidence);
        }
    }

    fn finish(mut self, with_lists: bool) -> Result<Vec<ArrayRef>, StageError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.languages.finish()), Arc::new(self.confidences.finish())];
        if with_lists {
            let guesses: Vec<ArrayRef> = vec![Arc::new(self.listed.finish()), Arc::new(self.listed_confidences.finish())];
            let guesses = StructArray::try_new(guess_fields(), guesses, None)?;
            let item = Arc::new(Field::new_list_field(DataType::Struct(guess_fields()), false));
            let offsets = OffsetBuffer::from_lengths(self.lengths);
            columns.push(Arc::new(ListArray::try_new(item, offsets, Arc::new(guesses), Some(NullBuffer::from(self.is_list)))?));
        }
        Ok(columns)
    }
}

/// A text of up to `most` bytes, or eight pieces of it that are so long together. Pieces begin and end between words, where there are any.
fn sample(text: &str, most: usize) -> Cow<'_, str> {
    const PIECES: usize = 8;
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let length = most / PIECES;
    let mut out = String::with_capacity(most + PIECES);
    for number in 0..PIECES {
        let start = text.ceil_char_boundary((text.len() - length) / (PIECES - 1) * number);
        let piece = &text[start..text.floor_char_boundary((start + length).min(text.len())).max(start)];
        // At most a quarter is lost at either end to a word that is cut.
        let head = if number == 0 { 0 } else { piece.floor_char_boundary(piece.len() / 4) };
        let begin = piece[..head].find(char::is_whitespace).unwrap_or(0);
        let tail = piece.ceil_char_boundary(piece.len() - piece.len() / 4);
        let end = piece[tail..].rfind(char::is_whitespace).map_or(piece.len(), |at| tail + at);
        out.push_str(&piece[begin..end.max(begin)]);
        out.push(' ');
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use schemas::dropped;
    use serde_json::{Value, json};

    use super::super::fasttext::tests::tiny;
    use super::*;
    use crate::testing::{self, Balance};

    const ENGLISH: &str = "The quick brown fox jumps over the lazy dog, and nobody in the whole village knows why it does so.";
    const GERMAN: &str = "Der schnelle braune Fuchs springt über den faulen Hund, und niemand im ganzen Dorf weiß, warum er das tut.";

    fn texts(texts: &[Option<&str>]) -> RecordBatch {
        let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
        testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec())])
    }

    fn run(settings: Value, input: &[Option<&str>]) -> testing::Outcome {
        testing::run::<IdentifyLanguageConfig>(settings, &[(Port::FROM, texts(input))])
    }

    /// A folder with a model of two words.
    fn with_model() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.bin");
        std::fs::write(&path, tiny(3).bytes).unwrap();
        (folder, path.display().to_string())
    }

    #[test]
    fn it_keeps_the_contract() {
        let (_folder, model) = with_model();
        for settings in [json!({}), json!({"only": ["en"], "min_confidence": 0.3}), json!({"model": model, "top_k": 2, "only": ["de"]})] {
            testing::check_contract::<IdentifyLanguageConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
        }
    }

    #[test]
    fn the_built_in_model_knows_common_languages() {
        let got =
            run(json!({}), &[Some(ENGLISH), Some(GERMAN), Some("これは日本語の文章です。とても短いです。"), None, Some(""), Some("?! 12")]);
        assert_eq!(testing::column(got.rows(), "language"), ["en", "de", "ja", "", "", ""]);
        assert!(LANGUAGE.of(got.rows()).iter().zip(CONFIDENCE.of(got.rows())).all(|(a, b)| a.is_some() == b.is_some()));
        assert_eq!(LANGUAGE.of(got.rows()).null_count(), 3);
    }

    #[test]
    fn languages_that_are_not_wanted_are_dropped_with_their_confidence() {
        let got = run(json!({"only": ["de", "fr"]}), &[Some(ENGLISH), Some(GERMAN), None, Some("")]);
        assert_eq!(testing::column(got.rows(), "id"), ["d1"]);
        let dropped = got.dropped();
        assert_eq!(testing::column(dropped, "id"), ["d0", "d2", "d3"]);
        assert_eq!(testing::column(dropped, "language"), ["en", "", ""]);
        assert_eq!(testing::column(dropped, dropped::REASON.name()), ["language", "no_text", "language"]);
        assert_eq!(dropped::VALUE.of(dropped).value(0).to_bits(), CONFIDENCE.of(dropped).value(0).to_bits());
        assert_eq!(got.measured["language_confidence"].counts(), [1, 1]);
    }

    #[test]
    fn confidence_is_held_against_its_bound() {
        let (_folder, model) = with_model();
        // 0.5 of two words that speak for both, 0.88 of one; 0.00001 is fastText's own.
        let all = [Some("a b"), Some("a"), Some("c")];
        let of = |least: f64| {
            let got = run(json!({"model": model, "min_confidence": least}), &all);
            let reasons = testing::column(got.dropped(), dropped::REASON.name());
            (testing::column(got.rows(), "id"), reasons)
        };
        let exact = CONFIDENCE.of(run(json!({"model": model}), &all).rows()).value(0);
        assert!((exact - 0.500_01).abs() < 1e-6, "{exact}");
        assert_eq!(of(exact), (vec!["d0".to_owned(), "d1".to_owned()], vec!["language".to_owned()]));
        assert_eq!(of(exact + 1e-9), (vec!["d1".to_owned()], vec!["language_confidence".to_owned(), "language".to_owned()]));
    }

    #[test]
    fn a_model_gives_the_likeliest_languages() {
        let (_folder, model) = with_model();
        let got = run(json!({"model": model, "top_k": 2}), &[Some("a"), Some("c"), None]);
        let languages = testing::column(got.rows(), "languages");
        assert!(languages[0].starts_with("[{language: en, confidence: 0.88") && languages[0].contains("{language: de, confidence: 0.119"));
        assert_eq!(languages[1..], ["[]", ""]);
        assert_eq!(testing::column(got.rows(), "language"), ["en", "", ""]);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let (folder, model) = with_model();
        let refusal = |settings| testing::refusal::<IdentifyLanguageConfig>(settings, &[(Port::FROM, testing::sample())]);
        assert_eq!(refusal(json!({"model": model, "only": ["fr"]})), "only: the model knows no `fr`, only en, de");
        assert!(refusal(json!({"only": ["eng"]})).starts_with("only: the model knows no `eng`, only eo, en, "));
        assert_eq!(refusal(json!({"top_k": 2})), "top_k: only a fastText model gives more than one language, found no `model`");
        let bad = folder.path().join("bad.ftz").display().to_string();
        std::fs::write(&bad, b"PK\x03\x04").unwrap();
        let problem = "this is no fastText model: it begins with 0x4034b50, a model with 0x2f4f16ba";
        assert_eq!(refusal(json!({"model": bad})), format!("model: can't use `{bad}`: {problem}"));
        let missing = IdentifyLanguageConfig { model: Some("none.ftz".to_owned()), ..serde_json::from_value(json!({})).unwrap() };
        let cx = BuildContext::new("languages", folder.path(), 1, Vec::new());
        assert_eq!(missing.files(&cx).unwrap_err().to_string(), "can't use `none.ftz`: there is no such file");
        let there = IdentifyLanguageConfig { model: Some("tiny.bin".to_owned()), ..missing };
        assert_eq!(there.files(&cx).unwrap(), [("tiny.bin".to_owned(), folder.path().join("tiny.bin"))]);
    }

    #[test]
    fn every_language_of_the_built_in_model_has_two_letters() {
        let languages = Model::BuiltIn.languages();
        assert!(languages.iter().all(|language| language.len() == 2), "{languages:?}");
        assert_eq!(languages.iter().collect::<std::collections::BTreeSet<_>>().len(), languages.len());
    }

    #[test]
    fn long_texts_are_sampled_from_end_to_end() {
        let text: String = (0..10_000).map(|number| format!("word{number} ")).collect();
        let sampled = sample(&text, 800);
        assert!(sampled.len() <= 808 && sampled.starts_with("word0 ") && sampled.contains("word999"), "{sampled}");
        assert!(sampled.split_whitespace().all(|word| text.contains(&format!("{word} "))), "{sampled}");
        assert_eq!(sample("short text", 10), "short text");
        for most in 1..200 {
            assert!(sample(&"aé日😀 ".repeat(100), most).len() <= most + 8 * 4, "{most}");
        }
        for (text, most) in [("日本語".repeat(1000), 100), ("é".repeat(50), 1), (" ".repeat(1000), 100), ("a".repeat(1000), 7)] {
            assert!(sample(&text, most).len() <= most + 8 * 4, "{most}");
        }
    }

    /// The place of lid.176.ftz, which `tests/run-all` fetches; `None`, with a word why, where it is not.
    #[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
    fn real_model() -> Option<String> {
        let fetched = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.assets/lid/lid.176.ftz");
        let path = std::env::var_os("GRANARY_LANGUAGE_MODEL").map_or_else(fetched, Into::into);
        if !path.exists() {
            assert!(std::env::var_os("CI").is_none(), "CI has to have the language model: {}", path.display());
            println!("skipped: lid.176.ftz not fetched");
            return None;
        }
        Some(path.display().to_string())
    }

    #[test]
    fn the_published_model_says_what_it_says_in_fasttext() {
        let Some(model) = real_model() else { return };
        // What fastText 0.9.2 gives with lid.176.ftz; of these, it is wrong about the Chinese and the last two.
        let cases = [
            ("The quick brown fox jumps over the lazy dog.", "en", 0.697_451),
            ("Der schnelle braune Fuchs springt über den faulen Hund.", "de", 0.944_704),
            ("Le vif renard brun saute par-dessus le chien paresseux.", "fr", 0.840_198),
            ("El veloz zorro marrón salta sobre el perro perezoso.", "es", 0.913_478),
            ("素早い茶色の狐はのろまな犬を飛び越える。", "ja", 1.0),
            ("敏捷的棕色狐狸跳过了懒狗。", "ja", 0.516_837),
            ("Быстрая коричневая лиса прыгает через ленивую собаку.", "ru", 0.959_948),
            ("الثعلب البني السريع يقفز فوق الكلب الكسول.", "ar", 0.993_318),
            ("빠른 갈색 여우가 게으른 개를 뛰어넘는다.", "ko", 0.999_654),
            ("12 34 !?", "en", 0.124_504),
            ("naïve", "no", 0.354_514),
        ];
        let got = run(json!({"model": model, "top_k": 3}), &cases.map(|(text, ..)| Some(text)));
        let (languages, confidences) = (testing::column(got.rows(), "language"), CONFIDENCE.of(got.rows()));
        for (row, (text, language, confidence)) in cases.iter().enumerate() {
            assert_eq!(languages[row], *language, "{text}");
            assert!((confidences.value(row) - confidence).abs() < 1e-4, "{text}: {}, wanted {confidence}", confidences.value(row));
        }
    }

    /// Every eighth page of Debian's installation guide, which `tests/run-all` fetches, with its language; `None` where it is not.
    #[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
    fn pages() -> Option<Vec<(String, String)>> {
        let fetched = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.assets/installation-guide");
        let folder = std::env::var_os("GRANARY_INSTALLATION_GUIDE").map_or_else(fetched, PathBuf::from);
        let Ok(languages) = std::fs::read_dir(folder.join("usr/share/doc/installation-guide-amd64")) else {
            assert!(std::env::var_os("CI").is_none(), "CI has to have the installation guides: {}", folder.display());
            println!("skipped: installation-guide not installed");
            return None;
        };
        let mut paths: Vec<PathBuf> = languages
            .filter_map(|language| std::fs::read_dir(language.unwrap().path()).ok())
            .flat_map(|pages| pages.map(|page| page.unwrap().path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "html"))
            .collect();
        paths.sort();
        let page = |path: &PathBuf| {
            let html = std::fs::read_to_string(path).unwrap();
            // But for what is before the first tag, a piece begins inside one.
            let text: String = html.split('<').map(|piece| piece.split_once('>').map_or("", |(_, text)| text)).collect();
            let language = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            (language.split('_').next().unwrap().to_owned(), text)
        };
        Some(paths.iter().step_by(8).map(page).filter(|(_, text)| text.len() > 600).collect())
    }

    #[test]
    fn both_models_name_the_languages_of_a_guide() {
        let (Some(pages), Some(model)) = (pages(), real_model()) else { return };
        let texts: Vec<Option<&str>> = pages.iter().map(|(_, text)| Some(text.as_str())).collect();
        let right = |settings| {
            let got = run(settings, &texts);
            let languages = LANGUAGE.of(got.rows());
            let right = languages.iter().zip(&pages).filter(|(found, (language, _))| *found == Some(language)).count();
            right as f64 / pages.len() as f64
        };
        let (published, built_in) = (right(json!({"model": model})), right(json!({})));
        assert!(pages.len() > 150 && published > 0.96 && built_in > 0.92, "{published} and {built_in} of {} pages", pages.len());
    }
}
