//! Images of fractals, as the example makes them: nothing is read, and an image is the same in a run of its own.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Int32Type};

use crate::harness::{Project, Said, repository, said};

/// Runs the example, smaller, into `out` of the project.
fn run(project: &Project, more: &[&str]) -> Said {
    let output = format!("output={}", project.path("out").display());
    let small =
        ["--set", &output, "--set", "stages.systems.classes=30", "--set", "stages.images.side_px=64", "--set", "stages.images.points=5000"];
    let file = repository().join("examples/fractals.yaml");
    said(project.command().arg("run").arg(file).args(small).args(["--device", "cpu"]).args(more).output().expect("the command starts"))
}

fn said_of(project: &Project, file: &std::path::Path) -> Said {
    said(project.command().arg("check").arg(file).output().expect("the command starts"))
}

fn images(project: &Project) -> RecordBatch {
    let batches = project.rows("out/images");
    concat_batches(&batches[0].schema(), &batches).expect("rows of one schema")
}

fn files(images: &RecordBatch) -> Vec<Vec<u8>> {
    let image = images.column_by_name("image").expect("images").as_struct();
    image.column(0).as_binary::<i32>().iter().map(|file| file.expect("a file").to_vec()).collect()
}

#[test]
fn the_example_makes_images_with_boxes_and_an_image_again_alone() {
    let project = Project::new();
    let made = run(&project, &["--set", "stages.images.images=2500"]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    let all = images(&project);
    assert_eq!(all.num_rows(), 2500);
    let record = project.record("out");
    let stage = record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == "images").expect("the stage");
    assert_eq!((stage["rows_in"].as_u64(), stage["rows_out"]["out"].as_u64()), (Some(30), Some(2500)));
    // Every file is a JPEG, and every box lies in its image.
    let files_of_all = files(&all);
    assert!(files_of_all.iter().all(|file| file.starts_with(&[0xFF, 0xD8, 0xFF]) && file.ends_with(&[0xFF, 0xD9])));
    let instances = all.column_by_name("instances").expect("instances").as_list::<i32>();
    let fields = instances.values().as_struct();
    let boxes = fields.column_by_name("bbox").expect("boxes").as_fixed_size_list();
    let edges = boxes.values().as_primitive::<Float32Type>().values();
    assert!(edges.chunks(4).all(|edge| edge[0] >= 0.0 && edge[2] >= 1.0 && edge[0] + edge[2] <= 64.0 && edge[1] + edge[3] <= 64.0));
    let areas = fields.column_by_name("area").expect("areas").as_primitive::<Int32Type>();
    assert!(areas.iter().all(|area| area.is_some_and(|area| area > 0)) && areas.len() > 5000);
    // Made again alone, they are the same.
    let again = Project::new();
    let made = run(&again, &["--set", "stages.images.images=2500", "--set", "stages.images.only=[2499, 7]"]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    assert_eq!(files(&images(&again)), [&files_of_all[2499], &files_of_all[7]].map(Clone::clone));
}

#[test]
fn more_images_than_there_is_room_for_are_refused_before_the_first() {
    let project = Project::new();
    let said = run(
        &project,
        &["--set", "stages.images.images=1000000000", "--set", "stages.images.side_px=2048", "--set", "stages.images.format=raw"],
    );
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.stderr.contains("1,000,000,000 images") || said.stderr.contains("10^9 images"), "{said:#?}");
    let said = run(&project, &["--set", "stages.images.images=1000000000000"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    let in_one_line = |said: &Said| said.stderr.replace("\n  │ ", " ");
    assert!(in_one_line(&said).contains("10^12 images of 64 x 64 as JPEG take about 1.5 PiB; "), "{said:#?}");
    // Of each of a known number of systems, even where the product is past all numbers.
    for each in ["1000000000000", "18446744073709551615"] {
        project.write(
            "each.yaml",
            format!(
                "version: 1\nname: each\nseed: 1\noutput: each\nstages:\n  systems: {{use: sample_ifs, classes: 1000}}\n  \
                 images: {{use: render_fractals, from: systems, images_per_class: {each}}}\n"
            ),
        );
        let said = said_of(&project, &project.path("each.yaml"));
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(
            in_one_line(&said).contains(" images of 224 x 224 as JPEG take about ") && said.stderr.contains("`images_per_class`"),
            "{said:#?}"
        );
    }
    assert!(!project.path("out/images").exists());
}

#[test]
fn images_that_show_nothing_are_held_against_all_images() {
    let project = Project::new();
    let text = |more: &str| {
        format!(
            "version: 1\nname: few\nseed: 7\noutput: few\nstages:\n  systems: {{use: sample_ifs, classes: 3, min_density: 0.02}}\n  images: {{use: \
             render_fractals, from: systems, images_per_class: 1000, side_px: 32, points: 300, min_density: 0.07, redraws: 0, {more}}}\n"
        )
    };
    let run = |project: &Project| {
        said(
            project
                .command()
                .arg("run")
                .arg(project.path("few.yaml"))
                .args(["--fresh", "--device", "cpu"])
                .output()
                .expect("the command starts"),
        )
    };
    project.write("few.yaml", text("max_rejected: 0.5"));
    let made = run(&project);
    assert_eq!(made.code, Some(0), "{made:#?}");
    let record = project.record("few");
    let images = record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == "images").expect("the stage");
    let rejected = images["rejected"]["blank"].as_u64().expect("some show nothing");
    // More than systems came in, and a small share of the images.
    assert!((4..300).contains(&rejected), "{rejected}");
    project.write("few.yaml", text("max_rejected: 0.000001"));
    let made = run(&project);
    assert_eq!(made.code, Some(if rejected > 10 { 3 } else { 0 }), "{made:#?}");
    assert!(rejected <= 10 || made.stderr.contains(&format!("rejected {rejected} of 3,000 rows")), "{made:#?}");
    // An image that there is not, of a known number of systems.
    project.write("few.yaml", text("only: [3000]"));
    let made = said_of(&project, &project.path("few.yaml"));
    assert!(made.code == Some(2) && made.stderr.contains("wanted numbers below 3000"), "{made:#?}");
}
