//! The `huggingface` key of a Parquet file's metadata: its features as the `datasets` library writes them.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Map, Value, json};

/// `{"info": {"features": {…}}}`; what `datasets.Features.from_arrow_schema` reads.
pub(crate) fn huggingface(schema: &Schema) -> String {
    json!({"info": {"features": fields_json(schema.fields())}}).to_string()
}

/// Whether a column holds media: bytes of a file and its path, or bytes under a name that says so.
pub(crate) fn media(field: &Field) -> Option<&'static str> {
    let bytes_and_path = match field.data_type() {
        DataType::Struct(children) => {
            children.len() == 2
                && children.iter().any(|child| child.name() == "bytes" && is_binary(child.data_type()))
                && children.iter().any(|child| child.name() == "path" && matches!(child.data_type(), DataType::Utf8 | DataType::LargeUtf8))
        }
        _ => false,
    };
    match (bytes_and_path, field.name().as_str()) {
        (true, "audio") => Some("Audio"),
        (true, "video") => Some("Video"),
        (true, _) => Some("Image"),
        (false, "image") if is_binary(field.data_type()) => Some("Image"),
        (false, _) => None,
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary)
}

fn fields_json(fields: &Fields) -> Value {
    Value::Object(fields.iter().map(|field| (field.name().clone(), feature(field))).collect::<Map<_, _>>())
}

fn feature(field: &Field) -> Value {
    if let Some(kind) = media(field) {
        return json!({"_type": kind});
    }
    match field.data_type() {
        DataType::Struct(children) => fields_json(children),
        DataType::List(item) => json!({"feature": feature(&item_field(item)), "_type": "List"}),
        DataType::LargeList(item) => json!({"feature": feature(&item_field(item)), "_type": "LargeList"}),
        DataType::FixedSizeList(item, length) => json!({"feature": feature(&item_field(item)), "length": length, "_type": "List"}),
        DataType::Map(entries, _) => json!({"feature": feature(&item_field(entries)), "_type": "List"}),
        other => json!({"dtype": dtype(other), "_type": "Value"}),
    }
}

/// An item of a list is no column: its name says nothing of what it holds.
fn item_field(item: &Field) -> Field {
    Field::new("item", item.data_type().clone(), true)
}

fn dtype(data_type: &DataType) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match data_type {
        DataType::Utf8 | DataType::Utf8View => "string".to_owned(),
        DataType::LargeUtf8 => "large_string".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary".to_owned(),
        DataType::LargeBinary => "large_binary".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Timestamp(u, None) => format!("timestamp[{}]", unit(u)),
        DataType::Timestamp(u, Some(zone)) => format!("timestamp[{}, tz={zone}]", unit(u)),
        DataType::Time32(u) => format!("time32[{}]", unit(u)),
        DataType::Time64(u) => format!("time64[{}]", unit(u)),
        DataType::Duration(u) => format!("duration[{}]", unit(u)),
        DataType::Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        DataType::Decimal256(precision, scale) => format!("decimal256({precision}, {scale})"),
        other => other.to_string().to_lowercase(), // Int64, Float32, Date32, Null, …: the same words
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn features_are_those_that_datasets_reads() {
        let message = DataType::Struct(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)].into());
        let image = DataType::Struct(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into());
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("seen", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("messages", DataType::List(Arc::new(Field::new("item", message, true))), true),
            Field::new("vector", DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 3), true),
            Field::new("image", image, true),
        ]);
        let expected = r#"{"info":{"features":{"id":{"dtype":"string","_type":"Value"},"n":{"dtype":"int64","_type":"Value"},"seen":{"dtype":"timestamp[us, tz=UTC]","_type":"Value"},"messages":{"feature":{"role":{"dtype":"string","_type":"Value"},"content":{"dtype":"string","_type":"Value"}},"_type":"List"},"vector":{"feature":{"dtype":"float32","_type":"Value"},"length":3,"_type":"List"},"image":{"_type":"Image"}}}}"#;
        assert_eq!(huggingface(&schema), expected);
    }
}
