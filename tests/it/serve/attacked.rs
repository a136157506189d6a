//! The server under attack: by clients that take more than their share, and by pages in a browser.

use std::net::Ipv4Addr;
use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::kit::asking::{Asking, client, image};
use crate::kit::command::each_at_once;
use crate::kit::serve_bed::{PATIENCE, Program, Running};

/// A connection from `127.0.0.<source>`; systems other than Linux have only one such address.
pub(crate) async fn connect(host: &str, source: u8, text: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into()).unwrap();
    let mut stream = socket.connect(host.parse().unwrap()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// The head of a response, or nothing at the connection's end.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let reading = async {
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) == 1 {
            text.push(byte[0]);
        }
    };
    tokio::time::timeout(PATIENCE / 2, reading).await.expect("an answer or an end");
    String::from_utf8_lossy(&text).into_owned()
}

async fn begin(url: &str) -> reqwest::Response {
    client().post(format!("{url}/v2/app/blobs/uploads/")).send().await.unwrap()
}

fn place(answer: &reqwest::Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_for_nothing_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |options| options.limits.connections = 20).await;
    let mut held = Vec::new();
    for n in 0..60 {
        held.push(connect(&server.host, 1, if n % 2 == 0 { "" } else { "GET /v2/ HT" }).await);
    }
    let ask = "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut asked = connect(&server.host, 1, ask).await;
    assert!(head(&mut asked).await.starts_with("HTTP/1.1 200"), "from the same address");
    for _ in 0..60 {
        held.push(connect(&server.host, 1, "").await);
    }
    asked.write_all(ask.as_bytes()).await.unwrap();
    assert!(head(&mut asked).await.starts_with("HTTP/1.1 200"), "a connection that has asked stays");
    // The server closed the oldest connections that had sent nothing.
    let mut first = held.swap_remove(0);
    assert_eq!(head(&mut first).await, "");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_half_of_the_connections_and_others_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |options| options.limits.connections = 8).await;
    let place = place(&begin(&server.url).await);
    let busy =
        format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(connect(&server.host, 1, &busy).await);
    }
    // One of them works on the session; the other connections wait for it.
    let ask = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut other = connect(&server.host, 2, ask).await;
    assert!(head(&mut other).await.starts_with("HTTP/1.1 200"));
    let mut waiting = connect(&server.host, 1, ask).await;
    drop(held);
    assert!(head(&mut waiting).await.starts_with("HTTP/1.1 200"), "who waited comes in");
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_sessions_are_bounded_for_a_client_and_those_on_the_disk_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Running::start(folder.path(), |options| options.limits.sessions_of_one = 3).await;
    let mut places = Vec::new();
    for _ in 0..3 {
        places.push(place(&begin(&server.url).await));
    }
    let refused = begin(&server.url).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("TOOMANYREQUESTS"));
    let url = format!("{}{}", server.url, places[0]);
    assert_eq!(client().delete(url).send().await.unwrap().status(), 204);
    assert_eq!(begin(&server.url).await.status(), 202);
    server.tell();
    server.ended().await;

    let server = Running::start(folder.path(), |options| options.limits.sessions = 4).await;
    assert_eq!(begin(&server.url).await.status(), 202);
    assert_eq!(begin(&server.url).await.status(), 429, "three are left by the server before");
    // One of them is resumed and finished.
    let url = format!("{}{}?digest={}", server.url, places[1], Digest::sha256(b"x"));
    assert_eq!(client().put(url).body("x").send().await.unwrap().status(), 201);
    assert_eq!(begin(&server.url).await.status(), 202);
    assert_eq!(begin(&server.url).await.status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_upload_sessions_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |options| {
        options.limits.session_bytes_of_one = Some(1000);
        options.limits.session_bytes = Some(5000);
    })
    .await;
    let patch = async |place: &str, length: usize, is_told: bool| {
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![7; length])]);
        let body = if is_told { vec![7; length].into() } else { reqwest::Body::wrap_stream(pieces) };
        let answer = client().patch(format!("{}{place}", server.url)).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let first = place(&begin(&server.url).await);
    assert_eq!(patch(&first, 600, true).await.0, 202);
    for is_told in [true, false] {
        let second = place(&begin(&server.url).await);
        let (status, text) = patch(&second, 401, is_told).await;
        assert!(status == 507 && text.contains("uploads"), "{status} {text}");
        assert_eq!(patch(&second, 1, true).await.0, 404, "what it held is free");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).unwrap().count(), 1);
    assert_eq!(patch(&first, 400, true).await.0, 202, "what fits");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_only_known_hosts_are_answered_and_foreign_pages_write_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let server = Program::start(folder.path(), ["--host", "registry.site", "--host", "other.site:443"]);
    let send = async |method: reqwest::Method, headers: &[(&str, &str)]| {
        let url = format!("{}/v2/app/blobs/uploads/", server.url);
        let url = if method == "GET" { format!("{}/v2/", server.url) } else { url };
        let request = headers.iter().fold(client().request(method, url), |request, (k, v)| request.header(*k, *v));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (host, is_known) in [
        ("registry.site", true),
        ("other.site:8080", true),
        ("localhost:1", true),
        ("[::1]:5000", true),
        ("evil.example:5000", false),
    ] {
        for (method, expected) in [(reqwest::Method::GET, 200), (reqwest::Method::POST, 202)] {
            let (status, text) = send(method, &[("host", host)]).await;
            assert_eq!(status, if is_known { expected } else { 421 }, "{host}: {text}");
            assert!(is_known || text.contains("--host"), "{text}");
        }
    }
    for headers in [
        &[("origin", "http://evil.example")][..],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:9")],
        &[("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(send(reqwest::Method::POST, headers).await.0, 403, "{headers:?}");
        assert_eq!(send(reqwest::Method::GET, headers).await.0, 200, "{headers:?}");
    }
    assert_eq!(send(reqwest::Method::POST, &[("origin", &server.url)]).await.0, 202, "its own page");
}

#[tokio::test]
async fn the_version_of_the_api_is_told_with_and_without_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "ann:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n").unwrap();
    let open = Running::start(&folder.path().join("open"), |_| {}).await;
    let closed = Running::start(&folder.path().join("closed"), |options| options.htpasswd = Some(users)).await;
    for (server, expected) in [(&open, 200), (&closed, 401)] {
        let answer = client().get(format!("{}/v2/", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), expected);
        assert_eq!(answer.headers()["docker-distribution-api-version"], "registry/2.0");
    }
}

