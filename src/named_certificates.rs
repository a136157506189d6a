//! Certificates that are marked as a CA's (CA:TRUE) and used as a server's or a client's own.
//!
//! `openssl req -x509`, which the pages of docker and distribution on self-signed certificates recommend, sets that
//! mark. People serve that certificate and give the same file to clients as `ca.crt`. OpenSSL and Go accept it; webpki
//! refuses it (rustls/webpki issue 205). Here it is accepted only if the operator has named exactly this certificate: a
//! signature by a CA, or the system's trust, is not enough.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The certificates that an operator has named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named(Vec<CertificateDer<'static>>);

impl Named {
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(certificates)
    }

    /// Returns the result of checking `certificate`, but accepts a CA certificate that the operator has named.
    ///
    /// webpki checks the dates before the CA mark, so they are checked for accepted certificates too; the test
    /// `a_named_certificate_that_is_over_is_refused` covers that.
    pub(crate) fn excuse<T>(
        &self,
        certificate: &CertificateDer<'_>,
        checked: Result<T, Error>,
        taken: impl FnOnce() -> T,
    ) -> Result<T, Error> {
        match checked {
            Err(why) if is_authority_as_itself(&why) && self.0.iter().any(|named| named == certificate) => Ok(taken()),
            checked => checked,
        }
    }
}

fn is_authority_as_itself(why: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(why)) = why else { return false };
    matches!(why.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Verifies server certificates: first with the named roots, then with the system's.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) named: Named,
    pub(crate) own: RootCertStore,
    /// Read only if the named roots do not accept the certificate: it takes many milliseconds.
    pub(crate) system: fn() -> &'static RootCertStore,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl Servers {
    fn chains(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let by = |roots| verify_server_cert_signed_by_trust_anchor(&parsed, roots, more, now, self.algorithms.all);
        match self.named.excuse(certificate, by(&self.own), || ()) {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => by((self.system)()),
            // A named root rejects it; the system may know another path to it.
            Err(why) => by((self.system)()).map_err(|_| why),
            Ok(()) => Ok(()),
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.chains(end_entity, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
