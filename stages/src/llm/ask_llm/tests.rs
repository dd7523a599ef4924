use std::sync::{Arc, Mutex};

use arrow::array::{BinaryArray, StructArray};
use arrow::datatypes::Field;
use serde_json::json;

use super::*;
use crate::llm::{Answerer, Ask, Llm, LlmFigures, LlmSettings, Llms, Origin, Usage};
use crate::testing::{self, Balance};

fn texts(texts: &[Option<&str>]) -> RecordBatch {
    let ids: Vec<String> = (0..texts.len()).map(|row| format!("d{row}")).collect();
    testing::strings(&[("id", ids.iter().map(|id| Some(id.as_str())).collect()), ("text", texts.to_vec())])
}

/// The text of a request's last turn.
fn question(ask: &Ask) -> String {
    let parts = ask.messages.last().map(|message| message.content.as_slice()).unwrap_or_default();
    parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "<image>" }).collect::<Vec<_>>().join("|")
}

fn asked(rows: &RecordBatch) -> Vec<String> {
    testing::column(rows, llm::ANSWER_KEYS)
}

fn refusal(settings: serde_json::Value) -> String {
    let input = testing::strings(&[("id", vec![Some("a")]), ("text", vec![Some("x")]), ("draw", vec![None])]);
    testing::refusal::<AskLlmConfig>(settings, &[(Port::FROM, input)])
}

#[test]
fn it_keeps_the_contract() {
    let prompt = "Judge: {{ text }} {{ tags or '' }}";
    let adds = json!({"topic": "string", "rating": {"type": "int32", "min": 1, "max": 5}, "day": "date", "qa": "list<struct<q: string, n: int8>>"});
    let got = testing::check_contract::<AskLlmConfig>(
        json!({"llm": "local", "prompt": prompt, "adds": adds}),
        &testing::sample(),
        Balance::KeptOrDropped,
    );
    assert!(got.rows().num_rows() > 20 && got.rejected.iter().all(|row| row.reason == "null_in_prompt"), "{:?}", got.rejected);
    testing::check_contract::<AskLlmConfig>(
        json!({"llm": "x", "prompt": "{{ id }}", "max_tokens": 1}),
        &testing::sample(),
        Balance::KeptOrDropped,
    );
    let got =
        testing::check_contract::<AskLlmConfig>(json!({"llm": "x", "prompt": "{{ id }}", "draws": 3}), &testing::sample(), Balance::Free);
    assert_eq!(got.rows().num_rows(), 3 * testing::sample().num_rows());
}

#[test]
fn answers_become_typed_columns_with_where_they_come_from() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let settings = json!({
        "llm": "local", "system": "You judge.", "prompt": "Judge: {{ text }}", "temperature": 0.5, "stop": ["END"],
        "adds": {"label": ["spam", "ham"], "score": "float32"},
        "examples": [{"user": "Judge: buy!", "assistant": "{\"label\": \"spam\", \"score\": 1}"}],
    });
    let script = Arc::clone(&seen);
    let got = testing::run_scripted::<AskLlmConfig>(
        settings.clone(),
        &texts(&[Some("hello {{ id }}")]),
        Box::new(move |ask| {
            script.lock().unwrap().push(ask.clone());
            Ok("Sure: {\"label\": \"ham\", \"score\": 0.25}".to_owned())
        }),
    );
    let rows = got.rows();
    let columns: Vec<String> = rows.schema().fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
    assert_eq!(
        columns,
        ["id: Utf8", "text: Utf8", "label: Utf8", "score: Float32", "model: Utf8", "prompt_hash: Utf8", "answer_keys: List(Utf8)"]
    );
    assert_eq!((testing::column(rows, "label"), testing::column(rows, "score")), (vec!["ham".to_owned()], vec!["0.25".to_owned()]));
    assert_eq!(testing::column(rows, "model"), ["scripted"]);
    let [ask] = seen.lock().unwrap().clone().try_into().expect("one request");
    let ask: Ask = ask;
    assert_eq!(
        question(&ask),
        "Judge: hello {{ id }}\n\nAnswer with one JSON object and nothing else. Its fields:\n- \"label\": one of \"spam\", \"ham\"\n- \"score\": a number"
    );
    assert_eq!((ask.messages.len(), ask.draw, ask.temperature, ask.stop.len()), (4, 0, Some(0.5), 1));
    assert_eq!(ask.schema.as_ref().map(|schema| &schema.schema["properties"]["label"]["enum"]), Some(&json!(["spam", "ham"])));
    assert_eq!(asked(rows), [format!("[{}]", ask.key("[\"scripted\",null,{}]"))]);
    let figures: Vec<_> = got.figures.iter().map(|(figure, of)| (*figure, of["any"])).collect();
    assert_eq!(figures[0], ("answers", 1));
    assert!(!got.figures.contains_key("asked_again"));

    // The hash moves with what shapes the request, and with nothing else.
    let hash = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut settings = settings.clone();
        change(&mut settings);
        let script = Box::new(|_: &Ask| Ok("{\"label\": \"ham\", \"score\": 0.25}".to_owned()));
        testing::column(testing::run_scripted::<AskLlmConfig>(settings, &texts(&[Some("x")]), script).rows(), "prompt_hash")
    };
    let same = hash(&|_| ());
    assert_eq!((same[0].len(), &hash(&|settings| settings["tries"] = json!(5))), (32, &same));
    assert_ne!(hash(&|settings| settings["prompt"] = json!("Judge {{ text }}")), same);
    assert_ne!(hash(&|settings| settings["system"] = json!("You don't.")), same);
    assert_ne!(hash(&|settings| settings["temperature"] = json!(0.6)), same);
    assert_ne!(hash(&|settings| settings["examples"] = json!([])), same);
}

