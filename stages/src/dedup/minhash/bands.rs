//! Bands of a signature: two texts are compared when all rows of one band are equal.

/// How a signature is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bands {
    /// Number of bands.
    pub(crate) bands: u32,
    /// Signature values in each.
    pub(crate) rows: u32,
}

impl Bands {
    /// Values of a signature that the bands use.
    pub(crate) fn n_hashes(self) -> usize {
        self.bands as usize * self.rows as usize
    }

    /// Chance that two texts of Jaccard similarity `s` share at least one band: `1 - (1 - s^rows)^bands`.
    ///
    /// Source: Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, §3.4.2.
    pub(crate) fn share_a_band(self, s: f64) -> f64 {
        1.0 - (1.0 - s.powf(f64::from(self.rows))).powf(f64::from(self.bands))
    }

    /// The bands with the most rows, so the fewest comparisons in vain, that find two texts of similarity `threshold` with a chance of at
    /// least [`Bands::FOUND`], from at most `permutations` values. With so few values that none does: as many bands of one row.
    pub(crate) fn for_threshold(threshold: f64, permutations: u32) -> Self {
        let of_rows = |rows: u32| Self { bands: permutations / rows, rows };
        let enough = |bands: &Self| bands.share_a_band(threshold) >= Self::FOUND;
        let widest = (1..=permutations).rev().map(of_rows).find(enough).unwrap_or(of_rows(1));
        // No more bands than are needed: each costs a row of the exchange for every text.
        (1..=widest.bands).map(|bands| Self { bands, ..widest }).find(enough).unwrap_or(widest)
    }

    /// Chance with which a pair right at the threshold is to be found.
    pub(crate) const FOUND: f64 = 0.98;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_chances_come_out() {
        // 9 bands of 13 rows; computed for SlimPajama's parameters.
        let slimpajama = Bands { bands: 9, rows: 13 };
        for (s, chance) in [(0.5, 0.001), (0.7, 0.084), (0.8, 0.399), (0.9, 0.929), (0.95, 0.999)] {
            assert!((slimpajama.share_a_band(s) - chance).abs() < 6e-4, "{s}: {}", slimpajama.share_a_band(s));
        }
    }

    #[test]
    fn derived_bands_find_pairs_at_the_threshold() {
        for threshold in [0.5, 0.7, 0.8, 0.9, 0.95] {
            let bands = Bands::for_threshold(threshold, 128);
            assert!(bands.share_a_band(threshold) >= Bands::FOUND && bands.n_hashes() <= 128, "{threshold}: {bands:?}");
            let wider = Bands { bands: 128 / (bands.rows + 1), rows: bands.rows + 1 };
            assert!(wider.share_a_band(threshold) < Bands::FOUND, "{threshold}: {bands:?} has too few rows");
            let fewer = Bands { bands: bands.bands - 1, ..bands };
            assert!(fewer.share_a_band(threshold) < Bands::FOUND, "{threshold}: {bands:?} has too many bands");
        }
    }
}
