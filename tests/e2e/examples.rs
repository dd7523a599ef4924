//! The examples that read fetched pages, as their scripts run them, and what they promise of what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::harness::{Project, asset, repository, said};

/// Runs an example with its pages in `variable`, into `out` of the project.
fn run(example: &str, variable: &str, pages: &Path) -> Project {
    let project = Project::new();
    let output = format!("output={}", project.path("out").display());
    let file = repository().join("examples").join(example);
    let said =
        said(project.command().args(["run"]).arg(file).args(["--set", &output]).env(variable, pages).output().expect("the command starts"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    project
}

fn stage<'r>(record: &'r Value, id: &str) -> &'r Value {
    record["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect("the stage")
}

fn ids(project: &Project, folder: &str, column: &str) -> BTreeSet<String> {
    project.column(folder, column).into_iter().flatten().collect()
}

#[test]
fn a_crawl_and_text_files_become_a_mixture_and_a_holdout() {
    let Some(pages) = asset("GRANARY_WEB_TEXT", "web-text", "the crawled manuals") else { return };
    let project = run("web-text.yaml", "WEB", &pages);
    let record = project.record("out");
    // Every page and every text is accounted for, at every stage that takes rows away.
    for stage in record["stages"].as_array().unwrap().iter().filter(|stage| !["crawl", "train"].contains(&stage["id"].as_str().unwrap())) {
        let given: u64 = ["out", "dropped", "holdout"].iter().map(|port| stage["rows_out"][port].as_u64().unwrap_or(0)).sum();
        assert_eq!(given, stage["rows_in"].as_u64().unwrap(), "{}", stage["id"]);
    }
    assert!(stage(&record, "pages")["rows_out"]["out"].as_u64().unwrap() > 3000);
    assert!(stage(&record, "english")["dropped"]["language"].as_u64().unwrap() > 1000);
    let left = stage(&record, "split")["rows_out"]["out"].as_u64().unwrap();
    assert!((400..3000).contains(&left), "{left}");
    // Nothing of the holdout is trained on, and a repeated row says of which it is the repetition.
    let (train, holdout) = (ids(&project, "out/train", "parent_id"), ids(&project, "out/holdout", "id"));
    assert!(train.is_disjoint(&holdout) && !holdout.is_empty());
    assert_eq!(ids(&project, "out/train", "id").len(), project.count("out/train"));
    // The mix is that of the weights where there is enough; a source that is short is taken twice.
    let figure =
        |name: &str| -> BTreeMap<String, u64> { serde_json::from_value(stage(&record, "train")["figures"][name].clone()).unwrap() };
    let (wanted, units, available) = (figure("mix_wanted"), figure("mix_units"), figure("mix_available"));
    assert_eq!(wanted.values().sum::<u64>(), 1_500_000);
    assert!(units.values().sum::<u64>().abs_diff(1_500_000) < 50_000, "{units:?}");
    assert_eq!(units["library"], 2 * available["library"]);
    assert!(units["python"] * 10 > wanted["python"] * 9 && units["speeches"] * 10 > wanted["speeches"] * 9, "{units:?}");
}

#[test]
fn the_recipe_of_slimpajama_tells_global_from_local() {
    let Some(guides) = asset("GRANARY_INSTALLATION_GUIDE", "installation-guide", "Debian's installation guides") else { return };
    let project = run("slimpajama.yaml", "GUIDES", &guides);
    let record = project.record("out");
    let figures = &stage(&record, "marked")["figures"];
    let (global, local) = (&figures["removed_at"], &figures["removed_local"]);
    // The guides are the same pages: what one has is removed of the other, and by global alone.
    assert_eq!((&local["guide-i386"], &local["guide-amd64"], &global["0.80 guide-amd64"]), (&0.into(), &0.into(), &0.into()), "{figures}");
    let (lost, pages) = (global["0.80 guide-i386"].as_u64().unwrap(), figures["rows_of_source"]["guide-i386"].as_u64().unwrap());
    assert!(lost * 10 > pages * 9 && lost < pages, "{figures}");
    let beyond = global.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>()
        - local.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let report = std::fs::read_to_string(project.path("out/report.html")).unwrap();
    assert!(beyond >= lost && report.contains("What global removes beyond local"));
    let (marked, unique) =
        (stage(&record, "marked")["rows_out"]["out"].as_u64().unwrap(), stage(&record, "unique")["rows_out"]["out"].as_u64().unwrap());
    assert_eq!(marked - unique, global.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>());
}
