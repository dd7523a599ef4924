//! Near-duplicates: how alike the pairs were that a stage compared, which clusters they made, and what higher thresholds would remove.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use stages::{Measured, Subject};

use super::html::esc;
use super::{bar, mixtures, models, plot, plural};
use crate::record::{RunRecord, StageRecord};
use crate::show::{self, count, share};

const MAX_SOURCES_SHOWN: usize = 8;

/// The figures of one stage: those of near-duplicates, and the rest.
pub(super) struct Near<'r> {
    pub(super) stage: &'r StageRecord,
    /// By [`size_bin`]: clusters, and the rows in them.
    clusters: BTreeMap<u8, (u64, u64)>,
    compared: Option<&'r Measured>,
    left_out: u64,
    /// By threshold in hundredths, then source.
    removed: BTreeMap<u8, BTreeMap<&'r str, u64>>,
    /// By source, of `scope: both`: rows removed among those of the source alone.
    removed_local: BTreeMap<&'r str, u64>,
    rows: BTreeMap<&'r str, u64>,
    /// Figure, name and count of whatever is none of the above.
    pub(super) rest: BTreeMap<&'r str, Vec<(&'r str, u64)>>,
}

impl<'r> Near<'r> {
    pub(super) fn all_of(record: &'r RunRecord) -> Vec<Self> {
        record.stages.iter().map(Self::of).collect()
    }

    fn of(stage: &'r StageRecord) -> Self {
        let mut near = Self {
            stage,
            clusters: BTreeMap::new(),
            compared: stage.totals.measured.values().find(|measured| measured.of == Subject::Pairs),
            left_out: 0,
            removed: BTreeMap::new(),
            removed_local: BTreeMap::new(),
            rows: BTreeMap::new(),
            rest: BTreeMap::new(),
        };
        for (figure, names) in
            stage.totals.figures.iter().filter(|(figure, _)| !mixtures::is_told(stage, figure) && !models::is_told(stage, figure))
        {
            for (name, n) in names {
                if !near.take(figure, name, *n) {
                    near.rest.entry(figure).or_default().push((name, *n));
                }
            }
        }
        // By themselves the rows of sources say nothing about near-duplicates.
        if near.removed.is_empty() && near.removed_local.is_empty() && !near.rows.is_empty() {
            near.rest.entry("rows_of_source").or_default().extend(std::mem::take(&mut near.rows));
        }
        near
    }

