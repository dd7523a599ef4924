//! The tree of a text that was divided again and again, with the question about each part: drawn from rows of the output.
//!
//! Rows are nodes of such trees if they have `root_id`, `node_path` (the way from the root, a character a step) and `question`, whichever stage
//! gave them. Those that a later stage dropped are drawn, too, with the reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::html::esc;
use crate::cells::Cell;
use crate::record::{Published, RunRecord};
use crate::rows::{self, Query};
use crate::show::{self, count};

/// How a tree looks.
pub(crate) const STYLE: &str = include_str!("trees.css");

/// Columns that make rows nodes of a tree.
const NEEDED: [&str; 3] = ["root_id", "node_path", "question"];

/// Columns that say more of a node.
const MORE: [&str; 7] = ["tree", "context", "span_start", "span_end", "stop", "drop_reason", "depth"];

/// Rows of a folder that are looked through for a tree.
const MOST_ROWS: usize = 50_000;

/// Nodes that are drawn.
const MOST_NODES: usize = 63;

/// Characters of a question and of a part of the text.
const QUESTION_CHARS: usize = 240;
const CONTEXT_CHARS: usize = 220;

/// A node of a tree.
#[derive(Debug, Clone, Default, PartialEq)]
struct Node {
    question: String,
    context: Option<String>,
    chars: usize,
    span: Option<(u64, u64)>,
    stop: Option<String>,
    dropped: Option<String>,
}

/// Which tree: of which root, and which of its trees.
type Tree = (String, String);

/// A folder of rows that are nodes.
struct Folder<'r> {
    published: &'r Published,
    paths: Vec<PathBuf>,
    columns: Vec<String>,
}

/// Whether columns of these names make rows nodes of a tree.
pub(crate) fn are_nodes<'n>(names: impl Iterator<Item = &'n str>) -> bool {
    let names: Vec<&str> = names.collect();
    NEEDED.iter().all(|needed| names.contains(needed))
}

/// One tree of an output, as a section of the report; nothing where there is none. What cannot be read is not shown.
pub(crate) fn of_output(output: &Path, record: &RunRecord) -> String {
    let published = record.stages.iter().flat_map(|stage| &stage.published).filter(|published| published.rows > 0);
    let (kept, dropped): (Vec<Folder<'_>>, Vec<Folder<'_>>) = published
        .filter(|published| !published.folder.starts_with("rejected/"))
        .filter_map(|published| folder_of(output, published))
        .partition(|folder| !folder.published.folder.starts_with("dropped/"));
    // The first is nearest to where the tree was grown, and has most of it.
    let Some((tree, n_trees)) = kept.first().and_then(|folder| choose(folder)) else { return String::new() };
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for folder in kept.iter().chain(&dropped) {
        read(folder, &tree, &mut nodes);
    }
    section(&tree, &nodes, n_trees, &kept[0].published.folder)
}

fn folder_of<'r>(output: &Path, published: &'r Published) -> Option<Folder<'r>> {
    // The record may be anybody's; what it names is looked for in its own folder only.
    let is_inside = |name: &str| !name.is_empty() && !name.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    if !is_inside(&published.folder) || !published.parts.iter().all(|part| is_inside(&part.name)) {
        return None;
    }
    let paths: Vec<PathBuf> = published.parts.iter().map(|part| output.join(&published.folder).join(&part.name)).collect();
    let table = rows::describe(paths.first()?).ok()?;
    let has = |name: &&str| table.columns.iter().any(|column| column.name == **name);
    let columns = NEEDED.iter().chain(&MORE).filter(|name| has(name)).map(|name| (*name).to_owned()).collect();
    are_nodes(table.columns.iter().map(|column| column.name.as_str())).then_some(Folder { published, paths, columns })
}

fn get<'r>(row: &'r rows::Row<Cell>, column: &str) -> Option<&'r Cell> {
    row.values.iter().find(|(name, _)| name == column).map(|(_, cell)| cell)
}

