//! Images of fractals on a device: the kernels `chaos_game`, `stamp`, `plasma`, `paint` and `blur` in a row. Counts, levels, heights and pictures stay on the
//! device; colours, owners and numbers of pixels come back. Palettes are made on the processor, so that a colour is the same on every device.

use crate::context::Limits;
use crate::cpu::blur::neighbour_parts;
use crate::cpu::colour::{HEIGHTS, height_palette, level_palette, rgb};
use crate::cpu::plasma::moves;
use crate::fractal::{Background, ImageJob, Rendered, Stamp};
use crate::kernels::chaos_game::{self, Drawing};
use crate::kernels::{blur, index, paint, plasma, stamp};
use crate::{Batch, Buffer, Download, Gpu, GpuError};

/// Most pixels along a side of an image or a fractal: products of two sides stay within 32 bits.
const MOST_SIDE: u32 = 1 << 15;
/// Doublings that the shaders have room for.
pub(crate) const MOST_DOUBLINGS: usize = 15;
/// In the place of a stamp: each point has one of its own.
pub(crate) const EACH: u32 = 1 << 9;

/// Makes each image, in order.
///
/// An image is that of the twin but for what points that fell on the next pixel change ([`chaos_game::chaos_game`]): all that follows them is done in whole
/// numbers.
///
/// # Errors
/// An image passes the adapter's limits, or the device fails.
pub(crate) fn render(gpu: &Gpu, jobs: &[ImageJob]) -> Result<Vec<Rendered>, GpuError> {
    let pieces = pieces(gpu.limits(), jobs)?;
    gpu.in_pieces(&pieces, 1, |batch, piece| record(batch, piece[0]), Downloads::read)
}

/// How many values of each kind a batch holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Needs {
    counts: usize,
    sums: usize,
    heights: usize,
    pixels: usize,
    /// Pixels in units of four.
    packed: usize,
    instances: usize,
    images: usize,
}

impl Needs {
    fn of(job: &ImageJob) -> Self {
        let side = job.side as usize;
        let mut needs =
            Self { pixels: side * side, packed: (side * side).div_ceil(4), images: 1, instances: job.instances.len(), ..Self::default() };
        if matches!(job.background, Background::Plasma { .. }) {
            needs.heights = plasma_side(job.side).pow(2);
        }
        for instance in &job.instances {
            let side = instance.drawn_side as usize;
            needs.sums += side * side;
            needs.counts += (side + 2 * instance.margin()).pow(2);
        }
        needs
    }

    fn and(self, other: Self) -> Self {
        Self {
            counts: self.counts + other.counts,
            sums: self.sums + other.sums,
            heights: self.heights + other.heights,
            pixels: self.pixels + other.pixels,
            packed: self.packed + other.packed,
            instances: self.instances + other.instances,
            images: self.images + other.images,
        }
    }

    /// Bytes of the largest buffer.
    fn bytes(&self) -> u64 {
        let palettes = self.instances * 256 + self.images * HEIGHTS;
        [self.counts, self.sums, self.heights, self.pixels, 3 * self.packed, palettes].into_iter().max().unwrap_or(0) as u64 * 4
    }
}

/// Heights along a side of the plasma of an image.
fn plasma_side(side: u32) -> usize {
    side.next_power_of_two() as usize + 1
}

/// Cuts jobs into runs that fit a batch.
fn pieces<'j>(limits: &Limits, jobs: &'j [ImageJob]) -> Result<Vec<&'j [ImageJob]>, GpuError> {
    let (mut pieces, mut first, mut sum) = (Vec::new(), 0, Needs::default());
    for (at, job) in jobs.iter().enumerate() {
        let sides = job.instances.iter().flat_map(|instance| [instance.drawn_side, instance.size]);
        let side = sides.fold(job.side, u32::max);
        if side > MOST_SIDE {
            return Err(GpuError::TooLarge { what: "an image (pixels across)", wanted: u64::from(side), limit: u64::from(MOST_SIDE) });
        }
        let own = Needs::of(job);
        if own.bytes() > limits.max_binding_bytes {
            return Err(GpuError::TooLarge {
                what: "an image (bytes of its largest buffer)",
                wanted: own.bytes(),
                limit: limits.max_binding_bytes,
            });
        }
        if at > first && sum.and(own).bytes() > limits.piece_bytes() {
            pieces.push(&jobs[first..at]);
            (first, sum) = (at, Needs::default());
        }
        sum = sum.and(own);
    }
    if first < jobs.len() {
        pieces.push(&jobs[first..]);
    }
    Ok(pieces)
}

