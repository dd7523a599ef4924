//! Several votes about one row, made one: scores by their middle, verdicts by their number, each with how far the votes agree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rubric::Criterion;

/// How the scores of several votes become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Combine {
    /// The one in the middle; half way between the two in the middle of an even number.
    #[default]
    Median,
    /// Their mean.
    Mean,
}

impl Combine {
    fn of(self, mut scores: Vec<f64>) -> f64 {
        let n = scores.len();
        match self {
            Self::Mean => scores.iter().sum::<f64>() / n as f64,
            Self::Median => {
                scores.sort_by(f64::total_cmp);
                scores[(n - 1) / 2].midpoint(scores[n / 2])
            }
        }
    }
}

/// What the votes about a row come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scores {
    /// One of each criterion.
    pub(super) scores: Vec<f64>,
    /// Null of a single vote.
    pub(super) agreement: Option<f64>,
    /// The vote that is closest to the scores, the first one of several.
    pub(super) closest: usize,
}

/// Combines votes, each with a score of each criterion; one vote at least.
///
/// The agreement is the mean, over all criteria and all pairs of votes, of `1 - |a - b| / (max - min)`: 1 where all votes are the same, 0
/// where two votes stand at the two ends of every scale.
pub(super) fn scores(criteria: &[Criterion], votes: &[Vec<f64>], combine: Combine) -> Scores {
    let scores: Vec<f64> = (0..criteria.len()).map(|at| combine.of(votes.iter().map(|vote| vote[at]).collect())).collect();
    let apart = |a: &[f64], b: &[f64]| criteria.iter().enumerate().map(|(at, criterion)| criterion.apart(a[at], b[at])).sum::<f64>();
    let pairs = votes.iter().enumerate().flat_map(|(at, a)| votes[..at].iter().map(move |b| apart(a, b)));
    let (sum, n) = pairs.fold((0.0, 0_u32), |(sum, n), pair| (sum + pair, n + 1));
    let agreement = (n > 0).then(|| 1.0 - sum / (f64::from(n) * criteria.len() as f64));
    let distance = |vote: usize| apart(&votes[vote], &scores);
    let closest = (0..votes.len()).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(0);
    Scores { scores, agreement, closest }
}

/// Which of two is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Winner {
    A,
    B,
    Tie,
}

impl Winner {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Tie => "tie",
        }
    }
}

/// What a model says of two that it sees one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Second,
    Tie,
}

impl Place {
    pub(super) const WORDS: [(&'static str, Place); 3] = [("first", Self::First), ("second", Self::Second), ("tie", Self::Tie)];

    /// The verdict that a text is: one of the words and nothing else but marks around it. No word is looked for inside a text: `not first`
    /// would be the opposite of what it says.
    pub(super) fn exactly(text: &str) -> Option<Self> {
        let word = text.trim().trim_matches(|c: char| c.is_ascii_punctuation());
        Self::WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, place)| *place)
    }

    /// Which one that is, where `a` stands first, or second.
    pub(super) fn winner(self, a_is_first: bool) -> Winner {
        match (self, a_is_first) {
            (Self::Tie, _) => Winner::Tie,
            (Self::First, true) | (Self::Second, false) => Winner::A,
            (Self::First, false) | (Self::Second, true) => Winner::B,
        }
    }
}

/// What the two answers of one vote come to: `a` first, then `b` first.
pub(super) fn swapped(answers: [Place; 2]) -> (Winner, &'static str) {
    let [one, other] = [answers[0].winner(true), answers[1].winner(false)];
    match (answers, one == other) {
        (_, true) => (one, "both orders agree"),
        ([Place::First, Place::First], _) => (Winner::Tie, "first in both orders"),
        ([Place::Second, Place::Second], _) => (Winner::Tie, "second in both orders"),
        _ => (Winner::Tie, "tie in one order"),
    }
}

