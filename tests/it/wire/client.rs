//! The HTTP layer against servers that answer by script: schemes, TLS, logins, redirects.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, io};

use autonomy_registry::error::Kind;
use autonomy_registry::wire::{Client, ClientOptions};
use bytes::Bytes;
use futures_util::stream;

use crate::kit::wire_server::{Asked, Authority, Plain, Server, answer, client, get, options, status, tls_server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn ask(client: &Client, host: &str) -> autonomy_registry::Result<String> {
    let answer = client.host(host, "a").send(&get("/v2/a/x?secret=query")).await?.expect(&[200]).await?;
    Ok(String::from_utf8(answer.bytes(100).await?.to_vec()).unwrap())
}

/// Options that trust `authority`.
fn trusting(authority: &Authority, dir: &tempfile::TempDir, allow_plain_http: bool) -> ClientOptions {
    let path = dir.path().join("ca.pem");
    fs::write(&path, authority.pem()).unwrap();
    ClientOptions { ca_file: Some(path), allow_plain_http, ..options() }
}

fn logged_in(server: &str, entry: &str, dir: &tempfile::TempDir) -> Client {
    let path = dir.path().join("auth.json");
    fs::write(&path, format!(r#"{{"auths":{{"{server}":{entry}}}}}"#)).unwrap();
    Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap()
}

fn bearer(realm: &str) -> String {
    format!(r#"Bearer realm="{realm}",service="s.example",scope="repository:a:pull""#)
}

#[tokio::test]
async fn plain_http_needs_the_flag_and_no_request_is_sent_without_it() {
    let strict = Client::new(ClientOptions { allow_plain_http: false, ..options() }).unwrap();
    let server = Server::start(|_: &Asked| answer(200, &[], "ok")).await;
    let error = ask(&strict, &server.host).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.chain().contains("plain-HTTP registry refused"), "{}", error.chain());
    assert!(error.chain().contains("--allow-insecure-registry"), "{}", error.chain());
    assert!(server.lines().is_empty(), "somebody has asked");

    assert_eq!(ask(&client(), &server.host).await.unwrap(), "ok");
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_host_that_turns_out_to_speak_plain_http_is_refused_alike() {
    let server = Server::start(|_: &Asked| answer(200, &[], "ok")).await;
    let dir = tempfile::tempdir().unwrap();
    let strict = Client::new(trusting(&Authority::new(), &dir, false)).unwrap();
    let error = ask(&strict, &server.host).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.chain().contains("plain-HTTP registry refused"), "{}", error.chain());
    assert!(server.lines().is_empty());
}

#[tokio::test]
async fn a_certificate_is_accepted_only_from_an_authority_that_is_trusted() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let host = tls_server(&authority, Plain::Alert, false, OK);
    let trusting_client = Client::new(trusting(&authority, &dir, false)).unwrap();
    assert_eq!(ask(&trusting_client, &host).await.unwrap(), "ok");

    // Neither another CA nor permission for plain HTTP excuses it.
    for allow_plain_http in [false, true] {
        let other = Client::new(trusting(&Authority::new(), &dir, allow_plain_http)).unwrap();
        let error = ask(&other, &host).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{}", error.chain());
        assert!(error.hint_text().unwrap_or_default().contains("--ca-file"), "{error:?}");
    }
}

#[tokio::test]
async fn a_registry_on_this_machine_may_speak_tls_even_if_plain_http_is_permitted() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    for plain in [Plain::Alert, Plain::Explains] {
        let host = tls_server(&authority, plain, false, OK);
        let client = Client::new(trusting(&authority, &dir, true)).unwrap();
        assert_eq!(ask(&client, &host).await.unwrap(), "ok");
        let requests = client.tally()[&host].requests;
        assert_eq!(ask(&client, &host).await.unwrap(), "ok");
        assert_eq!(client.tally()[&host].requests, requests + 1, "the answer is remembered");
    }
}

#[tokio::test]
async fn a_client_certificate_comes_from_the_hosts_folder() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let host = tls_server(&authority, Plain::Alert, true, OK);
    let folder = dir.path().join("certs.d").join(&host);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    let options = ClientOptions { cert_dir: Some(dir.path().join("certs.d")), allow_plain_http: false, ..options() };

    let error = ask(&Client::new(options.clone()).unwrap(), &host).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Denied | Kind::Unavailable), "{}", error.chain());
    let (certificate, key) = authority.sign("client");
    fs::write(folder.join("client.cert"), certificate.pem()).unwrap();
    fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    assert_eq!(ask(&Client::new(options).unwrap(), &host).await.unwrap(), "ok");
}

