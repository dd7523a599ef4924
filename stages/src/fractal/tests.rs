//! Tests of the stages that make images, through the stages as the engine runs them.

mod composed;
mod systems;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Int32Array, Int64Array, LargeListBuilder, ListArray, ListBuilder, PrimitiveBuilder,
    RecordBatch, StringArray, StructArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Float64Type, Int32Type};
use gpu::cpu::counter_rng::Draws;
use schemas::{document, fractal};
use serde_json::{Value, json};

use super::ifs::{Map, jittered, singular_values};
use super::settings::Jitter;
use super::{ComposeFractalsConfig, RenderFractaldbConfig, RenderFractalsConfig, SampleIfsConfig};
use crate::testing::{self, Balance, Outcome};
use crate::{Port, Rejection, RowSink, Stage, StageConfig, StageError};

#[derive(Default)]
struct Taken {
    batches: Vec<RecordBatch>,
    rejected: Vec<Rejection>,
    batch_rows: usize,
}

impl RowSink for Taken {
    fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    fn rows(&mut self, batch: RecordBatch) -> Result<ControlFlow<()>, StageError> {
        self.batches.push(batch);
        Ok(ControlFlow::Continue(()))
    }

    fn reject(&mut self, rejection: Rejection) {
        self.rejected.push(rejection);
    }
}

fn sampled(settings: Value) -> (RecordBatch, Vec<Rejection>) {
    let built = testing::build::<SampleIfsConfig>(settings, Vec::new()).unwrap();
    let Stage::Source(source) = built.stage else { panic!("a source") };
    let mut taken = Taken { batch_rows: 100, ..Taken::default() };
    source.splits().unwrap().iter().for_each(|split| source.read(split, &mut taken).unwrap());
    (concat_batches(built.outputs.get(&Port::OUT).unwrap(), &taken.batches).unwrap(), taken.rejected)
}

fn codes(classes: u32) -> RecordBatch {
    sampled(json!({"classes": classes})).0
}

fn run<C: StageConfig>(settings: Value, codes: &RecordBatch) -> Outcome {
    testing::run::<C>(settings, &[(Port::FROM, codes.clone())])
}

fn refusal<C: StageConfig>(settings: Value) -> String {
    testing::refusal::<C>(settings, &[(Port::FROM, testing::codes())])
}

fn maps_of(codes: &RecordBatch) -> Vec<Vec<Map>> {
    let maps = codes.column_by_name("maps").unwrap().as_list::<i32>();
    let one = |maps: &ArrayRef| -> Vec<Map> {
        let maps = maps.as_fixed_size_list();
        (0..maps.len()).map(|at| maps.value(at).as_primitive::<Float64Type>().values()[..].try_into().unwrap()).collect()
    };
    maps.iter().map(|maps| one(&maps.unwrap())).collect()
}

fn files(rows: &RecordBatch) -> Vec<Vec<u8>> {
    let bytes = match rows.column_by_name("image") {
        Some(image) => Arc::clone(image.as_struct().column(0)),
        None => Arc::clone(rows.column_by_name("pixels").unwrap()),
    };
    bytes.as_binary::<i32>().iter().map(|file| file.unwrap().to_vec()).collect()
}

