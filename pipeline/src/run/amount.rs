//! Numbers that are known within bounds, and how far measured ones may be off.

use serde::Serialize;

/// How far an estimated count may be off, whatever the splits say: readers take 256 KiB at a time, 6 % of what is read of a split, and may be anywhere in
/// what they took last.
pub(super) const LEAST_SPREAD: f64 = 0.07;

/// The same where one split speaks for all.
const SPREAD_OF_ONE: f64 = 0.25;

/// How far times may be off, whatever the splits say: the machine does other things, too, and does them now.
const LEAST_SPREAD_OF_TIME: f64 = 0.3;

/// A number as far as it is known: it lies between `low` and `high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Amount {
    /// It is no less.
    pub low: f64,
    /// It is no more; `None`: nobody knows.
    pub high: Option<f64>,
    /// What it is most likely; `None` where anything between is as likely.
    pub likely: Option<f64>,
}

impl Amount {
    /// Nothing at all.
    pub(super) const NOTHING: Self = Self::known(0.0);
    /// Anything.
    pub(super) const UNKNOWN: Self = Self { low: 0.0, high: None, likely: None };

    /// Just that.
    pub(super) const fn known(value: f64) -> Self {
        Self { low: value, high: Some(value), likely: Some(value) }
    }

    /// That, or as many times less or more as `spread` says: 0.25 is from four fifths of it to five quarters.
    pub(super) fn about(value: f64, spread: f64) -> Self {
        Self { low: value / (1.0 + spread), high: Some(value * (1.0 + spread)), likely: Some(value) }
    }

    /// That or less.
    pub(super) fn at_most(value: f64) -> Self {
        Self { low: 0.0, high: Some(value), likely: None }
    }

    /// That or more.
    pub(super) fn at_least(value: f64) -> Self {
        Self { low: value, high: None, likely: None }
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        let both = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        Self { low: self.low + other.low, high: both(self.high, other.high), likely: both(self.likely, other.likely) }
    }

    /// Whether it is just that.
    pub fn is_known(&self) -> bool {
        self.high == Some(self.low)
    }
}

/// How far the mean of such values may be off, as a share: two standard errors.
pub(super) fn spread_of_mean(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 || mean <= 0.0 {
        return SPREAD_OF_ONE;
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (2.0 * (variance / n).sqrt() / mean).max(LEAST_SPREAD)
}

/// How far times may be off, as a share: as far as the slowest and the fastest were from the mean.
pub(super) fn spread_of_times(rates: &[f64]) -> f64 {
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    let farthest = rates.iter().map(|rate| (rate / mean - 1.0).abs()).fold(0.0, f64::max);
    if farthest.is_finite() { farthest.max(LEAST_SPREAD_OF_TIME) } else { LEAST_SPREAD_OF_TIME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_add_up_as_far_as_they_are_known() {
        let sum = Amount::known(5.0).plus(Amount::about(10.0, 0.25)).plus(Amount::at_most(3.0));
        assert_eq!(sum, Amount { low: 13.0, high: Some(20.5), likely: None });
        assert_eq!(sum.plus(Amount::at_least(1.0)), Amount { low: 14.0, high: None, likely: None });
        assert!(Amount::known(0.0).is_known() && !sum.is_known() && !Amount::UNKNOWN.is_known());
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn one_place_says_less_than_many_and_equal_ones_more_than_others() {
        assert_eq!(spread_of_mean(&[7.0]), SPREAD_OF_ONE);
        assert_eq!(spread_of_mean(&[7.0; 8]), LEAST_SPREAD);
        // Mean 2, standard deviation 1.1547 (by hand: the squares add up to 4, over 3), two standard errors 1.1547.
        assert!((spread_of_mean(&[1.0, 1.0, 3.0, 3.0]) - 1.1547 / 2.0).abs() < 1e-4);
        assert_eq!(spread_of_times(&[1.0, 1.0, 4.0]), 1.0);
        assert_eq!(spread_of_times(&[]), LEAST_SPREAD_OF_TIME);
    }
}
