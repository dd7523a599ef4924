//! Where rows lie against the thresholds: a histogram for every number that a stage decides by.

use std::fmt::Write as _;

use stages::{Measured, Subject};

use super::html::esc;
use super::{plot, plural};
use crate::record::{RunRecord, StageRecord};
use crate::show;

const MAX_PLOTS: usize = 48;

/// What a stage measured of rows; pairs are shown with the near-duplicates.
fn of_rows(stage: &StageRecord) -> impl Iterator<Item = (&str, &Measured)> {
    let measured = stage.totals.measured.iter().filter(|(_, measured)| measured.of == Subject::Rows);
    measured.map(|(name, measured)| (name.as_str(), measured))
}

pub(super) fn is_empty(record: &RunRecord) -> bool {
    record.stages.iter().all(|stage| of_rows(stage).next().is_none())
}

pub(super) fn write(record: &RunRecord, out: &mut String) {
    if is_empty(record) {
        return;
    }
    out.push_str(
        "<section id=\"thresholds\"><h2>Rows against the thresholds</h2>\n\
         <p class=\"lead\">Every number that a stage decides by, of all rows it saw, and where its bounds stand. Rows close to a bound are those that it should be judged by.</p>\n",
    );
    let mut left = MAX_PLOTS;
    for stage in &record.stages {
        let mut plots = of_rows(stage).peekable();
        if plots.peek().is_none() {
            continue;
        }
        let _ = writeln!(
            out,
            "<h3 class=\"of\"><bdi>{}</bdi> <small>{}</small></h3>",
            esc(&show::visible_line(&stage.id)),
            esc(&show::visible_line(&stage.stage_type)),
        );
        let mut more = 0;
        for (name, measured) in plots {
            if left == 0 {
                more += 1;
                continue;
            }
            left -= 1;
            let _ = write!(
                out,
                "<div class=\"measure\"><h4><bdi>{}</bdi></h4><p>{}{}.</p>",
                esc(&show::visible_line(name)),
                plot::about(measured),
                unmeasured(stage, measured)
            );
            plot::write(measured, out);
            out.push_str("</div>\n");
        }
        if more > 0 {
            let _ = writeln!(out, "<p class=\"lead\">{} in <code>run.json</code>.</p>", plural(more, "more histogram", "more histograms"));
        }
    }
    out.push_str("</section>\n");
}

/// Rows that came in and have no number.
fn unmeasured(stage: &StageRecord, measured: &Measured) -> String {
    let [kept, dropped] = measured.counts();
    match stage.totals.rows_in.saturating_sub(kept.saturating_add(dropped).saturating_add(measured.not_a_number)) {
        0 => String::new(),
        n => format!("; {} not measured", plural(n, "row was", "rows were")),
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{render, samples};

    fn section(page: &str) -> Option<&str> {
        let (_, rest) = page.split_once("<section id=\"thresholds\">")?;
        rest.split_once("</section>").map(|(section, _)| section)
    }

    #[test]
    fn stages_that_measure_rows_have_a_histogram() {
        let mut record = samples::web();
        let page = render(&record);
        let shown = section(&page).unwrap();
        assert_eq!(shown.matches("<svg").count(), 1, "pairs are shown elsewhere");
        assert!(shown.contains("min_chars 200</text>") && shown.contains("max_chars 100,000</text>"), "{shown}");
        assert!(shown.contains("40 rows were not measured"), "{shown}");
        record.stages.iter_mut().for_each(|stage| stage.totals.measured.retain(|name, _| name == "similarity"));
        let page = render(&record);
        assert!(section(&page).is_none() && !page.contains("#thresholds"));
    }

    #[test]
    fn hundreds_of_numbers_do_not_make_a_page_that_no_browser_opens() {
        let mut record = samples::web();
        let totals = &mut record.stages[2].totals;
        let chars = totals.measured["chars"].clone();
        totals.measured = (0..500).map(|n| (format!("n{n:03}"), chars.clone())).collect();
        let page = render(&record);
        assert_eq!(section(&page).unwrap().matches("<svg").count(), 48);
        assert!(section(&page).unwrap().contains("452 more histograms in <code>run.json</code>"));
        assert!(page.len() < 4 << 20, "{}", page.len());
    }
}
