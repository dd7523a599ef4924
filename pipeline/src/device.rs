//! The device of a run: asked for on the command line, opened when the first stage that runs kernels is built.

use std::cell::OnceCell;
use std::fmt;

use gpu::{Device, DeviceChoice, DeviceClass, DeviceError};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct DeviceWish {
    /// By the command line.
    pub choice: DeviceChoice,
    /// By the plan whose tasks are to be done: those of one class are other tasks than those of the other.
    pub planned: Option<DeviceClass>,
}

/// What the stages of a run that run kernels are run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What floats depend on, and so the fingerprints of such stages.
    pub class: DeviceClass,
    /// The adapter's name; none for the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The interface it is driven by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Its driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl DeviceRecord {
    /// What is to be told of a device.
    pub fn of(device: &Device) -> Self {
        let report = device.gpu().map(|gpu| gpu.report());
        let told = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            class: device.class(),
            adapter: report.and_then(|report| told(&report.name)),
            backend: report.and_then(|report| told(&report.backend)),
            driver: report.and_then(|report| told(&report.driver)),
        }
    }
}

impl fmt::Display for DeviceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(adapter) = &self.adapter else { return f.write_str("the processor") };
        let about: Vec<&str> = [&self.backend, &self.driver].into_iter().flatten().map(String::as_str).collect();
        write!(f, "{adapter}")?;
        if about.is_empty() { Ok(()) } else { write!(f, " ({})", about.join(", ")) }
    }
}

/// Why there is no such device, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoDevice {
    pub(crate) problem: String,
    pub(crate) help: String,
}

/// A device that is opened when it is needed: a driver takes a while to load, and some print what nobody asked for.
#[derive(Debug)]
pub(crate) struct LazyDevice<'w> {
    wish: &'w DeviceWish,
    opened: OnceCell<Result<Device, NoDevice>>,
}

impl<'w> LazyDevice<'w> {
    /// Nothing is opened yet.
    pub(crate) fn new(wish: &'w DeviceWish) -> Self {
        Self { wish, opened: OnceCell::new() }
    }

    /// The device, opened the first time. What is wrong with it is told the first time alone: the second time it is `Err(None)`.
    pub(crate) fn get(&self) -> Result<Device, Option<NoDevice>> {
        let is_first = self.opened.get().is_none();
        self.opened.get_or_init(|| open(self.wish)).clone().map_err(|error| is_first.then_some(error))
    }

    /// What was opened, if any was.
    pub(crate) fn opened(&self) -> Option<DeviceRecord> {
        self.opened.get().and_then(|opened| opened.as_ref().ok()).map(DeviceRecord::of)
    }
}

fn open(wish: &DeviceWish) -> Result<Device, NoDevice> {
    // A plan for the processor needs no driver to be asked.
    let choice = match (&wish.choice, wish.planned) {
        (DeviceChoice::Auto, Some(DeviceClass::Cpu)) => &DeviceChoice::Cpu,
        (choice, _) => choice,
    };
    let device = Device::open(choice).map_err(|error| {
        let help = match (&error, wish.planned) {
            (_, Some(DeviceClass::Gpu)) => {
                "the plan's tasks are for a GPU: run this worker where there is one, or plan again with `--device cpu`"
            }
            (DeviceError::NoAdapter { .. }, _) => {
                "`pipeline devices` lists them; `--device auto` takes a GPU if there is one, else the processor"
            }
            (DeviceError::NoGpu { .. }, _) => {
                "write `--device cpu`, or `--device NAME` for an adapter of that name, a program on the processor too"
            }
            _ => "write `--device cpu`, or name another adapter: `pipeline devices` lists them",
        };
        NoDevice { problem: error.to_string(), help: help.to_owned() }
    })?;
    match wish.planned {
        Some(planned) if planned != device.class() => Err(other_class(planned, &device)),
        _ => Ok(device),
    }
}

fn other_class(planned: DeviceClass, device: &Device) -> NoDevice {
    let found = DeviceRecord::of(device);
    match planned {
        DeviceClass::Gpu => NoDevice {
            problem: format!("the plan's tasks are for a GPU, and this would do them on {found}"),
            help: "run this worker where there is a GPU, or name an adapter with `--device`, or plan again with `--device cpu`".to_owned(),
        },
        DeviceClass::Cpu => NoDevice {
            problem: format!("the plan's tasks are for the processor, and this would do them on {found}"),
            help: "leave `--device` out, or plan again with it".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_another_class_than_planned_is_refused_and_said_once() {
        let wish = DeviceWish { choice: DeviceChoice::Cpu, planned: Some(DeviceClass::Gpu) };
        let device = LazyDevice::new(&wish);
        assert!(device.opened().is_none());
        let Err(Some(error)) = device.get() else { panic!("refused") };
        assert_eq!(error.problem, "the plan's tasks are for a GPU, and this would do them on the processor");
        assert!(device.get().is_err_and(|error| error.is_none()) && device.opened().is_none());
        let wish = DeviceWish { choice: DeviceChoice::Auto, planned: Some(DeviceClass::Cpu) };
        let device = LazyDevice::new(&wish);
        assert!(device.get().is_ok_and(|device| device.class() == DeviceClass::Cpu));
        assert_eq!(device.opened().map(|device| device.to_string()).as_deref(), Some("the processor"));
    }

    #[test]
    fn what_is_not_there_is_said_with_what_to_write() {
        let wish = DeviceWish { choice: DeviceChoice::Named("no such adapter".to_owned()), planned: None };
        let Err(Some(error)) = LazyDevice::new(&wish).get() else { panic!("refused") };
        assert!(error.problem.starts_with("no adapter is called `no such adapter`: "), "{}", error.problem);
        assert!(error.help.contains("`pipeline devices`"), "{}", error.help);
    }
}
