//! So many a minute, spread evenly: what an endpoint allows is used up, and not passed in any minute.

use std::time::{Duration, Instant};

/// How far ahead of an even pace one may run, so that a moment without requests is made up for.
const AHEAD: f64 = 2.0;

/// The pace of one kind of thing, as the generic cell rate algorithm keeps it: one number, the time at which all that was taken is paid off.
pub(super) struct Pace {
    began: Instant,
    /// Seconds that one takes.
    each: f64,
    /// Seconds after `began` at which all that was taken is paid off.
    paid: f64,
}

impl Pace {
    /// So many a minute.
    pub(super) fn per_minute(most: f64) -> Self {
        // A minute holds what was saved up before it, too.
        Self { began: Instant::now(), each: (60.0 + AHEAD) / most, paid: 0.0 }
    }

    /// When `n` may be taken.
    pub(super) fn ready_at(&self, n: f64) -> Instant {
        // What takes longer than may be run ahead has to be paid off before: it is let through alone.
        let ahead = (AHEAD - n * self.each).max(0.0);
        self.began + Duration::from_secs_f64((self.paid - ahead).max(0.0))
    }

    /// Takes `n`, whether it is time or not.
    pub(super) fn take(&mut self, n: f64, now: Instant) {
        self.paid = self.paid.max((now - self.began).as_secs_f64()) + n * self.each;
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&mut self, n: f64) {
        self.paid -= n * self.each;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which as many as possible are taken, in seconds.
    fn times(pace: &mut Pace, n: f64, times: usize) -> Vec<f64> {
        let began = pace.began;
        let mut now = began;
        let mut taken = Vec::new();
        for _ in 0..times {
            now = now.max(pace.ready_at(n));
            pace.take(n, now);
            taken.push((now - began).as_secs_f64());
        }
        taken
    }

    #[test]
    fn no_minute_sees_more_than_was_said() {
        for most in [1_u32, 2, 6, 60, 500, 6000] {
            let taken = times(&mut Pace::per_minute(f64::from(most)), 1.0, 3 * most as usize + 3);
            for from in &taken {
                let count = taken.iter().filter(|time| **time >= *from && **time < from + 60.0).count();
                assert!(count <= most as usize, "{count} of {most}");
            }
            // And it is used up, but for what a minute may run ahead.
            let lasted = taken.last().expect("some") - taken[0];
            assert!(lasted <= 1.04 * 60.0 * taken.len() as f64 / f64::from(most) + 1.0, "{most}: {lasted}");
        }
    }

    #[test]
    fn what_was_not_used_is_there_again() {
        let mut pace = Pace::per_minute(6200.0);
        let began = pace.began;
        pace.take(1000.0, began);
        assert!((pace.ready_at(1000.0) - began).as_secs_f64() > 9.99);
        pace.give_back(900.0);
        assert!((pace.ready_at(1000.0) - began).as_secs_f64() < 1.01);
    }
}
