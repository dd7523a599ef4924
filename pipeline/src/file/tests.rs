//! What a person is told about a pipeline file.

use miette::{GraphicalReportHandler, GraphicalTheme};
use stages::Port;

use super::*;
use crate::graph::{Edge, NodeInput};
use crate::test_stages::TABLE;

/// Loads `text` as `web.yaml` in a folder that has `a.txt`, `b.txt` and `in/c.txt`.
fn load_sets(text: &str, sets: &[&str]) -> Result<Graph, Problems> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("in")).expect("a folder in it");
    for file in ["a.txt", "b.txt", "in/c.txt"] {
        std::fs::write(folder.path().join(file), "x").expect("a file in it");
    }
    let env = |name: &str| match name {
        "TWELVE" => Some("12".to_owned()),
        "FILE" => Some("a.txt".to_owned()),
        _ => None,
    };
    let options = LoadOptions { sets: sets.iter().map(|set| (*set).to_owned()).collect(), env: Box::new(env), ..LoadOptions::default() };
    load_with(&folder.path().join("web.yaml"), text, &options, TABLE)
}

fn loaded(text: &str) -> Graph {
    load_sets(text, &[]).unwrap_or_else(|problems| panic!("{}", render(&problems)))
}

/// What a person sees, without the folder, which has another name in each run.
fn told(text: &str, sets: &[&str]) -> String {
    match load_sets(text, sets) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(problems) => {
            let shown = render(&problems);
            let folder = problems.folder().display().to_string();
            shown.replace(&format!("{folder}/"), "").replace(&folder, "FOLDER")
        }
    }
}

pub(super) fn render(problems: &Problems) -> String {
    let mut shown = String::new();
    let theme = GraphicalTheme::unicode_nocolor();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(400).with_links(false).without_cause_chain();
    handler.render_report(&mut shown, problems).expect("a String takes all");
    shown.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

impl Problems {
    fn folder(&self) -> &Path {
        self.path().parent().expect("the file lies in a folder")
    }
}

const HEAD: &str = "version: 1\nname: web\nstages:\n";

#[test]
fn a_good_file_becomes_a_graph() {
    let graph = loaded(
        "version: 1
name: web
seed: 7
write: {format: jsonl}
max_rejected: 1%
stages:
  # Before what it reads, on purpose.
  long: {use: keep_long, from: rows, min_chars: 2, keep: true, max_rejected: 0.5}
  rows: {use: read_rows, path: a.txt}
  more: {use: read_rows, path: b.txt, write: {format: parquet}}
  all: {use: join_all, from: {one: [rows, more], two: long.dropped}}
",
    );
    assert_eq!(graph.seed, 7);
    assert_eq!(graph.output.file_name().and_then(|name| name.to_str()), Some("web"));
    let ids: Vec<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["rows", "long", "more", "all"]);
    let long = &graph.nodes[1];
    assert!(long.keep && !graph.nodes[0].keep);
    assert_eq!(long.inputs, [NodeInput { port: Port::FROM, from: vec![Edge { node: 0, port: Port::OUT }] }]);
    assert_eq!(long.settings, serde_json::json!({"min_chars": 2, "share": 0.0, "unit": "chars", "word": null, "spaces": false}));
    assert_eq!((long.max_rejected.share, graph.nodes[0].max_rejected.share), (0.5, 0.01));
    assert_eq!(long.write.format, datasets::WriteFormat::Jsonl);
    assert_eq!(graph.nodes[2].write.format, datasets::WriteFormat::Parquet);
    assert_eq!(graph.nodes[2].notes, ["1 columns"]);
    let all = &graph.nodes[3];
    assert_eq!(all.inputs[0].port, Port::named("one"));
    assert_eq!(all.inputs[0].from, [Edge { node: 0, port: Port::OUT }, Edge { node: 2, port: Port::OUT }]);
    assert_eq!(all.inputs[1].from, [Edge { node: 1, port: Port::DROPPED }]);
}

#[test]
fn seven_mistakes_are_told_at_once_each_at_its_place() {
    insta::assert_snapshot!(told(
        "version: 1
name: web
sede: 7
stages:
  rows: {use: read_row, path: a.txt}
  nums:
    use: read_rows
    path: missing.txt
    columns: [{name: text, type: number}]
  texts: {use: read_rows, path: b.txt}
  long:
    use: keep_long
    from: texts
    min_chars: many
    shaer: 0.5
  short: {use: keep_long, from: nums, min_chars: 1}
  all:
    use: join_all
    from: [long, text]
",
        &[],
    ), @r#"
      × 7 problems in web.yaml

    Error:
      × the file has no setting `sede`
       ╭─[web.yaml:3:1]
     2 │ name: web
     3 │ sede: 7
       · ──┬─
       ·   ╰── unknown setting
     4 │ stages:
       ╰────
      help: did you mean `seed`?

    Error:
      × stage `rows` uses `read_row`, which is no stage type
       ╭─[web.yaml:5:15]
     4 │ stages:
     5 │   rows: {use: read_row, path: a.txt}
       ·               ────┬───
       ·                   ╰── unknown stage type
     6 │   nums:
       ╰────
      help: did you mean `read_rows`? `pipeline stages` lists all types

    Error:
      × stage `nums` (read_rows) finds no input: no file matches missing.txt
       ╭─[web.yaml:8:11]
     7 │     use: read_rows
     8 │     path: missing.txt
       ·           ─────┬─────
       ·                ╰── no such file
     9 │     columns: [{name: text, type: number}]
       ╰────
      help: relative paths begin at the pipeline file's folder, FOLDER

    Error:
      × stage `long` (keep_long): `min_chars` must be a whole number, 0 or more
        ╭─[web.yaml:14:16]
     13 │     from: texts
     14 │     min_chars: many
        ·                ──┬─
        ·                  ╰── found text "many"
     15 │     shaer: 0.5
        ╰────

    Error:
      × stage `long` (keep_long) has no setting `shaer`
        ╭─[web.yaml:15:5]
     14 │     min_chars: many
     15 │     shaer: 0.5
        ·     ──┬──
        ·       ╰── unknown setting
     16 │   short: {use: keep_long, from: nums, min_chars: 1}
        ╰────
      help: did you mean `share`? `pipeline stages keep_long` lists them all

    Error:
      × stage `short` (keep_long) needs column `text: Utf8`, but the input has `text: Int64`
        ╭─[web.yaml:16:33]
     15 │     shaer: 0.5
     16 │   short: {use: keep_long, from: nums, min_chars: 1}
        ·                                 ──┬─
        ·                                   ╰── has no `text: Utf8`
     17 │   all:
        ╰────
      help: `text` is there as Int64; `sql` can cast it

    Error:
      × stage `all` (join_all) reads `text`, which is no stage of this file
        ╭─[web.yaml:19:18]
     18 │     use: join_all
     19 │     from: [long, text]
        ·                  ──┬─
        ·                    ╰── no such stage
        ╰────
      help: did you mean `texts`?
    "#);
}

#[test]
fn a_cycle_is_told_as_a_chain() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}
  a: {{use: keep_long, from: [rows, c], min_chars: 1}}
  b: {{use: keep_long, from: a, min_chars: 1}}
  c: {{use: keep_long, from: b, min_chars: 1}}
  behind: {{use: keep_long, from: c, min_chars: 1}}
  self: {{use: join_all, from: self}}
