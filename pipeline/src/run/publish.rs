//! Publishing: the pieces that tasks stored become the parts that people read, in a folder that holds nothing else.
//!
//! The folder's mark is emptied before the first part changes and written after the last one: a run that dies in between publishes again,
//! from the pieces, which are still there; and should nothing be published in the folder any more, the mark says that its parts are ours.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use datasets::{DataError, WriteFormat, WriteSettings};
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::RunError;
use crate::fingerprint::Fingerprint;
use crate::marks::StoredFile;
use crate::record::{Published, PublishedPart};
use crate::store::{Store, StoreError};

/// Consecutive pieces are joined into parts of up to this many bytes.
const PART_BYTES: u64 = 500_000_000;

/// A piece of this many bytes is a part by itself: nothing has to be copied.
pub(super) const PIECE_BYTES: u64 = 32_000_000;

/// Where the marks of published folders lie.
const MARKS: &str = ".pipeline/published";

/// What stands in a published folder.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The pieces it was made of, and how.
    made_of: Fingerprint,
    published: Published,
}

fn mark_of(folder: &str) -> String {
    format!("{MARKS}/{}.json", folder.replace('/', "."))
}

/// The folder whose mark has this name: no stage is called `dropped` or `rejected`.
fn folder_of_mark(mark: &str) -> Option<String> {
    let name = mark.strip_prefix(MARKS)?.strip_prefix('/')?.strip_suffix(".json")?;
    let side = ["dropped", "rejected"].into_iter().find_map(|side| Some((side, name.strip_prefix(side)?.strip_prefix('.')?)));
    Some(side.map_or_else(|| name.to_owned(), |(side, stage)| format!("{side}/{stage}")))
}

/// Refuses a folder that holds files which no run wrote: readers would take them for data.
///
/// # Errors
/// [`RunError::ForeignFiles`], or what the system says.
pub(super) fn check_folder(store: &Store, folder: &str) -> Result<(), RunError> {
    for name in store.children(folder)? {
        if !is_part(&name) && !crate::store::is_torn_write(&name) {
            return Err(RunError::ForeignFiles { folder: store.path_of(folder), file: name });
        }
    }
    Ok(())
}

fn is_part(name: &str) -> bool {
    let Some((number, extension)) = name.strip_prefix("part-").and_then(|rest| rest.split_once('.')) else { return false };
    number.bytes().all(|byte| byte.is_ascii_digit()) && ["parquet", "jsonl", "jsonl.zst"].contains(&extension)
}

/// Publishes the pieces of one output. With no rows there is one empty part if `empty` gives one, else nothing.
///
/// # Errors
/// What the storage or the format says.
pub(super) fn publish(
    store: &Store,
    folder: &str,
    settings: &WriteSettings,
    pieces: &[StoredFile],
    empty: Option<&dyn Fn() -> Result<Vec<u8>, RunError>>,
) -> Result<Published, RunError> {
    let mut hasher = Fingerprint::of("published");
    hasher.add(settings.format.extension()).number(u64::from(empty.is_some()));
    pieces.iter().for_each(|piece| {
        hasher.add(&piece.path);
    });
    // What has no rows is made of its columns alone.
    let empty = empty.filter(|_| pieces.is_empty()).map(|empty| empty()).transpose()?;
    empty.iter().for_each(|bytes| {
        hasher.number(xxh3_64(bytes));
    });
    let made_of = hasher.finish();
    if let Some(published) = find(store, folder, &made_of)? {
        return Ok(published);
    }
    check_folder(store, folder)?;
    store.put_durable(&mark_of(folder), Bytes::from_static(b"{}"))?;
    for piece in pieces.iter().filter(|piece| !store.wrote(&piece.path)) {
        // What an earlier run left may have come to harm since; that is found out here, not by the readers of the part.
        store.get_checked(&piece.path, piece.hash)?;
    }
    let mut published = Published { folder: folder.to_owned(), rows: pieces.iter().map(|piece| piece.rows).sum(), parts: Vec::new() };
    let extension = settings.format.extension();
    for (number, group) in groups(pieces).into_iter().enumerate() {
        let name = format!("part-{number:05}.{extension}");
        let path = format!("{folder}/{name}");
        let rows = group.iter().map(|piece| piece.rows).sum();
        let bytes = match group {
            [piece] => {
                store.sync(&piece.path)?;
                store.copy(&piece.path, &path)?;
                piece.bytes
            }
            group => store.write_durable(&path, |into| join(store, settings.format, group, &path, into))?,
        };
        published.parts.push(PublishedPart { name, rows, bytes });
    }
    if let Some(bytes) = empty {
        let name = format!("part-00000.{extension}");
        published.parts.push(PublishedPart { name: name.clone(), rows: 0, bytes: bytes.len() as u64 });
        store.put_durable(&format!("{folder}/{name}"), Bytes::from(bytes))?;
    }
    remove_others(store, folder, &published)?;
    let mark = serde_json::to_vec(&Mark { made_of, published: published.clone() }).expect("a struct of plain values serializes");
    store.put_durable(&mark_of(folder), Bytes::from(mark))?;
    Ok(published)
}

