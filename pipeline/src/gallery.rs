//! Rows that are pictures: drawn, with the boxes and masks of what is in them.
//!
//! Which column is what follows from its values: a picture is bytes of an image (alone, or in `struct<bytes, path>` as Hugging Face stores it),
//! or pixels, of which there are as many as `width` and `height` say. Things in it are a list of structs with `bbox` (x, y, width, height), or
//! one thing in the row's own columns; `segmentation` is a mask as COCO writes it.

pub(crate) mod bytes;
pub(crate) mod mask;

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use crate::cells::{Cell, ImageFormat, MAX_IMAGE_BYTES};
use crate::record::RunRecord;
use crate::report::html::esc;
use crate::rows::{self, ReadError, Row, Table};
use crate::show::{self, count};
use bytes::{Colours, push_base64};
use mask::Mask;

/// How pictures and what is drawn over them look.
pub(crate) const STYLE: &str = include_str!("gallery/gallery.css");

/// Most things that are drawn in one picture.
const MAX_THINGS: usize = 120;

/// Colours of things, in turn: told apart on most pictures, and by most people from their neighbours.
const PALETTE: [[u8; 3]; 12] = [
    [230, 57, 70],
    [38, 132, 255],
    [255, 183, 3],
    [6, 214, 160],
    [199, 125, 255],
    [255, 122, 48],
    [76, 201, 240],
    [170, 220, 40],
    [255, 112, 166],
    [15, 160, 110],
    [165, 120, 80],
    [240, 240, 240],
];

/// Pictures of one folder that a report shows, folders, and bytes of them all.
const IN_REPORT: usize = 12;
const FOLDERS_IN_REPORT: usize = 6;
const REPORT_BYTES: usize = 8 << 20;

/// Columns that say what a picture shows.
const LABELS: [&str; 4] = ["labels", "label", "caption", "class"];

/// The bytes that a page may yet give to pictures.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) left: usize,
    pub(crate) written: usize,
}

/// What was drawn over pictures.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Drawn {
    boxes: bool,
    masks: bool,
    names: bool,
}

/// A row that is a picture.
pub(crate) struct Picture<'r> {
    /// The column that holds it.
    pub(crate) column: &'r str,
    image: Image<'r>,
    /// Width and height, if known.
    size: Option<(u32, u32)>,
    things: Vec<Thing<'r>>,
    /// Things that are not looked at.
    more_things: usize,
    labels: Vec<String>,
}

enum Image<'r> {
    File { format: ImageFormat, bytes: &'r [u8], len: usize, path: Option<&'r str> },
    Pixels { bytes: &'r [u8], colours: Colours },
}

/// What is in a picture.
#[derive(Default)]
struct Thing<'r> {
    bbox: Option<&'r Cell>,
    segmentation: Option<&'r Cell>,
    label: Option<String>,
    about: Vec<String>,
}

impl<'r> Thing<'r> {
    fn of(get: impl Fn(&str) -> Option<&'r Cell>) -> Option<Self> {
        let is_there = |cell: &&Cell| !matches!(cell, Cell::Null);
        let bbox = get("bbox").filter(is_there);
        let segmentation = get("segmentation").filter(is_there);
        if bbox.is_none() && segmentation.is_none() {
            return None;
        }
        let text = |name: &str| get(name).and_then(Cell::as_text).map(|text| show::cut(text, 40));
        let label = ["label", "class", "category"].into_iter().find_map(text);
        let mut about: Vec<String> = label.iter().map(|label| format!("label {label}")).collect();
        let share = text("visible").and_then(|text| text.parse::<f64>().ok()).filter(|share| share.is_finite());
        about.extend(share.map(|share| format!("{:.0} % visible", share * 100.0)));
        about.extend(["depth", "area"].into_iter().filter_map(|name| text(name).map(|value| format!("{name} {value}"))));
        Some(Self { bbox, segmentation, label, about })
    }
}

fn numbers<const N: usize>(cell: &Cell) -> Option<[f64; N]> {
    let Cell::List { items, len } = cell else { return None };
    let all: Vec<f64> = items.iter().filter_map(|item| item.as_text()?.parse().ok()).collect();
    if *len == N { all.try_into().ok() } else { None }
}

