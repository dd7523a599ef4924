//! Host side of `shaders/stamp.wgsl`.

use crate::kernels::fractal::Scene;
use crate::shaders::stamp::{STAMP, STAMPS_OF_POINTS};
use crate::{Batch, Buffer, GpuError};

/// Sums under each instance's stamp, and the highest of each. Where points have stamps of their own, counts give way to what these cover.
pub(crate) fn record(batch: &mut Batch<'_>, scene: &Scene, counts: &Buffer, sums: usize) -> Result<(Buffer, Buffer), GpuError> {
    let sums = batch.empty::<u32>(sums)?;
    let highest = batch.zeroed::<u32>(scene.n_instances)?;
    let buffers = [&scene.batch, &scene.instances, counts];
    if scene.has_stamps_of_points {
        batch.dispatch_strides(&STAMPS_OF_POINTS, &buffers, scene.most_drawn, scene.n_instances)?;
    }
    let buffers = [&scene.batch, &scene.instances, counts, &sums, &highest];
    batch.dispatch_strides(&STAMP, &buffers, scene.most_drawn, scene.n_instances)?;
    Ok((sums, highest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::counter_rng::Draws;
    use crate::cpu::stamp;
    use crate::fractal::Stamp;
    use crate::kernels::fractal::tests::jobs;
    use crate::twins::{Tolerance, adapter, assert_twins};

    #[test]
    fn sums_and_the_highest_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        let mut jobs = jobs(11, 8, 50);
        // All kinds, and one pixel.
        jobs[0].instances = jobs.iter().flat_map(|job| job.instances.clone()).collect();
        jobs[0].instances[0].drawn_side = 1;
        let mut draws = Draws::new(4, [0; 3]);
        let (mut all, mut sums, mut highest) = (Vec::new(), Vec::new(), Vec::new());
        for instance in jobs.iter().flat_map(|job| &job.instances) {
            let (side, margin) = (instance.drawn_side as usize, instance.margin());
            let counts: Vec<u32> = (0..(side + 2 * margin).pow(2)).map(|_| draws.below(40).saturating_sub(30) * draws.below(20)).collect();
            let mut own = vec![0; side * side];
            match instance.stamp {
                Stamp::Mask(mask) => stamp::stamp(&counts, margin, mask, side, &mut own),
                Stamp::Each(key) => stamp::stamp_each(&counts, margin, key, side, &mut own),
            }
            highest.push(own.iter().copied().max().unwrap_or(0));
            all.extend(counts);
            sums.extend(own);
        }
        let mut batch = gpu.batch("stamp").unwrap();
        let scene = Scene::new(&mut batch, &jobs).unwrap();
        assert!(scene.has_stamps_of_points);
        let counts = batch.upload(&all).unwrap();
        let (got, got_highest) = record(&mut batch, &scene, &counts, sums.len()).unwrap();
        let (got, got_highest) = (batch.download(&got, sums.len()).unwrap(), batch.download(&got_highest, highest.len()).unwrap());
        let results = batch.submit().unwrap().wait().unwrap();
        assert_twins("sums", &sums, &results.get::<u32>(got).unwrap(), Tolerance::Equal);
        assert_twins("highest", &highest, &results.get::<u32>(got_highest).unwrap(), Tolerance::Equal);
    }
}
