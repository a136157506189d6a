//! Downloads that break off, stall, or trickle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autonomy_registry::error::Kind;
use autonomy_registry::serve::testkit::{Fault, Kind as Asked, Testbed, What};
use autonomy_registry::store::{Body, Memory, Put, Role, Store};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::{MIB, content, layer, registry};
use crate::kit::wire_server::{Asked as Request, Server, answer, client, options};

/// Bytes that sockets and buffers on this machine hold between two ends.
const ON_THE_WAY: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_a_download_only_what_was_on_its_way_is_sent_again() {
    let bytes = content(24 * MIB);
    let node = layer(&bytes);
    for cuts in [vec![0], vec![1], vec![10 * MIB], vec![24 * MIB - 1], vec![3 * MIB; 7], vec![100_000; 40]] {
        let bed = Testbed::start().await;
        bed.layout("a/b").put(&node, &Body::bytes(node.clone(), bytes.clone()), &[]).await.unwrap();
        for (number, after) in (1..).zip(&cuts) {
            let cut = Fault::next(Asked::BlobGet, What::CutBody { after: *after as u64 });
            bed.fault(Fault { nth: number, ..cut });
        }
        let source = registry(&client(), bed.host(), Role::Source);
        let body = Body::stored(node.clone(), Arc::new(source.clone())).retrying(options().retry);
        assert_eq!(Memory::default().put(&node, &body, &[]).await.unwrap(), Put::Sent(node.size));
        let log = bed.log();
        assert_eq!(log.len(), cuts.len() + 1);
        assert_eq!(body.meter().fetched(), node.size, "no byte was taken twice");
        let sent: u64 = log.iter().map(|seen| seen.bytes_out).sum();
        let again = sent - node.size;
        assert!(again <= ON_THE_WAY * cuts.len() as u64, "{again} bytes were sent again after {} cuts", cuts.len());
        assert!(log[1..].iter().all(|seen| seen.range.is_some() || cuts[0] == 0), "{log:?}");
    }
}

/// A server that gives `first` as its first answer, and the requested range for every other request.
async fn after(first: impl Fn() -> Response + Clone + Send + Sync + 'static, bytes: &[u8]) -> Server {
    let (bytes, asked) = (Bytes::copy_from_slice(bytes), Arc::new(AtomicUsize::new(0)));
    Server::start(
        move |request: &Request| {
            if asked.fetch_add(1, Ordering::Relaxed) == 0 { first() } else { part(request, &bytes) }
        },
    )
    .await
}

fn offset(request: &Request) -> Option<usize> {
    request.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn part(request: &Request, bytes: &Bytes) -> Response {
    paced(request, bytes, bytes.len(), Duration::ZERO)
}

/// The range that `request` names, one piece at a time with a pause before each.
fn paced(request: &Request, bytes: &Bytes, piece: usize, pause: Duration) -> Response {
    let from = offset(request);
    let rest = bytes.slice(from.unwrap_or_default()..);
    let range = format!("bytes {}-{}/{}", from.unwrap_or_default(), bytes.len() - 1, bytes.len());
    let length = rest.len().to_string();
    let pieces: Vec<Bytes> = rest.chunks(piece).map(Bytes::copy_from_slice).collect();
    let pieces = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(piece)
    });
    let headers = [("content-length", length.as_str()), ("content-range", range.as_str())];
    let headers = if from.is_some() { &headers[..] } else { &headers[..1] };
    answer(if from.is_some() { 206 } else { 200 }, headers, axum::body::Body::from_stream(pieces))
}

/// Reads `bytes` from `server` and returns the requested offsets.
async fn fetched(server: &Server, bytes: &[u8]) -> Vec<Option<usize>> {
    let node = layer(bytes);
    let source = registry(&client(), &server.host, Role::Source);
    let body = Body::stored(node.clone(), Arc::new(source));
    let all: Vec<Bytes> = body.open().try_collect().await.unwrap();
    assert!(all.concat() == bytes);
    assert_eq!(body.meter().fetched(), node.size, "no byte was taken twice");
    server.asked().iter().map(offset).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_or_trickles_is_opened_again_where_it_is() {
    let bytes = content(2 * MIB);
    for pause in [Duration::from_secs(86_400), Duration::from_secs(5)] {
        let beginning = Bytes::copy_from_slice(&bytes[..MIB]);
        let trickle = Bytes::copy_from_slice(&bytes[MIB..]);
        let first = move || {
            let (beginning, trickle) = (beginning.clone(), trickle.clone());
            let rest = stream::iter(0..trickle.len()).then(move |at| {
                let byte = trickle.slice(at..=at);
                async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, std::io::Error>(byte)
                }
            });
            let body = stream::iter([Ok(beginning)]).chain(rest);
            answer(200, &[("content-length", "2097152")], axum::body::Body::from_stream(body))
        };
        let begun = Instant::now();
        let asked = fetched(&after(first, &bytes).await, &bytes).await;
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked[1].is_some_and(|from| (MIB..MIB + 20).contains(&from)), "{asked:?}");
        assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_link_of_sixteen_kilobits_nothing_is_gained_by_opening_again_and_it_is_not_done() {
    let bytes = content(300_000);
    let slow = Bytes::copy_from_slice(&bytes);
    for (rate, connections) in [(2048, 1), (512, 2), (100, 2)] {
        let slow = slow.clone();
        let server = Server::start(move |request: &Request| paced(request, &slow, rate, Duration::from_secs(1))).await;
        let asked = fetched(&server, &bytes).await;
        assert_eq!(asked.len(), connections, "at {rate} bytes a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_knows_no_ranges_is_read_from_the_beginning_however_long_that_takes() {
    let bytes = content(2_000_000);
    let whole = Bytes::copy_from_slice(&bytes);
    let asked = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |request: &Request| {
        let plain = Request { headers: axum::http::HeaderMap::new(), ..request.clone() };
        let all = paced(&plain, &whole, 10_000, Duration::from_secs(1));
        if asked.fetch_add(1, Ordering::Relaxed) > 0 {
            return all;
        }
        let some = all
            .into_body()
            .into_data_stream()
            .take(150)
            .chain(stream::once(async { Err(axum::Error::new(std::io::Error::other("cut"))) }));
        answer(200, &[("content-length", "2000000")], axum::body::Body::from_stream(some))
    })
    .await;
    // Skipping the known bytes takes two and a half minutes: longer than the allowed silence.
    let asked = fetched(&server, &bytes).await;
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[1].is_some_and(|from| from > 1_400_000), "{asked:?}");
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_refused() {
    let bytes = content(1000);
    let node = layer(&bytes);
    let whole = Bytes::copy_from_slice(&bytes);
    let server =
        Server::start(move |_: &Request| answer(206, &[("content-range", "bytes 0-999/1000")], whole.clone())).await;
    let error = registry(&client(), &server.host, Role::Source).open(&node, 0).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid, "{}", error.chain());
}
