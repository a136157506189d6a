//! The ways to a registry: proxies, certificates for each host, machines without CA certificates.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use autonomy_registry::error::Kind;
use autonomy_registry::wire::{Client, ClientOptions, Proxies, Request};
use http::Method;

use super::{PASSWORD, Person, USER, auths};
use crate::kit::command::{assert_code, text};
use crate::kit::wire_server::{Asked, Authority, Plain, Server, answer, ask, options, tls_server, tls_server_named};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PACKED: &str = "cm9ib3Q6Y29ycmVjdDpob3JzZQ==";

/// A proxy on loopback that sends everything to one place, and records the heads of requests.
struct Gateway {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// `refusal` is its answer instead of a tunnel.
    fn start(to: String, refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, to, noted) = (stream.unwrap(), to.clone(), Arc::clone(&noted));
                std::thread::spawn(move || lead(stream, &to, refusal, &noted));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }
}

fn lead(mut stream: TcpStream, to: &str, refusal: Option<&str>, noted: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    noted.lock().unwrap().push(text.clone());
    if let Some(refusal) = refusal {
        let _ = stream.write_all(refusal.as_bytes());
        return;
    }
    let Ok(mut target) = TcpStream::connect(to) else { return };
    if text.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    } else {
        target.write_all(&head).unwrap();
    }
    let (mut back, mut from) = (stream.try_clone().unwrap(), target.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from, &mut back));
    let _ = std::io::copy(&mut stream, &mut target);
}

