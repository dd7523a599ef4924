//! Small tables that stages are tried on.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, FixedSizeListBuilder, Float64Array, Float64Builder, Int32Array, Int64Array, ListArray,
    ListBuilder, RecordBatch, StringArray,
};
use arrow::datatypes::{Field, Float32Type, Int64Type, Schema};
use schemas::fractal;
use serde_json::Value;

use crate::{Inputs, Port};

/// The inputs an EXAMPLE is tried on: [`sample`] for each port its `from` names; [`codes`], [`questions`] or [`vectors`] if that is its name.
pub fn example_inputs(inputs: Inputs, from: &Value) -> Vec<(Port, RecordBatch)> {
    match (inputs, from) {
        (Inputs::None, _) => Vec::new(),
        (_, Value::String(id)) if id == "codes" => vec![(Port::FROM, codes())],
        (_, Value::String(id)) if id == "questions" => vec![(Port::FROM, questions())],
        (_, Value::String(id)) if id == "vectors" => vec![(Port::FROM, vectors())],
        (Inputs::OneOrNamed, Value::Object(ports)) => ports.keys().map(|port| (Port::named(port), sample())).collect(),
        _ => vec![(Port::FROM, sample())],
    }
}

/// [`sample`] with a column `embedding` of vectors of 4, some of them null.
///
/// # Panics
/// Never.
pub fn vectors() -> RecordBatch {
    let sample = sample();
    let vector =
        |row: usize| (row % 9 != 8).then(|| (0..4).map(|at| Some(((row * 7 + at * 5) % 11) as f32 / 4.0 - 1.0)).collect::<Vec<_>>());
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>((0..sample.num_rows()).map(vector), 4);
    let field = Field::new("embedding", vectors.data_type().clone(), true);
    let fields = sample.schema().fields().iter().cloned().chain([Arc::new(field)]).collect::<Vec<_>>();
    let columns = sample.columns().iter().cloned().chain([Arc::new(vectors) as ArrayRef]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// A small table with what real ones have: 40 rows with texts of many lengths and scripts, duplicates, nulls, lists, numbers.
///
/// # Panics
/// Never.
pub fn sample() -> RecordBatch {
    let n = 40_i64;
    let texts = [
        Some("The quick brown fox jumps over the lazy dog."),
        Some("  The quick brown  fox jumps over the lazy dog.\n"),
        Some("the quick brown fox jumps over the LAZY dog."),
        None,
        Some(""),
        Some("Größe, naïveté, 日本語, العربية, 😀"),
        Some("A sentence that says a little more than the others do, so that it is long."),
    ];
    let sources = [Some("web"), Some("books"), None];
    let pick = |row: i64, modulus: usize| usize::try_from(row).map_or(0, |row| (row * 5 + row / 7) % modulus);
    let ids: StringArray = (0..n).map(|row| Some(format!("doc-{row:02}"))).collect();
    let text: StringArray = (0..n)
        .map(|row| if row % 5 == 4 { Some(format!("Only row {row} says this.")) } else { texts[pick(row, 7)].map(str::to_owned) })
        .collect();
    let url: StringArray = (0..n).map(|row| Some(format!("https://example.org/{}", row % 11))).collect();
    let source: StringArray = (0..n).map(|row| sources[pick(row + 1, 3)]).collect();
    let words: Int64Array = (0..n).map(|row| (row % 6 != 5).then_some(row * 3 % 17)).collect();
    let score: Float64Array = (0..n).map(|row| (row % 4 != 3).then_some((row * 7 % 13) as f64 / 13.0)).collect();
    let tags = ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..n).map(|row| (row % 3 != 2).then(|| (0..row % 4).map(Some).collect::<Vec<_>>())),
    );
    let columns: [(&str, ArrayRef, bool); 7] = [
        ("id", Arc::new(ids), true),
        ("text", Arc::new(text), true),
        ("url", Arc::new(url), true),
        ("source", Arc::new(source), true),
        ("words", Arc::new(words), true),
        ("score", Arc::new(score), true),
        ("tags", Arc::new(tags), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Questions with the texts they are about, some of them null or empty.
///
/// # Panics
/// Never.
pub fn questions() -> RecordBatch {
    strings(&[
        ("id", vec![Some("q0"), Some("q1"), Some("q2"), Some("q3"), Some("q4")]),
        ("question", vec![Some("How tall is the tower?"), Some("Who built it?"), None, Some("Why?"), Some("塔の高さは？")]),
        (
            "context",
            vec![
                Some("The Eiffel Tower in Paris is 330 metres tall. It was opened in 1889, and 1,665 steps lead up."),
                Some("The company of Gustave Eiffel built the tower from 1887 to 1889."),
                Some("A text without a question."),
                Some(" "),
                Some("エッフェル塔の高さは330メートルです。"),
            ],
        ),
    ])
}

/// Three iterated function systems: the Sierpinski gasket, a fern's leaf and a dragon.
///
/// # Panics
/// Never.
pub fn codes() -> RecordBatch {
    let systems: [&[[f64; 6]]; 3] = [
        &[[0.5, 0.0, 0.0, 0.0, 0.5, 0.0], [0.5, 0.0, 0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5, 0.5]],
        &[[0.85, 0.04, 0.0, -0.04, 0.85, 1.6], [0.2, -0.26, 0.0, 0.23, 0.22, 1.6], [-0.15, 0.28, 0.0, 0.26, 0.24, 0.44]],
        &[[0.5, -0.5, 0.0, 0.5, 0.5, 0.0], [-0.5, -0.5, 1.0, 0.5, -0.5, 0.0]],
    ];
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("id", Arc::new(StringArray::from(vec!["gasket", "leaf", "dragon"])), true),
        ("label", Arc::new(Int32Array::from(vec![0, 1, 2])), true),
        ("maps", maps(&systems), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// A column of the maps of systems.
///
/// # Panics
/// Never.
pub fn maps(systems: &[&[[f64; 6]]]) -> ArrayRef {
    let mut maps = ListBuilder::new(FixedSizeListBuilder::new(Float64Builder::new(), fractal::MAP_NUMBERS));
    for system in systems {
        for map in *system {
            maps.values().values().append_slice(map);
            maps.values().append(true);
        }
        maps.append(true);
    }
    Arc::new(maps.finish())
}

/// A table of text columns.
///
/// # Panics
/// If they are not of one length.
pub fn strings(columns: &[(&str, Vec<Option<&str>>)]) -> RecordBatch {
    let columns = columns.iter().map(|(name, texts)| (*name, Arc::new(StringArray::from(texts.clone())) as ArrayRef, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}
