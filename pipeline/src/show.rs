//! Values as a person reads them: counts, bytes, times, and any cell of a table as safe text.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray, make_array};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Items of a list that are shown before the rest is counted.
const MAX_ITEMS: usize = 16;
/// Coordinated universal time, as arrow can format it without a database of zones.
const UTC: &str = "+00:00";

/// `text` with everything that a terminal or a browser would act on, or that hides or reorders text, made visible: control characters
/// as their pictures (`␛`), bidirectional and invisible ones as `⟨U+202E⟩`. Newlines and tabs stay.
pub fn visible(text: &str) -> String {
    if !text.chars().any(is_hidden) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_hidden(c) => out.push(c),
            '\0'..='\u{1f}' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
            '\u{7f}' => out.push('\u{2421}'),
            c => {
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
            }
        }
    }
    out
}

/// [`visible`] on one line: newlines become `⏎`, tabs spaces.
pub fn visible_line(text: &str) -> String {
    visible(text).replace("\r\n", "⏎").replace('\n', "⏎").replace('\t', " ")
}

/// JSON with the same characters as their escapes: they stand in its strings alone, which stay what they are.
pub(crate) fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether `c` is shown by a stand-in. Joiners stay: scripts and emoji need them.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

/// The first `max` characters of `text`, with `…` if there were more.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `1204331` as `1,204,331`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count for a headline: exact up to ten million, then `12.3 M`, `4.56 G`.
pub fn short_count(n: u64) -> String {
    match n {
        0..=9_999_999 => count(n),
        10_000_000..=999_999_999 => format!("{:.1} M", n as f64 / 1e6),
        1_000_000_000..=999_999_999_999 => format!("{:.2} G", n as f64 / 1e9),
        _ => format!("{:.2e}", n as f64),
    }
}

/// Bytes with a binary unit.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A time span: `38 ms`, `4.1 s`, `3 min 20 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds <= 0.0 {
        return "0 s".to_owned();
    }
    if seconds < 0.9995 {
        return format!("{:.0} ms", (seconds * 1e3).max(1.0));
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round();
    if whole < 3600.0 {
        return format!("{:.0} min {:02.0} s", (whole / 60.0).floor(), whole % 60.0);
    }
    format!("{} h {:02.0} min", count_f64((whole / 3600.0).floor()), ((whole % 3600.0) / 60.0).floor())
}

/// A rate, as [`count`] writes whole numbers; `–` if it cannot be known.
pub fn rate(amount: u64, seconds: f64) -> String {
    let rate = amount as f64 / seconds;
    if seconds > 0.0 && rate.is_finite() {
        count_f64(if rate < 10.0 { (rate * 10.0).round() / 10.0 } else { rate.round() })
    } else {
        "–".to_owned()
    }
}

fn count_f64(value: f64) -> String {
    if value.fract() != 0.0 || !(0.0..1e15).contains(&value) {
        return number(value);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range: checked above")]
    count(value as u64)
}

/// `part` of `whole` in per cent: `12.3 %`; `<0.1 %` rather than a false zero; `–` of nothing; `2.5 ×` of what is more than all.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if part > whole {
        return format!("{} ×", number(percent.round() / 100.0));
    }
    if part > 0 && percent < 0.05 {
        "<0.1 %".to_owned()
    } else if part < whole && percent > 99.95 {
        ">99.9 %".to_owned()
    } else {
        format!("{percent:.1} %")
    }
}

/// A measured value: at most four decimals, no trailing zeros, thousands set apart, very large and very small ones with an exponent.
pub fn number(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-3..1e9).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    if value.fract() == 0.0 && value >= 10_000.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and between ten thousand and a billion")]
        return count(value as u64);
    }
    let text = format!("{value:.4}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A measured value against its threshold: `12 < 200`.
pub fn against(value: Option<f64>, threshold: Option<f64>) -> Option<String> {
    match (value, threshold) {
        (Some(value), Some(threshold)) => {
            let sign = match value.partial_cmp(&threshold) {
                Some(std::cmp::Ordering::Less) => "<",
                Some(std::cmp::Ordering::Greater) => ">",
                Some(std::cmp::Ordering::Equal) => "=",
                None => "against",
            };
            Some(format!("{} {sign} {}", number(value), number(threshold)))
        }
        (Some(value), None) => Some(number(value)),
        (None, Some(threshold)) => Some(format!("threshold {}", number(threshold))),
        (None, None) => None,
    }
}

/// One cell as text of about `max` characters: texts as they are, bytes as `<n bytes>`, long lists cut after a few items. Not yet [`visible`].
pub fn cell(array: &dyn Array, row: usize, max: usize) -> String {
    let mut out = String::new();
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if row < array.len() && array.is_valid(row) => {
            out.push_str(&cut(text_at(array, row).unwrap_or_default(), max));
        }
        _ => {
            write_cell(array, row, max, &mut out);
            if out.chars().nth(max).is_some() {
                out = cut(&out, max);
            }
        }
    }
    out
}

