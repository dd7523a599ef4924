//! The rows of one group, best first: each is kept unless it is too similar to one that is kept, or there are enough.

use std::cmp::Ordering;

use super::RougeMeasure;
use crate::llm::{Lcs, Tokens, Vocabulary};

/// A row of a group.
pub(super) struct Candidate<'a> {
    pub(super) text: &'a str,
    /// How many may be kept before it; no limit if absent.
    pub(super) quota: Option<u64>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    /// It is kept; there was none before it, or the most similar of those is this.
    Kept(Option<Nearest>),
    /// It is too similar.
    Similar(Nearest),
    /// So many are kept, and no more may be.
    OverQuota { kept: u64, quota: u64 },
}

/// The kept row that is the most similar to a row; of equally similar ones the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Nearest {
    pub(super) similarity: f64,
    /// Its place among the candidates.
    pub(super) candidate: usize,
}

/// Decides about the rows of a group, in their order.
pub(super) fn choose<'a>(candidates: impl Iterator<Item = Candidate<'a>>, measure: RougeMeasure, max_similarity: f64) -> Vec<Outcome> {
    let mut kept = Kept::new(measure);
    let mut tokens = Vec::new();
    let mut outcomes = Vec::new();
    for (place, Candidate { text, quota }) in candidates.enumerate() {
        let n_kept = kept.places.len() as u64;
        if let Some(quota) = quota.filter(|quota| *quota <= n_kept) {
            outcomes.push(Outcome::OverQuota { kept: n_kept, quota });
            continue;
        }
        kept.numbers(text, &mut tokens);
        let nearest = kept.nearest(&tokens);
        let is_similar = |nearest: &Nearest| match measure {
            RougeMeasure::Precision => nearest.similarity >= max_similarity,
            RougeMeasure::F1 => nearest.similarity > max_similarity,
        };
        outcomes.push(if let Some(nearest) = nearest.filter(is_similar) {
            Outcome::Similar(nearest)
        } else {
            kept.keep(&tokens, place);
            Outcome::Kept(nearest)
        });
    }
    outcomes
}

/// A similarity as a fraction, so that two are compared without rounding. What is below is not 0.
#[derive(Debug, Clone, Copy)]
struct Similarity {
    above: u64,
    below: u64,
}

impl Similarity {
    fn cmp(self, other: Self) -> Ordering {
        (self.above * other.below).cmp(&(other.above * self.below))
    }

    fn value(self) -> f64 {
        self.above as f64 / self.below as f64
    }
}

/// The rows that are kept, and which tokens they hold.
struct Kept {
    measure: RougeMeasure,
    vocabulary: Vocabulary,
    lcs: Lcs,
    /// Their tokens, one row behind the other, and where each row ends.
    tokens: Vec<u32>,
    ends: Vec<usize>,
    /// Of each, which tokens it has: a bit each, shared by all with one remainder.
    bits: Vec<u128>,
    /// Of each, its place among the candidates.
    places: Vec<usize>,
    /// For each token, which of them have it, in their order.
    having: Vec<Vec<u32>>,
    /// Of each, for which candidate it was looked at last.
    looked_at: Vec<u32>,
    round: u32,
    /// The different tokens of a candidate, and how often each stands in it.
    counts: Vec<(u32, usize)>,
}

impl Kept {
    fn new(measure: RougeMeasure) -> Self {
        Self {
            measure,
            vocabulary: Vocabulary::default(),
            lcs: Lcs::default(),
            tokens: Vec::new(),
            ends: Vec::new(),
            bits: Vec::new(),
            places: Vec::new(),
            having: Vec::new(),
            looked_at: Vec::new(),
            round: 0,
            counts: Vec::new(),
        }
    }

    /// The numbers of a text's tokens.
    fn numbers(&mut self, text: &str, numbers: &mut Vec<u32>) {
        numbers.clear();
        numbers.extend(Tokens::of(text).iter().map(|token| self.vocabulary.number(token)));
        self.having.resize_with(self.vocabulary.len(), Vec::new);
    }

    fn keep(&mut self, tokens: &[u32], place: usize) {
        let number = u32::try_from(self.places.len()).expect("a batch holds below 2^31 rows");
        self.places.push(place);
        self.tokens.extend_from_slice(tokens);
        self.ends.push(self.tokens.len());
        self.bits.push(bits_of(tokens));
        self.looked_at.push(0);
        for token in tokens {
            let having = &mut self.having[*token as usize];
            if having.last() != Some(&number) {
                having.push(number);
            }
        }
    }

    fn kept(&self, number: usize) -> &[u32] {
        &self.tokens[number.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[number]]
    }

