//! Makes a corpus to compare deduplication on: JSON lines of `id`, `source` and `text`, with exact and near copies among them.
//!
//! A document is made of paragraphs of real text in which every fourth word is replaced by another word from nearby, so that paragraphs
//! do not repeat. Each document is a function of the seed and its number alone: nothing is remembered, and any size takes the same memory.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: make-corpus OUTPUT [SETTING VALUE]…
  --texts DIR          texts to take paragraphs from: *.txt, and *.html of the Debian handbook's kind
  --docs N             documents (default 10000)
  --size BYTES         or so many as make this size, such as 600M or 10G
  --mean-bytes N       mean length of a text (default 3000)
  --exact SHARE        exact copies (default 0.10)
  --near SHARE         near copies, whose true Jaccard similarity (5 words) spreads over 0.5 to 0.99 (default 0.15)
  --sources N          values of `source` (default 8)
  --files N            files (default 4)
  --seed N             (default 1)
  --case CASE          mixed (default), or one of these, with texts of one length:
                       equal: all documents; near-equal: all but for the last one or two words; template: all but for the
                       last seventh, so that any two have a similarity of 0.75; across-sources: every tenth is the same one
  --families FILE      where to write which document is whose copy, one line a copy";

/// How much of a paragraph's words are replaced.
const FRESH: f64 = 0.25;
/// Paragraphs of a document are drawn from so many that follow each other, so that a document has one language.
const NEIGHBOURS: usize = 300;
/// Words that replace others are drawn from so many before and after.
const NEARBY: usize = 2000;

fn main() -> ExitCode {
    let made = Settings::from_args(std::env::args().skip(1)).and_then(|settings| {
        let texts = Texts::read(&settings.texts)?;
        Corpus { texts, settings }.write()
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Which corpus is made.
struct Settings {
    output: PathBuf,
    texts: PathBuf,
    families: Option<PathBuf>,
    docs: u64,
    mean_bytes: f64,
    exact: f64,
    near: f64,
    sources: u64,
    files: u64,
    seed: u64,
    case: Case,
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Mixed,
    Equal,
    NearEqual,
    Template,
    AcrossSources,
}

impl Settings {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut settings = Settings {
            output: args.next().filter(|arg| !arg.starts_with('-')).ok_or(USAGE)?.into(),
            texts: PathBuf::new(),
            families: None,
            docs: 10_000,
            mean_bytes: 3000.0,
            exact: 0.10,
            near: 0.15,
            sources: 8,
            files: 4,
            seed: 1,
            case: Case::Mixed,
        };
        let mut size = None;
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name}: a value is missing\n{USAGE}"))?;
            match name.as_str() {
                "--texts" => settings.texts = value.into(),
                "--families" => settings.families = Some(value.into()),
                "--docs" => settings.docs = value.parse()?,
                "--size" => size = Some(bytes(&value)?),
                "--mean-bytes" => settings.mean_bytes = value.parse()?,
                "--exact" => settings.exact = value.parse()?,
                "--near" => settings.near = value.parse()?,
                "--sources" => settings.sources = value.parse()?,
                "--files" => settings.files = value.parse()?,
                "--seed" => settings.seed = value.parse()?,
                "--case" => {
                    settings.case = match value.as_str() {
                        "mixed" => Case::Mixed,
                        "equal" => Case::Equal,
                        "near-equal" => Case::NearEqual,
                        "template" => Case::Template,
                        "across-sources" => Case::AcrossSources,
                        _ => return Err(format!("--case: no case `{value}`\n{USAGE}").into()),
                    }
                }
                _ => return Err(format!("no setting `{name}`\n{USAGE}").into()),
            }
        }
        if let Some(size) = size {
            let of_one = settings.mean_bytes + 60.0; // names, id and source
            settings.docs = format!("{:.0}", size as f64 / of_one).parse()?;
        }
        if settings.docs == 0 || settings.sources == 0 || settings.files == 0 || settings.exact + settings.near > 0.9 {
            return Err("wanted at least one document, source and file, and at most nine copies in ten documents".into());
        }
        Ok(settings)
    }
}

/// `600M` as a number of bytes.
fn bytes(size: &str) -> Result<u64, Box<dyn Error>> {
    let digits = size.trim_end_matches(char::is_alphabetic);
    let unit = match &size[digits.len()..] {
        "" => 1,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        _ => return Err(format!("--size: wanted a number with M or G, found `{size}`").into()),
    };
    Ok(digits.parse::<u64>()? * unit)
}

/// Real paragraphs: one buffer, a space after every word.
struct Texts {
    bytes: Vec<u8>,
    /// Where each word starts, and where the next one would.
    starts: Vec<usize>,
    /// The words of each paragraph.
    paragraphs: Vec<Range<usize>>,
}

