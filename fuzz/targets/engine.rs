//! What the engine reads: the pipeline file, and what lies in an output, which a failing disk or a curious person may have changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use pipeline::file::{LoadOptions, load_text};
use pipeline::fingerprint::Fingerprint;
use pipeline::inputs::InputHashes;
use pipeline::ipc::{decode, decode_checkpoint};
use pipeline::marks::{DoneMark, path_of};
use pipeline::record::RunRecord;
use pipeline::store::Store;
use stages::llm::{AnswerKey, Answers, Spent, StoredAnswer};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let store = Store::open(&folder.path().join("out"), runtime.handle().clone(), None).expect("an empty store");
    std::fs::write(folder.path().join("a.jsonl"), "{\"id\": \"1\", \"text\": \"a\"}\n").expect("an input");
    Place { folder, store, runtime }
});

/// The pipeline file: a graph, or problems that can be shown.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains('/') || text.contains("..") {
        return; // it looks at what paths it names, and is not to wander over the machine
    }
    let options =
        LoadOptions { sets: Vec::new(), env: Box::new(|name| name.starts_with('A').then(|| name.to_owned())), ..LoadOptions::default() };
    if let Err(problems) = load_text(&PLACE.folder.path().join("p.yaml"), text, &options) {
        assert!(!problems.lines().is_empty());
        drop(format!("{:?}", miette::Report::from(problems)));
    }
}

/// Done marks, the hashes of inputs, and the record of a run with the pages that are made of it.
pub fn marks(data: &[u8]) {
    let place = &*PLACE;
    let task = Fingerprint::of("fuzz").finish();
    for path in [path_of(&task), ".pipeline/inputs.json".to_owned()] {
        place.store.put(&path, Bytes::copy_from_slice(data)).expect("written");
    }
    let _ = DoneMark::find(&place.store, &task);
    if let Ok(mut inputs) = InputHashes::load(&place.store) {
        let _ = inputs.learn(&[place.folder.path().join("a.jsonl")]);
        let _ = inputs.save(&place.store);
    }
    if let Ok(record) = serde_json::from_slice::<RunRecord>(data) {
        drop(pipeline::report::render(&record));
        drop(pipeline::card::render(&record, &BTreeMap::new()));
    }
    assert!(Path::new(&place.folder.path().join("out/.pipeline/inputs.json")).exists());
}

/// A segment of answers: those that are whole, and whatever is wrong with it, what is put beside it is kept.
pub fn answers(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("0-1-1.seg"), data).expect("written");
    let answers = Answers::open(folder.path(), "out").expect("a folder");
    let read = |answers: &Answers, key: &AnswerKey| answers.get(key).expect("read");
    let there: Vec<_> = answers.keys().into_iter().filter_map(|key| Some((key, read(&answers, &key)?))).collect();
    for (key, answer) in &there {
        // A transcript holds more than the answer, which may be what is amiss.
        assert!(answers.transcript(key).expect("read").is_none_or(|transcript| transcript.answer == *answer));
    }
    let spent = answers.spent("local");
    assert!(spent.cost.is_finite() && spent.cost >= 0.0);
    let (key, answer, one) = (AnswerKey([0xAB; 16]), StoredAnswer::default(), Spent { requests: 1, tokens: 1, cost: 0.0 });
    PLACE.runtime.block_on(answers.put("local", key, &answer, &serde_json::Value::Null, None, one)).expect("kept");
    drop(answers);
    let answers = Answers::open(folder.path(), "out").expect("a folder");
    assert_eq!(read(&answers, &key), Some(answer));
    assert!(there.iter().all(|(other, answer)| *other == key || read(&answers, other).as_ref() == Some(answer)));
    assert_eq!(answers.spent("local").requests, spent.requests.saturating_add(1));
}

/// Checkpoints and tables: rows, or an error.
pub fn spill(data: &[u8]) {
    let cut = data.len() / 2;
    let bytes = Bytes::copy_from_slice(data);
    let whole = decode([bytes.clone()]);
    let halves = decode([bytes.slice(..cut), bytes.slice(cut..)]);
    assert_eq!(whole.is_ok(), halves.is_ok());
    let _ = decode_checkpoint("x.parquet", vec![bytes]);
}
