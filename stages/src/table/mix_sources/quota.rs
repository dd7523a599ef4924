//! How much each source gives, in whole numbers: shares of a budget, what a source has, how often it may be repeated.

use super::Short;

/// What a source has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Supply {
    pub(super) rows: u64,
    /// In the unit of the mix.
    pub(super) units: u64,
}

/// What is wanted of the sources; all lists are by source.
#[derive(Debug, Clone)]
pub(super) enum Demand {
    /// So many passes over each.
    Epochs(Vec<f64>),
    /// Shares of a budget, or of the largest one that the sources can fill.
    Shares { weights: Vec<f64>, budget: Option<u64>, max_epochs: Vec<f64>, short: Short },
}

/// What a source is to give, in the unit of the mix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quota {
    /// By its weight alone.
    pub(super) wanted: u64,
    /// By its weight, and by what there is.
    pub(super) given: u64,
}

/// Why there is no mix; each with the source's number.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NoMix {
    /// Something is wanted of a source that has nothing.
    Empty(Vec<usize>),
    /// Sources would be repeated too often: how many passes it would take.
    Short(Vec<(usize, f64)>),
}

/// What each source gives: nothing, if there is nothing at all.
pub(super) fn quotas(demand: &Demand, supply: &[Supply]) -> Result<Vec<Quota>, NoMix> {
    let is_wanted = |source: usize| match demand {
        Demand::Epochs(epochs) => epochs[source] > 0.0,
        Demand::Shares { weights, .. } => weights[source] > 0.0,
    };
    if supply.iter().all(|supply| supply.rows == 0) {
        return Ok(vec![Quota::default(); supply.len()]);
    }
    let empty: Vec<usize> = (0..supply.len()).filter(|&source| is_wanted(source) && supply[source].units == 0).collect();
    if !empty.is_empty() {
        return Err(NoMix::Empty(empty));
    }
    let (weights, budget, max_epochs, short) = match demand {
        Demand::Epochs(epochs) => {
            let given = epochs.iter().zip(supply).map(|(epochs, supply)| passes(*epochs, supply.units));
            return Ok(given.map(|given| Quota { wanted: given, given }).collect());
        }
        Demand::Shares { weights, budget, max_epochs, short } => (whole(weights), *budget, max_epochs, *short),
    };
    let most: Vec<u64> = max_epochs.iter().zip(supply).map(|(epochs, supply)| passes(*epochs, supply.units)).collect();
    let budget = budget.unwrap_or_else(|| largest(&weights, &most));
    let wanted = allocate(budget, &weights);
    let over: Vec<usize> = (0..supply.len()).filter(|&source| wanted[source] > most[source]).collect();
    let given = match short {
        _ if over.is_empty() => wanted.clone(),
        Short::Stop => {
            return Err(NoMix::Short(
                over.into_iter().map(|source| (source, wanted[source] as f64 / supply[source].units as f64)).collect(),
            ));
        }
        Short::Shrink => allocate(budget.min(largest(&weights, &most)), &weights),
        Short::Refill => refill(budget, &weights, &most),
    };
    Ok(wanted.into_iter().zip(given).map(|(wanted, given)| Quota { wanted, given }).collect())
}

/// So many passes over `units`, rounded to a whole number of them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; what is too large becomes the largest number")]
fn passes(epochs: f64, units: u64) -> u64 {
    if epochs.fract() == 0.0 { (epochs as u64).saturating_mul(units) } else { (epochs * units as f64).round() as u64 }
}

/// Weights as whole numbers in the same proportions, the largest 2^53, so that shares of a budget are worked out exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^53")]
fn whole(weights: &[f64]) -> Vec<u64> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    weights.iter().map(|weight| (weight / largest * (1_u64 << 53) as f64).round() as u64).collect()
}

/// `budget` shared out by weight: rounded down, then one more to the largest remainders (of equal ones to the first) until all is given.
fn allocate(budget: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let exact: Vec<u128> = weights.iter().map(|&weight| u128::from(budget) * u128::from(weight)).collect();
    let mut given: Vec<u64> = exact.iter().map(|exact| u64::try_from(exact / total).unwrap_or(u64::MAX)).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&source| (std::cmp::Reverse(exact[source] % total), source));
    let left = budget - given.iter().sum::<u64>();
    order.into_iter().zip(0..left).for_each(|(source, _)| given[source] += 1);
    given
}

