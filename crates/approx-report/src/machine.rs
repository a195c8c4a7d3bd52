//! What ran it.

use std::fs;
use std::time::{Duration, SystemTime};

use cnn_kernels::SimdLevel;

/// A machine and the program on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The processor's name, or its architecture.
    pub cpu: String,
    /// `linux`, …
    pub system: String,
    /// CPU threads.
    pub threads: usize,
    /// Vector instructions of the activations.
    pub simd: String,
    /// Of this program.
    pub version: String,
    /// When the page was made, in words.
    pub time: String,
}

impl Machine {
    /// This machine with `threads` threads, at a time.
    pub fn current(threads: usize, time: SystemTime) -> Self {
        let known = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model_name(&text));
        Self {
            cpu: known.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            system: std::env::consts::OS.to_owned(),
            threads,
            simd: SimdLevel::current().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: utc(time),
        }
    }
}

/// The processor's name as Linux has it.
fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    let name = line.trim_start().strip_prefix(':')?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}

/// Now, or the time in seconds since 1970 that the environment variable `SOURCE_DATE_EPOCH` has, so that the same input
/// gives the same bytes.
pub fn now() -> SystemTime {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    fixed.map_or_else(SystemTime::now, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Such as `2026-11-24 17:30 UTC`; times before 1970 are 1970.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, minutes) = (seconds / 86_400, seconds / 60 % 1440);
    // Years of 365.2425 days that begin in March, in eras of 400.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // From GNU date.
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_795_541_400, "2026-11-24 17:30 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_processor_is_named() {
        assert_eq!(model_name("flags\t: x\nmodel name\t: A  CPU @ 2GHz\n").as_deref(), Some("A CPU @ 2GHz"));
        assert_eq!(model_name("model name\t:\n"), None);
        let machine = Machine::current(2, SystemTime::UNIX_EPOCH);
        assert!(!machine.cpu.is_empty() && machine.time.starts_with("1970"));
    }
}
