//! Heads over vectors on a device: a layer of all first layers, then the others, by `shaders/gemm.wgsl`; nothing comes back in between.

use std::sync::OnceLock;

use super::gemm::ResidentLayer;
use crate::cpu::gemm::Rows;
use crate::cpu::heads::{Heads, Scratch};
use crate::{Device, Gpu, GpuError, Ran};

/// Heads, and where they lie on a device once they were needed there.
#[derive(Debug)]
pub struct HeadsOn {
    device: Device,
    heads: Heads,
    resident: OnceLock<Result<Resident, GpuError>>,
}

#[derive(Debug)]
struct Resident {
    first: ResidentLayer,
    /// Of each head: where its numbers begin among those of the first layer, and the layers behind it.
    heads: Vec<(usize, Vec<ResidentLayer>)>,
}

impl Resident {
    fn new(gpu: &Gpu, heads: &Heads) -> Result<Self, GpuError> {
        let mut all = Vec::new();
        for (start, layers) in heads.parts() {
            all.push((start, layers.iter().map(|layer| ResidentLayer::new(gpu, layer)).collect::<Result<_, _>>()?));
        }
        Ok(Self { first: ResidentLayer::new(gpu, heads.first())?, heads: all })
    }
}

impl HeadsOn {
    /// Heads to be run on a device.
    pub fn new(device: Device, heads: Heads) -> Self {
        Self { device, heads, resident: OnceLock::new() }
    }

    /// The heads.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// What the heads give for rows: `[n][width]`, head after head.
    ///
    /// # Panics
    /// If rows are of another depth.
    pub fn apply(&self, rows: Rows<'_>, scratch: &mut Scratch) -> (Vec<f32>, Ran) {
        let on_cpu = || {
            let mut out = Vec::with_capacity(rows.len() * self.heads.width());
            self.heads.apply(rows, scratch, &mut out);
            out
        };
        self.device.run(|gpu| self.apply_on(gpu, rows), on_cpu)
    }

    fn apply_on(&self, gpu: &Gpu, rows: Rows<'_>) -> Result<Vec<f32>, GpuError> {
        assert_eq!(rows.depth(), self.heads.depth(), "numbers of a row");
        let resident = self.resident.get_or_init(|| Resident::new(gpu, &self.heads)).as_ref().map_err(Clone::clone)?;
        let widest = resident.heads.iter().flat_map(|(_, layers)| layers).map(ResidentLayer::width).max().unwrap_or(0);
        let widest = widest.max(resident.first.width()).max(rows.stride());
        let most = gpu.limits().rows("a row of heads (bytes)", 4 * widest as u64)?;
        let starts: Vec<usize> = (0..rows.len()).step_by(most).collect();
        let (widths, width): (Vec<usize>, usize) = (self.heads.widths().collect(), self.heads.width());
        gpu.in_pieces(
            &starts,
            1,
            |batch, piece| {
                let piece = rows.slice(piece[0], most.min(rows.len() - piece[0]));
                let n = piece.len();
                let a = batch.upload(piece.numbers())?;
                let first = resident.first.record(batch, n, &a, 0, piece.stride())?;
                // All heads of one layer come back together.
                let linear = resident.heads.iter().any(|(_, rest)| rest.is_empty());
                let linear = linear.then(|| batch.download::<f32>(&first, n * resident.first.width())).transpose()?;
                let mut networks = Vec::new();
                for (start, rest) in &resident.heads {
                    let Some((second, others)) = rest.split_first() else {
                        networks.push(None);
                        continue;
                    };
                    let mut out = second.record(batch, n, &first, *start, resident.first.width())?;
                    let mut stride = second.width();
                    for layer in others {
                        out = layer.record(batch, n, &out, 0, stride)?;
                        stride = layer.width();
                    }
                    networks.push(Some(batch.download::<f32>(&out, n * stride)?));
                }
                Ok((n, linear, networks))
            },
            |(n, linear, networks), results, out| {
                let first = linear.map(|download| results.get(download)).transpose()?.unwrap_or_default();
                let at = out.len();
                out.resize(at + n * width, 0.0);
                let mut column = 0;
                for (((start, _), network), own) in resident.heads.iter().zip(networks).zip(&widths) {
                    let numbers = network.map(|download| results.get(download)).transpose()?;
                    let (numbers, start, stride) = match &numbers {
                        Some(numbers) => (numbers, 0, *own),
                        None => (&first, *start, resident.first.width()),
                    };
                    for (row, out) in numbers.chunks_exact(stride).zip(out[at..].chunks_exact_mut(width)) {
                        out[column..column + own].copy_from_slice(&row[start..start + own]);
                    }
                    column += own;
                }
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::cpu::gemm::tests::numbers;
    use crate::cpu::heads::tests::sample;
    use crate::twins::{Tolerance, adapter, assert_twins, open_within};

    /// As of a layer; what one layer rounds, the next ones multiply by weights of up to 1. Measured on lavapipe, three layers deep: 2.7e-6 at most.
    const NEAR: Tolerance = Tolerance::Share { most: 1e-5, least: 10.0, reason: "sums in another order, unfused" };

    fn compare(device: Device, depth: usize, counts: &[usize]) {
        let heads = HeadsOn::new(device, Heads::new(&sample(depth)));
        for &n in counts {
            let mut rows = numbers(n * depth, 7);
            if n > 2 {
                rows[n / 2 * depth..][..depth].fill(0.0);
            }
            let rows = Rows::new(&rows, n, depth, depth);
            let (got, ran) = heads.apply(rows, &mut Scratch::default());
            assert_eq!(ran, Ran::Gpu);
            assert_twins(&format!("{n} rows"), &heads.heads().apply_plain(rows), &got, NEAR);
        }
    }

    #[test]
    fn heads_are_those_of_the_twin() {
        if adapter().is_none() {
            return;
        }
        compare(open_within(None).unwrap(), 384, &[0, 1, 65, 300]);
    }

    #[test]
    fn low_limits_make_pieces() {
        // 100 numbers of the first layer make 81 rows a piece.
        let limits = Limits { max_binding_bytes: 32_768, max_workgroups: 7, max_workgroup_lanes: 64, max_shared_bytes: 16_384 };
        let Some(device) = open_within(Some(&limits)) else { return };
        compare(device, 40, &[200]);
    }

    #[test]
    fn what_does_not_fit_and_a_lost_device_end_on_the_twin() {
        let limits = Limits { max_binding_bytes: 8192, max_workgroups: 64, max_workgroup_lanes: 64, max_shared_bytes: 16_384 };
        let Some(device) = open_within(Some(&limits)) else { return };
        let rows = numbers(5 * 40, 7);
        let rows = Rows::new(&rows, 5, 40, 40);
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let heads = HeadsOn::new(device, Heads::new(&sample(40)));
        let (got, ran) = heads.apply(rows, &mut Scratch::default());
        assert!(matches!(ran, Ran::FellBack(_)), "{ran:?}");
        assert_eq!(bits(&got), bits(&heads.heads().apply_plain(rows)));
        let device = open_within(None).unwrap();
        device.gpu().unwrap().lose_after(2);
        let heads = HeadsOn::new(device, Heads::new(&sample(40)));
        let (got, ran) = heads.apply(rows, &mut Scratch::default());
        assert!(matches!(ran, Ran::FellBack(_)), "{ran:?}");
        assert_eq!(bits(&got), bits(&heads.heads().apply_plain(rows)));
    }
}
