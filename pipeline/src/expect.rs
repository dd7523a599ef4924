//! `expect`: what must hold of a stage's rows before they are published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::StageTotals;

/// What must hold of a stage's rows before they are published. Otherwise the run stops with exit code 3, and what was published before stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// How many rows leave it, tagged ones too, such as `">= 1000"`; not asked of a run with `--limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Bound>,
    /// Columns without a null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_null: Vec<String>,
    /// The share of its rows that it decides against, such as `"< 0.6"` or `"<= 60%"`: those that it drops or, with `on_fail: tag`, tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_share: Option<Bound>,
    /// The share of its rows that it rejects. `max_rejected` always allows ten rows; this does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_share: Option<Bound>,
}

/// The keys of `expect` whose value is a [`Bound`].
pub(crate) const BOUNDS: [&str; 3] = ["rows", "dropped_share", "rejected_share"];

/// A comparison with a number: `">= 1000"`, `"< 0.6"`, `"<= 5%"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^\\s*(<|<=|==|>=|>)\\s*[0-9][0-9_]*(\\.[0-9]+)?\\s*%?\\s*$"))]
pub struct Bound {
    comparison: Comparison,
    number: f64,
    percent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// The longer signs first: each is tried in turn.
const SIGNS: [(&str, Comparison); 5] =
    [("<=", Comparison::AtMost), (">=", Comparison::AtLeast), ("==", Comparison::Equal), ("<", Comparison::Less), (">", Comparison::More)];

impl Bound {
    /// Why it says nothing about `key`, and what may be meant: such a gate would never close, or never open.
    pub(crate) fn pointless(self, key: &str) -> Option<(&'static str, String)> {
        let most = if self.percent { 100.0 } else { 1.0 };
        match key {
            "rows" if self.percent => {
                Some(("a number of rows is no share", "write a number, such as `>= 1000`; `dropped_share` is a share".to_owned()))
            }
            "rows" => None,
            _ if self.number > most => {
                let help = if self.percent { "write a share, such as `< 60%`".to_owned() } else { format!("is `{self}%` meant?") };
                Some(("a share is at most 1, or 100%", help))
            }
            _ => None,
        }
    }

