//! Plain text: a file, a paragraph or a line is a document.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{Schema, SchemaRef};
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use super::input::Input;
use super::jsonl::{BATCH_BAD, BATCH_BYTES};
use super::lines::{Line, Lines};
use super::{BadRecord, Chunk, FilePart, Reader};
use crate::DataError;

/// How text files end.
pub const EXTENSIONS: &[&str] = &["txt", "text", "md"];

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextSplit {
    /// A whole file.
    #[default]
    Files,
    /// What stands between blank lines.
    Paragraphs,
    /// A line that is not blank.
    Lines,
}

/// What happens to bytes that are no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvalidUtf8 {
    /// The document is rejected.
    #[default]
    Reject,
    /// They become U+FFFD.
    Replace,
}

/// How text is read.
#[derive(Debug, Clone, Copy)]
pub struct TextOptions {
    /// What a document is.
    pub split: TextSplit,
    /// What happens to bytes that are no UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Longest document.
    pub max_record_bytes: u64,
    /// Rows of a batch.
    pub batch_rows: usize,
}

/// Reads parts of text files into one column, `text`.
pub struct TextReader {
    parts: VecDeque<FilePart>,
    lines: Option<Lines>,
    options: TextOptions,
    schema: SchemaRef,
    texts: StringBuilder,
    /// The paragraph that is being read: where it began, its text, and whether it is too long.
    paragraph: Option<(u64, Vec<u8>, bool)>,
}

impl TextReader {
    /// A reader of `parts`.
    pub fn new(parts: Vec<FilePart>, options: TextOptions) -> Self {
        Self { parts: parts.into(), lines: None, options, schema: Self::schema(), texts: StringBuilder::new(), paragraph: None }
    }

    /// The one column.
    pub fn schema() -> SchemaRef {
        Schema::new(vec![document::TEXT.field()]).into()
    }

    fn take(&mut self, chunk: &mut Chunk, file: &Arc<str>, offset: u64, bytes: &[u8]) {
        match (std::str::from_utf8(bytes), self.options.invalid_utf8) {
            (Ok(text), _) => self.texts.append_value(text),
            (Err(_), InvalidUtf8::Replace) => self.texts.append_value(String::from_utf8_lossy(bytes)),
            (Err(error), InvalidUtf8::Reject) => {
                let detail = format!("no UTF-8 at byte {}; `invalid_utf8: replace` takes such text", offset + error.valid_up_to() as u64);
                chunk.bad.push(BadRecord { file: Arc::clone(file), offset, reason: "invalid_utf8", detail, rest_is_lost: false });
                return;
            }
        }
        chunk.positions.push(file, offset);
    }

    fn too_long(&self, chunk: &mut Chunk, file: &Arc<str>, offset: u64) {
        let detail = format!("over {} bytes, which is max_record_bytes", self.options.max_record_bytes);
        chunk.bad.push(BadRecord { file: Arc::clone(file), offset, reason: "record_too_long", detail, rest_is_lost: false });
    }

    fn damaged(chunk: &mut Chunk, file: &Arc<str>, offset: u64, problem: &str) {
        let detail = format!("nothing can be read from here on: {problem}");
        chunk.bad.push(BadRecord { file: Arc::clone(file), offset, reason: "damaged_file", detail, rest_is_lost: true });
    }

    fn whole_file(&mut self, chunk: &mut Chunk, part: &FilePart) -> Result<usize, DataError> {
        let file: Arc<str> = part.name.as_str().into();
        let mut input = Input::open(&part.path)?;
        let mut bytes = Vec::new();
        let read = (&mut input).take(self.options.max_record_bytes.saturating_add(1)).read_to_end(&mut bytes);
        match read {
            Err(error) if input.is_damage(&error) => Self::damaged(chunk, &file, 0, &error.to_string()),
            Err(source) => return Err(DataError::Io { doing: "read", path: part.path.clone(), source }),
            Ok(length) if length as u64 > self.options.max_record_bytes => self.too_long(chunk, &file, 0),
            Ok(_) => {
                let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
                self.take(chunk, &file, 0, text);
            }
        }
        Ok(bytes.len())
    }

