//! `extract_text`: makes documents of web pages.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use schemars::JsonSchema;
use schemas::{Column, ColumnSpec, SchemaError, document};
use serde::{Deserialize, Serialize};
use url::Url;

use super::page::{Favor, Page, PageOptions, read_page};
use crate::units::{Chars, ColumnName};
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, Port, RowLocal, Stage, StageConfig, StageError, Verdict};

/// Makes documents of web pages: their content without navigation, advertisements and footers.
///
/// The page (by default the column `html`, as `read_warc` gives it) is replaced by `text`, `title` and `lang`, what the page says of its language
/// (`en-US`). Text keeps paragraphs, headings, `- ` and `1. ` before the items of lists, `|` between the cells of tables, and code as it stands.
///
/// What is content is told from what elements are called, from how much of their text is links, and from which of them holds the paragraphs.
/// Any page is read, however broken, in time that grows with its length.
///
/// With a column `mime`, rows of plain text (`text/plain` and the like) pass as they are, and what is neither a page nor plain text (scripts, style sheets, JSON) is
/// dropped; without one, each row is taken for a page. Reasons: `no_html` (the column is null: a picture, a PDF), `not_a_page`, `too_large`
/// with its bytes and `max_bytes`, `too_many_elements`, `too_short` with its characters and `min_chars`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractTextConfig {
    /// The column that holds the page.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// Whether to leave out more (`precision`: what may not be content) or less (`recall`: only what is surely not).
    #[serde(default)]
    pub favor: Favor,
    /// Whether to keep tables, but for those that only arrange a page, which are always kept.
    #[serde(default = "yes")]
    pub tables: bool,
    /// Whether to keep blocks of code.
    #[serde(default = "yes")]
    pub code: bool,
    /// Links of the content: `count` (column `n_links`) or `list` (column `links`, each with `url` and `text`). Addresses in a list are made absolute, by the
    /// page's own word or the column `url`, where there is one.
    #[serde(default)]
    pub links: Links,
    /// Fewest characters a text may have.
    #[serde(default = "one_char")]
    pub min_chars: Chars,
    /// Longest page in bytes.
    #[serde(default = "sixteen_mib")]
    pub max_bytes: u64,
    /// Whether the page stays beside its text.
    #[serde(default)]
    pub keep_html: bool,
}

/// What becomes of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// They are text like any other.
    #[default]
    None,
    /// They are counted.
    Count,
    /// They are listed.
    List,
}

fn default_column() -> ColumnName {
    ColumnName::new("html")
}

fn yes() -> bool {
    true
}

fn one_char() -> Chars {
    Chars::new(1)
}

fn sixteen_mib() -> u64 {
    16 << 20
}

/// Elements and runs of text of one page. The largest page of Python's documentation has 270,000.
const MAX_ELEMENTS: usize = 2_000_000;

const TITLE: Column<StringArray> = Column::new("title", DataType::Utf8, "title of the page, else its first heading");
const LANG: Column<StringArray> = Column::new("lang", DataType::Utf8, "what the page says of its language");
const N_LINKS: Column<Int64Array> = Column::new("n_links", DataType::Int64, "links within the text");
const LINKS: &str = "links";
const MIME: Column<StringArray> = Column::new("mime", DataType::Utf8, "media type as declared");
const URL: Column<StringArray> = Column::new("url", DataType::Utf8, "address of the page");

fn link_fields() -> Fields {
    Fields::from(vec![Field::new("url", DataType::Utf8, true), Field::new("text", DataType::Utf8, true)])
}

fn links_spec() -> ColumnSpec {
    let item = Field::new_list_field(DataType::Struct(link_fields()), true);
    ColumnSpec {
        name: LINKS.to_owned(),
        data_type: DataType::List(Arc::new(item)),
        nullable: true,
        description: "links within the text, in order".to_owned(),
    }
}

