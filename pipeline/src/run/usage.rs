//! What the process and its machine have used, as the system counts it. Zero where the system does not say.

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
