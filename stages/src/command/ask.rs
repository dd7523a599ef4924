//! Asks programs about rows: one program for each task that runs at a time, started when needed, and started again when it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arrow::array::{Array, AsArray, RecordBatch};

use super::judge::{Judge, Judged};
use super::process::{GRACE, Program, end_tidily, is_interrupted};
use super::session::{Answers, Bad, Protocol, Session, Stopped};
use crate::StageError;
use crate::error::last_words;

/// So many rows in a row that fail alone, and it is the program that is wrong.
const ROWS_IN_A_ROW: u32 = 16;
/// A row that hangs counts for more, as does one that is answered without end: each costs the whole time-out, or as many bytes as may come.
const WEIGHT_OF_A_HANG: u32 = 4;
/// So many rows that fail before any was ever answered, and it is the program that is wrong, however small the batches are.
const ROWS_BEFORE_ANY: u64 = 64;

/// The programs of one stage.
pub(super) struct Programs {
    program: Program,
    protocol: Protocol,
    judge: Judge,
    /// Files that the program is made of, as they were when the run began.
    files: Vec<(PathBuf, Option<Stamp>)>,
    pool: Mutex<Pool>,
    given_back: Condvar,
    max_processes: usize,
    /// Whether it starts and ends when it has nothing to read.
    probed: OnceLock<Result<(), String>>,
    answered: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Session>,
    /// Programs that run, idle ones included.
    running: usize,
}

/// What tells that a file is the one that was there before.
type Stamp = (u64, Option<SystemTime>);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    Some((meta.len(), meta.modified().ok()))
}

/// A program that may run; counted until dropped.
struct Permit<'p> {
    programs: &'p Programs,
    session: Option<Session>,
}

/// Why a batch was not answered.
struct Failure {
    bad: Bad,
    /// Whether it took as long as may be, or as many bytes, so that it is not tried again for nothing.
    is_costly: bool,
    /// Rows at its beginning that were answered before.
    answered: Judged,
}

/// What is known so far of the rows that came together.
#[derive(Default)]
pub(super) struct Work {
    pub(super) judged: Judged,
    /// Rows that failed alone since the last one that was answered, and what they and batches among them weigh.
    in_a_row: (u32, u32),
    /// Batches that hung without a single answer since the last one that was answered.
    hung: u32,
}