fn column<'b, A: Array + 'static>(rows: &'b RecordBatch, name: &str) -> &'b A {
    rows.column_by_name(name).unwrap().as_any().downcast_ref::<A>().unwrap()
}

/// The instances of each row, as columns.
fn instances(rows: &RecordBatch) -> Vec<StructArray> {
    column::<ListArray>(rows, "instances").iter().map(|instances| instances.unwrap().as_struct().clone()).collect()
}

fn whole(instances: &StructArray, name: &str) -> Vec<i32> {
    instances.column_by_name(name).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn shares(instances: &StructArray, name: &str) -> Vec<f32> {
    instances.column_by_name(name).unwrap().as_primitive::<Float32Type>().values().to_vec()
}

// --- sample_ifs ---

/// Systems that cannot be drawn, each for its reason, among two that can.
fn bad_codes() -> RecordBatch {
    let gasket: &[Map] = &[[0.5, 0.0, 0.0, 0.0, 0.5, 0.0], [0.5, 0.0, 0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5, 0.5]];
    let many = vec![gasket[0]; 33];
    let systems: [&[Map]; 8] = [
        gasket,
        &[],
        &[[0.5, 0.0, f64::NAN, 0.0, 0.5, 0.0]],
        &[[2.0, 0.0, 1.0, 0.0, 2.0, 1.0], [1.5, 0.0, 1.0, 0.0, 1.5, 0.0]],
        &many,
        &[[0.5, 0.0, 0.0, 0.0, 0.5, 0.0]],
        &[[0.5, 0.0, 1e300, 0.0, 0.5, 0.0]],
        gasket,
    ];
    let ids: StringArray = (0..8).map(|row| Some(format!("s{row}"))).collect();
    RecordBatch::try_from_iter_with_nullable([("id", Arc::new(ids) as ArrayRef, true), ("maps", testing::maps(&systems), true)]).unwrap()
}

#[test]
fn systems_that_cannot_be_drawn_are_rejected_and_the_others_keep_their_classes() {
    let settings = json!({"images_per_class": 2, "side_px": 32, "points": 2000});
    let got = testing::check_contract::<RenderFractalsConfig>(settings, &bad_codes(), Balance::Free);
    let rejected: Vec<_> = got.rejected.iter().map(|rejection| (rejection.id.as_deref().unwrap(), rejection.reason)).collect();
    let want =
        [("s1", "no_maps"), ("s2", "not_finite"), ("s3", "expands"), ("s4", "too_many_maps"), ("s5", "too_sparse"), ("s6", "not_finite")];
    assert_eq!(rejected, want);
    assert_eq!(testing::column(got.rows(), "id"), ["s0#0", "s0#1", "s7#0", "s7#1"]);
    // There is no column `label`: the class is the row.
    assert_eq!(testing::column(got.rows(), "label"), ["0", "0", "7", "7"]);
    assert_eq!(testing::column(got.rows(), "index"), ["0", "1", "14", "15"]);
    let composed = run::<ComposeFractalsConfig>(json!({"images": 10, "side_px": 32, "points": 2000}), &bad_codes());
    let labels: BTreeSet<i32> =
        column::<ListArray>(composed.rows(), "labels").values().as_primitive::<Int32Type>().values().iter().copied().collect();
    assert!(labels.into_iter().eq([0, 7]) && composed.rows().num_rows() == 10);
}

#[test]
fn nothing_that_can_be_drawn_is_no_images_and_no_panic() {
    let bad = bad_codes().slice(1, 5);
    let got = run::<ComposeFractalsConfig>(json!({"images": 3, "side_px": 32}), &bad);
    assert_eq!((got.rows().num_rows(), got.rejected.len()), (0, 5));
    let none = run::<RenderFractalsConfig>(json!({"images_per_class": 3}), &bad.slice(0, 0));
    assert_eq!((none.rows().num_rows(), none.rejected.len()), (0, 0));
}

#[test]
fn maps_of_other_types_are_read_and_other_columns_are_refused() {
    let settings = || json!({"images_per_class": 1, "side_px": 32, "points": 2000, "format": "raw"});
    // As polars and pyarrow write them: large lists of lists of 32 bits.
    let mut maps = LargeListBuilder::new(ListBuilder::new(PrimitiveBuilder::<Float32Type>::new()));
    for system in maps_of(&testing::codes()) {
        for map in system {
            #[expect(clippy::cast_possible_truncation, reason = "that is what the test is about")]
            maps.values().values().append_slice(&map.map(|value| value as f32));
            maps.values().append(true);
        }
        maps.append(true);
    }
    let foreign = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec!["gasket", "leaf", "dragon"])) as ArrayRef),
        ("label", Arc::new(Int64Array::from(vec![0, 1, 2]))),
        ("maps", Arc::new(maps.finish())),
    ])
    .unwrap();
    let (ours, theirs) = (run::<RenderFractalsConfig>(settings(), &testing::codes()), run::<RenderFractalsConfig>(settings(), &foreign));
    // 32 bits are what kernels work in, so the gasket is the same, and the others but for the jitter that comes before.
    assert_eq!(files(ours.rows())[0], files(theirs.rows())[0]);
    assert_eq!(testing::column(theirs.rows(), "label"), ["0", "1", "2"]);
    let error = testing::refusal::<RenderFractalsConfig>(
        json!({"images_per_class": 1}),
        &[(Port::FROM, testing::strings(&[("maps", vec![Some("x")])]))],
    );
    assert_eq!(error, "needs column `maps: List(List(Float64))`, but the input has `maps: Utf8`");
    let mut short = ListBuilder::new(ListBuilder::new(PrimitiveBuilder::<Float64Type>::new()));
    short.values().values().append_slice(&[1.0, 2.0]);
    short.values().append(true);
    short.append(true);
    short.values().append(false);
    short.append(true);
    let short = RecordBatch::try_from_iter([("maps", Arc::new(short.finish()) as ArrayRef)]).unwrap();
    let rejected = run::<RenderFractalsConfig>(settings(), &short).rejected;
    assert!(rejected.len() == 2 && rejected.iter().all(|rejection| rejection.reason == "wrong_map"), "{rejected:?}");
}

