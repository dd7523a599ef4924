//! `score_heads`: scores of vectors, by the heads of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use gpu::cpu::gemm::{Activation, Layer, Rows};
use gpu::cpu::heads::{Heads, Scratch};
use gpu::kernels::heads::HeadsOn;
use schemars::JsonSchema;
use schemas::ColumnSpec;
use serde::{Deserialize, Serialize};

use super::safetensors::{Safetensors, Tensor};
use crate::embed::VectorColumn;
use crate::units::ColumnName;
use crate::{BuildContext, Emit, Inputs, Kind, Outputs, Port, RowLocal, Stage, StageConfig, StageError, add_columns};

/// Adds the scores that heads give to a vector: linear ones, as probes and classifiers on embeddings are, and small networks. All heads of a file
/// are taken in one pass.
///
/// The file is a safetensors file of F16, BF16, F32 or F64 tensors. A linear head called `quality` is a tensor `quality.weight` of shape `[k, d]`,
/// where `d` is the length of the vectors, and one `quality.bias` of shape `[k]`, which may be absent. A network is written as PyTorch's
/// `Sequential` names its layers: `quality.0.weight`, `quality.0.bias`, `quality.2.weight`, and so on; the numbers only say the order. Without a
/// name before them (`weight`, `0.weight`), the file has one head of no name. Every tensor of the file must be of that kind, and finite.
///
/// What stands between the layers of a network, and behind the last layer of a head, is a text in the file's `__metadata__`: `activation` and
/// `output_activation`, or of one head `quality.activation` and `quality.output_activation`. Each is one of `none`, `relu`, `gelu`, `gelu_tanh`, `silu`,
/// `sigmoid`, `tanh`. Nothing stands behind the last layer if the file says nothing; what stands between layers must be said, there or here.
///
/// A head of `k` = 1 adds a column of `Float32`, another one of lists of `k`. The column's metadata has the file's BLAKE3 hash under `model_hash`.
/// A score is null where the vector is null, or one of its numbers is null, infinite, not a number, or beyond 32-bit floats; and where the score
/// itself would not be finite. A row's scores do not depend on the rows beside it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreHeadsConfig {
    /// The file of heads, relative to the pipeline file.
    pub heads: String,
    /// The column of vectors: a list of one length of 16, 32 or 64-bit floats.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// What stands before a head's name in the name of its column. A head of no name has the prefix alone, without `_` at its end.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// What stands between the layers of every network, whatever the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<HeadActivation>,
    /// What stands behind the last layer of every head, whatever the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_activation: Option<HeadActivation>,
    /// What a column with the file's BLAKE3 hash is called; none if absent. Null where no score is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_column: Option<ColumnName>,
}

/// What becomes of the numbers of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum HeadActivation {
    /// Nothing.
    None,
    /// The greater of the number and 0.
    Relu,
    /// By the error function: PyTorch's `GELU()`.
    Gelu,
    /// By the hyperbolic tangent: PyTorch's `GELU(approximate="tanh")`.
    GeluTanh,
    /// Also called swish.
    Silu,
    /// From 0 to 1.
    Sigmoid,
    /// From -1 to 1.
    Tanh,
}

impl HeadActivation {
    const NAMES: &'static str = "none, relu, gelu, gelu_tanh, silu, sigmoid or tanh";

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "relu" => Self::Relu,
            "gelu" => Self::Gelu,
            "gelu_tanh" => Self::GeluTanh,
            "silu" => Self::Silu,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }

    fn kernel(self) -> Activation {
        match self {
            Self::None => Activation::None,
            Self::Relu => Activation::Relu,
            Self::Gelu => Activation::Gelu,
            Self::GeluTanh => Activation::GeluTanh,
            Self::Silu => Activation::Silu,
            Self::Sigmoid => Activation::Sigmoid,
            Self::Tanh => Activation::Tanh,
        }
    }
}

fn default_column() -> ColumnName {
    ColumnName::new("embedding")
}

fn default_prefix() -> String {
    "score_".to_owned()
}

/// Heads of more are no heads, and would have to fit into memory several times.
const MOST_BYTES: u64 = 1 << 30;

