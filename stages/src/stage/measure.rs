//! The numbers that a stage decides by: counted over every row, in bins of its own, so that a person sees what moving a bound would do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A number that a stage decides by, and the bounds it holds it against. Made once, when the stage is built.
///
/// Not for draws: where a random number falls says nothing about the row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    name: &'static str,
    what: &'static str,
    of: Subject,
    bounds: Vec<Bound>,
}

/// What a number is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A row, which is kept or dropped.
    #[default]
    Rows,
    /// Two rows, which are linked or not: "kept" are the pairs that are linked.
    Pairs,
}

/// Which side of a bound is kept; what is equal to it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeps {
    /// What is not below it.
    AtLeast,
    /// What is not above it.
    AtMost,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bound {
    setting: &'static str,
    keeps: Keeps,
    at: f64,
}

impl Measure {
    /// A number without bounds. `name` is in `snake_case`, `what` says what is measured, with its unit: `characters of the text`.
    pub const fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what, of: Subject::Rows, bounds: Vec::new() }
    }

    /// The same of pairs of rows.
    #[must_use]
    pub fn of_pairs(mut self) -> Self {
        self.of = Subject::Pairs;
        self
    }

    /// The same with a bound, named as the setting that moves it: numbers below it are not kept. An infinite one is none.
    #[must_use]
    pub fn at_least(self, setting: &'static str, at: f64) -> Self {
        self.with(Bound { setting, keeps: Keeps::AtLeast, at })
    }

    /// The same with a bound: numbers above it are not kept.
    #[must_use]
    pub fn at_most(self, setting: &'static str, at: f64) -> Self {
        self.with(Bound { setting, keeps: Keeps::AtMost, at })
    }

    fn with(mut self, bound: Bound) -> Self {
        self.bounds.extend(bound.at.is_finite().then_some(bound));
        self
    }
}

/// What came of a [`Measure`] over all that was measured. Any cut into batches and tasks, merged in any order, gives the same.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// What is measured, with its unit.
    pub what: String,
    /// What each number is of.
    #[serde(default)]
    pub of: Subject,
    /// How many fell into each bin: kept and dropped.
    #[serde(with = "columns")]
    pub bins: BTreeMap<Bin, [u64; 2]>,
    /// How many were no numbers (NaN) and are in no bin.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_a_number: u64,
    /// The least and the most number, infinities aside.
    pub range: Option<[f64; 2]>,
    /// What stands on either side of each bound, in the order in which the stage holds numbers against them.
    pub bounds: Vec<Beside>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How many numbers lie beyond a bound, and how many close to it: exact, and not read off the bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The setting that moves it.
    pub setting: String,
    /// Which side is kept.
    pub keeps: Keeps,
    /// Where it stands.
    pub at: f64,
    /// How many lie beyond it.
    pub beyond: u64,
    /// How many of those lie within each of [`Beside::STEPS`]: they would not be beyond it if it were that much wider.
    pub widened: [u64; 2],
    /// How many that are kept lie within each of the steps: they would be beyond it if it were that much tighter.
    pub tightened: [u64; 2],
}

impl Beside {
    /// How far a bound is moved, in parts of itself.
    pub const STEPS: [f64; 2] = [0.05, 0.1];

    /// Where it would stand, moved by `STEPS[step]`: to let more through (`wider`) or less.
    pub fn moved(&self, step: usize, wider: bool) -> f64 {
        let by = Self::STEPS[step] * self.at.abs();
        let moved = if wider == (self.keeps == Keeps::AtMost) { self.at + by } else { self.at - by };
        moved.clamp(f64::MIN, f64::MAX)
    }
}

impl Measured {
    /// How many were kept and dropped, with those that were no numbers left out.
    pub fn counts(&self) -> [u64; 2] {
        self.bins.values().fold([0; 2], |sum, n| [sum[0].saturating_add(n[0]), sum[1].saturating_add(n[1])])
    }

