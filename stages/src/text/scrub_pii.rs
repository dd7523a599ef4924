//! `scrub_pii`: replaces or marks what tells who somebody is: addresses, phone numbers, accounts, cards.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, Int64Builder, ListArray, RecordBatch, StringBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::pii::{Finder, Pii};
use crate::units::ColumnName;
use crate::{BuildContext, Emit, Inputs, Kind, Port, RowLocal, Stage, StageConfig, StageError};

/// Replaces e-mail addresses, IP addresses, phone numbers, IBANs and card numbers in texts, or marks them and leaves the texts alone.
///
/// Precision goes before recall: what only may be one stays. An e-mail address has a domain that ends in letters; in the address of a web page only
/// the value is taken. A number with three dots is no IP address where it is part of a longer one or of a name, or stands behind `version`. A phone
/// number has a `+` or `00` and a country's code, or is written as in North America, or has a word such as `phone` or `fax` in the three words
/// before it; in the address of a web page there is none. IBANs have the length of their country and the right check digits (ISO 13616), card numbers
/// a known beginning and length and the right check digit (ISO 7812). Names, postal addresses and birthdays are not looked for.
///
/// What e-mail and IP addresses are replaced by is what datatrove's `PIIFormatter` takes, in turn; here the turn begins anew with each text. No row
/// is dropped; a null stays null. The report counts what was found and the texts it was found in.
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScrubPiiConfig {
    /// The column that holds the text.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// What is done with what is found.
    #[serde(default)]
    pub mode: Mode,
    /// Whether e-mail addresses are looked for.
    #[serde(default = "yes")]
    pub emails: bool,
    /// Whether IP addresses of versions 4 and 6 are looked for.
    #[serde(default = "yes")]
    pub ips: bool,
    /// Whether only those IP addresses are meant that can be reached from anywhere: not `127.0.0.1`, not `192.168.0.1`, not those of examples.
    #[serde(default = "yes")]
    pub public_ips_only: bool,
    /// Whether phone numbers are looked for.
    #[serde(default = "yes")]
    pub phones: bool,
    /// Whether IBANs are looked for.
    #[serde(default = "yes")]
    pub ibans: bool,
    /// Whether card numbers are looked for.
    #[serde(default = "yes")]
    pub cards: bool,
    /// What `mode: replace` puts in the place of each kind: texts that are taken in turn. One empty text removes what is found.
    #[serde(default)]
    pub replacements: Replacements,
    /// Adds columns `pii_emails`, `pii_ips`, `pii_phones`, `pii_ibans`, `pii_cards` of the kinds that are looked for: how many were found.
    #[serde(default)]
    pub counts: bool,
}

/// What is done with what is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Mode {
    /// It is replaced in the text.
    #[default]
    Replace,
    /// The text stays; a column `pii` is added: a list of what was found (`email`, `ip`, `phone`, `iban`, `card`), from which character on and
    /// before which it ends.
    Tag,
}

/// What stands in the place of what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Replacements {
    /// Of e-mail addresses. `example.com` and `example.org` belong to nobody.
    pub email: Vec<String>,
    /// Of IP addresses of version 4.
    pub ip: Vec<String>,
    /// Of IP addresses of version 6.
    pub ipv6: Vec<String>,
    /// Of phone numbers.
    pub phone: Vec<String>,
    /// Of IBANs.
    pub iban: Vec<String>,
    /// Of card numbers.
    pub card: Vec<String>,
}

impl Default for Replacements {
    // Source for e-mail and IP addresses: datatrove 0.10.1, `PIIFormatter`.
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            email: texts(&["email@example.com", "firstname.lastname@example.org"]),
            ip: texts(&["22.214.171.124", "126.96.36.199", "188.8.131.52", "184.108.40.206", "220.127.116.11", "18.104.22.168"]),
            ipv6: texts(&["2001:db8::1"]),
            phone: texts(&["[PHONE]"]),
            iban: texts(&["[IBAN]"]),
            card: texts(&["[CARD]"]),
        }
    }
}

