//! Stores what a task makes: checkpoints for the stages that read it, pieces of parts for people, both cut by content.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datasets::{PartWriter, Recut, part_writer};
use gpu::{DeviceClass, Ran};
use schemas::{describe, document, row_bytes};
use stages::{Emit, Port, Rejection};

use super::RunError;
use super::cache::{Home, Room};
use super::context::Context;
use super::log::{About, Level};
use crate::fingerprint::Fingerprint;
use crate::graph::{Checkpoints, DroppedRows, Edge};
use crate::ipc::CheckpointPart;
use crate::marks::{Form, StoredFile, data_of};
use crate::plan::Stored;
use crate::profile::{Profiler, add, add_counts};
use crate::record::{FELL_BACK, StageTotals};
use crate::store::{ObjectWriter, hash_pieces};

/// A shard holds at most this many bytes of rows, unless it is a single row.
pub(super) const SHARD_BYTES: u64 = 64 << 20;

/// Tells where one shard ends and the next begins, from the rows alone.
#[derive(Debug)]
pub(super) struct ShardCutter {
    max_rows: u64,
    rows: u64,
    bytes: u64,
}

impl ShardCutter {
    /// A cutter that has seen no row.
    pub(super) fn new(max_rows: u64) -> Self {
        Self { max_rows, rows: 0, bytes: 0 }
    }

    /// Cuts `batch` at the ends of shards; `true` follows a piece that ends one. Pieces are slices.
    pub(super) fn cut(&mut self, batch: &RecordBatch) -> Vec<(RecordBatch, bool)> {
        let sizes = row_bytes(batch);
        let mut pieces = Vec::new();
        let mut start = 0;
        for (row, size) in sizes.iter().enumerate() {
            if self.rows > 0 && (self.rows >= self.max_rows || self.bytes + size > SHARD_BYTES) {
                // The shard was full before this row: end it with the rows before, which may be none of this batch.
                pieces.push((batch.slice(start, row - start), true));
                start = row;
                (self.rows, self.bytes) = (0, 0);
            }
            self.rows += 1;
            self.bytes += size;
        }
        if start < sizes.len() {
            pieces.push((batch.slice(start, sizes.len() - start), false));
        }
        pieces
    }
}

/// Columns of what a stage rejected.
pub fn rejected_schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType, nullable: bool, what: &str| describe(Field::new(name, data_type, nullable), what);
    Arc::new(Schema::new(vec![
        field("id", DataType::Utf8, true, "id of the row, where it has one"),
        field("file", DataType::Utf8, true, "file it was read from"),
        field("offset", DataType::UInt64, true, "byte offset in the (decompressed) file, or row number, where it begins"),
        field("reason", DataType::Utf8, false, "why it was rejected"),
        field("detail", DataType::Utf8, false, "what was wanted and what was found"),
    ]))
}

fn rejected_batch(rejections: &[Rejection]) -> Result<RecordBatch, RunError> {
    let columns: [ArrayRef; 5] = [
        Arc::new(rejections.iter().map(|row| row.id.as_deref()).collect::<StringArray>()),
        Arc::new(rejections.iter().map(|row| row.file.as_deref()).collect::<StringArray>()),
        Arc::new(rejections.iter().map(|row| row.offset).collect::<UInt64Array>()),
        Arc::new(rejections.iter().map(|row| Some(row.reason)).collect::<StringArray>()),
        Arc::new(rejections.iter().map(|row| Some(row.detail.as_str())).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(rejected_schema(), columns.to_vec())?)
}

/// What the kernels of a stage ran on in one task; later ones count more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RanOn {
    Cpu,
    Gpu,
    FellBack,
}

impl RanOn {
    fn of(ran: &Ran) -> Self {
        match ran {
            Ran::Cpu => Self::Cpu,
            Ran::Gpu => Self::Gpu,
            Ran::FellBack(_) => Self::FellBack,
        }
    }

