//! The files of a segment: sorted band keys in blocks, and rows with their ids and shingles.

use std::ops::Range;

use datasets::Folder;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::manifest::SegmentEntry;
use super::{SEGMENT, Seen, Writing, damaged, trouble};
use crate::{RowRef, StageError};

/// Raised when the files of a segment are laid out differently.
const FORMAT: u32 = 1;

/// A band key, the number of the row, the hash of its text.
const ENTRY_BYTES: usize = 28;

/// Entries of a block, which is read whole and has a hash.
const BLOCK_ENTRIES: usize = 8_192;

/// Blocks that are read in one go.
const BLOCKS_AT_ONCE: usize = 32;

/// Where a row's id and shingles lie, how long they are, and their hashes.
const RECORD_BYTES: usize = 24;

/// The first of these: where its id and shingles begin.
const START_BYTES: usize = 8;

/// Bytes that are kept of a shingle's hash.
const SHINGLE_BYTES: usize = SHORT_BITS as usize / 8;

/// What stands for the length of an id where there is none.
const NO_ID: u32 = u32::MAX;

/// Ranges of a file with at most so many bytes between them are read in one go …
const GAP: u64 = 4_096;

/// … of up to about so many bytes.
const AT_ONCE: u64 = 8 << 20;

/// How many bits of a shingle's hash are kept.
pub(in crate::dedup) const SHORT_BITS: u32 = 40;

/// What is kept of a shingle's hash; keeps the order.
pub(in crate::dedup) fn short(hash: u64) -> u64 {
    hash >> (u64::BITS - SHORT_BITS)
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::dedup) struct RowPiece {
    /// Its place among the segment's, with gaps.
    pub(in crate::dedup) number: u32,
    pub(in crate::dedup) rows: u64,
    pub(in crate::dedup) bytes: u64,
}

/// A file of band keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::dedup) struct BandPiece {
    /// Its place among the segment's, with gaps.
    pub(in crate::dedup) number: u32,
    pub(in crate::dedup) entries: u64,
    /// The upper half of each block's first key, and the block's hash.
    pub(in crate::dedup) blocks: Vec<(u64, u64)>,
}

/// What a segment says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentFile {
    format: u32,
    rows: Vec<RowPiece>,
    bands: Vec<BandPiece>,
}

impl SegmentFile {
    pub(super) fn new(rows: Vec<RowPiece>, bands: Vec<BandPiece>) -> Self {
        Self { format: FORMAT, rows, bands }
    }

    pub(super) fn text(&self) -> Result<String, StageError> {
        serde_json::to_string(self).map_err(|error| StageError::Internal(format!("a segment does not serialize: {error}")))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| format!("it describes no segment: {error}"))?;
        if file.format == FORMAT {
            Ok(file)
        } else {
            Err(format!("it is of format {}, this version of the program reads {FORMAT}", file.format))
        }
    }

    pub(super) fn n_rows(&self) -> u64 {
        self.rows.iter().fold(0, |sum, piece| sum.saturating_add(piece.rows))
    }

    pub(super) fn bytes(&self) -> u64 {
        let bands = self.bands.iter().map(|piece| piece.entries.saturating_mul(ENTRY_BYTES as u64));
        self.rows.iter().map(|piece| piece.bytes).chain(bands).fold(0, u64::saturating_add)
    }
}

fn bands_name(folder: &str, number: u32) -> String {
    format!("{folder}/bands-{number:05}")
}

fn rows_name(folder: &str, number: u32) -> String {
    format!("{folder}/rows-{number:05}")
}

/// A block of band keys.
#[derive(Debug)]
struct Block {
    /// Which file.
    piece: u32,
    start: u64,
    end: u64,
    /// The upper half of its first key.
    first: u64,
    hash: u64,
}

/// A segment whose files are all there.
#[derive(Debug)]
pub(super) struct Segment {
    folder: String,
    /// What stands for it in references to its rows.
    number: u32,
    n_rows: u32,
    rows: Vec<RowPiece>,
    /// The first row of each file of rows.
    starts: Vec<u64>,
    blocks: Vec<Block>,
}

