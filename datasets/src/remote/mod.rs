//! Files on object storage: `s3://bucket/key` and, to be read only, `hf://datasets/owner/name/path`.
//!
//! An address travels as a path that holds its text; what opens a file asks [`Address::of`] first.

mod address;
mod client;
mod file;
mod hub;
mod list;

use std::io;

pub use address::Address;
pub(crate) use client::wait;
pub use client::{install_cryptography, objects_below, provide, runtime};
pub use file::{RemoteFile, RemoteReader};
pub(crate) use list::list_address;

/// What storage or the way to it said; never a sign of a damaged file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RemoteError(String);

const NO_CREDENTIALS: &str = "there are no valid credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or for a public \
                              bucket AWS_SKIP_SIGNATURE=true";

/// An error of storage as one of reading, in words for a person.
pub fn io_error(error: object_store::Error) -> io::Error {
    use object_store::Error;
    let (kind, text) = match &error {
        Error::NotFound { .. } => (io::ErrorKind::NotFound, "there is no such object".to_owned()),
        Error::Precondition { .. } => (io::ErrorKind::Other, "it was changed while it was read".to_owned()),
        Error::PermissionDenied { .. } => {
            (io::ErrorKind::PermissionDenied, "access is denied to this key, or the bucket is another one's".to_owned())
        }
        Error::Unauthenticated { .. } => (io::ErrorKind::PermissionDenied, NO_CREDENTIALS.to_owned()),
        _ => match with_causes(&error) {
            // What was asked last for credentials: the machine, which in a data centre has some.
            text if text.contains("//169.254.169.254/") => (io::ErrorKind::PermissionDenied, NO_CREDENTIALS.to_owned()),
            text => (io::ErrorKind::Other, text),
        },
    };
    io::Error::new(kind, RemoteError(text))
}

/// Whether an error came from storage or the way to it.
pub(crate) fn is_remote(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<RemoteError>)
}

/// An error and what it came from, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
