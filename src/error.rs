//! Errors, described so that a caller can decide and an operator can act.
//!
//! There is one [`Kind`] for each decision that a caller takes on an error: retry, use another transport, which exit
//! code. Only this file makes these decisions. The text of an [`Error`] is one lower-case line; the chain of sources
//! holds the details, and a hint says what to do next.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The result of everything that can fail above parsing.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of a failure: one variant for each decision that a caller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The user's input makes no sense; no host was contacted.
    Usage,
    /// The named repository, tag, digest or file does not exist.
    NotFound,
    /// Access was refused: no credentials, wrong ones, or not enough rights.
    Denied,
    /// Currently unreachable: connection, timeout, server error, too many requests.
    Unavailable,
    /// The bytes do not match their digest or size.
    Corrupt,
    /// The peer violated the protocol in a way that a retry will not fix.
    Invalid,
    /// A limit was exceeded: on how much a peer may make us read or do, or on how much it accepts (413, 507).
    Limit,
    /// The destination does not hold something that a manifest refers to.
    Incomplete,
    /// Another process changed the destination during the work.
    Conflict,
    /// This engine or that server does not support it; another transport may.
    Unsupported,
    /// Verification failed. Never retried, never worked around.
    Untrusted,
    /// Refused: everything was asked and answered, and the answer is no. A dry run that would move something has its exit
    /// code.
    Refused,
    /// This machine failed: disk, permissions, a missing program.
    Local,
    /// Some of several entries failed.
    Partial,
    /// The operator pressed Ctrl-C or sent SIGTERM.
    Interrupted,
}

impl Kind {
    /// Returns whether the same request may succeed if it is sent again.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self == Self::Unavailable
    }

    /// Returns whether fetching the same content once more may help: a bit can flip in transit.
    #[must_use]
    pub fn is_worth_refetching(self) -> bool {
        matches!(self, Self::Unavailable | Self::Corrupt)
    }

    /// Returns whether another transport may succeed where this one failed.
    #[must_use]
    pub fn allows_other_transport(self) -> bool {
        self == Self::Unsupported
    }

    /// Returns the exit code of a command that ends with this failure (contract §9).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Untrusted => 3,
            Self::NotFound
            | Self::Denied
            | Self::Unavailable
            | Self::Corrupt
            | Self::Invalid
            | Self::Limit
            | Self::Incomplete
            | Self::Conflict
            | Self::Unsupported => 4,
            Self::Partial => 5,
            Self::Refused => 6,
            Self::Interrupted => 130,
            Self::Local => 1,
        }
    }

    /// Returns the kind in words, as messages show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not found",
            Self::Denied => "access denied",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "content does not match its digest",
            Self::Invalid => "invalid answer",
            Self::Limit => "over the limit",
            Self::Incomplete => "incomplete at the destination",
            Self::Conflict => "changed by somebody else meanwhile",
            Self::Unsupported => "unsupported",
            Self::Untrusted => "not trusted",
            Self::Refused => "refused",
            Self::Local => "local failure",
            Self::Partial => "some entries failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The side of a copy that a failure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where content comes from.
    Source,
    /// Where content goes to.
    Destination,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// A failure: the operation, its subject, the side, and the cause.
