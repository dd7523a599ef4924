//! `normalize_text`: brings texts to one of Unicode's normal forms, and puts right what was misread or mangled on the way.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, document};
use serde::{Deserialize, Serialize};

use super::forms::{Form, Normalizer};
use super::repair::{self, Buffers, Repairer, Repairs};
use crate::units::ColumnName;
use crate::{BuildContext, Emit, Inputs, Kind, Port, RowLocal, Stage, StageConfig, StageError};

/// Brings a column of texts to one of Unicode's normal forms or, with `mode: repair`, puts right what ftfy puts right.
///
/// `mode: repair` gives the text that `fix_text` of ftfy 6.1.1 gives, which SlimPajama was made with, at many times its speed: mojibake (text in
/// UTF-8 that was read as another character set: `schÃ¶n`) and what else is listed at `except`, line by line and until nothing changes any
/// more, and then NFC. It takes a line that is nested more than 32 times (`&amp;amp;amp;…`) only so far. As in ftfy, entities are left alone from the
/// first line on that has a `<`: the text is HTML then.
///
/// No row is dropped. A null stays null. The report counts the texts that were changed, by what was done to them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormalizeTextConfig {
    /// The column that holds the text; it is changed in place.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// What is done to each text.
    #[serde(default)]
    pub mode: Mode,
    /// What `mode: repair` leaves as it is.
    #[serde(default)]
    pub except: Vec<Repair>,
    /// Adds a column `changed`: what was done to each text, as a list of the names that `except` takes and of `nfc` and its like; empty where
    /// the text was left as it is.
    #[serde(default)]
    pub changed: bool,
}

/// What is done to each text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Mode {
    /// Unicode's normal form C: letters and their accents in one character, where there is one. Looks the same, and nothing is lost.
    #[default]
    Nfc,
    /// Normal form D: letters and their accents in characters of their own.
    Nfd,
    /// Normal form KC: C, and characters of one meaning are one, though they look different: `ﬁ` is `fi`, `²` is `2`.
    Nfkc,
    /// Normal form KD: D of what KC has.
    Nfkd,
    /// What ftfy does, and normal form C.
    Repair,
}

/// What `mode: repair` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Repair {
    /// HTML's entities: `&eacute;` and `&#233;` become `é`.
    HtmlEntities,
    /// Text in UTF-8 that was read as Latin-1, Windows-1250 to -1254, ISO 8859-2, Mac Roman or code page 437, once or several times, and in parts.
    /// UTF-16 surrogates written as UTF-8 are part of it.
    Mojibake,
    /// Control characters U+0080 to U+009F become what Windows-1252 has in their place.
    C1Controls,
    /// Latin letters in one character for reasons of printing: `ﬁ` becomes `fi`.
    Ligatures,
    /// Full-width Latin and half-width katakana and hangul become those of common width, and U+3000 a space.
    CharacterWidth,
    /// `“ ” ‘ ’` become `"` and `'`.
    CurlyQuotes,
    /// `\r\n`, `\r`, U+2028, U+2029 and U+0085 become `\n`.
    LineBreaks,
    /// What tells terminals of colours and places is removed.
    TerminalEscapes,
    /// ASCII control characters but tabs and line breaks, deprecated control characters of Arabic, U+FEFF, U+FFF9 to U+FFFC are removed.
    ControlCharacters,
}

impl Repair {
    const ALL: [(Self, Repairs, &'static str); 9] = [
        (Self::HtmlEntities, repair::ENTITIES, "html_entities"),
        (Self::Mojibake, repair::MOJIBAKE, "mojibake"),
        (Self::C1Controls, repair::C1_CONTROLS, "c1_controls"),
        (Self::Ligatures, repair::LIGATURES, "ligatures"),
        (Self::CharacterWidth, repair::WIDTHS, "character_width"),
        (Self::CurlyQuotes, repair::QUOTES, "curly_quotes"),
        (Self::LineBreaks, repair::BREAKS, "line_breaks"),
        (Self::TerminalEscapes, repair::ESCAPES, "terminal_escapes"),
        (Self::ControlCharacters, repair::CONTROLS, "control_characters"),
    ];
}

fn default_column() -> ColumnName {
    ColumnName::new("text")
}

fn changed_column() -> Column<ListArray> {
    let item = Field::new_list_field(DataType::Utf8, true);
    Column::new("changed", DataType::List(Arc::new(item)), "what was done to the text")
}

impl StageConfig for NormalizeTextConfig {
    const NAME: &'static str = "normalize_text";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: normalize_text, from: pages, mode: repair, except: [curly_quotes], changed: true}";

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        self.changed.then(|| changed_column().spec()).into_iter().collect()
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let form = match self.mode {
            Mode::Nfc => Some((Form::Nfc, "nfc")),
            Mode::Nfd => Some((Form::Nfd, "nfd")),
            Mode::Nfkc => Some((Form::Nfkc, "nfkc")),
            Mode::Nfkd => Some((Form::Nfkd, "nfkd")),
            Mode::Repair => None,
        };
        if form.is_some() && !self.except.is_empty() {
            let problem = "only `mode: repair` has repairs to leave out, found another mode";
            return Err(StageError::setting("except", problem).with_help("write `mode: repair`, or remove `except`"));
        }
        let work = if let Some((form, name)) = form {
            Work::Form(Normalizer::new(form), name)
        } else {
            let on = Repair::ALL.iter().filter(|(repair, ..)| !self.except.contains(repair));
            Work::Repair(Box::new(Repairer::new(on.fold(repair::COMPOSED, |on, (_, bit, _)| on | bit))))
        };
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        Ok(Stage::RowLocal(Box::new(NormalizeText { config: self.clone(), work, schema })))
    }
}

