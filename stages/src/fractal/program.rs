//! The program of the stages that make images: the codes are read and checked, then numbered tasks make images of them.
//!
//! | step | over | does | table |
//! |---|---|---|---|
//! | `read` | shards of codes | rejects those that cannot be drawn | `codes`, to everyone |
//! | `make` | parts | makes a fixed number of images | |

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use gpu::Device;
use gpu::fractal::{ImageJob, Rendered, Renderer};
use schemas::{ColumnSpec, document, fractal};

use super::codes::{self, Codes};
use super::encode::Encoder;
use super::rle::masks;
use super::settings::{Encoding, Format, MAX_IMAGES, check_only};
use crate::{
    BuildContext, Done, Dropped, Emit, Global, Makes, Measure, Outputs, PartIn, Port, Rejection, Route, ShardIn, StageError, Step,
    TableSpec, Tables, WholeIn,
};

const CODES: &str = "codes";

/// Bytes of images that a task makes: it holds them until it is done.
const PART_BYTES: u64 = 32 << 20;
/// Most images of a task, so that none takes much longer than a second or two.
const PART_IMAGES: u64 = 1024;
/// Bytes of pixels that are rendered at once.
const CHUNK_BYTES: u64 = 16 << 20;
/// Most images that are rendered at once.
const CHUNK_IMAGES: u64 = 64;

/// What a stage says of its images.
pub(super) trait Recipe: Send + Sync {
    /// How many images there are of so many codes; `None` if more than a number can hold.
    fn images(&self, codes: u64) -> Option<u64>;

    /// The setting that this number comes from.
    fn setting(&self) -> &'static str;

    /// Image `index`. `attempts` tells for each of its fractals how often it was drawn before and not good enough; the first entry alone where they are one.
    /// `None` if there is no such image, as its code was rejected.
    fn plan(&self, index: u64, codes: &Codes, good: &[u32], attempts: &[u8]) -> Option<Planned>;

    /// Which fractals of an image have to be drawn again.
    fn failed(&self, planned: &Planned, rendered: &Rendered) -> Vec<usize>;
}

/// An image before it is made.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Its id.
    pub id: String,
    /// How it is made.
    pub job: ImageJob,
    /// What its fractals are.
    pub paints: Vec<Paint>,
}

/// What one fractal of an image is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Paint {
    /// Its class.
    pub label: i32,
    /// Where its hues begin, its saturation and value; none of a grey one.
    pub hsv: Option<[f32; 3]>,
}

/// What stands in the rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowForm {
    /// `labels` in the place of `label`.
    pub many: bool,
    /// Whether there is a column `instances`.
    pub instances: bool,
    /// Least share of an instance that is seen for it to be listed.
    pub min_visible: f64,
}

/// The columns of such rows.
pub(super) fn columns(form: RowForm, format: Format) -> Vec<ColumnSpec> {
    let picture = if format == Format::Raw { fractal::PIXELS.spec() } else { fractal::image().spec() };
    let label = if form.many { fractal::labels().spec() } else { fractal::LABEL.spec() };
    let mut columns = vec![document::ID.spec(), picture, fractal::WIDTH.spec(), fractal::HEIGHT.spec(), label];
    columns.extend(form.instances.then(|| fractal::instances().spec()));
    columns.push(fractal::INDEX.spec());
    columns
}

/// The outputs of a stage that makes images of the codes that come in.
pub(super) fn outputs(cx: &BuildContext, form: RowForm, format: Format) -> Result<Outputs, StageError> {
    codes::check(cx.input()?)?;
    let fields: Vec<Field> = columns(form, format).iter().map(ColumnSpec::field).collect();
    Ok(Outputs::new(Arc::new(Schema::new(fields))))
}

/// What so many images take.
pub(super) fn makes(images: u64, side: u32, encoding: Encoding, setting: &'static str) -> Makes {
    let format = match encoding.format {
        Format::Jpeg => "JPEG",
        Format::Webp => "WebP",
        Format::Png => "PNG",
        Format::Raw => "raw pixels",
    };
    let what = format!("images of {side} x {side} as {format}");
    Makes { rows: images, bytes: images.saturating_mul(encoding.bytes(side)), what, setting }
}

/// The same of so many images of each system, where it is known how many systems come, or which images are wanted.
pub(super) fn makes_of_each(
    cx: &BuildContext,
    each: u64,
    setting: &'static str,
    only: Option<&[u64]>,
    side: u32,
    encoding: Encoding,
) -> Option<Makes> {
    match only {
        Some(only) => Some(makes(only.len() as u64, side, encoding, "only")),
        None => Some(makes(cx.input_rows?.saturating_mul(each), side, encoding, setting)),
    }
}

