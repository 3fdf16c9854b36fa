//! This process, as the system sees it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Memory that it holds, in bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Its clock, in ms since 1970.
pub fn now_ms() -> i64 {
    now_us() / 1_000
}

/// Its clock, in microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}
