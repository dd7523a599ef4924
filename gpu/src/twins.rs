//! How the two sides of a kernel are held to each other. Every comparison is also seen to fail: it runs again with one value of either side
//! changed, for a comparison of a thing with itself always passes.

use std::fmt::Debug;
use std::sync::OnceLock;

use crate::{Device, DeviceChoice, Gpu};

/// The adapter that tests run on, the same for all of them: the one that the environment variable `GPU_TESTS_ADAPTER` names, else a software one (it
/// is there in CI, and proves shaders right), else a GPU. None makes a test skip itself, unless `GPU_TESTS` is `require`.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn adapter() -> Option<&'static Gpu> {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let device = DEVICE.get_or_init(|| open().unwrap_or_default());
    if device.gpu().is_none() {
        assert!(std::env::var_os("GPU_TESTS").is_none_or(|tests| tests != "require"), "no adapter");
        eprintln!("skipped: no adapter");
    }
    device.gpu().map(AsRef::as_ref)
}

/// A device of a test's own on that adapter, to be lost or cut short.
pub(crate) fn open_within(limits: Option<&crate::Limits>) -> Option<Device> {
    adapter()?;
    choices().iter().find_map(|choice| Device::open_within(choice, limits).ok().filter(|device| device.gpu().is_some()))
}

fn open() -> Option<Device> {
    choices().iter().find_map(|choice| Device::open(choice).ok().filter(|device| device.gpu().is_some()))
}

fn choices() -> Vec<DeviceChoice> {
    match std::env::var("GPU_TESTS_ADAPTER") {
        Ok(name) => vec![DeviceChoice::Named(name)],
        Err(_) => vec![DeviceChoice::Named("llvmpipe".to_owned()), DeviceChoice::Gpu],
    }
}

/// How far twins may be apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tolerance {
    /// Not at all, bit for bit.
    Equal,
    /// So many representable numbers.
    Ulps { most: u32, reason: &'static str },
    /// So much of a unit.
    Near { most: f64, unit: &'static str, reason: &'static str },
    /// This share of the greater of the two, which counts as `least` at least.
    Share { most: f64, least: f64, reason: &'static str },
}

/// A value that twins make.
pub(crate) trait Value: Copy + Debug {
    /// Whether two values are closer than the tolerance.
    fn agrees(self, other: Self, tolerance: Tolerance) -> bool;
    /// A value that is further away than the tolerance.
    fn moved(self, tolerance: Tolerance) -> Self;
}

macro_rules! whole_numbers {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn agrees(self, other: Self, tolerance: Tolerance) -> bool {
                match tolerance {
                    Tolerance::Near { most, .. } => (f64::from(self) - f64::from(other)).abs() <= most,
                    _ => self == other,
                }
            }

            #[expect(clippy::cast_possible_truncation, reason = "tolerances are small")]
            #[allow(clippy::cast_sign_loss, reason = "and positive; not all of these kinds are without a sign")]
            fn moved(self, tolerance: Tolerance) -> Self {
                let by = if let Tolerance::Near { most, .. } = tolerance { most as $kind + 1 } else { 1 };
                self.checked_add(by).unwrap_or_else(|| self - by)
            }
        }
    )*};
}
whole_numbers!(u8, u32, i32);

