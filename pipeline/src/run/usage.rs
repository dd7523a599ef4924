//! What the process and its machine have used, as the system counts it. Zero where the system does not say.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most memory the process held, in bytes.
pub fn peak_memory_bytes() -> u64 {
    status_kib("VmHWM:")
}

/// Memory of the machine that programs can still have, in bytes.
pub fn available_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib_after(&text, "MemAvailable:")
}

/// CPU time of the process, all threads, in seconds.
pub fn cpu_seconds() -> f64 {
    // Fields 14 and 15 count from the process's name, which may hold spaces, so from its closing parenthesis. Linux counts 100 ticks a second.
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// What the file system has left where `output` lies, or will lie; nothing where it does not say.
pub fn free_bytes(output: &Path) -> Option<u64> {
    let there = output.ancestors().find(|folder| folder.is_dir())?;
    let said = std::process::Command::new("df").args(["-P", "-k"]).arg(there).env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_ascii_whitespace().nth(3)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes of the files below a folder; those with several names are counted once.
pub fn bytes_below(folder: &Path) -> u64 {
    let (mut bytes, mut open, mut seen) = (0_u64, vec![folder.to_owned()], std::collections::HashSet::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() < 2 || seen.insert((metadata.dev(), metadata.ino())) {
                bytes = bytes.saturating_add(metadata.len());
            }
        }
    }
    bytes
}

fn status_kib(name: &str) -> u64 {
    kib_after(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), name)
}

fn kib_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_says_what_is_free() {
        assert!(free_bytes(Path::new("/nowhere/at/all")).is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn a_file_of_two_names_takes_its_bytes_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("below")).expect("made");
        std::fs::write(folder.path().join("below/a"), [7; 1000]).expect("written");
        std::fs::hard_link(folder.path().join("below/a"), folder.path().join("b")).expect("linked");
        std::fs::write(folder.path().join("c"), [7; 10]).expect("written");
        assert_eq!(bytes_below(folder.path()), 1010);
        assert_eq!(bytes_below(&folder.path().join("missing")), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_works_has_used_something() {
        let before = cpu_seconds();
        let mut sum = 0_u64;
        while cpu_seconds() < before + 0.02 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        assert!(peak_memory_bytes() > 1 << 20);
        assert!(available_memory_bytes() > 1 << 20);
    }
}