"), &[]), @r"
      × 2 problems in web.yaml

    Error:
      × the stages read each other in a circle: a -> b -> c -> a
       ╭─[web.yaml:5:36]
     4 │   rows: {use: read_rows, path: a.txt}
     5 │   a: {use: keep_long, from: [rows, c], min_chars: 1}
       ·                                    ┬
       ·                                    ╰── `a` reads `c`
     6 │   b: {use: keep_long, from: a, min_chars: 1}
       ·                             ┬
       ·                             ╰── `b` reads `a`
     7 │   c: {use: keep_long, from: b, min_chars: 1}
       ·                             ┬
       ·                             ╰── `c` reads `b`
     8 │   behind: {use: keep_long, from: c, min_chars: 1}
       ╰────
      help: rows must come from a source: let one of them read something else

    Error:
      × the stages read each other in a circle: self -> self
       ╭─[web.yaml:9:31]
     8 │   behind: {use: keep_long, from: c, min_chars: 1}
     9 │   self: {use: join_all, from: self}
       ·                               ──┬─
       ·                                 ╰── `self` reads `self`
       ╰────
      help: rows must come from a source: let one of them read something else
    ");
}

#[test]
fn a_missing_column_is_told_with_those_there_are() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows:
    use: read_rows
    path: a.txt
    columns: [{{name: id, type: number}}, {{name: txet}}]
  long: {{use: keep_long, from: rows, min_chars: 1}}
  behind: {{use: keep_long, from: long, min_chars: 1}}
"), &[]), @r"
     × stage `long` (keep_long) needs column `text: Utf8`, but the input has `id: Int64`, `txet: Utf8`
      ╭─[web.yaml:8:32]
    7 │     columns: [{name: id, type: number}, {name: txet}]
    8 │   long: {use: keep_long, from: rows, min_chars: 1}
      ·                                ──┬─
      ·                                  ╰── has no `text: Utf8`
    9 │   behind: {use: keep_long, from: long, min_chars: 1}
      ╰────
     help: did you mean `txet`?
    ");
}

#[test]
fn inputs_that_do_not_agree_are_told_both() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}
  more: {{use: read_rows, path: b.txt, columns: [{{name: text}}, {{name: n, type: number}}]}}
  all: {{use: join_all, from: [rows, more]}}
"), &[]), @r"
     × stage `all` (join_all) reads one after the other what has different columns
      ╭─[web.yaml:6:31]
    5 │   more: {use: read_rows, path: b.txt, columns: [{name: text}, {name: n, type: number}]}
    6 │   all: {use: join_all, from: [rows, more]}
      ·                               ──┬─  ──┬─
      ·                                 │     ╰── has `n` too
      ·                                 ╰── the columns it must have
      ╰────
     help: `rows` has `text: Utf8`
           `more` has `text: Utf8`, `n: Int64`
           `sql` makes them agree
    ");
}

#[test]
fn a_typo_in_a_stage_or_a_setting_gets_the_nearest_name() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: raed_rows, path: a.txt}}
  texts: {{use: read_rows, paht: b.txt}}
  more: {{use: read_rows, path: b.txt, columns: [{{name: text, type: txt}}]}}
  long: {{use: keep_long, from: mroe, min_chars: 1, unit: byte}}
  longer: {{use: keep_long, from: more.droped, min_chars: 1}}
"), &[]), @r#"
      × 5 problems in web.yaml

    Error:
      × stage `rows` uses `raed_rows`, which is no stage type
       ╭─[web.yaml:4:15]
     3 │ stages:
     4 │   rows: {use: raed_rows, path: a.txt}
       ·               ────┬────
       ·                   ╰── unknown stage type
     5 │   texts: {use: read_rows, paht: b.txt}
       ╰────
      help: did you mean `read_rows`? `pipeline stages` lists all types

    Error:
      × stage `texts` (read_rows) has no setting `paht`
       ╭─[web.yaml:5:27]
     4 │   rows: {use: raed_rows, path: a.txt}
     5 │   texts: {use: read_rows, paht: b.txt}
       ·                           ──┬─
       ·                             ╰── unknown setting
     6 │   more: {use: read_rows, path: b.txt, columns: [{name: text, type: txt}]}
       ╰────
      help: did you mean `path`? `pipeline stages read_rows` lists them all

    Error:
      × stage `more` (read_rows): `columns[0].type` must be one of `text`, `number`
       ╭─[web.yaml:6:68]
     5 │   texts: {use: read_rows, paht: b.txt}
     6 │   more: {use: read_rows, path: b.txt, columns: [{name: text, type: txt}]}
       ·                                                                    ─┬─
       ·                                                                     ╰── found text "txt"
     7 │   long: {use: keep_long, from: mroe, min_chars: 1, unit: byte}
       ╰────
      help: did you mean `text`?

    Error:
      × stage `long` (keep_long) reads `mroe`, which is no stage of this file
       ╭─[web.yaml:7:32]
     6 │   more: {use: read_rows, path: b.txt, columns: [{name: text, type: txt}]}
     7 │   long: {use: keep_long, from: mroe, min_chars: 1, unit: byte}
       ·                                ──┬─
       ·                                  ╰── no such stage
     8 │   longer: {use: keep_long, from: more.droped, min_chars: 1}
       ╰────
      help: did you mean `more`?

    Error:
      × stage `long` (keep_long): `unit` must be one of `chars`, `bytes`
       ╭─[web.yaml:7:58]
     6 │   more: {use: read_rows, path: b.txt, columns: [{name: text, type: txt}]}
     7 │   long: {use: keep_long, from: mroe, min_chars: 1, unit: byte}
       ·                                                          ──┬─
       ·                                                            ╰── found text "byte"
     8 │   longer: {use: keep_long, from: more.droped, min_chars: 1}
       ╰────
      help: did you mean `bytes`?
    "#);
}