/// The largest budget of which no source's share is more than it can give.
fn largest(weights: &[u64], most: &[u64]) -> u64 {
    let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let of_each = weights.iter().zip(most).filter(|(weight, _)| **weight > 0);
    let of_each = of_each.map(|(weight, most)| {
        // 0.3 is not quite 0.3, and 30 is not to be a millionth too few for 100.
        let slack = u128::from(weight >> 20);
        u64::try_from((u128::from(*most) * total + slack) / u128::from(*weight)).unwrap_or(u64::MAX)
    });
    of_each.min().unwrap_or(0)
}

/// `budget` shared out by weight; what a source cannot give, the others give by their weights.
fn refill(budget: u64, weights: &[u64], most: &[u64]) -> Vec<u64> {
    let mut given = vec![0; weights.len()];
    let mut open: Vec<u64> = weights.to_vec();
    let mut left = budget;
    loop {
        let shares = allocate(left, &open);
        let full: Vec<usize> = (0..open.len()).filter(|&source| open[source] > 0 && shares[source] >= most[source]).collect();
        if full.is_empty() {
            // What is closed has given what it has, and a share of nothing.
            given.iter_mut().zip(shares).for_each(|(given, share)| *given += share);
            return given;
        }
        for source in full {
            given[source] = most[source];
            left = left.saturating_sub(most[source]);
            open[source] = 0;
        }
    }
}

/// How a source's quota is filled: so many whole passes, and so much of one more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passes {
    pub(super) whole: u64,
    pub(super) rest: u64,
}

impl Passes {
    pub(super) fn of(given: u64, supply: Supply) -> Self {
        let (whole, rest) = (given.checked_div(supply.units), given.checked_rem(supply.units));
        Self { whole: whole.unwrap_or(0), rest: rest.unwrap_or(0) }
    }
}

