//! Prompts: templates over the columns of a row, checked when the stage is built.
//!
//! What a cell holds is never read as a template: it only fills one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::util::display::array_value_to_string;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Message, Role};
use crate::StageError;
use crate::command::lasting;

mod filters;
mod names;
mod sample;

/// Most steps that filling a template may take: a loop over a long list stays far below, one that does not end gets there in a blink.
const FUEL: u64 = 5_000_000;

/// Most bytes of a filled template: about four million tokens, more than any model reads.
const MAX_BYTES: usize = 16 << 20;

/// A turn of a person and the answer to it, shown to the model before the row's own prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct FewShot {
    /// What is asked; no template.
    pub user: String,
    /// The answer to it that is shown.
    pub assistant: String,
}

/// Why a row has no prompt: the row is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPrompt {
    /// The reason, in `snake_case`.
    pub reason: &'static str,
    /// What was wanted and what was found.
    pub detail: String,
}

impl NoPrompt {
    /// A reason with what happened.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A minijinja template of which every name is known.
///
/// Strict: a name that is not there is an error, and so is a null that would be printed, since a model takes the word for an answer.
/// `{% if name %}`, `{{ name or "" }}` and `is none` work with nulls.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    source: &'static str,
    names: Vec<String>,
    /// Fields of names that it uses, as `name.field`.
    paths: Vec<String>,
}