#[test]
fn wrong_types_and_ranges_say_what_was_wanted_and_found() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: 12}}
  a: {{use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}}
  b: {{use: keep_long, from: rows, min_chars: \"3\", max_rejected: 5, write: {{format: csv}}}}
  c: {{use: keep_long, from: rows, min_chars: true, word: two words}}
  d:
    use: keep_long
    from:
    min_chars:
  e: hello
"), &[]), @r#"
      × 13 problems in web.yaml

    Error:
      × stage `rows` (read_rows): `path` must be text
       ╭─[web.yaml:4:32]
     3 │ stages:
     4 │   rows: {use: read_rows, path: 12}
       ·                                ─┬
       ·                                 ╰── found the number 12
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
       ╰────
      help: quote it: "12"

    Error:
      × stage `a` (keep_long): `min_chars` must be a whole number, 0 or more
       ╭─[web.yaml:5:46]
     4 │   rows: {use: read_rows, path: 12}
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
       ·                                              ─┬
       ·                                               ╰── found the number -1
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ╰────

    Error:
      × stage `a` (keep_long): `share` must be a number from 0 to 1
       ╭─[web.yaml:5:57]
     4 │   rows: {use: read_rows, path: 12}
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
       ·                                                         ─┬─
       ·                                                          ╰── found the number 1.5
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ╰────

    Error:
      × stage `a` (keep_long): `spaces` must be true or false
       ╭─[web.yaml:5:70]
     4 │   rows: {use: read_rows, path: 12}
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
       ·                                                                      ─┬─
       ·                                                                       ╰── found text "yes"
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ╰────
      help: write `true` or `false`

    Error:
      × stage `a` (keep_long): `keep` must be true or false
       ╭─[web.yaml:5:81]
     4 │   rows: {use: read_rows, path: 12}
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
       ·                                                                                 ┬
       ·                                                                                 ╰── found the number 1
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ╰────

    Error:
      × stage `b` (keep_long): `min_chars` must be a whole number, 0 or more
       ╭─[web.yaml:6:46]
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ·                                              ─┬─
       ·                                               ╰── found text "3"
     7 │   c: {use: keep_long, from: rows, min_chars: true, word: two words}
       ╰────
      help: write 3 without quotes

    Error:
      × stage `b` (keep_long): `max_rejected` must be a share of the rows, from 0 to 1 or from 0% to 100%
       ╭─[web.yaml:6:65]
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ·                                                                 ┬
       ·                                                                 ╰── found the number 5
     7 │   c: {use: keep_long, from: rows, min_chars: true, word: two words}
       ╰────
      help: write `0.001` or `0.1%`

    Error:
      × stage `b` (keep_long): `write.format` must be one of `parquet`, `jsonl`, `jsonl.zst`
       ╭─[web.yaml:6:84]
     5 │   a: {use: keep_long, from: rows, min_chars: -1, share: 1.5, spaces: yes, keep: 1}
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
       ·                                                                                    ─┬─
       ·                                                                                     ╰── found text "csv"
     7 │   c: {use: keep_long, from: rows, min_chars: true, word: two words}
       ╰────

    Error:
      × stage `c` (keep_long): `min_chars` must be a whole number, 0 or more
       ╭─[web.yaml:7:46]
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
     7 │   c: {use: keep_long, from: rows, min_chars: true, word: two words}
       ·                                              ──┬─
       ·                                                ╰── found `true`
     8 │   d:
       ╰────

    Error:
      × stage `c` (keep_long): `word` can't be used: a word has no spaces
       ╭─[web.yaml:7:58]
     6 │   b: {use: keep_long, from: rows, min_chars: "3", max_rejected: 5, write: {format: csv}}
     7 │   c: {use: keep_long, from: rows, min_chars: true, word: two words}
       ·                                                          ────┬────
       ·                                                              ╰── here
     8 │   d:
       ╰────
      help: `pipeline stages keep_long` explains its settings

    Error:
      × stage `d` (keep_long): `from` must name a stage
        ╭─[web.yaml:10:5]
      9 │     use: keep_long
     10 │     from:
        ·     ──┬─
        ·       ╰── found nothing
     11 │     min_chars:
        ╰────
      help: write `from: id`, or `from: [id, id]`

    Error:
      × stage `d` (keep_long): `min_chars` must be a whole number, 0 or more
        ╭─[web.yaml:11:5]
     10 │     from:
     11 │     min_chars:
        ·     ────┬────
        ·         ╰── found nothing
     12 │   e: hello
        ╰────

    Error:
      × stage `e` must be a mapping with `use` and settings
        ╭─[web.yaml:12:6]
     11 │     min_chars:
     12 │   e: hello
        ·      ──┬──
        ·        ╰── found text "hello"
        ╰────
      help: write `e: {use: …, from: …}`
    "#);
}

#[test]
fn what_serde_or_the_stage_refuses_is_told_at_the_setting() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}
  a: {{use: keep_long, from: rows, min_chars: 1, word: two words}}
  b: {{use: keep_long, from: rows, min_chars: 13}}
"), &[]), @r"
      × 2 problems in web.yaml

    Error:
      × stage `a` (keep_long): `word` can't be used: a word has no spaces
       ╭─[web.yaml:5:55]
     4 │   rows: {use: read_rows, path: a.txt}
     5 │   a: {use: keep_long, from: rows, min_chars: 1, word: two words}
       ·                                                       ────┬────
       ·                                                           ╰── here
     6 │   b: {use: keep_long, from: rows, min_chars: 13}
       ╰────
      help: `pipeline stages keep_long` explains its settings

    Error:
      × stage `b` (keep_long): 13 brings bad luck
       ╭─[web.yaml:6:46]
     5 │   a: {use: keep_long, from: rows, min_chars: 1, word: two words}
     6 │   b: {use: keep_long, from: rows, min_chars: 13}
       ·                                              ─┬
       ·                                               ╰── `min_chars`
       ╰────
      help: take 12
    ");
}

