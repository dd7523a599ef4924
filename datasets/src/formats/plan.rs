//! Cutting files into the parts that one task reads.

use std::path::{Path, PathBuf};

use super::InputFile;

/// Bytes of a large plain file that one task reads.
pub const RANGE_BYTES: u64 = 64 << 20;
/// Most bytes of small files that one task reads together.
const SMALL_BYTES: u64 = 32 << 20;
/// Most files that one task reads together.
const SMALL_FILES: usize = 1000;

/// A file, or a range of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePart {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name, as ids have it.
    pub name: String,
    /// First byte that belongs to the part.
    pub start: u64,
    /// One past the last byte that belongs to it. A record belongs to the part it begins in.
    pub end: u64,
}

/// Whether a file is gzip or zstd by its name, and so can't be entered in the middle.
pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz") || extension.eq_ignore_ascii_case("zst"))
}

/// Groups `files`, in order, into what one task each reads: a plain file over `range_bytes` in ranges (if it may be entered in the middle),
/// neighbouring small files together, any other alone.
pub fn plan_files(files: &[InputFile], range_bytes: Option<u64>) -> Vec<Vec<FilePart>> {
    let mut groups: Vec<Vec<FilePart>> = Vec::new();
    let mut open = 0; // bytes of the last group, if small files may still join it
    for file in files {
        let part = |start, end| FilePart { path: file.path.clone(), name: file.name.clone(), start, end };
        if file.bytes <= SMALL_BYTES / 4 {
            match groups.last_mut() {
                Some(group) if open > 0 && open + file.bytes <= SMALL_BYTES && group.len() < SMALL_FILES => {
                    group.push(part(0, file.bytes));
                    open += file.bytes.max(1);
                }
                _ => {
                    groups.push(vec![part(0, file.bytes)]);
                    open = file.bytes.max(1);
                }
            }
            continue;
        }
        open = 0;
        match range_bytes {
            Some(range) if !is_compressed(&file.path) && range > 0 => {
                let mut start = 0;
                while start < file.bytes {
                    let end = start.saturating_add(range).min(file.bytes);
                    groups.push(vec![part(start, end)]);
                    start = end;
                }
            }
            _ => groups.push(vec![part(0, file.bytes)]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_a_file_and_small_files_share_a_task() {
        let file = |name: &str, bytes| InputFile { path: name.into(), name: name.to_owned(), bytes };
        let files = [file("a", 10), file("b", 0), file("c", 20 << 20), file("d.gz", 200 << 20), file("e", 5), file("f", 8 << 20)];
        let groups: Vec<Vec<(String, u64, u64)>> = plan_files(&files, Some(16 << 20))
            .into_iter()
            .map(|group| group.into_iter().map(|part| (part.name, part.start >> 20, part.end >> 20)).collect())
            .collect();
        let expected = [
            vec![("a", 0, 0), ("b", 0, 0)],
            vec![("c", 0, 16)],
            vec![("c", 16, 20)],
            vec![("d.gz", 0, 200)],
            vec![("e", 0, 0), ("f", 0, 8)],
        ];
        let expected: Vec<Vec<(String, u64, u64)>> =
            expected.into_iter().map(|group| group.into_iter().map(|(n, a, b)| (n.to_owned(), a, b)).collect()).collect();
        assert_eq!(groups, expected);
    }
}
