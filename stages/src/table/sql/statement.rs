//! What a statement is: whether it runs row by row, what it names, and the same statement with what polars leaves open decided.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, ObjectName, OrderBy, OrderByExpr,
    OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserOptions};

use super::bad;
use crate::polars_bridge::BridgeError;
use crate::{Port, StageError};

/// Most expressions inside of each other, `a + b + c + …` being one more a term.
pub(super) const MAX_DEPTH: usize = 1000;

/// Parses as polars does, so that what is looked at here is what runs there.
pub(super) fn parse(text: &str) -> Result<Query, StageError> {
    let options = ParserOptions { trailing_commas: true, ..ParserOptions::default() };
    let parsed = Parser::new(&GenericDialect).with_options(options).try_with_sql(text).and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| bad(error.to_string()).with_help("wanted one SELECT statement"))?;
    match (statements.pop(), statements.len()) {
        (Some(Statement::Query(query)), 0) => Ok(*query),
        (Some(other), 0) => Err(bad(format!("wanted a SELECT, found `{}`", first_word(&other.to_string())))),
        (None, _) => Err(bad("wanted a SELECT, found nothing")),
        (Some(_), more) => Err(bad(format!("wanted one SELECT, found {} statements", more + 1))),
    }
}

pub(super) fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// What a walk through all of a statement saw.
pub(super) struct Seen {
    /// Nothing in it needs more than one row at a time.
    pub(super) is_row_by_row: bool,
    pub(super) reads_a_column: bool,
    /// Whether a function counts something.
    pub(super) counts: bool,
    pub(super) queries: usize,
    pub(super) selects: usize,
    pub(super) depth: usize,
    pub(super) tables: Vec<String>,
    /// Names given inside the statement, to tables and columns.
    pub(super) given: BTreeSet<String>,
    pub(super) columns: Vec<String>,
    pub(super) problem: Option<String>,
}

impl Seen {
    pub(super) fn of(query: &Query, tables: &[(Port, String, SchemaRef)]) -> Result<Self, StageError> {
        let mut seen = Self {
            is_row_by_row: true,
            reads_a_column: false,
            counts: false,
            queries: 0,
            selects: 0,
            depth: 0,
            tables: Vec::new(),
            given: BTreeSet::new(),
            columns: Vec::new(),
            problem: None,
        };
        let _ = query.visit(&mut seen);
        if let Some(problem) = seen.problem.take() {
            return Err(bad(problem));
        }
        let names: Vec<&str> = tables.iter().map(|(_, name, _)| name.as_str()).collect();
        match seen.tables.iter().find(|table| !names.contains(&table.as_str()) && !seen.given.contains(*table)) {
            Some(table) => Err(bad(format!("there is no table `{table}`; wanted one of: {}", names.join(", ")))
                .with_help("a single input is the table `input`; several have the names that `from` gives them")),
            None => Ok(seen),
        }
    }

    /// An error of polars, with the nearest column where one is missing.
    pub(super) fn explain(&self, error: &BridgeError, tables: &[(Port, String, SchemaRef)]) -> StageError {
        let known: Vec<&str> = tables.iter().flat_map(|(_, _, schema)| schema.fields().iter().map(|field| field.name().as_str())).collect();
        let missing = self.columns.iter().find(|column| !known.contains(&column.as_str()) && !self.given.contains(*column));
        let error = error.to_string();
        // What follows is polars' plan, which says nothing about the statement.
        let error = error.split_once("\n\nResolved plan").map_or(error.as_str(), |(problem, _)| problem);
        let Some(missing) = missing else { return bad(error) };
        let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(known, missing), *known)).min();
        let found = bad(format!("there is no column `{missing}`; the input has {}", known.join(", ")));
        match nearest {
            Some((distance, column)) if distance <= missing.chars().count() / 2 => found.with_help(format!("did you mean `{column}`?")),
            _ => found,
        }
    }
}