/// The program.
pub(super) struct Program<R> {
    pub recipe: R,
    pub device: Device,
    pub side: u32,
    pub encoding: Encoding,
    pub form: RowForm,
    /// The numbers of the images that are made, if not all.
    pub only: Option<Vec<u64>>,
    /// Least share of its picture that a system covers.
    pub min_density: f64,
    /// How often a fractal is drawn again.
    pub redraws: u8,
    /// Whether an image that shows nothing is dropped: where it could not be another. Else it is drawn again, and then rejected.
    pub drops_blank: bool,
    pub schema: SchemaRef,
}

impl<R: Recipe> Program<R> {
    fn part_images(&self) -> u64 {
        (PART_BYTES / self.encoding.bytes(self.side)).clamp(1, PART_IMAGES)
    }

    /// How many images are made of so many codes.
    fn images(&self, codes: u64) -> Result<u64, StageError> {
        let setting = self.recipe.setting();
        let all = self.recipe.images(codes).filter(|images| *images <= MAX_IMAGES).ok_or_else(|| {
            StageError::setting(setting, format!("wanted at most {MAX_IMAGES} images in all, found more from {codes} systems"))
        })?;
        check_only(self.only.as_deref(), Some(all))?;
        Ok(self.only.as_ref().map_or(all, |only| only.len() as u64))
    }

    /// How much of a fractal can be seen: told where there are labels that depend on it.
    fn visible_measure(&self) -> Measure {
        Measure::new("visible", "share of a fractal's own pixels that can be seen").at_least("min_visible", self.form.min_visible)
    }

    /// Makes images and gives their rows; how many.
    fn make(&self, indices: &[u64], codes: &Codes, good: &[u32], tools: &mut Tools, out: &mut Emit) -> Result<u64, StageError> {
        let mut made: BTreeMap<usize, (Planned, Rendered)> = BTreeMap::new();
        let mut blank: BTreeMap<usize, (Planned, Rendered)> = BTreeMap::new();
        let mut due: Vec<(usize, Vec<u8>)> = (0..indices.len()).map(|at| (at, Vec::new())).collect();
        while !due.is_empty() {
            let planned: Vec<(usize, Vec<u8>, Planned)> = due
                .drain(..)
                .filter_map(|(at, attempts)| {
                    let planned = self.recipe.plan(indices[at], codes, good, &attempts)?;
                    Some((at, attempts, planned))
                })
                .collect();
            let jobs: Vec<ImageJob> = planned.iter().map(|(_, _, planned)| planned.job.clone()).collect();
            let (rendered, ran) = tools.renderer.render(&self.device, &jobs);
            out.ran(&ran);
            for ((at, mut attempts, planned), rendered) in planned.into_iter().zip(rendered) {
                let failed = self.recipe.failed(&planned, &rendered);
                if failed.is_empty() {
                    made.insert(at, (planned, rendered));
                    continue;
                }
                if self.drops_blank {
                    blank.insert(at, (planned, rendered));
                    continue;
                }
                attempts.resize(planned.job.instances.len(), 0);
                if failed.iter().any(|&fractal| attempts[fractal] >= self.redraws) {
                    let label = planned.paints[failed[0]].label;
                    let detail = format!(
                        "wanted a fractal of class {label} that can be seen, found none in {} drawings",
                        u32::from(self.redraws) + 1
                    );
                    out.reject(Rejection { id: Some(planned.id), file: None, offset: None, reason: "blank", detail });
                    continue;
                }
                failed.into_iter().for_each(|fractal| attempts[fractal] += 1);
                due.push((at, attempts));
            }
        }
        let visible = self.visible_measure();
        let mut rows = Rows::default();
        for (at, (planned, rendered)) in made {
            rows.push(self, tools.encoder, indices[at], planned, rendered, |share, kept| out.observe(&visible, share, kept))?;
        }
        let given = rows.ids.len() as u64;
        if !blank.is_empty() {
            let reasons: Vec<Dropped> = blank
                .values()
                .map(|(_, rendered)| Dropped::measured("blank", rendered.pixels.iter().map(|pixels| f64::from(*pixels)).sum(), 1.0))
                .collect();
            let mut dropped = Rows::default();
            for (at, (planned, rendered)) in blank {
                dropped.push(self, tools.encoder, indices[at], planned, rendered, |_, _| {})?;
            }
            out.drop_rows(&dropped.finish(self)?, &reasons)?;
        }
        out.rows(rows.finish(self)?)?;
        Ok(given)
    }
}

