//! Mixtures: what was wanted of each source, what there was, and what was reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bar;
use super::html::esc;
use crate::record::{RunRecord, StageRecord};
use crate::show::{self, count, share};

const MAX_SOURCES_SHOWN: usize = 40;

type Figure = BTreeMap<String, u64>;

/// The figures of a mixture, by source: in the unit of its budget, but for the rows.
struct Mixture<'r> {
    stage: &'r StageRecord,
    wanted: &'r Figure,
    available: &'r Figure,
    rows: &'r Figure,
    units: &'r Figure,
}

impl<'r> Mixture<'r> {
    fn of(stage: &'r StageRecord) -> Option<Self> {
        let figure = |name: &str| stage.totals.figures.get(name);
        let (wanted, available) = (figure("mix_wanted")?, figure("mix_available")?);
        Some(Self { stage, wanted, available, rows: figure("mix_rows")?, units: figure("mix_units")? })
    }
}

/// Whether a figure of this stage is told here.
pub(super) fn is_told(stage: &StageRecord, figure: &str) -> bool {
    ["mix_wanted", "mix_available", "mix_available_rows", "mix_rows", "mix_units"].contains(&figure) && Mixture::of(stage).is_some()
}

pub(super) fn is_empty(record: &RunRecord) -> bool {
    record.stages.iter().all(|stage| Mixture::of(stage).is_none())
}

pub(super) fn write(record: &RunRecord, out: &mut String) {
    if is_empty(record) {
        return;
    }
    out.push_str(
        "<section id=\"mixtures\"><h2>Mixtures</h2>\n<p class=\"lead\">How much of each source is in the mixture, beside what its weight asked for. A pass is all of a source once.</p>\n\
         <ul class=\"key\"><li><i class=\"b-keep\"></i>reached</li><li><i class=\"b-before\"></i>wanted</li></ul>\n",
    );
    for mixture in record.stages.iter().filter_map(Mixture::of) {
        write_mixture(&mixture, out);
    }
    out.push_str("</section>\n");
}

fn write_mixture(mixture: &Mixture<'_>, out: &mut String) {
    let unit = mixture.stage.settings.get("unit").and_then(serde_json::Value::as_str).unwrap_or("rows");
    let unit = esc(&show::visible_line(unit));
    let sum = |figure: &Figure| figure.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let (all_wanted, all_units) = (sum(mixture.wanted), sum(mixture.units));
    let part = |n: u64, of: u64| n as f64 / of.max(1) as f64;
    let at = |figure: &Figure, name: &str| figure.get(name).copied().unwrap_or(0);
    let names = || mixture.wanted.keys().chain(mixture.units.keys().filter(|name| !mixture.wanted.contains_key(*name)));
    let most =
        names().map(|name| part(at(mixture.wanted, name), all_wanted).max(part(at(mixture.units, name), all_units))).fold(0.0, f64::max);
    let _ = write!(
        out,
        "<h3 class=\"of\"><bdi>{}</bdi> <small>{}</small></h3>\n<p><b>{}</b> {unit} in <b>{}</b> rows; {} were wanted.</p>\n\
         <div class=\"scroll\"><table><thead><tr><th>Source</th><th></th><th class=\"n\">Wanted</th><th class=\"n\">Reached</th><th class=\"n\">In {unit}</th><th class=\"n\">Rows</th><th class=\"n\">Passes</th></tr></thead><tbody>\n",
        esc(&show::visible_line(&mixture.stage.id)),
        esc(&show::visible_line(&mixture.stage.stage_type)),
        count(all_units),
        count(sum(mixture.rows)),
        count(all_wanted),
    );
    for name in names().take(MAX_SOURCES_SHOWN) {
        let (wanted, units, available) = (at(mixture.wanted, name), at(mixture.units, name), at(mixture.available, name));
        // Bars on one scale: the largest share of the table is all of the width.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share, in ten-thousandths")]
        let width = |share: f64| if most > 0.0 { (share / most * 10_000.0) as u64 } else { 0 };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"bar\"><div class=\"stack\" aria-hidden=\"true\">{}</div><div class=\"stack\" aria-hidden=\"true\">{}</div></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            esc(&show::visible_line(&show::cut(name, 80))),
            bar("b-keep", width(part(units, all_units)), 10_000),
            bar("b-before", width(part(wanted, all_wanted)), 10_000),
            share(wanted, all_wanted),
            share(units, all_units),
            count(units),
            count(at(mixture.rows, name)),
            if available == 0 { "–".to_owned() } else { format!("{:.2}", part(units, available)) },
        );
    }
    out.push_str("</tbody></table></div>\n");
    let more = names().count().saturating_sub(MAX_SOURCES_SHOWN);
    if more > 0 {
        let _ = writeln!(out, "<p class=\"lead\">{more} more sources are in <code>run.json</code>.</p>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{render, samples};

    fn mixed(figures: &[(&str, &[(&str, u64)])]) -> RunRecord {
        let mut record = samples::web();
        let stage = &mut record.stages[2];
        stage.id = "mix<1>".to_owned();
        stage.settings = serde_json::json!({"unit": "tokens"});
        let counts = |names: &[(&str, u64)]| names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        stage.totals.figures = figures.iter().map(|(figure, names)| ((*figure).to_owned(), counts(names))).collect();
        record
    }

    const MIX: [(&str, &[(&str, u64)]); 5] = [
        ("mix_wanted", &[("web", 700), ("code", 300)]),
        ("mix_available", &[("web", 5000), ("code", 120)]),
        ("mix_available_rows", &[("web", 50), ("code", 2)]),
        ("mix_rows", &[("web", 8), ("code", 4)]),
        ("mix_units", &[("web", 760), ("code", 240)]),
    ];

    #[test]
    fn what_was_wanted_and_reached_of_each_source_is_told() {
        let page = render(&mixed(&MIX));
        let (_, section) = page.split_once("<section id=\"mixtures\">").unwrap();
        let (section, _) = section.split_once("</section>").unwrap();
        let text: String = section.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect();
        assert!(text.contains("1,000 tokens in 12 rows; 1,000 were wanted."), "{text}");
        assert!(text.contains("code30.0 %24.0 %24042.00") && text.contains("web70.0 %76.0 %76080.15"), "{text}");
        assert!(section.contains("mix&lt;1&gt;"));
        // Told once.
        assert!(!page.contains("mix_units") && page.contains("href=\"#mixtures\""));
    }

    #[test]
    fn figures_that_make_no_mixture_are_counted_like_others() {
        let page = render(&mixed(&MIX[3..]));
        assert!(!page.contains("id=\"mixtures\"") && page.contains("mix_units"));
        assert!(is_empty(&samples::web()) && !render(&samples::web()).contains("#mixtures"));
    }
}