    /// With so many tokens in common, of so many of a candidate and of a kept row.
    fn similarity(&self, common: usize, candidate: usize, kept: usize) -> Similarity {
        match self.measure {
            RougeMeasure::Precision => Similarity { above: common as u64, below: candidate.max(1) as u64 },
            RougeMeasure::F1 => Similarity { above: 2 * common as u64, below: (candidate + kept).max(1) as u64 },
        }
    }

    /// The kept row that is most similar to a candidate; `None` if none is kept.
    ///
    /// Goes through the candidate's tokens, those first that the fewest kept rows have, and through the rows that have them. A row that was not met so
    /// far has none of the tokens so far: it has at most the other ones in common, and once that is less than the most similar row has, all of
    /// them are passed over. Of a row that is met the bits say how many tokens it lacks at least, which settles most of the rest.
    fn nearest(&mut self, tokens: &[u32]) -> Option<Nearest> {
        self.places.first()?;
        let mut lcs = std::mem::take(&mut self.lcs);
        let mut counts = std::mem::take(&mut self.counts);
        self.count(tokens, &mut counts);
        lcs.hold(tokens, self.vocabulary.len());
        self.round += 1;
        let bits = bits_of(tokens);
        let (mut best, mut best_number) = (self.similarity(0, tokens.len(), 0), 0_usize);
        let mut left = tokens.len();
        for (token, count) in &counts {
            if self.similarity(left, tokens.len(), left).cmp(best) == Ordering::Less {
                break;
            }
            // Taken out, so that what else there is can be changed.
            let having = std::mem::take(&mut self.having[*token as usize]);
            for number in having.iter().map(|number| *number as usize) {
                if std::mem::replace(&mut self.looked_at[number], self.round) == self.round {
                    continue;
                }
                let is_better = |similarity: Similarity, best: Similarity, best_number: usize| match similarity.cmp(best) {
                    Ordering::Less => false,
                    Ordering::Equal => number < best_number,
                    Ordering::Greater => true,
                };
                let kept = self.kept(number);
                let lacks = |these: u128, those: u128| (these & !those).count_ones() as usize;
                let most = left.min(tokens.len() - lacks(bits, self.bits[number])).min(kept.len() - lacks(self.bits[number], bits));
                if !is_better(self.similarity(most, tokens.len(), kept.len()), best, best_number) {
                    continue;
                }
                let similarity = self.similarity(lcs.with_held(tokens, kept), tokens.len(), kept.len());
                if is_better(similarity, best, best_number) {
                    (best, best_number) = (similarity, number);
                }
            }
            self.having[*token as usize] = having;
            left -= count;
        }
        lcs.release(tokens);
        (self.lcs, self.counts) = (lcs, counts);
        Some(Nearest { similarity: best.value(), candidate: self.places[best_number] })
    }

