//! Every fault that an endpoint has, against a real server on this machine. The windows are two seconds; `GRANARY_FAULT_SECONDS=60` makes them
//! a minute.

use std::io::Write as _;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::time::{Instant, SystemTime};

use futures::future::join_all;
use serde_json::json;

use super::*;
use crate::llm::{Endpoints, LlmBudget, Price, Transcript};
use crate::llm::{Message, Role};
use crate::testing::endpoint::{Counts as ServerCounts, Endpoint, Options, Reply as Says, Request as Got};

/// One for all tests: they wait more than they work.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

/// Seconds after which an endpoint without an answer counts as dead.
fn window() -> NonZeroU32 {
    let seconds = std::env::var("GRANARY_FAULT_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    NonZeroU32::new(seconds.unwrap_or(2)).expect("more than none")
}

fn wide(seconds: u32) -> NonZeroU32 {
    NonZeroU32::new(seconds).expect("more than none")
}

fn settings(endpoint: &Endpoint) -> LlmSettings {
    of_url(&endpoint.url())
}

fn of_url(url: &str) -> LlmSettings {
    LlmSettings {
        endpoint: Some(Endpoints::One(url.to_owned())),
        timeout_seconds: wide(1),
        connect_timeout_seconds: wide(1),
        give_up_after_seconds: window(),
        throttled_for_seconds: window(),
        ..LlmSettings::of_model("scripted")
    }
}

/// A model that is asked in a run with a folder of its own.
struct Rig {
    llm: Arc<Llm>,
    folder: tempfile::TempDir,
    interrupted: Arc<AtomicBool>,
}

impl Rig {
    fn new(settings: LlmSettings) -> Self {
        Self::with(settings, tempfile::tempdir().expect("a folder"), false, Secrets::default())
    }

    fn with(settings: LlmSettings, folder: tempfile::TempDir, offline: bool, secrets: Secrets) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        let session = LlmSession {
            answers: folder.path().join("answers"),
            account: "out".to_owned(),
            offline,
            base_dir: folder.path().to_owned(),
            logs: Some(folder.path().join("logs")),
            runtime: RUNTIME.handle().clone(),
            interrupted: Arc::clone(&interrupted),
        };
        let llm = Llm::new("small", settings.clone());
        llm.answer_by(Box::new(Live::with("small", &settings, &session, Store::of(&session), secrets)));
        Self { llm: Arc::new(llm), folder, interrupted }
    }

    /// The same output in another run.
    fn again(self, settings: LlmSettings) -> Self {
        self.llm.close();
        Self::with(settings, self.folder, false, Secrets::default())
    }

    fn ask(&self, text: &str) -> Result<Answer, AskError> {
        RUNTIME.block_on(self.llm.ask(&ask(text)))
    }

    /// Asks `n` different things at once.
    fn ask_all(&self, n: usize) -> Vec<Result<Answer, AskError>> {
        let asks: Vec<Ask> = (0..n).map(|i| ask(&format!("question {i}"))).collect();
        RUNTIME.block_on(join_all(asks.iter().map(|ask| self.llm.ask(ask))))
    }

    fn start(&self, text: &str) -> tokio::task::JoinHandle<Result<Answer, AskError>> {
        let (llm, ask) = (Arc::clone(&self.llm), ask(text));
        RUNTIME.spawn(async move { llm.ask(&ask).await })
    }

    fn figures(&self) -> LlmFigures {
        self.llm.figures()
    }
}

fn ask(text: &str) -> Ask {
    Ask::new(vec![Message::text(Role::User, text)], 20)
}

fn text(answer: Result<Answer, AskError>) -> String {
    answer.expect("an answer").text
}

fn stopped(answer: Result<Answer, AskError>) -> (String, String) {
    match answer {
        Err(AskError::Stop(StageError::Stopped { problem, help })) => (problem, help),
        other => panic!("{other:?}"),
    }
}

