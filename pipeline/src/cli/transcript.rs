//! `pipeline inspect PATH --transcript`: what models were asked for a row, and what they answered.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datasets::remote::Address;
use miette::{IntoDiagnostic, WrapErr, miette};
use schemas::llm::ANSWER_KEYS;
use serde::Deserialize;
use serde_json::{Value, json};
use stages::llm::{AnswerKey, Answers, Transcript};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::inspect::values_text;
use crate::cells::Cell;
use crate::rows::{FromValue, Row};
use crate::rows_page::{Fold, Folded};
use crate::show::{self, count};

/// Where answers are kept beside an output, if the pipeline does not say.
const FOLDER: &str = ".answers";

/// Folders above rows that may be the output: `dropped/<stage>/<file>` is the deepest.
const MAX_ABOVE: usize = 4;

/// Answers of a row that are shown.
const MAX_ANSWERS: usize = 200;

/// Lines that one message may take in a terminal.
const MAX_LINES: usize = 400;

/// A value as text, and the keys that it is if it is a list of texts.
pub(super) struct Shown {
    pub(super) text: String,
    keys: Vec<String>,
}

impl FromValue for Shown {
    fn of_array(array: &dyn Array, row: usize, max_chars: usize) -> Self {
        let keys = match array.data_type() {
            DataType::List(item) if *item.data_type() == DataType::Utf8 && array.is_valid(row) => {
                let items = array.as_list::<i32>().value(row);
                items.as_string::<i32>().iter().flatten().take(MAX_ANSWERS + 1).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Self { text: String::of_array(array, row, max_chars), keys }
    }

    fn of_json(value: &Value, max_chars: usize) -> Self {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let keys = items.iter().filter_map(Value::as_str).take(MAX_ANSWERS + 1).map(str::to_owned).collect();
        Self { text: String::of_json(value, max_chars), keys }
    }
}

/// What holds keys of answers.
pub(super) trait Keys {
    /// The keys.
    fn keys(&self) -> Vec<String>;
}

impl Keys for Shown {
    fn keys(&self) -> Vec<String> {
        self.keys.clone()
    }
}

impl Keys for Cell {
    fn keys(&self) -> Vec<String> {
        match self {
            Cell::List { items, .. } => items.iter().filter_map(Cell::as_text).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

/// The answers that rows are looked up in.
pub(super) struct Lookup {
    answers: Answers,
    folder: PathBuf,
}

/// What is known of one answer of a row.
struct Told {
    key: String,
    /// None if it is not there, or damaged.
    transcript: Option<Transcript>,
    messages: Vec<Message>,
    /// Messages at the beginning that those of the answer before begin with, too.
    repeated: usize,
    /// What the model was told of it, if it could not be used.
    sent_back: Option<String>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    role: String,
    text: String,
}

impl Lookup {
    /// The answers in `folder`, or those that the run used which made the rows at `path`.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn open(path: &Path, folder: Option<&Path>) -> miette::Result<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => folder_of(path)?,
        };
        if !folder.is_dir() {
            return Err(miette!(
                help = "name the folder where the answers are kept with `--answers`",
                "there is no folder of answers {}",
                folder.display()
            ));
        }
        let answers = Answers::view(&folder).into_diagnostic().wrap_err("can't look up what models answered")?;
        if answers.is_empty() {
            tracing::warn!("{} holds no answers", folder.display());
        }
        Ok(Self { answers, folder })
    }

    fn told<V: Keys>(&self, row: &Row<V>) -> miette::Result<(Vec<Told>, usize)> {
        let keys = row.values.iter().find(|(name, _)| name == ANSWER_KEYS).map(|(_, value)| value.keys()).unwrap_or_default();
        let left_out = keys.len().saturating_sub(MAX_ANSWERS);
        let mut told: Vec<Told> = Vec::new();
        for key in keys.into_iter().take(MAX_ANSWERS) {
            let transcript = match AnswerKey::parse(&key) {
                Some(key) => self.answers.transcript(&key).into_diagnostic()?,
                None => None,
            };
            let messages = transcript.as_ref().map(|transcript| messages(&transcript.request)).unwrap_or_default();
            let mut repeated = 0;
            if let Some(before) = told.last_mut() {
                repeated = before.messages.iter().zip(&messages).take_while(|(one, other)| one == other).count();
                before.sent_back = before.transcript.as_ref().and_then(|before| sent_back(&before.answer.text, &messages));
            }
            told.push(Told { key, transcript, messages, repeated, sent_back: None });
        }
        Ok((told, left_out))
    }

    /// The answers of a row as text for a terminal.
    pub(super) fn text(&self, row: &Row<Shown>, width: usize) -> miette::Result<String> {
        let (told, left_out) = self.told(row)?;
        let mut out = String::new();
        if told.is_empty() {
            out.push_str("\n  no model was asked\n");
        }
        for (i, one) in told.iter().enumerate() {
            let _ = writeln!(out, "\n  ╌╌ {}", show::visible_line(&one.heading(i, told.len())));
            let mut values: Vec<(String, String)> = Vec::new();
            match &one.transcript {
                None => values.push(("key".to_owned(), format!("{}: {}", one.key, self.missing()))),
                Some(transcript) => {
                    if one.repeated > 0 {
                        values.push(("…".to_owned(), format!("({} as before)", messages_count(one.repeated))));
                    }
                    values.extend(one.new_messages(before(&told, i)).map(|message| (message.role.clone(), message.text.clone())));
                    values.push(("→ answer".to_owned(), text_or_nothing(&transcript.answer.text)));
                    values.push(("key".to_owned(), one.key.clone()));
                }
            }
            out.push_str(&values_text(&values, width, MAX_LINES));
        }
        if left_out > 0 {
            out.push_str("\n  … and more answers\n");
        }
        Ok(out)
    }

    /// The answers of a row, folded under it on a page.
    pub(super) fn fold(&self, row: &Row<Cell>) -> miette::Result<Option<Fold>> {
        let (told, left_out) = self.told(row)?;
        if told.is_empty() {
            return Ok(None);
        }
        let unused = told.iter().filter(|one| one.sent_back.is_some()).count();
        let mut title =
            if told.len() == 1 { "1 answer of a model".to_owned() } else { format!("{} answers of models", count(told.len() as u64)) };
        if unused > 0 {
            let _ = write!(title, ", {} could not be used", count(unused as u64));
        }
        if left_out > 0 {
            title.push_str(", and more");
        }
        let turn = |role: &str, text: &str| Cell::of_json(&json!({"role": role, "content": text}), 0);
        let entry = |(i, one): (usize, &Told)| {
            let mut turns: Vec<Cell> = Vec::new();
            if let Some(transcript) = &one.transcript {
                turns.extend(one.new_messages(before(&told, i)).map(|message| turn(&message.role, &message.text)));
                turns.push(turn("assistant", &text_or_nothing(&transcript.answer.text)));
            }
            let note = match &one.transcript {
                None => Some(self.missing()),
                Some(_) if one.repeated > 0 => Some(format!("{} as before, and then:", messages_count(one.repeated))),
                Some(_) => None,
            };
            let heading = format!("{} · {}", one.heading(i, told.len()), one.key);
            Folded { heading, note, chat: Cell::List { len: turns.len(), items: turns } }
        };
        Ok(Some(Fold { title, entries: told.iter().enumerate().map(entry).collect() }))
    }

    /// The answers of a row as JSON, all that is kept of them.
    pub(super) fn json(&self, row: &Row<Shown>, file: Option<&str>) -> miette::Result<Value> {
        let (told, _) = self.told(row)?;
        let id = row.values.iter().find(|(name, _)| name == schemas::document::ID.name()).map(|(_, value)| &value.text);
        let answer = |one: &Told| match &one.transcript {
            None => json!({"key": one.key, "found": false}),
            Some(transcript) => json!({
                "key": one.key,
                "found": true,
                "sent_back": one.sent_back,
                "llm": transcript.llm,
                "model": transcript.answer.model,
                "when": when(transcript.when_ms),
                "usage": transcript.answer.usage,
                "spent": transcript.spent,
                "cut": transcript.answer.cut,
                "finish_reason": transcript.answer.finish_reason,
                "request": transcript.request,
                "answer": transcript.answer.text,
            }),
        };
        Ok(json!({"file": file, "row": row.number, "id": id, "answers": told.iter().map(answer).collect::<Vec<_>>()}))
    }

    fn missing(&self) -> String {
        format!("it was removed, is damaged, or is kept elsewhere than in {}", self.folder.display())
    }
}

impl Told {
    /// Which it is, who gave it, what it took, and whether it was of use.
    fn heading(&self, i: usize, of: usize) -> String {
        let mut heading = format!("answer {} of {}", count(i as u64 + 1), count(of as u64));
        if let Some(Transcript { answer, when_ms, .. }) = &self.transcript {
            if let Some(model) = &answer.model {
                let _ = write!(heading, " · {}", show::cut(model, 80));
            }
            let about = if answer.usage.guessed { "about " } else { "" };
            let _ = write!(
                heading,
                " · {about}{} + {} tokens · {}",
                count(answer.usage.prompt_tokens),
                count(answer.usage.completion_tokens),
                when(*when_ms)
            );
            if answer.cut {
                heading.push_str(" · cut at `max_tokens`");
            }
        }
        if self.sent_back.is_some() {
            heading.push_str(" · could not be used");
        }
        heading
    }

    /// Its messages but those that the one before begins with, and its answer.
    fn new_messages(&self, before: Option<&Told>) -> impl Iterator<Item = &Message> {
        let is_told = before.is_some_and(|before| before.sent_back.is_some()) && self.messages.len() >= self.repeated + 2;
        self.messages.iter().skip(if is_told { (self.messages.len() - 1).max(self.repeated) } else { self.repeated })
    }
}

fn before(told: &[Told], i: usize) -> Option<&Told> {
    i.checked_sub(1).and_then(|before| told.get(before))
}

fn messages_count(n: usize) -> String {
    format!("{} message{}", count(n as u64), if n == 1 { "" } else { "s" })
}

fn text_or_nothing(text: &str) -> String {
    if text.is_empty() { "(nothing)".to_owned() } else { text.to_owned() }
}

/// A time in UTC, to the second.
fn when(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// What was said of an answer, if the next request shows it to the model again: then it could not be used.
fn sent_back(answer: &str, next: &[Message]) -> Option<String> {
    let [.., shown, said] = next else { return None };
    let is_shown = shown.text == answer
        || (answer.is_empty() && shown.text == "(nothing)")
        || shown.text.strip_suffix('…').is_some_and(|head| !head.is_empty() && answer.len() > head.len() && answer.starts_with(head));
    (is_shown && shown.role == "assistant" && said.role == "user").then(|| said.text.clone())
}

/// The messages of a request. One of another form is shown as it is.
fn messages(request: &Value) -> Vec<Message> {
    let Some(messages) = request.get("messages").and_then(Value::as_array) else {
        return vec![Message { role: "request".to_owned(), text: request.to_string() }];
    };
    let message = |message: &Value| Message {
        role: message.get("role").and_then(Value::as_str).unwrap_or("message").to_owned(),
        text: match message.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
            other => other.unwrap_or(message).to_string(),
        },
    };
    messages.iter().map(message).collect()
}

/// A part of a message; of an image what it is known by.
fn part(part: &Value) -> String {
    let image = part.get("image").and_then(Value::as_str);
    let url = || part.get("image_url").and_then(|image| image.get("url").unwrap_or(image).as_str());
    match part.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => match image.or_else(url) {
            Some(data) if data.starts_with("data:") => format!("[image, {} characters]", count(data.len() as u64)),
            Some(hash) => format!("[image {}]", show::cut(hash, 200)),
            None => part.to_string(),
        },
    }
}

/// The folder of answers that the run used which made the rows at `path`.
fn folder_of(path: &Path) -> miette::Result<PathBuf> {
    /// What of `run.json` says where the answers are.
    #[derive(Deserialize)]
    struct Record {
        answers: Option<PathBuf>,
    }
    let is_remote = Address::of(path).is_some();
    let path = if is_remote { path.to_owned() } else { path.canonicalize().unwrap_or_else(|_| path.to_owned()) };
    let named = path.ancestors().take(MAX_ABOVE).find_map(|folder| {
        let bytes = crate::store::read(&folder.join("run.json")).ok()?;
        serde_json::from_slice::<Record>(&bytes).ok()?.answers
    });
    if let Some(named) = named.as_ref().filter(|named| named.is_dir()) {
        return Ok(named.clone());
    }
    // A run that was ended wrote no record yet; an output that was moved has its answers beside it, or nowhere.
    let beside = path.ancestors().take(MAX_ABOVE + 1).map(|folder| folder.join(FOLDER)).find(|folder| !is_remote && folder.is_dir());
    let help = "name the folder where the answers are kept with `--answers`";
    beside.ok_or_else(|| match named {
        Some(named) => miette!(help = help, "the answers of this run were kept in {}, which is not there", named.display()),
        None => {
            miette!(help = help, "nothing says where the answers of models are kept: no `run.json` above {} names a folder", path.display())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
    use futures::executor::block_on;
    use schemas::document;
    use stages::llm::{Ask, Image, Message, Part, Role, Spent, StoredAnswer, Usage};

    use super::*;
    use crate::cli::inspect::{Args, tests::args, tests::shown};
    use crate::cli::{Exit, exit_of};
    use crate::report::samples::PLANTED;
    use crate::rows::tests::{batch, ids, write_parquet};

    fn keep(answers: &Answers, ask: &Ask, text: &str) -> String {
        let usage = Usage { prompt_tokens: 1203, completion_tokens: 7, guessed: false };
        let answer = StoredAnswer { text: text.to_owned(), usage, model: Some("tiny-1".to_owned()), ..StoredAnswer::default() };
        let key = ask.key("tiny");
        block_on(answers.put("local", key, &answer, &serde_json::to_value(ask).unwrap(), None, Spent::default())).unwrap();
        key.to_string()
    }

    /// An output whose first row has two answers, the first of no use, and the second one that is not there.
    fn output(folder: &Path) -> Answers {
        let answers = Answers::open(&folder.join("kept"), "out").unwrap();
        let image = Arc::new(Image { bytes: vec![1], media_type: "image/png" });
        let mut ask = Ask::new(vec![Message::text(Role::System, "Answer in JSON."), Message::text(Role::User, "What is this?")], 32);
        ask.messages[1].content.push(Part::Image(image));
        let first = keep(&answers, &ask, "A cat, I think.");
        ask.messages.push(Message::text(Role::Assistant, "A cat, I think."));
        ask.messages.push(Message::text(Role::User, "That can't be used: no JSON. Answer again, in the form that was asked for."));
        ask.draw = 1;
        let second = keep(&answers, &ask, "{\"it\": \"a cat\"}");
        write(&folder.join("out/asked/part-00000.parquet"), &[&[&first, &second], &["0123456789abcdef0123456789abcdef"], &[]]);
        let record = json!({"name": "x", "answers": folder.join("kept")});
        std::fs::write(folder.join("out/run.json"), record.to_string()).unwrap();
        answers
    }

    fn write(path: &Path, rows: &[&[&str]]) {
        let mut keys = ListBuilder::new(StringBuilder::new());
        rows.iter().for_each(|row| keys.append_value(row.iter().map(Some)));
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.len()).map(|row| format!("r{row}"))));
        let keys: ArrayRef = Arc::new(keys.finish());
        write_parquet(path, &RecordBatch::try_from_iter([(document::ID.name(), ids), (ANSWER_KEYS, keys)]).unwrap(), false);
    }

    fn transcript(path: &Path) -> Args {
        Args { transcript: true, ..args(path) }
    }

    /// What differs from run to run, replaced.
    fn steady(text: &str) -> String {
        let mut out = String::new();
        for word in text.split_inclusive([' ', '\n', '"']) {
            let bare = word.trim_end_matches([' ', '\n', '"']);
            let is_time = bare.len() == 20 && bare.ends_with('Z') && bare.contains('T');
            out.push_str(&if is_time { word.replace(bare, "TIME") } else { word.to_owned() });
        }
        out
    }

    #[test]
    fn a_row_shows_what_was_asked_for_it_and_which_answers_were_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let answers = output(folder.path());
        let (exit, text) = shown(&Args { columns: vec!["id".to_owned()], ..transcript(&folder.path().join("out/asked")) });
        assert_eq!(exit, Exit::Done);
        insta::assert_snapshot!(steady(&text), @r#"
        OUT/out/asked/, 1 file, 3 rows
          id           Utf8
          answer_keys  List(Utf8)

        ── row 0 ───────────────────────────────────────────────────
          id  r0

          ╌╌ answer 1 of 2 · tiny-1 · 1,203 + 7 tokens · TIME · could not be used
          system    Answer in JSON.
          user      What is this?
                    [image
                    48fc721fbbc172e0925fa27af1671de225ba927134802998
                    b10a1568a188652b]
          → answer  A cat, I think.
          key       0a2051fee5bedceb144d5cb802057dbb

          ╌╌ answer 2 of 2 · tiny-1 · 1,203 + 7 tokens · TIME
          …         (2 messages as before)
          user      That can't be used: no JSON. Answer again, in
                    the form that was asked for.
          → answer  {"it": "a cat"}
          key       e7ef64cb94037b8d890f1cd018731e13

        ── row 1 ───────────────────────────────────────────────────
          id  r1

          ╌╌ answer 1 of 1
          key  0123456789abcdef0123456789abcdef: it was removed, is
               damaged, or is kept elsewhere than in
               OUT/kept

        ── row 2 ───────────────────────────────────────────────────
          id  r2

          no model was asked
        "#);
        // Read again with the store still open, and from the file itself.
        let (_, again) = shown(&transcript(&folder.path().join("out/asked/part-00000.parquet")));
        assert!(again.contains("answer_keys") && again.contains("could not be used"), "{again}");
        drop(answers);
    }

    #[test]
    fn transcripts_are_json_too() {
        let folder = tempfile::tempdir().unwrap();
        output(folder.path());
        let (_, text) = shown(&Args { json: true, ..transcript(&folder.path().join("out/asked")) });
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 3);
        let first = &rows[0];
        assert_eq!((&first["id"], &first["row"], first["answers"].as_array().unwrap().len()), (&json!("r0"), &json!(0), 2));
        let (unused, used) = (&first["answers"][0], &first["answers"][1]);
        assert!(unused["sent_back"].as_str().unwrap().contains("no JSON") && used["sent_back"].is_null(), "{first}");
        assert_eq!(used["answer"], "{\"it\": \"a cat\"}");
        assert_eq!((&used["usage"]["prompt_tokens"], &used["model"], &used["llm"]), (&json!(1203), &json!("tiny-1"), &json!("local")));
        assert_eq!(used["request"]["messages"].as_array().unwrap().len(), 4);
        assert_eq!((&rows[1]["answers"][0]["found"], &rows[2]["answers"]), (&json!(false), &json!([])));
    }

    #[test]
    fn a_page_folds_them_under_the_row() {
        let folder = tempfile::tempdir().unwrap();
        output(folder.path());
        // Of an output, what no model made is shown as ever.
        write_parquet(&folder.path().join("out/pages/part-00000.parquet"), &batch(&ids(3)), true);
        let to = folder.path().join("page.html");
        for columns in [vec![], vec!["id".to_owned()]] {
            let wanted = Args { html: Some(to.clone()), columns, ..transcript(&folder.path().join("out")) };
            assert_eq!(crate::cli::inspect::execute(wanted).unwrap(), Exit::Done);
            let page = std::fs::read_to_string(&to).unwrap();
            assert_eq!(page.matches("<details class=\"asked\">").count(), 2);
            for part in [
                "<summary>2 answers of models, 1 could not be used</summary>",
                "answer 1 of 2 · tiny-1 · 1,203 + 7 tokens",
                "2 messages as before, and then:",
                "<div class=\"turn system\"><b><bdi>system</bdi></b><div class=\"text\" dir=\"auto\">Answer in JSON.</div>",
                "That can&#39;t be used: no JSON.",
                "is kept elsewhere",
            ] {
                assert!(page.contains(part), "{part}: {page}");
            }
            assert_eq!((page.matches("A cat, I think.").count(), page.matches("<article").count()), (1, 6));
        }
    }

    #[test]
    fn nothing_that_a_model_says_acts_on_the_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let answers = Answers::open(&folder.path().join(".answers"), "out").unwrap();
        let key = keep(&answers, &Ask::new(vec![Message::text(Role::User, PLANTED)], 8), PLANTED);
        write(&folder.path().join("out/asked/part-00000.parquet"), &[&[&key, PLANTED]]);
        for json in [false, true] {
            // No record: the run was ended. The answers are found beside the output.
            let (_, text) = shown(&Args { json, ..transcript(&folder.path().join("out/asked")) });
            assert!(text.contains("alert(1)"), "{text}");
            assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c)), "{text:?}");
            if json {
                let row: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(row["answers"][0]["answer"], PLANTED);
            }
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let failed = |args: Args| crate::cli::inspect::execute(args).unwrap_err();
        let said = |error: &miette::Report| format!("{error}; {}", error.help().map(|help| help.to_string()).unwrap_or_default());
        write_parquet(&folder.path().join("out/pages/part-00000.parquet"), &batch(&ids(3)), true);
        let html = Some(folder.path().join("page.html"));
        for args in [transcript(&folder.path().join("out/pages")), Args { html, ..transcript(&folder.path().join("out")) }] {
            let error = failed(args);
            assert_eq!(exit_of(&error), Exit::Usage);
            assert!(said(&error).contains("they have no column `answer_keys`"), "{}", said(&error));
        }
        let error = failed(transcript(&folder.path().join("out")));
        assert!(exit_of(&error) == Exit::Usage && said(&error).contains("name the folder of a stage"), "{}", said(&error));
        write(&folder.path().join("out/asked/part-00000.parquet"), &[&["0123456789abcdef0123456789abcdef"]]);
        let asked = folder.path().join("out/asked");
        let error = failed(transcript(&asked));
        assert!(said(&error).contains("nothing says where") && said(&error).contains("`--answers`"), "{}", said(&error));
        std::fs::write(folder.path().join("out/run.json"), r#"{"answers": "/gone/answers"}"#).unwrap();
        assert!(said(&failed(transcript(&asked))).contains("were kept in /gone/answers, which is not there"));
        let named = Args { answers: Some(folder.path().join("none")), ..transcript(&asked) };
        assert!(said(&failed(named)).contains("there is no folder of answers"));
    }

    #[test]
    fn requests_of_any_form_are_told() {
        let told = |request: Value| messages(&request).into_iter().map(|message| (message.role, message.text)).collect::<Vec<_>>();
        let one = |role: &str, text: &str| vec![(role.to_owned(), text.to_owned())];
        assert_eq!(told(json!({"messages": [{"role": "user", "content": "a"}]})), one("user", "a"));
        let parts = json!([
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "0a0b"}},
            {"image": "0c"},
            {"audio": 1},
        ]);
        let text = "a\n[image, 26 characters]\n[image 0a0b]\n[image 0c]\n{\"audio\":1}";
        assert_eq!(told(json!({"messages": [{"role": "user", "content": parts}]})), one("user", text));
        assert_eq!(told(json!({"messages": [7]})), one("message", "7"));
        assert_eq!(told(json!([1])), one("request", "[1]"));
    }

    #[test]
    fn an_answer_that_was_shown_again_could_not_be_used() {
        let next = |shown: &str| {
            let message = |role: &str, text: &str| super::Message { role: role.to_owned(), text: text.to_owned() };
            [message("user", "ask"), message("assistant", shown), message("user", "wrong")]
        };
        assert_eq!(sent_back("a", &next("a")), Some("wrong".to_owned()));
        assert_eq!(sent_back("", &next("(nothing)")), Some("wrong".to_owned()));
        assert_eq!(sent_back("abcdef", &next("abc…")), Some("wrong".to_owned()));
        assert_eq!(sent_back("abcdef", &next("abd…")), None);
        assert_eq!(sent_back("abc", &next("b")), None);
        assert_eq!(sent_back("abc", &[]), None);
    }
}