#[test]
fn an_answer_that_can_not_be_used_is_shown_with_what_is_wrong() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Arc::clone(&seen);
    let settings = json!({"llm": "local", "prompt": "{{ text }}", "adds": {"score": {"type": "int32", "min": 1, "max": 5}}});
    let got = testing::run_scripted::<AskLlmConfig>(
        settings,
        &texts(&[Some("good"), Some("bad")]),
        Box::new(move |ask| {
            script.lock().unwrap().push((question(ask), ask.draw));
            let first = matches!(&ask.messages[0].content[0], Part::Text(text) if text.starts_with("bad"));
            Ok(if first || ask.draw == 0 { "{\"score\": 9}" } else { "{\"score\": 4}" }.to_owned())
        }),
    );
    let wrong = "\"score\": wanted a whole number from 1 to 5, found 9";
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_by_key(|(_, draw)| *draw);
    let feedback = seen
        .iter()
        .filter(|(question, _)| *question == format!("That can't be used: {wrong}. Answer again, in the form that was asked for."));
    assert_eq!(feedback.map(|(_, draw)| *draw).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!((testing::column(got.rows(), "id"), testing::column(got.rows(), "score")), (vec!["d0".to_owned()], vec!["4".to_owned()]));
    assert_eq!(asked(got.rows())[0].split(", ").count(), 2);
    let [rejected] = got.rejected.as_slice() else { panic!("{:?}", got.rejected) };
    assert_eq!((rejected.id.as_deref(), rejected.reason), (Some("d1"), "unusable_answer"));
    assert_eq!(rejected.detail, format!("{wrong}; asked 3 times; the last answer: {{\"score\": 9}}"));
    assert_eq!((got.figures["answers"]["any"], got.figures["asked_again"]["any"]), (5, 3));
}

#[test]
fn a_row_without_a_usable_answer_can_stay() {
    let settings = json!({"llm": "local", "prompt": "{{ text }}", "on_unusable": "keep", "tries": 2});
    let input = texts(&[Some("x"), Some("refused")]);
    let script = |ask: &Ask| if question(ask) == "refused" { Err("content filter".to_owned()) } else { Ok(" \n".to_owned()) };
    let got = testing::run_scripted::<AskLlmConfig>(settings.clone(), &input, Box::new(script));
    assert_eq!((testing::column(got.rows(), "answer"), got.rejected.len()), (vec![String::new(); 2], 0));
    assert_eq!(asked(got.rows()).iter().map(|keys| keys.matches(',').count()).collect::<Vec<_>>(), [1, 0]);
    let mut rejecting = settings;
    rejecting["on_unusable"] = json!("reject");
    let got = testing::run_scripted::<AskLlmConfig>(rejecting, &input, Box::new(script));
    assert_eq!(got.rejected.iter().map(|row| row.reason).collect::<Vec<_>>(), ["unusable_answer", "request_refused"]);
    assert!(got.rejected[0].detail.starts_with("it is empty; asked 2 times"), "{}", got.rejected[0].detail);
}