struct NormalizeText {
    config: NormalizeTextConfig,
    work: Work,
    schema: SchemaRef,
}

enum Work {
    Form(Normalizer, &'static str),
    Repair(Box<Repairer>),
}

impl RowLocal for NormalizeText {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let column = document::TEXT.named(self.config.column.as_str());
        let texts = column.try_of(&batch)?;
        let place = batch.schema_ref().index_of(column.name())?;
        let mut buffers = Buffers::default();
        // The column as far as it is changed; nothing is copied before the first text that is.
        let mut changed: Option<StringBuilder> = None;
        let mut lists = self.config.changed.then(|| ListBuilder::new(StringBuilder::new()));
        for (row, text) in texts.iter().enumerate() {
            let (new, did) = text.map_or((None, 0), |text| self.normalize(text, &mut buffers));
            if new.is_some() && changed.is_none() {
                let mut before = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
                texts.iter().take(row).for_each(|text| before.append_option(text));
                changed = Some(before);
            }
            if let Some(changed) = &mut changed {
                changed.append_option(new.as_deref().or(text));
            }
            for name in self.names(did) {
                out.count("normalized", name, 1);
            }
            if let Some(lists) = &mut lists {
                self.names(did).for_each(|name| lists.values().append_value(name));
                lists.append(text.is_some());
            }
        }
        let mut columns = batch.columns().to_vec();
        if let Some(mut changed) = changed {
            columns[place] = Arc::new(changed.finish()) as ArrayRef;
        }
        if let Some(mut lists) = lists {
            columns.push(Arc::new(lists.finish()));
        }
        out.rows(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl NormalizeText {
    /// The text as it should be, `None` if it is, and what that took.
    fn normalize(&self, text: &str, buffers: &mut Buffers) -> (Option<String>, Repairs) {
        match &self.work {
            Work::Form(form, _) => {
                let new = form.normalize(text);
                let did = if new.is_some() { repair::COMPOSED } else { 0 };
                (new, did)
            }
            Work::Repair(repairer) => {
                let (new, did) = repairer.repair(text, buffers);
                match new {
                    std::borrow::Cow::Borrowed(_) => (None, 0),
                    std::borrow::Cow::Owned(new) => (Some(new), did),
                }
            }
        }
    }

    fn names(&self, did: Repairs) -> impl Iterator<Item = &'static str> {
        let form = match self.work {
            Work::Form(_, name) => name,
            Work::Repair(_) => "nfc",
        };
        let repairs = Repair::ALL.iter().filter(move |(_, bit, _)| did & bit != 0).map(|(.., name)| *name);
        repairs.chain((did & repair::COMPOSED != 0).then_some(form))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Balance};

    fn run(settings: serde_json::Value, texts: &[Option<&str>]) -> RecordBatch {
        let input = testing::strings(&[("text", texts.to_vec())]);
        testing::run::<NormalizeTextConfig>(settings, &[(Port::FROM, input)]).rows().clone()
    }

    #[test]
    fn it_keeps_the_contract() {
        for mode in ["nfc", "nfd", "nfkc", "nfkd", "repair"] {
            testing::check_contract::<NormalizeTextConfig>(
                json!({"mode": mode, "changed": true}),
                &testing::sample(),
                Balance::KeptOrDropped,
            );
        }
    }

    #[test]
    fn texts_are_changed_in_place_and_it_is_said_how() {
        let texts = [Some("plain"), None, Some("schÃ¶n “x”"), Some(""), Some("e\u{301}")];
        let rows = run(json!({"mode": "repair", "changed": true}), &texts);
        assert_eq!(testing::column(&rows, "text"), ["plain", "", "schön \"x\"", "", "é"]);
        assert_eq!(testing::column(&rows, "changed"), ["[]", "", "[mojibake, curly_quotes]", "[]", "[nfc]"]);
        assert!(rows.column(0).is_null(1) && rows.column(1).is_null(1));
        let rows = run(json!({"mode": "repair", "except": ["curly_quotes"]}), &texts);
        assert_eq!(testing::column(&rows, "text"), ["plain", "", "schön “x”", "", "é"]);
        assert_eq!(rows.num_columns(), 1);
        let rows = run(json!({"changed": true}), &texts);
        assert_eq!(testing::column(&rows, "text"), ["plain", "", "schÃ¶n “x”", "", "é"]);
        let rows = run(json!({"mode": "nfkc", "changed": true}), &[Some("ﬁ²"), Some("fi2")]);
        assert_eq!(
            (testing::column(&rows, "text"), testing::column(&rows, "changed")),
            (vec!["fi2".into(); 2], vec!["[nfkc]".into(), "[]".into()])
        );
    }

    #[test]
    fn a_column_that_needs_nothing_is_handed_on() {
        let input = testing::strings(&[("text", vec![Some("a"), Some("Größe")])]);
        let got = testing::run::<NormalizeTextConfig>(json!({"mode": "repair"}), &[(Port::FROM, input.clone())]);
        let data = |batch: &RecordBatch| batch.column(0).as_any().downcast_ref::<StringArray>().map(|texts| texts.value_data().as_ptr());
        assert_eq!(data(got.rows()), data(&input));
    }

    #[test]
    fn every_repair_has_its_name() {
        for (repair, _, name) in Repair::ALL {
            assert_eq!(serde_json::to_value(repair).unwrap(), name);
        }
    }

    #[test]
    fn exceptions_are_of_repairs() {
        let error = testing::refusal::<NormalizeTextConfig>(json!({"except": ["ligatures"]}), &[(Port::FROM, testing::sample())]);
        assert_eq!(error, "except: only `mode: repair` has repairs to leave out, found another mode");
    }
}
