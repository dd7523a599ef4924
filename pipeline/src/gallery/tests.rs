use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields};

use super::*;
use crate::report::samples::{self, PLANTED};
use crate::rows::FromValue;
use crate::rows::tests::write_parquet;
use mask::tests::write as write_mask;

const SIDE: u32 = 64;

/// A disc as it stands in a picture: box, and run lengths down the columns.
fn disc(x: i64, y: i64, radius: i64) -> ([f32; 4], String) {
    let (mut lengths, mut end) = (Vec::new(), 0);
    for column in (x - radius).max(0)..(x + radius).min(i64::from(SIDE)) {
        let half = (radius * radius - (column - x).pow(2)).isqrt();
        let (from, to) = ((y - half).max(0), (y + half).min(i64::from(SIDE)));
        if from < to {
            lengths.extend([column * i64::from(SIDE) + from - end, to - from]);
            end = column * i64::from(SIDE) + to;
        }
    }
    lengths.push(i64::from(SIDE * SIDE) - end);
    ([x - radius, y - radius, 2 * radius, 2 * radius].map(|edge| edge as f32), write_mask(&lengths))
}

fn pixels(seed: u32) -> Vec<u8> {
    (0..SIDE * SIDE).flat_map(|at| [at % SIDE * 3, at / SIDE * 3, seed * 40]).map(|value| u8::try_from(value % 256).unwrap_or(0)).collect()
}

/// Things of one picture: label, box, runs.
type Things = Vec<(i32, [f32; 4], String)>;

fn list(item: &Field, lengths: &[usize], items: ArrayRef) -> ArrayRef {
    Arc::new(ListArray::try_new(Arc::new(item.clone()), OffsetBuffer::from_lengths(lengths.iter().copied()), items, None).unwrap())
}

fn fixed(values: ArrayRef, n: i32) -> ArrayRef {
    Arc::new(FixedSizeListArray::try_new(Arc::new(Field::new("item", values.data_type().clone(), false)), n, values, None).unwrap())
}

fn structs(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let fields: Fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    Arc::new(StructArray::try_new(fields, columns.into_iter().map(|(_, column)| column).collect(), None).unwrap())
}