impl StageConfig for ScoreHeadsConfig {
    const NAME: &'static str = "score_heads";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: score_heads, from: vectors, heads: heads.safetensors, hash_column: heads_hash}";
    const USES_DEVICE: bool = true;

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let vectors = VectorColumn::try_new(cx.input()?, &self.column)?;
        let model = Model::open(self, &cx.base_dir, vectors.depth())?;
        Ok(Outputs::new(self.schema(cx.input()?, &model)?))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let output = cx.outputs()?.get(&Port::OUT).cloned();
        let output = output.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        let vectors = VectorColumn::try_new(cx.input()?, &self.column)?;
        let model = Model::open(self, &cx.base_dir, vectors.depth())?;
        let layers: Vec<Vec<Layer>> = model.heads.into_iter().map(|(_, layers)| layers).collect();
        let hash = self.hash_column.is_some().then_some(model.hash);
        let heads = HeadsOn::new(cx.device.clone(), Heads::new(&layers));
        Ok(Stage::RowLocal(Box::new(ScoreHeads { vectors, heads, hash, output })))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        let file = cx.base_dir.join(&self.heads);
        if !file.is_file() {
            return Err(self.no_heads("there is no such file"));
        }
        Ok(vec![(self.heads.clone(), file)])
    }
}

impl ScoreHeadsConfig {
    fn no_heads(&self, problem: impl std::fmt::Display) -> StageError {
        StageError::setting("heads", format!("can't use `{}`: {problem}", self.heads))
    }

    fn schema(&self, input: &Schema, model: &Model) -> Result<SchemaRef, StageError> {
        let mut added = Vec::new();
        for (name, layers) in &model.heads {
            let column = if name.is_empty() { self.prefix.trim_end_matches('_').to_owned() } else { format!("{}{name}", self.prefix) };
            if column.is_empty() {
                return Err(StageError::setting("prefix", "wanted a name for the column of a head of no name, found an empty prefix"));
            }
            let width = layers.last().map_or(1, Layer::width);
            let (data_type, what) = match (width, i32::try_from(width)) {
                (1, _) => (DataType::Float32, "score"),
                (_, Ok(width)) => (DataType::FixedSizeList(score_item(), width), "scores"),
                _ => return Err(self.no_heads(format_args!("head `{name}` has {width} scores, wanted fewer than 2^31"))),
            };
            let of = if name.is_empty() { "the head".to_owned() } else { format!("head `{name}`") };
            added.push(ColumnSpec { name: column, data_type, nullable: true, description: format!("{what} by {of} of {}", self.heads) });
        }
        let n_scores = added.len();
        added.extend(self.hash_column.iter().map(|name| ColumnSpec {
            name: name.to_string(),
            data_type: DataType::Utf8,
            nullable: true,
            description: format!("BLAKE3 hash of {}", self.heads),
        }));
        let schema = add_columns(input, &added)?;
        let first = input.fields().len();
        let with_hash = |(at, field): (usize, &Arc<Field>)| {
            if !(first..first + n_scores).contains(&at) {
                return Arc::clone(field);
            }
            let mut metadata = field.metadata().clone();
            metadata.insert(schemas::MODEL_HASH.to_owned(), model.hash.clone());
            Arc::new(field.as_ref().clone().with_metadata(metadata))
        };
        let fields: Vec<Arc<Field>> = schema.fields().iter().enumerate().map(with_hash).collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
    }
}

fn score_item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

/// What a file of heads holds.
struct Model {
    /// Name and layers, sorted by name.
    heads: Vec<(String, Vec<Layer>)>,
    hash: String,
}

/// Tensors of one layer.
#[derive(Default)]
struct Pair<'t> {
    weight: Option<&'t Tensor>,
    bias: Option<&'t Tensor>,
}

impl Model {
    fn open(config: &ScoreHeadsConfig, base_dir: &Path, depth: usize) -> Result<Self, StageError> {
        let path = base_dir.join(&config.heads);
        let is_file = fs::metadata(&path).map_err(|error| config.no_heads(error))?;
        if !is_file.is_file() {
            return Err(config.no_heads("it is no file"));
        }
        if is_file.len() > MOST_BYTES {
            return Err(config.no_heads(format_args!("wanted at most {MOST_BYTES} bytes, found {}", is_file.len())));
        }
        let bytes = fs::read(&path).map_err(|error| config.no_heads(error))?;
        let file = Safetensors::read(bytes.as_slice(), bytes.len() as u64).map_err(|error| config.no_heads(error))?;
        let heads = heads_of(&file, config, depth)?;
        Ok(Self { heads, hash: blake3::hash(&bytes).to_hex().to_string() })
    }
}