#[test]
fn ids_that_cannot_be_folders_are_refused() {
    insta::assert_snapshot!(told(&format!("{HEAD}  dropped: {{use: read_rows, path: a.txt}}
  _x: {{use: read_rows, path: a.txt}}
  a/b: {{use: read_rows, path: a.txt}}
"), &[]), @r"
      × 3 problems in web.yaml

    Error:
      × `dropped` can't be a stage's id
       ╭─[web.yaml:4:3]
     3 │ stages:
     4 │   dropped: {use: read_rows, path: a.txt}
       ·   ───┬───
       ·      ╰── taken
     5 │   _x: {use: read_rows, path: a.txt}
       ╰────
      help: the output has a folder of that name for rows that leave the pipeline

    Error:
      × `_x` can't be a stage's id
       ╭─[web.yaml:5:3]
     4 │   dropped: {use: read_rows, path: a.txt}
     5 │   _x: {use: read_rows, path: a.txt}
       ·   ─┬
       ·    ╰── not an id
     6 │   a/b: {use: read_rows, path: a.txt}
       ╰────
      help: an id begins with a letter or digit and has letters, digits, `_` and `-`: it becomes a folder of the output

    Error:
      × `a/b` can't be a stage's id
       ╭─[web.yaml:6:3]
     5 │   _x: {use: read_rows, path: a.txt}
     6 │   a/b: {use: read_rows, path: a.txt}
       ·   ─┬─
       ·    ╰── not an id
       ╰────
      help: an id begins with a letter or digit and has letters, digits, `_` and `-`: it becomes a folder of the output
    ");
}

#[test]
fn a_stage_needs_the_right_kind_of_from() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt, from: more}}
  more: {{use: read_rows, path: b.txt}}
  a: {{use: keep_long, min_chars: 1}}
  b: {{use: keep_long, min_chars: 1, from: {{x: more}}}}
  c: {{use: keep_long, min_chars: 1, from: [more, more]}}
  d: {{use: keep_long, min_chars: 1, from: []}}
  e: {{use: keep_long, min_chars: 1, from: more.rejected}}
"), &[]), @r"
      × 6 problems in web.yaml

    Error:
      × stage `rows` (read_rows) is a source: it reads no stage
       ╭─[web.yaml:4:39]
     3 │ stages:
     4 │   rows: {use: read_rows, path: a.txt, from: more}
       ·                                       ──┬─
       ·                                         ╰── `from` has no meaning here
     5 │   more: {use: read_rows, path: b.txt}
       ╰────
      help: remove `from`

    Error:
      × stage `a` (keep_long) needs `from`: the stage whose rows it reads
       ╭─[web.yaml:6:3]
     5 │   more: {use: read_rows, path: b.txt}
     6 │   a: {use: keep_long, min_chars: 1}
       ·   ┬
       ·   ╰── `from` is missing
     7 │   b: {use: keep_long, min_chars: 1, from: {x: more}}
       ╰────
      help: the other stages are `rows`, `more`, `b`, `c`, `d`, `e`

    Error:
      × stage `b` (keep_long) has one input, so `from` is an id or a list of ids
       ╭─[web.yaml:7:44]
     6 │   a: {use: keep_long, min_chars: 1}
     7 │   b: {use: keep_long, min_chars: 1, from: {x: more}}
       ·                                            ┬
       ·                                            ╰── found a mapping
     8 │   c: {use: keep_long, min_chars: 1, from: [more, more]}
       ╰────

    Error:
      × stage `c` (keep_long) reads `more` twice
       ╭─[web.yaml:8:50]
     7 │   b: {use: keep_long, min_chars: 1, from: {x: more}}
     8 │   c: {use: keep_long, min_chars: 1, from: [more, more]}
       ·                                                  ──┬─
       ·                                                    ╰── the second
     9 │   d: {use: keep_long, min_chars: 1, from: []}
       ╰────
      help: remove one of them: every row would be there twice

    Error:
      × stage `d` (keep_long): `from` names nothing
        ╭─[web.yaml:9:43]
      8 │   c: {use: keep_long, min_chars: 1, from: [more, more]}
      9 │   d: {use: keep_long, min_chars: 1, from: []}
        ·                                           ┬
        ·                                           ╰── empty
     10 │   e: {use: keep_long, min_chars: 1, from: more.rejected}
        ╰────

    Error:
      × stage `e` (keep_long) reads `more.rejected`, an output that `more` does not have
        ╭─[web.yaml:10:43]
      9 │   d: {use: keep_long, min_chars: 1, from: []}
     10 │   e: {use: keep_long, min_chars: 1, from: more.rejected}
        ·                                           ──────┬──────
        ·                                                 ╰── no such output
        ╰────
      help: what was rejected is kept under `rejected/more`; no stage reads it
    ");
}