// --- render_fractals ---

fn single(settings: Value) -> Value {
    let mut all = json!({"images_per_class": 4, "side_px": 48, "points": 5000, "format": "raw"});
    settings.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
    all
}

#[test]
fn it_keeps_the_contract() {
    let all = json!({"instances": true, "jitter": "svd", "colours": "hue_8bit", "format": "png"});
    testing::check_contract::<RenderFractalsConfig>(single(all), &testing::codes(), Balance::Free);
    testing::check_contract::<RenderFractaldbConfig>(
        json!({"repetitions": 1, "side_px": 32, "points": 500}),
        &testing::codes(),
        Balance::Free,
    );
    let some = json!({"images": 30, "side_px": 48, "points": 2000, "min_visible": 0.3, "jitter": {"fractaldb": 0.1}});
    testing::check_contract::<ComposeFractalsConfig>(some, &testing::codes(), Balance::Free);
}

/// In the released code the class is the number of the image over the number of classes: with 3 classes of 7 images that would be 7 classes of 3.
#[test]
fn labels_are_right_where_there_are_not_as_many_classes_as_images_of_one() {
    let got = run::<RenderFractalsConfig>(single(json!({"images_per_class": 7})), &testing::codes());
    let labels = column::<Int32Array>(got.rows(), "label").values().to_vec();
    assert_eq!(labels, (0..21).map(|image| image / 7).collect::<Vec<i32>>());
    assert_eq!(testing::column(got.rows(), "id")[9], "leaf#2");
    // And they are images of these systems: without anything drawn by chance but points, images of one class are almost alike, of two they are not.
    let plain = json!({
        "images_per_class": 7, "jitter": "none", "window": {"shift": 0, "scale": {"min": 1, "max": 1}}, "flips": false, "stamp": "dot", "shades": "binary",
        "colours": "grey", "background": "black", "blur": {"chance": 0}, "points": 50_000
    });
    let images = files(run::<RenderFractalsConfig>(single(plain), &testing::codes()).rows());
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64;
    assert!((0..21).all(|image| differ(&images[image], &images[image / 7 * 7]) < 0.05));
    assert!(differ(&images[0], &images[7]) > 0.2 && differ(&images[7], &images[14]) > 0.2);
}

/// In the released code every published run used one system for each class whatever was set, and as many as 1,000.
#[test]
fn every_system_is_used() {
    let codes = codes(1500);
    let got = run::<RenderFractalsConfig>(json!({"images_per_class": 1, "side_px": 16, "points": 1000, "min_density": 0}), &codes);
    let labels = column::<Int32Array>(got.rows(), "label").values().to_vec();
    assert_eq!(labels, (0..1500).collect::<Vec<i32>>());
}

/// In the released code workers that start as copies of one process draw the same numbers. Here a part is such a worker: no two images have anything in common, and
/// an image is the same alone.
#[test]
fn no_two_images_are_drawn_from_one_stream_and_each_is_the_same_alone() {
    let all = run::<RenderFractalsConfig>(single(json!({"images_per_class": 50})), &testing::codes());
    let images = files(all.rows());
    assert_eq!(images.iter().collect::<BTreeSet<_>>().len(), 150);
    let backgrounds = run::<RenderFractalsConfig>(
        single(json!({"images_per_class": 50, "points": 1, "min_density": 0, "redraws": 0})),
        &testing::codes(),
    );
    assert_eq!(files(backgrounds.rows()).iter().collect::<BTreeSet<_>>().len(), backgrounds.rows().num_rows());
    let some = run::<RenderFractalsConfig>(single(json!({"images_per_class": 50, "only": [149, 0, 77]})), &testing::codes());
    assert_eq!(testing::column(some.rows(), "index"), ["149", "0", "77"]);
    assert_eq!(files(some.rows()), [&images[149], &images[0], &images[77]].map(Clone::clone));
    // The same number of another class, another stage or another seed is another image; more classes and more images change none.
    let fewer = run::<RenderFractalsConfig>(single(json!({"images_per_class": 2})), &testing::codes().slice(1, 1));
    assert_eq!(files(fewer.rows()), images[50..52]);
}

