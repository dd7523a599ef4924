//! `filter_url`: drops documents by the URL they come from: lists of domains and pages, words and parts of words.
//!
//! `tests/compare/urls` holds what it says against datatrove's `URLFilter` (0.10.0). Of 7,061 URLs in small letters, without percent signs and
//! fragments, 7,043 were judged alike; the others were hosts two levels below a blocked one (4), pages listed with another scheme or user (3), and
//! what has no host (11). Of 10,000 as they were found or made up, 8,962 were: the rest had capitals or percent signs in a word or a host, a
//! fragment behind a blocked page, or a host whose top-level domain is in no public list. What datatrove drops was always dropped.

mod address;
mod entries;
mod list;

use std::collections::HashMap;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use schemas::{ColumnSpec, document};
use serde::{Deserialize, Serialize};

use crate::units::ColumnName;
use crate::{BuildContext, Dropped, Emit, Inputs, Kind, Measure, Outputs, RowLocal, Stage, StageConfig, StageError, Verdict};
use address::{Address, write_letters};
use entries::{HashedSet, Substrings};

pub use list::{UrlList, UrlListFiles};

/// Drops documents whose URL is on a list, or has words of one in it.
///
/// A list is written out (`[casino.example, poker.example]`) or in files (`{files: [lists/adult.gz, "lists/more/*.txt"]}`, beside which
/// `entries: […]` adds some): plain or gzipped, one entry a line, with empty lines and those that begin with `#` passed over. An entry of a
/// list of domains or URLs takes 8 bytes of memory (a million 8 MB, and 0.5 MB a setting).
///
/// A host is compared as browsers read it: small and capital letters, a full stop at its end, the port, a user's name before it
/// (`http://good.example@bad.example/` is of `bad.example`), names of other alphabets and their `xn--` form, `%65` for `e`, and the ways to
/// write an IPv4 address make no difference. A URL without a scheme is taken for one of `http`.
///
/// Reasons, in the order in which they are looked for: `blocked_domain`, `blocked_url`, `banned_word`, `soft_words` (with their number and the
/// most there may be) and `banned_substring`; `no_url` where the column is null or empty, and `bad_url` where it has no host, or one that
/// cannot be, are subject to `without_url`. What the allowing lists have is kept, whatever else it has.
///
/// Compared with datatrove's `URLFilter`: a blocked host blocks all below it, whether it is a registered domain or not; URLs of one page that
/// are written in different ways are one; words and parts of words are found in capitals (`/Poker`), in any alphabet and behind percent signs,
/// and neither the scheme nor a user's name is searched; its `soft_word_threshold: 2` is `max_soft_words: 1`; no lists come with the stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterUrlConfig {
    /// The column that holds the URL.
    #[serde(default = "default_column")]
    pub column: ColumnName,
    /// Lists of domains that are kept, with all below them (`example.com`: `www.example.com`, too).
    #[serde(default)]
    pub allowed_domains: UrlList,
    /// Lists of URLs that are kept; compared as those of `blocked_urls`.
    #[serde(default)]
    pub allowed_urls: UrlList,
    /// Lists of domains that are dropped, with all below them. Lines may be of a `hosts` file (`0.0.0.0 example.com`), and an address is a host,
    /// too.
    #[serde(default)]
    pub blocked_domains: UrlList,
    /// Lists of URLs that are dropped. Host, port, path and query decide; neither the scheme, which may be left out, nor the fragment, nor a
    /// slash at the path's end does.
    #[serde(default)]
    pub blocked_urls: UrlList,
    /// Lists of words that may not be in a URL: what stands between characters that are neither letters nor digits, in the host, the path, the
    /// query and the fragment. Small and capital letters are the same.
    #[serde(default)]
    pub banned_words: UrlList,
    /// Lists of words of which a URL may have `max_soft_words`, found as `banned_words` are.
    #[serde(default)]
    pub soft_words: UrlList,
    /// The most different words of `soft_words` that a URL may have.
    #[serde(default = "default_max_soft_words")]
    pub max_soft_words: u32,
    /// Lists of what may be nowhere in a URL, not even within a word or across several: neither the URL's nor the entry's characters that are
    /// no letters or digits count, so that `free poker` is found in `freepokersite.example` and in `/free-poker/`.
    #[serde(default)]
    pub banned_substrings: UrlList,
    /// What becomes of documents without a URL, or with one that has no host: words are looked for in these.
    #[serde(default)]
    pub without_url: WithoutUrl,
}