/// Of a mask's struct its size and its runs, the whole of them.
pub(crate) fn mask_of(cell: &Cell) -> Option<Result<Mask, String>> {
    let (size, counts) = (cell.field("size")?, cell.field("counts")?);
    let Cell::Text { text, chars } = counts else { return None };
    let [height, width] = numbers::<2>(size)?;
    if text.chars().count() != *chars {
        return Some(Err("more runs than are looked at".to_owned()));
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is no size saturates, and is refused")]
    Some(Mask::read([height as i64, width as i64], text))
}

impl<'r> Picture<'r> {
    /// The picture that a row is, if it is one.
    pub(crate) fn of(row: &'r Row<Cell>) -> Option<Self> {
        let get = |name: &str| row.values.iter().find(|(column, _)| column == name).map(|(_, value)| value);
        let side = |name: &str| get(name)?.as_text()?.parse::<u32>().ok().filter(|side| *side > 0);
        let said = side("width").zip(side("height"));
        let (column, image, own) = row.values.iter().find_map(|(name, cell)| {
            let bytes = match cell {
                Cell::Struct(fields) if fields.len() == 2 && cell.field("path").is_some() => cell.field("bytes")?,
                cell => cell,
            };
            match bytes {
                Cell::Image { format, bytes, len } => Some((
                    name,
                    Image::File { format: *format, bytes, len: *len, path: cell.field("path").and_then(Cell::as_text) },
                    bytes::size(*format, bytes),
                )),
                Cell::Bytes { first, len } if first.len() == *len => {
                    let (width, height) = said?;
                    let pixels = usize::try_from(u64::from(width) * u64::from(height)).ok()?;
                    let colours = match *len {
                        len if Some(len) == pixels.checked_mul(3) => Colours::Rgb,
                        len if len == pixels => Colours::Grey,
                        len if Some(len) == pixels.checked_mul(4) => Colours::Rgba,
                        _ => return None,
                    };
                    Some((name, Image::Pixels { bytes: first, colours }, said))
                }
                _ => None,
            }
        })?;
        let list = row.values.iter().find_map(|(_, cell)| match cell {
            Cell::List { items, len } if !items.is_empty() => {
                let things: Option<Vec<Thing<'_>>> = items.iter().map(|item| Thing::of(|name| item.field(name))).collect();
                things.map(|things| (things, *len))
            }
            _ => None,
        });
        let (mut things, len) = list.unwrap_or_else(|| {
            let own: Vec<Thing<'_>> = Thing::of(get).into_iter().collect();
            let len = own.len();
            (own, len)
        });
        things.truncate(MAX_THINGS);
        let labels = LABELS.into_iter().find_map(|name| {
            let labels = match get(name)? {
                Cell::List { items, .. } => items.iter().filter_map(Cell::as_text).take(40).map(|text| show::cut(text, 40)).collect(),
                cell => vec![show::cut(cell.as_text()?, 200)],
            };
            Some(labels)
        });
        Some(Self { column, image, size: own.or(said), more_things: len - things.len(), things, labels: labels.unwrap_or_default() })
    }

    /// The picture with what is drawn over it, and its labels.
    pub(crate) fn write(&self, id: &str, room: &mut Room, drawn: &mut Drawn, out: &mut String) {
        let before = out.len();
        let made;
        let (name, bytes, len) = match (&self.image, self.size) {
            (Image::File { format, bytes, len, .. }, _) => (format.name(), *bytes, *len),
            (Image::Pixels { bytes, colours }, Some((width, height))) => {
                made = bytes::png(width, height, *colours, bytes);
                ("PNG", made.as_slice(), made.len())
            }
            (Image::Pixels { bytes, .. }, None) => ("PNG", &[][..], bytes.len()),
        };
        let mut notes = Vec::new();
        out.push_str("<figure class=\"picture\">");
        if bytes.len() != len || len > room.left {
            let why = if len > MAX_IMAGE_BYTES { "too large to show here" } else { "this page holds no more images" };
            let _ = write!(out, "<div class=\"noimg\">{name}, {}: {why}</div>", show::bytes(len as u64));
        } else {
            room.left -= len;
            let alt = match self.things.len() {
                0 => String::new(),
                n => format!("{}, with {} marked in it", esc(&show::visible_line(&show::cut(id, 80))), things_text(n)),
            };
            let small = if self.size.is_some_and(|(width, height)| width.max(height) <= 128) { " class=\"small\"" } else { "" };
            let media = name.to_ascii_lowercase();
            let _ = write!(
                out,
                "<div class=\"canvas\"><img{small} loading=\"lazy\" decoding=\"async\" alt=\"{alt}\" src=\"data:image/{media};base64,"
            );
            push_base64(bytes, out);
            out.push_str("\">");
            self.write_over(room, drawn, &mut notes, out);
            out.push_str("</div>");
        }
        room.written += out.len() - before;
        let size = self.size.map(|(width, height)| format!("{width} × {height}, ")).unwrap_or_default();
        let about = match &self.image {
            Image::Pixels { .. } => format!("{size}pixels"),
            Image::File { path, .. } => {
                let path = path.map(|path| format!("{} · ", esc(&show::visible_line(&show::cut(path, 120))))).unwrap_or_default();
                format!("<bdi>{path}{size}{name}, {}</bdi>", show::bytes(len as u64))
            }
        };
        let _ = write!(out, "<figcaption>");
        if !self.labels.is_empty() {
            out.push_str("<ul class=\"labels\">");
            self.labels.iter().for_each(|label| _ = write!(out, "<li><bdi>{}</bdi></li>", esc(&show::visible_line(label))));
            out.push_str("</ul>");
        }
        let _ = write!(out, "<small>{about}");
        if !self.things.is_empty() {
            let _ = write!(out, " · {}", things_text(self.things.len() + self.more_things));
        }
        out.push_str("</small>");
        if self.more_things > 0 {
            notes.push(format!("{} more are not drawn", count(self.more_things as u64)));
        }
        notes.dedup();
        for note in notes.iter().take(4) {
            let _ = write!(out, "<small class=\"note\">{}</small>", esc(&show::visible_line(note)));
        }
        out.push_str("</figcaption></figure>");
    }

    /// Boxes, masks and names.
    fn write_over(&self, room: &mut Room, drawn: &mut Drawn, notes: &mut Vec<String>, out: &mut String) {
        if self.things.is_empty() {
            return;
        }
        let Some((width, height)) = self.size else {
            notes.push("what is in it is not drawn: nothing says how large it is".to_owned());
            return;
        };
        let _ = write!(out, "<svg viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" role=\"presentation\">");
        let letters = f64::from(width.max(height)) / 19.0;
        // A mask may lie over what stands before it; names lie over all masks.
        let mut names = String::new();
        for (index, thing) in self.things.iter().enumerate() {
            let [red, green, blue] = PALETTE[index % PALETTE.len()];
            let _ = write!(
                out,
                "<g style=\"--c:rgb({red} {green} {blue})\"><title>{}</title>",
                esc(&show::visible_line(&thing.about.join(" · ")))
            );
            match thing.segmentation.and_then(mask_of) {
                Some(Ok(mask)) if (mask.width, mask.height) == (width, height) => {
                    let svg = mask.svg([red, green, blue]);
                    if svg.len() > room.left {
                        notes.push("masks are not drawn: this page holds no more images".to_owned());
                    } else {
                        room.left -= svg.len();
                        drawn.masks |= !svg.is_empty();
                        out.push_str(&svg);
                    }
                }
                Some(Ok(mask)) => notes.push(format!("a mask is not drawn: it is one of {} × {} pixels", mask.width, mask.height)),
                Some(Err(why)) => notes.push(format!("a mask is not drawn: it has {why}")),
                None if thing.segmentation.is_some() => notes.push("a mask is not drawn: it is none that COCO knows".to_owned()),
                None => {}
            }
            let place = thing.bbox.map(|bbox| numbers::<4>(bbox).filter(is_box));
            match place {
                Some(Some([x, y, w, h])) => {
                    let _ = write!(out, "<rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>");
                    drawn.boxes = true;
                    if let Some(label) = &thing.label {
                        let up = if y > letters { y - letters * 0.25 } else { (y + letters).min(f64::from(height)) };
                        let _ = write!(
                            names,
                            "<text class=\"name\" style=\"--c:rgb({red} {green} {blue})\" x=\"{:.1}\" y=\"{up:.1}\" font-size=\"{letters:.1}\">{}</text>",
                            x.clamp(0.0, f64::from(width)),
                            esc(&show::visible_line(&show::cut(label, 24)))
                        );
                        drawn.names = true;
                    }
                }
                Some(None) => notes.push("a box is not drawn: its four numbers are no box".to_owned()),
                None => {}
            }
            out.push_str("</g>");
        }
        out.push_str(&names);
        out.push_str("</svg>");
    }
}

fn is_box([x, y, w, h]: &[f64; 4]) -> bool {
    [x, y, w, h].into_iter().all(|edge| edge.is_finite() && edge.abs() < 1e6) && *w >= 0.0 && *h >= 0.0
}

fn things_text(n: usize) -> String {
    format!("{} {}", count(n as u64), if n == 1 { "instance" } else { "instances" })
}

/// Pictures that stand side by side, and what turns the marks in them off and on.
pub(crate) fn write_section(cards: &str, drawn: Drawn, out: &mut String) {
    out.push_str("<div class=\"gallery\">");
    let marks = [(drawn.boxes, "t-box", "boxes"), (drawn.masks, "t-mask", "masks"), (drawn.names, "t-name", "labels")];
    if marks.iter().any(|(is_drawn, ..)| *is_drawn) {
        out.push_str("<div class=\"marks\" role=\"group\" aria-label=\"What is drawn over the pictures\">");
        for (_, class, name) in marks.iter().filter(|(is_drawn, ..)| *is_drawn) {
            let _ = write!(out, "<label><input type=\"checkbox\" class=\"{class}\" checked> {name}</label>");
        }
        out.push_str("</div>\n");
    }
    let _ = writeln!(out, "<div class=\"pictures\">{cards}</div></div>");
}

/// Rows spread evenly over files of so many rows each: of which file, and which rows of it.
pub(crate) fn spread(files: &[u64], wanted: usize) -> Vec<(usize, Vec<u64>)> {
    let total = files.iter().fold(0_u64, |sum, rows| sum.saturating_add(*rows));
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).min(total);
    let mut chosen: Vec<(usize, Vec<u64>)> = Vec::new();
    let (mut file, mut before) = (0, 0_u64);
    for index in 0..wanted {
        // In the middle of each of as many equal stretches.
        let row = u64::try_from((u128::from(index) * 2 + 1) * u128::from(total) / (u128::from(wanted) * 2)).unwrap_or(0);
        while row >= before.saturating_add(files[file]) {
            before = before.saturating_add(files[file]);
            file += 1;
        }
        match chosen.last_mut() {
            Some((last, rows)) if *last == file => rows.push(row - before),
            _ => chosen.push((file, vec![row - before])),
        }
    }
    chosen
}

