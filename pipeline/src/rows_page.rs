//! Rows as a page: one file that needs nothing but itself, to look at data with a browser.
//!
//! How a value is drawn follows from what it is, not from the name of its column: see [`Form`]. Rows that are pictures stand side by side, with
//! the boxes and masks of what is in them: see [`crate::gallery`].

use std::fmt::Write as _;

use schemas::{document, dropped};

use crate::cells::{Cell, ImageFormat, MASK, MAX_IMAGE_BYTES};
use crate::gallery::bytes::push_base64;
use crate::gallery::{self, Drawn, Picture, Room};
use crate::report::html::{begin, esc};
use crate::rows::{ColumnInfo, Row};
use crate::show::{self, count};

/// Bytes of images, as they stand in files, that one page holds.
const IMAGES_BYTES: usize = 32 << 20;

/// Bytes of all else; after that no row is taken.
const PAGE_BYTES: usize = 48 << 20;

/// Longer texts are folded: to this many characters, or lines.
const FOLD_CHARS: usize = 700;
const FOLD_LINES: usize = 12;
/// What is seen of a folded text.
const PREVIEW_CHARS: usize = 420;
const PREVIEW_LINES: usize = 7;

/// Values up to this stand side by side.
const SHORT_CHARS: usize = 60;

/// Longer lists of short items are folded, to the first so many.
const FOLD_ITEMS: usize = 32;
const PREVIEW_ITEMS: usize = 16;

/// What is shown of bytes that are no image.
const FIRST_BYTES: usize = 24;

/// Longer addresses are text.
const MAX_LINK: usize = 2000;

const MAX_COLUMNS: usize = 400;

/// A page under way.
#[derive(Debug)]
pub(crate) struct Page {
    out: String,
    /// What of images it may yet hold, and holds.
    images: Room,
    /// Rows of the section that are pictures.
    cards: String,
    drawn: Drawn,
    rows: usize,
}

/// What is folded under a row.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) title: String,
    pub(crate) entries: Vec<Folded>,
}

/// A conversation in it.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) heading: String,
    pub(crate) note: Option<String>,
    pub(crate) chat: Cell,
}

/// What the rows of a section are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kept,
    Dropped,
    Rejected,
}

impl Kind {
    fn of<V>(row: &Row<V>) -> Self {
        let has = |name: &str| row.values.iter().any(|(column, _)| column == name);
        if has(dropped::REASON.name()) {
            Self::Dropped
        } else if row.values.len() == REJECTED.len() && REJECTED.iter().all(|name| has(name)) {
            Self::Rejected
        } else {
            Self::Kept
        }
    }
}

/// The columns of what a run rejected.
const REJECTED: [&str; 5] = ["id", "file", "offset", "reason", "detail"];

