//! Vectors through the real command: scores by heads of a file, neighbours, and files of heads that are damaged or lie.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::harness::Project;

const PIPELINE: &str = "
version: 1
name: vectors
output: out
stages:
  rows:   {use: read_parquet, path: vectors.parquet, id: name}
  scored: {use: score_heads, from: rows, heads: heads.safetensors, hash_column: heads_hash}
  near:   {use: nearest_rows, from: scored, k: 4}
";

const DEPTH: usize = 48;
const ROWS: usize = 500;

/// Row `row`: one of 25 directions, and a little of its own. Every fiftieth is null, the one behind it zeros.
fn vector(row: usize) -> Option<Vec<f32>> {
    let wave = |row: usize, at: usize| ((row * 37 + at * at * 11 + row * at * 5) % 101) as f32 / 50.0 - 1.0;
    match row % 50 {
        49 => None,
        0 if row > 0 => Some(vec![0.0; DEPTH]),
        _ => Some((0..DEPTH).map(|at| wave(row % 25, at) + 0.05 * wave(row, at + 7)).collect()),
    }
}

fn parquet() -> Vec<u8> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("v{row}"))));
    let of_row = |row| vector(row).map(|numbers| numbers.into_iter().map(Some).collect::<Vec<_>>());
    let list = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>((0..ROWS).map(of_row), i32::try_from(DEPTH).expect("small"));
    let list: ArrayRef = Arc::new(list);
    let batch = RecordBatch::try_from_iter_with_nullable([("name", names, true), ("embedding", list, true)]).expect("a batch");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a plain schema");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("finished")
}

/// A safetensors file with this header.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn weight(at: usize) -> f32 {
    ((at * 29) % 17) as f32 / 8.0 - 1.0
}

/// A linear head `sum`, and `net` of 8 hidden numbers.
fn heads(bias: f32) -> Vec<u8> {
    let mut data = Vec::new();
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"activation": "relu", "net.output_activation": "sigmoid"}));
    let mut add = |name: &str, shape: &[usize], number: &dyn Fn(usize) -> f32| {
        let from = data.len();
        (0..shape.iter().product()).for_each(|at| data.extend(number(at).to_le_bytes()));
        header.insert(name.to_owned(), json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]}));
    };
    add("sum.weight", &[1, DEPTH], &|_| 1.0);
    add("sum.bias", &[1], &|_| bias);
    add("net.0.weight", &[8, DEPTH], &|at| weight(at));
    add("net.0.bias", &[8], &|at| weight(at + 3));
    add("net.2.weight", &[1, 8], &|at| weight(at + 5));
    file(&serde_json::Value::from(header).to_string(), &data)
}

fn project() -> Project {
    let project = Project::with(PIPELINE);
    project.write("vectors.parquet", parquet());
    project.write("heads.safetensors", heads(0.5));
    project
}

fn floats(project: &Project, name: &str) -> Vec<Option<f32>> {
    let of_batch = |batch: RecordBatch| {
        let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no {name}")).as_primitive::<Float32Type>().clone();
        column.iter().collect::<Vec<_>>()
    };
    project.rows("out/near").into_iter().flat_map(of_batch).collect()
}

#[test]
fn vectors_are_scored_and_find_their_neighbours() {
    let project = project();
    project.run(&[]);
    let (sums, nets) = (floats(&project, "score_sum"), floats(&project, "score_net"));
    assert_eq!((sums.len(), nets.len()), (ROWS, ROWS));
    for row in 0..ROWS {
        let Some(numbers) = vector(row) else {
            assert_eq!((sums[row], nets[row]), (None, None), "row {row}");
            continue;
        };
        let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
        let sum = numbers.iter().sum::<f64>() + 0.5;
        let hidden = (0..8).map(|unit| {
            let own = numbers.iter().enumerate().map(|(at, x)| x * f64::from(weight(unit * DEPTH + at))).sum::<f64>();
            (own + f64::from(weight(unit + 3))).max(0.0)
        });
        let net = hidden.enumerate().map(|(unit, x)| x * f64::from(weight(unit + 5))).sum::<f64>();
        let net = 1.0 / (1.0 + (-net).exp());
        let near = |score: Option<f32>, wanted: f64| (f64::from(score.expect("a score")) - wanted).abs() < 1e-5 * wanted.abs().max(1.0);
        assert!(near(sums[row], sum) && near(nets[row], net), "row {row}: {:?} {sum}, {:?} {net}", sums[row], nets[row]);
    }
    let hash = blake3::hash(&heads(0.5)).to_hex().to_string();
    let rows = project.rows("out/near");
    let schema = rows[0].schema();
    assert_eq!(schema.field_with_name("score_net").expect("scores").metadata().get("model_hash"), Some(&hash), "in the file's schema");
    assert_eq!(project.column("out/near", "heads_hash")[0], Some(hash));

    // The neighbours of a row are of its direction; every pair in f64.
    let unit = |row: usize| {
        let numbers: Vec<f64> = vector(row)?.into_iter().map(f64::from).collect();
        let length = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        (length > 0.0).then(|| numbers.iter().map(|x| x / length).collect::<Vec<f64>>())
    };
    let units: Vec<Option<Vec<f64>>> = (0..ROWS).map(unit).collect();
    let mut row = 0;
    for batch in rows {
        let lists = batch.column_by_name("neighbours").expect("neighbours").as_list::<i32>().clone();
        for list in &lists {
            match (&units[row], list) {
                (None, list) => assert!(list.is_none(), "row {row} has no direction"),
                (Some(_), None) => panic!("row {row} has no list"),
                (Some(own), Some(list)) => {
                    let (ids, similarities) = (list.as_struct().column(0).as_string::<i32>(), list.as_struct().column(1));
                    let cosine = |other: &Vec<f64>| own.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
                    let others = units.iter().enumerate().filter(|(other, _)| *other != row);
                    let mut all: Vec<(f64, usize)> = others.filter_map(|(other, unit)| Some((cosine(unit.as_ref()?), other))).collect();
                    all.sort_by(|a, b| b.0.total_cmp(&a.0));
                    assert_eq!(ids.len(), 4);
                    for (at, (best, _)) in all.iter().take(4).enumerate() {
                        let similarity = f64::from(similarities.as_primitive::<Float32Type>().value(at));
                        assert!((similarity - best).abs() < 1e-6, "row {row}: {similarity} {best}");
                        let own: usize = ids.value(at)[1..].parse().expect("a number");
                        assert!((cosine(units[own].as_ref().expect("a direction")) - similarity).abs() < 1e-6, "row {row}: v{own}");
                    }
                }
            }
            row += 1;
        }
    }
    assert_eq!(row, ROWS);
}

