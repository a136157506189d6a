//! Patterns of tags: `*` matches any characters, `?` one character, `[a-z]` one of a set, `[!a-z]` one outside it.
//!
//! The crate `fast_glob` matches. It takes every text as a pattern and knows paths and `{a,b}` besides; this module
//! decides which texts are patterns of tags.

use std::fmt;
use std::str::FromStr;

/// Longest pattern, in bytes: four times the longest tag.
const MAX_BYTES: usize = 512;

/// A pattern that must match the whole of a tag. Case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    spells_hyphen: bool,
}

/// The reason why a text is not a pattern of tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is empty or much longer than a tag.
    #[error("a pattern has 1 to {MAX_BYTES} characters")]
    Length,
    /// A character that is not allowed in a tag.
    #[error("no tag holds {0:?}; a pattern is made of letters, digits, _ . - and * ? [ ]")]
    Character(char),
    /// `[` without its `]`, or nothing between them.
    #[error("[ needs at least one character and a ] after it")]
    Set,
    /// `[z-a]`.
    #[error("{0:?}-{1:?} is no range: its end comes before its start")]
    Range(char, char),
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if !(1..=MAX_BYTES).contains(&text.len()) {
            return Err(PatternError::Length);
        }
        let (mut rest, mut spells_hyphen) = (text, false);
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '*' | '?' => {}
                '[' => {
                    let (inside, after) = rest.split_once(']').ok_or(PatternError::Set)?;
                    check_set(inside)?;
                    rest = after;
                }
                c => spells_hyphen |= tag_byte(c)? == b'-',
            }
        }
        Ok(Self { text: text.to_owned(), spells_hyphen })
    }
}

/// Checks the text between `[` and `]`. A `-` at either end is itself.
fn check_set(inside: &str) -> Result<(), PatternError> {
    let inside = inside.strip_prefix(['!', '^']).unwrap_or(inside);
    let bytes = inside.chars().map(tag_byte).collect::<Result<Vec<_>, _>>()?;
    if bytes.is_empty() {
        return Err(PatternError::Set);
    }
    let mut rest = &bytes[..];
    while let [first, after @ ..] = rest {
        rest = match after {
            [b'-', last, ..] if last < first => {
                return Err(PatternError::Range(char::from(*first), char::from(*last)));
            }
            [b'-', _, after @ ..] | after => after,
        };
    }
    Ok(())
}

fn tag_byte(c: char) -> Result<u8, PatternError> {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii_alphanumeric() || b"_.-".contains(&byte) => Ok(byte),
        _ => Err(PatternError::Character(c)),
    }
}

impl Pattern {
    /// Returns whether the pattern matches the whole of `tag`. Takes time in the product of both lengths at most.
    #[must_use]
    pub fn fits(&self, tag: &str) -> bool {
        fast_glob::glob_match(&self.text, tag)
    }

    /// Returns whether the pattern holds a hyphen outside sets, and so asks for the tags of pre-releases and variants.
    pub(super) fn spells_hyphen(&self) -> bool {
        self.spells_hyphen
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().fits(text)
    }

    #[test]
    fn patterns_fit_whole_tags() {
        for (pattern, text) in [
            ("v1.*", "v1.2.3"),
            ("v1.*", "v1."),
            ("*", ""),
            ("*", "anything"),
            ("**a**", "cab"),
            ("v?.0", "v1.0"),
            ("v[0-9].[!0]", "v1.1"),
            ("v[^0-9]", "vx"),
            ("[a-]", "-"),
            ("[-a]", "-"),
            ("[a-c-e]", "-"),
            ("[--a]", "0"),
            ("*-rc*", "v1.0-rc-rc1"),
            ("a*b*c", "abbcbc"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("v1.*", "v1"),
            ("v1.*", "xv1.2"),
            ("v1", "v1.2"),
            ("v?", "v"),
            ("v[0-9]", "va"),
            ("v[!0-9]", "v1"),
            ("A", "a"),
            ("v1.*", "v132"),
            ("a*b*c", "abbcb"),
            ("[a-c-e]", "d"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, why) in [
            ("", PatternError::Length),
            (&"a".repeat(513), PatternError::Length),
            ("a/b", PatternError::Character('/')),
            ("v1 ", PatternError::Character(' ')),
            ("v{1,2}", PatternError::Character('{')),
            ("é", PatternError::Character('é')),
            ("a]", PatternError::Character(']')),
            ("[é]", PatternError::Character('é')),
            ("[", PatternError::Set),
            ("[]", PatternError::Set),
            ("[!]", PatternError::Set),
            ("[z-a]", PatternError::Range('z', 'a')),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(why), "{text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        let pattern: Pattern = "a*".repeat(200).parse().unwrap();
        assert!(!pattern.fits(&format!("{}b", "a".repeat(127))) && !pattern.fits(&"a".repeat(128)));
    }

    #[test]
    fn a_hyphen_in_a_set_is_not_spelled() {
        for (pattern, is_spelled) in
            [("v1-*", true), ("[-a]-", true), ("v1.*", false), ("[a-z]", false), ("[-]", false)]
        {
            assert_eq!(pattern.parse::<Pattern>().unwrap().spells_hyphen(), is_spelled, "{pattern}");
        }
    }

    /// Matches by plain recursion over the text of a pattern.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', pattern @ ..], text) => (0..=text.len()).any(|at| slow(pattern, &text[at..])),
            ([b'?', pattern @ ..], [_, text @ ..]) => slow(pattern, text),
            ([b'[', pattern @ ..], [byte, text @ ..]) => {
                let end = pattern.iter().position(|byte| *byte == b']').unwrap();
                slow_set(&pattern[..end], *byte) && slow(&pattern[end + 1..], text)
            }
            ([own, pattern @ ..], [byte, text @ ..]) => own == byte && slow(pattern, text),
            _ => false,
        }
    }

    fn slow_set(set: &[u8], byte: u8) -> bool {
        match set {
            [b'!' | b'^', set @ ..] => !slow_set(set, byte),
            [first, b'-', last, set @ ..] => {
                (*first..=*last).contains(&byte) || (!set.is_empty() && slow_set(set, byte))
            }
            [first, set @ ..] => *first == byte || (!set.is_empty() && slow_set(set, byte)),
            [] => false,
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_answers_as_plain_recursion_does(
            pattern in "([ab.*?-]|\\*\\*|\\[[!^]?[ab-]{1,3}\\]|\\[a-c-b?\\]){1,8}",
            text in "[abc.-]{0,8}",
        ) {
            // A range that runs backwards is no pattern.
            if let Ok(parsed) = pattern.parse::<Pattern>() {
                proptest::prop_assert_eq!(parsed.fits(&text), slow(pattern.as_bytes(), text.as_bytes()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(pattern in "\\PC{0,40}", text in "\\PC{0,40}") {
            if let Ok(pattern) = pattern.parse::<Pattern>() {
                let _ = pattern.fits(&text);
                proptest::prop_assert_eq!(pattern.to_string().parse::<Pattern>().unwrap(), pattern);
            }
        }
    }
}
