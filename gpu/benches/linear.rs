//! Matrix products, heads and nearest neighbours: the CPU twins on one thread, and the shaders where there is an adapter; `GRANARY_BENCH_ADAPTER`
//! names another than the first GPU.
//!
//! Throughput: floating-point operations (two for a multiply-add) or rows, and bytes of the vectors read.

use std::sync::LazyLock;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use gpu::cpu::cosine_topk::{Nearest, UnitRows, cosine_topk, unit};
use gpu::cpu::counter_rng::Draws;
use gpu::cpu::gemm::{Activation, Layer, Rows};
use gpu::cpu::heads::{Heads, Scratch};
use gpu::kernels::heads::HeadsOn;
use gpu::{Device, DeviceChoice};

/// As in the command: large buffers are not given back to the kernel each time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let choice = std::env::var("GRANARY_BENCH_ADAPTER").map_or(DeviceChoice::Auto, DeviceChoice::Named);
    Device::open(&choice).unwrap_or_default()
});

fn main() {
    divan::main();
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::new(seed, [0; 3]);
    #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
    let mut number = || draws.between(-1.0, 1.0) as f32;
    (0..n).map(|_| number()).collect()
}

fn layer(depth: usize, width: usize, activation: Activation) -> Layer {
    Layer::new(depth, numbers(depth * width, 1), numbers(width, 2), activation)
}

/// Rows, width, depth.
const SHAPES: [(usize, usize, usize); 6] =
    [(256, 16, 384), (256, 256, 384), (1024, 384, 384), (1024, 1536, 384), (1024, 384, 1536), (1024, 1024, 1024)];

mod gemm {
    use super::{Activation, Bencher, BytesCount, DEVICE, ItemsCount, Rows, SHAPES, black_box, layer, numbers};

    #[divan::bench(args = SHAPES)]
    fn cpu(bencher: Bencher<'_, '_>, (n, width, depth): (usize, usize, usize)) {
        let (layer, rows) = (layer(depth, width, Activation::None), numbers(n * depth, 3));
        let mut out = vec![0.0; n * width];
        bencher
            .counter(ItemsCount::new(2 * n * width * depth))
            .counter(BytesCount::of_slice(&rows))
            .bench_local(|| layer.apply(black_box(Rows::new(&rows, n, depth, depth)), &mut out));
    }

    #[divan::bench(args = SHAPES, ignore = DEVICE.gpu().is_none())]
    fn gpu(bencher: Bencher<'_, '_>, (n, width, depth): (usize, usize, usize)) {
        let gpu = DEVICE.gpu().expect("ignored without one");
        let (layer, rows) = (layer(depth, width, Activation::None), numbers(n * depth, 3));
        let layer = gpu::kernels::gemm::ResidentLayer::new(gpu, &layer).expect("fits");
        bencher
            .counter(ItemsCount::new(2 * n * width * depth))
            .counter(BytesCount::of_slice(&rows))
            .bench_local(|| gpu::kernels::gemm::apply(gpu, &layer, Rows::new(&rows, n, depth, depth)));
    }

    /// What each activation costs, for a million numbers of depth 16.
    #[divan::bench(args = Activation::ALL)]
    fn cpu_activation(bencher: Bencher<'_, '_>, activation: Activation) {
        let (layer, rows) = (layer(16, 256, activation), numbers(4096 * 16, 3));
        let mut out = vec![0.0; 4096 * 256];
        bencher.counter(ItemsCount::new(out.len())).bench_local(|| layer.apply(black_box(Rows::new(&rows, 4096, 16, 16)), &mut out));
    }
}

mod heads {
    use super::{Activation, Bencher, BytesCount, DEVICE, Device, Heads, HeadsOn, ItemsCount, Rows, Scratch, black_box, layer, numbers};

    const N: usize = 8192;

    /// Heads over 8,192 vectors of 384.
    const WHICH: [&str; 4] = ["1 linear", "14 linear", "1 of 128 hidden", "14 of 128 hidden"];

    #[divan::bench(args = WHICH)]
    fn cpu(bencher: Bencher<'_, '_>, which: &str) {
        bench(bencher, which, Device::cpu());
    }