fn ended(answer: Result<Answer, AskError>) -> String {
    match answer {
        Err(AskError::Stop(error @ StageError::Endpoint { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn refused(answer: Result<Answer, AskError>) -> (&'static str, String) {
    match answer {
        Err(AskError::Refused { reason, detail, .. }) => (reason, detail),
        other => panic!("{other:?}"),
    }
}

/// Waits for what happens on other threads, and fails if it never does.
fn until(what: &str, happens: impl Fn() -> bool) {
    let late = Instant::now() + Duration::from_mins(1);
    while !happens() {
        assert!(Instant::now() < late, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An endpoint that says these one after the other, and then `answer`; and when it was asked.
fn saying(replies: Vec<Says>) -> (Endpoint, Arc<Mutex<Vec<Instant>>>) {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let asked = Arc::clone(&times);
    let endpoint = Endpoint::start(move |got| {
        asked.lock().expect("whole").push(Instant::now());
        let number = usize::try_from(got.number).expect("few");
        replies.get(number).cloned().unwrap_or_else(|| Says::text("answer"))
    });
    (endpoint, times)
}

/// Tries all cases, each on a thread: they wait for most of the time.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, try_one: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        cases.into_iter().for_each(|case| {
            scope.spawn(|| try_one(case));
        });
    });
}

/// One fault, and then an answer: the request is sent again and answered. Gives the seconds between the two.
fn heals(fault: Says) -> (f64, LlmFigures) {
    let (endpoint, times) = saying(vec![fault]);
    let rig = Rig::new(settings(&endpoint));
    let answer = rig.ask("x").expect("an answer");
    assert_eq!((answer.text.as_str(), answer.origin), ("answer", Origin::Endpoint));
    let times = times.lock().expect("whole");
    assert_eq!(times.len(), 2, "sent once more, and no more");
    let figures = rig.figures();
    assert_eq!((figures.requests, figures.answers, figures.retries, figures.in_flight), (2, 1, 1, 0));
    // Asked again, nobody is.
    assert_eq!(rig.ask("x").map(|answer| answer.origin).expect("an answer"), Origin::Stored);
    assert_eq!(endpoint.counts().received, 2);
    ((times[1] - times[0]).as_secs_f64(), figures)
}

#[test]
fn an_answer_is_asked_for_once_and_kept() {
    let endpoint = Endpoint::start(|got: &Got| Says::text(format!("{}!", got.prompt())));
    let rig = Rig::new(settings(&endpoint));
    let answer = rig.ask("12345678").expect("an answer");
    let usage = Usage { prompt_tokens: 2, completion_tokens: 3, guessed: false };
    assert_eq!((answer.text.as_str(), answer.usage, answer.cut, answer.origin), ("12345678!", usage, false, Origin::Endpoint));
    // In this run, and in the next.
    assert_eq!(rig.ask("12345678").expect("an answer"), Answer { origin: Origin::Stored, ..answer.clone() });
    let figures = rig.figures();
    let wanted = LlmFigures { requests: 1, answers: 1, stored: 1, prompt_tokens: 2, completion_tokens: 3, ..LlmFigures::default() };
    assert_eq!(figures, LlmFigures { spent: Spent { requests: 1, tokens: 5, cost: 0.0 }, ..wanted });
    let rig = rig.again(settings(&endpoint));
    assert_eq!(rig.ask("12345678").expect("an answer"), Answer { origin: Origin::Stored, ..answer });
    assert_eq!(endpoint.counts().received, 1);
    assert_eq!(rig.figures().spent, Spent { requests: 1, tokens: 5, cost: 0.0 }, "what earlier runs spent counts");
}

#[test]
fn another_draw_is_another_answer() {
    let endpoint = Endpoint::start(|got| Says::text(format!("{} {}", got.number, got.body["seed"])));
    let rig = Rig::new(LlmSettings { send_seed: true, ..settings(&endpoint) });
    let answers: Vec<String> = (0..3).map(|draw| text(RUNTIME.block_on(rig.llm.ask(&Ask { draw, ..ask("x") })))).collect();
    let seeds: std::collections::BTreeSet<&str> = answers.iter().filter_map(|answer| answer.split(' ').nth(1)).collect();
    assert_eq!((endpoint.counts().received, seeds.len()), (3, 3), "{answers:?}");
    assert_eq!(text(RUNTIME.block_on(rig.llm.ask(&Ask { draw: 1, ..ask("x") }))), answers[1]);
}

#[test]
fn the_same_asking_under_way_is_sent_once() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(100), ..Options::default() }, |_| Says::text("one"));
    let rig = Rig::new(settings(&endpoint));
    let same = ask("x");
    let answers = RUNTIME.block_on(join_all((0..20).map(|_| rig.llm.ask(&same))));
    let origins: Vec<Origin> = answers.into_iter().map(|answer| answer.expect("an answer").origin).collect();
    assert_eq!(origins.iter().filter(|origin| **origin == Origin::Endpoint).count(), 1);
    assert_eq!((endpoint.counts().received, rig.figures().stored), (1, 19));
}

#[test]
fn who_asks_and_goes_away_leaves_the_answer_behind() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(50), ..Options::default() }, |_| Says::text("kept"));
    let rig = Rig::new(settings(&endpoint));
    let asking = rig.start("x");
    until("it is sent", || endpoint.counts().received == 1);
    asking.abort();
    until("it is answered", || rig.figures().answers == 1);
    assert_eq!(rig.ask("x").expect("an answer").origin, Origin::Stored);
    assert_eq!(endpoint.counts().received, 1);
}

#[test]
fn asked_too_often_it_waits_as_long_as_it_is_told() {
    let too_often = || Says::status(429, "slow down");
    let (waited, figures) = heals(too_often().header("retry-after", "1"));
    assert!((1.0..1.9).contains(&waited), "{waited}");
    assert_eq!(figures.throttled, 1);
    assert_eq!(figures.spent.requests, 2, "it was sent twice");
    let (waited, _) = heals(too_often().header("retry-after-ms", "300"));
    assert!((0.3..0.9).contains(&waited), "{waited}");
}

#[test]
fn asked_too_often_it_waits_until_the_date_it_is_told() {
    let now = SystemTime::now();
    let date = |time| httpdate::fmt_http_date(time);
    // By the server's clock, which is an hour behind.
    let hour = Duration::from_hours(1);
    let fault = Says::status(429, "slow down").header("date", date(now - hour));
    let (waited, _) = heals(fault.header("retry-after", date(now - hour + Duration::from_secs(1))));
    assert!((1.0..1.9).contains(&waited), "{waited}");
}