impl StageConfig for ExtractTextConfig {
    const NAME: &'static str = "extract_text";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str = "{use: extract_text, from: pages, column: text, favor: precision, min_chars: 20}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn adds(&self) -> Vec<ColumnSpec> {
        let mut added = vec![document::TEXT.spec(), TITLE.spec(), LANG.spec()];
        match self.links {
            Links::None => {}
            Links::Count => added.push(N_LINKS.spec()),
            Links::List => added.push(links_spec()),
        }
        added
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        let mut fields: Vec<Arc<Field>> = self.kept(input).map(|(_, field)| Arc::clone(field)).collect();
        for column in self.adds() {
            if fields.iter().any(|field| *field.name() == column.name) {
                return Err(SchemaError::Clash { column: column.name }.into());
            }
            fields.push(column.field().into());
        }
        Ok(Outputs::new(Schema::new_with_metadata(fields, input.metadata().clone()).into()).with_dropped(input)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        if self.max_bytes == 0 {
            return Err(StageError::setting("max_bytes", "wanted at least one byte, found 0"));
        }
        let schema = cx.outputs()?.get(&Port::OUT).cloned();
        let schema = schema.ok_or_else(|| StageError::Internal("a stage without a main output".to_owned()))?;
        // Tags stand behind the stage's own columns, and are put there by `Emit`.
        let own = self.kept(cx.input()?).count() + self.adds().len();
        let schema = Schema::new_with_metadata(schema.fields().iter().take(own).cloned().collect::<Vec<_>>(), schema.metadata().clone());
        let options = PageOptions {
            favor: self.favor,
            tables: self.tables,
            code: self.code,
            links: self.links == Links::List,
            max_elements: MAX_ELEMENTS,
        };
        let chars = Measure::new("chars", "characters of the text").at_least("min_chars", self.min_chars.get() as f64);
        let bytes = Measure::new("html_bytes", "bytes of the page").at_most("max_bytes", self.max_bytes as f64);
        Ok(Stage::RowLocal(Box::new(ExtractText { config: self.clone(), options, schema: schema.into(), chars, bytes })))
    }
}

impl ExtractTextConfig {
    /// The columns of the input that leave, and their places.
    fn kept<'s>(&self, input: &'s Schema) -> impl Iterator<Item = (usize, &'s Arc<Field>)> {
        let gone = (!self.keep_html).then(|| self.column.as_str().to_owned());
        input.fields().iter().enumerate().filter(move |(_, field)| gone.as_ref().is_none_or(|gone| field.name() != gone))
    }
}

struct ExtractText {
    config: ExtractTextConfig,
    options: PageOptions,
    schema: SchemaRef,
    chars: Measure,
    bytes: Measure,
}

/// What a row is by its media type.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Page,
    Plain,
    Other,
}

fn form(mime: Option<&str>) -> Form {
    let Some(mime) = mime else { return Form::Page };
    let mime = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match mime.as_str() {
        "text/plain" | "text/markdown" | "text/x-rst" => Form::Plain,
        "text/css" | "text/javascript" | "text/csv" | "text/calendar" | "text/xml" => Form::Other,
        // What is not known, or not said, is looked at.
        "" | "application/xhtml+xml" | "application/vnd.wap.xhtml+xml" | "application/octet-stream" | "unknown/unknown" | "no-type" => {
            Form::Page
        }
        other if other.starts_with("text/") => Form::Page,
        _ => Form::Other,
    }
}

impl RowLocal for ExtractText {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let pages = document::TEXT.named(self.config.column.as_str());
        let pages = pages.try_of(&batch)?;
        // Neither has to be there, nor to be of this type.
        let (mimes, urls) = (MIME.try_of(&batch).ok(), URL.try_of(&batch).ok());
        let at = |column: Option<&StringArray>, row: usize| {
            column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned())
        };
        let mut rows = Rows::default();
        let mut verdicts = Vec::with_capacity(batch.num_rows());
        for (row, html) in pages.iter().enumerate() {
            let read = self.read(html, at(mimes, row).as_deref(), out);
            let base = at(urls, row);
            match read {
                Ok(page) => {
                    rows.push(Some(&page), base.as_deref(), self.config.links);
                    verdicts.push(Verdict::Keep);
                }
                Err(dropped) => {
                    let (why, page) = *dropped;
                    rows.push(page.as_ref(), base.as_deref(), self.config.links);
                    verdicts.push(Verdict::Drop(why));
                }
            }
        }
        let mut columns: Vec<ArrayRef> = self.config.kept(batch.schema_ref()).map(|(at, _)| Arc::clone(batch.column(at))).collect();
        columns.extend(rows.finish(self.config.links));
        let leave = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        out.split_changed(&batch, &leave, verdicts)
    }
}