impl Texts {
    fn read(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut files = Vec::new();
        list(folder, &mut files)?;
        files.sort();
        let mut texts = Texts { bytes: Vec::new(), starts: vec![0], paragraphs: Vec::new() };
        let mut seen = HashSet::new(); // what a translation left in English counts once
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            if file.extension().is_some_and(|extension| extension == "html") {
                for paragraph in text.split("<div class=\"para\">").skip(1) {
                    let end = paragraph.find("</div>").into_iter().chain(paragraph.find("<div")).min().unwrap_or(paragraph.len());
                    texts.add(&without_tags(&paragraph[..end]), &mut seen);
                }
            } else {
                text.split("\n\n").for_each(|paragraph| texts.add(paragraph, &mut seen));
            }
        }
        if texts.paragraphs.len() < 100 {
            return Err(format!("{}: wanted at least 100 paragraphs, found {}", folder.display(), texts.paragraphs.len()).into());
        }
        Ok(texts)
    }

    fn add(&mut self, paragraph: &str, seen: &mut HashSet<String>) {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        let paragraph = words.join(" ");
        let letters = paragraph.chars().filter(|character| character.is_alphabetic()).count();
        let is_prose = (12..400).contains(&words.len()) && 3 * letters > 2 * paragraph.chars().count();
        if is_prose && !paragraph.contains(char::is_control) && seen.insert(paragraph) {
            let first = self.starts.len() - 1;
            for word in words {
                self.bytes.extend(word.as_bytes());
                self.bytes.push(b' ');
                self.starts.push(self.bytes.len());
            }
            self.paragraphs.push(first..self.starts.len() - 1);
        }
    }

    /// Words, each with a space behind it.
    fn words(&self, words: Range<usize>) -> &[u8] {
        &self.bytes[self.starts[words.start]..self.starts[words.end]]
    }

    /// A word that stands near word `place`, with a space behind it.
    fn nearby(&self, place: usize, rng: &mut Rng) -> &[u8] {
        let word = (place + rng.below(2 * NEARBY)).saturating_sub(NEARBY).min(self.starts.len() - 2);
        self.words(word..word + 1)
    }

    /// Adds a paragraph to `out`, some of its words replaced.
    fn paragraph(&self, words: &Range<usize>, rng: &mut Rng, out: &mut Vec<u8>) {
        let spread = (1.0 - FRESH).ln();
        let mut next = words.start;
        loop {
            let at = next.saturating_add(rng.gap(spread));
            if at >= words.end {
                break;
            }
            out.extend(self.words(next..at));
            out.extend(self.nearby(at, rng));
            next = at + 1;
        }
        out.extend(self.words(next..words.end));
        out.pop();
    }

    /// Adds `text` to `out` with `share` of its words replaced by words from near `place`.
    fn edit(&self, text: &[u8], share: f64, place: usize, rng: &mut Rng, out: &mut Vec<u8>) {
        let spread = (1.0 - share).ln();
        let mut untouched = rng.gap(spread);
        let (mut copied, mut word) = (0, 0);
        for at in 0..=text.len() {
            if text.get(at).is_some_and(|byte| !matches!(byte, b' ' | b'\n')) {
                continue;
            }
            if word < at {
                if untouched == 0 {
                    out.extend(&text[copied..word]);
                    out.extend(self.nearby(place, rng).trim_ascii_end());
                    copied = at;
                    untouched = rng.gap(spread);
                } else {
                    untouched -= 1;
                }
            }
            word = at + 1;
        }
        out.extend(&text[copied..]);
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "txt" || extension == "html") {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn without_tags(html: &str) -> String {
    let text: String = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect();
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", " "), ("&amp;", "&")]
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

struct Corpus {
    texts: Texts,
    settings: Settings,
}

/// What a document is made of.
enum Kind {
    Original,
    Exact,
    /// With the Jaccard similarity that is aimed at.
    Near(f64),
}

impl Corpus {
    fn write(&self) -> Result<(), Box<dyn Error>> {
        let settings = &self.settings;
        fs::create_dir_all(&settings.output)?;
        let mut families = settings.families.as_ref().map(File::create).transpose()?.map(BufWriter::new);
        let (mut text, mut spare) = (Vec::new(), Vec::new());
        for file in 0..settings.files {
            let path = settings.output.join(format!("part-{file:05}.jsonl"));
            let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
            let first = |file| u128::from(settings.docs) * u128::from(file) / u128::from(settings.files);
            for doc in u64::try_from(first(file))?..u64::try_from(first(file + 1))? {
                text.clear();
                let source = self.document(doc, &mut text, &mut spare, families.as_mut())?;
                write!(out, "{{\"id\":\"d{doc:010}\",\"source\":\"source-{source:03}\",\"text\":\"")?;
                escape(&text, &mut out)?;
                out.write_all(b"\"}\n")?;
            }
            out.flush()?;
        }
        families.map_or(Ok(()), |mut families| families.flush())?;
        Ok(())
    }

    /// Writes a document's text into `text`; its source.
    fn document(
        &self,
        doc: u64,
        text: &mut Vec<u8>,
        spare: &mut Vec<u8>,
        families: Option<&mut impl Write>,
    ) -> Result<u64, Box<dyn Error>> {
        let sources = self.settings.sources;
        match self.settings.case {
            Case::Equal => {
                self.original(0, text);
                return Ok(doc % sources);
            }
            Case::NearEqual | Case::Template => {
                self.original(0, text);
                let spaces = text.iter().filter(|byte| **byte == b' ').count() as u64;
                let words = if self.settings.case == Case::Template { spaces / 7 } else { 1 + doc % 2 };
                for _ in 0..words {
                    text.truncate(text.iter().rposition(|byte| *byte == b' ').unwrap_or(0));
                }
                for word in 0..words {
                    write!(text, " w{:x}", mix(doc ^ mix(word)))?;
                }
                return Ok(doc % sources);
            }
            Case::AcrossSources => {
                self.original(if doc.is_multiple_of(10) { 0 } else { doc }, text);
                return Ok(doc / 10 % sources);
            }
            Case::Mixed => {}
        }
        let kind = self.kind(doc);
        let (base, named) = match kind {
            Kind::Original => (doc, None),
            Kind::Exact => (self.base(doc), Some(("exact", 1.0))),
            Kind::Near(jaccard) => (self.base(doc), Some(("near", jaccard))),
        };
        if let (Some(families), Some((kind, aim))) = (families, named) {
            writeln!(families, "{{\"id\":\"d{doc:010}\",\"base\":\"d{base:010}\",\"kind\":\"{kind}\",\"aim\":{aim:.3}}}")?;
        }
        if let Kind::Near(jaccard) = kind {
            spare.clear();
            let place = self.original(base, spare);
            // With so much of each text's 5-grams left, the two sets share this much; a 5-gram is left if each of its words is.
            let left = 2.0 * jaccard / (1.0 + jaccard);
            self.texts.edit(spare, 1.0 - left.powf(0.2), place, &mut self.rng("edit", doc), text);
        } else {
            self.original(base, text);
        }
        Ok(self.rng("source", doc).next() % sources)
    }

    fn kind(&self, doc: u64) -> Kind {
        let mut rng = self.rng("kind", doc);
        let draw = rng.share();
        if draw < self.settings.exact {
            Kind::Exact
        } else if draw < self.settings.exact + self.settings.near {
            Kind::Near(0.5 + 0.49 * rng.share())
        } else {
            Kind::Original
        }
    }

    /// The original that a copy is made of. Few have many copies, many have one: the chance falls with the root of a document's rank.
    fn base(&self, doc: u64) -> u64 {
        let mut rng = self.rng("base", doc);
        loop {
            let rank = rng.share().powi(2) * self.settings.docs as f64;
            let base = mix(rank.floor().to_bits() ^ self.settings.seed) % self.settings.docs;
            if matches!(self.kind(base), Kind::Original) {
                return base;
            }
        }
    }

    /// Writes an original's text; the word of the texts near which it starts.
    fn original(&self, doc: u64, out: &mut Vec<u8>) -> usize {
        let mut rng = self.rng("text", doc);
        let paragraphs = &self.texts.paragraphs;
        let spread = 0.2 + 0.8 * (-rng.share().ln()).min(10.0);
        let length = self.settings.mean_bytes * if self.settings.case == Case::Mixed { spread } else { 1.0 };
        let home = rng.below(paragraphs.len());
        while (out.len() as f64) < length {
            if !out.is_empty() {
                out.extend(b"\n\n");
            }
            let paragraph = &paragraphs[(home + rng.below(NEIGHBOURS)) % paragraphs.len()];
            self.texts.paragraph(paragraph, &mut rng, out);
        }
        let end = out.iter().enumerate().rposition(|(at, byte)| at as f64 <= length && *byte == b' ');
        out.truncate(end.unwrap_or(out.len()));
        paragraphs[home].start
    }

    /// Random numbers for one use in one document.
    fn rng(&self, purpose: &str, doc: u64) -> Rng {
        let purpose = purpose.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        Rng(mix(mix(self.settings.seed ^ purpose) ^ doc))
    }
}

fn escape(text: &[u8], out: &mut impl Write) -> std::io::Result<()> {
    let mut copied = 0;
    for (at, byte) in text.iter().enumerate() {
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            _ => continue,
        };
        out.write_all(&text[copied..at])?;
        out.write_all(escaped)?;
        copied = at + 1;
    }
    out.write_all(&text[copied..])
}

/// `SplitMix64`: the n-th number is a hash of the start plus n.
///
/// Source: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Over 0, up to 1.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from((u128::from(self.next()) * end as u128) >> 64).expect("it is below `end`")
    }

    /// How many words are left alone before the next one that is not; `spread` is the logarithm of the share left alone.
    fn gap(&mut self, spread: f64) -> usize {
        let gap = self.share().ln() / spread;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; a larger one saturates")]
        let gap = gap as usize;
        gap
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
