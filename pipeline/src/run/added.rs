//! What an output added to what outlives it: of each stage, the plans of the programs that did.

use bytes::Bytes;

use super::RunError;
use crate::store::Store;

const FOLDER: &str = ".pipeline/added";

fn path_of(stage: &str) -> String {
    format!("{FOLDER}/{stage}.json")
}

/// The plans by which `stage` added something. What is there and cannot be read counts as none.
///
/// # Errors
/// What the storage says.
pub(super) fn find(store: &Store, stage: &str) -> Result<Vec<String>, RunError> {
    let read = store.get(&path_of(stage))?;
    Ok(read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// Remembers that `stage` adds something by these plans, and by no other.
///
/// # Errors
/// What the storage says.
pub(super) fn remember(store: &Store, stage: &str, plans: &[String]) -> Result<(), RunError> {
    if find(store, stage)? == plans {
        return Ok(());
    }
    let bytes = serde_json::to_vec(plans).map_err(|error| RunError::Internal(format!("plans do not serialize: {error}")))?;
    Ok(store.put_durable(&path_of(stage), Bytes::from(bytes))?)
}
