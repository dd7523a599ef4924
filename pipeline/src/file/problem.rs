//! What is wrong with a pipeline file: every problem with its place, shown together.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// A place in the pipeline file, or in the text of a `--set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// 0 is the file; `n` is the `n`-th `--set`.
    pub(crate) source: usize,
    /// Bytes of that text.
    pub(crate) span: Range<usize>,
}

impl Place {
    /// A place in source `source`.
    pub(crate) fn new(source: usize, span: Range<usize>) -> Self {
        Self { source, span }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

// Boxed, so that a `Result` with a problem in it stays small.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    message: String,
    label: String,
    place: Option<Place>,
    also: Vec<(Place, String)>,
    help: Option<String>,
}

impl Problem {
    /// A problem without a place: `message` says all.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Parts { message: message.into(), label: String::new(), place: None, also: Vec::new(), help: None }))
    }

    /// The same with the place it is shown at and what is said there.
    #[must_use]
    pub(crate) fn at(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.0.place = Some(place.clone());
        self.0.label = label.into();
        self
    }

    /// The same with a second place.
    #[must_use]
    pub(crate) fn also_at(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.0.also.push((place.clone(), label.into()));
        self
    }

    /// The same with a next step for the reader; `None` changes nothing.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.0.help = help.into().or(self.0.help);
        self
    }

    /// The same with asterisks in its own words, where `find` finds a secret.
    #[must_use]
    pub(crate) fn without(mut self, find: impl Fn(&str) -> Vec<Range<usize>>) -> Self {
        let Parts { message, label, also, help, .. } = &mut *self.0;
        for text in [message, label].into_iter().chain(also.iter_mut().map(|(_, label)| label)).chain(help) {
            for span in find(text) {
                star_out(text, span);
            }
        }
        self
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it is shown.
    #[cfg(test)]
    pub(crate) fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    fn order(&self) -> (usize, usize) {
        // What has no place (the file can't be opened, the output can't be written) comes last.
        self.0.place.as_ref().map_or((usize::MAX, 0), |place| (place.source, place.span.start))
    }
}

/// The texts that places refer to.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    texts: Vec<(String, String)>,
}

impl Sources {
    /// The file at `path`, as the user named it, and the `--set` arguments.
    pub(crate) fn new(path: &Path, text: &str, sets: &[String]) -> Self {
        let file = (path.display().to_string(), text.to_owned());
        // The name stands before the text, so that nobody looks for the line in the file.
        let sets = sets.iter().map(|set| ("--set".to_owned(), set.clone()));
        Self { texts: std::iter::once(file).chain(sets).collect() }
    }

    /// The same with asterisks where a secret may stand: at these places, and where `find` finds one.
    pub(crate) fn without(&self, secrets: &[Place], find: impl Fn(&str) -> Vec<Range<usize>>) -> Self {
        let mut hidden = self.clone();
        for (_, text) in &mut hidden.texts {
            for span in find(text) {
                star_out(text, span);
            }
        }
        for place in secrets {
            if let Some((_, text)) = hidden.texts.get_mut(place.source) {
                star_out(text, place.span.clone());
            }
        }
        hidden
    }

    /// The texts as miette shows them; none for one with lines that no terminal can show.
    fn codes(&self) -> Vec<Option<Code>> {
        let code = |(name, text): &(String, String)| {
            let can_be_shown = text.lines().all(|line| line.len() <= LONGEST_LINE);
            can_be_shown.then(|| Arc::new(NamedSource::new(name, visible(text))))
        };
        self.texts.iter().map(code).collect()
    }

    /// The text that `place` covers.
    pub(crate) fn text(&self, place: &Place) -> &str {
        self.texts.get(place.source).and_then(|(_, text)| text.get(place.span.clone())).unwrap_or_default()
    }

