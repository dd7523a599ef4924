//! The filters of templates that can make much out of little, with a bound on what they make.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Kwargs, Object, Rest, StringInput, Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};

use super::MAX_BYTES;

/// What an error says where a text would be too long.
pub(super) const TOO_LONG: &str = "the text would be longer than a prompt may be";

/// Most bytes that the filters of one filling make together: all may be held at once.
const MAX_MADE: usize = 16 * MAX_BYTES;

/// Most items that a part of a list is asked to have.
const MAX_ITEMS: usize = 1 << 20;

/// Most spaces that JSON is indented by.
const MAX_INDENT: usize = 64;

/// Puts the bounded filters in place of those that have no bound.
pub(super) fn bound(environment: &mut Environment<'static>) {
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("format", format);
    environment.add_filter("string", string);
    environment.add_filter("tojson", tojson);
    environment.add_filter("pprint", pprint);
    environment.add_filter("batch", batch);
    environment.add_filter("slice", slice);
}

/// Bytes that filters made so far.
#[derive(Debug, Default)]
struct Made(AtomicUsize);

impl Object for Made {}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, TOO_LONG)
}

/// Asks for room for a text, before it is made.
fn ask(state: &State, bytes: usize) -> Result<(), Error> {
    let made = state.get_or_set_temp_object("made", Made::default);
    let before = made.0.fetch_add(bytes.min(MAX_MADE), Ordering::Relaxed);
    if bytes > MAX_BYTES || before + bytes > MAX_MADE { Err(too_long()) } else { Ok(()) }
}

/// Counts the bytes that are written, up to those of a prompt.
struct Counted(usize);

impl Write for Counted {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.len());
        if self.0 > MAX_BYTES { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Bytes of a value as text.
fn length(value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    let mut counted = Counted(0);
    write!(counted, "{value}").map_err(|_| too_long())?;
    Ok(counted.0)
}

fn replace(state: &State, value: StringInput<'_>, from: StringInput<'_>, to: StringInput<'_>) -> Result<Value, Error> {
    let (text, part) = (value.as_str(), from.as_str());
    let times = text.matches(part).count();
    ask(state, (text.len() - times * part.len()).saturating_add(times.saturating_mul(to.as_str().len())))?;
    filters::replace(state, value, from, to)
}

fn join(state: &State, value: &Value, joiner: Option<StringInput<'_>>) -> Result<Value, Error> {
    let between = joiner.as_ref().map(StringInput::as_str).unwrap_or_default();
    if let Ok(items) = value.try_iter() {
        let mut bytes = 0_usize;
        for item in items {
            bytes = bytes.saturating_add(length(&item)?).saturating_add(between.len());
            if bytes.saturating_sub(between.len()) > MAX_BYTES {
                return Err(too_long());
            }
        }
        ask(state, bytes.saturating_sub(between.len()))?;
    }
    filters::join(state, value, joiner)
}

fn indent(state: &State, value: StringInput<'_>, args: Rest<Value>) -> Result<Value, Error> {
    let (width, first, blank, kwargs): (Option<usize>, Option<bool>, Option<bool>, Kwargs) = from_args(&args)?;
    let spaces = match width {
        Some(width) => width,
        None => kwargs.get::<Option<usize>>("width")?.unwrap_or(4),
    };
    let lines = value.as_str().matches('\n').count() + 1;
    ask(state, value.as_str().len().saturating_add(lines.saturating_mul(spaces)))?;
    filters::indent(value, width, first, blank, kwargs)
}

fn format(state: &State, text: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let form = text.as_str().unwrap_or_default();
    // Widths are numbers in it, or arguments.
    let widths = form.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widths = widths.map(|digits| digits.parse::<usize>().unwrap_or(usize::MAX)).fold(0_usize, usize::saturating_add);
    let mut most = 0;
    for arg in args.iter() {
        let width = if form.contains('*') { arg.as_usize().unwrap_or_default() } else { 0 };
        most = most.max(length(arg)?).max(width);
    }
    let bytes = form.len().saturating_add(widths).saturating_add(form.matches('%').count().saturating_mul(most));
    ask(state, bytes)?;
    filters::format(state, text, args)
}

fn string(state: &State, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_none() {
        ask(state, length(value)?)?;
    }
    filters::string(state, value)
}

fn tojson(state: &State, value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let spaces = match &indent {
        Some(indent) => Some(indent.clone()),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    if spaces.and_then(|spaces| spaces.as_usize()).is_some_and(|spaces| spaces > MAX_INDENT) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("wanted an indent of at most {MAX_INDENT}")));
    }
    ask(state, length(value)?)?;
    filters::tojson(value, indent, kwargs)
}

fn pprint(state: &State, value: &Value) -> Result<String, Error> {
    ask(state, length(value)?)?;
    Ok(filters::pprint(value))
}

fn items(count: usize) -> Result<(), Error> {
    if count <= MAX_ITEMS {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("wanted at most {MAX_ITEMS} items, found {count}")))
}

fn batch(state: &State, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    items(count)?;
    filters::batch(state, value, count, fill)
}

fn slice(state: &State, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    items(count)?;
    filters::slice(state, value, count, fill)
}