#[test]
fn the_top_of_the_file_is_checked_too() {
    insta::assert_snapshot!(told("version: 2\nname: \"\"\nseed: -1\noutput: gs://bucket/x\ncheckpoints: slow\nmax_rejected: lots\nllm: {}\nstages: {}\n", &[]), @r#"
      × 8 problems in web.yaml

    Error:
      × this program reads version 1 of the pipeline file
       ╭─[web.yaml:1:10]
     1 │ version: 2
       ·          ┬
       ·          ╰── found the number 2
     2 │ name: ""
       ╰────
      help: write `version: 1`

    Error:
      × the file: `name` must be a text that is not empty
       ╭─[web.yaml:2:7]
     1 │ version: 2
     2 │ name: ""
       ·       ─┬
       ·        ╰── found text ""
     3 │ seed: -1
       ╰────

    Error:
      × the file: `seed` must be a whole number, 0 or more
       ╭─[web.yaml:3:7]
     2 │ name: ""
     3 │ seed: -1
       ·       ─┬
       ·        ╰── found the number -1
     4 │ output: gs://bucket/x
       ╰────

    Error:
      × `gs://` is not supported; wanted a path, `s3://…` or `hf://datasets/…`
       ╭─[web.yaml:4:9]
     3 │ seed: -1
     4 │ output: gs://bucket/x
       ·         ──────┬──────
       ·               ╰── found an address
     5 │ checkpoints: slow
       ╰────
      help: name a folder, or `s3://BUCKET/PREFIX`

    Error:
      × the file: `checkpoints` must be one of `fast`, `small`, `discard`
       ╭─[web.yaml:5:14]
     4 │ output: gs://bucket/x
     5 │ checkpoints: slow
       ·              ──┬─
       ·                ╰── found text "slow"
     6 │ max_rejected: lots
       ╰────

    Error:
      × the file: `max_rejected` must be a share of the rows, from 0 to 1 or from 0% to 100%
       ╭─[web.yaml:6:15]
     5 │ checkpoints: slow
     6 │ max_rejected: lots
       ·               ──┬─
       ·                 ╰── found text "lots"
     7 │ llm: {}
       ╰────
      help: write `0.001` or `0.1%`

    Error:
      × the file has no setting `llm`
       ╭─[web.yaml:7:1]
     6 │ max_rejected: lots
     7 │ llm: {}
       · ─┬─
       ·  ╰── unknown setting
     8 │ stages: {}
       ╰────
      help: did you mean `llms`?

    Error:
      × the file: `stages` must be a mapping that is not empty
       ╭─[web.yaml:8:9]
     7 │ llm: {}
     8 │ stages: {}
       ·         ┬
       ·         ╰── found an empty mapping
       ╰────
    "#);
    insta::assert_snapshot!(told("name: ../x\n", &[]), @r"
      × 3 problems in web.yaml

    Error:
      × the file needs `version`
       ╭─[web.yaml:1:1]
     1 │ name: ../x
       · ▲
       ╰────
      help: write `version: 1` in its first line

    Error:
      × the file needs `stages`
       ╭─[web.yaml:1:1]
     1 │ name: ../x
       · ▲
       · ╰── `stages` is missing
       ╰────
      help: `stages` is a mapping: The stages, by id.

    Error:
      × the name `../x` can't be a folder's name
       ╭─[web.yaml:1:7]
     1 │ name: ../x
       ·       ──┬─
       ·         ╰── here
       ╰────
      help: the output is `out/<name>`: choose another name, or say `output`
    ");
}

#[test]
fn the_output_and_the_inputs_keep_out_of_each_other() {
    insta::assert_snapshot!(told(&format!("output: a.txt/out\n{HEAD}  rows: {{use: read_rows, path: a.txt}}\n"), &[]), @r"
     × can't write to the output folder a.txt/out
      ╭─[web.yaml:1:9]
    1 │ output: a.txt/out
      ·         ────┬────
      ·             ╰── a.txt is no folder
    2 │ version: 1
      ╰────
     help: name a folder that you can write to
    ");
    insta::assert_snapshot!(told(&format!("output: .\n{HEAD}  rows: {{use: read_rows, path: a.txt}}\n"), &[]), @r"
     × the pipeline file lies in its own output folder
      ╭─[web.yaml:1:9]
    1 │ output: .
      ·         ┬
      ·         ╰── FOLDER
    2 │ version: 1
      ╰────
     help: name a folder of its own for the output
    ");
}

#[test]
fn an_input_in_the_output_and_the_reverse_are_refused() {
    insta::assert_snapshot!(told(&format!("output: in\n{HEAD}  rows: {{use: read_rows, path: in/c.txt}}\n"), &[]), @r"
     × stage `rows` (read_rows) reads in/c.txt, which lies in the output folder
      ╭─[web.yaml:5:32]
    4 │ stages:
    5 │   rows: {use: read_rows, path: in/c.txt}
      ·                                ────┬───
      ·                                    ╰── inside the output
      ╰────
     help: let `output` name a folder that no stage reads from
    ");
    insta::assert_snapshot!(told(&format!("output: in/out\n{HEAD}  rows: {{use: read_rows, path: in}}\n"), &[]), @r"
     × stage `rows` (read_rows) would read the output of this pipeline: in reaches into it
      ╭─[web.yaml:5:32]
    4 │ stages:
    5 │   rows: {use: read_rows, path: in}
      ·                                ─┬
      ·                                 ╰── the output is in/out
      ╰────
     help: let `output` name a folder that no stage reads from
    ");
}

#[test]
fn variables_are_expanded_and_typed_as_yaml_would() {
    let graph = loaded(&format!(
        "{HEAD}  rows: {{use: read_rows, path: \"${{FILE}}\"}}
  long:
    use: keep_long
    from: rows
    min_chars: ${{TWELVE}}
    word: \"${{TWELVE}}\"
    share: ${{SHARE:-0.5}}
"
    ));
    assert_eq!(graph.nodes[1].settings, serde_json::json!({"min_chars": 12, "share": 0.5, "unit": "chars", "word": "12", "spaces": false}));
    assert!(graph.text.contains("${FILE}"), "the text is kept as written");
}

#[test]
fn an_unset_variable_is_told_and_nothing_behind_it() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: \"data/${{NO_SUCH}}/x\"}}
  long: {{use: keep_long, from: rows, min_chars: 1}}
"), &[]), @r#"
     × the variable `NO_SUCH` is not set
      ╭─[web.yaml:4:38]
    3 │ stages:
    4 │   rows: {use: read_rows, path: "data/${NO_SUCH}/x"}
      ·                                      ─────┬────
      ·                                           ╰── here
    5 │   long: {use: keep_long, from: rows, min_chars: 1}
      ╰────
     help: set it (`NO_SUCH=… pipeline …`), or give a default: `${NO_SUCH:-default}`
    "#);
}

#[test]
fn a_bare_variable_in_braces_is_told_to_be_quoted() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: ${{FILE}}}}\n"), &[]), @r#"
     × the file is no valid YAML: while parsing a flow mapping, did not find expected ',' or '}'
      ╭─[web.yaml:4:33]
    3 │ stages:
    4 │   rows: {use: read_rows, path: ${FILE}}
      ·                                 ┬
      ·                                 ╰── here
      ╰────
     help: quote it: inside `{…}` and `[…]`, YAML reads the braces of `${NAME}` itself, so write "${NAME}"
    "#);
}

#[test]
fn set_edits_the_tree() {
    let text = format!("{HEAD}  rows: {{use: read_rows, path: no.txt}}\n  long: {{use: keep_long, from: rows, min_chars: 1}}\n");
    let sets =
        ["stages.rows.path=a.txt", "stages.long.min_chars=5", "seed=9", "stages.long.word=*.x", "stages.rows.columns=[{name: text}]"];
    let graph = load_sets(&text, &sets).unwrap_or_else(|problems| panic!("{}", render(&problems)));
    assert_eq!(graph.seed, 9);
    assert_eq!(graph.nodes[1].settings["min_chars"], 5);
    assert_eq!(graph.nodes[1].settings["word"], "*.x");
}

#[test]
fn a_wrong_set_is_told_at_the_argument() {
    let text = format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}\n  long: {{use: keep_long, from: rows, min_chars: 1}}\n");
    let sets = [
        "stages.lnog.min_chars=5",
        "stages.long.min_chars=x",
        "stages.long.min_char=5",
        "seed",
        "stages.rows.columns=[a",
        "name.x=1",
        "stages..a=1",
    ];
    insta::assert_snapshot!(told(&text, &sets), @r#"
      × 7 problems in web.yaml

    Error:
      × `stages` has no `lnog`
       ╭─[--set:1:8]
     1 │ stages.lnog.min_chars=5
       ·        ──┬─
       ·          ╰── not in the file
       ╰────
      help: did you mean `long`?

    Error:
      × stage `long` (keep_long): `min_chars` must be a whole number, 0 or more
       ╭─[--set:1:23]
     1 │ stages.long.min_chars=x
       ·                       ┬
       ·                       ╰── found text "x"
       ╰────

    Error:
      × stage `long` (keep_long) has no setting `min_char`
       ╭─[--set:1:13]
     1 │ stages.long.min_char=5
       ·             ────┬───
       ·                 ╰── unknown setting
       ╰────
      help: did you mean `min_chars`? `pipeline stages keep_long` lists them all

    Error:
      × `--set seed` has no `=`
       ╭─[--set:1:1]
     1 │ seed
       · ──┬─
       ·   ╰── here
       ╰────
      help: write `--set stages.unique.jaccard_threshold=0.7`

    Error:
      × the value of --set is no valid YAML: unclosed bracket '['
       ╭─[--set:1:21]
     1 │ stages.rows.columns=[a
       ·                     ┬
       ·                     ╰── here
       ╰────

    Error:
      × `name` is text "web", so it has no `x`
       ╭─[--set:1:6]
     1 │ name.x=1
       ·      ┬
       ·      ╰── nothing to set here
       ╰────

    Error:
      × `--set stages..a` has an empty name
       ╭─[--set:1:8]
     1 │ stages..a=1
       ·        ▲
       ·        ╰── a name is missing here
       ╰────
    "#);
}

#[test]
fn a_key_that_stands_twice_is_told_with_both_places() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}\n  rows: {{use: read_rows, path: b.txt}}\nname: again\n"), &[]), @r"
      × 2 problems in web.yaml

    Error:
      × key `rows` stands twice
       ╭─[web.yaml:4:3]
     3 │ stages:
     4 │   rows: {use: read_rows, path: a.txt}
       ·   ──┬─
       ·     ╰── the first
     5 │   rows: {use: read_rows, path: b.txt}
       ·   ──┬─
       ·     ╰── the second
     6 │ name: again
       ╰────
      help: rename or remove one of them

    Error:
      × key `name` stands twice
       ╭─[web.yaml:2:1]
     1 │ version: 1
     2 │ name: web
       · ──┬─
       ·   ╰── the first
     3 │ stages:
       ╰────
       ╭─[web.yaml:6:1]
     5 │   rows: {use: read_rows, path: b.txt}
     6 │ name: again
       · ──┬─
       ·   ╰── the second
       ╰────
      help: rename or remove one of them
    ");
}

#[test]
fn hostile_yaml_is_refused_in_words() {
    let bomb: Vec<String> = (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    let deep: Vec<String> = (0..10_000).map(|n| format!("{}a:\n", " ".repeat(n.min(300)))).collect();
    let cases = [
        ("alias bomb", format!("a0: &a0 [x]\n{}", bomb.concat())),
        ("alias chain", (1..100).fold("a0: &a0 [x]\n".to_owned(), |all, n| format!("{all}a{n}: &a{n} [*a{}]\n", n - 1))),
        ("deep flow", "[".repeat(10_000)),
        ("deep block", deep.concat()),
        ("deep list", "- ".repeat(10_000)),
        ("recursive alias", "&a [*a]".to_owned()),
        ("NUL", "name: a\0b\n".to_owned()),
        ("escape", "name: \u{1b}[31mred\n".to_owned()),
        ("empty", String::new()),
        ("comment alone", "# nothing\n".to_owned()),
        ("a list", "- a\n".to_owned()),
        ("two documents", "a: 1\n---\nb: 2\n".to_owned()),
        ("tag", "name: !secret x\n".to_owned()),
        ("tab", "stages:\n\tx: 1\n".to_owned()),
        ("not finite", "seed: .inf\n".to_owned()),
        ("open quote", "name: \"abc\nseed: 1\n".to_owned()),
        ("unknown alias", "name: *x\n".to_owned()),
        ("null key", "null: x\n".to_owned()),
        ("list as key", "? [a]\n: x\n".to_owned()),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(name, text)| match load_sets(text, &[]) {
            Ok(_) => format!("{name}: nothing is wrong"),
            Err(problems) => {
                render(&problems);
                let first = problems.lines().first().cloned().unwrap_or_default();
                format!("{name}: {}", first.rsplit_once("web.yaml").map_or("", |(_, rest)| rest))
            }
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    alias bomb: :1:9: the file is no valid YAML: its aliases (`*name`) stand for more than 100000 values
    alias chain: :1:9: the file is no valid YAML: lists and mappings are nested deeper than 24 levels
    deep flow: :1:25: the file is no valid YAML: lists and mappings are nested deeper than 24 levels
    deep block: :25:25: the file is no valid YAML: lists and mappings are nested deeper than 24 levels
    deep list: :1:49: the file is no valid YAML: lists and mappings are nested deeper than 24 levels
    recursive alias: :1:5: the file is no valid YAML: Recursive reference not allowed here
    NUL: :1:8: the file is no valid YAML: unexpected character: `\u{0}'
    escape: :1:7: the file is no valid YAML: unexpected character: `\u{1b}'
    empty: :1:1: the file is empty: a pipeline needs `version`, `name` and `stages`
    comment alone: :1:1: the file is empty: a pipeline needs `version`, `name` and `stages`
    a list: :1:1: the file must be a mapping: a pipeline needs `version`, `name` and `stages`
    two documents: :3:1: the file is no valid YAML: only single YAML document expected but multiple found
    tag: :1:15: the file is no valid YAML: unsupported tag `!secret`
    tab: :2:2: the file is no valid YAML: tabs disallowed within this context (block indentation)
    not finite: :1:7: the file is no valid YAML: value `.inf` is not a finite number
    open quote: :1:7: the file is no valid YAML: unclosed quote
    unknown alias: :1:7: the file is no valid YAML: reference to unknown value
    null key: :1:1: the file is no valid YAML: null is not allowed here
    list as key: :1:3: the file is no valid YAML: expected string scalar
    ");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    let text = format!("\u{feff}{HEAD}  rows: {{use: read_rows, path: a.txt}}\n  long: {{use: keep_long, from: rows, min_chars: 1}}\n");
    assert_eq!(loaded(&text.replace('\n', "\r\n")).nodes.len(), 2);
    let wrong = text.replace("min_chars", "mim_chars").replace('\n', "\r\n");
    insta::assert_snapshot!(told(&wrong, &[]), @r"
     × stage `long` (keep_long) has no setting `mim_chars`
      ╭─[web.yaml:5:38]
    4 │   rows: {use: read_rows, path: a.txt}
    5 │   long: {use: keep_long, from: rows, mim_chars: 1}
      ·                                      ────┬────
      ·                                          ╰── unknown setting
      ╰────
     help: did you mean `min_chars`? `pipeline stages keep_long` lists them all
    ");
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("web.yaml");
    let line = || {
        let problems = load(&path, &LoadOptions::default()).err().expect("it can't be read");
        render(&problems).replace(&folder.path().display().to_string(), "FOLDER")
    };
    insta::assert_snapshot!(line(), @r"
    × can't read the pipeline file FOLDER/web.yaml: No such file or directory (os error 2)
    help: `pipeline init` writes one to start from
    ");
    std::fs::write(&path, b"name: a\nseed: \xff\n").expect("the folder is there");
    insta::assert_snapshot!(line(), @r"
    × can't read the pipeline file FOLDER/web.yaml: byte 14, in line 2, is not UTF-8
    help: save it as UTF-8
    ");
    std::fs::write(&path, vec![b' '; MAX_BYTES + 1]).expect("the folder is there");
    insta::assert_snapshot!(line(), @r"  × can't read the pipeline file FOLDER/web.yaml: it is larger than 4 MiB");
    std::fs::remove_file(&path).expect("it is there");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("the folder is there");
    insta::assert_snapshot!(line(), @r"  × can't read the pipeline file FOLDER/web.yaml: it is larger than 4 MiB");
    let problems = load(folder.path(), &LoadOptions::default()).err().expect("a folder is no file");
    assert!(problems.to_string().ends_with("it is a folder"), "{problems}");
}

#[test]
fn many_problems_and_long_lines_stay_readable() {
    let many: Vec<String> = (0..300).map(|n| format!("  s{n}: {{use: nothing, from: t{n}}}\n")).collect();
    let shown = told(&format!("{HEAD}{}", many.concat()), &[]);
    insta::assert_snapshot!(shown.lines().next().unwrap_or_default(), @r"  × 600 problems in web.yaml; these are the first 100");
    let long = format!("{HEAD}  rows: {{use: read_rows, path: a.txt, x: {}}}\n", "x".repeat(1 << 20));
    insta::assert_snapshot!(told(&long, &[]), @r"
    × 4:39: stage `rows` (read_rows) has no setting `x`
    help: it has `use`, `path`, `columns`, `keep`, `write`, `dropped`, `expect`, `max_rejected`; `pipeline stages read_rows` explains them
    ");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-c:{}\\[\\]\"'$&*! \n\t|>%#-]{0,60}") {
        if let Err(problems) = load_sets(&format!("{HEAD}  {text}"), &[]) {
            render(&problems);
        }
        _ = load_sets(HEAD, &[&text]).map_err(|problems| render(&problems));
    }
}

#[test]
fn the_schema_of_the_file_has_a_branch_for_each_stage_type() {
    let schema = schema::file_schema(TABLE);
    assert_eq!(schema["$defs"]["stage"]["allOf"].as_array().map(Vec::len), Some(3));
    let stage = &schema["$defs"]["stage_keep_long"];
    assert_eq!(stage["properties"]["min_chars"]["minimum"], 0);
    assert_eq!(stage["required"], serde_json::json!(["use", "from", "min_chars"]));
    let mut refs = Vec::new();
    collect_refs(&schema, &mut refs);
    assert!(refs.len() > 5, "{refs:?}");
    for target in refs {
        assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
    }
}

fn collect_refs(schema: &serde_json::Value, refs: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            refs.extend(object.get("$ref").and_then(|target| target.as_str()).map(str::to_owned));
            object.values().for_each(|value| collect_refs(value, refs));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_refs(item, refs)),
        _ => {}
    }
}

#[test]
fn no_setting_has_the_name_of_a_key_that_every_stage_has() {
    for spec in STAGES.iter().chain(TABLE) {
        let schema = spec.schema().to_value();
        let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        assert_eq!(own.filter(|name| schema::COMMON.contains(name)).collect::<Vec<_>>(), [""; 0], "{}", spec.name);
    }
}

#[test]
fn the_schema_in_the_repository_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.schema.json");
    let current = format!("{:#}\n", file_schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &current).expect("the repository can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == current, "pipeline.schema.json is out of date: run `UPDATE_GOLDEN=1 cargo test -p pipeline`");
}

#[test]
fn a_stage_that_tags_has_its_verdicts_in_its_rows() {
    let graph = loaded(&format!(
        "{HEAD}  rows: {{use: read_rows, path: a.txt}}
  long: {{use: keep_long, from: rows, min_chars: 1, on_fail: tag, expect: {{not_null: [text]}}}}
  longer: {{use: keep_long, from: long, min_chars: 2, on_fail: tag}}
  plain: {{use: keep_long, from: rows, min_chars: 2, on_fail: drop}}
"
    ));
    let ports = |node: usize| graph.nodes[node].outputs.iter().map(|(port, _)| port.to_string()).collect::<Vec<_>>();
    assert_eq!((ports(1), ports(3)), (vec!["out".to_owned()], vec!["out".to_owned(), "dropped".to_owned()]));
    let schema = graph.nodes[2].outputs.get(&Port::OUT).unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names,
        [
            "text",
            "long_drop_reason",
            "long_drop_value",
            "long_drop_threshold",
            "long_duplicate_of",
            "longer_drop_reason",
            "longer_drop_value",
            "longer_drop_threshold",
            "longer_duplicate_of",
        ]
    );
    let field = schema.field_with_name("long_drop_reason").unwrap();
    assert_eq!(field.metadata()["description"], "why the stage dropped the row, as `long` tagged it; null where it passed");
}

#[test]
fn tags_that_cannot_be_are_told() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt, columns: [{{name: text}}, {{name: a_drop_value, type: number}}]}}
  a: {{use: keep_long, from: rows, min_chars: 1, on_fail: tag}}
  b: {{use: keep_long, from: rows, min_chars: 1, on_fail: tag, dropped: none}}
  c: {{use: keep_long, from: rows, min_chars: 1, on_fail: tag}}
  d: {{use: join_all, from: c.dropped}}
  e: {{use: join_all, from: c, on_fail: tag}}
  f: {{use: keep_long, from: rows, min_chars: 1, on_fail: keep}}
"), &[]), @r#"
      × 5 problems in web.yaml

    Error:
      × stage `a` (keep_long) adds column `a_drop_value`, which the input already has
       ╭─[web.yaml:5:49]
     4 │   rows: {use: read_rows, path: a.txt, columns: [{name: text}, {name: a_drop_value, type: number}]}
     5 │   a: {use: keep_long, from: rows, min_chars: 1, on_fail: tag}
       ·                                                 ───┬───
       ·                                                    ╰── adds what the stage says of each row
     6 │   b: {use: keep_long, from: rows, min_chars: 1, on_fail: tag, dropped: none}
       ╰────
      help: the columns are called by the stage's id: choose another id, or rename the column before this stage

    Error:
      × stage `b` (keep_long) drops no row: with `on_fail: tag` all stay, so `dropped` has no meaning
       ╭─[web.yaml:6:49]
     5 │   a: {use: keep_long, from: rows, min_chars: 1, on_fail: tag}
     6 │   b: {use: keep_long, from: rows, min_chars: 1, on_fail: tag, dropped: none}
       ·                                                 ───┬───       ───┬───
       ·                                                    │             ╰── of rows that are dropped
       ·                                                    ╰── none is
     7 │   c: {use: keep_long, from: rows, min_chars: 1, on_fail: tag}
       ╰────
      help: remove one of them

    Error:
      × stage `d` (join_all) reads `c.dropped`, an output that `c` does not have
       ╭─[web.yaml:8:28]
     7 │   c: {use: keep_long, from: rows, min_chars: 1, on_fail: tag}
     8 │   d: {use: join_all, from: c.dropped}
       ·                            ────┬────
       ·                                ╰── no such output
     9 │   e: {use: join_all, from: c, on_fail: tag}
       ╰────
      help: `c` has `on_fail: tag`: read `c`, in which `c_drop_reason` says why it would have dropped a row

    Error:
      × stage `e` (join_all) takes no `on_fail`: it drops no rows, or none that have a place among those it gives
        ╭─[web.yaml:9:31]
      8 │   d: {use: join_all, from: c.dropped}
      9 │   e: {use: join_all, from: c, on_fail: tag}
        ·                               ───┬───
        ·                                  ╰── not for this stage
     10 │   f: {use: keep_long, from: rows, min_chars: 1, on_fail: keep}
        ╰────
      help: the stages that take it are `keep_long`

    Error:
      × stage `f` (keep_long): `on_fail` must be one of `drop`, `tag`
        ╭─[web.yaml:10:58]
      9 │   e: {use: join_all, from: c, on_fail: tag}
     10 │   f: {use: keep_long, from: rows, min_chars: 1, on_fail: keep}
        ·                                                          ──┬─
        ·                                                            ╰── found text "keep"
        ╰────
    "#);
}

#[test]
fn dropped_rows_of_different_columns_are_no_list() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}
  more: {{use: read_rows, path: b.txt, columns: [{{name: text}}, {{name: n, type: number}}]}}
  a: {{use: keep_long, from: rows, min_chars: 1}}
  b: {{use: keep_long, from: more, min_chars: 1}}
  all: {{use: join_all, from: [a.dropped, b.dropped]}}
  gone: {{use: join_all, from: a.rejected}}