/// A registry that wants a bearer token, and its token service, in one. Tokens are numbered.
async fn guarded(accepts: fn(&str) -> bool) -> Server {
    let issued = Arc::new(AtomicU32::new(0));
    Server::start(move |asked: &Asked| {
        let host = asked.header("host").unwrap();
        if asked.is("GET /token") || asked.is("POST /token") {
            let number = issued.fetch_add(1, Ordering::Relaxed) + 1;
            return answer(200, &[], format!(r#"{{"token":"t{number}","expires_in":3600}}"#));
        }
        match asked.header("authorization").and_then(|login| login.strip_prefix("Bearer ")) {
            Some(token) if accepts(token) => answer(200, &[], "ok"),
            _ => answer(401, &[("www-authenticate", &bearer(&format!("http://{host}/token")))], "{}"),
        }
    })
    .await
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_and_then_sent_at_once() {
    let server = guarded(|_| true).await;
    let client = client();
    let parallel = (0..16).map(|_| {
        let (client, host) = (client.clone(), server.host.clone());
        tokio::spawn(async move { ask(&client, &host).await })
    });
    for task in parallel.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().unwrap(), "ok");
    }
    let asked = server.asked();
    let tokens = asked.iter().filter(|asked| asked.is("GET /token")).count();
    assert_eq!((tokens, asked.len()), (1, 18), "one refusal, one token, sixteen answers");
    assert_eq!(asked[1].line, "GET /token?service=s.example&scope=repository%3Aa%3Apull");
    assert_eq!(asked[1].header("authorization"), None);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let server = guarded(|token| token != "t1").await;
    let (client, dir) = (client(), tempfile::tempdir().unwrap());
    // The first token is refused: this is final, since the token is fresh.
    let error = ask(&client, &server.host).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hint_text().unwrap().contains("docker login"), "{error:?}");
    assert_eq!(server.lines().len(), 3);
    // The next request carries it, is refused, and gets another.
    assert_eq!(ask(&client, &server.host).await.unwrap(), "ok");
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("GET /token")).count(), 1, "{lines:?}");
    assert_eq!(lines.len(), 3);
    drop(dir);
}

