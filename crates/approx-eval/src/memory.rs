//! How much memory this process has needed at most, where the system tells (Linux).

use std::fs;

/// Forgets the peak so far, where that is possible.
pub(crate) fn reset_peak() {
    // `5` resets the peak resident set size: proc_pid_clear_refs(5). Without the right to, the peak stays that of
    // the whole run, which is no worse than not to know.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Peak resident memory in bytes since [`reset_peak`].
pub(crate) fn peak() -> Option<u64> {
    peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_in_bytes() {
        assert_eq!(peak_of("VmPeak:\t 9 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 5 kB\n"), Some(2 << 20));
        assert_eq!(peak_of("Name: x"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_in_use_counts() {
        let bytes = vec![1u8; 64 << 20];
        assert!(peak().unwrap() > 64 << 20);
        assert_eq!(bytes.iter().map(|&b| u64::from(b)).sum::<u64>(), 64 << 20);
    }
}
