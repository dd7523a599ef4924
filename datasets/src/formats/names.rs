//! Names of files: what is a glob, what is hidden, what has which ending, and which is near to which.

use globset::{GlobBuilder, GlobMatcher};

use crate::DataError;

/// A glob whose `*` and `?` stop at slashes.
///
/// # Errors
/// [`DataError::Setting`] for what is no glob.
pub(crate) fn glob_matcher(glob: &str) -> Result<GlobMatcher, DataError> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| DataError::Setting { setting: "path", problem: format!("`{glob}` is no glob: {}", error.kind()) })
}

pub(crate) fn has_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '{'])
}

pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name != "." && name != ".." || name.starts_with('_')
}

/// Whether a name ends in one of `extensions`, with or without `.gz` or `.zst`.
pub(crate) fn has_extension(name: &str, extensions: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    extensions.iter().any(|extension| plain.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.')))
}

/// The name that `wanted`, which may have a glob in it, is nearest to; none if no name is near.
pub(crate) fn nearest(wanted: &str, names: Vec<String>) -> Option<String> {
    let letters = |name: &str| name.chars().filter(|c| !"*?[]{}".contains(*c)).collect::<String>().to_lowercase();
    let wanted = letters(wanted);
    names
        .into_iter()
        .map(|name| (distance(&wanted, &letters(&name)), name))
        .min()
        .filter(|(distance, name)| *distance <= name.chars().count().max(wanted.chars().count()) / 2)
        .map(|(_, name)| name)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut corner = last[0];
        last[0] = row + 1;
        for (column, to) in b.iter().enumerate() {
            let change = corner + usize::from(from != *to);
            corner = last[column + 1];
            last[column + 1] = change.min(corner + 1).min(last[column] + 1);
        }
    }
    last[b.len()]
}