"), &[]), @r"
      × 2 problems in web.yaml

    Error:
      × stage `all` (join_all) reads one after the other what has different columns
       ╭─[web.yaml:8:31]
     7 │   b: {use: keep_long, from: more, min_chars: 1}
     8 │   all: {use: join_all, from: [a.dropped, b.dropped]}
       ·                               ────┬────  ────┬────
       ·                                   │          ╰── has `n` too
       ·                                   ╰── the columns it must have
     9 │   gone: {use: join_all, from: a.rejected}
       ╰────
      help: `a.dropped` has `text: Utf8`, `drop_reason: Utf8`, `drop_value: Float64`, `drop_threshold: Float64`, `duplicate_of: Utf8`
            `b.dropped` has `text: Utf8`, `n: Int64`, `drop_reason: Utf8`, `drop_value: Float64`, `drop_threshold: Float64`, `duplicate_of: Utf8`
            `sql` makes them agree

    Error:
      × stage `gone` (join_all) reads `a.rejected`, an output that `a` does not have
       ╭─[web.yaml:9:31]
     8 │   all: {use: join_all, from: [a.dropped, b.dropped]}
     9 │   gone: {use: join_all, from: a.rejected}
       ·                               ─────┬────
       ·                                    ╰── no such output
       ╰────
      help: what was rejected is kept under `rejected/a`; no stage reads it
    ");
}