/// The verdict that most votes have, a tie if that is not one; and the share of all answers, two of each vote, that say the same.
pub(super) fn winner(votes: &[[Place; 2]]) -> (Winner, f64) {
    let count = |winner: Winner| votes.iter().filter(|vote| swapped(**vote).0 == winner).count();
    let counts = [Winner::A, Winner::B, Winner::Tie].map(|winner| (count(winner), winner));
    let most = counts.iter().map(|(n, _)| *n).max().unwrap_or(0);
    let winner = match counts.iter().filter(|(n, _)| *n == most).collect::<Vec<_>>()[..] {
        [(_, winner)] => *winner,
        _ => Winner::Tie,
    };
    let same = votes
        .iter()
        .map(|vote| [vote[0].winner(true), vote[1].winner(false)].iter().filter(|said| **said == winner).count())
        .sum::<usize>();
    (winner, same as f64 / (2 * votes.len()).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn criterion(min: f64, max: f64) -> Criterion {
        Criterion { name: "c".to_owned(), description: String::new(), min, max }
    }

    #[test]
    fn scores_are_combined_and_agreement_is_a_share_of_the_scale() {
        let scale = [criterion(1.0, 5.0), criterion(0.0, 10.0)];
        // Pairs: (4, 5), (4, 2), (5, 2) are 1/4, 2/4, 3/4 apart; (10, 10), (10, 5), (10, 5) are 0, 1/2, 1/2. Together 2.5 of 6.
        let votes = [vec![4.0, 10.0], vec![5.0, 10.0], vec![2.0, 5.0]];
        let got = scores(&scale, &votes, Combine::Median);
        assert_eq!((got.scores, got.closest), (vec![4.0, 10.0], 0));
        assert!((got.agreement.unwrap() - (1.0 - 2.5 / 6.0)).abs() < 1e-12);
        assert_eq!(scores(&scale, &votes, Combine::Mean).scores, [11.0 / 3.0, 25.0 / 3.0]);
        assert_eq!(scores(&scale, &votes[..2], Combine::Median).scores, [4.5, 10.0]);
        assert_eq!(scores(&scale, &votes[..1], Combine::Mean), Scores { scores: vec![4.0, 10.0], agreement: None, closest: 0 });
        assert_eq!(scores(&scale[..1], &[vec![1.0], vec![5.0]], Combine::Mean).agreement, Some(0.0));
    }

    #[test]
    fn a_verdict_is_a_word_and_not_a_part_of_one() {
        for text in ["first", " First.", "**first**", "\"FIRST\"", "`first`\n"] {
            assert_eq!(Place::exactly(text), Some(Place::First), "{text}");
        }
        for text in ["not first", "first or second", "the first", "firstly", "", "tied", "1"] {
            assert_eq!(Place::exactly(text), None, "{text}");
        }
    }

    #[test]
    fn a_verdict_counts_if_both_orders_agree() {
        use Place::{First, Second, Tie};
        assert_eq!(swapped([First, Second]), (Winner::A, "both orders agree"));
        assert_eq!(swapped([Second, First]), (Winner::B, "both orders agree"));
        assert_eq!(swapped([Tie, Tie]), (Winner::Tie, "both orders agree"));
        assert_eq!(swapped([First, First]), (Winner::Tie, "first in both orders"));
        assert_eq!(swapped([Second, Second]), (Winner::Tie, "second in both orders"));
        assert_eq!(swapped([First, Tie]), (Winner::Tie, "tie in one order"));
        assert_eq!(winner(&[[First, Second]]), (Winner::A, 1.0));
        assert_eq!(winner(&[[First, First]]), (Winner::Tie, 0.0));
        // a, a, tie: of six answers five say a.
        assert_eq!(winner(&[[First, Second], [First, Second], [First, First]]), (Winner::A, 5.0 / 6.0));
        // One each way is none.
        assert_eq!(winner(&[[First, Second], [Second, First]]), (Winner::Tie, 0.0));
    }

    proptest! {
        #[test]
        fn agreement_is_a_share_and_one_for_equal_votes(votes in prop::collection::vec(1..=5_u8, 2..9)) {
            let scale = [criterion(1.0, 5.0)];
            let votes: Vec<Vec<f64>> = votes.iter().map(|vote| vec![f64::from(*vote)]).collect();
            let got = scores(&scale, &votes, Combine::Median);
            let agreement = got.agreement.unwrap();
            prop_assert!((0.0..=1.0).contains(&agreement));
            prop_assert_eq!(agreement >= 1.0, votes.iter().all(|vote| *vote == votes[0]));
            let mut other = votes.clone();
            other.reverse();
            prop_assert_eq!(scores(&scale, &other, Combine::Median).scores, got.scores);
        }
    }
}
