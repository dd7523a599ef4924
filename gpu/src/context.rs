//! An opened adapter, and batches of work for it.
//!
//! One [`Gpu`] serves any number of threads at once. Each records a [`Batch`] (uploads, dispatches, downloads), sends it, and waits for it
//! alone: while one thread's batch computes, others prepare theirs and read theirs back. A caller with more rows than fit a batch sends them in
//! pieces, two of them under way at any time ([`Gpu::in_pieces`]); no more than four callers do so at once, so that what they need of the device's
//! memory does not grow with the number of threads.
//!
//! Whatever goes wrong is a [`GpuError`], never a panic: calls are made within error scopes, errors that come outside of one mark the device as
//! lost, and a lost device answers every call with [`GpuError::Lost`] at once.
//!
//! # How to add a kernel
//!
//! 1. `src/cpu/<kernel>.rs`: the twin and its tests.
//! 2. `shaders/<kernel>.wgsl`: buffers in group 0, in the order in which the host will pass them; counts come as parameters (a buffer may be
//!    longer than what was uploaded, so `arrayLength` says nothing); workgroup memory is not zeroed, so write before you read. `build.rs` checks
//!    it and writes `shaders::<kernel>::<ENTRY>`, a [`Kernel`], and `<STRUCT>_LAYOUT` for each struct.
//! 3. `src/kernels/<kernel>.rs`: the host side, and the tests that hold both sides to each other (`twins::assert_twins`):
//!
//! ```text
//! pub fn double(gpu: &Gpu, values: &[f32]) -> Result<Vec<f32>, GpuError> {
//!     let rows = gpu.limits().rows("a value (bytes)", 4)?;
//!     gpu.in_pieces(
//!         values,
//!         rows,
//!         |batch, piece| {
//!             let (input, output) = (batch.upload(piece)?, batch.empty::<f32>(piece.len())?);
//!             let params = batch.upload(&[u32::try_from(piece.len()).expect("within limits"), 0, 0, 0])?;
//!             batch.dispatch_each(&shaders::double::DOUBLE, &[], &[&params, &input, &output], piece.len())?;
//!             batch.download::<f32>(&output, piece.len())
//!         },
//!         |download, results, doubled| Ok(doubled.extend(results.get(download)?)),
//!     )
//! }
//! ```
//!
//! Buffers stay on the device within a batch, so kernels in a row pass them on; what many batches read (weights) is uploaded once
//! ([`Gpu::resident`]). Variants are chosen by shape and [`Limits`], never by timing.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytemuck::Pod;
use wgpu::{BindingType, BufferBindingType, ErrorFilter, PollType, ShaderStages};

use crate::pool::{LEAST_BYTES, Lease, Pool, Use};
use crate::shaders::{Access, Kernel, Size};
use crate::{AdapterReport, DeviceError, GpuError};

/// How many pieces of one caller are under way at a time: one computes while the other is prepared or read.
const PIECES_UNDER_WAY: usize = 2;
/// How many callers may have pieces under way at a time: enough to keep a device busy, and others wait.
const CALLERS: usize = 4;
/// Most bytes of one buffer of a piece, whatever the adapter allows: pieces of this size hide their transfers behind each other.
const PIECE_BYTES: u64 = 32 << 20;
/// How long a wait for the device goes on before it is asked whether it still lives.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an adapter allows; what kernels choose their variants by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that a shader sees of one buffer.
    pub max_binding_bytes: u64,
    /// Most workgroups along one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Most lanes of a workgroup.
    pub max_workgroup_lanes: u32,
    /// Most bytes that a workgroup shares.
    pub max_shared_bytes: u32,
}