/// What becomes of documents that cannot be judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutUrl {
    /// Nothing speaks against them, so they are kept.
    #[default]
    Keep,
    /// They are dropped, as `no_url` or `bad_url`.
    Drop,
}

fn default_column() -> ColumnName {
    ColumnName::new("url")
}

fn default_max_soft_words() -> u32 {
    1
}

impl StageConfig for FilterUrlConfig {
    const NAME: &'static str = "filter_url";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::RowLocal;
    const INPUTS: Inputs = Inputs::One;
    const EXAMPLE: &'static str =
        "{use: filter_url, from: pages, blocked_domains: [casino.example], banned_words: [poker], soft_words: [bet, win]}";
    const TAGS: bool = true;

    fn reads(&self) -> Vec<ColumnSpec> {
        vec![document::TEXT.named(self.column.as_str()).spec()]
    }

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        let input = cx.input()?;
        Ok(Outputs::new(input.clone()).with_dropped(input)?)
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        Ok(Stage::RowLocal(Box::new(FilterUrl::try_new(self, cx)?)))
    }

    fn files(&self, cx: &BuildContext) -> Result<Vec<(String, PathBuf)>, StageError> {
        let mut files = Vec::new();
        for (setting, list) in self.lists() {
            files.extend(list.files(cx, setting)?);
        }
        Ok(files)
    }
}

impl FilterUrlConfig {
    fn lists(&self) -> [(&'static str, &UrlList); 7] {
        [
            ("allowed_domains", &self.allowed_domains),
            ("allowed_urls", &self.allowed_urls),
            ("blocked_domains", &self.blocked_domains),
            ("blocked_urls", &self.blocked_urls),
            ("banned_words", &self.banned_words),
            ("soft_words", &self.soft_words),
            ("banned_substrings", &self.banned_substrings),
        ]
    }
}

/// What is known of a word.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    is_banned: bool,
    /// Its number among the soft words.
    soft: Option<usize>,
}

#[derive(Debug)]
struct FilterUrl {
    column: ColumnName,
    allowed_domains: HashedSet,
    allowed_urls: HashedSet,
    blocked_domains: HashedSet,
    blocked_urls: HashedSet,
    words: HashMap<String, Word>,
    substrings: Option<Substrings>,
    max_soft_words: u32,
    soft_words: Option<Measure>,
    without_url: WithoutUrl,
}

/// Buffers that are used for one URL after the other.
#[derive(Debug, Default)]
struct Scratch {
    page: String,
    words: String,
    letters: String,
    soft: Vec<usize>,
}

impl FilterUrl {
    fn try_new(config: &FilterUrlConfig, cx: &BuildContext) -> Result<Self, StageError> {
        let mut words: HashMap<String, Word> = HashMap::new();
        config.banned_words.read(cx, "banned_words", |line| {
            words.entry(entries::word(line)?).or_default().is_banned = true;
            Ok(())
        })?;
        let mut n_soft = 0;
        config.soft_words.read(cx, "soft_words", |line| {
            words.entry(entries::word(line)?).or_default().soft = Some(n_soft);
            n_soft += 1;
            Ok(())
        })?;
        let mut substrings = Vec::new();
        config.banned_substrings.read(cx, "banned_substrings", |line| {
            substrings.push(entries::substring(line)?);
            Ok(())
        })?;
        let substrings = Substrings::try_new(substrings).map_err(|problem| StageError::setting("banned_substrings", problem))?;
        let soft_words = || {
            let most = f64::from(config.max_soft_words);
            Measure::new("soft_words", "soft words of the URL, each counted once").at_most("max_soft_words", most)
        };
        Ok(Self {
            column: config.column.clone(),
            allowed_domains: hashed(cx, "allowed_domains", &config.allowed_domains, |line, _| entries::domain(line))?,
            allowed_urls: hashed(cx, "allowed_urls", &config.allowed_urls, |line, page| Ok(entries::page(line, page)))?,
            blocked_domains: hashed(cx, "blocked_domains", &config.blocked_domains, |line, _| entries::domain(line))?,
            blocked_urls: hashed(cx, "blocked_urls", &config.blocked_urls, |line, page| Ok(entries::page(line, page)))?,
            words,
            substrings,
            max_soft_words: config.max_soft_words,
            soft_words: (n_soft > 0).then(soft_words),
            without_url: config.without_url,
        })
    }

