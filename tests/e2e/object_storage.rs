//! Inputs and outputs on object storage: a real S3 server on this machine (moto, which `tests/run-all` installs), and a small hub.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::harness::{Project, Said, differences, repository, said};

/// An S3 server with a bucket, `data`.
struct Storage {
    server: Child,
    port: u16,
    bucket: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

impl Storage {
    /// Starts one; `None`, with a word why, where it is not installed.
    fn start() -> Option<Self> {
        let python = std::env::var_os("GRANARY_READERS_PYTHON").map_or_else(|| repository().join(".assets/readers/bin/python"), Into::into);
        let has_moto = || Command::new(&python).args(["-c", "import moto.server, boto3"]).stderr(Stdio::null()).status();
        if !has_moto().is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "CI has to have moto: {}", python.display());
            eprintln!("skipped: moto not installed");
            return None;
        }
        let mut command = Command::new(&python);
        command.arg(repository().join("tests/e2e/storage_server.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("python starts");
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        let _ = rustls::crypto::ring::default_provider().install_default(); // another test's is as good
        let bucket = AmazonS3Builder::new()
            .with_bucket_name("data")
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        Some(Self { server, port, bucket: bucket.build().expect("a client"), runtime })
    }

    /// The command, told where the storage is.
    fn command(&self, project: &Project) -> Command {
        let mut command = project.command();
        let here = format!("http://127.0.0.1:{}", self.port);
        command.env("AWS_ENDPOINT_URL", &here).env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("HF_ENDPOINT", here).env("HOME", project.path("home")).env("GRANARY_LEASE_SECONDS", "2").env_remove("AWS_PROFILE");
        command
    }

    fn call(&self, project: &Project, args: &[&str]) -> Said {
        said(self.command(project).args(args).output().expect("the command starts"))
    }

    fn run(&self, project: &Project, args: &[&str]) -> Said {
        let said = self.call(project, &[&["run", "pipeline.yaml"], args].concat());
        assert_eq!(said.code, Some(0), "{said:#?}");
        said
    }

    fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.runtime.block_on(self.bucket.put(&Key::from(key), bytes.into().into())).expect("written");
    }

    /// All objects below `prefix`, by their names there.
    fn objects(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        self.runtime.block_on(async {
            let prefix = Key::from(prefix);
            let listed: Vec<_> = self.bucket.list(Some(&prefix)).try_collect().await.expect("listed");
            let mut objects = BTreeMap::new();
            for meta in listed {
                let bytes = self.bucket.get(&meta.location).await.expect("there").bytes().await.expect("read");
                let name = meta.location.to_string().strip_prefix(prefix.as_ref()).expect("below it").trim_start_matches('/').to_owned();
                objects.insert(name, bytes.to_vec());
            }
            objects
        })
    }

    /// The parts that people read.
    fn parts(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let is_part = |name: &String, _: &mut Vec<u8>| name.contains("/part-") && !name.starts_with(".pipeline/");
        self.objects(prefix).extract_if(.., is_part).collect()
    }

    fn delete_all(&self, prefix: &str) {
        for name in self.objects(prefix).keys() {
            self.runtime.block_on(self.bucket.delete(&Key::from(format!("{prefix}/{name}")))).expect("removed");
        }
    }

    /// From now on this share of the requests fails, one way or another.
    fn fail(&self, seed: u64, rate: f64) {
        self.ask("POST", "/__faults", format!("{{\"seed\": {seed}, \"rate\": {rate}}}").as_bytes());
    }