///
/// Prints as one line without its sources; [`Error::chain`] gives the line with them. Holds no secrets: callers pass
/// subjects without query strings and credentials.
///
/// Clones share their causes: all waiters for one failed transfer get the same error.
#[derive(Debug, Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    op: String,
    side: Option<Side>,
    subject: String,
    image: Option<String>,
    hint: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Returns a failure of `kind` while doing `op` (such as `put manifest`).
    pub fn new(kind: Kind, op: impl Into<String>) -> Self {
        let inner = Inner {
            kind,
            op: op.into(),
            side: None,
            subject: String::new(),
            image: None,
            hint: None,
            retry_after: None,
            source: None,
        };
        Self { inner: Box::new(inner) }
    }

    /// Sets the subject of the operation: a reference, a digest, a file.
    #[must_use]
    pub fn on(mut self, subject: impl fmt::Display) -> Self {
        self.inner.subject = subject.to_string();
        self
    }

    /// Sets the side of the copy, unless it is set already.
    #[must_use]
    pub fn at(mut self, side: Side) -> Self {
        self.inner.side.get_or_insert(side);
        self
    }

    /// Sets a hint for the operator, unless one was set closer to the failure.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Sets the image that the failure belongs to, by its destination, unless one is set already.
    #[must_use]
    pub fn of_image(mut self, image: impl fmt::Display) -> Self {
        self.inner.image.get_or_insert_with(|| image.to_string());
        self
    }

    /// Wraps this error in a larger operation, `op` on `subject`. Keeps kind, side, image and hint.
    #[must_use]
    pub fn during(mut self, op: impl Into<String>, subject: impl fmt::Display) -> Self {
        let inner = Inner {
            kind: self.inner.kind,
            op: op.into(),
            side: self.inner.side.take(),
            subject: subject.to_string(),
            image: self.inner.image.take(),
            hint: self.inner.hint.take(),
            retry_after: None,
            source: None,
        };
        Self { inner: Box::new(inner) }.because(self)
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(Arc::from(source.into()));
        self
    }

    /// Sets how long the peer asked to wait (`Retry-After`).
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.inner.retry_after = Some(pause);
        self
    }

    /// Returns how long the peer asked to wait.
    #[must_use]
    pub fn requested_pause(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Returns the side it happened on, if known.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        self.inner.side
    }

    /// Returns the image that the failure belongs to, if known.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.inner.image.as_deref()
    }

    /// Returns what the operator can do about it.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Returns this error and its causes in one line, without repeating a text that a cause shares: no reference and no
    /// digest that an outer operation names is the subject of an inner one again.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            let line = match cause.downcast_ref::<Self>() {
                Some(error) => error.inner.line(unnamed(&text, &printable(&error.inner.subject))),
                None => cause.to_string(),
            };
            let line = shortened(&line);
            if !line.is_empty() && !text.ends_with(&*line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            next = cause.source();
        }
        text
    }
}

/// Finds an error of type `T` in a chain of causes, such as our own [`Error`] inside an HTTP client's.
pub(crate) fn find_cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        // An I/O error returns the error it wraps from `get_ref`, not from `source`.
        if let Some(found) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|e| find_cause(e))
        {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

impl Inner {
    /// Returns the line of this error alone, about `subject`.
    fn line(&self, subject: &str) -> String {
        let Self { kind, op, side, source, .. } = self;
        let side = side.map(|side| format!("{side}: ")).unwrap_or_default();
        let is_open = [" of", " to", " in", " on", " at", " from"].iter().any(|word| op.ends_with(word));
        let subject = match subject {
            "" if is_open && !self.subject.is_empty() => " it".to_owned(),
            "" => String::new(),
            subject => format!(" {subject}"),
        };
        // A cause says more than the kind does.
        let kind = if source.is_none() && *kind != Kind::Usage { format!(": {kind}") } else { String::new() };
        format!("{side}{op}{subject}{kind}")
    }
}

/// Returns the part of `subject` that `text` does not name yet: nothing, the digest of a reference, or all of it.
fn unnamed<'a>(text: &str, subject: &'a str) -> &'a str {
    match subject.split_once('@') {
        _ if names(text, subject) => "",
        Some((repository, digest)) if names(text, repository) => unnamed(text, digest),
        _ => subject,
    }
}

/// Returns whether `text` has `name` as a whole: behind it may come a tag or a digest, but no more of the same name.
fn names(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/');
    let follows = |c: char| is_part(c) || c == '.';
    let is_whole = |at: usize| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(|c| follows(c) || c == ':') && !after.starts_with(follows)
    };
    !name.is_empty() && text.match_indices(name).any(|(at, _)| is_whole(at))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.line(&printable(&self.inner.subject)))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// Most bytes of one text in a message. Parsers repeat input that they reject, and a peer chooses how long that is.
pub(crate) const LONGEST_TEXT: usize = 2_000;

