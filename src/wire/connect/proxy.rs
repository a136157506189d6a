//! Proxies on the way to a host: what `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say (contract §10).
//!
//! Read once, and refused if they cannot be used: a site that may be left only through a proxy wants to hear of a typing
//! error, and not of hosts that cannot be reached. What stands in such an address before the `@` is never shown.

use std::fmt;
use std::net::IpAddr;

use http::header::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::wire::authorization::basic;
use crate::wire::header::holds_login;

/// Which proxies there are, as the environment tells.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Variable>,
    http: Option<Variable>,
    /// Hosts that are gone to directly.
    none: Vec<Exception>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

#[derive(Clone)]
struct Variable {
    name: String,
    /// None if what stands there is no proxy's address.
    proxy: Option<Proxy>,
}

/// A proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    url: Url,
    /// The variable that names it.
    named_by: String,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    hosts: NoProxyHosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NoProxyHosts {
    All,
    /// A name and all below it.
    Domain(String),
    /// Addresses whose first bits are these.
    Net(IpAddr, u8),
}

impl Proxies {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads variables: each in capitals first, an empty one is none, `ALL_PROXY` stands in for both others.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let filled = |name: String| variable(&name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
        let either = |name: &str| filled(name.to_owned()).or_else(|| filled(name.to_lowercase()));
        let proxy = |name: &str| {
            let (name, value) = either(name).or_else(|| either("ALL_PROXY"))?;
            let proxy = address(value.trim()).map(|url| Proxy { url, named_by: name.clone() });
            Some(Variable { name, proxy })
        };
        let none = either("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        let none = none.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).map(Exception::parse);
        Self { https: proxy("HTTPS_PROXY"), http: proxy("HTTP_PROXY"), none: none.collect() }
    }

    /// Refuses what cannot be used, without showing it.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = [&self.https, &self.http].into_iter().flatten().find(|variable| variable.proxy.is_none());
        let Some(Variable { name, .. }) = wrong else { return Ok(()) };
        let error = Error::new(Kind::Usage, "use the proxy in").on(name).because("it is not the address of a proxy");
        Err(error.hint("write http://host:port, https:// or socks5://; percent-encode what is special in a password"))
    }

    /// The proxy on the way to `url`, if there is one.
    pub(crate) fn on_the_way_to(&self, url: &Url) -> Option<&Proxy> {
        let variable = if url.scheme() == "https" { &self.https } else { &self.http };
        let proxy = variable.as_ref()?.proxy.as_ref()?;
        let is_excepted = self.none.iter().any(|exception| exception.covers(url));
        (!is_excepted).then_some(proxy)
    }
}

/// How a proxy is asked to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// In HTTP.
    Http,
    /// By SOCKS 5; `names_here` says that names are looked up on this side.
    Socks5 {
        /// See above.
        names_here: bool,
    },
    /// By SOCKS 4, the same.
    Socks4 {
        /// See above.
        names_here: bool,
    },
}

impl Proxy {
    /// What it is asked in.
    pub(crate) fn manner(&self) -> Manner {
        match self.url.scheme() {
            "socks5" | "socks5h" => Manner::Socks5 { names_here: self.url.scheme() == "socks5" },
            "socks4" | "socks4a" => Manner::Socks4 { names_here: self.url.scheme() == "socks4" },
            _ => Manner::Http,
        }
    }

    /// Its address: what it is spoken to in, host and port.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The name and password that its address holds.
    pub(crate) fn login(&self) -> Option<(String, String)> {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        holds_login(&self.url).then(|| (plain(self.url.username()), plain(self.url.password().unwrap_or_default())))
    }

    /// The same as the value of a header (RFC 7617).
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (name, password) = self.login()?;
        basic(&name, &password).ok()
    }
}

/// Without name and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {} ({})", crate::wire::address::host_port(&self.url), self.named_by)
    }
}

/// `host:port` alone is a proxy that speaks plain HTTP, as everybody reads it.
fn address(text: &str) -> Option<Url> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).ok()?;
    let is_known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"].contains(&url.scheme());
    // A password with a slash in it would end the host early, and the rest of it would be a path.
    let is_bare = ["", "/"].contains(&url.path()) && url.query().is_none() && url.fragment().is_none();
    (is_known && is_bare && url.has_host() && (holds_login(&url) || !text.contains('@'))).then_some(url)
}

