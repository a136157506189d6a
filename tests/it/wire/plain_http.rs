//! Plain HTTP: when the client uses it, and which hosts get credentials over it.
//!
//! A host other than this machine is behind a proxy here, which sends every name to a server of the test.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use autonomy_registry::error::Kind;
use autonomy_registry::wire::{Client, ClientOptions, Proxies};

use crate::kit::wire_server::{Asked, Authority, Plain, Server, answer, ask, options, status, tls_server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PACKED: &str = "dTpw";

/// A registry in plain HTTP that requires a password.
async fn basic() -> Server {
    Server::start(|asked: &Asked| match asked.header("authorization") {
        Some("Basic dTpw") => answer(200, &[], "ok"),
        _ => answer(401, &[("www-authenticate", "Basic")], "no"),
    })
    .await
}

/// A proxy that sends every name to `target`, through a tunnel or not.
fn leading_to(target: &str) -> Proxies {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, target) = (listener.local_addr().unwrap(), target.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, target) = (stream.unwrap(), target.clone());
            std::thread::spawn(move || pass(stream, &target));
        }
    });
    Proxies::of(move |name| {
        name.ends_with("_PROXY").then(|| format!("http://{address}")).filter(|_| name != "NO_PROXY")
    })
}

fn pass(mut stream: TcpStream, target: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let mut onward = TcpStream::connect(target).unwrap();
    if head.starts_with(b"CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        onward.write_all(&head).unwrap();
    }
    let (mut back, mut from) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut stream, &mut onward);
    let _ = onward.shutdown(std::net::Shutdown::Write);
}

/// Logins for hosts of that name, at any port.
fn logins(dir: &Path, hosts: &[&str], entry: &str) -> ClientOptions {
    let path = dir.join("auth.json");
    let entries: Vec<_> = hosts.iter().map(|host| format!("\"{host}\":{entry}")).collect();
    std::fs::write(&path, format!("{{\"auths\":{{{}}}}}", entries.join(","))).unwrap();
    ClientOptions { authfile: Some(path), ..options() }
}

fn password(dir: &Path, hosts: &[&str]) -> ClientOptions {
    logins(dir, hosts, &format!("{{\"auth\":\"{PACKED}\"}}"))
}

fn named(options: ClientOptions, hosts: &[&str]) -> ClientOptions {
    let plain_http_hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    ClientOptions { allow_plain_http: false, plain_http_hosts, ..options }
}