    /// Takes a count in; `false` if it is not one of near-duplicates.
    fn take(&mut self, figure: &str, name: &'r str, n: u64) -> bool {
        match figure {
            "cluster_size" => match name.parse() {
                Ok(size @ 2..) => {
                    let (clusters, rows) = self.clusters.entry(size_bin(size)).or_default();
                    *clusters = clusters.saturating_add(n);
                    *rows = rows.saturating_add(n.saturating_mul(size));
                    true
                }
                _ => false,
            },
            "not_compared" if name == "pairs" => {
                self.left_out = n;
                true
            }
            "removed_at" => match name.split_once(' ').and_then(|(at, source)| Some((hundredths(at)?, source))) {
                Some((at, source)) => self.removed.entry(at).or_default().insert(source, n).is_none(),
                None => false,
            },
            "removed_local" => self.removed_local.insert(name, n).is_none(),
            "rows_of_source" => self.rows.insert(name, n).is_none(),
            _ => false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
            && self.compared.is_none()
            && self.left_out == 0
            && self.removed.is_empty()
            && self.removed_local.is_empty()
    }

    /// Whether the stage only says what is a duplicate.
    fn is_both(&self) -> bool {
        self.stage.settings.get("scope").and_then(serde_json::Value::as_str) == Some("both")
    }
}

/// A threshold as the stage names it, in hundredths.
fn hundredths(name: &str) -> Option<u8> {
    (0..=100).find(|at| name == threshold_name(*at))
}

fn threshold_name(at: u8) -> String {
    format!("{:.2}", f64::from(at) / 100.0)
}

/// Sizes 2, 3 and 4 by themselves (0 to 2), then 5–8 (3), 9–16 (4), …
fn size_bin(size: u64) -> u8 {
    match size {
        0..=2 => 0,
        3 => 1,
        4 => 2,
        size => (1..64).find(|log| size <= 1 << log).unwrap_or(64),
    }
}

/// The sizes in these bins.
fn sizes(first: u8, last: u8) -> String {
    let low = if first < 3 { u64::from(first) + 2 } else { (1 << (first - 1)) + 1 };
    let high = if last < 3 { u64::from(last) + 2 } else { 1u64.checked_shl(last.into()).unwrap_or(u64::MAX) };
    if low == high { count(low) } else { format!("{}–{}", count(low), count(high)) }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

pub(super) fn write(nears: &[Near<'_>], out: &mut String) {
    if nears.iter().all(Near::is_empty) {
        return;
    }
    out.push_str(
        "<section id=\"near\"><h2>Near-duplicates</h2>\n\
         <p class=\"lead\">Texts that are almost the same: how alike the pairs were that were compared, which clusters they made, and what other thresholds would have done.</p>\n",
    );
    for near in nears.iter().filter(|near| !near.is_empty()) {
        let _ = writeln!(
            out,
            "<h3 class=\"of\"><bdi>{}</bdi> <small>{}</small></h3>",
            esc(&show::visible_line(&near.stage.id)),
            esc(&show::visible_line(&near.stage.stage_type)),
        );
        if near.left_out > 0 {
            let (comparisons, were, these) =
                if near.left_out == 1 { ("comparison", "was", "it links") } else { ("comparisons", "were", "they link") };
            let _ = writeln!(
                out,
                "<p class=\"note\">In crowded bands <b>{} {comparisons}</b> {were} left out, a pair counting in each band it shares; rows that only {these} stay in.</p>",
                count(near.left_out)
            );
        }
        out.push_str("<div class=\"near\">\n");
        write_clusters(near, out);
        write_compared(near, out);
        write_removed(near, out);
        write_scopes(near, out);
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

fn write_clusters(near: &Near<'_>, out: &mut String) {
    if near.clusters.is_empty() {
        return;
    }
    let (clusters, rows) = (sum(near.clusters.values().map(|of| of.0)), sum(near.clusters.values().map(|of| of.1)));
    let most = near.clusters.values().map(|of| of.1).max().unwrap_or(0);
    let _ = write!(
        out,
        "<div><h4>Clusters by size</h4><p><b>{}</b> of <b>{}</b>; {}.</p>\
         <ul class=\"key\"><li><i class=\"b-keep\"></i>the row kept</li><li><i class=\"b-drop\"></i>its near-duplicates</li></ul>\
         <div class=\"scroll\"><table class=\"sizes\"><thead><tr><th>Rows in a cluster</th><th></th><th class=\"n\">Clusters</th><th class=\"n\">Rows</th></tr></thead><tbody>",
        plural(clusters, "cluster", "clusters"),
        plural(rows, "row", "rows"),
        if near.is_both() { "this stage drops nothing, and marks one row of each as the one to keep" } else { "of each, one row is kept" },
    );
    let mut write_row = |sizes: &str, (clusters, rows): (u64, u64)| {
        let shown = |n| if n == 0 { "–".to_owned() } else { count(n) };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{sizes}</th><td class=\"bar\"><div class=\"stack\" aria-hidden=\"true\">{}{}</div></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            bar("b-keep", clusters, most),
            bar("b-drop", rows.saturating_sub(clusters), most),
            shown(clusters),
            shown(rows),
        );
    };
    // Sizes that no cluster has share a row, however many they are.
    let mut next = 0;
    for (bin, of) in &near.clusters {
        if next < *bin {
            write_row(&sizes(next, *bin - 1), (0, 0));
        }
        write_row(&sizes(*bin, *bin), *of);
        next = *bin + 1;
    }
    out.push_str("</tbody></table></div></div>\n");
}

fn write_compared(near: &Near<'_>, out: &mut String) {
    let Some(compared) = near.compared.filter(|compared| compared.counts() != [0; 2]) else { return };
    let _ = write!(out, "<div><h4>Pairs compared, by similarity</h4><p>{}.</p>", plot::about(compared));
    plot::write(compared, out);
    out.push_str(
        "<p>Only pairs that share a band are compared: the further below the threshold, the fewer of all such pairs are here. Texts with the same words in the same order are linked without being compared.</p></div>\n",
    );
}

/// What one source, or several, would lose.
struct Loss {
    name: String,
    rows: u64,
    /// By threshold; absent where it was not counted.
    removed: Vec<Option<u64>>,
    /// Among the rows of each source alone; absent where it was not counted.
    removed_local: Option<u64>,
}

impl Loss {
    fn of(name: String, sources: &[&str], near: &Near<'_>) -> Self {
        let at = |counts: &BTreeMap<&str, u64>| {
            let mut counts = sources.iter().filter_map(|source| counts.get(source).copied()).peekable();
            counts.peek().is_some().then(|| sum(counts))
        };
        Self {
            name,
            rows: sum(sources.iter().filter_map(|source| near.rows.get(source).copied())),
            removed: near.removed.values().map(at).collect(),
            removed_local: at(&near.removed_local),
        }
    }

    fn share(&self, removed: Option<u64>) -> f64 {
        removed.map_or(0.0, |n| n as f64 / self.rows.max(1) as f64).min(1.0)
    }
}

/// The sources from the largest on, and what they make up together.
fn losses(near: &Near<'_>) -> Vec<Loss> {
    let mut sources: Vec<&str> = near.rows.keys().chain(near.removed.values().flat_map(BTreeMap::keys)).copied().collect();
    sources.sort_by_cached_key(|source| (Reverse(near.rows.get(source).copied().unwrap_or(0)), *source));
    sources.dedup();
    let (shown, others) = sources.split_at(sources.len().min(MAX_SOURCES_SHOWN));
    let mut losses = Vec::new();
    if sources.len() > 1 {
        losses.push(Loss::of("all sources".to_owned(), &sources, near));
    }
    losses.extend(shown.iter().map(|source| {
        let name = if source.is_empty() { "(empty)".to_owned() } else { show::cut(source, 80) };
        Loss::of(name, &[source], near)
    }));
    if !others.is_empty() {
        losses.push(Loss::of(plural(others.len() as u64, "more source", "more sources"), others, near));
    }
    losses
}

fn write_removed(near: &Near<'_>, out: &mut String) {
    let Some(used) = near.removed.keys().next().map(|at| threshold_name(*at)) else { return };
    let has_higher = near.removed.len() > 1;
    let _ = write!(
        out,
        "<div class=\"wide\"><h4>{}</h4><p>Share of each source's rows, and their number, that {} at the threshold used, {used}{}</p>\
         <div class=\"scroll\"><table class=\"at\"><thead><tr><th>Source</th><th class=\"n\">Rows in</th>",
        if has_higher { "Removed at this and at higher thresholds" } else { "Removed, by source" },
        if near.is_both() { "would be removed" } else { "are removed" },
        if has_higher {
            ", and that would be at higher ones. The higher ones are worked out from the pairs that were compared here, so they are lower bounds: pairs that were not compared may remove a few rows more."
        } else {
            "."
        },
    );
    for (i, at) in near.removed.keys().enumerate() {
        let class = if i == 0 { "n used" } else { "n" };
        let _ = write!(out, "<th class=\"{class}\">{}{}</th>", threshold_name(*at), if i == 0 { " <b>used</b>" } else { "" });
    }
    out.push_str("</tr></thead><tbody>");
    let losses = losses(near);
    let most = losses.iter().flat_map(|loss| loss.removed.iter().map(|n| loss.share(*n))).fold(0.0, f64::max);
    for loss in &losses {
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"n\">{}</td>",
            esc(&show::visible_line(&loss.name)),
            count(loss.rows)
        );
        for (i, removed) in loss.removed.iter().enumerate() {
            let class = if i == 0 { "n used" } else { "n" };
            let Some(n) = removed else {
                let _ = write!(out, "<td class=\"{class}\">–</td>");
                continue;
            };
            let width = if most > 0.0 { loss.share(*removed) * 100.0 / most } else { 0.0 };
            let _ = write!(
                out,
                "<td class=\"{class}\">{} <small>{}</small><div class=\"thin\" aria-hidden=\"true\"><i style=\"width:{width:.1}%\"></i></div></td>",
                esc(&share(*n, loss.rows)),
                count(*n)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div></div>\n");
}

/// What is removed among all rows beyond what is removed among the rows of each source: copies of what another source has.
fn write_scopes(near: &Near<'_>, out: &mut String) {
    if near.removed_local.is_empty() || near.removed.is_empty() {
        return;
    }
    out.push_str(
        "<div class=\"wide\"><h4>What global removes beyond local</h4><p>Rows of each source that would be removed among the rows of that source alone, and those that would be removed besides because another source has them too, at the threshold used.</p>\
         <ul class=\"key\"><li><i class=\"b-keep\"></i>kept</li><li><i class=\"b-side\"></i>removed by local too</li><li><i class=\"b-drop\"></i>removed by global alone</li></ul>\
         <div class=\"scroll\"><table class=\"scopes\"><thead><tr><th>Source</th><th></th><th class=\"n\">Rows in</th><th class=\"n\">Local</th><th class=\"n\">Global</th><th class=\"n\">Beyond local</th></tr></thead><tbody>",
    );
    for loss in losses(near) {
        let (local, global) = (loss.removed_local.unwrap_or(0), loss.removed.first().copied().flatten().unwrap_or(0));
        let beyond = global.saturating_sub(local);
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"bar\"><div class=\"stack\" aria-hidden=\"true\">{}{}{}</div></td><td class=\"n\">{}</td>\
             <td class=\"n\">{} <small>{}</small></td><td class=\"n\">{} <small>{}</small></td><td class=\"n\">{} <small>{}</small></td></tr>",
            esc(&show::visible_line(&loss.name)),
            bar("b-keep", loss.rows.saturating_sub(global), loss.rows),
            bar("b-side", global.min(local), loss.rows),
            bar("b-drop", beyond, loss.rows),
            count(loss.rows),
            share(local, loss.rows),
            count(local),
            share(global, loss.rows),
            count(global),
            share(beyond, loss.rows),
            count(beyond),
        );
    }
    out.push_str("</tbody></table></div></div>\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{render, samples};

    type Named<'s> = &'s [(&'s str, u64)];

    /// The near-duplicates of a page whose stage `unique` counted this.
    fn section(threshold: f64, figures: &[(&str, Named<'_>)]) -> Option<String> {
        let counted = |names: Named<'_>| names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let mut record = samples::web();
        let stage = record.stages.iter_mut().find(|stage| stage.id == "unique").unwrap();
        stage.settings = json!({"jaccard_threshold": threshold});
        stage.totals.measured.clear();
        stage.totals.figures = figures.iter().map(|(figure, names)| ((*figure).to_owned(), counted(names))).collect();
        part_of(&render(&record))
    }

    fn part_of(page: &str) -> Option<String> {
        let (_, rest) = page.split_once("<section id=\"near\">")?;
        rest.split_once("</section>").map(|(section, _)| section.to_owned())
    }

    fn without_tags(html: &str) -> String {
        html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect()
    }

    #[test]
    fn all_that_was_counted_of_a_run_is_told() {
        let section = part_of(&render(&samples::web())).unwrap();
        let text = without_tags(&section);
        for wanted in [
            "53,690 clusters of 157,812 rows; of each, one row is kept.",
            "248,730 pairs compared in full, 111,128 of them at or above 0.8; from 0.35 to 1.",
            "In crowded bands 18,204 comparisons were left out, a pair counting in each band it shares; rows that only they link stay in.",
            "Share of each source's rows, and their number, that are removed at the threshold used, 0.80, and that would be at higher ones.",
            "so they are lower bounds",
            "jaccard_threshold 0.8",
            "jaccard_threshold ≥ 0.8137,602+36,4900.72",
            "all sources282,23636.9 % 104,12232.7 % 92,245",
            "(small ones)20040.0 % 80",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
    }

    #[test]
    fn clusters_are_counted_by_powers_of_two() {
        let bins: Vec<u8> = [2, 3, 4, 5, 8, 9, 16, 17, 1 << 63, (1 << 63) + 1, u64::MAX].into_iter().map(size_bin).collect();
        assert_eq!(bins, [0, 1, 2, 3, 3, 4, 4, 5, 63, 64, 64]);
        let names: Vec<String> = [0, 1, 2, 3, 4, 10].into_iter().map(|bin| sizes(bin, bin)).collect();
        assert_eq!(names, ["2", "3", "4", "5–8", "9–16", "513–1,024"]);
        assert_eq!(sizes(64, 64), "9,223,372,036,854,775,809–18,446,744,073,709,551,615");
        let section = section(0.8, &[("cluster_size", &[("2", 30), ("5", 1), ("7", 2), ("9", 1), ("65", 1)])]).unwrap();
        let text = without_tags(&section);
        assert!(text.contains("35 clusters of 153 rows"), "{text}");
        // Sizes, clusters, rows; sizes of no cluster in one line.
        assert!(text.contains("230603–4––5–83199–161917–64––65–128165"), "{text}");
    }

    #[test]
    fn the_largest_sources_are_shown_and_the_rest_added_up() {
        let names: Vec<String> = (0..1000).map(|i| format!("s{i:03} x")).collect();
        let rows: Vec<(&str, u64)> = names.iter().zip(1..).map(|(name, n)| (name.as_str(), n * 10)).collect();
        let at: Vec<String> = names.iter().flat_map(|name| [format!("0.80 {name}"), format!("0.90 {name}")]).collect();
        let removed: Vec<(&str, u64)> = at.iter().map(|at| (at.as_str(), if at.starts_with("0.80") { 2 } else { 1 })).collect();
        let section = section(0.8, &[("rows_of_source", &rows), ("removed_at", &removed)]).unwrap();
        let text = without_tags(&section);
        assert_eq!(section.matches("<tr><th scope=\"row\">").count(), 10);
        assert!(text.contains("all sources5,005,000&lt;0.1 % 2,000&lt;0.1 % 1,000"), "{text}");
        assert!(text.contains("s999 x10,000&lt;0.1 % 2&lt;0.1 % 1") && text.contains("s992 x") && !text.contains("s991 x"), "{text}");
        // 5,005,000 less the eight largest: 10,000 + 9,990 + … + 9,930.
        assert!(text.contains("992 more sources4,925,280&lt;0.1 % 1,984&lt;0.1 % 992"), "{text}");
    }

    #[test]
    fn rows_without_a_source_are_told_once() {
        let section = section(0.8, &[("rows_of_source", &[("all", 50)]), ("removed_at", &[("0.80 all", 5)])]).unwrap();
        assert_eq!(section.matches("<tr><th scope=\"row\">").count(), 1);
        assert!(without_tags(&section).contains("all5010.0 % 5"));
        assert!(section.contains("<h4>Removed, by source</h4>") && !section.contains("lower bound"));
    }

    #[test]
    fn only_the_parts_that_were_counted_are_there() {
        let headings = |section: Option<String>| section.map(|section| section.matches("<h4>").count());
        assert_eq!(headings(section(0.8, &[])), None);
        assert_eq!(headings(section(0.8, &[("cluster_size", &[]), ("not_compared", &[])])), None);
        assert_eq!(headings(section(0.8, &[("cluster_size", &[("2", 1)])])), Some(1));
        assert_eq!(headings(section(0.8, &[("not_compared", &[("pairs", 1)])])), Some(0));
        assert_eq!(headings(section(0.8, &[("removed_at", &[("0.80 all", 1)])])), Some(1));
        let note = section(0.8, &[("not_compared", &[("pairs", 1)])]).unwrap();
        assert!(
            without_tags(&note).contains(
                "In crowded bands 1 comparison was left out, a pair counting in each band it shares; rows that only it links stay in."
            ),
            "{note}"
        );
        let mut record = samples::web();
        record.stages.iter_mut().for_each(|stage| stage.totals.figures.clear());
        assert_eq!(headings(part_of(&render(&record))), Some(1), "the pairs that were compared");
        record.stages.iter_mut().for_each(|stage| stage.totals.measured.clear());
        let page = render(&record);
        assert!(!page.contains("#near") && !page.contains("#counts") && !page.contains("Near-duplicates"));
        assert!(!page.contains("id=\"counts\"") && !render(&samples::web()).contains("id=\"counts\""));
    }

    #[test]
    fn what_global_removes_beyond_local_is_told_by_source() {
        let figures: [(&str, Named<'_>); 3] = [
            ("rows_of_source", &[("books", 40), ("web", 200)]),
            ("removed_at", &[("0.80 books", 4), ("0.80 web", 90)]),
            ("removed_local", &[("books", 4), ("web", 50)]),
        ];
        let text = without_tags(&section(0.8, &figures).unwrap());
        assert!(text.contains("all sources24022.5 % 5439.2 % 9416.7 % 40"), "{text}");
        assert!(text.contains("web20025.0 % 5045.0 % 9020.0 % 40") && text.contains("books4010.0 % 410.0 % 40.0 % 0"), "{text}");
        assert!(!without_tags(&section(0.8, &figures[..2]).unwrap()).contains("beyond local"));
    }

    #[test]
    fn what_a_stage_says_of_scope_both_is_that_nothing_is_dropped() {
        let mut record = samples::web();
        let stage = record.stages.iter_mut().find(|stage| stage.id == "unique").unwrap();
        stage.settings["scope"] = json!("both");
        let text = without_tags(&part_of(&render(&record)).unwrap());
        assert!(text.contains("157,812 rows; this stage drops nothing, and marks one row of each as the one to keep."), "{text}");
        assert!(text.contains("that would be removed at the threshold used, 0.80, and"), "{text}");
        assert!(!text.contains("are removed") && !text.contains("is kept"), "{text}");
    }
}
