//! Records of WARC and ARC files: their headers, where they end, and where the next one begins after one that is damaged.

use std::ops::Range;
use std::path::Path;

use memchr::{memchr, memmem};

use super::stream::{Ended, Stream};
use crate::DataError;

/// Longest header.
const MAX_HEADER: usize = 1 << 20;
/// Longest first line of an ARC record.
const MAX_ARC_LINE: usize = 64 << 10;
/// Bytes behind a record that tell whether it ends there.
const TAIL: usize = 32;

/// What comes next in a file.
pub(super) enum Item {
    Record(Record),
    /// What could not be read.
    Bad {
        offset: u64,
        reason: &'static str,
        detail: String,
        rest_is_lost: bool,
    },
    /// A record that nobody asked for, over the limit: its type.
    PassedOver(String),
    End,
}

/// A record's header. Its block is what [`Records::block`] gives until the next item is asked for.
pub(super) struct Record {
    /// Where it begins among the unpacked bytes.
    pub(super) offset: u64,
    /// Where it, or its member, begins in the file.
    pub(super) place: u64,
    /// `response`, `resource`, …
    pub(super) kind: String,
    /// `WARC-…` and the like, as they stand there; of an ARC record what its line says, under the names of WARC.
    pub(super) headers: Vec<(String, String)>,
    block: Range<usize>,
}

impl Record {
    /// The first header of that name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// The first header of that name, whatever its case.
pub(super) fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether a record may begin with these bytes: a line `WARC/1.0`, or in an ARC file a URL.
pub(super) fn begins_record(bytes: &[u8], is_arc: bool) -> bool {
    if is_arc { arc_begins(bytes) } else { version_line(bytes).is_some() }
}

/// The length of a line `WARC/1.1` with its line end.
fn version_line(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"WARC/")?;
    let end = rest.iter().take(8).position(|byte| *byte == b'\n')?;
    let version = rest[..end].trim_ascii_end(); // some files were given two carriage returns
    let is_version = version.len() >= 3 && version[0].is_ascii_digit() && version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    is_version.then_some(5 + end + 1)
}

/// Whether a scheme and a colon stand there, as in `http://` and `dns:`.
fn arc_begins(bytes: &[u8]) -> bool {
    let scheme = bytes.iter().take(16).position(|byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte)));
    bytes.first().is_some_and(u8::is_ascii_alphabetic) && scheme.is_some_and(|end| end >= 3 && bytes[end] == b':')
}

/// The first line of an ARC record.
struct ArcLine {
    url: String,
    address: String,
    date: String,
    media_type: String,
    length: Option<u64>,
    /// With its line end.
    bytes: usize,
}

/// Source: Burner and Kahle, *Arc File Format*, 1996: `URL IP-address Archive-date Content-type [Result-code Checksum Location Offset Filename]
/// Archive-length`.
fn arc_line(bytes: &[u8]) -> Option<ArcLine> {
    if !arc_begins(bytes) {
        return None;
    }
    let end = memchr(b'\n', &bytes[..bytes.len().min(MAX_ARC_LINE)])?;
    let line = String::from_utf8_lossy(&bytes[..end]);
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    // URLs may hold blanks: the other fields are counted from the end. Version 2 has five more before the length.
    let is_address = |text: &str| text.contains(['.', ':']) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:".contains(&byte));
    let is_date = |text: &str| text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let at = [4, 9].into_iter().find_map(|back| {
        let at = fields.len().checked_sub(back).filter(|at| *at > 0)?;
        (is_address(fields[at]) && is_date(fields[at + 1])).then_some(at)
    })?;
    Some(ArcLine {
        url: fields[..at].join(" "),
        address: fields[at].to_owned(),
        date: fields[at + 1].to_owned(),
        media_type: fields[at + 2].to_owned(),
        length: fields[fields.len() - 1].parse().ok(),
        bytes: end + 1,
    })
}