    /// In [`StageTotals::ran_on`].
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => DeviceClass::Cpu.as_str(),
            Self::Gpu => DeviceClass::Gpu.as_str(),
            Self::FellBack => FELL_BACK,
        }
    }
}

/// Takes what the stages of one task give, stores it, and counts it.
pub(super) struct Outputs {
    cx: Arc<Context>,
    task: Fingerprint,
    /// Tells the files of this collector from those of others of the same task.
    part: usize,
    /// The output whose rows can be read again from the source as fast as from a copy.
    reads_again: Option<Edge>,
    sinks: BTreeMap<Edge, Sink>,
    stages: BTreeMap<usize, (StageTotals, Profiler)>,
    /// What the kernels of stages ran on.
    ran: BTreeMap<usize, RanOn>,
}

impl Outputs {
    /// A collector for shard `part` of a task.
    pub(super) fn new(cx: &Arc<Context>, task: &Fingerprint, part: usize) -> Self {
        Self {
            cx: Arc::clone(cx),
            task: task.clone(),
            part,
            reads_again: None,
            sinks: BTreeMap::new(),
            stages: BTreeMap::new(),
            ran: BTreeMap::new(),
        }
    }

    /// Makes no copy on disk of the rows of `source` where there is room for them in memory.
    pub(super) fn read_again(mut self, source: usize) -> Self {
        self.reads_again = Some(Edge { node: source, port: Port::OUT });
        self
    }

    /// Counts rows that came into a stage.
    pub(super) fn came_in(&mut self, node: usize, rows: u64, bytes: u64) {
        let (totals, _) = self.stages.entry(node).or_default();
        totals.rows_in += rows;
        totals.peak_bytes += bytes; // of one task; those of several merge to the largest
        self.cx.progress.came_in(node, rows);
    }

    /// Counts the rows that a stage without an input made: as those of a source, they count as having come in.
    pub(super) fn count_made(&mut self, node: usize) {
        let (totals, _) = self.stages.entry(node).or_default();
        let given = [Port::OUT, Port::DROPPED].iter().map(|port| totals.rows_through(port.as_str())).sum::<u64>();
        let (rows, bytes) = (given + totals.rejected_rows(), totals.bytes_out);
        self.came_in(node, rows, bytes);
    }

    /// Counts time in which a task did nothing but wait for those that a stage asks.
    pub(super) fn has_waited(&mut self, node: usize, seconds: f64) {
        self.stages.entry(node).or_default().0.waited_seconds += seconds;
    }

    /// Counts time spent in a stage's own code.
    pub(super) fn was_busy(&mut self, node: usize, time: std::time::Duration) {
        self.stages.entry(node).or_default().0.busy_seconds += time.as_secs_f64();
    }

