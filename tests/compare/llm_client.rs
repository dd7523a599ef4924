//! Asks an endpoint as a run does, without the rest of a run: what the client alone takes.
//!
//! Prints the requests a second and the processor's time for each, which a comparison puts beside other clients.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for scripts")]

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::json;
use stages::llm::{Ask, Endpoints, LlmSession, LlmSettings, Llms, Message, Role};

const USAGE: &str = "usage: llm_client URL ANSWERS_FOLDER [REQUESTS [AT_ONCE [PROMPT_BYTES]]]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder, numbers @ ..] = arguments.as_slice() else { return Err("wanted a URL and a folder".to_owned()) };
    let number = |place: usize, default: u32| numbers.get(place).map_or(Ok(default), |text| text.parse::<u32>());
    let number = |place, default| number(place, default).map_err(|error| error.to_string());
    let (requests, at_once, bytes) = (number(0, 10_000)?, number(1, 64)?, number(2, 1000)?);
    let settings = LlmSettings {
        endpoint: Some(Endpoints::One(url.clone())),
        max_in_flight: NonZeroU32::new(at_once).ok_or("wanted one at once at least")?,
        ..LlmSettings::of_model("scripted")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| error.to_string())?;
    let session = LlmSession {
        answers: folder.into(),
        account: "compare".to_owned(),
        offline: false,
        base_dir: ".".into(),
        logs: None,
        runtime: runtime.handle().clone(),
        interrupted: Arc::new(AtomicBool::new(false)),
    };
    let llms = Llms::new([("small".to_owned(), settings)]);
    llms.open(&session).map_err(|error| error.to_string())?;
    let llm = llms.get("small").ok_or("no model")?;
    let filling = "The granary keeps what the fields gave, and gives what the mill takes. ".repeat(bytes as usize / 72 + 1);
    let asks = (0..requests).map(|number| {
        let text = format!("{number}: {}", &filling[..filling.floor_char_boundary(bytes as usize)]);
        Ask::new(vec![Message::text(Role::System, "Answer briefly."), Message::text(Role::User, text)], 100)
    });
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let answered = runtime.block_on(async {
        use futures::StreamExt;
        let answers = futures::stream::iter(asks).map(|ask| async move { llm.ask(&ask).await });
        answers.buffer_unordered(at_once as usize * 4).filter(|answer| std::future::ready(answer.is_ok())).count().await
    });
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    llms.close();
    println!(
        "{}",
        json!({
            "answered": answered,
            "seconds": seconds,
            "requests_per_second": answered as f64 / seconds,
            "cpu_seconds": cpu,
            "cpu_us_per_request": cpu * 1e6 / answered.max(1) as f64,
            "figures": serde_json::to_value(llm.figures()).unwrap_or_default(),
        })
    );
    Ok(())
}

/// Of this process, user's and system's; 0 where there is no `/proc`. The clock of Linux ticks a hundred times a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
