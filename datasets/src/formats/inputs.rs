//! Which files a source reads: paths, folders and globs as a person writes them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use globset::GlobMatcher;

use super::names::{glob_matcher, has_extension, has_glob, is_hidden, nearest};
use crate::DataError;
use crate::remote::{Address, list_address};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name relative to the folder that was written, with `/`; bytes that are no UTF-8 as `%XX`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 64;

/// The files that `patterns` mean: a path is that file, a folder is every file under it that ends in one of `extensions` (with or without
/// `.gz` or `.zst`), a glob is what matches (`*` and `?` do not cross `/`, `**` does), and a folder that it matches is as if written itself.
///
/// An address of object storage (`s3://bucket/…`, `hf://datasets/owner/name/…`) means the same of the objects there.
///
/// Patterns keep their order, the files of each are sorted by name, bytewise; a file that two patterns mean is read once. Names that begin
/// with `.` or `_` are passed over unless they are written out.
///
/// # Errors
/// [`DataError::NoMatch`] with the nearest name there is, [`DataError::Setting`] for a pattern that is no glob, [`DataError::Io`].
pub fn list_inputs(base_dir: &Path, patterns: &[String], extensions: &[&str]) -> Result<Vec<InputFile>, DataError> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for pattern in patterns {
        let mut found = one_pattern(base_dir, pattern, extensions)?;
        found.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()).then_with(|| a.path.cmp(&b.path)));
        files.extend(found.into_iter().filter(|file| seen.insert(file.path.clone())));
    }
    Ok(files)
}

fn one_pattern(base_dir: &Path, pattern: &str, extensions: &[&str]) -> Result<Vec<InputFile>, DataError> {
    if pattern.trim().is_empty() {
        return Err(DataError::Setting { setting: "path", problem: "an empty path".to_owned() });
    }
    let whole = base_dir.join(pattern);
    if fs::symlink_metadata(&whole).is_err()
        && let Some(address) = Address::parse(pattern)
    {
        let address = address.map_err(|problem| DataError::Setting { setting: "path", problem })?;
        return list_address(&address, extensions);
    }
    // A name with a bracket in it is a file before it is a glob.
    match fs::metadata(&whole) {
        Ok(metadata) if metadata.is_dir() => {
            let found = folder(&whole, extensions)?;
            if found.is_empty() {
                let wanted = extensions.iter().map(|extension| format!("*.{extension}")).collect::<Vec<_>>().join(", ");
                return Err(DataError::NoMatch { pattern: format!("{} in folder {}", wanted, whole.display()), nearest: None });
            }
            return Ok(found);
        }
        Ok(metadata) if !metadata.is_file() => {
            let problem = format!("{} is a pipe or a device; inputs are files, as they are read more than once", whole.display());
            return Err(DataError::Setting { setting: "path", problem });
        }
        Ok(metadata) => {
            let name = escaped(whole.file_name().map_or(whole.as_path(), Path::new));
            return Ok(vec![InputFile { path: whole, name, bytes: metadata.len() }]);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !has_glob(pattern) => return Err(no_match(&whole)),
        Err(error) if !has_glob(pattern) => return Err(DataError::Io { doing: "open", path: whole, source: error }),
        Err(_) => {}
    }
    let (prefix, glob) = fixed_prefix(&whole);
    let matcher = glob_matcher(&glob)?;
    let way = Some(Way { folders: folders_of(&glob), matcher });
    let mut walk = Walk { root: prefix.clone(), way, hidden: glob.split('/').any(is_hidden), extensions, files: Vec::new() };
    if prefix.is_dir() {
        walk.folder(&prefix, &mut Vec::new())?;
    }
    if walk.files.is_empty() { Err(no_match(&whole)) } else { Ok(walk.files) }
}

fn folder(root: &Path, extensions: &[&str]) -> Result<Vec<InputFile>, DataError> {
    let mut walk = Walk { root: root.to_owned(), way: None, hidden: false, extensions, files: Vec::new() };
    walk.folder(root, &mut Vec::new())?;
    Ok(walk.files)
}

struct Walk<'a> {
    root: PathBuf,
    /// None: every file with a known extension.
    way: Option<Way>,
    hidden: bool,
    extensions: &'a [&'a str],
    files: Vec<InputFile>,
}

