//! `command`: a program that serves a model on this machine, started when the first answer is needed and ended with the run.
//!
//! It leads a process group of its own, in which a guard stands beside it: a shell that holds the end of a pipe of ours, and ends the group
//! when the pipe closes. So it ends with us however we end, with all that it started, which no signal to it alone could promise.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;
use url::Url;

use super::LlmSettings;
use super::http::{Secrets, Transport, below};
use crate::command::Program;

/// Bytes of what it writes that are kept; what it wrote last is kept in memory beside them.
const MOST_LOG: u64 = 16 << 20;
/// Bytes of its last words.
const TAIL: usize = 4 << 10;
/// How long it may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(5);
/// How long what it wrote is waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Times that it is started again when it died.
const RESTARTS: u32 = 3;
/// How long one look whether it answers may take.
const LOOK: Duration = Duration::from_secs(2);

/// Starts a program as the leader of its group, with the guard beside it.
pub(super) const GUARD: &str = r#"exec 3<&0 </dev/null
(trap '' TERM INT HUP; read -r _ <&3; kill -s KILL 0) >/dev/null 2>&1 &
exec 3<&-
exec "$@""#;

/// Why there is no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotServed {
    /// The program as it was started.
    pub(super) run: String,
    /// What happened to it.
    pub(super) problem: String,
    /// Whether it answered before: then it may again, in another run.
    pub(super) died: bool,
}

/// The server of one entry of `llms`.
pub(super) struct Served {
    name: String,
    run: Vec<String>,
    start_timeout: Duration,
    base_dir: PathBuf,
    log: Option<PathBuf>,
    secrets: Arc<Secrets>,
    state: tokio::sync::Mutex<State>,
    /// The one that runs, for whoever ends it.
    running: Mutex<Option<Arc<Running>>>,
}

#[derive(Default)]
struct State {
    running: Option<Arc<Running>>,
    starts: u32,
    failed: Option<NotServed>,
}

/// Where a server can be asked, and which of its starts that was.
#[derive(Clone)]
pub(super) struct At {
    /// `…/chat/completions`.
    pub(super) url: Url,
    pub(super) start: u32,
}

