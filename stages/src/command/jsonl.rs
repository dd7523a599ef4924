//! JSON Lines both ways: a line for each row, a line for each answer.

use std::time::Instant;

use arrow::array::RecordBatch;
use datasets::formats::{Columns, JsonRecords};
use datasets::{WriteFormat, WriteSettings, part_writer};

use super::process::{More, Process};
use super::session::{Answers, Bad, Stopped, cut};
use crate::StageError;

/// One program's end of the conversation.
pub(super) struct Lines {
    records: JsonRecords,
    max_bytes: usize,
}

impl Lines {
    pub(super) fn new(answer: &Columns, max_bytes: usize) -> Self {
        Self { records: JsonRecords::new(answer), max_bytes }
    }

    /// The lines that ask about `rows`.
    pub(super) fn encode(rows: &RecordBatch) -> Result<Vec<u8>, StageError> {
        let settings = WriteSettings { format: WriteFormat::Jsonl, ..WriteSettings::default() };
        let mut writer = part_writer(&rows.schema(), &settings)?;
        writer.write(rows)?;
        Ok(writer.finish()?.into_bytes())
    }

    /// Reads the answers to `n` rows.
    pub(super) fn read(&mut self, process: &mut Process, n: usize, deadline: Instant) -> Result<Answers, Stopped> {
        let mut each = Vec::with_capacity(n);
        let mut bytes = 0;
        while each.len() < n {
            match self.line(process, &mut bytes, deadline) {
                Ok(length) => {
                    let line = process.unread()[..length].trim_ascii();
                    if !line.starts_with(b"{") {
                        self.records.take()?;
                        return Err(Stopped::Wrong(no_json(each.len() + 1, line)));
                    }
                    each.push(match self.records.push(line) {
                        Ok(()) => Ok(self.records.lacking().to_vec()),
                        Err(bad) => Err(Bad { reason: bad.reason, detail: format!("{}{}: {}", bad.detail, hint(line), cut(line)) }),
                    });
                    process.take(length);
                }
                Err(More::End) => return Err(Stopped::Ended(self.answers(each)?)),
                Err(More::TooLate) => return Err(Stopped::TooLate(self.answers(each)?)),
                Err(More::Bytes) => {
                    self.records.take()?;
                    let detail = format!("more than {} bytes of answers to {n} rows, as many as `max_answer_bytes` allows", self.max_bytes);
                    return Err(Stopped::Wrong(Bad { reason: "answer_too_long", detail }));
                }
            }
        }
        Ok(self.answers(each)?)
    }

    fn answers(&mut self, each: Vec<Result<Vec<usize>, Bad>>) -> Result<Answers, StageError> {
        Ok(Answers { rows: self.records.take()?, each })
    }

    /// The length of the next line, its end included. `Err(More::Bytes)` says that there are too many.
    fn line(&self, process: &mut Process, bytes: &mut usize, deadline: Instant) -> Result<usize, More> {
        let mut searched = 0;
        loop {
            let unread = process.unread();
            let end = unread[searched..].iter().position(|&byte| byte == b'\n').map(|end| searched + end + 1);
            let length = end.unwrap_or(unread.len());
            if *bytes + length > self.max_bytes {
                return Err(More::Bytes);
            }
            if end.is_some() {
                *bytes += length;
                return Ok(length);
            }
            searched = length;
            match process.wait(deadline) {
                More::Bytes => {}
                // The last line may lack its end, if it is whole.
                More::End if process.unread().trim_ascii().ends_with(b"}") => return Ok(process.unread().len()),
                other => return Err(other),
            }
        }
    }
}

pub(super) fn no_json(number: usize, line: &[u8]) -> Bad {
    let detail = format!("line {number} of its answer is no JSON object: {}; only answers may go to stdout, the rest to stderr", cut(line));
    Bad { reason: "no_json", detail }
}

fn hint(line: &[u8]) -> &'static str {
    let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
    if has(b"NaN") || has(b"Infinity") {
        " (JSON has no NaN or Infinity; null takes their place)"
    } else if has(b"': ") {
        " (a Python dict is no JSON; `json.dumps` writes it as such)"
    } else {
        ""
    }
}
