//! A tokenizer as models are published with one: a `tokenizer.json`.

use std::cell::Cell;
use std::fmt::Display;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use tokenizers::{Encoding, PostProcessor, Tokenizer};

use crate::StageError;

/// Larger files are no tokenizers: that of 262,144 tokens takes 33 MB.
const MOST_BYTES: u64 = 256 << 20;

/// Texts are tokenized in pieces of at most so many bytes. A piece takes some 150 bytes of memory for each token.
const PIECE: usize = 1 << 18;

/// Counts and finds tokens.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    name: String,
}

impl TextTokenizer {
    /// Reads the file that the setting `tokenizer` names.
    ///
    /// # Errors
    /// At that setting, if it is no tokenizer.
    pub(crate) fn read(base_dir: &Path, name: &str) -> Result<Self, StageError> {
        let path = base_dir.join(name);
        let cannot = |problem: &dyn Display| {
            StageError::setting("tokenizer", format!("can't use `{name}` as a tokenizer: {problem}"))
                .with_help("wanted a tokenizer.json as models on Hugging Face have it")
        };
        let length = path.metadata().map_err(|error| cannot(&error))?.len();
        if length > MOST_BYTES {
            return Err(cannot(&format!("it has {length} bytes, and the most is {MOST_BYTES}")));
        }
        let bytes = std::fs::read(&path).map_err(|error| cannot(&error))?;
        let read = || -> Result<Tokenizer, tokenizers::Error> {
            let mut tokenizer = Tokenizer::from_bytes(&bytes)?;
            // A file may say that texts are to be cut or filled up to what the model takes: then every count would be the same.
            tokenizer.with_truncation(None)?;
            tokenizer.with_padding(None);
            tokenizer.encode_fast("A text, to see whether it can.", true)?;
            Ok(tokenizer)
        };
        let tokenizer = unwinding(read).map_err(|problem| cannot(&problem))?;
        Ok(Self { tokenizer, name: name.to_owned() })
    }

    /// How many tokens a text has.
    pub(crate) fn count(&self, text: &str, special_tokens: bool) -> Result<u64, String> {
        self.try_to(|| {
            let mut tokens =
                if special_tokens { self.tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false)) } else { 0 };
            for piece in pieces(text) {
                tokens += self.tokenizer.encode_fast(&text[piece], false)?.len();
            }
            Ok(tokens as u64)
        })
    }

    /// The tokens of a text, as numbers.
    pub(crate) fn ids(&self, text: &str, special_tokens: bool) -> Result<Vec<u32>, String> {
        self.try_to(|| {
            let mut ids = Vec::new();
            let mut pieces = pieces(text).peekable();
            while let Some(piece) = pieces.next() {
                if ids.is_empty() && pieces.peek().is_none() {
                    return Ok(self.tokenizer.encode_fast(&text[piece], special_tokens)?.get_ids().to_vec());
                }
                ids.extend_from_slice(self.tokenizer.encode_fast(&text[piece], false)?.get_ids());
            }
            if special_tokens {
                // What stands around a text does not depend on it: an empty one, and what is added before and behind it.
                let around = self.tokenizer.encode_fast("", true)?;
                let before = self.n_before()?;
                let (first, last) = around.get_ids().split_at(before.min(around.len()));
                ids = [first, &ids, last].concat();
            }
            Ok(ids)
        })
    }

    /// How many special tokens stand before a text.
    fn n_before(&self) -> Result<usize, tokenizers::Error> {
        let encoding = self.tokenizer.encode("a", true)?;
        Ok(encoding.get_special_tokens_mask().iter().take_while(|is_special| **is_special == 1).count())
    }

    /// At which bytes of a text its tokens begin, in order.
    pub(crate) fn starts(&self, text: &str) -> Result<Vec<usize>, String> {
        self.try_to(|| {
            let mut starts = Vec::new();
            for piece in pieces(text) {
                let encoding: Encoding = self.tokenizer.encode(&text[piece.clone()], false)?;
                starts.extend(encoding.get_offsets().iter().map(|(start, _)| piece.start + start));
            }
            starts.sort_unstable();
            Ok(starts)
        })
    }

    fn try_to<T>(&self, work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, String> {
        unwinding(work).map_err(|problem| format!("`{}` fails: {problem}", self.name))
    }
}

thread_local! {
    /// Whether a panic of this thread is caught and told of as an error.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does what runs on a file that anybody may have written: such as names a token that it does not have is met with a panic, of which nobody is to
/// see more than the error.
fn unwinding<T>(work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                before(info);
            }
        }));
    });
    IS_CAUGHT.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(false);
    match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("it contradicts itself: {}", said.unwrap_or_default()))
        }
    }
}

