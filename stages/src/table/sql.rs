//! `sql`: a SELECT over the input.

mod statement;

use std::collections::BTreeSet;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use polars::prelude::{DataFrame, IntoLazy};
use polars::sql::SQLContext;
use schemars::JsonSchema;
use schemas::document;
use serde::{Deserialize, Serialize};

use self::statement::{Seen, decide_order, is_row_by_row, parse, widen_counts};
use crate::polars_bridge::{self, BridgeError};
use crate::{
    BuildContext, Done, Emit, Global, Inputs, Kind, Outputs, Port, RowLocal, Stage, StageConfig, StageError, Step, TableSpec, Tables,
    WholeIn,
};

/// Runs a SELECT over the input, which is the table `input`; with several inputs (`from: {docs: pages, sites: hosts}`) each is a table of that
/// name.
///
/// A statement that only computes columns and filters rows of one table runs row by row, on any amount of data; a row that it fails on is
/// rejected. It must give `id: Utf8`. Every other statement (joins, GROUP BY, DISTINCT, ORDER BY, LIMIT, windows, subqueries) sees the whole
/// tables and needs memory for them; where its result has no `id`, rows are called `<stage>/<row>`.
///
/// Without ORDER BY the rows of such a statement are sorted by all their columns; with one, rows that it leaves equal are. A LIMIT on one plain
/// table takes its first rows. Whole numbers that outgrow their type start again at its other end without a word, sums too: CAST them to DOUBLE
/// where that may come about. Rows that a WHERE leaves out are not reported as dropped: use a filter stage where the reason counts. The dialect
/// and the functions are those of polars.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlConfig {
    /// One SELECT.
    pub statement: String,
}

impl StageConfig for SqlConfig {
    const NAME: &'static str = "sql";
    const VERSION: u32 = 1;
    const KIND: Kind = Kind::Global;
    const INPUTS: Inputs = Inputs::OneOrNamed;
    const EXAMPLE: &'static str =
        r#"{use: sql, from: pages, statement: "SELECT id, text, length(text) AS n_chars FROM input WHERE source = 'books'"}"#;

    fn outputs(&self, cx: &BuildContext) -> Result<Outputs, StageError> {
        Ok(Outputs::new(Prepared::try_new(&self.statement, cx)?.output))
    }

    fn build(&self, cx: &BuildContext) -> Result<Stage, StageError> {
        let prepared = Prepared::try_new(&self.statement, cx)?;
        Ok(match prepared.shape {
            Shape::RowByRow => Stage::RowLocal(Box::new(SqlRows { prepared })),
            Shape::Whole { .. } => Stage::Global(Box::new(SqlTables { prepared })),
        })
    }
}

/// What a statement needs to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A row at a time.
    RowByRow,
    /// Everything.
    Whole {
        /// Whether its rows have no order of their own and are sorted by their columns.
        sort: bool,
    },
}

/// A statement that ran on empty tables.
#[derive(Debug)]
struct Prepared {
    stage_id: String,
    /// What polars runs: the user's statement, where needed with an order that decides between all rows.
    statement: String,
    shape: Shape,
    /// Port, name in the statement, schema.
    tables: Vec<(Port, String, SchemaRef)>,
    /// Columns the statement gives.
    result: SchemaRef,
    /// Columns that leave the stage: those, and `id` where it is missing.
    output: SchemaRef,
}

/// A single input's name in the statement.
const INPUT: &str = "input";

impl Prepared {
    fn try_new(text: &str, cx: &BuildContext) -> Result<Self, StageError> {
        let name = |port: &Port| if *port == Port::FROM { INPUT.to_owned() } else { port.as_str().to_owned() };
        let tables: Vec<_> = cx.inputs.iter().map(|(port, schema)| (port.clone(), name(port), Arc::clone(schema))).collect();
        let query = parse(text)?;
        let seen = Seen::of(&query, &tables)?;

        let empty = tables.iter().map(|(_, name, schema)| Ok((name.clone(), polars_bridge::to_polars(schema, &[])?)));
        let empty: Vec<(String, DataFrame)> =
            empty.collect::<Result<_, BridgeError>>().map_err(|error| StageError::setting("from", error.to_string()))?;
        let mut frame = execute(text, &empty).map_err(|error| seen.explain(&error, &tables))?;
        let mut text = text.to_owned();
        let mut query = query;
        if seen.counts {
            let widened = widen_counts(&query);
            if let Ok(widened_frame) = execute(&widened.to_string(), &empty) {
                (frame, text, query) = (widened_frame, widened.to_string(), widened);
            }
        }
        let result = polars_bridge::schema_of(&frame).map_err(|error| bad(error.to_string()))?;
        let result = describe(&result, &tables);
        if let Some(twice) = first_twice(&result) {
            return Err(bad(format!("wanted each column once, found `{twice}` twice")));
        }

        let row_by_row = seen.is_row_by_row && tables.len() == 1 && is_row_by_row(&query);
        let (has_order, has_limit) = (query.order_by.is_some(), query.limit_clause.is_some() || query.fetch.is_some());
        let shape = match (row_by_row, has_order || has_limit) {
            (true, false) if seen.reads_a_column => Shape::RowByRow,
            (_, false) => Shape::Whole { sort: true },
            (_, true) => Shape::Whole { sort: false },
        };
        let mut statement = text;
        if has_order || (has_limit && !row_by_row) {
            let decided = decide_order(query, &result);
            // Where polars can't sort by that too, rows that the statement leaves equal stand as polars puts them.
            if execute(&decided, &empty).is_ok() {
                statement = decided;
            }
        }
        let output = with_id(&result, shape)?;
        Ok(Self { stage_id: cx.stage_id.clone(), statement, shape, tables, result, output })
    }