impl Segment {
    /// Opens the segment that `entry` names, whose rows are called by `number`. Its files are all there and as long as they should be.
    pub(super) fn open(storage: &Folder, entry: &SegmentEntry, number: u32) -> Result<Self, StageError> {
        let folder = entry.folder.clone();
        let name = format!("{folder}/{SEGMENT}");
        let read = storage.get(&name).map_err(|error| trouble(storage, &name, &error))?;
        let wrong = |problem: &str| damaged(storage, &name, problem);
        let bytes = read.ok_or_else(|| wrong("it is gone"))?.bytes;
        if blake3::hash(&bytes).to_hex().as_str() != entry.hash {
            return Err(wrong("its contents have changed"));
        }
        let file = SegmentFile::parse(&bytes).map_err(|problem| wrong(&problem))?;
        let sizes = storage.sizes(&folder).map_err(|error| trouble(storage, &folder, &error))?;
        let check = |name: String, bytes: Option<u64>| match sizes.get(&name) {
            None => Err(damaged(storage, &name, "it is gone")),
            Some(found) if Some(*found) != bytes => Err(damaged(storage, &name, "it is not as long as it was written")),
            Some(_) => Ok(()),
        };
        let (mut starts, mut blocks) = (Vec::new(), Vec::new());
        let mut n_rows = 0_u64;
        for piece in &file.rows {
            check(rows_name(&folder, piece.number), Some(piece.bytes))?;
            if piece.rows.checked_mul(RECORD_BYTES as u64).is_none_or(|records| records > piece.bytes) {
                return Err(wrong("a file cannot hold the rows that it should hold"));
            }
            starts.push(n_rows);
            n_rows += piece.rows;
        }
        for piece in &file.bands {
            check(bands_name(&folder, piece.number), piece.entries.checked_mul(ENTRY_BYTES as u64))?;
            if piece.entries.div_ceil(BLOCK_ENTRIES as u64) != piece.blocks.len() as u64 {
                return Err(wrong("a file has other blocks than it should have"));
            }
            let bytes = piece.entries * ENTRY_BYTES as u64;
            let starts = (0..bytes).step_by(BLOCK_ENTRIES * ENTRY_BYTES);
            blocks.extend(starts.zip(&piece.blocks).map(|(start, &(first, hash))| {
                let end = bytes.min(start + (BLOCK_ENTRIES * ENTRY_BYTES) as u64);
                Block { piece: piece.number, start, end, first, hash }
            }));
        }
        if !blocks.is_sorted_by_key(|block| block.first) {
            return Err(wrong("its blocks are not in order"));
        }
        let n_rows = u32::try_from(n_rows).ok().filter(|n_rows| u64::from(*n_rows) == entry.rows);
        let n_rows = n_rows.ok_or_else(|| wrong("it has another number of rows than the manifest says"))?;
        Ok(Self { folder, number, n_rows, rows: file.rows, starts, blocks })
    }