/// What stands in the folder, if it is just what these pieces make.
fn find(store: &Store, folder: &str, made_of: &Fingerprint) -> Result<Option<Published>, RunError> {
    let mark = store.get(&mark_of(folder))?.and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).ok());
    let Some(mark) = mark.filter(|mark| mark.made_of == *made_of) else { return Ok(None) };
    for part in &mark.published.parts {
        if store.size(&format!("{folder}/{}", part.name))? != Some(part.bytes) {
            return Ok(None);
        }
    }
    Ok(Some(mark.published))
}

fn groups(pieces: &[StoredFile]) -> Vec<&[StoredFile]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, piece) in pieces.iter().enumerate() {
        let stands_alone = |piece: &StoredFile| piece.bytes >= PIECE_BYTES;
        if index > start && (bytes + piece.bytes > PART_BYTES || stands_alone(piece) || stands_alone(&pieces[index - 1])) {
            groups.push(&pieces[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += piece.bytes;
    }
    if start < pieces.len() {
        groups.push(&pieces[start..]);
    }
    groups
}

fn join(store: &Store, format: WriteFormat, group: &[StoredFile], part: &str, into: &mut (dyn Write + Send)) -> Result<(), RunError> {
    let paths: Vec<PathBuf> = group.iter().map(|piece| PathBuf::from(&piece.path)).collect();
    let open = |path: &Path| store.open_object(&path.to_string_lossy()).map_err(std::io::Error::other);
    let rows = datasets::join_parts(format, &paths, &open, into).map_err(|error| written(error, store.path_of(part)))?;
    let wanted = group.iter().map(|piece| piece.rows).sum::<u64>();
    if format == WriteFormat::Parquet && rows != wanted {
        return Err(RunError::Internal(format!("joining {} pieces gave {rows} rows, not {wanted}", group.len())));
    }
    Ok(())
}

/// What kept a part from being written, said of its file: Parquet's writer passes on what the system said and nothing else.
fn written(error: DataError, path: PathBuf) -> RunError {
    match error {
        DataError::Parquet(ParquetError::External(source)) => match source.downcast::<std::io::Error>() {
            Ok(source) => StoreError::Io { doing: "write", path, source: *source }.into(),
            Err(source) => DataError::Parquet(ParquetError::External(source)).into(),
        },
        error => error.into(),
    }
}

fn remove_others(store: &Store, folder: &str, published: &Published) -> Result<(), RunError> {
    let others = store.list(folder)?.into_iter().filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        *path == format!("{folder}/{name}") && !published.parts.iter().any(|part| part.name == name)
    });
    Ok(store.delete_all(others.collect())?)
}

/// Removes what earlier runs published in folders that are not among `folders`.
///
/// # Errors
/// What the storage says.
pub(super) fn remove_stale(store: &Store, folders: &[String]) -> Result<(), RunError> {
    let current: Vec<String> = folders.iter().map(|folder| mark_of(folder)).collect();
    for path in store.list(MARKS)? {
        if current.contains(&path) {
            continue;
        }
        if let Some(folder) = folder_of_mark(&path) {
            let parts = store.list(&folder)?.into_iter();
            let is_ours = |part: &String| part.strip_prefix(&folder).and_then(|name| name.strip_prefix('/')).is_some_and(is_part);
            store.delete_all(parts.filter(is_ours).collect())?;
        }
        store.delete(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    /// A disk without room.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_part_that_finds_no_room_is_named() {
        let (_folder, _runtime, store) = store();
        let schema = crate::run::rejected_schema();
        let empty = datasets::empty_part(&schema, &WriteSettings::default()).expect("a part").into_bytes();
        let pieces = ["a", "b"].map(|path| {
            store.put(path, Bytes::from(empty.clone())).expect("written");
            path.to_owned()
        });
        let paths = pieces.map(PathBuf::from);
        let open = |path: &Path| store.open_object(&path.to_string_lossy()).map_err(std::io::Error::other);
        let error = datasets::join_parts(WriteFormat::Parquet, &paths, &open, &mut Full).expect_err("there is no room");
        let told = written(error, store.path_of("rows/part-00000.parquet")).to_string();
        assert!(told.starts_with("can't write ") && told.contains("rows/part-00000.parquet: "), "{told}");
    }
}
