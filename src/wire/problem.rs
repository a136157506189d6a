//! Error answers: converts status and body into an error.

use std::fmt::Write as _;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::flow::rate_limit::RateLimit;
use super::request::Context;
use crate::error::{Error, Kind, printable};
use crate::retry::{Contact, OtherServer};

/// Most of an error's body that is read, in bytes.
pub(super) const MAX_PROBLEM_BYTES: u64 = 64 << 10;

/// Most characters of a peer's text that are shown.
const MAX_SHOWN: usize = 300;

/// An error answer from a peer.
#[derive(Debug)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// The kind of failure; a caller that knows more may change it.
    pub kind: Kind,
    /// The codes of the body (distribution-spec, "Error Codes").
    pub codes: Vec<String>,
    pub(super) text: String,
    /// Whether another server, such as a captive portal, answers in the peer's place.
    pub(super) is_other: bool,
    pub(super) context: Context,
    pub(super) retry_after: Option<Duration>,
    pub(super) hint: Option<String>,
    /// The contact with the host that answered.
    pub(super) contact: Option<Contact>,
}

#[derive(Deserialize)]
struct ProblemBody {
    errors: Vec<ProblemEntry>,
}

#[derive(Deserialize)]
struct ProblemEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, body: &[u8], context: Context) -> Self {
        let entries = serde_json::from_slice::<ProblemBody>(body).map(|body| body.errors).unwrap_or_default();
        let codes: Vec<_> = entries.iter().map(|entry| entry.code.clone()).collect();
        let mut text = status.as_u16().to_string();
        if let Some(reason) = status.canonical_reason() {
            let _ = write!(text, " {}", reason.to_lowercase());
        }
        let page = if entries.is_empty() { page(body) } else { None };
        // A page with a success status is not from the registry: the server that answers in its place may be gone soon.
        let is_other = page.is_some() && status.is_success();
        let kind = if is_other { Kind::Unavailable } else { kind(status, &codes) };
        let said = if entries.is_empty() { page.unwrap_or_else(|| line(body)) } else { told(&entries) };
        if !said.is_empty() {
            let _ = write!(text, ": {said}");
        }
        Self { status, kind, codes, text, is_other, context, retry_after: None, hint: None, contact: None }
    }

    /// Returns whether the body names `code`.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|own| own == code)
    }

    /// Adds when a host that got too many requests will accept them again.
    pub(super) fn over(mut self, quota: RateLimit) -> Self {
        let told = quota.told();
        if !told.is_empty() {
            let _ = write!(self.text, ": {told}");
        }
        self.retry_after = self.retry_after.or(quota.again);
        self.hint(quota.hint())
    }

    /// Sets the hint for the operator, unless there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let error = problem.context.error(problem.kind);
        if problem.is_other {
            return OtherServer(problem.text).told(error);
        }
        let is_outage = is_outage(problem.status) || (problem.status.as_u16() == 429 && problem.retry_after.is_some());
        let contact = problem.contact.filter(|_| is_outage && problem.kind == Kind::Unavailable);
        let mut error = match contact {
            Some(contact) => error.because(contact.refusal(problem.text)),
            None => error.because(problem.text),
        };
        if let Some(pause) = problem.retry_after {
            error = error.retry_after(pause);
        }
        let hint = problem.hint.or_else(|| general_hint(problem.status).map(str::to_owned));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Returns whether a gateway says with `status` that the registry is not there.
