//! A folder of its own for each test, the command run in it, and what it left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use arrow::array::{AsArray, RecordBatch};
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

/// A test's folder.
pub(crate) struct Project {
    folder: TempDir,
}

/// What one call of the command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// What lies at the place that a variable names, or under `.assets`; `None`, with a word why, where it does not.
pub(crate) fn asset(variable: &str, place: &str, what: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| repository().join(".assets").join(place), PathBuf::from);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have {what}: {}", path.display());
        eprintln!("skipped: {what} not installed");
        return None;
    }
    Some(path)
}

impl Project {
    /// An empty folder with the bundled samples under `samples/`.
    pub(crate) fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::os::unix::fs::symlink(repository().join("datasets/samples"), project.path("samples")).expect("a link to the samples");
        project
    }

    /// The same with `pipeline.yaml`.
    pub(crate) fn with(yaml: &str) -> Self {
        let project = Self::new();
        project.write("pipeline.yaml", yaml);
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a name in the folder")).expect("folders made");
        fs::write(path, text).expect("written");
    }

    /// The command, to be given arguments. What it says goes through [`said`], so that no panic is passed over.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("NO_COLOR", "1").env_remove("PIPELINE_LOG");
        command
    }

    /// Calls the command.
    pub(crate) fn call(&self, args: &[&str]) -> Said {
        said(self.command().args(args).output().expect("the command starts"))
    }

    /// Runs `pipeline.yaml` to its end, with more arguments.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let said = self.call(&[&["run", "pipeline.yaml"], args].concat());
        assert_eq!(said.code, Some(0), "{said:#?}");
        said
    }

    /// Starts a run that can be killed; its output, too, goes through [`said`].
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command()
            .args(["run", "pipeline.yaml"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts")
    }

    /// The files below `folder` by relative path, as people and readers see them: all but what tells of one run only.
    pub(crate) fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(folder), "", &mut files);
        for of_one_run in
            ["run.json", "report.html", ".pipeline/progress.json", ".pipeline/lock", ".pipeline/inputs.json", ".pipeline/plan.json"]
        {
            files.remove(of_one_run);
        }
        files.retain(|name, _| !name.starts_with(".pipeline/logs/"));
        for (name, mark) in &mut files {
            if name.starts_with(".pipeline/done/") {
                *mark = without_times(mark);
            }
        }
        files
    }

    /// The done marks below `folder`, by name, with the time each was left.
    pub(crate) fn marks(&self, folder: &str) -> BTreeMap<String, (String, std::time::SystemTime)> {
        let entries = fs::read_dir(self.path(folder).join(".pipeline/done")).expect("done marks");
        let mark = |entry: fs::DirEntry| {
            let value: serde_json::Value = serde_json::from_slice(&fs::read(entry.path()).expect("read")).expect("a mark is JSON");
            let left = entry.metadata().and_then(|meta| meta.modified()).expect("a time");
            (entry.file_name().to_string_lossy().into_owned(), (value["task"].as_str().expect("a task").to_owned(), left))
        };
        entries.map(|entry| mark(entry.expect("an entry"))).collect()
    }

    /// All rows of a published folder, its parts in order.
    pub(crate) fn rows(&self, folder: &str) -> Vec<RecordBatch> {
        let mut names: Vec<_> = fs::read_dir(self.path(folder)).expect(folder).map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        let read = |path: PathBuf| {
            let file = fs::File::open(&path).expect("opened");
            ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader").map(|batch| batch.expect("a batch"))
        };
        names.into_iter().flat_map(read).collect()
    }

    /// One text column of a published folder.
    pub(crate) fn column(&self, folder: &str, column: &str) -> Vec<Option<String>> {
        let of_batch = |batch: RecordBatch| {
            let texts = batch.column_by_name(column).unwrap_or_else(|| panic!("{folder} has {column}")).as_string::<i32>().clone();
            texts.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
        };
        self.rows(folder).into_iter().flat_map(of_batch).collect()
    }

    /// How many rows a published folder has; none if it is not there.
    pub(crate) fn count(&self, folder: &str) -> usize {
        if self.path(folder).exists() { self.rows(folder).iter().map(RecordBatch::num_rows).sum() } else { 0 }
    }

    /// A hash of a published folder's rows in order, however they lie in parts.
    pub(crate) fn table_hash(&self, folder: &str) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for batch in self.rows(folder) {
            let fields = batch.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
            let rows = RowConverter::new(fields).expect("sortable columns").convert_columns(batch.columns()).expect("rows");
            rows.iter().for_each(|row| hasher.update(row.as_ref()));
        }
        hasher.digest()
    }

    pub(crate) fn record(&self, folder: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path(folder).join("run.json")).expect("run.json")).expect("run.json is JSON")
    }
}

/// What a call said. No call may ever panic, whatever it was asked, and however it ended.
pub(crate) fn said(output: Output) -> Said {
    let said = Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!said.stderr.contains("panicked at") && !said.stderr.contains("internal error"), "{said:#?}");
    said
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a kind").is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).expect("read"));
        }
    }
}

fn without_times(mark: &[u8]) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(mark).expect("a mark is JSON");
    for totals in value["totals"].as_object_mut().expect("counts by stage").values_mut() {
        totals["busy_seconds"] = 0.into();
        let _ = totals.as_object_mut().and_then(|totals| totals.remove("waited_seconds"));
    }
    value.to_string().into_bytes()
}

/// Names of the files that differ between two folders' files, or are in one only.
pub(crate) fn differences(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}