    /// `line:column` of a place, both from 1, in characters; `--set` for a place in one.
    pub(crate) fn position(&self, place: &Place) -> String {
        let text = match self.texts.get(place.source) {
            Some((_, text)) if place.source == 0 => text,
            _ => return "--set".to_owned(),
        };
        let before = text.get(..place.span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{line}:{column}")
    }
}

/// Puts asterisks there; as many bytes, so that all places are what they were, and what has several lines keeps them.
fn star_out(text: &mut String, span: Range<usize>) {
    if let Some(secret) = text.get(span.clone()) {
        let stars: String = secret.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
        text.replace_range(span, &stars);
    }
}

/// All that is wrong with a pipeline file, in the order of its lines.
#[derive(Debug, Clone)]
pub struct Problems {
    path: PathBuf,
    sources: Arc<Sources>,
    shown: Vec<Shown>,
    /// How many there are, shown or not.
    count: usize,
}

/// Most problems that are shown: who has more starts with the first ones.
const MOST_SHOWN: usize = 100;

/// Longest line that is shown, in bytes.
const LONGEST_LINE: usize = 2000;

impl Problems {
    /// Problems of the file at `path`; there is at least one.
    pub(crate) fn new(path: &Path, sources: &Arc<Sources>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::order);
        let mut unique: Vec<Problem> = Vec::new();
        for problem in problems {
            // An alias shows the same mistake once more, at the same place.
            let same_place = unique.iter().rev().take_while(|other| other.order() == problem.order());
            if !same_place.into_iter().any(|other| *other == problem) {
                unique.push(problem);
            }
        }
        let count = unique.len();
        let codes = sources.codes();
        let shown = unique.into_iter().take(MOST_SHOWN).map(|problem| Shown::new(problem, &codes, sources)).collect();
        Self { path: path.to_owned(), sources: Arc::clone(sources), shown, count }
    }

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The problems, in the order of the file's lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.shown.iter().map(|shown| &shown.problem)
    }

    /// One line a problem: `file:line:column: message`, for logs and editors.
    pub fn lines(&self) -> Vec<String> {
        let file = self.path.display();
        let line = |problem: &Problem| match &problem.0.place {
            Some(place) => format!("{file}:{}: {}", self.sources.position(place), problem.0.message),
            None => format!("{file}: {}", problem.0.message),
        };
        self.iter().map(line).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown.as_slice() {
            [one] => write!(f, "{one}"),
            many if many.len() < self.count => {
                write!(f, "{} problems in {}; these are the first {}", self.count, self.path.display(), many.len())
            }
            many => write!(f, "{} problems in {}", many.len(), self.path.display()),
        }
    }
}

impl std::error::Error for Problems {}

impl Diagnostic for Problems {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.only()?.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.only()?.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self.shown.as_slice() {
            [_] => None,
            many => Some(Box::new(many.iter().map(|shown| shown as &dyn Diagnostic))),
        }
    }
}

impl Problems {
    /// The problem, if there is just one: it is then shown without a list around it.
    fn only(&self) -> Option<&Shown> {
        match self.shown.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// A problem with the text it is shown in.
#[derive(Debug, Clone)]
struct Shown {
    problem: Problem,
    source: Option<Code>,
    /// Where it is, if its line is too long to be shown.
    position: Option<String>,
}

/// A text as miette shows it.
type Code = Arc<NamedSource<String>>;

impl Shown {
    fn new(problem: Problem, codes: &[Option<Code>], sources: &Sources) -> Self {
        let Some(place) = &problem.0.place else { return Self { problem, source: None, position: None } };
        let source = codes.get(place.source).cloned().flatten();
        let position = source.is_none().then(|| sources.position(place));
        Self { problem, source, position }
    }
}

/// `text` with control characters replaced by as many bytes of spaces: a terminal must not obey a pipeline file.
fn visible(text: &str) -> String {
    if !text.chars().any(is_hostile) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_hostile(c) {
            shown.extend(std::iter::repeat_n(' ', c.len_utf8()));
        } else {
            shown.push(c);
        }
        shown
    })
}

fn is_hostile(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Some(position) => write!(f, "{position}: {}", self.problem.0.message),
            None => f.write_str(&self.problem.0.message),
        }
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.problem.0.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.problem.0.place.as_ref()?;
        let first = std::iter::once((place, &self.problem.0.label));
        // A label in another text (a `--set`) can't be shown in this one.
        let also = self.problem.0.also.iter().map(|(place, label)| (place, label)).filter(|(other, _)| other.source == place.source);
        Some(Box::new(first.chain(also).map(|(place, label)| {
            let label = (!label.is_empty()).then(|| label.clone());
            LabeledSpan::new(label, place.span.start, place.span.len())
        })))
    }
}

/// Most names that a wrong one is compared with.
const MOST_COMPARED: usize = 1000;

/// The name among `names` that `wrong` was probably meant to be.
pub(crate) fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = wrong.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    // A third of the letters may be wrong: `txt` is `text`, `from` is not `form_of`.
    let allowed = |name: &str| wrong.chars().count().max(name.chars().count()).max(3) / 3;
    let could_be = |name: &&str| wrong.chars().count().abs_diff(name.chars().count()) <= allowed(name);
    let near = names.into_iter().take(MOST_COMPARED).filter(could_be).map(|name| (distance(name), name));
    near.filter(|(distance, name)| *distance <= allowed(name)).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// `did you mean …?`, if there is a name near `wrong`.
pub(crate) fn did_you_mean<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest(wrong, names).map(|name| format!("did you mean `{name}`?"))
}

/// Most names that a message lists.
const MOST_LISTED: usize = 20;

/// Names in back quotes, separated by commas.
pub(crate) fn quoted<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let mut listed: Vec<String> = names.by_ref().take(MOST_LISTED).map(|name| format!("`{name}`")).collect();
    let more = names.count();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed.join(", ")
}
