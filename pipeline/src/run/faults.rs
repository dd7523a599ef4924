//! Runs on storage that fails at one request, or from one on, and goes on when it is mended: with the same bytes, whatever failed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datasets::remote::{Address, provide, runtime};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::{Options, RunError, Show, run};
use crate::file::{LoadOptions, load_text};

/// How storage fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// One request is not done.
    Refused,
    /// One request is done, and its answer is lost.
    Lost,
    /// Nothing more is written, from one request on.
    Full,
    /// What is written or removed after one request is not listed, or still is.
    Stale,
}

#[derive(Debug, Default)]
struct State {
    requests: u64,
    fault: Option<(u64, Fault)>,
    /// What is listed when listings are stale.
    stale: Option<Vec<ObjectMeta>>,
}

/// Storage in memory that fails when told.
#[derive(Debug, Clone)]
struct Faulty {
    objects: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn failed() -> Error {
    Error::Generic { store: "faulty", source: "the storage failed".into() }
}

impl Faulty {
    fn new() -> Self {
        Self { objects: Arc::new(InMemory::new()), state: Arc::default() }
    }

    fn fail(&self, fault: Option<(u64, Fault)>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { fault, ..State::default() };
    }

    fn requests(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).requests
    }

    /// Counts a request; whether it is refused, and whether its answer is lost. A lease is renewed by the clock: its requests don't count.
    async fn request(&self, key: &Key, writes: bool) -> (bool, bool) {
        if key.as_ref().ends_with("lease.json") {
            return (false, false);
        }
        let (number, fault) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.requests += 1;
            (state.requests, state.fault)
        };
        match fault {
            Some((at, Fault::Refused)) => (number == at, false),
            Some((at, Fault::Lost)) => (false, number == at),
            Some((at, Fault::Full)) => (writes && number >= at, false),
            Some((at, Fault::Stale)) if number == at => {
                let now = self.objects.list(None).try_collect().await.unwrap_or_default();
                self.state.lock().unwrap_or_else(PoisonError::into_inner).stale = Some(now);
                (false, false)
            }
            Some((_, Fault::Stale)) | None => (false, false),
        }
    }

    async fn answer<T>(&self, key: &Key, writes: bool, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let (refused, lost) = self.request(key, writes).await;
        if refused {
            return Err(failed());
        }
        let answer = work.await;
        if lost { Err(failed()) } else { answer }
    }

    fn stale(&self) -> Option<Vec<ObjectMeta>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stale.clone()
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Key, bytes: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.answer(key, true, self.objects.put_opts(key, bytes, options)).await
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.answer(key, true, self.objects.put_multipart_opts(key, options)).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.answer(key, false, self.objects.get_opts(key, options)).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let this = self.clone();
        let delete = move |key: Result<Key>| {
            let this = this.clone();
            async move {
                let key = key?;
                this.answer(&key, false, this.objects.delete(&key)).await?;
                Ok(key)
            }
        };
        keys.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let key = prefix.clone().unwrap_or_default();
            let now = this.answer(&key, false, this.objects.list(prefix.as_ref()).try_collect::<Vec<_>>()).await?;
            let found = this.stale().map_or(now, |stale| stale.into_iter().filter(|meta| meta.location.prefix_matches(&key)).collect());
            Ok::<_, Error>(futures::stream::iter(found.into_iter().map(Ok)))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let key = prefix.cloned().unwrap_or_default();
        self.answer(&key, false, self.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.answer(to, true, self.objects.copy_opts(from, to, options)).await
    }
}

const STAGES: &str = "
stages:
  rows:   {use: read_jsonl, path: rows.jsonl, columns: {id: string, text: string}}
  long:   {use: filter_length, from: rows, min_chars: 7}
  unique: {use: dedup_exact, from: long, keep: true}
  split:  {use: split_holdout, from: unique, fraction: 0.5}
";

fn go(folder: &Path, bucket: &str) -> std::result::Result<(), RunError> {
    let text = format!("version: 1\nname: t\nseed: 5\noutput: s3://{bucket}/out\n{STAGES}");
    let graph = load_text(&folder.join("pipeline.yaml"), &text, &LoadOptions::default());
    let Ok(graph) = graph else { return Err(RunError::NoStage("the output can't be written".to_owned())) };
    let options = Options { threads: 1, memory: 1 << 30, shard_rows: 16, show: Show::Nothing, ..Options::default() };
    run(graph, &options).0
}

fn parts(objects: &InMemory) -> BTreeMap<String, Vec<u8>> {
    let found = async {
        let listed: Vec<ObjectMeta> = objects.list(None).try_collect().await?;
        let mut parts = BTreeMap::new();
        for meta in listed {
            let name = meta.location.to_string();
            if name.contains("/part-") && !name.contains("/.pipeline/") {
                parts.insert(name, objects.get(&meta.location).await?.bytes().await?.to_vec());
            }
        }
        Ok::<_, Error>(parts)
    };
    runtime().expect("a runtime").block_on(found).expect("parts")
}

#[test]
fn whatever_fails_at_whatever_request_the_next_run_ends_as_if_nothing_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: Vec<String> = (0..60).map(|n| format!(r#"{{"id": "{n}", "text": "text {}"}}"#, n * n % 200)).collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n") + "\n{\"id\": \"bad\", \"text\": 7}\n").expect("written");
    let storage = |bucket: &str| {
        let faulty = Faulty::new();
        provide(&Address::of(Path::new(&format!("s3://{bucket}"))).expect("an address"), Arc::new(faulty.clone()));
        faulty
    };
    let calm = storage("faults-calm");
    go(folder.path(), "faults-calm").expect("nothing fails");
    let (expected, requests) = (parts(&calm.objects), calm.requests());
    assert!(expected.len() >= 5 && requests > 100, "{requests} requests, {:?}", expected.keys());
    let mut stopped = BTreeMap::new();
    for fault in [Fault::Refused, Fault::Lost, Fault::Full, Fault::Stale] {
        for at in (1..=requests).step_by(3) {
            let bucket = format!("faults-{fault:?}-{at}").to_lowercase();
            let faulty = storage(&bucket);
            faulty.fail(Some((at, fault)));
            if let Err(error) = go(folder.path(), &bucket) {
                assert!(!matches!(error, RunError::Internal(_)), "{fault:?} at {at}: {error}");
                *stopped.entry(format!("{fault:?}")).or_insert(0) += 1;
            }
            faulty.fail(None);
            go(folder.path(), &bucket).unwrap_or_else(|error| panic!("{fault:?} at {at}, mended: {error}"));
            assert!(parts(&faulty.objects) == expected, "{fault:?} at {at}");
        }
    }
    assert!(["Refused", "Lost", "Full"].iter().all(|fault| stopped[*fault] > 20), "{stopped:?}");
}
