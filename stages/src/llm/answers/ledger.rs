//! What was spent, and what may have been: a reservation counts in full until it is known what became of it.

use std::collections::BTreeMap;

use super::super::Spent;
use super::record::{Booking, Kind};

/// Sums by whom they are booked to ([`super::record::names`]).
pub(super) type Totals = BTreeMap<Vec<u8>, Spent>;

/// What the records of one segment come to. A segment has one writer, so what resolves a reservation stands in the same segment.
#[derive(Debug, Default)]
pub(super) struct Books(BTreeMap<Vec<u8>, Book>);

#[derive(Debug, Default)]
struct Book {
    settled: Spent,
    /// Reservations that nothing has resolved.
    open: BTreeMap<u64, Spent>,
}

impl Book {
    fn total(&self) -> Spent {
        self.open.values().fold(self.settled, |sum, most| sum.plus(*most))
    }
}

impl Books {
    /// Books what a record says.
    pub(super) fn book(&mut self, kind: Kind, booking: Booking<'_>) {
        if !self.0.contains_key(booking.names) {
            self.0.insert(booking.names.to_vec(), Book::default());
        }
        let Some(book) = self.0.get_mut(booking.names) else { return };
        match kind {
            Kind::Reservation => {
                book.open.insert(booking.receipt, booking.spent);
            }
            Kind::Answer | Kind::Settlement | Kind::Total => {
                book.open.remove(&booking.receipt);
                book.settled = book.settled.plus(booking.spent);
            }
            Kind::Replaces => {}
        }
    }

    /// What is booked to `names`, open reservations in full.
    pub(super) fn total(&self, names: &[u8]) -> Spent {
        self.0.get(names).map(Book::total).unwrap_or_default()
    }

    /// Adds all of it to `totals`.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        for (names, book) in &self.0 {
            let sum = totals.entry(names.clone()).or_default();
            *sum = (*sum).plus(book.total());
        }
    }
}