    fn verdict(&self, url: Option<&str>, scratch: &mut Scratch, out: &mut Emit) -> Verdict {
        let Some(url) = url.filter(|url| !url.trim().is_empty()) else { return self.unjudged("no_url") };
        let address = Address::parse(url);
        match &address {
            Some(address) => address.write_page(&mut scratch.page),
            None => url.clone_into(&mut scratch.page),
        }
        let is_of = |domains: &HashedSet| {
            !domains.is_empty() && address.as_ref().is_some_and(|address| address.domains().any(|domain| domains.contains(domain)))
        };
        if self.allowed_urls.contains(&scratch.page) || is_of(&self.allowed_domains) {
            return Verdict::Keep;
        }
        let is_listed = match (is_of(&self.blocked_domains), self.blocked_urls.contains(&scratch.page)) {
            (true, _) => Some("blocked_domain"),
            (false, true) => Some("blocked_url"),
            (false, false) => None,
        };
        let verdict = self.words_verdict(url, address.as_ref(), scratch, is_listed, out);
        if verdict == Verdict::Keep && address.is_none() { self.unjudged("bad_url") } else { verdict }
    }

    fn words_verdict(
        &self,
        url: &str,
        address: Option<&Address>,
        scratch: &mut Scratch,
        is_listed: Option<&'static str>,
        out: &mut Emit,
    ) -> Verdict {
        if self.words.is_empty() && self.substrings.is_none() {
            return is_listed.map_or(Verdict::Keep, because);
        }
        if let Some(address) = address {
            address.write_words(&mut scratch.words);
        } else {
            scratch.words.clear();
            write_letters(url, &mut scratch.words);
        }
        let mut is_banned = false;
        scratch.soft.clear();
        for word in scratch.words.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let Some(known) = self.words.get(word) else { continue };
            is_banned |= known.is_banned;
            scratch.soft.extend(known.soft.filter(|number| !scratch.soft.contains(number)));
        }
        let n_soft = u32::try_from(scratch.soft.len()).unwrap_or(u32::MAX);
        let verdict = if let Some(reason) = is_listed {
            because(reason)
        } else if is_banned {
            because("banned_word")
        } else if n_soft > self.max_soft_words {
            Verdict::Drop(Dropped::measured("soft_words", n_soft.into(), self.max_soft_words.into()))
        } else if self.has_substring(scratch) {
            because("banned_substring")
        } else {
            Verdict::Keep
        };
        if let Some(measure) = &self.soft_words {
            out.observe(measure, n_soft.into(), verdict == Verdict::Keep);
        }
        verdict
    }

    fn has_substring(&self, scratch: &mut Scratch) -> bool {
        let Some(substrings) = &self.substrings else { return false };
        scratch.letters.clear();
        scratch.letters.extend(scratch.words.chars().filter(|character| character.is_alphanumeric()));
        substrings.is_in(&scratch.letters)
    }

    fn unjudged(&self, reason: &'static str) -> Verdict {
        match self.without_url {
            WithoutUrl::Keep => Verdict::Keep,
            WithoutUrl::Drop => because(reason),
        }
    }
}

fn because(reason: &'static str) -> Verdict {
    Verdict::Drop(Dropped { reason, value: None, threshold: None, duplicate_of: None })
}

/// The hashes of the entries of a list.
fn hashed(
    cx: &BuildContext,
    setting: &'static str,
    list: &UrlList,
    hash: impl Fn(&str, &mut String) -> Result<u64, String>,
) -> Result<HashedSet, StageError> {
    let (mut hashes, mut buffer) = (Vec::new(), String::new());
    list.read(cx, setting, |entry| {
        hashes.push(hash(entry, &mut buffer)?);
        Ok(())
    })?;
    Ok(if hashes.is_empty() { HashedSet::default() } else { HashedSet::new(hashes) })
}