impl Template {
    /// The template `source`, which the setting `setting` holds; `known` are the names that it may use.
    ///
    /// # Errors
    /// [`StageError::Setting`] if it is no template, or uses another name.
    pub fn new(setting: &str, source: &str, known: &[&str]) -> Result<Self, StageError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A line with nothing but a block leaves no empty line.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        // Errors then know which part of the template they are about.
        environment.set_debug(true);
        environment.remove_global("debug");
        filters::bound(&mut environment);
        environment.set_formatter(|out, state, value| match value.kind() {
            ValueKind::None => Err(Error::new(ErrorKind::InvalidOperation, NULL)),
            ValueKind::Bytes => Err(Error::new(ErrorKind::InvalidOperation, "it is bytes and no text")),
            _ => escape_formatter(out, state, value),
        });
        let source = lasting(source);
        environment.add_template(NAME, source).map_err(|error| {
            let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
            let what = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
            StageError::setting(setting, format!("wanted a template, found an error{line}: {what}"))
                .with_help("`{{ column }}` stands for the text of a column; braces that are to stay are written `{{ '{{' }}`")
        })?;
        let code = names::read(source);
        let unsliced = environment.template_from_str(&code.unsliced).or_else(|_| environment.get_template(NAME));
        let undeclared = |nested| unsliced.as_ref().map(|template| template.undeclared_variables(nested)).unwrap_or_default();
        let (used, mut paths) = (undeclared(false), undeclared(true).into_iter().filter(|path| path.contains('.')).collect::<Vec<_>>());
        paths.sort();
        let globals: BTreeSet<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
        let words = code.words.into_iter().filter(|word| known.contains(&word.as_str()));
        let used = used.into_iter().filter(|name| known.contains(&name.as_str()) || !globals.contains(name));
        let names: BTreeSet<String> = used.chain(words).collect();
        let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
        if !unknown.is_empty() {
            return Err(unknown_names(setting, &unknown, known));
        }
        let names: Vec<String> = names.into_iter().collect();
        let template = Self { environment, source, names, paths };
        template.check_filters(setting)?;
        Ok(template)
    }

    /// Filters, tests and functions are looked up when they are met: the template is filled with nothing once, to meet them.
    fn check_filters(&self, setting: &str) -> Result<(), StageError> {
        let mut lenient = self.environment.clone();
        lenient.set_undefined_behavior(UndefinedBehavior::Chainable);
        lenient.set_formatter(escape_formatter);
        let met = lenient.get_template(NAME).and_then(|template| template.render_captured_to((), Bounded(Vec::new())).map(drop));
        match met {
            Err(error) if matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction) => {
                let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
                let what = error.detail().map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
                Err(StageError::setting(setting, format!("wanted a template, found an error{line}: {what}")))
            }
            _ => Ok(()),
        }
    }

    /// Tries it with values of these types for its names, and refuses what no row could fill.
    fn check_types(&self, setting: &str, types: &[(&str, &DataType)]) -> Result<(), StageError> {
        let data_type = |name: &str| types.iter().find(|(known, _)| *known == name).map(|(_, data_type)| *data_type);
        let missing: BTreeSet<sample::NoField> =
            self.paths.iter().filter_map(|path| sample::missing(path, data_type(path.split('.').next()?)?)).collect();
        if let Some(error) = sample::error(setting, missing.iter()) {
            return Err(error);
        }
        let unknown = sample::Unknown::default();
        let values: BTreeMap<&str, Value> =
            types.iter().map(|(name, data_type)| (*name, sample::value(name, data_type, &unknown))).collect();
        let Err(error) = self.fill(&values) else { return Ok(()) };
        match error.kind() {
            ErrorKind::UndefinedError => {
                let unknown = unknown.lock().unwrap_or_else(PoisonError::into_inner);
                sample::error(setting, unknown.iter()).map_or(Ok(()), Err)
            }
            ErrorKind::UnknownMethod
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::MissingArgument
            | ErrorKind::TooManyArguments => {
                Err(StageError::setting(setting, format!("no row can fill the template: {}", self.problem(&error).detail)))
            }
            // Other values may do.
            _ => Ok(()),
        }
    }

    /// The names that it uses, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Its text.
    pub(crate) fn source(&self) -> &str {
        self.source
    }

    /// Fills it.
    ///
    /// # Errors
    /// [`NoPrompt`] if these values can't fill it.
    pub fn render(&self, values: &BTreeMap<&str, Value>) -> Result<String, NoPrompt> {
        let text = self.fill(values).map_err(|error| self.problem(&error))?;
        String::from_utf8(text).map_err(|error| NoPrompt::new("prompt_failed", error.to_string()))
    }

    fn fill(&self, values: &BTreeMap<&str, Value>) -> Result<Vec<u8>, Error> {
        let context: Value = values.iter().map(|(name, value)| (*name, value.clone())).collect();
        let mut text = Bounded(Vec::new());
        self.environment.get_template(NAME)?.render_captured_to(context, &mut text)?;
        Ok(text.0)
    }

    fn problem(&self, error: &Error) -> NoPrompt {
        let part = error.range().and_then(|range| self.source.get(range)).map(|part| format!("`{}`", part.trim()));
        let part = part.unwrap_or_else(|| "a part of it".to_owned());
        let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
        match (error.kind(), error.detail()) {
            (ErrorKind::WriteFailure, _) => NoPrompt::new("prompt_too_long", format!("the prompt has more than {MAX_BYTES} bytes")),
            (ErrorKind::InvalidOperation, Some(filters::TOO_LONG)) => {
                NoPrompt::new("prompt_too_long", format!("{part}{line} makes a text of more than {MAX_BYTES} bytes"))
            }
            (ErrorKind::OutOfFuel, _) => {
                NoPrompt::new("prompt_failed", format!("the template takes more than {FUEL} steps for this row{line}"))
            }
            (ErrorKind::InvalidOperation, Some(NULL)) => NoPrompt::new(
                "null_in_prompt",
                format!("{part}{line} is null; the template can ask: `{{% if … %}}`, or `{{{{ … or \"\" }}}}`"),
            ),
            (kind, Some(detail)) => NoPrompt::new("prompt_failed", format!("{part}{line}: {kind}: {detail}")),
            (kind, None) => NoPrompt::new("prompt_failed", format!("{part}{line}: {kind}")),
        }
    }
}

const NAME: &str = "prompt";
const NULL: &str = "it is null";

