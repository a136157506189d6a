//! Servers for tests of the HTTP layer: a closure answers, a log keeps the requests.

use std::future::IntoFuture as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autonomy_registry::oci::{Reference, Repository};
use autonomy_registry::retry::Retry;
use autonomy_registry::wire::{Client, ClientOptions, Request as Call, Scopes};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::Response;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is(&self, start: &str) -> bool {
        self.line.starts_with(start)
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// A plain-HTTP server on loopback. Ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) host: String,
    log: Log,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Log::default();
        let noted = Arc::clone(&log);
        let router = axum::Router::new().fallback(move |request: Request| {
            let (answer, noted) = (answer.clone(), Arc::clone(&noted));
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
                let asked = Asked { line, headers: parts.headers, body };
                noted.lock().unwrap().push(asked.clone());
                answer(&asked)
            }
        });
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { host, log }
    }

    /// The requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// Method and target of the requests since the last call.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    pub(crate) fn repository(&self, path: &str) -> Repository {
        repository(&self.host, path)
    }
}

pub(crate) fn repository(host: &str, path: &str) -> Repository {
    format!("{host}/{path}").parse::<Reference>().unwrap().repository
}

/// A response with headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

/// A response without a body.
pub(crate) fn status(status: u16) -> Response {
    answer(status, &[], Body::empty())
}

/// Options that permit plain HTTP and have short pauses.
pub(crate) fn options() -> ClientOptions {
    let (first_pause, first_contact) = (Duration::from_millis(1), Duration::from_millis(200));
    let retry = Retry { first_pause, first_contact, ..Retry::default() };
    ClientOptions { allow_plain_http: true, retry, ..ClientOptions::default() }
}

pub(crate) fn client() -> Client {
    Client::new(options()).unwrap()
}

/// A GET that may pull from `a`.
pub(crate) fn get(path: &str) -> Call {
    Call::new(Method::GET, path, "get", "it").needing(Scopes::pull("a"))
}

/// The body that `host` answers to such a GET.
pub(crate) async fn ask(client: &Client, host: &str) -> autonomy_registry::Result<String> {
    let answer = client.host(host, "a").send(&get("/v2/a/x")).await?.expect(&[200]).await?;
    Ok(String::from_utf8(answer.bytes(100).await?.to_vec()).unwrap())
}

/// The reaction of a TLS server to a plain HTTP request.
#[derive(Clone, Copy)]
pub(crate) enum Plain {
    /// With a TLS alert, as most do.
    Alert,
    /// With a 400 that says so, as servers written in Go do.
    Explains,
}

/// A CA and the certificates that it signs.
pub(crate) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("test authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate().pem()
    }

    fn certificate(&self) -> &rcgen::Certificate {
        self.issuer.as_ref()
    }

    /// A certificate for `name` and its key.
    pub(crate) fn sign(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate().der().clone()).unwrap();
        roots
    }
}

/// A TLS server on loopback, one thread a connection, that gives every request the same response. Returns its `host:port`.
pub(crate) fn tls_server(authority: &Authority, plain: Plain, wants_client: bool, answer: &'static str) -> String {
    tls_server_named(authority, "127.0.0.1", plain, wants_client, |_| answer.to_owned())
}

/// The same with a certificate for `name` and responses made from the heads of requests.
pub(crate) fn tls_server_named(
    authority: &Authority,
    name: &str,
    plain: Plain,
    wants_client: bool,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> String {
    let answer = Arc::new(answer);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, key) = authority.sign(name);
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if wants_client {
        let roots = Arc::new(authority.roots());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, config, answer) = (stream.unwrap(), Arc::clone(&config), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut first = [0];
                let greets = stream.peek(&mut first).is_ok() && first[0] == 0x16;
                if !greets && matches!(plain, Plain::Explains) {
                    let said = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
                    let _ = stream.write_all(said.as_bytes());
                    let _ = stream.read(&mut [0; 1024]);
                    return;
                }
                let mut connection = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::Stream::new(&mut connection, &mut stream);
                let mut request = Vec::new();
                let mut piece = [0; 1024];
                while let Ok(count @ 1..) = tls.read(&mut piece) {
                    request.extend_from_slice(&piece[..count]);
                    if request.ends_with(b"\r\n\r\n") {
                        let _ = tls.write_all(answer(&String::from_utf8_lossy(&request)).as_bytes());
                        request.clear();
                    }
                }
            });
        }
    });
    host
}
