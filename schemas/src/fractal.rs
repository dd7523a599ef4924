//! `fractal`: codes of iterated function systems (IFS), and images of their attractors with what a trainer wants to know of each.

use std::sync::Arc;

use arrow::array::{BinaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};

use crate::{Column, ColumnSpec};

/// The class: the number of the system.
pub const LABEL: Column<Int32Array> = Column::new("label", DataType::Int32, "class: the number of the system");

/// How many maps a system has.
pub const N_MAPS: Column<Int8Array> = Column::new("n_maps", DataType::Int8, "maps of the system");

/// Of all maps, the greater singular value and twice the lesser one.
pub const SIGMA_FACTOR: Column<Float64Array> =
    Column::new("sigma_factor", DataType::Float64, "sum over the maps of the greater singular value and twice the lesser one");

/// How much of a picture the attractor covers.
pub const DENSITY: Column<Float32Array> =
    Column::new("density", DataType::Float32, "share of the pixels that the attractor covers; null if not measured");

/// Numbers of one map.
pub const MAP_NUMBERS: i32 = 6;

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn fixed_list(item: DataType, n: i32) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new_list_field(item, true)), n)
}

/// A field within a struct: `_what` is for readers of this file, as descriptions there would stand in every printed type.
fn field(name: &str, data_type: DataType, _what: &str) -> Field {
    Field::new(name, data_type, true)
}

/// The maps of a system, each `a b e c d f`: `x' = a x + b y + e`, `y' = c x + d y + f`.
pub fn maps() -> Column<ListArray> {
    Column::new(
        "maps",
        list(fixed_list(DataType::Float64, MAP_NUMBERS)),
        "maps of the system, each a b e c d f: x' = a x + b y + e, y' = c x + d y + f",
    )
}

/// What each map was made of.
pub fn svd() -> Column<ListArray> {
    Column::new(
        "svd",
        list(DataType::Struct(svd_fields())),
        "what each map was made of: R(theta) diag(sign_u) diag(s1, s2) R(phi) diag(sign_v); null if it was not made so",
    )
}

/// The fields of one item of [`svd`].
pub fn svd_fields() -> Fields {
    Fields::from(vec![
        field("theta", DataType::Float64, "first rotation, radians"),
        field("phi", DataType::Float64, "second rotation, radians"),
        field("s1", DataType::Float64, "greater singular value"),
        field("s2", DataType::Float64, "lesser singular value"),
        field("sign_u", fixed_list(DataType::Int8, 2), "signs behind the first rotation"),
        field("sign_v", fixed_list(DataType::Int8, 2), "signs behind the second rotation"),
    ])
}

/// All columns of IFS codes, behind their `id`.
pub fn code_columns() -> [ColumnSpec; 6] {
    [LABEL.spec(), N_MAPS.spec(), maps().spec(), svd().spec(), SIGMA_FACTOR.spec(), DENSITY.spec()]
}

/// The number of an image among all of its stage, by which it can be made again alone.
pub const INDEX: Column<Int64Array> =
    Column::new("index", DataType::Int64, "number of the image among all of the stage: what makes it again, with the run's seed");

/// Columns of pixels.
pub const WIDTH: Column<Int32Array> = Column::new("width", DataType::Int32, "columns of pixels");

/// Rows of pixels.
pub const HEIGHT: Column<Int32Array> = Column::new("height", DataType::Int32, "rows of pixels");

/// Uncompressed pixels: `[height][width][3]`.
pub const PIXELS: Column<BinaryArray> = Column::new("pixels", DataType::Binary, "red, green and blue of each pixel, row by row");

/// An encoded image, as Hugging Face `datasets` reads it.
pub fn image() -> Column<StructArray> {
    Column::new("image", DataType::Struct(image_fields()), "the encoded image, and a file name for it")
}

/// The fields of [`image`].
pub fn image_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

/// The classes that are in an image.
pub fn labels() -> Column<ListArray> {
    Column::new(
        "labels",
        list(DataType::Int32),
        "classes of the fractals in the image, in the order in which they are painted; with repeats",
    )
}

/// The fractals that can be seen in an image.
pub fn instances() -> Column<ListArray> {
    Column::new(
        "instances",
        list(DataType::Struct(instance_fields())),
        "the fractals that can be seen, in the order in which they are painted",
    )
}

/// The fields of one item of [`instances`].
pub fn instance_fields() -> Fields {
    Fields::from(vec![
        field("label", DataType::Int32, "class: the number of the system"),
        field("bbox", fixed_list(DataType::Float32, 4), "x, y, width, height of the visible part, pixels (COCO)"),
        field("area", DataType::Int32, "visible pixels"),
        field("segmentation", DataType::Struct(segmentation_fields()), "the visible pixels (COCO run lengths)"),
        field("depth", DataType::Int32, "how manieth it was painted, from 0; later ones cover earlier ones"),
        field("visible", DataType::Float32, "share of its own pixels that can be seen"),
        field("size", DataType::Int32, "side of its square, pixels"),
        field("x", DataType::Int32, "left edge of its square, pixels; may be outside"),
        field("y", DataType::Int32, "upper edge of its square, pixels; may be outside"),
        field("transpose", DataType::Boolean, "whether rows and columns changed places"),
        field("flip_rows", DataType::Boolean, "whether it was then put upside down"),
        field("flip_columns", DataType::Boolean, "whether it was then mirrored"),
        field("hue", DataType::Float32, "where its hues begin, turns"),
        field("saturation", DataType::Float32, "saturation, 0 to 1"),
        field("value", DataType::Float32, "brightness, 0 to 1"),
    ])
}

/// The fields of a COCO mask.
pub fn segmentation_fields() -> Fields {
    Fields::from(vec![
        field("size", fixed_list(DataType::Int32, 2), "height and width of the image, pixels"),
        field("counts", DataType::Utf8, "run lengths down the columns, COCO's compressed text"),
    ])
}