#[test]
fn asked_too_often_without_a_word_it_is_asked_less() {
    let (waited, _) = heals(Says::status(429, "slow down"));
    assert!(waited < 1.0, "{waited}");
    // Asked too often for long, the run stops, and no attempt is counted for that.
    let endpoint = Endpoint::start(|_| Says::status(429, "slow down"));
    let rig = Rig::new(LlmSettings { max_attempts: wide(1), ..settings(&endpoint) });
    let began = Instant::now();
    let answers = rig.ask_all(40);
    let seconds = began.elapsed().as_secs_f64();
    let window = f64::from(window().get());
    assert!((window..window * 2.0 + 60.0).contains(&seconds), "{seconds}");
    for answer in answers {
        let (problem, help) = stopped(answer);
        assert!(
            problem.starts_with("`small` gave no answer for ") && problem.ends_with(": it answered 429 Too Many Requests: slow down"),
            "{problem}"
        );
        assert!(help.ends_with("`llms.small.throttled_for_seconds`"), "{help}");
    }
    // 16 were under way when it began; then one at a time, less and less often.
    assert!(endpoint.counts().received < 16 + 20, "{:?}", endpoint.counts());
}

#[test]
fn without_money_the_run_stops() {
    let body = json!({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}});
    let endpoint = Endpoint::start(move |_| Says::json(429, &body));
    let rig = Rig::new(settings(&endpoint));
    let (problem, help) = stopped(rig.ask("x"));
    assert!(problem.contains("You exceeded your current quota") && help.contains("money"), "{problem}; {help}");
    assert!(rig.ask_all(5).into_iter().map(stopped).all(|(again, _)| again == problem), "nobody else is sent");
    assert_eq!(endpoint.counts().received, 1);
}

#[test]
fn an_error_of_the_server_is_no_answer() {
    at_once([500, 502, 504, 408, 409], |status| {
        let (_, figures) = heals(Says::status(status, "broken"));
        assert_eq!(figures.spent.tokens, 3, "{status}: nothing was booked for it but a request");
    });
    let (waited, _) = heals(Says::status(503, "overloaded").header("retry-after", "1"));
    assert!((1.0..2.5).contains(&waited), "{waited}");
}

#[test]
fn a_request_that_hangs_is_given_up_and_booked_in_full() {
    let (waited, figures) = heals(Says::hang());
    assert!((1.0..2.5).contains(&waited), "{waited}");
    // One text byte, 64 for the message and 64 around, 20 of the answer; and then what the second took.
    assert_eq!(figures.spent, Spent { requests: 2, tokens: 1 + 128 + 20 + 3, cost: 0.0 });
}

#[test]
fn an_answer_that_drips_is_given_up() {
    let (waited, _) = heals(Says::text("slow").drip(1, Duration::from_millis(20)));
    assert!((1.0..2.5).contains(&waited), "{waited}");
    // One that is slow and done in time is an answer.
    let (endpoint, _) = saying(vec![Says::text("slow").drip(100, Duration::from_millis(20))]);
    assert_eq!(text(Rig::new(settings(&endpoint)).ask("x")), "slow");
}

#[test]
fn a_connection_that_is_cut_is_no_answer() {
    // Before the head, in the head, behind it, and one byte before the end: the body has 217.
    at_once([0, 20, 90, 280], |bytes| {
        let (_, figures) = heals(Says::text("cut").cut_after(bytes));
        assert_eq!(figures.spent.tokens, 149 + 3, "{bytes}: it may have been paid for");
    });
}

#[test]
fn what_is_no_answer_is_not_kept() {
    let whole = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).to_string();
    let faults = [
        Says::raw(200, "application/json", &whole.as_bytes()[..whole.len() - 1]),
        Says::raw(200, "application/json", ""),
        Says::raw(200, "text/html", "<html><body>Please log in.</body></html>"),
        Says::raw(200, "text/plain", "Here is your answer."),
        Says::raw(200, "application/json", format!("Sure! {whole}")),
        Says::raw(200, "application/json", vec![0xff; 300]),
        Says::json(200, &json!({"choices": []})),
        Says::json(200, &json!({"error": {"message": "the backend is gone"}})),
        Says::raw(204, "application/json", ""),
        Says::json(200, &json!({"choices": [{"message": {"content": null}}]})),
    ];
    at_once(faults, |fault| {
        let (_, figures) = heals(fault);
        assert_eq!(figures.spent.tokens, 149 + 3, "it may have been paid for");
    });
}

#[test]
fn json_is_an_answer_whatever_it_is_called() {
    let whole = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).to_string();
    let (endpoint, _) = saying(vec![Says::raw(200, "text/plain", whole)]);
    assert_eq!(text(Rig::new(settings(&endpoint)).ask("x")), "x");
}

#[test]
fn an_endless_answer_ends_at_the_limit() {
    let endpoint = Endpoint::start(|got| match got.number {
        0 => Says::endless("{\"choices\": ["),
        1 => Says::raw(200, "application/json", vec![b' '; 2000]),
        _ => Says::text("short"),
    });
    let rig = Rig::new(LlmSettings { max_answer_bytes: NonZeroU64::new(1000).expect("some"), ..settings(&endpoint) });
    let began = Instant::now();
    assert_eq!(text(rig.ask("x")), "short");
    assert!(began.elapsed() < Duration::from_mins(1), "it is not waited for");
    // A small request between, whether the endpoint is well, is answered with three tokens.
    assert_eq!((rig.figures().requests, rig.figures().spent.tokens), (4, 149 * 2 + 3 + 3));
}