/// In which way a value is drawn.
enum Form<'c> {
    Null,
    Omitted,
    Plain(&'c str),
    Link(&'c str),
    Text {
        text: &'c str,
        chars: usize,
    },
    Bytes {
        first: &'c [u8],
        len: usize,
    },
    Image {
        format: ImageFormat,
        bytes: &'c [u8],
        len: usize,
        path: Option<&'c str>,
    },
    Conversation {
        turns: Vec<Turn<'c>>,
        len: usize,
    },
    /// A mask: its height and width.
    Mask([&'c str; 2]),
    /// Items that stand in one line.
    Inline {
        items: &'c [Cell],
        len: usize,
    },
    Items {
        items: &'c [Cell],
        len: usize,
    },
    Fields(&'c [(String, Cell)]),
}

/// What one side of a conversation says.
struct Turn<'c> {
    role: &'c str,
    content: &'c Cell,
    /// Its other fields.
    rest: Vec<&'c (String, Cell)>,
}

impl<'c> Form<'c> {
    fn of(cell: &'c Cell) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Omitted => Self::Omitted,
            Cell::Plain(text) => Self::Plain(text),
            Cell::Text { text, chars } if is_link(text) && text.len() == *chars => Self::Link(text),
            Cell::Text { text, chars } => Self::Text { text, chars: *chars },
            Cell::Bytes { first, len } => Self::Bytes { first, len: *len },
            Cell::Image { format, bytes, len } => Self::Image { format: *format, bytes, len: *len, path: None },
            Cell::List { items, len } => match conversation(items) {
                Some(turns) => Self::Conversation { turns, len: *len },
                None if items.iter().all(is_inline) => Self::Inline { items, len: *len },
                None => Self::Items { items, len: *len },
            },
            Cell::Struct(fields) => match image_of(cell) {
                Some((format, bytes, len, path)) if fields.len() == 2 => Self::Image { format, bytes, len, path },
                _ if fields.iter().map(|(name, _)| name.as_str()).eq(MASK) => mask_form(cell).unwrap_or(Self::Fields(fields)),
                _ => Self::Fields(fields),
            },
        }
    }

    /// Whether it stands beside other short values.
    fn is_short(&self) -> bool {
        match self {
            Self::Null | Self::Omitted | Self::Plain(_) | Self::Bytes { .. } | Self::Mask(_) => true,
            Self::Link(text) => text.len() <= 2 * SHORT_CHARS,
            Self::Text { text, chars } => *chars <= SHORT_CHARS && !text.contains('\n'),
            Self::Inline { len, .. } => *len <= 12,
            Self::Image { .. } | Self::Conversation { .. } | Self::Items { .. } | Self::Fields(_) => false,
        }
    }
}

/// A mask as COCO writes it; how many pixels it covers is told where it is read.
fn mask_form(cell: &Cell) -> Option<Form<'_>> {
    let Cell::List { items, len: 2 } = cell.field(MASK[0])? else { return None };
    let Cell::Text { .. } = cell.field(MASK[1])? else { return None };
    let [height, width] = items.as_slice() else { return None };
    Some(Form::Mask([height.as_text()?, width.as_text()?]))
}

/// An image as Hugging Face stores it: `struct<bytes, path>`.
fn image_of(cell: &Cell) -> Option<(ImageFormat, &[u8], usize, Option<&str>)> {
    let path = cell.field("path")?;
    match cell.field("bytes")? {
        Cell::Image { format, bytes, len } => Some((*format, bytes, *len, path.as_text())),
        _ => None,
    }
}

impl<'c> Turn<'c> {
    /// A message says who speaks (`role` or `from`) and what (`content` or `value`).
    fn of(item: &'c Cell) -> Option<Self> {
        let Cell::Struct(fields) = item else { return None };
        let names = if item.field("role").is_some() { ["role", "content"] } else { ["from", "value"] };
        let [role, content] = names.map(|name| item.field(name));
        let rest = fields.iter().filter(|(name, value)| !names.contains(&name.as_str()) && *value != Cell::Null);
        Some(Self { role: role?.as_text()?, content: content?, rest: rest.collect() })
    }
}

/// The messages of a list of nothing else.
fn conversation(items: &[Cell]) -> Option<Vec<Turn<'_>>> {
    if items.is_empty() { None } else { items.iter().map(Turn::of).collect() }
}

fn is_inline(cell: &Cell) -> bool {
    matches!(Form::of(cell), Form::Null | Form::Plain(_))
        || matches!(cell, Cell::Text { text, chars } if *chars <= SHORT_CHARS && !text.contains('\n'))
}

/// Whether a text is an address of the web and nothing else. Other schemes can run scripts or call programs.
fn is_link(text: &str) -> bool {
    let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    (has_scheme("https://") || has_scheme("http://"))
        && text.len() <= MAX_LINK
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
}

