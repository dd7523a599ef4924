//! Which objects an address with or without a glob means.

use std::io;
use std::path::PathBuf;

use futures::TryStreamExt;
use globset::GlobMatcher;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;

use super::address::Address;
use super::client::{Client, client, wait};
use crate::DataError;
use crate::formats::InputFile;
use crate::formats::names::{glob_matcher, has_extension, has_glob, is_hidden, nearest};

/// An object in a bucket or data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// The objects that an address means, as [`list_inputs`](crate::formats::list_inputs) has it of paths.
///
/// # Errors
/// [`DataError::NoMatch`], [`DataError::Setting`] for what is no glob, [`DataError::Io`] for what storage says.
pub(crate) fn list_address(address: &Address, extensions: &[&str]) -> Result<Vec<InputFile>, DataError> {
    let shown = PathBuf::from(address.to_string());
    let list = Listing { client: client(address).map_err(|source| DataError::Io { doing: "open", path: shown.clone(), source })? };
    let io = |source| DataError::Io { doing: "list", path: shown.clone(), source };
    // Files of a data set are those of the commit that its revision is now.
    let pinned = match &list.client.hub {
        Some(hub) => Address { container: hub.pinned(), ..address.clone() },
        None => address.clone(),
    };
    let file = |entry: Entry, root: &str| {
        let name = entry.key.strip_prefix(root).unwrap_or(&entry.key).trim_start_matches('/').to_owned();
        let path = PathBuf::from(Address { key: entry.key, ..pinned.clone() }.to_string());
        InputFile { path, name, bytes: entry.bytes }
    };
    // A name with a bracket in it is an object before it is a glob.
    if let Some(entry) = list.object(&address.key).map_err(io)? {
        let root = address.key.strip_suffix(address.file_name()).unwrap_or_default().to_owned();
        return Ok(vec![file(entry, &root)]);
    }
    let (root, found) = if has_glob(&address.key) {
        let (root, glob) = fixed_prefix(&address.key);
        let walk = Walk { list: &list, matcher: glob_matcher(glob)?, hidden: glob.split('/').any(is_hidden), extensions };
        let mut found = Vec::new();
        walk.level(root, root, &glob.split('/').collect::<Vec<_>>(), &mut found).map_err(io)?;
        (root, found)
    } else {
        let below = list.below(&address.key).map_err(io)?;
        let is_empty = below.is_empty();
        let found: Vec<Entry> = below.into_iter().filter(|entry| is_wanted(relative(&address.key, &entry.key), extensions)).collect();
        if found.is_empty() && !is_empty {
            let wanted = extensions.iter().map(|extension| format!("*.{extension}")).collect::<Vec<_>>().join(", ");
            return Err(DataError::NoMatch { pattern: format!("{wanted} in folder {address}"), nearest: None });
        }
        (address.key.as_str(), found)
    };
    if found.is_empty() {
        return Err(DataError::NoMatch { pattern: address.to_string(), nearest: list.nearest(address) });
    }
    Ok(found.into_iter().map(|entry| file(entry, root)).collect())
}

/// The folders before the first name with a glob in it, and the rest.
fn fixed_prefix(key: &str) -> (&str, &str) {
    let mut end = 0;
    for part in key.split_inclusive('/') {
        if has_glob(part) {
            break;
        }
        end += part.len();
    }
    (key[..end].trim_end_matches('/'), &key[end..])
}

fn relative<'k>(root: &str, key: &'k str) -> &'k str {
    key.strip_prefix(root).unwrap_or(key).trim_start_matches('/')
}

/// Whether a file of a folder that is read as a whole is read.
fn is_wanted(name: &str, extensions: &[&str]) -> bool {
    !name.split('/').any(is_hidden) && has_extension(name, extensions)
}

struct Walk<'a> {
    list: &'a Listing,
    matcher: GlobMatcher,
    hidden: bool,
    extensions: &'a [&'a str],
}

impl Walk<'_> {
    /// Finds what matches below `folder`, where `rest` of the glob is left; asks for one level of folders at a time, so long as the glob
    /// allows it.
    fn level(&self, root: &str, folder: &str, rest: &[&str], found: &mut Vec<Entry>) -> io::Result<()> {
        let Some((name, deeper)) = rest.split_first() else { return Ok(()) };
        if name.contains("**") {
            let below = self.list.below(folder)?;
            found.extend(below.into_iter().filter(|entry| self.takes(relative(root, &entry.key))));
            return Ok(());
        }
        let here = glob_matcher(name).map_err(io::Error::other)?;
        let matches = |key: &str| {
            let name = key.rsplit('/').next().unwrap_or_default();
            here.is_match(name) && (self.hidden || !is_hidden(name))
        };
        let (folders, files) = self.list.level(folder)?;
        for below in folders.iter().filter(|folder| matches(folder)) {
            if deeper.is_empty() {
                let all = self.list.below(below)?;
                found.extend(all.into_iter().filter(|entry| is_wanted(relative(below, &entry.key), self.extensions)));
            } else {
                self.level(root, below, deeper, found)?;
            }
        }
        if deeper.is_empty() {
            found.extend(files.into_iter().filter(|entry| matches(&entry.key)));
        }
        Ok(())
    }

    /// Whether the glob means the object, or a folder it lies in.
    fn takes(&self, name: &str) -> bool {
        let ends = name.match_indices('/').map(|(end, _)| end);
        let folder = ends.into_iter().find(|end| self.matcher.is_match(&name[..*end]));
        match folder {
            _ if !self.hidden && name.split('/').any(is_hidden) => false,
            Some(end) => self.matcher.is_match(name) || is_wanted(&name[end + 1..], self.extensions),
            None => self.matcher.is_match(name),
        }
    }
}