    /// Stores and counts everything a stage gave since the last call; returns the rows of its main output.
    ///
    /// # Errors
    /// What the storage or a format says.
    pub(super) fn take(&mut self, node: usize, emit: &mut Emit) -> Result<Vec<RecordBatch>, RunError> {
        let mut main = Vec::new();
        for (port, batch) in emit.take_batches() {
            let rows = batch.num_rows() as u64;
            let (totals, profiler) = self.stages.entry(node).or_default();
            *totals.rows_out.entry(port.to_string()).or_default() += rows;
            let schema_of = |port: &Port| self.cx.graph.nodes[node].outputs.get(port);
            if port != Port::DROPPED && schema_of(&port) == schema_of(&Port::OUT) {
                profiler.kept(&batch);
            }
            if port == Port::OUT {
                for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()).filter(|(_, column)| column.null_count() > 0)
                {
                    add(totals.nulls.entry(field.name().clone()).or_default(), column.null_count() as u64);
                }
                self.cx.progress.went_out(node, rows);
                if let Some(tagged) = self.cx.graph.nodes[node].outputs.tagged_rows(&batch)? {
                    profiler.dropped(&tagged);
                    count_reasons(&tagged, &mut totals.tagged);
                    self.cx.progress.tagged(node, tagged.num_rows() as u64);
                }
            } else if port == Port::DROPPED {
                profiler.dropped(&batch);
                count_reasons(&batch, &mut totals.dropped);
                self.cx.progress.dropped(node, rows);
            }
            let bytes = self.store(Edge { node, port: port.clone() }, &batch)?;
            if port == Port::OUT {
                self.stages.entry(node).or_default().0.bytes_out += bytes;
                main.push(batch);
            }
        }
        for (figure, counts) in emit.take_figures() {
            let totals = &mut self.stages.entry(node).or_default().0;
            add_counts(totals.figures.entry(figure.to_owned()).or_default(), counts);
        }
        for (name, measured) in emit.take_measured() {
            let totals = &mut self.stages.entry(node).or_default().0;
            totals.measured.entry(name.to_owned()).or_default().merge(measured);
        }
        if let Some(ran) = emit.take_ran() {
            let before = self.ran.entry(node).or_insert(RanOn::Cpu);
            if let (Ran::FellBack(why), RanOn::Cpu | RanOn::Gpu) = (&ran, *before) {
                let about = About::stage(&self.cx.graph.nodes[node].id);
                self.cx.log.line(Level::Warn, about, format!("the processor steps in for the GPU: {why}"));
            }
            *before = (*before).max(RanOn::of(&ran));
        }
        let rejections = emit.take_rejections();
        self.reject(node, &rejections)?;
        Ok(main)
    }

    /// Stores and counts what a stage rejected.
    ///
    /// # Errors
    /// What the storage or a format says.
    pub(super) fn reject(&mut self, node: usize, rejections: &[Rejection]) -> Result<(), RunError> {
        if rejections.is_empty() {
            return Ok(());
        }
        let (totals, _) = self.stages.entry(node).or_default();
        for rejection in rejections {
            *totals.rejected.entry(rejection.reason.to_owned()).or_default() += 1;
        }
        self.cx.progress.rejected(node, rejections.len() as u64);
        self.cx.log.rejected(&self.cx.graph.nodes[node].id, rejections);
        self.store(Edge { node, port: Port::REJECTED }, &rejected_batch(rejections)?)?;
        Ok(())
    }

    /// Bytes of the rows.
    fn store(&mut self, edge: Edge, batch: &RecordBatch) -> Result<u64, RunError> {
        let cx = Arc::clone(&self.cx);
        let Some(stored) = cx.plan.stored.get(&edge).filter(|stored| stored.checkpoint || stored.publish.is_some()) else {
            return Ok(schemas::batch_bytes(batch));
        };
        let name = format!("{}/{}.{}.{}", data_of(&self.task), cx.graph.nodes[edge.node].id, edge.port, self.part);
        let source_shard = (self.reads_again.as_ref() == Some(&edge)).then_some(self.part);
        let ids_only = edge.port == Port::DROPPED && cx.graph.nodes[edge.node].dropped == DroppedRows::Ids;
        let sink = self.sinks.entry(edge).or_insert_with(|| Sink {
            source_shard,
            published: ids_only.then(|| columns_of_ids(batch.schema_ref())),
            ..Sink::new(stored.clone(), name, cx.shard_rows)
        });
        let mut bytes = 0;
        for (piece, ends) in sink.cutter.cut(batch) {
            bytes += schemas::batch_bytes(&piece);
            sink.write(&cx, &piece)?;
            if ends {
                sink.finish_file(&cx)?;
            }
        }
        Ok(bytes)
    }

    /// Ends all files. What was stored, by stage and port in the plan's order, and what was counted.
    ///
    /// # Errors
    /// What the storage or a format says.
    pub(super) fn finish(mut self) -> Result<Finished, RunError> {
        let mut files = Vec::new();
        for (edge, mut sink) in std::mem::take(&mut self.sinks) {
            sink.finish_file(&self.cx)?;
            let stage = &self.cx.graph.nodes[edge.node].id;
            files.extend(sink.files.into_iter().map(|file| StoredFile { stage: stage.clone(), port: edge.port.to_string(), ..file }));
        }
        let totals = std::mem::take(&mut self.stages).into_iter().map(|(node, (mut totals, profiler))| {
            totals.profile = profiler.finish();
            totals.waited_seconds = totals.waited_seconds.max(0.0); // of rows that end together, the first may take time off the others
            if let Some(ran) = self.ran.get(&node) {
                totals.ran_on.insert(ran.name().to_owned(), 1);
            }
            (self.cx.graph.nodes[node].id.clone(), totals)
        });
        Ok(Finished { totals: totals.collect(), files })
    }
}

