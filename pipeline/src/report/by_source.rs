//! The funnel once more, source by source: which stage bears on which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::html::esc;
use crate::record::{RunRecord, StageRecord};
use crate::show::{self, count, share};

const MAX_STAGES_SHOWN: usize = 12;

/// Rows by source.
type Rows<'r> = BTreeMap<&'r str, u64>;

/// Rows of each source as they were read: those of the first stages, on each way through the graph, whose rows say where they are from. The
/// column may come with the data or be added by a stage after the source.
pub(super) fn read(record: &RunRecord) -> Rows<'_> {
    let first = first_to_say(record);
    sum(record.stages.iter().filter(|stage| first.contains(stage.id.as_str())))
}

/// Rows of each source that left the run.
pub(super) fn published(record: &RunRecord) -> Rows<'_> {
    sum(record.stages.iter().filter(|stage| !record.is_read(&stage.id)))
}

fn first_to_say(record: &RunRecord) -> BTreeSet<&str> {
    let (mut bear, mut first) = (BTreeSet::new(), BTreeSet::new());
    for stage in &record.stages {
        let has = !stage.totals.profile.sources.is_empty();
        let after = stage.reads().any(|(_, from, _)| bear.contains(from));
        if has || after {
            bear.insert(stage.id.as_str());
        }
        if has && !after {
            first.insert(stage.id.as_str());
        }
    }
    first
}

fn sum<'r>(stages: impl Iterator<Item = &'r StageRecord>) -> Rows<'r> {
    let mut rows = Rows::new();
    for (source, n) in stages.flat_map(|stage| &stage.totals.profile.sources) {
        let total = rows.entry(source).or_default();
        *total = total.saturating_add(*n);
    }
    rows
}

/// A stage that takes rows away, or the last of its way.
struct Step<'r> {
    id: &'r str,
    /// Rows of each source that came in, where the stages before it say so.
    came: Rows<'r>,
    left: Rows<'r>,
}

impl<'r> Step<'r> {
    fn of(stage: &'r StageRecord, record: &'r RunRecord) -> Self {
        let before = |from: &&StageRecord| stage.reads().any(|(_, id, port)| id == from.id && port == "out");
        Self { id: &stage.id, came: sum(record.stages.iter().filter(before)), left: sum([stage].into_iter()) }
    }

    /// Rows of `source` that left; `None` if there were none to begin with.
    fn left(&self, source: &str) -> Option<u64> {
        self.left.get(source).copied().or_else(|| self.came.get(source).map(|_| 0))
    }
}

fn steps(record: &RunRecord) -> Vec<Step<'_>> {
    let first = first_to_say(record);
    let decides = |stage: &&StageRecord| {
        let knows = !stage.totals.profile.sources.is_empty() || stage.totals.dropped_rows() > 0;
        knows && !first.contains(stage.id.as_str()) && (stage.totals.dropped_rows() > 0 || !record.is_read(&stage.id))
    };
    record
        .stages
        .iter()
        .filter(decides)
        .map(|stage| Step::of(stage, record))
        .filter(|step| !(step.came.is_empty() && step.left.is_empty()))
        .collect()
}

