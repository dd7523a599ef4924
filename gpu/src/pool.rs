//! Buffers that are used again: to make one costs more than a small batch does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::BufferUsages;

/// Most bytes of buffers that wait to be used again.
const IDLE_BYTES: u64 = 512 << 20;
/// The smallest buffer. A shader's array or struct must fit whatever is bound, even if there are no rows.
pub(crate) const LEAST_BYTES: u64 = 256;

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// Read and written by shaders.
    Compute,
    /// Filled by the device, read by the processor.
    ReadBack,
}

impl Use {
    fn usages(self) -> BufferUsages {
        match self {
            Self::Compute => BufferUsages::STORAGE | BufferUsages::UNIFORM | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            Self::ReadBack => BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        }
    }
}

/// The buffers of a device that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    bytes: u64,
    buffers: BTreeMap<(Use, u64), Vec<wgpu::Buffer>>,
}

impl Pool {
    /// A buffer of at least this size, whatever is in it.
    pub(crate) fn take(self: &Arc<Self>, device: &wgpu::Device, purpose: Use, bytes: u64) -> Lease {
        let class = class(bytes);
        let found = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let found = idle.buffers.get_mut(&(purpose, class)).and_then(Vec::pop);
            idle.bytes -= if found.is_some() { class } else { 0 };
            found
        };
        let buffer = found.unwrap_or_else(|| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size: class, usage: purpose.usages(), mapped_at_creation: false })
        });
        Lease { buffer, class, purpose, pool: Arc::clone(self), again: purpose == Use::Compute }
    }

    /// Lets all idle buffers go.
    pub(crate) fn clear(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Idle::default();
    }

    #[cfg(test)]
    pub(crate) fn idle_buffers(&self) -> usize {
        self.idle.lock().unwrap().buffers.values().map(Vec::len).sum()
    }
}

/// The size that a buffer is made with: one of four steps to each doubling, so that at most a fifth is unused.
pub(crate) fn class(bytes: u64) -> u64 {
    let bytes = bytes.max(LEAST_BYTES);
    let step = 1 << bytes.ilog2().saturating_sub(2).max(6);
    bytes.div_ceil(step) * step
}

/// A buffer in use; it goes back when it is dropped.
///
/// A device does its work in the order it is sent, so a buffer may be handed out again as soon as the work that uses it has been sent. One that the
/// processor maps must be unmapped first ([`Lease::use_again`]).
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) buffer: wgpu::Buffer,
    class: u64,
    purpose: Use,
    pool: Arc<Pool>,
    again: bool,
}

impl Lease {
    /// Says that the buffer is unmapped and may be used again.
    pub(crate) fn use_again(&mut self) {
        self.again = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.again {
            return;
        }
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + self.class <= IDLE_BYTES {
            idle.bytes += self.class;
            idle.buffers.entry((self.purpose, self.class)).or_default().push(self.buffer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_in_few_sizes() {
        assert_eq!([0, 1, 256, 257, 320, 321, 1 << 20, (1 << 20) + 1].map(class), [256, 256, 256, 320, 320, 384, 1 << 20, 5 << 18]);
        let mut sizes: Vec<u64> = (0..100_000).map(class).collect();
        assert!((0..100_000).zip(&sizes).all(|(bytes, &size)| size >= bytes && (bytes < 256 || size * 4 <= bytes * 5)));
        sizes.dedup();
        assert!(sizes.len() < 40, "{}", sizes.len());
    }
}