/// What a template is filled into: no more than a prompt may have.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_BYTES {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unknown_names(setting: &str, unknown: &[&str], known: &[&str]) -> StageError {
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let are = if unknown.len() == 1 { "which is no column" } else { "which are no columns" };
    let error = StageError::setting(setting, format!("the template uses {}, {are}; there are {}", list(unknown), list(known)));
    meant(error, unknown.iter().filter_map(|name| nearest(name, known.iter().copied())))
}

/// An error with the names that may have been meant.
fn meant<'k>(error: StageError, nearest: impl Iterator<Item = &'k str>) -> StageError {
    let nearest: Vec<String> = nearest.map(|name| format!("`{name}`")).collect();
    if nearest.is_empty() { error } else { error.with_help(format!("did you mean {}?", nearest.join(", "))) }
}

/// The one of `known` that `name` may have been meant to be.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let most = (name.chars().count() / 3).max(2);
    known.map(|other| (distance(other), other)).min().filter(|(distance, _)| *distance <= most).map(|(_, other)| other)
}

/// A conversation that ends with a question about a row: templates over its columns.
#[derive(Debug)]
pub struct Prompt {
    system: Option<Template>,
    user: Template,
    examples: Vec<FewShot>,
    /// The columns that the templates use, by their place in the row.
    columns: Vec<(String, usize)>,
}

impl Prompt {
    /// The templates of the settings named with them, over the columns of `input`; `given` are names that the stage itself fills in.
    ///
    /// # Errors
    /// [`StageError::Setting`] if a template can't work.
    pub fn new(
        system: Option<(&str, &str)>,
        (setting, user): (&str, &str),
        examples: &[FewShot],
        input: &Schema,
        given: &[&str],
    ) -> Result<Self, StageError> {
        let columns = input.fields().iter().map(|field| field.name().as_str());
        let known: Vec<&str> = given.iter().copied().chain(columns.filter(|column| !given.contains(column))).collect();
        if user.trim().is_empty() {
            return Err(StageError::setting(setting, "wanted a template, found nothing but white space"));
        }
        let user = Template::new(setting, user, &known)?;
        let system =
            system.map(|(setting, source)| Template::new(setting, source, &known).map(|template| (setting, template))).transpose()?;
        let mut columns: Vec<(String, usize)> = Vec::new();
        for (setting, template) in system.iter().map(|(setting, template)| (*setting, template)).chain([(setting, &user)]) {
            for name in template.names().iter().filter(|name| !given.contains(&name.as_str())) {
                let column = input.index_of(name)?;
                let data_type = input.field(column).data_type();
                if is_bytes(data_type) {
                    let problem = format!("the template uses `{name}: {data_type}`, which is bytes and no text");
                    return Err(StageError::setting(setting, problem));
                }
                if !columns.iter().any(|(known, _)| known == name) {
                    columns.push((name.clone(), column));
                }
            }
            let types = template.names().iter().map(|name| match input.field_with_name(name) {
                Ok(field) if !given.contains(&name.as_str()) => (name.as_str(), field.data_type()),
                _ => (name.as_str(), &DataType::Utf8),
            });
            template.check_types(setting, &types.collect::<Vec<_>>())?;
        }
        Ok(Self { system: system.map(|(_, template)| template), user, examples: examples.to_vec(), columns })
    }

    /// Whether the templates use a name.
    pub fn uses(&self, name: &str) -> bool {
        self.user.names().iter().chain(self.system.iter().flat_map(Template::names)).any(|used| used == name)
    }

    /// All that shapes what is asked, for [`super::Provenance`].
    pub fn shape(&self) -> serde_json::Value {
        serde_json::json!({
            "system": self.system.as_ref().map(Template::source),
            "prompt": self.user.source(),
            "examples": self.examples,
        })
    }

