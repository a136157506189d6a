//! Properties of challenges, header values and error bodies that hold for any bytes.

use http::StatusCode;
use jiff::Timestamp;
use url::Url;

use super::auth::challenge::{self, Challenge};
use super::header;
use super::problem::{MAX_PROBLEM_BYTES, Problem};
use super::request::Context;
use crate::error::{Error, printable};

/// Challenges printed with every value quoted parse to the same challenges.
pub(crate) fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let found = challenge::parse(text);
    let parameters = |found: &[Challenge]| found.iter().map(|challenge| challenge.parameters.len()).sum::<usize>();
    assert!(found.len() + parameters(&found) <= text.len());
    let length = |(name, value): &(String, String)| name.len() + value.len();
    assert!(found.iter().flat_map(|c| &c.parameters).map(length).sum::<usize>() <= text.len(), "nothing is said twice");
    let printed = found.iter().map(written).collect::<Vec<_>>().join(", ");
    assert_eq!(challenge::parse(&printed), found, "{printed}");
    for challenge in &found {
        assert!(!challenge.scheme.is_empty() && !challenge.scheme.bytes().any(|b| b.is_ascii_uppercase()));
        let realm = challenge.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("realm"));
        assert_eq!(challenge.parameter("REALM"), realm.map(|(_, value)| value.as_str()));
    }
}

fn written(challenge: &Challenge) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let parameters: Vec<_> = challenge.parameters.iter().map(|(n, v)| format!("{n}=\"{}\"", quoted(v))).collect();
    format!("{} {}", challenge.scheme, parameters.join(", ")).trim_end().to_owned()
}

/// A parsed range is the one in the text, a link is a part of the text, and no address leaves TLS.
pub(crate) fn header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(range) = header::content_range(text) {
        assert!(range.first <= range.last && range.total.is_none_or(|total| range.last < total));
        let total = range.total.map_or("*".to_owned(), |total| total.to_string());
        let printed = format!("bytes {}-{}/{total}", range.first, range.last);
        assert_eq!(header::content_range(&printed), Some(range));
    }
    if let Some(pause) = header::retry_after(text, Timestamp::UNIX_EPOCH) {
        assert!(!pause.is_zero());
        assert!(header::retry_after(text, Timestamp::MAX).is_none_or(|later| later <= pause), "time passes");
    }
    let link = header::next_link(text).ok().flatten();
    assert!(link.is_none_or(|link| text.contains(link) && !link.contains('>')));
    for request in ["https://r.example:8443/v2/a/blobs/uploads/x?y=z", "http://r.example/v2/"] {
        let request = Url::parse(request).expect("an address");
        for location in [Some(text), link].into_iter().flatten() {
            located(&request, location);
        }
    }
}

fn located(request: &Url, location: &str) {
    let Some(url) = header::resolve(request, location) else { return };
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none());
    assert!(url.scheme() == "https" || request.scheme() == "http", "{url}");
    let is_other_plain = request.join(location).is_ok_and(|url| url.scheme() == "http" && url.host() != request.host());
    assert!(request.scheme() == "http" || !is_other_plain, "a step to plain HTTP on another host is refused: {url}");
    assert_eq!(Url::parse(url.as_str()).ok().as_ref(), Some(&url), "printed and read again");
    assert_eq!(header::resolve(request, url.as_str()).as_ref(), Some(&url), "resolved once is resolved");
}

/// The parsed count of received bytes is the one in the text, and never more than can be requested; a valid range is
/// within its total.
pub(crate) fn arrived(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(count) = header::arrived(text) {
        assert!(count != 1 && text.split_once('-').is_some_and(|(first, _)| first.bytes().all(|b| b == b'0')));
        assert_eq!(header::arrived(&format!("0-{}", count.saturating_sub(1))), Some(count));
    }
    assert!(header::arrived(text).is_none() || header::content_range(text).is_none(), "nothing is both");
    if let Some(range) = header::content_range(text) {
        let length = range.last - range.first;
        assert!(range.total.is_none_or(|total| length < total));
    }
    if let Some(moment) = header::moment(text) {
        let earlier = moment.saturating_sub(jiff::SignedDuration::from_secs(7)).unwrap_or(moment);
        let pause = header::retry_after(text, earlier).unwrap_or_default();
        assert!(pause.as_secs() <= 7, "a pause is as long as it is until then: {pause:?}");
    }
}

/// A peer's text is shown short, on one line, without control characters. The first two bytes choose the status.
pub(crate) fn problem(bytes: &[u8]) {
    let (number, body) = match bytes {
        [first, second, rest @ ..] => (u16::from_be_bytes([*first, *second]), rest),
        _ => (0, bytes),
    };
    let status = StatusCode::from_u16(400 + number % 200).expect("a status of an error");
    let body = &body[..body.len().min(usize::try_from(MAX_PROBLEM_BYTES).unwrap_or(usize::MAX))];
    let context = Context { op: "get manifest", subject: "r.example/a:v1".into() };
    let problem = Problem::new(status, body, context);
    assert!(problem.codes.len() <= body.len() && problem.codes.iter().all(|code| problem.has_code(code)));
    // Each of the 300 characters may have to be escaped, and once more inside a page's title.
    assert!(problem.text.chars().count() <= 300 * 12 + 100, "{}", problem.text.len());
    assert_eq!(printable(&problem.text), problem.text);
    assert!(!problem.text.contains(['\n', '\r', '\t', '\u{2028}', '\u{2029}']), "{:?}", problem.text);
    let kind = problem.kind;
    let error = Error::from(problem);
    assert!(error.kind() == kind && error.chain().lines().count() == 1);
    assert!(kind.exit_code() == 4, "a registry that says no is one that could not be read");
}
