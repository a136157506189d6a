//! Referrers and other lists: written to registries with and without the API, and read to their end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name};
use autonomy_registry::retry::Retry;
use autonomy_registry::store::{Body, Listing as _, Registry, Role, Store as _};
use autonomy_registry::wire::{Client, ClientOptions};
use serde_json::{Value, json};

use super::{MANIFEST, manifest, problem, sink, source, tag};
use crate::kit::wire_server::{Asked, Server, answer, client, options, status};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry of manifests without the Referrers API. `meddle` may change the stored bytes after each PUT of an index.
async fn manifests(meddle: impl Fn(u32, &mut Vec<u8>) + Clone + Send + Sync + 'static) -> Server {
    type Held = HashMap<String, (String, Vec<u8>)>;
    let held: Arc<Mutex<Held>> = Arc::default();
    let writes = Arc::new(AtomicU32::new(0));
    Server::start(move |asked: &Asked| {
        let (method, path) = asked.line.split_once(' ').unwrap();
        let Some((_, name)) = path.split_once("/manifests/") else {
            return answer(404, &[("content-type", "text/plain")], "404 page not found\n");
        };
        let mut held = held.lock().unwrap();
        if method == "PUT" {
            let media_type = asked.header("content-type").unwrap().to_owned();
            let mut bytes = asked.body.to_vec();
            if media_type == INDEX {
                meddle(writes.fetch_add(1, Ordering::Relaxed), &mut bytes);
            }
            held.insert(name.to_owned(), (media_type, bytes));
            return status(201);
        }
        match held.get(name) {
            Some((media_type, bytes)) => answer(200, &[("content-type", media_type)], bytes.clone()),
            None => problem(404, "MANIFEST_UNKNOWN"),
        }
    })
    .await
}

/// A manifest that refers to `subject`; `number` makes it unique.
fn referrer(subject: &Descriptor, number: u32) -> (Descriptor, Body) {
    let text = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "x/y", "layers": [],
        "config": autonomy_registry::oci::empty_json().0, "subject": subject,
        "annotations": {"number": number.to_string()},
    });
    manifest(&text.to_string())
}

#[tokio::test]
async fn referrers_are_told_to_a_registry_without_the_api_and_nobody_elses_are_lost() {
    let server = manifests(|_, _| ()).await;
    let client = client();
    let sink = Arc::new(sink(&client, &server));
    let (subject, _) = manifest("{}");
    let foreign = Descriptor::of(MediaType::OCI_MANIFEST, b"foreign");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "unknown": [1], "manifests": [foreign]}).to_string();
    let node = Descriptor::of(MediaType::OCI_INDEX, index.as_bytes());
    sink.put(&node, &Body::bytes(node.clone(), index), &[tag(&subject.digest.fallback_tag())]).await.unwrap();
    server.lines();

    let (first, body) = referrer(&subject, 0);
    sink.put(&first, &body, &[]).await.unwrap();
    let lines = server.lines();
    let fallback = format!("/v2/a/b/manifests/{}", subject.digest.fallback_tag());
    let expected = [format!("GET {fallback}"), format!("PUT {fallback}"), format!("GET {fallback}")];
    assert_eq!(lines[1..], expected, "the manifest, then read, write, and read back");
    sink.put(&first, &body, &[]).await.unwrap();
    assert_eq!(server.lines().len(), 2, "an entry that is there is not written again");

    let others = (1..6).map(|number| {
        let (sink, (node, body)) = (Arc::clone(&sink), referrer(&subject, number));
        tokio::spawn(async move { sink.put(&node, &body, &[]).await })
    });
    for task in others.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let found = sink.referrers(&subject.digest).await.unwrap();
    assert_eq!(found.len(), 7);
    assert_eq!(found[0].digest, foreign.digest);
    assert_eq!((found[1].digest, found[1].annotations["number"].as_str()), (first.digest, "0"));
    assert_eq!(found[1].artifact_type, Some(MediaType::new("x/y")));

    // The tag's other entries are still there.
    let root = sink.fetch(&Name::Tag(tag(&subject.digest.fallback_tag()))).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&root.bytes).unwrap()["unknown"], json!([1]));
    server.lines();
    sink.referrers(&subject.digest).await.unwrap();
    assert_eq!(server.lines(), [format!("GET {fallback}")], "the lack of the API is remembered");
}

#[tokio::test]
async fn an_entry_that_another_client_overwrites_is_written_again() {
    let lost = |write: u32, bytes: &mut Vec<u8>| {
        if write < 2 {
            *bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string().into();
        }
    };
    let server = manifests(lost).await;
    let client = client();
    let (subject, _) = manifest("{}");
    let (node, body) = referrer(&subject, 0);
    sink(&client, &server).put(&node, &body, &[]).await.unwrap();
    assert_eq!(sink(&client, &server).referrers(&subject.digest).await.unwrap().len(), 1);

    let server = manifests(|_, bytes: &mut Vec<u8>| *bytes = json!({"mediaType": INDEX}).to_string().into()).await;
    let error = sink(&client, &server).put(&node, &body, &[]).await.unwrap_err();
    assert!(error.chain().contains("10 times"), "{}", error.chain());
}