    /// See [`Seen::meet`].
    pub(super) fn meet(&self, storage: &Folder, keys: &[u128], each: &mut impl FnMut(usize, RowRef, u64)) -> Result<(), StageError> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(()) };
        let (first, last) = (high(*first), high(*last));
        let start = self.blocks.partition_point(|block| block.first < first).saturating_sub(1);
        let end = self.blocks.partition_point(|block| block.first <= last).max(start);
        let mut at = 0;
        for blocks in self.blocks[start..end].chunk_by(|a, b| a.piece == b.piece).flat_map(|of_piece| of_piece.chunks(BLOCKS_AT_ONCE)) {
            let name = bands_name(&self.folder, blocks[0].piece);
            let span = blocks[0].start..blocks[blocks.len() - 1].end;
            let read = storage.ranges(&name, std::slice::from_ref(&span)).map_err(|error| trouble(storage, &name, &error))?;
            let mut rest = read.first().map_or(&[][..], Vec::as_slice);
            for block in blocks {
                let bytes;
                (bytes, rest) =
                    rest.split_at_checked(length(block.end - block.start)).ok_or_else(|| damaged(storage, &name, "it is cut off"))?;
                if xxh3_64(bytes) != block.hash {
                    return Err(damaged(storage, &name, "its contents have changed"));
                }
                for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
                    let (key, row, text) = entry_of(entry);
                    while at < keys.len() && keys[at] < key {
                        at += 1;
                    }
                    if at == keys.len() {
                        return Ok(());
                    }
                    if keys[at] == key {
                        if row >= self.n_rows {
                            return Err(damaged(storage, &name, "it names a row that the segment does not have"));
                        }
                        each(at, RowRef { shard: self.number, row }, text);
                    }
                }
            }
        }
        Ok(())
    }

    /// See [`Seen::places`].
    pub(super) fn places(&self, storage: &Folder, rows: &[RowRef], places: &mut Vec<Place>) -> Result<(), StageError> {
        let piece_of = |row: &RowRef| self.starts.partition_point(|start| *start <= u64::from(row.row)).saturating_sub(1);
        for of_piece in rows.chunk_by(|a, b| piece_of(a) == piece_of(b)) {
            let number = piece_of(&of_piece[0]);
            let Some(piece) = self.rows.get(number) else { return Err(StageError::Internal("a row of no segment".to_owned())) };
            let records = piece.bytes - piece.rows * RECORD_BYTES as u64;
            let start = |row: &RowRef| records + (u64::from(row.row) - self.starts[number]) * RECORD_BYTES as u64;
            if of_piece.iter().any(|row| start(row) + RECORD_BYTES as u64 > piece.bytes) {
                return Err(damaged(storage, &self.piece_name(number), "it does not have a row that is asked for"));
            }
            // A record, and where the row behind it begins.
            let ranges: Vec<Range<u64>> =
                of_piece.iter().map(|row| start(row)..piece.bytes.min(start(row) + (RECORD_BYTES + START_BYTES) as u64)).collect();
            for (row, bytes) in of_piece.iter().zip(self.read(storage, number, &ranges)?) {
                let (record, next) = bytes.split_at(RECORD_BYTES);
                let end = next.try_into().map_or(records, u64::from_le_bytes);
                // Rows lie one behind the other, so that a length that has changed is seen before anything is decided by it.
                let place = Place::of(*row, number, record).filter(|place| place.set_range().end == end);
                places.push(place.ok_or_else(|| self.changed(storage, number, *row))?);
            }
        }
        Ok(())
    }

    /// Ranges of a file of rows, ascending.
    pub(super) fn read(&self, storage: &Folder, piece: usize, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>, StageError> {
        let name = self.piece_name(piece);
        let mut read = Vec::with_capacity(ranges.len());
        let mut rest = ranges;
        while let Some(first) = rest.first() {
            let (start, mut end, mut n) = (first.start, first.end, 1);
            while let Some(next) = rest.get(n)
                && next.start <= end.saturating_add(GAP)
                && next.end.max(end) - start <= AT_ONCE
            {
                end = end.max(next.end);
                n += 1;
            }
            let span = start..end;
            let bytes = storage.ranges(&name, std::slice::from_ref(&span)).map_err(|error| trouble(storage, &name, &error))?;
            let bytes = bytes.first().map_or(&[][..], Vec::as_slice);
            for range in &rest[..n] {
                let part = bytes.get(length(range.start - start)..length(range.end - start));
                read.push(part.ok_or_else(|| damaged(storage, &name, "it is cut off"))?.to_vec());
            }
            rest = &rest[n..];
        }
        Ok(read)
    }

    pub(super) fn changed(&self, storage: &Folder, piece: usize, row: RowRef) -> StageError {
        damaged(storage, &self.piece_name(piece), &format!("row {}: its contents have changed", row.row))
    }

    pub(super) fn piece_name(&self, piece: usize) -> String {
        rows_name(&self.folder, self.rows.get(piece).map_or(0, |piece| piece.number))
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn high(key: u128) -> u64 {
    (key >> 64) as u64
}

fn entry_of(entry: &[u8; ENTRY_BYTES]) -> (u128, u32, u64) {
    let (key, rest) = entry.split_at(16);
    let (row, text) = rest.split_at(4);
    let key = u128::from_be_bytes(key.try_into().expect("16 bytes"));
    (key, u32::from_le_bytes(row.try_into().expect("4 bytes")), u64::from_le_bytes(text.try_into().expect("8 bytes")))
}

/// Where a row's id and shingles lie.
#[derive(Debug, Clone)]
pub(in crate::dedup) struct Place {
    pub(in crate::dedup) row: RowRef,
    pub(super) piece: usize,
    start: u64,
    /// How many shingles it has.
    pub(in crate::dedup) n_shingles: u32,
    id_bytes: u32,
    id_hash: u32,
    set_hash: u32,
}

impl Place {
    fn of(row: RowRef, piece: usize, record: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let start = u64::from_le_bytes(record.get(..8)?.try_into().ok()?);
        let place = Self { row, piece, start, n_shingles: number(8)?, id_bytes: number(12)?, id_hash: number(16)?, set_hash: number(20)? };
        start.checked_add(2 * u64::from(u32::MAX) * SHINGLE_BYTES as u64)?; // whatever is added below stays in range
        Some(place)
    }

    pub(super) fn id_range(&self) -> Range<u64> {
        let bytes = if self.id_bytes == NO_ID { 0 } else { u64::from(self.id_bytes) };
        self.start..self.start + bytes
    }

    pub(super) fn set_range(&self) -> Range<u64> {
        let start = self.id_range().end;
        start..start + u64::from(self.n_shingles) * SHINGLE_BYTES as u64
    }

    pub(super) fn id(&self, bytes: &[u8]) -> Result<Option<String>, String> {
        if hash_of(bytes, self.start, self.n_shingles, self.id_bytes) != self.id_hash {
            return Err("its contents have changed".to_owned());
        }
        if self.id_bytes == NO_ID {
            return Ok(None);
        }
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| "its id is no UTF-8".to_owned())
    }

    pub(super) fn set(&self, bytes: &[u8], set: &mut Vec<u64>) -> Result<(), String> {
        if hash_of(bytes, self.start, self.n_shingles, self.id_bytes) != self.set_hash {
            return Err("its contents have changed".to_owned());
        }
        set.clear();
        let value = |bytes: &[u8; SHINGLE_BYTES]| u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], 0, 0, 0]);
        set.extend(bytes.as_chunks::<SHINGLE_BYTES>().0.iter().map(value));
        Ok(())
    }
}

