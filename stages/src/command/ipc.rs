//! Arrow IPC both ways: one stream each, a record batch for each batch of rows.

use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::StreamWriter;
use datasets::catch_quietly;

use super::process::{More, Process};
use super::session::{Answers, Bad, Stopped, cut};
use crate::StageError;

/// What every message of a stream begins with.
const CONTINUATION: [u8; 4] = [0xFF; 4];
/// Longest header of a message.
const MAX_HEADER: usize = 16 << 20;

/// One program's end of the conversation.
pub(super) struct Stream {
    writer: StreamWriter<Vec<u8>>,
    decoder: StreamDecoder,
    /// The columns of an answer, and how many of them must be there.
    answer: SchemaRef,
    required: usize,
    max_bytes: usize,
    has_ended: bool,
}

/// What comes next in the program's stream.
enum Message {
    Rows(RecordBatch),
    /// A schema or a dictionary.
    Other,
    End,
}

impl Stream {
    pub(super) fn try_new(sent: &SchemaRef, answer: SchemaRef, required: usize, max_bytes: usize) -> Result<Self, ArrowError> {
        let writer = StreamWriter::try_new(Vec::new(), sent)?;
        Ok(Self { writer, decoder: StreamDecoder::new(), answer, required, max_bytes, has_ended: false })
    }