    #[divan::bench(args = WHICH, ignore = DEVICE.gpu().is_none())]
    fn gpu(bencher: Bencher<'_, '_>, which: &str) {
        bench(bencher, which, DEVICE.clone());
    }

    fn bench(bencher: Bencher<'_, '_>, which: &str, device: Device) {
        let linear = vec![layer(384, 1, Activation::None)];
        let network = vec![layer(384, 128, Activation::Gelu), layer(128, 1, Activation::Sigmoid)];
        let heads = match which {
            "1 linear" => vec![linear],
            "14 linear" => vec![linear; 14],
            "1 of 128 hidden" => vec![network],
            _ => vec![network; 14],
        };
        let (heads, rows, mut scratch) = (HeadsOn::new(device, Heads::new(&heads)), numbers(N * 384, 3), Scratch::default());
        bencher
            .counter(ItemsCount::new(N))
            .counter(BytesCount::of_slice(&rows))
            .bench_local(|| heads.apply(black_box(Rows::new(&rows, N, 384, 384)), &mut scratch));
    }
}

mod cosine {
    use super::{
        Activation, Bencher, BytesCount, DEVICE, ItemsCount, Layer, Nearest, Rows, UnitRows, black_box, cosine_topk, numbers, unit,
    };

    const DEPTH: usize = 384;

    fn rows(n: usize) -> (Vec<f32>, Vec<u64>) {
        let raw = numbers(n * DEPTH, 5);
        let mut rows = vec![0.0; n * DEPTH];
        for (raw, row) in raw.chunks_exact(DEPTH).zip(rows.chunks_exact_mut(DEPTH)) {
            assert!(unit(raw.iter().map(|x| f64::from(*x)), row));
        }
        (rows, (0..n as u64).collect())
    }

    /// Ten neighbours of each of n rows among all.
    #[divan::bench(args = [2000, 20_000], max_time = 10)]
    fn topk_cpu(bencher: Bencher<'_, '_>, n: usize) {
        let (rows, numbers) = rows(n);
        let all = UnitRows { rows: Rows::new(&rows, n, DEPTH, DEPTH), numbers: &numbers };
        bencher.counter(ItemsCount::new(2 * n * n * DEPTH)).counter(BytesCount::of_slice(&rows)).bench_local(|| {
            let mut nearest = Nearest::new(n, 10, -1.0);
            cosine_topk(black_box(all), all, &mut nearest);
            nearest
        });
    }

    #[divan::bench(args = [2000, 20_000], max_time = 10, ignore = DEVICE.gpu().is_none())]
    fn topk_gpu(bencher: Bencher<'_, '_>, n: usize) {
        let (rows, numbers) = rows(n);
        let all = UnitRows { rows: Rows::new(&rows, n, DEPTH, DEPTH), numbers: &numbers };
        bencher.counter(ItemsCount::new(2 * n * n * DEPTH)).counter(BytesCount::of_slice(&rows)).bench_local(|| {
            let mut nearest = Nearest::new(n, 10, -1.0);
            gpu::kernels::cosine_topk::cosine_topk(&DEVICE, all, all, &mut nearest);
            nearest
        });
    }

    /// The products alone, by the same library, in blocks of 1,000 columns.
    #[divan::bench(args = [2000, 20_000], max_time = 10)]
    fn product_cpu(bencher: Bencher<'_, '_>, n: usize) {
        let (rows, _) = rows(n);
        let layers: Vec<Layer> =
            rows.chunks_exact(1000 * DEPTH).map(|block| Layer::new(DEPTH, block.to_vec(), vec![0.0; 1000], Activation::None)).collect();
        let mut out = vec![0.0; 1000 * 1000];
        bencher.counter(ItemsCount::new(2 * n * n * DEPTH)).counter(BytesCount::of_slice(&rows)).bench_local(|| {
            for layer in &layers {
                for block in rows.chunks_exact(1000 * DEPTH) {
                    layer.apply(black_box(Rows::new(block, 1000, DEPTH, DEPTH)), &mut out);
                }
            }
        });
    }
}
