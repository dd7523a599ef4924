use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::join_all;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::index::list;
use super::*;
use crate::llm::{Ask, Image, Message, Part, Role};

const LLM: &str = "local";

fn key(n: u64) -> AnswerKey {
    AnswerKey(blake3::hash(&n.to_le_bytes()).as_bytes()[..16].try_into().unwrap())
}

fn answer(text: impl Into<String>) -> StoredAnswer {
    let usage = Usage { prompt_tokens: 11, completion_tokens: 7, guessed: false };
    StoredAnswer { text: text.into(), cut: true, usage, model: Some("tiny-1".to_owned()), finish_reason: Some("length".to_owned()) }
}

fn spent(requests: u64, tokens: u64, cost: f64) -> Spent {
    Spent { requests, tokens, cost }
}

fn open(folder: &TempDir) -> Answers {
    Answers::open(folder.path(), "out").unwrap()
}

fn put(answers: &Answers, n: u64, receipt: Option<Receipt>, cost: Spent) {
    block_on(answers.put(LLM, key(n), &answer(format!("answer {n}")), &json!({"n": n}), receipt, cost)).unwrap();
}

fn segments(folder: &TempDir) -> Vec<String> {
    list(folder.path()).unwrap()
}

/// Sees at once what others wrote.
fn look(answers: &Answers) -> &Answers {
    answers.inner.index.forget_refresh();
    answers
}

#[test]
fn an_answer_is_there_for_all_runs_as_it_was_put() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/answers");
    let answers = Answers::open(&path, "out").unwrap();
    assert_eq!(answers.get(&key(1)).unwrap(), None);
    assert!(!path.exists(), "the folder is made when it is needed");
    let image = Image { bytes: vec![0x89, 0x50], media_type: "image/png" };
    let hash = blake3::hash(&image.bytes).to_hex().to_string();
    let mut ask = Ask::new(vec![Message::text(Role::User, "What is it?")], 32);
    ask.messages[0].content.push(Part::Image(image.into()));
    let request = serde_json::to_value(&ask).unwrap();
    block_on(answers.put(LLM, key(1), &answer("a \u{1F600} 猫 \0"), &request, None, spent(1, 18, 0.5))).unwrap();
    for answers in [answers.clone(), Answers::open(&path, "another").unwrap(), Answers::view(&path).unwrap()] {
        assert_eq!(answers.get(&key(1)).unwrap(), Some(answer("a \u{1F600} 猫 \0")));
        assert_eq!(answers.get(&key(2)).unwrap(), None);
        let transcript = answers.transcript(&key(1)).unwrap().unwrap();
        assert_eq!(transcript.request, request);
        assert_eq!(transcript.request["messages"][0]["content"][1]["image"], hash);
        assert_eq!((transcript.llm.as_str(), transcript.account.as_str()), (LLM, "out"));
        assert_eq!((transcript.spent, transcript.answer), (spent(1, 18, 0.5), answer("a \u{1F600} 猫 \0")));
        assert!(transcript.when_ms > 1_700_000_000_000);
        assert_eq!((answers.len(), answers.keys()), (1, vec![key(1)]));
    }
    assert_eq!(answers.spent(LLM), spent(1, 18, 0.5));
    assert_eq!(Answers::open(&path, "out").unwrap().spent(LLM), spent(1, 18, 0.5));
    assert_eq!(Answers::open(&path, "out").unwrap().spent("other"), Spent::default());
    assert_eq!(Answers::open(&path, "another").unwrap().spent(LLM), Spent::default());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "who only reads writes nothing");
}

#[test]
fn nothing_but_the_request_that_was_given_is_written_of_it() {
    let folder = tempfile::tempdir().unwrap();
    put(&open(&folder), 1, None, Spent::default());
    let index = index::Index::open(folder.path()).unwrap();
    let written: Value = index.read(&key(1)).unwrap().unwrap();
    let fields: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["text", "cut", "usage", "model", "finish_reason", "when_ms", "llm", "account", "spent", "request"]);
    assert_eq!(written["request"], json!({"n": 1}));
}