    /// Requests since the last call, by kind.
    fn counts(&self) -> BTreeMap<String, u64> {
        serde_json::from_slice(&self.ask("GET", "/__counts", b"")).expect("JSON")
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        assert!(answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer));
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        answer.split_off(head)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const STAGES: &str = "
  long:   {use: filter_length, from: rows, min_chars: 40}
  unique: {use: dedup_exact, from: long, keep: true}
  near:   {use: dedup_minhash, from: unique}
  sorted: {use: sort_rows, from: near, by: [id], keep: true}
  split:  {use: split_holdout, from: sorted, fraction: 0.2}
";

fn rows(from: u32, to: u32) -> String {
    let words = ["harbour", "granary", "window", "machine", "river", "letter", "number", "season", "market", "engine", "garden", "signal"];
    let word = |n: u32| words[(n as usize).wrapping_mul(2_654_435_761) % 7919 % words.len()];
    let text = |n: u32| (0..40).map(|at| word(n % 97 * 40 + at + u32::from(at == n % 50))).collect::<Vec<_>>().join(" ");
    (from..to)
        .map(|n| format!("{{\"id\": \"d{n:05}\", \"text\": \"{}\"}}\n", if n % 50 == 0 { "short".to_owned() } else { text(n) }))
        .collect()
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("compressed");
    encoder.finish().expect("compressed")
}

fn file(input: &str, output: &str) -> String {
    format!(
        "version: 1\nname: t\nseed: 3\noutput: \"{output}\"\nstages:\n  rows: {{use: read_jsonl, path: \"{input}\", columns: {{id: string, text: string}}}}{STAGES}"
    )
}

/// Inputs on the storage, and the parts that the same inputs give on this machine.
fn with_inputs(storage: &Storage) -> (Project, BTreeMap<String, Vec<u8>>) {
    let project = Project::with(&file("s3://data/in/*.jsonl*", "s3://data/out"));
    project.write("local.yaml", file("in/*.jsonl*", "out"));
    for (name, bytes) in [
        ("a.jsonl", rows(0, 900).into_bytes()),
        ("b.jsonl.gz", gz(&rows(600, 1500))),
        ("c.jsonl.zst", zstd::encode_all(rows(1400, 2000).as_bytes(), 1).expect("compressed")),
    ] {
        storage.put(&format!("in/{name}"), bytes.clone());
        project.write(&format!("in/{name}"), bytes);
    }
    storage.put("in/deeper/not-matched.jsonl", rows(0, 5));
    let args = ["run", "local.yaml", "--shard-rows", "128"];
    let said = project.call(&args);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let mut local = project.files("out");
    let parts = local.extract_if(.., |name, _| name.contains("/part-") && !name.starts_with(".pipeline/")).collect();
    (project, parts)
}

#[test]
fn a_run_on_object_storage_gives_the_same_bytes_as_on_a_disk() {
    let Some(storage) = Storage::start() else { return };
    let (project, expected) = with_inputs(&storage);
    assert!(expected.len() > 8, "{:?}", expected.keys());
    let check = storage.call(&project, &["check", "pipeline.yaml"]);
    assert_eq!(check.code, Some(0), "{check:#?}");
    storage.counts();
    storage.run(&project, &["--shard-rows", "128"]);
    let first = storage.counts();
    assert_eq!(differences(&storage.parts("out"), &expected), [""; 0]);
    let objects = storage.objects("out");
    assert!(objects.keys().all(|name| !name.contains("write-test")), "{:?}", objects.keys());
    let card = String::from_utf8(objects["README.md"].clone()).expect("text");
    assert!(card.contains("split"), "{card}");

    // Listing is what storage does slowest: a few of them for each folder, none for each task.
    let tasks = objects.keys().filter(|name| name.starts_with(".pipeline/done/")).count() as u64;
    assert!(first["LIST"] < 60 && tasks > 60, "{first:?} for {tasks} tasks");

    // Nothing changed: nothing is done again, and what was done is not asked for one by one.
    let again = storage.run(&project, &["--shard-rows", "128"]);
    let second = storage.counts();
    assert!(again.stderr.contains("0 done") || !again.stderr.contains("rows in"), "{again:#?}");
    assert!(second["PUT"] * 4 < first["PUT"], "{second:?} after {first:?}");
    assert_eq!(differences(&storage.parts("out"), &expected), [""; 0]);

    // The other commands take the address.
    let status = storage.call(&project, &["status", "s3://data/out"]);
    assert!(status.code == Some(0) && status.stdout.contains("s3://data/out: done"), "{status:#?}");
    let inspect = storage.call(&project, &["inspect", "s3://data/out/split/part-00000.parquet"]);
    assert!(inspect.code == Some(0) && inspect.stdout.contains("d00001"), "{inspect:#?}");
    let inspect = storage.call(&project, &["inspect", "s3://data/out"]);
    assert!(inspect.code == Some(0) && inspect.stdout.contains("dropped/near"), "{inspect:#?}");
    let trace = storage.call(&project, &["trace", "s3://data/out", "d00050"]);
    assert!(trace.code == Some(0) && trace.stdout.contains("too_short"), "{trace:#?}");
    storage.runtime.block_on(storage.bucket.delete(&Key::from("out/report.html"))).expect("removed");
    assert_eq!(storage.call(&project, &["report", "s3://data/out"]).code, Some(0));
    assert!(storage.objects("out").contains_key("report.html"));
    let clean = storage.call(&project, &["clean", "s3://data/out"]);
    assert_eq!(clean.code, Some(0), "{clean:#?}");
    assert!(!storage.objects("out").keys().any(|name| name.starts_with(".pipeline/data")));
    storage.run(&project, &["--shard-rows", "128"]);
    assert_eq!(differences(&storage.parts("out"), &expected), [""; 0]);
}

#[test]
fn storage_that_fails_now_and_then_changes_nothing() {
    let Some(storage) = Storage::start() else { return };
    let (project, expected) = with_inputs(&storage);
    for seed in 0..2 {
        storage.fail(seed, 0.08);
        storage.run(&project, &["--shard-rows", "128"]);
        storage.fail(seed, 0.0);
        assert_eq!(differences(&storage.parts("out"), &expected), [""; 0], "seed {seed}");
        storage.delete_all("out");
    }
}

#[test]
fn a_run_killed_on_object_storage_goes_on_when_its_lease_has_run_out() {
    let Some(storage) = Storage::start() else { return };
    let (project, expected) = with_inputs(&storage);
    let mut crash_at = 3;
    loop {
        let point = crash_at.to_string();
        let crashed = storage.call(&project, &["run", "pipeline.yaml", "--shard-rows", "512", "--threads", "1", "--crash-at", &point]);
        if crashed.code == Some(0) {
            break;
        }
        // An abort has no exit code; nothing else stops the run.
        assert_eq!(crashed.code, None, "{crashed:#?}");
        crash_at += 23;
    }
    assert!(crash_at > 60, "{crash_at}");
    // Cut into other shards the parts are others; the rows are the same.
    storage.run(&project, &["--shard-rows", "128"]);
    assert_eq!(differences(&storage.parts("out"), &expected), [""; 0]);
}

#[test]
fn two_runs_on_one_address_are_told_apart() {
    let Some(storage) = Storage::start() else { return };
    let project = Project::with(
        "version: 1\nname: t\noutput: s3://data/two\nstages:\n  rows: {use: read_jsonl, path: rows.jsonl}\n  slow: {use: command, from: rows, run: [sh, -c, \"touch started; while [ ! -e go ]; do sleep 0.05; done; exit 1\"], adds: {score: float32}, timeout_seconds: 60}\n",
    );
    project.write("rows.jsonl", rows(0, 5));
    let mut first =
        storage.command(&project).args(["run", "pipeline.yaml"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
    let begun = Instant::now();
    while !project.path("started").exists() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the first run never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = storage.call(&project, &["status", "s3://data/two"]);
    assert!(status.stdout.contains("running"), "{status:#?}");
    let second = storage.call(&project, &["run", "pipeline.yaml"]);
    assert_eq!(second.code, Some(1), "{second:#?}");
    assert!(second.stderr.contains("another run (process ") && !second.stderr.contains("process process"), "{second:#?}");
    first.kill().expect("killed");
    first.wait().expect("gone");
    project.write("go", "");
    let third = storage.call(&project, &["run", "pipeline.yaml"]);
    assert!(third.stderr.contains("waiting up to 2 s") && !third.stderr.contains("another run ("), "{third:#?}");
}

#[test]
fn an_object_that_changed_is_read_again_and_one_that_did_not_is_not() {
    let Some(storage) = Storage::start() else { return };
    let project = Project::with("version: 1\nname: t\noutput: out\nstages:\n  rows: {use: read_jsonl, path: \"s3://data/few/**\"}\n");
    storage.put("few/a.jsonl", rows(1, 5));
    storage.put("few/sub/b.jsonl", rows(5, 9));
    storage.run(&project, &[]);
    assert_eq!(project.count("out/rows"), 8);
    let before = project.marks("out");
    storage.put("few/a.jsonl", rows(1, 5)); // the same bytes have the same tag
    storage.run(&project, &[]);
    assert_eq!(project.marks("out"), before);
    storage.put("few/a.jsonl", rows(11, 17));
    storage.run(&project, &[]);
    let ids = project.column("out/rows", "id");
    assert_eq!(ids.len(), 10);
    assert!(ids.contains(&Some("d00016".to_owned())) && !ids.contains(&Some("d00001".to_owned())), "{ids:?}");
}

#[test]
fn parquet_and_csv_are_read_from_object_storage() {
    let Some(storage) = Storage::start() else { return };
    let project = Project::with("version: 1\nname: t\noutput: made\nstages:\n  rows: {use: read_jsonl, path: rows.jsonl}\n");
    project.write("rows.jsonl", rows(1, 3000));
    project.run(&[]);
    let parquet = std::fs::read(project.path("made/rows/part-00000.parquet")).expect("a part");
    storage.put("p/x.parquet", parquet.clone());
    storage.put("p/cut.parquet", &parquet[..parquet.len() / 2]);
    storage.put("c/x.csv", "id,text\n1,one\n2,two\n");
    project.write(
        "pipeline.yaml",
        "version: 1\nname: t\noutput: out\nmax_rejected: 1.0\nstages:\n  p: {use: read_parquet, path: s3://data/p}\n  c: {use: read_csv, path: s3://data/c/x.csv}\n",
    );
    storage.run(&project, &[]);
    assert_eq!(project.column("out/p", "text"), project.column("made/rows", "text"));
    assert_eq!(project.column("out/c", "text"), [Some("one".to_owned()), Some("two".to_owned())]);
    assert_eq!(project.column("out/rejected/p", "file"), [Some("cut.parquet".to_owned())]);
}

#[test]
fn a_data_set_of_the_hub_is_read_at_one_commit() {
    let Some(storage) = Storage::start() else { return };
    storage.ask("POST", "/__hub/data/train-0.jsonl", rows(1, 400).as_bytes());
    storage.ask("POST", "/__hub/data/train-1.jsonl", rows(400, 600).as_bytes());
    storage.ask("POST", "/__hub/README.md", b"# A card");
    let file = |address: &str| format!("version: 1\nname: t\noutput: out\nstages:\n  rows: {{use: read_jsonl, path: \"{address}\"}}\n");
    let project = Project::with(&file("hf://datasets/owner/name/data/train-*.jsonl"));
    storage.run(&project, &[]);
    assert_eq!(project.count("out/rows"), 599);
    let marks = project.marks("out");
    storage.run(&project, &[]);
    assert_eq!(project.marks("out"), marks);
    project.write("pipeline.yaml", file("hf://datasets/owner/name@v1/data"));
    storage.run(&project, &[]);
    assert_eq!(project.count("out/rows"), 599);

    let refused = |address: &str| {
        project.write("pipeline.yaml", file(address));
        let said = storage.call(&project, &["check", "pipeline.yaml"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        said.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let text = refused("hf://datasets/owner/name@v9/data");
    assert!(text.contains("there is no public data set owner/name at this revision"), "{text}");
    let text = refused("hf://datasets/private/name/data");
    assert!(text.contains("wants HF_TOKEN"), "{text}");
    let text = refused("hf://datasets/owner/name/date/*.jsonl");
    assert!(text.contains("did you mean hf://datasets/owner/name@main/data?"), "{text}");
    let mut command = storage.command(&project);
    project.write("pipeline.yaml", file("hf://datasets/private/name/data"));
    let with_token = said(command.env("HF_TOKEN", "hf_test").args(["run", "pipeline.yaml"]).output().expect("starts"));
    assert_eq!(with_token.code, Some(0), "{with_token:#?}");
    for (name, bytes) in project.files("out") {
        assert!(!bytes.windows(7).any(|seven| seven == b"hf_test"), "the token is in {name}");
    }
}

#[test]
fn what_storage_refuses_is_said_at_its_place() {
    let Some(storage) = Storage::start() else { return };
    storage.put("in/a.jsonl", rows(1, 9));
    let project = Project::new();
    let refused = |input: &str, output: &str| {
        project.write(
            "pipeline.yaml",
            format!("version: 1\nname: t\noutput: {output}\nstages:\n  rows: {{use: read_jsonl, path: {input}}}\n"),
        );
        let said = storage.call(&project, &["check", "pipeline.yaml"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        said.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    };
    for (input, output, wanted) in [
        ("s3://data/inn/a.jsonl", "out", "did you mean s3://data/in?"),
        ("s3://data/in/b.jsonl", "out", "did you mean s3://data/in/a.jsonl?"),
        ("s3://nosuch/a.jsonl", "out", "s3://nosuch/a.jsonl"),
        ("gs://data/a.jsonl", "out", "`gs://` is not supported"),
        ("s3:///a.jsonl", "out", "names no bucket"),
        ("s3://data/in/a.jsonl", "s3://nosuch/out", "can't write to the output"),
        ("s3://data/in/a.jsonl", "hf://datasets/owner/name/out", "only read"),
        ("s3://data/in/a.jsonl", "s3://data/in", "output"),
        ("s3://data/**/*.jsonl", "s3://data/out", "would read the output of this pipeline"),
    ] {
        let text = refused(input, output);
        assert!(text.contains(wanted), "{input} to {output}: {text}");
    }
    // Somebody's objects are not written over.
    project.write(
        "pipeline.yaml",
        "version: 1\nname: t\noutput: s3://data/theirs\nstages:\n  rows: {use: read_jsonl, path: s3://data/in/a.jsonl}\n",
    );
    storage.put("theirs/letter.txt", "dear");
    let said = storage.call(&project, &["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.stderr.contains("letter.txt"), "{said:#?}");
    // The network is not spoken to in the clear.
    let mut command = storage.command(&project);
    let clear = said_of(command.env("AWS_ENDPOINT_URL", "http://192.0.2.1:9000").args(["check", "pipeline.yaml"]));
    assert!(clear.code == Some(2) && clear.stderr.contains("AWS_ALLOW_HTTP"), "{clear:#?}");
}

#[test]
fn storage_that_cannot_be_asked_is_not_taken_for_an_output_that_is_not_there() {
    let project = Project::new();
    for args in [&["status", "s3://data/web"][..], &["clean", "s3://data/web"], &["worker", "s3://data/web", "x"]] {
        let said = said_of(project.command().env("AWS_ENDPOINT_URL", "127.0.0.1:9000").args(args));
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(
            said.stderr.contains("can't list s3://data/web") && said.stderr.contains("AWS_ENDPOINT_URL is `127.0.0.1:9000`"),
            "{said:#?}"
        );
    }
}

fn said_of(command: &mut Command) -> Said {
    said(command.output().expect("the command starts"))
}

/// Months that are added to an index on the storage: each month's output, and how the index was called.
const MONTH: &str = "
version: 1
name: month
seed: 5
output: \"s3://data/out/${MONTH}\"
stages:
  rows:   {use: read_jsonl, path: \"${MONTH}.jsonl\", columns: {id: string, text: string}}
  unique: {use: dedup_minhash, from: rows, index: \"s3://data/near\"}
";

fn add_month(storage: &Storage, project: &Project, month: &str, more: &[&str]) -> Said {
    let mut command = storage.command(project);
    command.env("MONTH", month).args(["run", "pipeline.yaml", "--shard-rows", "128", "--threads", "1"]).args(more);
    said(command.output().expect("the command starts"))
}

fn segments(storage: &Storage) -> usize {
    let manifest: serde_json::Value = serde_json::from_slice(&storage.objects("near")["index.json"]).expect("JSON");
    manifest["segments"].as_array().expect("segments").len()
}

#[test]
fn an_index_of_near_duplicates_is_added_to_on_the_storage() {
    let Some(storage) = Storage::start() else { return };
    let project = Project::with(MONTH);
    let months = [("may", 0, 300), ("june", 200, 400), ("july", 350, 600)];
    months.iter().for_each(|(month, from, to)| project.write(&format!("{month}.jsonl"), rows(*from, *to)));
    let run = |month: &str| {
        let ended = add_month(&storage, &project, month, &[]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    };
    run("may");
    // Two at once: whoever swaps first wins, and the other says so and is right when it is run again.
    let start = |month: &str| {
        let mut command = storage.command(&project);
        command.env("MONTH", month).args(["run", "pipeline.yaml", "--shard-rows", "128", "--threads", "1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
    };
    let ended = [start("june"), start("july")].map(|run| said(run.wait_with_output().expect("it ends")));
    let failed: Vec<&Said> = ended.iter().filter(|said| said.code != Some(0)).collect();
    assert!(failed.len() < 2, "{ended:#?}");
    for said in failed {
        assert!(said.code == Some(1) && said.stderr.contains("another run has added"), "{said:#?}");
    }
    run("june");
    run("july");
    assert_eq!(segments(&storage), 3);
    let before = storage.objects("near");
    ["may", "june", "july"].into_iter().for_each(run);
    assert_eq!(differences(&storage.objects("near"), &before), [""; 0]);
    // Killed right after the swap, and at other moments.
    for k in [20, 60, 100, 130, 140, 150, 160, 170, 180] {
        storage.delete_all("near");
        storage.delete_all("out");
        run("may");
        let crashed = add_month(&storage, &project, "june", &["--crash-at", &k.to_string()]);
        run("june");
        assert_eq!(segments(&storage), 2, "{crashed:#?}");
        let folders: std::collections::BTreeSet<String> =
            storage.objects("near/segments").keys().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect();
        assert_eq!(folders.len(), 2);
        if crashed.code == Some(0) {
            break;
        }
    }
}