impl ExtractText {
    /// The content of a row; else why it has none, with what was found.
    fn read(&self, html: Option<&str>, mime: Option<&str>, out: &mut Emit) -> Result<Page, Box<(Dropped, Option<Page>)>> {
        let plainly = |reason| Box::new((Dropped { reason, value: None, threshold: None, duplicate_of: None }, None));
        let html = html.ok_or_else(|| plainly("no_html"))?;
        let form = form(mime);
        if form == Form::Other {
            return Err(plainly("not_a_page"));
        }
        let (bytes, most) = (html.len() as f64, self.config.max_bytes as f64);
        if html.len() as u64 > self.config.max_bytes {
            out.observe(&self.bytes, bytes, false);
            return Err(Box::new((Dropped::measured("too_large", bytes, most), None)));
        }
        let page = if form == Form::Plain {
            Page { text: html.trim().to_owned(), ..Page::default() }
        } else if let Ok(page) = read_page(html, &self.options) {
            page
        } else {
            out.observe(&self.bytes, bytes, false);
            let max = MAX_ELEMENTS as f64;
            return Err(Box::new((Dropped::measured("too_many_elements", max + 1.0, max), None)));
        };
        let (chars, min) = (Chars::of(&page.text), self.config.min_chars);
        let is_kept = chars >= min;
        out.observe(&self.bytes, bytes, is_kept);
        out.observe(&self.chars, chars.get() as f64, is_kept);
        let why = Dropped::measured("too_short", chars.get() as f64, min.get() as f64);
        if is_kept { Ok(page) } else { Err(Box::new((why, Some(page)))) }
    }
}

/// The columns that are added.
struct Rows {
    text: StringBuilder,
    title: StringBuilder,
    lang: StringBuilder,
    n_links: Vec<Option<i64>>,
    links: ListBuilder<StructBuilder>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            text: StringBuilder::new(),
            title: StringBuilder::new(),
            lang: StringBuilder::new(),
            n_links: Vec::new(),
            links: ListBuilder::new(StructBuilder::from_fields(link_fields(), 0)),
        }
    }
}

impl Rows {
    /// A row, null if there is nothing to say. `base`: what links are relative to, unless the page says that itself.
    fn push(&mut self, page: Option<&Page>, base: Option<&str>, links: Links) {
        self.text.append_option(page.map(|page| page.text.as_str()));
        self.title.append_option(page.map(|page| page.title.as_str()).filter(|title| !title.is_empty()));
        self.lang.append_option(page.and_then(|page| page.lang.as_deref()));
        match links {
            Links::None => {}
            Links::Count => self.n_links.push(page.and_then(|page| i64::try_from(page.n_links).ok())),
            Links::List => {
                let base = base.and_then(|base| Url::parse(base).ok());
                let own = page.and_then(|page| page.base.as_deref());
                let base = match (own, &base) {
                    (Some(own), Some(base)) => base.join(own).ok(),
                    (Some(own), None) => Url::parse(own).ok(),
                    (None, _) => None,
                }
                .or(base);
                for link in page.map_or(&[][..], |page| &page.links) {
                    let url = base.as_ref().and_then(|base| base.join(&link.url).ok()).map_or_else(|| link.url.clone(), String::from);
                    let entry = self.links.values();
                    for (at, text) in [&url, &link.text].into_iter().enumerate() {
                        if let Some(field) = entry.field_builder::<StringBuilder>(at) {
                            field.append_value(text);
                        }
                    }
                    entry.append(true);
                }
                self.links.append(page.is_some());
            }
        }
    }