impl Replacements {
    fn of(&self, kind: Pii) -> &[String] {
        match kind {
            Pii::Email => &self.email,
            Pii::Ip => &self.ip,
            Pii::Ipv6 => &self.ipv6,
            Pii::Phone => &self.phone,
            Pii::Iban => &self.iban,
            Pii::Card => &self.card,
        }
    }
}

const KINDS: [Pii; 6] = [Pii::Email, Pii::Ip, Pii::Ipv6, Pii::Phone, Pii::Iban, Pii::Card];

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn yes() -> bool {
    true
}

fn span_fields() -> Fields {
    Fields::from(vec![
        Field::new("kind", DataType::Utf8, false),
        Field::new("start", DataType::Int64, false),
        Field::new("end", DataType::Int64, false),
    ])
}

fn spans_column() -> Column<ListArray> {
    let item = Field::new_list_field(DataType::Struct(span_fields()), false);
    Column::new("pii", DataType::List(Arc::new(item)), "what was found, from which character on and before which it ends")
}

/// What a kind is called in `pii`, in the report, and in its column of counts.
fn names(kind: Pii) -> (&'static str, &'static str) {
    match kind {
        Pii::Email => ("email", "pii_emails"),
        Pii::Ip | Pii::Ipv6 => ("ip", "pii_ips"),
        Pii::Phone => ("phone", "pii_phones"),
        Pii::Iban => ("iban", "pii_ibans"),
        Pii::Card => ("card", "pii_cards"),
    }
}

impl StageConfig for ScrubPiiConfig {
    const NAME: &'static str = "scrub_pii";
    const VERSION: u32 = 2;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: scrub_pii, from: pages, replacements: {phone: [\"\"]}, counts: true}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        let mut columns: Vec<ColumnSpec> = (self.mode == Mode::Tag).then(|| spans_column().spec()).into_iter().collect();
        columns.extend(self.counted().iter().map(|kind| {
            let column = Column::<Int64Array>::new(names(*kind).1, DataType::Int64, "how many were found");
            column.spec()
        }));
        columns
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        if !(self.emails || self.ips || self.phones || self.ibans || self.cards) {
            return Err(StageError::setting("emails", "nothing to look for: every kind is off"));
        }
        for kind in KINDS {
            if self.replacements.of(kind).is_empty() {
                let name = if kind == Pii::Ipv6 { "ipv6" } else { names(kind).0 };
                let problem = "wanted one text or more, found an empty list";
                return Err(StageError::setting(format!("replacements.{name}"), problem).with_help("`[\"\"]` removes what is found"));
            }
        }
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        Ok(Stage::RowLocal(Box::new(ScrubPii { finder: self.finder(), config: self.clone(), schema })))
    }
}

impl ScrubPiiConfig {
    fn finder(&self) -> Finder {
        Finder {
            emails: self.emails,
            ips: self.ips,
            public_ips_only: self.public_ips_only,
            phones: self.phones,
            ibans: self.ibans,
            cards: self.cards,
        }
    }