#[test]
fn composed_images_are_the_same_alone() {
    let codes = codes(20);
    let settings = |only: Value| {
        let mut all = json!({"images": 120, "side_px": 64, "points": 3000, "format": "raw"});
        if !only.is_null() {
            all["only"] = only;
        }
        all
    };
    let all = run::<ComposeFractalsConfig>(settings(Value::Null), &codes);
    let some = run::<ComposeFractalsConfig>(settings(json!([119, 3])), &codes);
    for (row, of_all) in [(0, 119), (1, 3)] {
        assert_eq!(some.rows().slice(row, 1), all.rows().slice(of_all, 1));
    }
    assert_eq!(files(all.rows()).iter().collect::<BTreeSet<_>>().len(), 120);
    // Backgrounds too are all different: seen along the upper edge.
    assert_eq!(files(all.rows()).iter().map(|image| image[..64 * 3].to_vec()).collect::<BTreeSet<_>>().len(), 120);
}

#[test]
fn images_are_files_that_decode_to_what_was_drawn() {
    let of = |format: &str| files(run::<RenderFractalsConfig>(single(json!({"format": format})), &testing::codes()).rows());
    let raw = of("raw");
    for format in ["png", "webp", "jpeg"] {
        for (file, raw) in of(format).iter().zip(&raw) {
            let decoded = image::load_from_memory(file).unwrap().into_rgb8();
            assert_eq!(decoded.dimensions(), (48, 48));
            let error = decoded.as_raw().iter().zip(raw).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / raw.len() as f64;
            assert!(if format == "jpeg" { error > 0.0 && error < 25.0 } else { error == 0.0 }, "{format}: {error}");
        }
    }
    assert!(raw.iter().all(|pixels| pixels.len() == 48 * 48 * 3));
    let rows = run::<RenderFractalsConfig>(single(json!({"format": "jpeg"})), &testing::codes());
    let paths = column::<StructArray>(rows.rows(), "image").column(1).as_string::<i32>().value(2).to_owned();
    assert_eq!(paths, "000000002.jpg");
    let sizes = |quality: u8| {
        files(run::<RenderFractalsConfig>(single(json!({"format": "jpeg", "quality": quality})), &testing::codes()).rows()).concat().len()
    };
    assert!(sizes(30) < sizes(95));
}

#[test]
fn an_image_without_a_fractal_is_drawn_again_and_then_rejected() {
    // A window so far from the fractal that few see it.
    let far = |redraws: u8| json!({"window": {"shift": 1.5, "scale": {"min": 0.5, "max": 0.6}}, "images_per_class": 60, "redraws": redraws, "instances": true, "min_density": 0.01});
    let (never, often) =
        (run::<RenderFractalsConfig>(single(far(0)), &testing::codes()), run::<RenderFractalsConfig>(single(far(200)), &testing::codes()));
    assert!(never.rejected.len() > 20 && never.rejected.iter().all(|rejection| rejection.reason == "blank"), "{}", never.rejected.len());
    assert!(never.rejected[0].detail.ends_with("found none in 1 drawings"), "{}", never.rejected[0].detail);
    assert_eq!(never.rejected.len() + never.rows().num_rows(), 180);
    assert_eq!((often.rejected.len(), often.rows().num_rows()), (0, 180));
    assert!(instances(often.rows()).iter().all(|instances| f64::from(whole(instances, "area")[0]) >= 0.01 * 48.0 * 48.0));
    // Images that were good at once are the same.
    let first = column::<Int64Array>(never.rows(), "index").value(0);
    assert_eq!(files(never.rows())[0], files(often.rows())[usize::try_from(first).unwrap()]);
}

#[test]
fn hues_of_images_are_spread_evenly_and_in_8_bits_they_are_not() {
    /// Shares of the hues of saturated pixels in six sixths of the circle, times six.
    fn sixths(colours: &str) -> Vec<f64> {
        let settings = json!({
            "images_per_class": 150, "side_px": 32, "points": 3000, "format": "raw", "colours": colours, "background": "black", "blur": {"chance": 0}
        });
        let mut counts = vec![0.0; 6];
        for image in files(run::<RenderFractalsConfig>(settings, &codes(20)).rows()) {
            let of_image: Vec<usize> = image
                .chunks(3)
                .filter(|rgb| rgb.iter().max().unwrap() - rgb.iter().min().unwrap() > 20)
                .map(|rgb| {
                    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f64::from);
                    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
                    let sixth = if r >= most {
                        (g - b) / (most - least)
                    } else if g >= most {
                        2.0 + (b - r) / (most - least)
                    } else {
                        4.0 + (r - g) / (most - least)
                    };
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 6")]
                    let sixth = (sixth.rem_euclid(6.0)) as usize;
                    sixth.min(5)
                })
                .collect();
            // Every image counts alike.
            of_image.iter().for_each(|sixth| counts[*sixth] += 6.0 / 3000.0 / of_image.len() as f64);
        }
        counts
    }
    // 3,000 images, each of which has most of its hues in one or two sixths: a deviation of about 4 %.
    let even = sixths("hue");
    assert!(even.iter().all(|share| (0.85..1.15).contains(share)), "{even:?}");
    let uneven = sixths("hue_8bit");
    assert!(uneven[0] / uneven[4] > 1.6, "{uneven:?}");
}