#[test]
fn empty_and_long_answers_are_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    let long: String = (0..2_000_000_u32).map(|n| char::from(b'a' + u8::try_from(n.wrapping_mul(2_654_435_761) >> 28).unwrap())).collect();
    let answers = open(&folder);
    for (n, text) in [String::new(), long.clone(), "last".to_owned()].into_iter().enumerate() {
        block_on(answers.put(LLM, key(n as u64), &answer(text), &Value::Null, None, Spent::default())).unwrap();
    }
    let answers = open(&folder);
    let texts: Vec<String> = (0..3).map(|n| answers.get(&key(n)).unwrap().unwrap().text).collect();
    assert!(texts == [String::new(), long, "last".to_owned()]);
}

#[test]
fn the_later_of_two_answers_of_a_key_is_the_one() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    for text in ["first", "second"] {
        block_on(answers.put(LLM, key(1), &answer(text), &Value::Null, None, Spent::default())).unwrap();
        assert_eq!(answers.get(&key(1)).unwrap().unwrap().text, text);
    }
    assert_eq!(open(&folder).get(&key(1)).unwrap().unwrap().text, "second");
    assert_eq!(open(&folder).len(), 1);
}

#[test]
fn a_segment_cut_anywhere_keeps_what_was_before() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    put(&answers, 1, None, spent(1, 10, 0.0));
    put(&answers, 2, None, spent(1, 20, 0.0));
    let receipt = answers.reserve(LLM, spent(1, 500, 0.0)).unwrap();
    let name = segments(&folder).remove(0);
    let before = fs::metadata(folder.path().join(&name)).unwrap().len();
    put(&answers, 3, Some(receipt), spent(1, 40, 0.0));
    drop(answers);
    let whole = fs::read(folder.path().join(&name)).unwrap();
    for end in usize::try_from(before).unwrap()..=whole.len() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(&name), &whole[..end]).unwrap();
        let answers = open(&folder);
        let is_whole = end == whole.len();
        assert_eq!([1, 2, 3].map(|n| answers.get(&key(n)).unwrap().is_some()), [true, true, is_whole], "{end}");
        // A request whose answer is not there may have been paid for.
        assert_eq!(answers.spent(LLM), if is_whole { spent(3, 70, 0.0) } else { spent(3, 530, 0.0) }, "{end}");
    }
    for end in 0..usize::try_from(before).unwrap() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(&name), &whole[..end]).unwrap();
        let answers = open(&folder);
        assert!(answers.get(&key(3)).unwrap().is_none());
        assert!(answers.get(&key(1)).unwrap().is_some() || answers.get(&key(2)).unwrap().is_none(), "{end}");
    }
}

#[test]
fn a_changed_byte_anywhere_costs_one_record_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    for n in 0..5 {
        put(&answers, n, None, spent(1, 10, 0.0));
    }
    drop(answers);
    let name = segments(&folder).remove(0);
    let whole = fs::read(folder.path().join(&name)).unwrap();
    let mut lost = 0;
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xFF] {
            let mut changed = whole.clone();
            changed[at] ^= change;
            fs::write(folder.path().join(&name), &changed).unwrap();
            let answers = Answers::view(folder.path()).unwrap();
            let there: Vec<_> = (0..5).filter_map(|n| answers.get(&key(n)).unwrap().map(|answer| (n, answer.text))).collect();
            assert!(there.len() >= 4 && there.iter().all(|(n, text)| *text == format!("answer {n}")), "{at}: {there:?}");
            lost += 5 - there.len();
        }
    }
    assert!(lost > whole.len(), "what is damaged is noticed: {lost}");
}

#[test]
fn stretches_that_were_never_written_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    put(&open(&folder), 1, None, Spent::default());
    put(&open(&folder), 2, None, Spent::default());
    let names = segments(&folder);
    let mut file = fs::OpenOptions::new().append(true).open(folder.path().join(&names[0])).unwrap();
    file.write_all(&vec![0; 3 << 20]).unwrap();
    // Marks that begin no record, and one that is cut.
    file.write_all(&record::MARK.repeat(100_000)).unwrap();
    file.write_all(&fs::read(folder.path().join(&names[1])).unwrap()).unwrap();
    fs::remove_file(folder.path().join(&names[1])).unwrap();
    let answers = open(&folder);
    assert!(answers.get(&key(1)).unwrap().is_some() && answers.get(&key(2)).unwrap().is_some());
}

