//! The server over TLS and with logins, and a client that checks certificates.

use std::fs;
use std::path::{Path, PathBuf};

use autonomy_registry::Kind;
use autonomy_registry::oci::Digest;
use autonomy_registry::serve::{ServeOptions, Server, ServerCertificates};
use reqwest::{Certificate, Client, Identity, StatusCode};

use crate::kit::serve_bed::Running;
use crate::kit::wire_server::Authority;

/// A folder with a certificate, its key and the data of a server.
struct Site {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new() };
        site.renew(&site.authority);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate, by any CA.
    fn renew(&self, authority: &Authority) {
        let (certificate, key) = authority.sign("127.0.0.1");
        fs::write(self.path("tls.crt"), certificate.pem()).unwrap();
        fs::write(self.path("tls.key"), key.serialize_pem()).unwrap();
    }

    fn certificates(&self, client_ca: Option<&str>) -> ServerCertificates {
        let client_ca = client_ca.map(|name| self.path(name));
        ServerCertificates { chain: self.path("tls.crt"), key: self.path("tls.key"), client_ca }
    }

    async fn serve(&self, client_ca: Option<&str>, htpasswd: Option<&str>) -> Running {
        Running::start(&self.path("data"), |options| {
            options.tls = Some(self.certificates(client_ca));
            options.htpasswd = htpasswd.map(|name| self.path(name));
        })
        .await
    }
}

/// A client that trusts one CA and sends the given credentials.
fn client(authority: &Authority, identity: Option<(rcgen::Certificate, rcgen::KeyPair)>) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let builder = Client::builder().tls_certs_only([root]);
    match identity {
        None => builder.build().unwrap(),
        Some((certificate, key)) => {
            let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
            builder.identity(Identity::from_pem(pem.as_bytes()).unwrap()).build().unwrap()
        }
    }
}