/// Adds up the reasons of rows that were dropped.
fn count_reasons(rows: &RecordBatch, counts: &mut BTreeMap<String, u64>) {
    for reason in schemas::dropped::REASON.of(rows).iter().flatten() {
        match counts.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(counts.insert(reason.to_owned(), 1)),
        }
    }
}

/// What a collector stored and counted.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// The files.
    pub files: Vec<StoredFile>,
    /// The counts, by stage id.
    pub totals: BTreeMap<String, StageTotals>,
}

impl Finished {
    /// What several collectors of one task stored and counted; the files in their order.
    pub(super) fn concat(all: Vec<Self>) -> Self {
        let mut concatenated = Self::default();
        for one in all {
            concatenated.files.extend(one.files);
            for (id, totals) in one.totals {
                concatenated.totals.entry(id).or_default().merge(totals);
            }
        }
        concatenated
    }
}

/// One output of one stage on its way to memory and disk.
struct Sink {
    stored: Stored,
    name: String,
    /// Which shard of its task it is, where it can be read again from the source.
    source_shard: Option<usize>,
    /// The columns that are published, if not all.
    published: Option<Vec<usize>>,
    cutter: ShardCutter,
    open: Option<OpenFile>,
    files: Vec<StoredFile>,
    n_files: usize,
}

struct OpenFile {
    shard: Option<OpenShard>,
    part: Option<OpenPart>,
    rows: u64,
    data_bytes: u64,
}

/// A piece of a part on its way to the disk.
struct OpenPart {
    writer: Box<dyn PartWriter>,
    object: ObjectWriter,
}

impl OpenPart {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), RunError> {
        self.writer.write(batch)?;
        for chunk in self.writer.take_chunks() {
            self.object.write(&chunk)?;
        }
        Ok(())
    }

    /// Its length and hash.
    fn finish(mut self) -> Result<(u64, u64), RunError> {
        for chunk in self.writer.finish()?.chunks {
            self.object.write(&chunk)?;
        }
        Ok(self.object.finish()?)
    }
}

/// A shard for the stages that read it: kept in memory if there is room, and copied to the disk unless the run can do without.
struct OpenShard {
    /// The bytes of a copy depend on how its rows are batched; where there is none, rows stay in the batches they came in.
    recut: Option<Recut>,
    kept: Option<(Room, Vec<RecordBatch>)>,
    copy: Option<CheckpointPart>,
    home: Home,
}