fn heads_of(file: &Safetensors, config: &ScoreHeadsConfig, depth: usize) -> Result<Vec<(String, Vec<Layer>)>, StageError> {
    // By head, then by the number of the layer; a linear head has none.
    let mut heads: BTreeMap<&str, BTreeMap<Option<u32>, Pair<'_>>> = BTreeMap::new();
    for tensor in &file.tensors {
        let (of, part) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
        if !["weight", "bias"].contains(&part) {
            return Err(
                config.no_heads(format_args!("tensor `{}` is no layer's: wanted names that end with `.weight` or `.bias`", tensor.name))
            );
        }
        let (head, last) = of.rsplit_once('.').unwrap_or(("", of));
        let (head, layer) = match number_of(last) {
            Some(number) => (head, Some(number)),
            None => (of, None),
        };
        let pair = heads.entry(head).or_default().entry(layer).or_default();
        if part == "weight" { pair.weight = Some(tensor) } else { pair.bias = Some(tensor) }
    }
    if heads.is_empty() {
        return Err(config.no_heads("it has no tensors, wanted `NAME.weight` and `NAME.bias`"));
    }
    let said = Said::read(file, config, &heads.keys().copied().collect())?;
    heads.into_iter().map(|(head, layers)| Ok((head.to_owned(), layers_of(head, &layers, &said, config, depth)?))).collect()
}

/// The number of a layer: digits, without a zero before them.
fn number_of(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|number| number.to_string() == text)
}

/// What is said of activations.
struct Said<'f> {
    file: &'f Safetensors,
    config: &'f ScoreHeadsConfig,
}

impl<'f> Said<'f> {
    fn read(file: &'f Safetensors, config: &'f ScoreHeadsConfig, heads: &BTreeSet<&str>) -> Result<Self, StageError> {
        for (key, value) in &file.metadata {
            let (head, what) = key.rsplit_once('.').map_or((None, key.as_str()), |(head, what)| (Some(head), what));
            if !["activation", "output_activation"].contains(&what) {
                continue;
            }
            if head.is_some_and(|head| !heads.contains(head)) {
                let known = heads.iter().map(|head| format!("`{head}`")).collect::<Vec<_>>().join(", ");
                return Err(config.no_heads(format_args!("its metadata say `{key}`, and its heads are {known}")));
            }
            if HeadActivation::parse(value).is_none() {
                return Err(config.no_heads(format_args!("`{key}` of its metadata is `{value}`, wanted {}", HeadActivation::NAMES)));
            }
        }
        Ok(Self { file, config })
    }

    fn of(&self, head: &str, what: &str) -> Option<HeadActivation> {
        let own = self.file.metadata.get(&format!("{head}.{what}")).or_else(|| self.file.metadata.get(what));
        own.and_then(|name| HeadActivation::parse(name))
    }

    fn between(&self, head: &str) -> Result<Activation, StageError> {
        let said = self.config.activation.or_else(|| self.of(head, "activation"));
        let said = said.ok_or_else(|| {
            let problem = format_args!("head `{head}` has several layers, and its metadata do not say the `activation` between them");
            self.config.no_heads(problem).with_help(format!("set `activation` to {}", HeadActivation::NAMES))
        })?;
        Ok(said.kernel())
    }

    fn behind(&self, head: &str) -> Activation {
        self.config.output_activation.or_else(|| self.of(head, "output_activation")).map_or(Activation::None, HeadActivation::kernel)
    }
}

