//! What a person is told about models.

use super::*;
use crate::file::tests::render;
use crate::file::{LoadOptions, load_with};
use crate::graph::Graph;
use crate::test_stages::MAKERS;

/// A pipeline of a stage that asks `local`, with these lines behind its stages.
fn file(models: &str) -> String {
    format!(
        "version: 1
name: web
stages:
  made: {{use: make_rows, rows: 3, parts: 1}}
  asked: {{use: ask_slowly, from: made, seen: file, window: 2, llm: local}}
{models}"
    )
}

fn load(folder: &Path, models: &str, sets: &[&str], asks: bool) -> Result<Graph, String> {
    let keys: Env = Box::new(|name| match name {
        "SET" => Some("a secret".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    });
    let options = LoadOptions {
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        keys: if asks { Some(keys) } else { None },
        ..LoadOptions::default()
    };
    let here = folder.display().to_string();
    load_with(&folder.join("web.yaml"), &file(models), &options, MAKERS)
        .map_err(|problems| render(&problems).replace(&format!("{here}/"), "").replace(&here, "FOLDER"))
}

fn told(models: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    load(folder.path(), models, &[], true).err().unwrap_or_else(|| "nothing is wrong".to_owned())
}

fn graph(models: &str) -> Graph {
    let folder = tempfile::tempdir().expect("a folder");
    load(folder.path(), models, &[], true).unwrap_or_else(|told| panic!("{told}"))
}

#[test]
fn all_that_is_wrong_with_models_is_told_at_once_each_at_its_place() {
    insta::assert_snapshot!(told(
        "llms:
  local: {modle: a, endpoint: \"http://127.0.0.1:1/v1\"}
  not a name: {model: a, endpoint: \"http://127.0.0.1:1/v1\"}
  slow: {model: a, endpoint: \"http://127.0.0.1:1/v1\", max_in_flight: 0, structured_output: yaml}
  list: [1]
answers: out/web/answers
"
    ), @r#"
      × 6 problems in web.yaml

    Error:
      × `llms.local` has no setting `modle`
       ╭─[web.yaml:7:11]
     6 │ llms:
     7 │   local: {modle: a, endpoint: "http://127.0.0.1:1/v1"}
       ·           ──┬──
       ·             ╰── unknown setting
     8 │   not a name: {model: a, endpoint: "http://127.0.0.1:1/v1"}
       ╰────
      help: did you mean `model`?

    Error:
      × `not a name` can't be the name of a model
       ╭─[web.yaml:8:3]
     7 │   local: {modle: a, endpoint: "http://127.0.0.1:1/v1"}
     8 │   not a name: {model: a, endpoint: "http://127.0.0.1:1/v1"}
       ·   ─────┬────
       ·        ╰── here
     9 │   slow: {model: a, endpoint: "http://127.0.0.1:1/v1", max_in_flight: 0, structured_output: yaml}
       ╰────
      help: take letters, digits, `_` and `-`, a letter or digit first

    Error:
      × `llms.slow`: `max_in_flight` must be a whole number, 1 or more
        ╭─[web.yaml:9:70]
      8 │   not a name: {model: a, endpoint: "http://127.0.0.1:1/v1"}
      9 │   slow: {model: a, endpoint: "http://127.0.0.1:1/v1", max_in_flight: 0, structured_output: yaml}
        ·                                                                      ┬
        ·                                                                      ╰── found the number 0
     10 │   list: [1]
        ╰────

    Error:
      × `llms.slow`: `structured_output` must be one of `json_schema`, `json_object`, `prompt`
        ╭─[web.yaml:9:92]
      8 │   not a name: {model: a, endpoint: "http://127.0.0.1:1/v1"}
      9 │   slow: {model: a, endpoint: "http://127.0.0.1:1/v1", max_in_flight: 0, structured_output: yaml}
        ·                                                                                            ──┬─
        ·                                                                                              ╰── found text "yaml"
     10 │   list: [1]
        ╰────

    Error:
      × `llms.list` must be a mapping
        ╭─[web.yaml:10:9]
      9 │   slow: {model: a, endpoint: "http://127.0.0.1:1/v1", max_in_flight: 0, structured_output: yaml}
     10 │   list: [1]
        ·         ┬
        ·         ╰── found a list of 1
     11 │ answers: out/web/answers
        ╰────

    Error:
      × `answers` lies in the output folder, and has to outlive it: answers were paid for
        ╭─[web.yaml:11:10]
     10 │   list: [1]
     11 │ answers: out/web/answers
        ·          ───────┬───────
        ·                 ╰── inside the output
        ╰────
      help: name a folder beside the output
    "#);
}

#[test]
fn a_stage_that_names_no_model_is_told_which_there_are() {
    insta::assert_snapshot!(told("llms: {other: {model: a, endpoint: \"http://127.0.0.1:1/v1\"}}\n"), @r#"
     × stage `asked` (ask_slowly): `llms` has no entry `local`
      ╭─[web.yaml:5:68]
    4 │   made: {use: make_rows, rows: 3, parts: 1}
    5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
      ·                                                                    ──┬──
      ·                                                                      ╰── `llm`
    6 │ llms: {other: {model: a, endpoint: "http://127.0.0.1:1/v1"}}
      ╰────
     help: `llms` has `other`
    "#);
    insta::assert_snapshot!(told(""), @r#"
     × stage `asked` (ask_slowly): `llms` has no entry `local`
      ╭─[web.yaml:5:68]
    4 │   made: {use: make_rows, rows: 3, parts: 1}
    5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
      ·                                                                    ──┬──
      ·                                                                      ╰── `llm`
      ╰────
     help: add `llms: {local: {endpoint: "http://127.0.0.1:8080/v1", model: …}}` beside `stages`
    "#);
    insta::assert_snapshot!(told("llms: 3\n"), @r#"
      × 2 problems in web.yaml

    Error:
      × stage `asked` (ask_slowly): `llms` has no entry `local`
       ╭─[web.yaml:5:68]
     4 │   made: {use: make_rows, rows: 3, parts: 1}
     5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
       ·                                                                    ──┬──
       ·                                                                      ╰── `llm`
     6 │ llms: 3
       ╰────
      help: add `llms: {local: {endpoint: "http://127.0.0.1:8080/v1", model: …}}` beside `stages`

    Error:
      × `llms` must be a mapping, from names to models
       ╭─[web.yaml:6:7]
     5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
     6 │ llms: 3
       ·       ┬
       ·       ╰── found the number 3
       ╰────
      help: write `llms: {local: {endpoint: "http://127.0.0.1:8080/v1", model: …}}`
    "#);
}

#[test]
fn a_variable_that_is_not_set_is_named_where_models_are_asked() {
    let models =
        "llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\", api_key_env: LLM_KEY, headers_env: {X-Team: EMPTY, X-Set: SET}}}\n";
    insta::assert_snapshot!(told(models), @r#"
      × 2 problems in web.yaml

    Error:
      × `llms.local`: the variable `LLM_KEY` of `api_key_env` is not set
       ╭─[web.yaml:6:74]
     5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
     6 │ llms: {local: {model: a, endpoint: "http://127.0.0.1:1/v1", api_key_env: LLM_KEY, headers_env: {X-Team: EMPTY, X-Set: SET}}}
       ·                                                                          ───┬───
       ·                                                                             ╰── names a variable that is not there
       ╰────
      help: set it: `export LLM_KEY=…`; `run --offline-llm` asks nobody, and needs none

    Error:
      × `llms.local`: the variable `EMPTY` of `headers_env.X-Team` is not set
       ╭─[web.yaml:6:105]
     5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
     6 │ llms: {local: {model: a, endpoint: "http://127.0.0.1:1/v1", api_key_env: LLM_KEY, headers_env: {X-Team: EMPTY, X-Set: SET}}}
       ·                                                                                                         ──┬──
       ·                                                                                                           ╰── names a variable that is not there
       ╰────
      help: set it: `export EMPTY=…`; `run --offline-llm` asks nobody, and needs none
    "#);
    let folder = tempfile::tempdir().expect("a folder");
    assert!(load(folder.path(), models, &[], false).is_ok(), "nobody is asked");
    // Nor is it needed for one that no stage asks.
    let idle = "llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\"}, idle: {model: a, endpoint: \"http://127.0.0.1:1/v1\", api_key_env: LLM_KEY}}\n";
    assert_eq!(graph(idle).notes, ["`llms.idle`: no stage asks it"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_shown_to_nobody() {
    let secrets = ["sk-proj-1234567890abcdef", "Bearer abcdefghijkl", "4f3c2b1a4f3c2b1a4f3c2b1a4f3c2b1a", "hunter 2", "gsk_abcdefghijkl"];
    for secret in secrets {
        for models in [
            format!("llms: {{local: {{model: a, endpoint: \"http://127.0.0.1:1/v1\", api_key_env: \"{secret}\"}}}}\n"),
            format!(
                "llms:\n  local:\n    endpoint: \"http://127.0.0.1:1/v1\"\n    headers_env: {{Authorization: \"{secret}\"}}\n    modle: a\n"
            ),
            format!("llms:\n  local:\n    model: a\n    api_key: \"{secret}\"\n    endpoint: \"http://127.0.0.1:1/v1\"\n"),
            format!("llms: {{local: {{model: a, endpoint: \"http://127.0.0.1:1/v1\", extra: {{authorization: \"{secret}\"}}}}}}\n"),
        ] {
            let told = told(&models);
            assert!(!told.contains(secret) && told.contains("****"), "{told}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let models = "llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\"}}\n";
        let told = load(folder.path(), models, &[&format!("llms.local.api_key_env={secret}")], true).err().expect("refused");
        assert!(!told.contains(secret), "{told}");
    }
    for url in ["https://me:planted@example.com/v1", "https://example.com/v1?api_key=planted"] {
        for models in [
            format!("llms: {{local: {{model: a, endpoint: \"{url}\"}}}}\n"),
            format!("llms:\n  local:\n    modle: a\n    endpoint: [\"{url}\"]\n"),
        ] {
            let told = told(&models);
            assert!(!told.contains("planted") && told.contains("****"), "{told}");
        }
    }
    insta::assert_snapshot!(told("llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\", api_key_env: sk-1234567890abcdef}}\n"), @r#"
     × `llms.local`: `api_key_env` wants the name of a variable, and what stands there is none; it is not shown, for it may be a secret
      ╭─[web.yaml:6:74]
    5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
    6 │ llms: {local: {model: a, endpoint: "http://127.0.0.1:1/v1", api_key_env: *******************}}
      ·                                                                          ─────────┬─────────
      ·                                                                                   ╰── not shown
      ╰────
     help: put the secret into a variable, `export LLM_KEY=…`, and write `LLM_KEY` here; a secret that stood in a file should be changed
    "#);
    insta::assert_snapshot!(told("llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\", extra: {api_key: sk-1234567890abcdef}}}\n"), @r#"
     × `llms.local`: `extra.api_key` looks like a key, which has no place in a file that others read
      ╭─[web.yaml:6:78]
    5 │   asked: {use: ask_slowly, from: made, seen: file, window: 2, llm: local}
    6 │ llms: {local: {model: a, endpoint: "http://127.0.0.1:1/v1", extra: {api_key: *******************}}}
      ·                                                                              ─────────┬─────────
      ·                                                                                       ╰── not shown
      ╰────
     help: put it into a variable, and name that: `api_key_env: NAME`, or `headers_env: {HEADER: NAME}`
    "#);
}

#[test]
fn names_are_no_secrets() {
    for name in ["OPENAI_API_KEY", "LLM_KEY", "_x", "k1", "My_Very_Long_Variable_Name_1", "SKY_KEY"] {
        assert!(is_variable(name) && !is_secret(name), "{name}");
    }
    for text in ["", "1KEY", "A-B", "A B", "$KEY", "KÉY"] {
        assert!(!is_variable(text), "{text}");
    }
    assert!(!is_secret("smollm2-135m-instruct") && !is_secret("gpt-4o-mini-2024-07-18"));
}

#[test]
fn answers_lie_beside_the_output_unless_the_file_says_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = "llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\"}}\n";
    let answers = |more: &str, sets: &[&str]| {
        let graph = load(folder.path(), &format!("{models}{more}"), sets, true).unwrap_or_else(|told| panic!("{told}"));
        graph.answers.strip_prefix(folder.path()).expect("in the folder").display().to_string()
    };
    assert_eq!(answers("", &[]), "out/.answers");
    assert_eq!(answers("output: here/there\n", &[]), "here/.answers");
    assert_eq!(answers("answers: kept/answers\n", &[]), "kept/answers");
    assert_eq!(answers("", &["answers=x"]), "x");
    assert!(!folder.path().join("out").exists() && !folder.path().join("kept").exists(), "nothing is made before something is kept");
    let told = |more: &str| load(folder.path(), &format!("{models}{more}"), &[], true).err().expect("refused");
    assert!(told("answers: out/web\n").contains("has to outlive it"));
    assert!(told("answers: out/web/x/../y\n").contains("has to outlive it"));
    assert!(told("answers: \"s3://bucket/answers\"\n").contains("answers are kept in a folder"));
    std::fs::write(folder.path().join("file"), "x").expect("written");
    assert!(told("answers: file/answers\n").contains("file is no folder"));
    // Where nobody is asked, nothing needs to be written.
    assert!(load(folder.path(), &format!("{models}answers: file/answers\n"), &[], false).is_ok());
}

#[test]
fn an_output_on_object_storage_has_its_answers_beside_the_file() {
    let root = crate::file::node::parse("name: a", 0, 0).expect("YAML");
    let output = PathBuf::from("s3://bucket/prefix");
    let folder = answers_folder(&root, Path::new("/data"), Some(&output), false, &mut Vec::new());
    assert_eq!(folder, Path::new("/data/.answers"));
}

#[test]
fn the_fingerprint_knows_the_model_and_not_how_it_is_reached() {
    let of = |models: &str| crate::plan::own_fingerprint(&graph(models), 1);
    let one = of("llms: {local: {model: a, endpoint: \"http://127.0.0.1:1/v1\"}}\n");
    let same = of(
        "llms: {local: {model: a, endpoint: [\"http://127.0.0.1:2/v1\", \"http://127.0.0.1:3/v1\"], max_in_flight: 3, budget: {max_requests: 3}, api_key_env: SET}}\n",
    );
    assert_eq!(one, same);
    for other in ["model: b", "model: a, revision: x", "model: a, extra: {k: 1}"] {
        assert_ne!(of(&format!("llms: {{local: {{{other}, endpoint: \"http://127.0.0.1:1/v1\"}}}}\n")), one, "{other}");
    }
}

#[test]
fn the_variable_of_a_key_is_not_expanded_anywhere() {
    let keyed = |setting: &str| format!("llms: {{local: {{model: m, endpoint: \"http://127.0.0.1:1/v1\", {setting}}}}}\n");
    for setting in ["api_key_env: SET", "headers_env: {X-Key: SET}", "api_key_env: \"${KEY_NAME}\""] {
        for place in ["name: \"x ${SET}\"", "name: \"${SET:-none}\"", "name: [\"${SET}\"]"] {
            let folder = tempfile::tempdir().expect("a folder");
            let text = file(&keyed(setting)).replace("name: web", place);
            let env: Env = Box::new(|name| match name {
                "SET" => Some("hunter2".to_owned()),
                "KEY_NAME" => Some("SET".to_owned()),
                _ => None,
            });
            let options = LoadOptions { env, ..LoadOptions::default() };
            let problems = load_with(&folder.path().join("web.yaml"), &text, &options, MAKERS).err().expect("refused");
            let told = render(&problems);
            assert!(told.contains("the variable `SET` holds a key of `llms`") && !told.contains("hunter2"), "{told}");
            assert!(problems.lines()[0].contains("web.yaml:2:"), "at the place of use: {:?}", problems.lines());
        }
    }
}

#[test]
fn secrets_are_not_shown_wherever_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = "llms: {local: {model: m, endpoint: \"http://127.0.0.1:1/v1\"}}\n";
    let told = |models: &str, sets: &[&str]| load(folder.path(), models, sets, true).err().expect("refused");
    let url = "http://user:hunter2@h/v1?sv=hunter3";
    let in_file = [
        format!("llms: {{local: {{model: m, endpoint: \"{url}\"}}}}\n"),
        format!("llms: {{local: {{model: m, endpoint: [\"http://127.0.0.1:1/v1\", \"{url}\"]}}}}\n"),
        format!("{here}answer: \"{url}\" # http://u:hunter2@h\n").replace("?sv=hunter3", ""),
    ];
    let sets = [
        format!("llms.local.endpoint={url}"),
        "stages.asked.api_key=hunter2".to_owned(),
        "stages.asked.window=sk-hunter2-0123456789".to_owned(),
        "stages.asked.max_rejected=sk-hunter2-0123456789".to_owned(),
        "llms.local.max_in_flight=sk-hunter2-0123456789".to_owned(),
    ];
    let all = in_file.iter().map(|models| told(models, &[])).chain(sets.iter().map(|set| told(here, &[set.as_str()])));
    for told in all {
        assert!(!told.contains("hunter") && told.contains("***"), "{told}");
    }
    assert_eq!(secrets_in("see https://h/a@b, sk-learn or hf_hub; `stages.b`, 3"), [0..0; 0]);
    assert_eq!(secrets_in("é://u@h AIzaSyA1234567"), [5..6, 9..23]);
}