impl Exception {
    fn parse(text: &str) -> Self {
        let of = |hosts| Self { hosts, port: None };
        if text == "*" {
            return of(NoProxyHosts::All);
        }
        if let Some(net) = net(text) {
            return of(net);
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (text, None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        Self { hosts: net(name).unwrap_or_else(|| NoProxyHosts::Domain(name.to_ascii_lowercase())), port }
    }

    fn covers(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        let address = match url.host() {
            Some(url::Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        match (&self.hosts, address) {
            (NoProxyHosts::All, _) => true,
            (NoProxyHosts::Net(net, bits), Some(address)) => is_within(address, *net, *bits),
            (NoProxyHosts::Domain(name), None) => {
                let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
                host == *name || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

/// An address, or `address/bits`; an IPv6 address with or without brackets.
fn net(text: &str) -> Option<NoProxyHosts> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = bare.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(longest), |bits| bits.parse().ok().filter(|bits| *bits <= longest))?;
    Some(NoProxyHosts::Net(address, bits))
}

fn is_within(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let is_same_sort = address.is_ipv4() == net.is_ipv4();
    is_same_sort && (number(address) ^ number(net)).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        Proxies::of(find)
    }

    fn way(variables: &[(&str, &str)], url: &str) -> Option<String> {
        proxies(variables).on_the_way_to(&Url::parse(url).unwrap()).map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_proxy_and_capitals_come_first() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("https_proxy", "http://t:2"), ("http_proxy", "u:3")];
        assert_eq!(way(&both, "https://r.example/").as_deref(), Some("proxy s:1 (HTTPS_PROXY)"));
        assert_eq!(way(&both, "http://r.example/").as_deref(), Some("proxy u:3 (http_proxy)"));
        let empty = [("HTTPS_PROXY", ""), ("https_proxy", "t:2")];
        assert_eq!(way(&empty, "https://r.example/").as_deref(), Some("proxy t:2 (https_proxy)"));
        let all = [("ALL_PROXY", "socks5://x:9"), ("HTTP_PROXY", "u:3")];
        assert_eq!(way(&all, "https://r.example/").as_deref(), Some("proxy x:9 (ALL_PROXY)"));
        assert_eq!(way(&all, "http://r.example/").as_deref(), Some("proxy u:3 (HTTP_PROXY)"));
        assert_eq!(way(&[], "https://r.example/"), None);
    }

    #[test]
    fn exceptions_are_names_addresses_nets_and_ports() {
        for (none, direct, by_proxy) in [
            ("r.example", &["http://r.example/", "http://a.r.example:5000/"][..], &["http://or.example/"][..]),
            (".r.example, x", &["http://a.r.example/", "http://R.example./", "http://x/"], &["http://y/"]),
            ("*.r.example", &["http://a.r.example/"], &["http://r.example.org/"]),
            ("r.example:5000", &["http://r.example:5000/"], &["http://r.example/"]),
            ("10.0.0.0/8 192.168.1.7", &["http://10.9.8.7/", "http://192.168.1.7:5000/"], &["http://11.0.0.1/"]),
            ("10.1.2.3:80", &["http://10.1.2.3/"], &["http://10.1.2.3:81/"]),
            ("fd00::/8,[2001:db8::1]", &["http://[fd12::1]/", "http://[2001:db8::1]:5000/"], &["http://[fe80::1]/"]),
            ("0.0.0.0/0", &["http://9.9.9.9/"], &["http://[::9]/", "http://r.example/"]),
            ("*", &["http://anything/", "http://9.9.9.9/"], &[]),
            ("", &[], &["http://r.example/"]),
        ] {
            let variables = [("HTTP_PROXY", "http://p:1"), ("NO_PROXY", none)];
            direct.iter().for_each(|url| assert_eq!(way(&variables, url), None, "{none}: {url}"));
            by_proxy.iter().for_each(|url| assert!(way(&variables, url).is_some(), "{none}: {url}"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_nothing_secret_is_shown() {
        for wrong in
            ["ftp://u:secret@p:1", "http://u:sec/ret@p:1", "http://", "u:secret#x@p:1", "p:99999", "http://p:1/secret"]
        {
            let error = proxies(&[("HTTPS_PROXY", wrong)]).check().unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{wrong}");
            let told = format!("{} {error:?}", error.chain());
            assert!(told.contains("HTTPS_PROXY") && !told.contains("sec"), "{told}");
        }
        let right = proxies(&[("HTTPS_PROXY", "http://u:secret@p:1"), ("HTTP_PROXY", "u:p%40ss@p:1/")]);
        right.check().unwrap();
        let way = right.on_the_way_to(&Url::parse("https://r.example/").unwrap()).unwrap();
        assert!(!way.to_string().contains("secret") && !format!("{right:?}").contains("secret"));
        let authorization = way.authorization().unwrap();
        assert_eq!(authorization, "Basic dTpzZWNyZXQ=");
        assert!(authorization.is_sensitive());
    }
}
