//! Sizes as people and other tools write them: `10GiB`, `500MB`, `1.5 GiB`, or plain bytes.

use super::decimal::Decimal;

/// The units: powers of 1024 differ from powers of 1000, so `10G` is refused.
const UNITS: [(&str, u64); 13] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("EiB", 1 << 60),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("EB", 1_000_000_000_000_000_000),
];

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    /// Not a number with a unit.
    #[error("not a size: write a number with a unit, such as 10GiB or 500MB, or a number of bytes")]
    Form,
    /// Not a unit at all.
    #[error("{0:?} is not a unit: write KiB, MiB, GiB, TiB, PiB (of 1024) or kB, MB, GB, TB, PB (of 1000)")]
    Unit(String),
    /// Similar to a unit.
    #[error("{0:?} is not a unit: did you mean {1}?")]
    NearUnit(String, String),
    /// Zero.
    #[error("a size of nothing makes no sense here: leave the flag out")]
    Nothing,
    /// More than 64 bits hold.
    #[error("too large: at most 15.9EiB")]
    Range,
}

/// Reads a size of at least one byte, in bytes. Drops a fraction of a byte.
pub(crate) fn parse(text: &str) -> Result<u64, SizeError> {
    let (number, rest) = Decimal::split(text).ok_or(SizeError::Form)?;
    // With a space, as this program prints it: `34.5 MiB`.
    let name = rest.strip_prefix(' ').unwrap_or(rest);
    let unit = if rest.is_empty() { 1 } else { unit(name)? };
    match number.times(unit) {
        Some(0) => Err(SizeError::Nothing),
        bytes => bytes.ok_or(SizeError::Range),
    }
}

fn unit(name: &str) -> Result<u64, SizeError> {
    if let Some((_, unit)) = UNITS.iter().find(|(unit, _)| *unit == name) {
        return Ok(*unit);
    }
    let lower = name.to_lowercase();
    // A unit in another case, or a name with two meanings in other programs.
    let meant: Vec<_> = UNITS[1..]
        .iter()
        .map(|(unit, _)| *unit)
        .filter(|unit| [unit, &unit[..1], &unit[..2]].iter().any(|start| start.to_lowercase() == lower))
        .collect();
    match meant.is_empty() {
        true => Err(SizeError::Unit(name.to_owned())),
        false => Err(SizeError::NearUnit(name.to_owned(), meant.join(" or "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, bytes) in [
            ("10GiB", 10 << 30),
            ("500MB", 500_000_000),
            ("1048576", 1 << 20),
            ("1B", 1),
            ("1.5KiB", 1536),
            ("34.5 MiB", 36_175_872),
            (".5kB", 500),
            ("2TiB", 2 << 40),
            ("1.0 PiB", 1 << 50),
            ("15EiB", 15 << 60),
            ("18.4EB", 18_400_000_000_000_000_000),
            ("0.333333333333333333333TB", 333_333_333_333),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_could_be_two_things_is_refused_and_both_are_named() {
        for (text, meant) in [
            ("10G", "GiB or GB"),
            ("10g", "GiB or GB"),
            ("5gb", "GB"),
            ("5gi", "GiB"),
            ("1K", "KiB or kB"),
            ("1KB", "kB"),
            ("1mib", "MiB"),
        ] {
            let Err(SizeError::NearUnit(_, named)) = parse(text) else { panic!("{text}: {:?}", parse(text)) };
            assert_eq!(named, meant, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use SizeError::{Form, Nothing, Range};
        let unit = |name: &str| SizeError::Unit(name.to_owned());
        for (text, why) in [
            ("", Form),
            ("GiB", Form),
            ("-1", Form),
            ("+1", Form),
            (".", Form),
            ("0", Nothing),
            ("0GiB", Nothing),
            ("0.1B", Nothing),
            ("10XB", unit("XB")),
            ("10  GiB", unit(" GiB")),
            ("1 ", unit("")),
            ("1e9", unit("e9")),
            ("16777216TiB", Range),
            ("99999999999999999999999999999999999999999GiB", Range),
        ] {
            assert_eq!(parse(text), Err(why), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([0-9]{0,45}|[.]|[kKMGT]i?B?| |-|\\PC){0,6}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_this_program_prints_is_near_what_it_reads(bytes in 1u64..15 << 60) {
            let read = parse(&crate::quantity::human::bytes(bytes)).unwrap();
            proptest::prop_assert!(read.abs_diff(bytes) <= bytes / 19, "{} {}", read, bytes);
        }
    }
}