    /// Whether `value` is within it; shares are from 0 to 1.
    fn holds(self, value: f64) -> bool {
        let wanted = if self.percent { self.number / 100.0 } else { self.number };
        match self.comparison {
            Comparison::Less => value < wanted,
            Comparison::AtMost => value <= wanted,
            #[expect(clippy::float_cmp, reason = "counts of rows are whole numbers")]
            Comparison::Equal => value == wanted,
            Comparison::AtLeast => value >= wanted,
            Comparison::More => value > wanted,
        }
    }
}

impl TryFrom<String> for Bound {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("a bound is `<`, `<=`, `==`, `>=` or `>` and a number, such as `>= 1000` or `< 5%`, not {text:?}");
        let (rest, comparison) =
            SIGNS.iter().find_map(|(sign, comparison)| Some((text.trim().strip_prefix(sign)?, *comparison))).ok_or_else(wrong)?;
        let (number, percent) = match rest.strip_suffix('%') {
            Some(number) => (number, true),
            None => (rest, false),
        };
        let number = number.trim();
        let is_number =
            number.starts_with(|c: char| c.is_ascii_digit()) && number.bytes().all(|byte| byte.is_ascii_digit() || b"._".contains(&byte));
        let number = number.replace('_', "").parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        Ok(Self { comparison, number, percent })
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = SIGNS.iter().find(|(_, comparison)| *comparison == self.comparison).map_or("", |(sign, _)| sign);
        write!(f, "{sign} {}{}", self.number, if self.percent { "%" } else { "" })
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> String {
        bound.to_string()
    }
}

impl Expect {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What does not hold of a stage that counted `totals`: what was wanted and what was found. Shares are of `rows_in`. `limited` says that it did not
    /// see all rows.
    pub fn unmet(&self, totals: &StageTotals, rows_in: u64, limited: bool) -> Vec<String> {
        let mut unmet = Vec::new();
        let rows = totals.rows_through("out");
        if let Some(bound) = self.rows.filter(|bound| !limited && !bound.holds(rows as f64)) {
            unmet.push(format!("`rows: {bound}` is wanted, {rows} leave it"));
        }
        for column in &self.not_null {
            let nulls = totals.nulls.get(column).copied().unwrap_or_default();
            if nulls > 0 {
                unmet.push(format!("`not_null: {column}` is wanted, {nulls} of {rows} rows have none"));
            }
        }
        let mut share = |name: &str, bound: Option<Bound>, part: u64| {
            let share = if rows_in == 0 { 0.0 } else { part as f64 / rows_in as f64 };
            if let Some(bound) = bound.filter(|bound| !bound.holds(share)) {
                unmet.push(format!("`{name}: {bound}` is wanted, it is {share:.4}, {part} of {rows_in} rows"));
            }
        };
        share("dropped_share", self.dropped_share, totals.dropped_rows().saturating_add(totals.tagged_rows()));
        share("rejected_share", self.rejected_share, totals.rejected_rows());
        unmet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Result<Bound, String> {
        Bound::try_from(text.to_owned())
    }

    #[test]
    fn bounds_are_read_shown_and_held_against() {
        let cases = [
            ("< 5", [true, false, false]),
            ("<=5", [true, true, false]),
            ("== 5", [false, true, false]),
            (">= 5.0", [false, true, true]),
            (" >5 ", [false, false, true]),
            ("> 400 %", [true, true, true]),
            (">= 500%", [false, true, true]),
        ];
        for (text, holds) in cases {
            let read = bound(text).unwrap();
            assert_eq!([4.5, 5.0, 5.5].map(|value| read.holds(value)), holds, "{text}");
            assert_eq!(bound(&read.to_string()), Ok(read));
        }
        assert!(bound(">= 1_000").unwrap().holds(1000.0));
        for text in ["", "5", "=> 5", "= 5", "> -1", "> inf", "> nan", "> 1e3", "> %", "> 5 5", "> _", "> 5.5.5"] {
            assert!(bound(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_gate_that_nothing_could_close_is_pointless() {
        for (key, text) in [("rows", ">= 90%"), ("dropped_share", "< 60"), ("rejected_share", "<= 101%"), ("dropped_share", "< 1.01")] {
            assert!(bound(text).unwrap().pointless(key).is_some(), "{key}: {text}");
        }
        for (key, text) in [("rows", ">= 90"), ("dropped_share", "< 60%"), ("rejected_share", "<= 100%"), ("dropped_share", "<= 1")] {
            assert_eq!(bound(text).unwrap().pointless(key), None, "{key}: {text}");
        }
    }

    #[test]
    fn what_is_unmet_is_told_with_what_was_found() {
        let expect: Expect = serde_json::from_value(serde_json::json!({
            "rows": ">= 10", "not_null": ["text", "url"], "dropped_share": "< 50%", "rejected_share": "<= 0.1"
        }))
        .unwrap();
        let mut totals = StageTotals { rows_in: 20, rows_out: [("out".to_owned(), 10)].into(), ..StageTotals::default() };
        totals.dropped.insert("short".to_owned(), 8);
        totals.rejected.insert("wrong_type".to_owned(), 2);
        assert!(expect.unmet(&totals, totals.rows_in, false).is_empty() && !expect.is_empty());
        totals.rows_out.insert("out".to_owned(), 7);
        totals.dropped.insert("long".to_owned(), 2);
        totals.rejected.insert("other".to_owned(), 1);
        totals.nulls.insert("url".to_owned(), 3);
        let unmet = [
            "`rows: >= 10` is wanted, 7 leave it",
            "`not_null: url` is wanted, 3 of 7 rows have none",
            "`dropped_share: < 50%` is wanted, it is 0.5000, 10 of 20 rows",
            "`rejected_share: <= 0.1` is wanted, it is 0.1500, 3 of 20 rows",
        ];
        assert_eq!(expect.unmet(&totals, totals.rows_in, false), unmet);
        assert_eq!(expect.unmet(&totals, totals.rows_in, true), unmet[1..]);
        assert_eq!(expect.unmet(&StageTotals::default(), 0, false), ["`rows: >= 10` is wanted, 0 leave it"]);
    }
}
