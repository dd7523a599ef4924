//! What stages counted and no other part of the page shows: plain tables, so that nothing a stage counts is lost.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::html::esc;
use super::near::Near;
use super::plural;
use crate::show::{self, count};

const MAX_FIGURES: usize = 24;
const MAX_NAMES: usize = 12;

pub(super) fn write(nears: &[Near<'_>], out: &mut String) {
    if nears.iter().all(|near| near.rest.is_empty()) {
        return;
    }
    out.push_str("<section id=\"counts\"><h2>Counted by stages</h2>\n<p class=\"lead\">What stages counted of their own; all of it is in <code>run.json</code>.</p>\n<div class=\"reasons\">\n");
    for near in nears.iter().filter(|near| !near.rest.is_empty()) {
        let _ = write!(
            out,
            "<div><h3><bdi>{}</bdi> <small>{}</small></h3><table><thead><tr><th>Figure</th><th>Name</th><th class=\"n\">Count</th></tr></thead><tbody>",
            esc(&show::visible_line(&near.stage.id)),
            esc(&show::visible_line(&near.stage.stage_type)),
        );
        for (figure, counts) in near.rest.iter().take(MAX_FIGURES) {
            let mut counts = counts.clone();
            counts.sort_by_key(|(name, n)| (Reverse(*n), *name));
            let (shown, more) = counts.split_at(counts.len().min(MAX_NAMES));
            for (name, n) in shown {
                write_row(figure, &format!("<bdi>{}</bdi>", text(name)), *n, out);
            }
            if !more.is_empty() {
                let all = more.iter().fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
                write_row(figure, &plural(more.len() as u64, "more name", "more names"), all, out);
            }
        }
        out.push_str("</tbody></table>");
        if near.rest.len() > MAX_FIGURES {
            let _ = write!(
                out,
                "<p class=\"lead\">{} in <code>run.json</code>.</p>",
                plural((near.rest.len() - MAX_FIGURES) as u64, "more figure", "more figures")
            );
        }
        out.push_str("</div>\n");
    }
    out.push_str("</div></section>\n");
}

fn text(name: &str) -> String {
    esc(&show::visible_line(&show::cut(name, 80)))
}

fn write_row(figure: &str, name: &str, n: u64, out: &mut String) {
    let _ = write!(out, "<tr><th scope=\"row\"><bdi>{}</bdi></th><td>{name}</td><td class=\"n\">{}</td></tr>", text(figure), count(n));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::record::RunRecord;
    use crate::report::{render, samples};

    fn counted(record: &mut RunRecord, figure: &str, names: &[(&str, u64)]) {
        let names = names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<BTreeMap<_, _>>();
        record.stages[2].totals.figures.insert(figure.to_owned(), names);
    }

    fn rows_of(record: &RunRecord) -> Vec<String> {
        let page = render(record);
        let (_, rest) = page.split_once("<section id=\"counts\">").unwrap();
        let (section, _) = rest.split_once("</section>").unwrap();
        let text =
            |html: &str| html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect::<Vec<_>>().join("|");
        section.split("<tr><th scope=\"row\">").skip(1).map(|row| text(row.split("</tr>").next().unwrap()).replace("||", "|")).collect()
    }

    #[test]
    fn what_no_other_part_shows_is_in_a_table() {
        let mut record = samples::web();
        counted(&mut record, "models", &[("small", 3), ("large", 1200)]);
        // Of the figures of near-duplicates: what does not read as one.
        counted(&mut record, "cluster_size", &[("2", 5), ("1", 6), ("many", 7)]);
        counted(&mut record, "not_compared", &[("pairs", 5), ("bands", 10)]);
        counted(&mut record, "removed_at", &[("0.7 wiki", 11), ("wiki", 12), ("1.01 wiki", 13)]);
        counted(&mut record, "rows_of_source", &[("wiki", 14)]);
        assert_eq!(
            rows_of(&record).iter().map(|row| row.trim_matches('|').replace("||", "|")).collect::<Vec<_>>(),
            [
                "cluster_size|many|7",
                "cluster_size|1|6",
                "models|large|1,200",
                "models|small|3",
                "not_compared|bands|10",
                "removed_at|1.01 wiki|13",
                "removed_at|wiki|12",
                "removed_at|0.7 wiki|11",
                "rows_of_source|wiki|14",
            ]
        );
    }

    #[test]
    fn long_tables_are_cut_and_say_what_is_left_out() {
        let mut record = samples::web();
        let names: Vec<String> = (0..500).map(|i| format!("name {i}")).collect();
        let names: Vec<(&str, u64)> = names.iter().zip(1..).map(|(name, n)| (name.as_str(), n)).collect();
        for figure in 0..30 {
            counted(&mut record, &format!("figure_{figure:02}"), &names);
        }
        let rows = rows_of(&record);
        assert_eq!(rows.len(), 24 * 13);
        assert!(rows[0].contains("name 499|") && rows[0].ends_with("500|"), "{}", rows[0]);
        // 1 + 2 + … + 488
        assert!(rows[12].contains("488 more names|") && rows[12].contains("119,316"), "{}", rows[12]);
        assert!(render(&record).contains("6 more figures in <code>run.json</code>"));
    }
}
