//! The axis below a histogram: bars of numbers that were counted in bins.

use std::fmt::Write as _;

use stages::{Bin, Measured};

use crate::show;

/// Width of a plot, and what is left of it beside the bars.
pub(super) const WIDTH: f64 = 540.0;
pub(super) const LEFT: f64 = 62.0;
pub(super) const RIGHT: f64 = 6.0;

/// More bars than this are joined.
const MAX_BARS: usize = 80;

/// Numbers from here on are drawn on a log scale; below, a linear one has bars as fine as those that were counted.
const LOG_FROM: f64 = 64.0;

/// A bound that lies further outside the numbers than this many times their range is only named at the edge.
const REACH: f64 = 8.0;

/// Where numbers stand: in bars of `step`, of numbers or of bins. Numbers about 0 have a bar of their own where the axis is of bins.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) is_log: bool,
    low: f64,
    pub(super) step: f64,
    pub(super) bars: usize,
    has_zero: bool,
}

impl Axis {
    /// An axis for these numbers, and for the bounds that lie in reach of them.
    pub(super) fn of(measured: &Measured) -> Self {
        let finite = |at: &f64| at.is_finite();
        let edges_of = |bin: &Bin| if bin.place() == 0 { [0.0; 2] } else { [bin.from(), bin.to()] };
        let edges = || measured.bins.iter().filter(|(_, n)| **n != [0; 2]).flat_map(|(bin, _)| edges_of(bin));
        let (mut low, mut high) = edges().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), edge| (low.min(edge), high.max(edge)));
        if low >= high {
            (low, high) = (0.0, 1.0);
        }
        let is_log = low >= 0.0 && high > LOG_FROM;
        for at in measured.bounds.iter().map(|bound| bound.at).filter(finite) {
            let in_reach =
                if is_log { at > low / REACH && at < high * REACH } else { (at - low).abs().max((high - at).abs()) < (high - low) * REACH };
            if in_reach && !(is_log && at < Bin::of(0.0).to()) {
                (low, high) = (low.min(at), high.max(at));
            }
        }
        if is_log {
            let positive = measured.bins.iter().filter(|(bin, n)| bin.place() > 0 && **n != [0; 2]).map(|(bin, _)| bin.place());
            let bounds = measured.bounds.iter().map(|bound| bound.at).filter(|at| (low..=high).contains(at)).map(|at| Bin::of(at).place());
            let places = positive.chain(bounds.filter(|place| *place > 0));
            let first = places.clone().min().unwrap_or(1) - 1;
            let last = places.max().unwrap_or(1);
            let step = [1, 2, 4, 8, 16].into_iter().find(|step| usize::from(last / step - first / step) < MAX_BARS).unwrap_or(16);
            let bars = usize::from((last - 1) / step - first / step) + 1;
            let has_zero = measured.bins.get(&Bin::of(0.0)).is_some_and(|n| *n != [0; 2]);
            return Self { is_log, low: f64::from(first / step * step), step: f64::from(step), bars, has_zero };
        }
        // The finest bins of the largest numbers are the bars: all smaller bins lie within one of them. A bin that is the first of its octave
        // is as often a single number (1, of shares), and does not make the others coarser.
        let last = measured.bins.iter().filter(|(_, n)| **n != [0; 2]).map(|(bin, _)| bin.from()).fold(0.0, |a: f64, b| a.max(b.abs()));
        let size =
            if low.abs().max(high.abs()) <= Bin::of(last).to() && last.log2().fract() == 0.0 { last } else { low.abs().max(high.abs()) };
        let below = Bin::of(size * (1.0 - f64::EPSILON));
        let finest = (below.to() - below.from()).max(f64::MIN_POSITIVE);
        let high = if size < high { size + finest } else { high };
        let bars_of = |step: f64| ((high / step).ceil() - (low / step).floor()).max(1.0);
        let step =
            std::iter::successors(Some(finest), |step| Some(step * 2.0)).find(|step| bars_of(*step) < MAX_BARS as f64).unwrap_or(finest);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to MAX_BARS")]
        let bars = bars_of(step).min(MAX_BARS as f64) as usize;
        Self { is_log, low: (low / step).floor() * step, step, bars, has_zero: false }
    }

    /// The place of a number on the axis, in units of [`Axis::step`]'s; without the bar of numbers about 0.
    fn place(&self, number: f64) -> f64 {
        if !self.is_log {
            return number;
        }
        let bin = Bin::of(number);
        if bin.place() == 0 || number < 0.0 {
            return f64::NEG_INFINITY;
        }
        // Within a bin the axis is linear.
        f64::from(bin.place()) - 1.0 + ((number - bin.from()) / (bin.to() - bin.from())).clamp(0.0, 1.0)
    }

    /// Bars and a gap, if numbers about 0 have their own.
    fn before(&self) -> f64 {
        if self.has_zero { 2.0 } else { 0.0 }
    }

    pub(super) fn slot(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / (self.bars as f64 + self.before())
    }

    /// Where a number stands, if the axis reaches it.
    pub(super) fn x(&self, number: f64) -> Option<f64> {
        let bars = (self.place(number) - self.low) / self.step;
        (-1e-9..=self.bars as f64 + 1e-9).contains(&bars).then(|| LEFT + (bars + self.before()) * self.slot())
    }

    /// The bar that a bin belongs to; `None` for the one of numbers about 0.
    pub(super) fn bar_of(&self, bin: Bin) -> Option<usize> {
        if self.has_zero && bin.place() == 0 {
            return None;
        }
        let from = bin.from().min(bin.to());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bars there are")]
        Some((((self.place(from) - self.low) / self.step).floor().max(0.0) as usize).min(self.bars - 1))
    }

    /// The numbers of a bar.
    pub(super) fn span(&self, bar: Option<usize>) -> [f64; 2] {
        let Some(bar) = bar else { return [0.0, 0.0] };
        let at = |bar: usize| self.low + bar as f64 * self.step;
        if self.is_log { [bar, bar + 1].map(|bar| number_at(at(bar))) } else { [at(bar), at(bar + 1)] }
    }

    /// Numbers that are written below the axis.
    fn ticks(&self) -> Vec<f64> {
        const MOST_TICKS: u32 = 9;
        let [low, high] = [self.span(Some(0))[0], self.span(Some(self.bars - 1))[1]];
        let powers = |digits: &'static [f64]| (-9..13).flat_map(move |power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        if self.is_log {
            let within = |digits: &'static [f64]| powers(digits).filter(|at| (low..=high).contains(at)).collect::<Vec<_>>();
            let fine = within(&[1.0, 2.0, 5.0]);
            return if fine.len() <= MOST_TICKS as usize { fine } else { within(&[1.0]) };
        }
        let step = powers(&[1.0, 2.0, 5.0]).find(|step| (high - low) / step < f64::from(MOST_TICKS)).unwrap_or(high - low);
        let first = (low / step).ceil();
        (0..MOST_TICKS).map(|n| (first + f64::from(n)) * step).filter(|at| *at <= high + step * 1e-9).collect()
    }

    /// Where a bar begins.
    pub(super) fn left_of(&self, bar: Option<usize>) -> f64 {
        LEFT + bar.map_or(0.0, |bar| bar as f64 + self.before()) * self.slot()
    }

    /// On which side a number that the axis does not reach would stand.
    pub(super) fn is_right(&self, number: f64) -> bool {
        self.place(number) > self.low
    }

    /// The numbers of a bar, as text.
    pub(super) fn span_text(&self, bar: Option<usize>) -> String {
        let [from, to] = self.span(bar).map(show::number);
        if bar.is_some() { format!("{from} to {to}") } else { from }
    }

    /// Draws it along `base`, with `what` stands on it; that is markup already.
    pub(super) fn write(&self, what: &str, base: f64, out: &mut String) {
        let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {base:.1}H{WIDTH}\"/>");
        if self.has_zero {
            let _ = write!(out, "<text class=\"mid\" x=\"{:.1}\" y=\"{:.1}\">0</text>", LEFT + self.slot() / 2.0, base + 16.0);
        }
        for at in self.ticks() {
            let Some(x) = self.x(at) else { continue };
            let anchor = if x > WIDTH - 16.0 { "end" } else { "mid" };
            let _ = write!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {base:.1}v4\"/><text class=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                if anchor == "end" { WIDTH } else { x },
                base + 16.0,
                tick(at)
            );
        }
        let _ = write!(
            out,
            "<text class=\"end\" x=\"{WIDTH}\" y=\"{:.1}\">{what}{}</text>",
            base + 34.0,
            if self.is_log { ", log scale" } else { "" }
        );
    }
}