fn layers_of(
    head: &str,
    pairs: &BTreeMap<Option<u32>, Pair<'_>>,
    said: &Said<'_>,
    config: &ScoreHeadsConfig,
    depth: usize,
) -> Result<Vec<Layer>, StageError> {
    if pairs.len() > 1 && pairs.contains_key(&None) {
        let problem = format_args!("head `{head}` is a layer, `{head}.weight`, and a network, `{head}.0.weight`; wanted one of the two");
        return Err(config.no_heads(problem));
    }
    let (mut layers, mut deep) = (Vec::<Layer>::new(), depth);
    for (at, pair) in pairs.values().enumerate() {
        let Some(weight) = pair.weight else {
            let bias = pair.bias.map_or("", |bias| &bias.name);
            return Err(config.no_heads(format_args!("there is a `{bias}` without its `weight`")));
        };
        let shape = || format!("tensor `{}` is of shape {:?}", weight.name, weight.shape);
        let (width, own) = match weight.shape[..] {
            [width, own] if width > 0 => (usize::try_from(width).unwrap_or(usize::MAX), own),
            _ => return Err(config.no_heads(format_args!("{}, wanted [k, d], with a k of 1 or more", shape()))),
        };
        if own != deep as u64 {
            let of = if at == 0 { format!("the vectors of `{}` are of", config.column) } else { "the layer before it gives".to_owned() };
            return Err(config.no_heads(format_args!("{}, wanted [{width}, {deep}]: {of} {deep} numbers", shape())));
        }
        let bias = match pair.bias {
            None => vec![0.0; width],
            Some(bias) if bias.shape == [width as u64] => bias.numbers.clone(),
            Some(bias) => {
                let problem = format_args!("tensor `{}` is of shape {:?}, wanted [{width}]", bias.name, bias.shape);
                return Err(config.no_heads(problem));
            }
        };
        let activation = if at + 1 == pairs.len() { said.behind(head) } else { said.between(head)? };
        layers.push(Layer::new(deep, weight.numbers.clone(), bias, activation));
        deep = width;
    }
    Ok(layers)
}

struct ScoreHeads {
    vectors: VectorColumn,
    heads: HeadsOn,
    hash: Option<String>,
    output: SchemaRef,
}

/// Rows that are copied together.
const ROWS: usize = 4096;

impl RowLocal for ScoreHeads {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let (vectors, depth, width) = (self.vectors.of(&batch)?, self.vectors.depth(), self.heads.heads().width());
        let n = vectors.len();
        let mut scores = Vec::with_capacity(n * width);
        let mut is_usable = Vec::with_capacity(n);
        let (mut scratch, mut rows) = (Scratch::default(), Vec::new());
        for start in (0..n).step_by(ROWS) {
            let n = ROWS.min(n - start);
            rows.resize(n * depth, 0.0);
            is_usable.extend((start..).zip(rows.chunks_exact_mut(depth)).map(|(row, out)| vectors.copy_finite(row, out)));
            let (own, ran) = self.heads.apply(Rows::new(&rows, n, depth, depth), &mut scratch);
            scores.extend(own);
            out.ran(&ran);
        }

        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let mut has_score = vec![false; n];
        let mut column = 0;
        for k in self.heads.heads().widths() {
            let mut own = Vec::with_capacity(n * k);
            let mut is_valid = Vec::with_capacity(n);
            for (row, usable) in scores.chunks_exact(width).zip(&is_usable) {
                let scores = &row[column..column + k];
                let valid = *usable && scores.iter().all(|score| score.is_finite());
                is_valid.push(valid);
                if valid { own.extend_from_slice(scores) } else { own.resize(own.len() + k, 0.0) }
            }
            has_score.iter_mut().zip(&is_valid).for_each(|(has, valid)| *has |= valid);
            let nulls = Some(NullBuffer::from(is_valid));
            columns.push(match i32::try_from(k) {
                Ok(1) => Arc::new(Float32Array::new(own.into(), nulls)),
                Ok(k) => Arc::new(FixedSizeListArray::try_new(score_item(), k, Arc::new(Float32Array::from(own)), nulls)?),
                Err(_) => return Err(StageError::Internal(format!("a head of {k} scores"))),
            });
            column += k;
        }
        if let Some(hash) = &self.hash {
            let hashes = has_score.iter().map(|has| has.then_some(hash.as_str()));
            columns.push(Arc::new(hashes.collect::<StringArray>()));
        }
        out.rows(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float32Type;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::embed::vectors::tests::table;
    use crate::score::safetensors::tests::{file, file_of};
    use crate::testing::{self, Balance};

    /// A folder with a file of heads, and settings that name it.
    struct Case {
        folder: TempDir,
    }

    impl Case {
        fn new(bytes: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("heads.safetensors"), bytes).unwrap();
            Self { folder }
        }

        fn settings(&self, more: Value) -> Value {
            let mut settings = json!({"heads": self.folder.path().join("heads.safetensors")});
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            settings
        }

        fn run(&self, more: Value, input: &RecordBatch) -> RecordBatch {
            testing::run::<ScoreHeadsConfig>(self.settings(more), &[(Port::FROM, input.clone())]).rows().clone()
        }

        /// The error, with the folder's name left out.
        fn refusal(&self, more: Value) -> String {
            let error = testing::refusal::<ScoreHeadsConfig>(self.settings(more), &[(Port::FROM, vectors())]);
            error.replace(&format!("{}/", self.folder.path().display()), "")
        }
    }

