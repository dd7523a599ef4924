//! Text into HTML: everything that comes from data or from the pipeline file goes through here.

use std::fmt::Write as _;

use serde_json::Value;

use crate::show;

/// The beginning of a page that needs nothing but itself, up to and with `<body>`. No script runs in it and nothing is fetched: its own
/// content policy forbids both, so that no text from the data can.
pub(crate) fn begin(title: &str, css: &[&str]) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{}{}</style>\n</head>\n<body>\n",
        esc(title),
        include_str!("page.css"),
        css.concat(),
    )
}

/// `text` for an element's content or a quoted attribute: nothing in it is markup, and nothing in it is hidden.
pub(crate) fn esc(text: &str) -> String {
    let text = show::visible(text);
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A part of a whole in per cent, for a length in CSS.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "0".to_owned() } else { format!("{:.3}", (part as f64 * 100.0 / whole as f64).min(100.0)) }
}

/// A JSON value as YAML of the kind that people write in a pipeline file.
pub(super) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if map.is_empty() => {}
        value => write_yaml(value, 0, &mut out),
    }
    out
}

fn write_yaml(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let _ = write!(out, "{:indent$}{}:", "", scalar(key), indent = depth * 2);
                write_after_key(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "{:indent$}-", "", indent = depth * 2);
                write_after_key(item, depth, out);
            }
        }
        value => {
            let _ = writeln!(out, "{:indent$}{}", "", flow(value), indent = depth * 2);
        }
    }
}

fn write_after_key(value: &Value, depth: usize, out: &mut String) {
    let flow = flow(value);
    let is_nested = |value: &Value| value.is_object() || value.is_array();
    let has_depth = match value {
        Value::Object(map) => map.values().any(is_nested),
        Value::Array(items) => items.iter().any(is_nested),
        _ => false,
    };
    if is_nested(value) && (has_depth || flow.len() > 90) {
        out.push('\n');
        write_yaml(value, depth + 1, out);
    } else {
        let _ = writeln!(out, " {flow}");
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            format!("{{{}}}", map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// A string, quoted unless it is a plain word that YAML takes for nothing else.
fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-'))
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if is_word { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_never_markup_and_never_hidden() {
        assert_eq!(esc("<a href=\"x\" id='y'>&\u{202e}\u{1b}"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;⟨U+202E⟩␛");
    }

    #[test]
    fn settings_read_as_a_pipeline_file_would_have_them() {
        let settings = json!({"path": "data/*.jsonl", "min": 200, "rules": ["a", "no"], "deep": {"list": [{"k": null}, []]}, "empty": {}});
        insta::assert_snapshot!(yaml(&settings), @r#"
        path: "data/*.jsonl"
        min: 200
        rules: [a, "no"]
        deep:
          list:
            - {k: null}
            - []
        empty: {}
        "#);
        assert_eq!(yaml(&json!({})), "");
    }
}