struct Running {
    at: At,
    group: i32,
    /// Whether it has answered: until then those who ask wait with the one who started it.
    ready: AtomicBool,
    /// How it ended, when it has.
    ended: watch::Receiver<Option<ExitStatus>>,
    tail: Arc<Mutex<Vec<u8>>>,
    /// Closed when it is dropped, which ends the group.
    guard: Mutex<Option<ChildStdin>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Served {
    /// Of the `command` of `settings`; nothing is started yet.
    pub(super) fn new(name: &str, settings: &LlmSettings, base_dir: PathBuf, logs: Option<&PathBuf>, secrets: Arc<Secrets>) -> Self {
        Self {
            name: name.to_owned(),
            run: settings.command.clone().unwrap_or_default(),
            start_timeout: Duration::from_secs(settings.start_timeout_seconds.get().into()),
            base_dir,
            log: logs.map(|logs| logs.join(format!("llm-{name}.log"))),
            secrets,
            state: tokio::sync::Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Where it can be asked; it is started if it does not run.
    ///
    /// # Errors
    /// If it cannot be started, or died too often.
    pub(super) async fn at(&self, transport: &Transport) -> Result<At, NotServed> {
        if let Some(running) = self.running().as_ref().filter(|running| running.ready.load(Ordering::Acquire) && !running.has_ended()) {
            return Ok(running.at.clone());
        }
        // One starts it, the others wait for that.
        let mut state = self.state.lock().await;
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        if let Some(running) = &state.running {
            if !running.has_ended() {
                return Ok(running.at.clone());
            }
            let died = self.last_words(running, "").await;
            if state.starts > RESTARTS {
                let problem = format!("died {} times; the last time it {died}", state.starts);
                return Err(state.fail(NotServed { run: self.run.join(" "), problem, died: true }));
            }
        }
        state.running = None;
        match self.start(state.starts + 1, transport).await {
            Ok(running) => {
                state.starts += 1;
                state.running = Some(Arc::clone(&running));
                Ok(running.at.clone())
            }
            Err(problem) => {
                let died = state.starts > 0;
                Err(state.fail(NotServed { run: self.run.join(" "), problem, died }))
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, start: u32, transport: &Transport) -> Result<Arc<Running>, String> {
        let running = Arc::new(self.spawn(start)?);
        // From here on it is ended with the run, even while it starts.
        *self.running() = Some(Arc::clone(&running));
        let ready = self.wait_until_ready(&running, transport).await;
        if ready.is_err() {
            self.running().take();
        }
        running.ready.store(ready.is_ok(), Ordering::Release);
        ready.map(|()| running)
    }

    fn spawn(&self, start: u32) -> Result<Running, String> {
        let program = Program::find(&self.run, &self.base_dir, Vec::new())?;
        let port = free_port().map_err(|error| format!("can't be started: there is no free port on 127.0.0.1: {error}"))?;
        let base = format!("http://127.0.0.1:{port}/v1");
        let url = below(&base, "chat/completions").map_err(|error| error.to_string())?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(GUARD).arg("granary-guard").arg(&program.executable);
        command.args(self.run[1..].iter().map(|argument| argument.replace("{port}", &port.to_string())));
        command.current_dir(&program.folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if std::env::var_os("PYTHONUNBUFFERED").is_none() {
            // Last words in a buffer are lost.
            command.env("PYTHONUNBUFFERED", "1");
        }
        let mut child = command.spawn().map_err(|error| format!("can't be started: {error}"))?;
        let group = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        let (guard, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let log = self.open_log().map_err(|error| format!("can't write its log: {error}"));
        let log = Arc::new(Mutex::new(match log {
            Ok(log) => log,
            Err(problem) => {
                end_group(group);
                _ = child.wait();
                return Err(problem);
            }
        }));
        let tail: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (tell, ended) = watch::channel(None);
        let mut threads = Vec::new();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [stdout.map(|pipe| Box::new(pipe) as _), stderr.map(|pipe| Box::new(pipe) as _)];
        for pipe in pipes.into_iter().flatten() {
            let (log, tail, secrets) = (Arc::clone(&log), Arc::clone(&tail), Arc::clone(&self.secrets));
            threads.push(thread("llm-log", move || keep(pipe, &log, &tail, &secrets)));
        }
        threads.push(thread("llm-wait", move || wait_for(child, &tell)));
        let threads = threads.into_iter().collect::<io::Result<Vec<_>>>().map_err(|error| {
            end_group(group);
            format!("can't be started: {error}")
        })?;
        let guard = Mutex::new(guard);
        Ok(Running { at: At { url, start }, group, ready: AtomicBool::new(false), ended, tail, guard, threads: Mutex::new(threads) })
    }

    fn open_log(&self) -> io::Result<Option<Log>> {
        let Some(path) = &self.log else { return Ok(None) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Some(Log { file, bytes }))
    }

    async fn wait_until_ready(&self, running: &Arc<Running>, transport: &Transport) -> Result<(), String> {
        let until = Instant::now() + self.start_timeout;
        let mut pause = Duration::from_millis(20);
        let mut ended = running.ended.clone();
        loop {
            let ready = tokio::select! {
                biased;
                () = end_of(&mut ended) => false,
                ready = is_ready(&running.at.url, transport) => ready,
            };
            if running.has_ended() {
                return Err(self.last_words(running, " before it answered").await);
            }
            if ready {
                return Ok(());
            }
            if Instant::now() >= until {
                let seconds = self.start_timeout.as_secs();
                let said = running.said(&self.secrets);
                let running_on = Arc::clone(running);
                _ = tokio::task::spawn_blocking(move || running_on.end()).await;
                return Err(format!("did not answer at {} within {seconds} s (`start_timeout_seconds`){said}", running.at.url));
            }
            tokio::select! {
                () = end_of(&mut ended) => {}
                () = tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))) => {}
            }
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// How it ended, and what it said last.
    async fn last_words(&self, running: &Arc<Running>, when: &'static str) -> String {
        let (running, secrets) = (Arc::clone(running), Arc::clone(&self.secrets));
        let words = tokio::task::spawn_blocking(move || running.last_words(when, &secrets)).await;
        words.unwrap_or_else(|_| "ended".to_owned())
    }

    /// Ends it, if it runs.
    pub(super) fn close(&self) {
        let running = self.running().take();
        if let Some(running) = running {
            running.end();
        }
    }

    /// What it is called in errors.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn fail(&mut self, failed: NotServed) -> NotServed {
        self.failed = Some(failed.clone());
        failed
    }
}

/// Whether it lists its models, and does not say that it is not well: llama.cpp lists them before it has read them.
async fn is_ready(url: &Url, transport: &Transport) -> bool {
    let at = |path: &str| {
        let mut url = url.clone();
        url.set_path(path);
        transport.probe(url, LOOK)
    };
    if !at("/v1/models").await.is_some_and(|status| status.is_success()) {
        return false;
    }
    at("/health").await.is_some_and(|status| !status.is_server_error())
}

impl Running {
    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// How it ended, and what it said last.
    fn last_words(&self, when: &str, secrets: &Secrets) -> String {
        // What it wrote is all there when nobody can write any more.
        self.end();
        let how = match *self.ended.borrow() {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            None => "ended".to_owned(),
        };
        how + when + &self.said(secrets)
    }

    fn said(&self, secrets: &Secrets) -> String {
        let tail = String::from_utf8_lossy(&self.tail.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned();
        if tail.is_empty() { "; it wrote nothing".to_owned() } else { format!("; the end of what it wrote:\n{}", secrets.scrub(&tail)) }
    }

    /// Tells it to end, and ends it if it does not, with all that it started.
    fn end(&self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pipe) = guard.take() else { return };
        if !self.has_ended() {
            // The guard, which is in the group until now, keeps its number from being another's.
            _ = killpg(Pid::from_raw(self.group), Signal::SIGTERM);
            let until = Instant::now() + GRACE;
            while !self.has_ended() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        end_group(self.group);
        drop(pipe);
        // All that it wrote is there as soon as nobody can write any more; one that left its group may hold a pipe open for ever.
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let until = Instant::now() + LAST_WORDS;
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn end_group(group: i32) {
    // Fails if nobody is left in it.
    _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
}

async fn end_of(ended: &mut watch::Receiver<Option<ExitStatus>>) {
    // An error: whoever waits for it is gone, which waits no longer than it lives.
    _ = ended.wait_for(Option::is_some).await;
}

fn wait_for(mut child: Child, tell: &watch::Sender<Option<ExitStatus>>) {
    let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
    tell.send_replace(Some(status));
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(work)
}

/// A port that nobody listened on a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

struct Log {
    file: File,
    bytes: u64,
}

/// Keeps what a pipe gives, line by line, so that a secret is found in one piece.
fn keep(mut pipe: Box<dyn Read + Send>, log: &Mutex<Option<Log>>, tail: &Mutex<Vec<u8>>, secrets: &Secrets) {
    let mut block = vec![0; 8 << 10];
    let mut line = Vec::new();
    loop {
        let read = match pipe.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        line.extend_from_slice(&block[..read]);
        let end = match memchr::memrchr(b'\n', &line) {
            Some(end) => end + 1,
            // Progress bars have no lines.
            None if line.len() > (64 << 10) => line.len(),
            None => continue,
        };
        write(&line[..end], log, tail, secrets);
        line.drain(..end);
    }
    write(&line, log, tail, secrets);
}

fn write(bytes: &[u8], log: &Mutex<Option<Log>>, tail: &Mutex<Vec<u8>>, secrets: &Secrets) {
    let text = String::from_utf8_lossy(bytes);
    let bytes = secrets.scrub(&text);
    let bytes = bytes.as_bytes();
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    tail.extend_from_slice(bytes);
    let over = tail.len().saturating_sub(TAIL);
    tail.drain(..over);
    drop(tail);
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(log) = log.as_mut().filter(|log| log.bytes < MOST_LOG) {
        // A log that can't be written stops nothing.
        _ = log.file.write_all(bytes);
        log.bytes += bytes.len() as u64;
        if log.bytes >= MOST_LOG {
            _ = writeln!(log.file, "\n(the log ends here: it has {MOST_LOG} bytes)");
        }
    }
}