#[test]
fn an_empty_answer_was_paid_for_and_another_is_drawn() {
    let endpoint = Endpoint::start(|got| match got.number {
        0 => Says::text(""),
        1 => Says::text("Sure! {\"a\": 1} Anything else?"),
        _ => Says::text("{\"a\": 1}"),
    });
    let rig = Rig::new(settings(&endpoint));
    let read = |answer: &Answer| serde_json::from_str::<Value>(&answer.text).map_err(|error| error.to_string());
    let asked = RUNTIME.block_on(rig.llm.ask_until(ask("x"), 3, read)).expect("an answer");
    assert_eq!((asked.value, asked.all.len()), (json!({"a": 1}), 3));
    assert!(asked.all[0].text.is_empty());
    // All three are kept, under a key each: a rerun asks nobody.
    let rig = rig.again(settings(&endpoint));
    let again = RUNTIME.block_on(rig.llm.ask_until(ask("x"), 3, read)).expect("an answer");
    assert_eq!(again.all.iter().filter(|answer| answer.origin == Origin::Stored).count(), 3);
    assert_eq!(endpoint.counts().received, 3);
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let endpoint = Endpoint::start(|_| Says::text("x".repeat(100)));
    let answer = Rig::new(settings(&endpoint)).ask("x").expect("an answer");
    assert_eq!((answer.cut, answer.text.len()), (true, 80));
}

#[test]
fn tokens_that_were_not_said_are_guessed_and_booked_for_the_worst() {
    let endpoint = Endpoint::start(|_| Says::text("12345678").without_usage());
    let rig = Rig::new(settings(&endpoint));
    let answer = rig.ask("1234").expect("an answer");
    assert_eq!(answer.usage, Usage { prompt_tokens: 1, completion_tokens: 2, guessed: true });
    assert_eq!(rig.figures().spent.tokens, 4 + 128 + 9);
}

#[test]
fn a_server_that_dies_is_waited_for() {
    let endpoint = Endpoint::start(|got| Says::text(got.prompt()));
    let rig = Rig::new(LlmSettings { give_up_after_seconds: wide(60), ..settings(&endpoint) });
    assert_eq!(text(rig.ask("before")), "before");
    endpoint.stop();
    let waiting: Vec<_> = (0..8).map(|i| rig.start(&format!("after {i}"))).collect();
    until("it is missed", || rig.figures().retries >= 5);
    let trouble = rig.llm.trouble().expect("it is told");
    assert!(trouble.starts_with(&endpoint.url()) && trouble.contains("can't connect"), "{trouble}");
    endpoint.start_again();
    for (i, answer) in waiting.into_iter().enumerate() {
        assert_eq!(text(RUNTIME.block_on(answer).expect("no panic")), format!("after {i}"));
    }
    assert_eq!(rig.llm.trouble(), None);
    let figures = rig.figures();
    assert_eq!((endpoint.counts().received, figures.spent.requests), (9, 9), "who can't connect sent nothing");
}

#[test]
fn a_server_that_stays_dead_stops_the_run() {
    let endpoint = Endpoint::start(|_| Says::text("x"));
    let rig = Rig::new(LlmSettings { max_attempts: wide(2), ..settings(&endpoint) });
    assert_eq!(text(rig.ask("before")), "x");
    endpoint.stop();
    let began = Instant::now();
    let answers = rig.ask_all(20);
    let (seconds, window) = (began.elapsed().as_secs_f64(), f64::from(window().get()));
    assert!((window..window * 2.0 + 60.0).contains(&seconds), "{seconds}");
    for answer in answers {
        let (problem, help) = stopped(answer);
        assert!(problem.contains(&endpoint.url()) && problem.contains("can't connect"), "{problem}");
        assert!(help.contains("`llms.small.give_up_after_seconds`"), "{help}");
    }
    // Whoever asks now is told at once.
    let began = Instant::now();
    stopped(rig.ask("later"));
    assert!(began.elapsed() < Duration::from_secs_f64(window));
    // And when it is back, another run goes on.
    endpoint.start_again();
    let rig = rig.again(settings(&endpoint));
    assert!(rig.ask_all(20).into_iter().all(|answer| answer.is_ok()));
}

#[test]
fn one_request_that_always_fails_is_given_up_while_others_are_answered() {
    let endpoint = Endpoint::start(|got| match got.prompt().as_str() {
        "question 7" => Says::status(500, "this one breaks me"),
        _ => Says::text("fine").after(Duration::from_millis(5)),
    });
    let rig = Rig::new(LlmSettings { max_attempts: wide(3), ..settings(&endpoint) });
    for (i, answer) in rig.ask_all(40).into_iter().enumerate() {
        if i == 7 {
            let (reason, detail) = refused(answer);
            assert_eq!(reason, "request_failed");
            assert!(detail.ends_with("the last time: it answered 500 Internal Server Error: this one breaks me"), "{detail}");
        } else {
            assert_eq!(text(answer), "fine");
        }
    }
}

#[test]
fn one_request_that_always_fails_is_given_up_when_nobody_else_asks() {
    let endpoint = Endpoint::start(|got| match got.prompt().as_str() {
        "poison" => Says::status(500, "this one breaks me"),
        _ => Says::text("fine"),
    });
    let rig = Rig::new(LlmSettings { max_attempts: wide(3), ..settings(&endpoint) });
    assert_eq!(refused(rig.ask("poison")).0, "request_failed");
    assert_eq!(text(rig.ask("other")), "fine", "the endpoint is well");
}

