//! Uploads that break off: resumed where the registry can, begun anew where it cannot, never with other bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use autonomy_registry::error::{Error, Kind, Side};
use autonomy_registry::oci::{Descriptor, Name, Tag};
use autonomy_registry::retry::Retry;
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind as Asked, Testbed, What};
use autonomy_registry::spool::Spool;
use autonomy_registry::store::{Body, ByteStream, Put, Role, Root, Store, read_small};
use autonomy_registry::wire::{Client, ClientOptions};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use super::{MIB, content, layer, registry};
use crate::kit::wire_server::{Asked as Request, Server, answer, client, options, status};

/// A source of these bytes, or of others from the second open on, in pieces; counts opens.
#[derive(Debug)]
struct Source {
    bytes: Bytes,
    later: Bytes,
    opened: AtomicUsize,
}

impl Source {
    fn of(bytes: &[u8]) -> Arc<Self> {
        Self::changing(bytes, bytes)
    }

    fn changing(bytes: &[u8], later: &[u8]) -> Arc<Self> {
        let (bytes, later) = (Bytes::copy_from_slice(bytes), Bytes::copy_from_slice(later));
        Arc::new(Self { bytes, later, opened: AtomicUsize::new(0) })
    }
}

#[async_trait::async_trait]
impl Store for Source {
    fn label(&self) -> &str {
        "source"
    }
    async fn resolve(&self, _: &Name) -> autonomy_registry::Result<Descriptor> {
        Err(Error::new(Kind::Unsupported, "resolve"))
    }
    async fn fetch(&self, _: &Name) -> autonomy_registry::Result<Root> {
        Err(Error::new(Kind::Unsupported, "fetch"))
    }
    async fn contains(&self, _: &Descriptor) -> autonomy_registry::Result<bool> {
        Ok(true)
    }
    async fn open(&self, _: &Descriptor, from: u64) -> autonomy_registry::Result<ByteStream> {
        let is_first = self.opened.fetch_add(1, Ordering::Relaxed) == 0;
        let rest = if is_first { &self.bytes } else { &self.later }.slice(usize::try_from(from).unwrap()..);
        let pieces: Vec<_> = rest.chunks(60_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Box::pin(stream::iter(pieces)))
    }
    async fn put(&self, _: &Descriptor, _: &Body, _: &[Tag]) -> autonomy_registry::Result<Put> {
        Err(Error::new(Kind::Unsupported, "put"))
    }

    fn expect(&self, _: usize) {}
}

fn cut(nth: u32, after: usize) -> Fault {
    Fault { nth, ..Fault::next(Asked::UploadPut, What::CutRequest { after: after as u64 }) }
}

