//! Failures below HTTP, by class: connection refused, unknown name, wrong protocol, invalid certificate.

use std::error::Error as StdError;
use std::io;

use super::connector::NoTls;
use super::pool::BrokenExchange;
use super::proxy::Proxy;
use super::resolver::Unknown;
use crate::error::{Error, Kind, find_cause};
use crate::retry::Unreachable;
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

impl ExchangeFault {
    /// Classifies an error of the HTTP client. `is_known` means that the peer has answered before, `proxy` is the proxy
    /// used.
    pub(crate) fn of(error: &BrokenExchange, context: &Context, is_known: bool, proxy: Option<&Proxy>) -> Self {
        if let Some(ours) = find_cause::<Error>(error) {
            return ours.clone().into();
        }
        if let Some(tls) = find_cause::<rustls::Error>(error) {
            return Self::of_tls(tls, context);
        }
        if let Some(why) = find_cause::<NoTls>(error) {
            return Self::of_hello(*why, context);
        }
        let deepest = deepest(error);
        // The proxy could not be reached; that says nothing about the registry.
        if let Some(proxy) = proxy.filter(|_| error.is_connect) {
            return Self::of_proxy(proxy, &deepest, context);
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
        let unreachable = match class {
            _ if is_known => None,
            Class::Refused => Some(Unreachable::Refused),
            _ => find_cause::<Unknown>(error).map(|_| Unreachable::Name),
        };
        let fault = context.error(Kind::Unavailable);
        let error = match unreachable {
            Some(why) => why.told(fault),
            None => fault.because(deepest),
        };
        Self { class, error }
    }

    fn of_proxy(proxy: &Proxy, why: &str, context: &Context) -> Self {
        let wants_login = why.contains("authorization required");
        let kind = if wants_login { Kind::Denied } else { Kind::Unavailable };
        let error = context.error(kind).because(format!("by way of {proxy}: {why}"));
        let hint = if wants_login { PROXY_LOGIN } else { "check the proxy's address, and what NO_PROXY leaves out" };
        error.hint(hint).into()
    }

    fn of_hello(why: NoTls, context: &Context) -> Self {
        let (class, kind) = match why {
            NoTls::PlainHttp => (Class::SpeaksPlain, Kind::Invalid),
            NoTls::Closed | NoTls::Silence(_) => (Class::Unanswered, Kind::Unavailable),
        };
        Self { class, error: context.error(kind).because(why) }
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

/// Returns the last cause, the most precise one: "connection reset by peer" and not "error sending request".
pub(crate) fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    crate::error::printable(&last.to_string())
}
