//! A histogram of the numbers that a stage decided by, against the bounds it held them to, and what moving the bounds would do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use stages::{Beside, Keeps, Measured, Subject};

use super::axis::{Axis, LEFT, RIGHT, WIDTH};
use super::html::esc;
use super::plural;
use crate::show::{self, count, short_count};

/// Height of the bars, the line of labels above them for each bound, and the axis below them.
const BARS: f64 = 168.0;
const LABEL: f64 = 14.0;
const BELOW: f64 = 40.0;

/// More bounds than this are not drawn.
const MAX_BOUNDS: usize = 6;

/// Counts that differ by more than this are drawn on a log scale, or the small ones could not be seen.
const MOST_ON_LINEAR: u64 = 100;

/// What kept and dropped are called.
struct Words {
    one: &'static str,
    many: &'static str,
    kept: &'static str,
    dropped: &'static str,
    /// Classes of the bars, and of their swatches in the key.
    classes: [&'static str; 2],
    swatches: [&'static str; 2],
}

impl Words {
    fn of(measured: &Measured) -> Self {
        match measured.of {
            Subject::Rows => Self {
                one: "row",
                many: "rows",
                kept: "kept",
                dropped: "dropped",
                classes: ["above", "gone"],
                swatches: ["b-keep", "b-gone"],
            },
            Subject::Pairs => Self {
                one: "pair",
                many: "pairs",
                kept: "linked",
                dropped: "not linked",
                classes: ["above", "below"],
                swatches: ["b-keep", "b-below"],
            },
        }
    }
}

/// Heights of bars.
struct Scale {
    is_log: bool,
    most: u64,
}

impl Scale {
    fn of(counts: impl Iterator<Item = u64> + Clone) -> Self {
        let most = counts.clone().max().unwrap_or(0).max(1);
        let least = counts.filter(|n| *n > 0).min().unwrap_or(1);
        Self { is_log: most > least.saturating_mul(MOST_ON_LINEAR), most }
    }

    /// From 0 to 1. On the log scale a single one has a height too.
    fn height(&self, n: u64) -> f64 {
        let log = |n: u64| (n as f64).log10() + 0.3;
        match n {
            0 => 0.0,
            n if self.is_log => log(n) / log(self.most),
            n => n as f64 / self.most as f64,
        }
    }

    fn ticks(&self) -> Vec<u64> {
        const MOST_TICKS: usize = 5;
        let powers = || std::iter::successors(Some(1u64), |power| power.checked_mul(10));
        if self.is_log {
            let powers: Vec<u64> = powers().take_while(|power| *power <= self.most).collect();
            powers.iter().copied().step_by(powers.len().div_ceil(MOST_TICKS)).collect()
        } else {
            let steps = powers().flat_map(|power| [1, 2, 5].into_iter().filter_map(move |digit| power.checked_mul(digit)));
            let step = steps.into_iter().find(|step| self.most / step < MOST_TICKS as u64).unwrap_or(self.most);
            (1..=self.most / step).map(|n| n * step).collect()
        }
    }
}

/// What was measured, in one line.
pub(super) fn about(measured: &Measured) -> String {
    let words = Words::of(measured);
    let [kept, dropped] = measured.counts();
    let of_them = |n: u64| format!("<b>{}</b>", count(n));
    let mut text = format!("<b>{}</b>", plural(kept.saturating_add(dropped), words.one, words.many));
    match measured.of {
        Subject::Rows => {
            let _ = write!(text, " measured, {} of them {}", of_them(kept), words.kept);
        }
        Subject::Pairs => {
            let _ = write!(text, " compared in full, {} of them", of_them(kept));
            for bound in &measured.bounds {
                let side = if bound.keeps == Keeps::AtLeast { "at or above" } else { "at or below" };
                let _ = write!(text, " {side} {}", show::number(bound.at));
            }
        }
    }
    if let Some([least, most]) = measured.range {
        let _ = write!(text, "; from {} to {}", show::number(least), show::number(most));
    }
    if measured.not_a_number > 0 {
        let _ = write!(text, "; {} had no number", count(measured.not_a_number));
    }
    text
}

/// The histogram, its key, and the table of what moving the bounds would do.
pub(super) fn write(measured: &Measured, out: &mut String) {
    let words = Words::of(measured);
    let axis = Axis::of(measured);
    let mut bars: BTreeMap<Option<usize>, [u64; 2]> = BTreeMap::new();
    for (bin, [kept, dropped]) in &measured.bins {
        let n = bars.entry(axis.bar_of(*bin)).or_default();
        *n = [n[0].saturating_add(*kept), n[1].saturating_add(*dropped)];
    }
    let _ = write!(
        out,
        "<div><ul class=\"key\"><li><i class=\"{}\"></i>{}</li><li><i class=\"{}\"></i>{}</li></ul>",
        words.swatches[0], words.kept, words.swatches[1], words.dropped
    );
    write_svg(measured, &words, &axis, &bars, out);
    out.push_str("</div><div>");
    write_moves(measured, &words, out);
    let _ = write!(
        out,
        "<details><summary>The histogram as a table</summary><div class=\"scroll\"><table><thead><tr><th>{}</th><th class=\"n\">{}</th><th class=\"n\">{}</th></tr></thead><tbody>",
        esc(&show::visible_line(&measured.what)),
        words.kept,
        words.dropped
    );
    for (bar, [kept, dropped]) in &bars {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            axis.span_text(*bar),
            count(*kept),
            count(*dropped)
        );
    }
    out.push_str("</tbody></table></div></details></div>");
}

fn write_svg(measured: &Measured, words: &Words, axis: &Axis, bars: &BTreeMap<Option<usize>, [u64; 2]>, out: &mut String) {
    let bounds: Vec<&Beside> = measured.bounds.iter().take(MAX_BOUNDS).collect();
    let top = 22.0 + LABEL * bounds.len().max(1) as f64;
    let base = top + BARS;
    let total = |n: &[u64; 2]| n[0].saturating_add(n[1]);
    let scale = Scale::of(bars.values().map(total));
    let what = esc(&show::visible_line(&measured.what));
    let _ = write!(
        out,
        "<div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{what}: {}; the tables below hold the same figures\">\
         <text x=\"0\" y=\"11\">{}{}{}</text>",
        base + BELOW,
        about(measured).replace("<b>", "").replace("</b>", ""),
        words.many[..1].to_uppercase(),
        &words.many[1..],
        if scale.is_log { ", log scale" } else { "" },
    );
    let y_of = |height: f64| base - height * BARS;
    // What lies beyond a bound is on a ground of its own.
    if measured.of == Subject::Rows {
        for bound in &bounds {
            if let Some(x) = axis.x(bound.at) {
                let (from, to) = if bound.keeps == Keeps::AtLeast { (LEFT, x) } else { (x, WIDTH - RIGHT) };
                let _ = write!(
                    out,
                    "<rect class=\"beyond\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BARS:.1}\"/>",
                    (to - from).max(0.0)
                );
            }
        }
    }
    for tick in scale.ticks() {
        let y = y_of(scale.height(tick));
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{WIDTH}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 7.0,
            y + 4.0,
            short_count(tick)
        );
    }
    for (bar, n) in bars.iter().filter(|(_, n)| total(n) > 0) {
        let left = axis.left_of(*bar) + 0.6;
        let width = (axis.slot() - 1.2).max(0.6);
        let height = (base - y_of(scale.height(total(n)))).max(1.0);
        // On a log scale heights do not add up, so colours share the whole bar as the counts do.
        let of_kept = height * (n[0] as f64 / total(n) as f64);
        let _ = write!(
            out,
            "<g><title>{} {}: {} {}, {} {}</title>",
            what,
            axis.span_text(*bar),
            count(n[0]),
            words.kept,
            count(n[1]),
            words.dropped
        );
        for (class, y, height, n) in
            [(words.classes[0], base - of_kept, of_kept, n[0]), (words.classes[1], base - height, height - of_kept, n[1])]
        {
            if n > 0 {
                let _ = write!(out, "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.2}\" width=\"{width:.1}\" height=\"{height:.2}\"/>");
            }
        }
        out.push_str("</g>");
    }
    axis.write(&what, base, out);
    for (line, bound) in (1_u32..).zip(&bounds) {
        write_bound(bound, axis, top, base, 15.0 + LABEL * f64::from(line), out);
    }
    out.push_str("</svg></div>");
}