    /// Adds what was measured elsewhere.
    pub fn merge(&mut self, other: Self) {
        if self.what.is_empty() {
            self.what = other.what;
            self.of = other.of;
        }
        for (bin, [kept, dropped]) in other.bins {
            let n = self.bins.entry(bin).or_default();
            *n = [n[0].saturating_add(kept), n[1].saturating_add(dropped)];
        }
        self.not_a_number = self.not_a_number.saturating_add(other.not_a_number);
        self.range = match (self.range, other.range) {
            (Some([least, most]), Some([a, b])) => Some([least.min(a), most.max(b)]),
            (mine, theirs) => mine.or(theirs),
        };
        for theirs in other.bounds {
            let is_same =
                |mine: &&mut Beside| mine.setting == theirs.setting && mine.keeps == theirs.keeps && mine.at.total_cmp(&theirs.at).is_eq();
            match self.bounds.iter_mut().find(is_same) {
                Some(mine) => {
                    mine.beyond = mine.beyond.saturating_add(theirs.beyond);
                    for step in 0..Beside::STEPS.len() {
                        mine.widened[step] = mine.widened[step].saturating_add(theirs.widened[step]);
                        mine.tightened[step] = mine.tightened[step].saturating_add(theirs.tightened[step]);
                    }
                }
                None => self.bounds.push(theirs),
            }
        }
    }
}

/// A bin of numbers: a sixteenth of an octave (`2^k` to `2^(k+1)`), so that bins are at most 6.25 % wide wherever they lie and there are few of
/// them. Bin 0 holds what is closer to 0 than 2⁻²⁰; the bins of negative numbers mirror those of positive ones. Numbers past 2⁴⁴ are in the
/// last bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bin(i16);

/// A power of two, of which [`Bin::PER_OCTAVE`] is made.
const MANTISSA_BITS: u32 = 4;

/// The exponent and so many bits of the mantissa of 2⁻²⁰.
const FIRST: u64 = (1023 - 20) << MANTISSA_BITS;

/// Bins of positive numbers, 64 octaves of them.
const POSITIVE: u16 = 64 << MANTISSA_BITS;

impl Bin {
    /// Bins of an octave.
    pub const PER_OCTAVE: u16 = 1 << MANTISSA_BITS;

    /// The bin of a number that is not NaN.
    #[expect(clippy::cast_possible_truncation, reason = "at most POSITIVE")]
    pub fn of(number: f64) -> Self {
        let top = number.abs().to_bits() >> (52 - MANTISSA_BITS);
        let bin = (top + 1).saturating_sub(FIRST).min(u64::from(POSITIVE)) as i16;
        Self(if number < 0.0 { -bin } else { bin })
    }

    /// The bin's edge that is closer to 0; 0 for bin 0.
    pub fn from(self) -> f64 {
        match self.0.unsigned_abs() {
            0 => 0.0,
            bin => f64::from_bits((u64::from(bin) - 1 + FIRST) << (52 - MANTISSA_BITS)).copysign(f64::from(self.0)),
        }
    }

    /// The edge that is farther from 0, which is in the next bin; of bin 0 the upper one.
    pub fn to(self) -> f64 {
        f64::from_bits((u64::from(self.0.unsigned_abs()) + FIRST) << (52 - MANTISSA_BITS)).copysign(f64::from(self.0))
    }

    /// Its place among the bins of its sign, from 1; 0 for bin 0.
    pub fn place(self) -> u16 {
        self.0.unsigned_abs()
    }
}

/// Bins as three columns, which is how tables are read best: the edges closer to 0, kept, dropped.
mod columns {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Bin;

    #[derive(Serialize, Deserialize)]
    struct Columns {
        from: Vec<f64>,
        kept: Vec<u64>,
        dropped: Vec<u64>,
    }

    pub(super) fn serialize<S: Serializer>(bins: &BTreeMap<Bin, [u64; 2]>, serializer: S) -> Result<S::Ok, S::Error> {
        let column = |which: usize| bins.values().map(|n| n[which]).collect();
        Columns { from: bins.keys().map(|bin| bin.from()).collect(), kept: column(0), dropped: column(1) }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Bin, [u64; 2]>, D::Error> {
        let Columns { from, kept, dropped } = Columns::deserialize(deserializer)?;
        Ok(from.into_iter().map(Bin::of).zip(kept.into_iter().zip(dropped).map(|(kept, dropped)| [kept, dropped])).collect())
    }
}

/// Counts the numbers of one measure where they are met, in an array, at about ten nanoseconds each.
#[derive(Debug)]
pub(super) struct Tally {
    measure: Measure,
    /// By bin, from the most negative one.
    counts: Vec<[u64; 2]>,
    /// The bins that hold any.
    touched: Option<[usize; 2]>,
    not_a_number: u64,
    range: [f64; 2],
    bounds: Vec<BoundTally>,
}

#[derive(Debug, Default)]
struct BoundTally {
    /// -1 where the bound is a maximum: a maximum of a number is a minimum of its negative.
    sign: f64,
    at: f64,
    wider: [f64; 2],
    tighter: [f64; 2],
    beyond: u64,
    widened: [u64; 2],
    tightened: [u64; 2],
}

impl BoundTally {
    fn new(bound: Bound) -> Self {
        let sign = if bound.keeps == Keeps::AtMost { -1.0 } else { 1.0 };
        let at = sign * bound.at;
        let by = Beside::STEPS.map(|step| step * at.abs());
        Self { sign, at, wider: by.map(|by| at - by), tighter: by.map(|by| at + by), ..Self::default() }
    }