/// The text in a cell of any text type.
pub(crate) fn text_at(array: &dyn Array, row: usize) -> Option<&str> {
    if row >= array.len() || array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string_opt::<i32>().map(|texts| texts.value(row)),
        DataType::LargeUtf8 => array.as_string_opt::<i64>().map(|texts| texts.value(row)),
        DataType::Utf8View => array.as_string_view_opt().map(|texts| texts.value(row)),
        _ => None,
    }
}

fn write_cell(array: &dyn Array, row: usize, max: usize, out: &mut String) {
    // Bytes are at least characters: past this the caller cuts anyway.
    if out.len() > max.saturating_mul(4) {
        return;
    }
    if row >= array.len() || array.is_null(row) {
        out.push_str("null");
        return;
    }
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cut(text_at(array, row).unwrap_or_default(), max);
            let _ = write!(out, "{}", serde_json::Value::String(text));
        }
        DataType::Binary => write_bytes(array.as_binary::<i32>().value(row).len(), out),
        DataType::LargeBinary => write_bytes(array.as_binary::<i64>().value(row).len(), out),
        DataType::BinaryView => write_bytes(array.as_binary_view().value(row).len(), out),
        DataType::FixedSizeBinary(size) => write_bytes(usize::try_from(*size).unwrap_or(0), out),
        DataType::Struct(fields) => {
            out.push('{');
            for (i, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                let _ = write!(out, "{}: ", field.name());
                write_cell(column.as_ref(), row, max, out);
            }
            out.push('}');
        }
        DataType::List(_) => write_list(array.as_list::<i32>().value(row).as_ref(), max, out),
        DataType::LargeList(_) => write_list(array.as_list::<i64>().value(row).as_ref(), max, out),
        DataType::FixedSizeList(..) => write_list(array.as_fixed_size_list().value(row).as_ref(), max, out),
        // Zone names need a database of them that is not built in; the moment is the same in UTC.
        DataType::Timestamp(unit, Some(zone)) if zone.as_ref() != UTC => {
            let utc = DataType::Timestamp(*unit, Some(UTC.into()));
            match array.slice(row, 1).to_data().into_builder().data_type(utc).build() {
                Ok(moment) => write_cell(make_array(moment).as_ref(), 0, max, out),
                Err(_) => write_hidden(array, out),
            }
        }
        _ => {
            let options = FormatOptions::new().with_null("null");
            let text = ArrayFormatter::try_new(array, &options).and_then(|formatter| formatter.value(row).try_to_string());
            match text {
                Ok(text) => out.push_str(&text),
                Err(_) => write_hidden(array, out),
            }
        }
    }
}

fn write_hidden(array: &dyn Array, out: &mut String) {
    let _ = write!(out, "<{} that cannot be shown>", array.data_type());
}

fn write_bytes(n: usize, out: &mut String) {
    let _ = write!(out, "<{} bytes>", count(n as u64));
}

