//! Host side of `shaders/blur.wgsl`.

use crate::kernels::fractal::Scene;
use crate::shaders::blur::BLUR;
use crate::{Batch, Buffer, GpuError};

/// Bytes of the colours of each image, blurred where it wants that, and of the owners of its pixels. Images begin at multiples of four pixels; `packed` is how
/// many of these there are.
pub(crate) fn record(batch: &mut Batch<'_>, scene: &Scene, pictures: &Buffer, packed: usize) -> Result<(Buffer, Buffer), GpuError> {
    let colours = batch.empty::<[u32; 3]>(packed)?;
    let owners = batch.empty::<u32>(packed)?;
    batch.dispatch_strides(
        &BLUR,
        &[&scene.batch, &scene.images, pictures, &colours, &owners],
        scene.most_pixels.div_ceil(4),
        scene.n_images,
    )?;
    Ok((colours, owners))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::blur::{blur, neighbour_parts};
    use crate::cpu::counter_rng::Draws;
    use crate::fractal::{Background, ImageJob};
    use crate::twins::{Tolerance, adapter, assert_twins};

    #[test]
    fn colours_and_owners_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        let mut draws = Draws::new(6, [0; 3]);
        let sides = [(2, Some(0.5)), (3, Some(1.0)), (17, None), (64, Some(0.7)), (33, Some(2.0)), (5, None)];
        let jobs: Vec<ImageJob> = sides
            .into_iter()
            .map(|(side, blur)| ImageJob { side, background: Background::Flat([0; 3]), instances: Vec::new(), blur })
            .collect();
        let (mut pictures, mut colours, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for job in &jobs {
            let side = job.side as usize;
            let words: Vec<u32> = (0..side * side).map(|_| draws.word()).collect();
            let mut picture: Vec<[u8; 4]> = words.iter().map(|word| word.to_le_bytes()).collect();
            owners.extend(picture.iter().map(|pixel| pixel[3]));
            if let Some(sigma) = job.blur {
                blur(&mut picture, side, neighbour_parts(sigma), &mut Vec::new());
            }
            colours.extend(picture.iter().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]));
            // Images begin at multiples of four pixels.
            owners.resize(owners.len().next_multiple_of(4), 0);
            colours.resize(owners.len() * 3, 0);
            pictures.extend(words);
        }
        let packed = owners.len() / 4;
        let mut batch = gpu.batch("blur").unwrap();
        let scene = Scene::new(&mut batch, &jobs).unwrap();
        let pictures = batch.upload(&pictures).unwrap();
        let (got, got_owners) = record(&mut batch, &scene, &pictures, packed).unwrap();
        let (got, got_owners) = (batch.download(&got, 12 * packed).unwrap(), batch.download(&got_owners, 4 * packed).unwrap());
        let results = batch.submit().unwrap().wait().unwrap();
        assert_twins("colours", &colours, &results.get::<u8>(got).unwrap(), Tolerance::Equal);
        assert_twins("owners", &owners, &results.get::<u8>(got_owners).unwrap(), Tolerance::Equal);
    }
}
