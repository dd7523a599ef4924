//! Host side of `shaders/plasma.wgsl`.

use crate::kernels::fractal::Scene;
use crate::shaders::plasma::PLASMA;
use crate::{Batch, Buffer, GpuError};

/// Heights of each image that has a plasma, `[2^doublings + 1]` squared. `moves` are those of [`crate::cpu::plasma::moves`], so many for each image as the
/// shader has room for.
pub(crate) fn record(batch: &mut Batch<'_>, scene: &Scene, moves: &Buffer, heights: usize) -> Result<Buffer, GpuError> {
    let heights = batch.empty::<i32>(heights)?;
    batch.dispatch_rows(&PLASMA, &[], &[&scene.batch, &scene.images, moves, &heights], scene.n_images)?;
    Ok(heights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::colour::{HeightColours, Hues};
    use crate::cpu::plasma::{Scratch, moves, plasma};
    use crate::fractal::{Background, ImageJob};
    use crate::kernels::fractal::MOST_DOUBLINGS;
    use crate::twins::{Tolerance, adapter, assert_twins};

    #[test]
    fn heights_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        let colours = HeightColours { hue: [1.0; 2], saturation: [1.0; 2], value: [1.0; 2], hues: Hues::Turns };
        let job = |(side, key): (u32, u32)| {
            let background = Background::Plasma { key: [key, 9], decay: 0.4 + 0.1 * key as f32, colours };
            ImageJob { side, background, instances: Vec::new(), blur: None }
        };
        // The last has more rows than the words of are kept.
        let mut jobs: Vec<ImageJob> = [2, 3, 64, 65, 100, 224, 513].into_iter().zip(1..).map(job).collect();
        jobs.insert(3, ImageJob { background: Background::Flat([0; 3]), ..jobs[0].clone() });
        let (mut want, mut all_moves, mut len) = (Vec::new(), Vec::new(), 0);
        for job in &jobs {
            let mut row = [0; MOST_DOUBLINGS];
            if let Background::Plasma { key, decay, .. } = job.background {
                let by = moves(decay, job.side as usize);
                let side = (1 << by.len()) + 1;
                let mut heights = vec![0; side * side];
                plasma(key, &by, side, &mut Scratch::default(), &mut heights);
                want.extend(heights.iter().map(|&height| i32::from(height)));
                row.iter_mut().zip(by).for_each(|(to, by)| *to = i32::from(by));
                len += side * side;
            }
            all_moves.extend(row);
        }
        let mut batch = gpu.batch("plasma").unwrap();
        let scene = Scene::new(&mut batch, &jobs).unwrap();
        let moves = batch.upload(&all_moves).unwrap();
        let heights = record(&mut batch, &scene, &moves, len).unwrap();
        let heights = batch.download::<i32>(&heights, len).unwrap();
        assert_twins("heights", &want, &batch.submit().unwrap().wait().unwrap().get(heights).unwrap(), Tolerance::Equal);
    }
}
