//! Patterns of tags: `*` stands for any characters, `?` for one, `[a-z]` for one of a set, `[!a-z]` for one outside it.

use std::fmt;
use std::str::FromStr;

/// Longest pattern, in bytes: four times the longest tag.
const MAX_BYTES: usize = 512;

/// A pattern that whole tags are held against. Case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<PatternPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternPart {
    Byte(u8),
    One,
    Any,
    Set { is_negated: bool, ranges: Vec<(u8, u8)> },
}

/// Why a text is no pattern of tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or far more than a tag has.
    #[error("a pattern has 1 to {MAX_BYTES} characters")]
    Length,
    /// A character that no tag holds.
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
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            parts.push(match c {
                '*' if parts.last() == Some(&PatternPart::Any) => continue,
                '*' => PatternPart::Any,
                '?' => PatternPart::One,
                '[' => {
                    let (inside, after) = rest.split_once(']').ok_or(PatternError::Set)?;
                    rest = after;
                    set(inside)?
                }
                c => PatternPart::Byte(tag_byte(c)?),
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// What stands between `[` and `]`. A `-` at either end is itself.
fn set(inside: &str) -> Result<PatternPart, PatternError> {
    let (is_negated, inside) = match inside.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, inside),
    };
    let bytes = inside.chars().map(tag_byte).collect::<Result<Vec<_>, _>>()?;
    if bytes.is_empty() {
        return Err(PatternError::Set);
    }
    let (mut ranges, mut rest) = (Vec::new(), &bytes[..]);
    while let [first, after @ ..] = rest {
        rest = match after {
            [b'-', last, after @ ..] => {
                if last < first {
                    return Err(PatternError::Range(char::from(*first), char::from(*last)));
                }
                ranges.push((*first, *last));
                after
            }
            after => {
                ranges.push((*first, *first));
                after
            }
        };
    }
    Ok(PatternPart::Set { is_negated, ranges })
}

fn tag_byte(c: char) -> Result<u8, PatternError> {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii_alphanumeric() || b"_.-".contains(&byte) => Ok(byte),
        _ => Err(PatternError::Character(c)),
    }
}

impl Pattern {
    /// Whether the whole of `text` fits. Time grows with the product of both lengths at most.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let (parts, text) = (&self.parts, text.as_bytes());
        let (mut part, mut at) = (0, 0);
        // Where to go on if what follows the last `*` does not fit: the `*` takes one more.
        let mut retry = None;
        while at < text.len() {
            match parts.get(part) {
                Some(PatternPart::Any) => {
                    retry = Some((part, at));
                    part += 1;
                }
                Some(one) if one.takes(text[at]) => (part, at) = (part + 1, at + 1),
                _ => {
                    let Some((star, from)) = retry else { return false };
                    retry = Some((star, from + 1));
                    (part, at) = (star + 1, from + 1);
                }
            }
        }
        parts[part..].iter().all(|part| *part == PatternPart::Any)
    }

    /// Whether the pattern spells a hyphen, and so asks for the tags of pre-releases and variants.
    pub(super) fn spells_hyphen(&self) -> bool {
        self.parts.contains(&PatternPart::Byte(b'-'))
    }
}

impl PatternPart {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::One => true,
            Self::Any => false,
            Self::Set { is_negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != *is_negated
            }
        }
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

    /// The same question answered by plain recursion.
    fn slow(parts: &[PatternPart], text: &[u8]) -> bool {
        match (parts, text) {
            ([], []) => true,
            ([PatternPart::Any, parts @ ..], text) => (0..=text.len()).any(|at| slow(parts, &text[at..])),
            ([part, parts @ ..], [byte, text @ ..]) => part.takes(*byte) && slow(parts, text),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn it_answers_as_plain_recursion_does(pattern in "([ab*?]|\\[[ab]\\]|\\[!a\\]){1,8}", text in "[ab]{0,8}") {
            let pattern: Pattern = pattern.parse().unwrap();
            proptest::prop_assert_eq!(pattern.fits(&text), slow(&pattern.parts, text.as_bytes()));
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