#[test]
fn one_request_that_always_hangs_does_not_make_the_endpoint_dead() {
    let endpoint = Endpoint::start(|got| match got.prompt().as_str() {
        "poison" => Says::hang(),
        _ => Says::text("fine"),
    });
    // It hangs as long as a dead endpoint may.
    let rig = Rig::new(LlmSettings { max_attempts: wide(2), give_up_after_seconds: wide(1), ..settings(&endpoint) });
    assert_eq!(refused(rig.ask("poison")).0, "request_failed");
    assert_eq!(text(rig.ask("other")), "fine", "the endpoint is well");
}

#[test]
fn an_endpoint_that_only_hangs_is_dead() {
    let endpoint = Endpoint::start(|_| Says::hang());
    let rig = Rig::new(settings(&endpoint));
    assert!(rig.ask_all(20).into_iter().map(stopped).all(|(problem, _)| problem.ends_with("no whole answer within 1 s")));
}

#[test]
fn a_request_that_is_wrong_is_refused_at_once() {
    for status in [400, 413, 422] {
        let endpoint = Endpoint::start(move |got| match got.prompt().as_str() {
            "question 3" => Says::status(status, "too long by 7 tokens"),
            _ => Says::text("fine"),
        });
        let rig = Rig::new(settings(&endpoint));
        for (i, answer) in rig.ask_all(6).into_iter().enumerate() {
            if i == 3 {
                let (reason, detail) = refused(answer);
                assert!(reason == "request_refused" && detail.ends_with(": too long by 7 tokens"), "{detail}");
            } else {
                assert_eq!(text(answer), "fine");
            }
        }
        assert_eq!((endpoint.counts().received, rig.figures().spent.requests), (6, 6));
    }
}

#[test]
fn a_wrong_key_model_or_url_ends_the_run() {
    let ends = |reply: Says, settings: &dyn Fn(LlmSettings) -> LlmSettings| {
        let endpoint = Endpoint::start(move |_| reply.clone());
        let rig = Rig::new(settings(self::settings(&endpoint)));
        let error = ended(rig.ask("x"));
        assert!(rig.ask_all(3).into_iter().map(ended).all(|again| again == error));
        assert_eq!(endpoint.counts().received, 1, "nobody else is sent");
        error
    };
    let named = |settings: LlmSettings| LlmSettings { api_key_env: Some("SMALL_KEY".to_owned()), ..settings };
    let error = ends(Says::status(401, "no such key"), &named);
    assert!(
        error.contains("it answered 401 Unauthorized: no such key") && error.contains("the environment variable `SMALL_KEY`"),
        "{error}"
    );
    assert!(ends(Says::status(403, "not yours"), &|settings| settings).contains("`llms.small.api_key_env`"));
    let error = ends(Says::status(404, "there is no model `scripted`"), &|settings| settings);
    assert!(error.contains("/v1/chat/completions: it answered 404 Not Found: there is no model `scripted`"), "{error}");
    let moved = Says::status(301, "moved").header("location", "https://example.com/v1/");
    assert!(ends(moved, &|settings| settings).contains("moved, to https://example.com/v1/"));
}

#[test]
fn of_several_urls_a_dead_one_is_left_alone() {
    let (left, right) = (
        Endpoint::start(|_| Says::text("fine").after(Duration::from_millis(3))),
        Endpoint::start(|_| Says::text("fine").after(Duration::from_millis(3))),
    );
    let dead = Endpoint::start(|_| Says::text("never"));
    dead.stop();
    let urls = [&left, &dead, &right].map(Endpoint::url).to_vec();
    let rig = Rig::new(LlmSettings { endpoint: Some(Endpoints::Several(urls)), ..of_url("") });
    assert!(rig.ask_all(200).into_iter().all(|answer| text(answer) == "fine"));
    let (left, right) = (left.counts().received, right.counts().received);
    assert!(left + right == 200 && left.min(right) >= 60, "{left} and {right}");
    assert!(rig.figures().retries < 30, "{:?}", rig.figures());
}

#[test]
fn what_a_server_can_do_at_once_is_found_out_and_used() {
    let options = Options { slots: Some(8), latency: Duration::from_millis(10), ..Options::default() };
    let endpoint = Endpoint::with(options, |_| Says::text("fine"));
    let rig = Rig::new(LlmSettings { max_in_flight: wide(64), ..settings(&endpoint) });
    assert!(rig.ask_all(400).into_iter().all(|answer| answer.is_ok()));
    let ServerCounts { too_many, at_once, .. } = endpoint.counts();
    assert!(at_once == 8 && too_many < 200, "{too_many} refused");
}

#[test]
fn no_more_are_under_way_than_may_be() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(5), ..Options::default() }, |_| Says::text("fine"));
    let rig = Rig::new(LlmSettings { max_in_flight: wide(3), ..settings(&endpoint) });
    assert!(rig.ask_all(60).into_iter().all(|answer| answer.is_ok()));
    assert_eq!(endpoint.counts().at_once, 3);
}

