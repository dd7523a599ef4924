//! Tests of `sample_ifs`.

use super::*;

#[test]
fn a_system_is_drawn_alone_as_among_others() {
    let (few, many) = (codes(5), codes(600));
    assert_eq!(few, many.slice(0, 5));
    assert_eq!(testing::column(&few, "id")[4], "sample_ifs/4");
    assert_eq!(testing::column(&few, "label"), ["0", "1", "2", "3", "4"]);
    // Batches and splits make no difference: with a density, splits are of 256 systems.
    let dense = sampled(json!({"classes": 600, "density": true})).0;
    let without = |codes: &RecordBatch| codes.project(&[0, 1, 2, 3, 4, 5]).unwrap();
    assert_eq!(without(&dense), without(&many));
    assert!(many.column(6).null_count() == 600 && dense.column(6).null_count() == 0);
}

#[test]
fn systems_are_as_they_are_said_to_be() {
    let codes = codes(600);
    let mut sizes = BTreeMap::new();
    let factors = column::<arrow::array::Float64Array>(&codes, "sigma_factor");
    for (row, maps) in maps_of(&codes).into_iter().enumerate() {
        let n = maps.len() as f64;
        *sizes.entry(maps.len()).or_insert(0) += 1;
        let factor: f64 = maps.iter().map(singular_values).map(|[s1, s2]| s1 + 2.0 * s2).sum();
        assert!(
            (factor - factors.value(row)).abs() < 1e-9 && (f64::midpoint(5.0, n) - 1e-9..=f64::midpoint(6.0, n) + 1e-9).contains(&factor)
        );
        assert!(maps.iter().all(|map| singular_values(map)[0] <= 1.0 + 1e-12 && map[2].abs() <= 1.0 && map[5].abs() <= 1.0));
        // What the maps were made of makes them again.
        let svd = column::<ListArray>(&codes, "svd").value(row);
        let svd = svd.as_struct();
        let number = |name: &str, at: usize| svd.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(at);
        let signs = |name: &str, at: usize| -> [i8; 2] {
            let signs = svd.column_by_name(name).unwrap().as_fixed_size_list().value(at);
            signs.as_primitive::<arrow::datatypes::Int8Type>().values()[..].try_into().unwrap()
        };
        for (at, map) in maps.iter().enumerate() {
            let parts = crate::fractal::ifs::Parts {
                theta: number("theta", at),
                phi: number("phi", at),
                s1: number("s1", at),
                s2: number("s2", at),
                sign_u: signs("sign_u", at),
                sign_v: signs("sign_v", at),
                shift: [map[2], map[5]],
            };
            assert_eq!(parts.map().map(f64::to_bits), map.map(f64::to_bits));
        }
    }
    // 200 of each, with a deviation of 12.
    assert!(sizes.keys().eq(&[2, 3, 4]) && sizes.values().all(|count| (150..250).contains(count)), "{sizes:?}");
    let n_maps = column::<arrow::array::Int8Array>(&codes, "n_maps");
    assert!(n_maps.iter().zip(maps_of(&codes)).all(|(n, maps)| n.map(usize::try_from) == Some(Ok(maps.len()))));
}

/// Densities of 300 systems of the released code: least 0.023, quantiles at 10, 25, 50, 75 and 90 % as below, greatest 0.424.
#[test]
fn densities_are_those_of_the_released_code() {
    let codes = sampled(json!({"classes": 3000, "density": true})).0;
    let mut densities: Vec<f32> = column::<Float32Array>(&codes, "density").values().to_vec();
    densities.sort_by(f32::total_cmp);
    for (share, want) in [(0.1, 0.067), (0.25, 0.104), (0.5, 0.155), (0.75, 0.244), (0.9, 0.310)] {
        // Where `want` stands among ours, against where it stood among 300: within four deviations of sqrt(share (1 - share) / 300).
        let rank = densities.partition_point(|density| *density < want) as f64 / 3000.0;
        let deviation = (share * (1.0 - share) / 300.0_f64).sqrt();
        assert!((rank - share).abs() < 4.0 * deviation, "{want} stands at {rank}, among the others at {share}");
    }
    // Of 300, none was below 0.023 or above 0.424: with a share of 2 % beyond, that has odds of 1 in 400.
    let (below, above) =
        (densities.partition_point(|density| *density < 0.023), 3000 - densities.partition_point(|density| *density < 0.424));
    assert!(below < 60 && above < 60, "{below} {above}");
}

#[test]
fn rejection_draws_other_systems_within_the_same_band() {
    let codes = sampled(json!({"classes": 200, "method": "rejection", "maps": {"min": 3, "max": 3}})).0;
    let factors = column::<arrow::array::Float64Array>(&codes, "sigma_factor");
    assert!(factors.iter().all(|factor| (4.0..=4.5).contains(&factor.unwrap())));
    assert_ne!(
        factors.values(),
        column::<arrow::array::Float64Array>(&sampled(json!({"classes": 200, "maps": {"min": 3, "max": 3}})).0, "sigma_factor").values()
    );
}

/// The released script takes an upper bound and uses the lower one twice.
#[test]
fn both_ends_of_the_band_are_used() {
    let codes = sampled(json!({"classes": 300, "sigma": {"min": 1.0, "max": 5.0, "per_map": 0.0}, "maps": {"min": 2, "max": 2}})).0;
    let factors = column::<arrow::array::Float64Array>(&codes, "sigma_factor").values().to_vec();
    let share = factors.iter().filter(|factor| **factor > 3.0).count();
    assert!((110..190).contains(&share) && factors.iter().all(|factor| (1.0..=5.0).contains(factor)), "{share} of 300 in the upper half");
}

#[test]
fn a_search_finds_dense_systems_and_says_when_it_finds_none() {
    let (found, rejected) = sampled(json!({"classes": 3, "search": "fractaldb"}));
    assert!(rejected.is_empty() && column::<Float32Array>(&found, "density").iter().all(|density| density.unwrap() >= 0.2));
    assert!(
        maps_of(&found).iter().flatten().flatten().all(|value| value.abs() <= 1.0) && column::<ListArray>(&found, "svd").null_count() == 3
    );
    // One map's attractor is a point: never dense.
    let (none, rejected) =
        sampled(json!({"classes": 1, "maps": {"min": 1, "max": 1}, "sigma": {"min": 1.0, "max": 2.0, "per_map": 0}, "min_density": 0.5}));
    assert_eq!(
        (none.num_rows(), rejected.len(), rejected[0].reason, rejected[0].id.as_deref()),
        (0, 1, "no_system_found", Some("sample_ifs/0"))
    );
}

#[test]
fn wrong_settings_of_a_sample_are_refused_at_the_setting() {
    let refused = |settings: Value| testing::refusal::<SampleIfsConfig>(settings, &[]);
    assert_eq!(refused(json!({"classes": 0})), "classes: wanted a whole number from 1 to 100000000, found 0");
    assert_eq!(refused(json!({"classes": 1, "maps": {"min": 3, "max": 2}})), "maps: wanted 1 <= `min` <= `max` <= 32, found 3 and 2");
    assert_eq!(
        refused(json!({"classes": 1, "sigma": {"min": 5.5, "max": 6.0}, "maps": {"min": 2, "max": 4}})),
        "sigma: wanted a band from 0 to 6 for systems of 2 maps, found 6.5 to 7"
    );
    assert_eq!(refused(json!({"classes": 1, "translation": -1.0})), "translation: wanted a number from 0 to 1000000, found -1");
}

// --- codes that come in ---