fn write_list(items: &dyn Array, max: usize, out: &mut String) {
    out.push('[');
    for row in 0..items.len().min(MAX_ITEMS) {
        out.push_str(if row > 0 { ", " } else { "" });
        write_cell(items, row, max, out);
    }
    if items.len() > MAX_ITEMS {
        let _ = write!(out, ", … {} items", count(items.len() as u64));
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Float32Array, Int64Array, ListArray, StringArray, StructArray, TimestampSecondArray};
    use arrow::datatypes::{Field, Int64Type};

    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_gets_through() {
        let text = "a\u{1b}[31mred\u{7}\0\u{7f}\u{9b}1m \u{202e}txt\u{2066}\u{feff}\u{e0041}\r\nb\tc é 👩‍👩‍👧";
        insta::assert_snapshot!(visible(text), @r"
        a␛[31mred␇␀␡⟨U+009B⟩1m ⟨U+202E⟩txt⟨U+2066⟩⟨U+FEFF⟩⟨U+E0041⟩␍
        b	c é 👩‍👩‍👧
        ");
        assert!(visible(text).chars().all(|c| c == '\n' || c == '\t' || !is_hidden(c)));
        assert!(!visible_line(text).contains('\n'));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("日本語", 2), "日本…");
        assert_eq!(cut("日本語", 3), "日本語");
        assert_eq!(cut("", 0), "");
        assert_eq!(cut("x", 0), "…");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(0), count(999), count(1000), count(1_204_331)], ["0", "999", "1,000", "1,204,331"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(
            [short_count(9_999_999), short_count(12_345_678), short_count(4_560_000_000), short_count(u64::MAX)],
            ["9,999,999", "12.3 M", "4.56 G", "1.84e19"]
        );
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(1024 * 1024 - 1), bytes(u64::MAX)],
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "16.0 EiB"]
        );
        assert_eq!(
            [duration(0.0), duration(0.0004), duration(0.9999), duration(59.99), duration(200.4), duration(7500.0)],
            ["0 s", "1 ms", "1.0 s", "1 min 00 s", "3 min 20 s", "2 h 05 min"]
        );
        assert_eq!([duration(f64::NAN), duration(-3.0), duration(f64::INFINITY)], ["0 s", "0 s", "0 s"]);
        assert_eq!(
            [share(0, 0), share(0, 5), share(1, 100_000), share(99_999, 100_000), share(1, 8), share(10_000, 1000), share(8, 3)],
            ["–", "0.0 %", "<0.1 %", ">99.9 %", "12.5 %", "10 ×", "2.67 ×"]
        );
        assert_eq!([number(0.8), number(200.0), number(0.0), number(1e-9), number(412_009.0)], ["0.8", "200", "0", "1.000e-9", "412,009"]);
        assert_eq!([rate(10, 0.0), rate(10, 4.0), rate(1_000_000, 1.0), rate(u64::MAX, 0.0)], ["–", "2.5", "1,000,000", "–"]);
        assert_eq!(against(Some(12.0), Some(200.0)).as_deref(), Some("12 < 200"));
        assert_eq!(against(Some(0.91), Some(0.8)).as_deref(), Some("0.91 > 0.8"));
        assert_eq!(against(None, None), None);
    }

    #[test]
    fn any_cell_becomes_short_text() {
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&[0u8; 2000][..]), None]));
        let path: ArrayRef = Arc::new(StringArray::from(vec![Some("a \"b\".png"), None]));
        let image: ArrayRef = Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("bytes", DataType::Binary, true)), Arc::clone(&bytes)),
            (Arc::new(Field::new("path", DataType::Utf8, true)), path),
        ]));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some((0..40).map(Some)), None]));
        let shown = [&bytes, &image, &list].map(|array| cell(array.as_ref(), 0, 300));
        insta::assert_snapshot!(shown.join("\n"), @r#"
        <2,000 bytes>
        {bytes: <2,000 bytes>, path: "a \"b\".png"}
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, … 40 items]
        "#);
        assert_eq!(cell(bytes.as_ref(), 1, 300), "null");
        assert_eq!(cell(image.as_ref(), 7, 300), "null");
        assert_eq!(cell(&StringArray::from(vec!["ab".repeat(500)]), 0, 10), "ababababab…");
        assert_eq!(cell(&Float32Array::from(vec![0.5]), 0, 10), "0.5");
        assert_eq!(cell(&Int64Array::from(vec![7]), 0, 10), "7");
        for zone in ["UTC", "America/New_York", "+02:00"] {
            let times = TimestampSecondArray::from(vec![Some(1_577_836_800), None]).with_timezone(zone);
            assert_eq!((cell(&times, 0, 60), cell(&times, 1, 60)), ("2020-01-01T00:00:00Z".to_owned(), "null".to_owned()));
        }
        assert_eq!(cell(&TimestampSecondArray::from(vec![i64::MAX]), 0, 60), "<Timestamp(s) that cannot be shown>");
    }
}