/// Pushes a blob and pulls it again.
async fn push_and_pull(client: &Client, url: &str, bytes: &[u8]) {
    let digest = Digest::sha256(bytes);
    let place = format!("{url}/v2/site/app/blobs/uploads/?digest={digest}");
    let pushed = client.post(place).body(bytes.to_vec()).send().await.unwrap();
    assert_eq!(pushed.status(), 201);
    let pulled = client.get(format!("{url}/v2/site/app/blobs/{digest}")).send().await.unwrap();
    assert_eq!(pulled.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn blobs_come_and_go_over_tls_and_nothing_over_plain_http() {
    let site = Site::new();
    let server = site.serve(None, None).await;
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let client = client(&site.authority, None);
    push_and_pull(&client, &server.url, &vec![7; 3 << 20]).await;
    assert!(client.get(format!("http://{}/v2/", server.host)).send().await.is_err());
    push_and_pull(&client, &server.url, b"and it goes on").await;
}

#[tokio::test]
async fn a_renewed_certificate_holds_for_the_next_connection_and_half_a_renewal_changes_nothing() {
    let site = Site::new();
    let server = site.serve(None, None).await;
    let other = Authority::new();
    let asked = async |authority: &Authority| {
        client(authority, None).get(format!("{}/healthz", server.url)).send().await.map(|answer| answer.status())
    };
    assert_eq!(asked(&site.authority).await.unwrap(), 200);
    assert!(asked(&other).await.is_err());
    // First the certificate, then the key, as most tools do it.
    let (certificate, key) = other.sign("127.0.0.1");
    fs::write(site.path("tls.crt"), certificate.pem()).unwrap();
    assert_eq!(asked(&site.authority).await.unwrap(), 200, "the old pair goes on");
    fs::write(site.path("tls.key"), key.serialize_pem()).unwrap();
    assert_eq!(asked(&other).await.unwrap(), 200);
    assert!(asked(&site.authority).await.is_err());
}

#[tokio::test]
async fn only_clients_of_the_named_authority_come_in() {
    let site = Site::new();
    let clients = Authority::new();
    fs::write(site.path("clients.pem"), clients.pem()).unwrap();
    let server = site.serve(Some("clients.pem"), None).await;
    let ours = client(&site.authority, Some(clients.sign("node-1")));
    push_and_pull(&ours, &server.url, b"for nodes").await;
    for stranger in [None, Some(site.authority.sign("node-1"))] {
        let refused = client(&site.authority, stranger).get(format!("{}/healthz", server.url)).send().await;
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[tokio::test]
async fn certificates_and_passwords_that_are_of_no_use_are_told_before_anything_is_served() {
    let site = Site::new();
    let told = async |change: &dyn Fn(&mut ServeOptions)| {
        let mut options = ServeOptions::new(site.path("data"), ([127, 0, 0, 1], 0).into());
        change(&mut options);
        let error = Server::bind(options).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{}", error.chain());
        error.chain()
    };
    let mut files = site.certificates(None);
    files.key = site.path("absent.key");
    assert!(told(&|options| options.tls = Some(files.clone())).await.contains("absent.key"));
    fs::write(site.path("other.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    files.key = site.path("other.key");
    assert!(told(&|options| options.tls = Some(files.clone())).await.contains("tls.crt"));
    fs::write(site.path("empty.pem"), "").unwrap();
    let mut files = site.certificates(Some("empty.pem"));
    assert!(told(&|options| options.tls = Some(files.clone())).await.contains("empty.pem"));
    files.client_ca = None;
    files.chain = site.path("empty.pem");
    assert!(told(&|options| options.tls = Some(files.clone())).await.contains("empty.pem"));
    fs::write(site.path("users"), "ann:{SHA}c2VjcmV0\n").unwrap();
    let users = told(&|options| options.htpasswd = Some(site.path("users"))).await;
    assert!(users.contains("line 1 is SHA-1") && !users.contains("c2Vj"), "{users}");
    assert!(!site.path("data").exists(), "nothing was made");
}

fn write_users(path: &Path, users: &[(&str, &str)]) {
    let line = |(user, password): &(&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
    fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
}

#[tokio::test]
async fn users_come_in_with_their_password_and_nobody_without() {
    let site = Site::new();
    write_users(&site.path("users"), &[("ann", "secret"), ("bob", "pass:word")]);
    let server = site.serve(None, Some("users")).await;
    let client = client(&site.authority, None);
    let ask = async |path: &str, login: Option<(&str, &str)>| {
        let request = client.get(format!("{}{path}", server.url));
        let request = login.iter().fold(request, |request, (user, password)| request.basic_auth(user, Some(password)));
        request.send().await.unwrap()
    };
    for path in ["/v2/", "/v2/_catalog", "/metrics", "/v2/site/app/tags/list", "/nowhere"] {
        for login in [None, Some(("ann", "Secret")), Some(("eve", "secret")), Some(("", ""))] {
            let refused = ask(path, login).await;
            assert_eq!(refused.status(), 401, "{path} {login:?}");
            let challenge = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
            assert!(challenge.starts_with("Basic realm="), "{challenge}");
            assert!(refused.text().await.unwrap().contains("\"UNAUTHORIZED\""));
        }
    }
    assert_eq!(ask("/healthz", None).await.status(), 200);
    for login in [("ann", "secret"), ("ann", "secret"), ("bob", "pass:word")] {
        assert_eq!(ask("/v2/", Some(login)).await.status(), 200, "{login:?}");
    }
    let metrics = ask("/metrics", Some(("ann", "secret"))).await.text().await.unwrap();
    assert!(metrics.lines().any(|line| line == "autonomy_registry_unauthorized_total 20"), "{metrics}");
    assert!(metrics.lines().any(|line| line == "autonomy_registry_connections 1"), "{metrics}");
    let refused = client.post(format!("{}/v2/site/app/blobs/uploads/", server.url)).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(!site.path("data/repositories/site").exists(), "whoever may not come in leaves nothing");

    write_users(&site.path("users"), &[("ann", "changed")]);
    assert_eq!(ask("/v2/", Some(("ann", "secret"))).await.status(), 401);
    assert_eq!(ask("/v2/", Some(("bob", "pass:word"))).await.status(), 401);
    assert_eq!(ask("/v2/", Some(("ann", "changed"))).await.status(), 200);
    fs::write(site.path("users"), "ann:plain\n").unwrap();
    assert_eq!(ask("/v2/", Some(("ann", "changed"))).await.status(), 200, "a file of no use changes nothing");
}
