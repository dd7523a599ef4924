//! What the rows look like: lengths, sources, and a few rows themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::html::{esc, percent};
use super::{by_source, plural};
use crate::record::{Profile, RunRecord, Sample, StageRecord};
use crate::show::{self, count, share};

const MAX_FACETS: usize = 24;
const MAX_SOURCES_SHOWN: usize = 20;
const MAX_CARDS: usize = 9;

/// Lengths of what came into a stage and of what left it.
struct Facet<'r> {
    stage: &'r StageRecord,
    before: BTreeMap<u8, u64>,
}

pub(super) fn write_lengths(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"lengths\"><h2>Lengths of texts</h2>\n");
    let by_id: BTreeMap<&str, &StageRecord> = record.stages.iter().map(|stage| (stage.id.as_str(), stage)).collect();
    let mut facets = Vec::new();
    let mut unchanged = 0u64;
    for stage in record.stages.iter().filter(|stage| !stage.totals.profile.lengths.is_empty()) {
        let mut before = BTreeMap::new();
        for (_, id, port) in stage.reads().filter(|(_, _, port)| *port == "out") {
            debug_assert_eq!(port, "out");
            for (k, n) in by_id.get(id).map(|from| &from.totals.profile.lengths).into_iter().flatten() {
                let rows: &mut u64 = before.entry(*k).or_default();
                *rows = rows.saturating_add(*n);
            }
        }
        if before == stage.totals.profile.lengths {
            unchanged += 1;
        } else {
            facets.push(Facet { stage, before });
        }
    }
    if facets.is_empty() {
        out.push_str("<p class=\"empty\">No stage gave rows with a column <code>text</code>.</p></section>\n");
        return;
    }
    out.push_str(
        "<p class=\"lead\">Characters a text, each bar twice as long as the one before it; the outline is what came in, the filled bars what went on.</p>\n\
         <ul class=\"key\"><li><i class=\"b-keep\"></i>went on</li><li><i class=\"b-before\"></i>came in</li></ul>\n<div class=\"facets\">\n",
    );
    let counts = || facets.iter().flat_map(|facet| facet.before.keys().chain(facet.stage.totals.profile.lengths.keys()));
    let low = counts().min().copied().unwrap_or(0).min(63);
    let high = counts().max().copied().unwrap_or(0).clamp(low.saturating_add(5).min(63), 63);
    for facet in facets.iter().take(MAX_FACETS) {
        write_facet(facet, low, high, out);
    }
    out.push_str("</div>\n");
    if facets.len() > MAX_FACETS {
        let _ = writeln!(out, "<p class=\"lead\">{} more are in the table.</p>", facets.len() - MAX_FACETS);
    }
    if unchanged > 0 {
        let _ =
            writeln!(out, "<p class=\"lead\">Not drawn: {} that left every length as it was.</p>", plural(unchanged, "stage", "stages"));
    }
    out.push_str("<details><summary>The lengths as a table</summary><div class=\"scroll\"><table><thead><tr><th>Characters</th>");
    for facet in &facets {
        let _ = write!(out, "<th class=\"n\"><bdi>{}</bdi></th>", esc(&show::visible_line(&facet.stage.id)));
    }
    out.push_str("</tr></thead><tbody>");
    for k in low..=high {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", span(k));
        for facet in &facets {
            let _ = write!(out, "<td class=\"n\">{}</td>", count(rows_at(&facet.stage.totals.profile.lengths, k, high)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></details></section>\n");
}

/// `2^k … 2^(k+1) - 1` characters.
fn span(k: u8) -> String {
    if k == 0 { "0–1".to_owned() } else { format!("{}–{}", tick(k), tick(k + 1)) }
}

/// A power of two for an axis.
fn tick(k: u8) -> String {
    match k {
        0..=9 => (1u64 << k).to_string(),
        10..=19 => format!("{}k", 1u64 << (k - 10)),
        20..=29 => format!("{}M", 1u64 << (k - 20)),
        _ => format!("2^{k}"),
    }
}

/// Rows in a bucket; the last one holds everything longer, which only a damaged record has.
fn rows_at(lengths: &BTreeMap<u8, u64>, k: u8, high: u8) -> u64 {
    if k < high { lengths.get(&k).copied().unwrap_or(0) } else { lengths.range(k..).fold(0, |sum, (_, n)| sum.saturating_add(*n)) }
}

fn median(lengths: &BTreeMap<u8, u64>) -> Option<u8> {
    let total: u128 = lengths.values().map(|n| u128::from(*n)).sum();
    let mut seen = 0;
    lengths
        .iter()
        .find(|(_, n)| {
            seen += u128::from(**n);
            seen * 2 >= total
        })
        .map(|(k, _)| *k)
}

fn write_facet(facet: &Facet<'_>, low: u8, high: u8, out: &mut String) {
    const WIDTH: f64 = 260.0;
    const HEIGHT: f64 = 92.0;
    const BASE: f64 = 76.0;
    let after = &facet.stage.totals.profile.lengths;
    let most = (low..=high).map(|k| rows_at(after, k, high).max(rows_at(&facet.before, k, high))).max().unwrap_or(1).max(1);
    let step = WIDTH / f64::from(high - low + 1);
    let height = |n: u64| (n as f64 / most as f64) * (BASE - 6.0);
    let before_rows = facet.before.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let after_rows = after.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let middle = median(after).map(|k| format!(", half of them up to {} characters", tick(k.saturating_add(1)))).unwrap_or_default();
    let id = esc(&show::visible_line(&facet.stage.id));
    let about = if facet.before.is_empty() {
        format!("{}{middle}", plural(after_rows, "text", "texts"))
    } else {
        format!("{} of {}{middle}", count(after_rows), plural(before_rows, "text", "texts"))
    };
    let _ = write!(
        out,
        "<div class=\"facet\"><h3><bdi>{id}</bdi></h3><svg class=\"hist\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Lengths of texts that left {id}: {about}\">\
         <path class=\"axis\" d=\"M0 {BASE}H{WIDTH}\"/>"
    );
    for k in low..=high {
        let n = rows_at(after, k, high);
        if n > 0 {
            let (x, h) = (f64::from(k - low) * step, height(n).max(0.8));
            let _ = write!(
                out,
                "<rect class=\"after\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{h:.1}\"><title>{} characters: {}</title></rect>",
                x + 0.7,
                BASE - h,
                (step - 1.4).max(0.5),
                span(k),
                plural(n, "text", "texts")
            );
        }
        if (k - low).is_multiple_of(2) {
            let _ = write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", f64::from(k - low) * step + 1.0, BASE + 12.0, tick(k));
        }
    }
    if !facet.before.is_empty() {
        let mut path = format!("M0 {BASE}");
        for k in low..=high {
            let _ = write!(path, "V{:.1}H{:.1}", BASE - height(rows_at(&facet.before, k, high)), f64::from(k - low + 1) * step);
        }
        let _ = write!(out, "<path class=\"before\" d=\"{path}V{BASE}\"/>");
    }
    let _ = writeln!(out, "</svg><p>{about}</p></div>");
}

pub(super) fn write_sources(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"sources\"><h2>Where rows come from</h2>\n");
    let (read, published) = (by_source::read(record), by_source::published(record));
    if read.is_empty() && published.is_empty() {
        out.push_str("<p class=\"empty\">The rows have no column <code>source</code>.</p></section>\n");
        return;
    }
    let mut names: Vec<&str> = read.keys().chain(published.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let rows_in = |name: &str| read.get(name).copied().unwrap_or(0);
    let rows_out = |name: &str| published.get(name).copied().unwrap_or(0);
    names.sort_by_key(|name| (*name == Profile::OTHER_SOURCES, std::cmp::Reverse(rows_in(name).max(rows_out(name))), *name));
    let most = names.iter().map(|name| rows_in(name).max(rows_out(name))).max().unwrap_or(0);
    let _ = write!(
        out,
        "<p class=\"lead\">Rows by the value of <code>source</code>, as read and as published. A share far from the others is a filter that bears on one source.</p>\n\
         <ul class=\"key\"><li><i class=\"b-keep\"></i>published</li><li><i class=\"b-drop\"></i>read, not published</li></ul>\n\
         <div class=\"scroll\"><table><thead><tr><th>Source</th><th></th><th class=\"n\">Read</th><th class=\"n\">Published</th><th class=\"n\">Kept</th></tr></thead><tbody>\n",
    );
    let shown = names.len().min(MAX_SOURCES_SHOWN);
    for name in &names[..shown] {
        write_source(name, rows_in(name), rows_out(name), most, out);
    }
    out.push_str("</tbody></table></div>\n");
    if names.len() > shown {
        let _ =
            writeln!(out, "<details><summary>{} more</summary><table><tbody>", plural((names.len() - shown) as u64, "source", "sources"));
        for name in &names[shown..] {
            write_source(name, rows_in(name), rows_out(name), most, out);
        }
        out.push_str("</tbody></table></details>\n");
    }
    by_source::write(record, &names[..shown], out);
    if read.contains_key(Profile::OTHER_SOURCES) || published.contains_key(Profile::OTHER_SOURCES) {
        let _ = writeln!(
            out,
            "<p class=\"lead\">There are more than {} sources. Which are counted one by one was decided by hash, not by size; “…” is all others.</p>",
            Profile::MAX_SOURCES
        );
    }
    out.push_str("</section>\n");
}

fn write_source(name: &str, read: u64, published: u64, most: u64, out: &mut String) {
    let _ = writeln!(
        out,
        "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"bar\"><div class=\"stack\" aria-hidden=\"true\"><i class=\"b-keep\" style=\"width:{}%\"></i><i class=\"b-drop\" style=\"width:{}%\"></i></div></td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        esc(&show::visible_line(&show::cut(name, 80))),
        percent(published, most),
        percent(read.saturating_sub(published), most),
        count(read),
        count(published),
        share(published, read),
    );
}

pub(super) fn write_samples(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"samples\"><h2>Rows to look at</h2>\n");
    let is_empty = |stage: &StageRecord| stage.totals.profile.kept.is_empty() && stage.totals.profile.dropped.values().all(Vec::is_empty);
    if record.stages.iter().all(is_empty) {
        out.push_str("<p class=\"empty\">No rows were sampled: none left a stage.</p></section>\n");
        return;
    }
    out.push_str("<p class=\"lead\">Chosen by hash of the id, so they are the same rows in every run, and no one picked them. Long values are cut; <code>pipeline trace OUTPUT ID</code> tells the life of any row.</p>\n");
    for stage in record.stages.iter().filter(|stage| stage.totals.profile.dropped.values().any(|samples| !samples.is_empty())) {
        let mut reasons: Vec<_> = stage.totals.profile.dropped.iter().collect();
        let (counts, verb) = if stage.tags { (&stage.totals.tagged, "Tagged") } else { (&stage.totals.dropped, "Dropped") };
        let rows = |reason: &str| counts.get(reason).copied().unwrap_or(0);
        reasons.sort_by_key(|(reason, _)| (std::cmp::Reverse(rows(reason)), reason.as_str()));
        let cards: Vec<(&str, &Sample)> =
            reasons.into_iter().flat_map(|(reason, samples)| samples.iter().map(move |sample| (reason.as_str(), sample))).collect();
        let _ = write!(
            out,
            "<details class=\"rowset\" open><summary><b class=\"drop\">{verb}</b> by <b><bdi>{}</bdi></b> · {} of {}</summary><div class=\"cards\">",
            esc(&show::visible_line(&stage.id)),
            cards.len(),
            plural(stage.totals.dropped_rows().max(stage.totals.tagged_rows()).max(cards.len() as u64), "row", "rows"),
        );
        let (first, more) = cards.split_at(cards.len().min(MAX_CARDS));
        for (reason, sample) in first {
            write_card(sample, Some(reason), out);
        }
        out.push_str("</div>");
        if !more.is_empty() {
            let _ = write!(
                out,
                "<details><summary>{} for other reasons</summary><div class=\"cards\">",
                plural(more.len() as u64, "row", "rows")
            );
            for (reason, sample) in more {
                write_card(sample, Some(reason), out);
            }
            out.push_str("</div></details>");
        }
        out.push_str("</details>\n");
    }
    for stage in record.stages.iter().filter(|stage| !stage.totals.profile.kept.is_empty()) {
        let is_last = !record.is_read(&stage.id);
        let _ = write!(
            out,
            "<details class=\"rowset\"{}><summary><b class=\"keep\">Kept</b> by <b><bdi>{}</bdi></b> · {} of {}</summary><div class=\"cards\">",
            if is_last { " open" } else { "" },
            esc(&show::visible_line(&stage.id)),
            stage.totals.profile.kept.len(),
            plural(stage.totals.rows_through("out").max(stage.totals.profile.kept.len() as u64), "row", "rows"),
        );
        stage.totals.profile.kept.iter().for_each(|sample| write_card(sample, None, out));
        out.push_str("</div></details>\n");
    }
    out.push_str("</section>\n");
}

fn write_card(sample: &Sample, reason: Option<&str>, out: &mut String) {
    let id = if sample.id.is_empty() { "(no id)" } else { sample.id.as_str() };
    let _ = write!(
        out,
        "<div class=\"card{}\"><div class=\"rid\"><bdi>{}</bdi></div>",
        if reason.is_some() { " drop-card" } else { "" },
        esc(&show::visible_line(id))
    );
    if let Some(reason) = reason {
        let _ = write!(out, "<p class=\"verdict\"><b><bdi>{}</bdi></b>", esc(&show::visible_line(reason)));
        if let Some(against) = show::against(sample.drop_value, sample.drop_threshold) {
            let _ = write!(out, " · {}", esc(&against));
        }
        if let Some(kept) = &sample.duplicate_of {
            let _ = write!(out, " · duplicate of <code><bdi>{}</bdi></code>", esc(&show::visible_line(kept)));
        }
        out.push_str("</p>");
    }
    let is_short = |value: &str| value.chars().count() <= 60 && !value.contains('\n');
    let (short, long): (Vec<_>, Vec<_>) = sample.values.iter().partition(|(_, value)| is_short(value));
    for (values, class) in [(long, ""), (short, " class=\"short\"")] {
        if values.is_empty() {
            continue;
        }
        let _ = write!(out, "<dl{class}>");
        for (name, value) in values {
            let _ = write!(
                out,
                "<dt><bdi>{}</bdi></dt><dd dir=\"auto\">{}</dd>",
                esc(&show::visible_line(&show::cut(name, 60))),
                esc(&show::cut(value, 400))
            );
        }
        out.push_str("</dl>");
    }
    out.push_str("</div>");
}