pub(super) fn is_outage(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn kind(status: StatusCode, codes: &[String]) -> Kind {
    let says = |code: &str| codes.iter().any(|own| own == code);
    match status.as_u16() {
        // A proxy sends 407.
        401 | 403 | 407 => Kind::Denied,
        // Retries do not change these, with any error code in the body.
        413 | 507 => Kind::Limit,
        _ if says("MANIFEST_BLOB_UNKNOWN") => Kind::Incomplete,
        _ if says("DIGEST_INVALID") || says("SIZE_INVALID") => Kind::Corrupt,
        405 | 501 => Kind::Unsupported,
        _ if says("UNSUPPORTED") => Kind::Unsupported,
        _ if says("TOOMANYREQUESTS") => Kind::Unavailable,
        404 => Kind::NotFound,
        505 => Kind::Invalid,
        408 | 425 | 429 | 500..=599 => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

fn general_hint(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        407 => Some(super::connect::failure::PROXY_LOGIN),
        413 => Some("the registry, or a proxy before it, refuses bodies of this size: raise its limit"),
        507 => Some("the registry has no room left"),
        _ => None,
    }
}

fn told(entries: &[ProblemEntry]) -> String {
    let lines = entries.iter().take(5).map(|entry| match entry.message.as_deref() {
        Some(message) if !message.is_empty() && entry.code.is_empty() => message.to_owned(),
        Some(message) if !message.is_empty() => format!("{message} ({})", entry.code),
        _ => entry.code.clone(),
    });
    shown(&lines.collect::<Vec<_>>().join("; "))
}

/// Returns a body that is not in the specification's format as a line of plain text.
fn line(body: &[u8]) -> String {
    shown(String::from_utf8_lossy(body).trim())
}

/// Returns the title, if the body is a web page.
fn page(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if !text.starts_with('<') {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = lower[start..].find('<')?;
        text.get(start..start + end)
    });
    Some(match title {
        Some(title) => format!("an HTML page in place of a registry's answer, {:?}", shown(title)),
        None => "an HTML page in place of a registry's answer".to_owned(),
    })
}

/// Returns foreign text as one short printable line.
pub(super) fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(MAX_SHOWN).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    printable(&short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, body: &str) -> Error {
        let context = Context { op: "get manifest", subject: "r.example/a:v1".into() };
        Problem::new(StatusCode::from_u16(status).unwrap(), body.as_bytes(), context).into()
    }

    fn coded(code: &str) -> String {
        format!(r#"{{"errors":[{{"code":"{code}","message":"why","detail":{{"x":1}}}}]}}"#)
    }

    #[test]
    fn status_and_code_decide_the_kind() {
        for (status, code, kind) in [
            (400, "MANIFEST_BLOB_UNKNOWN", Kind::Incomplete),
            (404, "MANIFEST_BLOB_UNKNOWN", Kind::Incomplete),
            (404, "NAME_UNKNOWN", Kind::NotFound),
            (400, "DIGEST_INVALID", Kind::Corrupt),
            (400, "NAME_INVALID", Kind::Invalid),
            (405, "UNSUPPORTED", Kind::Unsupported),
            (401, "UNAUTHORIZED", Kind::Denied),
            (403, "DENIED", Kind::Denied),
            (407, "", Kind::Denied),
            (413, "SIZE", Kind::Limit),
            (413, "SIZE_INVALID", Kind::Limit),
            (429, "TOOMANYREQUESTS", Kind::Unavailable),
            (408, "", Kind::Unavailable),
            (500, "", Kind::Unavailable),
            (504, "", Kind::Unavailable),
            (507, "", Kind::Limit),
            (505, "", Kind::Invalid),
            // Only 404 means that there is none: content that is gone (410) may be a signature.
            (410, "", Kind::Invalid),
        ] {
            assert_eq!(problem(status, &coded(code)).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn what_the_peer_says_is_shown_short_and_printable() {
        assert_eq!(
            problem(404, &coded("NAME_UNKNOWN")).chain(),
            "get manifest r.example/a:v1: 404 not found: why (NAME_UNKNOWN)"
        );
        let page = "<!DOCTYPE html><HTML><TITLE>Sign in</TITLE>\u{1b}[31m";
        assert_eq!(
            problem(503, page).chain(),
            "get manifest r.example/a:v1: 503 service unavailable: an HTML page in place of a registry's answer, \"Sign in\""
        );
        let long = problem(500, &format!("a\u{1b}b\n{}", "x".repeat(1000))).chain();
        assert!(long.len() < 400 && !long.contains('\u{1b}') && !long.contains('\n'), "{long}");
        assert_eq!(problem(502, "").chain(), "get manifest r.example/a:v1: 502 bad gateway");
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body in "\\PC{0,80}", page in "<[titleTITLE<>/ é]{0,60}") {
            let _ = (problem(400, &body), problem(400, &page));
        }
    }
}