fn tree_of(row: &rows::Row<Cell>) -> Option<Tree> {
    let tree = get(row, "tree").and_then(Cell::as_text).unwrap_or_default();
    Some((get(row, "root_id")?.as_text()?.to_owned(), tree.to_owned()))
}

/// The tree with most nodes of those that can be drawn whole, else the smallest one; and how many there are, as far as it was looked.
fn choose(folder: &Folder<'_>) -> Option<(Tree, usize)> {
    let mut sizes: BTreeMap<Tree, usize> = BTreeMap::new();
    let mut left = MOST_ROWS;
    let columns: Vec<String> = folder.columns.iter().filter(|name| ["root_id", "tree"].contains(&name.as_str())).cloned().collect();
    for path in &folder.paths {
        let query = Query { filter: None, columns: Some(&columns), max_chars: 1000 };
        let scanned = rows::scan::<Cell>(path, query, &mut |row| {
            left -= 1;
            if let Some(tree) = tree_of(&row) {
                *sizes.entry(tree).or_default() += 1;
            }
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if scanned.is_err() || left == 0 {
            break;
        }
    }
    let n_trees = sizes.len();
    // Of equals the first.
    let fits = sizes.iter().rev().filter(|(_, size)| **size <= MOST_NODES).max_by_key(|(_, size)| **size);
    let chosen = fits.or_else(|| sizes.iter().min_by_key(|(_, size)| **size));
    chosen.map(|(tree, _)| (tree.clone(), n_trees))
}

/// Adds the nodes of a tree that lie in a folder; one that is there stays.
fn read(folder: &Folder<'_>, tree: &Tree, nodes: &mut BTreeMap<String, Node>) {
    for path in &folder.paths {
        let query = Query { filter: Some(("root_id", &tree.0)), columns: Some(&folder.columns), max_chars: 4000 };
        let scanned = rows::scan::<Cell>(path, query, &mut |row| {
            let text = |name: &str| get(&row, name).and_then(Cell::as_text);
            let number = |name: &str| text(name)?.parse::<u64>().ok();
            if tree_of(&row).as_ref() == Some(tree)
                && let Some(node_path) = text("node_path")
            {
                let chars = if let Some(Cell::Text { chars, .. }) = get(&row, "context") { *chars } else { 0 };
                nodes.entry(node_path.to_owned()).or_insert_with(|| Node {
                    question: show::cut(text("question").unwrap_or_default(), QUESTION_CHARS),
                    context: text("context").map(|context| show::cut(context.trim(), CONTEXT_CHARS)),
                    chars,
                    span: number("span_start").zip(number("span_end")).filter(|(start, end)| start < end),
                    stop: text("stop").map(str::to_owned),
                    dropped: text("drop_reason").map(str::to_owned),
                });
            }
            if nodes.len() > 10 * MOST_NODES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if scanned.is_err() {
            return;
        }
    }
}

fn section(tree: &Tree, nodes: &BTreeMap<String, Node>, n_trees: usize, folder: &str) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let whole = nodes.values().filter_map(|node| node.span).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
    let depth = nodes.keys().map(|path| path.chars().count()).max().unwrap_or(0);
    let dropped = nodes.values().filter(|node| node.dropped.is_some()).count();
    let mut out = String::from("<section id=\"trees\"><h2>A tree of questions</h2>\n");
    let _ = write!(
        out,
        "<p class=\"lead\">One text, divided again and again, and a question about each part: <b><bdi>{}</bdi></b>, {} in {}{}. ",
        esc(&show::visible_line(&show::cut(&tree.0, 200))),
        super::plural(nodes.len() as u64, "question", "questions"),
        super::plural(depth as u64 + 1, "level", "levels"),
        if dropped > 0 { format!(", of which {} dropped later", super::plural(dropped as u64, "was", "were")) } else { String::new() },
    );
    if whole.is_some() {
        out.push_str("The strip shows which part of the text it is. ");
    }
    let _ = write!(
        out,
        "There {} in <code>{}/</code>{}.</p>\n<ul class=\"qtree\">",
        if n_trees == 1 { "is 1 tree".to_owned() } else { format!("are {} trees", count(n_trees as u64)) },
        esc(&show::visible_line(folder)),
        if tree.1.is_empty() || tree.1 == "0" {
            String::new()
        } else {
            format!("; this is number {} of its text", esc(&show::visible_line(&tree.1)))
        },
    );
    let mut left = MOST_NODES;
    // A node whose parent is not there stands where that would: below its nearest ancestor.
    let is_below = |path: &str, above: &str| path.len() > above.len() && path.starts_with(above);
    let is_top = |path: &str| !nodes.keys().any(|above| is_below(path, above));
    for path in nodes.keys().filter(|path| is_top(path)) {
        write_node(path, nodes, whole, &mut left, &mut out);
    }
    out.push_str("</ul>\n");
    if nodes.len() > MOST_NODES {
        let _ = write!(out, "<p class=\"lead\">{} more are not drawn.</p>", count((nodes.len() - MOST_NODES) as u64));
    }
    out.push_str("</section>\n");
    out
}

fn write_node(path: &str, nodes: &BTreeMap<String, Node>, whole: Option<(u64, u64)>, left: &mut usize, out: &mut String) {
    let Some(node) = nodes.get(path).filter(|_| *left > 0) else { return };
    *left -= 1;
    let line = |text: &str| esc(&show::visible_line(text));
    let _ = write!(out, "<li><div class=\"qnode{}\">", if node.dropped.is_some() { " gone" } else { "" });
    if let (Some((start, end)), Some((first, last))) = (node.span, whole) {
        let place = |at: u64| (at - first) as f64 * 100.0 / (last - first) as f64;
        let _ = write!(
            out,
            "<div class=\"qspan\" title=\"characters {} to {}\"><i style=\"left:{:.2}%;width:{:.2}%\"></i></div>",
            count(start),
            count(end),
            place(start),
            (place(end) - place(start)).max(0.5)
        );
    }
    let _ = write!(out, "<p class=\"qq\" dir=\"auto\">{}</p>", line(&node.question));
    if let Some(context) = &node.context {
        let _ = write!(out, "<p class=\"qc\" dir=\"auto\">{}</p>", line(context));
    }
    let depth = path.chars().count();
    let mut about =
        vec![if depth == 0 { "root".to_owned() } else { format!("depth {depth} · <code>{}</code>", line(&show::cut(path, 40))) }];
    if node.chars > 0 {
        about.push(format!("{} characters", count(node.chars as u64)));
    }
    if let Some(stop) = &node.stop {
        about.push(format!("<span class=\"qstop\">{}</span>", line(why(stop))));
    }
    if let Some(reason) = &node.dropped {
        about.push(format!("<span class=\"drop\">dropped: {}</span>", line(reason)));
    }
    let _ = write!(out, "<p class=\"qa\">{}</p></div>", about.join(" · "));
    // The nodes below it that have none between.
    let below: Vec<&String> =
        nodes.range(path.to_owned()..).map(|(other, _)| other).take_while(|other| other.starts_with(path)).skip(1).collect();
    let mut children: Vec<&String> = Vec::new();
    for other in below {
        if !children.last().is_some_and(|child| other.starts_with(child.as_str())) {
            children.push(other);
        }
    }
    if !children.is_empty() {
        out.push_str("<ul>");
        children.into_iter().for_each(|child| write_node(child, nodes, whole, left, out));
        out.push_str("</ul>");
    }
    out.push_str("</li>");
}

/// Why a node was not divided, in words.
fn why(stop: &str) -> &str {
    match stop {
        "leaf" => "too short to divide",
        "no_border" => "no place to divide it at",
        "max_depth" => "as deep as is allowed",
        "max_nodes" => "as many nodes as are allowed",
        "not_shorter" => "its parts were no shorter",
        "hallucination" => "its parts were not in the text",
        other => other,
    }
}

#[cfg(test)]
mod tests;
