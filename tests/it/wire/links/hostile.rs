//! Costly answers: heads without an end, encodings not requested, circular redirects.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autonomy_registry::copy::{AttachmentTags, KnownTags};
use autonomy_registry::error::Kind;
use autonomy_registry::store::{Body, Listing, Role, Store, read_small};
use bytes::Bytes;

use super::{MIB, content, layer, registry};
use crate::kit::wire_server::{Asked, Server, answer, client};

/// A server that sends the `pieces` on every connection until the client hangs up; counts connections and bytes.
fn raw<I: Iterator<Item = Bytes> + 'static>(pieces: fn() -> I) -> (String, Arc<AtomicU64>, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (connections, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&connections), Arc::clone(&sent));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sent) = (stream.unwrap(), Arc::clone(&counts.1));
            let mut start = [0];
            if stream.peek(&mut start).is_ok() && start[0] == 0x16 {
                // A TLS hello, not a request.
                let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
                continue;
            }
            counts.0.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                for piece in pieces() {
                    if stream.write_all(&piece).is_err() {
                        return;
                    }
                    sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                // Held open: the client must end this.
                let _ = stream.read(&mut [0; 4096]);
            });
        }
    });
    (host, connections, sent)
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n";

fn with_head(line: Vec<u8>, times: usize) -> impl Iterator<Item = Bytes> {
    let line = Bytes::from(line);
    std::iter::once(Bytes::from_static(HEAD)).chain(std::iter::repeat_n(line, times))
}

#[tokio::test]
async fn a_head_without_an_end_is_not_read() {
    let node = layer(b"layer");
    let headers = || with_head(format!("x-padding: {}\r\n", "x".repeat(8000)).into_bytes(), 8400);
    let one_header = || with_head("x".repeat(MIB).into_bytes(), 64);
    let many = || with_head(b"a: b\r\n".repeat(1000), 11_000);
    for (host, connections, sent) in [raw(headers), raw(one_header), raw(many)] {
        let error = registry(&client(), &host, Role::Source).contains(&node).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Limit, "{}", error.chain());
        assert_eq!(connections.load(Ordering::Relaxed), 1, "and not asked for again");
        // The client reads some 400 KiB; the sockets of this machine hold the rest.
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 16 << 20, "{sent} of 64 MiB were taken");
    }
}

#[tokio::test]
async fn a_refusal_past_the_end_is_not_read_however_long_it_is() {
    let refusal = || {
        let head = b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 1073741824\r\n\r\n";
        std::iter::once(Bytes::from_static(head)).chain(std::iter::repeat_n(Bytes::from(vec![b'x'; MIB]), 1024))
    };
    let (host, connections, sent) = raw(refusal);
    let node = layer(&content(1000));
    let error = registry(&client(), &host, Role::Source).open(&node, 500).await.err().unwrap();
    assert_eq!((error.kind(), connections.load(Ordering::Relaxed)), (Kind::Corrupt, 1));
    assert!(sent.load(Ordering::Relaxed) < 16 << 20);
}

#[tokio::test]
async fn nothing_is_unpacked_that_nobody_asked_to_be_packed() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        packed.write_all(&vec![0; MIB]).unwrap();
    }
    let packed = packed.finish().unwrap();
    let node = layer(&packed);
    let bomb = Bytes::from(packed.clone());
    let server = Server::start(move |_: &Asked| answer(200, &[("content-encoding", "gzip")], bomb.clone())).await;
    let source = registry(&client(), &server.host, Role::Source);
    // Object stores send this header for layers that were compressed before the push: the digest is of those bytes.
    assert!(read_small(&source, &node, 1 << 20).await.unwrap() == packed);
    assert_eq!(source.tally().bytes_in, packed.len() as u64);
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.header("accept-encoding").is_none()), "{asked:?}");

    let error = read_small(&source, &layer(&vec![0; MIB]), 1 << 21).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{}", error.chain());
    assert!(source.tally().bytes_in <= 4 * packed.len() as u64, "{:?}", source.tally());
}

#[tokio::test]
async fn redirects_in_a_circle_end_with_and_without_a_body() {
    let bytes = content(100_000);
    let node = layer(&bytes);
    let server = Server::start(|asked: &Asked| match asked.line.split(' ').next() {
        Some("POST") => answer(202, &[("location", "/circle/0")], ""),
        Some("DELETE") => answer(204, &[], ""),
        _ => {
            let to = if asked.line.contains("/circle/0") { "/circle/1" } else { "/circle/0" };
            answer(307, &[("location", to)], "")
        }
    })
    .await;
    let client = client();
    let registry = registry(&client, &server.host, Role::Sink);
    assert_eq!(registry.contains(&node).await.unwrap_err().kind(), Kind::Limit);
    assert_eq!(server.lines().len(), 6);
    assert_eq!(registry.open(&node, 0).await.err().unwrap().kind(), Kind::Limit);
    assert_eq!(server.lines().len(), 6);
    let error = registry.put(&node, &Body::bytes(node.clone(), bytes), &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    client.settle(std::time::Duration::from_secs(5)).await;
    let puts = server.lines().iter().filter(|line| line.starts_with("PUT")).count();
    assert_eq!(puts, 4, "a body is sent four times at most");
}

#[tokio::test]
async fn a_long_list_of_tags_is_left_by_whoever_can_ask_for_them_by_name() {
    let pages = Arc::new(AtomicU64::new(0));
    let endless = Server::start(move |_: &Asked| {
        let link = format!("<?page={}>; rel=next", pages.fetch_add(1, Ordering::Relaxed));
        answer(200, &[("link", &link)], r#"{"tags":["v1"]}"#)
    })
    .await;
    let long = Server::start(|_: &Asked| {
        let tags = vec![format!("sha256-{}.sig", "a".repeat(64)); 10_000];
        answer(200, &[], serde_json::json!({ "tags": tags }).to_string())
    })
    .await;
    let attachment = "sha256-00.sig".parse().unwrap();
    for (server, requests, bytes) in [(endless, 8, 1 << 10), (long, 1, 1 << 20)] {
        let source = registry(&client(), &server.host, Role::Source);
        let tags = AttachmentTags::list(&source, KnownTags::Nothing).await;
        assert!(tags.may_hold(&attachment), "every tag is asked for by itself");
        assert_eq!(server.lines().len(), requests);
        assert!(source.tally().bytes_in < bytes, "{:?}", source.tally());
        assert_eq!(source.tags().await.is_ok(), requests == 1, "whoever wants them all gets them all");
    }
}
