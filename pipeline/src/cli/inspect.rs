//! `pipeline inspect PATH`: rows as a person wants to see them.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, WrapErr, miette};
use schemas::llm::ANSWER_KEYS;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cells::Cell;
use crate::cli::Exit;
use crate::cli::transcript::{Lookup, Shown};
use crate::gallery;
use crate::rows::{self, ColumnInfo, Query, Row, Table};
use crate::rows_page::Page;
use crate::show;
use crate::store::{self, Kind};

/// Rows that are shown, and pictures on a page, unless somebody wants more.
const ROWS: usize = 5;
const PICTURES: usize = 24;

/// Lines that one value may take.
const MAX_LINES: usize = 8;

/// Characters of a value that are looked at.
const MAX_CHARS: usize = 4000;

/// Columns of the terminal that names of columns may take.
const MAX_NAME: usize = 24;

/// Shows rows of a file, of a stage's folder, or what an output folder holds: in the terminal, or as a page.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A `.parquet`, `.arrow` or `.jsonl` file (`.zst` and `.gz` too), a stage's folder, or the output folder of a run.
    pub path: PathBuf,
    /// How many rows to show [default: 5; of pictures on a page 24, spread evenly over all rows]
    #[arg(long, value_name = "N")]
    pub rows: Option<usize>,
    /// Only these columns, in this order.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Only rows whose column holds exactly this.
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = condition)]
    pub r#where: Option<(String, String)>,
    /// Write a page for a browser instead: texts folded, conversations, images, links; of an output folder, rows of everything in it. One
    /// `.html` file that needs nothing but itself; `-` writes it to stdout.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub html: Option<PathBuf>,
    /// With each row, what models were asked for it and what they answered, answers that could not be used too. Rows that a stage made which
    /// asks models have a column `answer_keys`; the answers are looked up where the run kept them.
    #[arg(long)]
    pub transcript: bool,
    /// The folder where answers are kept [default: the one that the run used]
    #[arg(long, value_name = "DIR", requires = "transcript", value_hint = clap::ValueHint::DirPath)]
    pub answers: Option<PathBuf>,
    /// Write the transcripts as JSON, a row a line.
    #[arg(long, requires = "transcript", conflicts_with = "html")]
    pub json: bool,
}

impl Args {
    /// The columns to be read, if not all: the keys of answers too where those are looked up.
    fn read_columns(&self) -> Option<Vec<String>> {
        let mut columns = self.columns.clone();
        if self.adds_keys() {
            columns.push(ANSWER_KEYS.to_owned());
        }
        (!columns.is_empty()).then_some(columns)
    }

    /// Whether the keys of answers are read only to look them up.
    fn adds_keys(&self) -> bool {
        self.transcript && !self.columns.is_empty() && !self.columns.iter().any(|column| column == ANSWER_KEYS)
    }

    /// Takes the columns out of a row that nobody asked for.
    fn without_added<V>(&self, mut row: Row<V>) -> Row<V> {
        if self.adds_keys() {
            row.values.retain(|(name, _)| name != ANSWER_KEYS);
        }
        row
    }
}

fn has_keys(columns: &[ColumnInfo]) -> bool {
    columns.iter().any(|column| column.name == ANSWER_KEYS)
}

/// These rows came of no stage that asks models.
fn holds_no_keys(path: &Path) -> miette::Report {
    let message = format!("no stage that asks models made the rows of {}: they have no column `{ANSWER_KEYS}`", path.display());
    let help = Some("name the folder of a stage that asks models, or of one after it that keeps its columns".to_owned());
    super::UsageError { message, help }.into()
}

