//! Which failures are waited for by time, which are tried a few times, and which end at once; for every kind of request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use autonomy_registry::error::Kind;
use autonomy_registry::oci::{Descriptor, MediaType, Name};
use autonomy_registry::retry::{Retry, is_outage};
use autonomy_registry::serve::testkit::{Fault, Kind as Asks, Testbed, What};
use autonomy_registry::store::{Body, Listing as _, Registry, Role, Store as _, put_bytes, read_small};
use autonomy_registry::wire::{Client, ClientOptions};
use testkit::images::shape;

use super::{content, layer, registry};
use crate::kit::wire_server::{Asked, Server, answer, ask, status};

/// More failures in a row than what is tried only a few times survives.
const MANY: u32 = 7;

/// A client with short pauses, so that many tries fit into a short time.
fn client() -> Client {
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_millis(4));
    let retry = Retry { first_pause: shortest, longest_pause: longest, ..Retry::default() };
    Client::new(ClientOptions { allow_plain_http: true, retry, ..ClientOptions::default() }).unwrap()
}

/// The faults that are an outage.
fn outages() -> [What; 4] {
    [What::ResetBefore, What::Status(502), What::Status(503), What::Status(504)]
}

/// Every kind of request that a seed sends, with the image `app:v1` to ask for.
const REQUESTS: [Asks; 8] = [
    Asks::ManifestHead,
    Asks::ManifestGet,
    Asks::BlobGet,
    Asks::Referrers,
    Asks::Tags,
    Asks::UploadPost,
    Asks::UploadPut,
    Asks::ManifestPut,
];

/// Sends one request of each kind, and what it needs. Each call needs another `number`, so that blob and tag are new.
async fn use_all(
    sink: &Registry,
    root: &Descriptor,
    blob: &Descriptor,
    number: &AtomicU32,
) -> autonomy_registry::Result<()> {
    let tag = Name::Tag("v1".parse().unwrap());
    sink.resolve(&tag).await?;
    sink.fetch(&tag).await?;
    read_small(sink, blob, blob.size).await?;
    sink.referrers(&root.digest).await?;
    sink.tags().await?;
    let number = number.fetch_add(1, Ordering::Relaxed);
    let bytes = content(3000 + number as usize);
    sink.put(&layer(&bytes), &Body::bytes(layer(&bytes), bytes), &[]).await?;
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    put_bytes(
        sink,
        &Descriptor::of(MediaType::OCI_INDEX, index),
        &index[..],
        &[format!("v1.{number}").parse().unwrap()],
    )
    .await?;
    Ok(())
}

/// A registry with an image, its root and a layer of it.
async fn filled() -> (Testbed, Descriptor, Descriptor) {
    let bed = Testbed::start().await;
    let image = shape::single_manifest(1, &[1000]);
    image.put(&bed.layout("a/b"), &["v1".parse().unwrap()]).await;
    let blob = image.nodes.iter().find(|node| !node.is_manifest()).unwrap().clone();
    (bed, image.root.clone(), blob)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_waits_for_an_outage_and_not_for_a_number_of_tries() {
    // Side by side: most of the time passes in pauses.
    let each = outages().into_iter().map(|what| async move {
        let ((bed, root, blob), number) = (filled().await, AtomicU32::new(0));
        // The body that breaks the connection is not read for a HEAD.
        for on in REQUESTS.into_iter().filter(|on| *on != Asks::ManifestHead || !matches!(what, What::ResetBefore)) {
            bed.heal();
            bed.clear_log();
            bed.fault(Fault::next(on, what.clone()).times(MANY));
            let sink = registry(&client(), bed.host(), Role::Sink);
            let done = use_all(&sink, &root, &blob, &number).await;
            assert!(done.is_ok(), "{on:?} {what:?}: {}", done.unwrap_err().chain());
            assert!(bed.count(on) > MANY as usize, "{on:?} {what:?}: {} requests", bed.count(on));
        }
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_the_registry_answers_with_is_tried_five_times() {
    let ((bed, root, blob), number) = (filled().await, AtomicU32::new(0));
    for status in [408, 500] {
        for on in REQUESTS {
            bed.heal();
            bed.clear_log();
            bed.fault(Fault::next(on, What::Status(status)).times(4));
            let sink = registry(&client(), bed.host(), Role::Sink);
            assert!(use_all(&sink, &root, &blob, &number).await.is_ok(), "{on:?} {status}");

            bed.heal();
            bed.clear_log();
            bed.fault(Fault::always(on, What::Status(status)));
            let error = use_all(&sink, &root, &blob, &number).await.unwrap_err();
            assert_eq!((error.kind(), is_outage(&error)), (Kind::Unavailable, false), "{on:?} {status}");
            assert_eq!(bed.count(on), 5, "{on:?} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_size_or_for_lack_of_room_is_not_asked_again() {
    let ((bed, root, blob), number) = (filled().await, AtomicU32::new(0));
    for status in [413, 507] {
        for on in [Asks::UploadPost, Asks::UploadPut, Asks::ManifestPut] {
            bed.heal();
            bed.clear_log();
            bed.fault(Fault::always(on, What::Status(status)));
            let sink = registry(&client(), bed.host(), Role::Sink);
            assert_eq!(use_all(&sink, &root, &blob, &number).await.unwrap_err().kind(), Kind::Limit, "{on:?} {status}");
            assert_eq!(bed.count(on), 1, "{on:?} {status}");
        }
    }
}

/// A registry whose token service fails this many times, in turn with these statuses.
async fn with_tokens(failures: u32, statuses: &'static [u16]) -> (Server, Arc<AtomicU32>) {
    let asked_for = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked_for);
    let server = Server::start(move |asked: &Asked| {
        if asked.is("GET /token") {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            if number < failures {
                return status(statuses[number as usize % statuses.len()]);
            }
            return answer(200, &[], r#"{"token":"t"}"#);
        }
        if asked.header("authorization") == Some("Bearer t") {
            return answer(200, &[], "ok");
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\",service=\"s\""))], "{}")
    })
    .await;
    (server, asked_for)
}

async fn ask_with_retries(client: &Client, host: &str) -> autonomy_registry::Result<String> {
    client.host(host, "a").retrying(Retry::transient, || ask(client, host)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_that_is_away_is_waited_for_too() {
    let (server, asked_for) = with_tokens(MANY, &[502, 503, 504]).await;
    assert_eq!(ask_with_retries(&client(), &server.host).await.unwrap(), "ok");
    assert_eq!(asked_for.load(Ordering::SeqCst), MANY + 1);
    let (server, asked_for) = with_tokens(MANY, &[500]).await;
    let error = ask_with_retries(&client(), &server.host).await.unwrap_err();
    assert_eq!((error.kind(), asked_for.load(Ordering::SeqCst)), (Kind::Unavailable, 5));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_says_nothing_is_noticed_after_half_a_minute() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let begun = tokio::time::Instant::now();
    let taken = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            all.push(connection);
        }
    });
    let retry = Retry { first_contact: Duration::ZERO, outage: Duration::ZERO, ..Retry::default() };
    let options = ClientOptions { allow_plain_http: true, retry, ..ClientOptions::default() };
    let error = ask(&Client::new(options).unwrap(), &host).await.unwrap_err();
    assert!(is_outage(&error), "{}", error.chain());
    // The TLS hello first, then the request in plain HTTP.
    assert!(begun.elapsed() <= Duration::from_secs(3 + 30 + 1), "{:?}", begun.elapsed());
    taken.abort();
}