    fn row(numbers: &[f64]) -> Option<Vec<Option<f64>>> {
        Some(numbers.iter().copied().map(Some).collect())
    }

    fn vectors() -> RecordBatch {
        table(
            &DataType::Float32,
            &[row(&[1.0, 2.0]), None, row(&[-1.0, 0.5]), Some(vec![Some(1.0), None]), row(&[f64::NAN, 1.0]), row(&[0.0, 0.0])],
        )
    }

    fn scores(rows: &RecordBatch, name: &str) -> Vec<Option<f32>> {
        rows.column_by_name(name).unwrap_or_else(|| panic!("{name}")).as_primitive::<Float32Type>().iter().collect()
    }

    /// A linear head, one of three scores, and a network.
    fn sample() -> Vec<u8> {
        file_of(
            &[("activation", "relu"), ("net.output_activation", "sigmoid")],
            &[
                ("quality.weight", &[1, 2], &[3.0, -1.0]),
                ("quality.bias", &[1], &[0.5]),
                ("topic.weight", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
                ("net.0.weight", &[2, 2], &[1.0, -1.0, 2.0, 1.0]),
                ("net.0.bias", &[2], &[0.0, -1.0]),
                ("net.3.weight", &[1, 2], &[5.0, 2.0]),
                ("net.3.bias", &[1], &[-6.0]),
            ],
        )
    }

    #[test]
    fn it_keeps_the_contract() {
        let case = Case::new(&sample());
        let many: Vec<_> =
            (0..40_i32).map(|n| if n % 9 == 4 { None } else { row(&[f64::from(n) / 7.0, f64::from(n * n % 11) - 5.0]) }).collect();
        for item in [DataType::Float16, DataType::Float32, DataType::Float64] {
            let input = table(&item, &many);
            let got =
                testing::check_contract::<ScoreHeadsConfig>(case.settings(json!({"hash_column": "by"})), &input, Balance::KeptOrDropped);
            assert_eq!(got.rows().num_rows(), 40);
        }
    }

    #[test]
    fn scores_are_what_a_hand_works_out() {
        let case = Case::new(&sample());
        let rows = case.run(json!({"hash_column": "by"}), &vectors());
        // 3·1 - 2 + 0.5; 3·-1 - 0.5 + 0.5; the bias.
        assert_eq!(scores(&rows, "score_quality"), [Some(1.5), None, Some(-3.0), None, None, Some(0.5)]);
        let topic = rows.column_by_name("score_topic").unwrap().as_fixed_size_list();
        assert_eq!(topic.value_type(), DataType::Float32);
        assert_eq!(topic.value(0).as_primitive::<Float32Type>().values(), &[1.0, 2.0, 3.0]);
        assert_eq!((0..6).map(|row| topic.is_null(row)).collect::<Vec<_>>(), [false, true, false, true, true, false]);
        // relu(1 - 2) = 0 and relu(2 + 2 - 1) = 3, so 5·0 + 2·3 - 6 = 0, whose sigmoid is a half; and of zeros, relu(-1) = 0, so -6.
        let net = scores(&rows, "score_net");
        assert_eq!(net[0], Some(0.5));
        assert!((net[5].unwrap() - 0.002_472_623).abs() < 1e-8, "{net:?}");
        let hash = blake3::hash(&sample()).to_hex().to_string();
        assert_eq!(testing::column(&rows, "by"), [hash.as_str(), "", &hash, "", "", &hash]);
        let schema = rows.schema();
        let metadata = schema.field_with_name("score_net").unwrap().metadata();
        assert_eq!(metadata.get("model_hash"), Some(&hash));
        assert!(metadata["description"].starts_with("score by head `net` of "));
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["id", "embedding", "score_net", "score_quality", "score_topic", "by"]);
    }