impl RowLocal for FilterUrl {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        let column = document::TEXT.named(self.column.as_str());
        let mut scratch = Scratch::default();
        let verdicts: Vec<Verdict> = column.try_of(&batch)?.iter().map(|url| self.verdict(url, &mut scratch, out)).collect();
        out.split(&batch, verdicts)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use schemas::dropped;
    use serde_json::{Value, json};

    use super::*;
    use crate::Port;
    use crate::testing::{self, Balance, Outcome};

    fn run(settings: Value, urls: &[Option<&str>]) -> Outcome {
        let input = testing::strings(&[("url", urls.to_vec())]);
        testing::run::<FilterUrlConfig>(settings, &[(Port::FROM, input)])
    }

    /// Why each URL is dropped; empty where it is kept.
    fn reasons(settings: Value, urls: &[&str]) -> Vec<String> {
        let of_one = |url: &&str| testing::column(run(settings.clone(), &[Some(*url)]).dropped(), dropped::REASON.name()).concat();
        urls.iter().map(of_one).collect()
    }

    #[test]
    fn it_keeps_the_contract() {
        let settings =
            json!({"blocked_urls": ["example.org/3"], "banned_words": ["4"], "banned_substrings": ["org5"], "soft_words": ["org", "6"]});
        let got = testing::check_contract::<FilterUrlConfig>(settings, &testing::sample(), Balance::KeptOrDropped);
        let reasons: Vec<&str> = got.drop_reasons.keys().copied().collect();
        assert_eq!(reasons, ["banned_substring", "banned_word", "blocked_url", "soft_words"]);
    }

    #[test]
    fn a_domain_blocks_all_below_it_and_nothing_beside_it() {
        let settings = json!({"blocked_domains": ["casino.example", "co.uk", "10.0.0.1", "bücher.example"]});
        let blocked = [
            "http://casino.example/a",
            "https://WWW.Casino.Example.:8080",
            "casino.example?x",
            "ftp://u:p@a.b.casino.example/",
            "http://a.co.uk",
            "http://10.0.0.1:81/",
            "http://0xA.1/",
            "https://www.xn--bcher-kva.example",
        ];
        assert_eq!(reasons(settings.clone(), &blocked), ["blocked_domain"; 8]);
        let kept = [
            "http://mycasino.example/",
            "http://casino.example.com/",
            "http://example/casino.example",
            "http://casino.example@a.example",
            "http://a.10.0.0.1.example/",
            "http://10.0.0.10/",
            "http://uk/",
        ];
        assert_eq!(reasons(settings, &kept), [""; 7]);
    }

    #[test]
    fn a_page_is_one_however_its_url_is_written() {
        let settings = json!({"blocked_urls": ["http://a.example/b?c=d", "a.example/~e/", "https://b.example", "not a url"]});
        let blocked = [
            "https://A.example:443/b?c=d#x",
            "a.example/b?c=d",
            "http://a.example/~e",
            "http://a.example/%7Ee/../~e/",
            "b.example/",
            "not a url",
        ];
        let got = reasons(settings.clone(), &blocked);
        // A percent sign stays as it is written, as it does in browsers.
        assert_eq!(got, ["blocked_url", "blocked_url", "blocked_url", "blocked_url", "blocked_url", "blocked_url"]);
        let kept = [
            "http://a.example/b",
            "http://a.example/b?c=D",
            "http://a.example/B?c=d",
            "http://a.example:8080/b?c=d",
            "http://www.b.example",
            "b.example/a",
        ];
        assert_eq!(reasons(settings, &kept), [""; 6]);
    }

    #[test]
    fn words_are_whole_and_substrings_are_anywhere() {
        let words = json!({"banned_words": ["Poker", "öl"]});
        let urls = [
            "http://poker.example",
            "http://a.example/x/POKER-night",
            "a.example/?q=poker",
            "a.example/#poker",
            "http://a.example/%C3%96l",
            "http://xn--l-0ga.example/",
            "http://a.example/pokers",
            "http://videopoker.example",
            "poker://a.example",
            "http://poker@a.example",
            "http://poker:x@a.example",
        ];
        let expected = ["banned_word", "banned_word", "banned_word", "banned_word", "banned_word", "banned_word", "", "", "", "", ""];
        assert_eq!(reasons(words, &urls), expected);
        let parts = json!({"banned_substrings": ["Free Poker"]});
        let urls = [
            "http://myfreepokersite.example/",
            "http://a.example/free-poker",
            "http://free.example/poker",
            "http://a.example/fr/ee+poker!",
            "http://a.example/free/my/poker",
        ];
        assert_eq!(reasons(parts, &urls), ["banned_substring", "banned_substring", "", "banned_substring", ""]);
    }