    /// The bytes that ask about `rows`.
    pub(super) fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        self.writer.write(rows)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// The bytes that end our stream.
    pub(super) fn end(&mut self) -> Result<Vec<u8>, ArrowError> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// Reads the answers to `n` rows, in as many batches as they come.
    pub(super) fn read(&mut self, process: &mut Process, n: usize, deadline: Instant) -> Result<Answers, Stopped> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while rows < n {
            match self.message(process, &mut bytes, deadline)? {
                Message::Rows(batch) => {
                    rows += batch.num_rows();
                    batches.push(batch);
                }
                Message::Other => {}
                Message::End => return Err(Stopped::Ended(Answers::none(&self.answer))),
            }
        }
        if rows > n {
            return Err(wrong("wrong_number", format!("wanted an answer for each of {n} rows, found {rows}")));
        }
        let schema = batches.first().map_or_else(|| self.answer.clone(), RecordBatch::schema);
        self.check(&schema)?;
        self.as_declared(&concat_batches(&schema, &batches).map_err(StageError::from)?)
    }

    /// Reads to the end; `Err` if there are more rows.
    pub(super) fn rest(&mut self, process: &mut Process, deadline: Instant) -> Result<(), Bad> {
        let mut bytes = 0;
        while !self.has_ended {
            match self.message(process, &mut bytes, deadline) {
                Ok(Message::Rows(batch)) if batch.num_rows() > 0 => {
                    let detail = format!("wanted an answer for 1 row, found {} more rows after it", batch.num_rows());
                    return Err(Bad { reason: "wrong_number", detail });
                }
                Ok(Message::End) => self.has_ended = true,
                Ok(_) => {}
                Err(Stopped::Wrong(bad)) => return Err(bad),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits until there are `n` unread bytes.
    fn wait_for(&self, process: &mut Process, n: usize, deadline: Instant) -> Result<(), Stopped> {
        while process.unread().len() < n {
            match process.wait(deadline) {
                More::Bytes => {}
                More::End => return Err(Stopped::Ended(Answers::none(&self.answer))),
                More::TooLate => return Err(Stopped::TooLate(Answers::none(&self.answer))),
            }
        }
        Ok(())
    }

    /// The next message. Lengths are checked here, before anyone makes room for what they promise.
    fn message(&mut self, process: &mut Process, bytes: &mut usize, deadline: Instant) -> Result<Message, Stopped> {
        if let Err(stopped) = self.wait_for(process, 4, deadline) {
            return match process.unread() {
                [] => Err(stopped),
                rest => Err(no_stream(rest)),
            };
        }
        if process.unread()[..4] != CONTINUATION {
            return Err(no_stream(process.unread()));
        }
        self.wait_for(process, 8, deadline)?;
        let Some(&[a, b, c, d]) = process.unread().get(4..8) else { return Err(no_stream(process.unread())) };
        let header = usize::try_from(i32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if header == 0 {
            process.take(8);
            return Ok(Message::End);
        }
        let too_long = |found: String| {
            wrong("answer_too_long", format!("{found}, `max_answer_bytes` allows {} bytes of answers to a batch", self.max_bytes))
        };
        if header > MAX_HEADER {
            return Err(too_long(format!("the header of a message has {header} bytes")));
        }
        self.wait_for(process, 8 + header, deadline)?;
        let body = match root_as_message(&process.unread()[8..8 + header]) {
            Ok(message) => usize::try_from(message.bodyLength()).unwrap_or(usize::MAX),
            Err(error) => return Err(wrong("no_arrow", format!("its output is no Arrow IPC stream: {error}"))),
        };
        *bytes = bytes.saturating_add(body);
        if *bytes > self.max_bytes {
            return Err(too_long(format!("{bytes} bytes")));
        }
        let whole = 8 + header + body;
        self.wait_for(process, whole, deadline)?;
        let mut buffer = Buffer::from(&process.unread()[..whole]);
        process.take(whole);
        let decoder = &mut self.decoder;
        let decoded = catch_quietly(move || {
            while !buffer.is_empty() {
                if let Some(batch) = decoder.decode(&mut buffer)? {
                    return Ok::<_, ArrowError>(Message::Rows(batch));
                }
            }
            Ok(Message::Other)
        });
        match decoded {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(wrong("no_arrow", format!("its output can't be read: {error}"))),
            Err(panic) => Err(wrong("no_arrow", format!("its output can't be read: {panic}"))),
        }
    }

    /// That the program's stream has the columns that were asked for. One that has not will not have them in any row.
    fn check(&self, found: &Schema) -> Result<(), Stopped> {
        for (place, wanted) in self.answer.fields().iter().enumerate() {
            let problem = match found.field_with_name(wanted.name()) {
                Ok(field) if can_be(field.data_type(), wanted.data_type()) => continue,
                Ok(field) => format!("answers `{}: {}`", field.name(), field.data_type()),
                Err(_) if place >= self.required => continue,
                Err(_) => {
                    let names: Vec<String> = found.fields().iter().map(|field| format!("`{}`", field.name())).collect();
                    format!("answers {}", if names.is_empty() { "no columns".to_owned() } else { names.join(", ") })
                }
            };
            return Err(Stopped::Stage(format!("{problem}; wanted `{}: {}`", wanted.name(), wanted.data_type())));
        }
        Ok(())
    }

    /// The answers with the columns and types that were asked for; a row with a value that does not fit is told.
    fn as_declared(&self, rows: &RecordBatch) -> Result<Answers, Stopped> {
        let cast = |rows: &RecordBatch| -> Result<RecordBatch, (String, ArrowError)> {
            let column = |wanted: &arrow::datatypes::FieldRef| -> Result<ArrayRef, (String, ArrowError)> {
                let named = |error| (wanted.name().clone(), error);
                match rows.column_by_name(wanted.name()) {
                    None => Ok(new_null_array(wanted.data_type(), rows.num_rows())),
                    Some(found) if found.data_type() == wanted.data_type() => Ok(found.clone()),
                    Some(found) => {
                        cast_with_options(found, wanted.data_type(), &CastOptions { safe: false, ..CastOptions::default() }).map_err(named)
                    }
                }
            };
            let columns = self.answer.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
            RecordBatch::try_new(self.answer.clone(), columns).map_err(|error| (String::new(), error))
        };
        if let Ok(rows) = cast(rows) {
            let each = vec![Ok(Vec::new()); rows.num_rows()];
            return Ok(Answers { rows, each });
        }
        let fits = |row| match cast(&rows.slice(row, 1)) {
            Ok(_) => Ok(Vec::new()),
            Err((column, error)) => Err(Bad { reason: "wrong_type", detail: format!("`{column}`: {error}") }),
        };
        let each: Vec<Result<Vec<usize>, Bad>> = (0..rows.num_rows()).map(fits).collect();
        let keep = each.iter().map(|each| Some(each.is_ok())).collect();
        let rows = filter_record_batch(rows, &keep).map_err(StageError::from)?;
        let rows = cast(&rows).map_err(|(_, error)| StageError::from(error))?;
        Ok(Answers { rows, each })
    }
}

fn wrong(reason: &'static str, detail: String) -> Stopped {
    Stopped::Wrong(Bad { reason, detail })
}

fn no_stream(bytes: &[u8]) -> Stopped {
    wrong(
        "no_arrow",
        format!("its output is no Arrow IPC stream, it begins with {}; only answers may go to stdout, the rest to stderr", cut(bytes)),
    )
}

/// Whether values of one type are values of the other, written another way: numbers as wider or narrower ones that still hold them, texts and
/// lists however their offsets are kept.
fn can_be(found: &DataType, wanted: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Dictionary, FixedSizeList, LargeBinary, LargeList, LargeListView, LargeUtf8, List, ListView, Null, Struct,
        Timestamp, Utf8, Utf8View,
    };
    match (found, wanted) {
        (found, wanted) if found == wanted || *found == Null => true,
        (Dictionary(_, values), wanted) => can_be(values, wanted),
        (LargeUtf8 | Utf8View | Utf8, Utf8) | (LargeBinary | BinaryView | Binary, Binary) | (Timestamp(..), Timestamp(..)) => true,
        (found, wanted) if found.is_integer() && wanted.is_integer() => true,
        (found, wanted) if (found.is_integer() || found.is_floating()) && wanted.is_floating() => true,
        (List(a) | LargeList(a) | ListView(a) | LargeListView(a) | FixedSizeList(a, _), List(b)) => can_be(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && can_be(a.data_type(), b.data_type()))
        }
        _ => false,
    }
}
