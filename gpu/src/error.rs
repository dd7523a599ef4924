//! Why work on a GPU came to nothing.

/// Why work on a GPU came to nothing. None is the end of a run: the twin does the same work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The device is gone: its driver was reset, it was unplugged, or an error came that nobody waited for.
    #[error("the device is lost: {reason}")]
    Lost {
        /// What the driver says.
        reason: String,
    },
    /// The device has no memory for this.
    #[error("the device is out of memory: {problem}")]
    OutOfMemory {
        /// What the driver says.
        problem: String,
    },
    /// A single row passes what the adapter can do.
    #[error("{what} needs {wanted}, and the adapter allows {limit}")]
    TooLarge {
        /// Of what there is too much, in words: `a row's counts (bytes)`.
        what: &'static str,
        /// How much.
        wanted: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// A bug of ours.
    #[error("a bug of ours: {problem}")]
    Internal {
        /// What is wrong.
        problem: String,
    },
}

impl From<wgpu::Error> for GpuError {
    fn from(error: wgpu::Error) -> Self {
        let problem = error.to_string();
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory { problem },
            wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => Self::Internal { problem },
        }
    }
}
