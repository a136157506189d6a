//! The test bed itself: it injects exactly the configured faults.

use std::time::{Duration, Instant};

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::serve::{Profile, ServerAuth};
use bytes::Bytes;
use reqwest::Method;

use crate::kit::asking::{Asking, header};

const CONTENT: &[u8] = b"0123456789";

/// A server with one blob, and the path of it.
async fn with_blob() -> (Testbed, Asking, String) {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let path = format!("blobs/{}", asking.push_blob(CONTENT).await);
    server.clear_log();
    (server, asking, path)
}

/// Status and body, or None where the connection broke.
async fn outcome(asking: &Asking, path: &str) -> Option<(u16, Bytes)> {
    let answer = asking.try_send(Method::GET, path, &[], b"").await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.bytes().await.ok()?))
}

#[tokio::test]
async fn each_fault_does_what_it_says_once() {
    let (server, asking, path) = with_blob().await;
    let right = Some((200, Bytes::from_static(CONTENT)));
    for (what, expected) in [
        (What::ResetBefore, None),
        (What::ResetAfter, None),
        (What::CutBody { after: 4 }, None),
        (What::WrongLength, None),
        (What::FlipBit { at: 3 }, Some((200, Bytes::from_static(b"0122456789")))),
        (What::Truncate { to: 4 }, Some((200, Bytes::from_static(b"0123")))),
        (What::Replace(Bytes::from_static(b"other")), Some((200, Bytes::from_static(b"other")))),
        (What::Delay(Duration::from_millis(10)), right.clone()),
    ] {
        server.fault(Fault::next(Kind::BlobGet, what.clone()));
        assert_eq!(outcome(&asking, &path).await, expected, "{what:?}");
        assert_eq!(outcome(&asking, &path).await, right, "after {what:?}");
    }
    server.fault(Fault::next(Kind::BlobGet, What::Html));
    let page = asking.get(&path).await;
    assert_eq!((page.status().as_u16(), header(&page, "content-type").as_str()), (200, "text/html"));
    server.fault(Fault::next(Kind::BlobGet, What::StatusWith { status: 429, retry_after: Some("7".into()) }));
    let busy = asking.get(&path).await;
    assert_eq!((busy.status().as_u16(), header(&busy, "retry-after").as_str()), (429, "7"));
}

#[tokio::test]
async fn a_cut_body_gives_what_came_before() {
    let (server, asking, path) = with_blob().await;
    server.fault(Fault::next(Kind::BlobGet, What::CutBody { after: 4 }));
    let mut answer = asking.get(&path).await;
    assert_eq!(header(&answer, "content-length"), "10");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), Bytes::from_static(b"0123"));
    assert!(answer.chunk().await.is_err());
    assert_eq!(server.log()[0].bytes_out, 4);
}

#[tokio::test]
async fn a_trickle_is_slow_and_whole() {
    let (server, asking, path) = with_blob().await;
    server.fault(Fault::next(Kind::BlobGet, What::Trickle { after: 4, bytes_per_second: 20 }));
    let begun = Instant::now();
    let mut answer = asking.get(&path).await;
    assert_eq!(header(&answer, "content-length"), "10");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), CONTENT[..4]);
    let mut rest = Vec::new();
    while let Some(piece) = answer.chunk().await.unwrap() {
        rest.extend_from_slice(&piece);
    }
    assert_eq!(rest, CONTENT[4..]);
    assert!(begun.elapsed() >= Duration::from_millis(290), "six bytes at twenty a second: {:?}", begun.elapsed());
}