    #[test]
    fn what_a_setting_says_of_activations_goes_before_what_the_file_says() {
        let case = Case::new(&sample());
        // Without an activation between, the hidden numbers are -1 and 3: 5·-1 + 2·3 - 6 = -5.
        let rows = case.run(json!({"activation": "none", "output_activation": "none", "prefix": "p_"}), &vectors());
        assert_eq!(scores(&rows, "p_net")[0], Some(-5.0));
        let rows = case.run(json!({"output_activation": "relu"}), &vectors());
        assert_eq!(scores(&rows, "score_quality")[2], Some(0.0));
        // Of the file, what is said of a head goes before what is said of all.
        let network: [(&str, &[usize], &[f32]); 2] = [("a.0.weight", &[1, 2], &[1.0, 1.0]), ("a.1.weight", &[1, 1], &[1.0])];
        let of = |metadata: &[(&str, &str)]| scores(&Case::new(&file_of(metadata, &network)).run(json!({}), &vectors()), "score_a")[2];
        assert_eq!(of(&[("activation", "relu")]), Some(0.0));
        assert_eq!(of(&[("activation", "relu"), ("a.activation", "none"), ("author", "somebody")]), Some(-0.5));
    }

    #[test]
    fn a_file_of_one_head_may_leave_out_its_name() {
        let bare = Case::new(&file_of(&[], &[("weight", &[1, 2], &[1.0, 1.0])]));
        assert_eq!(scores(&bare.run(json!({}), &vectors()), "score")[0], Some(3.0));
        let network = Case::new(&file_of(&[], &[("0.weight", &[1, 2], &[1.0, 1.0]), ("2.weight", &[1, 1], &[2.0])]));
        assert_eq!(scores(&network.run(json!({"activation": "tanh", "prefix": "x"}), &vectors()), "x")[5], Some(0.0));
        assert_eq!(bare.refusal(json!({"prefix": ""})), "prefix: wanted a name for the column of a head of no name, found an empty prefix");
    }

    #[test]
    fn layers_come_in_the_order_of_their_numbers() {
        // 10 comes behind 9; names sort the other way.
        let tensors: [(&str, &[usize], &[f32]); 2] = [("a.10.weight", &[1, 3], &[1.0, 1.0, 1.0]), ("a.9.weight", &[3, 2], &[1.0; 6])];
        let case = Case::new(&file_of(&[("activation", "none")], &tensors));
        assert_eq!(scores(&case.run(json!({}), &vectors()), "score_a")[0], Some(9.0));
    }