#[test]
fn each_draw_is_a_row_of_its_own() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = Arc::clone(&seen);
    let settings = json!({"llm": "local", "prompt": "{{ text }}", "draws": 3, "tries": 2, "answer_column": "said"});
    let got = testing::run_scripted::<AskLlmConfig>(
        settings,
        &texts(&[Some("x"), None]),
        Box::new(move |ask| {
            script.lock().unwrap().push(ask.draw);
            Ok(if ask.draw / 64 == 1 { String::new() } else { format!(" draw {} ", ask.draw) })
        }),
    );
    let column = |name: &str| testing::column(got.rows(), name);
    assert_eq!(
        (column("id"), column("draw"), column("parent_id")),
        (vec!["d0#0".into(), "d0#2".into()], vec!["0".into(), "2".into()], vec!["d0".to_owned(); 2])
    );
    assert_eq!(column("said"), ["draw 0", "draw 128"]);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, [0, 64, 65, 128]);
    let rejected: Vec<_> = got.rejected.iter().map(|row| (row.id.as_deref(), row.reason)).collect();
    assert_eq!(rejected, [(Some("d0#1"), "unusable_answer"), (Some("d1"), "null_in_prompt")]);
}

/// Answers with a text that was cut off.
struct Cut(&'static str);

impl Answerer for Cut {
    fn answer<'a>(&'a self, llm: &'a Llm, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
        let key = ask.key(llm.identity());
        Box::pin(async move { Ok(Answer { text: self.0.to_owned(), cut: true, usage: Usage::default(), key, origin: Origin::Endpoint }) })
    }

    fn figures(&self) -> LlmFigures {
        LlmFigures::default()
    }
}

fn run_cut(settings: serde_json::Value, text: &'static str) -> testing::Outcome {
    let llms = Llms::new([("local".to_owned(), LlmSettings { revision: Some("r2".to_owned()), ..LlmSettings::of_model("m") })]);
    llms.get("local").expect("the model").answer_by(Box::new(Cut(text)));
    let input = texts(&[Some("x")]);
    let built = testing::build_with::<AskLlmConfig>(settings, vec![(Port::FROM, input.schema())], llms).expect("a stage");
    testing::run_stage(&built, &[(Port::FROM, input)], testing::CUTS[0]).expect("rows")
}

#[test]
fn an_answer_that_was_cut_off_counts_only_where_it_may() {
    let got = run_cut(json!({"llm": "local", "prompt": "{{ text }}", "max_tokens": 5}), "half of an");
    let [rejected] = got.rejected.as_slice() else { panic!("{:?}", got.rejected) };
    assert_eq!(rejected.reason, "answer_cut");
    assert_eq!(rejected.detail, "it was cut off after 5 tokens, and has to be shorter; asked 3 times; the last answer: half of an");
    let got = run_cut(json!({"llm": "local", "prompt": "{{ text }}", "allow_cut": true}), "half of an");
    assert_eq!(
        (testing::column(got.rows(), "answer"), testing::column(got.rows(), "model")),
        (vec!["half of an".to_owned()], vec!["m@r2".to_owned()])
    );
    // JSON is whole or it is not.
    let fields = json!({"llm": "local", "prompt": "{{ text }}", "adds": {"a": "int8"}, "allow_cut": true});
    let got = run_cut(fields.clone(), "{\"a\": ");
    assert_eq!(got.rejected[0].reason, "answer_cut");
    assert!(
        got.rejected[0].detail.starts_with("the JSON ends before it is complete (EOF while parsing a value); it was cut off after 1024")
    );
    assert_eq!(run_cut(fields, "{\"a\": 1} and so").rows().num_rows(), 1);
}

