//! What of an answer stands in its source: the share of its numbers, and of its names.

use std::collections::{BTreeMap, BTreeSet};

/// The share of the numbers of `answer` that `sources` have; `None` if it has none.
///
/// Numbers are compared by value: `1,000` is `1000`, `12.50` is `12.5`, `007` is `7`, `50%` is `50`, digits of full width are digits. Signs
/// do not count, since a hyphen before a number is none more often than not. Dates, times and versions are the numbers they are made of; for
/// a source, the English names of months, and of the numbers up to twenty, stand for their numbers too. Each number counts once.
pub(super) fn numbers(answer: &str, sources: &[&str]) -> Option<f64> {
    let said = numbers_of(answer);
    let mut known = BTreeSet::new();
    for source in sources {
        known.extend(numbers_of(source));
        known.extend(words(source).filter_map(|word| number_word(&word.text.to_lowercase())).map(|number| number.to_string()));
    }
    share(said.iter().filter(|number| known.contains(*number)).count(), said.len())
}

/// The share of the names of `answer` that `sources` have, in any case; `None` if it has none.
///
/// A name is a run of words that begin with a capital letter (with `of`, `de`, `von` and the like between two of them), at most eight. The
/// first word of a sentence belongs to one only if the next word does too and it is no function word such as `The`; by itself it is none. Text without capital
/// letters (Chinese, Japanese, Arabic) has no names; in German every noun is one. Each name counts once.
pub(super) fn entities(answer: &str, sources: &[&str]) -> Option<f64> {
    let said = entities_of(answer);
    let mut found: BTreeMap<&str, bool> = said.iter().map(|name| (name.as_str(), false)).collect();
    let sizes: BTreeSet<usize> = said.iter().map(|name| name.split(' ').count()).collect();
    for source in sources {
        // Words by single spaces: a run of words is a part of this text, so that each is looked up without being put together.
        let mut text = String::with_capacity(source.len());
        let mut spans = Vec::new();
        for word in words(source) {
            let start = text.len();
            push_lower(&mut text, word.text);
            spans.push((start, text.len()));
            text.push(' ');
        }
        for (at, (start, _)) in spans.iter().enumerate() {
            for size in &sizes {
                let Some((_, end)) = spans.get(at + size - 1) else { break };
                if let Some(found) = found.get_mut(&text[*start..*end]) {
                    *found = true;
                }
            }
        }
    }
    share(found.values().filter(|found| **found).count(), found.len())
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The numbers of a text, each as its shortest text.
fn numbers_of(text: &str) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    let mut run = String::new();
    for c in text.chars().chain([' ']) {
        let c = match c {
            '０'..='９' => char::from_u32(c as u32 - 0xFF10 + u32::from(b'0')).unwrap_or(c),
            '，' => ',',
            '．' => '.',
            other => other,
        };
        if c.is_ascii_digit() || (!run.is_empty() && matches!(c, ',' | '.')) {
            run.push(c);
        } else if !run.is_empty() {
            read_run(run.trim_end_matches([',', '.']), &mut numbers);
            run.clear();
        }
    }
    numbers
}

/// Reads digits with commas and points between them: one number if that is how one is written, else several.
fn read_run(run: &str, numbers: &mut BTreeSet<String>) {
    let (whole, fraction) = match run.split_once('.') {
        // Two points: a version, a date.
        Some((_, rest)) if rest.contains(['.', ',']) => {
            run.split(['.', ',']).for_each(|part| insert(part, "", numbers));
            return;
        }
        Some((whole, fraction)) => (whole, fraction),
        None => (run, ""),
    };
    let groups: Vec<&str> = whole.split(',').collect();
    let is_grouped = (1..=3).contains(&groups[0].len()) && !groups[0].starts_with('0') && groups[1..].iter().all(|group| group.len() == 3);
    match groups.split_last() {
        Some((last, others)) if !is_grouped && !others.is_empty() => {
            others.iter().for_each(|part| insert(part, "", numbers));
            insert(last, fraction, numbers);
        }
        _ => insert(&groups.concat(), fraction, numbers),
    }
}

