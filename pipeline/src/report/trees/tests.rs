//! Trees drawn from parts as a run leaves them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};

use super::*;
use crate::report::{FromRows, render_with, samples};
use crate::rows::tests::write_parquet;

/// Eight sentences, each a leaf of a tree of four levels.
const SENTENCES: [&str; 8] = [
    "The tide tables for the western harbour were first printed in 1832. ",
    "The clerk who set them in type is said to have corrected the Admiralty twice. ",
    "What survives of his ledger shows the moon's age beside every entry. ",
    "A second column, added later, gives the hour at which the ferry was late. ",
    "Between 1841 and 1846 the ferry was late on one day in nine. ",
    "The harbour master blamed the current, and the pilots blamed the harbour master. ",
    "A survey of the sea bed in 1847 found a bar that no chart had shown. ",
    "After it was dredged, the column stays empty for eleven years.",
];

const QUESTIONS: [&str; 5] = [
    "What do the tide tables and the ledger tell about the harbour between 1832 and 1847?",
    "Who set the tables in type, and what did he correct?",
    "Why was the ferry late, and how was it found out?",
    "Which column of the ledger tells of the ferry?",
    "What did the survey of 1847 find?",
];

/// Sentences of a node.
fn part(path: &str) -> (usize, usize) {
    path.chars()
        .fold((0, 8), |(from, to), step| if step == '0' { (from, usize::midpoint(from, to)) } else { (usize::midpoint(from, to), to) })
}

fn paths() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut index = 0;
    while index < all.len() {
        if all[index].len() < 3 {
            all.extend(["0", "1"].map(|step| format!("{}{step}", all[index])));
        }
        index += 1;
    }
    all
}

/// Rows of nodes of tree `tree` of a root, with the reason for which they were dropped, if they were.
fn rows(root: &str, tree: i32, paths: &[String], dropped: Option<&str>) -> RecordBatch {
    let begin = |sentence: usize| SENTENCES[..sentence].concat().chars().count() as i64;
    let texts = |of: &dyn Fn(&str) -> Option<String>| Arc::new(paths.iter().map(|path| of(path)).collect::<StringArray>()) as ArrayRef;
    let numbers = |of: &dyn Fn(&str) -> i64| Arc::new(paths.iter().map(|path| Some(of(path))).collect::<Int64Array>()) as ArrayRef;
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(&|path| Some(format!("{root}/{tree}/{path}")))),
        ("root_id", texts(&|_| Some(root.to_owned()))),
        ("tree", Arc::new(Int32Array::from(vec![tree; paths.len()]))),
        ("node_path", texts(&|path| Some(path.to_owned()))),
        ("span_start", numbers(&|path| begin(part(path).0))),
        ("span_end", numbers(&|path| begin(part(path).1))),
        ("context", texts(&|path| Some(SENTENCES[part(path).0..part(path).1].concat()))),
        ("question", texts(&|path| Some(QUESTIONS[(path.len() + part(path).0) % 5].to_owned()))),
        ("stop", texts(&|path| (path.len() == 3).then(|| "max_depth".to_owned()))),
    ];
    if let Some(reason) = dropped {
        columns.push(("drop_reason", texts(&|_| Some(reason.to_owned()))));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).expect("columns of one length")
}

fn publish(output: &Path, folder: &str, batches: &[RecordBatch]) {
    let rows = arrow::compute::concat_batches(&batches[0].schema(), batches).expect("one schema");
    write_parquet(&output.join(folder).join("part-00000.parquet"), &rows, false);
}

fn words(section: &str) -> String {
    section.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect::<Vec<_>>().join("")
}