/// Pictures with things in them, as `compose_fractals` gives them.
fn composed(ids: &[&str], things: &[Things]) -> RecordBatch {
    let n = ids.len();
    let files: Vec<Vec<u8>> = (0..n).map(|seed| bytes::png(SIDE, SIDE, Colours::Rgb, &pixels(u32::try_from(seed).unwrap()))).collect();
    let lengths: Vec<usize> = things.iter().map(Vec::len).collect();
    let all: Vec<&(i32, [f32; 4], String)> = things.iter().flatten().collect();
    let whole = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
    let labels = whole(all.iter().map(|thing| thing.0).collect());
    let boxes: Float32Array = all.iter().flat_map(|thing| thing.1).map(Some).collect();
    let counts: StringArray = all.iter().map(|thing| Some(thing.2.as_str())).collect();
    let sizes = whole(vec![i32::try_from(SIDE).unwrap(); all.len() * 2]);
    let instances = structs(vec![
        ("label", Arc::clone(&labels)),
        ("bbox", fixed(Arc::new(boxes), 4)),
        ("area", whole(vec![77; all.len()])),
        ("segmentation", structs(vec![("size", fixed(sizes, 2)), ("counts", Arc::new(counts))])),
        ("depth", whole((0..).take(all.len()).collect())),
        ("visible", Arc::new(Float32Array::from(vec![0.75; all.len()]))),
    ]);
    let item = |array: &ArrayRef| Field::new("item", array.data_type().clone(), true);
    let side = || whole(vec![i32::try_from(SIDE).unwrap(); n]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(ids.to_vec()))),
        (
            "image",
            structs(vec![
                ("bytes", Arc::new(BinaryArray::from_iter_values(&files))),
                ("path", Arc::new(StringArray::from(vec![Some("000.png"); n]))),
            ]),
        ),
        ("width", side()),
        ("height", side()),
        ("labels", list(&item(&labels), &lengths, labels)),
        ("instances", list(&item(&instances), &lengths, instances)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn row(batch: &RecordBatch, row: usize) -> Row<Cell> {
    let schema = batch.schema();
    let value = |(field, column): (&Arc<Field>, &ArrayRef)| (field.name().clone(), Cell::of_array(column.as_ref(), row, 0));
    Row { number: row as u64, values: schema.fields().iter().zip(batch.columns()).map(value).collect() }
}

fn drawn(row: &Row<Cell>) -> (String, Drawn) {
    let (mut out, mut drawn) = (String::new(), Drawn::default());
    Picture::of(row).expect("a picture").write("id", &mut Room { left: 1 << 20, written: 0 }, &mut drawn, &mut out);
    (out, drawn)
}

fn two_discs() -> Things {
    let ((small, small_mask), (large, large_mask)) = (disc(16, 40, 9), disc(40, 24, 18));
    vec![(3, small, small_mask), (17, large, large_mask)]
}

#[test]
fn things_are_drawn_over_their_picture() {
    let (html, drawn) = drawn(&row(&composed(&["a"], &[two_discs()]), 0));
    assert!(drawn.boxes && drawn.masks && drawn.names);
    assert!(html.contains("src=\"data:image/png;base64,iVBOR") && html.contains("alt=\"id, with 2 instances marked in it\""), "{html}");
    assert!(
        html.contains("<svg viewBox=\"0 0 64 64\"") && html.contains("<rect class=\"box\" x=\"7\" y=\"31\" width=\"18\" height=\"18\"/>"),
        "{html}"
    );
    assert!(html.contains("<title>label 17 · 75 % visible · depth 1 · area 77</title>"), "{html}");
    assert!(html.matches("class=\"mask\"").count() == 2 && html.matches("class=\"name\"").count() == 2, "{html}");
    assert!(
        html.contains("<li><bdi>3</bdi></li><li><bdi>17</bdi></li>") && html.contains("<small><bdi>000.png · 64 × 64, PNG, "),
        "{html}"
    );
    let colours: Vec<&str> = html.match_indices("<g style=\"--c:rgb(").map(|(at, _)| &html[at + 18..at + 28]).collect();
    assert!(colours[0] != colours[1]);
    assert!(!html.contains("note"), "{html}");
}

#[test]
fn hostile_masks_and_boxes_are_left_out_and_said() {
    let bad = |label, bbox, counts: &str| (label, bbox, counts.to_owned());
    let things = vec![
        bad(1, [f32::NAN, 0.0, 1.0, 1.0], &write_mask(&[i64::from(SIDE * SIDE)])),
        bad(2, [0.0, 0.0, -5.0, 5.0], "oooooooooooooooooooo"),
        bad(3, [1e30, 0.0, 5.0, 5.0], &write_mask(&[12])),
        bad(4, [-3.0, -3.0, 900.0, 900.0], "\u{202e}<script>"),
    ];
    let (html, drawn) = drawn(&row(&composed(&["a"], &[things]), 0));
    assert_eq!(html.matches("<rect").count(), 1);
    assert!(drawn.boxes && !drawn.masks, "an empty mask is no mark");
    assert!(html.contains("a box is not drawn: its four numbers are no box"), "{html}");
    assert!(html.contains("a mask is not drawn: it has a run that is too long"), "{html}");
    assert!(!html.contains("<script>") && !html.contains('\u{202e}'), "{html}");
    // One of another size, and one that is none.
    let mut other = row(&composed(&["a"], &[two_discs()]), 0);
    for (name, value) in &mut other.values {
        if name == "instances" {
            *value = Cell::of_json(
                &serde_json::json!([
                    {"bbox": [0, 0, 5, 5], "segmentation": {"size": [2, 2], "counts": write_mask(&[4])}, "label": PLANTED},
                    {"bbox": [0, 0], "segmentation": [[1, 2, 3, 4]]},
                ]),
                0,
            );
        }
    }
    let (html, _) = super::tests::drawn(&other);
    assert!(html.contains("it is one of 2 × 2 pixels") && html.contains("it is none that COCO knows"), "{html}");
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
}

#[test]
fn one_thing_may_stand_in_the_columns_of_the_row() {
    let whole = composed(&["a"], &[two_discs()]);
    let mut row = row(&whole, 0);
    row.values.retain(|(name, _)| name != "instances" && name != "labels");
    let (bbox, counts) = disc(20, 20, 6);
    row.values.push(("bbox".to_owned(), Cell::of_json(&serde_json::json!(bbox), 0)));
    row.values.push(("segmentation".to_owned(), Cell::of_json(&serde_json::json!({"size": [SIDE, SIDE], "counts": counts}), 0)));
    row.values.push(("label".to_owned(), Cell::of_json(&"cat".into(), 0)));
    let (html, _) = drawn(&row);
    assert!(html.contains("class=\"mask\"") && html.contains(">cat</text>") && html.contains("1 instance<"), "{html}");
    // Without anything it is a picture still.
    row.values.retain(|(name, _)| name == "image");
    let (html, _) = drawn(&row);
    assert!(html.contains("64 × 64, PNG") && !html.contains("<svg"), "{html}");
}

#[test]
fn pixels_are_drawn_where_they_are_as_many_as_width_and_height_say() {
    let picture = |n: usize| {
        let values = vec![
            ("pixels".to_owned(), Cell::of_array(&BinaryArray::from(vec![&vec![200_u8; n][..]]), 0, 0)),
            ("width".to_owned(), Cell::Plain("4".to_owned())),
            ("height".to_owned(), Cell::Plain("5".to_owned())),
        ];
        let row = Row { number: 0, values };
        Picture::of(&row).is_some().then(|| drawn(&row).0)
    };
    for n in [20, 60, 80] {
        let html = picture(n).expect("a picture");
        assert!(html.contains("src=\"data:image/png;base64,iVBOR") && html.contains("<small>4 × 5, pixels</small>"), "{html}");
    }
    assert!([0, 19, 59, 61].into_iter().all(|n| picture(n).is_none()));
}

#[test]
fn what_a_page_has_no_room_for_is_said() {
    let rows = row(&composed(&["a"], &[two_discs()]), 0);
    let picture = Picture::of(&rows).expect("a picture");
    let (mut out, mut drawn, mut room) = (String::new(), Drawn::default(), Room { left: 10, written: 0 });
    picture.write("a", &mut room, &mut drawn, &mut out);
    assert!(out.contains("this page holds no more images") && !out.contains("<img") && room.left == 10, "{out}");
    let Cell::Struct(fields) = &rows.values[1].1 else { panic!("a struct") };
    let Cell::Image { len, .. } = fields[0].1 else { panic!("an image") };
    let (mut out, mut room) = (String::new(), Room { left: len + 20, written: 0 });
    picture.write("a", &mut room, &mut drawn, &mut out);
    assert!(out.contains("<img") && out.contains("masks are not drawn") && out.contains("class=\"box\""), "{out}");
}

#[test]
fn rows_are_spread_evenly_over_all_files() {
    assert_eq!(spread(&[10], 2), [(0, vec![2, 7])]);
    assert_eq!(spread(&[4, 0, 4], 4), [(0, vec![1, 3]), (2, vec![1, 3])]);
    assert_eq!(spread(&[1, 1, 1], 9), [(0, vec![0]), (1, vec![0]), (2, vec![0])]);
    assert_eq!((spread(&[], 3), spread(&[0, 0], 3), spread(&[5], 0)), (vec![], vec![], vec![]));
    let far = spread(&[u64::MAX / 2, u64::MAX / 2], 3);
    assert_eq!(far.len(), 2);
}

/// Writes pages for looking at in a browser: `REPORT_SAMPLES=folder cargo test -p pipeline gallery`.
#[test]
fn a_report_shows_pictures_of_every_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = samples::web();
    let parts: Vec<_> = (0..3)
        .map(|part| {
            let ids: Vec<String> = (0..20).map(|n| format!("composed/{}", part * 20 + n)).collect();
            let things = |n: i64| -> Things {
                (0..n % 5)
                    .map(|k| {
                        let (bbox, mask) = disc(9 + 11 * k, 12 + n * 7 % 40, 6 + n % 7);
                        (i32::try_from(n * 31 + k * 7).unwrap() % 100, bbox, mask)
                    })
                    .collect()
            };
            let all: Vec<Things> = (0..20).map(|n| things(n + i64::from(part))).collect();
            let name = format!("part-{part:05}.parquet");
            write_parquet(
                &folder.path().join("sft").join(&name),
                &composed(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &all),
                false,
            );
            crate::record::PublishedPart { name, rows: 20, bytes: 1 }
        })
        .collect();
    for published in record.stages.iter_mut().flat_map(|stage| &mut stage.published).filter(|published| published.folder == "sft") {
        (published.rows, published.parts) = (60, parts.clone());
    }
    let section = of_output(folder.path(), &record);
    assert_eq!(section.matches("class=\"pic\"").count(), IN_REPORT);
    for id in ["composed/2", "composed/22", "composed/57"] {
        assert!(section.contains(&format!("<bdi>{id}</bdi>")), "{id}");
    }
    assert!(section.contains("12 of 60 rows, spread evenly over them") && section.contains("class=\"t-mask\" checked"), "{section}");
    let page = crate::report::render_with(&record, &crate::report::FromRows { pictures: section.clone(), ..Default::default() });
    assert!(page.contains("<li><a href=\"#pictures\">Pictures</a></li>") && !page.contains("<script"));
    assert_eq!(of_output(folder.path(), &record), section, "the same rows each time");
    if let Some(to) = std::env::var_os("REPORT_SAMPLES") {
        std::fs::write(Path::new(&to).join("pictures.html"), page).unwrap();
    }
    // A record that leads elsewhere leads nowhere.
    for published in record.stages.iter_mut().flat_map(|stage| &mut stage.published) {
        published.folder = format!("x/../{}", published.folder);
    }
    assert_eq!(of_output(folder.path(), &record), "");
}