fn insert(whole: &str, fraction: &str, numbers: &mut BTreeSet<String>) {
    if whole.is_empty() {
        return;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    numbers.insert(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") });
}

/// Of a month, or of a number up to twenty.
fn number_word(word: &str) -> Option<usize> {
    const MONTHS: [&str; 12] =
        ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];
    const WORDS: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    let month = MONTHS.iter().position(|month| *month == word).map(|month| month + 1);
    month.or_else(|| WORDS.iter().position(|number| *number == word))
}

/// A word without the marks around it.
struct Word<'t> {
    text: &'t str,
    /// Whether a sentence, or a line, begins with it.
    begins: bool,
    /// Whether a mark stands between it and the word before.
    apart: bool,
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let (mut begins, mut apart) = (true, true);
    text.split_inclusive(char::is_whitespace).filter_map(move |piece| {
        let bare = piece.trim_end();
        let ends_line = piece.ends_with('\n');
        let inner = bare.trim_start_matches(|c: char| !c.is_alphanumeric());
        let before = inner.len() < bare.len();
        let word = inner.trim_end_matches(|c: char| !c.is_alphanumeric());
        let after = &inner[word.len()..];
        let stripped = ["'s", "’s"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        let found = (!stripped.is_empty()).then_some(Word { text: stripped, begins, apart: apart || before });
        if found.is_some() {
            begins = false;
            apart = false;
        }
        begins |= ends_line || after.contains(['.', '!', '?', ':', ';', '…', '。', '！', '？']);
        apart |= begins || !after.is_empty();
        found
    })
}

/// Joins two words of a name: University of Oxford, Ludwig van Beethoven.
const PARTICLES: [&str; 14] = ["of", "de", "la", "du", "da", "di", "del", "van", "von", "der", "den", "bin", "al", "the"];

/// What a sentence may begin with that is part of no name.
const FUNCTION_WORDS: [&str; 62] = [
    "the", "a", "an", "in", "on", "at", "of", "for", "from", "by", "with", "and", "but", "or", "as", "if", "when", "while", "after",
    "before", "during", "since", "this", "that", "these", "those", "it", "he", "she", "they", "we", "you", "his", "her", "its", "their",
    "our", "my", "your", "there", "here", "what", "who", "why", "how", "where", "which", "not", "no", "yes", "to", "so", "then", "however",
    "both", "each", "all", "some", "many", "most", "only", "also",
];

const MAX_WORDS: usize = 8;

fn entities_of(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut run: Vec<&str> = Vec::new();
    let mut first_begins = false;
    // Particles that belong to the name only if it goes on.
    let mut waiting: Vec<&str> = Vec::new();
    for word in words(text) {
        let is_capital =
            word.text.starts_with(char::is_uppercase) && word.text != "I" && !word.text.starts_with("I'") && !word.text.starts_with("I’");
        if word.apart || run.len() + waiting.len() >= MAX_WORDS {
            finish(&mut run, first_begins, &mut names);
            waiting.clear();
        }
        if is_capital {
            if run.is_empty() {
                first_begins = word.begins;
                if word.begins && FUNCTION_WORDS.contains(&word.text.to_lowercase().as_str()) {
                    continue;
                }
            }
            run.append(&mut waiting);
            run.push(word.text);
        } else if !run.is_empty() && waiting.len() < 2 && PARTICLES.contains(&word.text) {
            waiting.push(word.text);
        } else {
            finish(&mut run, first_begins, &mut names);
            waiting.clear();
        }
    }
    finish(&mut run, first_begins, &mut names);
    names
}

fn finish(run: &mut Vec<&str>, first_begins: bool, names: &mut BTreeSet<String>) {
    if run.len() > 1 || (run.len() == 1 && !first_begins) {
        let mut name = String::new();
        for word in run.iter() {
            if !name.is_empty() {
                name.push(' ');
            }
            push_lower(&mut name, word);
        }
        names.insert(name);
    }
    run.clear();
}

fn push_lower(text: &mut String, word: &str) {
    text.extend(word.chars().flat_map(char::to_lowercase));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn listed(set: BTreeSet<String>) -> Vec<String> {
        set.into_iter().collect()
    }

    #[test]
    fn numbers_are_compared_by_value() {
        assert_eq!(
            listed(numbers_of("1,000 or 12.50, 007. 50% of 1,234,567.890; COVID-19")),
            ["1000", "12.5", "1234567.89", "19", "50", "7"]
        );
        assert_eq!(listed(numbers_of("2024-05-31 at 10:30, v1.2.3, 31.5.2024")), ["1", "10", "2", "2024", "3", "30", "31", "5"]);
        assert_eq!(listed(numbers_of("1,2,3 and 2019,2020 and 0,500")), ["0", "1", "2", "2019", "2020", "3", "500"]);
        assert_eq!(listed(numbers_of("１，２００人 0.0 .5 000")), ["0", "1200", "5"]);
        assert_eq!(listed(numbers_of("none, …,., -")), [""; 0]);
    }

    #[test]
    fn the_share_is_of_the_answers_numbers() {
        assert_eq!(numbers("In 1889, 1000 people; 42.", &["1,000 people came in 1889"]), Some(2.0 / 3.0));
        assert_eq!(numbers("No number.", &["1"]), None);
        assert_eq!(numbers("7", &[]), Some(0.0));
        assert_eq!(numbers("On 2024-05-31, 3 times.", &["May 31, 2024", "three times"]), Some(1.0));
        assert_eq!(numbers("7 and 7 and 8", &["7"]), Some(0.5));
    }

    #[test]
    fn names_are_runs_of_capital_letters_that_no_sentence_begins() {
        let names = |text: &str| listed(entities_of(text));
        assert_eq!(names("Marie Curie went to Paris. She worked there."), ["marie curie", "paris"]);
        assert_eq!(names("The Eiffel Tower is tall. Towers are."), ["eiffel tower"]);
        assert_eq!(
            names("I saw the University of Oxford and Oxford’s Bodleian Library"),
            ["oxford bodleian library", "university of oxford"]
        );
        assert_eq!(names("In May, he met Ludwig van Beethoven, Paris Hilton and I."), ["ludwig van beethoven", "may", "paris hilton"]);
        assert_eq!(names("- Paris\n- London Bridge\n**Rome**: it"), ["london bridge"]);
        assert_eq!(names("日本語の文。العربية 42 😀"), [""; 0]);
        assert_eq!(names("it is A B C D E F G H I J"), ["a b c d e f g h", "j"]);
        assert_eq!(names("she said Émile Zola’s"), ["émile zola"]);
    }

    #[test]
    fn a_name_is_found_as_whole_words_in_any_case() {
        assert_eq!(entities("He met Marie Curie in Rom.", &["MARIE CURIE lived in Rome."]), Some(0.5));
        assert_eq!(entities("He met Marie Curie.", &["Marie, then Curie.", "x Mariecurie"]), Some(0.0));
        assert_eq!(entities("he met nobody", &["x"]), None);
    }

    #[test]
    fn long_texts_take_time_in_proportion() {
        let long = 1 << 19;
        for text in [
            "1,".repeat(long / 2),
            "A ".repeat(long / 2),
            "1".repeat(long),
            "Aa".repeat(long / 2),
            "A of ".repeat(long / 5),
            " ".repeat(long),
            "1.".repeat(long / 2),
        ] {
            let begun = Instant::now();
            let _ = (numbers(&text, &[&text]), entities(&text, &[&text]));
            assert!(begun.elapsed() < Duration::from_secs(8), "{:?} for {}", begun.elapsed(), &text[..5]);
        }
    }

    proptest! {
        #[test]
        fn all_of_a_text_stands_in_itself(text in "\\PC{0,200}") {
            prop_assert!(numbers(&text, &[&text]).is_none_or(|share| share >= 1.0));
            prop_assert!(entities(&text, &[&text]).is_none_or(|share| share >= 1.0), "{:?}", entities_of(&text));
        }
    }
}