#[test]
fn requests_a_minute_are_spread() {
    let (endpoint, times) = saying(Vec::new());
    // 20 a second, of which two seconds' worth may go ahead: then the rest follows evenly.
    let rig = Rig::new(LlmSettings { requests_per_minute: Some(wide(1240)), ..settings(&endpoint) });
    assert!(rig.ask_all(60).into_iter().all(|answer| answer.is_ok()));
    let times = times.lock().expect("whole");
    let seconds = (times[59] - times[0]).as_secs_f64();
    assert!((0.9..60.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_run_that_is_interrupted_sends_nothing_more() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(300), ..Options::default() }, |_| Says::text("paid for"));
    let rig = Rig::new(LlmSettings { max_in_flight: wide(2), ..settings(&endpoint) });
    let asking: Vec<_> = (0..6).map(|i| rig.start(&format!("question {i}"))).collect();
    until("two are sent", || endpoint.counts().received == 2);
    rig.interrupted.store(true, Ordering::Relaxed);
    let answers: Vec<_> = asking.into_iter().map(|asking| RUNTIME.block_on(asking).expect("no panic")).collect();
    let interrupted = answers.iter().filter(|answer| matches!(answer, Err(AskError::Stop(StageError::Interrupted)))).count();
    assert_eq!((answers.iter().filter(|answer| answer.is_ok()).count(), interrupted), (2, 4), "those under way end");
    assert_eq!(endpoint.counts().received, 2);
}

#[test]
fn offline_only_stored_answers_are_given() {
    let endpoint = Endpoint::start(|_| Says::text("stored"));
    let rig = Rig::new(settings(&endpoint));
    assert_eq!(text(rig.ask("x")), "stored");
    rig.llm.close();
    let rig =
        Rig::with(LlmSettings { api_key_env: Some("NO_SUCH_KEY".to_owned()), ..settings(&endpoint) }, rig.folder, true, Secrets::default());
    assert_eq!(text(rig.ask("x")), "stored");
    let (problem, help) = stopped(rig.ask("y"));
    assert!(problem.contains("`--offline-llm`") && help.contains("run without"), "{problem}; {help}");
    assert_eq!(endpoint.counts().received, 1);
}

/// Answers that take all they may: a token a byte of the request, and as many of the answer as were asked for.
fn dear(got: &Got) -> Says {
    let bytes: usize = got.messages().iter().map(|message| Got::text_of(message).len()).sum();
    let reply = Says::text("dear").billing(bytes as u64 + 64, got.max_tokens());
    match got.number % 7 {
        1 => Says::status(500, "broken"),
        2 => reply.cut_after(60),
        3 => reply.without_usage(),
        4 => Says::status(429, "slow down").header("retry-after-ms", "1"),
        _ => reply,
    }
}

#[test]
fn a_budget_of_tokens_is_never_passed() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(2), ..Options::default() }, dear);
    let limited = |max_tokens| LlmSettings {
        max_in_flight: wide(64),
        give_up_after_seconds: wide(60),
        throttled_for_seconds: wide(60),
        budget: LlmBudget { max_tokens: Some(max_tokens), ..LlmBudget::default() },
        ..settings(&endpoint)
    };
    let mut rig = Rig::new(limited(5_000));
    let mut answered = 0;
    for limit in [5_000, 9_000, 9_001] {
        rig = rig.again(limited(limit));
        let answers = rig.ask_all(200);
        let spent = rig.figures().spent.tokens;
        let billed = endpoint.counts().tokens();
        assert!(billed <= spent && spent <= limit, "{billed} billed, {spent} booked of {limit}");
        // What is left would not have been enough for one more.
        assert!(spent + 159 > limit, "{spent} of {limit}");
        answered = answers.iter().filter(|answer| answer.is_ok()).count().max(answered);
        let (problem, help) = answers.into_iter().filter(Result::is_err).map(stopped).next().expect("one that was stopped");
        assert!(problem.contains(&format!("`max_tokens` is {limit}, ")), "{problem}");
        assert_eq!(help, "raise `llms.small.budget.max_tokens` and run again");
    }
    // Raised for good, it goes on where it stopped.
    let before = endpoint.counts().received;
    let rig = rig.again(limited(1_000_000));
    assert!(rig.ask_all(200).into_iter().all(|answer| answer.is_ok()));
    assert!(answered > 20 && endpoint.counts().received - before < 400);
}

#[test]
fn a_run_that_asks_nothing_still_says_what_was_spent() {
    let endpoint = Endpoint::start(|_| Says::text("x"));
    let rig = Rig::new(settings(&endpoint));
    text(rig.ask("a"));
    let spent = rig.figures().spent;
    assert_eq!(spent.requests, 1);
    let rig = rig.again(settings(&endpoint));
    rig.llm.close();
    let figures = rig.figures();
    assert_eq!((figures.requests, figures.spent), (0, spent));
}

#[test]
fn a_budget_of_requests_is_never_passed() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(2), ..Options::default() }, dear);
    let budget = LlmBudget { max_requests: Some(50), ..LlmBudget::default() };
    let rig = Rig::new(LlmSettings {
        max_in_flight: wide(64),
        give_up_after_seconds: wide(60),
        throttled_for_seconds: wide(60),
        budget,
        ..settings(&endpoint)
    });
    let answers = rig.ask_all(200);
    assert_eq!((endpoint.counts().received, rig.figures().spent.requests), (50, 50));
    assert!(
        answers.into_iter().filter(Result::is_err).map(stopped).all(|(problem, _)| problem.contains("`max_requests` is 50, 50 are spent"))
    );
}