#[test]
fn variants_of_fractaldb_are_turned_and_stamped_anew() {
    let settings = json!({"repetitions": 2, "side_px": 64, "points": 20_000, "format": "raw"});
    let got = run::<RenderFractaldbConfig>(settings, &testing::codes());
    assert_eq!((got.rows().num_rows(), got.rejected.len()), (600, 0));
    let images = files(got.rows());
    assert!(images[0].chunks(3).all(|rgb| rgb == [127; 3] || rgb == [0; 3]));
    let turned = |image: &[u8], rows: bool, columns: bool| -> Vec<u8> {
        let at = |at: usize, flip: bool| if flip { 63 - at } else { at };
        (0..64 * 64).flat_map(|pixel| image[3 * (at(pixel / 64, rows) * 64 + at(pixel % 64, columns))..][..3].to_vec()).collect()
    };
    assert_eq!(images[1], turned(&images[0], true, false));
    assert_eq!(images[2], turned(&images[0], false, true));
    assert_eq!(images[3], turned(&images[0], true, true));
    // A repetition has the same points and other stamps; a variant has other points.
    let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64;
    let (repetition, variant) = (differ(&images[0], &images[4]), differ(&images[0], &images[8]));
    assert!(repetition > 0.0 && repetition < variant, "{repetition} {variant}");
    // A margin of six pixels, of which stamps reach one.
    let rows_of = |image: &[u8]| (0..64).filter(|row| image[row * 192..(row + 1) * 192].contains(&127)).collect::<Vec<usize>>();
    let rows = rows_of(&images[0]);
    assert!(*rows.first().unwrap() >= 5 && *rows.last().unwrap() <= 58, "{rows:?}");
}

#[test]
fn variants_of_which_nothing_is_left_are_dropped_with_a_reason() {
    // Stretches ever so little less than it may: with 1.4 and 1.8 times of that, points are past all numbers at once.
    let edge: &[Map] = &[[0.9, 0.3, 1.0, -0.3, 0.9, 0.5], [-0.9, 0.3, -1.0, 0.3, 0.9, -0.5], [0.2, 0.9, 0.1, -0.9, 0.1, 0.9]];
    let codes = RecordBatch::try_from_iter([("maps", testing::maps(&[edge]))]).unwrap();
    let settings = json!({"repetitions": 1, "side_px": 32, "points": 20_000, "step": 1.0});
    let got = testing::check_contract::<RenderFractaldbConfig>(settings, &codes, Balance::Free);
    let (kept, dropped) = (got.rows().num_rows(), got.dropped().num_rows());
    assert!(kept + dropped == 100 && dropped > 0 && dropped.is_multiple_of(4), "{kept} {dropped}");
    assert_eq!(got.drop_reasons, BTreeMap::from([("blank", dropped as u64)]));
    assert!(testing::column(got.dropped(), "drop_value").iter().all(|value| value == "0.0"));
    assert!(got.rejected.is_empty());
}

#[test]
fn a_label_is_a_whole_number_or_the_row_is_rejected() {
    let good: &[Map] = &[[0.5, 0.0, 0.0, 0.0, 0.5, 0.0], [0.5, 0.0, 0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5, 0.5]];
    let codes = |labels: ArrayRef| RecordBatch::try_from_iter([("maps", testing::maps(&[good, good, good])), ("label", labels)]).unwrap();
    let settings = json!({"images_per_class": 1, "side_px": 32, "points": 2000, "format": "raw"});
    let got = run::<RenderFractalsConfig>(settings.clone(), &codes(Arc::new(Int64Array::from(vec![Some(7), None, Some(1 << 40)]))));
    assert_eq!(testing::column(got.rows(), "label"), ["7"]);
    assert!(got.rejected.len() == 2 && got.rejected.iter().all(|rejection| rejection.reason == "wrong_label"), "{:?}", got.rejected);
    for labels in
        [Arc::new(StringArray::from(vec!["cat", "2", "dog"])) as ArrayRef, Arc::new(arrow::array::Float64Array::from(vec![1.5, 2.7, 3.0]))]
    {
        let built = testing::build::<RenderFractalsConfig>(settings.clone(), vec![(Port::FROM, codes(labels).schema())]);
        assert!(built.err().unwrap().to_string().contains("label: Int32"));
    }
}