#[test]
fn the_largest_tree_that_fits_is_drawn_with_what_was_dropped_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = paths();
    let (kept, gone): (Vec<String>, Vec<String>) = all.iter().cloned().partition(|path| path != "01" && path != "110");
    publish(folder.path(), "tree", &[rows("articles/a.jsonl@0#0", 0, &all[..3], None), rows("articles/a.jsonl@0#1", 0, &kept, None)]);
    publish(folder.path(), "dropped/unlike", &[rows("articles/a.jsonl@0#1", 0, &gone, Some("similar"))]);
    let record = samples::trees();
    let rows = FromRows::of_output(folder.path(), &record);
    let page = render_with(&record, &rows);
    if let Some(folder) = std::env::var_os("REPORT_SAMPLES") {
        std::fs::write(Path::new(&folder).join("trees.html"), &page).expect("written");
    }
    assert_eq!(rows.trees.matches("<div class=\"qnode").count(), 15);
    assert_eq!(rows.trees.matches("qnode gone").count(), 2);
    assert_eq!(rows.trees.matches("as deep as is allowed").count(), 8);
    let text = words(&rows.trees);
    assert!(text.contains("articles/a.jsonl@0#1, 15 questions in 4 levels, of which 2 were dropped later."), "{text}");
    assert!(text.contains("There are 2 trees in tree/.") && text.contains("dropped: similar"), "{text}");
    // Each node lies in the list of its parent: the second half of the root begins where half of its sentences are.
    let order: Vec<&str> = rows.trees.match_indices("<code>").filter_map(|(at, _)| rows.trees[at + 6..].split("</code>").next()).collect();
    assert_eq!(order[1..], ["0", "00", "000", "001", "01", "010", "011", "1", "10", "100", "101", "11", "110", "111"]);
    let half = SENTENCES[..4].concat().chars().count() as f64 * 100.0 / SENTENCES.concat().chars().count() as f64;
    assert!(rows.trees.contains(&format!("left:{half:.2}%;width:{:.2}%", 100.0 - half)));
    for tag in ["ul", "li", "div", "p", "section", "span", "code", "b", "bdi"] {
        let opened = rows.trees.matches(&format!("<{tag}>")).count() + rows.trees.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, rows.trees.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
    assert!(page.contains("href=\"#trees\"") && page.contains(".qnode{"));
}

#[test]
fn nodes_without_a_parent_stand_where_it_would_and_hostile_ones_are_text() {
    let nodes = |paths: &[&str]| {
        let node = |path: &&str| ((*path).to_owned(), Node { question: format!("q{path}"), ..Node::default() });
        paths.iter().map(node).collect::<BTreeMap<_, _>>()
    };
    let tree = ("root".to_owned(), "2".to_owned());
    let shown = section(&tree, &nodes(&["00", "001", "1", "110"]), 1, "tree");
    assert_eq!(shown.matches("<ul").count(), 1 + 2, "two of them have one below");
    assert!(words(&shown).contains("There is 1 tree in tree/; this is number 2 of its text."), "{}", words(&shown));
    assert_eq!(section(&tree, &BTreeMap::new(), 0, "tree"), "");
    let hostile = Node {
        question: samples::PLANTED.to_owned(),
        context: Some(samples::PLANTED.to_owned()),
        chars: usize::MAX,
        span: Some((0, u64::MAX)),
        stop: Some(samples::PLANTED.to_owned()),
        dropped: Some(samples::PLANTED.to_owned()),
    };
    let all: BTreeMap<String, Node> = (0..200).map(|n| (format!("{n:03}{}", samples::PLANTED), hostile.clone())).collect();
    let shown = section(&(samples::PLANTED.to_owned(), String::new()), &all, usize::MAX, samples::PLANTED);
    assert!(!shown.contains("<script") && !shown.contains('\u{202e}') && shown.contains("137 more are not drawn"));
    assert_eq!(shown.matches("<div class=\"qnode").count(), MOST_NODES);
}

#[test]
fn what_cannot_be_read_or_has_no_such_columns_draws_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = samples::trees();
    assert_eq!(of_output(folder.path(), &record), "");
    publish(folder.path(), "tree", &[rows("a", 0, &paths(), None).project(&[0, 1, 2, 3]).expect("four columns")]);
    assert_eq!(of_output(folder.path(), &record), "");
    std::fs::write(folder.path().join("tree/part-00000.parquet"), "no Parquet").expect("written");
    assert_eq!(of_output(folder.path(), &record), "");
    // A record that somebody else wrote leads nowhere outside.
    let mut other = record;
    other.stages[1].published[0].folder = "../outside".to_owned();
    assert_eq!(of_output(folder.path(), &other), "");
}