#[test]
fn a_budget_of_cost_is_never_passed() {
    let endpoint = Endpoint::with(Options { latency: Duration::from_millis(2), ..Options::default() }, dear);
    let price = Price { prompt: 1_000.0, completion: 3_000.0 };
    let budget = LlmBudget { max_cost: Some(5.0), ..LlmBudget::default() };
    let rig = Rig::new(LlmSettings {
        max_in_flight: wide(64),
        give_up_after_seconds: wide(60),
        throttled_for_seconds: wide(60),
        budget,
        price: Some(price),
        ..settings(&endpoint)
    });
    let answers = rig.ask_all(200);
    let counts = endpoint.counts();
    let (billed, spent) = (price.of(counts.prompt_tokens, counts.completion_tokens), rig.figures().spent.cost);
    assert!(billed <= spent + 1e-9 && spent <= 5.0 && spent > 4.7, "{billed} billed, {spent} booked");
    assert!(answers.into_iter().filter(Result::is_err).map(stopped).all(|(_, help)| help.contains("`llms.small.budget.max_cost`")));
}

#[test]
fn a_prompt_that_takes_more_than_was_thought_raises_what_is_held() {
    let endpoint = Endpoint::start(|_| Says::text("x").billing(1_000, 1));
    let budget = LlmBudget { max_tokens: Some(2_500), ..LlmBudget::default() };
    let rig = Rig::new(LlmSettings { max_in_flight: wide(1), budget, ..settings(&endpoint) });
    assert!(rig.ask("1").is_ok() && rig.ask("2").is_ok());
    // 2,002 are spent, and by what was seen the third may need more than 1,000.
    assert!(stopped(rig.ask("3")).0.contains("2002 are spent"));
    assert_eq!(endpoint.counts().received, 2);
}

const PLANTED: &str = "sk-planted-3141592653";

#[test]
fn a_key_is_sent_and_stands_nowhere() {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let endpoint = Endpoint::start(move |got| {
        let key = got.header("authorization").unwrap_or("none").to_owned();
        seen.fetch_add(usize::from(key == format!("Bearer {PLANTED}")), Ordering::SeqCst);
        match got.number {
            0 => Says::status(500, &format!("your key is {key}")),
            1 => Says::text(format!("your key is {key}")),
            2 => Says::status(400, &format!("your key is {key}")),
            _ => Says::status(401, &format!("your key is {key}")),
        }
    });
    let settings = LlmSettings { api_key_env: Some("KEY".to_owned()), ..settings(&endpoint) };
    let secrets = Secrets::read(&settings, |_| Some(PLANTED.to_owned())).expect("a key");
    let rig = Rig::with(settings, tempfile::tempdir().expect("a folder"), false, secrets);
    let mut shown = vec![text(rig.ask("a")), refused(rig.ask("b")).1, ended(rig.ask("c"))];
    assert!(shown[0].contains("your key is Bearer ***"), "{shown:?}");
    shown.push(format!("{:?} {:?}", rig.llm, rig.figures()));
    rig.llm.close();
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    let answers = Answers::view(&rig.folder.path().join("answers")).expect("answers");
    let transcripts: Vec<Transcript> = answers.keys().iter().filter_map(|key| answers.transcript(key).expect("whole")).collect();
    assert_eq!(transcripts.len(), 1);
    shown.push(format!("{transcripts:?}"));
    for folder in ["answers", "logs"] {
        let files = std::fs::read_dir(rig.folder.path().join(folder)).into_iter().flatten().flatten();
        shown.extend(files.map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).expect("a file")).into_owned()));
    }
    assert!(shown.iter().all(|text| !text.contains("planted")), "{shown:?}");
}

#[test]
fn a_missing_key_is_named_before_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut session = LlmSession {
        answers: folder.path().join("answers"),
        account: "out".to_owned(),
        offline: false,
        base_dir: folder.path().to_owned(),
        logs: None,
        runtime: RUNTIME.handle().clone(),
        interrupted: Arc::default(),
    };
    let settings = LlmSettings { api_key_env: Some("GRANARY_NO_SUCH_VARIABLE".to_owned()), ..of_url("http://127.0.0.1:9/v1") };
    let error = Llm::new("small", settings.clone()).open(&session).expect_err("no key");
    assert_eq!(error.to_string(), "the environment variable `GRANARY_NO_SUCH_VARIABLE` is not set");
    session.offline = true;
    assert!(Llm::new("small", settings).open(&session).is_ok());
    assert!(!folder.path().join("answers").exists(), "nothing is made before the first ask");
}