#[test]
fn damage_is_told_from_what_a_writer_leaves_that_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    put(&answers, 0, None, Spent::default());
    drop(answers);
    let first = fs::read(folder.path().join(&segments(&folder)[0])).unwrap().len();
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    for n in 0..4 {
        put(&answers, n, None, Spent::default());
    }
    drop(answers);
    let whole = fs::read(folder.path().join(&segments(&folder)[0])).unwrap();
    let gaps = |bytes: &[u8]| {
        let path = folder.path().join("tried");
        fs::write(&path, bytes).unwrap();
        scan::scan(&fs::File::open(&path).unwrap(), 0, &mut |_, _, _| {}).unwrap().gaps
    };
    for end in record::PREAMBLE.len()..=whole.len() {
        assert_eq!(gaps(&whole[..end]), 0, "{end}");
    }
    assert_eq!(gaps(b""), 1);
    assert_eq!(gaps(&whole[record::PREAMBLE.len()..]), 1);
    let noise: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| byte ^ blake3::hash(&at.to_le_bytes()).as_bytes()[0]).collect();
    assert_eq!(gaps(&noise), 2, "it neither begins nor goes on as a segment");
    assert_eq!(gaps(&[&whole[..first], &noise[first..]].concat()), 1);
    assert_eq!(gaps(&[&whole, &[0; record::HEAD - 1][..]].concat()), 0);
    assert_eq!(gaps(&[&whole, &[0; record::HEAD][..]].concat()), 1);
    // A piece is missing in the middle of the first record, and of the last but one.
    assert_eq!(gaps(&[&whole[..first - 9], &whole[first..]].concat()), 1);
    let body = whole.len() - (whole.len() - first) / 3 - 9;
    assert_eq!(gaps(&[&whole[..body], &whole[body + 9..]].concat()), 1);
    // One byte of a head is another.
    let mut changed = whole.clone();
    changed[first + 20] ^= 1;
    assert_eq!(gaps(&changed), 1);
}

#[test]
fn answers_that_come_together_wait_for_the_disk_together() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    put(&answers, 9999, None, Spent::default());
    let before = answers.inner.writer.syncs();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let held = answers.inner.writer.hold();
    let puts: Vec<_> = (0..1000)
        .map(|n| {
            let answers = answers.clone();
            runtime.spawn(async move { answers.put(LLM, key(n), &answer(n.to_string()), &Value::Null, None, spent(1, 1, 0.0)).await })
        })
        .collect();
    // While the writer waits for the disk, the runtime goes on: all have handed in their answers.
    while answers.inner.writer.sent() < 1001 {
        std::thread::yield_now();
    }
    assert!(answers.get(&key(500)).unwrap().is_none(), "nothing is there before it is on the disk");
    drop(held);
    assert!(runtime.block_on(join_all(puts)).into_iter().all(|put| put.unwrap().is_ok()));
    let syncs = answers.inner.writer.syncs() - before;
    assert!((1..=2).contains(&syncs), "{syncs}");
    assert_eq!((answers.len(), answers.spent(LLM).requests), (1001, 1000));
    assert_eq!(open(&folder).len(), 1001);
}

#[test]
fn an_answer_is_kept_though_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    let (text, request) = (answer("x"), Value::Null);
    let held = answers.inner.writer.hold();
    let put = answers.put(LLM, key(1), &text, &request, None, spent(1, 1, 0.0));
    assert!(put.now_or_never().is_none(), "it waits, and is given up");
    drop(held);
    drop(answers);
    assert!(open(&folder).get(&key(1)).unwrap().is_some());
}