impl Limits {
    /// How many rows a piece may have if each takes so many bytes of the largest buffer.
    ///
    /// # Errors
    /// A single row is too large.
    pub fn rows(&self, what: &'static str, bytes_per_row: u64) -> Result<usize, GpuError> {
        let rows = self.max_binding_bytes.min(PIECE_BYTES.max(bytes_per_row)) / bytes_per_row.max(1);
        if rows == 0 {
            return Err(GpuError::TooLarge { what, wanted: bytes_per_row, limit: self.max_binding_bytes });
        }
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Most bytes of one buffer of a piece that still leaves room for another under way.
    pub(crate) fn piece_bytes(&self) -> u64 {
        self.max_binding_bytes.min(PIECE_BYTES)
    }

    /// So many workgroups along `x` and `y`, or fewer: for shaders that go on in strides.
    pub(crate) fn strides(&self, x: u64, y: u64) -> [u32; 3] {
        let most = |groups: u64| u32::try_from(groups).unwrap_or(u32::MAX).min(self.max_workgroups);
        [most(x), most(y), 1]
    }

    /// So many workgroups as a grid; a shader finds its number with `group_number` of `shaders/shared/grid.wgsl`.
    pub(crate) fn grid(&self, groups: u64) -> Result<[u32; 3], GpuError> {
        let most = u64::from(self.max_workgroups);
        let columns = groups.clamp(1, most);
        let rows = groups.div_ceil(columns);
        match (u32::try_from(columns), u32::try_from(rows)) {
            (Ok(x), Ok(y)) if rows <= most => Ok([x, y, 1]),
            _ => Err(GpuError::TooLarge { what: "a dispatch (workgroups)", wanted: groups, limit: most * most }),
        }
    }
}

/// An opened adapter.
#[derive(Debug)]
pub struct Gpu {
    report: AdapterReport,
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: Limits,
    lost: Arc<OnceLock<String>>,
    /// Dispatches until the device is lost on purpose.
    dispatches_left: AtomicU64,
    pipelines: Mutex<BTreeMap<PipelineKey, Arc<PipelineSlot>>>,
    shaders: Mutex<BTreeMap<&'static str, wgpu::ShaderModule>>,
    pool: Arc<Pool>,
    gate: Gate,
}

/// Lets so many callers in at a time.
#[derive(Debug)]
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    /// Waits until there is room.
    fn enter(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }
}