#[tokio::test]
async fn headers_are_set_dropped_and_damaged() {
    let (server, asking, path) = with_blob().await;
    let said = async || {
        let answer = asking.get(&path).await;
        (header(&answer, "x-mark"), header(&answer, "docker-content-digest"))
    };
    let digest = Digest::sha256(CONTENT).to_string();
    assert_eq!(said().await, (String::new(), digest.clone()));
    server.fault(Fault::next(Kind::BlobGet, What::SetHeader { name: "x-mark", value: "1".into() }));
    assert_eq!(said().await, ("1".into(), digest.clone()));
    server.fault(Fault::next(Kind::BlobGet, What::DropHeader("docker-content-digest")));
    assert_eq!(said().await, (String::new(), String::new()));
    server.fault(Fault::next(Kind::BlobGet, What::FlipHeaderBit("docker-content-digest")));
    let (_, damaged) = said().await;
    let (stem, last) = digest.split_at(digest.len() - 1);
    assert_eq!(damaged, format!("{stem}{}", char::from(last.as_bytes()[0] ^ 1)));
    assert_eq!(said().await, (String::new(), digest));
}

#[tokio::test]
async fn requests_are_sent_to_another_place_with_all_that_they_ask_for() {
    let (server, asking, path) = with_blob().await;
    let other = Testbed::start().await;
    server.fault(Fault::next(Kind::BlobGet, What::Redirect { status: 307, to: format!("http://{}", other.host()) }));
    assert_eq!(asking.get(&format!("{path}?a=b")).await.status(), 404);
    let log = other.log();
    assert_eq!((log.len(), log[0].path.as_str(), log[0].query.as_str()), (1, server.log()[0].path.as_str(), "a=b"));
    assert_eq!(server.log()[0].status, 307);
}

#[tokio::test]
async fn a_request_that_is_damaged_on_its_way_is_refused() {
    let (server, asking, _) = with_blob().await;
    let put = async || {
        let path = format!("{}?digest={}", asking.begin().await, Digest::sha256(b"other"));
        asking.send(Method::PUT, &path, &[], b"other").await.status().as_u16()
    };
    server.fault(Fault::next(Kind::UploadPut, What::FlipRequestBit { at: 2 }));
    assert_eq!((put().await, put().await), (400, 201));
}

#[tokio::test]
async fn faults_are_told_apart_by_query_and_number_and_told_in_words() {
    let (server, asking, path) = with_blob().await;
    let fault = Fault::next(Kind::BlobGet, What::Status(503)).at("x=1").from_the(2).times(2);
    assert_eq!(fault.to_string(), "BlobGet with \"x=1\", 2 from number 2 on: Status(503)");
    server.fault(fault);
    let mut statuses = Vec::new();
    for query in ["", "?x=1", "", "?x=1", "?x=1", "?x=1"] {
        statuses.push(asking.get(&format!("{path}{query}")).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 503, 503, 200]);
}

#[tokio::test]
async fn bad_weather_is_bad_until_it_is_over() {
    let (server, asking, path) = with_blob().await;
    server.weather(1.0, 1);
    let mut right = 0;
    for _ in 0..20 {
        right += u32::from(outcome(&asking, &path).await == Some((200, Bytes::from_static(CONTENT))));
    }
    assert!(right < 20, "nothing went wrong");
    server.heal();
    assert_eq!(outcome(&asking, &path).await, Some((200, Bytes::from_static(CONTENT))));
}

#[tokio::test]
async fn a_fault_befalls_the_requests_that_were_named() {
    let (server, asking, path) = with_blob().await;
    let other = format!("blobs/{}", asking.push_blob(b"other").await);
    server.fault(Fault { nth: 2, times: 2, ..Fault::next(Kind::BlobGet, What::Status(503)) }.at(&path));
    let mut statuses = Vec::new();
    for path in [&path, &other, &path, &other, &path, &path] {
        statuses.push(asking.get(path).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 503, 200, 503, 200]);
    assert_eq!(asking.send(Method::HEAD, &path, &[], b"").await.status(), 200);
    server.fault(Fault::always(Kind::BlobGet, What::Status(500)));
    for _ in 0..3 {
        assert_eq!(asking.get(&path).await.status(), 500);
    }
}

