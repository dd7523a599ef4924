//! A conversation with one running program: rows in, answers out.

use std::io;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datasets::formats::Columns;

use super::Format;
use super::ipc::Stream;
use super::jsonl::Lines;
use super::process::{GRACE, More, Process, Program};
use crate::StageError;
use crate::error::last_words;

/// What is sent, and what must come back.
#[derive(Debug, Clone)]
pub(super) struct Protocol {
    pub(super) format: Format,
    /// The columns that are sent.
    pub(super) sent: SchemaRef,
    /// The columns of an answer; those that may be missing last.
    pub(super) answer: Columns,
    /// How many of them must be there.
    pub(super) required: usize,
    /// Most bytes of answers to a batch.
    pub(super) max_bytes: usize,
    /// How long a batch may take.
    pub(super) timeout: Duration,
}

/// What is wrong with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// Answers to some rows.
#[derive(Debug)]
pub(super) struct Answers {
    /// A row for each answer that could be read, in order.
    pub(super) rows: RecordBatch,
    /// For each row that was asked about, the columns that its answer lacks, by their place; or why it could not be read.
    pub(super) each: Vec<Result<Vec<usize>, Bad>>,
}

impl Answers {
    pub(super) fn none(schema: &SchemaRef) -> Self {
        Self { rows: RecordBatch::new_empty(schema.clone()), each: Vec::new() }
    }
}

/// Why there are not as many answers as rows. After any of these the program is of no use any more.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It ended after these answers.
    Ended(Answers),
    /// The time was up after these answers.
    TooLate(Answers),
    /// What it wrote is no answer.
    Wrong(Bad),
    /// Nothing it could be asked would be answered right.
    Stage(String),
    /// Something else went wrong.
    Error(StageError),
}

impl From<StageError> for Stopped {
    fn from(error: StageError) -> Self {
        Self::Error(error)
    }
}

impl From<datasets::DataError> for Stopped {
    fn from(error: datasets::DataError) -> Self {
        Self::Error(error.into())
    }
}

enum Codec {
    Lines(Box<Lines>),
    Stream(Box<Stream>),
}

/// A running program that is asked.
pub(super) struct Session {
    pub(super) process: Process,
    codec: Codec,
    timeout: Duration,
    /// Whether it answered a batch before.
    pub(super) is_used: bool,
}

impl Session {
    pub(super) fn start(program: &Program, protocol: &Protocol) -> Result<Self, StageError> {
        let codec = match protocol.format {
            Format::Jsonl => Codec::Lines(Box::new(Lines::new(&protocol.answer, protocol.max_bytes))),
            Format::Arrow => {
                let answer = protocol.answer.schema();
                Codec::Stream(Box::new(Stream::try_new(&protocol.sent, answer, protocol.required, protocol.max_bytes)?))
            }
        };
        let process = program.start().map_err(|error| not_started(program, &error))?;
        Ok(Self { process, codec, timeout: protocol.timeout, is_used: false })
    }

    /// Asks about `rows` and waits for the answers.
    pub(super) fn ask(&mut self, rows: &RecordBatch) -> Result<Answers, Stopped> {
        let deadline = Instant::now() + self.timeout;
        let question = match &mut self.codec {
            Codec::Lines(_) => Lines::encode(rows)?,
            Codec::Stream(stream) => stream.encode(rows).map_err(StageError::from)?,
        };
        self.process.send(question);
        self.answers(rows.num_rows(), deadline)
    }

    fn answers(&mut self, n: usize, deadline: Instant) -> Result<Answers, Stopped> {
        match &mut self.codec {
            Codec::Lines(lines) => lines.read(&mut self.process, n, deadline),
            Codec::Stream(stream) => stream.read(&mut self.process, n, deadline),
        }
    }