/// Whether the rows of a file are pictures: by its columns, then by its first row.
pub(crate) fn is_of_pictures(path: &Path, table: &Table, columns: Option<&[String]>) -> bool {
    let may_be = table.columns.iter().any(|column| column.data_type.contains("Binary"));
    let mut is_picture = false;
    may_be
        && rows::pick(path, columns, &[0], &mut |row| {
            is_picture = Picture::of(&row).is_some();
            ControlFlow::Break(())
        })
        .is_ok_and(|_| is_picture)
}

/// The pictures of a report, as its section; nothing where no output has any. What cannot be read is not shown.
pub(crate) fn of_output(output: &Path, record: &RunRecord) -> String {
    let (mut out, mut room) = (String::new(), Room { left: REPORT_BYTES, written: 0 });
    let published = record.stages.iter().flat_map(|stage| &stage.published).filter(|published| !published.folder.starts_with("rejected/"));
    for published in published.filter(|published| published.rows > 0).collect::<Vec<_>>() {
        let paths: Vec<_> = published.parts.iter().map(|part| output.join(&published.folder).join(&part.name)).collect();
        // The record may be anybody's; what it names is looked for in its own folder only.
        let is_inside = |name: &str| !name.is_empty() && !name.split('/').any(|part| part.is_empty() || part.starts_with('.'));
        let is_named_well = is_inside(&published.folder) && published.parts.iter().all(|part| is_inside(&part.name));
        let Some(first) = paths.first().filter(|_| is_named_well) else { continue };
        if !rows::describe(first).is_ok_and(|table| is_of_pictures(first, &table, None)) {
            continue;
        }
        let counts: Vec<u64> = published.parts.iter().map(|part| part.rows).collect();
        let (mut cards, mut drawn, mut shown) = (String::new(), Drawn::default(), 0);
        for (file, numbers) in spread(&counts, IN_REPORT) {
            let read: Result<_, ReadError> = rows::pick(&paths[file], None, &numbers, &mut |row| {
                if let Some(picture) = Picture::of(&row) {
                    let id = row.values.iter().find(|(name, _)| name == "id").and_then(|(_, id)| id.as_text()).unwrap_or_default();
                    let id = if id.is_empty() { format!("row {}", count(row.number)) } else { show::cut(id, 200) };
                    let _ = write!(cards, "<article class=\"pic\"><h3><bdi>{}</bdi></h3>", esc(&show::visible_line(&id)));
                    picture.write(&id, &mut room, &mut drawn, &mut cards);
                    cards.push_str("</article>\n");
                    shown += 1;
                }
                ControlFlow::Continue(())
            });
            drop(read);
        }
        if shown > 0 {
            let _ = writeln!(
                out,
                "<h3 class=\"of\"><bdi>{}/</bdi> <small>{} of {} rows, spread evenly over them</small></h3>",
                esc(&show::visible_line(&published.folder)),
                count(shown),
                count(published.rows)
            );
            write_section(&cards, drawn, &mut out);
        }
        if out.matches("class=\"gallery\"").count() >= FOLDERS_IN_REPORT {
            break;
        }
    }
    if out.is_empty() { out } else { format!("<section id=\"pictures\"><h2>Pictures</h2>\n{out}</section>\n") }
}

#[cfg(test)]
mod tests;