#[test]
fn hostile_rows_do_no_harm() {
    let long = "{".repeat(10 << 20);
    let input = texts(&[None, Some(""), Some(&long), Some("{{ id }}{% raw %}"), Some("日本語 😀")]);
    let settings = json!({"llm": "local", "prompt": "{{ text }}", "adds": {"a": "string"}});
    let got =
        testing::run_scripted::<AskLlmConfig>(settings, &input, Box::new(|ask| Ok(json!({"a": question(ask).lines().next()}).to_string())));
    assert_eq!(testing::column(got.rows(), "a"), ["{{ id }}{% raw %}", "日本語 😀"]);
    let rejected: Vec<_> = got.rejected.iter().map(|row| (row.id.as_deref(), row.reason)).collect();
    assert_eq!(rejected, [(Some("d0"), "null_in_prompt"), (Some("d1"), "empty_prompt"), (Some("d2"), "prompt_too_long")]);
    assert!(
        got.rejected[2].detail.starts_with("wanted at most `max_prompt_chars`, which is 400000, found 1048"),
        "{}",
        got.rejected[2].detail
    );
}

#[test]
fn images_are_sent_as_what_they_are() {
    let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 8]].concat();
    let files: [Option<&[u8]>; 7] =
        [Some(&png), Some(b"\xff\xd8\xff\xe0"), Some(b"GIF89a"), Some(b"RIFF\0\0\0\0WEBPVP8 "), Some(b"<svg>"), None, Some(&[0xff; 100])];
    let bytes: BinaryArray = files.into_iter().collect();
    let paths: StringArray = (0..7).map(|row| Some(format!("{row}.png"))).collect();
    let of = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
    let both: [(Arc<Field>, ArrayRef); 2] =
        [(of("bytes", DataType::Binary), Arc::new(bytes.clone())), (of("path", DataType::Utf8), Arc::new(paths))];
    let input = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new((0..7).map(|row| Some(row.to_string())).collect::<StringArray>()) as ArrayRef, true),
        ("image", Arc::new(StructArray::from(both.to_vec())), true),
        ("raw", Arc::new(bytes), true),
    ])
    .expect("rows");
    for column in ["image", "raw"] {
        let settings = json!({"llm": "local", "prompt": "What is in it?", "images": [column], "max_image_bytes": 20});
        let got = testing::run_scripted::<AskLlmConfig>(
            settings,
            &input,
            Box::new(|ask| match ask.messages[0].content.as_slice() {
                [Part::Image(image), Part::Text(text)] => Ok(format!("{text} {} {}", image.media_type, image.bytes.len())),
                other => Err(format!("{other:?}")),
            }),
        );
        let said = ["image/png 16", "image/jpeg 4", "image/gif 6", "image/webp 16"].map(|image| format!("What is in it? {image}"));
        assert_eq!(testing::column(got.rows(), "answer"), said);
        let rejected: Vec<_> = got.rejected.iter().map(|row| (row.id.as_deref().unwrap_or_default(), row.reason)).collect();
        assert_eq!(rejected, [("4", "unknown_image"), ("5", "no_image"), ("6", "image_too_large")]);
        assert!(got.rejected[0].detail.ends_with("found 5 bytes that begin with `3c7376673e`"), "{}", got.rejected[0].detail);
    }
}

#[test]
fn an_earlier_provenance_is_replaced() {
    let input = testing::strings(&[("model", vec![Some("old")]), ("text", vec![Some("x")]), ("prompt_hash", vec![None])]);
    let got = testing::run_scripted::<AskLlmConfig>(
        json!({"llm": "l", "prompt": "{{ text }} {{ model }}"}),
        &input,
        Box::new(|ask| Ok(question(ask))),
    );
    let names: Vec<String> = got.rows().schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["text", "answer", "model", "prompt_hash", "answer_keys"]);
    assert_eq!(
        (testing::column(got.rows(), "answer"), testing::column(got.rows(), "model")),
        (vec!["x old".to_owned()], vec!["scripted".to_owned()])
    );
}