fn one_or_many(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

impl Page {
    /// A page about `title`: a file, a stage's folder, an output.
    pub(crate) fn new(title: &str) -> Self {
        let title = show::visible_line(title);
        let mut out = begin(&format!("{title} · rows"), &[include_str!("rows_page.css"), gallery::STYLE]);
        let _ = write!(
            out,
            "<header class=\"top\"><div class=\"kicker\"><span>Rows</span></div>\n<h1><bdi>{}</bdi></h1></header>\n<main>\n",
            esc(&title)
        );
        Self { out, images: Room { left: IMAGES_BYTES, written: 0 }, cards: String::new(), drawn: Drawn::default(), rows: 0 }
    }

    /// How many rows it shows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether it is as large as a browser takes well.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() + self.cards.len() - self.images.written > PAGE_BYTES
    }

    /// Begins a section: rows of one folder or file, of which there are `total` if that is known. It has no name where it is all of the page.
    pub(crate) fn begin_section(&mut self, name: &str, total: Option<u64>, columns: &[ColumnInfo]) {
        let total = total.map_or_else(|| "rows not counted".to_owned(), |rows| one_or_many(rows, "row", "rows"));
        let heading = if name.is_empty() { String::new() } else { format!("<h2><bdi>{}</bdi></h2>", esc(&show::visible_line(name))) };
        let _ = write!(
            self.out,
            "<section>{heading}<p class=\"lead\">{total}</p>\n<details class=\"columns\"><summary>{}</summary><table><tbody>",
            one_or_many(columns.len() as u64, "column", "columns"),
        );
        for column in columns.iter().take(MAX_COLUMNS) {
            let _ = write!(
                self.out,
                "<tr><th scope=\"row\"><bdi>{}</bdi></th><td><code>{}</code></td><td dir=\"auto\">{}</td></tr>",
                esc(&show::visible_line(&show::cut(&column.name, 120))),
                esc(&show::visible_line(&show::cut(&column.data_type, 400))),
                esc(&show::visible_line(&show::cut(&column.description, 400))),
            );
        }
        self.out.push_str("</tbody></table></details>\n<div class=\"rows\">\n");
    }

    /// Ends a section, with what is to be said of it: why there are no more rows, say.
    pub(crate) fn end_section(&mut self, note: Option<&str>) {
        self.out.push_str("</div>\n");
        let (cards, drawn) = (std::mem::take(&mut self.cards), std::mem::take(&mut self.drawn));
        if !cards.is_empty() {
            gallery::write_section(&cards, drawn, &mut self.out);
        }
        if let Some(note) = note {
            let _ = write!(self.out, "<p class=\"empty\" dir=\"auto\">{}</p>", esc(note));
        }
        self.out.push_str("</section>\n");
    }

    /// The page.
    pub(crate) fn finish(mut self) -> String {
        self.out.push_str(
            "<footer>Made by <code>pipeline inspect</code>. This page is one file and works offline.</footer>\n</main>\n</body>\n</html>\n",
        );
        self.out
    }

    /// A row, of `file` if there are several, with what is folded under it.
    pub(crate) fn row(&mut self, row: &Row<Cell>, file: Option<&str>, fold: Option<&Fold>) {
        let picture = Picture::of(row);
        if picture.is_none() {
            return self.write_row(row, file, None, fold);
        }
        // Cards come after the other rows of the section.
        std::mem::swap(&mut self.out, &mut self.cards);
        self.write_row(row, file, picture.as_ref(), fold);
        std::mem::swap(&mut self.out, &mut self.cards);
    }

    fn write_row(&mut self, row: &Row<Cell>, file: Option<&str>, picture: Option<&Picture<'_>>, fold: Option<&Fold>) {
        self.rows += 1;
        let kind = Kind::of(row);
        let get = |name: &str| row.values.iter().find(|(column, _)| column == name).map(|(_, value)| value);
        let id = get(document::ID.name()).and_then(Cell::as_text);
        let place = format!("{}row {}", file.map(|file| format!("{} ", show::visible_line(file))).unwrap_or_default(), count(row.number));
        let class = if picture.is_some() { "pic" } else { "row" };
        let class = match kind {
            Kind::Kept => class.to_owned(),
            Kind::Dropped => format!("{class} dropped"),
            Kind::Rejected => format!("{class} rejected"),
        };
        let title = match kind {
            Kind::Rejected => rejected_place(get("file"), get("offset")).or_else(|| id.map(str::to_owned)),
            _ => id.map(str::to_owned),
        };
        let _ = write!(
            self.out,
            "<article class=\"{class}\"><header><h3><bdi>{}</bdi></h3><small>{}</small></header>",
            esc(&show::visible_line(&show::cut(title.as_deref().unwrap_or(&place), 400))),
            if title.is_some() { esc(&place) } else { String::new() }
        );
        if let Some(picture) = picture {
            picture.write(title.as_deref().unwrap_or(&place), &mut self.images, &mut self.drawn, &mut self.out);
        }
        let told: &[&str] = match kind {
            Kind::Kept => &["id"],
            Kind::Dropped => {
                self.write_dropped(&get);
                &["id", "drop_reason", "drop_value", "drop_threshold", "duplicate_of"]
            }
            Kind::Rejected => {
                let reason = get("reason").and_then(Cell::as_text).unwrap_or("no reason");
                let _ = write!(self.out, "<p class=\"verdict\"><b><bdi>{}</bdi></b></p>", esc(&show::visible_line(reason)));
                &["file", "offset", "reason"]
            }
        };
        let is_told = |name: &str, value: &Cell| {
            picture.is_some_and(|picture| picture.column == name)
                || told.contains(&name)
                    && (name != document::ID.name() || (title.is_some() && value.as_text().is_some_and(|id| id.len() <= 400)))
        };
        let values: Vec<&(String, Cell)> = row.values.iter().filter(|(name, value)| !is_told(name, value)).collect();
        if picture.is_some() && !values.is_empty() {
            let _ = write!(self.out, "<details><summary>{}</summary>", one_or_many(values.len() as u64, "value", "values"));
            self.write_values(&values);
            self.out.push_str("</details>");
        } else {
            self.write_values(&values);
        }
        if let Some(fold) = fold {
            self.write_fold(fold);
        }
        self.out.push_str("</article>\n");
    }

    fn write_fold(&mut self, fold: &Fold) {
        let _ = write!(self.out, "<details class=\"asked\"><summary>{}</summary>", esc(&fold.title));
        for entry in &fold.entries {
            let _ = write!(self.out, "<p class=\"heading\"><bdi>{}</bdi></p>", esc(&show::visible_line(&entry.heading)));
            if let Some(note) = &entry.note {
                let _ = write!(self.out, "<p class=\"cut\" dir=\"auto\">{}</p>", esc(&show::visible_line(note)));
            }
            if entry.chat != (Cell::List { items: Vec::new(), len: 0 }) {
                self.write_value(&entry.chat);
            }
        }
        self.out.push_str("</details>");
    }

    fn write_dropped<'r>(&mut self, get: &impl Fn(&str) -> Option<&'r Cell>) {
        let text = |name: &str| get(name).and_then(Cell::as_text);
        let number = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
        let reason = text(dropped::REASON.name()).unwrap_or("no reason");
        let _ = write!(self.out, "<p class=\"verdict\">dropped: <b><bdi>{}</bdi></b>", esc(&show::visible_line(reason)));
        if let Some(against) = show::against(number(dropped::VALUE.name()), number(dropped::THRESHOLD.name())) {
            let _ = write!(self.out, " · {}", esc(&against));
        }
        if let Some(kept) = text(dropped::DUPLICATE_OF.name()) {
            let _ = write!(self.out, " · duplicate of <code><bdi>{}</bdi></code>", esc(&show::visible_line(&show::cut(kept, 400))));
        }
        self.out.push_str("</p>");
    }

    /// Short values side by side, then the others one below the other.
    fn write_values(&mut self, values: &[&(String, Cell)]) {
        let (short, long): (Vec<_>, Vec<_>) = values.iter().copied().take(MAX_COLUMNS).partition(|(_, value)| Form::of(value).is_short());
        for (class, values) in [("short", short), ("long", long)] {
            if values.is_empty() {
                continue;
            }
            let (open, close) = if class == "short" { ("<div>", "</div>") } else { ("", "") };
            let _ = write!(self.out, "<dl class=\"{class}\">");
            for (name, value) in values {
                let _ = write!(self.out, "{open}<dt><bdi>{}</bdi></dt><dd>", name_of(name));
                self.write_value(value);
                let _ = write!(self.out, "</dd>{close}");
            }
            self.out.push_str("</dl>");
        }
        if values.len() > MAX_COLUMNS {
            let _ = write!(self.out, "<p class=\"cut\">{} more columns</p>", count((values.len() - MAX_COLUMNS) as u64));
        }
    }

    fn write_value(&mut self, cell: &Cell) {
        match Form::of(cell) {
            Form::Null => self.out.push_str("<span class=\"null\">null</span>"),
            Form::Omitted => self.out.push_str("<span class=\"null\">…</span>"),
            Form::Plain(text) => self.out.push_str(&esc(text)),
            Form::Link(text) => {
                let _ = write!(
                    self.out,
                    "<a href=\"{0}\" rel=\"noreferrer noopener nofollow\" target=\"_blank\"><bdi>{0}</bdi></a>",
                    esc(text)
                );
            }
            Form::Text { text, chars } => self.write_text(text, chars),
            Form::Bytes { first, len } => {
                let first = &first[..first.len().min(FIRST_BYTES)];
                let hex: Vec<String> = first.iter().map(|byte| format!("{byte:02x}")).collect();
                let more = if len > first.len() { " …" } else { "" };
                let _ = write!(self.out, "{} <code>{}{more}</code>", one_or_many(len as u64, "byte", "bytes"), hex.join(" "));
            }
            Form::Image { format, bytes, len, path } => self.write_image(format, bytes, len, path),
            Form::Mask([height, width]) => {
                let about = match gallery::mask_of(cell) {
                    Some(Ok(mask)) => one_or_many(mask.area(), "pixel", "pixels"),
                    Some(Err(why)) => format!("which has {why}"),
                    None => "which is none that COCO knows".to_owned(),
                };
                let [height, width] = [height, width].map(|side| esc(&show::visible_line(&show::cut(side, 24))));
                let _ = write!(self.out, "mask of {height} × {width}, {}", esc(&about));
            }
            Form::Conversation { turns, len } => {
                let n_turns = turns.len();
                self.out.push_str("<div class=\"chat\">");
                turns.iter().for_each(|turn| self.write_turn(turn));
                self.out.push_str("</div>");
                self.write_left_out(len - n_turns, "message", "messages");
            }
            Form::Inline { items, len } if len > FOLD_ITEMS => {
                self.out.push_str("<details class=\"fold\"><summary>");
                self.write_list("ul class=\"inline text\"", "ul", &items[..items.len().min(PREVIEW_ITEMS)], 0);
                let _ = write!(self.out, "<span class=\"more\">{}</span></summary>", one_or_many(len as u64, "item", "items"));
                self.write_list("ul class=\"inline\"", "ul", items, len);
                self.out.push_str("</details>");
            }
            Form::Inline { items, len } => self.write_list("ul class=\"inline\"", "ul", items, len),
            Form::Items { items, len } => self.write_list("ol class=\"items\" start=\"0\"", "ol", items, len),
            Form::Fields(fields) => {
                self.out.push_str("<dl class=\"parts\">");
                for (name, value) in fields {
                    let _ = write!(self.out, "<dt><bdi>{}</bdi></dt><dd>", name_of(name));
                    self.write_value(value);
                    self.out.push_str("</dd>");
                }
                self.out.push_str("</dl>");
            }
        }
    }

    /// Items of a list of `len`; a smaller `len` says nothing of those left out.
    fn write_list(&mut self, open: &str, close: &str, items: &[Cell], len: usize) {
        if items.is_empty() {
            self.out.push_str("<span class=\"null\">empty</span>");
            return;
        }
        let _ = write!(self.out, "<{open}>");
        for item in items {
            self.out.push_str("<li>");
            self.write_value(item);
            self.out.push_str("</li>");
        }
        let _ = write!(self.out, "</{close}>");
        self.write_left_out(len.saturating_sub(items.len()), "item", "items");
    }

    fn write_left_out(&mut self, n: usize, one: &str, many: &str) {
        if n > 0 {
            let _ = write!(self.out, "<p class=\"cut\">… {}</p>", one_or_many(n as u64, &format!("more {one}"), &format!("more {many}")));
        }
    }

    fn write_turn(&mut self, turn: &Turn<'_>) {
        let class = match turn.role.to_ascii_lowercase().as_str() {
            "user" | "human" => "user",
            "assistant" | "gpt" | "model" => "assistant",
            "system" | "developer" => "system",
            "tool" | "function" | "observation" => "tool",
            _ => "other",
        };
        let _ = write!(self.out, "<div class=\"turn {class}\"><b><bdi>{}</bdi></b>", esc(&show::visible_line(&show::cut(turn.role, 60))));
        match turn.content {
            // What models take besides text: a list of parts, each with its type.
            Cell::List { items, len } if !items.is_empty() => {
                for item in items {
                    match item.field("text") {
                        Some(text @ Cell::Text { .. }) => self.write_value(text),
                        _ => self.write_value(item),
                    }
                }
                self.write_left_out(len - items.len(), "part", "parts");
            }
            content => self.write_value(content),
        }
        if !turn.rest.is_empty() {
            self.write_values(&turn.rest);
        }
        self.out.push_str("</div>");
    }

    /// A text, folded if it is long.
    fn write_text(&mut self, text: &str, chars: usize) {
        let kept = text.chars().count();
        let is_long = kept > FOLD_CHARS || text.split('\n').count() > FOLD_LINES;
        if is_long {
            let lines: usize = text.split_inclusive('\n').take(PREVIEW_LINES).map(|line| line.chars().count()).sum();
            let preview = show::cut(text, lines.min(PREVIEW_CHARS));
            let _ = write!(
                self.out,
                "<details class=\"fold\"><summary><div class=\"text\" dir=\"auto\">{}</div><span class=\"more\">{}</span></summary>",
                esc(&preview),
                one_or_many(chars as u64, "character", "characters")
            );
        }
        let _ = write!(self.out, "<div class=\"text\" dir=\"auto\">{}</div>", esc(text));
        if chars > kept {
            let _ = write!(
                self.out,
                "<p class=\"cut\">cut: the first {} of {}</p>",
                count(kept as u64),
                one_or_many(chars as u64, "character", "characters")
            );
        }
        if is_long {
            self.out.push_str("</details>");
        }
    }

    fn write_image(&mut self, format: ImageFormat, bytes: &[u8], len: usize, path: Option<&str>) {
        let name = path.map(|path| format!("{} · ", esc(&show::visible_line(&show::cut(path, 200))))).unwrap_or_default();
        let about = format!("{name}{}, {}", format.name(), show::bytes(len as u64));
        if bytes.len() != len || len > self.images.left {
            let why = if len > MAX_IMAGE_BYTES { "too large to show here" } else { "this page holds no more images" };
            let _ = write!(self.out, "<div class=\"noimg\"><bdi>{about}</bdi>: {why}</div>");
            return;
        }
        self.images.left -= len;
        let before = self.out.len();
        let _ = write!(
            self.out,
            "<figure><img loading=\"lazy\" decoding=\"async\" alt=\"\" src=\"data:image/{};base64,",
            format.name().to_ascii_lowercase()
        );
        push_base64(bytes, &mut self.out);
        self.images.written += self.out.len() - before;
        let _ = write!(self.out, "\"><figcaption><bdi>{about}</bdi></figcaption></figure>");
    }
}

