//! Pictures in cells, as they are sent.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema};
use schemas::SchemaError;

use super::Image;
use super::prompt::{NoPrompt, nearest};
use crate::StageError;
use crate::units::ColumnNames;

/// The columns of an input that hold pictures, by their place.
///
/// # Errors
/// [`StageError::Setting`] if there is no such column, or it holds something else.
pub(crate) fn columns(input: &Schema, names: Option<&ColumnNames>, setting: &str) -> Result<Vec<(String, usize)>, StageError> {
    let mut columns = Vec::new();
    for name in names.into_iter().flat_map(ColumnNames::iter) {
        let Ok(column) = input.index_of(name.as_str()) else {
            let error = StageError::setting(setting, SchemaError::missing(name.as_str(), input).to_string());
            return Err(match nearest(name.as_str(), input.fields().iter().map(|field| field.name().as_str())) {
                Some(near) => error.with_help(format!("did you mean `{near}`?")),
                None => error,
            });
        };
        let data_type = input.field(column).data_type();
        let is_image = match data_type {
            DataType::Binary => true,
            DataType::Struct(fields) => fields.find("bytes").is_some_and(|(_, field)| field.data_type() == &DataType::Binary),
            _ => false,
        };
        if !is_image {
            let problem =
                format!("wanted a column of images, `struct<bytes: binary, path: string>` or `binary`, found `{name}: {data_type}`");
            return Err(StageError::setting(setting, problem));
        }
        columns.push((name.as_str().to_owned(), column));
    }
    Ok(columns)
}

/// The picture of a cell.
///
/// # Errors
/// [`NoPrompt`] if there is none, it is none, or it has more than `max_bytes`.
pub(crate) fn picture(name: &str, array: &ArrayRef, row: usize, max_bytes: u64) -> Result<Arc<Image>, NoPrompt> {
    let bytes = match array.data_type() {
        DataType::Struct(_) if array.is_valid(row) => {
            array.as_struct().column_by_name("bytes").and_then(|column| column.as_binary_opt::<i32>())
        }
        DataType::Binary => array.as_binary_opt::<i32>(),
        _ => None,
    };
    let Some(bytes) = bytes.filter(|bytes| bytes.is_valid(row)).map(|bytes| bytes.value(row)) else {
        return Err(NoPrompt::new("no_image", format!("`{name}` has no bytes")));
    };
    if bytes.len() as u64 > max_bytes {
        let problem = format!("`{name}`: wanted at most `max_image_bytes`, which is {max_bytes}, found {}", bytes.len());
        return Err(NoPrompt::new("image_too_large", problem));
    }
    let Some(media_type) = media_type(bytes) else {
        let begin: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let problem = format!("`{name}`: wanted PNG, JPEG, GIF or WebP, found {} bytes that begin with `{begin}`", bytes.len());
        return Err(NoPrompt::new("unknown_image", problem));
    };
    Ok(Arc::new(Image { bytes: bytes.to_vec(), media_type }))
}

/// What the first bytes of a file say that it is.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}
