//! Programs that run beside us: pipes that cannot block each other, time limits, and an end for the whole process group.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Bytes of its output that are read at a time.
const BLOCK: usize = 64 << 10;
/// Blocks of output that wait to be looked at; after these the program waits.
const BLOCKS: usize = 4;
/// Bytes of stderr that are kept, the last ones.
const TAIL: usize = 4 << 10;
/// How long a program that closed its output, or was told that nothing more comes, may take to end.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How often a wait looks whether the program is still there.
const LOOK: Duration = Duration::from_millis(100);
/// Stack of a thread that moves bytes.
const STACK: usize = 128 << 10;

/// Process groups that are alive, each named by its leader.
static ALIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every program that a stage runs, with all it started, and lets none be started from now on: for a run that a person interrupts. What
/// was under way fails with [`crate::StageError::Interrupted`].
pub fn interrupt_programs() {
    INTERRUPTED.store(true, Ordering::SeqCst);
    for group in alive().iter() {
        end_group(*group);
    }
}

pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

fn alive() -> MutexGuard<'static, BTreeSet<i32>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_group(group: i32) {
    // Fails if nobody is left in it.
    _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
}

/// A program with its arguments and where it runs.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// As the person wrote it.
    pub(crate) run: Vec<String>,
    /// What is started: `run[0]`, found.
    pub(crate) executable: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Program {
    /// Finds `run[0]`: a file beside the pipeline file, or a program in `PATH`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn find(run: &[String], folder: &Path, env: Vec<(&'static str, String)>) -> Result<Self, String> {
        if let Some(place) = run.iter().position(|argument| argument.contains('\0')) {
            return Err(format!("item {} holds a NUL character, which no program can be given", place + 1));
        }
        let name = run.first().filter(|name| !name.is_empty()).ok_or("wanted a program and its arguments, found an empty list")?;
        let folder = std::path::absolute(Path::new(".").join(folder)).map_err(|error| format!("{}: {error}", folder.display()))?;
        let beside = folder.join(name);
        let executable = if beside.is_file() {
            beside
        } else if name.contains('/') {
            return Err(format!("there is no program `{}`", beside.display()));
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut folders = std::env::split_paths(&path);
            let found = folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file() && is_executable(path)));
            found.ok_or_else(|| format!("there is no program `{name}` in PATH, and no file of that name in {}", folder.display()))?
        };
        if !is_executable(&executable) {
            return Err(format!("{} may not be executed; `chmod +x` allows it, or name its interpreter first", executable.display()));
        }
        Ok(Self { run: run.to_vec(), executable, folder, env })
    }

    /// The program as a person would type it.
    pub(super) fn shown(&self) -> String {
        let mut text = self.run.join(" ").replace('\n', " ");
        if let Some((cut, _)) = text.char_indices().nth(80) {
            text.truncate(cut);
            text.push('…');
        }
        text
    }

    /// Starts it, in a process group of its own.
    pub(super) fn start(&self) -> io::Result<Process> {
        let mut command = Command::new(&self.executable);
        command.args(&self.run[1..]).current_dir(&self.folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if std::env::var_os("PYTHONUNBUFFERED").is_none() {
            // Answers that wait in a buffer for more rows, while we wait for answers, are the commonest way to write a program that hangs.
            command.env("PYTHONUNBUFFERED", "1");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn()?;
        let group = i32::try_from(child.id()).map_err(io::Error::other)?;
        alive().insert(group);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut process = Process {
            child,
            group,
            ended: None,
            input: None,
            output: None,
            output_bytes: Vec::new(),
            taken: 0,
            stderr: Arc::default(),
            stderr_reader: None,
        };
        if is_interrupted() {
            end_group(group);
        }
        if let (Some(stdin), Some(stdout), Some(stderr)) = pipes {
            process.input = Some(write_to(stdin)?);
            process.output = Some(read_from(stdout)?);
            process.stderr_reader = Some(keep_tail(stderr, Arc::clone(&process.stderr))?);
        }
        Ok(process)
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work)
}

fn write_to(mut stdin: ChildStdin) -> io::Result<SyncSender<Vec<u8>>> {
    let (send, receive) = sync_channel::<Vec<u8>>(1);
    thread("command-stdin", move || {
        // A program that does not read any more is found out by what it answers.
        while let Ok(bytes) = receive.recv() {
            if stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_err() {
                return;
            }
        }
    })?;
    Ok(send)
}

fn read_from(mut stdout: ChildStdout) -> io::Result<Receiver<Vec<u8>>> {
    let (send, receive) = sync_channel(BLOCKS);
    thread("command-stdout", move || {
        let mut block = vec![0; BLOCK];
        while let Some(read) = read_some(&mut stdout, &mut block) {
            if send.send(block[..read].to_vec()).is_err() {
                return;
            }
        }
    })?;
    Ok(receive)
}

fn keep_tail(mut stderr: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) -> io::Result<JoinHandle<()>> {
    thread("command-stderr", move || {
        let mut block = vec![0; TAIL];
        while let Some(read) = read_some(&mut stderr, &mut block) {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&block[..read]);
            let over = tail.len().saturating_sub(TAIL);
            tail.drain(..over);
        }
    })
}

