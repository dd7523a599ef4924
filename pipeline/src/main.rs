//! The `pipeline` command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use miette::MietteHandlerOpts;
use nix::sys::signal::{SigSet, Signal};
use pipeline::cli::{self, Cli, Exit};
use tracing_subscriber::EnvFilter;

/// Its settings are in `.cargo/config.toml`: memory in huge pages, and what is free goes back to the system within a second.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Threads that polars cuts a column into pieces for. Sums of floats depend on it, so it is the same everywhere.
const POLARS_THREADS: &str = "4";

fn main() -> ExitCode {
    #[expect(unsafe_code, reason = "no other thread is there yet that could read the environment; polars takes it from nowhere else")]
    // SAFETY: this is the first thing the program does.
    unsafe {
        std::env::set_var("POLARS_MAX_THREADS", POLARS_THREADS);
    }
    stay_deaf_to_ignored_hang_ups();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed this way too, to stdout; nobody is left to tell if that fails.
            _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let filter = EnvFilter::try_from_env("PIPELINE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let messages = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).without_time();
    // What can't be written to stderr can't be complained about there: the attempt would end the program with a panic.
    messages.log_internal_errors(false).init();
    // Fails only if a hook was set before.
    _ = miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().terminal_links(false).build())));
    match cli::execute(cli) {
        Ok(exit) => exit.into(),
        Err(report) => {
            // If stderr is gone, the exit code still tells.
            _ = writeln!(std::io::stderr(), "{report:?}");
            cli::exit_of(&report).into()
        }
    }
}

/// Under `nohup` a run goes on when its terminal is closed, though what handles interrupts would take a hang-up for one. The signal is blocked
/// in this thread, before there are others: they take it over, and programs that are started do not.
fn stay_deaf_to_ignored_hang_ups() {
    const HANG_UP: u64 = 1; // signal 1 is the first bit
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap_or(0);
    if ignored & HANG_UP != 0 {
        // Fails for no signal that there is.
        _ = SigSet::from(Signal::SIGHUP).thread_block();
    }
}
