//! Durations as Go writes and reads them (`8760h`, `1h30m`, `1.5h`, `300ms`): operators copy them from other tools.

use std::time::Duration;

use super::decimal::Decimal;

/// The units, longest names first so that `m` does not match the beginning of `ms`.
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, micro sign
    ("μs", 1_000), // U+03BC, Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 24 * 3_600_000_000_000), // ours: Go stops at hours
];

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    /// Not numbers with units.
    #[error("not a duration: write numbers with units, such as 8760h, 1h30m or 90s")]
    Form,
    /// Weeks and years are not accepted: their lengths differ.
    #[error("{0:?} is not a unit: write d (24 h), h, m, s, ms, us or ns (a year is 365d or 8760h)")]
    Unit(String),
    /// Negative.
    #[error("a duration before nothing makes no sense here")]
    Negative,
    /// More than Go can hold: 292 years in nanoseconds.
    #[error("too long: at most 2562047h")]
    Range,
}

/// Reads a duration by the rules of Go's `time.ParseDuration`, except that it must not be negative, and that `d` means 24
/// hours.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = part(rest)?;
        total = total.checked_add(nanoseconds).ok_or(DurationError::Range)?;
        rest = after;
    }
    match (total, is_negative) {
        (1.., true) => Err(DurationError::Negative),
        (total, _) if total > i64::MAX.unsigned_abs() => Err(DurationError::Range),
        (total, _) => Ok(Duration::from_nanos(total)),
    }
}

/// Reads one number with its unit; returns nanoseconds, and the rest of the text.
fn part(text: &str) -> Result<(u64, &str), DurationError> {
    let (number, rest) = Decimal::split(text).ok_or(DurationError::Form)?;
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if name.is_empty() {
        return Err(DurationError::Form);
    }
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name).ok_or_else(|| DurationError::Unit(name.to_owned()))?;
    Ok((number.times(*unit).ok_or(DurationError::Range)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read() {
        for (text, nanoseconds) in [
            ("8760h", 8760 * 3_600_000_000_000),
            ("365d", 8760 * 3_600_000_000_000),
            ("1d12h", 36 * 3_600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("90s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("300ms", 300_000_000),
            ("0", 0),
            ("+5s", 5_000_000_000),
            ("-0", 0),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("2h45m30.5s", 9_930_500_000_000),
            ("1us", 1_000),
            ("1µs2μs", 3_000),
            ("0.333333333333333333333h", 1_199_999_999_999),
            ("1m1m", 120_000_000_000),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        use DurationError::{Form, Negative, Range};
        let unit = |name: &str| DurationError::Unit(name.to_owned());
        for (text, why) in [
            ("", Form),
            ("3", Form),
            ("-", Form),
            ("+-5s", Form),
            ("--5s", Form),
            ("s", Form),
            (".", Form),
            (".s", Form),
            ("1h 30m", unit("h ")),
            ("52w", unit("w")),
            ("1y", unit("y")),
            ("1H", unit("H")),
            ("-1h", Negative),
            ("9223372036854775808ns", Range),
            ("2562048h", Range),
            ("99999999999999999999999999999999999999999999h", Range),
            ("2562047h2562047h", Range),
        ] {
            assert_eq!(parse(text), Err(why), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([0-9]{0,25}|[.]|h|m|s|ms|µ|-|\\PC){0,8}") {
            let _ = parse(&text);
        }

        #[test]
        fn seconds_and_milliseconds_add_up(seconds in 0u32.., milliseconds in 0u32..1000) {
            let expected = Duration::from_millis(u64::from(seconds) * 1000 + u64::from(milliseconds));
            proptest::prop_assert_eq!(parse(&format!("{seconds}s{milliseconds}ms")), Ok(expected));
            proptest::prop_assert_eq!(parse(&format!("{seconds}.{milliseconds:03}s")), Ok(expected));
        }
    }
}
