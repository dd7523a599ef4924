//! Values like those of a row, by which a template is tried before any row comes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::DataType;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};

use super::{is_bytes, nearest};
use crate::StageError;

/// Fields that were asked for, and that structs do not have.
pub(super) type Unknown = Arc<Mutex<BTreeSet<NoField>>>;

/// A field that is not there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NoField {
    /// What should have it.
    of: String,
    name: String,
    /// The fields it has.
    has: Vec<String>,
    /// What it is, if it is no struct.
    is: Option<String>,
}

impl NoField {
    fn problem(&self) -> String {
        let Self { of, name, has, is } = self;
        let has = has.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match is {
            Some(is) => format!("`{of}.{name}`, but `{of}` is {is} and has no fields"),
            None => format!("`{of}.{name}`, but `{of}` has only {has}"),
        }
    }

    fn help(&self) -> Option<String> {
        let Self { of, name, .. } = self;
        match self.is {
            Some(_) => Some(format!("values have no methods; filters are written `{{{{ {of} | {name} }}}}`")),
            None => nearest(name, self.has.iter().map(String::as_str)).map(|near| format!("did you mean `{of}.{near}`?")),
        }
    }
}

/// The error about fields that are not there.
pub(super) fn error<'f>(setting: &str, unknown: impl Iterator<Item = &'f NoField>) -> Option<StageError> {
    let unknown: Vec<&NoField> = unknown.collect();
    if unknown.is_empty() {
        return None;
    }
    let problems: Vec<String> = unknown.iter().map(|no| no.problem()).collect();
    let help: Vec<String> = unknown.iter().filter_map(|no| no.help()).collect();
    let error = StageError::setting(setting, format!("the template uses {}", problems.join("; ")));
    Some(if help.is_empty() { error } else { error.with_help(help.join("; ")) })
}

/// What is not there of a path such as `meta.title`, which begins with a column of this type.
pub(super) fn missing(path: &str, data_type: &DataType) -> Option<NoField> {
    let mut names = path.split('.');
    let mut of = names.next()?.to_owned();
    let mut data_type = data_type;
    for name in names {
        while let DataType::Dictionary(_, values) = data_type {
            data_type = values;
        }
        let has = match data_type {
            DataType::Struct(fields) => {
                if let Some(field) = fields.iter().find(|field| field.name() == name) {
                    of = format!("{of}.{name}");
                    data_type = field.data_type();
                    continue;
                }
                fields.iter().map(|field| field.name().clone()).collect()
            }
            // What keys a map has depends on the row.
            DataType::Map(..) | DataType::Null => return None,
            _ => Vec::new(),
        };
        let is = (!matches!(data_type, DataType::Struct(_))).then(|| data_type.to_string());
        return Some(NoField { of, name: name.to_owned(), has, is });
    }
    None
}

/// A value of a type, as [`super::value`] gives them.
pub(super) fn value(path: &str, data_type: &DataType, unknown: &Unknown) -> Value {
    match data_type {
        DataType::Null => Value::from(()),
        DataType::Boolean => Value::from(true),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Value::from(1.5),
        data_type if data_type.is_integer() => Value::from(1),
        data_type if is_bytes(data_type) => Value::from_bytes(b"text".to_vec()),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Value::from(vec![value(&format!("{path}[0]"), item.data_type(), unknown)])
        }
        DataType::Struct(fields) => {
            let field = |name: &String, data_type| (name.clone(), value(&format!("{path}.{name}"), data_type, unknown));
            let fields = fields.iter().map(|known| field(known.name(), known.data_type())).collect();
            Value::from_object(Fields { path: path.to_owned(), fields, unknown: Arc::clone(unknown) })
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let item = value(&format!("{path}.key"), pair[1].data_type(), unknown);
                [("key", item)].into_iter().collect()
            }
            _ => Value::from(()),
        },
        DataType::Dictionary(_, values) => value(path, values, unknown),
        _ => Value::from("text"),
    }
}

/// A struct that notes which fields it is asked for in vain.
#[derive(Debug)]
struct Fields {
    path: String,
    fields: Vec<(String, Value)>,
    unknown: Unknown,
}

impl Object for Fields {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let found = self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
        if found.is_none() {
            let has = self.fields.iter().map(|(name, _)| name.clone()).collect();
            let no = NoField { of: self.path.clone(), name: name.to_owned(), has, is: None };
            self.unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(no);
        }
        found
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}