#[test]
fn the_run_ends_where_the_model_says_so() {
    struct Dead;
    impl Answerer for Dead {
        fn answer<'a>(&'a self, _: &'a Llm, _: &'a Ask) -> BoxFuture<'a, Result<Answer, AskError>> {
            Box::pin(async { Err(StageError::Stopped { problem: "over budget".to_owned(), help: String::new() }.into()) })
        }

        fn figures(&self) -> LlmFigures {
            LlmFigures::default()
        }
    }
    let llms = Llms::new([("local".to_owned(), LlmSettings::of_model("m"))]);
    llms.get("local").expect("the model").answer_by(Box::new(Dead));
    let input = texts(&[Some("x")]);
    let settings = json!({"llm": "local", "prompt": "{{ text }}", "on_unusable": "keep"});
    let built = testing::build_with::<AskLlmConfig>(settings, vec![(Port::FROM, input.schema())], llms).expect("a stage");
    let stopped = testing::run_stage(&built, &[(Port::FROM, input)], testing::CUTS[0]);
    assert!(matches!(stopped, Err(StageError::Stopped { problem, .. }) if problem == "over budget"));
}

#[test]
fn a_prompt_can_lie_in_a_file_that_the_rows_depend_on() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ask.txt"), "\u{feff}About {{ text }}\n").expect("a file");
    let config: AskLlmConfig = serde_json::from_value(json!({"llm": "local", "prompt_file": "ask.txt"})).expect("settings");
    let input = texts(&[Some("x")]);
    let mut cx = BuildContext::new("ask", folder.path(), 7, vec![(Port::FROM, input.schema())]);
    cx.llms = Llms::scripted(Box::new(|ask| Ok(question(ask))));
    let outputs = config.outputs(&cx).expect("outputs");
    cx.outputs = Some(outputs.clone());
    let built = testing::Built { stage: config.build(&cx).expect("a stage"), outputs };
    let got = testing::run_stage(&built, &[(Port::FROM, input)], testing::CUTS[0]).expect("rows");
    assert_eq!(testing::column(got.rows(), "answer"), ["About x"]);
    assert_eq!(config.files(&cx).expect("files"), [("ask.txt".to_owned(), folder.path().join("ask.txt"))]);
}

#[test]
fn settings_that_can_not_work_are_refused() {
    let with = |more: serde_json::Value| {
        let mut settings = json!({"llm": "local", "prompt": "{{ text }}"});
        settings.as_object_mut().expect("settings").extend(more.as_object().expect("settings").clone());
        refusal(settings)
    };
    assert_eq!(refusal(json!({"llm": "l"})), "prompt: wanted `prompt` or `prompt_file`, found neither");
    assert_eq!(with(json!({"prompt_file": "x"})), "prompt_file: wanted either `prompt` or `prompt_file`, found both");
    assert!(refusal(json!({"llm": "l", "prompt_file": "not/there.txt"})).starts_with("prompt_file: can't read ./not/there.txt: "));
    assert!(with(json!({"prompt": "{{ txt }}"})).starts_with("prompt: the template uses `txt`, which is no column"));
    assert!(with(json!({"system": "{{ txt }}"})).starts_with("system: the template uses `txt`"));
    assert_eq!(with(json!({"adds": {"text": "string"}})), "adds: adds column `text`, which the input already has");
    assert_eq!(with(json!({"answer_column": "text"})), "answer_column: adds column `text`, which the input already has");
    assert_eq!(
        with(json!({"adds": {"model": "string"}})),
        "adds: `model` is a column that says where a row comes from; wanted another name"
    );
    assert!(
        with(json!({"adds": {"a": "string"}, "answer_column": "b"}))
            .starts_with("answer_column: found `b`, which is for an answer without fields")
    );
    assert_eq!(with(json!({"draws": 2})), "draws: adds column `draw`, which the input already has");
    assert!(with(json!({"images": ["imag"]})).starts_with("images: needs column `imag`, but the input has"));
    assert!(with(json!({"images": ["text"]})).starts_with("images: wanted a column of images"));
    assert!(with(json!({"tries": 0})).contains("wanted a number from 1 to 20, found 0"));
    assert!(with(json!({"temperature": 3})).contains("wanted a number from 0 to 2, found 3"));
    let input = texts(&[Some("x")]);
    let settings = json!({"llm": "other", "prompt": "{{ text }}"});
    let llms = Llms::new([("local".to_owned(), LlmSettings::of_model("m"))]);
    let error =
        testing::build_with::<AskLlmConfig>(settings, vec![(Port::FROM, input.schema())], llms).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("`llms` has no entry `other`"));
}
