//! Host side of `shaders/paint.wgsl`.

use crate::kernels::fractal::Scene;
use crate::shaders::paint::{COVER, PAINT};
use crate::{Batch, Buffer, GpuError};

/// What pictures are made of.
pub(crate) struct Fractals<'b> {
    /// Sums under each instance's stamp.
    pub(crate) sums: &'b Buffer,
    /// The highest of each.
    pub(crate) highest: &'b Buffer,
    /// Colours of the levels of each instance, then of the heights of each image.
    pub(crate) palettes: &'b Buffer,
    /// Heights of each image that has a plasma.
    pub(crate) heights: &'b Buffer,
}

/// The picture of each image, a colour and an owner in each word, and how many pixels each instance has by itself.
pub(crate) fn record(batch: &mut Batch<'_>, scene: &Scene, of: &Fractals<'_>, pixels: usize) -> Result<(Buffer, Buffer), GpuError> {
    let pictures = batch.empty::<u32>(pixels)?;
    let covered = batch.zeroed::<u32>(scene.n_instances)?;
    let Fractals { sums, highest, palettes, heights } = of;
    let buffers = [&scene.batch, &scene.images, &scene.instances, sums, highest, palettes, heights, &pictures];
    batch.dispatch_strides(&PAINT, &buffers, scene.most_pixels, scene.n_images)?;
    batch.dispatch_strides(&COVER, &[&scene.batch, &scene.instances, sums, highest, &covered], scene.most_pasted, scene.n_instances)?;
    Ok((pictures, covered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::counter_rng::Draws;
    use crate::cpu::levels::{binary_levels, levels};
    use crate::cpu::paint::{Place, Scratch, paint};
    use crate::fractal::Background;
    use crate::kernels::fractal::tests::jobs;
    use crate::twins::{Tolerance, adapter, assert_twins};

    #[test]
    fn pictures_and_pixels_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        let mut jobs = jobs(21, 10, 60);
        jobs.iter_mut().for_each(|job| job.background = Background::Flat([1, 2, 3]));
        jobs[4].instances.clear();
        let mut draws = Draws::new(4, [0; 3]);
        let (mut all_sums, mut all_highest, mut palettes, mut pictures, mut pixels) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for job in &jobs {
            let side = job.side as usize;
            let (mut picture, mut owners) = (vec![0xFF03_0201; side * side], vec![0; side * side]);
            for (owner, instance) in (1_u8..).zip(&job.instances) {
                let drawn = instance.drawn_side as usize;
                let sums: Vec<u32> = (0..drawn * drawn).map(|_| draws.below(1 << 17).saturating_sub(1 << 16)).collect();
                let mut grey = vec![0; sums.len()];
                if instance.is_graded {
                    levels(&sums, &mut grey);
                } else {
                    binary_levels(&sums, &mut grey);
                }
                let palette: [u32; 256] = std::array::from_fn(|_| draws.word() | 0xFF00_0000);
                let place = Place { size: instance.size as usize, x: instance.x, y: instance.y, orientation: instance.orientation };
                pixels.push(paint(&grey, drawn, place, &palette, owner, side, &mut picture, &mut owners, &mut Scratch::default()));
                palettes.extend(palette);
                all_highest.push(sums.iter().copied().max().unwrap_or(0));
                all_sums.extend(sums);
            }
            pictures.extend(picture.iter().zip(owners).map(|(colour, owner)| colour & 0x00FF_FFFF | u32::from(owner) << 24));
        }
        let mut batch = gpu.batch("paint").unwrap();
        let scene = Scene::new(&mut batch, &jobs).unwrap();
        let upload = |batch: &mut Batch<'_>, words: &[u32]| batch.upload(words).unwrap();
        let (sums, highest) = (upload(&mut batch, &all_sums), upload(&mut batch, &all_highest));
        let (palettes, heights) = (upload(&mut batch, &palettes), upload(&mut batch, &[]));
        let fractals = Fractals { sums: &sums, highest: &highest, palettes: &palettes, heights: &heights };
        let (got, got_pixels) = record(&mut batch, &scene, &fractals, pictures.len()).unwrap();
        let (got, got_pixels) = (batch.download(&got, pictures.len()).unwrap(), batch.download(&got_pixels, pixels.len()).unwrap());
        let results = batch.submit().unwrap().wait().unwrap();
        assert_twins("pictures", &pictures, &results.get::<u32>(got).unwrap(), Tolerance::Equal);
        assert_twins("pixels", &pixels, &results.get::<u32>(got_pixels).unwrap(), Tolerance::Equal);
    }
}