/// What the shaders know of a batch.
pub(crate) struct Scene {
    /// Numbers of images and instances.
    pub(crate) batch: Buffer,
    pub(crate) images: Buffer,
    pub(crate) instances: Buffer,
    pub(crate) n_images: usize,
    pub(crate) n_instances: usize,
    /// The largest square, in pixels, of those that are drawn, of those that are pasted, and of images.
    pub(crate) most_drawn: usize,
    pub(crate) most_pasted: usize,
    pub(crate) most_pixels: usize,
    /// Whether points have stamps of their own.
    pub(crate) has_stamps_of_points: bool,
    needs: Needs,
}

impl Scene {
    /// Lays a batch out and uploads what describes it.
    pub(crate) fn new(batch: &mut Batch<'_>, jobs: &[ImageJob]) -> Result<Self, GpuError> {
        let (mut images, mut instances, mut needs) = (Vec::<u32>::new(), Vec::<u32>::new(), Needs::default());
        let (mut most_drawn, mut most_pasted, mut most_pixels, mut has_stamps_of_points) = (0, 0, 0, false);
        for job in jobs {
            let mut at = needs;
            let (key, flat, is_plasma) = match job.background {
                Background::Flat(colour) => ([0; 2], rgb(colour), 0),
                Background::Plasma { key, .. } => (key, 0, 1),
            };
            images.extend(key);
            images.extend([index(needs.instances)?, index(job.instances.len())?, job.side, flat, is_plasma, doublings(job.side)]);
            images.extend([index(needs.heights)?, index(needs.pixels)?, index(needs.packed)?]);
            images.push(u32::from(job.blur.map_or(0, neighbour_parts)));
            for instance in &job.instances {
                let (margin, turns) = (instance.margin(), instance.orientation);
                let (key, stamp) = match instance.stamp {
                    Stamp::Mask(mask) => ([0; 2], mask & 0x1FF),
                    Stamp::Each(key) => (key, EACH),
                };
                has_stamps_of_points |= stamp == EACH;
                instances.extend([index(at.counts)?, index(at.sums)?, instance.drawn_side, index(margin)?, key[0], key[1], stamp]);
                instances.extend([u32::from(instance.is_graded), instance.size, instance.x.cast_unsigned(), instance.y.cast_unsigned()]);
                instances.push(u32::from(turns.transpose) | u32::from(turns.flip_rows) << 1 | u32::from(turns.flip_columns) << 2);
                let (side, size) = (instance.drawn_side as usize, instance.size as usize);
                at.counts += (side + 2 * margin).pow(2);
                at.sums += side * side;
                most_drawn = most_drawn.max((side + 2 * margin).pow(2));
                most_pasted = most_pasted.max(size * size);
            }
            most_pixels = most_pixels.max(job.side as usize * job.side as usize);
            needs = needs.and(Needs::of(job));
        }
        Ok(Self {
            batch: batch.upload(&[index(needs.images)?, index(needs.instances)?, 0, 0])?,
            images: batch.upload(&images)?,
            instances: batch.upload(&instances)?,
            n_images: needs.images,
            n_instances: needs.instances,
            most_drawn,
            most_pasted,
            most_pixels,
            has_stamps_of_points,
            needs,
        })
    }
}

/// Doublings of the plasma of an image.
fn doublings(side: u32) -> u32 {
    side.next_power_of_two().trailing_zeros()
}

/// The moves of each image, [`MOST_DOUBLINGS`] of each.
fn all_moves(jobs: &[ImageJob]) -> Vec<i32> {
    let of = |job: &ImageJob| {
        let mut row = [0; MOST_DOUBLINGS];
        if let Background::Plasma { decay, .. } = job.background {
            row.iter_mut().zip(moves(decay, job.side as usize)).for_each(|(to, by)| *to = i32::from(by));
        }
        row
    };
    jobs.iter().flat_map(of).collect()
}

