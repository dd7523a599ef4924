//! The device that kernels run on: the processor, or one adapter.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wgpu::{Backends, Instance, InstanceDescriptor};

use crate::{AdapterReport, Gpu, GpuError, Limits};

/// Which device a user wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if there is one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU; none is an error.
    Gpu,
    /// The first adapter whose name contains this text, whatever its kind.
    Named(String),
}

impl FromStr for DeviceChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            name => Self::Named(name.to_owned()),
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Named(name) => name,
        })
    }
}

/// What kind of device results depend on: floats are equal on one class, and near on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceClass {
    /// The twins, on the processor.
    Cpu,
    /// The shaders, on an adapter.
    Gpu,
}

impl DeviceClass {
    /// `cpu` or `gpu`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// Why a device cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no GPU.
    #[error("there is no GPU: {found}")]
    NoGpu {
        /// What there is instead.
        found: String,
    },
    /// No adapter has this name.
    #[error("no adapter is called `{name}`: {found}")]
    NoAdapter {
        /// The name.
        name: String,
        /// What there is.
        found: String,
    },
    /// The adapter is there and gives no device.
    #[error("adapter `{name}` can't be opened: {problem}")]
    Open {
        /// The adapter.
        name: String,
        /// What its driver says.
        problem: String,
    },
}

/// A device to run kernels on. Cheap to copy: copies are the same device.
#[derive(Debug, Clone, Default)]
pub struct Device(Option<Arc<Gpu>>);

/// Where work was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// On the processor: there is no other device.
    Cpu,
    /// On the adapter.
    Gpu,
    /// On the processor, because the adapter failed; why.
    FellBack(String),
}

/// For tests: names how many dispatches a device does before it is lost.
const LOSE_AFTER: &str = "GRANARY_LOSE_DEVICE_AFTER";

impl Device {
    /// The processor.
    pub fn cpu() -> Self {
        Self::default()
    }

    /// Opens what was chosen. A program on the processor (lavapipe, say) counts as no GPU: it is opened by its name only.
    ///
    /// For tests: where the environment variable `GRANARY_LOSE_DEVICE_AFTER` is a number, the device is lost after so many dispatches.
    ///
    /// # Errors
    /// No such adapter, or one that cannot be opened.
    pub fn open(choice: &DeviceChoice) -> Result<Self, DeviceError> {
        Self::open_within(choice, None)
    }

    /// Opens what was chosen, with limits that are no higher than these.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_within(choice: &DeviceChoice, limits: Option<&Limits>) -> Result<Self, DeviceError> {
        if *choice == DeviceChoice::Cpu {
            return Ok(Self::cpu());
        }
        let descriptor = InstanceDescriptor { backends: Backends::PRIMARY, ..InstanceDescriptor::new_without_display_handle() };
        let adapters = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::PRIMARY));
        let mut adapters: Vec<_> = adapters.into_iter().map(|adapter| (crate::report(&adapter), adapter)).collect();
        adapters.sort_by_key(|(report, _)| !report.is_gpu());
        let found = match adapters.as_slice() {
            [] => "no adapter was found".to_owned(),
            some => some.iter().map(|(report, _)| format!("`{}` ({})", report.name, report.kind)).collect::<Vec<_>>().join(", "),
        };
        let wanted = |report: &AdapterReport| match choice {
            DeviceChoice::Named(name) => report.name.to_lowercase().contains(&name.to_lowercase()),
            _ => report.is_gpu(),
        };
        match (adapters.into_iter().find(|(report, _)| wanted(report)), choice) {
            (Some((report, adapter)), _) => {
                let gpu = Gpu::open(report, &adapter, limits)?;
                if let Ok(dispatches) = std::env::var(LOSE_AFTER) {
                    let problem = || format!("`{LOSE_AFTER}` is `{dispatches}`, and wants a number of dispatches");
                    let open = |_| DeviceError::Open { name: gpu.report().name.clone(), problem: problem() };
                    gpu.lose_after(dispatches.parse().map_err(open)?);
                }
                Ok(Self(Some(Arc::new(gpu))))
            }
            (None, DeviceChoice::Named(name)) => Err(DeviceError::NoAdapter { name: name.clone(), found }),
            (None, DeviceChoice::Gpu) => Err(DeviceError::NoGpu { found }),
            (None, _) => Ok(Self::cpu()),
        }
    }

    /// Its class.
    pub fn class(&self) -> DeviceClass {
        if self.0.is_some() { DeviceClass::Gpu } else { DeviceClass::Cpu }
    }

    /// Does work on the adapter, or its twin on the processor where there is no adapter or where it fails. A device that is lost stays so: later
    /// calls go to the twin at once.
    pub fn run<T>(&self, on_gpu: impl FnOnce(&Gpu) -> Result<T, GpuError>, on_cpu: impl FnOnce() -> T) -> (T, Ran) {
        let Some(gpu) = &self.0 else { return (on_cpu(), Ran::Cpu) };
        if let Some(reason) = gpu.lost() {
            return (on_cpu(), Ran::FellBack(GpuError::Lost { reason: reason.to_owned() }.to_string()));
        }
        match on_gpu(gpu) {
            Ok(value) => (value, Ran::Gpu),
            Err(error) => (on_cpu(), Ran::FellBack(error.to_string())),
        }
    }

    /// The adapter, if it is not the processor.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "gpu", "llvmpipe"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_that_says_what_is() {
        let error = Device::open(&DeviceChoice::Named("no such adapter".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("no adapter is called `no such adapter`: "), "{error}");
        assert_eq!(Device::open(&DeviceChoice::Cpu).unwrap().class(), DeviceClass::Cpu);
    }
}
