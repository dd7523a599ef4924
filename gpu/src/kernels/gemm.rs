//! Host side of `shaders/gemm.wgsl`.

use crate::cpu::gemm::{Activation, Layer, Rows};
use crate::shaders::gemm::{LAYER, PRODUCT};
use crate::{Batch, Buffer, Gpu, GpuError, Limits};

/// What the shader is told of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) rows: u32,
    pub(crate) width: u32,
    pub(crate) depth: u32,
    pub(crate) a_start: u32,
    pub(crate) a_stride: u32,
    pub(crate) b_stride: u32,
    pub(crate) out_start: u32,
    pub(crate) out_stride: u32,
}

/// Numbers of a lane along each side of its tile.
const EACH: u32 = 4;

/// A count for the shader.
pub(crate) fn count(n: usize) -> Result<u32, GpuError> {
    u32::try_from(n).map_err(|_| GpuError::TooLarge { what: "a batch (numbers)", wanted: n as u64, limit: u64::from(u32::MAX) })
}

impl Product {
    /// As the shader reads it.
    fn words(self) -> [u32; 8] {
        let Self { rows, width, depth, a_start, a_stride, b_stride, out_start, out_stride } = self;
        [rows, width, depth, a_start, a_stride, b_stride, out_start, out_stride]
    }

    /// Lanes along each side of a tile: a large tile reads less often what it needs, and is lost on a narrow width.
    fn side(self, limits: &Limits) -> u32 {
        let wanted = if self.width > 8 * EACH { 16 } else { 8 };
        let most = limits.max_workgroup_lanes.max(1).isqrt();
        wanted.min(1 << most.ilog2())
    }

    fn tiles(self, side: u32) -> usize {
        (self.rows.div_ceil(side * EACH) as usize) * (self.width.div_ceil(side * EACH) as usize)
    }

    /// Records `out = a · bᵀ`.
    pub(crate) fn record(self, batch: &mut Batch<'_>, a: &Buffer, b: &Buffer, out: &Buffer) -> Result<(), GpuError> {
        let side = self.side(batch.gpu().limits());
        let shape = batch.upload(&self.words())?;
        batch.dispatch_rows(&PRODUCT, &[("SIDE", side)], &[&shape, a, b, out], self.tiles(side))
    }

    fn record_layer(self, batch: &mut Batch<'_>, a: &Buffer, layer: &ResidentLayer, out: &Buffer) -> Result<(), GpuError> {
        let side = self.side(batch.gpu().limits());
        let shape = batch.upload(&self.words())?;
        let buffers = [&shape, a, &layer.weights, &layer.bias, &layer.activations, out];
        batch.dispatch_rows(&LAYER, &[("SIDE", side)], &buffers, self.tiles(side))
    }
}

/// A layer on the device.
#[derive(Debug)]
pub struct ResidentLayer {
    weights: Buffer,
    bias: Buffer,
    activations: Buffer,
    depth: usize,
    width: usize,
}

/// The shader's name of an activation.
fn code(activation: Activation) -> u32 {
    let at = Activation::ALL.iter().position(|one| *one == activation).unwrap_or(0);
    u32::try_from(at).unwrap_or(0)
}

impl ResidentLayer {
    /// Uploads a layer.
    ///
    /// # Errors
    /// It passes the adapter's limits, or the device fails.
    pub fn new(gpu: &Gpu, layer: &Layer) -> Result<Self, GpuError> {
        let activations: Vec<u32> = layer.activations().map(code).collect();
        Ok(Self {
            weights: gpu.resident(layer.weights())?,
            bias: gpu.resident(layer.bias())?,
            activations: gpu.resident(&activations)?,
            depth: layer.depth(),
            width: layer.width(),
        })
    }

    /// Numbers of a row that comes out.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Records the layer for rows that begin at number `start` of `a` and lie `stride` apart; what comes out, `[rows][width]`, stays on the device.
    pub(crate) fn record(&self, batch: &mut Batch<'_>, rows: usize, a: &Buffer, start: usize, stride: usize) -> Result<Buffer, GpuError> {
        let out = batch.empty::<f32>(rows * self.width)?;
        let product = Product {
            rows: count(rows)?,
            width: count(self.width)?,
            depth: count(self.depth)?,
            a_start: count(start)?,
            a_stride: count(stride)?,
            b_stride: count(self.depth)?,
            out_start: 0,
            out_stride: count(self.width)?,
        };
        product.record_layer(batch, a, self, &out)?;
        Ok(out)
    }
}

