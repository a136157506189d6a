//! Addresses of hosts: the parts of a URL that say where it leads, and the hosts to which plain HTTP is permitted.

use std::str::FromStr;

use url::{Position, Url};

/// Returns `host[:port]` of a URL.
pub(super) fn host_port(url: &Url) -> String {
    url[Position::BeforeHost..Position::AfterPort].to_owned()
}

/// Returns whether `url` leads to this machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns whether both have the same scheme, host and port.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// A host, at one port or at any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainHost {
    /// In lower case; an IPv6 address in brackets.
    name: String,
    port: Option<u16>,
}

impl PlainHost {
    /// Returns whether `url` leads to this host. A URL without a port matches both 80 and 443: the scheme may not be
    /// known yet.
    pub(crate) fn is(&self, url: &Url) -> bool {
        let is_port = |port| url.port().map_or(port == 80 || port == 443, |own| own == port);
        url.host_str() == Some(self.name.as_str()) && self.port.is_none_or(is_port)
    }
}

/// Reads `host` (any port) or `host:port`; an IPv6 address is in brackets.
impl FromStr for PlainHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a host or host:port");
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !text.ends_with(']') => (name, Some(port.parse().map_err(|_| wrong())?)),
            _ => (text, None),
        };
        let is_bare = !name.is_empty() && !name.contains(|c: char| "/@?#\\".contains(c) || c.is_whitespace());
        // Parsed like URLs, so that two spellings of one host are equal.
        let url = Url::parse(&format!("http://{name}/")).ok().filter(|url| is_bare && url.port().is_none());
        let name = url.as_ref().and_then(Url::host_str).ok_or_else(wrong)?.to_owned();
        Ok(Self { name, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_with_or_without_its_port_in_any_case() {
        for (text, is, is_not) in [
            ("r.example", &["http://r.example/", "https://R.example:5000/"][..], &["http://a.r.example/"][..]),
            ("R.Example:5000", &["http://r.example:5000/"], &["http://r.example/", "http://r.example:5001/"]),
            ("r.example:80", &["http://r.example/", "https://r.example/"], &["http://r.example:8080/"]),
            ("[FD00::0:1]", &["http://[fd00::1]:5000/"], &["http://[fd00::2]/"]),
            ("[::1]:5000", &["http://[::1]:5000/"], &["http://[::1]/"]),
            ("registry:5000", &["http://registry:5000/"], &["http://registry.example:5000/"]),
        ] {
            let host: PlainHost = text.parse().unwrap();
            is.iter().for_each(|url| assert!(host.is(&Url::parse(url).unwrap()), "{text}: {url}"));
            is_not.iter().for_each(|url| assert!(!host.is(&Url::parse(url).unwrap()), "{text}: {url}"));
        }
        for wrong in
            ["", ":5000", "r.example:", "r.example:99999", "http://r.example", "r.example/x", "u@r.example", "::1"]
        {
            assert!(wrong.parse::<PlainHost>().is_err(), "{wrong}");
        }
    }
}