/// Returns `text`, cut if it is too long to read.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST_TEXT).last().unwrap_or_default();
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Makes foreign text safe for a terminal and for one line of a log: escapes invisible characters, line ends and
/// changes of the writing direction.
#[must_use]
pub fn printable(text: &str) -> String {
    if !text.chars().any(is_hidden) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if is_hidden(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Returns whether `c` affects the text around it or is invisible: control characters (also the C1 set), line and
/// paragraph separators, and Unicode's default-ignorable characters (DerivedCoreProperties,
/// `Default_Ignorable_Code_Point`), except variation selectors, which emoji need.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_reads_as_one_line_with_its_side() {
        let error = Error::new(Kind::Unavailable, "get blob")
            .on("sha256:ab")
            .at(Side::Source)
            .because(std::io::Error::other("connection reset"));
        assert_eq!(error.chain(), "source: get blob sha256:ab: connection reset");
    }

    #[test]
    fn a_larger_operation_keeps_kind_side_and_hint() {
        let inner = Error::new(Kind::NotFound, "get manifest").on("v1").at(Side::Source).hint("look at the tags");
        let error = inner.during("resolve manifest digest", "a.example/app:v1");
        assert_eq!(error.chain(), "source: resolve manifest digest a.example/app:v1: get manifest v1: not found");
        assert_eq!((error.kind(), error.hint_text()), (Kind::NotFound, Some("look at the tags")));
    }

    #[test]
    fn no_reference_and_no_digest_stands_twice_in_an_error() {
        let (image, digest) = ("a.example/app:v1", format!("sha256:{}", "0".repeat(64)));
        let missing = |op: &str, subject: &str| Error::new(Kind::NotFound, op).on(subject);
        for (inner, expected) in [
            (missing("get manifest", image), "get manifest: not found"),
            (
                missing("get manifest", &format!("a.example/app@{digest}")),
                &*format!("get manifest {digest}: not found"),
            ),
            (missing("choose platforms of", "a.example/app"), "choose platforms of it: not found"),
            (missing("get manifest", "a.example/app-policy:v1"), "get manifest a.example/app-policy:v1: not found"),
            (missing("get manifest", "b.a.example/app:v1"), "get manifest b.a.example/app:v1: not found"),
            (missing("contact", "a.example"), "contact a.example: not found"),
        ] {
            assert_eq!(inner.during("seed", image).chain(), format!("seed {image}: {expected}"));
        }
        let put = missing("put manifest", &format!("a.example/app@{digest}")).during("put index", &digest);
        assert_eq!(
            put.during("seed", image).chain(),
            format!("seed {image}: put index {digest}: put manifest: not found")
        );
    }

    #[test]
    fn the_first_image_stays() {
        let error = Error::new(Kind::Denied, "get").of_image("a").during("seed", "b").of_image("b");
        assert_eq!(error.image(), Some("a"));
    }

    #[test]
    fn a_refusal_is_final_and_has_an_exit_code_of_its_own() {
        let refused = Kind::Refused;
        assert_eq!((refused.exit_code(), refused.as_str()), (6, "refused"));
        assert!(!refused.is_transient() && !refused.is_worth_refetching() && !refused.allows_other_transport());
    }

    #[test]
    fn the_first_side_and_hint_stay() {
        let error = Error::new(Kind::Denied, "get").at(Side::Source).at(Side::Destination).hint("a").hint("b");
        assert_eq!((error.side(), error.hint_text()), (Some(Side::Source), Some("a")));
    }

    #[test]
    fn an_error_of_ours_is_found_inside_foreign_ones() {
        let ours = Error::new(Kind::Corrupt, "read blob");
        let foreign = std::io::Error::other(std::io::Error::other(ours));
        assert_eq!(find_cause::<Error>(&foreign).map(Error::kind), Some(Kind::Corrupt));
        assert!(find_cause::<Error>(&io::Error::other("x")).is_none());
    }

    #[test]
    fn a_cause_of_megabytes_is_told_in_one_screen() {
        let long = Error::new(Kind::Invalid, "read").because("é".repeat(1 << 20));
        let chain = long.during("list tags of", "r.example/a").chain();
        assert!(chain.len() < LONGEST_TEXT + 100 && chain.ends_with("é…"), "{} bytes", chain.len());
        for (text, cut) in [("a".repeat(LONGEST_TEXT), false), ("a".repeat(LONGEST_TEXT + 1), true)] {
            assert_eq!(shortened(&text).ends_with('…'), cut);
        }
    }

    #[test]
    fn terminal_escapes_are_shown_not_run() {
        assert_eq!(printable("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(printable("plain ünïcode"), "plain ünïcode");
    }

    #[test]
    fn what_cannot_be_seen_in_a_line_or_ends_it_is_escaped() {
        for code in [0xad, 0x61c, 0x2028, 0x2029, 0xfeff, 0x180e, 0x3164, 0xfff9, 0xe0041] {
            let c = char::from_u32(code).unwrap();
            assert_eq!(printable(&format!("a{c}b")), format!("a\\u{{{code:x}}}b"));
        }
        for c in ('\u{200b}'..='\u{200f}').chain('\u{202a}'..='\u{202e}').chain('\u{2060}'..='\u{2069}') {
            assert!(printable(&c.to_string()).is_ascii(), "{:x}", u32::from(c));
        }
        for seen in ["naïve 日本語 – “quoted” ✔\u{fe0f}", "क्षेत्र", "a\u{a0}b"] {
            assert_eq!(printable(seen), seen);
        }
    }
}