fn proxies(variables: &[(&str, String)]) -> Proxies {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Proxies::of(move |name| variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_a_tunnel_whose_proxy_sees_its_own_login_and_no_other() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = tls_server_named(&authority, "registry.test", Plain::Alert, false, |head| {
        let is_known = head.to_lowercase().contains(&format!("authorization: basic {}", PACKED.to_lowercase()));
        let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        if is_known { OK } else { refusal }.to_owned()
    });
    let gateway = Gateway::start(server, None);
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.path().join("auth.json"), auths(&[("registry.test", PACKED)])).unwrap();
    let named = |name| proxies(&[(name, format!("http://gate:keeper-secret@{}", gateway.address))]);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let client = Client::new(ClientOptions {
            ca_file: Some(dir.path().join("ca.pem")),
            authfile: Some(dir.path().join("auth.json")),
            allow_plain_http: false,
            proxies: named(name),
            ..options()
        });
        assert_eq!(ask(&client.unwrap(), "registry.test").await.unwrap(), "ok");
        let heads = gateway.heads();
        assert!(!heads.is_empty());
        for head in heads {
            assert!(head.starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"), "{head}");
            let lower = head.to_lowercase();
            assert!(lower.contains("\r\nproxy-authorization: basic z2f0ztprzwvwzxitc2vjcmv0\r\n"), "{head}");
            assert!(!lower.contains("\r\nauthorization:"), "{head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_goes_by_the_proxy_too_and_exceptions_and_loopback_do_not() {
    let server = Server::start(|_: &Asked| answer(200, &[], "ok")).await;
    let gateway = Gateway::start(server.host.clone(), None);
    let address = format!("http://{}", gateway.address);
    let client = |none: &str| {
        let variables =
            [("HTTP_PROXY", address.clone()), ("HTTPS_PROXY", address.clone()), ("NO_PROXY", none.to_owned())];
        Client::new(ClientOptions { proxies: proxies(&variables), ..options() }).unwrap()
    };
    // With an explicit port TLS is tried first; the answer to that is not TLS.
    assert_eq!(ask(&client(""), "registry.test:80").await.unwrap(), "ok");
    let heads = gateway.heads();
    assert!(heads.iter().any(|head| head.starts_with("GET http://registry.test/v2/a/x HTTP/1.1\r\n")), "{heads:?}");
    assert!(ask(&client("other.test, registry.test"), "registry.test:80").await.is_err(), "there is no such host");
    assert_eq!(ask(&client(""), &server.host).await.unwrap(), "ok");
    let local = format!("localhost:{}", server.host.split(':').nth(1).unwrap());
    assert_eq!(ask(&client(""), &local).await.unwrap(), "ok");
    assert!(gateway.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_or_is_away_is_named_without_its_password() {
    let refusal =
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let refusing = Gateway::start(String::new(), Some(refusal)).address;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = listener.local_addr().unwrap().to_string();
    drop(listener);
    let failing = Gateway::start(String::new(), Some("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")).address;
    for (address, kind, hint) in [
        (refusing, Kind::Denied, "the proxy wants a login"),
        (away, Kind::Unavailable, "NO_PROXY"),
        (failing, Kind::Unavailable, "NO_PROXY"),
    ] {
        let named = format!("http://gate:keeper-secret@{address}");
        let proxies = proxies(&[("HTTPS_PROXY", named)]);
        let client = Client::new(ClientOptions { allow_plain_http: false, proxies, ..options() }).unwrap();
        let error = ask(&client, "registry.test").await.unwrap_err();
        let told = format!("{} {error:?}", error.chain());
        assert_eq!(error.kind(), kind, "{told}");
        assert!(told.contains(&format!("by way of proxy {address} (HTTPS_PROXY)")), "{told}");
        assert!(error.hint_text().unwrap().contains(hint) && !told.contains("keeper-secret"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_reads_the_variables_and_shows_nothing_of_them() {
    let (person, authority) = (Person::new(), Authority::new());
    let server = tls_server_named(&authority, "registry.test", Plain::Alert, false, |_| OK.to_owned());
    let gateway = Gateway::start(server, None);
    person.write("ca.pem", &authority.pem());
    let ca = person.path("ca.pem");
    let arguments = ["registry", "login", "registry.test", "-u", USER, "--password-stdin", "-vv", "--ca-file"];
    let login = async |value: String| {
        let mut command = person.command(&arguments);
        command.arg(&ca).env("https_proxy", value);
        super::piped(command, PASSWORD).await
    };
    let done = login(format!("http://gate:keeper-secret@{}", gateway.address)).await;
    assert_code(&done, 0);
    assert!(gateway.heads()[0].starts_with("CONNECT registry.test:443"));
    assert!(
        !text(&done).contains("keeper-secret") && !text(&done).contains("Z2F0ZTprZWVwZXItc2VjcmV0"),
        "{}",
        text(&done)
    );
    let done = login("ftp://gate:keeper-secret@x".to_owned()).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("https_proxy") && !text(&done).contains("keeper-secret"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_authorities_works_with_one_that_is_named_and_with_plain_http() {
    let (person, authority) = (Person::new(), Authority::new());
    let tls = tls_server(&authority, Plain::Alert, false, OK);
    let plain = Server::start(|_: &Asked| answer(200, &[], "{}")).await;
    person.write("ca.pem", &authority.pem());
    let ca = person.path("ca.pem");
    let login = async |host: &str, more: &[&str]| {
        let fixed = ["registry", "login", host, "-u", USER, "--password-stdin"];
        let mut command = person.command(&[&fixed, more].concat());
        command.env("SSL_CERT_FILE", "/nonexistent/ca.pem").env("SSL_CERT_DIR", "/nonexistent");
        super::piped(command, PASSWORD).await
    };
    assert_code(&login(&tls, &["--ca-file", ca.to_str().unwrap()]).await, 0);
    assert_code(&login(&plain.host, &["--allow-insecure-registry"]).await, 0);
    // The built-in Mozilla roots do not include this CA.
    let folder = person.path("certs.d").join(&tls);
    std::fs::create_dir_all(&folder).unwrap();
    let done = login(&tls, &["--cert-dir", person.path("certs.d").to_str().unwrap()]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("does not verify"), "{}", text(&done));
}

/// A registry on TLS that requires a token, and its token service, each with a CA of its own.
fn pair(wants_client: bool) -> (Authority, String, Authority, String) {
    let (outer, inner) = (Authority::new(), Authority::new());
    let token = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}";
    let realm = tls_server(&inner, Plain::Alert, wants_client, token);
    let at = realm.clone();
    let registry = tls_server_named(&outer, "127.0.0.1", Plain::Alert, false, move |head| {
        if head.to_lowercase().contains("authorization: bearer t\r\n") {
            return OK.to_owned();
        }
        format!(
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer realm=\"https://{at}/token\"\r\n\r\n"
        )
    });
    (outer, registry, inner, realm)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_tls_on_this_machine_is_found_by_a_request_whose_answer_has_no_text() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    let head = Request::new(Method::HEAD, "/v2/a/x", "find", "it");
    for plain in [Plain::Explains, Plain::Alert] {
        let host = tls_server(&authority, plain, false, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let client = Client::new(ClientOptions { ca_file: Some(dir.path().join("ca.pem")), ..options() }).unwrap();
        assert_eq!(client.host(&host, "a").send(&head).await.unwrap().status(), 200);
    }
    // A 400 from a server without TLS is returned unchanged.
    let refusing = Server::start(|_: &Asked| crate::kit::wire_server::status(400)).await;
    let refused = crate::kit::wire_server::client().host(&refusing.host, "a").send(&head).await.unwrap();
    assert_eq!(refused.status(), 400);
}

fn trust(certs: &std::path::Path, host: &str, authority: &Authority) {
    std::fs::create_dir_all(certs.join(host)).unwrap();
    std::fs::write(certs.join(host).join("ca.crt"), authority.pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_is_trusted_by_its_own_folder_the_token_service_too() {
    let dir = tempfile::tempdir().unwrap();
    let (outer, registry, inner, realm) = pair(false);
    trust(dir.path(), &registry, &outer);
    let options = ClientOptions { cert_dir: Some(dir.path().to_owned()), allow_plain_http: false, ..options() };
    let error = ask(&Client::new(options.clone()).unwrap(), &registry).await.unwrap_err();
    assert!(error.chain().contains("does not verify"), "the registry's authority is not the token service's");
    trust(dir.path(), &realm, &inner);
    assert_eq!(ask(&Client::new(options).unwrap(), &registry).await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_its_host_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (outer, registry, inner, realm) = pair(true);
    trust(dir.path(), &registry, &outer);
    trust(dir.path(), &realm, &inner);
    let (certificate, key) = inner.sign("client");
    let put = |host: &str| {
        std::fs::write(dir.path().join(host).join("client.cert"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join(host).join("client.key"), key.serialize_pem()).unwrap();
    };
    put(&registry);
    let options = ClientOptions { cert_dir: Some(dir.path().to_owned()), allow_plain_http: false, ..options() };
    let error = ask(&Client::new(options.clone()).unwrap(), &registry).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Denied | Kind::Unavailable), "{}", error.chain());
    put(&realm);
    assert_eq!(ask(&Client::new(options.clone()).unwrap(), &registry).await.unwrap(), "ok");

    // The error names a key that belongs to another certificate, and no request is sent.
    let (_, other) = inner.sign("other");
    std::fs::write(dir.path().join(&registry).join("client.key"), other.serialize_pem()).unwrap();
    let error = ask(&Client::new(options).unwrap(), &registry).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.chain().contains("client.key"), "{}", error.chain());
}