#[tokio::test]
async fn passwords_and_identity_tokens_go_to_the_token_service_alone() {
    let server = guarded(|_| true).await;
    let dir = tempfile::tempdir().unwrap();
    let client = logged_in(&server.host, r#"{"auth":"dTpw"}"#, &dir);
    assert_eq!(ask(&client, &server.host).await.unwrap(), "ok");
    let asked = server.asked();
    assert_eq!(asked[1].header("authorization"), Some("Basic dTpw"));
    assert!(asked[1].line.ends_with("&account=u"), "{}", asked[1].line);
    assert_eq!(asked[2].header("authorization"), Some("Bearer t1"));

    let client = logged_in(&server.host, r#"{"identitytoken":"refresh me"}"#, &dir);
    assert_eq!(ask(&client, &server.host).await.unwrap(), "ok");
    let asked = server.asked();
    assert_eq!(asked[1].line, "POST /token");
    let form = String::from_utf8(asked[1].body.to_vec()).unwrap();
    assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=refresh+me"), "{form}");
}

#[tokio::test]
async fn basic_logins_are_sent_after_the_first_refusal() {
    let server = Server::start(|asked: &Asked| match asked.header("authorization") {
        Some("Basic dTpw") => answer(200, &[], "ok"),
        _ => answer(401, &[("www-authenticate", r#"Basic realm="x""#)], "no"),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let client = logged_in(&server.host, r#"{"auth":"dTpw"}"#, &dir);
    for requests in [2, 1, 1] {
        assert_eq!(ask(&client, &server.host).await.unwrap(), "ok");
        assert_eq!(server.lines().len(), requests);
    }
    let wrong = logged_in(&server.host, r#"{"username":"u","password":"secret"}"#, &dir);
    let error = ask(&wrong, &server.host).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Denied, 2));
    let told = format!("{} {:?}", error.chain(), error.hint_text());
    assert!(told.contains("auth.json") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn no_password_goes_to_a_plain_token_service_of_a_registry_with_tls() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\
                   WWW-Authenticate: Bearer realm=\"http://127.0.0.1:9/token\"\r\n\r\n";
    let host = tls_server(&authority, Plain::Alert, false, refusal);
    let error = ask(&Client::new(trusting(&authority, &dir, true)).unwrap(), &host).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.chain().contains("plain HTTP"), "{}", error.chain());
}

#[tokio::test]
async fn redirects_are_followed_without_the_login_and_not_for_ever() {
    let other = Server::start(|_: &Asked| answer(200, &[], "ok")).await;
    let to = format!("http://{}/elsewhere", other.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) if asked.is("GET /loop") => answer(302, &[("location", "/loop")], ""),
        Some(_) => answer(307, &[("location", &to)], "moved"),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let client = logged_in(&server.host, r#"{"auth":"dTpw"}"#, &dir);
    assert_eq!(ask(&client, &server.host).await.unwrap(), "ok");
    let asked = other.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), None, "the login left its host");

    server.asked();
    let error = client.host(&server.host, "a").send(&get("/loop")).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Limit, 6));
}

#[tokio::test]
async fn a_redirect_from_tls_to_plain_http_is_not_followed() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let moved = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://127.0.0.2:9/x\r\n\r\n";
    let host = tls_server(&authority, Plain::Alert, false, moved);
    let error = ask(&Client::new(trusting(&authority, &dir, true)).unwrap(), &host).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("plain HTTP"), "{}", error.chain());
}

#[tokio::test]
async fn an_absent_host_is_tried_a_few_times() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = client();
    let handle = client.host(&host, "a");
    let error = handle
        .retrying(autonomy_registry::retry::Retry::transient, || async { handle.send(&get("/")).await })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.chain().ends_with("connection refused"), "{}", error.chain());
    assert!((3..20).contains(&handle.tally().requests), "{} requests", handle.tally().requests);
}

#[tokio::test]
async fn a_body_over_its_bound_is_not_read() {
    // Announced, and never sent: the announcement is enough.
    let announced = Server::start(|_: &Asked| {
        answer(
            200,
            &[("content-length", "1000")],
            axum::body::Body::from_stream(stream::pending::<io::Result<Bytes>>()),
        )
    })
    .await;
    // Not announced, and endless.
    let endless = Server::start(|_: &Asked| {
        answer(
            200,
            &[],
            axum::body::Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[0; 64])))),
        )
    })
    .await;
    for server in [announced, endless] {
        let asked = tokio::time::timeout(Duration::from_secs(10), async { ask(&client(), &server.host).await });
        assert_eq!(asked.await.unwrap().unwrap_err().kind(), Kind::Limit);
    }
}

#[tokio::test]
async fn errors_show_neither_queries_nor_logins() {
    let server = Server::start(|asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) => status(403),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let client = logged_in(&server.host, r#"{"auth":"dTpw"}"#, &dir);
    let error = ask(&client, &server.host).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!error.chain().contains("secret") && !format!("{error:?}").contains("dTpw"), "{error:?}");
}