    fn finish(mut self, links: Links) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.text.finish()), Arc::new(self.title.finish()), Arc::new(self.lang.finish())];
        match links {
            Links::None => {}
            Links::Count => columns.push(Arc::new(Int64Array::from(self.n_links))),
            Links::List => columns.push(Arc::new(self.links.finish())),
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use schemas::dropped;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Balance};

    const PAGE: &str = "<html lang=en><title>A  title</title><body><nav><a href=/>Home</a></nav><article><h1>Head</h1>\
        <p>Some words of <a href=\"b?c=1\">a paragraph</a> that say enough to be the content of this page.</p></article></body></html>";

    fn pages() -> RecordBatch {
        testing::strings(&[
            ("id", ["a", "b", "c", "d", "e", "f"].map(Some).to_vec()),
            ("url", vec![Some("https://x.org/dir/page"), None, Some("no url"), None, None, None]),
            ("mime", ["text/html", "text/plain", "text/html", "image/png", "application/json", "text/html"].map(Some).to_vec()),
            ("html", vec![Some(PAGE), Some(" 1 < 2 <p> \n"), Some("<p>short"), None, Some("{}"), Some(PAGE)]),
        ])
    }

    #[test]
    fn it_keeps_the_contract() {
        for settings in [json!({"min_chars": 6}), json!({"links": "list", "keep_html": true}), json!({"links": "count", "favor": "recall"})]
        {
            testing::check_contract::<ExtractTextConfig>(settings, &pages(), Balance::KeptOrDropped);
        }
        testing::check_contract::<ExtractTextConfig>(json!({"column": "text"}), &testing::sample(), Balance::KeptOrDropped);
    }

    #[test]
    fn a_page_becomes_a_document_and_plain_text_stays() {
        let got = testing::run::<ExtractTextConfig>(json!({"links": "list", "min_chars": 6}), &[(Port::FROM, pages())]);
        let rows = got.rows();
        let names: Vec<&str> = rows.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["id", "url", "mime", "text", "title", "lang", "links"]);
        assert_eq!(testing::column(rows, "id"), ["a", "b", "f"]);
        let text = "Head\n\nSome words of a paragraph that say enough to be the content of this page.";
        assert_eq!(testing::column(rows, "text"), [text, "1 < 2 <p>", text]);
        assert_eq!(testing::column(rows, "title"), ["A title", "", "A title"]);
        assert_eq!(testing::column(rows, "lang"), ["en", "", "en"]);
        assert_eq!(
            testing::column(rows, "links"),
            ["[{url: https://x.org/dir/b?c=1, text: a paragraph}]", "[]", "[{url: b?c=1, text: a paragraph}]"]
        );
        let dropped = got.dropped();
        assert_eq!(testing::column(dropped, "id"), ["c", "d", "e"]);
        assert_eq!(testing::column(dropped, dropped::REASON.name()), ["too_short", "no_html", "not_a_page"]);
        assert_eq!(dropped::VALUE.of(dropped).iter().collect::<Vec<_>>(), [Some(5.0), None, None]);
        assert_eq!(dropped::THRESHOLD.of(dropped).iter().collect::<Vec<_>>(), [Some(6.0), None, None]);
    }

    #[test]
    fn a_page_at_a_bound_is_kept() {
        let bytes = PAGE.len();
        let count = |settings| testing::run::<ExtractTextConfig>(settings, &[(Port::FROM, pages())]).drop_reasons;
        assert!(!count(json!({"max_bytes": bytes})).contains_key("too_large"));
        assert_eq!(count(json!({"max_bytes": bytes - 1}))["too_large"], 2);
        assert!(!count(json!({"min_chars": 5})).contains_key("too_short"));
        assert_eq!(count(json!({"min_chars": 6}))["too_short"], 1);
        let many = "<i>".repeat(MAX_ELEMENTS + 1);
        let input = testing::strings(&[("html", vec![Some(many.as_str())])]);
        assert_eq!(testing::run::<ExtractTextConfig>(json!({}), &[(Port::FROM, input)]).drop_reasons["too_many_elements"], 1);
    }

    #[test]
    fn columns_that_are_there_already_are_refused() {
        let input = testing::strings(&[("text", vec![]), ("html", vec![]), ("title", vec![])]);
        let error = testing::refusal::<ExtractTextConfig>(json!({}), &[(Port::FROM, input.clone())]);
        assert_eq!(error, "adds column `text`, which the input already has");
        let error = testing::refusal::<ExtractTextConfig>(json!({"column": "text"}), &[(Port::FROM, input.clone())]);
        assert_eq!(error, "adds column `title`, which the input already has");
        assert_eq!(
            testing::refusal::<ExtractTextConfig>(json!({"max_bytes": 0}), &[(Port::FROM, pages())]),
            "max_bytes: wanted at least one byte, found 0"
        );
    }
}