    #[test]
    fn soft_words_count_once_each_and_the_bound_is_kept() {
        let settings = json!({"soft_words": ["bet", "win", "odds"], "max_soft_words": 1});
        let urls = [
            Some("http://a.example/bet/bet-BET"),
            Some("http://bet.example/a/win"),
            Some("http://a.example/bets"),
            Some("http://bet.example/win?odds"),
        ];
        let got = run(settings.clone(), &urls);
        assert_eq!(testing::column(got.rows(), "url"), ["http://a.example/bet/bet-BET", "http://a.example/bets"]);
        let dropped = got.dropped();
        assert_eq!(testing::column(dropped, dropped::REASON.name()), ["soft_words", "soft_words"]);
        assert_eq!(dropped::VALUE.of(dropped).iter().collect::<Vec<_>>(), [Some(2.0), Some(3.0)]);
        assert_eq!(dropped::THRESHOLD.of(dropped).iter().collect::<Vec<_>>(), [Some(1.0), Some(1.0)]);
        let measured = &got.measured["soft_words"];
        assert_eq!((measured.counts(), measured.range, measured.bounds[0].beyond), ([2, 2], Some([0.0, 3.0]), 2));
    }

    #[test]
    fn the_first_reason_counts_and_what_is_allowed_is_kept() {
        let settings = json!({
            "allowed_domains": ["good.casino.example"], "allowed_urls": ["a.example/poker/rules"], "blocked_domains": ["casino.example"],
            "blocked_urls": ["a.example/x", "casino.example/poker"], "banned_words": ["poker"], "soft_words": ["bet", "win"], "banned_substrings": ["bet"],
        });
        let urls = [
            "http://www.good.casino.example/poker",
            "https://a.example/poker/rules/#1",
            "http://casino.example/poker",
            "http://a.example/x",
            "http://a.example/poker/bet/win",
            "http://a.example/bet/win",
            "http://a.example/alphabet",
            "http://a.example/",
        ];
        let expected = ["", "", "blocked_domain", "blocked_url", "banned_word", "soft_words", "banned_substring", ""];
        assert_eq!(reasons(settings, &urls), expected);
    }

    #[test]
    fn without_a_url_is_a_setting() {
        let urls = [None, Some(""), Some(" "), Some("http:///a"), Some("http://[::"), Some("/poker"), Some("http://a.example")];
        let kept = run(json!({"banned_words": ["poker"]}), &urls);
        assert_eq!((kept.rows().num_rows(), &kept.drop_reasons), (6, &[("banned_word", 1)].into()));
        let dropped = run(json!({"banned_words": ["poker"], "without_url": "drop"}), &urls);
        assert_eq!(dropped.drop_reasons, [("bad_url", 2), ("banned_word", 1), ("no_url", 3)].into());
    }