    /// Runs the statement over tables in the order of `self.tables`; its rows with the declared columns.
    fn run(&self, inputs: &[Vec<RecordBatch>]) -> Result<Vec<RecordBatch>, BridgeError> {
        let frames = self
            .tables
            .iter()
            .zip(inputs)
            .map(|((_, name, schema), batches)| Ok::<_, BridgeError>((name.clone(), polars_bridge::to_polars(schema, batches)?)));
        let frames: Vec<_> = frames.collect::<Result<_, _>>()?;
        let batches = polars_bridge::from_polars(execute(&self.statement, &frames)?)?;
        batches.into_iter().map(|batch| self.as_declared(&batch)).collect()
    }

    fn as_declared(&self, batch: &RecordBatch) -> Result<RecordBatch, BridgeError> {
        let columns = batch.columns().iter().zip(self.result.fields());
        let columns =
            columns.map(
                |(column, field)| {
                    if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
                },
            );
        Ok(RecordBatch::try_new(Arc::clone(&self.result), columns.collect::<Result<_, _>>()?)?)
    }
}

/// A statement that runs row by row.
struct SqlRows {
    prepared: Prepared,
}

impl RowLocal for SqlRows {
    fn process(&self, batch: RecordBatch, out: &mut Emit) -> Result<(), StageError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match self.prepared.run(&[vec![batch.clone()]]) {
            Ok(batches) => batches.into_iter().try_for_each(|rows| out.rows(rows)),
            Err(error) if batch.num_rows() == 1 => {
                out.reject_row(&batch, 0, "sql_failed", error.to_string());
                Ok(())
            }
            // Some row fails, a text that is no number, say. Halves find it, and the others go on.
            Err(_) => {
                let half = batch.num_rows() / 2;
                self.process(batch.slice(0, half), out)?;
                self.process(batch.slice(half, batch.num_rows() - half), out)
            }
        }
    }
}

/// A statement that sees whole tables.
struct SqlTables {
    prepared: Prepared,
}

impl Global for SqlTables {
    fn tables(&self) -> Vec<TableSpec> {
        Vec::new()
    }

    fn next(&self, done: &Done) -> Option<Step> {
        let ports = || self.prepared.tables.iter().map(|(port, ..)| port.clone()).collect();
        (done.steps() == 0).then(|| Step::once("query", &[], ports()).emits())
    }

    fn once(&self, _step: &Step, all: &mut WholeIn, out: &mut Tables) -> Result<(), StageError> {
        let prepared = &self.prepared;
        let inputs: Vec<Vec<RecordBatch>> =
            all.ports.drain(..).map(|(_, shards)| shards.into_iter().flat_map(|shard| shard.batches).collect()).collect();
        let mut batches = prepared.run(&inputs).map_err(|error| bad(error.to_string()))?;
        drop(inputs);
        if prepared.shape == (Shape::Whole { sort: true }) {
            batches = sorted(&prepared.result, batches)?;
        }
        let has_id = prepared.output.fields().len() == prepared.result.fields().len();
        let mut row = 0_u64;
        for batch in batches {
            let rows = if has_id { batch } else { prepared.number(&batch, row)? };
            row += rows.num_rows() as u64;
            out.emit().rows(rows)?;
        }
        Ok(())
    }
}