    #[test]
    fn scores_that_are_not_finite_are_null() {
        let case = Case::new(&file_of(&[], &[("a.weight", &[1, 2], &[3e38, 3e38]), ("b.weight", &[1, 2], &[1.0, 0.0])]));
        let rows =
            case.run(json!({"hash_column": "by"}), &table(&DataType::Float64, &[row(&[1.0, 1.0]), row(&[0.5, 0.0]), row(&[1e39, 0.0])]));
        assert_eq!(scores(&rows, "score_a"), [None, Some(1.5e38), None]);
        assert_eq!(scores(&rows, "score_b"), [Some(1.0), Some(0.5), None]);
        assert_eq!(rows.column_by_name("by").unwrap().null_count(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_at_the_setting() {
        let of =
            |metadata: &[(&str, &str)], tensors: &[(&str, &[usize], &[f32])]| Case::new(&file_of(metadata, tensors)).refusal(json!({}));
        let no = |problem: &str| format!("heads: can't use `heads.safetensors`: {problem}");
        assert_eq!(of(&[], &[]), no("it has no tensors, wanted `NAME.weight` and `NAME.bias`"));
        assert_eq!(
            of(&[], &[("a.running_mean", &[2], &[1.0, 1.0])]),
            no("tensor `a.running_mean` is no layer's: wanted names that end with `.weight` or `.bias`")
        );
        assert_eq!(
            of(&[], &[("a.weight", &[1, 3], &[1.0, 1.0, 1.0])]),
            no("tensor `a.weight` is of shape [1, 3], wanted [1, 2]: the vectors of `embedding` are of 2 numbers")
        );
        assert_eq!(
            of(&[], &[("a.weight", &[2], &[1.0, 1.0])]),
            no("tensor `a.weight` is of shape [2], wanted [k, d], with a k of 1 or more")
        );
        assert_eq!(
            of(&[], &[("a.weight", &[0, 2], &[])]),
            no("tensor `a.weight` is of shape [0, 2], wanted [k, d], with a k of 1 or more")
        );
        assert_eq!(of(&[], &[("a.bias", &[1], &[1.0])]), no("there is a `a.bias` without its `weight`"));
        assert_eq!(
            of(&[], &[("a.weight", &[1, 2], &[1.0, 1.0]), ("a.bias", &[2], &[1.0, 1.0])]),
            no("tensor `a.bias` is of shape [2], wanted [1]")
        );
        let layers: [(&str, &[usize], &[f32]); 2] = [("a.0.weight", &[1, 2], &[1.0, 1.0]), ("a.2.weight", &[1, 1], &[1.0])];
        assert_eq!(of(&[], &layers), no("head `a` has several layers, and its metadata do not say the `activation` between them"));
        let says = |key: &str, value: &str| of(&[(key, value)], &layers);
        let wanted = "wanted none, relu, gelu, gelu_tanh, silu, sigmoid or tanh";
        assert_eq!(says("activation", "swish"), no(&format!("`activation` of its metadata is `swish`, {wanted}")));
        assert_eq!(says("b.activation", "relu"), no("its metadata say `b.activation`, and its heads are `a`"));
        assert_eq!(
            of(&[("activation", "relu")], &[("a.0.weight", &[3, 2], &[1.0; 6]), ("a.2.weight", &[1, 2], &[1.0, 1.0])]),
            no("tensor `a.2.weight` is of shape [1, 2], wanted [1, 3]: the layer before it gives 3 numbers")
        );
        assert_eq!(
            of(&[], &[("a.weight", &[1, 2], &[1.0, 1.0]), ("a.0.weight", &[1, 2], &[1.0, 1.0])]),
            no("head `a` is a layer, `a.weight`, and a network, `a.0.weight`; wanted one of the two")
        );
        assert_eq!(
            of(&[], &[("a.weight", &[1, 2], &[1.0, f32::NAN])]),
            no("tensor `a.weight` has NaN at [0, 1], wanted finite numbers of 32 bits")
        );
        let claim = file(r#"{"a.weight": {"dtype": "F32", "shape": [25000000000], "data_offsets": [0, 100000000000]}}"#, &[0; 8]);
        assert_eq!(Case::new(&claim).refusal(json!({})), no("its tensors take 100000000000 bytes, and the file has 8 for them"));
    }

    #[test]
    fn files_that_are_not_there_are_said_at_the_setting() {
        let case = Case::new(&sample());
        assert!(case.refusal(json!({"heads": "/nowhere.safetensors"})).starts_with("heads: can't use `/nowhere.safetensors`: "));
        let folder = json!({"heads": case.folder.path()});
        assert!(case.refusal(folder.clone()).ends_with("it is no file"), "{}", case.refusal(folder));
        assert_eq!(case.refusal(json!({"column": "id"})).split(',').next(), Some("needs column `id: FixedSizeList of Float16"));
        let clash = testing::refusal::<ScoreHeadsConfig>(case.settings(json!({"hash_column": "id"})), &[(Port::FROM, vectors())]);
        assert_eq!(clash, "adds column `id`, which the input already has");
        let config: ScoreHeadsConfig = serde_json::from_value(case.settings(json!({}))).unwrap();
        let cx = BuildContext::new("s", Path::new("."), 7, Vec::new());
        assert_eq!(config.files(&cx).unwrap().len(), 1);
    }

    /// `UPDATE_GOLDEN=1` writes it.
    #[test]
    fn the_file_of_the_example_is_made_here() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/heads.safetensors");
        let made = file_of(
            &[("activation", "gelu"), ("output_activation", "none"), ("warm.output_activation", "sigmoid")],
            &[
                ("sharp.weight", &[1, 4], &[0.5, -1.0, 0.25, 2.0]),
                ("sharp.bias", &[1], &[0.1]),
                ("warm.0.weight", &[3, 4], &[1.0, 0.0, -0.5, 0.0, 0.0, 1.5, 0.0, -1.0, 0.25, 0.25, 0.25, 0.25]),
                ("warm.0.bias", &[3], &[0.0, 0.5, -0.5]),
                ("warm.2.weight", &[2, 3], &[1.0, -1.0, 0.5, 0.0, 2.0, -2.0]),
                ("warm.2.bias", &[2], &[0.0, 0.25]),
            ],
        );
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &made).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), made);
    }
}