    #[test]
    fn lists_are_read_from_files_which_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("a.txt"), "# casinos\nCasino.example\n\n0.0.0.0 poker.example\n").expect("written");
        fs::write(dir.path().join("b.txt"), "bets.example\n").expect("written");
        let files = dir.path().join("*.txt").display().to_string();
        let settings = json!({"blocked_domains": {"files": [files], "entries": ["odds.example"]}});
        let urls = ["http://casino.example", "http://poker.example", "http://a.bets.example", "http://odds.example", "http://a.example"];
        assert_eq!(reasons(settings.clone(), &urls), ["blocked_domain", "blocked_domain", "blocked_domain", "blocked_domain", ""]);
        let config: FilterUrlConfig = serde_json::from_value(settings).expect("settings");
        let cx = BuildContext::new("urls", dir.path(), 0, Vec::new());
        let names: Vec<String> = config.files(&cx).expect("files").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.txt", "b.txt"]);
    }

    #[test]
    fn what_is_no_entry_is_refused_at_its_setting_and_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("list").display().to_string();
        fs::write(&path, "a.example\nb.example/c\n").expect("written");
        let refusal =
            |settings: Value| testing::refusal::<FilterUrlConfig>(settings, &[(Port::FROM, testing::sample())]).replace(&path, "LIST");
        assert_eq!(
            refusal(json!({"blocked_domains": {"files": [path]}})),
            "blocked_domains: `LIST`: line 2: wanted a domain, found `b.example/c`, which is a page's URL or has a port"
        );
        assert_eq!(refusal(json!({"blocked_urls": [path]})), "blocked_urls: `LIST` is a file; to read it write `{files: [LIST]}`");
        assert_eq!(
            refusal(json!({"banned_words": ["a b"]})),
            "banned_words: wanted one word of letters and digits, found `a b`: it would never be found between two others"
        );
        assert_eq!(refusal(json!({"banned_substrings": ["--"]})), "banned_substrings: wanted letters or digits, found `--`");
        assert!(refusal(json!({"soft_words": {"files": [format!("{path}.not")]}})).starts_with("soft_words: "));
        assert!(refusal(json!({"soft_words": {"files": [dir.path()]}})).ends_with("/*`"));
    }

    #[test]
    #[ignore = "tests/compare/urls makes the file"]
    fn urls_of_a_file_are_judged() {
        let [asked, answered] =
            ["GRANARY_URLS", "GRANARY_URL_REASONS"].map(|file| std::env::var(file).expect("tests/compare/urls names it"));
        let asked: Value = serde_json::from_str(&fs::read_to_string(asked).expect("a file")).expect("JSON");
        let urls: Vec<Option<&str>> = asked["urls"].as_array().expect("a list").iter().map(Value::as_str).collect();
        let cx = BuildContext::new("urls", std::path::Path::new("."), 0, Vec::new());
        let config: FilterUrlConfig = serde_json::from_value(asked["settings"].clone()).expect("settings");
        let filter = FilterUrl::try_new(&config, &cx).expect("it builds");
        let input = testing::strings(&[("url", Vec::new())]);
        let mut out = Emit::new(Outputs::new(input.schema()));
        let mut scratch = Scratch::default();
        let verdicts: Vec<Verdict> = urls.iter().map(|url| filter.verdict(*url, &mut scratch, &mut out)).collect();
        let reason = |verdict: &Verdict| match verdict {
            Verdict::Keep => "",
            Verdict::Drop(why) => why.reason,
        };
        let reasons: Vec<&str> = verdicts.iter().map(reason).collect();
        fs::write(answered, json!(reasons).to_string()).expect("written");
    }

    #[test]
    fn hostile_urls_are_judged_in_time() {
        let settings =
            json!({"blocked_domains": ["casino.example"], "banned_words": ["poker"], "soft_words": ["bet"], "banned_substrings": ["aab"]});
        for piece in ["a.", "%", "%20", "/", "../", "@", ":", "日", "xn--", "aa", "?", "\u{202E}", "\0", "[", "😀"] {
            let url = format!("http://{}", piece.repeat((1 << 20) / piece.len()));
            let got = run(settings.clone(), &[Some(url.as_str())]);
            assert_eq!(got.rows().num_rows() + got.dropped().num_rows(), 1);
        }
    }

    proptest! {
        #[test]
        fn what_a_list_has_is_found(host in "[a-z]{1,10}(\\.[a-z0-9]{1,8}){0,3}\\.[a-z]{2,4}", path in "(/[a-zA-Z0-9~._-]{1,8}){0,3}", below in "([a-z]{1,5}\\.){0,2}") {
            let url = format!("https://{below}{host}{path}");
            prop_assert_eq!(reasons(json!({"blocked_domains": [&host]}), &[url.as_str()]), ["blocked_domain"]);
            prop_assert_eq!(reasons(json!({"blocked_urls": [&url]}), &[url.replace("https", "http").as_str()]), ["blocked_url"]);
            prop_assert_eq!(reasons(json!({"blocked_domains": [&host], "allowed_urls": [&url]}), &[url.as_str()]), [""]);
        }
    }
}
