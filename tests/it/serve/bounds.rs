//! Limits on one client: time, connections, bytes; and the end of a server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::{Limits, ServedContent};

use crate::kit::asking::client;
use crate::kit::serve_bed::{PATIENCE, Program, Running};

/// A connection that sends `text` and then waits for the server's response, or its end.
fn connect(host: &str, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Reads to the connection's end on a thread of its own.
async fn rest(mut stream: TcpStream) -> String {
    let read = move || {
        let mut text = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// The head of one answer.
fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn begin(url: &str) -> String {
    let begun = client().post(format!("{url}/v2/app/blobs/uploads/")).send().await.unwrap();
    begun.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_or_silence_is_closed_while_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let head = Duration::from_millis(700);
    let server = Running::start(folder.path(), |options| options.limits.head = head).await;
    let begun = Instant::now();
    let slow: Vec<_> = ["", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: "]
        .into_iter()
        .map(|text| tokio::spawn(rest(connect(&server.host, text))))
        .collect();
    // One that keeps sending, a byte at a time.
    let mut drip = connect(&server.host, "GET /v2/ HTTP/1.1\r\n");
    let dripping = tokio::task::spawn_blocking(move || {
        while begun.elapsed() < PATIENCE && drip.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        begun.elapsed()
    });
    assert_eq!(client().get(format!("{}/healthz", server.url)).send().await.unwrap().status(), 200);
    for slow in slow {
        slow.await.unwrap();
    }
    assert!(dripping.await.unwrap() < PATIENCE, "each byte must not win it more time");
    assert!(begun.elapsed() >= head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_or_trickles_is_cut_and_the_upload_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |options| {
        options.limits.silence = Duration::from_millis(500);
        options.limits.window = Duration::from_millis(1500);
        options.limits.floor = 1000;
    })
    .await;
    let bytes = vec![7; 5000];
    for trickles in [false, true] {
        let place = begin(&server.url).await;
        let text = format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n");
        let mut stream = connect(&server.host, &text);
        stream.write_all(&bytes[..100]).unwrap();
        let mut other = stream.try_clone().unwrap();
        let answer = tokio::spawn(rest(stream));
        let dripping = tokio::task::spawn_blocking(move || {
            let mut sent = 100;
            while trickles && sent < 5000 && other.write_all(&[7]).is_ok() {
                sent += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            sent
        });
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("BLOB_UPLOAD_INVALID"), "{answer}");
        assert!(dripping.await.unwrap() < 1000);
        let status = client().get(format!("{}{place}", server.url)).send().await.unwrap();
        let arrived = status.headers()["range"].to_str().unwrap().to_owned();
        let from = arrived.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        let url = format!("{}{place}?digest={}", server.url, Digest::sha256(&bytes));
        let closed = client().put(url).body(bytes[from..].to_vec()).send().await.unwrap();
        assert_eq!(closed.status(), 201, "what arrived counts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_than_allowed_are_served_and_whoever_waits_gets_the_place_of_an_idle_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |options| options.limits.connections = 6).await;
    let place = begin(&server.url).await;
    // One address may have half of the connections: three in the middle of a request; `begin`'s own is closed to make room.
    let text = format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx");
    let busy: Vec<_> = (0..3).map(|_| connect(&server.host, &text)).collect();
    // The server must have read their heads: a connection that has sent nothing yet makes room for the next one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A fourth waits until one of them ends.
    let mut waiting = connect(&server.host, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    waiting.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(waiting.read(&mut [0; 100]).is_err(), "all places are taken");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(busy);
    assert!(head(&mut waiting).starts_with("HTTP/1.1 200"));

    // Three idle ones: they make room at once.
    let mut idle: Vec<_> =
        (0..2).map(|_| connect(&server.host, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
    idle.iter_mut().for_each(|stream| assert!(head(stream).starts_with("HTTP/1.1 200")));
    idle.push(waiting);
    let mut next = connect(&server.host, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let begun = Instant::now();
    assert!(tokio::task::spawn_blocking(move || head(&mut next)).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < Limits::default().head / 2, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_be_long_but_not_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), |_| {}).await;
    for (length, expected) in [(20_000, "HTTP/1.1 200"), (40_000, "HTTP/1.1 431"), (10 << 20, "HTTP/1.1 431")] {
        let host = server.host.clone();
        let told = tokio::task::spawn_blocking(move || {
            let mut stream = connect(&host, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n");
            let value = "x".repeat(length);
            // The server may close before all is sent.
            let _ = write!(stream, "X-Long: {value}\r\nConnection: close\r\n\r\n");
            head(&mut stream)
        });
        let told = told.await.unwrap();
        assert!(told.starts_with(expected) || (length > 1 << 20 && told.is_empty()), "{length}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_of_a_large_body_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let content = ServedContent::ReadOnlyDataDir(folder.path().to_owned());
    let server = Running::start(folder.path(), |options| options.content = content).await;
    // A body larger than all buffers on the way; the client reads only after sending it.
    let host = server.host.clone();
    let told = tokio::task::spawn_blocking(move || {
        let length = 16 << 20;
        let text =
            format!("PUT /v2/app/blobs/uploads/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = connect(&host, &text);
        let piece = vec![7; 1 << 20];
        let sent = (0..16).take_while(|_| stream.write_all(&piece).is_ok()).count();
        (sent, head(&mut stream))
    });
    let (sent, told) = told.await.unwrap();
    assert!(told.starts_with("HTTP/1.1 405"), "after {sent} MiB: {told:?}");
    // On some systems a client whose sending was broken off cannot read the response.
    assert_eq!(sent, 16, "its sending was not broken off");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_nobody_came_back_to_go_those_of_an_earlier_process_too() {
    let folder = tempfile::tempdir().unwrap();
    let uploads = folder.path().join("uploads");
    let names = || std::fs::read_dir(&uploads).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let age = |path: &std::path::Path| {
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
    };
    {
        let mut earlier = Running::start(folder.path(), |_| {}).await;
        begin(&earlier.url).await;
        earlier.tell();
        earlier.ended().await;
    }
    let left = names();
    age(&left[0]);
    let server =
        Running::start(folder.path(), |options| options.limits.upload_expiry = Duration::from_secs(3600)).await;
    let swept = async {
        while left[0].exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("what an earlier process left is found");
    drop(server);

    let server = Running::start(folder.path(), |options| options.limits.upload_expiry = Duration::from_secs(2)).await;
    let place = begin(&server.url).await;
    let path = uploads.join(place.rsplit('/').next().unwrap());
    // An upload in the middle of a body is not abandoned, however old the file looks.
    let text = format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx");
    let mut busy = connect(&server.host, &text);
    for _ in 0..4 {
        age(&path);
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(path.exists());
    }
    busy.write_all(b"x").unwrap();
    assert!(head(&mut busy).starts_with("HTTP/1.1 202"));
    age(&path);
    let swept = async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("an abandoned upload goes");
    let status = client().get(format!("{}{place}", server.url)).send().await.unwrap();
    assert_eq!(status.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_lets_an_upload_in_flight_end_and_takes_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Program::start(folder.path(), ["--grace", "50s"]);
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    let (place, bytes) = (begin(&server.url).await, vec![7; 300_000]);
    let digest = Digest::sha256(&bytes);
    let text = format!(
        "PUT {place}?digest={digest} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    let mut upload = connect(&host, &text);
    assert!(head(&mut upload).starts_with("HTTP/1.1 100"), "its body is being waited for");
    upload.write_all(&bytes[..100_000]).unwrap();
    // An idle connection, and one that has sent nothing yet: neither delays the shutdown.
    let mut kept = connect(&host, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head(&mut kept).starts_with("HTTP/1.1 200"));
    let silent = connect(&host, "");
    let begun = Instant::now();
    server.signal("TERM");
    let refused = async {
        while TcpStream::connect(&host).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("nobody is taken in any more");
    assert_eq!(rest(silent).await, "");
    upload.write_all(&bytes[100_000..]).unwrap();
    let answer = head(&mut upload);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    drop(upload);
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}: it need not use up its grace", begun.elapsed());
    let server = Program::start(folder.path(), ["--read-only"]);
    let found = client().get(format!("{}/v2/app/blobs/{digest}", server.url)).send().await.unwrap();
    assert!(found.bytes().await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_has_an_end_and_a_second_signal_is_none() {
    for second in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let server = Program::start(folder.path(), ["--grace", if second { "300s" } else { "1s" }]);
        let host = server.url.strip_prefix("http://").unwrap().to_owned();
        let place = begin(&server.url).await;
        let mut stuck = connect(
            &host,
            &format!("PATCH {place} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"),
        );
        // The server waits for the body.
        assert!(head(&mut stuck).starts_with("HTTP/1.1 100"));
        server.signal("TERM");
        // Repeatedly: a signal that coincides with the first does not count as a second one.
        let again = async {
            if !second {
                std::future::pending::<()>().await;
            }
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                server.signal("INT");
            }
        };
        let ended = tokio::select! {
            ended = server.ended() => ended,
            never = again => never,
        };
        assert_eq!(ended.code(), Some(0));
    }
}
