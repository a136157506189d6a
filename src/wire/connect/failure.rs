//! Failures below HTTP, by class: connection refused, unknown name, wrong protocol, invalid certificate.

use std::error::Error as StdError;
use std::io;

use tokio::time::Instant;

use super::connector::NoTls;
use super::pool::BrokenExchange;
use super::proxy::Proxy;
use super::resolver::Unknown;
use crate::error::{Error, Kind, find_cause};
use crate::retry::Contact;
use crate::wire::request::Context;

/// The hint for a proxy that requires a login.
pub(crate) const PROXY_LOGIN: &str =
    "the proxy wants a login: put name and password into its address, as in http://name:password@host:port";

/// The HTTP client's error for an answer whose status line and headers exceed its limit (256 KiB, or 100 headers); the
/// test `a_head_without_an_end_is_not_read` checks the text.
const HEAD_TOO_LARGE: &str = "message head is too large";

/// The conclusion about the peer from a failed exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It answered a TLS hello in plain HTTP.
    SpeaksPlain,
    /// It did not answer a TLS hello, or closed the connection.
    Unanswered,
    /// Connection refused: nothing listens on the port.
    Refused,
    /// Its answer was not HTTP, or it closed the connection; it may expect TLS.
    NotHttp,
    /// Anything else.
    Other,
}

/// A failed exchange.
#[derive(Debug)]
pub(crate) struct ExchangeFault {
    pub(crate) class: Class,
    pub(crate) error: Error,
}

impl From<Error> for ExchangeFault {
    fn from(error: Error) -> Self {
        Self { class: Class::Other, error }
    }
}

/// The peer of a failed exchange.
pub(crate) struct Peer<'a> {
    /// Whether it has answered before.
    pub(crate) is_known: bool,
    /// The proxy used.
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) contact: Contact,
    /// Since when it has not answered.
    pub(crate) since: Instant,
}

impl Peer<'_> {
    /// Returns the error of an outage.
    fn outage(&self, context: &Context, why: impl Into<String>) -> Error {
        context.error(Kind::Unavailable).because(self.contact.outage(why, self.since))
    }
}

impl ExchangeFault {
    /// Classifies an error of the HTTP client.
    pub(crate) fn of(error: &BrokenExchange, context: &Context, peer: Peer<'_>) -> Self {
        if let Some(ours) = find_cause::<Error>(error) {
            return ours.clone().into();
        }
        if let Some(tls) = find_cause::<rustls::Error>(error) {
            return Self::of_tls(tls, context);
        }
        if let Some(why) = find_cause::<NoTls>(error) {
            return Self::of_hello(*why, context, &peer);
        }
        let deepest = deepest(error);
        // The proxy could not be reached; that says nothing about the registry.
        if let Some(proxy) = peer.proxy.filter(|_| error.is_connect) {
            return Self::of_proxy(proxy, &deepest, context, &peer);
        }
        if deepest == HEAD_TOO_LARGE {
            return context.error(Kind::Limit).because("the head of the answer is longer than is read").into();
        }
        let class = match find_cause::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => Class::Other,
            Some(io::ErrorKind::ConnectionRefused) => Class::Refused,
            _ if error.is_connect => Class::Other,
            _ => Class::NotHttp,
        };
        let is_unknown = find_cause::<Unknown>(error).is_some();
        let error = match class {
            // It may have been damaged on its way: tried a few times.
            _ if !error.is_break() => context.error(Kind::Unavailable).because(deepest),
            Class::Refused => peer.outage(context, "connection refused"),
            _ if is_unknown => peer.outage(context, "the host name does not resolve"),
            _ => peer.outage(context, told(error)),
        };
        let error = match class {
            _ if peer.is_known => error,
            Class::Refused => error.hint("check host and port, and that the registry runs"),
            _ if is_unknown => error.hint("check the spelling of the host and this machine's name service"),
            _ => error,
        };
        Self { class, error }
    }

    fn of_proxy(proxy: &Proxy, why: &str, context: &Context, peer: &Peer<'_>) -> Self {
        let wants_login = why.contains("authorization required");
        let why = format!("by way of {proxy}: {why}");
        let error = if wants_login { context.error(Kind::Denied).because(why) } else { peer.outage(context, why) };
        let hint = if wants_login { PROXY_LOGIN } else { "check the proxy's address, and what NO_PROXY leaves out" };
        error.hint(hint).into()
    }

    fn of_hello(why: NoTls, context: &Context, peer: &Peer<'_>) -> Self {
        match why {
            NoTls::PlainHttp => Self { class: Class::SpeaksPlain, error: context.error(Kind::Invalid).because(why) },
            NoTls::Closed | NoTls::Silence(_) => {
                Self { class: Class::Unanswered, error: peer.outage(context, why.to_string()) }
            }
        }
    }

    pub(crate) fn of_tls(error: &rustls::Error, context: &Context) -> Self {
        use rustls::AlertDescription;
        let fault = |kind, why: String| context.error(kind).because(why);
        match error {
            rustls::Error::InvalidCertificate(why) => fault(Kind::Invalid, format!("its certificate does not verify: {why}"))
                .hint("pass the authority's certificate with --ca-file, or put it under certs.d; --allow-insecure-registry does not excuse a certificate")
                .into(),
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateUnknown,
            ) => fault(Kind::Denied, format!("the registry refuses this client's certificate, or wants one: {error}"))
                .hint("put client.cert and client.key into the host's folder under certs.d")
                .into(),
            // With the last one, a bit flipped inside a TLS record: the same request may succeed.
            rustls::Error::DecryptError
            | rustls::Error::InvalidEncryptedClientHello(_)
            | rustls::Error::AlertReceived(AlertDescription::BadRecordMac) => {
                fault(Kind::Unavailable, error.to_string()).into()
            }
            other => fault(Kind::Invalid, format!("no TLS connection: {other}")).into(),
        }
    }
}

/// Returns the cause in words.
fn told(error: &BrokenExchange) -> String {
    // The HTTP library says that the connection was not ready.
    let is_closed = find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
    if is_closed { "the connection was closed at once".to_owned() } else { deepest(error) }
}

/// Returns the last cause, the most precise one: "connection reset by peer" and not "error sending request".
pub(crate) fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    crate::error::printable(&last.to_string())
}