#[tokio::test]
async fn everything_asked_is_written_down() {
    let (server, asking, path) = with_blob().await;
    asking
        .send(Method::GET, &path, &[("range", "bytes=1-3"), ("authorization", "x")], b"")
        .await
        .bytes()
        .await
        .unwrap();
    asking.get("tags/list?n=1").await;
    let log = server.log();
    assert_eq!((server.requests(), server.count(Kind::BlobGet), server.count(Kind::Tags)), (2, 1, 1));
    assert_eq!((log[0].status, log[0].bytes_out, log[0].range.as_deref()), (206, 3, Some("bytes=1-3")));
    assert!(log[0].has_authorization && !log[1].has_authorization);
    assert_eq!((log[1].path.as_str(), log[1].query.as_str()), ("/v2/app/tags/list", "n=1"));
    server.clear_log();
    asking.push_blob(b"seven b").await;
    let log = server.log();
    assert_eq!(log.iter().map(|seen| seen.kind).collect::<Vec<_>>(), [Kind::UploadPost, Kind::UploadPut]);
    assert_eq!(log[1].bytes_in, 7);
}

#[tokio::test]
async fn a_cut_upload_ends_as_it_does_at_each_registry() {
    for (behaviour, status, range) in [
        (Profile::default(), 204, "0-3"),
        (Profile::distribution_3(), 204, "0-3"),
        (Profile::distribution_2(), 404, ""),
        (Profile::zot(), 404, ""),
    ] {
        let server = Testbed::with(behaviour.clone()).await;
        let asking = Asking::of(&server, "app");
        for (kind, method) in [(Kind::UploadPatch, Method::PATCH), (Kind::UploadPut, Method::PUT)] {
            let location = asking.begin().await;
            let path = format!("{location}?digest={}", Digest::sha256(CONTENT));
            server.fault(Fault::next(kind, What::CutRequest { after: 4 }));
            assert!(asking.try_send(method, &path, &[], CONTENT).await.is_err());
            let told = asking.get(&location).await;
            assert_eq!((told.status().as_u16(), header(&told, "range").as_str()), (status, range), "{behaviour:?}");
        }
        assert_eq!(asking.get(&format!("blobs/{}", Digest::sha256(CONTENT))).await.status(), 404);
    }
}

#[tokio::test]
async fn registries_differ_as_they_do_in_the_field() {
    let child = Descriptor::of(MediaType::OCI_MANIFEST, b"not here");
    let sparse = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    for (behaviour, put, referrers, range, single) in [
        (Profile::default(), 201, 200, 416, 201),
        (Profile::distribution_3(), 400, 404, 416, 202),
        (Profile::distribution_2(), 400, 404, 202, 202),
        (Profile::zot(), 400, 200, 416, 201),
    ] {
        let server = Testbed::with(behaviour.clone()).await;
        let asking = Asking::of(&server, "app");
        let digest = asking.push_blob(CONTENT).await;
        let status = async |method, path: &str, headers: &[(&str, &str)], body: &[u8]| {
            asking.send(method, path, headers, body).await.status().as_u16()
        };
        let found = (
            asking.put_manifest("sparse", &MediaType::OCI_INDEX, &sparse).await.status().as_u16(),
            status(Method::GET, &format!("referrers/{digest}"), &[], b"").await,
            status(Method::PATCH, &asking.begin().await, &[("content-range", "5-9")], b"56789").await,
            status(Method::POST, &format!("blobs/uploads/?digest={digest}"), &[], CONTENT).await,
        );
        assert_eq!(found, (put, referrers, range, single), "{behaviour:?}");
        let anywhere = Asking::of(&server, "new");
        let path = format!("blobs/uploads/?mount={digest}");
        let mounted = anywhere.send(Method::POST, &path, &[], b"").await.status().as_u16();
        assert_eq!(mounted, if behaviour.mounts_from_anywhere { 201 } else { 202 });
    }
}