    fn take(&mut self, number: f64, kept: bool) {
        let number = self.sign * number;
        if number < self.at {
            self.beyond += 1;
            for step in 0..2 {
                self.widened[step] += u64::from(number >= self.wider[step]);
            }
        } else if kept {
            for step in 0..2 {
                self.tightened[step] += u64::from(number < self.tighter[step]);
            }
        }
    }
}

/// Where bin 0 stands in the array.
const MIDDLE: i16 = POSITIVE as i16;

impl Tally {
    pub(super) fn new(measure: &Measure) -> Self {
        Self {
            measure: measure.clone(),
            counts: vec![[0; 2]; usize::from(POSITIVE) * 2 + 1],
            touched: None,
            not_a_number: 0,
            range: [f64::INFINITY, f64::NEG_INFINITY],
            bounds: measure.bounds.iter().copied().map(BoundTally::new).collect(),
        }
    }

    /// Whether it counts the numbers of `measure`.
    pub(super) fn is_of(&self, measure: &Measure) -> bool {
        self.measure.name == measure.name
    }

    pub(super) fn take(&mut self, number: f64, kept: bool) {
        if number.is_nan() {
            self.not_a_number += 1;
            return;
        }
        #[expect(clippy::cast_sign_loss, reason = "bins begin at -MIDDLE")]
        let at = (Bin::of(number).0 + MIDDLE) as usize;
        self.counts[at][usize::from(!kept)] += 1;
        let [first, last] = self.touched.unwrap_or([at; 2]);
        self.touched = Some([first.min(at), last.max(at)]);
        if number.is_finite() {
            let number = number + 0.0; // of -0 and 0 either could be the least
            self.range = [self.range[0].min(number), self.range[1].max(number)];
        }
        self.bounds.iter_mut().for_each(|bound| bound.take(number, kept));
    }

