//! Proxies from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` (contract §10).
//!
//! The variables are read once, and a value that is not usable is an error: at a site with a proxy as its only way out, an
//! error about the typo helps more than one about unreachable hosts. User name and password in a proxy's URL are never shown.

use std::fmt;
use std::net::IpAddr;

use http::header::HeaderValue;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::wire::header::basic;
use crate::wire::header::holds_login;

/// The proxies that the environment names.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Variable>,
    http: Option<Variable>,
    /// Hosts that need no proxy.
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
    /// None if the value is not the URL of a proxy.
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
    /// A name and all its subdomains.
    Domain(String),
    /// All addresses of a net; a single address is a net of one.
    Net(IpNet),
}

impl Proxies {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads variables: in capitals first, then in lower case. An empty one counts as unset; `ALL_PROXY` is the default of both.
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

    /// Fails if a value is not usable. The error does not show the value.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = [&self.https, &self.http].into_iter().flatten().find(|variable| variable.proxy.is_none());
        let Some(Variable { name, .. }) = wrong else { return Ok(()) };
        let error = Error::new(Kind::Usage, "use the proxy in").on(name).because("it is not the address of a proxy");
        Err(error.hint("write http://host:port, https:// or socks5://; percent-encode what is special in a password"))
    }

    /// Returns the proxy for `url`, if there is one.
    pub(crate) fn on_the_way_to(&self, url: &Url) -> Option<&Proxy> {
        let variable = if url.scheme() == "https" { &self.https } else { &self.http };
        let proxy = variable.as_ref()?.proxy.as_ref()?;
        let is_excepted = self.none.iter().any(|exception| exception.covers(url));
        (!is_excepted).then_some(proxy)
    }
}

/// The protocol that a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    /// HTTP.
    Http,
    /// SOCKS 5.
    Socks5 {
        /// Whether this process looks up names, and not the proxy.
        names_here: bool,
    },
    /// SOCKS 4.
    Socks4 {
        /// Whether this process looks up names, and not the proxy.
        names_here: bool,
    },
}

impl Proxy {
    /// Returns the protocol.
    pub(crate) fn protocol(&self) -> ProxyProtocol {
        match self.url.scheme() {
            "socks5" | "socks5h" => ProxyProtocol::Socks5 { names_here: self.url.scheme() == "socks5" },
            "socks4" | "socks4a" => ProxyProtocol::Socks4 { names_here: self.url.scheme() == "socks4" },
            _ => ProxyProtocol::Http,
        }
    }

    /// Returns its URL: scheme, host and port.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the user name and password from its URL.
    pub(crate) fn login(&self) -> Option<(String, String)> {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        holds_login(&self.url).then(|| (plain(self.url.username()), plain(self.url.password().unwrap_or_default())))
    }

    /// Returns the login as the value of a header (RFC 7617).
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

/// Reads the URL of a proxy. `host:port` alone is a proxy that speaks plain HTTP, as in other programs.
fn address(text: &str) -> Option<Url> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).ok()?;
    let is_known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"].contains(&url.scheme());
    // A slash in a password would end the host early, and the rest of the password would be a path.
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
            return of(NoProxyHosts::Net(net));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (text, None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        let hosts = net(name).map_or_else(|| NoProxyHosts::Domain(name.to_ascii_lowercase()), NoProxyHosts::Net);
        Self { hosts, port }
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
            (NoProxyHosts::Net(net), Some(address)) => net.contains(&address),
            (NoProxyHosts::Domain(name), None) => {
                let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
                host == *name || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

/// Reads an address or `address/bits`; an IPv6 address may be in brackets, which `ipnet` does not read.
fn net(text: &str) -> Option<IpNet> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = bare.parse().ok()?;
    bits.map_or(Some(address.into()), |bits| IpNet::new(address, bits.parse().ok()?).ok())
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
            (
                "10.9.9.9/8,[fd00::]/8",
                &["http://10.1.1.1/", "http://[fd12::1]/"],
                &["http://11.0.0.1/", "http://[fe80::1]/"],
            ),
            ("10.0.0.0/33,::/129,1.2.3.4/x", &[], &["http://10.0.0.0/", "http://[::1]/", "http://1.2.3.4/"]),
            ("10.1.2.3/32,::1/128", &["http://10.1.2.3/", "http://[::1]/"], &["http://10.1.2.2/", "http://[::2]/"]),
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
