//! Endpoints of language models as they are: the real command against one on this machine that throttles, dies, comes back and tells secrets. What
//! the endpoint counted is held against what came of it.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stages::testing::endpoint::{Endpoint, Options, Reply, Request};

use crate::harness::{Project, Said, differences, said};

/// A pipeline that asks about each of `rows` rows; `settings` are those of the model, but for its name.
fn asking(rows: usize, settings: &str) -> Project {
    let project = Project::new();
    let lines: String = (0..rows).map(|n| format!("{{\"id\": \"r{n}\", \"n\": {n}}}\n")).collect();
    project.write("rows.jsonl", lines);
    set(&project, settings);
    project
}

fn set(project: &Project, settings: &str) {
    project.write(
        "pipeline.yaml",
        format!(
            "
version: 1
name: t
output: out
answers: answers
max_rejected: 1.0
stages:
  rows:  {{use: read_jsonl, path: rows.jsonl, columns: {{id: string, n: int64}}}}
  first: {{use: ask_llm, from: rows, llm: it, prompt: \"What of {{{{ n }}}}?\", answer_column: first, max_tokens: 20}}
  asked: {{use: ask_llm, from: first, llm: it, prompt: \"And then, after {{{{ first }}}}?\", answer_column: second, max_tokens: 20}}
llms:
  it: {{model: scripted, {settings}}}
"
        ),
    );
}

/// Requests that the pipeline needs at least: two a row.
fn fewest(rows: usize) -> u64 {
    2 * rows as u64
}

/// Each prompt has one answer.
fn echo(request: &Request) -> Reply {
    Reply::text(format!("<{}>", request.prompt().chars().filter(char::is_ascii_digit).collect::<String>()))
}

/// Every row is there once, in order, with its own answers.
fn assert_whole(project: &Project, rows: usize) {
    let of = |column: &str| project.column("out/asked", column).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    assert_eq!(of("id"), (0..rows).map(|n| format!("r{n}")).collect::<Vec<_>>());
    let answers: Vec<String> = (0..rows).map(|n| format!("<{n}>")).collect();
    assert_eq!((of("first"), of("second")), (answers.clone(), answers));
    assert_eq!(project.count("out/rejected/first") + project.count("out/rejected/asked"), 0);
}

fn ended(project: &Project, code: i32, wanted: &[&str]) -> Said {
    let said = project.call(&["run", "pipeline.yaml"]);
    assert_eq!(said.code, Some(code), "{said:#?}");
    let told = said.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for wanted in wanted {
        assert!(told.contains(wanted), "wanted {wanted}: {said:#?}");
    }
    said
}

#[test]
fn a_storm_of_429_is_waited_out_as_it_says() {
    let began = Instant::now();
    let until = Arc::new(AtomicU64::new(0));
    let endpoint = Endpoint::start({
        let until = Arc::clone(&until);
        move |request| {
            // Two seconds of it, from the fifth request on.
            if request.number == 5 {
                until.store(u64::try_from(began.elapsed().as_millis()).unwrap_or(0) + 2000, Ordering::SeqCst);
            }
            let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
            if now < until.load(Ordering::SeqCst) { Reply::status(429, "slow down").header("retry-after", "1") } else { echo(request) }
        }
    });
    let project = asking(20, &format!("endpoint: \"{}\", max_in_flight: 4", endpoint.url()));
    project.run(&[]);
    assert_whole(&project, 20);
    // Those under way are told, and then each asks again when it may: no flood of requests.
    let counts = endpoint.counts();
    assert!(counts.received <= fewest(20) + 4 * 4, "{counts:?}");
    assert!(counts.at_once <= 4, "{counts:?}");
    let throttled = project.record("out")["llms"]["it"]["throttled"].as_u64().expect("counted");
    assert!((1..=16).contains(&throttled), "{throttled}");
    // What was refused cost nothing.
    assert_eq!(project.record("out")["llms"]["it"]["answers"], fewest(20));
}

#[test]
fn an_endpoint_that_dies_and_comes_back_is_waited_for() {
    let endpoint = Arc::new(Endpoint::with(Options { latency: Duration::from_millis(20), ..Options::default() }, echo));
    let project = asking(30, &format!("endpoint: \"{}\", max_in_flight: 4, give_up_after_seconds: 30", endpoint.url()));
    let run = project.start(&[]);
    until(|| endpoint.counts().answered >= 8);
    endpoint.stop();
    std::thread::sleep(Duration::from_millis(1500)); // the time without an endpoint is what is being tested
    endpoint.start_again();
    assert_eq!(said(run.wait_with_output().expect("it ends")).code, Some(0));
    assert_whole(&project, 30);
    // What was under way when it died is asked again, and nothing else but small requests that ask whether it is back.
    assert!(endpoint.counts().received <= fewest(30) + 4 + 4, "{:?}", endpoint.counts());
}

#[test]
fn a_dead_endpoint_ends_the_run_with_4_and_the_rerun_goes_on() {
    let endpoint = Arc::new(Endpoint::with(Options { latency: Duration::from_millis(20), ..Options::default() }, echo));
    let project = asking(30, &format!("endpoint: \"{}\", max_in_flight: 4, give_up_after_seconds: 1", endpoint.url()));
    let run = project.start(&[]);
    until(|| endpoint.counts().answered >= 8);
    endpoint.stop();
    let told = said(run.wait_with_output().expect("it ends"));
    assert_eq!(told.code, Some(4), "{told:#?}");
    assert!(told.stderr.contains("`it`") && told.stderr.contains("goes on"), "{told:#?}");
    assert!(!project.path("out/asked").exists());
    // Still dead: the same again, and nothing is lost.
    ended(&project, 4, &["`it`"]);
    endpoint.start_again();
    project.run(&[]);
    assert_whole(&project, 30);
    assert!(endpoint.counts().received <= fewest(30) + 4 + 4, "{:?}", endpoint.counts());
}

#[test]
fn a_budget_is_never_passed_and_raising_it_goes_on() {
    let endpoint = Endpoint::start(echo);
    let limited = |budget: &str| format!("endpoint: \"{}\", max_in_flight: 4, budget: {{{budget}}}", endpoint.url());
    let project = asking(20, &limited("max_requests: 10"));
    for _ in 0..2 {
        ended(&project, 4, &["max_requests", "10"]);
        assert_eq!(endpoint.counts().received, 10);
        assert!(!project.path("out/asked").exists());
    }
    set(&project, &limited("max_requests: 25"));
    ended(&project, 4, &["max_requests", "25"]);
    assert_eq!(endpoint.counts().received, 25);
    // Another kind of limit, on what was spent before too. A request reserves more than it comes to: room for one is room for some.
    let spent = endpoint.counts().tokens();
    set(&project, &limited(&format!("max_tokens: {}", spent + 250)));
    let said = ended(&project, 4, &["max_tokens"]);
    assert!(endpoint.counts().tokens() <= spent + 250, "{:?}", endpoint.counts());
    let received = endpoint.counts().received;
    assert!(received > 25, "something was left of {}: {received} {said:#?}", spent + 250);
    set(&project, &limited("max_requests: 40"));
    project.run(&[]);
    assert_whole(&project, 20);
    assert_eq!(endpoint.counts().received, 40);
}

#[test]
fn who_was_asked_is_not_asked_again() {
    let endpoint = Endpoint::start(echo);
    let project = asking(12, &format!("endpoint: \"{}\"", endpoint.url()));
    project.run(&[]);
    let parts = project.files("out");
    assert_eq!(endpoint.counts().received, fewest(12));
    endpoint.stop();
    project.run(&[]);
    project.run(&["--fresh"]);
    assert_whole(&project, 12);
    assert_eq!(differences(&project.files("out"), &parts), [""; 0]);
    // Another output that shares the answers, without an endpoint and without asking for one.
    let said = project.call(&["run", "pipeline.yaml", "--offline-llm", "--set", "output=other"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(project.table_hash("other/asked"), project.table_hash("out/asked"));
    assert_eq!(endpoint.counts().received, fewest(12));
}

/// An answer that no other asking gets.
fn numbered(request: &Request) -> Reply {
    let wants_split = request.body["response_format"].to_string().contains("split_after");
    let question = format!("Which question is number {}?", request.number);
    match (&request.body["response_format"], wants_split) {
        (Value::Null, _) => Reply::text(format!("answer {}", request.number)),
        (_, true) => Reply::text(json!({"question": question, "split_after": 1}).to_string()),
        (_, false) => Reply::text(json!({"question": question}).to_string()),
    }
}

#[test]
fn another_draw_and_another_tree_get_another_answer_and_a_rerun_the_same() {
    let endpoint = Endpoint::start(numbered);
    let yaml = |trees: u32, draws: u32| {
        format!(
            "
version: 1
name: t
output: out
answers: answers
stages:
  texts: {{use: read_jsonl, path: texts.jsonl}}
  tree:  {{use: split_context, from: texts, llm: it, max_depth: 1, max_trees: {trees}, chars_per_question: 5}}
  drawn: {{use: ask_llm, from: texts, llm: it, prompt: \"Say it: {{{{ text }}}}\", draws: {draws}}}
llms:
  it: {{endpoint: \"{}\", model: scripted}}
",
            endpoint.url()
        )
    };
    let project = Project::with(&yaml(2, 3));
    let text = "The tower stands on a hill above the town. It was built of red brick in 1874. Its clock has been wrong ever since.";
    project.write("texts.jsonl", json!({"id": "tower", "text": text}).to_string() + "\n");
    project.run(&[]);
    // Two trees of a root and its halves; three draws.
    assert_eq!((project.count("out/tree"), project.count("out/drawn"), endpoint.counts().received), (6, 3, 9));
    let answers =
        |folder: &str, column: &str| project.column(folder, column).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    let (questions, draws) = (answers("out/tree", "question"), answers("out/drawn", "answer"));
    let different: std::collections::BTreeSet<&String> = questions.iter().chain(&draws).collect();
    assert_eq!(different.len(), 9, "{questions:?} {draws:?}");
    project.run(&["--fresh"]);
    assert_eq!((answers("out/tree", "question"), answers("out/drawn", "answer")), (questions.clone(), draws.clone()));
    assert_eq!(endpoint.counts().received, 9);
    // One more of each: the others are there.
    project.write("pipeline.yaml", yaml(3, 4));
    project.run(&[]);
    assert_eq!((project.count("out/tree"), project.count("out/drawn"), endpoint.counts().received), (9, 4, 13));
    assert_eq!((&answers("out/tree", "question")[..6], &answers("out/drawn", "answer")[..3]), (&questions[..], &draws[..]));
}

#[test]
fn offline_nobody_is_asked_whatever_is_missing() {
    let endpoint = Endpoint::start(echo);
    let project = asking(3, &format!("endpoint: \"{}\"", endpoint.url()));
    let said = project.call(&["run", "pipeline.yaml", "--offline-llm"]);
    assert_ne!(said.code, Some(0), "{said:#?}");
    assert_eq!((endpoint.counts().received, endpoint.counts().connections), (0, 0));
    project.run(&[]);
    assert_whole(&project, 3);
}

#[test]
fn check_and_plan_ask_nobody() {
    let endpoint = Endpoint::start(echo);
    let project = asking(50, &format!("endpoint: \"{}\", price: {{prompt: 1, completion: 2}}", endpoint.url()));
    for args in [&["check", "pipeline.yaml"][..], &["plan", "pipeline.yaml"], &["plan", "pipeline.yaml", "--sample", "10"]] {
        let said = project.call(args);
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    assert_eq!((endpoint.counts().received, endpoint.counts().connections), (0, 0));
    assert!(!project.path("answers").exists());
}

#[test]
fn ctrl_c_keeps_what_was_paid_for() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(50), ..Options::default() }, echo);
    let project = asking(40, &format!("endpoint: \"{}\", max_in_flight: 4", endpoint.url()));
    let run = project.start(&[]);
    until(|| endpoint.counts().answered >= 10);
    let sent = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    assert_eq!(said(run.wait_with_output().expect("it ends")).code, Some(130));
    project.run(&[]);
    assert_whole(&project, 40);
    assert_eq!(endpoint.counts().received, fewest(40), "those under way were waited for");
}

/// `GRANARY_LLM_KILLS=50` for the long version, which tests/chaos/llm runs.
#[test]
fn killed_at_random_moments_it_pays_again_only_for_what_was_under_way() {
    const AT_ONCE: u64 = 8;
    let kills: u64 = std::env::var("GRANARY_LLM_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6);
    let seed: u64 = std::env::var("GRANARY_LLM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()));
    let endpoint = || Endpoint::with(Options { latency: Duration::from_millis(10), ..Options::default() }, echo);
    let settings = |endpoint: &Endpoint| format!("endpoint: \"{}\", max_in_flight: {AT_ONCE}", endpoint.url());
    // Enough rows that all kills find work to do.
    let rows = usize::try_from(60 * kills.max(4)).expect("a small number");
    let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ seed;
    let wild_endpoint = endpoint();
    let wild = asking(rows, &settings(&wild_endpoint));
    let (mut killed, mut ended) = (0, false);
    while killed < kills && !ended {
        random = random.wrapping_mul(0xD129_0D3D_5A5B_8C4F).rotate_left(17) ^ 0x1234_5678_9ABC_DEF1;
        let before = wild_endpoint.counts().received;
        let moment = Duration::from_millis((random >> 11) % 120);
        let mut run = wild.start(&[]);
        // From the first request of this run on, or from its start.
        if random.is_multiple_of(4) {
            std::thread::sleep(moment); // the moment of the kill is what is being tested
        } else {
            ended = until_or_end(&mut run, || wild_endpoint.counts().received > before);
            std::thread::sleep(moment);
        }
        run.kill().expect("killed");
        said(run.wait_with_output().expect("it ended"));
        killed += 1;
    }
    wild.run(&[]);
    assert_whole(&wild, rows);
    let counts = wild_endpoint.counts();
    let again = counts.received.checked_sub(fewest(rows)).expect("each was asked once at least");
    // A call is under way until its answer is written; only then is its place among those sent at once free.
    assert!(again <= killed * AT_ONCE, "seed {seed}: {again} asked again after {killed} kills: {counts:?}");
    // The same rows and bytes as undisturbed.
    let calm_endpoint = endpoint();
    let calm = asking(rows, &settings(&calm_endpoint));
    calm.run(&[]);
    assert_eq!(calm_endpoint.counts().received, fewest(rows));
    assert_eq!(differences(&parts(&wild), &parts(&calm)), [""; 0], "seed {seed}");
    eprintln!("seed {seed}: {killed} kills, {again} of {} requests sent again", counts.received);
}

fn parts(project: &Project) -> std::collections::BTreeMap<String, Vec<u8>> {
    project.files("out").into_iter().filter(|(name, _)| name.contains("part-")).collect()
}

#[test]
fn no_secret_is_told_however_the_endpoint_tells_it() {
    const KEY: &str = "sk-planted-0d9f6c1e7a";
    const TEAM: &str = "team-planted-55b1c0";
    let (seen, shouted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let endpoint = Endpoint::start({
        let (seen, shouted) = (Arc::clone(&seen), Arc::clone(&shouted));
        move |request| {
            let told = format!("{} {}", request.header("authorization").unwrap_or_default(), request.header("x-team").unwrap_or_default());
            seen.fetch_or(told == format!("Bearer {KEY} {TEAM}"), Ordering::SeqCst);
            let error = json!({"error": {"message": format!("no, {told}"), "headers": {"authorization": &told}}});
            match request.prompt().as_str() {
                "What of 0?" => Reply::json(400, &error),
                "What of 1?" => Reply::json(200, &error),
                "What of 2?" => Reply::raw(200, "text/html", format!("<p>{told}</p>")),
                "What of 3?" if !shouted.swap(true, Ordering::SeqCst) => Reply::json(500, &error).header("x-told", told),
                "What of 4?" => Reply::raw(422, "text/plain", told),
                _ => echo(request),
            }
        }
    });
    let settings = format!(
        "endpoint: \"{}\", api_key_env: PLANTED_KEY, headers_env: {{x-team: PLANTED_TEAM}}, max_attempts: 3, give_up_after_seconds: 3",
        endpoint.url()
    );
    let project = asking(8, &settings);
    let call = |args: &[&str]| {
        let mut command = project.command();
        said(
            command
                .args(args)
                .env("PLANTED_KEY", KEY)
                .env("PLANTED_TEAM", TEAM)
                .env("PIPELINE_LOG", "trace")
                .output()
                .expect("the command starts"),
        )
    };
    let mut all = Vec::new();
    let run = call(&["run", "pipeline.yaml", "--json"]);
    assert!(matches!(run.code, Some(0 | 4)), "{run:#?}");
    all.push(run);
    // With a key that is refused altogether, too.
    let refusing = Endpoint::start(|request| {
        let told = request.header("authorization").unwrap_or_default().to_owned();
        Reply::json(401, &json!({"error": {"message": format!("wrong key: {told}")}}))
    });
    let settings = settings.replace(&endpoint.url(), &refusing.url());
    set(&project, &settings);
    all.push(call(&["run", "pipeline.yaml", "--set", "output=refused", "--set", "answers=others"]));
    assert!(!matches!(all[1].code, Some(0)), "{:#?}", all[1]);
    for args in [
        &["check", "pipeline.yaml"][..],
        &["plan", "pipeline.yaml", "--json"],
        &["status", "out"],
        &["report", "out"],
        &["inspect", "out/rejected/first"],
    ] {
        all.push(call(args));
    }
    assert!(seen.load(Ordering::SeqCst), "the endpoint was told");
    for said in &all {
        for secret in [KEY, TEAM] {
            assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret), "{said:#?}");
        }
    }
    let mut files = 0;
    holds_none(&project.path(""), &[KEY, TEAM], &mut files);
    assert!(files > 10, "{files} files");
    // What was refused is still told, without the secret.
    let reasons = project.column("out/rejected/first", "reason");
    assert!(!reasons.is_empty(), "{reasons:?}");
}

/// No file below `folder` holds any of the secrets, compressed ones unpacked.
fn holds_none(folder: &Path, secrets: &[&str], files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.ends_with("samples") {
            continue;
        }
        if path.is_dir() {
            holds_none(&path, secrets, files);
            continue;
        }
        *files += 1;
        let bytes = fs::read(&path).expect("read");
        let mut shown = vec![bytes.clone()];
        if path.extension().is_some_and(|extension| extension == "parquet") {
            // Its columns are compressed: as text, all of them.
            shown.push(columns_of(&path).into_bytes());
        }
        for (text, secret) in shown.iter().flat_map(|text| secrets.iter().map(move |secret| (text, secret))) {
            let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} tells {secret}", path.display());
        }
    }
}

fn columns_of(path: &Path) -> String {
    let file = fs::File::open(path).expect("opened");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
    let show = |batch: Result<_, _>| arrow::util::pretty::pretty_format_batches(&[batch.expect("a batch")]).expect("shown").to_string();
    reader.map(show).collect()
}

/// Waits until something is so; a minute at most.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "waited for a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until something is so, or the run has ended; whether it has.
fn until_or_end(run: &mut Child, is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "waited for a minute");
        if run.try_wait().expect("a child").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}