#[test]
fn two_that_write_at_once_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&folder), open(&folder));
    put(&one, 1, None, spent(1, 10, 0.0));
    assert!(other.get(&key(1)).unwrap().is_none(), "not looked for more often than once a second");
    assert!(look(&other).get(&key(1)).unwrap().is_some());
    put(&other, 2, None, spent(1, 100, 0.0));
    assert!(look(&one).get(&key(2)).unwrap().is_some());
    // A segment that is known and grows.
    put(&one, 3, None, spent(1, 1000, 0.0));
    let receipt = one.reserve(LLM, spent(1, 10_000, 0.5)).unwrap();
    assert!(look(&other).get(&key(3)).unwrap().is_some());
    look(&other);
    assert_eq!(other.spent(LLM), spent(4, 11_110, 0.5));
    one.settle(receipt, spent(1, 7, 0.0)).unwrap();
    look(&other);
    assert_eq!(other.spent(LLM), spent(4, 1117, 0.0));
    assert_eq!(look(&one).spent(LLM), spent(4, 1117, 0.0));
    assert_eq!(segments(&folder).len(), 2);
    assert_eq!(other.len(), 3);
}

/// The other process of the tests below: this test binary, told by an environment variable what to do.
#[test]
fn other_process() {
    let Ok(folder) = std::env::var("GRANARY_TEST_ANSWERS") else { return };
    let answers = Answers::open(Path::new(&folder), "out").unwrap();
    let mut out = std::io::stdout();
    for n in 0.. {
        let receipt = answers.reserve(LLM, spent(1, 1000, 0.0)).unwrap();
        put(&answers, n, Some(receipt), spent(1, 10, 0.0));
        // Said when it is on the disk.
        writeln!(out, "kept {n}").unwrap();
    }
}

fn start_other(folder: &TempDir) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["llm::answers::tests::other_process", "--exact", "--nocapture"]);
    command.env("GRANARY_TEST_ANSWERS", folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn what_a_killed_process_was_told_is_kept_is_there() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3_u64 {
        let mut child = start_other(&folder);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let wanted = format!("kept {}", round * 7);
        let _ = lines.find(|line| *line == wanted).unwrap();
        let living = open(&folder);
        assert!((0..=round * 7).all(|n| living.get(&key(n)).unwrap().is_some()));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.filter_map(|line| line.strip_prefix("kept ")?.parse::<u64>().ok()).last().unwrap_or(round * 7);
        let answers = open(&folder);
        assert!((0..=last).all(|n| answers.get(&key(n)).unwrap().is_some()), "{last}");
        // All that was paid for is booked, and at most one request a kill is not known.
        let all = answers.spent(LLM);
        let open = all.tokens.saturating_sub(all.requests * 10) / 990;
        assert!(all.requests > last && all.tokens == all.requests * 10 + open * 990 && open <= round, "{all:?}");
    }
}

#[test]
fn what_a_process_may_have_spent_counts_in_full_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    let receipts: Vec<Receipt> = (0..4).map(|_| answers.reserve(LLM, spent(1, 100, 0.25)).unwrap()).collect();
    assert_eq!(answers.spent(LLM), spent(4, 400, 1.0));
    let mut receipts = receipts.into_iter();
    put(&answers, 1, receipts.next(), spent(1, 30, 0.125));
    answers.settle(receipts.next().unwrap(), spent(1, 0, 0.0)).unwrap();
    assert_eq!(answers.spent(LLM), spent(4, 230, 0.625));
    assert_eq!(open(&folder).spent(LLM), spent(4, 230, 0.625), "seen while it goes on");
    drop((receipts, answers));
    assert_eq!(open(&folder).spent(LLM), spent(4, 230, 0.625));
    assert_eq!(Answers::open(folder.path(), "another").unwrap().spent(LLM), Spent::default());
}