impl Value for f32 {
    fn agrees(self, other: Self, tolerance: Tolerance) -> bool {
        if self.to_bits() == other.to_bits() || (self.is_nan() && other.is_nan()) {
            return true;
        }
        if !(self.is_finite() && other.is_finite()) {
            return false;
        }
        let apart = (f64::from(self) - f64::from(other)).abs();
        match tolerance {
            Tolerance::Equal => false,
            Tolerance::Ulps { most, .. } => ordered(self).abs_diff(ordered(other)) <= most,
            Tolerance::Near { most, .. } => apart <= most,
            Tolerance::Share { most, least, .. } => apart <= most * f64::from(self.abs().max(other.abs())).max(least),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a test's numbers")]
    fn moved(self, tolerance: Tolerance) -> Self {
        if !self.is_finite() {
            return 0.0;
        }
        let up = |steps: u32| (0..steps).fold(self, |value, _| value.next_up());
        match tolerance {
            Tolerance::Equal => up(1),
            Tolerance::Ulps { most, .. } => up(most + 1),
            Tolerance::Near { most, .. } => (self + 2.0 * most as f32).max(up(2)),
            Tolerance::Share { most, least, .. } => (self + 3.0 * (most * f64::from(self.abs()).max(least)) as f32).max(up(2)),
        }
    }
}

/// Floats as whole numbers in the same order.
fn ordered(value: f32) -> i32 {
    let bits = value.to_bits().cast_signed();
    if bits < 0 { i32::MIN - bits } else { bits }
}

/// Checks that what the twins made is the same but for the tolerance, and that the check fails when one value of either side is changed.
#[track_caller]
pub(crate) fn assert_twins<T: Value>(case: &str, plain: &[T], other: &[T], tolerance: Tolerance) {
    // What a tolerance is for must be said, and in what unit.
    if let Tolerance::Near { unit, .. } = tolerance {
        assert!(!unit.is_empty(), "{case}: a tolerance without a unit");
    }
    if let Tolerance::Ulps { reason, .. } | Tolerance::Near { reason, .. } | Tolerance::Share { reason, .. } = tolerance {
        assert!(!reason.is_empty(), "{case}: a tolerance without a reason");
    }
    agree(plain, other, tolerance).unwrap_or_else(|problem| panic!("{case}: {problem}"));
    for at in [0, plain.len() / 2, plain.len().wrapping_sub(1)] {
        if let (Some(&a), Some(&b)) = (plain.get(at), other.get(at)) {
            let mut changed = plain.to_vec();
            changed[at] = b.moved(tolerance);
            assert!(agree(&changed, other, tolerance).is_err(), "{case}: value {at} of the plain side may be anything");
            let mut changed = other.to_vec();
            changed[at] = a.moved(tolerance);
            assert!(agree(plain, &changed, tolerance).is_err(), "{case}: value {at} of the other side may be anything");
        }
    }
}

/// [`assert_twins`] for what is no list of values: `compare` says what is wrong, `change` makes the smallest change that must be seen.
#[track_caller]
pub(crate) fn assert_twins_by<T: Clone>(
    case: &str,
    plain: &T,
    other: &T,
    compare: impl Fn(&T, &T) -> Result<(), String>,
    change: impl Fn(&mut T),
) {
    compare(plain, other).unwrap_or_else(|problem| panic!("{case}: {problem}"));
    let changed = |side: &T| {
        let mut changed = side.clone();
        change(&mut changed);
        changed
    };
    assert!(compare(&changed(plain), other).is_err(), "{case}: a change of the plain side is not seen");
    assert!(compare(plain, &changed(other)).is_err(), "{case}: a change of the other side is not seen");
}

fn agree<T: Value>(plain: &[T], other: &[T], tolerance: Tolerance) -> Result<(), String> {
    if plain.len() != other.len() {
        return Err(format!("{} values and {}", plain.len(), other.len()));
    }
    let apart: Vec<usize> = (0..plain.len()).filter(|&at| !plain[at].agrees(other[at], tolerance)).collect();
    match apart.first() {
        None => Ok(()),
        Some(&at) => {
            let (plain, other, all) = (plain[at], other[at], plain.len());
            Err(format!("value {at} is {plain:?} and {other:?}; so differ {} of {all} ({tolerance:?})", apart.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "a test";

    #[test]
    fn values_agree_up_to_their_tolerance_and_no_further() {
        let near = Tolerance::Near { most: 0.5, unit: "m", reason: REASON };
        assert!(1.0_f32.agrees(1.5, near) && !1.0_f32.agrees(1.500_001, near));
        let ulps = Tolerance::Ulps { most: 2, reason: REASON };
        let two_up = 1.0_f32.next_up().next_up();
        assert!(1.0_f32.agrees(two_up, ulps) && !1.0_f32.agrees(two_up.next_up(), ulps));
        assert!((-0.0_f32).agrees(0.0_f32.next_up().next_up(), ulps), "zero is between them");
        let share = Tolerance::Share { most: 0.125, least: 1.0, reason: REASON };
        assert!(8.0_f32.agrees(7.0, share) && !8.0_f32.agrees(6.9, share) && 0.0_f32.agrees(0.125, share) && !0.0_f32.agrees(0.126, share));
        assert!(!f32::INFINITY.agrees(1.0, share));
        assert!(f32::NAN.agrees(f32::NAN, Tolerance::Equal) && !f32::NAN.agrees(1.0, near) && !0.0_f32.agrees(-0.0, Tolerance::Equal));
        assert!(
            7_u32.agrees(7, ulps)
                && !7_u32.agrees(8, Tolerance::Equal)
                && 7_u8.agrees(8, Tolerance::Near { most: 1.0, unit: "level", reason: REASON })
        );
    }

    #[test]
    fn what_was_moved_agrees_no_more() {
        for tolerance in [
            Tolerance::Equal,
            Tolerance::Ulps { most: 4, reason: REASON },
            Tolerance::Near { most: 1e-3, unit: "m", reason: REASON },
            Tolerance::Share { most: 1e-3, least: 1e-6, reason: REASON },
        ] {
            for value in [0.0_f32, -3.5, 1e-20, 1e20, f32::INFINITY, f32::NAN] {
                assert!(!value.moved(tolerance).agrees(value, tolerance), "{value} {tolerance:?}");
            }
            assert!(!u32::MAX.moved(tolerance).agrees(u32::MAX, tolerance) && !0_u8.moved(tolerance).agrees(0, tolerance));
        }
    }

    #[test]
    fn lists_of_other_lengths_differ() {
        assert!(agree(&[1_u32, 2], &[1, 2], Tolerance::Equal).is_ok());
        let problem = agree(&[1_u32, 2], &[1], Tolerance::Equal).unwrap_err();
        assert_eq!(problem, "2 values and 1");
        assert!(agree(&[1_u32, 2, 3], &[1, 5, 4], Tolerance::Equal).unwrap_err().starts_with("value 1 is 2 and 5; so differ 2 of 3"));
    }

    #[test]
    #[should_panic(expected = "a change of the plain side is not seen")]
    fn a_comparison_that_sees_nothing_fails() {
        assert_twins_by("nothing", &1, &1, |_, _| Ok(()), |value| *value += 1);
    }
}
