//! Checks which hosts a server answers to, and which pages may write to it through a user's browser.
//!
//! A browser reaches servers on loopback that no other machine can reach. A page whose name resolves to 127.0.0.1 a
//! moment later (DNS rebinding) counts as the same origin, but its name stays in `Host`: on loopback the server answers
//! only to known names. Any page may send simple requests to any server: the browser says where they come from
//! (`Origin`, Fetch Metadata), and clients of registries, which are no browsers, send neither header.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};

use super::error_response::ErrorResponse;
use crate::error::printable;

/// Longest host name that an error repeats (RFC 1035, section 2.3.4).
const MAX_NAME_CHARS: usize = 255;

/// The hosts that a server answers to.
#[derive(Debug)]
pub(super) enum AllowedHosts {
    /// Every name: other machines reach the server under names that it cannot know.
    All,
    /// Loopback, and these names.
    Loopback(Vec<String>),
}

impl AllowedHosts {
    /// Returns the hosts of a server that listens at `address`; `names` as users write them, with or without a port.
    pub(super) fn new(address: IpAddr, names: &[String]) -> Self {
        if address.to_canonical().is_loopback() {
            Self::Loopback(names.iter().filter_map(|name| name_of(name)).collect())
        } else {
            Self::All
        }
    }

    /// Refuses a request for another host, and a write on behalf of another host's page.
    pub(super) fn check(&self, head: &Parts) -> Result<(), ErrorResponse> {
        let asked = asked(head)?;
        let name = asked.as_ref().map(|asked| asked.name.as_str());
        if !self.answers(name) {
            let name = name.unwrap_or_default();
            let name = printable(&name.chars().take(MAX_NAME_CHARS).collect::<String>());
            let told =
                format!("this registry does not answer to the host {name:?}; start it with --host NAME to add one");
            return Err(ErrorResponse::new(StatusCode::MISDIRECTED_REQUEST, "DENIED", told));
        }
        let is_reading = head.method == Method::GET || head.method == Method::HEAD;
        if !is_reading && is_cross_origin(&head.headers, asked.as_ref()) {
            let told = "a page of another host or port may not write to this registry";
            return Err(ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", told));
        }
        Ok(())
    }

    /// Whether the server answers to that host. An HTTP/1.0 request may name no host; no browser sends one.
    fn answers(&self, asked: Option<&str>) -> bool {
        match (self, asked) {
            (Self::All, _) | (_, None) => true,
            (Self::Loopback(names), Some(asked)) => is_loopback(asked) || names.iter().any(|name| name == asked),
        }
    }
}

/// A host as in `Host` or in an origin: the normalized name, and the port if there is one.
#[derive(Debug, PartialEq, Eq)]
struct HostAndPort {
    name: String,
    port: Option<String>,
}

impl HostAndPort {
    fn parse(text: &str) -> Option<Self> {
        let (name, port) = split(text)?;
        let port = port.trim_start_matches('0');
        Some(Self { name, port: (!port.is_empty()).then(|| port.to_owned()) })
    }

    fn port_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.port.as_deref().unwrap_or(default)
    }
}

/// Returns the host that a request is for (RFC 9112, sections 3.2 and 3.2.2).
fn asked(head: &Parts) -> Result<Option<HostAndPort>, ErrorResponse> {
    let refused = |why| ErrorResponse::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", why);
    let mut sent = head.headers.get_all(header::HOST).iter();
    let (host, more) = (sent.next(), sent.next());
    if more.is_some() || (host.is_none() && head.version == Version::HTTP_11) {
        return Err(refused("a request names one Host"));
    }
    let host = match (head.uri.authority(), host) {
        (Some(authority), _) => authority.as_str(),
        (None, None) => return Ok(None),
        (None, Some(host)) => host.to_str().map_err(|_| refused("Host is not a name"))?,
    };
    HostAndPort::parse(host).map(Some).ok_or_else(|| refused("Host is not a name"))
}