/// What a layer gives for rows, as [`Layer::apply`] does; `[n][width]`.
///
/// Sums are taken in the order of the depth, without the blocks of the twin, and an adapter may round products and sums one by one.
///
/// # Errors
/// One row passes the adapter's limits, or the device fails.
pub fn apply(gpu: &Gpu, layer: &ResidentLayer, rows: Rows<'_>) -> Result<Vec<f32>, GpuError> {
    let most = gpu.limits().rows("a row of a layer (bytes)", 4 * rows.stride().max(layer.width) as u64)?;
    let starts: Vec<usize> = (0..rows.len()).step_by(most).collect();
    gpu.in_pieces(
        &starts,
        1,
        |batch, piece| {
            let piece = rows.slice(piece[0], most.min(rows.len() - piece[0]));
            let a = batch.upload(piece.numbers())?;
            let out = layer.record(batch, piece.len(), &a, 0, piece.stride())?;
            batch.download::<f32>(&out, piece.len() * layer.width)
        },
        |download, results, out| {
            out.extend(results.get(download)?);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::gemm::tests::numbers;
    use crate::shaders::gemm::PRODUCT_LAYOUT;
    use crate::twins::{Tolerance, adapter, assert_twins, open_within};

    /// Weights and rows are from -1 to 1, so sums of some hundred products are of the order of 10, and each of their roundings is 2^-24 of that.
    /// Measured on lavapipe, which fuses nothing: 1.2e-6 at most.
    const NEAR: Tolerance = Tolerance::Share { most: 4e-6, least: 10.0, reason: "sums in another order, unfused" };

    fn layer(depth: usize, width: usize, activation: Activation) -> Layer {
        Layer::new(depth, numbers(depth * width, 1), numbers(width, 2), activation)
    }

    fn compare(gpu: &Gpu, n: usize, width: usize, depth: usize, activation: Activation) {
        let (layer, mut rows) = (layer(depth, width, activation), numbers(n * depth, 3));
        if n > 2 {
            rows[n / 2 * depth..][..depth].fill(0.0);
        }
        let rows = Rows::new(&rows, n, depth, depth);
        let got = apply(gpu, &ResidentLayer::new(gpu, &layer).unwrap(), rows).unwrap();
        assert_twins(&format!("{n} x {width} x {depth}, {activation:?}"), &layer.apply_plain(rows), &got, NEAR);
    }

    #[test]
    fn layers_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        // None, one, one past a tile of either size, deep and narrow, large.
        for (n, width, depth) in [(0, 3, 5), (1, 1, 1), (33, 33, 17), (65, 65, 16), (7, 2, 1000), (300, 130, 384)] {
            compare(gpu, n, width, depth, Activation::None);
        }
        for activation in Activation::ALL {
            compare(gpu, 70, 20, 24, activation);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_any_place() {
        let Some(gpu) = adapter() else { return };
        let layer = ResidentLayer::new(gpu, &layer(50, 40, Activation::Gelu)).unwrap();
        let rows = numbers(200 * 50, 3);
        let all = apply(gpu, &layer, Rows::new(&rows, 200, 50, 50)).unwrap();
        for row in [0, 63, 64, 199] {
            let alone = apply(gpu, &layer, Rows::new(&rows[row * 50..], 1, 50, 50)).unwrap();
            assert_eq!(
                alone.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                all[row * 40..][..40].iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn low_limits_make_small_tiles_and_pieces() {
        let limits = Limits { max_binding_bytes: 8192, max_workgroups: 5, max_workgroup_lanes: 20, max_shared_bytes: 16_384 };
        let Some(device) = open_within(Some(&limits)) else { return };
        let gpu = device.gpu().unwrap();
        // 2,048 numbers to a buffer: 51 rows of 40 at a time, in tiles of 16.
        compare(gpu, 130, 40, 33, Activation::Silu);
        assert!(matches!(ResidentLayer::new(gpu, &layer(50, 41, Activation::None)), Err(GpuError::TooLarge { wanted: 8200, .. })));
    }

    #[test]
    fn structs_lie_where_the_host_puts_them() {
        assert_eq!(PRODUCT_LAYOUT.bytes, 32);
        let names = ["rows", "width", "depth", "a_start", "a_stride", "b_stride", "out_start", "out_stride"];
        let offsets = std::array::from_fn::<_, 8, _>(|at| (names[at], 4 * u32::try_from(at).unwrap()));
        assert_eq!(PRODUCT_LAYOUT.members, &offsets[..]);
    }
}
