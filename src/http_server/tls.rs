//! TLS of the server: its certificate, and the CAs whose clients it accepts.
//!
//! The files are checked for changes with every new connection, so that a renewed certificate needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::disk::reload::{Reloaded, Reread};
use crate::error::{Error, Kind, Result};
use crate::named_certificates::Named;

/// Paths of the TLS files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCertificates {
    /// The server's certificate and the chain to its CA, PEM.
    pub chain: PathBuf,
    /// The private key of the first of them, PEM: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
    /// CAs, PEM: only clients with a certificate from one of them are accepted. Default: all clients are.
    pub client_ca: Option<PathBuf>,
}

/// The server's side of TLS.
#[derive(Debug)]
pub(crate) struct ServerTls(Arc<Reloaded<Arc<ServerConfig>>>);

impl ServerTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if one of them is invalid, or key and certificate do not match.
    pub(crate) fn open(files: &ServerCertificates) -> Result<Self> {
        let paths = [&files.chain, &files.key].into_iter().chain(&files.client_ca).cloned().collect();
        Ok(Self(Arc::new(Reloaded::open(paths, read)?)))
    }

    /// Returns why the files as they are now cannot be used; the former ones stay in force.
    pub(crate) async fn fault(&self, reread: Reread) -> Option<String> {
        self.0.fault(reread).await
    }

    /// Runs the handshake with one client.
    pub(crate) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(&self, stream: T) -> io::Result<TlsStream<T>> {
        let config = self.0.get().await.map_err(io::Error::other)?;
        TlsAcceptor::from(Arc::clone(&*config)).accept(stream).await
    }
}

fn read(paths: &[PathBuf]) -> Result<Arc<ServerConfig>> {
    let [chain_path, key_path, authorities @ ..] = paths else {
        return Err(Error::new(Kind::Usage, "set up TLS").because("a certificate and a key are needed"));
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates(chain_path)?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|why| unusable("private key", key_path, why))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| Error::new(Kind::Local, "set up TLS").because(why))?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let named = certificates(path)?;
            for certificate in &named {
                roots.add(certificate.clone()).map_err(|why| unusable("authority", path, why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let inner = verifier.map_err(|why| unusable("authority", path, why))?;
            builder.with_client_cert_verifier(Arc::new(Clients { inner, named: Named::new(named) }))
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|why| {
        let told = unusable("certificate", chain_path, why);
        told.hint(format!("the first certificate in it must belong to the key in {}", key_path.display()))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Verifies client certificates: issued by one of the named CAs, or one of the named certificates itself.
#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    named: Named,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let checked = self.inner.verify_client_cert(end_entity, intermediates, now);
        self.named.excuse(end_entity, checked, ClientCertVerified::assertion)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unusable("certificate", path, "it holds no PEM certificate")),
        found => found.map_err(|why| unusable("certificate", path, why)),
    }
}

fn unusable(what: &str, path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Usage, format!("read {what}")).on(path.display()).because(why)
}