#[tokio::test]
async fn a_closing_body_of_no_told_length_counts_except_where_it_does_not() {
    for (behaviour, status) in [(Profile::default(), 201), (Profile::zot(), 400)] {
        let server = Testbed::with(behaviour).await;
        let asking = Asking::of(&server, "app");
        let url = format!("http://{}{}?digest={}", server.host(), asking.begin().await, Digest::sha256(CONTENT));
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(CONTENT))]);
        let put = crate::kit::asking::client().put(url).body(reqwest::Body::wrap_stream(pieces));
        assert_eq!(put.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_registry_that_forgets_untagged_manifests_drops_them_with_their_children() {
    let server = Testbed::with(Profile::zot()).await;
    let asking = Asking::of(&server, "app");
    let child = asking.push_image("", "child", None).await;
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    asking.put_manifest("v1", &MediaType::OCI_INDEX, &index).await;
    asking.push_image("v1", "next", None).await;
    for digest in [Digest::sha256(index.as_bytes()), child.digest] {
        assert_eq!(asking.get(&format!("manifests/{digest}")).await.status(), 404);
    }
}

#[tokio::test]
async fn basic_logins_are_asked_for_and_checked() {
    let auth = ServerAuth::Basic { user: "me".into(), password: "secret".into() };
    let server = Testbed::with(Profile { auth, ..Profile::default() }).await;
    let asking = Asking::of(&server, "app");
    let refused = asking.get("/v2/").await;
    assert_eq!(refused.status(), 401);
    assert!(header(&refused, "www-authenticate").starts_with("Basic realm="));
    // me:secret, me:wrong
    for (login, status) in [("Basic bWU6c2VjcmV0", 200), ("Basic bWU6d3Jvbmc=", 401), ("Bearer bWU6c2VjcmV0", 401)] {
        let answer = asking.send(Method::GET, "/v2/", &[("authorization", login)], b"").await;
        assert_eq!(answer.status(), status, "{login}");
    }
    assert_eq!(asking.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_token_opens_what_it_was_given_for_until_it_expires() {
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let auth = ServerAuth::Bearer { login, expires_in: Duration::from_secs(1) };
    let server = Testbed::with(Profile { auth, ..Profile::default() }).await;
    let asking = Asking::of(&server, "app");
    let refused = asking.send(Method::POST, "blobs/uploads/?mount=x&from=base", &[], b"").await;
    assert_eq!(refused.status(), 401);
    let challenge = header(&refused, "www-authenticate");
    assert!(challenge.contains(&format!("realm=\"http://{}/token\"", server.host())), "{challenge}");
    assert!(challenge.contains("scope=\"repository:app:pull,push repository:base:pull\""), "{challenge}");
    assert_eq!(asking.get("/token?scope=repository:app:pull").await.status(), 401);
    let token = async |scopes: &str| {
        let headers = [("authorization", "Basic bWU6c2VjcmV0")];
        let answer = asking.send(Method::GET, &format!("/token?{scopes}"), &headers, b"").await;
        let document: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(document["expires_in"], 1);
        format!("Bearer {}", document["token"].as_str().unwrap())
    };
    let (start, pull) = (Instant::now(), token("scope=repository:app:pull").await);
    let status = async |method, path: &str, token: &str| {
        asking.send(method, path, &[("authorization", token)], b"").await.status().as_u16()
    };
    assert_eq!(status(Method::GET, "tags/list", &pull).await, 404, "let in, and there is nothing");
    assert_eq!(status(Method::GET, "/v2/other/tags/list", &pull).await, 401);
    assert_eq!(status(Method::POST, "blobs/uploads/", &pull).await, 401);
    let both = token("scope=repository:app:pull,push&scope=repository:base:pull").await;
    let mount = format!("blobs/uploads/?mount={}&from=base", Digest::sha256(CONTENT));
    assert_eq!(status(Method::POST, &mount, &both).await, 202);
    tokio::time::sleep(Duration::from_millis(1100).saturating_sub(start.elapsed())).await;
    assert_eq!(status(Method::GET, "tags/list", &pull).await, 401, "expired");
}