#[tokio::test]
async fn an_object_that_is_no_manifest_is_not_taken_as_one() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
    asking.push_blob(b"{}").await;
    let config = serde_json::to_string(&config).unwrap();
    for (text, expected) in [
        ("{}".to_owned(), 400),
        (r#"{"schemaVersion":2}"#.to_owned(), 400),
        (format!(r#"{{"schemaVersion":3,"config":{config},"layers":[]}}"#), 400),
        (format!(r#"{{"config":{config},"layers":[]}}"#), 400),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#), 201),
    ] {
        for media_type in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
            let answer = asking.put_manifest("v1", &media_type, &text).await;
            assert_eq!(answer.status(), expected, "{text}");
            assert!(expected == 201 || answer.text().await.unwrap().contains("MANIFEST_INVALID"), "{text}");
        }
    }
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_INDEX, r#"{"schemaVersion":2}"#).await.status(), 400);
}

#[tokio::test]
async fn a_long_list_of_referrers_comes_in_pages_and_unusual_annotations_are_left_out() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let subject = asking.push_image("v1", "subject", None).await;
    asking.push_blob(b"{}").await;
    // 3 MB of annotations in all, and 100 kB in one.
    let texts = (0..420).map(|n| {
        let mut text: serde_json::Value =
            serde_json::from_str(&image(&[("config", b"{}")], &n.to_string(), Some(&subject))).unwrap();
        text["annotations"]["text"] = "x".repeat(if n == 0 { 100_000 } else { 7_000 }).into();
        text.to_string()
    });
    let referrers: Vec<_> = texts.map(|text| (Digest::sha256(text.as_bytes()).to_string(), text)).collect();
    each_at_once(&referrers, async |(digest, text)| {
        assert_eq!(asking.put_manifest(digest, &MediaType::OCI_MANIFEST, text).await.status(), 201);
    })
    .await;
    let digests: Vec<_> = referrers.into_iter().map(|(digest, _)| digest).collect();
    let (mut next, mut found, mut pages) = (Some(format!("/v2/app/referrers/{}", subject.digest)), Vec::new(), 0);
    while let Some(path) = next.take() {
        let answer = asking.get(&path).await;
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        let bytes = answer.bytes().await.unwrap();
        assert!(bytes.len() <= (1 << 20) + 1000, "{}", bytes.len());
        let page: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        found.extend(page["manifests"].as_array().unwrap().clone());
        pages += 1;
    }
    assert_eq!(pages, 3);
    let of = |digest: &String| found.iter().filter(|node| node["digest"] == **digest).collect::<Vec<_>>();
    assert!(digests.iter().all(|digest| of(digest).len() == 1), "each once");
    assert!(of(&digests[0])[0].get("annotations").is_none());
    assert_eq!(of(&digests[1])[0]["annotations"]["text"].as_str().unwrap().len(), 7_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_thousands_of_parameters_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |_| {}).await;
    for (count, expected) in [(100, 200), (101, 414), (10_000, 414)] {
        let url = format!("{}/v2/?{}", server.url, "a&".repeat(count));
        assert_eq!(client().get(url).timeout(Duration::from_secs(30)).send().await.unwrap().status(), expected);
    }
}
