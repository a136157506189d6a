//! Logins and tokens: requested only when needed, and never leaked.

use autonomy_registry::store::{Put, Store as _};
use autonomy_registry::wire::{Client, ClientOptions};

use super::{accepting, drain, layer, sink};
use crate::kit::wire_server::{Asked, Server, answer, client, options, status};

#[tokio::test]
async fn tokens_ask_for_what_is_needed_and_for_the_mounts_source_too() {
    let server = Server::start(|asked: &Asked| {
        let realm = format!(r#"Bearer realm="http://{}/token",service="s""#, asked.header("host").unwrap());
        match asked.header("authorization") {
            _ if asked.is("GET /token") => answer(200, &[], r#"{"token":"t"}"#),
            None => answer(401, &[("www-authenticate", &realm)], ""),
            Some(_) => accepting(asked),
        }
    })
    .await;
    let (client, (node, body)) = (client(), layer(b"layer"));
    let sink = sink(&client, &server);
    sink.put(&node, &body, &[]).await.unwrap();
    sink.put(&node, &body, &[]).await.unwrap();
    sink.put(&node, &body.clone().mountable("c".parse().unwrap()), &[]).await.unwrap();
    let lines = server.lines();
    let starts: Vec<_> = lines.iter().map(|line| &line[..line.find(['?', '1']).unwrap_or(line.len())]).collect();
    let post = "POST /v2/a/b/blobs/uploads/";
    let (token, put) = ("GET /token", "PUT /session/");
    assert_eq!(starts, [post, token, post, put, post, put, token, post, put]);
    assert_eq!(lines[1], "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    assert!(lines[6].ends_with("&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull"), "{}", lines[6]);
    assert_eq!(sink.tally().requests, 9, "token requests count");
}

#[tokio::test]
async fn logins_stay_with_their_host_whatever_redirects_and_locations_say() {
    let other =
        Server::start(
            |asked: &Asked| {
                if asked.is("PUT") { status(201) } else { answer(200, &[("content-length", "5")], "layer") }
            },
        )
        .await;
    let to = format!("http://{}/elsewhere", other.host);
    let server = Server::start(move |asked: &Asked| match asked.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic")], ""),
        Some(_) if asked.is("POST") => answer(202, &[("location", &to)], ""),
        Some(_) => answer(307, &[("location", &to)], ""),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let authfile = dir.path().join("auth.json");
    std::fs::write(&authfile, format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host)).unwrap();
    let client = Client::new(ClientOptions { authfile: Some(authfile), ..options() }).unwrap();
    let ((node, body), sink) = (layer(b"layer"), sink(&client, &server));
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(5));
    assert_eq!(drain(sink.open(&node, 0).await.unwrap()).await.unwrap(), b"layer");
    let asked = other.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
}