impl Visitor for Seen {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        self.is_row_by_row &= self.queries == 1;
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.given.insert(table.alias.name.value.clone());
            self.given.extend(table.alias.columns.iter().map(|column| column.name.value.clone()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.selects += 1;
        if self.selects > MAX_DEPTH {
            self.problem = Some(format!("more than {MAX_DEPTH} SELECTs in one statement"));
            return ControlFlow::Break(());
        }
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => {
                    self.given.insert(alias.value.clone());
                }
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => self.reads_a_column = true,
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match relation.0.as_slice() {
            [part] => self.tables.extend(part.as_ident().map(|name| name.value.clone())),
            _ => self.problem = Some(format!("there is no table `{relation}`: names of tables have one part")),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { alias, args, .. } => {
                self.given.extend(alias.iter().map(|alias| alias.name.value.clone()));
                // `read_csv('…')` would read files that the run knows nothing of.
                if args.is_some() {
                    self.problem = Some(format!("wanted a table of the input, found `{factor}`"));
                }
            }
            TableFactor::Derived { alias, .. } | TableFactor::NestedJoin { alias, .. } | TableFactor::UNNEST { alias, .. } => {
                if let Some(alias) = alias {
                    self.given.insert(alias.name.value.clone());
                    self.given.extend(alias.columns.iter().map(|column| column.name.value.clone()));
                }
            }
            other => self.problem = Some(format!("wanted a table of the input, found `{other}`")),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth -= usize::from(goes_down(expr));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += usize::from(goes_down(expr));
        if self.depth > MAX_DEPTH {
            self.problem = Some(format!("an expression of more than {MAX_DEPTH} terms; IN (…) takes a long list of values"));
            return ControlFlow::Break(());
        }
        match expr {
            Expr::Identifier(name) => {
                self.reads_a_column = true;
                self.columns.push(name.value.clone());
            }
            Expr::CompoundIdentifier(parts) => {
                self.reads_a_column = true;
                self.columns.extend(parts.iter().skip(1).take(1).map(|name| name.value.clone()));
            }
            _ => {}
        }
        self.counts |= is_count(expr);
        self.is_row_by_row &= is_of_one_row(expr);
        ControlFlow::Continue(())
    }
}

/// Functions that polars gives as 32-bit numbers, which sums of them overflow without a word.
pub(super) const COUNTS: [&str; 8] =
    ["bit_length", "char_length", "character_length", "count", "length", "octet_length", "position", "strpos"];

pub(super) fn is_count(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    COUNTS.contains(&function.name.to_string().to_ascii_lowercase().as_str())
}

/// The query with every count as a 64-bit number.
pub(super) fn widen_counts(query: &Query) -> Query {
    struct Widen;
    impl VisitorMut for Widen {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if is_count(expr) {
                let cast = Parser::new(&GenericDialect).try_with_sql("CAST(x AS BIGINT)").and_then(|mut parser| parser.parse_expr());
                if let Ok(Expr::Cast { expr: mut inner, kind, data_type, array, format }) = cast {
                    *inner = expr.clone();
                    *expr = Expr::Cast { expr: inner, kind, data_type, array, format };
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut widened = query.clone();
    let _ = VisitMut::visit(&mut widened, &mut Widen);
    widened
}

/// Whether polars goes one level down for it; a chain of ANDs it takes apart first.
pub(super) fn goes_down(expr: &Expr) -> bool {
    !matches!(expr, Expr::BinaryOp { op: BinaryOperator::And, .. })
}

/// Functions whose value for a row depends on that row alone, sorted.
pub(super) const ROW_FUNCTIONS: &[&str] = &[
    "abs",
    "acos",
    "acosd",
    "array_contains",
    "array_get",
    "array_length",
    "array_lower",
    "array_mean",
    "array_reverse",
    "array_sum",
    "array_to_string",
    "array_upper",
    "asin",
    "asind",
    "atan",
    "atan2",
    "atan2d",
    "atand",
    "bit_length",
    "cbrt",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosd",
    "cot",
    "cotd",
    "date",
    "date_part",
    "datetime",
    "degrees",
    "div",
    "ends_with",
    "exp",
    "floor",
    "greatest",
    "if",
    "ifnull",
    "least",
    "left",
    "length",
    "ln",
    "log",
    "log10",
    "log1p",
    "log2",
    "lower",
    "lpad",
    "ltrim",
    "mod",
    "normalize",
    "nullif",
    "octet_length",
    "pi",
    "pow",
    "power",
    "radians",
    "regexp_like",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sign",
    "sin",
    "sind",
    "split_part",
    "sqrt",
    "starts_with",
    "strftime",
    "string_to_array",
    "strpos",
    "strptime",
    "substr",
    "tan",
    "tand",
    "timestamp",
    "trunc",
    "truncate",
    "upper",
];

/// Whether this node of an expression (not what is below it) is one that needs no other row.
pub(super) fn is_of_one_row(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => {
            let plain = function.over.is_none() && function.filter.is_none() && function.within_group.is_empty();
            let args = match &function.args {
                FunctionArguments::List(list) => {
                    let values = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
                    list.duplicate_treatment.is_none() && list.clauses.is_empty() && list.args.iter().all(values)
                }
                FunctionArguments::None | FunctionArguments::Subquery(_) => false,
            };
            let name = function.name.to_string().to_lowercase();
            plain && args && ROW_FUNCTIONS.binary_search(&name.as_str()).is_ok()
        }
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::BinaryOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::RLike { .. }
        | Expr::Cast { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Nested(_)
        | Expr::Case { .. }
        | Expr::TypedString(_)
        | Expr::Interval(_) => true,
        _ => false,
    }
}

/// Whether the statement, its expressions, order and limit aside, is a projection and a filter of one table.
pub(super) fn is_row_by_row(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let no_group = matches!(&select.group_by, GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty());
    let one_table =
        matches!(select.from.as_slice(), [table] if table.joins.is_empty() && matches!(table.relation, TableFactor::Table { .. }));
    let plain_columns = select.projection.iter().all(|item| {
        matches!(
            item,
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
        )
    });
    query.with.is_none()
        && query.pipe_operators.is_empty()
        && one_table
        && no_group
        && plain_columns
        && !matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_)))
        && select.top.is_none()
        && select.into.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.having.is_none()
        && select.named_window.is_empty()
        && select.qualify.is_none()
}

/// The statement with all columns that can be sorted by behind its ORDER BY, so that it decides between any two rows that differ in them.
pub(super) fn decide_order(mut query: Query, result: &Schema) -> String {
    let is_sortable = |field: &Field| {
        !matches!(
            field.data_type(),
            DataType::Null | DataType::List(_) | DataType::FixedSizeList(..) | DataType::Struct(_) | DataType::Binary
        )
    };
    let plain = OrderByOptions { asc: None, nulls_first: None };
    let columns = result.fields().iter().enumerate().filter(|(_, field)| is_sortable(field)).map(|(at, _)| OrderByExpr {
        expr: Expr::Value(Value::Number((at + 1).to_string(), false).into()),
        options: plain,
        with_fill: None,
    });
    let order = query.order_by.get_or_insert(OrderBy { kind: OrderByKind::Expressions(Vec::new()), interpolate: None });
    if let OrderByKind::Expressions(by) = &mut order.kind {
        by.extend(columns);
    }
    query.to_string()
}