/// Bytes read; `None` at the end, whatever ended it.
fn read_some(from: &mut impl Read, block: &mut [u8]) -> Option<usize> {
    loop {
        match from.read(block) {
            Ok(0) => return None,
            Ok(read) => return Some(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// What came of waiting for output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    /// There are more unread bytes.
    Bytes,
    /// There will be none.
    End,
    /// The time is up.
    TooLate,
}

/// How a program ended, and what it said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// Its exit code or the signal that ended it, in words.
    pub(super) how: String,
    /// Whether it ended by itself, and not well.
    pub(super) failed: bool,
    /// Whether it did not end by itself in the time that it was given.
    pub(super) went_on: bool,
    /// The end of what it wrote to stderr; may be empty.
    pub(super) said: String,
}

/// A running program. Dropped, it is killed with all that it started.
pub(super) struct Process {
    child: Child,
    group: i32,
    ended: Option<ExitStatus>,
    input: Option<SyncSender<Vec<u8>>>,
    output: Option<Receiver<Vec<u8>>>,
    output_bytes: Vec<u8>,
    /// How many of them are taken.
    taken: usize,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Gives it bytes; never waits until they are read.
    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            // Full only if the program did not read what came before, which it has answered: then it reads no more.
            _ = input.try_send(bytes);
        }
    }

    /// Lets it see the end of its input, once it has read all.
    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    /// What it wrote that is not taken yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.output_bytes[self.taken..]
    }

    /// Takes the first `n` unread bytes.
    pub(super) fn take(&mut self, n: usize) {
        self.taken += n;
    }

    /// Waits for more output until `deadline`.
    pub(super) fn wait(&mut self, deadline: Instant) -> More {
        loop {
            let Some(output) = &self.output else { return More::End };
            let left = deadline.saturating_duration_since(Instant::now());
            match output.recv_timeout(left.min(LOOK)) {
                Ok(block) => {
                    self.output_bytes.drain(..std::mem::take(&mut self.taken));
                    self.output_bytes.extend_from_slice(&block);
                    return More::Bytes;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.output = None;
                    return More::End;
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return More::TooLate,
                Err(RecvTimeoutError::Timeout) => {
                    // What it started may hold its output open: once it has ended, so have they, and the end comes.
                    self.has_ended();
                }
            }
        }
    }

    /// Whether it wrote anything that nobody asked for; does not wait.
    pub(super) fn has_leftovers(&mut self) -> bool {
        if let Some(output) = &self.output {
            match output.try_recv() {
                Ok(block) => self.output_bytes.extend_from_slice(&block),
                Err(TryRecvError::Disconnected) => self.output = None,
                Err(TryRecvError::Empty) => {}
            }
        }
        !self.unread().is_empty()
    }

    /// Whether the program itself has ended. If so, what it left behind is ended too.
    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            // Held until the group is gone from the list, so that nobody ends a group that has the number of one that is over.
            let mut alive = alive();
            if let Ok(Some(status)) = self.child.try_wait() {
                self.ended = Some(status);
                end_group(self.group);
                alive.remove(&self.group);
            }
        }
        self.ended.is_some()
    }

    /// Waits until it has ended, at most so long.
    fn wait_for_end(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut pause = Duration::from_micros(200);
        while !self.has_ended() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        true
    }

    fn kill(&mut self) {
        if !self.has_ended() {
            end_group(self.group);
            if let Ok(status) = self.child.wait() {
                self.ended = Some(status);
            }
            alive().remove(&self.group);
        }
    }

    /// Ends it; one that is about to end by itself is given so much time.
    pub(super) fn end(mut self, time: Duration) -> Ended {
        self.close_input();
        let by_itself = !time.is_zero() && self.wait_for_end(time);
        self.kill();
        // All of stderr is there as soon as nobody can write to it, if whoever reads it gets to.
        let until = Instant::now() + GRACE;
        while self.stderr_reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let said = String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned();
        let how = match self.ended {
            Some(status) if by_itself => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}{}", signal_name(signal)),
                (None, None) => "ended".to_owned(),
            },
            _ => "closed its output and went on".to_owned(),
        };
        Ended { how, failed: by_itself && self.ended.is_some_and(|status| !status.success()), went_on: !time.is_zero() && !by_itself, said }
    }
}

fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| String::new(), |signal| format!(" ({signal})"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets idle programs end by themselves, all at once; those that do not are killed.
pub(super) fn end_tidily(mut processes: Vec<Process>) {
    processes.iter_mut().for_each(Process::close_input);
    let until = Instant::now() + GRACE;
    for process in &mut processes {
        process.wait_for_end(until.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Process {
        let run = ["sh", "-c", script].map(str::to_owned);
        Program::find(&run, Path::new("."), vec![("GRANARY_STAGE", "s".to_owned())]).expect("there is sh").start().expect("it starts")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn read_all(process: &mut Process) -> String {
        while process.wait(soon()) == More::Bytes {}
        String::from_utf8(process.unread().to_vec()).expect("a text")
    }

    fn is_running(pid: &str) -> bool {
        // A zombie is nobody.
        std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// A process that is killed closes its files a moment before it is gone.
    fn is_soon_gone(pid: &str) -> bool {
        let until = soon();
        while is_running(pid) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        !is_running(pid)
    }

    #[test]
    fn a_pipe_that_is_full_both_ways_does_not_block() {
        let mut process = sh("cat; echo \"$GRANARY_STAGE $PYTHONUNBUFFERED\" >&2");
        let text = "0123456789\n".repeat(300_000);
        process.send(text.clone().into_bytes());
        process.close_input();
        assert_eq!(read_all(&mut process), text);
        let said = "s 1".to_owned();
        assert_eq!(process.end(GRACE), Ended { how: "ended with exit code 0".to_owned(), failed: false, went_on: false, said });
    }

    #[test]
    fn how_it_ended_is_said_with_the_end_of_stderr() {
        let mut process = sh("for i in 1 2 3; do printf '%05000d' $i >&2; done; echo last words >&2; exit 7");
        assert_eq!(read_all(&mut process), "");
        let ended = process.end(GRACE);
        assert_eq!((ended.how.as_str(), ended.failed), ("ended with exit code 7", true));
        assert!(ended.said.ends_with("last words") && ended.said.len() <= TAIL, "{ended:?}");
        assert_eq!(sh("kill -SEGV $$").end(GRACE).how, "was ended by signal 11 (SIGSEGV)");
        assert_eq!(sh("exec >&-; sleep 100").end(Duration::from_millis(100)).how, "closed its output and went on");
    }

    #[test]
    fn what_it_started_ends_with_it() {
        // The shell ends, what it started holds stdout open and would go on.
        let mut process = sh("sleep 1000 & echo $!; exit 3");
        let started = Instant::now();
        let pid = read_all(&mut process);
        assert!(started.elapsed() < Duration::from_secs(10) && is_soon_gone(&pid), "{pid}");
        assert_eq!(process.end(GRACE).how, "ended with exit code 3");
        // Dropped, nothing is asked.
        let mut process = sh("trap '' TERM HUP; sleep 1000 & echo $!; wait");
        assert_eq!(process.wait(soon()), More::Bytes);
        let pid = String::from_utf8(process.unread().to_vec()).expect("a number");
        assert!(is_running(&pid));
        drop(process);
        assert!(is_soon_gone(&pid), "{pid}");
    }

    #[test]
    fn waiting_ends_when_the_time_is_up() {
        let mut process = sh("sleep 1000");
        assert_eq!(process.wait(Instant::now() + Duration::from_millis(150)), More::TooLate);
        let started = Instant::now();
        end_tidily(vec![sh("cat >/dev/null"), sh("cat")]);
        assert!(started.elapsed() < GRACE, "they saw the end of their input");
    }

    #[test]
    fn a_program_is_found_beside_the_file_or_in_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let find = |name: &str| Program::find(&[name.to_owned()], folder.path(), Vec::new()).map(|program| program.executable);
        let file = folder.path().join("own");
        std::fs::write(&file, "#!/bin/sh\n").expect("written");
        assert!(find("own").is_err_and(|problem| problem.contains("chmod +x")));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("allowed");
        assert_eq!(find("own"), Ok(file.clone()));
        assert_eq!(find("./own").map(|path| path.is_file()), Ok(true));
        assert!(find("sh").is_ok_and(|path| path.is_absolute()));
        assert!(find("no-such-program").is_err_and(|problem| problem.starts_with("there is no program `no-such-program` in PATH")));
        assert!(find("./nothing").is_err() && find("").is_err());
    }
}
