//! Redirects and Locations to other places: what the request carries there, and forbidden targets.

use std::sync::{Arc, Mutex};

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::store::{Body, Put, Registry, Role, Store};
use autonomy_registry::wire::{Client, ClientOptions, Request, Scopes};
use http::Method;

use crate::kit::wire_server::{Asked, Server, answer, client, options, status};

/// A client that has a password for `host`.
fn knowing(host: &str, dir: &tempfile::TempDir) -> Client {
    let path = dir.path().join("auth.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{host}":{{"auth":"dTpw"}}}}}}"#)).unwrap();
    Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap()
}

async fn put(client: &Client, server: &Server, bytes: &'static [u8]) -> autonomy_registry::Result<Put> {
    let node = Descriptor::of(MediaType::OCI_LAYER, bytes);
    let sink = Registry::new(client, &server.repository("a/b"), Role::Sink);
    sink.put(&node, &Body::bytes(node.clone(), bytes), &[]).await
}

#[tokio::test]
async fn a_login_is_not_shown_again_to_its_host_by_a_request_that_comes_back() {
    let home = Arc::new(Mutex::new(String::new()));
    let back = Arc::clone(&home);
    let elsewhere = Server::start(move |_: &Asked| {
        let place = format!("http://{}/v2/a/secret", back.lock().unwrap());
        answer(307, &[("location", &place)], "")
    })
    .await;
    let away = format!("http://{}/away", elsewhere.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        _ if asked.is("GET /v2/a/secret") => answer(200, &[], "ok"),
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) => answer(307, &[("location", &away)], ""),
    })
    .await;
    home.lock().unwrap().clone_from(&server.host);
    let dir = tempfile::tempdir().unwrap();
    let request = Request::new(Method::GET, "/v2/a/x", "get", "it").needing(Scopes::pull("a"));
    knowing(&server.host, &dir).host(&server.host, "a").send(&request).await.unwrap();
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_none()));
    let asked = server.asked();
    let secret: Vec<_> = asked.iter().filter(|asked| asked.is("GET /v2/a/secret")).collect();
    assert_eq!(secret.len(), 1);
    assert_eq!(secret[0].header("authorization"), None, "shown again");
}

#[tokio::test]
async fn an_upload_is_never_led_to_a_manifest() {
    for place in ["/v2/a/b/manifests/v1", "/v2/a/b/%6danifests/v1", "/v2/a/b/manifests/v1?x=/blobs/uploads/"] {
        for code in [307, 308] {
            for first in ["POST", "PUT"] {
                let server = Server::start(move |asked: &Asked| {
                    if asked.line.contains("v1") {
                        return status(201);
                    }
                    if asked.is(first) {
                        return answer(code, &[("location", place)], "");
                    }
                    answer(202, &[("location", "/v2/a/b/blobs/uploads/7")], "")
                })
                .await;
                let client = client();
                let error = put(&client, &server, b"{}").await.unwrap_err();
                assert_eq!(error.kind(), Kind::Invalid, "{}", error.chain());
                client.settle(std::time::Duration::from_secs(5)).await;
                let lines = server.lines();
                assert!(!lines.iter().any(|line| line.contains("v1")), "{code} {first}: {lines:?}");
            }
        }
    }
}

#[tokio::test]
async fn cancelling_an_upload_never_deletes_a_manifest() {
    let server = Server::start(|asked: &Asked| match asked.line.as_str() {
        line if line.starts_with("POST") => answer(202, &[("location", "/v2/a/b/blobs/uploads/7")], ""),
        line if line.starts_with("DELETE /v2/a/b/blobs/") => answer(307, &[("location", "/v2/a/b/manifests/v1")], ""),
        line if line.starts_with("PUT") => status(403),
        _ => status(202),
    })
    .await;
    let client = client();
    put(&client, &server, b"layer").await.unwrap_err();
    client.settle(std::time::Duration::from_secs(5)).await;
    let lines = server.lines();
    assert!(lines.iter().any(|line| line.starts_with("DELETE")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("manifests")), "{lines:?}");
}

#[tokio::test]
async fn no_session_is_at_the_place_of_a_manifest() {
    for place in ["/v2/a/b/manifests/v1", "/v2/other/manifests/v1?_state=x", "/v2/a/b/blobs/uploads/../../manifests/v1"]
    {
        let server =
            Server::start(
                move |asked: &Asked| {
                    if asked.is("POST") { answer(202, &[("location", place)], "") } else { status(201) }
                },
            )
            .await;
        let client = client();
        let error = put(&client, &server, b"{}").await.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.chain().contains("Location"), "{}", error.chain());
        client.settle(std::time::Duration::from_secs(5)).await;
        assert_eq!(server.lines().len(), 1, "{place}");
    }
}

#[tokio::test]
async fn another_host_does_not_say_where_at_home_an_upload_goes_on() {
    let home = Arc::new(Mutex::new(String::new()));
    let back = Arc::clone(&home);
    let elsewhere = Server::start(move |_: &Asked| {
        let place = format!("http://{}/v2/other/blobs/uploads/7", back.lock().unwrap());
        answer(202, &[("location", &place)], "")
    })
    .await;
    let away = format!("http://{}/v2/a/b/blobs/uploads/", elsewhere.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) if asked.is("POST") => answer(307, &[("location", &away)], ""),
        Some(_) => status(201),
    })
    .await;
    home.lock().unwrap().clone_from(&server.host);
    let dir = tempfile::tempdir().unwrap();
    let client = knowing(&server.host, &dir);
    let error = put(&client, &server, b"layer").await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.chain().contains("Location"), "{}", error.chain());
    client.settle(std::time::Duration::from_secs(5)).await;
    assert!(server.lines().iter().all(|line| line.starts_with("POST")));
}

#[tokio::test]
async fn an_upload_that_is_led_to_another_host_goes_there_whole_and_without_the_login() {
    let other = Server::start(|asked: &Asked| {
        if asked.is("POST") { answer(202, &[("location", "/v2/a/b/blobs/uploads/7")], "") } else { status(201) }
    })
    .await;
    let away = format!("http://{}", other.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) => answer(308, &[("location", &format!("{away}{}", asked.line.split(' ').nth(1).unwrap()))], ""),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(put(&knowing(&server.host, &dir), &server, b"layer").await.unwrap(), Put::Sent(5));
    let asked = other.asked();
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(&asked.last().unwrap().body[..], b"layer");
}
