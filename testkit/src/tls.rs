//! TLS for registries, and a tunnel around it for this program's own requests.
//!
//! Certificates are made anew each time. Measured tools get the CA's; this project's own requests in a bench are plain HTTP,
//! so that the code of its baseline stays bare, and go through a [`Tunnel`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;

/// A CA, and one certificate by it for every registry on this machine.
#[derive(Debug)]
pub struct Authority {
    root: CertificateDer<'static>,
    home: tempfile::TempDir,
}

impl Authority {
    pub fn make() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority of a measurement");
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()]).unwrap();
        let made = Self { root: issuer.as_ref().der().clone(), home };
        std::fs::create_dir(made.folder()).unwrap();
        std::fs::write(made.file(), issuer.as_ref().pem()).unwrap();
        std::fs::write(made.certificate(), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(made.key(), key.serialize_pem()).unwrap();
        made
    }

    /// The CA certificate to trust, as a file.
    pub fn file(&self) -> PathBuf {
        self.folder().join("ca.crt")
    }

    /// A folder that holds that file and nothing else.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("trusted")
    }

    pub fn certificate(&self) -> PathBuf {
        self.home.path().join("tls.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.home.path().join("tls.key")
    }
}

/// Accepts plain connections and forwards them over TLS, until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    pub host: String,
    serving: JoinHandle<()>,
}

impl Tunnel {
    pub fn open(runtime: &Handle, upstream: &str, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let connector = TlsConnector::from(Arc::new(config));
        Self { host, serving: runtime.spawn(serve(listener, upstream.parse().unwrap(), connector)) }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, connector: TlsConnector) {
    // Owned here: all connections end with the tunnel.
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let connector = connector.clone();
        connections.spawn(async move {
            let server = TcpStream::connect(upstream).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let mut server = connector.connect(ServerName::from(upstream.ip()), server).await?;
            // The user of a broken connection reports it.
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