fn received(bed: &Testbed) -> u64 {
    bed.log().iter().map(|seen| seen.bytes_in).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_distribution_3_goes_on_where_it_broke() {
    let bytes = content(24 * MIB);
    let node = layer(&bytes);
    for cuts in [vec![5 * MIB + 7], vec![23 * MIB], vec![3 * MIB; 6], vec![24 * MIB - 1], vec![24 * MIB]] {
        let bed = Testbed::with(Profile::distribution_3()).await;
        for (nth, after) in (1..).zip(&cuts) {
            bed.fault(cut(nth, *after));
        }
        let client = client();
        let body = Body::stored(node.clone(), Source::of(&bytes)).retrying(options().retry);
        let sink = registry(&client, bed.host(), Role::Sink);
        assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(node.size));
        assert_eq!(bed.count(Asked::UploadPost), 1, "one session for all of it");
        assert_eq!(bed.count(Asked::UploadGet), cuts.len());
        assert_eq!(bed.count(Asked::UploadPut), cuts.len() + 1);
        assert_eq!(bed.count(Asked::UploadDelete), 0);
        assert_eq!(received(&bed), node.size, "no byte arrived twice");
        let again = body.meter().fetched() - node.size;
        // Up to one checkpoint, and the bytes in flight.
        assert!(again <= cuts.len() as u64 * (9 << 20), "{again} bytes were read again");
        assert!(read_small(&sink, &node, node.size).await.unwrap() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_broken_session_is_lost_a_new_one_begins_and_that_is_found_out_once() {
    let bytes = content(6 * MIB);
    for behaviour in [Profile::distribution_2(), Profile::zot()] {
        let bed = Testbed::with(behaviour).await;
        let client = client();
        let sink = registry(&client, bed.host(), Role::Sink);
        for number in 0..3 {
            let bytes = &bytes[number..];
            let node = layer(bytes);
            bed.heal();
            bed.fault(cut(1, 2 * MIB));
            let body = Body::stored(node.clone(), Source::of(bytes)).retrying(options().retry);
            assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(node.size));
            assert!(read_small(&sink, &node, node.size).await.unwrap() == bytes);
        }
        assert_eq!((bed.count(Asked::UploadPost), bed.count(Asked::UploadPut)), (6, 6));
        assert_eq!(bed.count(Asked::UploadGet), 1, "the second and third are not asked about");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_answer_was_lost_is_not_sent_again() {
    let bytes = content(MIB);
    let node = layer(&bytes);
    for behaviour in [Profile::distribution_3(), Profile::distribution_2(), Profile::zot()] {
        let bed = Testbed::with(behaviour).await;
        bed.fault(Fault::next(Asked::UploadPut, What::ResetAfter));
        let body = Body::stored(node.clone(), Source::of(&bytes)).retrying(options().retry);
        registry(&client(), bed.host(), Role::Sink).put(&node, &body, &[]).await.unwrap();
        assert_eq!(received(&bed), node.size);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_gives_other_bytes_after_the_break_is_found_out_here() {
    // More than can be in flight when the connection breaks: the first pass must not reach its own end.
    let bytes = content(24 * MIB);
    let node = layer(&bytes);
    let with_a_flip_at = |at: usize| {
        let mut other = bytes.clone();
        other[at] ^= 1;
        other
    };
    let (other, early) = (with_a_flip_at(3 * MIB - 9), with_a_flip_at(100));
    // First case: the bytes before the break are wrong, and reading them again gives right ones. Second: the other way
    // round. Third: the wrong byte is not read again, and only the digest of the received bytes shows it.
    for (first, later) in [(&other, &bytes), (&bytes, &other), (&early, &bytes)] {
        let bed = Testbed::with(Profile::distribution_3()).await;
        bed.fault(cut(1, 3 * MIB));
        let client = client();
        let body = Body::stored(node.clone(), Source::changing(first, later)).retrying(options().retry);
        let sink = registry(&client, bed.host(), Role::Sink);
        let error = sink.put(&node, &body, &[]).await.unwrap_err();
        assert_eq!((error.kind(), error.side()), (Kind::Corrupt, Some(Side::Source)), "{}", error.chain());
        assert_eq!(bed.count(Asked::UploadGet), 1, "it was gone on with");
        assert!(received(&bed) < node.size, "all of it reached the sink");
        assert!(!sink.contains(&node).await.unwrap());
        client.settle(std::time::Duration::from_secs(5)).await;
        assert_eq!(bed.count(Asked::UploadDelete), 1, "the session is cancelled");
    }
}

/// A registry that answers PUTs with these statuses in turn, repeating the last, and whose sessions report `range`.
async fn telling(range: &'static str, puts: &'static [u16]) -> Server {
    answering(range, move |number| status(puts[number.min(puts.len() - 1)])).await
}

/// The same with answers to PUTs by number, from 0.
async fn answering(range: &'static str, put_at: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> Server {
    let (session, put) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let counters = Arc::new((session, put));
    Server::start(move |asked: &Request| {
        let (session, put) = &*counters;
        match asked.line.split(' ').next() {
            Some("POST") => {
                let to = format!("/session/{}", session.fetch_add(1, Ordering::Relaxed));
                answer(202, &[("location", &to)], "")
            }
            Some("PUT") => put_at(put.fetch_add(1, Ordering::Relaxed)),
            Some("GET") => answer(204, &[("range", range), ("location", "/session/told")], ""),
            Some("DELETE") => status(204),
            _ => status(404),
        }
    })
    .await
}

/// Method, path and `Content-Range` of the requests that upload 200,000 bytes to `server`.
async fn brought(server: &Server) -> Vec<String> {
    tried(server, &client()).await.unwrap()
}

/// The same, or the error of the upload. Bytes without a `Content-Range` are the whole blob.
async fn tried(server: &Server, client: &Client) -> Result<Vec<String>, (Error, Vec<String>)> {
    let bytes = content(200_000);
    let node = layer(&bytes);
    let body = Body::bytes(node.clone(), bytes.clone());
    let put = registry(client, &server.host, Role::Sink).put(&node, &body, &[]).await;
    client.settle(std::time::Duration::from_secs(5)).await;
    let asked = server.asked();
    for asked in asked.iter().filter(|asked| asked.header("content-range").is_none() && !asked.body.is_empty()) {
        assert!(asked.body == bytes, "{} brings {} bytes", asked.line, asked.body.len());
    }
    let told = |asked: &Request| {
        let line = asked.line.split('?').next().unwrap_or_default();
        let range = asked.header("content-range").map(|range| format!(" {range}")).unwrap_or_default();
        format!("{line}{range}").replace("/v2/a/b/blobs/uploads/", "uploads")
    };
    let mut lines: Vec<_> = asked.iter().map(told).collect();
    // Cancelling runs in the background.
    lines.sort_by_key(|line| line.starts_with("DELETE"));
    match put {
        Ok(_) => Ok(lines),
        Err(error) => Err((error, lines)),
    }
}

fn count(lines: &[String], method: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(method)).count()
}

#[tokio::test]
async fn the_rest_goes_where_the_status_says_with_its_place_and_length() {
    let server = telling("0-99999", &[503, 201]).await;
    let lines = brought(&server).await;
    assert_eq!(lines, ["POST uploads", "PUT /session/0", "GET /session/0", "PUT /session/told 100000-199999"]);

    let server = telling("0-199999", &[503, 201]).await;
    let lines = brought(&server).await;
    assert_eq!(lines[3..], ["PUT /session/told"], "all of it is there: only the end is missing");
}

#[tokio::test]
async fn a_session_that_was_still_taking_in_is_asked_again() {
    let server = telling("0-99999", &[503, 416, 201]).await;
    let lines = brought(&server).await;
    let put = "PUT /session/told 100000-199999";
    assert_eq!(lines[2..], ["GET /session/0", put, "GET /session/told", put]);
}

#[tokio::test]
async fn a_standing_that_cannot_be_is_not_believed() {
    for range in ["0-200000", "0-18446744073709551614", "5-99999", "bytes 0-99999", ""] {
        let server = telling(range, &[503, 201]).await;
        let lines = brought(&server).await;
        assert_eq!(lines[2..5], ["GET /session/0", "POST uploads", "PUT /session/1"], "{range:?}");
    }
    // Nothing has arrived, so there is nothing to resume.
    let lines = brought(&telling("0-0", &[503, 201]).await).await;
    assert_eq!(lines[2..5], ["GET /session/0", "POST uploads", "PUT /session/1"]);
}

#[tokio::test]
async fn a_registry_that_cannot_hold_what_it_said_is_sent_everything_and_not_asked_again() {
    for refusal in [&[503, 400, 503, 201], &[503, 404, 503, 201]] as [&'static [u16]; 2] {
        let server = telling("0-99999", refusal).await;
        let lines = brought(&server).await;
        let puts: Vec<_> = lines.iter().filter(|line| line.starts_with("PUT")).collect();
        assert_eq!(puts, ["PUT /session/0", "PUT /session/told 100000-199999", "PUT /session/1", "PUT /session/2"]);
        assert_eq!(lines.iter().filter(|line| line.starts_with("GET")).count(), 1, "{lines:?}");
    }
}

#[tokio::test]
async fn a_registry_that_stored_something_else_in_the_end_is_sent_everything() {
    let other = layer(b"other").digest.to_string();
    let server = answering("0-99999", move |number| match number {
        0 => status(503),
        1 => answer(201, &[("docker-content-digest", &other)], ""),
        _ => status(201),
    })
    .await;
    let lines = brought(&server).await;
    assert_eq!(lines[3..6], ["PUT /session/told 100000-199999", "POST uploads", "PUT /session/1"], "{lines:?}");
}

#[tokio::test]
async fn a_session_that_is_not_known_is_followed_by_a_new_one_that_is_sent_everything() {
    let lines = brought(&telling("0-99999", &[404, 201]).await).await;
    let anew = ["POST uploads", "PUT /session/0", "POST uploads", "PUT /session/1", "DELETE /session/0"];
    assert_eq!(lines, anew, "what is not known is not asked how far it came");
    let lines = brought(&telling("0-99999", &[404, 404, 201]).await).await;
    assert_eq!([count(&lines, "POST"), count(&lines, "PUT"), lines.len()], [3, 3, 8], "{lines:?}");
}

#[tokio::test]
async fn a_registry_that_knows_none_of_its_sessions_is_given_up() {
    let never = Client::new(ClientOptions { retry: Retry::never(), ..options() }).unwrap();
    for (client, sessions) in [(client(), 3), (never, 1)] {
        let server = telling("0-99999", &[404]).await;
        let (error, lines) = tried(&server, &client).await.unwrap_err();
        assert_eq!((error.kind(), error.side()), (Kind::NotFound, None), "{}", error.chain());
        assert_eq!(
            ["POST", "PUT", "DELETE", "GET"].map(|method| count(&lines, method)),
            [sessions, sessions, sessions, 0]
        );
    }
}

#[tokio::test]
async fn a_404_before_the_session_or_at_the_source_is_not_retried() {
    let nothing = Server::start(|_: &Request| status(404)).await;
    let (error, lines) = tried(&nothing, &client()).await.unwrap_err();
    assert_eq!((error.kind(), lines.len()), (Kind::NotFound, 3), "a mount, a question and a session: {lines:?}");

    let server = telling("0-99999", &[201]).await;
    let client = client();
    let node = layer(b"layer");
    let body = Body::stored(node.clone(), Arc::new(registry(&client, &nothing.host, Role::Source)));
    let error = registry(&client, &server.host, Role::Sink).put(&node, &body, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.side()), (Kind::NotFound, Some(Side::Source)));
    assert_eq!((nothing.lines().len(), count(&server.lines(), "POST")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_after_one_that_was_lost_is_fed_from_the_spool() {
    let (bytes, folder) = (content(6 * MIB), tempfile::tempdir().unwrap());
    let node = layer(&bytes);
    let bed = Testbed::with(Profile::distribution_2()).await;
    bed.fault(Fault::next(Asked::UploadPost, What::FlipHeaderBit("location")));
    let spool = Spool::open(folder.path(), 1 << 40).await.unwrap();
    let source = Source::of(&bytes);
    let body = Body::stored(node.clone(), Arc::clone(&source) as _).retrying(options().retry).spooled(&spool);
    let sink = registry(&client(), bed.host(), Role::Sink);
    assert_eq!(sink.put(&node, &body, &[]).await.unwrap(), Put::Sent(node.size));
    assert_eq!((bed.count(Asked::UploadPost), bed.count(Asked::UploadPut)), (2, 2));
    assert!(read_small(&sink, &node, node.size).await.unwrap() == bytes);
    assert_eq!(source.opened.load(Ordering::Relaxed), 1, "the source has given everything once");
}