    /// Reads one line; gives its length, or `None` at the end of the part.
    fn one_line(&mut self, lines: &mut Lines, chunk: &mut Chunk) -> Result<Option<usize>, DataError> {
        let file = Arc::clone(lines.file());
        let paragraphs = self.options.split == TextSplit::Paragraphs;
        let max = usize::try_from(self.options.max_record_bytes).unwrap_or(usize::MAX);
        match lines.next_line()? {
            Line::End => {
                self.end_paragraph(chunk, &file);
                Ok(None)
            }
            Line::Damaged(offset, problem) => {
                let began = self.paragraph.take().map_or(offset, |(began, _, _)| began);
                Self::damaged(chunk, &file, began, &problem);
                Ok(Some(0))
            }
            Line::TooLong(offset, _) if paragraphs => {
                let paragraph = self.paragraph.get_or_insert_with(|| (offset, Vec::new(), true));
                (paragraph.1, paragraph.2) = (Vec::new(), true);
                Ok(Some(0))
            }
            Line::TooLong(offset, _) => {
                self.too_long(chunk, &file, offset);
                Ok(Some(0))
            }
            Line::Text(_, line) if line.trim_ascii().is_empty() => {
                self.end_paragraph(chunk, &file);
                Ok(Some(1))
            }
            Line::Text(offset, line) if paragraphs => {
                let (_, text, too_long) = self.paragraph.get_or_insert_with(|| (offset, Vec::new(), false));
                if !*too_long {
                    if !text.is_empty() {
                        text.push(b'\n');
                    }
                    text.extend_from_slice(line);
                    if text.len() > max {
                        (*text, *too_long) = (Vec::new(), true);
                    }
                }
                Ok(Some(line.len()))
            }
            Line::Text(offset, line) => {
                let length = line.len();
                self.take(chunk, &file, offset, line);
                Ok(Some(length))
            }
        }
    }

    fn end_paragraph(&mut self, chunk: &mut Chunk, file: &Arc<str>) {
        match self.paragraph.take() {
            None => {}
            Some((offset, _, true)) => self.too_long(chunk, file, offset),
            Some((offset, text, false)) => self.take(chunk, file, offset, &text),
        }
    }
}

impl Reader for TextReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, DataError> {
        let mut chunk = Chunk::empty(&self.schema);
        let mut bytes = 0;
        while chunk.positions.offsets.len() < self.options.batch_rows.max(1) && bytes < BATCH_BYTES && chunk.bad.len() < BATCH_BAD {
            if let Some(mut lines) = self.lines.take() {
                if let Some(length) = self.one_line(&mut lines, &mut chunk)? {
                    bytes += length;
                    self.lines = Some(lines);
                }
                continue;
            }
            let Some(part) = self.parts.pop_front() else { break };
            if self.options.split == TextSplit::Files {
                bytes += self.whole_file(&mut chunk, &part)?;
            } else {
                self.lines = Some(Lines::open(&part, part.name.as_str().into(), self.options.max_record_bytes)?);
            }
        }
        if chunk.positions.offsets.is_empty() && chunk.bad.is_empty() && self.lines.is_none() && self.parts.is_empty() {
            return Ok(None);
        }
        let texts: ArrayRef = Arc::new(self.texts.finish());
        chunk.rows = RecordBatch::try_new(Arc::clone(&self.schema), vec![texts])?;
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    fn read(bytes: &[u8], split: TextSplit, invalid_utf8: InvalidUtf8) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.txt");
        std::fs::write(&path, bytes).unwrap();
        let part = FilePart { path, name: "f.txt".to_owned(), start: 0, end: bytes.len() as u64 };
        let mut reader = TextReader::new(vec![part], TextOptions { split, invalid_utf8, max_record_bytes: 20, batch_rows: 2 });
        let mut all = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            let texts = chunk.rows.column(0).as_string::<i32>();
            all.extend(chunk.positions.iter().zip(texts).map(|((_, offset), text)| format!("{offset} {}", text.unwrap())));
            all.extend(chunk.bad.into_iter().map(|bad| format!("{} {}", bad.offset, bad.reason)));
        }
        all
    }

    #[test]
    fn files_paragraphs_and_lines_are_documents() {
        let text = b"one\ntwo\r\n\n \nthree";
        assert_eq!(read(text, TextSplit::Files, InvalidUtf8::Reject), ["0 one\ntwo\r\n\n \nthree"]);
        assert_eq!(read(text, TextSplit::Paragraphs, InvalidUtf8::Reject), ["0 one\ntwo", "12 three"]);
        assert_eq!(read(text, TextSplit::Lines, InvalidUtf8::Reject), ["0 one", "4 two", "12 three"]);
    }

    #[test]
    fn what_is_no_text_or_too_long_is_rejected() {
        assert_eq!(read(b"a\xffb", TextSplit::Files, InvalidUtf8::Reject), ["0 invalid_utf8"]);
        assert_eq!(read(b"a\xffb", TextSplit::Files, InvalidUtf8::Replace), ["0 a\u{FFFD}b"]);
        assert_eq!(read(&[b'x'; 21], TextSplit::Files, InvalidUtf8::Reject), ["0 record_too_long"]);
        assert_eq!(read(b"0123456789\n0123456789\n\nx", TextSplit::Paragraphs, InvalidUtf8::Reject), ["23 x", "0 record_too_long"]);
        assert_eq!(read(b"0123456789012345678901\nx", TextSplit::Lines, InvalidUtf8::Reject), ["23 x", "0 record_too_long"]);
    }
}