    /// The different tokens of a candidate with how often each stands in it; those first that the fewest kept rows have.
    fn count(&self, tokens: &[u32], counts: &mut Vec<(u32, usize)>) {
        counts.clear();
        counts.extend(tokens.iter().map(|token| (*token, 1)));
        counts.sort_unstable();
        counts.dedup_by(|next, first| {
            let is_same = next.0 == first.0;
            first.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        counts.sort_unstable_by_key(|(token, _)| (self.having[*token as usize].len(), *token));
    }
}

/// A bit for each token. Tokens are numbered as they are met, so that the most common ones have bits of their own.
fn bits_of(tokens: &[u32]) -> u128 {
    tokens.iter().fold(0, |bits, token| bits | (1 << (token % 128)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::llm::RougeL;

    /// Every row against every kept one.
    fn plain(texts: &[String], quota: Option<u64>, measure: RougeMeasure, max: f64) -> Vec<Outcome> {
        let tokens: Vec<Tokens> = texts.iter().map(|text| Tokens::of(text)).collect();
        let mut kept: Vec<usize> = Vec::new();
        let mut outcomes = Vec::new();
        for place in 0..texts.len() {
            let n_kept = kept.len() as u64;
            if let Some(quota) = quota.filter(|quota| n_kept >= *quota) {
                outcomes.push(Outcome::OverQuota { kept: n_kept, quota });
                continue;
            }
            let mut nearest: Option<Nearest> = None;
            for &candidate in &kept {
                let score = RougeL::of(&tokens[place], &tokens[candidate]);
                let similarity = if measure == RougeMeasure::Precision { score.precision } else { score.f1 };
                if nearest.is_none_or(|nearest| similarity > nearest.similarity) {
                    nearest = Some(Nearest { similarity, candidate });
                }
            }
            let limit = |similarity: f64| if measure == RougeMeasure::Precision { similarity >= max } else { similarity > max };
            outcomes.push(match nearest {
                Some(nearest) if limit(nearest.similarity) => Outcome::Similar(nearest),
                _ => {
                    kept.push(place);
                    Outcome::Kept(nearest)
                }
            });
        }
        outcomes
    }

    fn chosen(texts: &[String], quota: Option<u64>, measure: RougeMeasure, max: f64) -> Vec<Outcome> {
        choose(texts.iter().map(|text| Candidate { text, quota }), measure, max)
    }

    /// Questions of 8 to 16 words: how they begin, and then words as common as those of a language are (Zipf's law, of 20,000).
    fn questions(n: usize, seed: u64) -> Vec<String> {
        let mut random = seed;
        let mut draw = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            crate::keys::share_of(random)
        };
        let frames = ["What is the", "How did the", "Why was", "Which of the"];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers from 0 on")]
        let mut below = |n: f64| (draw() * n) as usize;
        (0..n)
            .map(|_| {
                let frame = frames[below(4.0)].to_owned();
                let n_words = 5 + below(9.0);
                (0..n_words).fold(frame, |text, _| format!("{text} w{}", (below(1e6) as f64 / 1e6 * 20_000_f64.ln()).exp().floor()))
            })
            .collect()
    }

    #[test]
    fn the_more_similar_of_the_kept_is_named_and_of_equals_the_first() {
        let texts = ["a b c d", "e f g h", "a b x y", "e f g z", "a b e f", "", "?"].map(str::to_owned);
        let nearest = |similarity: f64, candidate: usize| Nearest { similarity, candidate };
        assert_eq!(
            chosen(&texts, None, RougeMeasure::Precision, 0.7),
            [
                Outcome::Kept(None),
                Outcome::Kept(Some(nearest(0.0, 0))),
                Outcome::Kept(Some(nearest(0.5, 0))),
                Outcome::Similar(nearest(0.75, 1)),
                Outcome::Kept(Some(nearest(0.5, 0))),
                Outcome::Kept(Some(nearest(0.0, 0))),
                Outcome::Kept(Some(nearest(0.0, 0))),
            ]
        );
    }

    #[test]
    fn precision_is_that_of_the_row_against_the_kept_one() {
        let texts = ["what is the capital of france and where", "the capital of france"].map(str::to_owned);
        assert_eq!(chosen(&texts, None, RougeMeasure::Precision, 0.7)[1], Outcome::Similar(Nearest { similarity: 1.0, candidate: 0 }));
        let reversed = [texts[1].clone(), texts[0].clone()];
        assert_eq!(
            chosen(&reversed, None, RougeMeasure::Precision, 0.7)[1],
            Outcome::Kept(Some(Nearest { similarity: 0.5, candidate: 0 }))
        );
    }

    #[test]
    fn each_measure_has_its_bound() {
        // 7 of 10 tokens in common, of both; then 8, and 6.
        let text =
            |common: usize| (0..10).map(|n| if n < common { format!("w{n} ") } else { format!("x{common}y{n} ") }).collect::<String>();
        let of = |common: usize, measure: RougeMeasure| chosen(&[text(10), text(common)], None, measure, 0.7)[1];
        let is_kept = |outcome: Outcome| matches!(outcome, Outcome::Kept(_));
        assert_eq!([6, 7, 8].map(|common| is_kept(of(common, RougeMeasure::Precision))), [true, false, false]);
        assert_eq!([6, 7, 8].map(|common| is_kept(of(common, RougeMeasure::F1))), [true, true, false]);
    }

    #[test]
    fn twenty_thousand_questions_take_seconds() {
        let texts = questions(20_000, 1);
        let started = Instant::now();
        let outcomes = chosen(&texts, None, RougeMeasure::Precision, 0.7);
        let n_kept = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Kept(_))).count();
        assert!(n_kept > 5_000, "{n_kept}");
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
        let some = &texts[..600];
        assert_eq!(outcomes[..600], plain(some, None, RougeMeasure::Precision, 0.7));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_outcomes_are_those_of_comparing_every_row_with_every_kept_one(
            texts in proptest::collection::vec(prop_oneof![
                proptest::collection::vec("[a-h]", 0..12),
                proptest::collection::vec("[a-z]{1,2}", 0..12),
                proptest::collection::vec("[a-d]", 60..80),
            ], 0..60),
            max in prop_oneof![Just(0.0), Just(0.5), Just(0.7), Just(1.0), 0.0..1.0],
            quota in proptest::option::of(0_u64..20),
        ) {
            let texts: Vec<String> = texts.iter().map(|words| words.join(" ")).collect();
            for measure in [RougeMeasure::Precision, RougeMeasure::F1] {
                let got = chosen(&texts, quota, measure, max);
                prop_assert_eq!(&got, &plain(&texts, quota, measure, max));
            }
        }
    }
}