fn write_bound(bound: &Beside, axis: &Axis, top: f64, base: f64, y: f64, out: &mut String) {
    let name = format!("{} {}", esc(&show::visible_line(&show::cut(&bound.setting, 40))), show::number(bound.at));
    let Some(x) = axis.x(bound.at) else {
        // Too far off to draw: an arrow says on which side it would stand.
        let is_right = axis.is_right(bound.at);
        let (x, class, text) = if is_right { (WIDTH - RIGHT, " end", format!("{name} →")) } else { (LEFT, "", format!("← {name}")) };
        let _ = write!(out, "<text class=\"mark{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>");
        return;
    };
    // The name stands on the side that is not kept, where there is room for it.
    let (room_left, room_right) = (x - LEFT, WIDTH - x);
    let is_left = if bound.keeps == Keeps::AtLeast { room_left > 120.0 || room_left > room_right } else { room_right < 120.0 };
    let _ = write!(
        out,
        "<path class=\"mark\" d=\"M{x:.1} {:.1}V{base:.1}\"/><text class=\"mark{}\" x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
        (y - 9.0).min(top),
        if is_left { " end" } else { "" },
        if is_left { x - 5.0 } else { x + 5.0 },
    );
}

/// What each bound would do if it stood a little elsewhere.
fn write_moves(measured: &Measured, words: &Words, out: &mut String) {
    if measured.bounds.is_empty() {
        return;
    }
    let percent = |step: usize| format!("{} %", show::number(Beside::STEPS[step] * 100.0));
    let _ = write!(
        out,
        "<div class=\"scroll\"><table class=\"moves\"><thead><tr><th>Bound</th><th class=\"n\">Beyond it</th><th class=\"n\">{} wider</th><th class=\"n\">{} wider</th><th class=\"n\">{} tighter</th><th class=\"n\">{} tighter</th></tr></thead><tbody>",
        percent(1),
        percent(0),
        percent(0),
        percent(1),
    );
    for bound in measured.bounds.iter().take(MAX_BOUNDS) {
        let sign = if bound.keeps == Keeps::AtLeast { "≥" } else { "≤" };
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi> <small>{sign} {}</small></th><td class=\"n\">{}</td>",
            esc(&show::visible_line(&show::cut(&bound.setting, 40))),
            show::number(bound.at),
            count(bound.beyond)
        );
        for (step, wider) in [(1, true), (0, true), (0, false), (1, false)] {
            let n = if wider { bound.widened[step] } else { bound.tightened[step] };
            let change = match (n, wider) {
                (0, _) => "–".to_owned(),
                (n, true) => format!("<span class=\"keep\">+{}</span>", count(n)),
                (n, false) => format!("<span class=\"drop\">−{}</span>", count(n)),
            };
            let _ = write!(out, "<td class=\"n\">{change}<small>{}</small></td>", show::number(bound.moved(step, wider)));
        }
        out.push_str("</tr>");
    }
    let _ = write!(
        out,
        "</tbody></table></div><p>How many {} more (+) or fewer (−) would be {} if one bound stood a little elsewhere; counted, not estimated{}.</p>",
        words.many,
        words.kept,
        match measured.of {
            Subject::Rows => ", but for rows that are dropped for another reason too",
            Subject::Pairs => ", among the pairs that were compared",
        }
    );
}