#[test]
fn systems_that_stretch_are_jittered_too() {
    // As those of FractalDB's search are: the first map stretches before anything is changed.
    let maps: &[Map] = &[[0.9, 0.8, 0.1, 0.2, 0.9, 0.3], [0.4, 0.1, 0.5, -0.1, 0.4, 0.5]];
    for jitter in [Jitter::Scale, Jitter::Svd, Jitter::Fractaldb(crate::units::Fraction::new(0.1).unwrap())] {
        let changed = (0..100).filter(|at| jittered(maps, jitter, &mut Draws::new(1, [*at, 0, 0])) != maps).count();
        assert!(changed > 50, "{jitter:?}: {changed} of 100");
    }
}

#[test]
fn wrong_settings_are_refused_at_the_setting() {
    let one = refusal::<RenderFractalsConfig>;
    assert_eq!(one(json!({"images_per_class": 0})), "images_per_class: wanted a whole number of at least 1, found 0");
    assert_eq!(one(json!({"images_per_class": 1, "side_px": 8})), "side_px: wanted a whole number from 16 to 2048, found 8");
    assert_eq!(one(json!({"images_per_class": 1, "points": 0})), "points: wanted a whole number from 1 to 10000000, found 0");
    assert_eq!(one(json!({"images_per_class": 1, "quality": 0})), "quality: wanted a whole number from 1 to 100, found 0");
    let window = json!({"shift": 0.1, "scale": {"min": 2, "max": 1}});
    assert_eq!(one(json!({"images_per_class": 1, "window": window})), "window.scale: wanted 0.01 <= `min` <= `max` <= 100, found 2 and 1");
    let many = refusal::<ComposeFractalsConfig>;
    assert_eq!(many(json!({"images": 0})), "images: wanted a whole number of at least 1, found 0");
    assert_eq!(many(json!({"images": 1, "instances": {"min": 0, "max": 2}})), "instances: wanted 1 <= `min` <= `max` <= 64, found 0 and 2");
    let weights = |weights: Value| many(json!({"images": 1, "instances": {"min": 1, "max": 3, "weights": weights}}));
    let wanted = "instances.weights: wanted 3 weights, one for each number from 1 to 3, none below 0, with a sum that is a number above 0";
    assert_eq!(weights(json!([1, 0])), format!("{wanted}, found [1.0, 0.0]"));
    // Each is finite and their sum is not.
    assert!(weights(json!([1e308, 1e308, 1e308])).starts_with(wanted) && weights(json!([0, 0, 0])).starts_with(wanted));
    assert_eq!(many(json!({"images": 2, "only": [2]})), "only: wanted numbers below 2, which is how many images there are, found 2");
    assert_eq!(many(json!({"images": 9, "only": [3, 1, 3]})), "only: wanted each number once, found 3 again");
    assert_eq!(one(json!({"images_per_class": 9, "only": [3, 1, 3]})), "only: wanted each number once, found 3 again");
    let size = json!({"min": 0.0, "max": 0.5});
    assert!(many(json!({"images": 2, "size": size})).starts_with("size: wanted 0.00446"));
    // What depends on how many systems come is said when they have come.
    let fails = |settings: Value| {
        let inputs = [(Port::FROM, testing::codes())];
        let built = testing::build::<RenderFractalsConfig>(settings, vec![(Port::FROM, testing::codes().schema())]).unwrap();
        match testing::run_stage(&built, &inputs, testing::CUTS[0]) {
            Err(StageError::Setting { setting, problem, .. }) => format!("{setting}: {problem}"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        fails(json!({"images_per_class": 500_000_000})),
        "images_per_class: wanted at most 1000000000 images in all, found more from 3 systems"
    );
    assert_eq!(
        fails(json!({"images_per_class": 2, "only": [6]})),
        "only: wanted numbers below 6, which is how many images there are, found 6"
    );
}

// --- compose_fractals ---