/// Cuts a text in pieces, before white space where there is any.
fn pieces(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let from = start;
        let rest = &text[from..];
        let length = if rest.len() <= PIECE {
            is_done = true;
            rest.len()
        } else {
            let most = rest.floor_char_boundary(PIECE);
            let space = |at: &usize| rest.as_bytes()[*at].is_ascii_whitespace() && !rest.as_bytes()[at - 1].is_ascii_whitespace();
            (most / 2..most).rev().find(space).unwrap_or(most)
        };
        start += length;
        Some(from..start)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// The tokenizer of the examples: 320 tokens, learnt from `docs/adding-a-stage.md`, with the rules and the bytes of GPT-2's, and `<s>` before a
    /// text.
    pub(crate) fn example() -> TextTokenizer {
        TextTokenizer::read(&examples(), "tokenizer.json").expect("a tokenizer")
    }

    pub(crate) fn examples() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
    }

    #[test]
    fn pieces_are_the_whole_text() {
        for text in [String::new(), "a b".to_owned(), "日本語 ".repeat(100_000), "x".repeat(1_000_000), " ".repeat(600_000)] {
            let pieces: Vec<Range<usize>> = pieces(&text).collect();
            assert_eq!(pieces.iter().map(|piece| &text[piece.clone()]).collect::<String>(), text);
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        }
        let words = "word ".repeat(100_000);
        let second = pieces(&words).nth(1).expect("two pieces");
        assert!(words[second].starts_with(" word"));
    }

    #[test]
    fn a_long_text_has_the_tokens_of_its_pieces() {
        let (tokenizer, text) = (example(), "Rows are kept, dropped or rejected. ".repeat(20_000));
        let one = tokenizer.count("Rows are kept, dropped or rejected. ", false).expect("a count");
        let all = tokenizer.count(&text, false).expect("a count");
        // None of the 320 tokens is the beginning of ` Rows`, so the space in front is one by itself as it is at the end.
        assert_eq!(all, one * 20_000);
        assert_eq!(tokenizer.ids(&text, false).expect("ids").len() as u64, all);
        assert_eq!(tokenizer.starts(&text).expect("starts").len() as u64, all);
        assert_eq!(tokenizer.count(&text, true).expect("a count"), all + 1);
        let with = tokenizer.ids(&text, true).expect("ids");
        assert_eq!((with.len() as u64, with[0]), (all + 1, tokenizer.ids("", true).expect("ids")[0]));
    }

    #[test]
    fn a_file_that_cuts_and_fills_up_texts_counts_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = fs::read_to_string(examples().join("tokenizer.json")).expect("a file");
        let mut json: serde_json::Value = serde_json::from_str(&file).expect("JSON");
        json["truncation"] = serde_json::json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = serde_json::json!({"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"});
        fs::write(folder.path().join("cut.json"), json.to_string()).expect("written");
        let cut = TextTokenizer::read(folder.path(), "cut.json").expect("a tokenizer");
        for text in ["A text of more than eight tokens, whichever they are.", "", "a"] {
            assert_eq!(cut.count(text, false), example().count(text, false));
        }
    }

    #[test]
    fn what_is_no_tokenizer_is_said_at_the_setting() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = fs::read_to_string(examples().join("tokenizer.json")).expect("a file");
        let unknown_special = file.replace("\"id\": \"<s>\"", "\"id\": \"<nowhere>\"");
        assert_ne!(unknown_special, file);
        let cases: [(&str, Vec<u8>); 8] = [
            ("cut_off.json", file.as_bytes()[..file.len() / 2].to_vec()),
            ("empty.json", Vec::new()),
            ("number.json", b"7".to_vec()),
            ("nested.json", b"[".repeat(1_000_000)),
            ("bytes.json", vec![0xFF; 100]),
            ("no_model.json", b"{\"version\": \"1.0\", \"added_tokens\": []}".to_vec()),
            ("merge.json", file.replace("\"merges\": [", "\"merges\": [[\"nowhere\", \"else\"], ").into_bytes()),
            ("special.json", unknown_special.into_bytes()),
        ];
        for (name, content) in cases {
            fs::write(folder.path().join(name), content).expect("written");
            match TextTokenizer::read(folder.path(), name) {
                Err(StageError::Setting { setting, problem, .. }) => {
                    assert_eq!(setting, "tokenizer");
                    assert!(problem.starts_with(&format!("can't use `{name}` as a tokenizer: ")), "{problem}");
                }
                Err(other) => panic!("{name}: {other}"),
                Ok(_) => panic!("{name} is read"),
            }
        }
        assert!(TextTokenizer::read(folder.path(), "nowhere.json").is_err());
        assert!(TextTokenizer::read(folder.path(), ".").is_err());
    }
}