#[cfg(test)]
mod tests {
    use stages::Bin;

    use super::*;
    use crate::report::samples;

    fn beside(setting: &str, keeps: Keeps, at: f64) -> Beside {
        Beside { setting: setting.to_owned(), keeps, at, beyond: 7, widened: [1, 2], tightened: [3, 0] }
    }

    fn measured(numbers: &[(f64, [u64; 2])], bounds: Vec<Beside>) -> Measured {
        let range = numbers.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], (n, _)| [a.min(*n), b.max(*n)]);
        Measured {
            what: "characters".to_owned(),
            bins: numbers.iter().map(|(number, n)| (Bin::of(*number), *n)).collect(),
            range: (range[0] <= range[1]).then_some(range),
            bounds,
            ..Measured::default()
        }
    }

    fn page(measured: &Measured) -> String {
        let mut out = String::new();
        write(measured, &mut out);
        out
    }

    fn without_tags(html: &str) -> String {
        html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect()
    }

    #[test]
    fn a_bound_stands_where_its_number_does() {
        let of = |at: f64| measured(&[(100.0, [0, 5]), (200.0, [5, 0]), (400.0, [9, 0])], vec![beside("min_chars", Keeps::AtLeast, at)]);
        // Two octaves of sixteen bars and one more, on a log axis from 100 to 416: 200 is one octave in.
        let axis = Axis::of(&of(200.0));
        let [low, mark] = [100.0, 200.0].map(|at| axis.x(at).unwrap());
        assert!(axis.is_log && (mark - low - 16.0 * axis.slot() / axis.step).abs() < 1e-6, "{axis:?}");
        assert!(page(&of(200.0)).contains(&format!("<path class=\"mark\" d=\"M{mark:.1} ")));
        // What is far outside is named, and the bars keep their width.
        let far = page(&of(1e9));
        assert!(far.contains("min_chars 1.000e9 →") && !far.contains("class=\"mark\" d="), "{far}");
        assert!(page(&of(0.5)).contains("← min_chars 0.5"));
    }

    #[test]
    fn what_moving_a_bound_would_do_is_told() {
        let bounds = vec![beside("min_chars", Keeps::AtLeast, 200.0), beside("max_chars", Keeps::AtMost, 1000.0)];
        let text = without_tags(&page(&measured(&[(150.0, [0, 5]), (500.0, [9, 0])], bounds)));
        assert!(text.contains("min_chars ≥ 2007+2180+1190−3210–220"), "{text}");
        assert!(text.contains("max_chars ≤ 10007+21100+11050−3950–900"), "{text}");
    }

    #[test]
    fn a_bar_is_shared_by_its_colours_and_a_log_scale_says_so() {
        let near = page(&measured(&[(5.0, [1, 3]), (6.0, [100, 0])], Vec::new()));
        assert!(!near.contains("log scale"));
        assert_eq!((near.matches("<rect class=\"above\"").count(), near.matches("<rect class=\"gone\"").count()), (2, 1));
        assert!(near.contains("<title>characters 5 to 5.25: 1 kept, 3 dropped</title>"), "{near}");
        let far = page(&measured(&[(5.0, [1, 0]), (6.0, [101, 0])], Vec::new()));
        assert!(far.contains(">Rows, log scale</text>"));
    }

    #[test]
    fn an_axis_has_a_few_ticks_whatever_the_counts() {
        for most in [1, 2, 5, 7, 99, 100, 101, 12_345, 10_000_000, u64::MAX - 1, u64::MAX] {
            for is_log in [false, true] {
                let scale = Scale { is_log, most };
                let ticks = scale.ticks();
                assert!((1..=5).contains(&ticks.len()), "{most}: {ticks:?}");
                assert!(ticks.is_sorted() && ticks.iter().all(|tick| (0.0..=1.0).contains(&scale.height(*tick))), "{most}: {ticks:?}");
            }
        }
    }

    #[test]
    fn the_sample_run_says_how_many_rows_lie_by_its_bounds() {
        let record = samples::web();
        let clean = record.stages.iter().find(|stage| stage.id == "clean").unwrap();
        let text = without_tags(&about(&clean.totals.measured["chars"]));
        assert_eq!(text, "397,921 rows measured, 268,120 of them kept; from 0 to 412,009");
    }
}
