//! The JSON Schema of a pipeline file: what editors complete by, and what the check of settings reads.

use serde_json::{Map, Value, json};
use stages::Inputs;
use stages::llm::LlmSettings;
use stages::registry::StageSpec;

use crate::expect::Expect;
use crate::graph::{DroppedRows, OnFail};

/// Keys of a stage that are not its type's settings.
pub(crate) const COMMON: [&str; 8] = ["use", "from", "keep", "write", "max_rejected", "expect", "dropped", "on_fail"];

/// The JSON Schema of a whole pipeline file with stages of these types.
pub(crate) fn file_schema(stages: &[StageSpec]) -> Value {
    let mut defs = Map::new();
    let mut branches = Vec::new();
    for spec in stages {
        let mut schema = stage_schema(spec);
        hoist(spec.name, &mut schema, &mut defs);
        let name = spec.name;
        branches.push(json!({
            "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
            "then": {"$ref": format!("#/$defs/stage_{name}")},
        }));
        defs.insert(format!("stage_{name}"), schema);
    }
    let names: Vec<&str> = stages.iter().map(|spec| spec.name).collect();
    let mut stage = json!({
        "type": "object",
        "required": ["use"],
        "properties": {"use": {"description": "The stage's type; `pipeline stages` lists them all.", "enum": names}},
    });
    // JSON Schema wants at least one branch.
    if !branches.is_empty() {
        stage["allOf"] = Value::Array(branches);
    }
    defs.insert("stage".to_owned(), stage);
    let mut file = top_schema();
    file["properties"]["stages"]["additionalProperties"] = json!({"$ref": "#/$defs/stage"});
    if let Some(Value::Object(own)) = file.get_mut("$defs") {
        own.extend(defs);
    }
    file
}

/// The schema of a pipeline file without what stands inside `stages`.
pub(crate) fn top_schema() -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Granary pipeline",
        "description": "A graph of stages that turn raw data into training data.",
        "type": "object",
        "required": ["version", "name", "stages"],
        "additionalProperties": false,
        "properties": {
            "version": {"description": "Version of this file format.", "const": 1},
            "name": {"description": "The pipeline's name.", "type": "string", "minLength": 1},
            "seed": {"description": "All randomness of a run follows from this number.", "type": "integer", "minimum": 0, "maximum": u64::MAX, "default": 0},
            "output": {"description": "The output folder, relative to this file; `out/<name>` if absent.", "type": "string", "minLength": 1},
            "stages": {
                "description": "The stages, by id.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "not": {"enum": ["dropped", "rejected"]}},
            },
            "write": described(write_schema(), "How outputs are written, unless a stage says otherwise."),
            "checkpoints": described(schemars::schema_for!(crate::graph::Checkpoints).to_value(), "How checkpoints are kept."),
            "max_rejected": max_rejected_schema("Share of a stage's rows that may be rejected before the run stops, unless the stage says otherwise; ten may always be, unless that is all of them."),
            "dropped": described(schemars::schema_for!(DroppedRows).to_value(), "What is written of the rows that stages drop, unless a stage says otherwise."),
            "llms": {
                "description": "The language models that stages ask, by the name that stages call them.",
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"},
                "additionalProperties": schemars::schema_for!(LlmSettings).to_value(),
            },
            "answers": {"description": "The folder where answers of models are kept, so that nobody is asked twice; `.answers` beside the output folder if absent. Outputs may share it.", "type": "string", "minLength": 1},
        },
        "$defs": {},
    });
    for key in ["write", "checkpoints", "dropped"] {
        let mut own = schema["properties"][key].take();
        lift_defs(&mut own, &mut schema["$defs"]);
        schema["properties"][key] = own;
    }
    let mut llm = schema["properties"]["llms"]["additionalProperties"].take();
    lift_defs(&mut llm, &mut schema["$defs"]);
    schema["properties"]["llms"]["additionalProperties"] = llm;
    schema
}

