//! Header values: `Link`, `Content-Range`, `Range`, `Retry-After`, `Date` and `Location`, which registries send, and
//! logins, which are sent to them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use url::Url;

use crate::error::{Error, Kind, Result};

/// A `Content-Range` of bytes; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
    /// Length of the whole, if the header gives it.
    pub total: Option<u64>,
}

/// Reads `bytes first-last/total` (RFC 9110, section 14.4) and no other form.
#[must_use]
pub fn content_range(value: &str) -> Option<ByteRange> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    let range = ByteRange { first: number(first)?, last: number(last)?, total };
    (range.first <= range.last && range.total.is_none_or(|total| range.last < total)).then_some(range)
}

/// Reads digits only: `parse` alone would accept a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A `Link` that may or may not name a next page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Returns the target of the link with `rel=next` in a `Link` header (RFC 8288), as written.
///
/// Accepts what registries write: targets without angle brackets, and single quotes.
///
/// # Errors
///
/// Fails if the header may hold such a link in a form that is not readable.
pub fn next_link(value: &str) -> Result<Option<&str>, Unreadable> {
    let between = |c: char| c == ',' || c.is_whitespace();
    let mut rest = value.trim_matches(between);
    while !rest.is_empty() {
        let (target, after) = match rest.strip_prefix('<') {
            Some(rest) => rest.split_once('>').ok_or(Unreadable)?,
            None => rest.split_at(rest.find(';').ok_or(Unreadable)?),
        };
        let target = target.trim();
        if target.is_empty() || target.contains(|c: char| "<>\"'".contains(c) || c.is_whitespace()) {
            return Err(Unreadable);
        }
        let end = outside_quotes(after, b',')?.unwrap_or(after.len());
        if is_next(&after[..end])? {
            return Ok(Some(target));
        }
        rest = after[end..].trim_start_matches(between);
    }
    Ok(None)
}

/// Returns whether the parameters of a link, each after a semicolon, hold the relation `next`. Fails without a relation.
fn is_next(mut parameters: &str) -> Result<bool, Unreadable> {
    let mut relation = None;
    while let Some(parameter) = parameters.trim_start().strip_prefix(';') {
        let end = outside_quotes(parameter, b';')?.unwrap_or(parameter.len());
        let (name, value) = parameter[..end].split_once('=').unwrap_or((&parameter[..end], ""));
        if name.trim().eq_ignore_ascii_case("rel") {
            relation.get_or_insert(unquoted(value.trim()));
        }
        parameters = &parameter[end..];
    }
    let relation =
        relation.filter(|relation| parameters.trim().is_empty() && !relation.is_empty()).ok_or(Unreadable)?;
    // Names of relations, and URLs of extension relations.
    if relation.contains(|c: char| !(c.is_ascii_graphic() || c == ' ') || "\"'<>".contains(c)) {
        return Err(Unreadable);
    }
    Ok(relation.split_whitespace().any(|relation| relation.eq_ignore_ascii_case("next")))
}

fn unquoted(value: &str) -> &str {
    let within = |quote| value.strip_prefix(quote).and_then(|value: &str| value.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// Returns the first position of `wanted`, an ASCII character, outside quotes of either kind.
fn outside_quotes(text: &str, wanted: u8) -> Result<Option<usize>, Unreadable> {
    let mut quote = None;
    for (at, b) in text.bytes().enumerate() {
        match quote {
            None if b == wanted => return Ok(Some(at)),
            None if b == b'"' || b == b'\'' => quote = Some(b),
            Some(open) if open == b => quote = None,
            _ => {}
        }
    }
    if quote.is_some() { Err(Unreadable) } else { Ok(None) }
}

/// Returns the pause of a `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3).
///
/// Returns `None` for "now" and for the past: the caller's own pause is better than none.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let pause = match number(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::try_from(moment(value)?.duration_since(now)).ok()?,
    };
    (!pause.is_zero()).then_some(pause)
}

/// Reads an HTTP date (RFC 9110, section 5.6.7) in its usual form or in one of the two old ones.
///
/// Dates with a wrong weekday or an offset such as `+0000` are read as well: servers send them.
pub(super) fn moment(value: &str) -> Option<Timestamp> {
    let strict = httpdate::parse_http_date(value).ok().and_then(|time| Timestamp::try_from(time).ok());
    strict.or_else(|| DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value.trim()).ok())
}