fn name_of(name: &str) -> String {
    esc(&show::visible_line(&show::cut(name, 80)))
}

/// `file@offset`, as ids are made.
fn rejected_place(file: Option<&Cell>, offset: Option<&Cell>) -> Option<String> {
    let file = file?.as_text()?;
    Some(offset.and_then(Cell::as_text).map_or_else(|| file.to_owned(), |offset| format!("{file}@{offset}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::samples::PLANTED;
    use crate::rows::FromValue;

    fn row(value: Value) -> Row<Cell> {
        let Value::Object(fields) = value else { panic!("an object") };
        Row { number: 17, values: fields.iter().map(|(name, value)| (name.clone(), Cell::of_json(value, 0))).collect() }
    }

    fn page_of(rows: &[Row<Cell>]) -> String {
        let mut page = Page::new("data/a.parquet");
        page.begin_section("data/a.parquet", Some(rows.len() as u64), &[]);
        rows.iter().for_each(|row| page.row(row, None, None));
        page.end_section(None);
        page.finish()
    }

    /// What stands between head and foot.
    fn body(value: Value) -> String {
        let page = page_of(&[row(value)]);
        let (_, rest) = page.split_once("<article").unwrap();
        rest.rsplit_once("</article>").unwrap().0.to_owned()
    }

    fn jpeg(n: usize) -> Cell {
        let mut bytes = b"\xff\xd8\xff".to_vec();
        bytes.resize(n, 7);
        Cell::Image { format: ImageFormat::Jpeg, len: bytes.len(), bytes }
    }

    #[test]
    fn long_texts_are_folded_and_short_values_stand_together() {
        let html = body(json!({"id": "a", "n": 3, "lang": "ar", "text": "كلمة ".repeat(300), "note": "two\nlines"}));
        assert!(html.contains("<details class=\"fold\"><summary><div class=\"text\" dir=\"auto\">كلمة"), "{html}");
        assert!(html.contains("<span class=\"more\">1,500 characters</span>"), "{html}");
        assert!(html.contains("<dl class=\"short\"><div><dt><bdi>n</bdi></dt><dd>3</dd></div><div><dt><bdi>lang</bdi></dt>"), "{html}");
        assert!(html.contains("<div class=\"text\" dir=\"auto\">two\nlines</div>"), "{html}");
        assert_eq!(html.matches("<bdi>id</bdi>").count(), 0, "the id is the title");
    }

    #[test]
    fn a_text_of_ten_megabytes_is_cut_and_says_so() {
        let html = body(json!({"text": "x".repeat(10 << 20)}));
        assert!(html.len() < 100_000 && html.contains("cut: the first 40,000 of 10,485,760 characters"), "{}", html.len());
    }

    #[test]
    fn messages_are_a_conversation() {
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"name": "look"}], "refusal": null},
            {"role": "<b>", "content": "x"},
        ]);
        let html = body(json!({"messages": messages}));
        for wanted in [
            "<div class=\"turn system\"><b><bdi>system</bdi></b><div class=\"text\" dir=\"auto\">Be brief.</div></div>",
            "<div class=\"turn user\"><b><bdi>user</bdi></b><div class=\"text\" dir=\"auto\">What is this?</div>",
            "<a href=\"https://example.org/a.png\"",
            "<div class=\"turn assistant\"><b><bdi>assistant</bdi></b><span class=\"null\">null</span><dl class=\"long\"><dt><bdi>tool_calls</bdi></dt>",
            "<div class=\"turn other\"><b><bdi>&lt;b&gt;</bdi></b>",
        ] {
            assert!(html.contains(wanted), "{wanted} is not in {html}");
        }
        assert!(!html.contains("refusal"), "{html}");
        let html = body(json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}));
        assert_eq!((html.matches("class=\"turn user\"").count(), html.matches("class=\"turn assistant\"").count()), (1, 1));
        // Lists of other structs are lists.
        assert!(!body(json!({"spans": [{"from": 3, "to": 4}]})).contains("class=\"chat\""));
    }

    #[test]
    fn lists_of_numbers_are_folded_where_they_are_long() {
        let html = body(json!({"embedding": vec![0.5; 768], "few": [1, 2], "none": []}));
        assert!(html.contains("<span class=\"more\">768 items</span>") && html.contains("… 568 more items"), "{html}");
        assert_eq!(html.matches("<li>0.5</li>").count(), 16 + 200);
        assert!(html.contains("<li>1</li><li>2</li></ul>") && html.contains("<span class=\"null\">empty</span>"), "{html}");
    }

    #[test]
    fn images_are_drawn_as_long_as_there_is_room() {
        let image = |bytes: Cell| Cell::Struct(vec![("bytes".to_owned(), bytes), ("path".to_owned(), Cell::Plain("a/cat.jpg".to_owned()))]);
        let mut large = jpeg(0);
        if let Cell::Image { bytes, len, .. } = &mut large {
            (*bytes, *len) = (Vec::new(), MAX_IMAGE_BYTES + 1);
        }
        let values = vec![("image".to_owned(), image(jpeg(5))), ("raw".to_owned(), jpeg(4)), ("large".to_owned(), image(large))];
        let html = page_of(&[Row { number: 0, values }]);
        assert!(html.contains("src=\"data:image/jpeg;base64,/9j/Bwc=\">") && html.contains("<bdi>a/cat.jpg · JPEG, 5 B</bdi>"), "{html}");
        assert!(html.contains("class=\"pic\"") && html.contains("<summary>2 values</summary>"), "{html}");
        assert!(html.contains("base64,/9j/Bw==\"><figcaption><bdi>JPEG, 4 B</bdi>"), "{html}");
        assert!(html.contains("<bdi>a/cat.jpg · JPEG, 4.0 MiB</bdi>: too large to show here"), "{html}");

        let rows: Vec<Row<Cell>> =
            (0..12).map(|number| Row { number, values: vec![("image".to_owned(), jpeg(MAX_IMAGE_BYTES))] }).collect();
        let html = page_of(&rows);
        assert_eq!((html.matches("<img ").count(), html.matches("this page holds no more images").count()), (8, 4));
    }

    #[test]
    fn dropped_rows_say_why_and_rejected_ones_where() {
        let html = body(
            json!({"id": "a", "text": "t", "drop_reason": "too_short", "drop_value": 1.0, "drop_threshold": 200.0, "duplicate_of": "b"}),
        );
        assert!(html.contains("class=\"row dropped\""), "{html}");
        assert!(html.contains("dropped: <b><bdi>too_short</bdi></b> · 1 &lt; 200 · duplicate of <code><bdi>b</bdi></code>"), "{html}");
        assert!(!html.contains("drop_value"), "{html}");
        let html = body(json!({"id": null, "file": "pages/a.jsonl", "offset": 4410, "reason": "bad_json", "detail": "wanted an object"}));
        assert!(
            html.contains("class=\"row rejected\"") && html.contains("<h3><bdi>pages/a.jsonl@4410</bdi></h3><small>row 17</small>"),
            "{html}"
        );
        assert!(html.contains("<b><bdi>bad_json</bdi></b>") && html.contains("wanted an object"), "{html}");
        assert!(!html.contains("<bdi>offset</bdi>") && !html.contains("<bdi>reason</bdi>"), "{html}");
    }

    #[test]
    fn only_addresses_of_the_web_are_links() {
        for link in ["https://example.org/a?b=c&d='e'#f", "HTTP://example.org"] {
            let html = body(json!({"url": link}));
            assert!(html.contains(&format!("<a href=\"{}\" rel=\"noreferrer noopener nofollow\" target=\"_blank\">", esc(link))), "{html}");
        }
        for text in [
            "javascript:alert(1)",
            "data:text/html,x",
            "https://a b",
            "see https://example.org",
            "https://x\u{202e}y",
            "//x",
            "https://x\"onclick=1",
        ] {
            assert!(!body(json!({"url": text})).contains("<a "), "{text}");
        }
    }

    #[test]
    fn nothing_in_the_data_becomes_markup_or_hides_text() {
        let planted = |prefix: &str| format!("{prefix}{PLANTED}");
        let value = json!({
            "id": PLANTED,
            PLANTED: PLANTED,
            "messages": [{"role": planted("user"), "content": PLANTED, PLANTED: PLANTED}],
            "tags": [PLANTED, planted("long ").repeat(30)],
            "struct": {PLANTED: [PLANTED]},
            "url": planted("https://example.org/"),
            "drop_reason": PLANTED,
            "duplicate_of": PLANTED,
        });
        let mut page = Page::new(PLANTED);
        let chat = Cell::of_json(&json!([{"role": PLANTED, "content": PLANTED}]), 0);
        let entries = vec![Folded { heading: PLANTED.to_owned(), note: Some(PLANTED.to_owned()), chat }];
        let planted_fold = Fold { title: PLANTED.to_owned(), entries };
        let column = ColumnInfo { name: PLANTED.to_owned(), data_type: PLANTED.to_owned(), description: PLANTED.to_owned() };
        page.begin_section(PLANTED, None, &[column]);
        page.row(&row(value), Some(PLANTED), Some(&planted_fold));
        page.end_section(Some(PLANTED));
        let page = page.finish();
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("onerror=\"") && !page.contains("x\"'>"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("⟨U+202E⟩") && page.contains('␀'));
        assert!(!page.chars().any(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(&c)));
        for tag in ["article", "div", "dl", "dd", "dt", "bdi", "details", "summary", "ul", "ol", "li", "p", "b", "section", "small", "span"]
        {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
        }
    }

    #[test]
    fn a_page_ends_before_no_browser_opens_it() {
        let mut page = Page::new("a");
        page.begin_section("a", None, &[]);
        let row = row(json!({"a": "x".repeat(30_000), "b": "y".repeat(30_000)}));
        while !page.is_full() && page.rows() < 100_000 {
            page.row(&row, None, None);
        }
        assert!((300..1000).contains(&page.rows()), "{}", page.rows());
    }
}