impl Prepared {
    /// The batch with ids `<stage>/<row>` from `first` on.
    fn number(&self, batch: &RecordBatch, first: u64) -> Result<RecordBatch, StageError> {
        let ids: StringArray = (first..).take(batch.num_rows()).map(|row| Some(format!("{}/{row}", self.stage_id))).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ids)];
        columns.extend(batch.columns().iter().cloned());
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

fn bad(problem: impl Into<String>) -> StageError {
    StageError::setting("statement", problem)
}

fn execute(statement: &str, tables: &[(String, DataFrame)]) -> Result<DataFrame, BridgeError> {
    let run = || {
        polars_bridge::guarded(|| {
            let mut context = SQLContext::new();
            for (name, frame) in tables {
                context.register(name, frame.clone().lazy());
            }
            Ok(context.execute(statement)?.collect()?)
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
        let handle = thread.spawn_scoped(scope, run).map_err(|error| BridgeError::Panic(format!("no thread for it: {error}")))?;
        handle.join().unwrap_or_else(|_| Err(BridgeError::Panic("its thread failed".to_owned())))
    })
}

/// Stack for polars, which goes down one level for each of them: up to 40 KiB a level in a debug build (2 MiB fail at 100 levels, 8 MiB at
/// 200). Only what is used becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// The columns of a result, described as the input's columns of the same name and type are.
fn describe(result: &Schema, tables: &[(Port, String, SchemaRef)]) -> SchemaRef {
    let fields = result.fields().iter().map(|field| {
        let same =
            |input: &Schema| input.field_with_name(field.name()).ok().filter(|input| input.data_type() == field.data_type()).cloned();
        let described = tables.iter().find_map(|(_, _, input)| same(input));
        described.map_or_else(|| field.as_ref().clone(), |input| input.with_nullable(true))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn first_twice(schema: &Schema) -> Option<&str> {
    let mut names = BTreeSet::new();
    schema.fields().iter().map(|field| field.name().as_str()).find(|name| !names.insert(*name))
}

fn with_id(result: &SchemaRef, shape: Shape) -> Result<SchemaRef, StageError> {
    let id = document::ID;
    match (result.field_with_name(id.name()), shape) {
        (Ok(field), _) if *field.data_type() == DataType::Utf8 => Ok(Arc::clone(result)),
        (Ok(field), _) => Err(bad(format!("wanted `id: Utf8` in the result, found `id: {}`", field.data_type()))
            .with_help("CAST(… AS VARCHAR) AS id makes it one")),
        (Err(_), Shape::RowByRow) => {
            Err(bad("wanted `id: Utf8` in the result, found no `id`").with_help("add `id` to the SELECT: a row's label stays the row's"))
        }
        (Err(_), Shape::Whole { .. }) => {
            let fields = std::iter::once(id.field()).chain(result.fields().iter().map(|field| field.as_ref().clone()));
            Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
        }
    }
}

/// All rows in the order of their columns, nulls first, in batches of the size they came in.
fn sorted(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, StageError> {
    let fields: Vec<SortField> = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    if batches.is_empty() || !RowConverter::supports_fields(&fields) {
        return Ok(batches);
    }
    let converter = RowConverter::new(fields)?;
    let rows = batches.iter().map(|batch| converter.convert_columns(batch.columns())).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<(usize, usize)> =
        batches.iter().enumerate().flat_map(|(at, batch)| (0..batch.num_rows()).map(move |row| (at, row))).collect();
    order.sort_by(|a, b| rows[a.0].row(a.1).cmp(&rows[b.0].row(b.1)));
    drop(rows);
    order.chunks(polars_bridge::MAX_ROWS).map(|chunk| gather(schema, &batches, chunk)).collect()
}

fn gather(schema: &SchemaRef, batches: &[RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch, StageError> {
    // Only the batches that these rows are in, each once.
    let used: Vec<usize> = rows.iter().map(|(at, _)| *at).collect::<BTreeSet<_>>().into_iter().collect();
    let mut picked = Vec::with_capacity(used.len());
    let mut place = vec![0_u32; rows.len()];
    let mut next = 0_u32;
    for at in used {
        let here: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].0 == at).collect();
        let indices = here.iter().map(|&row| u32::try_from(rows[row].1)).collect::<Result<Vec<_>, _>>();
        let indices = indices.map_err(|_| StageError::Internal("a batch of over 2^32 rows".to_owned()))?;
        picked.push(take_record_batch(&batches[at], &UInt32Array::from(indices))?);
        for row in here {
            place[row] = next;
            next += 1;
        }
    }
    let all = concat_batches(schema, &picked)?;
    Ok(take_record_batch(&all, &UInt32Array::from(place))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Balance};

    fn shape(statement: &str) -> Shape {
        let cx = BuildContext::new("sql", std::path::Path::new("."), 7, vec![(Port::FROM, testing::sample().schema())]);
        Prepared::try_new(statement, &cx).unwrap_or_else(|error| panic!("{statement}: {error}")).shape
    }

    fn query(statement: &str) -> RecordBatch {
        let settings = json!({"statement": statement});
        testing::check_contract::<SqlConfig>(settings, &testing::sample(), Balance::Free).rows().clone()
    }

    fn refused(statement: &str) -> (String, Option<String>) {
        let inputs = vec![(Port::FROM, testing::sample().schema())];
        match testing::build::<SqlConfig>(json!({"statement": statement}), inputs).map(|_| ()) {
            Err(StageError::Setting { setting, problem, help }) => {
                assert_eq!(setting, "statement");
                (problem, help)
            }
            other => panic!("{statement}: {other:?}"),
        }
    }

    #[test]
    fn the_functions_are_sorted() {
        assert!(statement::ROW_FUNCTIONS.is_sorted());
    }

    #[test]
    fn projections_and_filters_run_row_by_row_and_nothing_else_does() {
        for statement in [
            "SELECT * FROM input",
            "SELECT id, upper(text) AS text FROM input AS i WHERE i.words > 3 AND source IN ('web', 'books')",
            "SELECT id, CASE WHEN score > 0.5 THEN 'good' ELSE 'bad' END AS grade FROM input WHERE text LIKE '%fox%'",
            "SELECT id, CAST(words AS DOUBLE) / 2 AS half, 1 AS one FROM input",
            "SELECT ALL id, substring(text, 1, 3) AS start, trim(text) AS t FROM input",
        ] {
            assert_eq!(shape(statement), Shape::RowByRow, "{statement}");
        }
        for statement in [
            "SELECT source, count(*) AS n FROM input GROUP BY source",
            "SELECT max(words) AS w FROM input",
            "SELECT DISTINCT source FROM input",
            "SELECT a.id, b.text FROM input a JOIN input b ON a.id = b.id",
            "SELECT id FROM input UNION ALL SELECT id FROM input",
            "SELECT id FROM (SELECT id FROM input) AS t",
            "WITH t AS (SELECT id FROM input) SELECT id FROM t",
            "SELECT id FROM input WHERE words IN (SELECT max(words) FROM input)",
            "SELECT id, row_number() OVER (ORDER BY id) AS n FROM input",
            "SELECT 1 AS one FROM input",
        ] {
            assert_eq!(shape(statement), Shape::Whole { sort: true }, "{statement}");
        }
        assert_eq!(shape("SELECT id FROM input ORDER BY words"), Shape::Whole { sort: false });
        assert_eq!(shape("SELECT id FROM input LIMIT 3"), Shape::Whole { sort: false });
    }

    #[test]
    fn rows_are_computed_and_filtered() {
        let got = query("SELECT id, length(text) AS n, tags, 1 AS one FROM input WHERE text IS NULL OR length(text) = 0");
        assert!(got.num_rows() > 0);
        assert_eq!(got.schema().field_with_name("tags").expect("tags").data_type(), testing::sample().schema().field(6).data_type());
        assert!(testing::column(&got, "n").iter().all(|n| n.is_empty() || n == "0"));
        assert!(testing::column(&got, "one").iter().all(|one| one == "1"));
    }

    #[test]
    fn counts_and_sums_of_lengths_are_64_bits_wide() {
        let got =
            query("SELECT source, count(*) AS n, sum(LENGTH(text)) AS chars, max(length(text) + 1) AS most FROM input GROUP BY source");
        for name in ["n", "chars", "most"] {
            assert_eq!(got.column_by_name(name).map(|column| column.data_type().clone()), Some(DataType::Int64), "{name}");
        }
    }

    #[test]
    fn groups_come_sorted_and_numbered() {
        let got = query("SELECT source, count(*) AS n FROM input GROUP BY source");
        assert_eq!(testing::column(&got, "id"), ["sql/0", "sql/1", "sql/2"]);
        assert_eq!(testing::column(&got, "source"), ["", "books", "web"]);
        let total: usize = testing::column(&got, "n").iter().map(|n| n.parse::<usize>().expect("a number")).sum();
        assert_eq!(total, testing::sample().num_rows());
    }

    #[test]
    fn an_order_that_leaves_rows_equal_is_decided_by_the_other_columns() {
        let got = query("SELECT * FROM input ORDER BY source DESC NULLS LAST LIMIT 12");
        let ids = testing::column(&got, "id");
        let sources = testing::column(&got, "source");
        assert_eq!(sources.iter().filter(|source| *source == "web").count(), 12.min(sources.len()), "{sources:?}");
        assert!(ids.is_sorted(), "{ids:?}");
        let got = query("SELECT text, count(*) AS n FROM input GROUP BY text ORDER BY n DESC LIMIT 5");
        assert!(testing::column(&got, "n").iter().map(|n| n.parse::<u32>().expect("a number")).is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_limit_takes_the_first_rows() {
        assert_eq!(testing::column(&query("SELECT id FROM input LIMIT 3"), "id"), ["doc-00", "doc-01", "doc-02"]);
    }

    #[test]
    fn several_inputs_are_several_tables() {
        let sources = testing::strings(&[("source", vec![Some("web"), Some("books")]), ("owner", vec![Some("w"), Some("b")])]);
        let inputs = [(Port::named("docs"), testing::sample()), (Port::named("sources"), sources)];
        let statement = "SELECT docs.id, sources.owner FROM docs INNER JOIN sources ON docs.source = sources.source";
        let got = testing::check_contract_of::<SqlConfig>(json!({"statement": statement}), &inputs, Balance::Free);
        assert!(testing::column(got.rows(), "id").is_sorted());
        assert!(got.rows().num_rows() > 10 && testing::column(got.rows(), "owner").iter().all(|owner| owner == "w" || owner == "b"));
    }

    #[test]
    fn a_row_that_fails_is_rejected_and_the_others_go_on() {
        let input = testing::strings(&[
            ("id", vec![Some("a"), Some("b"), Some("c"), Some("d")]),
            ("n", vec![Some("1"), Some("two"), None, Some("4")]),
        ]);
        let settings = json!({"statement": "SELECT id, CAST(n AS INTEGER) AS n FROM input"});
        let got = testing::check_contract::<SqlConfig>(settings, &input, Balance::KeptOrDropped);
        assert_eq!(testing::column(got.rows(), "n"), ["1", "", "4"]);
        assert_eq!(got.rejected.len(), 1);
        assert_eq!((got.rejected[0].id.as_deref(), got.rejected[0].reason), (Some("b"), "sql_failed"));
        assert!(got.rejected[0].detail.contains("two"), "{}", got.rejected[0].detail);
    }

    #[test]
    fn errors_say_what_was_wanted_and_found() {
        let (problem, help) = refused("SELECT id, txt FROM input");
        assert_eq!(problem, "there is no column `txt`; the input has id, text, url, source, words, score, tags");
        assert_eq!(help.as_deref(), Some("did you mean `text`?"));
        assert_eq!(refused("SELECT id FROM pages").0, "there is no table `pages`; wanted one of: input");
        assert_eq!(refused("SELECT text FROM input").0, "wanted `id: Utf8` in the result, found no `id`");
        assert_eq!(refused("SELECT words AS id FROM input").0, "wanted `id: Utf8` in the result, found `id: Int64`");
        assert_eq!(refused("DROP TABLE input").0, "wanted a SELECT, found `DROP`");
        assert_eq!(refused("SELECT id FROM input; SELECT id FROM input").0, "wanted one SELECT, found 2 statements");
        assert_eq!(refused("").0, "wanted a SELECT, found nothing");
        assert!(refused("SELECT id FRM input x").0.contains("at Line: 1, Column: 15"), "{:?}", refused("SELECT id FRM input x"));
        assert!(refused("SELECT id, frobnicate(text) AS t FROM input").0.contains("frobnicate"));
    }

    #[test]
    fn a_long_chain_of_operators_does_not_end_the_process() {
        let statement =
            format!("SELECT id, {} AS s FROM input WHERE {}", vec!["words"; 120].join(" + "), vec!["words > 0"; 120].join(" OR "));
        assert!(query(&statement).num_rows() > 0);
        let union = vec!["SELECT id FROM input"; 40].join(" UNION ALL ");
        assert_eq!(query(&union).num_rows(), 40 * testing::sample().num_rows());
        let (problem, _) = refused(&format!("SELECT id, {} AS s FROM input", vec!["words"; 1200].join(" + ")));
        assert!(problem.starts_with("an expression of more than 1000 terms"), "{problem}");
        assert!(query(&format!("SELECT id FROM input WHERE {}", vec!["words > 0"; 250].join(" AND "))).num_rows() > 0);
    }

    #[test]
    fn no_file_is_read_behind_the_runs_back() {
        assert!(refused("SELECT * FROM read_csv('/etc/passwd')").0.starts_with("wanted a table of the input"));
        assert!(refused("SELECT * FROM '/etc/passwd'").0.starts_with("there is no table"));
    }
}