impl<R: Recipe> Global for Program<R> {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new(CODES, codes::schema(), Route::Whole)]
    }

    fn next(&self, done: &Done) -> Option<Step> {
        match done.steps() {
            0 => Some(Step::shards("read", Port::FROM).writes(&[CODES]).emits()),
            1 if done.rows(CODES) > 0 => match self.images(done.rows(CODES)) {
                // What is wrong is said by a task: a program has no other voice here.
                Err(_) => Some(Step::once("refuse", &[CODES], Vec::new())),
                Ok(images) => {
                    let parts = u32::try_from(images.div_ceil(self.part_images())).unwrap_or(u32::MAX);
                    Some(Step::parts("make", parts).whole(CODES).emits())
                }
            },
            _ => None,
        }
    }

    fn shard(&self, _: &Step, shard: &mut ShardIn, out: &mut Tables) -> Result<(), StageError> {
        let density = codes::density_measure(self.min_density);
        for batch in &shard.shard.batches {
            let table = codes::read(batch, self.min_density, &density, out.emit())?;
            out.whole(CODES, table)?;
        }
        Ok(())
    }

    fn once(&self, _: &Step, all: &mut WholeIn, _: &mut Tables) -> Result<(), StageError> {
        let codes = all.tables.get(CODES).map_or(0, |codes| codes.batch.num_rows());
        self.images(codes as u64).map(drop)
    }

    fn part(&self, _: &Step, part: &mut PartIn, out: &mut Tables) -> Result<(), StageError> {
        let codes = part.whole.get(CODES).ok_or_else(|| StageError::Internal("no codes were asked for".to_owned()))?;
        let codes = Codes::new(codes)?;
        let good = codes.good();
        let images = self.images(codes.len() as u64)?;
        let from = u64::from(part.index) * self.part_images();
        let indices: Vec<u64> = (from..images.min(from + self.part_images()))
            .filter_map(|at| match &self.only {
                Some(only) => only.get(usize::try_from(at).ok()?).copied(),
                None => Some(at),
            })
            .collect();
        let mut tools = Tools { renderer: Renderer::new(), encoder: Encoder::new(self.encoding) };
        let pixels = u64::from(self.side) * u64::from(self.side) * 4;
        // Of a few images that are wanted no more are made than at a time.
        let chunk = usize::try_from((CHUNK_BYTES / pixels).clamp(1, CHUNK_IMAGES).min(part.wanted.max(1))).unwrap_or(1);
        let mut left = part.wanted;
        for indices in indices.chunks(chunk) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(self.make(indices, &codes, &good, &mut tools, out.emit())?);
        }
        Ok(())
    }
}

/// What keeps its buffers from image to image.
struct Tools {
    renderer: Renderer,
    encoder: Encoder,
}

/// Rows as they grow.
#[derive(Default)]
struct Rows {
    ids: Vec<String>,
    files: Vec<Vec<u8>>,
    paths: Vec<Option<String>>,
    indices: Vec<i64>,
    /// Of each row, how many labels and instances.
    n_labels: Vec<usize>,
    labels: Vec<i32>,
    n_instances: Vec<usize>,
    instances: Instances,
}

#[derive(Default)]
struct Instances {
    label: Vec<i32>,
    bbox: Vec<f32>,
    area: Vec<i32>,
    size_of_mask: Vec<i32>,
    counts: Vec<String>,
    depth: Vec<i32>,
    visible: Vec<f32>,
    size: Vec<i32>,
    x: Vec<i32>,
    y: Vec<i32>,
    transpose: Vec<bool>,
    flip_rows: Vec<bool>,
    flip_columns: Vec<bool>,
    hue: Vec<Option<f32>>,
    saturation: Vec<Option<f32>>,
    value: Vec<Option<f32>>,
}