#[tokio::test]
async fn a_fallback_tag_that_holds_something_else_is_left_alone() {
    let server = manifests(|_, _| ()).await;
    let client = client();
    let sink = sink(&client, &server);
    let (subject, _) = manifest("{}");
    let (other, body) = manifest(r#"{"schemaVersion":2}"#);
    sink.put(&other, &body, &[tag(&subject.digest.fallback_tag())]).await.unwrap();
    let (node, body) = referrer(&subject, 0);
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap_err().kind(), Kind::Invalid);
    assert!(sink.referrers(&subject.digest).await.unwrap().is_empty(), "it lists nothing");
}

#[tokio::test]
async fn a_fallback_tag_that_holds_the_subject_itself_holds_nothing() {
    let server = manifests(|_, _| ()).await;
    let client = client();
    let sink = sink(&client, &server);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest("{}").0]}).to_string();
    let subject = Descriptor::of(MediaType::OCI_INDEX, index.as_bytes());
    let body = Body::bytes(subject.clone(), index);
    sink.put(&subject, &body, &[tag(&subject.digest.fallback_tag())]).await.unwrap();
    assert!(sink.referrers(&subject.digest).await.unwrap().is_empty(), "not its own platforms");
    let (node, body) = referrer(&subject, 0);
    sink.put(&node, &body, &[]).await.unwrap();
    let listed = sink.referrers(&subject.digest).await.unwrap();
    assert_eq!(listed.iter().map(|node| node.digest).collect::<Vec<_>>(), [node.digest]);
}

#[tokio::test]
async fn a_registry_that_notes_subjects_needs_no_fallback() {
    let server = Server::start(|_: &Asked| answer(201, &[("oci-subject", "x")], "")).await;
    let (subject, _) = manifest("{}");
    let (node, body) = referrer(&subject, 0);
    sink(&client(), &server).put(&node, &body, &[]).await.unwrap();
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn none_and_could_not_ask_differ() {
    let (subject, _) = manifest("{}");
    let once = Client::new(ClientOptions { retry: Retry::never(), ..options() }).unwrap();
    for (code, kind) in [(500, Kind::Unavailable), (403, Kind::Denied), (401, Kind::Denied)] {
        let server = Server::start(move |_: &Asked| status(code)).await;
        let error = source(&once, &server).referrers(&subject.digest).await.unwrap_err();
        assert_eq!((error.kind(), server.lines().len()), (kind, 1), "{code}");
    }
    let server = Server::start(|_: &Asked| status(404)).await;
    assert!(source(&once, &server).referrers(&subject.digest).await.unwrap().is_empty());
    assert_eq!(server.lines().len(), 2, "the API, then the fallback tag");
}

#[tokio::test]
async fn lists_are_followed_from_page_to_page_and_end() {
    let node = Descriptor::of(MediaType::OCI_MANIFEST, b"x");
    let page = json!({"schemaVersion": 2, "manifests": [node]}).to_string();
    let server = Server::start(move |asked: &Asked| match asked.line.as_str() {
        "GET /v2/a/b/tags/list" => {
            answer(200, &[("link", "</v2/a/b/tags/list?last=b>; rel=\"next\"")], r#"{"tags":["a","b"]}"#)
        }
        "GET /v2/a/b/tags/list?last=b" => answer(200, &[], r#"{"tags":["c","not a tag"]}"#),
        "GET /v2/a/circle/tags/list" => {
            answer(200, &[("link", "</v2/a/circle/tags/list?last=b>; rel=\"next\"")], r#"{"tags":["a","b"]}"#)
        }
        "GET /v2/a/circle/tags/list?last=b" => {
            answer(200, &[("link", "</v2/a/circle/tags/list?last=b>; rel=\"next\"")], r#"{"tags":["c"]}"#)
        }
        line if line.contains("/referrers/") => {
            let next = line.split("page=").nth(1).map_or(1, |page| page.parse::<u32>().unwrap() + 1);
            let link = format!("<?page={next}>; rel=next");
            answer(200, if next < 4 { vec![("link", link.as_str())] } else { vec![] }.as_slice(), page.clone())
        }
        _ => status(404),
    })
    .await;
    let client = client();
    let registry = source(&client, &server);
    assert_eq!(registry.tags().await.unwrap(), [tag("a"), tag("b"), tag("c")]);
    assert_eq!(server.lines().len(), 2);
    let in_circle = Registry::new(&client, &server.repository("a/circle"), Role::Source).tags().await.unwrap_err();
    assert_eq!(in_circle.kind(), Kind::Invalid, "nothing says that it is whole");
    assert_eq!(server.lines().len(), 2);
    assert_eq!(registry.referrers(&Digest::sha256(b"y")).await.unwrap().len(), 4);
    assert_eq!(server.lines().len(), 4);

    let endless = Arc::new(AtomicU32::new(0));
    let server = Server::start(move |_: &Asked| {
        let link = format!("<?page={}>; rel=next", endless.fetch_add(1, Ordering::Relaxed));
        answer(200, &[("link", &link)], r#"{"manifests":[]}"#)
    })
    .await;
    let error = source(&client, &server).referrers(&Digest::sha256(b"y")).await.unwrap_err();
    assert_eq!((error.kind(), server.lines().len()), (Kind::Limit, 16));
}