/// A table of sources and stages: how much of each source is left behind each stage.
pub(super) fn write(record: &RunRecord, sources: &[&str], out: &mut String) {
    let (read, steps) = (read(record), steps(record));
    if steps.is_empty() || sources.is_empty() || read.is_empty() {
        return;
    }
    let (shown, more) = steps.split_at(steps.len().min(MAX_STAGES_SHOWN));
    out.push_str(
        "<h3 class=\"of\">Stage by stage</h3>\n<p class=\"lead\">How much of what was read of each source is left behind each stage that drops rows, and in the end.</p>\n\
         <div class=\"scroll\"><table class=\"at\"><thead><tr><th>Source</th><th class=\"n\">Read</th>",
    );
    for step in shown {
        let _ = write!(out, "<th class=\"n\"><bdi>{}</bdi></th>", esc(&show::visible_line(&show::cut(step.id, 40))));
    }
    out.push_str("</tr></thead><tbody>\n");
    for source in sources {
        let rows = read.get(source).copied().unwrap_or(0);
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"n\">{}</td>",
            esc(&show::visible_line(&show::cut(source, 80))),
            count(rows)
        );
        for step in shown {
            let Some(left) = step.left(source) else {
                out.push_str("<td class=\"n\">–</td>");
                continue;
            };
            // More may leave than was read, where rows are repeated.
            let width = (left as f64 / rows.max(1) as f64).min(1.0) * 100.0;
            let _ = write!(
                out,
                "<td class=\"n\">{} <small>{}</small><div class=\"thin keep\" aria-hidden=\"true\"><i style=\"width:{width:.1}%\"></i></div></td>",
                esc(&share(left, rows)),
                count(left)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    if !more.is_empty() {
        let _ = writeln!(out, "<p class=\"lead\">Not shown: {} more stages that drop rows.</p>", more.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{render, samples};

    /// A run of three stages, one after the other, of which the second drops what is missing behind it.
    fn record(read: &[(&str, u64)], left: &[(&str, u64)]) -> RunRecord {
        let mut record = samples::web();
        let counts = |rows: &[(&str, u64)]| rows.iter().map(|(source, n)| ((*source).to_owned(), *n)).collect::<BTreeMap<_, _>>();
        record.stages.truncate(3);
        for (number, stage) in record.stages.iter_mut().enumerate() {
            stage.id = format!("s{number}");
            stage.inputs = (number > 0).then(|| ("from".to_owned(), vec![format!("s{}", number - 1)])).into_iter().collect();
            stage.totals.profile.sources = counts(if number == 0 { read } else { left });
            stage.totals.dropped.clear();
        }
        let lost = read.iter().map(|of| of.1).sum::<u64>() - left.iter().map(|of| of.1).sum::<u64>();
        record.stages[1].totals.dropped = [("too_short".to_owned(), lost)].into();
        record
    }

    fn text(record: &RunRecord, sources: &[&str]) -> String {
        let mut page = String::new();
        write(record, sources, &mut page);
        page.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect()
    }

    #[test]
    fn each_source_is_followed_from_stage_to_stage() {
        let record = record(&[("web", 200), ("books", 40), ("gone", 7)], &[("web", 150), ("books", 40)]);
        let told = text(&record, &["web", "books", "gone"]);
        assert!(told.contains("SourceReads1s2"), "{told}");
        assert!(told.contains("web20075.0 % 15075.0 % 150"), "{told}");
        assert!(told.contains("books40100.0 % 40100.0 % 40"), "{told}");
        // The stage behind the one that dropped all of it never saw it.
        assert!(told.contains("gone70.0 % 0–"), "{told}");
    }

    #[test]
    fn nothing_is_said_where_no_source_is_known_or_nothing_is_dropped() {
        assert_eq!(text(&record(&[], &[]), &[]), "");
        let mut one = record(&[("web", 3)], &[("web", 2)]);
        one.stages.truncate(1);
        assert_eq!(text(&one, &["web"]), "");
        assert!(render(&record(&[("web", 3)], &[("web", 2)])).contains("<h3 class=\"of\">Stage by stage</h3>"));
    }

    #[test]
    fn repeated_rows_are_more_than_all() {
        let told = text(&record(&[("web", 200), ("x", 1)], &[("web", 200)]), &["web"]);
        assert!(told.contains("100.0 % 200"), "{told}");
        let mut repeated = record(&[("web", 200), ("x", 1)], &[("web", 200)]);
        repeated.stages[2].totals.profile.sources = [("web".to_owned(), 300)].into();
        let mut page = String::new();
        write(&repeated, &["web"], &mut page);
        assert!(page.contains("1.5 ×") && page.contains("width:100.0%") && !page.contains("width:150"), "{page}");
    }
}
