//! The output folder: where it is, whether it can be written, and whether it and the inputs keep out of each other.

use std::fs::OpenOptions;
use std::path::{Component, Path, PathBuf};

use datasets::remote::Address;

use super::problem::{Place, Problem};

/// The output that `text` names: an address, or a folder relative to `base`, made absolute.
pub(crate) fn resolve(text: &str, base: &Path, place: &Place) -> Result<PathBuf, Problem> {
    if let Some(address) = Address::parse(text) {
        return match address {
            Ok(address) if address.is_writable() => Ok(PathBuf::from(address.to_string())),
            Ok(_) => {
                let problem = Problem::new("data sets of the hub are only read");
                Err(problem.at(place, "an output is written").help("write to a folder or to `s3://BUCKET/PREFIX`".to_owned()))
            }
            Err(problem) => {
                Err(Problem::new(problem).at(place, "found an address").help("name a folder, or `s3://BUCKET/PREFIX`".to_owned()))
            }
        };
    }
    Ok(clean(&base.join(text)))
}

/// `path`, made absolute, without `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = clean.pop(),
            part => clean.push(part),
        }
    }
    clean
}

/// `path` with the links of the part that exists resolved, so that two names of one folder are equal.
pub(crate) fn real(path: &Path) -> PathBuf {
    if Address::of(path).is_some() {
        return path.to_owned();
    }
    let clean = clean(path);
    let found = clean.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match found {
        Some((ancestor, real)) => clean.strip_prefix(ancestor).map_or(real.clone(), |rest| real.join(rest)),
        None => clean,
    }
}

/// What an input's `text` stands for: an address, or a path relative to `base` with its links resolved.
pub(crate) fn input_path(base: &Path, text: &str) -> PathBuf {
    match Address::of(Path::new(text)) {
        Some(address) => PathBuf::from(address.to_string()),
        None => real(&base.join(text)),
    }
}

/// Why nothing can be written to `output`, if so.
pub(crate) fn write_problem(output: &Path) -> Option<String> {
    if let Some(address) = Address::of(output) {
        return crate::store::write_problem(&address);
    }
    if let Some(problem) = name_problem(output) {
        return Some(problem.to_owned());
    }
    let existing = output.ancestors().find(|path| path.symlink_metadata().is_ok())?;
    if !existing.is_dir() {
        return Some(format!("{} is no folder", existing.display()));
    }
    // Permission bits do not tell (owner, lists, read-only mounts): trying does.
    let probe = existing.join(format!(".granary-write-test-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&probe);
    match written {
        Ok(_) => {
            // A probe that can be made and not removed does no harm: its name is hidden.
            _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
        Err(error) => Some(format!("{}: {error}", existing.display())),
    }
}

/// What no file system takes for a name. Of folders that are still to be made nobody else tells before the run.
fn name_problem(output: &Path) -> Option<&'static str> {
    const LONGEST: usize = 255;
    output.components().find_map(|part| {
        let name = part.as_os_str().as_encoded_bytes();
        let too_long = (name.len() > LONGEST).then_some("a name in it is longer than 255 bytes");
        if name.contains(&0) { Some("a name in it holds a NUL character") } else { too_long }
    })
}

/// Whether the files that `pattern` stands for could be files of `output`. Both absolute, or addresses.
pub(crate) fn could_match_inside(pattern: &Path, output: &Path) -> bool {
    if Address::of(pattern).is_some() != Address::of(output).is_some() {
        return false;
    }
    let mut pattern_parts = pattern.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    for part in output.components() {
        match pattern_parts.next() {
            Some(wanted) if wanted == "**" => return true,
            Some(wanted) if matches(&wanted, &part.as_os_str().to_string_lossy()) => {}
            // The pattern ends above the output: it is a folder that is read as a whole.
            None => return Address::of(pattern).is_some() || pattern.is_dir(),
            Some(_) => return false,
        }
    }
    // The pattern goes on inside the output, and rows lie in its sub-folders; or it is the output itself.
    let rest: Vec<String> = pattern_parts.collect();
    rest.len() != 1 || rest[0] == "**"
}

/// Whether a name matches a pattern of one path component; a class or an alternative (`[…]`, `{…}`) is taken to match anything.
fn matches(pattern: &str, name: &str) -> bool {
    if pattern.contains(['[', '{']) {
        return true;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The last `*` that was passed, and where in the name it stopped: on a mismatch it takes one character more.
    let (mut at, mut in_name, mut star) = (0, 0, None);
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    in_name = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_inside_the_output_only_when_it_reaches_there() {
        let inside = |pattern: &str| could_match_inside(Path::new(pattern), Path::new("/srv/data/out"));
        assert!(inside("/srv/data/**/*.jsonl"));
        assert!(inside("/srv/**"));
        assert!(inside("/srv/data/*/*/*.parquet"));
        assert!(inside("/srv/data/out/pages/*.parquet"));
        assert!(!inside("/srv/data/*.jsonl"));
        assert!(!inside("/srv/data/*/*.jsonl"));
        assert!(!inside("/srv/data/in*/**"));
        assert!(!inside("/srv/data/out2/x/*.jsonl"));
        assert!(!inside("/else/**"));
    }

    #[test]
    fn a_star_matches_any_run_of_characters() {
        for (pattern, name) in
            [("*", "a"), ("a*c", "abc"), ("a*c", "ac"), ("*a*b", "xaxb"), ("a?c", "abc"), ("**", "x"), ("a*b*c", "aXbYbc")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "b"), ("a*c", "ab"), ("?", ""), ("a?", "a"), ("*a", "ab")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn dots_in_a_path_are_resolved() {
        assert_eq!(clean(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(clean(Path::new("/../a")), Path::new("/a"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_problem() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "x").expect("a file in it");
        assert_eq!(write_problem(&file.join("out")), Some(format!("{} is no folder", file.display())));
        assert_eq!(write_problem(&folder.path().join("a/b/c")), None);
        assert_eq!(write_problem(&folder.path().join("a\0b")).as_deref(), Some("a name in it holds a NUL character"));
        assert_eq!(write_problem(&folder.path().join("é".repeat(128))).as_deref(), Some("a name in it is longer than 255 bytes"));
        assert_eq!(write_problem(&folder.path().join("é".repeat(127))), None);
        assert_eq!(std::fs::read_dir(folder.path()).expect("it exists").count(), 1, "the probe is gone");
    }
}