/// The records of one file.
pub(super) struct Records {
    stream: Stream,
    is_arc: bool,
    max_bytes: u64,
    /// Bytes of what was given last.
    pending: usize,
    finished: bool,
}

/// What is said of a record's first lines.
struct Head {
    kind: String,
    headers: Vec<(String, String)>,
    length: Option<u64>,
    bytes: usize,
    problem: Option<(&'static str, String)>,
}

impl Records {
    /// `max_bytes`: the longest record.
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self, DataError> {
        let mut stream = Stream::open(path)?;
        stream.fill(MAX_ARC_LINE)?;
        let is_arc = version_line(stream.unread().trim_ascii_start()).is_none() && arc_line(stream.unread().trim_ascii_start()).is_some();
        stream.set_arc(is_arc);
        Ok(Self { stream, is_arc, max_bytes, pending: 0, finished: false })
    }

    /// The block of the record that was given last.
    pub(super) fn block(&self, record: &Record) -> &[u8] {
        &self.stream.unread()[record.block.clone()]
    }

    /// The next record; of types that are not `wanted` none that is over the limit.
    pub(super) fn next(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Item, DataError> {
        self.stream.consume(std::mem::take(&mut self.pending));
        if self.finished {
            return Ok(Item::End);
        }
        self.skip_blank()?;
        let offset = self.stream.offset();
        let held = self.stream.fill(TAIL)?;
        if held == 0 {
            return match self.stream.ended().cloned() {
                Some(Ended::Damage(problem)) => self.damaged(offset, &problem),
                Some(Ended::NoMember) => self.bad(offset, 0, "garbage", "no compressed member begins here"),
                Some(Ended::File) | None => {
                    self.finished = true;
                    Ok(Item::End)
                }
            };
        }
        if !self.is_record_start(0)? {
            return self.bad(offset, 0, "garbage", "no record begins here");
        }
        let head = match self.head()? {
            Ok(head) => head,
            Err(problem) => return self.bad(offset, problem.bytes, problem.reason, &problem.detail),
        };
        let Some(length) = head.length else {
            let (reason, detail) = head.problem.unwrap_or(("no_length", "the record says no length that is a number".to_owned()));
            return self.bad(offset, head.bytes, reason, &detail);
        };
        let is_wanted = wanted(&head.kind);
        if length > self.max_bytes {
            return self.too_long(offset, &head, length, is_wanted);
        }
        let body = head.bytes;
        let end = body + usize::try_from(length).unwrap_or(usize::MAX);
        let held = self.stream.fill(end.saturating_add(TAIL))?;
        if let Some(detail) = self.wrong_end(body, end, held) {
            return self.bad(offset, body, "wrong_length", &detail);
        }
        if held < end {
            return self.cut_off(offset, body, length, held);
        }
        let is_last = held < end + TAIL
            && self.stream.unread()[end..held].iter().all(|byte| b"\r\n".contains(byte))
            && self.stream.members_within(end, held + 1).next().is_none();
        if is_last && let Some(Ended::Damage(problem)) = self.stream.ended().cloned() {
            // All of it is there, but its checksum is wrong.
            return self.damaged(offset, &problem);
        }
        if let Some((reason, detail)) = head.problem {
            self.pending = end;
            return Ok(Item::Bad { offset, reason, detail, rest_is_lost: false });
        }
        self.pending = end;
        let place = self.stream.place(offset);
        Ok(Item::Record(Record { offset, place, kind: head.kind, headers: head.headers, block: body..end }))
    }

    fn skip_blank(&mut self) -> Result<(), DataError> {
        loop {
            let held = self.stream.fill(1)?;
            let blank = self.stream.unread().iter().take_while(|byte| b"\r\n".contains(byte)).count();
            self.stream.consume(blank);
            if blank < held || held == 0 {
                return Ok(());
            }
        }
    }

    /// Whether a record begins `at` bytes from here, which is where a line begins.
    fn is_record_start(&mut self, at: usize) -> Result<bool, DataError> {
        if !self.is_arc {
            self.stream.fill(at + TAIL)?;
            return Ok(version_line(&self.stream.unread()[at.min(self.stream.unread().len())..]).is_some());
        }
        let mut wanted = at + 256;
        loop {
            let held = self.stream.fill(wanted)?;
            let line = &self.stream.unread()[at.min(held)..];
            if memchr(b'\n', line).is_some() || !arc_begins(line) || held < wanted || wanted > at + MAX_ARC_LINE {
                return Ok(arc_line(line).is_some());
            }
            wanted += 2048;
        }
    }

    /// The header of the record that begins here.
    fn head(&mut self) -> Result<Result<Head, Problem>, DataError> {
        if self.is_arc {
            return Ok(Ok(self.arc_head()));
        }
        let mut at = version_line(self.stream.unread()).unwrap_or_default();
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut problem = None;
        loop {
            let (begins, ends) = match self.line(at)? {
                Some(line) => line,
                None if at >= MAX_HEADER || self.stream.unread().len() >= MAX_HEADER => {
                    let detail = format!("the header is over {MAX_HEADER} bytes long");
                    return Ok(Err(Problem { reason: "bad_header", detail, bytes: self.stream.unread().len().min(MAX_HEADER) }));
                }
                None => {
                    let bytes = self.stream.unread().len();
                    let (reason, detail) = match self.stream.ended() {
                        Some(Ended::Damage(problem)) => ("damaged_file", format!("in its header: {problem}")),
                        _ => ("truncated_record", "the file ends in its header".to_owned()),
                    };
                    return Ok(Err(Problem { reason, detail, bytes }));
                }
            };
            let line = &self.stream.unread()[begins..ends];
            if version_line(line).is_some() {
                return Ok(Err(Problem { reason: "bad_header", detail: "another record begins in the header".to_owned(), bytes: begins }));
            }
            at = ends;
            let line = line.trim_ascii_end();
            if line.is_empty() {
                break;
            }
            if line[0] == b' ' || line[0] == b'\t' {
                if let Some((_, value)) = headers.last_mut() {
                    if !value.is_empty() {
                        value.push(' ');
                    }
                    value.push_str(&String::from_utf8_lossy(line.trim_ascii()));
                }
                continue;
            }
            if let Some(colon) = memchr(b':', line) {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
                headers.push((text(&line[..colon]), text(&line[colon + 1..])));
            } else {
                let shown: String = String::from_utf8_lossy(line).chars().take(80).collect();
                problem.get_or_insert(("bad_header", format!("a line of the header has no colon: {shown:?}")));
            }
        }
        let length = header(&headers, "Content-Length");
        if length.is_none_or(|length| length.parse::<u64>().is_err()) {
            problem =
                Some(("no_length", format!("Content-Length is {}", length.map_or("not there".to_owned(), |text| format!("{text:?}")))));
        }
        let length = length.and_then(|length| length.parse().ok());
        let kind = header(&headers, "WARC-Type").unwrap_or_default().to_ascii_lowercase();
        if kind.is_empty() && problem.is_none() {
            problem = Some(("bad_header", "there is no WARC-Type".to_owned()));
        }
        Ok(Ok(Head { kind, headers, length, bytes: at, problem }))
    }

    /// The line that begins `at` bytes from here; `None` if it does not end, or not within the longest header.
    fn line(&mut self, at: usize) -> Result<Option<(usize, usize)>, DataError> {
        let mut searched = at;
        loop {
            let held = self.stream.unread().len().min(MAX_HEADER);
            if let Some(found) = memchr(b'\n', &self.stream.unread()[searched.min(held)..held]) {
                return Ok(Some((at, searched + found + 1)));
            }
            searched = held.max(at);
            if held >= MAX_HEADER || self.stream.ended().is_some() {
                return Ok(None);
            }
            self.stream.fill(self.stream.unread().len() + 4096)?;
        }
    }

    fn arc_head(&self) -> Head {
        let line = arc_line(self.stream.unread());
        let Some(line) = line else {
            return Head { kind: String::new(), headers: Vec::new(), length: None, bytes: 0, problem: None };
        };
        let kind = if line.url.starts_with("filedesc:") { "warcinfo" } else { "response" };
        let problem = line.length.is_none().then(|| ("no_length", "the length is no number".to_owned()));
        let headers = [
            ("WARC-Type", kind.to_owned()),
            ("WARC-Target-URI", line.url),
            ("WARC-IP-Address", line.address),
            ("WARC-Date", line.date),
            ("Content-Type", line.media_type),
        ];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Head { kind: kind.to_owned(), headers, length: line.length, bytes: line.bytes, problem }
    }

    /// What says that a record does not end where its length says.
    fn wrong_end(&self, body: usize, end: usize, held: usize) -> Option<String> {
        let bytes = self.stream.unread();
        let inside = self.stream.members_within(body, end.min(held)).find(|at| begins_record(&bytes[*at..held], self.is_arc));
        if inside.is_some() {
            return Some("another record begins before its end".to_owned());
        }
        if held < end {
            return self
                .find_start(&bytes[body..held], false)
                .map(|_| "the file ends before it does, but another record begins before that".to_owned());
        }
        let rest = &bytes[end..held];
        let blank = rest.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        let lines = memchr::memchr_iter(b'\n', &rest[..blank]).count();
        let ends = blank == rest.len() // nothing else, or more blank lines than are of interest
            || lines >= if self.is_arc { 1 } else { 2 }
            || version_line(&rest[blank..]).is_some()
            || self.stream.members_within(end, end + blank + 1).next().is_some();
        (!ends).then(|| {
            let found: String = String::from_utf8_lossy(&rest[..rest.len().min(16)]).into_owned();
            format!("its length is {}, but what follows is {found:?} and no blank line", end - body)
        })
    }

    /// A record that its segment ends in.
    fn cut_off(&mut self, offset: u64, body: usize, length: u64, held: usize) -> Result<Item, DataError> {
        match self.stream.ended().cloned() {
            Some(Ended::Damage(problem)) => self.damaged(offset, &problem),
            Some(Ended::NoMember) => self.bad(offset, held, "truncated_record", "its member ends before it does"),
            Some(Ended::File) | None => {
                self.stream.consume(held);
                self.finished = true;
                let detail = format!("the file ends after {} of its {length} bytes", held.saturating_sub(body));
                Ok(Item::Bad { offset, reason: "truncated_record", detail, rest_is_lost: false })
            }
        }
    }

    fn too_long(&mut self, offset: u64, head: &Head, length: u64, is_wanted: bool) -> Result<Item, DataError> {
        let total = (head.bytes as u64).saturating_add(length);
        if self.stream.is_plain() {
            // Bytes that were passed over can't be searched for the next record without reading them again.
            let tail = self.stream.look_ahead(total)?;
            let ends = tail.as_ref().is_some_and(|tail| tail.is_empty() || b"\r\n".contains(&tail[0]) || version_line(tail).is_some());
            if !ends {
                let what = if tail.is_some() { "but it does not end there" } else { "which is past the end of the file" };
                return self.bad(offset, head.bytes, "wrong_length", &format!("its length is {length}, {what}"));
            }
        }
        self.stream.skip(total)?;
        if self.stream.offset() < offset.saturating_add(total) {
            let detail = format!("its length is {length}, but it ends after {}", self.stream.offset() - offset - head.bytes as u64);
            return Ok(Item::Bad { offset, reason: "wrong_length", detail, rest_is_lost: false });
        }
        if !is_wanted {
            return Ok(Item::PassedOver(head.kind.clone()));
        }
        let detail = format!("{length} bytes, max_record_bytes is {}", self.max_bytes);
        Ok(Item::Bad { offset, reason: "record_too_long", detail, rest_is_lost: false })
    }

    /// What is bad from `offset` on; goes to the next record that begins behind the first `passed` bytes.
    fn bad(&mut self, offset: u64, passed: usize, reason: &'static str, detail: &str) -> Result<Item, DataError> {
        self.stream.consume(passed);
        self.find_record(passed == 0)?;
        let bytes = self.stream.offset() - offset;
        let problem = match self.stream.ended() {
            Some(Ended::Damage(problem)) => Some(problem.as_str()),
            Some(Ended::NoMember) => Some("what follows is no compressed member"),
            Some(Ended::File) | None => None,
        };
        if self.stream.unread().is_empty()
            && let Some(problem) = problem
        {
            let detail = if bytes == 0 { detail.to_owned() } else { format!("{detail}; {bytes} bytes on: {problem}") };
            let rest_is_lost = !self.stream.next_segment()?;
            return Ok(Item::Bad { offset, reason, detail, rest_is_lost });
        }
        Ok(Item::Bad { offset, reason, detail: format!("{detail}; {bytes} bytes passed over"), rest_is_lost: false })
    }

    /// What is damaged from `offset` on; goes to the next member that can be read.
    fn damaged(&mut self, offset: u64, problem: &str) -> Result<Item, DataError> {
        let rest_is_lost = !self.stream.next_segment()?;
        let what = if rest_is_lost { "nothing can be read from here on" } else { "what can be read goes on with a later member" };
        Ok(Item::Bad { offset, reason: "damaged_file", detail: format!("{what}: {problem}"), rest_is_lost })
    }

    /// Goes to where the next record begins, or to the end of the segment. `passed_first`: a record does not begin at once.
    fn find_record(&mut self, passed_first: bool) -> Result<(), DataError> {
        let mut line_begins = !passed_first;
        loop {
            let held = self.stream.fill(MAX_ARC_LINE)?; // more than is kept below: it goes on
            let bytes = self.stream.unread();
            let is_all = self.stream.ended().is_some();
            let from = usize::from(!line_begins);
            let member = self.stream.members_within(from, held).find(|at| begins_record(&bytes[*at..], self.is_arc));
            let found = self.find_start(&bytes[..member.unwrap_or(held)], line_begins).or(member);
            if let Some(at) = found {
                self.stream.consume(at);
                return Ok(());
            }
            if is_all {
                self.stream.consume(held);
                return Ok(());
            }
            // The start of a record may be at the end of what is held: the last line stays, and a member that has just begun.
            let keep = if self.is_arc { MAX_ARC_LINE / 2 } else { TAIL };
            let last_line = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
            let new_member = self.stream.members_within((held - TAIL).max(1), held).next();
            line_begins = last_line > 0 && held - last_line <= keep;
            let passed = if line_begins { last_line } else { held - 1 };
            line_begins |= new_member.is_some_and(|at| at <= passed);
            self.stream.consume(new_member.map_or(passed, |at| at.min(passed)));
        }
    }

    fn find_start(&self, bytes: &[u8], line_begins: bool) -> Option<usize> {
        if self.is_arc { find_arc_line(bytes, line_begins) } else { find_version(bytes, line_begins) }
    }
}

struct Problem {
    reason: &'static str,
    detail: String,
    bytes: usize,
}

/// Where a line `WARC/1.0` with a header line behind it begins; at the first byte only if a line begins there.
fn find_version(bytes: &[u8], line_begins: bool) -> Option<usize> {
    memmem::find_iter(bytes, b"WARC/").find(|at| {
        let begins = if *at == 0 { line_begins } else { bytes[at - 1] == b'\n' };
        begins && version_line(&bytes[*at..]).is_some_and(|length| bytes.get(at + length).is_none_or(u8::is_ascii_alphabetic))
    })
}

fn find_arc_line(bytes: &[u8], line_begins: bool) -> Option<usize> {
    let first = line_begins.then_some(0);
    first.into_iter().chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1)).find(|at| arc_line(&bytes[*at..]).is_some())
}
