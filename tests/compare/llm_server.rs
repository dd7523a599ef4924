//! An endpoint of a language model that answers by a script: what clients are raced against.
//!
//! Prints its port when it is ready, and at SIGTERM or SIGINT what it counted; GET /counts says the same while it runs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for scripts")]

use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use stages::testing::endpoint::{Endpoint, Options, Reply, Request, halving};

const USAGE: &str = "usage: llm_server [--port N] [--latency-ms N] [--slots N] [--script halving|fixed|echo] [--answer TEXT]";

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
    let mut options = Options::default();
    let (mut script, mut answer) = ("fixed".to_owned(), "This is the answer that it always gives.".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
        match name.as_str() {
            "--port" => options.port = u16::try_from(number()?).map_err(|error| format!("{name} {value}: {error}"))?,
            "--latency-ms" => options.latency = Duration::from_millis(number()?),
            "--slots" => options.slots = Some(number()?),
            "--script" => script = value,
            "--answer" => answer = value,
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    let script: Box<dyn Fn(&Request) -> Reply + Send + Sync> = match script.as_str() {
        "halving" => Box::new(halving),
        "fixed" => Box::new(move |_| Reply::text(answer.as_str())),
        "echo" => Box::new(|request| Reply::text(request.prompt())),
        other => return Err(format!("unknown script {other}")),
    };
    // Blocked before its threads start, which then block them too: they wait to be taken here.
    let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    ends.thread_block().map_err(|error| error.to_string())?;
    let endpoint = Endpoint::with(options, script);
    println!("{}", endpoint.port());
    ends.wait().map_err(|error| error.to_string())?;
    println!("{}", endpoint.counts().json());
    Ok(())
}
