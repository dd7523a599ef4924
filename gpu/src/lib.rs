//! Compute on any GPU with a Vulkan, Metal or DirectX 12 driver, and on the processor where there is none.
//!
//! Knows no stage and no schema. An adapter that is a program on the processor (lavapipe, say) is listed as such and counts as no GPU.

mod context;
pub mod cpu;
mod device;
mod error;
pub mod fractal;
pub mod kernels;
mod pool;
mod shaders;
#[cfg(test)]
mod twins;

pub use context::{Batch, Buffer, Download, Gpu, Limits, Pending, Results};
pub use device::{Device, DeviceChoice, DeviceClass, DeviceError, Ran};
pub use error::GpuError;

use serde::Serialize;
use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor};

/// What the system says of one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdapterReport {
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The interface it is driven by: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Most bytes a shader can see of one buffer.
    pub max_binding_bytes: u64,
    /// Most bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Most workgroups along one dimension of a dispatch.
    pub max_workgroups: u32,
}

impl AdapterReport {
    /// Whether it is a GPU, not a program on the processor.
    pub fn is_gpu(&self) -> bool {
        self.kind != "software"
    }
}

/// The adapters of this machine; GPUs first, otherwise as the system lists them.
pub fn adapters() -> Vec<AdapterReport> {
    let descriptor = InstanceDescriptor { backends: Backends::PRIMARY, ..InstanceDescriptor::new_without_display_handle() };
    let found = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::PRIMARY));
    let mut adapters: Vec<AdapterReport> = found.iter().map(report).collect();
    adapters.sort_by_key(|adapter| !adapter.is_gpu());
    adapters
}

pub(crate) fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    AdapterReport {
        name: info.name,
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        },
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn every_adapter_that_is_listed_can_run_a_workgroup() {
        let adapters = adapters();
        if adapters.is_empty() {
            // Where a driver is required, none is a failure: `tests/run-all` installs a software one.
            assert!(std::env::var_os("GPU_TESTS").is_none_or(|tests| tests != "require"), "no adapter");
            eprintln!("skipped: no adapter");
            return;
        }
        for adapter in &adapters {
            assert!(!adapter.name.is_empty() && adapter.max_binding_bytes > 0 && adapter.max_workgroups > 0, "{adapter:?}");
        }
        let last_gpu = adapters.iter().rposition(AdapterReport::is_gpu).unwrap_or(0);
        assert!(adapters[..last_gpu].iter().all(AdapterReport::is_gpu), "GPUs come first");
    }
}