impl OpenShard {
    fn try_new(cx: &Context, schema: &SchemaRef, from_source: bool) -> Result<Self, RunError> {
        let mode = cx.graph.checkpoints;
        // Where disk is scarce, so are the reasons to take memory for it.
        let room = if mode == Checkpoints::Small && !from_source { None } else { cx.cache.reserve(SHARD_BYTES) };
        let home = match mode {
            _ if room.is_some() && from_source => Home::Source,
            Checkpoints::Discard if room.is_some() => Home::Nowhere,
            _ => Home::Disk,
        };
        Ok(Self {
            recut: (home != Home::Source).then(|| Recut::new(SchemaRef::clone(schema))),
            kept: room.map(|room| (room, Vec::new())),
            copy: if home == Home::Disk { Some(CheckpointPart::try_new(mode, schema)?) } else { None },
            home,
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), RunError> {
        let full = match &mut self.recut {
            Some(recut) => recut.push(batch)?,
            None => vec![batch.clone()],
        };
        full.into_iter().try_for_each(|batch| self.take(batch))
    }

    fn take(&mut self, batch: RecordBatch) -> Result<(), RunError> {
        if let Some(copy) = &mut self.copy {
            copy.write(&batch)?;
        }
        if let Some((_, rows)) = &mut self.kept {
            rows.push(batch);
        }
        Ok(())
    }
}

impl Sink {
    fn new(stored: Stored, name: String, shard_rows: u64) -> Self {
        let cutter = ShardCutter::new(shard_rows);
        Self { stored, name, source_shard: None, published: None, cutter, open: None, files: Vec::new(), n_files: 0 }
    }

    fn write(&mut self, cx: &Context, batch: &RecordBatch) -> Result<(), RunError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let published = match &self.published {
            Some(columns) if self.stored.publish.is_some() => Some(batch.project(columns)?),
            _ => None,
        };
        let published = published.as_ref().unwrap_or(batch);
        if self.open.is_none() {
            let from_source = self.source_shard.is_some();
            self.open = Some(OpenFile {
                shard: if self.stored.checkpoint { Some(OpenShard::try_new(cx, &batch.schema(), from_source)?) } else { None },
                part: match &self.stored.publish {
                    Some((_, settings)) => {
                        let writer = part_writer(&published.schema(), settings)?;
                        Some(OpenPart { writer, object: cx.store.begin(&self.path(settings.format.extension()))? })
                    }
                    None => None,
                },
                rows: 0,
                data_bytes: 0,
            });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.rows += batch.num_rows() as u64;
        open.data_bytes += schemas::batch_bytes(batch);
        if let Some(shard) = &mut open.shard {
            shard.write(batch)?;
        }
        if let Some(part) = &mut open.part {
            part.write(published)?;
        }
        Ok(())
    }

    fn finish_file(&mut self, cx: &Context) -> Result<(), RunError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let file = |form: Form, path: String, bytes: u64, hash: u64| StoredFile {
            stage: String::new(),
            port: String::new(),
            form,
            path,
            rows: open.rows,
            bytes,
            data_bytes: open.data_bytes,
            hash,
        };
        if let Some(mut shard) = open.shard {
            if let Some(batch) = shard.recut.as_mut().map(Recut::finish).transpose()?.flatten() {
                shard.take(batch)?;
            }
            let form = match self.source_shard {
                Some(shard_of_task) if shard.home == Home::Source => Form::Source { shard: shard_of_task },
                _ => Form::Checkpoint,
            };
            let pieces = shard.copy.map(CheckpointPart::finish).transpose()?.unwrap_or_default();
            let path = self.path(&format!("c.{}", CheckpointPart::extension(cx.graph.checkpoints)));
            let file = file(form, path, pieces.iter().map(|piece| piece.len() as u64).sum(), hash_pieces(&pieces));
            if shard.home == Home::Disk {
                cx.store.put_pieces(&file.path, pieces)?;
            }
            if let Some((room, rows)) = shard.kept {
                cx.cache.keep(room, &file.path, rows, open.data_bytes, shard.home);
            }
            self.files.push(file);
        }
        if let (Some(part), Some((_, settings))) = (open.part, &self.stored.publish) {
            let (bytes, hash) = part.finish()?;
            self.files.push(file(Form::Part, self.path(settings.format.extension()), bytes, hash));
        }
        self.n_files += 1;
        Ok(())
    }

    /// Where the open file goes.
    fn path(&self, extension: &str) -> String {
        format!("{}-{}.{extension}", self.name, self.n_files)
    }
}

/// The columns that say which row was dropped, and why.
fn columns_of_ids(schema: &SchemaRef) -> Vec<usize> {
    let reasons = schemas::dropped::columns();
    let is_wanted = |name: &str| name == document::ID.name() || reasons.iter().any(|column| column.name == name);
    schema.fields().iter().enumerate().filter(|(_, field)| is_wanted(field.name())).map(|(index, _)| index).collect()
}