/// What a glob matches, and the folders on the way there: what lies beside them may be large, or closed to us, and is none of our business.
struct Way {
    /// What folders match at each depth.
    folders: Folders,
    matcher: GlobMatcher,
}

struct Folders {
    by_depth: Vec<GlobMatcher>,
    /// Whether any folder deeper than those may hold a match.
    any_below: bool,
}

impl Folders {
    fn may_hold_a_match(&self, folder: &Path) -> bool {
        let depth = folder.components().count();
        depth.checked_sub(1).and_then(|above| self.by_depth.get(above)).map_or(self.any_below, |matcher| matcher.is_match(folder))
    }
}

/// The folders above what `glob` matches: its components, up to one that stands for several.
fn folders_of(glob: &str) -> Folders {
    let parts: Vec<&str> = glob.split('/').collect();
    let mut by_depth = Vec::new();
    for depth in 1..parts.len() {
        let part = parts[depth - 1];
        let spans_folders = part.contains("**") || part.contains('\\') || part.matches('{').count() != part.matches('}').count();
        match glob_matcher(&parts[..depth].join("/")) {
            Ok(matcher) if !spans_folders => by_depth.push(matcher),
            _ => return Folders { by_depth, any_below: true },
        }
    }
    // The last component may stand for several, too.
    Folders { by_depth, any_below: parts.last().is_some_and(|last| last.contains("**")) }
}

impl Walk<'_> {
    /// `above`: the real paths of the folders that led here; one that comes again is a loop of links.
    fn folder(&mut self, dir: &Path, above: &mut Vec<PathBuf>) -> Result<(), DataError> {
        let real = fs::canonicalize(dir).map_err(|source| DataError::Io { doing: "open folder", path: dir.to_owned(), source })?;
        if above.contains(&real) || above.len() >= MAX_DEPTH {
            return Ok(());
        }
        above.push(real);
        let listing = |source| DataError::Io { doing: "list folder", path: dir.to_owned(), source };
        for entry in fs::read_dir(dir).map_err(listing)? {
            let path = entry.map_err(listing)?.path();
            let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if is_hidden(&file_name) && !self.hidden {
                continue;
            }
            let relative = path.strip_prefix(&self.root).unwrap_or(&path);
            let wanted = match &self.way {
                Some(way) => way.matcher.is_match(relative),
                None => has_extension(&file_name, self.extensions),
            };
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(_) if !wanted => continue, // a dangling link that nobody asked for
                Err(source) => return Err(DataError::Io { doing: "open", path, source }),
            };
            if metadata.is_dir() {
                if wanted && self.way.is_some() {
                    let (way, hidden) = (self.way.take(), std::mem::take(&mut self.hidden));
                    self.folder(&path, above)?;
                    (self.way, self.hidden) = (way, hidden);
                } else if self.way.as_ref().is_none_or(|way| way.folders.may_hold_a_match(relative)) {
                    self.folder(&path, above)?;
                }
            } else if wanted && metadata.is_file() {
                self.files.push(InputFile { name: escaped(relative), bytes: metadata.len(), path });
            }
        }
        above.pop();
        Ok(())
    }
}

/// The folders before the first component with a glob in it, and the rest.
fn fixed_prefix(whole: &Path) -> (PathBuf, String) {
    let mut prefix = PathBuf::new();
    let mut glob: Vec<String> = Vec::new();
    for component in whole.components() {
        let text = component.as_os_str().to_string_lossy();
        if glob.is_empty() && !(matches!(component, Component::Normal(_)) && has_glob(&text)) {
            prefix.push(component);
        } else {
            glob.push(text.into_owned());
        }
    }
    if prefix.as_os_str().is_empty() {
        prefix.push(".");
    }
    (prefix, glob.join("/"))
}