/// The number at a place on a log axis that lies between bins.
fn number_at(place: f64) -> f64 {
    (place / f64::from(Bin::PER_OCTAVE)).floor().exp2() * (1.0 + (place / f64::from(Bin::PER_OCTAVE)).fract()) * Bin::of(0.0).to()
}

/// A number below an axis.
fn tick(number: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e4, "k")];
    match units.into_iter().find(|(unit, _)| number.abs() >= *unit) {
        Some((_, "k")) => format!("{}k", show::number(number / 1e3)),
        Some((unit, name)) if number.abs() < 1e13 => format!("{}{name}", show::number(number / unit)),
        _ => show::number((number * 1e9).round() / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use stages::{Beside, Keeps};

    use super::*;

    fn measured(numbers: &[(f64, [u64; 2])], at: f64) -> Measured {
        let bound = Beside { setting: "min".to_owned(), keeps: Keeps::AtLeast, at, beyond: 0, widened: [0; 2], tightened: [0; 2] };
        Measured { bins: numbers.iter().map(|(number, n)| (Bin::of(*number), *n)).collect(), bounds: vec![bound], ..Measured::default() }
    }

    #[test]
    fn every_number_stands_in_one_bar_and_bars_lie_side_by_side() {
        for numbers in [
            &[(0.0, [1, 0]), (1.0, [5, 0]), (3.0, [0, 2]), (70.0, [4, 4]), (412_009.0, [1, 1])][..],
            &[(0.01, [1, 0]), (0.5, [1, 0]), (0.99, [0, 3]), (1.0, [2, 0])],
            &[(-7.5, [1, 0]), (-0.3, [3, 3]), (0.0, [9, 0]), (12.0, [1, 1])],
            &[(5.0, [1, 0])],
            &[(1e300, [1, 0]), (-1e300, [1, 0])],
            &[],
        ] {
            let measured = measured(numbers, 0.2);
            let axis = Axis::of(&measured);
            assert!((1..=MAX_BARS).contains(&axis.bars), "{axis:?}");
            for (number, _) in numbers {
                let bar = axis.bar_of(Bin::of(*number));
                let [from, to] = axis.span(bar);
                // Bins are assigned whole, and the last one holds all that is larger.
                let bin = Bin::of(*number);
                let (low, high) = (bin.from().min(bin.to()), bin.from().max(bin.to()));
                assert!(
                    bar.is_none() || (from <= low + 1e-12 && (high <= to + 1e-12 || bar == Some(axis.bars - 1))) || number.abs() > 1e13,
                    "{number}: {bar:?} of {axis:?}"
                );
            }
            for bar in 1..axis.bars {
                assert!((axis.span(Some(bar - 1))[1] - axis.span(Some(bar))[0]).abs() < 1e-9 * axis.span(Some(bar))[0].abs().max(1.0));
            }
            let ticks = axis.ticks();
            assert!(ticks.len() <= 24 && ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
        }
    }
}