/// A place inside of a gate, free again when it is dropped.
struct Place<'g>(&'g Gate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// Shader, entry point, and the constants it is made with.
type PipelineKey = (&'static str, &'static str, Vec<(&'static str, u32)>);

/// Filled by the first thread that wants the pipeline; others that want it wait.
type PipelineSlot = OnceLock<Result<Pipeline, GpuError>>;

#[derive(Debug)]
struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Gpu {
    /// Opens an adapter with its own limits, or with lower ones.
    pub(crate) fn open(report: AdapterReport, adapter: &wgpu::Adapter, lower: Option<&Limits>) -> Result<Self, DeviceError> {
        let mut limits = adapter.limits();
        if let Some(lower) = lower {
            limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(lower.max_binding_bytes);
            limits.max_compute_workgroups_per_dimension = limits.max_compute_workgroups_per_dimension.min(lower.max_workgroups);
            limits.max_compute_invocations_per_workgroup = limits.max_compute_invocations_per_workgroup.min(lower.max_workgroup_lanes);
            limits.max_compute_workgroup_size_x = limits.max_compute_workgroup_size_x.min(lower.max_workgroup_lanes);
            limits.max_compute_workgroup_storage_size = limits.max_compute_workgroup_storage_size.min(lower.max_shared_bytes);
        }
        let ours = Limits {
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_workgroup_lanes: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            max_shared_bytes: limits.max_compute_workgroup_storage_size,
        };
        let descriptor = wgpu::DeviceDescriptor { label: Some("granary"), required_limits: limits, ..Default::default() };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| DeviceError::Open { name: report.name.clone(), problem: error.to_string() })?;
        let lost = Arc::new(OnceLock::new());
        let (on_lost, on_error) = (Arc::clone(&lost), Arc::clone(&lost));
        device.set_device_lost_callback(move |reason, message| {
            on_lost.get_or_init(|| if message.is_empty() { format!("{reason:?}") } else { message });
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            on_error.get_or_init(|| format!("an error that nobody waited for: {error}"));
        }));
        Ok(Self {
            report,
            device,
            queue,
            limits: ours,
            lost,
            dispatches_left: AtomicU64::new(u64::MAX),
            pipelines: Mutex::default(),
            shaders: Mutex::default(),
            pool: Arc::default(),
            gate: Gate { free: Mutex::new(CALLERS), freed: Condvar::new() },
        })
    }

    /// What the system says of it.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// What it allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Why it is lost, if it is.
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// For tests: loses the device at the dispatch after so many more, as a driver that is reset would.
    pub fn lose_after(&self, dispatches: u64) {
        self.dispatches_left.store(dispatches, Ordering::SeqCst);
    }

    /// An empty batch.
    ///
    /// # Errors
    /// The device is lost.
    pub fn batch(&self, label: &'static str) -> Result<Batch<'_>, GpuError> {
        let encoder = self.guarded(|| self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) }))?;
        Ok(Batch { gpu: self, encoder, held: Vec::new(), reads: Vec::new() })
    }

    /// Uploads what many batches read.
    ///
    /// # Errors
    /// It passes the limits, the device has no memory for it, or is lost.
    pub fn resident<T: Pod>(&self, data: &[T]) -> Result<Buffer, GpuError> {
        let buffer = self.take(size_of_val(data) as u64)?;
        self.fill(&buffer, bytemuck::cast_slice(data))?;
        Ok(buffer)
    }

    /// Sends rows in pieces of at most so many and gathers what comes back, in order. `record` records one piece; `read` takes its results. Neither calls
    /// this again. Waits while other threads keep the device busy.
    ///
    /// # Errors
    /// What they say, or the device is lost.
    pub fn in_pieces<T, D, R>(
        &self,
        items: &[T],
        rows: usize,
        mut record: impl FnMut(&mut Batch<'_>, &[T]) -> Result<D, GpuError>,
        mut read: impl FnMut(D, &Results, &mut Vec<R>) -> Result<(), GpuError>,
    ) -> Result<Vec<R>, GpuError> {
        let mut out = Vec::with_capacity(items.len());
        if items.is_empty() {
            return Ok(out);
        }
        let _place = self.gate.enter();
        let mut under_way: VecDeque<(D, Pending<'_>)> = VecDeque::new();
        for piece in items.chunks(rows.max(1)) {
            if under_way.len() == PIECES_UNDER_WAY
                && let Some((downloads, pending)) = under_way.pop_front()
            {
                read(downloads, &pending.wait()?, &mut out)?;
            }
            let mut batch = self.batch("piece")?;
            let downloads = record(&mut batch, piece)?;
            under_way.push_back((downloads, batch.submit()?));
        }
        for (downloads, pending) in under_way {
            read(downloads, &pending.wait()?, &mut out)?;
        }
        Ok(out)
    }

    #[cfg(test)]
    pub(crate) fn idle_buffers(&self) -> usize {
        self.pool.idle_buffers()
    }

    /// How many lanes a workgroup of a kernel has along `x`: what its shader says, or fewer where the adapter allows no more and the shader leaves
    /// it open.
    pub(crate) fn lanes(&self, kernel: &Kernel, constants: &[(&'static str, u32)]) -> u32 {
        let lanes = kernel.workgroup[0].of(constants);
        let is_open = matches!(kernel.workgroup[0], Size::Named(name, _) if !constants.iter().any(|(constant, _)| *constant == name));
        if is_open && lanes > self.limits.max_workgroup_lanes { 1 << self.limits.max_workgroup_lanes.max(1).ilog2() } else { lanes }
    }

    /// Makes calls within error scopes.
    fn guarded<T>(&self, calls: impl FnOnce() -> T) -> Result<T, GpuError> {
        self.alive()?;
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let value = calls();
        let errors = [pollster::block_on(internal.pop()), pollster::block_on(memory.pop()), pollster::block_on(validation.pop())];
        // A device that was lost meanwhile makes errors of all kinds: that it was lost comes first.
        self.alive()?;
        match errors.into_iter().flatten().next() {
            Some(error) => {
                let error = GpuError::from(error);
                if matches!(error, GpuError::OutOfMemory { .. }) {
                    self.pool.clear();
                }
                Err(error)
            }
            None => Ok(value),
        }
    }

    fn alive(&self) -> Result<(), GpuError> {
        self.lost.get().map_or(Ok(()), |reason| Err(GpuError::Lost { reason: reason.clone() }))
    }

    /// A buffer of so many bytes, whatever is in it.
    fn take(&self, bytes: u64) -> Result<Buffer, GpuError> {
        let bytes = bytes.max(LEAST_BYTES).next_multiple_of(4);
        if bytes > self.limits.max_binding_bytes {
            return Err(GpuError::TooLarge { what: "a buffer (bytes)", wanted: bytes, limit: self.limits.max_binding_bytes });
        }
        let lease = self.guarded(|| self.pool.take(&self.device, Use::Compute, bytes))?;
        Ok(Buffer { lease: Arc::new(lease), bytes })
    }

    fn fill(&self, buffer: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        let whole = bytes.len() / 4 * 4;
        self.guarded(|| {
            if whole > 0 {
                self.queue.write_buffer(&buffer.lease.buffer, 0, &bytes[..whole]);
            }
            if whole < bytes.len() {
                let mut rest = [0; 4];
                rest[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.queue.write_buffer(&buffer.lease.buffer, whole as u64, &rest);
            }
        })
    }

    /// The pipeline of a kernel, made once. Threads that want others do not wait.
    fn with_pipeline<T>(
        &self,
        kernel: &Kernel,
        constants: &[(&'static str, u32)],
        work: impl FnOnce(&Pipeline) -> T,
    ) -> Result<T, GpuError> {
        let mut constants = constants.to_vec();
        if let Size::Named(name, lanes) = kernel.workgroup[0]
            && self.lanes(kernel, &constants) != lanes
            && !constants.iter().any(|(constant, _)| *constant == name)
        {
            constants.push((name, self.lanes(kernel, &constants)));
        }
        let slot = {
            let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(pipelines.entry((kernel.shader.name, kernel.entry, constants.clone())).or_default())
        };
        slot.get_or_init(|| self.make_pipeline(kernel, &constants)).as_ref().map(work).map_err(Clone::clone)
    }

    fn make_pipeline(&self, kernel: &Kernel, constants: &[(&'static str, u32)]) -> Result<Pipeline, GpuError> {
        let label = Some(kernel.entry);
        let entries: Vec<_> = kernel
            .bindings
            .iter()
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding.number,
                visibility: ShaderStages::COMPUTE,
                ty: BindingType::Buffer {
                    ty: match binding.access {
                        Access::Uniform => BufferBindingType::Uniform,
                        Access::Read => BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let constants: Vec<(&str, f64)> = constants.iter().map(|(name, value)| (*name, f64::from(*value))).collect();
        self.guarded(|| {
            let module = {
                let mut shaders = self.shaders.lock().unwrap_or_else(PoisonError::into_inner);
                let shader = kernel.shader;
                let module = shaders.entry(shader.name).or_insert_with(|| {
                    let source = wgpu::ShaderSource::Wgsl(shader.source.into());
                    self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(shader.name), source })
                });
                module.clone()
            };
            let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
            let whole = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&whole),
                module: &module,
                entry_point: label,
                compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, zero_initialize_workgroup_memory: false },
                cache: None,
            });
            Pipeline { pipeline, layout }
        })
    }

    /// Counts a dispatch, and loses the device if a test wants it lost now.
    fn count_dispatch(&self) -> Result<(), GpuError> {
        let count = |left| if left == u64::MAX { None } else { Some(u64::saturating_sub(left, 1)) };
        if self.dispatches_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) == Ok(0) {
            self.lost.get_or_init(|| "a test wanted it lost".to_owned());
            self.device.destroy();
        }
        self.alive()
    }

    /// Drives the device until this work is done or a while has passed.
    fn poll(&self, submission: &wgpu::SubmissionIndex) -> Result<(), GpuError> {
        let wait = PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(PATIENCE) };
        // wgpu panics here when the driver says that the device is lost: the only call of it that does.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(wait))) {
            Ok(Ok(_) | Err(wgpu::PollError::Timeout)) => self.alive(),
            Ok(Err(error)) => {
                self.alive()?;
                Err(GpuError::Internal { problem: error.to_string() })
            }
            Err(_) => {
                self.lost.get_or_init(|| "its driver no longer answers".to_owned());
                self.alive()
            }
        }
    }
}

/// Memory of a device. Copies are the same memory.
#[derive(Debug, Clone)]
pub struct Buffer {
    lease: Arc<Lease>,
    bytes: u64,
}

impl Buffer {
    /// How much a shader sees: what was asked for, but 256 bytes at least.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Work that is being recorded. Nothing is done until it is sent ([`Batch::submit`]).
#[derive(Debug)]
pub struct Batch<'g> {
    gpu: &'g Gpu,
    encoder: wgpu::CommandEncoder,
    /// What the work uses: not for others until it is sent.
    held: Vec<Arc<Lease>>,
    reads: Vec<Read>,
}

#[derive(Debug)]
struct Read {
    lease: Lease,
    /// What was asked for.
    bytes: usize,
    /// The same as a multiple of four.
    mapped: u64,
}

/// What to ask [`Results`] for.
#[derive(Debug, Clone, Copy)]
pub struct Download<T> {
    index: usize,
    kind: PhantomData<T>,
}

impl<'g> Batch<'g> {
    /// The device this is for.
    pub fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    /// Puts numbers into memory of the device.
    ///
    /// # Errors
    /// They pass the limits, the device has no memory for them, or is lost.
    pub fn upload<T: Pod>(&mut self, data: &[T]) -> Result<Buffer, GpuError> {
        let buffer = self.gpu.resident(data)?;
        self.hold(&buffer);
        Ok(buffer)
    }

    /// Memory with anything in it: for what a kernel writes in full.
    ///
    /// # Errors
    /// It passes the limits, the device has no memory for it, or is lost.
    pub fn empty<T: Pod>(&mut self, len: usize) -> Result<Buffer, GpuError> {
        let buffer = self.gpu.take((size_of::<T>() as u64).saturating_mul(len as u64))?;
        self.hold(&buffer);
        Ok(buffer)
    }

    /// Memory with zeros in it.
    ///
    /// # Errors
    /// As [`Batch::empty`].
    pub fn zeroed<T: Pod>(&mut self, len: usize) -> Result<Buffer, GpuError> {
        let buffer = self.empty::<T>(len)?;
        self.gpu.guarded(|| self.encoder.clear_buffer(&buffer.lease.buffer, 0, Some(buffer.bytes)))?;
        Ok(buffer)
    }

    /// Runs so many workgroups of a kernel on these buffers, one for each binding that the entry point uses, by number. `constants` are those of
    /// the shader to be overridden.
    ///
    /// # Errors
    /// More workgroups than the adapter allows, or the device is lost.
    pub(crate) fn dispatch(
        &mut self,
        kernel: &Kernel,
        constants: &[(&'static str, u32)],
        buffers: &[&Buffer],
        groups: [u32; 3],
    ) -> Result<(), GpuError> {
        if groups.contains(&0) {
            return Ok(());
        }
        if let Some(&too_many) = groups.iter().find(|&&groups| groups > self.gpu.limits.max_workgroups) {
            let limit = u64::from(self.gpu.limits.max_workgroups);
            return Err(GpuError::TooLarge { what: "a dispatch (workgroups along a dimension)", wanted: u64::from(too_many), limit });
        }
        let most = self.gpu.limits.max_workgroup_lanes;
        let lanes =
            kernel.workgroup.iter().skip(1).fold(self.gpu.lanes(kernel, constants), |lanes, size| lanes.saturating_mul(size.of(constants)));
        if lanes > most {
            return Err(GpuError::TooLarge { what: "a workgroup (lanes)", wanted: u64::from(lanes), limit: u64::from(most) });
        }
        if buffers.len() != kernel.bindings.len() {
            let names: Vec<_> = kernel.bindings.iter().map(|binding| binding.name).collect();
            return Err(GpuError::Internal { problem: format!("`{}` takes {names:?}, and {} buffers came", kernel.entry, buffers.len()) });
        }
        self.gpu.count_dispatch()?;
        for buffer in buffers {
            self.hold(buffer);
        }
        let (gpu, encoder) = (self.gpu, &mut self.encoder);
        gpu.with_pipeline(kernel, constants, |made| {
            gpu.guarded(|| {
                let entries: Vec<_> = kernel
                    .bindings
                    .iter()
                    .zip(buffers)
                    .map(|(binding, buffer)| wgpu::BindGroupEntry {
                        binding: binding.number,
                        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer: &buffer.lease.buffer,
                            offset: 0,
                            size: std::num::NonZeroU64::new(buffer.bytes),
                        }),
                    })
                    .collect();
                let label = Some(kernel.entry);
                let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout: &made.layout, entries: &entries });
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes: None });
                pass.set_pipeline(&made.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
            })
        })?
    }

    /// Runs one workgroup for each row; the shader finds its row with `group_number` and checks it against the count.
    ///
    /// # Errors
    /// As [`Batch::dispatch`].
    pub(crate) fn dispatch_rows(
        &mut self,
        kernel: &Kernel,
        constants: &[(&'static str, u32)],
        buffers: &[&Buffer],
        rows: usize,
    ) -> Result<(), GpuError> {
        if rows == 0 {
            return Ok(());
        }
        let grid = self.gpu.limits.grid(rows as u64)?;
        self.dispatch(kernel, constants, buffers, grid)
    }

    /// Runs one lane for each element, in workgroups along `x`.
    ///
    /// # Errors
    /// As [`Batch::dispatch`].
    #[allow(dead_code, reason = "for kernels whose lanes have an element each")]
    pub(crate) fn dispatch_each(
        &mut self,
        kernel: &Kernel,
        constants: &[(&'static str, u32)],
        buffers: &[&Buffer],
        elements: usize,
    ) -> Result<(), GpuError> {
        let lanes = self.gpu.lanes(kernel, constants).max(1);
        self.dispatch_rows(kernel, constants, buffers, elements.div_ceil(lanes as usize))
    }

    /// Runs the lanes of a shader that goes on in strides: along `x` over elements, along `y` over rows.
    ///
    /// # Errors
    /// As [`Batch::dispatch`].
    pub(crate) fn dispatch_strides(&mut self, kernel: &Kernel, buffers: &[&Buffer], elements: usize, rows: usize) -> Result<(), GpuError> {
        let lanes = self.gpu.lanes(kernel, &[]).max(1) as usize;
        let groups = self.gpu.limits.strides(elements.div_ceil(lanes) as u64, rows as u64);
        self.dispatch(kernel, &[], buffers, groups)
    }

    /// Asks for the first `len` values of a buffer as they are when all that was recorded so far is done.
    ///
    /// # Errors
    /// The buffer has fewer, the device has no memory for them, or is lost.
    pub fn download<T: Pod>(&mut self, buffer: &Buffer, len: usize) -> Result<Download<T>, GpuError> {
        let bytes = size_of::<T>().saturating_mul(len);
        let mapped = (bytes as u64).next_multiple_of(4);
        if mapped > buffer.bytes {
            return Err(GpuError::Internal { problem: format!("{bytes} bytes are wanted of a buffer of {}", buffer.bytes) });
        }
        let (gpu, encoder) = (self.gpu, &mut self.encoder);
        let lease = gpu.guarded(|| {
            let lease = gpu.pool.take(&gpu.device, Use::ReadBack, mapped);
            if mapped > 0 {
                encoder.copy_buffer_to_buffer(&buffer.lease.buffer, 0, &lease.buffer, 0, mapped);
            }
            lease
        })?;
        self.hold(buffer);
        self.reads.push(Read { lease, bytes, mapped });
        Ok(Download { index: self.reads.len() - 1, kind: PhantomData })
    }

    /// Sends the work.
    ///
    /// # Errors
    /// The work is no good, or the device is lost.
    pub fn submit(self) -> Result<Pending<'g>, GpuError> {
        let Batch { gpu, encoder, held, reads } = self;
        let submission = gpu.guarded(|| gpu.queue.submit([encoder.finish()]))?;
        drop(held);
        let (sender, mapped) = channel();
        for read in &reads {
            let sender = sender.clone();
            gpu.guarded(|| {
                // Nothing is read of an empty one, and all of them answer.
                read.lease.buffer.map_async(wgpu::MapMode::Read, 0..read.mapped.max(4), move |result| {
                    // The receiver is gone if its thread gave up; then nobody wants to know.
                    let _unheard = sender.send(result.is_ok());
                });
            })?;
        }
        Ok(Pending { gpu, submission, mapped, reads })
    }

    fn hold(&mut self, buffer: &Buffer) {
        self.held.push(Arc::clone(&buffer.lease));
    }
}

/// Work that was sent.
#[derive(Debug)]
pub struct Pending<'g> {
    gpu: &'g Gpu,
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<bool>,
    reads: Vec<Read>,
}

impl Pending<'_> {
    /// Waits until the work is done and what was asked for has come.
    ///
    /// # Errors
    /// The device is lost.
    pub fn wait(self) -> Result<Results, GpuError> {
        let Self { gpu, submission, mapped, reads } = self;
        let mut done = 0;
        while done < reads.len() {
            gpu.poll(&submission)?;
            // Another thread may have been told first that our work is done, and its thread then tells us.
            while done < reads.len() {
                match mapped.recv_timeout(Duration::from_millis(1)) {
                    Ok(true) => done += 1,
                    Ok(false) | Err(RecvTimeoutError::Disconnected) => {
                        gpu.alive()?;
                        return Err(GpuError::Internal { problem: "a buffer can't be read".to_owned() });
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
        }
        Ok(Results { reads })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Results {
    reads: Vec<Read>,
}

impl Results {
    /// The values that were asked for.
    ///
    /// # Errors
    /// The device was lost meanwhile.
    pub fn get<T: Pod>(&self, download: Download<T>) -> Result<Vec<T>, GpuError> {
        let Read { lease, bytes, mapped } = &self.reads[download.index];
        if *bytes == 0 {
            return Ok(Vec::new());
        }
        let view = lease.buffer.get_mapped_range(0..*mapped).map_err(|error| GpuError::Lost { reason: error.to_string() })?;
        Ok(bytemuck::pod_collect_to_vec::<u8, T>(&view[..*bytes]))
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        for read in &mut self.reads {
            read.lease.buffer.unmap();
            read.lease.use_again();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ran;
    use crate::twins::open_within;

    #[test]
    fn rows_and_grids_keep_within_the_limits() {
        let limits = Limits { max_binding_bytes: 1000, max_workgroups: 10, max_workgroup_lanes: 64, max_shared_bytes: 0 };
        assert_eq!((limits.rows("a row", 300), limits.rows("a row", 1000)), (Ok(3), Ok(1)));
        let error = limits.rows("a row (bytes)", 1001).unwrap_err();
        assert_eq!(error.to_string(), "a row (bytes) needs 1001, and the adapter allows 1000");
        assert_eq!(
            [0, 1, 10, 11, 100].map(|groups| limits.grid(groups).unwrap()),
            [[1, 0, 1], [1, 1, 1], [10, 1, 1], [10, 2, 1], [10, 10, 1]]
        );
        assert!(limits.grid(101).is_err());
        assert_eq!(limits.strides(7, 11), [7, 10, 1]);
        // A large binding is not used up by one piece, unless by a single row.
        let vast = Limits { max_binding_bytes: 1 << 32, ..limits };
        assert_eq!((vast.rows("a row", 1 << 20), vast.rows("a row", 1 << 30)), (Ok(32), Ok(1)));
    }

    #[test]
    fn no_more_than_four_callers_have_pieces_under_way() {
        let gate = Gate { free: Mutex::new(CALLERS), freed: Condvar::new() };
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let _place = gate.enter();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!((most.into_inner(), *gate.free.lock().unwrap()), (4, CALLERS));
    }

    #[test]
    fn an_error_that_nobody_waits_for_ends_the_device_and_no_more() {
        let Some(device) = open_within(None) else { return };
        let gpu = device.gpu().expect("opened");
        assert!(gpu.batch("before").is_ok());
        let too_large =
            wgpu::BufferDescriptor { label: None, size: u64::MAX / 2, usage: wgpu::BufferUsages::STORAGE, mapped_at_creation: false };
        let _invalid = gpu.device.create_buffer(&too_large);
        assert!(gpu.lost().is_some_and(|reason| reason.starts_with("an error that nobody waited for: ")), "{:?}", gpu.lost());
        let (value, ran) = device.run(|gpu| gpu.batch("after").map(|_| 1), || 2);
        assert!(value == 2 && matches!(ran, Ran::FellBack(_)), "{ran:?}");
    }

    #[test]
    fn a_device_lost_between_sending_and_reading_is_an_error() {
        let Some(device) = open_within(None) else { return };
        let gpu = device.gpu().expect("opened");
        let mut batch = gpu.batch("lost").unwrap();
        let words = batch.upload(&[1_u32, 2, 3]).unwrap();
        batch.download::<u32>(&words, 3).unwrap();
        let pending = batch.submit().unwrap();
        gpu.lost.get_or_init(|| "unplugged".to_owned());
        gpu.device.destroy();
        assert_eq!(pending.wait().unwrap_err(), GpuError::Lost { reason: "unplugged".to_owned() });
        // And one that came in time stays.
        let Some(device) = open_within(None) else { return };
        let gpu = device.gpu().expect("opened");
        let mut batch = gpu.batch("kept").unwrap();
        let bytes = batch.upload(&[1_u8, 2, 3, 4, 5]).unwrap();
        let bytes = batch.download::<u8>(&bytes, 5).unwrap();
        let results = batch.submit().unwrap().wait().unwrap();
        assert_eq!(results.get(bytes).unwrap(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn more_is_not_read_than_was_made() {
        let Some(device) = open_within(None) else { return };
        let mut batch = device.gpu().expect("opened").batch("too much").unwrap();
        let words = batch.zeroed::<u32>(1000).unwrap();
        assert!(matches!(batch.download::<u32>(&words, 1001), Err(GpuError::Internal { .. })));
        let none = batch.download::<u32>(&words, 0).unwrap();
        let all = batch.download::<u32>(&words, 1000).unwrap();
        let results = batch.submit().unwrap().wait().unwrap();
        assert_eq!((results.get(none).unwrap(), results.get(all).unwrap()), (vec![], vec![0; 1000]));
    }
}