/// A relative path with `/`. One that is no UTF-8 has its other bytes, and `%`, as `%XX`.
fn escaped(path: &Path) -> String {
    let parts = path.components().map(|part| {
        if let Some(text) = part.as_os_str().to_str() {
            return text.to_owned();
        }
        let mut text = String::new();
        for chunk in part.as_os_str().as_encoded_bytes().utf8_chunks() {
            text.push_str(&chunk.valid().replace('%', "%25"));
            text.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02X}")));
        }
        text
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The error for a path or glob that means no file, with the nearest name in its deepest folder that exists.
fn no_match(whole: &Path) -> DataError {
    let mut dir = whole;
    let mut missing = String::new();
    while let Some(parent) = dir.parent() {
        missing = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        dir = parent;
        if dir.is_dir() {
            break;
        }
    }
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).take(10_000).collect())
        .unwrap_or_default();
    names.sort();
    let nearest = nearest(&missing, names).map(|name| dir.join(name).display().to_string());
    DataError::NoMatch { pattern: whole.display().to_string(), nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        list_inputs(base, &patterns, &["jsonl", "ndjson"]).unwrap().into_iter().map(|file| file.name).collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "d/b.jsonl",
            "d/a.jsonl.gz",
            "d/B.jsonl",
            "d/sub/c.ndjson",
            "d/x.jsonl/part.jsonl",
            "d/readme.md",
            "d/_log.jsonl",
            "d/[1].jsonl",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        dir
    }

    #[test]
    fn a_folder_means_its_files_of_the_format_sorted_bytewise() {
        let dir = tree();
        assert_eq!(names(dir.path(), &["d"]), ["B.jsonl", "[1].jsonl", "a.jsonl.gz", "b.jsonl", "sub/c.ndjson", "x.jsonl/part.jsonl"]);
    }

    #[test]
    fn only_folders_that_may_hold_a_match_are_looked_into() {
        let looks = |glob: &str, folder: &str| folders_of(glob).may_hold_a_match(Path::new(folder));
        assert!(!looks("*.jsonl", "a"));
        assert!(looks("2*/*.jsonl", "2026") && !looks("2*/*.jsonl", "1999") && !looks("2*/*.jsonl", "2026/a"));
        assert!(looks("a/**/b/*.jsonl", "a") && looks("a/**/b/*.jsonl", "a/x/y/z") && !looks("a/**/b/*.jsonl", "b"));
        assert!(looks("**", "a/b/c") && looks("a/**", "a/b/c") && !looks("a/**", "b"));
        assert!(looks("{a/b,c}/*.jsonl", "a/b") && looks("[a/]b/*.jsonl", "x") && looks("{a,b}/*.jsonl", "b") && !looks("{a,b}/*", "c"));
    }

    #[test]
    fn a_glob_stops_at_slashes_and_enters_folders_it_matches() {
        let dir = tree();
        assert_eq!(names(dir.path(), &["d/*.jsonl"]), ["B.jsonl", "[1].jsonl", "b.jsonl", "x.jsonl/part.jsonl"]);
        assert_eq!(names(dir.path(), &["d/**/*.ndjson", "d/b.jsonl", "d/[ab].jsonl"]), ["sub/c.ndjson", "b.jsonl"]);
        assert_eq!(names(dir.path(), &["d/[1].jsonl", "d/_log.jsonl"]), ["[1].jsonl", "_log.jsonl"]);
    }

    #[test]
    fn no_match_names_what_is_near() {
        let dir = tree();
        let error = list_inputs(dir.path(), &["d/c.jsonl".to_owned()], &["jsonl"]).unwrap_err();
        let at = dir.path().display();
        assert_eq!(error.to_string(), format!("no file matches {at}/d/c.jsonl; did you mean {at}/d/B.jsonl?"));
        let error = list_inputs(dir.path(), &["dd/*.jsonl".to_owned()], &["jsonl"]).unwrap_err();
        assert_eq!(error.to_string(), format!("no file matches {at}/dd/*.jsonl; did you mean {at}/d?"));
        let error = list_inputs(dir.path(), &["d/{a.jsonl".to_owned()], &["jsonl"]).unwrap_err();
        assert!(error.to_string().contains("is no glob"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn loops_of_links_end_and_odd_names_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tree();
        std::os::unix::fs::symlink(dir.path().join("d"), dir.path().join("d/sub/up")).unwrap();
        fs::write(dir.path().join("d/sub").join(std::ffi::OsStr::from_bytes(b"f\xff%.jsonl")), "{}").unwrap();
        assert_eq!(
            names(dir.path(), &["d/sub"]),
            ["c.ndjson", "f%FF%25.jsonl", "up/B.jsonl", "up/[1].jsonl", "up/a.jsonl.gz", "up/b.jsonl", "up/x.jsonl/part.jsonl"]
        );
    }
}