/// What lies in a bucket or data set.
struct Listing {
    client: Client,
}

impl Listing {
    fn object(&self, key: &str) -> io::Result<Option<Entry>> {
        if key.is_empty() {
            return Ok(None);
        }
        if let Some(hub) = &self.client.hub {
            return Ok(hub.entries()?.iter().find(|entry| entry.key == key).cloned());
        }
        let Ok(location) = Key::parse(key) else { return Ok(None) };
        match wait(self.client.objects.head(&location)) {
            Ok(meta) => Ok(Some(Entry { key: key.to_owned(), bytes: meta.size })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects below a folder, sorted.
    fn below(&self, folder: &str) -> io::Result<Vec<Entry>> {
        if let Some(hub) = &self.client.hub {
            let inside = |entry: &&Entry| folder.is_empty() || entry.key.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            return Ok(hub.entries()?.iter().filter(inside).cloned().collect());
        }
        let prefix = Key::parse(folder).map_err(io::Error::other)?;
        let entries = self.client.objects.list(Some(&prefix)).map_ok(|meta| Entry { key: meta.location.to_string(), bytes: meta.size });
        let mut entries: Vec<Entry> = wait(entries.try_collect())?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// The folders and the objects right in a folder, sorted.
    fn level(&self, folder: &str) -> io::Result<(Vec<String>, Vec<Entry>)> {
        if self.client.hub.is_some() {
            let (mut folders, mut files) = (Vec::new(), Vec::new());
            for entry in self.below(folder)? {
                match relative(folder, &entry.key).split_once('/') {
                    Some((name, _)) => folders.push(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }),
                    None => files.push(entry),
                }
            }
            folders.dedup();
            return Ok((folders, files));
        }
        let prefix = Key::parse(folder).map_err(io::Error::other)?;
        let found = wait(self.client.objects.list_with_delimiter(Some(&prefix)))?;
        let mut folders: Vec<String> = found.common_prefixes.iter().map(ToString::to_string).collect();
        let mut files: Vec<Entry> =
            found.objects.into_iter().map(|meta| Entry { key: meta.location.to_string(), bytes: meta.size }).collect();
        folders.sort();
        files.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((folders, files))
    }

    /// The name nearest to what was written, in the deepest folder of it that has anything in it.
    fn nearest(&self, address: &Address) -> Option<String> {
        let mut key = address.key.as_str();
        while !key.is_empty() {
            let (folder, missing) = key.rsplit_once('/').unwrap_or(("", key));
            let (folders, files) = if has_glob(folder) { Default::default() } else { self.level(folder).ok()? };
            let names = folders.iter().map(String::as_str).chain(files.iter().map(|entry| entry.key.as_str()));
            let names: Vec<String> = names.map(|key| relative(folder, key).to_owned()).collect();
            if !names.is_empty() {
                let name = nearest(missing, names)?;
                return Some(Address { key: folder.to_owned(), ..address.clone() }.join(&name).to_string());
            }
            key = folder;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    fn names(address: &str) -> Result<Vec<String>, String> {
        let objects = Arc::new(InMemory::new());
        for key in [
            "d/b.jsonl",
            "d/a.jsonl.gz",
            "d/B.jsonl",
            "d/sub/c.ndjson",
            "d/x.jsonl/part.jsonl",
            "d/readme.md",
            "d/_log.jsonl",
            "d/[1].jsonl",
        ] {
            wait(objects.put(&Key::parse(key).unwrap(), "{}".into())).unwrap();
        }
        let address = Address::parse(address).unwrap().unwrap();
        crate::remote::provide(&address, objects);
        list_address(&address, &["jsonl", "ndjson"])
            .map(|files| files.into_iter().map(|file| file.name).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_means_what_a_path_means() {
        let all = ["B.jsonl", "[1].jsonl", "a.jsonl.gz", "b.jsonl", "sub/c.ndjson", "x.jsonl/part.jsonl"];
        assert_eq!(names("s3://list-a/d").unwrap(), all);
        assert_eq!(names("s3://list-a/d/").unwrap(), all);
        assert_eq!(names("s3://list-a/d/b.jsonl").unwrap(), ["b.jsonl"]);
        assert_eq!(names("s3://list-a/d/[1].jsonl").unwrap(), ["[1].jsonl"]);
        assert_eq!(names("s3://list-a/d/_log.jsonl").unwrap(), ["_log.jsonl"]);
        let mut level = names("s3://list-a/d/*.jsonl").unwrap();
        level.sort();
        assert_eq!(level, ["B.jsonl", "[1].jsonl", "b.jsonl", "x.jsonl/part.jsonl"]);
        assert_eq!(names("s3://list-a/d/**/*.ndjson").unwrap(), ["sub/c.ndjson"]);
        assert_eq!(names("s3://list-a/*/s*").unwrap(), ["d/sub/c.ndjson"]);
    }

    #[test]
    fn no_match_names_what_is_near() {
        assert_eq!(
            names("s3://list-b/d/c.jsonl").unwrap_err(),
            "no file matches s3://list-b/d/c.jsonl; did you mean s3://list-b/d/B.jsonl?"
        );
        assert_eq!(names("s3://list-b/dd/*.jsonl").unwrap_err(), "no file matches s3://list-b/dd/*.jsonl; did you mean s3://list-b/d?");
    }
}