#[test]
fn expectations_that_nothing_could_fail_are_refused() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt, expect: {{rows: \">= 90%\", dropped_share: \"< 60\"}}}}
"), &[]), @r#"
      × 2 problems in web.yaml

    Error:
      × stage `rows` (read_rows): `rows`: a number of rows is no share
       ╭─[web.yaml:4:54]
     3 │ stages:
     4 │   rows: {use: read_rows, path: a.txt, expect: {rows: ">= 90%", dropped_share: "< 60"}}
       ·                                                      ────┬───
       ·                                                          ╰── says nothing
       ╰────
      help: write a number, such as `>= 1000`; `dropped_share` is a share

    Error:
      × stage `rows` (read_rows): `dropped_share`: a share is at most 1, or 100%
       ╭─[web.yaml:4:79]
     3 │ stages:
     4 │   rows: {use: read_rows, path: a.txt, expect: {rows: ">= 90%", dropped_share: "< 60"}}
       ·                                                                               ───┬──
       ·                                                                                  ╰── says nothing
       ╰────
      help: is `< 60%` meant?
    "#);
}

#[test]
fn what_is_wrong_with_expectations_is_told_with_what_is_wrong_with_settings() {
    insta::assert_snapshot!(told(&format!("{HEAD}  rows: {{use: read_rows, path: a.txt}}
  a: {{use: keep_long, from: rows, min_chars: many, expect: {{rows: lots}}}}
  b: {{use: keep_long, from: rows, min_chars: 13, expect: {{not_null: [txet], dropped_share: 5}}}}
  c: {{use: keep_long, from: rows, min_chars: 13, expect: {{not_null: [txet]}}}}
  d: {{use: keep_long, from: nowhere, min_chars: 1, expect: {{rejected_share: none}}}}
"), &[]), @r#"
      × 9 problems in web.yaml

    Error:
      × stage `a` (keep_long): `min_chars` must be a whole number, 0 or more
       ╭─[web.yaml:5:46]
     4 │   rows: {use: read_rows, path: a.txt}
     5 │   a: {use: keep_long, from: rows, min_chars: many, expect: {rows: lots}}
       ·                                              ──┬─
       ·                                                ╰── found text "many"
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
       ╰────

    Error:
      × stage `a` (keep_long): `rows`: a bound is `<`, `<=`, `==`, `>=` or `>` and a number, such as `>= 1000` or `< 5%`, not "lots"
       ╭─[web.yaml:5:67]
     4 │   rows: {use: read_rows, path: a.txt}
     5 │   a: {use: keep_long, from: rows, min_chars: many, expect: {rows: lots}}
       ·                                                                   ──┬─
       ·                                                                     ╰── no bound
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
       ╰────

    Error:
      × stage `b` (keep_long): 13 brings bad luck
       ╭─[web.yaml:6:46]
     5 │   a: {use: keep_long, from: rows, min_chars: many, expect: {rows: lots}}
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
       ·                                              ─┬
       ·                                               ╰── `min_chars`
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
       ╰────
      help: take 12

    Error:
      × stage `b` (keep_long) expects something of `txet`, a column it does not give
       ╭─[web.yaml:6:70]
     5 │   a: {use: keep_long, from: rows, min_chars: many, expect: {rows: lots}}
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
       ·                                                                      ──┬─
       ·                                                                        ╰── no such column
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
       ╰────
      help: did you mean `text`?

    Error:
      × stage `b` (keep_long): `expect.dropped_share` must be text
       ╭─[web.yaml:6:92]
     5 │   a: {use: keep_long, from: rows, min_chars: many, expect: {rows: lots}}
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
       ·                                                                                            ┬
       ·                                                                                            ╰── found the number 5
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
       ╰────
      help: quote it: "5"

    Error:
      × stage `c` (keep_long): 13 brings bad luck
       ╭─[web.yaml:7:46]
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
       ·                                              ─┬
       ·                                               ╰── `min_chars`
     8 │   d: {use: keep_long, from: nowhere, min_chars: 1, expect: {rejected_share: none}}
       ╰────
      help: take 12

    Error:
      × stage `c` (keep_long) expects something of `txet`, a column it does not give
       ╭─[web.yaml:7:70]
     6 │   b: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet], dropped_share: 5}}
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
       ·                                                                      ──┬─
       ·                                                                        ╰── no such column
     8 │   d: {use: keep_long, from: nowhere, min_chars: 1, expect: {rejected_share: none}}
       ╰────
      help: did you mean `text`?

    Error:
      × stage `d` (keep_long) reads `nowhere`, which is no stage of this file
       ╭─[web.yaml:8:29]
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
     8 │   d: {use: keep_long, from: nowhere, min_chars: 1, expect: {rejected_share: none}}
       ·                             ───┬───
       ·                                ╰── no such stage
       ╰────
      help: the other stages are `rows`, `a`, `b`, `c`

    Error:
      × stage `d` (keep_long): `rejected_share`: a bound is `<`, `<=`, `==`, `>=` or `>` and a number, such as `>= 1000` or `< 5%`, not "none"
       ╭─[web.yaml:8:77]
     7 │   c: {use: keep_long, from: rows, min_chars: 13, expect: {not_null: [txet]}}
     8 │   d: {use: keep_long, from: nowhere, min_chars: 1, expect: {rejected_share: none}}
       ·                                                                             ──┬─
       ·                                                                               ╰── no bound
       ╰────
    "#);
}

#[test]
fn no_setting_of_a_stage_has_the_name_of_a_key_that_all_stages_have() {
    for spec in stages::registry::STAGES {
        let schema = spec.schema().to_value();
        let mut settings = schema["properties"].as_object().into_iter().flat_map(|settings| settings.keys());
        assert_eq!(settings.find(|name| super::schema::COMMON.contains(&name.as_str())), None, "{}", spec.name);
    }
}
