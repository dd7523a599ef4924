//! Whether what a stage is going to make has room where it goes.

use std::path::Path;

use datasets::remote::Address;
use stages::Makes;

use crate::run::usage::{bytes_below, free_bytes};
use crate::show::{bytes, count};

/// Most rows that one stage makes: each has a number of 32 bits.
const MOST_ROWS: u64 = 1 << 32;

/// What is made where only so many rows are wanted.
pub(super) fn within(makes: Makes, limit: Option<u64>) -> Makes {
    match limit.filter(|limit| *limit < makes.rows) {
        None => makes,
        Some(limit) => {
            let bytes = u128::from(makes.bytes) * u128::from(limit) / u128::from(makes.rows);
            Makes { rows: limit, bytes: u64::try_from(bytes).unwrap_or(u64::MAX), ..makes }
        }
    }
}

/// That it is more than there is room for in `output`, and what to do; nothing if it fits, or nobody knows.
pub(super) fn too_much(makes: &Makes, output: &Path) -> Option<(String, String)> {
    let what = format!("{} {}", number(makes.rows), makes.what);
    let free = if Address::of(output).is_some() { None } else { free_bytes(output) };
    // What an earlier run left there makes room for what takes its place.
    let fits = |free: u64| makes.bytes <= free || makes.bytes <= free.saturating_add(bytes_below(output));
    if let Some(free) = free.filter(|free| !fits(*free)) {
        let place = existing(output).display();
        let problem = format!("{what} take about {}; {place} has {} free", bytes(makes.bytes), bytes(free));
        return Some((problem, "make fewer, or let `output` name a place with more room".to_owned()));
    }
    if makes.rows > MOST_ROWS {
        let problem = format!("{what} are more than one stage makes, {}", count(MOST_ROWS));
        return Some((problem, "make fewer, or make them in several runs with different seeds".to_owned()));
    }
    None
}

fn existing(output: &Path) -> &Path {
    output.ancestors().find(|folder| folder.is_dir()).unwrap_or(output)
}

/// A number of rows; a power of ten as such, for nobody counts its zeros.
fn number(rows: u64) -> String {
    let power = rows.checked_ilog10().unwrap_or(0);
    if power >= 9 && 10_u64.pow(power) == rows { format!("10^{power}") } else { count(rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(rows: u64, each: u64) -> Makes {
        Makes { rows, bytes: rows.saturating_mul(each), what: "images of 224 x 224 as jpeg".to_owned(), setting: "count" }
    }

    #[test]
    fn what_cannot_fit_is_said_with_what_is_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("out/images");
        let (problem, _) = too_much(&images(1_000_000_000_000, 15_000), &output).expect("13 PiB");
        let start = format!("10^12 images of 224 x 224 as jpeg take about 13.3 PiB; {} has ", folder.path().display());
        assert!(problem.starts_with(&start) && problem.ends_with(" free"), "{problem}");
        assert_eq!(too_much(&images(1000, 15_000), &output), None);
        assert_eq!(too_much(&images(0, 15_000), &output), None);
        // Bytes that saturate.
        assert!(too_much(&images(u64::MAX, u64::MAX), &output).is_some());
    }

    #[test]
    fn object_storage_takes_as_many_rows_as_are_numbered() {
        let output = Path::new("s3://bucket/out");
        assert_eq!(too_much(&images(MOST_ROWS, 1_000_000), output), None);
        let (problem, _) = too_much(&images(MOST_ROWS + 1, 1), output).expect("too many");
        assert_eq!(problem, "4,294,967,297 images of 224 x 224 as jpeg are more than one stage makes, 4,294,967,296");
    }

    #[test]
    fn a_limit_makes_less() {
        let made = |rows, limit| {
            let Makes { rows, bytes, .. } = within(images(rows, 15_000), limit);
            (rows, bytes)
        };
        assert_eq!(made(1_000_000_000_000, Some(10)), (10, 150_000));
        assert_eq!(made(5, Some(10)), (5, 75_000));
        assert_eq!(made(5, None), (5, 75_000));
        assert_eq!(made(0, Some(1)), (0, 0));
    }
}