/// Whether any request carried a login.
fn was_shown_a_login(server: &Server) -> bool {
    server.asked().iter().any(|asked| asked.header("authorization").is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_over_plain_http_only_to_this_machine_and_to_hosts_that_were_named() {
    let (server, dir) = (basic().await, tempfile::tempdir().unwrap());
    let host = "r.test:5000";
    let local = password(dir.path(), &[&server.host]);
    assert_eq!(ask(&Client::new(local).unwrap(), &server.host).await.unwrap(), "ok");
    server.asked();
    let away = || ClientOptions { proxies: leading_to(&server.host), ..password(dir.path(), &[host]) };

    let error = ask(&Client::new(away()).unwrap(), host).await.unwrap_err();
    let told = format!("{} {}", error.chain(), error.hint_text().unwrap_or_default());
    assert_eq!(error.kind(), Kind::Denied, "{told}");
    assert!(told.contains("no credentials are sent over plain HTTP"), "{told}");
    assert!(told.contains("--allow-insecure-registry=r.test:5000"), "{told}");
    assert!(!was_shown_a_login(&server), "the password went to a host that nobody has named");

    for name in ["r.test", "R.TEST:5000"] {
        assert_eq!(ask(&Client::new(named(away(), &[name])).unwrap(), host).await.unwrap(), "ok", "{name}");
    }
    server.asked();
    let error = ask(&Client::new(named(away(), &["r.test:5001", "test"])).unwrap(), host).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.chain().contains("plain-HTTP registry refused"), "{}", error.chain());
    assert!(server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_host_that_was_not_named_gets_a_token_for_everybody_and_none_for_our_password() {
    for entry in [r#"{"auth":"dTpw"}"#, r#"{"identitytoken":"refresh"}"#, r#"{"registrytoken":"ours"}"#] {
        let server = Server::start(|asked: &Asked| {
            let realm = format!("http://{}/token", asked.header("host").unwrap());
            match asked.header("authorization") {
                _ if asked.line.contains("/token") && asked.is("GET") => answer(200, &[], r#"{"token":"anybodys"}"#),
                Some("Bearer anybodys") => answer(200, &[], "ok"),
                _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], ""),
            }
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let options =
            ClientOptions { proxies: leading_to(&server.host), ..logins(dir.path(), &["r.test:5000"], entry) };
        assert_eq!(ask(&Client::new(options.clone()).unwrap(), "r.test:5000").await.unwrap(), "ok");
        let asked = server.asked();
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert!(asked[1].is("GET") && asked[1].header("authorization").is_none(), "{:?}", asked[1]);
        // A named host gets credentials like every other host.
        let _ = ask(&Client::new(named(options, &["r.test"])).unwrap(), "r.test:5000").await;
        let told = format!("{:?}", server.asked());
        assert!(["Basic dTpw", "POST", "Bearer ours"].iter().any(|shown| told.contains(shown)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_in_plain_http_must_have_been_named_as_well() {
    let realm = Server::start(|_: &Asked| status(401)).await;
    let server = Server::start(|_: &Asked| {
        answer(401, &[("www-authenticate", "Bearer realm=\"http://tokens.test:80/token\"")], "")
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let options = ClientOptions { proxies: leading_to(&realm.host), ..password(dir.path(), &[&server.host]) };
    let error = ask(&Client::new(options).unwrap(), &server.host).await.unwrap_err();
    assert!(error.hint_text().unwrap_or_default().contains("--allow-insecure-registry=tokens.test"), "{error:?}");
    assert!(!was_shown_a_login(&realm));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_files_for_tls_is_never_spoken_to_in_plain_http() {
    let (server, dir) = (basic().await, tempfile::tempdir().unwrap());
    let certs = dir.path().join("certs.d");
    std::fs::create_dir_all(certs.join(&server.host)).unwrap();
    let options = ClientOptions { cert_dir: Some(certs.clone()), ..password(dir.path(), &[&server.host]) };
    assert_eq!(ask(&Client::new(options.clone()).unwrap(), &server.host).await.unwrap(), "ok", "an empty folder");
    server.asked();
    std::fs::write(certs.join(&server.host).join("ca.crt"), Authority::new().pem()).unwrap();
    for options in [options.clone(), named(options, &["127.0.0.1"])] {
        let error = ask(&Client::new(options).unwrap(), &server.host).await.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.chain().contains("certs.d"), "{}", error.chain());
        assert!(server.asked().is_empty(), "something was sent");
    }
}

/// A host that speaks TLS, well or badly, until the test switches it to plain HTTP.
fn turncoat(tls: String, plain: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let turned = Arc::new(AtomicUsize::new(0));
    let is_turned = Arc::clone(&turned);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let onward = if is_turned.load(Ordering::SeqCst) == 0 { &tls } else { &plain };
            let (mut stream, mut onward) = (stream.unwrap(), TcpStream::connect(onward).unwrap());
            let (mut back, mut from) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            std::thread::spawn(move || std::io::copy(&mut stream, &mut onward));
        }
    });
    (host, turned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_spoken_tls_in_this_run_is_never_spoken_to_in_plain_http() {
    let (plain, dir) = (basic().await, tempfile::tempdir().unwrap());
    // The certificate does not verify, but the host has spoken TLS.
    let (host, turned) = turncoat(tls_server(&Authority::new(), Plain::Alert, false, OK), plain.host.clone());
    let client = Client::new(password(dir.path(), &[&host])).unwrap();
    assert!(ask(&client, &host).await.unwrap_err().chain().contains("does not verify"));
    turned.store(1, Ordering::SeqCst);
    let error = ask(&client, &host).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("has spoken before"), "{}", error.chain());
    assert!(plain.asked().is_empty());
}

/// A server that speaks plain HTTP and answers a TLS hello in its own way.
fn odd(to_hello: fn(&mut TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    if piece[0] == 0x16 {
                        return to_hello(&mut stream);
                    }
                    if piece[..count].ends_with(b"\r\n\r\n") {
                        stream.write_all(OK.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    host
}

fn hang_up(_: &mut TcpStream) {}

fn stay_silent(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 64]);
}

fn speak_something_else(stream: &mut TcpStream) {
    let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_is_not_answered_counts_as_plain_http_where_that_is_expected() {
    let (closing, silent) = (odd(hang_up), odd(stay_silent));
    let client = Client::new(options()).unwrap();
    let both = tokio::join!(ask(&client, &closing), ask(&client, &silent));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!(client.tally()[&closing].requests, 1, "a hello is no request");

    let away = ClientOptions { proxies: leading_to(&closing), ..options() };
    assert_eq!(ask(&Client::new(named(away.clone(), &["r.test"])).unwrap(), "r.test:80").await.unwrap(), "ok");
    // On other hosts, an attacker in the path could hang up.
    let error = ask(&Client::new(away).unwrap(), "r.test:80").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn that_plain_http_is_refused_is_said_only_of_a_host_that_has_spoken_it() {
    let strict = || Client::new(ClientOptions { allow_plain_http: false, ..options() }).unwrap();
    let plain = Server::start(|_: &Asked| answer(200, &[], "ok")).await;
    let error = ask(&strict(), &plain.host).await.unwrap_err();
    assert!(error.kind() == Kind::Usage && error.chain().contains("plain-HTTP registry refused"), "{}", error.chain());
    assert!(plain.asked().is_empty(), "a request was sent");
    for odd in [odd(hang_up), odd(speak_something_else)] {
        let error = ask(&strict(), &odd).await.unwrap_err();
        assert!(error.kind() != Kind::Usage && !error.chain().contains("refused"), "{}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_takes_hosts_on_every_command_and_yes_and_no() {
    let server = basic().await;
    let login = |flag: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
        command.args(["registry", "login", &server.host, "-u", "u", "--password-stdin", flag, "--authfile"]);
        command.arg(dir.path().join("auth.json")).env_clear().env("HOME", dir.path());
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        async move {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // A program that does not read has closed its end.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, b"p").await;
            drop(stdin);
            let done = child.wait_with_output().await.unwrap();
            drop(dir);
            (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
        }
    };
    for flag in ["", "=true", "=127.0.0.1", "=other.example,127.0.0.1"] {
        let (code, told) = login(&format!("--allow-insecure-registry{flag}")).await;
        assert_eq!(code, 0, "{flag}: {told}");
    }
    for flag in ["=false", "=other.example", "=127.0.0.1:1"] {
        let (code, told) = login(&format!("--allow-insecure-registry{flag}")).await;
        assert!(code == 2 && told.contains("plain-HTTP registry refused"), "{flag}: {code} {told}");
    }
    for flag in ["=", "=http://127.0.0.1", "=a/b"] {
        let (code, told) = login(&format!("--allow-insecure-registry{flag}")).await;
        assert!(code == 2 && !told.contains("plain-HTTP"), "{flag}: {code} {told}");
    }
    for command in [
        &["registry", "seed"][..],
        &["registry", "seed-catalog"],
        &["registry", "sync"],
        &["registry", "rollback"],
        &["registry", "publish-index"],
        &["bundle", "verify"],
        &["bundle", "seal"],
    ] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
        let done = program.args(command).args(["--allow-insecure-registry=u@x"]).output().unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && told.contains("is not a host or host:port"), "{command:?}: {told}");
    }
}
