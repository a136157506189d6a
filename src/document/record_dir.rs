//! The folder of one entry's record, named after its destination.
//!
//! `localhost:5000/fleet/robot:v1` becomes `localhost_5000+fleet+robot@v1`: no two references share a name, and every
//! character is safe on every file system. If that is impossible (length, capitals on case-insensitive file systems, IPv6
//! addresses, Windows device names), the name is cut or changed and ends with a hash of the whole reference.

use crate::oci::{Digest, Reference};

/// Longest name, in bytes. Encrypting file systems allow 143; the record's own files need no more than that in total.
const MAX_BYTES: usize = 120;

/// Hex digits of the hash. Sixteen: no accidental collision is expected, and a deliberate one hurts only its maker.
const HASH_DIGITS: usize = 16;

/// Returns the folder name for the record of an image put under `to`: one path component, unique for each reference, and
/// the same for all spellings of one.
#[must_use]
pub fn entry_directory(to: &Reference) -> String {
    let to = &to.canonical();
    // Hosts have no `_`, paths no `+`, tags neither `+` nor `@`, digests no `_`: each replacement can be reversed.
    let host = to.repository.host.replace(':', "_");
    let mut name = format!("{host}+{}", to.repository.path.as_str().replace('/', "+"));
    if let Some(tag) = &to.tag {
        name.push('@');
        name.push_str(tag.as_str());
    }
    if let Some(digest) = &to.digest {
        name.push('@');
        name.push_str(&digest.to_string().replace(':', "="));
    }
    if is_safe(&name) { name } else { hashed(&name, to) }
}

/// Returns whether `name` can be used unchanged.
fn is_safe(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-+@=".contains(&b);
    // Windows drops a dot at the end, and checks for device names before the first dot.
    name.len() <= MAX_BYTES && name.bytes().all(is_plain) && !name.ends_with('.') && !is_device(name)
}

/// Returns whether Windows treats `name` as a device, whatever comes after the first dot.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = |prefix| stem.strip_prefix(prefix).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// Returns the readable part of `name`, and a hash. No name without a hash contains `~`.
fn hashed(name: &str, to: &Reference) -> String {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "._-+@=".contains(c);
    let mut readable: String = name.chars().map(|c| if is_fit(c) { c } else { '_' }).collect();
    if is_device(&readable) {
        readable.insert(0, '_');
    }
    let hash = Digest::sha256(to.to_string().as_bytes()).hex();
    readable.truncate(MAX_BYTES - HASH_DIGITS - 1);
    format!("{readable}~{}", &hash[..HASH_DIGITS])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn directory(text: &str) -> String {
        entry_directory(&text.parse().unwrap())
    }

    #[test]
    fn an_ordinary_destination_can_be_read_in_its_folders_name() {
        assert_eq!(directory("localhost:5000/fleet/robot-behavior:v1"), "localhost_5000+fleet+robot-behavior@v1");
        assert_eq!(directory("ghcr.io/acme/app:1.2.3"), "ghcr.io+acme+app@1.2.3");
    }

    #[test]
    fn all_spellings_of_a_destination_share_a_folder() {
        for (one, other) in [
            ("localhost:5000/app:v1", "LOCALHOST:05000/app:v1"),
            ("a.example/app:v1", "A.example:443/app:v1"),
            ("[::1]:5000/app:v1", "[0:0:0:0:0:0:0:1]:5000/app:v1"),
            ("docker.io/app:v1", "index.docker.io/library/app:v1"),
        ] {
            assert_eq!(directory(one), directory(other));
        }
    }

    #[test]
    fn what_some_system_cannot_hold_ends_with_a_hash() {
        let long = format!("a.example/{}:v1", "x".repeat(200));
        for text in [
            "a.example/app:V1",
            "a.example/app:v1.",
            "[::1]:5000/app:v1",
            "con.example/app:v1",
            "com1.example/app:v1",
            &long,
        ] {
            let name = directory(text);
            assert_eq!(name.find('~'), Some(name.len() - HASH_DIGITS - 1), "{name}");
        }
        assert_ne!(directory("a.example/app:V1").to_lowercase(), directory("a.example/app:v1"));
        assert!(directory("con.example/app:v1").starts_with("_con.example+app@v1~"));
        assert!(directory("[::1]:5000/app:v1").starts_with("___1__5000+app@v1~"));
    }

    /// References that are as similar as possible.
    fn alike() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::string::string_regex(concat!(
            r"(a\.b|A\.b|a-b\.c|localhost|localhost:5000|\[::1\]|\[::1\]:5|a\.b:1|nul\.x)",
            r"/[ab]([-_.]|__|/|--)[ab1](/[ab])?(:[aAvV_][aA._-]{0,2})?(@sha256:(a{64}|b{64}))?"
        ))
        .unwrap()
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(32))]
        #[test]
        fn no_two_references_share_a_folder_even_where_case_does_not_count(
            texts in proptest::collection::vec(alike(), 200)
        ) {
            let mut taken = HashMap::new();
            for text in texts {
                let reference = text.parse::<Reference>().unwrap().canonical();
                if let Some(other) = taken.insert(directory(&text).to_lowercase(), reference.clone()) {
                    proptest::prop_assert_eq!(other, reference);
                }
            }
        }

        #[test]
        fn every_name_is_one_harmless_component(text in "([a-z]{1,9}\\.){1,30}[a-z]{1,3}(:[1-9]{1,4})?/[a-z]{1,9}([/._-][a-z]{1,9}){0,25}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}") {
            let Ok(reference) = text.parse::<Reference>() else { return Ok(()) };
            let name = entry_directory(&reference);
            proptest::prop_assert!(name.len() <= MAX_BYTES && !is_device(&name) && !name.ends_with('.'), "{}", name);
            proptest::prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+@=~".contains(&b)), "{}", name);
            proptest::prop_assert!(name.as_bytes()[0].is_ascii_alphanumeric() || name.starts_with('_'), "{}", name);
        }
    }
}
