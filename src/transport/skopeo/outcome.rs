//! Interprets the end of skopeo's standard error.
//!
//! skopeo ends with one line, `time="…" level=fatal msg="…"`, whose message is a Go error chain: `doing x: doing y:
//! cause`. The chain is read piece by piece from its end, so that no name in it (a repository may be called `denied`) is
//! taken for a cause: a single word counts only as a whole piece, and a phrase with a space never occurs in a reference.
//! The texts are those of skopeo 1.9.3 (containers/image 5.22), each seen in a trial against distribution 2.8.2 or a
//! proxy with faults.

use std::process::ExitStatus;

use super::End;
use crate::error::{Error, Kind, Side, printable};

/// Longest cause in an error, in characters.
const LONGEST: usize = 1_000;

/// Returns the error for the text that skopeo wrote before it ended with `status`.
pub(super) fn error(last_words: &str, status: ExitStatus, from: &End, to: &End) -> Error {
    let Some(message) = message(last_words) else {
        return Error::new(Kind::Local, "copy with skopeo")
            .on(&to.reference)
            .because(format!("it ended with {status}"));
    };
    let (kind, side) = (kind(&message), side(&message));
    let error = Error::new(kind, "copy with skopeo").because(tellable(&message));
    let error = match side {
        Some(Side::Source) => error.at(Side::Source).on(&from.reference),
        Some(Side::Destination) => error.at(Side::Destination).on(&to.reference),
        None => error.on(format!("{} to {}", from.reference, to.reference)),
    };
    match hint(&message, kind) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Returns the cause, if it is an outage.
pub(super) fn outage(last_words: &str) -> Option<String> {
    let message = message(last_words)?;
    let mut pieces = message.rsplit(": ").map(|piece| piece.trim().to_lowercase());
    let (piece, kind) = pieces.find_map(|piece| kind_of(&piece).map(|kind| (piece, kind)))?;
    let is_outage = status_code(&piece).map_or(piece != "toomanyrequests", |code| matches!(code, 502..=504));
    (is_outage && kind == Kind::Unavailable).then(|| tellable(&message))
}

/// Returns the message of the last fatal line, else the last line that is not empty.
fn message(last_words: &str) -> Option<String> {
    let lines = || last_words.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.contains("level=fatal")).or_else(|| lines().next())?;
    let quoted = line.split_once(" msg=").map(|(_, message)| message);
    Some(quoted.map_or_else(|| line.to_owned(), unquoted))
}

/// Undoes Go's quoting, which differs from JSON's only in escapes that then stay as they are.
fn unquoted(text: &str) -> String {
    serde_json::from_str(text).unwrap_or_else(|_| text.trim_matches('"').replace("\\\"", "\""))
}

fn kind(message: &str) -> Kind {
    let mut pieces = message.rsplit(": ").map(|piece| piece.trim().to_lowercase());
    pieces.find_map(|piece| kind_of(&piece)).unwrap_or(Kind::Local)
}

fn kind_of(piece: &str) -> Option<Kind> {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| piece.contains(phrase));
    let whole = match piece {
        "unauthorized" | "denied" => Some(Kind::Denied),
        "unsupported" => Some(Kind::Unsupported),
        "toomanyrequests" | "eof" => Some(Kind::Unavailable),
        "manifest unknown" | "name unknown" | "blob unknown" => Some(Kind::NotFound),
        "manifest blob unknown" => Some(Kind::Incomplete),
        "manifest invalid" => Some(Kind::Invalid),
        _ => status_code(piece).map(kind_of_status),
    };
    whole.or_else(|| match () {
        () if says(DIGEST) => Some(Kind::Corrupt),
        () if says(&["source image rejected"]) => Some(Kind::Untrusted),
        () if says(&["server gave http response"]) => Some(Kind::Usage),
        () if says(&["unable to retrieve auth token", "authentication required"]) => Some(Kind::Denied),
        () if says(UNAVAILABLE) => Some(Kind::Unavailable),
        () if says(&["x509: ", "failed to verify certificate", "certificate signed by", "tls: "])
            || piece == "x509" =>
        {
            Some(Kind::Invalid)
        }
        () if says(&["invalid reference format", "not supported", "instructed to preserve digests", NESTED]) => {
            Some(Kind::Unsupported)
        }
        () => None,
    })
}

/// skopeo does not copy an index inside an index.
const NESTED: &str = "unexpectedly received a manifest list";

const DIGEST: &[&str] = &[
    "digest did not match",
    "does not match provided manifest digest",
    "manifest would not match destination reference",
];

const UNAVAILABLE: &[&str] = &[
    "connection refused",
    "connection reset",
    "broken pipe",
    "no such host",
    "no route to host",
    "network is unreachable",
    "i/o timeout",
    "handshake timeout",
    "context deadline exceeded",
    "unexpected eof",
    "server misbehaving",
    "temporary failure in name resolution",
];

/// Reads `503 Service Unavailable`, `403 (Forbidden)`, `invalid status code from registry 404 (Not Found)`.
fn status_code(piece: &str) -> Option<u16> {
    let piece = piece.strip_prefix("invalid status code from registry ").unwrap_or(piece);
    let (code, rest) = piece.split_once(' ')?;
    let is_status = code.len() == 3 && rest.starts_with(|c: char| c == '(' || c.is_alphabetic());
    code.parse().ok().filter(|_| is_status)
}

fn kind_of_status(code: u16) -> Kind {
    match code {
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        405 | 501 => Kind::Unsupported,
        408 | 429 | 500.. => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

/// Returns the side, from the action that skopeo names. A read that breaks while a blob is written belongs to the source.
fn side(message: &str) -> Option<Side> {
    let text = message.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    let destination =
        ["initializing destination", "invalid destination name", "trying to reuse blob", "writing ", "uploading "];
    let source = [
        "initializing source",
        "invalid source name",
        "source image",
        "reading ",
        "fetching ",
        "manifest mime type",
        NESTED,
    ];
    match () {
        () if says(&["happened during read"]) => Some(Side::Source),
        () if says(&destination) => Some(Side::Destination),
        () if says(&source) => Some(Side::Source),
        () => None,
    }
}

fn hint(message: &str, kind: Kind) -> Option<&'static str> {
    let says = |phrase: &str| message.to_lowercase().contains(phrase);
    match kind {
        Kind::Usage => Some("plain-HTTP registry refused; --allow-insecure-registry permits it"),
        Kind::Denied => Some("log in with `autonomy registry login`, or name credentials with --authfile"),
        Kind::Invalid if says("x509") || says("certificate") => {
            Some("name the registry's certificate authority with --ca-file or --cert-dir")
        }
        Kind::Local if says("trust policy") => {
            Some("skopeo needs /etc/containers/policy.json, which the package containers-common brings")
        }
        Kind::Untrusted => Some("the policy in /etc/containers/policy.json does not admit this image"),
        Kind::Unsupported => Some("use --transport native"),
        _ => None,
    }
}

/// Returns `message` without query strings (an upload session or a signed URL is a secret), fit for a terminal and
/// bounded.
fn tellable(message: &str) -> String {
    let mut words: Vec<_> = message.split(' ').map(str::to_owned).collect();
    for word in words.iter_mut().filter(|word| word.contains("://")) {
        if let Some(at) = word.find('?') {
            let end = word[at..].find(['"', '\'', ')']).map_or(word.len(), |end| at + end);
            word.replace_range(at..end, "");
        }
    }
    printable(&words.join(" ").chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests;
