//! Formats quantities for people: bytes in IEC units, rates, durations. Pure.

use std::time::Duration;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Formats `bytes` with one decimal in the largest unit that leaves at least 1: `0 B`, `1023 B`, `1.0 KiB`, `34.5 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths and without floats: a number that rounds up to 1024.0 is shown in the next unit.
    let mut unit = 0;
    let tenths = loop {
        let size = 1u128 << (10 * (unit + 1));
        let tenths = (u128::from(bytes) * 10 + size / 2) / size;
        if tenths < 10_240 || unit + 1 == UNITS.len() {
            break tenths;
        }
        unit += 1;
    };
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Formats bytes per second: `3.2 MiB/s`.
#[must_use]
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// Formats the two largest units of `duration`, seconds rounded up: `7 s`, `1 min 5 s`, `2 h 3 min`, `4 d 1 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let (large, large_unit, small, small_unit) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3_600 => (seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => (seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => (seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    };
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// Formats a number of things with the English plural: `1 blob`, `12 blobs`.
#[must_use]
pub fn count(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_in_the_largest_unit_that_leaves_one() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (36_175_872, "34.5 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(rate(3_355_443), "3.2 MiB/s");
    }

    #[test]
    fn durations_stand_in_two_units_at_most() {
        for (ms, text) in [
            (0, "0 s"),
            (1, "1 s"),
            (7_000, "7 s"),
            (59_999, "1 min"),
            (65_000, "1 min 5 s"),
            (7_380_000, "2 h 3 min"),
            (u64::MAX, "213503982334 d 14 h"),
            (349_200_000, "4 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!((count(1, "blob"), count(0, "blob")), ("1 blob".into(), "0 blobs".into()));
    }
}