fn whole(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

impl Rows {
    fn push<R>(
        &mut self,
        program: &Program<R>,
        encoder: Encoder,
        index: u64,
        planned: Planned,
        rendered: Rendered,
        mut observe: impl FnMut(f64, bool),
    ) -> Result<(), StageError> {
        let Planned { id, job, paints } = planned;
        let side = program.side;
        let before = (self.labels.len(), self.instances.label.len());
        if program.form.instances {
            let masks = masks(&rendered.owners, side as usize, paints.len());
            for (depth, ((paint, mask), (instance, own))) in
                paints.iter().zip(masks).zip(job.instances.iter().zip(&rendered.pixels)).enumerate()
            {
                let visible = f64::from(mask.area) / f64::from((*own).max(1));
                if program.form.many {
                    observe(visible, visible >= program.form.min_visible);
                }
                if visible >= program.form.min_visible {
                    self.labels.push(paint.label);
                }
                if visible < program.form.min_visible || mask.area == 0 {
                    continue;
                }
                let to = &mut self.instances;
                to.label.push(paint.label);
                to.bbox.extend(mask.bbox.map(|edge| edge as f32));
                to.area.push(whole(mask.area));
                to.size_of_mask.extend([whole(side); 2]);
                to.counts.push(mask.counts);
                to.depth.push(whole(depth));
                #[expect(clippy::cast_possible_truncation, reason = "a share")]
                to.visible.push(visible as f32);
                to.size.push(whole(instance.size));
                to.x.push(instance.x);
                to.y.push(instance.y);
                to.transpose.push(instance.orientation.transpose);
                to.flip_rows.push(instance.orientation.flip_rows);
                to.flip_columns.push(instance.orientation.flip_columns);
                to.hue.push(paint.hsv.map(|hsv| hsv[0]));
                to.saturation.push(paint.hsv.map(|hsv| hsv[1]));
                to.value.push(paint.hsv.map(|hsv| hsv[2]));
            }
        } else {
            self.labels.extend(paints.iter().map(|paint| paint.label));
        }
        self.n_labels.push(self.labels.len() - before.0);
        self.n_instances.push(self.instances.label.len() - before.1);
        self.ids.push(id);
        self.files.push(encoder.encode(rendered.rgb, side)?);
        self.paths.push(encoder.extension().map(|extension| format!("{index:09}.{extension}")));
        self.indices.push(i64::try_from(index).unwrap_or(i64::MAX));
        Ok(())
    }

    fn finish<R>(self, program: &Program<R>) -> Result<RecordBatch, StageError> {
        let n = self.ids.len();
        let bytes: BinaryArray = self.files.iter().map(Some).collect();
        let picture: ArrayRef = if program.encoding.format == Format::Raw {
            Arc::new(bytes)
        } else {
            let paths: StringArray = self.paths.iter().collect();
            Arc::new(StructArray::try_new(fractal::image_fields(), vec![Arc::new(bytes), Arc::new(paths)], None)?)
        };
        let side = || -> ArrayRef { Arc::new(Int32Array::from(vec![whole(program.side); n])) };
        let labels: ArrayRef = Arc::new(Int32Array::from(self.labels));
        let labels = if program.form.many { lists(&fractal::labels().field(), &self.n_labels, labels)? } else { labels };
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(self.ids)), picture, side(), side(), labels];
        if program.form.instances {
            columns.push(lists(&fractal::instances().field(), &self.n_instances, self.instances.finish()?)?);
        }
        columns.push(Arc::new(Int64Array::from(self.indices)));
        Ok(RecordBatch::try_new(Arc::clone(&program.schema), columns)?)
    }
}

/// A column of lists of these lengths.
fn lists(field: &Field, lengths: &[usize], items: ArrayRef) -> Result<ArrayRef, StageError> {
    let DataType::List(item) = field.data_type() else { return Err(StageError::Internal(format!("`{field}` is no list"))) };
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths.iter().copied()), items, None)?))
}

/// Items of a fixed number of values each.
fn fixed(data_type: &DataType, values: ArrayRef) -> Result<ArrayRef, StageError> {
    let DataType::FixedSizeList(item, n) = data_type else { return Err(StageError::Internal(format!("{data_type} is no list"))) };
    Ok(Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *n, values, None)?))
}

impl Instances {
    fn finish(self) -> Result<ArrayRef, StageError> {
        let (fields, of_mask) = (fractal::instance_fields(), fractal::segmentation_fields());
        let mask = vec![
            fixed(of_mask[0].data_type(), Arc::new(Int32Array::from(self.size_of_mask)))?,
            Arc::new(StringArray::from(self.counts)) as ArrayRef,
        ];
        let whole = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
        let flags = |values: Vec<bool>| -> ArrayRef { Arc::new(BooleanArray::from(values)) };
        let shares = |values: Vec<Option<f32>>| -> ArrayRef { Arc::new(Float32Array::from(values)) };
        let columns = vec![
            whole(self.label),
            fixed(fields[1].data_type(), Arc::new(Float32Array::from(self.bbox)))?,
            whole(self.area),
            Arc::new(StructArray::try_new(of_mask, mask, None)?),
            whole(self.depth),
            Arc::new(Float32Array::from(self.visible)),
            whole(self.size),
            whole(self.x),
            whole(self.y),
            flags(self.transpose),
            flags(self.flip_rows),
            flags(self.flip_columns),
            shares(self.hue),
            shares(self.saturation),
            shares(self.value),
        ];
        Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
    }
}
