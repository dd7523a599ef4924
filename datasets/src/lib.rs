//! Where rows come from and go to: file formats, and the bundled samples.

pub mod base64;
mod error;
mod folder;
pub mod formats;
mod join;
mod quiet;
mod read_at;
mod recut;
pub mod remote;
mod sink;
mod write;

pub use error::DataError;
pub use folder::{Folder, FolderWriter, Known};
pub use join::{Open, join_parts};
pub use quiet::catch_quietly;
pub use read_at::{Cursor, ReadAt};
pub use recut::Recut;
pub use sink::{Part, PartWriter, empty_part, part_writer};
pub use write::{Compression, Level, WriteFormat, WriteSettings};