    /// The kinds that have columns of counts.
    fn counted(&self) -> Vec<Pii> {
        let on =
            [(Pii::Email, self.emails), (Pii::Ip, self.ips), (Pii::Phone, self.phones), (Pii::Iban, self.ibans), (Pii::Card, self.cards)];
        on.iter().filter(|(_, on)| self.counts && *on).map(|(kind, _)| *kind).collect()
    }
}

struct ScrubPii {
    config: ScrubPiiConfig,
    finder: Finder,
    schema: SchemaRef,
}

type Found = (Pii, Range<usize>);

impl RowLocal for ScrubPii {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let column = document::TEXT.named(self.config.column.as_str());
        let texts = column.try_of(&batch)?;
        let place = batch.schema_ref().index_of(column.name())?;
        let counted = self.config.counted();
        let mut counts: Vec<Int64Builder> = counted.iter().map(|_| Int64Builder::new()).collect();
        let mut spans = Spans::default();
        // The column as far as it is changed; nothing is copied before the first text that is.
        let mut changed: Option<StringBuilder> = None;
        let (mut found, mut scrubbed) = (Vec::new(), String::new());
        for (row, text) in texts.iter().enumerate() {
            found.clear();
            if let Some(text) = text {
                self.finder.find(text, &mut found);
            }
            for (number, kind) in counted.iter().enumerate() {
                let n = found.iter().filter(|(other, _)| names(*other) == names(*kind)).count() as i64;
                counts[number].append_option(text.map(|_| n));
            }
            found.iter().for_each(|(kind, _)| out.count("pii", names(*kind).0, 1));
            if !found.is_empty() {
                out.count("texts_with_pii", "texts", 1);
            }
            if self.config.mode == Mode::Tag {
                spans.push(text, &found);
                continue;
            }
            if !found.is_empty() && changed.is_none() {
                let mut before = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
                texts.iter().take(row).for_each(|text| before.append_option(text));
                changed = Some(before);
            }
            let Some(changed) = &mut changed else { continue };
            match text {
                Some(text) if !found.is_empty() => {
                    self.replace(text, &found, &mut scrubbed);
                    changed.append_value(&scrubbed);
                }
                text => changed.append_option(text),
            }
        }
        let mut columns = batch.columns().to_vec();
        if let Some(mut changed) = changed {
            columns[place] = Arc::new(changed.finish());
        }
        if self.config.mode == Mode::Tag {
            columns.push(Arc::new(spans.finish()?));
        }
        columns.extend(counts.iter_mut().map(|counts| Arc::new(counts.finish()) as ArrayRef));
        out.rows(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl ScrubPii {
    fn replace(&self, text: &str, found: &[Found], out: &mut String) {
        out.clear();
        let mut copied = 0;
        let mut turns = [0; KINDS.len()];
        for (kind, range) in found {
            let replacements = self.config.replacements.of(*kind);
            let turn = &mut turns[*kind as usize];
            out.push_str(&text[copied..range.start]);
            out.push_str(&replacements[*turn % replacements.len()]);
            *turn += 1;
            copied = range.end;
        }
        out.push_str(&text[copied..]);
    }
}

/// The column `pii`.
#[derive(Default)]
struct Spans {
    lengths: Vec<usize>,
    is_list: Vec<bool>,
    kinds: StringBuilder,
    starts: Int64Builder,
    ends: Int64Builder,
}

impl Spans {
    fn push(&mut self, text: Option<&str>, found: &[Found]) {
        self.lengths.push(found.len());
        self.is_list.push(text.is_some());
        let (mut at, mut characters) = (0, 0);
        for (kind, range) in found {
            let mut characters_to = |end: usize| {
                characters += text.map_or(0, |text| text[at..end].chars().count() as i64);
                at = end;
                characters
            };
            self.kinds.append_value(names(*kind).0);
            self.starts.append_value(characters_to(range.start));
            self.ends.append_value(characters_to(range.end));
        }
    }

    fn finish(mut self) -> Result<ListArray, StageError> {
        let spans: Vec<ArrayRef> = vec![Arc::new(self.kinds.finish()), Arc::new(self.starts.finish()), Arc::new(self.ends.finish())];
        let spans = StructArray::try_new(span_fields(), spans, None)?;
        let item = Arc::new(Field::new_list_field(DataType::Struct(span_fields()), false));
        Ok(ListArray::try_new(item, OffsetBuffer::from_lengths(self.lengths), Arc::new(spans), Some(NullBuffer::from(self.is_list)))?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{self, Balance};

    const TEXT: &str =
        "é joe@x.org, 8.8.8.8, a@x.org, b@x.org; tel. +49 30 1234567, DE89370400440532013000, 4111111111111111, 2a00:1450::1";

    fn run(settings: Value, texts: &[Option<&str>]) -> RecordBatch {
        let input = testing::strings(&[("text", texts.to_vec())]);
        testing::run::<ScrubPiiConfig>(settings, &[(Port::FROM, input)]).rows().clone()
    }

    #[test]
    fn it_keeps_the_contract() {
        let input = testing::strings(&[("text", [Some(TEXT), None, Some("none"), Some(""), Some("x joe@x.org")].repeat(5))]);
        for settings in [json!({}), json!({"mode": "tag", "counts": true}), json!({"counts": true, "phones": false})] {
            testing::check_contract::<ScrubPiiConfig>(settings.clone(), &input, Balance::KeptOrDropped);
            testing::check_contract::<ScrubPiiConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
        }
    }

    #[test]
    fn what_is_found_is_replaced_in_turn() {
        let rows = run(json!({"counts": true}), &[Some("none"), Some(TEXT), None, Some("joe@x.org")]);
        let scrubbed = "é email@example.com, 22.214.171.124, firstname.lastname@example.org, email@example.com; tel. [PHONE], [IBAN], [CARD], 2001:db8::1";
        assert_eq!(testing::column(&rows, "text"), ["none", scrubbed, "", "email@example.com"]);
        assert!(rows.column(0).is_null(2) && rows.column(1).is_null(2));
        for (column, counts) in [("pii_emails", ["0", "3", "", "1"]), ("pii_ips", ["0", "2", "", "0"]), ("pii_cards", ["0", "1", "", "0"])]
        {
            assert_eq!(testing::column(&rows, column), counts, "{column}");
        }
        let rows = run(
            json!({"replacements": {"email": ["<1>", ""]}, "phones": false, "ibans": false, "cards": false, "ips": false}),
            &[Some(TEXT)],
        );
        let text = TEXT.replace("joe@x.org", "<1>").replace("a@x.org", "").replace("b@x.org", "<1>");
        assert_eq!(testing::column(&rows, "text"), [text]);
    }

    #[test]
    fn what_is_found_is_marked_by_characters() {
        let rows = run(json!({"mode": "tag", "counts": true, "ips": false, "ibans": false, "cards": false}), &[Some(TEXT), None, Some("")]);
        assert_eq!(testing::column(&rows, "text"), [TEXT, "", ""]);
        let spans = "[{kind: email, start: 2, end: 11}, {kind: email, start: 22, end: 29}, {kind: email, start: 31, end: 38}, \
                     {kind: phone, start: 45, end: 59}]";
        assert_eq!(testing::column(&rows, "pii"), [spans, "", "[]"]);
        let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["text", "pii", "pii_emails", "pii_phones"]);
        let characters: Vec<char> = TEXT.chars().collect();
        assert_eq!(characters[45..59].iter().collect::<String>(), "+49 30 1234567");
    }

    #[test]
    fn a_column_without_findings_is_handed_on() {
        let input = testing::strings(&[("text", vec![Some("a"), Some("1.5 million")])]);
        let got = testing::run::<ScrubPiiConfig>(json!({}), &[(Port::FROM, input.clone())]);
        let data = |batch: &RecordBatch| document::TEXT.of(batch).value_data().as_ptr();
        assert_eq!(data(got.rows()), data(&input));
    }

    #[test]
    fn settings_that_do_nothing_are_refused() {
        let refusal = |settings| testing::refusal::<ScrubPiiConfig>(settings, &[(Port::FROM, testing::sample())]);
        let off = json!({"emails": false, "ips": false, "phones": false, "ibans": false, "cards": false});
        assert_eq!(refusal(off), "emails: nothing to look for: every kind is off");
        assert_eq!(refusal(json!({"replacements": {"card": []}})), "replacements.card: wanted one text or more, found an empty list");
    }
}