/// Reads the `Range` of an upload session, `0-last` (distribution-spec, end-13). Returns the number of bytes that have
/// arrived, or `None` for any other form.
///
/// Registries write `0-0` for no bytes, and should write it for one byte: it is read as no bytes.
#[must_use]
pub fn arrived(value: &str) -> Option<u64> {
    let (first, last) = value.split_once('-')?;
    match (number(first)?, number(last)?) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// Resolves a `Location` against the URL of the request.
///
/// A registry behind a proxy that terminates TLS often takes its requests for plain HTTP, and writes `http:` in its
/// Locations: on the same host `http:` is read as `https:`. On other hosts a step from TLS to plain HTTP is refused (`None`).
pub(super) fn resolve(request: &Url, location: &str) -> Option<Url> {
    let mut url = request.join(location).ok()?;
    if !matches!(url.scheme(), "http" | "https") || holds_login(&url) {
        return None;
    }
    if request.scheme() == "https" && url.scheme() == "http" {
        let is_same_host = url.host() == request.host() && (url.port().is_none() || url.port() == request.port());
        if !is_same_host {
            return None;
        }
        url.set_scheme("https").ok()?;
        url.set_port(request.port()).ok()?;
    }
    url.set_fragment(None);
    Some(url)
}

/// Returns whether a URL holds a user name or a password. The HTTP client would send them, and logs would show them; no
/// registry has a reason to send such a URL.
pub(super) fn holds_login(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Returns the value of `Authorization` or `Proxy-Authorization` for a name and a password (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Returns the value of `Authorization` for a bearer token (RFC 6750).
pub(super) fn bearer(token: &str) -> Result<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

/// Returns a value that logs do not show.
fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::new(Kind::Invalid, "log in").because("the token cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        let range = |first, last, total| Some(ByteRange { first, last, total });
        assert_eq!(content_range("bytes 5-9/10"), range(5, 9, Some(10)));
        assert_eq!(content_range("bytes 5-9/*"), range(5, 9, None));
        for wrong in ["5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes +5-9/10", "bytes */10", "bytes 5-/10", ""] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_next_page_is_found_however_its_link_is_written() {
        let page = "/v2/a/tags/list?last=b&n=2";
        for (value, target) in [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, page),
            (r#"<a>; rel=prev; title="x, <y>; rel=next", <b>; REL="last next""#, "b"),
            ("<a>;rel=next", "a"),
            (r#"/v2/a/tags/list?last=b&n=2; rel="next""#, page),
            ("/v2/a/tags/list?last=b&n=2;rel=next", page),
            ("</v2/a/tags/list?last=b&n=2>; rel='next'", page),
            ("</v2/a/tags/list?last=b&n=2> ; title='it, \"' ; rel = 'next'", page),
            ("a?last=x,y; rel=next", "a?last=x,y"),
            (", < a >; rel=next,", "a"),
        ] {
            assert_eq!(next_link(value), Ok(Some(target)), "{value}");
        }
        for none in ["", " , ", "<a>; rel=prev", "<a>; rel=\"https://r.example/rel/x\", <b>; rel=first"] {
            assert_eq!(next_link(none), Ok(None), "{none}");
        }
        for unreadable in [
            "a",
            "<a>",
            "<a; rel=next",
            "<a> rel=next",
            "<a>; rel=\"next",
            "<a>; rel=\u{201c}next\u{201d}",
            "<a>; rel=",
            "<>; rel=next",
            "a b; rel=next",
            "a, <b>; rel=next",
            "<a>; title=it's, <b>; rel=next",
        ] {
            assert_eq!(next_link(unreadable), Err(Unreadable), "{unreadable}");
        }
    }

    #[test]
    fn a_pause_is_given_in_seconds_or_as_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        for none in ["0", "-1", "soon", "Sun, 06 Nov 1994 08:48:37 GMT", ""] {
            assert_eq!(retry_after(none, now), None, "{none}");
        }
    }

    #[test]
    fn dates_are_read_in_all_forms_of_http_and_in_some_that_servers_send() {
        let time: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT ",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 6 Nov 1994 09:49:37 +0100",
        ] {
            assert_eq!(moment(text), Some(time), "{text}");
        }
        for wrong in ["", "1994-11-06T08:49:37Z", "Sun, 31 Feb 1994 08:49:37 GMT", "Sunday, 06-Nov-94 25:49:37 GMT"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn locations_are_resolved_and_never_leave_tls() {
        let request = Url::parse("https://r.example:8443/v2/a/blobs/uploads/").unwrap();
        let resolved = |location| resolve(&request, location).map(String::from);
        assert_eq!(resolved("/v2/a/u?x=1"), Some("https://r.example:8443/v2/a/u?x=1".into()));
        assert_eq!(resolved("https://cdn.example/u"), Some("https://cdn.example/u".into()));
        assert_eq!(resolved("http://r.example/u"), Some("https://r.example:8443/u".into()));
        assert_eq!(resolved("http://cdn.example/u"), None);
        assert_eq!(resolved("file:///etc/passwd"), None);
        assert_eq!(resolved("https://user:password@r.example:8443/u"), None);
    }

    #[test]
    fn what_has_arrived_is_read_strictly() {
        for (text, bytes) in [("0-0", 0), ("0-1", 2), ("0-1048575", 1 << 20)] {
            assert_eq!(arrived(text), Some(bytes), "{text}");
        }
        for wrong in
            ["", "0", "-", "0-", "-5", "1-5", "0-+5", "0-18446744073709551615", "bytes=0-5", "0-5/10", "0-5,7-9"]
        {
            assert_eq!(arrived(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,60}", links in "[<>;,=\"a-z ]{0,60}") {
            let _ = (arrived(&text), moment(&text), content_range(&text), next_link(&text), next_link(&links), retry_after(&text, Timestamp::UNIX_EPOCH));
            let base = Url::parse("https://r.example/v2/").unwrap();
            if let Some(url) = resolve(&base, &text) {
                proptest::prop_assert_eq!(url.scheme(), "https");
            }
        }

        #[test]
        fn a_range_that_is_taken_is_the_one_that_was_written(first in 0u64..1000, length in 1u64..1000) {
            let text = format!("bytes {first}-{}/{}", first + length - 1, first + length);
            proptest::prop_assert_eq!(content_range(&text).map(|r| (r.first, r.last - r.first + 1)), Some((first, length)));
        }
    }
}