/// The palettes of all instances, then those of all images.
fn all_palettes(jobs: &[ImageJob], needs: &Needs) -> Vec<u32> {
    let mut palettes = Vec::with_capacity(needs.instances * 256 + needs.images * HEIGHTS);
    for instance in jobs.iter().flat_map(|job| &job.instances) {
        palettes.extend(level_palette(instance.colour));
    }
    let mut palette = [0; HEIGHTS];
    for job in jobs {
        if let Background::Plasma { colours, .. } = &job.background {
            height_palette(colours, &mut palette);
        }
        palettes.extend(palette);
    }
    palettes
}

/// What comes back of a batch.
struct Downloads {
    colours: Download<u8>,
    owners: Download<u8>,
    pixels: Download<u32>,
    /// Side and number of instances of each image.
    images: Vec<(usize, usize)>,
}

fn record(batch: &mut Batch<'_>, jobs: &[ImageJob]) -> Result<Downloads, GpuError> {
    let scene = Scene::new(batch, jobs)?;
    let needs = scene.needs;
    let counts = batch.zeroed::<u32>(needs.counts)?;
    let regions = batch.empty::<[f32; 4]>(needs.instances)?;
    let drawn: Vec<_> = jobs.iter().flat_map(|job| &job.instances).map(|instance| (instance.drawn(), instance.drawn_side)).collect();
    let mut counts_at = 0;
    let mut drawings = Vec::with_capacity(drawn.len());
    for ((orbit, margin), side) in &drawn {
        let side = side + 2 * index(*margin)?;
        drawings.push(Drawing { orbit, side, counts_at });
        counts_at += (side as usize).pow(2);
    }
    chaos_game::record(batch, &drawings, &counts, &regions)?;
    let (sums, highest) = stamp::record(batch, &scene, &counts, needs.sums)?;
    let heights = if needs.heights > 0 {
        let moves = batch.upload(&all_moves(jobs))?;
        plasma::record(batch, &scene, &moves, needs.heights)?
    } else {
        batch.empty::<i32>(0)?
    };
    let palettes = batch.upload(&all_palettes(jobs, &needs))?;
    let fractals = paint::Fractals { sums: &sums, highest: &highest, palettes: &palettes, heights: &heights };
    let (pictures, pixels) = paint::record(batch, &scene, &fractals, needs.pixels)?;
    let (colours, owners) = blur::record(batch, &scene, &pictures, needs.packed)?;
    Ok(Downloads {
        colours: batch.download(&colours, 12 * needs.packed)?,
        owners: batch.download(&owners, 4 * needs.packed)?,
        pixels: batch.download(&pixels, needs.instances)?,
        images: jobs.iter().map(|job| (job.side as usize, job.instances.len())).collect(),
    })
}