/// Whether a row of `size`, with `before` in the rows before it, is among those whose sum comes closest to `rest`.
pub(super) fn is_within(rest: u64, before: u64, size: u64) -> bool {
    // Its middle is: so a row is taken where the sum with it is closer than the sum without it.
    2 * u128::from(before) + u128::from(size) <= 2 * u128::from(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn supply(units: &[u64]) -> Vec<Supply> {
        units.iter().map(|&units| Supply { rows: units, units }).collect()
    }

    fn shares(weights: &[f64], budget: Option<u64>, max_epochs: f64, short: Short) -> Demand {
        Demand::Shares { weights: weights.to_vec(), budget, max_epochs: vec![max_epochs; weights.len()], short }
    }

    fn given(demand: &Demand, units: &[u64]) -> Vec<u64> {
        quotas(demand, &supply(units)).expect("a mix").iter().map(|quota| quota.given).collect()
    }

    #[test]
    fn a_budget_is_shared_out_to_the_last_row() {
        assert_eq!(given(&shares(&[0.7, 0.3], Some(10), 1.0, Short::Stop), &[100, 100]), [7, 3]);
        assert_eq!(given(&shares(&[70.0, 30.0], Some(10), 1.0, Short::Stop), &[100, 100]), [7, 3]);
        // 3.33 each: the first has what is left.
        assert_eq!(given(&shares(&[1.0, 1.0, 1.0], Some(10), 1.0, Short::Stop), &[100, 100, 100]), [4, 3, 3]);
        // 52.2, 26.7, 5.2, 4.2, 4.6, 3.8, 3.3 of 1,000.
        let card = [52.2, 26.7, 5.2, 4.2, 4.6, 3.8, 3.3];
        assert_eq!(given(&shares(&card, Some(1000), 1.0, Short::Stop), &[9999; 7]), [522, 267, 52, 42, 46, 38, 33]);
        assert_eq!(given(&shares(&[1.0, 0.0], Some(5), 1.0, Short::Stop), &[100, 0]), [5, 0]);
    }

    #[test]
    fn without_a_budget_the_scarcest_source_says_how_much() {
        // 30 is 0.3 of 100.
        assert_eq!(given(&shares(&[0.7, 0.3], None, 1.0, Short::Stop), &[1000, 30]), [70, 30]);
        assert_eq!(given(&shares(&[0.7, 0.3], None, 2.0, Short::Stop), &[1000, 30]), [140, 60]);
        assert_eq!(given(&shares(&[0.5, 0.5], None, 1.0, Short::Stop), &[7, 9]), [7, 7]);
    }

    #[test]
    fn a_source_that_runs_dry_stops_shrinks_or_is_made_up_for() {
        let wanted = |short, max| quotas(&shares(&[0.5, 0.3, 0.2], Some(100), max, short), &supply(&[1000, 20, 1000]));
        assert_eq!(wanted(Short::Stop, 1.0), Err(NoMix::Short(vec![(1, 1.5)])));
        let given = |short, max| wanted(short, max).expect("a mix").iter().map(|quota| quota.given).collect::<Vec<_>>();
        assert_eq!(given(Short::Stop, 1.5), [50, 30, 20]);
        // 20 is 0.3 of 66: 33.0, 19.8, 13.2.
        assert_eq!(given(Short::Shrink, 1.0), [33, 20, 13]);
        // 80 are left for 5 : 2, which is 57.1 and 22.9.
        assert_eq!(given(Short::Refill, 1.0), [57, 20, 23]);
        let poor = shares(&[0.5, 0.5], Some(100), 1.0, Short::Refill);
        assert_eq!(quotas(&poor, &supply(&[10, 20])).expect("a mix").iter().map(|quota| quota.given).collect::<Vec<_>>(), [10, 20]);
    }

    #[test]
    fn passes_are_whole_ones_and_a_rest() {
        assert_eq!(given(&Demand::Epochs(vec![2.0, 0.5, 1.25, 0.0]), &[10, 10, 10, 0]), [20, 5, 13, 0]);
        assert_eq!(Passes::of(23, Supply { rows: 5, units: 10 }), Passes { whole: 2, rest: 3 });
        assert_eq!(quotas(&Demand::Epochs(vec![1.0, 2.0]), &supply(&[5, 0])), Err(NoMix::Empty(vec![1])));
    }

    #[test]
    fn a_row_is_taken_where_the_sum_with_it_is_closer() {
        // 10 + 10 = 20 is as far from 15 as 10: the row is taken.
        assert!(is_within(15, 10, 10));
        assert!(!is_within(14, 10, 10));
        assert!(is_within(1, 0, 1) && !is_within(0, 0, 1) && is_within(0, 0, 0));
        assert!(!is_within(5, u64::MAX, u64::MAX));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_source_gives_more_than_it_may(
            weights in prop::collection::vec(0.001_f64..1.0, 1..8),
            units in prop::collection::vec(1_u64..1000, 8),
            budget in prop::option::of(1_u64..5000),
            max in 0.1_f64..3.0,
            refill: bool,
        ) {
            let short = if refill { Short::Refill } else { Short::Shrink };
            let units = &units[..weights.len()];
            let quotas = quotas(&shares(&weights, budget, max, short), &supply(units)).expect("a mix");
            let most: Vec<u64> = units.iter().map(|units| passes(max, *units)).collect();
            let all: u64 = quotas.iter().map(|quota| quota.given).sum();
            for (quota, most) in quotas.iter().zip(&most) {
                prop_assert!(quota.given <= *most);
            }
            let sum: f64 = weights.iter().sum();
            match (budget, refill) {
                (Some(budget), true) => prop_assert_eq!(all, budget.min(most.iter().sum())),
                _ => {
                    // The shares hold, but for the row that rounding moves.
                    for (quota, weight) in quotas.iter().zip(&weights) {
                        prop_assert!((quota.given as f64 - all as f64 * weight / sum).abs() <= weights.len() as f64 + 1.0, "{quotas:?}");
                    }
                }
            }
        }
    }
}