    /// The conversation about the one row of `row`. `given` are the values of the names that the stage fills in.
    ///
    /// # Errors
    /// [`NoPrompt`] if the row can't fill the templates.
    pub fn messages(&self, row: &RecordBatch, given: &[(&str, &str)]) -> Result<Vec<Message>, NoPrompt> {
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, column) in &self.columns {
            values.insert(name, value(row.column(*column), 0)?);
        }
        values.extend(given.iter().map(|(name, text)| (*name, Value::from(*text))));
        let mut messages = Vec::with_capacity(2 + 2 * self.examples.len());
        if let Some(system) = &self.system {
            messages.push(Message::text(Role::System, system.render(&values)?));
        }
        for example in &self.examples {
            messages.push(Message::text(Role::User, &example.user));
            messages.push(Message::text(Role::Assistant, &example.assistant));
        }
        let user = self.user.render(&values)?;
        if user.trim().is_empty() {
            return Err(NoPrompt::new("empty_prompt", "the template leaves nothing but white space for this row"));
        }
        messages.push(Message::text(Role::User, user));
        Ok(messages)
    }
}

/// The text of a template that is a setting or lies in a file.
///
/// # Errors
/// [`StageError::Setting`] if it is neither or both, or can't be read.
pub(crate) fn source(
    base_dir: &Path,
    (setting, text): (&str, Option<&str>),
    (file_setting, file): (&str, Option<&str>),
) -> Result<Option<String>, StageError> {
    match (text, file) {
        (Some(_), Some(_)) => Err(StageError::setting(file_setting, format!("wanted either `{setting}` or `{file_setting}`, found both"))),
        (Some(text), None) => Ok(Some(text.to_owned())),
        (None, Some(file)) => {
            let path: PathBuf = base_dir.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| StageError::setting(file_setting, format!("can't read {}: {error}", path.display())))?;
            Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// A cell as templates see it: texts, numbers, truth values, lists and structs as such, null as `none`, dates, times and decimals as text.
///
/// # Errors
/// [`NoPrompt`] if its type is none that can be shown.
pub(crate) fn value(array: &ArrayRef, row: usize) -> Result<Value, NoPrompt> {
    if array.is_null(row) {
        return Ok(Value::from(()));
    }
    let items = |items: ArrayRef| (0..items.len()).map(|item| value(&items, item)).collect::<Result<Vec<_>, _>>().map(Value::from);
    Ok(match array.data_type() {
        DataType::Null => Value::from(()),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row)),
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::Int8 => Value::from(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => Value::from(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::from(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Value::from(array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => Value::from(array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => Value::from(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => Value::from(array.as_primitive::<UInt64Type>().value(row)),
        // 0.1 stays 0.1, and not what is nearest to it in 32 bits: 0.10000000149011612.
        DataType::Float16 => short(&array.as_primitive::<Float16Type>().value(row).to_string()),
        DataType::Float32 => short(&array.as_primitive::<Float32Type>().value(row).to_string()),
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => items(array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => items(array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => items(array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let pair = |(field, column): (&arrow::datatypes::FieldRef, &ArrayRef)| Ok((field.name().clone(), value(column, row)?));
            fields.iter().zip(columns).map(pair).collect::<Result<Vec<_>, NoPrompt>>()?.into_iter().collect()
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pair =
                |at| Ok((array_value_to_string(entries.column(0), at).map_err(|error| cannot(&error))?, value(entries.column(1), at)?));
            (0..entries.len()).map(pair).collect::<Result<Vec<_>, NoPrompt>>()?.into_iter().collect()
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys().get(row).copied().unwrap_or_default();
            value(dictionary.values(), key)?
        }
        // Names of zones are in no table here; a moment is the same in any zone.
        DataType::Timestamp(unit, Some(zone)) if !zone.starts_with(['+', '-']) => {
            let utc = cast(array, &DataType::Timestamp(*unit, Some("+00:00".into()))).map_err(|error| cannot(&error))?;
            Value::from(array_value_to_string(&utc, row).map_err(|error| cannot(&error))?)
        }
        DataType::Binary => Value::from_bytes(array.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Value::from_bytes(array.as_binary::<i64>().value(row).to_vec()),
        _ => Value::from(array_value_to_string(array, row).map_err(|error| cannot(&error))?),
    })
}

fn cannot(error: &arrow::error::ArrowError) -> NoPrompt {
    NoPrompt::new("prompt_failed", error.to_string())
}

/// The number that a text writes, as the shortest one of 64 bits.
fn short(number: &str) -> Value {
    number.parse::<f64>().map_or_else(|_| Value::from(number), Value::from)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float32Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type};

    use super::*;
    use crate::llm::Part;

    fn row() -> RecordBatch {
        let meta = StructArray::from(vec![(
            Arc::new(Field::new("title", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["A title"])) as ArrayRef,
        )]);
        let nothing: Option<&str> = None;
        RecordBatch::try_from_iter_with_nullable([
            ("text", Arc::new(StringArray::from(vec!["{{ text }} <b> {% for %}"])) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![42])), true),
            ("score", Arc::new(Float32Array::from(vec![0.1])), true),
            ("flag", Arc::new(BooleanArray::from(vec![true])), true),
            ("tags", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])])), true),
            ("meta", Arc::new(meta), true),
            ("day", Arc::new(Date32Array::from(vec![19_874])), true),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")), true),
            ("kind", Arc::new(["blog"].into_iter().collect::<DictionaryArray<Int32Type>>()), true),
            ("nothing", Arc::new(StringArray::from(vec![nothing])), true),
            ("bytes", Arc::new(BinaryArray::from(vec![b"x".as_slice()])), true),
        ])
        .expect("a row")
    }

    fn prompt(source: &str) -> Result<Prompt, StageError> {
        Prompt::new(None, ("prompt", source), &[], &row().schema(), &["first"])
    }

    fn filled(source: &str) -> Result<String, NoPrompt> {
        let messages = prompt(source).expect("a template").messages(&row(), &[("first", "one")])?;
        let [Part::Text(text)] = messages[0].content.as_slice() else { panic!("one text") };
        Ok(text.clone())
    }

    fn refusal(source: &str) -> (String, Option<String>) {
        match prompt(source).expect_err("no template") {
            StageError::Setting { setting, problem, help } => (format!("{setting}: {problem}"), help),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_type_shows_as_a_person_would_write_it() {
        for (source, text) in [
            ("{{ n }} {{ score }} {{ flag }}", "42 0.1 True"),
            ("{{ tags }} {{ tags | length }}", "[1, None] 2"),
            ("{{ meta.title }} {{ meta | tojson }}", "A title {\"title\":\"A title\"}"),
            ("{{ day }} {{ time }}", "2024-05-31 1970-01-01T00:00:00Z"),
            ("{{ kind }} {{ first }}", "blog one"),
            ("{% if nothing is none %}none{% endif %}{{ nothing or '' }}", "none"),
            ("{% for tag in tags if tag %}{{ loop.index }}={{ tag }}{% endfor %}", "1=1"),
            ("{% set x = n + 1 %}{{ x }} {{ range(2) | list }}", "43 [0, 1]"),
            ("a\n{% if flag %}\nb\n  {% endif %}\nc", "a\nb\nc"),
            ("{{ kind[:2] }} {{ kind[1:3] }} {{ kind[::-1] }} {{ tags[:1] }} {{ meta.title[n - 40:][:3] }}", "bl lo golb [1] tit"),
            ("{% for c in kind[:2] %}<{{ c }}>{% endfor %}{% set kind = kind | upper %}{{ kind[:1] }}", "<b><l>B"),
        ] {
            assert_eq!(filled(source).as_deref(), Ok(text), "{source}");
        }
    }

    #[test]
    fn what_a_cell_holds_is_no_template() {
        assert_eq!(filled("<{{ text }}>").as_deref(), Ok("<{{ text }} <b> {% for %}>"));
    }

    #[test]
    fn names_are_checked_before_any_row_comes() {
        let (problem, help) = refusal("{{ n }} {{ txet }}");
        assert!(problem.starts_with("prompt: the template uses `txet`, which is no column; there are `first`, `text`, `n`"), "{problem}");
        assert_eq!(help.as_deref(), Some("did you mean `text`?"));
        let (problem, help) = refusal("{{ knid[:2] }}{% if flag %}{{ nn }}{% else %}{{ zzzzzzzz[n:txet] }}{% endif %}");
        assert!(
            problem.starts_with("prompt: the template uses `knid`, `nn`, `txet`, `zzzzzzzz`, which are no columns; there are `first`"),
            "{problem}"
        );
        assert_eq!(help.as_deref(), Some("did you mean `kind`, `n`, `text`?"));
        assert_eq!(refusal("{{ bytes[:2] }}").0, "prompt: the template uses `bytes: Binary`, which is bytes and no text");
        assert_eq!(refusal("{{ bytes }}").0, "prompt: the template uses `bytes: Binary`, which is bytes and no text");
        assert!(refusal("a\n{{ n").0.starts_with("prompt: wanted a template, found an error in line 2: "), "{:?}", refusal("a\n{{ n"));
        assert!(refusal("{{ n | nofilter }}").0.contains("nofilter"), "{:?}", refusal("{{ n | nofilter }}"));
        assert!(refusal("{% include 'x' %}").0.contains("unknown statement include"), "{:?}", refusal("{% include 'x' %}"));
    }

    #[test]
    fn what_no_row_could_fill_is_refused_before_any_comes() {
        let (problem, help) = refusal("{% if n == 3 %}{{ meta.titel }}{% endif %}{{ meta.zzzzzzzz[:3] }}");
        let expected = "prompt: the template uses `meta.titel`, but `meta` has only `title`; `meta.zzzzzzzz`, but `meta` has only `title`";
        assert_eq!((problem.as_str(), help.as_deref()), (expected, Some("did you mean `meta.title`?")));
        let (problem, help) = refusal("{{ text.upper() }}");
        assert_eq!(problem, "prompt: the template uses `text.upper`, but `text` is Utf8 and has no fields");
        assert_eq!(help.as_deref(), Some("values have no methods; filters are written `{{ text | upper }}`"));
        assert_eq!(refusal("{{ meta['titel'] }}").0, "prompt: the template uses `meta.titel`, but `meta` has only `title`");
        assert!(refusal("{{ (text ~ 'x').upper() }}").0.starts_with("prompt: no row can fill the template: "));
        assert!(refusal("{{ text | replace('a') }}").0.starts_with("prompt: no row can fill the template: "));
        for blank in ["", " \n\t"] {
            assert_eq!(refusal(blank).0, "prompt: wanted a template, found nothing but white space");
        }
        for depends in [
            "{{ tags[5] }}",
            "{{ text | int }}",
            "{{ 1 / n }}",
            "{{ meta['titel'] | default('') }}",
            "{{ meta | tojson }}{{ meta | items }}",
        ] {
            assert!(prompt(depends).is_ok(), "{depends}");
        }
    }

    #[test]
    fn fields_are_known_in_lists_and_dictionaries() {
        let meta = row().schema().field_with_name("meta").expect("a column").data_type().clone();
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let schema = Schema::new(vec![Field::new("pages", DataType::new_list(meta, true), true), Field::new("kind", dictionary, true)]);
        let new = |source: &str| Prompt::new(None, ("prompt", source), &[], &schema, &[]).map(drop).map_err(|error| error.to_string());
        assert!(new("{% for page in pages %}{{ page.title[:3] }}{% endfor %}{{ kind[:2] }}").is_ok());
        let problem = new("{% for page in pages %}{{ page.titel }}{% endfor %}").expect_err("a typo");
        assert!(problem.contains("`pages[0].titel`, but `pages[0]` has only `title`"), "{problem}");
        assert!(new("{{ kind.x }}").expect_err("no field").contains("`kind` is Utf8"));
    }

    #[test]
    fn a_row_that_can_not_fill_the_template_says_why() {
        let reason = |source: &str| filled(source).map_err(|no| (no.reason, no.detail)).expect_err("no prompt");
        let null = "`nothing`, line 2 is null; the template can ask: `{% if … %}`, or `{{ … or \"\" }}`".to_owned();
        assert_eq!(reason("a\n{{ nothing }}"), ("null_in_prompt", null));
        assert_eq!(reason("{{ tags[5] }}").0, "prompt_failed");
        assert_eq!(reason("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}").0, "prompt_failed");
        assert_eq!(reason("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}").0, "prompt_too_long");
        assert_eq!(
            reason("{% if not flag %}x{% endif %} "),
            ("empty_prompt", "the template leaves nothing but white space for this row".to_owned())
        );
    }

    #[test]
    fn filters_make_no_more_than_a_prompt_may_have() {
        let big = "{% set big = text * 1000 %}";
        for long in [
            "{{ big | replace('', big) | replace('', big) }}",
            "{{ ([big] * 9999) | join }}",
            "{{ ['', ''] | join(big * 999) }}",
            "{{ ([big] * 9999) | string | length }}",
            "{{ ([big] * 9999) | tojson | length }}",
            "{{ ([big] * 9999) | pprint | length }}",
            "{{ ('a\n' * 9999) | indent(9999) | length }}",
            "{{ ('a\n' * 9999) | indent(width=9999) | length }}",
            "{{ '%099999999d' | format(1) | length }}",
            "{{ '%*d' | format(99999999, 1) | length }}",
            // Each is short enough, and all together are not.
            "{{ (range(1000) | list) | map('replace', '', big * 10) | list | length }}",
        ] {
            assert_eq!(filled(&format!("{big}{long}")).expect_err("too long").reason, "prompt_too_long", "{long}");
        }
        assert_eq!(filled("{{ tags | batch(99999999999999) }}").expect_err("too many").reason, "prompt_failed");
        for (source, text) in [
            ("{{ kind | replace('o', '00') }} {{ kind | replace('', '-') }}", "bl00g -b-l-o-g-"),
            ("{{ tags | join(', ') }} {{ kind | join('-') }} {{ [n, meta] | join }}", "1, None b-l-o-g 42{\"title\": \"A title\"}"),
            ("{{ 'a\nb' | indent }} {{ 'a\nb' | indent(width=1, first=true) }}", "a\n    b  a\n b"),
            ("{{ '%s %05d' | format(kind, 3) }} {{ n | string }}", "blog 00003 42"),
            (
                "{{ meta | tojson(indent=1) }} {{ [1, 2, 3] | batch(2) }} {{ [1, 2, 3] | slice(2) }}",
                "{\n \"title\": \"A title\"\n} [[1, 2], [3]] [[1, 2], [3]]",
            ),
        ] {
            assert_eq!(filled(source).as_deref(), Ok(text), "{source}");
        }
        let most = "{{ ('x' * 1048576) | replace('x', '0123456789abcdef') }}";
        assert_eq!(filled(most).map(|text| text.len()), Ok(MAX_BYTES));
        assert!(filled(&most.replace("abcdef", "abcdefg")).is_err());
    }

    #[test]
    fn examples_stand_between_the_system_and_the_question() {
        let shown = FewShot { user: "{{ 1 }}".to_owned(), assistant: "2".to_owned() };
        let prompt = Prompt::new(Some(("system", "S {{ n }}")), ("prompt", "U"), &[shown], &row().schema(), &[]).expect("a prompt");
        let messages = prompt.messages(&row(), &[]).expect("messages");
        let told: Vec<_> = messages.iter().map(|message| (message.role.as_str(), message.content.clone())).collect();
        let text = |text: &str| vec![Part::Text(text.to_owned())];
        assert_eq!(told, [("system", text("S 42")), ("user", text("{{ 1 }}")), ("assistant", text("2")), ("user", text("U"))]);
    }
}