#[test]
fn a_program_serves_while_it_is_asked_and_no_longer() {
    if !has(&["python3", "--version"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("serve.py"), SERVE).expect("written");
    let command = ["python3", "serve.py", "--port", "{port}"].map(str::to_owned).to_vec();
    let settings = LlmSettings {
        endpoint: None,
        command: Some(command),
        start_timeout_seconds: wide(30),
        give_up_after_seconds: wide(30),
        ..of_url("")
    };
    let rig = Rig::with(settings, folder, false, Secrets::default());
    let first = text(rig.ask("hello"));
    let pid: i32 = first.split(' ').nth(1).expect("a number").parse().expect("a number");
    assert!(first.starts_with("hello "), "{first}");
    // Killed in the middle, it is started again.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    let second = text(rig.ask("again"));
    assert!(second.starts_with("again ") && second.split(' ').nth(1) != first.split(' ').nth(1), "{second}");
    // It goes with what it started.
    let started: Vec<String> = second.split(' ').skip(1).map(str::to_owned).collect();
    assert!(started.iter().all(|pid| is_running(pid)), "{started:?}");
    rig.llm.close();
    until("they end", || started.iter().all(|pid| !is_running(pid)));
    let log = std::fs::read_to_string(rig.folder.path().join("logs/llm-small.log")).expect("a log");
    assert_eq!(log.matches("serving").count(), 2, "{log}");
}

#[test]
fn who_asks_while_it_starts_waits_until_it_answers() {
    if !has(&["python3", "--version"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("serve.py"), format!("import time\ntime.sleep(0.7)\n{SERVE}")).expect("written");
    let command = ["python3", "serve.py", "--port", "{port}"].map(str::to_owned).to_vec();
    let settings = LlmSettings { endpoint: None, command: Some(command), start_timeout_seconds: wide(30), ..of_url("") };
    let rig = Rig::with(settings, folder, false, Secrets::default());
    rig.ask_all(3).into_iter().for_each(|answer| assert!(text(answer).starts_with("question")));
    assert_eq!(rig.figures().retries, 0, "{:?}", rig.figures());
    rig.llm.close();
}

/// Whether there is such a program; where tests must all run, there is.
fn has(command: &[&str]) -> bool {
    let quiet = std::process::Stdio::null;
    let ran = std::process::Command::new(command[0]).args(&command[1..]).stdout(quiet()).stderr(quiet()).status();
    let is_there = ran.is_ok_and(|status| status.success());
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "no {}", command[0]);
        _ = writeln!(std::io::stderr(), "skipped: no {}", command[0]);
    }
    is_there
}

#[test]
fn who_cannot_prove_who_it_is_gets_no_key() {
    if !has(&["python3", "--version"]) || !has(&["openssl", "version"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let quiet = std::process::Stdio::null;
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out own.pem -days 2 -subj /CN=localhost".split(' '))
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .current_dir(folder.path())
        .stderr(quiet())
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let mut server = std::process::Command::new("python3")
        .args(["-u", "-c", SERVE_TLS])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(quiet())
        .spawn()
        .expect("it starts");
    let mut said = std::io::BufReader::new(server.stdout.take().expect("a pipe"));
    let mut port = String::new();
    std::io::BufRead::read_line(&mut said, &mut port).expect("a port");
    let rig = Rig::new(of_url(&format!("https://127.0.0.1:{}/v1", port.trim())));
    let error = ended(rig.ask("x"));
    assert!(error.contains("invalid peer certificate") && error.contains("can't prove who it is"), "{error}");
    assert_eq!(rig.figures().spent, Spent::default());
    server.kill().expect("it runs");
    server.wait().expect("it ended");
}

/// A server with a certificate that it signed itself.
const SERVE_TLS: &str = r#"
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("own.pem", "key.pem")
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
while True:
    try:
        context.wrap_socket(listener.accept()[0], server_side=True).close()
    except OSError:
        pass
"#;

/// Answers with its own number and that of a program that it started.
const SERVE: &str = r#"
import http.server, json, os, subprocess, sys
child = subprocess.Popen(["sleep", "1000"])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def send(self, body):
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.send({"data": []})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f'{asked["messages"][-1]["content"]} {os.getpid()} {child.pid}'
        self.send({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})
    def log_message(self, *arguments):
        pass
print("serving")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"#;

fn is_running(pid: &str) -> bool {
    // A zombie is nobody.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_program_ends_when_who_started_it_is_gone() {
    // Its guard sees that a pipe closes, which it does however a process ends.
    let folder = tempfile::tempdir().expect("a folder");
    let mut guarded = std::process::Command::new("/bin/sh");
    guarded.args(["-c", crate::llm::served::GUARD, "guard", "/bin/sh", "-c", "sleep 1000 & echo $$ $!; wait"]);
    std::os::unix::process::CommandExt::process_group(&mut guarded, 0);
    let mut child = guarded
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    let mut said = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut said, &mut line).expect("two numbers");
    let pids: Vec<&str> = line.split_whitespace().collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(pid)), "{line}");
    assert_eq!(pids[0], child.id().to_string(), "the program is the leader of its group");
    drop(child.stdin.take());
    until("they end", || pids.iter().all(|pid| !is_running(pid)));
    child.wait().expect("it ended");
}

#[test]
fn a_program_that_cannot_serve_says_its_last_words() {
    let of = |command: &[&str], seconds| {
        let command = Some(command.iter().map(|word| (*word).to_owned()).collect());
        let settings = LlmSettings { endpoint: None, command, start_timeout_seconds: wide(seconds), ..of_url("") };
        match Rig::new(settings).ask("x") {
            Err(AskError::Stop(StageError::Program { run, problem })) => format!("`{run}` {problem}"),
            other => panic!("{other:?}"),
        }
    };
    let died = of(&["sh", "-c", "echo no model at {port} >&2; exit 3", "{port}"], 30);
    assert!(died.contains("ended with exit code 3 before it answered; the end of what it wrote:\nno model at "), "{died}");
    assert!(of(&["no-such-program", "{port}"], 30).contains("there is no program `no-such-program`"));
    let silent = of(&["sh", "-c", "echo loading; exec sleep 1000", "{port}"], 1);
    assert!(silent.contains("within 1 s (`start_timeout_seconds`); the end of what it wrote:\nloading"), "{silent}");
}
