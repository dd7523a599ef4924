//! What the program gives: the decision on each row, and the tables of clusters and links.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt16Builder, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemas::{ColumnSpec, describe, document};

use super::tables::{FateRow, GLOBAL, LOCAL};
use crate::dedup::minhash::bands::Bands;
use crate::{Dropped, StageError, Verdict};

fn field(name: &str, data_type: DataType, nullable: bool, what: &str) -> Field {
    describe(Field::new(name, data_type, nullable), what)
}

fn band_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::UInt16, true)))
}

/// The bands in which two rows were found. Equal texts share all of them, which is not written down before.
#[derive(Default)]
struct BandLists(ListBuilder<UInt16Builder>);

impl BandLists {
    fn push(&mut self, found: Option<&[u16]>, bands: Bands) {
        match found {
            Some([]) => self.0.append_value((0_u16..).take(bands.bands as usize).map(Some)),
            Some(found) => self.0.append_value(found.iter().copied().map(Some)),
            None => self.0.append_null(),
        }
    }
}

/// Rows of the output `clusters`.
#[derive(Default)]
pub(super) struct Clusters {
    id: StringBuilder,
    cluster: StringBuilder,
    linked_to: StringBuilder,
    kept: Vec<bool>,
    fates: Vec<FateRow>,
}

impl Clusters {
    /// Its columns.
    pub(super) fn schema(both: bool) -> SchemaRef {
        let scope = both.then(|| field("scope", DataType::Utf8, false, "`global`, or `local`: among the rows of one source"));
        let fields = [
            document::ID.field(),
            field("cluster", DataType::Utf8, true, "id of the row that is kept of the cluster"),
            field("size", DataType::UInt64, false, "rows of the cluster"),
            field("kept", DataType::Boolean, false, "whether this is the row that is kept"),
            field("linked_to", DataType::Utf8, true, "id of the next row on the chain to the row that is kept"),
            field("similarity", DataType::Float64, true, "Jaccard similarity to that row, where it was computed"),
            field("bands", band_list(), true, "bands of the signature, counted from 0, in which the two were found"),
        ];
        Arc::new(Schema::new(scope.into_iter().chain(fields).collect::<Vec<_>>()))
    }

    pub(super) fn push(&mut self, id: Option<&str>, cluster: Option<&str>, linked_to: Option<&str>, kept: bool, fate: FateRow) {
        self.id.append_option(id);
        self.cluster.append_option(cluster);
        self.linked_to.append_option(linked_to);
        self.kept.push(kept);
        self.fates.push(fate);
    }

    pub(super) fn finish(mut self, bands: Bands, both: bool) -> Result<RecordBatch, StageError> {
        let scope = both.then(|| {
            let name = |fate: &FateRow| if fate.graph == LOCAL { "local" } else { "global" };
            Arc::new(StringArray::from_iter_values(self.fates.iter().map(name))) as ArrayRef
        });
        let mut lists = BandLists::default();
        for (kept, fate) in self.kept.iter().zip(&self.fates) {
            lists.push((!kept).then_some(&fate.bands), bands);
        }
        let columns: [ArrayRef; 7] = [
            Arc::new(self.id.finish()),
            Arc::new(self.cluster.finish()),
            Arc::new(self.fates.iter().map(|fate| fate.size).collect::<UInt64Array>()),
            Arc::new(BooleanArray::from(self.kept)),
            Arc::new(self.linked_to.finish()),
            Arc::new(self.fates.iter().map(|fate| fate.similarity).collect::<Float64Array>()),
            Arc::new(lists.0.finish()),
        ];
        Ok(RecordBatch::try_new(Self::schema(both), scope.into_iter().chain(columns).collect())?)
    }
}

/// Rows of the output `edges`.
#[derive(Default)]
pub(super) struct Edges {
    a: StringBuilder,
    b: StringBuilder,
    similarity: Vec<Option<f64>>,
    lists: BandLists,
}

impl Edges {
    /// Its columns.
    pub(super) fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            field("a", DataType::Utf8, true, "id of the earlier row"),
            field("b", DataType::Utf8, true, "id of the later row"),
            field("similarity", DataType::Float64, true, "their Jaccard similarity, where it was computed"),
            field("bands", band_list(), false, "bands of the signature, counted from 0, in which they were found"),
        ]))
    }

    pub(super) fn push(&mut self, a: Option<&str>, b: Option<&str>, similarity: Option<f64>, found: &[u16], bands: Bands) {
        self.a.append_option(a);
        self.b.append_option(b);
        self.similarity.push(similarity);
        self.lists.push(Some(found), bands);
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch, StageError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.a.finish()),
            Arc::new(self.b.finish()),
            Arc::new(Float64Array::from(self.similarity)),
            Arc::new(self.lists.0.finish()),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}

/// What is decided of each row of a shard.
pub(super) struct Decisions {
    verdicts: Vec<Verdict>,
    scopes: [Vec<(bool, Option<String>, u64)>; 2],
}

impl Decisions {
    /// Every one of `n_rows` rows is kept; with `both`, in both scopes.
    pub(super) fn new(n_rows: usize, both: bool) -> Self {
        let n_scopes = if both { n_rows } else { 0 };
        Self { verdicts: vec![Verdict::Keep; n_rows], scopes: [vec![(true, None, 1); n_scopes], vec![(true, None, 1); n_scopes]] }
    }

    /// Columns that `scope: both` adds.
    pub(super) fn columns() -> Vec<ColumnSpec> {
        let scopes = [("global", "among all rows"), ("local", "among the rows of its source")];
        let column =
            |name: String, data_type: DataType, nullable: bool, description: String| ColumnSpec { name, data_type, nullable, description };
        let of_scope = |(scope, among): (&str, &str)| {
            let (kept, size) =
                (format!("whether it is kept of the rows like it {among}"), format!("how many rows are like it {among}, with itself"));
            [
                column(format!("{scope}_kept"), DataType::Boolean, false, kept),
                column(format!("{scope}_duplicate_of"), DataType::Utf8, true, "id of the row that is kept in its place".to_owned()),
                column(format!("{scope}_cluster_size"), DataType::UInt64, false, size),
            ]
        };
        scopes.into_iter().flat_map(of_scope).collect()
    }

    /// Sets what is decided of a row that is in a cluster; `threshold` is what similarities were held against.
    pub(super) fn set(&mut self, row: u32, kept: bool, survivor: Option<&str>, fate: &FateRow, threshold: Option<f64>) {
        let row = row as usize;
        let duplicate_of = survivor.filter(|_| !kept).map(str::to_owned);
        if let Some(decided) = self.scopes[usize::from(fate.graph == LOCAL)].get_mut(row) {
            *decided = (kept, duplicate_of, fate.size);
        } else if !kept && fate.graph == GLOBAL {
            self.verdicts[row] = Verdict::Drop(Dropped { reason: "near_duplicate", value: fate.similarity, threshold, duplicate_of });
        }
    }

    /// One a row.
    pub(super) fn verdicts(self) -> Vec<Verdict> {
        self.verdicts
    }

    /// Values of [`Decisions::columns`].
    pub(super) fn values(self) -> Vec<ArrayRef> {
        let of_scope = |rows: &Vec<(bool, Option<String>, u64)>| -> [ArrayRef; 3] {
            [
                Arc::new(rows.iter().map(|row| Some(row.0)).collect::<BooleanArray>()),
                Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.2).collect::<UInt64Array>()),
            ]
        };
        self.scopes.iter().flat_map(of_scope).collect()
    }
}
