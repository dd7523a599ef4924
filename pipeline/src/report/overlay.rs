//! Two histograms of one number over each other, as shares, so that runs of different sizes can be told apart by shape.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use stages::{Beside, Measured};

use super::axis::{Axis, LEFT, RIGHT, WIDTH};
use super::html::esc;
use super::plot;
use crate::show;

const BARS: f64 = 150.0;
const LABEL: f64 = 14.0;
const MAX_BOUNDS: usize = 6;

/// The share of all in each bar.
fn shares(axis: &Axis, measured: &Measured) -> BTreeMap<Option<usize>, f64> {
    let [kept, dropped] = measured.counts();
    let all = kept.saturating_add(dropped).max(1) as f64;
    let mut shares = BTreeMap::new();
    for (bin, n) in &measured.bins {
        *shares.entry(axis.bar_of(*bin)).or_default() += n[0].saturating_add(n[1]) as f64 / all;
    }
    shares
}

/// The plot, with a key.
pub(crate) fn write(before: &Measured, now: &Measured, out: &mut String) {
    let mut both = now.clone();
    both.merge(before.clone());
    let axis = Axis::of(&both);
    let (old, new) = (shares(&axis, before), shares(&axis, now));
    let most = old.values().chain(new.values()).copied().fold(0.0, f64::max).clamp(1e-9, 1.0);
    let is_same = |a: &Beside, b: &Beside| a.setting == b.setting && a.keeps == b.keeps && a.at.total_cmp(&b.at).is_eq();
    let moved = before.bounds.iter().filter(|old| !now.bounds.iter().any(|new| is_same(old, new)));
    let bounds: Vec<(&Beside, bool)> =
        now.bounds.iter().map(|bound| (bound, false)).chain(moved.map(|bound| (bound, true))).take(MAX_BOUNDS).collect();
    let top = 22.0 + LABEL * bounds.len().max(1) as f64;
    let base = top + BARS;
    let what = esc(&show::visible_line(&both.what));
    let _ = write!(
        out,
        "<ul class=\"key\"><li><i class=\"b-keep\"></i>now: {}</li><li><i class=\"b-before\"></i>before: {}</li></ul>\
         <div class=\"scroll\"><svg class=\"plot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{what}, before and now\"><text x=\"0\" y=\"11\">Share of all</text>",
        plot::about(now),
        plot::about(before),
        base + 40.0
    );
    let y_of = |share: f64| base - share / most * BARS;
    for tick in ticks(most) {
        let y = y_of(tick);
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{WIDTH}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{} %</text>",
            LEFT - 7.0,
            y + 4.0,
            show::number(tick * 100.0)
        );
    }
    let bars: Vec<Option<usize>> = [None].into_iter().chain((0..axis.bars).map(Some)).collect();
    let share = |of: &BTreeMap<Option<usize>, f64>, bar: Option<usize>| of.get(&bar).copied().unwrap_or_default();
    let mut outline = String::new();
    for bar in bars {
        let (was, is) = (share(&old, bar), share(&new, bar));
        let left = axis.left_of(bar);
        if is > 0.0 || was > 0.0 {
            let (y, percent) = (y_of(is), |share: f64| show::number((share * 1e5).round() / 1e3));
            let _ = write!(
                out,
                "<g><title>{what} {}: {} % now, {} % before</title><rect class=\"above\" x=\"{:.1}\" y=\"{y:.2}\" width=\"{:.1}\" height=\"{:.2}\"/></g>",
                axis.span_text(bar),
                percent(is),
                percent(was),
                left + 0.6,
                (axis.slot() - 1.2).max(0.6),
                base - y
            );
        }
        // The bar of numbers about 0 stands apart, if there is one; the others touch.
        let step = format!("V{:.1}h{:.1}", y_of(was), axis.slot());
        match bar {
            None if was > 0.0 => drop(write!(outline, "M{left:.1} {base:.1}{step}V{base:.1}")),
            None => {}
            Some(0) => drop(write!(outline, "M{left:.1} {base:.1}{step}")),
            Some(_) => outline.push_str(&step),
        }
    }
    let _ = write!(out, "<path class=\"was\" d=\"{outline}V{base:.1}\"/>");
    axis.write(&what, base, out);
    for (line, (bound, is_old)) in (1_u32..).zip(&bounds) {
        let y = 15.0 + LABEL * f64::from(line);
        let name = format!(
            "{}{} {}",
            if *is_old { "before: " } else { "" },
            esc(&show::visible_line(&show::cut(&bound.setting, 40))),
            show::number(bound.at)
        );
        let (x, line) = match axis.x(bound.at) {
            Some(x) => (x, true),
            None if axis.is_right(bound.at) => (WIDTH - RIGHT, false),
            None => (LEFT, false),
        };
        let class = if *is_old { "mark old" } else { "mark" };
        if line {
            let _ = write!(out, "<path class=\"{class}\" d=\"M{x:.1} {:.1}V{base:.1}\"/>", (y - 9.0).min(top));
        }
        let is_left = x - LEFT > WIDTH - x;
        let _ = write!(
            out,
            "<text class=\"{class}{}\" x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
            if is_left { " end" } else { "" },
            if is_left { x - 5.0 } else { x + 5.0 }
        );
    }
    out.push_str("</svg></div>");
}

/// Shares that are written beside the bars.
fn ticks(most: f64) -> Vec<f64> {
    let step =
        (-9..1).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power))).find(|step| most / step < 5.0).unwrap_or(1.0);
    (1..=4_u32).map(|n| f64::from(n) * step).filter(|tick| *tick <= most).collect()
}

#[cfg(test)]
mod tests {
    use stages::{Bin, Keeps};

    use super::*;

    fn measured(numbers: &[(f64, u64)], at: f64) -> Measured {
        let bound = Beside { setting: "min".to_owned(), keeps: Keeps::AtLeast, at, beyond: 0, widened: [0; 2], tightened: [0; 2] };
        Measured {
            what: "n".to_owned(),
            bins: numbers.iter().map(|(number, n)| (Bin::of(*number), [*n, 0])).collect(),
            bounds: vec![bound],
            ..Measured::default()
        }
    }

    fn drawn(before: &Measured, now: &Measured) -> String {
        let mut out = String::new();
        write(before, now, &mut out);
        out
    }

    #[test]
    fn shapes_are_compared_and_not_sizes() {
        let (before, now) = (measured(&[(1.0, 10), (3.0, 30)], 2.0), measured(&[(1.0, 500), (3.0, 500)], 2.5));
        let page = drawn(&before, &now);
        assert!(page.contains("<title>n 1 to 1.125: 50 % now, 25 % before</title>"), "{page}");
        assert!(page.contains("<title>n 3 to 3.125: 50 % now, 75 % before</title>"), "{page}");
        // A bound that moved stands in both places, one that did not in one.
        assert_eq!((page.matches(">min 2.5</text>").count(), page.matches(">before: min 2</text>").count()), (1, 1));
        assert_eq!(drawn(&before, &before).matches(">min 2</text>").count(), 1);
        assert!(!drawn(&before, &before).contains("before: min"));
    }

    #[test]
    fn anything_can_be_drawn_over_anything() {
        let all = crate::report::samples::extreme_measures();
        for before in all.values().chain([&Measured::default()]) {
            for now in all.values().chain([&Measured::default()]) {
                let page = drawn(before, now);
                assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
            }
        }
    }
}
