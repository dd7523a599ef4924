//! A table from 128-bit keys to what is known of them.

/// What is known of each key, in the order in which keys were first met.
///
/// Keys are hashes already, so their low bits are a place to look at. That, and slots of four bytes, makes it take less than half the memory of a
/// `HashMap<u128, usize>` beside lists of keys and values (46 MB for a million keys against 115 MB), and a third to half of its time.
#[derive(Debug)]
pub(super) struct ByKey<T> {
    keys: Vec<u128>,
    values: Vec<T>,
    /// A power of two of places in `keys`, or `NONE`; at least a third of them are `NONE`.
    slots: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl<T> ByKey<T> {
    pub(super) fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new(), slots: vec![NONE; 16] }
    }

    /// Where `key` stands; a new one comes last, with `value`. `None` past 2^32 - 1 keys.
    pub(super) fn insert(&mut self, key: u128, value: impl FnOnce() -> T) -> Option<u32> {
        let slot = self.slot(key);
        if self.slots[slot] != NONE {
            return Some(self.slots[slot]);
        }
        let at = u32::try_from(self.keys.len()).ok().filter(|at| *at != NONE)?;
        self.slots[slot] = at;
        self.keys.push(key);
        self.values.push(value());
        if self.keys.len() * 3 > self.slots.len() * 2 {
            self.grow();
        }
        Some(at)
    }

    /// Where `key` stands, if it does.
    pub(super) fn find(&self, key: u128) -> Option<u32> {
        Some(self.slots[self.slot(key)]).filter(|at| *at != NONE)
    }

    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.values[at as usize]
    }

    /// The keys, and what is known of each.
    pub(super) fn into_parts(self) -> (Vec<u128>, Vec<T>) {
        (self.keys, self.values)
    }

    /// The slot of `key`, or the free one where it belongs.
    fn slot(&self, key: u128) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = low(key) & mask;
        while self.slots[slot] != NONE && self.keys[self.slots[slot] as usize] != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        self.slots.clear();
        self.slots.resize(mask + 1, NONE);
        for (at, key) in (0..).zip(&self.keys) {
            let mut slot = low(*key) & mask;
            while self.slots[slot] != NONE {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = at;
        }
    }
}

fn low(key: u128) -> usize {
    key as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_are_found_where_they_were_first_put() {
        let (mut table, mut known) = (ByKey::new(), HashMap::new());
        // Many with the same low bits, and each of them twice.
        for n in (0..5000_u128).chain(0..5000) {
            let key = (n << 100) | (n % 7);
            let place = u32::try_from(known.len()).expect("few");
            let place = *known.entry(key).or_insert(place);
            assert_eq!(table.find(key).is_some(), (place as usize) < table.values().len());
            assert_eq!(table.insert(key, || n), Some(place));
            *table.get_mut(place) += 1;
        }
        assert_eq!(table.find(1 << 99), None);
        let (keys, values) = table.into_parts();
        assert_eq!((keys.len(), values.len()), (5000, 5000));
        assert!(keys.iter().zip(&values).all(|(key, value)| key >> 100 == *value - 2));
    }
}