    /// What was counted since the last call, under the measure's name; leaves nothing.
    pub(super) fn finish(&mut self) -> Option<(&'static str, Measured)> {
        let touched = self.touched.take();
        if touched.is_none() && self.not_a_number == 0 {
            return None;
        }
        let mut bins = BTreeMap::new();
        for at in touched.into_iter().flat_map(|[first, last]| first..=last) {
            let counts = std::mem::take(&mut self.counts[at]);
            if counts != [0; 2] {
                let at = i16::try_from(at).expect("an index of a few thousand bins");
                bins.insert(Bin(at - MIDDLE), counts);
            }
        }
        let range = std::mem::replace(&mut self.range, [f64::INFINITY, f64::NEG_INFINITY]);
        let beside = |(bound, tally): (&Bound, &mut BoundTally)| Beside {
            setting: bound.setting.to_owned(),
            keeps: bound.keeps,
            at: bound.at,
            beyond: std::mem::take(&mut tally.beyond),
            widened: std::mem::take(&mut tally.widened),
            tightened: std::mem::take(&mut tally.tightened),
        };
        let measured = Measured {
            what: self.measure.what.to_owned(),
            of: self.measure.of,
            bins,
            not_a_number: std::mem::take(&mut self.not_a_number),
            range: (range[0] <= range[1]).then_some(range),
            bounds: self.measure.bounds.iter().zip(&mut self.bounds).map(beside).collect(),
        };
        Some((self.measure.name, measured))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chars() -> Measure {
        Measure::new("chars", "characters").at_least("min_chars", 200.0).at_most("max_chars", 1000.0)
    }

    fn measured(numbers: &[(f64, bool)]) -> Measured {
        let mut tally = Tally::new(&chars());
        numbers.iter().for_each(|(number, kept)| tally.take(*number, *kept));
        tally.finish().map(|(_, measured)| measured).unwrap_or_default()
    }

    #[test]
    fn a_bin_is_a_sixteenth_of_an_octave_and_holds_its_lower_edge() {
        let span = |number: f64| (Bin::of(number).from(), Bin::of(number).to());
        assert_eq!(span(1.0), (1.0, 1.0625));
        assert_eq!(span(1.0624), (1.0, 1.0625));
        assert_eq!(span(1.0625), (1.0625, 1.125));
        assert_eq!(span(200.0), (200.0, 208.0));
        assert_eq!(span(0.8), (0.78125, 0.8125));
        assert_eq!(span(-3.0), (-3.0, -3.125));
        assert_eq!(span(0.0), (0.0, 2f64.powi(-20)));
        assert_eq!((Bin::of(-0.0), Bin::of(1e-7), Bin::of(-5e-324)), (Bin(0), Bin(0), Bin(0)));
        assert_eq!(span(2f64.powi(-20)), (2f64.powi(-20), 2f64.powi(-20) * 1.0625));
        assert_eq!(Bin::of(f64::INFINITY), Bin::of(2f64.powi(44) - 1.0));
        assert_eq!((Bin::of(f64::MAX), Bin::of(f64::MIN)), (Bin(1024), Bin(-1024)));
    }

    #[test]
    fn numbers_close_to_a_bound_are_counted_on_either_side() {
        let got = measured(&[
            (179.0, false),
            (180.0, false), // 10 % below
            (190.0, false), // 5 % below
            (199.9, false),
            (200.0, true),  // on the bound, which is kept
            (205.0, false), // dropped for another reason: tightening the bound would not lose it
            (209.0, true),
            (210.0, true), // 5 % above: a bound of 210 would keep it
            (219.0, true),
            (1000.0, true),
            (1000.5, false),
            (1051.0, false),
            (1101.0, false),
            (950.0, true),
            (949.0, true),
            (f64::NAN, false),
        ]);
        assert_eq!((got.counts(), got.not_a_number, got.range), ([7, 8], 1, Some([179.0, 1101.0])));
        let [least, most] = got.bounds.as_slice() else { panic!("two bounds") };
        assert_eq!((least.setting.as_str(), least.beyond, least.widened, least.tightened), ("min_chars", 4, [2, 3], [2, 4]));
        assert_eq!((most.setting.as_str(), most.beyond, most.widened, most.tightened), ("max_chars", 3, [1, 2], [1, 3]));
        let moved = [least.moved(0, true), least.moved(1, false), most.moved(1, true), most.moved(0, false)];
        assert_eq!(moved.map(|at| at.to_string()), ["190", "220", "1100", "950"]);
    }

    #[test]
    fn what_was_measured_is_written_as_columns_and_read_back() {
        let got = measured(&[(200.0, true), (12.0, false), (12.5, false), (-3.0, false), (0.0, false), (f64::INFINITY, false)]);
        let written = serde_json::to_value(&got).unwrap();
        assert_eq!(written["bins"]["from"].as_array().unwrap()[..4], [-3.0, 0.0, 12.0, 12.5].map(serde_json::Value::from));
        assert_eq!(written["bins"]["kept"], serde_json::json!([0, 0, 0, 0, 1, 0]));
        assert_eq!(serde_json::from_value::<Measured>(written).unwrap(), got);
        assert_eq!(measured(&[]), Measured::default());
    }

    #[test]
    fn counts_of_a_damaged_record_do_not_overflow() {
        let mut got = measured(&[(1.0, false)]);
        got.bins = [(Bin(1), [u64::MAX; 2]), (Bin(2), [u64::MAX; 2])].into();
        got.bounds[0].beyond = u64::MAX;
        got.merge(got.clone());
        assert_eq!((got.counts(), got.bounds[0].beyond), ([u64::MAX; 2], u64::MAX));
    }

    proptest! {
        #[test]
        fn every_number_lies_in_its_bin(number in prop::num::f64::ANY.prop_filter("numbers", |number| !number.is_nan())) {
            let bin = Bin::of(number);
            prop_assert_eq!(Bin::of(bin.from()), bin);
            if bin != Bin(0) && number.abs() < 2f64.powi(44) {
                prop_assert!(bin.from().abs() <= number.abs() && number.abs() < bin.to().abs(), "{} in {:?}", number, bin);
                prop_assert!((bin.to() / bin.from()) <= 1.0625);
            }
        }

        #[test]
        fn any_cut_and_any_order_of_merging_give_the_same(
            numbers in prop::collection::vec((prop::num::f64::ANY, any::<bool>()), 0..200), size in 1usize..50, reverse in any::<bool>(),
        ) {
            let whole = measured(&numbers);
            let mut parts: Vec<Measured> = numbers.chunks(size).map(measured).collect();
            if reverse {
                parts.reverse();
            }
            let mut merged = Measured::default();
            parts.into_iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(merged, whole);
        }

        #[test]
        fn bins_are_in_the_order_of_numbers(a in prop::num::f64::NORMAL, b in prop::num::f64::NORMAL) {
            prop_assert!(a > b || Bin::of(a) <= Bin::of(b));
        }
    }
}
