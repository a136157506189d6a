//! Allowed and forbidden destinations of secrets: one test for each rule of the design.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::store::{Body, Put, Registry, Role, Store as _};
use autonomy_registry::wire::{Client, ClientOptions, Request};
use http::Method;

use super::{PASSWORD, Person, USER, auths, basic, bearer, guarded, open_source};
use crate::kit::command::{assert_code, text};
use crate::kit::files::files_below;
use crate::kit::wire_server::{Asked, Server, answer, get, options, status};

/// `robot:correct:horse`.
const PACKED: &str = "cm9ib3Q6Y29ycmVjdDpob3JzZQ==";

/// Runs of hexadecimal digits as long as a token of the test bed; digests are longer, their short form shorter.
fn tokens(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == 48).collect()
}

fn assert_silent(name: &str, text: &str) {
    for secret in [PASSWORD, PACKED, "horse", "Bearer ", "Basic "] {
        assert!(!text.contains(secret), "{name} holds {secret:?}: {text}");
    }
    assert_eq!(tokens(text), Vec::<&str>::new(), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_no_event_no_error_and_no_file_holds_a_secret() {
    let (open, person) = (open_source().await, Person::new());
    let (first, second) = (guarded(basic()).await, guarded(bearer(Duration::from_secs(300))).await);
    person.write("auth.json", &auths(&[(first.host(), PACKED), (second.host(), PACKED)]));
    let authfile = person.path("auth.json");
    let more = ["--authfile", authfile.to_str().unwrap(), "-vv", "--progress", "json", "--output", "json"];
    let reference = |bed: &autonomy_registry::serve::testkit::Testbed| format!("{}/app:v1", bed.host());
    // Basic to Basic, then to Bearer: both are read from and written to.
    for (from, to) in [(&open, &first), (&first, &second)] {
        let done = person.seed(&reference(from), &reference(to), &more).await;
        assert_code(&done, 0);
        assert!(text(&done).contains("TRACE"), "the log was asked for");
        assert_silent("the output", &text(&done));
    }
    // The output names refused credentials, but does not show them.
    person.write(
        "wrong.json",
        &auths(&[(first.host(), "cm9ib3Q6d3JvbmctaG9yc2U="), (second.host(), "cm9ib3Q6d3JvbmctaG9yc2U=")]),
    );
    let wrong = person.path("wrong.json");
    for to in [&first, &second] {
        let flags = ["--authfile", wrong.to_str().unwrap(), "-vv", "--progress", "json", "--output", "json"];
        let done = person.seed(&reference(&open), &format!("{}/other:v1", to.host()), &flags).await;
        assert_code(&done, 4);
        assert_silent("a refusal", &text(&done));
        assert!(!text(&done).contains("cm9ib3Q6d3Jvbmct"), "{}", text(&done));
    }
    let done = person.login(second.host(), PASSWORD, &["-vv", "--output", "json"]).await;
    assert_code(&done, 0);
    assert_silent("the login", &text(&done));
    let written = files_below(&person.path("out"), "");
    assert!(written.len() >= 2, "{written:?}");
    for path in written {
        assert_silent(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
    }
}

/// A client that knows one host.
fn knowing(host: &str, entry: &serde_json::Value, dir: &tempfile::TempDir) -> Client {
    let path = dir.path().join("auth.json");
    std::fs::write(&path, serde_json::json!({"auths": {host: entry}}).to_string()).unwrap();
    Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap()
}

fn password() -> serde_json::Value {
    serde_json::json!({"username": USER, "password": PASSWORD})
}

fn challenge(realm: &str) -> String {
    format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a:pull\"")
}

#[tokio::test]
async fn a_token_service_that_leads_elsewhere_does_not_take_the_login_along() {
    let elsewhere = Server::start(|_: &Asked| answer(200, &[], r#"{"token":"theirs"}"#)).await;
    let to = format!("http://{}/token", elsewhere.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        _ if asked.is("GET /token") || asked.is("POST /token") => answer(307, &[("location", &to)], ""),
        Some("Bearer theirs") => answer(200, &[], "ok"),
        _ => answer(
            401,
            &[("www-authenticate", &challenge(&format!("http://{}/token", asked.header("host").unwrap())))],
            "",
        ),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let answer = knowing(&server.host, &password(), &dir).host(&server.host, "a").send(&get("/x")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let asked = elsewhere.asked();
    assert!(asked.len() == 1 && asked[0].header("authorization").is_none(), "{asked:?}");
    // An identity token is in the body, which a redirect would forward: the redirect is not followed.
    let identity = serde_json::json!({"identitytoken": "refresh"});
    let error = knowing(&server.host, &identity, &dir).host(&server.host, "a").send(&get("/x")).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("another host"), "{}", error.chain());
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_challenge_from_a_place_that_was_redirected_to_is_not_met() {
    let greedy = Server::start(|_: &Asked| answer(401, &[("www-authenticate", "Basic")], "")).await;
    let to = format!("http://{}/blob", greedy.host);
    let server = Server::start(move |_: &Asked| answer(307, &[("location", &to)], "")).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    let entries = [(server.host.as_str(), PACKED), (greedy.host.as_str(), PACKED)];
    std::fs::write(&path, auths(&entries)).unwrap();
    let client = Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap();
    let answer = client.host(&server.host, "a").send(&get("/x")).await.unwrap();
    assert_eq!(answer.status(), 401);
    let asked = greedy.asked();
    assert!(asked.len() == 1 && asked[0].header("authorization").is_none(), "{asked:?}");
}

#[tokio::test]
async fn an_upload_that_goes_on_elsewhere_goes_without_the_login() {
    let elsewhere = Server::start(|_: &Asked| status(201)).await;
    let server = Server::start(|asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) => status(202),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let client = knowing(&server.host, &password(), &dir);
    let host = client.host(&server.host, "a");
    assert_eq!(host.send(&get("/x")).await.unwrap().status(), 202);
    for place in [
        format!("http://{}/upload", elsewhere.host),
        format!("http://localhost:{}/", server.host.split(':').nth(1).unwrap()),
    ] {
        let request = Request::at(Method::PUT, place.parse().unwrap(), "put", "it");
        let _ = host.send(&request).await;
    }
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_none()));
    // The same machine under another name is another host.
    let asked = server.asked();
    assert!(
        asked.iter().filter(|asked| asked.is("PUT")).all(|asked| asked.header("authorization").is_none()),
        "{asked:?}"
    );
    assert_eq!(asked.iter().filter(|asked| asked.is("PUT")).count(), 1);
}

#[tokio::test]
async fn an_upload_that_was_led_to_where_it_is_not_known_begins_anew_at_home_with_the_login() {
    let elsewhere = Server::start(|_: &Asked| status(404)).await;
    let (place, sessions) = (format!("http://{}/upload", elsewhere.host), Arc::new(AtomicU32::new(0)));
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) if asked.is("POST") => {
            let session = sessions.fetch_add(1, Ordering::Relaxed);
            answer(202, &[("location", &format!("/session/{session}"))], "")
        }
        Some(_) if asked.is("PUT /session/0") => answer(307, &[("location", &place)], ""),
        Some(_) => status(201),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let client = knowing(&server.host, &password(), &dir);
    let node = Descriptor::of(MediaType::OCI_LAYER, b"layer");
    let sink = Registry::new(&client, &server.repository("a/b"), Role::Sink);
    assert_eq!(sink.put(&node, &Body::bytes(node.clone(), &b"layer"[..]), &[]).await.unwrap(), Put::Sent(5));
    client.settle(Duration::from_secs(5)).await;
    let led = elsewhere.asked();
    assert!(led.len() == 1 && led[0].is("PUT /upload") && led[0].header("authorization").is_none(), "{led:?}");
    let asked = server.asked();
    let puts: Vec<_> = asked.iter().filter(|asked| asked.is("PUT")).map(|asked| &asked.body[..]).collect();
    assert_eq!(puts, [b"layer", b"layer"], "whole each time");
    // One upload is refused, since no login was requested before; two sessions, and the first is cancelled.
    let number = |start: &str| asked.iter().filter(|asked| asked.is(start)).count();
    assert_eq!([number("POST"), number("PUT"), number("DELETE /session/0"), asked.len()], [3, 2, 1, 6], "{asked:?}");
}

#[tokio::test]
async fn addresses_that_bring_a_login_along_and_realms_that_are_none_are_refused() {
    for (realm, says) in [
        ("http://u:secret@127.0.0.1:9/token", "names no token service"),
        ("file:///etc/passwd", "names no token service"),
        ("/token", "names no token service"),
        ("", "names no token service"),
    ] {
        let server = Server::start(move |_: &Asked| answer(401, &[("www-authenticate", &challenge(realm))], "")).await;
        let dir = tempfile::tempdir().unwrap();
        let error =
            knowing(&server.host, &password(), &dir).host(&server.host, "a").send(&get("/x")).await.unwrap_err();
        let told = format!("{} {error:?}", error.chain());
        assert!(error.kind() == Kind::Invalid && told.contains(says) && !told.contains("secret"), "{told}");
        assert_eq!(server.asked().len(), 1, "{realm}");
    }
    let server = Server::start(|_: &Asked| answer(307, &[("location", "http://u:secret@127.0.0.1:9/")], "")).await;
    let error = crate::kit::wire_server::client().host(&server.host, "a").send(&get("/x")).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && !format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_host_on_another_port_or_below_another_name_is_not_known() {
    let server = Server::start(|asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) => answer(200, &[], ""),
    })
    .await;
    let port = server.host.split(':').nth(1).unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let client = knowing(&server.host, &password(), &dir);
    for (name, expected) in [(server.host.clone(), 200), (format!("localhost:{port}"), 401)] {
        assert_eq!(client.host(&name, "a").send(&get("/x")).await.unwrap().status(), expected, "{name}");
    }
}