#[test]
fn any_cut_into_shards_and_any_number_of_threads_give_the_same_bytes() {
    let project = project();
    project.run(&["--threads", "1"]);
    let hash = project.table_hash("out/near");
    project.run(&["--fresh", "--threads", "3", "--shard-rows", "17"]);
    assert_eq!(project.table_hash("out/near"), hash);
}

#[test]
fn other_heads_are_another_run_and_the_same_are_not() {
    let project = project();
    project.run(&[]);
    let before = floats(&project, "score_sum");
    let marks = project.marks("out");
    project.run(&[]);
    assert_eq!(project.marks("out"), marks, "nothing is done again");
    project.write("heads.safetensors", heads(1.5));
    project.run(&[]);
    let after = floats(&project, "score_sum");
    assert!(before.iter().zip(&after).all(|(a, b)| a.zip(*b).is_none_or(|(a, b)| (b - a - 1.0).abs() < 1e-5)));
}

#[test]
fn files_of_heads_that_lie_are_refused_at_their_setting() {
    let project = project();
    let entry = |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"dtype": "{dtype}", "shape": {shape}, "data_offsets": {offsets}}}"#);
    let one = |dtype: &str, shape: &str, offsets: &str, bytes: usize| {
        file(&format!(r#"{{"a.weight": {}}}"#, entry(dtype, shape, offsets)), &vec![0; bytes])
    };
    let two = |first: &str, second: &str| {
        let header = format!(r#"{{"a.weight": {}, "b.weight": {}}}"#, entry("F32", "[1, 48]", first), entry("F32", "[1, 48]", second));
        file(&header, &[0; 384])
    };
    let twice = format!(r#"{{"a.weight": {0}, "a.weight": {0}}}"#, entry("F32", "[1, 48]", "[0, 192]"));
    let mut nan = one("F32", "[1, 48]", "[0, 192]", 192);
    let at = nan.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "its header would take 8 bytes, and the file has 0"),
        (b"PK\x03\x04 a zip file, say".to_vec(), "this is no safetensors file"),
        ([&(1_u64 << 62).to_le_bytes()[..], b"{}"].concat(), "its header would take 4611686018427387912 bytes, and the file has 10"),
        (file("{}", &[]), "it has no tensors"),
        (file("[1, 2", &[]), "its header is not as wanted"),
        (file(&twice, &[0; 192]), "tensor `a.weight` is there twice"),
        (one("F32", "[520833333, 48]", "[0, 100000000000]", 192), "bytes"),
        (one("F32", "[1, 48]", "[0, 192]", 191), "its tensors take 192 bytes, and the file has 191 for them"),
        (one("F32", "[2, 48]", "[0, 192]", 192), "of shape [2, 48] wants 384 bytes"),
        (one("F32", "[9223372036854775808, 9223372036854775808]", "[0, 192]", 192), "wants over 2^64 bytes"),
        (one("F8_E4M3", "[4, 48]", "[0, 192]", 192), "is of F8_E4M3, wanted F16, BF16, F32 or F64"),
        (one("F32", "[1, 47]", "[0, 188]", 188), "the vectors of `embedding` are of 48 numbers"),
        (two("[0, 192]", "[100, 292]"), "wanted it to begin at 192"),
        (two("[0, 192]", "[192, 100]"), "wanted it to begin at 192"),
        (nan, "tensor `a.weight` has NaN at [0, 47], wanted finite numbers"),
        (heads(0.5)[..300].to_vec(), "bytes"),
    ];
    for (bytes, wanted) in cases {
        project.write("heads.safetensors", &bytes);
        for command in ["check", "run"] {
            let said = project.call(&[command, "pipeline.yaml"]);
            assert_eq!(said.code, Some(2), "{wanted}: {said:#?}");
            // Lines are broken and framed.
            let plain: String = said.stderr.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(plain.contains(wanted) && plain.contains("can't use `heads.safetensors`"), "{wanted}: {said:#?}");
            assert!(plain.contains("pipeline.yaml:7:"), "the place of the setting: {said:#?}");
        }
    }
    std::fs::remove_file(project.path("heads.safetensors")).expect("removed");
    assert_eq!(project.call(&["check", "pipeline.yaml"]).code, Some(2));
}