impl Downloads {
    fn read(self, results: &crate::Results, out: &mut Vec<Rendered>) -> Result<(), GpuError> {
        let (colours, owners, pixels) = (results.get(self.colours)?, results.get(self.owners)?, results.get(self.pixels)?);
        let (mut packed, mut instance) = (0, 0);
        for (side, instances) in self.images {
            out.push(Rendered {
                rgb: colours[12 * packed..][..3 * side * side].to_vec(),
                owners: owners[4 * packed..][..side * side].to_vec(),
                pixels: pixels[instance..][..instances].to_vec(),
            });
            packed += (side * side).div_ceil(4);
            instance += instances;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cpu::chaos_game::{Orbit, Window, weights};
    use crate::cpu::colour::{Colour, HeightColours, Hues};
    use crate::cpu::counter_rng::Draws;
    use crate::cpu::paint::Orientation;
    use crate::fractal::{Instance, Renderer};
    use crate::shaders::{blur, paint, plasma, stamp};
    use crate::twins::{adapter, assert_twins_by, open_within};
    use crate::{Device, Ran};

    /// Images of all kinds, by a seed.
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    pub(crate) fn jobs(seed: u64, count: u32, side: u32) -> Vec<ImageJob> {
        let mut draws = Draws::new(seed, [1, 2, 3]);
        let mut jobs = Vec::new();
        for image in 0..count {
            let instances = (0..draws.below(5)).map(|_| instance(&mut draws, side)).collect();
            let hues = if image % 2 == 0 { Hues::Turns } else { Hues::Bytes };
            let colours = HeightColours { hue: [0.6, draws.unit() as f32], saturation: [0.2, 0.5], value: [0.4, 0.5], hues };
            let background = if draws.chance(0.25) {
                Background::Flat([7, 100, 255])
            } else {
                Background::Plasma { key: [draws.word(), image], decay: draws.between(0.4, 0.8) as f32, colours }
            };
            // Every third image has another side.
            let side = if image % 3 == 2 { side / 2 + 1 } else { side };
            let blur = draws.chance(0.5).then(|| draws.between(0.5, 1.0) as f32);
            jobs.push(ImageJob { side, background, instances, blur });
        }
        jobs
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
    fn instance(draws: &mut Draws, side: u32) -> Instance {
        let maps: Vec<[f32; 6]> =
            (0..2 + draws.below(3)).map(|_| [0.6, 0.4, 1.0, 0.4, 0.6, 1.0].map(|most| draws.between(-most, most) as f32)).collect();
        let window = if draws.chance(0.5) { Window::default() } else { Window { shift: [0.1, -0.15], scale: [0.7, 1.3] } };
        let orbit = Orbit { weights: weights(&maps), maps, stream: [draws.word(), 1, 2, 3], points: 3000, window };
        let stamp = if draws.chance(0.3) { Stamp::Each([draws.word(), 5]) } else { Stamp::Mask(1 + draws.below(511)) };
        let is_graded = matches!(stamp, Stamp::Mask(_)) && draws.chance(0.7);
        let colour = match draws.below(3) {
            0 => Colour::Grey(127),
            1 => Colour::Levels,
            _ => Colour::Hue { hue: draws.unit() as f32, saturation: 0.8, value: 0.9, hues: Hues::Turns },
        };
        let drawn_side = if draws.chance(0.5) { side } else { side / 2 };
        let size = if draws.chance(0.3) { drawn_side } else { 1 + draws.below(side) };
        let mut from = || draws.below(side + size / 2) as i32 - size as i32 / 2;
        let (x, y) = (from(), from());
        let mut bit = || draws.chance(0.5);
        let orientation = Orientation { transpose: bit(), flip_rows: bit(), flip_columns: bit() };
        Instance { orbit, drawn_side, stamp, is_graded, colour, size, x, y, orientation }
    }

    fn twin(jobs: &[ImageJob]) -> Vec<Rendered> {
        Renderer::new().render(&Device::cpu(), jobs).0
    }

    /// How many pixels of an image may differ from the twin's: three in a thousand, and the nine of one stamp. A point that fell on the next pixel takes its
    /// stamp with it, and where it left the highest count, all levels move a little. Measured on lavapipe with 100 images: 0.7 in a thousand at most.
    fn may_differ(pixels: usize) -> usize {
        pixels * 3 / 1000 + 9
    }

    #[expect(clippy::ptr_arg, reason = "what is compared is a list of images")]
    fn same_images(plain: &Vec<Rendered>, other: &Vec<Rendered>) -> Result<(), String> {
        if plain.len() != other.len() {
            return Err(format!("{} images and {}", plain.len(), other.len()));
        }
        for (image, (plain, other)) in plain.iter().zip(other).enumerate() {
            if (plain.rgb.len(), plain.owners.len(), plain.pixels.len()) != (other.rgb.len(), other.owners.len(), other.pixels.len()) {
                return Err(format!("image {image}: other sizes"));
            }
            let most = may_differ(plain.owners.len());
            let owners = plain.owners.iter().zip(&other.owners).filter(|(a, b)| a != b).count();
            // A channel may be two grey levels away.
            let far = |(a, b): (&[u8], &[u8])| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) > 2);
            let colours = plain.rgb.chunks(3).zip(other.rgb.chunks(3)).filter(|pair| far(*pair)).count();
            let pixels = plain.pixels.iter().zip(&other.pixels).map(|(a, b)| a.abs_diff(*b) as usize).max().unwrap_or(0);
            if owners.max(pixels) > most || colours > most {
                return Err(format!("image {image}: {owners} owners, {colours} colours and {pixels} pixels differ; {most} may"));
            }
        }
        Ok(())
    }

    #[test]
    fn images_are_those_of_the_twin() {
        let Some(gpu) = adapter() else { return };
        let mut odd = jobs(3, 3, 40);
        odd[1].instances.clear();
        odd[2].instances = jobs(4, 9, 40).into_iter().flat_map(|job| job.instances).collect();
        odd[2].instances[0].orbit.points = 0;
        for (case, jobs) in
            [("none", Vec::new()), ("one", jobs(1, 1, 64)), ("no instance, many, one without points", odd), ("a batch", jobs(2, 12, 96))]
        {
            assert_twins_by(case, &twin(&jobs), &render(gpu, &jobs).unwrap(), same_images, |images| match images.last_mut() {
                Some(image) => {
                    let too_many = 2 * may_differ(image.owners.len()) + 1;
                    image.owners.iter_mut().take(too_many).for_each(|owner| *owner ^= 1);
                }
                None => images.push(Rendered { rgb: Vec::new(), owners: Vec::new(), pixels: Vec::new() }),
            });
        }
    }

    #[test]
    fn an_image_is_the_same_alone_in_a_batch_and_in_pieces() {
        let Some(gpu) = adapter() else { return };
        let jobs = jobs(7, 6, 48);
        let together = render(gpu, &jobs).unwrap();
        for (job, want) in jobs.iter().zip(&together) {
            assert_eq!(&render(gpu, std::slice::from_ref(job)).unwrap()[0], want);
        }
        let largest = jobs.iter().map(|job| Needs::of(job).bytes()).max().unwrap();
        let limits = Limits { max_binding_bytes: largest + 1000, max_workgroups: 3, max_workgroup_lanes: 64, ..gpu.limits().clone() };
        assert!(pieces(&limits, &jobs).unwrap().len() > 2);
        let Some(device) = open_within(Some(&limits)) else { return };
        assert_eq!(render(device.gpu().unwrap(), &jobs).unwrap(), together);
        let too_small = Limits { max_binding_bytes: largest - 1, ..limits };
        assert!(matches!(pieces(&too_small, &jobs), Err(GpuError::TooLarge { .. })));
        let mut vast = jobs;
        vast[0].instances = vec![Instance { size: MOST_SIDE + 1, ..instance(&mut Draws::new(1, [0; 3]), 48) }];
        assert!(matches!(pieces(gpu.limits(), &vast), Err(GpuError::TooLarge { what: "an image (pixels across)", .. })));
    }

    #[test]
    fn a_device_that_is_lost_makes_its_images_on_the_twin() {
        let jobs = jobs(8, 3, 32);
        let Some(device) = open_within(None) else { return };
        let (images, ran) = Renderer::new().render(&device, &jobs);
        assert!(ran == Ran::Gpu && same_images(&twin(&jobs), &images).is_ok());
        device.gpu().unwrap().lose_after(4);
        let (images, ran) = Renderer::new().render(&device, &jobs);
        assert!(matches!(ran, Ran::FellBack(_)), "{ran:?}");
        assert_eq!(images, twin(&jobs));
    }

    #[test]
    fn structs_lie_where_the_host_puts_them() {
        let words = |names: &[&'static str]| names.iter().zip((0_u32..).step_by(4)).map(|(name, at)| (*name, at)).collect::<Vec<_>>();
        let mut instance = words(&["counts_at", "sums_at", "side", "margin", "key", "", "stamp", "is_graded", "size", "x", "y", "turns"]);
        let mut image = words(&[
            "key",
            "",
            "first_instance",
            "instances",
            "side",
            "flat",
            "is_plasma",
            "doublings",
            "heights_at",
            "picture_at",
            "packed_at",
            "parts",
        ]);
        // A key has two words.
        instance.retain(|(name, _)| !name.is_empty());
        image.retain(|(name, _)| !name.is_empty());
        for layout in [&stamp::INSTANCE_LAYOUT, &paint::INSTANCE_LAYOUT] {
            assert_eq!((layout.bytes, layout.members), (48, &instance[..]));
        }
        for layout in [&plasma::IMAGE_LAYOUT, &paint::IMAGE_LAYOUT, &blur::IMAGE_LAYOUT] {
            assert_eq!((layout.bytes, layout.members), (48, &image[..]));
        }
        assert_eq!(stamp::FRACTAL_BATCH_LAYOUT.members, words(&["images", "instances"]));
    }
}