fn condition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("wanted COLUMN=VALUE, as in `id=pages/a.jsonl@120`".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// If the path holds nothing that can be shown.
pub fn execute(args: Args) -> miette::Result<Exit> {
    let kind = store::kind(&args.path).into_diagnostic().wrap_err_with(|| format!("can't read {}", args.path.display()))?;
    if kind.is_none() {
        let message = format!("there is no {}", args.path.display());
        return Err(super::UsageError { message, help: Some("name a file of rows, a stage's folder, or an output".to_owned()) }.into());
    }
    if let Some(to) = &args.html {
        return write_page(&args, to);
    }
    let mut out = std::io::stdout().lock();
    inspect(&args, terminal_width(), &mut out)
}

fn is_folder(path: &Path) -> bool {
    matches!(store::kind(path), Ok(Some(Kind::Folder)))
}

/// Columns of the terminal; of a page of text where there is none.
fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0)).clamp(40, 200)
}

fn inspect(args: &Args, width: usize, out: &mut dyn Write) -> miette::Result<Exit> {
    let (text, files) = if is_folder(&args.path) {
        let files = rows::files_in(&args.path)?;
        if files.is_empty() && args.transcript {
            let message = format!("{} is no file and no folder of rows", args.path.display());
            let help = Some("name the folder of a stage that asks models, or add `--html` to see all of an output".to_owned());
            return Err(super::UsageError { message, help }.into());
        }
        if files.is_empty() {
            return listing(&args.path, width, out);
        }
        (format!("{}/, {}", args.path.display(), plural(files.len(), "file")), files)
    } else {
        (args.path.display().to_string(), vec![args.path.clone()])
    };
    let tables: Vec<Table> = files.iter().map(|file| rows::describe(file)).collect::<Result<_, _>>()?;
    let total = tables.iter().map(|table| table.rows).try_fold(0u64, |sum, rows| rows.and_then(|rows| sum.checked_add(rows)));
    let Some(first) = tables.first() else { return Ok(Exit::Done) };
    let mut head = show::visible_line(&text);
    if let Some(total) = total {
        let _ = write!(head, ", {} {}", show::count(total), if total == 1 { "row" } else { "rows" });
    }
    if args.transcript && !has_keys(&first.columns) {
        return Err(holds_no_keys(&args.path));
    }
    let lookup = if args.transcript { Some(Lookup::open(&args.path, args.answers.as_deref())?) } else { None };
    if !args.json && !say(out, &format!("{head}\n{}", schema_text(&first.columns, width)))? {
        return Ok(Exit::Done);
    }
    let columns = args.read_columns();
    let filter = args.r#where.as_ref().map(|(column, value)| (column.as_str(), value.as_str()));
    let query = Query { filter, columns: columns.as_deref(), max_chars: MAX_CHARS };
    let (wanted, mut shown, mut problem) = (args.rows.unwrap_or(ROWS), 0, None);
    for file in &files {
        let name = if files.len() > 1 { file.file_name().map(|name| name.to_string_lossy().into_owned()) } else { None };
        if shown >= wanted {
            break;
        }
        let flow = rows::scan(file, query, &mut |row| {
            let said = text_of(args, row, name.as_deref(), lookup.as_ref(), width).and_then(|text| say(out, &text));
            match said {
                Ok(true) => shown += 1,
                Ok(false) => return ControlFlow::Break(()),
                Err(error) => {
                    problem = Some(error);
                    return ControlFlow::Break(());
                }
            }
            if shown < wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if let Some(error) = problem {
            return Err(error);
        }
        if flow.is_break() {
            break;
        }
    }
    if let (Some((column, value)), 0) = (filter, shown) {
        tracing::error!("no row has {} = {}", show::visible_line(column), show::visible_line(value));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// A row as it is shown, with what models were asked for it.
fn text_of(args: &Args, row: Row<Shown>, file: Option<&str>, lookup: Option<&Lookup>, width: usize) -> miette::Result<String> {
    if args.json {
        let json = lookup.map(|lookup| lookup.json(&row, file)).transpose()?.unwrap_or_default();
        return Ok(format!("{}\n", show::visible_json(&json.to_string())));
    }
    let told = lookup.map(|lookup| lookup.text(&row, width)).transpose()?.unwrap_or_default();
    let Row { number, values } = args.without_added(row);
    let row = Row { number, values: values.into_iter().map(|(name, value)| (name, value.text)).collect() };
    Ok(row_text(&row, file, width) + &told)
}

/// Files of rows that are shown together.
struct Group {
    /// Empty where there is but one.
    name: String,
    files: Vec<PathBuf>,
}

/// What the page shows: the rows of a file or a folder; of an output, those of every folder in it.
fn groups_of(path: &Path) -> miette::Result<Vec<Group>> {
    if !is_folder(path) {
        return Ok(vec![Group { name: String::new(), files: vec![path.to_owned()] }]);
    }
    let files = rows::files_in(path)?;
    if !files.is_empty() {
        return Ok(vec![Group { name: String::new(), files }]);
    }
    let group = |(name, path): (String, PathBuf)| Ok(Group { name: format!("{name}/"), files: rows::files_in(&path)? });
    data_folders(path)?.into_iter().map(group).collect()
}

fn write_page(args: &Args, to: &Path) -> miette::Result<Exit> {
    let is_stdout = to.as_os_str() == "-";
    if !is_stdout {
        check_page_path(&args.path, to)?;
    }
    let groups = groups_of(&args.path)?;
    if groups.is_empty() {
        return Err(holds_no_rows(&args.path));
    }
    let has_keys = |file: &PathBuf| rows::describe(file).is_ok_and(|table| has_keys(&table.columns));
    if args.transcript && !groups.iter().any(|group| group.files.iter().any(has_keys)) {
        return Err(holds_no_keys(&args.path));
    }
    let lookup = if args.transcript { Some(Lookup::open(&args.path, args.answers.as_deref())?) } else { None };
    let mut page = Page::new(&args.path.display().to_string());
    for group in &groups {
        match add_section(&mut page, group, args, lookup.as_ref()) {
            Ok(()) => {}
            // One damaged folder does not hide the others.
            Err(problem) if groups.len() > 1 => page.end_section(Some(&problem.to_string())),
            Err(problem) => return Err(problem.into()),
        }
    }
    if let (Some((column, value)), 0) = (&args.r#where, page.rows()) {
        tracing::error!("no row has {} = {}", show::visible_line(column), show::visible_line(value));
        return Ok(Exit::Failed);
    }
    let rows = plural(page.rows(), "row");
    let page = page.finish();
    if is_stdout {
        super::print(&page)?;
    } else {
        super::write_whole(to, &page)?;
        tracing::info!("wrote {}: {rows}, {}", to.display(), show::bytes(page.len() as u64));
    }
    Ok(Exit::Done)
}

/// Refuses to write a page over data, or where readers take every file for data.
fn check_page_path(data: &Path, to: &Path) -> Result<(), super::UsageError> {
    super::check_page_name("--html", to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_same = folder.canonicalize().is_ok_and(|folder| data.canonicalize().is_ok_and(|data| folder == data));
    if is_same && rows::files_in(data).is_ok_and(|files| !files.is_empty()) {
        let message = format!("{} is a folder of rows: readers take every file in it for data", data.display());
        return Err(super::UsageError { message, help: Some("write the page somewhere else".to_owned()) });
    }
    Ok(())
}

/// Adds a section of rows to a page. When there is an error, the section is still open, if it was begun at all.
fn add_section(page: &mut Page, group: &Group, args: &Args, lookup: Option<&Lookup>) -> Result<(), rows::ReadError> {
    let described: Result<Vec<Table>, _> = group.files.iter().map(|file| rows::describe(file)).collect();
    let tables = described.as_deref().unwrap_or_default();
    let total = tables.iter().map(|table| table.rows).try_fold(0u64, |sum, rows| rows.and_then(|rows| sum.checked_add(rows)));
    page.begin_section(&group.name, total.filter(|_| !tables.is_empty()), tables.first().map_or(&[], |table| &table.columns));
    let tables = described?;
    let columns = args.read_columns();
    let columns = columns.as_deref();
    // Of an output's folders, some are of stages that ask models.
    let lookup = lookup.filter(|_| tables.iter().all(|table| has_keys(&table.columns)));
    let columns = if lookup.is_none() && args.adds_keys() { Some(args.columns.as_slice()) } else { columns };
    let add = |page: &mut Page, row: Row<Cell>, name: Option<&str>| {
        let fold = lookup.and_then(|lookup| {
            let fold = lookup.fold(&row);
            fold.inspect_err(|error| tracing::warn!("{error}")).ok().flatten()
        });
        page.row(&args.without_added(row), name, fold.as_ref());
    };
    let filter = args.r#where.as_ref().map(|(column, value)| (column.as_str(), value.as_str()));
    let query = Query { filter, columns, max_chars: MAX_CHARS };
    let name_of =
        |file: &PathBuf| (group.files.len() > 1).then(|| file.file_name().map(|name| name.to_string_lossy().into_owned())).flatten();
    let counts: Option<Vec<u64>> = tables.iter().map(|table| table.rows).collect();
    let pictures = group.files.first().zip(tables.first()).filter(|_| filter.is_none());
    let pictures = counts.filter(|_| pictures.is_some_and(|(file, table)| gallery::is_of_pictures(file, table, columns)));
    let wanted = args.rows.unwrap_or(if pictures.is_some() { PICTURES } else { ROWS });
    let is_spread = pictures.is_some();
    let mut shown = 0;
    for (file, numbers) in pictures.map(|counts| gallery::spread(&counts, wanted)).unwrap_or_default() {
        let name = name_of(&group.files[file]);
        let _ = rows::pick(&group.files[file], columns, &numbers, &mut |row| {
            add(page, row, name.as_deref());
            shown += 1;
            if page.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    for file in group.files.iter().filter(|_| !is_spread) {
        if shown >= wanted || page.is_full() {
            break;
        }
        let name = name_of(file);
        let _ = rows::scan(file, query, &mut |row| {
            add(page, row, name.as_deref());
            shown += 1;
            if shown < wanted && !page.is_full() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    let left = total.filter(|_| filter.is_none()).map_or(0, |total| total.saturating_sub(shown as u64));
    let note = if page.is_full() && shown < wanted {
        Some("The page is full: browsers open no larger ones well. Ask for fewer rows or columns.".to_owned())
    } else if left > 0 {
        Some(format!(
            "{} more{}: `--rows` shows more, `--where COLUMN=VALUE` finds some.",
            plural(usize::try_from(left).unwrap_or(usize::MAX), "row"),
            if is_spread { "; those shown are spread evenly over all" } else { "" }
        ))
    } else {
        None
    };
    page.end_section(note.as_deref());
    Ok(())
}

fn holds_no_rows(folder: &Path) -> miette::Report {
    miette!(
        help = "give a file of rows, a stage's folder, or the output folder of a run",
        "{} holds no rows: no .parquet, .arrow or .jsonl file in it or in its folders",
        folder.display()
    )
}

/// Writes `text`; false when nobody reads on (`| head`).
pub(super) fn say(out: &mut dyn Write, text: &str) -> miette::Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).into_diagnostic().wrap_err("can't write to standard output"),
    }
}

fn plural(n: usize, one: &str) -> String {
    format!("{} {one}{}", show::count(n as u64), if n == 1 { "" } else { "s" })
}

/// What an output folder holds.
fn listing(folder: &Path, width: usize, out: &mut dyn Write) -> miette::Result<Exit> {
    let mut text = String::new();
    for (name, path) in data_folders(folder)? {
        let files = rows::files_in(&path)?;
        let bytes =
            files.iter().filter_map(|file| datasets::ReadAt::open(file).ok()).fold(0u64, |sum, file| sum.saturating_add(file.bytes()));
        let mut total = Some(0u64);
        let mut columns: Option<Vec<ColumnInfo>> = None;
        let mut damaged = Vec::new();
        for file in &files {
            match rows::describe(file) {
                Ok(table) => {
                    total = total.zip(table.rows).and_then(|(sum, rows)| sum.checked_add(rows));
                    columns = columns.or(Some(table.columns));
                }
                Err(error) => {
                    total = None;
                    damaged.push(error.to_string());
                }
            }
        }
        let rows = match total {
            Some(total) => format!("{} {}", show::count(total), if total == 1 { "row" } else { "rows" }),
            None => "rows not counted".to_owned(),
        };
        let _ = writeln!(text, "{}/  {rows}, {}, {}", show::visible_line(&name), plural(files.len(), "file"), show::bytes(bytes));
        let columns: Vec<String> =
            columns.unwrap_or_default().iter().map(|column| format!("{}: {}", column.name, column.data_type)).collect();
        let columns = show::visible_line(&columns.join(", "));
        for line in wrap(&columns, width.saturating_sub(4), 4).iter().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "{}", format!("    {line}").trim_end());
        }
        for problem in damaged {
            let _ = writeln!(text, "    {}", show::visible_line(&problem));
        }
    }
    if text.is_empty() {
        return Err(holds_no_rows(folder));
    }
    for (file, what) in [("report.html", "the report"), ("README.md", "the dataset card"), ("run.json", "the record of the run")] {
        if folder.join(file).is_file() {
            let _ = writeln!(text, "{file}  {what}");
        }
    }
    say(out, &text)?;
    Ok(Exit::Done)
}

/// The folders of an output that hold rows: stages, then what was dropped and rejected.
fn data_folders(folder: &Path) -> miette::Result<Vec<(String, PathBuf)>> {
    let folders_in = |folder: &Path| -> Vec<(String, PathBuf)> {
        let names = store::children(folder).unwrap_or_default();
        let mut folders: Vec<_> = names
            .into_iter()
            .map(|name| (name.to_string_lossy().into_owned(), folder.join(name)))
            .filter(|(name, path)| !name.starts_with(['.', '_']) && is_folder(path))
            .collect();
        folders.sort();
        folders
    };
    store::children(folder).into_diagnostic().wrap_err_with(|| format!("can't read {}", folder.display()))?;
    let (kept, sides): (Vec<_>, Vec<_>) = folders_in(folder).into_iter().partition(|(name, _)| name != "dropped" && name != "rejected");
    let below = sides.into_iter().flat_map(|(side, path)| {
        folders_in(&path).into_iter().map(move |(name, path)| (format!("{side}/{name}"), path)).collect::<Vec<_>>()
    });
    Ok(kept.into_iter().chain(below).filter(|(_, path)| rows::files_in(path).is_ok_and(|files| !files.is_empty())).collect())
}

/// The columns, one a line, with types and descriptions.
fn schema_text(columns: &[ColumnInfo], width: usize) -> String {
    let mut out = String::new();
    let name_width = columns.iter().map(|column| show::visible_line(&column.name).width()).max().unwrap_or(0).min(MAX_NAME);
    let type_width = columns.iter().map(|column| column.data_type.width()).max().unwrap_or(0).min(20);
    for column in columns {
        let name = show::visible_line(&column.name);
        let line = format!(
            "  {}  {}  {}",
            pad(&cut_to(&name, MAX_NAME), name_width),
            pad(&show::visible_line(&column.data_type), type_width),
            show::visible_line(&column.description)
        );
        let _ = writeln!(out, "{}", cut_to(line.trim_end(), width));
    }
    out
}

/// A row, one value below the other.
pub(super) fn row_text(row: &Row, file: Option<&str>, width: usize) -> String {
    let place = file.map(|file| format!("{} ", show::visible_line(file))).unwrap_or_default();
    let title = cut_to(&format!("── {place}row {} ", show::count(row.number)), width);
    let mut out = format!("\n{title}{}\n", "─".repeat(width.saturating_sub(title.width())));
    out.push_str(&values_text(&row.values, width, MAX_LINES));
    out
}

/// Columns and values, values wrapped beside the names.
pub(super) fn values_text(values: &[(String, String)], width: usize, max_lines: usize) -> String {
    let mut out = String::new();
    let name_width = values.iter().map(|(name, _)| show::visible_line(name).width()).max().unwrap_or(0).min(MAX_NAME);
    for (name, value) in values {
        let name = cut_to(&show::visible_line(name), MAX_NAME);
        let lines = wrap(&show::visible(value), width.saturating_sub(name_width + 4).max(16), max_lines);
        for (i, line) in lines.iter().enumerate() {
            let name = if i == 0 { name.as_str() } else { "" };
            let _ = writeln!(out, "{}", format!("  {}  {line}", pad(name, name_width)).trim_end());
        }
    }
    out
}

/// `text` with spaces to `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// `text` in at most `width` columns.
pub(super) fn cut_to(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Lines of at most `width` columns, broken at spaces where there are any; what is past `max_lines` is counted in the last.
fn wrap(text: &str, width: usize, max_lines: usize) -> Vec<String> {
    let text = text.replace('\t', "    ");
    let mut lines: Vec<String> = Vec::new();
    let mut shown = 0;
    for paragraph in text.split('\n') {
        let mut rest = paragraph;
        loop {
            if lines.len() == max_lines {
                let left = text.chars().count().saturating_sub(shown);
                if let (Some(last), 1..) = (lines.last_mut(), left) {
                    let note = format!(" … {} more characters", show::count(left as u64));
                    let cut = cut_to(last, width.saturating_sub(note.width()).max(1));
                    *last = format!("{}{note}", cut.trim_end_matches('…'));
                }
                return lines;
            }
            let end = line_end(rest, width);
            lines.push(rest[..end].trim_end().to_owned());
            shown += rest[..end].chars().count();
            rest = rest[end..].trim_start_matches(' ');
            if rest.is_empty() {
                break;
            }
        }
        shown += 1;
    }
    lines
}

/// Bytes of `text` that fit on a line of `width` columns.
fn line_end(text: &str, width: usize) -> usize {
    let mut used = 0;
    let mut space = None;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width {
            let end = space.unwrap_or(at);
            return if end == 0 { at + c.len_utf8() } else { end };
        }
        if c == ' ' {
            space = Some(at + 1);
        }
    }
    text.len()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use schemas::document;

    use super::*;
    use crate::rows::tests::{batch, ids, write_parquet};

    pub(in crate::cli) fn args(path: &Path) -> Args {
        Args {
            path: path.to_owned(),
            rows: None,
            columns: Vec::new(),
            r#where: None,
            html: None,
            transcript: false,
            answers: None,
            json: false,
        }
    }

    pub(in crate::cli) fn shown(args: &Args) -> (Exit, String) {
        let mut out = Vec::new();
        let exit = inspect(args, 60, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let folder = args.path.ancestors().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp")));
        let text = folder.map_or(text.clone(), |folder| text.replace(&folder.display().to_string(), "OUT"));
        (exit, text)
    }

    fn documents() -> RecordBatch {
        let schema = Schema::new(vec![document::ID.field(), document::TEXT.field(), Field::new("n", DataType::Int64, true)]);
        let texts = [
            "short".to_owned(),
            "A long text that is wrapped at spaces, because words that are cut in two are hard to read.\n\nSecond paragraph. ".repeat(6),
            "\u{1b}[31mred\u{1b}[0m \u{202e}drawkcab\u{202c} 日本語の文章はここで折り返されますので幅を数える必要があります。".to_owned(),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a", "b\u{7}", "c"])),
            Arc::new(StringArray::from_iter_values(texts)),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[test]
    fn rows_are_shown_one_value_below_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docs.parquet");
        write_parquet(&path, &documents(), true);
        let (exit, text) = shown(&args(&path));
        assert_eq!(exit, Exit::Done);
        insta::assert_snapshot!(text, @r#"
        OUT/docs.parquet, 3 rows
          id    Utf8   label of the row
          text  Utf8   text of the document
          n     Int64

        ── row 0 ───────────────────────────────────────────────────
          id    a
          text  short
          n     1

        ── row 1 ───────────────────────────────────────────────────
          id    b␇
          text  A long text that is wrapped at spaces, because
                words that are cut in two are hard to read.

                Second paragraph. A long text that is wrapped at
                spaces, because words that are cut in two are hard
                to read.

                Second paragraph. A long text … 409 more characters
          n     null

        ── row 2 ───────────────────────────────────────────────────
          id    c
          text  ␛[31mred␛[0m ⟨U+202E⟩drawkcab⟨U+202C⟩
                日本語の文章はここで折り返されますので幅を数える必要
                があります。
          n     3
        "#);
    }

    #[test]
    fn no_control_character_of_the_data_reaches_the_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let hostile = crate::report::samples::PLANTED;
        let schema = Schema::new(vec![schemas::describe(Field::new(hostile, DataType::Utf8, true), hostile)]);
        let column: ArrayRef = Arc::new(StringArray::from(vec![hostile]));
        write_parquet(&folder.path().join("s/a.parquet"), &RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap(), false);
        for path in ["s/a.parquet", "s", ""] {
            let (_, text) = shown(&args(&folder.path().join(path)));
            assert!(text.contains("alert(1)"), "{text}");
            assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c)), "{text:?}");
        }
    }

    #[test]
    fn a_row_is_found_by_its_id_and_columns_are_chosen() {
        let folder = tempfile::tempdir().unwrap();
        write_parquet(&folder.path().join("part-00000.parquet"), &batch(&ids(30)), true);
        write_parquet(&folder.path().join("part-00001.parquet"), &batch(&["x".to_owned()]), true);
        let wanted = Args {
            columns: vec!["n".to_owned(), "id".to_owned()],
            r#where: Some(("id".to_owned(), "row017".to_owned())),
            ..args(folder.path())
        };
        let (exit, text) = shown(&wanted);
        assert_eq!(exit, Exit::Done);
        insta::assert_snapshot!(text, @r#"
        OUT/, 2 files, 31 rows
          id    Utf8    label of the row
          text  Utf8    text of the document
          n     Int64
          raw   Binary

        ── part-00000.parquet row 17 ───────────────────────────────
          n   17
          id  row017
        "#);
        let (exit, _) = shown(&Args { r#where: Some(("id".to_owned(), "row".to_owned())), ..args(folder.path()) });
        assert_eq!(exit, Exit::Failed);
        assert!(condition("id").is_err());
        assert_eq!(condition("id=a=b"), Ok(("id".to_owned(), "a=b".to_owned())));
    }

    #[test]
    fn an_output_folder_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        write_parquet(&out.join("sft/part-00000.parquet"), &batch(&ids(30)), true);
        write_parquet(&out.join("dropped/clean/part-00000.parquet"), &batch(&ids(2)), true);
        std::fs::create_dir_all(out.join("rejected/pages")).unwrap();
        std::fs::write(out.join("rejected/pages/part-00000.parquet"), "PAR1 no more").unwrap();
        std::fs::create_dir_all(out.join(".pipeline/done")).unwrap();
        std::fs::create_dir_all(out.join("lines")).unwrap();
        std::fs::write(out.join("lines/part-00000.jsonl"), "{\"id\":\"a\"}\n").unwrap();
        std::fs::write(out.join("report.html"), "").unwrap();
        let (exit, text) = shown(&args(out));
        assert_eq!(exit, Exit::Done);
        let size =
            |text: String| text.lines().map(|line| line.split("file, ").next().unwrap_or("").to_owned()).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(size(text), @r#"
        lines/  1 row, 1 
            id: string
        sft/  30 rows, 1 
            id: Utf8, text: Utf8, n: Int64, raw: Binary
        dropped/clean/  2 rows, 1 
            id: Utf8, text: Utf8, n: Int64, raw: Binary
        rejected/pages/  rows not counted, 1 
            OUT/rejected/pages/part-00000.parquet is no readable Parquet file: Parquet error: Invalid Parquet file. Corrupt footer
        report.html  the report
        "#);
    }

    #[test]
    fn what_holds_no_rows_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = inspect(&args(folder.path()), 60, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("holds no rows"), "{error}");
        let error = inspect(&args(&folder.path().join("none.parquet")), 60, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("can't read"), "{error}");
    }

    #[test]
    fn a_page_shows_the_rows_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        write_parquet(&out.join("sft/part-00000.parquet"), &batch(&ids(30)), true);
        write_parquet(&out.join("sft/part-00001.parquet"), &batch(&ids(3)), true);
        write_parquet(&out.join("dropped/clean/part-00000.parquet"), &batch(&ids(2)), true);
        std::fs::create_dir_all(out.join("rejected/pages")).unwrap();
        std::fs::write(out.join("rejected/pages/part-00000.parquet"), "PAR1 no more").unwrap();
        let to = folder.path().join("page.html");
        let page_of = |args: Args| {
            assert_eq!(execute(Args { html: Some(to.clone()), ..args }).unwrap(), Exit::Done);
            std::fs::read_to_string(&to).unwrap()
        };
        let page = page_of(Args { rows: Some(31), ..args(&out.join("sft")) });
        assert_eq!(page.matches("<article").count(), 31);
        assert!(page.contains("<small>part-00001.parquet row 0</small>") && page.contains("2 rows more: `--rows` shows more"), "{page}");
        let page = page_of(Args {
            columns: vec!["n".to_owned(), "id".to_owned()],
            r#where: Some(("id".to_owned(), "row017".to_owned())),
            ..args(&out.join("sft"))
        });
        assert_eq!(page.matches("<article").count(), 1);
        assert!(page.contains("<dt><bdi>n</bdi></dt><dd>17</dd>") && !page.contains("text of row"), "{page}");
        // An output: everything in it, and what is damaged says so.
        let page = page_of(Args { rows: Some(1), ..args(&out) });
        let names: Vec<&str> = page.split("<h2><bdi>").skip(1).filter_map(|rest| rest.split('<').next()).collect();
        assert_eq!(names, ["sft/", "dropped/clean/", "rejected/pages/"]);
        assert_eq!((page.matches("<article").count(), page.matches("</section>").count()), (2, 3));
        assert!(page.contains("is no readable Parquet file"), "{page}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_page_is_never_written_over_data_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("sft/part-00000.parquet");
        write_parquet(&data, &batch(&ids(3)), true);
        let before = std::fs::read(&data).unwrap();
        for to in [&data, &folder.path().join("sft/page.html"), &folder.path().join("page")] {
            let error = execute(Args { html: Some(to.clone()), ..args(&folder.path().join("sft")) }).unwrap_err();
            assert_eq!(super::super::exit_of(&error), Exit::Usage, "{error}");
        }
        assert_eq!((std::fs::read(&data).unwrap(), std::fs::read_dir(folder.path()).unwrap().count()), (before, 1));
        let wanted = Args { r#where: Some(("id".to_owned(), "row".to_owned())), html: Some(folder.path().join("a.html")), ..args(&data) };
        assert_eq!(execute(wanted).unwrap(), Exit::Failed);
        assert!(!folder.path().join("a.html").exists());
    }

    #[test]
    fn lines_are_broken_by_width_and_never_inside_a_character() {
        assert_eq!(wrap("one two three", 8, 9), ["one two", "three"]);
        assert_eq!(wrap("日本語日本語", 7, 9), ["日本語", "日本語"]);
        assert_eq!(wrap("日", 1, 9), ["日"]);
        assert_eq!(wrap("", 10, 9), [""]);
        assert_eq!(wrap("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 30, 1), ["aaaaaaaa … 30 more characters"]);
    }
}