/// Whether a browser says that the request comes from a page of another host or port. Another server on the same host
/// (`same-site`) belongs to another party: on loopback, to any user.
fn is_cross_origin(headers: &HeaderMap, asked: Option<&HostAndPort>) -> bool {
    let is_own = |value: &HeaderValue| value == "same-origin" || value == "none";
    let says_so = !headers.get_all("sec-fetch-site").iter().all(is_own);
    let mut origins = headers.get_all(header::ORIGIN).iter();
    // `null` (a sandboxed frame, a file) names no host.
    says_so || origins.any(|origin| !origin.to_str().is_ok_and(|origin| is_origin(origin, asked)))
}

/// Whether pages of `origin` belong to the host that was asked. Ignores the scheme, because a reverse proxy may speak
/// TLS for this server; if neither names a port, it is the default of the browser's scheme.
fn is_origin(origin: &str, asked: Option<&HostAndPort>) -> bool {
    let (Ok(origin), Some(asked)) = (origin.parse::<Uri>(), asked) else { return false };
    let default = match origin.scheme_str() {
        Some("http") => "80",
        Some("https") => "443",
        _ => return false,
    };
    let own = origin.authority().and_then(|authority| HostAndPort::parse(authority.as_str()));
    own.is_some_and(|own| own.name == asked.name && own.port_or(default) == asked.port_or(default))
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Returns the normalized name in `HOST[:PORT]`: lower case, without the final dot, without brackets. None if there is
/// none.
pub(crate) fn name_of(text: &str) -> Option<String> {
    split(text).map(|(name, _)| name)
}

/// Returns the same, and the digits of the port, if any.
fn split(text: &str) -> Option<(String, &str)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address.parse::<std::net::Ipv6Addr>().ok()?.to_string(), port)
        }
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text.to_owned(), ""),
        None => {
            let at = text.find(':').unwrap_or(text.len());
            (text[..at].strip_suffix('.').unwrap_or(&text[..at]).to_ascii_lowercase(), &text[at..])
        }
    };
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let digits = if port.is_empty() { port } else { port.strip_prefix(':')? };
    let is_whole = digits.bytes().all(|b| b.is_ascii_digit());
    (is_whole && !name.is_empty() && name.bytes().all(is_legal)).then_some((name, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn check(hosts: &AllowedHosts, method: &str, headers: &[(&str, &str)]) -> u16 {
        let request = headers.iter().fold(Request::builder().method(method).uri("/v2/"), |request, (name, value)| {
            request.header(*name, *value)
        });
        let (head, ()) = request.body(()).unwrap().into_parts();
        hosts.check(&head).map_or_else(|problem| problem.response().status().as_u16(), |()| 200)
    }

    #[test]
    fn on_loopback_only_loopback_and_the_given_names_are_answered() {
        let hosts = AllowedHosts::new([127, 0, 0, 1].into(), &["Registry.Site:8443".into()]);
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:5000", 200),
            ("localhost.", 200),
            ("127.0.0.1:1", 200),
            ("127.8.8.8", 200),
            ("[::1]:5000", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("registry.site", 200),
            ("registry.site.:99", 200),
            ("evil.example", 421),
            ("evil.example:5000", 421),
            ("localhost.evil.example", 421),
            ("evil.localhost", 421),
            ("0.0.0.0:5000", 421),
            ("10.0.0.1", 421),
            ("[::2]", 421),
            ("127.0.0.1.evil.example", 421),
            ("evil.example#localhost", 400),
            ("user@localhost", 400),
            ("localhost:x", 400),
            ("", 400),
        ] {
            for method in ["GET", "PUT"] {
                assert_eq!(check(&hosts, method, &[("host", host)]), expected, "{method} {host}");
            }
        }
        assert_eq!(check(&hosts, "GET", &[]), 400, "HTTP/1.1 without a host");
        assert_eq!(check(&hosts, "GET", &[("host", "localhost"), ("host", "localhost")]), 400);
        let (mut head, ()) = Request::builder().uri("http://evil.example/v2/").body(()).unwrap().into_parts();
        head.headers.insert("host", "localhost".parse().unwrap());
        assert!(hosts.check(&head).is_err(), "a whole address counts before the header");
    }

    #[test]
    fn beyond_loopback_every_name_is_answered() {
        let hosts = AllowedHosts::new([0, 0, 0, 0].into(), &[]);
        assert_eq!(check(&hosts, "PUT", &[("host", "registry.example")]), 200);
    }

    #[test]
    fn a_foreign_page_may_read_and_not_write() {
        for hosts in [AllowedHosts::All, AllowedHosts::new([127, 0, 0, 1].into(), &["site.example".into()])] {
            for (headers, expected) in [
                (vec![("origin", "http://localhost:5000")], 200),
                (vec![("origin", "https://LOCALHOST:5000")], 200),
                // Another server of the same host is not this one.
                (vec![("origin", "http://localhost:8080")], 403),
                (vec![("origin", "http://localhost")], 403),
                (vec![("origin", "https://localhost:443")], 403),
                (vec![("sec-fetch-site", "same-site")], 403),
                (vec![("sec-fetch-site", "anything-else")], 403),
                (vec![("origin", "http://localhost:5000"), ("sec-fetch-site", "same-site")], 403),
                (vec![("sec-fetch-site", "same-origin")], 200),
                (vec![("sec-fetch-site", "none")], 200),
                (vec![("sec-fetch-site", "cross-site")], 403),
                (vec![("origin", "http://evil.example")], 403),
                (vec![("origin", "http://site.example")], 403),
                (vec![("origin", "null")], 403),
                (vec![("origin", "")], 403),
                (vec![("origin", "http://localhost:5000"), ("origin", "http://evil.example")], 403),
                (vec![("origin", "http://localhost:5000"), ("sec-fetch-site", "cross-site")], 403),
            ] {
                let headers: Vec<_> = [("host", "localhost:5000")].into_iter().chain(headers).collect();
                for method in ["POST", "PUT", "PATCH", "DELETE"] {
                    assert_eq!(check(&hosts, method, &headers), expected, "{method} {headers:?}");
                }
                assert_eq!(check(&hosts, "GET", &headers), 200, "{headers:?}");
                assert_eq!(check(&hosts, "HEAD", &headers), 200, "{headers:?}");
            }
        }
    }

    #[test]
    fn the_port_that_a_browser_leaves_out_is_that_of_the_scheme() {
        let hosts = AllowedHosts::new([127, 0, 0, 1].into(), &["site.example".into()]);
        for (host, origin, expected) in [
            // Behind a reverse proxy, which speaks TLS for this server.
            ("site.example", "https://site.example", 200),
            ("site.example", "http://site.example", 200),
            ("site.example:443", "https://site.example", 200),
            ("site.example:80", "http://site.example", 200),
            ("site.example", "https://site.example:443", 200),
            ("site.example:80", "https://site.example", 403),
            ("site.example", "https://site.example:8443", 403),
            ("site.example:8443", "https://site.example:8443", 200),
            ("[::1]:5000", "http://[0:0:0:0:0:0:0:1]:5000", 200),
            ("[::1]:5000", "http://[::1]:5001", 403),
            ("localhost:5000", "http://localhost:05000", 200),
            ("localhost:5000", "http://localhost:x", 403),
            ("localhost:5000", "tauri://localhost:5000", 403),
            ("localhost:5000", "localhost:5000", 403),
        ] {
            assert_eq!(check(&hosts, "PUT", &[("host", host), ("origin", origin)]), expected, "{host} {origin}");
        }
    }

    #[test]
    fn one_host_has_one_spelling() {
        for (text, name) in [
            ("A.Example:5000", Some("a.example")),
            ("[0:0:0:0:0:0:0:1]:5000", Some("::1")),
            ("::1", Some("::1")),
            ("a_b", Some("a_b")),
            ("a b", None),
            ("a/b", None),
            (":5000", None),
            ("[::1", None),
            ("[x]", None),
        ] {
            assert_eq!(name_of(text).as_deref(), name, "{text}");
        }
    }
}