#[test]
fn together_they_keep_within_what_may_be_spent() {
    let folder = tempfile::tempdir().unwrap();
    let fits = |all: Spent| all.tokens <= 1000;
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let answers = open(&folder);
                scope.spawn(move || {
                    let mut receipts = Vec::new();
                    while let Some(receipt) = answers.reserve_within(LLM, spent(1, 30, 0.0), &fits).unwrap() {
                        receipts.push(receipt);
                    }
                    receipts.len()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 33);
    let answers = open(&folder);
    assert_eq!(answers.spent(LLM), spent(33, 990, 0.0));
    assert!(answers.reserve_within(LLM, spent(1, 10, 0.0), &fits).unwrap().is_some());
    assert!(answers.reserve_within(LLM, spent(1, 1, 0.0), &fits).unwrap().is_none());
}

/// As the store should book it.
#[derive(Debug, Clone, Default)]
struct Model {
    settled: Spent,
    answers: BTreeMap<u64, u64>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, what is spent is the sum of what was settled and of all that is not.
    #[test]
    fn what_is_spent_is_the_sum(steps in prop::collection::vec((0..6_u8, 0..8_u64, 0..1000_u64, 0..3_usize), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut writers: Vec<Answers> = (0..3).map(|_| open(&folder)).collect();
        let mut receipts: Vec<(usize, Spent, Receipt)> = Vec::new();
        let mut lost = Spent::default();
        let mut model = Model::default();
        for (step, n, tokens, who) in steps {
            let cost = spent(1, tokens, tokens as f64 / 8.0);
            match step {
                0 => receipts.push((who, cost, writers[who].reserve(LLM, cost).unwrap())),
                1 if !receipts.is_empty() => {
                    let (who, _, receipt) = receipts.swap_remove(usize::try_from(n).unwrap() % receipts.len());
                    writers[who].settle(receipt, cost).unwrap();
                    model.settled = model.settled.plus(cost);
                }
                2 if !receipts.is_empty() => {
                    let (who, _, receipt) = receipts.swap_remove(usize::try_from(n).unwrap() % receipts.len());
                    put(&writers[who], n, Some(receipt), cost);
                    model.settled = model.settled.plus(cost);
                    model.answers.insert(n, n);
                }
                3 => {
                    put(&writers[who], n, None, cost);
                    model.settled = model.settled.plus(cost);
                    model.answers.insert(n, n);
                }
                4 => {
                    // A process that ends takes its receipts along.
                    let (gone, stay): (Vec<_>, Vec<_>) = receipts.into_iter().partition(|(of, _, _)| *of == who);
                    lost = gone.iter().fold(lost, |sum, (_, most, _)| sum.plus(*most));
                    receipts = stay;
                    drop(std::mem::replace(&mut writers[who], Answers::view(folder.path()).unwrap()));
                    writers[who] = open(&folder);
                }
                _ => {}
            }
            let expected = receipts.iter().fold(model.settled.plus(lost), |sum, (_, most, _)| sum.plus(*most));
            prop_assert_eq!(look(&writers[who]).spent(LLM), expected);
        }
        let expected = receipts.iter().fold(model.settled.plus(lost), |sum, (_, most, _)| sum.plus(*most));
        let fresh = open(&folder);
        prop_assert_eq!(fresh.spent(LLM), expected);
        prop_assert_eq!(fresh.len(), model.answers.len());
        for n in model.answers.keys() {
            prop_assert_eq!(fresh.get(&key(*n)).unwrap().unwrap().text, format!("answer {n}"));
        }
    }
}

fn many_runs(folder: &TempDir, runs: u64) {
    for n in 0..runs {
        let answers = open(folder);
        put(&answers, n, None, spent(1, 10, 0.0));
        put(&answers, 1_000_000, None, spent(1, 1, 0.0)); // the same again in every run
        let _ = answers.reserve(LLM, spent(1, 100, 0.0)).unwrap(); // and one that is never settled
        let other = Answers::open(folder.path(), "another").unwrap();
        other.settle(other.reserve("x", spent(1, 5, 0.0)).unwrap(), spent(1, 2, 0.0)).unwrap();
    }
}

#[test]
fn many_small_segments_are_joined_into_one() {
    let folder = tempfile::tempdir().unwrap();
    many_runs(&folder, 32);
    assert_eq!(segments(&folder).len(), 64);
    let living = Answers::open(folder.path(), "living").unwrap();
    put(&living, 777, None, spent(1, 10, 0.0));
    assert_eq!(segments(&folder).len(), 65, "who lives is not counted");
    put(&open(&folder), 778, None, spent(1, 10, 0.0));
    let old: Vec<(String, Vec<u8>)> =
        segments(&folder).into_iter().map(|name| (name.clone(), fs::read(folder.path().join(name)).unwrap())).collect();
    let before = Answers::view(folder.path()).unwrap();
    let check = |answers: &Answers| {
        assert_eq!(answers.spent(LLM), spent(97, 32 * 111 + 10, 0.0));
        assert_eq!(Answers::view(folder.path()).unwrap().inner.index.total(&record::names("another", "x")), spent(32, 64, 0.0));
        for n in (0..32).chain([777, 778, 1_000_000]) {
            assert_eq!(answers.get(&key(n)).unwrap().unwrap().text, format!("answer {n}"));
            assert_eq!(answers.transcript(&key(n)).unwrap().unwrap().request["n"], n);
        }
        assert_eq!(answers.len(), 35);
    };
    check(&open(&folder));
    let names = segments(&folder);
    assert_eq!(names.len(), 2, "{names:?}");
    let joined = names.iter().find(|name| old.iter().all(|(old, _)| old != *name)).unwrap().clone();
    // One that had them open goes on, and takes up what stands for them.
    assert_eq!(before.get(&key(5)).unwrap().unwrap().text, "answer 5");
    let _ = look(&before).spent(LLM);
    assert_eq!(before.get(&key(5)).unwrap().unwrap().text, "answer 5");
    assert_eq!(before.len(), 35);
    // Ended before the old ones were removed: nothing is counted twice, and they go now.
    for (name, bytes) in &old {
        if !folder.path().join(name).exists() {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
    }
    let view = Answers::view(folder.path()).unwrap();
    assert_eq!(view.inner.index.total(&record::names("out", LLM)), spent(97, 32 * 111 + 10, 0.0));
    assert_eq!(segments(&folder).len(), 67, "who looks removes nothing");
    check(&open(&folder));
    assert_eq!(segments(&folder), names);
    // Ended in the middle of it: what was begun is no segment.
    let bytes = fs::read(folder.path().join(&joined)).unwrap();
    fs::write(folder.path().join(format!(".{joined}.new")), &bytes[..bytes.len() / 2]).unwrap();
    check(&open(&folder));
    // Joined again, with what was joined before.
    drop((living, before, view));
    many_runs(&folder, 32);
    let answers = open(&folder);
    assert_eq!(segments(&folder).len(), 1);
    assert_eq!(answers.spent(LLM), spent(97 + 96, 64 * 111 + 10, 0.0));
    assert_eq!(answers.len(), 35);
}

#[test]
fn a_joining_that_another_does_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    many_runs(&folder, 33);
    let lock = fs::File::create(folder.path().join(".join.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(open(&folder).len(), 34);
    assert_eq!(segments(&folder).len(), 66);
    lock.unlock().unwrap();
    let opened: Vec<Answers> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&folder))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for answers in opened.iter().chain([&open(&folder)]) {
        assert_eq!((answers.len(), look(answers).spent(LLM)), (34, spent(99, 33 * 111, 0.0)));
        assert!(answers.keys().iter().all(|key| answers.get(key).unwrap().is_some()));
    }
    assert_eq!(segments(&folder).len(), 1);
}

#[test]
fn a_file_in_the_place_of_the_folder_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("deeper")] {
        let error = Answers::open(&path, "out").unwrap_err();
        assert!(matches!(error, AnswersError::NotAFolder { .. }), "{error:?}");
        assert!(error.to_string().contains("a file stands where a folder should") && error.help().contains("`answers`"), "{error}");
    }
    // It comes only after the folder was looked at.
    let path = folder.path().join("later");
    let answers = Answers::open(&path, "out").unwrap();
    fs::write(&path, "x").unwrap();
    let error = answers.reserve(LLM, Spent::default()).unwrap_err();
    assert!(matches!(error, AnswersError::NotAFolder { .. }), "{error:?}");
    let error = block_on(answers.put(LLM, key(1), &answer("x"), &Value::Null, None, Spent::default())).unwrap_err();
    assert!(matches!(error, AnswersError::NotAFolder { .. }), "{error:?}");
    // What can be mended goes on.
    fs::remove_file(&path).unwrap();
    put(&answers, 1, None, Spent::default());
}