    /// Asks about the one row of `rows` as the only one it will ever get, so that whatever else it writes is known to belong to this row.
    pub(super) fn ask_alone(&mut self, rows: &RecordBatch) -> Result<Answers, Stopped> {
        let deadline = Instant::now() + self.timeout;
        let question = match &mut self.codec {
            Codec::Lines(_) => Lines::encode(rows)?,
            Codec::Stream(stream) => {
                let mut question = stream.encode(rows).map_err(StageError::from)?;
                question.extend(stream.end().map_err(StageError::from)?);
                question
            }
        };
        self.process.send(question);
        self.process.close_input();
        let answers = self.answers(1, deadline)?;
        if let Codec::Stream(stream) = &mut self.codec {
            stream.rest(&mut self.process, deadline).map_err(Stopped::Wrong)?;
        }
        while self.process.unread().trim_ascii().is_empty() && self.process.wait(deadline) == More::Bytes {}
        let rest = self.process.unread().trim_ascii();
        if !rest.is_empty() {
            let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let detail = format!("after its answer to a single row it wrote {}; only answers may go to stdout, one a row", cut(line));
            return Err(Stopped::Wrong(Bad { reason: "extra_output", detail }));
        }
        Ok(answers)
    }

    /// Tells it that there are no more rows.
    pub(super) fn close(&mut self) {
        if let Codec::Stream(stream) = &mut self.codec {
            self.process.send(stream.end().unwrap_or_default());
        }
        self.process.close_input();
    }

    /// Waits for the end of one that was told so, and says what is wrong with it: an exit code, or more output than was asked for.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.timeout;
        let mut unasked = match &mut self.codec {
            Codec::Lines(_) => None,
            Codec::Stream(stream) => stream.rest(&mut self.process, deadline).err().map(|bad| bad.detail),
        };
        let mut more = More::Bytes;
        while unasked.is_none() && more == More::Bytes {
            let rest = self.process.unread().trim_ascii();
            if let Some(line) = rest.split(|&byte| byte == b'\n').next().filter(|line| !line.is_empty()) {
                unasked = Some(format!("wrote {}; only answers may go to stdout, one a row", cut(line)));
            } else {
                self.process.take(self.process.unread().len());
                more = self.process.wait(deadline);
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = self.process.end(if unasked.is_some() { Duration::ZERO } else { left.max(Duration::from_millis(1)) });
        let problem = match unasked {
            Some(unasked) => unasked,
            None if ended.went_on => format!("did not end within {} s when its input had ended", self.timeout.as_secs()),
            None if ended.failed => ended.how,
            None => return Ok(()),
        };
        Err(format!("{problem}, after its last answer{}", last_words(&ended.said)))
    }

    /// Starts it with nothing to read: what goes wrong then has nothing to do with any row.
    pub(super) fn probe(mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.timeout;
        // A stream without rows is still a stream.
        let may_write = match &mut self.codec {
            Codec::Lines(_) => false,
            Codec::Stream(stream) => {
                self.process.send(stream.end().unwrap_or_default());
                true
            }
        };
        self.process.close_input();
        while self.process.wait(deadline) == More::Bytes && may_write {
            self.process.take(self.process.unread().len());
        }
        let unasked = self.process.unread().trim_ascii();
        let unasked = unasked.split(|&byte| byte == b'\n').next().filter(|line| !line.is_empty()).map(cut);
        let in_time = Instant::now() < deadline;
        let ended = self.process.end(if in_time && unasked.is_none() { GRACE } else { Duration::ZERO });
        if let Some(line) = unasked {
            let problem = format!("writes {line} before it has read a row; only answers may go to stdout, the rest to stderr");
            return Err(problem);
        }
        if in_time && ended.failed { Err(format!("{} when it has no row to read{}", ended.how, last_words(&ended.said))) } else { Ok(()) }
    }
}

fn not_started(program: &Program, error: &io::Error) -> StageError {
    StageError::Program { run: program.shown(), problem: format!("can't be started: {error}") }
}

/// The beginning of what a program wrote, for people.
pub(super) fn cut(bytes: &[u8]) -> String {
    const MAX: usize = 120;
    let text =
        String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX)]).escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