impl Programs {
    pub(super) fn new(
        program: Program,
        protocol: Protocol,
        judge: Judge,
        files: impl IntoIterator<Item = PathBuf>,
        max_processes: usize,
    ) -> Self {
        let files = files.into_iter().map(|path| (path.clone(), stamp(&path))).collect();
        Self {
            program,
            protocol,
            judge,
            files,
            pool: Mutex::default(),
            given_back: Condvar::new(),
            max_processes,
            probed: OnceLock::new(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Asks about the rows of one batch, at least one, and adds what became of them to `work`.
    pub(super) fn batch(&self, rows: &RecordBatch, work: &mut Work) -> Result<(), StageError> {
        let first = work.judged.len();
        self.resolve(rows, work)?;
        let (rejected, last) = work.judged.rejected(first);
        // Cheap ones, a wrong type say: only a whole batch of them tells that it is not the rows.
        match last {
            Some(bad) if rejected == rows.num_rows() && rejected >= ROWS_IN_A_ROW as usize => {
                Err(self.error(format!("gave no answer that can be used to any of {rejected} rows; the last: {}", bad.detail)))
            }
            _ => Ok(()),
        }
    }

    /// Asks about rows together; if that fails, finds the row that it fails at.
    fn resolve(&self, rows: &RecordBatch, work: &mut Work) -> Result<(), StageError> {
        let mut rows = rows.clone();
        while rows.num_rows() > 0 {
            let failure = match self.ask(&rows)? {
                Ok(judged) => {
                    work.hung = 0;
                    work.answered(judged);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            if !failure.is_costly {
                self.probe()?;
            }
            let n = rows.num_rows();
            let answered = failure.answered.len();
            if answered > 0 || n == 1 {
                // It fails at the first row that it did not answer.
                work.hung = 0;
                work.answered(failure.answered);
                self.alone(&rows.slice(answered, 1), work)?;
                rows = rows.slice(answered + 1, n - answered - 1);
            } else if failure.is_costly {
                // Before it is tried with less and less: does it answer any row at all?
                self.hung(n, &failure.bad, work)?;
                self.alone(&rows.slice(0, 1), work)?;
                rows = rows.slice(1, n - 1);
                if work.in_a_row.0 == 0 {
                    return self.halves(&rows, work);
                }
            } else {
                return self.halves(&rows, work);
            }
        }
        Ok(())
    }

    fn halves(&self, rows: &RecordBatch, work: &mut Work) -> Result<(), StageError> {
        let n = rows.num_rows();
        for half in [rows.slice(0, n / 2), rows.slice(n / 2, n - n / 2)] {
            match half.num_rows() {
                0 => {}
                1 => self.alone(&half, work)?,
                _ => self.resolve(&half, work)?,
            }
        }
        Ok(())
    }

    /// Counts a batch that came to nothing and took long for it.
    fn hung(&self, rows: usize, bad: &Bad, work: &mut Work) -> Result<(), StageError> {
        work.hung += 1;
        // One row that hangs is alone after so many halvings.
        if work.hung > rows.ilog2().max(8) + 2 {
            return Err(self.error(format!("answers rows alone, but fails on batch after batch: {}", bad.detail)));
        }
        if work.in_a_row.0 > 0 {
            work.in_a_row.1 += WEIGHT_OF_A_HANG;
            self.check_in_a_row(bad, String::new(), work)?;
        }
        Ok(())
    }

    /// That not all rows of late failed.
    fn check_in_a_row(&self, bad: &Bad, which: String, work: &Work) -> Result<(), StageError> {
        if work.in_a_row.1 < ROWS_IN_A_ROW {
            return Ok(());
        }
        Err(self.error(format!("fails on row after row ({} so far{which}): {}", work.in_a_row.0, bad.detail)))
    }

    /// Lets the programs end that wait for more rows, of which there are none, and says what is wrong with how they end.
    pub(super) fn finish(&self) -> Result<(), StageError> {
        let mut idle = std::mem::take(&mut self.pool().idle);
        self.pool().running -= idle.len();
        idle.iter_mut().for_each(Session::close);
        let mut problem = None;
        for session in idle {
            problem = problem.or(session.finish().err());
        }
        if is_interrupted() {
            return Err(StageError::Interrupted);
        }
        problem.map_or(Ok(()), |problem| Err(self.error(problem)))
    }

    /// Asks about rows together: a program that is idle, or a new one.
    fn ask(&self, rows: &RecordBatch) -> Result<Result<Judged, Failure>, StageError> {
        let mut permit = self.permit(false)?;
        loop {
            let mut session = match permit.session.take() {
                Some(session) => session,
                None => Session::start(&self.program, &self.protocol)?,
            };
            let was_used = session.is_used;
            // What nobody asked for would be taken for an answer.
            let answers = if was_used && session.process.has_leftovers() {
                let bad = Bad { reason: "extra_output", detail: "it wrote more than its answers".to_owned() };
                Err(Stopped::Wrong(bad))
            } else {
                session.ask(rows)
            };
            self.check_files(&mut session)?;
            let answers = match answers {
                Ok(answers) => match self.judge.judge(rows, &answers)? {
                    Ok(judged) => {
                        self.answered.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
                        permit.session = Some(session);
                        return Ok(Ok(judged));
                    }
                    Err(bad) => Err(Stopped::Wrong(bad)),
                },
                stopped => stopped,
            };
            let Err(stopped) = answers else { return Err(StageError::Internal("answers without a judgement".to_owned())) };
            let failure = self.failure(rows, stopped, session)?;
            // One that was asked before may have died of something else since, or may end after every batch.
            if !was_used || failure.is_costly || failure.answered.len() > 0 {
                return Ok(Err(failure));
            }
        }
    }

    /// Asks a new program about one row, and about nothing else ever after.
    fn alone(&self, row: &RecordBatch, work: &mut Work) -> Result<(), StageError> {
        let permit = self.permit(true)?;
        let mut session = Session::start(&self.program, &self.protocol)?;
        let answers = session.ask_alone(row);
        self.check_files(&mut session)?;
        let stopped = match answers {
            Ok(answers) => match self.judge.judge(row, &answers)? {
                Ok(judged) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    work.answered(judged);
                    return Ok(());
                }
                Err(bad) => Stopped::Wrong(bad),
            },
            Err(stopped) => stopped,
        };
        let failure = self.failure(row, stopped, session)?;
        drop(permit);
        if !failure.is_costly {
            self.probe()?;
        }
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        work.in_a_row.0 += 1;
        work.in_a_row.1 += if failure.is_costly { WEIGHT_OF_A_HANG } else { 1 };
        let id = self.judge.id.map(|column| row.column(column).as_string::<i32>()).filter(|ids| ids.is_valid(0));
        let which = id.map_or_else(String::new, |ids| format!(", the last of them `{}`", ids.value(0)));
        if self.answered.load(Ordering::Relaxed) == 0 && failed >= ROWS_BEFORE_ANY {
            return Err(self.error(format!("fails on row after row ({failed} so far{which}): {}", failure.bad.detail)));
        }
        self.check_in_a_row(&failure.bad, which, work)?;
        work.judged.reject(failure.bad);
        Ok(())
    }

    /// What to say of a program that stopped answering; it is ended.
    fn failure(&self, rows: &RecordBatch, stopped: Stopped, session: Session) -> Result<Failure, StageError> {
        let time = if matches!(stopped, Stopped::Ended(_)) { GRACE } else { Duration::ZERO };
        let unfinished = !session.process.unread().trim_ascii().is_empty();
        let ended = session.process.end(time);
        if is_interrupted() {
            return Err(StageError::Interrupted);
        }
        let (bad, is_costly, answers) = match stopped {
            Stopped::Ended(answers) => {
                let reason = if ended.failed { "command_died" } else { "no_answer" };
                let how = if ended.failed { ended.how.clone() } else { format!("{} without an answer", ended.how) };
                (Bad { reason, detail: format!("{how}{}", last_words(&ended.said)) }, ended.went_on, Some(answers))
            }
            Stopped::TooLate(answers) => {
                let flush = match (unfinished, answers.each.is_empty()) {
                    (true, _) => "; the last line that it wrote has no end",
                    (false, true) => "; a program has to flush what it wrote before it waits for more rows",
                    (false, false) => "",
                };
                let detail = format!("no answer within {} s{flush}{}", self.protocol.timeout.as_secs(), last_words(&ended.said));
                (Bad { reason: "command_timed_out", detail }, true, Some(answers))
            }
            Stopped::Wrong(bad) => {
                let is_too_long = bad.reason == "answer_too_long";
                (bad, is_too_long, None)
            }
            Stopped::Stage(problem) => return Err(self.error(format!("{problem}{}", last_words(&ended.said)))),
            Stopped::Error(error) => return Err(error),
        };
        let answered = answers.map(|answers: Answers| self.judge.judge(rows, &answers)).transpose()?;
        let answered = answered.and_then(Result::ok).unwrap_or_default();
        self.answered.fetch_add(answered.len() as u64, Ordering::Relaxed);
        Ok(Failure { bad, is_costly, answered })
    }

    /// Makes sure, once, that the program works where no row can be at fault.
    fn probe(&self) -> Result<(), StageError> {
        let mut not_started = None;
        let probed = self.probed.get_or_init(|| {
            let permit = match self.permit(true) {
                Ok(permit) => permit,
                Err(error) => {
                    not_started = Some(error);
                    return Ok(());
                }
            };
            let probed = match Session::start(&self.program, &self.protocol) {
                Ok(session) => session.probe(),
                Err(error) => {
                    not_started = Some(error);
                    Ok(())
                }
            };
            drop(permit);
            probed
        });
        if let Some(error) = not_started {
            return Err(error);
        }
        if is_interrupted() {
            return Err(StageError::Interrupted);
        }
        probed.clone().map_err(|problem| self.error(problem))
    }

    fn error(&self, problem: String) -> StageError {
        StageError::Program { run: self.program.shown(), problem }
    }

    /// After a program's first answer, which it gave after it was read in: that its files are those that the run began with.
    fn check_files(&self, session: &mut Session) -> Result<(), StageError> {
        if std::mem::replace(&mut session.is_used, true) {
            return Ok(());
        }
        match self.files.iter().find(|(path, before)| stamp(path) != *before) {
            Some((path, _)) => Err(StageError::Input {
                path: path.clone(),
                problem: "it was changed while the run was under way; run again, and what is done stays done".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a program may run. With an idle one, unless it has to be `new`.
    fn permit(&self, new: bool) -> Result<Permit<'_>, StageError> {
        let mut pool = self.pool();
        loop {
            if is_interrupted() {
                return Err(StageError::Interrupted);
            }
            let idle = if new && pool.running < self.max_processes { None } else { pool.idle.pop() };
            match idle {
                Some(session) if !new => return Ok(Permit { programs: self, session: Some(session) }),
                Some(session) => {
                    // It makes room.
                    drop(pool);
                    drop(session);
                    return Ok(Permit { programs: self, session: None });
                }
                None if pool.running < self.max_processes => {
                    pool.running += 1;
                    return Ok(Permit { programs: self, session: None });
                }
                None => pool = self.given_back.wait(pool).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut pool = self.programs.pool();
        match self.session.take() {
            Some(session) => pool.idle.push(session),
            None => pool.running -= 1,
        }
        drop(pool);
        self.programs.given_back.notify_one();
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut self.pool().idle);
        end_tidily(idle.into_iter().map(|session| session.process).collect());
    }
}

impl Work {
    fn answered(&mut self, judged: Judged) {
        if judged.len() > 0 {
            self.in_a_row = (0, 0);
            self.judged.append(judged);
        }
    }
}