#[test]
fn a_folder_that_may_not_be_written_is_said_when_it_is_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    put(&open(&folder), 1, None, Spent::default());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let may_write = fs::write(folder.path().join("x"), "").is_ok();
    let answers = open(&folder);
    assert!(answers.get(&key(1)).unwrap().is_some());
    if !may_write {
        let error = answers.reserve(LLM, Spent::default()).unwrap_err();
        assert!(matches!(error, AnswersError::NotWritable { .. }), "{error:?}");
        assert!(error.help().contains("--offline-llm"));
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_stops_all_who_write_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    put(&answers, 1, None, spent(1, 1, 0.0));
    let receipt = answers.reserve(LLM, spent(1, 100, 0.0)).unwrap();
    answers.inner.writer.write_to(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let (text, request) = (answer("x"), Value::Null);
    let puts = join_all((2..50).map(|n| answers.put(LLM, key(n), &text, &request, None, spent(1, 1, 0.0))));
    for put in block_on(puts) {
        let error = put.unwrap_err();
        assert!(matches!(error, AnswersError::Full { .. }), "{error:?}");
        let StageError::Stopped { problem, help } = error.into() else { panic!("it stops the run") };
        assert!(problem.contains("No space left") && help.contains("make room"), "{problem}; {help}");
    }
    // What comes after a failure would stand behind a hole, though there is room again.
    answers.inner.writer.write_to(tempfile::tempfile().unwrap());
    assert!(answers.reserve(LLM, Spent::default()).is_err(), "no request is sent any more");
    assert!(answers.settle(receipt, Spent::default()).is_err());
    assert!(answers.get(&key(1)).unwrap().is_some() && answers.get(&key(2)).unwrap().is_none());
    assert_eq!(answers.spent(LLM), spent(2, 101, 0.0), "what could not be settled counts in full");
}

#[test]
fn a_segment_that_was_removed_takes_no_more_answers() {
    let folder = tempfile::tempdir().unwrap();
    let answers = open(&folder);
    put(&answers, 1, None, Spent::default());
    fs::remove_file(folder.path().join(&segments(&folder)[0])).unwrap();
    let error = block_on(answers.put(LLM, key(2), &answer("x"), &Value::Null, None, Spent::default())).unwrap_err();
    assert!(matches!(error, AnswersError::Removed { .. }), "{error:?}");
    assert!(answers.reserve(LLM, Spent::default()).is_err(), "no request is sent any more");
}

#[test]
fn more_segments_than_may_be_open_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    // Writers that live are not joined.
    let writers: Vec<Answers> = (0..150).map(|_| open(&folder)).collect();
    writers.iter().zip(0..).for_each(|(answers, n)| put(answers, n, None, spent(1, 1, 0.0)));
    let answers = open(&folder);
    assert!((0..150).all(|n| answers.get(&key(n)).unwrap().is_some()));
    put(&writers[149], 500, None, spent(1, 1, 0.0));
    assert!(look(&answers).get(&key(500)).unwrap().is_some());
    // Joined by another, they are found in what stands for them.
    drop(writers);
    assert_eq!(open(&folder).len(), 151);
    assert_eq!(segments(&folder).len(), 1);
    assert!((0..150).all(|n| answers.get(&key(n)).unwrap().is_some()));
    assert_eq!(answers.spent(LLM), spent(151, 151, 0.0));
}

#[test]
fn names_in_a_segment_lead_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside.seg");
    fs::write(&outside, "").unwrap();
    let inside = folder.path().join("answers");
    fs::create_dir(&inside).unwrap();
    let mut bytes = record::PREAMBLE.to_vec();
    record::push(&mut bytes, record::Kind::Replaces, [0; 16], b"../outside.seg\n.x.seg\n\xFF", &[], 0);
    record::push(&mut bytes, record::Kind::Replaces, [0; 16], b"../outside.seg\n.x.seg\n", &[], 0);
    fs::write(inside.join("1.seg"), bytes).unwrap();
    drop(Answers::open(&inside, "out").unwrap());
    assert!(outside.exists());
}
