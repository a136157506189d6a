//! Certificates as docker's recipe makes them: marked as a CA's, and used as a server's or a client's own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autonomy_registry::error::Kind;
use autonomy_registry::serve::ServerCertificates;
use autonomy_registry::wire::{Client, ClientOptions, Proxies, Request};
use http::Method;

use crate::kit::serve_bed::Running;

/// A certificate for `name`, and its key.
struct Own {
    certificate: String,
    key: rcgen::KeyPair,
}

fn params(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}

impl Own {
    fn new(name: &str) -> Self {
        Self::of(params(name))
    }

    fn of(params: rcgen::CertificateParams) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap().pem(), key }
    }

    fn over(name: &str) -> Self {
        let mut params = params(name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        Self::of(params)
    }

    fn write(&self, folder: &Path, name: &str) -> PathBuf {
        fs::write(folder.join(format!("{name}.key")), self.key.serialize_pem()).unwrap();
        let path = folder.join(format!("{name}.crt"));
        fs::write(&path, &self.certificate).unwrap();
        path
    }
}

/// A server with this certificate.
async fn serve(folder: &Path, own: &Own, client_ca: Option<PathBuf>) -> Running {
    let chain = own.write(folder, "server");
    Running::start(&folder.join("data"), |options| {
        options.tls = Some(ServerCertificates { key: chain.with_extension("key"), chain, client_ca });
    })
    .await
}

async fn ask(options: ClientOptions, host: &str) -> autonomy_registry::Result<u16> {
    let request = Request::new(Method::GET, "/v2/", "get", "it");
    Ok(Client::new(options)?.host(host, "").send(&request).await?.status().as_u16())
}

fn naming(path: &Path) -> ClientOptions {
    ClientOptions { ca_file: Some(path.to_owned()), ..ClientOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_named_is_taken_though_it_is_marked_as_an_authoritys() {
    let folder = tempfile::tempdir().unwrap();
    let own = Own::new("127.0.0.1");
    let server = serve(folder.path(), &own, None).await;
    let named = folder.path().join("server.crt");
    assert_eq!(ask(naming(&named), &server.host).await.unwrap(), 200);
    let certs = folder.path().join("certs.d");
    fs::create_dir_all(certs.join(&server.host)).unwrap();
    fs::copy(&named, certs.join(&server.host).join("ca.crt")).unwrap();
    let options = ClientOptions { cert_dir: Some(certs), ..ClientOptions::default() };
    assert_eq!(ask(options, &server.host).await.unwrap(), 200);

    // Without the CA, or with another CA of the same name.
    let other = Own::new("127.0.0.1").write(folder.path(), "other");
    for options in [ClientOptions::default(), naming(&other)] {
        let error = ask(options, &server.host).await.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.chain().contains("does not verify"), "{}", error.chain());
    }
    let elsewhere = server.host.replace("127.0.0.1", "localhost");
    let error = ask(naming(&named), &elsewhere).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("not valid for name"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_certificate_that_is_over_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &Own::over("127.0.0.1"), None).await;
    let error = ask(naming(&folder.path().join("server.crt")), &server.host).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("expired"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_a_ca_does_not_name_the_certificates_it_signed() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = rcgen::CertifiedIssuer::self_signed(params("authority"), rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params("127.0.0.1").signed_by(&key, &issuer).unwrap().pem();
    let server = serve(folder.path(), &Own { certificate, key }, None).await;
    let named = folder.path().join("authority.crt");
    fs::write(&named, issuer.as_ref().pem()).unwrap();
    let error = ask(naming(&named), &server.host).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("CaUsedAsEndEntity"), "{}", error.chain());
    assert_eq!(ask(naming(&folder.path().join("server.crt")), &server.host).await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_own_certificate_was_named_comes_in_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (own, client) = (Own::new("127.0.0.1"), Own::new("edge-site"));
    let client_ca = client.write(folder.path(), "client");
    let server = serve(folder.path(), &own, Some(client_ca)).await;
    let certs = folder.path().join("certs.d");
    let place = certs.join(&server.host);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("ca.crt"), &own.certificate).unwrap();
    let shown = async |shown: &Own| {
        fs::write(place.join("client.cert"), &shown.certificate).unwrap();
        fs::write(place.join("client.key"), shown.key.serialize_pem()).unwrap();
        ask(ClientOptions { cert_dir: Some(certs.clone()), ..ClientOptions::default() }, &server.host).await
    };
    assert_eq!(shown(&client).await.unwrap(), 200);
    assert!(shown(&Own::new("edge-site")).await.is_err(), "another of the same name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_whose_own_certificate_was_named_is_gone_through() {
    let folder = tempfile::tempdir().unwrap();
    let own = Own::new("127.0.0.1");
    let named = own.write(folder.path(), "proxy");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
    let chain = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        own.certificate.as_bytes(),
    );
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![chain.unwrap()], key).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut tls) = (stream.unwrap(), rustls::ServerConnection::new(Arc::clone(&config)).unwrap());
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            if tls.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                let _ = tls.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let proxies = Proxies::of(move |name| (name == "HTTPS_PROXY").then(|| format!("https://{address}")));
    let error =
        ask(ClientOptions { proxies: proxies.clone(), ..ClientOptions::default() }, "r.test").await.unwrap_err();
    assert!(error.chain().contains("does not verify"), "{}", error.chain());
    let error = ask(ClientOptions { proxies, ..naming(&named) }, "r.test").await.unwrap_err();
    assert!(error.chain().contains("by way of proxy") && !error.chain().contains("verify"), "{}", error.chain());
}