/// The schema of a stage of this type: its settings, and the keys that every stage has.
pub(crate) fn stage_schema(spec: &StageSpec) -> Value {
    let mut schema = spec.schema().to_value();
    let Some(object) = schema.as_object_mut() else { return json!({"type": "object"}) };
    object.remove("$schema");
    let mut properties = Map::new();
    properties.insert("use".to_owned(), json!({"description": "The stage's type.", "const": spec.name}));
    if let Some(from) = from_schema(spec.inputs) {
        properties.insert("from".to_owned(), from);
    }
    if let Some(Value::Object(own)) = object.remove("properties") {
        properties.extend(own);
    }
    properties.insert(
        "keep".to_owned(),
        json!({"description": "Whether its output is written though another stage reads it.", "type": "boolean", "default": false}),
    );
    let mut defs = object.remove("$defs").unwrap_or_else(|| json!({}));
    let common = [
        ("write", write_schema(), "How its output is written."),
        ("dropped", schemars::schema_for!(DroppedRows).to_value(), "What is written of the rows it drops."),
        (
            "expect",
            schemars::schema_for!(Expect).to_value(),
            "What must hold of its rows before they are published; otherwise the run stops.",
        ),
    ];
    let on_fail = spec.tags.then(|| ("on_fail", schemars::schema_for!(OnFail).to_value(), "What becomes of rows that it decides against."));
    for (key, schema, description) in common.into_iter().chain(on_fail) {
        let mut schema = described(schema, description);
        lift_defs(&mut schema, &mut defs);
        properties.insert(key.to_owned(), schema);
    }
    properties.insert(
        "max_rejected".to_owned(),
        max_rejected_schema("Share of its rows that may be rejected before the run stops; ten may always be, unless that is all of them."),
    );
    object.insert("properties".to_owned(), Value::Object(properties));
    let mut required = vec![json!("use")];
    if spec.inputs != Inputs::None {
        required.push(json!("from"));
    }
    if let Some(Value::Array(own)) = object.remove("required") {
        required.extend(own);
    }
    object.insert("required".to_owned(), Value::Array(required));
    object.insert("additionalProperties".to_owned(), Value::Bool(false));
    object.insert("$defs".to_owned(), defs);
    schema
}

fn from_schema(inputs: Inputs) -> Option<Value> {
    let one = json!({"type": "string", "description": "A stage's id, or `id.port` for another of its outputs."});
    let list = json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "Stages whose rows are read one after the other."});
    let description = "The stages whose rows it reads.";
    match inputs {
        Inputs::None => None,
        Inputs::One => Some(json!({"description": description, "anyOf": [one, list]})),
        Inputs::OneOrNamed => {
            let ports = json!({
                "type": "object", "minProperties": 1, "additionalProperties": {"anyOf": [one.clone(), list.clone()]},
                "description": "Inputs by a name of your choice.",
            });
            Some(json!({"description": description, "anyOf": [one, list, ports]}))
        }
    }
}

fn max_rejected_schema(description: &str) -> Value {
    json!({
        "description": format!("{description} Ten rows are always allowed."),
        "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*%$"}],
        "default": "0.1%",
    })
}

fn write_schema() -> Value {
    schemars::schema_for!(datasets::WriteSettings).to_value()
}

fn described(mut schema: Value, description: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        object.insert("description".to_owned(), description.into());
    }
    schema
}

/// Moves the `$defs` of `schema` to `defs`.
fn lift_defs(schema: &mut Value, defs: &mut Value) {
    let own = schema.as_object_mut().and_then(|object| object.remove("$defs"));
    if let (Some(Value::Object(own)), Some(defs)) = (own, defs.as_object_mut()) {
        defs.extend(own);
    }
}

/// Moves the `$defs` of a stage's schema to those of the file; a name that is taken by something else gets the stage's name before it.
fn hoist(stage: &str, schema: &mut Value, defs: &mut Map<String, Value>) {
    let own = schema.as_object_mut().and_then(|object| object.remove("$defs"));
    let Some(Value::Object(own)) = own else { return };
    let taken: Vec<String> =
        own.iter().filter(|(name, def)| defs.get(*name).is_some_and(|other| other != *def)).map(|(name, _)| name.clone()).collect();
    for (name, mut def) in own {
        rename_refs(&mut def, stage, &taken);
        let name = if taken.contains(&name) { format!("{stage}_{name}") } else { name };
        defs.insert(name, def);
    }
    rename_refs(schema, stage, &taken);
}

fn rename_refs(schema: &mut Value, stage: &str, taken: &[String]) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_refs(item, stage, taken)),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = taken.iter().find(|name| *target == format!("#/$defs/{name}")) {
                            *target = format!("#/$defs/{stage}_{name}");
                        }
                    }
                    value => rename_refs(value, stage, taken),
                }
            }
        }
        _ => {}
    }
}