/// A hash of a part of a row and of where the row's parts lie.
#[expect(clippy::cast_possible_truncation, reason = "half a hash is enough for a row")]
fn hash_of(bytes: &[u8], start: u64, n_shingles: u32, id_bytes: u32) -> u32 {
    xxh3_64_with_seed(bytes, start ^ (u64::from(n_shingles) << 32) ^ u64::from(id_bytes).rotate_left(16)) as u32
}

/// Writes a file of rows.
pub(in crate::dedup) struct RowsWriter {
    writing: Writing,
    number: u32,
    records: Vec<u8>,
    buffer: Vec<u8>,
}

impl RowsWriter {
    /// Begins the file of this number; `None` if the run adds no segment.
    pub(in crate::dedup) fn begin(seen: &Seen, number: u32) -> Result<Option<Self>, StageError> {
        let writing = seen.write(&rows_name("", number)[1..])?;
        Ok(writing.map(|writing| Self { writing, number, records: Vec::new(), buffer: Vec::new() }))
    }

    /// Writes the next row; `shingles` are ascending, each once, as [`short`] makes them.
    pub(in crate::dedup) fn push(&mut self, id: Option<&str>, shingles: &[u64]) -> Result<(), StageError> {
        let too_large = |_| StageError::Internal("a row of over 2^32 shingles".to_owned());
        let start = self.writing.bytes();
        let n_shingles = u32::try_from(shingles.len()).map_err(too_large)?;
        let id_bytes = id.map_or(Ok(NO_ID), |id| u32::try_from(id.len())).map_err(too_large)?;
        let id = id.unwrap_or_default().as_bytes();
        self.buffer.clear();
        self.buffer.extend_from_slice(id);
        for shingle in shingles {
            self.buffer.extend_from_slice(&shingle.to_le_bytes()[..SHINGLE_BYTES]);
        }
        self.writing.write(&self.buffer)?;
        self.records.extend_from_slice(&start.to_le_bytes());
        let set = &self.buffer[id.len()..];
        let hashes = [hash_of(id, start, n_shingles, id_bytes), hash_of(set, start, n_shingles, id_bytes)];
        [n_shingles, id_bytes, hashes[0], hashes[1]].iter().for_each(|number| self.records.extend_from_slice(&number.to_le_bytes()));
        Ok(())
    }

    /// Makes it a file.
    pub(in crate::dedup) fn finish(mut self) -> Result<RowPiece, StageError> {
        self.writing.write(&self.records)?;
        Ok(RowPiece { number: self.number, rows: (self.records.len() / RECORD_BYTES) as u64, bytes: self.writing.finish()? })
    }
}

/// Writes a file of band keys.
pub(in crate::dedup) struct BandsWriter {
    writing: Writing,
    piece: BandPiece,
    block: Vec<u8>,
}

impl BandsWriter {
    /// Begins the file of this number; `None` if the run adds no segment.
    pub(in crate::dedup) fn begin(seen: &Seen, number: u32) -> Result<Option<Self>, StageError> {
        let piece = BandPiece { number, entries: 0, blocks: Vec::new() };
        let writing = seen.write(&bands_name("", number)[1..])?;
        Ok(writing.map(|writing| Self { writing, piece, block: Vec::new() }))
    }

    /// Writes the next entry; they come by key, then row.
    pub(in crate::dedup) fn push(&mut self, key: u128, row: u32, text: u64) -> Result<(), StageError> {
        if self.block.is_empty() {
            self.piece.blocks.push((high(key), 0));
        }
        self.block.extend_from_slice(&key.to_be_bytes());
        self.block.extend_from_slice(&row.to_le_bytes());
        self.block.extend_from_slice(&text.to_le_bytes());
        self.piece.entries += 1;
        if self.block.len() == BLOCK_ENTRIES * ENTRY_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), StageError> {
        if let Some((_, hash)) = self.piece.blocks.last_mut().filter(|_| !self.block.is_empty()) {
            *hash = xxh3_64(&self.block);
            self.writing.write(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    /// Makes it a file.
    pub(in crate::dedup) fn finish(mut self) -> Result<BandPiece, StageError> {
        self.end_block()?;
        self.writing.finish()?;
        Ok(self.piece)
    }
}
